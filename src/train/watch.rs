//! Whether the other ranks still live. Each rank says "I am here" in the store and looks whether the next rank, in a ring,
//! still does; whoever finds one silent, or busy for too long without meeting the others, says so to all. So a rank that
//! was killed, stopped or cut off ends the run everywhere, by its name, within [`Limits::silence`] and a few seconds.

use crate::c10d::{self, Store};
use crate::error::{Error, Result};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long ranks wait for each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For all ranks to come, at the beginning.
    pub join: Duration,
    /// For a sign of life of a rank.
    pub silence: Duration,
    /// For a rank that lives to meet the others again: longer than its longest evaluation or checkpoint.
    pub hang: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { join: Duration::from_secs(300), silence: Duration::from_secs(15), hang: Duration::from_secs(1800) }
    }
}

/// The watch of one rank.
#[derive(Debug)]
pub(crate) struct Watch {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    prefix: String,
    limits: Limits,
    keeper: String,
    over: AtomicBool,
    /// Whether a rank that is still stuck a while after the verdict ends its process.
    ends_process: AtomicBool,
    verdict: Mutex<Option<String>>,
    last_round: Mutex<Instant>,
}

impl Watch {
    /// Begins to watch `next`, a rank and its name. `store` is a connection of its own; `keeper` is who keeps the store.
    pub(crate) fn start(
        store: Store,
        prefix: &str,
        rank: usize,
        (next, name): (usize, String),
        keeper: String,
        limits: Limits,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            store,
            prefix: prefix.to_owned(),
            limits,
            keeper,
            over: AtomicBool::new(false),
            ends_process: AtomicBool::new(false),
            verdict: Mutex::new(None),
            last_round: Mutex::new(Instant::now()),
        });
        let (beats, own) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = [
            spawn("byol-watch", move || beats.watch(rank, next, &name))?,
            spawn("byol-watch-store", move || own.watch_store())?,
        ];
        Ok(Self { shared, threads: threads.into() })
    }

    /// What went wrong among the ranks, if it is known within `patience`.
    pub(crate) fn verdict(&self, patience: Duration) -> Option<String> {
        let until = Instant::now() + patience;
        loop {
            if let Some(verdict) = self.shared.verdict() {
                return Some(verdict);
            }
            if Instant::now() >= until {
                return None;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Tells all ranks that this one ends, and why.
    pub(crate) fn fail(&self, why: &str) {
        self.shared.judge(why.to_owned());
        // Where nobody hears it, the others find this rank silent.
        let _ = self.shared.store.set(&self.shared.key("failed"), why);
    }

    /// From now on this rank may wait in calls of CUDA's and NCCL's that nothing calls off. Where a verdict does not bring it
    /// back within [`Limits::silence`], its process ends, for a rank that hangs keeps its device and its launcher.
    pub(crate) fn end_process(&self) {
        self.shared.ends_process.store(true, Ordering::Relaxed);
    }

    /// From now on nothing that happens to the other ranks matters.
    pub(crate) fn end(&self) {
        self.shared.over.store(true, Ordering::Relaxed);
        self.threads.iter().for_each(|thread| thread.thread().unpark());
    }

    /// Time between two looks.
    pub(crate) fn interval(&self) -> Duration {
        self.shared.interval()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
        for thread in self.threads.drain(..) {
            // One that waits for a store that does not answer is left to the end of the process.
            if thread.is_finished() || self.shared.verdict().is_none() {
                let _ = thread.join();
            }
        }
    }
}

impl Shared {
    fn interval(&self) -> Duration {
        (self.limits.silence / 10).clamp(Duration::from_millis(100), Duration::from_secs(2))
    }

    fn key(&self, what: &str) -> String {
        format!("{}/{what}", self.prefix)
    }

    fn verdict(&self) -> Option<String> {
        self.verdict.lock().ok().and_then(|verdict| verdict.clone())
    }

    /// Keeps the first verdict, and ends every wait for the other ranks.
    fn judge(self: &Arc<Self>, why: String) {
        if let Ok(mut verdict) = self.verdict.lock() {
            verdict.get_or_insert(why);
        }
        if self.ends_process.load(Ordering::Relaxed) {
            let shared = Arc::clone(self);
            // Where no thread can be made, the rank is left to its launcher.
            let _ = spawn("byol-watch-end", move || {
                std::thread::sleep(shared.limits.silence);
                if !shared.over.load(Ordering::Relaxed) {
                    eprintln!(
                        "Ranks: {}. This rank does not come back from its device.",
                        shared.verdict().unwrap_or_default()
                    );
                    c10d::end_process();
                }
            });
        }
        self.store.abandon();
    }

    fn watch(self: &Arc<Self>, rank: usize, next: usize, name: &str) {
        let began = Instant::now();
        // When the next rank's sign last changed, and when it last met the others.
        let (mut sign, mut pulse) = (String::new(), String::new());
        let (mut heard, mut met) = (began, began);
        for beat in 0u64.. {
            if self.over.load(Ordering::Relaxed) || self.verdict().is_some() {
                return;
            }
            match self.round(rank, next, beat) {
                Ok((_, Some(failed))) => return self.judge(failed),
                Ok((found, None)) => {
                    if found != sign {
                        heard = Instant::now();
                        let found_pulse = found.split_once(' ').map_or("", |(_, pulse)| pulse).to_owned();
                        if found_pulse != pulse || found_pulse.ends_with("waiting") {
                            (met, pulse) = (Instant::now(), found_pulse);
                        }
                        sign = found;
                    }
                }
                // The connection is gone, and the store with it.
                Err(_) if self.over.load(Ordering::Relaxed) => return,
                Err(error) => return self.judge(format!("{} is gone ({error})", self.keeper)),
            }
            if let Ok(mut last) = self.last_round.lock() {
                *last = Instant::now();
            }
            let lost = if heard.elapsed() > self.limits.silence {
                let seconds = self.limits.silence.as_secs_f64();
                Some(format!("{name} has given no sign of life for {seconds} s: it was killed, stopped or cut off"))
            } else if met.elapsed() > self.limits.hang {
                let seconds = self.limits.hang.as_secs_f64();
                Some(format!("{name} lives, but has not met the other ranks for {seconds} s: it hangs"))
            } else {
                None
            };
            if let Some(lost) = lost {
                let _ = self.store.set(&self.key("failed"), &lost);
                return self.judge(lost);
            }
            std::thread::park_timeout(self.interval());
        }
    }

    /// This rank's sign into the store; the next rank's, and what failed, out of it.
    fn round(&self, rank: usize, next: usize, beat: u64) -> Result<(String, Option<String>)> {
        let (waits, waiting) = self.store.pulse();
        let doing = if waiting { "waiting" } else { "working" };
        self.store.set(&self.key(&format!("sign/{rank}")), &format!("{beat} {waits} {doing}"))?;
        let get = |key: String| -> Result<Option<String>> {
            if self.store.has(&key)? { Ok(Some(self.store.get(&key, self.limits.silence)?)) } else { Ok(None) }
        };
        let failed = get(self.key("failed"))?;
        Ok((get(self.key(&format!("sign/{next}")))?.unwrap_or_default(), failed))
    }

    /// The other thread may wait for a store that never answers: its machine may have stopped.
    fn watch_store(self: &Arc<Self>) {
        loop {
            std::thread::park_timeout(self.interval() / 2);
            if self.over.load(Ordering::Relaxed) || self.verdict().is_some() {
                return;
            }
            let age = self.last_round.lock().map_or(Duration::ZERO, |last| last.elapsed());
            if age > self.limits.silence {
                let seconds = self.limits.silence.as_secs_f64();
                return self
                    .judge(format!("{} has not answered for {seconds} s: it was stopped or cut off", self.keeper));
            }
        }
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.into()).spawn(work).map_err(|_| Error::Thread("watch"))
}
