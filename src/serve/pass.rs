//! One pass over the features: loss and gradient of a softmax layer, reading every row once.
//!
//! Where float32 products leave too much noise (weak penalties, columns that nearly cancel), [`Pass::run_exactly`] does
//! the same in float64 throughout, several times slower.
//!
//! Rows go through in blocks that stay in the second-level cache: scores of a block, its softmax, its share of the
//! gradient. Scores and gradients are float32 products, everything that is summed over many rows is float64. Rows are
//! cut into parts whose number depends on the sizes alone, and parts are added in order: the result is the same bit for
//! bit for any number of threads.
//!
//! The vector code is written once over `pulp::Simd` and chosen at run time (AVX-512, AVX2 with FMA, NEON, scalar).

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::bfloat::{self, Bfloat};
use crate::biases::Biases;
use crate::cancel::Cancel;
use crate::curvature::Active;
use crate::error::Result;
use crate::pass_wide::{Packed, Sparse, WideBlocks};
use crate::rounded::{Move, Rounded, TOGETHER, round_residuals};
use crate::rows::Rows;

/// Rows per block: 32 rows of 2,048 columns are 256 KiB.
pub const BLOCK: usize = 32;
/// Most classes that one kernel call handles: 6 classes by 4 rows are 24 of AVX-512's 32 registers.
pub const TILE: usize = 6;
/// Most parts that rows are cut into, and the memory that their gradients may take together.
const PARTS: usize = 64;
const PARTS_BYTES: usize = 128 << 20;
/// Parts that go through float64 at a time.
const WAVE: usize = 8;

/// Calls a product for the number of classes of a tile, with as many rows or vectors at a time as registers hold.
macro_rules! tile_of {
    ($s:ident, $classes:expr, $product:ident($($argument:expr),*)) => {
        tile_of!(@ $s, $classes, $product, ($($argument),*), 1 2 3 4 5 6)
    };
    (@ $s:ident, $classes:expr, $product:ident, $arguments:tt, $($h:literal)*) => {
        match $classes {
            $($h if $s::REGISTER_COUNT >= 32 => tile_of!(@call $product, $s, 4, $h, $arguments),
              $h => tile_of!(@call $product, $s, 2, $h, $arguments),)*
            _ => unreachable!("tiles hold 1 to {TILE} classes"),
        }
    };
    (@call $product:ident, $s:ident, $r:literal, $h:literal, ($($argument:expr),*)) => {
        $product::<$s, $r, $h>($($argument),*)
    };
}
pub(crate) use tile_of;

/// What a pass is over.
pub struct Data<'a> {
    /// `[rows, columns]`.
    pub x: Rows<'a>,
    /// Number of columns, at least 1.
    pub columns: usize,
    /// One class per row.
    pub y: &'a [u32],
    /// Number of classes.
    pub classes: usize,
    /// One weight per row; none means 1.
    pub weights: Option<&'a [f32]>,
}

/// What a pass found, before any division by the number of rows.
pub struct Sums<'b> {
    /// Sum over rows of weight times cross-entropy.
    pub loss: f64,
    /// `[classes, columns]`: sum over rows of weight times (probability minus truth) times feature.
    pub gradient: &'b [f64],
    /// `[classes]`: the same without the feature.
    pub bias_gradient: &'b [f64],
    /// As `bias_gradient`, of the residuals alone that `gradient` has: see [`Pass::leave_out`].
    pub taken: &'b [f64],
    /// `[classes]`: where the pass was, see [`Pass::right`].
    pub bias: &'b [f64],
    /// Whether every row's class scores strictly above all others.
    pub separated: bool,
}

/// Buffers of a pass, reused from one to the next.
pub struct Pass {
    arch: Arch,
    parts: Vec<Part>,
    packed: Vec<f32>,
    packed_wide: Packed,
    packed_exactly: Vec<f64>,
    gradient: Vec<f64>,
    bias_gradient: Vec<f64>,
    taken: Vec<f64>,
    /// Of rounded rows.
    sums: Vec<f64>,
    bias: Vec<f64>,
    biases: Option<Biases>,
    right: bool,
    rows_per_part: usize,
    parallel: bool,
    tiles: Vec<(usize, usize)>,
    least: f32,
    cut: f32,
    left_out: bool,
    keeps: bool,
    bfloat: Option<Bfloat>,
}

/// What a pass over rounded rows found, from the anchor on: see [`crate::rounded`].
pub struct Moved<'b> {
    /// Sum over rows of weight times cross-entropy.
    pub loss: f64,
    /// Sum over rows of the anchor's residuals times how far scores have moved.
    pub along: f64,
    /// `[classes, width]`, for [`Rounded::gradient`].
    pub sums: &'b [f64],
    /// `[classes]`: sum over rows of how much residuals have changed, as rounded.
    pub taken: &'b [f64],
    /// `[classes]`: as they are.
    pub bias_gradient: &'b [f64],
}

/// What a part of the rows adds up to.
pub struct Part {
    pub gradient: Vec<f32>,
    pub bias_gradient: Vec<f64>,
    pub taken: Vec<f64>,
    pub loss: f64,
    pub separated: bool,
    /// Of one block of rows.
    pub scores: Vec<f32>,
    /// Of all its blocks, where they are kept for a moment.
    all_scores: Vec<f32>,
    pub active: Active,
    pub sparse: Sparse,
    pub halves: bfloat::Block,
    scratch: Vec<f32>,
    /// Scores and residuals of all its blocks at the anchor, `[classes][BLOCK]` each.
    anchor: (Vec<f32>, Vec<f32>),
    rounded: RoundedPart,
}

/// What a part has for passes over rounded rows.
#[derive(Default)]
struct RoundedPart {
    along: f64,
    /// Of one or two blocks: how far scores have moved, and then residuals.
    moved: Vec<f32>,
    pairs: Vec<u32>,
    scale: Vec<f32>,
    sums: Vec<f32>,
}

impl Pass {
    /// Buffers for passes over data of this shape; `parallel` runs the parts in the current rayon pool.
    pub fn new(data: &Data, parallel: bool) -> Self {
        let (rows, size) = (data.y.len(), data.classes * data.columns);
        let most = (PARTS_BYTES / (4 * size)).clamp(4, PARTS);
        let parts = (rows / 128).clamp(1, most);
        let rows_per_part = rows.div_ceil(parts).next_multiple_of(BLOCK);
        let part = || Part {
            gradient: vec![0.0; size],
            bias_gradient: vec![0.0; data.classes],
            taken: vec![0.0; data.classes],
            loss: 0.0,
            separated: true,
            scores: vec![0.0; data.classes * BLOCK],
            all_scores: Vec::new(),
            active: Active::default(),
            sparse: Sparse::default(),
            halves: bfloat::Block::default(),
            scratch: Vec::new(),
            anchor: Default::default(),
            rounded: RoundedPart::default(),
        };
        Self {
            arch: Arch::new(),
            parts: (0..rows.div_ceil(rows_per_part)).map(|_| part()).collect(),
            packed: Vec::new(),
            packed_wide: Packed::default(),
            packed_exactly: Vec::new(),
            gradient: vec![0.0; size],
            bias_gradient: vec![0.0; data.classes],
            taken: vec![0.0; data.classes],
            sums: Vec::new(),
            bias: Vec::new(),
            biases: None,
            right: false,
            rows_per_part,
            parallel,
            tiles: tiles_of(data.classes),
            least: 1e-4,
            cut: 0.0,
            left_out: false,
            keeps: false,
            bfloat: Bfloat::new(),
        }
    }

