//! ONNX Runtime: found, checked and started once per process.
//!
//! The library is loaded at run time, so that nothing links it and the host decides which copy is used. It is looked
//! for, in this order:
//! 1. [`RuntimeOptions::library`], a file or a folder;
//! 2. the environment variable `BYOL_ONNXRUNTIME`, a file or a folder;
//! 3. folders named with [`add_search_folder`] (libbyol names its own), then the folder of the executable; for each
//!    of them first its `byol`, where `make install` puts it, then itself; then `../lib/byol` and `../lib`; and
//!    `.native/onnxruntime/lib` of the checkout when the folder lies in its `target`;
//! 4. the system's loader.
//!
//! Whoever names a library (1 or 2) gets that one or an error, never silently another. Anything older than
//! [`OLDEST_API`] is refused, and the error lists every file that was tried with the version that it had.
//!
//! ONNX Runtime keeps one environment per process and the first caller configures it, so a second
//! [`Runtime::open`] with other wishes is an error. The environment has one thread pool, shared by all encoders, that
//! does not spin; it prints nothing, reports nothing to anybody, and is never torn down, because tearing it down
//! while the process exits crashes.

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{env, fmt, thread};

use ort::LoadDynamicError;
use ort::environment::{Environment, GlobalThreadPoolOptions};
use ort::logging::LogLevel;

use crate::error::{Error, Result};
use crate::watch::Watch;

/// The oldest minor version of ONNX Runtime 1 that is accepted.
pub const OLDEST_API: u32 = ort::MINOR_VERSION;

/// The environment variable that names the library, or the folder that it lies in.
pub const LIBRARY_VARIABLE: &str = "BYOL_ONNXRUNTIME";

/// How to start ONNX Runtime. The default asks for nothing, so it fits whatever is already running.
#[derive(Clone, Debug, Default)]
pub struct RuntimeOptions {
    /// The library, or the folder that it lies in; `None` looks for it.
    pub library: Option<PathBuf>,
    /// Threads for all encoders together, the caller's included; 0 takes what the process may use (affinity, cgroup).
    pub threads: usize,
}

/// ONNX Runtime, started. There is one per process.
pub struct Runtime {
    pub(crate) environment: Environment,
    pub(crate) watch: Watch,
    pub(crate) preparers: rayon::ThreadPool,
    library: PathBuf,
    version: String,
    threads: usize,
}

/// A library that was looked at and not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The file or folder.
    pub path: PathBuf,
    /// Why it was not used; for a library that is too old, with its version.
    pub why: String,
}

impl fmt::Display for Tried {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n  {}: {}", self.path.display(), self.why)
    }
}

/// The process's only runtime. Statics are never dropped, which is what ONNX Runtime needs here.
static RUNTIME: Mutex<Option<Arc<Runtime>>> = Mutex::new(None);
static SEARCH_FOLDERS: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// Adds a folder to look for ONNX Runtime in, before the executable's. For a library that knows where it lies.
pub fn add_search_folder(folder: impl Into<PathBuf>) {
    let folder = folder.into();
    let mut folders = locked(&SEARCH_FOLDERS);
    if !folders.contains(&folder) {
        folders.push(folder);
    }
}

impl Runtime {
    /// Starts ONNX Runtime, or returns the one that runs if it is what `options` asks for.
    ///
    /// # Errors
    /// [`Error::RuntimeNotFound`] with everything that was tried; [`Error::BusyConfig`] if ONNX Runtime runs already
    /// from another library or with another number of threads; [`Error::Runtime`] if it does not start.
    pub fn open(options: &RuntimeOptions) -> Result<Arc<Self>> {
        let mut slot = locked(&RUNTIME);
        if let Some(runtime) = &*slot {
            runtime.check_fits(options)?;
            return Ok(Arc::clone(runtime));
        }
        let runtime = Arc::new(Self::start(options)?);
        *slot = Some(Arc::clone(&runtime));
        Ok(runtime)
    }

    /// The runtime of this process, started with the default options if nobody has started it yet.
    ///
    /// # Errors
    /// Those of [`Runtime::open`].
    pub fn shared() -> Result<Arc<Self>> {
        Self::open(&RuntimeOptions::default())
    }

    /// Version of the library, such as `1.32.0`; `1.24 or newer` for a build that does not tell.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The library's file.
    pub fn library(&self) -> &Path {
        &self.library
    }

