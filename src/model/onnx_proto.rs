//! ONNX's protobuf schema, as far as encoders need it. Field numbers are those of onnx.proto3 (ONNX 1.18).
//!
//! What is decoded and written again keeps everything that changes what a model computes; documentation strings, recorded
//! shapes of inner values and training graphs are left behind.

use prost::Message;

/// Tensor element types (`TensorProto.DataType`).
pub mod data_type {
    pub const FLOAT: i32 = 1;
    pub const UINT8: i32 = 2;
    pub const INT8: i32 = 3;
    pub const INT32: i32 = 6;
    pub const INT64: i32 = 7;
    pub const BOOL: i32 = 9;
    pub const FLOAT16: i32 = 10;
    pub const DOUBLE: i32 = 11;
    pub const BFLOAT16: i32 = 16;
}

/// Attribute types (`AttributeProto.AttributeType`).
pub mod attribute_type {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const INTS: i32 = 7;
}

#[derive(Clone, PartialEq, Message)]
pub struct ModelProto {
    #[prost(int64, tag = 1)]
    pub ir_version: i64,
    #[prost(string, tag = 2)]
    pub producer_name: String,
    #[prost(string, tag = 3)]
    pub producer_version: String,
    #[prost(message, optional, tag = 7)]
    pub graph: Option<GraphProto>,
    #[prost(message, repeated, tag = 8)]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = 14)]
    pub metadata_props: Vec<StringStringEntryProto>,
    #[prost(message, repeated, tag = 25)]
    pub functions: Vec<FunctionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct FunctionProto {
    #[prost(string, tag = 1)]
    pub name: String,
    #[prost(string, repeated, tag = 4)]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = 5)]
    pub output: Vec<String>,
    #[prost(string, repeated, tag = 6)]
    pub attribute: Vec<String>,
    #[prost(message, repeated, tag = 7)]
    pub node: Vec<NodeProto>,
    #[prost(message, repeated, tag = 9)]
    pub opset_import: Vec<OperatorSetIdProto>,
    #[prost(string, tag = 10)]
    pub domain: String,
    #[prost(message, repeated, tag = 11)]
    pub attribute_proto: Vec<AttributeProto>,
    #[prost(string, tag = 13)]
    pub overload: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct StringStringEntryProto {
    #[prost(string, tag = 1)]
    pub key: String,
    #[prost(string, tag = 2)]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct OperatorSetIdProto {
    #[prost(string, tag = 1)]
    pub domain: String,
    #[prost(int64, tag = 2)]
    pub version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub struct GraphProto {
    #[prost(message, repeated, tag = 1)]
    pub node: Vec<NodeProto>,
    #[prost(string, tag = 2)]
    pub name: String,
    #[prost(message, repeated, tag = 5)]
    pub initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = 11)]
    pub input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = 12)]
    pub output: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = 15)]
    pub sparse_initializer: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct NodeProto {
    #[prost(string, repeated, tag = 1)]
    pub input: Vec<String>,
    #[prost(string, repeated, tag = 2)]
    pub output: Vec<String>,
    #[prost(string, tag = 3)]
    pub name: String,
    #[prost(string, tag = 4)]
    pub op_type: String,
    #[prost(message, repeated, tag = 5)]
    pub attribute: Vec<AttributeProto>,
    #[prost(string, tag = 7)]
    pub domain: String,
    #[prost(string, tag = 8)]
    pub overload: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct AttributeProto {
    #[prost(string, tag = 1)]
    pub name: String,
    #[prost(float, tag = 2)]
    pub f: f32,
    #[prost(int64, tag = 3)]
    pub i: i64,
    #[prost(bytes = "vec", tag = 4)]
    pub s: Vec<u8>,
    #[prost(message, optional, boxed, tag = 5)]
    pub t: Option<Box<TensorProto>>,
    #[prost(message, optional, boxed, tag = 6)]
    pub g: Option<Box<GraphProto>>,
    #[prost(float, repeated, tag = 7)]
    pub floats: Vec<f32>,
    #[prost(int64, repeated, tag = 8)]
    pub ints: Vec<i64>,
    #[prost(bytes = "vec", repeated, tag = 9)]
    pub strings: Vec<Vec<u8>>,
    #[prost(message, repeated, tag = 10)]
    pub tensors: Vec<TensorProto>,
    #[prost(message, repeated, tag = 11)]
    pub graphs: Vec<GraphProto>,
    #[prost(int32, tag = 20)]
    pub r#type: i32,
    #[prost(string, tag = 21)]
    pub ref_attr_name: String,
    #[prost(message, optional, boxed, tag = 22)]
    pub sparse_tensor: Option<Box<SparseTensorProto>>,
    #[prost(message, repeated, tag = 23)]
    pub sparse_tensors: Vec<SparseTensorProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct SparseTensorProto {
    #[prost(message, optional, tag = 1)]
    pub values: Option<TensorProto>,
    #[prost(message, optional, tag = 2)]
    pub indices: Option<TensorProto>,
    #[prost(int64, repeated, tag = 3)]
    pub dims: Vec<i64>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorProto {
    #[prost(int64, repeated, tag = 1)]
    pub dims: Vec<i64>,
    #[prost(int32, tag = 2)]
    pub data_type: i32,
    #[prost(float, repeated, tag = 4)]
    pub float_data: Vec<f32>,
    #[prost(int32, repeated, tag = 5)]
    pub int32_data: Vec<i32>,
    #[prost(bytes = "vec", repeated, tag = 6)]
    pub string_data: Vec<Vec<u8>>,
    #[prost(int64, repeated, tag = 7)]
    pub int64_data: Vec<i64>,
    #[prost(string, tag = 8)]
    pub name: String,
    #[prost(bytes = "vec", tag = 9)]
    pub raw_data: Vec<u8>,
    #[prost(double, repeated, tag = 10)]
    pub double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = 11)]
    pub uint64_data: Vec<u64>,
    #[prost(message, repeated, tag = 13)]
    pub external_data: Vec<StringStringEntryProto>,
    /// 1: the data are in another file.
    #[prost(int32, tag = 14)]
    pub data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
pub struct ValueInfoProto {
    #[prost(string, tag = 1)]
    pub name: String,
    #[prost(message, optional, tag = 2)]
    pub r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TypeProto {
    #[prost(message, optional, tag = 1)]
    pub tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorTypeProto {
    #[prost(int32, tag = 1)]
    pub elem_type: i32,
    #[prost(message, optional, tag = 2)]
    pub shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct TensorShapeProto {
    #[prost(message, repeated, tag = 1)]
    pub dim: Vec<DimensionProto>,
}

#[derive(Clone, PartialEq, Message)]
pub struct DimensionProto {
    #[prost(oneof = "Dimension", tags = "1, 2")]
    pub value: Option<Dimension>,
}

/// A dimension's size, or its name where the size is free.
#[derive(Clone, PartialEq, prost::Oneof)]
pub enum Dimension {
    #[prost(int64, tag = 1)]
    Value(i64),
    #[prost(string, tag = 2)]
    Param(String),
}
