//! Promises of sparse heads: scikit-learn's optimum and its zeros, the optimality conditions, the naive solver's value,
//! a certificate that holds, the same bits.
//!
//! The golden numbers are scikit-learn's (saga), recorded by `tests/data/record_sparse.py`.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use std::path::PathBuf;

use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::path::fit_path;
use byol_serve::solver::{FitOptions, FitReport, Intercept, fit};
use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use support::Random;

fn data(name: &str) -> PathBuf {
    support::data("head").join(name)
}

/// Overlapping classes of correlated features, of which every third tells nothing.
fn sample(rows: usize, columns: usize, classes: usize) -> (Array2<f32>, Vec<u32>) {
    let mut random = Random(rows as u64 * 31 + columns as u64);
    let centres =
        Array2::from_shape_fn((classes, columns), |(_, k)| random.next() * if k % 3 == 0 { 0.0 } else { 1.0 });
    let y: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
    let mut shared = 0.0;
    let x = Array2::from_shape_fn((rows, columns), |(row, column)| {
        if column == 0 {
            shared = random.next();
        }
        centres[[y[row] as usize, column]] * 0.6 + 1.5 * random.next() + shared + 2.0
    });
    (x, y)
}

/// Loss, and its gradient in weights `[classes, columns]` and bias, by the definition.
fn loss(
    x: &Array2<f32>,
    y: &[u32],
    rows: &[f32],
    weights: &Array2<f64>,
    bias: &Array1<f64>,
) -> (f64, Array2<f64>, Array1<f64>) {
    let x = x.mapv(f64::from);
    let mut p = x.dot(&weights.t()) + bias;
    let total: f64 = rows.iter().map(|&w| f64::from(w)).sum();
    let mut value = 0.0;
    for ((mut p, &label), &weight) in p.outer_iter_mut().zip(y).zip(rows) {
        let weight = f64::from(weight) / total;
        let top = p.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
        let own = p[label as usize];
        p.mapv_inplace(|z| (z - top).exp());
        let sum = p.sum();
        value += weight * (sum.ln() + top - own);
        p.mapv_inplace(|e| weight * e / sum);
        p[label as usize] -= weight;
    }
    (value, p.t().dot(&x), p.sum_axis(Axis(0)))
}

fn objective(x: &Array2<f32>, y: &[u32], rows: &[f32], w: &Array2<f64>, b: &Array1<f64>, options: &FitOptions) -> f64 {
    let (absolute, square) = w.iter().fold((0.0, 0.0), |sums, w| (sums.0 + w.abs(), sums.1 + w * w));
    loss(x, y, rows, w, b).0 + options.l1 * absolute + 0.5 * options.l2 * square
}

/// The reference solver, a page of it: proximal gradient descent with Nesterov's momentum (FISTA) in float64.
fn naive_fit(x: &Array2<f32>, y: &[u32], classes: usize, l1: f64, l2: f64) -> f64 {
    let mean = x.mean_axis(Axis(0)).unwrap();
    let centred = x - &mean;
    let ones = vec![1.0; y.len()];
    let largest: f64 = centred.iter().map(|v| f64::from(v * v)).sum::<f64>() / y.len() as f64;
    let step = 1.0 / (0.5 * largest + 0.5 + l2);
    let (mut w, mut b) = (Array2::<f64>::zeros((classes, x.ncols())), Array1::<f64>::zeros(classes));
    let (mut vw, mut vb, mut momentum, mut best) = (w.clone(), b.clone(), 1.0f64, f64::INFINITY);
    for _ in 0..20_000 {
        let (_, gw, gb) = loss(&centred, y, &ones, &vw, &vb);
        let next_w = (&vw - &((gw + &vw * l2) * step)).mapv(|v| v.signum() * (v.abs() - step * l1).max(0.0));
        let next_b = &vb - &(gb * step);
        let (value, ..) = loss(&centred, y, &ones, &next_w, &next_b);
        let value = value + next_w.iter().map(|w| l1 * w.abs() + 0.5 * l2 * w * w).sum::<f64>();
        if value > best {
            momentum = 1.0;
        }
        best = best.min(value);
        let next = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
        let push = (momentum - 1.0) / next;
        vw = &next_w + &((&next_w - &w) * push);
        vb = &next_b + &((&next_b - &b) * push);
        (w, b, momentum) = (next_w, next_b, next);
    }
    best
}

