//! Gives the command `byol` and its tests the run-time search path that `src/train/build.rs` worked out.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Cargo sets this only when the feature `train` makes byol-train a dependency.
    let Ok(rpaths) = std::env::var("DEP_BYOL_TRAIN_RPATHS") else { return };
    for rpath in rpaths.split(':') {
        println!("cargo::rustc-link-arg=-Wl,-rpath,{rpath}");
    }
}
