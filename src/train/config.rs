//! A run file: everything that decides a run, in TOML, each setting with a default.

use crate::augment::ViewsConfig;
use crate::capture::CudaGraph;
use crate::device;
use crate::error::{Error, Result};
use crate::optimizer::{Kind, Rule};
use crate::precision::Precision;
use crate::schedule::{LearningRate, Tau};
use byol_model::encoder::EncoderConfig;
use byol_model::mlp::MlpConfig;
use byol_model::picture::InputContract;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A whole run. The defaults are the paper's for 100 epochs (appendix J and DeepMind's presets), at a batch that fits
/// one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RunConfig {
    /// Decides weights, order and views.
    pub seed: u64,
    /// Passes over the data; may be a fraction.
    pub epochs: f64,
    /// Optimiser steps, instead of `epochs`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub steps: Option<usize>,
    /// Pictures of one forward pass: what BatchNorm sees.
    pub batch_size: usize,
    /// Batches whose gradients make one optimiser step.
    pub accumulate: usize,
    /// A checkpoint every so many epochs; 0 for the end only.
    pub checkpoint_epochs: f64,
    /// k-NN accuracy every so many epochs, where the data have labels (they never reach the training); 0 for never.
    pub evaluation_epochs: f64,
    /// Neighbours of the k-NN accuracy.
    pub evaluation_k: usize,
    /// A linear classifier learned beside the run on stopped gradients, judged with the k-NN (paper, appendix C.1); its
    /// labels never reach the encoder.
    pub evaluation_probe: bool,
    /// What to do when the embeddings collapse: `stop` or `warn`.
    pub on_collapse: OnCollapse,
    /// TensorBoard event files beside `metrics.jsonl`.
    pub tensorboard: bool,
    /// Keep only some of the encoder's activations and compute the others again on the way back: less memory, about
    /// a third more time, the same gradients.
    pub activation_checkpoints: bool,
    /// `auto`, `cpu`, `cuda` or `cuda:N`.
    pub device: device::Choice,
    /// `auto` (TF32 on CUDA, float32 on the CPU), `float32`, `tf32` or `bf16`.
    pub precision: Precision,
    /// `auto` (on CUDA, steps of one batch on one rank run as one CUDA graph) or `off`.
    pub cuda_graph: CudaGraph,
    /// CPU threads; 0 for all.
    pub threads: usize,
    /// The two pipelines: a preset's name or lists of operators.
    pub views: Views,
    /// The pictures.
    pub data: DataConfig,
    /// The encoder.
    pub encoder: EncoderConfig,
    /// The projector.
    pub projector: MlpConfig,
    /// The predictor; its output is as wide as the projector's.
    pub predictor: MlpConfig,
    /// The optimiser.
    pub optimizer: OptimizerConfig,
    /// How the target follows.
    pub ema: EmaConfig,
}

impl Default for RunConfig {
    fn default() -> Self {
        Self {
            seed: 0,
            epochs: 100.0,
            steps: None,
            batch_size: 256,
            accumulate: 1,
            checkpoint_epochs: 1.0,
            evaluation_epochs: 5.0,
            evaluation_k: 20,
            evaluation_probe: true,
            on_collapse: OnCollapse::Stop,
            tensorboard: true,
            activation_checkpoints: false,
            device: device::Choice::Auto,
            precision: Precision::Auto,
            cuda_graph: CudaGraph::Auto,
            threads: 0,
            views: Views::Preset("paper".into()),
            data: DataConfig::default(),
            encoder: EncoderConfig::default(),
            projector: MlpConfig::default(),
            predictor: MlpConfig::default(),
            optimizer: OptimizerConfig::default(),
            ema: EmaConfig::default(),
        }
    }
}

