//! How long small fits of the linear head take, one thread: 1,000 rows of 512 columns and 10 classes from nothing, and
//! again from the old optimum when one example has come.
//!
//! usage: cargo bench --bench head
//!        BYOL_HEAD_FEATURES=FEATURES.npy,LABELS.npy cargo bench --bench head
//! The features are made up, clusters with correlated columns whose variance falls off, as an encoder's do; or the first 1,001
//! rows of these files. One example more is fitted with what the last fit left, as a trainer does.

#![allow(clippy::unwrap_used, reason = "a benchmark may stop with a backtrace")]

use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::rows::Rows;
use byol_serve::solver::{FitOptions, Kept, fit, fit_with};
use criterion::{BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main};
use ndarray::{Array2, s};

const COLUMNS: usize = 512;

fn rows(count: usize) -> (Array2<f32>, Vec<u32>) {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1 << 23) as f32 - 1.0
    };
    // Forty hidden causes, the first the strongest.
    let mix = Array2::from_shape_fn((40, COLUMNS), |(cause, _)| random() / (1.0 + cause as f32).sqrt());
    let centres = Array2::from_shape_fn((10, 40), |_| random());
    let y: Vec<u32> = (0..count).map(|row| (row % 10) as u32).collect();
    let causes = Array2::from_shape_fn((count, 40), |(row, cause)| centres[[row % 10, cause]] + 1.5 * random());
    let x = (causes.dot(&mix) + Array2::from_shape_fn((count, COLUMNS), |_| 0.3 * random())).mapv(|v| v.max(0.0));
    (x, y)
}

fn features(count: usize) -> (Array2<f32>, Vec<u32>) {
    let Some(files) = std::env::var("BYOL_HEAD_FEATURES").ok() else { return rows(count) };
    let (features, labels) = files.split_once(',').unwrap();
    let mut labels = Features::load_labels(labels).unwrap();
    labels.truncate(count);
    (Features::load(features).unwrap().values.slice(s![..count, ..]).to_owned(), labels)
}

fn small_fits(criterion: &mut Criterion) {
    let (x, y) = features(1001);
    let (columns, classes) = (x.ncols(), *y.iter().max().unwrap() as usize + 1);
    let all = x.as_slice().unwrap();
    let cancel = Cancel::new();
    let mut group = criterion.benchmark_group(format!("head, 1000 x {columns} x {classes}, l2 * rows"));
    group.sample_size(20);
    for penalty in [0.01, 1.0, 100.0] {
        let options = FitOptions { l2: penalty / 1000.0, threads: 1, ..FitOptions::default() };
        let old = x.slice(s![..1000, ..]);
        group.bench_function(BenchmarkId::new("fit", penalty), |bencher| {
            bencher.iter(|| fit(old, &y[..1000], classes, &options, &cancel, None).unwrap());
        });
        let before = Rows::F32(&all[..1000 * columns]);
        group.bench_function(BenchmarkId::new("one example more", penalty), |bencher| {
            bencher.iter_batched_ref(
                || {
                    let mut kept = Kept::default();
                    let found = fit_with(before, columns, &y[..1000], classes, &options, &cancel, None, &mut kept);
                    let (weights, bias, _) = found.unwrap();
                    (FitOptions { start: Some((weights, bias)), ..options.clone() }, kept)
                },
                |(again, kept)| {
                    fit_with(Rows::F32(all), columns, &y, classes, again, &cancel, None, kept).unwrap();
                },
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

criterion_group!(benches, small_fits);
criterion_main!(benches);
