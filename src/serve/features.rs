//! Features: one row of numbers per picture, what an encoder gives and a head takes.
//!
//! In files they are safetensors (everything) or `.npy` (the values alone; labels in an `.npy` of their own, so that
//! NumPy and scikit-learn read both). The extension decides. Files are written whole or not at all. Values may also be kept
//! in float16, or in int8 that counts steps of the tensor `scale`, one per column ([`crate::store`] writes those).
//!
//! Here they are in memory; [`crate::feature_file`] leaves them in their file.

use std::borrow::Cow;
use std::path::Path;

use half::f16;
use ndarray::{Array2, ArrayView2, Axis};
use safetensors::tensor::{Metadata, TensorView};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::feature_file::FeatureFile;
use crate::problem::check_labels;
use crate::{atomic, npy};

/// Rows of features, with what is known about each row.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Features {
    /// `[rows, columns]`.
    pub values: Array2<f32>,
    /// One per row: index into `classes`.
    pub labels: Option<Vec<u32>>,
    /// One per row: the path of its picture, or any other name.
    pub names: Option<Vec<String>>,
    /// Names of the classes that labels count.
    pub classes: Option<Vec<String>>,
    /// SHA-256 (hex) of the encoder file that made the features.
    pub encoder: Option<String>,
}

/// The newest format of features files that this version reads, and the one it writes.
pub(crate) const FORMAT: u32 = 1;

/// What the safetensors header holds beside the tensors, as JSON under the one key `byol`. One key, because a header's
/// keys come in random order and the same features should give the same file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Header {
    pub kind: String,
    pub format: u32,
    pub encoder: Option<String>,
    pub classes: Option<Vec<String>>,
    pub names: Option<Vec<String>>,
}

