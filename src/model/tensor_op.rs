//! Operators on tensors of any shape, named as ONNX names them: what a network needs beyond the layers of
//! [`crate::graph::Op`] when it comes from elsewhere. Axes count from 0, the batch dimension included.

use crate::shape::{BATCH, Shape};

/// One operator.
#[derive(Clone, Debug, PartialEq)]
pub enum TensorOp {
    /// A learned tensor, the same for every example. Reads nothing; its one parameter has the node's own name.
    Parameter {
        /// Its shape.
        shape: Vec<usize>,
    },
    /// A tensor that is not learned, row-major.
    Constant {
        /// Its shape.
        shape: Vec<usize>,
        /// Its values.
        values: Vec<f32>,
    },
    /// A function of each value.
    Unary(Unary),
    /// A function of two values of shapes that broadcast.
    Binary(Binary),
    /// Matrix product of the last two dimensions; those before broadcast.
    MatMul,
    /// `exp(x) / sum exp(x)` along an axis.
    Softmax {
        /// The axis.
        axis: usize,
    },
    /// Layer normalisation of the last axis. Parameters `weight, bias [features]`.
    LayerNormalization {
        /// Length of the last axis.
        features: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// Axis `i` of the output is axis `permutation[i]` of the input.
    Transpose {
        /// The permutation.
        permutation: Vec<usize>,
    },
    /// The same values in another shape.
    Reshape {
        /// The new shape.
        to: Shape,
    },
    /// Repeats axes of length 1.
    Expand {
        /// The new shape.
        to: Shape,
    },
    /// A part of an axis.
    Slice {
        /// The axis.
        axis: usize,
        /// First index.
        start: usize,
        /// Behind the last index.
        end: usize,
        /// Distance of two indices.
        step: usize,
    },
    /// One index of an axis, which is gone then.
    Gather {
        /// The axis.
        axis: usize,
        /// The index.
        index: usize,
    },
    /// Values one behind the other along an axis.
    Concat {
        /// The axis.
        axis: usize,
    },
    /// Sum, mean or maximum over axes.
    Reduce {
        /// Which of them.
        how: Reduction,
        /// The axes.
        axes: Vec<usize>,
        /// Whether they stay, with length 1.
        keep: bool,
    },
    /// A border around feature maps.
    Pad {
        /// Rows above, columns to the left.
        before: [usize; 2],
        /// Rows below, columns to the right.
        after: [usize; 2],
        /// What the border holds.
        value: f32,
    },
}

/// A function of one value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Unary {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// Hyperbolic tangent.
    Tanh,
    /// The error function.
    Erf,
    /// Square root.
    Sqrt,
    /// `exp(x)`.
    Exp,
    /// `-x`.
    Neg,
    /// `|x|`.
    Abs,
    /// `1 / x`.
    Reciprocal,
    /// `x sigmoid(x)`.
    Silu,
    /// `log(1 + exp(x))`.
    Softplus,
    /// `max(0, min(1, x / 6 + 1 / 2))`.
    HardSigmoid,
    /// `x HardSigmoid(x)`.
    HardSwish,
    /// `x P(normal < x)`; with `tanh`, its approximation.
    Gelu {
        /// Approximate it by tanh.
        tanh: bool,
    },
    /// `max(min, min(max, x))`.
    Clip {
        /// Lower bound.
        min: f32,
        /// Upper bound.
        max: f32,
    },
    /// `max(x, alpha x)`, alpha from 0 to 1.
    LeakyRelu {
        /// Slope of negative values.
        alpha: f32,
    },
}

/// A function of two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binary {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Quotient.
    Div,
    /// Power.
    Pow,
}

/// How an axis is reduced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reduction {
    /// Mean.
    Mean,
    /// Sum.
    Sum,
    /// Maximum.
    Max,
}

