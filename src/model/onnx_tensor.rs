//! The tensor operators' part of the ONNX writer.

use crate::error::{Error, Result};
use crate::graph::{Node, Op};
use crate::onnx::{Writer, int, ints};
use crate::onnx_proto::*;
use crate::shape::{BATCH, Shape};
use crate::tensor_op::{Reduction, TensorOp, Unary};
use std::f64::consts::{PI, SQRT_2};

/// Value that holds the number of pictures, int64 `[1]`.
const BATCH_SIZE: &str = "batch.size";

impl Writer<'_> {
    /// A fully connected layer along the last axis of a value that is no vector: Gemm reads matrices only.
    pub(crate) fn linear_along_last_axis(&mut self, node: &Node, input: &str) -> Result<String> {
        let Op::Linear { in_features, out_features, bias } = node.op else {
            return Err(Error::Graph { node: node.name.clone(), why: "is no Linear".into() });
        };
        let name = &node.name;
        let weight = self.tensor(&format!("{name}.weight"))?;
        let turned: Vec<f64> = (0..in_features * out_features)
            .map(|i| f64::from(weight[(i % out_features) * in_features + i / out_features]))
            .collect();
        let weight = self.constant(&format!("{name}.weight"), &[in_features, out_features], &turned);
        let operands = vec![input.to_owned(), weight];
        if !bias {
            return Ok(self.push("MatMul", name, operands, vec![], ""));
        }
        let product = self.push("MatMul", &format!("{name}.product"), operands, vec![], "");
        let values: Vec<f64> = self.tensor(&format!("{name}.bias"))?.iter().map(|&b| f64::from(b)).collect();
        let bias = self.constant(&format!("{name}.bias"), &[out_features], &values);
        Ok(self.push("Add", name, vec![product, bias], vec![], ""))
    }

    /// A tensor operator.
    pub(crate) fn tensor_op(&mut self, node: &Node, op: &TensorOp, mut inputs: Vec<String>) -> Result<String> {
        let name = node.name.as_str();
        let doubles = |values: &[f32]| -> Vec<f64> { values.iter().map(|&v| f64::from(v)).collect() };
        Ok(match op {
            TensorOp::Parameter { shape } => {
                let values = doubles(self.tensor(name)?);
                self.constant(name, shape, &values)
            }
            TensorOp::Constant { shape, values } => self.constant(name, shape, &doubles(values)),
            TensorOp::Unary(unary) => self.unary(name, *unary, inputs),
            TensorOp::Binary(_) | TensorOp::MatMul => self.push(op.name(), name, inputs, vec![], ""),
            TensorOp::Softmax { axis } | TensorOp::Concat { axis } => {
                self.push(op.name(), name, inputs, vec![int("axis", *axis as i64)], "")
            }
            TensorOp::LayerNormalization { features, eps } => {
                for suffix in ["weight", "bias"] {
                    let full = format!("{name}.{suffix}");
                    let values = doubles(self.tensor(&full)?);
                    inputs.push(self.constant(&full, &[*features], &values));
                }
                let attributes = vec![int("axis", -1), float("epsilon", *eps as f32)];
                self.push("LayerNormalization", name, inputs, attributes, "")
            }
            TensorOp::Transpose { permutation } => {
                self.push("Transpose", name, inputs, vec![ints("perm", permutation)], "")
            }
            TensorOp::Reshape { to } => {
                let dims: Vec<i64> = to.dims().iter().map(|&d| if d == BATCH { -1 } else { d as i64 }).collect();
                inputs.push(self.integers(&format!("{name}.shape"), &dims));
                self.push("Reshape", name, inputs, vec![], "")
            }
            TensorOp::Expand { to } => {
                let shape = self.shape_value(name, *to);
                inputs.push(shape);
                self.push("Expand", name, inputs, vec![], "")
            }
            TensorOp::Slice { axis, start, end, step } => {
                for (suffix, value) in [("start", start), ("end", end), ("axis", axis), ("step", step)] {
                    inputs.push(self.integers(&format!("{name}.{suffix}"), &[*value as i64]));
                }
                self.push("Slice", name, inputs, vec![], "")
            }
            TensorOp::Gather { axis, index } => {
                inputs.push(self.integer(&format!("{name}.index"), *index as i64));
                self.push("Gather", name, inputs, vec![int("axis", *axis as i64)], "")
            }
            TensorOp::Reduce { how, axes, keep } => self.reduce(node, *how, axes, *keep, inputs),
            TensorOp::Pad { before, after, value } => {
                let pads = [0, 0, before[0], before[1], 0, 0, after[0], after[1]].map(|n| n as i64);
                inputs.push(self.integers(&format!("{name}.pads"), &pads));
                inputs.push(self.constant(&format!("{name}.value"), &[], &[f64::from(*value)]));
                self.push("Pad", name, inputs, vec![], "")
            }
        })
    }

    fn unary(&mut self, name: &str, unary: Unary, mut inputs: Vec<String>) -> String {
        match unary {
            Unary::Gelu { tanh } => self.gelu(name, tanh, &inputs[0]),
            Unary::Clip { min, max } => {
                for (suffix, value) in [("min", min), ("max", max)] {
                    inputs.push(self.constant(&format!("{name}.{suffix}"), &[], &[f64::from(value)]));
                }
                self.push("Clip", name, inputs, vec![], "")
            }
            Unary::Silu => {
                let gate = self.push("Sigmoid", &format!("{name}.gate"), inputs.clone(), vec![], "");
                inputs.push(gate);
                self.push("Mul", name, inputs, vec![], "")
            }
            Unary::HardSigmoid => {
                let attributes = vec![float("alpha", 1.0 / 6.0), float("beta", 0.5)];
                self.push("HardSigmoid", name, inputs, attributes, "")
            }
            Unary::LeakyRelu { alpha } => self.push("LeakyRelu", name, inputs, vec![float("alpha", alpha)], ""),
            Unary::Sigmoid
            | Unary::Tanh
            | Unary::Erf
            | Unary::Sqrt
            | Unary::Exp
            | Unary::Neg
            | Unary::Abs
            | Unary::Reciprocal
            | Unary::Softplus
            | Unary::HardSwish => self.push(unary.name(), name, inputs, vec![], ""),
        }
    }

    /// `x (1 + erf(x / sqrt 2)) / 2`, or `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`: the operator set that is
    /// written has no Gelu; runtimes fuse the first form.
    fn gelu(&mut self, name: &str, tanh: bool, x: &str) -> String {
        let part = |suffix: &str| format!("{name}.{suffix}");
        let binary = |writer: &mut Self, op: &str, a: &str, b: &str, suffix: &str| {
            writer.push(op, &part(suffix), vec![a.into(), b.into()], vec![], "")
        };
        let inner = if tanh {
            let squared = binary(self, "Mul", x, x, "squared");
            let cubed = binary(self, "Mul", &squared, x, "cubed");
            let factor = self.constant(&part("cubic"), &[], &[0.044_715]);
            let cubic = binary(self, "Mul", &cubed, &factor, "scaled_cube");
            let sum = binary(self, "Add", x, &cubic, "polynomial");
            let factor = self.constant(&part("root"), &[], &[(2.0 / PI).sqrt()]);
            let scaled = binary(self, "Mul", &sum, &factor, "scaled");
            self.push("Tanh", &part("tanh"), vec![scaled], vec![], "")
        } else {
            let root = self.constant(&part("root"), &[], &[SQRT_2]);
            let scaled = binary(self, "Div", x, &root, "scaled");
            self.push("Erf", &part("erf"), vec![scaled], vec![], "")
        };
        let one = self.constant(&part("one"), &[], &[1.0]);
        let half = self.constant(&part("half"), &[], &[0.5]);
        let sum = binary(self, "Add", &inner, &one, "sum");
        let product = binary(self, "Mul", x, &sum, "product");
        self.push("Mul", name, vec![product, half], vec![], "")
    }

    fn reduce(&mut self, node: &Node, how: Reduction, axes: &[usize], keep: bool, mut inputs: Vec<String>) -> String {
        let name = node.name.as_str();
        let map = matches!(self.graph.node(node.inputs[0]).shape, Shape::Map { .. });
        // What runtimes are fastest at, and what can be quantised.
        let pooling = match how {
            Reduction::Mean => Some("GlobalAveragePool"),
            Reduction::Max => Some("GlobalMaxPool"),
            Reduction::Sum => None,
        };
        let mut sorted = axes.to_vec();
        sorted.sort_unstable();
        if let Some(pooling) = pooling
            && map
            && sorted == [2, 3]
        {
            if keep {
                return self.push(pooling, name, inputs, vec![], "");
            }
            let pooled = self.push(pooling, &format!("{name}.pool"), inputs, vec![], "");
            return self.push("Flatten", name, vec![pooled], vec![int("axis", 1)], "");
        }
        let mut attributes = vec![int("keepdims", keep.into())];
        match how {
            Reduction::Mean => attributes.push(ints("axes", axes)),
            Reduction::Max => attributes.push(ints("axes", axes)),
            Reduction::Sum => {
                let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
                inputs.push(self.integers(&format!("{name}.axes"), &axes));
            }
        }
        let op = TensorOp::Reduce { how, axes: Vec::new(), keep }.name();
        self.push(op, name, inputs, attributes, "")
    }

    /// A shape as a value; the number of pictures is read from the input.
    fn shape_value(&mut self, name: &str, shape: Shape) -> String {
        let dims = shape.dims();
        let Some(axis) = dims.iter().position(|&d| d == BATCH) else {
            return self.integers(&format!("{name}.shape"), &dims.iter().map(|&d| d as i64).collect::<Vec<_>>());
        };
        if !self.initializers.iter().any(|t| t.name == format!("{BATCH_SIZE}.start")) {
            let all = self.push("Shape", "image.shape", vec!["image".into()], vec![], "");
            let start = self.integers(&format!("{BATCH_SIZE}.start"), &[0]);
            let end = self.integers(&format!("{BATCH_SIZE}.end"), &[1]);
            self.push("Slice", "image.count", vec![all, start, end], vec![], BATCH_SIZE);
        }
        let mut parts = Vec::new();
        for (suffix, part) in [("before", &dims[..axis]), ("after", &dims[axis + 1..])] {
            if !part.is_empty() {
                let part: Vec<i64> = part.iter().map(|&d| d as i64).collect();
                parts.push(self.integers(&format!("{name}.{suffix}"), &part));
            }
        }
        parts.insert(usize::from(axis > 0), BATCH_SIZE.into());
        self.push("Concat", &format!("{name}.shape"), parts, vec![int("axis", 0)], "")
    }

    pub(crate) fn integers(&mut self, name: &str, values: &[i64]) -> String {
        self.int64(name, vec![values.len() as i64], values)
    }

    fn integer(&mut self, name: &str, value: i64) -> String {
        self.int64(name, Vec::new(), &[value])
    }

    fn int64(&mut self, name: &str, dims: Vec<i64>, values: &[i64]) -> String {
        self.initializers.push(TensorProto {
            dims,
            data_type: data_type::INT64,
            name: name.into(),
            raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name.into()
    }
}

pub(crate) fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, r#type: attribute_type::FLOAT, ..AttributeProto::default() }
}
