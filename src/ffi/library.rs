//! The library itself: its version, what it was built with, what it knows of its own codes.

use std::ffi::{CStr, c_char};
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::guard::{guard_always, guard_value, shut_down};
use crate::handle::{self, BYOL_KIND_TRAINER};
use crate::status::*;
use crate::{log, pointer, runtime};

const MAJOR: u32 = number(env!("CARGO_PKG_VERSION_MAJOR"));
const MINOR: u32 = number(env!("CARGO_PKG_VERSION_MINOR"));
const PATCH: u32 = number(env!("CARGO_PKG_VERSION_PATCH"));

/// The library's version as one number, as BYOL_VERSION_NUMBER is the header's: major * 1000000 + minor * 1000 + patch.
///
/// Ownership: nothing changes hands. Threads: any. Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn byol_version() -> u32 {
    MAJOR * 1_000_000 + MINOR * 1_000 + PATCH
}

/// The library's version as text, such as "0.1.0".
///
/// Ownership: static, never freed. Threads: any. Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn byol_version_string() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// Checks that this library can serve a program that was compiled with the header of version `major`.`minor`: pass
/// BYOL_VERSION_MAJOR and BYOL_VERSION_MINOR. It can when the major versions are equal and the library is not older.
///
/// Ownership: nothing changes hands. Threads: any. Errors: ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_abi_check(major: u32, minor: u32, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard_always(error, || {
            if major == MAJOR && minor <= MINOR {
                return Ok(());
            }
            Err(Fault::new(
                BYOL_E_ABI,
                format_args!(
                    "The program needs libbyol {major}.{minor} or a later {major}.x, this is {}",
                    env!("CARGO_PKG_VERSION")
                ),
            ))
        })
    }
}

/// Writes what this library is and runs on, as one JSON object: version, target, processor, picture formats, and, once
/// it is loaded, ONNX Runtime's version, file and threads.
///
/// As all functions that give a text: `*needed` (may be NULL) becomes its length with the NUL; `buffer` NULL with
/// `capacity` 0 only asks for that; a short buffer is left alone.
///
/// Ownership: `buffer` is the caller's. Threads: any. Errors: NULL_POINTER, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_build_info(
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard_always(error, || {
            let started = runtime::started();
            let info = serde_json::json!({
                "version": env!("CARGO_PKG_VERSION"),
                "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
                "folder": folder(),
                "processors": std::thread::available_parallelism().map_or(1, usize::from),
                "pictures": ["jpeg", "png", "webp", "bmp", "gif", "tiff"],
                "onnxruntime": started.map(|runtime| serde_json::json!({
                    "version": runtime.version(),
                    "library": runtime.library(),
                    "threads": runtime.threads(),
                })),
            });
            pointer::give_text(&info.to_string(), buffer, capacity, needed)
        })
    }
}

/// The name of a status, such as "BYOL_E_HANDLE"; "BYOL_E_?" for one that this library does not know.
///
/// Ownership: static, never freed. Threads: any. Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn byol_status_name(status: byol_status) -> *const c_char {
    let name = usize::try_from(status).ok().and_then(|index| NAMES.get(index));
    name.map_or::<&CStr, _>(c"BYOL_E_?", |&(_, name)| name).as_ptr()
}

/// 1 when the same call may succeed later without any change by the caller (memory, files, time), else 0.
///
/// Ownership: nothing changes hands. Threads: any. Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn byol_status_is_retryable(status: byol_status) -> i32 {
    i32::from(matches!(status, BYOL_E_NO_MEMORY | BYOL_E_IO | BYOL_E_CANCELLED | BYOL_E_DEADLINE))
}

/// How many handles of a kind (BYOL_KIND_*) are open; 0 for an unknown kind. For tests that look for leaks.
///
/// Ownership: nothing changes hands. Threads: any. Errors: none; 0 in a forked child. @since 0.1.0
#[unsafe(no_mangle)]
pub extern "C" fn byol_live_handles(kind: u32) -> u64 {
    guard_value(0, || if kind > BYOL_KIND_TRAINER { 0 } else { handle::count(kind) })
}

/// Closes every handle and the log sink; every later call but those about versions and statuses fails with
/// BYOL_E_SHUTDOWN. For hosts that want to see an end; nobody needs to call it. Calls that still run finish, and what
/// they use stays until then. ONNX Runtime stays loaded, because unloading it is not safe. A second call does nothing.
///
/// Ownership: nothing changes hands. Threads: any, but not from inside the log callback. Errors: REENTRANT.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_shutdown(error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard_always(error, || {
            log::silence()?;
            if shut_down() {
                handle::close_all();
            }
            Ok(())
        })
    }
}

/// The folder that libbyol lies in (of the program, where it is linked statically).
pub(crate) fn folder() -> Option<&'static PathBuf> {
    static FOLDER: OnceLock<Option<PathBuf>> = OnceLock::new();
    FOLDER
        .get_or_init(|| {
            // SAFETY: all zeros is a value of it, and dladdr writes it when it returns other than 0.
            let mut found: libc::Dl_info = unsafe { std::mem::zeroed() };
            // SAFETY: any address may be asked for; ours belongs to this library.
            let known = unsafe { libc::dladdr(byol_version as *const libc::c_void, &raw mut found) } != 0;
            if !known || found.dli_fname.is_null() {
                return None;
            }
            // SAFETY: dladdr's name, which lives as long as the library.
            let file = unsafe { CStr::from_ptr(found.dli_fname) };
            use std::os::unix::ffi::OsStrExt;
            let file = PathBuf::from(std::ffi::OsStr::from_bytes(file.to_bytes())).canonicalize().ok()?;
            file.parent().map(PathBuf::from)
        })
        .as_ref()
}

/// A decimal number at compile time.
const fn number(text: &str) -> u32 {
    let bytes = text.as_bytes();
    let (mut value, mut index) = (0, 0);
    while index < bytes.len() {
        value = value * 10 + (bytes[index] - b'0') as u32;
        index += 1;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_three_parts_of_the_version_are_in_the_number() {
        let v = byol_version();
        assert_eq!(format!("{}.{}.{}", v / 1_000_000, v / 1_000 % 1_000, v % 1_000), env!("CARGO_PKG_VERSION"));
    }

    #[test]
    fn statuses_have_names_and_unknown_ones_a_placeholder() {
        // SAFETY: static texts.
        let name = |status| unsafe { CStr::from_ptr(byol_status_name(status)) }.to_str().expect("ASCII");
        assert_eq!(name(BYOL_E_HANDLE), "BYOL_E_HANDLE");
        assert_eq!([name(-1), name(34), name(i32::MIN), name(i32::MAX)], ["BYOL_E_?"; 4]);
    }
}
