//! `byol summary`: an encoder's layers, shapes, parameters and multiply-adds.

use crate::Done;
use crate::encoder_args::EncoderArgs;
use crate::output::{Output, line};
use byol_model::graph::Parameter;
use serde::Serialize;
use std::process::ExitCode;

/// Print an encoder's layers with shapes, parameters and multiply-adds.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol summary --encoder resnet50
  byol summary --encoder resnet18 --image-size 28 --channels 1 --width 16
  byol summary --encoder my.onnx
  byol summary --encoder resnet18 --json | jq .multiply_adds")]
pub struct Arguments {
    #[command(flatten)]
    encoder: EncoderArgs,
}

#[derive(Serialize)]
struct Summary {
    encoder: String,
    input: String,
    dimension: usize,
    parameters: usize,
    multiply_adds: u64,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    operator: &'static str,
    output: String,
    parameters: usize,
    multiply_adds: u64,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let config = arguments.encoder.config()?;
    let graph = config.build()?;
    let layers = graph.nodes().iter().map(|node| Layer {
        name: node.name.clone(),
        operator: node.op.name(),
        output: node.shape.to_string(),
        parameters: node.parameters().iter().filter(|p| p.trainable).map(Parameter::len).sum(),
        multiply_adds: node.multiply_adds(),
    });
    let summary = Summary {
        encoder: config.name.clone(),
        input: graph.input_shape().to_string(),
        dimension: graph.dimension(),
        parameters: graph.parameter_count(),
        multiply_adds: graph.multiply_adds(),
        layers: layers.collect(),
    };
    output.result(&summary, |out| {
        line!(out, "{:<24} {:<14} {:>18} {:>12} {:>14}", "layer", "operator", "output", "parameters", "multiply-adds");
        for l in &summary.layers {
            line!(
                out,
                "{:<24} {:<14} {:>18} {:>12} {:>14}",
                l.name,
                l.operator,
                l.output,
                l.parameters,
                l.multiply_adds
            );
        }
        line!(
            out,
            "\n{}: {} to {} features, {} parameters, {} multiply-adds",
            summary.encoder,
            summary.input,
            summary.dimension,
            summary.parameters,
            summary.multiply_adds
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
