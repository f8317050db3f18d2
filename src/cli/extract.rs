//! `byol extract`: features of pictures, into a file.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{PIXELS, Part, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::pipeline::{PipelineOptions, extract_rows};
use byol_serve::store::{Precision, Store, Work};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

/// Write the features of pictures to a file.
#[derive(clap::Args)]
#[command(after_help = "\
Stopped by Ctrl-C or a crash, the same command goes on where it was; what is done lies beside the file until then \
(FILE.part). Memory does not grow with the number of pictures.

Examples:
  byol extract run/encoder.onnx --data photos/ -o features.safetensors
  byol extract run/encoder.onnx --data fashion-mnist/ --split test -o test.npy --labels test-labels.npy
  byol extract run/encoder.onnx --data list.txt -o features.npy
      one file name a line
  byol extract run/encoder.onnx --data shards/ --shard 3/16 -o part-3.npy
      tar files; the fourth of 16 parts
  byol extract run/encoder.onnx --data cifar10/ --split test -o test.parquet
      Parquet in (Hugging Face) and out
  byol extract run/encoder.onnx --data photos/ --dtype i8 -o features.safetensors
      a quarter of the bytes
  byol extract pixels --data fashion-mnist/ -o pixels.npy
      raw pixels, the baseline")]
pub struct Arguments {
    /// Encoder (an ONNX file), or the word `pixels`.
    encoder: PathBuf,
    /// A folder of pictures, of class folders, of IDX files, of tar files (WebDataset) or of Parquet files (Hugging
    /// Face's image column); or one IDX, tar or Parquet file, or a .txt list of files.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Which part of the data.
    #[arg(long, default_value = "train")]
    split: Part,
    /// File to write: .safetensors or .parquet (with names, labels and the encoder's hash) or .npy (values only).
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Also write the labels to this .npy.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Type of the values: f32; f16, half the bytes; or i8, a quarter, every column in 254 steps of its largest absolute
    /// value over 127 (the tensor `scale` of a .safetensors). All commands read each of them.
    #[arg(long, value_name = "TYPE", default_value = "f32")]
    dtype: Precision,
    /// Only part I (from 0) of N consecutive parts: disjoint, and together everything.
    #[arg(long, value_name = "I/N", value_parser = shard)]
    shard: Option<(usize, usize)>,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

fn shard(text: &str) -> Result<(usize, usize), String> {
    let parsed = text.split_once('/').and_then(|(part, parts)| Some((part.parse().ok()?, parts.parse().ok()?)));
    match parsed {
        Some((part, parts)) if part < parts => Ok((part, parts)),
        _ => Err("it must be I/N with I from 0 to N - 1, such as 0/4".into()),
    }
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let mut data = Dataset::open(&arguments.data, Split::from(arguments.split))?;
    if let Some((part, parts)) = arguments.shard {
        data = data.part(part, parts)?;
    }
    let began = Instant::now();
    if arguments.encoder.as_os_str() == PIXELS {
        if arguments.dtype != Precision::F32 {
            return Err("--dtype f16 and i8 are for an encoder's features; pixels are written as f32".into());
        }
        let features = arguments.runtime.features(&arguments.encoder, &data, output)?;
        features.save(&arguments.output)?;
        if let Some(labels) = &arguments.labels {
            features.save_labels(labels)?;
        }
        let done = (features.len(), 0, features.dimensions(), 0.0, began.elapsed().as_secs_f64());
        return report(arguments, output, done, None);
    }
    Store::check_room(&arguments.output, &data, arguments.dtype)?;
    let encoder = arguments.runtime.open(&arguments.encoder)?;
    encoder.warm_up()?;
    let opening = began.elapsed().as_secs_f64();
    let work = Work {
        encoder: encoder.sha256().to_owned(),
        dimension: encoder.dimension(),
        pictures: data.len(),
        fingerprint: data.fingerprint(),
    };
    let mut store = Store::open(&arguments.output, work)?;
    let resumed = store.done();
    if resumed > 0 {
        output.say(&format!("going on after {resumed} pictures that are done"));
    }
    let cancel = Cancel::new();
    let flag = cancel.clone();
    // Without a handler Ctrl-C ends the process, and what is done is kept all the same.
    let _ = ctrlc::set_handler(move || flag.trigger());
    let bar = output.progress(data.len() as u64, "pictures");
    bar.set_position(resumed as u64);
    bar.reset_eta();
    let began = Instant::now();
    let options = PipelineOptions { batch: arguments.runtime.batch, strict: arguments.runtime.strict };
    let outcome = extract_rows(&encoder, &data, resumed, &options, &cancel, &mut |index, row| {
        store.push(|| data.name(index), row)?;
        bar.set_position(index as u64 + 1);
        Ok(())
    });
    let seconds = began.elapsed().as_secs_f64();
    bar.finish_and_clear();
    store.flush()?;
    match outcome {
        Err(byol_serve::Error::Cancelled) => {
            output.say(&format!("stopped after {} pictures; the same command goes on from there", store.done()));
            return Ok(ExitCode::from(130));
        }
        outcome => outcome?,
    }
    for bad in store.bad().iter().take(10) {
        output.say(&format!("left out {}: {}", bad.name, bad.error));
    }
    if store.bad_count() > 10 {
        output.say(&format!("left out {} more", store.bad_count() - 10));
    }
    let rows = store.finish(&data, arguments.labels.as_deref(), arguments.dtype)?;
    let done = (rows, resumed, encoder.dimension(), opening, seconds);
    report(arguments, output, done, Some((encoder.sha256(), data.len() - rows, encoder.provider().name())))
}

/// `done`: rows, of them before this call, dimension, seconds until the first picture, seconds for the pictures.
fn report(
    arguments: &Arguments,
    output: &Output,
    (rows, resumed, dimension, opening, seconds): (usize, usize, usize, f64, f64),
    encoder: Option<(&str, usize, &str)>,
) -> Done {
    let left_out = encoder.map_or(0, |(_, left_out, _)| left_out);
    let result = json!({
        "file": arguments.output, "pictures": rows, "left_out": left_out, "resumed": resumed, "dimension": dimension,
        "opening_seconds": opening, "seconds": seconds, "encoder_sha256": encoder.map(|(sha256, _, _)| sha256),
        "provider": encoder.map(|(_, _, provider)| provider),
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {rows} pictures, {dimension} features each, {left_out} left out, {:.1} pictures/s",
            arguments.output.display(),
            (rows + left_out).saturating_sub(resumed) as f64 / seconds.max(1e-9)
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
