//! Pictures in the host's memory: format, size, stride, length, region and rotation as they come, against a naive reading
//! of the same rules; then as a byol_image through byol_extract.
#![no_main]

mod host;

use byol_model::picture::{InputContract, PictureView, PixelFormat, Rotation};
use host::abi::*;
use host::{Block, DIMENSION, Input, error, promised};
use libfuzzer_sys::fuzz_target;

const FORMATS: [(PixelFormat, u32, usize, [usize; 3]); 6] = [
    (PixelFormat::Gray8, BYOL_FORMAT_GRAY8, 1, [0, 0, 0]),
    (PixelFormat::Rgb8, BYOL_FORMAT_RGB8, 3, [0, 1, 2]),
    (PixelFormat::Bgr8, BYOL_FORMAT_BGR8, 3, [2, 1, 0]),
    (PixelFormat::Rgba8, BYOL_FORMAT_RGBA8, 4, [0, 1, 2]),
    (PixelFormat::Bgra8, BYOL_FORMAT_BGRA8, 4, [2, 1, 0]),
    (PixelFormat::Rgbx8, BYOL_FORMAT_RGBX8, 4, [0, 1, 2]),
];

/// Whether such a picture is inside the bytes, in numbers that can't overflow.
fn fits(width: usize, height: usize, stride: usize, pixel: usize, length: usize) -> bool {
    let (row, stride) = (width as u128 * pixel as u128, stride as u128);
    (1..=65_535).contains(&width)
        && (1..=65_535).contains(&height)
        && stride >= row
        && stride * (height as u128 - 1) + row <= length as u128
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let (format, code, pixel, offsets) = FORMATS[usize::from(input.byte()) % FORMATS.len()];
    let (width, height, stride) = (input.number(), input.number(), input.number());
    let region = [input.number(), input.number(), input.number(), input.number()];
    let turns = usize::from(input.byte()) % 4;
    let rotation = [Rotation::None, Rotation::Quarter, Rotation::Half, Rotation::ThreeQuarters][turns];
    let how = input.byte();
    let data = input.0;

    let view = PictureView::new(format, width, height, stride, data);
    assert_eq!(view.is_ok(), fits(width, height, stride, pixel, data.len()));
    if let Ok(view) = view {
        look(view, data, [0, 0, width, height], stride, pixel, offsets, turns, rotation);
        let [x, y, w, h] = region;
        let inside =
            w > 0 && h > 0 && x as u128 + w as u128 <= width as u128 && y as u128 + h as u128 <= height as u128;
        let part = view.region(x, y, w, h);
        assert_eq!(part.is_ok(), inside);
        if let Ok(part) = part {
            look(part, data, region, stride, pixel, offsets, turns, rotation);
        }
    }
    through_c(code, [width, height, stride], pixel, data, how);
});

/// Compares a view with reading pixel after pixel.
#[allow(clippy::too_many_arguments, reason = "they are what is compared")]
fn look(
    view: PictureView<'_>,
    data: &[u8],
    [left, top, w, h]: [usize; 4],
    stride: usize,
    pixel: usize,
    offsets: [usize; 3],
    turns: usize,
    rotation: Rotation,
) {
    let view = view.rotated(rotation);
    let (wide, high) = if turns % 2 == 1 { (h, w) } else { (w, h) };
    assert_eq!((view.width(), view.height()), (wide, high));
    if wide * high > 1 << 16 {
        return;
    }
    let packed = view.packed(3).expect("three channels");
    assert_eq!(packed.len(), wide * high * 3);
    for to_y in 0..high {
        for to_x in 0..wide {
            // Where the pixel comes from, turning back.
            let (x, y) = match turns {
                0 => (to_x, to_y),
                1 => (to_y, h - 1 - to_x),
                2 => (w - 1 - to_x, h - 1 - to_y),
                _ => (w - 1 - to_y, to_x),
            };
            let at = (top + y) * stride + (left + x) * pixel;
            let expected = offsets.map(|offset| data[at + offset]);
            assert_eq!(packed[(to_y * wide + to_x) * 3..][..3], expected);
        }
    }
    assert_eq!(view.packed(1).expect("one channel").len(), wide * high);
    let contract = InputContract::square(3, 4);
    let mut out = vec![0; contract.bytes()];
    contract.prepare(view, &mut out).expect("every view can be prepared");
}

fn through_c(format: u32, [width, height, stride]: [usize; 3], pixel: usize, data: &[u8], how: u8) {
    let (Ok(width), Ok(height)) = (u32::try_from(width), u32::try_from(height)) else { return };
    let memory = Block::of(data);
    let image = byol_image {
        struct_size: size_of::<byol_image>() as u32,
        format: if how & 1 == 0 { format } else { u32::from(how) },
        width,
        height,
        stride,
        data: if how & 2 == 0 { memory.pointer() } else { std::ptr::null() },
        data_len: data.len(),
        ..Default::default()
    };
    let count = usize::from(how >> 6).min(2);
    let images = [image; 2];
    let whole = if stride == 0 { width as usize * pixel } else { stride };
    let good = image.format == format
        && !image.data.is_null()
        && fits(width as usize, height as usize, whole, pixel, data.len());
    // Room for the features, a gap between the rows, and no byte more than is needed.
    let mut features = Block::new(&[], 4 * (2 * DIMENSION + 1), 0);
    features.all().fill(0x7f);
    let stride = if how & 4 == 0 { 0 } else { DIMENSION + 1 };
    let length = if how & 8 == 0 { 2 * DIMENSION + 1 } else { DIMENSION };
    let mut status = [BYOL_E_PANIC; 2];
    let statuses = if how & 16 == 0 { std::ptr::null_mut() } else { status.as_mut_ptr() };
    let mut error = error();
    // SAFETY: all pointers are valid for as much as is said, or NULL.
    let code = unsafe {
        byol_extract(
            host::encoder(),
            images.as_ptr(),
            count,
            std::ptr::null(),
            features.pointer(),
            stride,
            length,
            statuses,
            byol_cancel { id: 0 },
            &raw mut error,
        )
    };
    promised(code, &error, &[BYOL_E_INVALID_ARG, BYOL_E_NULL_POINTER, BYOL_E_BUFFER_TOO_SMALL]);
    let enough = length >= if count == 2 { stride.max(DIMENSION) + DIMENSION } else { count * DIMENSION };
    let expected = enough && (good || count == 0 || !statuses.is_null());
    assert_eq!(code == BYOL_OK, expected, "{}", host::message(&error));
    let written = features.all().chunks_exact(4).map(|value| value != [0x7f; 4]).collect::<Vec<_>>();
    if !expected || !good {
        assert!(!written.contains(&true), "outputs are written only on success");
    } else if count == 2 && stride > DIMENSION {
        assert!(!written[DIMENSION], "what lies between the rows is left alone");
    }
    if code == BYOL_OK && !statuses.is_null() {
        assert!(status[..count].iter().all(|&status| (status == BYOL_OK) == good));
    }
}
