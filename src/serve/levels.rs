//! How the fit of many classes begins: with the columns' directions of most variance alone, and with stronger penalties.
//!
//! What few directions hold is found at a fraction of a pass's cost. A direction is left out as long as its curvature is below
//! the penalty: then leaving it out costs little, and what the steps told of the Hessian stays right when it comes in. So
//! the penalty of a level is the curvature of its last direction, or the one asked for if that is stronger; with all
//! columns it falls to what is asked for by factors, each time from near the last optimum.

use std::sync::Arc;

use crate::cancel::Cancel;
use crate::dense::multiplied;
use crate::descent::{Descent, Memory};
use crate::error::Result;
use crate::pass::{Pass, project};
use crate::precondition::{OfClasses, Preconditioner, Principal};
use crate::problem::{Problem, dot};
use crate::rows::Rows;
use crate::solver::{FitOptions, Intercept};

/// Directions of the first level; each that follows has twice as many. Whole vectors for the passes' kernels.
const FEWEST: usize = 64;
/// Levels have at least this part of the columns, and at most half.
const LEAST_PART: usize = 20;
/// So many rows for every class, at least.
const ROWS: usize = 4;
/// The directions' curvature must be so far above the penalty for levels to pay.
const STEEP: f64 = 30.0;
/// The rows' coordinates within the directions may cost so many passes, times the share of columns that are left out.
const PASSES: f64 = 3.0;
/// Most values of these coordinates, or this part of all the rows' values if that is more.
const VALUES: usize = 64 << 20;
const LEAST_ROOM: usize = 8;
/// By how much the penalty falls at once; the last time by as much again.
const FALL: f64 = 30.0;
/// A level ends when a step promises this little, relative to the objective, within directions and with all columns, but not
/// before the first number of steps, and at the second. With all columns the penalty is far above the one asked for, and the
/// next one changes the objective by more than a level of 5% could gain.
const LITTLE: f64 = 1e-2;
const LITTLE_OF_ALL: f64 = 1e-1;
const STEPS: (usize, usize) = (2, 60);
/// Steps after which it is looked anew what classes have to do with each other; after the next, twice as many.
const AGE: usize = 3;

/// Where the levels lead.
pub struct Reached {
    pub w: Vec<f64>,
    pub memory: Memory,
    pub preconditioner: Option<Arc<Preconditioner>>,
    /// Steps after which that should be made anew.
    pub age: usize,
}

/// What is kept on the way through the levels.
struct Way<'a> {
    /// The penalty asked for.
    l2: f64,
    /// What classes have to do with each other, as last seen.
    of_classes: Option<Arc<OfClasses>>,
    /// How often it was looked, and steps since.
    looks: u32,
    since: usize,
    /// Gets the objective with the penalty asked for, and the gradient.
    report: &'a mut dyn FnMut(f64, &[f64]),
}

impl Way<'_> {
    /// How many steps are to be made before it is looked again.
    fn rest(&self) -> usize {
        (AGE << self.looks >> 1).saturating_sub(self.since)
    }

    fn due(&self) -> bool {
        self.of_classes.is_none() || self.rest() == 0
    }

    /// Tells of a point with a stronger penalty.
    fn tell(&mut self, at: &Descent, penalty: f64, columns: usize) {
        let square: f64 = at.w.chunks_exact(columns + 1).map(|w| dot(&w[..columns], &w[..columns])).sum();
        (self.report)(at.objective - 0.5 * (penalty - self.l2) * square, &at.gradient);
    }
}

