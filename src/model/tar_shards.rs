//! Pictures in tar files, as WebDataset lays them out: members with the same name up to the first dot of the file name
//! are one example, `0001.jpg` the picture and `0001.cls` its class as a number. Other members are passed over.
//!
//! A file is read through once for where its members lie; a picture is then read from there. Compressed tar files have
//! no such places, so they are refused.

use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Largest class member in bytes: a number.
const MAX_CLASS_BYTES: u64 = 64;

/// A picture inside a tar file.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Which of the files.
    pub(crate) shard: u32,
    /// Its name in there.
    pub(crate) name: Box<str>,
    offset: u64,
    size: u64,
}

/// The pictures of some tar files, in their order, and a class number for each if all have one.
pub(crate) fn open(shards: &[PathBuf], is_picture: &dyn Fn(&Path) -> bool) -> Result<(Vec<Member>, Option<Vec<u32>>)> {
    let mut members = Vec::new();
    let mut labels: Vec<Option<u32>> = Vec::new();
    for (shard, path) in (0..).zip(shards) {
        let wrong = |why: String| Error::Dataset { path: path.clone(), why };
        let damaged = |e: std::io::Error| wrong(format!("damaged or truncated, or no plain tar file: {e}"));
        let mut archive = tar::Archive::new(File::open(path).map_err(Error::io("read", path))?);
        let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
        let mut classes: HashMap<String, u32> = HashMap::new();
        let first = members.len();
        for entry in archive.entries_with_seek().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let inside = entry.path().map_err(damaged)?.into_owned();
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = inside.to_string_lossy().into_owned();
            let (offset, size) = (entry.raw_file_position(), entry.size());
            if offset.checked_add(size).is_none_or(|end| end > length) {
                return Err(wrong(format!("truncated: member {name} ends behind the end of the file")));
            }
            if is_picture(&inside) {
                members.push(Member { shard, name: name.into(), offset, size });
            } else if name.ends_with(".cls") {
                let mut text = String::new();
                entry.by_ref().take(MAX_CLASS_BYTES).read_to_string(&mut text).map_err(damaged)?;
                let class = text.trim().parse();
                let class = class.map_err(|_| wrong(format!("member {name} holds {text:?}, no class number")))?;
                classes.insert(key(&name), class);
            }
        }
        labels.extend(members[first..].iter().map(|member| classes.get(&key(&member.name)).copied()));
    }
    Ok((members, labels.into_iter().collect()))
}

impl Member {
    /// The picture file's bytes.
    pub(crate) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        if self.size > limit {
            let name = format!("{}:{}", path.display(), self.name);
            return Err(Error::Limit { name, found: self.size, limit, unit: "bytes" });
        }
        let read = || {
            let mut file = File::open(path)?;
            file.seek(SeekFrom::Start(self.offset))?;
            let mut bytes = vec![0; self.size as usize];
            file.read_exact(&mut bytes)?;
            Ok(bytes)
        };
        read().map_err(Error::io("read", path))
    }
}

/// What members of one example share.
fn key(name: &str) -> String {
    let start = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[start..].find('.').map_or(name.len(), |at| start + at);
    name[..end].to_owned()
}
