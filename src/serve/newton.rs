//! How a fit finds the optimum: L-BFGS around the preconditioner of [`crate::precondition`], and Newton's method where that
//! is slow, each stopped by the certificate of [`crate::problem`].
//!
//! A step of L-BFGS costs one pass over all rows; the preconditioner, scaled by what the last step told, stands for the
//! inverse Hessian that no step has told of (Nocedal 1980). It is made anew at the current point now and then. Newton's
//! steps are found by conjugate gradients with the same preconditioner: where there is none, where steps of L-BFGS gain
//! little, and near the end of what float32 can tell, where products may stay in float32 while passes may not. Once steps have
//! cost what the Hessian's blocks of each class would ([`crate::blocks`]), as with weak penalties, these are made, and Newton's
//! steps go on around them.
//!
//! A step of Newton's costs one pass over all rows, which finds value, gradient, bound, and the rows that still curve the loss; the
//! products within go over those alone ([`crate::curvature`]), of whole numbers once there have been some ([`crate::products`]). A
//! step is found as exactly as its quadratic model deserves (Eisenstat and Walker 1996), and never more exactly than the
//! certificate asks for: the gradient after a step is the residual before it.
//!
//! Of few classes, steps of L-BFGS go over rounded rows ([`crate::rounded`]), from one pass over the rows themselves to the next.
//! The first steps with many classes are those of [`crate::levels`], and far from the optimum gradients may lack what hardly
//! counts, and passes may multiply in bfloat16 ([`crate::bfloat`]); such a point proves no bound. Passes begin in float32. Where a step
//! promises less than float32's noise, or gains nothing, they go on in float64.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crate::cancel::Cancel;
use crate::curvature::Curvature;
use crate::descent::Memory;
use crate::error::{Error, Result};
use crate::pass::{Pass, weight};
use crate::precondition::{HEAVY, Preconditioner, of_biases};
use crate::problem::{Anchor, Problem, Value, add, dot};
use crate::products::Products;
use crate::rounded::Rounded;
use crate::solver::{FitOptions, FitReport, Progress};

/// Most products for one step; and fewest that are the most for one, after steps that went less than half as far as it was thought:
/// where the quadratic model does not reach, its minimum need not be found exactly.
const PRODUCTS: usize = 400;
const FEWEST_PRODUCTS: usize = 12;
/// After so many products it pays to round rows for those to come.
const WHOLE_FROM: usize = 8;
/// By what factor the penalty may differ from that which a preconditioner was made for: more steps around it cost less than
/// another. Twice the protocol's step from one value to the next.
const PENALTIES: f64 = 4.0;
/// While a step promises more than this, relative to the objective, what hardly counts is left out of gradients.
const FAR: f64 = 1e-4;
/// Passes after which a preconditioner is made anew; for the next, twice as many.
const AGE: usize = 3;
const LASTS: usize = 4;
/// In so many steps of L-BFGS the gradient must have become this much smaller, or the objective, relative.
const WATCHED: usize = 15;
const SMALLER: f64 = 0.7;
const LOWER: f64 = 1e-4;
/// How probable a class must be in a row to be listed for products, as a share of what is left to find: at first, and where the
/// Hessian's blocks may be made.
const COARSE: f64 = 1e-2;
const FINER: f64 = 1e-3;
/// Once a step promises less than this, relative to the objective, a slope that is off is blamed on what is not listed.
const NEAR: f64 = 1e-3;
/// How many multiply-adds of the blocks one of a step takes as long as, with few classes and so many values that steps wait for memory.
const WAITS: f64 = 2.5;
const UNCACHED: usize = 1 << 25;
/// Every so many steps of L-BFGS it is asked what the Hessian's blocks would take to make.
const ASKED: usize = 4;
/// How much smaller the gradient must be than where the last blocks were made.
const BLOCKS: f64 = 0.2;
/// How many times what is asked for the weights' part of the gap may be, after a step like the last, for a pass to put biases
/// right.
const RIGHT: f64 = 3.0;
/// What is left of that gap by the first step, if all goes well.
const FELL: f64 = 1e-3;
/// Of how many rows at most, as a share, it is foretold what they change.
const FORETOLD: usize = 16;
/// How much smaller than at the anchor a gradient by rounded rows must be for the next anchor: at first, at least, and where
/// rounding does harm.
const FIRST_SHARE: f64 = 0.01;
const LEAST_SHARE: f64 = 0.005;
const MOST_SHARE: f64 = 0.6;
/// Steps from an anchor to the next at the latest: at first, and where there are so few that rounding does not pay.
const FIRST_STEPS: usize = 12;
const FEWEST_STEPS: usize = 3;
/// Rounding takes as long as so many steps save: a fit that goes on from another may not need as many.
const ROUNDED_FROM: usize = 3;
/// What a pass over rounded rows costs, of one over the rows themselves.
const ROUNDED_WORK: f64 = 0.4;
/// Steps of the bias alone between two of all parameters.
const TOTALS_TRIES: usize = 4;
/// A step of so many products, which promises no more than this, relative to the objective, is worth some passes more for how far
/// it goes: until the longest step that does is no shorter than the shortest one that does not, over the last.
const DEAR: usize = 4;
const NOT_FAR: f64 = 0.03;
const WIDE: f64 = 1.8;
/// But not beyond where so much of the slope is left.
const LEFT: f64 = 0.3;
/// Tries to find a step that lowers the objective.
const TRIES: usize = 14;

/// What a fit found, in the problem's own coordinates.
pub struct Solution {
    /// Parameters.
    pub w: Vec<f64>,
    /// How it went; the caller fills in the time.
    pub report: FitReport,
}

