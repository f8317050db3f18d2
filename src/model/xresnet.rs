//! fastai's residual networks: a stem of three convolutions, shortcuts that pool before they project, and blocks that
//! begin as the identity (the last normalisation of each starts at zero). Names and parameters are fastai's
//! `xresnet18(...)[:-3]`, so that its weights load as they are; they start as its `init_cnn` has it.
//!
//! Source: He et al. 2018, "Bag of tricks" (arXiv 1812.01187), and fastai 2. A wider network widens the stem too, which
//! fastai's `widen` does not. The small stems have a first stride of 1 or 2 and no pooling.

use crate::encoder::{EncoderConfig, Stem};
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use crate::norm::Norm;
use crate::resnet::{convolutions, published, stages};
use crate::zoo;

/// Names that [`build`] knows.
pub const NAMES: [&str; 3] = ["xresnet18", "xresnet34", "xresnet50"];

/// Added to the variance.
const EPS: f64 = 1e-5;

/// Builds the network, up to its pooled features.
///
/// # Errors
/// As [`zoo::build`].
pub(crate) fn build(config: &EncoderConfig) -> Result<Graph> {
    let (published, bottleneck) = published(&config.name);
    let blocks = zoo::blocks(config, &published)?;
    let read = zoo::read(config, blocks.len())?;
    let (size, norm) = (config.image_size, config.norm);
    let mut b = GraphBuilder::new(Shape::Map { channels: config.channels, height: size, width: size });
    let half = config.width.div_ceil(2);
    let first = if config.stem == Stem::Small { 1 } else { 2 };
    let mut x = b.input();
    let stem = [(config.channels, half, first), (half, half, 1), (half, config.width, 1)];
    for (i, (read, write, stride)) in stem.into_iter().enumerate() {
        x = layer(&mut b, &i.to_string(), x, norm, [read, write, 3, stride], Ending::Relu)?;
    }
    if config.stem == Stem::Standard {
        x = b.add("3", Op::MaxPool { kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, &[x])?;
    }

    let output = stages(&mut b, config, &blocks, &read, x, bottleneck, |b, stage, block, x, of| {
        residual(b, &format!("{}.{block}", stage + 3), x, norm, of, bottleneck)
    })?;
    Ok(b.finish(output))
}

/// What a layer ends with.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Normalisation and ReLU.
    Relu,
    /// Normalisation.
    Plain,
    /// Normalisation whose scale starts at zero.
    Zero,
}

/// fastai's `ConvLayer`: convolution `[read, write, kernel, stride]`, normalisation, perhaps ReLU.
fn layer(
    b: &mut GraphBuilder,
    name: &str,
    x: NodeId,
    norm: Norm,
    [read, write, kernel, stride]: [usize; 4],
    ending: Ending,
) -> Result<NodeId> {
    let x = b.add(format!("{name}.0"), norm.conv(read, write, kernel, stride), &[x])?;
    b.start(x, &[("weight", Init::KaimingFanIn { fan: read * kernel * kernel })]);
    let x = b.add(format!("{name}.1"), norm.op(write, EPS), &[x])?;
    match ending {
        Ending::Relu => return b.add(format!("{name}.2"), Op::Relu, &[x]),
        Ending::Zero => b.start(x, &[("weight", Init::Constant(0.0))]),
        Ending::Plain => {}
    }
    Ok(x)
}

/// fastai's `ResBlock`, of `[channels read, width, stride]`.
fn residual(
    b: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    norm: Norm,
    [channels, width, stride]: [usize; 3],
    bottleneck: bool,
) -> Result<NodeId> {
    let layers = convolutions(width, stride, bottleneck);
    let last = layers.len() - 1;
    let mut x = input;
    let mut read = channels;
    for (i, (kernel, write, stride)) in layers.into_iter().enumerate() {
        let ending = if i == last { Ending::Zero } else { Ending::Relu };
        x = layer(b, &format!("{name}.convpath.{i}"), x, norm, [read, write, kernel, stride], ending)?;
        read = write;
    }
    let mut shortcut = input;
    let mut place = 0;
    if stride != 1 {
        let (kernel, padding) = ([stride; 2], [0, 0]);
        let pooling = Op::AvgPool { kernel, stride: kernel, padding, ceil: true };
        shortcut = b.add(format!("{name}.idpath.0"), pooling, &[shortcut])?;
        place = 1;
    }
    if channels != read {
        let name = format!("{name}.idpath.{place}");
        shortcut = layer(b, &name, shortcut, norm, [channels, read, 1, 1], Ending::Plain)?;
    }
    let sum = b.add(format!("{name}.add"), Op::Add, &[x, shortcut])?;
    b.add(format!("{name}.act"), Op::Relu, &[sum])
}
