//! Multinomial logistic regression to its optimum, with a certificate.
//!
//! Minimises, over weights W `[classes, columns]` and a free bias b `[classes]`,
//! ```text
//! f(W, b) = 1/S sum_i s_i (log sum_c exp(W_c x_i + b_c) - W_{y_i} x_i - b_{y_i}) + l2/2 |W|^2,   S = sum_i s_i
//! ```
//! `l2` is per example: scikit-learn's `C` is `1 / (l2 * S)`. With `standardize`, the penalty is on the weights of
//! columns divided by their standard deviation; what is returned always applies to the features as they are.
//!
//! The method is L-BFGS or Newton's ([`crate::newton`]) on centred columns, over the fused passes of [`crate::pass`]; with many
//! classes it begins within few directions of the columns ([`crate::levels`]). It stops on a
//! proof, not on a small step: every point gives a lower bound on the optimum ([`crate::problem`]), and the gap between
//! value and bound, relative to the bound, is what [`FitReport::gap`] says.
//!
//! For a classifier to keep, see [`crate::head`]; for many penalties, [`crate::path`].

use std::borrow::Cow;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::Result;
pub use crate::newton::Kept;
use crate::problem::Problem;
use crate::rows::Rows;

/// How to fit. `..Default::default()` for the rest.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Penalty per example, see the module's head. At least 0; 0 has an optimum only where no hyperplane separates.
    pub l2: f64,
    /// Sparse penalty per example, times the sum of absolute weights ([`crate::sparse`]): above 0, most weights become
    /// exactly 0. With `l2` above 0 too it is the elastic net; scikit-learn's `C` and `l1_ratio` are
    /// `1 / (S (l1 + l2))` and `l1 / (l1 + l2)`.
    pub l1: f64,
    /// Certified relative gap to stop at.
    pub tolerance: f64,
    /// Most iterations; reaching it is no error, [`FitReport::converged`] is then false.
    pub max_iterations: usize,
    /// Threads; 0 means those of the current rayon pool. The result does not depend on it, bit for bit.
    pub threads: usize,
    /// Penalise as if every column had standard deviation 1. Constant columns stay as they are.
    pub standardize: bool,
    /// One factor per class for the weight of its examples.
    pub class_weights: Option<Vec<f32>>,
    /// One weight per row, at least 0. A row of weight 2 is the same as two rows.
    pub sample_weights: Option<Vec<f32>>,
    /// Where to start: weights `[classes, columns]` and bias, as [`fit`] returned them for similar data.
    pub start: Option<(Array2<f64>, Array1<f64>)>,
    /// Whether the bias is fitted.
    pub intercept: Intercept,
    /// With two classes, penalise one column of weights, the difference of both, as scikit-learn does; the weights
    /// returned are still two columns, half of it each way.
    pub one_column: bool,
}

/// What becomes of the bias.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Intercept {
    /// Fitted, without a penalty.
    #[default]
    Free,
    /// Given, one per class; all 0 for none.
    Fixed(Vec<f64>),
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            l2: 1e-3,
            l1: 0.0,
            tolerance: 1e-6,
            max_iterations: 1000,
            threads: 0,
            standardize: false,
            class_weights: None,
            sample_weights: None,
            start: None,
            intercept: Intercept::Free,
            one_column: false,
        }
    }
}

/// Where a fit stands after an iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Iterations done.
    pub iteration: usize,
    /// Value of the objective: with many classes, far from the optimum, to three digits or so, and with few as rounded rows tell
    /// it. At the end it is exact.
    pub objective: f64,
    /// Euclidean norm of its gradient (centred columns).
    pub gradient_norm: f64,
    /// Certified relative gap, of the last point that was looked at without rounding; infinite while nothing is known.
    pub gap: f64,
    /// Seconds since the fit began.
    pub seconds: f64,
}

