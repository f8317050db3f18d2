//! A whole run: from a run file and a folder of pictures to a run folder with the encoder that was learned.
//!
//! | file of a run folder | what it is |
//! |---|---|
//! | `run.toml` | every setting, resolved |
//! | `metrics.jsonl` | one line a step, and one an evaluation |
//! | `events.out.tfevents.*` | the same for TensorBoard, a file for each start |
//! | `checkpoint.safetensors` | the whole state; `resume` continues from it |
//! | `architecture.onnx` | the encoder as it began, where it was read from an ONNX file |
//! | `encoder.onnx` | the encoder to serve, with its input contract |
//! | `encoder.safetensors`, `projector...`, `predictor...`, `target...` | the weights by name |

use crate::byol::{Byol, Options, Predefined, Reading};
use crate::capture::{Captured, CudaGraph};
use crate::checkpoint::{Checkpoint, Progress};
use crate::config::{OnCollapse, RunConfig};
use crate::device::Choice;
use crate::device_views::{DeviceViews, DeviceViewsOptions};
use crate::distributed::Ranks;
use crate::error::{Error, Result};
use crate::evaluation::Evaluation;
use crate::loader::{self, Loader, LoaderOptions};
use crate::metrics::{Line, Metrics};
use crate::precision::Precision;
use crate::probe::Probe;
use crate::sentinel::{self, EmbeddingStatistics, Sentinel, Signal};
use crate::tensorboard::{self, EventFile};
use crate::{device, network, profile};
use byol_model::dataset::{Dataset, Split};
use byol_model::encoder::{ARCHITECTURE_FILE, EncoderConfig};
use byol_model::mlp::mlp;
use byol_model::onnx;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tch::Device;

/// Name of the resolved run file in a run folder.
pub const RUN_FILE: &str = "run.toml";
/// Name of the checkpoint in a run folder.
pub const CHECKPOINT_FILE: &str = "checkpoint.safetensors";
/// Name of the metrics in a run folder.
pub const METRICS_FILE: &str = "metrics.jsonl";
/// Name of the served encoder in a run folder.
pub const ENCODER_FILE: &str = "encoder.onnx";
/// Weights in a run folder: the file, and the network that is in it.
const WEIGHT_FILES: [(&str, &str); 5] = [
    ("encoder.safetensors", "online.encoder"),
    ("projector.safetensors", "online.projector"),
    ("predictor.safetensors", "online.predictor"),
    ("target_encoder.safetensors", "target.encoder"),
    ("target_projector.safetensors", "target.projector"),
];
/// Pictures that are measured where mean and standard deviation are asked for.
const MEASURED_PICTURES: usize = 10_000;
/// Bytes of a device's memory that pictures may take.
const DEVICE_MEMORY: u64 = 32 << 30;
/// Steps between two reports on CUDA, where reading a value waits for the device.
const CUDA_REPORT_STEPS: usize = 10;

/// How a run begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// In a folder that holds no run yet.
    Fresh,
    /// From the first step, whatever the folder holds.
    Overwrite,
    /// From the folder's checkpoint.
    Resume,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// All steps were done and the encoder was written.
    Finished(Summary),
    /// It was stopped; the checkpoint holds the step.
    Interrupted {
        /// Steps done.
        step: usize,
        /// The checkpoint.
        checkpoint: PathBuf,
    },
}

/// What a finished run has to say.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Optimiser steps.
    pub steps: usize,
    /// Passes over the data.
    pub epochs: f64,
    /// Loss of the last step.
    pub loss: Option<f64>,
    /// Last k-NN accuracy, where the data have labels.
    pub knn: Option<f64>,
    /// Last accuracy of the online linear probe.
    pub probe: Option<f64>,
    /// Pictures a second, of the steps alone.
    pub images_per_second: f64,
    /// The encoder to serve.
    pub encoder: PathBuf,
}