impl Features {
    /// Features and labels, nothing else.
    pub fn labelled(values: Array2<f32>, labels: Vec<u32>) -> Self {
        Self { values, labels: Some(labels), ..Self::default() }
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.values.nrows()
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Number of columns.
    pub fn dimensions(&self) -> usize {
        self.values.ncols()
    }

    /// The labels.
    ///
    /// # Errors
    /// [`Error::NoLabels`] without any, [`Error::LabelMismatch`] if there are not as many as rows.
    pub fn labels(&self) -> Result<&[u32]> {
        one_per_row(self.labels.as_deref(), self.len())
    }

    /// How many classes there are: as many as have names, or as the largest label tells.
    pub fn class_count(&self) -> usize {
        class_count(self.labels.as_deref(), self.classes.as_deref())
    }

    /// The name of a class: as given, or its number.
    pub fn class_name(&self, label: usize) -> String {
        class_name(self.classes.as_deref(), label)
    }

    /// Names the classes that labels count, in place of what they were called before; an empty list names none.
    ///
    /// # Errors
    /// [`Error::LabelOutside`] for a label that would have no name; nothing changes then.
    pub fn set_classes(&mut self, names: Vec<String>) -> Result<()> {
        if !names.is_empty() {
            check_labels(self.labels.as_deref().unwrap_or_default(), names.len())?;
        }
        self.classes = Some(names).filter(|names| !names.is_empty());
        Ok(())
    }

    /// A copy, whose values' memory may be refused.
    ///
    /// # Errors
    /// [`Error::NoMemory`].
    pub fn try_clone(&self) -> Result<Self> {
        let mut values = Vec::new();
        let bytes = self.values.len().saturating_mul(size_of::<f32>());
        values.try_reserve_exact(self.values.len()).map_err(|_| Error::NoMemory { bytes })?;
        values.extend(self.values.iter());
        let (expected, found) = (self.values.len(), values.len());
        let wrong = |_| Error::DimensionMismatch { what: "values of the features", expected, found };
        let values = Array2::from_shape_vec(self.values.dim(), values).map_err(wrong)?;
        let (labels, names) = (self.labels.clone(), self.names.clone());
        Ok(Self { values, labels, names, classes: self.classes.clone(), encoder: self.encoder.clone() })
    }

    /// The rows at these indices, in this order, with their labels and names.
    ///
    /// # Panics
    /// If an index is not a row.
    pub fn select(&self, rows: &[usize]) -> Self {
        Self {
            values: self.values.select(Axis(0), rows),
            labels: self.labels.as_ref().map(|labels| rows.iter().map(|&row| labels[row]).collect()),
            names: self.names.as_ref().map(|names| rows.iter().map(|&row| names[row].clone()).collect()),
            classes: self.classes.clone(),
            encoder: self.encoder.clone(),
        }
    }

    /// Adds rows behind the last; none are added unless all of this succeeds. Either all rows have labels, or none has;
    /// so for names. The first rows decide.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for rows of another length, or names that are not one per row;
    /// [`Error::LabelMismatch`] for labels that are not one per row; [`Error::NoLabels`] where they are missing;
    /// [`Error::InvalidOption`] where rows before have no labels or names; [`Error::NonFinite`]; [`Error::NoMemory`].
    pub fn append(&mut self, values: ArrayView2<f32>, labels: Option<&[u32]>, names: Option<&[String]>) -> Result<()> {
        let (rows, old) = (values.nrows(), self.len());
        if values.ncols() != self.dimensions() {
            let (expected, found) = (self.dimensions(), values.ncols());
            return Err(Error::DimensionMismatch { what: "columns of rows to add", expected, found });
        }
        if let Some(labels) = labels.filter(|labels| labels.len() != rows) {
            return Err(Error::LabelMismatch { features: rows, labels: labels.len() });
        }
        if let Some(names) = names.filter(|names| names.len() != rows) {
            return Err(Error::DimensionMismatch { what: "names of rows to add", expected: rows, found: names.len() });
        }
        let without = |option| {
            let must = "the rows before have none, and either all have them or none has";
            Err(Error::InvalidOption { option, value: "given".into(), must })
        };
        if old > 0 && rows > 0 {
            match (&self.labels, labels) {
                (Some(_), None) => return Err(Error::NoLabels),
                (None, Some(_)) => return without("labels"),
                _ => {}
            }
            match (&self.names, names) {
                (Some(_), None) => {
                    return Err(Error::DimensionMismatch { what: "names of rows to add", expected: rows, found: 0 });
                }
                (None, Some(_)) => return without("names"),
                _ => {}
            }
        }
        if let Some(((row, column), &value)) = values.indexed_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::NonFinite { row, column, value });
        }
        if rows == 0 {
            return Ok(());
        }
        let no_memory = |_| Error::NoMemory { bytes: values.len().saturating_mul(size_of::<f32>()) };
        let (mut own_labels, mut own_names) = (self.labels.take(), self.names.take());
        let columns = self.dimensions();
        let (mut all, _) = std::mem::take(&mut self.values).into_raw_vec_and_offset();
        let room = all.try_reserve(values.len()).map_err(no_memory);
        let room = room.and_then(|()| match labels {
            Some(labels) => own_labels.get_or_insert_default().try_reserve(labels.len()).map_err(no_memory),
            None => Ok(()),
        });
        if room.is_ok() {
            all.extend(values.iter());
            if let Some(labels) = labels {
                own_labels.get_or_insert_default().extend_from_slice(labels);
            }
            if let Some(names) = names {
                own_names.get_or_insert_default().extend_from_slice(names);
            }
        }
        let shape = (all.len() / columns.max(1), columns);
        let wrong = |_| Error::DimensionMismatch { what: "rows", expected: old + rows, found: shape.0 };
        self.values = Array2::from_shape_vec(shape, all).map_err(wrong)?;
        self.labels = own_labels.filter(|labels| !labels.is_empty());
        self.names = own_names.filter(|names| !names.is_empty());
        room
    }

    /// Checks that every value is finite.
    ///
    /// # Errors
    /// [`Error::NonFinite`], or [`Error::NonFiniteNamed`] where rows have names, for the first value that is not.
    pub fn check_finite(&self) -> Result<()> {
        for (row, values) in self.values.outer_iter().enumerate() {
            if let Some((column, &value)) = values.iter().enumerate().find(|(_, value)| !value.is_finite()) {
                return Err(match self.names.as_ref().and_then(|names| names.get(row)) {
                    Some(name) => Error::NonFiniteNamed { name: name.clone(), row, column, value },
                    None => Error::NonFinite { row, column, value },
                });
            }
        }
        Ok(())
    }

    /// Writes a file: `.npy` takes the values alone, `.safetensors` everything.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file; [`Error::Corrupt`] for another extension.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        let path = path.as_ref();
        match kind(path)? {
            Kind::Npy => npy::write_f32(path, self.values.shape(), self.values.iter().copied()),
            Kind::Safetensors => atomic::write(path, &[&self.to_safetensors(path)?]),
        }
    }

    /// Writes the labels alone, as an `.npy` of `uint32`.
    ///
    /// # Errors
    /// [`Error::NoLabels`], [`Error::LabelMismatch`], [`Error::Io`].
    pub fn save_labels(&self, path: impl AsRef<Path>) -> Result<()> {
        npy::write_u32(path.as_ref(), self.labels()?)
    }

    /// Reads a file that [`Features::save`] wrote, or any two-dimensional `.npy` of numbers.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] naming file and tensor, [`Error::NewerFormat`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        match kind(path)? {
            Kind::Npy => {
                // The usual types, without the detour over float64 that takes three times the memory.
                if let Ok(file) = FeatureFile::open(path) {
                    let mut values = Vec::new();
                    file.read(0, file.len(), &mut values)?;
                    let values = Array2::from_shape_vec((file.len(), file.dimensions()), values)
                        .map_err(|why| Error::corrupt(path, why.to_string()))?;
                    return Ok(Self { values, ..Self::default() });
                }
                let array = npy::read(path)?;
                let [rows, columns] = array.shape[..] else {
                    let why = format!("features have two dimensions [rows, columns], found shape {:?}", array.shape);
                    return Err(Error::corrupt(path, why));
                };
                let values = array.values.into_iter().map(|value| value as f32).collect();
                let values = Array2::from_shape_vec((rows, columns), values)
                    .map_err(|why| Error::corrupt(path, why.to_string()))?;
                Ok(Self { values, ..Self::default() })
            }
            Kind::Safetensors => {
                let bytes = atomic::read(path, u64::MAX)?;
                Self::from_safetensors(path, &bytes)
            }
        }
    }

    /// Reads labels from an `.npy` of integers in one dimension.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] if they are not integers, not one-dimensional, or negative.
    pub fn load_labels(path: impl AsRef<Path>) -> Result<Vec<u32>> {
        let path = path.as_ref();
        let array = npy::read(path)?;
        if !array.integers || array.shape.len() != 1 {
            let what = if array.integers { "integers" } else { "floats" };
            let why = format!("labels are integers in one dimension, found {what} of shape {:?}", array.shape);
            return Err(Error::corrupt(path, why));
        }
        let label = |(row, &value): (usize, &f64)| {
            if (0.0..=f64::from(u32::MAX)).contains(&value) {
                Ok(value as u32)
            } else {
                Err(Error::corrupt(path, format!("label {value} of row {row} is not a class number")))
            }
        };
        array.values.iter().enumerate().map(label).collect()
    }

    fn to_safetensors(&self, path: &Path) -> Result<Vec<u8>> {
        let header = Header {
            kind: "features".into(),
            format: FORMAT,
            encoder: self.encoder.clone(),
            classes: self.classes.clone(),
            names: self.names.clone(),
        };
        let values: Vec<u8> = self.values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let labels: Option<Vec<u8>> =
            self.labels.as_ref().map(|labels| labels.iter().flat_map(|label| label.to_le_bytes()).collect());
        let mut tensors = vec![("features", view(path, Dtype::F32, self.values.shape().to_vec(), &values)?)];
        if let Some(labels) = &labels {
            tensors.push(("labels", view(path, Dtype::U32, vec![labels.len() / 4], labels)?));
        }
        serialize(path, tensors, &header)
    }

    fn from_safetensors(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (tensors, header): (_, Header) = parse(path, bytes, "features", FORMAT)?;
        let (shape, values) = numbers(path, &tensors)?;
        let [rows, columns] = shape[..] else {
            return Err(Error::corrupt(path, format!("tensor features: shape {shape:?}, expected [rows, columns]")));
        };
        let values = Array2::from_shape_vec((rows, columns), values)
            .map_err(|why| Error::corrupt(path, format!("tensor features: {why}")))?;
        let labels = match tensors.tensor("labels") {
            Err(_) => None,
            Ok(tensor) if tensor.dtype() == Dtype::U32 && tensor.shape() == [rows] => {
                Some(tensor.data().as_chunks().0.iter().map(|&bytes| u32::from_le_bytes(bytes)).collect())
            }
            Ok(tensor) => {
                let why = format!("tensor labels: {:?} {:?}, expected U32 [{rows}]", tensor.dtype(), tensor.shape());
                return Err(Error::corrupt(path, why));
            }
        };
        if let Some(names) = header.names.as_ref().filter(|names| names.len() != rows) {
            return Err(Error::corrupt(path, format!("{} names for {rows} rows", names.len())));
        }
        Ok(Self { values, labels, names: header.names, classes: header.classes, encoder: header.encoder })
    }
}

