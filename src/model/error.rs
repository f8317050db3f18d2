//! What can go wrong with networks, weights, pictures and model files. Messages name the file, tensor or value.

use std::path::{Path, PathBuf};

/// The crate's result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The crate's error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
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
    /// A node does not fit its graph.
    #[error("Node {node:?}: {why}")]
    Graph {
        /// The node's name.
        node: String,
        /// What does not fit.
        why: String,
    },
    /// A setting has a value that makes no sense.
    #[error("Setting {key}: {why}")]
    Setting {
        /// The setting's name as in a run file.
        key: String,
        /// What is wrong, with the value.
        why: String,
    },
    /// A name that is not known.
    #[error("Unknown {what} {name:?}; known, nearest first: {}", known.join(", "))]
    Unknown {
        /// What kind of thing was named.
        what: &'static str,
        /// The name.
        name: String,
        /// The known names, nearest first.
        known: Vec<String>,
    },
    /// A weights file is not one, or is damaged.
    #[error("{} is not a usable safetensors file: {why}", path.display())]
    WeightsFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A weights file whose tensors are not those of the network.
    #[error("{}: {why}", path.display())]
    WeightsOf {
        /// The file.
        path: PathBuf,
        /// Which tensor, and what is wrong with it.
        why: Box<Error>,
    },
    /// A tensor that the network needs is missing.
    #[error("Tensor {name:?} is missing (the network needs shape {expected:?})")]
    MissingTensor {
        /// Name.
        name: String,
        /// Shape that the network needs.
        expected: Vec<usize>,
    },
    /// A tensor that the network does not have.
    #[error("Tensor {name:?} does not belong to this network")]
    ExtraTensor {
        /// Name.
        name: String,
    },
    /// A tensor of the wrong shape.
    #[error("Tensor {name:?} has shape {found:?}, the network needs {expected:?}")]
    TensorShape {
        /// Name.
        name: String,
        /// Shape that the network needs.
        expected: Vec<usize>,
        /// Shape found.
        found: Vec<usize>,
    },
    /// A tensor holds NaN or infinity.
    #[error("Tensor {name:?} holds {value} at index {index}")]
    NonFiniteTensor {
        /// Name.
        name: String,
        /// Flat index.
        index: usize,
        /// The value.
        value: f32,
    },
    /// Bytes that are no picture, or a damaged one.
    #[error("{name} cannot be decoded as a picture: {why}")]
    Decode {
        /// The file's name, or "picture" for bytes.
        name: String,
        /// The decoder's reason.
        why: String,
    },
    /// A picture or file beyond a limit.
    #[error("{name} exceeds a limit: {found} {unit}, allowed are {limit}")]
    Limit {
        /// The file's name, or what it is.
        name: String,
        /// Amount found.
        found: u64,
        /// Amount allowed.
        limit: u64,
        /// Unit of both.
        unit: &'static str,
    },
    /// A raw picture whose geometry does not fit its bytes.
    #[error("Picture view: {why}")]
    View {
        /// What does not fit.
        why: String,
    },
    /// A data set that cannot be used.
    #[error("Data set {}: {why}", path.display())]
    Dataset {
        /// File or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// A file that is no ONNX model, or one that cannot be used.
    #[error("Not a usable ONNX model: {why}")]
    Onnx {
        /// What is wrong.
        why: String,
    },
    /// A node of an ONNX file that cannot be trained here.
    #[error("ONNX node {node:?} ({operator}): {why}")]
    Import {
        /// The node's name, or that of its output.
        node: String,
        /// Its operator.
        operator: String,
        /// What is wrong with it.
        why: String,
    },
    /// A model file without a valid input contract.
    #[error("Input contract: {key}: {why}")]
    Contract {
        /// Metadata key.
        key: String,
        /// What is wrong.
        why: String,
    },
}

/// The error of a name that is not among the known ones.
pub fn unknown<'a>(what: &'static str, name: &str, known: impl IntoIterator<Item = &'a str>) -> Error {
    let mut known: Vec<String> = known.into_iter().map(String::from).collect();
    known.sort_by_key(|known| strsim::osa_distance(&name.to_lowercase(), known));
    Error::Unknown { what, name: name.into(), known }
}

impl Error {
    /// For `map_err` on a file operation.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    }
}
