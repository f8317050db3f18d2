//! `byol quantize`: an encoder in 8-bit integers, or with weights in half precision.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{Part, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use byol_model::{file, onnx_float16, sha256_hex};
use byol_serve::calibration::Method;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::EncoderOptions;
use byol_serve::quantize::{QuantizeOptions, Quantized, quantize};
use byol_serve::runtime::{Runtime, RuntimeOptions};
use clap::ValueEnum;
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Make an encoder smaller and faster: its layers in 8-bit integers, calibrated on pictures.
#[derive(clap::Args)]
#[command(after_help = "\
The file that comes out is an encoder like any other: for byol, libbyol and every ONNX runtime. A head that was fitted \
on the float encoder's features wants to be fitted again.

Examples:
  byol quantize encoder.onnx --calibrate photos/ -o encoder-int8.onnx
  byol quantize encoder.onnx --calibrate photos/ --min-cosine 0.999 -o encoder-int8.onnx
      leaves more layers in float
  byol quantize encoder.onnx --float16 -o encoder-half.onnx
      half the size, the same speed")]
pub struct Arguments {
    /// Encoder (an ONNX file).
    encoder: PathBuf,
    /// Pictures like those that it will see; some hundred are enough. Labels, if any, tell the change of k-NN.
    #[arg(long, value_name = "PATH", required_unless_present = "float16")]
    calibrate: Option<PathBuf>,
    /// Which part of the pictures.
    #[arg(long, default_value = "train")]
    split: Part,
    /// File to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// How the ranges of values are chosen; auto tries all and takes the best.
    #[arg(long, default_value = "auto")]
    method: Choice,
    /// Per cent of the values inside the range, with --method percentile.
    #[arg(long, default_value_t = 99.99)]
    percentile: f64,
    /// Pictures to calibrate with, evenly spread over the data; a quarter as many again judge the result.
    #[arg(long, default_value_t = 256, value_name = "N")]
    pictures: usize,
    /// Mean cosine to the float features that must be reached; the layers that hurt most stay in float until it is.
    #[arg(long, default_value_t = 0.99, value_name = "COSINE")]
    min_cosine: f64,
    /// Layers to leave in float, by name.
    #[arg(long, value_delimiter = ',', value_name = "NAME,..")]
    keep: Vec<String>,
    /// Weights of 7 bits, for x86-64 processors without VNNI (before 2019), which saturate with 8.
    #[arg(long)]
    reduced_weights: bool,
    /// Store the weights that stay in float as float16.
    #[arg(long)]
    float16: bool,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum Choice {
    Auto,
    MinMax,
    Percentile,
    Entropy,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let limit = EncoderOptions::default().max_model_bytes;
    let bytes = file::read(&arguments.encoder, limit)?;
    let Some(folder) = &arguments.calibrate else { return half(arguments, &bytes, output) };
    let runtime = Runtime::open(&RuntimeOptions {
        library: arguments.runtime.onnxruntime.clone(),
        threads: arguments.runtime.threads,
    })?;
    let dataset = Dataset::open(folder, Split::from(arguments.split))?;
    let options = QuantizeOptions {
        method: match arguments.method {
            Choice::Auto => None,
            Choice::MinMax => Some(Method::MinMax),
            Choice::Percentile => Some(Method::Percentile(arguments.percentile)),
            Choice::Entropy => Some(Method::Entropy),
        },
        pictures: arguments.pictures,
        min_cosine: arguments.min_cosine,
        float_layers: arguments.keep.iter().cloned().collect(),
        reduced_weights: arguments.reduced_weights,
        float16: arguments.float16,
        encoder: EncoderOptions { provider: arguments.runtime.provider, ..EncoderOptions::default() },
    };
    let bar = output.progress(0, "");
    let mut progress = |step: &str, done: usize, total: usize| {
        bar.set_length(total as u64);
        bar.set_position(done as u64);
        bar.set_message(step.to_owned());
    };
    let done = quantize(&runtime, &arguments.encoder, &bytes, &dataset, &options, &Cancel::new(), &mut progress);
    bar.finish_and_clear();
    let done = done?;
    file::write_atomic(&arguments.output, &done.bytes)?;
    report(arguments, &done, output)?;
    Ok(ExitCode::SUCCESS)
}

fn report(arguments: &Arguments, done: &Quantized, output: &Output) -> Result<(), Box<dyn std::error::Error>> {
    let sha256 = sha256_hex(&done.bytes);
    let tried: Vec<_> =
        done.tried.iter().map(|(method, cosine)| json!({ "method": method.to_string(), "cosine": cosine })).collect();
    let result = json!({
        "file": arguments.output, "bytes": done.bytes.len(), "sha256": sha256, "float_bytes": done.float_bytes,
        "method": done.method.to_string(), "tried": tried, "layers": done.layers, "float_layers": done.float_layers,
        "input_folded": done.input_folded,
        "calibrated_pictures": done.pictures.0, "judged_pictures": done.pictures.1, "cosine": done.cosine,
        "least_cosine": done.least_cosine, "neighbours_kept": done.neighbours_kept,
        "knn": done.knn.map(|(float, quantized)| json!({ "float": float, "quantized": quantized })),
        "pictures_per_second": { "float": done.speed.0, "quantized": done.speed.1 },
    });
    let percent = |part: f64| 100.0 * part;
    output.result(&result, |out| {
        line!(
            out,
            "{}: {} of {} layers in 8 bits ({}), calibrated with {} pictures",
            arguments.output.display(),
            done.layers - done.float_layers.len(),
            done.layers,
            done.method,
            done.pictures.0
        );
        if !done.float_layers.is_empty() {
            line!(out, "  in float  {}", done.float_layers.join(", "));
        }
        let (was, is) = (done.float_bytes as f64, done.bytes.len() as f64);
        line!(out, "  size      {:.1} MB, was {:.1} MB ({:.2} times smaller)", is / 1e6, was / 1e6, was / is);
        let (was, is) = done.speed;
        line!(out, "  speed     {is:.1} pictures/s, was {was:.1} ({:.2} times), on prepared pictures", is / was);
        line!(
            out,
            "  features  cosine to float {:.4} in the mean, {:.4} at least, over {} other pictures",
            done.cosine,
            done.least_cosine,
            done.pictures.1
        );
        line!(out, "  k-NN      {:.1}% of the 10 nearest neighbours kept", percent(done.neighbours_kept));
        if let Some((was, is)) = done.knn {
            line!(out, "            20-NN, leave one out: {:.1}%, was {:.1}%", percent(is), percent(was));
        }
    })?;
    if done.cosine < arguments.min_cosine {
        output.say(&format!(
            "the cosine of {:.4} is below the {} asked for: more or other calibration pictures may help",
            done.cosine, arguments.min_cosine
        ));
    }
    Ok(())
}

/// Only the weights in half precision.
fn half(arguments: &Arguments, bytes: &[u8], output: &Output) -> Done {
    let (written, count) = onnx_float16::write(bytes)?;
    file::write_atomic(&arguments.output, &written)?;
    let result = json!({
        "file": arguments.output, "bytes": written.len(), "sha256": sha256_hex(&written), "float_bytes": bytes.len(),
        "tensors": count,
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {count} tensors in float16, {:.1} MB, was {:.1} MB",
            arguments.output.display(),
            written.len() as f64 / 1e6,
            bytes.len() as f64 / 1e6
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
