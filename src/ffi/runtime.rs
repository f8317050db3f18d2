//! ONNX Runtime's settings. Optional: the first encoder starts it with the defaults.

use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use byol_serve::runtime::{Runtime, RuntimeOptions, add_search_folder};

use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_RUNTIME, Object};
use crate::pointer::{self, Versioned};
use crate::status::{Result, byol_error, byol_status};
use crate::{library, log};

/// ONNX Runtime, started with certain settings. There is one per process; handles share it.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_runtime {
    /// 0 for the default.
    pub id: u64,
}

/// How to start ONNX Runtime. Start with BYOL_RUNTIME_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_runtime_options {
    /// sizeof(byol_runtime_options).
    pub struct_size: u32,
    /// Threads for all encoders together, the calling thread included; 0 takes what the process may use (affinity and
    /// cgroup).
    pub threads: u32,
    /// The ONNX Runtime library, or the folder it lies in, in UTF-8. NULL looks for it: in the environment variable
    /// BYOL_ONNXRUNTIME, in the folders of libbyol and of the program, at last where the system's loader looks.
    pub library: *const c_char,
}

impl Default for byol_runtime_options {
    fn default() -> Self {
        Self { struct_size: 0, threads: 0, library: std::ptr::null() }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_runtime_options {
    const NAME: &'static str = "byol_runtime_options";
    const MINIMUM: usize = 8 + size_of::<usize>();
}

struct Started(Arc<Runtime>);

impl Object for Started {
    const KIND: u32 = BYOL_KIND_RUNTIME;
    const NAME: &'static str = "byol_runtime";
}

/// The runtime of the process, once somebody started it through this library.
static STARTED: OnceLock<Arc<Runtime>> = OnceLock::new();

/// Sets `size` bytes at `options`, which is sizeof(byol_runtime_options) in the caller's header, to what
/// BYOL_RUNTIME_OPTIONS_INIT is.
///
/// Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_runtime_options_init(options: *mut byol_runtime_options, size: usize) {
    // SAFETY: the caller owns `size` bytes at `options`.
    unsafe { pointer::init(options, size) };
}

/// Starts ONNX Runtime with certain settings, or fails if it runs with others: a process has one.
///
/// `options` may be NULL for the defaults, which fit whatever runs.
///
/// Ownership: close the handle with byol_runtime_close at any time; encoders keep what they need. Threads: any.
/// Errors: NULL_POINTER, ABI, INVALID_ARG, RUNTIME (message: every place that was tried), BUSY_CONFIG. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_runtime_create(
    options: *const byol_runtime_options,
    runtime: *mut byol_runtime,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(runtime, "runtime")?;
            let options = pointer::options(options, "options")?;
            let library = pointer::text_or_null(options.library, "options.library")?.map(PathBuf::from);
            let started = start(&RuntimeOptions { library, threads: options.threads as usize })?;
            place.set(byol_runtime { id: handle::open(Started(started))? });
            Ok(())
        })
    }
}

/// Closes a runtime handle. ONNX Runtime itself stays. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_runtime_close(runtime: byol_runtime, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Started>(runtime.id)) }
}

/// What a handle stands for; handle 0 starts the default.
pub(crate) fn of(runtime: byol_runtime) -> Result<Arc<Runtime>> {
    match handle::get_or_none::<Started>(runtime.id)? {
        Some(started) => Ok(Arc::clone(&started.0)),
        None => start(&RuntimeOptions::default()),
    }
}

/// The running runtime, if any.
pub(crate) fn started() -> Option<&'static Arc<Runtime>> {
    STARTED.get()
}

fn start(options: &RuntimeOptions) -> Result<Arc<Runtime>> {
    if let Some(folder) = library::folder() {
        add_search_folder(folder);
    }
    let runtime = Runtime::open(options)?;
    if STARTED.set(Arc::clone(&runtime)).is_ok() {
        let (version, threads) = (runtime.version(), runtime.threads());
        log::info(&format!("ONNX Runtime {version} from {}, {threads} threads", runtime.library().display()));
    }
    Ok(runtime)
}