    /// Number of threads that all encoders share, the calling thread included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    fn start(options: &RuntimeOptions) -> Result<Self> {
        let threads = match options.threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        refuse_telemetry();
        let library = load(options.library.as_deref())?;
        let version = version_of(&library).unwrap_or_else(|| format!("1.{OLDEST_API} or newer"));
        let failed = |why: String| Error::runtime(&library, 1, format!("ONNX Runtime does not start: {why}"));
        let start = || -> ort::Result<Environment> {
            let pool = GlobalThreadPoolOptions::default()
                .with_intra_threads(threads)?
                .with_inter_threads(1)?
                .with_spin_control(false)?;
            let environment = ort::init()
                .with_name("byol")
                .with_telemetry(false)
                .with_global_thread_pool(pool)
                // A logger that drops everything: without one, ONNX Runtime writes to the host's stderr. What matters
                // comes back as an error.
                .with_logger(Arc::new(|_, _, _, _, _| {}))
                .build()?;
            environment.set_log_level(LogLevel::Fatal);
            Ok(environment)
        };
        let environment = start().map_err(|e| failed(e.to_string()))?;
        let preparers = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|i| format!("byol-prepare-{i}"))
            .build()
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { environment, watch: Watch::default(), preparers, library, version, threads })
    }

    fn check_fits(&self, options: &RuntimeOptions) -> Result<()> {
        if options.threads != 0 && options.threads != self.threads {
            return Err(Error::BusyConfig {
                what: "threads",
                running: self.threads.to_string(),
                asked: options.threads.to_string(),
            });
        }
        let Some(asked) = &options.library else { return Ok(()) };
        let same = |a: &Path| matches!((a.canonicalize(), self.library.canonicalize()), (Ok(a), Ok(b)) if a == b);
        if candidates(asked).iter().any(|file| same(file)) {
            return Ok(());
        }
        Err(Error::BusyConfig {
            what: "library",
            running: self.library.display().to_string(),
            asked: asked.display().to_string(),
        })
    }
}

impl fmt::Debug for Runtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Runtime")
            .field("library", &self.library)
            .field("version", &self.version)
            .field("threads", &self.threads)
            .finish_non_exhaustive()
    }
}

/// Keeps ONNX Runtime's official builds for Linux from writing an identifier of the device and a store of events below
/// the user's home, and from reporting to their maker, which they do from the moment their environment is made: before
/// the call that switches telemetry off can be made. Only this variable, set before, stops all of it. Who has set it
/// keeps what was set.
#[allow(unsafe_code, reason = "there is no other way in, and the Rust library and the command need it as libbyol does")]
fn refuse_telemetry() {
    const VARIABLE: &str = "ORT_DISABLE_TELEMETRY";
    if env::var_os(VARIABLE).is_none() {
        // SAFETY: once per process, under the lock of RUNTIME. Rust's own readers are excluded by std; a host that reads
        // variables in C on another thread just then is told of it in byol.h.
        unsafe { env::set_var(VARIABLE, "1") };
    }
}

