//! A data set made ready for a fit: checked, centred, weighted; and what a point of it is worth.
//!
//! The objective is that of [`crate::solver`]. Beside value and gradient a point gives a bound: any probabilities whose
//! class totals equal the labels' are a feasible point of the dual problem, whose value is below the optimum.

use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use ndarray::{Array1, Array2};
use pulp::Arch;

use crate::cancel::Cancel;
use crate::curvature::Curvature;
use crate::error::{Error, Result};
use crate::pass::{Data, Pass};
use crate::pass_wide;
use crate::precondition::{Sample, Source};
use crate::products::Products;
use crate::rounded::Rounded;
use crate::rows::Rows;
use crate::solver::{FitOptions, Intercept};
use crate::sparse::check_l1;
use crate::statistics::{Statistics, statistics};

/// Fewest values that it pays to round.
const MANY_VALUES: usize = 1 << 21;
/// Most values that rows are read twice of for biases that are right.
const FEW_VALUES: usize = 1 << 20;

/// A data set made ready: checked, centred (in thought: the rows stay where they are) and weighted.
///
/// Inside, parameters are one vector, class after class, `columns` weights and the bias of each, in coordinates where
/// columns have mean 0 and, if asked for, standard deviation 1.
pub struct Problem<'a> {
    x: Rows<'a>,
    /// One class per row.
    pub y: &'a [u32],
    /// Number of columns.
    pub columns: usize,
    /// Number of classes.
    pub classes: usize,
    weights: Option<Vec<f32>>,
    /// Sum of the weights.
    pub total: f64,
    pub mean: Vec<f64>,
    /// One over the standard deviation, or 1; 0 for a constant column.
    pub scale: Vec<f64>,
    /// Variance of the columns, scaled.
    variance: Vec<f64>,
    /// Share of every class.
    pub shares: Vec<f64>,
    /// `[classes, columns]`: weighted sum of the centred, scaled rows of a class, over `total`.
    pub class_sums: Vec<f64>,
    /// Only where the work is worth several threads.
    pool: Option<Arc<Pool>>,
    /// Whether the work is worth several threads.
    pub parallel: bool,
    /// The bias, where it is given.
    pub fixed: Option<Vec<f64>>,
    one_column: bool,
    sample: OnceLock<Option<Sample>>,
    rounded: OnceLock<Option<Rounded>>,
    products: OnceLock<Option<Products>>,
}

/// A point that steps over rounded rows start from.
pub struct Anchor {
    w: Vec<f64>,
    gradient: Vec<f64>,
    objective: f64,
    /// Mean loss.
    loss: f64,
    spread: f64,
}

impl Anchor {
    /// Of what a pass in float32 found, which kept its rows' scores.
    pub fn new(w: &[f64], gradient: &[f64], value: &Value, columns: usize, l2: f64) -> Self {
        let square: f64 = w.chunks_exact(columns + 1).map(|w| dot(&w[..columns], &w[..columns])).sum();
        let loss = value.objective - 0.5 * l2 * square;
        let (w, gradient) = (w.to_vec(), gradient.to_vec());
        Self { w, gradient, objective: value.objective, loss, spread: value.spread }
    }

    /// Where it is.
    pub fn w(&self) -> &[f64] {
        &self.w
    }

    /// Whether another point is no worse, but for rounding.
    pub fn is_above(&self, value: &Value) -> bool {
        value.objective <= (1.0 + 1e-6) * self.objective
    }
}

/// What a cell holds, made now if nothing has been yet.
fn once<T>(cell: &OnceLock<Option<T>>, make: impl FnOnce() -> Result<Option<T>>) -> Result<Option<&T>> {
    if cell.get().is_none() {
        // Only this thread can have filled it meanwhile.
        let _ = cell.set(make()?);
    }
    Ok(cell.get().and_then(Option::as_ref))
}

