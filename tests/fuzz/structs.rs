//! Structs that say how large they are: every versioned struct of the header, of any size and content, at any address, in
//! memory that holds struct_size bytes and not one more. What points elsewhere is NULL or valid, as a host promises.
#![no_main]

mod host;

use std::ffi::c_void;
use std::mem::offset_of;
use std::ptr::{null, null_mut};

use host::abi::*;
use host::{Block, DIMENSION, Input, message};
use libfuzzer_sys::fuzz_target;

/// No struct of ours will ever be larger (src/ffi/pointer.rs).
const MAXIMUM: usize = 64 * 1024;

/// A struct in the host's memory. Its struct_size is honest unless it is beyond all bounds, where only it may be read. Any
/// content goes into its first `plain` bytes, and into what this version does not know; what lies between may point
/// somewhere and stays 0 unless a target sets it.
fn block(input: &mut Input<'_>, known: usize, plain: usize) -> Block {
    let size = match input.byte() {
        0..=127 => known,
        close @ 128..=191 => (known + usize::from(close - 128)).saturating_sub(32),
        192..=223 => input.number(),
        _ => usize::from(u16::from_le_bytes([input.byte(), input.byte()])),
    };
    let claimed = size.min(u32::MAX as usize);
    let there = if claimed > MAXIMUM { 4 } else { claimed.max(4) };
    let skew = if input.byte() > 240 { usize::from(input.byte() % 8) } else { 0 };
    let length = usize::from(input.byte());
    let mut block = Block::new(&[], there, skew);
    for (at, &byte) in (4..plain.min(there)).chain(known..there).zip(input.bytes(length)) {
        block.all()[at] = byte;
    }
    block.all()[..4].copy_from_slice(&(claimed as u32).to_ne_bytes());
    block
}

/// Writes a field where the struct is long enough to have all of it; a part of it becomes zero.
fn put(block: &mut Block, offset: usize, value: usize) {
    let size = claimed(block).min(MAXIMUM).max(4);
    let all = block.all();
    let end = size.min(all.len());
    if offset + 8 <= end {
        all[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    } else if offset < end {
        all[offset..end].fill(0);
    }
}

fn claimed(block: &mut Block) -> usize {
    let all = block.all();
    u32::from_ne_bytes([all[0], all[1], all[2], all[3]]) as usize
}

/// An error struct of any size. Most are whole, so that the call gets further.
struct Outcome(Block);

impl Outcome {
    fn new(input: &mut Input<'_>) -> Self {
        match input.byte() {
            0..=200 => {
                let size = size_of::<byol_error>();
                Self(Block::new(&(size as u32).to_ne_bytes(), size, 0))
            }
            _ => Self(block(input, size_of::<byol_error>(), 508)),
        }
    }

    fn promised(mut self, code: byol_status, documented: &[byol_status]) {
        let size = claimed(&mut self.0);
        if self.0.pointer::<byol_error>().is_aligned() && (size_of::<byol_error>()..=MAXIMUM).contains(&size) {
            // SAFETY: whole, aligned, and written by the call.
            let error = unsafe { self.0.pointer::<byol_error>().read() };
            assert_eq!(error.struct_size as usize, size);
            if error.code == code {
                host::promised(code, &error, documented);
            } else {
                // Refused before it could be used.
                assert!(matches!(code, BYOL_E_ABI | BYOL_E_INVALID_ARG), "{code} {}", message(&error));
            }
        }
        assert!(code == BYOL_OK || documented.contains(&code) || code == BYOL_E_ABI, "{code}");
    }
}

/// A struct that a call fills in: written only when the call went well, then with its size kept and zeros at its end.
struct Filled {
    block: Block,
    before: Vec<u8>,
    known: usize,
}

impl Filled {
    fn new(input: &mut Input<'_>, known: usize) -> Self {
        let mut block = block(input, known, known);
        let before = block.all().to_vec();
        Self { block, before, known }
    }

    fn check(mut self, code: byol_status) {
        let size = claimed(&mut self.block);
        let after = self.block.all();
        if code != BYOL_OK {
            assert!(after == self.before, "outputs are written only on success");
            return;
        }
        assert!(after[..4] == self.before[..4], "struct_size is the host's");
        if size > self.known {
            assert!(after[self.known..].iter().all(|&byte| byte == 0), "unknown fields become zero");
        }
    }
}

fn head() -> byol_head {
    static HEAD: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    let fit = || {
        let (mut head, mut error) = (byol_head { id: 0 }, host::error());
        // SAFETY: all pointers are valid.
        let code = unsafe {
            byol_head_fit(
                FEATURES.as_ptr(),
                4,
                2,
                0,
                LABELS.as_ptr(),
                null(),
                2,
                byol_encoder { id: 0 },
                null(),
                None,
                null_mut(),
                byol_cancel { id: 0 },
                &raw mut head,
                null_mut(),
                &raw mut error,
            )
        };
        assert_eq!(code, BYOL_OK, "{}", message(&error));
        head.id
    };
    byol_head { id: *HEAD.get_or_init(fit) }
}

const FEATURES: [f32; 8] = [0.1, 1.0, 0.3, 0.2, 1.0, 0.1, 0.9, 0.4];
const LABELS: [u32; 4] = [0, 0, 1, 1];

/// A token that ends long work: options may ask for any accuracy.
fn patience() -> byol_cancel {
    let mut token = byol_cancel { id: 0 };
    // SAFETY: valid pointers.
    let code = unsafe { byol_cancel_create(200, &raw mut token, null_mut()) };
    assert_eq!(code, BYOL_OK);
    token
}

fn close(token: byol_cancel) {
    // SAFETY: an open handle.
    assert_eq!(unsafe { byol_cancel_close(token, null_mut()) }, BYOL_OK);
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    match input.byte() % 9 {
        0 => init(&mut input),
        1 => inspect(&mut input),
        2 => infos(&mut input),
        3 => fit(&mut input),
        4 => evaluate(&mut input),
        5 => extract(&mut input),
        6 => runtime(&mut input),
        7 => open(&mut input),
        _ => classify(&mut input),
    }
});

