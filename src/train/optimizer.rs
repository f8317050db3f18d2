//! LARS, SGD and AdamW on flat tensors. Biases and normalisations are neither decayed nor adapted (paper, section 3.2).

use crate::error::Result;
use crate::network::Network;
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
        Ok(Self { rule, slots: names.iter().map(slot).collect::<Result<_>>()?, steps: 0 })
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
        self.steps += 1;
        match self.rule.kind {
            Kind::Lars => self.lars(network, gradient, learning_rate),
            Kind::Sgd => self.sgd(network, gradient, learning_rate),
            Kind::AdamW => self.adamw(network, gradient, learning_rate),
        }
    }

    /// `g += decay p; g *= eta |p| / |g|` for weights; `m = momentum m + g; p -= lr m`. The norm is that of the decayed
    /// gradient, the learning rate stays outside the momentum (DeepMind's order).
    fn lars(&mut self, network: &Network, gradient: &mut Tensor, learning_rate: f64) -> Result<()> {
        self.decay_gradient(network, gradient)?;
        for (start, length) in network.weight_ranges() {
            let mut g = gradient.f_narrow(0, start, length)?;
            let (p_norm, g_norm) = (network.values().f_narrow(0, start, length)?.f_norm()?, g.f_norm()?);
            // A ratio of 1 where either norm is zero. All on the device: no value is waited for.
            let ratio = p_norm.f_mul_scalar(self.rule.trust)?.f_div(&g_norm)?;
            let known = p_norm.f_mul(&g_norm)?.f_gt(0.0)?;
            let _ = g.f_mul_(&ratio.f_where_self(&known, &ratio.f_ones_like()?)?)?;
        }
        self.momentum_step(network, gradient, learning_rate, false)
    }

    /// torch.optim.SGD without dampening.
    fn sgd(&mut self, network: &Network, gradient: &mut Tensor, learning_rate: f64) -> Result<()> {
        self.decay_gradient(network, gradient)?;
        self.momentum_step(network, gradient, learning_rate, self.rule.nesterov)
    }

    fn decay_gradient(&self, network: &Network, gradient: &Tensor) -> Result<()> {
        if self.rule.weight_decay != 0.0 {
            let weights = network.values().f_narrow(0, 0, network.weight_count())?;
            let decay = weights.f_mul_scalar(self.rule.weight_decay)?;
            let _ = gradient.f_narrow(0, 0, network.weight_count())?.f_add_(&decay)?;
        }
        Ok(())
    }

    fn momentum_step(&mut self, network: &Network, g: &mut Tensor, learning_rate: f64, nesterov: bool) -> Result<()> {
        let momentum = &mut self.slots[0].1;
        let _ = momentum.f_mul_scalar_(self.rule.momentum)?.f_add_(g)?;
        let step =
            if nesterov { g.f_add_(&momentum.f_mul_scalar(self.rule.momentum)?)? } else { momentum.shallow_clone() };
        let _ = network.values().shallow_clone().f_sub_(&step.f_mul_scalar(learning_rate)?)?;
        Ok(())
    }

    /// torch.optim.AdamW.
    fn adamw(&mut self, network: &Network, gradient: &Tensor, learning_rate: f64) -> Result<()> {
        let (beta1, beta2) = self.rule.betas;
        if self.rule.weight_decay != 0.0 {
            let mut weights = network.values().f_narrow(0, 0, network.weight_count())?;
            let _ = weights.f_mul_scalar_(1.0 - learning_rate * self.rule.weight_decay)?;
        }
        let [(_, first), (_, second)] = &mut self.slots[..] else { return Ok(()) };
        let _ = first.f_lerp_(gradient, 1.0 - beta1)?;
        let _ = second.f_mul_scalar_(beta2)?.f_add_(&gradient.f_square()?.f_mul_scalar_(1.0 - beta2)?)?;
        let steps = self.steps as f64;
        let (bias1, bias2) = (1.0 - beta1.powf(steps), 1.0 - beta2.powf(steps));
        let denominator = second.f_sqrt()?.f_mul_scalar_(1.0 / bias2.sqrt())?.f_add_scalar_(self.rule.eps)?;
        let step = first.f_div(&denominator)?.f_mul_scalar_(learning_rate / bias1)?;
        let _ = network.values().shallow_clone().f_sub_(&step)?;
        Ok(())
    }
}
