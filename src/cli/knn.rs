//! `byol knn`: how well nearest neighbours classify.

use crate::Done;
use crate::output::{Output, line};
use crate::source::PairArgs;
use byol_serve::knn::{KnnOptions, knn};
use byol_serve::metrics;
use serde_json::json;
use std::process::ExitCode;

/// Judge features by their nearest neighbours: cosine similarity, no training.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol knn run/encoder.onnx --data fashion-mnist/
  byol knn pixels --data fashion-mnist/                          the baseline
  byol knn run/encoder.onnx --data photos/ -k 200 --temperature 0.1
      the weighted vote of the field's benchmarks")]
pub struct Arguments {
    #[command(flatten)]
    pair: PairArgs,
    /// Neighbours that vote.
    #[arg(short, default_value_t = 20)]
    k: usize,
    /// Weigh votes by exp(similarity / temperature); without it each neighbour has one vote.
    #[arg(long)]
    temperature: Option<f32>,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let (train, test) = arguments.pair.load(output)?;
    let options = KnnOptions { k: arguments.k, temperature: arguments.temperature };
    let predicted = knn(train.values.view(), train.labels()?, test.values.view(), &options)?;
    let top1 = metrics::accuracy(&predicted, test.labels()?);
    let right = (top1 * test.len() as f64).round() as u64;
    let interval = metrics::wilson(right, test.len() as u64);
    let result = json!({
        "top1": top1, "interval": interval, "k": arguments.k, "temperature": arguments.temperature,
        "distance": "cosine", "train": train.len(), "test": test.len(),
    });
    output.result(&result, |out| {
        let vote = arguments.temperature.map_or("majority vote".into(), |t| format!("votes weighted, temperature {t}"));
        line!(
            out,
            "{}-NN top-1 {:.2}% (95% interval {:.2} to {:.2}), cosine, {vote}, {} training and {} test pictures",
            arguments.k,
            100.0 * top1,
            100.0 * interval.0,
            100.0 * interval.1,
            train.len(),
            test.len()
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
