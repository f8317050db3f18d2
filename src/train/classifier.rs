//! Learning with labels: an encoder under linear layers, trained whole or frozen.
//!
//! Two protocols of the paper's evaluation. *Linear* (appendix C.1): the encoder and its BatchNorm statistics stay as
//! they are, linear layers learn on random crops and flips; all learning rates of a sweep learn side by side from the same
//! features. *Semi-supervised* (appendix C.2): everything learns, from a part of the labels; from weights drawn anew,
//! the same is supervised training, the baseline. Both: cross-entropy, SGD with Nesterov momentum 0.9, a rate of
//! `learning_rate * batch / 256` that falls on a cosine to zero, as DeepMind's code has it.

use crate::augment::{Operator, ViewsConfig};
use crate::byol::Predefined;
use crate::device::set_threads;
use crate::error::{Error, Result};
use crate::evaluation::{BATCH, prepared};
use crate::loader::{Loader, LoaderOptions, MEMORY};
use crate::network::{self, Lane, Mode, Network};
use crate::optimizer::{Kind, Optimizer, Rule};
use crate::schedule::LearningRate;
use byol_model::dataset::Dataset;
use byol_model::graph::Shape;
use byol_model::picture::{Filter, InputContract};
use tch::{Device, Kind as Scalar, Reduction, Tensor};

/// How a classifier learns.
#[derive(Clone, Debug, PartialEq)]
pub struct Recipe {
    /// Passes over the pictures.
    pub epochs: f64,
    /// Highest learning rate, for 256 pictures a step.
    pub learning_rate: f64,
    /// Pictures a step, at most; never more than an eighth of the pictures that are learned from, and at least 8.
    pub batch_size: usize,
    /// Weight decay of weights; none in the paper.
    pub weight_decay: f64,
    /// Least part of the area that a random crop keeps: 0.08 in the paper.
    pub least_area: f64,
    /// Decides the linear layer, order and crops.
    pub seed: u64,
    /// Where it runs.
    pub device: Device,
    /// CPU threads.
    pub threads: usize,
}

impl Recipe {
    /// Checks the values.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first that makes no sense.
    pub fn check(&self) -> Result<()> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            let why = format!("must be from {low} to {high}");
            if value >= low && value <= high { Ok(()) } else { Err(Error::setting(key, value, why)) }
        };
        range("epochs", self.epochs, 1e-3, 1e6)?;
        range("learning_rate", self.learning_rate, 0.0, 1e4)?;
        range("weight_decay", self.weight_decay, 0.0, 1.0)?;
        range("crop_area", self.least_area, 1e-3, 1.0)?;
        range("batch_size", self.batch_size as f64, 2.0, 1e6)
    }

    /// Pictures a step for so many pictures.
    pub fn batch(&self, pictures: usize) -> usize {
        self.batch_size.min((pictures / 8).max(8)).min(pictures).max(1)
    }

    fn rule(&self) -> Rule {
        Rule { kind: Kind::Sgd, momentum: 0.9, nesterov: true, weight_decay: self.weight_decay, ..Rule::default() }
    }
}

/// An encoder and a linear layer on its features.
#[derive(Debug)]
pub struct Classifier {
    encoder: Network,
    head: Network,
    contract: InputContract,
}

/// Steps done, steps of the run, loss of the last.
pub type Progress<'a> = &'a mut dyn FnMut(usize, usize, f64);