    /// From now on passes in float32 over few classes keep the scores and residuals of all rows, for [`Pass::run_rounded`],
    /// or they do not.
    pub fn keep_anchor(&mut self, keeps: bool) {
        self.keeps = keeps;
        if !keeps {
            self.parts.iter_mut().for_each(|part| part.anchor = Default::default());
        }
    }

    /// Whether those of the last pass in float32 are there.
    pub fn has_anchor(&self) -> bool {
        self.parts.iter().all(|part| !part.anchor.0.is_empty())
    }

    /// From now on, for steps that are far from the optimum: residuals below this, times a row's weight, may be left out of the
    /// gradient where that saves most of the backward product, but not of the bias gradient; and products may be in
    /// bfloat16 ([`crate::bfloat`]). Neither where the kernels are those of few classes.
    pub fn leave_out(&mut self, below: f32) {
        self.cut = below;
    }

    /// Lets passes in float32 over few classes move the bias to where the classes' totals are these, if they are near
    /// ([`Pass::right`]). Scores of all rows are held for it, and rows are read twice.
    pub fn may_right(&mut self, totals: Vec<f64>) {
        self.biases = Some(Biases::new(totals));
    }

    /// From now on the bias is moved, if it may be, or it is not. Whether it is.
    pub fn right(&mut self, right: bool) -> bool {
        self.right = right && self.biases.is_some();
        self.right
    }

    /// Whether something may be missing in the last gradient, or it and the loss may be as coarse as bfloat16.
    pub fn left_out(&self) -> bool {
        self.left_out
    }

    /// From now on a row's classes count as active from this probability on.
    pub fn keep_from(&mut self, least: f32) {
        self.least = least;
    }

    /// What curves the loss where the last pass was, in the order of the rows.
    pub fn active(&self) -> impl Iterator<Item = &Active> {
        self.parts.iter().map(|part| &part.active)
    }

    /// Loss and gradient at `weights` `[classes, columns]` and `bias` `[classes]`.
    ///
    /// # Errors
    /// [`crate::error::Error::Cancelled`] and [`crate::error::Error::Deadline`], looked at between blocks.
    pub fn run(&mut self, data: &Data, weights: &[f32], bias: &[f64], cancel: &Cancel) -> Result<Sums<'_>> {
        let lanes = self.arch.dispatch(Lanes).0;
        let wide = Packed::suits(bias);
        let brief = self.bfloat.filter(|_| self.cut > 0.0 && lanes == bfloat::LANES);
        match wide {
            true => self.packed_wide.fill(weights, data.columns, bias, lanes, brief.is_some()),
            false => pack(weights, data.columns, &self.tiles, lanes, &mut self.packed),
        }
        let (arch, rows_per_part, packed, tiles) = (self.arch, self.rows_per_part, &self.packed[..], &self.tiles[..]);
        let packed_wide = &self.packed_wide;
        self.bias.clear();
        self.bias.extend_from_slice(bias);
        let known = !wide && self.right;
        if let Some(biases) = self.biases.as_mut().filter(|_| known) {
            let work = |(index, part): (usize, &mut Part)| {
                let first = index * rows_per_part;
                let last = (first + rows_per_part).min(data.y.len());
                part.all_scores.resize(rows_per_part * bias.len(), 0.0);
                let chunks = part.all_scores.chunks_mut(BLOCK * 8 * bias.len());
                for (start, scores) in (first..last).step_by(BLOCK * 8).zip(chunks) {
                    cancel.check()?;
                    let end = (start + BLOCK * 8).min(last);
                    let x = data.x.block(start, end, data.columns, &mut part.scratch)?;
                    arch.dispatch(Scores { x, columns: data.columns, packed, tiles, scores });
                }
                Ok(())
            };
            if self.parallel {
                self.parts.par_iter_mut().enumerate().map(work).collect::<Result<()>>()?;
            } else {
                self.parts.iter_mut().enumerate().try_for_each(work)?;
            }
            let scores = self.parts.iter().flat_map(|part| part.all_scores.chunks_exact(BLOCK * bias.len()));
            biases.right(scores, data, &mut self.bias, cancel)?;
        }
        let bias = &self.bias[..];
        let (least, cut, keeps) = (self.least, self.cut, self.keeps && !wide);
        let work = |(index, part): (usize, &mut Part)| {
            let first = index * rows_per_part;
            let last = (first + rows_per_part).min(data.y.len());
            part.gradient.fill(0.0);
            part.bias_gradient.fill(0.0);
            part.taken.fill(0.0);
            (part.loss, part.separated) = (0.0, true);
            part.active.clear();
            part.sparse.begin(cut > 0.0);
            part.anchor.0.clear();
            part.anchor.1.clear();
            let mut scratch = std::mem::take(&mut part.scratch);
            for start in (first..last).step_by(BLOCK * 8) {
                cancel.check()?;
                let end = (start + BLOCK * 8).min(last);
                let x = data.x.block(start, end, data.columns, &mut scratch)?;
                match wide {
                    true => arch.dispatch(WideBlocks {
                        data,
                        x,
                        packed: packed_wide,
                        tiles,
                        start,
                        least,
                        cut,
                        brief,
                        part,
                    }),
                    false => {
                        let known = known.then_some(start - first);
                        arch.dispatch(Blocks { data, x, packed, tiles, bias, start, end, least, known, keeps, part });
                    }
                }
            }
            part.scratch = scratch;
            Ok(())
        };
        if self.parallel {
            self.parts.par_iter_mut().enumerate().map(work).collect::<Result<()>>()?;
        } else {
            self.parts.iter_mut().enumerate().try_for_each(work)?;
        }
        let mut sums = (0.0, true);
        self.gradient.fill(0.0);
        self.bias_gradient.fill(0.0);
        for part in &self.parts {
            sums = (sums.0 + part.loss, sums.1 && part.separated);
            let sum = |(sum, &g): (&mut f64, &f32)| *sum += f64::from(g);
            arch.dispatch(|| self.gradient.iter_mut().zip(&part.gradient).for_each(sum));
            self.bias_gradient.iter_mut().zip(&part.bias_gradient).for_each(|(sum, &g)| *sum += g);
        }
        let mut taken = &self.bias_gradient;
        self.left_out = wide && cut > 0.0;
        if self.left_out {
            self.taken.fill(0.0);
            let add = |part: &Part| self.taken.iter_mut().zip(&part.taken).for_each(|(sum, &g)| *sum += g);
            self.parts.iter().for_each(add);
            taken = &self.taken;
        }
        let (gradient, bias_gradient) = (&self.gradient, &self.bias_gradient);
        Ok(Sums { loss: sums.0, gradient, bias_gradient, taken, bias, separated: sums.1 })
    }
}

