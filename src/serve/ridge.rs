//! The ridge classifier: least squares against +1 for a row's class and -1 for the others, with a penalty on the weights
//! and a free bias. In closed form, and so is what every row would be told by the fit without it: the quick look at
//! which penalty suits, without a held-out set.
//!
//! One eigendecomposition of the centred columns' products serves every penalty. With `X'X = V diag(e) V'` and
//! `Z = X V`, the fit is `Z (e + alpha)^-1 Z'Y`, its leverage `h_i = 1/n + sum_j z_ij^2 / (e_j + alpha)`, and the residual
//! of row i without row i is `(y_i - f_i) / (1 - h_i)`, exactly (Allen 1974, "PRESS").

use std::time::Instant;

use nalgebra::{DMatrix, SymmetricEigen};
use ndarray::linalg::general_mat_mul;
use ndarray::{Array1, Array2, ArrayView2, Axis, s};
use serde::Serialize;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::head::Head;
use crate::problem::check_labels;

/// Rows held in float64 at a time.
const BLOCK: usize = 2048;

/// One penalty, judged row by row on fits without the row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct RidgePoint {
    /// Penalty on the squared weights beside the sum over rows of squared errors: scikit-learn's `alpha`.
    pub alpha: f64,
    /// Share of rows that the fit without them puts into their class.
    pub accuracy: f64,
    /// Mean squared error of these predictions, over rows and classes.
    pub squared_error: f64,
}

/// A ridge classifier, fitted to all rows with the penalty of least leave-one-out error.
#[derive(Clone, Debug)]
pub struct Ridge {
    /// One per penalty, in the order given.
    pub points: Vec<RidgePoint>,
    /// Index of the least squared error; the first in a tie.
    pub best: usize,
    /// The classifier; its scores are the regression's values, no log-probabilities until [`Head::calibrate`].
    pub head: Head,
    /// Wall time.
    pub seconds: f64,
}

/// Fits and judges every penalty of `alphas`, each above 0.
///
/// # Errors
/// [`Error::NoLabels`], [`Error::EmptyData`] (fewer than 2 rows, no column or no penalty), [`Error::LabelMismatch`],
/// [`Error::LabelOutside`], [`Error::OneClass`], [`Error::NonFinite`], [`Error::InvalidOption`] for a penalty,
/// [`Error::Cancelled`], [`Error::Deadline`].
pub fn ridge(features: &Features, alphas: &[f64], cancel: &Cancel) -> Result<Ridge> {
    let began = Instant::now();
    let (labels, classes) = (features.labels()?, features.class_count());
    let x = features.values.view();
    let (rows, columns) = x.dim();
    if rows < 2 || columns == 0 {
        return Err(Error::EmptyData { what: "rows of features (a ridge needs at least 2)" });
    }
    if alphas.is_empty() {
        return Err(Error::EmptyData { what: "penalties to try" });
    }
    if let Some(alpha) = alphas.iter().find(|alpha| !(alpha.is_finite() && **alpha > 0.0)) {
        let must = "it must be a number above 0";
        return Err(Error::InvalidOption { option: "alpha", value: alpha.to_string(), must });
    }
    if labels.len() != rows {
        return Err(Error::LabelMismatch { features: rows, labels: labels.len() });
    }
    check_labels(labels, classes)?;
    if labels.iter().all(|label| *label == labels[0]) {
        return Err(Error::OneClass { label: features.class_name(labels[0] as usize), examples: rows });
    }
    features.check_finite()?;

    let mut mean = Array1::<f64>::zeros(columns);
    x.outer_iter().for_each(|row| mean.zip_mut_with(&row, |mean, &v| *mean += f64::from(v)));
    mean /= rows as f64;
    let mut share = Array1::<f64>::zeros(classes);
    labels.iter().for_each(|&label| share[label as usize] += 1.0 / rows as f64);
    // Targets of +1 and -1 have this mean.
    let target_mean = share.mapv(|share| 2.0 * share - 1.0);

    let mut products = Array2::<f64>::zeros((columns, columns));
    let mut with_targets = Array2::<f64>::zeros((columns, classes));
    for first in (0..rows).step_by(BLOCK) {
        cancel.check()?;
        let last = (first + BLOCK).min(rows);
        let centred = centred(x, first, last, &mean);
        let targets = targets(&labels[first..last], &target_mean);
        general_mat_mul(1.0, &centred.t(), &centred, 1.0, &mut products);
        general_mat_mul(1.0, &centred.t(), &targets, 1.0, &mut with_targets);
    }
    let eigen = SymmetricEigen::new(DMatrix::from_fn(columns, columns, |i, j| products[[i, j]]));
    let vectors = Array2::from_shape_fn((columns, columns), |(i, j)| eigen.eigenvectors[(i, j)]);
    // No product of real columns has a negative eigenvalue; rounding gives some.
    let values = Array1::from_shape_fn(columns, |j| eigen.eigenvalues[j].max(0.0));
    cancel.check()?;
    let turned = vectors.t().dot(&with_targets); // Z'Y, [columns, classes]
    let solve = |alpha: f64| &turned / &values.mapv(|e| e + alpha).insert_axis(Axis(1));

    let solutions: Vec<Array2<f64>> = alphas.iter().map(|&alpha| solve(alpha)).collect();
    let (mut right, mut squares) = (vec![0usize; alphas.len()], vec![0f64; alphas.len()]);
    for first in (0..rows).step_by(BLOCK) {
        cancel.check()?;
        let last = (first + BLOCK).min(rows);
        let z = centred(x, first, last, &mean).dot(&vectors);
        let targets = targets(&labels[first..last], &target_mean);
        let z_squared = z.mapv(|z| z * z);
        for (i, (&alpha, solution)) in alphas.iter().zip(&solutions).enumerate() {
            let residual = &targets - &z.dot(solution);
            let leverage = z_squared.dot(&values.mapv(|e| 1.0 / (e + alpha)));
            for (row, residual) in residual.outer_iter().enumerate() {
                let label = labels[first + row] as usize;
                let left = (1.0 - 1.0 / rows as f64 - leverage[row]).max(f64::MIN_POSITIVE);
                let (mut best, mut top) = (0, f64::NEG_INFINITY);
                for (class, &residual) in residual.iter().enumerate() {
                    let without = residual / left;
                    squares[i] += without * without;
                    let told = if class == label { 1.0 } else { -1.0 } - without;
                    if told > top {
                        (best, top) = (class, told);
                    }
                }
                right[i] += usize::from(best == label);
            }
        }
    }
    let points: Vec<RidgePoint> = (0..alphas.len())
        .map(|i| RidgePoint {
            alpha: alphas[i],
            accuracy: right[i] as f64 / rows as f64,
            squared_error: squares[i] / (rows * classes) as f64,
        })
        .collect();
    let best = (1..points.len()).fold(
        0,
        |best, i| {
            if points[i].squared_error < points[best].squared_error { i } else { best }
        },
    );
    let weights = vectors.dot(&solutions[best]).reversed_axes(); // [classes, columns]
    let bias = &target_mean - &weights.dot(&mean);
    let names = (0..classes).map(|class| features.class_name(class)).collect();
    let weights = Array2::from_shape_fn((classes, columns), |at| weights[at] as f32);
    let mut head = Head::from_parts(weights, bias.mapv(|b| b as f32), names)?;
    head.encoder_sha256.clone_from(&features.encoder);
    Ok(Ridge { points, best, head, seconds: began.elapsed().as_secs_f64() })
}

