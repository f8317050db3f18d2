//! Pixels in somebody else's memory: how they are laid out, which part counts, and how they have to be turned.
//!
//! A view is checked once, when it is made, and copied nowhere; [`PictureView::packed`] reads it into the 8-bit gray or
//! RGB that the input contract ([`crate::picture::InputContract`]) resizes.

use crate::error::{Error, Result};
use crate::picture::luminance;
use std::borrow::Cow;

/// How the bytes of a picture are laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PixelFormat {
    /// One byte, luminance.
    Gray8,
    /// Red, green, blue.
    Rgb8,
    /// Blue, green, red.
    Bgr8,
    /// Red, green, blue, alpha.
    Rgba8,
    /// Blue, green, red, alpha.
    Bgra8,
    /// Red, green, blue, a byte without meaning.
    Rgbx8,
    /// Two bytes in the machine's order, luminance.
    Gray16,
    /// Red, green, blue of two bytes each in the machine's order.
    Rgb16,
    /// Red, green, blue as float32 from 0 to 1; what lies beyond is cut off.
    RgbF32,
    /// As [`PixelFormat::RgbF32`], in three planes of `stride` times `height` bytes: red, green, blue.
    RgbF32Planar,
    /// YCbCr 4:2:0 of cameras and video: a plane of luma, then `stride` times `height` bytes on a plane of half the size
    /// with pairs of Cb and Cr, rows `stride` apart as well. BT.601 in video range (luma from 16 to 235).
    Nv12,
    /// As [`PixelFormat::Nv12`], in full range (0 to 255), as in JPEG.
    Nv12Full,
}

impl PixelFormat {
    /// Bytes of a pixel; of the first plane, where there are several.
    pub fn bytes(self) -> usize {
        match self {
            Self::Gray8 | Self::Nv12 | Self::Nv12Full => 1,
            Self::Gray16 => 2,
            Self::Rgb8 | Self::Bgr8 => 3,
            Self::Rgba8 | Self::Bgra8 | Self::Rgbx8 | Self::RgbF32Planar => 4,
            Self::Rgb16 => 6,
            Self::RgbF32 => 12,
        }
    }

    /// Whether there is luminance only.
    pub fn is_gray(self) -> bool {
        matches!(self, Self::Gray8 | Self::Gray16)
    }

    /// Bytes of the longest row of any plane.
    fn row(self, width: usize) -> usize {
        match self {
            Self::Nv12 | Self::Nv12Full => width.next_multiple_of(2),
            _ => width * self.bytes(),
        }
    }

    /// Rows of all planes together.
    fn rows(self, height: usize) -> usize {
        match self {
            Self::RgbF32Planar => 3 * height,
            Self::Nv12 | Self::Nv12Full => height + height.div_ceil(2),
            _ => height,
        }
    }
}

/// What becomes of colours that stand beside an alpha. The alpha itself is dropped, as Pillow's conversion to RGB and
/// [`crate::picture::Picture::decode`] drop it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Alpha {
    /// They are not multiplied by it, and taken as they are.
    #[default]
    Straight,
    /// They are multiplied by it, and divided first; black where alpha is 0.
    Premultiplied,
}

/// How far a picture has to be turned to stand upright, clockwise, as cameras tell of their sensors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Rotation {
    /// Not at all.
    #[default]
    None,
    /// 90 degrees.
    Quarter,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    ThreeQuarters,
}

/// What has to be done to a picture so that it stands upright.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Orientation {
    /// First it is mirrored: left becomes right.
    pub mirrored: bool,
    /// Then it is turned.
    pub rotation: Rotation,
}

impl Orientation {
    /// EXIF's number, 1 to 8.
    pub fn from_exif(number: u8) -> Option<Self> {
        let (mirrored, rotation) = match number {
            1 => (false, Rotation::None),
            2 => (true, Rotation::None),
            3 => (false, Rotation::Half),
            4 => (true, Rotation::Half),
            5 => (true, Rotation::ThreeQuarters),
            6 => (false, Rotation::Quarter),
            7 => (true, Rotation::Quarter),
            8 => (false, Rotation::ThreeQuarters),
            _ => return None,
        };
        Some(Self { mirrored, rotation })
    }

