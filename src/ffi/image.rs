//! Pictures as C has them: pixels in its memory, and what an encoded picture says of itself.

use std::ffi::c_char;

use byol_model::picture::{Alpha, Orientation, Picture, PictureView, PixelFormat};

use crate::guard::guard;
use crate::pointer::{self, Versioned, fill};
use crate::status::*;

/// Pixel format: 1 byte, luminance.
pub const BYOL_FORMAT_GRAY8: u32 = 1;
/// Pixel format: 3 bytes, red, green, blue.
pub const BYOL_FORMAT_RGB8: u32 = 2;
/// Pixel format: 3 bytes, blue, green, red.
pub const BYOL_FORMAT_BGR8: u32 = 3;
/// Pixel format: 4 bytes, red, green, blue, alpha; alpha is ignored.
pub const BYOL_FORMAT_RGBA8: u32 = 4;
/// Pixel format: 4 bytes, blue, green, red, alpha; alpha is ignored.
pub const BYOL_FORMAT_BGRA8: u32 = 5;
/// Pixel format: 4 bytes, red, green, blue, and one without meaning.
pub const BYOL_FORMAT_RGBX8: u32 = 6;
/// Pixel format: luminance of 16 bits in the machine's byte order; data may lie at any address.
pub const BYOL_FORMAT_GRAY16: u32 = 7;
/// Pixel format: red, green, blue of 16 bits each in the machine's byte order; data may lie at any address.
pub const BYOL_FORMAT_RGB16: u32 = 8;
/// Pixel format: red, green, blue as float from 0 to 1; what lies beyond is cut off, NaN and infinity are refused. Data
/// may lie at any address.
pub const BYOL_FORMAT_RGBF32: u32 = 9;
/// Pixel format: as BYOL_FORMAT_RGBF32, in three planes of stride * height bytes one behind the other: red, green, blue.
pub const BYOL_FORMAT_RGBF32_PLANAR: u32 = 10;
/// Pixel format: YCbCr 4:2:0 of cameras and video, BT.601 in video range: height rows of luma (16 to 235), then
/// (height + 1) / 2 rows, also stride bytes apart, of pairs of Cb and Cr for 2 x 2 pixels each.
pub const BYOL_FORMAT_NV12: u32 = 11;
/// Pixel format: as BYOL_FORMAT_NV12, in full range (0 to 255), as in JPEG.
pub const BYOL_FORMAT_NV12_FULL: u32 = 12;

/// Alpha: the colours are not multiplied by it; they are taken as they are, as when a file is decoded.
pub const BYOL_ALPHA_STRAIGHT: u32 = 0;
/// Alpha: the colours are multiplied by it, and divided before they are used.
pub const BYOL_ALPHA_PREMULTIPLIED: u32 = 1;

/// Pixels in the caller's memory, read in place. Start with BYOL_IMAGE_INIT. In an array, every element has the same
/// struct_size.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_image {
    /// sizeof(byol_image).
    pub struct_size: u32,
    /// BYOL_FORMAT_*.
    pub format: u32,
    /// Width in pixels, 1 to 65535.
    pub width: u32,
    /// Height in pixels, 1 to 65535.
    pub height: u32,
    /// Bytes from one row to the next; 0 for rows without gaps.
    pub stride: usize,
    /// The first pixel of the first row.
    pub data: *const u8,
    /// Number of bytes at data; at least stride * (rows - 1) + the bytes of a row, with the rows of all planes.
    pub data_len: usize,
    /// BYOL_ALPHA_*, for formats that have one.
    pub alpha: u32,
    /// How the picture has to be mirrored and turned to stand upright, as EXIF numbers it, 1 to 8: 6 is a quarter
    /// clockwise, 3 a half, 8 a quarter the other way. 0 is 1: as it lies.
    pub orientation: u32,
    /// Left edge of the part that counts, in pixels, before orientation.
    pub region_x: u32,
    /// Upper edge of the part that counts.
    pub region_y: u32,
    /// Width of the part that counts; 0, with a region_height of 0, for the whole picture.
    pub region_width: u32,
    /// Height of the part that counts; 0, with a region_width of 0, for the whole picture.
    pub region_height: u32,
}