/// Where a fit stands.
struct State {
    w: Vec<f64>,
    gradient: Vec<f64>,
    value: Value,
    /// The highest bound seen.
    bound: f64,
    exact: bool,
    passes: usize,
    products: usize,
    /// Whether it is back where steps that led nowhere had begun.
    astray: bool,
}

impl State {
    /// Proven distance to the optimum, relative to its bound.
    fn gap(&self) -> f64 {
        match self.bound > 0.0 {
            true => (self.value.objective - self.bound).max(0.0) / self.bound,
            false => f64::INFINITY,
        }
    }

    /// Where the last pass was, as steps over rounded rows start from it.
    fn anchor(&self, columns: usize, l2: f64) -> Anchor {
        Anchor::new(&self.w, &self.gradient, &self.value, columns, l2)
    }

    /// Whether nothing but the classes' totals, which the bias decides, keeps the gap above this.
    fn only_totals(&self, l2: f64, tolerance: f64, noise: f64) -> bool {
        let of_weights = self.value.weights_gap(l2);
        let least = if self.exact { 0.0 } else { noise };
        of_weights < 0.9 * tolerance * self.value.objective && self.value.bias_gradient > least
    }
}

/// When to make the Hessian's blocks: once what came before has cost as much as they would.
#[derive(Default)]
struct Turn {
    /// Multiply-adds of steps of L-BFGS.
    steps: f64,
    /// Of products with the Hessian, and the steps around them.
    products: f64,
    /// And of the last step alone.
    last: f64,
    /// Norm of the gradient where the last blocks were made.
    norm: f64,
    /// And after each of the last steps of L-BFGS.
    norms: VecDeque<f64>,
}

impl Turn {
    /// Whether blocks that take so many multiply-adds are due in Newton's method.
    fn has_come(&self, work: f64) -> bool {
        self.steps > work || self.products > work && 2.0 * self.last > work
    }

    /// After a step of L-BFGS that took so many multiply-adds, begun at a gradient of this norm.
    fn stepped(&mut self, work: f64, norm: f64) {
        self.steps += work;
        if self.norms.len() == WATCHED {
            self.norms.pop_front();
        }
        self.norms.push_back(norm);
    }

    /// How many more steps it will be to a gradient of this norm, if they go on like the last ones.
    fn steps_left(&self, norm: f64, target: f64) -> f64 {
        let before = self.norms.front().map_or(norm, |before| before.max(norm));
        if norm <= target { 0.0 } else { self.norms.len() as f64 * (norm / target).ln() / (before / norm).ln() }
    }
}

/// When to step with the bias alone: some times in a row, then not before three times as many steps of all parameters as the
/// last time.
#[derive(Default)]
struct Totals {
    tries: usize,
    pause: usize,
    steps: usize,
}

impl Totals {
    fn due(&self) -> bool {
        self.tries < TOTALS_TRIES && self.steps >= self.pause
    }

    /// After a step of all parameters.
    fn stepped(&mut self) {
        self.steps += 1;
        if self.tries > 0 {
            *self = Self { tries: 0, pause: (3 * self.pause).max(2), steps: 0 };
        }
    }
}

/// Steps over rounded rows: see [`crate::rounded`].
struct Near<'a> {
    rounded: &'a Rounded,
    anchor: Anchor,
    /// Norm of the gradient at the anchor, and the share of it that is worth the next one.
    norm: f64,
    share: f64,
    /// Steps since, and after how many the next one is due at the latest.
    steps: usize,
    most: usize,
}

impl<'a> Near<'a> {
    fn new(rounded: &'a Rounded, state: &State, columns: usize, l2: f64) -> Self {
        let (anchor, norm) = (state.anchor(columns, l2), state.value.norm);
        Self { rounded, anchor, norm, share: FIRST_SHARE, steps: 0, most: FIRST_STEPS }
    }

    /// Whether steps from the anchor have come as far as they can, or as they need, or as far as they are to go unwatched.
    fn is_due(&self, value: &Value, l2: f64, tolerance: f64) -> bool {
        let near = value.norm < self.share * self.norm || value.weights_gap(l2) < 0.8 * tolerance * value.objective;
        near || self.steps >= self.most
    }

    /// After a pass over the rows themselves, where rounded ones had told this gradient, if any. None if rounding does not do
    /// here.
    fn anchored(self, state: &State, told: Option<&[f64]>, columns: usize, l2: f64) -> Option<Self> {
        let Self { mut share, mut most, .. } = self;
        if let Some(told) = told {
            let off = told.iter().zip(&state.gradient).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            share = (2.0 * off / self.norm).max(LEAST_SHARE);
            // Of what is there now: steps that did little but follow what rounding did were too many.
            most = match off / state.value.norm {
                off if off < 0.1 => most * 2,
                off if off < 0.5 => most,
                _ => self.steps.min(most) / 2,
            };
        }
        let does = share < MOST_SHARE && most >= FEWEST_STEPS;
        does.then(|| Self { share, most, ..Self::new(self.rounded, state, columns, l2) })
    }
}

