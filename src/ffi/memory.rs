//! What libbyol holds: its own allocations, counted; and what the system says of the process.
//!
//! Every allocation of Rust code in this library goes through [`Counted`], which adds two atomic operations to each.
//! ONNX Runtime allocates by itself and is only seen in the process's figures.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::status::{BYOL_E_LIMIT, Fault, Result};

/// The system's allocator, counted.
struct Counted;

#[global_allocator]
static ALLOCATOR: Counted = Counted;

static HELD: AtomicU64 = AtomicU64::new(0);
static PEAK: AtomicU64 = AtomicU64::new(0);
/// 0 for none.
static LIMIT: AtomicU64 = AtomicU64::new(0);

fn more(bytes: usize) {
    let held = HELD.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
    // Rarely higher than before, so that the second write is rare too.
    if held > PEAK.load(Ordering::Relaxed) {
        PEAK.fetch_max(held, Ordering::Relaxed);
    }
}

fn less(bytes: usize) {
    HELD.fetch_sub(bytes as u64, Ordering::Relaxed);
}

// SAFETY: every call is passed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let pointer = unsafe { System.alloc(layout) };
        if !pointer.is_null() {
            more(layout.size());
        }
        pointer
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let pointer = unsafe { System.alloc_zeroed(layout) };
        if !pointer.is_null() {
            more(layout.size());
        }
        pointer
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, passed on.
        unsafe { System.dealloc(pointer, layout) };
        less(layout.size());
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promise, passed on.
        let moved = unsafe { System.realloc(pointer, layout, size) };
        if !moved.is_null() {
            more(size);
            less(layout.size());
        }
        moved
    }
}

/// Bytes that are allocated now, and the most that ever were.
pub(crate) fn held() -> (u64, u64) {
    (HELD.load(Ordering::Relaxed), PEAK.load(Ordering::Relaxed))
}

/// The limit in force; 0 for none.
pub(crate) fn limit() -> u64 {
    LIMIT.load(Ordering::Relaxed)
}

/// Sets the limit, unless there is another. Gives the one in force.
pub(crate) fn set_limit(bytes: u64) -> u64 {
    match LIMIT.compare_exchange(0, bytes, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => bytes,
        Err(other) => other,
    }
}

/// Whether so many bytes more are within the limit.
pub(crate) fn allow(bytes: usize, what: &str) -> Result<()> {
    let (limit, (held, _)) = (limit(), held());
    if limit == 0 || held.saturating_add(bytes as u64) <= limit {
        return Ok(());
    }
    Err(Fault::new(
        BYOL_E_LIMIT,
        format_args!("{bytes} bytes for {what} are beyond max_memory: {held} of {limit} bytes are held"),
    ))
}

/// The process's resident bytes, now and at most; 0 where the system does not say.
pub(crate) fn resident() -> (u64, u64) {
    (now(), most())
}

#[cfg(target_os = "linux")]
fn now() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = text.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
    // SAFETY: any name may be asked for.
    let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    pages * u64::try_from(page).unwrap_or(0)
}

#[cfg(not(target_os = "linux"))]
fn now() -> u64 {
    0
}

fn most() -> u64 {
    // SAFETY: all zeros is a value of it, and getrusage fills it in.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: a valid struct.
    if unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) } != 0 {
        return 0;
    }
    // Linux counts in KiB, Apple in bytes.
    let unit = if cfg!(target_vendor = "apple") { 1 } else { 1024 };
    u64::try_from(usage.ru_maxrss).unwrap_or(0) * unit
}

/// Gives memory that nobody holds back to the system, where the C library can be told to.
pub(crate) fn trim() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}
