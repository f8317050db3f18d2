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
use crate::dense::{axpy, inner};
use crate::error::Result;
use crate::pass;
use crate::products::{Factor, Products};
use crate::rows::Rows;

/// Rows per block.
const BLOCK: usize = 64;
/// Shares of a class's block, of the typical row's, that are left out.
const LITTLE: f64 = 0.003;
/// Probability of a row's own class that its curvature is taken at where it has less.
pub const SURELY_WRONG: f32 = 0.1;
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
    /// The same over the rows that are kept.
    pub kept: f64,
}

impl Active {
    /// Forgets everything.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.classes.clear();
        (self.spread, self.kept) = (0.0, 0.0);
    }

    /// Takes note of rows of which none is kept, of what all classes but the own have of each, times its weight.
    #[inline(always)]
    pub fn note_none(&mut self, others: &[f32; pass::BLOCK]) {
        self.spread += 2.0 * pass::sum_of(others);
    }

    /// Takes a row in if it counts, of its classes' residuals, weight times (probability minus truth); `own` is that of the
    /// label.
    #[inline(always)]
    pub fn note(
        &mut self,
        row: usize,
        weight: f32,
        label: usize,
        own: f32,
        least: f32,
        residuals: impl Iterator<Item = f32>,
    ) {
        // What all other classes have together.
        let others = -own;
        if weight <= 0.0 || others <= 0.0 {
            return;
        }
        // At most this share is not the own class's: too little to be kept, and seen without a look.
        if others < least * weight {
            self.spread += 2.0 * f64::from(others);
            return;
        }
        // Sure of another class, it hardly curves the loss here, but all the more on its way to the own one.
        let own = ((weight - others) / weight).max(0.0);
        let (own, share) =
            if own < SURELY_WRONG { (SURELY_WRONG, (1.0 - SURELY_WRONG) / others) } else { (own, 1.0 / weight) };
        let p = |(class, r): (usize, f32)| if class == label { own } else { r * share };
        self.push(row, weight, least, residuals.enumerate().map(p));
    }

    /// Takes a row in if it counts: classes of a probability of at least `least`, two of them or more.
    pub fn push(&mut self, row: usize, weight: f32, least: f32, probabilities: impl Iterator<Item = f32>) {
        let start = self.classes.len();
        let (mut squares, mut others, mut largest) = (0f32, 0f32, 0f32);
        for (class, p) in (0u32..).zip(probabilities) {
            squares += p * p;
            // All but the largest.
            others += p.min(largest);
            largest = largest.max(p);
            if p >= least {
                self.classes.push((class, p));
            }
        }
        // Of a row that is sure of its class, `1 - squares` is nothing but rounding.
        let own = if others < 1e-3 { 2.0 * others } else { (1.0 - squares).max(0.0) };
        let spread = f64::from(weight * own);
        self.spread += spread;
        if self.classes.len() < start + 2 {
            self.classes.truncate(start);
            return;
        }
        self.kept += spread;
        let total: f32 = self.classes[start..].iter().map(|c| c.1).sum();
        self.classes[start..].iter_mut().for_each(|c| c.1 /= total);
        self.rows.push((row as u32, start as u32, weight));
    }
}

/// The Hessian at one point, as a sum over rows; the penalty is the caller's.
pub struct Curvature {
    blocks: Vec<Block>,
    columns: usize,
    classes: usize,
    /// Multiply-adds of one product.
    work: f64,
    parallel: bool,
}

