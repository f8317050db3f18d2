//! The normalisation of an encoder's convolutions: what stands behind each of them, and what is done to their weights.

use crate::error::{Error, Result, unknown};
use crate::graph::Op;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Which normalisation. Transformers and ConvNeXt have LayerNorm, which none of these replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Norm {
    /// BatchNorm over the whole batch, whatever the number of processes that have a part of it: what others call
    /// synchronised BatchNorm, which is therefore another name of it.
    #[default]
    Batch,
    /// GroupNorm of 32 groups, with standardised convolution weights (Qiao et al. 2019, arXiv 1903.10520): needs no
    /// batch, so it is the way out at small ones (BYOL with it: Richemond et al. 2020, arXiv 2010.10241).
    Group,
}

/// All names; the first of a normalisation is the one that is written.
const NAMES: [(&str, Norm); 3] = [("batch", Norm::Batch), ("sync-batch", Norm::Batch), ("group", Norm::Group)];

/// Groups of a GroupNorm (Wu & He 2018); as many as divide the channels where there are fewer.
const GROUPS: usize = 32;

impl Norm {
    /// The operator over so many channels. Momentum as in torch; `eps` is the architecture's.
    pub(crate) fn op(self, channels: usize, eps: f64) -> Op {
        match self {
            Norm::Batch => Op::BatchNorm { channels, eps, momentum: 0.1 },
            Norm::Group => Op::GroupNorm { channels, groups: common_divisor(channels, GROUPS), eps },
        }
    }

    /// A convolution without bias that this normalisation follows.
    pub(crate) fn conv(self, read: usize, write: usize, kernel: usize, stride: usize) -> Op {
        self.grouped_conv(read, write, kernel, stride, 1)
    }

    /// As [`Norm::conv`], in groups.
    pub(crate) fn grouped_conv(self, read: usize, write: usize, kernel: usize, stride: usize, groups: usize) -> Op {
        Op::Conv2d {
            in_channels: read,
            out_channels: write,
            kernel: [kernel; 2],
            stride: [stride; 2],
            padding: [kernel / 2; 2],
            groups,
            bias: false,
            standardised: self == Norm::Group,
        }
    }
}

/// Euclid's.
fn common_divisor(a: usize, b: usize) -> usize {
    if b == 0 { a } else { common_divisor(b, a % b) }
}

impl fmt::Display for Norm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, norm)| norm == self).map_or("batch", |(name, _)| name))
    }
}

impl FromStr for Norm {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(name, _)| *name == s);
        found.map(|(_, norm)| *norm).ok_or_else(|| unknown("normalisation", s, NAMES.map(|(name, _)| name)))
    }
}

impl Serialize for Norm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Norm {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}
