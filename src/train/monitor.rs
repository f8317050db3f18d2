//! What a run looks like from outside: how the neighbours of its features agree on their classes. The signs of collapse
//! are in [`crate::sentinel`].

use ndarray::{Array2, s};
use rayon::prelude::*;

/// Queries per matrix product.
const BLOCK: usize = 256;

/// How the neighbours of a feature vector agree on its class. A tie goes to the class of the nearer neighbour.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Vote {
    /// One vote each.
    Majority,
    /// exp(cosine / T) votes each, as Wu et al. (arXiv 1805.01978) weigh them; T is customarily 0.07 or 0.1.
    Temperature(f32),
}

/// Labelled feature vectors.
#[derive(Clone, Copy, Debug)]
pub struct Labelled<'a> {
    /// Row after row, as many as labels, all of one width.
    pub features: &'a [f32],
    /// One for each row.
    pub labels: &'a [u32],
}

/// The part of `test` whose class its `k` nearest neighbours in `train`, by cosine, vote for. The result does not
/// depend on the number of threads.
///
/// # Panics
/// If either set is empty, if the features are not a whole number of rows, or if the two widths differ.
pub fn knn_top1(train: Labelled<'_>, test: Labelled<'_>, k: usize, vote: Vote) -> f64 {
    let (bank, queries) = (unit_rows(train), unit_rows(test));
    assert_eq!(bank.ncols(), queries.ncols(), "features of two widths");
    let k = k.clamp(1, bank.nrows());
    let columns = bank.t();
    let right: usize = (0..queries.nrows().div_ceil(BLOCK))
        .into_par_iter()
        .map(|block| {
            let rows = block * BLOCK..((block + 1) * BLOCK).min(queries.nrows());
            let cosines = queries.slice(s![rows.clone(), ..]).dot(&columns);
            let mut order: Vec<u32> = Vec::new();
            let mut votes: Vec<(u32, f64)> = Vec::new();
            let labelled = cosines.outer_iter().zip(&test.labels[rows]);
            let right = labelled.filter(|(cosines, label)| {
                winner(cosines.as_slice(), train.labels, k, vote, &mut order, &mut votes) == Some(**label)
            });
            right.count()
        })
        .sum();
    right as f64 / test.labels.len() as f64
}

/// The class that one row's neighbours vote for.
fn winner(
    cosines: Option<&[f32]>,
    labels: &[u32],
    k: usize,
    vote: Vote,
    order: &mut Vec<u32>,
    votes: &mut Vec<(u32, f64)>,
) -> Option<u32> {
    let cosines = cosines?;
    let nearer = |a: &u32, b: &u32| cosines[*b as usize].total_cmp(&cosines[*a as usize]).then(a.cmp(b));
    order.clear();
    order.extend(0..cosines.len() as u32);
    if k < order.len() {
        order.select_nth_unstable_by(k - 1, nearer);
        order.truncate(k);
    }
    order.sort_unstable_by(nearer);
    votes.clear();
    for &row in order.iter() {
        let weight = match vote {
            Vote::Majority => 1.0,
            // Less 1, the largest cosine: no overflow at a small temperature, and the same winner.
            Vote::Temperature(t) => (f64::from(cosines[row as usize] - 1.0) / f64::from(t)).exp(),
        };
        match votes.iter_mut().find(|(class, _)| *class == labels[row as usize]) {
            Some((_, sum)) => *sum += weight,
            None => votes.push((labels[row as usize], weight)),
        }
    }
    // Classes stand in the order of their nearest neighbour: the first of the greatest wins.
    votes.iter().copied().reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(class, _)| class)
}

fn unit_rows(set: Labelled<'_>) -> Array2<f32> {
    assert!(!set.labels.is_empty(), "no rows to compare");
    unit_matrix(set.features, set.features.len() / set.labels.len())
}

/// Rows scaled to length 1; rows of zeros stay.
pub(crate) fn unit_matrix(values: &[f32], width: usize) -> Array2<f32> {
    assert!(width > 0 && values.len().is_multiple_of(width), "{} values in rows of {width}", values.len());
    let mut unit = values.to_vec();
    let shape = (values.len() / width, width);
    unit.par_chunks_exact_mut(width).for_each(|row| {
        let length = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>().sqrt();
        if length > 0.0 {
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / length) as f32);
        }
    });
    // The length is rows times width, as just checked.
    Array2::from_shape_vec(shape, unit).unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::augment::{Draw, Random};

    /// Rows of numbers that are nearly normal.
    pub(crate) fn gaussian_rows(rows: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(Draw { seed, epoch: 0, picture: 0, view: 0 });
        (0..rows * width).map(|_| (0..12).map(|_| random.unit() as f32).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn neighbours_vote_alike_on_one_thread_and_two_and_as_written_out() {
        let (train, test) = (gaussian_rows(700, 16, 3), gaussian_rows(600, 16, 4));
        let label = |row: &[f32]| u32::from(row[0] + row[1] > 0.0) + 2 * u32::from(row[2] > 0.5);
        let train_labels: Vec<u32> = train.chunks(16).map(label).collect();
        let test_labels: Vec<u32> = test.chunks(16).map(label).collect();
        let train = Labelled { features: &train, labels: &train_labels };
        let test = Labelled { features: &test, labels: &test_labels };
        let on = |threads: usize, vote| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| knn_top1(train, test, 20, vote))
        };
        for vote in [Vote::Majority, Vote::Temperature(0.1)] {
            assert_eq!(on(1, vote), on(2, vote));
        }
        let cosine = |a: &[f32], b: &[f32]| {
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let right = test.features.chunks(16).zip(test.labels).filter(|(query, label)| {
            let mut near: Vec<_> = train.features.chunks(16).map(|row| cosine(query, row)).zip(train.labels).collect();
            near.sort_by(|a, b| b.0.total_cmp(&a.0));
            let votes = |class: u32| near[..20].iter().filter(|(_, l)| **l == class).count();
            let most = (0..4).map(votes).max().unwrap();
            let best = near.iter().find(|(_, l)| votes(**l) == most).unwrap();
            best.1 == *label
        });
        let expected = right.count() as f64 / 600.0;
        // Two cosines may be equal to six digits: one row may turn.
        assert!((on(2, Vote::Majority) - expected).abs() < 2.0 / 600.0);
        assert_eq!(knn_top1(train, train, 1, Vote::Majority), 1.0);
    }
}