/// What a point is worth.
pub struct Value {
    /// Value of the objective.
    pub objective: f64,
    /// Largest lower bound on the optimum that this point proves.
    pub bound: f64,
    /// Whether every row's class scores strictly above all others.
    pub separated: bool,
    /// Norm of the gradient.
    pub norm: f64,
    /// Largest entry of the gradient's bias part, and what it adds to the gap.
    pub bias_gradient: f64,
    /// See there.
    pub bias_gap: f64,
    /// Mean over rows of `1 - sum p^2`.
    pub spread: f64,
}

impl Value {
    /// What the gradient's weights' part adds to the gap.
    pub fn weights_gap(&self, l2: f64) -> f64 {
        self.norm * self.norm / (2.0 * l2)
    }
}

impl<'a> Problem<'a> {
    /// Checks everything and reads the rows once.
    ///
    /// # Errors
    /// As [`crate::solver::fit`].
    pub fn new(
        x: Rows<'a>,
        columns: usize,
        y: &'a [u32],
        classes: usize,
        options: &FitOptions,
        cancel: &Cancel,
    ) -> Result<Self> {
        let rows = x.len().checked_div(columns).unwrap_or(y.len());
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
        check_l1(options.l1)?;
        if !(options.tolerance.is_finite() && options.tolerance > 0.0) {
            let value = options.tolerance.to_string();
            return Err(Error::InvalidOption { option: "tolerance", value, must: "it must be a number above 0" });
        }
        check_labels(y, classes)?;
        if y.iter().all(|label| *label == y[0]) {
            return Err(Error::OneClass { label: y[0].to_string(), examples: rows });
        }
        let weights = row_weights(y, classes, options)?;

        let parallel = options.threads != 1 && rows * columns * classes > 4_000_000;
        let pool = if parallel && options.threads > 1 { Pool::new(options.threads) } else { None };
        let data = Data { x, columns, y, classes, weights: weights.as_deref() };
        let found = inside(pool.as_ref(), || statistics(&data, parallel, cancel))?;
        let Statistics { total, class_totals, mut mean, deviation, class_sums } = found;
        if let Some((row, column, value)) = non_finite_in(&x, rows, columns, &mean, &deviation)? {
            return Err(Error::NonFinite { row, column, value });
        }
        if let Some(class) = class_totals.iter().position(|&total| total <= 0.0) {
            return Err(Error::EmptyClass { label: class.to_string() });
        }
        if deviation.iter().all(|&deviation| deviation == 0.0) {
            return Err(Error::ConstantFeatures { rows, columns });
        }
        let fixed = match &options.intercept {
            Intercept::Free => None,
            Intercept::Fixed(bias) if bias.len() == classes && bias.iter().all(|b| b.is_finite()) => Some(bias.clone()),
            Intercept::Fixed(bias) => {
                let value = format!("{bias:?}");
                return Err(Error::InvalidOption {
                    option: "intercept",
                    value,
                    must: "it must be one finite number per class",
                });
            }
        };
        if fixed.is_some() {
            // A shift of the columns would have to be made good by the bias.
            mean.fill(0.0);
        }
        if options.one_column && classes != 2 {
            let must = "it is for two classes";
            return Err(Error::InvalidOption { option: "one_column", value: format!("{classes} classes"), must });
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
            pool: pool.map(Arc::new),
            parallel,
            fixed,
            one_column: options.one_column,
            sample: OnceLock::new(),
            rounded: OnceLock::new(),
            products: OnceLock::new(),
        })
    }

    /// The penalty of both columns of weights that stands for one of their difference: half a column's square each.
    pub fn penalty(&self, l2: f64) -> f64 {
        if self.one_column { 2.0 * l2 } else { l2 }
    }

    /// Runs `work` in the fit's own pool, if it has one.
    pub fn inside<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        inside(self.pool.as_deref(), work)
    }

    /// Works in another's threads.
    pub fn in_pool_of(self, other: &Self) -> Self {
        Self { pool: other.pool.clone(), ..self }
    }

    /// What the preconditioner is made from, made once.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn sample(&self, cancel: &Cancel) -> Result<Option<&Sample>> {
        let source = Source {
            data: &self.data(),
            mean: &self.mean,
            scale: &self.scale,
            variance: &self.variance,
            free_bias: self.fixed.is_none(),
            parallel: self.parallel,
        };
        once(&self.sample, || self.inside(|| Sample::new(&source, cancel)))
    }

    /// A direction without what must not move.
    pub fn held<T: Copy + Default>(&self, mut v: Vec<T>) -> Vec<T> {
        if self.fixed.is_some() {
            v.chunks_exact_mut(self.columns + 1).for_each(|v| v[self.columns] = T::default());
        }
        v
    }

    /// Weights as the rows take them, in float32, of an inner vector, and the bias that goes with what they became.
    pub fn narrow(&self, w: &[f64]) -> (Vec<f32>, Vec<f64>) {
        let columns = self.columns;
        let mut weights = Vec::with_capacity(self.classes * columns);
        let mut bias = Vec::with_capacity(self.classes);
        let mut rounded = Vec::with_capacity(columns);
        Arch::new().dispatch(|| {
            for w in w.chunks_exact(columns + 1) {
                let start = weights.len();
                weights.extend(w.iter().zip(&self.scale).map(|(w, scale)| (w * scale) as f32));
                rounded.clear();
                rounded.extend(weights[start..].iter().map(|&w| f64::from(w)));
                bias.push(w[columns] - inner_product(&rounded, &self.mean));
            }
        });
        (weights, bias)
    }

    /// Into `out` the Hessian, penalty included, times `v`; by `whole` numbers, if there are any.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn curve(
        &self,
        curvature: &Curvature,
        whole: Option<&Products>,
        v: &[f64],
        l2: f64,
        out: &mut [f64],
        cancel: &Cancel,
    ) -> Result<()> {
        let (columns, classes) = (self.columns, self.classes);
        // Float32 has a small range; directions near the optimum do not.
        let largest = v.iter().fold(f64::MIN_POSITIVE, |most, v| most.max(v.abs()));
        let scaled: Vec<f64> = v.iter().map(|v| v / largest).collect();
        let width = whole.map_or(columns, |whole| whole.grid().width);
        let (mut sums, mut bias_sums) = (vec![0.0; classes * width], vec![0.0; classes]);
        if let Some(whole) = whole {
            let (weights, bias) = self.raw(&scaled);
            let factor = whole.take(&weights, &bias, &self.mean);
            self.inside(|| curvature.whole_product(whole, &factor, &mut sums, &mut bias_sums, cancel))?;
        } else {
            let (weights, bias) = self.narrow(&scaled);
            let bias: Vec<f32> = bias.iter().map(|b| *b as f32).collect();
            self.inside(|| curvature.product(&self.x, &weights, &bias, &mut sums, &mut bias_sums, cancel))?;
        }
        for (c, (out, v)) in out.chunks_exact_mut(columns + 1).zip(v.chunks_exact(columns + 1)).enumerate() {
            let mut fill = |k: usize, sum: f64| out[k] = sum * self.scale[k] * largest + l2 * v[k];
            match whole {
                Some(whole) => {
                    let centred = whole.grid().centred(c, &sums, bias_sums[c], &self.mean);
                    centred.enumerate().for_each(|(k, sum)| fill(k, sum));
                }
                None => {
                    let sums = &sums[c * columns..(c + 1) * columns];
                    (0..columns).for_each(|k| fill(k, sums[k] - bias_sums[c] * self.mean[k]));
                }
            }
            out[columns] = if self.fixed.is_some() { 0.0 } else { bias_sums[c] * largest };
        }
        Ok(())
    }

    /// Into `out` some columns of a row, in inner coordinates; the column after the last is the bias's, 1.
    ///
    /// # Errors
    /// A row that cannot be read.
    pub fn columns_of(&self, row: usize, picked: &[u32], out: &mut [f32], scratch: &mut Vec<f32>) -> Result<()> {
        let x = self.x.block(row, row + 1, self.columns, scratch)?;
        for (out, &k) in out.iter_mut().zip(picked) {
            let k = k as usize;
            *out = match x.get(k) {
                Some(&x) => ((f64::from(x) - self.mean[k]) * self.scale[k]) as f32,
                None => 1.0,
            };
        }
        Ok(())
    }

    /// The residuals that steps far from the optimum can do without: all of a row together are at most a hundredth of what a
    /// row, in the mean, has.
    pub fn negligible(&self, spread: f64) -> f32 {
        (1e-2 * spread / self.classes as f64) as f32
    }

    /// What a pass goes over.
    pub fn data(&self) -> Data<'_> {
        Data { x: self.x, columns: self.columns, y: self.y, classes: self.classes, weights: self.weights.as_deref() }
    }

    /// Parameters of the features as they are, from inner ones.
    pub fn outer(&self, w: &[f64]) -> (Array2<f64>, Array1<f64>) {
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
        if self.fixed.is_none() {
            // The same added to all changes no probability: of all these optima the one that sums to 0.
            let mean = bias.sum() / self.classes as f64;
            bias -= mean;
        }
        (weights, bias)
    }

    /// Inner parameters of outer ones.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`].
    pub fn inner(&self, weights: &Array2<f64>, bias: &Array1<f64>) -> Result<Vec<f64>> {
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
        // The same added to all classes changes no probability; the optimum has none of it.
        for k in 0..self.columns {
            let mean = w.iter().skip(k).step_by(self.columns + 1).sum::<f64>() / self.classes as f64;
            w.iter_mut().skip(k).step_by(self.columns + 1).for_each(|w| *w -= mean);
        }
        self.hold(&mut w);
        Ok(w)
    }

    /// Puts a given bias where it belongs.
    pub fn hold(&self, w: &mut [f64]) {
        if let Some(fixed) = &self.fixed {
            w.chunks_exact_mut(self.columns + 1).zip(fixed).for_each(|(w, b)| w[self.columns] = *b);
        }
    }

    /// Lets passes over few rows put the biases right, if theirs are the kernels of few classes.
    pub fn may_right(&self, pass: &mut Pass) {
        let few = self.y.len() * self.columns <= FEW_VALUES && self.classes < pass_wide::CLASSES;
        if few && self.fixed.is_none() {
            pass.may_right(self.shares.iter().map(|share| share * self.total).collect());
        }
    }

    /// As [`Problem::evaluate_near`], at `w` itself, with a pass that puts no biases right.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn evaluate(
        &self,
        pass: &mut Pass,
        exact: bool,
        w: &[f64],
        l2: f64,
        gradient: &mut [f64],
        cancel: &Cancel,
    ) -> Result<Value> {
        self.evaluate_near(pass, exact, &mut w.to_vec(), l2, gradient, cancel)
    }

    /// Objective, gradient and dual bound at `w`, or where the pass moves its biases to; `exact` in float64 throughout.
    #[allow(clippy::too_many_arguments, reason = "the pass's buffers and the gradient are reused by the caller")]
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn evaluate_near(
        &self,
        pass: &mut Pass,
        exact: bool,
        w: &mut [f64],
        l2: f64,
        gradient: &mut [f64],
        cancel: &Cancel,
    ) -> Result<Value> {
        let columns = self.columns;
        let data = self.data();
        let sums = if exact {
            let (weights, bias) = self.outer(w);
            let weights = weights.into_raw_vec_and_offset().0;
            let bias = bias.into_raw_vec_and_offset().0;
            self.inside(|| pass.run_exactly(&data, &weights, &bias, cancel))?
        } else {
            let (weights, bias) = self.narrow(w);
            let sums = self.inside(|| pass.run(&data, &weights, &bias, cancel))?;
            let moved = w.iter_mut().skip(columns).step_by(columns + 1).zip(sums.bias.iter().zip(&bias));
            moved.for_each(|(w, (new, old))| *w += new - old);
            sums
        };

        Arch::new().dispatch(|| {
            for (c, gradient) in gradient.chunks_exact_mut(columns + 1).enumerate() {
                let bias_gradient = if self.fixed.is_some() { 0.0 } else { sums.bias_gradient[c] };
                let raw = &sums.gradient[c * columns..(c + 1) * columns];
                let of_columns = self.mean.iter().zip(&self.scale).zip(raw);
                for (gradient, ((mean, scale), raw)) in gradient.iter_mut().zip(of_columns) {
                    *gradient = (raw - sums.taken[c] * mean) * scale / self.total;
                }
                gradient[columns] = bias_gradient / self.total;
            }
        });
        let (loss, separated) = (sums.loss / self.total, sums.separated);
        let spread = pass.active().map(|active| active.spread).sum::<f64>() / self.total;
        let value = self.value(loss, spread, w, l2, gradient);
        // What is not whole proves nothing.
        let bound = if pass.left_out() { f64::NEG_INFINITY } else { value.bound };
        Ok(Value { separated, bound, ..value })
    }

    /// Whether passes over rounded rows could pay: many values, and the kernels of few classes.
    pub fn may_round(&self) -> bool {
        self.y.len() * self.columns >= MANY_VALUES && self.classes < pass_wide::CLASSES
    }

    /// Whether the rows are rounded already.
    pub fn is_rounded(&self) -> bool {
        self.rounded.get().is_some()
    }

    /// The rows rounded to 8 bits, once.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn rounded(&self, cancel: &Cancel) -> Result<Option<&Rounded>> {
        once(&self.rounded, || self.inside(|| Rounded::new(&self.data(), self.parallel, cancel)))
    }

    /// Whether rows were rounded for products.
    #[cfg(test)]
    pub fn has_products(&self) -> bool {
        self.products.get().is_some()
    }

    /// The rows in 16 bits, for products, once; None where it does not pay.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn products(&self, cancel: &Cancel) -> Result<Option<&Products>> {
        if self.y.len() * self.columns < MANY_VALUES {
            return Ok(None);
        }
        once(&self.products, || self.inside(|| Products::new(&self.data(), self.parallel, cancel)))
    }

    /// Of parameters, the weights of columns as they are, and the bias for columns of mean 0.
    fn raw(&self, v: &[f64]) -> (Vec<f32>, Vec<f64>) {
        let width = self.columns + 1;
        let of_weights = v.chunks_exact(width).flat_map(|v| v.iter().zip(&self.scale));
        let weights = of_weights.map(|(v, scale)| (v * scale) as f32).collect();
        (weights, v.chunks_exact(width).map(|v| v[self.columns]).collect())
    }

    /// As [`Problem::evaluate_near`], by rounded rows and from an anchor on, where the pass's last in float32 was; nothing is
    /// proven.
    ///
    /// # Errors
    /// Cancelled or past the deadline.
    pub fn evaluate_rounded(
        &self,
        pass: &mut Pass,
        (rounded, anchor): (&Rounded, &Anchor),
        w: &[f64],
        l2: f64,
        gradient: &mut [f64],
        cancel: &Cancel,
    ) -> Result<Value> {
        let (columns, width) = (self.columns, self.columns + 1);
        let moved: Vec<f64> = w.iter().zip(&anchor.w).map(|(w, anchor)| w - anchor).collect();
        let (weights, bias) = self.raw(&moved);
        let step = rounded.take(&weights, &bias, &self.mean);
        let data = self.data();
        let found = self.inside(|| pass.run_rounded(&data, rounded, &step, cancel))?;
        let (mut square, mut norm, mut bias_gradient) = (0.0, 0.0, 0f64);
        let before = anchor.gradient.chunks_exact(width).zip(moved.chunks_exact(width));
        for (class, (gradient, (before, moved))) in gradient.chunks_exact_mut(width).zip(before).enumerate() {
            let change = rounded.grid().centred(class, found.sums, found.taken[class], &self.mean);
            let (of_weights, of_bias) = gradient.split_at_mut(columns);
            for (k, (gradient, change)) in of_weights.iter_mut().zip(change).enumerate() {
                *gradient = before[k] + change * self.scale[k] / self.total + l2 * moved[k];
            }
            let change = if self.fixed.is_some() { 0.0 } else { found.bias_gradient[class] };
            of_bias[0] = before[columns] + change / self.total;
            square += dot(&moved[..columns], &moved[..columns]);
            norm += dot(of_weights, of_weights);
            bias_gradient = bias_gradient.max(of_bias[0].abs());
        }
        let loss = (found.loss - found.along) / self.total - anchor.loss;
        let objective = anchor.objective + loss + dot(&anchor.gradient, &moved) + 0.5 * l2 * square;
        let (bound, spread) = (f64::NEG_INFINITY, anchor.spread);
        Ok(Value { objective, bound, bias_gradient, bias_gap: 0.0, separated: false, norm: norm.sqrt(), spread })
    }

    /// The [prior](Self::prior) and what it is worth, which the classes' sums tell without a pass. Not of a given bias.
    pub fn at_prior(&self, l2: f64, gradient: &mut [f64]) -> (Vec<f64>, Value) {
        let columns = self.columns;
        for (gradient, sums) in gradient.chunks_exact_mut(columns + 1).zip(self.class_sums.chunks_exact(columns)) {
            gradient[..columns].iter_mut().zip(sums).for_each(|(g, sum)| *g = -sum);
            gradient[columns] = 0.0;
        }
        let loss = self.shares.iter().map(|share| -share * share.ln()).sum();
        let spread = 1.0 - self.shares.iter().map(|share| share * share).sum::<f64>();
        let w = self.prior();
        let value = self.value(loss, spread, &w, l2, gradient);
        (w, value)
    }

    /// What a point is worth, of its mean loss and that's gradient, to which the penalty's is added.
    fn value(&self, loss: f64, spread: f64, w: &[f64], l2: f64, gradient: &mut [f64]) -> Value {
        let columns = self.columns;
        let (mut square, mut product, mut norm, mut bias_product) = (0.0, 0.0, 0.0, 0.0);
        Arch::new().dispatch(|| {
            for (gradient, w) in gradient.chunks_exact_mut(columns + 1).zip(w.chunks_exact(columns + 1)) {
                let (of_weights, own) = (&mut gradient[..columns], &w[..columns]);
                product += inner_product(own, of_weights);
                square += inner_product(own, own);
                of_weights.iter_mut().zip(own).for_each(|(gradient, w)| *gradient += l2 * w);
                norm += inner_product(of_weights, of_weights);
                bias_product += w[columns] * gradient[columns];
            }
        });
        let objective = loss + 0.5 * l2 * square;
        let bound = match l2 > 0.0 {
            true => {
                let entropy = loss - product - bias_product;
                objective - self.gap(w, gradient, l2, norm, bias_product, entropy)
            }
            false => f64::NEG_INFINITY,
        };
        let bias_gradient = gradient.iter().skip(columns).step_by(columns + 1).fold(0f64, |most, g| most.max(g.abs()));
        let bias_gap = if l2 > 0.0 { (objective - bound - norm / (2.0 * l2)).max(0.0) } else { 0.0 };
        Value { objective, bound, bias_gradient, bias_gap, separated: false, norm: norm.sqrt(), spread }
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
            let of_classes = gradient.chunks_exact(columns + 1).zip(w.chunks_exact(columns + 1));
            let mut of_class = vec![0.0; columns];
            for ((gradient, w), sums) in of_classes.zip(self.class_sums.chunks_exact(columns)) {
                Arch::new().dispatch(|| {
                    for (change, ((g, w), sum)) in of_class.iter_mut().zip(gradient.iter().zip(w).zip(sums)) {
                        let g = g - l2 * w;
                        let step = theta * (g + sum);
                        *change = step * (step - 2.0 * g);
                    }
                });
                change += of_class.iter().sum::<f64>();
            }
            gap += change / (2.0 * l2);
        }
        gap
    }

    /// The optimum for an infinite penalty: no weights, the bias tells the shares.
    pub fn prior(&self) -> Vec<f64> {
        let mut w = vec![0.0; self.classes * (self.columns + 1)];
        w.chunks_exact_mut(self.columns + 1).zip(&self.shares).for_each(|(w, share)| w[self.columns] = share.ln());
        self.hold(&mut w);
        w
    }

    /// The inverse of the Hessian's diagonal, were every row's probabilities the shares of the classes.
    pub fn diagonal(&self, v: &[f64], l2: f64) -> Vec<f64> {
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

/// `to += factor * v`.
pub fn add(to: &mut [f64], factor: f64, v: &[f64]) {
    Arch::new().dispatch(|| to.iter_mut().zip(v).for_each(|(to, v)| *to += factor * v));
}

/// The inner product.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    Arch::new().dispatch(|| inner_product(a, b))
}

