//! Files that are there whole or not at all, with this crate's error.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Error, Result};

/// Writes `parts` one after the other as the new contents of `path`. A file that was there stays until the end.
///
/// # Errors
/// [`Error::Io`] naming `path`; nothing is left behind.
pub fn write(path: &Path, parts: &[&[u8]]) -> Result<()> {
    byol_model::file::write_atomic_with(path, |out| parts.iter().try_for_each(|part| out.write_all(part))).map_err(
        |error| match error {
            byol_model::Error::Io { path, source, .. } => Error::Io { path, source },
            other => other.into(),
        },
    )
}

/// Opens a regular file.
///
/// # Errors
/// [`Error::Io`] naming `path`, also for what is no regular file.
pub fn open(path: &Path) -> Result<File> {
    let io = |e| Error::io(path)(e);
    // Asked before opening, because opening a pipe waits for its writer.
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(io(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
    }
    File::open(path).map_err(io)
}

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`] naming `path`; [`Error::TooLarge`]; [`Error::NoMemory`].
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let io = |e| Error::io(path)(e);
    let file = open(path)?;
    let length = file.metadata().map_err(io)?.len();
    let too_large = |found| Error::TooLarge { path: path.into(), found, limit };
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::new();
    let room = usize::try_from(length).unwrap_or(usize::MAX);
    bytes.try_reserve_exact(room).map_err(|_| Error::NoMemory { bytes: room })?;
    // One byte more than allowed, should the file have grown since.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(io)?;
    let found = bytes.len() as u64;
    if found > limit { Err(too_large(found)) } else { Ok(bytes) }
}
