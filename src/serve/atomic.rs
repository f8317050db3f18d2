//! Files that are there whole or not at all, with this crate's error.

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