impl Pass {
    /// Over rounded rows, `step` away from the anchor: where the last pass in float32 was, which kept it.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn run_rounded(&mut self, data: &Data, rounded: &Rounded, step: &Move, cancel: &Cancel) -> Result<Moved<'_>> {
        let (arch, rows_per_part, bias) = (self.arch, self.rows_per_part, &self.bias[..]);
        let width = rounded.grid().width;
        let work = |(index, part): (usize, &mut Part)| {
            let first = index * rows_per_part;
            let last = (first + rows_per_part).min(data.y.len());
            part.bias_gradient.fill(0.0);
            part.taken.fill(0.0);
            (part.loss, part.rounded.along) = (0.0, 0.0);
            part.rounded.sums.clear();
            part.rounded.sums.resize(bias.len() * width, 0.0);
            part.rounded.scale.resize(bias.len(), 0.0);
            for start in (first..last).step_by(BLOCK * 8) {
                cancel.check()?;
                let end = (start + BLOCK * 8).min(last);
                arch.dispatch(RoundedBlocks { data, rounded, step, bias, range: (start, end), first, part });
            }
            Ok(())
        };
        if self.parallel {
            self.parts.par_iter_mut().enumerate().map(work).collect::<Result<()>>()?;
        } else {
            self.parts.iter_mut().enumerate().try_for_each(work)?;
        }
        let (mut loss, mut along) = (0.0, 0.0);
        self.sums.clear();
        self.sums.resize(self.bias_gradient.len() * width, 0.0);
        self.bias_gradient.fill(0.0);
        self.taken.fill(0.0);
        for part in &self.parts {
            (loss, along) = (loss + part.loss, along + part.rounded.along);
            self.sums.iter_mut().zip(&part.rounded.sums).for_each(|(sum, &g)| *sum += f64::from(g));
            self.bias_gradient.iter_mut().zip(&part.bias_gradient).for_each(|(sum, &g)| *sum += g);
            self.taken.iter_mut().zip(&part.taken).for_each(|(sum, &g)| *sum += g);
        }
        self.left_out = true;
        Ok(Moved { loss, along, sums: &self.sums, taken: &self.taken, bias_gradient: &self.bias_gradient })
    }

    /// As [`Pass::run`] in float64 throughout.
    ///
    /// # Errors
    /// As [`Pass::run`].
    pub fn run_exactly(&mut self, data: &Data, weights: &[f64], bias: &[f64], cancel: &Cancel) -> Result<Sums<'_>> {
        self.left_out = false;
        self.bias.clear();
        self.bias.extend_from_slice(bias);
        let (arch, rows) = (self.arch, data.y.len());
        let (rows_per_part, least, size) = (self.rows_per_part, self.least, self.gradient.len());
        pack(weights, data.columns, &self.tiles, arch.dispatch(Lanes).1, &mut self.packed_exactly);
        let (packed, tiles) = (&self.packed_exactly[..], &self.tiles[..]);
        let buffers = || (vec![0.0; BLOCK * data.columns], vec![0.0; BLOCK * bias.len()]);
        let work = |(index, own): (usize, &mut Part)| {
            own.active.clear();
            let mut part =
                Exact { gradient: vec![0.0; size], bias_gradient: vec![0.0; bias.len()], loss: 0.0, separated: true };
            let (mut wide, mut scores) = buffers();
            let (first, last) = (index * rows_per_part, ((index + 1) * rows_per_part).min(rows));
            for start in (first..last).step_by(BLOCK * 8) {
                cancel.check()?;
                let end = (start + BLOCK * 8).min(last);
                let x = data.x.block(start, end, data.columns, &mut own.scratch)?;
                let (wide, scores, part, active) = (&mut wide[..], &mut scores[..], &mut part, &mut own.active);
                arch.dispatch(ExactRows { data, x, packed, tiles, bias, start, least, wide, scores, part, active });
            }
            Ok(part)
        };
        self.gradient.fill(0.0);
        self.bias_gradient.fill(0.0);
        let mut sums = (0.0, true);
        // In waves, in order: float64 sums of many classes are large, and not all are held at once.
        for (wave, parts) in self.parts.chunks_mut(WAVE).enumerate() {
            let parts = parts.iter_mut().enumerate().map(|(i, part)| (wave * WAVE + i, part));
            let found: Vec<Exact> = if self.parallel {
                parts.collect::<Vec<_>>().into_par_iter().map(work).collect::<Result<_>>()?
            } else {
                parts.map(work).collect::<Result<_>>()?
            };
            for part in &found {
                sums = (sums.0 + part.loss, sums.1 && part.separated);
                self.gradient.iter_mut().zip(&part.gradient).for_each(|(sum, g)| *sum += g);
                self.bias_gradient.iter_mut().zip(&part.bias_gradient).for_each(|(sum, g)| *sum += g);
            }
        }
        let (gradient, bias_gradient) = (&self.gradient, &self.bias_gradient);
        let bias = &self.bias[..];
        Ok(Sums { loss: sums.0, gradient, bias_gradient, taken: bias_gradient, bias, separated: sums.1 })
    }
}

/// Into `out`, whose rows are `step` apart, the inner products of every row of `x` with every vector: `[rows, vectors]`.
///
/// # Errors
/// Cancelled or past the deadline.
pub fn project(
    x: &[f32],
    columns: usize,
    vectors: &[f32],
    out: &mut [f32],
    step: usize,
    parallel: bool,
    cancel: &Cancel,
) -> Result<()> {
    const ROWS: usize = 8 * BLOCK;
    let arch = Arch::new();
    let tiles = tiles_of(vectors.len() / columns);
    let mut packed = Vec::new();
    pack(vectors, columns, &tiles, arch.dispatch(Lanes).0, &mut packed);
    let work = |(x, out): (&[f32], &mut [f32])| {
        cancel.check()?;
        arch.dispatch(Project { x, columns, packed: &packed, tiles: &tiles, out, step });
        Ok(())
    };
    if parallel {
        x.par_chunks(ROWS * columns).zip(out.par_chunks_mut(ROWS * step)).try_for_each(work)
    } else {
        x.chunks(ROWS * columns).zip(out.chunks_mut(ROWS * step)).try_for_each(work)
    }
}

struct Project<'a> {
    x: &'a [f32],
    columns: usize,
    packed: &'a [f32],
    tiles: &'a [(usize, usize)],
    out: &'a mut [f32],
    step: usize,
}

