//! The pass of [`crate::pass`] for many classes: a row's scores lie side by side.
//!
//! For few classes scores are inner products, each summed across a vector at its end, and a vector of softmax is the same class of
//! many rows. For many classes those last sums cost a third of the arithmetic, and the softmax as much again. Here a
//! vector is many classes of one row throughout, and nothing is summed across.
//!
//! The bias enters as a factor, `exp(score + bias) = exp(score) exp(bias)`, in two float32 numbers: its digits are not
//! swallowed by the score's, as in a float32 sum, and no float64 is needed. Where biases are far apart, their whole parts are added
//! to the scores, which cancel them for the most part, and what is left is the factor.
//!
//! Far from the optimum the residuals that hardly count may be left out ([`crate::pass::Pass::leave_out`]): where a block has few
//! others, these are sorted by class and multiplied one by one ([`Sparse`]). What is multiplied is then bfloat16, where the
//! processor can ([`crate::bfloat`]).

use pulp::{Simd, WithSimd};

use crate::bfloat::{self, Bfloat};
use crate::curvature::{Gathered, combine};
use crate::pass::{Data, Part, TILE, backward, exp, tile_of, weight};

/// Rows per block: with 1,000 classes, their scores and as many rows' 1,000 columns lie in a second-level cache of 512 KiB.
const BLOCK: usize = 64;
/// Most vectors of classes that one kernel call handles: 8 rows by 3 vectors are 24 of AVX-512's 32 registers.
const VECTORS: usize = 3;
/// A row's classes are padded to a multiple of this: vectors of all machines.
const LANES: usize = 16;
/// From so many classes on this pays.
pub const CLASSES: usize = 24;
/// Where at most this part of a block's residuals count, each is worth more than its share of the backward product.
const FEW: usize = 5;
/// Farthest apart that biases may be as factors, which must keep clear of float32's ends; and at all, so that whole numbers of
/// their size can be told apart.
const BIAS_RANGE: f64 = 40.0;
const WHOLE_RANGE: f64 = 1e6;

/// Calls a product for a number of vectors, with as many rows at a time as registers hold.
macro_rules! vectors_of {
    ($s:ident, $vectors:expr, $product:ident($($argument:expr),*)) => {
        match ($vectors, $s::REGISTER_COUNT >= 32) {
            (1, true) => $product::<$s, 8, 1>($($argument),*),
            (2, true) => $product::<$s, 8, 2>($($argument),*),
            (3, true) => $product::<$s, 8, 3>($($argument),*),
            (1, false) => $product::<$s, 4, 1>($($argument),*),
            (2, false) => $product::<$s, 4, 2>($($argument),*),
            (3, false) => $product::<$s, 4, 3>($($argument),*),
            _ => unreachable!("panels have 1 to {VECTORS} vectors"),
        }
    };
}

/// Weights and bias as the kernels read them.
#[derive(Default)]
pub struct Packed {
    /// Per panel, per column, its classes' weights.
    weights: Vec<f32>,
    /// Per panel, per pair of columns, the same as bfloat16, where that is enough.
    brief: Vec<u32>,
    /// First class and vectors of each panel.
    panels: Vec<(usize, usize)>,
    /// What is added to the scores of every class; empty where that is nothing.
    whole: Vec<f32>,
    /// The exponential of what the bias is more than that, 0 where a class is padding; and what float32 left of it.
    factors: Vec<f32>,
    remainders: Vec<f32>,
    /// Bias minus the largest, and minus what is added to scores.
    bias: Vec<f64>,
    /// Classes with their padding.
    step: usize,
}

impl Packed {
    /// Whether rows of these classes should go through here.
    pub fn suits(bias: &[f64]) -> bool {
        bias.len() >= CLASSES && range(bias) < WHOLE_RANGE
    }

