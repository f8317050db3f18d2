//! Where training runs. One program serves CPU and CUDA: libtorch for the CPU is linked, and `libtorch_cuda` is loaded
//! at run time where a full libtorch of the same version is found.

use crate::error::{Error, Result};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::OnceLock;
use tch::{Cuda, Device};

/// The libtorch that this program was built for.
const LIBTORCH_VERSION: &str = "2.11.0";

/// What `--device` asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The first CUDA device where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// A CUDA device by its number.
    Cuda(usize),
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Auto => f.write_str("auto"),
            Choice::Cpu => f.write_str("cpu"),
            Choice::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl FromStr for Choice {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        match s {
            "auto" => Ok(Choice::Auto),
            "cpu" => Ok(Choice::Cpu),
            "cuda" => Ok(Choice::Cuda(0)),
            _ => s
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Choice::Cuda)
                .ok_or_else(|| Error::setting("device", s, "known are auto, cpu, cuda and cuda:N")),
        }
    }
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// A device that is ready, and how it was chosen.
#[derive(Clone, Debug)]
pub struct Found {
    /// The device.
    pub device: Device,
    /// A sentence for the user: what was found, and why CUDA is off when it is.
    pub sentence: String,
}

/// Finds and readies the device.
///
/// # Errors
/// [`Error::Device`] where CUDA was asked for and is not there.
pub fn open(choice: Choice) -> Result<Found> {
    let cpu = |why: &str| Found { device: Device::Cpu, sentence: format!("Training on the CPU: {why}.") };
    let cuda = |index: usize, library: &str| Found {
        device: Device::Cuda(index),
        sentence: format!("Training on CUDA device {index} ({library})."),
    };
    match (choice, load_cuda()) {
        (Choice::Cpu, _) => Ok(cpu("it was asked for")),
        (Choice::Auto, Err(why)) => Ok(cpu(&format!("CUDA is off, {why}"))),
        (Choice::Auto, Ok((library, _))) => Ok(cuda(0, library)),
        (Choice::Cuda(_), Err(why)) => Err(Error::Device { name: choice.to_string(), why: why.clone() }),
        (Choice::Cuda(index), Ok((_, count))) if index >= *count => {
            let why = match count {
                1 => "there is one CUDA device, cuda:0".to_owned(),
                _ => format!("there are {count} CUDA devices, cuda:0 to cuda:{}", count - 1),
            };
            Err(Error::Device { name: choice.to_string(), why })
        }
        (Choice::Cuda(index), Ok((library, _))) => Ok(cuda(index, library)),
    }
}

/// CPU threads that this process may use.
pub fn available_threads() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Threads of libtorch's own operators, for the calling thread and those that have not used libtorch yet.
pub(crate) fn set_threads(threads: usize) {
    tch::set_num_threads(i32::try_from(threads.max(1)).unwrap_or(i32::MAX));
}

/// One sentence on what `--device auto` would take.
pub fn describe() -> String {
    match open(Choice::Auto) {
        Ok(found) => found.sentence,
        Err(error) => error.to_string(),
    }
}

/// The file of the `libtorch_cuda` that is loaded, or why CUDA is off.
pub(crate) fn cuda_library() -> Result<&'static str, &'static String> {
    load_cuda().as_ref().map(|(file, _)| file.as_str())
}

