//! Products with the Hessian of [`crate::curvature`] in whole numbers: half of the memory to read, and twice the multiplications of
//! float32 in as many instructions, on processors that have one for it (AVX-512 VNNI: products of 16 bits, added up exactly in
//! 32).
//!
//! Rows are rounded once, to 12 bits and a sign, each column by its own range; of a product the vector is rounded to 16 bits, and so
//! is what each row of a block counts for. What comes out is, but for that, the product with the Hessian of the rounded rows:
//! symmetric, positive, and off by what noise of a 30,000th of each column's range would do. Rounding to 8 bits, as
//! [`crate::rounded`] does, would add more curvature in directions in which rows hardly vary than a weak penalty has.

use crate::cancel::Cancel;
use crate::curvature::Block;
use crate::error::Result;
use crate::grid::Grid;
use crate::pass::Data;
use crate::vnni::{Vnni, WHOLE};

/// Largest numbers that rows and what they are multiplied with are rounded to; so many vectors of products of both may be added up:
/// `4095 * 32767 * 2 * 8 < 2^31`.
const LARGEST: f32 = 4095.0;
const LARGEST_FACTOR: f32 = 32767.0;
const TOGETHER: usize = 8;
/// Most that what rows count for may add up to: times `LARGEST` it is below `2^31`.
const MOST: f32 = 524_000.0;
/// Rows whose scores are found at once.
const ROWS: usize = 4;
/// So many rows, but for the ends of these, tell how far a column's values are from their median: so many units at least, in the mean,
/// in half of the columns. (Of 1,280 of EfficientNet, 110 are nearly always 0.)
const SAMPLED: usize = 128;
const ENDS: usize = 2;
const FEWEST_UNITS: f64 = 4.0;
const COARSE: f64 = 0.5;

/// Rows with a whole number from -4095 to 4095 for each value.
pub struct Products {
    kernels: Vnni,
    grid: Grid,
    /// `[rows, step]`.
    values: Vec<i16>,
}