impl Problem<'_> {
    /// How probable a class must be in a row to be listed for the products to come: a share of what is left to find. A class
    /// that is rare is improbable nearly everywhere: left out there, its bias would have no curvature.
    fn least(&self, coarse: f64, spread: f64) -> f32 {
        let rarest = self.shares.iter().fold(f64::INFINITY, |least, &share| least.min(share));
        let most = 1e-3 * (rarest * self.classes as f64).min(1.0);
        (coarse * spread).clamp(1e-20, most.max(1e-20)) as f32
    }

    /// The optimum, from `start` or from what a sample of the rows suggests.
    ///
    /// # Errors
    /// [`Error::Separable`] for a penalty of 0, [`Error::Cancelled`], [`Error::Deadline`].
    pub fn solve(
        &self,
        options: &FitOptions,
        start: Option<Vec<f64>>,
        cancel: &Cancel,
        mut progress: Option<&mut dyn FnMut(&Progress)>,
        began: Instant,
        kept: &mut Kept,
    ) -> Result<Solution> {
        if options.l1 > 0.0 {
            return self.solve_sparse(options, start, cancel, progress, began);
        }
        let l2 = self.penalty(options.l2);
        let size = self.classes * (self.columns + 1);
        let mut pass = Pass::new(&self.data(), self.parallel);
        if l2 > 0.0 {
            self.may_right(&mut pass);
        }
        let (mut preconditioner, mut made_for) =
            kept.take(self, l2).map_or((None, l2), |(found, l2)| (Some(found), l2));
        let mut age = if preconditioner.is_some() { LASTS * AGE } else { AGE };
        let last = kept.last(self, l2);
        let (mut memory, last) = last.map_or_else(|| (Memory::new(size), None), |last| (last.memory, Some(last.end)));
        let mut rounded_from = if start.is_some() && !self.is_rounded() { ROUNDED_FROM } else { 0 };
        let (warm, mut w) = (start.is_some(), start);
        if w.is_none()
            && let Some(sample) = self.sample(cancel)?
            && let Some((mut found, inverse)) = self.inside(|| sample.start(l2, cancel))?
        {
            self.hold(&mut found);
            if let Some(inverse) = inverse {
                // Made where the fit begins, it is right for long, and until steps turn out too long its scale is too.
                memory.rescales(false);
                age = LASTS * AGE;
                preconditioner = Some(Arc::new(inverse));
            }
            w = Some(found);
        }
        let mut tell = |iteration, objective, gradient: &[f64], gap| {
            if let Some(progress) = &mut progress {
                let gradient_norm = dot(gradient, gradient).sqrt();
                let seconds = began.elapsed().as_secs_f64();
                progress(&Progress { iteration, objective, gradient_norm, gap, seconds });
            }
        };
        let mut report = |objective, gradient: &[f64]| tell(0, objective, gradient, f64::INFINITY);
        if w.is_none()
            && let Some(reached) = self.through_levels(l2, &mut report, cancel)?
        {
            (memory, preconditioner, age) = (reached.memory, reached.preconditioner, reached.age);
            w = Some(reached.w);
        }
        let mut gradient = vec![0.0; size];
        pass.keep_anchor(l2 > 0.0 && self.may_round());
        let (mut listed, mut passes) = (true, 1);
        if l2 > 0.0 && preconditioner.as_ref().is_some_and(|p| p.is_brief()) {
            // The first step is one of L-BFGS, which needs no list.
            pass.keep_from(f32::INFINITY);
            listed = false;
        }
        let mut iterations = 0;
        // What rows that came since the last fit are worth is known without a pass, and so is the first step.
        let foretold = match (&last, &w, &preconditioner) {
            (Some(end), Some(w), Some(preconditioner)) if warm && !listed && options.max_iterations > 0 => {
                self.foretold(end, w, l2)?.map(|told| {
                    let apply = |v: Vec<f32>| self.held(self.inside(|| preconditioner.apply_narrow(v)));
                    let mut next = memory.direction(&told.gradient, &apply);
                    next.iter_mut().zip(w).for_each(|(next, w)| *next += w);
                    let gap = dot(&told.gradient, &told.gradient) / (2.0 * l2);
                    pass.right(gap * FELL < RIGHT * options.tolerance * told.objective);
                    (next, told)
                })
            }
            _ => None,
        };
        let (w, value) = match w {
            Some(mut before) if let Some((mut next, told)) = foretold => {
                let value = self.evaluate_near(&mut pass, false, &mut next, l2, &mut gradient, cancel)?;
                let norm = dot(&told.gradient, &told.gradient).sqrt();
                if value.objective <= (1.0 + FAR) * told.objective {
                    iterations = 1;
                    // Else other rows have changed too.
                    if value.norm < SMALLER * norm {
                        memory.keep((&before, &told.gradient), (&next, &gradient));
                    }
                    (next, value)
                } else {
                    passes = 2;
                    let value = self.evaluate_near(&mut pass, false, &mut before, l2, &mut gradient, cancel)?;
                    (before, value)
                }
            }
            None if self.fixed.is_none() => {
                (listed, passes) = (false, 0);
                self.at_prior(l2, &mut gradient)
            }
            w => {
                let mut w = w.unwrap_or_else(|| self.prior());
                let value = self.evaluate_near(&mut pass, false, &mut w, l2, &mut gradient, cancel)?;
                (w, value)
            }
        };
        let mut state =
            State { w, gradient, bound: value.bound, value, exact: false, passes, products: 0, astray: false };
        let mut near: Option<Near> = None;
        let (mut spent, mut last_norm) = (0.0, f64::INFINITY);
        let pass_work = 2.0 * (self.y.len() * self.columns * self.classes) as f64;
        let waits = if self.may_round() && self.y.len() * self.columns >= UNCACHED { WAITS } else { 1.0 };
        let mut quick = l2 > 0.0;
        let (mut since, mut far) = (0, l2 > 0.0);
        let mut watched = (0, f64::INFINITY, f64::INFINITY);
        let (mut stalled, mut totals) = (0, Totals::default());
        let mut coarse = COARSE;
        let mut turn = Turn { norm: f64::INFINITY, ..Turn::default() };
        // Of totals from float32 probabilities, whose errors have nothing to do with each other; and never do these prove much
        // more than the usual tolerance.
        let noise = if options.tolerance < 1e-7 { f64::INFINITY } else { 1e-7 };
        let noise = noise * self.shares.iter().fold(0.0, |most, share| share.max(most)) / (self.y.len() as f64).sqrt();
        let (mut right, mut fell) = (false, FELL);
        let (mut next_w, mut next_gradient) = (vec![0.0; size], vec![0.0; size]);
        let (mut best_w, mut best_gradient) = (Vec::new(), Vec::new());
        let mut proven = f64::INFINITY;
        let mut most_products = PRODUCTS;
        let converged = loop {
            if !pass.left_out() {
                proven = state.gap();
            }
            tell(iterations, state.value.objective, &state.gradient, proven);
            if l2 == 0.0 && state.value.separated {
                return Err(Error::Separable { iterations });
            }
            let ends = |state: &State| {
                let converged = l2 > 0.0 && state.gap() <= options.tolerance;
                (converged || iterations >= options.max_iterations).then_some(converged)
            };
            let mut end = ends(&state);
            let due = near.as_ref().is_some_and(|near| near.is_due(&state.value, l2, options.tolerance));
            if (end.is_some() || due) && pass.left_out() {
                far = false;
                if near.is_some() {
                    listed = self.list_for_blocks(&mut pass, &turn, &mut coarse, state.value.spread, true);
                }
                self.go_whole(&mut state, &mut pass, &mut near, l2, cancel)?;
                end = ends(&state);
            }
            if let Some(converged) = end {
                break converged;
            }
            if l2 > 0.0
                && self.fixed.is_none()
                && !pass.left_out()
                && totals.due()
                && state.only_totals(l2, options.tolerance, noise)
            {
                totals.tries += 1;
                let step = match !state.exact && pass.right(true) {
                    true => Some(vec![0.0; size]),
                    false => self.right_totals(&state, cancel)?,
                };
                if let Some(mut biases) = step {
                    biases.iter_mut().zip(&state.w).for_each(|(bias, w)| *bias += w);
                    let next =
                        self.evaluate_near(&mut pass, state.exact, &mut biases, l2, &mut next_gradient, cancel)?;
                    (state.passes, iterations) = (state.passes + 1, iterations + 1);
                    state.bound = state.bound.max(next.bound);
                    if next.bias_gradient < 0.5 * state.value.bias_gradient {
                        state.w = biases;
                        std::mem::swap(&mut state.gradient, &mut next_gradient);
                        state.value = next;
                        near = near.and_then(|near| near.anchored(&state, None, self.columns, l2));
                        continue;
                    }
                    totals.tries = TOTALS_TRIES;
                    // Its rows are not this point's.
                    (listed, near, rounded_from) = (false, None, usize::MAX);
                }
            }
            if std::mem::take(&mut state.astray) {
                let scales = memory.scales();
                memory = Memory::new(size);
                memory.rescales(scales);
            }
            let spread = state.value.spread;
            if quick && watched.0 == WATCHED {
                quick = state.value.norm < SMALLER * watched.1 || state.value.objective < (1.0 - LOWER) * watched.2;
            }
            if watched.0.is_multiple_of(WATCHED) {
                watched = (0, state.value.norm, state.value.objective);
            }
            watched.0 += 1;
            // A preconditioner is made anew once what came since the last has cost as much as it did.
            let due = preconditioner.as_ref().is_none_or(|p| spent > p.work() && (!quick || since >= age));
            if due && let Some(sample) = self.sample(cancel)? {
                preconditioner = self.inside(|| sample.precondition(&state.w, l2, cancel))?.map(Arc::new);
                made_for = l2;
                age = if since == 0 { age } else { age.saturating_mul(2) };
                (spent, since) = (0.0, 0);
            }
            quick &= preconditioner.as_ref().is_some_and(|p| p.is_brief()) && !state.exact;
            if quick && listed {
                let entries = pass.active().map(|active| active.classes.len()).sum();
                let target = (2.0 * l2 * options.tolerance * state.value.objective).sqrt();
                let left = 2.0 * waits * pass_work * turn.steps_left(state.value.norm, target);
                quick = self.blocks_work(entries).is_none_or(|work| turn.steps.min(left) <= work);
            }
            if !quick {
                (near, rounded_from) = (None, usize::MAX);
            }
            if near.is_none() && iterations >= rounded_from && pass.has_anchor() {
                near = self.rounded(cancel)?.map(|rounded| Near::new(rounded, &state, self.columns, l2));
                rounded_from = usize::MAX;
            }
            if near.is_none() && rounded_from == usize::MAX {
                pass.keep_anchor(false);
            }
            if !quick && (!listed || pass.left_out()) {
                far = false;
                pass.keep_from(self.least(coarse, spread));
                listed = true;
                self.go_whole(&mut state, &mut pass, &mut near, l2, cancel)?;
            }
            let curvature =
                (!quick).then(|| Curvature::new(pass.active(), self.total, self.columns, self.classes, self.parallel));
            if let Some(curvature) = &curvature
                && preconditioner.as_ref().is_none_or(|p| !p.is_whole())
                && self.blocks_work(curvature.entries()).is_some_and(|work| turn.has_come(work))
                && state.value.norm < BLOCKS * turn.norm
            {
                // The old ones go first, for memory's sake; where none can be made, none will be.
                (preconditioner, turn) = (None, Turn::default());
                if let Some(blocks) = self.blocks(curvature, l2, cancel)? {
                    preconditioner = Some(Arc::new(Preconditioner::of_blocks(blocks, self)));
                    (made_for, turn.norm) = (l2, state.value.norm);
                }
            }
            let apply = |v: &[f64]| match &preconditioner {
                Some(preconditioner) => self.held(self.inside(|| preconditioner.apply(v))),
                None => self.held(self.diagonal(v, l2)),
            };
            let narrow = |v: Vec<f32>| match &preconditioner {
                Some(preconditioner) => self.held(self.inside(|| preconditioner.apply_narrow(v))),
                None => v,
            };
            let found = if let Some(curvature) = curvature {
                pass.keep_from(self.least(coarse, spread));
                let enough = Enough::new(options.tolerance * state.value.objective, l2, &state.value);
                let many = !state.exact && state.products >= WHOLE_FROM;
                let curvature = (&curvature, if many { self.products(cancel)? } else { None });
                let found =
                    self.newton_step(curvature, &state.gradient, l2, apply, last_norm, enough, most_products, cancel)?;
                state.products += found.products;
                spent += curvature.0.work() * found.products as f64;
                turn.last = self.blocks_product_work(curvature.0) * found.products as f64;
                turn.products += turn.last;
                since += 1;
                found
            } else {
                // Now and then a pass tells what the blocks would take.
                let asked = near.is_none() && since % ASKED == ASKED - 1;
                listed = self.list_for_blocks(&mut pass, &turn, &mut coarse, spread, asked);
                if since == 0 {
                    memory.rescale();
                }
                let work = if near.is_some() { ROUNDED_WORK * pass_work } else { pass_work };
                (spent, since) = (spent + work, since + 1);
                turn.stepped(waits * work, state.value.norm);
                Step { direction: memory.direction(&state.gradient, &narrow), norm: f64::INFINITY, products: 0 }
            };
            last_norm = found.norm;
            let slope = dot(&found.direction, &state.gradient);
            far &= quick && -slope > FAR * state.value.objective;
            pass.leave_out(if far { self.negligible(spread) } else { 0.0 });
            if pass.left_out() && !far && near.is_none() {
                self.go_whole(&mut state, &mut pass, &mut near, l2, cancel)?;
                continue;
            }
            // Without a penalty nothing is certified: what is left to gain is estimated.
            if l2 == 0.0 && -slope <= 0.02 * options.tolerance * state.value.objective {
                break true;
            }
            // Float32 products leave noise of this size in the objective; below it a step is judged by nothing better. A
            // pass in float64 costs several in float32, so L-BFGS goes on while its gradients become smaller.
            if !state.exact && !quick && -slope < 2e-8 * state.value.objective {
                (quick, listed) = (false, true);
                self.go_exact(&mut state, &mut pass, self.least(coarse, spread), l2, cancel)?;
                if state.gap() <= options.tolerance || found.products == 0 {
                    continue;
                }
            }
            // Once the next step may be the last, and from then on: steps learn from those before.
            right |= state.value.weights_gap(l2) * fell < RIGHT * options.tolerance * state.value.objective;
            pass.right(right);
            let slack = if state.exact { 1e-14 } else { 2e-8 } * state.value.objective.abs();
            let (mut step, mut tries, mut failed) = (1.0, 0, f64::INFINITY);
            let mut best: Option<(f64, Value)> = None;
            let next = loop {
                next_w.iter_mut().zip(&state.w).zip(&found.direction).for_each(|((next, w), d)| *next = w + step * d);
                let next = match &near {
                    Some(Near { rounded, anchor, .. }) => {
                        self.evaluate_rounded(&mut pass, (rounded, anchor), &next_w, l2, &mut next_gradient, cancel)?
                    }
                    None => self.evaluate_near(&mut pass, state.exact, &mut next_w, l2, &mut next_gradient, cancel)?,
                };
                state.passes += 1;
                tries += usize::from(best.is_none());
                state.bound = state.bound.max(next.bound);
                let mut lower = next.objective <= state.value.objective + 1e-4 * step * slope + slack;
                if !lower {
                    // Where the objective is too coarse to tell, the slope still tells (Hager and Zhang 2005).
                    let near = next.objective <= state.value.objective + if state.exact { 100.0 } else { 10.0 } * slack;
                    lower = near && dot(&next_gradient, &found.direction).abs() <= -0.8 * slope;
                }
                let objective = next.objective;
                if lower && best.as_ref().is_none_or(|best| objective < best.1.objective) {
                    let left = dot(&next_gradient, &found.direction) / slope;
                    let dear = found.products >= DEAR && -slope < NOT_FAR * state.value.objective;
                    if !dear || !failed.is_finite() || failed <= WIDE * step || left < LEFT {
                        break Some(next);
                    }
                    best_w.clone_from(&next_w);
                    best_gradient.clone_from(&next_gradient);
                    best = Some((step, next));
                } else {
                    failed = step;
                }
                if let Some((at, value)) = best.take_if(|best| failed <= WIDE * best.0) {
                    step = at;
                    std::mem::swap(&mut next_w, &mut best_w);
                    std::mem::swap(&mut next_gradient, &mut best_gradient);
                    // The last pass's rows are those of another point.
                    listed = false;
                    break Some(value);
                }
                if tries == TRIES {
                    break None;
                }
                let fitted = -slope * step * step / (2.0 * (objective - state.value.objective - slope * step));
                step = match &best {
                    Some(best) => (best.0 * failed).sqrt(),
                    None if fitted.is_finite() => fitted.clamp(0.1 * step, 0.6 * step),
                    None => 0.1 * step,
                };
            };
            if next.is_none() && pass.left_out() {
                // What was left out may be to blame.
                (far, near) = (false, None);
                self.go_whole(&mut state, &mut pass, &mut near, l2, cancel)?;
                continue;
            }
            let Some(next) = next else {
                // Not even the smallest step gains: the end of what these products can tell.
                if state.exact {
                    break false;
                }
                (quick, listed) = (false, true);
                self.go_exact(&mut state, &mut pass, self.least(coarse, spread), l2, cancel)?;
                continue;
            };
            // What the slope has left says by how much the loss curves more along the step than it was thought to: rows and
            // classes were left out that count.
            let left = dot(&next_gradient, &found.direction) / slope;
            if !quick && -slope < NEAR * next.objective && left < 1.0 - 1.2 * step && coarse > 1e-7 {
                coarse *= 0.1;
            }
            if found.products > 0 {
                most_products = match step < 0.5 {
                    true => (found.products / 2).max(FEWEST_PRODUCTS),
                    false => (2 * most_products).min(PRODUCTS),
                };
            }
            if tries > 1 && !memory.scales() {
                memory.rescales(true);
            }
            iterations += 1;
            if let Some(near) = &mut near {
                near.steps += 1;
            }
            totals.stepped();
            fell = (next.norm / state.value.norm).powi(2);
            let finer = if state.exact { 1e-13 } else { 1e-9 } * next.objective.abs();
            let gains = next.objective < state.value.objective - finer
                || next.norm < if quick { 0.9 } else { 0.7 } * state.value.norm;
            if quick {
                memory.keep((&state.w, &state.gradient), (&next_w, &next_gradient));
            }
            std::mem::swap(&mut state.w, &mut next_w);
            std::mem::swap(&mut state.gradient, &mut next_gradient);
            state.value = next;
            // So near, the objective's own noise makes steps shorter and shorter.
            let stuck = tries > 3 && -slope < FAR * state.value.objective;
            stalled = if gains && !stuck { 0 } else { stalled + 1 };
            let patience = match (state.exact, quick) {
                (true, _) => 5,
                (_, true) => 3,
                _ => 1,
            };
            if stalled >= patience && pass.left_out() {
                (stalled, far, near) = (0, false, None);
                self.go_whole(&mut state, &mut pass, &mut near, l2, cancel)?;
            } else if stalled >= patience {
                if state.exact {
                    break false;
                }
                (stalled, last_norm) = (0, f64::INFINITY);
                (quick, listed) = (false, true);
                self.go_exact(&mut state, &mut pass, self.least(coarse, spread), l2, cancel)?;
            }
        };
        let gap = (l2 > 0.0).then(|| state.gap());
        let State { w, gradient, value, passes, products, .. } = state;
        let end = End { gradient, objective: value.objective, total: self.total, rows: self.y.len() };
        kept.give(self, (made_for, preconditioner), (l2, Last { memory, end }));
        let l2 = options.l2;
        let objective = value.objective;
        let (seconds, l1, nonzero) = (0.0, 0.0, None);
        let report = FitReport { iterations, passes, products, converged, objective, gap, seconds, l2, l1, nonzero };
        Ok(Solution { w, report })
    }

    /// Has the next pass list rows and classes, if `asked` what the Hessian's blocks would take and steps have cost what they take
    /// at least. Whether it does.
    fn list_for_blocks(&self, pass: &mut Pass, turn: &Turn, coarse: &mut f64, spread: f64, asked: bool) -> bool {
        let listed = asked && self.blocks_work(0).is_some_and(|work| turn.steps > work);
        if listed {
            *coarse = coarse.min(FINER);
        }
        pass.keep_from(if listed { self.least(*coarse, spread) } else { f32::INFINITY });
        listed
    }

    /// What is to be found here, if nothing but rows behind the others came since the last fit, which ended here; None where that
    /// cannot be, or these are many.
    fn foretold(&self, end: &End, w: &[f64], l2: f64) -> Result<Option<Foretold>> {
        let (rows, columns, width) = (self.y.len(), self.columns, self.columns + 1);
        if !(1..=rows / FORETOLD).contains(&rows.saturating_sub(end.rows)) {
            return Ok(None);
        }
        let before = end.total / self.total;
        let mut gradient: Vec<f64> = end.gradient.iter().map(|g| g * before).collect();
        let mut objective = before * end.objective;
        for (gradient, w) in gradient.chunks_exact_mut(width).zip(w.chunks_exact(width)) {
            add(&mut gradient[..columns], (1.0 - before) * l2, &w[..columns]);
            objective += 0.5 * (1.0 - before) * l2 * dot(&w[..columns], &w[..columns]);
        }
        let all: Vec<u32> = (0..width as u32).collect();
        let (mut x, mut scratch) = (vec![0f32; width], Vec::new());
        for row in end.rows..rows {
            self.columns_of(row, &all, &mut x, &mut scratch)?;
            let x: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
            let scores: Vec<f64> = w.chunks_exact(width).map(|w| dot(w, &x)).collect();
            let (label, weight) = (self.y[row] as usize, f64::from(weight(self.data().weights, row)) / self.total);
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scores.iter().map(|score| (score - largest).exp()).sum();
            objective += weight * (sum.ln() + largest - scores[label]);
            for (class, (gradient, score)) in gradient.chunks_exact_mut(width).zip(&scores).enumerate() {
                let own = if class == label { 1.0 } else { 0.0 };
                add(gradient, weight * ((score - largest).exp() / sum - own), &x);
            }
        }
        Ok(Some(Foretold { gradient: self.held(gradient), objective }))
    }

    /// Newton's step of the bias alone, by what some rows say of it: totals that are off cost the certificate more
    /// than anything else, and take no step of the weights to put right.
    fn right_totals(&self, state: &State, cancel: &Cancel) -> Result<Option<Vec<f64>>> {
        let (weights, bias) = self.narrow(&state.w);
        let found = self.inside(|| of_biases(&self.data(), &weights, &bias, self.parallel, cancel))?;
        let Some(inverse) = found else { return Ok(None) };
        let width = self.columns + 1;
        let wrong: Vec<f64> = state.gradient.iter().skip(self.columns).step_by(width).copied().collect();
        let largest = wrong.iter().fold(f64::MIN_POSITIVE, |most, g| most.max(g.abs()));
        let mut solved: Vec<f32> = wrong.iter().map(|g| (g / largest) as f32).collect();
        inverse.solve(&mut solved, false);
        let mut step = vec![0.0; state.w.len()];
        step.iter_mut().skip(self.columns).step_by(width).zip(&solved).for_each(|(s, v)| *s = -f64::from(*v) * largest);
        Ok(Some(step))
    }

    /// Value, gradient and bound of the same point again, of a pass that leaves nothing out, and from now on none does but
    /// those from this anchor on.
    fn go_whole(
        &self,
        state: &mut State,
        pass: &mut Pass,
        near: &mut Option<Near>,
        l2: f64,
        cancel: &Cancel,
    ) -> Result<()> {
        pass.leave_out(0.0);
        let told = near.is_some().then(|| state.gradient.clone());
        state.value = self.evaluate_near(pass, state.exact, &mut state.w, l2, &mut state.gradient, cancel)?;
        (state.bound, state.passes) = (state.bound.max(state.value.bound), state.passes + 1);
        if let Some(last) = near.take_if(|near| !near.anchor.is_above(&state.value)) {
            // Nothing that rounded rows told was right.
            state.w = last.anchor.w().to_vec();
            state.value = self.evaluate_near(pass, state.exact, &mut state.w, l2, &mut state.gradient, cancel)?;
            (state.passes, state.astray) = (state.passes + 1, true);
        }
        *near = near.take().and_then(|near| near.anchored(state, told.as_deref(), self.columns, l2));
        Ok(())
    }

    /// From here on in float64: value, gradient and bound of the same point again, and the rows that curve by `least`.
    fn go_exact(&self, state: &mut State, pass: &mut Pass, least: f32, l2: f64, cancel: &Cancel) -> Result<()> {
        pass.keep_from(least);
        state.exact = true;
        state.value = self.evaluate_near(pass, true, &mut state.w, l2, &mut state.gradient, cancel)?;
        (state.bound, state.passes) = (state.value.bound, state.passes + 1);
        Ok(())
    }

    /// Minus the inverse Hessian times the gradient, by conjugate gradients: until what is left is small against the
    /// gradient in the preconditioner's norm, or `enough` in the Euclidean one.
    #[allow(clippy::too_many_arguments, reason = "everything that a step depends on, and nothing kept between steps")]
    fn newton_step(
        &self,
        (curvature, whole): (&Curvature, Option<&Products>),
        gradient: &[f64],
        l2: f64,
        apply: impl Fn(&[f64]) -> Vec<f64>,
        last_norm: f64,
        enough: Enough,
        most_products: usize,
        cancel: &Cancel,
    ) -> Result<Step> {
        let mut residual: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let mut z = apply(&residual);
        let mut rz = dot(&residual, &z);
        let norm = rz.max(0.0).sqrt();
        let forcing = if last_norm.is_finite() { (norm / last_norm).clamp(1e-3, 0.25) } else { 0.25 };
        let wanted = forcing * forcing * rz;
        let mut p = z.clone();
        let mut direction = vec![0.0; gradient.len()];
        let mut image = vec![0.0; gradient.len()];
        let mut products = 0;
        while products == 0 || products < most_products && rz > wanted && !enough.reached(&residual, self.columns) {
            self.curve(curvature, whole, &p, l2, &mut image, cancel)?;
            products += 1;
            let bend = dot(&p, &image);
            if !(bend > 0.0 && bend.is_finite()) {
                break;
            }
            let length = rz / bend;
            add(&mut direction, length, &p);
            add(&mut residual, -length, &image);
            z = apply(&residual);
            let next = dot(&residual, &z);
            if !(next > 0.0 && next.is_finite()) {
                break;
            }
            let keep = next / rz;
            rz = next;
            p.iter_mut().zip(&z).for_each(|(p, z)| *p = z + keep * *p);
        }
        if products == 0 {
            direction = z;
        }
        Ok(Step { direction, norm, products })
    }
}

