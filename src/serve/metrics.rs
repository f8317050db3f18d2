//! How good predictions are: accuracy in its several senses, and how far probabilities can be trusted.

use ndarray::{Array2, ArrayView2};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Serialize, Serializer};

use crate::error::{Error, Result};
use crate::problem::check_labels;

/// Everything that one labelled set says about a classifier.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Evaluation {
    /// Number of examples.
    pub examples: usize,
    /// Share of examples whose most probable class is theirs. Ties go to the class with the lower number.
    pub top1: f64,
    /// Share of examples whose class is among the five most probable (all, where there are fewer classes).
    pub top5: f64,
    /// Mean recall over the classes that occur.
    pub balanced: f64,
    /// Mean of minus the natural logarithm of the probability of the right class.
    pub log_loss: f64,
    /// Expected calibration error: mean distance of confidence and accuracy over 15 equal bins of confidence, weighted
    /// by their examples (Guo et al. 2017, <https://arxiv.org/abs/1706.04599>).
    pub ece: f64,
    /// One per class.
    pub per_class: Vec<ClassMetrics>,
    /// `[class, predicted class]`, in examples.
    #[serde(serialize_with = "rows")]
    pub confusion: Array2<u64>,
    /// 95% interval of `top1` (Wilson's score interval).
    pub interval: (f64, f64),
}

/// One class in an [`Evaluation`]. A ratio of nothing by nothing is 0.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassMetrics {
    /// Name of the class.
    pub label: String,
    /// Number of examples of this class.
    pub examples: u64,
    /// Right among those predicted to be of this class.
    pub precision: f64,
    /// Right among those of this class.
    pub recall: f64,
    /// Harmonic mean of precision and recall.
    pub f1: f64,
}

impl Evaluation {
    /// Compares probabilities `[examples, classes]` with the true labels.
    ///
    /// # Errors
    /// [`Error::EmptyData`], [`Error::LabelMismatch`], [`Error::DimensionMismatch`] (names against columns),
    /// [`Error::LabelOutside`].
    pub fn new(probabilities: ArrayView2<f32>, labels: &[u32], names: &[String]) -> Result<Self> {
        let mut tally = Tally::new(names.len());
        tally.add(probabilities, labels)?;
        tally.evaluation(names)
    }
}

/// What rows say, added up block by block: for sets whose probabilities are not in memory all at once.
#[derive(Debug)]
pub struct Tally {
    confusion: Array2<u64>,
    outcomes: Vec<Outcome>,
}

impl Tally {
    /// Nothing seen yet of so many classes.
    pub fn new(classes: usize) -> Self {
        Self { confusion: Array2::zeros((classes, classes)), outcomes: Vec::new() }
    }

    /// Bytes that [`Tally::reserve`] takes for so many rows.
    pub fn room(examples: usize) -> usize {
        examples.saturating_mul(size_of::<Outcome>())
    }

