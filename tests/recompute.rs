//! Activation checkpointing: the same gradients to the bit, in less memory.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use byol_model::encoder::{EncoderConfig, Stem};
use byol_train::byol::{Byol, Options, Predefined};
use byol_train::tch::{self, Device, Kind, Tensor};

fn byol(config: &EncoderConfig, threads: usize, recompute: bool) -> Byol {
    let encoder = Predefined::init(config.build().unwrap(), 1);
    let options = Options { threads, recompute, ..Options::default() };
    Byol::from_encoder(encoder, 32, 16, true, 2, &options).unwrap()
}

fn views(config: &EncoderConfig, pictures: i64) -> [Tensor; 2] {
    let side = config.image_size as i64;
    tch::manual_seed(3);
    [0, 1].map(|_| Tensor::randn([pictures, 3, side, side], (Kind::Float, Device::Cpu)))
}

#[test]
fn gradients_and_running_statistics_are_equal_to_the_bit() {
    let small = EncoderConfig { stem: Stem::Small, image_size: 16, width: 8, ..EncoderConfig::default() };
    let standard = EncoderConfig { name: "resnet50".into(), image_size: 64, width: 8, ..EncoderConfig::default() };
    for (config, threads) in [(&small, 1), (&small, 2), (&standard, 2)] {
        let (mut kept, mut recomputed) = (byol(config, threads, false), byol(config, threads, true));
        // Two batches for one step: gradients add up in the same way too.
        for _ in 0..2 {
            for byol in [&mut kept, &mut recomputed] {
                let [first, second] = views(config, 6);
                byol.learn(first, second, 0.5).unwrap();
            }
        }
        let (a, b) = (kept.take_gradients().unwrap(), recomputed.take_gradients().unwrap());
        assert!(a.values().any(|t| t.data.iter().any(|v| *v != 0.0)));
        for (name, tensor) in &a {
            assert!(*tensor == b[name], "{}: {name}", config.name);
        }
        assert!(kept.state().unwrap() == recomputed.state().unwrap());
    }
}

/// Peak of the resident memory since the last call, in bytes.
#[cfg(target_os = "linux")]
fn peak() -> u64 {
    let kib = support::status_kib("VmHWM");
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    kib << 10
}

#[cfg(target_os = "linux")]
#[test]
fn the_peak_of_memory_is_lower() {
    // Alone in its process, which nothing else then disturbs.
    if std::env::var_os("BYOL_RECOMPUTE").is_none() {
        let peak_of = |recompute: &str| -> u64 {
            let done = std::process::Command::new(std::env::current_exe().unwrap())
                .args(["--exact", "the_peak_of_memory_is_lower", "--nocapture"])
                .env("BYOL_RECOMPUTE", recompute)
                // Without it glibc keeps freed memory of this size for itself, and the peak is of what it kept.
                .env("MALLOC_MMAP_THRESHOLD_", "1000000")
                .output()
                .unwrap();
            let text = String::from_utf8_lossy(&done.stdout).into_owned();
            assert!(done.status.success(), "{text}");
            text.lines().find_map(|line| line.split_once("peak ")?.1.trim().parse().ok()).unwrap()
        };
        let (kept, recomputed) = (peak_of("0"), peak_of("1"));
        assert!(recomputed * 3 < kept * 2, "{recomputed} bytes with, {kept} without activation checkpoints");
        println!("with {} MiB, without {} MiB", recomputed >> 20, kept >> 20);
        return;
    }
    let config = EncoderConfig { stem: Stem::Small, image_size: 64, width: 16, ..EncoderConfig::default() };
    let mut byol = byol(&config, 2, std::env::var("BYOL_RECOMPUTE").unwrap() == "1");
    let [first, second] = views(&config, 64);
    peak();
    let before = peak();
    byol.learn(first, second, 1.0).unwrap();
    println!("peak {}", peak() - before);
}
