//! Rows on a grid: every value a whole number of units of its column, for [`crate::rounded`] and [`crate::products`].

use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pass::Data;
use crate::rows::Rows;
use crate::vnni::Vnni;

/// Columns that a kernel reads at once.
pub const COLUMNS: usize = 32;
/// Bytes of a cache line, and most of all rows.
const LINE: usize = 64;
const BYTES: usize = 256 << 20;
/// Rows that are rounded at a time.
const CHUNK: usize = 256;

/// How columns are rounded, and how rows of them lie in memory: a value is `offset + unit * q`.
pub struct Grid {
    /// Columns, padded to what a kernel reads at once.
    pub width: usize,
    /// From a row to the next: an odd number of cache lines, so that a column's rows do not all fall on the same places of a cache.
    pub step: usize,
    pub offset: Vec<f32>,
    pub unit: Vec<f32>,
}

impl Grid {
    /// For rows of values of this type, with nothing known of the columns yet. None where they are too many; and none of a file, which is
    /// read in blocks lest its rows take memory.
    pub fn new<T>(data: &Data) -> Option<Self> {
        let line = LINE / size_of::<T>();
        let step = data.columns.next_multiple_of(line);
        let step = if (step / line).is_multiple_of(2) { step + line } else { step };
        let fit = data.y.len() * step * size_of::<T>() <= BYTES && !matches!(data.x, Rows::File(_));
        let width = data.columns.next_multiple_of(COLUMNS);
        fit.then(|| Self { width, step, offset: Vec::new(), unit: Vec::new() })
    }

    /// Takes the columns to begin at `offset`, in units of `unit`.
    pub fn set(&mut self, offset: Vec<f32>, unit: impl Iterator<Item = f32>) {
        self.offset = offset;
        self.unit = unit.map(|unit| if unit > 0.0 { unit } else { 1.0 }).collect();
    }

    /// All rows, `[rows, step]`, where `round` fills one in, given its values and one over the units.
    ///
    /// # Errors
    /// Cancelled or past the deadline, or rows that cannot be read.
    pub fn rows<T: Copy + Default + Send>(
        &self,
        data: &Data,
        parallel: bool,
        cancel: &Cancel,
        round: impl Fn(&[f32], &[f32], &mut [T]) + Sync,
    ) -> Result<Vec<T>> {
        let (columns, step) = (data.columns, self.step);
        let per_unit: Vec<f32> = self.unit.iter().map(|unit| 1.0 / unit).collect();
        let mut values = vec![T::default(); data.y.len() * step];
        let chunk = |(chunk, values): (usize, &mut [T])| -> Result<()> {
            cancel.check()?;
            let first = chunk * CHUNK;
            let mut scratch = Vec::new();
            let x = data.x.block(first, first + values.len() / step, columns, &mut scratch)?;
            values
                .chunks_exact_mut(step)
                .zip(x.chunks_exact(columns))
                .for_each(|(values, x)| round(x, &per_unit, values));
            Ok(())
        };
        if parallel {
            values.par_chunks_mut(CHUNK * step).enumerate().try_for_each(chunk)?;
        } else {
            values.chunks_mut(CHUNK * step).enumerate().try_for_each(chunk)?;
        }
        Ok(values)
    }

    /// Rounds a class's `weights`, times `per_unit` a whole number of units of the columns, and hands them out with their column. What
    /// is to be added to the class's scores for columns less `mean` instead of their offset.
    pub fn take(&self, weights: &[f32], per_unit: f64, mean: &[f64], mut out: impl FnMut(usize, i16)) -> f64 {
        let mut shift = 0.0;
        for (k, w) in self.in_units(weights).enumerate() {
            let whole = (w * per_unit).round_ties_even();
            out(k, whole as i16);
            shift += whole / per_unit * (f64::from(self.offset[k]) - mean[k]) / f64::from(self.unit[k]);
        }
        shift
    }

    /// Weights of the columns in their units.
    pub fn in_units(&self, weights: &[f32]) -> impl Iterator<Item = f64> + Clone {
        weights.iter().zip(&self.unit).map(|(w, unit)| f64::from(w * unit))
    }

    /// Where a column is among the sums of a class that kernels add up.
    fn place(column: usize) -> usize {
        // Each quarter of a vector holds 4 of 8 columns, and the next vector the other 4.
        let (quarter, within) = (column % COLUMNS / 8, column % 8);
        column / COLUMNS * COLUMNS + within / 4 * 16 + quarter * 4 + within % 4
    }

    /// Of a class's `sums` of products with residuals, those of rows less `mean` instead, of residuals that sum to `taken`.
    pub fn centred(&self, class: usize, sums: &[f64], taken: f64, mean: &[f64]) -> impl Iterator<Item = f64> {
        let sums = &sums[class * self.width..][..self.width];
        let of_columns = self.offset.iter().zip(&self.unit).zip(mean).enumerate();
        of_columns.map(move |(k, ((offset, unit), mean))| {
            sums[Self::place(k)] * f64::from(*unit) + (f64::from(*offset) - mean) * taken
        })
    }
}

impl Vnni {
    /// Least and largest value of each column.
    ///
    /// # Errors
    /// Cancelled or past the deadline, or rows that cannot be read.
    pub fn ranges(self, data: &Data, parallel: bool, cancel: &Cancel) -> Result<(Vec<f32>, Vec<f32>)> {
        let (rows, columns) = (data.y.len(), data.columns);
        let none = || (vec![f32::INFINITY; columns], vec![f32::NEG_INFINITY; columns]);
        let of_chunk = |mut found: (Vec<f32>, Vec<f32>), chunk: usize| {
            cancel.check()?;
            let (first, last) = (chunk * CHUNK, ((chunk + 1) * CHUNK).min(rows));
            let mut scratch = Vec::new();
            let x = data.x.block(first, last, columns, &mut scratch)?;
            x.chunks_exact(columns).for_each(|x| self.widen(x, &mut found.0, &mut found.1));
            Ok(found)
        };
        let both = |mut a: (Vec<f32>, Vec<f32>), b: (Vec<f32>, Vec<f32>)| {
            a.0.iter_mut().zip(&b.0).for_each(|(a, b)| *a = a.min(*b));
            a.1.iter_mut().zip(&b.1).for_each(|(a, b)| *a = a.max(*b));
            Ok(a)
        };
        let chunks = 0..rows.div_ceil(CHUNK);
        match parallel {
            true => chunks.into_par_iter().try_fold(none, of_chunk).try_reduce(none, both),
            false => chunks.into_iter().try_fold(none(), of_chunk),
        }
    }
}
