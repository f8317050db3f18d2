//! Heads as ONNX, for programs that have no libbyol.

use std::ffi::c_char;

use byol_model::file;
use byol_serve::head::Head;

use crate::guard::guard;
use crate::head::{self, byol_head};
use crate::model::{MOST_BYTES, Source, byol_source};
use crate::pointer;
use crate::status::*;

/// Writes a head as an ONNX model, whole or not at all: alone, from "features" to "logits" and "probabilities", where
/// `encoder` is NULL; else behind the encoder of that file, as one classifier from pictures to both, which stock ONNX
/// Runtime runs. The class names are in its metadata as "byol.labels", a JSON list.
///
/// Ownership: `encoder` and `path` are only read during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, CHECKSUM, NO_MEMORY, MODEL_INVALID (no encoder,
/// or its features have another length), WRONG_ENCODER. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_export_onnx(
    head: byol_head,
    encoder: *const byol_source,
    path: *const c_char,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let path = pointer::path(path, "path")?;
            let bytes = onnx(&*head::of(head)?, encoder)?;
            Ok(file::write_atomic(path, &bytes)?)
        })
    }
}

/// As byol_head_export_onnx, into memory. Bytes are given as by byol_head_save_bytes.
///
/// Ownership: `encoder` is only read during the call, `buffer` is the caller's. Threads: any.
/// Errors: those of byol_head_export_onnx, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_export_onnx_bytes(
    head: byol_head,
    encoder: *const byol_source,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe { guard(error, || pointer::give_bytes(&onnx(&*head::of(head)?, encoder)?, buffer, capacity, needed)) }
}

unsafe fn onnx(head: &Head, encoder: *const byol_source) -> Result<Vec<u8>> {
    if encoder.is_null() {
        return Ok(head.to_onnx()?);
    }
    // SAFETY: the caller's pointer, checked.
    let (name, bytes) = unsafe { Source::read(encoder, MOST_BYTES) }?.bytes(MOST_BYTES)?;
    head.to_onnx_behind(&bytes).map_err(|error| {
        let fault = Fault::from(error);
        Fault { message: format!("{name}: {}", fault.message), ..fault }
    })
}
