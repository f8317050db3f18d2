//! Writes down the modules of libbyol, so that the targets find a type wherever it has moved to.

use std::path::Path;

fn main() {
    let library = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../src/ffi/lib.rs");
    println!("cargo:rerun-if-changed={}", library.display());
    let library = std::fs::read_to_string(library).expect("src/ffi/lib.rs");
    let modules = library.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let uses: String = modules.map(|module| format!("pub use byol::{module}::*;\n")).collect();
    let out = std::env::var_os("OUT_DIR").expect("cargo sets it");
    std::fs::write(Path::new(&out).join("abi.rs"), uses).expect("a file");
}
