//! What makes the fit of [`crate::solver`] short: an approximate inverse Hessian, from a sample of the rows.
//!
//! Features are correlated: a hundred directions of most variance (found by subspace iteration on the sample's Gram
//! matrix) hold nearly all that makes the problem ill-conditioned. Within them the Hessian over all classes is built and
//! factored. What is left gets one Cholesky factor of the Gram matrix, the same for all classes, or, where that would take longer than
//! the passes, one number. The problem within the
//! directions is also solved on the sample, for a start: a pass there costs a tenth and less of one over all columns, and a
//! Hessian made at that optimum serves to the end, where one made at the prior had to be made again.
//!
//! A row's Hessian is a sum over pairs of classes, `p_a p_b (e_a - e_b)(e_a - e_b)'`: few pairs count in a row, and
//! leaving out the others keeps it positive. Adding the same to all classes changes no probability; both sides are
//! projected to where classes sum to 0, and the Hessian gets a stiffness along what is left out, which leaves it alone
//! elsewhere and makes it well-conditioned.
//!
//! The sample and everything else is fixed by the data: no chance, and the same bits for any number of threads.

use std::ops::Range;
use std::sync::Arc;

use pulp::Arch;

use crate::blocks::Blocks;
use crate::cancel::Cancel;
use crate::couplings::couplings;
use crate::dense::{Cholesky, Product, add_combinations, add_product, inner_product, inner_products, orthonormalise};
use crate::descent::{Descent, Memory};
use crate::error::Result;
use crate::moments;
use crate::pass::{Data, Pass, exp, project, weight};
use crate::problem::{Problem, dot};
use crate::rows::Rows;

/// Most rows of the sample, and most values in it.
const ROWS: usize = 8192;
const VALUES: usize = 32 << 20;
/// Most steps towards the optimum within the directions.
const START_PASSES: usize = 60;
/// Most directions, with the bias, and most unknowns (these times classes) of the factored Hessian.
const DIRECTIONS: usize = 128;
const UNKNOWNS: usize = 1300;
/// Fewer rows are worth fewer unknowns, a third as many: a factor takes longer than their passes. So many at least.
const FEWEST_UNKNOWNS: usize = 250;
/// Where a pass takes fewer multiply-adds than this: as many as took least time, a multiple of their root; at least the usual number.
/// Longer passes are worth all that can be.
const SHORT_PASS: f64 = 1.2e8;
/// How many times their mean's square the mean square of the columns' variances is where these are so unlike that one number
/// for all that is outside the directions is a poor one.
const UNLIKE: f64 = 50.0;
const PAYING: f64 = 0.06;
const USUAL_UNKNOWNS: usize = 350;
/// Fewest rows that tell which classes are confused.
const FEWEST_CONFUSED: usize = 2048;
/// Below this many directions it has not paid.
const FEWEST: usize = 15;
/// Most columns for which what is outside the directions gets a Cholesky factor.
const TAIL_COLUMNS: usize = 2560;
/// So many passes over all rows may the Gram matrix and the factor of what is outside the directions cost.
const TAIL_PASSES: usize = 8;
/// Most values of the products of all pairs of directions, where a Hessian is made from them.
const PRODUCT_VALUES: usize = 8 << 20;
/// Of so many rows at once.
const AT_ONCE: usize = 128;
/// Values of a preconditioner, or of steps, that are too many to be kept between fits.
pub const HEAVY: usize = 16 << 20;
/// Pairs of classes whose probabilities' product is below this are left out of a row's Hessian.
const PAIR: f32 = 1e-3;

/// Rows, centred and scaled, and their directions of most variance.
pub struct Sample {
    rows: usize,
    columns: usize,
    classes: usize,
    x: Vec<f32>,
    y: Vec<u32>,
    weights: Vec<f32>,
    total: f64,
    /// Upper triangle of the weighted mean of `x x'`, where there is a tail.
    gram: Vec<f32>,
    /// `[directions, columns]`, orthonormal; none where every column is a direction.
    basis: Option<Arc<Vec<f32>>>,
    directions: usize,
    /// `[rows, directions + 1]`: the rows in these directions, and 1.
    z: Vec<f32>,
    /// Variance of all columns together, and whether they are alike.
    variance: f64,
    alike: bool,
    /// Variance outside the directions.
    rest: f32,
    /// What stands for the bias in `z`: 1, or 0 where it is given.
    constant: f32,
    reach: Reach,
    parallel: bool,
}

/// What is known beyond what classes and columns have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reach {
    /// The Hessian, of all columns.
    Columns,
    /// The Hessian within the directions.
    Directions,
    /// What classes have to do with each other.
    Classes,
}

/// Directions of most variance.
pub struct Principal {
    /// `[directions, columns]`, orthonormal.
    pub basis: Vec<f32>,
    /// What each adds to the Hessian where all classes are alike.
    pub curvature: Vec<f64>,
}

/// What a sample is taken of.
pub struct Source<'a> {
    /// The rows.
    pub data: &'a Data<'a>,
    /// Mean of each column.
    pub mean: &'a [f64],
    /// Factor of each column.
    pub scale: &'a [f64],
    /// Variance of each column, so scaled.
    pub variance: &'a [f64],
    /// Whether the bias is fitted.
    pub free_bias: bool,
    /// Whether the current rayon pool may be used.
    pub parallel: bool,
}

