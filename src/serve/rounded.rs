//! A fit's rows rounded to 8 bits, for steps between passes over the rows as they are.
//!
//! A quarter of the memory to read, and twice the multiplications of float32 in as many instructions, on processors that have
//! one for it (AVX-512 VNNI: products of 16 bits, added up exactly in 32). Rounding whole rows would move the optimum. So a
//! step starts from a point where a pass over the true rows has been, the anchor, whose scores and residuals are kept; what
//! goes through the rounded rows is how far the weights have moved from there, and by how much residuals have changed:
//!
//! `scores = scores(a) + x~ (w - a)`, `gradient = gradient(a) + x~' (residuals - residuals(a))`.
//!
//! That is a convex function's value and gradient, which equals the objective at the anchor to first order, and whose
//! Hessian is the objective's but for rounding: as in gradients of reduced variance (Johnson and Zhang 2013), errors shrink
//! as steps do. Its optimum is the next anchor.

use crate::cancel::Cancel;
use crate::error::Result;
use crate::grid::{COLUMNS, Grid};
use crate::pass::Data;
use crate::rows::Rows;
use crate::vnni::{Vnni, WHOLE};

/// Rows whose residuals are rounded together.
pub const TOGETHER: usize = 64;
/// Most classes whose sums are held at once: each has 4 vectors, of 4 rows, and 2, of columns; there are 32 registers.
const FORWARD_CLASSES: usize = 5;
const BACKWARD_CLASSES: usize = 12;

/// Rows with a q of 0 to 255 for each value.
pub struct Rounded {
    kernels: Vnni,
    grid: Grid,
    /// `[rows, step]`.
    values: Vec<u8>,
}

/// How far weights have moved, rounded to 16 bits, as the kernels read it.
pub struct Move {
    /// Of each tile of classes, of each 32 columns, those of each class.
    packed: Vec<i16>,
    /// Of each class, what a sum of products stands for, and what is added.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Rounded {
    /// None where the processor has no use for it, or they are too many; and none of a file, which is read in blocks lest its
    /// rows take memory.
    ///
    /// # Errors
    /// Cancelled or past the deadline, or a file that cannot be read.
    pub fn new(data: &Data, parallel: bool, cancel: &Cancel) -> Result<Option<Self>> {
        let (Some(kernels), Some(mut grid)) = (Vnni::new(), Grid::new::<u8>(data)) else { return Ok(None) };
        let (low, high) = match data.x {
            Rows::I8(_) => (vec![-128.0; data.columns], vec![127.0; data.columns]),
            _ => kernels.ranges(data, parallel, cancel)?,
        };
        let units: Vec<f32> = low.iter().zip(&high).map(|(low, high)| (high - low) / 255.0).collect();
        grid.set(low, units.into_iter());
        let offset = &grid.offset;
        let round = |x: &[f32], per_unit: &[f32], values: &mut [u8]| kernels.round(x, offset, per_unit, values);
        let values = grid.rows(data, parallel, cancel, round)?;
        Ok(Some(Self { kernels, grid, values }))
    }

    /// A move of the weights `[classes, columns]` of columns less `mean`, and of the bias.
    pub fn take(&self, weights: &[f32], bias: &[f64], mean: &[f64]) -> Move {
        let (columns, width) = (mean.len(), self.grid.width);
        let mut packed = vec![0i16; bias.len() * width];
        let (mut scale, mut shift) = (Vec::with_capacity(bias.len()), Vec::with_capacity(bias.len()));
        for (first, last) in tiles(bias.len(), FORWARD_CLASSES) {
            let tile = &mut packed[first * width..last * width];
            for class in first..last {
                let weights = &weights[class * columns..][..columns];
                let sizes = self.grid.in_units(weights).map(f64::abs);
                let (largest, sum) = sizes.fold((0f64, 0f64), |(most, sum), size| (most.max(size), sum + size));
                // That no sum of products leaves 32 bits.
                let per_unit = (32767.0 / largest).min(f64::from(i32::MAX / 256) / sum);
                let per_unit = if per_unit.is_finite() { per_unit } else { 1.0 };
                let place = |k: usize| (k / COLUMNS * (last - first) + class - first) * COLUMNS + k % COLUMNS;
                shift.push((bias[class] + self.grid.take(weights, per_unit, mean, |k, w| tile[place(k)] = w)) as f32);
                scale.push((1.0 / per_unit) as f32);
            }
        }
        Move { packed, scale, shift }
    }

