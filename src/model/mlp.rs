//! Projector and predictor: Linear, BatchNorm, ReLU, Linear (paper, section 3.2: 4096 hidden, 256 out).

use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, Op, Shape};
use crate::resnet::batch_norm;
use serde::{Deserialize, Serialize};

/// Sizes of a projector or predictor.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MlpConfig {
    /// Features between the two layers.
    pub hidden: usize,
    /// Features written.
    pub output: usize,
    /// Normalise the hidden features.
    pub batch_norm: bool,
    /// Bias of the last layer. The paper's pseudo-code has it, DeepMind's code has not.
    pub output_bias: bool,
}

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: 4096, output: 256, batch_norm: true, output_bias: true }
    }
}

/// Builds the MLP over `input` features. Parameters are named as in torch's
/// `Sequential(Linear, BatchNorm1d, ReLU, Linear)`: `0`, `1`, `3`.
///
/// # Errors
/// [`crate::Error::Graph`] where a size is zero.
pub fn mlp(input: usize, config: &MlpConfig) -> Result<Graph> {
    let mut b = GraphBuilder::new(Shape::Vector { features: input });
    let linear = |in_features, out_features, bias| Op::Linear { in_features, out_features, bias };
    let mut x = b.add("0", linear(input, config.hidden, true), &[b.input()])?;
    if config.batch_norm {
        x = b.add("1", batch_norm(config.hidden), &[x])?;
    }
    let x = b.add("2", Op::Relu, &[x])?;
    let x = b.add("3", linear(config.hidden, config.output, config.output_bias), &[x])?;
    Ok(b.finish(x))
}
