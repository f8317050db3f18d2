//! An encoder by configuration: what a run file's `[encoder]` says.

use crate::error::{Error, Result};
use crate::file::sha256_hex;
use crate::graph::{Graph, Shape};
use crate::onnx_import::{self, Imported};
use crate::resnet;
use crate::weights::Weights;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::Path;
use std::str::FromStr;

/// Name of the ONNX file in a run folder that a run's own encoder is read from again.
pub const ARCHITECTURE_FILE: &str = "architecture.onnx";

/// Which encoder, and for which pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// `resnet18`, `resnet34` or `resnet50`; or an ONNX file of your own (`my.onnx`), to which only `channels` and
    /// `image_size` apply.
    pub name: String,
    /// SHA-256 of the ONNX file that the run began with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// First layers.
    pub stem: Stem,
    /// Channels of the first stage; the published networks have 64.
    pub width: usize,
    /// Blocks of each stage, one to four stages, instead of the named network's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Vec<usize>>,
    /// Input channels.
    pub channels: usize,
    /// Height and width of the input in pixels.
    pub image_size: usize,
    /// How a feature map becomes features.
    pub pool: Pool,
    /// Stages, counted from 1, whose pooled maps are the features, one behind the other; the last stage by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<usize>>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            name: "resnet18".into(),
            sha256: None,
            stem: Stem::Standard,
            width: 64,
            blocks: None,
            channels: 3,
            image_size: 224,
            pool: Pool::Average,
            read: None,
        }
    }
}

impl EncoderConfig {
    /// Builds the graph, from picture `[channels, image_size, image_size]` to features.
    ///
    /// # Errors
    /// As [`resnet::build`]; as [`EncoderConfig::import`].
    pub fn build(&self) -> Result<Graph> {
        match self.file() {
            Some(path) => Ok(self.import(path)?.graph),
            None => resnet::build(self),
        }
    }

    /// The graph with the tensors that learning begins with: those of an ONNX file, or else drawn by the seed.
    ///
    /// # Errors
    /// As [`EncoderConfig::build`].
    pub fn initial(&self, seed: u64) -> Result<(Graph, Weights)> {
        if let Some(path) = self.file() {
            let imported = self.import(path)?;
            return Ok((imported.graph, imported.weights));
        }
        let graph = self.build()?;
        let weights = Weights::init(&graph, seed);
        Ok((graph, weights))
    }

    /// The ONNX file that is the encoder, where one is named.
    pub fn file(&self) -> Option<&Path> {
        let path = Path::new(&self.name);
        path.extension().is_some_and(|e| e.eq_ignore_ascii_case("onnx")).then_some(path)
    }

    /// The encoder that an ONNX file holds: the one that is named, or the copy of it that a run keeps.
    ///
    /// # Errors
    /// As [`onnx_import::load`]; [`Error::Setting`] where the file is another one than before, has
    /// another input, or where a setting does not apply to it.
    pub fn import(&self, path: &Path) -> Result<Imported> {
        let imported = onnx_import::load(path)?;
        let setting = |key: &str, why: String| Error::Setting { key: format!("encoder.{key}"), why };
        let found = sha256_hex(&imported.bytes);
        if self.sha256.as_ref().is_some_and(|recorded| *recorded != found) {
            let why = format!("{} has changed since the run began (it is {found} now)", path.display());
            return Err(setting("sha256", why));
        }
        let plain = EncoderConfig {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            channels: self.channels,
            image_size: self.image_size,
            ..EncoderConfig::default()
        };
        if *self != plain {
            let why = "stem, width, blocks, pool and read do not apply to an ONNX file, which has its own".into();
            return Err(setting("name", why));
        }
        let given = Shape::Map { channels: self.channels, height: self.image_size, width: self.image_size };
        if imported.graph.input_shape() != given {
            let why = format!(
                "{} reads pictures {}, but channels and image_size say {given}",
                path.display(),
                imported.graph.input_shape()
            );
            return Err(setting("image_size", why));
        }
        Ok(imported)
    }
}

/// First layers of a residual network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stem {
    /// 7x7 convolution with stride 2, then max-pool with stride 2: for about 224 pixels.
    #[default]
    Standard,
    /// 3x3 convolution with stride 1: for about 32 pixels.
    Small,
    /// 3x3 convolution with stride 2: for about 32 pixels at a quarter of the work.
    #[serde(rename = "small-stride2")]
    SmallStride2,
}

/// How a feature map becomes a vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// Mean over positions.
    #[default]
    Average,
    /// Maximum over positions.
    Max,
    /// Average-pooled to n x n, then flattened: keeps where things are.
    Grid(usize),
}

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Pool::Average => f.write_str("average"),
            Pool::Max => f.write_str("max"),
            Pool::Grid(n) => write!(f, "grid{n}"),
        }
    }
}

impl FromStr for Pool {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let unknown = || Error::Unknown {
            what: "pooling",
            name: s.into(),
            known: ["average", "max", "grid2 (or another number)"].map(String::from).to_vec(),
        };
        match s {
            "average" => Ok(Pool::Average),
            "max" => Ok(Pool::Max),
            _ => s.strip_prefix("grid").and_then(|n| n.parse().ok()).map(Pool::Grid).ok_or_else(unknown),
        }
    }
}

impl FromStr for Stem {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "standard" => Ok(Stem::Standard),
            "small" => Ok(Stem::Small),
            "small-stride2" => Ok(Stem::SmallStride2),
            _ => Err(Error::Unknown {
                what: "stem",
                name: s.into(),
                known: ["standard", "small", "small-stride2"].map(String::from).to_vec(),
            }),
        }
    }
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
