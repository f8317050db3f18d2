//! `byol evaluate`: how good a fitted head is on labelled pictures or features.

use crate::Done;
use crate::linear_eval::per_class;
use crate::output::{Output, line};
use crate::source::{self, RuntimeArgs, Source};
use byol_model::dataset::{Dataset, Split};
use byol_serve::head::Head;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Judge a fitted head on labelled pictures, or rows of features.
#[derive(clap::Args)]
#[command(after_help = "\
Prints top-1 with its 95% interval (Wilson), top-5, balanced accuracy, log-loss, the expected calibration error over 15 \
bins, and precision and recall of each class; --json adds the confusion matrix.

Examples:
  byol evaluate head.safetensors --encoder run/encoder.onnx --data fashion-mnist/ --split test
  byol evaluate head.safetensors --features X.npy --labels y.npy --bootstrap 1000 --json")]
pub struct Arguments {
    /// Head that `byol fit` wrote.
    head: PathBuf,
    /// The encoder that the head was fitted to.
    #[arg(long, value_name = "FILE", required_unless_present = "features")]
    encoder: Option<PathBuf>,
    /// Labelled pictures: class folders or IDX files.
    #[arg(long, value_name = "PATH", required_unless_present = "features")]
    data: Option<PathBuf>,
    /// Which part of the data.
    #[arg(long, default_value = "train")]
    split: source::Part,
    /// Features (.safetensors or .npy) instead of an encoder and pictures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["encoder", "data"])]
    features: Option<PathBuf>,
    /// Labels (.npy), if the features file has none.
    #[arg(long, value_name = "FILE", requires = "features")]
    labels: Option<PathBuf>,
    /// Read the features in blocks instead of loading them, as is done anyway above 1 GiB.
    #[arg(long, requires = "features")]
    in_blocks: bool,
    /// 95% intervals of every figure from so many sets of rows, drawn with replacement (at least 40; 1000 is usual).
    #[arg(long, value_name = "SETS")]
    bootstrap: Option<usize>,
    /// Seed of these draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let head = Head::load(&arguments.head)?;
    let source = match (&arguments.features, &arguments.encoder, &arguments.data) {
        (Some(file), ..) => Source::open(file, arguments.labels.as_deref(), arguments.in_blocks)?,
        (None, Some(encoder), Some(data)) => {
            let data = Dataset::open(data, Split::from(arguments.split))?;
            Source::Memory(arguments.runtime.features(encoder, &data, output)?)
        }
        _ => return Err("give --encoder and --data, or --features".into()),
    };
    let resamples = arguments.bootstrap.map(|sets| (sets, arguments.seed));
    let (evaluation, intervals) = match &source {
        Source::File(file) => head.evaluate_file(file, resamples)?,
        Source::Memory(features) => head.evaluate_with(features, resamples)?,
    };
    let result = json!({
        "head": arguments.head, "temperature": head.temperature, "evaluation": evaluation, "bootstrap": intervals,
    });
    output.result(&result, |out| {
        let e = &evaluation;
        line!(
            out,
            "top-1 {:.2}% (95% interval {:.2} to {:.2}), top-5 {:.2}%, balanced {:.2}%, log-loss {:.4}, calibration \
             error {:.2} points, {} rows",
            100.0 * e.top1,
            100.0 * e.interval.0,
            100.0 * e.interval.1,
            100.0 * e.top5,
            100.0 * e.balanced,
            e.log_loss,
            100.0 * e.ece,
            e.examples
        );
        if let Some(i) = &intervals {
            line!(
                out,
                "95% intervals by bootstrap: top-1 {:.2} to {:.2}, top-5 {:.2} to {:.2}, balanced {:.2} to {:.2}, log-loss \
                 {:.4} to {:.4}, calibration error {:.2} to {:.2} points",
                100.0 * i.top1.0,
                100.0 * i.top1.1,
                100.0 * i.top5.0,
                100.0 * i.top5.1,
                100.0 * i.balanced.0,
                100.0 * i.balanced.1,
                i.log_loss.0,
                i.log_loss.1,
                100.0 * i.ece.0,
                100.0 * i.ece.1
            );
        }
        per_class(out, e);
    })?;
    Ok(ExitCode::SUCCESS)
}