/// What one fit leaves for the next of nearly the same rows: the last preconditioner, so that it need not make one, and where its steps
/// led.
#[derive(Debug, Default)]
pub struct Kept {
    preconditioner: Option<(Arc<Preconditioner>, Shape)>,
    last: Option<(Last, Shape)>,
}

/// What a fit's steps told of the Hessian, and where they ended.
#[derive(Debug)]
struct Last {
    memory: Memory,
    end: End,
}

/// Where a fit ended.
#[derive(Debug)]
struct End {
    gradient: Vec<f64>,
    objective: f64,
    /// Sum of the rows' weights, and their number.
    total: f64,
    rows: usize,
}

/// What a pass is expected to find.
struct Foretold {
    gradient: Vec<f64>,
    objective: f64,
}

/// What something was made for.
#[derive(Clone, Debug)]
struct Shape {
    rows: usize,
    columns: usize,
    classes: usize,
    l2: f64,
    free_bias: bool,
    /// Factors of the columns.
    scale: Vec<f64>,
}

impl Shape {
    fn new(problem: &Problem, l2: f64) -> Self {
        let &Problem { columns, classes, .. } = problem;
        let (rows, free_bias, scale) = (problem.y.len(), problem.fixed.is_none(), problem.scale.clone());
        Self { rows, columns, classes, l2, free_bias, scale }
    }

