//! Batches of two views, prepared ahead on background threads.
//!
//! Which pictures are in batch `step` and how each is changed follow from the seed and the step alone, so that a run
//! resumes at any step with nothing to restore, and the number of threads changes nothing but the time. Each epoch is
//! a fresh permutation; its last incomplete batch is left out, because BatchNorm should always see the same number.
//!
//! Data too large to be read anywhere at any time are streamed instead (`window`): see [`crate::stream`].
//!
//! Pictures that fit the memory budget are decoded once; others are decoded each time they are met. A picture with
//! another number of channels than the encoder's is converted when it is decoded: colour becomes luminance, gray
//! becomes three equal channels, as serving does it.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use byol_model::dataset::Dataset;
use rayon::prelude::*;

use crate::augment::{Draw, Random, ViewsConfig};
use crate::canvas::Canvas;
use crate::error::{Error, Result};
use crate::profile;
use crate::resample::Source;
use crate::stream::{Held, Streams};

/// What a [`Loader`] makes.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Side of a view in pixels.
    pub size: usize,
    /// Channels of a view: 1 or 3.
    pub channels: usize,
    /// Subtracted from pixels in 0..1, one number for each channel.
    pub mean: Vec<f32>,
    /// Divides what is left.
    pub std: Vec<f32>,
    /// The two pipelines.
    pub views: ViewsConfig,
    /// Make the first view only; the second stays empty.
    pub single: bool,
    /// Make no view at all: say which pictures a batch has ([`crate::device_views`] makes its views).
    pub numbers_only: bool,
    /// Pictures in a batch.
    pub batch: usize,
    /// Decides order and views.
    pub seed: u64,
    /// Threads that prepare batches; 0 is as many as the machine offers.
    pub threads: usize,
    /// Which part of every batch is made here: this rank, and how many ranks there are. `(0, 1)` is all of it.
    pub part: (usize, usize),
    /// Bytes that decoded pictures may take in memory.
    pub memory: u64,
    /// Read front to back, and shuffle within about so many pictures; none shuffles all, and reads anywhere.
    pub window: Option<usize>,
}

/// Decoded pictures are kept up to this many bytes unless asked otherwise.
pub const MEMORY: u64 = 2 << 30;

/// Finished batches that wait at most; one more may be in the making.
const AHEAD: usize = 2;

/// The view number that stands for the order of an epoch.
const ORDER: u64 = u64::MAX;

/// Two views of some pictures.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// The step it is for.
    pub step: u64,
    /// First views, batch x channels x size x size, normalised.
    pub first: Vec<f32>,
    /// Second views, the same pictures in the same order.
    pub second: Vec<f32>,
    /// The pictures' numbers in the data set.
    pub indices: Vec<u32>,
}

/// Makes batches; see the module's text.
pub struct Loader {
    shared: Arc<Shared>,
    ahead: Option<Ahead>,
}

struct Shared {
    pictures: Pictures,
    /// The order of the epoch that was asked for last.
    order: Mutex<Option<(u64, Arc<Vec<u32>>)>>,
    options: LoaderOptions,
    pool: rayon::ThreadPool,
    /// Buffers given back, and canvases between pictures.
    spare: Mutex<Vec<Batch>>,
    canvases: Mutex<Vec<(Canvas, Vec<crate::augment::Sampled>)>>,
}

