//! Vision transformers: patches as tokens, a class token, pre-norm blocks of attention and MLP. Names and parameters are
//! timm's (`vit_tiny_patch16_224` is `vit_tiny_patch16` here, since the picture's size is a setting), so that its weights
//! load as they are; they start as timm's `init_weights_vit_timm` has it.
//!
//! Source: Dosovitskiy et al. 2021 (arXiv 2010.11929); the small sizes are DeiT's (arXiv 2012.12877). `width` is the
//! tokens' length, in heads of 64; `blocks` is one number, the depth. The features are the normalised class token; any
//! other pooling is of the patches, with the norm (`fc_norm`) behind it, as in timm. Patch 4 is for small pictures.

use crate::encoder::EncoderConfig;
use crate::error::{Error, Result};
use crate::graph::{BATCH, Graph, GraphBuilder, Init, NodeId, Op, Shape};
use crate::pool::{Pool, pool};
use crate::tensor_op::{Binary, TensorOp, Unary};
use crate::zoo;

/// Names that [`build`] knows.
pub const NAMES: [&str; 9] = [
    "vit_tiny_patch16",
    "vit_small_patch16",
    "vit_base_patch16",
    "vit_tiny_patch8",
    "vit_small_patch8",
    "vit_base_patch8",
    "vit_tiny_patch4",
    "vit_small_patch4",
    "vit_base_patch4",
];

/// Added to the variance.
const EPS: f64 = 1e-6;
/// Length of a head.
const HEAD: usize = 64;
/// Blocks.
const DEPTH: usize = 12;
/// Standard deviation that weights start with.
const DEVIATION: f32 = 0.02;

/// Length of the tokens.
pub(crate) fn published_width(name: &str) -> usize {
    match name.split('_').nth(1) {
        Some("tiny") => 192,
        Some("small") => 384,
        _ => 768,
    }
}

/// The network under construction: tokens `[n, tokens, width]`.
struct Builder {
    b: GraphBuilder,
    tokens: usize,
    width: usize,
}

/// Builds the network.
///
/// # Errors
/// As [`zoo::build`].
pub(crate) fn build(config: &EncoderConfig) -> Result<Graph> {
    let wrong = |key: &str, why: String| Error::Setting { key: format!("encoder.{key}"), why };
    let (size, width) = (config.image_size, config.width);
    let patch: usize = config.name.rsplit("patch").next().and_then(|n| n.parse().ok()).filter(|&n| n > 0).unwrap_or(16);
    if size % patch != 0 {
        return Err(wrong("image_size", format!("{size} is no multiple of the patch's {patch} pixels")));
    }
    if width % HEAD != 0 {
        return Err(wrong("width", format!("{width} is no multiple of {HEAD}, the length of a head")));
    }
    let depth = zoo::blocks(config, &[DEPTH])?[0];
    let side = size / patch;

    let mut b = GraphBuilder::new(Shape::Map { channels: config.channels, height: size, width: size });
    let input = b.input();
    let embed = Op::Conv2d {
        in_channels: config.channels,
        out_channels: width,
        kernel: [patch; 2],
        stride: [patch; 2],
        padding: [0, 0],
        groups: 1,
        bias: true,
        standardised: false,
    };
    let patches = b.add("patch_embed.proj", embed, &[input])?;
    b.start(patches, &[("weight", Init::UniformFanIn { fan: config.channels * patch * patch })]);
    let mut net = Builder { b, tokens: side * side + 1, width };
    let patches = net.reshape("patch_embed.flatten", patches, &[BATCH, width, side * side])?;
    let patches = net.transpose("patch_embed.tokens", patches, &[0, 2, 1])?;
    let class = net.learned("cls_token", 1, 1e-6)?;
    let everyones = net.shape("cls_token", &[BATCH, 1, width])?;
    let class = net.b.add("cls_token.expand", Op::Tensor(TensorOp::Expand { to: everyones }), &[class])?;
    let all = net.b.add("tokens", Op::Tensor(TensorOp::Concat { axis: 1 }), &[class, patches])?;
    let positions = net.learned("pos_embed", net.tokens, DEVIATION)?;
    let mut x = net.b.add("pos_embed.add", Op::Tensor(TensorOp::Binary(Binary::Add)), &[all, positions])?;
    for block in 0..depth {
        x = net.block(&format!("blocks.{block}"), x)?;
    }
    let output = if config.pool == Pool::Published {
        let x = net.layer_norm("norm", x)?;
        net.b.add("token", Op::Tensor(TensorOp::Gather { axis: 1, index: 0 }), &[x])?
    } else {
        let slice = TensorOp::Slice { axis: 1, start: 1, end: net.tokens, step: 1 };
        let x = net.b.add("patches", Op::Tensor(slice), &[x])?;
        let x = net.transpose("patches.map", x, &[0, 2, 1])?;
        let x = net.reshape("map", x, &[BATCH, width, side, side])?;
        let x = pool(&mut net.b, "", config.pool, x)?;
        net.layer_norm("fc_norm", x)?
    };
    Ok(net.b.finish(output))
}

