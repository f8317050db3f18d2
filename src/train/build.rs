//! Works out where programs find libtorch when they run.
//!
//! torch-sys links libtorch but leaves no search path in the program. When libtorch lies inside the repository
//! (`make native`) the paths are relative to the program, so that the whole tree can be moved; otherwise the user's
//! own folder is written down as it is. The root package's build script passes the same paths to the command.
//!
//! It also compiles `c10d.cc`, the part of libtorch that tch does not bind. (`cuda.cc`, the part of it that needs CUDA, is
//! a library of its own: `src/native/cuda.sh`.)

use std::env;
use std::path::{Path, PathBuf};

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBTORCH");
    if env::var("CARGO_CFG_TARGET_FAMILY").as_deref() != Ok("unix") {
        return;
    }
    let libtorch = variable("LIBTORCH").join("lib");
    if !libtorch.join("libtorch_cpu.so").exists() && !libtorch.join("libtorch_cpu.dylib").exists() {
        println!("cargo::error=no libtorch in {}: run `make native`, or set LIBTORCH", libtorch.display());
        return;
    }
    compile_c10d(&variable("LIBTORCH").join("include"));
    let rpaths = rpaths(&libtorch);
    for rpath in &rpaths {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{rpath}");
    }
    // Read by the build scripts of packages that depend on this one (the key `links` in Cargo.toml).
    println!("cargo::metadata=RPATHS={}", rpaths.join(":"));
}

fn compile_c10d(torch: &Path) {
    for file in ["c10d.cc", "recorder.cc", "guard.h"] {
        println!("cargo::rerun-if-changed={file}");
    }
    // c10d's header asks for some of Gloo's, which torch's wheel does not carry; c10d.cc declares what is needed of them.
    let include = variable("OUT_DIR").join("include");
    for header in ["algorithm.h", "common/error.h", "context.h", "rendezvous/store.h", "transport/device.h"] {
        let path = include.join("gloo").join(header);
        let made =
            std::fs::create_dir_all(path.parent().expect("it has a folder")).and_then(|()| std::fs::write(&path, ""));
        made.unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
    }
    cc::Build::new()
        .cpp(true)
        .std("c++17")
        .file("c10d.cc")
        // For tests; a program that calls nothing of it does not have it.
        .file("recorder.cc")
        .include(include)
        // As the system's: their warnings are torch's business.
        .flag("-isystem")
        .flag(torch.as_os_str())
        .flag("-isystem")
        .flag(torch.join("torch/csrc/api/include").as_os_str())
        .flag("-fvisibility=hidden")
        .compile("byol_c10d");
}

fn rpaths(libtorch: &Path) -> Vec<String> {
    let origin = if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("macos") { "@loader_path" } else { "$ORIGIN" };
    // As `make install` lays it out: bin/byol beside lib/byol/.
    let installed = format!("{origin}/../lib/byol");
    let root = variable("CARGO_MANIFEST_DIR").join("../..").canonicalize().expect("a crate lies in its workspace");
    // OUT_DIR is <target>/<profile>/build/<package>/out.
    let out = variable("OUT_DIR");
    let profile = out.ancestors().nth(3).expect("cargo nests OUT_DIR four levels deep");
    match (libtorch.strip_prefix(&root), profile.strip_prefix(&root)) {
        (Ok(libtorch), Ok(profile)) => {
            let up = "../".repeat(profile.components().count());
            let libtorch = libtorch.display();
            // Programs lie in <profile>, tests and examples one level further down.
            vec![format!("{origin}/{up}{libtorch}"), format!("{origin}/../{up}{libtorch}"), installed]
        }
        _ => vec![libtorch.display().to_string(), installed],
    }
}

fn variable(name: &str) -> PathBuf {
    env::var_os(name).unwrap_or_else(|| panic!("{name} is set by cargo or .cargo/config.toml")).into()
}
