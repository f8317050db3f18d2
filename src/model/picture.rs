//! Pixels, and the input contract that says how they become a network's input.
//!
//! The contract is stored in the model file and obeyed by training, evaluation and serving through this one module,
//! so that they cannot drift. The resampling is Pillow's: separable, antialiased when it shrinks, in fixed point.

use crate::error::{Error, Result};
use crate::{file, reduced_jpeg, tiff_palette};
use fast_image_resize as fir;
use image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::path::Path;

pub use crate::picture_view::{Alpha, Orientation, PictureView, PixelFormat, Rotation};

/// Bounds on what is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Pixels of one picture.
    pub max_pixels: u64,
    /// Bytes of one picture's file.
    pub max_file_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_pixels: 100_000_000, max_file_bytes: 256 << 20 }
    }
}

/// What a PNG may hold beside its pixels, unfolded: the largest colour profiles are a few MiB.
const PNG_BESIDE_BYTES: u64 = 32 << 20;

/// ITU-R 601 luminance in Pillow's fixed point.
pub(crate) fn luminance(r: u8, g: u8, b: u8) -> u8 {
    ((u32::from(r) * 19_595 + u32::from(g) * 38_470 + u32::from(b) * 7_471 + 0x8000) >> 16) as u8
}

/// Opens what decodes these bytes; nothing but the header has been read.
fn decoder<'a>(bytes: &'a [u8], name: &str) -> Result<(impl ImageDecoder + 'a, ImageFormat)> {
    let wrong = |e: image::ImageError| Error::Decode { name: name.into(), why: e.to_string() };
    let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| wrong(e.into()))?;
    let Some(format) = reader.format() else {
        let why = "the bytes are of no known picture format (JPEG, PNG, WebP, BMP, GIF, TIFF)".into();
        return Err(Error::Decode { name: name.into(), why });
    };
    let mut before = image::Limits::no_limits();
    if format == ImageFormat::Png {
        // Colour profiles and texts are unfolded while the header is read, before any size is known.
        before.max_alloc = Some(PNG_BESIDE_BYTES);
    }
    reader.limits(before);
    Ok((reader.into_decoder().map_err(wrong)?, format))
}

/// What the header of an encoded picture says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// Width in pixels, once it stands upright.
    pub width: usize,
    /// Height in pixels, once it stands upright.
    pub height: usize,
    /// 1 (gray) or 3 (RGB): what [`Picture::decode`] would give.
    pub channels: usize,
    /// Bits of a channel in the file.
    pub bits: usize,
    /// Whether the file has an alpha channel, which decoding drops.
    pub alpha: bool,
    /// EXIF orientation, 1 to 8; the sizes above are those after it.
    pub orientation: Orientation,
    /// `jpeg`, `png`, `webp`, `bmp`, `gif` or `tiff`.
    pub format: &'static str,
}

