//! Bootstrap Your Own Latent (Grill et al. 2020, arXiv 2006.07733): an online network learns to predict what a slowly
//! following target network says about another view of the same picture.
//!
//! The two views are two lanes that share all weights. Each has its own batch statistics, as the paper has it, and on a
//! CPU each has its own thread: lane 1 and lane 2 meet once a step, to exchange the target's projections.

use crate::device::set_threads;
use crate::distributed::Ranks;
use crate::error::{Error, Result};
use crate::network::{self, Lane, Mode, Network};
use crate::optimizer::{Optimizer, Rule};
use crate::precision::Precision;
use crate::profile;
use crate::reduction::Reduction;
use byol_model::graph::Graph;
use byol_model::mlp::{MlpConfig, mlp};
use byol_model::weights::{Tensor as HostTensor, Weights};
use std::collections::BTreeMap;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use tch::{Device, Tensor};

/// A network before it is on a device.
#[derive(Clone, Debug)]
pub struct Predefined {
    /// What it computes.
    pub graph: Graph,
    /// Its weights.
    pub weights: Weights,
}

impl Predefined {
    /// A network with the weights that its graph starts with; the seed decides all.
    pub fn init(graph: Graph, seed: u64) -> Self {
        Self { weights: Weights::init(&graph, seed), graph }
    }
}

/// How BYOL runs and steps.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where the networks lie.
    pub device: Device,
    /// CPU threads of the step. From 2 on, each view has its own lane with half of them.
    pub threads: usize,
    /// The optimiser.
    pub rule: Rule,
    /// The predictor's learning rate as a multiple of the encoder's.
    pub predictor_rate: f64,
    /// The projector's learning rate as a multiple of the encoder's.
    pub projector_rate: f64,
    /// What passes compute in; [settled](Precision::settle) for the device.
    pub precision: Precision,
    /// Let the encoder's activations go and compute them again on the way back ([`crate::recompute`]).
    pub recompute: bool,
}

impl Default for Options {
    /// The paper's optimiser on one thread of the CPU.
    fn default() -> Self {
        Self {
            device: Device::Cpu,
            threads: 1,
            rule: Rule::default(),
            predictor_rate: 1.0,
            projector_rate: 1.0,
            precision: Precision::Float32,
            recompute: false,
        }
    }
}

/// The five networks and the optimiser.
#[derive(Debug)]
pub struct Byol {
    online: Online,
    target: Target,
    optimizers: [Optimizer; 3],
    rates: [f64; 3],  // of encoder, projector, predictor, as multiples
    way: Tensor,      // the target's, toward the online network in a step: 1 - tau, float32 without dimensions
    sides: Vec<Side>, // two, but while a step is under way
    helper: Option<Helper>,
    waiting: usize, // batches whose gradients wait for `update`
    reduction: Option<Reduction>,
}

/// What learns by gradient: predictor(projector(encoder(view))).
#[derive(Debug)]
struct Online {
    encoder: Network,
    projector: Network,
    predictor: Network,
}

/// What follows: projector(encoder(view)).
#[derive(Debug)]
struct Target {
    encoder: Network,
    projector: Network,
}

/// What a batch said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Report {
    /// Both directions summed, mean of the batch: 0 to 8, about 4 when nothing is learned.
    pub loss: f64,
}

impl Byol {
    /// BYOL on predefined networks. The target begins as a copy of encoder and projector.
    ///
    /// # Errors
    /// [`Error::Network`] where they do not fit together; as [`Network::new`].
    pub fn new(encoder: Predefined, projector: Predefined, predictor: Predefined, options: &Options) -> Result<Self> {
        let joint = |what, from: &Graph, to: &Graph| {
            let (from, to) = (from.output_shape(), to.input_shape());
            if from == to { Ok(()) } else { Err(Error::Network { what, why: format!("reads {to}, but gets {from}") }) }
        };
        joint("projector", &encoder.graph, &projector.graph)?;
        joint("predictor", &projector.graph, &predictor.graph)?;
        let (predicted, projected) = (predictor.graph.output_shape(), projector.graph.output_shape());
        if predicted != projected {
            let why = format!("writes {predicted}, but is compared with projections {projected}");
            return Err(Error::Network { what: "predictor", why });
        }
        let on_device = |p: Predefined| Network::new(p.graph, &p.weights, options.device);
        let target = Target { encoder: on_device(encoder.clone())?, projector: on_device(projector.clone())? };
        let online =
            Online { encoder: on_device(encoder)?, projector: on_device(projector)?, predictor: on_device(predictor)? };
        let optimizer = |network: &Network| Optimizer::new(options.rule, network);
        let optimizers = [optimizer(&online.encoder)?, optimizer(&online.projector)?, optimizer(&online.predictor)?];
        let side = || Side::new(&online, &target, options);
        let sides = vec![side()?, side()?];
        let parallel = options.device == Device::Cpu && options.threads > 1;
        let threads = if parallel { options.threads / 2 } else { options.threads };
        set_threads(threads);
        let helper = if parallel { Some(Helper::start(threads)?) } else { None };
        let rates = [1.0, options.projector_rate, options.predictor_rate];
        let way = Tensor::f_zeros([0i64; 0], (tch::Kind::Float, options.device))?;
        Ok(Self { online, target, optimizers, rates, way, sides, helper, waiting: 0, reduction: None })
    }

