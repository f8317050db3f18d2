//! Promises of the linear head: the optimum, the same bits, named culprits, files that are whole.
//!
//! The golden numbers are scikit-learn's, recorded by `tests/data/record_head.py`.

#![allow(clippy::unwrap_used, reason = "an unwrap in a test is an assertion")]

mod support;

use std::path::PathBuf;

use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::features::Features;
use byol_serve::head::Head;
use byol_serve::knn::{KnnOptions, knn, neighbours};
use byol_serve::path::fit_path;
use byol_serve::rows::Rows;
use byol_serve::solver::{FitOptions, Intercept, Kept, Progress, fit, fit_with};
use byol_serve::trainer::Trainer;
use ndarray::{Array1, Array2, Axis, array};
use support::Random;

fn data(name: &str) -> PathBuf {
    support::data("head").join(name)
}

/// Overlapping classes of correlated features.
fn sample(rows: usize, columns: usize, classes: usize) -> (Array2<f32>, Vec<u32>) {
    let mut random = Random(rows as u64 * 31 + columns as u64);
    let centres = Array2::from_shape_fn((classes, columns), |_| random.next());
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

/// The objective by its definition, float64.
fn objective(
    x: &Array2<f32>,
    y: &[u32],
    weights: &Array2<f64>,
    bias: &Array1<f64>,
    l2: f64,
    row_weights: &[f32],
) -> f64 {
    let (mut loss, mut total) = (0.0, 0.0);
    for ((x, &label), &weight) in x.outer_iter().zip(y).zip(row_weights) {
        let scores: Vec<f64> = (0..bias.len())
            .map(|c| bias[c] + weights.row(c).iter().zip(x).map(|(w, &x)| w * f64::from(x)).sum::<f64>())
            .collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|score| (score - top).exp()).sum();
        loss += f64::from(weight) * (sum.ln() + top - scores[label as usize]);
        total += f64::from(weight);
    }
    loss / total + 0.5 * l2 * weights.iter().map(|w| w * w).sum::<f64>()
}

/// The reference solver, a page of it: gradient descent with Nesterov's momentum in float64, restarted when it rises.
fn naive_fit(x: &Array2<f32>, y: &[u32], classes: usize, l2: f64) -> f64 {
    let (rows, columns) = x.dim();
    let x64 = x.mapv(f64::from);
    let mean = x64.mean_axis(Axis(0)).unwrap();
    let centred = &x64 - &mean;
    let largest: f64 = centred.iter().map(|v| v * v).sum::<f64>() / rows as f64;
    let step = 1.0 / (0.5 * largest + 0.5 + l2);
    let (mut w, mut b) = (Array2::<f64>::zeros((classes, columns)), Array1::<f64>::zeros(classes));
    let (mut vw, mut vb) = (w.clone(), b.clone());
    let (mut momentum, mut best) = (1.0f64, f64::INFINITY);
    for _ in 0..10_000 {
        let mut p = centred.dot(&vw.t()) + &vb;
        let mut loss = 0.0;
        for (mut p, &label) in p.outer_iter_mut().zip(y) {
            let top = p.fold(f64::NEG_INFINITY, |a, &b| a.max(b));
            let own = p[label as usize];
            p.mapv_inplace(|z| (z - top).exp());
            let sum = p.sum();
            loss += sum.ln() + top - own;
            p.mapv_inplace(|e| e / sum);
            p[label as usize] -= 1.0;
        }
        let value = loss / rows as f64 + 0.5 * l2 * vw.iter().map(|w| w * w).sum::<f64>();
        if value > best {
            momentum = 1.0;
        }
        best = best.min(value);
        let gw = p.t().dot(&centred) / rows as f64 + &vw * l2;
        let gb = p.sum_axis(Axis(0)) / rows as f64;
        let (next_w, next_b) = (&vw - &(&gw * step), &vb - &(&gb * step));
        let next = (1.0 + (1.0 + 4.0 * momentum * momentum).sqrt()) / 2.0;
        let push = (momentum - 1.0) / next;
        vw = &next_w + &((&next_w - &w) * push);
        vb = &next_b + &((&next_b - &b) * push);
        (w, b, momentum) = (next_w, next_b, next);
    }
    best
}

fn quick(l2: f64) -> FitOptions {
    FitOptions { l2, threads: 1, ..FitOptions::default() }
}

