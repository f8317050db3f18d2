//! What networks, weights, pictures and model files promise, without any native library.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

use byol_model::dataset::{Dataset, Split};
use byol_model::encoder::{EncoderConfig, Norm, Pool, Stem};
use byol_model::error::Error;
use byol_model::onnx;
use byol_model::picture::{Filter, InputContract, Limits, Picture, PictureView, PixelFormat, Resize};
use byol_model::weights::{Fitted, Tensor, Weights};
use std::collections::BTreeMap;
use std::path::Path;

fn data(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

fn tiny() -> EncoderConfig {
    EncoderConfig { stem: Stem::Small, width: 4, image_size: 16, channels: 1, ..EncoderConfig::default() }
}

/// Parameters and multiply-adds as torchvision's and timm's documentation give them for the whole classifier, less its
/// last layer (features x 1000 + 1000); at 224 pixels, or those that they were published at.
#[test]
fn encoders_have_the_published_sizes() {
    for (name, size, parameters, features, giga) in [
        ("resnet18", 224, 11_689_512, 512, 1.814),
        ("resnet34", 224, 21_797_672, 512, 3.664),
        ("resnet50", 224, 25_557_032, 2048, 4.089),
        ("resnet101", 224, 44_549_160, 2048, 7.801),
        ("resnet152", 224, 60_192_808, 2048, 11.514),
        ("resnet200", 224, 64_673_832, 2048, 15.07),
        ("efficientnet_b0", 224, 5_288_548, 1280, 0.386),
        ("efficientnet_b1", 240, 7_794_184, 1280, 0.687),
        ("efficientnet_b2", 288, 9_109_994, 1408, 1.088),
        ("efficientnet_b3", 300, 12_233_232, 1536, 1.827),
        ("tf_efficientnet_b0", 224, 5_288_548, 1280, 0.386),
        ("vit_tiny_patch16", 224, 5_717_416, 192, 1.258),
        ("vit_small_patch16", 224, 22_050_664, 384, 4.608),
        ("vit_base_patch16", 224, 86_567_656, 768, 17.564),
        ("convnext_tiny", 224, 28_589_128, 768, 4.456),
    ] {
        let config = EncoderConfig { name: name.into(), image_size: size, ..EncoderConfig::default() };
        let graph = config.build().unwrap();
        assert_eq!(graph.dimension(), features, "{name}");
        assert_eq!(graph.parameter_count(), parameters - features * 1000 - 1000, "{name}");
        let all = (graph.multiply_adds() + features as u64 * 1000) as f64 / 1e9;
        assert!((all / giga - 1.0).abs() < 0.01, "{name}: {all}");
    }
}

/// Millions of parameters of the networks in the BYOL paper (table 1), which counts the encoder alone.
#[test]
fn wide_resnets_have_the_papers_sizes() {
    for (name, times, millions) in
        [("resnet50", 1, 24), ("resnet50", 2, 94), ("resnet50", 4, 375), ("resnet200", 2, 250)]
    {
        let config = EncoderConfig { name: name.into(), width: 64 * times, ..EncoderConfig::default() };
        let found = config.build().unwrap().parameter_count() as f64 / 1e6;
        assert!((found - f64::from(millions)).abs() < 1.0, "{name} {times}x: {found}");
    }
}

#[test]
fn an_unknown_name_is_answered_with_the_nearest() {
    let known = |error: Error| match error {
        Error::Unknown { known, .. } => known,
        other => panic!("{other}"),
    };
    let nearest = |name: &str| {
        let config = EncoderConfig { name: name.into(), ..EncoderConfig::default() };
        known(config.build().unwrap_err())[0].clone()
    };
    assert_eq!(nearest("Resnet-50"), "resnet50");
    assert_eq!(nearest("vit_tiny_patch16_224"), "vit_tiny_patch16");
    assert_eq!(nearest("efficientnetb3"), "efficientnet_b3");
    assert_eq!(nearest("convnext"), "convnext_tiny");
    assert_eq!(known("cat-avg-max".parse::<Pool>().unwrap_err())[0], "catavgmax");
    assert_eq!(known("syncbatch".parse::<Norm>().unwrap_err())[0], "sync-batch");
    assert_eq!(known("smal".parse::<Stem>().unwrap_err())[0], "small");
    for pool in ["published", "average", "max", "catavgmax", "catmaxavg", "gem", "grid3"] {
        assert_eq!(pool.parse::<Pool>().unwrap().to_string(), pool);
    }
    for norm in ["batch", "group"] {
        assert_eq!(norm.parse::<Norm>().unwrap().to_string(), norm);
    }
    assert_eq!("sync-batch".parse::<Norm>().unwrap(), Norm::Batch);
}

#[test]
fn weights_of_another_library_are_chosen_by_name() {
    let graph = tiny().build().unwrap();
    let plain = Weights::init(&graph, 3);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("theirs.safetensors");
    let load = |change: &dyn Fn(&mut Weights)| {
        let mut theirs = plain.clone();
        change(&mut theirs);
        theirs.save(&path, &BTreeMap::new()).unwrap();
        Fitted::load(&path, &graph)
    };
    let fitted = load(&|w| {
        for name in ["fc.weight", "classifier.bias", "head.fc.weight"] {
            w.insert(name, Tensor::full(&[2], 0.0));
        }
    })
    .unwrap();
    assert_eq!(fitted.weights, plain);
    assert_eq!(fitted.left_out, ["classifier.bias", "fc.weight", "head.fc.weight"]);
    assert!(fitted.describe(&path).unwrap().contains("head.fc.weight"));
    assert_eq!(load(&|_| {}).unwrap().describe(&path), None);
    let refused = |change: &dyn Fn(&mut Weights), name: &str| {
        let message = load(change).unwrap_err().to_string();
        assert!(message.contains("theirs.safetensors") && message.contains(name), "{message}");
    };
    refused(&|w| drop(w.remove("layer2.0.conv1.weight")), "layer2.0.conv1.weight");
    refused(&|w| drop(w.insert("features.0.weight", Tensor::full(&[1], 0.0))), "features.0.weight");
    refused(&|w| drop(w.insert("bn1.weight", Tensor::full(&[7], 0.0))), "bn1.weight");

    // ConvNeXt's last norm is called as timm's classifiers are, and is no classifier.
    let config = EncoderConfig { name: "convnext_tiny".into(), width: 8, image_size: 32, ..EncoderConfig::default() };
    let graph = config.build().unwrap();
    let mut weights = Weights::init(&graph, 1);
    weights.insert("head.fc.weight", Tensor::full(&[10, 64], 0.0));
    weights.save(&path, &BTreeMap::new()).unwrap();
    assert_eq!(Fitted::load(&path, &graph).unwrap().left_out, ["head.fc.weight"]);
    let mut without = Weights::init(&graph, 1);
    without.remove("head.norm.weight");
    without.save(&path, &BTreeMap::new()).unwrap();
    assert!(Fitted::load(&path, &graph).unwrap_err().to_string().contains("head.norm.weight"));
}

#[test]
fn weights_start_as_their_library_starts_them() {
    let start = |name: &str, size: usize, tensor: &str| {
        let config = EncoderConfig { name: name.into(), image_size: size, ..EncoderConfig::default() };
        let weights = Weights::init(&config.build().unwrap(), 5);
        let data = weights.get(tensor).unwrap_or_else(|| panic!("{tensor}")).data.clone();
        let n = data.len() as f64;
        let mean = data.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (data.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    };
    let near = |(mean, deviation): (f64, f64), wanted: (f64, f64)| {
        let off = (mean - wanted.0).abs().max((deviation - wanted.1).abs());
        assert!(off < 0.05 * wanted.1.max(1e-9), "{mean} {deviation}, wanted {wanted:?}");
    };
    // Blocks begin as the identity: zero-gamma, layer scale of 1e-6.
    assert_eq!(start("xresnet18", 32, "7.1.convpath.1.1.weight"), (0.0, 0.0));
    assert_eq!(start("xresnet18", 32, "7.1.convpath.0.1.weight"), (1.0, 0.0));
    assert_eq!(start("resnet18", 32, "layer4.1.bn2.weight"), (1.0, 0.0));
    assert!((start("convnext_tiny", 32, "stages.3.blocks.2.gamma").0 - 1e-6).abs() < 1e-12);
    // Convolutions: fan-in for fastai, fan-out for torchvision, per group for timm's EfficientNet.
    near(start("xresnet18", 32, "7.0.convpath.0.0.weight"), (0.0, (2.0f64 / (256.0 * 9.0)).sqrt()));
    near(start("resnet18", 32, "layer4.0.conv1.weight"), (0.0, (2.0f64 / (512.0 * 9.0)).sqrt()));
    near(start("efficientnet_b0", 32, "blocks.5.1.conv_dw.weight"), (0.0, (2.0f64 / 25.0).sqrt()));
    near(start("convnext_tiny", 32, "stages.2.blocks.0.mlp.fc1.weight"), (0.0, 0.02));
    near(start("vit_tiny_patch16", 64, "blocks.3.attn.qkv.weight"), (0.0, 0.02));
    near(start("vit_tiny_patch16", 64, "pos_embed"), (0.0, 0.02));
    near(start("vit_tiny_patch16", 64, "patch_embed.proj.weight"), (0.0, (1.0f64 / (3.0 * 768.0)).sqrt()));
    assert_eq!(start("vit_tiny_patch16", 64, "blocks.3.attn.qkv.bias"), (0.0, 0.0));
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
    let vit = |c: &mut EncoderConfig| *c = EncoderConfig { name: "vit_tiny_patch4".into(), ..EncoderConfig::default() };
    let of_vit = |change: fn(&mut EncoderConfig)| {
        let mut config = tiny();
        vit(&mut config);
        change(&mut config);
        config.build().unwrap_err().to_string()
    };
    assert!(of_vit(|c| c.stem = Stem::Small).contains("encoder.stem"));
    assert!(of_vit(|c| c.norm = Norm::Group).contains("encoder.norm"));
    assert!(of_vit(|c| c.read = Some(vec![1])).contains("encoder.read"));
    assert!(of_vit(|c| c.image_size = 30).contains("encoder.image_size"));
    assert!(of_vit(|c| c.width = 100).contains("encoder.width"));
    assert!(of_vit(|c| c.blocks = Some(vec![1, 1])).contains("encoder.blocks"));
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
