//! Runs a [`Graph`] on libtorch, with gradients.
//!
//! All learned values of a network lie in one flat tensor, weights first, then biases and normalisations; the running
//! statistics lie in a second one. So EMA, optimiser step and checkpoint are single operations, and weight decay is a
//! range. A [`Lane`] is what one forward and backward pass needs: views of the values that gradients flow to, its own
//! flat gradient, and its own batch statistics. Two lanes of one network may run at the same time, one a view of BYOL;
//! the batch statistics are absorbed into the running ones afterwards, in a fixed order.
//!
//! The other walker of the same graph is the ONNX writer in `byol-model`.

use crate::c10d::{self, Group};
use crate::error::{Error, Result};
use crate::network_tensor;
use crate::precision::{Cast, Precision};
use byol_model::graph::{Graph, NodeId, Op, Parameter, STANDARDISATION_EPS, Shape};
use byol_model::mlp::{MlpConfig, mlp};
use byol_model::tensor_op::TensorOp;
use byol_model::weights::{Tensor as HostTensor, Weights};
use std::collections::HashMap;
use std::sync::Arc;
use tch::{Device, Kind, Tensor};

/// Whether BatchNorm uses the batch's statistics or the running ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Batch statistics, recorded for the running ones.
    Train,
    /// Running statistics.
    Eval,
}

/// A network's graph and its values on a device.
#[derive(Debug)]
pub struct Network {
    plan: Arc<Plan>,
    values: Tensor,   // [parameters]
    buffers: Tensor,  // [running statistics]
    momentum: Tensor, // [running statistics]: each one's share of the batch
}

/// One pass's view of a network.
#[derive(Debug)]
pub struct Lane {
    pub(crate) plan: Arc<Plan>,
    parameters: Vec<Tensor>,        // as plan.parameters; leaves that share the network's values
    running: Vec<Tensor>,           // as plan.buffers; views of the network's buffers
    batch: Vec<Tensor>,             // as plan.buffers; views of `statistics`
    statistics: Tensor,             // [running statistics]
    constants: Vec<Option<Tensor>>, // by node: a constant's numbers
    gradient: Option<Tensor>,       // [parameters], bound by the first backward pass
    ranks: Option<Arc<Group>>,      // BatchNorm's statistics are those of all ranks' batches
    cast: Cast,                     // of training passes
}

/// Where everything lies; shared by a network and its lanes.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) graph: Graph,
    device: Device,
    parameters: Vec<Slot>,
    buffers: Vec<Slot>,
    /// How many of the values are weights, which come first.
    weights: i64,
    pub(crate) steps: Vec<Step>,
}

/// A parameter or buffer and its range in the flat tensor.
#[derive(Debug)]
struct Slot {
    parameter: Parameter,
    start: i64,
}

/// What a node needs to run.
#[derive(Debug)]
pub(crate) struct Step {
    /// Indices into `parameters`: weight, bias.
    parameters: Vec<usize>,
    /// Indices into `buffers`: running mean, running variance.
    buffers: Vec<usize>,
    /// ReLU only: its input may be overwritten, since no other node and no gradient reads it.
    pub(crate) in_place: bool,
    /// Inputs that no later node reads.
    pub(crate) last_use: Vec<NodeId>,
}

impl Network {
    /// Puts a graph with its weights on a device.
    ///
    /// # Errors
    /// As [`Weights::check`]; [`Error::Torch`] when the device has no room.
    pub fn new(graph: Graph, weights: &Weights, device: Device) -> Result<Self> {
        weights.check(&graph)?;
        let plan = Arc::new(Plan::new(graph, device));
        let momentum: HashMap<&str, f32> = plan
            .graph
            .nodes()
            .iter()
            .filter_map(|n| match n.op {
                Op::BatchNorm { momentum, .. } => Some((n.name.as_str(), momentum as f32)),
                _ => None,
            })
            .collect();
        let shares: Vec<f32> = plan
            .buffers
            .iter()
            .flat_map(|s| {
                let node = s.parameter.name.rsplit_once('.').map_or("", |(node, _)| node);
                std::iter::repeat_n(momentum.get(node).copied().unwrap_or(0.0), s.parameter.len())
            })
            .collect();
        let mut network = Self {
            values: plan.zeros()?,
            buffers: Tensor::f_zeros([plan.buffers.iter().map(Slot::len).sum::<i64>()], (Kind::Float, device))?,
            momentum: Tensor::f_from_slice(&shares)?.f_to_device(device)?,
            plan,
        };
        network.load(weights)?;
        Ok(network)
    }