impl Sample {
    /// None where it would not pay or cannot be: wide features of very many classes, few rows, a class that the sample
    /// misses.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn new(source: &Source, cancel: &Cancel) -> Result<Option<Self>> {
        let (columns, classes, parallel) = (source.data.columns, source.data.classes, source.parallel);
        let picked = pick(source.data, ROWS.min(VALUES / columns));
        let most = (picked.len() / 3).clamp(FEWEST_UNKNOWNS, UNKNOWNS);
        let whole = (columns + 1) * classes <= most;
        // As many as pay, at least enough for some directions.
        let work = (source.data.y.len() * columns * classes) as f64;
        let variance: f64 = source.variance.iter().sum();
        let squares: f64 = source.variance.iter().map(|v| v * v).sum();
        let alike = columns as f64 * squares < UNLIKE * variance * variance;
        let pay = if work < SHORT_PASS && alike { (PAYING * work.sqrt()) as usize } else { most };
        let unknowns = pay.max(USUAL_UNKNOWNS).max((FEWEST + 1) * classes).min(most);
        // With the bias a whole number of vectors.
        let levels = (DIRECTIONS.min(unknowns / classes) / 16 * 16).saturating_sub(1);
        let directions = if whole { columns } else { levels };
        let two_level = !whole && directions >= FEWEST && directions < columns;
        let reach = match (whole, two_level) {
            (true, _) => Reach::Columns,
            (_, true) => Reach::Directions,
            _ if columns > TAIL_COLUMNS => return Ok(None),
            _ => Reach::Classes,
        };
        if whole || two_level {
            let mut found = vec![false; classes];
            picked.iter().for_each(|&row| found[source.data.y[row] as usize] = true);
            if found.contains(&false) || picked.len() < 2 * classes {
                return Ok(None);
            }
        }
        let rows = picked.len();
        let mut x = Vec::with_capacity(rows * columns);
        let (mut scratch, arch) = (Vec::new(), Arch::new());
        for &row in &picked {
            let from = source.data.x.block(row, row + 1, columns, &mut scratch)?;
            arch.dispatch(|| {
                let values = from.iter().zip(source.mean).zip(source.scale);
                x.extend(values.map(|((x, mean), scale)| ((f64::from(*x) - mean) * scale) as f32));
            });
        }
        let y = picked.iter().map(|&row| source.data.y[row]).collect();
        let weights: Vec<f32> = picked.iter().map(|&row| weight(source.data.weights, row)).collect();
        let total = weights.iter().map(|&w| f64::from(w)).sum();
        let sample = Self {
            rows,
            columns,
            classes,
            x,
            y,
            weights,
            total,
            gram: Vec::new(),
            basis: None,
            directions,
            z: Vec::new(),
            variance,
            alike,
            rest: 0.0,
            constant: if source.free_bias { 1.0 } else { 0.0 },
            reach,
            parallel,
        };
        // Few rows: the Gram matrix alone would take as long as all passes.
        let pass = 2 * source.data.y.len() * columns * classes;
        let gram = rows * columns * columns / 2 + columns * columns * columns / 6;
        let brief = gram > TAIL_PASSES * pass && 5 * rows * columns * directions < gram;
        Ok(Some(match (whole, two_level) {
            (true, _) => sample.all_columns(),
            (_, true) if brief => sample.most_variance_of_few(cancel)?,
            (_, true) => sample.most_variance(cancel)?,
            _ => sample.classes_and_columns(cancel)?,
        }))
    }

    fn all_columns(mut self) -> Self {
        self.z = Vec::with_capacity(self.rows * (self.columns + 1));
        for x in self.x.chunks_exact(self.columns) {
            self.z.extend_from_slice(x);
            self.z.push(self.constant);
        }
        self
    }

    /// Many classes: what they have in common.
    fn classes_and_columns(mut self, cancel: &Cancel) -> Result<Self> {
        self.directions = self.columns;
        self = self.all_columns();
        let weighted = self.mean_weights(self.rows);
        self.gram = self.second_moments(&weighted, self.parallel, cancel)?;
        Ok(self)
    }

    /// The first rows and their shares.
    fn mean_weights(&self, rows: usize) -> Vec<(u32, f32)> {
        shares(&self.weights[..rows])
    }

    /// Upper triangle of the weighted sum of `z z'`.
    fn second_moments(&self, weighted: &[(u32, f32)], parallel: bool, cancel: &Cancel) -> Result<Vec<f32>> {
        second_moments(&self.z, self.directions + 1, weighted, parallel, cancel)
    }

    fn most_variance(mut self, cancel: &Cancel) -> Result<Self> {
        let (columns, k, parallel) = (self.columns, self.directions, self.parallel);
        let weighted = self.mean_weights(self.rows);
        let mut gram = second_moments(&self.x, columns, &weighted, parallel, cancel)?;
        mirror(&mut gram, columns);
        let (basis, image) = subspace(&gram, columns, k, 3, parallel, cancel)?;
        let trace: f32 = (0..columns).map(|i| gram[i * columns + i]).sum();
        let within: f32 = basis.iter().zip(&image).map(|(a, b)| a * b).sum();
        self.rest = ((trace - within) / (columns - k) as f32).max(0.0);
        self.project(&basis, cancel)?;
        (self.gram, self.basis) = (gram, Some(Arc::new(basis)));
        Ok(self)
    }

    /// Many classes: so many directions of most variance, if the first one's curvature is at least `steep`.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn principal(&self, directions: usize, steep: f64, cancel: &Cancel) -> Result<Option<Principal>> {
        let (columns, width) = (self.columns, self.columns + 1);
        if self.reach != Reach::Classes {
            return Ok(None);
        }
        let mut gram: Vec<f32> =
            self.gram.chunks_exact(width).take(columns).flat_map(|row| &row[..columns]).copied().collect();
        mirror(&mut gram, columns);
        let share = 1.0 / self.classes as f64;
        let trace: f64 = (0..columns).map(|i| f64::from(gram[i * columns + i])).sum();
        if share * trace < steep {
            return Ok(None);
        }
        let (basis, image) = subspace(&gram, columns, directions, 3, self.parallel, cancel)?;
        let variance =
            |(v, image): (&[f32], &[f32])| v.iter().zip(image).map(|(v, image)| f64::from(v * image)).sum::<f64>();
        let pairs = basis.chunks_exact(columns).zip(image.chunks_exact(columns));
        let curvature: Vec<f64> = pairs.map(variance).map(|variance| share * variance).collect();
        Ok((curvature[0] >= steep).then_some(Principal { basis, curvature }))
    }

    /// As [`Sample::most_variance`] from the rows themselves, without a Gram matrix and what is made from it.
    fn most_variance_of_few(mut self, cancel: &Cancel) -> Result<Self> {
        let (columns, k, parallel) = (self.columns, self.directions, self.parallel);
        let weighted = self.mean_weights(self.rows);
        // Half of the rows, which are in no order, tell the directions nearly as well.
        let half = self.rows.div_ceil(2);
        let rows = &self.x[..half * columns];
        // Rows added up in k groups, each with a sign, are most in the directions that rows are most in.
        let mut basis = vec![0.0; k * columns];
        Arch::new().dispatch(|| {
            for ((x, &(_, weight)), pattern) in rows.chunks_exact(columns).zip(&weighted).zip(without_pattern(half)) {
                let group = (pattern.abs() * k as f32) as usize % k;
                let factor = weight.copysign(pattern);
                let basis = &mut basis[group * columns..][..columns];
                basis.iter_mut().zip(x).for_each(|(basis, x)| *basis += factor * x);
            }
        });
        orthonormalise(&mut basis, columns);
        let mut z = vec![0f32; half * k];
        project(rows, columns, &basis, &mut z, k, parallel, cancel)?;
        basis.fill(0.0);
        let product = Product {
            a: &z,
            a_steps: (k, 1),
            b: rows,
            b_step: columns,
            picked: Some(&weighted[..half]),
            depth: 0,
            factor: 1.0,
            shape: (k, columns),
            upper: false,
        };
        product.add_to(&mut basis, columns, parallel, cancel)?;
        orthonormalise(&mut basis, columns);
        // Gradients are sums of rows, so outside the directions it is the variance along such a sum that counts.
        let mut sum = vec![0f32; columns];
        let signs = without_pattern(half);
        Arch::new().dispatch(|| {
            for ((x, &(_, weight)), sign) in rows.chunks_exact(columns).zip(&weighted).zip(&signs) {
                let factor = weight.copysign(*sign);
                sum.iter_mut().zip(x).for_each(|(sum, x)| *sum += factor * x);
            }
        });
        let mut inside = vec![0f32; k];
        for _ in 0..2 {
            inner_products(&sum, &basis, columns, &mut inside);
            add_combinations(&mut sum, -1.0, &inside, &basis, columns);
        }
        let length = inner_product(&sum, &sum).sqrt() as f32;
        let scale = if length > 0.0 && length.is_finite() { 1.0 / length } else { 0.0 };
        basis.extend(sum.iter().map(|v| v * scale));
        self.z = vec![0.0; self.rows * (k + 1)];
        project(&self.x, columns, &basis, &mut self.z, k + 1, parallel, cancel)?;
        basis.truncate(k * columns);
        let constant = self.constant;
        for (z, &(_, weight)) in self.z.chunks_exact_mut(k + 1).zip(&weighted) {
            self.rest += weight * z[k] * z[k];
            z[k] = constant;
        }
        if !self.alike {
            // Such a sum would be that of the largest columns.
            let square = |z: &[f32]| inner_product(&z[..k], &z[..k]);
            let rows = self.z.chunks_exact(k + 1).zip(&weighted);
            let within: f64 = rows.map(|(z, &(_, weight))| f64::from(weight) * square(z)).sum();
            self.rest = ((self.variance - within) / (columns - k) as f64).max(0.0) as f32;
        }
        self.basis = Some(Arc::new(basis));
        Ok(self)
    }

    /// Fills `z` for these directions.
    fn project(&mut self, basis: &[f32], cancel: &Cancel) -> Result<()> {
        let (columns, k, parallel) = (self.columns, self.directions, self.parallel);
        self.z = vec![0.0; self.rows * (k + 1)];
        project(&self.x, columns, basis, &mut self.z, k + 1, parallel, cancel)?;
        let constant = self.constant;
        self.z.chunks_exact_mut(k + 1).for_each(|z| z[k] = constant);
        Ok(())
    }

    /// The optimum on the sample within the directions, as parameters of all columns, and the preconditioner there.
    ///
    /// L-BFGS, as for all columns: around one matrix for all classes at first, then around the Hessian, once or twice.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn start(&self, l2: f64, cancel: &Cancel) -> Result<Option<(Vec<f64>, Option<Preconditioner>)>> {
        if self.reach == Reach::Classes {
            return Ok(None);
        }
        let (width, classes) = (self.directions + 1, self.classes);
        let data = Data {
            x: Rows::F32(&self.z),
            columns: width,
            y: &self.y,
            classes,
            weights: Some(&self.weights).filter(|weights| weights.iter().any(|w| *w != 1.0)).map(|w| &w[..]),
        };
        let mut pass = Pass::new(&data, self.parallel);
        pass.keep_from(f32::INFINITY);
        let mut shares = vec![0f64; classes];
        self.y.iter().zip(&self.weights).for_each(|(&label, &w)| shares[label as usize] += f64::from(w) / self.total);
        let mut w = vec![0f64; classes * width];
        if self.constant > 0.0 {
            w.chunks_exact_mut(width).zip(&shares).for_each(|(w, share)| w[width - 1] = share.ln());
        }
        let spread = (1.0 - shares.iter().map(|s| s * s).sum::<f64>()) / (classes - 1) as f64;
        let Some(common) = self.common(spread as f32, l2, cancel)? else { return Ok(None) };
        let mut within: Option<(Cholesky, Rest)> = None;
        let mut work = 0.0;
        let no_bias = vec![0f64; classes];
        let mut evaluate = |w: &[f64], gradient: &mut [f64]| -> Result<f64> {
            let narrow: Vec<f32> = w.iter().map(|w| *w as f32).collect();
            let sums = pass.run(&data, &narrow, &no_bias, cancel)?;
            let mut square = 0.0;
            for (i, ((g, sum), w)) in gradient.iter_mut().zip(sums.gradient).zip(w).enumerate() {
                let own = if (i + 1) % width == 0 { 0.0 } else { l2 };
                *g = sum / self.total + own * w;
                square += own * w * w;
            }
            Ok(sums.loss / self.total + 0.5 * square)
        };
        let size = w.len();
        let mut at = Descent::new(w, Memory::new(size), &mut evaluate)?;
        let (mut made, mut since) = (0, 0);
        for _ in 0..START_PASSES {
            let apply = |mut all: Vec<f32>| {
                all.chunks_exact_mut(size).for_each(|all| sum_to_zero(all, width));
                within.as_ref().map_or(&common, |within| &within.0).solve(&mut all, self.parallel);
                all.chunks_exact_mut(size).for_each(|all| sum_to_zero(all, width));
                all
            };
            if since == 0 {
                at.memory.rescale();
            }
            let direction = at.memory.direction(&at.gradient, &apply);
            let slope = dot(&direction, &at.gradient);
            if slope.is_nan() || slope >= 0.0 {
                break;
            }
            let near = -slope < if made == 0 { 1e-3 } else { 1e-4 } * at.objective;
            if near && made > 0 {
                break;
            }
            if near || since == if made == 0 { 20 } else { 8 } {
                if made == 3 {
                    break;
                }
                let narrow: Vec<f32> = at.w.iter().map(|w| *w as f32).collect();
                let p = self.probabilities_within(&narrow, cancel)?;
                let spread = self.spread(&p);
                let Some(found) = self.hessian(&p, spread, l2, cancel)? else { break };
                work = found.1;
                within = Some((found.0, self.rest_of(&p, spread, cancel)?));
                (made, since) = (made + 1, 0);
                continue;
            }
            if !at.step(&direction, slope, &mut evaluate)? {
                break;
            }
            since += 1;
        }
        let w = at.w;
        let preconditioner = match within {
            Some((within, rest)) => self.both_levels(within, rest, work, l2, cancel)?,
            None => None,
        };
        let mut out = vec![0f32; classes * self.columns];
        let weights: Vec<f32> = w.chunks_exact(width).flat_map(|w| &w[..self.directions]).map(|w| *w as f32).collect();
        match &self.basis {
            Some(basis) => add_combinations(&mut out, 1.0, &weights, basis, self.columns),
            None => out = weights,
        }
        let bias = w.chunks_exact(width).map(|w| if self.constant > 0.0 { w[self.directions] } else { 0.0 });
        let parameters = out.chunks_exact(self.columns).zip(bias);
        let start = parameters.flat_map(|(out, bias)| out.iter().map(|&v| v.into()).chain([bias])).collect();
        Ok(Some((start, preconditioner)))
    }

    /// One matrix for all classes: the rows' second moments, as if every class had the same share of every row.
    fn common(&self, spread: f32, l2: f64, cancel: &Cancel) -> Result<Option<Cholesky>> {
        let width = self.directions + 1;
        let mut moments = self.second_moments(&self.mean_weights(self.rows), self.parallel, cancel)?;
        moments.iter_mut().for_each(|v| *v *= spread);
        let bias = of_bias(moments[width * width - 1]);
        (0..width).for_each(|i| moments[i * width + i] += if i + 1 < width { l2 as f32 } else { bias });
        factored(moments, width, self.parallel, cancel)
    }

    /// Probabilities of the sample's rows within the directions, at `w` of all classes.
    fn probabilities_within(&self, w: &[f32], cancel: &Cancel) -> Result<Vec<f32>> {
        let mut p = vec![0f32; self.rows * self.classes];
        project(&self.z, self.directions + 1, w, &mut p, self.classes, self.parallel, cancel)?;
        softmax(&mut p, self.classes);
        Ok(p)
    }

    /// The factored Hessian within the directions, and the multiply-adds that it took, at the rows' probabilities `p` and
    /// their [`Sample::spread`].
    fn hessian(&self, p: &[f32], spread: f32, l2: f64, cancel: &Cancel) -> Result<Option<(Cholesky, f64)>> {
        let (width, classes, rows, total) = (self.directions + 1, self.classes, self.rows, self.total);
        let size = width * classes;
        let mut h = vec![0f32; size * size];
        let mut work = (size as f64).powi(3) / 6.0;
        // Of a pair of classes, the block that stands on the diagonal for both, and minus beside it.
        let mut add = |a: usize, b: usize, block: &dyn Fn(usize, usize) -> f32| {
            for i in 0..width {
                let (own, other) = ((a * width + i) * size, (b * width + i) * size);
                for j in i..width {
                    let v = block(i, j);
                    h[own + a * width + j] += v;
                    h[other + b * width + j] += v;
                    h[own + b * width + j] -= v;
                    if j > i {
                        h[(a * width + j) * size + b * width + i] -= v;
                    }
                }
            }
        };
        let mut picked = Vec::new();
        let moments = |picked: &[(u32, f32)]| self.second_moments(picked, false, cancel);
        // Of less to share out, less is too little to count.
        let least = PAIR.min(0.01 * classes as f32 * spread);
        let each = |picked: usize| (picked * width.next_multiple_of(8) * width.next_multiple_of(48)) as f64;
        let pairs = classes * (classes - 1) / 2;
        let triangle = width * (width + 1) / 2;
        let count = || p.chunks_exact(classes).map(|p| counting_pairs(p, least)).sum::<usize>();
        let counts = Arch::new().dispatch(count);
        let together = (rows * triangle.next_multiple_of(8) * pairs.next_multiple_of(48)) as f64;
        let levels = self.basis.is_some();
        if levels && p.chunks_exact(classes).all(|row| row == &p[..classes]) {
            let found = moments(&self.mean_weights(self.rows))?;
            work += each(rows);
            for a in 0..classes {
                (a + 1..classes).for_each(|b| add(a, b, &|i, j| p[a] * p[b] * found[i * width + j]));
            }
        } else if levels && rows * triangle <= PRODUCT_VALUES && together < 2.0 * each(counts) {
            // All pairs count in most rows: one product of the rows' pairs of directions and their pairs of classes.
            let mut of_classes = Vec::with_capacity(rows * pairs);
            Arch::new().dispatch(|| {
                for (p, &weight) in p.chunks_exact(classes).zip(&self.weights) {
                    let weight = (f64::from(weight) / total) as f32;
                    (0..classes).for_each(|a| of_classes.extend(p[a + 1..].iter().map(|other| weight * p[a] * other)));
                }
            });
            let found = couplings(&self.z, width, &of_classes, pairs, cancel)?;
            let (found, step) = match found {
                Some(found) => (found.sums, found.step),
                None => (self.couplings(&of_classes, pairs, cancel)?, pairs),
            };
            work += together;
            let start = |i: usize| i * width - i * (i + 1) / 2;
            let mut pair = 0;
            for a in 0..classes {
                for b in a + 1..classes {
                    add(a, b, &|i, j| found[(start(i) + j) * step + pair]);
                    pair += 1;
                }
            }
        } else {
            for a in 0..classes {
                for b in a + 1..classes {
                    picked.clear();
                    let (mut all, mut kept) = (0f64, 0f64);
                    for (row, (p, &weight)) in (0u32..).zip(p.chunks_exact(classes).zip(&self.weights)) {
                        let product = p[a] * p[b];
                        all += f64::from(product * weight);
                        if product > least {
                            kept += f64::from(product * weight);
                            picked.push((row, product * weight));
                        }
                    }
                    if kept <= 0.0 {
                        continue;
                    }
                    work += (picked.len() * width * width / 2) as f64;
                    let factor = (all / kept / total) as f32;
                    picked.iter_mut().for_each(|(_, w)| *w *= factor);
                    let found = moments(&picked)?;
                    add(a, b, &|i, j| found[i * width + j]);
                }
            }
        }
        for i in 0..width {
            let own = |a: usize| (a * width + i) * (size + 1);
            let mean = (0..classes).map(|a| h[own(a)]).sum::<f32>() / classes as f32;
            for a in 0..classes {
                for b in a..classes {
                    h[(a * width + i) * size + b * width + i] += mean / classes as f32;
                }
                h[own(a)] += if i + 1 < width { l2 as f32 } else { of_bias(mean) };
            }
        }
        Ok(factored(h, size, self.parallel, cancel)?.map(|factor| (factor, work)))
    }

    /// As [`couplings`], in float32.
    fn couplings(&self, shares: &[f32], pairs: usize, cancel: &Cancel) -> Result<Vec<f32>> {
        let width = self.directions + 1;
        let triangle = width * (width + 1) / 2;
        let mut found = vec![0f32; triangle * pairs];
        // Some rows at a time: all of them take more memory than the rows themselves.
        let mut of_directions = Vec::new();
        for (z, shares) in self.z.chunks(AT_ONCE * width).zip(shares.chunks(AT_ONCE * pairs)) {
            of_directions.clear();
            for z in z.chunks_exact(width) {
                (0..width).for_each(|i| of_directions.extend(z[i..].iter().map(|other| z[i] * other)));
            }
            let product = Product {
                a: &of_directions,
                a_steps: (triangle, 1),
                b: shares,
                b_step: pairs,
                picked: None,
                depth: z.len() / width,
                factor: 1.0,
                shape: (triangle, pairs),
                upper: false,
            };
            product.add_to(&mut found, pairs, self.parallel, cancel)?;
        }
        Ok(found)
    }

    /// The preconditioner for this penalty at these parameters of all columns.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn precondition(&self, w: &[f64], l2: f64, cancel: &Cancel) -> Result<Option<Preconditioner>> {
        if self.reach == Reach::Classes {
            return self.precondition_classes_and_columns(w, l2, cancel);
        }
        let (columns, classes) = (self.columns, self.classes);
        let p = self.sample_probabilities(w, 0..self.rows, cancel)?;
        let spread = self.spread(&p);
        let Some((within, work)) = self.hessian(&p, spread, l2, cancel)? else { return Ok(None) };
        let work = work + (self.rows * columns * classes) as f64;
        let rest = self.rest_of(&p, spread, cancel)?;
        self.both_levels(within, rest, work, l2, cancel)
    }

    /// Mean over the sample's rows, and classes, of `p (1 - p)`.
    fn spread(&self, p: &[f32]) -> f32 {
        let of_row = |(p, weight): (&[f32], &f32)| f64::from(weight * p.iter().map(|p| p * (1.0 - p)).sum::<f32>());
        let sum = Arch::new().dispatch(|| p.chunks_exact(self.classes).zip(&self.weights).map(of_row).sum::<f64>());
        (sum / self.total / self.classes as f64) as f32
    }

    /// What is known of the classes outside the directions.
    fn rest_of(&self, p: &[f32], spread: f32, cancel: &Cancel) -> Result<Rest> {
        if self.basis.is_none() {
            return Ok(Rest { spread, of_classes: Vec::new() });
        }
        let weighted = self.mean_weights(self.rows);
        let mean = mean_of(p, &weighted, self.classes);
        let spread = spread * self.classes as f32 / (self.classes - 1) as f32;
        let factor = confusions(p, &mean, &weighted, 1.0, self.parallel, cancel)?;
        let of_classes = factor.map_or_else(Vec::new, |factor| factor.inverse(2.0 * spread, self.parallel));
        Ok(Rest { spread, of_classes })
    }

    /// What is within the directions, and what is outside.
    fn both_levels(
        &self,
        within: Cholesky,
        rest: Rest,
        mut work: f64,
        l2: f64,
        cancel: &Cancel,
    ) -> Result<Option<Preconditioner>> {
        let columns = self.columns;
        let Rest { spread, of_classes } = rest;
        let mut tail = None;
        if !self.gram.is_empty() && columns <= TAIL_COLUMNS {
            work += (columns as f64).powi(3) / 6.0;
            let mut gram: Vec<f32> = self.gram.iter().map(|v| v * spread).collect();
            (0..columns).for_each(|i| gram[i * columns + i] += l2 as f32);
            tail = factored(gram, columns, self.parallel, cancel)?;
        }
        let scalar = 1.0 / (spread * self.rest + l2 as f32);
        let inverse = match self.basis.clone() {
            None => Inverse::Whole(within),
            Some(_) if !scalar.is_finite() => return Ok(None),
            Some(basis) => {
                let outside = Outside { of_classes, tail, scalar };
                Inverse::Levels { basis, directions: self.directions, within, outside }
            }
        };
        Ok(Some(self.preconditioner(inverse, work)))
    }

    /// Probabilities of these rows of the sample.
    fn sample_probabilities(&self, w: &[f64], rows: Range<usize>, cancel: &Cancel) -> Result<Vec<f32>> {
        let (columns, classes) = (self.columns, self.classes);
        let weights: Vec<f32> = w.chunks_exact(columns + 1).flat_map(|w| &w[..columns]).map(|w| *w as f32).collect();
        let x = &self.x[rows.start * columns..rows.end * columns];
        let mut p = vec![0f32; rows.len() * classes];
        project(x, columns, &weights, &mut p, classes, self.parallel, cancel)?;
        for p in p.chunks_exact_mut(classes) {
            p.iter_mut().zip(w.chunks_exact(columns + 1)).for_each(|(p, w)| *p += w[columns] as f32);
        }
        softmax(&mut p, classes);
        Ok(p)
    }

    /// As if the rows' confusions of classes had nothing to do with the rows' columns (Martens and Grosse 2015): one matrix
    /// of classes, half way between theirs and the same for all, and one of columns.
    fn precondition_classes_and_columns(&self, w: &[f64], l2: f64, cancel: &Cancel) -> Result<Option<Preconditioner>> {
        match self.of_classes(w, cancel)? {
            Some(of_classes) => self.with_columns(Arc::new(of_classes), l2, cancel),
            None => Ok(None),
        }
    }

    /// What the classes have to do with each other at these parameters.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn of_classes(&self, w: &[f64], cancel: &Cancel) -> Result<Option<OfClasses>> {
        let (columns, classes, width) = (self.columns, self.classes, self.columns + 1);
        let rows = self.rows.min(confused_rows(classes));
        let prior = w.chunks_exact(width).all(|w| w[..columns].iter().all(|w| *w == 0.0));
        let p = self.sample_probabilities(w, 0..if prior { 1 } else { rows }, cancel)?;
        let weighted = self.mean_weights(if prior { 1 } else { rows });
        let mean = mean_of(&p, &weighted, classes);
        let inverse = match prior {
            // All rows alike: nothing is confused more than anything else.
            true => Confused::Alike(mean.iter().map(|p| 1.0 / (p * (1.0 - p))).collect()),
            false => match confusions(&p, &mean, &weighted, 0.5, self.parallel, cancel)? {
                // Well-conditioned, and small: its inverse is as good as its factor, and a product with it takes less time.
                Some(factor) => Confused::Pairs(factor.inverse(1.0, self.parallel)),
                None => return Ok(None),
            },
        };
        let spread = p.chunks_exact(classes).zip(&weighted);
        let spread = spread.map(|(p, w)| w.1 * (1.0 - p.iter().map(|p| p * p).sum::<f32>())).sum();
        Ok(Some(OfClasses { inverse, spread }))
    }

    /// The preconditioner of classes that have this to do with each other.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn with_columns(&self, of_classes: Arc<OfClasses>, l2: f64, cancel: &Cancel) -> Result<Option<Preconditioner>> {
        let (columns, classes, width) = (self.columns, self.classes, self.columns + 1);
        let (c, k, n) = (classes as f64, width as f64, self.rows.min(confused_rows(classes)) as f64);
        // Four times what it takes: steps around the old one are worth more than a new one until then.
        let work = 4.0 * (n * c * k + n * c * c / 2.0 + c.powi(3) + k.powi(3) / 6.0);
        let mut gram = self.gram.clone();
        (0..columns).for_each(|i| gram[i * width + i] += l2 as f32 * (classes - 1) as f32 / of_classes.spread);
        gram[width * width - 1] += of_bias(gram[width * width - 1]);
        let Some(of_columns) = factored(gram, width, self.parallel, cancel)? else { return Ok(None) };
        Ok(Some(self.preconditioner(Inverse::ClassesAndColumns(of_classes, of_columns), work)))
    }

    fn preconditioner(&self, inverse: Inverse, work: f64) -> Preconditioner {
        let Self { columns, classes, parallel, .. } = *self;
        Preconditioner { columns, classes, inverse, parallel, work }
    }
}