impl WithSimd for Project<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, columns, packed, tiles, out, step } = self;
        let padded = columns.next_multiple_of(S::F32_LANES);
        let mut scores = [0f32; TILE * BLOCK];
        for (x, out) in x.chunks(BLOCK * columns).zip(out.chunks_mut(BLOCK * step)) {
            for &(first, last) in tiles {
                let packed = &packed[first * padded..last * padded];
                tile_of!(S, last - first, forward(simd, x, columns, packed, &mut scores));
                for (r, out) in out.chunks_mut(step).enumerate() {
                    out[first..last].iter_mut().enumerate().for_each(|(c, out)| *out = scores[c * BLOCK + r]);
                }
            }
        }
    }
}

struct Exact {
    gradient: Vec<f64>,
    bias_gradient: Vec<f64>,
    loss: f64,
    separated: bool,
}

struct ExactRows<'a> {
    data: &'a Data<'a>,
    x: &'a [f32],
    packed: &'a [f64],
    tiles: &'a [(usize, usize)],
    bias: &'a [f64],
    start: usize,
    least: f32,
    /// A block's rows.
    wide: &'a mut [f64],
    /// `[classes][BLOCK]`.
    scores: &'a mut [f64],
    part: &'a mut Exact,
    active: &'a mut Active,
}

impl WithSimd for ExactRows<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { data, x, packed, tiles, bias, start, least, wide, scores, part, active } = self;
        let columns = data.columns;
        let padded = columns.next_multiple_of(S::F64_LANES);
        for (block, x) in x.chunks(BLOCK * columns).enumerate() {
            let rows = x.len() / columns;
            let wide = &mut wide[..x.len()];
            wide.iter_mut().zip(x).for_each(|(wide, &x)| *wide = f64::from(x));
            for &(c0, c1) in tiles {
                let scores = &mut scores[c0 * BLOCK..c1 * BLOCK];
                let packed = &packed[c0 * padded..c1 * padded];
                tile_of!(S, c1 - c0, forward_exactly(simd, wide, columns, packed, scores));
            }
            let scores = scores.as_chunks_mut::<BLOCK>().0;
            for r in 0..rows {
                let row = start + block * BLOCK + r;
                let (label, weight) = (data.y[row] as usize, weight(data.weights, row));
                let (mut top, mut rival) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
                for (class, (scores, bias)) in scores.iter_mut().zip(bias).enumerate() {
                    scores[r] += bias;
                    top = top.max(scores[r]);
                    rival = if class == label { rival } else { rival.max(scores[r]) };
                }
                let own = scores[label][r];
                part.separated &= rival < own;
                // As in float32, the largest score's own 1 is kept out of the sum, and p - 1 is minus the others' share:
                // losses far below 1 keep all their digits.
                let (mut others, mut at_top) = (0.0, 0.0);
                for scores in scores.iter_mut() {
                    let z = scores[r] - top;
                    scores[r] = z.exp();
                    if z < 0.0 { others += scores[r] } else { at_top += 1.0 }
                }
                others += at_top - 1.0;
                let sum = 1.0 + others;
                part.loss += f64::from(weight) * (others.ln_1p() + (top - own));
                scores.iter_mut().for_each(|scores| scores[r] /= sum);
                if weight > 0.0 {
                    active.push(row, weight, least, scores.iter().map(|scores| scores[r] as f32));
                }
                scores[label][r] = if own < top { scores[label][r] - 1.0 } else { -others / sum };
                if weight != 1.0 {
                    scores.iter_mut().for_each(|scores| scores[r] *= f64::from(weight));
                }
            }
            for (sum, scores) in part.bias_gradient.iter_mut().zip(scores.iter()) {
                *sum += scores[..rows].iter().sum::<f64>();
            }
            for &(c0, c1) in tiles {
                let residuals = &scores[c0..c1];
                let gradient = &mut part.gradient[c0 * columns..c1 * columns];
                tile_of!(S, c1 - c0, backward_exactly(simd, wide, columns, |c, r| residuals[c][r], gradient, &[]));
            }
        }
    }
}

/// The first and the one behind the last of each tile.
pub fn tiles_of(classes: usize) -> Vec<(usize, usize)> {
    let count = classes.div_ceil(TILE);
    (0..count).map(|i| (classes * i / count, classes * (i + 1) / count)).collect()
}

/// Lays the weights out as the forward kernel reads them: per tile, per vector of columns, one vector per class.
fn pack<T: Copy + Default>(weights: &[T], columns: usize, tiles: &[(usize, usize)], lanes: usize, packed: &mut Vec<T>) {
    let padded = columns.next_multiple_of(lanes);
    let classes = tiles.last().map_or(0, |tile| tile.1);
    packed.resize(padded * classes, T::default());
    for &(first, last) in tiles {
        let tile = &mut packed[first * padded..last * padded];
        for (c, row) in weights[first * columns..last * columns].chunks_exact(columns).enumerate() {
            for (k, piece) in row.chunks(lanes).enumerate() {
                let at = (k * (last - first) + c) * lanes;
                tile[at..at + piece.len()].copy_from_slice(piece);
                tile[at + piece.len()..at + lanes].fill(T::default());
            }
        }
    }
}

/// How many numbers a vector holds, float32 and float64.
struct Lanes;

impl WithSimd for Lanes {
    type Output = (usize, usize);

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
        (S::F32_LANES, S::F64_LANES)
    }
}

/// Scores of some rows, block after block, without the bias.
struct Scores<'a> {
    x: &'a [f32],
    columns: usize,
    packed: &'a [f32],
    tiles: &'a [(usize, usize)],
    scores: &'a mut [f32],
}

impl WithSimd for Scores<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { x, columns, packed, tiles, scores } = self;
        let padded = columns.next_multiple_of(S::F32_LANES);
        let classes = tiles.last().map_or(0, |tile| tile.1);
        for (x, scores) in x.chunks(BLOCK * columns).zip(scores.chunks_exact_mut(BLOCK * classes)) {
            for &(c0, c1) in tiles {
                let scores = &mut scores[c0 * BLOCK..c1 * BLOCK];
                let packed = &packed[c0 * padded..c1 * padded];
                tile_of!(S, c1 - c0, forward(simd, x, columns, packed, scores));
            }
        }
    }
}

/// Rows `start..end` of one part.
struct Blocks<'a> {
    data: &'a Data<'a>,
    x: &'a [f32],
    packed: &'a [f32],
    tiles: &'a [(usize, usize)],
    bias: &'a [f64],
    start: usize,
    end: usize,
    least: f32,
    /// How far behind the part's first row the first of these is, where the part's scores are there already.
    known: Option<usize>,
    /// Whether scores and residuals are kept.
    keeps: bool,
    part: &'a mut Part,
}

