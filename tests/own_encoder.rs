//! Encoders that PyTorch exported: what they compute here is what they compute there, in both modes, and they learn.
//! tests/own_encoder.sh exports the models, with what they should compute, and names their folder.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use byol_model::onnx;
use byol_model::onnx_import::{self, Imported};
use byol_model::picture::InputContract;
use byol_model::shape::Shape;
use byol_model::weights::{Tensor, Weights};
use byol_train::byol::{Byol, Options, Predefined, Reading};
use byol_train::network::{Mode, Network, input};
use byol_train::optimizer::{Kind, Rule};
use byol_train::tch::{self, Device};
use std::collections::BTreeMap;
use std::path::PathBuf;

const STEPS: usize = 20;

fn models() -> Vec<PathBuf> {
    let folder = std::env::var_os("BYOL_OWN_ENCODERS").expect("BYOL_OWN_ENCODERS names the folder; see own_encoder.sh");
    let all = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut all: Vec<PathBuf> = all.filter(|path| path.extension().is_some_and(|e| e == "onnx")).collect();
    all.sort();
    all
}

/// |a - b| / |b|
fn difference(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let size = norm(&mut expected.iter().map(|&v| f64::from(v)));
    assert!(size > 0.0 && size.is_finite());
    norm(&mut found.iter().zip(expected).map(|(a, b)| f64::from(a - b))) / size
}

fn values(tensor: &tch::Tensor) -> Vec<f32> {
    let mut out = vec![0.0; tensor.numel()];
    tensor.contiguous().copy_data(&mut out, tensor.numel());
    out
}

fn rule() -> Rule {
    Rule {
        kind: Kind::Sgd,
        momentum: 0.9,
        nesterov: false,
        weight_decay: 1e-6,
        trust: 1e-3,
        betas: (0.9, 0.999),
        eps: 1e-8,
    }
}

/// Losses of steps on one batch of two views, and the encoder after them.
fn learn(imported: &Imported, x: &Tensor) -> (Vec<f64>, Weights) {
    let options = Options { device: Device::Cpu, threads: 2, rule: rule(), ..Options::default() };
    let encoder = Predefined { graph: imported.graph.clone(), weights: imported.weights.clone() };
    let mut byol = Byol::from_encoder(encoder, 128, 64, true, 3, &options).unwrap();
    let shape = imported.graph.input_shape();
    // The second view: the pictures mirrored and dimmed.
    let width = x.shape[3];
    let mirrored: Vec<f32> = x
        .data
        .chunks_exact(width)
        .flat_map(|row| row.iter().rev().map(|v| 0.8 * v + 0.1).collect::<Vec<_>>())
        .collect();
    let losses = (0..STEPS)
        .map(|_| {
            let view = |data: &[f32]| input(data, shape, Device::Cpu).unwrap();
            let readings: [Reading; 2] = byol.learn(view(&x.data), view(&mirrored), 1.0).unwrap();
            byol.update(0.01, 0.99).unwrap();
            Reading::report(&readings).unwrap().loss
        })
        .collect();
    (losses, byol.encoder().weights().unwrap())
}

fn check(path: &std::path::Path) {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let imported = onnx_import::load(path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let recorded = Weights::load(&path.with_extension("safetensors")).unwrap();
    let x = recorded.get("input").unwrap();
    let run = |weights: &Weights, mode| {
        let network = Network::new(imported.graph.clone(), weights, Device::Cpu).unwrap();
        let x = input(&x.data, imported.graph.input_shape(), Device::Cpu).unwrap();
        values(&tch::no_grad(|| network.lane().unwrap().forward(&x, mode)).unwrap())
    };
    let evaluation = difference(&run(&imported.weights, Mode::Eval), &recorded.get("evaluation").unwrap().data);
    let training = difference(&run(&imported.weights, Mode::Train), &recorded.get("training").unwrap().data);

    let theirs = f64::from(recorded.get("training_error").unwrap().data[0]);

    let (losses, learned) = learn(&imported, x);
    assert!(losses.iter().all(|loss| loss.is_finite()), "{name}: {losses:?}");
    let (first, last) = (losses[0], losses[STEPS - 1]);

    // What was learned, written and served: pictures of whole levels, as a contract gives them.
    let Shape::Map { channels, height, .. } = imported.graph.input_shape() else { panic!("{name} reads no pictures") };
    let contract = InputContract::square(channels, height);
    let export =
        onnx::Export { graph: &imported.graph, weights: &learned, contract: &contract, metadata: BTreeMap::new() };
    let bytes = onnx::write(&export).unwrap();
    let served = path.with_extension("byol");
    std::fs::write(&served, &bytes).unwrap();
    let mut state = 1u32;
    let mut level = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let pixels: Vec<u8> = (0..4 * contract.bytes()).map(|_| level()).collect();
    let mut normalised = vec![0.0; pixels.len()];
    for (pixels, out) in pixels.chunks_exact(contract.bytes()).zip(normalised.chunks_exact_mut(contract.bytes())) {
        contract.normalise(pixels, out);
    }
    let network = Network::new(imported.graph.clone(), &learned, Device::Cpu).unwrap();
    let y = input(&normalised, imported.graph.input_shape(), Device::Cpu).unwrap();
    let expected = values(&tch::no_grad(|| network.lane().unwrap().forward(&y, Mode::Eval)).unwrap());
    // For stock onnxruntime, which tests/own_encoder.py asks: the same pictures, and what they should give.
    let dimension = imported.graph.dimension();
    let golden = Weights::from_iter([
        (
            "pixels".to_owned(),
            Tensor { shape: vec![4, height, height, channels], data: pixels.iter().map(|&p| f32::from(p)).collect() },
        ),
        ("features".to_owned(), Tensor { shape: vec![4, dimension], data: expected }),
    ]);
    golden.save(&path.with_extension("learned"), &BTreeMap::new()).unwrap();
    println!(
        "{name}: evaluation {evaluation:.1e}, training {training:.1e} (PyTorch {theirs:.1e}), loss {first:.3} to {last:.3}"
    );
    assert!(evaluation < 1e-4, "{name}: evaluation is off by {evaluation:.1e}");
    // Where a small batch makes BatchNorm ill-conditioned, PyTorch's own float32 is as far from float64.
    let allowed = (8.0 * theirs).clamp(1e-4, 1e-2);
    assert!(training < allowed, "{name}: training is off by {training:.1e}, PyTorch by {theirs:.1e}");
    assert!(last < first, "{name}: the loss went from {first} to {last}");
}

#[test]
#[ignore = "tests/own_encoder.sh runs it, on models that it exports"]
fn real_models_compute_what_pytorch_and_onnxruntime_compute_and_learn() {
    let models = models();
    assert!(models.len() >= 8, "{} models", models.len());
    let only = std::env::var("BYOL_ONLY").unwrap_or_default();
    let failed: Vec<_> = models
        .iter()
        .filter(|path| path.to_string_lossy().contains(&only))
        .filter(|path| std::panic::catch_unwind(|| check(path)).is_err())
        .collect();
    assert!(failed.is_empty(), "{failed:?}");
}
