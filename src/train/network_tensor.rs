//! The tensor operators' part of the libtorch walker.

use crate::error::{Error, Result};
use crate::precision::Cast;
use byol_model::shape::{BATCH, Shape};
use byol_model::tensor_op::{Binary, Reduction, TensorOp, Unary};
use tch::{Kind, Tensor};

/// What an operator makes of `inputs`, with its learned tensors or its constant, for a batch of `n` examples.
///
/// # Errors
/// [`Error::Torch`] for a wrong shape, [`Error::Network`] where an input or a parameter is missing.
pub(crate) fn run(op: &TensorOp, inputs: &[&Tensor], given: &[&Tensor], n: i64, cast: Cast) -> Result<Tensor> {
    let missing = |what: &str| Error::Network { what: "network", why: format!("{} has no {what}", op.name()) };
    let input = |i: usize| inputs.get(i).copied().ok_or_else(|| missing("input"));
    let parameter = |i: usize| given.get(i).copied().ok_or_else(|| missing("parameter"));
    Ok(match op {
        TensorOp::Parameter { .. } | TensorOp::Constant { .. } => parameter(0)?.shallow_clone(),
        // Those whose results span many magnitudes are computed in float32.
        TensorOp::Unary(unary @ (Unary::Erf | Unary::Sqrt | Unary::Exp | Unary::Reciprocal | Unary::Softplus)) => {
            self::unary(*unary, &cast.raise(input(0)?)?)?
        }
        TensorOp::Unary(unary) => self::unary(*unary, input(0)?)?,
        TensorOp::Binary(binary) => {
            let (a, b) = (input(0)?, input(1)?);
            match binary {
                Binary::Add => a.f_add(b)?,
                Binary::Sub => a.f_sub(b)?,
                Binary::Mul => a.f_mul(b)?,
                Binary::Div => cast.raise(a)?.f_div(&cast.raise(b)?)?,
                Binary::Pow => cast.raise(a)?.f_pow(&cast.raise(b)?)?,
            }
        }
        TensorOp::MatMul => cast.lower(input(0)?)?.f_matmul(&cast.lower(input(1)?)?)?,
        TensorOp::Softmax { axis } => input(0)?.f_softmax(*axis as i64, Kind::Float)?,
        TensorOp::LayerNormalization { features, eps } => {
            let (weight, bias) = (parameter(0)?, parameter(1)?);
            cast.raise(input(0)?)?.f_layer_norm([*features as i64], Some(weight), Some(bias), *eps, true)?
        }
        TensorOp::Transpose { permutation } => {
            let permutation: Vec<i64> = permutation.iter().map(|&axis| axis as i64).collect();
            input(0)?.f_permute(permutation.as_slice())?
        }
        TensorOp::Reshape { to } => input(0)?.f_reshape(sizes(*to, n).as_slice())?,
        TensorOp::Expand { to } => input(0)?.f_expand(sizes(*to, n).as_slice(), false)?,
        TensorOp::Slice { axis, start, end, step } => {
            input(0)?.f_slice(*axis as i64, *start as i64, *end as i64, *step as i64)?
        }
        TensorOp::Gather { axis, index } => input(0)?.f_select(*axis as i64, *index as i64)?,
        TensorOp::Concat { axis } => Tensor::f_cat(inputs, *axis as i64)?,
        TensorOp::Reduce { how, axes, keep } => {
            let axes: Vec<i64> = axes.iter().map(|&axis| axis as i64).collect();
            match how {
                Reduction::Mean => input(0)?.f_mean_dim(axes.as_slice(), *keep, Kind::Float)?,
                Reduction::Sum => input(0)?.f_sum_dim_intlist(axes.as_slice(), *keep, Kind::Float)?,
                Reduction::Max => input(0)?.f_amax(axes.as_slice(), *keep)?,
            }
        }
        TensorOp::Pad { before: [top, left], after: [bottom, right], value } => {
            let pads = [left, right, top, bottom].map(|p| *p as i64);
            input(0)?.f_pad(pads, "constant", f64::from(*value))?
        }
    })
}

fn unary(unary: Unary, x: &Tensor) -> Result<Tensor> {
    Ok(match unary {
        Unary::Sigmoid => x.f_sigmoid()?,
        Unary::Tanh => x.f_tanh()?,
        Unary::Erf => x.f_erf()?,
        Unary::Sqrt => x.f_sqrt()?,
        Unary::Exp => x.f_exp()?,
        Unary::Neg => x.f_neg()?,
        Unary::Abs => x.f_abs()?,
        Unary::Reciprocal => x.f_reciprocal()?,
        Unary::Silu => x.f_silu()?,
        Unary::Softplus => x.f_softplus()?,
        Unary::HardSigmoid => x.f_hardsigmoid()?,
        Unary::HardSwish => x.f_hardswish()?,
        Unary::Gelu { tanh } => x.f_gelu(if tanh { "tanh" } else { "none" })?,
        Unary::Clip { min, max } => x.f_clamp(f64::from(min), f64::from(max))?,
        Unary::LeakyRelu { alpha } => x.f_maximum(&x.f_mul_scalar(f64::from(alpha))?)?,
    })
}

/// A shape's dimensions for a batch of `n`.
fn sizes(shape: Shape, n: i64) -> Vec<i64> {
    shape.dims().into_iter().map(|d| if d == BATCH { n } else { d as i64 }).collect()
}
