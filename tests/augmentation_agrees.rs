//! Augmentation is what it says: each operator against torchvision (tests/data/record_augment.py), the sampler against
//! its own probabilities, and the loader against itself on other threads, in other epochs, and after a resume.
//! Nothing here calls libtorch; the feature `train` is asked for because the crate links it.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use byol_model::dataset::{Dataset, Split};
use byol_model::picture::Filter;
use byol_model::weights::Weights;
use byol_train::Error;
use byol_train::augment::{Draw, Operator, Random, Sampled, SeedHelper, ViewsConfig};
use byol_train::canvas::Canvas;
use byol_train::loader::{Loader, LoaderOptions, measure};
use byol_train::plot::{plot_run, read_metrics};
use byol_train::resample::Source;
use byol_train::views::{GridOptions, draw_views};
use serde_json::Value;

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// The sampled operation that a recorded case stands for.
fn operation(value: &Value) -> Sampled {
    let number = |i: usize| value[i].as_f64().unwrap() as f32;
    let whole = |i: usize| value[i].as_i64().unwrap();
    match value[0].as_str().unwrap() {
        "crop" => Sampled::Crop {
            top: whole(1) as usize,
            left: whole(2) as usize,
            height: whole(3) as usize,
            width: whole(4) as usize,
            filter: if value[5] == "bilinear" { Filter::Bilinear } else { Filter::Bicubic },
        },
        "flip-horizontal" => Sampled::FlipHorizontal,
        "flip-vertical" => Sampled::FlipVertical,
        "brightness" => Sampled::Brightness(number(1)),
        "contrast" => Sampled::Contrast(number(1)),
        "saturation" => Sampled::Saturation(number(1)),
        "hue" => Sampled::Hue(number(1)),
        "grayscale" => Sampled::Grayscale,
        "blur" => Sampled::Blur { kernel: whole(1) as usize, sigma: number(2) },
        "solarize" => Sampled::Solarize(number(1)),
        "rotate" => Sampled::Rotate(number(1)),
        "shift" => Sampled::Shift { right: whole(1) as i32, down: whole(2) as i32 },
        other => panic!("the recorder knows {other}, this test does not"),
    }
}

/// By name: pixels, then height, width and channels.
type Pictures = HashMap<String, (Vec<u8>, [usize; 3])>;

/// Recorded tensors, and the 8-bit pictures among them.
fn recorded() -> (Weights, Pictures) {
    let tensors = Weights::load(&data("augment/cases.safetensors")).unwrap();
    let pictures = ["rgb", "gray"].map(|name| {
        let tensor = tensors.get(&format!("picture.{name}")).unwrap();
        let shape = [tensor.shape[0], tensor.shape[1], tensor.shape[2]];
        (name.to_owned(), (tensor.data.iter().map(|&v| v as u8).collect(), shape))
    });
    (tensors, pictures.into())
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn every_operator_agrees_with_torchvision() {
    let (tensors, pictures) = recorded();
    let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(data("augment/cases.json")).unwrap()).unwrap();
    assert!(cases.len() > 90);
    let mut worst: HashMap<String, f32> = HashMap::new();
    let mut failures = Vec::new();
    for case in &cases {
        let (name, source) = (case["name"].as_str().unwrap(), case["source"].as_str().unwrap());
        let expected = tensors.get(&format!("out.{name}")).unwrap();
        let [channels, height, width] = expected.shape[..] else { panic!("{name} is no picture") };
        let mut canvas = Canvas::new(channels, height, width);
        let sampled = operation(&case["operation"]);
        if case["kind"] == "picture" {
            let (pixels, [height, width, channels]) = &pictures[source];
            let source = Source { pixels, channels: *channels, width: *width, height: *height };
            canvas.paint(source, &[sampled]);
        } else {
            canvas.planes_mut().copy_from_slice(&tensors.get(&format!("base.{source}")).unwrap().data);
            canvas.apply(sampled);
        }
        let distance = furthest(canvas.planes(), &expected.data);
        let most = worst.entry(name.split('.').skip(1).collect::<Vec<_>>().join(" ")).or_default();
        *most = most.max(distance);
        if f64::from(distance) > case["tolerance"].as_f64().unwrap() {
            failures.push(format!("{name} {}: {distance}", case["operation"]));
        }
    }
    let mut worst: Vec<_> = worst.into_iter().collect();
    worst.sort_by(|a, b| a.0.cmp(&b.0));
    println!("furthest from torchvision, of 1: {worst:?}");
    assert!(failures.is_empty(), "{failures:#?}");
}