impl Classifier {
    /// Trains encoder and linear layer together on all pictures of `data`.
    ///
    /// # Errors
    /// [`Error::Setting`], [`Error::Data`] for pictures without labels, [`Error::Diverged`], what reading pictures gives.
    pub fn fine_tune(
        encoder: &Predefined,
        contract: &InputContract,
        data: &Dataset,
        recipe: &Recipe,
        progress: Progress<'_>,
    ) -> Result<Self> {
        recipe.check()?;
        set_threads(recipe.threads);
        let encoder = Network::new(encoder.graph.clone(), &encoder.weights, recipe.device)?;
        let mut classifier = Self { head: head(&encoder, data, recipe)?, encoder, contract: contract.clone() };
        let mut course = Course::new(data, contract, recipe)?;
        let mut lanes = [classifier.encoder.lane()?, classifier.head.lane()?];
        let optimizer = |network: &Network| Optimizer::new(recipe.rule(), network);
        let mut optimizers = [optimizer(&classifier.encoder)?, optimizer(&classifier.head)?];
        for step in 0..course.steps {
            let (pictures, labels) = course.batch(step, recipe.device, classifier.encoder.graph().input_shape())?;
            lanes.iter_mut().try_for_each(Lane::zero_gradient)?;
            let logits = lanes[1].forward(&lanes[0].forward(&pictures, Mode::Train)?, Mode::Train)?;
            let loss = cross_entropy(&logits, &labels)?;
            loss.f_backward()?;
            let rate = course.rate(recipe.learning_rate).at(step);
            for ((lane, optimizer), network) in
                lanes.iter_mut().zip(&mut optimizers).zip([&classifier.encoder, &classifier.head])
            {
                optimizer.step(network, lane.gather_gradient()?, rate)?;
            }
            classifier.encoder.absorb(&lanes[0])?;
            let loss = finite(&loss, step, rate)?;
            progress(step + 1, course.steps, loss);
        }
        Ok(classifier)
    }

    /// Trains a linear layer for each of `rates` on the frozen encoder, all of them on the same crops; the recipe's own
    /// rate is not looked at. A layer that diverges is left as it was then: it will judge badly.
    ///
    /// # Errors
    /// As [`Classifier::fine_tune`].
    pub fn linear(
        encoder: &Predefined,
        contract: &InputContract,
        data: &Dataset,
        recipe: &Recipe,
        rates: &[f64],
        progress: Progress<'_>,
    ) -> Result<Vec<Self>> {
        recipe.check()?;
        set_threads(recipe.threads);
        let network = || Network::new(encoder.graph.clone(), &encoder.weights, recipe.device);
        let frozen = network()?;
        let lane = frozen.lane()?;
        let mut heads = Vec::new();
        for &rate in rates {
            let head = head(&frozen, data, recipe)?;
            let optimizer = Optimizer::new(recipe.rule(), &head)?;
            heads.push((rate, head.lane()?, optimizer, head));
        }
        let mut course = Course::new(data, contract, recipe)?;
        for step in 0..course.steps {
            let (pictures, labels) = course.batch(step, recipe.device, frozen.graph().input_shape())?;
            let features = tch::no_grad(|| lane.forward(&pictures, Mode::Eval))?;
            let mut least = f64::INFINITY;
            for (rate, lane, optimizer, head) in &mut heads {
                lane.zero_gradient()?;
                let loss = cross_entropy(&lane.forward(&features, Mode::Train)?, &labels)?;
                loss.f_backward()?;
                let now = loss.f_double_value(&[])?;
                if now.is_finite() {
                    optimizer.step(head, lane.gather_gradient()?, course.rate(*rate).at(step))?;
                    least = least.min(now);
                }
            }
            progress(step + 1, course.steps, least);
        }
        let classifier = |(_, _, _, head)| Ok(Self { encoder: network()?, head, contract: contract.clone() });
        heads.into_iter().map(classifier).collect()
    }

    /// The encoder.
    pub fn encoder(&self) -> &Network {
        &self.encoder
    }

    /// The linear layer: `0.weight` `[classes, features]` and `0.bias`.
    pub fn head(&self) -> &Network {
        &self.head
    }

    /// Probabilities of the classes, a row a picture, each prepared as the contract says, without chance.
    ///
    /// # Errors
    /// What reading pictures gives; [`Error::Torch`].
    pub fn probabilities(&self, data: &Dataset) -> Result<Vec<f32>> {
        let (encoder, head) = (self.encoder.lane()?, self.head.lane()?);
        let mut all = Vec::new();
        for rows in (0..data.len()).collect::<Vec<_>>().chunks(BATCH) {
            let values = prepared(data, rows, &self.contract)?;
            let pictures = network::input(&values, self.encoder.graph().input_shape(), self.encoder.device())?;
            let probabilities = tch::no_grad(|| -> Result<Tensor> {
                let features = encoder.forward(&pictures, Mode::Eval)?;
                Ok(head.forward(&features, Mode::Eval)?.f_softmax(1, Scalar::Float)?)
            })?;
            all.extend(network::output(&probabilities)?);
        }
        Ok(all)
    }