/// One step, for whoever watches.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepReport {
    /// Steps done.
    pub step: usize,
    /// Steps of the run.
    pub steps: usize,
    /// Passes over the data done.
    pub epoch: f64,
    /// Loss, both directions summed.
    pub loss: f64,
    /// Learning rate of the step.
    pub learning_rate: f64,
    /// Tau of the step.
    pub tau: f64,
    /// How far the online projections of the first view are from being all the same.
    pub embeddings: EmbeddingStatistics,
    /// Pictures a second, lately.
    pub images_per_second: f64,
    /// Seconds until the end at that speed.
    pub eta_seconds: f64,
}

/// k-NN accuracy of the encoder as it is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EvaluationReport {
    /// Steps done.
    pub step: usize,
    /// Passes over the data done.
    pub epoch: f64,
    /// Share of held-out pictures whose neighbours have their class.
    pub knn: f64,
    /// Neighbours asked.
    pub k: usize,
    /// Share of the same pictures whose class the online linear probe names.
    pub probe: Option<f64>,
    /// Pictures asked about.
    pub pictures: usize,
}

/// Whoever watches a run. All methods do nothing unless they are written.
pub trait Observer {
    /// Something worth a sentence.
    fn on_message(&mut self, _message: &str) {}
    /// A step was done.
    fn on_step(&mut self, _report: &StepReport) {}
    /// The encoder was evaluated.
    fn on_evaluation(&mut self, _report: &EvaluationReport) {}
    /// A checkpoint was written.
    fn on_checkpoint(&mut self, _step: usize, _path: &Path) {}
}

/// An observer that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {}

/// Pretrains by `config` into `folder`. `stop` is looked at before each step: once it is true, a checkpoint is saved and
/// the run ends.
///
/// # Errors
/// Before the first step: [`Error::Setting`] and its kin for the configuration, [`Error::Model`] or [`Error::Data`] for
/// the data, [`Error::Device`], [`Error::RunExists`], [`Error::Io`] for a folder that cannot be written, and when
/// resuming [`Error::NothingToResume`], [`Error::Checkpoint`], [`Error::Changed`]. Later: [`Error::Diverged`],
/// [`Error::Collapsed`], and what reading pictures or writing files can give.
pub fn pretrain(
    config: &RunConfig,
    folder: &Path,
    start: Start,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    run(config, folder, start, observer, stop, None)
}

/// As [`pretrain`], together with other ranks: each takes its part of every batch, and rank 0 alone has a run folder,
/// an observer that hears, and a checkpoint. All end when one does.
///
/// # Errors
/// As [`pretrain`]; [`Error::Ranks`] names a rank that was lost.
pub fn pretrain_with(
    ranks: &Ranks,
    config: &RunConfig,
    folder: &Path,
    start: Start,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
) -> Result<Outcome> {
    let outcome = run(config, folder, start, observer, stop, Some(ranks));
    outcome.and_then(|outcome| ranks.finish().map(|()| outcome)).map_err(|error| ranks.explain(error))
}

