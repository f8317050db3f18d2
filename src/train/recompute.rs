//! Activation checkpointing (Chen et al. 2016, arXiv 1604.06174): a pass that keeps a few activations and computes the
//! others again on the way back. Memory falls to about the root of the number of layers, for one more forward pass.
//!
//! A graph is cut where a single value leads on: after the blocks of a ResNet, say. Gradients are the same to the bit,
//! because every operator sees the same numbers; so are BatchNorm's batch statistics, which are written twice.

use crate::error::{Error, Result};
use crate::network::{Lane, Mode};
use byol_model::graph::Graph;
use std::ops::Range;
use tch::{Kind, Tensor};

/// A pass whose activations were let go: what each part of the network read, and the output.
#[derive(Debug)]
pub struct Trail {
    parts: Vec<Range<usize>>,
    /// What each part reads: a leaf of the graph that its gradient gathers in.
    inputs: Vec<Tensor>,
    /// The network's output: a leaf too, so that the loss's gradient gathers in it.
    pub output: Tensor,
}

impl Lane {
    /// The network's output in training mode, without what a backward pass needs; [`Lane::backward_again`] does it.
    ///
    /// # Errors
    /// [`Error::Torch`] for a wrong shape.
    pub fn forward_lean(&self, x: &Tensor) -> Result<Trail> {
        let parts = parts(&self.plan.graph);
        let mut inputs = Vec::with_capacity(parts.len());
        let mut value = x.shallow_clone();
        for part in &parts {
            let next = tch::no_grad(|| self.part(part, &value))?;
            inputs.push(std::mem::replace(&mut value, next));
            value = value.f_detach()?.f_set_requires_grad(true)?;
        }
        Ok(Trail { parts, inputs, output: value })
    }

    /// Adds the gradient of a lean pass, whose output has its gradient by now.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn backward_again(&self, trail: Trail) -> Result<()> {
        let Trail { parts, inputs, output } = trail;
        let mut gradient = output.f_grad()?;
        drop(output);
        for (part, input) in parts.iter().zip(inputs).rev() {
            if !gradient.defined() {
                return Ok(());
            }
            let y = self.part(part, &input)?;
            // A sum of products has the gradient as its derivative by y, exactly.
            y.f_mul(&gradient)?.f_sum(Kind::Float)?.f_backward()?;
            if part.start > 0 {
                gradient = input.f_grad()?;
            }
        }
        Ok(())
    }

    /// What one part of the network makes of the value that leads to it.
    fn part(&self, part: &Range<usize>, value: &Tensor) -> Result<Tensor> {
        let missing = || Error::Network { what: "network", why: "a part of it has no output".into() };
        let mut outputs: Vec<Option<Tensor>> = self.plan.steps.iter().map(|_| None).collect();
        if part.start > 0 {
            outputs[part.start - 1] = Some(value.shallow_clone());
        }
        for index in part.clone() {
            let step = &self.plan.steps[index];
            // What a part reads is kept for the way back, so ReLU may not overwrite it.
            let own = self.plan.graph.nodes()[index].inputs.first().is_some_and(|id| id.0 >= part.start);
            outputs[index] = Some(self.run(index, value, &mut outputs, Mode::Train, step.in_place && own)?);
            for id in step.last_use.iter().filter(|id| id.0 + 1 != part.end) {
                outputs[id.0] = None;
            }
        }
        outputs[part.end - 1].take().ok_or_else(missing)
    }
}

/// Cuts a graph into about the root of its cutting places, with as many activations in each part. A graph that no
/// single value runs through stays in one piece.
fn parts(graph: &Graph) -> Vec<Range<usize>> {
    let nodes = graph.nodes();
    let end = graph.output().0 + 1;
    let mut last_reader: Vec<usize> = (0..nodes.len()).collect();
    for (i, node) in nodes.iter().enumerate().take(end) {
        for id in &node.inputs {
            last_reader[id.0] = i;
        }
    }
    // After node i, only its own output is read any more. The last places are no cuts: nothing is left to save.
    let mut furthest = 0;
    let mut cuts = Vec::new();
    for (i, &last) in last_reader.iter().enumerate().take(end.saturating_sub(1)) {
        if furthest <= i && i > 0 {
            cuts.push(i + 1);
        }
        furthest = furthest.max(last);
    }
    let most = (cuts.len() as f64).sqrt().ceil().max(1.0);
    let total: usize = nodes[..end].iter().map(|node| node.shape.len()).sum();
    let (mut parts, mut start, mut held) = (Vec::new(), 0, 0);
    for (i, node) in nodes[..end].iter().enumerate() {
        held += node.shape.len();
        if cuts.contains(&(i + 1)) && held as f64 >= total as f64 / most {
            parts.push(start..i + 1);
            (start, held) = (i + 1, 0);
        }
    }
    parts.push(start..end);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use byol_model::encoder::{EncoderConfig, Stem};

    #[test]
    fn a_resnet_is_cut_between_its_blocks() {
        let config = EncoderConfig { stem: Stem::Small, image_size: 32, width: 8, ..EncoderConfig::default() };
        let graph = config.build().unwrap();
        let parts = parts(&graph);
        assert!(parts.len() >= 3, "{parts:?}");
        assert_eq!((parts[0].start, parts.last().unwrap().end), (0, graph.output().0 + 1));
        for pair in parts.windows(2) {
            assert_eq!(pair[0].end, pair[1].start);
            let cut = pair[1].start;
            let crossing = graph.nodes()[cut..].iter().flat_map(|n| &n.inputs).filter(|id| id.0 < cut);
            assert!(crossing.clone().count() > 0 && crossing.clone().all(|id| id.0 == cut - 1), "{parts:?}");
        }
    }
}