/// A vector that the Hessian is multiplied with, as the kernels read it.
pub struct Factor {
    /// `[classes, width]`.
    whole: Vec<i16>,
    /// Of each class, what a sum of products stands for, and what is added.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Products {
    /// None where the processor has no use for it, rows are too many or one so far out that nothing is left of the others; and none
    /// of a file, which is read in blocks lest its rows take memory.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn new(data: &Data, parallel: bool, cancel: &Cancel) -> Result<Option<Self>> {
        let (Some(kernels), Some(mut grid)) = (Vnni::new(), Grid::new::<i16>(data)) else { return Ok(None) };
        let (low, high) = kernels.ranges(data, parallel, cancel)?;
        let halves: Vec<f32> = low.iter().zip(&high).map(|(low, high)| 0.5 * (high - low)).collect();
        grid.set(
            low.iter().zip(&halves).map(|(low, half)| low + half).collect(),
            halves.iter().map(|half| half / LARGEST),
        );
        let middle = &grid.offset;
        let round = |x: &[f32], per_unit: &[f32], values: &mut [i16]| kernels.shorten(x, middle, per_unit, values);
        let values = grid.rows(data, parallel, cancel, round)?;
        let found = Self { kernels, grid, values };
        Ok((found.coarse(&halves) < COARSE).then_some(found))
    }

    /// The share of columns, of those that are not constant, whose values are too few units apart. A row far out of all others is at an
    /// end of the sample, if it is in it.
    fn coarse(&self, halves: &[f32]) -> f64 {
        let rows = self.values.len() / self.grid.step;
        let picked = || self.values.chunks_exact(self.grid.step).step_by(rows.div_ceil(SAMPLED));
        let (mut varied, mut coarse, mut column) = (0, 0, Vec::new());
        for (k, _) in halves.iter().enumerate().filter(|(_, half)| **half > 0.0) {
            column.clear();
            column.extend(picked().map(|row| row[k]));
            column.sort_unstable();
            let median = f64::from(column[column.len() / 2]);
            let ends = ENDS.min((column.len() - 1) / 2);
            let within = &column[ends..column.len() - ends];
            let apart: f64 = within.iter().map(|&q| (f64::from(q) - median).abs()).sum();
            varied += 1;
            coarse += usize::from(apart < FEWEST_UNITS * within.len() as f64);
        }
        f64::from(coarse as u32) / f64::from(varied.max(1) as u32)
    }

    /// A vector of weights `[classes, columns]`, of columns less `mean`, and of the bias.
    pub fn take(&self, weights: &[f32], bias: &[f64], mean: &[f64]) -> Factor {
        let (columns, width) = (mean.len(), self.grid.width);
        let mut whole = vec![0i16; bias.len() * width];
        let (mut scale, mut shift) = (Vec::with_capacity(bias.len()), Vec::with_capacity(bias.len()));
        for ((weights, bias), whole) in weights.chunks_exact(columns).zip(bias).zip(whole.chunks_exact_mut(width)) {
            let largest = self.grid.in_units(weights).fold(0f64, |most, w| most.max(w.abs()));
            let per_unit = f64::from(LARGEST_FACTOR) / largest;
            let per_unit = if per_unit.is_finite() { per_unit } else { 1.0 };
            shift.push((bias + self.grid.take(weights, per_unit, mean, |k, w| whole[k] = w)) as f32);
            scale.push((1.0 / per_unit) as f32);
        }
        Factor { whole, scale, shift }
    }

    /// Adds a block's share to `sums`, `[classes, width]` as the grid has it, and of what its rows count for to `taken`; and asks for
    /// the rows of the `next` block.
    pub fn add(
        &self,
        block: &Block,
        next: &[u32],
        factor: &Factor,
        (sums, taken): (&mut [f32], &mut [f64]),
        (scores, pairs): &mut (Vec<f32>, Vec<u32>),
    ) {
        let (kernels, width) = (self.kernels, self.grid.width);
        let rows = (&self.values[..], self.grid.step);
        scores.clear();
        scores.resize(block.entries.len(), 0.0);
        let mut asked = 0;
        for (class, range) in block.of_classes() {
            let groups = range.len().div_ceil(ROWS).min(next.len() - asked);
            let of_class = (&factor.whole[class * width..][..width], factor.scale[class], factor.shift[class]);
            let (entries, scores) = (&block.entries[range.clone()], &mut scores[range]);
            kernels.scores(rows, &block.rows, entries, of_class, &next[asked..asked + groups], scores);
            asked += groups;
        }
        block.residuals(scores);
        for (class, range) in block.of_classes() {
            let (entries, residuals) = (&block.entries[range.clone()], &scores[range]);
            let scale = pair_up(residuals, pairs, &mut taken[class]);
            kernels.combine(rows, &block.rows, entries, pairs, scale, &mut sums[class * width..][..width]);
        }
    }

    /// How its columns are rounded, and the sums that [`Products::add`] adds to are laid out.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }
}

