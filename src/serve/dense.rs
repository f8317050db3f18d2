//! Dense float32 linear algebra, as much as [`crate::precondition`] needs: products, Cholesky factors, triangular solves.
//!
//! Every sum is taken in an order that depends on the sizes alone, for any number of threads. Matrices are row after row.

use pulp::{Arch, Simd, WithSimd, bytemuck};
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::error::Result;

/// Depth of a packed panel: 128 by 48 floats stay in the first-level cache.
const DEPTH: usize = 128;
/// Rows of the result that one task makes.
const STRIPE: usize = 128;
/// Rows of a diagonal block of a Cholesky factor, and of a panel of blocks.
const BLOCK: usize = 48;
const PANEL: usize = 240;

/// `c[i][j] += sum over p of a(p, i) factor[p] b(p, j)`.
pub struct Product<'a> {
    /// Left matrix.
    pub a: &'a [f32],
    /// How far apart two `p` and two `i` are in `a`.
    pub a_steps: (usize, usize),
    /// Right matrix, `p` being its row.
    pub b: &'a [f32],
    /// How far apart two rows are in `b`.
    pub b_step: usize,
    /// Which `p` take part, and their factors; none means the first `depth`, with `factor`.
    pub picked: Option<&'a [(u32, f32)]>,
    /// Number of `p`.
    pub depth: usize,
    /// One factor for all.
    pub factor: f32,
    /// Rows and columns of the result.
    pub shape: (usize, usize),
    /// Whether only the result's upper triangle is wanted; some of what is below changes too.
    pub upper: bool,
}

impl Product<'_> {
    /// Adds the product to `c`, whose rows are `c_step` apart.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn add_to(&self, c: &mut [f32], c_step: usize, parallel: bool, cancel: &Cancel) -> Result<()> {
        let arch = Arch::new();
        let work = |(index, c): (usize, &mut [f32])| {
            cancel.check()?;
            arch.dispatch(Stripe { product: self, first: index * STRIPE, c, c_step });
            Ok(())
        };
        let end = (self.shape.0 * c_step).min(c.len());
        if parallel {
            c[..end].par_chunks_mut(STRIPE * c_step).enumerate().try_for_each(work)
        } else {
            c[..end].chunks_mut(STRIPE * c_step).enumerate().try_for_each(work)
        }
    }
}

struct Stripe<'a> {
    product: &'a Product<'a>,
    first: usize,
    c: &'a mut [f32],
    c_step: usize,
}

impl WithSimd for Stripe<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            stripe::<S, 8, 3>(simd, self);
        } else {
            stripe::<S, 4, 3>(simd, self);
        }
    }
}

#[inline(always)]
fn stripe<S: Simd, const M: usize, const V: usize>(simd: S, task: Stripe) {
    let Stripe { product, first, c, c_step } = task;
    let (rows, columns) = product.shape;
    let rows = rows.min(first + STRIPE) - first;
    let width = V * S::F32_LANES;
    let depth = product.picked.map_or(product.depth, <[_]>::len);
    let at = |p: usize| product.picked.map_or((p, product.factor), |picked| (picked[p].0 as usize, picked[p].1));
    let (p_step, i_step) = product.a_steps;
    let mut left = vec![0f32; rows.next_multiple_of(M) * DEPTH.min(depth)];
    let mut right = vec![0f32; width * DEPTH.min(depth)];
    for p0 in (0..depth).step_by(DEPTH) {
        let deep = DEPTH.min(depth - p0);
        for (tile, left) in left.chunks_exact_mut(M * deep).enumerate().take(rows.div_ceil(M)) {
            let height = M.min(rows - tile * M);
            for (p, left) in left.chunks_exact_mut(M).enumerate() {
                let (p, factor) = at(p0 + p);
                let start = p * p_step + (first + tile * M) * i_step;
                for (i, left) in left.iter_mut().enumerate() {
                    *left = if i < height { factor * product.a[start + i * i_step] } else { 0.0 };
                }
            }
        }
        let from = if product.upper { first / width * width } else { 0 };
        for j0 in (from..columns).step_by(width) {
            let wide = width.min(columns - j0);
            for (p, right) in right.chunks_exact_mut(width).enumerate().take(deep) {
                let start = at(p0 + p).0 * product.b_step + j0;
                right[..wide].copy_from_slice(&product.b[start..start + wide]);
                right[wide..].fill(0.0);
            }
            let (vectors, _) = S::as_simd_f32s(&right[..deep * width]).0.as_chunks::<V>();
            for (tile, left) in left.chunks_exact(M * deep).enumerate().take(rows.div_ceil(M)) {
                if product.upper && first + tile * M > j0 + wide {
                    break;
                }
                let mut sums = [[simd.splat_f32s(0.0); V]; M];
                for (left, right) in left.as_chunks::<M>().0.iter().zip(vectors) {
                    for i in 0..M {
                        let factor = simd.splat_f32s(left[i]);
                        for v in 0..V {
                            sums[i][v] = simd.mul_add_f32s(factor, right[v], sums[i][v]);
                        }
                    }
                }
                for (i, sums) in sums.iter().enumerate().take(rows - tile * M) {
                    let start = (tile * M + i) * c_step + j0;
                    let out = &mut c[start..start + wide];
                    if wide == width {
                        for (out, sum) in S::as_mut_simd_f32s(out).0.iter_mut().zip(sums) {
                            *out = simd.add_f32s(*out, *sum);
                        }
                        continue;
                    }
                    for (out, sum) in out.chunks_mut(S::F32_LANES).zip(sums) {
                        out.iter_mut().zip(bytemuck::cast_slice(&[*sum])).for_each(|(out, sum): (_, &f32)| *out += sum);
                    }
                }
            }
        }
    }
}

