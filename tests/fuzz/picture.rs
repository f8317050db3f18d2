//! Picture files: decoding any bytes within limits, and preparing what comes of it.
#![no_main]

use byol_model::Error;
use byol_model::picture::{InputContract, Limits, Picture};
use libfuzzer_sys::fuzz_target;

const LIMITS: Limits = Limits { max_pixels: 1 << 18, max_file_bytes: 1 << 20 };

fuzz_target!(|bytes: &[u8]| {
    match Picture::decode(bytes, &LIMITS, "fuzzed") {
        Ok(picture) => {
            let (width, height) = (picture.width, picture.height);
            assert!(width > 0 && height > 0 && width * height <= LIMITS.max_pixels as usize);
            assert!(matches!(picture.channels, 1 | 3));
            assert_eq!(picture.pixels.len(), width * height * picture.channels);
            for channels in [1, 3] {
                let contract = InputContract::square(channels, 8);
                let mut out = vec![0; contract.bytes()];
                contract.prepare(picture.view(), &mut out).expect("every picture can be prepared");
            }
        }
        Err(Error::Decode { why, .. }) => assert!(!why.is_empty()),
        Err(Error::Limit { found, limit, .. }) => assert!(found > limit),
        Err(other) => panic!("{other:?}"),
    }
});