    /// Into `moved`, `[classes][BLOCK]` of each of up to two blocks, by how much the scores of rows `first..last` change.
    pub fn forward<const BLOCK: usize>(&self, (first, last): (usize, usize), step: &Move, moved: &mut [f32]) {
        let classes = step.scale.len();
        for (rows, moved) in (first..last).step_by(BLOCK).zip(moved.chunks_exact_mut(classes * BLOCK)) {
            let x = &self.values[rows * self.grid.step..(rows + BLOCK).min(last) * self.grid.step];
            for (c0, c1) in tiles(classes, FORWARD_CLASSES) {
                let packed = &step.packed[c0 * self.grid.width..c1 * self.grid.width];
                let moved = &mut moved[c0 * BLOCK..c1 * BLOCK];
                self.kernels.forward(x, self.grid.step, packed, (&step.scale[c0..c1], &step.shift[c0..c1]), moved);
            }
        }
    }

    /// Adds to `sums`, `[classes, width]` in the kernel's order of columns, rows `first..last` times `residuals`, which are as
    /// large as `scale` says; and asks for the rows that follow.
    pub fn backward(&self, (first, last): (usize, usize), residuals: &[u32], scale: &[f32], sums: &mut [f32]) {
        let end = (last + TOGETHER).min(self.values.len() / self.grid.step);
        let x = &self.values[first * self.grid.step..last * self.grid.step];
        let next = &self.values[last * self.grid.step..end * self.grid.step];
        let classes = scale.len();
        for (c0, c1) in tiles(classes, BACKWARD_CLASSES) {
            let sums = &mut sums[c0 * self.grid.width..c1 * self.grid.width];
            let next = if c0 == 0 { next } else { &[] };
            self.kernels.backward(
                x,
                next,
                (self.grid.step, self.grid.width),
                (&residuals[c0..], classes),
                &scale[c0..c1],
                sums,
            );
        }
    }

    /// How its columns are rounded, and the sums that [`Rounded::backward`] adds to are laid out.
    pub fn grid(&self) -> &Grid {
        &self.grid
    }
}

/// The first class and the one behind the last of as few tiles as there can be of so many.
fn tiles(classes: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let count = classes.div_ceil(most);
    (0..count).map(move |tile| (classes * tile / count, classes * (tile + 1) / count))
}

