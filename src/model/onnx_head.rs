//! A linear head as ONNX: alone, from features to classes, or appended to an encoder's file, from pictures to classes.

use crate::error::{Error, Result};
use crate::onnx::{self, Element};
use crate::onnx_proto::*;
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint, encode_key, encode_varint};
use std::collections::BTreeMap;

/// A linear classifier.
#[derive(Clone, Copy, Debug)]
pub struct LinearHead<'a> {
    /// `[classes, dimension]`, row by row.
    pub weight: &'a [f32],
    /// `[classes]`.
    pub bias: &'a [f32],
    /// Names of the classes; in the file as the metadata `byol.labels`, a JSON list.
    pub labels: &'a [String],
}

impl LinearHead<'_> {
    fn check(&self) -> Result<usize> {
        let classes = self.labels.len();
        let whole = classes > 0 && self.bias.len() == classes && self.weight.len().is_multiple_of(classes);
        if !whole || self.weight.is_empty() {
            let why = format!("{} weights and {} biases for {classes} labels", self.weight.len(), self.bias.len());
            return Err(Error::Graph { node: "head".into(), why });
        }
        Ok(self.weight.len() / classes)
    }
}

/// Values that the nodes of a head make.
const LOGITS: &str = "logits";
const PROBABILITIES: &str = "probabilities";
const WEIGHT: &str = "head.weight";
const BIAS: &str = "head.bias";

/// A model of its own: `features`, float32 `[n, dimension]`, to `logits` and `probabilities`, float32 `[n, classes]`.
/// Metadata keys get the prefix `byol.`. The same input gives the same bytes.
///
/// # Errors
/// [`Error::Graph`] where weights, bias and labels do not fit each other.
pub fn write(head: &LinearHead<'_>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let dimension = head.check()?;
    let mut graph = nodes(head, "features", dimension);
    let shape = vec![Dimension::Param("n".into()), Dimension::Value(dimension as i64)];
    graph.name = "byol-head".into();
    graph.input = vec![onnx::value_info("features", data_type::FLOAT, shape)];
    let model = ModelProto {
        ir_version: onnx::IR_VERSION,
        producer_name: "byol".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: onnx::OPSET }],
        metadata_props: properties(head, metadata),
        graph: Some(graph),
        ..ModelProto::default()
    };
    Ok(model.encode_to_vec())
}

/// An encoder's file with the head behind its first output. What the file holds otherwise stays as it is, byte for byte,
/// its outputs included; `logits` and `probabilities` come after them. Metadata keys get the prefix `byol.`.
///
/// # Errors
/// [`Error::Onnx`] for a damaged or foreign file, one whose first output is not float32 `[n, dimension]` with the head's
/// dimension, or one that already has a value of a name that the head needs; [`Error::Graph`] as [`write`].
pub fn append(encoder: &[u8], head: &LinearHead<'_>, metadata: &BTreeMap<String, String>) -> Result<Vec<u8>> {
    let dimension = head.check()?;
    let wrong = |why: String| Error::Onnx { why };
    let model = onnx::decode(encoder)?;
    let output = onnx::inspect_model(&model)?.outputs.swap_remove(0);
    let columns = output.shape.as_ref().and_then(|shape| match shape[..] {
        [_, columns] => columns,
        _ => None,
    });
    if output.element != Element::Float32 || columns != Some(dimension) {
        let why = format!("its output {:?} is no float32 [n, {dimension}], which the head takes", output.name);
        return Err(wrong(why));
    }
    let known = model.graph.as_ref().map(|g| (&g.node, &g.initializer));
    for name in [LOGITS, PROBABILITIES, WEIGHT, BIAS] {
        let taken = known.is_some_and(|(nodes, constants)| {
            nodes.iter().any(|n| n.output.iter().any(|o| o == name)) || constants.iter().any(|c| c.name == name)
        });
        if taken {
            return Err(wrong(format!("it has a value {name:?} already, as a file has that a head was appended to")));
        }
    }

    // Fields of our own schema only would survive decoding and encoding; so the bytes themselves are spliced.
    let graph = nodes(head, &output.name, dimension).encode_to_vec();
    let mut file = Vec::with_capacity(encoder.len() + graph.len() + 4096);
    let mut rest = encoder;
    while !rest.is_empty() {
        let start = rest;
        let broken = |e: prost::DecodeError| wrong(e.to_string());
        let (tag, wire_type) = decode_key(&mut rest).map_err(broken)?;
        match wire_type {
            WireType::Varint => drop(decode_varint(&mut rest).map_err(broken)?),
            WireType::LengthDelimited => {
                let length = decode_varint(&mut rest).map_err(broken)?;
                let length = usize::try_from(length).ok().filter(|&length| length <= rest.len());
                let (content, after) = rest.split_at(length.ok_or_else(|| wrong("a field is cut off".into()))?);
                rest = after;
                if tag == GRAPH_TAG {
                    encode_key(tag, wire_type, &mut file);
                    encode_varint((content.len() + graph.len()) as u64, &mut file);
                    file.extend_from_slice(content);
                    file.extend_from_slice(&graph);
                    continue;
                }
            }
            WireType::ThirtyTwoBit if rest.len() >= 4 => rest = &rest[4..],
            WireType::SixtyFourBit if rest.len() >= 8 => rest = &rest[8..],
            _ => return Err(wrong(format!("field {tag} is of no known form"))),
        }
        file.extend_from_slice(&start[..start.len() - rest.len()]);
    }
    let added = ModelProto { metadata_props: properties(head, metadata), ..ModelProto::default() };
    added.encode(&mut file).map_err(|e| wrong(e.to_string()))?;
    Ok(file)
}

/// Number of the field `graph` in ModelProto.
const GRAPH_TAG: u32 = 7;

/// The head's part of a graph.
fn nodes(head: &LinearHead<'_>, features: &str, dimension: usize) -> GraphProto {
    let classes = head.labels.len();
    let constant = |name: &str, dims: &[usize], values: &[f32]| TensorProto {
        dims: dims.iter().map(|&d| d as i64).collect(),
        data_type: data_type::FLOAT,
        name: name.into(),
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..TensorProto::default()
    };
    let node = |op_type: &str, input: &[&str], output: &str, attribute| NodeProto {
        input: input.iter().map(|&i| i.to_owned()).collect(),
        output: vec![output.into()],
        name: format!("head.{}", op_type.to_lowercase()),
        op_type: op_type.into(),
        attribute: vec![attribute],
        ..NodeProto::default()
    };
    let shape = || vec![Dimension::Param("n".into()), Dimension::Value(classes as i64)];
    GraphProto {
        node: vec![
            node("Gemm", &[features, WEIGHT, BIAS], LOGITS, onnx::int("transB", 1)),
            node("Softmax", &[LOGITS], PROBABILITIES, onnx::int("axis", 1)),
        ],
        initializer: vec![constant(WEIGHT, &[classes, dimension], head.weight), constant(BIAS, &[classes], head.bias)],
        output: [LOGITS, PROBABILITIES].map(|name| onnx::value_info(name, data_type::FLOAT, shape())).into(),
        ..GraphProto::default()
    }
}

fn properties(head: &LinearHead<'_>, metadata: &BTreeMap<String, String>) -> Vec<StringStringEntryProto> {
    let mut all = metadata.clone();
    all.insert("labels".into(), serde_json::json!(head.labels).to_string());
    all.into_iter().map(|(key, value)| StringStringEntryProto { key: format!("byol.{key}"), value }).collect()
}
