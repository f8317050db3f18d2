//! What a fit must know of its features before it starts, from one reading: means, deviations, sums per class.

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::error::Result;
use crate::pass::Data;

/// Sums over the rows of a data set, weighted by the rows' weights.
pub struct Statistics {
    /// Sum of weights.
    pub total: f64,
    /// Sum of weights of each class.
    pub class_totals: Vec<f64>,
    /// Mean of each column.
    pub mean: Vec<f64>,
    /// Standard deviation of each column; exactly 0 for a constant one.
    pub deviation: Vec<f64>,
    /// `[classes, columns]`: sum of the rows of a class, less the mean.
    pub class_sums: Vec<f64>,
}

struct Part {
    sums: Vec<f32>,
    squares: Vec<f32>,
    class_totals: Vec<f64>,
}

/// Reads every row once. Values are taken less those of the first row, so that columns far from 0 keep their digits.
///
/// # Errors
/// Cancelled or past the deadline. Values that are not finite show as means or deviations that are not.
pub fn statistics(data: &Data, parallel: bool, cancel: &Cancel) -> Result<Statistics> {
    let (rows, columns, classes) = (data.y.len(), data.columns, data.classes);
    let most = ((128 << 20) / (4 * columns * classes)).clamp(2, 256);
    let rows_per_part = rows.div_ceil((rows / 128).clamp(1, most));
    let mut first_row = Vec::new();
    let origin = data.x.block(0, 1, columns, &mut first_row)?;
    let arch = Arch::new();
    let work = |index: usize| {
        cancel.check()?;
        let first = index * rows_per_part;
        let last = (first + rows_per_part).min(rows);
        let mut part =
            Part { sums: vec![0.0; classes * columns], squares: vec![0.0; columns], class_totals: vec![0.0; classes] };
        let mut scratch = Vec::new();
        for first in (first..last).step_by(256) {
            let last = (first + 256).min(last);
            let x = data.x.block(first, last, columns, &mut scratch)?;
            arch.dispatch(Block { data, x, origin, first, last, part: &mut part });
        }
        Ok(part)
    };
    let parts = rows.div_ceil(rows_per_part);
    let (mut sums, mut squares) = (vec![0f64; classes * columns], vec![0f64; columns]);
    let mut class_totals = vec![0f64; classes];
    let mut collect = |part: Part| {
        arch.dispatch(|| {
            sums.iter_mut().zip(&part.sums).for_each(|(sum, &v)| *sum += f64::from(v));
            squares.iter_mut().zip(&part.squares).for_each(|(sum, &v)| *sum += f64::from(v));
        });
        class_totals.iter_mut().zip(&part.class_totals).for_each(|(sum, v)| *sum += v);
    };
    // In waves, in order: no more parts in memory than needed, and the same sums for any number of threads.
    for wave in (0..parts).step_by(16) {
        let indices = wave..(wave + 16).min(parts);
        let found: Vec<Part> = if parallel {
            indices.into_par_iter().map(work).collect::<Result<_>>()?
        } else {
            indices.map(work).collect::<Result<_>>()?
        };
        found.into_iter().for_each(&mut collect);
    }

    let total: f64 = class_totals.iter().sum();
    let mut shift = vec![0f64; columns]; // mean less origin
    for class in sums.chunks_exact(columns) {
        shift.iter_mut().zip(class).for_each(|(shift, sum)| *shift += sum / total);
    }
    let deviation = squares
        .iter()
        .zip(&shift)
        .map(|(square, shift)| if *square == 0.0 { 0.0 } else { (square / total - shift * shift).max(0.0).sqrt() })
        .collect();
    for (class, total) in sums.chunks_exact_mut(columns).zip(&class_totals) {
        class.iter_mut().zip(&shift).for_each(|(sum, shift)| *sum -= total * shift);
    }
    let mean = shift.iter().zip(origin).map(|(shift, &origin)| shift + f64::from(origin)).collect();
    Ok(Statistics { total, class_totals, mean, deviation, class_sums: sums })
}

struct Block<'a> {
    data: &'a Data<'a>,
    x: &'a [f32],
    origin: &'a [f32],
    first: usize,
    last: usize,
    part: &'a mut Part,
}

impl WithSimd for Block<'_> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) {
        let Self { data, x, origin, first, last, part } = self;
        let columns = data.columns;
        for row in first..last {
            let weight = data.weights.map_or(1.0, |weights| weights[row]);
            let class = data.y[row] as usize;
            part.class_totals[class] += f64::from(weight);
            let sums = &mut part.sums[class * columns..(class + 1) * columns];
            let x = &x[(row - first) * columns..(row - first + 1) * columns];
            for (((sum, square), x), origin) in sums.iter_mut().zip(part.squares.iter_mut()).zip(x).zip(origin) {
                let d = x - origin;
                *sum += weight * d;
                *square += weight * d * d;
            }
        }
    }
}