impl TensorOp {
    /// ONNX's name.
    pub fn name(&self) -> &'static str {
        match self {
            TensorOp::Parameter { .. } => "Parameter",
            TensorOp::Constant { .. } => "Constant",
            TensorOp::Unary(unary) => unary.name(),
            TensorOp::Binary(binary) => binary.name(),
            TensorOp::MatMul => "MatMul",
            TensorOp::Softmax { .. } => "Softmax",
            TensorOp::LayerNormalization { .. } => "LayerNormalization",
            TensorOp::Transpose { .. } => "Transpose",
            TensorOp::Reshape { .. } => "Reshape",
            TensorOp::Expand { .. } => "Expand",
            TensorOp::Slice { .. } => "Slice",
            TensorOp::Gather { .. } => "Gather",
            TensorOp::Concat { .. } => "Concat",
            TensorOp::Reduce { how: Reduction::Mean, .. } => "ReduceMean",
            TensorOp::Reduce { how: Reduction::Sum, .. } => "ReduceSum",
            TensorOp::Reduce { how: Reduction::Max, .. } => "ReduceMax",
            TensorOp::Pad { .. } => "Pad",
        }
    }

    /// The shape that it writes when it reads `inputs`.
    ///
    /// # Errors
    /// Why it cannot read them.
    pub fn infer(&self, inputs: &[Shape]) -> Result<Shape, String> {
        let counted = |n: usize| {
            let wrong = || format!("{} reads {n} values, got {}", self.name(), inputs.len());
            if inputs.len() == n { Ok(()) } else { Err(wrong()) }
        };
        let one = || counted(1).map(|()| inputs[0].dims());
        // An axis that may be worked along: there, and not that of the examples.
        let along = |dims: &[usize], axis: usize| match dims.get(axis) {
            None => Err(format!("axis {axis} of a value of {} dimensions", dims.len())),
            Some(&BATCH) => Err("it works along the examples of a batch, which must stay apart".to_owned()),
            Some(&length) => Ok(length),
        };
        match self {
            TensorOp::Parameter { shape } | TensorOp::Constant { shape, .. } => {
                counted(0)?;
                if shape.iter().any(|&d| d >= BATCH) {
                    return Err(format!("a dimension of {shape:?} is longer than {}", BATCH - 1));
                }
                Shape::new(shape)
            }
            TensorOp::Unary(_) => Shape::new(&one()?),
            TensorOp::Binary(_) => {
                counted(2)?;
                Shape::new(&broadcast(&inputs[0].dims(), &inputs[1].dims())?)
            }
            TensorOp::MatMul => {
                counted(2)?;
                let (a, b) = (inputs[0].dims(), inputs[1].dims());
                let ([before_a @ .., rows, inner], [before_b @ .., other, columns]) = (&a[..], &b[..]) else {
                    return Err("MatMul reads values of at least two dimensions".into());
                };
                if inner != other || *inner == BATCH {
                    return Err(format!("cannot multiply {} and {}", inputs[0], inputs[1]));
                }
                let mut dims = broadcast(before_a, before_b)?;
                dims.extend([rows, columns]);
                Shape::new(&dims)
            }
            TensorOp::Softmax { axis } => {
                let dims = one()?;
                along(&dims, *axis)?;
                Shape::new(&dims)
            }
            TensorOp::LayerNormalization { features, .. } => {
                let dims = one()?;
                let last = along(&dims, dims.len().saturating_sub(1))?;
                if last != *features {
                    return Err(format!("expects a last axis of {features}, got {last}"));
                }
                Shape::new(&dims)
            }
            TensorOp::Transpose { permutation } => {
                let dims = one()?;
                let mut sorted = permutation.clone();
                sorted.sort_unstable();
                if sorted != (0..dims.len()).collect::<Vec<_>>() {
                    return Err(format!("{permutation:?} is no permutation of {} dimensions", dims.len()));
                }
                Shape::new(&permutation.iter().map(|&axis| dims[axis]).collect::<Vec<_>>())
            }
            TensorOp::Reshape { to } => {
                let (from, new) = (one()?, to.dims());
                let product = |dims: &[usize]| dims.iter().map(|&d| d as u128).product::<u128>();
                if product(&from) != product(&new) || from.contains(&BATCH) != new.contains(&BATCH) {
                    return Err(format!("cannot reshape {} to {to}", inputs[0]));
                }
                Ok(*to)
            }
            TensorOp::Expand { to } => {
                let new = to.dims();
                if broadcast(&one()?, &new)? != new {
                    return Err(format!("cannot expand {} to {to}", inputs[0]));
                }
                Ok(*to)
            }
            TensorOp::Slice { axis, start, end, step } => {
                let mut dims = one()?;
                let length = along(&dims, *axis)?;
                if start >= end || *end > length || *step == 0 {
                    return Err(format!("no part from {start} to {end} by {step} in an axis of {length}"));
                }
                dims[*axis] = (end - start).div_ceil(*step);
                Shape::new(&dims)
            }
            TensorOp::Gather { axis, index } => {
                let mut dims = one()?;
                let length = along(&dims, *axis)?;
                if *index >= length {
                    return Err(format!("no index {index} in an axis of {length}"));
                }
                dims.remove(*axis);
                Shape::new(&dims)
            }
            TensorOp::Concat { axis } => {
                let all: Vec<Vec<usize>> = inputs.iter().map(|shape| shape.dims()).collect();
                let mut dims = all.first().ok_or("Concat reads at least one value")?.clone();
                let mut length = 0;
                for other in &all {
                    length += along(other, *axis)?;
                    let fits = other.len() == dims.len() && (0..dims.len()).all(|i| i == *axis || other[i] == dims[i]);
                    if !fits {
                        return Err(format!("cannot join {other:?} to {dims:?} along axis {axis}"));
                    }
                }
                dims[*axis] = length;
                Shape::new(&dims)
            }
            TensorOp::Reduce { axes, keep, .. } => {
                let dims = one()?;
                for &axis in axes {
                    along(&dims, axis)?;
                }
                let left = |(axis, &d): (usize, &usize)| match (axes.contains(&axis), keep) {
                    (false, _) => Some(d),
                    (true, true) => Some(1),
                    (true, false) => None,
                };
                Shape::new(&dims.iter().enumerate().filter_map(left).collect::<Vec<_>>())
            }
            TensorOp::Pad { before, after, .. } => {
                counted(1)?;
                let Shape::Map { channels, height, width } = inputs[0] else {
                    return Err(format!("Pad reads a feature map, got {}", inputs[0]));
                };
                let padded = |size: usize, side: usize| size.saturating_add(before[side]).saturating_add(after[side]);
                let (height, width) = (padded(height, 0), padded(width, 1));
                Ok(Shape::Map { channels, height, width })
            }
        }
    }
}

