//! Views that are made by tensor operations where the pictures lie are those that the loader paints on the CPU.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use byol_model::dataset::{Dataset, Split};
use byol_model::picture::Filter;
use byol_train::augment::{Operator, PRESETS, ViewsConfig};
use byol_train::device_views::{DeviceViews, DeviceViewsOptions};
use byol_train::loader::{Loader, LoaderOptions};
use byol_train::tch::{Device, Tensor};
use std::path::Path;

/// Largest difference of a pixel, of a range of about 4 after normalisation, over two epochs' batches.
fn apart(data: &Dataset, views: &ViewsConfig, size: usize, channels: usize) -> f64 {
    let (mean, std) = (vec![0.4; channels], vec![0.25; channels]);
    let options = LoaderOptions {
        size,
        channels,
        mean: mean.clone(),
        std: std.clone(),
        views: views.clone(),
        single: false,
        numbers_only: false,
        batch: data.len() - 1,
        part: (0, 1),
        seed: 11,
        threads: 2,
        memory: 1 << 30,
        window: None,
    };
    let numbers = LoaderOptions { numbers_only: true, ..options.clone() };
    let (mut loader, mut numbers) = (Loader::new(data, options).unwrap(), Loader::new(data, numbers).unwrap());
    let on_device = DeviceViewsOptions { size, channels, mean, std, views: views.clone(), seed: 11, memory: 1 << 30 };
    let on_device = DeviceViews::new(data, on_device, Device::Cpu).unwrap();
    let mut worst = 0.0f64;
    for step in 0..2 {
        let (batch, only) = (loader.batch(step).unwrap(), numbers.batch(step).unwrap());
        assert!(batch.indices == only.indices && only.first.is_empty());
        let shape = [batch.indices.len(), channels, size, size].map(|n| n as i64);
        for (view, values) in [&batch.first, &batch.second].into_iter().enumerate() {
            let painted = Tensor::from_slice(values).view(shape);
            let found = on_device.view(&batch.indices, step, view as u64).unwrap();
            assert_eq!(found.size(), shape);
            worst = worst.max((painted - found).abs().max().double_value(&[]));
        }
    }
    worst
}

/// Of a pixel: rounding, but where a threshold or a hue's sixth lies just between.
const TOLERANCE: f64 = 2e-4;

#[test]
fn every_preset_makes_the_same_views_of_photographs_of_all_sizes() {
    let data = Dataset::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos"), Split::Train).unwrap();
    for preset in PRESETS {
        for (size, channels) in [(32, 3), (48, 1)] {
            let mut views = ViewsConfig::preset(preset, channels).unwrap();
            // A pixel at the threshold itself may fall to either side of it; what solarising does is tested below.
            for list in [&mut views.first, &mut views.second] {
                list.retain(|operator| !matches!(operator, Operator::Solarize { .. }));
            }
            let worst = apart(&data, &views, size, channels);
            println!("{preset} at {size} pixels, {channels} channels: {worst:.1e}");
            assert!(worst < TOLERANCE, "{preset} {size} {channels}: {worst}");
        }
    }
}

#[test]
fn every_operator_alone_makes_the_same_views_of_small_pictures() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/fashion-mnist");
    let all = Dataset::open(&folder, Split::Train).unwrap();
    let data = all.select(&(0..41).collect::<Vec<_>>());
    let jitter = |which: usize| {
        let [brightness, contrast, saturation, hue] = [0, 1, 2, 3].map(|i| if i == which { 0.5 } else { 0.0 });
        Operator::ColorJitter { brightness, contrast, saturation, hue, p: 0.7 }
    };
    let operators = [
        Operator::HorizontalFlip { p: 0.5 },
        Operator::VerticalFlip { p: 0.5 },
        Operator::Rotation { degrees: 40.0, p: 0.7 },
        Operator::Translate { pixels: 5, p: 0.7 },
        jitter(0),
        jitter(1),
        jitter(2),
        jitter(3),
        Operator::Grayscale { p: 0.5 },
        Operator::GaussianBlur { kernel: Some(9), sigma: [0.1, 2.0], p: 0.7 },
        Operator::FlatBlur { strength: [4, 20], p: 0.7 },
        // Between two grey levels.
        Operator::Solarize { threshold: 0.501, p: 0.5 },
    ];
    for operator in operators {
        // Behind something that is no crop, so that flips are operations of their own.
        for behind in [false, true] {
            let mut list = vec![operator.clone()];
            if behind {
                list.insert(0, Operator::Translate { pixels: 1, p: 1.0 });
                let crop =
                    Operator::RandomResizedCrop { area: [0.3, 1.0], ratio: [0.75, 1.33], filter: Filter::Bilinear };
                if !matches!(operator, Operator::Solarize { .. }) {
                    list.insert(0, crop);
                }
            }
            let views = ViewsConfig { first: list.clone(), second: list };
            let worst = apart(&data, &views, 28, 3);
            println!("{} {behind}: {worst:.1e}", operator.name());
            assert!(worst < TOLERANCE, "{} {behind}: {worst}", operator.name());
        }
    }
}

#[test]
fn pictures_that_do_not_fit_are_refused_with_their_size() {
    let data = Dataset::open(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/photos"), Split::Train).unwrap();
    let options = DeviceViewsOptions {
        size: 32,
        channels: 3,
        mean: vec![0.5; 3],
        std: vec![0.5; 3],
        views: ViewsConfig::paper(),
        seed: 0,
        memory: 1000,
    };
    let message = DeviceViews::new(&data, options, Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("more than the 1000"), "{message}");
}
