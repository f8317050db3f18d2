//! A model file that turns pictures into features.
//!
//! An [`Encoder`] is opened once and shared: all its calls take `&self`, come from any thread, and wait for a free
//! session of its pool. The input contract in the file decides how pictures become input, so that a picture means
//! the same here as it did in training.
//!
//! A long call is cut into micro-batches whose pictures are decoded and resized while the one before is inferred
//! ([`crate::pipeline`]). The features of a picture do not depend on what else is in its call.
//!
//! Files are checked before ONNX Runtime sees them: size, form, kind of input and output, and that all tensors lie in
//! the file itself. One input is fed, of either kind:
//! - `uint8 [n, height, width, channels]`, as byol exports it, with the normalisation in the graph;
//! - `float32 [n, channels, height, width]`, as other exporters write it; normalised here. Such a file carries no
//!   contract, so pass [`EncoderOptions::contract`], or accept [`assumed_contract`].

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use byol_model::onnx::{self, Element, Inspection, Value};
use byol_model::picture::{InputContract, Limits, Picture, PictureView, Resize};
use ort::session::{RunOptions, SessionOutputs};
use ort::value::TensorRef;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::model_file::ModelFile;
use crate::pipeline;
use crate::pool::{Pool, Weights, Wish};
use crate::provider::Provider;
use crate::runtime::Runtime;

/// How to open an encoder.
#[derive(Clone, Debug)]
pub struct EncoderOptions {
    /// Calls that may be inferred at the same time; each has a session with its own copy of the weights, and its part
    /// of the threads. 0 chooses: a call that is alone gets all threads, calls that meet get one thread each.
    pub sessions: usize,
    /// With `sessions` 0: the encoder is for many pictures at a time, so that no session is kept for lone pictures.
    pub bulk: bool,
    /// What computes. One that is not there is an error.
    pub provider: Provider,
    /// How pictures become input; overrides what the file says, and is needed where it says nothing.
    pub contract: Option<InputContract>,
    /// The file must have this SHA-256 (hexadecimal).
    pub expected_sha256: Option<String>,
    /// The output that holds the features; `None` takes `features`, or else the first float32 output.
    pub output: Option<String>,
    /// Largest model file that is read.
    pub max_model_bytes: u64,
    /// Largest picture that is decoded.
    pub limits: Limits,
}

impl Default for EncoderOptions {
    fn default() -> Self {
        Self {
            sessions: 0,
            bulk: false,
            provider: Provider::Cpu,
            contract: None,
            expected_sha256: None,
            output: None,
            // An ONNX file is one protobuf message, which ends there.
            max_model_bytes: 1 << 31,
            limits: Limits::default(),
        }
    }
}

/// Input that is already resized.
#[derive(Clone, Copy, Debug)]
pub enum InputTensor<'a> {
    /// Pixels `[n, height, width, channels]`, 0 to 255, not normalised.
    U8 {
        /// The four sizes.
        shape: [usize; 4],
        /// The pixels, without gaps.
        data: &'a [u8],
    },
    /// Normalised values `[n, channels, height, width]`; only for a model whose input is float32.
    F32 {
        /// The four sizes.
        shape: [usize; 4],
        /// The values, without gaps.
        data: &'a [f32],
    },
}

/// An opened model.
pub struct Encoder {
    runtime: Arc<Runtime>,
    pool: Pool,
    provider: Provider,
    /// The file, or a name for bytes from memory: what errors name.
    path: PathBuf,
    input: Port,
    output: String,
    /// The only batch size that the model takes, where it takes only one.
    fixed_batch: Option<usize>,
    dimension: usize,
    contract: InputContract,
    limits: Limits,
    sha256: String,
    metadata: BTreeMap<String, String>,
}

/// The model's input.
struct Port {
    name: String,
    kind: InputKind,
}

/// What a model's input holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InputKind {
    /// `[n, height, width, channels]`
    U8,
    /// `[n, channels, height, width]`
    F32,
}