    /// A linear layer with the weights that it starts with; the seed decides them.
    ///
    /// # Errors
    /// As [`Network::new`].
    pub(crate) fn linear(features: usize, classes: usize, seed: u64, device: Device) -> Result<Self> {
        let graph = mlp(features, &MlpConfig { layers: 1, output: classes, ..MlpConfig::default() })?;
        let weights = Weights::init(&graph, seed);
        Self::new(graph, &weights, device)
    }

    /// The graph.
    pub fn graph(&self) -> &Graph {
        &self.plan.graph
    }

    /// Where the values are.
    pub fn device(&self) -> Device {
        self.plan.device
    }

    /// All learned values, flat: the weights, then biases and normalisations.
    pub fn values(&self) -> &Tensor {
        &self.values
    }

    /// All that the network is made of: the values and the running statistics, each flat.
    pub(crate) fn flat(&self) -> [&Tensor; 2] {
        [&self.values, &self.buffers]
    }

    /// Number of the [`values`](Self::values) that are weights: what decays and adapts.
    pub fn weight_count(&self) -> i64 {
        self.plan.weights
    }

    /// Ranges of the weights in a flat tensor, one a parameter: start and length.
    pub fn weight_ranges(&self) -> impl Iterator<Item = (i64, i64)> {
        self.plan.parameters.iter().filter(|s| !s.parameter.bias_or_norm).map(|s| (s.start, s.len()))
    }

    /// Overwrites all values and running statistics.
    ///
    /// # Errors
    /// As [`Weights::check`].
    pub fn load(&mut self, weights: &Weights) -> Result<()> {
        weights.check(&self.plan.graph)?;
        let find = |slot: &Slot| weights.get(&slot.parameter.name);
        write(&self.plan.parameters, &mut self.values, find)?;
        write(&self.plan.buffers, &mut self.buffers, find)
    }

    /// Everything, by name.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn weights(&self) -> Result<Weights> {
        let values = self.named(&self.values)?;
        let buffers = read(&self.plan.buffers, &self.buffers)?;
        Ok(values.into_iter().chain(buffers).collect())
    }

    /// A flat tensor with one value a parameter (a gradient, say), by parameter name.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn named(&self, flat: &Tensor) -> Result<Vec<(String, HostTensor)>> {
        read(&self.plan.parameters, flat)
    }

    /// Fills a flat tensor with one value a parameter (a momentum, say) from tensors by name.
    ///
    /// # Errors
    /// [`byol_model::Error::MissingTensor`] or [`byol_model::Error::TensorShape`].
    pub fn fill_named<'a>(&self, flat: &mut Tensor, find: impl Fn(&str) -> Option<&'a HostTensor>) -> Result<()> {
        write(&self.plan.parameters, flat, |slot| find(&slot.parameter.name))
    }

    /// A lane of its own: it shares the values, and has its own gradient and batch statistics.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn lane(&self) -> Result<Lane> {
        let plan = &self.plan;
        let statistics = self.buffers.f_zeros_like()?;
        let leaf =
            |slot: &Slot| -> Result<Tensor> { Ok(slot.view(&self.values)?.f_detach()?.f_set_requires_grad(true)?) };
        let constants = plan.graph.nodes().iter().map(|node| match &node.op {
            Op::Tensor(TensorOp::Constant { shape, values }) => {
                let shape: Vec<i64> = shape.iter().map(|&d| d as i64).collect();
                Ok(Some(to_device(values, plan.device)?.f_view(shape.as_slice())?))
            }
            _ => Ok(None),
        });
        Ok(Lane {
            constants: constants.collect::<Result<_>>()?,
            parameters: plan.parameters.iter().map(leaf).collect::<Result<_>>()?,
            running: plan.buffers.iter().map(|slot| slot.view(&self.buffers)).collect::<Result<_>>()?,
            batch: plan.buffers.iter().map(|slot| slot.view(&statistics)).collect::<Result<_>>()?,
            statistics,
            gradient: None,
            ranks: None,
            cast: Cast::default(),
            plan: Arc::clone(plan),
        })
    }

    /// Moves the running statistics by those of the lane's last batch: `new = (1 - momentum) old + momentum batch`.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn absorb(&mut self, lane: &Lane) -> Result<()> {
        let _ = self.buffers.f_lerp_tensor_(&lane.statistics, &self.momentum)?;
        Ok(())
    }

    /// Moves the values toward another network's: `new = tau old + (1 - tau) other` (paper, equation 1), where `way` is
    /// `1 - tau`, a number on the device. Running statistics stay: each network has its own.
    ///
    /// # Errors
    /// [`Error::Torch`], where the networks differ.
    pub fn follow(&mut self, other: &Network, way: &Tensor) -> Result<()> {
        let _ = self.values.f_lerp_tensor_(&other.values, way)?;
        Ok(())
    }
}

