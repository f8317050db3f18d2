//! The quadratic model that a step of a sparse fit minimises: the Hessian over the few weights that take part, written
//! out, and its minimum under the penalty.
//!
//! A sparse fit has hundreds or a few thousand weights that may move, where the dense one has all. So their Hessian is
//! made explicitly, once per step, from the rows that still curve the loss and of each row only its probable classes;
//! what comes after costs no more reading. The minimum is found by coordinate descent, which finds out which weights are
//! 0, in turn with Newton steps on those that are not (one Cholesky factor), which end the slow convergence of
//! coordinate descent on correlated columns.
//!
//! Sums are taken in an order that depends on the data alone, for any number of threads.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::curvature::Active;
use crate::dense::{Cholesky, Product, axpy};
use crate::error::{Error, Result};
use crate::problem::Problem;

/// Most weights of a working set: their Hessian takes 64 MB.
pub const MOST: usize = 4096;
/// Rows of the result that one task makes.
const TILE: usize = 128;
/// Rows that are gathered at a time.
const DEPTH: usize = 256;
/// A row with more probable classes than this gives its Hessian's diagonal blocks only: the others are small then.
const MANY: usize = 16;
/// Most floats of the gathered rows, and most entries of their lists.
const FLOATS: usize = 32 << 20;
const ENTRIES: usize = 16 << 20;
/// Added to the Hessian's diagonal, relative to its mean: what float32 sums may be wrong by.
const DAMPING: f64 = 1e-6;
/// Most rounds of sweeps and a Newton step.
const ROUNDS: usize = 30;

/// A column and the class whose weight it carries; the column after the last is the bias.
pub type Member = (u32, u32);

/// The Hessian over a working set, penalty and damping included.
pub struct Model {
    h: Vec<f32>,
    size: usize,
    parallel: bool,
}

/// Rows of [`Gathered::z`], and factors.
type Entries = Vec<(u32, f32)>;

/// Rows of the working set's columns, and who meets whom in them.
struct Gathered {
    /// `[rows, width]`, centred and scaled; 1 in the place of the bias.
    z: Vec<f32>,
    width: usize,
    /// For every pair of classes that occurs.
    pairs: Vec<(usize, usize, Entries)>,
}

impl Model {
    /// From what a pass found active, over at most `rows` of its rows; `members` in the order of classes. With
    /// `one_column` (two classes), class 0 stands for the difference of both, half of it each way.
    ///
    /// # Errors
    /// Cancelled or past the deadline; rows that cannot be read.
    #[allow(clippy::too_many_arguments, reason = "everything that a model depends on, once each")]
    pub fn new(
        problem: &Problem,
        active: &[&Active],
        members: &[Member],
        classes: usize,
        one_column: bool,
        l2: f64,
        rows: usize,
        cancel: &Cancel,
    ) -> Result<Self> {
        let size = members.len();
        // Columns that occur, each once, and where each member's is among them.
        let mut used: Vec<u32> = members.iter().map(|m| m.1).collect();
        used.sort_unstable();
        used.dedup();
        let place: Vec<u32> = members.iter().map(|m| used.partition_point(|c| *c < m.1) as u32).collect();
        let mut starts = vec![0; classes + 1];
        members.iter().for_each(|m| starts[m.0 as usize + 1] += 1);
        (0..classes).for_each(|c| starts[c + 1] += starts[c]);
        let found = gather(problem, active, &used, &starts, one_column, rows, cancel)?;

        let mut tasks = Vec::new();
        for (index, &(c, _, _)) in found.pairs.iter().enumerate() {
            for first in (starts[c]..starts[c + 1]).step_by(TILE) {
                tasks.push((index, first, (first + TILE).min(starts[c + 1])));
            }
        }
        let work = |&(index, first, last): &(usize, usize, usize)| {
            let (_, d, entries) = &found.pairs[index];
            let (left, right) = (&place[first..last], &place[starts[*d]..starts[*d + 1]]);
            let mut out = vec![0f32; left.len() * right.len()];
            let (mut a, mut b) = (vec![0f32; DEPTH * left.len()], vec![0f32; DEPTH * right.len()]);
            let mut picked = Vec::with_capacity(DEPTH);
            for entries in entries.chunks(DEPTH) {
                picked.clear();
                for (i, &(row, factor)) in entries.iter().enumerate() {
                    let z = &found.z[row as usize * found.width..][..found.width];
                    let take = |to: &mut [f32], from: &[u32]| {
                        to.iter_mut().zip(from).for_each(|(to, &from)| *to = z[from as usize]);
                    };
                    take(&mut a[i * left.len()..(i + 1) * left.len()], left);
                    take(&mut b[i * right.len()..(i + 1) * right.len()], right);
                    picked.push((i as u32, factor));
                }
                let product = Product {
                    a: &a,
                    a_steps: (left.len(), 1),
                    b: &b,
                    b_step: right.len(),
                    picked: Some(&picked),
                    depth: entries.len(),
                    factor: 1.0,
                    shape: (left.len(), right.len()),
                    upper: false,
                };
                product.add_to(&mut out, right.len(), false, cancel)?;
            }
            Ok(out)
        };
        let made: Vec<Vec<f32>> = problem.inside(|| match problem.parallel {
            true => tasks.par_iter().map(work).collect::<Result<_>>(),
            false => tasks.iter().map(work).collect::<Result<_>>(),
        })?;

        let mut h = vec![0f32; size * size];
        for (&(index, first, _), made) in tasks.iter().zip(made) {
            let from = starts[found.pairs[index].1];
            let width = starts[found.pairs[index].1 + 1] - from;
            for (i, row) in made.chunks_exact(width).enumerate() {
                h[(first + i) * size + from..][..width].copy_from_slice(row);
                row.iter().enumerate().for_each(|(j, &v)| h[(from + j) * size + first + i] = v);
            }
        }
        let mean = (0..size).map(|i| f64::from(h[i * size + i])).sum::<f64>() / size as f64;
        for (i, member) in members.iter().enumerate() {
            let own = if member.1 as usize == problem.columns { 0.0 } else { l2 };
            h[i * size + i] += (own + (DAMPING * mean).max(1e-20)) as f32;
        }
        Ok(Self { h, size, parallel: problem.parallel })
    }