/// Solves for `v`, in place, with a small symmetric matrix that is destroyed; None unless all pivots exceed `least`.
pub fn solve_f64(a: &mut [f64], v: &mut [f64], least: f64) -> Option<()> {
    let size = v.len();
    for i in 0..size {
        let (above, below) = a.split_at_mut((i + 1) * size);
        let row = &above[i * size..];
        if !(row[i] > least && row[i].is_finite()) {
            return None;
        }
        for (j, other) in below.chunks_exact_mut(size).enumerate() {
            let factor = other[i] / row[i];
            if factor != 0.0 {
                other[i..].iter_mut().zip(&row[i..]).for_each(|(other, row)| *other -= factor * row);
                v[i + 1 + j] -= factor * v[i];
            }
        }
    }
    for i in (0..size).rev() {
        let row = &a[i * size..(i + 1) * size];
        let known: f64 = row[i + 1..].iter().zip(&v[i + 1..]).map(|(a, v)| a * v).sum();
        v[i] = (v[i] - known) / row[i];
    }
    Some(())
}

/// An upper factor U with `U'U` = a symmetric matrix.
pub struct Cholesky {
    factor: Vec<f32>,
    inverse_diagonal: Vec<f32>,
}

impl Cholesky {
    /// Of a matrix of which only the upper triangle counts; None if it is not positive definite in float32.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn new(mut a: Vec<f32>, size: usize, parallel: bool, cancel: &Cancel) -> Result<Option<Self>> {
        let arch = Arch::new();
        let mut panel = Vec::new();
        // Rows are finished in panels: what follows a panel is read and written once for it, not once for every block.
        for start in (0..size).step_by(PANEL) {
            let end = (start + PANEL).min(size);
            for first in (start..end).step_by(BLOCK) {
                let last = (first + BLOCK).min(end);
                if !arch.dispatch(Diagonal { a: &mut a, size, first, last }) {
                    return Ok(None);
                }
                subtract(&mut a, size, (first, last), (last, end), &mut panel, parallel, cancel)?;
            }
            subtract(&mut a, size, (start, end), (end, size), &mut panel, parallel, cancel)?;
        }
        let inverse_diagonal = (0..size).map(|i| 1.0 / a[i * size + i]).collect();
        Ok(Some(Self { factor: a, inverse_diagonal }))
    }

    /// Solves for every row of `v`, in place.
    pub fn solve(&self, v: &mut [f32]) {
        Arch::new().dispatch(Solve { cholesky: self, v });
    }
}

