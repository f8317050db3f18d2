//! Learning rate and tau over a run, both counted in optimiser steps, so that gradient accumulation and the number of
//! pictures change neither. Source: paper, section 3.2 and appendix J.

use std::f64::consts::PI;

/// Linear warm-up, then half a cosine down to zero.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningRate {
    /// Highest rate, reached at the end of the warm-up.
    pub peak: f64,
    /// Steps of the warm-up.
    pub warmup: usize,
    /// Steps of the whole run.
    pub steps: usize,
}

impl LearningRate {
    /// The rate of a step, counted from 0. The warm-up's first step already learns: it has `peak / warmup`.
    pub fn at(&self, step: usize) -> f64 {
        if step < self.warmup {
            return self.peak * (step + 1) as f64 / self.warmup as f64;
        }
        let span = self.steps.saturating_sub(self.warmup).max(1);
        self.peak * 0.5 * (1.0 + (PI * (step - self.warmup).min(span) as f64 / span as f64).cos())
    }
}

/// The target's share of itself, `tau`: from `base` on a cosine up to `end`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tau {
    /// Value of the first step.
    pub base: f64,
    /// Value that the run ends at: 1 in the paper; equal to `base` for a constant.
    pub end: f64,
    /// Steps of the whole run.
    pub steps: usize,
}

impl Tau {
    /// Tau of a step, counted from 0: `end - (end - base) (cos(pi step / steps) + 1) / 2`.
    pub fn at(&self, step: usize) -> f64 {
        let progress = step.min(self.steps) as f64 / self.steps.max(1) as f64;
        self.end - (self.end - self.base) * ((PI * progress).cos() + 1.0) / 2.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_learning_rate_warms_up_to_its_peak_and_ends_near_zero() {
        let rate = LearningRate { peak: 2.0, warmup: 4, steps: 20 };
        let warmup: Vec<f64> = (0..5).map(|step| rate.at(step)).collect();
        assert_eq!(warmup, [0.5, 1.0, 1.5, 2.0, 2.0]);
        assert!((rate.at(12) - 1.0).abs() < 1e-12);
        assert!(rate.at(19) > 0.0 && rate.at(19) < 0.02);
        assert_eq!(rate.at(20), 0.0);
        assert_eq!(LearningRate { peak: 2.0, warmup: 0, steps: 20 }.at(0), 2.0);
    }

    #[test]
    fn tau_rises_from_its_base_to_its_end() {
        let tau = Tau { base: 0.97, end: 1.0, steps: 100 };
        assert!((tau.at(0) - 0.97).abs() < 1e-15);
        assert!((tau.at(50) - 0.985).abs() < 1e-15);
        assert_eq!(tau.at(100), 1.0);
        let constant = Tau { base: 0.99, end: 0.99, steps: 100 };
        assert!((0..100).all(|step| constant.at(step) == 0.99));
    }
}
