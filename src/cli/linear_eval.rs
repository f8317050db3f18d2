//! `byol linear-eval`: how well a linear head on the features classifies.

use crate::Done;
use crate::output::{Output, line};
use crate::source::{self, PairArgs};
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::metrics::Evaluation;
use byol_serve::path::{self, PathPoint};
use byol_serve::solver::FitOptions;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde_json::json;
use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

/// Judge features by a linear head fitted to them (paper, section 4.1 and appendix D).
#[derive(clap::Args)]
#[command(after_help = "\
Without --l2, the penalty is chosen among values from 1 to 1e-4 on a tenth of the training rows, then all are fitted. \
With --labels-per-class, so many rows of each class are drawn --repeats times and the mean is reported; the penalty is \
then --l2, or 1e-2. \
--protocol paper is the paper's own (appendix C.1): SGD with Nesterov momentum on random crops and flips, the encoder \
frozen with its BatchNorm statistics, learning rates swept on held-out training pictures. --protocol transfer is its \
protocol for other data sets (appendix D.2): L2-penalised regression, 45 penalties, refitted on all rows.

Examples:
  byol linear-eval run/encoder.onnx --data fashion-mnist/
  byol linear-eval run/encoder.onnx --data fashion-mnist/ --labels-per-class 10
  byol linear-eval run/ --data fashion-mnist/ --protocol paper
  byol linear-eval pixels --data fashion-mnist/                  the baseline
  byol linear-eval run/encoder.onnx --data flowers/ --protocol transfer --raw
  byol linear-eval --features X.npy --labels y.npy --test-features Z.npy --test-labels w.npy --l2 1e-3")]
pub struct Arguments {
    #[command(flatten)]
    pair: PairArgs,
    /// Another way of judging than a certified optimum on features.
    #[arg(long, value_enum, value_name = "NAME", conflicts_with_all = ["l2", "labels_per_class"])]
    protocol: Option<Protocol>,
    #[cfg(feature = "train")]
    #[command(flatten)]
    paper: crate::linear_paper::PaperArgs,
    /// L2 penalty per example; chosen on held-out rows by default.
    #[arg(long)]
    l2: Option<f64>,
    /// Penalise the features as they are, not as if each had standard deviation 1.
    #[arg(long)]
    raw: bool,
    /// Use only so many labels of each class.
    #[arg(long, value_name = "N")]
    labels_per_class: Option<usize>,
    /// How often such rows are drawn.
    #[arg(long, default_value_t = 10, requires = "labels_per_class")]
    repeats: u64,
    /// Seed of the draws.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// With the transfer protocol: validation features; without them a tenth of each class is held out.
    #[arg(long, value_name = "FILE", requires = "features")]
    validation_features: Option<PathBuf>,
    /// Labels of the validation features (.npy), if their file has none.
    #[arg(long, value_name = "FILE", requires = "validation_features")]
    validation_labels: Option<PathBuf>,
    /// With the transfer protocol: end the path once so many penalties (6 by default) have not lowered the validation
    /// loss; 0 tries all 45, of which the weakest fit noise and cost most.
    #[arg(long, value_name = "N")]
    patience: Option<usize>,
    /// With a protocol: sets of test rows drawn for the 95% intervals, at least 40.
    #[arg(long, value_name = "SETS", default_value_t = 1000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(40..))]
    bootstrap: usize,
}

/// Ways of judging, as published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Protocol {
    /// SGD, 80 epochs, crops and flips, rates swept on held-out pictures. Needs a program built with training.
    Paper,
    /// 45 penalties, of 1e5 to 1e-6 beside the sum of the losses, judged on validation rows (appendix D.2); the best is
    /// fitted to training and validation rows together.
    Transfer,
}