    /// BYOL on an encoder alone, with the paper's projector and predictor: `hidden` features between their two
    /// layers, `projection` features out, BatchNorm between or not.
    ///
    /// # Errors
    /// As [`Byol::new`].
    pub fn from_encoder(
        encoder: Predefined,
        hidden: usize,
        projection: usize,
        batch_norm: bool,
        seed: u64,
        options: &Options,
    ) -> Result<Self> {
        let config = MlpConfig { hidden, output: projection, batch_norm, ..MlpConfig::default() };
        let projector = Predefined::init(mlp(encoder.graph.dimension(), &config)?, seed);
        let predictor = Predefined::init(mlp(projection, &config)?, seed.wrapping_add(1));
        Self::new(encoder, projector, predictor, options)
    }

    /// Trains with other ranks from now on, all of them with rank 0's present state: BatchNorm sees every rank's batch,
    /// and gradients are means over all.
    ///
    /// # Errors
    /// [`Error::Torch`], [`Error::Collective`].
    pub fn join(&mut self, ranks: &Ranks) -> Result<()> {
        for (lane, side) in self.sides.iter_mut().enumerate() {
            side.all().into_iter().for_each(|l| l.exchange_statistics(ranks.lane(lane)));
        }
        let weights = [&self.online.encoder, &self.online.projector, &self.online.predictor].map(Network::weight_count);
        let [first, second] = &mut self.sides[..] else { return Err(Error::Thread("lane")) };
        let lanes = first.learning().into_iter().zip(second.learning()).zip(weights);
        self.reduction = Some(Reduction::new(ranks, lanes.map(|((a, b), weights)| (a, b, weights)).collect())?);
        for (_, network) in self.networks() {
            network.flat().into_iter().try_for_each(|flat| ranks.from_first(flat))?;
        }
        for optimizer in &mut self.optimizers {
            let (slots, steps) = optimizer.state_mut();
            slots.iter().try_for_each(|(_, flat)| ranks.from_first(flat))?;
            *steps = ranks.number_from_first(*steps)?;
        }
        Ok(())
    }

    /// The encoder that is kept: the online one.
    pub fn encoder(&self) -> &Network {
        &self.online.encoder
    }

    /// Every network with its name, in the order of the paper's figure 2.
    pub fn networks(&self) -> [(&'static str, &Network); 5] {
        [
            ("online.encoder", &self.online.encoder),
            ("online.projector", &self.online.projector),
            ("online.predictor", &self.online.predictor),
            ("target.encoder", &self.target.encoder),
            ("target.projector", &self.target.projector),
        ]
    }

    /// Features of pictures, by the online encoder with its running statistics.
    ///
    /// # Errors
    /// [`Error::Torch`] for a wrong shape.
    pub fn features(&self, pictures: &Tensor) -> Result<Tensor> {
        let side = self.sides.first().ok_or(Error::Thread("lane"))?;
        tch::no_grad(|| side.encoder.forward(pictures, Mode::Eval))
    }

    /// Adds the gradient of one batch: both views through both networks and back. The loss of a step of several
    /// batches is their mean, so `share` is 1 / batches.
    ///
    /// # Errors
    /// [`Error::Torch`] for a wrong shape or too little memory.
    pub fn learn(&mut self, first: Tensor, second: Tensor, share: f64) -> Result<[Reading; 2]> {
        if self.waiting == 0 {
            for side in &mut self.sides {
                side.zero_gradient()?;
            }
        }
        let mut share = share;
        if let Some(reduction) = &self.reduction {
            // With the last batch of a step the sums may leave.
            if (self.waiting + 1) as f64 * share > 1.0 - 1e-9 {
                reduction.arm();
            }
            share /= reduction.ranks as f64;
        }
        let readings = match &self.helper {
            Some(helper) => helper.learn(&mut self.sides, first, second, share)?,
            None => learn_in_turn(&mut self.sides, &first, &second, share)?,
        };
        let _span = profile::span("statistics");
        for side in &self.sides {
            self.online.encoder.absorb(&side.encoder)?;
            self.online.projector.absorb(&side.projector)?;
            self.online.predictor.absorb(&side.predictor)?;
            self.target.encoder.absorb(&side.target_encoder)?;
            self.target.projector.absorb(&side.target_projector)?;
        }
        self.waiting += 1;
        Ok(readings)
    }

    /// One optimiser step with the gradients that [`learn`](Self::learn) added, then the target follows the updated
    /// online network.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn update(&mut self, learning_rate: f64, tau: f64) -> Result<()> {
        self.prepare(learning_rate, tau)?;
        self.apply()
    }

