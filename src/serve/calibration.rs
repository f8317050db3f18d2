//! Ranges of the values inside a network, from pictures: what quantisation needs to know.
//!
//! Two passes over the pictures: smallest and largest values first, then a histogram of each value between them. From
//! the histogram any [`Method`] reads its ranges, so trying all of them costs no third pass. Memory does not depend on
//! the number of pictures: one picture's values, and [`BINS`] counts per value.

use std::collections::BTreeMap;

use byol_model::onnx_quantize::Range;
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::encoder::{Encoder, InputKind, Pixels};
use crate::error::{Error, Result};
use crate::pool::Wish;

/// Bins of a histogram.
pub const BINS: usize = 2048;
/// Levels of an 8-bit value.
const LEVELS: usize = 256;

/// How a range is read from what was seen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Method {
    /// Everything that was seen. Outliers cost resolution.
    MinMax,
    /// What so many per cent of the values lie in, an equal part cut off at both ends; 99.99 is usual.
    Percentile(f64),
    /// The cut that loses the least information: smallest Kullback-Leibler divergence between the histogram and itself
    /// in 256 levels.
    Entropy,
}

impl std::fmt::Display for Method {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::MinMax => f.write_str("min-max"),
            Self::Percentile(percent) => write!(f, "percentile {percent}"),
            Self::Entropy => f.write_str("entropy"),
        }
    }
}

/// What was seen of every value.
#[derive(Debug)]
pub struct Calibration {
    histograms: BTreeMap<String, Histogram>,
}

/// Counts of a value between its smallest and largest.
#[derive(Clone, Debug, PartialEq)]
struct Histogram {
    least: f32,
    most: f32,
    counts: Vec<u64>,
}

impl Calibration {
    /// Runs prepared pictures (uint8 `[height, width, channels]` each) through a model that gives `values` as outputs.
    /// `progress` is called after each run with the number done and in total.
    ///
    /// # Errors
    /// [`Error::ModelUnsupported`] for a value that the model does not give or that is not finite; those of inference.
    pub(crate) fn observe(
        observed: &Encoder,
        values: &[String],
        pictures: &[Vec<u8>],
        cancel: &Cancel,
        progress: &mut dyn FnMut(usize, usize),
    ) -> Result<Self> {
        let total = 2 * pictures.len();
        let mut histograms: BTreeMap<String, Histogram> =
            values.iter().map(|value| (value.clone(), Histogram::empty())).collect();
        let mut floats = vec![0.0; observed.contract().bytes()];
        for (run, picture) in pictures.iter().chain(pictures).enumerate() {
            let pixels = match observed.input_kind() {
                InputKind::U8 => Pixels::U8(picture),
                InputKind::F32 => {
                    observed.contract().normalise(picture, &mut floats);
                    Pixels::F32(&floats)
                }
            };
            let counting = run >= pictures.len();
            observed.run_all(pixels, 1, Wish::Latency, cancel, &mut |outputs| {
                let wrong = |value: &str, why: String| Error::ModelUnsupported {
                    path: observed.path().into(),
                    why: format!("its inner value {value:?} {why}"),
                };
                let mut seen = Vec::with_capacity(histograms.len());
                for (value, histogram) in &mut histograms {
                    // The model's own input is no output of it, but known all the same.
                    if let Pixels::F32(floats) = pixels
                        && value == observed.input_name()
                    {
                        seen.push((value, histogram, floats));
                        continue;
                    }
                    let output = outputs.get(value).ok_or_else(|| wrong(value, "cannot be looked at".into()))?;
                    let tensor = output.try_extract_tensor::<f32>().map_err(|e| wrong(value, e.to_string()))?;
                    seen.push((value, histogram, tensor.1));
                }
                seen.into_par_iter().try_for_each(|(value, histogram, tensor)| match counting {
                    true => {
                        histogram.count(tensor);
                        Ok(())
                    }
                    false => histogram.widen(tensor).map_err(|found| {
                        wrong(value, format!("becomes {found} for a calibration picture; it must stay finite"))
                    }),
                })
            })?;
            progress(run + 1, total);
        }
        Ok(Self { histograms })
    }

    /// The range of every value.
    pub fn ranges(&self, method: Method) -> BTreeMap<String, Range> {
        let range = |(value, histogram): (&String, &Histogram)| (value.clone(), histogram.range(method));
        self.histograms.par_iter().map(range).collect()
    }
}

impl Histogram {
    fn empty() -> Self {
        Self { least: 0.0, most: 0.0, counts: vec![0; BINS] }
    }

    /// First pass. An error is the value that is not finite.
    fn widen(&mut self, values: &[f32]) -> Result<(), f32> {
        for &value in values {
            if !value.is_finite() {
                return Err(value);
            }
            self.least = self.least.min(value);
            self.most = self.most.max(value);
        }
        Ok(())
    }

    /// Second pass.
    fn count(&mut self, values: &[f32]) {
        let per_bin = BINS as f32 / (self.most - self.least).max(f32::MIN_POSITIVE);
        for &value in values {
            // Negative and NaN become 0 in the cast, which only a model that changes between runs could give.
            let bin = ((value - self.least) * per_bin) as usize;
            self.counts[bin.min(BINS - 1)] += 1;
        }
    }