/// The classes outside the directions: their mean spread, and the inverse of how they are confused, over that; half way to where
/// all are confused alike. Empty where there is none.
struct Rest {
    spread: f32,
    of_classes: Vec<f32>,
}

/// Approximates the inverse Hessian.
#[derive(Debug)]
pub struct Preconditioner {
    columns: usize,
    classes: usize,
    inverse: Inverse,
    parallel: bool,
    work: f64,
}

/// Factors of what is inverted.
#[derive(Debug)]
enum Inverse {
    /// Of all classes and columns.
    Whole(Cholesky),
    /// Of all classes within the directions `[directions, columns]`; outside, of the columns alone, or a number.
    Levels { basis: Arc<Vec<f32>>, directions: usize, within: Cholesky, outside: Outside },
    /// Of the columns, and the classes' inverse, each as if it did not depend on the other.
    ClassesAndColumns(Arc<OfClasses>, Cholesky),
    /// Of the columns, for each class, and of what couples these.
    Blocks(Blocks),
}

/// What is left outside the directions: the classes' matrix, if there is one, and the factor of the columns alone, or a number.
#[derive(Debug)]
struct Outside {
    of_classes: Vec<f32>,
    tail: Option<Cholesky>,
    scalar: f32,
}

/// What classes have to do with each other, where columns do not matter.
#[derive(Debug)]
pub struct OfClasses {
    inverse: Confused,
    /// Mean over rows of `1 - sum p^2`.
    spread: f32,
}

