//! Features on their way to a file: kept on disk while they are made, so that memory does not grow with their number and
//! interrupted work goes on where it stopped.
//!
//! Beside the file `OUT` that is to be, three others live until it is there:
//! - `OUT.part`: one row of float32 per picture, in order, zeros for a bad one;
//! - `OUT.part.bad`: a JSON line for each bad picture, written before its row;
//! - `OUT.part.json`: what the work is (encoder, pictures, options), written first. Other work starts over.
//!
//! What counts as done are whole rows. [`Store::finish`] writes `OUT` whole or not at all, then removes the three.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use byol_model::dataset::Dataset;
use byol_model::file::write_atomic_with;
use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::feature_table::FeatureTable;
use crate::npy;

/// The type that a file's values have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// As the encoder gives them.
    #[default]
    F32,
    /// Half the bytes: each value to 1 in 2,048 (or to 6e-8, where it is below 6e-5).
    F16,
    /// A quarter of the bytes: every column in 254 steps of its largest absolute value over 127, which the tensor
    /// `scale` holds.
    I8,
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(name: &str) -> std::result::Result<Self, String> {
        match name {
            "f32" => Ok(Self::F32),
            "f16" => Ok(Self::F16),
            "i8" => Ok(Self::I8),
            _ => Err("it must be f32, f16 or i8".into()),
        }
    }
}

impl Precision {
    /// Bytes of a value.
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8 => 1,
        }
    }

    /// A row as the file holds it; an error is the value that has no such form.
    fn write(self, row: &[u8], scale: &[f32], out: &mut dyn Write) -> io::Result<()> {
        let values = || row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
        match self {
            Self::F32 => out.write_all(row),
            Self::F16 => values().try_for_each(|value| match f16::from_f32(value) {
                half if half.is_finite() => out.write_all(&half.to_le_bytes()),
                _ => Err(io::Error::other(format!("a feature is {value}; float16 ends at 65504, keep f32 or i8"))),
            }),
            Self::I8 => values().zip(scale).try_for_each(|(value, step)| {
                let count = if *step > 0.0 { (value / step).round().clamp(-127.0, 127.0) } else { 0.0 };
                out.write_all(&[(count as i8).cast_unsigned()])
            }),
        }
    }
}

/// What is extracted: the same work goes on, other work starts over.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Work {
    /// SHA-256 of the encoder file.
    pub encoder: String,
    /// Features of a picture.
    pub dimension: usize,
    /// Number of pictures.
    pub pictures: usize,
    /// [`Dataset::fingerprint`].
    pub fingerprint: String,
}

/// A picture without features.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bad {
    /// Its index in the data set.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub error: String,
}

/// Rows on disk.
#[derive(Debug)]
pub struct Store {
    out: PathBuf,
    work: Work,
    rows: BufWriter<File>,
    reports: File,
    bad: Vec<Bad>,
    done: usize,
}

impl Store {
    /// Begins, or goes on with, the work that ends in the file `out` (`.npy`, `.safetensors` or `.parquet`).
    ///
    /// # Errors
    /// [`Error::Corrupt`] for another extension, [`Error::Io`].
    pub fn open(out: &Path, work: Work) -> Result<Self> {
        format(out)?;
        let [part, part_bad, part_json] = parts(out);
        let io = |path: &Path| Error::io(path.to_path_buf());
        let found = fs::read(&part_json).ok().and_then(|bytes| serde_json::from_slice::<Work>(&bytes).ok());
        if found.as_ref() != Some(&work) {
            for old in [&part_json, &part, &part_bad] {
                remove(old)?;
            }
            let text = serde_json::to_vec(&work).map_err(|e| Error::corrupt(&part_json, e.to_string()))?;
            crate::atomic::write(&part_json, &[&text])?;
        }
        let open = |path: &Path| OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let mut rows = open(&part).map_err(io(&part))?;
        let row = (4 * work.dimension) as u64;
        let done = ((rows.metadata().map_err(io(&part))?.len() / row) as usize).min(work.pictures);
        rows.set_len(done as u64 * row).map_err(io(&part))?;
        rows.seek(SeekFrom::End(0)).map_err(io(&part))?;
        let text = fs::read_to_string(&part_bad).unwrap_or_default();
        // The last line may be cut off; then its row was not written either.
        let lines = text.lines().filter_map(|line| serde_json::from_str::<Bad>(line).ok());
        let bad: Vec<Bad> = lines.filter(|bad| bad.index < done).collect();
        let mut reports = open(&part_bad).map_err(io(&part_bad))?;
        reports.set_len(0).map_err(io(&part_bad))?;
        for bad in &bad {
            report(&mut reports, bad).map_err(io(&part_bad))?;
        }
        Ok(Self { out: out.into(), work, rows: BufWriter::with_capacity(1 << 18, rows), reports, bad, done })
    }