fn sparse(l1: f64, l2: f64) -> FitOptions {
    FitOptions { l1, l2, threads: 1, ..FitOptions::default() }
}

fn run(x: &Array2<f32>, y: &[u32], classes: usize, options: &FitOptions) -> (Array2<f64>, Array1<f64>, FitReport) {
    fit(x.view(), y, classes, options, &Cancel::new(), None).unwrap()
}

#[test]
fn the_optimum_and_its_zeros_are_scikit_learns() {
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(data("sparse.json")).unwrap()).unwrap();
    for (name, case) in cases.as_object().unwrap() {
        let set = case["set"].as_str().unwrap();
        let mut features = Features::load(data(&format!("{set}.x.npy"))).unwrap();
        features.labels = Some(Features::load_labels(data(&format!("{set}.y.npy"))).unwrap());
        let class_weights: Option<Vec<f32>> =
            case["class_weights"].as_array().map(|w| w.iter().map(|w| w.as_f64().unwrap() as f32).collect());
        let options = FitOptions {
            standardize: case["standardize"].as_bool().unwrap(),
            class_weights,
            one_column: features.class_count() == 2,
            tolerance: 1e-8,
            ..sparse(case["l1"].as_f64().unwrap(), case["l2"].as_f64().unwrap())
        };
        let head = Head::fit(&features, &options, &Cancel::new(), None).unwrap();
        let report = &head.training.as_ref().unwrap().fit;
        let expected = case["objective"].as_f64().unwrap();
        let distance = (report.objective - expected) / expected;
        assert!(report.converged && report.gap.unwrap() <= 1e-8, "{name}: {report:?}");
        assert!(distance.abs() <= 1e-7, "{name}: {} is {distance:e} from {expected}", report.objective);

        // The recording says where zeros are no matter of rounding; there they are the same ones.
        let (margin, least) = (case["margin"].as_f64().unwrap(), case["least"].as_f64().unwrap());
        assert!(margin > 1e-4 && least > 1e-4, "{name}: record other penalties, margin {margin:e}, least {least:e}");
        let zero: Vec<Vec<bool>> = case["zero"]
            .as_array()
            .unwrap()
            .iter()
            .map(|row| row.as_array().unwrap().iter().map(|zero| zero.as_u64().unwrap() == 1).collect())
            .collect();
        let same =
            |weights: ArrayView1<f32>, zero: &[bool]| weights.iter().zip(zero).all(|(w, zero)| (*w == 0.0) == *zero);
        let rows = head.weights.nrows() - zero.len();
        for (class, zero) in zero.iter().enumerate() {
            assert!(same(head.weights.row(class + rows), zero), "{name}, class {class}: other zeros");
        }
        assert!(zero.iter().flatten().any(|zero| *zero), "{name}: nothing is 0");
        let counted = head.weights.iter().filter(|w| **w != 0.0).count();
        assert_eq!(report.nonzero, Some(counted), "{name}");

        let recorded: Vec<usize> =
            case["predictions"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as usize).collect();
        for (row, (top, class)) in head.top_k(features.values.view(), 2).unwrap().iter().zip(recorded).enumerate() {
            let tied = top[0].probability - top[1].probability < 2e-3;
            assert!(top[0].label == class || tied && top[1].label == class, "{name}, row {row}: {top:?}, not {class}");
        }
    }
}

#[test]
fn every_weight_meets_the_optimality_conditions() {
    let (x, y) = sample(300, 20, 4);
    let ones = vec![1.0; 300];
    let free = sparse(1e-2, 0.0);
    let held = FitOptions { intercept: Intercept::Fixed(vec![0.1, 0.0, -0.1, 0.2]), ..sparse(1e-2, 0.0) };
    for options in [free, held, sparse(5e-3, 2e-2), sparse(1e-3, 0.0)] {
        let options = FitOptions { tolerance: 1e-10, ..options };
        let (w, b, report) = run(&x, &y, 4, &options);
        assert!(report.converged, "{report:?}");
        let (_, gradient, bias_gradient) = loss(&x, &y, &ones, &w, &b);
        for ((class, column), &w) in w.indexed_iter() {
            let slope = gradient[[class, column]] + options.l2 * w;
            let off = if w == 0.0 { slope.abs() - options.l1 } else { (slope + options.l1 * w.signum()).abs() };
            assert!(off <= 2e-6, "{options:?}: class {class}, column {column}: {w} is off by {off:e}");
        }
        match &options.intercept {
            Intercept::Free => assert!(bias_gradient.iter().all(|g| g.abs() < 1e-6), "{bias_gradient}"),
            Intercept::Fixed(given) => assert_eq!(&b.to_vec(), given),
        }
        let defined = objective(&x, &y, &ones, &w, &b, &options);
        assert!((report.objective - defined).abs() <= 1e-9 * defined);
    }
}