#[test]
fn the_optimum_is_scikit_learns_and_so_is_every_prediction() {
    let cases: serde_json::Value = serde_json::from_slice(&std::fs::read(data("cases.json")).unwrap()).unwrap();
    for (name, case) in cases.as_object().unwrap() {
        let mut features = Features::load(data(&format!("{name}.x.npy"))).unwrap();
        features.labels = Some(Features::load_labels(data(&format!("{name}.y.npy"))).unwrap());
        let class_weights: Option<Vec<f32>> =
            case["class_weights"].as_array().map(|w| w.iter().map(|w| w.as_f64().unwrap() as f32).collect());
        let options = FitOptions {
            standardize: case["standardize"].as_bool().unwrap(),
            class_weights,
            ..quick(case["l2"].as_f64().unwrap())
        };
        let head = Head::fit(&features, &options, &Cancel::new(), None).unwrap();
        let report = &head.training.as_ref().unwrap().fit;
        let expected = case["objective"].as_f64().unwrap();
        let distance = (report.objective - expected) / expected;
        assert!(report.converged && report.gap.unwrap() <= 1e-6, "{name}: {report:?}");
        assert!(distance.abs() <= 1e-6, "{name}: {} is {distance:e} from {expected}", report.objective);
        assert!(
            distance <= report.gap.unwrap() + 1e-7,
            "{name}: the certificate {report:?} does not hold: {distance:e}"
        );
        let recorded: Vec<usize> =
            case["predictions"].as_array().unwrap().iter().map(|p| p.as_u64().unwrap() as usize).collect();
        for (row, (top, class)) in head.top_k(features.values.view(), 2).unwrap().iter().zip(recorded).enumerate() {
            // Two optima within 1e-6 of each other may differ where two classes are equally probable.
            let tied = top[0].probability - top[1].probability < 2e-3;
            assert!(top[0].label == class || tied && top[1].label == class, "{name}, row {row}: {top:?}, not {class}");
        }
    }
}

#[test]
fn the_objective_is_the_naive_solvers_and_the_definitions() {
    let (x, y) = sample(150, 6, 4);
    for l2 in [1e-1, 1e-2, 1e-3] {
        let (weights, bias, report) = fit(x.view(), &y, 4, &quick(l2), &Cancel::new(), None).unwrap();
        let naive = naive_fit(&x, &y, 4, l2);
        assert!((report.objective - naive).abs() <= 2e-6 * naive, "l2 {l2}: {} and {naive}", report.objective);
        let defined = objective(&x, &y, &weights, &bias, l2, &vec![1.0; 150]);
        assert!((report.objective - defined).abs() <= 1e-7 * defined);
    }
}

#[test]
fn many_classes_have_the_naive_solvers_objective_too() {
    let (x, y) = sample(300, 12, 30);
    for l2 in [1e-1, 1e-2] {
        let (weights, bias, report) = fit(x.view(), &y, 30, &quick(l2), &Cancel::new(), None).unwrap();
        let naive = naive_fit(&x, &y, 30, l2);
        assert!(report.converged, "{report:?}");
        assert!((report.objective - naive).abs() <= 2e-6 * naive, "l2 {l2}: {} and {naive}", report.objective);
        let defined = objective(&x, &y, &weights, &bias, l2, &vec![1.0; 300]);
        assert!((report.objective - defined).abs() <= 1e-7 * defined);
    }
}

#[test]
fn the_gradient_at_the_optimum_is_zero_in_every_direction_measured_numerically() {
    let (x, y) = sample(200, 9, 3);
    let options = FitOptions { tolerance: 1e-10, ..quick(1e-2) };
    let (weights, bias, _) = fit(x.view(), &y, 3, &options, &Cancel::new(), None).unwrap();
    let ones = vec![1.0; 200];
    for class in 0..3 {
        for column in 0..10 {
            let shifted = |h: f64| {
                let (mut weights, mut bias) = (weights.clone(), bias.clone());
                match column {
                    9 => bias[class] += h,
                    column => weights[[class, column]] += h,
                }
                objective(&x, &y, &weights, &bias, 1e-2, &ones)
            };
            let slope = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
            assert!(slope.abs() < 2e-5, "class {class}, column {column}: slope {slope:e}");
        }
    }
}

#[test]
fn threads_change_nothing_not_even_a_bit() {
    for (rows, columns, classes) in [(9000, 50, 10), (2500, 70, 40)] {
        let (x, y) = sample(rows, columns, classes);
        let run = |threads| {
            let options = FitOptions { threads, ..quick(1e-4) };
            fit(x.view(), &y, classes, &options, &Cancel::new(), None).unwrap()
        };
        let (one, two, three) = (run(1), run(2), run(3));
        assert_eq!((&one.0, &one.1), (&two.0, &two.1));
        assert_eq!((&one.0, &one.1), (&three.0, &three.1));
    }
}

