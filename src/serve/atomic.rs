//! Files that are there whole or not at all: written beside their destination, synced, then renamed over it.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, Result};

/// Writes `parts` one after the other as the new contents of `path`. A file that was there stays until the end.
///
/// # Errors
/// [`Error::Io`] naming `path`; nothing is left behind.
pub fn write(path: &Path, parts: &[&[u8]]) -> Result<()> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let name = path.file_name().ok_or_else(|| Error::io(path)(std::io::ErrorKind::InvalidInput.into()))?;
    let mut temporary_name = std::ffi::OsString::from(".");
    temporary_name.push(name);
    temporary_name.push(format!(".{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    let temporary = Temporary(folder.join(temporary_name));

    let mut file = OpenOptions::new().write(true).create_new(true).open(&temporary.0).map_err(Error::io(path))?;
    for part in parts {
        file.write_all(part).map_err(Error::io(path))?;
    }
    file.sync_all().map_err(Error::io(path))?;
    drop(file);
    fs::rename(&temporary.0, path).map_err(Error::io(path))?;
    // The rename itself is durable once the folder is synced; not every file system allows it.
    if let Ok(folder) = File::open(folder) {
        let _ = folder.sync_all();
    }
    Ok(())
}

/// Removes the file when writing stops half-way; after the rename there is nothing left to remove.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}
