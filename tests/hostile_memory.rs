//! Pictures that would cost memory or time beyond their size, in a process of their own: its largest resident set and the
//! time of each are bounded by the limits, not by what the files announce or unfold to.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "a test may fail")]

mod support;

use byol_model::Error;
use byol_model::picture::{InputContract, Limits, Picture, PictureView, PixelFormat};
use image::{DynamicImage, ImageFormat, RgbImage};
use std::io::{Cursor, Write};
use std::time::{Duration, Instant};
use support::status_kib;

/// Of one decoder: 4 bytes for each of 10^6 pixels, and as much for what it keeps beside.
const ROOM_KIB: u64 = 64 << 10;
const LIMITS: Limits = Limits { max_pixels: 1_000_000, max_file_bytes: 256 << 20 };

/// Starts the peak anew, at what is resident now.
fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}

/// Decodes within the bounds, and gives what came of it.
fn bounded(what: &str, bytes: &[u8]) -> Result<Picture, Error> {
    forget_peak();
    let (before, began) = (status_kib("VmHWM"), Instant::now());
    let picture = Picture::decode(bytes, &LIMITS, what);
    let (grown, took) = (status_kib("VmHWM").saturating_sub(before), began.elapsed());
    assert!(grown < ROOM_KIB, "{what}: {grown} KiB");
    assert!(took < Duration::from_secs(20), "{what}: {took:?}");
    if let Err(error) = &picture {
        let typed = matches!(error, Error::Decode { .. } | Error::Limit { .. });
        assert!(typed && error.to_string().contains(what), "{what}: {error:?}");
    }
    picture
}

fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let pixel = |x: u32, y: u32| image::Rgb([(x * 7) as u8, (y * 5) as u8, (x ^ y) as u8]);
    let picture = DynamicImage::ImageRgb8(RgbImage::from_fn(width, height, pixel));
    picture.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
    bytes
}

fn deflated(zeros: usize) -> Vec<u8> {
    let mut zlib = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    let block = vec![0; 1 << 16];
    (0..zeros.div_ceil(block.len())).for_each(|_| zlib.write_all(&block).unwrap());
    zlib.finish().unwrap()
}

fn chunk(out: &mut Vec<u8>, kind: &[u8; 4], data: &[u8]) {
    out.extend((data.len() as u32).to_be_bytes());
    let mut crc = flate2::Crc::new();
    crc.update(kind);
    crc.update(data);
    out.extend(kind);
    out.extend(data);
    out.extend(crc.sum().to_be_bytes());
}

/// A PNG of `width` x `height` with further chunks before its pixels, which unfold to `zeros` bytes.
fn png(width: u32, height: u32, further: &[(&[u8; 4], Vec<u8>)], zeros: usize) -> Vec<u8> {
    let mut out = b"\x89PNG\r\n\x1a\n".to_vec();
    let mut header = [width.to_be_bytes(), height.to_be_bytes()].concat();
    header.extend([8, 2, 0, 0, 0]);
    chunk(&mut out, b"IHDR", &header);
    further.iter().for_each(|(kind, data)| chunk(&mut out, kind, data));
    chunk(&mut out, b"IDAT", &deflated(zeros));
    chunk(&mut out, b"IEND", &[]);
    out
}

/// A progressive JPEG of `size` x `size`, gray, with `scans` scans that each say nothing of every block.
fn jpeg_of_scans(size: u16, scans: usize) -> Vec<u8> {
    let segment = |out: &mut Vec<u8>, marker: u8, data: &[u8]| {
        out.extend([0xff, marker]);
        out.extend((data.len() as u16 + 2).to_be_bytes());
        out.extend(data);
    };
    let mut out = vec![0xff, 0xd8];
    segment(&mut out, 0xdb, &[&[0][..], &[1; 64]].concat());
    let [high, low] = size.to_be_bytes();
    segment(&mut out, 0xc2, &[8, high, low, high, low, 1, 1, 0x11, 0]);
    // One code of one bit in each table: no difference (DC), and "end of 2^14 blocks and so many more" (AC).
    segment(&mut out, 0xc4, &[&[0x00, 1], &[0; 15][..], &[0x00]].concat());
    segment(&mut out, 0xc4, &[&[0x10, 1], &[0; 15][..], &[0xe0]].concat());
    segment(&mut out, 0xda, &[1, 1, 0x00, 0, 0, 0x00]);
    let blocks = usize::from(size.div_ceil(8)).pow(2);
    out.extend(vec![0; blocks.div_ceil(8)]);
    for _ in 0..scans {
        segment(&mut out, 0xda, &[1, 1, 0x00, 1, 63, 0x00]);
        out.extend([0; 64]);
    }
    out.extend([0xff, 0xd9]);
    out
}