/// `[data]`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DataConfig {
    /// Folder of pictures, or IDX file or folder. In a run file: relative to where the command runs.
    pub path: PathBuf,
    /// Only the first so many pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub images: Option<usize>,
    /// Stream the pictures from their files front to back, and shuffle within about so many: for tar and Parquet files
    /// that are too large to be read anywhere at any time. Each rank holds its part of two such windows, undecoded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shuffle_window: Option<usize>,
    /// Keep all pictures in the device's memory as bytes, and make the views there. The same views up to rounding; for a
    /// GPU whose CPUs do not keep up.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub on_device: bool,
    /// Mean of each channel, of values scaled to 0 to 1; ImageNet's for three channels, 0.5 otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mean: Option<Vec<f32>>,
    /// Standard deviation of each channel; ImageNet's for three channels, 0.25 otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub std: Option<Vec<f32>>,
    /// Measure mean and standard deviation on the pictures, where they are not given.
    pub measure: bool,
}

/// `[optimizer]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerConfig {
    /// `lars`, `sgd` or `adamw`.
    pub name: Kind,
    /// Highest learning rate, of 256 pictures a step where `scale_by_batch` is on.
    pub base_learning_rate: f64,
    /// Multiply the learning rate by (pictures a step) / 256.
    pub scale_by_batch: bool,
    /// Linear warm-up: `"10 epochs"`, `"500 steps"`, `"5%"` of the run, or `"auto"`: the paper's 10 epochs, and at most
    /// a tenth of the run.
    pub warmup: Warmup,
    /// Weight decay of weights; biases and normalisations have none.
    pub weight_decay: f64,
    /// Momentum of LARS and SGD.
    pub momentum: f64,
    /// Nesterov's momentum, for SGD.
    pub nesterov: bool,
    /// LARS's trust coefficient, eta.
    pub trust_coefficient: f64,
    /// AdamW's beta 1 and 2.
    pub betas: (f64, f64),
    /// AdamW's epsilon.
    pub epsilon: f64,
    /// The predictor's learning rate as a multiple of the encoder's.
    pub predictor_learning_rate: f64,
    /// The projector's learning rate as a multiple of the encoder's.
    pub projector_learning_rate: f64,
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            name: Kind::Lars,
            base_learning_rate: 0.45,
            scale_by_batch: true,
            warmup: Warmup::Auto,
            weight_decay: 1e-6,
            momentum: 0.9,
            nesterov: false,
            trust_coefficient: 1e-3,
            betas: (0.9, 0.999),
            epsilon: 1e-8,
            predictor_learning_rate: 1.0,
            projector_learning_rate: 1.0,
        }
    }
}

/// `[ema]`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmaConfig {
    /// The target's share of itself at the first step.
    pub tau_base: f64,
    /// The same at the end, reached on a cosine; equal to `tau_base` for a constant.
    pub tau_end: f64,
}

impl Default for EmaConfig {
    fn default() -> Self {
        Self { tau_base: 0.99, tau_end: 1.0 }
    }
}

/// What a run does when its embeddings collapse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnCollapse {
    /// Ends, with advice; the last checkpoint is kept.
    #[default]
    Stop,
    /// Says so once and goes on.
    Warn,
}

/// A preset's name or two lists of operators.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Views {
    /// A name in [`crate::augment::PRESETS`].
    Preset(String),
    /// The operators themselves.
    Lists(ViewsConfig),
}

impl<'de> Deserialize<'de> for Views {
    /// By hand, because serde's own for untagged enums does not say which operator or key was wrong.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Views;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a preset's name, or a table with the lists first and second")
            }

            fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Views, E> {
                Ok(Views::Preset(name.to_owned()))
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, map: A) -> std::result::Result<Views, A::Error> {
                ViewsConfig::deserialize(serde::de::value::MapAccessDeserializer::new(map)).map(Views::Lists)
            }
        }
        deserializer.deserialize_any(Either)
    }
}

/// Length of the warm-up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Warmup {
    /// Ten epochs, as in the paper, and at most a tenth of the run.
    Auto,
    /// Passes over the data.
    Epochs(f64),
    /// Optimiser steps.
    Steps(usize),
    /// Part of the run, 0 to 1.
    Part(f64),
}