/// A micro-batch as it goes in.
#[derive(Clone, Copy)]
pub(crate) enum Pixels<'a> {
    U8(&'a [u8]),
    F32(&'a [f32]),
}

/// Pixel bytes of a micro-batch: four pictures of 224 x 224 x 3. Larger ones were no faster, and from 16 such pictures
/// on every run fetched its tensors' memory from the system anew (docs/results.md).
const MICRO_BATCH_BYTES: usize = 4 * 224 * 224 * 3;
/// Most pictures of a micro-batch, however small they are.
const MICRO_BATCH_LIMIT: usize = 64;
/// Most features of a picture. What a file announces is allocated, so it must not be anything.
const MOST_FEATURES: usize = 1 << 24;
/// Most values of the input of a model that has only one batch size.
const MOST_BATCH_VALUES: usize = 1 << 30;
/// How long the first picture may take while a file is opened whose output does not say its size. A file can hold a loop
/// without an end.
const FIRST_PICTURE: Duration = Duration::from_secs(60);

impl Encoder {
    /// Opens a model file.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::TooLarge`], [`Error::ModelInvalid`], [`Error::ModelUnsupported`], [`Error::ModelHash`]
    /// or [`Error::Runtime`], each with the file's name.
    pub fn open(runtime: &Arc<Runtime>, path: &Path, options: &EncoderOptions) -> Result<Self> {
        let file = ModelFile::open(path, options.max_model_bytes)?;
        if options.expected_sha256.is_some() {
            // Nothing but the bytes that were summed may reach the runtime, so they go through memory.
            let bytes = file.read()?;
            let model = Model {
                path,
                sha256: Some(checked_sha256(path, &bytes, options)?),
                inspection: &onnx_of(path, &bytes)?,
            };
            return Self::build(runtime, &model, Weights::Memory(&bytes, Some(path)), options);
        }
        let inspection = file.inspect()?;
        Self::build(runtime, &Model { path, sha256: None, inspection: &inspection }, Weights::File(&file), options)
    }

    /// Opens a model that lies in memory. The bytes are not needed afterwards; a copy is kept while more sessions may
    /// be made from it.
    ///
    /// # Errors
    /// Those of [`Encoder::open`], with `model in memory` for the file's name.
    pub fn from_bytes(runtime: &Arc<Runtime>, bytes: &[u8], options: &EncoderOptions) -> Result<Self> {
        let path = Path::new("model in memory");
        let found = bytes.len() as u64;
        if found > options.max_model_bytes {
            return Err(Error::TooLarge { path: path.into(), found, limit: options.max_model_bytes });
        }
        let model =
            Model { path, sha256: Some(checked_sha256(path, bytes, options)?), inspection: &onnx_of(path, bytes)? };
        Self::build(runtime, &model, Weights::Memory(bytes, None), options)
    }

    fn build(
        runtime: &Arc<Runtime>,
        model: &Model<'_>,
        weights: Weights<'_>,
        options: &EncoderOptions,
    ) -> Result<Self> {
        let Model { path, ref sha256, inspection } = *model;
        let unsupported = |why: String| Error::ModelUnsupported { path: path.into(), why };
        let invalid = |source| Error::ModelInvalid { path: path.into(), source };
        if inspection.external_data {
            return Err(unsupported("it keeps tensors in other files, which is not allowed".into()));
        }
        let (input, shape) = input(inspection).map_err(unsupported)?;
        let written = InputContract::from_metadata(&inspection.metadata).map_err(invalid)?;
        let contract = match options.contract.clone().or(written) {
            Some(contract) => contract,
            None => assumed_contract(input.picture_sizes(shape)).map_err(unsupported)?,
        };
        contract.validate().map_err(invalid)?;
        check_contract(&contract, &input, shape).map_err(unsupported)?;
        if let Some(batch) = shape[0]
            && batch.saturating_mul(contract.bytes()) > MOST_BATCH_VALUES
        {
            return Err(unsupported(format!("its input {:?} takes {batch} pictures at a time, too many", input.name)));
        }
        let output = output(inspection, options.output.as_deref()).map_err(unsupported)?;
        let static_dimension = match &output.shape {
            Some(shape) => features_of(&shape[1..]).map_err(unsupported)?,
            None => None,
        };
        let output = output.name.clone();

        let wishes = (options.sessions, options.bulk);
        let (pool, sha256) = Pool::open(runtime, path, weights, sha256.clone(), options.provider, wishes)?;
        let mut encoder = Self {
            runtime: Arc::clone(runtime),
            pool,
            provider: options.provider,
            path: path.into(),
            input,
            output,
            fixed_batch: shape[0],
            dimension: static_dimension.unwrap_or(0),
            contract,
            limits: options.limits,
            sha256,
            metadata: inspection.metadata.clone(),
        };
        if static_dimension.is_none() {
            encoder.dimension = encoder.black_picture(Wish::Latency, &Cancel::with_deadline(FIRST_PICTURE))?;
        }
        if encoder.dimension == 0 || encoder.dimension > MOST_FEATURES {
            let (output, dimension) = (&encoder.output, encoder.dimension);
            return Err(unsupported(format!("its output {output:?} has {dimension} values, not 1 to {MOST_FEATURES}")));
        }
        Ok(encoder)
    }

    /// Number of features of one picture.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// How a picture becomes input.
    pub fn contract(&self) -> &InputContract {
        &self.contract
    }

    /// SHA-256 of the model file, hexadecimal.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// All metadata of the model file.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// The model's file; `model in memory` for [`Encoder::from_bytes`].
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The runtime that it runs on.
    pub fn runtime(&self) -> &Arc<Runtime> {
        &self.runtime
    }

    /// Number of calls that may be inferred at the same time.
    pub fn sessions(&self) -> usize {
        self.pool.size()
    }

    /// What computes.
    pub fn provider(&self) -> Provider {
        self.provider
    }

    /// Makes every session that this encoder may use and runs each once, so that no later call pays for it.
    ///
    /// # Errors
    /// [`Error::Runtime`]; [`Error::Io`] or [`Error::ModelHash`] where the file is gone or another one by now.
    pub fn warm_up(&self) -> Result<()> {
        self.pool.fill(&self.runtime)?;
        std::thread::scope(|scope| {
            let runs: Vec<_> = (0..self.sessions())
                .map(|_| scope.spawn(|| self.black_picture(Wish::Throughput, &Cancel::new())))
                .collect();
            self.black_picture(Wish::Latency, &Cancel::new())?;
            runs.into_iter().try_for_each(|run| run.join().unwrap_or(Ok(0)).map(drop))
        })
    }

    /// Features of pictures in memory: picture `i` goes to `out[i * row_stride..]`, `dimension` values.
    ///
    /// With `items`, one for each picture, a bad picture is reported there, its row is left alone, and the others go
    /// on; without, the first bad picture fails the call. Nothing is written unless the call succeeds.
    ///
    /// # Errors
    /// [`Error::Item`] names the first bad picture; [`Error::DimensionMismatch`] for an `out`, `row_stride` or `items`
    /// of the wrong size; [`Error::Cancelled`], [`Error::Deadline`], [`Error::Runtime`].
    pub fn extract(
        &self,
        pictures: &[PictureView<'_>],
        out: &mut [f32],
        row_stride: usize,
        items: Option<&mut [Result<()>]>,
        cancel: &Cancel,
    ) -> Result<()> {
        let prepare = |index: usize, pixels: &mut [u8]| Ok(self.contract.prepare(pictures[index], pixels)?);
        self.extract_with(pictures.len(), &prepare, out, row_stride, items, cancel)
    }

    /// Features of encoded pictures (JPEG, PNG, ...), each the bytes of one file. Otherwise as [`Encoder::extract`].
    ///
    /// # Errors
    /// Those of [`Encoder::extract`].
    pub fn extract_encoded(
        &self,
        pictures: &[&[u8]],
        out: &mut [f32],
        row_stride: usize,
        items: Option<&mut [Result<()>]>,
        cancel: &Cancel,
    ) -> Result<()> {
        let prepare = |index: usize, pixels: &mut [u8]| {
            let picture = Picture::decode_for(pictures[index], &self.limits, "picture", &self.contract)?;
            Ok(self.contract.prepare(picture.view(), pixels)?)
        };
        self.extract_with(pictures.len(), &prepare, out, row_stride, items, cancel)
    }

    /// Features of picture files. Otherwise as [`Encoder::extract`].
    ///
    /// # Errors
    /// Those of [`Encoder::extract`]; the bad item's error names its file.
    pub fn extract_files(
        &self,
        paths: &[PathBuf],
        out: &mut [f32],
        row_stride: usize,
        items: Option<&mut [Result<()>]>,
        cancel: &Cancel,
    ) -> Result<()> {
        let prepare = |index: usize, pixels: &mut [u8]| {
            let picture = Picture::open_for(&paths[index], &self.limits, &self.contract)?;
            Ok(self.contract.prepare(picture.view(), pixels)?)
        };
        self.extract_with(paths.len(), &prepare, out, row_stride, items, cancel)
    }

    /// Features of input that is already resized. Otherwise as [`Encoder::extract`] without `items`.
    ///
    /// # Errors
    /// Those of [`Encoder::extract`]; [`Error::DimensionMismatch`] where the tensor does not fit the contract or the
    /// model.
    pub fn extract_tensor(
        &self,
        tensor: InputTensor<'_>,
        out: &mut [f32],
        row_stride: usize,
        cancel: &Cancel,
    ) -> Result<()> {
        let InputContract { channels, height, width, .. } = self.contract;
        let (shape, expected, len) = match tensor {
            InputTensor::U8 { shape, data } => (shape, [height, width, channels], data.len()),
            InputTensor::F32 { shape, data } => (shape, [channels, height, width], data.len()),
        };
        const SIZES: [&str; 3] =
            ["Input tensor, dimension 1", "Input tensor, dimension 2", "Input tensor, dimension 3"];
        for ((what, expected), found) in SIZES.into_iter().zip(expected).zip(shape[1..].iter().copied()) {
            same(what, expected, found)?;
        }
        let values = expected.iter().product::<usize>();
        let [n, ..] = shape;
        same("Input tensor, values", n.saturating_mul(values), len)?;
        match (self.input.kind, tensor) {
            (InputKind::U8, InputTensor::F32 { .. }) => Err(Error::ModelUnsupported {
                path: self.path.clone(),
                why: "its input is uint8 [n, height, width, channels] and normalised inside; float32 cannot be fed"
                    .into(),
            }),
            (InputKind::F32, InputTensor::U8 { data, .. }) => {
                let prepare = |index: usize, pixels: &mut [u8]| {
                    pixels.copy_from_slice(&data[index * values..(index + 1) * values]);
                    Ok(())
                };
                self.extract_with(n, &prepare, out, row_stride, None, cancel)
            }
            (_, tensor) => {
                self.check_rows(n, out.len(), row_stride)?;
                let mut staged = self.staging(n)?;
                let batch = self.micro_batch();
                for (i, rows) in staged.chunks_mut(batch * self.dimension).enumerate() {
                    let first = i * batch;
                    let count = rows.len() / self.dimension;
                    let range = first * values..(first + count) * values;
                    let pixels = match tensor {
                        InputTensor::U8 { data, .. } => Pixels::U8(&data[range]),
                        InputTensor::F32 { data, .. } => Pixels::F32(&data[range]),
                    };
                    self.infer(pixels, count, rows, Wish::Latency, cancel)?;
                    for (index, row) in (first..).zip(rows.chunks(self.dimension)) {
                        finite(index, row).map_err(|e| item(index, e))?;
                    }
                }
                self.publish(&staged, out, row_stride, None);
                Ok(())
            }
        }
    }

    /// The way of all calls but [`Encoder::extract_tensor`]: `prepare` writes one picture's pixels.
    fn extract_with(
        &self,
        n: usize,
        prepare: &pipeline::Prepare<'_>,
        out: &mut [f32],
        row_stride: usize,
        items: Option<&mut [Result<()>]>,
        cancel: &Cancel,
    ) -> Result<()> {
        self.check_rows(n, out.len(), row_stride)?;
        if let Some(items) = &items {
            same("Item results", n, items.len())?;
        }
        let mut staged = self.staging(n)?;
        let mut outcomes = Vec::with_capacity(if items.is_some() { n } else { 0 });
        let dimension = self.dimension;
        pipeline::stream(self, n, self.micro_batch(), prepare, cancel, &mut |range, results, features| {
            for (index, result) in range.clone().zip(results.drain(..)) {
                match result {
                    result if items.is_some() => outcomes.push(result),
                    result => result.map_err(|e| item(index, e))?,
                }
            }
            staged[range.start * dimension..range.end * dimension].copy_from_slice(features);
            Ok(())
        })?;
        self.publish(&staged, out, row_stride, items.is_some().then_some(&outcomes));
        if let Some(items) = items {
            for (slot, outcome) in items.iter_mut().zip(outcomes) {
                *slot = outcome;
            }
        }
        Ok(())
    }

    /// Copies finished rows to the caller; those with an error are left out.
    fn publish(&self, staged: &[f32], out: &mut [f32], row_stride: usize, outcomes: Option<&Vec<Result<()>>>) {
        // The last row may be shorter than the stride, which `chunks_mut` allows.
        for (index, (row, target)) in staged.chunks(self.dimension).zip(out.chunks_mut(row_stride)).enumerate() {
            if outcomes.is_none_or(|outcomes| outcomes[index].is_ok()) {
                target[..self.dimension].copy_from_slice(row);
            }
        }
    }

    fn check_rows(&self, n: usize, len: usize, row_stride: usize) -> Result<()> {
        if row_stride < self.dimension {
            return Err(Error::DimensionMismatch { what: "Row stride", expected: self.dimension, found: row_stride });
        }
        let needed = match n.checked_sub(1) {
            None => 0,
            Some(last) => {
                last.checked_mul(row_stride).and_then(|at| at.checked_add(self.dimension)).unwrap_or(usize::MAX)
            }
        };
        if len < needed {
            return Err(Error::DimensionMismatch { what: "Output values", expected: needed, found: len });
        }
        Ok(())
    }

    /// Room for the features of `n` pictures until the whole call has succeeded.
    fn staging(&self, n: usize) -> Result<Vec<f32>> {
        let len = n * self.dimension;
        let mut staged = Vec::new();
        staged.try_reserve_exact(len).map_err(|_| Error::NoMemory { bytes: len.saturating_mul(size_of::<f32>()) })?;
        staged.resize(len, 0.0);
        Ok(staged)
    }

    /// Number of pictures that are inferred at once.
    pub(crate) fn micro_batch(&self) -> usize {
        let fitting = MICRO_BATCH_BYTES / self.contract.bytes().max(1);
        self.fixed_batch.unwrap_or(fitting.clamp(1, MICRO_BATCH_LIMIT))
    }

    pub(crate) fn has_fixed_batch(&self) -> bool {
        self.fixed_batch.is_some()
    }

    pub(crate) fn input_kind(&self) -> InputKind {
        self.input.kind
    }

    pub(crate) fn input_name(&self) -> &str {
        &self.input.name
    }

    /// Runs the model on `n` pictures, at most [`Encoder::micro_batch`] of them where it takes only one batch size.
    pub(crate) fn infer(
        &self,
        pixels: Pixels<'_>,
        n: usize,
        features: &mut [f32],
        wish: Wish,
        cancel: &Cancel,
    ) -> Result<()> {
        self.run(pixels, n, wish, cancel, &mut |values| {
            let rows = self.fixed_batch.unwrap_or(n);
            if values.len() != rows * self.dimension {
                return Err(format!("{} values for {rows} pictures, expected {} each", values.len(), self.dimension));
            }
            features.copy_from_slice(&values[..n * self.dimension]);
            Ok(())
        })
    }

    /// Runs the model and shows `take` its output; what `take` objects to becomes an error about the output.
    fn run(
        &self,
        pixels: Pixels<'_>,
        n: usize,
        wish: Wish,
        cancel: &Cancel,
        take: &mut dyn FnMut(&[f32]) -> Result<(), String>,
    ) -> Result<()> {
        self.run_all(pixels, n, wish, cancel, &mut |outputs| {
            let wrong = |why: String| Error::ModelUnsupported {
                path: self.path.clone(),
                why: format!("its output {:?} has {why}", self.output),
            };
            let output = outputs.get(&self.output).ok_or_else(|| wrong("no value".into()))?;
            let (_, values) = output
                .try_extract_tensor::<f32>()
                .map_err(|e| Error::runtime(&self.path, e.code() as i32, e.message()))?;
            take(values).map_err(wrong)
        })
    }

    /// Runs the model and shows `take` all its outputs.
    pub(crate) fn run_all(
        &self,
        pixels: Pixels<'_>,
        n: usize,
        wish: Wish,
        cancel: &Cancel,
        take: &mut dyn FnMut(&SessionOutputs<'_>) -> Result<()>,
    ) -> Result<()> {
        let InputContract { channels, height, width, .. } = self.contract;
        let rows = self.fixed_batch.unwrap_or(n);
        // A model with one batch size gets empty pictures behind the last ones.
        let len = rows * self.contract.bytes();
        let (whole_u8, whole_f32);
        let pixels = match pixels {
            Pixels::U8(pixels) if pixels.len() != len => {
                whole_u8 = padded(pixels, len);
                Pixels::U8(&whole_u8)
            }
            Pixels::F32(pixels) if pixels.len() != len => {
                whole_f32 = padded(pixels, len);
                Pixels::F32(&whole_f32)
            }
            pixels => pixels,
        };
        let failed = |e: ort::Error| Error::runtime(&self.path, e.code() as i32, e.message());
        let input: ort::session::SessionInputValue<'_> = match pixels {
            Pixels::U8(pixels) => {
                TensorRef::from_array_view(([rows, height, width, channels], pixels)).map_err(failed)?.into()
            }
            Pixels::F32(pixels) => {
                TensorRef::from_array_view(([rows, channels, height, width], pixels)).map_err(failed)?.into()
            }
        };
        let options = Arc::new(RunOptions::new().map_err(failed)?);
        let mut lease = self.pool.checkout(&self.runtime, wish, cancel)?;
        let watched = self.runtime.watch.watch(cancel, &options);
        let outputs = lease.session().run_with_options(ort::inputs![self.input.name.as_str() => input], &options);
        let stopped = watched.was_stopped();
        drop(watched);
        // A run that was told to stop fails with words of its own; what counts is why, and that may be over by now.
        let outputs = match (outputs, cancel.check()) {
            (Ok(outputs), _) => outputs,
            (Err(_), Err(why)) => return Err(why),
            (Err(_), Ok(())) if stopped => return Err(Error::Cancelled),
            (Err(e), Ok(())) => return Err(failed(e)),
        };
        take(&outputs)
    }

    /// Runs a black picture through the model: its number of features.
    fn black_picture(&self, wish: Wish, cancel: &Cancel) -> Result<usize> {
        let rows = self.fixed_batch.unwrap_or(1);
        let len = self.contract.bytes();
        let (black_u8, black_f32) = (vec![0_u8; len], vec![0_f32; len]);
        let pixels = match self.input.kind {
            InputKind::U8 => Pixels::U8(&black_u8),
            InputKind::F32 => Pixels::F32(&black_f32),
        };
        let mut dimension = 0;
        self.run(pixels, 1, wish, cancel, &mut |values| {
            dimension = values.len() / rows;
            match values.len() % rows {
                0 => Ok(()),
                _ => Err(format!("{} values for {rows} pictures", values.len())),
            }
        })?;
        Ok(dimension)
    }
}

impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder")
            .field("path", &self.path)
            .field("sha256", &self.sha256)
            .field("contract", &self.contract)
            .field("dimension", &self.dimension)
            .finish_non_exhaustive()
    }
}

