//! The encoders that are known by name compute what torchvision, timm and fastai compute with the same tensors under the
//! same names. `tests/data/record_zoo.py` recorded the features, and says how the tensors follow from their names.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use byol_model::encoder::EncoderConfig;
use byol_model::weights::{Tensor, Weights};
use byol_train::network::{Mode, Network, input};
use byol_train::tch;

/// SplitMix64 from the FNV-1a hash of the name: multiples of 2^-24 in [0, 1).
fn uniform(name: &str, n: usize) -> impl Iterator<Item = f32> {
    let hash = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let state = name.bytes().fold(0xcbf2_9ce4_8422_2325, hash);
    (1..=n as u64).map(move |i| {
        let mut z = state.wrapping_add(i.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 40) as f32 / (1 << 24) as f32
    })
}

fn filled(name: &str, shape: &[usize]) -> Tensor {
    let scale_of_norm = name.ends_with("weight") && shape.len() == 1;
    let token_or_position = shape.len() == 3 && shape[0] == 1;
    let (width, low) = if name.ends_with("running_var") || scale_of_norm {
        (0.5, 0.75)
    } else if name.ends_with("gamma") {
        (0.5, 0.25)
    } else if name == "gem.p" {
        (1.0, 2.5)
    } else if shape.len() == 1 {
        (0.25, -0.125)
    } else if token_or_position {
        (1.0, -0.5)
    } else {
        let strength = if name.contains("conv_") { 6.25 } else { 3.0 };
        let bound = (strength / shape[1..].iter().product::<usize>() as f64).sqrt() as f32;
        let data = uniform(name, shape.iter().product()).map(|u| (u * 2.0 - 1.0) * bound).collect();
        return Tensor { shape: shape.to_vec(), data };
    };
    let data = uniform(name, shape.iter().product()).map(|u| u * width + low).collect();
    Tensor { shape: shape.to_vec(), data }
}

/// The recorded pictures `[2, 3, size, size]` cut to `size` from the upper left, with as many channels as are asked for:
/// the same ones again where there are more than three.
fn pictures(channels: usize, size: usize) -> Vec<f32> {
    let recorded = Weights::load(&support::data("zoo/pictures.safetensors")).unwrap();
    let Tensor { shape, data } = recorded.get("input").unwrap();
    let &[n, all, height, width] = &shape[..] else { panic!("{shape:?}") };
    let mut out = Vec::new();
    for picture in 0..n {
        for channel in (0..channels).map(|c| c % all) {
            for y in 0..size {
                out.extend(&data[((picture * all + channel) * height + y) * width..][..size]);
            }
        }
    }
    out
}

fn check(family: &str, cases: usize) {
    let file = support::data(&format!("zoo/{family}.safetensors"));
    let (recorded, metadata) = Weights::load_with_metadata(&file).unwrap();
    let configs: Vec<EncoderConfig> = serde_json::from_str(&metadata["cases"]).unwrap();
    assert_eq!((configs.len(), recorded.len()), (cases, cases));
    for (i, config) in configs.iter().enumerate() {
        let graph = config.build().unwrap();
        let weights: Weights =
            graph.parameters().into_iter().map(|p| (p.name.clone(), filled(&p.name, &p.shape))).collect();
        let network = Network::new(graph, &weights, tch::Device::Cpu).unwrap();
        let x = pictures(config.channels, config.image_size);
        let x = input(&x, network.graph().input_shape(), tch::Device::Cpu).unwrap();
        let found = tch::no_grad(|| network.lane().unwrap().forward(&x, Mode::Eval)).unwrap().contiguous();
        let expected = recorded.get(&i.to_string()).unwrap();
        assert_eq!(found.size(), expected.shape.iter().map(|&d| d as i64).collect::<Vec<_>>(), "{config:?}");
        let mut values = vec![0.0f32; expected.data.len()];
        found.copy_data(&mut values, expected.data.len());
        let norm = |v: &mut dyn Iterator<Item = f64>| v.map(|x| x * x).sum::<f64>().sqrt();
        let size = norm(&mut expected.data.iter().map(|&v| f64::from(v)));
        let off = norm(&mut values.iter().zip(&expected.data).map(|(a, b)| f64::from(a - b))) / size;
        println!("{off:.1e}  {} of {:?}", config.name, expected.shape);
        assert!(off < 1e-4, "{config:?}: relative difference {off:.2e}");
    }
}

#[test]
fn residual_networks_compute_what_torchvisions_and_timms_do() {
    check("resnet", 9);
}

#[test]
fn xresnets_compute_what_fastais_do() {
    check("xresnet", 6);
}

#[test]
fn efficientnets_compute_what_timms_do_with_both_paddings() {
    check("efficientnet", 10);
}

#[test]
fn vision_transformers_compute_what_timms_do() {
    check("vit", 6);
}

#[test]
fn convnexts_compute_what_timms_do() {
    check("convnext", 2);
}

#[test]
fn poolings_compute_what_timm_and_pytorch_do() {
    check("pooling", 4);
}
