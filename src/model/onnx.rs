//! The file that is served: an encoder as one self-describing ONNX model.
//!
//! The graph takes pictures as they are, `image`: uint8 `[n, height, width, channels]`, and does cast, transposition
//! and normalisation inside, so that any ONNX Runtime user only decodes and resizes. Its output is `features`: float32
//! `[n, dimension]`. BatchNorm is folded into the convolution or linear layer before it. The input contract and the
//! training record stand in the metadata under `byol.*` keys.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, NodeId, Op, STANDARDISATION_EPS, Shape};
use crate::onnx_proto::*;
use crate::onnx_skeleton::{self, Flaw};
use crate::onnx_tensor::float;
use crate::picture::InputContract;
use crate::weights::Weights;
use prost::Message;
use std::collections::BTreeMap;
use std::io::{Cursor, Read, Seek};

/// ONNX operator set that is written: the first with everything needed, so that old runtimes read it too.
pub(crate) const OPSET: i64 = 17;
/// File format version that belongs to the operator set.
pub(crate) const IR_VERSION: i64 = 8;
/// Version of the `byol.*` metadata.
const FORMAT: &str = "1";

/// What goes into a file.
#[derive(Debug)]
pub struct Export<'a> {
    /// The encoder; its output is a vector.
    pub graph: &'a Graph,
    /// Its tensors.
    pub weights: &'a Weights,
    /// How a picture becomes its input.
    pub contract: &'a InputContract,
    /// More metadata; keys get the prefix `byol.`.
    pub metadata: BTreeMap<String, String>,
}

