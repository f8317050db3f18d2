//! An encoder by configuration: what a run file's `[encoder]` says.

use crate::error::{Error, Result, unknown};
use crate::file::sha256_hex;
use crate::graph::{Graph, Shape};
pub use crate::norm::Norm;
use crate::onnx_import::{self, Imported};
pub use crate::pool::Pool;
use crate::weights::{Fitted, Weights};
use crate::zoo;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Name of the ONNX file in a run folder that a run's own encoder is read from again.
pub const ARCHITECTURE_FILE: &str = "architecture.onnx";

/// Which encoder, and for which pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// A name of [`zoo::names`]; or an ONNX file of your own (`my.onnx`), to which only `channels` and
    /// `image_size` apply.
    pub name: String,
    /// A safetensors file whose tensors learning begins with, instead of drawn ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init_weights: Option<PathBuf>,
    /// SHA-256 of the file that the run began with: the ONNX file, or the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
    /// First layers.
    pub stem: Stem,
    /// Channels of the first stage (64 in the published ResNets, 96 in ConvNeXt-T), of the stem of an EfficientNet (32),
    /// or the length of a transformer's tokens (192, 384, 768); 0 for what was published.
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
    /// What stands behind the convolutions.
    pub norm: Norm,
    /// Stages, counted from 1, whose pooled maps are the features, one behind the other; the last stage by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<Vec<usize>>,
}

impl Default for EncoderConfig {
    fn default() -> Self {
        Self {
            name: "resnet18".into(),
            init_weights: None,
            sha256: None,
            stem: Stem::Standard,
            width: 0,
            blocks: None,
            channels: 3,
            image_size: 224,
            pool: Pool::Published,
            norm: Norm::Batch,
            read: None,
        }
    }
}

impl EncoderConfig {
    /// Builds the graph, from picture `[channels, image_size, image_size]` to features.
    ///
    /// # Errors
    /// As [`zoo::build`]; as [`EncoderConfig::import`].
    pub fn build(&self) -> Result<Graph> {
        match self.file() {
            Some(path) => Ok(self.import(path)?.graph),
            None => zoo::build(self),
        }
    }

    /// The graph with the tensors that learning begins with: those of an ONNX file or of `init_weights`, or else drawn
    /// by the seed.
    ///
    /// # Errors
    /// As [`EncoderConfig::build`] and [`EncoderConfig::given_weights`].
    pub fn initial(&self, seed: u64) -> Result<(Graph, Weights)> {
        if let Some(path) = self.file() {
            let imported = self.import(path)?;
            return Ok((imported.graph, imported.weights));
        }
        let graph = self.build()?;
        let weights = match self.given_weights(&graph)? {
            Some(given) => given.weights,
            None => Weights::init(&graph, seed),
        };
        Ok((graph, weights))
    }

    /// The tensors of `init_weights` for `graph`, where that file is named.
    ///
    /// # Errors
    /// As [`Fitted::load`]; [`Error::Setting`] where the file is another one than when the run began.
    pub fn given_weights(&self, graph: &Graph) -> Result<Option<Fitted>> {
        let Some(path) = &self.init_weights else { return Ok(None) };
        let given = Fitted::load(path, graph)?;
        self.check_sha256(path, &given.sha256)?;
        Ok(Some(given))
    }

    /// Refuses another file than the one that the run began with.
    fn check_sha256(&self, path: &Path, found: &str) -> Result<()> {
        if self.sha256.as_ref().is_some_and(|recorded| recorded != found) {
            let why = format!("{} has changed since the run began (it is {found} now)", path.display());
            return Err(Error::Setting { key: "encoder.sha256".into(), why });
        }
        Ok(())
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
        self.check_sha256(path, &sha256_hex(&imported.bytes))?;
        if self.init_weights.is_some() {
            return Err(setting("init_weights", "an ONNX file has its own weights".into()));
        }
        let plain = EncoderConfig {
            name: self.name.clone(),
            sha256: self.sha256.clone(),
            channels: self.channels,
            image_size: self.image_size,
            ..EncoderConfig::default()
        };
        if *self != plain {
            let why =
                "stem, width, blocks, pool, group norm and read do not apply to an ONNX file, which has its own".into();
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

/// First layers. What they are in other families than ResNets, their files say ([`crate::zoo`]).
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

impl FromStr for Stem {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "standard" => Ok(Stem::Standard),
            "small" => Ok(Stem::Small),
            "small-stride2" => Ok(Stem::SmallStride2),
            _ => Err(unknown("stem", s, ["standard", "small", "small-stride2"])),
        }
    }
}
