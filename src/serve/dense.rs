//! Dense float32 linear algebra, as much as [`crate::precondition`] needs: products, Cholesky factors, triangular solves.
//!
//! Every sum is taken in an order that depends on the sizes alone, for any number of threads. Matrices are row after row.

use std::convert::Infallible;
use std::ops::Range;
use std::sync::OnceLock;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::error::Result;

/// Depth of a packed panel: 128 by 48 floats stay in the first-level cache.
const DEPTH: usize = 128;
/// Rows of the result that one task makes.
const STRIPE: usize = 128;
/// Rows of a diagonal block of a Cholesky factor.
const BLOCK: usize = 48;
/// From so many rows on, columns are solved for in blocks; and up to so many, nothing is packed for that.
const FEW_ROWS: usize = 4;
const UNPACKED: usize = 24;

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
        self.stripes(c, c_step, parallel, || cancel.check())
    }

    /// As [`Product::add_to`], of what is too small to be stopped.
    pub fn run(&self, c: &mut [f32], c_step: usize, parallel: bool) {
        let never = || Ok::<_, Infallible>(());
        let Ok(()) = self.stripes(c, c_step, parallel, never);
    }

    fn stripes<E: Send>(
        &self,
        c: &mut [f32],
        c_step: usize,
        parallel: bool,
        check: impl Fn() -> std::result::Result<(), E> + Sync,
    ) -> std::result::Result<(), E> {
        let arch = Arch::new();
        let work = |(index, c): (usize, &mut [f32])| {
            check()?;
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
                if i_step == 1 && height == M {
                    left.iter_mut().zip(&product.a[start..start + M]).for_each(|(left, a)| *left = factor * a);
                    continue;
                }
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
                let from = &product.b[start..start + wide];
                if wide == width {
                    // A call of memmove for so few would take as long again.
                    let (to, from) = (S::as_mut_simd_f32s(right).0, S::as_simd_f32s(from).0);
                    to.as_chunks_mut::<V>()
                        .0
                        .iter_mut()
                        .zip(from.as_chunks::<V>().0)
                        .for_each(|(to, from)| *to = *from);
                    continue;
                }
                right[..wide].copy_from_slice(from);
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
                    for (v, out) in c[start..start + wide].chunks_mut(S::F32_LANES).enumerate() {
                        let sum = simd.add_f32s(simd.partial_load_f32s(out), sums[v]);
                        simd.partial_store_f32s(out, sum);
                    }
                }
            }
        }
    }
}

/// An upper factor U with `U'U` = a symmetric matrix.
#[derive(Debug)]
pub struct Cholesky {
    factor: Vec<f32>,
    inverse_diagonal: Vec<f32>,
    /// What rows and columns of the matrix were multiplied with, if with anything.
    scale: Option<Vec<f32>>,
    /// The factor turned over, where many rows are solved for.
    lower: OnceLock<Vec<f32>>,
}