    /// What the next step needs of learning rate and tau goes to the device: [`apply`](Self::apply) then knows it.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn prepare(&mut self, learning_rate: f64, tau: f64) -> Result<()> {
        for (optimizer, multiple) in self.optimizers.iter_mut().zip(self.rates) {
            optimizer.prepare(learning_rate * multiple)?;
        }
        Ok(self.way.f_copy_(&network::to_device(&[(1.0 - tau) as f32], self.way.device())?.f_select(0, 0)?)?)
    }

    /// The step that was prepared. It reads no number of the host that changes between steps.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn apply(&mut self) -> Result<()> {
        let span = profile::span("gradients");
        let mut gradients = self.gradients()?;
        drop(span);
        let span = profile::span("optimiser");
        let networks = [&self.online.encoder, &self.online.projector, &self.online.predictor];
        for ((optimizer, network), gradient) in self.optimizers.iter_mut().zip(networks).zip(&mut gradients) {
            optimizer.apply(network, gradient)?;
        }
        drop(span);
        let _span = profile::span("EMA");
        self.target.encoder.follow(&self.online.encoder, &self.way)?;
        self.target.projector.follow(&self.online.projector, &self.way)?;
        self.waiting = 0;
        Ok(())
    }

    /// Gradients that were added since the last update are void.
    pub(crate) fn forget(&mut self) {
        self.waiting = 0;
    }

    /// The summed flat gradients of encoder, projector and predictor. They lie in the first lane: to be taken once.
    fn gradients(&mut self) -> Result<[Tensor; 3]> {
        let [first, second] = &mut self.sides[..] else { return Err(Error::Thread("lane")) };
        if let Some(reduction) = &self.reduction {
            reduction.finish()?;
            let [a, b, c] = first.learning();
            let flat = |lane: &mut Lane| Ok::<_, Error>(lane.gather_gradient()?.shallow_clone());
            return Ok([flat(a)?, flat(b)?, flat(c)?]);
        }
        let mut sums = Vec::with_capacity(3);
        for (a, b) in first.learning().into_iter().zip(second.learning()) {
            let sum = a.gather_gradient()?;
            let _ = sum.f_add_(b.gather_gradient()?)?;
            sums.push(sum.shallow_clone());
        }
        sums.try_into().map_err(|_| Error::Thread("lane"))
    }

    /// The gradients that [`learn`](Self::learn) added since the last update, by name; the update is then void.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn take_gradients(&mut self) -> Result<BTreeMap<String, HostTensor>> {
        let flat = self.gradients()?;
        self.waiting = 0;
        let mut all = BTreeMap::new();
        for ((name, network), gradient) in self.networks().into_iter().zip(&flat) {
            all.extend(network.named(gradient)?.into_iter().map(|(p, tensor)| (format!("{name}.{p}"), tensor)));
        }
        Ok(all)
    }

    /// Everything that a later step depends on, by name, and the optimiser's step count.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn state(&self) -> Result<(BTreeMap<String, HostTensor>, u64)> {
        let mut all = BTreeMap::new();
        for (name, network) in self.networks() {
            all.extend(network.weights()?.iter().map(|(p, t)| (format!("{name}.{p}"), t.clone())));
        }
        for ((name, network), optimizer) in self.networks().into_iter().zip(&self.optimizers) {
            for (slot, flat) in optimizer.state().0 {
                let named = network.named(flat)?.into_iter();
                all.extend(named.map(|(p, tensor)| (format!("optimizer.{slot}.{name}.{p}"), tensor)));
            }
        }
        Ok((all, self.optimizers[0].state().1))
    }

    /// Puts back what [`state`](Self::state) gave.
    ///
    /// # Errors
    /// [`Error::Model`] names a tensor that is missing or has another shape.
    pub fn restore(&mut self, state: &BTreeMap<String, HostTensor>, steps: u64) -> Result<()> {
        let online = [&mut self.online.encoder, &mut self.online.projector, &mut self.online.predictor];
        let names = ["online.encoder", "online.projector", "online.predictor"];
        for ((name, network), optimizer) in names.into_iter().zip(online).zip(&mut self.optimizers) {
            network.load(&with_prefix(state, name))?;
            let (slots, done) = optimizer.state_mut();
            *done = steps;
            for (slot, flat) in slots {
                network.fill_named(flat, |p| state.get(&format!("optimizer.{slot}.{name}.{p}")))?;
            }
        }
        self.target.encoder.load(&with_prefix(state, "target.encoder"))?;
        self.target.projector.load(&with_prefix(state, "target.projector"))
    }
}

