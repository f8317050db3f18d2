//! `byol views`: what the two networks are shown.

use crate::Done;
use crate::encoder_args::EncoderArgs;
use crate::output::{Output, line};
use crate::pretrain::{configure, load, save_png};
use byol_model::dataset::{Dataset, Split};
use byol_train::views::{GridOptions, draw_views};
use serde_json::json;
use std::path::PathBuf;
use std::process::ExitCode;

/// Draw pictures beside random draws of both views, and print both pipelines.
#[derive(clap::Args)]
#[command(after_help = "\
Each row: the picture, draws of the first view, draws of the second.

Examples:
  byol views --data photos/ -o views.png
  byol views --config examples/demo.toml --pictures 8 --draws 4 -o views.png")]
pub struct Arguments {
    /// Run file (TOML).
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A folder of pictures or of IDX files.
    #[arg(long, value_name = "PATH", required_unless_present = "config")]
    data: Option<PathBuf>,
    #[command(flatten)]
    encoder: EncoderArgs,
    /// Preset of the two views: paper, small-image, single-channel, seed-helper or crop-only.
    #[arg(long, value_name = "PRESET")]
    views: Option<String>,
    /// Rows.
    #[arg(long, default_value_t = 8)]
    pictures: usize,
    /// Draws of each view.
    #[arg(long, default_value_t = 4)]
    draws: usize,
    /// Seed of the draws.
    #[arg(long)]
    seed: Option<u64>,
    /// Picture to write (PNG).
    #[arg(short, long, default_value = "views.png", value_name = "FILE")]
    output: PathBuf,
}

pub fn run(arguments: &Arguments, output: &Output) -> Done {
    let base = load(arguments.config.as_deref())?;
    let mut config = configure(base, arguments.data.as_deref(), &arguments.encoder)?;
    if let Some(views) = &arguments.views {
        config.views = byol_train::config::Views::Preset(views.clone());
    }
    let views = config.views()?;
    let data = Dataset::open(&config.data.path, Split::Train)?;
    let options = GridOptions {
        size: config.encoder.image_size,
        channels: config.encoder.channels,
        pictures: arguments.pictures,
        draws: arguments.draws,
        seed: arguments.seed.unwrap_or(config.seed),
    };
    save_png(&draw_views(&data, &views, options)?, &arguments.output)?;
    output.result(&json!({ "file": arguments.output, "views": views }), |out| {
        for (name, view) in [("first", &views.first), ("second", &views.second)] {
            line!(out, "{name} view:");
            for operator in view {
                line!(out, "  {}", serde_json::to_string(operator).unwrap_or_default());
            }
        }
        line!(
            out,
            "{}: {} pictures, {} draws of each view",
            arguments.output.display(),
            options.pictures,
            options.draws
        );
    })?;
    Ok(ExitCode::SUCCESS)
}
