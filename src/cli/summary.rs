//! `byol summary`: an encoder's layers, shapes, parameters and multiply-adds.

use crate::Done;
use crate::encoder_args::EncoderArgs;
use crate::output::{Output, line};
use byol_model::graph::{Graph, Op, Parameter};
use serde::Serialize;
use std::process::ExitCode;

/// Print an encoder's layers with shapes, parameters and multiply-adds.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  byol summary --encoder resnet50
  byol summary --encoder resnet18 --image-size 28 --channels 1 --width 16
  byol summary --encoder resnet200 --width 2x
  byol summary --encoder vit_small_patch4 --image-size 32 --pool average
  byol summary --encoder efficientnet_b0 --every
      activations, additions and reshapes too
  byol summary --encoder my.onnx
  byol summary --encoder resnet18 --json | jq .multiply_adds")]
pub struct Arguments {
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Print every node, also those that have neither parameters nor multiply-adds.
    #[arg(long)]
    every: bool,
}

#[derive(Serialize)]
struct Summary {
    encoder: String,
    input: String,
    dimension: usize,
    /// Learned values.
    parameters: usize,
    /// Running statistics.
    buffers: usize,
    multiply_adds: u64,
    /// All outputs of one picture together, float32.
    activation_bytes: u64,
    /// Parameters and running statistics, float32.
    weight_bytes: u64,
    layers: Vec<Layer>,
}

#[derive(Serialize)]
struct Layer {
    name: String,
    operator: &'static str,
    /// What else the operator says of itself: kernel, stride, groups.
    detail: String,
    output: String,
    parameters: usize,
    multiply_adds: u64,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let config = arguments.encoder.config()?;
    let graph = config.build()?;
    let summary = summary(config.name, &graph);
    output.result(&summary, |out| {
        let shown: Vec<&Layer> = summary.layers.iter().filter(|l| arguments.every || l.counts()).collect();
        let widest = |text: fn(&Layer) -> &str, title: &str| {
            shown.iter().map(|l| text(l).chars().count()).chain([title.len()]).max().unwrap_or(0)
        };
        let name = widest(|l| &l.name, "layer");
        let operator = widest(|l| l.operator, "operator");
        let detail = widest(|l| &l.detail, "");
        let shape = widest(|l| &l.output, "output");
        let title = format!(
            "{:name$}  {:operator$}  {:detail$}  {:>shape$}  {:>12}  {:>14}",
            "layer", "operator", "", "output", "parameters", "multiply-adds"
        );
        let rule = "-".repeat(title.chars().count());
        line!(out, "{title}");
        line!(out, "{rule}");
        for l in &shown {
            line!(
                out,
                "{:name$}  {:operator$}  {:detail$}  {:>shape$}  {:>12}  {:>14}",
                l.name,
                l.operator,
                l.detail,
                l.output,
                grouped_or_dash(l.parameters as u64),
                grouped_or_dash(l.multiply_adds)
            );
        }
        line!(out, "{rule}");
        line!(out, "{}: {} to {} features", summary.encoder, summary.input, summary.dimension);
        line!(out, "Parameters       {:>16}", grouped(summary.parameters as u64));
        line!(out, "Running values   {:>16}", grouped(summary.buffers as u64));
        line!(
            out,
            "Multiply-adds    {:>16}   ({:.2} G)",
            grouped(summary.multiply_adds),
            summary.multiply_adds as f64 / 1e9
        );
        line!(out, "Weights          {:>16}", mib(summary.weight_bytes));
        line!(out, "All activations  {:>16}   of one picture", mib(summary.activation_bytes));
    })?;
    Ok(ExitCode::SUCCESS)
}

fn summary(encoder: String, graph: &Graph) -> Summary {
    let layers = graph.nodes().iter().map(|node| Layer {
        name: node.name.clone(),
        operator: node.op.name(),
        detail: detail(&node.op),
        output: node.shape.to_string(),
        parameters: node.parameters().iter().filter(|p| p.trainable).map(Parameter::len).sum(),
        multiply_adds: graph.multiply_adds_of(node),
    });
    Summary {
        encoder,
        input: graph.input_shape().to_string(),
        dimension: graph.dimension(),
        parameters: graph.parameter_count(),
        buffers: graph.buffer_count(),
        multiply_adds: graph.multiply_adds(),
        activation_bytes: 4 * graph.nodes().iter().map(|node| node.shape.len() as u64).sum::<u64>(),
        weight_bytes: 4 * (graph.parameter_count() + graph.buffer_count()) as u64,
        layers: layers.collect(),
    }
}

impl Layer {
    /// Whether it has a part in the totals, or is the input.
    fn counts(&self) -> bool {
        self.parameters > 0 || self.multiply_adds > 0 || self.operator == "Input" || self.operator.contains("Pool")
    }
}

/// Kernel, stride and groups of a convolution or pooling, where they are not 1.
fn detail(op: &Op) -> String {
    let window = |kernel: &[usize; 2], stride: &[usize; 2], groups: usize| {
        let mut text = format!("{}x{}", kernel[0], kernel[1]);
        if *stride != [1, 1] {
            text += &format!(" /{}", stride[0]);
        }
        if groups != 1 {
            text += &format!(" in {groups} groups");
        }
        text
    };
    match op {
        Op::Conv2d { kernel, stride, groups, .. } => window(kernel, stride, *groups),
        Op::MaxPool { kernel, stride, .. } | Op::AvgPool { kernel, stride, .. } => window(kernel, stride, 1),
        Op::GroupNorm { groups, .. } => format!("{groups} groups"),
        Op::Input
        | Op::BatchNorm { .. }
        | Op::Linear { .. }
        | Op::Relu
        | Op::GlobalAvgPool
        | Op::GlobalMaxPool
        | Op::Flatten
        | Op::Add
        | Op::Concat
        | Op::Tensor(_) => String::new(),
    }
}

/// A number with a comma between thousands.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn grouped_or_dash(n: u64) -> String {
    if n == 0 { "-".into() } else { grouped(n) }
}

fn mib(bytes: u64) -> String {
    format!("{:.2} MiB", bytes as f64 / f64::from(1 << 20))
}
