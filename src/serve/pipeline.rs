//! Many pictures through an encoder: the next micro-batch is decoded and resized while one is inferred.
//!
//! One thread prepares, with the runtime's threads beside it; the caller's thread infers and hands the features on, in
//! the order of the pictures. Between them lies one finished micro-batch, and buffers are used again, so the memory
//! needed does not depend on the number of pictures.

use std::ops::Range;
use std::sync::mpsc;
use std::thread;

use byol_model::dataset::Dataset;
use byol_model::picture::InputContract;
use ndarray::Array2;
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::encoder::{Encoder, InputKind, Pixels, finite, item};
use crate::error::{Error, Result};
use crate::features::Features;

/// How to go through a data set.
#[derive(Clone, Copy, Debug, Default)]
pub struct PipelineOptions {
    /// Pictures that are inferred at once; 0 chooses. Ignored by a model with one batch size.
    pub batch: usize,
    /// Whether a picture that cannot be used fails the call. Otherwise it is left out and reported.
    pub strict: bool,
}

/// A picture of a data set that was left out.
#[derive(Debug)]
pub struct BadItem {
    /// Its index in the data set.
    pub index: usize,
    /// Its name, a path in most data sets.
    pub name: String,
    /// What is wrong with it.
    pub error: Error,
}

/// Features of a whole data set, with its labels, names and classes. `progress` is called on this thread after each
/// micro-batch with the number of pictures done and in total.
///
/// # Errors
/// [`Error::EmptyData`] if no picture could be used; with `strict`, [`Error::Item`] for the first bad picture;
/// [`Error::Cancelled`], [`Error::Deadline`], [`Error::Runtime`].
pub fn extract_dataset(
    encoder: &Encoder,
    dataset: &Dataset,
    options: &PipelineOptions,
    cancel: &Cancel,
    mut progress: Option<&mut dyn FnMut(usize, usize)>,
) -> Result<(Features, Vec<BadItem>)> {
    let (n, dimension) = (dataset.len(), encoder.dimension());
    let batch = match options.batch {
        batch if batch > 0 && !encoder.has_fixed_batch() => batch,
        _ => encoder.micro_batch(),
    };
    let mut values: Vec<f32> = Vec::new();
    let room = n.saturating_mul(dimension);
    values.try_reserve_exact(room).map_err(|_| Error::NoMemory { bytes: room.saturating_mul(size_of::<f32>()) })?;
    let mut good = Vec::with_capacity(n);
    let mut bad = Vec::new();
    let prepare =
        |index: usize, pixels: &mut [u8]| Ok(encoder.contract().prepare(dataset.picture(index)?.view(), pixels)?);
    stream(encoder, n, batch, &prepare, cancel, &mut |range, results, features| {
        for ((index, result), row) in range.clone().zip(results.drain(..)).zip(features.chunks(dimension)) {
            match result {
                Ok(()) => {
                    good.push(index);
                    values.extend_from_slice(row);
                }
                Err(error) if options.strict => return Err(item(index, error)),
                Err(error) => bad.push(BadItem { index, name: dataset.name(index), error }),
            }
        }
        if let Some(progress) = &mut progress {
            progress(range.end, n);
        }
        Ok(())
    })?;
    if good.is_empty() {
        return Err(Error::EmptyData { what: "pictures that can be used" });
    }
    let values = Array2::from_shape_vec((good.len(), dimension), values).expect("one row for each good picture");
    let labels = dataset.labels().map(|labels| good.iter().map(|&index| labels[index]).collect());
    let classes = (!dataset.classes().is_empty()).then(|| dataset.classes().to_vec());
    let names = Some(good.iter().map(|&index| dataset.name(index)).collect());
    let encoder = Some(encoder.sha256().to_owned());
    Ok((Features { values, labels, names, classes, encoder }, bad))
}

/// Writes the pixels of one picture, `[height, width, channels]`.
pub(crate) type Prepare<'a> = dyn Fn(usize, &mut [u8]) -> Result<()> + Sync + 'a;

/// Takes a finished micro-batch: which pictures, how each fared, and a row of features for each. Rows of bad pictures
/// mean nothing.
pub(crate) type Sink<'a> = dyn FnMut(Range<usize>, &mut Vec<Result<()>>, &[f32]) -> Result<()> + 'a;

