//! What networks, weights, pictures and model files promise, without any native library.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use byol_model::dataset::{Dataset, Split};
use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::error::Error;
use byol_model::onnx;
use byol_model::picture::{Filter, InputContract, Limits, Picture, PictureView, PixelFormat, Resize};
use byol_model::weights::{Tensor, Weights};
use std::collections::BTreeMap;
use std::path::Path;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn tiny() -> EncoderConfig {
    EncoderConfig { stem: Stem::Small, width: 4, image_size: 16, channels: 1, ..EncoderConfig::default() }
}

/// Parameters and multiply-adds as torchvision's documentation gives them for the whole classifier, less its last layer
/// (512 or 2048 x 1000 + 1000).
#[test]
fn resnets_have_the_published_sizes() {
    for (name, parameters, last, giga) in [
        ("resnet18", 11_689_512, 513_000, 1.814),
        ("resnet34", 21_797_672, 513_000, 3.664),
        ("resnet50", 25_557_032, 2_049_000, 4.089),
    ] {
        let graph = EncoderConfig { name: name.into(), ..EncoderConfig::default() }.build().unwrap();
        assert_eq!(graph.parameter_count(), parameters - last, "{name}");
        let all = graph.multiply_adds() as f64 / 1e9 + (last as f64 - 1000.0) / 1e9;
        assert!((all - giga).abs() < 0.01, "{name}: {all}");
    }
}

#[test]
fn parameters_are_named_as_torchvision_names_them() {
    let graph = EncoderConfig { name: "resnet50".into(), ..EncoderConfig::default() }.build().unwrap();
    let names: Vec<String> = graph.parameters().into_iter().map(|p| p.name).collect();
    for name in ["conv1.weight", "bn1.running_var", "layer1.0.downsample.1.bias", "layer4.2.conv3.weight"] {
        assert!(names.iter().any(|n| n == name), "{name}");
    }
}

#[test]
fn weights_round_trip_and_wrong_tensors_are_named() {
    let graph = tiny().build().unwrap();
    let weights = Weights::init(&graph, 3);
    assert_eq!(weights, Weights::init(&graph, 3), "the seed decides all");
    assert_ne!(weights, Weights::init(&graph, 4));
    weights.check(&graph).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.safetensors");
    let metadata = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
    weights.save(&path, &metadata).unwrap();
    assert_eq!(Weights::load_with_metadata(&path).unwrap(), (weights.clone(), metadata));

    let mut missing = weights.clone();
    missing.remove("bn1.weight");
    assert!(matches!(missing.check(&graph), Err(Error::MissingTensor { name, .. }) if name == "bn1.weight"));
    let mut extra = weights.clone();
    extra.insert("fc.weight", Tensor::full(&[2], 0.0));
    assert!(matches!(extra.check(&graph), Err(Error::ExtraTensor { name }) if name == "fc.weight"));
    let mut shape = weights.clone();
    shape.insert("bn1.bias", Tensor::full(&[5], 0.0));
    assert!(matches!(shape.check(&graph), Err(Error::TensorShape { name, .. }) if name == "bn1.bias"));
    let mut nan = weights;
    nan.insert("bn1.bias", Tensor::full(&[4], f32::NAN));
    assert!(matches!(nan.check(&graph), Err(Error::NonFiniteTensor { name, .. }) if name == "bn1.bias"));

    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(97) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(Weights::load(&path), Err(Error::WeightsFile { .. })), "truncated to {length}");
    }
}

#[test]
fn a_senseless_encoder_is_refused_by_its_setting() {
    let refused = |change: fn(&mut EncoderConfig)| {
        let mut config = tiny();
        change(&mut config);
        config.build().unwrap_err().to_string()
    };
    assert!(refused(|c| c.name = "resnet19".into()).contains("resnet18"));
    assert!(refused(|c| c.width = 5000).contains("encoder.width"));
    assert!(refused(|c| c.channels = 0).contains("encoder.channels"));
    assert!(refused(|c| c.blocks = Some(vec![1, 0])).contains("encoder.blocks"));
    assert!(refused(|c| c.read = Some(vec![2, 1])).contains("encoder.read"));
    assert!(refused(|c| c.read = Some(vec![5])).contains("encoder.read"));
    assert!(refused(|c| c.pool = Pool::Grid(9)).contains("grid9"));
}

