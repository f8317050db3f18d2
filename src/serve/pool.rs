//! The sessions of an encoder: how many there are, how many threads each has, and who may use which.
//!
//! A session serves one call at a time. Two kinds exist, because two wishes pull apart:
//! - the *wide* session spends all threads on one call: the shortest wait for a caller who is alone;
//! - *narrow* sessions run on their caller's thread alone. As many of them as there are threads do more work per second
//!   than a wide one, because their threads never wait for each other (docs/results.md), so calls that come at the same
//!   time, and calls with many pictures, take these. They are made when they are first needed.
//!
//! All kinds give the same bits. Each holds its own copy of the weights, so a large model gets fewer narrow sessions,
//! with several threads each.
//!
//! Calls are served in the order in which they came: who has just had a session goes behind those that wait. Without that
//! order a client that comes back at once overtakes the others, and a few of them wait very long (docs/results.md).

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ort::session::Session;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::model_file::ModelFile;
use crate::provider::Provider;
use crate::runtime::Runtime;

/// All narrow sessions together may hold this many bytes of weights; one is always allowed.
const NARROW_BYTES: usize = 2 << 30;
/// How often a waiting call looks at its `cancel`.
const LOOK: Duration = Duration::from_millis(5);

/// Where the first sessions of a model come from.
#[derive(Clone, Copy)]
pub(crate) enum Weights<'a> {
    /// A file, which the runtime reads by its name.
    File(&'a ModelFile),
    /// Bytes, and the file that they are of, if any.
    Memory(&'a [u8], Option<&'a Path>),
}

/// Where further sessions of a model come from.
enum Origin {
    /// A file, which must still have these bytes (SHA-256).
    File(PathBuf, String),
    /// The same, and no other bytes may ever reach the runtime.
    Pinned(PathBuf, String),
    /// Bytes that came from memory.
    Memory(Arc<[u8]>),
}

/// What a call is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    /// To be over soon.
    Latency,
    /// To leave the other threads to its neighbours.
    Throughput,
}

/// The sessions of an encoder.
pub(crate) struct Pool {
    state: Mutex<State>,
    origin: Origin,
    /// The model's name in errors.
    path: PathBuf,
    provider: Provider,
    narrow_most: usize,
    narrow_kind: Kind,
    has_wide: bool,
}

#[derive(Default)]
struct State {
    wide: Option<Session>,
    narrow: Vec<Session>,
    /// Narrow sessions that exist or are being made.
    narrow_made: usize,
    /// Set when a narrow session could not be made: the others have to do.
    stuck: bool,
    /// Those that wait, the next one first. Each has a bell of its own, so that nobody is woken in vain.
    queue: VecDeque<Arc<Condvar>>,
}

impl State {
    /// Wakes whoever is next.
    fn call_next(&self) {
        if let Some(bell) = self.queue.front() {
            bell.notify_one();
        }
    }
}

/// A session that is taken out.
pub(crate) struct Lease<'a> {
    pool: &'a Pool,
    wide: bool,
    /// `None` only while it is put back.
    session: Option<Session>,
}

/// How a pool is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Layout {
    wide: bool,
    narrow: usize,
    threads: usize,
}

impl Layout {
    /// `sessions` as in [`crate::encoder::EncoderOptions::sessions`], for a model of so many bytes.
    fn new(sessions: usize, bulk: bool, threads: usize, bytes: usize) -> Self {
        if sessions > 0 {
            let narrow = if sessions == 1 { 0 } else { sessions };
            return Self { wide: sessions == 1, narrow, threads: (threads / sessions).max(1) };
        }
        if threads == 1 {
            return Self { wide: true, narrow: 0, threads: 1 };
        }
        let narrow = (NARROW_BYTES / bytes.max(1)).clamp(1, threads);
        // Several threads for some, where memory allows fewer sessions than threads: better than idle cores.
        Self { wide: !bulk, narrow, threads: (threads / narrow).max(1) }
    }
}

