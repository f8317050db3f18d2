//! A network from an ONNX file: any encoder that PyTorch exports in training mode becomes a [`Graph`] with its weights,
//! to be pretrained, and to be written again by [`crate::onnx`].
//!
//! The file has one input, pictures `[n, channels, height, width]` with a free batch dimension, and one output, features
//! `[n, dimension]`. Its float initialisers are the learned tensors and keep their names (`layer1.0.conv1.weight`);
//! tensors of `Constant` nodes are not learned. Shapes that the file computes are computed here, once.

use crate::error::{Error, Result};
use crate::file;
use crate::graph::{Graph, GraphBuilder, NodeId, Op};
use crate::onnx;
use crate::onnx_constant::{Constant, MOST_COMPUTED, attribute, axis, evaluate, integer};
use crate::onnx_proto::*;
use crate::shape::{BATCH, Shape};
use crate::tensor_op::{Binary, Reduction, TensorOp, Unary};
use crate::weights::{Tensor, Weights};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Component, Path};

/// Largest file that is read, in bytes; protobuf ends at 2 GB, tensors beside the file may be larger.
const MAX_FILE_BYTES: u64 = 8 << 30;

/// What all refusals of a batch dimension advise.
const FREE_BATCH: &str =
    "export it with a free batch dimension (torch.onnx.export: dynamic_axes={\"image\": {0: \"n\"}})";

/// Operators that are read, besides those that only compute shapes.
#[rustfmt::skip]
pub const OPERATORS: [&str; 49] = [
    "Abs", "Add", "AveragePool", "BatchNormalization", "Cast", "Clip", "Concat", "Constant", "Conv", "Div", "Dropout",
    "Erf", "Exp", "Expand", "Flatten", "Gather", "Gelu", "Gemm", "GlobalAveragePool", "GlobalMaxPool", "HardSigmoid",
    "HardSwish", "Identity", "LayerNormalization", "LeakyRelu", "MatMul", "MaxPool", "Mul", "Neg", "Pad", "Pow",
    "Reciprocal", "ReduceMax", "ReduceMean", "ReduceSum", "Relu", "Reshape", "Shape", "Sigmoid", "Slice", "Softmax",
    "Softplus", "Split", "Sqrt", "Squeeze", "Sub", "Tanh", "Transpose", "Unsqueeze",
];

/// A network that was read.
#[derive(Clone, Debug)]
pub struct Imported {
    /// What it computes.
    pub graph: Graph,
    /// The tensors that the file holds.
    pub weights: Weights,
    /// The file again, with all tensors inside.
    pub bytes: Vec<u8>,
}

/// Reads a file; tensors beside it (`encoder.onnx.data`) are found in its folder.
///
/// # Errors
/// [`Error::Io`], [`Error::Limit`]; as [`read`], with the file's name.
pub fn load(path: &Path) -> Result<Imported> {
    // Whoever reads the message has several files, one of them this.
    load_with_data(path).map_err(|error| match error {
        Error::Onnx { why } => Error::Onnx { why: format!("{}: {why}", path.display()) },
        Error::Import { node, operator, why } => {
            Error::Import { node, operator, why: format!("{why} ({})", path.display()) }
        }
        other => other,
    })
}

fn load_with_data(path: &Path) -> Result<Imported> {
    let mut model = onnx::decode(&file::read(path, MAX_FILE_BYTES)?)?;
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for tensor in model.graph.iter_mut().flat_map(|g| &mut g.initializer).filter(|t| onnx::reaches_out(t)) {
        let wrong = |why: String| Error::Onnx { why: format!("tensor {:?}: {why}", tensor.name) };
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let name = entry("location").ok_or_else(|| wrong("its data lie elsewhere, but not said where".into()))?;
        if !Path::new(name).components().all(|c| matches!(c, Component::Normal(_))) {
            return Err(wrong(format!("its data lie in {name:?}, outside the file's folder")));
        }
        let number = |key: &str| match entry(key) {
            Some(text) => text.parse().map(Some).map_err(|_| wrong(format!("{key} {text:?} is no number"))),
            None => Ok(None),
        };
        let (start, length): (Option<usize>, Option<usize>) = (number("offset")?, number("length")?);
        if !files.contains_key(name) {
            files.insert(name.to_owned(), file::read(&folder.join(name), MAX_FILE_BYTES)?);
        }
        let all = files.get(name).map_or(&[][..], Vec::as_slice);
        let start = start.unwrap_or(0);
        let end = length.map_or(Some(all.len()), |length| start.checked_add(length));
        let data = end.and_then(|end| all.get(start..end));
        let data = data.ok_or_else(|| wrong(format!("its data lie beyond the end of {name:?}")))?;
        tensor.raw_data = data.to_vec();
        tensor.external_data.clear();
        tensor.data_location = 0;
    }
    read(&model.encode_to_vec())
}

