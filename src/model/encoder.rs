//! An encoder by configuration: what a run file's `[encoder]` says.

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::resnet;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Which encoder, and for which pictures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EncoderConfig {
    /// `resnet18`, `resnet34` or `resnet50`.
    pub name: String,
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
    /// As [`resnet::build`].
    pub fn build(&self) -> Result<Graph> {
        resnet::build(self)
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
