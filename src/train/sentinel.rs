//! Watches a run for collapse: the embeddings of all pictures becoming one, or falling onto one line.
//!
//! The loss does not show it (it falls to its best), and a probe may stay flat until the very end. Three figures do, taken
//! of the online projections of each batch: how far the normalised embeddings spread, how many directions carry them,
//! and the mean cosine between different pictures. The bounds were set on 40 runs, 20 of them made to collapse
//! (docs/results.md, `tests/bench/sentinel.py`).

use crate::config::RunConfig;
use crate::error::Error;
use crate::monitor::unit_matrix;
use ndarray::Axis;
use serde::{Deserialize, Serialize};

/// How far embeddings are from being all the same.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct EmbeddingStatistics {
    /// Mean over dimensions of the standard deviation of length-1 embeddings, times the root of the dimension:
    /// 1 when they fill the sphere evenly, 0 when they are one point.
    pub spread: f64,
    /// Mean cosine between different rows: 0 when they fill the sphere evenly, 1 when they are one point.
    pub cosine: f64,
    /// Directions that carry the variance of the length-1 embeddings, (sum of eigenvalues)^2 / sum of their squares:
    /// from 1 to the dimension.
    pub effective_rank: f64,
}

impl EmbeddingStatistics {
    /// Of rows of `width` numbers, those of one batch. Fewer than two rows have no spread: all three are 0, 1 and 1.
    ///
    /// # Panics
    /// If `width` is 0 or the embeddings are not a whole number of rows.
    pub fn of(embeddings: &[f32], width: usize) -> EmbeddingStatistics {
        let unit = unit_matrix(embeddings, width);
        let rows = unit.nrows();
        if rows < 2 {
            return EmbeddingStatistics { spread: 0.0, cosine: 1.0, effective_rank: 1.0 };
        }
        // The mean over all pairs, from the length of the sum: |sum|^2 = rows + the cosines of all ordered pairs.
        let sum = unit.sum_axis(Axis(0)).iter().map(|&v| f64::from(v).powi(2)).sum::<f64>();
        let cosine = (sum - rows as f64) / (rows * (rows - 1)) as f64;
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

/// What a reading, after those before it, says about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Signal {
    /// Embeddings differ.
    Healthy,
    /// They hardly differ, for fewer readings in a row than it takes to be sure.
    Suspicious,
    /// They hardly differed for so many readings in a row, or are no numbers.
    Collapsed,
}

/// Counts bad readings in a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sentinel {
    /// A spread below this is bad: 0.25 is a mean cosine of about 0.94.
    pub least_spread: f64,
    /// An effective rank below this is bad: 1 is a line.
    pub least_rank: f64,
    /// Bad readings in a row that make a collapse.
    pub patience: usize,
    /// Bad readings that a network may begin with: some start close together and move apart as they learn.
    pub grace: usize,
    bad: usize,
    begun: bool,
}

impl Sentinel {
    /// For a run of so many readings: sure after a hundredth of them, and after 5 to 100; at its beginning after a
    /// twentieth.
    pub fn new(readings: usize) -> Self {
        let patience = (readings / 100).clamp(5, 100);
        Self { least_spread: 0.25, least_rank: 1.1, patience, grace: patience.max(readings / 20), bad: 0, begun: false }
    }

    /// Takes the next reading.
    pub fn observe(&mut self, statistics: &EmbeddingStatistics) -> Signal {
        let EmbeddingStatistics { spread, effective_rank, .. } = *statistics;
        // Written so that what is no number is bad.
        if spread >= self.least_spread && effective_rank >= self.least_rank {
            (self.bad, self.begun) = (0, true);
            return Signal::Healthy;
        }
        self.bad = self.bad.saturating_add(1);
        let enough = if self.begun { self.patience } else { self.grace };
        if self.bad < enough && spread.is_finite() { Signal::Suspicious } else { Signal::Collapsed }
    }
}

/// The error of a run that has collapsed: what was seen, and what to change first.
pub fn collapsed(config: &RunConfig, step: usize, steps: usize, statistics: &EmbeddingStatistics) -> Error {
    let EmbeddingStatistics { spread, cosine, effective_rank } = statistics;
    let signs = format!(
        "they spread {spread:.3} (1 is even, 0 is a point), {effective_rank:.1} directions carry them, and two pictures' \
         have a cosine of {cosine:.3}"
    );
    Error::Collapsed { step, steps, signs, advice: advice(config) }
}

