//! Promises of the commands around a head: every form on files of features and on folders of pictures, as JSON; and bad
//! input named.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use byol_serve::features::Features;
use ndarray::Array2;
use serde_json::Value;
use support::Random;

/// Four overlapping classes; the seed draws other rows of the same classes.
fn sample(rows: usize, seed: u64) -> Features {
    let mut random = Random(seed);
    let y: Vec<u32> = (0..rows).map(|row| (row % 4) as u32).collect();
    let value = |(row, k): (usize, usize)| random.next() + if k % 4 == y[row] as usize { 0.6 } else { 0.0 };
    Features::labelled(Array2::from_shape_fn((rows, 12), value), y.clone())
}

fn byol(arguments: &[&str]) -> Output {
    support::byol().args(arguments).output().unwrap()
}

/// What a command that succeeds prints as JSON. Nothing else may be on standard output.
fn json(arguments: &[&str]) -> Value {
    let done = byol(&[&["--json", "-q"], arguments].concat());
    assert!(done.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    serde_json::from_slice(&done.stdout).unwrap()
}

/// What a command that fails says.
fn refused(arguments: &[&str]) -> String {
    let done = byol(arguments);
    assert_eq!(done.status.code(), Some(1), "{arguments:?}: {done:?}");
    String::from_utf8(done.stderr).unwrap()
}

struct Files {
    folder: tempfile::TempDir,
}

impl Files {
    fn new() -> Self {
        let files = Self { folder: tempfile::tempdir().unwrap() };
        files.keep("train", &sample(400, 1));
        files.keep("test", &sample(200, 2));
        files.keep("validation", &sample(100, 3));
        files
    }

    /// `NAME.npy` and `NAME-labels.npy`.
    fn keep(&self, name: &str, features: &Features) {
        features.save(self.path(&format!("{name}.npy"))).unwrap();
        features.save_labels(self.path(&format!("{name}-labels.npy"))).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn at(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_owned()
    }

    /// Runs `command` with `{NAME}` replaced by files' paths, and the four flags of training and test features.
    fn words(&self, command: &str) -> Vec<String> {
        command
            .split_whitespace()
            .flat_map(|word| match word {
                "PAIR" => self.words("--features {train.npy} --labels {train-labels.npy} --test-features {test.npy} --test-labels {test-labels.npy}"),
                word => match word.strip_prefix('{').and_then(|word| word.strip_suffix('}')) {
                    Some(name) => vec![self.at(name)],
                    None => vec![word.to_owned()],
                },
            })
            .collect()
    }

    fn json(&self, command: &str) -> Value {
        let words = self.words(command);
        json(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn refused(&self, command: &str) -> String {
        let words = self.words(command);
        refused(&words.iter().map(String::as_str).collect::<Vec<_>>())
    }
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn every_form_takes_files_of_features_and_answers_in_json() {
    let files = Files::new();
    let fit = files.json("fit --features {train.npy} --labels {train-labels.npy} --l2 1e-2 -o {head.safetensors}");
    assert!(fit["fit"]["converged"].as_bool().unwrap() && number(&fit["fit"]["gap"]) <= 1e-6, "{fit}");
    assert_eq!(number(&fit["fit"]["l2"]), 1e-2);
    assert!(number(&fit["train_top1"]) > 0.7);

    let blocks = files
        .json("fit --features {train.npy} --labels {train-labels.npy} --l2 1e-2 --in-blocks -o {blocks.safetensors}");
    assert_eq!(blocks["train_top1"], fit["train_top1"]);
    assert_eq!(fs::read(files.path("blocks.safetensors")).unwrap(), fs::read(files.path("head.safetensors")).unwrap());

    let sparse = files
        .json("fit --features {train.npy} --labels {train-labels.npy} --l1 2e-2 --standardize -o {sparse.safetensors}");
    let nonzero = sparse["fit"]["nonzero"].as_u64().unwrap();
    assert!((1..48).contains(&nonzero) && number(&sparse["fit"]["l2"]) == 0.0, "{sparse}");

    let evaluation =
        files.json("evaluate {head.safetensors} --features {test.npy} --labels {test-labels.npy} --bootstrap 50");
    let (top1, blocks) = (
        number(&evaluation["evaluation"]["top1"]),
        files.json(
            "evaluate {head.safetensors} --features {test.npy} --labels {test-labels.npy} --bootstrap 50 --in-blocks",
        ),
    );
    assert_eq!(evaluation, blocks);
    assert!(top1 > 0.7 && evaluation["bootstrap"]["top1"].as_array().unwrap().len() == 2, "{evaluation}");

    let predicted = files.json("predict {head.safetensors} --features {test.npy} --top 2 --reject-below 0.5");
    let predicted = predicted["predictions"].as_array().unwrap();
    assert!(predicted.len() == 200 && predicted[0]["top"].as_array().unwrap().len() == 2);
    let right = predicted
        .iter()
        .enumerate()
        .filter(|(i, p)| p["top"][0]["label"].as_str() == Some(["0", "1", "2", "3"][i % 4]))
        .count();
    assert_eq!(right as f64 / 200.0, top1);

    assert!(number(&files.json("knn PAIR -k 9")["top1"]) > 0.6);
    assert!(number(&files.json("knn PAIR -k 50 --temperature 0.07")["top1"]) > 0.6);
    assert!(number(&files.json("linear-eval PAIR")["top1"]) > 0.7);
    assert_eq!(files.json("linear-eval PAIR --l2 1e-2 --raw")["top1"], top1);
    let few = files.json("linear-eval PAIR --labels-per-class 10 --repeats 3");
    assert_eq!(few["repeats"].as_array().unwrap().len(), 3);
    let folds = files.json("fit --features {train.npy} --labels {train-labels.npy} --folds 3 -o {folds.safetensors}");
    assert_eq!(folds["cross_validation"]["points"].as_array().unwrap().len(), 9);
}

#[test]
fn the_transfer_protocol_tries_45_penalties_and_refits_the_best_to_all_rows() {
    let files = Files::new();
    let given = files.json(
        "linear-eval PAIR --protocol transfer --raw --bootstrap 100 --patience 0 --validation-features {validation.npy} \
         --validation-labels {validation-labels.npy}",
    );
    let points = given["path"].as_array().unwrap();
    assert_eq!((points.len(), given["validation"].as_u64()), (45, Some(100)));
    let lambda = |i: usize| number(&points[i]["fit"]["l2"]) * 400.0;
    assert!(
        (lambda(0) - 1e5).abs() < 1e-6
            && (lambda(44) - 1e-6).abs() < 1e-15
            && (lambda(22) - 10f64.powf(-0.5)).abs() < 1e-9
    );
    let best = given["best"].as_u64().unwrap() as usize;
    assert!(points.iter().all(|point| number(&point["accuracy"]) <= number(&points[best]["accuracy"])));
    assert_eq!(given["refit"]["l2"], points[best]["fit"]["l2"]);
    for (figure, interval) in [("top1", "top1"), ("top5", "top5"), ("mean_per_class", "balanced")] {
        let interval = given["bootstrap"][interval].as_array().unwrap();
        assert!((number(&interval[0])..=number(&interval[1])).contains(&number(&given[figure])), "{figure}: {given}");
    }
    // The head is that of all 500 rows with the penalty chosen, found anew.
    let (train, validation) = (sample(400, 1), sample(100, 3));
    let values = ndarray::concatenate(ndarray::Axis(0), &[train.values.view(), validation.values.view()]).unwrap();
    files.keep("both", &Features::labelled(values, [train.labels.unwrap(), validation.labels.unwrap()].concat()));
    let l2 = number(&given["l2"]);
    let both = files.json(&format!(
        "linear-eval --features {{both.npy}} --labels {{both-labels.npy}} --test-features {{test.npy}} --test-labels \
         {{test-labels.npy}} --raw --l2 {l2:e}"
    ));
    assert_eq!(both["top1"], given["top1"]);

    let held_out = files.json("linear-eval PAIR --protocol transfer --bootstrap 40 --patience 3");
    assert_eq!((held_out["train"].as_u64(), held_out["validation"].as_u64()), (Some(360), Some(40)));
    assert!(held_out["path"].as_array().unwrap().len() < 45);
}

/// A data set of pictures with a train and a test part.
fn pictures(folder: &Path) {
    for part in ["train", "test"] {
        for class in ["bag", "sneaker", "trouser"] {
            let to = folder.join(part).join(class);
            fs::create_dir_all(&to).unwrap();
            for file in fs::read_dir(support::data("pictures").join(class)).unwrap() {
                let file = file.unwrap();
                fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
    }
}

#[test]
fn every_form_takes_folders_of_pictures() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let (data, head) = (folder.path().to_str().unwrap(), folder.path().join("head.safetensors"));
    let (encoder, head) = (support::data("encoder/uint8.onnx"), head.to_str().unwrap());
    let encoder = encoder.to_str().unwrap();
    let fit = json(&["fit", "--encoder", encoder, "--data", data, "-o", head]);
    assert_eq!(fit["classes"], serde_json::json!(["bag", "sneaker", "trouser"]));
    let evaluation = json(&["evaluate", head, "--encoder", encoder, "--data", data, "--split", "test"]);
    assert_eq!(evaluation["evaluation"]["top1"], fit["train_top1"]);
    // The same pictures are in both parts.
    assert_eq!(number(&json(&["knn", encoder, "--data", data, "-k", "1"])["top1"]), 1.0);
    assert_eq!(number(&json(&["knn", "pixels", "--data", data, "-k", "1"])["top1"]), 1.0);
    assert!(number(&json(&["linear-eval", encoder, "--data", data, "--l2", "1e-3"])["top1"]) > 0.3);
    let transfer = json(&[
        "linear-eval",
        "pixels",
        "--data",
        data,
        "--protocol",
        "transfer",
        "--patience",
        "2",
        "--bootstrap",
        "40",
    ]);
    assert_eq!(transfer["protocol"], "transfer");
    let predicted = json(&["predict", head, "--encoder", encoder, "--data", data]);
    assert_eq!(predicted["predictions"].as_array().unwrap().len() as u64, fit["examples"].as_u64().unwrap());
}

#[test]
fn features_of_half_and_a_quarter_of_the_bytes_are_near_and_every_form_takes_them() {
    let folder = tempfile::tempdir().unwrap();
    pictures(folder.path());
    let (data, encoder) = (folder.path().to_str().unwrap(), support::data("encoder/uint8.onnx"));
    let file = |name: &str| folder.path().join(name);
    let extract = |kind: &str, name: &str| {
        let out = file(name);
        json(&["extract", encoder.to_str().unwrap(), "--data", data, "--dtype", kind, "-o", out.to_str().unwrap()]);
        (Features::load(&out).unwrap(), fs::metadata(&out).unwrap().len())
    };
    let (whole, _) = extract("f32", "f32.safetensors");
    for (kind, name, bytes) in [("f16", "f16.safetensors", 2), ("f16", "f16.npy", 2), ("i8", "i8.safetensors", 1)] {
        let (found, size) = extract(kind, name);
        assert_eq!(found.values.dim(), whole.values.dim());
        assert!(size < (bytes * whole.values.len() + 4 * found.dimensions() + 2500) as u64, "{name}: {size} bytes");
        for (k, (found, whole)) in found.values.columns().into_iter().zip(whole.values.columns()).enumerate() {
            let most = whole.fold(0f32, |most, v| most.max(v.abs()));
            for (found, whole) in found.iter().zip(whole) {
                // Half a step of each type.
                let allowed = if kind == "i8" { most / 127.0 * 0.5001 } else { whole.abs() / 2048.0 + 3.1e-8 };
                assert!((found - whole).abs() <= allowed, "{name}, column {k}: {found}, not {whole}");
            }
        }
        if name.ends_with("safetensors") {
            let (path, head) = (file(name), file("head.safetensors"));
            let (path, head) = (path.to_str().unwrap(), head.to_str().unwrap());
            assert_eq!(found.labels, whole.labels);
            let loaded = json(&["fit", "--features", path, "-o", head]);
            let blocks = json(&["fit", "--features", path, "--in-blocks", "-o", head]);
            assert_eq!(loaded["fit"]["objective"], blocks["fit"]["objective"], "{name}");
            json(&["evaluate", head, "--features", path]);
            json(&["predict", head, "--features", path]);
            json(&["knn", "--features", path, "--test-features", path]);
            json(&["linear-eval", "--features", path, "--test-features", path, "--l2", "1e-2"]);
        }
    }
    let out = file("no.npy");
    let message =
        refused(&["extract", encoder.to_str().unwrap(), "--data", data, "--dtype", "i8", "-o", out.to_str().unwrap()]);
    assert!(message.contains("dtype") && message.contains(".safetensors"), "{message}");
    let message = refused(&["extract", "pixels", "--data", data, "--dtype", "f16", "-o", out.to_str().unwrap()]);
    assert!(message.contains("pixels"), "{message}");
}

#[test]
fn bad_input_is_named() {
    let files = Files::new();
    let fit = "fit --features {bad.npy} --labels {bad-labels.npy} -o {head.safetensors}";
    let with = |change: &dyn Fn(&mut Features), command: &str, words: &[&str]| {
        let mut features = sample(40, 5);
        change(&mut features);
        files.keep("bad", &features);
        let message = files.refused(command);
        assert!(words.iter().all(|word| message.contains(word)), "{command}: {message}, without {words:?}");
    };
    with(&|f| f.values[[17, 3]] = f32::NAN, fit, &["row 17", "column 3", "NaN"]);
    with(&|f| f.values[[17, 3]] = f32::INFINITY, &format!("{fit} --in-blocks"), &["row 17", "column 3", "inf"]);
    with(&|f| f.values[[9, 0]] = f32::NAN, &format!("{fit} --l1 1e-2"), &["row 9", "column 0", "NaN"]);
    with(&|f| f.labels = Some(vec![2; 40]), fit, &["40 examples", "label 2", "two classes"]);
    with(&|f| f.labels = Some((0..40).map(|i| 2 * (i % 2)).collect()), fit, &["Class 1", "no example"]);
    with(&|f| f.values.fill(2.5), fit, &["12", "constant"]);
    let none = |f: &mut Features| (f.values, f.labels) = (Array2::zeros((0, 12)), Some(Vec::new()));
    with(&none, fit, &["No rows of features"]);
    let separable = |f: &mut Features| {
        let y = f.labels.clone().unwrap();
        f.values.indexed_iter_mut().for_each(|((row, k), v)| *v += if k == y[row] as usize { 100.0 } else { 0.0 });
    };
    with(&separable, &format!("{fit} --l2 0"), &["l2 is 0", "Set l2 above 0"]);
    for flag in ["--l2 -1", "--l1 nan", "--tolerance 0"] {
        let option = flag[2..].split(' ').next().unwrap();
        with(&|_| {}, &fit.replace(" -o", &format!(" {} -o", flag.replace(' ', "="))), &[option]);
    }

    files.json("fit --features {train.npy} --labels {train-labels.npy} -o {good.safetensors}");
    let evaluate = "evaluate {good.safetensors} --features {bad.npy} --labels {bad-labels.npy}";
    with(&|f| f.labels.as_mut().unwrap()[5] = 7, evaluate, &["Label 7", "row 5", "4 classes"]);
    with(&|f| f.labels.as_mut().unwrap()[5] = 7, &format!("{evaluate} --in-blocks"), &["Label 7", "row 5"]);
    with(&|f| f.values = Array2::zeros((40, 9)), evaluate, &["expected 12", "found 9"]);
    with(&|f| f.values = Array2::zeros((40, 9)), "predict {good.safetensors} --features {bad.npy}", &["expected 12"]);
    let pair =
        "--features {train.npy} --labels {train-labels.npy} --test-features {bad.npy} --test-labels {bad-labels.npy}";
    with(&|f| f.values = Array2::zeros((40, 9)), &format!("knn {pair}"), &["expected 12", "found 9"]);
    with(&|f| f.values = Array2::zeros((40, 9)), &format!("linear-eval {pair} --l2 1e-2"), &["expected 12", "found 9"]);
    with(&|f| f.values[[3, 1]] = f32::NAN, &format!("knn {pair}"), &["row 3", "column 1"]);
    fs::write(files.path("no.npy"), b"text").unwrap();
    assert!(files.refused("fit --features {no.npy} --labels {train-labels.npy}").contains("no.npy"));
    let message = files.refused("fit --features {train.npy} --labels {test-labels.npy}");
    assert!(message.contains("400 rows") && message.contains("200 labels"), "{message}");
}

/// Before anything is read: none of these files is there.
#[test]
fn a_flag_that_cannot_be_followed_is_refused_at_once() {
    let linear = ["linear-eval", "--features", "x.npy", "--test-features", "z.npy"];
    for (flags, words) in [
        (&["--protocol", "transfer", "--bootstrap", "39"][..], ["--bootstrap", "39"]),
        (&["--repeats", "3"], ["--labels-per-class", "required"]),
    ] {
        let done = byol(&[&linear[..], flags].concat());
        let message = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(2), "{flags:?}: {message}");
        assert!(words.iter().all(|word| message.contains(word)), "{flags:?}: {message}, without {words:?}");
    }
}
