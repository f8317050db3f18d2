//! Products in bfloat16 for passes far from the optimum: twice the multiplications of float32 in as many instructions, on
//! processors that have one for it (AVX-512 BF16).
//!
//! Factors are rounded to bfloat16's 8 bits, sums are float32. A vector's lane holds two neighbours: of a row's columns for
//! scores, of a column's rows for gradients.

use crate::vnni::Support;

/// That this processor multiplies bfloat16. Without it there is none, and so nothing to call.
#[derive(Clone, Copy, Debug)]
pub struct Bfloat(Support);

/// Numbers of a vector of float32.
pub const LANES: usize = 16;
/// Rows by vectors, or vectors by classes: 24 of 32 registers hold sums.
const ROWS: usize = 8;
const VECTORS: usize = 4;

/// A block of rows, in pairs.
#[derive(Default)]
pub struct Block {
    /// `[rows][pairs of columns]`.
    across: Vec<u32>,
    /// `[pairs of rows][columns]`, padded to whole vectors.
    down: Vec<u32>,
    /// `[pairs of rows][classes]`, padded.
    residuals: Vec<u32>,
}

impl Block {
    /// Takes in rows for scores.
    pub fn take_rows(&mut self, x: &[f32], columns: usize) {
        self.across.clear();
        let whole = x.chunks_exact(columns).flat_map(|row| {
            let (pairs, rest) = row.as_chunks::<2>();
            pairs.iter().map(|&[a, b]| pair(a, b)).chain(rest.iter().map(|&a| pair(a, 0.0)))
        });
        self.across.extend(whole);
    }

    /// Takes in the same rows, and their residuals, `step` apart, for gradients.
    pub fn take_residuals(&mut self, x: &[f32], columns: usize, residuals: &[f32], step: usize) {
        in_pairs(x, columns, columns.next_multiple_of(LANES), &mut self.down);
        in_pairs(residuals, step, step, &mut self.residuals);
    }
}

/// Rows of `width` two by two, padded to `padded`; the last with 0 where it is alone.
fn in_pairs(rows: &[f32], width: usize, padded: usize, out: &mut Vec<u32>) {
    out.clear();
    out.resize(rows.len().div_ceil(2 * width) * padded, 0);
    for (out, rows) in out.chunks_exact_mut(padded).zip(rows.chunks(2 * width)) {
        match rows.split_at_checked(width) {
            Some((first, second)) if !second.is_empty() => {
                out.iter_mut().zip(first).zip(second).for_each(|((out, &a), &b)| *out = pair(a, b));
            }
            _ => out.iter_mut().zip(rows).for_each(|(out, &a)| *out = pair(a, 0.0)),
        }
    }
}

/// Both as bfloat16, rounded to the nearest, the first in the lower half.
#[inline(always)]
pub fn pair(a: f32, b: f32) -> u32 {
    let round = |v: f32| {
        let bits = v.to_bits();
        bits + 0x7fff + (bits >> 16 & 1)
    };
    round(a) >> 16 | round(b) & 0xffff_0000
}

#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "vectors of this processor, whose features were found before any of it is called")]
mod kernels {
    use std::arch::x86_64::{__m512, __m512bh, _mm512_dpbf16_ps, _mm512_set1_epi32, _mm512_setzero_ps};
    use std::mem::transmute;

    use super::{Bfloat, Block, LANES, ROWS, VECTORS};

    impl Bfloat {
        /// If this processor has the instruction.
        pub fn new() -> Option<Self> {
            (is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bf16")).then_some(Self(()))
        }

        /// `out[r][c] = x[r] . w[c]` for the classes of a panel of 1 to 3 vectors, which has pairs of columns, each of all classes.
        pub fn forward(self, block: &Block, vectors: usize, panel: &[u32], out: &mut [f32], step: usize) {
            let pairs = panel.len() / (vectors * LANES);
            let x = &block.across[..];
            // SAFETY: only where `new` found the features is there a `self`.
            unsafe {
                match vectors {
                    1 => forward::<1>(x, pairs, panel, out, step),
                    2 => forward::<2>(x, pairs, panel, out, step),
                    3 => forward::<3>(x, pairs, panel, out, step),
                    _ => unreachable!("panels have 1 to 3 vectors"),
                }
            }
        }

        /// `gradient[c] += sum over r of residual[r][c] x[r]` for classes `first..last`, at most 6.
        pub fn backward(self, block: &Block, columns: usize, (first, last): (usize, usize), gradient: &mut [f32]) {
            let padded = columns.next_multiple_of(LANES);
            let step = block.residuals.len() / (block.down.len() / padded);
            let rows = Pairs { x: &block.down, padded, columns, residuals: &block.residuals[first..], step };
            // SAFETY: as above.
            unsafe {
                match last - first {
                    1 => backward::<1>(&rows, gradient),
                    2 => backward::<2>(&rows, gradient),
                    3 => backward::<3>(&rows, gradient),
                    4 => backward::<4>(&rows, gradient),
                    5 => backward::<5>(&rows, gradient),
                    6 => backward::<6>(&rows, gradient),
                    _ => unreachable!("tiles hold 1 to 6 classes"),
                }
            }
        }
    }

