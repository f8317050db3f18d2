//! The log sink: the one place where libbyol says anything that was not asked for. It never prints.

use std::ffi::CString;
use std::ffi::{c_char, c_void};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::guard::guard_always;
use crate::status::{BYOL_E_REENTRANT, Fault, byol_error, byol_status};

/// Log level: nothing.
pub const BYOL_LOG_OFF: u32 = 0;
/// Log level: failures, each with its full message.
pub const BYOL_LOG_ERROR: u32 = 1;
/// Log level: also what was loaded from where.
pub const BYOL_LOG_INFO: u32 = 2;

/// Receives a message: its level, and a NUL-terminated UTF-8 text that is gone when the callback returns. It runs on
/// the thread that has something to say, at times on several at once. It must return (no exception, no longjmp). What
/// it causes libbyol to say is dropped.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_log_callback = Option<unsafe extern "C" fn(user: *mut c_void, level: u32, message: *const c_char)>;

/// Called once with `user` when a callback and its `user` are not needed any more.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_drop_callback = Option<unsafe extern "C" fn(user: *mut c_void)>;

#[derive(Clone, Copy)]
struct Sink {
    callback: unsafe extern "C" fn(*mut c_void, u32, *const c_char),
    user: *mut c_void,
    drop: byol_drop_callback,
}

// SAFETY: the caller of byol_set_log_sink promises that callback and user may be used on any thread.
unsafe impl Send for Sink {}

#[derive(Default)]
struct State {
    sink: Option<Sink>,
    /// The threads that are inside the callback now.
    inside: Vec<libc::pthread_t>,
}

static LEVEL: AtomicU32 = AtomicU32::new(BYOL_LOG_OFF);
static STATE: Mutex<State> = Mutex::new(State { sink: None, inside: Vec::new() });
static LEFT: Condvar = Condvar::new();

/// Sends what libbyol has to say to `callback`; NULL for silence, which is how it starts.
///
/// `level` is the most that is wanted: BYOL_LOG_OFF, BYOL_LOG_ERROR or BYOL_LOG_INFO. When the function returns, no
/// thread is inside the callback that was there before, and its `drop` (which may be NULL) has been called.
///
/// Ownership: `user` is the library's from success until `drop` is called with it, once. When this call fails, `drop`
/// does not run, and `user` stays the caller's.
/// Threads: any, but not from inside the callback. Errors: INVALID_ARG, REENTRANT. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_set_log_sink(
    callback: byol_log_callback,
    user: *mut c_void,
    drop: byol_drop_callback,
    level: u32,
    error: *mut byol_error,
) -> byol_status {
    let user = Pointer(user);
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard_always(error, || {
            if level > BYOL_LOG_INFO {
                return Err(Fault::argument(format_args!("level is {level}; the highest is {BYOL_LOG_INFO}")));
            }
            let user = user;
            replace(callback.map(|callback| Sink { callback, user: user.0, drop }), level)
        })
    }
}

/// A pointer that goes through a closure whole.
struct Pointer(*mut c_void);

/// Silence, from wherever it can be had.
pub(crate) fn silence() -> Result<(), Fault> {
    replace(None, BYOL_LOG_OFF)
}

pub(crate) fn error(message: &str) {
    say(BYOL_LOG_ERROR, message);
}

pub(crate) fn info(message: &str) {
    say(BYOL_LOG_INFO, message);
}

fn replace(sink: Option<Sink>, level: u32) -> Result<(), Fault> {
    // SAFETY: always succeeds.
    let me = unsafe { libc::pthread_self() };
    let mut state = lock();
    if state.inside.contains(&me) {
        return Err(Fault::new(BYOL_E_REENTRANT, "byol_set_log_sink was called from inside the log callback"));
    }
    // Nobody new goes in while the level is off, so this waits only for callbacks that already run.
    LEVEL.store(BYOL_LOG_OFF, Ordering::Relaxed);
    let old = state.sink.take();
    while !state.inside.is_empty() {
        state = LEFT.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
    LEVEL.store(if sink.is_some() { level } else { BYOL_LOG_OFF }, Ordering::Relaxed);
    let lost = std::mem::replace(&mut state.sink, sink);
    drop(state);
    for sink in [old, lost].into_iter().flatten() {
        if let Some(drop) = sink.drop {
            // SAFETY: promised by who set it.
            unsafe { drop(sink.user) };
        }
    }
    Ok(())
}

fn say(level: u32, message: &str) {
    if level > LEVEL.load(Ordering::Relaxed) {
        return;
    }
    let Ok(text) = CString::new(message.replace('\0', " ")) else { return };
    // SAFETY: always succeeds.
    let me = unsafe { libc::pthread_self() };
    let sink = {
        let mut state = lock();
        let Some(sink) = state.sink else { return };
        if state.inside.contains(&me) || state.inside.try_reserve(1).is_err() {
            return;
        }
        state.inside.push(me);
        sink
    };
    // SAFETY: promised by who set it; `replace` waits until we are out.
    unsafe { (sink.callback)(sink.user, level, text.as_ptr()) };
    let mut state = lock();
    if let Some(index) = state.inside.iter().position(|&thread| thread == me) {
        state.inside.swap_remove(index);
    }
    LEFT.notify_all();
}

fn lock() -> MutexGuard<'static, State> {
    STATE.lock().unwrap_or_else(PoisonError::into_inner)
}