    /// Pictures done, the bad ones included: where to go on.
    pub fn done(&self) -> usize {
        self.done
    }

    /// The bad pictures.
    pub fn bad(&self) -> &[Bad] {
        &self.bad
    }

    /// Adds the next picture: its features, or why there are none.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::DimensionMismatch`].
    pub fn push(&mut self, name: impl FnOnce() -> String, row: Result<&[f32]>) -> Result<()> {
        let [part, part_bad, _] = parts(&self.out);
        let zeros;
        let row = match row {
            Ok(row) => row,
            Err(error) => {
                let bad = Bad { index: self.done, name: name(), error: error.to_string() };
                report(&mut self.reports, &bad).map_err(Error::io(&part_bad))?;
                self.bad.push(bad);
                zeros = vec![0.0; self.work.dimension];
                &zeros
            }
        };
        if row.len() != self.work.dimension {
            let (expected, found) = (self.work.dimension, row.len());
            return Err(Error::DimensionMismatch { what: "features of a picture", expected, found });
        }
        row.iter().try_for_each(|v| self.rows.write_all(&v.to_le_bytes())).map_err(Error::io(&part))?;
        self.done += 1;
        Ok(())
    }

    /// Puts on disk what is done.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn flush(&mut self) -> Result<()> {
        let [part, ..] = parts(&self.out);
        self.rows.flush().map_err(Error::io(&part))
    }

    /// Writes the file and removes what was kept until then; gives the number of its rows.
    ///
    /// # Errors
    /// [`Error::EmptyData`] if no picture could be used; [`Error::InvalidOption`] for a precision that the file's format
    /// cannot hold (Parquet takes float32, `.npy` no int8, for want of a place for its scale); [`Error::Io`], also for a
    /// value too large for float16.
    pub fn finish(mut self, dataset: &Dataset, labels_too: Option<&Path>, precision: Precision) -> Result<usize> {
        self.flush()?;
        let [part, part_bad, part_json] = parts(&self.out);
        let bad: BTreeSet<usize> = self.bad.iter().map(|bad| bad.index).collect();
        let good: Vec<usize> = (0..self.done).filter(|index| !bad.contains(index)).collect();
        if good.is_empty() {
            return Err(Error::EmptyData { what: "pictures that can be used" });
        }
        let unfit = match (format(&self.out)?, precision) {
            (Format::Safetensors, _) | (_, Precision::F32) | (Format::Npy, Precision::F16) => None,
            (Format::Npy, Precision::I8) => Some("a .npy has no place for its scale; write a .safetensors"),
            (Format::Parquet, _) => Some("a .parquet takes f32; write a .safetensors"),
        };
        if let Some(must) = unfit {
            let value = if precision == Precision::F16 { "f16" } else { "i8" }.to_string();
            return Err(Error::InvalidOption { option: "dtype", value, must });
        }
        let labels: Option<Vec<u32>> = dataset.labels().map(|labels| good.iter().map(|&index| labels[index]).collect());
        if let Some(path) = labels_too {
            npy::write_u32(path, labels.as_deref().ok_or(Error::NoLabels)?)?;
        }
        let head = match format(&self.out)? {
            Format::Npy => {
                let kind = if precision == Precision::F16 { "<f2" } else { "<f4" };
                npy::header(kind, &[good.len(), self.work.dimension])
            }
            Format::Safetensors => self.header(dataset, &good, labels.as_deref(), precision)?,
            Format::Parquet => return self.finish_table(dataset, &bad, &good, labels.as_deref()),
        };
        let size = 4 * self.work.dimension;
        let scale = if precision == Precision::I8 { self.scale(&bad)? } else { Vec::new() };
        write_atomic_with(&self.out, |out| {
            out.write_all(&head)?;
            let mut rows = BufReader::with_capacity(1 << 18, File::open(&part)?);
            let mut row = vec![0; size];
            for index in 0..self.done {
                rows.read_exact(&mut row)?;
                if !bad.contains(&index) {
                    precision.write(&row, &scale, out)?;
                }
            }
            // In the order of the header: what takes four bytes stands at a multiple of them.
            out.write_all(&vec![0; padding(good.len() * self.work.dimension * precision.bytes())])?;
            scale.iter().try_for_each(|step| out.write_all(&step.to_le_bytes()))?;
            if let (Format::Safetensors, Some(labels)) = (format(&self.out).map_err(io::Error::other)?, &labels) {
                labels.iter().try_for_each(|label| out.write_all(&label.to_le_bytes()))?;
            }
            Ok(())
        })
        .map_err(written)?;
        for old in [&part, &part_bad, &part_json] {
            remove(old)?;
        }
        Ok(good.len())
    }

    /// The step of every column: its largest absolute value over 127.
    fn scale(&self, bad: &BTreeSet<usize>) -> Result<Vec<f32>> {
        let [part, ..] = parts(&self.out);
        let io = || Error::io(&part);
        let mut rows = BufReader::with_capacity(1 << 18, File::open(&part).map_err(io())?);
        let mut row = vec![0; 4 * self.work.dimension];
        let mut most = vec![0f32; self.work.dimension];
        for index in 0..self.done {
            rows.read_exact(&mut row).map_err(io())?;
            if !bad.contains(&index) {
                let values = row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                most.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(value.abs()));
            }
        }
        Ok(most.into_iter().map(|most| most / 127.0).collect())
    }

    /// As [`Store::finish`], into a Parquet file.
    fn finish_table(
        self,
        dataset: &Dataset,
        bad: &BTreeSet<usize>,
        good: &[usize],
        labels: Option<&[u32]>,
    ) -> Result<usize> {
        let old = parts(&self.out);
        write_atomic_with(&self.out, |out| {
            let mut rows = BufReader::with_capacity(1 << 18, File::open(&old[0])?);
            let mut row = vec![0; 4 * self.work.dimension];
            let mut table =
                FeatureTable::begin(out, &self.work.encoder, self.work.dimension, labels.is_some(), dataset.classes())?;
            let mut written = 0;
            for index in 0..self.done {
                rows.read_exact(&mut row)?;
                if !bad.contains(&index) {
                    let values = row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                    table.push(dataset.name(index), labels.map(|labels| labels[written]), values)?;
                    written += 1;
                }
            }
            table.finish()
        })
        .map_err(written)?;
        old.iter().try_for_each(|old| remove(old))?;
        Ok(good.len())
    }

    /// The head of a safetensors file as [`crate::features::Features`] reads it: length, JSON, padding.
    fn header(
        &self,
        dataset: &Dataset,
        good: &[usize],
        labels: Option<&[u32]>,
        precision: Precision,
    ) -> Result<Vec<u8>> {
        let names: Vec<String> = good.iter().map(|&index| dataset.name(index)).collect();
        let classes = (!dataset.classes().is_empty()).then(|| dataset.classes());
        let ours = serde_json::json!({
            "kind": "features", "format": 1, "encoder": self.work.encoder, "classes": classes, "names": names,
        });
        let values = precision.bytes() * good.len() * self.work.dimension;
        let dtype = match precision {
            Precision::F32 => "F32",
            Precision::F16 => "F16",
            Precision::I8 => "I8",
        };
        let mut header = serde_json::json!({
            "__metadata__": { "byol": ours.to_string() },
            "features": {
                "dtype": dtype, "shape": [good.len(), self.work.dimension], "data_offsets": [0, values],
            },
        });
        let mut place = values;
        // A tensor may not leave a gap, so a filler has what the next needs to lie at a multiple of four bytes.
        if padding(values) > 0 {
            let end = place + padding(values);
            header["padding"] =
                serde_json::json!({ "dtype": "U8", "shape": [end - place], "data_offsets": [place, end] });
            place = end;
        }
        if precision == Precision::I8 {
            let end = place + 4 * self.work.dimension;
            header["scale"] =
                serde_json::json!({ "dtype": "F32", "shape": [self.work.dimension], "data_offsets": [place, end] });
            place = end;
        }
        if let Some(labels) = labels {
            let end = place + 4 * labels.len();
            header["labels"] =
                serde_json::json!({ "dtype": "U32", "shape": [labels.len()], "data_offsets": [place, end] });
        }
        let mut text = serde_json::to_vec(&header).map_err(|e| Error::corrupt(&self.out, e.to_string()))?;
        text.resize(text.len().next_multiple_of(8), b' ');
        let mut head = (text.len() as u64).to_le_bytes().to_vec();
        head.append(&mut text);
        Ok(head)
    }
}

fn padding(bytes: usize) -> usize {
    bytes.next_multiple_of(4) - bytes
}

fn written(error: byol_model::Error) -> Error {
    match error {
        byol_model::Error::Io { path, source, .. } => Error::Io { path, source },
        other => other.into(),
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Format {
    Npy,
    Safetensors,
    Parquet,
}

fn format(out: &Path) -> Result<Format> {
    match out.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(Format::Npy),
        Some("safetensors") => Ok(Format::Safetensors),
        Some("parquet") => Ok(Format::Parquet),
        _ => {
            Err(Error::corrupt(out, "features are kept as .safetensors, .npy or .parquet; the name has none of these"))
        }
    }
}

/// The files that live beside `out` until it is there: rows, bad pictures, work.
fn parts(out: &Path) -> [PathBuf; 3] {
    [".part", ".part.bad", ".part.json"].map(|ending| {
        let mut name = out.as_os_str().to_owned();
        name.push(ending);
        name.into()
    })
}

fn report(file: &mut File, bad: &Bad) -> io::Result<()> {
    file.write_all((serde_json::to_string(bad)? + "\n").as_bytes())
}

fn remove(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io(path)(error)),
        _ => Ok(()),
    }
}