impl Cholesky {
    /// Of a matrix of which only the upper triangle counts; None if it is not positive definite in float32.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn new(mut a: Vec<f32>, size: usize, parallel: bool, cancel: &Cancel) -> Result<Option<Self>> {
        let arch = Arch::new();
        let mut panel = Vec::new();
        for first in (0..size).step_by(BLOCK) {
            let last = (first + BLOCK).min(size);
            if !arch.dispatch(Diagonal { a: &mut a, size, first, last }) {
                return Ok(None);
            }
            if last < size {
                let rest = size - last;
                panel.clear();
                a[first * size..last * size].chunks_exact(size).for_each(|row| panel.extend_from_slice(&row[last..]));
                let product = Product {
                    a: &panel,
                    a_steps: (rest, 1),
                    b: &panel,
                    b_step: rest,
                    picked: None,
                    depth: last - first,
                    factor: -1.0,
                    shape: (rest, rest),
                    upper: true,
                };
                let parallel = parallel && rest > 2 * STRIPE;
                product.add_to(&mut a[last * size + last..], size, parallel, cancel)?;
            }
        }
        let inverse_diagonal = (0..size).map(|i| 1.0 / a[i * size + i]).collect();
        Ok(Some(Self { factor: a, inverse_diagonal, scale: None, lower: OnceLock::new() }))
    }

    /// As [`Cholesky::new`], of the matrix scaled to a diagonal of `1 + more`: columns of very different sizes then do no
    /// harm.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn scaled(mut a: Vec<f32>, size: usize, more: f32, parallel: bool, cancel: &Cancel) -> Result<Option<Self>> {
        let root = |v: f32| if v > 0.0 && v.is_finite() { 1.0 / v.sqrt() } else { 1.0 };
        let scale: Vec<f32> = (0..size).map(|i| root(a[i * size + i])).collect();
        for (i, row) in a.chunks_exact_mut(size).enumerate() {
            row[i..].iter_mut().zip(&scale[i..]).for_each(|(v, other)| *v *= scale[i] * other);
            row[i] += more;
        }
        let factor = Self::new(a, size, parallel, cancel)?;
        Ok(factor.map(|factor| Self { scale: Some(scale), ..factor }))
    }

    /// Solves for every row of `v`, in place.
    pub fn solve(&self, v: &mut [f32], parallel: bool) {
        let size = self.inverse_diagonal.len();
        let rows = v.len() / size;
        let side = if rows < FEW_ROWS { size } else { BLOCK };
        let work = |v: &mut [f32]| {
            rescale(self.scale.as_deref(), v);
            self.solve_by(side, v);
            rescale(self.scale.as_deref(), v);
        };
        if parallel && rows > STRIPE {
            v.par_chunks_mut(STRIPE * size).for_each(work);
        } else {
            v.chunks_mut(STRIPE * size).for_each(work);
        }
    }

    /// The same in half the memory, for one vector at a time.
    pub fn packed(self) -> Triangle {
        let size = self.inverse_diagonal.len();
        let rows = self.factor.chunks_exact(size).enumerate();
        let above = rows.flat_map(|(i, row)| &row[i + 1..]).copied().collect();
        Triangle { above, inverse_diagonal: self.inverse_diagonal, scale: self.scale }
    }

    /// The inverse of the matrix, times a factor.
    pub fn inverse(&self, factor: f32, parallel: bool) -> Vec<f32> {
        let size = self.inverse_diagonal.len();
        let mut inverse = vec![0f32; size * size];
        (0..size).for_each(|i| inverse[i * (size + 1)] = factor);
        self.solve(&mut inverse, parallel);
        inverse
    }

    /// `side` columns at a time: what they take from all others is a product of matrices.
    fn solve_by(&self, side: usize, v: &mut [f32]) {
        let size = self.inverse_diagonal.len();
        let (arch, rows) = (Arch::new(), v.len() / size);
        let mut solved = Vec::new();
        let mut take = |v: &mut [f32], block: Range<usize>, from: &[f32], to: Range<usize>| {
            solved.clear();
            v.chunks_exact(size).for_each(|v| solved.extend_from_slice(&v[block.clone()]));
            if rows <= UNPACKED {
                let from = &from[block.start * size + to.start..];
                let (v, columns) = (&mut v[to.start..], to.len());
                arch.dispatch(Take { solved: &solved, depth: block.len(), from, v, size, columns });
                return;
            }
            let product = Product {
                a: &solved,
                a_steps: (1, block.len()),
                b: &from[block.start * size + to.start..],
                b_step: size,
                picked: None,
                depth: block.len(),
                factor: -1.0,
                shape: (rows, to.len()),
                upper: false,
            };
            product.run(&mut v[to.start..], size, false);
        };
        let blocks = (0..size).step_by(side).map(|first| first..(first + side).min(size));
        for block in blocks.clone() {
            arch.dispatch(SolveBlock { cholesky: self, block: block.clone(), v, forward: true });
            if block.end < size {
                take(v, block.clone(), &self.factor, block.end..size);
            }
        }
        for block in blocks.rev() {
            arch.dispatch(SolveBlock { cholesky: self, block: block.clone(), v, forward: false });
            if block.start > 0 {
                take(v, block.clone(), self.lower(), 0..block.start);
            }
        }
    }

    /// The factor turned over.
    fn lower(&self) -> &[f32] {
        self.lower.get_or_init(|| {
            let size = self.inverse_diagonal.len();
            let mut lower = vec![0f32; size * size];
            for (i, row) in self.factor.chunks_exact(size).enumerate() {
                row[i..].iter().enumerate().for_each(|(j, u)| lower[(i + j) * size + i] = *u);
            }
            lower
        })
    }
}