/// Some rows, and for every class which of them it is active in.
pub struct Block {
    pub rows: Vec<u32>,
    weights: Vec<f32>,
    /// Where each class that occurs starts in `entries`.
    classes: Vec<(u32, u32)>,
    /// Place of the row in the block, and probability.
    pub entries: Vec<(u32, f32)>,
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
        let mut by_class: Vec<Vec<(u32, f32)>> = vec![Vec::new(); classes];
        let mut block = Block::empty();
        for part in parts {
            (spread, kept) = (spread + part.spread, kept + part.kept);
            for (i, &(row, start, weight)) in part.rows.iter().enumerate() {
                let end = part.rows.get(i + 1).map_or(part.classes.len(), |next| next.1 as usize);
                for &(class, p) in &part.classes[start as usize..end] {
                    by_class[class as usize].push((block.rows.len() as u32, p));
                    count += 1;
                }
                block.rows.push(row);
                block.weights.push(weight);
                if block.rows.len() == BLOCK {
                    blocks.push(block.finish(&mut by_class));
                    block = Block::empty();
                }
            }
        }
        if !block.rows.is_empty() {
            blocks.push(block.finish(&mut by_class));
        }
        // What was left out counts as more of what was kept.
        let factor = if kept > 0.0 { spread / kept / total } else { 0.0 };
        for block in &mut blocks {
            block.weights.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
        }
        Self { blocks, columns, classes, work: 2.0 * (count * columns) as f64, parallel }
    }

    /// In how many rows each class is active, together.
    pub fn entries(&self) -> usize {
        self.blocks.iter().map(|block| block.entries.len()).sum()
    }

    /// Multiply-adds of one product.
    pub fn work(&self) -> f64 {
        self.work
    }

    /// Into `found` the rows that a class is active in, but for those that count for little there, and the weight of each in
    /// the class's own block of the Hessian, `p (1 - p)` times the row's.
    pub fn rows_of(&self, class: usize, found: &mut Vec<(u32, f32)>) {
        found.clear();
        for block in &self.blocks {
            let Some(entries) = block.of_class(class) else { continue };
            let entry =
                |&(row, p): &(u32, f32)| (block.rows[row as usize], block.weights[row as usize] * p * (1.0 - p));
            found.extend(entries.iter().map(entry));
        }
        let sum = |found: &[(u32, f32)]| found.iter().map(|entry| f64::from(entry.1)).sum::<f64>();
        let all = sum(found);
        let typical = found.iter().map(|entry| f64::from(entry.1).powi(2)).sum::<f64>() / all;
        found.retain(|entry| f64::from(entry.1) >= LITTLE * typical);
        // What was left out counts as more of what was kept.
        let factor = (all / sum(found)) as f32;
        found.iter_mut().for_each(|entry| entry.1 *= factor);
    }

    /// How much every two classes are confused, `[classes, classes]` of which the upper triangle is filled: the sum over rows
    /// of weight times `p_a p_b`.
    pub fn confused(&self) -> Vec<f64> {
        let classes = self.classes;
        let mut sums = vec![0.0; classes * classes];
        let mut of_rows: Vec<Vec<(usize, f32)>> = vec![Vec::new(); BLOCK];
        for block in &self.blocks {
            of_rows.iter_mut().for_each(Vec::clear);
            for (class, range) in block.of_classes() {
                block.entries[range].iter().for_each(|&(row, p)| of_rows[row as usize].push((class, p)));
            }
            for (found, &weight) in of_rows.iter().zip(&block.weights) {
                for (i, &(a, p)) in found.iter().enumerate() {
                    found[i + 1..].iter().for_each(|&(b, q)| sums[a * classes + b] += f64::from(weight * p * q));
                }
            }
        }
        sums
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
        let (arch, columns) = (Arch::new(), self.columns);
        self.add_up(out, out_bias, |blocks, sums, bias_sums| {
            let mut scratch = Scratch::default();
            for block in blocks {
                cancel.check()?;
                let x = rows.gather(&block.rows, columns, &mut scratch.read)?;
                let (sums, bias_sums, scores) = (&mut *sums, &mut *bias_sums, &mut scratch.scores);
                arch.dispatch(One { block, x, columns, v, bias, sums, bias_sums, scores });
            }
            Ok(())
        })
    }

    /// As [`Curvature::product`] in whole numbers, `out` `[classes, width]` as the rows' grid has it.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn whole_product(
        &self,
        rows: &Products,
        factor: &Factor,
        out: &mut [f64],
        taken: &mut [f64],
        cancel: &Cancel,
    ) -> Result<()> {
        self.add_up(out, taken, |blocks, sums, taken| {
            let mut scratch = Default::default();
            for (block, next) in blocks.iter().zip(blocks.iter().skip(1).map(|next| &next.rows[..]).chain([&[][..]])) {
                cancel.check()?;
                rows.add(block, next, factor, (sums, taken), &mut scratch);
            }
            Ok(())
        })
    }

    /// Into `out` and `of_classes` what all blocks add to them, some blocks after another.
    fn add_up(
        &self,
        out: &mut [f64],
        of_classes: &mut [f64],
        work: impl Fn(&[Block], &mut [f32], &mut [f64]) -> Result<()> + Sync,
    ) -> Result<()> {
        let (size, classes) = (out.len(), self.classes);
        let most = (PARTS_BYTES / (4 * size)).clamp(2, PARTS);
        let per_part = self.blocks.len().div_ceil(most).max(4);
        let part = |blocks: &[Block]| {
            let mut part = (vec![0f32; size], vec![0f64; classes]);
            work(blocks, &mut part.0, &mut part.1)?;
            Ok(part)
        };
        out.fill(0.0);
        of_classes.fill(0.0);
        let mut add = |part: (Vec<f32>, Vec<f64>)| {
            out.iter_mut().zip(&part.0).for_each(|(sum, &v)| *sum += f64::from(v));
            of_classes.iter_mut().zip(&part.1).for_each(|(sum, v)| *sum += v);
        };
        if self.parallel {
            let parts: Vec<_> = self.blocks.par_chunks(per_part).map(part).collect::<Result<_>>()?;
            parts.into_iter().for_each(add);
        } else {
            self.blocks.chunks(per_part).try_for_each(|blocks| part(blocks).map(&mut add))?;
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

    /// A class's entries, if it occurs.
    fn of_class(&self, class: usize) -> Option<&[(u32, f32)]> {
        let at = self.classes.binary_search_by_key(&(class as u32), |of| of.0).ok()?;
        let end = self.classes.get(at + 1).map_or(self.entries.len(), |next| next.1 as usize);
        Some(&self.entries[self.classes[at].1 as usize..end])
    }

    /// Each class that occurs, and where its entries are.
    pub fn of_classes(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> {
        let ends = self.classes[1..].iter().map(|c| c.1 as usize).chain([self.entries.len()]);
        self.classes.iter().zip(ends).map(|(&(class, start), end)| (class as usize, start as usize..end))
    }

    /// In place of all entries' scores what their rows count for.
    #[inline(always)]
    pub fn residuals(&self, scores: &mut [f32]) {
        let mut mean = [0f32; BLOCK];
        for (&(row, p), score) in self.entries.iter().zip(&*scores) {
            mean[row as usize] += p * score;
        }
        for (&(row, p), score) in self.entries.iter().zip(scores) {
            *score = self.weights[row as usize] * p * (*score - mean[row as usize]);
        }
    }
}

/// The rows of a block: where they lie, one after another or each at a place of its own.
pub struct Gathered<'a> {
    /// Values.
    pub x: &'a [f32],
    /// Places of the rows, in rows; none where they follow each other.
    pub at: Option<&'a [u32]>,
}

impl Gathered<'_> {
    #[inline(always)]
    fn row(&self, i: u32, columns: usize) -> &[f32] {
        let at = self.at.map_or(i, |at| at[i as usize]) as usize * columns;
        &self.x[at..at + columns]
    }
}