/// Many classes, and columns of which few vary most.
fn steep() -> (Array2<f32>, Vec<u32>) {
    let (mut x, y) = sample(600, 128, 90);
    for (k, mut column) in x.columns_mut().into_iter().enumerate() {
        column *= 12.0 / (1.0 + k as f32);
    }
    (x, y)
}

#[test]
fn many_classes_reach_the_same_optimum_through_fewer_columns_and_with_any_number_of_threads() {
    let (x, y) = steep();
    let ones: Vec<f32> = (0..600).map(|row| 0.5 + (row % 3) as f32).collect();
    let fixed: Vec<f64> = (0..90).map(|class| f64::from(class % 5) * 0.1).collect();
    let weighted = FitOptions { sample_weights: Some(ones), ..quick(1e-3) };
    let standard = FitOptions { standardize: true, ..quick(1e-5) };
    let held = FitOptions { intercept: Intercept::Fixed(fixed), ..quick(1e-4) };
    let cases =
        [("plain", quick(1e-3)), ("weak", quick(1e-6)), ("weighted", weighted), ("standard", standard), ("held", held)];
    for (name, options) in cases {
        let run = |start, threads| {
            let options = FitOptions { start, threads, ..options.clone() };
            // Points before the first iteration are those of the levels, and where these led.
            let (mut levels, mut first) = (0, f64::INFINITY);
            let mut progress = |now: &Progress| {
                if now.iteration == 0 {
                    (levels, first) = (levels + 1, now.objective);
                }
            };
            let found = fit(x.view(), &y, 90, &options, &Cancel::new(), Some(&mut progress)).unwrap();
            (found, levels - 1, first)
        };
        let (found, levels, first) = run(None, 1);
        assert!(levels > 3, "{name}: {levels} steps before the first");
        assert!(found.2.converged, "{name}: {:?}", found.2);
        let nothing = Some((Array2::zeros((90, 128)), Array1::zeros(90)));
        let (plain, none, from_nothing) = run(nothing, 1);
        assert_eq!(none, 0, "{name}");
        assert!(first < from_nothing, "{name}: {first} is no better than {from_nothing}");
        let (a, b) = (found.2.objective, plain.2.objective);
        assert!((a - b).abs() <= 1.1e-6 * b, "{name}: {a} through levels, {b} without");
        for threads in [2, 3] {
            let (again, ..) = run(None, threads);
            assert_eq!((&found.0, &found.1), (&again.0, &again.1), "{name}, {threads} threads");
        }
    }
}

#[test]
fn a_fit_of_many_classes_that_is_stopped_on_the_way_reports_where_it_is() {
    let (x, y) = steep();
    for l2 in [1e-3, 1e-5] {
        let whole = fit(x.view(), &y, 90, &quick(l2), &Cancel::new(), None).unwrap().2;
        for max_iterations in [0, 1, 2, 4] {
            let options = FitOptions { max_iterations, ..quick(l2) };
            let (weights, bias, report) = fit(x.view(), &y, 90, &options, &Cancel::new(), None).unwrap();
            let defined = objective(&x, &y, &weights, &bias, l2, &vec![1.0; 600]);
            let name = format!("l2 {l2}, {max_iterations} steps: {report:?}, {defined}");
            assert!(!report.converged && (report.objective - defined).abs() <= 1e-6 * defined, "{name}");
            let bound = report.objective / (1.0 + report.gap.unwrap());
            assert!(bound <= whole.objective * (1.0 + 1e-9), "{name}");
        }
    }
}

