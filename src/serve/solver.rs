//! Multinomial logistic regression to its optimum, with a certificate.
//!
//! Minimises, over weights W `[classes, columns]` and a free bias b `[classes]`,
//! ```text
//! f(W, b) = 1/S sum_i s_i (log sum_c exp(W_c x_i + b_c) - W_{y_i} x_i - b_{y_i}) + l2/2 |W|^2,   S = sum_i s_i
//! ```
//! `l2` is per example: scikit-learn's `C` is `1 / (l2 * S)`. With `standardize`, the penalty is on the weights of
//! columns divided by their standard deviation; what is returned always applies to the features as they are.
//!
//! The method is L-BFGS on centred columns with the preconditioner of [`crate::precondition`], over the fused passes of
//! [`crate::pass`]. It stops on a proof, not on a small step: any probabilities whose class totals equal the labels' are
//! a feasible point of the dual problem, whose value is below the optimum. The gap between both values, relative to the
//! lower, is what [`FitReport::gap`] says.
//!
//! For a classifier to keep, see [`crate::head`].

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::metrics;
use crate::pass::{Data, Pass};
use crate::statistics::{Statistics, statistics};

/// How to fit. `..Default::default()` for the rest.
#[derive(Clone, Debug)]
pub struct FitOptions {
    /// Penalty per example, see the module's head. At least 0; 0 has an optimum only where no hyperplane separates.
    pub l2: f64,
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
}

impl Default for FitOptions {
    fn default() -> Self {
        Self {
            l2: 1e-3,
            tolerance: 1e-6,
            max_iterations: 1000,
            threads: 0,
            standardize: false,
            class_weights: None,
            sample_weights: None,
            start: None,
        }
    }
}

/// Where a fit stands after an iteration.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Progress {
    /// Iterations done.
    pub iteration: usize,
    /// Value of the objective.
    pub objective: f64,
    /// Euclidean norm of its gradient (centred columns).
    pub gradient_norm: f64,
    /// Certified relative gap, infinite while nothing is known.
    pub gap: f64,
    /// Seconds since the fit began.
    pub seconds: f64,
}

/// What a fit did.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FitReport {
    /// Steps taken.
    pub iterations: usize,
    /// Passes over all rows.
    pub passes: usize,
    /// Whether `gap` is at most the tolerance (with `l2` 0, where nothing can be certified: whether the estimate is).
    pub converged: bool,
    /// Value of the objective at the end.
    pub objective: f64,
    /// Proven: `(objective - optimum) / optimum` is at most this, up to rounding. None for
    /// `l2` 0.
    pub gap: Option<f64>,
    /// Wall time.
    pub seconds: f64,
    /// Penalty per example.
    pub l2: f64,
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
    let began = Instant::now();
    let problem = Problem::new(x, y, classes, options, cancel)?;
    let start = options.start.as_ref().map(|(weights, bias)| problem.inner(weights, bias)).transpose()?;
    let mut solution = problem.solve(options, start, cancel, progress, began)?;
    solution.report.seconds = began.elapsed().as_secs_f64();
    let (weights, bias) = problem.outer(&solution.w);
    Ok((weights, bias, solution.report))
}

/// One value of a path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PathPoint {
    /// How the fit on the training rows went.
    pub fit: FitReport,
    /// Share of right validation rows.
    pub accuracy: f64,
    /// Mean cross-entropy of the validation rows.
    pub log_loss: f64,
}

/// A path of penalties and the head chosen from it.
#[derive(Clone, Debug, PartialEq)]
pub struct PathReport {
    /// One per penalty tried, strongest first.
    pub points: Vec<PathPoint>,
    /// Index of the best: highest accuracy, then lowest loss, then strongest penalty.
    pub best: usize,
    /// Weights refitted on training and validation rows together with the best penalty, `[classes, columns]`.
    pub weights: Array2<f64>,
    /// Bias of the refit.
    pub bias: Array1<f64>,
    /// How the refit went.
    pub refit: FitReport,
    /// Wall time of everything.
    pub seconds: f64,
}

/// The 45 penalties of BYOL's transfer protocol (appendix D: logarithmically spaced from 1e-6 to 1e5), per example: the
/// protocol's values stand beside a sum over `rows` examples. Strongest first.
pub fn paper_path(rows: usize) -> Vec<f64> {
    (0..45).map(|i| 10f64.powf(5.0 - 11.0 * f64::from(i) / 44.0) / rows.max(1) as f64).collect()
}

