//! Sparse heads: the L1 penalty and the elastic net, to a certified gap like [`crate::newton`]'s.
//!
//! To the loss of [`crate::solver`] and its `l2/2 |W|^2` comes `l1 |W|_1`, the sum of absolute weights, which makes most
//! of them exactly 0. The method is proximal Newton's over a working set: a pass over all rows finds value, gradient and
//! bound; the weights that are not 0 and those that should not stay it get a quadratic model
//! ([`crate::working_set`]); its minimum is the step, shortened until the objective falls. Every other weight is 0 and
//! costs nothing but the pass. The way there leads over larger penalties, each solved roughly: so working sets grow from
//! below, and never hold many more weights than the end has.
//!
//! The certificate: probabilities with the labels' class totals are feasible in the dual problem once no entry of their
//! gradient exceeds `l1` (with `l2` above 0, what exceeds it costs its square). The point's own probabilities nearly are;
//! they are mixed with constant ones until the totals are right, and with the labels until the entries are. Mixing can
//! only raise the entropy's mean above the mean of the entropies, so what is computed is below the dual value.
//!
//! Two classes are one problem whether they are one column or two: the optimum of two columns is half of it each way.

use std::time::Instant;

use crate::cancel::Cancel;
use crate::curvature::Active;
use crate::error::{Error, Result};
use crate::newton::Solution;
use crate::pass::Pass;
use crate::problem::{Problem, dot};
use crate::solver::{FitOptions, FitReport, Progress};
use crate::working_set::{MOST, Member, Model, subgradient};

/// Tries to find a step that lowers the objective.
const TRIES: usize = 20;
/// Steps in float64 after which a fit ends that no longer comes nearer.
const STALLED: usize = 30;
/// Weights of the first working set; later ones are twice what is not 0.
const FIRST: usize = 256;
/// Rows of the first models; more where steps tell that these do not speak for all.
const FIRST_ROWS: usize = 16_384;
/// How much smaller each penalty on the way is, and the violation, as a share of it, from which on the next is due.
const SMALLER: f64 = 0.3;
const DUE: f64 = 0.3;

/// Penalties on one number of the search: for two classes it stands for two weights.
#[derive(Clone, Copy)]
struct Penalty {
    l1: f64,
    l2: f64,
}

/// A point, and what a pass said about it.
struct Point {
    /// Class after class (one for two classes), the bias last in each.
    u: Vec<f64>,
    /// Of the loss alone.
    gradient: Vec<f64>,
    loss: f64,
    /// Sums of absolute weights and of squares.
    absolute: f64,
    square: f64,
    /// What this point proves the optimum to be at least.
    bound: f64,
    spread: f64,
}

impl Point {
    /// The objective, with these penalties.
    fn value(&self, l1: f64, l2: f64) -> f64 {
        self.loss + l1 * self.absolute + 0.5 * l2 * self.square
    }
}

/// Checks a sparse penalty.
///
/// # Errors
/// [`Error::InvalidOption`].
pub fn check_l1(l1: f64) -> Result<()> {
    match l1.is_finite() && l1 >= 0.0 {
        true => Ok(()),
        false => {
            Err(Error::InvalidOption { option: "l1", value: l1.to_string(), must: "it must be a number of at least 0" })
        }
    }
}

/// The problem as the search sees it.
struct Search<'a, 'b> {
    /// The penalty on the way to the one asked for: the largest first, so that working sets stay small.
    l1: f64,
    problem: &'a Problem<'b>,
    /// Classes of the search: one for two.
    classes: usize,
    /// What is asked for.
    penalty: Penalty,
    /// Length of a class's part.
    step: usize,
}

