//! Where an encoder's file comes from, and what it says of itself before anything runs it.

use std::borrow::Cow;
use std::ffi::{c_char, c_void};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use byol_model::onnx::{self, Element};
use byol_model::onnx_external;
use byol_model::picture::InputContract;

use crate::guard::guard;
use crate::memory;
use crate::outcome::of_io;
use crate::pointer::{self, Versioned, fill};
use crate::status::*;

/// Flag of a source: tensors that the model keeps in further files may be read, from regular files in the model's own
/// folder, links included; only with path. Without it such a model is refused. The encoder's SHA-256 is then that of
/// the model with all its tensors inside, byol_source.sha256 that of the model's own file.
pub const BYOL_SOURCE_EXTERNAL_DATA: u32 = 1;

/// Gives the next bytes of a model: writes at most `capacity` of them to `buffer` and returns how many, 0 at the end.
/// Below 0 the call fails with BYOL_E_IO. For files that are encrypted, packed or elsewhere. It runs on the calling
/// thread and must return (no exception, no longjmp).
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_read_callback = Option<unsafe extern "C" fn(user: *mut c_void, buffer: *mut u8, capacity: usize) -> i64>;

/// An ONNX file: on disk, in memory, or from a function. Start with BYOL_SOURCE_INIT and set one of path, data with
/// data_len, and read with user.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_source {
    /// sizeof(byol_source).
    pub struct_size: u32,
    /// BYOL_SOURCE_* together, or 0.
    pub flags: u32,
    /// Path in UTF-8, or NULL.
    pub path: *const c_char,
    /// The file's bytes, or NULL. They are not needed after the call.
    pub data: *const u8,
    /// Number of bytes at data.
    pub data_len: usize,
    /// The SHA-256 that the file must have, 64 hexadecimal digits, or NULL for any.
    pub sha256: *const c_char,
    /// Gives the file's bytes, or NULL. It is called during the call only, so that there is nothing to give back.
    pub read: byol_read_callback,
    /// What read gets as its first argument.
    pub user: *mut c_void,
}

impl Default for byol_source {
    fn default() -> Self {
        let null = std::ptr::null();
        let user = std::ptr::null_mut();
        Self {
            struct_size: 0,
            flags: 0,
            path: null,
            data: std::ptr::null(),
            data_len: 0,
            sha256: null,
            read: None,
            user,
        }
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
    /// 1 when it keeps tensors in other files, else 0. Such a model needs BYOL_SOURCE_EXTERNAL_DATA to be opened.
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
/// Errors: NULL_POINTER, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, NO_MEMORY, CHECKSUM, MODEL_INVALID. @since 0.1.0
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
            let source = Source::read(source, MOST_BYTES)?;
            report.set(inspect(source)?);
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
    /// What a callback gave, or a file with what belongs to it. Its SHA-256 has been checked.
    Read(PathBuf, Vec<u8>),
}

impl<'a> Source<'a> {
    /// What the source stands for; of what has to be read for that, at most `limit` bytes.
    pub(crate) unsafe fn read(source: *const byol_source, limit: u64) -> Result<Self> {
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let source = pointer::read(source, "source")?;
            let unknown = source.flags & !BYOL_SOURCE_EXTERNAL_DATA;
            if unknown != 0 {
                return Err(Fault::argument(format_args!("source.flags has {unknown:#x}, no BYOL_SOURCE_*")));
            }
            let sha256 = pointer::text_or_null(source.sha256, "source.sha256")?;
            if let Some(sum) = sha256
                && (sum.len() != 64 || !sum.bytes().all(|b| b.is_ascii_hexdigit()))
            {
                return Err(Fault::argument(format_args!("source.sha256 is {sum:?}, not 64 hexadecimal digits")));
            }
            let sha256 = sha256.map(str::to_ascii_lowercase);
            let path = pointer::text_or_null(source.path, "source.path")?;
            let in_memory = !source.data.is_null() || source.data_len != 0;
            let place = match (path, source.read) {
                (Some(""), _) => return Err(Fault::argument("source.path is empty")),
                (Some(_), _) if in_memory => {
                    return Err(Fault::argument("source has both path and data; set one"));
                }
                (Some(_), Some(_)) => return Err(Fault::argument("source has both path and read; set one")),
                (None, Some(_)) if in_memory => {
                    return Err(Fault::argument("source has both data and read; set one"));
                }
                (Some(path), None) if source.flags & BYOL_SOURCE_EXTERNAL_DATA != 0 => {
                    let path = PathBuf::from(path);
                    let bytes = read_file(&path, limit)?;
                    check(&path.display().to_string(), &bytes, &sha256)?;
                    let bytes = onnx_external::inline(&bytes, &path, limit)?;
                    Place::Read(path, bytes)
                }
                _ if source.flags & BYOL_SOURCE_EXTERNAL_DATA != 0 => {
                    return Err(Fault::argument("BYOL_SOURCE_EXTERNAL_DATA needs source.path, whose folder it means"));
                }
                (Some(path), None) => Place::File(PathBuf::from(path)),
                (None, Some(read)) => {
                    let bytes = from_callback(read, source.user, limit)?;
                    check(READ, &bytes, &sha256)?;
                    Place::Read(READ.into(), bytes)
                }
                (None, None) if source.data.is_null() => {
                    return Err(Fault::new(BYOL_E_NULL_POINTER, "source has neither path nor data nor read; set one"));
                }
                (None, None) => Place::Memory(pointer::slice(source.data, source.data_len, "source.data")?),
            };
            Ok(Self { place, sha256 })
        }
    }

