//! Residual networks, version 1.5: post-activation, stride on the 3x3 of a bottleneck, projection shortcut where the
//! shape changes. Names and parameters are torchvision's, so that its weights load as they are.
//! Source: He et al. 2016 (arXiv 1512.03385); small-image stem as in the CIFAR experiments of SimCLR (appendix B.9).

use crate::encoder::{EncoderConfig, Pool, Stem};
use crate::error::{Error, Result};
use crate::graph::{Graph, GraphBuilder, NodeId, Op, Shape};

/// A residual network's plan.
struct Plan {
    /// Bottleneck blocks (1x1, 3x3, 1x1) or basic blocks (3x3, 3x3).
    bottleneck: bool,
    /// Blocks of each stage.
    blocks: Vec<usize>,
}

/// Names that [`build`] knows.
pub const NAMES: [&str; 3] = ["resnet18", "resnet34", "resnet50"];

/// Builds the network that `config` names, up to its pooled features.
///
/// # Errors
/// [`Error::Unknown`] for the name, [`Error::Setting`] for a setting out of range, [`Error::Graph`] where the picture
/// is too small for the network.
pub fn build(config: &EncoderConfig) -> Result<Graph> {
    let mut plan = match config.name.as_str() {
        "resnet18" => Plan { bottleneck: false, blocks: vec![2, 2, 2, 2] },
        "resnet34" => Plan { bottleneck: false, blocks: vec![3, 4, 6, 3] },
        "resnet50" => Plan { bottleneck: true, blocks: vec![3, 4, 6, 3] },
        name => {
            let known = NAMES.map(String::from).to_vec();
            return Err(Error::Unknown { what: "encoder", name: name.into(), known });
        }
    };
    if let Some(blocks) = &config.blocks {
        plan.blocks = blocks.clone();
    }
    let wrong = |key: &str, why: String| Error::Setting { key: format!("encoder.{key}"), why };
    let stages = plan.blocks.len();
    if stages == 0 || stages > 4 || plan.blocks.contains(&0) {
        return Err(wrong("blocks", format!("{:?}: 1 to 4 stages of at least one block each", plan.blocks)));
    }
    for (key, value, limit) in
        [("width", config.width, 4096), ("channels", config.channels, 1024), ("image_size", config.image_size, 8192)]
    {
        if value == 0 || value > limit {
            return Err(wrong(key, format!("{value} is not in 1 to {limit}")));
        }
    }
    let read = config.read.clone().unwrap_or_else(|| vec![stages]);
    if read.is_empty() || read.iter().any(|&s| s == 0 || s > stages) || read.windows(2).any(|w| w[0] >= w[1]) {
        return Err(wrong("read", format!("{read:?}: ascending stages from 1 to {stages}")));
    }

    let size = config.image_size;
    let mut b = GraphBuilder::new(Shape::Map { channels: config.channels, height: size, width: size });
    let (kernel, stride) = match config.stem {
        Stem::Standard => (7, 2),
        Stem::Small => (3, 1),
        Stem::SmallStride2 => (3, 2),
    };
    let input = b.input();
    let x = b.add("conv1", conv(config.channels, config.width, kernel, stride), &[input])?;
    let x = b.add("bn1", batch_norm(config.width), &[x])?;
    let mut x = b.add("relu", Op::Relu, &[x])?;
    if config.stem == Stem::Standard {
        x = b.add("maxpool", Op::MaxPool { kernel: [3, 3], stride: [2, 2], padding: [1, 1] }, &[x])?;
    }

    let expansion = if plan.bottleneck { 4 } else { 1 };
    let mut channels = config.width;
    let mut pooled = Vec::new();
    for (index, &blocks) in plan.blocks.iter().enumerate() {
        let stage = index + 1;
        let width = config.width << index;
        for block in 0..blocks {
            let stride = if index > 0 && block == 0 { 2 } else { 1 };
            let name = format!("layer{stage}.{block}");
            x = residual(&mut b, &name, x, channels, width, stride, plan.bottleneck)?;
            channels = width * expansion;
        }
        if read.contains(&stage) {
            let name = if read.len() == 1 { String::new() } else { stage.to_string() };
            pooled.push(pool(&mut b, &name, config.pool, x)?);
        }
        if read.last() == Some(&stage) {
            break;
        }
    }
    let output = match pooled[..] {
        [only] => only,
        _ => b.add("concat", Op::Concat, &pooled)?,
    };
    Ok(b.finish(output))
}

