//! `byol predict`: a head's answer for pictures or features.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{self, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use byol_serve::head::{Head, Prediction};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Classify pictures, or rows of features, with a fitted head.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol predict head.safetensors --encoder run/encoder.onnx cat.jpg dog.jpg
  byol predict head.safetensors --encoder run/encoder.onnx --data fashion-mnist/test --top 3 --json
  byol predict head.safetensors --features X.npy --reject-below 0.8")]
pub struct Arguments {
    /// Head that `byol fit` wrote.
    head: PathBuf,
    /// Pictures to classify.
    #[arg(required_unless_present_any = ["data", "features"], requires = "encoder")]
    pictures: Vec<PathBuf>,
    /// The encoder that the head was fitted to.
    #[arg(long, value_name = "FILE")]
    encoder: Option<PathBuf>,
    /// A folder of pictures or an IDX file.
    #[arg(long, value_name = "PATH", conflicts_with = "pictures", requires = "encoder")]
    data: Option<PathBuf>,
    /// Features (.safetensors or .npy) instead of pictures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["pictures", "data", "encoder"])]
    features: Option<PathBuf>,
    /// Classes to print for each picture, the most probable first.
    #[arg(long, default_value_t = 1)]
    top: usize,
    /// Answer `?` where the most probable class is less probable than this.
    #[arg(long, value_name = "PROBABILITY", default_value_t = 0.0, hide_default_value = true)]
    reject_below: f32,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let head = Head::load(&arguments.head)?;
    let features = match (&arguments.features, &arguments.encoder, &arguments.data) {
        (Some(file), ..) => source::load(file, None)?,
        (None, Some(encoder), Some(data)) => {
            arguments.runtime.features(encoder, &Dataset::open(data, Split::Train)?, output)?
        }
        (None, Some(encoder), None) => {
            let strict = RuntimeArgs { strict: true, ..arguments.runtime.clone() };
            strict.features(encoder, &Dataset::from_files(arguments.pictures.clone()), output)?
        }
        _ => return Err("give pictures or --data with --encoder, or --features".into()),
    };
    if let Some(encoder) = &features.encoder {
        head.check_encoder(encoder)?;
    }
    let predicted = head.top_k(features.values.view(), arguments.top)?;
    let rejected = |top: &[Prediction]| top.first().is_none_or(|best| best.probability < arguments.reject_below);
    let name = |i: usize| features.names.as_ref().map_or_else(|| i.to_string(), |names| names[i].clone());
    let label = |class: usize| head.labels[class].as_str();
    let rows = predicted.iter().enumerate().map(|(i, top)| {
        let top: Vec<_> =
            top.iter().map(|p| json!({ "label": label(p.label), "probability": p.probability })).collect();
        json!({ "name": name(i), "top": top, "rejected": rejected(&predicted[i]) })
    });
    let rows = rows.collect::<Vec<_>>();
    output.result(&json!({ "predictions": rows }), |out| {
        for (i, top) in predicted.iter().enumerate() {
            let top: Vec<_> = top.iter().map(|p| format!("{} {:.3}", label(p.label), p.probability)).collect();
            let unsure = if rejected(&predicted[i]) { "?\t" } else { "" };
            line!(out, "{}\t{unsure}{}", name(i), top.join("\t"));
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