/// The labels, if there is one for every row.
pub(crate) fn one_per_row(labels: Option<&[u32]>, rows: usize) -> Result<&[u32]> {
    let labels = labels.ok_or(Error::NoLabels)?;
    if labels.len() != rows {
        return Err(Error::LabelMismatch { features: rows, labels: labels.len() });
    }
    Ok(labels)
}

/// How many classes there are: as many as have names, or as the largest label tells.
pub(crate) fn class_count(labels: Option<&[u32]>, classes: Option<&[String]>) -> usize {
    match classes {
        Some(names) if !names.is_empty() => names.len(),
        _ => labels.into_iter().flatten().max().map_or(0, |&label| label as usize + 1),
    }
}

/// The name of a class: as given, or its number.
pub(crate) fn class_name(classes: Option<&[String]>, class: usize) -> String {
    classes.and_then(|names| names.get(class)).cloned().unwrap_or_else(|| class.to_string())
}

pub(crate) enum Kind {
    Npy,
    Safetensors,
}

pub(crate) fn kind(path: &Path) -> Result<Kind> {
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => Ok(Kind::Npy),
        Some("safetensors") => Ok(Kind::Safetensors),
        _ => Err(Error::corrupt(path, "features are kept as .safetensors or .npy; the name has neither extension")),
    }
}