/// The inverse of how classes are confused.
#[derive(Debug)]
enum Confused {
    /// None more than any other: its diagonal.
    Alike(Vec<f32>),
    /// `[classes, classes]`.
    Pairs(Vec<f32>),
}

impl Preconditioner {
    /// Of the Hessian's blocks.
    pub fn of_blocks(blocks: Blocks, problem: &Problem) -> Self {
        let &Problem { columns, classes, parallel, .. } = problem;
        Self { columns, classes, inverse: Inverse::Blocks(blocks), parallel, work: f64::INFINITY }
    }

    /// Whether it is more than a host should lose between two fits.
    pub fn is_heavy(&self) -> bool {
        matches!(&self.inverse, Inverse::Blocks(blocks) if blocks.values() > HEAVY)
    }

    /// Whether it is of the whole Hessian, which its blocks could not better.
    pub fn is_whole(&self) -> bool {
        matches!(self.inverse, Inverse::Whole(_))
    }

    /// Multiply-adds that making it took; of the blocks without end, as nothing else is to take their place.
    pub fn work(&self) -> f64 {
        self.work
    }

    /// Whether steps of L-BFGS around it are worth more than Newton's. Measured: what is made of all columns of few classes is a
    /// Hessian nearly as good as the rows' own.
    pub fn is_brief(&self) -> bool {
        matches!(self.inverse, Inverse::Levels { .. } | Inverse::ClassesAndColumns(..))
    }

