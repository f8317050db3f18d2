//! The whole product through its command: pretrain, export, extract, knn, linear-eval, fit, predict; and what it says
//! to bad input, each time with the culprit's name, exit code 1, and nothing half-written.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn byol<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Output {
    support::byol().args(arguments).output().unwrap()
}

/// Runs a command line that must succeed, and reads its JSON.
fn json(line: &str) -> Value {
    let done = byol(["--json", "-q"].into_iter().chain(line.split_whitespace()));
    let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
    assert!(done.status.success(), "byol {line}\n{err}");
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("byol {line}: {e}\n{out}"))
}

/// Runs a command line that must fail with exit code 1 and a message that holds `culprit`.
fn refused(line: &str, culprit: &str) {
    let done = byol(line.split_whitespace());
    let err = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "byol {line}\n{err}");
    let said = err.find("byol: ").map_or("", |start| &err[start..]);
    assert!(said.contains(culprit), "byol {line}\nshould name {culprit:?}:\n{err}");
    assert!(!err.contains("panicked"), "{err}");
}

const SAMPLE: &str = "examples/data/fashion-mnist";
/// A run of seconds.
const SHORT: &str = "--config examples/demo.toml --images 640 --epochs 2 --batch-size 32 --evaluation-epochs 1";

fn listing(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn pictures_become_an_encoder_features_a_head_and_predictions() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().display();
    let learned = json(&format!("pretrain {SHORT} --out {d}/run"));
    assert_eq!(learned["steps"], 40);
    assert!(learned["loss"].as_f64().unwrap() < 4.0);
    for file in ["run.toml", "metrics.jsonl", "checkpoint.safetensors", "encoder.onnx", "plot.png"] {
        assert!(folder.path().join("run").join(file).exists(), "{file}");
    }
    let exported = json(&format!("export {d}/run -o {d}/encoder.onnx"));
    let same = |a: &str, b: &str| {
        std::fs::read(folder.path().join(a)).unwrap() == std::fs::read(folder.path().join(b)).unwrap()
    };
    assert!(same("run/encoder.onnx", "encoder.onnx"), "export repeats what the run wrote");
    json(&format!("export {d}/run --untrained -o {d}/untrained.onnx"));
    assert!(!same("untrained.onnx", "encoder.onnx"));

    let extracted = json(&format!("extract {d}/encoder.onnx --data {SAMPLE} --split test -o {d}/f.safetensors"));
    assert_eq!((extracted["pictures"].as_u64(), extracted["dimension"].as_u64()), (Some(2000), Some(512)));
    assert_eq!(extracted["encoder_sha256"], exported["sha256"]);
    json(&format!("extract {d}/encoder.onnx --data {SAMPLE} --split test -o {d}/X.npy --labels {d}/y.npy"));
    let pair = format!("--features {d}/X.npy --labels {d}/y.npy --test-features {d}/f.safetensors");
    assert_eq!(json(&format!("knn {pair} -k 1"))["top1"], 1.0, "each row is its own nearest neighbour");
    let linear = json(&format!("linear-eval {pair} --l2 1e-2"));
    assert!(linear["top1"].as_f64().unwrap() > 0.6, "{linear}");
    assert!(json(&format!("linear-eval {pair} --labels-per-class 10 --repeats 2"))["top1"].as_f64().unwrap() > 0.3);

    let fitted = json(&format!("fit --encoder {d}/encoder.onnx --data tests/data/pictures -o {d}/head.safetensors"));
    assert_eq!(fitted["classes"], serde_json::json!(["bag", "sneaker", "trouser"]));
    assert_eq!(fitted["train_top1"], 1.0);
    let all = json(&format!("predict {d}/head.safetensors --encoder {d}/encoder.onnx --data tests/data/pictures"));
    for prediction in all["predictions"].as_array().unwrap() {
        let (name, label) = (prediction["name"].as_str().unwrap(), prediction["top"][0]["label"].as_str().unwrap());
        assert!(name.contains(label), "{name} is no {label}");
    }
    let judged = json(&format!("evaluate {d}/head.safetensors --encoder {d}/encoder.onnx --data tests/data/pictures"));
    assert_eq!(judged["evaluation"]["top1"], 1.0);
    let fit = format!("fit --features {d}/X.npy --labels {d}/y.npy --l2 1e-5 -o {d}/other.safetensors");
    assert!(json(&fit)["temperature"].is_null());
    let sure = json(&format!("evaluate {d}/other.safetensors --features {d}/X.npy --labels {d}/y.npy"));
    let temperature = json(&format!("{fit} --calibrate"))["temperature"].as_f64().unwrap();
    assert!(temperature > 1.05, "512 features and 2,000 rows make a head too sure: {temperature}");
    let cooler = json(&format!("evaluate {d}/other.safetensors --features {d}/X.npy --labels {d}/y.npy"));
    assert_eq!(cooler["evaluation"]["top1"], sure["evaluation"]["top1"], "a temperature changes no prediction");
    assert!(cooler["evaluation"]["log_loss"].as_f64() > sure["evaluation"]["log_loss"].as_f64(), "of its own rows");
    json(&format!("export {d}/encoder.onnx --head {d}/head.safetensors -o {d}/classifier.onnx"));
    refused(&format!("export {d}/untrained.onnx --head {d}/head.safetensors -o {d}/no.onnx"), "head.safetensors");
    assert!(!folder.path().join("no.onnx").exists());
    refused(
        &format!("predict {d}/head.safetensors --encoder {d}/untrained.onnx tests/data/photos/roof.jpg"),
        "head.safetensors",
    );
}