/// One residual block.
fn residual(
    b: &mut GraphBuilder,
    name: &str,
    input: NodeId,
    channels: usize,
    width: usize,
    stride: usize,
    bottleneck: bool,
) -> Result<NodeId> {
    // (kernel, channels written, stride) of each convolution.
    let layers = if bottleneck {
        vec![(1, width, 1), (3, width, stride), (1, 4 * width, 1)]
    } else {
        vec![(3, width, stride), (3, width, 1)]
    };
    let last = layers.len();
    let mut x = input;
    let mut read = channels;
    for (i, (kernel, write, stride)) in layers.into_iter().enumerate() {
        let i = i + 1;
        x = b.add(format!("{name}.conv{i}"), conv(read, write, kernel, stride), &[x])?;
        x = b.add(format!("{name}.bn{i}"), batch_norm(write), &[x])?;
        if i < last {
            x = b.add(format!("{name}.relu{i}"), Op::Relu, &[x])?;
        }
        read = write;
    }
    let mut shortcut = input;
    if stride != 1 || channels != read {
        shortcut = b.add(format!("{name}.downsample.0"), conv(channels, read, 1, stride), &[shortcut])?;
        shortcut = b.add(format!("{name}.downsample.1"), batch_norm(read), &[shortcut])?;
    }
    let sum = b.add(format!("{name}.add"), Op::Add, &[x, shortcut])?;
    b.add(format!("{name}.relu"), Op::Relu, &[sum])
}

/// Pools a feature map to a vector.
fn pool(b: &mut GraphBuilder, suffix: &str, pool: Pool, x: NodeId) -> Result<NodeId> {
    let name = format!("avgpool{suffix}");
    match pool {
        Pool::Average => b.add(name, Op::GlobalAvgPool, &[x]),
        Pool::Max => b.add(format!("maxpool_last{suffix}"), Op::GlobalMaxPool, &[x]),
        Pool::Grid(n) => {
            let Shape::Map { height, width, .. } = b.shape(x) else {
                return Err(Error::Graph { node: name, why: "reads a feature map".into() });
            };
            let windows = |size: usize| {
                adaptive_windows(size, n).ok_or_else(|| {
                    let fits: Vec<String> =
                        (1..=size).filter(|&n| adaptive_windows(size, n).is_some()).map(|n| n.to_string()).collect();
                    let why = format!("grid{n} does not divide a feature map of {size} pixels; {} do", fits.join(", "));
                    Error::Setting { key: "encoder.pool".into(), why }
                })
            };
            let ([kh, sh, ph], [kw, sw, pw]) = (windows(height)?, windows(width)?);
            let (kernel, stride, padding) = ([kh, kw], [sh, sw], [ph, pw]);
            let x = b.add(name, Op::AvgPool { kernel, stride, padding }, &[x])?;
            b.add(format!("flatten{suffix}"), Op::Flatten, &[x])
        }
    }
}

/// Kernel, stride and padding of the average pooling that has the windows of torch's adaptive pooling from `size` to
/// `n` (from `floor(i size / n)` to `ceil((i + 1) size / n)`), where there is one.
fn adaptive_windows(size: usize, n: usize) -> Option<[usize; 3]> {
    if n == 0 || n > size {
        return None;
    }
    let wanted: Vec<_> = (0..n).map(|i| (i * size / n, ((i + 1) * size).div_ceil(n))).collect();
    let candidates = (1..=size).flat_map(|kernel| {
        (1..=size).flat_map(move |stride| (0..=kernel / 2).map(move |padding| [kernel, stride, padding]))
    });
    candidates.into_iter().find(|&[kernel, stride, padding]| {
        let room = (size + 2 * padding).checked_sub(kernel);
        let window =
            |i: usize| ((i * stride).saturating_sub(padding), (i * stride + kernel).saturating_sub(padding).min(size));
        room.is_some_and(|room| room / stride + 1 == n) && (0..n).all(|i| window(i) == wanted[i])
    })
}

/// A square convolution without bias that keeps the size at stride 1.
fn conv(in_channels: usize, out_channels: usize, kernel: usize, stride: usize) -> Op {
    Op::Conv2d {
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [kernel / 2; 2],
        groups: 1,
        bias: false,
    }
}

/// BatchNorm with torch's defaults, which are also DeepMind's (decay 0.9, epsilon 1e-5).
pub(crate) fn batch_norm(channels: usize) -> Op {
    Op::BatchNorm { channels, eps: 1e-5, momentum: 0.1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_pooling_has_the_windows_of_adaptive_pooling_or_is_refused() {
        assert_eq!(adaptive_windows(7, 4), Some([3, 2, 1]));
        assert_eq!(adaptive_windows(7, 2), Some([4, 3, 0]));
        assert_eq!(adaptive_windows(8, 2), Some([4, 4, 0]));
        assert_eq!(adaptive_windows(7, 1), Some([7, 1, 0]));
        assert_eq!(adaptive_windows(7, 5), None);
        assert_eq!(adaptive_windows(7, 8), None);
    }
}
