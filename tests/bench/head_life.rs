//! The life of a head: examples added, removed and relabelled, a class more and a class less, each refitted from the old
//! optimum and fitted from nothing, to the same certified gap, in turn in one run.
//!
//! usage: cargo bench --bench head_life -- FEATURES.npy LABELS.npy [L2_TIMES_ROWS]
//!
//! One thread; CPU seconds of that thread (wall time outside Linux), the least of three. Statistics of the rows, which a
//! refit must gather anew too, are included on both sides.

#![allow(clippy::unwrap_used, reason = "a measurement that cannot go on should say where")]

use std::time::Instant;

use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::solver::{FitOptions, FitReport};

/// Seconds that this thread has run.
fn cpu(began: Instant) -> f64 {
    let ran = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let nanoseconds = ran.and_then(|text| text.split_whitespace().next()?.parse::<f64>().ok());
    nanoseconds.map_or_else(|| began.elapsed().as_secs_f64(), |ran| ran * 1e-9)
}

/// The least of three CPU times, and the last head.
fn timed(began: Instant, fit: impl Fn() -> Head) -> (f64, Head) {
    let once = || {
        let start = cpu(began);
        let head = fit();
        (cpu(began) - start, head)
    };
    let (first, second, (third, head)) = (once().0, once().0, once());
    (first.min(second).min(third), head)
}

fn report(head: &Head) -> FitReport {
    head.training.clone().unwrap().fit
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let [x, y, rest @ ..] = &arguments[..] else {
        // `cargo test --benches` gives no files.
        println!("usage: cargo bench --bench head_life -- FEATURES.npy LABELS.npy [L2_TIMES_ROWS]");
        return;
    };
    let began = Instant::now();
    let mut all = Features::load(x).unwrap();
    all.labels = Some(Features::load_labels(y).unwrap());
    all.classes = Some((0..all.class_count()).map(|class| class.to_string()).collect());
    let (rows, classes) = (all.len(), all.class_count());
    let l2 = rest.first().map_or(100.0, |text| text.parse::<f64>().unwrap()) / rows as f64;
    let options = FitOptions { l2, threads: 1, ..FitOptions::default() };
    let fit = |features: &Features| Head::fit(features, &options, &Cancel::new(), None).unwrap();

    let whole: Vec<usize> = (0..rows).collect();
    let but = |left_out: usize| all.select(&whole[..rows - left_out]);
    let mut relabelled = all.clone();
    let shift = |label: &mut u32| *label = (*label + 1) % classes as u32;
    relabelled.labels.as_mut().unwrap().iter_mut().step_by(100).for_each(shift);
    let labels = all.labels().unwrap().to_vec();
    let kept: Vec<usize> = (0..rows).filter(|&row| (labels[row] as usize) + 1 < classes).collect();
    let mut one_less = all.select(&kept);
    one_less.classes.as_mut().unwrap().pop();
    let last: Vec<usize> = (0..rows).filter(|&row| row != rows / 2).collect();

    // Of the last class only so many.
    let mut left = 20;
    let few: Vec<usize> = (0..rows)
        .filter(|&row| {
            let last = labels[row] as usize + 1 == classes;
            left -= usize::from(last && left > 0);
            !last || left > 0
        })
        .collect();

    println!("{rows} x {} x {classes}, l2 * rows {}", all.dimensions(), l2 * rows as f64);
    println!("change | from nothing: CPU s, passes + products | from the old optimum | share | objectives differ by");
    let changes: [(&str, Features, Features); 9] = [
        ("one example added", all.select(&last), all.clone()),
        ("one example removed", all.clone(), all.select(&last)),
        ("1% of the examples added", but(rows / 100), all.clone()),
        ("1% removed", all.clone(), but(rows / 100)),
        ("1% relabelled", all.clone(), relabelled),
        ("a class added", one_less.clone(), all.clone()),
        ("a class of 20 examples added", one_less.clone(), all.select(&few)),
        ("a class removed", all.clone(), one_less),
        ("nothing changed", all.clone(), all.clone()),
    ];
    for (what, before, after) in &changes {
        let old = fit(before);
        let (fresh_time, fresh) = timed(began, || fit(after));
        let (again_time, again) = timed(began, || old.refit(after, &options, &Cancel::new(), None).unwrap());
        let (fresh, again) = (report(&fresh), report(&again));
        assert!(fresh.converged && again.converged, "{what}: {fresh:?} {again:?}");
        println!(
            "{what} | {fresh_time:.3}, {} + {} | {again_time:.3}, {} + {} | {:.0}% | {:.1e}",
            fresh.passes,
            fresh.products,
            again.passes,
            again.products,
            100.0 * again_time / fresh_time,
            (again.objective - fresh.objective).abs() / fresh.objective
        );
    }
}
