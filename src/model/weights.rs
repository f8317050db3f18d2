//! A network's tensors by name, in memory and in safetensors files. Names and shapes are torch's.

use crate::error::{Error, Result};
use crate::file;
use crate::graph::{Graph, Init, Parameter};
use crate::torchvision;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::StandardNormal;
use safetensors::tensor::{Dtype, SafeTensors, TensorView};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Largest weights file that is read, in bytes (a ResNet-200 2x has 1 GB).
const MAX_FILE_BYTES: u64 = 8 << 30;

/// The one metadata key that is written, with all pairs as JSON: a file's keys come in random order, and the same
/// weights should give the same bytes.
const METADATA: &str = "byol";

/// A dense float32 tensor, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Shape; empty for a scalar.
    pub shape: Vec<usize>,
    /// Values, the last dimension fastest.
    pub data: Vec<f32>,
}

impl Tensor {
    /// A tensor of one value everywhere.
    pub fn full(shape: &[usize], value: f32) -> Self {
        Self { shape: shape.to_vec(), data: vec![value; shape.iter().product()] }
    }
}

/// Tensors by name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Weights(BTreeMap<String, Tensor>);

impl Weights {
    /// Draws the weights that a graph starts with (each [`crate::graph::Parameter`] says how); the seed decides all.
    pub fn init(graph: &Graph, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut draw = |p: &Parameter| -> Vec<f32> {
            let n = p.len();
            match p.init {
                Init::Constant(value) => vec![value; n],
                Init::UniformFanIn { fan } => {
                    let bound = 1.0 / (fan.max(1) as f32).sqrt();
                    (0..n).map(|_| rng.random_range(-bound..=bound)).collect()
                }
                Init::Normal { deviation } => {
                    (0..n).map(|_| deviation * rng.sample::<f32, _>(StandardNormal)).collect()
                }
                Init::KaimingFanOut { fan } | Init::KaimingFanIn { fan } => {
                    let deviation = (2.0 / fan.max(1) as f32).sqrt();
                    (0..n).map(|_| deviation * rng.sample::<f32, _>(StandardNormal)).collect()
                }
            }
        };
        Self(
            graph
                .parameters()
                .into_iter()
                .map(|p| {
                    let data = draw(&p);
                    (p.name, Tensor { shape: p.shape, data })
                })
                .collect(),
        )
    }

    /// Reads a safetensors file of f32, f16, bf16 or f64 tensors. Integer tensors (torch's `num_batches_tracked`)
    /// are left out.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Limit`], [`Error::WeightsFile`] for a damaged file or another element type.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with_metadata(path).map(|(weights, _)| weights)
    }

    /// As [`Weights::load`], with the file's text metadata.
    ///
    /// # Errors
    /// As [`Weights::load`].
    pub fn load_with_metadata(path: &Path) -> Result<(Self, BTreeMap<String, String>)> {
        let bytes = file::read(path, MAX_FILE_BYTES)?;
        let parsed = || {
            let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| e.to_string())?;
            let mut metadata: BTreeMap<_, _> = header.metadata().clone().unwrap_or_default().into_iter().collect();
            if let Some(ours) = metadata.remove(METADATA) {
                let ours: BTreeMap<String, String> =
                    serde_json::from_str(&ours).map_err(|e| format!("metadata {METADATA:?}: {e}"))?;
                metadata.extend(ours);
            }
            Ok((Self::from_bytes(&bytes)?, metadata))
        };
        parsed().map_err(|why| Error::WeightsFile { path: path.into(), why })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, String> {
        let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
        let mut all = BTreeMap::new();
        for (name, view) in file.tensors() {
            let bytes = view.data();
            let data = match view.dtype() {
                Dtype::F32 => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F64 => bytes.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
                Dtype::BF16 => bytes.as_chunks().0.iter().map(|b| half::bf16::from_le_bytes(*b).to_f32()).collect(),
                Dtype::F16 => bytes.as_chunks().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32()).collect(),
                Dtype::I64 | Dtype::I32 | Dtype::U8 | Dtype::BOOL => continue,
                other => return Err(format!("tensor {name:?} has elements of type {other:?}")),
            };
            all.insert(name, Tensor { shape: view.shape().to_vec(), data });
        }
        Ok(Self(all))
    }

    /// Writes all tensors as float32, with text metadata, atomically.
    ///
    /// # Errors
    /// [`Error::Io`] names the path.
    pub fn save(&self, path: &Path, metadata: &BTreeMap<String, String>) -> Result<()> {
        let wrong = |why: String| Error::WeightsFile { path: path.into(), why };
        let bytes: BTreeMap<&str, Vec<u8>> =
            self.iter().map(|(name, t)| (name, t.data.iter().flat_map(|v| v.to_le_bytes()).collect())).collect();
        let views = self.iter().map(|(name, t)| {
            let view = TensorView::new(Dtype::F32, t.shape.clone(), &bytes[name]).map_err(|e| wrong(e.to_string()))?;
            Ok((name, view))
        });
        let views: Vec<_> = views.collect::<Result<_>>()?;
        let json = serde_json::to_string(metadata).map_err(|e| wrong(e.to_string()))?;
        let metadata = [(METADATA.to_owned(), json)].into();
        let file = safetensors::serialize(views, Some(metadata)).map_err(|e| wrong(e.to_string()))?;
        file::write_atomic(path, &file)
    }

    /// Checks that the tensors are exactly those that `graph` needs, and finite.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::TensorShape`], [`Error::ExtraTensor`] or [`Error::NonFiniteTensor`], each
    /// with the first tensor's name.
    pub fn check(&self, graph: &Graph) -> Result<()> {
        let parameters = graph.parameters();
        for p in &parameters {
            let tensor = self
                .get(&p.name)
                .ok_or_else(|| Error::MissingTensor { name: p.name.clone(), expected: p.shape.clone() })?;
            if tensor.shape != p.shape {
                let (expected, found) = (p.shape.clone(), tensor.shape.clone());
                return Err(Error::TensorShape { name: p.name.clone(), expected, found });
            }
            if let Some(index) = tensor.data.iter().position(|v| !v.is_finite()) {
                return Err(Error::NonFiniteTensor { name: p.name.clone(), index, value: tensor.data[index] });
            }
        }
        let known: BTreeSet<&str> = parameters.iter().map(|p| p.name.as_str()).collect();
        match self.0.keys().find(|name| !known.contains(name.as_str())) {
            Some(name) => Err(Error::ExtraTensor { name: name.clone() }),
            None => Ok(()),
        }
    }

    /// One tensor.
    pub fn get(&self, name: &str) -> Option<&Tensor> {
        self.0.get(name)
    }

    /// Adds or replaces a tensor.
    pub fn insert(&mut self, name: impl Into<String>, tensor: Tensor) -> Option<Tensor> {
        self.0.insert(name.into(), tensor)
    }

    /// Takes a tensor out.
    pub fn remove(&mut self, name: &str) -> Option<Tensor> {
        self.0.remove(name)
    }

    /// All tensors in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        self.0.iter().map(|(name, tensor)| (name.as_str(), tensor))
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Beginnings of the names of a classifier's tensors in torchvision and timm.
const CLASSIFIERS: [&str; 4] = ["fc.", "classifier.", "head.", "heads."];

