//! The Hessian of a softmax layer times a vector, over the rows and classes that still curve the loss.
//!
//! A row's Hessian is `(diag(p) - p p') kron x x'`. Once a fit has found its way, most rows are sure of their class and
//! most classes of a row are out of the question: their products with p vanish. A pass keeps, of each row, the classes
//! whose probability counts ([`Active`]); a product then reads only those rows and does only those classes' share of the
//! arithmetic: a tenth for ten classes, a hundredth for a thousand.
//!
//! Rows go through in blocks that stay in the second-level cache, class by class within a block. Sums are taken in an
//! order that depends on the data alone, for any number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::dense::{lane_sum, solve_f64};
use crate::error::Result;
use crate::rows::Rows;

/// Rows per block.
const BLOCK: usize = 64;
/// Most values that are copied together for many products.
const COPY: usize = 24 << 20;
/// Most parts that blocks are cut into, and the memory that their sums may take together.
const PARTS: usize = 32;
const PARTS_BYTES: usize = 64 << 20;

/// Which rows curve the loss, and by which classes: a row's are those from its start to the next row's.
#[derive(Clone, Debug, Default)]
pub struct Active {
    /// Row, where its classes start, and its weight.
    pub rows: Vec<(u32, u32, f32)>,
    /// Class and probability.
    pub classes: Vec<(u32, f32)>,
    /// Sum over all rows, also those left out, of weight times `1 - sum p^2`.
    pub spread: f64,
    /// The same over the rows that are kept, as much as they stand for.
    pub kept: f64,
    /// Of rows that curve the loss a little, what has not been stood for yet.
    owed: f32,
}

impl Active {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.classes.clear();
        (self.spread, self.kept, self.owed) = (0.0, 0.0, 0.0);
    }

    /// Takes a row in if it counts: classes of a probability of at least `least`, two of them or more. A row that curves
    /// the loss by less than `weighty` is taken as often as its share of that, and then stands for the others.
    pub fn push(&mut self, row: usize, weight: f32, least: f32, weighty: f32, probabilities: &[f32]) {
        let mut squares = 0.0;
        for p in probabilities {
            squares += p * p;
        }
        let spread = weight * (1.0 - squares).max(0.0);
        self.spread += f64::from(spread);
        let mut stands_for = 1.0;
        if spread < weighty {
            self.owed += spread;
            if self.owed < weighty {
                return;
            }
            self.owed -= weighty;
            stands_for = weighty / spread;
        }
        let start = self.classes.len();
        let mut total = 0.0;
        for (class, &p) in probabilities.iter().enumerate() {
            if p >= least {
                self.classes.push((class as u32, p));
                total += p;
            }
        }
        if self.classes.len() < start + 2 {
            self.classes.truncate(start);
            return;
        }
        self.kept += f64::from(spread * stands_for);
        self.classes[start..].iter_mut().for_each(|c| c.1 /= total);
        self.rows.push((row as u32, start as u32, weight * stands_for));
    }
}

/// The Hessian at one point, as a sum over rows; the penalty is the caller's.
pub struct Curvature {
    blocks: Vec<Block>,
    columns: usize,
    classes: usize,
    /// Multiply-adds of one product.
    work: f64,
    /// Number of rows.
    rows: usize,
    /// The rows in the blocks' order, from a multiple of 64 bytes on, where memory allows a copy.
    copy: Option<(Vec<f32>, usize)>,
    parallel: bool,
}

/// A row's two first classes, its number, its weight, and its classes with their probabilities.
type Picked<'a> = (u64, u32, f32, &'a [(u32, f32)]);

/// Some rows, and for every class which of them it is active in.
struct Block {
    rows: Vec<u32>,
    weights: Vec<f32>,
    /// Where each class that occurs starts in `entries`.
    classes: Vec<(u32, u32)>,
    /// Place of the row in the block, and probability.
    entries: Vec<(u32, f32)>,
}

