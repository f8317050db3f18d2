//! How libbyol.so is linked.

use std::path::Path;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() != Ok("linux") {
        return;
    }
    // One SONAME for all of 0.x, which only ever adds to the ABI.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,libbyol.so.0");
    // ONNX Runtime's and rayon's threads run our code for as long as the process lives: dlclose must not unmap it.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");

    // A program linked here asks for libbyol.so.0, which `make install` places. In the build tree a link does, so that
    // `cc ... -Ltarget/release -lbyol -Wl,-rpath,target/release` runs as it is. Without it only such programs fail.
    #[cfg(unix)]
    if let Some(profile) = std::env::var_os("OUT_DIR").as_deref().and_then(|out| Path::new(out).ancestors().nth(3)) {
        let _ = std::os::unix::fs::symlink("libbyol.so", profile.join("libbyol.so.0"));
        let _ = std::os::unix::fs::symlink("libbyol.so", profile.join("deps/libbyol.so.0"));
    }
}