    /// Rows and residuals of a block, as [`Block`] has them, from a tile's first class on.
    struct Pairs<'a> {
        x: &'a [u32],
        padded: usize,
        columns: usize,
        residuals: &'a [u32],
        step: usize,
    }

    #[inline]
    fn load(v: &[u32; LANES]) -> __m512bh {
        // SAFETY: as many bits, of which all mean a number.
        unsafe { transmute(*v) }
    }

    #[inline]
    #[target_feature(enable = "avx512f")]
    fn splat(v: u32) -> __m512bh {
        // SAFETY: as above.
        unsafe { transmute(_mm512_set1_epi32(v.cast_signed())) }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn forward<const V: usize>(x: &[u32], pairs: usize, panel: &[u32], out: &mut [f32], step: usize) {
        let rows = x.len() / pairs;
        let panel = &panel.as_chunks::<LANES>().0.as_chunks::<V>().0[..pairs];
        for first in (0..rows).step_by(ROWS) {
            // Past the last row the last row is done again; its scores are not stored.
            let mut of_rows: [&[u32]; ROWS] = [&[]; ROWS];
            for (r, row) in of_rows.iter_mut().enumerate() {
                *row = &x[(first + r).min(rows - 1) * pairs..][..pairs];
            }
            let mut sums = [[_mm512_setzero_ps(); V]; ROWS];
            for (k, w) in panel.iter().enumerate() {
                for r in 0..ROWS {
                    let x = splat(of_rows[r][k]);
                    for v in 0..V {
                        sums[r][v] = _mm512_dpbf16_ps(sums[r][v], load(&w[v]), x);
                    }
                }
            }
            for (r, sums) in sums.iter().enumerate().take(rows - first) {
                let out = &mut out[(first + r) * step..][..V * LANES];
                for (out, sum) in out.as_chunks_mut::<LANES>().0.iter_mut().zip(sums) {
                    // SAFETY: as many numbers.
                    *out = unsafe { transmute::<__m512, [f32; LANES]>(*sum) };
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    fn backward<const H: usize>(rows: &Pairs, gradient: &mut [f32]) {
        let mut k = 0;
        while k < rows.padded {
            if k + VECTORS * LANES <= rows.columns {
                combine::<H, VECTORS>(rows, gradient, k);
                k += VECTORS * LANES;
            } else {
                combine::<H, 1>(rows, gradient, k);
                k += LANES;
            }
        }
    }

    /// `V` vectors of columns from `k` on.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    fn combine<const H: usize, const V: usize>(rows: &Pairs, gradient: &mut [f32], k: usize) {
        let &Pairs { x, padded, columns, residuals, step } = rows;
        let mut sums = [[_mm512_setzero_ps(); V]; H];
        for (x, residuals) in x.chunks_exact(padded).zip(residuals.chunks(step)) {
            let x = &x[k..k + V * LANES].as_chunks::<LANES>().0.as_chunks::<V>().0[0];
            let residuals: &[u32; H] = &residuals.as_chunks::<H>().0[0];
            for c in 0..H {
                let residual = splat(residuals[c]);
                for v in 0..V {
                    sums[c][v] = _mm512_dpbf16_ps(sums[c][v], load(&x[v]), residual);
                }
            }
        }
        for (gradient, sums) in gradient.chunks_exact_mut(columns).zip(&sums) {
            for (v, sum) in sums.iter().enumerate() {
                // SAFETY: as many numbers.
                let sum = unsafe { transmute::<__m512, [f32; LANES]>(*sum) };
                let out = gradient[k + v * LANES..].iter_mut();
                out.zip(sum).for_each(|(out, sum)| *out += sum);
            }
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod kernels {
    use super::{Bfloat, Block};

    impl Bfloat {
        pub fn new() -> Option<Self> {
            None
        }

        pub fn forward(self, _: &Block, _: usize, _: &[u32], _: &mut [f32], _: usize) {
            match self.0 {}
        }

        pub fn backward(self, _: &Block, _: usize, _: (usize, usize), _: &mut [f32]) {
            match self.0 {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_rounded_to_the_nearest_and_ties_to_even() {
        let bfloat = |v: f32| pair(0.0, v) >> 16;
        for v in [0.0, 1.0, -1.5, 3.0e38, 1e-30, 0.3, -std::f32::consts::PI, 1.0 + 1.0 / 256.0, 1.0 + 3.0 / 256.0] {
            assert_eq!(bfloat(v), u32::from(half::bf16::from_f32(v).to_bits()), "{v}");
            assert_eq!(pair(v, 1.0), bfloat(v) | 0x3f80_0000);
        }
    }

    #[test]
    fn rows_are_paired_with_zeros_where_one_is_alone() {
        let mut found = Vec::new();
        in_pairs(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, 3, &mut found);
        assert_eq!(found, [pair(1.0, 3.0), pair(2.0, 4.0), 0, pair(5.0, 0.0), pair(6.0, 0.0), 0]);
        let mut block = Block::default();
        block.take_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3);
        assert_eq!(block.across, [pair(1.0, 2.0), pair(3.0, 0.0), pair(4.0, 5.0), pair(6.0, 0.0)]);
    }
}