/// A decoded picture: gray or RGB, 8 bit, rows without gaps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// 1 (gray) or 3 (RGB).
    pub channels: usize,
    /// Width in pixels.
    pub width: usize,
    /// Height in pixels.
    pub height: usize,
    /// `[height, width, channels]`.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Reads the header of an encoded picture, not its pixels.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are no picture, or whose header is damaged.
    pub fn probe(bytes: &[u8], name: &str) -> Result<Probe> {
        let palette = tiff_palette::as_gray(bytes);
        let (mut decoder, format) = decoder(palette.as_deref().unwrap_or(bytes), name)?;
        let wrong = |e: image::ImageError| Error::Decode { name: name.into(), why: e.to_string() };
        let orientation = Orientation::from_exif(decoder.orientation().map_err(wrong)?.to_exif()).unwrap_or_default();
        let (width, height) = decoder.dimensions();
        let (width, height) = (width as usize, height as usize);
        let colour = decoder.color_type();
        Ok(Probe {
            width: if orientation.is_lying() { height } else { width },
            height: if orientation.is_lying() { width } else { height },
            channels: if colour.has_color() || palette.is_some() { 3 } else { 1 },
            bits: 8 * usize::from(colour.bytes_per_pixel()) / usize::from(colour.channel_count()),
            alpha: colour.has_alpha(),
            orientation,
            format: match format {
                ImageFormat::Jpeg => "jpeg",
                ImageFormat::Png => "png",
                ImageFormat::WebP => "webp",
                ImageFormat::Bmp => "bmp",
                ImageFormat::Gif => "gif",
                _ => "tiff",
            },
        })
    }

    /// Decodes JPEG, PNG, WebP, BMP, GIF (first frame) or TIFF. The EXIF orientation is applied, 16 bit become 8,
    /// palettes and CMYK become RGB, alpha is dropped.
    ///
    /// # Errors
    /// [`Error::Decode`] for bytes that are no picture, [`Error::Limit`] for one beyond the limits; `name` is what the
    /// messages call it.
    pub fn decode(bytes: &[u8], limits: &Limits, name: &str) -> Result<Self> {
        let wrong = |e: image::ImageError| Error::Decode { name: name.into(), why: e.to_string() };
        if let Some(picture) = tiff_palette::decode(bytes, limits, name) {
            return picture;
        }
        let (mut decoder, _) = decoder(bytes, name)?;
        let (width, height) = decoder.dimensions();
        let pixels = u64::from(width) * u64::from(height);
        if pixels > limits.max_pixels {
            return Err(Error::Limit { name: name.into(), found: pixels, limit: limits.max_pixels, unit: "pixels" });
        }
        if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
            let why = format!("{width} x {height} pixels; 1 to 65535 each are allowed");
            return Err(Error::Decode { name: name.into(), why });
        }
        let mut bounds = image::Limits::default();
        bounds.max_alloc = Some(limits.max_pixels.saturating_mul(16).saturating_add(1 << 20));
        decoder.set_limits(bounds).map_err(wrong)?;
        let orientation = decoder.orientation().map_err(wrong)?;
        Ok(upright(DynamicImage::from_decoder(decoder).map_err(wrong)?, orientation))
    }

    /// As [`Picture::decode`], for somebody who will bring it to `contract`'s size. A JPEG photograph that is many times as
    /// large may come at a quarter or an eighth of its size; prepared, it is within 2 levels in the mean and 12 at most of
    /// what the whole picture gives.
    ///
    /// # Errors
    /// As [`Picture::decode`].
    pub fn decode_for(bytes: &[u8], limits: &Limits, name: &str, contract: &InputContract) -> Result<Self> {
        reduced_jpeg::decode(bytes, limits, contract).map_or_else(|| Self::decode(bytes, limits, name), Ok)
    }

    /// Reads and decodes a file.
    ///
    /// # Errors
    /// [`Error::Io`], and as [`Picture::decode`], naming the file.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let bytes = file::read(path, limits.max_file_bytes)?;
        Self::decode(&bytes, limits, &path.display().to_string())
    }

    /// As [`Picture::open`], for somebody who will bring it to `contract`'s size: see [`Picture::decode_for`].
    ///
    /// # Errors
    /// As [`Picture::open`].
    pub fn open_for(path: &Path, limits: &Limits, contract: &InputContract) -> Result<Self> {
        let bytes = file::read(path, limits.max_file_bytes)?;
        Self::decode_for(&bytes, limits, &path.display().to_string(), contract)
    }

    /// A view of the whole picture.
    pub fn view(&self) -> PictureView<'_> {
        let format = if self.channels == 1 { PixelFormat::Gray8 } else { PixelFormat::Rgb8 };
        PictureView::whole(format, self.width, self.height, &self.pixels)
    }
}