/// Sends `n` pictures through `encoder`, `batch` at a time, in order.
pub(crate) fn stream(
    encoder: &Encoder,
    n: usize,
    batch: usize,
    prepare: &Prepare<'_>,
    cancel: &Cancel,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let mut features = Vec::new();
    let mut finish = |batch: &mut Batch| -> Result<()> {
        // A picture that was skipped because of `cancel` is not a bad one.
        cancel.check()?;
        let count = batch.range.len();
        features.resize(count * encoder.dimension(), 0.0);
        if batch.results.iter().any(Result::is_ok) {
            encoder.infer(batch.pixels(encoder), count, &mut features, cancel)?;
        }
        let rows = features.chunks(encoder.dimension());
        for ((index, result), row) in batch.range.clone().zip(&mut batch.results).zip(rows) {
            if result.is_ok() {
                *result = finite(index, row);
            }
        }
        sink(batch.range.clone(), &mut batch.results, &features)
    };
    if n <= batch {
        let mut only = Batch::default();
        only.fill(0..n, encoder, prepare, cancel);
        return if n == 0 { cancel.check() } else { finish(&mut only) };
    }
    thread::scope(|scope| {
        let (ready, batches) = mpsc::sync_channel::<Batch>(1);
        let (spent, empties) = mpsc::channel::<Batch>();
        let produce = move || {
            for first in (0..n).step_by(batch) {
                let mut next = empties.try_recv().unwrap_or_default();
                next.fill(first..(first + batch).min(n), encoder, prepare, cancel);
                // The other end is gone once the call has failed.
                if ready.send(next).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new()
            .name("byol-prepare".into())
            .spawn_scoped(scope, produce)
            .map_err(Error::io("thread for preparing pictures"))?;
        // Fewer than all arrive only if the preparing thread panics, and then the scope does too.
        for mut batch in batches {
            finish(&mut batch)?;
            // The other end is gone when the last batch is under way.
            let _ = spent.send(batch);
        }
        Ok(())
    })
}

/// Prepared pictures on their way to the model.
#[derive(Default)]
struct Batch {
    range: Range<usize>,
    bytes: Vec<u8>,
    /// Only for a model that takes float32.
    floats: Vec<f32>,
    results: Vec<Result<()>>,
}

impl Batch {
    /// Prepares the pictures of `range`, in parallel. One that fails leaves a black picture.
    fn fill(&mut self, range: Range<usize>, encoder: &Encoder, prepare: &Prepare<'_>, cancel: &Cancel) {
        let (size, count) = (encoder.contract().bytes(), range.len());
        self.bytes.resize(count * size, 0);
        self.results.clear();
        self.results.resize_with(count, || Ok(()));
        let first = range.start;
        self.range = range;
        let one = |i: usize, pixels: &mut [u8], result: &mut Result<()>| {
            *result = cancel.check().and_then(|()| prepare(first + i, pixels));
            if result.is_err() {
                pixels.fill(0);
            }
        };
        let floats = encoder.input_kind() == InputKind::F32;
        self.floats.resize(if floats { count * size } else { 0 }, 0.0);
        let contract: &InputContract = encoder.contract();
        let Self { bytes, floats, results, .. } = self;
        // Waking the pool costs more than it gains for a single picture.
        if count == 1 {
            one(0, bytes, &mut results[0]);
            if !floats.is_empty() {
                contract.normalise(bytes, floats);
            }
            return;
        }
        encoder.runtime().preparers.install(|| {
            let pictures = bytes.par_chunks_mut(size).zip(&mut *results).enumerate();
            pictures.for_each(|(i, (pixels, result))| one(i, pixels, result));
            let pictures = floats.par_chunks_mut(size).zip(bytes.par_chunks(size));
            pictures.for_each(|(floats, pixels)| contract.normalise(pixels, floats));
        });
    }

    fn pixels(&self, encoder: &Encoder) -> Pixels<'_> {
        match encoder.input_kind() {
            InputKind::U8 => Pixels::U8(&self.bytes),
            InputKind::F32 => Pixels::F32(&self.floats),
        }
    }
}