impl Lane {
    /// The network's output for `x [n, ...]`.
    ///
    /// # Errors
    /// [`Error::Torch`] for a wrong shape.
    pub fn forward(&self, x: &Tensor, mode: Mode) -> Result<Tensor> {
        let nodes = self.plan.graph.nodes();
        let mut outputs: Vec<Option<Tensor>> = nodes.iter().map(|_| None).collect();
        for (index, step) in self.plan.steps.iter().enumerate() {
            let y = self.run(index, x, &mut outputs, mode, step.in_place)?;
            outputs[index] = Some(y);
            for id in &step.last_use {
                outputs[id.0] = None;
            }
        }
        let output = outputs[self.plan.graph.output().0].take();
        output.ok_or_else(|| Error::Network { what: "network", why: "its output is never computed".into() })
    }

    /// Every node's output, in the order of the nodes.
    ///
    /// # Errors
    /// [`Error::Torch`] for a wrong shape.
    pub fn forward_traced(&self, x: &Tensor, mode: Mode) -> Result<Vec<Tensor>> {
        let mut outputs: Vec<Option<Tensor>> = self.plan.steps.iter().map(|_| None).collect();
        for index in 0..outputs.len() {
            outputs[index] = Some(self.run(index, x, &mut outputs, mode, false)?);
        }
        Ok(outputs.into_iter().flatten().collect())
    }