    /// Whether this problem, but for its penalty, is near enough: any preconditioner is right, a far one only slow.
    fn is_near(&self, problem: &Problem) -> bool {
        let near = |new: f64, old: f64| new < 1.5 * old && old < 1.5 * new;
        let scales = problem.scale.iter().zip(&self.scale).all(|(new, old)| near(*new, *old) || new == old);
        let same =
            (self.columns, self.classes, self.free_bias) == (problem.columns, problem.classes, problem.fixed.is_none());
        same && scales && near(problem.y.len() as f64, self.rows as f64)
    }
}

impl Kept {
    /// The last preconditioner and the penalty that it was made for, if it suits this problem.
    fn take(&self, problem: &Problem, l2: f64) -> Option<(Arc<Preconditioner>, f64)> {
        let (preconditioner, old) = self.preconditioner.as_ref()?;
        let penalty = l2 < PENALTIES * old.l2 && old.l2 < PENALTIES * l2;
        (penalty && old.is_near(problem)).then(|| (Arc::clone(preconditioner), old.l2))
    }

    /// The last steps, if they were of nearly this problem.
    fn last(&mut self, problem: &Problem, l2: f64) -> Option<Last> {
        let (last, old) = self.last.take()?;
        (old.l2 == l2 && old.is_near(problem)).then_some(last)
    }

