//! Encoders: opened once, used from any number of threads.

use std::ffi::c_char;
use std::sync::Arc;

use byol_model::picture::{Filter, InputContract, Limits, Resize};
use byol_serve::encoder::{Encoder, EncoderOptions};

use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_ENCODER, Object};
use crate::model::{Place, Source, byol_source};
use crate::pointer::{self, Versioned, fill};
use crate::runtime::{self, byol_runtime};
use crate::status::*;

/// An opened model that turns pictures into features.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_encoder {
    /// 0 for none.
    pub id: u64,
}

impl Object for Encoder {
    const KIND: u32 = BYOL_KIND_ENCODER;
    const NAME: &'static str = "byol_encoder";
}

/// Resize rule: to exactly the input's size.
pub const BYOL_RESIZE_STRETCH: u32 = 1;
/// Resize rule: the short side to resize_size pixels, then the centre is cut out.
pub const BYOL_RESIZE_SHORT_SIDE: u32 = 2;
/// Resize filter: triangle, antialiased.
pub const BYOL_FILTER_BILINEAR: u32 = 1;
/// Resize filter: cubic with a = -0.5, antialiased.
pub const BYOL_FILTER_BICUBIC: u32 = 2;

/// How a picture becomes an encoder's input, for a model file that does not say so itself. Start with
/// BYOL_CONTRACT_INIT, then set every field.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_contract {
    /// sizeof(byol_contract).
    pub struct_size: u32,
    /// Input channels: 1 (gray) or 3 (red, green, blue).
    pub channels: u32,
    /// Input height in pixels.
    pub height: u32,
    /// Input width in pixels.
    pub width: u32,
    /// BYOL_RESIZE_*.
    pub resize: u32,
    /// Pixels of the short side with BYOL_RESIZE_SHORT_SIDE, else 0.
    pub resize_size: u32,
    /// BYOL_FILTER_*.
    pub filter: u32,
    /// Must be 0.
    pub flags: u32,
    /// Mean of each channel, of values scaled to 0 to 1.
    pub mean: [f32; 4],
    /// Standard deviation of each channel, of values scaled to 0 to 1.
    pub deviation: [f32; 4],
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_contract {
    const NAME: &'static str = "byol_contract";
    const MINIMUM: usize = 64;
}

/// How to open an encoder. Start with BYOL_ENCODER_OPTIONS_INIT; 0 and NULL stand for the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_encoder_options {
    /// sizeof(byol_encoder_options).
    pub struct_size: u32,
    /// Calls that may be inferred at the same time, each with its own copy of the weights; 0 is 1, which uses all
    /// threads for one call at a time. Further calls wait their turn. At most 256.
    pub sessions: u32,
    /// Largest model file that is read, in bytes; 0 is 2 GiB.
    pub max_model_bytes: u64,
    /// Largest picture that is decoded, in pixels; 0 is 100 million.
    pub max_image_pixels: u64,
    /// Largest picture file that is read, in bytes; 0 is 256 MiB.
    pub max_image_bytes: u64,
    /// How pictures become input; overrides the file. NULL takes what the file says.
    pub contract: *const byol_contract,
    /// Name of the output that holds the features; NULL takes "features", or else the first float32 output.
    pub output: *const c_char,
}

