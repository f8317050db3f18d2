//! `byol finetune`: encoder and linear layer learned together from labels; from weights drawn anew, supervised training.

use crate::Done;
use crate::export::{self, Parts};
use crate::output::{Output, line};
use crate::source::labelled;
use byol_model::dataset::Dataset;
use byol_model::onnx;
use byol_serve::head::Head;
use byol_serve::metrics::{Evaluation, Intervals, Tally};
use byol_train::byol::Predefined;
use byol_train::classifier::{Classifier, Recipe};
use byol_train::device::{self, Choice};
use byol_train::subset::stratified;
use ndarray::{Array1, Array2, ArrayView2};
use serde_json::{Value, json};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Pictures held out to choose on, at most: as many as the paper takes.
const HELD_OUT: f64 = 10_009.0;

/// Learn from labels, end to end, beginning at an encoder or from scratch (paper, appendix C.2).
#[derive(clap::Args)]
#[command(after_help = "\
The labels of --fraction of the training pictures are used, in the classes' proportions. Learning rate and epochs are \
chosen by top-1 on a tenth of the training pictures (at most 10,009) that are held out; with --fraction 1 the chosen ones \
then learn from all. SGD with Nesterov momentum 0.9, no weight decay, random crops and flips; a rate is for 256 pictures a \
step and falls on a cosine. A step has --batch-size pictures, and never more than an eighth of those learned from.

Examples:
  byol finetune run/ --data fashion-mnist/ --fraction 0.01
  byol finetune run/ --data photos/ -o classifier/
      and keep encoder.onnx and head.safetensors
  byol finetune run/ --data fashion-mnist/ --fraction 0.1 --from-scratch
      the supervised baseline
  byol finetune run/ --data fashion-mnist/ --epochs 10 --learning-rates 0.05,0.1")]
pub struct Arguments {
    /// Folder of a run, or an encoder.safetensors of one.
    run: PathBuf,
    /// Labelled pictures: class folders, or IDX files; with a train and a test part.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Test pictures, where --data has no test part.
    #[arg(long, value_name = "PATH")]
    test_data: Option<PathBuf>,
    /// Part of the labels that is used: 0.01 and 0.1 in the paper.
    #[arg(long, default_value_t = 1.0)]
    fraction: f64,
    /// Begin with the weights that the run began with: supervised training of the same network.
    #[arg(long)]
    from_scratch: bool,
    /// Learning rates to try; by default the paper's 0.005,0.01,0.02,0.05,0.1, and from scratch 0.05,0.1,0.2,0.4,0.8.
    #[arg(long, value_delimiter = ',', value_name = "RATE,..")]
    learning_rates: Vec<f64>,
    /// Lengths to try, in passes over the labelled pictures.
    #[arg(long, value_delimiter = ',', value_name = "N,..", default_value = "30,50")]
    epochs: Vec<f64>,
    /// Folder for the classifier: encoder.onnx, encoder.safetensors, head.safetensors.
    #[arg(short, long, value_name = "FOLDER")]
    output: Option<PathBuf>,
    #[command(flatten)]
    learning: LearningArgs,
}

/// What learning from labels shares.
#[derive(clap::Args, Clone, Debug)]
pub struct LearningArgs {
    /// Pictures a step, at most; 1024 in the paper.
    #[arg(long, default_value_t = 256)]
    pub batch_size: usize,
    /// Least part of a picture's area that a random crop keeps; 0.08 as in the paper, and 0.3 for at most 64 pixels.
    #[arg(long, value_name = "PART")]
    pub crop_area: Option<f64>,
    /// Sets of test rows drawn for the 95% intervals, at least 40.
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(40..))]
    pub bootstrap: usize,
    /// Decides the subset, the linear layer, order and crops.
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long, default_value = "auto")]
    pub device: Choice,
    /// CPU threads; all that this process may use by default.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    pub threads: usize,
}