    /// One node's output from those of earlier nodes.
    pub(crate) fn run(
        &self,
        index: usize,
        x: &Tensor,
        outputs: &mut [Option<Tensor>],
        mode: Mode,
        in_place: bool,
    ) -> Result<Tensor> {
        let (node, step) = (&self.plan.graph.nodes()[index], &self.plan.steps[index]);
        if in_place && let Some(mut input) = outputs[node.inputs[0].0].take() {
            return Ok(input.f_relu_()?);
        }
        let input = |n: usize| -> Result<&Tensor> {
            let id = node.inputs[n];
            outputs[id.0]
                .as_ref()
                .ok_or_else(|| Error::Network { what: "network", why: format!("node {:?} came too late", node.name) })
        };
        let parameter = |n: usize| step.parameters.get(n).map(|&i| &self.parameters[i]);
        let weight = || -> Result<&Tensor> {
            parameter(0)
                .ok_or_else(|| Error::Network { what: "network", why: format!("{:?} has no weight", node.name) })
        };
        let pair = |[a, b]: [usize; 2]| [a as i64, b as i64];
        // What is judged, and served, is float32.
        let cast = if mode == Mode::Train { self.cast } else { Cast::default() };
        let bias = || parameter(1).map(|bias| cast.lower(bias)).transpose();
        let y = match &node.op {
            Op::Input => x.shallow_clone(),
            &Op::Conv2d { stride, padding, groups, standardised, .. } => {
                let made = if standardised { Some(standardise(weight()?)?) } else { None };
                let weight = made.as_ref().map_or_else(weight, Ok)?;
                let (x, weight) = (cast.lower(input(0)?)?, cast.lower(weight)?);
                x.f_conv2d(&weight, bias()?, pair(stride), pair(padding), [1, 1], groups as i64)?
            }
            &Op::GroupNorm { groups, eps, .. } => {
                let y = cast.raise(input(0)?)?.f_group_norm(groups as i64, parameter(0), parameter(1), eps, true)?;
                cast.lower(&y)?
            }
            &Op::BatchNorm { eps, .. } => {
                // With momentum 1 the "running" statistics are the batch's own: `absorb` applies the momentum.
                let (statistics, training) = match mode {
                    Mode::Train => (&self.batch, true),
                    Mode::Eval => (&self.running, false),
                };
                let [mean, var] = [0, 1].map(|n| step.buffers.get(n).map(|&i| &statistics[i]));
                if training && let (Some(ranks), Some(mean), Some(var)) = (&self.ranks, mean, var) {
                    let x = cast.raise(input(0)?)?;
                    let y = ranks.batch_norm(&x, [parameter(0), parameter(1)], [mean, var], eps)?;
                    cast.lower(&y)?
                } else {
                    // Scale, shift and statistics are float32, whatever the input is.
                    input(0)?.f_batch_norm(parameter(0), parameter(1), mean, var, training, 1.0, eps, true)?
                }
            }
            Op::Linear { .. } => cast.lower(input(0)?)?.f_linear(&cast.lower(weight()?)?, bias()?)?,
            Op::Relu => input(0)?.f_relu()?,
            &Op::MaxPool { kernel, stride, padding } => {
                input(0)?.f_max_pool2d(pair(kernel), pair(stride), pair(padding), [1, 1], false)?
            }
            &Op::AvgPool { kernel, stride, padding, ceil } => {
                input(0)?.f_avg_pool2d(pair(kernel), pair(stride), pair(padding), ceil, false, None)?
            }
            Op::GlobalAvgPool => input(0)?.f_mean_dim([2i64, 3].as_slice(), false, Kind::Float)?,
            Op::GlobalMaxPool => input(0)?.f_amax([2i64, 3].as_slice(), false)?,
            Op::Flatten => input(0)?.f_flatten(1, -1)?,
            Op::Add => input(0)?.f_add(input(1)?)?,
            Op::Concat => {
                let all: Vec<&Tensor> = (0..node.inputs.len()).map(input).collect::<Result<_>>()?;
                Tensor::f_cat(&all, 1)?
            }
            Op::Tensor(op) => {
                let all: Vec<&Tensor> = (0..node.inputs.len()).map(input).collect::<Result<_>>()?;
                let given = step.parameters.iter().map(|&i| &self.parameters[i]);
                let given: Vec<&Tensor> = given.chain(&self.constants[index]).collect();
                let n = x.size().first().copied().unwrap_or(0);
                network_tensor::run(op, &all, &given, n, cast)?
            }
        };
        if index == self.plan.graph.output().0 { cast.raise(&y) } else { Ok(y) }
    }

    /// To be called after each backward pass: the first time, it moves the gradients into one flat tensor, where later
    /// passes add to them.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn gather_gradient(&mut self) -> Result<&mut Tensor> {
        if self.gradient.is_none() {
            let flat = self.plan.zeros()?;
            for (slot, leaf) in self.plan.parameters.iter().zip(&self.parameters) {
                let mut gradient = leaf.f_grad()?;
                // A parameter that the loss does not depend on has none; its part of the flat gradient stays zero.
                if gradient.defined() {
                    let mut view = slot.view(&flat)?;
                    view.f_copy_(&gradient)?;
                    gradient.f_set_data(&view)?;
                }
            }
            self.gradient = Some(flat);
        }
        self.gradient.as_mut().ok_or(Error::Thread("gradient"))
    }

    /// Training passes compute so from now on.
    pub fn compute_in(&mut self, precision: Precision) {
        self.cast = Cast { half: precision == Precision::Bf16 };
    }

    /// BatchNorm sees the batches of all ranks from now on.
    pub(crate) fn exchange_statistics(&mut self, ranks: &Arc<Group>) {
        self.ranks = Some(Arc::clone(ranks));
    }

    /// The flat gradient, bound before any backward pass.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub(crate) fn bind_gradient(&mut self) -> Result<&Tensor> {
        if self.gradient.is_none() {
            let flat = self.plan.zeros()?;
            for (slot, leaf) in self.plan.parameters.iter().zip(&self.parameters) {
                c10d::bind_gradient(leaf, &slot.view(&flat)?)?;
            }
            self.gradient = Some(flat);
        }
        self.gradient.as_ref().ok_or(Error::Thread("gradient"))
    }

    /// Every parameter's leaf, with where its gradient begins and how long it is.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = (i64, i64, &Tensor)> {
        self.plan.parameters.iter().zip(&self.parameters).map(|(slot, leaf)| (slot.start, slot.len(), leaf))
    }

    /// Sets the gradient to zero.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn zero_gradient(&mut self) -> Result<()> {
        if let Some(gradient) = &mut self.gradient {
            let _ = gradient.f_zero_()?;
        }
        Ok(())
    }
}