/// The commands of README's section "Three acts", as they stand there, in a folder that has what they name. Only the
/// first is made short.
#[test]
fn the_commands_of_the_readme_run() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::create_dir(at("photos")).unwrap();
    for (i, photo) in ["dahlia", "petals", "roof", "temple"].iter().cycle().take(8).enumerate() {
        std::fs::copy(support::data(&format!("photos/{photo}.jpg")), at(&format!("photos/{i}.jpg"))).unwrap();
    }
    for (class, photos) in [("flower", ["dahlia", "petals"]), ("house", ["roof", "temple"])] {
        std::fs::create_dir_all(at("labelled").join(class)).unwrap();
        for photo in photos {
            let name = format!("labelled/{class}/{photo}.jpg");
            std::fs::copy(support::data(&format!("photos/{photo}.jpg")), at(&name)).unwrap();
        }
    }
    std::fs::copy(support::data("photos/roof.jpg"), at("cat.jpg")).unwrap();
    std::fs::copy(support::data("photos/dahlia.jpg"), at("dog.jpg")).unwrap();

    let readme = std::fs::read_to_string(support::root().join("README.md")).unwrap();
    let section = readme.split("## Three acts").nth(1).unwrap();
    let block = section.split("```").nth(1).unwrap();
    let resume = section.split('`').find(|code| code.starts_with("byol pretrain --resume")).unwrap();
    let lines: Vec<_> = block.lines().skip(1).chain([resume]).filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines.len(), 5, "{lines:?}");
    for line in lines {
        let short = "--epochs 2 --batch-size 4 --image-size 32 --width 8";
        let line = line.replace("--data photos/", &format!("--data photos/ {short}"));
        let words = line.split('#').next().unwrap().split_whitespace().skip(1);
        let done = support::byol().args(words).current_dir(folder.path()).output().unwrap();
        assert!(done.status.success(), "{line}\n{}", String::from_utf8_lossy(&done.stderr));
    }
    assert!(at("head.safetensors").exists());
}

#[test]
fn a_summary_counts_and_an_untrained_encoder_can_be_had() {
    let folder = tempfile::tempdir().unwrap();
    let summary = json("summary --encoder resnet18");
    assert_eq!(summary["parameters"], 11_176_512);
    assert!(summary["multiply_adds"].as_u64().unwrap() > 1_800_000_000);
    let file = folder.path().join("u.onnx");
    let exported = json(&format!("export --encoder resnet18 --width 8 --image-size 32 -o {}", file.display()));
    assert_eq!(exported["dimension"], 64);
}

#[test]
fn an_encoder_begins_with_given_weights() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().display();
    let short = SHORT.replace("--epochs 2 ", "");
    let weights = |path: &str| byol_model::weights::Weights::load(&folder.path().join(path)).unwrap();
    json(&format!("pretrain {short} --steps 2 --out {d}/first"));
    // A rate of zero changes no weight; the classifier's layer is left out.
    let mut given = weights("first/encoder.safetensors");
    let layer = byol_model::weights::Tensor::full(&[3], 0.0);
    given.insert("fc.bias", layer.clone());
    given.save(&folder.path().join("given.safetensors"), &std::collections::BTreeMap::new()).unwrap();
    let begin = format!("pretrain {short} --steps 1 --learning-rate 0 --seed 9 --init-weights {d}/given.safetensors");
    let said = byol(format!("{begin} --out {d}/second").split_whitespace());
    let said = format!("{}{}", String::from_utf8_lossy(&said.stdout), String::from_utf8_lossy(&said.stderr));
    assert!(said.contains("given.safetensors") && said.contains("left out") && said.contains("fc.bias"), "{said}");
    let (first, second) = (weights("first/encoder.safetensors"), weights("second/encoder.safetensors"));
    let learned = |name: &str| !name.contains("running");
    for (name, tensor) in second.iter().filter(|(name, _)| learned(name)) {
        assert_eq!(tensor, first.get(name).unwrap(), "{name}");
    }
    refused(&format!("export {d}/second --untrained -o {d}/u.onnx"), "given.safetensors");
    json(&format!("export {d}/second -o {d}/e.onnx"));

    // A resumed run has them from its checkpoint.
    std::fs::remove_file(folder.path().join("given.safetensors")).unwrap();
    json(&format!("pretrain --resume --out {d}/second"));
    refused(&format!("{begin} --out {d}/third"), "given.safetensors");

    given.remove("fc.bias");
    given.insert("bn1.bias", layer);
    given.save(&folder.path().join("given.safetensors"), &std::collections::BTreeMap::new()).unwrap();
    refused(&format!("{begin} --out {d}/third"), "bn1.bias");
    refused(&format!("export --encoder resnet34 --weights {d}/given.safetensors -o {d}/e.onnx"), "given.safetensors");
}