fn run(
    config: &RunConfig,
    folder: &Path,
    start: Start,
    observer: &mut dyn Observer,
    stop: &AtomicBool,
    ranks: Option<&Ranks>,
) -> Result<Outcome> {
    config.check()?;
    let first = ranks.is_none_or(|ranks| ranks.rank() == 0);
    let mut silent = Silent;
    let observer: &mut dyn Observer = if first { observer } else { &mut silent };
    if first {
        check_folder(folder, start)?;
    }
    let data = open_data(config)?;
    observer.on_message(&format!("Data: {}.", data.describe()));
    let mut config = resolve(config, &data)?;
    let plan = config.plan(data.len())?;
    let (encoder, file) = encoder(&mut config, folder, start, observer)?;
    let config = &config;
    let found = match ranks {
        Some(ranks) => open_device_of(ranks, config.device)?,
        None => device::open(config.device)?,
    };
    observer.on_message(&found.sentence);
    let precision = config.precision.settle(found.device)?;
    if let Some(said) = precision.sentence() {
        observer.on_message(said);
    }
    if let Some(ranks) = ranks {
        observer.on_message(&ranks.describe());
        same_run(ranks, config, data.len())?;
        if let Some(said) = ranks.connect(found.device)? {
            observer.on_message(&said);
        }
    }

    let checkpoint = match start {
        Start::Resume if first => Some(load_checkpoint(config, folder, data.len())?),
        Start::Fresh | Start::Overwrite | Start::Resume => None,
    };
    let threads = match (config.threads, ranks) {
        (0, ranks) => (device::available_threads() / ranks.map_or(1, |ranks| ranks.local().1)).max(1),
        (threads, _) => threads,
    };
    let mut byol = create(config, encoder, found.device, precision, threads)?;
    let mut options = loader_options(config, threads)?;
    if let Some(ranks) = ranks {
        options.part = (ranks.rank(), ranks.count());
        options.memory /= ranks.local().1 as u64;
    }
    let mut captured = captured(config, found.device, ranks, observer);
    let mut loader = Loader::new(&data, options)?;
    let on_device = if config.data.on_device { Some(device_views(config, &data, found.device)?) } else { None };
    let evaluation = if first && config.evaluation_epochs > 0.0 {
        Evaluation::new(&data, &config.contract(), config.evaluation_k, config.seed)?
    } else {
        None
    };
    let mut probe = match (&evaluation, data.labels()) {
        (Some(evaluation), Some(labels)) if config.evaluation_probe => {
            let dimension = byol.encoder().graph().dimension();
            let (rule, seed) = (config.rule(), config.seed.wrapping_add(3));
            Some(Probe::new(dimension, labels, evaluation.held_out(), rule, found.device, seed)?)
        }
        _ => None,
    };

    if first {
        prepare_folder(folder, start)?;
        byol_model::file::write_atomic(&folder.join(RUN_FILE), config.to_toml()?.as_bytes())?;
        if let Some(file) = file {
            byol_model::file::write_atomic(&folder.join(ARCHITECTURE_FILE), &file)?;
        }
    }
    let mut done = 0;
    if let Some(checkpoint) = checkpoint {
        let optimizer_steps = checkpoint.progress.optimizer_steps;
        byol.restore(&checkpoint.tensors, optimizer_steps)?;
        done = checkpoint.progress.step;
        if let Some(probe) = &mut probe
            && !probe.restore(&checkpoint.tensors, optimizer_steps)?
        {
            observer.on_message("The run had no linear probe so far; it begins to learn now.");
        }
        observer.on_message(&format!("Resuming after step {done} of {}.", plan.steps));
        let here = (device_name(found.device), threads);
        let there = (checkpoint.progress.device, checkpoint.progress.threads);
        if here != there {
            observer.on_message(&format!(
                "The run began on {} with {} threads and goes on on {} with {}: the result will be close to the \
                 uninterrupted one, but not equal to the bit.",
                there.0, there.1, here.0, here.1
            ));
        }
    }
    if let Some(ranks) = ranks {
        byol.join(ranks)?;
        done = ranks.number_from_first(done as u64)? as usize;
    }
    let opened = if first { Some(Metrics::open_with(&folder.join(METRICS_FILE), done)?) } else { None };
    let (mut metrics, seen) = opened.unzip();
    let mut events = if first && config.tensorboard { Some(EventFile::create(folder, done)?) } else { None };
    let mut tell = |line: &Line| {
        metrics.as_mut().map_or(Ok(()), |metrics| metrics.write(line))?;
        events.as_mut().map_or(Ok(()), |events| events.line(line))
    };
    let reported =
        |step: usize| found.device == Device::Cpu || step.is_multiple_of(CUDA_REPORT_STEPS) || step == plan.steps;
    let mut sentinel = Sentinel::new((1..=plan.steps).filter(|&step| reported(step)).count());
    // What an interrupted run had seen counts too.
    for line in seen.unwrap_or_default() {
        if let (Some(spread), Some(cosine), Some(effective_rank)) =
            (line.embedding_std, line.cosine, line.effective_rank)
        {
            sentinel.observe(&EmbeddingStatistics { spread, cosine, effective_rank });
        }
    }
    let mut warned = false;
    let epoch_of = |step: usize| (step * config.accumulate) as f64 / plan.batches_per_epoch as f64;
    let save = |byol: &Byol, probe: Option<&Probe>, step: usize| -> Result<PathBuf> {
        let path = folder.join(CHECKPOINT_FILE);
        if let Some(ranks) = ranks {
            for (name, network) in byol.networks() {
                ranks.agree(name, network.values())?;
            }
        }
        if !first {
            return Ok(path);
        }
        let (mut tensors, optimizer_steps) = byol.state()?;
        // A loss is told one step late: what it says about is already in the weights.
        if tensors.values().any(|t| t.data.iter().any(|v| !v.is_finite())) {
            let learning_rate = plan.learning_rate.at(step.saturating_sub(1));
            return Err(Error::Diverged { step, loss: f64::NAN, learning_rate });
        }
        if let Some(probe) = probe {
            tensors.extend(probe.state()?);
        }
        let batches = step * config.accumulate;
        let progress = Progress {
            step,
            epoch: batches / plan.batches_per_epoch,
            position: batches % plan.batches_per_epoch,
            optimizer_steps,
            pictures: data.len(),
            device: device_name(found.device),
            threads,
        };
        Checkpoint { progress, config: config.clone(), tensors }.save(&path)?;
        Ok(path)
    };

    let (mut loss, mut knn, mut accuracy) = (None, None, None);
    let mut clock = Clock::new(config.pictures_per_step());
    // Ranks stop together: after each report all know whether one of them was asked to.
    let mut stopping = stop.load(Ordering::Relaxed);
    if let Some(ranks) = ranks {
        stopping = ranks.sum([f64::from(u8::from(stopping))])? != [0.0];
    }
    while done < plan.steps {
        if stopping || (ranks.is_none() && stop.load(Ordering::Relaxed)) {
            let checkpoint = save(&byol, probe.as_ref(), done)?;
            observer.on_checkpoint(done, &checkpoint);
            return Ok(Outcome::Interrupted { step: done, checkpoint });
        }
        // One optimiser step.
        let (learning_rate, tau) = (plan.learning_rate.at(done), plan.tau.at(done));
        let mut readings = Vec::with_capacity(config.accumulate);
        for batch in done * config.accumulate..(done + 1) * config.accumulate {
            let span = profile::span("load");
            let batch = loader.batch(batch as u64)?;
            drop(span);
            let (first, second) = if let Some(views) = &on_device {
                let _span = profile::span("views on the device");
                let epoch = batch.step / plan.batches_per_epoch as u64;
                let view = |view| views.view(&batch.indices, epoch, view);
                (view(0)?, view(1)?)
            } else {
                let _span = profile::span("upload");
                let shape = byol.encoder().graph().input_shape();
                let view = |values: &[f32]| network::input(values, shape, found.device);
                (view(&batch.first)?, view(&batch.second)?)
            };
            let share = 1.0 / config.accumulate as f64;
            let reading = match &mut captured {
                Some(captured) => captured.step(&mut byol, [first, second], learning_rate, tau)?,
                None => byol.learn(first, second, share)?,
            };
            if let Some(probe) = &mut probe {
                probe.learn(&reading[0].features, &batch.indices, share)?;
            }
            loader.give_back(batch);
            readings.push(reading);
        }
        match &mut captured {
            Some(captured) => captured.said().into_iter().for_each(|said| observer.on_message(&said)),
            None => byol.update(learning_rate, tau)?,
        }
        if let Some(probe) = &mut probe {
            probe.update(learning_rate)?;
        }
        done += 1;
        clock.step();

        // What it said.
        let last = done == plan.steps;
        if reported(done) {
            let _span = profile::span("report");
            ranks.map_or(Ok(()), Ranks::settle)?;
            let (mut now, mut embeddings) = summarise(&readings)?;
            if let Some(ranks) = ranks {
                let asked = f64::from(u8::from(stop.load(Ordering::Relaxed)));
                let EmbeddingStatistics { spread, cosine, effective_rank } = embeddings;
                let sums = ranks.sum([now, spread, cosine, effective_rank, asked])?;
                // The loss is that of the whole batch; how embeddings spread is the mean of the ranks' parts.
                let [mean, spread, cosine, effective_rank, asked] = sums.map(|sum| sum / ranks.count() as f64);
                (now, stopping) = (mean, asked > 0.0);
                embeddings = EmbeddingStatistics { spread, cosine, effective_rank };
            }
            if !now.is_finite() {
                return Err(Error::Diverged { step: done, loss: now, learning_rate });
            }
            loss = Some(now);
            let images_per_second = clock.images_per_second();
            let report = StepReport {
                step: done,
                steps: plan.steps,
                epoch: epoch_of(done),
                loss: now,
                learning_rate,
                tau,
                embeddings,
                images_per_second,
                eta_seconds: ((plan.steps - done) * config.pictures_per_step()) as f64 / images_per_second,
            };
            tell(&Line::step(&report))?;
            observer.on_step(&report);
            if first && sentinel.observe(&embeddings) == Signal::Collapsed && !warned {
                let collapse = sentinel::collapsed(config, done, plan.steps, &embeddings);
                match config.on_collapse {
                    OnCollapse::Stop => return Err(collapse),
                    OnCollapse::Warn => observer.on_message(&collapse.to_string()),
                }
                warned = true;
            }
        }

        // What is due.
        let due = |every: usize| every > 0 && done.is_multiple_of(every);
        if let Some(evaluation) = &evaluation
            && (due(plan.evaluate_every) || last)
        {
            let _span = profile::span("monitors");
            clock.pause(|| -> Result<()> {
                let judged = evaluation.features(|pictures| features(&byol, pictures, found.device))?;
                let queries = judged.queries();
                let neighbours = judged.knn();
                knn = Some(neighbours);
                accuracy = probe.as_ref().map(|p| p.accuracy(queries.features, queries.labels)).transpose()?;
                let report = EvaluationReport {
                    step: done,
                    epoch: epoch_of(done),
                    knn: neighbours,
                    k: evaluation.k(),
                    probe: accuracy,
                    pictures: evaluation.queries(),
                };
                tell(&Line::evaluation(&report))?;
                observer.on_evaluation(&report);
                Ok(())
            })?;
        }
        if due(plan.checkpoint_every) || last {
            let span = profile::span("checkpoint");
            let path = clock.pause(|| save(&byol, probe.as_ref(), done))?;
            drop(span);
            observer.on_checkpoint(done, &path);
        }
    }

    let encoder = if first { export(config, &byol, folder, done, data.len())? } else { folder.join(ENCODER_FILE) };
    Ok(Outcome::Finished(Summary {
        steps: done,
        epochs: epoch_of(done),
        loss,
        knn,
        probe: accuracy,
        images_per_second: clock.overall(),
        encoder,
    }))
}