    /// The bytes, and what messages call them.
    pub(crate) fn bytes(self, limit: u64) -> Result<(String, Cow<'a, [u8]>)> {
        Ok(match self.place {
            Place::Memory(bytes) => {
                check(MEMORY, bytes, &self.sha256)?;
                (MEMORY.into(), bytes.into())
            }
            Place::Read(path, bytes) => (path.display().to_string(), bytes.into()),
            Place::File(path) => {
                let bytes = read_file(&path, limit)?;
                let name = path.display().to_string();
                check(&name, &bytes, &self.sha256)?;
                (name, bytes.into())
            }
        })
    }
}

/// What messages call a model without a file.
const MEMORY: &str = "model in memory";
const READ: &str = "model from a callback";

fn check(name: &str, bytes: &[u8], expected: &Option<String>) -> Result<()> {
    let Some(expected) = expected else { return Ok(()) };
    let found = byol_model::sha256_hex(bytes);
    if *expected == found {
        return Ok(());
    }
    Err(Fault::new(BYOL_E_CHECKSUM, format_args!("{name}: its SHA-256 is {found}, expected {expected}")))
}

unsafe fn from_callback(
    read: unsafe extern "C" fn(*mut c_void, *mut u8, usize) -> i64,
    user: *mut c_void,
    limit: u64,
) -> Result<Vec<u8>> {
    const STEP: usize = 1 << 20;
    let mut bytes: Vec<u8> = Vec::new();
    loop {
        memory::allow(STEP, READ)?;
        bytes.try_reserve(STEP).map_err(|_| Fault::no_memory(READ, bytes.len() + STEP))?;
        let filled = bytes.len();
        bytes.resize(filled + STEP, 0);
        // SAFETY: STEP bytes are there; the caller promises the rest.
        let given = unsafe { read(user, bytes[filled..].as_mut_ptr(), STEP) };
        match usize::try_from(given) {
            Err(_) => return Err(Fault::new(BYOL_E_IO, format_args!("{READ}: source.read failed with {given}"))),
            Ok(given) if given > STEP => {
                return Err(Fault::argument(format_args!("source.read returned {given} for {STEP} bytes of room")));
            }
            Ok(given) => bytes.truncate(filled + given),
        }
        if bytes.len() as u64 > limit {
            return Err(Fault::new(BYOL_E_LIMIT, format_args!("{READ}: more than the {limit} bytes that are allowed")));
        }
        if given == 0 {
            return Ok(bytes);
        }
    }
}

fn inspect(source: Source<'_>) -> Result<byol_model_info> {
    let (name, bytes) = source.bytes(MOST_BYTES)?;
    let sha256 = byol_model::sha256_hex(&bytes);
    let named = |fault: Fault| Fault { message: format!("{name}: {}", fault.message), ..fault };
    let found = onnx::inspect(&bytes).map_err(|e| named(e.into()))?;
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
pub(crate) const MOST_BYTES: u64 = 1 << 31;

fn read_file(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let failed = |e: std::io::Error| Fault::new(of_io(&e), format_args!("{}: {e}", path.display()));
    // Looked at first, because opening a pipe would wait for its writer.
    if !path.metadata().map_err(failed)?.is_file() {
        return Err(Fault::new(BYOL_E_IO, format_args!("{}: not a regular file", path.display())));
    }
    let file = File::open(path).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    if length > limit {
        return Err(Fault::new(BYOL_E_LIMIT, format_args!("{}: {length} bytes, allowed are {limit}", path.display())));
    }
    let mut bytes = pointer::reserved(length as usize, "the model")?;
    file.take(length).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