impl Problem<'_> {
    /// As [`Problem::solve`], with `l1` above 0.
    ///
    /// # Errors
    /// [`Error::InvalidOption`], [`Error::Cancelled`], [`Error::Deadline`].
    pub fn solve_sparse(
        &self,
        options: &FitOptions,
        start: Option<Vec<f64>>,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
        began: Instant,
    ) -> Result<Solution> {
        self.solve_within(MOST, options, start, cancel, progress, began)
    }

    /// With working sets of at most so many weights.
    fn solve_within(
        &self,
        most: usize,
        options: &FitOptions,
        start: Option<Vec<f64>>,
        cancel: &Cancel,
        mut progress: Option<&mut dyn FnMut(&Progress)>,
        began: Instant,
    ) -> Result<Solution> {
        let l2 = self.penalty(options.l2);
        let two = self.classes == 2;
        let (classes, times) = if two { (1, 2.0) } else { (self.classes, 1.0) };
        let penalty = Penalty { l1: times * options.l1, l2: times * l2 };
        let mut search = Search { problem: self, classes, penalty, step: self.columns + 1, l1: penalty.l1 };
        let mut pass = Pass::new(&self.data(), self.parallel);
        let start = start.map_or_else(|| self.prior(), |start| self.thinned(start));
        let mut exact = false;
        let mut point = search.look(search.narrowed(&start), exact, &mut pass, cancel)?;
        let worst = search.working_set(&point, most).1;
        search.l1 = (SMALLER * (worst + penalty.l1)).max(penalty.l1);
        let (mut bound, mut passes) = (point.bound, 1);
        let (mut iterations, mut rows, mut coarse) = (0, FIRST_ROWS, 1e-2);
        let (mut last, mut last_size, mut least, mut stalled) = (f64::INFINITY, 0, f64::INFINITY, 0);
        let gap = |point: &Point, bound: f64| match bound > 0.0 {
            true => (point.value(penalty.l1, penalty.l2) - bound).max(0.0) / bound,
            false => f64::INFINITY,
        };
        let converged = loop {
            let gap = gap(&point, bound);
            if let Some(progress) = &mut progress {
                let gradient_norm = dot(&point.gradient, &point.gradient).sqrt();
                let seconds = began.elapsed().as_secs_f64();
                let objective = point.value(penalty.l1, penalty.l2);
                progress(&Progress { iteration: iterations, objective, gradient_norm, gap, seconds });
            }
            if gap <= options.tolerance || iterations >= options.max_iterations {
                break gap <= options.tolerance;
            }
            let (mut members, mut violation, mut whole) = search.working_set(&point, most);
            while search.l1 > penalty.l1 && violation < DUE * search.l1 {
                search.l1 = (SMALLER * search.l1).max(penalty.l1);
                (members, violation, whole) = search.working_set(&point, most);
                (last, last_size) = (f64::INFINITY, 0);
            }
            let here = point.value(search.l1, penalty.l2);
            // The objective's digits end before the certificate's do; so what must fall on is the violation.
            if exact {
                stalled = if violation < 0.9 * least { 0 } else { stalled + 1 };
                least = least.min(violation);
                if stalled > STALLED {
                    break false;
                }
            }
            // The same weights once more, and little gained: the model was made from too few rows or classes.
            if members.len() <= last_size && violation > 0.25 * last {
                (rows, coarse) = (rows.saturating_mul(4), f64::max(0.1 * coarse, 1e-6));
            }
            // No more exactly than the step before suggests that this one is worth.
            let forcing = if whole { (0.1 * violation / last).clamp(1e-3, 0.1) } else { 0.1 };
            (last, last_size) = (violation, if whole { members.len() } else { 0 });
            let active: Vec<&Active> = pass.active().collect();
            let one = (classes, two);
            let model = Model::new(self, &active, &members, one.0, one.1, penalty.l2, rows, cancel)?;
            pass.keep_from((coarse * point.spread).clamp(1e-7, 1e-3) as f32);
            let at = |m: &Member| m.0 as usize * search.step + m.1 as usize;
            let u: Vec<f64> = members.iter().map(|m| point.u[at(m)]).collect();
            let l1: Vec<f64> = members.iter().map(|m| search.l1_of(at(m))).collect();
            let slope: Vec<f64> = members.iter().map(|m| search.slope(&point, at(m))).collect();
            let d = self.inside(|| model.minimise(&slope, &u, &l1, forcing, cancel))?;

            let bent = |t: f64| -> f64 {
                let change = |(((u, d), l1), slope): (((&f64, &f64), &f64), &f64)| {
                    let moved = if t == 1.0 { u + d } else { u + t * d };
                    t * d * slope + l1 * (moved.abs() - u.abs())
                };
                u.iter().zip(&d).zip(&l1).zip(&slope).map(change).sum()
            };
            let promised = bent(1.0);
            let noise = if exact { 1e-14 } else { 2e-8 } * here.abs();
            let mut next = None;
            // In float64 a step is also tried whose promise is lost in rounding: the violation tells what it was worth.
            if promised < if exact { noise } else { -noise } {
                let mut t = 1.0;
                for _ in 0..TRIES {
                    let mut moved = point.u.clone();
                    // `u + d` is exactly 0 where the model says so.
                    members.iter().zip(&d).for_each(|(m, d)| moved[at(m)] += t * d);
                    let tried = search.look(moved, exact, &mut pass, cancel)?;
                    passes += 1;
                    bound = bound.max(tried.bound);
                    if tried.value(search.l1, penalty.l2) <= here + 1e-4 * t * promised + noise {
                        next = Some(tried);
                        if t < 0.25 {
                            (rows, coarse) = (rows.saturating_mul(4), f64::max(0.1 * coarse, 1e-6));
                        }
                        break;
                    }
                    t *= 0.5;
                }
            }
            match next {
                Some(next) => {
                    let gained = next.value(search.l1, penalty.l2) < here - 0.5 * noise;
                    iterations += 1;
                    point = next;
                    if gained || exact {
                        continue;
                    }
                }
                None if exact && rows > self.y.len() && coarse <= 1e-6 => break false,
                // In float64 every failure is the model's: a better one next.
                None if exact => {
                    (rows, coarse, last) = (rows.saturating_mul(4), f64::max(0.1 * coarse, 1e-6), f64::INFINITY);
                    point = search.look(point.u, exact, &mut pass, cancel)?;
                    passes += 1;
                    continue;
                }
                None => {}
            }
            // Nothing to gain that float32 can tell; what is on the way need not be found more exactly.
            if search.l1 > penalty.l1 {
                search.l1 = (SMALLER * search.l1).max(penalty.l1);
                (last, last_size) = (f64::INFINITY, 0);
                continue;
            }
            exact = true;
            point = search.look(point.u, exact, &mut pass, cancel)?;
            (bound, passes, last) = (point.bound, passes + 1, f64::INFINITY);
        };
        let w = search.expanded(&point.u);
        let nonzero = w.chunks_exact(search.step).flat_map(|w| &w[..self.columns]).filter(|w| **w != 0.0).count();
        let report = FitReport {
            iterations,
            passes,
            products: 0,
            converged,
            objective: point.value(penalty.l1, penalty.l2),
            gap: Some(gap(&point, bound)),
            seconds: 0.0,
            l2: options.l2,
            l1: options.l1,
            nonzero: Some(nonzero),
        };
        Ok(Solution { w, report })
    }

    /// A start without what is the same in all classes of a column, where that makes more of them 0. (Starts come with
    /// the mean taken off, which leaves no zeros.)
    fn thinned(&self, mut w: Vec<f64>) -> Vec<f64> {
        let step = self.columns + 1;
        for k in 0..self.columns {
            let mut values: Vec<f64> = w.iter().skip(k).step_by(step).copied().collect();
            let zeros = values.iter().filter(|v| **v == 0.0).count();
            values.sort_by(f64::total_cmp);
            let middle = values[(values.len() - 1) / 2];
            if values.iter().filter(|v| **v == middle).count() > zeros {
                w.iter_mut().skip(k).step_by(step).for_each(|w| *w -= middle);
            }
        }
        w
    }
}

