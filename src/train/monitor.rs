//! What a run looks like from outside: neighbours of its features, and the signs of collapse.
//!
//! A collapsed network gives every picture the same embedding. The loss does not show it (it falls to its best), and a
//! probe may stay flat until the very end. The spread of the embeddings shows it at once.

use ndarray::{Array2, Axis, s};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::augment::{Draw, Random};

/// Queries per matrix product.
const BLOCK: usize = 256;

/// Pairs of rows whose cosine is taken.
const PAIRS: usize = 4096;

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

/// How far embeddings are from being all the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingStatistics {
    /// Mean over dimensions of the standard deviation of length-1 embeddings, times the root of the dimension:
    /// 1 when they fill the sphere evenly, 0 when they are one point.
    pub spread: f64,
    /// Mean cosine between random pairs of different rows: 0 when they fill the sphere evenly, 1 when they are one point.
    pub cosine: f64,
    /// Directions that carry the variance of the length-1 embeddings, (sum of eigenvalues)^2 / sum of their squares:
    /// from 1 to the dimension.
    pub effective_rank: f64,
}

impl EmbeddingStatistics {
    /// Of rows of `width` numbers. Fewer than two rows have no spread: all three are 0, 1 and 1.
    ///
    /// # Panics
    /// If `width` is 0 or the embeddings are not a whole number of rows.
    pub fn of(embeddings: &[f32], width: usize) -> EmbeddingStatistics {
        let unit = unit_matrix(embeddings, width);
        let rows = unit.nrows();
        if rows < 2 {
            return EmbeddingStatistics { spread: 0.0, cosine: 1.0, effective_rank: 1.0 };
        }
        let mut random = Random::new(Draw { seed: 0, epoch: 0, picture: rows as u64, view: 0 });
        let cosine = (0..PAIRS)
            .map(|_| {
                let one = random.below(rows);
                let other = (one + 1 + random.below(rows - 1)) % rows;
                f64::from(unit.row(one).dot(&unit.row(other)))
            })
            .sum::<f64>()
            / PAIRS as f64;
        let mut centred = unit;
        let mut spread = 0.0;
        for mut column in centred.axis_iter_mut(Axis(1)) {
            let mean = column.iter().map(|&v| f64::from(v)).sum::<f64>() / rows as f64;
            let variance = column.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / rows as f64;
            column.mapv_inplace(|v| (f64::from(v) - mean) as f32);
            spread += variance.sqrt();
        }
        let covariance = centred.t().dot(&centred);
        let trace: f64 = covariance.diag().iter().map(|&v| f64::from(v)).sum();
        let squares: f64 = covariance.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        let effective_rank = if squares > 0.0 { trace * trace / squares } else { 1.0 };
        EmbeddingStatistics { spread: spread / (width as f64).sqrt(), cosine, effective_rank }
    }
}

/// What the statistics say about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CollapseSignal {
    /// Embeddings differ.
    Healthy,
    /// They hardly differ, for fewer readings in a row than it takes to be sure.
    Suspicious,
    /// They hardly differed for so many readings in a row, or are no numbers.
    Collapsed,
}

/// Watches readings for collapse.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct CollapseWatch {
    /// A spread below this is a bad reading.
    pub least_spread: f64,
    /// Bad readings in a row that make a collapse.
    pub patience: u32,
    /// Bad readings in a row so far.
    pub bad: u32,
}

impl Default for CollapseWatch {
    /// A spread below 0.05 (a mean cosine of about 0.997) three times in a row.
    fn default() -> Self {
        CollapseWatch { least_spread: 0.05, patience: 3, bad: 0 }
    }
}

impl CollapseWatch {
    /// Takes the next reading.
    pub fn observe(&mut self, statistics: &EmbeddingStatistics) -> CollapseSignal {
        if !statistics.spread.is_finite() {
            self.bad = self.patience;
            return CollapseSignal::Collapsed;
        }
        self.bad = if statistics.spread < self.least_spread { self.bad.saturating_add(1) } else { 0 };
        match self.bad {
            0 => CollapseSignal::Healthy,
            bad if bad < self.patience => CollapseSignal::Suspicious,
            _ => CollapseSignal::Collapsed,
        }
    }
}

fn unit_rows(set: Labelled<'_>) -> Array2<f32> {
    assert!(!set.labels.is_empty(), "no rows to compare");
    unit_matrix(set.features, set.features.len() / set.labels.len())
}

/// Rows scaled to length 1; rows of zeros stay.
fn unit_matrix(values: &[f32], width: usize) -> Array2<f32> {
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
mod tests {
    use super::*;

    fn gaussian_rows(rows: usize, width: usize, seed: u64) -> Vec<f32> {
        let mut random = Random::new(Draw { seed, epoch: 0, picture: 0, view: 0 });
        (0..rows * width).map(|_| (0..12).map(|_| random.unit() as f32).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn even_embeddings_have_spread_1_and_equal_ones_0() {
        let even = EmbeddingStatistics::of(&gaussian_rows(4000, 32, 1), 32);
        assert!((even.spread - 1.0).abs() < 0.01 && even.cosine.abs() < 0.02, "{even:?}");
        assert!(even.effective_rank > 31.0, "{even:?}");
        let row = gaussian_rows(1, 32, 2);
        let same = EmbeddingStatistics::of(&row.repeat(100), 32);
        assert!(same.spread < 1e-5 && (same.cosine - 1.0).abs() < 1e-5, "{same:?}");
        let two: Vec<f32> = (0..100).flat_map(|i| if i % 2 == 0 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] }).collect();
        assert!((EmbeddingStatistics::of(&two, 3).effective_rank - 1.0).abs() < 1e-5);
    }

    #[test]
    fn a_collapse_is_called_after_so_many_bad_readings_in_a_row() {
        let reading = |spread| EmbeddingStatistics { spread, cosine: 0.0, effective_rank: 2.0 };
        let mut watch = CollapseWatch::default();
        let seen: Vec<_> = [0.5, 0.01, 0.01, 0.2, 0.01, 0.02, 0.03].map(|s| watch.observe(&reading(s))).into();
        use CollapseSignal::{Collapsed, Healthy, Suspicious};
        assert_eq!(seen, [Healthy, Suspicious, Suspicious, Healthy, Suspicious, Suspicious, Collapsed]);
        assert_eq!(CollapseWatch::default().observe(&reading(f64::NAN)), Collapsed);
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