impl Builder {
    /// Attention and MLP, each with its norm before it and a way around it.
    fn block(&mut self, name: &str, input: NodeId) -> Result<NodeId> {
        let x = self.layer_norm(&format!("{name}.norm1"), input)?;
        let x = self.attention(&format!("{name}.attn"), x)?;
        let middle = self.b.add(format!("{name}.add1"), Op::Add, &[input, x])?;
        let x = self.layer_norm(&format!("{name}.norm2"), middle)?;
        let (width, inner) = (self.width, 4 * self.width);
        let x = self.linear(&format!("{name}.mlp.fc1"), x, width, inner)?;
        let gelu = Op::Tensor(TensorOp::Unary(Unary::Gelu { tanh: false }));
        let x = self.b.add(format!("{name}.mlp.act"), gelu, &[x])?;
        let x = self.linear(&format!("{name}.mlp.fc2"), x, inner, width)?;
        self.b.add(format!("{name}.add2"), Op::Add, &[middle, x])
    }

    /// Multi-head self-attention: `softmax(q k^T / sqrt(head)) v`.
    fn attention(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let (tokens, width) = (self.tokens, self.width);
        let heads = width / HEAD;
        let part = |suffix: &str| format!("{name}.{suffix}");
        let x = self.linear(&part("qkv"), x, width, 3 * width)?;
        let x = self.reshape(&part("qkv.split"), x, &[BATCH, tokens, 3, heads, HEAD])?;
        let x = self.transpose(&part("qkv.heads"), x, &[2, 0, 3, 1, 4])?; // [3, n, heads, tokens, HEAD]
        let [q, k, v] = ["q", "k", "v"];
        let mut pick =
            |which: &str, index: usize| self.b.add(part(which), Op::Tensor(TensorOp::Gather { axis: 0, index }), &[x]);
        let (q, k, v) = (pick(q, 0)?, pick(k, 1)?, pick(v, 2)?);
        let scale = TensorOp::Constant { shape: Vec::new(), values: vec![(HEAD as f32).sqrt().recip()] };
        let scale = self.b.add(part("scale"), Op::Tensor(scale), &[])?;
        let q = self.b.add(part("q.scaled"), Op::Tensor(TensorOp::Binary(Binary::Mul)), &[q, scale])?;
        let k = self.transpose(&part("k.transposed"), k, &[0, 1, 3, 2])?;
        let scores = self.b.add(part("scores"), Op::Tensor(TensorOp::MatMul), &[q, k])?;
        let shares = self.b.add(part("softmax"), Op::Tensor(TensorOp::Softmax { axis: 3 }), &[scores])?;
        let x = self.b.add(part("mix"), Op::Tensor(TensorOp::MatMul), &[shares, v])?;
        let x = self.transpose(&part("mix.tokens"), x, &[0, 2, 1, 3])?;
        let x = self.reshape(&part("mix.join"), x, &[BATCH, tokens, width])?;
        self.linear(&part("proj"), x, width, width)
    }

    fn layer_norm(&mut self, name: &str, x: NodeId) -> Result<NodeId> {
        let features = self.b.shape(x).dims().last().copied().unwrap_or(self.width);
        self.b.add(name, Op::Tensor(TensorOp::LayerNormalization { features, eps: EPS }), &[x])
    }

    fn linear(&mut self, name: &str, x: NodeId, in_features: usize, out_features: usize) -> Result<NodeId> {
        let id = self.b.add(name, Op::Linear { in_features, out_features, bias: true }, &[x])?;
        self.b.start(id, &[("weight", Init::Normal { deviation: DEVIATION }), ("bias", Init::Constant(0.0))]);
        Ok(id)
    }

    /// A learned tensor `[1, tokens, width]`.
    fn learned(&mut self, name: &str, tokens: usize, deviation: f32) -> Result<NodeId> {
        let shape = vec![1, tokens, self.width];
        let id = self.b.add(name, Op::Tensor(TensorOp::Parameter { shape }), &[])?;
        self.b.start(id, &[("", Init::Normal { deviation })]);
        Ok(id)
    }

    fn transpose(&mut self, name: &str, x: NodeId, permutation: &[usize]) -> Result<NodeId> {
        self.b.add(name, Op::Tensor(TensorOp::Transpose { permutation: permutation.to_vec() }), &[x])
    }

    fn reshape(&mut self, name: &str, x: NodeId, dims: &[usize]) -> Result<NodeId> {
        let to = self.shape(name, dims)?;
        self.b.add(name, Op::Tensor(TensorOp::Reshape { to }), &[x])
    }

    fn shape(&self, name: &str, dims: &[usize]) -> Result<Shape> {
        Shape::new(dims).map_err(|why| Error::Graph { node: name.into(), why })
    }
}