/// The tensors of one network.
fn with_prefix(state: &BTreeMap<String, HostTensor>, prefix: &str) -> Weights {
    let own = |(name, tensor): (&String, &HostTensor)| {
        Some((name.strip_prefix(prefix)?.strip_prefix('.')?.to_owned(), tensor.clone()))
    };
    state.iter().filter_map(own).collect()
}

/// `mean(2 - 2 cos(prediction, projection))` over the batch: the squared distance of the normalised vectors (paper,
/// equation 2), one direction.
pub fn regression_loss(prediction: &Tensor, projection: &Tensor) -> Result<Tensor> {
    let cosine = normalise(prediction)?.f_mul(&normalise(projection)?)?.f_sum_dim_intlist(
        [1i64].as_slice(),
        false,
        tch::Kind::Float,
    )?;
    Ok(cosine.f_mul_scalar(-2.0)?.f_add_scalar(2.0)?.f_mean(tch::Kind::Float)?)
}

/// `x / |x|`, with DeepMind's guard against zero: `x rsqrt(max(sum x^2, 1e-12))`.
fn normalise(x: &Tensor) -> Result<Tensor> {
    let squares = x.f_square()?.f_sum_dim_intlist([1i64].as_slice(), true, tch::Kind::Float)?;
    Ok(x.f_mul(&squares.f_clamp_min(1e-12)?.f_rsqrt()?)?)
}

/// What one view's pass left on the device; to be read when it is needed, since reading waits for the device.
#[derive(Debug)]
pub struct Reading {
    loss: Tensor,
    /// What the online encoder made of the view, `[n, features]`, cut off from the gradient.
    pub features: Tensor,
    /// What the online projector made of that.
    pub projection: Tensor,
}

impl Reading {
    /// The same memory.
    pub(crate) fn shallow_clone(&self) -> Reading {
        let Reading { loss, features, projection } = self;
        Reading {
            loss: loss.shallow_clone(),
            features: features.shallow_clone(),
            projection: projection.shallow_clone(),
        }
    }

    /// The batch's report.
    ///
    /// # Errors
    /// [`Error::Torch`].
    pub fn report(readings: &[Reading; 2]) -> Result<Report> {
        let [a, b] = readings;
        let value = |t: &Tensor| t.f_double_value(&[]);
        Ok(Report { loss: value(&a.loss)? + value(&b.loss)? })
    }
}

/// One view's lanes through all networks.
#[derive(Debug)]
struct Side {
    encoder: Lane,
    projector: Lane,
    predictor: Lane,
    target_encoder: Lane,
    target_projector: Lane,
    recompute: bool,
}

impl Side {
    fn new(online: &Online, target: &Target, options: &Options) -> Result<Self> {
        let mut side = Self {
            encoder: online.encoder.lane()?,
            projector: online.projector.lane()?,
            predictor: online.predictor.lane()?,
            target_encoder: target.encoder.lane()?,
            target_projector: target.projector.lane()?,
            recompute: options.recompute,
        };
        side.all().into_iter().for_each(|lane| lane.compute_in(options.precision));
        Ok(side)
    }

    fn all(&mut self) -> [&mut Lane; 5] {
        [
            &mut self.encoder,
            &mut self.projector,
            &mut self.predictor,
            &mut self.target_encoder,
            &mut self.target_projector,
        ]
    }

    fn learning(&mut self) -> [&mut Lane; 3] {
        [&mut self.encoder, &mut self.projector, &mut self.predictor]
    }

    fn zero_gradient(&mut self) -> Result<()> {
        self.learning().into_iter().try_for_each(Lane::zero_gradient)
    }