/// Penalty where too few rows are left to choose one.
const FEW_L2: f64 = 1e-2;

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let chosen = arguments.validation_features.is_some() || arguments.patience.is_some();
    if chosen && arguments.protocol != Some(Protocol::Transfer) {
        return Err("--validation-features and --patience are for --protocol transfer".into());
    }
    #[cfg(feature = "train")]
    if arguments.paper.given() && arguments.protocol != Some(Protocol::Paper) {
        let flags = "--epochs, --learning-rates, --batch-size, --crop-area and --device";
        return Err(format!("{flags} are for --protocol paper").into());
    }
    match arguments.protocol {
        Some(Protocol::Paper) if arguments.raw => {
            return Err("--raw has no meaning with --protocol paper, which has no penalty".into());
        }
        #[cfg(feature = "train")]
        Some(Protocol::Paper) => {
            let Arguments { pair, paper, bootstrap, seed, .. } = arguments;
            return crate::linear_paper::run(paper, pair, *bootstrap, *seed, output);
        }
        #[cfg(not(feature = "train"))]
        Some(Protocol::Paper) => {
            return Err("--protocol paper needs training: build with `--features train`".into());
        }
        Some(Protocol::Transfer) | None => {}
    }
    let (train, test) = arguments.pair.load(output)?;
    let options =
        FitOptions { standardize: !arguments.raw, threads: arguments.pair.runtime.threads, ..FitOptions::default() };
    if arguments.protocol == Some(Protocol::Transfer) {
        return transfer(arguments, &train, &test, &options, output);
    }
    if let Some(per_class) = arguments.labels_per_class {
        let options = FitOptions { l2: arguments.l2.unwrap_or(FEW_L2), ..options };
        return few(arguments, per_class, &train, &test, &options, output);
    }
    let l2 = match arguments.l2 {
        Some(l2) => l2,
        None => choose_l2(&train, &options, arguments.seed, output)?,
    };
    let head = Head::fit(&train, &FitOptions { l2, ..options }, &Cancel::new(), None)?;
    let evaluation = head.evaluate(&test)?;
    let fit = head.training.as_ref().map(|t| &t.fit);
    let result = json!({
        "top1": evaluation.top1, "top5": evaluation.top5, "l2": l2, "standardize": !arguments.raw,
        "train": train.len(), "fit": fit, "evaluation": evaluation,
    });
    output.result(&result, |out| print(out, &evaluation, l2, train.len()))?;
    Ok(ExitCode::SUCCESS)
}

fn print(out: &mut String, evaluation: &Evaluation, l2: f64, train: usize) {
    line!(
        out,
        "linear top-1 {:.2}% (95% interval {:.2} to {:.2}), top-5 {:.2}%, l2 {l2:e}, {train} training and {} test rows",
        100.0 * evaluation.top1,
        100.0 * evaluation.interval.0,
        100.0 * evaluation.interval.1,
        100.0 * evaluation.top5,
        evaluation.examples
    );
    per_class(out, evaluation);
}

/// A line for each class.
pub fn per_class(out: &mut String, evaluation: &Evaluation) {
    for class in &evaluation.per_class {
        line!(
            out,
            "  {:<20} {:>6} rows  precision {:>6.2}%  recall {:>6.2}%",
            class.label,
            class.examples,
            100.0 * class.precision,
            100.0 * class.recall
        );
    }
}

/// The penalty that does best on a tenth of the rows, held out.
fn choose_l2(train: &Features, options: &FitOptions, seed: u64, output: &Output) -> Result<f64, Box<dyn Error>> {
    let mut rows: Vec<usize> = (0..train.len()).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    let (held_out, rest) = rows.split_at((train.len() / 10).max(1));
    let (held_out, rest) = (train.select(held_out), train.select(rest));
    let values: Vec<f64> = (0..9).map(|i| 10f64.powf(-0.5 * f64::from(i))).collect();
    let bar = output.progress(values.len() as u64, "penalties");
    let mut progress = |point: &PathPoint| {
        bar.inc(1);
        bar.set_message(format!("l2 {:.1e}: {:.2}%", point.fit.l2, 100.0 * point.accuracy));
    };
    let options = FitOptions { tolerance: 1e-4, ..options.clone() };
    let path = path::fit_path(
        rest.values.view(),
        rest.labels()?,
        held_out.values.view(),
        held_out.labels()?,
        train.class_count(),
        &values,
        Some(2),
        &options,
        &Cancel::new(),
        Some(&mut progress),
    )?;
    bar.finish_and_clear();
    Ok(path.points[path.best].fit.l2)
}