    /// The inverse Hessian times `v`, both with classes summing to 0.
    pub fn apply(&self, v: &[f64]) -> Vec<f64> {
        // Float32 has a small range; gradients near the optimum do not.
        let largest = v.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
        let narrow = v.iter().map(|v| (v / largest) as f32).collect();
        self.apply_narrow(narrow).into_iter().map(|v| f64::from(v) * largest).collect()
    }

    /// As [`Preconditioner::apply`], of numbers that are neither very large nor all very small; of any number of vectors, one after
    /// the other.
    pub fn apply_narrow(&self, mut all: Vec<f32>) -> Vec<f32> {
        let Self { columns, classes, parallel, .. } = *self;
        let width = columns + 1;
        let size = classes * width;
        all.chunks_exact_mut(size).for_each(|v| sum_to_zero(v, width));
        match &self.inverse {
            Inverse::Whole(whole) => whole.solve(&mut all, parallel),
            Inverse::Levels { basis, directions, within, outside } => {
                all = self.two_levels(&all, basis, *directions, within, outside);
            }
            Inverse::ClassesAndColumns(of_classes, of_columns) => {
                of_columns.solve(&mut all, parallel);
                match &of_classes.inverse {
                    Confused::Alike(each) => {
                        let rows = all.chunks_exact_mut(width).zip(each.iter().cycle());
                        rows.for_each(|(row, factor)| row.iter_mut().for_each(|v| *v *= factor));
                    }
                    Confused::Pairs(pairs) => all = of_each(pairs, &all, (classes, width), parallel),
                }
            }
            Inverse::Blocks(blocks) if all.len() == size => all = blocks.apply(all),
            Inverse::Blocks(blocks) => all = all.chunks_exact(size).flat_map(|v| blocks.apply(v.to_vec())).collect(),
        }
        all.chunks_exact_mut(size).for_each(|v| sum_to_zero(v, width));
        all
    }

