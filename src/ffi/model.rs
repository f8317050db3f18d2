//! Where an encoder's file comes from, and what it says of itself before anything runs it.

use std::ffi::c_char;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use byol_model::onnx::{self, Element};
use byol_model::picture::InputContract;

use crate::guard::guard;
use crate::outcome::of_io;
use crate::pointer::{self, Versioned, fill};
use crate::status::*;

/// An ONNX file, on disk or in memory. Start with BYOL_SOURCE_INIT and set either path, or data and data_len. Models
/// that keep tensors in further files are refused.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_source {
    /// sizeof(byol_source).
    pub struct_size: u32,
    /// Must be 0.
    pub flags: u32,
    /// Path in UTF-8, or NULL.
    pub path: *const c_char,
    /// The file's bytes, or NULL. They are not needed after the call.
    pub data: *const u8,
    /// Number of bytes at data.
    pub data_len: usize,
    /// The SHA-256 that the file must have, 64 hexadecimal digits, or NULL for any.
    pub sha256: *const c_char,
}

impl Default for byol_source {
    fn default() -> Self {
        let null = std::ptr::null();
        Self { struct_size: 0, flags: 0, path: null, data: std::ptr::null(), data_len: 0, sha256: null }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_source {
    const NAME: &'static str = "byol_source";
    const MINIMUM: usize = 8 + 4 * size_of::<usize>();
}

/// Element type of a tensor: one that libbyol does not take.
pub const BYOL_TENSOR_OTHER: u32 = 0;
/// Element type of a tensor: pixels of 0 to 255, as [n, height, width, channels].
pub const BYOL_TENSOR_U8: u32 = 1;
/// Element type of a tensor: normalised values, as [n, channels, height, width].
pub const BYOL_TENSOR_F32: u32 = 2;

/// What a model file says of itself. Set struct_size (BYOL_MODEL_INFO_INIT), the library fills in the rest. Texts are
/// NUL-terminated UTF-8, cut if too long. A size is 0 where the model leaves it open.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_model_info {
    /// sizeof(byol_model_info).
    pub struct_size: u32,
    /// BYOL_TENSOR_* of the first input.
    pub input_type: u32,
    /// Channels of the first input.
    pub channels: u32,
    /// Height of the first input.
    pub height: u32,
    /// Width of the first input.
    pub width: u32,
    /// Features per picture of the first output.
    pub dimension: u32,
    /// 1 when the file says how pictures become input, else 0.
    pub has_contract: u32,
    /// 1 when it keeps tensors in other files, else 0. Such a model can't be opened.
    pub has_external_data: u32,
    /// Number of operators.
    pub nodes: u64,
    /// Version of the operator set.
    pub opset: i64,
    /// SHA-256 of the file, hexadecimal.
    pub sha256: [c_char; 72],
    /// Program that wrote the file.
    pub producer: [c_char; 128],
    /// Name of the first input.
    pub input_name: [c_char; 128],
    /// Name of the first output.
    pub output_name: [c_char; 128],
}

impl Default for byol_model_info {
    fn default() -> Self {
        Self {
            struct_size: 0,
            input_type: 0,
            channels: 0,
            height: 0,
            width: 0,
            dimension: 0,
            has_contract: 0,
            has_external_data: 0,
            nodes: 0,
            opset: 0,
            sha256: [0; 72],
            producer: [0; 128],
            input_name: [0; 128],
            output_name: [0; 128],
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers only.
unsafe impl Versioned for byol_model_info {
    const NAME: &'static str = "byol_model_info";
    const MINIMUM: usize = 504;
}

/// Sets `size` bytes at `source`, which is sizeof(byol_source) in the caller's header, to what BYOL_SOURCE_INIT is.
///
/// Does nothing when `source` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_source_init(source: *mut byol_source, size: usize) {
    // SAFETY: the caller owns `size` bytes at `source`.
    unsafe { pointer::init(source, size) };
}

/// Sets `size` bytes at `info`, which is sizeof(byol_model_info) in the caller's header, to what BYOL_MODEL_INFO_INIT
/// is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_model_info_init(info: *mut byol_model_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Reads what a model file says of itself. Nothing of it is run, and ONNX Runtime is not needed.
///
/// Ownership: `source` and what it points to are only read during the call. Threads: any.
/// Errors: NULL_POINTER, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, CHECKSUM, MODEL_INVALID. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_model_inspect(
    source: *const byol_source,
    info: *mut byol_model_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            let source = Source::read(source)?;
            report.set(inspect(&source)?);
            Ok(())
        })
    }
}

