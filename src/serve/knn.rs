//! Nearest neighbours by cosine, exact: one matrix product per block of queries.
//!
//! The usual first look at features (`k` 20, a majority vote), and the weighted vote of Wu et al. 2018
//! (<https://arxiv.org/abs/1805.01978>: `k` 200, temperature 0.07) that most papers quote.

use ndarray::{Array2, ArrayView2, ArrayViewMut2, Axis, s};
use rayon::prelude::*;

use crate::error::{Error, Result};

/// How neighbours vote.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct KnnOptions {
    /// Number of neighbours, at least 1; all rows if there are fewer.
    pub k: usize,
    /// None: one neighbour, one vote. `Some(t)`: a neighbour of cosine `s` has `exp(s / t)` votes.
    pub temperature: Option<f32>,
}

impl Default for KnnOptions {
    fn default() -> Self {
        Self { k: 20, temperature: None }
    }
}

/// Queries per matrix product.
const BLOCK: usize = 256;

/// The class of every row of `test` by its neighbours in `train`. A tie goes to the class of the nearer neighbour.
///
/// # Errors
/// As [`neighbours`]; [`Error::LabelMismatch`]; [`Error::InvalidOption`] for a temperature that is not above 0.
pub fn knn(train: ArrayView2<f32>, labels: &[u32], test: ArrayView2<f32>, options: &KnnOptions) -> Result<Vec<u32>> {
    if labels.len() != train.nrows() {
        return Err(Error::LabelMismatch { features: train.nrows(), labels: labels.len() });
    }
    if let Some(t) = options.temperature.filter(|t| !(t.is_finite() && *t > 0.0)) {
        let (value, must) = (t.to_string(), "it must be a number above 0, or none");
        return Err(Error::InvalidOption { option: "temperature", value, must });
    }
    let (indices, similarities) = neighbours(train, test, options.k)?;
    let vote = |(indices, similarities): (ndarray::ArrayView1<u32>, ndarray::ArrayView1<f32>)| {
        // Classes in the order of their nearest neighbour: the first of the largest wins.
        let mut votes: Vec<(u32, f64)> = Vec::new();
        for (&index, &similarity) in indices.iter().zip(similarities) {
            let label = labels[index as usize];
            // Less 1, the largest cosine: no overflow at small temperatures, and the same winner.
            let weight = options.temperature.map_or(1.0, |t| (f64::from(similarity - 1.0) / f64::from(t)).exp());
            match votes.iter_mut().find(|(class, _)| *class == label) {
                Some((_, sum)) => *sum += weight,
                None => votes.push((label, weight)),
            }
        }
        votes.iter().fold((0, f64::NEG_INFINITY), |best, &vote| if vote.1 > best.1 { vote } else { best }).0
    };
    Ok(indices.outer_iter().zip(similarities.outer_iter()).map(vote).collect())
}