impl Problem<'_> {
    /// A start for the fit with this penalty; none where levels would not pay. After every step `report` gets the objective with
    /// this penalty, and the gradient with the level's.
    ///
    /// # Errors
    /// Cancelled or past the deadline; rows that cannot be read.
    pub fn through_levels(
        &self,
        l2: f64,
        report: &mut dyn FnMut(f64, &[f64]),
        cancel: &Cancel,
    ) -> Result<Option<Reached>> {
        let levels = self.levels();
        let (Some(&largest), true) = (levels.last(), l2 > 0.0) else { return Ok(None) };
        let Some(sample) = self.sample(cancel)? else { return Ok(None) };
        let Some(principal) = self.inside(|| sample.principal(largest, l2 * STEEP, cancel))? else { return Ok(None) };
        let mut way = Way { l2, of_classes: None, looks: 0, since: 0, report };
        let penalty = |directions: usize| l2.max(principal.curvature[directions - 1]);

        let Some(z) = self.within(&principal, cancel)? else { return Ok(None) };
        let mut old = 0;
        let (mut w, mut memory) = (Vec::new(), Memory::new(1));
        for k in levels {
            let narrow: Vec<f32>;
            let z = match k == largest {
                true => &z,
                false => {
                    narrow = z.chunks_exact(largest).flat_map(|z| &z[..k]).copied().collect();
                    &narrow
                }
            };
            let level = self.level(z, k, cancel)?;
            w = if old == 0 { level.prior() } else { widened(&w, old, k) };
            memory = memory.turned(w.len(), |v| widened(v, old, k));
            (w, memory) = level.descend(w, memory, penalty(k), LITTLE, &mut way, cancel)?;
            old = k;
        }
        drop(z);
        let outwards = |v: &[f32]| principal.outwards(v, self.columns);
        memory = memory.turned(self.classes * (self.columns + 1), outwards);
        let narrow: Vec<f32> = w.iter().map(|w| *w as f32).collect();
        w = outwards(&narrow).into_iter().map(f64::from).collect();
        self.hold(&mut w);
        let mut now = penalty(largest);
        while now > FALL * FALL * l2 {
            now /= FALL;
            (w, memory) = self.descend(w, memory, now, LITTLE_OF_ALL, &mut way, cancel)?;
        }
        let preconditioner = self.as_seen(&w, l2, &mut way, cancel)?;
        Ok(Some(Reached { w, memory, preconditioner, age: way.rest() }))
    }

    /// How many directions the levels have.
    fn levels(&self) -> Vec<usize> {
        let (rows, columns, classes) = (self.y.len(), self.columns, self.classes);
        let most = VALUES.max(rows * columns / LEAST_ROOM);
        if rows < ROWS * classes {
            return Vec::new();
        }
        let pays = |k: usize| k as f64 / (2.0 * classes as f64) <= PASSES * (1.0 - k as f64 / columns as f64);
        let all = std::iter::successors(Some(FEWEST), |k| Some(2 * k)).take_while(|k| 2 * k <= columns);
        all.filter(|&k| LEAST_PART * k >= columns && rows * k <= most && pays(k)).collect()
    }

    /// The rows within the directions; none where there is no memory for them.
    fn within(&self, principal: &Principal, cancel: &Cancel) -> Result<Option<Vec<f32>>> {
        const BLOCK: usize = 4096;
        let (rows, columns, k) = (self.y.len(), self.columns, principal.curvature.len());
        let mut z = Vec::new();
        if z.try_reserve_exact(rows * k).is_err() {
            return Ok(None);
        }
        z.resize(rows * k, 0.0);
        let scaled = principal.basis.chunks_exact(columns);
        let scaled: Vec<f32> =
            scaled.flat_map(|v| v.iter().zip(&self.scale).map(|(v, scale)| (f64::from(*v) * scale) as f32)).collect();
        let shift = |v: &[f32]| v.iter().zip(&self.mean).map(|(v, mean)| f64::from(*v) * mean).sum::<f64>() as f32;
        let shift: Vec<f32> = scaled.chunks_exact(columns).map(shift).collect();
        let mut scratch = Vec::new();
        for (block, z) in z.chunks_mut(BLOCK * k).enumerate() {
            let first = block * BLOCK;
            let x = self.data().x;
            let x = x.block(first, first + z.len() / k, columns, &mut scratch)?;
            self.inside(|| project(x, columns, &scaled, z, k, self.parallel, cancel))?;
            z.chunks_exact_mut(k).for_each(|z| z.iter_mut().zip(&shift).for_each(|(z, shift)| *z -= shift));
        }
        Ok(Some(z))
    }

    /// The problem of these coordinates of the rows.
    fn level<'z>(&'z self, z: &'z [f32], directions: usize, cancel: &Cancel) -> Result<Problem<'z>> {
        let options = FitOptions {
            threads: if self.parallel { 0 } else { 1 },
            sample_weights: self.data().weights.map(<[f32]>::to_vec),
            intercept: self.fixed.clone().map_or(Intercept::Free, Intercept::Fixed),
            ..FitOptions::default()
        };
        let level = self.inside(|| Problem::new(Rows::F32(z), directions, self.y, self.classes, &options, cancel))?;
        Ok(level.in_pool_of(self))
    }

    /// The preconditioner for this penalty, of classes as they were last seen, or are here if it is time to look.
    fn as_seen(&self, w: &[f64], l2: f64, way: &mut Way, cancel: &Cancel) -> Result<Option<Arc<Preconditioner>>> {
        let Some(sample) = self.sample(cancel)? else { return Ok(None) };
        if way.due() {
            way.of_classes = self.inside(|| sample.of_classes(w, cancel))?.map(Arc::new);
            (way.looks, way.since) = (way.looks + 1, 0);
        }
        let Some(of_classes) = way.of_classes.clone() else { return Ok(None) };
        Ok(self.inside(|| sample.with_columns(of_classes, l2, cancel))?.map(Arc::new))
    }

    /// Steps with this penalty until one promises little, relative to the objective.
    fn descend(
        &self,
        w: Vec<f64>,
        memory: Memory,
        l2: f64,
        little: f64,
        way: &mut Way,
        cancel: &Cancel,
    ) -> Result<(Vec<f64>, Memory)> {
        let mut pass = Pass::new(&self.data(), self.parallel);
        pass.keep_from(f32::INFINITY);
        // Until it is known what hardly counts.
        pass.leave_out(f32::MIN_POSITIVE);
        let mut evaluate = |w: &[f64], gradient: &mut [f64]| {
            let value = self.evaluate(&mut pass, false, w, l2, gradient, cancel)?;
            pass.leave_out(self.negligible(value.spread));
            Ok(value.objective)
        };
        let mut at = Descent::new(w, memory, &mut evaluate)?;
        let mut preconditioner = None;
        for step in 0..STEPS.1 {
            if preconditioner.is_none() || way.due() {
                preconditioner = self.as_seen(&at.w, l2, way, cancel)?;
                at.memory.rescale();
            }
            let Some(inverse) = &preconditioner else { break };
            let apply = |v: Vec<f32>| self.held(self.inside(|| inverse.apply_narrow(v)));
            let direction = at.memory.direction(&at.gradient, &apply);
            let slope = dot(&direction, &at.gradient);
            let enough = step >= STEPS.0 && -slope < little * at.objective;
            if enough || slope.is_nan() || slope >= 0.0 || !at.step(&direction, slope, &mut evaluate)? {
                break;
            }
            way.since += 1;
            way.tell(&at, l2, self.columns);
        }
        Ok((at.w, at.memory))
    }
}

impl Principal {
    /// Parameters, or a gradient, of all columns from those within the directions.
    fn outwards(&self, v: &[f32], columns: usize) -> Vec<f32> {
        let directions = self.curvature.len();
        let inside: Vec<f32> = v.chunks_exact(directions + 1).flat_map(|v| &v[..directions]).copied().collect();
        let classes = inside.len() / directions;
        let out = multiplied(&inside, (1, directions), &self.basis, (classes, columns), false);
        let rows = out.chunks_exact(columns).zip(v.chunks_exact(directions + 1));
        rows.flat_map(|(out, v)| out.iter().chain(&v[directions..])).copied().collect()
    }
}

/// Parameters with 0 for the directions that come in.
fn widened<T: Copy + Default>(v: &[T], old: usize, new: usize) -> Vec<T> {
    let mut out = vec![T::default(); v.len() / (old + 1) * (new + 1)];
    for (out, v) in out.chunks_exact_mut(new + 1).zip(v.chunks_exact(old + 1)) {
        out[..old].copy_from_slice(&v[..old]);
        out[new] = v[old];
    }
    out
}
