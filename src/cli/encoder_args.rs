//! The flags that choose an encoder.

use byol_model::encoder::{EncoderConfig, Norm, Pool, Stem};
use byol_model::graph::Shape;
use byol_model::zoo::Family;
use byol_model::{Error, Result, onnx_import};
use clap::Args;
use std::path::PathBuf;
use std::str::FromStr;

/// Flags that override an encoder configuration.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Encoder")]
pub struct EncoderArgs {
    /// Architecture: resnet18, 34, 50, 101, 152 or 200; xresnet18, 34 or 50; efficientnet_b0 to b3 and
    /// tf_efficientnet_b0 to b3; vit_tiny, vit_small or vit_base with _patch16, _patch8 or _patch4; convnext_tiny; or an
    /// ONNX file of your own, exported in training mode.
    #[arg(long, value_name = "NAME|FILE")]
    pub encoder: Option<String>,
    /// First layers: standard (about 224 pixels), small (about 32 pixels) or small-stride2.
    #[arg(long)]
    pub stem: Option<Stem>,
    /// Channels of the first stage (64 in a ResNet), or a multiple of what was published: 2x.
    #[arg(long, value_name = "N|Nx")]
    pub width: Option<Width>,
    /// Blocks of each stage, e.g. 1,1,1 (a transformer's depth, e.g. 6), instead of the architecture's own.
    #[arg(long, value_delimiter = ',', value_name = "N,..")]
    pub blocks: Option<Vec<usize>>,
    /// Input channels: 1 for gray, 3 for RGB, others for tensors.
    #[arg(long)]
    pub channels: Option<usize>,
    /// Height and width of the input in pixels.
    #[arg(long, value_name = "PIXELS")]
    pub image_size: Option<usize>,
    /// How a feature map becomes features: published (a transformer's class token, the mean of others), average, max,
    /// catavgmax (timm's order), catmaxavg (fastai's), gem, or grid2 (pooled to 2 x 2 and flattened; any number).
    #[arg(long)]
    pub pool: Option<Pool>,
    /// Normalisation: batch (over the batch of all ranks; sync-batch is the same) or group (with standardised weights, for
    /// small batches).
    #[arg(long)]
    pub norm: Option<Norm>,
    /// Stages of a ResNet whose pooled maps are the features, e.g. 3,4; the last by default.
    #[arg(long, value_delimiter = ',', value_name = "STAGE,..")]
    pub read: Option<Vec<usize>>,
}

/// A width as it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// So many channels.
    Channels(usize),
    /// So many times the published ones.
    Times(usize),
}

impl FromStr for Width {
    type Err = String;

    fn from_str(s: &str) -> Result<Self, String> {
        let number = |text: &str| text.parse().ok().filter(|&n: &usize| (1..=4096).contains(&n));
        let found = match s.strip_suffix('x') {
            Some(times) => number(times).filter(|&n| n <= 64).map(Width::Times),
            None => number(s).map(Width::Channels),
        };
        found.ok_or_else(|| "a number of channels, or a multiple of the published ones: 2x".into())
    }
}

impl EncoderArgs {
    /// Applies the flags that were given. A picture of at most 64 pixels gets the small stem unless one is named; an
    /// ONNX file says itself what pictures it reads.
    ///
    /// # Errors
    /// As [`onnx_import::load`].
    pub fn apply(&self, config: &mut EncoderConfig) -> Result<()> {
        let set = |from: &Option<usize>, to: &mut usize| {
            if let Some(value) = from {
                *to = *value;
            }
        };
        set(&self.channels, &mut config.channels);
        set(&self.image_size, &mut config.image_size);
        if let Some(name) = &self.encoder {
            config.name.clone_from(name);
        }
        // An unknown name is refused when the encoder is built.
        let family = Family::of(&config.name).ok();
        match (self.width, family) {
            (Some(Width::Channels(n)), _) => config.width = n,
            (Some(Width::Times(n)), Some(family)) => config.width = n * family.published_width(&config.name),
            (Some(Width::Times(n)), None) => config.width = n,
            (None, _) => {}
        }
        if let Some(norm) = self.norm {
            config.norm = norm;
        }
        if let Some(pool) = self.pool {
            config.pool = pool;
        }
        let file = self.encoder.as_ref().and(config.file()).map(PathBuf::from);
        if let Some(stem) = self.stem {
            config.stem = stem;
        } else if family.is_some_and(Family::has_stem) && self.image_size.is_some_and(|size| size <= 64) {
            config.stem = Stem::Small;
        }
        if self.blocks.is_some() {
            config.blocks.clone_from(&self.blocks);
        }
        if self.read.is_some() {
            config.read.clone_from(&self.read);
        }
        if let Some(file) = file
            && (self.channels.is_none() || self.image_size.is_none())
        {
            // Without the check against a run file's size, which this replaces.
            let imported = onnx_import::load(&file)?;
            if let Shape::Map { channels, height, width } = imported.graph.input_shape() {
                if height != width {
                    let why = format!("{} reads pictures of {height} x {width}; they must be square", file.display());
                    return Err(Error::Setting { key: "encoder.image_size".into(), why });
                }
                config.channels = self.channels.unwrap_or(channels);
                config.image_size = self.image_size.unwrap_or(height);
            }
        }
        Ok(())
    }

    /// The configuration that the flags describe, over the defaults.
    ///
    /// # Errors
    /// As [`EncoderArgs::apply`].
    pub fn config(&self) -> Result<EncoderConfig> {
        let mut config = EncoderConfig::default();
        self.apply(&mut config)?;
        Ok(config)
    }
}
