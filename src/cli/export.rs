//! `byol export`: an encoder becomes one ONNX file.

use crate::Done;
use crate::encoder_args::EncoderArgs;
use crate::output::{Output, line};
use byol_model::encoder::{ARCHITECTURE_FILE, EncoderConfig};
use byol_model::graph::Graph;
use byol_model::onnx;
use byol_model::picture::InputContract;
use byol_model::weights::{Fitted, Weights};
use byol_serve::Error;
use byol_serve::encoder::EncoderOptions;
use byol_serve::head::Head;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Write an encoder, a head, or both as one self-describing ONNX file.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol export run/
      the encoder of a run, to run/encoder.onnx
  byol export run/ -o clothes.onnx
  byol export run/ --untrained -o untrained.onnx
  byol export --encoder resnet18 --image-size 224 -o untrained.onnx
  byol export --encoder resnet50 --weights resnet50.safetensors -o resnet50.onnx
      torchvision's, timm's or fastai's weights
  byol export --head head.safetensors -o head.onnx
      features to logits and probabilities
  byol export encoder.onnx --head head.safetensors -o classifier.onnx
      pictures to logits and probabilities")]
pub struct Arguments {
    /// Folder of a run, or an encoder.safetensors of one; with --head, the head's encoder (an ONNX file).
    #[arg(conflicts_with = "encoder", required_unless_present_any = ["encoder", "head"])]
    run: Option<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Weights under torchvision's, timm's or fastai's names (safetensors); without them the encoder is untrained. A
    /// classifier's tensors (fc.*, classifier.*, head.*) are left out.
    #[arg(long, value_name = "FILE", requires = "encoder")]
    weights: Option<PathBuf>,
    /// The weights that the run began with instead of those that it learned: the baseline.
    #[arg(long, requires = "run")]
    untrained: bool,
    /// Head that `byol fit` wrote: alone, or behind the encoder that is named first.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["encoder", "untrained", "weights"])]
    head: Option<PathBuf>,
    /// Seed of an untrained encoder's weights.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File to write; RUN/encoder.onnx, head.onnx or classifier.onnx by default.
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    if let Some(head) = &arguments.head {
        return of_head(arguments, head, output);
    }
    let (config, graph, contract, weights, mut metadata) = match &arguments.run {
        Some(run) => of_run(run, arguments.untrained)?,
        None => of_flags(arguments, output)?,
    };
    metadata.insert("encoder".into(), serde_json::to_string(&config)?);
    let bytes = onnx::write(&onnx::Export { graph: &graph, weights: &weights, contract: &contract, metadata })?;
    let path = match (&arguments.output, &arguments.run) {
        (Some(path), _) => path.clone(),
        (None, Some(run)) => folder_of(run).join("encoder.onnx"),
        (None, None) => PathBuf::from("encoder.onnx"),
    };
    byol_model::file::write_atomic(&path, &bytes)?;
    let sha256 = byol_model::sha256_hex(&bytes);
    let result = json!({
        "file": path, "bytes": bytes.len(), "sha256": sha256, "dimension": graph.dimension(),
        "input": [contract.height, contract.width, contract.channels],
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {} of {} x {} x {} pixels to {} features, {} bytes, sha256 {sha256}",
            path.display(),
            config.name,
            contract.height,
            contract.width,
            contract.channels,
            graph.dimension(),
            bytes.len()
        );
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A head alone, or behind its encoder.
fn of_head(arguments: &Arguments, file: &Path, output: &Output) -> Done {
    let head = Head::load(file)?;
    let (bytes, name) = match &arguments.run {
        None => (head.to_onnx()?, "head.onnx"),
        Some(encoder) => {
            let found = byol_model::file::read(encoder, EncoderOptions::default().max_model_bytes)?;
            let merged = head.to_onnx_behind(&found).map_err(|e| match e {
                Error::Model(e) => format!("{}: {e}", encoder.display()).into(),
                e => Box::<dyn std::error::Error>::from(e),
            })?;
            (merged, "classifier.onnx")
        }
    };
    let path = arguments.output.clone().unwrap_or_else(|| name.into());
    byol_model::file::write_atomic(&path, &bytes)?;
    let sha256 = byol_model::sha256_hex(&bytes);
    let result = json!({ "file": path, "bytes": bytes.len(), "sha256": sha256, "classes": head.labels });
    output.result(&result, |out| {
        line!(out, "{}: {} classes, {} bytes, sha256 {sha256}", path.display(), head.classes(), bytes.len());
    })?;
    Ok(ExitCode::SUCCESS)
}

/// Configuration, graph, input contract, weights and metadata.
pub type Parts = (EncoderConfig, Graph, InputContract, Weights, BTreeMap<String, String>);

/// The encoder that the flags describe.
fn of_flags(arguments: &Arguments, output: &Output) -> Result<Parts, Box<dyn std::error::Error>> {
    let config = arguments.encoder.config()?;
    let mut metadata = BTreeMap::new();
    let (graph, weights) = match &arguments.weights {
        Some(path) => {
            let graph = config.build()?;
            let given = Fitted::load(path, &graph)?;
            if let Some(said) = given.describe(path) {
                output.say(&said);
            }
            (graph, given.weights)
        }
        None => {
            metadata.insert("seed".into(), arguments.seed.to_string());
            metadata.insert("trained".into(), "false".into());
            config.initial(arguments.seed)?
        }
    };
    let contract = InputContract::square(config.channels, config.image_size);
    Ok((config, graph, contract, weights, metadata))
}

/// The encoder that a run has learned, or the one it began with.
pub fn of_run(run: &Path, untrained: bool) -> Result<Parts, Box<dyn std::error::Error>> {
    let file = if run.is_dir() { run.join("encoder.safetensors") } else { run.to_owned() };
    let (mut weights, mut metadata) = Weights::load_with_metadata(&file)?;
    let config = metadata
        .get("byol.encoder")
        .ok_or_else(|| format!("{} has no metadata byol.encoder: it is no encoder of a run", file.display()))?;
    let config: EncoderConfig =
        serde_json::from_str(config).map_err(|e| format!("{}: metadata byol.encoder: {e}", file.display()))?;
    let contract = InputContract::from_metadata(&metadata)?
        .ok_or_else(|| format!("{} has no metadata byol.input.*", file.display()))?;
    // The weights of a file are those that the run began with.
    let (graph, of_file) = match config.file() {
        None => (config.build()?, None),
        Some(_) => {
            let imported = config.import(&folder_of(run).join(ARCHITECTURE_FILE))?;
            (imported.graph, Some(imported.weights))
        }
    };
    if untrained && let Some(began) = &config.init_weights {
        let (name, began) = (&config.name, began.display());
        let why = format!(
            "the run began with the weights of {began}: write those with byol export --encoder {name} --weights {began}"
        );
        return Err(why.into());
    }
    if untrained {
        let seed = metadata.get("byol.seed").and_then(|seed| seed.parse().ok());
        let seed = seed.ok_or_else(|| format!("{} has no metadata byol.seed", file.display()))?;
        weights = of_file.unwrap_or_else(|| Weights::init(&graph, seed));
        metadata.remove("byol.steps");
        metadata.insert("byol.trained".into(), "false".into());
    }
    let kept = metadata.iter().filter(|(key, _)| !key.starts_with("byol.input."));
    let kept = kept.filter_map(|(k, v)| Some((k.strip_prefix("byol.")?.to_owned(), v.clone()))).collect();
    Ok((config, graph, contract, weights, kept))
}

fn folder_of(run: &Path) -> PathBuf {
    if run.is_dir() { run.to_owned() } else { run.parent().unwrap_or(Path::new(".")).to_owned() }
}
