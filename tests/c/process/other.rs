//! Another Rust library in the same process: allocates, starts a thread, panics and catches it.

/// 42, after all that.
#[unsafe(no_mangle)]
pub extern "C" fn other_answer() -> i32 {
    let sum: i32 = std::thread::spawn(|| vec![1; 42].iter().sum()).join().unwrap_or(0);
    let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new("on purpose")));
    if caught.is_err() { sum } else { 0 }
}
