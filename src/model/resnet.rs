//! Residual networks, version 1.5: post-activation, stride on the 3x3 of a bottleneck, projection shortcut where the
//! shape changes. Names and parameters are torchvision's, so that its weights load as they are.
//!
//! Sources: He et al. 2016 (arXiv 1512.03385); small-image stem as in the CIFAR experiments of SimCLR (appendix B.9).
//! ResNet-200 has the blocks of DeepMind's and timm's. A wider network (`width` 128 is "2x") has every channel count
//! multiplied, as the BYOL paper's; torchvision's `wide_resnet` multiplies the inner ones only.

use crate::encoder::{EncoderConfig, Stem};
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Shape};
use crate::norm::Norm;
use crate::pool::pool;
use crate::zoo;

/// Names that [`build`] knows.
pub const NAMES: [&str; 6] = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "resnet200"];

/// Added to the variance.
const EPS: f64 = 1e-5;

/// Blocks of each stage, and whether they are bottlenecks (1x1, 3x3, 1x1) or basic blocks (3x3, 3x3).
pub(crate) fn published(name: &str) -> ([usize; 4], bool) {
    match name.trim_start_matches('x') {
        "resnet18" => ([2, 2, 2, 2], false),
        "resnet34" => ([3, 4, 6, 3], false),
        "resnet50" => ([3, 4, 6, 3], true),
        "resnet101" => ([3, 4, 23, 3], true),
        "resnet152" => ([3, 8, 36, 3], true),
        _ => ([3, 24, 36, 3], true),
    }
}

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
    let (kernel, stride) = match config.stem {
        Stem::Standard => (7, 2),
        Stem::Small => (3, 1),
        Stem::SmallStride2 => (3, 2),
    };
    let input = b.input();
    let x = b.add("conv1", norm.conv(config.channels, config.width, kernel, stride), &[input])?;
    let x = b.add("bn1", norm.op(config.width, EPS), &[x])?;
    let mut x = b.add("relu", Op::Relu, &[x])?;
    if config.stem == Stem::Standard {
        x = b.add("maxpool", Op::MaxPool { kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, &[x])?;
    }

    let output = stages(&mut b, config, &blocks, &read, x, bottleneck, |b, stage, block, x, of| {
        residual(b, &format!("layer{stage}.{block}"), x, norm, of, bottleneck)
    })?;
    Ok(b.finish(output))
}

/// What both kinds of residual network have behind their stems: stages of blocks, of which those that are read are pooled.
/// `residual` adds a block, given its stage (counted from 1), its number, and `[channels read, width, stride]`.
pub(crate) fn stages(
    b: &mut GraphBuilder,
    config: &EncoderConfig,
    blocks: &[usize],
    read: &[usize],
    stem: NodeId,
    bottleneck: bool,
    residual: impl Fn(&mut GraphBuilder, usize, usize, NodeId, [usize; 3]) -> Result<NodeId>,
) -> Result<NodeId> {
    let expansion = if bottleneck { 4 } else { 1 };
    let (mut x, mut channels) = (stem, config.width);
    let mut pooled = Vec::new();
    for (index, &blocks) in blocks.iter().enumerate() {
        let stage = index + 1;
        let width = config.width << index;
        for block in 0..blocks {
            let stride = if index > 0 && block == 0 { 2 } else { 1 };
            x = residual(b, stage, block, x, [channels, width, stride])?;
            channels = width * expansion;
        }
        if read.contains(&stage) {
            let name = if read.len() == 1 { String::new() } else { stage.to_string() };
            pooled.push(pool(b, &name, config.pool, x)?);
        }
        if read.last() == Some(&stage) {
            break;
        }
    }
    match pooled[..] {
        [only] => Ok(only),
        _ => b.add("concat", Op::Concat, &pooled),
    }
}

/// (kernel, channels written, stride) of each convolution of a block.
pub(crate) fn convolutions(width: usize, stride: usize, bottleneck: bool) -> Vec<(usize, usize, usize)> {
    if bottleneck {
        vec![(1, width, 1), (3, width, stride), (1, 4 * width, 1)]
    } else {
        vec![(3, width, stride), (3, width, 1)]
    }
}

/// One residual block, of `[channels read, width, stride]`.
fn residual(
    b: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    norm: Norm,
    [channels, width, stride]: [usize; 3],
    bottleneck: bool,
) -> Result<NodeId> {
    let layers = convolutions(width, stride, bottleneck);
    let last = layers.len();
    let mut x = input;
    let mut read = channels;
    for (i, (kernel, write, stride)) in layers.into_iter().enumerate() {
        let i = i + 1;
        x = b.add(format!("{name}.conv{i}"), norm.conv(read, write, kernel, stride), &[x])?;
        x = b.add(format!("{name}.bn{i}"), norm.op(write, EPS), &[x])?;
        if i < last {
            x = b.add(format!("{name}.relu{i}"), Op::Relu, &[x])?;
        }
        read = write;
    }
    let mut shortcut = input;
    if stride != 1 || channels != read {
        shortcut = b.add(format!("{name}.downsample.0"), norm.conv(channels, read, 1, stride), &[shortcut])?;
        shortcut = b.add(format!("{name}.downsample.1"), norm.op(read, EPS), &[shortcut])?;
    }
    let sum = b.add(format!("{name}.add"), Op::Add, &[x, shortcut])?;
    b.add(format!("{name}.relu"), Op::Relu, &[sum])
}
