//! What the importer promises, on files made here: tests/own_encoder.sh does the same on real models.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use crate::error::Error;
use crate::graph::Op;
use crate::onnx::value_info;
use crate::onnx_import::{load, read};
use crate::onnx_proto::*;
use crate::tensor_op::TensorOp;
use prost::Message;

fn node(op_type: &str, name: &str, input: &[&str], output: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        name: name.into(),
        input: input.iter().map(|s| (*s).to_owned()).collect(),
        output: output.iter().map(|s| (*s).to_owned()).collect(),
        ..NodeProto::default()
    }
}

fn tensor(name: &str, dims: &[i64]) -> TensorProto {
    let n: i64 = dims.iter().product();
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: data_type::FLOAT,
        float_data: (0..n).map(|i| 0.5 + i as f32).collect(),
        ..TensorProto::default()
    }
}

fn free(dims: &[i64]) -> Vec<Dimension> {
    std::iter::once(Dimension::Param("n".into())).chain(dims.iter().map(|&d| Dimension::Value(d))).collect()
}

/// Convolution, BatchNorm in training mode, ReLU, mean over positions, linear layer.
fn model() -> ModelProto {
    let batch_norm = ["conv.out", "bn.weight", "bn.bias", "bn.mean", "bn.var"];
    let node = vec![
        node("Conv", "/conv/Conv", &["image", "conv.weight"], &["conv.out"]),
        node("BatchNormalization", "/bn/BatchNormalization", &batch_norm, &["bn.out", "m", "v"]),
        node("Relu", "/act/Relu", &["bn.out"], &["act.out"]),
        node("GlobalAveragePool", "/pool/GlobalAveragePool", &["act.out"], &["pool.out"]),
        node("Flatten", "/Flatten", &["pool.out"], &["flat"]),
        node("Transpose", "/fc/Transpose", &["fc.weight"], &["turned"]),
        node("MatMul", "/fc/MatMul", &["flat", "turned"], &["product"]),
        node("Add", "/fc/Add", &["fc.bias", "product"], &["features"]),
    ];
    let mut initializer =
        vec![tensor("conv.weight", &[4, 3, 1, 1]), tensor("fc.weight", &[2, 4]), tensor("fc.bias", &[2])];
    initializer.extend(["bn.weight", "bn.bias", "bn.mean", "bn.var"].map(|name| tensor(name, &[4])));
    let graph = GraphProto {
        node,
        initializer,
        input: vec![value_info("image", data_type::FLOAT, free(&[3, 8, 8]))],
        output: vec![value_info("features", data_type::FLOAT, free(&[2]))],
        ..GraphProto::default()
    };
    let opset_import = vec![OperatorSetIdProto { version: 17, ..OperatorSetIdProto::default() }];
    ModelProto { ir_version: 8, graph: Some(graph), opset_import, ..ModelProto::default() }
}

fn refused(change: impl FnOnce(&mut GraphProto)) -> Error {
    let mut model = model();
    change(model.graph.as_mut().unwrap());
    read(&model.encode_to_vec()).unwrap_err()
}

/// The refusal of a node: its name and the reason.
fn at_node(change: impl FnOnce(&mut GraphProto)) -> (String, String) {
    match refused(change) {
        Error::Import { node, why, .. } => (node, why),
        e => panic!("{e}"),
    }
}

#[test]
fn a_file_becomes_layers_with_its_own_names_and_tensors() {
    let imported = read(&model().encode_to_vec()).unwrap();
    let names: Vec<String> = imported.graph.parameters().into_iter().map(|p| p.name).collect();
    let expected = ["conv.weight", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "fc.weight", "fc.bias"];
    assert_eq!(names, expected);
    assert_eq!(imported.weights.get("fc.weight").unwrap().data, (0..8).map(|i| 0.5 + i as f32).collect::<Vec<_>>());
    assert_eq!((imported.graph.input_shape().to_string(), imported.graph.dimension()), ("[3, 8, 8]".into(), 2));
    let norm = imported.graph.nodes().iter().find_map(|n| match n.op {
        Op::BatchNorm { eps, momentum, .. } => Some((eps, momentum)),
        _ => None,
    });
    assert_eq!(norm, Some((1e-5, 0.1)));
    assert_eq!(read(&imported.bytes).unwrap().bytes, imported.bytes);
}

#[test]
fn nodes_may_stand_in_any_order() {
    let mut turned = model();
    turned.graph.as_mut().unwrap().node.reverse();
    let (a, b) = (read(&model().encode_to_vec()).unwrap(), read(&turned.encode_to_vec()).unwrap());
    assert_eq!(a.graph, b.graph);
}

#[test]
fn shapes_that_the_file_computes_are_computed_once() {
    let mut model = model();
    let graph = model.graph.as_mut().unwrap();
    // flat = Reshape(pool.out, [Shape(pool.out)[0], -1])
    let index = TensorProto {
        data_type: data_type::INT64,
        int64_data: vec![0],
        name: "zero".into(),
        dims: vec![1],
        ..TensorProto::default()
    };
    let rest = TensorProto { int64_data: vec![-1], name: "rest".into(), ..index.clone() };
    graph.initializer.extend([index, rest]);
    graph.node[4] = node("Reshape", "/Reshape", &["pool.out", "to"], &["flat"]);
    graph.node.push(node("Shape", "/Shape", &["pool.out"], &["shape"]));
    graph.node.push(node("Gather", "/Gather", &["shape", "zero"], &["count"]));
    graph.node.push(node("Concat", "/Concat", &["count", "rest"], &["to"]));
    let imported = read(&model.encode_to_vec()).unwrap();
    let reshape = |op: &Op| matches!(op, Op::Tensor(TensorOp::Reshape { to }) if to.to_string() == "[4]");
    assert!(imported.graph.nodes().iter().any(|n| reshape(&n.op)));
}

