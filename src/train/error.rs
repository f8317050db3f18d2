//! What can go wrong in training. Messages name the setting, file, tensor or value.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Networks, weights, pictures and model files.
    #[error(transparent)]
    Model(#[from] byol_model::Error),
    /// libtorch refused an operation.
    #[error("libtorch: {0}")]
    Torch(#[from] tch::TchError),
    /// A file or folder could not be read or written.
    #[error("Cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A run file is not valid TOML, or has a key that is not known.
    #[error("Run file {}: {why}", path.display())]
    RunFile {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        why: String,
    },
    /// A setting has a value that makes no sense.
    #[error("Setting {key} = {value}: {why}")]
    Setting {
        /// The setting's name as in a run file.
        key: String,
        /// Its value.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// A preset of views that is not known.
    #[error("Unknown views {name:?}; known are, nearest first, {known}")]
    UnknownViews {
        /// The name.
        name: String,
        /// The known names, nearest first.
        known: String,
    },
    /// A preset of a whole run that is not known.
    #[error("Unknown preset {name:?}; known are, nearest first, {known}")]
    UnknownPreset {
        /// The name.
        name: String,
        /// The known names, nearest first.
        known: String,
    },
    /// An operator of a view that makes no sense.
    #[error("Setting views.{view}[{index}] ({operator}): {reason}")]
    Operator {
        /// Which view: "first" or "second".
        view: &'static str,
        /// Place in the view's list, from 0.
        index: usize,
        /// The operator's name.
        operator: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A device that is not there.
    #[error("Device {name:?} cannot be used: {why}")]
    Device {
        /// What was asked for.
        name: String,
        /// Why it cannot be used.
        why: String,
    },
    /// The data set has too few pictures for one batch.
    #[error("A batch has {batch} pictures, but {} has only {found}: lower batch_size", path.display())]
    BatchTooLarge {
        /// Pictures of one batch.
        batch: usize,
        /// The data set.
        path: PathBuf,
        /// Pictures in it.
        found: usize,
    },
    /// Data that do not fit the configuration.
    #[error("Data set {}: {why}", path.display())]
    Data {
        /// File or folder.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A run folder that already holds a run.
    #[error("{} already holds a run: continue it with --resume, or overwrite it with --force", path.display())]
    RunExists {
        /// The run folder.
        path: PathBuf,
    },
    /// Nothing to continue.
    #[error("{} holds no checkpoint to resume from", path.display())]
    NothingToResume {
        /// The run folder.
        path: PathBuf,
    },
    /// A checkpoint that is truncated, damaged, or none at all.
    #[error("Checkpoint {} cannot be used: {why}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A checkpoint of another format.
    #[error("Checkpoint {} has format version {found}; this program reads version {supported}", path.display())]
    CheckpointVersion {
        /// The file.
        path: PathBuf,
        /// Version found.
        found: String,
        /// Version that can be read.
        supported: &'static str,
    },
    /// A setting that differs from the run that is to be continued.
    #[error(
        "Cannot resume: {key} is {found} now and was {recorded} when the run began, \
         so that the result would not be the uninterrupted one; put it back, or begin a new run"
    )]
    Changed {
        /// The setting's name as in a run file.
        key: String,
        /// The value of the run.
        recorded: String,
        /// The value asked for now.
        found: String,
    },
    /// The loss, or a weight, is no number any more.
    #[error(
        "The loss is {loss} at step {step} (learning rate {learning_rate:.3e}): training has diverged. Lower \
         optimizer.base_learning_rate or lengthen optimizer.warmup; the last checkpoint is kept"
    )]
    Diverged {
        /// Step at which it was found.
        step: usize,
        /// The loss.
        loss: f64,
        /// Learning rate of the step.
        learning_rate: f64,
    },
    /// The embeddings of all pictures have become the same.
    #[error(
        "The embeddings have collapsed at step {step} of {steps}: {signs}. {advice} The last checkpoint is kept; \
         --on-collapse warn goes on all the same"
    )]
    Collapsed {
        /// Step at which it was sure.
        step: usize,
        /// Steps of the run.
        steps: usize,
        /// What was seen.
        signs: String,
        /// What to change.
        advice: String,
    },
    /// Networks that do not fit together.
    #[error("{what}: {why}")]
    Network {
        /// Which network.
        what: &'static str,
        /// What does not fit.
        why: String,
    },
    /// What a launcher says is missing or makes no sense.
    #[error("{variable} {why}")]
    Launch {
        /// The environment's variable.
        variable: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A rank was lost, never came, or differs from the others.
    #[error("Ranks: {why}. A run ends everywhere when one rank does; go on from its last checkpoint with --resume")]
    Ranks {
        /// Which rank, and what is wrong with it.
        why: String,
    },
    /// A call of libtorch's c10d failed.
    #[error("c10d: {why}")]
    Collective {
        /// c10d's reason.
        why: String,
    },
    /// A call of libtorch's CUDA half failed.
    #[error("CUDA: {why}")]
    Cuda {
        /// Its reason.
        why: String,
    },
    /// A thread of the trainer ended before its work was done.
    #[error("The {0} thread ended unexpectedly")]
    Thread(&'static str),
}

impl Error {
    /// For `map_err` on a file operation.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }

    /// A setting's error.
    pub(crate) fn setting(key: &str, value: impl std::fmt::Display, why: impl Into<String>) -> Error {
        Error::Setting { key: key.into(), value: value.to_string(), why: why.into() }
    }
}