/// A rank's own CUDA device, where CUDA is there and none was named.
fn open_device_of(ranks: &Ranks, choice: Choice) -> Result<device::Found> {
    match (choice, device::open(choice)?) {
        (Choice::Auto, found) if found.device != Device::Cpu => device::open(Choice::Cuda(ranks.local().0)),
        (_, found) => Ok(found),
    }
}

/// Refuses ranks that would not train the same.
fn same_run(ranks: &Ranks, config: &RunConfig, pictures: usize) -> Result<()> {
    let count = ranks.count();
    let divides = config.batch_size.is_multiple_of(count);
    let text = serde_json::to_string(config).map_err(|e| Error::setting("run file", "this run", e.to_string()))?;
    let of_first: RunConfig = serde_json::from_str(&ranks.text_from_first(&text)?)
        .map_err(|e| Error::setting("run file", "rank 0's", e.to_string()))?;
    let pictures_of_first = ranks.number_from_first(pictures as u64)? as usize;
    if !divides {
        let why = format!("is the batch of all ranks together, so {count} ranks must divide it");
        return Err(Error::setting("batch_size", config.batch_size, why));
    }
    if pictures != pictures_of_first {
        let why = format!("there are {pictures} pictures, but rank 0 has {pictures_of_first}");
        return Err(Error::Data { path: config.data.path.clone(), why });
    }
    config.check_resumable(&of_first).map_err(|error| match error {
        Error::Changed { key, recorded, found } => {
            let why = format!("{key} is {found} on rank {} and {recorded} on rank 0", ranks.rank());
            Error::Ranks { why }
        }
        other => other,
    })
}