impl Default for byol_encoder_options {
    fn default() -> Self {
        Self {
            struct_size: 0,
            sessions: 0,
            max_model_bytes: 0,
            max_image_pixels: 0,
            max_image_bytes: 0,
            contract: std::ptr::null(),
            output: std::ptr::null(),
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_encoder_options {
    const NAME: &'static str = "byol_encoder_options";
    const MINIMUM: usize = 32 + 2 * size_of::<usize>();
}

/// What an open encoder is. Set struct_size (BYOL_ENCODER_INFO_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_encoder_info {
    /// sizeof(byol_encoder_info).
    pub struct_size: u32,
    /// Features per picture.
    pub dimension: u32,
    /// Calls that may be inferred at the same time.
    pub sessions: u32,
    /// Threads that all encoders share.
    pub threads: u32,
    /// Input channels.
    pub channels: u32,
    /// Input height in pixels.
    pub height: u32,
    /// Input width in pixels.
    pub width: u32,
    /// BYOL_RESIZE_*.
    pub resize: u32,
    /// Pixels of the short side with BYOL_RESIZE_SHORT_SIDE, else 0.
    pub resize_size: u32,
    /// BYOL_FILTER_*.
    pub filter: u32,
    /// Mean of each of the first four channels.
    pub mean: [f32; 4],
    /// Standard deviation of each of the first four channels.
    pub deviation: [f32; 4],
    /// SHA-256 of the file, hexadecimal, NUL-terminated.
    pub sha256: [c_char; 72],
}

impl Default for byol_encoder_info {
    fn default() -> Self {
        Self {
            struct_size: 0,
            dimension: 0,
            sessions: 0,
            threads: 0,
            channels: 0,
            height: 0,
            width: 0,
            resize: 0,
            resize_size: 0,
            filter: 0,
            mean: [0.0; 4],
            deviation: [0.0; 4],
            sha256: [0; 72],
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_encoder_info {
    const NAME: &'static str = "byol_encoder_info";
    const MINIMUM: usize = 144;
}

/// Sets `size` bytes at `contract`, which is sizeof(byol_contract) in the caller's header, to what BYOL_CONTRACT_INIT
/// is.
///
/// Does nothing when `contract` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_contract_init(contract: *mut byol_contract, size: usize) {
    // SAFETY: the caller owns `size` bytes at `contract`.
    unsafe { pointer::init(contract, size) };
}

/// Sets `size` bytes at `options`, which is sizeof(byol_encoder_options) in the caller's header, to what
/// BYOL_ENCODER_OPTIONS_INIT is.
///
/// Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_encoder_options_init(options: *mut byol_encoder_options, size: usize) {
    // SAFETY: the caller owns `size` bytes at `options`.
    unsafe { pointer::init(options, size) };
}

/// Sets `size` bytes at `info`, which is sizeof(byol_encoder_info) in the caller's header, to what
/// BYOL_ENCODER_INFO_INIT is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_encoder_info_init(info: *mut byol_encoder_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Opens a model file as an encoder.
///
/// `runtime` may be `{0}`: then the default one is started, unless one runs already. `options` may be NULL.
///
/// Ownership: close the handle with byol_encoder_close at any time; what `source` and `options` point to is not needed
/// after the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, NOT_FOUND, IO, LIMIT, CHECKSUM, MODEL_INVALID, MODEL_UNSUPPORTED,
/// RUNTIME, BUSY_CONFIG, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_encoder_open(
    runtime: byol_runtime,
    source: *const byol_source,
    options: *const byol_encoder_options,
    encoder: *mut byol_encoder,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(encoder, "encoder")?;
            let mut options = read_options(options)?;
            let source = Source::read(source, options.max_model_bytes)?;
            let runtime = runtime::of(runtime)?;
            let encoder = match &source.place {
                // Checked before other files were put into it.
                Place::Read(_, bytes) => Encoder::from_bytes(&runtime, bytes, &options),
                place => {
                    options.expected_sha256 = source.sha256.clone();
                    match place {
                        Place::File(path) => Encoder::open(&runtime, path, &options),
                        Place::Memory(bytes) => Encoder::from_bytes(&runtime, bytes, &options),
                        Place::Read(..) => unreachable!("taken above"),
                    }
                }
            }?;
            place.set(byol_encoder { id: handle::open(encoder)? });
            Ok(())
        })
    }
}

/// Tells what an encoder is.
///
/// Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_encoder_get_info(
    encoder: byol_encoder,
    info: *mut byol_encoder_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            let encoder = of(encoder)?;
            report.set(describe(&encoder));
            Ok(())
        })
    }
}

/// Writes the value of a key of the model file's metadata, such as "byol.input.size". Texts are given as by
/// byol_build_info.
///
/// Ownership: `buffer` is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, NOT_FOUND, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_encoder_get_metadata(
    encoder: byol_encoder,
    key: *const c_char,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let key = pointer::text(key, "key")?;
            let encoder = of(encoder)?;
            let value = encoder.metadata().get(key).ok_or_else(|| {
                Fault::new(BYOL_E_NOT_FOUND, format_args!("{}: no metadata {key:?}", encoder.path().display()))
            })?;
            pointer::give_text(value, buffer, capacity, needed)
        })
    }
}