/// The paper's protocol for transfer.
fn transfer(arguments: &Arguments, train: &Features, test: &Features, options: &FitOptions, output: &Output) -> Done {
    let (rest, validation, from) = match &arguments.validation_features {
        Some(file) => {
            let validation = source::load(file, arguments.validation_labels.as_deref())?;
            if validation.classes.is_some() && validation.classes != train.classes {
                return Err(format!("{}: its classes are not those of the training features", file.display()).into());
            }
            (train.clone(), validation, "given")
        }
        None => {
            let fold = path::stratified_folds(train.labels()?, 10, arguments.seed);
            let (held_out, rest): (Vec<usize>, Vec<usize>) = (0..train.len()).partition(|&row| fold[row] == 0);
            (train.select(&rest), train.select(&held_out), "a tenth of each class, held out")
        }
    };
    let values = path::paper_path(rest.len());
    let bar = output.progress(values.len() as u64, "penalties");
    let mut progress = |point: &PathPoint| {
        bar.inc(1);
        let gap = point.fit.gap.unwrap_or(f64::INFINITY);
        bar.set_message(format!("l2 {:.1e}: {:.2}%, gap {gap:.0e}", point.fit.l2, 100.0 * point.accuracy));
    };
    let found = path::fit_path(
        rest.values.view(),
        rest.labels()?,
        validation.values.view(),
        validation.labels()?,
        train.class_count(),
        &values,
        Some(arguments.patience.unwrap_or(6)).filter(|patience| *patience > 0),
        options,
        &Cancel::new(),
        Some(&mut progress),
    )?;
    bar.finish_and_clear();
    let labels = (0..train.class_count()).map(|class| train.class_name(class)).collect();
    let narrow = (found.weights.mapv(|w| w as f32), found.bias.mapv(|b| b as f32));
    let head = Head::from_parts(narrow.0, narrow.1, labels)?;
    let evaluation = head.evaluate(test)?;
    let intervals = head.bootstrap(test, arguments.bootstrap, arguments.seed)?;
    let l2 = found.points[found.best].fit.l2;
    let lambda = l2 * rest.len() as f64;
    let result = json!({
        "protocol": "transfer", "top1": evaluation.top1, "top5": evaluation.top5, "mean_per_class": evaluation.balanced,
        "bootstrap": intervals, "lambda": lambda, "l2": l2, "standardize": options.standardize,
        "train": rest.len(), "validation": validation.len(), "validation_from": from, "path": found.points,
        "best": found.best, "refit": found.refit, "seconds": found.seconds, "evaluation": evaluation,
    });
    output.result(&result, |out| {
        let point = &found.points[found.best];
        let figures = [
            ("top-1", evaluation.top1, intervals.top1),
            ("top-5", evaluation.top5, intervals.top5),
            ("mean per class", evaluation.balanced, intervals.balanced),
        ];
        for (name, value, (low, high)) in figures {
            line!(
                out,
                "{name} {:.2}% (95% interval {:.2} to {:.2}, bootstrap)",
                100.0 * value,
                100.0 * low,
                100.0 * high
            );
        }
        line!(
            out,
            "lambda {lambda:.3e} (l2 {l2:.3e} per example) of {} tried, {:.2}% of {} validation rows right ({from}); refitted \
             to {} rows; {} test rows; {:.1} s",
            found.points.len(),
            100.0 * point.accuracy,
            validation.len(),
            rest.len() + validation.len(),
            evaluation.examples,
            found.seconds
        );
        per_class(out, &evaluation);
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The mean over draws of a few labels per class.
fn few(
    arguments: &Arguments,
    per_class: usize,
    train: &Features,
    test: &Features,
    options: &FitOptions,
    output: &Output,
) -> Done {
    let labels = train.labels()?;
    let classes = train.class_count();
    let mut top1 = Vec::new();
    for repeat in 0..arguments.repeats.max(1) {
        let mut rows: Vec<usize> = (0..train.len()).collect();
        rows.shuffle(&mut ChaCha8Rng::seed_from_u64(arguments.seed.wrapping_add(repeat)));
        let mut taken = vec![0; classes];
        rows.retain(|&row| {
            let class = labels[row] as usize;
            taken[class] += 1;
            taken[class] <= per_class
        });
        if let Some(class) = taken.iter().position(|&n| n < per_class) {
            let name = train.class_name(class);
            return Err(format!("class {name:?} has {} rows, {per_class} per class are asked", taken[class]).into());
        }
        let head = Head::fit(&train.select(&rows), options, &Cancel::new(), None)?;
        top1.push(head.evaluate(test)?.top1);
    }
    let n = top1.len() as f64;
    let mean = top1.iter().sum::<f64>() / n;
    let deviation = (top1.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / n).sqrt();
    let result = json!({
        "top1": mean, "deviation": deviation, "repeats": top1, "labels_per_class": per_class, "l2": options.l2,
        "standardize": options.standardize,
    });
    output.result(&result, |out| {
        line!(
            out,
            "linear top-1 {:.2}% with {per_class} labels per class (mean of {} draws, deviation {:.2} points)",
            100.0 * mean,
            top1.len(),
            100.0 * deviation
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
