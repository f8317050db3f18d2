//! Pictures in tar files, as WebDataset lays them out: members with the same name up to the first dot of the file name
//! are one example, `0001.jpg` the picture and `0001.cls` its class as a number. Other members are passed over.
//!
//! A file is read through once for where its members lie; a picture is then read from there. Compressed tar files have
//! no such places, so they are refused.

use crate::catalogue::{Catalogue, Entry};
use crate::error::{Error, Result};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Largest class member in bytes: a number.
const MAX_CLASS_BYTES: u64 = 64;
/// In the place of a class that is not known yet.
const UNKNOWN: u32 = u32::MAX;

/// A picture inside a tar file.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Which of the files.
    pub(crate) shard: usize,
    /// Its name in there.
    pub(crate) name: String,
    offset: u64,
    size: u64,
}

impl From<Entry> for Member {
    fn from(Entry { name, numbers: [shard, offset, size] }: Entry) -> Self {
        Self { shard: shard as usize, name: String::from_utf8_lossy(&name).into_owned(), offset, size }
    }
}

/// The pictures of some tar files, in their order, and a class number for each if all have one.
pub(crate) fn open(shards: &[PathBuf], is_picture: &dyn Fn(&Path) -> bool) -> Result<(Catalogue, Option<Vec<u32>>)> {
    let mut members = Catalogue::default();
    let mut labels = Labels::default();
    for (shard, path) in (0..).zip(shards) {
        let wrong = |why: String| Error::Dataset { path: path.clone(), why };
        let damaged = |e: std::io::Error| wrong(format!("damaged or truncated, or no plain tar file: {e}"));
        let mut archive = tar::Archive::new(File::open(path).map_err(Error::io("read", path))?);
        let length = std::fs::metadata(path).map_err(Error::io("read", path))?.len();
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
                labels.picture(key(&name), members.len());
                members.push(name.as_bytes(), [shard, offset, size]);
            } else if name.ends_with(".cls") {
                let mut text = String::new();
                entry.by_ref().take(MAX_CLASS_BYTES).read_to_string(&mut text).map_err(damaged)?;
                let class = text.trim().parse().ok().filter(|&class| class != UNKNOWN);
                let class = class.ok_or_else(|| wrong(format!("member {name} holds {text:?}, no class number")))?;
                labels.class(key(&name), class);
            }
        }
        labels.end_shard(&members, first).map_err(Error::io("read", path))?;
    }
    let labels = labels.finish(members.len());
    Ok((members, labels))
}

/// Brings pictures and classes together. They are neighbours in almost every file, and then nothing but the numbers is
/// kept; what finds no neighbour waits for the end of its file.
#[derive(Default)]
struct Labels {
    /// Of the pictures so far; nothing before the first class is known.
    numbers: Vec<u32>,
    /// The picture that came last, and those of the same example before it.
    last_picture: Option<(String, Vec<usize>)>,
    last_class: Option<(String, u32)>,
    /// Classes without a neighbour.
    waiting: HashMap<String, u32>,
}

impl Labels {
    fn picture(&mut self, key: &str, index: usize) {
        match &mut self.last_picture {
            Some((last, indices)) if last == key => indices.push(index),
            last => *last = Some((key.into(), vec![index])),
        }
        self.meet();
    }

    fn class(&mut self, key: &str, class: u32) {
        // A class belongs to all pictures of its example, so it stays after it has met one.
        if let Some((last, class)) = self.last_class.replace((key.into(), class)) {
            let met = self.last_picture.as_ref().is_some_and(|(picture, _)| *picture == last);
            if !met || last == key {
                self.waiting.insert(last, class);
            }
        }
        self.meet();
    }

    fn meet(&mut self) {
        let (Some((picture, indices)), Some((key, class))) = (&self.last_picture, &self.last_class) else { return };
        if picture == key {
            for &index in indices {
                self.numbers.resize(self.numbers.len().max(index + 1), UNKNOWN);
                self.numbers[index] = *class;
            }
        }
    }