#[test]
fn a_summary_is_a_table_with_totals() {
    let done = byol("summary --encoder resnet50 --width 2x --norm group".split_whitespace());
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    for part in ["layer1.0.conv2", "StdConv2d", "3x3", "GroupNorm", "(16.", "features", "MiB"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(text.contains("93,"), "millions of parameters: {text}");
    let widths = json("summary --encoder vit_tiny_patch4 --image-size 32");
    assert_eq!(widths["dimension"], 192);
}

#[test]
fn the_views_are_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("views.png");
    json(&format!("views --config examples/demo.toml --pictures 2 --draws 2 -o {}", file.display()));
    assert!(byol_model::picture::Picture::open(&file, &byol_model::picture::Limits::default()).unwrap().width > 200);
    assert!(
        json(&format!("views --data tests/data/photos --views paper -o {}", file.display()))["views"]["second"]
            .is_array()
    );
}

#[test]
fn a_run_stopped_by_a_signal_saves_and_goes_on_to_the_same_encoder() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().display();
    json(&format!("pretrain {SHORT} --out {d}/whole"));
    let mut child = support::byol()
        .args(format!("-q pretrain {SHORT} --out {d}/parts").split_whitespace())
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let metrics = folder.path().join("parts/metrics.jsonl");
    let began = std::time::Instant::now();
    while std::fs::read_to_string(&metrics).unwrap_or_default().lines().count() < 5 {
        assert!(began.elapsed().as_secs() < 120, "no step in two minutes");
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let code = child.wait().unwrap().code();
    assert!(code == Some(130) || folder.path().join("parts/encoder.onnx").exists(), "{code:?}");
    if code == Some(130) {
        assert!(folder.path().join("parts/checkpoint.safetensors").exists());
        json(&format!("pretrain --resume --out {d}/parts"));
    }
    let read = |run: &str| std::fs::read(folder.path().join(run).join("encoder.safetensors")).unwrap();
    assert!(read("whole") == read("parts"), "interrupted and resumed equals uninterrupted");
}

#[test]
fn bad_input_to_training_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().display();
    let empty = folder.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused(&format!("pretrain --data {d}/nowhere --out {d}/run"), "nowhere");
    refused(&format!("pretrain --data {d}/empty --out {d}/run"), "empty");
    refused(&format!("pretrain {SHORT} --out {d}/run").replace("size 32", "size 641"), "641");
    let unknown = byol(format!("pretrain {SHORT} --device gpu9 --out {d}/run").split_whitespace());
    let message = String::from_utf8_lossy(&unknown.stderr).into_owned();
    assert_eq!(unknown.status.code(), Some(2), "{message}");
    assert!(message.contains("gpu9") && message.contains("cuda:"), "{message}");
    refused(&format!("pretrain {SHORT} --device cuda:0 --out {d}/run"), "cuda:0");
    refused(&format!("pretrain {SHORT} --encoder resnet19 --out {d}/run"), "resnet19");
    refused(&format!("pretrain {SHORT} --views nonsense --out {d}/run"), "nonsense");
    refused(&format!("pretrain --resume --out {d}/empty"), "empty");
    std::fs::write(folder.path().join("bad.toml"), "epochz = 3").unwrap();
    refused(&format!("pretrain --config {d}/bad.toml --out {d}/run"), "epochz");
    std::fs::write(folder.path().join("file"), "").unwrap();
    refused(&format!("pretrain {SHORT} --out {d}/file/run"), "file");
    let words = folder.path().join("words");
    std::fs::create_dir(&words).unwrap();
    std::fs::write(words.join("a.png"), "no picture").unwrap();
    std::fs::copy(support::data("photos/roof.jpg"), words.join("b.jpg")).unwrap();
    refused(
        &format!("pretrain --data {d}/words --batch-size 2 --image-size 32 --views small-image --out {d}/run"),
        "a.png",
    );
    std::fs::write(empty.join("train-images-idx3-ubyte"), [0, 0, 8, 3, 0, 0]).unwrap();
    refused(&format!("pretrain --data {d}/empty --out {d}/run"), "train-images-idx3-ubyte");
    assert!(!folder.path().join("run/encoder.onnx").exists());

    json(&format!("pretrain {SHORT} --steps 2 --out {d}/done").replace("--epochs 2 ", ""));
    refused(&format!("pretrain {SHORT} --out {d}/done"), "done");
    let checkpoint = folder.path().join("done/checkpoint.safetensors");
    let mut bytes = std::fs::read(&checkpoint).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&checkpoint, &bytes).unwrap();
    refused(&format!("pretrain --resume --out {d}/done"), "checkpoint.safetensors");
}