#[test]
fn a_model_file_describes_itself_and_is_the_same_each_time() {
    let config = EncoderConfig { read: Some(vec![3, 4]), pool: Pool::Grid(2), ..tiny() };
    let graph = config.build().unwrap();
    let weights = Weights::init(&graph, 0);
    let contract = InputContract::square(1, 16);
    let metadata = BTreeMap::from([("method".to_owned(), "byol".to_owned())]);
    let export = onnx::Export { graph: &graph, weights: &weights, contract: &contract, metadata };
    let bytes = onnx::write(&export).unwrap();
    assert_eq!(bytes, onnx::write(&export).unwrap());
    let found = onnx::inspect(&bytes).unwrap();
    assert_eq!(InputContract::from_metadata(&found.metadata).unwrap(), Some(contract.clone()));
    assert_eq!(found.metadata["byol.method"], "byol");
    assert_eq!(found.inputs[0].shape, Some(vec![None, Some(16), Some(16), Some(1)]));
    assert_eq!(found.outputs[0].shape, Some(vec![None, Some(graph.dimension())]));
    assert!(!found.external_data);
    for foreign in [&b""[..], b"hello, I am no model", &bytes[..bytes.len() / 2], &[0xff; 64]] {
        assert!(matches!(onnx::inspect(foreign), Err(Error::Onnx { .. })));
    }
    let wrong = InputContract::square(3, 16);
    let export = onnx::Export { contract: &wrong, metadata: BTreeMap::new(), ..export };
    assert!(matches!(onnx::write(&export), Err(Error::Contract { .. })));
}

#[test]
fn a_contract_survives_its_metadata_and_names_what_is_wrong() {
    for contract in [InputContract::square(1, 28), InputContract::square(3, 224), InputContract::square(5, 70)] {
        assert_eq!(InputContract::from_metadata(&contract.to_metadata()).unwrap(), Some(contract));
    }
    assert_eq!(InputContract::from_metadata(&BTreeMap::new()).unwrap(), None);
    for (key, value) in
        [("std", "0"), ("mean", "a"), ("resize", "short-side 3"), ("filter", "nearest"), ("width", "-1")]
    {
        let mut metadata = InputContract::square(1, 28).to_metadata();
        metadata.insert(format!("byol.input.{key}"), value.into());
        let error = InputContract::from_metadata(&metadata).unwrap_err().to_string();
        assert!(error.contains(key), "{error}");
    }
}

#[test]
fn a_view_checks_its_geometry() {
    let data = [0; 24];
    assert!(PictureView::new(PixelFormat::Rgb8, 2, 4, 6, &data).is_ok());
    for (width, height, stride) in
        [(0, 1, 1), (1, 0, 1), (2, 4, 5), (2, 5, 6), (65_536, 1, 200_000), (1, 2, usize::MAX)]
    {
        assert!(matches!(PictureView::new(PixelFormat::Rgb8, width, height, stride, &data), Err(Error::View { .. })));
    }
}

#[test]
fn strides_and_byte_orders_do_not_change_the_pixels() {
    let picture = Picture::open(&data("photos/dahlia.jpg"), &Limits::default()).unwrap();
    let contract =
        InputContract { height: 24, width: 24, resize: Resize::ShortSide(27), ..InputContract::square(3, 24) };
    let mut expected = vec![0; contract.bytes()];
    contract.prepare(picture.view(), &mut expected).unwrap();
    let (w, h) = (picture.width, picture.height);
    let mut bgra = vec![7; (4 * w + 12) * h];
    for (y, row) in bgra.chunks_exact_mut(4 * w + 12).enumerate() {
        for x in 0..w {
            let p = &picture.pixels[3 * (y * w + x)..][..3];
            row[4 * x..4 * x + 3].copy_from_slice(&[p[2], p[1], p[0]]);
        }
    }
    let view = PictureView::new(PixelFormat::Bgra8, w, h, 4 * w + 12, &bgra).unwrap();
    let mut found = vec![0; contract.bytes()];
    contract.prepare(view, &mut found).unwrap();
    assert_eq!(found, expected);
}