struct Ahead {
    next: u64,
    batches: Receiver<Result<Batch>>,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Checks the settings, reads the pictures if they fit the memory budget, and prepares nothing yet.
    ///
    /// # Errors
    /// [`Error::BatchTooLarge`], [`Error::Data`] for an empty data set, [`Error::Operator`], [`Error::Setting`], and
    /// [`Error::Model`] naming the first picture that cannot be read: any picture when all are read at once, else one
    /// of a sample; the others are met later, in [`Loader::batch`].
    pub fn new(dataset: &Dataset, options: LoaderOptions) -> Result<Loader> {
        check(dataset, &options)?;
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|i| format!("byol-views-{i}"))
            .build()
            .map_err(|e| Error::setting("threads", options.threads, e.to_string()))?;
        let pictures = match options.window {
            _ if options.numbers_only => Pictures::OnDisk(dataset.clone()),
            Some(window) => Pictures::streamed(dataset, options.batch, window)?,
            None => pool.install(|| Pictures::read(dataset, options.channels, options.memory))?,
        };
        let (spare, canvases) = (Mutex::default(), Mutex::default());
        let order = Mutex::default();
        Ok(Loader { shared: Arc::new(Shared { pictures, order, options, pool, spare, canvases }), ahead: None })
    }

    /// Batches in an epoch.
    pub fn steps_per_epoch(&self) -> u64 {
        self.shared.steps_per_epoch()
    }

    /// Pictures in the data set.
    pub fn pictures(&self) -> usize {
        self.shared.pictures.len()
    }

    /// Whether all pictures are held decoded in memory.
    pub fn in_memory(&self) -> bool {
        matches!(self.shared.pictures, Pictures::Decoded { .. })
    }

    /// Batch number `step`, counted from 0 through all epochs. Steps asked for in order are prepared ahead; any other
    /// step begins anew from there.
    ///
    /// # Errors
    /// [`Error::Model`], naming a picture that cannot be read.
    pub fn batch(&mut self, step: u64) -> Result<Batch> {
        if self.ahead.as_ref().is_none_or(|ahead| ahead.next != step) {
            self.ahead = None;
            self.ahead = Some(Ahead::start(&self.shared, step)?);
        }
        let ahead = self.ahead.as_mut().ok_or(Error::Thread("loader"))?;
        ahead.next += 1;
        let batch = ahead.batches.recv().unwrap_or(Err(Error::Thread("loader")));
        if batch.is_err() {
            self.ahead = None;
        }
        batch
    }

    /// Hands a used batch back, so that its memory is used again.
    pub fn give_back(&self, batch: Batch) {
        if let Ok(mut spare) = self.shared.spare.lock()
            && spare.len() <= AHEAD
        {
            spare.push(batch);
        }
    }
}