/// Multiplies the columns of every row with what those of a matrix were, if with anything.
fn rescale(scale: Option<&[f32]>, v: &mut [f32]) {
    if let Some(scale) = scale {
        v.chunks_exact_mut(scale.len()).for_each(|v| v.iter_mut().zip(scale).for_each(|(v, s)| *v *= s));
    }
}

/// A Cholesky factor of which only what is above the diagonal is kept, row after row.
#[derive(Debug)]
pub struct Triangle {
    above: Vec<f32>,
    inverse_diagonal: Vec<f32>,
    /// As in [`Cholesky`].
    scale: Option<Vec<f32>>,
}

impl Triangle {
    /// Unknowns.
    pub fn size(&self) -> usize {
        self.inverse_diagonal.len()
    }

    /// Half of a solution, in place: by the factor turned over if `first`, which is to be followed by the other.
    pub fn solve_half(&self, v: &mut [f32], first: bool) {
        if first {
            rescale(self.scale.as_deref(), v);
        }
        Arch::new().dispatch(SolveTriangle { triangle: self, v, forward: first });
        if !first {
            rescale(self.scale.as_deref(), v);
        }
    }
}

struct SolveTriangle<'a> {
    triangle: &'a Triangle,
    v: &'a mut [f32],
    forward: bool,
}

impl WithSimd for SolveTriangle<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { triangle: Triangle { above, inverse_diagonal, .. }, v, forward } = self;
        let size = inverse_diagonal.len();
        if forward {
            let mut rows = &above[..];
            for i in 0..size {
                v[i] *= inverse_diagonal[i];
                let (row, rest) = rows.split_at(size - i - 1);
                let (head, tail) = v.split_at_mut(i + 1);
                axpy(simd, tail, -head[i], row);
                rows = rest;
            }
        } else {
            let mut rows = &above[..];
            for i in (0..size).rev() {
                let (rest, row) = rows.split_at(rows.len() - (size - i - 1));
                v[i] = (v[i] - inner(simd, row, &v[i + 1..])) * inverse_diagonal[i];
                rows = rest;
            }
        }
    }
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

/// Some columns of every row of `v`, of which those before them, or behind, are solved.
struct SolveBlock<'a> {
    cholesky: &'a Cholesky,
    block: Range<usize>,
    v: &'a mut [f32],
    forward: bool,
}

impl WithSimd for SolveBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { cholesky: Cholesky { factor, inverse_diagonal, .. }, block, v, forward } = self;
        let size = inverse_diagonal.len();
        if forward {
            for i in block.clone() {
                let row = &factor[i * size + i + 1..i * size + block.end];
                for v in v.chunks_exact_mut(size) {
                    v[i] *= inverse_diagonal[i];
                    let (head, rest) = v[..block.end].split_at_mut(i + 1);
                    axpy(simd, rest, -head[i], row);
                }
            }
        } else {
            for i in block.clone().rev() {
                let row = &factor[i * size + i + 1..i * size + block.end];
                for v in v.chunks_exact_mut(size) {
                    let sum = inner(simd, row, &v[i + 1..block.end]);
                    v[i] = (v[i] - sum) * inverse_diagonal[i];
                }
            }
        }
    }
}

/// `v[r][j] -= sum over p of solved[r][p] from[p][j]` for few rows of `v` and `columns` of them; rows of both are `size` apart.
struct Take<'a> {
    solved: &'a [f32],
    depth: usize,
    from: &'a [f32],
    v: &'a mut [f32],
    size: usize,
    columns: usize,
}

impl WithSimd for Take<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(mut self, simd: S) {
        if S::REGISTER_COUNT >= 32 {
            self.vectors::<S, 4>(simd);
        } else {
            self.vectors::<S, 2>(simd);
        }
    }
}