#[test]
fn a_whole_chain_agrees_with_torchvision_and_flips_join_the_crop() {
    let (tensors, pictures) = recorded();
    let (pixels, [height, width, channels]) = &pictures["rgb"];
    let source = Source { pixels, channels: *channels, width: *width, height: *height };
    let crop = Sampled::Crop { top: 3, left: 5, height: 40, width: 33, filter: Filter::Bicubic };
    let rest = [
        Sampled::Saturation(1.17),
        Sampled::Contrast(0.71),
        Sampled::Hue(-0.06),
        Sampled::Brightness(1.31),
        Sampled::Blur { kernel: 3, sigma: 1.1 },
        Sampled::Solarize(0.5),
    ];
    let plan: Vec<Sampled> = [crop, Sampled::FlipHorizontal].into_iter().chain(rest).collect();
    let mut canvas = Canvas::new(3, 24, 24);
    canvas.paint(source, &plan);
    // Solarising is not continuous: at the threshold a difference of 1e-6 may invert a pixel, which there moves it by as little.
    assert!(furthest(canvas.planes(), &tensors.get("out.chain").unwrap().data) < 2e-5);

    for flips in [vec![Sampled::FlipVertical], vec![Sampled::FlipHorizontal, Sampled::FlipVertical]] {
        let mut joined = Canvas::new(3, 24, 24);
        joined.paint(source, &[vec![crop], flips.clone()].concat());
        let mut apart = Canvas::new(3, 24, 24);
        apart.paint(source, &[crop]);
        flips.into_iter().for_each(|flip| apart.apply(flip));
        assert_eq!(joined.planes(), apart.planes());
    }
}

fn draws(views: &ViewsConfig, view: u64, picture: (usize, usize), n: u64) -> Vec<Vec<Sampled>> {
    let plans = (0..n).map(|i| {
        let mut plan = Vec::new();
        views.sample(Draw { seed: 7, epoch: 0, picture: i, view }, picture, 224, &mut plan);
        plan
    });
    plans.collect()
}

#[test]
fn the_papers_views_occur_as_often_as_the_paper_says() {
    const N: u64 = 20_000;
    let views = ViewsConfig::paper();
    for (view, blur, solarize) in [(0, 1.0, 0.0), (1, 0.1, 0.2)] {
        let plans = draws(&views, view, (500, 375), N);
        let share =
            |is: fn(&Sampled) -> bool| plans.iter().filter(|plan| plan.iter().any(is)).count() as f64 / N as f64;
        // Four standard errors of a coin thrown 20,000 times.
        let near =
            |found: f64, p: f64| assert!((found - p).abs() <= 4.0 * (p * (1.0 - p) / N as f64).sqrt(), "{found} {p}");
        near(share(|s| matches!(s, Sampled::Crop { .. })), 1.0);
        near(share(|s| matches!(s, Sampled::FlipHorizontal)), 0.5);
        near(share(|s| matches!(s, Sampled::Hue(_))), 0.8);
        near(share(|s| matches!(s, Sampled::Grayscale)), 0.2);
        near(share(|s| matches!(s, Sampled::Blur { kernel: 23, .. })), blur);
        near(share(|s| matches!(s, Sampled::Solarize(_))), solarize);
        // Each of the four comes first in a quarter of the jitters.
        let first = |is: fn(&Sampled) -> bool| {
            let jitters = plans.iter().filter_map(|plan| {
                plan.iter().find(|s| {
                    matches!(
                        s,
                        Sampled::Brightness(_) | Sampled::Contrast(_) | Sampled::Saturation(_) | Sampled::Hue(_)
                    )
                })
            });
            jitters.filter(|s| is(s)).count() as f64 / (0.8 * N as f64)
        };
        for is in [
            (|s: &Sampled| matches!(s, Sampled::Brightness(_))) as fn(&Sampled) -> bool,
            |s| matches!(s, Sampled::Contrast(_)),
            |s| matches!(s, Sampled::Saturation(_)),
            |s| matches!(s, Sampled::Hue(_)),
        ] {
            assert!((first(is) - 0.25).abs() < 0.02);
        }
        let mut areas = 0.0;
        let (mut brightness, mut seen) = (0.0, 0.0);
        for sampled in plans.iter().flatten() {
            match *sampled {
                Sampled::Crop { top, left, height, width, .. } => {
                    assert!(height > 0 && width > 0 && top + height <= 375 && left + width <= 500);
                    let shape = width as f64 / height as f64;
                    assert!((0.73..1.37).contains(&shape), "{width} x {height}");
                    areas += (width * height) as f64 / (500.0 * 375.0);
                }
                Sampled::Brightness(factor) => {
                    assert!((0.6..=1.4).contains(&factor));
                    brightness += f64::from(factor);
                    seen += 1.0;
                }
                Sampled::Hue(turn) => assert!((-0.1..=0.1).contains(&turn)),
                Sampled::Blur { sigma, .. } => assert!((0.1..=2.0).contains(&sigma)),
                _ => {}
            }
        }
        // A large box of a tall shape does not fit a wide picture and is drawn again: torchvision's own mean of the
        // area here, over 60,000 draws of its get_params, is 0.4329.
        assert!((areas / N as f64 - 0.433).abs() < 0.01, "{}", areas / N as f64);
        assert!((brightness / seen - 1.0).abs() < 0.01);
    }
}