/// One block's share.
struct One<'a> {
    block: &'a Block,
    x: Gathered<'a>,
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
        scores.clear();
        for (class, range) in block.of_classes() {
            let v = &v[class * columns..(class + 1) * columns];
            let entries = &block.entries[range];
            let (fours, rest) = entries.as_chunks::<4>();
            for four in fours {
                let found = inner4(simd, four.map(|(row, _)| x.row(row, columns)), v);
                scores.extend(found.map(|score| score + bias[class]));
            }
            scores.extend(rest.iter().map(|&(row, _)| inner(simd, x.row(row, columns), v) + bias[class]));
        }
        block.residuals(scores);
        for (class, range) in block.of_classes() {
            bias_sums[class] += scores[range.clone()].iter().map(|&r| f64::from(r)).sum::<f64>();
            let sums = &mut sums[class * columns..(class + 1) * columns];
            combine(simd, sums, &block.entries[range.clone()], &scores[range], &x, columns);
        }
    }
}

/// Four inner products with the same vector.
#[inline(always)]
fn inner4<S: Simd>(simd: S, rows: [&[f32]; 4], v: &[f32]) -> [f32; 4] {
    let (v, v_rest) = S::as_simd_f32s(v);
    let rows = rows.map(|row| S::as_simd_f32s(row));
    let bodies = rows.map(|row| &row.0[..v.len()]);
    let mut sums = [[simd.splat_f32s(0.0); 2]; 4];
    let (pairs, last) = v.as_chunks::<2>();
    for (k, v) in pairs.iter().enumerate() {
        for r in 0..4 {
            sums[r][0] = simd.mul_add_f32s(bodies[r][2 * k], v[0], sums[r][0]);
            sums[r][1] = simd.mul_add_f32s(bodies[r][2 * k + 1], v[1], sums[r][1]);
        }
    }
    for v in last {
        for r in 0..4 {
            sums[r][0] = simd.mul_add_f32s(bodies[r][2 * pairs.len()], *v, sums[r][0]);
        }
    }
    std::array::from_fn(|r| {
        simd.reduce_sum_f32s(simd.add_f32s(sums[r][0], sums[r][1]))
            + rows[r].1.iter().zip(v_rest).map(|(a, b)| a * b).sum::<f32>()
    })
}

