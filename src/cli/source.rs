//! Where a command's features come from: a file of them, or an encoder and pictures.

use crate::output::Output;
use byol_model::dataset::{Dataset, Split};
use byol_model::picture::InputContract;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::feature_file::FeatureFile;
use byol_serve::features::Features;
use byol_serve::pipeline::{PipelineOptions, extract_dataset};
use byol_serve::provider::Provider;
use byol_serve::runtime::{Runtime, RuntimeOptions};
use clap::{Args, ValueEnum};
use ndarray::Array2;
use std::error::Error;
use std::path::{Path, PathBuf};

/// The word that stands for raw pixels in place of an encoder: the baseline that an encoder should beat.
pub const PIXELS: &str = "pixels";

#[derive(Clone, Copy, ValueEnum)]
pub enum Part {
    Train,
    Test,
}

impl From<Part> for Split {
    fn from(part: Part) -> Self {
        match part {
            Part::Train => Split::Train,
            Part::Test => Split::Test,
        }
    }
}

/// Flags on how an encoder is run.
#[derive(Args, Clone, Debug, Default, PartialEq)]
#[command(next_help_heading = "Running the encoder")]
pub struct RuntimeArgs {
    /// Threads; all that this process may use by default.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
    /// ONNX Runtime library to load (also: BYOL_ONNXRUNTIME).
    #[arg(long, value_name = "FILE")]
    pub onnxruntime: Option<PathBuf>,
    /// What computes: cpu, cuda, tensorrt, coreml, directml, openvino or xnnpack. One that the library lacks is an error.
    #[arg(long, value_name = "NAME", default_value = "cpu", hide_default_value = true)]
    pub provider: Provider,
    /// Pictures at a time; chosen by default.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub batch: usize,
    /// Fail at the first picture that cannot be read instead of leaving it out.
    #[arg(long)]
    pub strict: bool,
}

impl RuntimeArgs {
    /// Opens an encoder file.
    pub fn open(&self, file: &Path) -> byol_serve::Result<Encoder> {
        let runtime = Runtime::open(&RuntimeOptions { library: self.onnxruntime.clone(), threads: self.threads })?;
        Encoder::open(&runtime, file, &EncoderOptions { bulk: true, provider: self.provider, ..Default::default() })
    }

    /// Features of a data set by `encoder`, an ONNX file or the word `pixels`; says what was left out.
    pub fn features(&self, encoder: &Path, data: &Dataset, output: &Output) -> Result<Features, Box<dyn Error>> {
        if encoder.as_os_str() == PIXELS {
            return pixels(data);
        }
        let encoder = self.open(encoder)?;
        let bar = output.progress(data.len() as u64, "pictures");
        let options = PipelineOptions { batch: self.batch, strict: self.strict };
        let mut progress = |done: usize, _: usize| bar.set_position(done as u64);
        let (features, bad) = extract_dataset(&encoder, data, &options, &Cancel::new(), Some(&mut progress))?;
        bar.finish_and_clear();
        for item in bad.iter().take(10) {
            output.say(&format!("left out {}: {}", item.name, item.error));
        }
        if bad.len() > 10 {
            output.say(&format!("left out {} more", bad.len() - 10));
        }
        Ok(features)
    }
}

/// Features for judging: training rows, and test rows.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Data")]
pub struct PairArgs {
    /// Encoder (an ONNX file), or the word `pixels` for raw pixels as the baseline.
    #[arg(required_unless_present = "features")]
    pub encoder: Option<PathBuf>,
    /// Labelled pictures: class folders, or IDX files; with a train and a test part.
    #[arg(long, value_name = "PATH", required_unless_present = "features")]
    pub data: Option<PathBuf>,
    /// Test pictures, where --data has no test part.
    #[arg(long, value_name = "PATH")]
    pub test_data: Option<PathBuf>,
    /// Training features (.safetensors or .npy) instead of an encoder and pictures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["encoder", "data"], requires = "test_features")]
    pub features: Option<PathBuf>,
    /// Labels of the training features (.npy), if the features file has none.
    #[arg(long, value_name = "FILE", requires = "features")]
    pub labels: Option<PathBuf>,
    /// Test features.
    #[arg(long, value_name = "FILE", requires = "features")]
    pub test_features: Option<PathBuf>,
    /// Labels of the test features (.npy).
    #[arg(long, value_name = "FILE", requires = "test_features")]
    pub test_labels: Option<PathBuf>,
    #[command(flatten)]
    pub runtime: RuntimeArgs,
}