/// From the rows `to` of a matrix, on and above its diagonal, takes what the finished rows `done` of its factor explain.
fn subtract(
    a: &mut [f32],
    size: usize,
    done: (usize, usize),
    to: (usize, usize),
    panel: &mut Vec<f32>,
    parallel: bool,
    cancel: &Cancel,
) -> Result<()> {
    if to.0 >= to.1 {
        return Ok(());
    }
    let rest = size - to.0;
    panel.clear();
    a[done.0 * size..done.1 * size].chunks_exact(size).for_each(|row| panel.extend_from_slice(&row[to.0..]));
    let product = Product {
        a: panel,
        a_steps: (rest, 1),
        b: panel,
        b_step: rest,
        picked: None,
        depth: done.1 - done.0,
        factor: -1.0,
        shape: (to.1 - to.0, rest),
        upper: true,
    };
    product.add_to(&mut a[to.0 * size + to.0..], size, parallel && to.1 - to.0 > 2 * STRIPE, cancel)
}

struct Diagonal<'a> {
    a: &'a mut [f32],
    size: usize,
    first: usize,
    last: usize,
}

impl WithSimd for Diagonal<'_> {
    type Output = bool;

    /// Rows `first..last` of the factor.
    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) -> bool {
        let Self { a, size, first, last } = self;
        for i in first..last {
            let (done, row) = a.split_at_mut(i * size);
            let row = &mut row[i..size];
            for other in done[first * size..].chunks_exact(size) {
                axpy(simd, row, -other[i], &other[i..]);
            }
            let pivot = row[0];
            if !(pivot > 0.0 && pivot.is_finite()) {
                return false;
            }
            let scale = 1.0 / pivot.sqrt();
            row.iter_mut().for_each(|v| *v *= scale);
        }
        true
    }
}

struct Solve<'a> {
    cholesky: &'a Cholesky,
    v: &'a mut [f32],
}

impl WithSimd for Solve<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Cholesky { factor, inverse_diagonal } = self.cholesky;
        let size = inverse_diagonal.len();
        for i in 0..size {
            let row = &factor[i * size + i + 1..(i + 1) * size];
            for v in self.v.chunks_exact_mut(size) {
                v[i] *= inverse_diagonal[i];
                let (head, rest) = v.split_at_mut(i + 1);
                axpy(simd, rest, -head[i], row);
            }
        }
        for i in (0..size).rev() {
            let row = &factor[i * size + i + 1..(i + 1) * size];
            for v in self.v.chunks_exact_mut(size) {
                let sum = inner(simd, row, &v[i + 1..]);
                v[i] = (v[i] - sum) * inverse_diagonal[i];
            }
        }
    }
}

/// The sum of a vector's lanes, halves added to halves. (The crate's own is not inlined, and costs as much as a product.)
#[inline(always)]
pub fn lane_sum(lanes: &[f32]) -> f32 {
    let mut half = [0f32; 8];
    match lanes.as_chunks::<16>().0 {
        [lanes, ..] => (0..8).for_each(|i| half[i] = lanes[i] + lanes[i + 8]),
        [] => half[..lanes.len()].copy_from_slice(lanes),
    }
    (half[0] + half[4] + (half[2] + half[6])) + (half[1] + half[5] + (half[3] + half[7]))
}

/// The sums of the lanes of vectors of `lanes`, one vector after another in `flat`; in `other`, as long, in between.
/// The sums are then the first of `flat`.
macro_rules! lane_sums {
    ($name:ident, $t:ty) => {
        #[inline(always)]
        pub fn $name(flat: &mut [$t], other: &mut [$t], lanes: usize) {
            #[inline(always)]
            fn halve<const WIDTH: usize>(from: &[$t], to: &mut [$t]) {
                for (from, to) in from.as_chunks::<WIDTH>().0.iter().zip(to.chunks_exact_mut(WIDTH / 2)) {
                    let (low, high) = from.split_at(WIDTH / 2);
                    to.iter_mut().zip(low).zip(high).for_each(|((to, low), high)| *to = low + high);
                }
            }
            let count = flat.len() / lanes;
            match lanes {
                16 => {
                    halve::<16>(flat, other);
                    halve::<8>(&other[..count * 8], flat);
                    halve::<4>(&flat[..count * 4], other);
                    halve::<2>(&other[..count * 2], flat);
                }
                8 => {
                    halve::<8>(flat, other);
                    halve::<4>(&other[..count * 4], flat);
                    halve::<2>(&flat[..count * 2], other);
                    flat[..count].copy_from_slice(&other[..count]);
                }
                4 => {
                    halve::<4>(flat, other);
                    halve::<2>(&other[..count * 2], flat);
                }
                2 => {
                    halve::<2>(flat, other);
                    flat[..count].copy_from_slice(&other[..count]);
                }
                _ => {}
            }
        }
    };
}