    /// Makes room for so many further rows.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn reserve(&mut self, examples: usize) -> Result<()> {
        self.outcomes.try_reserve(examples).map_err(|_| Error::NoMemory { bytes: Self::room(examples) })
    }

    /// Takes in probabilities `[examples, classes]` and the true labels.
    ///
    /// # Errors
    /// [`Error::LabelMismatch`], [`Error::DimensionMismatch`], [`Error::LabelOutside`], [`Error::NoMemory`].
    pub fn add(&mut self, probabilities: ArrayView2<f32>, labels: &[u32]) -> Result<()> {
        let (examples, found) = probabilities.dim();
        let classes = self.confusion.nrows();
        if labels.len() != examples {
            return Err(Error::LabelMismatch { features: examples, labels: labels.len() });
        }
        if found != classes {
            return Err(Error::DimensionMismatch { what: "names of classes", expected: found, found: classes });
        }
        self.reserve(examples)?;
        for (p, &label) in probabilities.outer_iter().zip(labels) {
            if label as usize >= classes {
                return Err(Error::LabelOutside { row: self.outcomes.len(), label: label.into(), classes });
            }
            let (outcome, best) = Outcome::of(p, label);
            self.confusion[[label as usize, best]] += 1;
            self.outcomes.push(outcome);
        }
        Ok(())
    }

    /// What all of them say together.
    ///
    /// # Errors
    /// [`Error::EmptyData`], [`Error::DimensionMismatch`] of the names.
    pub fn evaluation(&self, names: &[String]) -> Result<Evaluation> {
        let (examples, confusion, classes) = (self.outcomes.len(), &self.confusion, self.confusion.nrows());
        if examples == 0 {
            return Err(Error::EmptyData { what: "rows to evaluate" });
        }
        if names.len() != classes {
            return Err(Error::DimensionMismatch { what: "names of classes", expected: classes, found: names.len() });
        }
        let (mut top5, mut log_loss, mut bins) = (0usize, 0f64, [0f64; 15]);
        for o in &self.outcomes {
            top5 += usize::from(o.among5);
            log_loss += o.loss;
            bins[o.bin()] += f64::from(u8::from(o.right)) - o.confidence;
        }
        let per_class: Vec<ClassMetrics> = (0..classes)
            .map(|class| {
                let right = confusion[[class, class]];
                let examples = confusion.row(class).sum();
                let precision = ratio(right, confusion.column(class).sum());
                let recall = ratio(right, examples);
                let f1 = if right == 0 { 0.0 } else { 2.0 * precision * recall / (precision + recall) };
                ClassMetrics { label: names[class].clone(), examples, precision, recall, f1 }
            })
            .collect();
        let right: u64 = confusion.diag().sum();
        let occurring: Vec<f64> =
            per_class.iter().filter(|class| class.examples > 0).map(|class| class.recall).collect();
        Ok(Evaluation {
            examples,
            top1: ratio(right, examples as u64),
            top5: top5 as f64 / examples as f64,
            balanced: occurring.iter().sum::<f64>() / occurring.len() as f64,
            log_loss: log_loss / examples as f64,
            ece: bins.iter().map(|bin| bin.abs()).sum::<f64>() / examples as f64,
            per_class,
            confusion: confusion.clone(),
            interval: wilson(right, examples as u64),
        })
    }

    /// As [`Intervals::bootstrap`].
    ///
    /// # Errors
    /// [`Error::EmptyData`], [`Error::InvalidOption`].
    pub fn intervals(&self, resamples: usize, seed: u64) -> Result<Intervals> {
        if self.outcomes.is_empty() {
            return Err(Error::EmptyData { what: "rows to evaluate" });
        }
        if resamples < 40 {
            let must = "it must be at least 40";
            return Err(Error::InvalidOption { option: "resamples", value: resamples.to_string(), must });
        }
        Ok(Intervals::drawn(&self.outcomes, self.confusion.nrows(), resamples, seed))
    }
}

/// 95% intervals of an [`Evaluation`]'s figures by the percentile bootstrap (Efron 1979): from the 2.5th to the 97.5th
/// percentile of the figure over sets of as many rows, drawn from the rows with replacement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Intervals {
    /// How many sets were drawn.
    pub resamples: usize,
    /// Of [`Evaluation::top1`].
    pub top1: (f64, f64),
    /// Of [`Evaluation::top5`].
    pub top5: (f64, f64),
    /// Of [`Evaluation::balanced`].
    pub balanced: (f64, f64),
    /// Of [`Evaluation::log_loss`].
    pub log_loss: (f64, f64),
    /// Of [`Evaluation::ece`].
    pub ece: (f64, f64),
}

/// What one row says.
#[derive(Clone, Copy, Debug)]
struct Outcome {
    label: u32,
    right: bool,
    among5: bool,
    loss: f64,
    confidence: f64,
}

impl Outcome {
    /// Of a row's probabilities; and its most probable class.
    fn of(p: ndarray::ArrayView1<f32>, label: u32) -> (Self, usize) {
        let class = label as usize;
        let own = p[class];
        // Classes that come before this one in the ranking.
        let better = p.iter().enumerate().filter(|&(other, &v)| v > own || (v == own && other < class)).count();
        let best = (1..p.len()).fold(0, |best, class| if p[class] > p[best] { class } else { best });
        let loss = -f64::from(own.max(f32::MIN_POSITIVE)).ln();
        (Self { label, right: best == class, among5: better < 5, loss, confidence: f64::from(p[best]) }, best)
    }

    /// Its bin of confidence, of 15.
    fn bin(&self) -> usize {
        ((self.confidence * 15.0).ceil() as usize).clamp(1, 15) - 1
    }
}