    /// EXIF's number, 1 to 8.
    pub fn to_exif(self) -> u8 {
        match (self.mirrored, self.rotation) {
            (false, Rotation::None) => 1,
            (true, Rotation::None) => 2,
            (false, Rotation::Half) => 3,
            (true, Rotation::Half) => 4,
            (true, Rotation::ThreeQuarters) => 5,
            (false, Rotation::Quarter) => 6,
            (true, Rotation::Quarter) => 7,
            (false, Rotation::ThreeQuarters) => 8,
        }
    }

    /// Whether width and height change places.
    pub fn is_lying(self) -> bool {
        matches!(self.rotation, Rotation::Quarter | Rotation::ThreeQuarters)
    }
}

/// A picture in somebody else's memory. Made by [`PictureView::new`], which checks that the bytes suffice.
#[derive(Clone, Copy, Debug)]
pub struct PictureView<'a> {
    format: PixelFormat,
    /// Left top corner and size of the part that counts, in the memory's directions.
    x: usize,
    y: usize,
    width: usize,
    height: usize,
    stride: usize,
    /// Rows of the whole first plane: where the next one begins.
    plane: usize,
    alpha: Alpha,
    orientation: Orientation,
    data: &'a [u8],
}

impl<'a> PictureView<'a> {
    /// A view of `height` rows of `width` pixels, `stride` bytes apart.
    ///
    /// # Errors
    /// [`Error::View`] for an empty picture, a stride shorter than a row, or too few bytes.
    pub fn new(format: PixelFormat, width: usize, height: usize, stride: usize, data: &'a [u8]) -> Result<Self> {
        let wrong = |why| Err(Error::View { why });
        if width == 0 || height == 0 || width > 65_535 || height > 65_535 {
            return wrong(format!("{width} x {height} pixels; 1 to 65535 each are allowed"));
        }
        let row = format.row(width);
        if stride < row {
            return wrong(format!("stride {stride} is shorter than a row of {row} bytes"));
        }
        let needed = stride.checked_mul(format.rows(height) - 1).and_then(|n| n.checked_add(row));
        match needed {
            Some(needed) if needed <= data.len() => {
                Ok(Self { stride, data, ..Self::whole(format, width, height, data) })
            }
            Some(needed) => wrong(format!("{needed} bytes are needed, {} are given", data.len())),
            None => wrong(format!("stride {stride} times height {height} overflows")),
        }
    }

    /// Rows without gaps, of sizes that are known to be right.
    pub(crate) fn whole(format: PixelFormat, width: usize, height: usize, data: &'a [u8]) -> Self {
        let (alpha, orientation) = Default::default();
        let stride = format.row(width);
        Self { format, x: 0, y: 0, width, height, stride, plane: height, alpha, orientation, data }
    }

    /// The part of `width` x `height` pixels whose left top corner is at `x`, `y`, in the memory's own directions,
    /// whatever the orientation.
    ///
    /// # Errors
    /// [`Error::View`] for a part that is empty or not all inside.
    pub fn region(self, x: usize, y: usize, width: usize, height: usize) -> Result<Self> {
        let inside = |at: usize, size: usize, all: usize| at.checked_add(size).is_some_and(|end| end <= all);
        if width == 0 || height == 0 || !inside(x, width, self.width) || !inside(y, height, self.height) {
            let why = format!("region {width} x {height} at {x}, {y} is not inside {} x {}", self.width, self.height);
            return Err(Error::View { why });
        }
        Ok(Self { x: self.x + x, y: self.y + y, width, height, ..self })
    }

    /// The picture turned, in place of how it was turned before.
    #[must_use]
    pub fn rotated(self, rotation: Rotation) -> Self {
        self.oriented(Orientation { mirrored: false, rotation })
    }

    /// The picture mirrored and turned, in place of how it was before.
    #[must_use]
    pub fn oriented(self, orientation: Orientation) -> Self {
        Self { orientation, ..self }
    }

    /// The picture with colours that were multiplied by their alpha, or not.
    #[must_use]
    pub fn with_alpha(self, alpha: Alpha) -> Self {
        Self { alpha, ..self }
    }

    /// Width in pixels, once it stands upright.
    pub fn width(&self) -> usize {
        if self.orientation.is_lying() { self.height } else { self.width }
    }

