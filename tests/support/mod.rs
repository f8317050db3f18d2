//! What tests share: ONNX Runtime, fetched when it is missing, and where the golden files lie.

#![allow(dead_code, reason = "every test file compiles this module, and not every one uses all of it")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use byol_serve::runtime::{LIBRARY_VARIABLE, Runtime, RuntimeOptions};

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A file or folder in `tests/data`.
pub fn data(name: &str) -> PathBuf {
    root().join("tests/data").join(name)
}

/// The library that tests run on: what `BYOL_ONNXRUNTIME` names, or else the checkout's own copy, which is fetched if
/// it is not there. A test is never skipped for want of it.
pub fn library() -> PathBuf {
    if let Some(named) = std::env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()) {
        return named.into();
    }
    let folder = root().join(".native/onnxruntime/lib");
    if !folder.join("libonnxruntime.so").exists() {
        // It locks its folder, so several test programs may ask at once.
        let fetch = Command::new("python3").arg(root().join("src/native/fetch.py")).arg("onnxruntime").output();
        let fetch = fetch.expect("python3 is needed to fetch ONNX Runtime");
        let message = String::from_utf8_lossy(&fetch.stderr).into_owned();
        assert!(fetch.status.success(), "ONNX Runtime could not be fetched: {message}");
    }
    folder
}

/// The process's ONNX Runtime.
pub fn runtime() -> Arc<Runtime> {
    Runtime::open(&RuntimeOptions { library: Some(library()), threads: 0 }).unwrap_or_else(|e| panic!("{e}"))
}
