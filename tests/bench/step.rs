//! BYOL's step alone, on resident views: `cargo bench --features train --bench step [THREADS]`, beside
//! step_pytorch.py. Prints pictures a second, and CPU seconds of 1000 pictures, which other work on the machine
//! disturbs less.

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

use std::time::Instant;

use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::mlp::MlpConfig;
use byol_train::byol::{Byol, Options, Predefined, Reading};
use byol_train::network::input;
use byol_train::optimizer::{Kind, Rule};
use byol_train::tch::Device;

fn main() {
    let threads = std::env::args().filter_map(|a| a.parse().ok()).next().unwrap_or(2);
    let resnet18 = EncoderConfig { stem: Stem::SmallStride2, channels: 1, image_size: 28, ..EncoderConfig::default() };
    let demo = EncoderConfig { width: 16, blocks: Some(vec![1, 1]), pool: Pool::Grid(4), ..resnet18.clone() };
    let narrow = EncoderConfig { width: 16, ..resnet18.clone() };
    let full = EncoderConfig { stem: Stem::Small, channels: 3, image_size: 32, ..resnet18 };
    measure("demo's encoder, batch 64", &demo, 64, threads, 150);
    measure("ResNet-18 of width 16 at 28 pixels, batch 256", &narrow, 256, threads, 20);
    measure("ResNet-18 at 32 pixels, batch 64", &full, 64, threads, 4);
}

fn measure(what: &str, encoder: &EncoderConfig, batch: usize, threads: usize, steps: usize) {
    let graph = encoder.build().unwrap();
    let config = MlpConfig { hidden: 512, output: 128, ..MlpConfig::default() };
    let rule = Rule {
        kind: Kind::Sgd,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-5,
        trust: 1e-3,
        betas: (0.9, 0.999),
        eps: 1e-8,
    };
    let options = Options { device: Device::Cpu, threads, rule, ..Options::default() };
    let values: Vec<f32> =
        (0..batch * graph.input_shape().len()).map(|i| ((i * 7919 % 1000) as f32 - 500.0) / 290.0).collect();
    let mut byol =
        Byol::from_encoder(Predefined::init(graph, 0), config.hidden, config.output, true, 1, &options).unwrap();
    let shape = byol.encoder().graph().input_shape();
    let mut step = || {
        let view = || input(&values, shape, Device::Cpu).unwrap();
        let report = Reading::report(&byol.learn(view(), view(), 1.0).unwrap()).unwrap();
        byol.update(0.01, 0.99).unwrap();
        report.loss
    };
    (0..3).for_each(|_| _ = step());
    let mut rounds = [(); 5].map(|()| {
        let (start, cpu) = (Instant::now(), cpu_seconds());
        (0..steps).for_each(|_| _ = step());
        let pictures = (steps * batch) as f64;
        ((cpu_seconds() - cpu) * 1000.0 / pictures, pictures / start.elapsed().as_secs_f64())
    });
    rounds.sort_by(|a, b| a.0.total_cmp(&b.0));
    let fastest = rounds.iter().map(|r| r.1).fold(0.0, f64::max);
    println!("{what}: {fastest:.0} pictures/s, {:.3} CPU seconds of 1000 pictures", rounds[2].0);
}

/// Of this process, all threads.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}