/// The training part of the data, or its first pictures.
fn open_data(config: &RunConfig) -> Result<Dataset> {
    if config.data.path.as_os_str().is_empty() {
        return Err(Error::setting("data.path", "\"\"", "a folder of pictures or an IDX file is needed"));
    }
    let data = Dataset::open(&config.data.path, Split::Train)?;
    match config.data.images {
        Some(images) if images > data.len() => {
            let why = format!("data.images asks for {images} pictures, but there are {}", data.len());
            Err(Error::Data { path: config.data.path.clone(), why })
        }
        Some(images) => Ok(data.select(&(0..images).collect::<Vec<_>>())),
        None => Ok(data),
    }
}

/// The configuration with mean and standard deviation written out.
fn resolve(config: &RunConfig, data: &Dataset) -> Result<RunConfig> {
    let mut config = config.clone();
    if config.data.measure && (config.data.mean.is_none() || config.data.std.is_none()) {
        let (mean, std) = loader::measure(data, config.encoder.channels, MEASURED_PICTURES)?;
        config.data.mean.get_or_insert(mean);
        config.data.std.get_or_insert(std);
    }
    let contract = config.contract();
    config.data.mean = Some(contract.mean);
    config.data.std = Some(contract.std);
    Ok(config)
}

/// The encoder as it begins, and the ONNX file that it was read from, if it was. A resumed run reads its own copy, and
/// no weights: its checkpoint has them.
fn encoder(
    config: &mut RunConfig,
    folder: &Path,
    start: Start,
    observer: &mut dyn Observer,
) -> Result<(Predefined, Option<Vec<u8>>)> {
    let copy = folder.join(ARCHITECTURE_FILE);
    let Some(named) = config.encoder.file() else {
        let graph = config.encoder.build()?;
        let known = start == Start::Resume && config.encoder.sha256.is_some();
        let given = if known { None } else { config.encoder.given_weights(&graph)? };
        let (Some(given), Some(path)) = (given, &config.encoder.init_weights) else {
            return Ok((Predefined::init(graph, config.seed), None));
        };
        observer.on_message(&format!("The encoder begins with the weights of {}.", path.display()));
        if let Some(said) = given.describe(path) {
            observer.on_message(&said);
        }
        config.encoder.sha256 = Some(given.sha256);
        return Ok((Predefined { graph, weights: given.weights }, None));
    };
    let imported = config.encoder.import(if start == Start::Resume && copy.exists() { &copy } else { named })?;
    config.encoder.sha256 = Some(byol_model::sha256_hex(&imported.bytes));
    Ok((Predefined { graph: imported.graph, weights: imported.weights }, Some(imported.bytes)))
}