/// Fits every penalty of `l2_values` (sorted from strong to weak, each starting at the one before), judges each on the
/// validation rows, and refits the best on all rows. `options.l2`, `start` and `sample_weights` are not used.
///
/// With `patience`, the path ends once the validation loss has not fallen for that many values: weaker penalties only
/// fit noise, and cost most.
///
/// # Errors
/// As [`fit`], and [`Error::EmptyData`] without penalties or validation rows.
#[allow(clippy::too_many_arguments, reason = "training and validation rows are two pairs that always differ in type")]
pub fn fit_path(
    x: ArrayView2<f32>,
    y: &[u32],
    validation_x: ArrayView2<f32>,
    validation_y: &[u32],
    classes: usize,
    l2_values: &[f64],
    patience: Option<usize>,
    options: &FitOptions,
    cancel: &Cancel,
    mut progress: Option<&mut dyn FnMut(&PathPoint)>,
) -> Result<PathReport> {
    let began = Instant::now();
    if l2_values.is_empty() {
        return Err(Error::EmptyData { what: "penalties to try" });
    }
    if validation_x.nrows() == 0 {
        return Err(Error::EmptyData { what: "validation rows" });
    }
    if validation_x.ncols() != x.ncols() {
        let (expected, found) = (x.ncols(), validation_x.ncols());
        return Err(Error::DimensionMismatch { what: "columns of validation rows", expected, found });
    }
    if validation_y.len() != validation_x.nrows() {
        return Err(Error::LabelMismatch { features: validation_x.nrows(), labels: validation_y.len() });
    }
    check_labels(validation_y, classes)?;
    if let Some((row, column, value)) = first_non_finite(validation_x) {
        return Err(Error::NonFinite { row, column, value });
    }
    let options = FitOptions { sample_weights: None, start: None, ..options.clone() };
    let mut l2_values = l2_values.to_vec();
    l2_values.sort_by(|a, b| b.total_cmp(a));
    l2_values.iter().try_for_each(|&l2| check_l2(l2))?;

    let problem = Problem::new(x, y, classes, &options, cancel)?;
    let mut points: Vec<PathPoint> = Vec::new();
    let mut start: Option<Vec<f64>> = None;
    let (mut best, mut best_w, mut lowest) = (0, None, (0, f64::INFINITY));
    for (index, &l2) in l2_values.iter().enumerate() {
        let fit_began = Instant::now();
        let solution = problem.solve(&FitOptions { l2, ..options.clone() }, start.take(), cancel, None, fit_began)?;
        let (weights, bias) = problem.outer(&solution.w);
        let (accuracy, log_loss) = judge(validation_x, validation_y, &weights, &bias);
        let mut fit = solution.report;
        fit.seconds = fit_began.elapsed().as_secs_f64();
        let point = PathPoint { fit, accuracy, log_loss };
        if let Some(progress) = &mut progress {
            progress(&point);
        }
        let better = points.get(best).is_none_or(|old: &PathPoint| {
            point.accuracy > old.accuracy || (point.accuracy == old.accuracy && point.log_loss < old.log_loss)
        });
        points.push(point);
        if better {
            (best, best_w) = (index, Some((weights, bias)));
        }
        if log_loss < lowest.1 {
            lowest = (index, log_loss);
        }
        if patience.is_some_and(|patience| index - lowest.0 >= patience) {
            break;
        }
        start = Some(solution.w);
    }

    let all_x = concatenate(Axis(0), &[x, validation_x]).map_err(|_| Error::DimensionMismatch {
        what: "columns of validation rows",
        expected: x.ncols(),
        found: validation_x.ncols(),
    })?;
    let all_y = [y, validation_y].concat();
    let refit_options = FitOptions { l2: l2_values[best], start: best_w, ..options };
    let (weights, bias, refit) = fit(all_x.view(), &all_y, classes, &refit_options, cancel, None)?;
    Ok(PathReport { points, best, weights, bias, refit, seconds: began.elapsed().as_secs_f64() })
}