impl PairArgs {
    /// Training and test features, both labelled.
    pub fn load(&self, output: &Output) -> Result<(Features, Features), Box<dyn Error>> {
        if let (Some(train), Some(test)) = (&self.features, &self.test_features) {
            return Ok((load(train, self.labels.as_deref())?, load(test, self.test_labels.as_deref())?));
        }
        let (Some(encoder), Some(data)) = (&self.encoder, &self.data) else {
            return Err("give an encoder and --data, or --features and --test-features".into());
        };
        let (train, test) = labelled(data, self.test_data.as_deref())?;
        Ok((self.runtime.features(encoder, &train, output)?, self.runtime.features(encoder, &test, output)?))
    }
}

/// Features of a file: in memory, or left where they are and read in blocks.
pub enum Source {
    Memory(Features),
    File(FeatureFile),
}

/// Files above this are left where they are.
const LARGE: u64 = 1 << 30;

impl Source {
    /// Opens a file of features, with labels from another where given. `in_blocks`: yes, or as its size suggests.
    pub fn open(features: &Path, labels: Option<&Path>, in_blocks: bool) -> byol_serve::Result<Self> {
        let large = std::fs::metadata(features).is_ok_and(|file| file.len() > LARGE);
        let file = match in_blocks || large {
            false => None,
            true => match FeatureFile::open(features) {
                Ok(file) => Some(file),
                // Not a layout for blocks, but perhaps one that can be loaded.
                Err(byol_serve::Error::Corrupt { .. }) if !in_blocks => None,
                Err(error) => return Err(error),
            },
        };
        let Some(mut file) = file else { return Ok(Self::Memory(load(features, labels)?)) };
        if let Some(labels) = labels {
            file.labels = Some(Features::load_labels(labels)?);
        }
        file.labels()?;
        Ok(Self::File(file))
    }
}

/// The labelled training and test pictures of a data set.
pub fn labelled(data: &Path, test_data: Option<&Path>) -> Result<(Dataset, Dataset), Box<dyn Error>> {
    let train = Dataset::open(data, Split::Train)?;
    let test = match test_data {
        Some(path) => Dataset::open(path, Split::Train)?,
        None => Dataset::open(data, Split::Test)?,
    };
    if train.labels().is_none() || test.labels().is_none() {
        return Err(format!("{} has no labels: evaluation needs class folders or label files", data.display()).into());
    }
    if test.classes().iter().any(|class| !train.classes().contains(class)) {
        return Err(format!(
            "the test pictures have classes {:?}, the training pictures {:?}",
            test.classes(),
            train.classes()
        )
        .into());
    }
    Ok((train, test))
}

/// Features from a file, with labels from another where given.
pub fn load(features: &Path, labels: Option<&Path>) -> byol_serve::Result<Features> {
    let mut loaded = Features::load(features)?;
    if let Some(labels) = labels {
        let labels = Features::load_labels(labels)?;
        if labels.len() != loaded.len() {
            return Err(byol_serve::Error::LabelMismatch { features: loaded.len(), labels: labels.len() });
        }
        loaded.labels = Some(labels);
    }
    Ok(loaded)
}

/// The pixels themselves, scaled to 0 to 1, at the first picture's size and channels.
fn pixels(data: &Dataset) -> Result<Features, Box<dyn Error>> {
    let first = data.picture(0)?;
    let mut contract = InputContract::square(first.channels, first.width);
    contract.height = first.height;
    let mut values = Array2::zeros((data.len(), contract.bytes()));
    let mut bytes = vec![0; contract.bytes()];
    for (i, mut row) in values.outer_iter_mut().enumerate() {
        contract.prepare(data.picture(i)?.view(), &mut bytes)?;
        row.iter_mut().zip(&bytes).for_each(|(v, &b)| *v = f32::from(b) / 255.0);
    }
    let classes = data.classes().to_vec();
    Ok(Features {
        values,
        labels: data.labels().map(<[u32]>::to_vec),
        names: None,
        classes: if classes.is_empty() { None } else { Some(classes) },
        encoder: None,
    })
}