/// BYOL as it begins: everything drawn from the seed, except the encoder of an ONNX file.
fn create(
    config: &RunConfig,
    encoder: Predefined,
    device: Device,
    precision: Precision,
    threads: usize,
) -> Result<Byol> {
    let projector = mlp(encoder.graph.dimension(), &config.projector)?;
    let predictor = mlp(projector.dimension(), &config.predictor)?;
    let seed = config.seed;
    let options = Options {
        device,
        threads,
        rule: config.rule(),
        predictor_rate: config.optimizer.predictor_learning_rate,
        projector_rate: config.optimizer.projector_learning_rate,
        precision,
        recompute: config.activation_checkpoints,
    };
    Byol::new(
        encoder,
        Predefined::init(projector, seed.wrapping_add(1)),
        Predefined::init(predictor, seed.wrapping_add(2)),
        &options,
    )
}

/// Steps as CUDA graphs, where they can be.
fn captured(
    config: &RunConfig,
    device: Device,
    ranks: Option<&Ranks>,
    observer: &mut dyn Observer,
) -> Option<Captured> {
    if config.cuda_graph == CudaGraph::Off || device == Device::Cpu {
        return None;
    }
    // NCCL's collectives can be recorded too, but a rank that is lost while others replay them was never tried.
    let why = if ranks.is_some() {
        "the ranks exchange sums in it".to_owned()
    } else if config.accumulate > 1 {
        format!("it has {} batches", config.accumulate)
    } else {
        match Captured::new(device) {
            Ok(captured) => return Some(captured),
            Err(cause) => cause.to_string(),
        }
    };
    observer.on_message(&format!("Steps run operation by operation: no CUDA graph is made of one, {why}."));
    None
}