/// What a fit did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Steps of L-BFGS and of Newton's method.
    pub iterations: usize,
    /// Passes over all rows and columns, for value and gradient, as they are or rounded. What a fit of many classes finds within few directions before
    /// the first costs parts of passes, and is not among them.
    pub passes: usize,
    /// Products with the Hessian, each over the rows that still curve the loss.
    #[serde(default)]
    pub products: usize,
    /// Whether `gap` is at most the tolerance (with `l2` 0, where nothing can be certified: whether the estimate is).
    pub converged: bool,
    /// Value of the objective at the end.
    pub objective: f64,
    /// Proven: `(objective - optimum) / optimum` is at most this, up to rounding. None for
    /// `l2` 0.
    pub gap: Option<f64>,
    /// Wall time; 0 in a head that was read from a file, which keeps none, so that equal fits give equal files.
    pub seconds: f64,
    /// Penalty per example.
    pub l2: f64,
    /// Sparse penalty per example.
    #[serde(default)]
    pub l1: f64,
    /// With a sparse penalty: weights that are not 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonzero: Option<usize>,
}

/// Fits weights `[classes, columns]` and bias `[classes]`. See the module's head for what is minimised.
///
/// # Errors
/// [`Error::EmptyData`], [`Error::LabelMismatch`], [`Error::LabelOutside`], [`Error::OneClass`], [`Error::EmptyClass`],
/// [`Error::NonFinite`], [`Error::ConstantFeatures`], [`Error::InvalidOption`], [`Error::DimensionMismatch`] (of weights
/// or start), [`Error::Separable`] for `l2` 0, [`Error::Cancelled`], [`Error::Deadline`].
pub fn fit(
    x: ArrayView2<f32>,
    y: &[u32],
    classes: usize,
    options: &FitOptions,
    cancel: &Cancel,
    progress: Option<&mut dyn FnMut(&Progress)>,
) -> Result<(Array2<f64>, Array1<f64>, FitReport)> {
    let standard = standard_layout(x);
    fit_rows(standard.as_ref().into(), x.ncols(), y, classes, options, cancel, progress)
}

/// As [`fit`], of rows that need not be float32.
///
/// # Errors
/// As [`fit`].
pub fn fit_rows(
    x: Rows,
    columns: usize,
    y: &[u32],
    classes: usize,
    options: &FitOptions,
    cancel: &Cancel,
    progress: Option<&mut dyn FnMut(&Progress)>,
) -> Result<(Array2<f64>, Array1<f64>, FitReport)> {
    fit_with(x, columns, y, classes, options, cancel, progress, &mut Kept::default())
}

/// As [`fit_rows`], with what the fit before left, and leaving the same for the next.
///
/// # Errors
/// As [`fit`].
#[allow(clippy::too_many_arguments, reason = "as fit, and what is kept")]
pub fn fit_with(
    x: Rows,
    columns: usize,
    y: &[u32],
    classes: usize,
    options: &FitOptions,
    cancel: &Cancel,
    progress: Option<&mut dyn FnMut(&Progress)>,
    kept: &mut Kept,
) -> Result<(Array2<f64>, Array1<f64>, FitReport)> {
    let began = Instant::now();
    let problem = Problem::new(x, columns, y, classes, options, cancel)?;
    let start = options.start.as_ref().map(|(weights, bias)| problem.inner(weights, bias)).transpose()?;
    let mut solution = problem.solve(options, start, cancel, progress, began, kept)?;
    solution.report.seconds = began.elapsed().as_secs_f64();
    let (weights, bias) = problem.outer(&solution.w);
    Ok((weights, bias, solution.report))
}

/// Row after row without gaps: as it is where it is so, a copy where not.
pub(crate) fn standard_layout(x: ArrayView2<f32>) -> Cow<[f32]> {
    // `to_slice` borrows for as long as the view's data lives.
    match x.to_slice() {
        Some(slice) => slice.into(),
        None => x.iter().copied().collect::<Vec<_>>().into(),
    }
}
