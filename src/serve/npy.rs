//! NumPy's `.npy`: one array, a text header before raw values
//! (<https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html>, versions 1 to 3).
//!
//! Read: little- or big-endian floats of 2, 4 and 8 bytes, integers of 1 to 8 bytes, C or Fortran order.
//! Written: version 1, `<f4` or `<u4`, C order.

use std::path::Path;

use crate::atomic;
use crate::error::{Error, Result};

/// An array as it was read: every value as f64 (exact for all kinds but 64-bit integers beyond 2^53), C order.
pub struct Array {
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Whether the file held integers.
    pub integers: bool,
    /// The values, last index fastest.
    pub values: Vec<f64>,
}

/// Reads an array.
///
/// # Errors
/// [`Error::Io`], or [`Error::Corrupt`] saying what is wrong with the header, the type or the length.
pub fn read(path: &Path) -> Result<Array> {
    let bytes = atomic::read(path, u64::MAX)?;
    parse(&bytes).map_err(|why| Error::corrupt(path, why))
}

/// Writes float32 values.
///
/// # Errors
/// [`Error::Io`] naming `path`.
pub fn write_f32(path: &Path, shape: &[usize], values: impl Iterator<Item = f32>) -> Result<()> {
    let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
    atomic::write(path, &[&header("<f4", shape), &data])
}

/// Writes unsigned 32-bit values.
///
/// # Errors
/// [`Error::Io`] naming `path`.
pub fn write_u32(path: &Path, values: &[u32]) -> Result<()> {
    let data: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    atomic::write(path, &[&header("<u4", &[values.len()]), &data])
}

const MAGIC: &[u8] = b"\x93NUMPY";

pub(crate) fn header(kind: &str, shape: &[usize]) -> Vec<u8> {
    let shape = match shape {
        [only] => format!("{only},"),
        sizes => sizes.iter().map(usize::to_string).collect::<Vec<_>>().join(", "),
    };
    let mut text = format!("{{'descr': '{kind}', 'fortran_order': False, 'shape': ({shape}), }}");
    // Magic, version and length take 10 bytes; the data starts at a multiple of 64.
    let padded = (10 + text.len() + 1).next_multiple_of(64) - 10;
    text.extend(std::iter::repeat_n(' ', padded - 1 - text.len()));
    text.push('\n');
    let mut bytes = MAGIC.to_vec();
    bytes.extend([1, 0]);
    bytes.extend((text.len() as u16).to_le_bytes());
    bytes.extend(text.as_bytes());
    bytes
}

/// What stands before the values.
pub(crate) struct Header {
    /// NumPy's name of their type.
    pub kind: String,
    /// Whether the first index is fastest.
    pub fortran: bool,
    /// Sizes, outermost first.
    pub shape: Vec<usize>,
    /// Where the values start.
    pub start: usize,
}

/// Reads a header from the file's first bytes.
pub(crate) fn parse_header(bytes: &[u8]) -> std::result::Result<Header, String> {
    let rest = bytes.strip_prefix(MAGIC).ok_or("not an .npy file: its first bytes are not \\x93NUMPY")?;
    let cut = || "cut off inside the header".to_string();
    let (&major, rest) = rest.split_first().ok_or_else(cut)?;
    let rest = rest.get(1..).ok_or_else(cut)?;
    let (length, rest) = match major {
        1 => rest.split_first_chunk().map(|(&n, rest)| (u16::from_le_bytes(n) as usize, rest)),
        2 | 3 => rest.split_first_chunk().map(|(&n, rest)| (u32::from_le_bytes(n) as usize, rest)),
        other => return Err(format!(".npy version {other} is unknown")),
    }
    .ok_or_else(cut)?;
    let text = rest.get(..length).ok_or_else(cut)?;
    let start = bytes.len() - rest.len() + length;
    let text = std::str::from_utf8(text).map_err(|_| "the header is not text")?;

    let kind =
        value_of(text, "descr").and_then(|value| value.strip_prefix(['\'', '"'])).ok_or("no 'descr' in the header")?;
    let kind: String = kind.chars().take_while(|c| !"'\"".contains(*c)).collect();
    let fortran = value_of(text, "fortran_order").ok_or("no 'fortran_order' in the header")?.starts_with("True");
    let shape = value_of(text, "shape").and_then(|value| value.strip_prefix('(')).ok_or("no 'shape' in the header")?;
    let (shape, _) = shape.split_once(')').ok_or("no 'shape' in the header")?;
    let shape = shape
        .split(',')
        .map(str::trim)
        .filter(|size| !size.is_empty())
        .map(|size| size.parse::<usize>().map_err(|_| format!("shape ({shape}) is not a list of sizes")))
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(Header { kind, fortran, shape, start })
}

