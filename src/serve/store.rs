//! Features on their way to a file: kept on disk while they are made, so that memory does not grow with their number and
//! interrupted work goes on where it stopped.
//!
//! Beside the file `OUT` that is to be, three others live until it is there:
//! - `OUT.part`: one row of float32 per picture, in order, zeros for a bad one;
//! - `OUT.part.bad`: a JSON line for each bad picture, written before its row;
//! - `OUT.part.json`: what the work is (encoder, pictures, options), written first. Other work starts over.
//!
//! What counts as done are whole rows. [`Store::finish`] writes `OUT` whole or not at all, then removes the three. Nothing
//! that grows with the number of pictures is kept in memory, names and bad pictures neither: they are read again, and
//! written as they come.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
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

/// Bad pictures that are kept in memory, to be shown.
const SHOWN: usize = 100;
/// What readers of safetensors allow the head of a file.
const LONGEST_HEAD: u64 = 100_000_000;

/// Rows on disk.
#[derive(Debug)]
pub struct Store {
    out: PathBuf,
    work: Work,
    rows: BufWriter<File>,
    reports: File,
    bad: Vec<Bad>,
    bad_count: usize,
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
        let mut reports = open(&part_bad).map_err(io(&part_bad))?;
        // The last line may be cut off, or be of a picture whose row was not written any more.
        let (mut bad, mut bad_count, mut whole) = (Vec::new(), 0, 0);
        let mut lines = BadPictures::of(&part_bad)?;
        while let Some(next) = lines.next(done).map_err(io(&part_bad))? {
            (bad_count, whole) = (bad_count + 1, lines.read);
            if bad.len() < SHOWN {
                bad.push(next);
            }
        }
        reports.set_len(whole).map_err(io(&part_bad))?;
        reports.seek(SeekFrom::End(0)).map_err(io(&part_bad))?;
        Ok(Self { out: out.into(), work, rows: BufWriter::with_capacity(1 << 18, rows), reports, bad, bad_count, done })
    }

    /// Checks before the work whether its end can be written: the names of very many pictures do not fit into the head of
    /// a safetensors file, and not every precision into every format.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming `out`; [`Error::InvalidOption`] as from [`Store::finish`].
    pub fn check_room(out: &Path, dataset: &Dataset, precision: Precision) -> Result<()> {
        if check_precision(out, precision)? != Format::Safetensors {
            return Ok(());
        }
        let mut length = Length(0);
        names_twice_quoted(&mut length, dataset.names()).map_err(Error::io(out))?;
        room_for(out, length.0)
    }

    /// Pictures done, the bad ones included: where to go on.
    pub fn done(&self) -> usize {
        self.done
    }

    /// Number of bad pictures.
    pub fn bad_count(&self) -> usize {
        self.bad_count
    }

    /// The first of the bad pictures, at most 100.
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
                self.bad_count += 1;
                if self.bad.len() < SHOWN {
                    self.bad.push(bad);
                }
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
        let old = parts(&self.out);
        let good = self.done - self.bad_count;
        if good == 0 {
            return Err(Error::EmptyData { what: "pictures that can be used" });
        }
        let kind = check_precision(&self.out, precision)?;
        let labels = dataset.labels();
        let write_labels =
            |out: &mut dyn Write, labels: &[u32]| self.each_good(|index| out.write_all(&labels[index].to_le_bytes()));
        if let Some(path) = labels_too {
            let labels = labels.ok_or(Error::NoLabels)?;
            write_atomic_with(path, |out| {
                out.write_all(&npy::header("<u4", &[good]))?;
                write_labels(out, labels)
            })
            .map_err(written)?;
        }
        if kind == Format::Safetensors {
            let mut length = Length(0);
            self.head(&mut length, dataset, good, precision).map_err(Error::io(&self.out))?;
            room_for(&self.out, length.0)?;
        }
        let scale = if precision == Precision::I8 { self.scale()? } else { Vec::new() };
        write_atomic_with(&self.out, |out| {
            let mut rows = BufReader::with_capacity(1 << 18, File::open(&old[0])?);
            let mut row = vec![0; 4 * self.work.dimension];
            match kind {
                Format::Npy => {
                    let kind = if precision == Precision::F16 { "<f2" } else { "<f4" };
                    out.write_all(&npy::header(kind, &[good, self.work.dimension]))?;
                }
                Format::Safetensors => {
                    let mut length = Length(0);
                    self.head(&mut length, dataset, good, precision)?;
                    let padded = length.0.next_multiple_of(8);
                    out.write_all(&padded.to_le_bytes())?;
                    self.head(out, dataset, good, precision)?;
                    out.write_all(&b"       "[..(padded - length.0) as usize])?;
                }
                Format::Parquet => {
                    let (sha256, dimension) = (&self.work.encoder, self.work.dimension);
                    let mut table = FeatureTable::begin(out, sha256, dimension, labels.is_some(), dataset.classes())?;
                    let mut bad = BadPictures::of(&old[1]).map_err(io::Error::other)?;
                    for (index, name) in dataset.names().take(self.done).enumerate() {
                        rows.read_exact(&mut row)?;
                        if !bad.holds(index)? {
                            let values = row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
                            table.push(name, labels.map(|labels| labels[index]), values)?;
                        }
                    }
                    return table.finish();
                }
            }
            let mut bad = BadPictures::of(&old[1]).map_err(io::Error::other)?;
            for index in 0..self.done {
                rows.read_exact(&mut row)?;
                if !bad.holds(index)? {
                    precision.write(&row, &scale, out)?;
                }
            }
            if kind == Format::Safetensors {
                // In the order of the head: what takes four bytes stands at a multiple of them.
                out.write_all(&vec![0; padding(good * self.work.dimension * precision.bytes())])?;
                scale.iter().try_for_each(|step| out.write_all(&step.to_le_bytes()))?;
            }
            match labels.filter(|_| kind == Format::Safetensors) {
                Some(labels) => write_labels(out, labels),
                None => Ok(()),
            }
        })
        .map_err(written)?;
        old.iter().try_for_each(|old| remove(old))?;
        Ok(good)
    }

    /// The step of every column: its largest absolute value over 127.
    fn scale(&self) -> Result<Vec<f32>> {
        let [part, ..] = parts(&self.out);
        let io = || Error::io(&part);
        let mut rows = BufReader::with_capacity(1 << 18, File::open(&part).map_err(io())?);
        let mut row = vec![0; 4 * self.work.dimension];
        let mut most = vec![0f32; self.work.dimension];
        let mut next = 0;
        self.each_good(|index| {
            while next <= index {
                rows.read_exact(&mut row)?;
                next += 1;
            }
            let values = row.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes));
            most.iter_mut().zip(values).for_each(|(most, value)| *most = most.max(value.abs()));
            Ok(())
        })
        .map_err(io())?;
        Ok(most.into_iter().map(|most| most / 127.0).collect())
    }

    /// Calls `act` with the number of each picture that has features.
    fn each_good(&self, mut act: impl FnMut(usize) -> io::Result<()>) -> io::Result<()> {
        let mut bad = BadPictures::of(&parts(&self.out)[1]).map_err(io::Error::other)?;
        for index in 0..self.done {
            if !bad.holds(index)? {
                act(index)?;
            }
        }
        Ok(())
    }

    /// Writes the JSON head of a safetensors file as [`crate::features::Features`] reads it. Ours is a text inside.
    fn head(&self, out: &mut dyn Write, dataset: &Dataset, good: usize, precision: Precision) -> io::Result<()> {
        let classes = (!dataset.classes().is_empty()).then(|| dataset.classes());
        let before = serde_json::json!({
            "kind": "features", "format": 1, "encoder": self.work.encoder, "classes": classes,
        })
        .to_string();
        out.write_all(br#"{"__metadata__":{"byol":""#)?;
        Quoted(out).write_all(before.trim_end_matches('}').as_bytes())?;
        Quoted(out).write_all(br#","names":["#)?;
        let mut bad = BadPictures::of(&parts(&self.out)[1]).map_err(io::Error::other)?;
        let mut names = dataset.names().take(self.done).enumerate();
        let mut good_names = std::iter::from_fn(|| {
            names.by_ref().find_map(|(index, name)| match bad.holds(index) {
                Ok(true) => None,
                Ok(false) => Some(Ok(name)),
                Err(error) => Some(Err(error)),
            })
        });
        let mut failed = Ok(());
        let found = std::iter::from_fn(|| match good_names.next()? {
            Ok(name) => Some(name),
            Err(error) => {
                failed = Err(error);
                None
            }
        });
        names_twice_quoted(out, found)?;
        failed?;
        Quoted(out).write_all(b"]}")?;
        let dimension = self.work.dimension;
        let mut place = precision.bytes() * good * dimension;
        let dtype = match precision {
            Precision::F32 => "F32",
            Precision::F16 => "F16",
            Precision::I8 => "I8",
        };
        write!(out, r#""}},"features":{{"dtype":"{dtype}","shape":[{good},{dimension}],"data_offsets":[0,{place}]}}"#)?;
        let mut tensor = |name: &str, dtype: &str, len: usize, bytes: usize| {
            let end = place + bytes;
            let written =
                write!(out, r#","{name}":{{"dtype":"{dtype}","shape":[{len}],"data_offsets":[{place},{end}]}}"#);
            place = end;
            written
        };
        // A tensor may not leave a gap, so a filler has what the next needs to lie at a multiple of four bytes.
        let filler = padding(precision.bytes() * good * dimension);
        if filler > 0 {
            tensor("padding", "U8", filler, filler)?;
        }
        if precision == Precision::I8 {
            tensor("scale", "F32", dimension, 4 * dimension)?;
        }
        if dataset.labels().is_some() {
            tensor("labels", "U32", good, 4 * good)?;
        }
        out.write_all(b"}")
    }
}

/// Names as JSON texts between commas, the whole once more inside a JSON text.
fn names_twice_quoted(out: &mut dyn Write, names: impl Iterator<Item = String>) -> io::Result<()> {
    for (i, name) in names.enumerate() {
        let comma = if i > 0 { "," } else { "" };
        Quoted(out).write_all((comma.to_owned() + &serde_json::to_string(&name)?).as_bytes())?;
    }
    Ok(())
}

fn room_for(out: &Path, head: u64) -> Result<()> {
    if head <= LONGEST_HEAD {
        return Ok(());
    }
    let why = format!(
        "the names of all pictures take {head} bytes, and readers of safetensors allow a head of {LONGEST_HEAD}: write \
         .parquet, or parts (--shard)"
    );
    Err(Error::corrupt(out, why))
}

/// Escapes what is written for the inside of a JSON text. What comes is JSON itself, so it holds no control characters.
struct Quoted<'a>(&'a mut dyn Write);

impl Write for Quoted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for piece in bytes.split_inclusive(|b| matches!(b, b'"' | b'\\')) {
            match piece.split_last() {
                Some((&last @ (b'"' | b'\\'), rest)) => {
                    self.0.write_all(rest)?;
                    self.0.write_all(&[b'\\', last])?;
                }
                _ => self.0.write_all(piece)?,
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Counts what is written.
struct Length(u64);

impl Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The bad pictures out of their file, in the order of their numbers.
struct BadPictures {
    lines: Option<BufReader<File>>,
    /// Bytes of the lines that were read.
    read: u64,
    ahead: Option<usize>,
    line: String,
}

impl BadPictures {
    fn of(path: &Path) -> Result<Self> {
        let lines = match File::open(path) {
            Ok(file) => Some(BufReader::new(file)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => None,
            Err(e) => return Err(Error::io(path)(e)),
        };
        Ok(Self { lines, read: 0, ahead: None, line: String::new() })
    }

    /// The next one below `end`; `None` also where the file is cut off.
    fn next(&mut self, end: usize) -> io::Result<Option<Bad>> {
        let Some(lines) = &mut self.lines else { return Ok(None) };
        self.line.clear();
        let length = lines.read_line(&mut self.line)?;
        let bad =
            serde_json::from_str::<Bad>(&self.line).ok().filter(|bad| bad.index < end && self.line.ends_with('\n'));
        self.read += length as u64;
        Ok(bad)
    }

    /// Whether a picture is bad; to be asked in the order of the numbers.
    fn holds(&mut self, index: usize) -> io::Result<bool> {
        while self.ahead.is_none_or(|ahead| ahead < index) {
            match self.next(usize::MAX)? {
                Some(bad) => self.ahead = Some(bad.index),
                None => self.ahead = Some(usize::MAX),
            }
        }
        Ok(self.ahead == Some(index))
    }
}

/// The format of a file, if it can hold values of this type.
fn check_precision(out: &Path, precision: Precision) -> Result<Format> {
    let kind = format(out)?;
    let must = match (kind, precision) {
        (Format::Safetensors, _) | (_, Precision::F32) | (Format::Npy, Precision::F16) => return Ok(kind),
        (Format::Npy, Precision::I8) => "a .npy has no place for its scale; write a .safetensors",
        (Format::Parquet, _) => "a .parquet takes f32; write a .safetensors",
    };
    let value = if precision == Precision::F16 { "f16" } else { "i8" }.to_string();
    Err(Error::InvalidOption { option: "dtype", value, must })
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

#[derive(Clone, Copy, PartialEq, Eq)]
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
