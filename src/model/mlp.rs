//! Projector and predictor: Linear, BatchNorm, ReLU, Linear (paper, section 3.2: 4096 hidden, 256 out).

use crate::error::{Error, Result};
use crate::graph::{Graph, GraphBuilder, Op, Shape};
use crate::norm::Norm;
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
    /// Linear layers: 2 in the paper; 1 is a Linear alone, 0 is nothing at all (in the paper's ablation, BYOL without a
    /// predictor collapses).
    pub layers: usize,
}

/// More layers than anybody asks for.
const MOST_LAYERS: usize = 16;

impl Default for MlpConfig {
    fn default() -> Self {
        Self { hidden: 4096, output: 256, batch_norm: true, output_bias: true, layers: 2 }
    }
}

/// Added to the variance: torch's default, which is also DeepMind's.
const BATCH_NORM_EPS: f64 = 1e-5;

/// Builds the MLP over `input` features. Parameters are named as in torch's
/// `Sequential(Linear, BatchNorm1d, ReLU, Linear)`: `0`, `1`, `3`. Without layers the output is the input, and as wide.
///
/// # Errors
/// [`crate::Error::Graph`] where a size is zero; [`crate::Error::Setting`] for too many layers.
pub fn mlp(input: usize, config: &MlpConfig) -> Result<Graph> {
    if config.layers > MOST_LAYERS {
        let why = format!("is {}, more than {MOST_LAYERS}", config.layers);
        return Err(Error::Setting { key: "layers of a projector or predictor".into(), why });
    }
    let mut b = GraphBuilder::new(Shape::Vector { features: input });
    let linear = |in_features, out_features, bias| Op::Linear { in_features, out_features, bias };
    let (mut x, mut width) = (b.input(), input);
    for layer in 1..=config.layers {
        let name = |step: usize| (3 * (layer - 1) + step).to_string();
        if layer == config.layers {
            x = b.add(name(0), linear(width, config.output, config.output_bias), &[x])?;
            break;
        }
        x = b.add(name(0), linear(width, config.hidden, true), &[x])?;
        width = config.hidden;
        if config.batch_norm {
            x = b.add(name(1), Norm::Batch.op(config.hidden, BATCH_NORM_EPS), &[x])?;
        }
        x = b.add(name(2), Op::Relu, &[x])?;
    }
    Ok(b.finish(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(layers: usize) -> Vec<String> {
        let config = MlpConfig { hidden: 8, output: 4, layers, ..MlpConfig::default() };
        mlp(4, &config).unwrap().parameters().into_iter().map(|p| p.name).collect()
    }

    #[test]
    fn layers_are_named_as_in_a_torch_sequential() {
        assert!(names(0).is_empty());
        assert_eq!(names(1), ["0.weight", "0.bias"]);
        assert_eq!(names(2)[..3], ["0.weight", "0.bias", "1.weight"]);
        assert_eq!(names(2).last().unwrap(), "3.bias");
        assert_eq!(names(3).last().unwrap(), "6.bias");
    }

    #[test]
    fn without_layers_the_output_is_the_input() {
        let graph = mlp(7, &MlpConfig { layers: 0, ..MlpConfig::default() }).unwrap();
        assert_eq!(graph.dimension(), 7);
        assert!(mlp(7, &MlpConfig { layers: 1000, ..MlpConfig::default() }).is_err());
    }
}