impl Pool {
    /// Makes the first session, or all of them where their number was asked for. Gives the model's SHA-256 too, which a
    /// file is summed for at the same time.
    pub(crate) fn open(
        runtime: &Runtime,
        path: &Path,
        weights: Weights<'_>,
        sha256: Option<String>,
        provider: Provider,
        (sessions, bulk): (usize, bool),
    ) -> Result<(Self, String)> {
        let length = match weights {
            Weights::File(file) => usize::try_from(file.length()).unwrap_or(usize::MAX),
            Weights::Memory(bytes, _) => bytes.len(),
        };
        // An accelerator is one device: sessions on it would only wait for each other.
        let layout = match provider.is_cpu() {
            true => Layout::new(sessions, bulk, runtime.threads(), length),
            false => Layout { wide: true, narrow: 0, threads: runtime.threads() },
        };
        let source = match weights {
            Weights::File(file) => Source::File(file.path()),
            Weights::Memory(bytes, _) => Source::Memory(bytes),
        };
        let narrow_kind = Kind { threads: Some(layout.threads), arena: bulk };
        let make_all = || {
            let mut state = State::default();
            if layout.wide {
                state.wide = Some(session(runtime, path, source, provider, Kind { threads: None, arena: false })?);
            }
            if sessions > 0 || !layout.wide {
                let make = || session(runtime, path, source, provider, narrow_kind);
                state.narrow = thread::scope(|scope| {
                    let others: Vec<_> = (1..layout.narrow).map(|_| scope.spawn(make)).collect();
                    let first = (layout.narrow > 0).then(make);
                    let others = others.into_iter().map(|other| other.join().unwrap_or_else(|_| make()));
                    first.into_iter().chain(others).collect::<Result<Vec<_>>>()
                })?;
                state.narrow_made = layout.narrow;
            }
            Ok(state)
        };
        let (state, sha256) = match (weights, sha256) {
            (_, Some(sha256)) => (make_all()?, sha256),
            (Weights::File(file), None) => file.summed_while(make_all)?,
            (Weights::Memory(bytes, _), None) => (make_all()?, byol_model::sha256_hex(bytes)),
        };
        let more = state.narrow_made < layout.narrow;
        let origin = match weights {
            Weights::File(file) => Origin::File(file.path().into(), sha256.clone()),
            Weights::Memory(_, Some(file)) => Origin::Pinned(file.into(), sha256.clone()),
            Weights::Memory(bytes, None) => Origin::Memory(if more { bytes.into() } else { Arc::new([]) }),
        };
        let pool = Self {
            state: Mutex::new(state),
            origin,
            path: path.into(),
            provider,
            narrow_most: layout.narrow,
            narrow_kind,
            has_wide: layout.wide,
        };
        Ok((pool, sha256))
    }

    /// Calls that may be inferred at the same time.
    pub(crate) fn size(&self) -> usize {
        self.narrow_most.max(1)
    }

    /// Makes the sessions that do not exist yet.
    pub(crate) fn fill(&self, runtime: &Runtime) -> Result<()> {
        loop {
            let mut state = self.locked();
            // What failed once is tried again: whoever asks for all sessions is told why there are fewer.
            state.stuck = false;
            if !self.claim(&mut state) {
                return Ok(());
            }
            drop(state);
            let session = self.make(runtime)?;
            let mut state = self.locked();
            state.narrow.push(session);
            state.call_next();
        }
    }

    /// Waits for its turn and for a session that suits the wish, and makes one where none is free and more are allowed.
    pub(crate) fn checkout(&self, runtime: &Runtime, wish: Wish, cancel: &Cancel) -> Result<Lease<'_>> {
        let bell = Arc::new(Condvar::new());
        let mut state = self.locked();
        state.queue.push_back(Arc::clone(&bell));
        // Leaves the queue however this ends.
        let turn = Turn { pool: self, bell: &bell };
        loop {
            if let Err(stopped) = cancel.check() {
                drop(state);
                drop(turn);
                return Err(stopped);
            }
            if state.queue.front().is_some_and(|first| Arc::ptr_eq(first, &bell)) {
                if let Some(session) = self.take(&mut state, wish) {
                    let (wide, session) = session;
                    drop(state);
                    drop(turn);
                    return Ok(Lease { pool: self, wide, session: Some(session) });
                }
                if self.claim(&mut state) {
                    // Making a session takes long; others need not wait for it.
                    state.queue.pop_front();
                    state.call_next();
                    drop(state);
                    match self.make(runtime) {
                        Ok(session) => return Ok(Lease { pool: self, wide: false, session: Some(session) }),
                        // The file may be gone by now, or memory short. Whoever has a session can go on.
                        Err(_) if self.has_wide || self.locked().narrow_made > 0 => {}
                        Err(error) => return Err(error),
                    }
                    state = self.locked();
                    state.queue.push_front(Arc::clone(&bell));
                    continue;
                }
            }
            state = bell.wait_timeout(state, LOOK).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// A free session for the one whose turn it is, and whether it is the wide one.
    fn take(&self, state: &mut State, wish: Wish) -> Option<(bool, Session)> {
        let busy = state.narrow_made - state.narrow.len();
        let wide_out = usize::from(self.has_wide && state.wide.is_none());
        // More calls than threads would only slow each other down.
        if busy + wide_out >= self.size() {
            return None;
        }
        // The wide session disturbs everybody, so it is for who is alone, and where there is no other.
        let alone = wish == Wish::Latency && busy == 0 && state.queue.len() == 1;
        let wide = match alone || self.narrow_most == 0 || state.stuck {
            true => state.wide.take().map(|session| (true, session)),
            false => None,
        };
        wide.or_else(|| state.narrow.pop().map(|session| (false, session)))
    }

    /// Reserves the right to make a narrow session.
    fn claim(&self, state: &mut State) -> bool {
        let allowed = state.narrow_made < self.narrow_most && !state.stuck;
        state.narrow_made += usize::from(allowed);
        allowed
    }

    /// Makes a narrow session that was claimed.
    fn make(&self, runtime: &Runtime) -> Result<Session> {
        let kind = self.narrow_kind;
        let made = match &self.origin {
            Origin::Memory(bytes) => session(runtime, &self.path, Source::Memory(bytes), self.provider, kind),
            Origin::File(path, expected) => ModelFile::open(path, u64::MAX).and_then(|file| {
                let make = || session(runtime, &self.path, Source::File(path), self.provider, kind);
                let (session, found) = file.summed_while(make)?;
                same_model(path, expected, found).map(|()| session)
            }),
            Origin::Pinned(path, expected) => ModelFile::open(path, u64::MAX).and_then(|file| {
                let bytes = file.read()?;
                same_model(path, expected, byol_model::sha256_hex(&bytes))?;
                session(runtime, &self.path, Source::Memory(&bytes), self.provider, kind)
            }),
        };
        made.inspect_err(|_| {
            let mut state = self.locked();
            state.narrow_made -= 1;
            state.stuck = true;
        })
    }

    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lease<'_> {
    pub(crate) fn session(&mut self) -> &mut Session {
        self.session.as_mut().expect("a lease holds its session until it is dropped")
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.locked();
        match self.wide {
            true => state.wide = self.session.take(),
            false => state.narrow.extend(self.session.take()),
        }
        state.call_next();
    }
}

/// A place in the queue.
struct Turn<'a> {
    pool: &'a Pool,
    bell: &'a Arc<Condvar>,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.pool.locked();
        state.queue.retain(|other| !Arc::ptr_eq(other, self.bell));
        // Whoever comes next may find a session free.
        state.call_next();
    }
}

