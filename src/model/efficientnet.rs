//! EfficientNets: inverted bottlenecks with depthwise convolutions and squeeze-and-excitation, scaled in depth and width.
//! Names and parameters are timm's, so that its weights load as they are; they start as timm's `_init_weight_goog` has it.
//! The `tf_` variants pad as TensorFlow does (`SAME`: the odd row and column below and to the right) and have its epsilon.
//!
//! Source: Tan & Le 2019 (arXiv 1905.11946). `width` is the stem's channels before the name's own factor: 64 doubles them
//! all. Stochastic depth and dropout are random, which byol's networks are not. The small stems have a first stride of 1
//! or 2; the standard one's is 2 already.

use crate::encoder::{EncoderConfig, Stem};
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use crate::norm::Norm;
use crate::pool::pool;
use crate::tensor_op::{Binary, Reduction, TensorOp, Unary};
use crate::zoo;

/// Names that [`build`] knows.
pub const NAMES: [&str; 8] = [
    "efficientnet_b0",
    "efficientnet_b1",
    "efficientnet_b2",
    "efficientnet_b3",
    "tf_efficientnet_b0",
    "tf_efficientnet_b1",
    "tf_efficientnet_b2",
    "tf_efficientnet_b3",
];

/// Blocks, kernel, stride, expansion and channels of each stage of B0 (paper, table 1).
const STAGES: [[usize; 5]; 7] = [
    [1, 3, 1, 1, 16],
    [2, 3, 2, 6, 24],
    [2, 5, 2, 6, 40],
    [3, 3, 2, 6, 80],
    [3, 5, 1, 6, 112],
    [4, 5, 2, 6, 192],
    [1, 3, 1, 6, 320],
];

/// The network under construction, and what its layers have in common.
struct Builder {
    b: GraphBuilder,
    norm: Norm,
    eps: f64,
    same: bool,
}

/// Builds the network, up to its pooled features.
///
/// # Errors
/// As [`zoo::build`].
pub(crate) fn build(config: &EncoderConfig) -> Result<Graph> {
    let same = config.name.starts_with("tf_");
    let (wider, deeper) = match config.name.chars().last() {
        Some('1') => (1.0, 1.1),
        Some('2') => (1.1, 1.2),
        Some('3') => (1.2, 1.4),
        _ => (1.0, 1.0),
    };
    let factor = wider * config.width as f64 / 32.0;
    let published = STAGES.map(|[blocks, ..]| (blocks as f64 * deeper).ceil() as usize);
    let blocks = zoo::blocks(config, &published)?;
    let size = config.image_size;
    let b = GraphBuilder::new(Shape::Map { channels: config.channels, height: size, width: size });
    let mut net = Builder { b, norm: config.norm, eps: if same { 1e-3 } else { 1e-5 }, same };

    let mut channels = scaled(32, factor);
    let stride = if config.stem == Stem::Small { 1 } else { 2 };
    let input = net.b.input();
    let x = net.conv("conv_stem", input, [config.channels, channels, 3, stride], 1)?;
    let mut x = net.norm("bn1", x, channels, true)?;
    for (stage, (&blocks, [_, kernel, stride, expansion, write])) in blocks.iter().zip(STAGES).enumerate() {
        let write = scaled(write, factor);
        for block in 0..blocks {
            let stride = if block == 0 { stride } else { 1 };
            let name = format!("blocks.{stage}.{block}");
            x = net.bottleneck(&name, x, [channels, write, kernel, stride], expansion)?;
            channels = write;
        }
    }
    let features = scaled(1280, factor);
    let x = net.conv("conv_head", x, [channels, features, 1, 1], 1)?;
    let x = net.norm("bn2", x, features, true)?;
    let output = pool(&mut net.b, "", config.pool, x)?;
    Ok(net.b.finish(output))
}

