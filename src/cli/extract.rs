//! `byol extract`: features of pictures, into a file.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{Part, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Write the features of pictures to a file.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol extract run/encoder.onnx --data photos/ -o features.safetensors
  byol extract run/encoder.onnx --data fashion-mnist/ --split test -o test.npy --labels test-labels.npy
  byol extract pixels --data fashion-mnist/ -o pixels.npy          raw pixels, the baseline")]
pub struct Arguments {
    /// Encoder (an ONNX file), or the word `pixels`.
    encoder: PathBuf,
    /// A folder of pictures, of class folders, or of IDX files; or one IDX file.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Which part of the data.
    #[arg(long, default_value = "train")]
    split: Part,
    /// File to write: .safetensors (with names, labels and the encoder's hash) or .npy (values only).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Also write the labels to this .npy.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let split = Split::from(arguments.split);
    let data = Dataset::open(&arguments.data, split)?;
    let began = Instant::now();
    let features = arguments.runtime.features(&arguments.encoder, &data, output)?;
    let seconds = began.elapsed().as_secs_f64();
    features.save(&arguments.output)?;
    if let Some(labels) = &arguments.labels {
        features.save_labels(labels)?;
    }
    let result = json!({
        "file": arguments.output, "pictures": features.len(), "left_out": data.len() - features.len(),
        "dimension": features.dimensions(), "seconds": seconds, "encoder_sha256": features.encoder,
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {} pictures, {} features each, {:.1} pictures/s",
            arguments.output.display(),
            features.len(),
            features.dimensions(),
            features.len() as f64 / seconds
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
