//! Features in fewer bytes: float16 (a half) or int8 (a quarter), to be kept in large numbers.
//!
//! - float16 keeps 11 significant bits: a relative error of at most 2^-11, for values from 6e-5 to 65504; what is larger
//!   becomes 65504.
//! - int8 has one scale per row, a 127th of the largest absolute value: `value = byte * scale`, with an error of at most
//!   half a scale. 0 stays 0, and bytes run from -127 to 127.

use half::f16;

/// One row as float16.
///
/// # Panics
/// If `out` is shorter than `row`.
pub fn to_f16(row: &[f32], out: &mut [f16]) {
    let most = f16::MAX.to_f32();
    for (out, &value) in out[..row.len()].iter_mut().zip(row) {
        *out = f16::from_f32(value.clamp(-most, most));
    }
}

/// One row as int8; gives its scale. A row of zeros has scale 0.
///
/// # Panics
/// If `out` is shorter than `row`.
pub fn to_i8(row: &[f32], out: &mut [i8]) -> f32 {
    let most = row.iter().fold(0f32, |most, value| most.max(value.abs()));
    let scale = most / 127.0;
    // Too small for a scale of full precision: nothing that an encoder gives.
    let scale = if scale < f32::MIN_POSITIVE { 0.0 } else { scale };
    for (out, &value) in out[..row.len()].iter_mut().zip(row) {
        *out = if scale > 0.0 { (value / scale).round_ties_even() as i8 } else { 0 };
    }
    scale
}

/// A row back from float16.
///
/// # Panics
/// If `out` is shorter than `row`.
pub fn from_f16(row: &[f16], out: &mut [f32]) {
    for (out, value) in out[..row.len()].iter_mut().zip(row) {
        *out = value.to_f32();
    }
}

/// A row back from int8.
///
/// # Panics
/// If `out` is shorter than `row`.
pub fn from_i8(row: &[i8], scale: f32, out: &mut [f32]) {
    for (out, &value) in out[..row.len()].iter_mut().zip(row) {
        *out = f32::from(value) * scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_unpacked_is_as_near_as_promised() {
        let row: Vec<f32> = (0..1000).map(|i| ((i * 7919) % 2003) as f32 / 150.0 - 6.5).collect();
        let (mut half, mut byte, mut back) = (vec![f16::ZERO; 1000], vec![0i8; 1000], vec![0f32; 1000]);
        to_f16(&row, &mut half);
        from_f16(&half, &mut back);
        for (value, back) in row.iter().zip(&back) {
            assert!((value - back).abs() <= value.abs() / 2048.0 + 6e-8, "{value} {back}");
        }
        let scale = to_i8(&row, &mut byte);
        from_i8(&byte, scale, &mut back);
        for (value, back) in row.iter().zip(&back) {
            assert!((value - back).abs() <= 0.5001 * scale, "{value} {back}");
        }
        assert_eq!(byte.iter().map(|v| v.unsigned_abs()).max(), Some(127));
    }

    #[test]
    fn zeros_stay_zeros_and_what_is_too_large_is_cut_off() {
        let (mut byte, mut half, mut back) = ([1i8; 3], [f16::ONE; 2], [1f32; 3]);
        assert_eq!(to_i8(&[0.0, -0.0, 1e-42], &mut byte), 0.0);
        from_i8(&byte, 0.0, &mut back);
        assert_eq!(back, [0.0; 3]);
        to_f16(&[1e9, -1e9], &mut half);
        assert_eq!(half, [f16::MAX, f16::MIN]);
    }
}