impl Port {
    /// Channels, height and width out of the sizes of the input.
    fn picture_sizes(&self, [_, a, b, c]: [Option<usize>; 4]) -> [Option<usize>; 3] {
        match self.kind {
            InputKind::U8 => [c, a, b],
            InputKind::F32 => [a, b, c],
        }
    }
}

/// The contract of a model that does not carry one: as [`InputContract::square`] for its input size, and 224 pixels or
/// 3 channels where that is free. Most published encoders of photographs want exactly this; for others pass
/// [`EncoderOptions::contract`]. `sizes` are channels, height and width.
///
/// # Errors
/// A sentence on why a contract has to be passed.
pub fn assumed_contract(sizes: [Option<usize>; 3]) -> Result<InputContract, String> {
    let [channels, height, width] = sizes;
    let channels = channels.unwrap_or(3);
    if channels != 1 && channels != 3 {
        return Err(format!("its input has {channels} channels, so an input contract has to be passed"));
    }
    let height = height.or(width).unwrap_or(224);
    let width = width.unwrap_or(height);
    if height == width {
        return Ok(InputContract::square(channels, height));
    }
    let resize = Resize::Stretch;
    Ok(InputContract { height, width, resize, ..InputContract::square(channels, height.max(width)) })
}

/// The model's one input and its sizes, or why it cannot be fed.
fn input(inspection: &Inspection) -> Result<(Port, [Option<usize>; 4]), String> {
    let [value] = &inspection.inputs[..] else {
        let names: Vec<&str> = inspection.inputs.iter().map(|value| value.name.as_str()).collect();
        return Err(format!("it has {} inputs ({}), an encoder has one", names.len(), names.join(", ")));
    };
    let kind = match value.element {
        Element::Uint8 => InputKind::U8,
        Element::Float32 => InputKind::F32,
        Element::Other(number) => {
            return Err(format!("its input {:?} is of ONNX type {number}, not uint8 or float32", value.name));
        }
    };
    let Some(&[n, a, b, c]) = value.shape.as_deref() else {
        let rank = value.shape.as_ref().map_or("no fixed number of".into(), |shape| shape.len().to_string());
        return Err(format!("its input {:?} has {rank} dimensions, pictures have 4", value.name));
    };
    if [n, a, b, c].contains(&Some(0)) {
        return Err(format!("its input {:?} has a dimension of 0", value.name));
    }
    Ok((Port { name: value.name.clone(), kind }, [n, a, b, c]))
}

