//! Extraction at scale: whatever holds the pictures, however the work is cut or interrupted, the same rows come out.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::features::Features;
use byol_serve::pipeline::{PipelineOptions, extract_dataset, extract_rows};
use byol_serve::store::{Precision, Store, Work};
use byol_serve::{Error, Result};
use support::{data, runtime};

fn encoder() -> Encoder {
    let options = EncoderOptions { bulk: true, ..Default::default() };
    Encoder::open(&runtime(), &data("encoder/uint8.onnx"), &options).unwrap()
}

/// Sample pictures, repeated; every 17th is no picture.
fn folder(count: usize) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let sample = Dataset::open(&data("pictures"), Split::Train).unwrap();
    for i in 0..count {
        let to = folder.path().join(format!("{i:04}.png"));
        if i % 17 == 5 {
            fs::write(&to, b"no picture").unwrap();
        } else {
            fs::copy(sample.file(i % sample.len()).unwrap(), &to).unwrap();
        }
    }
    folder
}

fn extract(encoder: &Encoder, dataset: &Dataset, out: &Path, stop_after: Option<usize>) -> Result<usize> {
    let work = Work {
        encoder: encoder.sha256().into(),
        dimension: encoder.dimension(),
        pictures: dataset.len(),
        fingerprint: dataset.fingerprint(),
    };
    let mut store = Store::open(out, work)?;
    let (first, cancel) = (store.done(), Cancel::new());
    let options = PipelineOptions { batch: 3, strict: false };
    let outcome = extract_rows(encoder, dataset, first, &options, &cancel, &mut |index, row| {
        store.push(|| dataset.name(index), row)?;
        if stop_after.is_some_and(|after| index + 1 >= first + after) {
            return Err(Error::Cancelled);
        }
        Ok(())
    });
    store.flush()?;
    outcome?;
    store.finish(dataset, None, Precision::F32)
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn work_that_is_interrupted_again_and_again_ends_in_the_same_file() {
    let (pictures, encoder) = (folder(120), encoder());
    let dataset = Dataset::open(pictures.path(), Split::Train).unwrap();
    let results = tempfile::tempdir().unwrap();
    for ending in ["safetensors", "npy"] {
        let (whole, pieces) =
            (results.path().join(format!("whole.{ending}")), results.path().join(format!("p.{ending}")));
        assert_eq!(extract(&encoder, &dataset, &whole, None).unwrap(), 113);
        for _ in 0..5 {
            assert!(matches!(extract(&encoder, &dataset, &pieces, Some(20)), Err(Error::Cancelled)));
            assert!(!pieces.exists(), "nothing half-written");
            // As a crash in the middle of a row and of a report leaves it.
            let mut rows =
                fs::OpenOptions::new().append(true).open(results.path().join(format!("p.{ending}.part"))).unwrap();
            std::io::Write::write_all(&mut rows, &[1; 37]).unwrap();
            let mut bad =
                fs::OpenOptions::new().append(true).open(results.path().join(format!("p.{ending}.part.bad"))).unwrap();
            std::io::Write::write_all(&mut bad, b"{\"index\":99").unwrap();
        }
        assert_eq!(extract(&encoder, &dataset, &pieces, None).unwrap(), 113);
        assert_eq!(fs::read(&whole).unwrap(), fs::read(&pieces).unwrap());
    }
    assert_eq!(names(results.path()), ["p.npy", "p.safetensors", "whole.npy", "whole.safetensors"], "no litter");
    let stored = Features::load(results.path().join("whole.safetensors")).unwrap();
    let (features, bad) =
        extract_dataset(&encoder, &dataset, &PipelineOptions::default(), &Cancel::new(), None).unwrap();
    assert_eq!(stored, features);
    assert_eq!(bad.iter().map(|bad| bad.index).collect::<Vec<_>>(), [5, 22, 39, 56, 73, 90, 107]);
}

#[test]
fn other_work_does_not_go_on_with_what_is_there() {
    let (pictures, encoder) = (folder(40), encoder());
    let dataset = Dataset::open(pictures.path(), Split::Train).unwrap();
    let results = tempfile::tempdir().unwrap();
    let out = results.path().join("features.npy");
    assert!(extract(&encoder, &dataset, &out, Some(20)).is_err());
    let other = dataset.select(&(0..40).rev().collect::<Vec<_>>());
    extract(&encoder, &other, &out, None).unwrap();
    let expected = extract_dataset(&encoder, &other, &PipelineOptions::default(), &Cancel::new(), None).unwrap().0;
    assert_eq!(Features::load(&out).unwrap().values, expected.values);
}

#[test]
fn parts_are_disjoint_and_together_everything() {
    let pictures = folder(53);
    let dataset = Dataset::open(pictures.path(), Split::Train).unwrap();
    let all: Vec<String> = (0..53).map(|i| dataset.name(i)).collect();
    for parts in [1, 2, 7, 53] {
        let part = |i| dataset.part(i, parts).unwrap();
        let joined: Vec<String> =
            (0..parts).map(part).flat_map(|p| (0..p.len()).map(|i| p.name(i)).collect::<Vec<_>>()).collect();
        assert_eq!(joined, all, "{parts} parts");
    }
    assert!(dataset.part(3, 3).unwrap_err().to_string().contains("no part 3 of 3"));
    assert!(dataset.part(0, 54).unwrap_err().to_string().contains("is empty"));
}

#[test]
fn folders_lists_and_tar_files_give_the_same_features() {
    let (pictures, encoder) = (folder(30), encoder());
    let of = |path: &Path| {
        let dataset = Dataset::open(path, Split::Train).unwrap();
        let options = PipelineOptions::default();
        extract_dataset(&encoder, &dataset, &options, &Cancel::new(), None).unwrap()
    };
    let (expected, _) = of(pictures.path());
    let results = tempfile::tempdir().unwrap();
    let list = pictures.path().join("list.txt");
    let lines: Vec<String> = names(pictures.path());
    fs::write(&list, format!("# pictures\n\n{}\n", lines.join("\r\n"))).unwrap();
    let (listed, bad) = of(&list);
    assert_eq!((listed.values, bad.len()), (expected.values.clone(), 2));

    for (shard, names) in lines.chunks(16).enumerate() {
        let mut tar = tar::Builder::new(fs::File::create(results.path().join(format!("{shard}.tar"))).unwrap());
        for name in names {
            let class = name[..4].parse::<usize>().unwrap() % 3;
            tar.append_path_with_name(pictures.path().join(name), format!("a.b/{name}")).unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(1);
            header.set_cksum();
            let class = class.to_string();
            tar.append_data(&mut header, format!("a.b/{}.cls", &name[..4]), class.as_bytes()).unwrap();
        }
        tar.into_inner().unwrap();
    }
    let (shards, bad) = of(results.path());
    assert_eq!(shards.values, expected.values);
    assert!(bad[0].name.ends_with("0.tar:a.b/0005.png"), "{bad:?}");
    let classes: Vec<u32> = (0..30).filter(|i| i % 17 != 5).map(|i| i % 3).collect();
    assert_eq!(shards.labels.as_deref(), Some(&classes[..]));

    let one = results.path().join("0.tar");
    assert_eq!(of(&one).0.len(), 15);
    let bytes = fs::read(&one).unwrap();
    for length in [100, 700, bytes.len() / 2] {
        let cut: PathBuf = results.path().join("cut.tar");
        fs::write(&cut, &bytes[..length]).unwrap();
        let error = Dataset::open(&cut, Split::Train).unwrap_err().to_string();
        assert!(error.contains("cut.tar"), "{error}");
    }
}