#[test]
fn permuted_rows_and_classes_and_duplicated_rows_give_the_same_classifier() {
    let (x, y) = sample(120, 7, 3);
    let options = FitOptions { tolerance: 1e-9, ..quick(1e-2) };
    let run = |x: &Array2<f32>, y: &[u32], options: &FitOptions| {
        fit(x.view(), y, 3, options, &Cancel::new(), None).unwrap().0
    };
    let near = |a: &Array2<f64>, b: &Array2<f64>| (a - b).iter().all(|d| d.abs() < 2e-4);
    let base = run(&x, &y, &options);

    let order: Vec<usize> = (0..120).map(|i| i * 77 % 120).collect();
    let permuted_y: Vec<u32> = order.iter().map(|&i| y[i]).collect();
    assert!(near(&base, &run(&x.select(Axis(0), &order), &permuted_y, &options)));

    let turned: Vec<u32> = y.iter().map(|label| (label + 1) % 3).collect();
    let turned = run(&x, &turned, &options).select(Axis(0), &[1, 2, 0]);
    assert!(near(&base, &turned));

    let twice: Vec<usize> = (0..120).chain(0..40).collect();
    let twice_y: Vec<u32> = twice.iter().map(|&i| y[i]).collect();
    let duplicated = run(&x.select(Axis(0), &twice), &twice_y, &options);
    let weights = (0..120).map(|i| if i < 40 { 2.0 } else { 1.0 }).collect();
    assert!(near(&duplicated, &run(&x, &y, &FitOptions { sample_weights: Some(weights), ..options.clone() })));

    // Features times 10, penalty times 100: the same classifier with weights a tenth.
    let scaled = run(&x.mapv(|v| v * 10.0), &y, &FitOptions { l2: 1.0, ..options.clone() }) * 10.0;
    assert!(near(&base, &scaled));

    // Standardised: columns scaled each by its own factor change nothing at all.
    let standard = FitOptions { standardize: true, ..options };
    let factors = Array1::from_iter((0..7).map(|k| 2f32.powi(k - 3)));
    let scaled = run(&(&x * &factors), &y, &standard) * factors.mapv(f64::from);
    assert!(near(&run(&x, &y, &standard), &scaled));
}

#[test]
fn a_refit_reaches_the_optimum_of_a_fresh_fit_also_with_a_class_more_or_less() {
    let (x, y) = sample(6000, 12, 5);
    let features =
        Features { classes: Some(["a", "b", "c", "d", "e"].map(String::from).into()), ..Features::labelled(x, y) };
    let of = |head: &Head| head.training.clone().unwrap().fit;
    let some = features.select(&(0..5990).collect::<Vec<_>>());
    let old = Head::fit(&some, &quick(1e-2), &Cancel::new(), None).unwrap();
    let fresh = of(&Head::fit(&features, &quick(1e-2), &Cancel::new(), None).unwrap());
    let again = of(&old.refit(&features, &quick(1e-2), &Cancel::new(), None).unwrap());
    assert!((again.objective - fresh.objective).abs() <= 1e-6 * fresh.objective);
    // Passes no longer tell a refit from a fresh fit of so few columns, whose start is solved before the first pass: the next
    // test has more, and `cargo bench --bench head_life` has the time.
    assert!(again.passes + again.products <= fresh.passes + fresh.products, "{again:?} {fresh:?}");

    // Rows removed, and rows relabelled.
    let fewer = features.select(&(0..5900).collect::<Vec<_>>());
    let mut relabelled = features.clone();
    relabelled.labels.as_mut().unwrap().iter_mut().step_by(200).for_each(|label| *label = (*label + 1) % 5);
    for changed in [&fewer, &relabelled] {
        let fresh = of(&Head::fit(changed, &quick(1e-2), &Cancel::new(), None).unwrap());
        let again = of(&old.refit(changed, &quick(1e-2), &Cancel::new(), None).unwrap());
        assert!(again.converged && (again.objective - fresh.objective).abs() <= 1e-6 * fresh.objective);
    }

    let four: Vec<usize> = (0..6000).filter(|i| i % 5 != 4).collect();
    let mut without = features.select(&four);
    without.classes.as_mut().unwrap().pop();
    let small = Head::fit(&without, &quick(1e-2), &Cancel::new(), None).unwrap();
    let grown = of(&small.refit(&features, &quick(1e-2), &Cancel::new(), None).unwrap());
    assert!((grown.objective - fresh.objective).abs() <= 1e-6 * fresh.objective);
    let shrunk = of(&old.refit(&without, &quick(1e-2), &Cancel::new(), None).unwrap());
    let expected = of(&small).objective;
    assert!((shrunk.objective - expected).abs() <= 1e-6 * expected);
}

#[test]
fn a_class_of_one_row_is_fitted_whether_the_sample_of_a_start_has_it_or_not() {
    // Of 30,000 rows a start looks at some thousands.
    for rare in [17_001, 17_002, 17_003] {
        let (mut x, mut y) = sample(30_000, 40, 9);
        y[rare] = 9;
        x.row_mut(rare).fill(3.0);
        let head = Head::fit(&Features::labelled(x, y), &quick(1e-2), &Cancel::new(), None).unwrap();
        let fit = head.training.clone().unwrap().fit;
        assert!(fit.converged && fit.objective.is_finite(), "{rare}: {fit:?}");
        assert!(head.bias.sum().abs() < 1e-4, "{rare}: {}", head.bias);
    }
}