impl Intervals {
    /// Draws `resamples` sets of rows of the probabilities `[examples, classes]`; the seed decides all.
    ///
    /// # Errors
    /// [`Error::EmptyData`], [`Error::LabelMismatch`], [`Error::LabelOutside`], [`Error::InvalidOption`] for fewer than
    /// 40 resamples, of which no 2.5th percentile can be told.
    pub fn bootstrap(probabilities: ArrayView2<f32>, labels: &[u32], resamples: usize, seed: u64) -> Result<Self> {
        let mut tally = Tally::new(probabilities.ncols());
        tally.add(probabilities, labels)?;
        tally.intervals(resamples, seed)
    }

    fn drawn(outcomes: &[Outcome], classes: usize, resamples: usize, seed: u64) -> Self {
        let examples = outcomes.len();
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut figures: [Vec<f64>; 5] = Default::default();
        for _ in 0..resamples {
            let (mut top1, mut top5, mut loss) = (0usize, 0usize, 0f64);
            let mut recalls = vec![(0u64, 0u64); classes];
            let mut bins = [0f64; 15];
            for _ in 0..examples {
                let o = &outcomes[random.random_range(0..examples)];
                top1 += usize::from(o.right);
                top5 += usize::from(o.among5);
                loss += o.loss;
                recalls[o.label as usize].0 += 1;
                recalls[o.label as usize].1 += u64::from(o.right);
                bins[o.bin()] += f64::from(u8::from(o.right)) - o.confidence;
            }
            let n = examples as f64;
            let occurring = recalls.iter().filter(|(of, _)| *of > 0).count() as f64;
            let balanced = recalls.iter().map(|&(of, right)| ratio(right, of)).sum::<f64>() / occurring;
            let ece = bins.iter().map(|bin| bin.abs()).sum::<f64>() / n;
            let drawn = [top1 as f64 / n, top5 as f64 / n, balanced, loss / n, ece];
            figures.iter_mut().zip(drawn).for_each(|(figure, value)| figure.push(value));
        }
        let [top1, top5, balanced, log_loss, ece] = figures.map(|mut figure| {
            figure.sort_by(f64::total_cmp);
            let at = |share: f64| figure[(share * (figure.len() - 1) as f64).round() as usize];
            (at(0.025), at(0.975))
        });
        Self { resamples, top1, top5, balanced, log_loss, ece }
    }
}

/// Share of `labels` that `predicted` names; 0 for none.
pub fn accuracy(predicted: &[u32], labels: &[u32]) -> f64 {
    let right = predicted.iter().zip(labels).filter(|(predicted, label)| predicted == label).count();
    ratio(right as u64, labels.len() as u64)
}

/// The temperature that makes scores `[examples, classes]`, divided by it, least surprising: the one of least log-loss,
/// between 1e-3 and 1e3. Log-loss is convex in 1 / temperature, so the root of its slope is the one minimum.
///
/// # Errors
/// [`Error::EmptyData`], [`Error::LabelMismatch`], [`Error::LabelOutside`].
pub fn temperature(logits: ArrayView2<f32>, labels: &[u32]) -> Result<f64> {
    let (examples, classes) = logits.dim();
    if examples == 0 {
        return Err(Error::EmptyData { what: "rows to calibrate on" });
    }
    if labels.len() != examples {
        return Err(Error::LabelMismatch { features: examples, labels: labels.len() });
    }
    check_labels(labels, classes)?;
    // Sum over rows of the expected score minus that of the right class, under the scores times `inverse`.
    let slope = |inverse: f64| -> f64 {
        let row = |(row, &label): (ndarray::ArrayView1<f32>, &u32)| {
            let top = f64::from(row.fold(f32::NEG_INFINITY, |top, &z| top.max(z)));
            let (mut total, mut mean) = (0.0, 0.0);
            for &z in row {
                let e = ((f64::from(z) - top) * inverse).exp();
                total += e;
                mean += e * f64::from(z);
            }
            mean / total - f64::from(row[label as usize])
        };
        logits.outer_iter().zip(labels).map(row).sum()
    };
    let (mut low, mut high) = (-3.0 * 10f64.ln(), 3.0 * 10f64.ln());
    while high - low > 1e-9 {
        let middle = 0.5 * (low + high);
        *(if slope(middle.exp()) <= 0.0 { &mut low } else { &mut high }) = middle;
    }
    Ok((-0.5 * (low + high)).exp())
}

