//! Biases that make the classes' totals those of the labels, found from the rows' scores alone.
//!
//! Totals that are off cost the certificate more than anything else ([`crate::problem`]). Where the rows are few, their
//! scores are kept for a moment between the two products of a pass, and biases are put right there by Newton's method:
//! that takes no part of another pass.

use pulp::{Arch, Simd, WithSimd};

use crate::cancel::Cancel;
use crate::dense::Cholesky;
use crate::error::Result;
use crate::pass::{BLOCK, Data, softmax, sum_of, weight};

/// Most steps, and totals that are near enough, relative.
const STEPS: usize = 3;
const NEAR: f64 = 1e-9;
/// Totals that are further off than this, relative, are left alone: a step might lead anywhere.
const FAR: f64 = 0.3;
/// From here on a factor serves until the end.
const SHORT: f64 = 0.01;

/// What is wanted, and buffers.
pub struct Biases {
    /// Of each class, the labels' sum of weights.
    totals: Vec<f64>,
    /// Of a block, `[classes][BLOCK]`.
    residuals: Vec<f32>,
    /// Of each class: by how much its total is off.
    off: Vec<f64>,
    /// Of each pair of classes: sums over blocks of their probabilities' products.
    products: Vec<[f32; BLOCK]>,
}

impl Biases {
    /// For these totals.
    pub fn new(totals: Vec<f64>) -> Self {
        let classes = totals.len();
        let pairs = classes * (classes + 1) / 2;
        Self {
            totals,
            residuals: vec![0.0; classes * BLOCK],
            off: vec![0.0; classes],
            products: vec![[0.0; BLOCK]; pairs],
        }
    }

    /// Puts `bias` right for these scores, `[classes][BLOCK]` of each block of rows, if it is not far off.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn right<'a>(
        &mut self,
        scores: impl Iterator<Item = &'a [f32]> + Clone,
        data: &Data,
        bias: &mut [f64],
        cancel: &Cancel,
    ) -> Result<()> {
        let (arch, classes) = (Arch::new(), bias.len());
        let mut made: Option<(Cholesky, f64)> = None;
        for _ in 0..STEPS {
            self.off.fill(0.0);
            // A step by the factor of the last one has to be short.
            made = made.filter(|(_, off)| *off < SHORT);
            let multiplies = made.is_none();
            if multiplies {
                self.products.iter_mut().for_each(|products| products.fill(0.0));
            }
            for (block, (scores, y)) in scores.clone().zip(data.y.chunks(BLOCK)).enumerate() {
                let weights = data.weights.map(|weights| &weights[block * BLOCK..][..y.len()]);
                self.residuals.copy_from_slice(scores);
                arch.dispatch(Block { bias, y, weights, multiplies, biases: self });
            }
            let off = self.off.iter().zip(&self.totals).map(|(off, total)| off.abs() / total).fold(0.0, f64::max);
            if !(NEAR..FAR).contains(&off) {
                break;
            }
            let all: f64 = self.totals.iter().sum();
            let (factor, first) = match &made {
                Some(made) => made,
                None => {
                    let Some(factor) = Cholesky::scaled(self.hessian(all), classes, 0.0, false, cancel)? else { break };
                    made.insert((factor, off))
                }
            };
            // Float32 has a small range.
            let mut step: Vec<f32> = self.off.iter().map(|own| (-own / (off * all)) as f32).collect();
            factor.solve(&mut step, false);
            bias.iter_mut().zip(&step).for_each(|(bias, step)| *bias += f64::from(*step) * off);
            // What is left is of the order of its product with what was off where the factor was made.
            if off * first < NEAR {
                break;
            }
        }
        Ok(())
    }

    /// The Hessian of the biases, by the last products.
    fn hessian(&self, all: f64) -> Vec<f32> {
        let classes = self.totals.len();
        let mut hessian = vec![0f32; classes * classes];
        let mut products = self.products.iter().map(sum_of);
        for a in 0..classes {
            for (b, product) in (a..classes).zip(&mut products) {
                // Of the sums over all classes, which move nothing, enough for a factor.
                let own = if a == b { self.totals[a] + self.off[a] } else { 0.0 };
                hessian[a * classes + b] = ((own - product) / all + 1.0 / classes as f64) as f32;
            }
        }
        hessian
    }
}

/// Adds up a block's residuals, and, if asked for, its probabilities' products.
struct Block<'a> {
    bias: &'a [f64],
    y: &'a [u32],
    weights: Option<&'a [f32]>,
    /// Whether products are wanted.
    multiplies: bool,
    biases: &'a mut Biases,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { bias, y, weights, multiplies, biases: Biases { residuals, off, products, .. } } = self;
        // As a pass does it: what is right here is right there.
        softmax(residuals, bias, y, weights, &mut 0.0, &mut true);
        let residuals = residuals.as_chunks_mut::<BLOCK>().0;
        for (off, residuals) in off.iter_mut().zip(residuals.iter_mut()) {
            residuals[y.len()..].fill(0.0);
            *off += sum_of(residuals);
        }
        if !multiplies {
            return;
        }
        // From here on weight times probability.
        let mut over = [0f32; BLOCK];
        for (r, &label) in y.iter().enumerate() {
            let weight = weight(weights, r);
            residuals[label as usize][r] += weight;
            over[r] = if weight > 0.0 { 1.0 / weight } else { 0.0 };
        }
        let mut products = products.iter_mut();
        for a in 0..residuals.len() {
            let own: [f32; BLOCK] = std::array::from_fn(|r| residuals[a][r] * over[r]);
            for (other, products) in residuals[a..].iter().zip(&mut products) {
                for r in 0..BLOCK {
                    products[r] += own[r] * other[r];
                }
            }
        }
    }
}