    fn range(&self, method: Method) -> Range {
        match method {
            Method::MinMax => (self.least, self.most),
            Method::Percentile(percent) => self.percentile(percent),
            Method::Entropy => self.entropy(),
        }
    }

    fn edge(&self, bin: usize) -> f32 {
        self.least + (self.most - self.least) * (bin as f32 / BINS as f32)
    }

    fn percentile(&self, percent: f64) -> Range {
        let total: u64 = self.counts.iter().sum();
        let cut = total as f64 * (1.0 - percent / 100.0) / 2.0;
        let bins_cut = |counts: &mut dyn Iterator<Item = &u64>| {
            let mut sum = 0;
            counts
                .take_while(|&&count| {
                    sum += count;
                    (sum as f64) <= cut
                })
                .count()
        };
        let (low, high) = (bins_cut(&mut self.counts.iter()), bins_cut(&mut self.counts.iter().rev()));
        // All values in one bin: nothing to cut.
        if low + high >= BINS {
            return (self.least, self.most);
        }
        (self.edge(low).min(0.0), self.edge(BINS - high).max(0.0))
    }

    /// Tries to keep 4/64, 5/64, ... of the histogram on either side of 0, one side after the other (an outlier on one
    /// side is no reason to cut the other), and takes the part whose 256 levels tell most.
    fn entropy(&self) -> Range {
        const STEPS: usize = 64;
        let zero = self.counts.len() as f32 * (-self.least) / (self.most - self.least).max(f32::MIN_POSITIVE);
        let zero = (zero as usize).min(BINS - 1);
        // At a tie the wider part: it clips less.
        let best = |parts: &mut dyn Iterator<Item = (usize, usize)>| {
            parts
                .filter(|(low, high)| high - low >= LEVELS)
                .map(|(low, high)| (self.divergence(low, high), (low, high)))
                .fold((f64::INFINITY, (0, BINS)), |best, tried| if tried.0 <= best.0 { tried } else { best })
                .1
        };
        let (_, high) = best(&mut (STEPS / 16..=STEPS).map(|step| (0, zero + (BINS - zero) * step / STEPS)));
        let (low, high) = best(&mut (STEPS / 16..=STEPS).map(|step| (zero - zero * step / STEPS, high)));
        (self.edge(low), self.edge(high))
    }

    /// Kullback-Leibler divergence of the histogram, with what lies outside `low..high` put into its outermost bins,
    /// from its version in 256 levels.
    fn divergence(&self, low: usize, high: usize) -> f64 {
        let inside = &self.counts[low..high];
        let mut reference: Vec<f64> = inside.iter().map(|&count| count as f64).collect();
        reference[0] += self.counts[..low].iter().sum::<u64>() as f64;
        if let Some(last) = reference.last_mut() {
            *last += self.counts[high..].iter().sum::<u64>() as f64;
        }
        let mut coarse = vec![0.0; inside.len()];
        for level in 0..LEVELS {
            let (first, end) = (level * inside.len() / LEVELS, (level + 1) * inside.len() / LEVELS);
            let used = inside[first..end].iter().filter(|&&count| count > 0).count();
            if used > 0 {
                let mean = inside[first..end].iter().sum::<u64>() as f64 / used as f64;
                for bin in (first..end).filter(|&bin| inside[bin] > 0) {
                    coarse[bin] = mean;
                }
            }
        }
        let (total, coarse_total) = (reference.iter().sum::<f64>(), coarse.iter().sum::<f64>());
        if total == 0.0 || coarse_total == 0.0 {
            return f64::INFINITY;
        }
        // A bin that has values only by clipping gets a little, or the divergence would have no number.
        let floor = 1e-6 / inside.len() as f64;
        let pairs = reference.iter().zip(&coarse).filter(|(p, _)| **p > 0.0);
        pairs.map(|(p, q)| (p / total) * ((p / total) / (q / coarse_total).max(floor)).ln()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A normal distribution (a sum of uniform ones), with one outlier far off.
    fn histogram(outlier: f32) -> Histogram {
        let mut state = 1u64;
        let mut uniform = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32
        };
        let mut values: Vec<f32> = (0..200_000).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect();
        values.push(outlier);
        let mut histogram = Histogram::empty();
        histogram.widen(&values).unwrap();
        histogram.count(&values);
        histogram
    }

    #[test]
    fn an_outlier_widens_min_max_only() {
        let seen = histogram(40.0);
        assert_eq!(seen.range(Method::MinMax).1, 40.0);
        let (low, high) = seen.range(Method::Percentile(99.99));
        assert!((-4.6..-3.2).contains(&low) && (3.2..4.6).contains(&high), "{low} {high}");
        let (low, high) = seen.range(Method::Entropy);
        assert!(low <= -2.0 && (3.0..16.0).contains(&high), "{low} {high}");
    }

    #[test]
    fn what_is_not_finite_is_reported_and_constants_have_a_range() {
        let mut seen = Histogram::empty();
        assert!(seen.widen(&[1.0, f32::NAN]).unwrap_err().is_nan());
        let mut constant = Histogram::empty();
        constant.widen(&[0.0; 9]).unwrap();
        constant.count(&[0.0; 9]);
        for method in [Method::MinMax, Method::Percentile(99.9), Method::Entropy] {
            assert_eq!(constant.range(method), (0.0, 0.0), "{method}");
        }
    }
}
