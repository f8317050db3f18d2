//! What the targets share: the host's side of a call. Numbers out of the fuzzer's bytes, memory that ends exactly where
//! the host says (AddressSanitizer sees the first byte behind it), and the promise that every call keeps.

#![allow(dead_code, reason = "each target uses a part")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::sync::OnceLock;

use abi::*;
use byol_model::encoder::{EncoderConfig, Pool, Stem};
use byol_model::onnx::{self, Export};
use byol_model::picture::InputContract;

/// Everything of byol.h.
#[allow(unused_imports, reason = "each target uses a part")]
pub mod abi {
    include!(concat!(env!("OUT_DIR"), "/abi.rs"));
}

/// The fuzzer's bytes, read from the front; zeros behind their end.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn byte(&mut self) -> u8 {
        self.bytes(1).first().copied().unwrap_or(0)
    }

    /// At most `count`.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Mostly small, sometimes at an edge, sometimes anything.
    pub fn number(&mut self) -> usize {
        const EDGES: [usize; 15] = [
            255,
            256,
            65_535,
            65_536,
            1 << 20,
            i32::MAX as usize,
            1 << 31,
            u32::MAX as usize,
            1 << 32,
            1 << 62,
            isize::MAX as usize,
            1 << 63,
            usize::MAX / 3,
            usize::MAX - 1,
            usize::MAX,
        ];
        match self.byte() {
            small @ 0..=223 => usize::from(small % 32),
            edge @ 224..=238 => EDGES[usize::from(edge - 224)],
            239..=247 => usize::from(u16::from_le_bytes([self.byte(), self.byte()])),
            _ => usize::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }
}

/// Memory of exactly so many bytes, at an address that is a multiple of 8 plus `skew`.
pub struct Block {
    memory: *mut u8,
    layout: Layout,
    skew: usize,
}

impl Block {
    pub fn new(content: &[u8], size: usize, skew: usize) -> Self {
        let layout = Layout::from_size_align((size + skew).max(1), 8).expect("a small block");
        // SAFETY: not of size 0.
        let memory = unsafe { alloc_zeroed(layout) };
        assert!(!memory.is_null());
        let mut block = Self { memory, layout, skew };
        let length = content.len().min(size);
        block.all()[..length].copy_from_slice(&content[..length]);
        block
    }

    pub fn of(content: &[u8]) -> Self {
        Self::new(content, content.len(), 0)
    }

    pub fn pointer<T>(&self) -> *mut T {
        // SAFETY: inside the block, or one behind.
        unsafe { self.memory.add(self.skew).cast() }
    }

    pub fn all(&mut self) -> &mut [u8] {
        // SAFETY: all of the block behind the skew; one byte may be there that was not asked for.
        unsafe { std::slice::from_raw_parts_mut(self.pointer(), self.layout.size() - self.skew) }
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // SAFETY: made by `new`.
        unsafe { dealloc(self.memory, self.layout) };
    }
}

pub fn error() -> byol_error {
    byol_error { struct_size: size_of::<byol_error>() as u32, ..Default::default() }
}

pub fn message(error: &byol_error) -> String {
    let bytes: Vec<u8> = error.message[..error.message_len as usize].iter().map(|&c| c as u8).collect();
    assert_eq!(error.message[error.message_len as usize], 0, "a message ends with a NUL");
    String::from_utf8(bytes).expect("a message is UTF-8")
}

/// The call ended in one of the ways that the header states for it, said so twice, and gave a reason unless it went well.
pub fn promised(code: byol_status, error: &byol_error, documented: &[byol_status]) {
    let text = message(error);
    assert_eq!(code, error.code, "{text}");
    assert_eq!(code == BYOL_OK, text.is_empty(), "{code}: {text:?}");
    assert!(code == BYOL_OK || documented.contains(&code), "{code}: {text}");
}

/// The file of a small encoder.
pub fn model(channels: usize) -> Vec<u8> {
    let config = EncoderConfig {
        stem: Stem::Small,
        width: 2,
        blocks: Some(vec![1]),
        channels,
        image_size: 4,
        pool: Pool::Average,
        ..EncoderConfig::default()
    };
    let (graph, weights) = config.initial(1).expect("a graph");
    let contract = InputContract::square(channels, 4);
    let export = Export { graph: &graph, weights: &weights, contract: &contract, metadata: Default::default() };
    onnx::write(&export).expect("a model")
}

/// Features of [`encoder`].
pub const DIMENSION: usize = 2;

/// An open encoder of 4 x 4 pixels, red, green, blue; of one thread.
pub fn encoder() -> byol_encoder {
    static ENCODER: OnceLock<u64> = OnceLock::new();
    let open = || {
        let mut error = error();
        let options = byol_runtime_options {
            struct_size: size_of::<byol_runtime_options>() as u32,
            threads: 1,
            ..Default::default()
        };
        let (mut runtime, mut encoder) = (byol_runtime { id: 0 }, byol_encoder { id: 0 });
        // SAFETY: all pointers are valid.
        let code = unsafe { byol_runtime_create(&raw const options, &raw mut runtime, &raw mut error) };
        assert_eq!(code, BYOL_OK, "{}", message(&error));
        let model = model(3);
        let source = byol_source {
            struct_size: size_of::<byol_source>() as u32,
            data: model.as_ptr(),
            data_len: model.len(),
            ..Default::default()
        };
        // SAFETY: all pointers are valid.
        let code = unsafe {
            byol_encoder_open(runtime, &raw const source, std::ptr::null(), &raw mut encoder, &raw mut error)
        };
        assert_eq!(code, BYOL_OK, "{}", message(&error));
        encoder.id
    };
    byol_encoder { id: *ENCODER.get_or_init(open) }
}