impl Builder {
    /// Convolution `[read, write, kernel, stride]` without bias.
    fn conv(&mut self, name: &str, x: NodeId, of: [usize; 4], groups: usize) -> Result<NodeId> {
        let [read, write, kernel, stride] = of;
        let mut op = self.norm.grouped_conv(read, write, kernel, stride, groups);
        let mut x = x;
        if self.same
            && let Op::Conv2d { padding, .. } = &mut op
            && let Shape::Map { height, width, .. } = self.b.shape(x)
        {
            // What the windows need beyond the map; half of it, rounded down, above and to the left.
            let [[top, bottom], [left, right]] = [height, width].map(|size| {
                let needed = ((size.div_ceil(stride) - 1) * stride + kernel).saturating_sub(size);
                [needed / 2, needed - needed / 2]
            });
            *padding = [top, left];
            if top != bottom || left != right {
                *padding = [0, 0];
                let (before, after) = ([top, left], [bottom, right]);
                x = self.b.add(format!("{name}.pad"), Op::Tensor(TensorOp::Pad { before, after, value: 0.0 }), &[x])?;
            }
        }
        self.b.add(name, op, &[x])
    }

    /// Normalisation, perhaps with SiLU.
    fn norm(&mut self, name: &str, x: NodeId, channels: usize, act: bool) -> Result<NodeId> {
        let x = self.b.add(name, self.norm.op(channels, self.eps), &[x])?;
        if act { self.silu(&format!("{name}.act"), x) } else { Ok(x) }
    }

    fn silu(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        self.b.add(name, Op::Tensor(TensorOp::Unary(Unary::Silu)), &[x])
    }

    /// A block, `[read, write, kernel, stride]`; without expansion it is depthwise separable.
    fn bottleneck(&mut self, name: &str, input: NodeId, of: [usize; 4], expansion: usize) -> Result<NodeId> {
        let [read, write, kernel, stride] = of;
        let inner = read * expansion;
        let mut x = input;
        let mut bn = 0;
        let mut next = || {
            bn += 1;
            format!("{name}.bn{bn}")
        };
        if expansion > 1 {
            x = self.conv(&format!("{name}.conv_pw"), x, [read, inner, 1, 1], 1)?;
            x = self.norm(&next(), x, inner, true)?;
        }
        x = self.conv(&format!("{name}.conv_dw"), x, [inner, inner, kernel, stride], inner)?;
        x = self.norm(&next(), x, inner, true)?;
        x = self.excite(&format!("{name}.se"), x, inner, (read / 4).max(1))?;
        let project = if expansion > 1 { "conv_pwl" } else { "conv_pw" };
        x = self.conv(&format!("{name}.{project}"), x, [inner, write, 1, 1], 1)?;
        x = self.norm(&next(), x, write, false)?;
        if stride == 1 && read == write { self.b.add(format!("{name}.add"), Op::Add, &[x, input]) } else { Ok(x) }
    }

    /// Squeeze-and-excitation (Hu et al. 2018, arXiv 1709.01507).
    fn excite(&mut self, name: &str, input: NodeId, channels: usize, reduced: usize) -> Result<NodeId> {
        let mean = TensorOp::Reduce { how: Reduction::Mean, axes: vec![2, 3], keep: true };
        let x = self.b.add(format!("{name}.mean"), Op::Tensor(mean), &[input])?;
        let x = self.gate_conv(&format!("{name}.conv_reduce"), x, channels, reduced)?;
        let x = self.silu(&format!("{name}.act1"), x)?;
        let x = self.gate_conv(&format!("{name}.conv_expand"), x, reduced, channels)?;
        let gate = self.b.add(format!("{name}.gate"), Op::Tensor(TensorOp::Unary(Unary::Sigmoid)), &[x])?;
        self.b.add(format!("{name}.scale"), Op::Tensor(TensorOp::Binary(Binary::Mul)), &[input, gate])
    }

    /// A 1x1 convolution with bias, which nothing normalises.
    fn gate_conv(&mut self, name: &str, x: NodeId, read: usize, write: usize) -> Result<NodeId> {
        let op = Op::Conv2d {
            in_channels: read,
            out_channels: write,
            kernel: [1, 1],
            stride: [1, 1],
            padding: [0, 0],
            groups: 1,
            bias: true,
            standardised: false,
        };
        let id = self.b.add(name, op, &[x])?;
        self.b.start(id, &[("bias", Init::Constant(0.0))]);
        Ok(id)
    }
}

/// A channel count, scaled and rounded to a multiple of 8 that is not below nine tenths of it.
fn scaled(channels: usize, factor: f64) -> usize {
    let wanted = channels as f64 * factor;
    let rounded = (((wanted + 4.0) as usize) / 8 * 8).max(8);
    if (rounded as f64) < 0.9 * wanted { rounded + 8 } else { rounded }
}