impl fmt::Display for Warmup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Warmup::Auto => write!(f, "auto"),
            Warmup::Epochs(n) => write!(f, "{n} epochs"),
            Warmup::Steps(n) => write!(f, "{n} steps"),
            Warmup::Part(part) => write!(f, "{}%", part * 100.0),
        }
    }
}

impl FromStr for Warmup {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
        let parsed = if s == "auto" {
            Some(Warmup::Auto)
        } else if let Some(text) = s.strip_suffix('%') {
            number(text).filter(|n| *n <= 100.0).map(|n| Warmup::Part(n / 100.0))
        } else if let Some(text) = s.strip_suffix("epochs").or_else(|| s.strip_suffix("epoch")) {
            number(text).map(Warmup::Epochs)
        } else if let Some(text) = s.strip_suffix("steps").or_else(|| s.strip_suffix("step")) {
            text.trim().parse().ok().map(Warmup::Steps)
        } else {
            None
        };
        let why = "a warm-up is written as \"10 epochs\", \"500 steps\", \"5%\" or \"auto\"";
        parsed.ok_or_else(|| Error::setting("optimizer.warmup", format!("{s:?}"), why))
    }
}

impl Serialize for Warmup {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Warmup {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A run's length and schedules, once the number of pictures is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Plan {
    /// Batches of an epoch; the pictures that do not fill the last one are left out, others each epoch.
    pub batches_per_epoch: usize,
    /// Optimiser steps of the run.
    pub steps: usize,
    /// Learning rate of each step.
    pub learning_rate: LearningRate,
    /// Tau of each step.
    pub tau: Tau,
    /// Steps between checkpoints; 0 for the end only.
    pub checkpoint_every: usize,
    /// Steps between evaluations; 0 for never.
    pub evaluate_every: usize,
}

impl RunConfig {
    /// Reads a run file.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::RunFile`] says what is wrong and on which line.
    pub fn load(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
        toml::from_str(&text).map_err(|e| Error::RunFile { path: path.into(), why: e.to_string() })
    }

    /// The run file's text, every setting written out.
    ///
    /// # Errors
    /// [`Error::Setting`] where a value cannot be written in TOML (a seed beyond 63 bits).
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string_pretty(self).map_err(|e| Error::setting("run file", "this configuration", e.to_string()))
    }

    /// The two pipelines.
    ///
    /// # Errors
    /// [`Error::UnknownViews`].
    pub fn views(&self) -> Result<ViewsConfig> {
        match &self.views {
            Views::Preset(name) => ViewsConfig::preset(name, self.encoder.channels),
            Views::Lists(lists) => Ok(lists.clone()),
        }
    }

    /// How a picture becomes the encoder's input.
    pub fn contract(&self) -> InputContract {
        let mut contract = InputContract::square(self.encoder.channels, self.encoder.image_size);
        if let Some(mean) = &self.data.mean {
            contract.mean.clone_from(mean);
        }
        if let Some(std) = &self.data.std {
            contract.std.clone_from(std);
        }
        contract
    }

    /// The optimiser's constants.
    pub fn rule(&self) -> Rule {
        let o = &self.optimizer;
        Rule {
            kind: o.name,
            momentum: o.momentum,
            nesterov: o.nesterov,
            weight_decay: o.weight_decay,
            trust: o.trust_coefficient,
            betas: o.betas,
            eps: o.epsilon,
        }
    }

    /// Pictures of one optimiser step.
    pub fn pictures_per_step(&self) -> usize {
        self.batch_size.saturating_mul(self.accumulate)
    }

