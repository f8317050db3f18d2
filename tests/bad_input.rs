//! What training says to settings and pictures that are not as it expects: an error with the culprit's name, or the rule
//! that docs/training.md states.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use byol_model::dataset::{Dataset, Split};
use byol_train::augment::{Draw, ViewsConfig};
use byol_train::loader::{Loader, LoaderOptions};
use std::path::Path;

/// Runs `byol pretrain` for two steps by a run file that ends with `more`; what it said and whether it succeeded.
fn pretrain(data: &Path, more: &str) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    let text = format!("steps = 2\nbatch_size = 4\nevaluation_epochs = 0.0\ndevice = \"cpu\"\n{more}");
    std::fs::write(&file, text).unwrap();
    let done = support::byol()
        .args(["pretrain", "--config"])
        .arg(&file)
        .args(["--encoder", "resnet18", "--width", "4", "--blocks", "1", "--image-size", "16", "--data"])
        .arg(data)
        .arg("--out")
        .arg(folder.path().join("run"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    assert_eq!(done.status.success(), folder.path().join("run/encoder.onnx").exists(), "{said}");
    assert!(done.status.success() || done.status.code() == Some(1), "{said}");
    (done.status.success(), said)
}

fn refused(data: &Path, more: &str, culprits: &[&str]) {
    let (success, said) = pretrain(data, more);
    assert!(!success && culprits.iter().all(|culprit| said.contains(culprit)), "{more}\n{culprits:?}\n{said}");
}

#[test]
fn settings_that_make_no_sense_are_named_with_their_value() {
    let data = support::data("photos");
    let views = |operator: &str| format!("[views]\nfirst = [{operator}]\nsecond = []\n");
    refused(&data, &views("{ name = \"horizontal-flip\", p = 1.5 }"), &["views.first[0]", "horizontal-flip", "1.5"]);
    refused(&data, &views("{ name = \"grayscale\", p = -0.1 }"), &["grayscale", "-0.1"]);
    refused(&data, &views("{ name = \"solarize\", p = nan }"), &["solarize", "NaN"]);
    // A crop is a part of the picture: none is larger than it.
    refused(&data, &views("{ name = \"random-resized-crop\", area = [0.5, 1.5] }"), &["area = [0.5, 1.5]", "0..1"]);
    refused(&data, &views("{ name = \"random-resized-crop\", area = [0.0, 1.0] }"), &["area = [0, 1]"]);
    refused(&data, &views("{ name = \"gaussian-blur\", kernel = 99 }"), &["kernel = 99", "16"]);
    refused(&data, &views("{ name = \"horizontal-flop\" }"), &["horizontal-flop", "horizontal-flip"]);
    refused(&data, "on_collapse = \"panic\"", &["on_collapse", "panic", "stop"]);
    refused(&data, "[optimizer]\nprojector_learning_rate = -1.0", &["optimizer.projector_learning_rate", "-1"]);
}

#[test]
fn an_unknown_preset_is_answered_with_the_nearest_names() {
    let done = support::byol()
        .args(["pretrain", "--preset", "paper300", "--data", "nowhere", "--out", "nowhere"])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(!done.status.success() && said.contains("\"paper300\"") && said.contains("first, paper-300"), "{said}");
}

#[test]
fn a_class_folder_without_pictures_is_named() {
    let folder = tempfile::tempdir().unwrap();
    for class in ["cats", "dogs"] {
        std::fs::create_dir(folder.path().join(class)).unwrap();
    }
    for (i, photo) in std::fs::read_dir(support::data("photos")).unwrap().enumerate() {
        std::fs::copy(photo.unwrap().path(), folder.path().join(format!("cats/{i}.jpg"))).unwrap();
    }
    std::fs::write(folder.path().join("dogs/notes.txt"), "no pictures here").unwrap();
    refused(folder.path(), "", &["dogs", "without pictures"]);
}

/// The formats that are read, mixed in one folder: gray and colour, 8 and 16 bits, alpha, palette, CMYK, an animation,
/// turned by EXIF; and pictures smaller than a view.
fn mixed(folder: &Path) -> usize {
    let mut count = 0;
    for entry in std::fs::read_dir(support::data("formats")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The one format that is refused, and the recorded levels.
        if !name.contains("palette.tif") && !name.ends_with(".safetensors") {
            std::fs::copy(&path, folder.join(name)).unwrap();
            count += 1;
        }
    }
    image::GrayImage::from_pixel(40, 1, image::Luma([200])).save(folder.join("line.png")).unwrap();
    image::RgbImage::from_pixel(1, 1, image::Rgb([10, 20, 30])).save(folder.join("dot.png")).unwrap();
    count + 2
}

#[test]
fn pictures_of_every_form_are_trained_on_together() {
    let folder = tempfile::tempdir().unwrap();
    assert!(mixed(folder.path()) > 20);
    for channels in ["1", "3"] {
        let (success, said) = pretrain(folder.path(), &format!("[encoder]\nchannels = {channels}"));
        assert!(success, "{said}");
    }
}

#[test]
fn what_a_picture_becomes_follows_the_stated_rule() {
    let folder = tempfile::tempdir().unwrap();
    mixed(folder.path());
    let all = Dataset::open(folder.path(), Split::Train).unwrap();
    let find = |name: &str| (0..all.len()).find(|&i| all.name(i).ends_with(name)).unwrap();
    // Turned upright: 23 x 17 pixels lie on their side in the second file. Of an animation, the first frame.
    let size = |name: &str| {
        let picture = all.picture(find(name)).unwrap();
        (picture.width, picture.height, picture.channels)
    };
    assert_eq!((size("orientation1.jpg"), size("orientation6.jpg")), ((23, 17, 3), (17, 23, 3)));
    assert_eq!(size("animated.gif"), (23, 17, 3));
    assert_eq!(size("cmyk.jpg"), (23, 17, 3));
    assert_eq!(size("gray16.png"), (23, 17, 1));
    // Gray becomes three equal channels, colour one of luminance.
    let views = ViewsConfig { first: Vec::new(), second: Vec::new() };
    let options = |channels: usize| LoaderOptions {
        size: 8,
        channels,
        mean: vec![0.0; channels],
        std: vec![1.0; channels],
        views: views.clone(),
        single: true,
        numbers_only: false,
        batch: 1,
        seed: 0,
        threads: 1,
        memory: 0,
        part: (0, 1),
        window: None,
    };
    let one = |name: &str, channels| {
        let data = all.select(&[find(name)]);
        Loader::new(&data, options(channels)).unwrap().batch(0).unwrap().first
    };
    let gray = one("gray.png", 3);
    assert!(gray[..64] == gray[64..128] && gray[..64] == gray[128..]);
    let (dot, luminance) = (one("dot.png", 3), one("dot.png", 1));
    let expected = [10.0, 20.0, 30.0].map(|level| level / 255.0);
    assert!([0, 64, 128].iter().zip(expected).all(|(&at, level)| (dot[at] - level).abs() < 1e-6));
    assert!((luminance[0] * 255.0 - (0.299 * 10.0 + 0.587 * 20.0 + 0.114 * 30.0f32)).abs() < 1.0);
    // A draw of the same seed is the same, whatever is beside it.
    let mut plan = Vec::new();
    views.sample(Draw { seed: 0, epoch: 0, picture: 0, view: 0 }, (40, 1), 8, &mut plan);
    assert_eq!(plan.len(), 1);
}