fn same_model(path: &Path, expected: &str, found: String) -> Result<()> {
    match found == expected {
        true => Ok(()),
        false => Err(Error::ModelHash { path: path.into(), expected: expected.into(), found }),
    }
}

/// How a session runs.
#[derive(Clone, Copy)]
struct Kind {
    /// Threads of its own, the caller's included; `None` shares the runtime's.
    threads: Option<usize>,
    /// Whether it keeps the memory of a run for the next one. That saves 2 to 4% of the time, and costs a run's memory
    /// for as long as the session lives; without it, memory goes back after each run.
    arena: bool,
}

/// What a session is made of.
#[derive(Clone, Copy)]
enum Source<'a> {
    File(&'a Path),
    Memory(&'a [u8]),
}

fn session(runtime: &Runtime, path: &Path, source: Source<'_>, provider: Provider, kind: Kind) -> Result<Session> {
    let build = || -> ort::Result<Session> {
        let mut builder = Session::builder(&runtime.environment)?
            .with_no_environment_execution_providers()?
            .with_execution_providers(provider.dispatch(kind.arena))?
            .with_memory_pattern(false)?
            // Tensors in other files are refused before; should one escape that check, this is where it would be read.
            .with_config_entry("session.model_external_initializers_file_folder_path", "/dev/null/denied")?;
        if let Some(threads) = kind.threads {
            builder =
                builder.with_independent_thread_pool()?.with_intra_threads(threads)?.with_intra_op_spinning(false)?;
        }
        match source {
            Source::File(path) => builder.commit_from_file(path),
            Source::Memory(bytes) => builder.commit_from_memory(bytes),
        }
    };
    build().map_err(|e| provider.blame(Error::runtime(path, e.code() as i32, e.message())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_shared_out_and_large_models_get_fewer_sessions() {
        let layout = |sessions, bulk, threads, bytes| Layout::new(sessions, bulk, threads, bytes);
        assert_eq!(layout(0, false, 8, 100 << 20), Layout { wide: true, narrow: 8, threads: 1 });
        assert_eq!(layout(0, true, 8, 100 << 20), Layout { wide: false, narrow: 8, threads: 1 });
        assert_eq!(layout(0, false, 8, 1 << 30), Layout { wide: true, narrow: 2, threads: 4 });
        assert_eq!(layout(0, true, 8, 3 << 30), Layout { wide: false, narrow: 1, threads: 8 });
        assert_eq!(layout(0, true, 1, 1), Layout { wide: true, narrow: 0, threads: 1 });
        assert_eq!(layout(1, false, 8, 1), Layout { wide: true, narrow: 0, threads: 8 });
        assert_eq!(layout(3, false, 8, 1), Layout { wide: false, narrow: 3, threads: 2 });
    }
}