    /// Checks every setting that can be checked without data and device.
    ///
    /// # Errors
    /// [`Error::Setting`] names the first one that makes no sense.
    pub fn check(&self) -> Result<()> {
        let range = |key: &str, value: f64, low: f64, high: f64| {
            if value >= low && value <= high {
                Ok(())
            } else {
                Err(Error::setting(key, value, format!("must be from {low} to {high}")))
            }
        };
        let o = &self.optimizer;
        range("epochs", self.epochs, f64::MIN_POSITIVE, 1e6)?;
        range("checkpoint_epochs", self.checkpoint_epochs, 0.0, 1e6)?;
        range("evaluation_epochs", self.evaluation_epochs, 0.0, 1e6)?;
        range("optimizer.base_learning_rate", o.base_learning_rate, 0.0, 1e4)?;
        range("optimizer.predictor_learning_rate", o.predictor_learning_rate, 0.0, 1e4)?;
        range("optimizer.projector_learning_rate", o.projector_learning_rate, 0.0, 1e4)?;
        range("optimizer.weight_decay", o.weight_decay, 0.0, 1.0)?;
        range("optimizer.momentum", o.momentum, 0.0, 1.0)?;
        range("optimizer.trust_coefficient", o.trust_coefficient, 0.0, 1e3)?;
        range("optimizer.betas[0]", o.betas.0, 0.0, 1.0)?;
        range("optimizer.betas[1]", o.betas.1, 0.0, 1.0)?;
        range("optimizer.epsilon", o.epsilon, 0.0, 1.0)?;
        range("ema.tau_base", self.ema.tau_base, 0.0, 1.0)?;
        range("ema.tau_end", self.ema.tau_end, 0.0, 1.0)?;
        let count = |key: &str, value: usize, low: usize, high: usize, why: &str| {
            if (low..=high).contains(&value) { Ok(()) } else { Err(Error::setting(key, value, why)) }
        };
        count("batch_size", self.batch_size, 2, 1 << 20, "BatchNorm needs at least 2 pictures, at most 1048576")?;
        count("accumulate", self.accumulate, 1, 1 << 16, "must be from 1 to 65536")?;
        count("steps", self.steps.unwrap_or(1), 1, usize::MAX, "must be at least 1")?;
        count("evaluation_k", self.evaluation_k, 1, 100_000, "must be from 1 to 100000")?;
        count("threads", self.threads, 0, 4096, "must be at most 4096")?;
        count("data.images", self.data.images.unwrap_or(1), 1, usize::MAX, "must be at least 1")?;
        count(
            "data.shuffle_window",
            self.data.shuffle_window.unwrap_or(1),
            1,
            u32::MAX as usize,
            "must be at least 1",
        )?;
        if self.data.on_device && self.data.shuffle_window.is_some() {
            let why = "keeps all pictures in the device's memory, and data.shuffle_window streams them: choose one";
            return Err(Error::setting("data.on_device", true, why));
        }
        if self.seed > i64::MAX as u64 {
            return Err(Error::setting("seed", self.seed, format!("must be at most {}", i64::MAX)));
        }
        if self.predictor.output != self.projector.output {
            let why = format!("must equal projector.output = {}, which it predicts", self.projector.output);
            return Err(Error::setting("predictor.output", self.predictor.output, why));
        }
        for (key, mlp) in [("projector", &self.projector), ("predictor", &self.predictor)] {
            // Without layers the output's width is the input's, whatever is written.
            if mlp.layers > 0 && mlp.output == 0 {
                return Err(Error::setting(&format!("{key}.output"), 0, "must be at least 1"));
            }
        }
        self.contract().validate()?;
        self.views()?.check(self.encoder.image_size)
    }