#[test]
fn a_trainer_finds_its_way_back_sooner_than_a_fresh_fit() {
    // More columns than the start of a fresh fit solves: something is left to do.
    let (x, y) = sample(3000, 300, 5);
    let trainer = Trainer::new(300, None).unwrap();
    (0..5).for_each(|class| _ = trainer.add_class(&class.to_string()).unwrap());
    let ids = trainer.add(x.view(), &y).unwrap();
    let cost = |head: &Head| {
        let fit = head.training.clone().unwrap().fit;
        assert!(fit.converged);
        fit.passes + fit.products
    };
    let run = |penalty| {
        let fresh = cost(&trainer.fit(&quick(penalty), &Cancel::new(), None).unwrap());
        (fresh, cost(&trainer.refit(&quick(penalty), &Cancel::new(), None).unwrap()))
    };
    // What a fresh fit does on a sample before its first pass is not counted: where little is left to do after that, as with
    // the stronger penalty, it may take no more passes.
    let weak = run(1e-3);
    let strong = run(1e-2);
    assert!(strong.1 == 1 && weak.1 <= 2, "nothing new: {weak:?} {strong:?}");
    trainer.remove(&(ids.start + 2990..ids.end).collect::<Vec<_>>()).unwrap();
    let fewer_strong = cost(&trainer.refit(&quick(1e-2), &Cancel::new(), None).unwrap());
    trainer.refit(&quick(1e-3), &Cancel::new(), None).unwrap();
    trainer.remove(&(ids.start + 2980..ids.start + 2990).collect::<Vec<_>>()).unwrap();
    let fewer_weak = cost(&trainer.refit(&quick(1e-3), &Cancel::new(), None).unwrap());
    assert!(fewer_strong <= strong.0 && fewer_weak < weak.0, "{fewer_strong} {strong:?} {fewer_weak} {weak:?}");
}

#[test]
fn what_the_last_fit_left_makes_a_refit_short_and_never_wrong() {
    let (x, y) = sample(1100, 80, 5);
    let other = sample(1100, 80, 5).0.mapv(|v| 1.0 - v);
    let options = quick(1e-2);
    let fit_rows = |x: &Array2<f32>, y: &[u32], options: &FitOptions, kept: &mut Kept| {
        let rows = Rows::F32(x.as_slice().unwrap());
        fit_with(rows, 80, y, 5, options, &Cancel::new(), None, kept).unwrap()
    };
    let select = |x: &Array2<f32>, y: &[u32], rows: &[usize]| {
        (x.select(Axis(0), rows), rows.iter().map(|&row| y[row]).collect::<Vec<_>>())
    };
    let one_more = select(&x, &y, &(0..1001).collect::<Vec<_>>());
    let some_more = select(&x, &y, &(0..1050).collect::<Vec<_>>());
    let many_more = (x.clone(), y.clone());
    let mut far_off = one_more.clone();
    far_off.0.row_mut(1000).mapv_inplace(|v| 1e3 * v);
    let shifted = select(&x, &y, &(30..1040).collect::<Vec<_>>());
    let mut relabelled = some_more.clone();
    relabelled.1.iter_mut().step_by(50).for_each(|label| *label = (*label + 1) % 5);
    let replaced = select(&other, &y, &(0..1001).collect::<Vec<_>>());
    let all = [
        ("one more", &one_more),
        ("some more", &some_more),
        ("many more", &many_more),
        ("far off", &far_off),
        ("shifted", &shifted),
        ("relabelled", &relabelled),
        ("replaced", &replaced),
    ];
    for (name, (x_new, y_new)) in all {
        let mut kept = Kept::default();
        let first = select(&x, &y, &(0..1000).collect::<Vec<_>>());
        let (weights, bias, _) = fit_rows(&first.0, &first.1, &options, &mut kept);
        let again = FitOptions { start: Some((weights, bias)), ..options.clone() };
        let refit = fit_rows(x_new, y_new, &again, &mut kept).2;
        let fresh = fit_rows(x_new, y_new, &options, &mut Kept::default()).2;
        assert!(refit.converged && refit.gap.unwrap() <= 1e-6, "{name}: {refit:?}");
        assert!((refit.objective - fresh.objective).abs() <= 1e-6 * fresh.objective, "{name}: {refit:?} {fresh:?}");
        if name == "one more" {
            // No pass before the first step.
            assert!(refit.passes <= 2 && refit.iterations >= 1, "{refit:?}");
        }
    }
}

