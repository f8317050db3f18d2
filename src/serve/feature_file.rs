//! Features that stay in their file: rows are read in blocks when they are needed, so that memory does not grow with
//! their number. For features larger than memory, or than what a host wants to spend.
//!
//! A `.npy` in C order or a `.safetensors` of [`crate::features`], in float32, float16 or int8; what is not float32
//! becomes so block by block. Int8 counts steps: of the tensor `scale`, one step per column, where a safetensors file
//! has it, and of 1 elsewhere.
//!
//! Blocks are read at their place (`pread`), not mapped into memory: a file that is cut off while it is mapped ends the
//! process with a signal, which no library may do to its host; read, it is an error that names the file. The system's
//! page cache serves both; docs/results.md has what the copy costs.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use safetensors::Dtype;
use safetensors::tensor::{Metadata, TensorInfo};

use crate::error::{Error, Result};
use crate::features::{self, Header};
use crate::{atomic, npy};

/// Most bytes of a header of a safetensors file, as its format says.
const HEADER: u64 = 100_000_000;

/// Features in a file, open for reading.
#[derive(Debug)]
pub struct FeatureFile {
    /// One per row, where they are known.
    pub labels: Option<Vec<u32>>,
    /// Names of the classes that labels count.
    pub classes: Option<Vec<String>>,
    /// One per row: the path of its picture, or any other name.
    pub names: Option<Vec<String>>,
    /// SHA-256 (hex) of the encoder file that made the features.
    pub encoder: Option<String>,
    path: PathBuf,
    file: File,
    /// Size and time of the last change when it was opened.
    stamp: (u64, Option<SystemTime>),
    offset: u64,
    rows: usize,
    columns: usize,
    values: Values,
}

/// A small tensor: its type, shape and bytes.
type Tensor = (Dtype, Vec<usize>, Vec<u8>);

/// How values lie in the file.
#[derive(Debug)]
enum Values {
    F32,
    F16,
    /// Steps of so much, one per column; 1 where there are none.
    I8(Vec<f32>),
}

impl Values {
    fn bytes(&self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
            Self::I8(_) => 1,
        }
    }
}

