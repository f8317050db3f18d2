//! ConvNeXt: a residual network in the manner of transformers, with 7x7 depthwise convolutions, LayerNorm over channels
//! and a learned scale of each branch. Names and parameters are timm's, so that its weights load as they are; they start
//! as timm has it.
//!
//! Source: Liu et al. 2022 (arXiv 2201.03545). The features are the pooled map behind its last norm (`head.norm`). The
//! standard stem has patches of 4 pixels; `small` is a 3x3 convolution with stride 1, `small-stride2` has patches of 2.

use crate::encoder::{EncoderConfig, Stem};
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, Init, NodeId, Op, Shape};
use crate::pool::pool;
use crate::tensor_op::{Binary, TensorOp, Unary};
use crate::zoo;

/// Names that [`build`] knows.
pub const NAMES: [&str; 1] = ["convnext_tiny"];

/// Added to the variance.
const EPS: f64 = 1e-6;

/// Builds the network.
///
/// # Errors
/// As [`zoo::build`].
pub(crate) fn build(config: &EncoderConfig) -> Result<Graph> {
    let blocks = zoo::blocks(config, &[3, 3, 9, 3])?;
    let size = config.image_size;
    let mut b = GraphBuilder::new(Shape::Map { channels: config.channels, height: size, width: size });
    let (kernel, stride, padding) = match config.stem {
        Stem::Standard => (4, 4, 0),
        Stem::Small => (3, 1, 1),
        Stem::SmallStride2 => (2, 2, 0),
    };
    let input = b.input();
    let x = conv(&mut b, "stem.0", input, [config.channels, config.width, kernel, stride, padding], 1)?;
    let mut x = layer_norm_2d(&mut b, "stem.1", x, config.width)?;
    for (stage, &blocks) in blocks.iter().enumerate() {
        let name = format!("stages.{stage}");
        let width = config.width << stage;
        if stage > 0 {
            x = layer_norm_2d(&mut b, &format!("{name}.downsample.0"), x, width / 2)?;
            x = conv(&mut b, &format!("{name}.downsample.1"), x, [width / 2, width, 2, 2, 0], 1)?;
        }
        for i in 0..blocks {
            x = block(&mut b, &format!("{name}.blocks.{i}"), x, width)?;
        }
    }
    let x = pool(&mut b, "", config.pool, x)?;
    let features = b.shape(x).len();
    let output = b.add("head.norm", Op::Tensor(TensorOp::LayerNormalization { features, eps: EPS }), &[x])?;
    Ok(b.finish(output))
}

/// Depthwise convolution, then for each position LayerNorm and an MLP, scaled, and a way around it all.
fn block(b: &mut GraphBuilder, name: &str, input: NodeId, width: usize) -> Result<NodeId> {
    let x = conv(b, &format!("{name}.conv_dw"), input, [width, width, 7, 1, 3], width)?;
    let x = transpose(b, &format!("{name}.last"), x, [0, 2, 3, 1])?;
    let x =
        b.add(format!("{name}.norm"), Op::Tensor(TensorOp::LayerNormalization { features: width, eps: EPS }), &[x])?;
    let x = linear(b, &format!("{name}.mlp.fc1"), x, width, 4 * width)?;
    let x = b.add(format!("{name}.mlp.act"), Op::Tensor(TensorOp::Unary(Unary::Gelu { tanh: false })), &[x])?;
    let x = linear(b, &format!("{name}.mlp.fc2"), x, 4 * width, width)?;
    let gamma = b.add(format!("{name}.gamma"), Op::Tensor(TensorOp::Parameter { shape: vec![width] }), &[])?;
    b.start(gamma, &[("", Init::Constant(1e-6))]);
    let x = b.add(format!("{name}.scaled"), Op::Tensor(TensorOp::Binary(Binary::Mul)), &[x, gamma])?;
    let x = transpose(b, &format!("{name}.first"), x, [0, 3, 1, 2])?;
    b.add(format!("{name}.add"), Op::Add, &[x, input])
}

/// Convolution `[read, write, kernel, stride, padding]` with bias.
fn conv(b: &mut GraphBuilder, name: &str, x: NodeId, of: [usize; 5], groups: usize) -> Result<NodeId> {
    let [in_channels, out_channels, kernel, stride, padding] = of;
    let op = Op::Conv2d {
        in_channels,
        out_channels,
        kernel: [kernel; 2],
        stride: [stride; 2],
        padding: [padding; 2],
        groups,
        bias: true,
        standardised: false,
    };
    let id = b.add(name, op, &[x])?;
    b.start(id, &START);
    Ok(id)
}

/// How convolutions and fully connected layers start.
const START: [(&str, Init); 2] = [("weight", Init::Normal { deviation: 0.02 }), ("bias", Init::Constant(0.0))];

fn linear(b: &mut GraphBuilder, name: &str, x: NodeId, in_features: usize, out_features: usize) -> Result<NodeId> {
    let id = b.add(name, Op::Linear { in_features, out_features, bias: true }, &[x])?;
    b.start(id, &START);
    Ok(id)
}

/// LayerNorm over the channels of each position.
fn layer_norm_2d(b: &mut GraphBuilder, name: &str, x: NodeId, features: usize) -> Result<NodeId> {
    let x = transpose(b, &format!("{name}.last"), x, [0, 2, 3, 1])?;
    let x = b.add(name, Op::Tensor(TensorOp::LayerNormalization { features, eps: EPS }), &[x])?;
    transpose(b, &format!("{name}.first"), x, [0, 3, 1, 2])
}

fn transpose(b: &mut GraphBuilder, name: &str, x: NodeId, permutation: [usize; 4]) -> Result<NodeId> {
    b.add(name, Op::Tensor(TensorOp::Transpose { permutation: permutation.to_vec() }), &[x])
}
