//! Every picture format and form against Pillow (tests/data/record_formats.py), level by level.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use byol_model::picture::{InputContract, Limits, Picture, PictureView, PixelFormat, Resize, Rotation};
use byol_model::weights::Weights;
use support::data;

#[test]
fn a_reduced_photograph_is_prepared_as_pillow_prepares_the_whole_one() {
    let golden = Weights::load(&data("reduced/pillow.safetensors")).unwrap();
    for (name, expected) in golden.iter() {
        let channels = expected.shape[2];
        let contract = InputContract { resize: Resize::ShortSide(14), ..InputContract::square(channels, 12) };
        let folder = if matches!(name, "temple.jpg" | "petals.jpg") { "photos" } else { "reduced" };
        let file = data(&format!("{folder}/{name}"));
        let whole = Picture::open(&file, &Limits::default()).unwrap();
        let reduced = Picture::open_for(&file, &Limits::default(), &contract).unwrap();
        assert_eq!((4 * reduced.width, 4 * reduced.height), (whole.width, whole.height), "{name}: at a quarter");
        let mut pixels = vec![0; contract.bytes()];
        contract.prepare(reduced.view(), &mut pixels).unwrap();
        let off: Vec<f32> = pixels.iter().zip(&expected.data).map(|(&a, &b)| (f32::from(a) - b).abs()).collect();
        let (worst, mean) = (off.iter().copied().fold(0.0, f32::max), off.iter().sum::<f32>() / off.len() as f32);
        assert!(worst <= 12.0 && mean <= 2.0, "{name}: {worst} levels at most, {mean} in the mean");
    }
}

#[test]
fn a_picture_that_is_not_large_enough_is_decoded_whole() {
    let (file, contract) = (data("photos/temple.jpg"), InputContract::square(3, 224));
    let whole = Picture::open(&file, &Limits::default()).unwrap();
    assert_eq!(Picture::open_for(&file, &Limits::default(), &contract).unwrap(), whole);
    let cut = &std::fs::read(&file).unwrap()[..900];
    let small = InputContract::square(3, 8);
    let limits = Limits { max_pixels: 100, ..Limits::default() };
    assert!(
        Picture::open_for(&file, &limits, &small).unwrap_err().to_string().contains("100"),
        "limits are the whole's"
    );
    let (a, b) =
        (Picture::decode(cut, &Limits::default(), "cut"), Picture::decode_for(cut, &Limits::default(), "cut", &small));
    assert_eq!(a.map_err(|e| e.to_string()), b.map_err(|e| e.to_string()), "what is damaged fares as it does whole");
}

/// Largest difference of a level, and the mean over all, that a file may have.
fn tolerance(name: &str) -> (f32, f32) {
    match name {
        // 16 bits become 8 by rounding here, and CMYK becomes RGB in another rounding.
        "gray16.png" | "gray16.tif" | "cmyk.tif" => (1.0, 0.5),
        // Lossy formats leave decoders some freedom, most in how halved colours are spread again.
        name if name.ends_with(".jpg") || name == "jpeg.tif" => (4.0, 0.5),
        "lossy.webp" | "lossy_alpha.webp" => (4.0, 0.5),
        _ => (0.0, 0.0),
    }
}

#[test]
fn every_format_decodes_as_pillow_decodes_it() {
    let golden = Weights::load(&data("formats/pillow.safetensors")).unwrap();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for (name, expected) in golden.iter() {
        compared += 1;
        let picture = match Picture::open(&data(&format!("formats/{name}")), &Limits::default()) {
            Ok(picture) => picture,
            Err(error) => {
                wrong.push(format!("{name}: {error}"));
                continue;
            }
        };
        let mut picture = picture;
        // The decoder's palette of a gray BMP file is a palette like another: three equal channels, which mean the same.
        if name.ends_with(".bmp") && expected.shape[2] == 1 && picture.pixels.chunks(3).all(|p| p == [p[0]; 3]) {
            picture.pixels = picture.pixels.chunks(3).map(|p| p[0]).collect();
            picture.channels = 1;
        }
        let shape = vec![picture.height, picture.width, picture.channels];
        if shape != expected.shape {
            wrong.push(format!("{name}: {shape:?}, Pillow {:?}", expected.shape));
            continue;
        }
        let off: Vec<f32> =
            picture.pixels.iter().zip(&expected.data).map(|(&a, &b)| (f32::from(a) - b).abs()).collect();
        let (worst, mean) = (off.iter().copied().fold(0.0, f32::max), off.iter().sum::<f32>() / off.len() as f32);
        let (most, average) = tolerance(name);
        if worst > most || mean > average {
            wrong.push(format!("{name}: off by {worst} levels at worst, {mean} on average"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(compared >= 40, "{compared} pictures compared");
}

/// The crate `image` turns the same pixels.
#[test]
fn raw_pixels_are_cut_out_and_turned_as_pictures_are() {
    let upright = Picture::open(&data("formats/rgb.png"), &Limits::default()).unwrap();
    let (w, h) = (upright.width, upright.height);
    let image = image::RgbImage::from_raw(w as u32, h as u32, upright.pixels.clone()).unwrap();
    // Blue first, with gaps between rows, and a rim that the region leaves out.
    let (rim, gap) = (3, 5);
    let stride = (w + 2 * rim) * 3 + gap;
    let mut bytes = vec![7; stride * (h + 2 * rim)];
    for (x, y, pixel) in image.enumerate_pixels() {
        let at = (y as usize + rim) * stride + (x as usize + rim) * 3;
        bytes[at..at + 3].copy_from_slice(&[pixel[2], pixel[1], pixel[0]]);
    }
    let whole = PictureView::new(PixelFormat::Bgr8, w + 2 * rim, h + 2 * rim, stride, &bytes).unwrap();
    let view = whole.region(rim, rim, w, h).unwrap();
    let turned = [
        (Rotation::None, image.clone()),
        (Rotation::Quarter, image::imageops::rotate90(&image)),
        (Rotation::Half, image::imageops::rotate180(&image)),
        (Rotation::ThreeQuarters, image::imageops::rotate270(&image)),
    ];
    let contract = InputContract::square(3, 12);
    for (rotation, expected) in turned {
        let view = view.rotated(rotation);
        assert_eq!((view.width(), view.height()), (expected.width() as usize, expected.height() as usize));
        assert_eq!(view.packed(3).unwrap(), expected.as_raw().as_slice(), "{rotation:?}");
        let plain =
            PictureView::new(PixelFormat::Rgb8, view.width(), view.height(), view.width() * 3, &expected).unwrap();
        let (mut one, mut other) = (vec![0; contract.bytes()], vec![0; contract.bytes()]);
        contract.prepare(view, &mut one).unwrap();
        contract.prepare(plain, &mut other).unwrap();
        assert_eq!(one, other, "{rotation:?}");
    }
    assert!(whole.region(0, 0, w + 2 * rim, h + 2 * rim).is_ok());
    for (x, y, w, h) in [(0, 0, 0, 1), (1, 0, w + 2 * rim, 1), (0, usize::MAX, 1, 1), (usize::MAX, 0, 2, 1)] {
        let error = whole.region(x, y, w, h).unwrap_err().to_string();
        assert!(error.contains("is not inside"), "{error}");
    }
}