    /// Takes in weights `[classes, columns]`, if `brief` as bfloat16; a vector of the machine has `lanes` numbers.
    pub fn fill(&mut self, weights: &[f32], columns: usize, bias: &[f64], lanes: usize, brief: bool) {
        let classes = bias.len();
        self.step = classes.next_multiple_of(LANES);
        let vectors = self.step / lanes;
        let count = vectors.div_ceil(VECTORS);
        let bound = |i: usize| vectors * i / count;
        self.panels.clear();
        self.panels.extend((0..count).map(|i| (bound(i) * lanes, bound(i + 1) - bound(i))));
        let pairs = columns.div_ceil(2);
        self.weights.clear();
        self.weights.resize(if brief { 0 } else { self.step * columns }, 0.0);
        self.brief.clear();
        self.brief.resize(if brief { self.step * pairs } else { 0 }, 0);
        for &(first, vectors) in &self.panels {
            let width = vectors * lanes;
            let rows = weights.chunks_exact(columns).skip(first).take(width).enumerate();
            if brief {
                let panel = &mut self.brief[first * pairs..(first + width) * pairs];
                for (c, row) in rows {
                    let pair = |w: &[f32]| bfloat::pair(w[0], w.get(1).copied().unwrap_or_default());
                    row.chunks(2).enumerate().for_each(|(k, w)| panel[k * width + c] = pair(w));
                }
            } else {
                let panel = &mut self.weights[first * columns..(first + width) * columns];
                for (c, row) in rows {
                    row.iter().enumerate().for_each(|(k, &w)| panel[k * width + c] = w);
                }
            }
        }
        let largest = bias.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        self.bias.clear();
        self.bias.extend(bias.iter().map(|b| b - largest));
        self.whole.clear();
        if range(bias) >= BIAS_RANGE {
            self.whole.extend(self.bias.iter().map(|b| b.round() as f32));
            self.whole.resize(self.step, 0.0);
            self.bias.iter_mut().for_each(|b| *b -= b.round());
        }
        self.factors.clear();
        self.factors.extend(self.bias.iter().map(|b| b.exp() as f32));
        self.remainders.clear();
        let rest = |(b, &factor): (&f64, &f32)| (b.exp() - f64::from(factor)) as f32;
        self.remainders.extend(self.bias.iter().zip(&self.factors).map(rest));
        self.factors.resize(self.step, 0.0);
        self.remainders.resize(self.step, 0.0);
    }
}

/// How far apart biases are.
fn range(bias: &[f64]) -> f64 {
    let ends = bias.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), &b| (low.min(b), high.max(b)));
    ends.1 - ends.0
}

/// Rows from `start` on, of one part.
pub struct WideBlocks<'a> {
    pub data: &'a Data<'a>,
    pub x: &'a [f32],
    pub packed: &'a Packed,
    /// Classes of the backward kernel's calls, as [`crate::pass`] has them.
    pub tiles: &'a [(usize, usize)],
    pub start: usize,
    pub least: f32,
    /// Residuals below this may be left out of the gradient.
    pub cut: f32,
    /// Products are brief.
    pub brief: Option<Bfloat>,
    pub part: &'a mut Part,
}

impl WithSimd for WideBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { data, x: all, packed, tiles, start, least, cut, brief, part } = self;
        let mut halves = std::mem::take(&mut part.halves);
        let mut sparse = std::mem::take(&mut part.sparse);
        let mut before = Vec::new();
        let (columns, step) = (data.columns, packed.step);
        if part.scores.len() < BLOCK * step {
            part.scores.resize(BLOCK * step, 0.0);
        }
        for (block, x) in all.chunks(BLOCK * columns).enumerate() {
            let rows = x.len() / columns;
            let first = start + block * BLOCK;
            let scores = &mut part.scores[..rows * step];
            if brief.is_some() {
                halves.take_rows(x, columns);
            }
            let pairs = columns.div_ceil(2);
            for &(class, vectors) in &packed.panels {
                if let Some(brief) = brief {
                    let panel = &packed.brief[class * pairs..(class + vectors * bfloat::LANES) * pairs];
                    brief.forward(&halves, vectors, panel, &mut scores[class..], step);
                    continue;
                }
                let panel = &packed.weights[class * columns..(class + vectors * S::F32_LANES) * columns];
                let scores = &mut scores[class..];
                vectors_of!(S, vectors, forward(simd, x, columns, panel, scores, step));
            }
            if cut > 0.0 {
                before.clone_from(&part.bias_gradient);
            }
            for (row, scores) in (first..).zip(scores.chunks_exact_mut(step)) {
                let (label, weight) = (data.y[row] as usize, weight(data.weights, row));
                let (loss, others) = softmax(simd, scores, packed, label, weight);
                part.loss += f64::from(weight) * loss;
                part.separated &= others < 0.5;
                let all = scores[..data.classes].iter().copied();
                part.active.note(row, weight, label, scores[label], least, all);
                part.bias_gradient.iter_mut().zip(&*scores).for_each(|(sum, &r)| *sum += f64::from(r));
            }
            if sparse.few {
                let weights = |row: usize| weight(data.weights, first + row);
                if sparse.take(scores, step, block * BLOCK, |row| cut * weights(row)) {
                    continue;
                }
            }
            if cut > 0.0 {
                let sums = part.bias_gradient.iter().zip(&before);
                part.taken.iter_mut().zip(sums).for_each(|(taken, (now, before))| *taken += now - before);
            }
            if brief.is_some() {
                halves.take_residuals(x, columns, scores, step);
            }
            for &(c0, c1) in tiles {
                if let Some(brief) = brief {
                    brief.backward(&halves, columns, (c0, c1), &mut part.gradient[c0 * columns..c1 * columns]);
                    continue;
                }
                let (residuals, gradient) = (&scores[c0..], &mut part.gradient[c0 * columns..c1 * columns]);
                tile_of!(S, c1 - c0, backward(simd, x, columns, |c, r| residuals[r * step + c], gradient, &[]));
            }
        }
        sparse.add_to(simd, all, columns, &mut part.gradient, &mut part.taken);
        (part.sparse, part.halves) = (sparse, halves);
    }
}