#[test]
fn what_pictures_announce_or_unfold_to_does_not_decide_memory_or_time() {
    // Warm: tables and buffers that live on.
    for format in [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP, ImageFormat::Gif, ImageFormat::Tiff] {
        bounded("small", &encoded(100, 100, format)).unwrap();
    }
    // The measurement sees what it is to see.
    forget_peak();
    let before = status_kib("VmHWM");
    std::hint::black_box(vec![1u8; 100 << 20]);
    assert!(status_kib("VmHWM") - before > 90 << 10, "the peak is not measured");

    // Sizes that are announced: more than the limit, at most the limit with nothing behind.
    for (width, height) in [(65_535, 65_535), (1 << 20, 1 << 20), (u32::MAX >> 1, 2), (1, 1 << 30)] {
        assert!(bounded("announced", &png(width, height, &[], 1 << 16)).is_err());
    }
    assert!(bounded("empty million", &png(1000, 1000, &[], 1 << 10)).is_err());
    // 512 MiB behind 100 x 100 pixels, 2.3 MB of file.
    let _ = bounded("unfolding pixels", &png(100, 100, &[], 512 << 20));
    // The same in what goes beside the pixels: a profile, and a text.
    let profile = [b"icc\0\0".to_vec(), deflated(512 << 20)].concat();
    let _ = bounded("unfolding profile", &png(100, 100, &[(b"iCCP", profile)], 30_100));
    let text = [b"Comment\0\0".to_vec(), deflated(512 << 20)].concat();
    let _ = bounded("unfolding text", &png(100, 100, &[(b"zTXt", text)], 30_100));
    // Every scan of a progressive JPEG goes over all blocks again.
    let plain = bounded("one scan", &jpeg_of_scans(1000, 1)).unwrap();
    assert_eq!((plain.width, plain.height, plain.channels), (1000, 1000, 1));
    let _ = bounded("scans", &jpeg_of_scans(1000, 20_000));
    // A size written over in a header: BMP at 18, GIF at 6 (screen), TIFF's is found by its tag, JPEG's by its marker.
    let mut bmp = encoded(10, 10, ImageFormat::Bmp);
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    assert!(bounded("bmp", &bmp).is_err());
    let mut gif = encoded(10, 10, ImageFormat::Gif);
    gif[6..10].fill(0xff);
    assert!(bounded("gif", &gif).is_err());
    let mut jpeg = encoded(10, 10, ImageFormat::Jpeg);
    let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
    jpeg[frame + 5..frame + 9].fill(0xff);
    assert!(bounded("jpeg", &jpeg).is_err());
    let mut tiff = encoded(10, 10, ImageFormat::Tiff);
    for tag in [256u16, 257] {
        // Tag, type LONG (4) or SHORT (3), count 1.
        let at = tiff.windows(2).rposition(|w| w == tag.to_le_bytes()).unwrap();
        tiff[at + 8..at + 10].fill(0xff);
    }
    assert!(bounded("tiff", &tiff).is_err());
}

/// The resizer's coefficients and intermediate rows grow with the picture's longest side, which the limit does not bound
/// alone.
#[test]
fn lines_of_pixels_are_prepared_in_bounded_time() {
    let contract = InputContract::square(3, 224);
    let mut out = vec![0; contract.bytes()];
    let pixels = vec![77; 65_535 * 3];
    for (width, height) in [(1, 65_535), (65_535, 1)] {
        let view = PictureView::new(PixelFormat::Rgb8, width, height, width * 3, &pixels).unwrap();
        let began = Instant::now();
        let done = contract.prepare(view, &mut out);
        assert!(matches!(done, Ok(()) | Err(Error::View { .. })), "{done:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
        if done.is_ok() {
            assert!(out.iter().all(|&v| v == 77), "a plain picture stays plain");
        }
    }
}
