//! Every picture format and form against Pillow (tests/data/record_formats.py), level by level.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use byol_model::picture::{Limits, Picture};
use byol_model::weights::Weights;
use support::data;

/// The one form that the decoder (crate `tiff`) does not know.
const UNREAD: &str = "palette.tif";

#[test]
fn a_tiff_file_with_a_palette_is_refused_by_name() {
    let error = Picture::open(&data(&format!("formats/{UNREAD}")), &Limits::default()).unwrap_err().to_string();
    assert!(error.contains(UNREAD) && error.contains("Palette"), "{error}");
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
        if name == UNREAD {
            continue;
        }
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
