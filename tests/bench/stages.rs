//! Each stage of serving alone, by criterion: `cargo bench --bench stages [-- decode|resize|normalise|infer|predict]`.
//!
//! One photograph of tests/data at a time, ResNet-18 at 224 with random weights, one session of one thread, so that the times
//! add up to what a picture costs a core. `infer` is of 4 pictures, as long calls are cut (its rate is per picture).

#![expect(clippy::unwrap_used, reason = "a benchmark may panic")]

#[path = "../support/mod.rs"]
mod support;

use std::time::Duration;

use byol_model::encoder::EncoderConfig;
use byol_model::onnx::{Export, write};
use byol_model::picture::{InputContract, Limits, Picture};
use byol_model::weights::Weights;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, EncoderOptions, InputTensor};
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::runtime::{Runtime, RuntimeOptions};
use byol_serve::solver::FitOptions;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ndarray::Array2;

/// The largest of the photographs.
const PHOTO: &str = "photos/temple.jpg";
const BATCH: usize = 4;

fn decode(c: &mut Criterion) {
    let bytes = std::fs::read(support::data(PHOTO)).unwrap();
    let picture = photo();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements((picture.width * picture.height) as u64));
    let name = format!("jpeg {} x {}", picture.width, picture.height);
    group.bench_function(name, |b| b.iter(|| Picture::decode(&bytes, &Limits::default(), "photo").unwrap()));
    group.finish();
}

fn resize(c: &mut Criterion) {
    let (picture, contract) = (photo(), InputContract::square(3, 224));
    let mut pixels = vec![0; contract.bytes()];
    let mut group = c.benchmark_group("resize");
    group.throughput(Throughput::Elements((picture.width * picture.height) as u64));
    let name = format!("{} x {} to 224", picture.width, picture.height);
    group.bench_function(name, |b| b.iter(|| contract.prepare(picture.view(), &mut pixels).unwrap()));
    group.finish();
}

fn normalise(c: &mut Criterion) {
    let contract = InputContract::square(3, 224);
    let pixels: Vec<u8> = (0..contract.bytes()).map(|i| (i * 7) as u8).collect();
    let mut planes = vec![0.0; contract.bytes()];
    let mut group = c.benchmark_group("normalise");
    group.throughput(Throughput::Elements(224 * 224));
    group.bench_function("224 x 224", |b| b.iter(|| contract.normalise(&pixels, &mut planes)));
    group.finish();
}

fn infer(c: &mut Criterion) {
    let config = EncoderConfig { image_size: 224, ..EncoderConfig::default() };
    let (graph, contract) = (config.build().unwrap(), InputContract::square(3, 224));
    let weights = Weights::init(&graph, 0);
    let export = Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() };
    let runtime = RuntimeOptions { library: Some(support::library()), threads: 1 };
    let runtime = Runtime::open(&runtime).unwrap_or_else(|e| panic!("{e}"));
    let options = EncoderOptions { sessions: 1, ..EncoderOptions::default() };
    let encoder = Encoder::from_bytes(&runtime, &write(&export).unwrap(), &options).unwrap();
    let data: Vec<u8> = (0..BATCH * contract.bytes()).map(|i| (i * 7) as u8).collect();
    let tensor = InputTensor::U8 { shape: [BATCH, 224, 224, 3], data: &data };
    let mut features = vec![0.0; BATCH * encoder.dimension()];
    let mut group = c.benchmark_group("infer");
    group.throughput(Throughput::Elements(BATCH as u64)).sample_size(20).measurement_time(Duration::from_secs(8));
    group.bench_function("resnet18 at 224, 4 pictures", |b| {
        b.iter(|| encoder.extract_tensor(tensor, &mut features, encoder.dimension(), &Cancel::new()).unwrap());
    });
    group.finish();
}

fn predict(c: &mut Criterion) {
    let (rows, columns, classes) = (1000, 512, 10);
    let value = |(i, j): (usize, usize)| ((i * 31 + j * 17 + i * j) % 97) as f32 / 97.0;
    let values = Array2::from_shape_fn((rows, columns), value);
    let labels = (0..rows).map(|i| (i % classes) as u32).collect();
    let features = Features::labelled(values, labels);
    let options = FitOptions { max_iterations: 5, ..FitOptions::default() };
    let head = Head::fit(&features, &options, &Cancel::new(), None).unwrap();
    let mut group = c.benchmark_group("predict");
    for rows in [1, 1000] {
        let some = features.values.slice(ndarray::s![..rows, ..]);
        group.throughput(Throughput::Elements(rows as u64));
        group.bench_function(format!("{rows} x 512 x 10"), |b| b.iter(|| head.predict(some).unwrap()));
    }
    group.finish();
}

fn photo() -> Picture {
    Picture::open(&support::data(PHOTO), &Limits::default()).unwrap()
}

criterion_group! {
    name = stages;
    config = Criterion::default().warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    targets = decode, resize, normalise, infer, predict
}
criterion_main!(stages);