fn init(input: &mut Input<'_>) {
    let which = input.byte() % 14;
    let size = input.number();
    let skew = usize::from(input.byte() % 2) * 4;
    let there = if size > MAXIMUM { 0 } else { size };
    let mut block = Block::new(&[0x55; 256], there, skew);
    let before = block.all().to_vec();
    let at: *mut c_void = block.pointer();
    // SAFETY: `size` bytes are there, or it is an impossible size.
    unsafe {
        match which {
            0 => byol_error_init(at.cast(), size),
            1 => byol_runtime_options_init(at.cast(), size),
            2 => byol_source_init(at.cast(), size),
            3 => byol_model_info_init(at.cast(), size),
            4 => byol_contract_init(at.cast(), size),
            5 => byol_encoder_options_init(at.cast(), size),
            6 => byol_encoder_info_init(at.cast(), size),
            7 => byol_image_init(at.cast(), size),
            8 => byol_extract_options_init(at.cast(), size),
            9 => byol_fit_options_init(at.cast(), size),
            10 => byol_fit_report_init(at.cast(), size),
            11 => byol_head_info_init(at.cast(), size),
            12 => byol_metrics_init(at.cast(), size),
            _ => byol_error_init(null_mut(), size),
        }
    }
    let after = block.all();
    if after != before {
        assert_eq!(after[..4], (size as u32).to_ne_bytes());
    }
}

fn inspect(input: &mut Input<'_>) {
    let mut source = block(input, size_of::<byol_source>(), 8);
    let how = input.byte();
    let model = host::model(1);
    let data = Block::of(&model);
    let text = Block::of(if how & 1 == 0 { b"/\xff\0" } else { b"no such file\0" });
    let sum = Block::of(b"0123\0");
    put(&mut source, offset_of!(byol_source, path), if how & 6 == 6 { text.pointer::<u8>() as usize } else { 0 });
    put(&mut source, offset_of!(byol_source, data), if how & 8 == 0 { data.pointer::<u8>() as usize } else { 0 });
    put(&mut source, offset_of!(byol_source, data_len), if how & 16 == 0 { model.len() } else { usize::from(how) });
    put(&mut source, offset_of!(byol_source, sha256), if how & 96 == 96 { sum.pointer::<u8>() as usize } else { 0 });
    let info = Filled::new(input, size_of::<byol_model_info>());
    let outcome = Outcome::new(input);
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe { byol_model_inspect(source.pointer(), info.block.pointer(), outcome.0.pointer()) };
    info.check(code);
    outcome.promised(
        code,
        &[
            BYOL_E_NULL_POINTER,
            BYOL_E_ABI,
            BYOL_E_INVALID_ARG,
            BYOL_E_NOT_FOUND,
            BYOL_E_IO,
            BYOL_E_LIMIT,
            BYOL_E_CHECKSUM,
            BYOL_E_MODEL_INVALID,
        ],
    );
}