pub(crate) fn view<'a>(path: &Path, kind: Dtype, shape: Vec<usize>, bytes: &'a [u8]) -> Result<TensorView<'a>> {
    TensorView::new(kind, shape, bytes).map_err(|why| Error::corrupt(path, why.to_string()))
}

pub(crate) fn serialize(path: &Path, tensors: Vec<(&str, TensorView)>, header: &impl Serialize) -> Result<Vec<u8>> {
    let header = serde_json::to_string(header).map_err(|why| Error::corrupt(path, why.to_string()))?;
    safetensors::serialize(tensors, Some([("byol".to_string(), header)].into()))
        .map_err(|why| Error::corrupt(path, why.to_string()))
}

/// Opens a safetensors file that this crate wrote: its tensors and its header.
pub(crate) fn parse<'a, H: for<'d> Deserialize<'d>>(
    path: &Path,
    bytes: &'a [u8],
    kind: &str,
    format: u32,
) -> Result<(SafeTensors<'a>, H)> {
    let foreign = |why: String| Error::corrupt(path, format!("not a {kind} file of byol: {why}"));
    let tensors = SafeTensors::deserialize(bytes).map_err(|why| foreign(why.to_string()))?;
    let (_, metadata) = SafeTensors::read_metadata(bytes).map_err(|why| foreign(why.to_string()))?;
    Ok((tensors, header(path, &metadata, kind, format)?))
}

