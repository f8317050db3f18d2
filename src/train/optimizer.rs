//! LARS, SGD and AdamW on flat tensors. Biases and normalisations are neither decayed nor adapted (paper, section 3.2).
//!
//! What changes from step to step, such as the learning rate, lies in a small tensor beside the state:
//! [`prepare`](Optimizer::prepare) fills it, and [`apply`](Optimizer::apply) reads nothing else that the host knows. So a
//! CUDA graph of `apply` stays true for every step.

use crate::error::Result;
use crate::network::{Network, to_device};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Which optimiser.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Layer-wise adaptive rates over momentum (You et al. 2017, as in DeepMind's BYOL).
    #[default]
    Lars,
    /// Momentum, by Nesterov where asked for.
    Sgd,
    /// Adam with decoupled weight decay.
    AdamW,
}

/// An optimiser's constants.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Which one.
    pub kind: Kind,
    /// Share of the previous step that is kept (LARS and SGD).
    pub momentum: f64,
    /// Look ahead along the momentum (SGD).
    pub nesterov: bool,
    /// Weight decay: added to the gradient (LARS and SGD), or taken off the weight (AdamW).
    pub weight_decay: f64,
    /// LARS's eta: a step's norm as a share of the weight's norm.
    pub trust: f64,
    /// AdamW's shares of the previous moments.
    pub betas: (f64, f64),
    /// AdamW's addend to the root of the second moment.
    pub eps: f64,
}

impl Default for Rule {
    /// LARS as in the paper for 100 and 300 epochs.
    fn default() -> Self {
        Self {
            kind: Kind::Lars,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-6,
            trust: 1e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
        }
    }
}

/// One network's optimiser and its state, as flat as the network's values.
#[derive(Debug)]
pub struct Optimizer {
    rule: Rule,
    slots: Vec<(&'static str, Tensor)>,
    steps: u64,
    pace: Tensor, // [4], float32: see `Pace`
}

/// What stands where in the pace.
#[derive(Clone, Copy)]
enum Pace {
    /// The learning rate.
    Rate,
    /// AdamW: what is left of a weight after its decay.
    Kept,
    /// AdamW: 1 / the root of the second moment's bias.
    SecondBias,
    /// AdamW: learning rate / the first moment's bias.
    Step,
}

impl Optimizer {
    /// An optimiser that has not stepped yet.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn new(rule: Rule, network: &Network) -> Result<Self> {
        let names: &[&'static str] = match rule.kind {
            Kind::Lars | Kind::Sgd => &["momentum"],
            Kind::AdamW => &["first_moment", "second_moment"],
        };
        let slot = |&name: &&'static str| Ok((name, network.values().f_zeros_like()?));
        let pace = Tensor::f_zeros([4], (tch::Kind::Float, network.device()))?;
        Ok(Self { rule, slots: names.iter().map(slot).collect::<Result<_>>()?, steps: 0, pace })
    }

