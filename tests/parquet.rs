//! Parquet: pictures out of files that pyarrow wrote (tests/data/record_parquet.py), features into files that other
//! programs read; damaged files end in errors.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::fs;
use std::path::Path;
use std::thread;

use byol_model::dataset::{Dataset, Split};
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::pipeline::{PipelineOptions, extract_dataset, extract_rows};
use byol_serve::store::{Precision, Store, Work};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::RowAccessor;
use support::{data, runtime};

fn files() -> Dataset {
    Dataset::open(&data("pictures"), Split::Train).unwrap()
}

fn table() -> Dataset {
    Dataset::open(&data("parquet"), Split::Train).unwrap()
}

#[test]
fn pictures_labels_and_classes_are_those_of_the_files_that_were_stored() {
    let (files, table) = (files(), table());
    assert_eq!((table.len(), table.labels(), table.classes()), (files.len(), files.labels(), files.classes()));
    for index in (0..files.len()).chain((0..files.len()).rev()).chain([3, 3, 7, 6]) {
        assert_eq!(table.picture(index).unwrap(), files.picture(index).unwrap(), "{index}");
    }
    assert!(table.name(5).ends_with("train-00001-of-00003.parquet#0"), "{}", table.name(5));
    let one = Dataset::open(&data("parquet/train-00000-of-00003.parquet"), Split::Train).unwrap();
    assert_eq!((one.len(), one.picture(4).unwrap()), (5, files.picture(4).unwrap()));
}

#[test]
fn a_split_is_told_by_the_names_of_the_files_and_rows_without_a_picture_are_bad() {
    let test = Dataset::open(&data("parquet"), Split::Test).unwrap();
    // A row without a class (-1) leaves all without labels.
    assert_eq!((test.len(), test.labels()), (3, None));
    assert_eq!(test.picture(2).unwrap(), files().picture(1).unwrap());
    let error = test.picture(1).unwrap_err().to_string();
    assert!(error.contains("test-00000-of-00001.parquet#1") && error.contains("no bytes"), "{error}");
    // As Hugging Face lays out its repositories.
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("data")).unwrap();
    let name = "train-00001-of-00003.parquet";
    fs::copy(data("parquet").join(name), folder.path().join("data").join(name)).unwrap();
    assert_eq!(Dataset::open(folder.path(), Split::Train).unwrap().len(), 4);
    let error = Dataset::open(folder.path(), Split::Test).unwrap_err().to_string();
    assert!(error.contains("begins with test or val"), "{error}");
}

#[test]
fn many_threads_read_the_same_pictures() {
    let (files, table) = (files(), table());
    thread::scope(|scope| {
        for start in 0..8 {
            let (files, table) = (&files, &table);
            scope.spawn(move || {
                for step in 0..200 {
                    let index = (start * 5 + step * (start + 1)) % files.len();
                    assert_eq!(table.picture(index).unwrap(), files.picture(index).unwrap());
                }
            });
        }
    });
}

fn extracted(dataset: &Dataset, out: &Path) -> usize {
    let encoder = Encoder::open(&runtime(), &data("encoder/uint8.onnx"), &EncoderOptions::default()).unwrap();
    let work = Work {
        encoder: encoder.sha256().into(),
        dimension: encoder.dimension(),
        pictures: dataset.len(),
        fingerprint: dataset.fingerprint(),
    };
    let mut store = Store::open(out, work).unwrap();
    extract_rows(&encoder, dataset, 0, &PipelineOptions::default(), &Cancel::new(), &mut |index, row| {
        store.push(|| dataset.name(index), row)
    })
    .unwrap();
    store.finish(dataset, None, Precision::F32).unwrap()
}

#[test]
fn features_go_into_parquet_with_names_labels_and_the_encoder() {
    let encoder = Encoder::open(&runtime(), &data("encoder/uint8.onnx"), &EncoderOptions::default()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (dataset, labelled) in [(table(), true), (Dataset::open(&data("parquet"), Split::Test).unwrap(), false)] {
        let out = folder.path().join("features.parquet");
        let (expected, bad) =
            extract_dataset(&encoder, &dataset, &PipelineOptions::default(), &Cancel::new(), None).unwrap();
        assert_eq!(extracted(&dataset, &out), dataset.len() - bad.len());
        let reader = SerializedFileReader::new(fs::File::open(&out).unwrap()).unwrap();
        let pairs = reader.metadata().file_metadata().key_value_metadata().unwrap();
        let ours = pairs.iter().find(|pair| pair.key == "byol").unwrap().value.as_deref().unwrap();
        assert!(ours.contains(encoder.sha256()), "{ours}");
        let mut rows = 0;
        for (row, (index, values)) in reader.get_row_iter(None).unwrap().zip(expected.values.outer_iter().enumerate()) {
            let row = row.unwrap();
            assert_eq!(*row.get_string(0).unwrap(), expected.names.as_ref().unwrap()[index]);
            if labelled {
                assert_eq!(row.get_long(1).unwrap(), i64::from(expected.labels.as_ref().unwrap()[index]));
            }
            let list = row.get_list(1 + usize::from(labelled)).unwrap();
            let found: Vec<f32> = list
                .elements()
                .iter()
                .map(|field| match field {
                    parquet::record::Field::Float(value) => *value,
                    other => panic!("{other:?}"),
                })
                .collect();
            assert_eq!(found, values.to_vec());
            rows += 1;
        }
        assert_eq!(rows, expected.len());
    }
}

#[test]
fn damaged_tables_end_in_errors_that_name_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("evil.parquet");
    let read = |bytes: &[u8]| {
        fs::write(&path, bytes).unwrap();
        let read_all = |dataset: Dataset| (0..dataset.len().min(20)).try_for_each(|i| dataset.picture(i).map(drop));
        Dataset::open(&path, Split::Train).and_then(read_all)
    };
    for name in ["train-00000-of-00003.parquet", "train-00001-of-00003.parquet", "train-00002-of-00003.parquet"] {
        let bytes = fs::read(data("parquet").join(name)).unwrap();
        assert!(read(&bytes).is_ok());
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 100) {
            let error = read(&bytes[..length]).unwrap_err().to_string();
            assert!(error.contains("evil.parquet"), "{length}: {error}");
        }
        let mut noise = 7u32;
        for _ in 0..300 {
            let mut damaged = bytes.clone();
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let at = (noise >> 8) as usize % damaged.len();
            damaged[at] ^= (noise >> 3) as u8 | 1;
            if let Err(error) = read(&damaged) {
                assert!(error.to_string().contains("evil.parquet"), "{error}");
            }
        }
    }
    let error = read(b"PAR1 and nothing more PAR1").unwrap_err().to_string();
    assert!(error.contains("evil.parquet"), "{error}");
}