impl Plan {
    fn new(graph: Graph, device: Device) -> Self {
        let all = graph.parameters();
        let (learned, buffers): (Vec<_>, Vec<_>) = all.into_iter().partition(|p| p.trainable);
        let (mut parameters, rest): (Vec<_>, Vec<_>) = learned.into_iter().partition(|p| !p.bias_or_norm);
        let weights = parameters.iter().map(|p| p.len() as i64).sum();
        parameters.extend(rest);
        let (parameters, buffers) = (slots(parameters), slots(buffers));
        let steps = steps(&graph, &parameters, &buffers);
        Self { graph, device, parameters, buffers, weights, steps }
    }

    /// A flat tensor with a zero for each learned value.
    fn zeros(&self) -> Result<Tensor> {
        let total = self.parameters.iter().map(Slot::len).sum::<i64>();
        Ok(Tensor::f_zeros([total], (Kind::Float, self.device))?)
    }
}

/// Weights `[out, in, h, w]` standardised over each output channel; gradients flow through.
fn standardise(weight: &Tensor) -> Result<Tensor> {
    let each = [1i64, 2, 3];
    let centred = weight.f_sub(&weight.f_mean_dim(each.as_slice(), true, Kind::Float)?)?;
    let variance = centred.f_square()?.f_mean_dim(each.as_slice(), true, Kind::Float)?;
    Ok(centred.f_mul(&variance.f_add_scalar(STANDARDISATION_EPS)?.f_rsqrt()?)?)
}

/// Lays parameters one behind the other.
fn slots(parameters: Vec<Parameter>) -> Vec<Slot> {
    let mut start = 0;
    let place = |parameter: Parameter| {
        let slot = Slot { start, parameter };
        start += slot.len();
        slot
    };
    parameters.into_iter().map(place).collect()
}

fn steps(graph: &Graph, parameters: &[Slot], buffers: &[Slot]) -> Vec<Step> {
    let index = |slots: &[Slot]| -> HashMap<String, usize> {
        slots.iter().enumerate().map(|(i, s)| (s.parameter.name.clone(), i)).collect()
    };
    let (parameter_index, buffer_index) = (index(parameters), index(buffers));
    let nodes = graph.nodes();
    let mut readers = vec![0; nodes.len()];
    let mut last_reader = vec![None; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        for id in &node.inputs {
            readers[id.0] += 1;
            last_reader[id.0] = Some(i);
        }
    }
    readers[graph.output().0] += 1;
    let step = |(i, node): (usize, &byol_model::graph::Node)| {
        let find = |index: &HashMap<String, usize>| -> Vec<usize> {
            node.parameters().iter().filter_map(|p| index.get(&p.name).copied()).collect()
        };
        // The gradients of these operators do not read their output, so ReLU may overwrite it.
        let overwritable = |id: NodeId| {
            matches!(nodes[id.0].op, Op::Conv2d { .. } | Op::BatchNorm { .. } | Op::Linear { .. } | Op::Add)
                && readers[id.0] == 1
        };
        let mut last_use: Vec<NodeId> =
            node.inputs.iter().copied().filter(|id| last_reader[id.0] == Some(i) && *id != graph.output()).collect();
        last_use.dedup();
        Step {
            parameters: find(&parameter_index),
            buffers: find(&buffer_index),
            in_place: matches!(node.op, Op::Relu) && overwritable(node.inputs[0]),
            last_use,
        }
    };
    nodes.iter().enumerate().map(step).collect()
}

impl Slot {
    fn len(&self) -> i64 {
        self.parameter.len() as i64
    }