/// Accuracy and mean cross-entropy.
fn judge(x: ArrayView2<f32>, y: &[u32], weights: &Array2<f64>, bias: &Array1<f64>) -> (f64, f64) {
    let (weights, bias) = (weights.mapv(|w| w as f32), bias.mapv(|b| b as f32));
    let scores = x.dot(&weights.t()) + &bias;
    let mut loss = 0.0;
    let mut predicted = Vec::with_capacity(y.len());
    for (scores, &label) in scores.outer_iter().zip(y) {
        let (best, top) = scores
            .iter()
            .enumerate()
            .fold((0, f32::NEG_INFINITY), |best, (class, &score)| if score > best.1 { (class, score) } else { best });
        predicted.push(best as u32);
        let total: f64 = scores.iter().map(|&score| f64::from(score - top).exp()).sum();
        loss += total.ln() - f64::from(scores[label as usize] - top);
    }
    (metrics::accuracy(&predicted, y), loss / y.len() as f64)
}

/// A data set made ready: checked, centred (in thought: the rows stay where they are) and weighted.
///
/// Inside, parameters are one vector, class after class, `columns` weights and the bias of each, in coordinates where
/// columns have mean 0 and, if asked for, standard deviation 1.
struct Problem<'a> {
    x: Cow<'a, [f32]>,
    y: &'a [u32],
    columns: usize,
    classes: usize,
    weights: Option<Vec<f32>>,
    /// Sum of the weights.
    total: f64,
    mean: Vec<f64>,
    /// One over the standard deviation, or 1; 0 for a constant column.
    scale: Vec<f64>,
    /// Variance of the columns, scaled.
    variance: Vec<f64>,
    /// Share of every class.
    shares: Vec<f64>,
    /// `[classes, columns]`: weighted sum of the centred, scaled rows of a class, over `total`.
    class_sums: Vec<f64>,
    pool: Option<rayon::ThreadPool>,
    parallel: bool,
}

struct Solution {
    w: Vec<f64>,
    report: FitReport,
}

struct Value {
    objective: f64,
    /// Largest lower bound on the optimum that this point proves.
    bound: f64,
    separated: bool,
}

impl<'a> Problem<'a> {
    fn new(
        x: ArrayView2<'a, f32>,
        y: &'a [u32],
        classes: usize,
        options: &FitOptions,
        cancel: &Cancel,
    ) -> Result<Self> {
        let (rows, columns) = x.dim();
        if rows == 0 {
            return Err(Error::EmptyData { what: "rows of features" });
        }
        if columns == 0 {
            return Err(Error::EmptyData { what: "columns of features" });
        }
        if y.len() != rows {
            return Err(Error::LabelMismatch { features: rows, labels: y.len() });
        }
        check_l2(options.l2)?;
        if !(options.tolerance.is_finite() && options.tolerance > 0.0) {
            let value = options.tolerance.to_string();
            return Err(Error::InvalidOption { option: "tolerance", value, must: "it must be a number above 0" });
        }
        check_labels(y, classes)?;
        if y.iter().all(|label| *label == y[0]) {
            return Err(Error::OneClass { label: y[0].to_string(), examples: rows });
        }
        let weights = row_weights(y, classes, options)?;

        // `to_slice` borrows for as long as the view's data lives; a view with gaps is copied once.
        let x: Cow<[f32]> = match x.to_slice() {
            Some(slice) => slice.into(),
            None => x.iter().copied().collect::<Vec<_>>().into(),
        };
        let pool = match options.threads {
            0 | 1 => None,
            threads => rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok(),
        };
        let parallel = options.threads != 1 && rows * columns * classes > 4_000_000;
        let data = Data { x: &x, columns, y, classes, weights: weights.as_deref() };
        let found = inside(&pool, parallel, || statistics(&data, parallel, cancel))?;
        let Statistics { total, class_totals, mean, deviation, class_sums } = found;
        if let Some((row, column, value)) = non_finite_in(&x, columns, &mean, &deviation) {
            return Err(Error::NonFinite { row, column, value });
        }
        if let Some(class) = class_totals.iter().position(|&total| total <= 0.0) {
            return Err(Error::EmptyClass { label: class.to_string() });
        }
        if deviation.iter().all(|&deviation| deviation == 0.0) {
            return Err(Error::ConstantFeatures { rows, columns });
        }
        // A constant column takes no part: its scale is 0, and no rounding of its gradient moves a weight.
        let scale: Vec<f64> = deviation
            .iter()
            .map(|&d| {
                if d == 0.0 {
                    0.0
                } else if options.standardize {
                    1.0 / d
                } else {
                    1.0
                }
            })
            .collect();
        let class_sums = class_sums
            .chunks_exact(columns)
            .flat_map(|sums| sums.iter().zip(&scale).map(|(s, scale)| s * scale / total))
            .collect();
        Ok(Self {
            variance: deviation.iter().zip(&scale).map(|(d, s)| (d * s).powi(2)).collect(),
            shares: class_totals.iter().map(|class| class / total).collect(),
            x,
            y,
            columns,
            classes,
            weights,
            total,
            mean,
            scale,
            class_sums,
            pool,
            parallel,
        })
    }

