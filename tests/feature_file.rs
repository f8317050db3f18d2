//! Promises of features that stay in their file: the same head to the last bit, a bound on memory that the system
//! enforces, and errors, not signals, for files that are cut off, changed or no features at all.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::feature_file::FeatureFile;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::rows::Rows;
use byol_serve::solver::{FitOptions, fit_rows};
use half::f16;
use ndarray::Array2;
use support::Random;

fn labels(rows: usize) -> Vec<u32> {
    (0..rows).map(|row| (row * 7 % 3) as u32).collect()
}

/// Three overlapping classes.
fn sample(rows: usize, columns: usize) -> Features {
    let mut random = Random(7);
    let y = labels(rows);
    let value = |(row, k): (usize, usize)| 2.0 * random.next() + if k % 3 == y[row] as usize { 0.5 } else { 0.0 };
    Features::labelled(Array2::from_shape_fn((rows, columns), value), y.clone())
}

/// A `.npy` of any type.
fn npy(path: &Path, kind: &str, shape: (usize, usize), bytes: &[u8]) {
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({}, {}), }}", shape.0, shape.1);
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((text.len() as u16).to_le_bytes());
    file.extend(text.as_bytes());
    file.extend(bytes);
    fs::write(path, file).unwrap();
}

/// A features file of any type: this crate's header, tensors one after another.
fn safetensors(path: &Path, tensors: &[(&str, &str, Vec<usize>, Vec<u8>)]) {
    let mut header = serde_json::json!({ "__metadata__": { "byol": r#"{"kind":"features","format":1}"# } });
    let mut at = 0;
    for (name, kind, shape, bytes) in tensors {
        header[name] = serde_json::json!({ "dtype": kind, "shape": shape, "data_offsets": [at, at + bytes.len()] });
        at += bytes.len();
    }
    let text = header.to_string();
    let mut file = (text.len() as u64).to_le_bytes().to_vec();
    file.extend(text.as_bytes());
    tensors.iter().for_each(|(.., bytes)| file.extend(bytes));
    fs::write(path, file).unwrap();
}

fn options() -> FitOptions {
    FitOptions { l2: 1e-3, threads: 2, ..FitOptions::default() }
}

fn open(path: &Path, labels: Vec<u32>) -> FeatureFile {
    let mut file = FeatureFile::open(path).unwrap();
    file.labels = Some(labels);
    file
}

#[test]
fn a_fit_from_a_file_is_the_fit_from_memory_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let features = sample(6000, 40);
    for (name, sparse) in [("x.npy", 0.0), ("x.safetensors", 0.0), ("x.npy", 1e-3)] {
        let path = folder.path().join(name);
        features.save(&path).unwrap();
        let file = open(&path, labels(6000));
        assert_eq!((file.len(), file.dimensions(), file.class_count()), (6000, 40, 3));
        let options = FitOptions { l1: sparse, ..options() };
        let here = Head::fit(&features, &options, &Cancel::new(), None).unwrap();
        let there = Head::fit_file(&file, &options, &Cancel::new(), None).unwrap();
        assert_eq!(there.to_bytes().unwrap(), here.to_bytes().unwrap(), "{name}");
        let (evaluation, intervals) = there.evaluate_file(&file, Some((50, 1))).unwrap();
        assert_eq!(evaluation, here.evaluate(&features).unwrap());
        assert_eq!(intervals.unwrap(), here.bootstrap(&features, 50, 1).unwrap());
    }
}

#[test]
fn float16_and_int8_are_taken_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let features = sample(900, 33);
    let y = labels(900);
    let halves: Vec<f16> = features.values.iter().map(|v| f16::from_f32(*v)).collect();
    let steps: Vec<i8> = features.values.iter().map(|v| (v * 40.0) as i8).collect();
    let half_bytes: Vec<u8> = halves.iter().flat_map(|v| v.to_le_bytes()).collect();
    let step_bytes: Vec<u8> = steps.iter().map(|v| v.cast_unsigned()).collect();
    for (kind, bytes, rows) in [("<f2", &half_bytes, Rows::F16(&halves)), ("|i1", &step_bytes, Rows::I8(&steps))] {
        npy(&path, kind, (900, 33), bytes);
        let file = open(&path, y.clone());
        let fit = |rows| fit_rows(rows, 33, &y, 3, &options(), &Cancel::new(), None).unwrap();
        let (here, there) = (fit(rows), fit(Rows::File(&file)));
        assert_eq!((here.0, here.1), (there.0, there.1), "{kind}");
        let mut read = Vec::new();
        file.read(3, 900, &mut read).unwrap();
        let loaded = Features::load(&path).unwrap();
        assert_eq!(loaded.values.as_slice().unwrap()[3 * 33..], read, "{kind}");
    }

    // With steps of its own for every column.
    let path = folder.path().join("x.safetensors");
    let scale: Vec<f32> = (0..33).map(|k| 0.01 * (k + 1) as f32).collect();
    let tensors = [
        ("features", "I8", vec![900, 33], step_bytes),
        ("scale", "F32", vec![33], scale.iter().flat_map(|v| v.to_le_bytes()).collect()),
        ("labels", "U32", vec![900], y.iter().flat_map(|v| v.to_le_bytes()).collect()),
    ];
    safetensors(&path, &tensors);
    let (file, loaded) = (FeatureFile::open(&path).unwrap(), Features::load(&path).unwrap());
    assert_eq!((file.labels().unwrap(), loaded.labels().unwrap()), (&y[..], &y[..]));
    let mut read = Vec::new();
    file.read(0, 900, &mut read).unwrap();
    assert!(read.iter().enumerate().all(|(i, v)| *v == f32::from(steps[i]) * scale[i % 33]));
    assert_eq!(loaded.values.as_slice().unwrap(), read);
}

#[test]
fn a_file_that_is_cut_off_or_written_to_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.npy");
    let features = sample(3000, 20);
    features.save(&path).unwrap();
    let file = open(&path, labels(3000));
    OpenOptions::new().write(true).open(&path).unwrap().set_len(50_000).unwrap();
    let error = Head::fit_file(&file, &options(), &Cancel::new(), None).unwrap_err();
    assert!(error.to_string().contains("x.npy"), "{error}");

    features.save(&path).unwrap();
    let file = open(&path, labels(3000));
    let head = Head::fit_file(&file, &options(), &Cancel::new(), None).unwrap();
    // A new file of the same name is another file.
    fs::rename(&path, folder.path().join("old.npy")).unwrap();
    features.save(&path).unwrap();
    file.unchanged().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(20));
    let mut old = OpenOptions::new().append(true).open(folder.path().join("old.npy")).unwrap();
    old.write_all(&[0; 4]).unwrap();
    let error = head.evaluate_file(&file, None).unwrap_err();
    assert!(matches!(&error, Error::Corrupt { why, .. } if why.contains("changed")), "{error}");
}