/// Writes the model file's bytes; the same input gives the same bytes.
///
/// # Errors
/// As [`Weights::check`]; [`Error::Contract`] where the contract does not fit the graph's input.
pub fn write(export: &Export<'_>) -> Result<Vec<u8>> {
    let Export { graph, weights, contract, .. } = *export;
    weights.check(graph)?;
    contract.validate()?;
    let Shape::Map { channels, height, width } = graph.input_shape() else {
        return Err(Error::Graph { node: "input".into(), why: "an encoder reads pictures".into() });
    };
    if (channels, height, width) != (contract.channels, contract.height, contract.width) {
        let why = format!(
            "[{}, {}, {}] does not fit the encoder's input {}",
            contract.channels,
            contract.height,
            contract.width,
            graph.input_shape()
        );
        return Err(Error::Contract { key: "byol.input".into(), why });
    }

    let mut writer = Writer::new(graph, weights);
    writer.input(contract);
    for index in 1..graph.nodes().len() {
        writer.node(NodeId(index))?;
    }
    writer.push("Flatten", "features", vec![writer.values[graph.output().0].clone()], vec![int("axis", 1)], "features");

    let dimension = graph.dimension() as i64;
    let fixed = |n: usize| Dimension::Value(n as i64);
    let batch = || Dimension::Param("n".into());
    let image = vec![batch(), fixed(height), fixed(width), fixed(channels)];
    let model = ModelProto {
        ir_version: IR_VERSION,
        producer_name: "byol".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: metadata(export)
            .into_iter()
            .map(|(key, value)| StringStringEntryProto { key, value })
            .collect(),
        graph: Some(GraphProto {
            name: "byol-encoder".into(),
            node: writer.nodes,
            initializer: writer.initializers,
            input: vec![value_info("image", data_type::UINT8, image)],
            output: vec![value_info("features", data_type::FLOAT, vec![batch(), Dimension::Value(dimension)])],
            ..GraphProto::default()
        }),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// All metadata of a file: format, input contract, and what the caller adds.
fn metadata(export: &Export<'_>) -> BTreeMap<String, String> {
    let mut all = export.contract.to_metadata();
    all.insert("byol.format".into(), FORMAT.into());
    all.insert("byol.dimension".into(), export.graph.dimension().to_string());
    all.extend(export.metadata.iter().map(|(key, value)| (format!("byol.{key}"), value.clone())));
    all
}

/// Walks a graph and collects ONNX nodes and constants.
pub(crate) struct Writer<'a> {
    pub(crate) graph: &'a Graph,
    weights: &'a Weights,
    nodes: Vec<NodeProto>,
    pub(crate) initializers: Vec<TensorProto>,
    /// The ONNX value that holds each node's output.
    pub(crate) values: Vec<String>,
    /// How many nodes read each node.
    readers: Vec<usize>,
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, weights: &'a Weights) -> Self {
        let mut readers = vec![0; graph.nodes().len()];
        for node in graph.nodes() {
            for input in &node.inputs {
                readers[input.0] += 1;
            }
        }
        readers[graph.output().0] += 1;
        let values = Vec::with_capacity(graph.nodes().len());
        Self { graph, weights, nodes: Vec::new(), initializers: Vec::new(), values, readers }
    }

    /// Transposition to `[n, c, h, w]`, cast, and `pixel * scale + shift` per channel.
    fn input(&mut self, contract: &InputContract) {
        let (scale, shift) = contract.scale_and_shift();
        // Transposed while still bytes: a quarter of the traffic.
        let permutation = ints("perm", &[0, 3, 1, 2]);
        let bytes = self.push("Transpose", "image.bytes", vec!["image".into()], vec![permutation], "");
        let planar = self.push("Cast", "image.planar", vec![bytes], vec![int("to", data_type::FLOAT.into())], "");
        let scale = self.constant("image.scale", &[1, contract.channels, 1, 1], &scale);
        let scaled = self.push("Mul", "image.scaled", vec![planar, scale], vec![], "");
        let shift = self.constant("image.shift", &[1, contract.channels, 1, 1], &shift);
        let normalised = self.push("Add", "image.normalised", vec![scaled, shift], vec![], "");
        self.values.push(normalised);
    }

    /// One node of the graph.
    fn node(&mut self, id: NodeId) -> Result<()> {
        let node = self.graph.node(id);
        let name = node.name.as_str();
        let inputs: Vec<String> = node.inputs.iter().map(|i| self.values[i.0].clone()).collect();
        let value = match &node.op {
            Op::Input => return Err(Error::Graph { node: name.into(), why: "a second input".into() }),
            Op::Conv2d { stride, padding, kernel, groups, .. } => {
                let attributes = vec![
                    ints("kernel_shape", kernel),
                    ints("strides", stride),
                    ints("pads", &[padding[0], padding[1], padding[0], padding[1]]),
                    int("group", *groups as i64),
                ];
                self.affine("Conv", node, inputs, attributes)?
            }
            Op::Linear { .. } if matches!(node.shape, Shape::Vector { .. }) => {
                self.affine("Gemm", node, inputs, vec![int("transB", 1)])?
            }
            Op::Linear { .. } => self.linear_along_last_axis(node, &inputs[0])?,
            Op::Tensor(op) => self.tensor_op(node, op, inputs)?,
            // Already inside the layer that it reads.
            Op::BatchNorm { .. } if self.folds(node) => inputs[0].clone(),
            Op::BatchNorm { .. } => {
                let (scale, shift) = self.batch_norm(node)?;
                let shape: &[usize] = match node.shape {
                    Shape::Map { .. } => &[1, scale.len(), 1, 1],
                    Shape::Vector { .. } | Shape::Tensor(_) => &[1, scale.len()],
                };
                let scale = self.constant(&format!("{name}.scale"), shape, &scale);
                let shift = self.constant(&format!("{name}.shift"), shape, &shift);
                let scaled = self.push("Mul", &format!("{name}.scaled"), vec![inputs[0].clone(), scale], vec![], "");
                self.push("Add", name, vec![scaled, shift], vec![], "")
            }
            Op::GroupNorm { channels, groups, eps } => {
                self.group_norm(node, (*channels, *groups, *eps), inputs[0].clone())?
            }
            Op::Relu => self.push("Relu", name, inputs, vec![], ""),
            // Padding does not count in ONNX's AveragePool unless it is told otherwise.
            Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding, .. } => {
                let pads = ints("pads", &[padding[0], padding[1], padding[0], padding[1]]);
                let mut attributes = vec![ints("kernel_shape", kernel), ints("strides", stride), pads];
                if matches!(node.op, Op::AvgPool { ceil: true, .. }) {
                    attributes.push(int("ceil_mode", 1));
                }
                let op_type = if matches!(node.op, Op::MaxPool { .. }) { "MaxPool" } else { "AveragePool" };
                self.push(op_type, name, inputs, attributes, "")
            }
            Op::GlobalAvgPool => {
                let pooled = self.push("GlobalAveragePool", &format!("{name}.pool"), inputs, vec![], "");
                self.push("Flatten", name, vec![pooled], vec![int("axis", 1)], "")
            }
            Op::GlobalMaxPool => {
                let pooled = self.push("GlobalMaxPool", &format!("{name}.pool"), inputs, vec![], "");
                self.push("Flatten", name, vec![pooled], vec![int("axis", 1)], "")
            }
            Op::Flatten => self.push("Flatten", name, inputs, vec![int("axis", 1)], ""),
            Op::Add => self.push("Add", name, inputs, vec![], ""),
            Op::Concat => self.push("Concat", name, inputs, vec![int("axis", 1)], ""),
        };
        self.values.push(value);
        Ok(())
    }

    /// Whether a BatchNorm can move into the layer that it reads: nobody else reads that layer.
    fn folds(&self, node: &Node) -> bool {
        let before = node.inputs[0];
        self.readers[before.0] == 1 && matches!(self.graph.node(before).op, Op::Conv2d { .. } | Op::Linear { .. })
    }

    /// A BatchNorm as `x * scale + shift`, in evaluation mode.
    fn batch_norm(&self, node: &Node) -> Result<(Vec<f64>, Vec<f64>)> {
        let Op::BatchNorm { eps, .. } = node.op else {
            return Err(Error::Graph { node: node.name.clone(), why: "is no BatchNorm".into() });
        };
        let tensor = |suffix: &str| self.tensor(&format!("{}.{suffix}", node.name));
        let (weight, bias) = (tensor("weight")?, tensor("bias")?);
        let (mean, var) = (tensor("running_mean")?, tensor("running_var")?);
        let scale: Vec<f64> =
            weight.iter().zip(var).map(|(&w, &v)| f64::from(w) / (f64::from(v) + eps).sqrt()).collect();
        let shift = bias.iter().zip(mean).zip(&scale).map(|((&b, &m), s)| f64::from(b) - f64::from(m) * s).collect();
        Ok((scale, shift))
    }

    /// The operator set that is written has no group normalisation: each example's groups become the channels of an
    /// instance normalisation.
    fn group_norm(&mut self, node: &Node, of: (usize, usize, f64), input: String) -> Result<String> {
        let (channels, groups, eps) = of;
        let name = &node.name;
        let Shape::Map { height, width, .. } = node.shape else {
            return Err(Error::Graph { node: name.clone(), why: "reads a feature map".into() });
        };
        let part = |suffix: &str| format!("{name}.{suffix}");
        let row = channels / groups * height * width;
        let shape = self.integers(&part("groups"), &[-1, groups as i64, row as i64]);
        let grouped = self.push("Reshape", &part("grouped"), vec![input, shape], vec![], "");
        let one = self.constant(&part("one"), &[groups], &vec![1.0; groups]);
        let zero = self.constant(&part("zero"), &[groups], &vec![0.0; groups]);
        let operands = vec![grouped, one, zero];
        let normal =
            self.push("InstanceNormalization", &part("normal"), operands, vec![float("epsilon", eps as f32)], "");
        let shape = self.integers(&part("shape"), &[-1, channels as i64, height as i64, width as i64]);
        let normal = self.push("Reshape", &part("map"), vec![normal, shape], vec![], "");
        let mut learned = |suffix: &str| -> Result<String> {
            let full = format!("{name}.{suffix}");
            let values: Vec<f64> = self.tensor(&full)?.iter().map(|&v| f64::from(v)).collect();
            Ok(self.constant(&full, &[1, channels, 1, 1], &values))
        };
        let (weight, bias) = (learned("weight")?, learned("bias")?);
        let scaled = self.push("Mul", &part("scaled"), vec![normal, weight], vec![], "");
        Ok(self.push("Add", name, vec![scaled, bias], vec![], ""))
    }

    /// A convolution or linear layer, with the BatchNorm that alone reads it folded in.
    fn affine(
        &mut self,
        op_type: &str,
        node: &Node,
        mut inputs: Vec<String>,
        attributes: Vec<AttributeProto>,
    ) -> Result<String> {
        let name = &node.name;
        let has_bias = matches!(node.op, Op::Conv2d { bias: true, .. } | Op::Linear { bias: true, .. });
        let weights = self.weights;
        let weight = weights.get(&format!("{name}.weight")).ok_or_else(|| missing(&format!("{name}.weight")))?;
        let rows = weight.shape[0];
        let mut bias: Vec<f64> = vec![0.0; rows];
        if has_bias {
            bias = self.tensor(&format!("{name}.bias"))?.iter().map(|&b| f64::from(b)).collect();
        }
        let mut values: Vec<f64> = weight.data.iter().map(|&w| f64::from(w)).collect();
        if matches!(node.op, Op::Conv2d { standardised: true, .. }) {
            let row = values.len() / rows;
            values.chunks_exact_mut(row).for_each(standardise);
        }
        let norm = self.graph.nodes().iter().find(|n| {
            matches!(n.op, Op::BatchNorm { .. }) && self.graph.node(n.inputs[0]).name == *name && self.folds(n)
        });
        if let Some(norm) = norm {
            let (scale, shift) = self.batch_norm(norm)?;
            let row = values.len() / rows;
            for (r, values) in values.chunks_exact_mut(row).enumerate() {
                values.iter_mut().for_each(|v| *v *= scale[r]);
                bias[r] = bias[r] * scale[r] + shift[r];
            }
        }
        let shape = weight.shape.clone();
        inputs.push(self.constant(&format!("{name}.weight"), &shape, &values));
        if has_bias || norm.is_some() {
            inputs.push(self.constant(&format!("{name}.bias"), &[rows], &bias));
        }
        Ok(self.push(op_type, name, inputs, attributes, ""))
    }

    pub(crate) fn tensor(&self, name: &str) -> Result<&'a [f32]> {
        self.weights.get(name).map(|t| t.data.as_slice()).ok_or_else(|| missing(name))
    }

    /// A float32 constant.
    pub(crate) fn constant(&mut self, name: &str, shape: &[usize], values: &[f64]) -> String {
        self.initializers.push(TensorProto {
            dims: shape.iter().map(|&d| d as i64).collect(),
            data_type: data_type::FLOAT,
            name: name.into(),
            raw_data: values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            ..TensorProto::default()
        });
        name.into()
    }

    /// Adds an ONNX node; its value is called `output`, or after the node.
    pub(crate) fn push(
        &mut self,
        op_type: &str,
        name: &str,
        input: Vec<String>,
        attribute: Vec<AttributeProto>,
        output: &str,
    ) -> String {
        let output = if output.is_empty() { format!("{name}.out") } else { output.to_owned() };
        self.nodes.push(NodeProto {
            input,
            output: vec![output.clone()],
            name: name.into(),
            op_type: op_type.into(),
            attribute,
            ..NodeProto::default()
        });
        output
    }
}