/// tests/data/record_picture.py wrote what Pillow and torchvision make of the photographs.
#[test]
fn resizing_and_cropping_equal_pillows_within_three_levels_and_a_quarter_on_average() {
    let golden = Weights::load(&data("picture/pillow.safetensors")).unwrap();
    let mut compared = 0;
    for (name, expected) in golden.iter() {
        let [photo, rule, filter, size] = name.split('-').collect::<Vec<_>>()[..] else { panic!("{name}") };
        let size: usize = size.parse().unwrap();
        let contract = InputContract {
            resize: if rule == "stretch" { Resize::Stretch } else { Resize::ShortSide(rule.parse().unwrap()) },
            filter: if filter == "bicubic" { Filter::Bicubic } else { Filter::Bilinear },
            ..InputContract::square(expected.shape[2], size)
        };
        let picture = Picture::open(&data(&format!("picture/{photo}.png")), &Limits::default()).unwrap();
        let mut found = vec![0; contract.bytes()];
        contract.prepare(picture.view(), &mut found).unwrap();
        let off: Vec<f32> = found.iter().zip(&expected.data).map(|(&a, &b)| (f32::from(a) - b).abs()).collect();
        let (worst, mean) = (off.iter().copied().fold(0.0, f32::max), off.iter().sum::<f32>() / off.len() as f32);
        assert!(worst <= 3.0 && mean <= 0.25, "{name}: off by {worst} levels at worst, {mean} on average");
        compared += 1;
    }
    assert!(compared >= 12, "{compared} pictures compared");
}

#[test]
fn pictures_that_are_none_or_too_large_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.jpg");
    std::fs::write(&path, "these are words").unwrap();
    let error = Picture::open(&path, &Limits::default()).unwrap_err();
    assert!(matches!(&error, Error::Decode { name, .. } if name.ends_with("notes.jpg")), "{error}");
    let photo = data("photos/dahlia.jpg");
    let bytes = std::fs::read(&photo).unwrap();
    std::fs::write(&path, &bytes[..200]).unwrap();
    assert!(matches!(Picture::open(&path, &Limits::default()), Err(Error::Decode { .. })));
    let small = Limits { max_pixels: 100, ..Limits::default() };
    assert!(matches!(Picture::open(&photo, &small), Err(Error::Limit { unit: "pixels", .. })));
    let short = Limits { max_file_bytes: 100, ..Limits::default() };
    assert!(matches!(Picture::open(&photo, &short), Err(Error::Limit { unit: "bytes", .. })));
}

#[test]
fn class_folders_and_idx_files_are_data_sets() {
    let folders = Dataset::open(&data("pictures"), Split::Train).unwrap();
    assert_eq!((folders.len(), folders.classes()), (12, &["bag", "sneaker", "trouser"].map(String::from)[..]));
    assert_eq!(folders.labels().unwrap()[4..8], [1; 4]);
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/fashion-mnist");
    let (train, test) = (Dataset::open(&sample, Split::Train).unwrap(), Dataset::open(&sample, Split::Test).unwrap());
    assert_eq!((train.len(), test.len(), train.classes().len()), (10_000, 2_000, 10));
    let part = train.select(&[5, 3]);
    assert_eq!(part.picture(1).unwrap(), train.picture(3).unwrap());
    assert_eq!(part.labels().unwrap(), [train.labels().unwrap()[5], train.labels().unwrap()[3]]);
}

#[test]
fn data_sets_that_cannot_be_used_say_why() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let refused = |path: &Path, split| Dataset::open(path, split).unwrap_err().to_string();
    assert!(refused(&root.join("nothing"), Split::Train).contains("nothing"));
    assert!(refused(root, Split::Train).contains("no pictures"));
    assert!(refused(root, Split::Test).contains("no test part"));
    std::fs::create_dir(root.join("cats")).unwrap();
    assert!(refused(root, Split::Train).contains("cats"));

    let idx = root.join("train-images-idx3-ubyte");
    let mut bytes = vec![0, 0, 8, 3, 0, 0, 0, 2, 0, 0, 0, 2, 0, 0, 0, 2];
    bytes.extend([9; 8]);
    std::fs::write(&idx, &bytes).unwrap();
    assert_eq!(Dataset::open(root, Split::Train).unwrap().len(), 2);
    for length in 0..bytes.len() {
        std::fs::write(&idx, &bytes[..length]).unwrap();
        assert!(refused(root, Split::Train).contains("train-images"), "truncated to {length}");
    }
    std::fs::write(&idx, &bytes).unwrap();
    std::fs::write(root.join("train-labels-idx1-ubyte"), [0, 0, 8, 1, 0, 0, 0, 3, 0, 0, 1]).unwrap();
    assert!(refused(root, Split::Train).contains("do not match 2 pictures"));
}