fn loader_options(config: &RunConfig, threads: usize) -> Result<LoaderOptions> {
    let contract = config.contract();
    Ok(LoaderOptions {
        size: config.encoder.image_size,
        channels: config.encoder.channels,
        mean: contract.mean,
        std: contract.std,
        views: config.views()?,
        single: false,
        numbers_only: config.data.on_device,
        batch: config.batch_size,
        part: (0, 1),
        seed: config.seed,
        threads,
        memory: loader::MEMORY,
        window: config.data.shuffle_window,
    })
}

/// All pictures on the device, for views that are made there.
fn device_views(config: &RunConfig, data: &Dataset, device: Device) -> Result<DeviceViews> {
    let contract = config.contract();
    let options = DeviceViewsOptions {
        size: config.encoder.image_size,
        channels: config.encoder.channels,
        mean: contract.mean,
        std: contract.std,
        views: config.views()?,
        seed: config.seed,
        memory: DEVICE_MEMORY,
    };
    DeviceViews::new(data, options, device)
}

/// Features of normalised pictures, one row a picture.
fn features(byol: &Byol, pictures: &[f32], device: Device) -> Result<Vec<f32>> {
    network::output(&byol.features(&network::input(pictures, byol.encoder().graph().input_shape(), device)?)?)
}

/// Mean loss of the batches of one step, and what the first view's projections of the last one look like.
fn summarise(readings: &[[Reading; 2]]) -> Result<(f64, EmbeddingStatistics)> {
    let mut loss = 0.0;
    for reading in readings {
        loss += Reading::report(reading)?.loss / readings.len() as f64;
    }
    let last = readings.last().ok_or(Error::Thread("lane"))?;
    let projection = &last[0].projection;
    let width = projection.size().last().map_or(1, |&n| n as usize);
    Ok((loss, EmbeddingStatistics::of(&network::output(projection)?, width)))
}

/// The files to keep: the served encoder and all weights.
fn export(config: &RunConfig, byol: &Byol, folder: &Path, steps: usize, pictures: usize) -> Result<PathBuf> {
    let mut encoder: EncoderConfig = config.encoder.clone();
    // Where a file of one's own lay is nobody else's business.
    if let Some(name) = config.encoder.file().and_then(Path::file_name) {
        encoder.name = name.to_string_lossy().into_owned();
    }
    encoder.init_weights = encoder.init_weights.and_then(|path| path.file_name().map(PathBuf::from));
    let record = BTreeMap::from([
        ("encoder".to_owned(), serde_json::to_string(&encoder).unwrap_or_default()),
        ("method".to_owned(), "byol".to_owned()),
        ("seed".to_owned(), config.seed.to_string()),
        ("steps".to_owned(), steps.to_string()),
        ("pictures".to_owned(), pictures.to_string()),
    ]);
    let contract = config.contract();
    let mut metadata = contract.to_metadata();
    metadata.extend(record.iter().map(|(key, value)| (format!("byol.{key}"), value.clone())));
    for (file, name) in WEIGHT_FILES {
        if let Some((_, network)) = byol.networks().into_iter().find(|(n, _)| *n == name) {
            network.weights()?.save(&folder.join(file), &metadata)?;
        }
    }
    let weights = byol.encoder().weights()?;
    let bytes = onnx::write(&onnx::Export {
        graph: byol.encoder().graph(),
        weights: &weights,
        contract: &contract,
        metadata: record,
    })?;
    let path = folder.join(ENCODER_FILE);
    byol_model::file::write_atomic(&path, &bytes)?;
    Ok(path)
}