#[test]
fn the_objective_is_the_naive_solvers_and_the_certificate_holds() {
    for (classes, rows, columns) in [(3, 150, 8), (2, 150, 8), (5, 60, 30)] {
        let (x, y) = sample(rows, columns, classes);
        for (l1, l2) in [(3e-2, 0.0), (5e-3, 0.0), (1e-2, 1e-2)] {
            let naive = naive_fit(&x, &y, classes, l1, l2);
            // The certificate of a fit that was stopped early holds as well.
            for tolerance in [1e-1, 1e-3, 1e-7] {
                let (.., report) = run(&x, &y, classes, &FitOptions { tolerance, ..sparse(l1, l2) });
                let off = (report.objective - naive) / naive;
                assert!(
                    report.converged && off <= report.gap.unwrap() + 1e-7,
                    "{classes}, {l1}, {l2}: {off:e}, {report:?}"
                );
                assert!(off >= -1e-7, "{classes}, {l1}, {l2}: {} and {naive}", report.objective);
            }
        }
    }
}

#[test]
fn from_some_penalty_on_nothing_is_left_but_the_classes_shares() {
    let (x, y) = sample(200, 12, 3);
    let ones = vec![1.0; 200];
    let shares: Vec<f64> = (0..3).map(|c| y.iter().filter(|y| **y == c).count() as f64 / 200.0).collect();
    let prior = Array1::from_iter(shares.iter().map(|s: &f64| s.ln()));
    let centred = &x - &x.mean_axis(Axis(0)).unwrap();
    let (_, gradient, _) = loss(&centred, &y, &ones, &Array2::zeros((3, 12)), &prior);
    let most = gradient.fold(0f64, |most, g| most.max(g.abs()));
    let (w, _, report) = run(&x, &y, 3, &sparse(1.001 * most, 0.0));
    assert!(w.iter().all(|w| *w == 0.0) && report.nonzero == Some(0) && report.converged, "{report:?}");
    let (w, ..) = run(&x, &y, 3, &sparse(0.98 * most, 0.0));
    assert!(w.iter().any(|w| *w != 0.0));
}

#[test]
fn threads_change_nothing_not_even_a_bit() {
    let (x, y) = sample(9000, 60, 10);
    let of = |threads| run(&x, &y, 10, &FitOptions { threads, ..sparse(1e-3, 0.0) });
    let (one, two, three) = (of(1), of(2), of(3));
    assert!(one.2.converged, "{:?}", one.2);
    assert_eq!((&one.0, &one.1), (&two.0, &two.1));
    assert_eq!((&one.0, &one.1), (&three.0, &three.1));
}

#[test]
fn permuted_rows_and_classes_scaled_features_and_duplicated_rows_give_the_same_classifier() {
    let (x, y) = sample(120, 7, 3);
    let options = FitOptions { tolerance: 1e-10, ..sparse(1e-2, 1e-3) };
    let near = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|d| d.abs() < 2e-4);
    let base = run(&x, &y, 3, &options).0;

    let order: Vec<usize> = (0..120).map(|i| i * 77 % 120).collect();
    let permuted_y: Vec<u32> = order.iter().map(|&i| y[i]).collect();
    assert!(near(&base, &run(&x.select(Axis(0), &order), &permuted_y, 3, &options).0));

    let turned: Vec<u32> = y.iter().map(|label| (label + 1) % 3).collect();
    assert!(near(&base, &run(&x, &turned, 3, &options).0.select(Axis(0), &[1, 2, 0])));

    let twice: Vec<usize> = (0..120).chain(0..40).collect();
    let twice_y: Vec<u32> = twice.iter().map(|&i| y[i]).collect();
    let duplicated = run(&x.select(Axis(0), &twice), &twice_y, 3, &options).0;
    let weights = (0..120).map(|i| if i < 40 { 2.0 } else { 1.0 }).collect();
    assert!(near(&duplicated, &run(&x, &y, 3, &FitOptions { sample_weights: Some(weights), ..options.clone() }).0));

    // Features times 10, l1 times 10, l2 times 100: the same classifier with weights a tenth.
    let scaled = run(&x.mapv(|v| v * 10.0), &y, 3, &FitOptions { l1: 1e-1, l2: 1e-1, ..options.clone() }).0 * 10.0;
    assert!(near(&base, &scaled));

    // Standardised: scaled columns change nothing at all.
    let standard = FitOptions { standardize: true, ..options };
    let factors = Array1::from_iter((0..7).map(|k| 2f32.powi(k - 3)));
    let (a, b) = (run(&x, &y, 3, &standard).0, run(&(&x * &factors), &y, 3, &standard).0);
    assert!(near(&a, &(b * &factors.mapv(f64::from))));
}

