//! A path of penalties: every one fitted, starting where those before lead, judged on rows held out, and the best refitted.

use std::collections::VecDeque;
use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView2, Axis, concatenate};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::metrics;
use crate::problem::{Problem, check_l2, check_labels};
use crate::solver::{FitOptions, FitReport, Kept, fit, standard_layout};

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

/// Certified gap that the points of a path stop at, unless a larger one is asked for: far below what tells penalties apart on
/// validation rows. The refit stops at what is asked for.
const TOLERANCE: f64 = 1e-4;

/// Optima that tell where the next one is, and how many times as far as from one to the next they do.
const OPTIMA: usize = 3;
const FARTHER: f64 = 1.5;

/// The 45 penalties of BYOL's transfer protocol (appendix D: logarithmically spaced from 1e-6 to 1e5), per example: the
/// protocol's values stand beside a sum over `rows` examples. Strongest first.
pub fn paper_path(rows: usize) -> Vec<f64> {
    (0..45).map(|i| 10f64.powf(5.0 - 11.0 * f64::from(i) / 44.0) / rows.max(1) as f64).collect()
}

/// Fits every penalty of `l2_values` (sorted from strong to weak, each starting where those before lead), judges each on the
/// validation rows, and refits the best on all rows. `options.l2`, `start` and `sample_weights` are not used. Points stop at a
/// gap of 1e-4, or `options.tolerance` if that is larger; the refit stops at `options.tolerance`.
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
    let finite = |(_, value): &((usize, usize), &f32)| !value.is_finite();
    if let Some(((row, column), &value)) = validation_x.indexed_iter().find(finite) {
        return Err(Error::NonFinite { row, column, value });
    }
    let options = FitOptions { sample_weights: None, start: None, ..options.clone() };
    let mut l2_values = l2_values.to_vec();
    l2_values.sort_by(|a, b| b.total_cmp(a));
    l2_values.iter().try_for_each(|&l2| check_l2(l2))?;

    let (points, best, best_w) =
        walk(x, y, validation_x, validation_y, classes, &l2_values, patience, &options, cancel, &mut progress)?;

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

/// The points of a path, the index of the best, and its weights and bias.
type Walked = (Vec<PathPoint>, usize, Option<(Array2<f64>, Array1<f64>)>);

/// Optima of the last penalties. As these fall by the same factor, each optimum is nearly where the last ones lead: the polynomial of
/// the penalty's logarithm through them.
#[derive(Default)]
struct Course {
    /// Logarithm of the penalty, and parameters.
    found: VecDeque<(f64, Vec<f64>)>,
}

impl Course {
    /// After the optimum `w` of a penalty, about where that of the next one is.
    fn leads(&mut self, l2: f64, w: Vec<f64>, next: f64) -> Vec<f64> {
        self.found.push_front((l2.ln(), w));
        self.found.truncate(OPTIMA);
        let next = next.ln();
        // From points close together it does not lead far.
        let (mut at, mut reach, mut count) = (self.found[0].0, (next - self.found[0].0).abs(), 1);
        for (before, _) in self.found.iter().skip(1) {
            let distance = (at - before).abs();
            if !(distance > 0.0 && reach <= FARTHER * distance) {
                break;
            }
            (at, reach, count) = (*before, distance, count + 1);
        }
        let mut w = vec![0.0; self.found[0].1.len()];
        for (i, (at, found)) in self.found.iter().enumerate().take(count) {
            let others = self.found.iter().take(count).enumerate().filter(|(j, _)| *j != i);
            let share: f64 = others.map(|(_, (other, _))| (next - other) / (at - other)).product();
            w.iter_mut().zip(found).for_each(|(w, found)| *w += share * found);
        }
        w
    }
}

/// Fits penalties in the order given, each starting where those before lead, and judges them.
#[allow(clippy::too_many_arguments, reason = "as fit_path")]
fn walk(
    x: ArrayView2<f32>,
    y: &[u32],
    validation_x: ArrayView2<f32>,
    validation_y: &[u32],
    classes: usize,
    l2_values: &[f64],
    patience: Option<usize>,
    options: &FitOptions,
    cancel: &Cancel,
    progress: &mut Option<&mut dyn FnMut(&PathPoint)>,
) -> Result<Walked> {
    let standard = standard_layout(x);
    let problem = Problem::new(standard.as_ref().into(), x.ncols(), y, classes, options, cancel)?;
    let mut points: Vec<PathPoint> = Vec::new();
    let mut start: Option<Vec<f64>> = None;
    let (mut kept, mut course) = (Kept::default(), Course::default());
    let (mut best, mut best_w, mut lowest) = (0, None, (0, f64::INFINITY));
    for (index, &l2) in l2_values.iter().enumerate() {
        let fit_began = Instant::now();
        let options = FitOptions { l2, tolerance: options.tolerance.max(TOLERANCE), ..options.clone() };
        let solution = problem.solve(&options, start.take(), cancel, None, fit_began, &mut kept)?;
        let (weights, bias) = problem.outer(&solution.w);
        let (accuracy, log_loss) = judge(validation_x, validation_y, &weights, &bias);
        let mut fit = solution.report;
        fit.seconds = fit_began.elapsed().as_secs_f64();
        let point = PathPoint { fit, accuracy, log_loss };
        if let Some(progress) = progress {
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
        start = match l2_values.get(index + 1) {
            // Where a penalty is too strong for a weight, it stays 0.
            Some(&next) if options.l1 == 0.0 => Some(course.leads(l2, solution.w, next)),
            _ => Some(solution.w),
        };
    }
    Ok((points, best, best_w))
}

/// One penalty, judged by cross-validation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct FoldedPoint {
    /// Penalty per example.
    pub l2: f64,
    /// Mean over the folds of the share of right rows.
    pub accuracy: f64,
    /// Standard deviation of that share over the folds.
    pub deviation: f64,
    /// Mean over the folds of the mean cross-entropy.
    pub log_loss: f64,
}

