//! Second moments of many rows in whole numbers: twice the multiplications of float32 in as many instructions, on processors
//! that have one for it (AVX-512 VNNI).
//!
//! Rows, times the roots of their weights, are rounded to 12 bits and a sign, each column by its own largest value. Products of
//! some rows are added up exactly, and these sums in float32. What comes out is, but for that, the matrix of the rounded
//! rows: positive, and off by what a noise of a 10,000th of each column's range would do.

use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::vnni::{Vnni, per_unit};

/// Rows whose products are added up at once, and the largest number that they are rounded to: 256 * 2895^2 < 2^31.
const TOGETHER: usize = 256;
const LARGEST: f32 = 2895.0;
/// Rows and columns of the result that sums are held of at once.
const ROWS: usize = 8;
const COLUMNS: usize = 48;
/// Rows of the result that one task makes.
const STRIPE: usize = 128;
/// Fewer rows or columns are not worth it.
const FEWEST: usize = 256;

/// Adds to the upper triangle of `out` `[width, width]` the weighted sum of rows times themselves turned over; some of what is
/// below changes too. False, and nothing is done, where it does not pay or a weight is negative.
///
/// # Errors
/// Cancelled or past the deadline.
pub fn add(
    out: &mut [f32],
    rows: &[f32],
    width: usize,
    weighted: &[(u32, f32)],
    parallel: bool,
    cancel: &Cancel,
) -> Result<bool> {
    let few = width < FEWEST || weighted.len() < FEWEST;
    let Some(kernels) = Vnni::new().filter(|_| !few && weighted.iter().all(|&(_, weight)| weight >= 0.0)) else {
        return Ok(false);
    };
    let row = |&(row, weight): &(u32, f32)| (&rows[row as usize * width..][..width], weight.sqrt());
    let mut largest = vec![0f32; width];
    weighted.iter().map(row).for_each(|(x, root)| kernels.reach(x, root, &mut largest));
    let per_unit = per_unit(&largest, LARGEST);
    let unit: Vec<f32> = largest.iter().map(|most| most / LARGEST).collect();
    let padded = width.next_multiple_of(COLUMNS);
    // An odd number of cache lines: rows then do not all fall on the same places of a cache.
    let step = if (padded / 16).is_multiple_of(2) { padded + 16 } else { padded };
    let mut panel = vec![0u32; TOGETHER / 2 * step];
    for together in weighted.chunks(TOGETHER) {
        cancel.check()?;
        let round = |(panel, pair): (&mut [u32], &[(u32, f32)])| match pair {
            [first, second] => kernels.pair(row(first), row(second), &per_unit, panel),
            _ => kernels.pair(row(&pair[0]), (row(&pair[0]).0, 0.0), &per_unit, panel),
        };
        let panel = &mut panel[..together.len().div_ceil(2) * step];
        if parallel {
            panel.par_chunks_mut(step).zip(together.par_chunks(2)).for_each(round);
        } else {
            panel.chunks_mut(step).zip(together.chunks(2)).for_each(round);
        }
        let stripe = |(index, out): (usize, &mut [f32])| kernels.stripe(panel, step, &unit, index * STRIPE, out);
        if parallel {
            out.par_chunks_mut(STRIPE * width).enumerate().for_each(stripe);
        } else {
            out.chunks_mut(STRIPE * width).enumerate().for_each(stripe);
        }
    }
    Ok(true)
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of this processor, whose features were found before any of it is called")]
mod kernels {
    use std::arch::x86_64::{
        __m512i, _mm512_abs_ps, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_dpwssd_epi32,
        _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_mul_ps, _mm512_or_si512,
        _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_slli_epi32, _mm512_storeu_ps,
        _mm512_storeu_si512,
    };

    use super::{COLUMNS, ROWS};
    use crate::vnni::{LANES, Vnni};

    const VECTORS: usize = COLUMNS / LANES;

    impl Vnni {
        /// Makes `largest` reach a row's values times `root`.
        pub fn reach(self, x: &[f32], root: f32, largest: &mut [f32]) {
            // SAFETY: only where `new` found the features is there a `self`; this holds for all below.
            unsafe { reach(x, root, largest) }
        }

        /// Two rows times their roots, rounded.
        pub fn pair(self, first: (&[f32], f32), second: (&[f32], f32), per_unit: &[f32], out: &mut [u32]) {
            // SAFETY: see above.
            unsafe { pair(first, second, per_unit, out) }
        }

        /// Adds to `out`, rows of the result from `first` on, what the pairs of a panel, `step` apart, have on and above the
        /// diagonal.
        pub fn stripe(self, panel: &[u32], step: usize, unit: &[f32], first: usize, out: &mut [f32]) {
            // SAFETY: see above.
            unsafe { stripe(panel, step, unit, first, out) }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn reach(x: &[f32], root: f32, largest: &mut [f32]) {
        let ((x, rest_x), (largest, rest)) = (x.as_chunks::<LANES>(), largest.as_chunks_mut::<LANES>());
        let roots = _mm512_set1_ps(root);
        for (x, largest) in x.iter().zip(largest) {
            // SAFETY: as many numbers.
            unsafe {
                let size = _mm512_abs_ps(_mm512_mul_ps(_mm512_loadu_ps(x.as_ptr()), roots));
                _mm512_storeu_ps(largest.as_mut_ptr(), _mm512_max_ps(_mm512_loadu_ps(largest.as_ptr()), size));
            }
        }
        rest.iter_mut().zip(rest_x).for_each(|(largest, x)| *largest = largest.max((x * root).abs()));
    }

    #[target_feature(enable = "avx512f")]
    fn pair((a, of_a): (&[f32], f32), (b, of_b): (&[f32], f32), per_unit: &[f32], out: &mut [u32]) {
        let (of_a, of_b) = (_mm512_set1_ps(of_a), _mm512_set1_ps(of_b));
        let both = |a: &[f32; LANES], b: &[f32; LANES], per_unit: &[f32; LANES], out: &mut [u32; LANES]| {
            // SAFETY: as many numbers.
            unsafe {
                let per_unit = _mm512_loadu_ps(per_unit.as_ptr());
                let a = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(a.as_ptr()), of_a), per_unit);
                let b = _mm512_mul_ps(_mm512_mul_ps(_mm512_loadu_ps(b.as_ptr()), of_b), per_unit);
                let low = _mm512_and_si512(_mm512_cvtps_epi32(a), _mm512_set1_epi32(0xffff));
                let pair = _mm512_or_si512(low, _mm512_slli_epi32::<16>(_mm512_cvtps_epi32(b)));
                _mm512_storeu_si512(out.as_mut_ptr().cast(), pair);
            }
        };
        let ((a, rest_a), (b, rest_b)) = (a.as_chunks::<LANES>(), b.as_chunks::<LANES>());
        let ((per_unit, rest_unit), out) = (per_unit.as_chunks::<LANES>(), out.as_chunks_mut::<LANES>().0);
        for (((a, b), per_unit), out) in a.iter().zip(b).zip(per_unit).zip(out.iter_mut()) {
            both(a, b, per_unit, out);
        }
        if !rest_a.is_empty() {
            let padded = |rest: &[f32]| {
                let mut all = [0f32; LANES];
                all[..rest.len()].copy_from_slice(rest);
                all
            };
            both(&padded(rest_a), &padded(rest_b), &padded(rest_unit), &mut out[per_unit.len()]);
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn stripe(panel: &[u32], step: usize, unit: &[f32], first: usize, out: &mut [f32]) {
        let width = unit.len();
        let rows = out.len() / width;
        for column in (first / COLUMNS * COLUMNS..width).step_by(COLUMNS) {
            for row in (0..rows).step_by(ROWS) {
                if first + row > column + COLUMNS {
                    break;
                }
                let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
                for pair in panel.chunks_exact(step) {
                    let right: &[[u32; LANES]; VECTORS] =
                        &pair[column..column + COLUMNS].as_chunks().0.as_chunks().0[0];
                    let left: &[u32; ROWS] = &pair[first + row..first + row + ROWS].as_chunks().0[0];
                    let mut vectors = [_mm512_setzero_si512(); VECTORS];
                    for v in 0..VECTORS {
                        // SAFETY: as many bits.
                        vectors[v] = unsafe { _mm512_loadu_si512(right[v].as_ptr().cast()) };
                    }
                    for r in 0..ROWS {
                        let left: __m512i = _mm512_set1_epi32(left[r].cast_signed());
                        for v in 0..VECTORS {
                            sums[r][v] = _mm512_dpwssd_epi32(sums[r][v], left, vectors[v]);
                        }
                    }
                }
                for (r, sums) in sums.iter().enumerate().take(rows - row) {
                    let of_row = _mm512_set1_ps(unit[first + row + r]);
                    let out = &mut out[(row + r) * width + column..(row + r + 1) * width];
                    for ((out, unit), sum) in out.chunks_mut(LANES).zip(unit[column..].chunks(LANES)).zip(sums) {
                        let sum = _mm512_mul_ps(_mm512_cvtepi32_ps(*sum), of_row);
                        // SAFETY: as many numbers.
                        unsafe {
                            if out.len() == LANES {
                                let old = _mm512_loadu_ps(out.as_ptr());
                                let new = _mm512_fmadd_ps(sum, _mm512_loadu_ps(unit.as_ptr()), old);
                                _mm512_storeu_ps(out.as_mut_ptr(), new);
                            } else {
                                let mut sums = [0f32; LANES];
                                _mm512_storeu_ps(sums.as_mut_ptr(), sum);
                                out.iter_mut().zip(unit).zip(sums).for_each(|((out, u), sum)| *out += sum * u);
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod kernels {
    use crate::vnni::Vnni;

    impl Vnni {
        pub fn reach(self, _: &[f32], _: f32, _: &mut [f32]) {
            match self.0 {}
        }

        pub fn pair(self, _: (&[f32], f32), _: (&[f32], f32), _: &[f32], _: &mut [u32]) {
            match self.0 {}
        }

        pub fn stripe(self, _: &[u32], _: usize, _: &[f32], _: usize, _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_the_rows_but_for_rounding() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for (rows, width) in [(300, 256), (257, 290), (900, 301)] {
            // Columns of different sizes, one of nothing; some rows are left out, others weigh more.
            let size = |k: usize| if k == 7 { 0.0 } else { 10f32.powi(k as i32 % 9 - 4) };
            let x: Vec<f32> = (0..rows * width).map(|i| size(i % width) * (random() + 0.2)).collect();
            let weighted: Vec<(u32, f32)> = (0..rows as u32).map(|row| (row, (row % 5) as f32)).collect();
            let start: Vec<f32> = (0..width * width).map(|i| (i % 3) as f32).collect();
            let mut out = start.clone();
            let done = add(&mut out, &x, width, &weighted, false, &Cancel::new()).unwrap();
            #[cfg(target_arch = "x86_64")]
            assert_eq!(done, is_x86_feature_detected!("avx512vnni"));
            if !done {
                return;
            }
            for i in 0..width {
                for j in i..width {
                    let wanted: f64 = (0..rows)
                        .map(|row| f64::from(weighted[row].1 * x[row * width + i]) * f64::from(x[row * width + j]))
                        .sum();
                    let found = f64::from(out[i * width + j]) - f64::from(start[i * width + j]);
                    let most = f64::from(size(i) * size(j)) * rows as f64;
                    let float32 = 1e-6 * f64::from(start[i * width + j]);
                    assert!((found - wanted).abs() <= 1e-3 * most + float32, "{i}, {j}: {found} for {wanted}");
                }
            }
            let mut again = start.clone();
            assert!(add(&mut again, &x, width, &weighted, true, &Cancel::new()).unwrap());
            assert_eq!(out, again);
        }
        let (mut out, x) = (vec![0f32; 256 * 256], vec![1f32; 256 * 256]);
        let mut weighted: Vec<(u32, f32)> = (0..256).map(|row| (row, 1.0)).collect();
        weighted[9].1 = -1.0;
        assert!(!add(&mut out, &x, 256, &weighted, false, &Cancel::new()).unwrap());
        assert!(out.iter().all(|v| *v == 0.0));
    }
}