    /// The run's length and schedules for so many pictures.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`]; [`Error::Setting`] for a warm-up longer than the run.
    pub fn plan(&self, pictures: usize) -> Result<Plan> {
        let batches_per_epoch = pictures / self.batch_size.max(1);
        if batches_per_epoch == 0 {
            return Err(Error::BatchTooLarge { batch: self.batch_size, path: self.data.path.clone(), found: pictures });
        }
        let of_epochs = |epochs: f64| (epochs * batches_per_epoch as f64 / self.accumulate as f64).round() as usize;
        let steps = self.steps.unwrap_or_else(|| of_epochs(self.epochs).max(1));
        let warmup = match self.optimizer.warmup {
            Warmup::Auto => of_epochs(10.0).min(steps / 10),
            Warmup::Epochs(epochs) => of_epochs(epochs),
            Warmup::Steps(steps) => steps,
            Warmup::Part(part) => (part * steps as f64) as usize,
        };
        if warmup > steps {
            let why = format!("is {warmup} steps, longer than the run of {steps}");
            return Err(Error::setting("optimizer.warmup", format!("{:?}", self.optimizer.warmup.to_string()), why));
        }
        let scale = if self.optimizer.scale_by_batch { self.pictures_per_step() as f64 / 256.0 } else { 1.0 };
        let interval = |epochs: f64| if epochs == 0.0 { 0 } else { of_epochs(epochs).max(1) };
        Ok(Plan {
            batches_per_epoch,
            steps,
            learning_rate: LearningRate { peak: self.optimizer.base_learning_rate * scale, warmup, steps },
            tau: Tau { base: self.ema.tau_base, end: self.ema.tau_end, steps },
            checkpoint_every: interval(self.checkpoint_epochs),
            evaluate_every: interval(self.evaluation_epochs),
        })
    }

    /// Refuses to continue a run with settings that would give another result. Device, threads, the place of the data,
    /// the intervals of checkpoints and evaluations, and what is told of the run may change.
    ///
    /// # Errors
    /// [`Error::Changed`] names the first setting that differs.
    pub fn check_resumable(&self, recorded: &RunConfig) -> Result<()> {
        const FREE: [&str; 11] = [
            "checkpoint_epochs",
            "evaluation_epochs",
            "evaluation_k",
            "evaluation_probe",
            "on_collapse",
            "tensorboard",
            "activation_checkpoints",
            "device",
            "cuda_graph",
            "threads",
            "data.path",
        ];
        let value = |config: &RunConfig| {
            serde_json::to_value(config).map_err(|e| Error::setting("run file", "this configuration", e.to_string()))
        };
        let (now, then) = (flatten(&value(self)?), flatten(&value(recorded)?));
        let keys: std::collections::BTreeSet<&String> = now.keys().chain(then.keys()).collect();
        for key in keys {
            let (found, recorded) = (now.get(key), then.get(key));
            if found != recorded && !FREE.contains(&key.as_str()) {
                let text = |v: Option<&serde_json::Value>| v.map_or("unset".into(), ToString::to_string);
                return Err(Error::Changed { key: key.clone(), recorded: text(recorded), found: text(found) });
            }
        }
        Ok(())
    }
}