/// The inner product, in many running sums, so that the compiler may use vectors; always in the same order.
#[inline(always)]
fn inner_product(a: &[f64], b: &[f64]) -> f64 {
    const SUMS: usize = 32;
    let mut sums = [0.0; SUMS];
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<SUMS>(), b.as_chunks::<SUMS>());
    for (a, b) in a.iter().zip(b) {
        for i in 0..SUMS {
            sums[i] += a[i] * b[i];
        }
    }
    for half in [16, 8, 4, 2, 1] {
        for i in 0..half {
            sums[i] += sums[i + half];
        }
    }
    sums[0] + a_rest.iter().zip(b_rest).map(|(a, b)| a * b).sum::<f64>()
}

/// Threads of a fit's own. When it is dropped they have ended: a host that forks or unloads us after a call finds none.
struct Pool {
    /// None only while it is dropped.
    pool: Option<rayon::ThreadPool>,
    threads: Vec<JoinHandle<()>>,
}

impl Pool {
    /// None where the system gives no threads.
    fn new(count: usize) -> Option<Self> {
        let mut threads = Vec::new();
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(count)
            .thread_name(|i| format!("byol-fit-{i}"))
            .spawn_handler(|thread| {
                let named = std::thread::Builder::new().name(thread.name().unwrap_or_default().to_owned());
                threads.push(named.spawn(|| thread.run())?);
                Ok(())
            })
            .build()
            .ok();
        let found = Self { pool, threads };
        found.pool.is_some().then_some(found)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // It tells its threads to end, and does not wait for them.
        drop(self.pool.take());
        self.threads.drain(..).for_each(|thread| _ = thread.join());
    }
}