    /// The state: flat tensors by name, and the steps done.
    pub fn state(&self) -> (&[(&'static str, Tensor)], u64) {
        (&self.slots, self.steps)
    }

    /// The state, to be overwritten by a checkpoint's.
    pub fn state_mut(&mut self) -> (&mut [(&'static str, Tensor)], &mut u64) {
        (&mut self.slots, &mut self.steps)
    }

    /// Moves the network's values against `gradient`, which is used up.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn step(&mut self, network: &Network, gradient: &mut Tensor, learning_rate: f64) -> Result<()> {
        self.prepare(learning_rate)?;
        self.apply(network, gradient)
    }

    /// Begins a step: what it needs of the learning rate and of the number of steps goes to the device.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn prepare(&mut self, learning_rate: f64) -> Result<()> {
        self.steps += 1;
        let steps = self.steps as f64;
        let (beta1, beta2) = self.rule.betas;
        let (bias1, bias2) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let pace =
            [learning_rate, 1.0 - learning_rate * self.rule.weight_decay, 1.0 / bias2.sqrt(), learning_rate / bias1];
        Ok(self.pace.f_copy_(&to_device(&pace.map(|value| value as f32), self.pace.device())?)?)
    }

    /// The step that was prepared.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn apply(&mut self, network: &Network, gradient: &mut Tensor) -> Result<()> {
        match self.rule.kind {
            Kind::Lars => self.lars(network, gradient),
            Kind::Sgd => self.sgd(network, gradient),
            Kind::AdamW => self.adamw(network, gradient),
        }
    }

    /// A number of the step, without dimensions.
    fn pace(&self, which: Pace) -> Result<Tensor> {
        Ok(self.pace.f_select(0, which as i64)?)
    }

    /// `g += decay p; g *= eta |p| / |g|` for weights; `m = momentum m + g; p -= lr m`. The norm is that of the decayed
    /// gradient, the learning rate stays outside the momentum (DeepMind's order).
    fn lars(&mut self, network: &Network, gradient: &mut Tensor) -> Result<()> {
        self.decay_gradient(network, gradient)?;
        for (start, length) in network.weight_ranges() {
            let mut g = gradient.f_narrow(0, start, length)?;
            let (p_norm, g_norm) = (network.values().f_narrow(0, start, length)?.f_norm()?, g.f_norm()?);
            // A ratio of 1 where either norm is zero. All on the device: no value is waited for.
            let ratio = p_norm.f_mul_scalar(self.rule.trust)?.f_div(&g_norm)?;
            let known = p_norm.f_mul(&g_norm)?.f_gt(0.0)?;
            let _ = g.f_mul_(&ratio.f_where_self(&known, &ratio.f_ones_like()?)?)?;
        }
        self.momentum_step(network, gradient, false)
    }

    /// torch.optim.SGD without dampening.
    fn sgd(&mut self, network: &Network, gradient: &mut Tensor) -> Result<()> {
        self.decay_gradient(network, gradient)?;
        self.momentum_step(network, gradient, self.rule.nesterov)
    }

    fn decay_gradient(&self, network: &Network, gradient: &Tensor) -> Result<()> {
        if self.rule.weight_decay != 0.0 {
            let weights = network.values().f_narrow(0, 0, network.weight_count())?;
            let decay = weights.f_mul_scalar(self.rule.weight_decay)?;
            let _ = gradient.f_narrow(0, 0, network.weight_count())?.f_add_(&decay)?;
        }
        Ok(())
    }

    fn momentum_step(&mut self, network: &Network, g: &mut Tensor, nesterov: bool) -> Result<()> {
        let rate = self.pace(Pace::Rate)?;
        let momentum = &mut self.slots[0].1;
        let _ = momentum.f_mul_scalar_(self.rule.momentum)?.f_add_(g)?;
        let step =
            if nesterov { g.f_add_(&momentum.f_mul_scalar(self.rule.momentum)?)? } else { momentum.shallow_clone() };
        let _ = network.values().shallow_clone().f_sub_(&step.f_mul(&rate)?)?;
        Ok(())
    }

    /// torch.optim.AdamW.
    fn adamw(&mut self, network: &Network, gradient: &Tensor) -> Result<()> {
        let (beta1, beta2) = self.rule.betas;
        if self.rule.weight_decay != 0.0 {
            let mut weights = network.values().f_narrow(0, 0, network.weight_count())?;
            let _ = weights.f_mul_(&self.pace(Pace::Kept)?)?;
        }
        let (unbiased, step) = (self.pace(Pace::SecondBias)?, self.pace(Pace::Step)?);
        let [(_, first), (_, second)] = &mut self.slots[..] else { return Ok(()) };
        let _ = first.f_lerp_(gradient, 1.0 - beta1)?;
        let _ = second.f_mul_scalar_(beta2)?.f_add_(&gradient.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
        let denominator = second.f_sqrt()?.f_mul_(&unbiased)?.f_add_scalar_(self.rule.eps)?;
        let step = first.f_div(&denominator)?.f_mul_(&step)?;
        let _ = network.values().shallow_clone().f_sub_(&step)?;
        Ok(())
    }
}
