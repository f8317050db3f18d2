//! A fit leaves no thread behind. Alone in its program, so that no other test's threads are counted.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]
#![cfg(target_os = "linux")]

mod support;

use byol_serve::cancel::Cancel;
use byol_serve::solver::{FitOptions, fit};
use ndarray::Array2;
use support::Random;

fn threads_of_fits() -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    names.filter(|name| name.starts_with("byol-fit")).count()
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