/// The output to read, or why there is none.
fn output<'a>(inspection: &'a Inspection, asked: Option<&str>) -> Result<&'a Value, String> {
    let outputs = &inspection.outputs;
    let found = match asked {
        Some(name) => outputs.iter().find(|value| value.name == name),
        None => outputs
            .iter()
            .find(|value| value.name == "features")
            .or_else(|| outputs.iter().find(|value| value.element == Element::Float32))
            .or(outputs.first()),
    };
    let found = found.ok_or_else(|| {
        let names: Vec<&str> = outputs.iter().map(|value| value.name.as_str()).collect();
        format!("it has no output {:?}; its outputs are {}", asked.unwrap_or("features"), names.join(", "))
    })?;
    if found.element != Element::Float32 {
        return Err(format!("its output {:?} is not float32", found.name));
    }
    if found.shape.as_ref().is_some_and(|shape| shape.len() < 2) {
        return Err(format!("its output {:?} is not one row per picture", found.name));
    }
    Ok(found)
}

/// The product of an output's sizes, where they are all known.
fn features_of(sizes: &[Option<usize>]) -> Result<Option<usize>, String> {
    let Some(sizes) = sizes.iter().copied().collect::<Option<Vec<usize>>>() else { return Ok(None) };
    let product = sizes.iter().try_fold(1_usize, |product, &size| product.checked_mul(size));
    match product.filter(|&product| product <= MOST_FEATURES) {
        Some(product) => Ok(Some(product)),
        None => Err(format!("its output has {sizes:?} values per picture, at most {MOST_FEATURES} are taken")),
    }
}