/// `sums += sum over entries of factor times row`, up to eight vectors of columns at a time.
#[inline(always)]
pub fn combine<S: Simd>(
    simd: S,
    sums: &mut [f32],
    entries: &[(u32, f32)],
    factors: &[f32],
    x: &Gathered,
    columns: usize,
) {
    let mut k = 0;
    combine_vectors::<S, 8>(simd, sums, entries, factors, x, columns, &mut k);
    combine_vectors::<S, 4>(simd, sums, entries, factors, x, columns, &mut k);
    combine_vectors::<S, 1>(simd, sums, entries, factors, x, columns, &mut k);
    if k < columns {
        for (&(row, _), &factor) in entries.iter().zip(factors) {
            axpy(simd, &mut sums[k..], factor, &x.row(row, columns)[k..]);
        }
    }
}

/// As [`combine`] from column `k` on, for as many times `K` vectors as there are; `k` is then behind them.
#[inline(always)]
fn combine_vectors<S: Simd, const K: usize>(
    simd: S,
    sums: &mut [f32],
    entries: &[(u32, f32)],
    factors: &[f32],
    x: &Gathered,
    columns: usize,
    k: &mut usize,
) {
    let width = K * S::F32_LANES;
    while *k + width <= columns {
        let mut tile = [simd.splat_f32s(0.0); K];
        for (&(row, _), &factor) in entries.iter().zip(factors) {
            let factor = simd.splat_f32s(factor);
            let row = S::as_simd_f32s(&x.row(row, columns)[*k..*k + width]).0.as_chunks::<K>().0[0];
            for j in 0..K {
                tile[j] = simd.mul_add_f32s(row[j], factor, tile[j]);
            }
        }
        let out = S::as_mut_simd_f32s(&mut sums[*k..*k + width]).0;
        for j in 0..K {
            out[j] = simd.add_f32s(out[j], tile[j]);
        }
        *k += width;
    }
}
