//! In which numbers a step computes. Weights, optimiser, EMA, BatchNorm's statistics and the loss are float32 always; what
//! may be shorter are convolutions and matrix products, and what lies between them.

use crate::c10d;
use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use tch::{Device, Kind, Tensor};

/// What `--precision` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// [`Precision::Tf32`] on CUDA, [`Precision::Float32`] on the CPU.
    #[default]
    Auto,
    /// float32 throughout.
    Float32,
    /// float32 whose products round their factors to 10 bits of mantissa, on CUDA's tensor cores.
    Tf32,
    /// Convolutions and matrix products of bfloat16, with float32 sums; activations between them are bfloat16, as PyTorch's
    /// autocast has them. Gradients arrive at the float32 weights, so nothing needs scaling.
    Bf16,
}

/// Names in the order of [`Precision`].
const NAMES: [(&str, Precision); 4] =
    [("auto", Precision::Auto), ("float32", Precision::Float32), ("tf32", Precision::Tf32), ("bf16", Precision::Bf16)];

impl Precision {
    /// What it is on a device; libtorch is told for CUDA.
    ///
    /// # Errors
    /// [`Error::Setting`] for TF32 on a CPU, which has none.
    pub fn settle(self, device: Device) -> Result<Precision> {
        let cuda = matches!(device, Device::Cuda(_));
        let settled = match self {
            Precision::Auto if cuda => Precision::Tf32,
            Precision::Auto => Precision::Float32,
            Precision::Tf32 if !cuda => {
                return Err(Error::setting("precision", self, "TF32 is CUDA's: a CPU has float32 and bf16"));
            }
            given => given,
        };
        if cuda {
            // Beside bf16, what stays float32 (a probe's layer) may be TF32 as well.
            c10d::allow_tf32(settled != Precision::Float32)?;
        }
        Ok(settled)
    }

    /// A sentence for the user, where it is not plain float32.
    pub fn sentence(self) -> Option<&'static str> {
        match self {
            Precision::Auto | Precision::Float32 => None,
            Precision::Tf32 => Some("Convolutions and matrix products compute in TF32, all else in float32."),
            Precision::Bf16 => Some(
                "Convolutions and matrix products compute in bfloat16; weights, their updates, statistics and loss are \
                 float32.",
            ),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAMES.iter().find(|(_, precision)| precision == self).map_or("auto", |(name, _)| name))
    }
}

impl FromStr for Precision {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        let found = NAMES.iter().find(|(name, _)| *name == s).map(|(_, precision)| *precision);
        found.ok_or_else(|| Error::setting("precision", format!("{s:?}"), "known are auto, float32, tf32 and bf16"))
    }
}

impl Serialize for Precision {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Precision {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What a pass does to its tensors: nothing, or what autocast does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cast {
    /// Products are of bfloat16.
    pub(crate) half: bool,
}

impl Cast {
    /// A product's factor.
    pub(crate) fn lower(self, x: &Tensor) -> Result<Tensor> {
        Ok(if self.half { x.f_to_kind(Kind::BFloat16)? } else { x.shallow_clone() })
    }

    /// What needs float32.
    pub(crate) fn raise(self, x: &Tensor) -> Result<Tensor> {
        Ok(if self.half { x.f_to_kind(Kind::Float)? } else { x.shallow_clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precisions_are_read_as_they_are_written_and_others_refused() {
        for (name, precision) in NAMES {
            assert_eq!((name.parse::<Precision>().unwrap(), precision.to_string()), (precision, name.to_owned()));
        }
        let message = "fp16".parse::<Precision>().unwrap_err().to_string();
        assert!(message.contains("precision = \"fp16\"") && message.contains("bf16"), "{message}");
    }

    #[test]
    fn tf32_is_refused_where_there_is_none_and_told_to_libtorch_where_there_is() {
        let message = Precision::Tf32.settle(Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("precision = tf32"), "{message}");
        assert_eq!(Precision::Auto.settle(Device::Cpu).unwrap(), Precision::Float32);
        // Only switches are set: that needs no device.
        for (asked, found, allowed) in [
            (Precision::Float32, Precision::Float32, [false; 2]),
            (Precision::Auto, Precision::Tf32, [true; 2]),
            (Precision::Bf16, Precision::Bf16, [true; 2]),
        ] {
            assert_eq!(asked.settle(Device::Cuda(0)).unwrap(), found);
            assert_eq!(c10d::tf32_allowed(), allowed, "{asked}");
        }
    }
}
