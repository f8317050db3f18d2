//! TIFF files whose pixels are numbers into a colour map. The decoder (crate `tiff`) knows everything about them but the
//! map: it refuses them by their photometric interpretation. So it is told that the numbers are gray levels, in a copy of
//! the file, and the colours are looked up here.

use crate::error::{Error, Result};
use crate::picture::{Limits, Picture, upright};
use image::metadata::Orientation;
use image::{DynamicImage, RgbImage};
use std::io::Cursor;
use tiff::decoder::{Decoder, DecodingResult};
use tiff::tags::Tag;

/// Values of the tag PhotometricInterpretation.
const PALETTE: u16 = 3;
const BLACK_IS_ZERO: u16 = 1;

/// Where the file's first picture says that it has a palette, if it does: the place of that value, and whether numbers
/// begin with their low byte.
fn palette_at(bytes: &[u8]) -> Option<(usize, bool)> {
    let little = match bytes.get(..4)? {
        [b'I', b'I', 42, 0] => true,
        [b'M', b'M', 0, 42] => false,
        _ => return None,
    };
    let number = |at: usize, length: usize| -> Option<usize> {
        let bytes = bytes.get(at..at.checked_add(length)?)?.iter();
        let add = |sum: usize, &byte: &u8| (sum << 8) | usize::from(byte);
        Some(if little { bytes.rev().fold(0, add) } else { bytes.fold(0, add) })
    };
    let directory = number(4, 4)?;
    for entry in 0..number(directory, 2)? {
        let at = directory.checked_add(2 + 12 * entry)?;
        if number(at, 2)? == usize::from(Tag::PhotometricInterpretation.to_u16()) {
            return (number(at + 8, 2)? == usize::from(PALETTE)).then_some((at + 8, little));
        }
    }
    None
}

/// The file with its numbers called gray levels, if it is a TIFF file with a palette.
pub(crate) fn as_gray(bytes: &[u8]) -> Option<Vec<u8>> {
    let (at, little) = palette_at(bytes)?;
    let mut gray = bytes.to_vec();
    let value = if little { BLACK_IS_ZERO.to_le_bytes() } else { BLACK_IS_ZERO.to_be_bytes() };
    gray[at..at + 2].copy_from_slice(&value);
    Some(gray)
}

/// The picture, if the file is a TIFF file with a palette.
pub(crate) fn decode(bytes: &[u8], limits: &Limits, name: &str) -> Option<Result<Picture>> {
    Some(mapped(&as_gray(bytes)?, limits, name))
}

fn mapped(bytes: &[u8], limits: &Limits, name: &str) -> Result<Picture> {
    let damaged = |why: String| Error::Decode { name: name.into(), why };
    let wrong = |e: tiff::TiffError| damaged(e.to_string());
    let mut bounds = tiff::decoder::Limits::default();
    let most = usize::try_from(limits.max_pixels).unwrap_or(usize::MAX).saturating_add(1 << 20);
    (bounds.decoding_buffer_size, bounds.intermediate_buffer_size) = (most, most);
    let mut decoder = Decoder::new(Cursor::new(bytes)).map_err(wrong)?.with_limits(bounds);
    let (width, height) = decoder.dimensions().map_err(wrong)?;
    let pixels = u64::from(width) * u64::from(height);
    if pixels > limits.max_pixels {
        return Err(Error::Limit { name: name.into(), found: pixels, limit: limits.max_pixels, unit: "pixels" });
    }
    if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
        return Err(damaged(format!("{width} x {height} pixels; 1 to 65535 each are allowed")));
    }
    let bits = decoder.find_tag_unsigned::<u16>(Tag::BitsPerSample).map_err(wrong)?.unwrap_or(1);
    if !matches!(bits, 1 | 2 | 4 | 8) {
        return Err(damaged(format!("a palette with {bits} bits for a pixel; 1, 2, 4 and 8 are read")));
    }
    let map = decoder.get_tag_u16_vec(Tag::ColorMap).map_err(wrong)?;
    let colours = 1 << bits;
    if map.len() != 3 * colours {
        return Err(damaged(format!("a palette of {} values, {} are needed", map.len(), 3 * colours)));
    }
    let orientation = decoder.find_tag_unsigned::<u16>(Tag::Orientation).ok().flatten();
    let DecodingResult::U8(indices) = decoder.read_image().map_err(wrong)? else {
        return Err(damaged("a palette whose numbers are no bytes".into()));
    };
    let (w, h) = (width as usize, height as usize);
    let row = (w * usize::from(bits)).div_ceil(8);
    if indices.len() < row * h {
        return Err(damaged(format!("{} bytes of pixels, {} are needed", indices.len(), row * h)));
    }
    let mut rgb = Vec::with_capacity(3 * w * h);
    for row in indices.chunks(row).take(h) {
        for x in 0..w {
            let first = x * usize::from(bits);
            let index = (usize::from(row[first / 8]) >> (8 - usize::from(bits) - first % 8)) & (colours - 1);
            // All reds, all greens, all blues, of 16 bits each.
            rgb.extend([0, 1, 2].map(|channel| (map[channel * colours + index] >> 8) as u8));
        }
    }
    let picture = RgbImage::from_raw(width, height, rgb).ok_or_else(|| damaged("too few pixels".into()))?;
    let orientation = orientation.and_then(|o| Orientation::from_exif(o as u8)).unwrap_or(Orientation::NoTransforms);
    Ok(upright(DynamicImage::ImageRgb8(picture), orientation))
}
