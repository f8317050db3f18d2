//! The part of libtorch that needs CUDA and that `tch` does not bind: graphs of a whole step, and process groups over NCCL.
//!
//! It is a library of its own, `libbyol_cuda.so`, so that the program needs none of CUDA. Where it is looked for: the
//! environment variable `BYOL_CUDA` (a file), beside the program, and in `../lib/byol` from there. Its other half is
//! `cuda.cc`.

#![allow(
    unsafe_code,
    reason = "the library is opened at run time and its functions are C; everything that this module gives out is safe: \
              handles are owned by Rust values, and the library is never closed"
)]

use crate::capture::Recorder;
use crate::device;
use crate::error::{Error, Result};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::path::{Path, PathBuf};
use std::ptr::null_mut;
use std::sync::OnceLock;
use tch::Device;

/// Names the library's file.
const VARIABLE: &str = "BYOL_CUDA";
const NAME: &str = "libbyol_cuda.so";

type Handle = *mut c_void;
type Text = *mut c_char;
/// Makes a process group: store, rank, ranks, milliseconds, where it goes.
pub(crate) type NcclOpen = unsafe extern "C" fn(*const c_void, c_int, c_int, i64, *mut c_void) -> Text;

/// The library's functions.
#[derive(Debug)]
struct Library {
    text_free: unsafe extern "C" fn(Text),
    graph_new: unsafe extern "C" fn(c_int, *mut Handle) -> Text,
    graph_free: unsafe extern "C" fn(Handle),
    graph_enter: unsafe extern "C" fn(Handle) -> Text,
    graph_leave: unsafe extern "C" fn(Handle) -> Text,
    graph_begin: unsafe extern "C" fn(Handle) -> Text,
    graph_end: unsafe extern "C" fn(Handle) -> Text,
    graph_give_up: unsafe extern "C" fn(Handle),
    graph_replay: unsafe extern "C" fn(Handle) -> Text,
    nccl_open: NcclOpen,
}

impl Library {
    /// Opens it once for the process.
    fn open() -> Result<&'static Library> {
        static OPENED: OnceLock<Result<Library, String>> = OnceLock::new();
        let opened = OPENED.get_or_init(|| {
            // All that the library asks for is in there.
            device::cuda_library().map_err(Clone::clone)?;
            let mut tried = Vec::new();
            for file in places() {
                match file.exists().then(|| load(&file)) {
                    Some(Ok(library)) => return Ok(library),
                    Some(Err(why)) => return Err(format!("{} cannot be used: {why}", file.display())),
                    None => tried.push(file.display().to_string()),
                }
            }
            Err(format!("{NAME}, which `make cuda` builds, was not found (looked for: {})", tried.join(", ")))
        });
        opened.as_ref().map_err(|why| Error::Cuda { why: why.clone() })
    }

    fn check(&self, error: Text) -> Result<()> {
        if error.is_null() {
            return Ok(());
        }
        // SAFETY: an error is a text that ends with a zero, owned here until it is freed.
        let why = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
        // SAFETY: it came from this library, and is not used after this.
        unsafe { (self.text_free)(error) };
        Err(Error::Cuda { why })
    }
}

/// Process groups over NCCL, which [`crate::c10d`] opens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nccl(&'static Library);

impl Nccl {
    /// Where it can be had on this device.
    ///
    /// # Errors
    /// [`Error::Cuda`] says why not.
    pub(crate) fn on(device: Device) -> Result<Self> {
        match device {
            Device::Cuda(_) => Ok(Self(Library::open()?)),
            Device::Cpu | Device::Mps | Device::Vulkan => Err(Error::Cuda { why: "NCCL needs a CUDA device".into() }),
        }
    }

    pub(crate) fn open(&self) -> NcclOpen {
        self.0.nccl_open
    }

    /// What [`open`](Self::open) gave.
    pub(crate) fn check(&self, error: Text) -> Result<()> {
        self.0.check(error)
    }
}

/// A step's recording on a CUDA device.
#[derive(Debug)]
pub(crate) struct Graph {
    library: &'static Library,
    handle: Handle,
}

impl Graph {
    /// For a CUDA device that libtorch knows already.
    ///
    /// # Errors
    /// [`Error::Cuda`].
    pub(crate) fn new(device: Device) -> Result<Self> {
        let Device::Cuda(index) = device else {
            return Err(Error::Cuda { why: "a CUDA graph needs a CUDA device".into() });
        };
        Self::of(Library::open()?, index)
    }

    fn of(library: &'static Library, index: usize) -> Result<Self> {
        let mut handle = null_mut();
        // SAFETY: `handle` may be written.
        library.check(unsafe { (library.graph_new)(c_int::try_from(index).unwrap_or(c_int::MAX), &raw mut handle) })?;
        Ok(Self { library, handle })
    }
}

impl Recorder for Graph {
    fn enter(&mut self) -> Result<()> {
        // SAFETY: the handle is alive as long as `self`; so in all calls below.
        self.library.check(unsafe { (self.library.graph_enter)(self.handle) })
    }