fn parse(bytes: &[u8]) -> std::result::Result<Array, String> {
    let Header { kind, fortran, shape, start } = parse_header(bytes)?;
    let data = &bytes[start..];
    let (width, integers, decode) = decoder(&kind)?;
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size)).ok_or("the shape overflows")?;
    let needed = count.checked_mul(width).ok_or("the shape overflows")?;
    if data.len() != needed {
        return Err(format!("shape {shape:?} of {kind} needs {needed} bytes of data, found {}", data.len()));
    }
    let mut values: Vec<f64> = data.chunks_exact(width).map(decode).collect();
    if fortran && shape.len() > 1 {
        let [rows, columns] = shape[..] else { return Err("Fortran order is read for two dimensions only".into()) };
        values = (0..count).map(|i| values[i / columns + (i % columns) * rows]).collect();
    }
    Ok(Array { shape, integers, values })
}

/// What follows `'key':` in a header, which NumPy writes as a literal Python dict.
fn value_of<'a>(header: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = header.split_once(&format!("'{key}'"))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

type Decode = fn(&[u8]) -> f64;

/// Width in bytes, whether integer, and how one value is read.
fn decoder(kind: &str) -> std::result::Result<(usize, bool, Decode), String> {
    macro_rules! little {
        ($type:ty) => {
            |bytes| <$type>::from_le_bytes(bytes.try_into().unwrap_or_default()) as f64
        };
    }
    macro_rules! big {
        ($type:ty) => {
            |bytes| <$type>::from_be_bytes(bytes.try_into().unwrap_or_default()) as f64
        };
    }
    Ok(match kind {
        "<f2" => (2, false, |bytes| half(u16::from_le_bytes([bytes[0], bytes[1]]))),
        "<f4" => (4, false, little!(f32)),
        ">f4" => (4, false, big!(f32)),
        "<f8" => (8, false, little!(f64)),
        ">f8" => (8, false, big!(f64)),
        "|u1" | "|b1" => (1, true, little!(u8)),
        "|i1" => (1, true, little!(i8)),
        "<u2" => (2, true, little!(u16)),
        "<i2" => (2, true, little!(i16)),
        "<u4" => (4, true, little!(u32)),
        "<i4" => (4, true, little!(i32)),
        "<u8" => (8, true, little!(u64)),
        "<i8" => (8, true, little!(i64)),
        ">i8" => (8, true, big!(i64)),
        other => return Err(format!("values of type {other} are not numbers that this program reads")),
    })
}

/// IEEE 754 binary16.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let (exponent, fraction) = ((bits >> 10) & 31, f64::from(bits & 1023));
    sign * match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(i32::from(exponent) - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_starts_the_data_at_a_multiple_of_64_and_reads_back() {
        let mut bytes = header("<f4", &[2, 3]);
        assert_eq!(bytes.len() % 64, 0);
        bytes.extend([1f32, 2., 3., 4., 5., 6.].iter().flat_map(|v| v.to_le_bytes()));
        let array = parse(&bytes).unwrap();
        assert_eq!((array.shape, array.values), (vec![2, 3], vec![1., 2., 3., 4., 5., 6.]));
    }

    #[test]
    fn fortran_order_is_turned_and_big_endian_is_swapped() {
        let text = "{'descr': '>f8', 'fortran_order': True, 'shape': (2, 3), }\n";
        let mut bytes = MAGIC.to_vec();
        bytes.extend([1, 0]);
        bytes.extend((text.len() as u16).to_le_bytes());
        bytes.extend(text.as_bytes());
        bytes.extend([1f64, 4., 2., 5., 3., 6.].iter().flat_map(|v| v.to_be_bytes()));
        assert_eq!(parse(&bytes).unwrap().values, vec![1., 2., 3., 4., 5., 6.]);
    }

    #[test]
    fn half_precision_covers_normal_subnormal_and_special_values() {
        assert_eq!(half(0x3c00), 1.0);
        assert_eq!(half(0xc000), -2.0);
        assert_eq!(half(0x0001), 2f64.powi(-24));
        assert!(half(0x7c00).is_infinite() && half(0x7e00).is_nan());
    }

    #[test]
    fn every_truncation_is_an_error() {
        let mut bytes = header("<f4", &[2, 2]);
        bytes.extend([0; 16]);
        assert!(parse(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(parse(&bytes[..length]).is_err(), "{length} bytes were taken");
        }
    }
}