#[test]
fn a_box_that_never_fits_becomes_the_largest_centred_one_of_an_allowed_shape() {
    let views = ViewsConfig {
        first: vec![toml_operator(
            "name = 'random-resized-crop'\narea = [1.0, 1.0]\nratio = [0.75, 1.3333333333333333]",
        )],
        second: vec![],
    };
    for plan in draws(&views, 0, (400, 100), 20) {
        assert_eq!(plan, [Sampled::Crop { top: 0, left: 133, height: 100, width: 133, filter: Filter::Bicubic }]);
    }
    for plan in draws(&views, 0, (1, 1), 5) {
        assert_eq!(plan, [Sampled::Crop { top: 0, left: 0, height: 1, width: 1, filter: Filter::Bicubic }]);
    }
    // A list without a crop begins with the largest centred square.
    assert_eq!(
        draws(&views, 1, (400, 100), 1)[0],
        [Sampled::Crop { top: 0, left: 150, height: 100, width: 100, filter: Filter::Bicubic }]
    );
}

#[test]
fn the_seed_helper_draws_for_each_picture_what_its_switches_say() {
    let helper = |channels, on| ViewsConfig::seed_helper(channels, on);
    let plans = draws(&helper(3, SeedHelper::default()), 0, (500, 375), 20_000);
    let share = |is: fn(&Sampled) -> bool| plans.iter().filter(|plan| plan.iter().any(is)).count() as f64 / 20_000.0;
    for (is, p) in [
        ((|s| matches!(s, Sampled::FlipHorizontal)) as fn(&Sampled) -> bool, 0.5),
        (|s| matches!(s, Sampled::Rotate(_)), 0.3),
        (|s| matches!(s, Sampled::Hue(_)), 0.3),
        (|s| matches!(s, Sampled::Grayscale), 0.3),
        (|s| matches!(s, Sampled::Blur { .. }), 0.3),
    ] {
        assert!((share(is) - p).abs() < 0.015, "{} {p}", share(is));
    }
    let mut seen = std::collections::BTreeSet::new();
    for sampled in plans.iter().flatten() {
        match *sampled {
            Sampled::Rotate(degrees) => assert!((-30.0..=30.0).contains(&degrees)),
            Sampled::Blur { kernel, sigma } => {
                assert_eq!(kernel, sigma as usize / 4 * 2 + 1);
                seen.insert(sigma as usize);
            }
            _ => {}
        }
    }
    // numpy's randint(4, 32): every whole number from 4 to 31.
    assert_eq!(seen, (4..32).collect());
    let off = SeedHelper { rotate: false, jitter: false, bw: false, blur: false };
    assert_eq!(helper(3, off).first.len(), 2);
    let names: Vec<_> = helper(1, SeedHelper::default()).second.iter().map(Operator::name).collect();
    assert_eq!(names, ["random-resized-crop", "horizontal-flip", "rotation", "flat-blur"]);
    let gray = ViewsConfig::single_channel();
    assert!(
        draws(&gray, 1, (28, 28), 500)
            .iter()
            .flatten()
            .all(|s| { !matches!(s, Sampled::Saturation(_) | Sampled::Hue(_) | Sampled::Grayscale) })
    );
    assert!(draws(&gray, 1, (28, 28), 500).iter().flatten().any(|s| matches!(s, Sampled::Contrast(_))));
}