/// Weight standardisation of one output channel.
fn standardise(weights: &mut [f64]) {
    let n = weights.len() as f64;
    let mean = weights.iter().sum::<f64>() / n;
    let variance = weights.iter().map(|w| (w - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + STANDARDISATION_EPS).sqrt();
    weights.iter_mut().for_each(|w| *w = (*w - mean) * scale);
}

fn missing(name: &str) -> Error {
    Error::MissingTensor { name: name.into(), expected: Vec::new() }
}

pub(crate) fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, r#type: attribute_type::INT, ..AttributeProto::default() }
}

pub(crate) fn ints(name: &str, values: &[usize]) -> AttributeProto {
    let ints = values.iter().map(|&v| v as i64).collect();
    AttributeProto { name: name.into(), ints, r#type: attribute_type::INTS, ..AttributeProto::default() }
}

pub(crate) fn value_info(name: &str, elem_type: i32, shape: Vec<Dimension>) -> ValueInfoProto {
    let dim = shape.into_iter().map(|d| DimensionProto { value: Some(d) }).collect();
    let tensor_type = TensorTypeProto { elem_type, shape: Some(TensorShapeProto { dim }) };
    ValueInfoProto { name: name.into(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// Element type of a model's input or output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// 8-bit unsigned.
    Uint8,
    /// 32-bit float.
    Float32,
    /// Another ONNX type, by its number.
    Other(i32),
}

/// A model's input or output.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub element: Element,
    /// Its dimensions; `None` where the size is free. `None` as a whole where the rank is free too.
    pub shape: Option<Vec<Option<usize>>>,
}

/// What can be known of a model file without a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Who wrote the file.
    pub producer: String,
    /// Default operator set.
    pub opset: i64,
    /// All metadata.
    pub metadata: BTreeMap<String, String>,
    /// Inputs that are no constants.
    pub inputs: Vec<Value>,
    /// Outputs.
    pub outputs: Vec<Value>,
    /// Number of nodes.
    pub nodes: usize,
    /// Whether tensors lie in other files.
    pub external_data: bool,
}

/// Reads what a model file says of itself, without building a session.
///
/// # Errors
/// [`Error::Onnx`] for truncated or foreign bytes, and for models without graph, input or output.
pub fn inspect(bytes: &[u8]) -> Result<Inspection> {
    inspect_from(Cursor::new(bytes), bytes.len() as u64)
}

/// As [`inspect`], of a file of `length` bytes that `file` reads from here on. Weights are passed over, not read.
///
/// # Errors
/// Those of [`inspect`]; a file that cannot be read is [`Error::Onnx`] too.
pub fn inspect_from(file: impl Read + Seek, length: u64) -> Result<Inspection> {
    let wrong = |why: String| Error::Onnx { why };
    if length == 0 {
        return Err(wrong("the file is empty".into()));
    }
    let foreign =
        |why: &dyn std::fmt::Display| wrong(format!("{length} bytes that are no complete ONNX protobuf ({why})"));
    let skeleton = onnx_skeleton::read(file, length).map_err(|flaw| match flaw {
        Flaw::Io(e) => wrong(format!("it cannot be read: {e}")),
        Flaw::Form(why) => foreign(&why),
    })?;
    inspect_model(&ModelProto::decode(&skeleton[..]).map_err(|e| foreign(&e))?)
}

/// The file's protobuf message.
pub(crate) fn decode(bytes: &[u8]) -> Result<ModelProto> {
    let wrong = |why: String| Error::Onnx { why };
    if bytes.is_empty() {
        return Err(wrong("the file is empty".into()));
    }
    ModelProto::decode(bytes)
        .map_err(|e| wrong(format!("{} bytes that are no complete ONNX protobuf ({e})", bytes.len())))
}

/// As [`inspect`], of a file that is decoded already.
pub(crate) fn inspect_model(model: &ModelProto) -> Result<Inspection> {
    let wrong = |why: String| Error::Onnx { why };
    let graph = model.graph.as_ref().ok_or_else(|| wrong("it holds no graph".into()))?;
    if model.ir_version == 0 || model.opset_import.is_empty() || graph.node.is_empty() {
        return Err(wrong("it holds no versions or no nodes: a foreign or damaged file".into()));
    }
    let constants: std::collections::BTreeSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs: Vec<Value> = graph.input.iter().filter(|v| !constants.contains(v.name.as_str())).map(value).collect();
    let outputs: Vec<Value> = graph.output.iter().map(value).collect();
    if inputs.is_empty() || outputs.is_empty() {
        return Err(wrong(format!("it has {} inputs and {} outputs", inputs.len(), outputs.len())));
    }
    Ok(Inspection {
        producer: format!("{} {}", model.producer_name, model.producer_version).trim().to_owned(),
        opset: model.opset_import.iter().find(|o| o.domain.is_empty()).map_or(0, |o| o.version),
        metadata: model.metadata_props.iter().map(|p| (p.key.clone(), p.value.clone())).collect(),
        external_data: graph_reaches_out(graph) || model.functions.iter().any(function_reaches_out),
        inputs,
        outputs,
        nodes: graph.node.len(),
    })
}

/// Whether a tensor lies in another file.
pub(crate) fn reaches_out(tensor: &TensorProto) -> bool {
    tensor.data_location == 1 || !tensor.external_data.is_empty()
}

/// Whether a tensor of the graph, or of a graph inside it, lies in another file. A decoded file nests at most 100 deep.
fn graph_reaches_out(graph: &GraphProto) -> bool {
    graph.initializer.iter().any(reaches_out)
        || graph.sparse_initializer.iter().any(sparse_reaches_out)
        || graph.node.iter().any(node_reaches_out)
}

fn function_reaches_out(function: &FunctionProto) -> bool {
    function.node.iter().any(node_reaches_out) || function.attribute_proto.iter().any(attribute_reaches_out)
}

fn node_reaches_out(node: &NodeProto) -> bool {
    node.attribute.iter().any(attribute_reaches_out)
}

fn attribute_reaches_out(attribute: &AttributeProto) -> bool {
    attribute.t.as_deref().into_iter().chain(&attribute.tensors).any(reaches_out)
        || attribute.sparse_tensor.as_deref().into_iter().chain(&attribute.sparse_tensors).any(sparse_reaches_out)
        || attribute.g.as_deref().into_iter().chain(&attribute.graphs).any(graph_reaches_out)
}

fn sparse_reaches_out(tensor: &SparseTensorProto) -> bool {
    tensor.values.iter().chain(&tensor.indices).any(reaches_out)
}

pub(crate) fn value(info: &ValueInfoProto) -> Value {
    let tensor = info.r#type.as_ref().and_then(|t| t.tensor_type.as_ref());
    let element = match tensor.map_or(0, |t| t.elem_type) {
        data_type::UINT8 => Element::Uint8,
        data_type::FLOAT => Element::Float32,
        other => Element::Other(other),
    };
    let size = |d: &DimensionProto| match d.value {
        Some(Dimension::Value(n)) => usize::try_from(n).ok(),
        _ => None,
    };
    let shape = tensor.and_then(|t| t.shape.as_ref()).map(|s| s.dim.iter().map(size).collect());
    Value { name: info.name.clone(), element, shape }
}