/// Refuses a folder that does not fit how the run begins, before anything is read or written.
fn check_folder(folder: &Path, start: Start) -> Result<()> {
    let holds = |name: &str| folder.join(name).exists();
    match start {
        Start::Fresh if [RUN_FILE, CHECKPOINT_FILE, METRICS_FILE, ENCODER_FILE].into_iter().any(holds) => {
            Err(Error::RunExists { path: folder.into() })
        }
        Start::Resume if !holds(CHECKPOINT_FILE) => Err(Error::NothingToResume { path: folder.into() }),
        Start::Fresh | Start::Overwrite | Start::Resume => Ok(()),
    }
}

/// Makes the folder, checks that it can be written, and clears it of an overwritten run.
fn prepare_folder(folder: &Path, start: Start) -> Result<()> {
    std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let probe = folder.join(".byol-probe");
    std::fs::write(&probe, b"").and_then(|()| std::fs::remove_file(&probe)).map_err(Error::io("write to", folder))?;
    clear_unfinished(folder)?;
    if start == Start::Overwrite {
        tensorboard::clear(folder)?;
        let files = [RUN_FILE, CHECKPOINT_FILE, METRICS_FILE, ENCODER_FILE, ARCHITECTURE_FILE].into_iter();
        for file in files.chain(WEIGHT_FILES.map(|(file, _)| file)) {
            let path = folder.join(file);
            match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(Error::io("remove", &path)(e)),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Removes what a process that was killed in the middle of a write left behind.
fn clear_unfinished(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with(".byol-") && name.ends_with(".part") {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

fn load_checkpoint(config: &RunConfig, folder: &Path, pictures: usize) -> Result<Checkpoint> {
    let checkpoint = Checkpoint::load(&folder.join(CHECKPOINT_FILE))?;
    config.check_resumable(&checkpoint.config)?;
    if checkpoint.progress.pictures != pictures {
        let (recorded, found) = (checkpoint.progress.pictures.to_string(), pictures.to_string());
        return Err(Error::Changed { key: "number of pictures".into(), recorded, found });
    }
    Ok(checkpoint)
}

fn device_name(device: Device) -> String {
    match device {
        Device::Cuda(_) => "cuda".into(),
        Device::Cpu | Device::Mps | Device::Vulkan => "cpu".into(),
    }
}

/// Speed, lately and overall, without the time of checkpoints and evaluations.
struct Clock {
    pictures: usize,
    began: Instant,
    paused: f64,
    steps: usize,
    lately: VecDeque<f64>,
}

impl Clock {
    const LATELY: usize = 50;

    fn new(pictures: usize) -> Self {
        Self { pictures, began: Instant::now(), paused: 0.0, steps: 0, lately: VecDeque::from([0.0]) }
    }

    fn seconds(&self) -> f64 {
        self.began.elapsed().as_secs_f64() - self.paused
    }

    fn step(&mut self) {
        self.steps += 1;
        self.lately.push_back(self.seconds());
        if self.lately.len() > Self::LATELY {
            self.lately.pop_front();
        }
    }

    fn pause<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = work();
        self.paused += began.elapsed().as_secs_f64();
        result
    }

    fn images_per_second(&self) -> f64 {
        let (Some(first), Some(last)) = (self.lately.front(), self.lately.back()) else { return 0.0 };
        ((self.lately.len() - 1) * self.pictures) as f64 / (last - first).max(1e-9)
    }

    fn overall(&self) -> f64 {
        (self.steps * self.pictures) as f64 / self.seconds().max(1e-9)
    }
}
