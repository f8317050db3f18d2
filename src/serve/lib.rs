//! How an encoder is used. The only crate that loads ONNX Runtime; no libtorch.
//!
//! - [`runtime`]: ONNX Runtime, one per process.
//! - [`encoder`]: a model file that turns pictures into features, one call at a time; [`pipeline`] for data sets.
//! - [`quantize`]: a model file in 8-bit integers, by [`calibration`] on pictures.
//! - [`trainer`]: examples that come and go, and the head that is fitted to them; [`packed`]: features in fewer bytes.
//! - [`cancel`]: stops any of it from another thread.

mod atomic;
mod bfloat;
mod biases;
mod blocks;
pub mod calibration;
pub mod cancel;
mod couplings;
mod curvature;
mod dense;
mod descent;
pub mod encoder;
pub mod error;

pub mod feature_file;
mod feature_table;
pub mod features;
mod grid;
pub mod head;
pub mod knn;
mod levels;
pub mod metrics;
mod model_file;
mod moments;
mod newton;
mod npy;
pub mod packed;
mod pass;
mod pass_wide;
pub mod path;
pub mod pipeline;
mod pool;
mod precondition;
mod problem;
mod products;
pub mod provider;
pub mod quantize;
pub mod ridge;
mod rounded;
pub mod rows;
pub mod runtime;
pub mod solver;
mod sparse;
mod statistics;
pub mod store;
pub mod trainer;
mod vnni;
mod watch;
mod working_set;

pub use error::{Error, Result};
