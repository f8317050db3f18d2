//! What a network is, and what it reads and is stored as. No libtorch, no ONNX Runtime.
//!
//! - [`graph`]: a network as data; built by [`encoder`] (from a configuration), [`zoo`] (by name) and [`mlp`].
//! - [`weights`]: its tensors by name, in safetensors.
//! - [`picture`]: pixels, and the input contract that says how they become the network's input.
//! - [`dataset`]: pictures with labels on disk.
//! - [`onnx_import`]: a network from an ONNX file, to be trained.
//! - [`onnx`]: the file that is served; [`onnx_quantize`]: the same in 8-bit integers.

mod catalogue;
mod convnext;
pub mod dataset;
mod efficientnet;
pub mod encoder;
pub mod error;
pub mod file;
pub mod graph;
pub mod mlp;
mod norm;
pub mod onnx;
mod onnx_constant;
pub mod onnx_external;
pub mod onnx_float16;
pub mod onnx_head;
pub mod onnx_import;
#[cfg(test)]
mod onnx_import_tests;
mod onnx_proto;
pub mod onnx_quantize;
mod onnx_skeleton;
mod onnx_tensor;
mod parquet_pictures;
pub mod picture;
pub mod picture_view;
mod pool;
mod reduced_jpeg;
mod resnet;
pub mod shape;
mod tar_shards;
pub mod tensor_op;
mod tiff_palette;
mod torchvision;
mod vit;
pub mod weights;
mod xresnet;
pub mod zoo;

pub use error::{Error, Result};
pub use file::sha256_hex;
