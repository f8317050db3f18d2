//! Steps of L-BFGS (Nocedal 1980) around a preconditioner, and what they remember.

use std::collections::VecDeque;

use pulp::Arch;

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
#[derive(Debug)]
pub struct Memory {
    pairs: VecDeque<Pair>,
    most: usize,
    /// What the preconditioner is multiplied with, so that it is right about the last step; none where that is yet to be found.
    scale: Option<f64>,
    /// Whether it is to be found.
    scales: bool,
}

/// How far a step went, how the gradient changed, and one over their product.
#[derive(Debug)]
struct Pair {
    moved: Vec<f32>,
    bent: Vec<f32>,
    rho: f64,
}

impl Memory {
    /// For so many parameters.
    pub fn new(size: usize) -> Self {
        let most = (REMEMBERED_BYTES / (8 * size)).clamp(REMEMBERED / 4, REMEMBERED);
        Self { pairs: VecDeque::new(), most, scale: None, scales: true }
    }

    /// Takes in the step from one point, its parameters and gradient, to the next.
    pub fn keep(&mut self, (w, gradient): (&[f64], &[f64]), (next_w, next_gradient): (&[f64], &[f64])) {
        let old = if self.pairs.len() == self.most { self.pairs.pop_front() } else { None };
        let (mut moved, mut bent) = old.map_or_else(Default::default, |old| (old.moved, old.bent));
        let difference = |out: &mut Vec<f32>, next: &[f64], last: &[f64]| {
            out.clear();
            out.extend(next.iter().zip(last).map(|(next, last)| (next - last) as f32));
        };
        Arch::new().dispatch(|| {
            difference(&mut moved, next_w, w);
            difference(&mut bent, next_gradient, gradient);
        });
        self.push(moved, bent);
    }

    /// How many numbers they are.
    pub fn values(&self) -> usize {
        self.pairs.iter().map(|pair| pair.moved.len() + pair.bent.len()).sum()
    }

    fn push(&mut self, moved: Vec<f32>, bent: Vec<f32>) {
        let product = inner_product(&moved, &bent);
        if product > 0.0 && product.is_finite() {
            self.pairs.push_back(Pair { moved, bent, rho: 1.0 / product });
            self.scale = None;
        }
    }

    /// The preconditioner is another one from here on.
    pub fn rescale(&mut self) {
        self.scale = None;
    }

    /// From now on the preconditioner is multiplied with what makes it right about the last step, or it is taken as it is.
    pub fn rescales(&mut self, scales: bool) {
        (self.scales, self.scale) = (scales, None);
    }

    /// Whether it is.
    pub fn scales(&self) -> bool {
        self.scales
    }

    /// The same steps among other, so many parameters.
    pub fn turned(&self, size: usize, turn: impl Fn(&[f32]) -> Vec<f32>) -> Self {
        let mut memory = Self::new(size);
        for pair in self.pairs.iter().skip(self.pairs.len().saturating_sub(memory.most)) {
            memory.push(turn(&pair.moved), turn(&pair.bent));
        }
        memory
    }

    /// Minus the inverse Hessian, as far as known, times the gradient. `apply` is the preconditioner, of one vector or of two, one
    /// after the other: the scale is learnt from the last step.
    pub fn direction(&mut self, gradient: &[f64], apply: &impl Fn(Vec<f32>) -> Vec<f32>) -> Vec<f64> {
        // Float32 has a small range; gradients near the optimum do not.
        let largest = gradient.iter().fold(f64::MIN_POSITIVE, |most, g| most.max(g.abs()));
        let over = 1.0 / largest;
        let mut rest: Vec<f32> = Vec::with_capacity(2 * gradient.len());
        Arch::new().dispatch(|| rest.extend(gradient.iter().map(|g| (g * over) as f32)));
        let take = |Pair { moved, bent, rho }: &Pair| {
            let part = rho * inner_product(moved, &rest);
            add_multiple(&mut rest, -part as f32, bent);
            part
        };
        let taken: Vec<f64> = self.pairs.iter().rev().map(take).collect();
        let unknown = self.pairs.back().filter(|_| self.scales && self.scale.is_none());
        if let Some(Pair { bent, .. }) = unknown {
            rest.extend_from_slice(bent);
        }
        let mut direction = apply(rest);
        if let Some(Pair { bent, rho, .. }) = unknown {
            let scale = 1.0 / (rho * inner_product(bent, &direction[gradient.len()..]));
            self.scale = Some(if scale > 0.0 && scale.is_finite() { scale } else { 1.0 });
            direction.truncate(gradient.len());
        }
        if let Some(scale) = self.scale {
            direction.iter_mut().for_each(|d| *d *= scale as f32);
        }
        for (Pair { moved, bent, rho }, part) in self.pairs.iter().zip(taken.iter().rev()) {
            let length = part - rho * inner_product(bent, &direction);
            add_multiple(&mut direction, length as f32, moved);
        }
        let mut out = Vec::with_capacity(direction.len());
        Arch::new().dispatch(|| out.extend(direction.iter().map(|d| f64::from(*d) * -largest)));
        out
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
        self.memory.keep((&self.w, &self.gradient), (&self.next_w, &self.next_gradient));
        std::mem::swap(&mut self.w, &mut self.next_w);
        std::mem::swap(&mut self.gradient, &mut self.next_gradient);
        self.objective = objective;
        Ok(true)
    }
}