fn check_contract(contract: &InputContract, input: &Port, shape: [Option<usize>; 4]) -> Result<(), String> {
    let InputContract { channels, height, width, .. } = *contract;
    let fits = input.picture_sizes(shape).into_iter().zip([channels, height, width]);
    if fits.into_iter().all(|(model, contract)| model.is_none_or(|model| model == contract)) {
        return Ok(());
    }
    let sizes = shape.map(|size| size.map_or("?".into(), |size| size.to_string()));
    Err(format!(
        "its input {:?} is [{}], which does not fit the contract's {channels} channels of {height} x {width}",
        input.name,
        sizes.join(", ")
    ))
}

/// What is known of a model before its sessions are made.
struct Model<'a> {
    path: &'a Path,
    /// Known already where the bytes lie in memory.
    sha256: Option<String>,
    inspection: &'a Inspection,
}

fn onnx_of(path: &Path, bytes: &[u8]) -> Result<Inspection> {
    onnx::inspect(bytes).map_err(|source| Error::ModelInvalid { path: path.into(), source })
}

/// The sum of bytes in memory, which must be the expected one where there is one.
fn checked_sha256(path: &Path, bytes: &[u8], options: &EncoderOptions) -> Result<String> {
    let found = byol_model::sha256_hex(bytes);
    match &options.expected_sha256 {
        Some(expected) if !expected.eq_ignore_ascii_case(&found) => {
            Err(Error::ModelHash { path: path.into(), expected: expected.clone(), found })
        }
        _ => Ok(found),
    }
}

fn padded<T: Copy + Default>(values: &[T], len: usize) -> Vec<T> {
    let mut padded = values.to_vec();
    padded.resize(len, T::default());
    padded
}

/// Ties an error to its picture; what is not the picture's fault stays as it is.
pub(crate) fn item(index: usize, error: Error) -> Error {
    match error {
        Error::Cancelled | Error::Deadline => error,
        error => Error::Item { index, source: Box::new(error) },
    }
}

/// Checks that one picture's features are finite.
pub(crate) fn finite(row: usize, features: &[f32]) -> Result<()> {
    match features.iter().position(|value| !value.is_finite()) {
        None => Ok(()),
        Some(column) => Err(Error::NonFinite { row, column, value: features[column] }),
    }
}

fn same(what: &'static str, expected: usize, found: usize) -> Result<()> {
    if expected == found { Ok(()) } else { Err(Error::DimensionMismatch { what, expected, found }) }
}