/// The `k` rows of `train` with the largest cosine to each row of `query`, nearest first, ties by lower index: indices
/// and cosines, both `[queries, min(k, rows)]`. A row of zeros has cosine 0 with everything.
///
/// # Errors
/// [`Error::EmptyData`], [`Error::DimensionMismatch`], [`Error::NonFinite`] (row of the matrix it is in),
/// [`Error::InvalidOption`] for `k` 0.
pub fn neighbours(train: ArrayView2<f32>, query: ArrayView2<f32>, k: usize) -> Result<(Array2<u32>, Array2<f32>)> {
    if train.is_empty() {
        return Err(Error::EmptyData { what: "rows to find neighbours in" });
    }
    if train.ncols() != query.ncols() {
        let (expected, found) = (train.ncols(), query.ncols());
        return Err(Error::DimensionMismatch { what: "columns of the query", expected, found });
    }
    if k == 0 {
        return Err(Error::InvalidOption { option: "k", value: "0".into(), must: "it must be at least 1" });
    }
    let k = k.min(train.nrows());
    let (train, query) = (unit_rows(train)?, unit_rows(query)?);
    let transposed = train.t();
    let blocks: Vec<(Vec<u32>, Vec<f32>)> = (0..query.nrows().div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let rows = query.slice(s![block * BLOCK..((block + 1) * BLOCK).min(query.nrows()), ..]);
            let cosines = rows.dot(&transposed);
            let (mut indices, mut similarities) = (Vec::new(), Vec::new());
            let mut order: Vec<u32> = Vec::new();
            for cosines in cosines.outer_iter() {
                let nearer = |a: &u32, b: &u32| cosines[*b as usize].total_cmp(&cosines[*a as usize]).then(a.cmp(b));
                order.clear();
                order.extend(0..cosines.len() as u32);
                if k < order.len() {
                    order.select_nth_unstable_by(k - 1, nearer);
                    order.truncate(k);
                }
                order.sort_unstable_by(nearer);
                similarities.extend(order.iter().map(|&index| cosines[index as usize]));
                indices.extend(&order);
            }
            (indices, similarities)
        })
        .collect();
    let (mut indices, mut similarities) = (Vec::new(), Vec::new());
    for (block_indices, block_similarities) in blocks {
        indices.extend(block_indices);
        similarities.extend(block_similarities);
    }
    let shape = (query.nrows(), k);
    let wrong = |_| Error::DimensionMismatch { what: "neighbours found", expected: shape.0 * k, found: 0 };
    Ok((
        Array2::from_shape_vec(shape, indices).map_err(wrong)?,
        Array2::from_shape_vec(shape, similarities).map_err(wrong)?,
    ))
}

/// The cosine of each row of `query` with every row of `train`, into `[queries, rows]`.
///
/// # Errors
/// As [`neighbours`]; [`Error::DimensionMismatch`] for an `out` of another shape.
pub fn similarity(train: ArrayView2<f32>, query: ArrayView2<f32>, mut out: ArrayViewMut2<f32>) -> Result<()> {
    if train.is_empty() {
        return Err(Error::EmptyData { what: "rows to compare with" });
    }
    for (what, expected, found) in [
        ("columns of the query", train.ncols(), query.ncols()),
        ("rows of similarities", query.nrows(), out.nrows()),
        ("columns of similarities", train.nrows(), out.ncols()),
    ] {
        if expected != found {
            return Err(Error::DimensionMismatch { what, expected, found });
        }
    }
    let (train, query) = (unit_rows(train)?, unit_rows(query)?);
    let blocks = out.axis_chunks_iter_mut(Axis(0), BLOCK).zip(query.axis_chunks_iter(Axis(0), BLOCK));
    blocks
        .par_bridge()
        .for_each(|(mut out, query)| ndarray::linalg::general_mat_mul(1.0, &query, &train.t(), 0.0, &mut out));
    Ok(())
}

/// Rows scaled to length 1; rows of zeros stay.
fn unit_rows(x: ArrayView2<f32>) -> Result<Array2<f32>> {
    let mut unit = x.to_owned();
    for (row, mut x) in unit.axis_iter_mut(Axis(0)).enumerate() {
        let length = x.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if !length.is_finite()
            && let Some((column, &value)) = x.iter().enumerate().find(|(_, value)| !value.is_finite())
        {
            return Err(Error::NonFinite { row, column, value });
        }
        if length > 0.0 {
            let factor = 1.0 / length;
            x.mapv_inplace(|v| (f64::from(v) * factor) as f32);
        }
    }
    Ok(unit)
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn equal_neighbours_come_by_index_and_cosine_ignores_length() {
        let train = array![[1f32, 0.], [0., 2.], [5., 0.], [1., 1.]];
        let (indices, similarities) = neighbours(train.view(), array![[3f32, 0.]].view(), 3).unwrap();
        assert_eq!(indices, array![[0, 2, 3]]);
        assert!((similarities[[0, 2]] - 0.5f32.sqrt()).abs() < 1e-6);
    }

    #[test]
    fn a_temperature_lets_one_near_neighbour_outvote_two_far_ones() {
        let train = array![[1f32, 0.], [0., 1.], [0.1, 1.]];
        let test = array![[1f32, 0.05]];
        let vote = |temperature| knn(train.view(), &[7, 8, 8], test.view(), &KnnOptions { k: 3, temperature }).unwrap();
        assert_eq!(vote(None), [8]);
        assert_eq!(vote(Some(0.07)), [7]);
    }
}