#[test]
fn an_unsupported_operator_is_named_with_its_node() {
    let error = refused(|g| g.node[2].op_type = "Celu".into()).to_string();
    assert!(error.contains("\"/act/Relu\" (Celu)") && error.contains("no such operator"), "{error}");
    let (node, why) = at_node(|g| g.node[2].domain = "com.example".into());
    assert!(node == "/act/Relu" && why.contains("com.example"), "{node}: {why}");
    let nameless = at_node(|g| (g.node[2].name, g.node[2].op_type) = (String::new(), "Celu".into()));
    assert_eq!(nameless.0, "act.out");
}

#[test]
fn a_graph_that_does_not_hold_together_is_refused_at_its_node() {
    let (node, why) = at_node(|g| g.initializer.retain(|t| t.name != "conv.weight"));
    assert!(node == "/conv/Conv" && why.contains("conv.weight"), "{node}: {why}");
    let (_, why) = at_node(|g| g.node[0].input[0] = "act.out".into());
    assert!(why.contains("cycle"), "{why}");
    let (node, why) = at_node(|g| g.node[2].output[0] = "bn.out".into());
    assert!(node == "/act/Relu" && why.contains("written already"), "{node}: {why}");
    let (node, why) = at_node(|g| g.initializer[0].dims = vec![2, 6, 1, 1]);
    assert!(node == "/conv/Conv" && why.contains("6 channels"), "{node}: {why}");
    let (node, why) = at_node(|g| g.node[4].op_type = "Identity".into());
    assert!(node == "/fc/MatMul" && why.contains("[4, 1, 1]"), "{node}: {why}");
    let why = refused(|g| g.initializer[0].float_data.truncate(3)).to_string();
    assert!(why.contains("conv.weight") && why.contains("3 values"), "{why}");
    let why = refused(|g| g.initializer[0].float_data[1] = f32::NAN).to_string();
    assert!(why.contains("conv.weight") && why.contains("NaN"), "{why}");
}

#[test]
fn inputs_and_outputs_that_are_no_encoders_are_refused() {
    let says = |part: &str, change: fn(&mut GraphProto)| {
        let why = refused(change).to_string();
        assert!(why.contains(part), "{why}");
    };
    says("0 inputs", |g| g.input.clear());
    says("one input", |g| g.input.push(value_info("mask", data_type::FLOAT, free(&[3]))));
    says("one output", |g| g.output.push(value_info("act.out", data_type::FLOAT, free(&[4]))));
    says("float32", |g| g.input[0] = value_info("image", data_type::UINT8, free(&[3, 8, 8])));
    says("fixed sizes", |g| g.input[0] = value_info("image", data_type::FLOAT, free(&[3, 8])));
    says("dynamic_axes", |g| {
        g.input[0] = value_info("image", data_type::FLOAT, [2, 3, 8, 8].map(Dimension::Value).to_vec());
    });
    says("[n, 4, 8, 8], not [n, features]", |g| g.output[0].name = "act.out".into());
    says("no node writes", |g| g.output[0].name = "elsewhere".into());
}

#[test]
fn dropout_that_drops_is_refused() {
    let dropout = |ratio: f32| {
        let mut model = model();
        let graph = model.graph.as_mut().unwrap();
        graph.node[2] = node("Dropout", "/drop", &["bn.out", "ratio", "mode"], &["act.out"]);
        graph.initializer.push(TensorProto { float_data: vec![ratio], ..tensor("ratio", &[]) });
        let truth = TensorProto {
            int32_data: vec![1],
            data_type: data_type::BOOL,
            name: "mode".into(),
            ..TensorProto::default()
        };
        graph.initializer.push(truth);
        read(&model.encode_to_vec())
    };
    dropout(0.0).unwrap();
    assert!(dropout(0.3).unwrap_err().to_string().contains("0.3"));
}

#[test]
fn any_truncation_is_an_error() {
    let bytes = model().encode_to_vec();
    for length in 0..bytes.len() {
        assert!(read(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn tensors_beside_the_file_are_read_from_its_folder_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("my.onnx");
    let whole = read(&model().encode_to_vec()).unwrap();
    let write = |location: &str, offset: &str| {
        let mut model = model();
        let weight = &mut model.graph.as_mut().unwrap().initializer[0];
        weight.float_data.clear();
        weight.data_location = 1;
        let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
        weight.external_data = vec![entry("location", location), entry("offset", offset), entry("length", "48")];
        std::fs::write(&path, model.encode_to_vec()).unwrap();
    };
    let data: Vec<u8> = (0..12).flat_map(|i| (0.5 + i as f32).to_le_bytes()).collect();
    std::fs::write(folder.path().join("my.onnx.data"), [&[9; 4][..], &data].concat()).unwrap();
    write("my.onnx.data", "4");
    assert_eq!(load(&path).unwrap().weights, whole.weights);
    write("my.onnx.data", "5");
    assert!(load(&path).unwrap_err().to_string().contains("beyond the end"));
    write("../my.onnx.data", "4");
    assert!(load(&path).unwrap_err().to_string().contains("outside"));
    write("none.data", "4");
    assert!(load(&path).unwrap_err().to_string().contains("none.data"));
}
