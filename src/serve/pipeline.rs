//! Many pictures through an encoder, in order, with as much memory for many as for few.
//!
//! Where the encoder has several sessions, each of as many threads is a *lane*: it takes the next micro-batch, decodes
//! and resizes its pictures and infers them in a session of its own. No lane waits for another, so decoding fills every
//! gap of inference. Finished micro-batches are put in order again, and no lane runs far ahead of the slowest.
//!
//! With one session, one thread prepares the next micro-batch, with the runtime's threads beside it, while the caller's
//! thread infers. Buffers are used again in both.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;

use byol_model::dataset::Dataset;
use byol_model::picture::InputContract;
use ndarray::Array2;
use rayon::prelude::*;

use crate::cancel::Cancel;
use crate::encoder::{Encoder, InputKind, Pixels, finite, item};
use crate::error::{Error, Result};
use crate::features::Features;
use crate::pool::Wish;

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
    let mut values: Vec<f32> = Vec::new();
    let room = n.saturating_mul(dimension);
    values.try_reserve_exact(room).map_err(|_| Error::NoMemory { bytes: room.saturating_mul(size_of::<f32>()) })?;
    let mut good = Vec::with_capacity(n);
    let mut bad = Vec::new();
    let mut after = |done: usize| {
        if let Some(progress) = &mut progress {
            progress(done, n);
        }
    };
    batches(encoder, dataset, 0, options, cancel, &mut after, &mut |index, row| {
        match row {
            Ok(row) => {
                good.push(index);
                values.extend_from_slice(row);
            }
            Err(error) => bad.push(BadItem { index, name: dataset.name(index), error }),
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

/// Takes one picture's features, or what is wrong with it.
pub type RowSink<'a> = &'a mut dyn FnMut(usize, Result<&[f32]>) -> Result<()>;

/// Features of the pictures of a data set from number `first` on, one after the other in order. Memory does not depend on
/// their number.
///
/// # Errors
/// With `strict`, [`Error::Item`] for the first bad picture; what `sink` returns; [`Error::Cancelled`],
/// [`Error::Deadline`], [`Error::Runtime`].
pub fn extract_rows(
    encoder: &Encoder,
    dataset: &Dataset,
    first: usize,
    options: &PipelineOptions,
    cancel: &Cancel,
    sink: RowSink<'_>,
) -> Result<()> {
    batches(encoder, dataset, first, options, cancel, &mut |_| {}, sink)
}

/// As [`extract_rows`]; `after` each micro-batch with the number of pictures done.
fn batches(
    encoder: &Encoder,
    dataset: &Dataset,
    first: usize,
    options: &PipelineOptions,
    cancel: &Cancel,
    after: &mut dyn FnMut(usize),
    sink: RowSink<'_>,
) -> Result<()> {
    let batch = match options.batch {
        batch if batch > 0 && !encoder.has_fixed_batch() => batch,
        _ => encoder.micro_batch(),
    };
    let prepare = |index: usize, pixels: &mut [u8]| {
        let contract = encoder.contract();
        Ok(contract.prepare(dataset.picture_for(first + index, contract)?.view(), pixels)?)
    };
    let n = dataset.len().saturating_sub(first);
    stream(encoder, n, batch, &prepare, cancel, &mut |range, results, features| {
        for ((index, result), row) in range.clone().zip(results.drain(..)).zip(features.chunks(encoder.dimension())) {
            match result {
                Err(error) if options.strict => return Err(item(first + index, error)),
                result => sink(first + index, result.map(|()| row))?,
            }
        }
        after(first + range.end);
        Ok(())
    })
}

/// Writes the pixels of one picture, `[height, width, channels]`.
pub(crate) type Prepare<'a> = dyn Fn(usize, &mut [u8]) -> Result<()> + Sync + 'a;

/// Takes a finished micro-batch: which pictures, how each fared, and a row of features for each. Rows of bad pictures
/// mean nothing.
pub(crate) type Sink<'a> = dyn FnMut(Range<usize>, &mut Vec<Result<()>>, &[f32]) -> Result<()> + 'a;

/// Sends `n` pictures through `encoder`, at most `batch` at a time, in order.
pub(crate) fn stream(
    encoder: &Encoder,
    n: usize,
    batch: usize,
    prepare: &Prepare<'_>,
    cancel: &Cancel,
    sink: &mut Sink<'_>,
) -> Result<()> {
    if n <= batch {
        if n == 0 {
            return cancel.check();
        }
        let mut only = Batch::default();
        only.fill(0..n, encoder, prepare, Some(&encoder.runtime().preparers), cancel);
        only.infer(encoder, Wish::Latency, cancel)?;
        return sink(only.range.clone(), &mut only.results, &only.features);
    }
    match encoder.sessions() {
        1 => two_stages(encoder, n, batch, prepare, cancel, sink),
        sessions => lanes(encoder, n, batch.min(n.div_ceil(sessions)), sessions, prepare, cancel, sink),
    }
}

/// One thread prepares, this one infers.
fn two_stages(
    encoder: &Encoder,
    n: usize,
    batch: usize,
    prepare: &Prepare<'_>,
    cancel: &Cancel,
    sink: &mut Sink<'_>,
) -> Result<()> {
    thread::scope(|scope| {
        let (ready, batches) = mpsc::sync_channel::<Batch>(1);
        let (spent, empties) = mpsc::channel::<Batch>();
        let produce = move || {
            for first in (0..n).step_by(batch) {
                let mut next = empties.try_recv().unwrap_or_default();
                let preparers = Some(&encoder.runtime().preparers);
                next.fill(first..(first + batch).min(n), encoder, prepare, preparers, cancel);
                // The other end is gone once the call has failed.
                if ready.send(next).is_err() {
                    return;
                }
            }
        };
        spawn(scope, produce)?;
        // Fewer than all arrive only if the preparing thread panics, and then the scope does too.
        for mut batch in batches {
            batch.infer(encoder, Wish::Latency, cancel)?;
            sink(batch.range.clone(), &mut batch.results, &batch.features)?;
            // The other end is gone when the last batch is under way.
            let _ = spent.send(batch);
        }
        Ok(())
    })
}

/// `lanes` threads prepare and infer, each on its own; this one puts their micro-batches in order.
fn lanes(
    encoder: &Encoder,
    n: usize,
    batch: usize,
    lanes: usize,
    prepare: &Prepare<'_>,
    cancel: &Cancel,
    sink: &mut Sink<'_>,
) -> Result<()> {
    let count = n.div_ceil(batch);
    let order = Order { window: 2 * lanes, ..Order::default() };
    thread::scope(|scope| {
        // Whatever ends this closure, a failure or a panic of the sink, ends the lanes.
        let _stop = StopOnDrop(&order);
        for _ in 0..lanes.min(count) {
            let lane = || {
                let _stop = StopOnPanic(&order);
                while let Some((number, mut next)) = order.next(count) {
                    let first = number * batch;
                    next.fill(first..(first + batch).min(n), encoder, prepare, None, cancel);
                    let outcome = next.infer(encoder, Wish::Throughput, cancel);
                    order.put(number, outcome.map(|()| next));
                }
            };
            spawn(scope, lane)?;
        }
        for number in 0..count {
            // None only if a lane panics, and then the scope does too.
            let Some(batch) = order.take(number) else { break };
            let mut batch = batch?;
            sink(batch.range.clone(), &mut batch.results, &batch.features)?;
            order.recycle(batch);
        }
        Ok(())
    })
}

fn spawn<'s>(scope: &'s thread::Scope<'s, '_>, work: impl FnOnce() + Send + 's) -> Result<()> {
    let spawned = thread::Builder::new().name("byol-prepare".into()).spawn_scoped(scope, work);
    spawned.map(drop).map_err(Error::io("thread for preparing pictures"))
}

/// Micro-batches that lanes have finished, until their turn comes.
#[derive(Default)]
struct Order {
    state: Mutex<OrderState>,
    changed: Condvar,
    /// How far the lanes may be ahead of the sink, in micro-batches.
    window: usize,
}

#[derive(Default)]
struct OrderState {
    done: BTreeMap<usize, Result<Batch>>,
    spent: Vec<Batch>,
    /// The micro-batch that the next free lane gets.
    next: usize,
    /// The micro-batch that the sink waits for.
    wanted: usize,
    stopped: bool,
}

impl Order {
    /// The number of the next micro-batch and room for it; `None` when there is nothing left to do.
    fn next(&self, count: usize) -> Option<(usize, Batch)> {
        let mut state = self.locked();
        loop {
            if state.stopped || state.next >= count {
                return None;
            }
            if state.next < state.wanted + self.window {
                state.next += 1;
                return Some((state.next - 1, state.spent.pop().unwrap_or_default()));
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn put(&self, number: usize, batch: Result<Batch>) {
        self.locked().done.insert(number, batch);
        self.changed.notify_all();
    }

    /// Waits for a micro-batch; `None` once a lane has panicked.
    fn take(&self, number: usize) -> Option<Result<Batch>> {
        let mut state = self.locked();
        state.wanted = number;
        self.changed.notify_all();
        loop {
            if let Some(batch) = state.done.remove(&number) {
                return Some(batch);
            }
            if state.stopped {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn recycle(&self, batch: Batch) {
        self.locked().spent.push(batch);
    }

    fn stop(&self) {
        self.locked().stopped = true;
        self.changed.notify_all();
    }

    fn locked(&self) -> MutexGuard<'_, OrderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct StopOnDrop<'a>(&'a Order);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

struct StopOnPanic<'a>(&'a Order);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.stop();
        }
    }
}

/// Prepared pictures on their way to the model.
#[derive(Default)]
struct Batch {
    range: Range<usize>,
    bytes: Vec<u8>,
    /// Only for a model that takes float32.
    floats: Vec<f32>,
    results: Vec<Result<()>>,
    /// A row for each picture, once inferred.
    features: Vec<f32>,
}

impl Batch {
    /// Prepares the pictures of `range`, on `preparers` or else on this thread. One that fails leaves a black picture.
    fn fill(
        &mut self,
        range: Range<usize>,
        encoder: &Encoder,
        prepare: &Prepare<'_>,
        preparers: Option<&rayon::ThreadPool>,
        cancel: &Cancel,
    ) {
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
        let Some(preparers) = preparers.filter(|_| count > 1) else {
            let pictures = bytes.chunks_mut(size).zip(results).enumerate();
            pictures.for_each(|(i, (pixels, result))| one(i, pixels, result));
            let pictures = floats.chunks_mut(size).zip(bytes.chunks(size));
            pictures.for_each(|(floats, pixels)| contract.normalise(pixels, floats));
            return;
        };
        preparers.install(|| {
            let pictures = bytes.par_chunks_mut(size).zip(&mut *results).enumerate();
            pictures.for_each(|(i, (pixels, result))| one(i, pixels, result));
            let pictures = floats.par_chunks_mut(size).zip(bytes.par_chunks(size));
            pictures.for_each(|(floats, pixels)| contract.normalise(pixels, floats));
        });
    }

    /// Computes the features of the prepared pictures, and marks those that are not finite.
    fn infer(&mut self, encoder: &Encoder, wish: Wish, cancel: &Cancel) -> Result<()> {
        // A picture that was skipped because of `cancel` is not a bad one.
        cancel.check()?;
        let count = self.range.len();
        let mut features = std::mem::take(&mut self.features);
        features.resize(count * encoder.dimension(), 0.0);
        if self.results.iter().any(Result::is_ok) {
            encoder.infer(self.pixels(encoder), count, &mut features, wish, cancel)?;
        }
        let rows = features.chunks(encoder.dimension());
        for ((index, result), row) in self.range.clone().zip(&mut self.results).zip(rows) {
            if result.is_ok() {
                *result = finite(index, row);
            }
        }
        self.features = features;
        Ok(())
    }

    fn pixels(&self, encoder: &Encoder) -> Pixels<'_> {
        match encoder.input_kind() {
            InputKind::U8 => Pixels::U8(&self.bytes),
            InputKind::F32 => Pixels::F32(&self.floats),
        }
    }
}