/// Leaves of nested objects by dotted key; a list is a leaf.
fn flatten(value: &serde_json::Value) -> std::collections::BTreeMap<String, serde_json::Value> {
    fn walk(prefix: &str, value: &serde_json::Value, out: &mut std::collections::BTreeMap<String, serde_json::Value>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    walk(&if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") }, value, out);
                }
            }
            leaf => {
                out.insert(prefix.into(), leaf.clone());
            }
        }
    }
    let mut out = std::collections::BTreeMap::new();
    walk("", value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> std::result::Result<RunConfig, String> {
        toml::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn an_empty_run_file_is_the_default() {
        assert_eq!(parse("").unwrap(), RunConfig::default());
        RunConfig::default().check().unwrap();
    }

    #[test]
    fn a_resolved_run_file_reads_back_as_itself() {
        let mut config = RunConfig { steps: Some(7), ..RunConfig::default() };
        config.views = Views::Lists(ViewsConfig::small_image(1));
        config.optimizer.warmup = Warmup::Part(0.05);
        assert_eq!(parse(&config.to_toml().unwrap()).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_named() {
        assert!(parse("epoch = 3").unwrap_err().contains("epoch"));
        assert!(parse("[optimizer]\nlr = 3").unwrap_err().contains("lr"));
        assert!(parse("[optimizer]\nname = \"sdg\"").unwrap_err().contains("sdg"));
        assert!(parse("device = \"gpu\"").unwrap_err().contains("gpu"));
        assert!(parse("[optimizer]\nwarmup = \"3 minutes\"").unwrap_err().contains("3 minutes"));
    }

    #[test]
    fn an_unknown_operator_of_a_run_file_is_named_with_the_known_ones() {
        let message = parse("[views]\nfirst = [{ name = \"gausian-blur\" }]\nsecond = []").unwrap_err();
        assert!(message.contains("gausian-blur") && message.contains("gaussian-blur"), "{message}");
        assert!(parse("[views]\nfirst = []\nsecnd = []").unwrap_err().contains("secnd"));
        assert!(parse("views = 3").unwrap_err().contains("preset"));
    }

    #[test]
    fn a_senseless_setting_is_named_with_its_value() {
        let wrong = |text: &str, parts: [&str; 2]| {
            let message = parse(text).unwrap().check().unwrap_err().to_string();
            assert!(parts.iter().all(|part| message.contains(part)), "{text}: {message}");
        };
        wrong("epochs = 0.0", ["epochs", "0"]);
        wrong("epochs = nan", ["epochs", "NaN"]);
        wrong("batch_size = 1", ["batch_size", "1"]);
        wrong("accumulate = 0", ["accumulate", "0"]);
        wrong("[ema]\ntau_base = 1.5", ["ema.tau_base", "1.5"]);
        wrong("[optimizer]\nbase_learning_rate = -1.0", ["optimizer.base_learning_rate", "-1"]);
        wrong("[predictor]\noutput = 3", ["predictor.output", "3"]);
        wrong("[data]\non_device = true\nshuffle_window = 5", ["data.on_device", "shuffle_window"]);
        wrong("views = \"papers\"", ["papers", "paper"]);
        wrong("[data]\nmean = [0.5]", ["mean", "1"]);
    }

    #[test]
    fn a_batch_larger_than_the_data_is_refused() {
        let message = RunConfig::default().plan(255).unwrap_err().to_string();
        assert!(message.contains("256") && message.contains("255"), "{message}");
    }

    #[test]
    fn a_plan_counts_optimiser_steps() {
        let mut config = RunConfig { batch_size: 64, accumulate: 2, epochs: 10.0, ..RunConfig::default() };
        config.optimizer.warmup = Warmup::Epochs(2.0);
        let plan = config.plan(1000).unwrap();
        assert_eq!((plan.batches_per_epoch, plan.steps, plan.learning_rate.warmup), (15, 75, 15));
        assert_eq!(plan.learning_rate.peak, 0.45 * 0.5);
        config.optimizer.warmup = Warmup::Auto;
        assert_eq!(config.plan(1000).unwrap().learning_rate.warmup, 7);
        config.epochs = 1000.0;
        assert_eq!(config.plan(1000).unwrap().learning_rate.warmup, 75);
        config.epochs = 10.0;
        config.optimizer.warmup = Warmup::Epochs(11.0);
        assert!(config.plan(1000).unwrap_err().to_string().contains("11 epochs"));
    }

    #[test]
    fn what_changes_the_result_may_not_change_on_resume() {
        let recorded = RunConfig::default();
        let mut now = RunConfig { threads: 3, checkpoint_epochs: 2.0, ..recorded.clone() };
        now.check_resumable(&recorded).unwrap();
        now.optimizer.momentum = 0.8;
        let message = now.check_resumable(&recorded).unwrap_err().to_string();
        assert!(message.contains("optimizer.momentum") && message.contains("0.8") && message.contains("0.9"));
        let shorter = RunConfig { steps: Some(5), ..recorded.clone() };
        assert!(shorter.check_resumable(&recorded).unwrap_err().to_string().contains("steps"));
    }
}