/// Rounds what rows count for, in pairs. What they are multiplied with; and adds their sum to `taken`.
fn pair_up(residuals: &[f32], pairs: &mut Vec<u32>, taken: &mut f64) -> f32 {
    let (largest, sum) = residuals.iter().fold((0f32, 0f32), |(most, sum), r| (most.max(r.abs()), sum + r.abs()));
    let per_unit = (LARGEST_FACTOR / largest).min(MOST / sum);
    let per_unit = if per_unit.is_finite() { per_unit } else { 0.0 };
    let scale = if per_unit > 0.0 { 1.0 / per_unit } else { 0.0 };
    pairs.clear();
    let mut all = 0.0;
    for two in residuals.chunks(2) {
        let (first, second) = (two[0] * per_unit + WHOLE, two.get(1).map_or(WHOLE, |r| r * per_unit + WHOLE));
        all += (first - WHOLE) + (second - WHOLE);
        pairs.push((first.to_bits() & 0xffff) | second.to_bits() << 16);
    }
    *taken += f64::from(all) * f64::from(scale);
    scale
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of this processor, whose features were found before any of it is called")]
mod kernels {
    use std::arch::x86_64::{
        __m512i, _MM_HINT_T1, _mm_prefetch, _mm256_storeu_si256, _mm512_add_ps, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
        _mm512_cvtsepi32_epi16, _mm512_dpwssd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
        _mm512_mul_ps, _mm512_reduce_add_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps,
        _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_ps, _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
    };

    use super::{ROWS, TOGETHER};
    use crate::grid::COLUMNS;
    use crate::vnni::{LANES, Vnni};

    /// Vectors of columns that sums are held of at once.
    const VECTORS: usize = 8;

    /// Rows `[rows, step]`.
    type Values<'a> = (&'a [i16], usize);

    impl Vnni {
        /// A row's values, less `offset`, in units.
        pub fn shorten(self, x: &[f32], offset: &[f32], per_unit: &[f32], out: &mut [i16]) {
            // SAFETY: only where `new` found the features is there a `self`; this holds for all below.
            unsafe { shorten(x, offset, per_unit, out) }
        }

        /// `scores[e] = scale x[rows[entries[e].0]] . w + shift`; and asks for the rows of `next` on the way.
        pub fn scores(
            self,
            values: Values,
            rows: &[u32],
            entries: &[(u32, f32)],
            (w, scale, shift): (&[i16], f32, f32),
            next: &[u32],
            scores: &mut [f32],
        ) {
            // SAFETY: see above.
            unsafe { scores_of(values, rows, entries, (w, scale, shift), next, scores) }
        }

        /// `sums += scale (sum over e of residual[e] x[rows[entries[e].0]])`, residuals in `pairs`.
        pub fn combine(
            self,
            values: Values,
            rows: &[u32],
            entries: &[(u32, f32)],
            pairs: &[u32],
            scale: f32,
            sums: &mut [f32],
        ) {
            // SAFETY: see above.
            unsafe { combine(values, rows, entries, pairs, scale, sums) }
        }
    }

    #[target_feature(enable = "avx512f")]
    fn shorten(x: &[f32], offset: &[f32], per_unit: &[f32], out: &mut [i16]) {
        let (vectors, rest) = x.as_chunks::<LANES>();
        let (offset, rest_offset) = offset.as_chunks::<LANES>();
        let (per_unit, rest_units) = per_unit.as_chunks::<LANES>();
        let (out, rest_out) = out.split_at_mut(vectors.len() * LANES);
        let out = out.as_chunks_mut::<LANES>().0;
        for (((x, offset), per_unit), out) in vectors.iter().zip(offset).zip(per_unit).zip(out) {
            // SAFETY: as many numbers.
            unsafe {
                let moved = _mm512_sub_ps(_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(offset.as_ptr()));
                let units = _mm512_mul_ps(moved, _mm512_loadu_ps(per_unit.as_ptr()));
                let whole = _mm512_cvtsepi32_epi16(_mm512_cvtps_epi32(units));
                _mm256_storeu_si256(out.as_mut_ptr().cast(), whole);
            }
        }
        for (((x, offset), per_unit), out) in rest.iter().zip(rest_offset).zip(rest_units).zip(rest_out) {
            *out = ((x - offset) * per_unit).round_ties_even() as i16;
        }
    }

    /// Of a row, its values.
    #[inline]
    fn row((values, step): Values<'_>, row: u32) -> &[[i16; COLUMNS]] {
        values[row as usize * step..][..step].as_chunks().0
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn load(x: &[i16; COLUMNS]) -> __m512i {
        // SAFETY: as many bits.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    fn scores_of(
        values: Values,
        rows: &[u32],
        entries: &[(u32, f32)],
        (w, scale, shift): (&[i16], f32, f32),
        next: &[u32],
        scores: &mut [f32],
    ) {
        let w: &[[i16; COLUMNS]] = w.as_chunks().0;
        for (group, (entries, scores)) in entries.chunks(ROWS).zip(scores.chunks_mut(ROWS)).enumerate() {
            // Past the last row the last row is done again; its scores are not stored.
            let of = |r: usize| &row(values, rows[entries[r.min(entries.len() - 1)].0 as usize])[..w.len()];
            let x: [&[[i16; COLUMNS]]; ROWS] = std::array::from_fn(of);
            let ask = next.get(group).map_or(&[][..], |next| row(values, *next));
            let mut sums = [_mm512_setzero_ps(); ROWS];
            for first in (0..w.len()).step_by(TOGETHER) {
                let mut whole = [_mm512_setzero_si512(); ROWS];
                for k in first..(first + TOGETHER).min(w.len()) {
                    if let Some(ask) = ask.get(k) {
                        _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(ask).cast());
                    }
                    let w = load(&w[k]);
                    for r in 0..ROWS {
                        whole[r] = _mm512_dpwssd_epi32(whole[r], load(&x[r][k]), w);
                    }
                }
                for r in 0..ROWS {
                    sums[r] = _mm512_add_ps(sums[r], _mm512_cvtepi32_ps(whole[r]));
                }
            }
            scores.iter_mut().zip(sums).for_each(|(score, sum)| *score = scale * _mm512_reduce_add_ps(sum) + shift);
        }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    fn combine(values: Values, rows: &[u32], entries: &[(u32, f32)], pairs: &[u32], scale: f32, sums: &mut [f32]) {
        let vectors = sums.len() / COLUMNS;
        let whole = vectors / VECTORS * VECTORS;
        let all = (values, rows, entries, pairs, scale);
        (0..whole).step_by(VECTORS).for_each(|k| combine_some::<VECTORS>(all, k, sums));
        (whole..vectors).for_each(|k| combine_some::<1>(all, k, sums));
    }

    /// What rows are combined, and how.
    type Combined<'a> = (Values<'a>, &'a [u32], &'a [(u32, f32)], &'a [u32], f32);

    /// As [`combine`], `V` vectors of columns from vector `k` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    fn combine_some<const V: usize>((values, rows, entries, pairs, scale): Combined, k: usize, sums: &mut [f32]) {
        let mut found = [[_mm512_setzero_si512(); 2]; V];
        for (two, &pair) in entries.chunks(2).zip(pairs) {
            let of = |entry: &(u32, f32)| row(values, rows[entry.0 as usize])[k..].first_chunk::<V>();
            // The second of a pair that is not there counts for 0.
            let (Some(a), Some(b)) = (of(&two[0]), of(&two[two.len() - 1])) else { continue };
            let pair = _mm512_set1_epi32(pair.cast_signed());
            for v in 0..V {
                let (a, b) = (load(&a[v]), load(&b[v]));
                found[v][0] = _mm512_dpwssd_epi32(found[v][0], _mm512_unpacklo_epi16(a, b), pair);
                found[v][1] = _mm512_dpwssd_epi32(found[v][1], _mm512_unpackhi_epi16(a, b), pair);
            }
        }
        let factor = _mm512_set1_ps(scale);
        for (out, found) in sums[k * COLUMNS..].as_chunks_mut::<LANES>().0.iter_mut().zip(found.as_flattened()) {
            // SAFETY: as many numbers.
            unsafe {
                let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(*found), factor, _mm512_loadu_ps(out.as_ptr()));
                _mm512_storeu_ps(out.as_mut_ptr(), sum);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod kernels {
    use crate::vnni::Vnni;

    impl Vnni {
        pub fn shorten(self, _: &[f32], _: &[f32], _: &[f32], _: &mut [i16]) {
            match self.0 {}
        }

        pub fn scores(
            self,
            _: (&[i16], usize),
            _: &[u32],
            _: &[(u32, f32)],
            _: (&[i16], f32, f32),
            _: &[u32],
            _: &mut [f32],
        ) {
            match self.0 {}
        }

        pub fn combine(self, _: (&[i16], usize), _: &[u32], _: &[(u32, f32)], _: &[u32], _: f32, _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use half::f16;

    use super::*;
    use crate::blocks::tests::rows as overlapping;
    use crate::curvature::Curvature;
    use crate::newton::Kept;
    use crate::pass::Pass;
    use crate::problem::Problem;
    use crate::rounded::tests::{random, rows};
    use crate::rows::Rows;
    use crate::solver::FitOptions;

    #[test]
    fn products_are_those_of_the_rows_but_for_rounding() {
        let cancel = Cancel::new();
        for (count, columns, classes, standardize) in [(131, 67, 3, false), (700, 300, 10, true), (90, 256, 26, false)]
        {
            let x = rows(count, columns, classes).0;
            let y: Vec<u32> = (0..count as u32).map(|row| row * 7 % classes as u32).collect();
            let halves: Vec<f16> = x.iter().map(|&x| f16::from_f32(x)).collect();
            let bytes: Vec<i8> = x.iter().map(|&x| (x * 12.0) as i8).collect();
            for x in [Rows::F32(&x), Rows::F16(&halves), Rows::I8(&bytes)] {
                let options = FitOptions { l2: 1e-4, standardize, threads: 1, ..FitOptions::default() };
                let problem = Problem::new(x, columns, &y, classes, &options, &cancel).unwrap();
                let size = classes * (columns + 1);
                let w: Vec<f64> = random(size, 3).iter().map(|&w| 0.1 * f64::from(w)).collect();
                let mut pass = Pass::new(&problem.data(), false);
                pass.keep_from(1e-4);
                let mut gradient = vec![0.0; size];
                problem.evaluate(&mut pass, false, &w, 1e-4, &mut gradient, &cancel).unwrap();
                let curvature = Curvature::new(pass.active(), problem.total, columns, classes, false);
                let Some(whole) = Products::new(&problem.data(), false, &cancel).unwrap() else {
                    // Never where it has the instructions.
                    assert!(Vnni::new().is_none());
                    return;
                };
                let (mut wanted, mut found) = (vec![0.0; size], vec![0.0; size]);
                for scale in [1.0, 1e-12] {
                    let v: Vec<f64> = random(size, 4).iter().map(|&v| scale * f64::from(v)).collect();
                    problem.curve(&curvature, None, &v, 1e-4, &mut wanted, &cancel).unwrap();
                    problem.curve(&curvature, Some(&whole), &v, 1e-4, &mut found, &cancel).unwrap();
                    let norm = wanted.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let off = wanted.iter().zip(&found).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
                    assert!(norm > 0.0 && off < 5e-4 * norm, "{columns} columns: {off} of {norm}");
                }
                // Nothing times the Hessian is nothing.
                problem.curve(&curvature, Some(&whole), &vec![0.0; size], 1e-4, &mut found, &cancel).unwrap();
                assert!(found.iter().all(|v| *v == 0.0));
            }
        }
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        // All at an end of their range, in one class and one block, with factors and residuals of one sign.
        let (count, columns) = (64, 512);
        let x: Vec<f32> = (0..count * columns).map(|i| if i / columns / 2 % 2 == 0 { -1.0 } else { 1.0 }).collect();
        let y: Vec<u32> = (0..count as u32).map(|row| row % 2).collect();
        let cancel = Cancel::new();
        let options = FitOptions { l2: 1e-4, threads: 1, ..FitOptions::default() };
        let problem = Problem::new(Rows::F32(&x), columns, &y, 2, &options, &cancel).unwrap();
        let Some(whole) = Products::new(&problem.data(), false, &cancel).unwrap() else { return };
        let size = 2 * (columns + 1);
        let (mut gradient, mut wanted, mut found) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
        let mut pass = Pass::new(&problem.data(), false);
        pass.keep_from(1e-4);
        problem.evaluate(&mut pass, false, &vec![0.0; size], 1e-4, &mut gradient, &cancel).unwrap();
        let curvature = Curvature::new(pass.active(), problem.total, columns, 2, false);
        let v: Vec<f64> = (0..size).map(|i| if i <= columns { 1.0 } else { -1.0 }).collect();
        problem.curve(&curvature, None, &v, 1e-4, &mut wanted, &cancel).unwrap();
        problem.curve(&curvature, Some(&whole), &v, 1e-4, &mut found, &cancel).unwrap();
        let largest = wanted.iter().fold(0f64, |most, v| most.max(v.abs()));
        for (found, wanted) in found.iter().zip(&wanted) {
            assert!((found - wanted).abs() < 1e-3 * largest, "{found} for {wanted}");
        }
    }

    #[test]
    fn rows_of_which_one_leaves_nothing_of_the_others_are_not_rounded() {
        let (mut x, y) = rows(600, 40, 3);
        let has = |x: &[f32]| {
            let data = Data { x: Rows::F32(x), columns: 40, y: &y, classes: 3, weights: None };
            Products::new(&data, false, &Cancel::new()).unwrap().is_some()
        };
        assert_eq!(has(&x), Vnni::new().is_some());
        x[..40].iter_mut().for_each(|x| *x *= 1e4);
        assert!(!has(&x));
    }

    #[test]
    fn fits_with_weak_penalties_are_certified_with_them_and_have_the_same_bits_for_any_number_of_threads() {
        let (columns, classes) = (300, 5);
        let (x, y) = overlapping(7000, columns, classes, 0.25);
        let cancel = Cancel::new();
        let run = |threads: usize| {
            let options = FitOptions { l2: 1e-9, threads, ..FitOptions::default() };
            let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
            let found = problem.solve(&options, None, &cancel, None, Instant::now(), &mut Kept::default()).unwrap();
            (found.w, found.report, problem.has_products())
        };
        let (w, report, used) = run(1);
        assert!(report.converged && used, "{report:?}");
        for threads in [2, 3] {
            assert_eq!(w, run(threads).0, "{threads} threads");
        }
    }
}