    /// The step `d` of least `gradient . d + d H d / 2 + sum l1 |u + d|`, until the largest entry of its smallest
    /// subgradient is `forcing` of what it was.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn minimise(&self, gradient: &[f64], u: &[f64], l1: &[f64], forcing: f64, cancel: &Cancel) -> Result<Vec<f64>> {
        let arch = Arch::new();
        let mut at = Descent { model: self, gradient, u, l1, d: vec![0.0; self.size], image: vec![0.0; self.size] };
        let enough = forcing * at.violation();
        for _ in 0..ROUNDS {
            cancel.check()?;
            for _ in 0..6 {
                arch.dispatch(Sweep(&mut at));
            }
            at.refresh();
            if at.violation() <= enough {
                break;
            }
            at.newton(cancel)?;
        }
        Ok(at.d)
    }
}

/// Reads the rows that take part.
fn gather(
    problem: &Problem,
    active: &[&Active],
    used: &[u32],
    starts: &[usize],
    one_column: bool,
    rows: usize,
    cancel: &Cancel,
) -> Result<Gathered> {
    let classes = starts.len() - 1;
    let has = |c: usize| starts[c + 1] > starts[c];
    let width = used.len();
    let (mut spread, mut kept, mut count, mut entries) = (0.0, 0.0, 0, 0);
    for part in active {
        (spread, kept, count) = (spread + part.spread, kept + part.kept, count + part.rows.len());
        entries += each(part).map(|(_, _, own)| pairs_of(own.len())).sum::<usize>();
    }
    // So many of them, evenly.
    let most = rows.min(FLOATS / width.max(1)).min(count * (ENTRIES / 16) / entries.max(1) * 16).max(1);
    let most = most.min(count);
    let mut lists: Vec<Entries> = vec![Vec::new(); classes * classes];
    let mut taken: Vec<u32> = Vec::new();
    let (mut weight_all, mut weight_taken) = (0.0, 0.0);
    for (index, (row, weight, own)) in active.iter().flat_map(|part| each(part)).enumerate() {
        weight_all += f64::from(weight);
        if index * most % count >= most {
            continue;
        }
        weight_taken += f64::from(weight);
        let at = taken.len() as u32;
        taken.push(row);
        if one_column {
            // The score's difference is twice the half that is kept.
            lists[0].push((at, 4.0 * weight * own[0].1 * (1.0 - own[0].1)));
            continue;
        }
        for (i, &(c, p)) in own.iter().enumerate().filter(|(_, (c, _))| has(*c as usize)) {
            lists[c as usize * (classes + 1)].push((at, weight * p * (1.0 - p)));
            if own.len() <= MANY {
                for &(d, q) in own[i + 1..].iter().filter(|(d, _)| has(*d as usize)) {
                    lists[c as usize * classes + d as usize].push((at, -weight * p * q));
                }
            }
        }
    }
    // What was left out counts as more of what was kept.
    let factor = if kept > 0.0 { spread / kept / problem.total * weight_all / weight_taken } else { 0.0 };
    let mut z = vec![0f32; taken.len() * width];
    let fill = |(rows, z): (&[u32], &mut [f32])| {
        cancel.check()?;
        let mut scratch = Vec::new();
        for (&row, z) in rows.iter().zip(z.chunks_exact_mut(width)) {
            problem.columns_of(row as usize, used, z, &mut scratch)?;
        }
        Ok::<(), Error>(())
    };
    problem.inside(|| match problem.parallel {
        true => taken.par_chunks(DEPTH).zip(z.par_chunks_mut(DEPTH * width)).try_for_each(fill),
        false => taken.chunks(DEPTH).zip(z.chunks_mut(DEPTH * width)).try_for_each(fill),
    })?;
    let pairs = lists
        .into_iter()
        .enumerate()
        .filter(|(_, list)| !list.is_empty())
        .map(|(index, mut list)| {
            list.iter_mut().for_each(|entry| entry.1 = (f64::from(entry.1) * factor) as f32);
            (index / classes, index % classes, list)
        })
        .collect();
    Ok(Gathered { z, width, pairs })
}

