//! One fit of the linear head on one thread, and where it stood after every iteration: how soon it was at an objective that
//! another solver reached.
//!
//! usage: cargo bench --bench head_trace -- FEATURES.npy LABELS.npy L2_TIMES_ROWS [OBJECTIVE]
//!
//! Prints a line of JSON per iteration (`cpu` seconds since the fit began, `objective`, `gap`), and one for the end. CPU
//! seconds are those of this thread as Linux counts them, waiting for a core not among them.
//!
//! What an iteration tells on its way is not exact where rows are rounded; where a fit ends, it is. With an objective there is
//! one line alone: of the fit of the fewest iterations that ends there or lower.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop with a backtrace")]

use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::solver::{FitOptions, Progress, fit};

fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split_whitespace().next().unwrap().parse::<f64>().unwrap() * 1e-9
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let (features, labels, penalty, enough) = match &arguments[..] {
        [features, labels, penalty] => (features, labels, penalty, f64::NEG_INFINITY),
        [features, labels, penalty, enough] => (features, labels, penalty, enough.parse().unwrap()),
        _ => return eprintln!("usage: head_trace FEATURES.npy LABELS.npy L2_TIMES_ROWS [OBJECTIVE]"),
    };
    let x = Features::load(features).unwrap().values;
    let y = Features::load_labels(labels).unwrap();
    let classes = *y.iter().max().unwrap() as usize + 1;
    let l2 = penalty.parse::<f64>().unwrap() / y.len() as f64;
    let mut options = FitOptions { l2, threads: 1, max_iterations: 5000, ..FitOptions::default() };
    let mut points: Vec<(f64, f64, f64)> = Vec::new();
    let mut iterations = 0;
    let began = cpu_seconds();
    let cancel = Cancel::new();
    let mut progress = |now: &Progress| {
        points.push((cpu_seconds() - began, now.objective, now.gap));
        iterations = now.iteration;
        if now.objective <= enough {
            cancel.trigger();
        }
    };
    let found = fit(x.view(), &y, classes, &options, &cancel, Some(&mut progress));
    let cpu = cpu_seconds() - began;
    if matches!(found, Err(Error::Cancelled)) {
        options.max_iterations = iterations;
        loop {
            let began = cpu_seconds();
            let objective = fit(x.view(), &y, classes, &options, &Cancel::new(), None).unwrap().2.objective;
            let cpu = cpu_seconds() - began;
            if objective <= enough {
                return println!("{}", serde_json::json!({ "cpu": cpu, "objective": objective, "gap": null }));
            }
            options.max_iterations += 1;
        }
    }
    for (cpu, objective, gap) in points {
        let gap = if gap.is_finite() { serde_json::json!(gap) } else { serde_json::Value::Null };
        println!("{}", serde_json::json!({ "cpu": cpu, "objective": objective, "gap": gap }));
    }
    let report = found.unwrap().2;
    let serde_json::Value::Object(mut end) = serde_json::to_value(&report).unwrap() else { unreachable!() };
    end.insert("cpu".into(), cpu.into());
    println!("{}", serde_json::Value::Object(end));
}
