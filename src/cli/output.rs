//! Where results, messages and progress go.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;
use std::error::Error;
use std::io::{ErrorKind, Write};

/// Writes one line of a result.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        use std::fmt::Write as _;
        // Writing to a String cannot fail.
        let _ = writeln!($out, $($text)*);
    }};
}
pub(crate) use line;

/// How the user wants to be told.
pub struct Output {
    /// One JSON object instead of text.
    pub json: bool,
    /// No progress.
    pub quiet: bool,
}

impl Output {
    /// Prints the result: `value` as JSON, or the lines that `text` writes. A reader that has gone away (`| head`) is
    /// no failure.
    pub fn result(&self, value: &impl Serialize, text: impl FnOnce(&mut String)) -> Result<(), Box<dyn Error>> {
        let mut out = String::new();
        if self.json {
            out = serde_json::to_string(value)? + "\n";
        } else {
            text(&mut out);
        }
        match std::io::stdout().write_all(out.as_bytes()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
            _ => Ok(()),
        }
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

    /// A line on standard error for work of unknown length; silent when not wanted or not on a terminal.
    pub fn spinner(&self) -> ProgressBar {
        if self.quiet {
            return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
        }
        ProgressBar::new_spinner().with_style(ProgressStyle::default_spinner())
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