/// What cross-validation found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrossValidation {
    /// One per penalty, strongest first.
    pub points: Vec<FoldedPoint>,
    /// Index of the best: highest accuracy, then lowest loss, then strongest penalty.
    pub best: usize,
    /// Wall time.
    pub seconds: f64,
}

/// The fold of every row: each class is dealt out over the folds in a random order that the seed decides.
pub fn stratified_folds(labels: &[u32], folds: usize, seed: u64) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..labels.len()).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    // Sorted by class and dealt in turn: folds of equal size, and of each class an equal share.
    rows.sort_by_key(|&row| labels[row]);
    let mut fold = vec![0; labels.len()];
    rows.iter().enumerate().for_each(|(turn, &row)| fold[row] = turn % folds.max(1));
    fold
}

/// Judges penalties by `folds`-fold stratified cross-validation: each row is predicted by a head that was fitted
/// without its fold. The best is then for [`crate::head::Head::fit`] on all rows.
///
/// # Errors
/// As [`fit`]; [`Error::NoLabels`], [`Error::EmptyData`] without penalties, [`Error::InvalidOption`] for fewer than 2
/// folds or more than the rarest class has rows.
pub fn cross_validate(
    features: &Features,
    l2_values: &[f64],
    folds: usize,
    seed: u64,
    options: &FitOptions,
    cancel: &Cancel,
    mut progress: Option<&mut dyn FnMut(&PathPoint)>,
) -> Result<CrossValidation> {
    let began = Instant::now();
    let (labels, classes) = (features.labels()?, features.class_count());
    if l2_values.is_empty() {
        return Err(Error::EmptyData { what: "penalties to try" });
    }
    check_labels(labels, classes)?;
    let mut counts = vec![0usize; classes];
    labels.iter().for_each(|&label| counts[label as usize] += 1);
    if folds < 2 || counts.iter().any(|&count| count > 0 && count < folds) {
        let must = "it must be at least 2, and at most the rows of the rarest class";
        return Err(Error::InvalidOption { option: "folds", value: folds.to_string(), must });
    }
    let options = FitOptions { sample_weights: None, start: None, ..options.clone() };
    let mut l2_values = l2_values.to_vec();
    l2_values.sort_by(|a, b| b.total_cmp(a));
    l2_values.iter().try_for_each(|&l2| check_l2(l2))?;
    let fold = stratified_folds(labels, folds, seed);
    let mut judged: Vec<Vec<PathPoint>> = Vec::new();
    for held_out in 0..folds {
        let (out, rest): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&row| fold[row] == held_out);
        let (out, rest) = (features.select(&out), features.select(&rest));
        let (points, ..) = walk(
            rest.values.view(),
            rest.labels()?,
            out.values.view(),
            out.labels()?,
            classes,
            &l2_values,
            None,
            &options,
            cancel,
            &mut progress,
        )?;
        judged.push(points);
    }
    let n = folds as f64;
    let points: Vec<FoldedPoint> = (0..l2_values.len())
        .map(|i| {
            let mean = |of: &dyn Fn(&PathPoint) -> f64| judged.iter().map(|points| of(&points[i])).sum::<f64>() / n;
            let accuracy = mean(&|point| point.accuracy);
            let deviation = mean(&|point| (point.accuracy - accuracy).powi(2)).sqrt();
            FoldedPoint { l2: l2_values[i], accuracy, deviation, log_loss: mean(&|point| point.log_loss) }
        })
        .collect();
    let better = |a: &FoldedPoint, b: &FoldedPoint| {
        a.accuracy > b.accuracy || (a.accuracy == b.accuracy && a.log_loss < b.log_loss)
    };
    let best = (1..points.len()).fold(0, |best, i| if better(&points[i], &points[best]) { i } else { best });
    Ok(CrossValidation { points, best, seconds: began.elapsed().as_secs_f64() })
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What the optimum of a penalty would be.
    fn optimum(l2: f64) -> Vec<f64> {
        let t = l2.ln();
        vec![1.0 - 2.0 * t, 0.5 * t * t + t]
    }

    #[test]
    fn optima_lead_on_as_far_as_they_are_apart() {
        let lead = |penalties: &[f64], next: f64| {
            let mut course = Course::default();
            let mut led = Vec::new();
            for (i, &l2) in penalties.iter().enumerate() {
                led = course.leads(l2, optimum(l2), penalties.get(i + 1).copied().unwrap_or(next));
            }
            led
        };
        let is = |led: Vec<f64>, wanted: &[f64]| {
            assert!(led.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{led:?} for {wanted:?}");
        };
        // From one nowhere, from two on a line, from three on a parabola.
        is(lead(&[10.0], 1.0), &optimum(10.0));
        let (first, second) = (optimum(10.0), optimum(1.0));
        is(lead(&[10.0, 1.0], 0.1), &[2.0 * second[0] - first[0], 2.0 * second[1] - first[1]]);
        is(lead(&[10.0, 1.0, 0.1], 0.01), &optimum(0.01));
        is(lead(&[50.0, 10.0, 1.0, 0.1], 0.01), &optimum(0.01));
        // Not from such as are close together, or the same, and not to 0.
        is(lead(&[10.0, 1.0, 0.9], 0.01), &optimum(0.9));
        is(lead(&[10.0, 1.0, 1.0], 0.1), &optimum(1.0));
        is(lead(&[10.0, 1.0, 0.1], 0.0), &optimum(0.1));
    }
}
