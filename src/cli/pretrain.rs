//! `byol pretrain`: an encoder learned from unlabelled pictures.

use crate::Done;
use crate::encoder_args::EncoderArgs;
use crate::output::{Output, line};
use byol_train::capture::CudaGraph;
use byol_train::config::{OnCollapse, RunConfig, Views};
use byol_train::device::Choice;
use byol_train::distributed::{Backend, Limits, Ranks};
use byol_train::launch::Launch;
use byol_train::optimizer::Kind;
use byol_train::plot::{plot_run, read_metrics};
use byol_train::precision::Precision;
use byol_train::preset;
use byol_train::pretrain::{
    EvaluationReport, METRICS_FILE, Observer, Outcome, RUN_FILE, Start, StepReport, pretrain, pretrain_with,
};
use byol_train::profile;
use indicatif::ProgressBar;
use serde::de::DeserializeOwned;
use serde_json::json;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Exit code after Ctrl-C, as shells have it.
const INTERRUPTED: u8 = 130;

/// Learn an encoder from unlabelled pictures (BYOL).
#[derive(clap::Args)]
#[command(after_help = "\
Settings come from the defaults (the paper's for 100 epochs) or a --preset, then --config, then the flags; the run \
folder keeps the resolved ones in run.toml. Ctrl-C saves a checkpoint first; --resume goes on from it, to the same bits \
on CPU. A run whose embeddings collapse is stopped, with advice. `tensorboard --logdir run/` draws its curves.

Presets: paper-40, paper-100, paper-300, paper-1000 (4096 pictures a step), batch-512, cifar (32 pixels), imagenette \
(128 pixels).

Examples:
  byol pretrain --data photos/ --out run/
  byol pretrain --data fashion-mnist/ --encoder resnet18 --image-size 28 --channels 1 --views small-image --out run/
  byol pretrain --data photos/ --encoder my.onnx --out run/
      your own network (docs/own-encoder.md)
  byol pretrain --data photos/ --encoder resnet50 --init-weights resnet50.safetensors --out run/
  byol pretrain --data photos/ --encoder resnet200 --width 2x --out run/
  byol pretrain --preset paper-300 --data imagenet/train --out run/
  byol pretrain --preset cifar --data cifar10/ --out run/
  byol pretrain --config examples/demo.toml --out run/
  byol pretrain --resume --out run/
  byol pretrain --config run.toml --device cuda:0 --epochs 300 --out run300/
  torchrun --no-python --nproc-per-node 4 byol pretrain --data photos/ --out run/
      many ranks (docs/ranks.md)")]
pub struct Arguments {
    /// Run file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A whole recipe by name, in place of a run file.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["config", "resume"])]
    preset: Option<String>,
    /// A folder of pictures or of IDX files; labels, if any, only serve the k-NN curve.
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Folder of the run.
    #[arg(short, long, value_name = "FOLDER")]
    out: PathBuf,
    /// Weights that the encoder begins with (safetensors under torchvision's, timm's or fastai's names) instead of drawn
    /// ones; a classifier's tensors are left out.
    #[arg(long, value_name = "FILE")]
    init_weights: Option<PathBuf>,
    /// Go on from the folder's checkpoint.
    #[arg(long, conflicts_with = "force")]
    resume: bool,
    /// Record where the time goes: a table, and a trace for chrome://tracing or ui.perfetto.dev in this file.
    #[arg(long, value_name = "FILE")]
    profile: Option<PathBuf>,
    /// Overwrite a run that is in the folder.
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    encoder: EncoderArgs,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    ranks: RanksArgs,
}

/// How long ranks wait for each other.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Many ranks (launched by torchrun, srun or mpirun)")]
struct RanksArgs {
    /// Seconds without a sign of life after which a rank is lost, and the run ends everywhere.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().silence.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    rank_timeout: u64,
    /// Seconds that a rank may work without meeting the others: longer than its longest evaluation or checkpoint.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().hang.as_secs(), value_parser = clap::value_parser!(u64).range(1..=604_800))]
    hang_timeout: u64,
    /// Seconds in which all ranks must have come.
    #[arg(long, value_name = "SECONDS", default_value_t = Limits::default().join.as_secs(), value_parser = clap::value_parser!(u64).range(1..=86_400))]
    join_timeout: u64,
    /// What carries tensors between ranks: gloo, nccl (CUDA only), or auto, which is NCCL where every rank has it. Named, it
    /// is also used by a process that was launched alone.
    #[arg(long, value_name = "NAME", default_value_t = Backend::Auto)]
    backend: Backend,
}

impl RanksArgs {
    fn limits(&self) -> Limits {
        let [join, silence, hang] = [self.join_timeout, self.rank_timeout, self.hang_timeout].map(Duration::from_secs);
        Limits { join, silence, hang }
    }
}

/// Flags that override a run file.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Training")]
struct TrainingArgs {
    /// Passes over the pictures.
    #[arg(long)]
    epochs: Option<f64>,
    /// Optimiser steps, instead of epochs.
    #[arg(long, conflicts_with = "epochs")]
    steps: Option<usize>,
    /// Pictures of one forward pass.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Batches whose gradients make one step.
    #[arg(long)]
    accumulate: Option<usize>,
    /// Decides weights, order and views.
    #[arg(long)]
    seed: Option<u64>,
    /// Preset of the two views: paper, small-image, single-channel, seed-helper or crop-only.
    #[arg(long, value_name = "PRESET")]
    views: Option<String>,
    /// lars, sgd or adamw.
    #[arg(long, value_name = "NAME", value_parser = by_name::<Kind>)]
    optimizer: Option<Kind>,
    /// Highest learning rate, for 256 pictures a step.
    #[arg(long, value_name = "RATE")]
    learning_rate: Option<f64>,
    /// Weight decay of weights (never of biases and normalisations).
    #[arg(long, value_name = "DECAY")]
    weight_decay: Option<f64>,
    /// The target's share of itself at the first step.
    #[arg(long)]
    tau: Option<f64>,
    /// Only the first so many pictures.
    #[arg(long, value_name = "N")]
    images: Option<usize>,
    /// Stream tar or Parquet files front to back and shuffle within so many pictures, instead of all.
    #[arg(long, value_name = "PICTURES")]
    shuffle_window: Option<usize>,
    /// Keep all pictures in the device's memory, and make the views there: for a GPU whose CPUs do not keep up.
    #[arg(long, conflicts_with = "shuffle_window")]
    views_on_device: bool,
    /// A checkpoint every so many epochs.
    #[arg(long, value_name = "EPOCHS")]
    checkpoint_epochs: Option<f64>,
    /// k-NN and linear probe accuracy every so many epochs, 0 for never.
    #[arg(long, value_name = "EPOCHS")]
    evaluation_epochs: Option<f64>,
    /// stop or warn when the embeddings of all pictures become the same.
    #[arg(long, value_name = "WHAT", value_parser = by_name::<OnCollapse>)]
    on_collapse: Option<OnCollapse>,
    /// Keep only some of the encoder's activations and compute the others again: less memory, more time.
    #[arg(long)]
    activation_checkpoints: bool,
    /// auto, cpu, cuda or cuda:N.
    #[arg(long)]
    device: Option<Choice>,
    /// float32, tf32 (CUDA only) or bf16 (weights stay float32); by default TF32 on CUDA, float32 on the CPU.
    #[arg(long, value_name = "NAME")]
    precision: Option<Precision>,
    /// auto (on CUDA, steps of one batch on one rank run as one CUDA graph) or off.
    #[arg(long, value_name = "WHETHER", value_parser = by_name::<CudaGraph>)]
    cuda_graph: Option<CudaGraph>,
    /// CPU threads; all that this process may use by default.
    #[arg(long)]
    threads: Option<usize>,
}

/// A value by the name that it has in a run file.
fn by_name<T: DeserializeOwned>(name: &str) -> Result<T, String> {
    serde_json::from_value(name.into()).map_err(|e| e.to_string())
}

/// The settings of a run file, or the defaults.
pub fn load(file: Option<&Path>) -> Result<RunConfig, byol_train::Error> {
    file.map_or_else(|| Ok(RunConfig::default()), RunConfig::load)
}

/// The configuration that settings and flags make together.
pub fn configure(base: RunConfig, data: Option<&Path>, encoder: &EncoderArgs) -> Result<RunConfig, byol_train::Error> {
    let mut config = base;
    if let Some(data) = data {
        config.data.path = data.to_owned();
    }
    encoder.apply(&mut config.encoder)?;
    Ok(config)
}

impl TrainingArgs {
    fn apply(&self, config: &mut RunConfig) {
        fn set<T: Clone>(from: &Option<T>, to: &mut T) {
            if let Some(value) = from {
                to.clone_from(value);
            }
        }
        set(&self.epochs, &mut config.epochs);
        if self.epochs.is_some() {
            config.steps = None;
        }
        if self.steps.is_some() {
            config.steps = self.steps;
        }
        set(&self.batch_size, &mut config.batch_size);
        set(&self.accumulate, &mut config.accumulate);
        set(&self.seed, &mut config.seed);
        if let Some(views) = &self.views {
            config.views = Views::Preset(views.clone());
        }
        set(&self.optimizer, &mut config.optimizer.name);
        set(&self.learning_rate, &mut config.optimizer.base_learning_rate);
        set(&self.weight_decay, &mut config.optimizer.weight_decay);
        set(&self.tau, &mut config.ema.tau_base);
        if self.images.is_some() {
            config.data.images = self.images;
        }
        if self.shuffle_window.is_some() {
            config.data.shuffle_window = self.shuffle_window;
        }
        config.data.on_device |= self.views_on_device;
        set(&self.checkpoint_epochs, &mut config.checkpoint_epochs);
        set(&self.evaluation_epochs, &mut config.evaluation_epochs);
        set(&self.on_collapse, &mut config.on_collapse);
        config.activation_checkpoints |= self.activation_checkpoints;
        set(&self.device, &mut config.device);
        set(&self.precision, &mut config.precision);
        set(&self.cuda_graph, &mut config.cuda_graph);
        set(&self.threads, &mut config.threads);
    }
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let recorded = arguments.out.join(RUN_FILE);
    let file = match &arguments.config {
        None if arguments.resume && recorded.exists() => Some(recorded.as_path()),
        given => given.as_deref(),
    };
    let base = arguments.preset.as_deref().map_or_else(|| load(file), preset::preset)?;
    let mut config = configure(base, arguments.data.as_deref(), &arguments.encoder)?;
    arguments.training.apply(&mut config);
    if arguments.init_weights.is_some() {
        config.encoder.init_weights.clone_from(&arguments.init_weights);
    }
    let start = match (arguments.resume, arguments.force) {
        (true, _) => Start::Resume,
        (false, true) => Start::Overwrite,
        (false, false) => Start::Fresh,
    };
    let stop = stop_at_ctrl_c()?;
    let mut teller = Teller { output, bar: None, told: Instant::now() };
    if arguments.profile.is_some() {
        profile::start();
    }
    let backend = arguments.ranks.backend;
    let alone = (backend != Backend::Auto).then(Launch::alone);
    let outcome = match Launch::from_environment()?.or(alone) {
        None => {
            let outcome = pretrain(&config, &arguments.out, start, &mut teller, &stop)?;
            write_profile(arguments.profile.as_deref(), 0, output)?;
            outcome
        }
        Some(launch) => {
            let ranks = Ranks::join(launch, arguments.ranks.limits())?.over(backend);
            let outcome = pretrain_with(&ranks, &config, &arguments.out, start, &mut teller, &stop)?;
            write_profile(arguments.profile.as_deref(), ranks.rank(), output)?;
            if ranks.rank() != 0 {
                let interrupted = matches!(outcome, Outcome::Interrupted { .. });
                return Ok(if interrupted { ExitCode::from(INTERRUPTED) } else { ExitCode::SUCCESS });
            }
            outcome
        }
    };
    if let Some(bar) = &teller.bar {
        bar.finish_and_clear();
    }
    match outcome {
        Outcome::Finished(summary) => {
            let plot = arguments.out.join("plot.png");
            draw(&arguments.out.join(METRICS_FILE), &plot)?;
            let result = json!({
                "run": arguments.out, "encoder": summary.encoder, "steps": summary.steps, "epochs": summary.epochs,
                "loss": summary.loss, "knn": summary.knn, "probe": summary.probe, "images_per_second": summary.images_per_second, "plot": plot,
            });
            output.result(&result, |out| {
                line!(
                    out,
                    "{}: {} steps, {:.1} epochs, {:.0} pictures/s, loss {:.4}",
                    summary.encoder.display(),
                    summary.steps,
                    summary.epochs,
                    summary.images_per_second,
                    summary.loss.unwrap_or(f64::NAN)
                );
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Outcome::Interrupted { step, checkpoint } => {
            let result = json!({ "interrupted": true, "step": step, "checkpoint": checkpoint });
            output.result(&result, |out| {
                line!(out, "Stopped after step {step}; saved to {}.", checkpoint.display());
                line!(out, "Go on with: byol pretrain --resume --out {}", arguments.out.display());
            })?;
            Ok(ExitCode::from(INTERRUPTED))
        }
    }
}

/// Writes and shows where the time went, if that was asked for; each rank has a file of its own.
fn write_profile(file: Option<&Path>, rank: usize, output: &Output) -> Result<(), byol_train::Error> {
    let (Some(file), Some(recorded)) = (file, profile::finish()) else { return Ok(()) };
    if rank == 0 {
        recorded.write(file, rank)?;
        output.say(&recorded.table());
        return Ok(());
    }
    let mut name = file.file_stem().unwrap_or_default().to_owned();
    name.push(format!(".rank{rank}.json"));
    recorded.write(&file.with_file_name(name), rank)
}

/// True once Ctrl-C or a termination signal came. A second one ends the program at once.
fn stop_at_ctrl_c() -> Result<Arc<AtomicBool>, ctrlc::Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = Arc::clone(&stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(i32::from(INTERRUPTED));
        }
        eprintln!("\nStopping after this step and saving; Ctrl-C again to stop without saving.");
    })?;
    Ok(stop)
}

/// Loss, learning rate and k-NN over the run, as a picture.
fn draw(metrics: &Path, plot: &Path) -> Result<(), Box<dyn Error>> {
    save_png(&plot_run(&read_metrics(metrics)?, "BYOL pretraining")?, plot)
}

/// Writes a picture as PNG, atomically.
pub fn save_png(picture: &image::RgbImage, path: &Path) -> Result<(), Box<dyn Error>> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    picture.write_to(&mut bytes, image::ImageFormat::Png)?;
    Ok(byol_model::file::write_atomic(path, bytes.get_ref())?)
}