    /// This parameter in a flat tensor, in torch's shape. Convolution weights lie channels-last, as the pictures do:
    /// libtorch's convolutions, BatchNorm and pooling are faster so on CPU and on CUDA.
    fn view(&self, flat: &Tensor) -> Result<Tensor> {
        let range = flat.f_narrow(0, self.start, self.len())?;
        let shape: Vec<i64> = self.parameter.shape.iter().map(|&n| n as i64).collect();
        Ok(match shape[..] {
            [o, i, h, w] => range.f_view([o, h, w, i])?.f_permute([0, 3, 1, 2])?,
            _ => range.f_view(shape.as_slice())?,
        })
    }
}

/// Copies tensors into their places.
fn write<'a>(slots: &[Slot], flat: &mut Tensor, find: impl Fn(&Slot) -> Option<&'a HostTensor>) -> Result<()> {
    for slot in slots {
        let (name, expected) = (&slot.parameter.name, &slot.parameter.shape);
        let tensor = find(slot)
            .ok_or_else(|| byol_model::Error::MissingTensor { name: name.clone(), expected: expected.clone() })?;
        if tensor.shape != *expected || tensor.data.len() != slot.parameter.len() {
            let (expected, found) = (expected.clone(), tensor.shape.clone());
            return Err(byol_model::Error::TensorShape { name: name.clone(), expected, found }.into());
        }
        let shape: Vec<i64> = expected.iter().map(|&n| n as i64).collect();
        slot.view(flat)?.f_copy_(&Tensor::f_from_slice(&tensor.data)?.f_view(shape.as_slice())?)?;
    }
    Ok(())
}

/// Copies tensors out of their places.
fn read(slots: &[Slot], flat: &Tensor) -> Result<Vec<(String, HostTensor)>> {
    let flat = flat.f_to_device(Device::Cpu)?;
    let one = |slot: &Slot| {
        let data = output(&slot.view(&flat)?)?;
        Ok((slot.parameter.name.clone(), HostTensor { shape: slot.parameter.shape.clone(), data }))
    };
    slots.iter().map(one).collect()
}

/// Puts pictures `[n, channels, height, width]`, or vectors `[n, features]`, on a device as a network reads them.
///
/// # Errors
/// [`Error::Network`] where `values` is no whole number of examples; [`Error::Torch`].
pub fn input(values: &[f32], shape: Shape, device: Device) -> Result<Tensor> {
    let one = shape.len();
    if one == 0 || values.is_empty() || !values.len().is_multiple_of(one) {
        let why = format!("{} values are no whole number of examples of shape {shape}", values.len());
        return Err(Error::Network { what: "input", why });
    }
    let n = (values.len() / one) as i64;
    let flat = to_device(values, device)?;
    Ok(match shape {
        Shape::Vector { features } => flat.f_view([n, features as i64])?,
        Shape::Tensor(_) => {
            return Err(Error::Network { what: "input", why: format!("a network reads maps or vectors, not {shape}") });
        }
        Shape::Map { channels, height, width } => {
            let maps = flat.f_view([n, channels as i64, height as i64, width as i64])?;
            maps.f_permute([0, 2, 3, 1])?.f_contiguous()?.f_permute([0, 3, 1, 2])?
        }
    })
}

/// Puts numbers on a device. On CUDA the host does not wait until they are there, as it would for memory that is not
/// pinned; whoever reads them on the device comes behind them.
///
/// # Errors
/// [`Error::Torch`].
pub(crate) fn to_device<T: tch::kind::Element>(values: &[T], device: Device) -> Result<Tensor> {
    Ok(match device {
        Device::Cuda(_) => c10d::pinned(values)?.f_internal_to_copy((T::KIND, device), true)?,
        Device::Cpu | Device::Mps | Device::Vulkan => Tensor::f_from_slice(values)?.f_to_device(device)?,
    })
}

/// Values of a tensor in the order of its dimensions, wherever it lies.
///
/// # Errors
/// [`Error::Torch`].
pub fn output(tensor: &Tensor) -> Result<Vec<f32>> {
    let mut values = vec![0.0; tensor.numel()];
    tensor.f_to_device(Device::Cpu)?.f_contiguous()?.f_copy_data(&mut values, tensor.numel())?;
    Ok(values)
}
