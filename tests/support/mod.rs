//! What tests share: ONNX Runtime, fetched when it is missing, the command, where the golden files lie, random numbers, and
//! what the process takes.

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

/// The command of this build, on the library that tests run on, in the repository's root.
pub fn byol() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_byol"));
    command.env(LIBRARY_VARIABLE, library()).current_dir(root());
    command
}

/// A small generator, so that tests need no crate for it: uniform in -1 to 1.
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 23) as f32 - 1.0
    }
}

/// What Linux says of this process, such as "VmHWM", the peak of its resident memory.
pub fn status_kib(field: &str) -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux's /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':')).expect("the field");
    line.trim().trim_end_matches(" kB").parse().expect("a number of kB")
}
