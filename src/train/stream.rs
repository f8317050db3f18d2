//! The order in which large data are read: from tar shards or Parquet files front to back, shuffled in bounded memory,
//! without anything to remember but the step.
//!
//! An epoch is cut into chunks of consecutive pictures, which are shuffled; the row of chunks is cut into equal streams,
//! whose pictures are shuffled within a window. Every batch takes equally many from each stream, so that a rank's part of
//! a batch comes out of streams of its own and each rank reads chunks that no other reads. As everywhere here, order
//! follows from seed and epoch alone: it is the same for any number of ranks and threads, and a resumed run goes on at
//! the picture where it stopped. Every picture comes once an epoch, but for those that do not fill the last batch, which
//! are others each epoch.

use crate::augment::{Draw, Random};
use std::collections::HashMap;

/// Pictures that are read together: some megabytes, so that reading is sequential.
const CHUNK: usize = 256;
/// Streams at most: for as many ranks each rank has its own.
const STREAMS: usize = 64;
/// Stand for the shuffles in random draws, whose pictures are no pictures.
const CHUNKS_VIEW: u64 = u64::MAX - 1;
const WINDOW_VIEW: u64 = u64::MAX - 2;

/// How pictures come in each epoch.
#[derive(Clone, Debug)]
pub(crate) struct Streams {
    /// First picture and length of each.
    chunks: Vec<(u32, u32)>,
    pictures: usize,
    batch: usize,
    streams: usize,
    /// Batches of a window.
    places: usize,
}

impl Streams {
    /// For files of so many pictures each, in their order; each rank holds its part of two windows of about `window`
    /// pictures. `batch` is at most the number of pictures.
    pub(crate) fn new(files: &[usize], batch: usize, window: usize) -> Self {
        let mut chunks = Vec::new();
        let mut start = 0;
        for &length in files {
            let end = start + length;
            chunks.extend((start..end).step_by(CHUNK).map(|at| (at as u32, CHUNK.min(end - at) as u32)));
            start = end;
        }
        let streams = 1 << batch.trailing_zeros().min(STREAMS.trailing_zeros());
        Self { chunks, pictures: start, batch, streams, places: (window / batch).max(1) }
    }

    /// All pictures of an epoch, batch after batch.
    pub(crate) fn epoch(&self, seed: u64, epoch: u64) -> Vec<u32> {
        let mut chunks = self.chunks.clone();
        Random::new(Draw { seed, epoch, picture: 0, view: CHUNKS_VIEW }).shuffle(&mut chunks);
        let row: Vec<u32> = chunks.into_iter().flat_map(|(start, length)| start..start + length).collect();
        let batches = self.pictures / self.batch;
        let share = self.batch / self.streams; // of one stream in a batch
        let mut order = vec![0; batches * self.batch];
        for stream in 0..self.streams {
            let mut own = row[stream * (self.pictures / self.streams)..][..batches * share].to_vec();
            for (window, pictures) in own.chunks_mut(self.places * share).enumerate() {
                let picture = (window * self.streams + stream) as u64;
                Random::new(Draw { seed, epoch, picture, view: WINDOW_VIEW }).shuffle(pictures);
            }
            for (place, pictures) in own.chunks_exact(share).enumerate() {
                order[place * self.batch + stream * share..][..share].copy_from_slice(pictures);
            }
        }
        order
    }

    /// The window that a batch of an epoch is in.
    pub(crate) fn window(&self, place: usize) -> usize {
        place / self.places
    }

    /// Windows of an epoch.
    pub(crate) fn windows(&self) -> usize {
        (self.pictures / self.batch).div_ceil(self.places)
    }

    /// What part `part` of `parts` reads for a window, in the order of the files.
    pub(crate) fn reads(&self, order: &[u32], window: usize, (part, parts): (usize, usize)) -> Vec<u32> {
        let count = self.batch / parts;
        let batches = order.chunks_exact(self.batch).skip(window * self.places).take(self.places);
        let mut own: Vec<u32> = batches.flat_map(|batch| &batch[part * count..][..count]).copied().collect();
        own.sort_unstable();
        own
    }
}

/// The encoded pictures of a part's window, by number.
pub(crate) type Held = HashMap<u32, Vec<u8>>;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    const FILES: [usize; 4] = [1000, 700, 300, 2000];

    #[test]
    fn every_picture_comes_once_an_epoch_in_another_order() {
        let streams = Streams::new(&FILES, 160, 800);
        let orders = [0, 1].map(|epoch| streams.epoch(5, epoch));
        for order in &orders {
            assert_eq!(order.iter().copied().collect::<BTreeSet<_>>(), (0..4000).collect());
            assert_eq!(order.len(), 4000);
        }
        assert_ne!(orders[0], orders[1]);
        assert_eq!(orders[0], streams.epoch(5, 0));
        assert_ne!(orders[0], streams.epoch(6, 0));
        // Where they do not fill the last batch, others are left out each epoch.
        let odd = Streams::new(&[1000, 7], 96, 300);
        let [a, b] = [0, 1].map(|epoch| odd.epoch(5, epoch).into_iter().collect::<BTreeSet<_>>());
        assert_eq!((a.len(), b.len()), (960, 960));
        assert_ne!(a, b);
    }

    #[test]
    fn each_part_reads_its_own_and_in_long_runs() {
        let streams = Streams::new(&FILES, 160, 800);
        let order = streams.epoch(5, 0);
        for parts in [1, 2, 4] {
            let mut all = BTreeSet::new();
            for window in 0..streams.windows() {
                for part in 0..parts {
                    let reads = streams.reads(&order, window, (part, parts));
                    assert_eq!(reads.len(), 800 / parts);
                    assert!(reads.iter().all(|picture| all.insert(*picture)), "read twice");
                    // Runs of consecutive pictures: each stream's window is one stretch of a chunk or two.
                    let jumps = reads.windows(2).filter(|pair| pair[1] != pair[0] + 1).count();
                    assert!(jumps <= 2 * 32 / parts, "{jumps} jumps in {} reads", reads.len());
                }
            }
            assert_eq!(all.len(), 4000);
        }
    }

    #[test]
    fn the_window_is_what_is_shuffled() {
        // One stream of odd batches: neighbours in the files are at most a window apart.
        let streams = Streams::new(&[250], 25, 50);
        let order = streams.epoch(1, 0);
        let spread = order.chunks(50).map(|w| w.iter().max().unwrap() - w.iter().min().unwrap()).max().unwrap();
        assert_eq!(spread, 49);
        assert_ne!(order, (0..250).collect::<Vec<_>>());
    }
}