impl Default for byol_image {
    fn default() -> Self {
        Self {
            struct_size: 0,
            format: 0,
            width: 0,
            height: 0,
            stride: 0,
            data: std::ptr::null(),
            data_len: 0,
            alpha: 0,
            orientation: 0,
            region_x: 0,
            region_y: 0,
            region_width: 0,
            region_height: 0,
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_image {
    const NAME: &'static str = "byol_image";
    const MINIMUM: usize = 16 + 3 * size_of::<usize>();
}

/// What the header of an encoded picture says. Set struct_size (BYOL_IMAGE_INFO_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_image_info {
    /// sizeof(byol_image_info).
    pub struct_size: u32,
    /// Width in pixels, once it stands upright.
    pub width: u32,
    /// Height in pixels, once it stands upright.
    pub height: u32,
    /// 1 (gray) or 3 (red, green, blue).
    pub channels: u32,
    /// Bits of a channel in the file.
    pub bits: u32,
    /// 1 when the file has an alpha channel, which is ignored, else 0.
    pub has_alpha: u32,
    /// EXIF orientation, 1 to 8, which byol_extract_encoded obeys; 1 where the file says nothing.
    pub orientation: u32,
    /// "jpeg", "png", "webp", "bmp", "gif" or "tiff".
    pub format: [c_char; 16],
}

// SAFETY: repr(C), struct_size first, no padding, integers only.
unsafe impl Versioned for byol_image_info {
    const NAME: &'static str = "byol_image_info";
    const MINIMUM: usize = 44;
}

/// Sets `size` bytes at `image`, which is sizeof(byol_image) in the caller's header, to what BYOL_IMAGE_INIT is.
///
/// Does nothing when `image` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_image_init(image: *mut byol_image, size: usize) {
    // SAFETY: the caller owns `size` bytes at `image`.
    unsafe { pointer::init(image, size) };
}

/// Sets `size` bytes at `info`, which is sizeof(byol_image_info) in the caller's header, to what BYOL_IMAGE_INFO_INIT
/// is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_image_info_init(info: *mut byol_image_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Reads the header of an encoded picture (JPEG, PNG, WebP, BMP, GIF, TIFF), given as the bytes of its file. Its pixels
/// are not decoded, so they may still turn out to be damaged; no limit on pixels is applied.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: NULL_POINTER, ABI, IMAGE_DECODE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_image_probe(
    data: *const u8,
    data_len: usize,
    info: *mut byol_image_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            if data.is_null() {
                return Err(Fault::null("data"));
            }
            let found = Picture::probe(pointer::slice(data, data_len, "data")?, "picture")?;
            report.set(byol_image_info {
                struct_size: 0,
                width: found.width as u32,
                height: found.height as u32,
                channels: found.channels as u32,
                bits: found.bits as u32,
                has_alpha: u32::from(found.alpha),
                orientation: found.orientation.to_exif().into(),
                format: fill(found.format),
            });
            Ok(())
        })
    }
}

/// The pictures that the images stand for; an image that can't be one has its own fault.
pub(crate) unsafe fn views<'a>(images: &[byol_image]) -> Result<Vec<Result<PictureView<'a>>>> {
    let mut views = pointer::reserved(images.len(), "the pictures")?;
    // SAFETY: the caller's pointers, checked.
    views.extend(images.iter().map(|image| unsafe { view(image) }));
    Ok(views)
}

unsafe fn view<'a>(image: &byol_image) -> Result<PictureView<'a>> {
    let format = match image.format {
        BYOL_FORMAT_GRAY8 => PixelFormat::Gray8,
        BYOL_FORMAT_RGB8 => PixelFormat::Rgb8,
        BYOL_FORMAT_BGR8 => PixelFormat::Bgr8,
        BYOL_FORMAT_RGBA8 => PixelFormat::Rgba8,
        BYOL_FORMAT_BGRA8 => PixelFormat::Bgra8,
        BYOL_FORMAT_RGBX8 => PixelFormat::Rgbx8,
        BYOL_FORMAT_GRAY16 => PixelFormat::Gray16,
        BYOL_FORMAT_RGB16 => PixelFormat::Rgb16,
        BYOL_FORMAT_RGBF32 => PixelFormat::RgbF32,
        BYOL_FORMAT_RGBF32_PLANAR => PixelFormat::RgbF32Planar,
        BYOL_FORMAT_NV12 => PixelFormat::Nv12,
        BYOL_FORMAT_NV12_FULL => PixelFormat::Nv12Full,
        other => return Err(Fault::argument(format_args!("image.format is {other}, no BYOL_FORMAT_*"))),
    };
    let alpha = match image.alpha {
        BYOL_ALPHA_STRAIGHT => Alpha::Straight,
        BYOL_ALPHA_PREMULTIPLIED => Alpha::Premultiplied,
        other => return Err(Fault::argument(format_args!("image.alpha is {other}, no BYOL_ALPHA_*"))),
    };
    let orientation = match u8::try_from(image.orientation).ok().map(|number| Orientation::from_exif(number.max(1))) {
        Some(Some(orientation)) => orientation,
        _ => return Err(Fault::argument(format_args!("image.orientation is {}, not 0 to 8", image.orientation))),
    };
    if image.data.is_null() {
        return Err(Fault::null("image.data"));
    }
    let width = image.width as usize;
    let stride = match image.stride {
        0 if matches!(format, PixelFormat::Nv12 | PixelFormat::Nv12Full) => width.next_multiple_of(2),
        0 => width * format.bytes(),
        stride => stride,
    };
    // SAFETY: the caller's pointer, checked.
    let data = unsafe { pointer::slice(image.data, image.data_len, "image.data") }?;
    let whole = PictureView::new(format, width, image.height as usize, stride, data)?;
    let region = [image.region_x, image.region_y, image.region_width, image.region_height].map(|v| v as usize);
    let part = match region {
        [0, 0, 0, 0] => whole,
        [x, y, width, height] => whole.region(x, y, width, height)?,
    };
    Ok(part.with_alpha(alpha).oriented(orientation))
}
