//! Pictures that nobody should decode: each ends in a typed error that names it, in bounded time and memory.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use byol_model::picture::{InputContract, Limits, Picture};
use byol_model::{Error, Result};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::io::{Cursor, Write};
use std::time::{Duration, Instant};

const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff];

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8]);
    let mut bytes = Vec::new();
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel));
    picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn decode(bytes: &[u8]) -> Result<Picture> {
    let began = Instant::now();
    let limits = Limits { max_pixels: 1_000_000, ..Limits::default() };
    let picture = Picture::decode(bytes, &limits, "evil");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    if let Err(error) = &picture {
        assert!(
            matches!(error, Error::Decode { .. } | Error::Limit { .. }) && error.to_string().contains("evil"),
            "{error:?}"
        );
    }
    picture
}

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..bytes).map(next).collect()
}

/// A PNG that announces `width` x `height` and holds `rows` bytes of zeros, a thousandth of that compressed.
fn png_bomb(width: u32, height: u32, rows: usize) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut chunk = |kind: &[u8; 4], data: &[u8]| {
        out.extend((data.len() as u32).to_be_bytes());
        let mut crc = flate2::Crc::new();
        crc.update(kind);
        crc.update(data);
        out.extend(kind);
        out.extend(data);
        out.extend(crc.sum().to_be_bytes());
    };
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    chunk(b"IHDR", &header);
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = vec![0; 1 << 16];
    (0..rows.div_ceil(block.len())).for_each(|_| zlib.write_all(&block).unwrap());
    chunk(b"IDAT", &zlib.finish().unwrap());
    chunk(b"IEND", &[]);
    out
}

#[test]
fn more_pixels_than_allowed_are_refused_before_they_are_decoded() {
    for format in FORMATS {
        let error = decode(&encoded(1001, 1000, format)).unwrap_err();
        assert!(matches!(error, Error::Limit { found: 1_001_000, limit: 1_000_000, unit: "pixels", .. }), "{error:?}");
        assert_eq!(decode(&encoded(1000, 100, format)).unwrap().width, 1000);
    }
    assert!(matches!(decode(&png_bomb(50_000, 50_000, 1 << 20)), Err(Error::Limit { .. })));
    // Announces little and holds much: what is announced counts.
    let _ = decode(&png_bomb(100, 100, 64 << 20));
    assert!(decode(&png_bomb(1000, 1000, 1 << 16)).is_err(), "announces much and holds little");
}

#[test]
fn a_line_of_pixels_is_a_picture() {
    let contract = InputContract::square(3, 224);
    let mut out = vec![0; contract.bytes()];
    for format in [ImageFormat::Png, ImageFormat::Bmp, ImageFormat::Jpeg] {
        for (width, height) in [(1, 65_535), (65_535, 1), (1, 1)] {
            let Ok(picture) = decode(&encoded(width, height, format)) else { continue };
            let began = Instant::now();
            match contract.prepare(picture.view(), &mut out) {
                Ok(()) => {}
                Err(error) => assert!(matches!(error, Error::View { .. }), "{error:?}"),
            }
            assert!(began.elapsed() < Duration::from_secs(5));
        }
    }
}

#[test]
fn truncated_and_damaged_pictures_end_in_errors_or_pictures() {
    for format in FORMATS {
        let bytes = encoded(61, 43, format);
        for length in (0..bytes.len()).step_by(1 + bytes.len() / 200) {
            let _ = decode(&bytes[..length]);
        }
        let damage = noise(format as u64 + 1, 3 * 300);
        for flip in damage.chunks(3) {
            let mut damaged = bytes.clone();
            let at = (usize::from(flip[0]) << 8 | usize::from(flip[1])) % damaged.len();
            damaged[at] ^= flip[2] | 1;
            if let Ok(picture) = decode(&damaged) {
                assert_eq!(picture.pixels.len(), picture.width * picture.height * picture.channels);
            }
        }
    }
}

#[test]
fn garbage_is_no_picture() {
    assert!(decode(&[]).is_err());
    for seed in 0..200 {
        assert!(decode(&noise(seed, 1000)).is_err());
        // Behind the first bytes of each format, which make a decoder look further.
        for format in FORMATS {
            let mut bytes = encoded(8, 8, format)[..16].to_vec();
            bytes.extend(noise(seed, 500));
            let _ = decode(&bytes);
        }
    }
}