impl Ahead {
    fn start(shared: &Arc<Shared>, step: u64) -> Result<Ahead> {
        let (sender, batches): (SyncSender<Result<Batch>>, _) = sync_channel(AHEAD);
        let shared = Arc::clone(shared);
        let prepare = move || {
            for step in step.. {
                let batch = shared.prepare(step);
                let failed = batch.is_err();
                // The receiver is gone when the loader is, or when another step was asked for.
                if sender.send(batch).is_err() || failed {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new()
            .name("byol-loader".into())
            .spawn(prepare)
            .map_err(|_| Error::Thread("loader"))?;
        Ok(Ahead { next: step, batches, thread: Some(thread) })
    }
}

impl Drop for Ahead {
    fn drop(&mut self) {
        // Closing the channel first lets the thread end at its next batch.
        self.batches = sync_channel(1).1;
        if let Some(thread) = self.thread.take() {
            // A panic there was reported by the channel already.
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn steps_per_epoch(&self) -> u64 {
        (self.pictures.len() / self.options.batch) as u64
    }

    fn prepare(&self, step: u64) -> Result<Batch> {
        let LoaderOptions { size, channels, batch: whole, seed, part: (part, parts), .. } = self.options;
        let count = whole / parts;
        let (epoch, place) = (step / self.steps_per_epoch(), (step % self.steps_per_epoch()) as usize);
        let order = self.order(epoch);
        let values = channels * size * size;
        let mut batch = self.spare.lock().ok().and_then(|mut spare| spare.pop()).unwrap_or(Batch {
            step,
            first: Vec::new(),
            second: Vec::new(),
            indices: Vec::new(),
        });
        batch.step = step;
        batch.indices.clear();
        batch.indices.extend_from_slice(&order[place * whole + part * count..][..count]);
        if self.options.numbers_only {
            return Ok(batch);
        }
        batch.first.resize(count * values, 0.0);
        batch.second.resize(if self.options.single { 0 } else { count * values }, 0.0);
        if let Pictures::Streamed { dataset, streams, reading } = &self.pictures {
            let _span = profile::span("read");
            let mut reading = reading.lock().map_err(|_| Error::Thread("loader"))?;
            reading.turn_to(self, dataset, streams, epoch, streams.window(place))?;
        }
        let Batch { first, second, indices, .. } = &mut batch;
        let _span = profile::span("views");
        self.pool.install(|| {
            if self.options.single {
                return first.par_chunks_exact_mut(values).zip(indices.par_iter()).try_for_each(|(first, &index)| {
                    self.pictures.with(index as usize, channels, |source| {
                        self.view(source, Draw { seed, epoch, picture: index.into(), view: 0 }, first);
                    })
                });
            }
            let views = first.par_chunks_exact_mut(values).zip(second.par_chunks_exact_mut(values));
            views.zip(indices.par_iter()).try_for_each(|((first, second), &index)| {
                self.pictures.with(index as usize, channels, |source| {
                    self.view(source, Draw { seed, epoch, picture: index.into(), view: 0 }, first);
                    self.view(source, Draw { seed, epoch, picture: index.into(), view: 1 }, second);
                })
            })
        })?;
        Ok(batch)
    }

    fn order(&self, epoch: u64) -> Arc<Vec<u32>> {
        let make = || match &self.pictures {
            Pictures::Streamed { streams, .. } => streams.epoch(self.options.seed, epoch),
            Pictures::Decoded { .. } | Pictures::OnDisk(_) => order(self.options.seed, epoch, self.pictures.len()),
        };
        let Ok(mut kept) = self.order.lock() else { return Arc::new(make()) };
        match &*kept {
            Some((of, order)) if *of == epoch => Arc::clone(order),
            _ => {
                let order = Arc::new(make());
                *kept = Some((epoch, Arc::clone(&order)));
                order
            }
        }
    }

    fn view(&self, source: Source<'_>, draw: Draw, out: &mut [f32]) {
        let LoaderOptions { size, channels, mean, std, views, .. } = &self.options;
        let kept = self.canvases.lock().ok().and_then(|mut canvases| canvases.pop());
        let (mut canvas, mut plan) = kept.unwrap_or_else(|| (Canvas::new(*channels, *size, *size), Vec::new()));
        views.sample(draw, (source.width, source.height), *size, &mut plan);
        canvas.paint(source, &plan);
        canvas.normalise_into(mean, std, out);
        if let Ok(mut canvases) = self.canvases.lock() {
            canvases.push((canvas, plan));
        }
    }
}

/// The order of the pictures in an epoch.
fn order(seed: u64, epoch: u64, pictures: usize) -> Vec<u32> {
    let mut order: Vec<u32> = (0..pictures as u32).collect();
    Random::new(Draw { seed, epoch, picture: 0, view: ORDER }).shuffle(&mut order);
    order
}

fn check(dataset: &Dataset, options: &LoaderOptions) -> Result<()> {
    let LoaderOptions { size, channels, mean, std, views, batch, .. } = options;
    if dataset.is_empty() {
        return Err(Error::Data { path: dataset.path().to_owned(), why: "it holds no pictures".into() });
    }
    if !matches!(channels, 1 | 3) {
        return Err(Error::setting("encoder.channels", channels, "pictures from files have 1 or 3 channels"));
    }
    if *size == 0 {
        return Err(Error::setting("encoder.image_size", size, "a view needs at least one pixel"));
    }
    if *batch == 0 {
        return Err(Error::setting("batch", batch, "a batch needs at least one picture"));
    }
    let (part, parts) = options.part;
    if part >= parts || !batch.is_multiple_of(parts) {
        let why = format!("part {part} of {parts} needs a batch that {parts} divides");
        return Err(Error::setting("batch_size", batch, why));
    }
    if *batch > dataset.len() {
        let (path, found) = (dataset.path().to_owned(), dataset.len());
        return Err(Error::BatchTooLarge { batch: *batch, path, found });
    }
    if u32::try_from(dataset.len()).is_err() {
        return Err(Error::Data { path: dataset.path().to_owned(), why: "it holds more than 2^32 pictures".into() });
    }
    for (key, values) in [("mean", mean), ("std", std)] {
        if values.len() != *channels || values.iter().any(|v| !v.is_finite() || (key == "std" && *v <= 0.0)) {
            let why = format!("{channels} finite numbers are needed, and a deviation must be above 0");
            return Err(Error::setting(key, format!("{values:?}"), why));
        }
    }
    views.check(*size)
}

/// The pictures of a data set, decoded or not.
enum Pictures {
    Decoded { pixels: Vec<u8>, places: Vec<Place>, channels: usize },
    OnDisk(Dataset),
    Streamed { dataset: Dataset, streams: Streams, reading: Mutex<Reading> },
}

/// Number of the epoch, and of the window in it.
type Window = (u64, usize);

/// The window that is used, and the one that is being read meanwhile.
#[derive(Default)]
struct Reading {
    at: Option<Window>,
    held: Arc<Held>,
    next: Option<(Window, JoinHandle<Result<Held>>)>,
}

impl Reading {
    /// Makes a window the one that is used, and begins to read the one behind it.
    fn turn_to(&mut self, shared: &Shared, data: &Dataset, streams: &Streams, epoch: u64, window: usize) -> Result<()> {
        let wanted = (epoch, window);
        if self.at == Some(wanted) {
            return Ok(());
        }
        self.at = None;
        self.held = Arc::default(); // before the next is complete, so that no third is held
        let read_ahead = match self.next.take() {
            Some((of, thread)) if of == wanted => Some(thread.join().map_err(|_| Error::Thread("reader"))??),
            Some((_, thread)) => {
                let _ = thread.join();
                None
            }
            None => None,
        };
        let reads = |(epoch, window): (u64, usize)| streams.reads(&shared.order(epoch), window, shared.options.part);
        self.held = Arc::new(match read_ahead {
            Some(held) => held,
            None => read_window(data, &reads(wanted))?,
        });
        self.at = Some(wanted);
        let behind = if window + 1 < streams.windows() { (epoch, window + 1) } else { (epoch + 1, 0) };
        let (data, numbers) = (data.clone(), reads(behind));
        let read = move || read_window(&data, &numbers);
        let thread = std::thread::Builder::new().name("byol-reader".into()).spawn(read);
        self.next = Some((behind, thread.map_err(|_| Error::Thread("reader"))?));
        Ok(())
    }
}

/// Reads pictures, undecoded, in the order of their files.
fn read_window(data: &Dataset, numbers: &[u32]) -> Result<Held> {
    let mut held = Held::with_capacity(numbers.len());
    for &number in numbers {
        if let Some(bytes) = data.encoded(number as usize)? {
            held.insert(number, bytes);
        }
    }
    Ok(held)
}

struct Place {
    offset: usize,
    width: u32,
    height: u32,
}

impl Pictures {
    fn streamed(dataset: &Dataset, batch: usize, window: usize) -> Result<Pictures> {
        let streams = Streams::new(&dataset.runs()?, batch, window);
        Ok(Pictures::Streamed { dataset: dataset.clone(), streams, reading: Mutex::default() })
    }

    fn read(dataset: &Dataset, channels: usize, memory: u64) -> Result<Pictures> {
        // Sizes are known only after decoding, so a few pictures from all over speak for the rest.
        let sample = dataset.len().min(32);
        let bytes: u64 = (0..sample)
            .into_par_iter()
            .map(|i| dataset.picture(i * dataset.len() / sample).map(|p| (p.width * p.height * channels) as u64))
            .try_reduce(|| 0, |a, b| Ok(a + b))?;
        let expected = bytes / sample as u64 * dataset.len() as u64;
        if expected > memory {
            return Ok(Pictures::OnDisk(dataset.clone()));
        }
        let (mut pixels, mut places) = (Vec::with_capacity(expected as usize), Vec::with_capacity(dataset.len()));
        // In stretches, so that no second copy of everything is ever held.
        for start in (0..dataset.len()).step_by(1024) {
            let end = (start + 1024).min(dataset.len());
            let decoded: Vec<_> = (start..end)
                .into_par_iter()
                .map(|i| {
                    let picture = dataset.picture(i)?;
                    let packed = picture.view().packed(channels)?.into_owned();
                    Ok((packed, picture.width as u32, picture.height as u32))
                })
                .collect::<Result<_>>()?;
            for (packed, width, height) in decoded {
                places.push(Place { offset: pixels.len(), width, height });
                pixels.extend_from_slice(&packed);
            }
            if pixels.len() as u64 > memory {
                return Ok(Pictures::OnDisk(dataset.clone()));
            }
        }
        Ok(Pictures::Decoded { pixels, places, channels })
    }

    fn len(&self) -> usize {
        match self {
            Pictures::Decoded { places, .. } => places.len(),
            Pictures::OnDisk(dataset) | Pictures::Streamed { dataset, .. } => dataset.len(),
        }
    }

    fn with<R>(&self, index: usize, wanted: usize, then: impl FnOnce(Source<'_>) -> R) -> Result<R> {
        let picture = match self {
            Pictures::Decoded { pixels, places, channels } => {
                let Place { offset, width, height } = places[index];
                let (width, height) = (width as usize, height as usize);
                let pixels = &pixels[offset..][..width * height * channels];
                return Ok(then(Source { pixels, channels: *channels, width, height }));
            }
            Pictures::OnDisk(dataset) => dataset.picture(index)?,
            Pictures::Streamed { dataset, reading, .. } => {
                let held = reading.lock().map_err(|_| Error::Thread("loader"))?.held.clone();
                match held.get(&(index as u32)) {
                    Some(bytes) => dataset.decode(index, bytes)?,
                    // It lies in memory anyway.
                    None => dataset.picture(index)?,
                }
            }
        };
        let pixels = picture.view().packed(wanted)?;
        let (width, height) = (picture.width, picture.height);
        Ok(then(Source { pixels: &pixels, channels: wanted, width, height }))
    }
}

/// Mean and standard deviation of each channel over pixels in 0..1, of all pictures or of `most` evenly picked ones.
///
/// # Errors
/// As [`Loader::new`], for the pictures read.
pub fn measure(dataset: &Dataset, channels: usize, most: usize) -> Result<(Vec<f32>, Vec<f32>)> {
    if dataset.is_empty() || most == 0 {
        return Err(Error::Data { path: dataset.path().to_owned(), why: "it holds no pictures to measure".into() });
    }
    let count = dataset.len().min(most);
    // Sums of whole numbers: exact, so in any order the same.
    let totals = (0..count)
        .into_par_iter()
        .map(|i| {
            let picture = dataset.picture((i as u64 * dataset.len() as u64 / count as u64) as usize)?;
            let pixels = picture.view().packed(channels)?;
            let mut totals = vec![(0u64, 0u128, 0u128); channels];
            for pixel in pixels.chunks_exact(channels) {
                for ((n, sum, squares), &value) in totals.iter_mut().zip(pixel) {
                    *n += 1;
                    *sum += u128::from(value);
                    *squares += u128::from(value) * u128::from(value);
                }
            }
            Ok::<_, Error>(totals)
        })
        .try_reduce(
            || vec![(0, 0, 0); channels],
            |a, b| Ok(a.into_iter().zip(b).map(|(a, b)| (a.0 + b.0, a.1 + b.1, a.2 + b.2)).collect()),
        )?;
    let moments = totals.into_iter().map(|(n, sum, squares)| {
        let mean = sum as f64 / n as f64;
        let variance = (squares as f64 / n as f64 - mean * mean).max(0.0);
        // Pictures of one flat value have no deviation; 1/255 keeps the division sound.
        ((mean / 255.0) as f32, (variance.sqrt() / 255.0).max(1.0 / 255.0) as f32)
    });
    Ok(moments.unzip())
}