/// A file's tensors, chosen by name for a graph.
#[derive(Clone, Debug, PartialEq)]
pub struct Fitted {
    /// Exactly what the graph needs.
    pub weights: Weights,
    /// What was left out: a classifier's layers, which an encoder does not have.
    pub left_out: Vec<String>,
    /// A position embedding's side as it was and as it is, where it was of another picture size.
    pub resampled: Option<[usize; 2]>,
    /// SHA-256 of the file.
    pub sha256: String,
}

impl Fitted {
    /// Reads a safetensors file of torchvision, timm or byol. What belongs to a classifier (`fc.*`, `classifier.*`,
    /// `head.*`, `heads.*`) is left out where the graph does not have it; a transformer's position embedding of another
    /// picture size is resampled.
    ///
    /// # Errors
    /// As [`Weights::load`]; [`Error::WeightsOf`] names the file and the tensor that is missing, misshapen, not finite or
    /// not the network's.
    pub fn load(path: &Path, graph: &Graph) -> Result<Self> {
        let bytes = file::read(path, MAX_FILE_BYTES)?;
        let weights = Weights::from_bytes(&bytes).map_err(|why| Error::WeightsFile { path: path.into(), why })?;
        let mut weights = torchvision::renamed(weights);
        let parameters = graph.parameters();
        let mut resampled = None;
        for wanted in parameters.iter().filter(|p| p.name.ends_with("pos_embed")) {
            if let Some((tensor, sides)) =
                weights.get(&wanted.name).and_then(|t| torchvision::resampled_positions(t, wanted))
            {
                weights.insert(wanted.name.clone(), tensor);
                resampled = Some(sides);
            }
        }
        let known: BTreeSet<String> = parameters.into_iter().map(|p| p.name).collect();
        let classifier = |name: &str| !known.contains(name) && CLASSIFIERS.iter().any(|c| name.starts_with(c));
        let left_out: Vec<String> = weights.iter().map(|(name, _)| name.to_owned()).filter(|n| classifier(n)).collect();
        for name in &left_out {
            weights.remove(name);
        }
        weights.check(graph).map_err(|why| Error::WeightsOf { path: path.into(), why: Box::new(why) })?;
        Ok(Self { weights, left_out, resampled, sha256: file::sha256_hex(&bytes) })
    }

    /// What was left out or made to fit, in a sentence or two; nothing where nothing was.
    pub fn describe(&self, path: &Path) -> Option<String> {
        let mut said = Vec::new();
        if !self.left_out.is_empty() {
            said.push(format!("{}: left out, as no part of an encoder: {}.", path.display(), self.left_out.join(", ")));
        }
        if let Some([from, to]) = self.resampled {
            said.push(format!("Its position embedding was resampled from {from} x {from} to {to} x {to} places."));
        }
        (!said.is_empty()).then(|| said.join(" "))
    }
}

impl FromIterator<(String, Tensor)> for Weights {
    fn from_iter<T: IntoIterator<Item = (String, Tensor)>>(tensors: T) -> Self {
        Self(tensors.into_iter().collect())
    }
}
