//! Learning with labels: `byol finetune` and `byol linear-eval --protocol paper`, on pictures whose classes can be told.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::picture::InputContract;
use byol_model::weights::Weights;
use byol_train::byol::Predefined;
use byol_train::classifier::{Classifier, Recipe};
use byol_train::tch::Device;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const SAMPLE: &str = "examples/data/fashion-mnist";

fn byol(line: &str) -> (bool, String, String) {
    let done = support::byol().args(line.split_whitespace()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (done.status.success(), text(&done.stdout), text(&done.stderr))
}

fn json(line: &str) -> Value {
    let (success, out, err) = byol(&format!("--json -q {line}"));
    assert!(success, "byol {line}\n{err}");
    serde_json::from_str(&out).unwrap()
}

/// A folder like a run's, with an untrained encoder.
fn untrained(folder: &Path) -> (EncoderConfig, Weights) {
    let config = EncoderConfig {
        stem: Stem::SmallStride2,
        width: 8,
        blocks: Some(vec![1, 1]),
        channels: 1,
        image_size: 28,
        pool: Pool::Grid(2),
        ..EncoderConfig::default()
    };
    let weights = config.initial(0).unwrap().1;
    let mut metadata: BTreeMap<String, String> = InputContract::square(1, 28).to_metadata();
    metadata.insert("byol.encoder".into(), serde_json::to_string(&config).unwrap());
    metadata.insert("byol.seed".into(), "0".into());
    weights.save(&folder.join("encoder.safetensors"), &metadata).unwrap();
    (config, weights)
}

#[test]
fn finetuning_learns_from_a_part_of_the_labels_and_leaves_a_classifier_to_serve() {
    let folder = tempfile::tempdir().unwrap();
    untrained(folder.path());
    let d = folder.path().display();
    let line = format!(
        "finetune {d} --data {SAMPLE} --fraction 0.03 --epochs 8 --learning-rates 0.2,0.8 --threads 1 -o {d}/kept"
    );
    let found = json(&line);
    // 10,000 training pictures, of which a tenth is held out; 3% of each class.
    assert!((290..=310).contains(&found["labelled"].as_u64().unwrap()), "{found}");
    let top1 = found["top1"].as_f64().unwrap();
    assert!(top1 > 0.5 && found["top5"].as_f64().unwrap() > 0.9, "{top1}");
    let (low, high) =
        (found["intervals"]["top1"][0].as_f64().unwrap(), found["intervals"]["top1"][1].as_f64().unwrap());
    assert!(low < top1 && top1 < high && high - low < 0.06, "{low} {top1} {high}");
    assert_eq!(found["sweep"].as_array().unwrap().len(), 2);
    assert!(found["mean_per_class"].as_f64().unwrap() > 0.4);
    // ONNX Runtime, with the exported encoder and head, says the same of the same pictures.
    let served = json(&format!(
        "evaluate {d}/kept/head.safetensors --encoder {d}/kept/encoder.onnx --data {SAMPLE} --split test"
    ));
    assert!((served["evaluation"]["top1"].as_f64().unwrap() - top1).abs() < 1e-3, "{served}");
}

#[test]
fn the_papers_linear_protocol_chooses_a_rate_and_leaves_the_encoder_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (config, weights) = untrained(folder.path());
    let d = folder.path().display();
    let line = format!(
        "linear-eval {d} --data {SAMPLE} --protocol paper --epochs 1 --learning-rates 0.0001,0.4 --threads 1 --batch-size 64"
    );
    let found = json(&line);
    assert_eq!(found["learning_rate"], 0.4, "{found}");
    // Ten classes, an untrained encoder, one pass.
    assert!(found["top1"].as_f64().unwrap() > 0.3, "{found}");
    let (success, _, err) = byol(&format!("linear-eval {d}/encoder.onnx --data {SAMPLE} --protocol paper"));
    assert!(!success && err.contains("encoder.onnx"), "{err}");

    // The layers of several rates learn side by side as each would alone; the encoder stays as it was.
    let encoder = Predefined { graph: config.build().unwrap(), weights: weights.clone() };
    let data = byol_model::dataset::Dataset::open(&support::root().join(SAMPLE), byol_model::dataset::Split::Train);
    let data = data.unwrap().select(&(0..320).collect::<Vec<_>>());
    let recipe = Recipe {
        epochs: 2.0,
        learning_rate: 0.0,
        batch_size: 32,
        weight_decay: 0.0,
        least_area: 0.3,
        seed: 4,
        device: Device::Cpu,
        threads: 1,
    };
    let learn = |rates: &[f64]| {
        Classifier::linear(&encoder, &InputContract::square(1, 28), &data, &recipe, rates, &mut |_, _, _| {}).unwrap()
    };
    let (both, alone) = (learn(&[0.1, 0.8]), learn(&[0.8]));
    assert!(both[1].head().weights().unwrap() == alone[0].head().weights().unwrap());
    assert!(both[0].head().weights().unwrap() != alone[0].head().weights().unwrap());
    assert!(alone[0].encoder().weights().unwrap() == weights);
}

#[test]
fn a_flag_of_another_protocol_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    untrained(folder.path());
    let d = folder.path().display();
    let refused = |protocol: &str, flag: &str| {
        let (success, _, err) = byol(&format!("linear-eval {d} --data {SAMPLE} --protocol {protocol} {flag}"));
        let name = flag.split(' ').next().unwrap();
        assert!(!success && err.contains(name) && err.contains("paper"), "{protocol} {flag}: {err}");
    };
    let of_paper = ["--epochs 3", "--learning-rates 0.1", "--batch-size 64", "--crop-area 0.3", "--device cpu"];
    of_paper.iter().for_each(|flag| refused("transfer", flag));
    let of_runtime = ["--onnxruntime lib.so", "--provider cuda", "--batch 8", "--strict"];
    of_runtime.iter().for_each(|flag| refused("paper", flag));
}

#[test]
fn what_cannot_be_learned_from_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    untrained(folder.path());
    let d = folder.path().display();
    let refused = |line: &str, culprit: &str| {
        let (success, _, err) = byol(line);
        assert!(!success && err.contains(culprit) && !err.contains("panicked"), "byol {line}\n{err}");
    };
    refused(&format!("finetune {d} --data {SAMPLE} --fraction 0"), "--fraction 0");
    refused(&format!("finetune {d} --data {SAMPLE} --fraction 1.5"), "--fraction 1.5");
    refused(&format!("finetune {d} --data tests/data/photos --test-data tests/data/photos"), "label");
    refused(&format!("finetune {d}/none --data {SAMPLE}"), "none");
    refused(&format!("finetune {d} --data {SAMPLE} --epochs 0 --fraction 0.01"), "epochs");
    refused(&format!("finetune {d} --data {SAMPLE} --crop-area 2 --fraction 0.01"), "crop_area");
    // Before anything is learned.
    refused(&format!("finetune {d} --data {SAMPLE} --bootstrap 39"), "--bootstrap");
    refused(&format!("finetune {d} --data {SAMPLE} -o {d}/encoder.safetensors/kept"), "encoder.safetensors/kept");
}