/// A checked [`byol_source`].
pub(crate) struct Source<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) sha256: Option<String>,
}

pub(crate) enum Place<'a> {
    File(PathBuf),
    Memory(&'a [u8]),
}

impl Source<'_> {
    pub(crate) unsafe fn read(source: *const byol_source) -> Result<Self> {
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let source = pointer::read(source, "source")?;
            if source.flags != 0 {
                return Err(Fault::argument(format_args!("source.flags is {:#x}; none are known", source.flags)));
            }
            let sha256 = pointer::text_or_null(source.sha256, "source.sha256")?;
            if let Some(sum) = sha256
                && (sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                return Err(Fault::argument(format_args!("source.sha256 is {sum:?}, not 64 hexadecimal digits")));
            }
            let place = match pointer::text_or_null(source.path, "source.path")? {
                Some("") => return Err(Fault::argument("source.path is empty")),
                Some(_) if !source.data.is_null() || source.data_len != 0 => {
                    return Err(Fault::argument("source has both path and data; set one"));
                }
                Some(path) => Place::File(PathBuf::from(path)),
                None if source.data.is_null() => {
                    return Err(Fault::new(BYOL_E_NULL_POINTER, "source has neither path nor data; set one"));
                }
                None => Place::Memory(pointer::slice(source.data, source.data_len, "source.data")?),
            };
            Ok(Self { place, sha256: sha256.map(str::to_ascii_lowercase) })
        }
    }
}

fn inspect(source: &Source<'_>) -> Result<byol_model_info> {
    let read;
    let (name, bytes) = match &source.place {
        Place::Memory(bytes) => ("model in memory".into(), *bytes),
        Place::File(path) => {
            read = read_file(path)?;
            (path.display().to_string(), read.as_slice())
        }
    };
    let sha256 = byol_model::sha256_hex(bytes);
    if let Some(expected) = &source.sha256
        && *expected != sha256
    {
        return Err(Fault::new(BYOL_E_CHECKSUM, format_args!("{name}: its SHA-256 is {sha256}, expected {expected}")));
    }
    let named = |fault: Fault| Fault { message: format!("{name}: {}", fault.message), ..fault };
    let found = onnx::inspect(bytes).map_err(|e| named(e.into()))?;
    let contract = InputContract::from_metadata(&found.metadata)
        .map_err(|e| Fault::new(BYOL_E_MODEL_INVALID, format_args!("{name}: {e}")))?;
    let (Some(input), Some(output)) = (found.inputs.first(), found.outputs.first()) else {
        return Err(Fault::new(BYOL_E_MODEL_INVALID, format_args!("{name}: no input or no output")));
    };
    let sizes = |value: &onnx::Value| -> Vec<u32> {
        let shape = value.shape.iter().flatten();
        shape.map(|size| size.and_then(|size| u32::try_from(size).ok()).unwrap_or(0)).collect()
    };
    let (input_type, [channels, height, width]) = match (input.element, &sizes(input)[..]) {
        (Element::Uint8, &[_, height, width, channels]) => (BYOL_TENSOR_U8, [channels, height, width]),
        (Element::Float32, &[_, channels, height, width]) => (BYOL_TENSOR_F32, [channels, height, width]),
        _ => (BYOL_TENSOR_OTHER, [0; 3]),
    };
    let dimension = match sizes(output)[..] {
        [] | [_] => 0,
        [_, ref rest @ ..] => rest.iter().try_fold(1u32, |product, &size| product.checked_mul(size)).unwrap_or(0),
    };
    Ok(byol_model_info {
        struct_size: 0,
        input_type,
        channels,
        height,
        width,
        dimension,
        has_contract: u32::from(contract.is_some()),
        has_external_data: u32::from(found.external_data),
        nodes: found.nodes as u64,
        opset: found.opset,
        sha256: fill(&sha256),
        producer: fill(&found.producer),
        input_name: fill(&input.name),
        output_name: fill(&output.name),
    })
}

/// An ONNX file is one protobuf message, which ends there.
const MOST_BYTES: u64 = 1 << 31;

fn read_file(path: &Path) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Fault::new(of_io(&e), format_args!("{}: {e}", path.display()));
    // Looked at first, because opening a pipe would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Fault::new(BYOL_E_IO, format_args!("{}: not a regular file", path.display())));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > MOST_BYTES {
        return Err(Fault::new(
            BYOL_E_LIMIT,
            format_args!("{}: {length} bytes, allowed are {MOST_BYTES}", path.display()),
        ));
    }
    let mut bytes = pointer::reserved(length as usize, "the model")?;
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