impl Search<'_, '_> {
    fn is_bias(&self, at: usize) -> bool {
        at % self.step == self.step - 1
    }

    fn l1_of(&self, at: usize) -> f64 {
        if self.is_bias(at) { 0.0 } else { self.l1 }
    }

    /// Of the loss and the square penalty.
    fn slope(&self, point: &Point, at: usize) -> f64 {
        point.gradient[at] + if self.is_bias(at) { 0.0 } else { self.penalty.l2 * point.u[at] }
    }

    /// The search's numbers of all classes' weights.
    fn narrowed(&self, w: &[f64]) -> Vec<f64> {
        match self.classes {
            1 => (0..self.step).map(|k| 0.5 * (w[self.step + k] - w[k])).collect(),
            _ => w.to_vec(),
        }
    }

    /// All classes' weights.
    fn expanded(&self, u: &[f64]) -> Vec<f64> {
        let mut w = match self.classes {
            1 => u.iter().map(|u| -u).chain(u.iter().copied()).collect(),
            _ => u.to_vec(),
        };
        self.problem.hold(&mut w);
        w
    }

    /// A point's value, gradient and bound.
    fn look(&self, u: Vec<f64>, exact: bool, pass: &mut Pass, cancel: &Cancel) -> Result<Point> {
        let w = self.expanded(&u);
        let mut full = vec![0.0; w.len()];
        let value = self.problem.evaluate(pass, exact, &w, 0.0, &mut full, cancel)?;
        let (step, columns) = (self.step, self.problem.columns);
        // Cross-entropy less what is linear in the scores: the mean entropy (and the share of a given bias).
        let mut entropy = value.objective - dot(&w, &full);
        if self.problem.fixed.is_some() {
            entropy += (0..self.problem.classes).map(|c| w[c * step + columns] * full[c * step + columns]).sum::<f64>();
        }
        let (mut absolute, mut square) = (0.0, 0.0);
        for u in u.chunks_exact(step).flat_map(|u| &u[..columns]) {
            absolute += u.abs();
            square += u * u;
        }
        let gradient = match self.classes {
            1 => (0..step).map(|k| full[step + k] - full[k]).collect(),
            _ => full.clone(),
        };
        let bound = self.bound(full, entropy);
        Ok(Point { u, gradient, loss: value.objective, absolute, square, bound, spread: value.spread })
    }