/// Row, weight, and classes with their probabilities.
fn each(part: &Active) -> impl Iterator<Item = (u32, f32, &[(u32, f32)])> {
    part.rows.iter().enumerate().map(|(i, &(row, start, weight))| {
        let end = part.rows.get(i + 1).map_or(part.classes.len(), |next| next.1 as usize);
        (row, weight, &part.classes[start as usize..end])
    })
}

fn pairs_of(classes: usize) -> usize {
    if classes <= MANY { classes * (classes + 1) / 2 } else { classes }
}

/// Where the search for a minimum is.
struct Descent<'a> {
    model: &'a Model,
    gradient: &'a [f64],
    u: &'a [f64],
    l1: &'a [f64],
    d: Vec<f64>,
    /// H times `d`.
    image: Vec<f32>,
}

impl Descent<'_> {
    fn slope(&self, j: usize) -> f64 {
        self.gradient[j] + f64::from(self.image[j])
    }

    /// Largest entry of the smallest subgradient.
    fn violation(&self) -> f64 {
        (0..self.d.len())
            .map(|j| subgradient(self.slope(j), self.u[j] + self.d[j], self.l1[j]).abs())
            .fold(0.0, f64::max)
    }

    /// The image again, without what float32 has added up.
    fn refresh(&mut self) {
        let size = self.model.size;
        let mut image = vec![0f64; size];
        for (row, &d) in self.model.h.chunks_exact(size).zip(&self.d).filter(|(_, d)| **d != 0.0) {
            image.iter_mut().zip(row).for_each(|(sum, &h)| *sum += d * f64::from(h));
        }
        self.image.iter_mut().zip(image).for_each(|(to, from)| *to = from as f32);
    }

    /// A Newton step of the weights that are not 0, as far as none changes its sign.
    fn newton(&mut self, cancel: &Cancel) -> Result<()> {
        let size = self.model.size;
        let free: Vec<usize> = (0..size).filter(|&j| self.l1[j] == 0.0 || self.u[j] + self.d[j] != 0.0).collect();
        let count = free.len();
        let rest = |at: &Self, j: usize| subgradient(at.slope(j), at.u[j] + at.d[j], at.l1[j]);
        let mut damping = 0f32;
        for _ in 0..3 {
            let mut h = vec![0f32; count * count];
            for (i, &row) in free.iter().enumerate() {
                let from = &self.model.h[row * size..(row + 1) * size];
                h[i * count..(i + 1) * count].iter_mut().zip(&free).for_each(|(to, &j)| *to = from[j]);
                h[i * count + i] *= 1.0 + damping;
            }
            let Some(cholesky) = Cholesky::new(h, count, self.model.parallel, cancel)? else {
                damping = (100.0 * damping).max(1e-5);
                continue;
            };
            let largest = free.iter().map(|&j| rest(self, j).abs()).fold(f64::MIN_POSITIVE, f64::max);
            let mut step: Vec<f32> = free.iter().map(|&j| (-rest(self, j) / largest) as f32).collect();
            cholesky.solve(&mut step, false);
            let step: Vec<f64> = step.iter().map(|&s| f64::from(s) * largest).collect();
            let mut length = 1f64;
            for (&j, &s) in free.iter().zip(&step).filter(|(j, _)| self.l1[**j] > 0.0) {
                let value = self.u[j] + self.d[j];
                if (value + s) * value < 0.0 {
                    length = length.min(-value / s);
                }
            }
            for (&j, &s) in free.iter().zip(&step) {
                let value = self.u[j] + self.d[j] + length * s;
                let crossed = self.l1[j] > 0.0 && value * (self.u[j] + self.d[j]) <= 0.0;
                self.d[j] = if crossed { -self.u[j] } else { self.d[j] + length * s };
            }
            self.refresh();
            break;
        }
        Ok(())
    }
}

/// The smallest subgradient of a coordinate, from the slope of the smooth part.
pub fn subgradient(slope: f64, value: f64, l1: f64) -> f64 {
    if value != 0.0 { slope + l1 * value.signum() } else { slope.signum() * (slope.abs() - l1).max(0.0) }
}

/// One sweep of coordinate descent.
struct Sweep<'a, 'b>(&'a mut Descent<'b>);

impl WithSimd for Sweep<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let at = self.0;
        let size = at.model.size;
        for j in 0..size {
            let row = &at.model.h[j * size..(j + 1) * size];
            let bend = f64::from(row[j]);
            let old = at.u[j] + at.d[j];
            let wanted = old - (at.gradient[j] + f64::from(at.image[j])) / bend;
            let new = wanted.signum() * (wanted.abs() - at.l1[j] / bend).max(0.0);
            if new != old {
                // A weight that becomes 0 does so exactly.
                let d = if new == 0.0 { -at.u[j] } else { at.d[j] + (new - old) };
                axpy(simd, &mut at.image, (d - at.d[j]) as f32, row);
                at.d[j] = d;
            }
        }
    }
}