/// The residuals that count, where few do.
#[derive(Default)]
pub struct Sparse {
    /// Whether they have been few so far.
    few: bool,
    /// Class, row and residual, row after row.
    found: Vec<(u32, u32, f32)>,
    /// The same, class by class.
    starts: Vec<u32>,
    rows: Vec<(u32, f32)>,
    residuals: Vec<f32>,
}

impl Sparse {
    /// Before the first block of a part; `looks` where they may be left out.
    pub fn begin(&mut self, looks: bool) {
        self.few = looks;
        self.found.clear();
    }

    /// Takes in the residuals of a block of rows that are at least their row's `cut`. False, and nothing is taken, where these
    /// are not few.
    #[inline(always)]
    fn take(&mut self, residuals: &[f32], step: usize, first: usize, cut: impl Fn(usize) -> f32) -> bool {
        let before = self.found.len();
        let most = before + residuals.len() / FEW;
        for (row, residuals) in residuals.chunks_exact(step).enumerate() {
            // Whatever the cut, 0 never counts.
            let cut = cut(row).max(f32::MIN_POSITIVE);
            for (at, residuals) in residuals.as_chunks::<LANES>().0.iter().enumerate() {
                let mut counts = 0u32;
                for (lane, r) in residuals.iter().enumerate() {
                    counts |= u32::from(r.abs() >= cut) << lane;
                }
                while counts != 0 {
                    let lane = counts.trailing_zeros() as usize;
                    self.found.push(((at * LANES + lane) as u32, (first + row) as u32, residuals[lane]));
                    counts &= counts - 1;
                }
            }
            if self.found.len() > most {
                self.found.truncate(before);
                // Nor will they be in the next.
                self.few = false;
                return false;
            }
        }
        true
    }

    /// Adds their products with the rows, class by class, and their sums, and forgets them.
    #[inline(always)]
    fn add_to<S: Simd>(&mut self, simd: S, x: &[f32], columns: usize, gradient: &mut [f32], taken: &mut [f64]) {
        let Self { found, starts, rows, residuals, .. } = self;
        if found.is_empty() {
            return;
        }
        starts.clear();
        starts.resize(taken.len() + 1, 0);
        found.iter().for_each(|found| starts[found.0 as usize + 1] += 1);
        (0..taken.len()).for_each(|class| starts[class + 1] += starts[class]);
        rows.resize(found.len(), (0, 0.0));
        residuals.resize(found.len(), 0.0);
        for (class, row, residual) in found.drain(..) {
            // Each start moves to its end, which is the next one's start.
            let at = &mut starts[class as usize];
            rows[*at as usize].0 = row;
            residuals[*at as usize] = residual;
            taken[class as usize] += f64::from(residual);
            *at += 1;
        }
        let x = Gathered { x, at: None };
        for (class, gradient) in gradient.chunks_exact_mut(columns).enumerate() {
            let range = class.checked_sub(1).map_or(0, |before| starts[before] as usize)..starts[class] as usize;
            if !range.is_empty() {
                combine(simd, gradient, &rows[range.clone()], &residuals[range], &x, columns);
            }
        }
    }
}

