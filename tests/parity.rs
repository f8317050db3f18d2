//! The promise between learning and serving: libtorch's evaluation forward and ONNX Runtime agree within 1e-4 relative
//! on real pictures, for every builder.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use byol_model::encoder::{EncoderConfig, Norm, Pool, Stem};
use byol_model::onnx;
use byol_model::picture::{InputContract, Limits, Picture};
use byol_model::weights::{Tensor, Weights};
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_train::network::{Mode, Network, input};
use byol_train::tch;
use std::collections::BTreeMap;

/// Weights as training leaves them: running statistics and scales away from where they start.
fn used(config: &EncoderConfig, seed: u64) -> Weights {
    let graph = config.build().unwrap();
    let mut weights = Weights::init(&graph, seed);
    for (i, p) in graph.parameters().iter().enumerate().filter(|(_, p)| p.bias_or_norm) {
        let about_one = ["weight", "var", "gamma", "gem.p"].iter().any(|end| p.name.ends_with(end));
        let offset = if about_one { 0.8 } else { -0.2 };
        let data = (0..p.len()).map(|j| offset + ((i * 31 + j * 17) % 40) as f32 / 100.0).collect();
        weights.insert(p.name.clone(), Tensor { shape: p.shape.clone(), data });
    }
    weights
}

fn check(name: &str, config: &EncoderConfig) {
    let graph = config.build().unwrap();
    let weights = used(config, 1);
    let contract = InputContract::square(config.channels, config.image_size);
    let pictures: Vec<Picture> = ["dahlia", "petals", "roof", "temple"]
        .map(|photo| Picture::open(&support::data(&format!("photos/{photo}.jpg")), &Limits::default()).unwrap())
        .into();

    let bytes =
        onnx::write(&onnx::Export { graph: &graph, weights: &weights, contract: &contract, metadata: BTreeMap::new() })
            .unwrap();
    let encoder = Encoder::from_bytes(&support::runtime(), &bytes, &EncoderOptions::default()).unwrap();
    let views: Vec<_> = pictures.iter().map(Picture::view).collect();
    let dimension = graph.dimension();
    let mut served = vec![0.0; pictures.len() * dimension];
    encoder.extract(&views, &mut served, dimension, None, &Cancel::new()).unwrap();

    let mut pixels = vec![0; contract.bytes()];
    let mut values = vec![0.0; pictures.len() * contract.bytes()];
    for (view, out) in views.iter().zip(values.chunks_exact_mut(contract.bytes())) {
        contract.prepare(*view, &mut pixels).unwrap();
        contract.normalise(&pixels, out);
    }
    let network = Network::new(graph, &weights, tch::Device::Cpu).unwrap();
    let x = input(&values, network.graph().input_shape(), tch::Device::Cpu).unwrap();
    let learned = tch::no_grad(|| network.lane().unwrap().forward(&x, Mode::Eval)).unwrap().contiguous();
    let mut expected = vec![0.0f32; served.len()];
    learned.copy_data(&mut expected, served.len());

    let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
    let difference = norm(&mut served.iter().zip(&expected).map(|(a, b)| f64::from(a - b)));
    let size = norm(&mut expected.iter().map(|&v| f64::from(v)));
    assert!(size > 0.0 && size.is_finite());
    assert!(difference / size < 1e-4, "{name}: relative difference {:.2e}", difference / size);
}

#[test]
fn learning_and_serving_agree_for_every_builder() {
    for name in ["resnet18", "resnet34", "resnet50"] {
        for (stem, size) in [(Stem::Standard, 96), (Stem::Small, 28), (Stem::SmallStride2, 32)] {
            let config =
                EncoderConfig { name: name.into(), stem, width: 16, image_size: size, ..EncoderConfig::default() };
            check(&format!("{name} {stem:?}"), &config);
        }
    }
}

/// One member of each other family, narrow or short, at pictures whose maps become odd.
#[test]
fn learning_and_serving_agree_for_every_family_and_normalisation() {
    let check_named = |name: &str, change: &dyn Fn(&mut EncoderConfig)| {
        let mut config = EncoderConfig { name: name.into(), image_size: 50, ..EncoderConfig::default() };
        change(&mut config);
        check(&format!("{config:?}"), &config);
    };
    check_named("resnet101", &|c| (c.width, c.blocks) = (16, Some(vec![1, 1, 2])));
    for norm in [Norm::Batch, Norm::Group] {
        check_named("resnet18", &|c| (c.width, c.norm) = (24, norm));
        check_named("xresnet50", &|c| (c.width, c.blocks, c.norm) = (32, Some(vec![1, 1, 2]), norm));
        check_named("efficientnet_b0", &|c| (c.width, c.norm) = (16, norm));
    }
    for stem in [Stem::Small, Stem::SmallStride2] {
        check_named("xresnet18", &|c| (c.width, c.stem, c.image_size) = (16, stem, 28));
        check_named("efficientnet_b1", &|c| (c.width, c.stem, c.image_size) = (16, stem, 28));
        check_named("convnext_tiny", &|c| (c.width, c.stem, c.image_size) = (16, stem, 28));
    }
    for name in ["efficientnet_b3", "tf_efficientnet_b0", "tf_efficientnet_b2"] {
        check_named(name, &|c| c.width = 16);
    }
    check_named("convnext_tiny", &|c| (c.width, c.image_size) = (32, 64));
    check_named("convnext_tiny", &|c| (c.width, c.image_size, c.pool) = (16, 64, Pool::CatAvgMax));
    check_named("vit_tiny_patch16", &|c| (c.image_size, c.blocks) = (64, Some(vec![2])));
    for pool in [Pool::Published, Pool::Average, Pool::Max, Pool::CatMaxAvg, Pool::GeM, Pool::Grid(2)] {
        check_named("vit_tiny_patch4", &|c| {
            (c.image_size, c.blocks, c.width, c.pool) = (28, Some(vec![2]), 64, pool);
        });
    }
}

#[test]
fn learning_and_serving_agree_for_every_pooling_channel_count_and_reading() {
    let base = EncoderConfig { stem: Stem::Small, width: 8, image_size: 28, channels: 1, ..EncoderConfig::default() };
    for pool in [Pool::Average, Pool::Max, Pool::CatAvgMax, Pool::CatMaxAvg, Pool::GeM, Pool::Grid(2), Pool::Grid(4)] {
        check(&format!("{pool}"), &EncoderConfig { pool, ..base.clone() });
    }
    let both = EncoderConfig { read: Some(vec![2, 3]), pool: Pool::Grid(2), ..base.clone() };
    check("two stages", &both);
    check("two stages of one block", &EncoderConfig { blocks: Some(vec![1, 1]), ..base });
}