#[test]
fn bad_input_to_serving_is_named_and_nothing_is_half_written() {
    let folder = tempfile::tempdir().unwrap();
    let d = folder.path().display();
    json(&format!("export --encoder resnet18 --width 4 --blocks 1 --image-size 28 --channels 1 -o {d}/e.onnx"));
    let model = std::fs::read(folder.path().join("e.onnx")).unwrap();
    std::fs::write(folder.path().join("cut.onnx"), &model[..model.len() / 2]).unwrap();
    std::fs::write(folder.path().join("foreign.onnx"), "%PDF-1.4 hello").unwrap();
    std::fs::create_dir_all(folder.path().join("one/only")).unwrap();
    std::fs::copy(support::data("photos/roof.jpg"), folder.path().join("one/only/a.jpg")).unwrap();
    let before = listing(folder.path());

    refused(&format!("extract {d}/none.onnx --data {SAMPLE} -o {d}/f.npy"), "none.onnx");
    refused(&format!("extract {d}/cut.onnx --data {SAMPLE} -o {d}/f.npy"), "cut.onnx");
    refused(&format!("extract {d}/foreign.onnx --data {SAMPLE} -o {d}/f.npy"), "foreign.onnx");
    refused(&format!("extract {d}/e.onnx --data {d}/nowhere -o {d}/f.npy"), "nowhere");
    refused(&format!("extract {d}/e.onnx --data tests/data/photos -o {d}/no/folder/f.npy"), "no/folder");
    refused(&format!("extract {d}/e.onnx --data tests/data/photos -o {d}/f.txt"), "f.txt");
    refused(&format!("fit --encoder {d}/e.onnx --data {d}/one -o {d}/h.safetensors"), "only");
    refused(&format!("fit --encoder {d}/e.onnx --data tests/data/photos -o {d}/h.safetensors"), "label");
    refused(&format!("predict {d}/cut.onnx --encoder {d}/e.onnx tests/data/photos/roof.jpg"), "cut.onnx");
    refused(&format!("export {d} -o {d}/x.onnx"), "encoder.safetensors");
    assert_eq!(listing(folder.path()), before, "nothing was written");

    json(&format!("extract {d}/e.onnx --data tests/data/pictures -o {d}/X.npy --labels {d}/y.npy"));
    json(&format!("extract {d}/e.onnx --data {SAMPLE} --split test -o {d}/Z.npy --labels {d}/z.npy"));
    refused(&format!("fit --features {d}/X.npy --labels {d}/z.npy -o {d}/h.safetensors"), "2000");
    let mut x = std::fs::read(folder.path().join("X.npy")).unwrap();
    let end = x.len() - 4;
    x[end..].copy_from_slice(&f32::NAN.to_le_bytes());
    std::fs::write(folder.path().join("N.npy"), &x).unwrap();
    refused(&format!("fit --features {d}/N.npy --labels {d}/y.npy -o {d}/h.safetensors"), "11");
    assert!(!folder.path().join("h.safetensors").exists());
}

#[test]
fn every_command_explains_itself_with_examples() {
    for command in
        ["pretrain", "export", "extract", "linear-eval", "knn", "fit", "finetune", "predict", "views", "summary"]
    {
        let help = byol([command, "--help"]);
        assert!(help.status.success());
        let text = String::from_utf8_lossy(&help.stdout).into_owned();
        assert!(text.contains("Examples:") && text.contains(&format!("byol {command}")), "{command}");
    }
    assert_eq!(byol(["pretrian"]).status.code(), Some(2));
}