/// What this crate wrote about a safetensors file into it.
pub(crate) fn header<H: for<'d> Deserialize<'d>>(
    path: &Path,
    metadata: &Metadata,
    kind: &str,
    format: u32,
) -> Result<H> {
    #[derive(Deserialize)]
    struct Tag {
        kind: String,
        format: u32,
    }
    let foreign = |why: String| Error::corrupt(path, format!("not a {kind} file of byol: {why}"));
    let text: Cow<str> = match metadata.metadata().as_ref().and_then(|metadata| metadata.get("byol")) {
        Some(text) => text.clone().into(),
        None => return Err(foreign("safetensors without byol's metadata".into())),
    };
    let tag: Tag = serde_json::from_str(&text).map_err(|why| foreign(why.to_string()))?;
    if tag.kind != kind {
        return Err(foreign(format!("it holds {}", tag.kind)));
    }
    if tag.format > format {
        return Err(Error::NewerFormat { path: path.to_path_buf(), found: tag.format, supported: format });
    }
    serde_json::from_str(&text).map_err(|why| foreign(why.to_string()))
}

/// The features of a file, in any type they are kept in.
fn numbers(path: &Path, tensors: &SafeTensors) -> Result<(Vec<usize>, Vec<f32>)> {
    let name = "features";
    let tensor = tensors.tensor(name).map_err(|why| Error::corrupt(path, format!("tensor {name}: {why}")))?;
    let shape = tensor.shape().to_vec();
    let values = match tensor.dtype() {
        Dtype::F16 => tensor.data().as_chunks().0.iter().map(|&bytes| f16::from_le_bytes(bytes).to_f32()).collect(),
        Dtype::I8 => {
            let columns = shape.last().copied().unwrap_or(0);
            let steps = match tensors.tensor("scale") {
                Ok(found) => scale(path, found.dtype(), found.shape(), found.data(), columns)?,
                Err(_) => vec![1.0; columns],
            };
            let steps = steps.iter().cycle();
            tensor.data().iter().zip(steps).map(|(&byte, step)| f32::from(byte.cast_signed()) * step).collect()
        }
        _ => return floats(path, tensors, name),
    };
    Ok((shape, values))
}

/// The steps that int8 features count, one per column.
pub(crate) fn scale(path: &Path, dtype: Dtype, shape: &[usize], bytes: &[u8], columns: usize) -> Result<Vec<f32>> {
    let steps: Vec<f32> = bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    if dtype != Dtype::F32 || shape != [columns] || !steps.iter().all(|step| step.is_finite() && *step >= 0.0) {
        let why = format!("tensor scale: {dtype:?} {shape:?}, expected {columns} steps of at least 0 in F32");
        return Err(Error::corrupt(path, why));
    }
    Ok(steps)
}

/// A float32 tensor by its name.
pub(crate) fn floats(path: &Path, tensors: &SafeTensors, name: &str) -> Result<(Vec<usize>, Vec<f32>)> {
    let tensor = tensors.tensor(name).map_err(|why| Error::corrupt(path, format!("tensor {name}: {why}")))?;
    if tensor.dtype() != Dtype::F32 {
        return Err(Error::corrupt(path, format!("tensor {name}: {:?}, expected F32", tensor.dtype())));
    }
    let values = tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect();
    Ok((tensor.shape().to_vec(), values))
}