impl Take<'_> {
    /// `V` vectors at a time.
    #[inline(always)]
    fn vectors<S: Simd, const V: usize>(&mut self, simd: S) {
        let mut at = 0;
        while at < self.columns {
            let width = S::F32_LANES.min(self.columns - at);
            if at + V * S::F32_LANES <= self.columns {
                let load = |from: &[f32]| S::as_simd_f32s(&from[..V * S::F32_LANES]).0.as_chunks::<V>().0[0];
                let sub = |v: &mut [f32], sums: [S::f32s; V]| {
                    let v = S::as_mut_simd_f32s(&mut v[..V * S::F32_LANES]).0;
                    v.iter_mut().zip(sums).for_each(|(v, sum)| *v = simd.sub_f32s(*v, sum));
                };
                self.rows::<S, V>(simd, at, load, sub);
                at += V * S::F32_LANES;
            } else {
                let load = |from: &[f32]| [simd.partial_load_f32s(&from[..width])];
                let sub = |v: &mut [f32], [sum]: [S::f32s; 1]| {
                    let v = &mut v[..width];
                    let rest = simd.sub_f32s(simd.partial_load_f32s(v), sum);
                    simd.partial_store_f32s(v, rest);
                };
                self.rows::<S, 1>(simd, at, load, sub);
                at += width;
            }
        }
    }

    #[inline(always)]
    fn rows<S: Simd, const V: usize>(
        &mut self,
        simd: S,
        at: usize,
        load: impl Fn(&[f32]) -> [S::f32s; V],
        sub: impl Fn(&mut [f32], [S::f32s; V]),
    ) {
        const ROWS: usize = 5;
        let &mut Self { solved, depth, from, ref mut v, size, .. } = self;
        let rows = solved.len() / depth;
        for first in (0..rows).step_by(ROWS) {
            // Past the last row the last row is done again, and not stored.
            let of_rows: [&[f32]; ROWS] =
                std::array::from_fn(|r| &solved[(first + r).min(rows - 1) * depth..][..depth]);
            let mut sums = [[simd.splat_f32s(0.0); V]; ROWS];
            for p in 0..depth {
                let from = load(&from[p * size + at..]);
                for r in 0..ROWS {
                    let factor = simd.splat_f32s(of_rows[r][p]);
                    for i in 0..V {
                        sums[r][i] = simd.mul_add_f32s(from[i], factor, sums[r][i]);
                    }
                }
            }
            for (r, sums) in sums.into_iter().enumerate().take(rows - first) {
                sub(&mut v[(first + r) * size + at..], sums);
            }
        }
    }
}

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
    simd.reduce_sum_f32s(sum) + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f32>()
}

/// The product of `a` and `b` `[depth, columns]`, `[rows, columns]`; steps as in [`Product`].
pub fn multiplied(
    a: &[f32],
    a_steps: (usize, usize),
    b: &[f32],
    (rows, columns): (usize, usize),
    parallel: bool,
) -> Vec<f32> {
    let mut out = vec![0f32; rows * columns];
    add_product(a, a_steps, b, (rows, columns), 1.0, &mut out, parallel);
    out
}

/// Adds the product of `a` and `b` `[depth, columns]` and a factor to `out` `[rows, columns]`; steps as in [`Product`].
pub fn add_product(
    a: &[f32],
    a_steps: (usize, usize),
    b: &[f32],
    shape: (usize, usize),
    factor: f32,
    out: &mut [f32],
    parallel: bool,
) {
    let (b_step, depth) = (shape.1, b.len() / shape.1);
    let product = Product { a, a_steps, b, b_step, picked: None, depth, factor, shape, upper: false };
    product.run(out, shape.1, parallel);
}

/// The inner product of long vectors: float32 within stretches, float64 between them.
pub fn inner_product(a: &[f32], b: &[f32]) -> f64 {
    const STRETCH: usize = 1024;
    struct Stretches<'a>(&'a [f32], &'a [f32]);
    impl WithSimd for Stretches<'_> {
        type Output = f64;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> f64 {
            self.0.chunks(STRETCH).zip(self.1.chunks(STRETCH)).map(|(a, b)| f64::from(inner(simd, a, b))).sum()
        }
    }
    Arch::new().dispatch(Stretches(a, b))
}

/// `to += factor * v`.
pub fn add_multiple(to: &mut [f32], factor: f32, v: &[f32]) {
    struct Axpy<'a>(&'a mut [f32], f32, &'a [f32]);
    impl WithSimd for Axpy<'_> {
        type Output = ();

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) {
            axpy(simd, self.0, self.1, self.2);
        }
    }
    Arch::new().dispatch(Axpy(to, factor, v));
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