fn toml_operator(text: &str) -> Operator {
    toml::from_str(text).unwrap()
}

#[test]
fn views_survive_a_run_file_and_a_wrong_one_is_told_what_is_wrong() {
    for name in byol_train::augment::PRESETS {
        let views = ViewsConfig::preset(name, 3).unwrap();
        views.check(224).unwrap();
        let text = toml::to_string(&views).unwrap();
        assert_eq!(toml::from_str::<ViewsConfig>(&text).unwrap(), views, "{text}");
    }
    let unknown = ViewsConfig::preset("papr", 3).unwrap_err().to_string();
    assert!(unknown.contains("\"papr\"; known are, nearest first, paper, "), "{unknown}");
    let unknown = ViewsConfig::preset("singlechannel", 3).unwrap_err().to_string();
    assert!(unknown.contains("nearest first, single-channel, "), "{unknown}");

    let refused = toml::from_str::<Operator>("name = 'gausian-blur'").unwrap_err().to_string();
    assert!(refused.contains("gausian-blur") && refused.contains("gaussian-blur"), "{refused}");
    assert!(toml::from_str::<Operator>("name = 'grayscale'\nq = 1").unwrap_err().to_string().contains("q"));

    for (text, part) in [
        ("name = 'grayscale'\np = 1.5", "1.5"),
        ("name = 'grayscale'\np = nan", "outside 0..1"),
        ("name = 'color-jitter'\nhue = 0.6", "hue"),
        ("name = 'color-jitter'\nbrightness = -1.0", "brightness"),
        ("name = 'gaussian-blur'\nkernel = 4", "odd"),
        ("name = 'gaussian-blur'\nkernel = 65", "too wide"),
        ("name = 'gaussian-blur'\nsigma = [0.0, 1.0]", "sigma"),
        ("name = 'solarize'\nthreshold = 2.0", "threshold"),
        ("name = 'flat-blur'\nstrength = [8, 8]", "strength"),
        ("name = 'flat-blur'\nstrength = [4, 113]", "too wide"),
        ("name = 'translate'\npixels = 28", "28"),
        ("name = 'random-resized-crop'\narea = [0.5, 0.3]", "area"),
        ("name = 'random-resized-crop'\narea = [0.5, 1.3]", "area"),
        ("name = 'random-resized-crop'\nratio = [0.5, inf]", "ratio"),
    ] {
        let views = ViewsConfig { first: vec![], second: vec![toml_operator(text)] };
        let error = views.check(28).unwrap_err();
        assert!(matches!(error, Error::Operator { view: "second", index: 0, .. }), "{text}");
        assert!(error.to_string().contains(part), "{text}: {error}");
    }
    let late = ViewsConfig {
        first: [ViewsConfig::crop_only().first, ViewsConfig::crop_only().first].concat(),
        second: vec![],
    };
    assert!(late.check(28).unwrap_err().to_string().contains("first operator"));
}

fn options(channels: usize, size: usize, batch: usize) -> LoaderOptions {
    LoaderOptions {
        size,
        channels,
        mean: vec![0.5; channels],
        std: vec![0.25; channels],
        views: ViewsConfig::paper(),
        single: false,
        numbers_only: false,
        batch,
        part: (0, 1),
        seed: 11,
        threads: 1,
        memory: 1 << 30,
        window: None,
    }
}

#[test]
fn a_batch_is_the_same_on_any_threads_after_any_resume_and_from_memory_or_disk() {
    let dataset = pictures();
    let all = LoaderOptions { threads: 1, ..options(3, 40, 3) };
    let mut one = Loader::new(&dataset, all.clone()).unwrap();
    let mut two = Loader::new(&dataset, LoaderOptions { threads: 2, memory: 0, ..all.clone() }).unwrap();
    assert!(one.in_memory() && !two.in_memory());
    let steps = 2 * one.steps_per_epoch() + 1;
    let batches: Vec<_> = (0..steps).map(|step| one.batch(step).unwrap()).collect();
    for (step, batch) in batches.iter().enumerate() {
        assert_eq!(batch.step, step as u64);
        let other = two.batch(step as u64).unwrap();
        assert!(other == *batch, "step {step}");
        two.give_back(other);
    }
    // Another loader that begins in the middle, and one that jumps back.
    let mut resumed = Loader::new(&dataset, all).unwrap();
    assert!(resumed.batch(steps - 2).unwrap() == batches[steps as usize - 2]);
    assert!(resumed.batch(steps - 1).unwrap() == batches[steps as usize - 1]);
    assert!(resumed.batch(0).unwrap() == batches[0]);
}