    /// Height in pixels, once it stands upright.
    pub fn height(&self) -> usize {
        if self.orientation.is_lying() { self.width } else { self.height }
    }

    /// Layout of the pixels.
    pub fn format(&self) -> PixelFormat {
        self.format
    }

    /// The pixels row by row without gaps, upright, as gray (`channels` 1) or RGB (`channels` 3). Borrows where it can.
    ///
    /// # Errors
    /// [`Error::View`] for another number of channels, and for a value that is not finite.
    pub fn packed(&self, channels: usize) -> Result<Cow<'a, [u8]>> {
        if !matches!(channels, 1 | 3) {
            let why = format!("cannot become {channels} channels; give such input as a tensor");
            return Err(Error::View { why });
        }
        let lying = self.lying(channels)?;
        if self.orientation == Orientation::default() {
            return Ok(lying);
        }
        let (w, h) = (self.width, self.height);
        let mirrored = self.orientation.mirrored;
        let mut out = Vec::with_capacity(lying.len());
        let mut take = |x: usize, y: usize| {
            let x = if mirrored { w - 1 - x } else { x };
            out.extend_from_slice(&lying[(y * w + x) * channels..][..channels]);
        };
        match self.orientation.rotation {
            Rotation::None => (0..h).for_each(|y| (0..w).for_each(|x| take(x, y))),
            Rotation::Quarter => (0..w).for_each(|x| (0..h).rev().for_each(|y| take(x, y))),
            Rotation::Half => (0..h).rev().for_each(|y| (0..w).rev().for_each(|x| take(x, y))),
            Rotation::ThreeQuarters => (0..w).rev().for_each(|x| (0..h).for_each(|y| take(x, y))),
        }
        Ok(Cow::Owned(out))
    }

    /// The pixels in the memory's directions.
    fn lying(&self, channels: usize) -> Result<Cow<'a, [u8]>> {
        let same = matches!((self.format, channels), (PixelFormat::Gray8, 1) | (PixelFormat::Rgb8, 3));
        let row = self.width * self.format.bytes();
        if same && self.stride == row {
            return Ok(Cow::Borrowed(&self.data[self.y * row..(self.y + self.height) * row]));
        }
        let mut out = Vec::with_capacity(self.width * self.height * channels);
        let sixteen = |p: &[u8], at: usize| from_sixteen(u16::from_ne_bytes([p[2 * at], p[2 * at + 1]]));
        let float = |p: &[u8], at: usize| f32::from_ne_bytes([p[at], p[at + 1], p[at + 2], p[at + 3]]);
        match self.format {
            _ if same => self.rows(0).for_each(|row| out.extend_from_slice(row)),
            PixelFormat::Gray8 => self.gray(&mut out, channels, |p| p[0]),
            PixelFormat::Gray16 => self.gray(&mut out, channels, |p| sixteen(p, 0)),
            PixelFormat::Rgba8 if self.alpha == Alpha::Premultiplied => {
                self.colour(&mut out, channels, |p| [divided(p[0], p[3]), divided(p[1], p[3]), divided(p[2], p[3])]);
            }
            PixelFormat::Bgra8 if self.alpha == Alpha::Premultiplied => {
                self.colour(&mut out, channels, |p| [divided(p[2], p[3]), divided(p[1], p[3]), divided(p[0], p[3])]);
            }
            PixelFormat::Rgb8 | PixelFormat::Rgba8 | PixelFormat::Rgbx8 => {
                self.colour(&mut out, channels, |p| [p[0], p[1], p[2]]);
            }
            PixelFormat::Bgr8 | PixelFormat::Bgra8 => self.colour(&mut out, channels, |p| [p[2], p[1], p[0]]),
            PixelFormat::Rgb16 => {
                self.colour(&mut out, channels, |p| [sixteen(p, 0), sixteen(p, 1), sixteen(p, 2)]);
            }
            PixelFormat::RgbF32 => {
                self.check_finite(1)?;
                self.colour(&mut out, channels, |p| [0, 4, 8].map(|at| from_float(float(p, at))));
            }
            PixelFormat::RgbF32Planar => {
                self.check_finite(3)?;
                for ((red, green), blue) in self.rows(0).zip(self.rows(1)).zip(self.rows(2)) {
                    for at in (0..red.len()).step_by(4) {
                        put(&mut out, channels, [red, green, blue].map(|plane| from_float(float(plane, at))));
                    }
                }
            }
            PixelFormat::Nv12 | PixelFormat::Nv12Full => {
                let full = self.format == PixelFormat::Nv12Full;
                for (y, row) in self.rows(0).enumerate() {
                    let chroma = &self.data[(self.plane + (self.y + y) / 2) * self.stride..];
                    for (x, &luma) in row.iter().enumerate() {
                        let at = (self.x + x) / 2 * 2;
                        match channels {
                            1 => out.push(if full { luma } else { video(luma, 128, 128)[0] }),
                            _ if full => out.extend(jpeg(luma, chroma[at], chroma[at + 1])),
                            _ => out.extend(video(luma, chroma[at], chroma[at + 1])),
                        }
                    }
                }
            }
        }
        Ok(Cow::Owned(out))
    }

    /// The rows of a plane.
    fn rows(&self, plane: usize) -> impl Iterator<Item = &'a [u8]> {
        let (start, row) = (self.x * self.format.bytes(), self.width * self.format.bytes());
        let (data, stride, first) = (self.data, self.stride, plane * self.plane + self.y);
        (first..first + self.height).map(move |y| &data[y * stride + start..][..row])
    }

    fn gray(&self, out: &mut Vec<u8>, channels: usize, value: impl Fn(&[u8]) -> u8) {
        for row in self.rows(0) {
            let values = row.chunks_exact(self.format.bytes()).map(&value);
            match channels {
                1 => out.extend(values),
                _ => out.extend(values.flat_map(|v| [v; 3])),
            }
        }
    }

    fn colour(&self, out: &mut Vec<u8>, channels: usize, value: impl Fn(&[u8]) -> [u8; 3]) {
        for row in self.rows(0) {
            let values = row.chunks_exact(self.format.bytes()).map(&value);
            match channels {
                1 => out.extend(values.map(|[r, g, b]| luminance(r, g, b))),
                _ => out.extend(values.flatten()),
            }
        }
    }

    fn check_finite(&self, planes: usize) -> Result<()> {
        for (index, row) in (0..planes).flat_map(|plane| self.rows(plane)).enumerate() {
            let values = row.as_chunks().0.iter().map(|&bytes| f32::from_ne_bytes(bytes));
            if let Some((at, value)) = values.enumerate().find(|(_, value)| !value.is_finite()) {
                let (x, y) = (if planes == 1 { at / 3 } else { at }, index % self.height);
                return Err(Error::View { why: format!("the pixel at {x}, {y} has the value {value}") });
            }
        }
        Ok(())
    }
}