impl LearningArgs {
    /// A recipe of these flags for pictures of `size` pixels; rate and epochs are the caller's to set.
    pub fn recipe(&self, size: usize, output: &Output) -> byol_train::Result<Recipe> {
        let found = device::open(self.device)?;
        output.say(&found.sentence);
        Ok(Recipe {
            epochs: 1.0,
            learning_rate: 0.1,
            batch_size: self.batch_size,
            weight_decay: 0.0,
            least_area: self.crop_area.unwrap_or(if size <= 64 { 0.3 } else { 0.08 }),
            seed: self.seed,
            device: found.device,
            threads: if self.threads == 0 { device::available_threads() } else { self.threads },
        })
    }
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    if !(arguments.fraction > 0.0 && arguments.fraction <= 1.0) {
        return Err(format!("--fraction {}: must be above 0 and at most 1", arguments.fraction).into());
    }
    let (config, graph, contract, weights, metadata) = export::of_run(&arguments.run, arguments.from_scratch)?;
    let encoder = Predefined { graph, weights };
    let (train, test) = labelled(&arguments.data, arguments.test_data.as_deref())?;
    if let Some(folder) = &arguments.output {
        std::fs::create_dir_all(folder).map_err(|e| format!("Cannot create {}: {e}", folder.display()))?;
    }
    let labels = train.labels().unwrap_or_default();
    let seed = arguments.learning.seed;
    let held_out = held_out(labels, seed);
    let is_held_out = mask(&held_out, train.len());
    let rows = stratified(labels, arguments.fraction, seed.wrapping_add(1), |row| !is_held_out[row]);
    let (learned, validation) = (train.select(&rows), train.select(&held_out));
    let rates = match (&arguments.learning_rates[..], arguments.from_scratch) {
        ([], false) => vec![0.005, 0.01, 0.02, 0.05, 0.1],
        ([], true) => vec![0.05, 0.1, 0.2, 0.4, 0.8],
        (given, _) => given.to_vec(),
    };
    let recipe = arguments.learning.recipe(contract.height, output)?;
    output.say(&format!(
        "{} labelled pictures, {} a step; chosen on {} held out.",
        learned.len(),
        recipe.batch(learned.len()),
        held_out.len()
    ));

    let mut sweep = Vec::new();
    let mut best: Option<(f64, Recipe, Classifier)> = None;
    for &epochs in &arguments.epochs {
        for &learning_rate in &rates {
            let recipe = Recipe { epochs, learning_rate, ..recipe.clone() };
            let found =
                teach(&encoder, &contract, &learned, &recipe, output).and_then(|c| Ok((c.accuracy(&validation)?, c)));
            let (top1, classifier) = match found {
                Ok(found) => found,
                Err(error @ byol_train::Error::Diverged { .. }) => {
                    output.say(&format!("{epochs} epochs at {learning_rate}: {error}"));
                    sweep.push(json!({ "epochs": epochs, "learning_rate": learning_rate, "diverged": true }));
                    continue;
                }
                Err(error) => return Err(error.into()),
            };
            output.say(&format!("{epochs} epochs at {learning_rate}: {:.2}% held out", 100.0 * top1));
            sweep.push(json!({ "epochs": epochs, "learning_rate": learning_rate, "held_out_top1": top1 }));
            if best.as_ref().is_none_or(|(most, ..)| top1 > *most) {
                best = Some((top1, recipe, classifier));
            }
        }
    }
    let (held_out_top1, chosen, mut classifier) =
        best.ok_or("every learning rate diverged; give lower --learning-rates")?;
    if arguments.fraction >= 1.0 {
        classifier = teach(&encoder, &contract, &train, &chosen, output)?;
    }
    let judged = judge(&classifier, &train, &test, &arguments.learning)?;
    let kept = match &arguments.output {
        Some(folder) => {
            let parts = (config, encoder.graph, contract, classifier.encoder().weights()?, metadata);
            Some(keep(folder, parts, &classifier, train.classes())?)
        }
        None => None,
    };
    let used = if arguments.fraction >= 1.0 { train.len() } else { learned.len() };
    let result = json!({
        "top1": judged.evaluation.top1, "top5": judged.evaluation.top5, "mean_per_class": judged.evaluation.balanced,
        "intervals": judged.intervals, "fraction": arguments.fraction, "labelled": used,
        "from_scratch": arguments.from_scratch, "epochs": chosen.epochs, "learning_rate": chosen.learning_rate,
        "batch_size": chosen.batch(used), "held_out_top1": held_out_top1, "sweep": sweep, "kept": kept,
        "evaluation": judged.evaluation,
    });
    output.result(&result, |out| {
        let start = if arguments.from_scratch { "from scratch" } else { "fine-tuned" };
        let what = format!("{start} on {used} labels, {} epochs at {}", chosen.epochs, chosen.learning_rate);
        judged.print(out, &what);
    })?;
    Ok(ExitCode::SUCCESS)
}

/// One training with a progress bar.
fn teach(
    encoder: &Predefined,
    contract: &byol_model::picture::InputContract,
    data: &Dataset,
    recipe: &Recipe,
    output: &Output,
) -> byol_train::Result<Classifier> {
    let bar = output.progress(0, "steps");
    let mut progress = |step: usize, steps: usize, loss: f64| {
        bar.set_length(steps as u64);
        bar.set_position(step as u64);
        bar.set_message(format!("loss {loss:.4}"));
    };
    let taught = Classifier::fine_tune(encoder, contract, data, recipe, &mut progress);
    bar.finish_and_clear();
    taught
}

