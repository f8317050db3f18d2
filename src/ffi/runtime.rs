//! ONNX Runtime's settings. Optional: the first encoder starts it with the defaults.

use std::ffi::c_char;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use byol_serve::runtime::{Runtime, RuntimeOptions, add_search_folder};

use crate::guard::{self, guard};
use crate::handle::{self, BYOL_KIND_RUNTIME, Object};
use crate::pointer::{self, Versioned};
use crate::status::{BYOL_E_BUSY_CONFIG, Fault, Result, byol_error, byol_status};
use crate::{extract, library, log, memory};

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
    /// Most bytes that libbyol itself may hold, ONNX Runtime's not counted; 0 for no limit. What the caller's sizes
    /// decide (examples, features, models and pictures that are read) fails with BYOL_E_LIMIT beyond it. Once set it
    /// stays.
    pub max_memory: u64,
}

impl Default for byol_runtime_options {
    fn default() -> Self {
        Self { struct_size: 0, threads: 0, library: std::ptr::null(), max_memory: 0 }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_runtime_options {
    const NAME: &'static str = "byol_runtime_options";
    const MINIMUM: usize = 8 + size_of::<usize>();
}

/// What libbyol does and holds, in this process since it started. Set struct_size (BYOL_RUNTIME_STATS_INIT), the library
/// fills in the rest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_runtime_stats {
    /// sizeof(byol_runtime_stats).
    pub struct_size: u32,
    /// Threads that all encoders share; 0 before ONNX Runtime is started.
    pub threads: u32,
    /// Calls of functions that return a status.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Pictures whose features were asked for, bad ones included.
    pub pictures: u64,
    /// Bytes that libbyol has allocated now, ONNX Runtime's not counted: examples, features, heads, pictures in work.
    pub held_bytes: u64,
    /// The most that held_bytes ever was.
    pub held_peak: u64,
    /// The limit on held_bytes; 0 for none.
    pub max_memory: u64,
    /// Bytes of the whole process that are in memory now; 0 where the system does not say (Linux does).
    pub resident_bytes: u64,
    /// The most that resident_bytes ever was.
    pub resident_peak: u64,
}

// SAFETY: repr(C), struct_size first, no padding, integers only.
unsafe impl Versioned for byol_runtime_stats {
    const NAME: &'static str = "byol_runtime_stats";
    const MINIMUM: usize = 72;
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
            let other = memory::limit();
            if options.max_memory != 0 && other != 0 && other != options.max_memory {
                let asked = options.max_memory;
                return Err(Fault::new(
                    BYOL_E_BUSY_CONFIG,
                    format_args!("max_memory is {other} in this process already; asked for {asked}"),
                ));
            }
            let started = start(&RuntimeOptions { library, threads: options.threads as usize })?;
            if options.max_memory != 0 {
                memory::set_limit(options.max_memory);
            }
            place.set(byol_runtime { id: handle::open(Started(started))? });
            Ok(())
        })
    }
}

/// Sets `size` bytes at `stats`, which is sizeof(byol_runtime_stats) in the caller's header, to what
/// BYOL_RUNTIME_STATS_INIT is.
///
/// Does nothing when `stats` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_runtime_stats_init(stats: *mut byol_runtime_stats, size: usize) {
    // SAFETY: the caller owns `size` bytes at `stats`.
    unsafe { pointer::init(stats, size) };
}

/// Tells what libbyol has done and holds. On Linux it reads /proc/self/statm for that. ONNX Runtime is not started.
///
/// Ownership: `stats` is the caller's. Threads: any. Errors: NULL_POINTER, ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_runtime_get_stats(stats: *mut byol_runtime_stats, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(stats, "stats")?;
            let ((held_bytes, held_peak), (resident_bytes, resident_peak)) = (memory::held(), memory::resident());
            let (calls, failures) = guard::calls();
            report.set(byol_runtime_stats {
                struct_size: 0,
                threads: started().map_or(0, |runtime| runtime.threads() as u32),
                calls,
                failures,
                pictures: extract::pictures(),
                held_bytes,
                held_peak,
                max_memory: memory::limit(),
                resident_bytes,
                resident_peak: resident_peak.max(resident_bytes),
            });
            Ok(())
        })
    }
}

/// Gives memory that nobody holds any more back to the system, where the C library can be told to (glibc can; elsewhere
/// this does nothing). For hosts that did something large once. Encoders keep their memory until they are closed.
///
/// Ownership: nothing changes hands. Threads: any; other threads that allocate may wait for it. Errors: SHUTDOWN,
/// FORKED. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_runtime_trim(error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard(error, || {
            memory::trim();
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