#[test]
fn a_row_far_out_does_a_small_fit_no_harm() {
    let (x, y) = sample(900, 120, 10);
    for factor in [1.0, 30.0, 1e3, 1e5] {
        let mut x = x.clone();
        x.row_mut(17).mapv_inplace(|v| factor * v);
        for l2 in [1e-1, 1e-3] {
            let report = fit(x.view(), &y, 10, &quick(l2), &Cancel::new(), None).unwrap().2;
            assert!(report.converged && report.gap.unwrap() <= 1e-6, "{factor} {l2}: {report:?}");
        }
    }
}

#[test]
fn a_path_finds_the_penalty_that_separate_fits_find() {
    let (x, y) = sample(360, 40, 3);
    let (train, validation) = (x.slice(ndarray::s![..240, ..]), x.slice(ndarray::s![240.., ..]));
    let values = [1e-4, 1.0, 1e-2, 1e-1];
    let path =
        fit_path(train, &y[..240], validation, &y[240..], 3, &values, None, &quick(0.0), &Cancel::new(), None).unwrap();
    let tried: Vec<f64> = path.points.iter().map(|point| point.fit.l2).collect();
    assert_eq!(tried, [1.0, 1e-1, 1e-2, 1e-4]);
    for point in &path.points {
        let alone = fit(train, &y[..240], 3, &quick(point.fit.l2), &Cancel::new(), None).unwrap().2;
        // Points are to choose by, and stop sooner than what is kept.
        assert!(point.fit.converged && (point.fit.objective - alone.objective).abs() <= 1e-4 * alone.objective);
    }
    let kept = fit(x.view(), &y, 3, &quick(path.refit.l2), &Cancel::new(), None).unwrap().2;
    assert!(path.refit.gap.unwrap() <= 1e-6 && (path.refit.objective - kept.objective).abs() <= 1e-6 * kept.objective);
    assert!(path.points.iter().all(|point| point.accuracy <= path.points[path.best].accuracy));
    assert_eq!(path.refit.l2, path.points[path.best].fit.l2);
}

#[test]
fn bad_input_is_named() {
    let (x, y) = sample(60, 4, 3);
    let try_fit = |x: &Array2<f32>, y: &[u32], options: &FitOptions| {
        fit(x.view(), y, 3, options, &Cancel::new(), None).map(|_| ()).unwrap_err()
    };
    let mut bad = x.clone();
    bad[[17, 2]] = f32::NAN;
    let error = try_fit(&bad, &y, &quick(1e-2));
    assert!(matches!(error, Error::NonFinite { row: 17, column: 2, .. }), "{error}");
    bad[[17, 2]] = f32::NEG_INFINITY;
    assert!(matches!(try_fit(&bad, &y, &quick(1e-2)), Error::NonFinite { row: 17, column: 2, .. }));

    assert!(matches!(try_fit(&x, &[0; 60], &quick(1e-2)), Error::OneClass { examples: 60, .. }));
    let only: Vec<u32> = y.iter().map(|label| label % 2).collect();
    assert!(matches!(try_fit(&x, &only, &quick(1e-2)), Error::EmptyClass { label } if label == "2"));
    let mut outside = y.clone();
    outside[5] = 3;
    assert!(matches!(try_fit(&x, &outside, &quick(1e-2)), Error::LabelOutside { row: 5, label: 3, classes: 3 }));
    assert!(matches!(try_fit(&x, &y[1..], &quick(1e-2)), Error::LabelMismatch { features: 60, labels: 59 }));
    assert!(matches!(try_fit(&Array2::zeros((0, 4)), &[], &quick(1e-2)), Error::EmptyData { .. }));
    assert!(matches!(try_fit(&Array2::zeros((60, 0)), &y, &quick(1e-2)), Error::EmptyData { .. }));
    let constant = Array2::from_elem((60, 4), 3.5);
    assert!(matches!(try_fit(&constant, &y, &quick(1e-2)), Error::ConstantFeatures { rows: 60, columns: 4 }));
    for l2 in [-1.0, f64::NAN] {
        assert!(matches!(try_fit(&x, &y, &quick(l2)), Error::InvalidOption { option: "l2", .. }));
    }
    let weights = FitOptions { sample_weights: Some(vec![-1.0; 60]), ..quick(1e-2) };
    assert!(matches!(try_fit(&x, &y, &weights), Error::InvalidOption { option: "sample_weights", .. }));
    let weights = FitOptions { class_weights: Some(vec![1.0; 2]), ..quick(1e-2) };
    assert!(matches!(try_fit(&x, &y, &weights), Error::DimensionMismatch { expected: 3, found: 2, .. }));

    let cancel = Cancel::new();
    cancel.trigger();
    assert!(matches!(fit(x.view(), &y, 3, &quick(1e-2), &cancel, None), Err(Error::Cancelled)));
}