    fn leave(&mut self) -> Result<()> {
        // SAFETY: as above.
        self.library.check(unsafe { (self.library.graph_leave)(self.handle) })
    }

    fn begin(&mut self) -> Result<()> {
        // SAFETY: as above.
        self.library.check(unsafe { (self.library.graph_begin)(self.handle) })
    }

    fn end(&mut self) -> Result<()> {
        // SAFETY: as above.
        self.library.check(unsafe { (self.library.graph_end)(self.handle) })
    }

    fn give_up(&mut self) {
        // SAFETY: as above.
        unsafe { (self.library.graph_give_up)(self.handle) }
    }

    fn replay(&mut self) -> Result<()> {
        // SAFETY: as above; what the recorded step reads and writes is held by `Captured` and by the networks.
        self.library.check(unsafe { (self.library.graph_replay)(self.handle) })
    }
}

impl Drop for Graph {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and not used after this.
        unsafe { (self.library.graph_free)(self.handle) };
    }
}

/// Where the library may be, most explicit first.
fn places() -> Vec<PathBuf> {
    if let Some(file) = std::env::var_os(VARIABLE).filter(|file| !file.is_empty()) {
        return vec![file.into()];
    }
    let program = std::env::current_exe().ok();
    let Some(folder) = program.as_deref().and_then(Path::parent) else { return Vec::new() };
    vec![folder.join(NAME), folder.join("../lib/byol").join(NAME)]
}

#[cfg(unix)]
fn load(file: &Path) -> Result<Library, String> {
    use libloading::os::unix::{Library as File, RTLD_LOCAL, RTLD_NOW};
    // SAFETY: it is byol's own, whose version is looked at below, and has no initialisers but C++'s; all that it asks for is
    // in the libtorch_cuda that was loaded above, or opening it fails.
    let opened = unsafe { File::open(Some(file), RTLD_NOW | RTLD_LOCAL) }.map_err(|e| e.to_string())?;
    let missing = |e: libloading::Error| e.to_string();
    // SAFETY: the names and types are those of cuda.cc.
    let version =
        unsafe { opened.get::<unsafe extern "C" fn() -> *const c_char>(b"byol_cuda_version\0") }.map_err(missing)?;
    // SAFETY: it gives a text that ends with a zero and lasts as long as the library.
    let version = unsafe { CStr::from_ptr(version()) }.to_string_lossy().into_owned();
    if version != env!("CARGO_PKG_VERSION") {
        return Err(format!("it is of byol {version}, and this is byol {}", env!("CARGO_PKG_VERSION")));
    }
    macro_rules! function {
        ($name:literal) => {
            // SAFETY: as above.
            *unsafe { opened.get(concat!("byol_cuda_", $name, "\0").as_bytes()) }.map_err(missing)?
        };
    }
    let library = Library {
        text_free: function!("text_free"),
        graph_new: function!("graph_new"),
        graph_free: function!("graph_free"),
        graph_enter: function!("graph_enter"),
        graph_leave: function!("graph_leave"),
        graph_begin: function!("graph_begin"),
        graph_end: function!("graph_end"),
        graph_give_up: function!("graph_give_up"),
        graph_replay: function!("graph_replay"),
        nccl_open: function!("nccl_open"),
    };
    std::mem::forget(opened);
    Ok(library)
}

#[cfg(not(unix))]
fn load(_: &Path) -> Result<Library, String> {
    Err("loading it is not supported on this system".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::c10d::{Group, Store};
    use std::time::Duration;

    #[test]
    fn what_needs_cuda_is_refused_on_the_cpu() {
        for error in [Graph::new(Device::Cpu).map(|_| ()).unwrap_err(), Nccl::on(Device::Cpu).map(|_| ()).unwrap_err()]
        {
            assert!(matches!(&error, Error::Cuda { why } if why.contains("CUDA device")), "{error}");
        }
    }

    #[test]
    #[ignore = "needs libbyol_cuda.so and torch's CUDA build: tests/gpu/load.sh"]
    fn the_library_is_opened_and_without_a_driver_says_so() {
        let file = PathBuf::from(std::env::var_os(VARIABLE).unwrap());
        // It stays loaded, whether it sees a device or not.
        let torch = device::cuda_library();
        let library: &'static Library = Box::leak(Box::new(load(&file).unwrap()));
        let Err(why) = torch else { return };
        assert!(why.contains("sees no device"), "{why}");
        let store = Store::open("127.0.0.1", 0, true, Duration::from_secs(5)).unwrap();
        for error in [
            Graph::of(library, 0).map(|_| ()).unwrap_err(),
            Group::open_nccl(&store, &Nccl(library), "test", [0, 1], Duration::from_secs(5)).map(|_| ()).unwrap_err(),
        ] {
            assert!(matches!(&error, Error::Cuda { why } if why.contains("NVIDIA driver")), "{error}");
        }
    }
}