    /// Share of pictures whose most probable class is theirs.
    ///
    /// # Errors
    /// As [`Classifier::probabilities`]; [`Error::Data`] for pictures without labels.
    pub fn accuracy(&self, data: &Dataset) -> Result<f64> {
        let labels = labels(data)?;
        let probabilities = self.probabilities(data)?;
        let classes = self.head.graph().dimension();
        let best = |row: &[f32]| (0..classes).fold(0, |best, c| if row[c] > row[best] { c } else { best });
        let right = probabilities.chunks(classes).zip(labels).filter(|(row, label)| best(row) == **label as usize);
        Ok(right.count() as f64 / data.len().max(1) as f64)
    }
}

/// The batches of one training.
struct Course {
    loader: Loader,
    labels: Vec<i64>,
    steps: usize,
    batch: usize,
}

impl Course {
    fn new(data: &Dataset, contract: &InputContract, recipe: &Recipe) -> Result<Self> {
        let labels = labels(data)?.iter().map(|&label| label.into()).collect();
        let batch = recipe.batch(data.len());
        let crop = Operator::RandomResizedCrop {
            area: [recipe.least_area, 1.0],
            ratio: [3.0 / 4.0, 4.0 / 3.0],
            filter: Filter::Bicubic,
        };
        let first = vec![crop, Operator::HorizontalFlip { p: 0.5 }];
        let options = LoaderOptions {
            size: contract.height,
            channels: contract.channels,
            mean: contract.mean.clone(),
            std: contract.std.clone(),
            views: ViewsConfig { first, second: Vec::new() },
            single: true,
            numbers_only: false,
            batch,
            seed: recipe.seed,
            threads: recipe.threads,
            memory: MEMORY,
            part: (0, 1),
            window: None,
        };
        let loader = Loader::new(data, options)?;
        let steps = (recipe.epochs * loader.steps_per_epoch() as f64).round().max(1.0) as usize;
        Ok(Self { loader, labels, steps, batch })
    }

    fn rate(&self, per_256: f64) -> LearningRate {
        LearningRate { peak: per_256 * self.batch as f64 / 256.0, warmup: 0, steps: self.steps }
    }

    /// Pictures and labels of a step, on the device.
    fn batch(&mut self, step: usize, device: Device, shape: Shape) -> Result<(Tensor, Tensor)> {
        let batch = self.loader.batch(step as u64)?;
        let pictures = network::input(&batch.first, shape, device)?;
        let labels: Vec<i64> = batch.indices.iter().map(|&i| self.labels[i as usize]).collect();
        self.loader.give_back(batch);
        Ok((pictures, Tensor::f_from_slice(&labels)?.f_to_device(device)?))
    }
}

/// A linear layer for the encoder's features and the data's classes.
fn head(encoder: &Network, data: &Dataset, recipe: &Recipe) -> Result<Network> {
    let classes = data.classes().len().max(labels(data)?.iter().max().map_or(0, |&most| most as usize + 1));
    Network::linear(encoder.graph().dimension(), classes, recipe.seed, recipe.device)
}

fn labels(data: &Dataset) -> Result<&[u32]> {
    let why = || "learning with labels needs class folders or label files".to_owned();
    data.labels().ok_or_else(|| Error::Data { path: data.path().to_owned(), why: why() })
}

fn cross_entropy(logits: &Tensor, labels: &Tensor) -> Result<Tensor> {
    Ok(logits.f_cross_entropy_loss::<Tensor>(labels, None, Reduction::Mean, -100, 0.0)?)
}

fn finite(loss: &Tensor, step: usize, learning_rate: f64) -> Result<f64> {
    let loss = loss.f_double_value(&[])?;
    if loss.is_finite() { Ok(loss) } else { Err(Error::Diverged { step: step + 1, loss, learning_rate }) }
}
