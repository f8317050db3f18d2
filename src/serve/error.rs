//! Everything that can go wrong while serving, each with the file, row, tensor or value to blame.

use std::io;
use std::path::{Path, PathBuf};

use crate::runtime::Tried;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong. Messages name the culprit; rows and columns count from 0.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A feature is NaN or infinite.
    #[error("Feature in row {row}, column {column} is {value}; features must be finite")]
    NonFinite {
        /// Row of the feature matrix.
        row: usize,
        /// Column of the feature matrix.
        column: usize,
        /// The value found.
        value: f32,
    },
    /// A feature of a row with a name is NaN or infinite.
    #[error("Feature {column} of {name} (row {row}) is {value}; features must be finite")]
    NonFiniteNamed {
        /// The name of the row, usually a path.
        name: String,
        /// Row of the feature matrix.
        row: usize,
        /// Column of the feature matrix.
        column: usize,
        /// The value found.
        value: f32,
    },
    /// There is nothing to work on.
    #[error("No {what}")]
    EmptyData {
        /// What is missing: `rows`, `columns`, ...
        what: &'static str,
    },
    /// All examples carry the same label, so there is nothing to tell apart.
    #[error("All {examples} examples have the label {label}; a head needs at least two classes")]
    OneClass {
        /// The label that all examples carry.
        label: String,
        /// How many examples there are.
        examples: usize,
    },
    /// A class has no example, so its bias has no optimum.
    #[error("Class {label} has no example with a weight above 0; add examples or leave the class out")]
    EmptyClass {
        /// The class.
        label: String,
    },
    /// A label is not one of the classes.
    #[error("Label {label} of row {row} is outside the {classes} classes (0 to {})", .classes.saturating_sub(1))]
    LabelOutside {
        /// Row of the label.
        row: usize,
        /// The label found.
        label: u64,
        /// Number of classes.
        classes: usize,
    },
    /// There are more or fewer labels than rows of features.
    #[error("{features} rows of features, but {labels} labels")]
    LabelMismatch {
        /// Rows of features.
        features: usize,
        /// Number of labels.
        labels: usize,
    },
    /// Features of one encoder were to stand beside those of another.
    #[error("Features of the encoder {found} cannot stand beside those of {expected}")]
    FeaturesOfAnotherEncoder {
        /// SHA-256 of the encoder whose features are there.
        expected: String,
        /// SHA-256 of the encoder whose features were given.
        found: String,
    },
    /// An example of a trainer is named by a number that it never had, or that was removed.
    #[error("No example has the number {id}: it was removed, or never added")]
    UnknownExample {
        /// The number.
        id: u64,
    },
    /// A class is named by a number that is too large.
    #[error("No class has the number {class}; there are {classes}")]
    UnknownClass {
        /// The number.
        class: u32,
        /// Number of classes.
        classes: usize,
    },
    /// Labels are needed, and these features have none.
    #[error("The features have no labels")]
    NoLabels,
    /// Two sizes that must agree do not.
    #[error("{what}: expected {expected}, found {found}")]
    DimensionMismatch {
        /// What was compared.
        what: &'static str,
        /// The size that was needed.
        expected: usize,
        /// The size that was given.
        found: usize,
    },
    /// Every column is constant, so no example differs from another.
    #[error("All {columns} feature columns are constant over the {rows} rows; the features tell nothing apart")]
    ConstantFeatures {
        /// Number of rows.
        rows: usize,
        /// Number of columns.
        columns: usize,
    },
    /// The penalty is zero and a hyperplane separates the classes, so the weights grow without bound.
    #[error(
        "l2 is 0 and the weights after {iterations} iterations already classify every example without error: the loss has no \
         minimum, the weights would grow for ever. Set l2 above 0"
    )]
    Separable {
        /// Iterations until this was certain.
        iterations: usize,
    },
    /// An option has a value that means nothing.
    #[error("Option {option} is {value}; {must}")]
    InvalidOption {
        /// Name of the option.
        option: &'static str,
        /// The value given.
        value: String,
        /// What it must be.
        must: &'static str,
    },
    /// A result is needed that the solver did not reach in the iterations it was given.
    #[error("Not converged after {iterations} iterations: relative gap {gap:e}, asked for {tolerance:e}")]
    NotConverged {
        /// Iterations done.
        iterations: usize,
        /// Certified relative gap that was reached.
        gap: f64,
        /// Relative gap that was asked for.
        tolerance: f64,
    },
    /// A head was trained on the features of another encoder.
    #[error("{} was trained on the features of encoder {expected}, not of {found}", .path.display())]
    HeadForAnotherEncoder {
        /// The head's file, or a name for a head that was never saved.
        path: PathBuf,
        /// SHA-256 of the encoder that the head was trained with.
        expected: String,
        /// SHA-256 of the encoder at hand.
        found: String,
    },
    /// A file or folder could not be read or written.
    #[error("{}: {source}", .path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what it should be.
    #[error("{}: {why}", .path.display())]
    Corrupt {
        /// The file, or a name for bytes that came from memory.
        path: PathBuf,
        /// What is wrong with it, with the tensor's name where there is one.
        why: String,
    },
    /// A file was written by a newer byol.
    #[error("{}: format {found}, this version reads up to {supported}; update byol", .path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Format number in the file.
        found: u32,
        /// Newest format number that this version reads.
        supported: u32,
    },
    /// ONNX Runtime was not found, or only versions that are too old.
    #[error(
        "ONNX Runtime 1.{oldest} or newer was not found; `make native` fetches it, or set BYOL_ONNXRUNTIME to its path. Tried:{}",
        .tried.iter().map(Tried::to_string).collect::<String>(),
        oldest = crate::runtime::OLDEST_API
    )]
    RuntimeNotFound {
        /// Every place that was looked at, and what was wrong with it.
        tried: Vec<Tried>,
    },
    /// ONNX Runtime runs already, started with another wish; a process has only one.
    #[error("ONNX Runtime already runs with {what} {running} in this process; asked for {asked}")]
    BusyConfig {
        /// The option.
        what: &'static str,
        /// Its value that is in force.
        running: String,
        /// The value asked for.
        asked: String,
    },
    /// ONNX Runtime reported an error.
    #[error("{}: {message}", .path.display())]
    Runtime {
        /// The model, or the library where it is not about a model.
        path: PathBuf,
        /// ONNX Runtime's own error code.
        code: i32,
        /// ONNX Runtime's words.
        message: String,
    },
    /// A file is no ONNX model, or a damaged one.
    #[error("{}: {source}", .path.display())]
    ModelInvalid {
        /// The file, or a name for bytes that came from memory.
        path: PathBuf,
        /// What is wrong with it.
        source: byol_model::Error,
    },
    /// An ONNX model that is no encoder of pictures, or needs what is not allowed.
    #[error("{}: {why}", .path.display())]
    ModelUnsupported {
        /// The file, or a name for bytes that came from memory.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// A model is not the one that was expected.
    #[error("{}: its SHA-256 is {found}, expected {expected}", .path.display())]
    ModelHash {
        /// The file, or a name for bytes that came from memory.
        path: PathBuf,
        /// The sum that was expected.
        expected: String,
        /// The sum of the file.
        found: String,
    },
    /// A file is larger than is allowed.
    #[error("{}: {found} bytes, allowed are {limit}", .path.display())]
    TooLarge {
        /// The file, or a name for bytes that came from memory.
        path: PathBuf,
        /// Its size; for a file without an end, what was read of it.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// One picture of a call is the culprit.
    #[error("Item {index}: {source}")]
    Item {
        /// Its index in the call, from 0.
        index: usize,
        /// What is wrong with it.
        source: Box<Error>,
    },
    /// A picture, a contract or a data set cannot be used.
    #[error(transparent)]
    Model(#[from] byol_model::Error),
    /// There is not enough memory for what was asked.
    #[error("Not enough memory for {bytes} bytes")]
    NoMemory {
        /// Size of the piece that could not be had.
        bytes: usize,
    },
    /// The caller asked to stop.
    #[error("Cancelled")]
    Cancelled,
    /// The time the caller gave is over.
    #[error("Stopped at the deadline")]
    Deadline,
}

impl Error {
    /// Ties an I/O error to its file; meant for `map_err`.
    pub fn io(path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { path, source }
    }

    /// A file that is not what it should be.
    pub fn corrupt(path: impl AsRef<Path>, why: impl Into<String>) -> Self {
        Self::Corrupt { path: path.as_ref().to_path_buf(), why: why.into() }
    }

    /// What ONNX Runtime said about a model, or about itself.
    pub(crate) fn runtime(path: impl AsRef<Path>, code: i32, message: impl Into<String>) -> Self {
        Self::Runtime { path: path.as_ref().to_path_buf(), code, message: message.into() }
    }
}