/// Reads a file's bytes.
///
/// # Errors
/// [`Error::Onnx`] for bytes that are no model, and for inputs and outputs that are none of an encoder;
/// [`Error::Import`] names the node that cannot be read, with its operator, and says why.
pub fn read(bytes: &[u8]) -> Result<Imported> {
    let model = onnx::decode(bytes)?;
    let found = onnx::inspect_model(&model)?;
    let wrong = |why: String| Error::Onnx { why };
    if found.external_data {
        return Err(wrong("its tensors lie in another file: read it by its path".into()));
    }
    let proto = model.graph.as_ref().ok_or_else(|| wrong("it holds no graph".into()))?;
    let names = |values: &[onnx::Value]| values.iter().map(|v| format!("{:?}", v.name)).collect::<Vec<_>>().join(", ");
    let [input] = &found.inputs[..] else {
        return Err(wrong(format!("an encoder has one input, this has {}", names(&found.inputs))));
    };
    let [output] = &found.outputs[..] else {
        return Err(wrong(format!("an encoder has one output, this has {}", names(&found.outputs))));
    };
    let shape = match input.shape.as_deref() {
        Some([None, Some(channels), Some(height), Some(width)]) if input.element == onnx::Element::Float32 => {
            if [channels, height, width].into_iter().any(|&size| size > MOST_PIXELS) {
                return Err(wrong(format!("its input is [{channels}, {height}, {width}], at most {MOST_PIXELS} each")));
            }
            Shape::Map { channels: *channels, height: *height, width: *width }
        }
        Some([Some(n), Some(_), Some(_), Some(_)]) => {
            return Err(wrong(format!("its input {:?} takes {n} pictures at a time: {FREE_BATCH}", input.name)));
        }
        shape => {
            let why = format!(
                "its input {:?} is {:?} {shape:?}, not float32 [n, channels, height, width] with fixed sizes",
                input.name, input.element
            );
            return Err(wrong(why));
        }
    };
    let mut importer = Importer::new(proto, shape)?;
    importer.values.insert(input.name.clone(), Value::Node(NodeId(0)));
    for index in order(proto, &output.name, &importer.values)? {
        importer.node(&proto.node[index])?;
    }
    let output = match importer.values.get(&output.name) {
        Some(Value::Node(id)) => *id,
        _ => return Err(wrong(format!("its output {:?} does not depend on the pictures", output.name))),
    };
    let found = importer.builder.shape(output);
    if !matches!(found, Shape::Vector { .. }) {
        let why = format!(
            "its output has shape {}, not [n, features]: let the model pool (timm: num_classes=0)",
            readable(&found.dims())
        );
        return Err(wrong(why));
    }
    let graph = importer.builder.finish(output);
    importer.weights.check(&graph)?;
    Ok(Imported { graph, weights: importer.weights, bytes: model.encode_to_vec() })
}

fn readable(dims: &[usize]) -> String {
    let text: Vec<String> = dims.iter().map(|&d| if d == BATCH { "n".into() } else { d.to_string() }).collect();
    format!("[{}]", text.join(", "))
}

/// How a message calls a node: exporters may leave its name empty.
fn title(node: &NodeProto) -> &str {
    if node.name.is_empty() { node.output.first().map_or("", String::as_str) } else { &node.name }
}

fn refuse(node: &NodeProto, why: impl Into<String>) -> Error {
    Error::Import { node: title(node).into(), operator: node.op_type.clone(), why: why.into() }
}

/// The nodes that the output needs, each behind those that it reads.
fn order(graph: &GraphProto, output: &str, given: &HashMap<String, Value>) -> Result<Vec<usize>> {
    let mut writers: HashMap<&str, usize> = HashMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for name in node.output.iter().filter(|name| !name.is_empty()) {
            if writers.insert(name, index).is_some() || given.contains_key(name) {
                return Err(refuse(node, format!("it writes {name:?}, which is written already")));
            }
        }
    }
    let start =
        *writers.get(output).ok_or_else(|| Error::Onnx { why: format!("no node writes its output {output:?}") })?;
    let mut sorted = Vec::new();
    let (mut open, mut done) = (BTreeSet::from([start]), BTreeSet::new());
    let mut stack = vec![(start, 0)];
    while let Some((index, next)) = stack.pop() {
        let node = &graph.node[index];
        let Some(name) = node.input.get(next) else {
            open.remove(&index);
            done.insert(index);
            sorted.push(index);
            continue;
        };
        stack.push((index, next + 1));
        if name.is_empty() || given.contains_key(name) {
            continue;
        }
        let Some(&writer) = writers.get(name.as_str()) else {
            let why = format!("it reads {name:?}, which is no input, no initialiser and written by no node");
            return Err(refuse(node, why));
        };
        if done.contains(&writer) {
            continue;
        }
        if !open.insert(writer) {
            return Err(refuse(node, format!("it reads {name:?}, which depends on it: the graph has a cycle")));
        }
        stack.push((writer, 0));
    }
    Ok(sorted)
}

/// Most channels, and most pixels per side, of the input.
const MOST_PIXELS: usize = 8192;

/// What an ONNX value is here.
#[derive(Clone, Debug)]
enum Value {
    /// Computed from pictures or learned tensors.
    Node(NodeId),
    /// Known now.
    Constant(Constant),
    /// A learned tensor that no node has taken yet.
    Learned(Tensor),
    /// A learned matrix of this name, transposed.
    Transposed(String),
}

struct Importer<'a> {
    builder: GraphBuilder,
    weights: Weights,
    values: HashMap<String, Value>,
    /// The nodes that read each value.
    readers: HashMap<&'a str, Vec<&'a NodeProto>>,
    names: BTreeSet<String>,
    output: &'a str,
    /// Values computed from constants so far.
    computed: usize,
}