#[test]
fn a_bad_row_with_a_name_is_called_by_it() {
    let (mut x, y) = sample(30, 4, 3);
    x[[4, 1]] = f32::INFINITY;
    let names = (0..30).map(|i| format!("pictures/{i}.png")).collect();
    let features = Features { names: Some(names), ..Features::labelled(x, y) };
    let error = Head::fit(&features, &quick(1e-2), &Cancel::new(), None).unwrap_err();
    assert!(error.to_string().contains("pictures/4.png"), "{error}");
}

#[test]
fn no_penalty_on_separable_data_is_a_clear_statement_and_on_others_an_optimum() {
    let x = array![[0f32, 1.], [0.2, 0.8], [1., 0.], [0.9, 0.3]];
    let error = fit(x.view(), &[0, 0, 1, 1], 2, &quick(0.0), &Cancel::new(), None).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Separable { .. }) && error.to_string().contains("l2"), "{error}");

    let (x, y) = sample(300, 4, 3);
    let report = fit(x.view(), &y, 3, &quick(0.0), &Cancel::new(), None).unwrap().2;
    assert!(report.converged && report.gap.is_none(), "{report:?}");
    let naive = naive_fit(&x, &y, 3, 0.0);
    assert!((report.objective - naive).abs() <= 1e-6 * naive, "{} {naive}", report.objective);
}

#[test]
fn a_constant_column_gets_no_weight_and_does_no_harm() {
    let (mut x, y) = sample(90, 5, 3);
    x.column_mut(3).fill(1000.0);
    for standardize in [false, true] {
        let options = FitOptions { standardize, ..quick(1e-2) };
        let (weights, _, report) = fit(x.view(), &y, 3, &options, &Cancel::new(), None).unwrap();
        assert!(report.converged, "{report:?}");
        assert!(weights.column(3).iter().all(|w| w.abs() < 1e-6), "{weights}");
    }
}

fn small_head() -> (Head, Features) {
    let (x, y) = sample(90, 5, 3);
    let mut features = Features::labelled(x, y);
    features.classes = Some(["shirt", "coat", "bag"].map(String::from).into());
    features.encoder = Some("ab".repeat(32));
    (Head::fit(&features, &quick(1e-2), &Cancel::new(), None).unwrap(), features)
}

#[test]
fn a_saved_head_comes_back_equal_and_as_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("head.safetensors");
    let (mut head, features) = small_head();
    head.save(&path).unwrap();
    assert_eq!(small_head().0.to_bytes().unwrap(), head.to_bytes().unwrap(), "equal fits, other files");
    let back = Head::load(&path).unwrap();
    // The only thing that a file does not keep.
    head.training.as_mut().unwrap().fit.seconds = 0.0;
    assert_eq!(back.to_bytes().unwrap(), head.to_bytes().unwrap());
    assert_eq!((&back.weights, &back.labels, &back.training), (&head.weights, &head.labels, &head.training));
    assert_eq!(back.evaluate(&features).unwrap(), head.evaluate(&features).unwrap());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "something beside the head was left");

    let error = back.check_encoder(&"cd".repeat(32)).unwrap_err();
    assert!(matches!(&error, Error::HeadForAnotherEncoder { path: named, .. } if *named == path), "{error}");
    back.check_encoder(&"AB".repeat(32)).unwrap();
}

#[test]
fn a_head_cut_at_any_length_is_an_error_that_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.safetensors");
    let bytes = small_head().0.to_bytes().unwrap();
    for length in 0..bytes.len() {
        assert!(Head::from_bytes(&bytes[..length]).is_err(), "{length} of {} bytes were taken", bytes.len());
    }
    std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
    let error = Head::load(&path).unwrap_err();
    assert!(error.to_string().contains("cut.safetensors"), "{error}");
}