/// Rounds residuals `[classes][BLOCK]` of one or two blocks, in pairs of rows, `[pairs][classes]`; of each class what they are
/// multiplied with, and adds to their sums `taken`.
#[inline(always)]
pub fn round_residuals<const BLOCK: usize>(
    changed: &[f32],
    pairs: &mut Vec<u32>,
    scale: &mut [f32],
    taken: &mut [f64],
) {
    let classes = scale.len();
    let blocks = changed.len() / (classes * BLOCK);
    pairs.clear();
    pairs.resize(blocks * BLOCK / 2 * classes, 0);
    let all = changed.as_chunks::<BLOCK>().0;
    for (class, (scale, taken)) in scale.iter_mut().zip(taken).enumerate() {
        let mut most = [0f32; BLOCK];
        for changed in all[class..].iter().step_by(classes) {
            for r in 0..BLOCK {
                most[r] = if changed[r].abs() > most[r] { changed[r].abs() } else { most[r] };
            }
        }
        let largest = most.iter().fold(0f32, |most, &v| if v > most { v } else { most });
        let per_unit = if largest > 1e-30 { 32767.0 / largest } else { 0.0 };
        *scale = largest / 32767.0;
        let mut sums = [0f32; BLOCK];
        for (block, changed) in all[class..].iter().step_by(classes).enumerate() {
            let mut bits = [0u32; BLOCK];
            for r in 0..BLOCK {
                let whole = changed[r] * per_unit + WHOLE;
                sums[r] += whole - WHOLE;
                bits[r] = whole.to_bits() & 0xffff;
            }
            for (pair, bits) in bits.as_chunks::<2>().0.iter().enumerate() {
                pairs[(block * BLOCK / 2 + pair) * classes + class] = bits[0] | bits[1] << 16;
            }
        }
        *taken += f64::from(*scale) * sums.iter().map(|&v| f64::from(v)).sum::<f64>();
    }
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of this processor, whose features were found before any of it is called")]
mod kernels {
    use std::arch::x86_64::{
        __m128i, __m256i, __m512i, _MM_HINT_T1, _mm_add_epi32, _mm_hadd_epi32, _mm_prefetch, _mm_storeu_si128,
        _mm256_add_epi32, _mm256_castsi256_si128, _mm256_extracti128_si256, _mm256_loadu_si256, _mm512_castsi512_si256,
        _mm512_cvtepi32_ps, _mm512_cvtepu8_epi16, _mm512_cvtps_epi32, _mm512_cvtusepi32_epi8, _mm512_dpwssd_epi32,
        _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_max_ps, _mm512_min_ps,
        _mm512_mul_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_storeu_ps, _mm512_sub_ps,
        _mm512_unpackhi_epi16, _mm512_unpacklo_epi16,
    };

    use crate::grid::COLUMNS;
    use crate::vnni::{LANES, Vnni};

    /// Rows that a forward kernel takes at once.
    const ROWS: usize = 4;

    impl Vnni {
        /// Makes `low` and `high` reach a row's values.
        pub fn widen(self, x: &[f32], low: &mut [f32], high: &mut [f32]) {
            // SAFETY: only where `new` found the features is there a `self`; this holds for all below.
            unsafe { widen(x, low, high) }
        }

        /// A row's values, less `low`, in units.
        pub fn round(self, x: &[f32], low: &[f32], per_unit: &[f32], out: &mut [u8]) {
            // SAFETY: see above.
            unsafe { round(x, low, per_unit, out) }
        }

        /// `moved[c][r] = scale[c] x[r] . w[c] + shift[c]` for a block of rows and all classes of a tile.
        pub fn forward(
            self,
            x: &[u8],
            step: usize,
            packed: &[i16],
            (scale, shift): (&[f32], &[f32]),
            moved: &mut [f32],
        ) {
            // SAFETY: see above.
            unsafe {
                match scale.len() {
                    1 => forward::<1>(x, step, packed, scale, shift, moved),
                    2 => forward::<2>(x, step, packed, scale, shift, moved),
                    3 => forward::<3>(x, step, packed, scale, shift, moved),
                    4 => forward::<4>(x, step, packed, scale, shift, moved),
                    5 => forward::<5>(x, step, packed, scale, shift, moved),
                    _ => unreachable!("tiles hold 1 to 5 classes"),
                }
            }
        }

        /// `sums[c] += scale[c] (sum over r of residual[r][c] x[r])`, asking for `next` on the way.
        pub fn backward(
            self,
            x: &[u8],
            next: &[u8],
            (step, width): (usize, usize),
            residuals: (&[u32], usize),
            scale: &[f32],
            sums: &mut [f32],
        ) {
            macro_rules! of_classes {
                ($($h:literal)*) => {
                    match scale.len() {
                        // SAFETY: see above.
                        $($h => unsafe { backward::<$h>(x, next, (step, width), residuals, scale, sums) },)*
                        _ => unreachable!("tiles hold 1 to 12 classes"),
                    }
                };
            }
            of_classes!(1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }

    #[target_feature(enable = "avx512f")]
    fn widen(x: &[f32], low: &mut [f32], high: &mut [f32]) {
        let vectors = x.as_chunks::<LANES>();
        let (low, rest_low) = low.as_chunks_mut::<LANES>();
        let (high, rest_high) = high.as_chunks_mut::<LANES>();
        for ((x, low), high) in vectors.0.iter().zip(low).zip(high) {
            // SAFETY: as many numbers.
            unsafe {
                let x = _mm512_loadu_ps(x.as_ptr());
                _mm512_storeu_ps(low.as_mut_ptr(), _mm512_min_ps(_mm512_loadu_ps(low.as_ptr()), x));
                _mm512_storeu_ps(high.as_mut_ptr(), _mm512_max_ps(_mm512_loadu_ps(high.as_ptr()), x));
            }
        }
        for ((x, low), high) in vectors.1.iter().zip(rest_low).zip(rest_high) {
            (*low, *high) = (low.min(*x), high.max(*x));
        }
    }

    #[target_feature(enable = "avx512f")]
    fn round(x: &[f32], low: &[f32], per_unit: &[f32], out: &mut [u8]) {
        let (vectors, rest) = x.as_chunks::<LANES>();
        let (low, rest_low) = low.as_chunks::<LANES>();
        let (per_unit, rest_units) = per_unit.as_chunks::<LANES>();
        let (out, rest_out) = out.split_at_mut(vectors.len() * LANES);
        let out = out.as_chunks_mut::<LANES>().0;
        for (((x, low), per_unit), out) in vectors.iter().zip(low).zip(per_unit).zip(out) {
            // SAFETY: as many numbers, and as many bytes.
            unsafe {
                let moved = _mm512_sub_ps(_mm512_loadu_ps(x.as_ptr()), _mm512_loadu_ps(low.as_ptr()));
                let units = _mm512_mul_ps(moved, _mm512_loadu_ps(per_unit.as_ptr()));
                let bytes = _mm512_cvtusepi32_epi8(_mm512_cvtps_epi32(units));
                _mm_storeu_si128(out.as_mut_ptr().cast(), bytes);
            }
        }
        for (((x, low), per_unit), out) in rest.iter().zip(rest_low).zip(rest_units).zip(rest_out) {
            *out = ((x - low) * per_unit).round_ties_even() as u8;
        }
    }

    /// 32 values as 16 bits each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw")]
    fn load(x: &[u8; COLUMNS]) -> __m512i {
        // SAFETY: as many bytes.
        unsafe { _mm512_cvtepu8_epi16(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    fn forward<const H: usize>(x: &[u8], step: usize, packed: &[i16], scale: &[f32], shift: &[f32], moved: &mut [f32]) {
        let (rows, block) = (x.len() / step, moved.len() / H);
        let packed = packed.as_chunks::<COLUMNS>().0.as_chunks::<H>().0;
        let x: &[[u8; COLUMNS]] = x.as_chunks().0;
        let step = step / COLUMNS;
        for first in (0..rows).step_by(ROWS) {
            // Past the last row the last row is done again; its scores are not stored.
            let mut of_rows: [&[[u8; COLUMNS]]; ROWS] = [&[]; ROWS];
            for (r, row) in of_rows.iter_mut().enumerate() {
                *row = &x[(first + r).min(rows - 1) * step..][..packed.len()];
            }
            let mut sums = [[_mm512_setzero_si512(); ROWS]; H];
            for (k, w) in packed.iter().enumerate() {
                let mut x = [_mm512_setzero_si512(); ROWS];
                for r in 0..ROWS {
                    x[r] = load(&of_rows[r][k]);
                }
                for c in 0..H {
                    // SAFETY: as many bits.
                    let w = unsafe { _mm512_loadu_si512(w[c].as_ptr().cast()) };
                    for r in 0..ROWS {
                        sums[c][r] = _mm512_dpwssd_epi32(sums[c][r], x[r], w);
                    }
                }
            }
            for c in 0..H {
                let found = totals(sums[c]);
                let out = moved[c * block + first..].iter_mut().take(ROWS.min(rows - first));
                out.zip(found).for_each(|(out, sum)| *out = scale[c] * sum as f32 + shift[c]);
            }
        }
    }

    /// The sum of each vector's numbers.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vl,avx512bw")]
    fn totals(vectors: [__m512i; ROWS]) -> [i32; ROWS] {
        let narrow = |v: __m512i| -> __m128i {
            let half: __m256i = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64::<1>(v));
            _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half))
        };
        let [a, b, c, d] = [narrow(vectors[0]), narrow(vectors[1]), narrow(vectors[2]), narrow(vectors[3])];
        let sums = _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
        let mut out = [0; ROWS];
        // SAFETY: as many numbers.
        unsafe { _mm_storeu_si128(out.as_mut_ptr().cast(), sums) };
        out
    }

    #[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512vnni")]
    fn backward<const H: usize>(
        x: &[u8],
        next: &[u8],
        (step, width): (usize, usize),
        (residuals, classes): (&[u32], usize),
        scale: &[f32],
        sums: &mut [f32],
    ) {
        let rows = x.len() / step;
        for k in (0..width).step_by(COLUMNS) {
            let mut found = [[_mm512_setzero_si512(); 2]; H];
            for (pair, residuals) in residuals.chunks(classes).enumerate().take(rows.div_ceil(2)) {
                let (first, second) = (2 * pair, (2 * pair + 1).min(rows - 1));
                if k % (2 * COLUMNS) == 0 {
                    for row in [first, second] {
                        if let Some(next) = next.get(row * step + k) {
                            _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(next).cast());
                        }
                    }
                }
                // The residual of a row that is not there is 0.
                let a = load(x[first * step + k..].first_chunk().unwrap_or(&[0; COLUMNS]));
                let b = load(x[second * step + k..].first_chunk().unwrap_or(&[0; COLUMNS]));
                let (low, high) = (_mm512_unpacklo_epi16(a, b), _mm512_unpackhi_epi16(a, b));
                let residuals = residuals.first_chunk::<H>().unwrap_or(&[0; H]);
                for c in 0..H {
                    let residual = _mm512_set1_epi32(residuals[c].cast_signed());
                    found[c][0] = _mm512_dpwssd_epi32(found[c][0], low, residual);
                    found[c][1] = _mm512_dpwssd_epi32(found[c][1], high, residual);
                }
            }
            for c in 0..H {
                let factor = _mm512_set1_ps(scale[c]);
                let out = sums[c * width + k..][..COLUMNS].as_chunks_mut::<LANES>().0;
                for (out, found) in out.iter_mut().zip(found[c]) {
                    // SAFETY: as many numbers.
                    unsafe {
                        let sum = _mm512_fmadd_ps(_mm512_cvtepi32_ps(found), factor, _mm512_loadu_ps(out.as_ptr()));
                        _mm512_storeu_ps(out.as_mut_ptr(), sum);
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
        pub fn widen(self, _: &[f32], _: &mut [f32], _: &mut [f32]) {
            match self.0 {}
        }

        pub fn round(self, _: &[f32], _: &[f32], _: &[f32], _: &mut [u8]) {
            match self.0 {}
        }

        pub fn forward(self, _: &[u8], _: usize, _: &[i16], _: (&[f32], &[f32]), _: &mut [f32]) {
            match self.0 {}
        }

        pub fn backward(self, _: &[u8], _: &[u8], _: (usize, usize), _: (&[u32], usize), _: &[f32], _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
pub mod tests {
    use std::time::Instant;

    use super::*;
    use crate::newton::Kept;
    use crate::pass::{BLOCK, Pass};
    use crate::problem::{Anchor, Problem};
    use crate::solver::FitOptions;

    /// Numbers from -1 to 1 without a pattern.
    pub fn random(count: usize, mut state: u32) -> Vec<f32> {
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    /// Rows whose columns have different ranges, one of them constant, and labels that have to do with them.
    pub fn rows(rows: usize, columns: usize, classes: usize) -> (Vec<f32>, Vec<u32>) {
        let mut x = random(rows * columns, 1);
        for row in x.chunks_exact_mut(columns) {
            let scaled = row.iter_mut().enumerate();
            scaled.for_each(|(k, x)| *x = if k == 3 { 0.5 } else { (*x + 0.3) * (1.0 + (k % 7) as f32) });
        }
        let noise = random(rows, 2);
        let score = |row: &[f32], c: usize| row.iter().skip(c).step_by(classes).take(4).sum::<f32>();
        let of_row = |(row, noise): (&[f32], &f32)| {
            let best = (0..classes).max_by(|a, b| score(row, *a).total_cmp(&score(row, *b))).unwrap() as f32;
            ((best + noise.powi(9) * classes as f32).rem_euclid(classes as f32) as u32).min(classes as u32 - 1)
        };
        let y = x.chunks_exact(columns).zip(&noise).map(of_row).collect();
        (x, y)
    }

    /// None, and never on a processor that has the instructions, where nothing can be tested.
    fn rounded(data: &Data) -> Option<Rounded> {
        let found = Rounded::new(data, false, &Cancel::new()).unwrap();
        #[cfg(target_arch = "x86_64")]
        assert_eq!(found.is_some(), is_x86_feature_detected!("avx512vnni"));
        found
    }

    #[test]
    fn scores_and_gradients_move_as_the_rounded_rows_say() {
        for (count, columns, classes) in [(131, 67, 3), (64, 130, 10), (33, 32, 23), (1, 5, 2), (160, 200, 13)] {
            let (x, y) = rows(count, columns, classes);
            let data = Data { x: Rows::F32(&x), columns, y: &y, classes, weights: None };
            let Some(rounded) = rounded(&data) else { return };
            let value = |row: usize, k: usize| {
                rounded.grid.offset[k] + rounded.grid.unit[k] * f32::from(rounded.values[row * rounded.grid.step + k])
            };
            for row in 0..count {
                for k in 0..columns {
                    let (found, wanted) = (value(row, k), x[row * columns + k]);
                    assert!((found - wanted).abs() <= 0.501 * rounded.grid.unit[k] + 1e-6, "{found} for {wanted}");
                }
            }
            let w = random(classes * columns, 3);
            let bias: Vec<f64> = (0..classes).map(|c| c as f64 - 1.0).collect();
            let mean: Vec<f64> = (0..columns).map(|k| 0.3 * (k % 7) as f64).collect();
            let step = rounded.take(&w, &bias, &mean);
            let centred = |row: usize, k: usize| f64::from(value(row, k)) - mean[k];
            for first in (0..count).step_by(TOGETHER) {
                let last = (first + TOGETHER).min(count);
                let mut moved = vec![0f32; (last - first).div_ceil(BLOCK) * classes * BLOCK];
                rounded.forward::<BLOCK>((first, last), &step, &mut moved);
                for row in first..last {
                    for c in 0..classes {
                        let terms = (0..columns).map(|k| f64::from(w[c * columns + k]) * centred(row, k));
                        let (sum, size) = terms.fold((bias[c], 0.0), |(sum, size), v| (sum + v, size + v.abs()));
                        let at = (row - first) / BLOCK * classes * BLOCK + c * BLOCK + (row - first) % BLOCK;
                        assert!((f64::from(moved[at]) - sum).abs() < 2e-3 * (size + 1.0), "{} for {sum}", moved[at]);
                    }
                }
            }
            let (mut sums, mut taken) = (vec![0f32; classes * rounded.grid.width], vec![0f64; classes]);
            let residuals = random(count.next_multiple_of(TOGETHER) * classes, 4);
            let (mut pairs, mut scale) = (Vec::new(), vec![0f32; classes]);
            let mut wanted = vec![0f64; classes * columns];
            for first in (0..count).step_by(TOGETHER) {
                let last = (first + TOGETHER).min(count);
                let blocks = (last - first).div_ceil(BLOCK);
                let mut changed = residuals[first * classes..][..blocks * classes * BLOCK].to_vec();
                for (block, changed) in changed.chunks_exact_mut(classes * BLOCK).enumerate() {
                    for (c, changed) in changed.chunks_exact_mut(BLOCK).enumerate() {
                        for (r, changed) in changed.iter_mut().enumerate() {
                            let row = first + block * BLOCK + r;
                            *changed = if row < last { *changed * 1e-3 } else { 0.0 };
                            let terms = wanted[c * columns..][..columns].iter_mut().enumerate();
                            let change = f64::from(*changed);
                            terms.for_each(|(k, sum)| *sum += if row < last { change * centred(row, k) } else { 0.0 });
                        }
                    }
                }
                round_residuals::<BLOCK>(&changed, &mut pairs, &mut scale, &mut taken);
                rounded.backward((first, last), &pairs, &scale, &mut sums);
            }
            let sums: Vec<f64> = sums.iter().map(|&v| f64::from(v)).collect();
            for c in 0..classes {
                let found: Vec<f64> = rounded.grid.centred(c, &sums, taken[c], &mean).collect();
                assert_eq!(found.len(), columns);
                for (found, wanted) in found.iter().zip(&wanted[c * columns..]) {
                    assert!((found - wanted).abs() < 1e-5 * (count as f64).sqrt(), "class {c}: {found} for {wanted}");
                }
            }
        }
    }

    #[test]
    fn from_an_anchor_on_the_objective_is_the_same_but_for_rounding_of_what_changes() {
        let (count, columns, classes, l2) = (1100, 90, 5, 1e-3);
        let (x, y) = rows(count, columns, classes);
        let cancel = Cancel::new();
        let weights: Vec<f32> = random(count, 5).iter().map(|v| v + 1.0).collect();
        for (sample_weights, standardize) in [(None, false), (Some(weights), true)] {
            let options = FitOptions { sample_weights, standardize, threads: 1, ..FitOptions::default() };
            let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
            let Some(rounded) = problem.rounded(&cancel).unwrap() else { return };
            let mut pass = Pass::new(&problem.data(), false);
            pass.keep_anchor(true);
            let size = classes * (columns + 1);
            let a: Vec<f64> = random(size, 6).iter().map(|&v| 0.1 * f64::from(v)).collect();
            let direction: Vec<f64> = random(size, 7).iter().map(|&v| 0.1 * f64::from(v)).collect();
            let (mut at, mut there, mut told) = (vec![0.0; size], vec![0.0; size], vec![0.0; size]);
            let value = problem.evaluate(&mut pass, false, &a, l2, &mut at, &cancel).unwrap();
            assert!(pass.has_anchor());
            let anchor = Anchor::new(&a, &at, &value, columns, l2);
            let same = problem.evaluate_rounded(&mut pass, (rounded, &anchor), &a, l2, &mut told, &cancel).unwrap();
            assert!(pass.left_out() && same.bound == f64::NEG_INFINITY);
            assert!((same.objective - value.objective).abs() < 1e-9, "{} {}", same.objective, value.objective);
            assert_eq!(told, at);
            let norm = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            let mut other = Pass::new(&problem.data(), false);
            for length in [1.0, 0.1, 0.01] {
                let w: Vec<f64> = a.iter().zip(&direction).map(|(a, d)| a + length * d).collect();
                let found =
                    problem.evaluate_rounded(&mut pass, (rounded, &anchor), &w, l2, &mut told, &cancel).unwrap();
                let wanted = problem.evaluate(&mut other, false, &w, l2, &mut there, &cancel).unwrap();
                let (off, change) = (norm(&told, &there), norm(&there, &at));
                assert!(off < 0.01 * change, "{length}: {off} of {change}");
                let bend = wanted.objective - value.objective - length * crate::problem::dot(&at, &direction);
                let off = (found.objective - wanted.objective).abs();
                assert!(off < 0.02 * bend + 1e-7, "{length}: {off} of {bend}");
                let norm = found.norm - wanted.norm;
                assert!(norm.abs() < 0.01 * (wanted.norm + change), "{length}: {norm} of {}", wanted.norm);
            }
        }
    }

    #[test]
    fn fits_of_many_values_go_over_them_and_are_certified_with_the_same_bits_for_any_number_of_threads() {
        let (columns, classes) = (300, 6);
        let (x, y) = rows(7000, columns, classes);
        let cancel = Cancel::new();
        let run = |count: usize, threads: usize| {
            let options = FitOptions { l2: 1e-3, threads, ..FitOptions::default() };
            let (x, y) = (Rows::F32(&x[..count * columns]), &y[..count]);
            let problem = Problem::new(x, columns, y, classes, &options, &cancel).unwrap();
            let found = problem.solve(&options, None, &cancel, None, Instant::now(), &mut Kept::default()).unwrap();
            (found.w, found.report, problem.is_rounded())
        };
        let (w, report, rounded) = run(7000, 1);
        assert!(report.converged && rounded, "{report:?}");
        for threads in [2, 3] {
            assert_eq!(w, run(7000, threads).0, "{threads} threads");
        }
        // Of few values they are not, nor for a fit that begins at the optimum and needs no step.
        assert!(!run(1000, 1).2);
        let options = FitOptions { l2: 1e-3, threads: 1, ..FitOptions::default() };
        let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
        let found = problem.solve(&options, Some(w), &cancel, None, Instant::now(), &mut Kept::default()).unwrap();
        assert!(found.report.converged && !problem.is_rounded(), "{:?}", found.report);
    }

    #[test]
    fn a_row_so_far_out_that_rounding_leaves_nothing_of_the_others_does_no_harm() {
        let (columns, classes) = (300, 6);
        let (mut x, y) = rows(7000, columns, classes);
        x[..columns].iter_mut().for_each(|x| *x *= 1e4);
        let cancel = Cancel::new();
        let options = FitOptions { l2: 1e-3, threads: 1, ..FitOptions::default() };
        let problem = Problem::new(Rows::F32(&x), columns, &y, classes, &options, &cancel).unwrap();
        let found = problem.solve(&options, None, &cancel, None, Instant::now(), &mut Kept::default()).unwrap();
        assert!(found.report.converged, "{:?}", found.report);
        let Some(rounded) = problem.rounded(&cancel).unwrap() else { return };
        let start = problem.prior();
        let (mut told, mut whole) = (vec![0.0; start.len()], vec![0.0; start.len()]);
        let mut pass = Pass::new(&problem.data(), false);
        pass.keep_anchor(true);
        let value = problem.evaluate(&mut pass, false, &start, 1e-3, &mut whole, &cancel).unwrap();
        let anchor = Anchor::new(&start, &whole, &value, columns, 1e-3);
        problem.evaluate_rounded(&mut pass, (rounded, &anchor), &found.w, 1e-3, &mut told, &cancel).unwrap();
        problem.evaluate(&mut pass, false, &found.w, 1e-3, &mut whole, &cancel).unwrap();
        // What rounded rows tell there is nothing that a fit could go by.
        let norm = |v: &[f64]| v.iter().map(|v| v * v).sum::<f64>().sqrt();
        let off: Vec<f64> = told.iter().zip(&whole).map(|(a, b)| a - b).collect();
        assert!(norm(&off) > 10.0 * norm(&whole), "{} of {}", norm(&off), norm(&whole));
    }
}
