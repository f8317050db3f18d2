//! The wall between C and Rust that every function's body runs behind: no panic passes it, nothing runs in a forked
//! child or after shutdown, and the caller's error struct always tells the outcome.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::log;
use crate::pointer;
use crate::status::{BYOL_E_FORKED, BYOL_E_PANIC, BYOL_E_SHUTDOWN, BYOL_OK, Fault, Result, byol_error, byol_status};

static START: Once = Once::new();
static FORKED: AtomicBool = AtomicBool::new(false);
static SHUT_DOWN: AtomicBool = AtomicBool::new(false);
static CALLS: AtomicU64 = AtomicU64::new(0);
static FAILURES: AtomicU64 = AtomicU64::new(0);

/// Runs a body and tells C how it ended.
pub(crate) unsafe fn guard(error: *mut byol_error, body: impl FnOnce() -> Result<()>) -> byol_status {
    let mut body = Some(body);
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        run(error, &mut || {
            if SHUT_DOWN.load(Ordering::Acquire) {
                return Err(Fault::new(BYOL_E_SHUTDOWN, "byol_shutdown was called"));
            }
            body.take().map_or(Ok(()), |body| body())
        })
    }
}

/// Like [`guard`], for what still works after shutdown.
pub(crate) unsafe fn guard_always(error: *mut byol_error, body: impl FnOnce() -> Result<()>) -> byol_status {
    let mut body = Some(body);
    // SAFETY: the caller's error struct or NULL.
    unsafe { run(error, &mut || body.take().map_or(Ok(()), |body| body())) }
}

/// What all guards share. Not generic, so that it is in the library once and not a hundred times; it calls the body once.
unsafe fn run(error: *mut byol_error, body: &mut dyn FnMut() -> Result<()>) -> byol_status {
    // SAFETY: the caller's error struct or NULL; an impossible one can't be reported through itself.
    let report = match unsafe { pointer::report_or_null(error, "error") } {
        Ok(report) => report,
        Err(fault) => return fault.code,
    };
    let result = if is_forked() {
        Err(Fault::new(
            BYOL_E_FORKED,
            "This process was forked from one that used libbyol, whose threads it does not have; use it only in the parent, \
             or fork before its first use",
        ))
    } else {
        catch_unwind(AssertUnwindSafe(|| {
            start();
            body()
        }))
        .unwrap_or_else(|payload| Err(panicked(payload)))
    };
    CALLS.fetch_add(1, Ordering::Relaxed);
    if result.is_err() {
        FAILURES.fetch_add(1, Ordering::Relaxed);
    }
    let (code, value) = match &result {
        Ok(()) => (BYOL_OK, byol_error::default()),
        Err(fault) => (fault.code, fault.as_error()),
    };
    if let Some(report) = report {
        report.set(value);
    }
    if let Err(fault) = &result
        && code != BYOL_E_FORKED
    {
        log::error(&fault.message);
    }
    code
}

/// Like [`guard_always`], for functions that return a plain value: `otherwise` in a forked child or after a panic.
pub(crate) fn guard_value<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    if is_forked() {
        return otherwise;
    }
    catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        std::mem::forget(payload);
        otherwise
    })
}

/// Guarded calls that have ended, and those of them that failed.
pub(crate) fn calls() -> (u64, u64) {
    (CALLS.load(Ordering::Relaxed), FAILURES.load(Ordering::Relaxed))
}

/// From now on every guarded call fails. False if that was so before.
pub(crate) fn shut_down() -> bool {
    !SHUT_DOWN.swap(true, Ordering::AcqRel)
}

fn is_forked() -> bool {
    FORKED.load(Ordering::Relaxed)
}

/// Once, at the first call.
fn start() {
    START.call_once(|| {
        // A flag that the child finds set is two hundred times cheaper to look at than getpid, which enters the kernel.
        // A process that is cloned without fork(), as os/exec of Go does it, may only exec.
        // SAFETY: the handler only stores to an atomic.
        unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
        // Rust's own handler would print to the host's stderr. This is libbyol's copy of std; the host's, if it has
        // one, keeps its own. Our unit tests are their own host.
        if !cfg!(test) {
            std::panic::set_hook(Box::new(|info| log::error(&format!("Internal error: {info}"))));
        }
    });
}

extern "C" fn in_child() {
    FORKED.store(true, Ordering::Relaxed);
}

fn panicked(payload: Box<dyn Any + Send>) -> Fault {
    let text = payload.downcast_ref::<String>().map(String::as_str).or_else(|| payload.downcast_ref::<&str>().copied());
    let fault =
        Fault::new(BYOL_E_PANIC, format_args!("Internal error, please report: {}", text.unwrap_or("no message")));
    // Dropping it could panic once more.
    std::mem::forget(payload);
    fault
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::BYOL_E_ABI;

    #[test]
    fn a_panic_becomes_a_status_with_its_message() {
        let mut error = byol_error { struct_size: 508, ..Default::default() };
        // SAFETY: a valid struct.
        let code = unsafe { guard(&raw mut error, || panic!("row {} is odd", 7)) };
        assert_eq!((code, error.code), (BYOL_E_PANIC, BYOL_E_PANIC));
        let bytes = error.message[..error.message_len as usize].iter().map(|&c| c as u8).collect();
        let message = String::from_utf8(bytes).expect("UTF-8");
        assert_eq!(message, "Internal error, please report: row 7 is odd");
        assert_eq!(guard_value(3, || panic!("again")), 3);
    }

    #[test]
    fn an_uninitialised_error_struct_stops_the_call_before_it_starts() {
        let mut error = byol_error::default();
        // SAFETY: the field that is read is there.
        let code = unsafe { guard(&raw mut error, || unreachable!("must not run")) };
        assert_eq!(code, BYOL_E_ABI);
    }
}