#[test]
fn a_value_that_is_not_finite_is_named_by_its_row() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.safetensors");
    let mut features = sample(500, 6);
    features.values[[123, 4]] = f32::NAN;
    features.names = Some((0..500).map(|row| format!("{row}.png")).collect());
    features.save(&path).unwrap();
    let file = FeatureFile::open(&path).unwrap();
    let error = Head::fit_file(&file, &options(), &Cancel::new(), None).unwrap_err();
    assert!(matches!(&error, Error::NonFiniteNamed { name, row: 123, column: 4, .. } if name == "123.png"), "{error}");
}

#[test]
fn what_is_no_file_of_features_is_refused_whatever_its_length() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |path: &PathBuf| {
        let error = FeatureFile::open(path).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::Corrupt { .. } | Error::NewerFormat { .. }), "{error}");
        error.to_string()
    };
    let features = sample(10, 3);
    for name in ["x.npy", "x.safetensors"] {
        let path = folder.path().join(name);
        features.save(&path).unwrap();
        let bytes = fs::read(&path).unwrap();
        for length in 0..bytes.len() {
            fs::write(&path, &bytes[..length]).unwrap();
            refused(&path);
        }
    }
    let path = folder.path().join("x.npy");
    npy(&path, "<f8", (2, 3), &[0; 48]);
    assert!(refused(&path).contains("<f8"));
    npy(&path, "<f4", (usize::MAX / 2, 4), &[0; 48]);
    refused(&path);
    let path = folder.path().join("x.safetensors");
    safetensors(&path, &[("features", "F64", vec![2, 3], vec![0; 48])]);
    assert!(refused(&path).contains("F64"));
    safetensors(&path, &[("features", "I8", vec![2, 3], vec![0; 6]), ("scale", "F32", vec![2], vec![0; 8])]);
    assert!(refused(&path).contains("scale"));
    safetensors(&path, &[("features", "F32", vec![2, 3], vec![0; 24]), ("labels", "U32", vec![3], vec![0; 12])]);
    assert!(refused(&path).contains("labels"));
    safetensors(&path, &[("values", "F32", vec![2, 3], vec![0; 24])]);
    assert!(refused(&path).contains("features"));
    assert!(FeatureFile::open(folder.path().join("none.npy")).is_err());
}

/// 400 MB of features under a limit of 192 MB on all memory that is not a file's (`RLIMIT_DATA`): enough to fit in
/// blocks, and too little to load them.
#[test]
#[cfg(target_os = "linux")]
fn features_larger_than_memory_are_fitted() {
    const ROWS: usize = 200_000;
    const COLUMNS: usize = 512;
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let (x, y) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    npy(&x, "<f4", (ROWS, COLUMNS), &[]);
    let mut out = BufWriter::new(OpenOptions::new().append(true).open(&x).unwrap());
    let (mut random, y_of) = (Random(3), labels(ROWS));
    for label in &y_of {
        for k in 0..COLUMNS {
            let value = 2.0 * random.next() + if k % 30 == *label as usize { 0.4 } else { 0.0 };
            out.write_all(&value.to_le_bytes()).unwrap();
        }
    }
    out.into_inner().unwrap().sync_all().unwrap();
    Features::labelled(Array2::zeros((ROWS, 0)), y_of).save_labels(&y).unwrap();
    let run = |in_blocks: bool| {
        let mut command = std::process::Command::new("sh");
        // In KiB.
        command.args([
            "-c",
            "ulimit -d 196608 && exec \"$@\"",
            "sh",
            env!("CARGO_BIN_EXE_byol"),
            "--json",
            "-q",
            "fit",
        ]);
        command.arg("--features").arg(&x).arg("--labels").arg(&y).args(["--l2", "1e-3", "--threads", "2", "-o"]);
        command.arg(folder.path().join("head.safetensors")).args(in_blocks.then_some("--in-blocks"));
        command.output().unwrap()
    };
    assert!(File::open(&x).unwrap().metadata().unwrap().len() > 400_000_000);
    let done = run(true);
    assert!(done.status.success(), "{done:?}");
    let result: serde_json::Value = serde_json::from_slice(&done.stdout).unwrap();
    assert!(result["fit"]["converged"].as_bool().unwrap() && result["examples"] == ROWS, "{result}");
    assert!(result["train_top1"].as_f64().unwrap() > 0.5, "{result}");
    assert!(!run(false).status.success(), "the limit does not bite, so this test shows nothing");
}