impl<'a> Importer<'a> {
    fn new(graph: &'a GraphProto, input: Shape) -> Result<Self> {
        let mut values = HashMap::new();
        for tensor in &graph.initializer {
            let found = Constant::decode(tensor).map_err(|why| Error::Onnx { why })?;
            let value = if found.float && !found.dims.is_empty() {
                Value::Learned(Tensor { shape: found.dims, data: found.values.iter().map(|&v| v as f32).collect() })
            } else {
                Value::Constant(found)
            };
            if values.insert(tensor.name.clone(), value).is_some() {
                return Err(Error::Onnx { why: format!("it has two tensors named {:?}", tensor.name) });
            }
        }
        let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            for name in &node.input {
                readers.entry(name).or_default().push(node);
            }
        }
        let output = graph.output.first().map_or("", |o| o.name.as_str());
        let names = BTreeSet::from(["input".to_owned()]);
        Ok(Self {
            builder: GraphBuilder::new(input),
            weights: Weights::default(),
            values,
            readers,
            names,
            output,
            computed: 0,
        })
    }

    /// One node of the file.
    fn node(&mut self, node: &NodeProto) -> Result<()> {
        let known = node.output.first().is_some_and(|name| self.values.contains_key(name));
        if known {
            return Ok(()); // the bias that was taken into the layer before it
        }
        let supported = |operator: &str| OPERATORS.contains(&operator);
        if !matches!(node.domain.as_str(), "" | "ai.onnx") {
            return Err(refuse(node, format!("operators of the domain {:?} are not supported", node.domain)));
        }
        let inputs: Vec<&Constant> = node.input.iter().filter_map(|name| self.constant(name)).collect();
        let named = node.input.iter().filter(|name| !name.is_empty()).count();
        let result = if inputs.len() == named { evaluate(node, &inputs) } else { Ok(None) };
        if let Some(constant) = result.map_err(|why| refuse(node, why))? {
            self.computed += constant.values.len();
            if self.computed > 4 * MOST_COMPUTED {
                return Err(refuse(node, "it computes more than can be kept before there is a picture"));
            }
            self.set(node, 0, Value::Constant(constant));
            return Ok(());
        }
        if !supported(&node.op_type) {
            let why = format!("byol has no such operator; it has {}", OPERATORS.join(", "));
            return Err(refuse(node, why));
        }
        self.translate(node).map_err(|e| match e {
            Error::Graph { why, .. } => refuse(node, why),
            e => e,
        })
    }

    fn set(&mut self, node: &NodeProto, output: usize, value: Value) {
        if let Some(name) = node.output.get(output).filter(|name| !name.is_empty()) {
            self.values.insert(name.clone(), value);
        }
    }

    fn constant(&self, name: &str) -> Option<&Constant> {
        match self.values.get(name) {
            Some(Value::Constant(constant)) => Some(constant),
            _ => None,
        }
    }

    /// A node's input as a value that operators can read.
    fn operand(&mut self, node: &NodeProto, n: usize) -> Result<NodeId> {
        let name = node.input.get(n).filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refuse(node, format!("input {n} is missing")))?.clone();
        let id = match self.values.get(&name).cloned() {
            Some(Value::Node(id)) => return Ok(id),
            Some(Value::Learned(tensor)) => {
                let op = TensorOp::Parameter { shape: tensor.shape.clone() };
                let id = self.add(&name, Op::Tensor(op), &[])?;
                self.weights.insert(self.builder.name(id).to_owned(), tensor);
                id
            }
            Some(Value::Transposed(matrix)) => {
                let turned = NodeProto { input: vec![matrix.clone()], ..node.clone() };
                let id = self.operand(&turned, 0)?;
                self.add(&name, Op::Tensor(TensorOp::Transpose { permutation: vec![1, 0] }), &[id])?
            }
            Some(Value::Constant(constant)) => {
                if constant.values.iter().any(|&v| v >= BATCH as f64 && (v % BATCH as f64) == 0.0) {
                    return Err(refuse(node, "it computes with the number of pictures in a batch"));
                }
                let values = constant.values.iter().map(|&v| v as f32).collect();
                let op = TensorOp::Constant { shape: constant.dims, values };
                self.add(&name, Op::Tensor(op), &[])?
            }
            None => return Err(refuse(node, format!("it reads {name:?} before that is written"))),
        };
        self.values.insert(name, Value::Node(id));
        Ok(id)
    }

    /// Adds a node under a name that is free.
    fn add(&mut self, name: &str, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let base = if name.is_empty() { op.name() } else { name };
        let mut free = base.to_owned();
        let mut n = 1;
        while !self.names.insert(free.clone()) {
            n += 1;
            free = format!("{base}.{n}");
        }
        self.builder.add(free, op, inputs)
    }

    /// A learned tensor that a layer takes: its values, once.
    fn take(&mut self, node: &NodeProto, n: usize, what: &str) -> Result<Tensor> {
        let name = node.input.get(n).cloned().unwrap_or_default();
        match self.values.get(&name) {
            Some(Value::Learned(tensor)) => {
                if self.readers.get(name.as_str()).is_some_and(|readers| readers.len() > 1) {
                    return Err(refuse(node, format!("its {what} {name:?} is shared by several nodes")));
                }
                Ok(tensor.clone())
            }
            Some(_) => Err(refuse(node, format!("its {what} {name:?} is computed, not an initialiser"))),
            None => Err(refuse(node, format!("its {what} {name:?} is missing"))),
        }
    }

    /// The layer's name: what its weight's name begins with, or else the node's own.
    fn layer(&self, node: &NodeProto, weight: &str) -> String {
        let stem = weight.strip_suffix(".weight").filter(|stem| !stem.is_empty() && !self.names.contains(*stem));
        stem.unwrap_or_else(|| title(node)).to_owned()
    }

    /// A layer with its tensors.
    fn add_layer(&mut self, name: &str, op: Op, input: NodeId, tensors: Vec<(&str, Tensor)>) -> Result<NodeId> {
        let id = self.add(name, op, &[input])?;
        for (suffix, tensor) in tensors {
            self.weights.insert(format!("{}.{suffix}", self.builder.name(id)), tensor);
        }
        Ok(id)
    }

    /// Integers that stand in an attribute (older operator sets) or in a known input (newer ones).
    fn ints(&self, node: &NodeProto, name: &str, input: usize) -> Result<Option<Vec<i64>>> {
        if let Some(attribute) = attribute(node, name) {
            return Ok(Some(attribute.ints.clone()));
        }
        match node.input.get(input).filter(|name| !name.is_empty()) {
            None => Ok(None),
            Some(value) => match self.constant(value) {
                Some(constant) => Ok(Some(constant.values.iter().map(|&v| v as i64).collect())),
                None => Err(refuse(node, format!("its {name} depend on the picture"))),
            },
        }
    }

    /// A number that stands in an attribute or in a known input.
    fn number(&self, node: &NodeProto, name: &str, input: usize, default: f64) -> Result<f64> {
        if let Some(attribute) = attribute(node, name) {
            return Ok(f64::from(attribute.f));
        }
        match node.input.get(input).filter(|name| !name.is_empty()) {
            None => Ok(default),
            Some(value) => match self.constant(value).and_then(Constant::scalar) {
                Some(value) => Ok(value),
                None => Err(refuse(node, format!("its {name} is no known number"))),
            },
        }
    }

    fn translate(&mut self, node: &NodeProto) -> Result<()> {
        let name = title(node).to_owned();
        let bad = |why: String| refuse(node, why);
        let op = match node.op_type.as_str() {
            "Conv" => return self.conv(node),
            "BatchNormalization" => return self.batch_normalization(node),
            "LayerNormalization" => return self.layer_normalization(node),
            "Gemm" => return self.gemm(node),
            "MatMul" => return self.mat_mul(node),
            "Split" => return self.split(node),
            "Dropout" => return self.dropout(node),
            "Identity" => {
                let value = self.values.get(&node.input[0]).cloned();
                self.set(node, 0, value.ok_or_else(|| bad("it reads nothing".into()))?);
                return Ok(());
            }
            "Cast" => {
                if !matches!(integer(node, "to", 0) as i32, data_type::FLOAT) {
                    return Err(bad("values that depend on the picture stay float32".into()));
                }
                let id = self.operand(node, 0)?;
                self.set(node, 0, Value::Node(id));
                return Ok(());
            }
            "Transpose" => {
                if let Some(Value::Learned(tensor)) = self.values.get(&node.input[0])
                    && tensor.shape.len() == 2
                    && self.readers.get(node.input[0].as_str()).is_some_and(|r| r.len() == 1)
                {
                    self.set(node, 0, Value::Transposed(node.input[0].clone()));
                    return Ok(());
                }
                let rank = self.operand(node, 0).map(|id| self.builder.shape(id).dims().len())?;
                let permutation = match attribute(node, "perm") {
                    Some(a) => a.ints.iter().map(|&i| axis(i, rank)).collect::<Result<_, _>>().map_err(bad)?,
                    None => (0..rank).rev().collect(),
                };
                Op::Tensor(TensorOp::Transpose { permutation })
            }
            "Shape" => {
                let id = self.operand(node, 0)?;
                let dims: Vec<f64> = self.builder.shape(id).dims().iter().map(|&d| d as f64).collect();
                let end = integer(node, "end", dims.len() as i64);
                let clamp =
                    |i: i64| (if i < 0 { i + dims.len() as i64 } else { i }).clamp(0, dims.len() as i64) as usize;
                let (start, end) = (clamp(integer(node, "start", 0)), clamp(end));
                let part = dims.get(start..end).unwrap_or_default().to_vec();
                self.set(node, 0, Value::Constant(Constant::integers(part)));
                return Ok(());
            }
            "Add" | "Sub" | "Mul" | "Div" | "Pow" => {
                let (a, b) = (self.operand(node, 0)?, self.operand(node, 1)?);
                let (a, b) = (self.builder.shape(a), self.builder.shape(b));
                match node.op_type.as_str() {
                    "Add" if a == b => Op::Add,
                    "Add" => Op::Tensor(TensorOp::Binary(Binary::Add)),
                    "Sub" => Op::Tensor(TensorOp::Binary(Binary::Sub)),
                    "Mul" => Op::Tensor(TensorOp::Binary(Binary::Mul)),
                    "Div" => Op::Tensor(TensorOp::Binary(Binary::Div)),
                    _ => Op::Tensor(TensorOp::Binary(Binary::Pow)),
                }
            }
            "Relu" => Op::Relu,
            "Concat" => {
                let first = self.operand(node, 0)?;
                let shape = self.builder.shape(first);
                let axis = axis(integer(node, "axis", 0), shape.dims().len()).map_err(bad)?;
                match shape {
                    Shape::Vector { .. } if axis == 1 => Op::Concat,
                    _ => Op::Tensor(TensorOp::Concat { axis }),
                }
            }
            "MaxPool" | "AveragePool" => self.pool(node)?,
            operator => match self.unary(node, operator)? {
                Some(unary) => Op::Tensor(TensorOp::Unary(unary)),
                None => self.reshaping(node)?,
            },
        };
        // What is left of the inputs is known already (axes, bounds), except where all are values.
        let all = matches!(node.op_type.as_str(), "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Concat");
        let count = if all { node.input.len() } else { 1 };
        let inputs: Vec<NodeId> = (0..count).map(|n| self.operand(node, n)).collect::<Result<_>>()?;
        let id = self.add(&name, op, &inputs)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }

    fn unary(&self, node: &NodeProto, operator: &str) -> Result<Option<Unary>> {
        let attribute_or = |name: &str, default: f32| attribute(node, name).map_or(default, |a| a.f);
        Ok(Some(match operator {
            "Sigmoid" => Unary::Sigmoid,
            "Tanh" => Unary::Tanh,
            "Erf" => Unary::Erf,
            "Sqrt" => Unary::Sqrt,
            "Exp" => Unary::Exp,
            "Neg" => Unary::Neg,
            "Abs" => Unary::Abs,
            "Reciprocal" => Unary::Reciprocal,
            "Softplus" => Unary::Softplus,
            "HardSwish" => Unary::HardSwish,
            "HardSigmoid" => {
                let (alpha, beta) = (attribute_or("alpha", 0.2), attribute_or("beta", 0.5));
                if (alpha - 1.0 / 6.0).abs() > 1e-4 || beta != 0.5 {
                    return Err(refuse(node, format!("alpha {alpha} and beta {beta}; 1/6 and 0.5 are possible")));
                }
                Unary::HardSigmoid
            }
            "Gelu" => Unary::Gelu { tanh: attribute(node, "approximate").is_some_and(|a| a.s == b"tanh") },
            "LeakyRelu" => match attribute_or("alpha", 0.01) {
                alpha if (0.0..=1.0).contains(&alpha) => Unary::LeakyRelu { alpha },
                alpha => return Err(refuse(node, format!("alpha {alpha}; 0 to 1 are possible"))),
            },
            "Clip" => Unary::Clip {
                min: self.number(node, "min", 1, f64::from(f32::MIN))? as f32,
                max: self.number(node, "max", 2, f64::from(f32::MAX))? as f32,
            },
            _ => return Ok(None),
        }))
    }

    /// Operators that move values, and those that work along axes.
    fn reshaping(&mut self, node: &NodeProto) -> Result<Op> {
        let id = self.operand(node, 0)?;
        let shape = self.builder.shape(id);
        let dims = shape.dims();
        let bad = |why: String| refuse(node, why);
        let axes = |all: Vec<i64>, rank: usize| -> Result<Vec<usize>> {
            all.into_iter().map(|a| axis(a, rank)).collect::<Result<_, _>>().map_err(bad)
        };
        let reshape = |dims: &[usize]| Ok(Op::Tensor(TensorOp::Reshape { to: Shape::new(dims).map_err(bad)? }));
        match node.op_type.as_str() {
            "Flatten" => {
                let at = integer(node, "axis", 1);
                if at == 1 && dims.first() == Some(&BATCH) {
                    return Ok(Op::Flatten);
                }
                let at = axis(at, dims.len() + 1).map_err(bad)?;
                reshape(&[dims[..at].iter().product(), dims[at..].iter().product()])
            }
            "Reshape" => {
                let to = self.ints(node, "shape", 1)?.ok_or_else(|| bad("its shape is missing".into()))?;
                let mut new: Vec<i128> = Vec::new();
                for (i, &d) in to.iter().enumerate() {
                    new.push(if d == 0 { dims.get(i).map_or(0, |&d| d as i128) } else { i128::from(d) });
                }
                // A product that is too large for the type is none of a value that there is.
                let product = |dims: &[i128]| dims.iter().try_fold(1_i128, |n, &d| n.checked_mul(d)).unwrap_or(-1);
                let total: i128 = dims.iter().map(|&d| d as i128).product();
                let known = product(&new.iter().copied().filter(|&d| d >= 0).collect::<Vec<_>>());
                for d in new.iter_mut().filter(|d| **d < 0) {
                    *d = if known > 0 { total / known } else { 0 };
                }
                if product(&new) != total {
                    let hint = if dims.contains(&BATCH) { format!(" ({FREE_BATCH})") } else { String::new() };
                    return Err(bad(format!("cannot reshape {} to {to:?}{hint}", readable(&dims))));
                }
                reshape(&new.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect::<Vec<_>>())
            }
            "Squeeze" => {
                let gone = match self.ints(node, "axes", 1)? {
                    Some(all) => axes(all, dims.len())?,
                    None => (0..dims.len()).filter(|&a| dims[a] == 1).collect(),
                };
                let left = dims.iter().enumerate().filter(|(a, _)| !gone.contains(a)).map(|(_, &d)| d);
                reshape(&left.collect::<Vec<_>>())
            }
            "Unsqueeze" => {
                let all = self.ints(node, "axes", 1)?.unwrap_or_default();
                let rank = dims.len() + all.len();
                let new = axes(all, rank)?;
                let mut old = dims.iter();
                let dim = |a: usize| if new.contains(&a) { Some(1) } else { old.next().copied() };
                reshape(&(0..rank).map_while(dim).collect::<Vec<_>>())
            }
            "Expand" => {
                let to = self.ints(node, "shape", 1)?.unwrap_or_default();
                let rank = to.len().max(dims.len());
                let at = |all: &[usize], a: usize| (a + all.len()).checked_sub(rank).map_or(1, |i| all[i]);
                let to: Vec<usize> = to.iter().map(|&d| usize::try_from(d).unwrap_or(0)).collect();
                let new: Vec<usize> = (0..rank).map(|a| at(&to, a).max(at(&dims, a))).collect();
                Ok(Op::Tensor(TensorOp::Expand { to: Shape::new(&new).map_err(bad)? }))
            }
            "Softmax" => {
                let axis = axis(integer(node, "axis", -1), dims.len()).map_err(bad)?;
                Ok(Op::Tensor(TensorOp::Softmax { axis }))
            }
            "Gather" => {
                let axis = axis(integer(node, "axis", 0), dims.len()).map_err(bad)?;
                let index = node.input.get(1).and_then(|name| self.constant(name));
                let index = index.filter(|c| c.dims.is_empty()).and_then(Constant::scalar);
                let index = index.ok_or_else(|| bad("only one fixed index can be gathered".into()))?;
                let index = self::axis(index as i64, dims[axis]).map_err(bad)?;
                Ok(Op::Tensor(TensorOp::Gather { axis, index }))
            }
            "Slice" => {
                let list = |name: &str, input| self.ints(node, name, input);
                let starts = list("starts", 1)?.unwrap_or_default();
                let ends = list("ends", 2)?.unwrap_or_default();
                let axes = list("axes", 3)?.unwrap_or_else(|| vec![0]);
                let steps = list("steps", 4)?.unwrap_or_else(|| vec![1]);
                let ([start], [end], [at], [step]) = (&starts[..], &ends[..], &axes[..], &steps[..]) else {
                    return Err(bad("one axis at a time can be sliced, forwards".into()));
                };
                if *step < 1 {
                    return Err(bad(format!("steps of {step}")));
                }
                let axis = axis(*at, dims.len()).map_err(bad)?;
                let length = dims[axis] as i64;
                let clamp = |i: i64| (if i < 0 { i.saturating_add(length) } else { i }).clamp(0, length) as usize;
                let (start, end) = (clamp(*start), clamp(*end));
                if start == 0 && end == dims[axis] && *step == 1 {
                    return reshape(&dims); // all of it
                }
                Ok(Op::Tensor(TensorOp::Slice { axis, start, end, step: *step as usize }))
            }
            "ReduceMean" | "ReduceSum" | "ReduceMax" => {
                let axes = match self.ints(node, "axes", 1)? {
                    Some(all) => axes(all, dims.len())?,
                    None => (0..dims.len()).collect(),
                };
                let how = match node.op_type.as_str() {
                    "ReduceMean" => Reduction::Mean,
                    "ReduceSum" => Reduction::Sum,
                    _ => Reduction::Max,
                };
                Ok(Op::Tensor(TensorOp::Reduce { how, axes, keep: integer(node, "keepdims", 1) != 0 }))
            }
            "GlobalAveragePool" | "GlobalMaxPool" => {
                let how = if node.op_type == "GlobalMaxPool" { Reduction::Max } else { Reduction::Mean };
                Ok(Op::Tensor(TensorOp::Reduce { how, axes: (2..dims.len()).collect(), keep: true }))
            }
            "Pad" => {
                if attribute(node, "mode").is_some_and(|a| a.s != b"constant") {
                    return Err(bad("only a constant border is possible".into()));
                }
                let pads = self.ints(node, "pads", 1)?.unwrap_or_default();
                let value = self.number(node, "value", 2, 0.0)? as f32;
                let pads: Vec<usize> = pads.iter().map_while(|&p| usize::try_from(p).ok()).collect();
                let &[0, 0, top, left, 0, 0, bottom, right] = &pads[..] else {
                    return Err(bad(format!("a border of {pads:?}; only feature maps can be padded")));
                };
                Ok(Op::Tensor(TensorOp::Pad { before: [top, left], after: [bottom, right], value }))
            }
            _ => Err(bad("it reads learned tensors in a way that byol does not know".into())),
        }
    }

    /// Stride, padding and dilation: `[vertical, horizontal]`.
    fn window(&self, node: &NodeProto) -> Result<([usize; 2], [usize; 2])> {
        let bad = |why: String| refuse(node, why);
        let list = |name: &str, default: Vec<i64>| -> Result<Vec<usize>> {
            let found = attribute(node, name).map_or(default, |a| a.ints.clone());
            found.iter().map(|&v| usize::try_from(v).map_err(|_| bad(format!("{name} {found:?}")))).collect()
        };
        let (stride, pads) = (list("strides", vec![1, 1])?, list("pads", vec![0; 4])?);
        let dilations = list("dilations", vec![1, 1])?;
        if dilations.iter().any(|&d| d != 1) {
            return Err(bad(format!("dilations {dilations:?}; only 1 is possible")));
        }
        if attribute(node, "auto_pad").is_some_and(|a| !matches!(a.s.as_slice(), b"" | b"NOTSET" | b"VALID")) {
            return Err(bad("padding must be written out, not automatic".into()));
        }
        match (&stride[..], &pads[..]) {
            (&[sh, sw], &[top, left, bottom, right]) if top == bottom && left == right => Ok(([sh, sw], [top, left])),
            _ => Err(bad(format!("strides {stride:?} with pads {pads:?}; two dimensions, the same on both sides"))),
        }
    }

    fn pool(&mut self, node: &NodeProto) -> Result<Op> {
        let bad = |why: String| refuse(node, why);
        let (stride, padding) = self.window(node)?;
        let kernel = attribute(node, "kernel_shape").map_or(&[][..], |a| &a.ints);
        let sizes: Vec<usize> = kernel.iter().map_while(|&k| usize::try_from(k).ok()).collect();
        let &[h, w] = &sizes[..] else { return Err(bad(format!("a kernel of {kernel:?}"))) };
        let kernel = [h, w];
        let id = self.operand(node, 0)?;
        let Shape::Map { height, width, .. } = self.builder.shape(id) else {
            return Err(bad(format!("it reads a feature map, got {}", self.builder.shape(id))));
        };
        let whole =
            [height, width].iter().zip(kernel).zip(padding).zip(stride).all(|(((size, kernel), padding), stride)| {
                padding.saturating_mul(2).saturating_add(*size).wrapping_sub(kernel).is_multiple_of(stride)
            });
        if integer(node, "ceil_mode", 0) != 0 && !whole {
            return Err(bad("ceil_mode, where the windows do not fill the map".into()));
        }
        if node.op_type == "MaxPool" {
            return Ok(Op::MaxPool { kernel, stride, padding });
        }
        if integer(node, "count_include_pad", 0) != 0 && padding != [0, 0] {
            return Err(bad("count_include_pad with padding".into()));
        }
        Ok(Op::AvgPool { kernel, stride, padding, ceil: false })
    }

    fn conv(&mut self, node: &NodeProto) -> Result<()> {
        let weight = self.take(node, 1, "weight")?;
        let &[out_channels, per_group, h, w] = &weight.shape[..] else {
            return Err(refuse(
                node,
                format!("a weight of shape {:?}; only 2-d convolution is possible", weight.shape),
            ));
        };
        let (stride, padding) = self.window(node)?;
        let groups = usize::try_from(integer(node, "group", 1)).unwrap_or(0);
        let bias = node.input.get(2).is_some_and(|name| !name.is_empty());
        let mut tensors = vec![("weight", weight)];
        if bias {
            tensors.push(("bias", self.take(node, 2, "bias")?));
        }
        let in_channels = per_group.saturating_mul(groups);
        let op = Op::Conv2d {
            in_channels,
            out_channels,
            kernel: [h, w],
            stride,
            padding,
            groups,
            bias,
            standardised: false,
        };
        let input = self.operand(node, 0)?;
        let name = self.layer(node, &node.input[1]);
        let id = self.add_layer(&name, op, input, tensors)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }

    fn batch_normalization(&mut self, node: &NodeProto) -> Result<()> {
        let names = ["weight", "bias", "running_mean", "running_var"];
        let tensors: Vec<(&str, Tensor)> = names
            .iter()
            .enumerate()
            .map(|(n, name)| Ok((*name, self.take(node, n + 1, name)?)))
            .collect::<Result<_>>()?;
        let channels = tensors[0].1.data.len();
        let eps = attribute(node, "epsilon").map_or(1e-5, |a| f64::from(a.f));
        // ONNX's momentum is the old value's share. Rounded, since 1 - 0.9f32 is no longer 0.1.
        let momentum = 1.0 - attribute(node, "momentum").map_or(0.9, |a| f64::from(a.f));
        let (eps, momentum) = (shortest(eps), shortest(momentum));
        let op = Op::BatchNorm { channels, eps, momentum };
        let input = self.operand(node, 0)?;
        let name = self.layer(node, &node.input[1]);
        let id = self.add_layer(&name, op, input, tensors)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }

    fn layer_normalization(&mut self, node: &NodeProto) -> Result<()> {
        let input = self.operand(node, 0)?;
        let dims = self.builder.shape(input).dims();
        let at = axis(integer(node, "axis", -1), dims.len()).map_err(|why| refuse(node, why))?;
        if at + 1 != dims.len() {
            return Err(refuse(node, "only the last axis can be normalised".to_owned()));
        }
        let features = dims[at];
        if features >= BATCH {
            return Err(refuse(node, format!("a last axis of {features}")));
        }
        let mut tensors = Vec::new();
        for (n, name, default) in [(1, "weight", 1.0), (2, "bias", 0.0)] {
            let given = node.input.get(n).is_some_and(|name| !name.is_empty());
            let tensor = if given { self.take(node, n, name)? } else { Tensor::full(&[features], default) };
            tensors.push((name, tensor));
        }
        let eps = shortest(attribute(node, "epsilon").map_or(1e-5, |a| f64::from(a.f)));
        let op = Op::Tensor(TensorOp::LayerNormalization { features, eps });
        let name = self.layer(node, node.input.get(1).map_or("", String::as_str));
        let id = self.add_layer(&name, op, input, tensors)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }

    fn gemm(&mut self, node: &NodeProto) -> Result<()> {
        let plain = |name: &str| attribute(node, name).is_none_or(|a| a.f == 1.0);
        if integer(node, "transA", 0) != 0 || !plain("alpha") || !plain("beta") {
            return Err(refuse(node, "transA, alpha and beta other than 1 are not possible"));
        }
        let found = self.take(node, 1, "weight")?;
        let weight = if integer(node, "transB", 0) != 0 { found } else { transpose(found) };
        let bias = node.input.get(2).is_some_and(|name| !name.is_empty());
        let bias = if bias { Some(self.take(node, 2, "bias")?) } else { None };
        let name = self.layer(node, &node.input[1]);
        self.linear(node, 0, &name, weight, bias)
    }

    fn mat_mul(&mut self, node: &NodeProto) -> Result<()> {
        let right = node.input.get(1).cloned().unwrap_or_default();
        let once = self.readers.get(right.as_str()).is_some_and(|readers| readers.len() == 1);
        let found = match self.values.get(&right) {
            Some(Value::Learned(tensor)) if tensor.shape.len() == 2 && once => Some((right, transpose(tensor.clone()))),
            Some(Value::Transposed(matrix)) if once => match self.values.get(matrix) {
                Some(Value::Learned(tensor)) => Some((matrix.clone(), tensor.clone())),
                _ => None,
            },
            _ => None,
        };
        if let Some((matrix, weight)) = found {
            let name = self.layer(node, &matrix);
            return self.linear(node, 0, &name, weight, None);
        }
        let inputs = [self.operand(node, 0)?, self.operand(node, 1)?];
        let id = self.add(title(node), Op::Tensor(TensorOp::MatMul), &inputs)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }

    /// A fully connected layer; a learned vector that is added to it, and to nothing else, becomes its bias.
    fn linear(&mut self, node: &NodeProto, n: usize, name: &str, weight: Tensor, bias: Option<Tensor>) -> Result<()> {
        let &[out_features, in_features] = &weight.shape[..] else {
            return Err(refuse(node, format!("a weight of shape {:?}", weight.shape)));
        };
        let input = self.operand(node, n)?;
        let product = node.output.first().map_or("", String::as_str);
        let mut results = vec![product.to_owned()];
        let mut bias = bias;
        if bias.is_none()
            && product != self.output
            && let Some(&[add]) = self.readers.get(product).map(Vec::as_slice)
            && add.op_type == "Add"
            && let Some(n) = add.input.iter().position(|name| {
                matches!(self.values.get(name), Some(Value::Learned(t)) if t.shape == [out_features])
                    && self.readers.get(name.as_str()).is_some_and(|r| r.len() == 1)
            })
        {
            bias = Some(self.take(add, n, "bias")?);
            results.extend(add.output.iter().cloned());
        }
        let op = Op::Linear { in_features, out_features, bias: bias.is_some() };
        let mut tensors = vec![("weight", weight)];
        tensors.extend(bias.map(|bias| ("bias", bias)));
        let id = self.add_layer(name, op, input, tensors)?;
        for result in results {
            self.values.insert(result, Value::Node(id));
        }
        Ok(())
    }

    /// Parts of an axis, each a slice.
    fn split(&mut self, node: &NodeProto) -> Result<()> {
        let bad = |why: String| refuse(node, why);
        let input = self.operand(node, 0)?;
        let dims = self.builder.shape(input).dims();
        let axis = axis(integer(node, "axis", 0), dims.len()).map_err(bad)?;
        let parts = match self.ints(node, "split", 1)? {
            Some(parts) => parts.iter().map(|&p| usize::try_from(p).unwrap_or(0)).collect(),
            None => {
                let each = dims[axis].div_ceil(node.output.len().max(1));
                (0..node.output.len()).map(|i| each.min(dims[axis].saturating_sub(i * each))).collect::<Vec<_>>()
            }
        };
        let sum = parts.iter().try_fold(0_usize, |sum, &part| sum.checked_add(part));
        if sum != Some(dims[axis]) || parts.len() != node.output.len() {
            return Err(bad(format!("parts {parts:?} of an axis of {}", dims[axis])));
        }
        let mut start = 0;
        for (n, part) in parts.into_iter().enumerate() {
            let op = TensorOp::Slice { axis, start, end: start + part, step: 1 };
            let id = self.add(&format!("{}.{n}", title(node)), Op::Tensor(op), &[input])?;
            self.set(node, n, Value::Node(id));
            start += part;
        }
        Ok(())
    }

    /// Dropout that drops nothing is nothing.
    fn dropout(&mut self, node: &NodeProto) -> Result<()> {
        let ratio = self.number(node, "ratio", 1, 0.5)?;
        let trained = node.input.get(2).and_then(|name| self.constant(name)).and_then(Constant::scalar) == Some(1.0);
        if ratio != 0.0 && trained {
            let why = format!("it drops a share of {ratio} at random, which byol does not: export with a ratio of 0");
            return Err(refuse(node, why));
        }
        let id = self.operand(node, 0)?;
        self.set(node, 0, Value::Node(id));
        Ok(())
    }
}

/// A matrix turned.
fn transpose(tensor: Tensor) -> Tensor {
    let &[rows, columns] = &tensor.shape[..] else { return tensor };
    let data = (0..rows * columns).map(|i| tensor.data[(i % rows) * columns + i / rows]).collect();
    Tensor { shape: vec![columns, rows], data }
}

/// The decimal number that was written as a float32: 1e-5 and not 9.99999974e-6.
fn shortest(value: f64) -> f64 {
    format!("{:.4e}", value).parse().unwrap_or(value)
}