lane_sums!(lane_sums_f32, f32);
lane_sums!(lane_sums_f64, f64);

/// `to += factor * v`.
#[inline(always)]
pub fn axpy<S: Simd>(simd: S, to: &mut [f32], factor: f32, v: &[f32]) {
    let ((to, to_rest), (v, v_rest)) = (S::as_mut_simd_f32s(to), S::as_simd_f32s(v));
    let many = simd.splat_f32s(factor);
    for (to, v) in to.iter_mut().zip(v) {
        *to = simd.mul_add_f32s(many, *v, *to);
    }
    to_rest.iter_mut().zip(v_rest).for_each(|(to, v)| *to += factor * v);
}

/// The inner product.
#[inline(always)]
pub fn inner<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let ((a, a_rest), (b, b_rest)) = (S::as_simd_f32s(a), S::as_simd_f32s(b));
    let ((a, a_last), (b, b_last)) = (a.as_chunks::<4>(), b.as_chunks::<4>());
    let mut sums = [simd.splat_f32s(0.0); 4];
    for (a, b) in a.iter().zip(b) {
        for i in 0..4 {
            sums[i] = simd.mul_add_f32s(a[i], b[i], sums[i]);
        }
    }
    for (a, b) in a_last.iter().zip(b_last) {
        sums[0] = simd.mul_add_f32s(*a, *b, sums[0]);
    }
    let sum = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
    lane_sum(bytemuck::cast_slice(&[sum])) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// Makes the rows of `q` orthogonal and of length 1, each twice against those before it (Gram-Schmidt). A row without a
/// part of its own becomes 0.
pub fn orthonormalise(q: &mut [f32], columns: usize) {
    Arch::new().dispatch(Orthonormalise { q, columns });
}

struct Orthonormalise<'a> {
    q: &'a mut [f32],
    columns: usize,
}

impl WithSimd for Orthonormalise<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let columns = self.columns;
        for i in 0..self.q.len() / columns {
            let (done, row) = self.q.split_at_mut(i * columns);
            let row = &mut row[..columns];
            let before = inner(simd, row, row).sqrt();
            for _ in 0..2 {
                for other in done.chunks_exact(columns) {
                    let part = inner(simd, row, other);
                    axpy(simd, row, -part, other);
                }
            }
            let length = inner(simd, row, row).sqrt();
            let scale = if length > 1e-5 * before && length.is_finite() { 1.0 / length } else { 0.0 };
            row.iter_mut().for_each(|v| *v *= scale);
        }
    }
}

/// `out[r][i] = a[r] . b[i]` for rows of `columns`.
pub fn inner_products(a: &[f32], b: &[f32], columns: usize, out: &mut [f32]) {
    Arch::new().dispatch(InnerProducts { a, b, columns, out });
}

struct InnerProducts<'a> {
    a: &'a [f32],
    b: &'a [f32],
    columns: usize,
    out: &'a mut [f32],
}

impl WithSimd for InnerProducts<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { a, b, columns, out } = self;
        let count = b.len() / columns;
        // The longer one is read once.
        if a.len() > b.len() {
            for (a, out) in a.chunks_exact(columns).zip(out.chunks_exact_mut(count)) {
                b.chunks_exact(columns).zip(out).for_each(|(b, out)| *out = inner(simd, a, b));
            }
        } else {
            for (i, b) in b.chunks_exact(columns).enumerate() {
                for (r, a) in a.chunks_exact(columns).enumerate() {
                    out[r * count + i] = inner(simd, a, b);
                }
            }
        }
    }
}

/// `to[r] += factor * sum over i of t[r][i] b[i]` for rows of `columns`.
pub fn add_combinations(to: &mut [f32], factor: f32, t: &[f32], b: &[f32], columns: usize) {
    Arch::new().dispatch(AddCombinations { to, factor, t, b, columns });
}

struct AddCombinations<'a> {
    to: &'a mut [f32],
    factor: f32,
    t: &'a [f32],
    b: &'a [f32],
    columns: usize,
}

impl WithSimd for AddCombinations<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let count = self.b.len() / self.columns;
        for (i, b) in self.b.chunks_exact(self.columns).enumerate() {
            for (r, to) in self.to.chunks_exact_mut(self.columns).enumerate() {
                axpy(simd, to, self.factor * self.t[r * count + i], b);
            }
        }
    }
}
