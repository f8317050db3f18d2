//! Quantised encoders: features that point where the float ones do, in a file a quarter of the size; and what cannot be
//! quantised is refused with the reason.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use std::collections::BTreeSet;
use std::path::Path;

use byol_model::dataset::{Dataset, Split};
use byol_model::encoder::EncoderConfig;
use byol_model::onnx::{Export, inspect, write};
use byol_model::onnx_float16;
use byol_model::picture::InputContract;
use byol_model::weights::Weights;
use byol_serve::Error;
use byol_serve::calibration::Method;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions};
use byol_serve::pipeline::{PipelineOptions, extract_dataset};
use byol_serve::quantize::{QuantizeOptions, Quantized, quantize};
use support::{data, runtime};

fn exported(name: &str, image_size: usize) -> Vec<u8> {
    let config = EncoderConfig { name: name.into(), width: 16, image_size, ..EncoderConfig::default() };
    let graph = config.build().unwrap();
    let weights = Weights::init(&graph, 7);
    let contract = InputContract::square(config.channels, image_size);
    write(&Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() }).unwrap()
}

fn photos() -> Dataset {
    Dataset::open(&data("photos"), Split::Train).unwrap()
}

fn quantised(model: &[u8], options: &QuantizeOptions) -> Result<Quantized, Error> {
    quantize(&runtime(), Path::new("net.onnx"), model, &photos(), options, &Cancel::new(), &mut |_, _, _| {})
}

fn features(model: &[u8]) -> ndarray::Array2<f32> {
    let encoder = Encoder::from_bytes(&runtime(), model, &EncoderOptions::default()).unwrap();
    extract_dataset(&encoder, &photos(), &PipelineOptions::default(), &Cancel::new(), None).unwrap().0.values
}

fn least_cosine(a: &ndarray::Array2<f32>, b: &ndarray::Array2<f32>) -> f32 {
    let cosine =
        |(a, b): (ndarray::ArrayView1<f32>, ndarray::ArrayView1<f32>)| a.dot(&b) / (a.dot(&a) * b.dot(&b)).sqrt();
    a.outer_iter().zip(b.outer_iter()).map(cosine).fold(1.0, f32::min)
}

#[test]
fn quantised_features_point_where_the_float_ones_do_and_the_file_is_smaller() {
    for (name, size) in [("resnet18", 96), ("resnet50", 64)] {
        let model = exported(name, size);
        let done = quantised(&model, &QuantizeOptions::default()).unwrap();
        assert!(
            done.cosine >= 0.99 && done.float_layers.is_empty(),
            "{name}: {done:?}",
            done = (done.cosine, &done.float_layers)
        );
        assert!(done.bytes.len() * 3 < model.len(), "{name}: {} of {} bytes", done.bytes.len(), model.len());
        // What it says of itself is what the file does.
        assert!(least_cosine(&features(&model), &features(&done.bytes)) >= 0.99, "{name}");
        let (float, int8) = (inspect(&model).unwrap(), inspect(&done.bytes).unwrap());
        assert_eq!((float.inputs, float.outputs), (int8.inputs, int8.outputs));
        let metadata = &int8.metadata["byol.quantized"];
        assert!(metadata.contains(&byol_model::sha256_hex(&model)), "{metadata}");
        assert_eq!(float.metadata["byol.input.mean"], int8.metadata["byol.input.mean"]);
        // Twice is once too often.
        let error = quantised(&done.bytes, &QuantizeOptions::default()).unwrap_err().to_string();
        assert!(error.contains("net.onnx") && error.contains("quantised already"), "{error}");
    }
}

#[test]
fn layers_stay_in_float_when_named_and_when_the_cosine_asks_for_it() {
    let model = exported("resnet18", 96);
    let all = quantised(&model, &QuantizeOptions { method: Some(Method::MinMax), ..Default::default() }).unwrap();
    let named = BTreeSet::from(["conv1".to_owned(), "layer2.0.conv1".to_owned()]);
    let options = QuantizeOptions { float_layers: named.clone(), method: Some(Method::MinMax), ..Default::default() };
    let some = quantised(&model, &options).unwrap();
    assert_eq!(some.float_layers.iter().cloned().collect::<BTreeSet<_>>(), named);
    assert!(some.bytes.len() > all.bytes.len() && some.cosine > all.cosine);

    let asked = 1.0 - (1.0 - all.cosine) / 2.0;
    let options = QuantizeOptions { min_cosine: asked, method: Some(Method::MinMax), ..Default::default() };
    let better = quantised(&model, &options).unwrap();
    assert!(better.cosine >= asked && !better.float_layers.is_empty() && better.float_layers.len() < better.layers);

    let options = QuantizeOptions { float_layers: BTreeSet::from(["conv9".into()]), ..Default::default() };
    assert!(quantised(&model, &options).unwrap_err().to_string().contains("conv9"));
}

#[test]
fn weights_in_half_precision_halve_the_file_and_keep_the_features() {
    let model = exported("resnet18", 96);
    let (half, count) = onnx_float16::write(&model).unwrap();
    // All weights but the 512 values of the first shortcut.
    assert!(count == 19 && half.len() * 100 < model.len() * 53, "{count} tensors, {} of {}", half.len(), model.len());
    assert!(least_cosine(&features(&model), &features(&half)) > 0.99999);
}

#[test]
fn what_cannot_be_quantised_is_refused_with_the_reason() {
    let error = quantised(&[1, 2, 3], &QuantizeOptions::default()).unwrap_err();
    assert!(matches!(error, Error::ModelInvalid { .. }) && error.to_string().contains("net.onnx"), "{error}");
    let model = exported("resnet18", 64);
    let wrong = |options: QuantizeOptions| quantised(&model, &options).unwrap_err().to_string();
    assert!(wrong(QuantizeOptions { pictures: 0, ..Default::default() }).contains("pictures"));
    assert!(wrong(QuantizeOptions { min_cosine: 1.5, ..Default::default() }).contains("min-cosine"));
    let method = Some(Method::Percentile(5.0));
    assert!(wrong(QuantizeOptions { method, ..Default::default() }).contains("percentile"));
    let cancel = Cancel::new();
    cancel.trigger();
    let stopped = quantize(
        &runtime(),
        Path::new("n"),
        &model,
        &photos(),
        &QuantizeOptions::default(),
        &cancel,
        &mut |_, _, _| {},
    );
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

/// Such files, as PyTorch's exporter writes them, begin with the convolution: what is calibrated first is the input.
#[test]
fn a_file_that_takes_normalised_floats_is_quantised_from_its_input_on() {
    let model = std::fs::read(data("encoder/float32.onnx")).unwrap();
    let done = quantised(&model, &QuantizeOptions { min_cosine: 0.9, ..Default::default() }).unwrap();
    assert!(done.float_layers.is_empty() && done.cosine > 0.9, "{:?} {}", done.float_layers, done.cosine);
}