impl FeatureFile {
    /// Opens a file and reads all but its values.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] naming file and tensor, also for a `.npy` whose values cannot be read in blocks
    /// (Fortran order, other types than float32, float16 and int8; [`crate::features::Features::load`] reads those);
    /// [`Error::NewerFormat`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let file = atomic::open(path)?;
        let size = file.metadata().map_err(Error::io(path))?.len();
        let found = match features::kind(path)? {
            features::Kind::Npy => Self::open_npy(path, file, size)?,
            features::Kind::Safetensors => Self::open_safetensors(path, file, size)?,
        };
        Ok(Self { stamp: found.stamp()?, ..found })
    }

    fn open_npy(path: &Path, file: File, size: u64) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt(path, why);
        let mut head = vec![0; size.min(1 << 16) as usize];
        read_at(&file, &mut head, 0).map_err(Error::io(path))?;
        let header = npy::parse_header(&head).map_err(corrupt)?;
        let [rows, columns] = header.shape[..] else {
            let why = format!("features have two dimensions [rows, columns], found shape {:?}", header.shape);
            return Err(corrupt(why));
        };
        let values = match header.kind.as_str() {
            "<f4" => Values::F32,
            "<f2" => Values::F16,
            "|i1" => Values::I8(Vec::new()),
            other => {
                return Err(corrupt(format!("values of type {other} are not read in blocks; <f4, <f2 and |i1 are")));
            }
        };
        if header.fortran && rows > 1 && columns > 1 {
            let why = "Fortran order cannot be read in blocks of rows: save numpy.ascontiguousarray of it";
            return Err(corrupt(why.into()));
        }
        let offset = header.start as u64;
        let needed = needed(rows, columns, values.bytes()).and_then(|bytes| bytes.checked_add(offset));
        if needed != Some(size) {
            let why = format!("shape [{rows}, {columns}] of {} does not fit the file's {size} bytes", header.kind);
            return Err(corrupt(why));
        }
        let stamp = (size, None);
        let (labels, classes, names, encoder) = (None, None, None, None);
        Ok(Self { labels, classes, names, encoder, path: path.into(), file, stamp, offset, rows, columns, values })
    }

    fn open_safetensors(path: &Path, file: File, size: u64) -> Result<Self> {
        let corrupt = |why: String| Error::corrupt(path, why);
        let io = || Error::io(path);
        let mut length = [0; 8];
        read_at(&file, &mut length, 0)
            .map_err(|_| corrupt("not a safetensors file: shorter than its header".into()))?;
        let length = u64::from_le_bytes(length);
        if length > HEADER || length > size.saturating_sub(8) {
            return Err(corrupt(format!("not a safetensors file: a header of {length} bytes in {size}")));
        }
        let mut text = vec![0; length as usize];
        read_at(&file, &mut text, 8).map_err(io())?;
        let metadata: Metadata =
            serde_json::from_slice(&text).map_err(|why| corrupt(format!("not a safetensors file: {why}")))?;
        let header: Header = features::header(path, &metadata, "features", features::FORMAT)?;
        let start = 8 + length;
        // Where a tensor's bytes are, checked against its shape and the file.
        let place = |name: &str, info: &TensorInfo, width: usize| {
            let (first, last) = (info.data_offsets.0 as u64, info.data_offsets.1 as u64);
            let count = info.shape.iter().try_fold(width as u64, |bytes, &size| bytes.checked_mul(size as u64));
            match count {
                Some(bytes) if last.checked_sub(first) == Some(bytes) && last <= size - start => Ok(start + first),
                _ => Err(corrupt(format!("tensor {name}: {:?} does not fit the file's {size} bytes", info.shape))),
            }
        };
        let read = |name: &str, width: usize| -> Result<Option<Tensor>> {
            let Some(info) = metadata.info(name) else { return Ok(None) };
            if info.dtype.bitsize() != 8 * width {
                return Err(corrupt(format!("tensor {name}: {:?}, expected {width} bytes a value", info.dtype)));
            }
            let at = place(name, info, width)?;
            let mut bytes = vec![0; info.data_offsets.1 - info.data_offsets.0];
            read_at(&file, &mut bytes, at).map_err(io())?;
            Ok(Some((info.dtype, info.shape.clone(), bytes)))
        };
        let info = metadata.info("features").ok_or_else(|| corrupt("no tensor features".into()))?;
        let [rows, columns] = info.shape[..] else {
            return Err(corrupt(format!("tensor features: shape {:?}, expected [rows, columns]", info.shape)));
        };
        let values = match info.dtype {
            Dtype::F32 => Values::F32,
            Dtype::F16 => Values::F16,
            Dtype::I8 => {
                let found = read("scale", 4)?
                    .map(|(dtype, shape, bytes)| features::scale(path, dtype, &shape, &bytes, columns));
                Values::I8(found.transpose()?.unwrap_or_default())
            }
            other => return Err(corrupt(format!("tensor features: {other:?}; F32, F16 and I8 are read"))),
        };
        let offset = place("features", info, values.bytes())?;
        let labels = read("labels", 4)?
            .map(|(dtype, shape, bytes)| match dtype == Dtype::U32 && shape == [rows] {
                true => Ok(bytes.as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect()),
                false => Err(corrupt(format!("tensor labels: {dtype:?} {shape:?}, expected U32 [{rows}]"))),
            })
            .transpose()?;
        let Header { classes, names, encoder, .. } = header;
        if let Some(names) = names.as_ref().filter(|names| names.len() != rows) {
            return Err(corrupt(format!("{} names for {rows} rows", names.len())));
        }
        let stamp = (size, None);
        Ok(Self { labels, classes, names, encoder, path: path.into(), file, stamp, offset, rows, columns, values })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Number of columns.
    pub fn dimensions(&self) -> usize {
        self.columns
    }

    /// The labels.
    ///
    /// # Errors
    /// [`Error::NoLabels`] without any, [`Error::LabelMismatch`] if there are not as many as rows.
    pub fn labels(&self) -> Result<&[u32]> {
        features::one_per_row(self.labels.as_deref(), self.rows)
    }

    /// As [`crate::features::Features::class_count`].
    pub fn class_count(&self) -> usize {
        features::class_count(self.labels.as_deref(), self.classes.as_deref())
    }

    /// Reads rows `first..last` as float32.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file, also if it has become shorter.
    ///
    /// # Panics
    /// If there are no such rows.
    pub fn read(&self, first: usize, last: usize, to: &mut Vec<f32>) -> Result<()> {
        assert!(first <= last && last <= self.rows, "rows {first} to {last} of {}", self.rows);
        to.clear();
        to.resize((last - first) * self.columns, 0.0);
        self.read_into(first, to)
    }

    /// Reads as many rows as fit, from `first` on.
    pub(crate) fn read_into(&self, first: usize, to: &mut [f32]) -> Result<()> {
        let at = self.offset + (first * self.columns * self.values.bytes()) as u64;
        let io = || Error::io(&self.path);
        match &self.values {
            Values::F32 => {
                let bytes: &mut [u8] = bytemuck::cast_slice_mut(to);
                read_at(&self.file, bytes, at).map_err(io())?;
                if cfg!(target_endian = "big") {
                    to.iter_mut().for_each(|v| *v = f32::from_bits(v.to_bits().swap_bytes()));
                }
            }
            // Through a buffer on the stack: blocks are read often, and by many threads.
            Values::F16 => self.through::<u16>(to, at, |from, to, _| {
                from.iter_mut().for_each(|v| *v = u16::from_le(*v));
                from.reinterpret_cast::<f16>().convert_to_f32_slice(to);
            })?,
            Values::I8(scale) => self.through::<i8>(to, at, |from, to, place| match scale[..] {
                [] => to.iter_mut().zip(from).for_each(|(to, from)| *to = f32::from(*from)),
                _ => {
                    let steps = scale.iter().cycle().skip(place % self.columns);
                    to.iter_mut().zip(from).zip(steps).for_each(|((to, from), step)| *to = f32::from(*from) * step);
                }
            })?,
        }
        Ok(())
    }

    /// Reads values of another type piece by piece; `turn` gets a piece, where it goes, and its place.
    fn through<T: bytemuck::Pod>(
        &self,
        to: &mut [f32],
        at: u64,
        turn: impl Fn(&mut [T], &mut [f32], usize),
    ) -> Result<()> {
        const PIECE: usize = 4096;
        let mut buffer = [T::zeroed(); PIECE];
        for (piece, to) in to.chunks_mut(PIECE).enumerate() {
            let buffer = &mut buffer[..to.len()];
            let place = piece * PIECE;
            read_at(&self.file, bytemuck::cast_slice_mut(buffer), at + (place * size_of::<T>()) as u64)
                .map_err(Error::io(&self.path))?;
            turn(buffer, to, place);
        }
        Ok(())
    }

    /// Checks that nobody has written to the file since it was opened. What was computed from it would be worth nothing.
    ///
    /// # Errors
    /// [`Error::Corrupt`] naming the file; [`Error::Io`].
    pub fn unchanged(&self) -> Result<()> {
        match self.stamp()? == self.stamp {
            true => Ok(()),
            false => Err(Error::corrupt(&self.path, "it was changed while it was read; start again")),
        }
    }

    fn stamp(&self) -> Result<(u64, Option<SystemTime>)> {
        let metadata = self.file.metadata().map_err(Error::io(&self.path))?;
        Ok((metadata.len(), metadata.modified().ok()))
    }
}

fn needed(rows: usize, columns: usize, width: usize) -> Option<u64> {
    (rows as u64).checked_mul(columns as u64)?.checked_mul(width as u64)
}

#[cfg(unix)]
fn read_at(file: &File, to: &mut [u8], at: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, to, at)
}

#[cfg(windows)]
fn read_at(file: &File, mut to: &mut [u8], mut at: u64) -> io::Result<()> {
    while !to.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, to, at)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => (to, at) = (&mut to[read..], at + read as u64),
        }
    }
    Ok(())
}
