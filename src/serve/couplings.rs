//! What pairs of classes and pairs of directions have in common, over all rows, in whole numbers, on processors that have an
//! instruction for it (AVX-512 VNNI): for the Hessian of [`crate::precondition`], where most pairs count in most rows.
//!
//! A row's values are rounded to 7 bits and a sign, each column by its own largest value, and the products of two are exact; how
//! much a pair of classes counts in a row is rounded to a 1,000th of the most that it counts in any, and its sum put right. Sums over
//! some rows are exact too. What comes out is off by what noise of a 400th of each column's range would do, ten times less than a
//! sample's own.

use pulp::Arch;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::vnni::{LANES, Vnni, per_unit};

/// Rows whose products are added up at once, and the largest numbers that values and shares are rounded to:
/// 128 * 127^2 * 1000 < 2^31.
const TOGETHER: usize = 128;
const LARGEST: f32 = 127.0;
const LARGEST_SHARE: f32 = 1000.0;
/// Pairs of columns, and of classes, that sums are held of at once.
const ROWS: usize = 8;
const COLUMNS: usize = 48;
/// Fewer pairs of classes are not worth it.
const FEWEST: usize = 24;
/// Farthest that a value may be out, of its column's root mean square: that is 4 units then.
const FARTHEST: f32 = 32.0;

/// Sums over rows of a row's product of two columns and its share of a pair of classes: `[pairs of columns, step]`.
pub struct Couplings {
    /// How far apart the pairs of columns are.
    pub step: usize,
    /// The sums, columns in the order of a triangle's rows.
    pub sums: Vec<f32>,
}