impl Curvature {
    /// From what the parts of a pass found, in order; weights are divided by `total`.
    pub fn new<'a>(
        parts: impl Iterator<Item = &'a Active>,
        total: f64,
        columns: usize,
        classes: usize,
        parallel: bool,
    ) -> Self {
        let mut blocks = Vec::new();
        let (mut spread, mut kept, mut count) = (0.0, 0.0, 0usize);
        // Rows between the same two classes come together: a block then has few classes, and reads little beside its rows.
        let mut rows: Vec<Picked> = Vec::new();
        for part in parts {
            (spread, kept) = (spread + part.spread, kept + part.kept);
            for (i, &(row, start, weight)) in part.rows.iter().enumerate() {
                let end = part.rows.get(i + 1).map_or(part.classes.len(), |next| next.1 as usize);
                let active = &part.classes[start as usize..end];
                let (mut first, mut second) = ((0, f32::NEG_INFINITY), (0, f32::NEG_INFINITY));
                for &(class, p) in active {
                    if p > first.1 {
                        (first, second) = ((class, p), first);
                    } else if p > second.1 {
                        second = (class, p);
                    }
                }
                let pair = (u64::from(first.0.min(second.0)) << 32) | u64::from(first.0.max(second.0));
                rows.push((pair, row, weight, active));
            }
        }
        rows.sort_unstable_by_key(|row| (row.0, row.1));
        let row_count = rows.len();
        let mut by_class: Vec<Vec<(u32, f32)>> = vec![Vec::new(); classes];
        for rows in rows.chunks(BLOCK) {
            let mut block = Block::empty();
            for (place, &(_, row, weight, active)) in (0..).zip(rows) {
                for &(class, p) in active {
                    by_class[class as usize].push((place, p));
                }
                count += active.len();
                block.rows.push(row);
                block.weights.push(weight);
            }
            blocks.push(block.finish(&mut by_class));
        }
        // What was left out counts as more of what was kept.
        let factor = if kept > 0.0 { spread / kept / total } else { 0.0 };
        for block in &mut blocks {
            block.weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
        Self { blocks, columns, classes, work: 2.0 * (count * columns) as f64, rows: row_count, copy: None, parallel }
    }

    /// Multiply-adds of one product.
    pub fn work(&self) -> f64 {
        self.work
    }

    /// Number of rows that a product reads.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The step of the bias alone that puts the class totals right, as well as these rows tell; none where they cannot.
    pub fn balance(&self, gradient: &[f64]) -> Option<Vec<f64>> {
        let (classes, width) = (self.classes, self.columns + 1);
        let mut hessian = vec![0f64; classes * classes];
        let mut of_rows: Vec<Vec<(usize, f64)>> = vec![Vec::new(); BLOCK];
        for block in &self.blocks {
            for (class, range) in block.of_classes() {
                for &(row, p) in &block.entries[range] {
                    of_rows[row as usize].push((class, f64::from(p)));
                }
            }
            for (row, &weight) in of_rows.iter_mut().zip(&block.weights) {
                for &(a, p) in row.iter() {
                    hessian[a * classes + a] += f64::from(weight) * p;
                    row.iter().for_each(|&(b, q)| hessian[a * classes + b] -= f64::from(weight) * p * q);
                }
            }
            of_rows.iter_mut().for_each(Vec::clear);
        }
        // The same for all classes changes nothing: a stiffness along it makes the matrix one that can be factored.
        let mean = (0..classes).map(|c| hessian[c * classes + c]).sum::<f64>() / classes as f64;
        hessian.iter_mut().for_each(|h| *h += mean / classes as f64);
        let mut step: Vec<f64> = (0..classes).map(|c| -gradient[c * width + self.columns]).collect();
        solve_f64(&mut hessian, &mut step, 1e-9 * mean)?;
        let shift = step.iter().sum::<f64>() / classes as f64;
        let mut direction = vec![0.0; classes * width];
        step.iter().enumerate().for_each(|(c, step)| direction[c * width + self.columns] = step - shift);
        Some(direction)
    }

    /// Copies the rows together, where that is at most [`COPY`] values: many products then read them one after another.
    ///
    /// # Errors
    /// Rows that cannot be read.
    pub fn gather(&mut self, rows: &Rows) -> Result<()> {
        if self.rows * self.columns > COPY {
            return Ok(());
        }
        let mut copy = Vec::new();
        let all: Vec<u32> = self.blocks.iter().flat_map(|block| &block.rows).copied().collect();
        rows.gather(&all, self.columns, &mut copy)?;
        let first = copy.as_ptr().align_offset(64).min(15);
        self.copy = Some((copy, first));
        Ok(())
    }

    /// Into `out` and `out_bias` the product with `v` `[classes, columns]` and `bias` `[classes]`, in the coordinates of
    /// the rows as they are.
    ///
    /// # Errors
    /// Cancelled or past the deadline; rows that cannot be read.
    pub fn product(
        &self,
        rows: &Rows,
        v: &[f32],
        bias: &[f32],
        out: &mut [f64],
        out_bias: &mut [f64],
        cancel: &Cancel,
    ) -> Result<()> {
        let size = self.classes * self.columns;
        let most = (PARTS_BYTES / (4 * size)).clamp(2, PARTS);
        let per_part = self.blocks.len().div_ceil(most).max(4);
        let arch = Arch::new();
        let work = |(first, blocks): (usize, &[Block])| {
            let mut part = (vec![0f32; size], vec![0f64; self.classes]);
            let mut scratch = Scratch::default();
            for (i, block) in blocks.iter().enumerate() {
                cancel.check()?;
                let x = match &self.copy {
                    Some((copy, start)) => {
                        let start = start + (first * per_part + i) * BLOCK * self.columns;
                        &copy[start..start + block.rows.len() * self.columns]
                    }
                    None => rows.gather(&block.rows, self.columns, &mut scratch.read)?,
                };
                let (sums, bias_sums) = (&mut part.0[..], &mut part.1[..]);
                let columns = self.columns;
                arch.dispatch(One { block, x, columns, v, bias, sums, bias_sums, scores: &mut scratch.scores });
            }
            Ok(part)
        };
        out.fill(0.0);
        out_bias.fill(0.0);
        let mut add = |part: (Vec<f32>, Vec<f64>)| {
            out.iter_mut().zip(&part.0).for_each(|(sum, &v)| *sum += f64::from(v));
            out_bias.iter_mut().zip(&part.1).for_each(|(sum, v)| *sum += v);
        };
        if self.parallel {
            let parts: Vec<_> = self.blocks.par_chunks(per_part).enumerate().map(work).collect::<Result<_>>()?;
            parts.into_iter().for_each(add);
        } else {
            self.blocks.chunks(per_part).enumerate().try_for_each(|blocks| work(blocks).map(&mut add))?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Scratch {
    read: Vec<f32>,
    scores: Vec<f32>,
}

impl Block {
    fn empty() -> Self {
        Self { rows: Vec::with_capacity(BLOCK), weights: Vec::new(), classes: Vec::new(), entries: Vec::new() }
    }

    fn finish(mut self, by_class: &mut [Vec<(u32, f32)>]) -> Self {
        for (class, found) in (0u32..).zip(by_class) {
            if !found.is_empty() {
                self.classes.push((class, self.entries.len() as u32));
                self.entries.append(found);
            }
        }
        self
    }

    fn of_classes(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let ends = self.classes[1..].iter().map(|c| c.1 as usize).chain([self.entries.len()]);
        self.classes.iter().zip(ends).map(|(&(class, start), end)| (class as usize, start as usize..end))
    }
}

/// One block's share.
struct One<'a> {
    block: &'a Block,
    /// The block's rows, one after another.
    x: &'a [f32],
    columns: usize,
    v: &'a [f32],
    bias: &'a [f32],
    sums: &'a mut [f32],
    bias_sums: &'a mut [f64],
    scores: &'a mut Vec<f32>,
}

impl WithSimd for One<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { block, x, columns, v, bias, sums, bias_sums, scores } = self;
        let task = Task { block, x, columns };
        let count = block.entries.len();
        scores.clear();
        scores.resize(count * (S::F32_LANES + 1), 0.0);
        let (scores, partial) = scores.split_at_mut(count);
        // Column by column stretch, all classes of it: a stretch of all rows stays in the first-level cache.
        task.stretches::<S>(|task, first, width| match width {
            Width::Long => task.forward::<S, LONG>(simd, first, v, partial),
            Width::Short => task.forward::<S, 4>(simd, first, v, partial),
            Width::One => task.forward::<S, 1>(simd, first, v, partial),
            Width::Rest => task.forward_rest(first, v, scores),
        });
        let mut mean = [0f32; BLOCK];
        for (class, range) in block.of_classes() {
            for at in range {
                let (row, p) = block.entries[at];
                let lanes = &partial[at * S::F32_LANES..(at + 1) * S::F32_LANES];
                scores[at] += lane_sum(lanes) + bias[class];
                mean[row as usize] += p * scores[at];
            }
        }
        for (&(row, p), score) in block.entries.iter().zip(scores.iter_mut()) {
            *score = block.weights[row as usize] * p * (*score - mean[row as usize]);
        }
        for (class, range) in block.of_classes() {
            let mut sum = 0.0;
            for &r in &scores[range] {
                sum += f64::from(r);
            }
            bias_sums[class] += sum;
        }
        let scores = &*scores;
        task.stretches::<S>(|task, first, width| match width {
            Width::Long => task.backward::<S, LONG>(simd, first, scores, sums),
            Width::Short => task.backward::<S, 4>(simd, first, scores, sums),
            Width::One => task.backward::<S, 1>(simd, first, scores, sums),
            Width::Rest => task.backward_rest(first, scores, sums),
        });
    }
}

