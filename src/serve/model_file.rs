//! A model file that ONNX Runtime reads by its name, so that its bytes never lie in memory beside the weights made of
//! them: a ResNet-50 would hold 94 MB more while it is opened.
//!
//! The file is looked into first, then summed on a thread of its own while the runtime loads it. That what was looked
//! into, what was summed and what was loaded is one and the same is known from the system: identity, length and the times
//! of the last change must be the same before and after. Callers who want a file of a certain sum, and nothing else, do
//! not rely on that: they read it once, and give the runtime what was summed.

use std::fs::{self, File, Metadata};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::SystemTime;

use byol_model::file::sha256_hex_from;
use byol_model::onnx::{self, Inspection};

use crate::atomic;
use crate::error::{Error, Result};

/// A regular file that was opened.
pub(crate) struct ModelFile {
    path: PathBuf,
    file: File,
    stamp: Stamp,
}

/// What changes when a file does.
#[derive(Clone, Debug, PartialEq)]
struct Stamp {
    length: u64,
    modified: Option<SystemTime>,
    /// Device, number, and time of the last change of any kind, which no program can set.
    #[cfg(unix)]
    identity: [i64; 4],
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        #[cfg(unix)]
        use std::os::unix::fs::MetadataExt;
        Self {
            length: metadata.len(),
            modified: metadata.modified().ok(),
            #[cfg(unix)]
            identity: [metadata.dev() as i64, metadata.ino() as i64, metadata.ctime(), metadata.ctime_nsec()],
        }
    }
}

impl ModelFile {
    /// Opens a regular file of at most `limit` bytes.
    pub(crate) fn open(path: &Path, limit: u64) -> Result<Self> {
        let file = atomic::open(path)?;
        let stamp = Stamp::of(&file.metadata().map_err(Error::io(path))?);
        if stamp.length > limit {
            return Err(Error::TooLarge { path: path.into(), found: stamp.length, limit });
        }
        Ok(Self { path: path.into(), file, stamp })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn length(&self) -> u64 {
        self.stamp.length
    }

    /// What the file says of itself; its weights are not read.
    pub(crate) fn inspect(&self) -> Result<Inspection> {
        onnx::inspect_from(&self.file, self.stamp.length)
            .map_err(|source| Error::ModelInvalid { path: self.path.clone(), source })
    }

    /// All its bytes.
    pub(crate) fn read(mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        let room = usize::try_from(self.stamp.length).unwrap_or(usize::MAX);
        bytes.try_reserve_exact(room).map_err(|_| Error::NoMemory { bytes: room })?;
        self.file.by_ref().take(self.stamp.length).read_to_end(&mut bytes).map_err(Error::io(&self.path))?;
        Ok(bytes)
    }

    /// Runs `load`, which reads the file by its name, and sums the file at the same time: what `load` gives, and the
    /// SHA-256.
    pub(crate) fn summed_while<T>(&self, load: impl FnOnce() -> Result<T>) -> Result<(T, String)> {
        let sum = || {
            (&self.file).rewind()?;
            sha256_hex_from(&self.file)
        };
        let (loaded, summed) = thread::scope(|scope| {
            let beside = thread::Builder::new().name("byol-sum".into()).spawn_scoped(scope, sum);
            let loaded = load();
            let summed = beside.ok().and_then(|beside| beside.join().ok()).unwrap_or_else(sum);
            (loaded, summed)
        });
        // What the runtime says of a file that was changed under its hands would lead astray.
        let summed = summed.map_err(Error::io(&self.path))?;
        self.check_unchanged()?;
        Ok((loaded?, summed))
    }

    /// The file that has the name now must be the one that was opened, as it was then.
    fn check_unchanged(&self) -> Result<()> {
        let now = fs::metadata(&self.path).map_err(Error::io(&self.path))?;
        if Stamp::of(&now) == self.stamp {
            return Ok(());
        }
        let why = "it was changed or replaced while it was being opened; open it again when it is finished";
        Err(Error::io(&self.path)(io::Error::other(why)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(content: &[u8]) -> (PathBuf, PathBuf) {
        let folder = std::env::temp_dir().join(format!("byol-model-file-{}-{}", std::process::id(), content.len()));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join("model.onnx");
        fs::write(&path, content).unwrap();
        (folder, path)
    }

    #[test]
    fn a_file_that_changes_while_it_is_loaded_is_an_error_however_it_changes() {
        let (folder, path) = written(b"0123456789");
        let replace = |content: &[u8]| {
            let other = folder.join("other");
            fs::write(&other, content).unwrap();
            fs::rename(&other, &path).unwrap();
        };
        let file = ModelFile::open(&path, 100).unwrap();
        let (value, sum) = file.summed_while(|| Ok(7)).unwrap();
        assert_eq!((value, sum), (7, byol_model::sha256_hex(b"0123456789")));
        // In place, of the same length; the clock of some file systems is coarse.
        let overwrite = || {
            thread::sleep(std::time::Duration::from_millis(20));
            fs::write(&path, b"9876543210").unwrap();
            Ok(())
        };
        let error = file.summed_while(overwrite).unwrap_err();
        assert!(error.to_string().contains("changed or replaced"), "{error}");
        // Another file of the same content under the name.
        let file = ModelFile::open(&path, 100).unwrap();
        let replaced = || {
            replace(b"9876543210");
            Ok(())
        };
        let error = file.summed_while(replaced).unwrap_err();
        assert!(error.to_string().contains("changed or replaced"), "{error}");
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn folders_and_files_beyond_the_limit_are_refused() {
        let (folder, path) = written(b"12345678901");
        assert!(matches!(ModelFile::open(&path, 10), Err(Error::TooLarge { found: 11, limit: 10, .. })));
        assert!(matches!(ModelFile::open(&folder, 10), Err(Error::Io { .. })));
        fs::remove_dir_all(folder).unwrap();
    }
}