/// A decoded picture turned upright, in gray or RGB of 8 bits.
pub(crate) fn upright(mut picture: DynamicImage, orientation: image::metadata::Orientation) -> Picture {
    picture.apply_orientation(orientation);
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let gray = !picture.color().has_color();
    let (channels, pixels) =
        if gray { (1, picture.into_luma8().into_raw()) } else { (3, picture.into_rgb8().into_raw()) };
    Picture { channels, width, height, pixels }
}

/// How a picture is brought to the input's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Resize {
    /// To exactly the input's size, whatever the picture's proportions.
    Stretch,
    /// The short side to so many pixels, then the centre is cut out (paper, appendix C: 256, then 224).
    ShortSide(usize),
}

/// Resampling filter, antialiased when it shrinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Triangle.
    Bilinear,
    /// Cubic with a = -0.5, as Pillow's.
    Bicubic,
}

impl Filter {
    /// The resampler's name for it.
    pub fn algorithm(self) -> fir::ResizeAlg {
        fir::ResizeAlg::Convolution(match self {
            Filter::Bilinear => fir::FilterType::Bilinear,
            Filter::Bicubic => fir::FilterType::CatmullRom,
        })
    }
}

/// How a picture becomes an encoder's input.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InputContract {
    /// Input channels; pictures can become 1 (gray) or 3 (RGB), other numbers are for tensors.
    pub channels: usize,
    /// Input height in pixels.
    pub height: usize,
    /// Input width in pixels.
    pub width: usize,
    /// Resize rule.
    pub resize: Resize,
    /// Resize filter.
    pub filter: Filter,
    /// Mean of each channel, of values scaled to 0 to 1.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, of values scaled to 0 to 1.
    pub std: Vec<f32>,
}

impl InputContract {
    /// Values of one picture: 3 channels of 8192 x 8192. What a file asks for is allocated, so it must not be anything.
    const MOST_VALUES: usize = 3 << 26;
    /// ImageNet's mean per channel (red, green, blue).
    pub const IMAGENET_MEAN: [f32; 3] = [0.485, 0.456, 0.406];
    /// ImageNet's standard deviation per channel.
    pub const IMAGENET_STD: [f32; 3] = [0.229, 0.224, 0.225];

    /// The usual contract for square input: stretched up to 64 pixels, above that the paper's short side of 8/7 of the
    /// size and centre crop; bicubic; ImageNet's statistics for RGB, 0.5 and 0.25 otherwise.
    pub fn square(channels: usize, size: usize) -> Self {
        let rgb = channels == 3;
        Self {
            channels,
            height: size,
            width: size,
            resize: if size <= 64 { Resize::Stretch } else { Resize::ShortSide(size * 8 / 7) },
            filter: Filter::Bicubic,
            mean: if rgb { Self::IMAGENET_MEAN.to_vec() } else { vec![0.5; channels] },
            std: if rgb { Self::IMAGENET_STD.to_vec() } else { vec![0.25; channels] },
        }
    }

    /// Bytes of one prepared picture.
    pub fn bytes(&self) -> usize {
        self.channels * self.height * self.width
    }

    /// Checks that the values make sense.
    ///
    /// # Errors
    /// [`Error::Contract`] names the key.
    pub fn validate(&self) -> Result<()> {
        let wrong = |key: &str, why: String| Err(Error::Contract { key: format!("byol.input.{key}"), why });
        for (key, value, limit) in
            [("channels", self.channels, 1024), ("height", self.height, 8192), ("width", self.width, 8192)]
        {
            if value == 0 || value > limit {
                return wrong(key, format!("{value} is not in 1 to {limit}"));
            }
        }
        if self.bytes() > Self::MOST_VALUES {
            let why = format!("{} x {} x {} are too many values", self.channels, self.height, self.width);
            return wrong("channels", why);
        }
        if let Resize::ShortSide(short) = self.resize
            && (short < self.height.max(self.width) || short > 16_384)
        {
            let why = format!("short side {short} does not cover {} x {}", self.width, self.height);
            return wrong("resize", why);
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != self.channels {
                return wrong(key, format!("{} values for {} channels", values.len(), self.channels));
            }
            if let Some(v) = values.iter().find(|v| !v.is_finite() || (key == "std" && **v <= 0.0)) {
                return wrong(key, format!("{v} is no usable value"));
            }
        }
        Ok(())
    }

