//! Stops inference that runs when its [`Cancel`] triggers.
//!
//! ONNX Runtime stops between two operators once it is told to, but somebody has to tell it while the caller's thread
//! is inside. One thread per process looks at the flags of everything that runs, every [`PERIOD`]; it sleeps while
//! nothing does. A thread per call would cost more than a small encoder's whole run.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use ort::session::RunOptions;

use crate::cancel::Cancel;

/// How often the flags are looked at.
const PERIOD: Duration = Duration::from_millis(5);

/// The runs that are being watched.
#[derive(Default)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    runs: Vec<Run>,
    next: u64,
    /// Whether the watching thread exists.
    started: bool,
    /// Whether it waits for the first run, rather than for the next look.
    asleep: bool,
}

struct Run {
    id: u64,
    cancel: Cancel,
    options: Arc<RunOptions>,
    stopped: Arc<AtomicBool>,
}

/// Watches a run until it is dropped.
pub(crate) struct Watched<'a> {
    shared: &'a Shared,
    id: u64,
    stopped: Arc<AtomicBool>,
}

impl Watched<'_> {
    /// Whether the run was told to stop, be the flag reset since or not.
    pub(crate) fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

impl Watch {
    /// Has `options` terminated as soon as `cancel` triggers, for as long as the answer lives.
    pub(crate) fn watch(&self, cancel: &Cancel, options: &Arc<RunOptions>) -> Watched<'_> {
        let mut state = self.0.locked();
        let id = state.next;
        state.next += 1;
        let stopped = Arc::new(AtomicBool::new(false));
        let run = Run { id, cancel: cancel.clone(), options: Arc::clone(options), stopped: Arc::clone(&stopped) };
        state.runs.push(run);
        if !state.started {
            let shared = Arc::clone(&self.0);
            // Without the thread, cancelling takes effect between runs only. It is tried again with the next run.
            state.started =
                thread::Builder::new().name("byol-cancel".into()).spawn(move || shared.look_for_ever()).is_ok();
        } else if state.asleep {
            self.0.work.notify_one();
        }
        Watched { shared: &self.0, id, stopped }
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.shared.locked().runs.retain(|run| run.id != self.id);
    }
}

impl Shared {
    fn locked(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look_for_ever(&self) {
        let mut state = self.locked();
        loop {
            while state.runs.is_empty() {
                state.asleep = true;
                state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            state.asleep = false;
            drop(state);
            thread::sleep(PERIOD);
            state = self.locked();
            for run in &state.runs {
                if run.cancel.is_triggered() {
                    run.stopped.store(true, Ordering::Relaxed);
                    // It cannot fail for options that exist; if it did, the run would only end later.
                    let _ = run.options.terminate();
                }
            }
        }
    }
}
