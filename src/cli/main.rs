//! The command `byol`.
fn main() {}
