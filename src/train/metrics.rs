//! The record of a run: `metrics.jsonl`, one JSON object a line.

use crate::error::{Error, Result};
use crate::pretrain::{EvaluationReport, StepReport};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

/// One line: a step (with a loss) or an evaluation (with a k-NN accuracy).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Line {
    /// Optimiser steps done.
    pub step: usize,
    /// Passes over the data done.
    pub epoch: f64,
    /// Loss, both directions summed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss: Option<f64>,
    /// Learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Tau.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tau: Option<f64>,
    /// Collapse signal.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// Mean cosine between the projections of different pictures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cosine: Option<f64>,
    /// Directions that carry the projections.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective_rank: Option<f64>,
    /// Pictures a second, lately.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub images_per_second: Option<f64>,
    /// k-NN accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knn: Option<f64>,
    /// Neighbours of the k-NN accuracy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub k: Option<usize>,
    /// Accuracy of the online linear probe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<f64>,
}

impl Line {
    /// A step's line.
    pub fn step(report: &StepReport) -> Self {
        Self {
            step: report.step,
            epoch: report.epoch,
            loss: Some(report.loss),
            learning_rate: Some(report.learning_rate),
            tau: Some(report.tau),
            embedding_std: Some(report.embeddings.spread),
            cosine: Some(report.embeddings.cosine),
            effective_rank: Some(report.embeddings.effective_rank),
            images_per_second: Some(report.images_per_second),
            ..Self::default()
        }
    }

    /// An evaluation's line.
    pub fn evaluation(report: &EvaluationReport) -> Self {
        Self {
            step: report.step,
            epoch: report.epoch,
            knn: Some(report.knn),
            k: Some(report.k),
            probe: report.probe,
            ..Self::default()
        }
    }
}

/// The file, open at its end.
#[derive(Debug)]
pub struct Metrics {
    path: PathBuf,
    file: File,
}

impl Metrics {
    /// Opens the file, cut back to what had been said up to `step`; and those lines.
    ///
    /// # Errors
    /// [`Error::Io`] names the path.
    pub fn open_with(path: &Path, step: usize) -> Result<(Self, Vec<Line>)> {
        let kept: Vec<Line> = match step {
            0 => Vec::new(),
            _ if path.exists() => read(path)?.into_iter().filter(|line| line.step <= step).collect(),
            _ => Vec::new(),
        };
        byol_model::file::write_atomic_with(path, |out| {
            kept.iter().try_for_each(|line| writeln!(out, "{}", serde_json::to_string(line)?))
        })?;
        let file = OpenOptions::new().append(true).open(path).map_err(Error::io("write", path))?;
        Ok((Self { path: path.into(), file }, kept))
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`Error::Io`] names the path.
    pub fn write(&mut self, line: &Line) -> Result<()> {
        let mut text = serde_json::to_string(line).map_err(|e| Error::io("write", &self.path)(e.into()))?;
        text.push('\n');
        self.file.write_all(text.as_bytes()).map_err(Error::io("write", &self.path))
    }
}

/// All lines of a file; a last line that a crash cut short is left out.
///
/// # Errors
/// [`Error::Io`] names the path.
pub fn read(path: &Path) -> Result<Vec<Line>> {
    let text = std::fs::read_to_string(path).map_err(Error::io("read", path))?;
    Ok(text.lines().map_while(|line| serde_json::from_str(line).ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_cut_back_to_the_step_that_is_resumed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("metrics.jsonl");
        let line =
            |step| Line::evaluation(&EvaluationReport { step, epoch: 0.5, knn: 0.7, k: 20, probe: None, pictures: 9 });
        let (mut metrics, _) = Metrics::open_with(&path, 0).unwrap();
        for step in 1..=5 {
            metrics.write(&line(step)).unwrap();
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(b"{\"step\": 6, \"epo").unwrap();
        let (mut metrics, kept) = Metrics::open_with(&path, 3).unwrap();
        assert_eq!(kept, [1, 2, 3].map(line));
        metrics.write(&line(4)).unwrap();
        let steps: Vec<usize> = read(&path).unwrap().iter().map(|line| line.step).collect();
        assert_eq!(steps, [1, 2, 3, 4]);
        Metrics::open_with(&path, 0).unwrap();
        assert!(read(&path).unwrap().is_empty());
    }
}
