//! Where results, messages and progress go.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::error::Error;

/// How the user wants to be told.
pub struct Output {
    /// One JSON object instead of text.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

impl Output {
    /// Prints the result: `value` as JSON, or what `text` prints.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce()) -> Result<(), Box<dyn Error>> {
        if self.json {
            println!("{}", serde_json::to_string(value)?);
        } else {
            text();
        }
        Ok(())
    }

    /// A sentence for a person, on standard error.
    pub fn say(&self, message: &str) {
        if !self.quiet {
            eprintln!("{message}");
        }
    }

    /// The last words of a command that failed.
    pub fn error(&self, error: &dyn Error) {
        if self.json {
            eprintln!("{}", serde_json::json!({ "error": error.to_string() }));
        } else {
            eprintln!("byol: {error}");
        }
    }

    /// A progress bar on standard error, with rate and time left; silent when not wanted or not on a terminal.
    pub fn progress(&self, length: u64, unit: &str) -> ProgressBar {
        if self.quiet {
            return ProgressBar::with_draw_target(Some(length), ProgressDrawTarget::hidden());
        }
        let template = format!("{{bar:30}} {{human_pos}}/{{human_len}} {unit}  {{per_sec}}  {{eta}} left  {{msg}}");
        let bar = ProgressBar::new(length);
        bar.set_style(ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar
    }
}
