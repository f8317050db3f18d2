//! The C ABI: libbyol.
//!
//! Every ability of `byol-serve` for C, and through C for other languages: open an encoder, extract features, fit a
//! linear head, classify. `include/byol.h` is generated from this crate and checked in; its first comment states the
//! conventions. From Rust use `byol-serve` itself.
//!
//! One file per noun of the header. What they share: [`pointer`] (what C passes in), [`handle`] (what it gets back),
//! [`status`] (how it learns of failures) and [`guard`] (what every body runs in). This is the only crate of the
//! workspace with `unsafe` of ours.

#![allow(clippy::missing_safety_doc, reason = "the header states once, for all functions, what the caller promises")]
#![allow(
    clippy::too_many_arguments,
    reason = "plain arguments cross every language boundary; structs must be versioned"
)]

pub mod cancel;
pub mod encoder;
pub mod evaluate;
pub mod export;
pub mod extract;
pub mod features;
pub mod fit;
mod guard;
pub mod handle;
pub mod head;
pub mod image;
pub mod library;
pub mod log;
mod memory;
pub mod model;
mod outcome;
pub mod packed;
mod pointer;
pub mod ranking;
pub mod runtime;
pub mod status;
pub mod trainer;
pub mod weights;