/// A tenth of the rows, at most the paper's number, in the classes' proportions.
pub fn held_out(labels: &[u32], seed: u64) -> Vec<usize> {
    let share = 0.1f64.min(HELD_OUT / labels.len().max(1) as f64);
    stratified(labels, share, seed, |_| true)
}

/// Whether each of `count` rows is among `rows`.
pub fn mask(rows: &[usize], count: usize) -> Vec<bool> {
    let mut mask = vec![false; count];
    rows.iter().for_each(|&row| mask[row] = true);
    mask
}

/// What test pictures say about a classifier.
pub struct Judged {
    pub evaluation: Evaluation,
    pub intervals: Intervals,
}

/// Judges on test pictures, with bootstrap intervals. Classes are matched by name: the test pictures may lack some.
pub fn judge(
    classifier: &Classifier,
    train: &Dataset,
    test: &Dataset,
    learning: &LearningArgs,
) -> Result<Judged, Box<dyn Error>> {
    let probabilities = classifier.probabilities(test)?;
    let classes = classifier.head().graph().dimension();
    let rows = ArrayView2::from_shape((test.len(), classes), &probabilities)?;
    let names: Vec<String> = (0..classes).map(|class| name(train.classes(), class)).collect();
    let of = |label: &u32| {
        let own = name(test.classes(), *label as usize);
        names.iter().position(|name| *name == own).map(|class| class as u32)
    };
    let labels: Option<Vec<u32>> = test.labels().unwrap_or_default().iter().map(of).collect();
    let labels = labels.ok_or("the test pictures have a class that the training pictures have not")?;
    let mut tally = Tally::new(classes);
    tally.add(rows, &labels)?;
    Ok(Judged { evaluation: tally.evaluation(&names)?, intervals: tally.intervals(learning.bootstrap, learning.seed)? })
}

/// A class's name; its number where it has none.
fn name(classes: &[String], class: usize) -> String {
    classes.get(class).cloned().unwrap_or_else(|| class.to_string())
}

impl Judged {
    /// Three figures with their intervals, and a line for each class.
    pub fn print(&self, out: &mut String, what: &str) {
        let percent = |value: f64, (low, high): (f64, f64)| {
            format!("{:.2}% ({:.2} to {:.2})", 100.0 * value, 100.0 * low, 100.0 * high)
        };
        let (e, i) = (&self.evaluation, &self.intervals);
        line!(
            out,
            "{what}: top-1 {}, top-5 {}, mean per class {}; {} test pictures, 95% by {} resamples",
            percent(e.top1, i.top1),
            percent(e.top5, i.top5),
            percent(e.balanced, i.balanced),
            e.examples,
            i.resamples
        );
        crate::linear_eval::per_class(out, e);
    }
}

/// Writes what classifies: the encoder to serve, its weights, and the head.
fn keep(folder: &Path, parts: Parts, classifier: &Classifier, classes: &[String]) -> Result<Value, Box<dyn Error>> {
    let (config, graph, contract, weights, mut metadata) = parts;
    metadata.remove("trained");
    metadata.insert("encoder".into(), serde_json::to_string(&config)?);
    metadata.insert("finetuned".into(), "true".into());
    let bytes = onnx::write(&onnx::Export {
        graph: &graph,
        weights: &weights,
        contract: &contract,
        metadata: metadata.clone(),
    })?;
    let (encoder, head_file) = (folder.join("encoder.onnx"), folder.join("head.safetensors"));
    byol_model::file::write_atomic(&encoder, &bytes)?;
    let mut header = contract.to_metadata();
    header.extend(metadata.into_iter().map(|(key, value)| (format!("byol.{key}"), value)));
    weights.save(&folder.join("encoder.safetensors"), &header)?;
    let learned = classifier.head().weights()?;
    let (Some(weight), Some(bias)) = (learned.get("0.weight"), learned.get("0.bias")) else {
        return Err("the linear layer has no weight or bias".into());
    };
    let count = bias.data.len();
    let names = (0..count).map(|class| name(classes, class)).collect();
    let weight = Array2::from_shape_vec((count, graph.dimension()), weight.data.clone())?;
    let mut head = Head::from_parts(weight, Array1::from_vec(bias.data.clone()), names)?;
    head.encoder_sha256 = Some(byol_model::sha256_hex(&bytes));
    head.save(&head_file)?;
    Ok(json!({ "encoder": encoder, "head": head_file }))
}