    /// The target's projection of this side's view.
    fn project(&self, view: &Tensor) -> Result<Tensor> {
        let _span = profile::span("target forward");
        tch::no_grad(|| self.target_projector.forward(&self.target_encoder.forward(view, Mode::Train)?, Mode::Train))
    }

    /// Predicts the other side's projection from this side's view, and adds the gradient.
    fn predict(&mut self, view: &Tensor, other: impl FnOnce() -> Result<Tensor>, share: f64) -> Result<Reading> {
        let span = profile::span("forward");
        let trail = if self.recompute { Some(self.encoder.forward_lean(view)?) } else { None };
        let features = match &trail {
            Some(trail) => trail.output.shallow_clone(),
            None => self.encoder.forward(view, Mode::Train)?,
        };
        let projection = self.projector.forward(&features, Mode::Train)?;
        let prediction = self.predictor.forward(&projection, Mode::Train)?;
        drop(span);
        let other = other()?;
        let span = profile::span("backward");
        let loss = regression_loss(&prediction, &other)?;
        if share == 1.0 {
            loss.f_backward()?
        } else {
            loss.f_mul_scalar(share)?.f_backward()?
        }
        if let Some(trail) = trail {
            self.encoder.backward_again(trail)?;
        }
        for lane in self.learning() {
            lane.gather_gradient()?;
        }
        drop(span);
        Ok(Reading { loss: loss.f_detach()?, features: features.f_detach()?, projection: projection.f_detach()? })
    }
}

/// Both views, one after the other, on this thread.
fn learn_in_turn(sides: &mut [Side], first: &Tensor, second: &Tensor, share: f64) -> Result<[Reading; 2]> {
    let [a, b] = sides else { return Err(Error::Thread("lane")) };
    let (of_first, of_second) = (a.project(first)?, b.project(second)?);
    Ok([a.predict(first, || Ok(of_second), share)?, b.predict(second, || Ok(of_first), share)?])
}

/// The thread that runs the second view.
#[derive(Debug)]
struct Helper {
    jobs: Option<Sender<Job>>,
    results: Receiver<(Side, Result<Reading>)>,
    thread: Option<JoinHandle<()>>,
}

/// A side's work in one step.
struct Job {
    side: Side,
    view: Tensor,
    share: f64,
    to_other: Sender<Tensor>,
    from_other: Receiver<Tensor>,
}

impl Job {
    /// The target's projections are sent before the online pass, so that no side waits long for the other.
    fn run(self) -> (Side, Result<Reading>) {
        let Job { mut side, view, share, to_other, from_other } = self;
        let reading = side.project(&view).and_then(|own| {
            to_other.send(own).map_err(|_| Error::Thread("lane"))?;
            side.predict(&view, || from_other.recv().map_err(|_| Error::Thread("lane")), share)
        });
        (side, reading)
    }
}

impl Helper {
    fn start(threads: usize) -> Result<Self> {
        let (jobs, todo) = channel::<Job>();
        let (done, results) = channel();
        let work = move || {
            set_threads(threads);
            while let Ok(job) = todo.recv() {
                if done.send(job.run()).is_err() {
                    break;
                }
            }
        };
        let thread = std::thread::Builder::new().name("byol-lane".into()).spawn(work);
        let thread = thread.map_err(|_| Error::Thread("lane"))?;
        Ok(Self { jobs: Some(jobs), results, thread: Some(thread) })
    }

    /// Both views at once: the first here, the second on the helper's thread.
    fn learn(&self, sides: &mut Vec<Side>, first: Tensor, second: Tensor, share: f64) -> Result<[Reading; 2]> {
        let ended = || Error::Thread("lane");
        let (Some(b), Some(a)) = (sides.pop(), sides.pop()) else { return Err(ended()) };
        let ((to_b, from_a), (to_a, from_b)) = (channel(), channel());
        let job = Job { side: b, view: second, share, to_other: to_a, from_other: from_a };
        self.jobs.as_ref().ok_or_else(ended)?.send(job).map_err(|_| ended())?;
        let (a, of_a) = Job { side: a, view: first, share, to_other: to_b, from_other: from_b }.run();
        let (b, of_b) = self.results.recv().map_err(|_| ended())?;
        sides.extend([a, b]);
        // Where one side failed, the other only says that its partner ended.
        match (of_a, of_b) {
            (Ok(a), Ok(b)) => Ok([a, b]),
            (Err(Error::Thread(_)), Err(cause)) | (Err(cause), _) | (_, Err(cause)) => Err(cause),
        }
    }
}

impl Drop for Helper {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has already been reported as a lost lane.
            let _ = thread.join();
        }
    }
}