#[test]
fn a_picture_gets_the_same_views_in_any_batch_and_others_in_another_epoch() {
    let dataset = pictures();
    let values = 3 * 40 * 40;
    let mut views_of: HashMap<(u64, u32), (Vec<f32>, Vec<f32>)> = HashMap::new();
    for batch in [2, 3] {
        let mut loader = Loader::new(&dataset, options(3, 40, batch)).unwrap();
        let per_epoch = loader.steps_per_epoch();
        for step in 0..2 * per_epoch {
            let made = loader.batch(step).unwrap();
            for (row, &index) in made.indices.iter().enumerate() {
                let views =
                    (made.first[row * values..][..values].to_vec(), made.second[row * values..][..values].to_vec());
                assert!(views.0 != views.1, "both views are drawn apart");
                let known = views_of.entry((step / per_epoch, index)).or_insert_with(|| views.clone());
                assert!(*known == views, "batches of {batch}, epoch {}, picture {index}", step / per_epoch);
            }
        }
    }
    for ((epoch, index), views) in &views_of {
        if let Some(other) = views_of.get(&(1 - epoch, *index)) {
            assert!(other != views, "picture {index} looks alike in both epochs");
        }
    }
}

#[test]
fn an_epoch_is_every_picture_once_less_the_last_incomplete_batch() {
    let dataset = pictures();
    let mut loader = Loader::new(&dataset, options(1, 8, 3)).unwrap();
    let per_epoch = loader.steps_per_epoch();
    assert_eq!(per_epoch, dataset.len() as u64 / 3);
    let mut orders = Vec::new();
    for epoch in 0..2 {
        let mut seen: Vec<u32> = Vec::new();
        for step in epoch * per_epoch..(epoch + 1) * per_epoch {
            seen.extend(loader.batch(step).unwrap().indices);
        }
        orders.push(seen.clone());
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len() as u64, 3 * per_epoch);
    }
    assert_ne!(orders[0], orders[1]);
}

