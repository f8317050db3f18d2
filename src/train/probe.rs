//! The online linear probe: a linear classifier that learns beside a run, on the encoder's features with the gradient
//! stopped, by the run's own optimiser and learning rate (paper, appendix C.1; DeepMind's `byol_experiment.py`).
//!
//! Its labels never reach the encoder. The pictures whose classes an evaluation guesses are left out of its learning.

use crate::error::Result;
use crate::network::{Lane, Mode, Network, to_device};
use crate::optimizer::{Optimizer, Rule};
use byol_model::weights::{Tensor as HostTensor, Weights};
use std::collections::BTreeMap;
use tch::{Device, Reduction, Tensor};

/// Label of a picture that is not learned from.
const HELD_OUT: i64 = -1;

/// The classifier and its optimiser.
#[derive(Debug)]
pub struct Probe {
    network: Network,
    lane: Lane,
    optimizer: Optimizer,
    labels: Vec<i64>,
    /// Whether any gradient waits for [`Probe::update`].
    waiting: bool,
}

impl Probe {
    /// For features of `dimension` numbers and pictures of the given labels, but those `held_out`.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn new(
        dimension: usize,
        labels: &[u32],
        held_out: &[usize],
        rule: Rule,
        device: Device,
        seed: u64,
    ) -> Result<Self> {
        let classes = labels.iter().max().map_or(1, |&most| most as usize + 1);
        let network = Network::linear(dimension, classes, seed, device)?;
        let mut labels: Vec<i64> = labels.iter().map(|&label| label.into()).collect();
        for &row in held_out {
            labels[row] = HELD_OUT;
        }
        let (lane, optimizer) = (network.lane()?, Optimizer::new(rule, &network)?);
        Ok(Self { network, lane, optimizer, labels, waiting: false })
    }

    /// Adds the gradient of one batch: features `[n, dimension]` of the pictures with these numbers. `share` is 1 / (batches
    /// of a step).
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn learn(&mut self, features: &Tensor, pictures: &[u32], share: f64) -> Result<()> {
        let labels: Vec<i64> = pictures.iter().map(|&picture| self.labels[picture as usize]).collect();
        let learned = labels.iter().filter(|&&label| label != HELD_OUT).count();
        if learned == 0 {
            return Ok(());
        }
        if !self.waiting {
            self.lane.zero_gradient()?;
        }
        let labels = to_device(&labels, self.network.device())?;
        let logits = self.lane.forward(&features.f_detach()?, Mode::Train)?;
        let loss = logits.f_cross_entropy_loss::<Tensor>(&labels, None, Reduction::Sum, HELD_OUT, 0.0)?;
        loss.f_mul_scalar(share / learned as f64)?.f_backward()?;
        self.lane.gather_gradient()?;
        self.waiting = true;
        Ok(())
    }

    /// One optimiser step.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn update(&mut self, learning_rate: f64) -> Result<()> {
        if std::mem::take(&mut self.waiting) {
            let gradient = self.lane.gather_gradient()?;
            self.optimizer.step(&self.network, gradient, learning_rate)?;
        }
        Ok(())
    }

    /// Share of rows of features whose most probable class is their label.
    ///
    /// # Errors
    /// [`crate::Error::Network`] for features of another length, [`crate::Error::Torch`].
    pub fn accuracy(&self, features: &[f32], labels: &[u32]) -> Result<f64> {
        let shape = self.network.graph().input_shape();
        let features = crate::network::input(features, shape, self.network.device())?;
        let guesses = tch::no_grad(|| -> Result<Vec<i64>> {
            let best = self.lane.forward(&features, Mode::Eval)?.f_argmax(1, false)?.f_to_device(Device::Cpu)?;
            Ok(Vec::<i64>::try_from(&best)?)
        })?;
        let right = guesses.iter().zip(labels).filter(|(guess, label)| **guess == i64::from(**label)).count();
        Ok(right as f64 / labels.len().max(1) as f64)
    }

    /// What a later step depends on, by name.
    ///
    /// # Errors
    /// [`crate::Error::Torch`].
    pub fn state(&self) -> Result<BTreeMap<String, HostTensor>> {
        let mut all: BTreeMap<String, HostTensor> =
            self.network.weights()?.iter().map(|(name, t)| (format!("probe.{name}"), t.clone())).collect();
        for (slot, flat) in self.optimizer.state().0 {
            let named = self.network.named(flat)?.into_iter();
            all.extend(named.map(|(name, tensor)| (format!("optimizer.{slot}.probe.{name}"), tensor)));
        }
        Ok(all)
    }

    /// Puts back what [`Probe::state`] gave, where it is there: false where the run had no probe.
    ///
    /// # Errors
    /// [`crate::Error::Model`] names a tensor that is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>, steps: u64) -> Result<bool> {
        let own: Weights =
            state.iter().filter_map(|(name, t)| Some((name.strip_prefix("probe.")?.to_owned(), t.clone()))).collect();
        if own.is_empty() {
            return Ok(false);
        }
        self.network.load(&own)?;
        let (slots, done) = self.optimizer.state_mut();
        *done = steps;
        for (slot, flat) in slots {
            self.network.fill_named(flat, |name| state.get(&format!("optimizer.{slot}.probe.{name}")))?;
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::augment::{Draw, Random};

    /// Rows of two classes, told apart by the sign of the first number.
    fn rows(count: usize) -> (Vec<f32>, Vec<u32>) {
        let mut random = Random::new(Draw { seed: 1, epoch: 0, picture: 0, view: 0 });
        let values: Vec<f32> = (0..count * 4).map(|_| random.unit() as f32 - 0.5).collect();
        let labels = values.chunks(4).map(|row| u32::from(row[0] > 0.0)).collect();
        (values, labels)
    }

    #[test]
    fn a_probe_learns_what_is_not_held_out_and_continues_where_it_was() {
        let (values, labels) = rows(64);
        let rule = Rule { kind: crate::optimizer::Kind::Sgd, weight_decay: 0.0, ..Rule::default() };
        // All but four are held out, of both classes.
        let held_out: Vec<usize> = (4..64).collect();
        let new = || Probe::new(4, &labels, &held_out, rule, Device::Cpu, 0).unwrap();
        let features = Tensor::from_slice(&values).view([64, 4]);
        let all: Vec<u32> = (0..64).collect();
        let step = |probe: &mut Probe| {
            probe.learn(&features, &all, 1.0).unwrap();
            probe.update(0.5).unwrap();
        };
        let mut probe = new();
        (0..50).for_each(|_| step(&mut probe));
        assert_eq!(probe.accuracy(&values[..16], &labels[..4]).unwrap(), 1.0);
        let mut resumed = new();
        assert!(!resumed.restore(&BTreeMap::new(), 0).unwrap());
        assert!(resumed.restore(&probe.state().unwrap(), 50).unwrap());
        step(&mut probe);
        step(&mut resumed);
        assert!(probe.state().unwrap() == resumed.state().unwrap());
        // A batch of held-out pictures teaches nothing.
        let before = probe.state().unwrap();
        probe.learn(&features.narrow(0, 8, 8), &all[8..16], 1.0).unwrap();
        probe.update(0.5).unwrap();
        assert!(before == probe.state().unwrap());
    }
}