impl WithSimd for Blocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { data, packed, tiles, bias, least, part, known, keeps, .. } = self;
        let columns = data.columns;
        let of_block = BLOCK * data.classes;
        let mut all = std::mem::take(if known.is_some() { &mut part.all_scores } else { &mut part.scores });
        for first in (self.start..self.end).step_by(BLOCK) {
            let last = (first + BLOCK).min(self.end);
            let x = &self.x[(first - self.start) * columns..(last - self.start) * columns];
            let scores = match known {
                Some(behind) => &mut all[(behind + first - self.start) * data.classes..][..of_block],
                None => &mut all[..],
            };
            if known.is_none() {
                Scores { x, columns, packed, tiles, scores: &mut *scores }.with_simd(simd);
            }
            if keeps {
                part.anchor.0.extend_from_slice(scores);
            }
            let shares = softmax(
                scores,
                bias,
                &data.y[first..last],
                data.weights.map(|w| &w[first..last]),
                &mut part.loss,
                &mut part.separated,
            );
            if keeps {
                part.anchor.1.extend_from_slice(scores);
            }
            let residuals = scores.as_chunks_mut::<BLOCK>().0;
            if least == f32::INFINITY {
                part.active.note_none(&shares);
            } else {
                for row in first..last {
                    let (label, r) = (data.y[row] as usize, row - first);
                    let all = residuals.iter().map(|residuals| residuals[r]);
                    part.active.note(row, weight(data.weights, row), label, -shares[r], least, all);
                }
            }
            for (sum, residuals) in part.bias_gradient.iter_mut().zip(residuals.iter_mut()) {
                if last - first < BLOCK {
                    residuals[last - first..].fill(0.0);
                }
                *sum += sum_of(residuals);
            }
            let mut next = &self.x[(last - self.start) * columns..];
            for &(c0, c1) in tiles {
                let residuals = &residuals[c0..c1];
                let gradient = &mut part.gradient[c0 * columns..c1 * columns];
                tile_of!(S, c1 - c0, backward(simd, x, columns, |c, r| residuals[c][r], gradient, next));
                next = &[];
            }
        }
        *(if known.is_some() { &mut part.all_scores } else { &mut part.scores }) = all;
    }
}

/// Some rows of one part, rounded, from the anchor on.
struct RoundedBlocks<'a> {
    data: &'a Data<'a>,
    rounded: &'a Rounded,
    step: &'a Move,
    bias: &'a [f64],
    range: (usize, usize),
    /// The part's first row.
    first: usize,
    part: &'a mut Part,
}

impl WithSimd for RoundedBlocks<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { data, rounded, step, bias, range, first, part } = self;
        let of_block = BLOCK * bias.len();
        let RoundedPart { along, moved, pairs, scale, sums } = &mut part.rounded;
        for start in (range.0..range.1).step_by(TOGETHER) {
            let end = (start + TOGETHER).min(range.1);
            moved.resize((end - start).div_ceil(BLOCK) * of_block, 0.0);
            rounded.forward::<BLOCK>((start, end), step, moved);
            for (start, moved) in (start..end).step_by(BLOCK).zip(moved.chunks_exact_mut(of_block)) {
                let end = (start + BLOCK).min(end);
                let at = (start - first) * bias.len();
                let (scores, before) = (&part.anchor.0[at..at + of_block], &part.anchor.1[at..at + of_block]);
                let (moved, before) = (moved.as_chunks_mut::<BLOCK>().0, before.as_chunks::<BLOCK>().0);
                let mut product = [0f32; BLOCK];
                for ((moved, before), scores) in moved.iter_mut().zip(before).zip(scores.as_chunks::<BLOCK>().0) {
                    for r in 0..BLOCK {
                        product[r] += moved[r] * before[r];
                        moved[r] += scores[r];
                    }
                }
                product[end - start..].fill(0.0);
                *along += sum_of(&product);
                let weights = data.weights.map(|weights| &weights[start..end]);
                softmax(moved.as_flattened_mut(), bias, &data.y[start..end], weights, &mut part.loss, &mut true);
                for ((moved, before), sum) in moved.iter_mut().zip(before).zip(&mut part.bias_gradient) {
                    for r in 0..BLOCK {
                        moved[r] -= before[r];
                    }
                    moved[end - start..].fill(0.0);
                    *sum += sum_of(moved);
                }
            }
            round_residuals::<BLOCK>(moved, pairs, scale, &mut part.taken);
            rounded.backward((start, end), pairs, scale, sums);
        }
    }
}

/// The two products of a block, in a number type.
macro_rules! products {
    (
        $forward:ident, $backward:ident, $t:ident, $vector:ident, $lanes:ident, $as_simd:ident, $as_mut_simd:ident,
        $splat:ident, $mul_add:ident, $partial_load:ident, $partial_store:ident, $reduce_sum:ident, $add:ident
    ) => {
        /// `scores[c][r] = x[r] . w[c]` for a block of rows, `R` rows and all `H` classes of a tile at a time.
        #[inline(always)]
        fn $forward<S: Simd, const R: usize, const H: usize>(
            simd: S,
            x: &[$t],
            columns: usize,
            packed: &[$t],
            scores: &mut [$t],
        ) {
            let rows = x.len() / columns;
            let (vectors, _) = S::$as_simd(packed).0.as_chunks::<H>();
            for first in (0..rows).step_by(R) {
                // Past the last row the last row is done again; its scores are not stored.
                let rows_of: [(&[S::$vector], &[$t]); R] = std::array::from_fn(|r| {
                    let row = (first + r).min(rows - 1);
                    S::$as_simd(&x[row * columns..(row + 1) * columns])
                });
                let whole = columns / S::$lanes;
                let mut sums = [[simd.$splat(0.0); R]; H];
                let bodies: [&[S::$vector]; R] = std::array::from_fn(|r| &rows_of[r].0[..whole]);
                for (k, w) in vectors[..whole].iter().enumerate() {
                    let x: [S::$vector; R] = std::array::from_fn(|r| bodies[r][k]);
                    for c in 0..H {
                        for r in 0..R {
                            sums[c][r] = simd.$mul_add(x[r], w[c], sums[c][r]);
                        }
                    }
                }
                if let Some(w) = vectors.get(whole) {
                    let x: [S::$vector; R] = std::array::from_fn(|r| simd.$partial_load(rows_of[r].1));
                    for c in 0..H {
                        for r in 0..R {
                            sums[c][r] = simd.$mul_add(x[r], w[c], sums[c][r]);
                        }
                    }
                }
                for c in 0..H {
                    for r in 0..R.min(rows - first) {
                        scores[c * BLOCK + first + r] = simd.$reduce_sum(sums[c][r]);
                    }
                }
            }
        }

        /// `gradient[c] += sum over r of residual(c, r) x[r]`, `K` vectors of columns and all `H` classes of a tile at a time.
        #[inline(always)]
        pub fn $backward<S: Simd, const K: usize, const H: usize>(
            simd: S,
            x: &[$t],
            columns: usize,
            residual: impl Fn(usize, usize) -> $t,
            gradient: &mut [$t],
            next: &[$t],
        ) {
            let lanes = S::$lanes;
            let mut k = 0;
            while k + K * lanes <= columns {
                let mut sums = [[simd.$splat(0.0); K]; H];
                for (r, row) in x.chunks_exact(columns).enumerate() {
                    prefetch::<$t, K>(next, r * columns + k, lanes);
                    let x = S::$as_simd(&row[k..k + K * lanes]).0.as_chunks::<K>().0[0];
                    for c in 0..H {
                        let residual = simd.$splat(residual(c, r));
                        for j in 0..K {
                            sums[c][j] = simd.$mul_add(x[j], residual, sums[c][j]);
                        }
                    }
                }
                for c in 0..H {
                    let out = S::$as_mut_simd(&mut gradient[c * columns + k..c * columns + k + K * lanes]).0;
                    for j in 0..K {
                        out[j] = simd.$add(out[j], sums[c][j]);
                    }
                }
                k += K * lanes;
            }
            while k < columns {
                let width = lanes.min(columns - k);
                let mut sums = [simd.$splat(0.0); H];
                for (r, row) in x.chunks_exact(columns).enumerate() {
                    let x = simd.$partial_load(&row[k..k + width]);
                    for c in 0..H {
                        sums[c] = simd.$mul_add(x, simd.$splat(residual(c, r)), sums[c]);
                    }
                }
                for c in 0..H {
                    let out = &mut gradient[c * columns + k..c * columns + k + width];
                    let sum = simd.$add(simd.$partial_load(out), sums[c]);
                    simd.$partial_store(out, sum);
                }
                k += width;
            }
        }
    };
}