    fn two_levels(
        &self,
        all: &[f32],
        basis: &[f32],
        directions: usize,
        within: &Cholesky,
        outside: &Outside,
    ) -> Vec<f32> {
        let Self { columns, classes, .. } = *self;
        let width = directions + 1;
        let rows = all.len() / (columns + 1);
        let mut rest = Vec::with_capacity(rows * columns);
        all.chunks_exact(columns + 1).for_each(|v| rest.extend_from_slice(&v[..columns]));
        let mut t = vec![0f32; rows * directions];
        inner_products(&rest, basis, columns, &mut t);
        let combine = |t: &[f32], factor: f32, rest: &mut [f32]| {
            add_product(t, (1, directions), basis, (rows, columns), factor, rest, false);
        };
        combine(&t, -1.0, &mut rest);
        let mut inside = Vec::with_capacity(rows * width);
        for (t, v) in t.chunks_exact(directions).zip(all.chunks_exact(columns + 1)) {
            inside.extend_from_slice(t);
            inside.push(v[columns]);
        }
        within.solve(&mut inside, false);
        if !outside.of_classes.is_empty() {
            rest = of_each(&outside.of_classes, &rest, (classes, columns), self.parallel);
        }
        match &outside.tail {
            Some(tail) => {
                tail.solve(&mut rest, self.parallel);
                inner_products(&rest, basis, columns, &mut t);
            }
            None => {
                rest.iter_mut().for_each(|v| *v *= outside.scalar);
                t.fill(0.0);
            }
        }
        for (t, inside) in t.chunks_exact_mut(directions).zip(inside.chunks_exact(width)) {
            t.iter_mut().zip(inside).for_each(|(t, inside)| *t = inside - *t);
        }
        combine(&t, 1.0, &mut rest);
        let mut out = Vec::with_capacity(all.len());
        for (rest, inside) in rest.chunks_exact(columns).zip(inside.chunks_exact(width)) {
            out.extend_from_slice(rest);
            out.push(inside[directions]);
        }
        out
    }
}