    fn data(&self) -> Data<'_> {
        Data { x: &self.x, columns: self.columns, y: self.y, classes: self.classes, weights: self.weights.as_deref() }
    }

    /// Parameters of the features as they are, from inner ones.
    fn outer(&self, w: &[f64]) -> (Array2<f64>, Array1<f64>) {
        let mut weights = Array2::zeros((self.classes, self.columns));
        let mut bias = Array1::zeros(self.classes);
        for (c, w) in w.chunks_exact(self.columns + 1).enumerate() {
            let mut shift = 0.0;
            for k in 0..self.columns {
                weights[[c, k]] = w[k] * self.scale[k];
                shift += weights[[c, k]] * self.mean[k];
            }
            bias[c] = w[self.columns] - shift;
        }
        (weights, bias)
    }

    fn inner(&self, weights: &Array2<f64>, bias: &Array1<f64>) -> Result<Vec<f64>> {
        let check = |what, expected, found| match expected == found {
            true => Ok(()),
            false => Err(Error::DimensionMismatch { what, expected, found }),
        };
        check("classes of the start", self.classes, weights.nrows())?;
        check("columns of the start", self.columns, weights.ncols())?;
        check("bias of the start", self.classes, bias.len())?;
        let mut w = Vec::with_capacity(self.classes * (self.columns + 1));
        for (weights, &bias) in weights.outer_iter().zip(bias) {
            // Also over constant columns, whose part of the score becomes bias.
            let shift: f64 = weights.iter().zip(&self.mean).map(|(w, m)| w * m).sum();
            w.extend(weights.iter().zip(&self.scale).map(|(w, &s)| if s > 0.0 { w / s } else { 0.0 }));
            w.push(bias + shift);
        }
        Ok(w)
    }

    /// Objective, gradient and dual bound at `w`; `exact` in float64 throughout.
    #[allow(clippy::too_many_arguments, reason = "the pass's buffers and the gradient are reused by the caller")]
    fn evaluate(
        &self,
        pass: &mut Pass,
        exact: bool,
        w: &[f64],
        l2: f64,
        gradient: &mut [f64],
        cancel: &Cancel,
    ) -> Result<Value> {
        let (columns, classes) = (self.columns, self.classes);
        let data = self.data();
        let sums = if exact {
            let (weights, bias) = self.outer(w);
            let weights = weights.into_raw_vec_and_offset().0;
            let bias = bias.into_raw_vec_and_offset().0;
            inside(&self.pool, self.parallel, || pass.run_exactly(&data, &weights, &bias, cancel))?
        } else {
            let mut weights = Vec::with_capacity(classes * columns);
            let mut bias = Vec::with_capacity(classes);
            for w in w.chunks_exact(columns + 1) {
                let mut shift = 0.0;
                for ((&w, &scale), &mean) in w.iter().zip(&self.scale).zip(&self.mean) {
                    let rounded = (w * scale) as f32;
                    shift += f64::from(rounded) * mean;
                    weights.push(rounded);
                }
                bias.push((w[columns] - shift) as f32);
            }
            inside(&self.pool, self.parallel, || pass.run(&data, &weights, &bias, cancel))?
        };

        let loss = sums.loss / self.total;
        let (mut square, mut inner_product, mut norm, mut bias_product) = (0.0, 0.0, 0.0, 0.0);
        for (c, gradient) in gradient.chunks_exact_mut(columns + 1).enumerate() {
            let bias_gradient = sums.bias_gradient[c];
            let (w, raw) = (&w[c * (columns + 1)..], &sums.gradient[c * columns..]);
            for k in 0..columns {
                let data_gradient = (raw[k] - bias_gradient * self.mean[k]) * self.scale[k] / self.total;
                inner_product += w[k] * data_gradient;
                square += w[k] * w[k];
                gradient[k] = data_gradient + l2 * w[k];
                norm += gradient[k] * gradient[k];
            }
            gradient[columns] = bias_gradient / self.total;
            bias_product += w[columns] * gradient[columns];
        }
        let objective = loss + 0.5 * l2 * square;
        let bound = match l2 > 0.0 {
            true => {
                let entropy = loss - inner_product - bias_product;
                objective - self.gap(w, gradient, l2, norm, bias_product, entropy)
            }
            false => f64::NEG_INFINITY,
        };
        Ok(Value { objective, bound, separated: sums.separated })
    }

    /// Distance of the objective to the dual value at the probabilities P of this point, mixed with constant ones, q, by
    /// as much (`theta`) as it takes for the class totals to be right:
    /// `D = (1 - theta) H(P) + theta H(q) - |X'(P' - Y)|^2 / 2 l2`, where H is the mean entropy, which is concave.
    fn gap(&self, w: &[f64], gradient: &[f64], l2: f64, norm: f64, bias_product: f64, entropy: f64) -> f64 {
        let columns = self.columns;
        let bias_gradient = |c: usize| gradient[c * (columns + 1) + columns];
        // Totals of P are shares + bias_gradient; (1 - theta) times them must not exceed the shares.
        let keep = (0..self.classes)
            .map(|c| self.shares[c] / (self.shares[c] + bias_gradient(c)).max(f64::MIN_POSITIVE))
            .fold(1.0, f64::min);
        let theta = 1.0 - keep;
        let mut gap = norm / (2.0 * l2) + bias_product;
        if theta > 0.0 {
            let constant_entropy: f64 = (0..self.classes)
                .map(|c| (self.shares[c] - keep * (self.shares[c] + bias_gradient(c))) / theta)
                .map(|q| if q > 0.0 { -q * q.ln() } else { 0.0 })
                .sum();
            gap += theta * (entropy - constant_entropy);
            // |G'|^2 - |G|^2 for G' = G - theta (G + K), with K the class sums.
            let mut change = 0.0;
            for c in 0..self.classes {
                let at = c * (columns + 1);
                for k in 0..columns {
                    let g = gradient[at + k] - l2 * w[at + k];
                    let step = theta * (g + self.class_sums[c * columns + k]);
                    change += step * (step - 2.0 * g);
                }
            }
            gap += change / (2.0 * l2);
        }
        gap
    }

    fn solve(
        &self,
        options: &FitOptions,
        start: Option<Vec<f64>>,
        cancel: &Cancel,
        mut progress: Option<&mut dyn FnMut(&Progress)>,
        began: Instant,
    ) -> Result<Solution> {
        let l2 = options.l2;
        let size = self.classes * (self.columns + 1);
        let mut pass = Pass::new(&self.data(), self.parallel);
        let mut w = start.unwrap_or_else(|| self.prior());
        let mut gradient = vec![0.0; size];
        let mut exact = false;
        let mut value = self.evaluate(&mut pass, exact, &w, l2, &mut gradient, cancel)?;
        let mut bound = value.bound;
        let mut history = History::new(size);
        let (mut passes, mut iterations) = (1, 0);
        let (mut next_w, mut next_gradient) = (vec![0.0; size], vec![0.0; size]);
        let mut stalled = 0;
        let mut lowest = (value.objective, bound);
        let relative = |objective: f64, bound: f64| match bound > 0.0 {
            true => (objective - bound).max(0.0) / bound,
            false => f64::INFINITY,
        };
        let converged = loop {
            if let Some(progress) = &mut progress {
                let gradient_norm = dot(&gradient, &gradient).sqrt();
                let gap = relative(value.objective, bound);
                let seconds = began.elapsed().as_secs_f64();
                progress(&Progress { iteration: iterations, objective: value.objective, gradient_norm, gap, seconds });
            }
            if l2 == 0.0 && value.separated {
                return Err(Error::Separable { iterations });
            }
            let direction = history.direction(&gradient, |v| self.diagonal(v, l2));
            let mut slope = dot(&direction, &gradient);
            let converged = match l2 > 0.0 {
                true => relative(value.objective, bound) <= options.tolerance,
                false => -slope <= 0.02 * options.tolerance * value.objective,
            };
            if converged || iterations >= options.max_iterations {
                break converged;
            }
            let mut direction = direction;
            if slope.is_nan() || slope >= 0.0 {
                history.clear();
                direction = self.diagonal(&gradient, l2).iter().map(|v| -v).collect();
                slope = dot(&direction, &gradient);
            }
            // Float32 products leave noise of this size in the objective; below it a step is judged by nothing better.
            let slack = if exact { 1e-14 } else { 2e-8 } * value.objective.abs();
            let (mut step, mut tries) = (1.0, 0);
            let found = loop {
                next_w.iter_mut().zip(&w).zip(&direction).for_each(|((next, w), d)| *next = w + step * d);
                let next = self.evaluate(&mut pass, exact, &next_w, l2, &mut next_gradient, cancel)?;
                passes += 1;
                tries += 1;
                bound = bound.max(next.bound);
                if next.objective <= value.objective + 1e-4 * step * slope + slack {
                    break Some(next);
                }
                if tries == 12 {
                    break None;
                }
                let fitted = -slope * step * step / (2.0 * (next.objective - value.objective - slope * step));
                step = if fitted.is_finite() { fitted.clamp(0.1 * step, 0.6 * step) } else { 0.1 * step };
            };
            let Some(next) = found else {
                if history.is_empty() {
                    if exact {
                        break false;
                    }
                    exact = true;
                    value = self.evaluate(&mut pass, exact, &w, l2, &mut gradient, cancel)?;
                    (bound, passes) = (value.bound, passes + 1);
                    (lowest, stalled) = ((value.objective, bound), 0);
                }
                history.clear();
                continue;
            };
            iterations += 1;
            history.push(&w, &next_w, &gradient, &next_gradient);
            let finer = if exact { 1e-12 } else { 1e-9 } * next.objective.abs();
            if next.objective < lowest.0 - finer || bound > lowest.1 + finer {
                (lowest, stalled) = ((next.objective.min(lowest.0), bound), 0);
            } else {
                stalled += 1;
            }
            std::mem::swap(&mut w, &mut next_w);
            std::mem::swap(&mut gradient, &mut next_gradient);
            value = next;
            // The gap asked for is finer than these products can tell: on in float64, and if that is not enough, stop.
            let patience = if exact { 50 } else { 12 };
            if stalled >= patience {
                if exact {
                    break false;
                }
                exact = true;
                value = self.evaluate(&mut pass, exact, &w, l2, &mut gradient, cancel)?;
                (bound, passes) = (value.bound, passes + 1);
                (lowest, stalled) = ((value.objective, bound), 0);
                history.clear();
            }
        };
        let gap = (l2 > 0.0).then(|| relative(value.objective, bound));
        let report = FitReport { iterations, passes, converged, objective: value.objective, gap, seconds: 0.0, l2 };
        Ok(Solution { w, report })
    }

    /// The optimum for an infinite penalty: no weights, the bias tells the shares.
    fn prior(&self) -> Vec<f64> {
        let mut w = vec![0.0; self.classes * (self.columns + 1)];
        for (c, share) in self.shares.iter().enumerate() {
            w[c * (self.columns + 1) + self.columns] = share.ln();
        }
        w
    }

    /// The inverse of the Hessian's diagonal, were every row's probabilities the shares of the classes.
    fn diagonal(&self, v: &[f64], l2: f64) -> Vec<f64> {
        let mut out = Vec::with_capacity(v.len());
        for (c, v) in v.chunks_exact(self.columns + 1).enumerate() {
            let spread = self.shares[c] * (1.0 - self.shares[c]);
            // A column of nearly no variance would otherwise get a step that says nothing about its neighbours.
            out.extend(v.iter().zip(&self.variance).map(|(v, variance)| v / (spread * variance + l2).max(1e-12)));
            out.push(v[self.columns] / spread);
        }
        out
    }
}