/// Loads `libtorch_cuda` once for the process: the file and the number of devices, or why CUDA is off.
fn load_cuda() -> &'static Result<(String, usize), String> {
    static LOADED: OnceLock<Result<(String, usize), String>> = OnceLock::new();
    LOADED.get_or_init(|| {
        if !cfg!(target_os = "linux") {
            return Err("it is supported on Linux only".into());
        }
        let mut tried = Vec::new();
        for file in candidates() {
            // A bare name is looked up by the system's loader.
            let bare = file.parent().is_none_or(|p| p.as_os_str().is_empty());
            if !bare && !file.exists() {
                continue;
            }
            let opened = check_version(&file).and_then(|()| dlopen(&file));
            match opened {
                Ok(()) => {
                    return match (Cuda::is_available(), usize::try_from(Cuda::device_count())) {
                        (true, Ok(count)) if count > 0 => {
                            Cuda::cudnn_set_benchmark(true);
                            Ok((file.display().to_string(), count))
                        }
                        _ => Err(format!("{} was loaded, but sees no device (is there a driver?)", file.display())),
                    };
                }
                Err(_) if bare => {}
                Err(why) => tried.push(format!("{}: {why}", file.display())),
            }
        }
        if tried.is_empty() {
            Err("no libtorch_cuda.so was found (set LIBTORCH to a full libtorch, or its lib folder in LD_LIBRARY_PATH)"
                .into())
        } else {
            Err(format!("libtorch_cuda.so could not be loaded: {}", tried.join("; ")))
        }
    })
}

/// Files that may be `libtorch_cuda`, most explicit first.
fn candidates() -> Vec<PathBuf> {
    const NAME: &str = "libtorch_cuda.so";
    let set = std::env::var_os("LIBTORCH").map(|folder| Path::new(&folder).join("lib").join(NAME));
    // Beside the libtorch_cpu that this process already uses.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let beside = maps
        .lines()
        .filter_map(|line| line.find('/').map(|at| Path::new(&line[at..])))
        .find(|path| path.file_name().is_some_and(|name| name == "libtorch_cpu.so"))
        .map(|path| path.with_file_name(NAME));
    set.into_iter().chain(beside).chain([PathBuf::from(NAME)]).collect()
}

/// Refuses a libtorch of another version, where its folder says which one it is.
fn check_version(file: &Path) -> Result<(), String> {
    let Some(root) = file.parent().and_then(Path::parent) else { return Ok(()) };
    let texts = ["build-version", "version.py"].map(|name| std::fs::read_to_string(root.join(name)));
    match texts.into_iter().flatten().next() {
        Some(text) if !text.contains(LIBTORCH_VERSION) => {
            Err(format!("it is not of version {LIBTORCH_VERSION}, which this program was built for"))
        }
        _ => Ok(()),
    }
}

/// Loads a library for good, its symbols visible to libtorch.
#[cfg(unix)]
#[allow(
    unsafe_code,
    reason = "a library's initialisers run when it is loaded; this one belongs to the libtorch in use"
)]
fn dlopen(file: &Path) -> Result<(), String> {
    use libloading::os::unix::{Library, RTLD_GLOBAL, RTLD_NOW};
    // SAFETY: libtorch_cuda's initialisers only register its operators with the dispatcher of the libtorch that is
    // already loaded, whose version was checked.
    let library = unsafe { Library::open(Some(file), RTLD_NOW | RTLD_GLOBAL) }.map_err(|e| e.to_string())?;
    std::mem::forget(library); // Its operators stay registered, so it must stay loaded.
    Ok(())
}

#[cfg(not(unix))]
fn dlopen(_: &Path) -> Result<(), String> {
    Err("loading it is not supported on this system".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda:0", "cuda:3"] {
            assert_eq!(text.parse::<Choice>().unwrap().to_string(), text);
        }
        assert_eq!("cuda".parse::<Choice>().unwrap(), Choice::Cuda(0));
    }

    #[test]
    fn an_unknown_device_is_refused_by_name() {
        for text in ["gpu", "cuda:", "cuda:x", "CPU", ""] {
            let message = text.parse::<Choice>().unwrap_err().to_string();
            assert!(message.contains("device") && message.contains("known are auto, cpu, cuda"), "{message}");
        }
    }

    #[test]
    fn a_device_that_is_not_there_is_refused_with_the_reason() {
        let error = open(Choice::Cuda(4096)).unwrap_err();
        assert!(matches!(&error, Error::Device { name, .. } if name == "cuda:4096"), "{error}");
    }

    #[test]
    fn the_cpu_is_always_there_and_says_so() {
        assert_eq!(open(Choice::Cpu).unwrap().device, Device::Cpu);
        assert!(describe().starts_with("Training on "));
    }
}