/// `out[r][c] = x[r] . w[c]` for the classes of a panel, `M` rows at a time.
#[inline(always)]
fn forward<S: Simd, const M: usize, const V: usize>(
    simd: S,
    x: &[f32],
    columns: usize,
    panel: &[f32],
    out: &mut [f32],
    step: usize,
) {
    let rows = x.len() / columns;
    let vectors = &S::as_simd_f32s(panel).0.as_chunks::<V>().0[..columns];
    for first in (0..rows).step_by(M) {
        // Past the last row the last row is done again; its scores are not stored.
        let x: [&[f32]; M] = std::array::from_fn(|r| &x[(first + r).min(rows - 1) * columns..][..columns]);
        let mut sums = [[simd.splat_f32s(0.0); V]; M];
        for (k, w) in vectors.iter().enumerate() {
            for r in 0..M {
                let x = simd.splat_f32s(x[r][k]);
                for v in 0..V {
                    sums[r][v] = simd.mul_add_f32s(x, w[v], sums[r][v]);
                }
            }
        }
        for (r, sums) in sums.iter().enumerate().take(rows - first) {
            let start = (first + r) * step;
            S::as_mut_simd_f32s(&mut out[start..start + V * S::F32_LANES]).0.copy_from_slice(sums);
        }
    }
}

/// Turns a row's scores into weight times (probability minus truth), padding into 0. The loss, and the share of all
/// classes but the own.
///
/// The own class's term is kept out of the sum: losses and shares far below float32's resolution around 1 keep their
/// digits.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32], packed: &Packed, label: usize, weight: f32) -> (f64, f32) {
    scores.iter_mut().zip(&packed.whole).for_each(|(score, whole)| *score += whole);
    let own_score = scores[label];
    let mut largest = [f32::NEG_INFINITY; LANES];
    let classes = packed.bias.len();
    let (whole, rest) = scores[..classes].as_chunks::<LANES>();
    for scores in whole {
        for l in 0..LANES {
            largest[l] = if scores[l] > largest[l] { scores[l] } else { largest[l] };
        }
    }
    let largest = rest.iter().chain(&largest).copied().fold(f32::NEG_INFINITY, f32::max);
    let term = |score: f32, factor: f32, remainder: f32| {
        let e = exp(score - largest);
        e * factor + e * remainder
    };
    let own = term(own_score, packed.factors[label], packed.remainders[label]);
    // Its exponential is then the least there is.
    scores[label] = f32::NEG_INFINITY;
    let factors = packed.factors.as_chunks::<LANES>().0.iter().zip(packed.remainders.as_chunks::<LANES>().0);
    for (scores, (factors, remainders)) in scores.as_chunks_mut::<LANES>().0.iter_mut().zip(factors) {
        for l in 0..LANES {
            // Padding has score 0, which may be above all others.
            scores[l] = term(scores[l].min(largest), factors[l], remainders[l]);
        }
    }
    let others = sum(simd, scores);
    let total = own + others;
    let loss = match others < own {
        true => f64::from(others / own).ln_1p(),
        false => f64::from(total).ln() - (f64::from(own_score) - f64::from(largest)) - packed.bias[label],
    };
    let share = others / total;
    let scale = weight / total;
    scores.iter_mut().for_each(|score| *score *= scale);
    scores[label] = -share * weight;
    (loss, share)
}

/// The sum of whole vectors.
#[inline(always)]
fn sum<S: Simd>(simd: S, v: &[f32]) -> f32 {
    let (fours, rest) = S::as_simd_f32s(v).0.as_chunks::<4>();
    let mut sums = [simd.splat_f32s(0.0); 4];
    for v in fours {
        for i in 0..4 {
            sums[i] = simd.add_f32s(sums[i], v[i]);
        }
    }
    rest.iter().for_each(|v| sums[0] = simd.add_f32s(sums[0], *v));
    simd.reduce_sum_f32s(simd.add_f32s(simd.add_f32s(sums[0], sums[1]), simd.add_f32s(sums[2], sums[3])))
}