/// Writes the name of the `index`-th key of the model file's metadata, in alphabetical order; NOT_FOUND behind the last.
///
/// Ownership: `buffer` is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_encoder_get_metadata_key(
    encoder: byol_encoder,
    index: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let encoder = of(encoder)?;
            let keys = encoder.metadata();
            let key = keys
                .keys()
                .nth(index)
                .ok_or_else(|| Fault::new(BYOL_E_NOT_FOUND, format_args!("Metadata key {index} of {}", keys.len())))?;
            pointer::give_text(key, buffer, capacity, needed)
        })
    }
}

/// Closes an encoder. Calls that use it finish; its memory goes with the last of them. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_encoder_close(encoder: byol_encoder, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Encoder>(encoder.id)) }
}

/// What a handle stands for.
pub(crate) fn of(encoder: byol_encoder) -> Result<Arc<Encoder>> {
    handle::get(encoder.id)
}

/// More sessions than any machine has use for; each holds the whole model.
const MOST_SESSIONS: u32 = 256;

unsafe fn read_options(options: *const byol_encoder_options) -> Result<EncoderOptions> {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        let options = pointer::options(options, "options")?;
        if options.sessions > MOST_SESSIONS {
            return Err(Fault::argument(format_args!(
                "options.sessions is {}; at most {MOST_SESSIONS}",
                options.sessions
            )));
        }
        let default = EncoderOptions::default();
        let or = |value, default| if value == 0 { default } else { value };
        let contract = match options.contract.is_null() {
            true => None,
            false => Some(read_contract(&pointer::read(options.contract, "options.contract")?)?),
        };
        Ok(EncoderOptions {
            sessions: options.sessions as usize,
            contract,
            expected_sha256: None,
            output: pointer::text_or_null(options.output, "options.output")?.map(str::to_owned),
            max_model_bytes: or(options.max_model_bytes, default.max_model_bytes),
            limits: Limits {
                max_pixels: or(options.max_image_pixels, default.limits.max_pixels),
                max_file_bytes: or(options.max_image_bytes, default.limits.max_file_bytes),
            },
            ..default
        })
    }
}

fn read_contract(contract: &byol_contract) -> Result<InputContract> {
    let channels = contract.channels as usize;
    if !(1..=4).contains(&channels) || contract.flags != 0 {
        let (channels, flags) = (contract.channels, contract.flags);
        return Err(Fault::argument(format_args!("contract: channels {channels} (1 to 4), flags {flags:#x} (0)")));
    }
    let contract = InputContract {
        channels,
        height: contract.height as usize,
        width: contract.width as usize,
        resize: match contract.resize {
            BYOL_RESIZE_STRETCH => Resize::Stretch,
            BYOL_RESIZE_SHORT_SIDE => Resize::ShortSide(contract.resize_size as usize),
            other => return Err(Fault::argument(format_args!("contract.resize is {other}, no BYOL_RESIZE_*"))),
        },
        filter: match contract.filter {
            BYOL_FILTER_BILINEAR => Filter::Bilinear,
            BYOL_FILTER_BICUBIC => Filter::Bicubic,
            other => return Err(Fault::argument(format_args!("contract.filter is {other}, no BYOL_FILTER_*"))),
        },
        mean: contract.mean[..channels].to_vec(),
        std: contract.deviation[..channels].to_vec(),
    };
    contract.validate()?;
    Ok(contract)
}

fn describe(encoder: &Encoder) -> byol_encoder_info {
    let contract = encoder.contract();
    let four = |values: &[f32]| std::array::from_fn(|channel| values.get(channel).copied().unwrap_or(0.0));
    let (resize, resize_size) = match contract.resize {
        Resize::Stretch => (BYOL_RESIZE_STRETCH, 0),
        Resize::ShortSide(size) => (BYOL_RESIZE_SHORT_SIDE, size as u32),
    };
    byol_encoder_info {
        struct_size: 0,
        dimension: encoder.dimension() as u32,
        sessions: encoder.sessions() as u32,
        threads: encoder.runtime().threads() as u32,
        channels: contract.channels as u32,
        height: contract.height as u32,
        width: contract.width as u32,
        resize,
        resize_size,
        filter: match contract.filter {
            Filter::Bilinear => BYOL_FILTER_BILINEAR,
            Filter::Bicubic => BYOL_FILTER_BICUBIC,
        },
        mean: four(&contract.mean),
        deviation: four(&contract.std),
        sha256: fill(encoder.sha256()),
    }
}