/// Vectors in a long stretch of columns.
const LONG: usize = 8;

/// How many columns a stretch has: vectors, or what is left and fills none.
#[derive(Clone, Copy)]
enum Width {
    Long,
    Short,
    One,
    Rest,
}

/// A block and its rows.
#[derive(Clone, Copy)]
struct Task<'a> {
    block: &'a Block,
    x: &'a [f32],
    columns: usize,
}

impl Task<'_> {
    /// Calls `work` for one stretch of columns after another, with its first column.
    #[inline(always)]
    fn stretches<S: Simd>(self, mut work: impl FnMut(Self, usize, Width)) {
        let lanes = S::F32_LANES;
        let mut first = 0;
        while first < self.columns {
            let (width, step) = match (self.columns - first) / lanes {
                LONG.. => (Width::Long, LONG * lanes),
                4.. => (Width::Short, 4 * lanes),
                1.. => (Width::One, lanes),
                0 => (Width::Rest, self.columns - first),
            };
            work(self, first, width);
            first += step;
        }
    }

    /// `K` vectors of a row.
    #[inline(always)]
    fn row<S: Simd, const K: usize>(&self, row: u32, first: usize) -> &[S::f32s; K] {
        let start = row as usize * self.columns + first;
        &S::as_simd_f32s(&self.x[start..start + K * S::F32_LANES]).0.as_chunks::<K>().0[0]
    }

    /// Adds to every entry's lanes its row times its class's vector.
    #[inline(always)]
    fn forward<S: Simd, const K: usize>(&self, simd: S, first: usize, v: &[f32], partial: &mut [f32]) {
        let partial = S::as_mut_simd_f32s(partial).0;
        for (class, range) in self.block.of_classes() {
            let start = class * self.columns + first;
            let v = &S::as_simd_f32s(&v[start..start + K * S::F32_LANES]).0.as_chunks::<K>().0[0];
            let (entries, partial) = (&self.block.entries[range.clone()], &mut partial[range]);
            let (many, rest) = entries.as_chunks::<6>();
            let (many_out, rest_out) = partial.as_chunks_mut::<6>();
            for (entries, out) in many.iter().zip(many_out) {
                let [a, b, c, d, e, f] = entries;
                let rows: [&[S::f32s; K]; 6] = [
                    self.row::<S, K>(a.0, first),
                    self.row::<S, K>(b.0, first),
                    self.row::<S, K>(c.0, first),
                    self.row::<S, K>(d.0, first),
                    self.row::<S, K>(e.0, first),
                    self.row::<S, K>(f.0, first),
                ];
                let mut sums = *out;
                for k in 0..K {
                    for r in 0..6 {
                        sums[r] = simd.mul_add_f32s(rows[r][k], v[k], sums[r]);
                    }
                }
                *out = sums;
            }
            for (&(row, _), out) in rest.iter().zip(rest_out) {
                let row = self.row::<S, K>(row, first);
                let mut sums = [simd.splat_f32s(0.0); 4];
                sums[0] = *out;
                for k in 0..K {
                    sums[k % 4] = simd.mul_add_f32s(row[k], v[k], sums[k % 4]);
                }
                *out = simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3]));
            }
        }
    }

    /// `sums += sum over entries of factor times row`.
    #[inline(always)]
    fn backward<S: Simd, const K: usize>(&self, simd: S, first: usize, factors: &[f32], sums: &mut [f32]) {
        for (class, range) in self.block.of_classes() {
            let start = class * self.columns + first;
            let out = S::as_mut_simd_f32s(&mut sums[start..start + K * S::F32_LANES]).0;
            let out = &mut out.as_chunks_mut::<K>().0[0];
            let mut tile = *out;
            for (&(row, _), &factor) in self.block.entries[range.clone()].iter().zip(&factors[range]) {
                let factor = simd.splat_f32s(factor);
                let row = self.row::<S, K>(row, first);
                for k in 0..K {
                    tile[k] = simd.mul_add_f32s(row[k], factor, tile[k]);
                }
            }
            *out = tile;
        }
    }

    #[inline(always)]
    fn forward_rest(&self, first: usize, v: &[f32], scores: &mut [f32]) {
        for (class, range) in self.block.of_classes() {
            let v = &v[class * self.columns + first..(class + 1) * self.columns];
            for at in range {
                let start = self.block.entries[at].0 as usize * self.columns;
                let row = &self.x[start + first..start + self.columns];
                for (x, v) in row.iter().zip(v) {
                    scores[at] += x * v;
                }
            }
        }
    }

    #[inline(always)]
    fn backward_rest(&self, first: usize, factors: &[f32], sums: &mut [f32]) {
        for (class, range) in self.block.of_classes() {
            let sums = &mut sums[class * self.columns + first..(class + 1) * self.columns];
            for at in range {
                let start = self.block.entries[at].0 as usize * self.columns;
                let row = &self.x[start + first..start + self.columns];
                for (sum, x) in sums.iter_mut().zip(row) {
                    *sum += factors[at] * x;
                }
            }
        }
    }
}
