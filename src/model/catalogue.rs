//! Names and places of many pictures, in little memory: a data set of millions must not need more of it than one of
//! thousands.
//!
//! An entry is a name and three numbers. Neighbours are alike, so only what differs is kept: how many bytes a name shares
//! with the one before it, the rest of it, and the differences of the numbers, seven bits a byte. Every 32 entries begin
//! anew, so that one can be read without those before. Beyond 1 MiB what is kept goes to a file in the system's folder for
//! temporary files, which has no name and is gone with the program; where there is no room for one, memory has to do.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

/// Entries of a block.
const BLOCK: usize = 32;
/// What may lie in memory.
const MEMORY: usize = 1 << 20;

/// A picture's name, and where it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// The name's bytes.
    pub(crate) name: Vec<u8>,
    /// What the owner wants to know of it.
    pub(crate) numbers: [u64; 3],
}

/// Entries in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct Catalogue {
    count: usize,
    last: Entry,
    /// Where each block begins.
    blocks: Vec<u64>,
    /// Bytes in the file, which come before those in memory.
    spilled: u64,
    memory: Vec<u8>,
    file: Option<Mutex<File>>,
    /// Set once there is no file to be had.
    no_file: bool,
}

impl Catalogue {
    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(crate) fn push(&mut self, name: &[u8], numbers: [u64; 3]) {
        if self.count.is_multiple_of(BLOCK) {
            self.spill();
            self.blocks.push(self.spilled + self.memory.len() as u64);
            self.last = Entry::default();
        }
        let shared = self.last.name.iter().zip(name).take_while(|(a, b)| a == b).count();
        put(shared as u64, &mut self.memory);
        put((name.len() - shared) as u64, &mut self.memory);
        self.memory.extend_from_slice(&name[shared..]);
        for (number, last) in numbers.iter().zip(self.last.numbers) {
            let step = number.wrapping_sub(last) as i64;
            // Small steps back become small numbers too.
            put(((step << 1) ^ (step >> 63)) as u64, &mut self.memory);
        }
        self.last.name.truncate(shared);
        self.last.name.extend_from_slice(&name[shared..]);
        self.last.numbers = numbers;
        self.count += 1;
    }

    /// Moves what lies in memory to the file once it is much.
    fn spill(&mut self) {
        if self.memory.len() < MEMORY || self.no_file {
            return;
        }
        let write = |file: &mut Option<Mutex<File>>, bytes: &[u8]| {
            let file = match file {
                Some(file) => file,
                None => file.insert(Mutex::new(tempfile::tempfile()?)),
            };
            let file = file.get_mut().unwrap_or_else(PoisonError::into_inner);
            file.seek(SeekFrom::Start(self.spilled))?;
            file.write_all(bytes)
        };
        match write(&mut self.file, &self.memory) {
            Ok(()) => {
                self.spilled += self.memory.len() as u64;
                self.memory.clear();
            }
            Err(_) => self.no_file = true,
        }
    }

    /// An entry.
    ///
    /// # Errors
    /// Those of reading the temporary file.
    ///
    /// # Panics
    /// If there is no entry of this number.
    pub(crate) fn get(&self, index: usize) -> io::Result<Entry> {
        let mut entries = self.block(index / BLOCK, index % BLOCK + 1)?;
        Ok(entries.swap_remove(index % BLOCK))
    }

    /// The first `count` entries of a block.
    fn block(&self, block: usize, count: usize) -> io::Result<Vec<Entry>> {
        let start = self.blocks[block];
        let end = self.blocks.get(block + 1).copied().unwrap_or(self.spilled + self.memory.len() as u64);
        let mut read = Vec::new();
        // Blocks are spilled whole.
        let bytes = match start.checked_sub(self.spilled) {
            Some(at) => &self.memory[at as usize..(end - self.spilled) as usize],
            None => {
                let file = self.file.as_ref().ok_or(io::ErrorKind::NotFound)?;
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                read.resize((end - start) as usize, 0);
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut read)?;
                &read
            }
        };
        entries(bytes, count).ok_or_else(|| io::Error::other("the list of pictures in the temporary file is damaged"))
    }

    /// Entries from number `first` on, one after the other.
    pub(crate) fn iter_from(&self, first: usize) -> impl Iterator<Item = io::Result<Entry>> {
        let mut at = first;
        let mut block = Vec::new().into_iter();
        std::iter::from_fn(move || {
            if at >= self.count {
                return None;
            }
            if block.len() == 0 {
                let number = at / BLOCK;
                let count = (self.count - number * BLOCK).min(BLOCK);
                match self.block(number, count) {
                    Ok(entries) => block = entries.into_iter(),
                    Err(error) => {
                        at = self.count;
                        return Some(Err(error));
                    }
                }
                (0..at % BLOCK).for_each(|_| drop(block.next()));
            }
            at += 1;
            block.next().map(Ok)
        })
    }
}

/// The first `count` entries of a block's bytes.
fn entries(mut bytes: &[u8], count: usize) -> Option<Vec<Entry>> {
    let mut entries: Vec<Entry> = Vec::with_capacity(count);
    for index in 0..count {
        let shared = take(&mut bytes)? as usize;
        let length = take(&mut bytes)? as usize;
        let (rest, after) = bytes.split_at_checked(length)?;
        bytes = after;
        let last = index.checked_sub(1).map(|last| &entries[last]);
        let mut entry =
            Entry { name: Vec::with_capacity(shared + length), numbers: last.map_or([0; 3], |l| l.numbers) };
        entry.name.extend_from_slice(last.map_or(&[][..], |l| &l.name[..]).get(..shared)?);
        entry.name.extend_from_slice(rest);
        for number in &mut entry.numbers {
            let step = take(&mut bytes)?;
            *number = number.wrapping_add((step >> 1) ^ (step & 1).wrapping_neg());
        }
        entries.push(entry);
    }
    Some(entries)
}

fn put(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(i: u64) -> Entry {
        // Long and short names, with and without a common begin, numbers that jump back.
        let name = match i % 7 {
            3 => String::new(),
            5 => format!("{i}"),
            _ => format!("photos/of/a/long/folder/{:08}.jpg", i / 2),
        };
        Entry { name: name.into_bytes(), numbers: [i / 1000, (i * 7919) % 100_003, u64::MAX - i * i] }
    }

    #[test]
    fn entries_come_back_from_memory_and_from_the_file() {
        let mut catalogue = Catalogue::default();
        let count = 150_000;
        for i in 0..count {
            let Entry { name, numbers } = entry(i);
            catalogue.push(&name, numbers);
        }
        assert!(catalogue.spilled > 0 && !catalogue.memory.is_empty(), "both are in use");
        assert!(catalogue.memory.len() <= 2 * MEMORY);
        for i in (0..count).step_by(611).chain(count - 40..count) {
            assert_eq!(catalogue.get(i as usize).unwrap(), entry(i));
        }
        for first in [0, 31, 32, 100_007, count as usize - 1, count as usize] {
            let found = catalogue.iter_from(first).map(Result::unwrap);
            assert!(found.eq((first as u64..count).map(entry)), "from {first}");
        }
    }

    #[test]
    fn names_in_a_row_take_a_few_bytes_each() {
        let mut catalogue = Catalogue::default();
        for i in 0..10_000 {
            catalogue.push(format!("{i:08}.jpg").as_bytes(), [0, 1536 * i + 512, 900 + i % 50]);
        }
        assert!(catalogue.memory.len() < 14 * 10_000, "{} bytes", catalogue.memory.len());
    }
}
