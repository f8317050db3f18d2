//! Whole files: read with a limit, written so that a crash leaves the old file or the new one, never half of one.

use crate::error::{Error, Result};
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

/// Reads a regular file of at most `limit` bytes.
///
/// # Errors
/// [`Error::Io`], also for what is no regular file; [`Error::Limit`] for a larger one.
pub fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    // Asked before opening, because opening a pipe waits for its writer.
    let metadata = path.metadata().map_err(Error::io("read", path))?;
    if !metadata.is_file() {
        let kind = std::io::ErrorKind::InvalidInput;
        return Err(Error::io("read", path)(std::io::Error::new(kind, "not a regular file")));
    }
    let file = File::open(path).map_err(Error::io("read", path))?;
    let length = metadata.len();
    let too_large = |found| Error::Limit { name: path.display().to_string(), found, limit, unit: "bytes" };
    if length > limit {
        return Err(too_large(length));
    }
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    if bytes.len() as u64 > limit { Err(too_large(bytes.len() as u64)) } else { Ok(bytes) }
}

/// Writes `bytes` to `path`: temporary file in the same folder, fsync, rename, fsync of the folder.
///
/// # Errors
/// [`Error::Io`] names the path; the old file, if any, is then untouched.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    write_atomic_with(path, |out| out.write_all(bytes))
}

/// As [`write_atomic`], with the content written by a closure.
///
/// # Errors
/// [`Error::Io`] names the path; the old file, if any, is then untouched.
pub fn write_atomic_with(
    path: &Path,
    content: impl FnOnce(&mut (dyn Write + Send)) -> std::io::Result<()>,
) -> Result<()> {
    let folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let write = || {
        let mut builder = tempfile::Builder::new();
        builder.prefix(".byol-").suffix(".part");
        // A temporary file is private; this one gets what a new file gets, less the umask.
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
        let temporary = builder.tempfile_in(folder)?;
        let mut out = BufWriter::new(temporary);
        content(&mut out)?;
        let temporary = out.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        temporary.as_file().sync_all()?;
        temporary.persist(path).map_err(|e| e.error)?;
        // The rename is durable once the folder is synced. Some file systems cannot sync a folder, and say EINVAL.
        #[cfg(unix)]
        File::open(folder)?.sync_all().or_else(|e| match e.kind() {
            std::io::ErrorKind::InvalidInput => Ok(()),
            _ => Err(e),
        })?;
        Ok(())
    };
    write().map_err(Error::io("write", path))
}

/// SHA-256 as 64 lower-case hexadecimal digits.
pub fn sha256_hex(bytes: &[u8]) -> String {
    sha256_hex_of(std::iter::once(bytes))
}

/// As [`sha256_hex`], of what `file` reads to its end. Memory does not depend on its length.
///
/// # Errors
/// Those of reading.
pub fn sha256_hex_from(mut file: impl Read) -> std::io::Result<String> {
    let (mut digest, mut piece) = (Sha256::new(), vec![0; 256 << 10]);
    loop {
        match file.read(&mut piece) {
            Ok(0) => return Ok(hex(digest)),
            Ok(read) => digest.update(&piece[..read]),
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

/// As [`sha256_hex`], of pieces one after the other.
pub(crate) fn sha256_hex_of(pieces: impl Iterator<Item = impl AsRef<[u8]>>) -> String {
    let mut digest = Sha256::new();
    pieces.for_each(|piece| digest.update(piece));
    hex(digest)
}

fn hex(digest: Sha256) -> String {
    digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_the_old_file_and_no_litter() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomic(&path, b"old").unwrap();
        let failed = write_atomic_with(&path, |out| {
            out.write_all(b"new")?;
            Err(std::io::Error::other("disk full"))
        });
        assert!(failed.unwrap_err().to_string().contains("disk full"));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_over_the_limit_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        write_atomic(&path, &[0; 11]).unwrap();
        assert!(matches!(read(&path, 10), Err(Error::Limit { found: 11, limit: 10, .. })));
        assert_eq!(read(&path, 11).unwrap().len(), 11);
        assert!(matches!(read(Path::new("/dev/zero"), 10), Err(Error::Io { .. })));
    }

    #[test]
    fn sha256_of_abc_is_the_published_one() {
        assert_eq!(sha256_hex(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        let long: Vec<u8> = (0..700_001).map(|i| (i % 251) as u8).collect();
        assert_eq!(sha256_hex_from(&long[..]).unwrap(), sha256_hex(&long));
    }
}