fn infos(input: &mut Input<'_>) {
    let of_head = input.byte() % 2 == 0;
    let known = if of_head { size_of::<byol_head_info>() } else { size_of::<byol_encoder_info>() };
    let info = Filled::new(input, known);
    let outcome = Outcome::new(input);
    // SAFETY: every struct holds what it says.
    let code = unsafe {
        match of_head {
            true => byol_head_get_info(head(), info.block.pointer(), outcome.0.pointer()),
            false => byol_encoder_get_info(host::encoder(), info.block.pointer(), outcome.0.pointer()),
        }
    };
    info.check(code);
    outcome.promised(code, &[BYOL_E_ABI, BYOL_E_INVALID_ARG]);
}

fn fit(input: &mut Input<'_>) {
    let mut options = block(input, size_of::<byol_fit_options>(), 32);
    let how = input.byte();
    let of_classes = Block::new(input.bytes(8), 8, 0);
    let of_rows = Block::new(input.bytes(16), 16, 0);
    put(
        &mut options,
        offset_of!(byol_fit_options, class_weights),
        if how & 1 == 0 { of_classes.pointer::<u8>() as usize } else { 0 },
    );
    put(
        &mut options,
        offset_of!(byol_fit_options, sample_weights),
        if how & 2 == 0 { of_rows.pointer::<u8>() as usize } else { 0 },
    );
    // Threads are what the machine pays for; any other option is free.
    let size = claimed(&mut options);
    let threads = offset_of!(byol_fit_options, threads);
    if size >= threads + 4 && size <= MAXIMUM {
        options.all()[threads] &= 3;
        options.all()[threads + 1..threads + 4].fill(0);
    }
    let report = Filled::new(input, size_of::<byol_fit_report>());
    let outcome = Outcome::new(input);
    let token = patience();
    let mut head = byol_head { id: 0 };
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe {
        byol_head_fit(
            FEATURES.as_ptr(),
            4,
            2,
            0,
            LABELS.as_ptr(),
            null(),
            2,
            byol_encoder { id: 0 },
            options.pointer(),
            None,
            null_mut(),
            token,
            &raw mut head,
            report.block.pointer(),
            outcome.0.pointer(),
        )
    };
    report.check(code);
    assert_eq!(code == BYOL_OK, head.id != 0);
    outcome.promised(
        code,
        &[
            BYOL_E_ABI,
            BYOL_E_INVALID_ARG,
            BYOL_E_DATA,
            BYOL_E_NON_FINITE,
            BYOL_E_NO_OPTIMUM,
            BYOL_E_DEADLINE,
            BYOL_E_NOT_CONVERGED,
        ],
    );
    // SAFETY: an open handle, or none.
    assert_eq!(unsafe { byol_head_close(head, null_mut()) }, BYOL_OK);
    close(token);
}

fn evaluate(input: &mut Input<'_>) {
    let metrics = Filled::new(input, size_of::<byol_metrics>());
    let outcome = Outcome::new(input);
    // SAFETY: every struct holds what it says.
    let code = unsafe {
        byol_head_evaluate(
            head(),
            FEATURES.as_ptr(),
            4,
            2,
            0,
            LABELS.as_ptr(),
            metrics.block.pointer(),
            null_mut(),
            0,
            null_mut(),
            0,
            outcome.0.pointer(),
        )
    };
    metrics.check(code);
    outcome.promised(code, &[BYOL_E_ABI, BYOL_E_INVALID_ARG]);
}

/// An array of images: each as large as the first says, if all say so.
fn images(input: &mut Input<'_>, pixels: &Block, count: usize) -> Block {
    let mut one = block(input, size_of::<byol_image>(), 24);
    put(&mut one, offset_of!(byol_image, data), pixels.pointer::<u8>() as usize);
    put(&mut one, offset_of!(byol_image, data_len), 48);
    let how = input.byte();
    if how & 3 != 0 && claimed(&mut one) >= 24 && claimed(&mut one) <= MAXIMUM {
        // A good picture, so that the call gets further.
        let whole = [BYOL_FORMAT_RGB8, 4, 4].map(u32::to_ne_bytes).concat();
        one.all()[4..16].copy_from_slice(&whole);
        put(&mut one, offset_of!(byol_image, stride), 0);
    }
    let size = claimed(&mut one);
    if size > MAXIMUM {
        return one;
    }
    let mut all = one.all()[..size.max(4)].repeat(count);
    if how & 4 == 4 && count > 1 && size >= 4 {
        // The second says that it is of another size.
        let other = (size as u32).wrapping_add(u32::from(how >> 3));
        all[size.max(4)..][..4].copy_from_slice(&other.to_ne_bytes());
    }
    let skew = if one.pointer::<byol_image>().is_aligned() { 0 } else { 4 };
    Block::new(&all, all.len(), skew)
}