/// A matrix of classes times each of some `[classes, columns]`, one after the other.
fn of_each(a: &[f32], all: &[f32], (classes, columns): (usize, usize), parallel: bool) -> Vec<f32> {
    let mut out = vec![0f32; all.len()];
    for (v, out) in all.chunks_exact(classes * columns).zip(out.chunks_exact_mut(classes * columns)) {
        add_product(a, (classes, 1), v, (classes, columns), 1.0, out, parallel);
    }
    out
}

/// The mean of `diag(p) - p p'`, `alike` of the way to where all classes are confused alike.
fn confusions(
    p: &[f32],
    mean: &[f32],
    weighted: &[(u32, f32)],
    alike: f32,
    parallel: bool,
    cancel: &Cancel,
) -> Result<Option<Cholesky>> {
    let classes = mean.len();
    let negative: Vec<_> = weighted.iter().map(|&(row, share)| (row, -share)).collect();
    let mut confusions = second_moments(p, classes, &negative, parallel, cancel)?;
    mean.iter().enumerate().for_each(|(class, mean)| confusions[class * (classes + 1)] += mean);
    let spread = (0..classes).map(|class| confusions[class * (classes + 1)]).sum::<f32>() / (classes - 1) as f32;
    // Of the sums over all classes, which are nobody's business, just enough for a factor.
    confusions.iter_mut().for_each(|v| *v += spread / classes as f32);
    (0..classes).for_each(|class| confusions[class * (classes + 1)] += alike * spread);
    factored(confusions, classes, parallel, cancel)
}

/// How the classes' totals answer to the biases, at weights and bias of the rows as they are: the Hessian's part that is
/// the biases', of some rows.
///
/// # Errors
/// Cancelled or past the deadline.
pub fn of_biases(
    data: &Data,
    weights: &[f32],
    bias: &[f64],
    parallel: bool,
    cancel: &Cancel,
) -> Result<Option<Cholesky>> {
    let (columns, classes) = (data.columns, data.classes);
    let picked = pick(data, confused_rows(classes));
    let (mut x, mut scratch) = (Vec::with_capacity(picked.len() * columns), Vec::new());
    for &row in &picked {
        x.extend_from_slice(data.x.block(row, row + 1, columns, &mut scratch)?);
    }
    let mut p = vec![0f32; picked.len() * classes];
    project(&x, columns, weights, &mut p, classes, parallel, cancel)?;
    for p in p.chunks_exact_mut(classes) {
        p.iter_mut().zip(bias).for_each(|(p, bias)| *p = (f64::from(*p) + bias) as f32);
    }
    softmax(&mut p, classes);
    let weighted = shares(&picked.iter().map(|&row| weight(data.weights, row)).collect::<Vec<_>>());
    confusions(&p, &mean_of(&p, &weighted, classes), &weighted, 1e-4, parallel, cancel)
}