/// The last steps and what they did to the gradient (Liu and Nocedal 1989).
struct History {
    steps: VecDeque<(Vec<f64>, Vec<f64>, f64)>,
    most: usize,
}

impl History {
    fn new(size: usize) -> Self {
        Self { steps: VecDeque::new(), most: ((256 << 20) / (16 * size)).clamp(6, 30) }
    }

    fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    fn clear(&mut self) {
        self.steps.clear();
    }

    fn push(&mut self, w: &[f64], next_w: &[f64], gradient: &[f64], next_gradient: &[f64]) {
        let (mut s, mut y) = if self.steps.len() == self.most {
            self.steps.pop_front().map(|(s, y, _)| (s, y)).unwrap_or_default()
        } else {
            (Vec::new(), Vec::new())
        };
        s.clear();
        s.extend(next_w.iter().zip(w).map(|(a, b)| a - b));
        y.clear();
        y.extend(next_gradient.iter().zip(gradient).map(|(a, b)| a - b));
        let curvature = dot(&s, &y);
        if curvature > 1e-14 * dot(&y, &y).sqrt() * dot(&s, &s).sqrt() {
            self.steps.push_back((s, y, 1.0 / curvature));
        }
    }

    /// Minus the approximate inverse Hessian times the gradient; `initial` is what it is before any step.
    fn direction(&self, gradient: &[f64], initial: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f64> {
        let mut q = gradient.to_vec();
        let mut factors = Vec::with_capacity(self.steps.len());
        for (s, y, rho) in self.steps.iter().rev() {
            let factor = rho * dot(s, &q);
            add(&mut q, -factor, y);
            factors.push(factor);
        }
        let mut q = initial(&q);
        if let Some((_, y, rho)) = self.steps.back() {
            let scale = 1.0 / (rho * dot(y, &initial(y)));
            q.iter_mut().for_each(|q| *q *= scale);
        }
        for ((s, y, rho), factor) in self.steps.iter().zip(factors.iter().rev()) {
            let other = rho * dot(y, &q);
            add(&mut q, factor - other, s);
        }
        q.iter_mut().for_each(|q| *q = -*q);
        q
    }
}

fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v);
}