    fn end_shard(&mut self, members: &Catalogue, first: usize) -> std::io::Result<()> {
        self.waiting.extend(self.last_class.take());
        self.last_picture = None;
        let known = |numbers: &[u32], index: usize| numbers.get(index).copied().filter(|&class| class != UNKNOWN);
        let all = first..members.len();
        let some = !self.waiting.is_empty() || all.clone().any(|index| known(&self.numbers, index).is_some());
        if some && all.clone().any(|index| known(&self.numbers, index).is_none()) {
            let name = |entry: std::io::Result<Entry>| entry.map(|e| String::from_utf8_lossy(&e.name).into_owned());
            // Classes that have met a picture may have another one elsewhere.
            for (index, entry) in all.clone().zip(members.iter_from(first)) {
                if let Some(class) = known(&self.numbers, index) {
                    self.waiting.insert(key(&name(entry)?).into(), class);
                }
            }
            for (index, entry) in all.zip(members.iter_from(first)) {
                if let Some(&class) = self.waiting.get(key(&name(entry)?)) {
                    self.numbers.resize(self.numbers.len().max(index + 1), UNKNOWN);
                    self.numbers[index] = class;
                }
            }
        }
        self.waiting.clear();
        Ok(())
    }

    /// All of them, if every picture has one.
    fn finish(self, pictures: usize) -> Option<Vec<u32>> {
        (self.numbers.len() == pictures && !self.numbers.contains(&UNKNOWN)).then_some(self.numbers)
    }
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
fn key(name: &str) -> &str {
    let start = name.rfind('/').map_or(0, |at| at + 1);
    let end = name[start..].find('.').map_or(name.len(), |at| start + at);
    &name[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class of each picture out of members in this order; a name with `=` is a class.
    fn classes(members: &[&str]) -> Option<Vec<u32>> {
        let (mut catalogue, mut labels) = (Catalogue::default(), Labels::default());
        for member in members {
            match member.split_once('=') {
                Some((key, class)) => labels.class(key, class.parse().unwrap()),
                None => {
                    labels.picture(key(member), catalogue.len());
                    catalogue.push(member.as_bytes(), [0; 3]);
                }
            }
        }
        labels.end_shard(&catalogue, 0).unwrap();
        labels.finish(catalogue.len())
    }

    #[test]
    fn classes_find_their_pictures_in_any_order() {
        assert_eq!(classes(&["a.jpg", "a=3", "b.jpg", "b=1"]), Some(vec![3, 1]));
        assert_eq!(classes(&["a=3", "a.jpg", "b=1", "b.jpg"]), Some(vec![3, 1]));
        assert_eq!(classes(&["a=3", "b=1", "b.jpg", "a.jpg"]), Some(vec![1, 3]), "apart");
        assert_eq!(classes(&["a.jpg", "b.jpg", "c.jpg", "c=2", "a=3", "b=1"]), Some(vec![3, 1, 2]), "pictures first");
        assert_eq!(classes(&["a.left.jpg", "a=3", "a.right.jpg", "b=1", "b.jpg"]), Some(vec![3, 3, 1]), "two of one");
        assert_eq!(classes(&["x/a.jpg", "x/a=4", "y/a.jpg", "y/a=5"]), Some(vec![4, 5]), "folders count");
        assert_eq!(
            classes(&["a=3", "a.jpg", "b=1", "b.jpg", "a.more.jpg"]),
            Some(vec![3, 1, 3]),
            "one here, one there"
        );
        assert_eq!(classes(&["a.jpg", "a=3", "b.jpg", "b=1", "c.jpg"]), None);
        assert_eq!(classes(&["a.jpg", "b.jpg", "b=1"]), None);
        assert_eq!(classes(&["a.jpg"]), None);
    }
}
