//! An ONNX file with its large weights in half precision: half the size, the same speed.
//!
//! Each weight is stored as float16 with a Cast to float32 behind it. A runtime does the casts once, when it opens the
//! file, so nothing else about the network changes. Small tensors, and weights that float16 cannot hold, stay as they
//! are.

use crate::error::Result;
use crate::onnx::{self, int};
use crate::onnx_proto::*;
use crate::onnx_quantize::floats;
use half::f16;
use prost::Message;

/// Tensors of fewer values are not worth a node.
const LEAST_VALUES: usize = 1024;

/// Rewrites a file; also gives the number of tensors that became float16.
///
/// # Errors
/// [`crate::Error::Onnx`] for a damaged file.
pub fn write(bytes: &[u8]) -> Result<(Vec<u8>, usize)> {
    let mut model = onnx::decode(bytes)?;
    onnx::inspect_model(&model)?;
    let graph = model.graph.get_or_insert_default();
    let mut casts = Vec::new();
    for tensor in &mut graph.initializer {
        // Scales of integers are read by the runtime's fusions, which want plain constants.
        if tensor.data_type != data_type::FLOAT || tensor.dims.len() < 2 {
            continue;
        }
        let values = floats(tensor);
        let halves: Vec<f16> = values.iter().map(|&v| f16::from_f32(v)).collect();
        if values.len() < LEAST_VALUES || halves.iter().zip(&values).any(|(h, v)| v.is_finite() && !h.is_finite()) {
            continue;
        }
        let name = format!("{}.float16", tensor.name);
        casts.push(NodeProto {
            input: vec![name.clone()],
            output: vec![std::mem::replace(&mut tensor.name, name.clone())],
            name,
            op_type: "Cast".into(),
            attribute: vec![int("to", data_type::FLOAT.into())],
            ..NodeProto::default()
        });
        tensor.data_type = data_type::FLOAT16;
        tensor.raw_data = halves.iter().flat_map(|h| h.to_le_bytes()).collect();
        tensor.float_data.clear();
    }
    let count = casts.len();
    casts.append(&mut graph.node);
    graph.node = casts;
    let kept: std::collections::BTreeSet<&str> =
        graph.node.iter().flat_map(|n| n.output.iter().map(String::as_str)).collect();
    // A constant that is listed as an input too would be defined twice.
    graph.input.retain(|v| !kept.contains(v.name.as_str()));
    Ok((model.encode_to_vec(), count))
}