/// In eight running sums, so that the compiler may use vectors; always in the same order.
pub(crate) fn dot(a: &[f64], b: &[f64]) -> f64 {
    let mut sums = [0.0; 8];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<8>(), b.as_chunks::<8>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Runs `work` in the fit's own pool, if it has one and the work is worth it.
fn inside<R: Send>(pool: &Option<rayon::ThreadPool>, parallel: bool, work: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) if parallel => pool.install(work),
        _ => work(),
    }
}

fn check_l2(l2: f64) -> Result<()> {
    match l2.is_finite() && l2 >= 0.0 {
        true => Ok(()),
        false => {
            Err(Error::InvalidOption { option: "l2", value: l2.to_string(), must: "it must be a number of at least 0" })
        }
    }
}

fn check_labels(y: &[u32], classes: usize) -> Result<()> {
    match y.iter().position(|&label| label as usize >= classes) {
        Some(row) => Err(Error::LabelOutside { row, label: y[row].into(), classes }),
        None => Ok(()),
    }
}

/// Sample and class weights multiplied, or none.
fn row_weights(y: &[u32], classes: usize, options: &FitOptions) -> Result<Option<Vec<f32>>> {
    let check = |option, what, weights: &[f32], expected: usize| {
        if weights.len() != expected {
            return Err(Error::DimensionMismatch { what, expected, found: weights.len() });
        }
        match weights.iter().find(|weight| !(weight.is_finite() && **weight >= 0.0)) {
            Some(weight) => {
                let must = "weights must be finite and at least 0";
                Err(Error::InvalidOption { option, value: weight.to_string(), must })
            }
            None => Ok(()),
        }
    };
    let mut weights = None;
    if let Some(samples) = &options.sample_weights {
        check("sample_weights", "sample weights", samples, y.len())?;
        weights = Some(samples.clone());
    }
    if let Some(factors) = &options.class_weights {
        check("class_weights", "class weights", factors, classes)?;
        let weights = weights.get_or_insert_with(|| vec![1.0; y.len()]);
        weights.iter_mut().zip(y).for_each(|(weight, &label)| *weight *= factors[label as usize]);
    }
    Ok(weights)
}

fn first_non_finite(x: ArrayView2<f32>) -> Option<(usize, usize, f32)> {
    x.indexed_iter().find(|(_, value)| !value.is_finite()).map(|((row, column), &value)| (row, column, value))
}

/// The first value that is not finite; looked for only if a sum over it says that there is one.
fn non_finite_in(x: &[f32], columns: usize, mean: &[f64], deviation: &[f64]) -> Option<(usize, usize, f32)> {
    if mean.iter().chain(deviation).all(|value| value.is_finite()) {
        return None;
    }
    x.iter().position(|value| !value.is_finite()).map(|at| (at / columns, at % columns, x[at]))
}
