//! Where the time of a run goes: spans of the step's parts on every thread, as a table and as a trace for
//! `chrome://tracing` or <https://ui.perfetto.dev>.
//!
//! One recording for the process, because the parts of a step run on threads of their own. While none is made, a span
//! costs one look at a flag. On CUDA a span measures how long the host took to ask, except where it waits for a value.

use crate::error::Result;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Spans that a trace holds at most, about 100 MB of JSON; the table counts all.
const MOST_EVENTS: usize = 1_000_000;

static ON: AtomicBool = AtomicBool::new(false);
static RECORDING: Mutex<Option<Recording>> = Mutex::new(None);

#[derive(Debug)]
struct Recording {
    began: Instant,
    events: Vec<Event>,
    left_out: usize,
    totals: BTreeMap<(String, &'static str), (usize, Duration)>, // by thread and name
}

#[derive(Debug)]
struct Event {
    name: &'static str,
    thread: String,
    start: Duration,
    length: Duration,
}

/// Begins a recording, in place of one that goes on.
pub fn start() {
    if let Ok(mut recording) = RECORDING.lock() {
        let (events, totals) = (Vec::new(), BTreeMap::new());
        *recording = Some(Recording { began: Instant::now(), events, left_out: 0, totals });
        ON.store(true, Ordering::Relaxed);
    }
}

/// Ends the recording: what was recorded, if one was made.
pub fn finish() -> Option<Profile> {
    ON.store(false, Ordering::Relaxed);
    let recording = RECORDING.lock().ok()?.take()?;
    let wall = recording.began.elapsed();
    Some(Profile { recording, wall })
}

/// A part of the work, from now until it is dropped.
#[must_use = "a span ends when it is dropped"]
#[derive(Debug)]
pub struct Span(Option<(&'static str, Instant)>);

/// Begins a span.
pub fn span(name: &'static str) -> Span {
    Span(ON.load(Ordering::Relaxed).then(|| (name, Instant::now())))
}

impl Drop for Span {
    fn drop(&mut self) {
        let Some((name, start)) = self.0 else { return };
        let length = start.elapsed();
        let Ok(mut recording) = RECORDING.lock() else { return };
        let Some(recording) = &mut *recording else { return };
        let thread = std::thread::current().name().unwrap_or("unnamed").to_owned();
        let total = recording.totals.entry((thread.clone(), name)).or_default();
        total.0 += 1;
        total.1 += length;
        if recording.events.len() < MOST_EVENTS {
            let start = start.saturating_duration_since(recording.began);
            recording.events.push(Event { name, thread, start, length });
        } else {
            recording.left_out += 1;
        }
    }
}

/// A recording that has ended.
#[derive(Debug)]
pub struct Profile {
    recording: Recording,
    wall: Duration,
}

impl Profile {
    /// Thread, part, how often, and how long in all: the longest of each thread first.
    pub fn totals(&self) -> Vec<(&str, &'static str, usize, Duration)> {
        let mut rows: Vec<_> = self
            .recording
            .totals
            .iter()
            .map(|((thread, name), (n, time))| (thread.as_str(), *name, *n, *time))
            .collect();
        rows.sort_by(|a, b| (a.0, b.3).cmp(&(b.0, a.3)));
        rows
    }

    /// The table, with each part's share of the whole time; threads run side by side, so that each has 100%.
    pub fn table(&self) -> String {
        let mut text =
            format!("{:<16} {:<16} {:>8} {:>10} {:>10} {:>7}\n", "thread", "part", "times", "s", "ms each", "share");
        for (thread, name, times, time) in self.totals() {
            let seconds = time.as_secs_f64();
            let (each, share) = (1e3 * seconds / times as f64, 100.0 * seconds / self.wall.as_secs_f64().max(1e-9));
            // Writing to a text does not fail.
            let _ = writeln!(text, "{thread:<16} {name:<16} {times:>8} {seconds:>10.3} {each:>10.3} {share:>6.1}%");
        }
        let _ = write!(text, "{:.3} s in all", self.wall.as_secs_f64());
        if self.recording.left_out > 0 {
            let _ = write!(text, "; the trace leaves out the last {} spans", self.recording.left_out);
        }
        text
    }

    /// Writes the trace; `process` tells ranks apart.
    ///
    /// # Errors
    /// [`crate::Error::Model`] names the file that cannot be written.
    pub fn write(&self, path: &Path, process: usize) -> Result<()> {
        let mut threads: Vec<&str> = self.recording.events.iter().map(|event| event.thread.as_str()).collect();
        threads.sort_unstable();
        threads.dedup();
        let number = |thread: &str| threads.iter().position(|t| *t == thread).unwrap_or(0);
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        let names = threads.iter().enumerate().map(|(tid, name)| {
            json!({ "name": "thread_name", "ph": "M", "pid": process, "tid": tid, "args": { "name": name } })
        });
        let spans = self.recording.events.iter().map(|e| {
            let (ts, dur) = (micros(e.start), micros(e.length));
            json!({ "name": e.name, "ph": "X", "pid": process, "tid": number(&e.thread), "ts": ts, "dur": dur })
        });
        let trace = json!({ "traceEvents": names.chain(spans).collect::<Vec<_>>(), "displayTimeUnit": "ms" });
        Ok(byol_model::file::write_atomic(path, trace.to_string().as_bytes())?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_in_the_table_and_in_the_trace_and_cost_nothing_unasked() {
        drop(span("before"));
        start();
        for _ in 0..3 {
            let _span = span("work");
            std::thread::sleep(Duration::from_millis(2));
        }
        std::thread::Builder::new().name("side".into()).spawn(|| drop(span("aside"))).unwrap().join().unwrap();
        let profile = finish().unwrap();
        let totals = profile.totals();
        let work = totals.iter().find(|(_, name, ..)| *name == "work").unwrap();
        assert!(work.2 == 3 && work.3 >= Duration::from_millis(6), "{work:?}");
        assert!(totals.iter().any(|(thread, name, ..)| (*thread, *name) == ("side", "aside")));
        assert!(!totals.iter().any(|(_, name, ..)| *name == "before"));
        assert!(profile.table().contains("work") && profile.table().contains("s in all"));
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        profile.write(&path, 2).unwrap();
        let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        let spans: Vec<_> = events.iter().filter(|e| e["ph"] == "X" && e["pid"] == 2).collect();
        assert_eq!(spans.iter().filter(|e| e["name"] == "work" && e["dur"].as_f64().unwrap() >= 2000.0).count(), 3);
        assert!(events.iter().any(|e| e["ph"] == "M" && e["args"]["name"] == "side"));
        assert!(finish().is_none());
    }
}
