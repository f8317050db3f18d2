//! `byol fit`: a linear head on features.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{self, RuntimeArgs, Source};
use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::metrics::Evaluation;
use byol_serve::path::{CrossValidation, PathPoint, cross_validate};
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
Minimises the mean cross-entropy plus l2 / 2 times the squared weights plus l1 times the absolute ones; scikit-learn's C \
is 1 / (l2 * rows), or with --l1 1 / ((l1 + l2) * rows) with an l1_ratio of l1 / (l1 + l2).

Examples:
  byol fit --encoder run/encoder.onnx --data photos/ -o head.safetensors
  byol fit --features X.npy --labels y.npy --l2 1e-4 -o head.safetensors
  byol fit --features X.npy --labels y.npy --folds 5
  byol fit --features X.npy --labels y.npy --l1 1e-3 --standardize
      most weights exactly 0
  byol fit --features huge.npy --labels y.npy --in-blocks
      memory does not grow with the rows
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
    /// Read the features in blocks instead of loading them, as is done anyway above 1 GiB. Takes .safetensors, and .npy in
    /// C order, of float32, float16 or int8.
    #[arg(long, requires = "features", conflicts_with = "calibrate")]
    in_blocks: bool,
    /// Fit nothing: take a linear layer of PyTorch (weight, bias) or scikit-learn (coef_, intercept_) from this
    /// safetensors file. Write it from numpy.ascontiguousarray(coef_): safetensors ignores an array's order.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["features", "encoder", "data", "folds", "ridge", "calibrate"])]
    import: Option<PathBuf>,
    /// Names of the imported classes, one a line.
    #[arg(long, value_name = "FILE", requires = "import")]
    names: Option<PathBuf>,
    /// Choose the penalty among nine from 1 to 1e-4 by stratified cross-validation with so many folds.
    #[arg(long, value_name = "K", conflicts_with_all = ["l2", "l1", "in_blocks"])]
    folds: Option<usize>,
    /// The quick look: a ridge classifier, its penalty chosen by exact leave-one-out error.
    #[arg(long, conflicts_with_all = ["folds", "l2", "l1", "standardize", "calibrate", "in_blocks"])]
    ridge: bool,
    /// L2 penalty per example: 1e-3 by default, with --l1 0.
    #[arg(long)]
    l2: Option<f64>,
    /// Sparse (L1) penalty per example; with --l2 the elastic net.
    #[arg(long, default_value_t = 0.0, hide_default_value = true)]
    l1: f64,
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
    let mut options = FitOptions {
        l2: arguments.l2.unwrap_or(if arguments.l1 > 0.0 { 0.0 } else { 1e-3 }),
        l1: arguments.l1,
        tolerance: arguments.tolerance,
        max_iterations: arguments.max_iterations,
        threads: arguments.runtime.threads,
        standardize: arguments.standardize,
        ..FitOptions::default()
    };
    // What chooses rows needs them in memory.
    let chooses = arguments.ridge || arguments.calibrate || arguments.folds.is_some();
    let features = match (&arguments.features, &arguments.encoder, &arguments.data) {
        (Some(file), ..) if chooses => source::load(file, arguments.labels.as_deref())?,
        (Some(file), ..) => match Source::open(file, arguments.labels.as_deref(), arguments.in_blocks)? {
            Source::Memory(features) => features,
            Source::File(file) => {
                let head =
                    watched(arguments, output, |progress| Head::fit_file(&file, &options, &Cancel::new(), progress))?;
                head.save(&arguments.output)?;
                let (evaluation, _) = head.evaluate_file(&file, None)?;
                return report(arguments, output, &head, &evaluation, None);
            }
        },
        (None, Some(encoder), Some(data)) => {
            arguments.runtime.features(encoder, &Dataset::open(data, Split::Train)?, output)?
        }
        _ => return Err("give --features, or --encoder and --data".into()),
    };
    if arguments.ridge {
        return quick_look(&features, arguments, output);
    }
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
    let mut head = watched(arguments, output, |progress| Head::fit(&features, &options, &Cancel::new(), progress))?;
    if arguments.calibrate {
        let (rest, held_out) = hold_out(&features, arguments.seed)?;
        let temperature = Head::fit(&rest, &options, &Cancel::new(), None)?.calibrate(&held_out)?;
        head.cool(temperature);
    }
    head.save(&arguments.output)?;
    report(arguments, output, &head, &head.evaluate(&features)?, judged.as_ref())
}

/// Shows how a fit goes on.
fn watched(
    arguments: &Arguments,
    output: &Output,
    fit: impl FnOnce(Option<&mut dyn FnMut(&Progress)>) -> byol_serve::Result<Head>,
) -> byol_serve::Result<Head> {
    // No one knows how many iterations it takes, so no bar that would fill.
    let bar = output.spinner();
    let mut progress = |p: &Progress| {
        let gap = if p.gap.is_finite() { format!("{:.1e}", p.gap) } else { "not known yet".into() };
        bar.set_message(format!(
            "iteration {}, objective {:.6}, gap {gap} (ends at {:.0e}), {:.1} s",
            p.iteration, p.objective, arguments.tolerance, p.seconds
        ));
    };
    let head = fit(Some(&mut progress));
    bar.finish_and_clear();
    head
}

/// What came of it.
fn report(
    arguments: &Arguments,
    output: &Output,
    head: &Head,
    evaluation: &Evaluation,
    judged: Option<&CrossValidation>,
) -> Done {
    let fit = head.training.as_ref().map(|t| &t.fit);
    let result = json!({
        "file": arguments.output, "examples": evaluation.examples, "classes": head.labels, "dimension": head.dimensions(),
        "train_top1": evaluation.top1, "temperature": head.temperature, "fit": fit,
        "cross_validation": judged,
    });
    output.result(&result, |out| {
        line!(
            out,
            "{}: {} classes from {} examples, {:.1}% of them right",
            arguments.output.display(),
            head.classes(),
            evaluation.examples,
            100.0 * evaluation.top1
        );
        for (i, point) in judged.iter().flat_map(|judged| judged.points.iter().enumerate()) {
            let mark = if judged.is_some_and(|judged| judged.best == i) { "  <- chosen" } else { "" };
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
            let gap = fit.gap.map_or("not known without a penalty".into(), |gap| format!("{gap:.1e}"));
            line!(
                out,
                "{end} after {} iterations, {:.2} s, objective {:.6}, certified gap {gap}",
                fit.iterations,
                fit.seconds,
                fit.objective
            );
            if let Some(nonzero) = fit.nonzero {
                let of = head.weights.len();
                let columns = head.weights.columns().into_iter().filter(|c| c.iter().any(|w| *w != 0.0)).count();
                let all = head.dimensions();
                line!(out, "{nonzero} of {of} weights are not 0, in {columns} of {all} columns");
            }
        }
    })?;
    Ok(ExitCode::SUCCESS)
}