/// Tells how a run goes: a bar on a terminal, a line now and then elsewhere.
struct Teller<'a> {
    output: &'a Output,
    bar: Option<ProgressBar>,
    told: Instant,
}

/// Time between two lines where there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Observer for Teller<'_> {
    fn on_message(&mut self, message: &str) {
        self.output.say(message);
    }

    fn on_step(&mut self, r: &StepReport) {
        let bar = self.bar.get_or_insert_with(|| self.output.progress(r.steps as u64, "steps"));
        bar.set_position(r.step as u64);
        let text = format!(
            "epoch {:.1}, loss {:.4}, lr {:.4}, tau {:.4}, spread {:.2}, {:.0} pictures/s",
            r.epoch, r.loss, r.learning_rate, r.tau, r.embeddings.spread, r.images_per_second
        );
        if bar.is_hidden() && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            self.output.say(&format!("step {}/{}: {text}, {:.0} s left", r.step, r.steps, r.eta_seconds));
        }
        bar.set_message(text);
    }

    fn on_evaluation(&mut self, r: &EvaluationReport) {
        let probe = r.probe.map_or(String::new(), |top1| format!(", linear probe {:.2}%", 100.0 * top1));
        let (top1, of) = (100.0 * r.knn, r.pictures);
        let text = format!("epoch {:.1}: {}-NN top-1 {top1:.2}%{probe} on {of} pictures", r.epoch, r.k);
        match &self.bar {
            Some(bar) if !bar.is_hidden() => bar.println(text),
            _ => self.output.say(&text),
        }
    }
}