    /// To be kept for long: without what takes more than 64 MB.
    pub fn light(self) -> Self {
        let preconditioner = self.preconditioner.filter(|(preconditioner, _)| !preconditioner.is_heavy());
        Self { preconditioner, last: self.last.filter(|(last, _)| last.memory.values() <= HEAVY) }
    }

    fn give(
        &mut self,
        problem: &Problem,
        (made_for, preconditioner): (f64, Option<Arc<Preconditioner>>),
        (l2, last): (f64, Last),
    ) {
        self.preconditioner = preconditioner.map(|preconditioner| (preconditioner, Shape::new(problem, made_for)));
        self.last = Some((last, Shape::new(problem, l2)));
    }
}

/// What is left of a gradient when the certificate is as good as asked for.
#[derive(Clone, Copy)]
struct Enough {
    /// Square of the weights' part: a gap of this over twice the penalty.
    weights: f64,
    /// Largest entry of the bias's part: class totals that are off cost that much at once, not its square.
    bias: f64,
}

impl Enough {
    fn new(gap: f64, l2: f64, value: &Value) -> Self {
        let bias = if value.bias_gap > 0.0 { value.bias_gradient * (0.2 * gap / value.bias_gap).min(1.0) } else { gap };
        Self { weights: 0.5 * 2.0 * l2 * gap, bias }
    }

