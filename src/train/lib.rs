//! How it learns: BYOL pretraining on libtorch. The only crate that links libtorch.
//!
//! [`pretrain`](pretrain::pretrain) is a whole run, told by a [`config::RunConfig`]; [`byol::Byol`] is the method alone,
//! for networks and data of your own. To serve what was learned, use `byol-serve` with the ONNX file that a run leaves.

pub mod augment;
pub mod byol;
mod c10d;
pub mod canvas;
pub mod capture;
pub mod checkpoint;
pub mod classifier;
pub mod config;
mod cuda;
pub mod device;
pub mod device_views;
pub mod distributed;
pub mod error;
pub mod evaluation;
pub mod launch;
pub mod loader;
pub mod metrics;
pub mod monitor;
pub mod network;
mod network_tensor;
pub mod optimizer;
pub mod plot;
pub mod precision;
pub mod preset;
pub mod pretrain;
pub mod probe;
pub mod profile;
pub mod recompute;
#[cfg(test)]
mod recorder;
mod reduction;
pub mod resample;
pub mod schedule;
pub mod sentinel;
mod stream;
pub mod subset;
pub mod tensorboard;
pub mod views;
mod watch;

/// The binding to libtorch, of the version that this crate's types are made of.
pub use ::tch;
pub use error::{Error, Result};