/// Asks for `K` vectors of `lanes` numbers from a place on, so that they are on their way from memory while others are
/// worked on: rows are longer than the pages that processors fetch ahead within.
#[inline(always)]
fn prefetch<T, const K: usize>(values: &[T], first: usize, lanes: usize) {
    #[cfg(target_arch = "x86_64")]
    for j in 0..K {
        if let Some(value) = values.get(first + j * lanes) {
            use std::arch::x86_64::{_MM_HINT_T1, _mm_prefetch};
            #[allow(unsafe_code, reason = "a hint, of an address that a reference vouches for")]
            unsafe {
                _mm_prefetch::<_MM_HINT_T1>(std::ptr::from_ref(value).cast());
            }
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (values, first, lanes);
}

products!(
    forward,
    backward,
    f32,
    f32s,
    F32_LANES,
    as_simd_f32s,
    as_mut_simd_f32s,
    splat_f32s,
    mul_add_f32s,
    partial_load_f32s,
    partial_store_f32s,
    reduce_sum_f32s,
    add_f32s
);
products!(
    forward_exactly,
    backward_exactly,
    f64,
    f64s,
    F64_LANES,
    as_simd_f64s,
    as_mut_simd_f64s,
    splat_f64s,
    mul_add_f64s,
    partial_load_f64s,
    partial_store_f64s,
    reduce_sum_f64s,
    add_f64s
);

/// A bias in two float32 numbers.
#[derive(Clone, Copy)]
struct Bias(f32, f32);

impl Bias {
    #[inline(always)]
    fn new(bias: f64) -> Self {
        let whole = bias as f32;
        Self(whole, (bias - f64::from(whole)) as f32)
    }

    /// A score and the bias: their sum, and what rounding took from it (Knuth's two-sum).
    #[inline(always)]
    fn plus(self, score: f32) -> (f32, f32) {
        let sum = score + self.0;
        let part = sum - score;
        (sum, (score - (sum - part)) + (self.0 - part) + self.1)
    }
}

/// Turns scores `[classes][BLOCK]` into weight times (probability minus truth), and adds up the loss. What the classes but the
/// own have of each row, times its weight.
///
/// The largest score's own term, exactly 1, is kept out of the float32 sum: the logarithm then sees losses far below
/// float32's resolution around 1. The bias is added in two numbers: a float32 sum would swallow its last digits, alike in all
/// rows, and class totals that are off cost the bound at once.
#[inline(always)]
pub fn softmax(
    scores: &mut [f32],
    bias: &[f64],
    y: &[u32],
    weights: Option<&[f32]>,
    loss: &mut f64,
    separated: &mut bool,
) -> [f32; BLOCK] {
    let scores = scores.as_chunks_mut::<BLOCK>().0;
    let rows = y.len();
    if rows < BLOCK {
        // What is left in lanes past the last row stays finite, whatever was there before.
        scores.iter_mut().for_each(|scores| scores[rows..].fill(0.0));
    }
    let mut labels = [u32::MAX; BLOCK];
    labels[..rows].copy_from_slice(y);
    let (mut largest, mut rest) = ([f32::NEG_INFINITY; BLOCK], [0f32; BLOCK]);
    for (scores, &bias) in scores.iter().zip(bias) {
        let bias = Bias::new(bias);
        for r in 0..BLOCK {
            let (sum, low) = bias.plus(scores[r]);
            let above = (sum - largest[r]) + (low - rest[r]) > 0.0;
            largest[r] = if above { sum } else { largest[r] };
            rest[r] = if above { low } else { rest[r] };
        }
    }
    // Of the true class: its score, in two numbers, and its exponential.
    let (mut own_score, mut own_low, mut own_e) = (largest, rest, [1f32; BLOCK]);
    let (mut others, mut at_top) = ([0f32; BLOCK], [0f32; BLOCK]);
    for ((class, scores), &bias) in (0u32..).zip(scores.iter_mut()).zip(bias) {
        let bias = Bias::new(bias);
        for r in 0..BLOCK {
            let (sum, low) = bias.plus(scores[r]);
            let z = (sum - largest[r]) + (low - rest[r]);
            let e = exp(z);
            let top = z >= 0.0;
            at_top[r] += if top { 1.0 } else { 0.0 };
            others[r] += if top { 0.0 } else { e };
            scores[r] = e;
            let is_own = labels[r] == class;
            own_score[r] = if is_own { sum } else { own_score[r] };
            own_low[r] = if is_own { low } else { own_low[r] };
            own_e[r] = if is_own { e } else { own_e[r] };
        }
    }
    // The true class's score minus the largest.
    let mut own = [0f64; BLOCK];
    let mut scale = [0f32; BLOCK];
    for r in 0..BLOCK {
        own[r] = (f64::from(own_score[r]) - f64::from(largest[r])) + (f64::from(own_low[r]) - f64::from(rest[r]));
        others[r] += at_top[r] - 1.0;
        scale[r] = 1.0 / (1.0 + others[r]);
    }
    if rows < BLOCK {
        others[rows..].fill(0.0);
        at_top[rows..].fill(1.0);
    }
    let mut above_all = true;
    for r in 0..BLOCK {
        above_all &= (own[r] >= 0.0) & (at_top[r] < 1.5);
    }
    *separated &= above_all;
    let mut of_rows = [1f32; BLOCK];
    match weights {
        None => {
            // The logarithm of a product of all rows' factors, each below 2^31, instead of as many logarithms.
            let (mut products, mut sums) = ([1f64; 8], [0f64; 8]);
            for (others, own) in others.as_chunks::<8>().0.iter().zip(own.as_chunks::<8>().0) {
                for l in 0..8 {
                    products[l] *= 1.0 + f64::from(others[l]);
                    sums[l] += own[l];
                }
            }
            *loss += products.iter().product::<f64>().ln() - sums.iter().sum::<f64>();
        }
        Some(weights) => {
            of_rows[..rows].copy_from_slice(weights);
            for r in 0..rows {
                *loss += f64::from(weights[r]) * (f64::from(others[r]).ln_1p() - own[r]);
            }
        }
    }
    let mut shares = [0f32; BLOCK];
    for r in 0..BLOCK {
        scale[r] *= of_rows[r];
        // Minus the others' share instead of p - 1, where p is near 1: no digits are lost.
        shares[r] = if own[r] >= 0.0 { others[r] * scale[r] } else { of_rows[r] - own_e[r] * scale[r] };
    }
    if rows < BLOCK {
        shares[rows..].fill(0.0);
    }
    for (class, scores) in (0u32..).zip(scores.iter_mut()) {
        for r in 0..BLOCK {
            scores[r] = if labels[r] == class { -shares[r] } else { scores[r] * scale[r] };
        }
    }
    shares
}

/// The sum of a block's numbers in float64.
#[inline(always)]
pub fn sum_of(values: &[f32; BLOCK]) -> f64 {
    let mut sums = [0f64; 8];
    for values in values.as_chunks::<8>().0 {
        for l in 0..8 {
            sums[l] += f64::from(values[l]);
        }
    }
    ((sums[0] + sums[4]) + (sums[2] + sums[6])) + ((sums[1] + sums[5]) + (sums[3] + sums[7]))
}

/// A row's weight.
#[inline(always)]
pub fn weight(weights: Option<&[f32]>, row: usize) -> f32 {
    weights.map_or(1.0, |weights| weights[row])
}

/// e^x for x from -87 to 0 (below: as for -87), within 1.5 ulp: 2^n times a polynomial of degree 6 (after Cephes' expf).
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the nearest integer in the low bits
    let x = if x < -87.0 { -87.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let f = x - n * 0.693_359_4 + n * 2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * f + 1.398_199_9e-3;
    p = p * f + 8.333_452e-3;
    p = p * f + 4.166_579_6e-2;
    p = p * f + 1.666_666_5e-1;
    p = p * f + 0.5;
    let e = p * f * f + f + 1.0;
    f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_within_two_ulp_of_the_exact_value() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let exact = f64::from(x).exp();
            assert!((f64::from(exp(x)) - exact).abs() <= 2.4e-7 * exact, "exp({x}) = {}, not {exact}", exp(x));
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    fn x_of<'a>(data: &Data<'a>) -> &'a [f32] {
        match data.x {
            Rows::F32(x) => x,
            _ => unreachable!("the tests' rows are float32"),
        }
    }

    /// The definition, in float64.
    fn naive(data: &Data, w: &[f32], b: &[f32]) -> (f64, Vec<f64>, Vec<f64>) {
        let (mut loss, mut g, mut gb) = (0.0, vec![0.0; w.len()], vec![0.0; b.len()]);
        for (i, x) in x_of(data).chunks_exact(data.columns).enumerate() {
            let z: Vec<f64> = (0..data.classes)
                .map(|c| {
                    let row = &w[c * data.columns..(c + 1) * data.columns];
                    f64::from(b[c]) + row.iter().zip(x).map(|(&w, &x)| f64::from(w) * f64::from(x)).sum::<f64>()
                })
                .collect();
            let top = z.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = z.iter().map(|z| (z - top).exp()).sum();
            let weight = f64::from(weight(data.weights, i));
            loss += weight * (total.ln() + top - z[data.y[i] as usize]);
            for c in 0..data.classes {
                let r = weight * ((z[c] - top).exp() / total - f64::from(u8::from(c == data.y[i] as usize)));
                gb[c] += r;
                x.iter().enumerate().for_each(|(k, &x)| g[c * data.columns + k] += r * f64::from(x));
            }
        }
        (loss, g, gb)
    }

    #[test]
    fn loss_and_gradient_equal_the_definition_for_all_tile_sizes_and_odd_shapes() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        for (rows, columns, classes) in
            [(1, 1, 2), (37, 16, 3), (300, 67, 7), (257, 130, 10), (65, 33, 13), (129, 5, 101), (70, 130, 40)]
        {
            let x: Vec<f32> = (0..rows * columns).map(|_| random()).collect();
            let y: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
            let w: Vec<f32> = (0..classes * columns).map(|_| random()).collect();
            let bias: Vec<f32> = (0..classes).map(|_| random()).collect();
            let weights: Vec<f32> = (0..rows).map(|_| random() + 1.0).collect();
            // Of many classes, biases far apart are in part added to scores, and very far apart they go the way of few.
            let cases = [(None, 1.0), (Some(&weights[..]), 1.0), (None, 15.0), (None, 60.0), (None, 1e6)];
            for (weights, far) in cases {
                let b: Vec<f32> = bias.iter().map(|b| far * b).collect();
                let data = Data { x: Rows::F32(&x), columns, y: &y, classes, weights };
                let mut pass = Pass::new(&data, false);
                let wide = |v: &[f32]| v.iter().map(|&v| f64::from(v)).collect::<Vec<_>>();
                let sums = pass.run(&data, &w, &wide(&b), &Cancel::new()).unwrap();
                let (loss, g, gb) = naive(&data, &w, &b);
                assert!((sums.loss - loss).abs() <= 1e-5 * loss, "loss {} {loss}", sums.loss);
                let close =
                    |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 3e-5 * (rows as f64).sqrt());
                assert!(close(sums.gradient, &g) && close(sums.bias_gradient, &gb), "{rows} {columns} {classes}");
                let sums = pass.run_exactly(&data, &wide(&w), &wide(&b), &Cancel::new()).unwrap();
                // The definition itself has no more digits of a loss near 0.
                assert!((sums.loss - loss).abs() < 1e-12 * (loss + 1.0), "{} {loss}", sums.loss);
                let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-10);
                assert!(close(sums.gradient, &g) && close(sums.bias_gradient, &gb), "{rows} {columns} {classes}");
            }
        }
    }

    #[test]
    fn biases_are_put_right_where_they_are_near_and_left_alone_where_not() {
        let (rows, columns, classes) = (523, 20, 5);
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let x: Vec<f32> = (0..rows * columns).map(|_| random()).collect();
        let y: Vec<u32> = (0..rows).map(|row| (row * 7 % 11 % classes) as u32).collect();
        let w: Vec<f32> = (0..classes * columns).map(|_| 0.3 * random()).collect();
        let weights: Vec<f32> = (0..rows).map(|row| if row % 9 == 0 { 0.0 } else { random() + 1.5 }).collect();
        for weights in [None, Some(&weights[..])] {
            let mut totals = vec![0f64; classes];
            let weight = |row| f64::from(weight(weights, row));
            y.iter().enumerate().for_each(|(row, &label)| totals[label as usize] += weight(row));
            let near: Vec<f64> = totals.iter().map(|total| (total + 1.0).ln()).collect();
            let far: Vec<f64> = near.iter().enumerate().map(|(class, bias)| bias + 2.0 * class as f64).collect();
            let data = Data { x: Rows::F32(&x), columns, y: &y, classes, weights };
            let mut pass = Pass::new(&data, false);
            assert!(!pass.right(true));
            pass.may_right(totals);
            assert!(pass.right(true));
            let sums = pass.run(&data, &w, &near, &Cancel::new()).unwrap();
            let (loss, gradient, bias) = (sums.loss, sums.gradient.to_vec(), sums.bias.to_vec());
            assert!(bias != near && sums.bias_gradient.iter().all(|g| g.abs() < 1e-5), "{:?}", sums.bias_gradient);
            assert_eq!(pass.run(&data, &w, &far, &Cancel::new()).unwrap().bias, far);
            assert!(!pass.right(false));
            let there = pass.run(&data, &w, &bias, &Cancel::new()).unwrap();
            assert_eq!((there.loss, there.gradient, there.bias), (loss, &gradient[..], &bias[..]));
        }
    }

    #[test]
    fn what_a_gradient_leaves_out_is_below_the_cut_and_known() {
        const CUT: f32 = 1e-3;
        let mut state = 7u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let (rows, columns, classes) = (1100, 70, 40);
        // The first half is sure of nothing, the second of nearly everything. The last column is 1, and tells the sums.
        let value = |(i, v): (usize, f32)| match (i / columns < rows / 2, i % columns == columns - 1) {
            (_, true) => 1.0,
            (true, _) => 0.02 * v,
            (false, _) => 3.0 * v,
        };
        let x: Vec<f32> = (0..rows * columns).map(|i| value((i, random()))).collect();
        let w: Vec<f32> = (0..classes * columns).map(|_| random()).collect();
        let y: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
        let weights: Vec<f32> = (0..rows).map(|_| random() + 1.0).collect();
        let bias: Vec<f64> = (0..classes).map(|_| f64::from(random())).collect();
        for weights in [None, Some(&weights[..])] {
            let data = Data { x: Rows::F32(&x), columns, y: &y, classes, weights };
            let mut pass = Pass::new(&data, false);
            pass.bfloat = None;
            let mut run = |below| {
                pass.leave_out(below);
                let sums = pass.run(&data, &w, &bias, &Cancel::new()).unwrap();
                let all = (sums.loss, sums.gradient.to_vec(), sums.bias_gradient.to_vec(), sums.taken.to_vec());
                (all, pass.left_out())
            };
            let (whole, left_out) = run(0.0);
            assert!(!left_out && whole.2 == whole.3);
            let (cut, left_out) = run(CUT);
            assert!(left_out);
            assert_eq!((cut.0, &cut.2), (whole.0, &whole.2), "loss and bias gradient are whole");
            let most = |k: usize| -> f64 {
                let of = |(i, x): (usize, &[f32])| f64::from(weight(weights, i) * CUT * x[k].abs());
                x.chunks_exact(columns).enumerate().map(of).sum::<f64>() + 1e-3
            };
            let limits: Vec<f64> = (0..columns).map(most).collect();
            let mut missing = 0.0;
            for c in 0..classes {
                let (found, right) = (&cut.1[c * columns..(c + 1) * columns], &whole.1[c * columns..(c + 1) * columns]);
                for k in 0..columns {
                    assert!(
                        (found[k] - right[k]).abs() <= limits[k],
                        "class {c}, column {k}: {} {}",
                        found[k],
                        right[k]
                    );
                }
                assert!((found[columns - 1] - cut.3[c]).abs() < 1e-3, "class {c}: {} {}", found[columns - 1], cut.3[c]);
                missing += (cut.2[c] - cut.3[c]).abs();
            }
            // Half of the rows alone could leave out so much.
            assert!(missing > 1e-2 && missing < f64::from(CUT) * (rows / 2 * classes) as f64, "{missing}");
            assert_eq!(run(0.0).0, whole);
        }
    }

    #[test]
    fn far_from_the_optimum_nothing_but_residuals_is_rounded_of_what_bfloat16_can_hold() {
        let mut state = 3u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            half::bf16::from_f32((state >> 8) as f32 / (1 << 23) as f32 - 1.0).to_f32()
        };
        for (rows, columns, classes) in [(1, 1, 24), (129, 5, 101), (70, 130, 40), (333, 67, 24), (200, 320, 150)] {
            let x: Vec<f32> = (0..rows * columns).map(|_| random()).collect();
            let y: Vec<u32> = (0..rows).map(|i| (i * 7 % classes) as u32).collect();
            let w: Vec<f32> = (0..classes * columns).map(|_| random()).collect();
            let bias: Vec<f64> = (0..classes).map(|_| f64::from(random())).collect();
            let data = Data { x: Rows::F32(&x), columns, y: &y, classes, weights: None };
            let mut pass = Pass::new(&data, false);
            let mut run = |below| {
                pass.leave_out(below);
                let sums = pass.run(&data, &w, &bias, &Cancel::new()).unwrap();
                (sums.loss, sums.gradient.to_vec(), sums.bias_gradient.to_vec(), pass.left_out())
            };
            let (whole, rough) = (run(0.0), run(1e-30));
            assert!(rough.3 && !whole.3);
            let name = format!("{rows} {columns} {classes}");
            assert!((rough.0 - whole.0).abs() <= 1e-5 * whole.0, "{name}: loss {} {}", rough.0, whole.0);
            for (a, b) in rough.2.iter().zip(&whole.2) {
                assert!((a - b).abs() < 3e-5 * (rows as f64).sqrt(), "{name}: bias gradient {a} {b}");
            }
            let mut differ = 0;
            for (a, b) in rough.1.iter().zip(&whole.1) {
                // Rounding is by at most 1/512, of residuals and values that are at most 1.
                assert!((a - b).abs() < rows as f64 / 512.0 + 1e-4, "{name}: gradient {a} {b}");
                differ += usize::from((a - b).abs() > 1e-5);
            }
            // That processors without bfloat16 are not what was tested here, and others are.
            assert_eq!(differ > 0, Bfloat::new().is_some(), "{name}: {differ}");
        }
    }
}
