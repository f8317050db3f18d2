//! Head files through byol_head_load_bytes. An odd first byte lets the bytes behind it be the JSON header and the
//! tensors of a safetensors file, whose length comes first.
#![no_main]

mod host;

use byol_serve::head::Head;
use host::abi::*;
use host::{Block, Input, error, promised};
use libfuzzer_sys::fuzz_target;

/// Loads a head, asks it everything, and gives what it saves.
fn load(bytes: &[u8]) -> Option<Vec<u8>> {
    let data = Block::of(bytes);
    let mut head = byol_head { id: 0 };
    let mut error = error();
    // SAFETY: all pointers are valid, here and below.
    let code = unsafe { byol_head_load_bytes(data.pointer(), bytes.len(), &raw mut head, &raw mut error) };
    promised(code, &error, &[BYOL_E_CORRUPT, BYOL_E_NEWER_FORMAT]);
    if code != BYOL_OK {
        assert_eq!(head.id, 0);
        return None;
    }
    let mut info = byol_head_info { struct_size: size_of::<byol_head_info>() as u32, ..Default::default() };
    let code = unsafe { byol_head_get_info(head, &raw mut info, &raw mut error) };
    promised(code, &error, &[]);
    let (classes, columns) = (info.classes as usize, info.dimension as usize);
    assert!(classes > 0 && columns > 0 && 4 * classes * columns <= bytes.len());
    for class in 0..info.classes.min(8) {
        let mut needed = 0;
        let null = std::ptr::null_mut();
        let code = unsafe { byol_head_get_label(head, class, null, 0, &raw mut needed, &raw mut error) };
        promised(code, &error, &[BYOL_E_INVALID_ARG]);
        if code == BYOL_OK {
            let text = Block::new(&[], needed, 0);
            let code =
                unsafe { byol_head_get_label(head, class, text.pointer(), needed, &raw mut needed, &raw mut error) };
            promised(code, &error, &[]);
        }
    }
    let (zeros, scores) = (Block::new(&[], 4 * columns, 0), Block::new(&[], 4 * classes, 0));
    let code =
        unsafe { byol_head_logits(head, zeros.pointer(), 1, columns, 0, scores.pointer(), classes, &raw mut error) };
    promised(code, &error, &[]);
    let code = unsafe {
        let null = std::ptr::null_mut();
        byol_head_predict(head, zeros.pointer(), 1, columns, 0, null, scores.pointer(), classes, &raw mut error)
    };
    promised(code, &error, &[]);
    let mut needed = 0;
    let code = unsafe { byol_head_save_bytes(head, std::ptr::null_mut(), 0, &raw mut needed, &raw mut error) };
    promised(code, &error, &[]);
    let mut saved = Block::new(&[], needed, 0);
    let code = unsafe { byol_head_save_bytes(head, saved.pointer(), needed, &raw mut needed, &raw mut error) };
    promised(code, &error, &[]);
    let code = unsafe { byol_head_close(head, &raw mut error) };
    promised(code, &error, &[]);
    let saved = saved.all().to_vec();
    let model = Head::from_bytes(bytes).and_then(|head| head.to_onnx()).expect("a head is a model");
    assert!(byol_model::onnx::inspect(&model).is_ok());
    Some(saved)
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let file = match input.byte() % 2 {
        0 => input.0.to_vec(),
        _ => {
            let length = usize::from(u16::from_le_bytes([input.byte(), input.byte()])).min(input.0.len());
            [&(length as u64).to_le_bytes()[..], input.0].concat()
        }
    };
    if let Some(saved) = load(&file) {
        let again = load(&saved).expect("what was saved can be loaded");
        assert!(saved == again, "and is the same");
    }
});
