//! Model files: what byol_model_inspect says of any bytes, what `pretrain --encoder` makes of them, and a head behind
//! them. Nothing is run.
#![no_main]

mod host;

use byol_model::onnx_head::{self, LinearHead};
use byol_model::{onnx, onnx_import};
use host::Block;
use host::abi::*;
use libfuzzer_sys::fuzz_target;

fn inspect(data: &Block, length: usize) -> Option<byol_model_info> {
    let source = byol_source {
        struct_size: size_of::<byol_source>() as u32,
        data: data.pointer(),
        data_len: length,
        ..Default::default()
    };
    let mut info = byol_model_info { struct_size: size_of::<byol_model_info>() as u32, ..Default::default() };
    let mut error = host::error();
    // SAFETY: all pointers are valid.
    let code = unsafe { byol_model_inspect(&raw const source, &raw mut info, &raw mut error) };
    host::promised(code, &error, &[BYOL_E_MODEL_INVALID]);
    (code == BYOL_OK).then_some(info)
}

fuzz_target!(|bytes: &[u8]| {
    let data = Block::of(bytes);
    let Some(info) = inspect(&data, bytes.len()) else {
        // What is no model to one reader is none to the others.
        assert!(onnx_import::read(bytes).is_err() || onnx::inspect(bytes).is_ok());
        return;
    };
    for text in [&info.sha256[..], &info.producer, &info.input_name, &info.output_name] {
        let text: Vec<u8> = text.iter().map(|&c| c as u8).collect();
        let end = text.iter().position(|&c| c == 0).expect("a NUL");
        assert!(std::str::from_utf8(&text[..end]).is_ok());
    }
    if let Ok(imported) = onnx_import::read(bytes) {
        assert_eq!(info.has_external_data, 0);
        // Tensors are in the file, so that no more of them can be read.
        let values: usize = imported.weights.iter().map(|(_, tensor)| tensor.data.len()).sum();
        assert!(values <= 8 * bytes.len() + 4096, "{values} values of {} bytes", bytes.len());
    }
    let columns = info.dimension as usize;
    if (1..=64).contains(&columns) {
        let labels = ["a".to_owned(), "b".to_owned()];
        let head = LinearHead { weight: &vec![0.5; 2 * columns], bias: &[0.0, 1.0], labels: &labels };
        if let Ok(whole) = onnx_head::append(bytes, &head, &Default::default()) {
            let longer = inspect(&Block::of(&whole), whole.len()).expect("still a model");
            assert_eq!(longer.nodes, info.nodes + 2, "two nodes more");
        }
    }
});
