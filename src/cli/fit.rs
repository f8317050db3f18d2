//! `byol fit`: a linear head on features.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{self, RuntimeArgs};
use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::path::{PathPoint, cross_validate};
use byol_serve::ridge::ridge;
use byol_serve::solver::{FitOptions, Progress};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Fit a linear head: multinomial logistic regression to its optimum.
#[derive(clap::Args)]
#[command(after_help = "\
Minimises the mean cross-entropy plus l2 / 2 times the squared weights; scikit-learn's C is 1 / (l2 * rows).

Examples:
  byol fit --encoder run/encoder.onnx --data photos/ -o head.safetensors
  byol fit --features X.npy --labels y.npy --l2 1e-4 -o head.safetensors
  byol fit --features X.npy --labels y.npy --folds 5
  byol fit --import fc.safetensors --names classes.txt -o head.safetensors")]
pub struct Arguments {
    /// Encoder (an ONNX file), with --data.
    #[arg(long, value_name = "FILE", required_unless_present_any = ["features", "import"])]
    encoder: Option<PathBuf>,
    /// Labelled pictures: class folders or IDX files.
    #[arg(long, value_name = "PATH", required_unless_present_any = ["features", "import"])]
    data: Option<PathBuf>,
    /// Features (.safetensors or .npy) instead of an encoder and pictures.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["encoder", "data"])]
    features: Option<PathBuf>,
    /// Labels (.npy), if the features file has none.
    #[arg(long, value_name = "FILE", requires = "features")]
    labels: Option<PathBuf>,
    /// Fit nothing: take a linear layer of PyTorch (weight, bias) or scikit-learn (coef_, intercept_) from this
    /// safetensors file. Write it from numpy.ascontiguousarray(coef_): safetensors ignores an array's order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["features", "encoder", "data", "folds", "ridge", "calibrate"])]
    import: Option<PathBuf>,
    /// Names of the imported classes, one a line.
    #[arg(long, value_name = "FILE", requires = "import")]
    names: Option<PathBuf>,
    /// Choose the penalty among nine from 1 to 1e-4 by stratified cross-validation with so many folds.
    #[arg(long, value_name = "K", conflicts_with = "l2")]
    folds: Option<usize>,
    /// The quick look: a ridge classifier, its penalty chosen by exact leave-one-out error.
    #[arg(long, conflicts_with_all = ["folds", "l2", "standardize", "calibrate"])]
    ridge: bool,
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
    /// Seed of the rows that --calibrate and --folds hold out.
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

/// The penalties that --folds judges.
fn penalties() -> Vec<f64> {
    (0..9).map(|i| 10f64.powf(-0.5 * f64::from(i))).collect()
}

fn import(file: &Path, arguments: &Arguments, output: &Output) -> Done {
    let names = arguments.names.as_ref().map(|file| {
        let text = std::fs::read_to_string(file).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok::<Vec<String>, String>(text.lines().map(str::to_string).collect())
    });
    let head = Head::import(file, names.transpose()?)?;
    head.save(&arguments.output)?;
    let result = json!({ "file": arguments.output, "classes": head.labels, "dimension": head.dimensions() });
    output.result(&result, |out| {
        line!(out, "{}: {} classes, {} columns", arguments.output.display(), head.classes(), head.dimensions());
    })?;
    Ok(ExitCode::SUCCESS)
}

/// A ridge classifier, and how each penalty did.
fn quick_look(features: &Features, arguments: &Arguments, output: &Output) -> Done {
    let alphas: Vec<f64> = (-4..=6).map(|power| 10f64.powi(power)).collect();
    let found = ridge(features, &alphas, &Cancel::new())?;
    found.head.save(&arguments.output)?;
    let result = json!({
        "file": arguments.output, "examples": features.len(), "classes": found.head.labels,
        "dimension": found.head.dimensions(), "points": found.points, "best": found.best, "seconds": found.seconds,
    });
    output.result(&result, |out| {
        for (i, point) in found.points.iter().enumerate() {
            let mark = if i == found.best { "  <- chosen" } else { "" };
            line!(
                out,
                "alpha {:>8.0e}: {:.2}% right without the row itself, squared error {:.4}{mark}",
                point.alpha,
                100.0 * point.accuracy,
                point.squared_error
            );
        }
        line!(out, "{}: {:.2} s", arguments.output.display(), found.seconds);
    })?;
    Ok(ExitCode::SUCCESS)
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    if let Some(file) = &arguments.import {
        return import(file, arguments, output);
    }
    let features = match (&arguments.features, &arguments.encoder, &arguments.data) {
        (Some(file), ..) => source::load(file, arguments.labels.as_deref())?,
        (None, Some(encoder), Some(data)) => {
            arguments.runtime.features(encoder, &Dataset::open(data, Split::Train)?, output)?
        }
        _ => return Err("give --features, or --encoder and --data".into()),
    };
    if arguments.ridge {
        return quick_look(&features, arguments, output);
    }
    let mut options = FitOptions {
        l2: arguments.l2,
        tolerance: arguments.tolerance,
        max_iterations: arguments.max_iterations,
        threads: arguments.runtime.threads,
        standardize: arguments.standardize,
        ..FitOptions::default()
    };
    let judged = match arguments.folds {
        None => None,
        Some(folds) => {
            let values = penalties();
            let bar = output.progress((folds * values.len()) as u64, "fits");
            let mut progress = |point: &PathPoint| {
                bar.inc(1);
                bar.set_message(format!("l2 {:.1e}: {:.2}%", point.fit.l2, 100.0 * point.accuracy));
            };
            // Penalties are told apart long before a fit is exact.
            let rough = FitOptions { tolerance: 1e-4, ..options.clone() };
            let progress: &mut dyn FnMut(&PathPoint) = &mut progress;
            let found =
                cross_validate(&features, &values, folds, arguments.seed, &rough, &Cancel::new(), Some(progress))?;
            bar.finish_and_clear();
            options.l2 = found.points[found.best].l2;
            Some(found)
        }
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
        "cross_validation": judged,
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
        for (i, point) in judged.iter().flat_map(|judged| judged.points.iter().enumerate()) {
            let mark = if judged.as_ref().is_some_and(|judged| judged.best == i) { "  <- chosen" } else { "" };
            line!(
                out,
                "l2 {:.1e}: {:.2}% right in folds held out (deviation {:.2} points), log-loss {:.4}{mark}",
                point.l2,
                100.0 * point.accuracy,
                100.0 * point.deviation,
                point.log_loss
            );
        }
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