    fn reached(self, residual: &[f64], columns: usize) -> bool {
        let mut square = 0.0;
        for part in residual.chunks_exact(columns + 1) {
            square += dot(&part[..columns], &part[..columns]);
            if part[columns].abs() > self.bias || square > self.weights {
                return false;
            }
        }
        true
    }
}

/// A step of Newton's method.
struct Step {
    direction: Vec<f64>,
    /// Of the gradient, by the preconditioner.
    norm: f64,
    products: usize,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::Rows;

    #[test]
    fn what_rows_that_came_are_worth_is_foretold() {
        const COLUMNS: usize = 20;
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        };
        let x: Vec<f32> = (0..650 * COLUMNS).map(|_| 2.0 + random()).collect();
        let y: Vec<u32> = (0..650).map(|row| if x[row * COLUMNS] > 2.0 { 3 } else { row as u32 % 3 }).collect();
        let weights: Vec<f32> = (0..650).map(|_| 1.5 + random()).collect();
        let (cancel, l2) = (Cancel::new(), 1e-2);
        for weighted in [false, true] {
            let options = |rows: usize| FitOptions {
                l2,
                tolerance: 1e-9,
                sample_weights: weighted.then(|| weights[..rows].to_vec()),
                ..FitOptions::default()
            };
            let problem = |rows: usize| {
                let values = Rows::F32(&x[..rows * COLUMNS]);
                Problem::new(values, COLUMNS, &y[..rows], 4, &options(rows), &cancel).unwrap()
            };
            let (old, new) = (problem(620), problem(650));
            let mut kept = Kept::default();
            let found = old.solve(&options(620), None, &cancel, None, Instant::now(), &mut kept).unwrap();
            let end = &kept.last.as_ref().unwrap().0.end;
            let (outer, bias) = old.outer(&found.w);
            let w = new.inner(&outer, &bias).unwrap();
            let told = new.foretold(end, &w, l2).unwrap().unwrap();
            let mut gradient = vec![0.0; w.len()];
            let mut pass = Pass::new(&new.data(), false);
            let value = new.evaluate(&mut pass, true, &w, l2, &mut gradient, &cancel).unwrap();
            assert!((told.objective - value.objective).abs() < 1e-8, "{} {}", told.objective, value.objective);
            let off = told.gradient.iter().zip(&gradient).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
            assert!(off < 1e-3 * value.norm, "{off} {}", value.norm);
            // Too many, and none.
            assert!(problem(620).foretold(end, &w, l2).unwrap().is_none());
            assert!(new.foretold(&End { gradient, rows: 600, ..*end }, &w, l2).unwrap().is_none());
        }
    }
}
