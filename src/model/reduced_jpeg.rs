//! Large JPEG photographs at a quarter or an eighth of their size, which costs a fraction of the time: the inverse cosine
//! transform gives fewer pixels of each block of 8 x 8, and there are fewer to convert and to resize.
//!
//! The pixels that it gives are means over squares, not what an antialiased filter sees, so it is only done where the
//! picture is still [`GAP`] times as large as what it is resized to. Then the prepared picture stays within 2 levels in the
//! mean and 12 at most of what the whole picture gives (docs/results.md; Pillow asks for 2 to 3 times in
//! `Image.thumbnail`'s `reducing_gap`). Sizes that a reduction does not divide are decoded whole, or every pixel would be
//! a little off its place; so are progressive files, whose time goes into their scans, and CMYK.
//!
//! zune-jpeg, which decodes whole pictures here, cannot do it; jpeg-decoder can, but is slower otherwise: at a half it
//! gains next to nothing over the whole picture by zune-jpeg.

use crate::picture::{InputContract, Limits, Picture, Resize, upright};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, RgbImage};
use jpeg_decoder::{CodingProcess, Decoder, PixelFormat};

/// How many times as large as its target a reduced picture is at least.
const GAP: f64 = 2.75;

/// The picture reduced; `None` for what is to be decoded whole, also where it is damaged: the whole decoder says how.
pub(crate) fn decode(bytes: &[u8], limits: &Limits, contract: &InputContract) -> Option<Picture> {
    if !bytes.starts_with(&[0xff, 0xd8, 0xff]) {
        return None;
    }
    let mut decoder = Decoder::new(bytes);
    decoder.read_info().ok()?;
    let info = decoder.info()?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    let gray = match info.pixel_format {
        PixelFormat::L8 => true,
        PixelFormat::RGB24 => false,
        PixelFormat::L16 | PixelFormat::CMYK32 => return None,
    };
    if info.coding_process != CodingProcess::DctSequential || (width * height) as u64 > limits.max_pixels {
        return None;
    }
    let factor = factor(width, height, contract)?;
    let (width, height) = (width / factor, height / factor);
    let scaled = decoder.scale(width as u16, height as u16).ok()?;
    if (usize::from(scaled.0), usize::from(scaled.1)) != (width, height) {
        return None;
    }
    let orientation = decoder.exif_data().and_then(Orientation::from_exif_chunk).unwrap_or(Orientation::NoTransforms);
    let pixels = decoder.decode().ok()?;
    let (w, h) = (width as u32, height as u32);
    let picture = match gray {
        true => DynamicImage::ImageLuma8(GrayImage::from_raw(w, h, pixels)?),
        false => DynamicImage::ImageRgb8(RgbImage::from_raw(w, h, pixels)?),
    };
    Some(upright(picture, orientation))
}

/// The largest reduction that leaves enough, and divides the size; `None` if there is none.
fn factor(width: usize, height: usize, contract: &InputContract) -> Option<usize> {
    let short = width.min(height);
    // Which way up it is does not matter: the larger side of the target has to fit both ways.
    let target = match contract.resize {
        Resize::ShortSide(short) => short,
        Resize::Stretch => contract.width.max(contract.height),
    };
    let fits = |factor: usize| {
        width.is_multiple_of(factor) && height.is_multiple_of(factor) && (short / factor) as f64 >= GAP * target as f64
    };
    [8, 4].into_iter().find(|&factor| fits(factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reduction_leaves_enough_and_divides_the_size() {
        let contract = InputContract::square(3, 224);
        assert_eq!(factor(4000, 3000, &contract), Some(4), "750 for 256");
        assert_eq!(factor(3024, 4032, &contract), Some(4));
        assert_eq!(factor(8000, 6000, &contract), Some(8));
        assert_eq!(factor(4000, 2800, &contract), None, "700 for 256 is too little");
        assert_eq!(factor(4002, 3002, &contract), None, "4 does not divide it");
        assert_eq!(factor(8004, 6000, &contract), Some(4));
        let stretched = InputContract { resize: Resize::Stretch, width: 300, ..contract };
        assert_eq!(factor(4000, 3000, &stretched), None);
        assert_eq!(factor(4000, 3300, &stretched), Some(4));
    }
}
