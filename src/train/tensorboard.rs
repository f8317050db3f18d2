//! TensorBoard event files beside `metrics.jsonl`: the same figures, for `tensorboard --logdir RUN`.
//!
//! A file is a row of TFRecords (length, masked CRC-32C of it, an `Event` message, masked CRC-32C of that). Each start of
//! a run writes a file of its own that begins with the step it starts at, at which TensorBoard forgets what an
//! interrupted run had said beyond it.

use crate::error::{Error, Result};
use crate::metrics::Line;
use prost::Message;
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// What event files' names begin with.
const PREFIX: &str = "events.out.tfevents.";

/// An event file, open at its end.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// A new file in the folder, for steps after `step`.
    ///
    /// # Errors
    /// [`Error::Io`] names the path.
    pub fn create(folder: &Path, step: usize) -> Result<Self> {
        // Named by the second, as TensorBoard's own writers do, with a number where a second has several.
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
        let mut number = 0;
        let (path, file) = loop {
            let path = folder.join(format!("{PREFIX}{seconds:010}.byol.{number}"));
            match OpenOptions::new().append(true).create_new(true).open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => number += 1,
                opened => break (path.clone(), opened.map_err(Error::io("create", &path))?),
            }
        };
        let mut events = Self { path, file };
        events.write(&Event { file_version: Some("brain.Event:2".into()), ..Event::now(0) })?;
        if step > 0 {
            let start = SessionLog { status: SESSION_START };
            // TensorBoard drops what lies at this step and after.
            events.write(&Event { session_log: Some(start), ..Event::now(step + 1) })?;
        }
        Ok(events)
    }

    /// Adds a line of the metrics.
    ///
    /// # Errors
    /// [`Error::Io`] names the path.
    pub fn line(&mut self, line: &Line) -> Result<()> {
        let scalars = [
            ("train/loss", line.loss),
            ("train/learning_rate", line.learning_rate),
            ("train/tau", line.tau),
            ("train/images_per_second", line.images_per_second),
            ("embeddings/spread", line.embedding_std),
            ("embeddings/cosine", line.cosine),
            ("embeddings/effective_rank", line.effective_rank),
            ("evaluation/knn", line.knn),
            ("evaluation/probe", line.probe),
        ];
        let value = |(tag, value): (&str, Option<f64>)| Some(Scalar { tag: tag.into(), value: value? as f32 });
        let summary = Summary { value: scalars.into_iter().filter_map(value).collect() };
        self.write(&Event { summary: Some(summary), ..Event::now(line.step) })
    }

    fn write(&mut self, event: &Event) -> Result<()> {
        self.file.write_all(&record(&event.encode_to_vec())).map_err(Error::io("write", &self.path))
    }
}

/// Removes a folder's event files, those of a run that is overwritten.
///
/// # Errors
/// [`Error::Io`] names the path.
pub fn clear(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io("read", folder))? {
        let path = entry.map_err(Error::io("read", folder))?.path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX)) {
            std::fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

/// TFRecord's frame around some bytes.
fn record(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    out.extend(length);
    out.extend(masked(&length));
    out.extend(bytes);
    out.extend(masked(bytes));
    out
}

/// CRC-32C, turned by 15 bits and moved by a constant, so that a checksum over bytes that hold checksums stays good.
fn masked(bytes: &[u8]) -> [u8; 4] {
    crc32c::crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8).to_le_bytes()
}

/// `SessionLog.SessionStatus.START`.
const SESSION_START: i32 = 1;

// As far as scalars need them; field numbers are those of tensorflow/core/util/event.proto and summary.proto.

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = 1)]
    wall_time: f64,
    #[prost(int64, tag = 2)]
    step: i64,
    #[prost(string, optional, tag = 3)]
    file_version: Option<String>,
    #[prost(message, optional, tag = 5)]
    summary: Option<Summary>,
    #[prost(message, optional, tag = 7)]
    session_log: Option<SessionLog>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = 1)]
    value: Vec<Scalar>,
}

#[derive(Clone, PartialEq, Message)]
struct Scalar {
    #[prost(string, tag = 1)]
    tag: String,
    #[prost(float, tag = 2)]
    value: f32,
}

#[derive(Clone, PartialEq, Message)]
struct SessionLog {
    #[prost(int32, tag = 1)]
    status: i32,
}

impl Event {
    /// An empty event of this moment.
    fn now(step: usize) -> Self {
        let wall_time = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64());
        Self { wall_time, step: step as i64, file_version: None, summary: None, session_log: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_masked_as_tensorflow_does() {
        // CRC-32C's check value, for "123456789", is e3069283.
        assert_eq!(crc32c::crc32c(b"123456789"), 0xe306_9283);
        // Turned and moved by hand, in Python.
        assert_eq!(masked(b"123456789"), 0xc78a_b0e5_u32.to_le_bytes());
    }

    #[test]
    fn a_file_holds_its_version_its_start_and_the_scalars() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = EventFile::create(folder.path(), 0).unwrap();
        let line = Line { step: 3, epoch: 0.1, loss: Some(2.5), ..Line::default() };
        first.line(&line).unwrap();
        let second = EventFile::create(folder.path(), 3).unwrap();
        assert_ne!(first.path, second.path);
        let events = |path: &Path| {
            let bytes = std::fs::read(path).unwrap();
            let mut events = Vec::new();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let length = u64::from_le_bytes(rest[..8].try_into().unwrap()) as usize;
                assert_eq!(rest[8..12], masked(&rest[..8]));
                let body = &rest[12..12 + length];
                assert_eq!(rest[12 + length..16 + length], masked(body));
                events.push(Event::decode(body).unwrap());
                rest = &rest[16 + length..];
            }
            events
        };
        let [version, scalars] = &events(&first.path)[..] else { panic!() };
        assert_eq!(version.file_version.as_deref(), Some("brain.Event:2"));
        assert_eq!(scalars.step, 3);
        assert_eq!(scalars.summary.as_ref().unwrap().value, [Scalar { tag: "train/loss".into(), value: 2.5 }]);
        let [_, start] = &events(&second.path)[..] else { panic!() };
        assert_eq!((start.step, start.session_log.as_ref().unwrap().status), (4, SESSION_START));
        clear(folder.path()).unwrap();
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
