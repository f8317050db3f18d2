//! `byol linear-eval --protocol paper`: linear layers on a frozen encoder, by SGD on random crops and flips.

use crate::Done;
use crate::export;
use crate::finetune::{LearningArgs, held_out, judge, mask};
use crate::output::Output;
use crate::source::{PairArgs, RuntimeArgs, labelled};
use byol_train::byol::Predefined;
use byol_train::classifier::{Classifier, Recipe};
use byol_train::device::Choice;
use serde_json::json;
use std::process::ExitCode;

/// The paper's learning rates (appendix C.1), for 256 pictures a step.
const RATES: [f64; 5] = [0.4, 0.3, 0.2, 0.1, 0.05];

/// Flags of the protocol `paper`.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Protocol paper")]
pub struct PaperArgs {
    /// Passes over the training pictures; 80 by default, as in the paper.
    #[arg(long, requires = "protocol", value_name = "N")]
    epochs: Option<f64>,
    /// Learning rates to choose from, on held-out training pictures; the paper's 0.4,0.3,0.2,0.1,0.05 by default.
    #[arg(long, requires = "protocol", value_delimiter = ',', value_name = "RATE,..")]
    learning_rates: Vec<f64>,
    /// Pictures a step, at most; 256 by default, 1024 in the paper.
    #[arg(long, requires = "protocol", value_name = "N")]
    batch_size: Option<usize>,
    /// Least part of a picture's area that a random crop keeps; 0.08 as in the paper, and 0.3 for at most 64 pixels.
    #[arg(long, requires = "protocol", value_name = "PART")]
    crop_area: Option<f64>,
    /// auto (the default), cpu, cuda or cuda:N.
    #[arg(long, requires = "protocol")]
    device: Option<Choice>,
}

impl PaperArgs {
    /// Whether any of them was given.
    pub fn given(&self) -> bool {
        let Self { epochs, learning_rates, batch_size, crop_area, device } = self;
        epochs.is_some()
            || !learning_rates.is_empty()
            || batch_size.is_some()
            || crop_area.is_some()
            || device.is_some()
    }
}

/// Chooses the rate on held-out training pictures, learns from all with it, and judges on the test pictures.
pub fn run(arguments: &PaperArgs, pair: &PairArgs, bootstrap: usize, seed: u64, output: &Output) -> Done {
    let (Some(run), Some(data)) = (&pair.encoder, &pair.data) else {
        return Err("the protocol paper needs a run's folder and --data".into());
    };
    if pair.runtime != (RuntimeArgs { threads: pair.runtime.threads, ..RuntimeArgs::default() }) {
        let why = "the protocol paper does not run ONNX Runtime, which they are for";
        return Err(format!("--onnxruntime, --provider, --batch and --strict have no meaning: {why}").into());
    }
    let learning = LearningArgs {
        batch_size: arguments.batch_size.unwrap_or(256),
        crop_area: arguments.crop_area,
        bootstrap,
        seed,
        device: arguments.device.unwrap_or_default(),
        threads: pair.runtime.threads,
    };
    if run.extension().is_some_and(|e| e == "onnx") {
        let why = "the protocol paper needs the run's folder or its encoder.safetensors: an encoder.onnx has its \
                   BatchNorm folded and cannot be run on tensors of crops";
        return Err(format!("{}: {why}", run.display()).into());
    }
    let (_, graph, contract, weights, _) = export::of_run(run, false)?;
    let encoder = Predefined { graph, weights };
    let (train, test) = labelled(data, pair.test_data.as_deref())?;
    let recipe = Recipe { epochs: arguments.epochs.unwrap_or(80.0), ..learning.recipe(contract.height, output)? };
    let held_out = held_out(train.labels().unwrap_or_default(), recipe.seed);
    let is_held_out = mask(&held_out, train.len());
    let rest: Vec<usize> = (0..train.len()).filter(|&row| !is_held_out[row]).collect();
    let rates = if arguments.learning_rates.is_empty() { RATES.to_vec() } else { arguments.learning_rates.clone() };
    let learn = |data: &byol_model::dataset::Dataset, rates: &[f64]| {
        let bar = output.progress(0, "steps");
        let mut progress = |step: usize, steps: usize, loss: f64| {
            bar.set_length(steps as u64);
            bar.set_position(step as u64);
            bar.set_message(format!("loss {loss:.4}"));
        };
        let learned = Classifier::linear(&encoder, &contract, data, &recipe, rates, &mut progress);
        bar.finish_and_clear();
        learned
    };
    let validation = train.select(&held_out);
    let mut sweep = Vec::new();
    for (rate, classifier) in rates.iter().zip(learn(&train.select(&rest), &rates)?) {
        let top1 = classifier.accuracy(&validation)?;
        output.say(&format!("learning rate {rate}: {:.2}% of {} held out", 100.0 * top1, validation.len()));
        sweep.push((*rate, top1));
    }
    let best = sweep.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best });
    let (rate, held_out_top1) = best.ok_or("--learning-rates is empty")?;
    let classifier = learn(&train, &[rate])?.pop().ok_or("no linear layer was learned")?;
    let judged = judge(&classifier, &train, &test, &learning)?;
    let e = &judged.evaluation;
    let result = json!({
        "protocol": "paper", "top1": e.top1, "top5": e.top5, "mean_per_class": e.balanced,
        "intervals": judged.intervals, "learning_rate": rate, "held_out_top1": held_out_top1,
        "sweep": sweep.iter().map(|(r, t)| json!({ "learning_rate": r, "held_out_top1": t })).collect::<Vec<_>>(),
        "epochs": recipe.epochs, "batch_size": recipe.batch(train.len()), "train": train.len(), "evaluation": e,
    });
    output.result(&result, |out| {
        judged.print(out, &format!("linear, protocol paper, {} epochs at {rate}", recipe.epochs));
    })?;
    Ok(ExitCode::SUCCESS)
}