fn extract(input: &mut Input<'_>) {
    let count = 1 + usize::from(input.byte() % 3);
    let pixels = Block::new(&[], 48, 0);
    let images = images(input, &pixels, count);
    let options = block(input, size_of::<byol_extract_options>(), 8);
    let outcome = Outcome::new(input);
    let mut features = [0.0; 3 * DIMENSION];
    let mut status = [BYOL_OK; 3];
    let statuses = if input.byte() % 2 == 0 { status.as_mut_ptr() } else { null_mut() };
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe {
        byol_extract(
            host::encoder(),
            images.pointer(),
            count,
            options.pointer(),
            features.as_mut_ptr(),
            0,
            features.len(),
            statuses,
            byol_cancel { id: 0 },
            outcome.0.pointer(),
        )
    };
    outcome.promised(code, &[BYOL_E_ABI, BYOL_E_INVALID_ARG, BYOL_E_NULL_POINTER]);
}

fn classify(input: &mut Input<'_>) {
    let count = 1 + usize::from(input.byte() % 3);
    let pixels = Block::new(&[], 48, 0);
    let images = images(input, &pixels, count);
    let options = block(input, size_of::<byol_extract_options>(), 8);
    let outcome = Outcome::new(input);
    let mut labels = [0; 3];
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe {
        byol_head_classify(
            head(),
            host::encoder(),
            images.pointer(),
            count,
            options.pointer(),
            labels.as_mut_ptr(),
            null_mut(),
            0,
            null_mut(),
            byol_cancel { id: 0 },
            outcome.0.pointer(),
        )
    };
    outcome.promised(code, &[BYOL_E_ABI, BYOL_E_INVALID_ARG, BYOL_E_NULL_POINTER]);
}

fn runtime(input: &mut Input<'_>) {
    // It runs already, so that other settings are refused and nothing is started.
    let _ = host::encoder();
    let mut options = block(input, size_of::<byol_runtime_options>(), 8);
    let library = Block::of(b"elsewhere\0");
    let named = if input.byte() % 4 == 0 { library.pointer::<u8>() as usize } else { 0 };
    put(&mut options, offset_of!(byol_runtime_options, library), named);
    let outcome = Outcome::new(input);
    let mut runtime = byol_runtime { id: 0 };
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe { byol_runtime_create(options.pointer(), &raw mut runtime, outcome.0.pointer()) };
    outcome.promised(code, &[BYOL_E_ABI, BYOL_E_INVALID_ARG, BYOL_E_BUSY_CONFIG, BYOL_E_RUNTIME]);
    assert_eq!(code == BYOL_OK, runtime.id != 0);
    // SAFETY: an open handle, or none.
    assert_eq!(unsafe { byol_runtime_close(runtime, null_mut()) }, BYOL_OK);
}

fn open(input: &mut Input<'_>) {
    let _ = host::encoder();
    let model = host::model(1);
    let source = byol_source {
        struct_size: size_of::<byol_source>() as u32,
        data: model.as_ptr(),
        data_len: model.len(),
        ..Default::default()
    };
    let mut options = block(input, size_of::<byol_encoder_options>(), 32);
    let contract = block(input, size_of::<byol_contract>(), 64);
    let output = Block::of(if input.byte() % 2 == 0 { b"features\0" } else { b"nothing?\0" });
    let how = input.byte();
    put(
        &mut options,
        offset_of!(byol_encoder_options, contract),
        if how & 1 == 0 { contract.pointer::<u8>() as usize } else { 0 },
    );
    put(
        &mut options,
        offset_of!(byol_encoder_options, output),
        if how & 2 == 0 { output.pointer::<u8>() as usize } else { 0 },
    );
    // Sessions cost memory, up to 256 of them.
    let size = claimed(&mut options);
    if (8..=MAXIMUM).contains(&size) {
        options.all()[4] &= 3;
        options.all()[5..8].fill(0);
    }
    let outcome = Outcome::new(input);
    let mut encoder = byol_encoder { id: 0 };
    // SAFETY: every struct holds what it says, every pointer in it is valid.
    let code = unsafe {
        byol_encoder_open(
            byol_runtime { id: 0 },
            &raw const source,
            options.pointer(),
            &raw mut encoder,
            outcome.0.pointer(),
        )
    };
    outcome.promised(
        code,
        &[BYOL_E_ABI, BYOL_E_INVALID_ARG, BYOL_E_LIMIT, BYOL_E_MODEL_UNSUPPORTED, BYOL_E_MODEL_INVALID],
    );
    assert_eq!(code == BYOL_OK, encoder.id != 0);
    // SAFETY: an open handle, or none.
    assert_eq!(unsafe { byol_encoder_close(encoder, null_mut()) }, BYOL_OK);
}
