//! A fit leaves no thread behind. Alone in its program, so that no other test's threads are counted.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]
#![cfg(target_os = "linux")]

mod support;

use byol_serve::cancel::Cancel;
use byol_serve::solver::{FitOptions, fit};
use ndarray::Array2;
use support::Random;

/// Threads of fits that may still run code of ours. A thread that was waited for stays listed for a moment: the kernel
/// wakes who waits before it takes it off the list, and marks it as leaving before both (PF_EXITING, the ninth field).
fn threads_of_fits() -> usize {
    const EXITING: u64 = 4;
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default());
    let running = stats.filter(|stat| {
        let Some((name, fields)) = stat.rsplit_once(") ") else { return false };
        let flags: u64 = fields.split(' ').nth(6).unwrap().parse().unwrap();
        name.contains("(byol-fit") && flags & EXITING == 0
    });
    running.count()
}

#[test]
fn threads_of_a_fit_have_ended_when_it_returns() {
    let mut random = Random(7);
    let x = Array2::from_shape_simple_fn((1000, 512), || random.next());
    let y: Vec<u32> = (0..1000).map(|row| row % 10).collect();
    let mut during = 0;
    for _ in 0..20 {
        let options = FitOptions { l2: 0.1, threads: 3, ..FitOptions::default() };
        let mut hear = |_: &_| during = during.max(threads_of_fits());
        fit(x.view(), &y, 10, &options, &Cancel::new(), Some(&mut hear)).unwrap();
        assert_eq!(threads_of_fits(), 0);
    }
    assert_eq!(during, 3);
}