#[test]
fn bad_data_and_settings_are_told_by_name() {
    let dataset = pictures();
    let refuse = |options: LoaderOptions| Loader::new(&dataset, options).err().unwrap().to_string();
    let n = dataset.len();
    let large = refuse(options(3, 8, n + 1));
    assert!(large.contains(&(n + 1).to_string()) && large.contains(&n.to_string()), "{large}");
    assert!(refuse(options(4, 8, 1)).contains("channels"));
    assert!(refuse(LoaderOptions { std: vec![0.0; 3], ..options(3, 8, 1) }).contains("std"));
    let empty = Loader::new(&dataset.select(&[]), options(3, 8, 1)).err().unwrap();
    assert!(empty.to_string().contains("no pictures"), "{empty}");

    // A file that is no picture: named at the start when all are read, at its batch when they are not.
    let folder = std::env::temp_dir().join(format!("byol-loader-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let photo = dataset.file(0).unwrap();
    for i in 0..100 {
        std::fs::copy(&photo, folder.join(format!("{i:03}.jpg"))).unwrap();
    }
    // Not among those that the loader looks at first (every third).
    std::fs::write(folder.join("097.jpg"), b"no picture").unwrap();
    let broken = Dataset::open(&folder, Split::Train).unwrap();
    let refused = Loader::new(&broken, options(3, 8, 10)).err().unwrap();
    assert!(refused.to_string().contains("097.jpg"), "{refused}");
    let mut loader = Loader::new(&broken, LoaderOptions { memory: 0, ..options(3, 8, 10) }).unwrap();
    let met = (0..10).find_map(|step| loader.batch(step).err()).unwrap();
    assert!(met.to_string().contains("097.jpg"), "{met}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn measured_statistics_bring_pixels_to_mean_0_and_deviation_1() {
    let dataset = pictures();
    let (mean, std) = measure(&dataset, 3, usize::MAX).unwrap();
    let mut pixels: Vec<f64> = Vec::new();
    for i in 0..dataset.len() {
        let picture = dataset.picture(i).unwrap();
        let packed = picture.view().packed(3).unwrap();
        pixels.extend(packed.iter().skip(1).step_by(3).map(|&v| f64::from(v) / 255.0));
    }
    let expected = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let variance = pixels.iter().map(|v| (v - expected).powi(2)).sum::<f64>() / pixels.len() as f64;
    assert!((f64::from(mean[1]) - expected).abs() < 1e-5);
    assert!((f64::from(std[1]) - variance.sqrt()).abs() < 1e-5);
}

#[test]
fn the_grid_of_views_shows_what_training_sees() {
    let dataset = pictures();
    let grid = GridOptions { size: 32, channels: 3, pictures: 4, draws: 3, seed: 11 };
    let picture = draw_views(&dataset, &ViewsConfig::paper(), grid).unwrap();
    assert_eq!(picture.dimensions(), (4 + 96 + 16 + 3 * 96 + 8 + 16 + 3 * 96 + 8 + 4, 4 * 100 + 4));
    keep(&picture, "views.png");
    // The first draw of the first row is the view that a run of this seed makes of that picture in its first epoch.
    let mut loader =
        Loader::new(&dataset, LoaderOptions { mean: vec![0.0; 3], std: vec![1.0; 3], ..options(3, 32, dataset.len()) })
            .unwrap();
    let batch = loader.batch(0).unwrap();
    let row = batch.indices.iter().position(|&i| i == 0).unwrap();
    let view = &batch.first[row * 3 * 32 * 32..][..3 * 32 * 32];
    for (y, x) in [(0, 0), (5, 17), (31, 31)] {
        let shown = picture.get_pixel(4 + 96 + 16 + 3 * x + 1, 4 + 3 * y + 1).0;
        let made = [0, 1, 2].map(|c| (view[(c * 32 + y as usize) * 32 + x as usize] * 255.0).round() as u8);
        assert_eq!(shown, made, "pixel {y}, {x}");
    }
}

#[test]
fn a_run_is_plotted_from_its_metrics_even_when_the_last_line_was_cut_off() {
    let file = std::env::temp_dir().join(format!("byol-metrics-{}.jsonl", std::process::id()));
    let mut random = Random::new(Draw { seed: 0, epoch: 0, picture: 0, view: 0 });
    let mut text = String::new();
    for step in (0..=2000u64).step_by(5) {
        let t = step as f64 / 2000.0;
        let loss = 1.9 * (-4.0 * t).exp() + 0.3 + 0.1 * random.unit();
        let rate = 0.2 * (t * 20.0).min(0.5 + 0.5 * (std::f64::consts::PI * t).cos());
        let tau = 1.0 - 0.03 * (0.5 + 0.5 * (std::f64::consts::PI * t).cos());
        let knn = if step % 200 == 0 { format!(", \"knn\": {}", 0.67 + 0.1 * t.sqrt()) } else { String::new() };
        text += &format!(
            "{{\"step\": {step}, \"loss\": {loss}, \"learning_rate\": {rate}, \"tau\": {tau}, \"other\": 1{knn}}}\n"
        );
    }
    std::fs::write(&file, format!("{text}{{\"step\": 20")).unwrap();
    let points = read_metrics(&file).unwrap();
    assert_eq!(points.len(), 401);
    assert_eq!(points[0].knn, Some(0.67));
    keep(&plot_run(&points, "BYOL on 10,000 pictures, seed 0").unwrap(), "plot.png");
    std::fs::write(&file, "nonsense\n{\"step\": 1}\n").unwrap();
    assert!(read_metrics(&file).unwrap_err().to_string().contains("line 1"));
    std::fs::remove_file(&file).unwrap();
    assert_eq!(plot_run(&[], "nothing").unwrap().width(), 1200);
}

/// Sixteen files of mixed shapes and channels: four photos in colour, twelve gray pictures of 28 x 28.
fn pictures() -> Dataset {
    let photos = ["dahlia", "petals", "roof", "temple"].map(|name| data(&format!("photos/{name}.jpg")));
    let clothes = ["bag", "sneaker", "trouser"].into_iter();
    let clothes = clothes.flat_map(|class| (0..4).map(move |i| data(&format!("pictures/{class}/{i}.png"))));
    Dataset::from_files(photos.into_iter().chain(clothes).collect())
}

/// Pictures for a person to look at, when BYOL_LOOK names a folder.
fn keep(picture: &image::RgbImage, name: &str) {
    if let Some(folder) = std::env::var_os("BYOL_LOOK") {
        picture.save(Path::new(&folder).join(name)).unwrap();
    }
}
