//! The encoders that are known by name, in families. Names and parameters are those of torchvision, timm and fastai, so
//! that their weights load as they are, and so is how weights start.
//!
//! | family | names | as in |
//! |---|---|---|
//! | [`resnet`] | `resnet18` to `resnet200` | torchvision; 200 in timm |
//! | [`xresnet`] | `xresnet18`, `34`, `50` | fastai |
//! | [`efficientnet`] | `efficientnet_b0` to `b3`, `tf_efficientnet_b0` to `b3` | timm |
//! | [`vit`] | `vit_tiny_patch16`, `vit_small_patch16`, `vit_base_patch16`, and patch 4 and 8 | timm |
//! | [`convnext`] | `convnext_tiny` | timm |

use crate::encoder::{EncoderConfig, Stem};
use crate::error::{Error, Result, unknown};
use crate::graph::Graph;
use crate::norm::Norm;
use crate::{convnext, efficientnet, resnet, vit, xresnet};

/// A family of encoders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// Residual networks.
    ResNet,
    /// fastai's residual networks.
    XResNet,
    /// EfficientNets.
    EfficientNet,
    /// Vision transformers.
    VisionTransformer,
    /// ConvNeXts.
    ConvNext,
}

/// Every name, family by family.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.into_iter().flat_map(Family::names).copied()
}

const FAMILIES: [Family; 5] =
    [Family::ResNet, Family::XResNet, Family::EfficientNet, Family::VisionTransformer, Family::ConvNext];

impl Family {
    /// The family of an encoder.
    ///
    /// # Errors
    /// [`Error::Unknown`] with the known names, nearest first.
    pub fn of(name: &str) -> Result<Self> {
        let found = FAMILIES.into_iter().find(|family| family.names().contains(&name));
        found.ok_or_else(|| unknown("encoder", name, names()))
    }

    /// The names of its encoders.
    pub fn names(self) -> &'static [&'static str] {
        match self {
            Family::ResNet => &resnet::NAMES,
            Family::XResNet => &xresnet::NAMES,
            Family::EfficientNet => &efficientnet::NAMES,
            Family::VisionTransformer => &vit::NAMES,
            Family::ConvNext => &convnext::NAMES,
        }
    }

    /// The width that an encoder of this family was published with.
    pub fn published_width(self, name: &str) -> usize {
        match self {
            Family::ResNet | Family::XResNet => 64,
            Family::EfficientNet => 32,
            Family::VisionTransformer => vit::published_width(name),
            Family::ConvNext => 96,
        }
    }

    /// Whether it begins with a stem, which small pictures want smaller.
    pub fn has_stem(self) -> bool {
        self != Family::VisionTransformer
    }
}

/// Builds the encoder that `config` names, from picture to features.
///
/// # Errors
/// [`Error::Unknown`] for the name, [`Error::Setting`] for a setting out of range or one that does not apply to the
/// family, [`Error::Graph`] where the picture is too small for the network.
pub fn build(config: &EncoderConfig) -> Result<Graph> {
    let family = Family::of(&config.name)?;
    let wrong = |key: &str, why: String| Error::Setting { key: format!("encoder.{key}"), why };
    let mut config = config.clone();
    if config.width == 0 {
        config.width = family.published_width(&config.name);
    }
    for (key, value, limit) in
        [("width", config.width, 4096), ("channels", config.channels, 1024), ("image_size", config.image_size, 8192)]
    {
        if value == 0 || value > limit {
            return Err(wrong(key, format!("{value} is not in 1 to {limit}")));
        }
    }
    let deaf = |key: &str| Err(wrong(key, format!("does not apply to {}", config.name)));
    let residual = matches!(family, Family::ResNet | Family::XResNet);
    if config.read.is_some() && !residual {
        return deaf("read");
    }
    if config.norm != Norm::Batch && !residual && family != Family::EfficientNet {
        return deaf("norm");
    }
    if config.stem != Stem::Standard && !family.has_stem() {
        return deaf("stem");
    }
    match family {
        Family::ResNet => resnet::build(&config),
        Family::XResNet => xresnet::build(&config),
        Family::EfficientNet => efficientnet::build(&config),
        Family::VisionTransformer => vit::build(&config),
        Family::ConvNext => convnext::build(&config),
    }
}

/// The blocks of each stage: the configuration's, or the published ones.
///
/// # Errors
/// [`Error::Setting`] where there are more stages than published, or one without a block.
pub(crate) fn blocks(config: &EncoderConfig, published: &[usize]) -> Result<Vec<usize>> {
    let blocks = config.blocks.clone().unwrap_or_else(|| published.to_vec());
    if blocks.is_empty() || blocks.len() > published.len() || blocks.contains(&0) {
        let why = format!("{blocks:?}: 1 to {} stages of at least one block each", published.len());
        return Err(Error::Setting { key: "encoder.blocks".into(), why });
    }
    Ok(blocks)
}

/// The stages that are read, counted from 1, of so many.
///
/// # Errors
/// [`Error::Setting`] where they are not ascending, or there is no such stage.
pub(crate) fn read(config: &EncoderConfig, stages: usize) -> Result<Vec<usize>> {
    let read = config.read.clone().unwrap_or_else(|| vec![stages]);
    if read.is_empty() || read.iter().any(|&s| s == 0 || s > stages) || read.windows(2).any(|w| w[0] >= w[1]) {
        let why = format!("{read:?}: ascending stages from 1 to {stages}");
        return Err(Error::Setting { key: "encoder.read".into(), why });
    }
    Ok(read)
}