#[test]
fn one_column_of_two_classes_is_the_problem_of_one_column() {
    let (x, y) = sample(150, 10, 2);
    let options = FitOptions { one_column: true, tolerance: 1e-9, ..sparse(2e-2, 1e-2) };
    let (w, b, report) = run(&x, &y, 2, &options);
    let column = &w.row(1) - &w.row(0);
    let (mut pair, mut bias) = (Array2::zeros((2, 10)), Array1::zeros(2));
    pair.row_mut(1).assign(&column);
    bias[1] = b[1] - b[0];
    let value = objective(&x, &y, &[1.0; 150], &pair, &bias, &options);
    assert!((value - report.objective).abs() < 1e-8 * value, "{value} {report:?}");
    assert!(column.iter().any(|w| *w == 0.0) && column.iter().any(|w| *w != 0.0), "{column}");
}

#[test]
fn a_refit_and_a_path_reach_the_optima_of_fresh_fits() {
    let (x, y) = sample(900, 30, 4);
    let features = Features::labelled(x.clone(), y.clone());
    let some = features.select(&(0..890).collect::<Vec<_>>());
    let options = sparse(3e-3, 0.0);
    let of = |head: &Head| head.training.clone().unwrap().fit;
    let old = Head::fit(&some, &options, &Cancel::new(), None).unwrap();
    let fresh = of(&Head::fit(&features, &options, &Cancel::new(), None).unwrap());
    let again = of(&old.refit(&features, &options, &Cancel::new(), None).unwrap());
    assert!((again.objective - fresh.objective).abs() <= 1e-6 * fresh.objective);
    assert!(again.passes < fresh.passes, "{again:?} {fresh:?}");

    let (train, validation) = (x.slice(s![..600, ..]), x.slice(s![600.., ..]));
    let values = [1e-1, 1e-2, 1e-3];
    let path =
        fit_path(train, &y[..600], validation, &y[600..], 4, &values, None, &options, &Cancel::new(), None).unwrap();
    for point in &path.points {
        let alone = FitOptions { l2: point.fit.l2, ..options.clone() };
        let alone = fit(train, &y[..600], 4, &alone, &Cancel::new(), None).unwrap().2;
        // Points are to choose by, and stop sooner than what is kept.
        assert!(point.fit.converged && (point.fit.objective - alone.objective).abs() <= 1e-4 * alone.objective);
        assert_eq!(point.fit.l1, 3e-3);
    }
    assert!(path.refit.gap.unwrap() <= 1e-6, "{:?}", path.refit);
}

#[test]
fn bad_input_is_named() {
    let (x, y) = sample(60, 4, 3);
    for l1 in [-1.0, f64::NAN, f64::INFINITY] {
        let error = fit(x.view(), &y, 3, &sparse(l1, 0.0), &Cancel::new(), None).map(|_| ()).unwrap_err();
        assert!(matches!(error, Error::InvalidOption { option: "l1", .. }), "{error}");
    }
    let cancel = Cancel::new();
    cancel.trigger();
    assert!(matches!(fit(x.view(), &y, 3, &sparse(1e-3, 0.0), &cancel, None), Err(Error::Cancelled)));
    // A sparse penalty has an optimum also where a hyperplane separates.
    let x = Array2::from_shape_fn((20, 2), |(row, k)| if k == 0 { row as f32 } else { 1.0 / (1.0 + row as f32) });
    let y: Vec<u32> = (0..20).map(|row| u32::from(row >= 10)).collect();
    assert!(run(&x, &y, 2, &sparse(1e-3, 0.0)).2.converged);
}