/// Of `rows` of `width` values, and of each row's `shares` of all pairs of classes, none below 0. None where it does not pay.
///
/// # Errors
/// Cancelled or past the deadline.
pub fn couplings(
    rows: &[f32],
    width: usize,
    shares: &[f32],
    pairs: usize,
    cancel: &Cancel,
) -> Result<Option<Couplings>> {
    let Some(kernels) = Vnni::new().filter(|_| pairs >= FEWEST) else { return Ok(None) };
    let mut largest = vec![0f32; width];
    rows.chunks_exact(width).for_each(|row| kernels.reach(row, 1.0, &mut largest));
    // A row far out leaves nothing of the others.
    let mut squares = vec![0f32; width];
    Arch::new().dispatch(|| {
        for row in rows.chunks_exact(width) {
            squares.iter_mut().zip(row).for_each(|(sum, v)| *sum += v * v);
        }
    });
    let count = (rows.len() / width) as f32;
    let far = |(most, square): (&f32, &f32)| most * most * count > FARTHEST * FARTHEST * square;
    if largest.iter().zip(&squares).any(far) {
        return Ok(None);
    }
    let to_units = per_unit(&largest, LARGEST);
    let unit = |k: usize| largest[k] / LARGEST;
    let columns = (0..width).flat_map(|i| (i..width).map(move |j| (i, j)));
    let units: Vec<f32> = columns.map(|(i, j)| unit(i) * unit(j)).collect();
    let triangle = units.len();
    let step = pairs.next_multiple_of(COLUMNS);
    let mut most = vec![0f32; pairs];
    shares.chunks_exact(pairs).for_each(|shares| kernels.reach(shares, 1.0, &mut most));
    let per_share = per_unit(&most, LARGEST_SHARE);
    let (mut exact, mut whole) = (vec![0f32; pairs], vec![0f32; pairs]);
    Arch::new().dispatch(|| {
        for shares in shares.chunks_exact(pairs) {
            let sums = exact.iter_mut().zip(&mut whole).zip(&per_share);
            for (((exact, whole), per_share), share) in sums.zip(shares) {
                *exact += share;
                *whole += (share * per_share).round_ties_even();
            }
        }
    });
    let share = |(exact, whole): (&f32, &f32)| if *whole > 0.0 { exact / whole } else { 0.0 };
    let mut of_shares: Vec<f32> = exact.iter().zip(&whole).map(share).collect();
    of_shares.resize(step, 0.0);
    let mut sums = vec![0f32; triangle * step];
    // Beyond the last of a pair of rows, where whole vectors end.
    let (of_row, of_pair) = ((width + LANES).next_multiple_of(LANES), (triangle + LANES).next_multiple_of(LANES));
    let mut row = vec![0u32; of_row];
    let (mut products, mut rounded) = (vec![0u32; TOGETHER / 2 * of_pair], vec![0u32; TOGETHER / 2 * step]);
    for (rows, shares) in rows.chunks(TOGETHER * width).zip(shares.chunks(TOGETHER * pairs)) {
        cancel.check()?;
        let two = rows.chunks(2 * width).zip(shares.chunks(2 * pairs));
        let out = products.chunks_exact_mut(of_pair).zip(rounded.chunks_exact_mut(step));
        for ((x, shares), (products, rounded)) in two.zip(out) {
            // Of an odd one out the second is nothing.
            let last = x.len() == width;
            let (x2, factor) = if last { (x, 0.0) } else { (&x[width..], 1.0) };
            kernels.pair((&x[..width], 1.0), (&x2[..width], factor), &to_units, &mut row);
            kernels.products(&row, width, products);
            let shares2 = if last { shares } else { &shares[pairs..] };
            kernels.pair((&shares[..pairs], 1.0), (&shares2[..pairs], factor), &per_share, rounded);
        }
        let used = (rows.len() / width).div_ceil(2);
        kernels.couple(
            (&products[..used * of_pair], of_pair),
            (&rounded[..used * step], step),
            (&units, &of_shares),
            &mut sums,
        );
    }
    Ok(Some(Couplings { step, sums }))
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of this processor, whose features were found before any of it is called")]
mod kernels {
    use std::arch::x86_64::{
        _mm512_cvtepi32_ps, _mm512_dpwssd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mul_ps,
        _mm512_mullo_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps,
        _mm512_storeu_si512,
    };

    use super::{COLUMNS, ROWS};
    use crate::vnni::{LANES, Vnni};

    const VECTORS: usize = COLUMNS / LANES;

    impl Vnni {
        /// The products of all pairs of columns of two rows, `out` as long as these and a vector more.
        pub fn products(self, row: &[u32], width: usize, out: &mut [u32]) {
            // SAFETY: only where `new` found the features is there a `self`; this holds for all below.
            unsafe { products(row, width, out) }
        }

        /// Adds to `out` the products of both, each of as many pairs of rows with its step.
        pub fn couple(self, left: (&[u32], usize), right: (&[u32], usize), units: (&[f32], &[f32]), out: &mut [f32]) {
            // SAFETY: see above.
            unsafe { couple(left, right, units, out) }
        }
    }

    #[target_feature(enable = "avx512f,avx512bw")]
    fn products(row: &[u32], width: usize, out: &mut [u32]) {
        let mut start = 0;
        for i in 0..width {
            let own = _mm512_set1_epi32(row[i].cast_signed());
            for j in (i..width).step_by(LANES) {
                let (from, to) = (&row[j..j + LANES], &mut out[start + j - i..start + j - i + LANES]);
                // SAFETY: as many numbers. What is beyond the last is written over by what follows.
                unsafe {
                    let product = _mm512_mullo_epi16(own, _mm512_loadu_si512(from.as_ptr().cast()));
                    _mm512_storeu_si512(to.as_mut_ptr().cast(), product);
                }
            }
            start += width - i;
        }
    }

    #[target_feature(enable = "avx512f,avx512vnni")]
    fn couple(left: (&[u32], usize), right: (&[u32], usize), units: (&[f32], &[f32]), out: &mut [f32]) {
        let ((units, of_shares), step) = (units, right.1);
        for column in (0..step).step_by(COLUMNS) {
            for first in (0..units.len()).step_by(ROWS) {
                let mut sums = [[_mm512_setzero_si512(); VECTORS]; ROWS];
                for (left, right) in left.0.chunks_exact(left.1).zip(right.0.chunks_exact(step)) {
                    let left: &[u32; ROWS] = &left[first..first + ROWS].as_chunks().0[0];
                    let right: &[[u32; LANES]; VECTORS] =
                        &right[column..column + COLUMNS].as_chunks().0.as_chunks().0[0];
                    let mut vectors = [_mm512_setzero_si512(); VECTORS];
                    for v in 0..VECTORS {
                        // SAFETY: as many bits.
                        vectors[v] = unsafe { _mm512_loadu_si512(right[v].as_ptr().cast()) };
                    }
                    for r in 0..ROWS {
                        let left = _mm512_set1_epi32(left[r].cast_signed());
                        for v in 0..VECTORS {
                            sums[r][v] = _mm512_dpwssd_epi32(sums[r][v], left, vectors[v]);
                        }
                    }
                }
                let out = out[first * step..].chunks_mut(step);
                for ((sums, unit), out) in sums.iter().zip(&units[first..]).zip(out) {
                    let unit = _mm512_set1_ps(*unit);
                    let out = out[column..column + COLUMNS].as_chunks_mut::<LANES>().0;
                    let of_shares = of_shares[column..column + COLUMNS].as_chunks::<LANES>().0;
                    for ((sum, of_shares), out) in sums.iter().zip(of_shares).zip(out) {
                        // SAFETY: as many numbers.
                        unsafe {
                            let unit = _mm512_mul_ps(unit, _mm512_loadu_ps(of_shares.as_ptr()));
                            let new = _mm512_fmadd_ps(_mm512_cvtepi32_ps(*sum), unit, _mm512_loadu_ps(out.as_ptr()));
                            _mm512_storeu_ps(out.as_mut_ptr(), new);
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
        pub fn products(self, _: &[u32], _: usize, _: &mut [u32]) {
            match self.0 {}
        }

        pub fn couple(self, _: (&[u32], usize), _: (&[u32], usize), _: (&[f32], &[f32]), _: &mut [f32]) {
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
        for (rows, width, pairs) in [(1, 1, 24), (2, 3, 24), (129, 17, 45), (300, 32, 45), (257, 33, 100)] {
            let size = |k: usize| if k == 7 { 0.0 } else { 10f32.powi(k as i32 % 9 - 4) };
            let x: Vec<f32> = (0..rows * width).map(|i| size(i % width) * random()).collect();
            // As large as they may be, in part.
            let shares: Vec<f32> = (0..rows * pairs).map(|_| 0.5 * (2.0 * random()).clamp(0.0, 1.0)).collect();
            let found = couplings(&x, width, &shares, pairs, &Cancel::new()).unwrap();
            #[cfg(target_arch = "x86_64")]
            assert_eq!(found.is_some(), Vnni::new().is_some());
            let Some(Couplings { step, sums }) = found else { return };
            let mut at = 0;
            for i in 0..width {
                for j in i..width {
                    for pair in 0..pairs {
                        let of_row =
                            |r: usize| f64::from(x[r * width + i] * x[r * width + j] * shares[r * pairs + pair]);
                        let wanted: f64 = (0..rows).map(of_row).sum();
                        let found = f64::from(sums[at * step + pair]);
                        let most = f64::from(size(i) * size(j)) * (1.0 + (rows as f64).sqrt()) * 0.02;
                        assert!((found - wanted).abs() <= most, "{width}: {i}, {j}, {pair}: {found} for {wanted}");
                    }
                    at += 1;
                }
            }
        }
    }

    #[test]
    fn a_pair_that_hardly_counts_anywhere_has_its_share() {
        // Of a column of nothing but ones the sums are those of the shares, however unlike these are.
        let share = |row: usize, pair: usize| if row == 9 { 0.2 } else { 1e-6 * (row + pair) as f32 };
        let rare = |row: usize, pair: usize| 1e-9 * (row % 7 + pair) as f32;
        let of = |row: usize, pair: usize| if pair % 5 == 1 { rare(row, pair) } else { share(row, pair) };
        let shares: Vec<f32> = (0..300 * 24).map(|i| of(i / 24, i % 24)).collect();
        let Some(Couplings { step, sums }) = couplings(&[1.0; 300], 1, &shares, 24, &Cancel::new()).unwrap() else {
            return;
        };
        assert_eq!(sums.len(), step);
        for (pair, sum) in sums.iter().enumerate().take(24) {
            let wanted: f64 = (0..300).map(|row| f64::from(of(row, pair))).sum();
            assert!((f64::from(*sum) - wanted).abs() < 1e-5 * wanted, "{pair}: {sum} for {wanted}");
        }
    }

    #[test]
    fn a_row_far_out_is_left_to_float32() {
        let (mut x, shares) = (vec![1f32; 3000 * 2], vec![0.1f32; 3000 * 24]);
        x[7] = 31.0;
        let close = couplings(&x, 2, &shares, 24, &Cancel::new()).unwrap();
        assert_eq!(close.is_some(), Vnni::new().is_some());
        x[7] = 60.0;
        assert!(couplings(&x, 2, &shares, 24, &Cancel::new()).unwrap().is_none());
    }

    #[test]
    fn rows_as_large_as_they_can_be_do_not_overflow() {
        let (x, shares) = (vec![-3f32; 128 * 4], vec![0.25f32; 128 * 24]);
        let found = couplings(&x, 4, &shares, 24, &Cancel::new()).unwrap();
        let Some(Couplings { step, sums }) = found else { return };
        for of_pair in sums.chunks_exact(step) {
            of_pair[..24].iter().for_each(|sum| assert!((sum - 128.0 * 9.0 * 0.25).abs() < 0.1, "{sum}"));
        }
    }
}