fn put(out: &mut Vec<u8>, channels: usize, [r, g, b]: [u8; 3]) {
    match channels {
        1 => out.push(luminance(r, g, b)),
        _ => out.extend([r, g, b]),
    }
}

/// As pictures of 16 bit become 8 when a file is decoded: to the nearest.
fn from_sixteen(value: u16) -> u8 {
    ((u32::from(value) + 128) / 257) as u8
}

/// To the nearest; the cast cuts off what lies beyond.
fn from_float(value: f32) -> u8 {
    (value * 255.0 + 0.5) as u8
}

/// A colour before it was multiplied by alpha.
fn divided(value: u8, alpha: u8) -> u8 {
    let (value, alpha) = (u32::from(value), u32::from(alpha));
    (value * 255 + alpha / 2).checked_div(alpha).unwrap_or(0).min(255) as u8
}

/// BT.601 in video range, in 16-bit fixed point.
fn video(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = ((i32::from(y) - 16) * 76_309, i32::from(cb) - 128, i32::from(cr) - 128);
    [y + 104_597 * cr, y - 25_675 * cb - 53_279 * cr, y + 132_201 * cb].map(fixed)
}

/// BT.601 in full range (JFIF), in 16-bit fixed point.
fn jpeg(y: u8, cb: u8, cr: u8) -> [u8; 3] {
    let (y, cb, cr) = (i32::from(y) << 16, i32::from(cb) - 128, i32::from(cr) - 128);
    [y + 91_881 * cr, y - 22_554 * cb - 46_802 * cr, y + 116_130 * cb].map(fixed)
}

fn fixed(value: i32) -> u8 {
    ((value + 0x8000) >> 16).clamp(0, 255) as u8
}