impl Unary {
    /// ONNX's name.
    pub fn name(self) -> &'static str {
        match self {
            Unary::Sigmoid => "Sigmoid",
            Unary::Tanh => "Tanh",
            Unary::Erf => "Erf",
            Unary::Sqrt => "Sqrt",
            Unary::Exp => "Exp",
            Unary::Neg => "Neg",
            Unary::Abs => "Abs",
            Unary::Reciprocal => "Reciprocal",
            Unary::Silu => "SiLU",
            Unary::Softplus => "Softplus",
            Unary::HardSigmoid => "HardSigmoid",
            Unary::HardSwish => "HardSwish",
            Unary::Gelu { .. } => "Gelu",
            Unary::Clip { .. } => "Clip",
            Unary::LeakyRelu { .. } => "LeakyRelu",
        }
    }
}

impl Binary {
    /// ONNX's name.
    pub fn name(self) -> &'static str {
        match self {
            Binary::Add => "Add",
            Binary::Sub => "Sub",
            Binary::Mul => "Mul",
            Binary::Div => "Div",
            Binary::Pow => "Pow",
        }
    }
}

/// The common shape of two values: axes are paired from the last, and one of length 1 repeats.
fn broadcast(a: &[usize], b: &[usize]) -> Result<Vec<usize>, String> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], axis: usize| (axis + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    let pair = |axis| match (at(a, axis), at(b, axis)) {
        (x, y) if x == y || y == 1 => Ok(x),
        (1, y) => Ok(y),
        _ => Err(format!("shapes {} and {} do not fit each other", readable(a), readable(b))),
    };
    (0..rank).map(pair).collect()
}

fn readable(dims: &[usize]) -> String {
    Shape::new(dims).map_or_else(|_| format!("{dims:?}"), |shape| shape.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_a_batch_stay_apart() {
        let tokens = Shape::new(&[BATCH, 5, 8]).unwrap();
        let refused = |op: TensorOp| op.infer(&[tokens]).unwrap_err();
        assert!(refused(TensorOp::Softmax { axis: 0 }).contains("batch"));
        assert!(refused(TensorOp::Gather { axis: 0, index: 0 }).contains("batch"));
        assert!(refused(TensorOp::Reduce { how: Reduction::Sum, axes: vec![0, 1], keep: true }).contains("batch"));
        assert!(Shape::new(&[BATCH * 5, 8]).unwrap_err().contains("mixes"));
        assert!(Shape::new(&[BATCH, BATCH]).unwrap_err().contains("mixes"));
        assert!(TensorOp::MatMul.infer(&[Shape::new(&[5, BATCH]).unwrap(), Shape::new(&[BATCH, 5]).unwrap()]).is_err());
    }

    #[test]
    fn shapes_follow_numpys_rules() {
        let (q, k) = (Shape::new(&[BATCH, 3, 5, 8]).unwrap(), Shape::new(&[BATCH, 3, 8, 5]).unwrap());
        assert_eq!(TensorOp::MatMul.infer(&[q, k]).unwrap().dims(), [BATCH, 3, 5, 5]);
        let bias = Shape::new(&[5, 1]).unwrap();
        assert_eq!(TensorOp::Binary(Binary::Mul).infer(&[bias, q]).unwrap(), q);
        assert!(TensorOp::Binary(Binary::Add).infer(&[q, k]).unwrap_err().contains("[3, 5, 8]"));
        let swapped = TensorOp::Transpose { permutation: vec![2, 0, 3, 1] }.infer(&[q]).unwrap();
        assert_eq!(swapped.to_string(), "[5, n, 8, 3]");
    }
}