/// Loads the first library that will do, and says which that was.
fn load(asked: Option<&Path>) -> Result<PathBuf> {
    let mut tried = Vec::new();
    let variable = env::var_os(LIBRARY_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = asked.map(Path::to_path_buf).or(variable) {
        return load_from(&named, &mut tried).ok_or(Error::RuntimeNotFound { tried });
    }
    let mut folders = locked(&SEARCH_FOLDERS).clone();
    let executable = env::current_exe().ok();
    folders.extend(executable.as_deref().and_then(Path::parent).map(Path::to_path_buf));
    let mut places = Vec::new();
    for place in folders.iter().flat_map(|folder| near(folder)) {
        // The command `byol` is a file of the name that the folder has elsewhere.
        if !places.contains(&place) && !place.is_file() {
            places.push(place);
        }
    }
    if let Some(library) = places.iter().find_map(|place| load_from(place, &mut tried)) {
        return Ok(library);
    }
    // A bare name makes the loader look through its own folders (LD_LIBRARY_PATH, ld.so.cache, ...).
    for name in NAMES {
        if try_load(Path::new(name), &mut tried) {
            return Ok(loaded_file(name).unwrap_or_else(|| PathBuf::from(name)));
        }
    }
    Err(Error::RuntimeNotFound { tried })
}

#[cfg(target_os = "windows")]
const NAMES: &[&str] = &["onnxruntime.dll"];
#[cfg(target_vendor = "apple")]
const NAMES: &[&str] = &["libonnxruntime.dylib", "libonnxruntime.1.dylib"];
#[cfg(not(any(target_os = "windows", target_vendor = "apple")))]
const NAMES: &[&str] = &["libonnxruntime.so", "libonnxruntime.so.1"];

/// The folders to look in for a program or library that lies in `folder`.
fn near(folder: &Path) -> Vec<PathBuf> {
    // A copy of our own before one that somebody else put into a common folder.
    let mut places = vec![folder.join("byol"), folder.to_path_buf()];
    places.extend(folder.parent().into_iter().flat_map(|parent| [parent.join("lib/byol"), parent.join("lib")]));
    let target = folder.ancestors().find(|ancestor| ancestor.file_name().is_some_and(|name| name == "target"));
    places.extend(target.and_then(Path::parent).map(|checkout| checkout.join(".native/onnxruntime/lib")));
    places
}

/// The files that `place`, a library or a folder, stands for.
fn candidates(place: &Path) -> Vec<PathBuf> {
    if !place.is_dir() {
        return vec![place.to_path_buf()];
    }
    for folder in [place.to_path_buf(), place.join("lib")] {
        let mut files: Vec<PathBuf> = NAMES.iter().map(|name| folder.join(name)).filter(|file| file.exists()).collect();
        if files.is_empty() {
            // A wheel has only the file with the full version in its name.
            let entries = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
            files = entries.filter(|file| has_versioned_name(file)).collect();
            files.sort_by_key(|file| std::cmp::Reverse(version_in_name(file).map(|v| numbers(&v))));
        }
        if !files.is_empty() {
            return files;
        }
    }
    Vec::new()
}

fn load_from(place: &Path, tried: &mut Vec<Tried>) -> Option<PathBuf> {
    // The loader takes a path without a slash for a name to search, and a relative one depends on the working folder.
    let place = std::path::absolute(place).unwrap_or_else(|_| place.to_path_buf());
    let files = candidates(&place);
    if files.is_empty() {
        tried.push(Tried { path: place, why: format!("no {} in this folder", NAMES[0]) });
        return None;
    }
    files.into_iter().find(|file| try_load(file, tried))
}

fn try_load(file: &Path, tried: &mut Vec<Tried>) -> bool {
    if file.is_absolute() && !file.exists() {
        tried.push(Tried { path: file.to_path_buf(), why: "no such file".into() });
        return false;
    }
    let why = match ort::init_from(file) {
        Ok(_) => return true,
        Err(LoadDynamicError::BadVersion { version_str, .. }) => {
            format!("version {version_str}, but 1.{OLDEST_API} or newer is needed")
        }
        Err(LoadDynamicError::MissingApi { .. }) => "a library, but not ONNX Runtime".into(),
        Err(LoadDynamicError::InvalidVersionString) => "does not tell its version".into(),
        Err(LoadDynamicError::Dlopen { error, .. }) => format!("cannot be loaded: {error}"),
    };
    tried.push(Tried { path: file.to_path_buf(), why });
    false
}

/// The file behind a library that the loader found by its name.
fn loaded_file(name: &str) -> Option<PathBuf> {
    let maps = fs::read_to_string("/proc/self/maps").ok()?;
    let path = maps.lines().filter_map(|line| line.find('/').map(|at| &line[at..])).find(|path| {
        Path::new(path).file_name().and_then(|file| file.to_str()).is_some_and(|file| file.starts_with(name))
    })?;
    Some(PathBuf::from(path))
}

/// The version that a library carries: the name of its exported symbols' version (`VERS_1.32.0`), which official
/// builds for Linux have, or else what its file name says.
fn version_of(library: &Path) -> Option<String> {
    symbol_version(library).or_else(|| version_in_name(&library.canonicalize().ok()?))
}

fn symbol_version(library: &Path) -> Option<String> {
    const MARK: &[u8] = b"VERS_";
    const LONGEST: usize = 32;
    let mut file = File::open(library).ok()?;
    let mut window = Vec::new();
    loop {
        let read = file.by_ref().take(1 << 20).read_to_end(&mut window).ok()?;
        for (at, _) in window.windows(MARK.len()).enumerate().filter(|(_, bytes)| *bytes == MARK) {
            let digits = window[at + MARK.len()..].iter().take(LONGEST);
            let version: String =
                digits.map(|&b| char::from(b)).take_while(|c| c.is_ascii_digit() || *c == '.').collect();
            if numbers(&version).len() >= 2 {
                return Some(version);
            }
        }
        if read == 0 {
            return None;
        }
        // The mark may lie across two reads.
        window.drain(..window.len().saturating_sub(MARK.len() + LONGEST));
    }
}

fn has_versioned_name(file: &Path) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    name.starts_with("libonnxruntime.") && version_in_name(file).is_some()
}

fn version_in_name(file: &Path) -> Option<String> {
    let name = file.file_name()?.to_str()?;
    let version: String = name.chars().skip_while(|c| !c.is_ascii_digit()).collect();
    let version = version.trim_end_matches(|c: char| !c.is_ascii_digit());
    (!version.is_empty() && numbers(version).len() == version.split('.').count()).then(|| version.to_owned())
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map_while(|part| part.parse().ok()).collect()
}

/// Nothing in this module leaves its data half-changed when it panics.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_gives_its_version_where_it_has_one() {
        let version = |name: &str| version_in_name(Path::new(name));
        assert_eq!(version("/a.2/libonnxruntime.so.1.32.0").as_deref(), Some("1.32.0"));
        assert_eq!(version("libonnxruntime.1.24.1.dylib").as_deref(), Some("1.24.1"));
        assert_eq!(version("libonnxruntime.so"), None);
    }

    #[test]
    fn a_program_in_target_also_looks_in_its_checkout() {
        let places = near(Path::new("/src/checkout/target/release/deps"));
        let expected =
            ["target/release/deps/byol", "target/release/deps", "target/release/lib/byol", "target/release/lib"];
        assert_eq!(places[..4], expected.map(|place| Path::new("/src/checkout").join(place)));
        assert_eq!(places[4], Path::new("/src/checkout/.native/onnxruntime/lib"));
        let expected = ["/usr/bin/byol", "/usr/bin", "/usr/lib/byol", "/usr/lib"].map(Path::new);
        assert_eq!(near(Path::new("/usr/bin")), expected);
    }
}