    /// `value = pixel * scale + shift` per channel, for pixels of 0 to 255.
    pub fn scale_and_shift(&self) -> (Vec<f64>, Vec<f64>) {
        let scale = self.std.iter().map(|&s| 1.0 / (255.0 * f64::from(s))).collect();
        let shift = self.mean.iter().zip(&self.std).map(|(&m, &s)| -f64::from(m) / f64::from(s)).collect();
        (scale, shift)
    }

    /// Brings a picture to the input's size and channels: `out` becomes uint8 `[height, width, channels]`.
    ///
    /// # Errors
    /// [`Error::View`] where `out` has another length than [`InputContract::bytes`] or the channels cannot be had.
    pub fn prepare(&self, picture: PictureView<'_>, out: &mut [u8]) -> Result<()> {
        if out.len() != self.bytes() {
            let why = format!("{} bytes for a prepared picture of {}", out.len(), self.bytes());
            return Err(Error::View { why });
        }
        // The narrow side of the conversion is resized: gray before, replicated after.
        let channels = if picture.format().is_gray() || self.channels == 1 { 1 } else { 3 };
        if channels == 1 && self.channels == 3 {
            let mut gray = vec![0; self.height * self.width];
            self.resample(&picture.packed(1)?, &picture, 1, &mut gray)?;
            for (pixel, v) in out.chunks_exact_mut(3).zip(gray) {
                pixel.fill(v);
            }
            return Ok(());
        }
        self.resample(&picture.packed(self.channels)?, &picture, self.channels, out)
    }

    fn resample(&self, pixels: &[u8], picture: &PictureView<'_>, channels: usize, out: &mut [u8]) -> Result<()> {
        let (w, h) = (picture.width(), picture.height());
        if (w, h) == (self.width, self.height) && !matches!(self.resize, Resize::ShortSide(s) if s != w.min(h)) {
            out.copy_from_slice(pixels);
            return Ok(());
        }
        let mut options = fir::ResizeOptions::new().resize_alg(self.filter.algorithm());
        if let Resize::ShortSide(short) = self.resize {
            // torchvision: short side to `short`, long side truncated, then the centre, its corner rounded.
            let (scaled_w, scaled_h) = if w <= h { (short, short * h / w) } else { (short * w / h, short) };
            let corner = |scaled: usize, size: usize| ((scaled as f64 - size as f64) / 2.0).round_ties_even();
            let (x, y) = (corner(scaled_w, self.width), corner(scaled_h, self.height));
            let (fx, fy) = (w as f64 / scaled_w as f64, h as f64 / scaled_h as f64);
            options = options.crop(x * fx, y * fy, self.width as f64 * fx, self.height as f64 * fy);
        }
        if channels == 1 {
            resample::<fir::pixels::U8>(pixels, (w, h), out, (self.width, self.height), &options)
        } else {
            resample::<fir::pixels::U8x3>(pixels, (w, h), out, (self.width, self.height), &options)
        }
    }

    /// Normalises a prepared picture: uint8 `[height, width, channels]` to float32 `[channels, height, width]`.
    ///
    /// # Panics
    /// If either slice is not [`InputContract::bytes`] long.
    pub fn normalise(&self, pixels: &[u8], out: &mut [f32]) {
        assert_eq!(pixels.len(), self.bytes(), "a prepared picture");
        assert_eq!(out.len(), self.bytes(), "room for a prepared picture");
        let (scale, shift) = self.scale_and_shift();
        for (c, plane) in out.chunks_exact_mut(self.height * self.width).enumerate() {
            let (scale, shift) = (scale[c] as f32, shift[c] as f32);
            for (v, pixel) in plane.iter_mut().zip(pixels.chunks_exact(self.channels)) {
                *v = f32::from(pixel[c]) * scale + shift;
            }
        }
    }

