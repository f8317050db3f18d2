//! 100,000 pictures in tar shards, streamed through four ranks: each once an epoch, in bounded memory, and from the
//! middle without repeats. One test only, because it looks at the memory of the whole process.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use byol_model::dataset::{Dataset, Split};
use byol_train::augment::ViewsConfig;
use byol_train::loader::{Batch, Loader, LoaderOptions};
use std::path::Path;
use support::status_kib;

const SHARDS: usize = 40;
const IN_SHARD: usize = 2500;
const PICTURES: usize = SHARDS * IN_SHARD;
const SIDE: usize = 32;
const BATCH: usize = 400;
const STEPS: u64 = (PICTURES / BATCH) as u64;
const WINDOW: usize = 4000;
const RANKS: usize = 4;

/// An uncompressed picture that says its number: 24 bits of it in the first pixel, noise in the others.
fn picture(number: usize) -> Vec<u8> {
    let mut pixels = image::RgbImage::new(SIDE as u32, SIDE as u32);
    let mut state = number as u32;
    for pixel in pixels.pixels_mut() {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        pixel.0 = [(state >> 8) as u8, (state >> 16) as u8, (state >> 24) as u8];
    }
    pixels.get_pixel_mut(0, 0).0 = [number as u8, (number >> 8) as u8, (number >> 16) as u8];
    let mut bytes = std::io::Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, image::ImageFormat::Bmp).unwrap();
    bytes.into_inner()
}

fn write_shards(folder: &Path) {
    for shard in 0..SHARDS {
        let file = std::fs::File::create(folder.join(format!("shard-{shard:03}.tar"))).unwrap();
        let mut archive = tar::Builder::new(std::io::BufWriter::new(file));
        for number in shard * IN_SHARD..(shard + 1) * IN_SHARD {
            let bytes = picture(number);
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, format!("{number:06}.bmp"), &bytes[..]).unwrap();
        }
        archive.into_inner().unwrap().into_inner().unwrap();
    }
}

fn loader(data: &Dataset, rank: usize) -> Loader {
    let options = LoaderOptions {
        size: SIDE,
        channels: 3,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        views: ViewsConfig { first: Vec::new(), second: Vec::new() },
        single: false,
        numbers_only: false,
        batch: BATCH,
        part: (rank, RANKS),
        seed: 5,
        threads: 1,
        memory: 1 << 30,
        window: Some(WINDOW),
    };
    Loader::new(data, options).unwrap()
}

/// The numbers that the pictures themselves say.
fn numbers(batch: &Batch) -> Vec<u32> {
    let size = SIDE * SIDE;
    let byte = |value: f32| (value * 255.0).round() as u32;
    let one = |p: &[f32]| byte(p[0]) | byte(p[size]) << 8 | byte(p[2 * size]) << 16;
    batch.first.chunks_exact(3 * size).map(one).collect()
}

#[test]
fn a_hundred_thousand_pictures_come_once_an_epoch_in_bounded_memory_and_from_the_middle() {
    let folder = tempfile::tempdir().unwrap();
    write_shards(folder.path());
    let on_disk: u64 = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
    let data = Dataset::open(folder.path(), Split::Train).unwrap();
    assert_eq!(data.len(), PICTURES);
    let before = status_kib("VmHWM") << 10;

    let mut loaders: Vec<Loader> = (0..RANKS).map(|rank| loader(&data, rank)).collect();
    let mut seen = vec![0u8; PICTURES];
    let mut second_epoch = Vec::new();
    for step in 0..STEPS + 3 {
        for loader in &mut loaders {
            let batch = loader.batch(step).unwrap();
            let numbers = numbers(&batch);
            assert_eq!(numbers, batch.indices, "the pictures are others than the loader says");
            assert_eq!(numbers.len(), BATCH / RANKS);
            if step < STEPS {
                numbers.iter().for_each(|&number| seen[number as usize] += 1);
            } else {
                second_epoch.extend(numbers);
            }
            loader.give_back(batch);
        }
    }
    assert!(seen.iter().all(|&times| times == 1), "not every picture came once");
    second_epoch.sort_unstable();
    second_epoch.dedup();
    assert_eq!(second_epoch.len(), 3 * BATCH);

    // Two windows of encoded pictures for all ranks together are 8% of the data; batches ahead, a canvas, the order.
    let grown = (status_kib("VmHWM") << 10) - before;
    println!("{} MB on disk, {} MB of memory for {RANKS} ranks", on_disk >> 20, grown >> 20);
    assert!(grown < on_disk / 4, "{} MB for {} MB on disk", grown >> 20, on_disk >> 20);

    // From the middle of an epoch, and of a window: the same pictures as without a stop.
    let middle = STEPS / 2 + 3;
    for (rank, old) in loaders.iter_mut().enumerate() {
        let mut resumed = loader(&data, rank);
        for step in middle..middle + 20 {
            assert!(resumed.batch(step).unwrap() == old.batch(step).unwrap(), "rank {rank}, step {step}");
        }
    }
}