    /// The dual value at this point's probabilities, made feasible: see the module's head. `full` is the gradient of all
    /// classes.
    fn bound(&self, mut full: Vec<f64>, mut entropy: f64) -> f64 {
        let (step, problem) = (self.step, self.problem);
        let columns = problem.columns;
        if problem.fixed.is_none() {
            // Totals of P are shares plus bias gradient; (1 - theta) times them must not exceed the shares.
            let total = |c: usize| problem.shares[c] + full[c * step + columns];
            let keep =
                (0..problem.classes).map(|c| problem.shares[c] / total(c).max(f64::MIN_POSITIVE)).fold(1.0, f64::min);
            let theta = 1.0 - keep;
            if theta > 0.0 {
                let constant: f64 = (0..problem.classes)
                    .map(|c| (problem.shares[c] - keep * total(c)) / theta)
                    .map(|q| if q > 0.0 { -q * q.ln() } else { 0.0 })
                    .sum();
                entropy = keep * entropy + theta * constant;
                for c in 0..problem.classes {
                    for k in 0..columns {
                        let g = &mut full[c * step + k];
                        *g = keep * *g - theta * problem.class_sums[c * columns + k];
                    }
                }
            }
        }
        let entry = |c: usize, k: usize| match self.classes {
            1 => full[step + k] - full[k],
            _ => full[c * step + k],
        };
        let entries =
            || (0..self.classes).flat_map(|c| (0..columns).map(move |k| (c, k))).map(|(c, k)| entry(c, k).abs());
        let Penalty { l1, l2 } = self.penalty;
        let largest = entries().fold(0.0, f64::max);
        let least = (l1 / largest.max(f64::MIN_POSITIVE)).min(1.0);
        if l2 == 0.0 || least == 1.0 {
            return least * entropy;
        }
        // With a square penalty any mixture will do; the best of a few.
        let mixed = |share: f64| {
            let excess: f64 = entries().map(|g| (share * g - l1).max(0.0)).map(|e| e * e).sum();
            share * entropy - excess / (2.0 * l2)
        };
        (0..=4).map(|i| mixed(least + (1.0 - least) * f64::from(i) / 4.0)).fold(f64::NEG_INFINITY, f64::max)
    }

    /// The weights that take part in the next step, in order; the largest violation among all; whether these are all
    /// that are not 0 or should not be.
    fn working_set(&self, point: &Point, most: usize) -> (Vec<Member>, f64, bool) {
        let columns = self.problem.columns;
        let (mut kept, mut found) = (Vec::new(), Vec::new());
        let mut worst = 0f64;
        for at in 0..point.u.len() {
            let bias = self.is_bias(at);
            if bias && self.problem.fixed.is_some() {
                continue;
            }
            let violation = subgradient(self.slope(point, at), point.u[at], self.l1_of(at)).abs();
            worst = worst.max(violation);
            match (bias, point.u[at] != 0.0) {
                // Before all others.
                (true, _) => kept.push((f64::INFINITY, at)),
                (false, true) => kept.push((violation, at)),
                (false, false) if violation > 0.0 => found.push((violation, at)),
                (false, false) => {}
            }
        }
        let limit = (2 * kept.len()).max(FIRST).min(most);
        let all = kept.len() + found.len();
        let largest_first = |a: &(f64, usize), b: &(f64, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
        if all > most {
            // Too many to move at once: those that have furthest to go.
            kept.append(&mut found);
            kept.sort_unstable_by(largest_first);
        } else {
            found.sort_unstable_by(largest_first);
            kept.append(&mut found);
        }
        kept.truncate(limit);
        let mut members: Vec<Member> =
            kept.iter().map(|&(_, at)| ((at / self.step) as u32, (at % self.step) as u32)).collect();
        members.sort_unstable();
        debug_assert!(members.iter().all(|m| m.1 as usize <= columns));
        (members, worst, kept.len() == all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn working_sets_too_small_for_all_weights_reach_the_same_optimum() {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let (rows, columns, classes) = (400, 15, 4);
        let y: Vec<u32> = (0..rows).map(|row| (row % classes) as u32).collect();
        let shift = |row: usize, k: usize| if k % classes == row % classes { 0.4 } else { 0.0 };
        let x: Vec<f32> = (0..rows * columns).map(|i| random() + shift(i / columns, i % columns)).collect();
        let options = FitOptions { l1: 1e-3, l2: 0.0, threads: 1, tolerance: 1e-7, ..FitOptions::default() };
        let problem = Problem::new(x[..].into(), columns, &y, classes, &options, &Cancel::new()).unwrap();
        let solve =
            |most| problem.solve_within(most, &options, None, &Cancel::new(), None, Instant::now()).unwrap().report;
        let (all, few) = (solve(MOST), solve(20));
        assert!(all.converged && few.converged, "{all:?} {few:?}");
        assert!(all.nonzero.unwrap() > 25 && few.passes > all.passes, "{all:?} {few:?}");
        assert!((all.objective - few.objective).abs() <= 1e-6 * all.objective, "{all:?} {few:?}");
    }
}