/// How many rows tell which classes are confused.
fn confused_rows(classes: usize) -> usize {
    (4 * classes).clamp(FEWEST_CONFUSED, ROWS)
}

/// Each row and its share of all weight.
fn shares(weights: &[f32]) -> Vec<(u32, f32)> {
    let total: f64 = weights.iter().map(|&w| f64::from(w)).sum();
    (0u32..).zip(weights).map(|(row, &w)| (row, (f64::from(w) / total) as f32)).collect()
}

/// Upper triangle of the weighted sum over rows of `width` values of the row times itself turned over.
fn second_moments(
    rows: &[f32],
    width: usize,
    weighted: &[(u32, f32)],
    parallel: bool,
    cancel: &Cancel,
) -> Result<Vec<f32>> {
    let mut out = vec![0f32; width * width];
    add_second_moments(&mut out, rows, width, weighted, parallel, cancel)?;
    Ok(out)
}

/// As [`second_moments`], to what is there.
pub fn add_second_moments(
    out: &mut [f32],
    rows: &[f32],
    width: usize,
    weighted: &[(u32, f32)],
    parallel: bool,
    cancel: &Cancel,
) -> Result<()> {
    if moments::add(out, rows, width, weighted, parallel, cancel)? {
        return Ok(());
    }
    let product = Product {
        a: rows,
        a_steps: (width, 1),
        b: rows,
        b_step: width,
        picked: Some(weighted),
        depth: 0,
        factor: 1.0,
        shape: (width, width),
        upper: true,
    };
    product.add_to(out, width, parallel, cancel)
}

/// Fills in what is below the diagonal.
fn mirror(a: &mut [f32], size: usize) {
    for i in 1..size {
        (0..i).for_each(|j| a[i * size + j] = a[j * size + i]);
    }
}

/// Orthonormal directions that a symmetric matrix stretches most, and what it makes of them: subspace iteration.
fn subspace(
    a: &[f32],
    size: usize,
    directions: usize,
    rounds: usize,
    parallel: bool,
    cancel: &Cancel,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let mut basis = without_pattern(directions * size);
    let mut image = vec![0.0; directions * size];
    for round in 0..=rounds {
        image.fill(0.0);
        let product = Product {
            a: &basis,
            a_steps: (1, size),
            b: a,
            b_step: size,
            picked: None,
            depth: size,
            factor: 1.0,
            shape: (directions, size),
            upper: false,
        };
        product.add_to(&mut image, size, parallel, cancel)?;
        if round == rounds {
            break;
        }
        std::mem::swap(&mut basis, &mut image);
        orthonormalise(&mut basis, size);
    }
    Ok((basis, image))
}

/// The mean row.
fn mean_of(p: &[f32], weighted: &[(u32, f32)], classes: usize) -> Vec<f32> {
    let mut mean = vec![0f32; classes];
    for (p, &(_, share)) in p.chunks_exact(classes).zip(weighted) {
        mean.iter_mut().zip(p).for_each(|(mean, p)| *mean += share * p);
    }
    mean
}

/// Numbers without a pattern; which ones does not matter.
fn without_pattern(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

/// How many pairs of classes count in a row.
fn counting_pairs(p: &[f32], least: f32) -> usize {
    (0..p.len()).map(|a| p[a + 1..].iter().filter(|other| p[a] * **other > least).count()).sum()
}

/// Takes the mean over classes, rows of `v`, from each.
fn sum_to_zero(v: &mut [f32], width: usize) {
    let classes = (v.len() / width) as f32;
    let mut mean = vec![0f32; width];
    Arch::new().dispatch(|| {
        for row in v.chunks_exact(width) {
            mean.iter_mut().zip(row).for_each(|(mean, v)| *mean += v);
        }
        mean.iter_mut().for_each(|mean| *mean /= classes);
        for row in v.chunks_exact_mut(width) {
            row.iter_mut().zip(&mean).for_each(|(v, mean)| *v -= mean);
        }
    });
}

/// Probabilities in place of scores, row after row of so many classes.
fn softmax(scores: &mut [f32], classes: usize) {
    Arch::new().dispatch(|| {
        for scores in scores.chunks_exact_mut(classes) {
            let top = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            scores.iter_mut().for_each(|z| *z = exp(*z - top));
            let sum: f32 = scores.iter().sum();
            scores.iter_mut().for_each(|e| *e /= sum);
        }
    });
}

/// The factor, of the matrix with as much more on its diagonal, relative, as float32 needs.
pub fn factored(a: Vec<f32>, size: usize, parallel: bool, cancel: &Cancel) -> Result<Option<Cholesky>> {
    let mut more = 0.0;
    for _ in 0..6 {
        if let Some(factor) = Cholesky::scaled(a.clone(), size, more, parallel, cancel)? {
            return Ok(Some(factor));
        }
        more = if more == 0.0 { 1e-6 } else { more * 8.0 };
    }
    Ok(None)
}

/// What a bias gets on its diagonal, so that it is never singular; all of it where the bias is given.
pub fn of_bias(own: f32) -> f32 {
    if own > 0.0 { 1e-6 * own } else { 1.0 }
}

/// Up to `most` rows of a weight above 0, out of order: all, or one at an arbitrary place of each of `most` equal stretches.
fn pick(data: &Data, most: usize) -> Vec<usize> {
    let counts = |row: &usize| data.weights.is_none_or(|weights| weights[*row] > 0.0);
    let rows: Vec<usize> = (0..data.y.len()).filter(counts).collect();
    let mut state = 1u64;
    let mut below = |most: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % most
    };
    let mut picked = rows;
    if picked.len() > most {
        let stretches = (0..most).map(|i| (i * picked.len() / most, (i + 1) * picked.len() / most));
        picked = stretches.map(|(first, last)| picked[first + below(last - first)]).collect();
    }
    // The first rows of sorted data are then of all classes.
    (1..picked.len()).rev().for_each(|i| picked.swap(i, below(i + 1)));
    picked
}
