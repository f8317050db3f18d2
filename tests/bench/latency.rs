//! How long one picture takes, and how many a second there are, with 1, 2, 4 and 8 clients of one encoder:
//! `cargo bench --bench latency [-- ENCODER.onnx] [CALLS]`. Each client is a thread that extracts one JPEG photograph after the
//! other. Without a file, a ResNet-18 at 224 of random weights.
//!
//! `cargo bench --bench latency -- open ENCODER.onnx` opens a file in three ways and prints milliseconds and the memory
//! that is held afterwards; tests/bench/memory.py puts that beside onnxruntime's own.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../support/mod.rs"]
mod support;

use std::path::Path;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use byol_model::encoder::EncoderConfig;
use byol_model::onnx::{Export, write};
use byol_model::picture::InputContract;
use byol_model::weights::Weights;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};

const CLIENTS: [usize; 4] = [1, 2, 4, 8];
const ROUNDS: usize = 3;

fn main() {
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    if let Some(("open", file)) = words.first().zip(words.get(1)).map(|(a, b)| (a.as_str(), b)) {
        return open(Path::new(file));
    }
    let calls = words.iter().find_map(|word| word.parse().ok()).unwrap_or(128);
    let runtime = support::runtime();
    let encoder = match words.iter().find(|word| word.ends_with(".onnx")) {
        Some(file) => Encoder::open(&runtime, Path::new(file), &EncoderOptions::default()),
        None => Encoder::from_bytes(&runtime, &resnet18(), &EncoderOptions::default()),
    };
    let encoder = encoder.unwrap_or_else(|e| panic!("{e}"));
    encoder.warm_up().unwrap();
    let mut photos: Vec<_> = std::fs::read_dir(support::data("photos")).unwrap().map(|e| e.unwrap().path()).collect();
    photos.sort();
    let photos: Vec<Vec<u8>> = photos.iter().map(|path| std::fs::read(path).unwrap()).collect();

    // The rounds go in turn, so that a busy minute of the machine falls on all numbers of clients.
    let mut seen: [(Vec<f64>, Vec<f64>); CLIENTS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (&clients, (waits, rates)) in CLIENTS.iter().zip(&mut seen) {
            let (round, rate) = round(&encoder, &photos, clients, calls);
            waits.extend(round);
            rates.push(rate);
        }
    }
    println!("{} threads, {calls} calls in each of {ROUNDS} rounds", runtime.threads());
    println!("clients  p50 ms  p99 ms  longest ms  pictures/s, each round");
    for (clients, (waits, rates)) in CLIENTS.iter().zip(&mut seen) {
        waits.sort_by(f64::total_cmp);
        let at = |share: f64| waits[((waits.len() - 1) as f64 * share).round() as usize];
        let rates: Vec<String> = rates.iter().map(|rate| format!("{rate:.1}")).collect();
        println!("{clients:7}  {:6.1}  {:6.1}  {:10.1}  {}", at(0.5), at(0.99), at(1.0), rates.join(" "));
    }
}

/// Milliseconds of each call, and calls a second.
fn round(encoder: &Encoder, photos: &[Vec<u8>], clients: usize, calls: usize) -> (Vec<f64>, f64) {
    let (next, start) = (AtomicUsize::new(0), Barrier::new(clients + 1));
    let client = || {
        let (mut waits, mut features) = (Vec::new(), vec![0.0; encoder.dimension()]);
        start.wait();
        loop {
            let call = next.fetch_add(1, Ordering::Relaxed);
            if call >= calls {
                return waits;
            }
            let began = Instant::now();
            let photo = [photos[call % photos.len()].as_slice()];
            encoder.extract_encoded(&photo, &mut features, encoder.dimension(), None, &Cancel::new()).unwrap();
            waits.push(began.elapsed().as_secs_f64() * 1e3);
        }
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..clients).map(|_| scope.spawn(client)).collect();
        start.wait();
        let began = Instant::now();
        let waits = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        (waits, calls as f64 / began.elapsed().as_secs_f64())
    })
}

fn resnet18() -> Vec<u8> {
    let config = EncoderConfig { image_size: 224, ..EncoderConfig::default() };
    let graph = config.build().unwrap();
    let contract = InputContract::square(3, 224);
    let weights = Weights::init(&graph, 0);
    write(&Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() }).unwrap()
}

/// One JSON line for each way of opening, each in a process of its own.
fn open(file: &Path) {
    const WAY: &str = "BYOL_BENCH_WAY";
    if let Some(way) = std::env::var_os(WAY) {
        let options = match way.to_str().unwrap() {
            "lone" => EncoderOptions { sessions: 1, ..EncoderOptions::default() },
            "default" => EncoderOptions::default(),
            _ => EncoderOptions { bulk: true, ..EncoderOptions::default() },
        };
        let runtime = support::runtime();
        let (before, began) = (kibibytes("VmRSS:"), Instant::now());
        let encoder = Encoder::open(&runtime, file, &options).unwrap_or_else(|e| panic!("{e}"));
        let milliseconds = began.elapsed().as_secs_f64() * 1e3;
        let (held, peak) = (kibibytes("VmRSS:") - before, kibibytes("VmHWM:") - before);
        let sessions = encoder.sessions();
        println!(
            r#"{{"way": {way:?}, "sessions": {sessions}, "ms": {milliseconds:.1}, "held_kib": {held}, "peak_kib": {peak}}}"#
        );
        return;
    }
    for way in ["lone", "default", "bulk"] {
        let program = std::env::current_exe().unwrap();
        let child = std::process::Command::new(program).args(std::env::args().skip(1)).env(WAY, way).status();
        assert!(child.unwrap().success());
    }
}

/// A line of this process's status, in KiB.
fn kibibytes(line: &str) -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix(line)).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}