fn centred(x: ArrayView2<f32>, first: usize, last: usize, mean: &Array1<f64>) -> Array2<f64> {
    x.slice(s![first..last, ..]).mapv(f64::from) - mean
}

fn targets(labels: &[u32], mean: &Array1<f64>) -> Array2<f64> {
    let target = |(row, class): (usize, usize)| if labels[row] as usize == class { 1.0 } else { -1.0 };
    Array2::from_shape_fn((labels.len(), mean.len()), target) - mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::seq::SliceRandom;
    use rand_chacha::ChaCha8Rng;

    /// 30 rows of 4 columns in 3 classes, overlapping.
    fn example() -> Features {
        let mut noise: Vec<f32> = (0..120).map(|i| (i as f32 - 60.0) / 30.0).collect();
        noise.shuffle(&mut ChaCha8Rng::seed_from_u64(1));
        let values = Array2::from_shape_fn((30, 4), |(i, k)| noise[4 * i + k] + if i % 3 == k { 1.5 } else { 0.0 });
        Features::labelled(values, (0..30).map(|i| i % 3).collect())
    }

    #[test]
    fn leaving_a_row_out_in_closed_form_is_leaving_it_out() {
        let all = example();
        let alphas = [0.1, 10.0];
        let found = ridge(&all, &alphas, &Cancel::new()).unwrap();
        for (point, alpha) in found.points.iter().zip(alphas) {
            let (mut right, mut squares) = (0, 0.0);
            for row in 0..30 {
                let rest: Vec<usize> = (0..30).filter(|&other| other != row).collect();
                let head = ridge(&all.select(&rest), &[alpha], &Cancel::new()).unwrap().head;
                let told = head.logits(all.values.slice(s![row..row + 1, ..])).unwrap();
                let label = row % 3;
                squares += (0..3)
                    .map(|c| (f64::from(told[[0, c]]) - if c == label { 1.0 } else { -1.0 }).powi(2))
                    .sum::<f64>();
                right += usize::from((0..3).all(|c| c == label || told[[0, c]] < told[[0, label]]));
            }
            assert!((point.squared_error - squares / 90.0).abs() < 1e-6, "{} {}", point.squared_error, squares / 90.0);
            assert_eq!(point.accuracy, right as f64 / 30.0);
        }
    }

    #[test]
    fn the_gradient_at_the_fit_is_zero() {
        let all = example();
        let found = ridge(&all, &[2.0], &Cancel::new()).unwrap();
        let told = found.head.logits(all.values.view()).unwrap();
        for class in 0..3 {
            let residual: Vec<f64> =
                (0..30).map(|row| f64::from(told[[row, class]]) - if row % 3 == class { 1.0 } else { -1.0 }).collect();
            assert!(residual.iter().sum::<f64>().abs() < 1e-4);
            for k in 0..4 {
                let product: f64 = (0..30).map(|row| residual[row] * f64::from(all.values[[row, k]])).sum();
                let gradient = product + 2.0 * f64::from(found.head.weights[[class, k]]);
                assert!(gradient.abs() < 1e-4, "{gradient}");
            }
        }
    }

    #[test]
    fn what_cannot_be_fitted_is_refused() {
        let all = example();
        assert!(ridge(&all, &[0.0], &Cancel::new()).is_err());
        assert!(ridge(&all, &[], &Cancel::new()).is_err());
        assert!(ridge(&all.select(&[0]), &[1.0], &Cancel::new()).is_err());
        assert!(matches!(ridge(&all.select(&[0, 3, 6]), &[1.0], &Cancel::new()), Err(Error::OneClass { .. })));
    }
}
