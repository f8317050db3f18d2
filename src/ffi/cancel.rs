//! Cancel tokens: how another thread stops a long call.

use std::sync::Arc;
use std::time::Duration;

use byol_serve::cancel::Cancel;

use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_CANCEL, Object};
use crate::pointer;
use crate::status::{Result, byol_error, byol_status};

/// A token that long calls look at every few milliseconds. Pass `{0}` for none. One token may go with many calls.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_cancel {
    /// 0 for none.
    pub id: u64,
}

impl Object for Cancel {
    const KIND: u32 = BYOL_KIND_CANCEL;
    const NAME: &'static str = "byol_cancel";
}

/// What a call's work looks at: the caller's token, if any.
pub(crate) fn of(token: byol_cancel) -> Result<Cancel> {
    Ok(handle::get_or_none::<Cancel>(token.id)?.map(Arc::unwrap_or_clone).unwrap_or_default())
}

/// Makes a cancel token. `timeout_ms` above 0 also sets a deadline that far from now: calls that run with the token
/// then end with BYOL_E_DEADLINE.
///
/// Ownership: close the token with byol_cancel_close, at any time. Threads: any.
/// Errors: NULL_POINTER, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_cancel_create(
    timeout_ms: u64,
    token: *mut byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let token = pointer::place(token, "token")?;
            let cancel = match timeout_ms {
                0 => Cancel::new(),
                _ => Cancel::with_deadline(Duration::from_millis(timeout_ms)),
            };
            token.set(byol_cancel { id: handle::open(cancel)? });
            Ok(())
        })
    }
}

/// Stops all calls that run with the token, and those that come: they end with BYOL_E_CANCELLED, usually within
/// milliseconds, at the latest when the batch that is being computed is done.
///
/// Ownership: nothing changes hands. Threads: any, but not from a signal handler: it takes a lock. Errors: HANDLE.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_cancel_trigger(token: byol_cancel, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard(error, || {
            handle::get::<Cancel>(token.id)?.trigger();
            Ok(())
        })
    }
}

/// Takes byol_cancel_trigger back, so that the token can be used again. A deadline stays.
///
/// Ownership: nothing changes hands. Threads: any. Errors: HANDLE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_cancel_reset(token: byol_cancel, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard(error, || {
            handle::get::<Cancel>(token.id)?.reset();
            Ok(())
        })
    }
}

/// Closes a token. Calls that run with it go on and can't be stopped through it any more. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_cancel_close(token: byol_cancel, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Cancel>(token.id)) }
}