/// What is most likely wrong, known causes first (paper, section 5 and table 5).
fn advice(config: &RunConfig) -> String {
    let o = &config.optimizer;
    if config.predictor.layers == 0 {
        return "There is no predictor, and without one nothing keeps embeddings apart: set predictor.layers = 2."
            .into();
    }
    if o.predictor_learning_rate < 1.0 || o.projector_learning_rate > o.predictor_learning_rate {
        return format!(
            "The predictor must learn at least as fast as what it predicts: raise optimizer.predictor_learning_rate \
             ({}) above optimizer.projector_learning_rate ({}).",
            o.predictor_learning_rate, o.projector_learning_rate
        );
    }
    if config.ema.tau_base < 0.9 {
        return format!(
            "The target follows too closely: raise ema.tau_base ({}) to 0.95 or more.",
            config.ema.tau_base
        );
    }
    if o.weight_decay > 1e-2 {
        return format!("Weights are pulled to zero: lower optimizer.weight_decay ({}) below 1e-3.", o.weight_decay);
    }
    let mut advice = format!(
        "Lower optimizer.base_learning_rate ({}) three times, or lengthen optimizer.warmup ({})",
        o.base_learning_rate, o.warmup
    );
    if !(config.projector.batch_norm && config.predictor.batch_norm) {
        advice += "; switch on projector.batch_norm and predictor.batch_norm";
    }
    if config.pictures_per_step() < 64 {
        advice += &format!("; raise batch_size ({})", config.batch_size);
    }
    advice + "; or let the predictor learn faster: optimizer.predictor_learning_rate = 10."
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::tests::gaussian_rows;

    #[test]
    fn even_embeddings_have_spread_1_and_equal_ones_0() {
        let even = EmbeddingStatistics::of(&gaussian_rows(4000, 32, 1), 32);
        assert!((even.spread - 1.0).abs() < 0.01 && even.cosine.abs() < 0.02, "{even:?}");
        assert!(even.effective_rank > 31.0, "{even:?}");
        let row = gaussian_rows(1, 32, 2);
        let same = EmbeddingStatistics::of(&row.repeat(100), 32);
        assert!(same.spread < 1e-5 && (same.cosine - 1.0).abs() < 1e-5, "{same:?}");
        let two: Vec<f32> = (0..100).flat_map(|i| if i % 2 == 0 { [1.0, 0.0, 0.0] } else { [0.0, 1.0, 0.0] }).collect();
        let two = EmbeddingStatistics::of(&two, 3);
        assert!((two.effective_rank - 1.0).abs() < 1e-5);
        // 50 equal and 50 orthogonal: of 9900 ordered pairs, 2 x 50 x 49 have cosine 1.
        assert!((two.cosine - 4900.0 / 9900.0).abs() < 1e-6, "{two:?}");
    }

    #[test]
    fn a_collapse_is_called_after_so_many_bad_readings_in_a_row() {
        let reading = |spread, effective_rank| EmbeddingStatistics { spread, cosine: 0.0, effective_rank };
        let new = Sentinel { patience: 3, grace: 5, ..Sentinel::new(0) };
        let see = |readings: &[(f64, f64)]| -> Vec<Signal> {
            let mut sentinel = new;
            readings.iter().map(|&(spread, rank)| sentinel.observe(&reading(spread, rank))).collect()
        };
        use Signal::{Collapsed, Healthy, Suspicious};
        let seen = see(&[(0.5, 9.0), (0.01, 9.0), (0.5, 1.02), (0.3, 9.0), (0.01, 9.0), (0.02, 1.0), (0.03, 5.0)]);
        assert_eq!(seen, [Healthy, Suspicious, Suspicious, Healthy, Suspicious, Suspicious, Collapsed]);
        // A network that begins close together has longer to move apart.
        let slow = [(0.1, 9.0), (0.1, 9.0), (0.15, 9.0), (0.2, 9.0)];
        assert_eq!(see(&slow), [Suspicious; 4]);
        assert_eq!(see(&[&slow[..], &[(0.2, 9.0)]].concat()).last(), Some(&Collapsed));
        assert_eq!(see(&[&slow[..], &[(0.4, 9.0)], &slow[..2]].concat()).last(), Some(&Suspicious));
        assert_eq!(Sentinel::new(100).observe(&reading(f64::NAN, f64::NAN)), Collapsed);
    }

    #[test]
    fn the_advice_names_the_setting() {
        let says = |change: fn(&mut RunConfig), part: &str| {
            let mut config = RunConfig::default();
            change(&mut config);
            let reading = EmbeddingStatistics { spread: 0.01, cosine: 0.99, effective_rank: 1.0 };
            let message = collapsed(&config, 7, 100, &reading).to_string();
            assert!(message.contains(part) && message.contains("step 7 of 100"), "{message}");
        };
        says(|c| c.predictor.layers = 0, "predictor.layers");
        says(|c| c.optimizer.projector_learning_rate = 10.0, "projector_learning_rate (10)");
        says(|c| c.ema.tau_base = 0.0, "ema.tau_base (0)");
        says(|c| c.optimizer.weight_decay = 0.1, "weight_decay (0.1)");
        says(|c| c.optimizer.base_learning_rate = 50.0, "base_learning_rate (50)");
    }
}