#[test]
fn foreign_and_newer_head_files_are_refused_by_what_they_are() {
    let (head, features) = small_head();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("features.safetensors");
    features.save(&path).unwrap();
    let error = Head::load(&path).unwrap_err();
    assert!(error.to_string().contains("holds features"), "{error}");
    assert!(matches!(Head::load(folder.path().join("none")), Err(Error::Io { .. })));

    let text = String::from_utf8_lossy(&head.to_bytes().unwrap()).into_owned();
    assert!(text.contains(r#"\"format\":1"#));
    let newer: Vec<u8> = {
        let bytes = head.to_bytes().unwrap();
        let at = bytes.windows(12).position(|w| w == br#"\"format\":1"#).unwrap();
        let mut bytes = bytes;
        bytes[at + 11] = b'9';
        bytes
    };
    assert!(matches!(Head::from_bytes(&newer), Err(Error::NewerFormat { found: 9, supported: 1, .. })));
    let error = head.save(folder.path().join("no/such/folder.safetensors")).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
}

#[test]
fn features_come_back_from_both_kinds_of_file() {
    let folder = tempfile::tempdir().unwrap();
    let (_, mut features) = small_head();
    features.names = Some((0..90).map(|i| format!("{i}.png")).collect());
    let path = folder.path().join("f.safetensors");
    features.save(&path).unwrap();
    assert_eq!(Features::load(&path).unwrap(), features);
    let bytes = std::fs::read(&path).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        std::fs::write(&path, &bytes[..length]).unwrap();
        assert!(matches!(Features::load(&path), Err(Error::Corrupt { .. })), "{length}");
    }

    let (values, labels) = (folder.path().join("x.npy"), folder.path().join("y.npy"));
    features.save(&values).unwrap();
    features.save_labels(&labels).unwrap();
    assert_eq!(Features::load(&values).unwrap().values, features.values);
    assert_eq!(&Features::load_labels(&labels).unwrap(), features.labels.as_ref().unwrap());
    assert!(matches!(Features::load_labels(&values), Err(Error::Corrupt { .. })));
    assert!(Features::load(folder.path().join("x.txt")).is_err());
}

#[test]
fn predictions_agree_with_each_other() {
    let (head, features) = small_head();
    let probabilities = head.probabilities(features.values.view()).unwrap();
    assert!(probabilities.outer_iter().all(|row| (row.sum() - 1.0).abs() < 1e-5));
    let top = head.top_k(features.values.view(), 5).unwrap();
    let best = head.predict(features.values.view()).unwrap();
    for (row, (top, best)) in top.iter().zip(&best).enumerate() {
        assert_eq!((top.len(), top[0]), (3, *best));
        assert_eq!(probabilities[[row, best.label]], best.probability);
        assert!(top.windows(2).all(|pair| pair[0].probability >= pair[1].probability));
    }
    let evaluation = head.evaluate(&features).unwrap();
    let right = best.iter().zip(features.labels().unwrap()).filter(|(p, y)| p.label == **y as usize).count();
    assert_eq!(evaluation.top1, right as f64 / 90.0);
    assert!(evaluation.interval.0 < evaluation.top1 && evaluation.top1 < evaluation.interval.1);
    let json: serde_json::Value = serde_json::to_value(&evaluation).unwrap();
    assert_eq!(json["confusion"].as_array().unwrap().len(), 3);
    assert!(matches!(
        head.logits(array![[1f32, 2.]].view()),
        Err(Error::DimensionMismatch { expected: 5, found: 2, .. })
    ));
}

#[test]
fn an_imprinted_head_knows_its_classes_at_once() {
    let (_, features) = small_head();
    let head = Head::imprint(&features, 20.0).unwrap();
    assert!(head.evaluate(&features).unwrap().top1 > 0.5);
}

#[test]
fn neighbours_are_those_of_the_obvious_loop() {
    let (train, labels) = sample(500, 20, 4);
    let (test, _) = sample(37, 20, 4);
    let (indices, similarities) = neighbours(train.view(), test.view(), 9).unwrap();
    let unit = |row: ndarray::ArrayView1<f32>| {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        row.mapv(|v| f64::from(v) / length)
    };
    for (row, query) in test.outer_iter().enumerate() {
        let cosine = |index: usize| unit(train.row(index)).dot(&unit(query));
        let mut all: Vec<usize> = (0..500).collect();
        all.sort_by(|a, b| cosine(*b).total_cmp(&cosine(*a)));
        for place in 0..9 {
            let (found, similarity) = (indices[[row, place]] as usize, f64::from(similarities[[row, place]]));
            assert!((similarity - cosine(all[place])).abs() < 1e-5 && (similarity - cosine(found)).abs() < 1e-5);
        }
    }
    let own = knn(train.view(), &labels, train.view(), &KnnOptions { k: 1, temperature: None }).unwrap();
    assert_eq!(own, labels);
}