/// 95% interval of a share, by Wilson (1927): never outside 0 to 1, and good at both ends.
pub fn wilson(right: u64, examples: u64) -> (f64, f64) {
    const Z: f64 = 1.959_963_984_540_054;
    let n = examples as f64;
    if examples == 0 {
        return (0.0, 1.0);
    }
    let share = right as f64 / n;
    let centre = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    (((centre - half) / scale).max(0.0), ((centre + half) / scale).min(1.0))
}

/// As a list of rows, which is what readers of JSON expect.
fn rows<S: Serializer>(matrix: &Array2<u64>, serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.collect_seq(matrix.outer_iter().map(|row| row.to_vec()))
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::*;

    #[test]
    fn a_worked_example_gives_the_numbers_done_by_hand() {
        let p = array![[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.6, 0.3, 0.1], [0.2, 0.2, 0.6]];
        let names: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let e = Evaluation::new(p.view(), &[0, 1, 1, 2], &names).unwrap();
        assert_eq!((e.top1, e.top5), (0.75, 1.0));
        assert!((e.balanced - (1.0 + 0.5 + 1.0) / 3.0).abs() < 1e-12);
        let loss = -(0.7f64.ln() + 0.8f64.ln() + 0.3f64.ln() + 0.6f64.ln()) / 4.0;
        assert!((e.log_loss - loss).abs() < 1e-6);
        assert_eq!(e.confusion, array![[1, 0, 0], [1, 1, 0], [0, 0, 1]]);
        assert_eq!((e.per_class[0].precision, e.per_class[1].recall), (0.5, 0.5));
        // Bins: {0.6, 0.6} holds one right of two, 0.7 and 0.8 are right.
        assert!((e.ece - (0.2 + 0.3 + 0.2) / 4.0).abs() < 1e-6);
    }

    /// Of two classes one score apart, right three times in four: the odds 3 need a difference of ln 3.
    #[test]
    fn the_temperature_of_a_worked_example_is_the_one_done_by_hand() {
        let logits = array![[2.0, 0.0], [2.0, 0.0], [0.0, 2.0], [2.0, 0.0]];
        let t = temperature(logits.view(), &[0, 0, 1, 1]).unwrap();
        assert!((t - 2.0 / 3f64.ln()).abs() < 1e-6, "{t}");
        // All right: ever surer.
        assert!(temperature(logits.view(), &[0, 0, 1, 0]).unwrap() < 1.1e-3);
        assert!(temperature(logits.view(), &[0, 2, 1, 1]).unwrap_err().to_string().contains('2'));
    }

    #[test]
    fn the_wilson_interval_of_8_in_10_is_the_textbook_one() {
        let (low, high) = wilson(8, 10);
        assert!((low - 0.4902).abs() < 1e-4 && (high - 0.9433).abs() < 1e-4);
    }

    #[test]
    fn bootstrap_intervals_agree_with_the_binomial_and_hold_the_figure() {
        // 400 rows, 300 of them right with a probability of 0.75: the deviation of the share is sqrt(.75 * .25 / 400).
        let row = |i: usize| if i.is_multiple_of(4) { [0.25f32, 0.75] } else { [0.75, 0.25] };
        let p = Array2::from_shape_fn((400, 2), |(i, class)| row(i)[class]);
        let labels = vec![0u32; 400];
        let found = Intervals::bootstrap(p.view(), &labels, 2000, 7).unwrap();
        let half = 1.96 * (0.75f64 * 0.25 / 400.0).sqrt();
        for (found, exact) in [(found.top1.0, 0.75 - half), (found.top1.1, 0.75 + half)] {
            assert!((found - exact).abs() < 0.008, "{found} {exact}");
        }
        let names = ["a".to_string(), "b".to_string()];
        let whole = Evaluation::new(p.view(), &labels, &names).unwrap();
        assert!((found.log_loss.0..found.log_loss.1).contains(&whole.log_loss));
        assert_eq!(found.top1, found.balanced);
        assert_eq!(found.top5, (1.0, 1.0));
        assert_eq!(found, Intervals::bootstrap(p.view(), &labels, 2000, 7).unwrap());
        assert!(Intervals::bootstrap(p.view(), &labels, 39, 7).is_err());
    }
}
