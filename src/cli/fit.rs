//! `byol fit`: a linear head on features.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{self, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::solver::{FitOptions, Progress};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Fit a linear head: multinomial logistic regression to its optimum.
#[derive(clap::Args)]
#[command(after_help = "\
Minimises the mean cross-entropy plus l2 / 2 times the squared weights; scikit-learn's C is 1 / (l2 * rows).

Examples:
  byol fit --encoder run/encoder.onnx --data photos/ -o head.safetensors
  byol fit --features X.npy --labels y.npy --l2 1e-4 -o head.safetensors")]
pub struct Arguments {
    /// Encoder (an ONNX file), with --data.
    #[arg(long, value_name = "FILE", required_unless_present = "features")]
    encoder: Option<PathBuf>,
    /// Labelled pictures: class folders or IDX files.
    #[arg(long, value_name = "PATH", required_unless_present = "features")]
    data: Option<PathBuf>,
    /// Features (.safetensors or .npy) instead of an encoder and pictures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["encoder", "data"])]
    features: Option<PathBuf>,
    /// Labels (.npy), if the features file has none.
    #[arg(long, value_name = "FILE", requires = "features")]
    labels: Option<PathBuf>,
    /// L2 penalty per example.
    #[arg(long, default_value_t = 1e-3)]
    l2: f64,
    /// Penalise as if every feature had standard deviation 1.
    #[arg(long)]
    standardize: bool,
    /// Certified relative gap to the optimum at which the fit ends.
    #[arg(long, default_value_t = 1e-6)]
    tolerance: f64,
    /// Most iterations.
    #[arg(long, default_value_t = 1000)]
    max_iterations: usize,
    /// Make probabilities as often right as they say: a temperature from a head fitted to nine tenths of the rows and
    /// judged on the last tenth.
    #[arg(long)]
    calibrate: bool,
    /// Seed of the rows that --calibrate holds out.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// File to write.
    #[arg(short, long, default_value = "head.safetensors", value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    runtime: RuntimeArgs,
}

/// Nine tenths of the rows, and a tenth of each class.
fn hold_out(features: &Features, seed: u64) -> Result<(Features, Features), Box<dyn Error>> {
    let labels = features.labels()?;
    let mut rows: Vec<usize> = (0..features.len()).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let mut seen = vec![0usize; features.class_count()];
    let (held_out, rest): (Vec<usize>, Vec<usize>) = rows.into_iter().partition(|&row| {
        let seen = &mut seen[labels[row] as usize];
        *seen += 1;
        seen.is_multiple_of(10)
    });
    if held_out.is_empty() {
        return Err("no class has 10 rows, so --calibrate has none to hold out: add rows, or leave it out".into());
    }
    Ok((features.select(&rest), features.select(&held_out)))
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let features = match (&arguments.features, &arguments.encoder, &arguments.data) {
        (Some(file), ..) => source::load(file, arguments.labels.as_deref())?,
        (None, Some(encoder), Some(data)) => {
            arguments.runtime.features(encoder, &Dataset::open(data, Split::Train)?, output)?
        }
        _ => return Err("give --features, or --encoder and --data".into()),
    };
    let options = FitOptions {
        l2: arguments.l2,
        tolerance: arguments.tolerance,
        max_iterations: arguments.max_iterations,
        threads: arguments.runtime.threads,
        standardize: arguments.standardize,
        ..FitOptions::default()
    };
    let bar = output.progress(arguments.max_iterations as u64, "iterations");
    let mut progress = |p: &Progress| {
        bar.set_position(p.iteration as u64);
        bar.set_message(format!("objective {:.6}, gap {:.1e}", p.objective, p.gap));
    };
    let mut head = Head::fit(&features, &options, &Cancel::new(), Some(&mut progress))?;
    bar.finish_and_clear();
    if arguments.calibrate {
        let (rest, held_out) = hold_out(&features, arguments.seed)?;
        let temperature = Head::fit(&rest, &options, &Cancel::new(), None)?.calibrate(&held_out)?;
        head.cool(temperature);
    }
    head.save(&arguments.output)?;
    let evaluation = head.evaluate(&features)?;
    let fit = head.training.as_ref().map(|t| &t.fit);
    let result = json!({
        "file": arguments.output, "examples": features.len(), "classes": head.labels, "dimension": head.dimensions(),
        "train_top1": evaluation.top1, "temperature": head.temperature, "fit": fit,
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {} classes from {} examples, {:.1}% of them right",
            arguments.output.display(),
            head.classes(),
            features.len(),
            100.0 * evaluation.top1
        );
        if let Some(fit) = fit {
            let end = if fit.converged { "converged" } else { "NOT converged: raise --max-iterations or --l2" };
            line!(
                out,
                "{end} after {} iterations, {:.2} s, objective {:.6}",
                fit.iterations,
                fit.seconds,
                fit.objective
            );
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