    /// The contract as metadata of a model file.
    pub fn to_metadata(&self) -> BTreeMap<String, String> {
        let numbers = |v: &[f32]| v.iter().map(f32::to_string).collect::<Vec<_>>().join(" ");
        let resize = match self.resize {
            Resize::Stretch => "stretch".into(),
            Resize::ShortSide(n) => format!("short-side {n}"),
        };
        let filter = match self.filter {
            Filter::Bilinear => "bilinear",
            Filter::Bicubic => "bicubic",
        };
        [
            ("channels", self.channels.to_string()),
            ("height", self.height.to_string()),
            ("width", self.width.to_string()),
            ("resize", resize),
            ("filter", filter.into()),
            ("mean", numbers(&self.mean)),
            ("std", numbers(&self.std)),
        ]
        .into_iter()
        .map(|(key, value)| (format!("byol.input.{key}"), value))
        .collect()
    }

    /// The contract from a model file's metadata; `None` where it has none.
    ///
    /// # Errors
    /// [`Error::Contract`] names the key that is missing or makes no sense.
    pub fn from_metadata(metadata: &BTreeMap<String, String>) -> Result<Option<Self>> {
        if !metadata.keys().any(|key| key.starts_with("byol.input.")) {
            return Ok(None);
        }
        let wrong = |key: &str, why: String| Error::Contract { key: format!("byol.input.{key}"), why };
        let text =
            |key: &str| metadata.get(&format!("byol.input.{key}")).ok_or_else(|| wrong(key, "is missing".into()));
        let number = |key: &str| {
            let value = text(key)?;
            value.parse::<usize>().map_err(|_| wrong(key, format!("{value:?} is no number")))
        };
        let numbers = |key: &str| -> Result<Vec<f32>> {
            let value = text(key)?;
            let parsed = value.split_whitespace().map(str::parse).collect::<Result<_, _>>();
            parsed.map_err(|_| wrong(key, format!("{value:?} are no numbers")))
        };
        let contract = Self {
            channels: number("channels")?,
            height: number("height")?,
            width: number("width")?,
            resize: match text("resize")?.split_once(' ') {
                None if text("resize")? == "stretch" => Resize::Stretch,
                Some(("short-side", n)) => {
                    Resize::ShortSide(n.parse().map_err(|_| wrong("resize", format!("{n:?} is no number of pixels")))?)
                }
                _ => return Err(wrong("resize", format!("unknown rule {:?}", text("resize")?))),
            },
            filter: match text("filter")?.as_str() {
                "bilinear" => Filter::Bilinear,
                "bicubic" => Filter::Bicubic,
                other => return Err(wrong("filter", format!("unknown filter {other:?}"))),
            },
            mean: numbers("mean")?,
            std: numbers("std")?,
        };
        contract.validate()?;
        Ok(Some(contract))
    }
}

/// Resamples packed pixels of one type. (The resizer's own dispatch over all pixel types costs minutes of compilation.)
fn resample<P: fir::PixelTrait>(
    pixels: &[u8],
    (width, height): (usize, usize),
    out: &mut [u8],
    (new_width, new_height): (usize, usize),
    options: &fir::ResizeOptions,
) -> Result<()> {
    let wrong = |why: String| Error::View { why: format!("cannot be resized: {why}") };
    let source = fir::images::TypedImageRef::<P>::from_buffer(width as u32, height as u32, pixels)
        .map_err(|e| wrong(e.to_string()))?;
    let mut target = fir::images::TypedImage::<P>::from_buffer(new_width as u32, new_height as u32, out)
        .map_err(|e| wrong(e.to_string()))?;
    fir::Resizer::new().resize_typed(&source, &mut target, options).map_err(|e| wrong(e.to_string()))
}
