//! A fit leaves no thread behind, and starts no more than it may. Alone in its program, so that no other test's threads are counted.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]
#![cfg(target_os = "linux")]

mod support;

use byol_serve::cancel::Cancel;
use byol_serve::solver::{FitOptions, fit};
use ndarray::Array2;
use support::Random;

/// Threads that may still run code: of fits, or all. A thread that was waited for stays listed for a moment: the kernel
/// wakes who waits before it takes it off the list, and marks it as leaving before both (PF_EXITING, the ninth field).
fn threads(of_fits: bool) -> usize {
    const EXITING: u64 = 4;
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let stats = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap_or_default());
    let running = stats.filter(|stat| {
        let Some((name, fields)) = stat.rsplit_once(") ") else { return false };
        let flags: u64 = fields.split(' ').nth(6).unwrap().parse().unwrap();
        (name.contains("(byol-fit") || !of_fits) && flags & EXITING == 0
    });
    running.count()
}

#[test]
fn threads_of_a_fit_have_ended_when_it_returns() {
    let mut random = Random(7);
    let before = threads(false);
    // Few classes and many, strong penalties and weak ones, weights that are all kept or few: each goes its own way.
    let cases = [
        (1000, 10, 0.1, 0.0, 20),
        (1000, 10, 1e-5, 0.0, 1),
        (5000, 10, 1e-3, 0.0, 1),
        (2000, 30, 1e-3, 0.0, 1),
        (1000, 10, 1e-3, 1e-3, 1),
    ];
    for (rows, classes, l2, l1, times) in cases {
        let x = Array2::from_shape_simple_fn((rows, 512), || random.next());
        let y: Vec<u32> = (0..rows as u32).map(|row| row % classes).collect();
        let mut during = (0, 0);
        for _ in 0..times {
            let options = FitOptions { l2, l1, threads: 3, ..FitOptions::default() };
            let mut hear = |_: &_| during = (during.0.max(threads(true)), during.1.max(threads(false)));
            fit(x.view(), &y, classes as usize, &options, &Cancel::new(), Some(&mut hear)).unwrap();
            assert_eq!((threads(true), threads(false)), (0, before));
        }
        assert_eq!(during, (3, before + 3));
    }
}