/// Runs `work` in the fit's own pool, if it has one.
fn inside<R: Send>(pool: Option<&Pool>, work: impl FnOnce() -> R + Send) -> R {
    match pool.and_then(|pool| pool.pool.as_ref()) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

/// Checks a penalty.
///
/// # Errors
/// [`Error::InvalidOption`].
pub fn check_l2(l2: f64) -> Result<()> {
    match l2.is_finite() && l2 >= 0.0 {
        true => Ok(()),
        false => {
            Err(Error::InvalidOption { option: "l2", value: l2.to_string(), must: "it must be a number of at least 0" })
        }
    }
}

/// Checks that labels count classes.
///
/// # Errors
/// [`Error::LabelOutside`].
pub fn check_labels(y: &[u32], classes: usize) -> Result<()> {
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

/// The first value that is not finite; looked for only if a sum over it says that there is one.
fn non_finite_in(
    x: &Rows,
    rows: usize,
    columns: usize,
    mean: &[f64],
    deviation: &[f64],
) -> Result<Option<(usize, usize, f32)>> {
    if mean.iter().chain(deviation).all(|value| value.is_finite()) {
        return Ok(None);
    }
    let mut scratch = Vec::new();
    for row in 0..rows {
        let values = x.block(row, row + 1, columns, &mut scratch)?;
        if let Some(column) = values.iter().position(|value| !value.is_finite()) {
            return Ok(Some((row, column, values[column])));
        }
    }
    Ok(None)
}
