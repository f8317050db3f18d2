//! Steps of L-BFGS (Nocedal 1980) around a preconditioner, and what they remember.

use std::collections::VecDeque;

use crate::dense::{add_multiple, inner_product};
use crate::error::Result;

/// Steps that are remembered, and the memory that they may take.
const REMEMBERED: usize = 20;
const REMEMBERED_BYTES: usize = 256 << 20;
/// Shortest step that is tried.
const SHORTEST: f64 = 1e-3;
/// What float32 may do to an objective, relative.
const NOISE: f64 = 1e-7;

/// What the last steps told of the Hessian, around a preconditioner: float32 is enough for a direction, and half of what
/// float64 would have to fetch from memory.
pub struct Memory {
    pairs: VecDeque<Pair>,
    most: usize,
    /// What the preconditioner is multiplied with, so that it is right about the last step.
    scale: f64,
}

/// How far a step went, how the gradient changed, and one over their product.
struct Pair {
    moved: Vec<f32>,
    bent: Vec<f32>,
    rho: f64,
}

impl Memory {
    /// For so many parameters.
    pub fn new(size: usize) -> Self {
        let most = (REMEMBERED_BYTES / (8 * size)).clamp(REMEMBERED / 4, REMEMBERED);
        Self { pairs: VecDeque::new(), most, scale: 1.0 }
    }

    /// Takes in the step from one point, its parameters and gradient, to the next, and learns the scale from it.
    pub fn keep(
        &mut self,
        (w, gradient): (&[f64], &[f64]),
        (next_w, next_gradient): (&[f64], &[f64]),
        apply: &impl Fn(Vec<f32>) -> Vec<f32>,
    ) {
        let old = if self.pairs.len() == self.most { self.pairs.pop_front() } else { None };
        let (mut moved, mut bent) = old.map_or_else(Default::default, |old| (old.moved, old.bent));
        let difference = |out: &mut Vec<f32>, next: &[f64], last: &[f64]| {
            out.clear();
            out.extend(next.iter().zip(last).map(|(next, last)| (next - last) as f32));
        };
        difference(&mut moved, next_w, w);
        difference(&mut bent, next_gradient, gradient);
        if self.push(moved, bent) {
            self.rescale(apply);
        }
    }

    fn push(&mut self, moved: Vec<f32>, bent: Vec<f32>) -> bool {
        let product = inner_product(&moved, &bent);
        let convex = product > 0.0 && product.is_finite();
        if convex {
            self.pairs.push_back(Pair { moved, bent, rho: 1.0 / product });
        }
        convex
    }

    /// Learns the scale from the last step, for a preconditioner that is new.
    pub fn rescale(&mut self, apply: &impl Fn(Vec<f32>) -> Vec<f32>) {
        if let Some(Pair { bent, rho, .. }) = self.pairs.back() {
            let scale = 1.0 / (rho * inner_product(bent, &apply(bent.clone())));
            self.scale = if scale > 0.0 && scale.is_finite() { scale } else { 1.0 };
        }
    }

    /// The same steps among other, so many parameters.
    pub fn turned(&self, size: usize, turn: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let mut memory = Self::new(size);
        for pair in self.pairs.iter().skip(self.pairs.len().saturating_sub(memory.most)) {
            memory.push(turn(&pair.moved), turn(&pair.bent));
        }
        memory
    }

    /// Minus the inverse Hessian, as far as known, times the gradient.
    pub fn direction(&self, gradient: &[f64], apply: &impl Fn(Vec<f32>) -> Vec<f32>) -> Vec<f64> {
        // Float32 has a small range; gradients near the optimum do not.
        let largest = gradient.iter().fold(f64::MIN_POSITIVE, |most, g| most.max(g.abs()));
        let mut rest: Vec<f32> = gradient.iter().map(|g| (g / largest) as f32).collect();
        let take = |Pair { moved, bent, rho }: &Pair| {
            let part = rho * inner_product(moved, &rest);
            add_multiple(&mut rest, -part as f32, bent);
            part
        };
        let taken: Vec<f64> = self.pairs.iter().rev().map(take).collect();
        let mut direction = apply(rest);
        let scale = self.scale as f32;
        direction.iter_mut().for_each(|d| *d *= scale);
        for (Pair { moved, bent, rho }, part) in self.pairs.iter().zip(taken.iter().rev()) {
            let length = part - rho * inner_product(bent, &direction);
            add_multiple(&mut direction, length as f32, moved);
        }
        direction.into_iter().map(|d| f64::from(d) * -largest).collect()
    }
}

/// A point on the way down, where it need not be known how far the optimum is.
pub struct Descent {
    pub w: Vec<f64>,
    pub gradient: Vec<f64>,
    pub objective: f64,
    pub memory: Memory,
    next_w: Vec<f64>,
    next_gradient: Vec<f64>,
}

impl Descent {
    /// At `w`; `evaluate` gives the objective and fills in the gradient.
    ///
    /// # Errors
    /// Those of `evaluate`.
    pub fn new(
        w: Vec<f64>,
        memory: Memory,
        evaluate: &mut impl FnMut(&[f64], &mut [f64]) -> Result<f64>,
    ) -> Result<Self> {
        let mut gradient = vec![0.0; w.len()];
        let objective = evaluate(&w, &mut gradient)?;
        Ok(Self { next_w: w.clone(), next_gradient: gradient.clone(), w, gradient, objective, memory })
    }

    /// Goes along `direction`, whose slope is given, as far as it lowers the objective. False where it does not.
    ///
    /// # Errors
    /// Those of `evaluate`.
    pub fn step(
        &mut self,
        direction: &[f64],
        slope: f64,
        apply: &impl Fn(Vec<f32>) -> Vec<f32>,
        evaluate: &mut impl FnMut(&[f64], &mut [f64]) -> Result<f64>,
    ) -> Result<bool> {
        let mut step = 1.0;
        let objective = loop {
            self.next_w.iter_mut().zip(&self.w).zip(direction).for_each(|((next, w), d)| *next = w + step * d);
            let objective = evaluate(&self.next_w, &mut self.next_gradient)?;
            if objective <= self.objective + 1e-4 * step * slope + NOISE * self.objective {
                break objective;
            }
            step *= 0.4;
            if step < SHORTEST {
                return Ok(false);
            }
        };
        self.memory.keep((&self.w, &self.gradient), (&self.next_w, &self.next_gradient), apply);
        std::mem::swap(&mut self.w, &mut self.next_w);
        std::mem::swap(&mut self.gradient, &mut self.next_gradient);
        self.objective = objective;
        Ok(true)
    }
}
