//! Pictures in, features out.

use std::ffi::{c_char, c_void};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use byol_model::picture::PictureView;
use byol_serve::cancel::Cancel;
use byol_serve::encoder::{Encoder, InputTensor};

use crate::cancel::{self, byol_cancel};
use crate::encoder::{self, byol_encoder};
use crate::guard::guard;
use crate::image::{byol_image, views};
use crate::log;
use crate::model::{BYOL_TENSOR_F32, BYOL_TENSOR_U8};
use crate::packed::{BYOL_ELEMENT_F32, Packing};
use crate::pointer::{self, Versioned};
use crate::status::*;

/// How to extract. Start with BYOL_EXTRACT_OPTIONS_INIT.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_extract_options {
    /// sizeof(byol_extract_options).
    pub struct_size: u32,
    /// Must be 0.
    pub flags: u32,
    /// BYOL_ELEMENT_*: other than BYOL_ELEMENT_F32 (0), the features go to packed, without gaps between rows, and not to
    /// the call's features, which may then be NULL with any row_stride and features_len.
    pub element: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Where packed features go, or NULL.
    pub packed: *mut c_void,
    /// Bytes at packed.
    pub packed_len: usize,
    /// Gets one float per row with BYOL_ELEMENT_I8, or NULL.
    pub scales: *mut f32,
}

impl Default for byol_extract_options {
    fn default() -> Self {
        let (packed, scales) = (std::ptr::null_mut(), std::ptr::null_mut());
        Self { struct_size: 0, flags: 0, element: 0, reserved: 0, packed, packed_len: 0, scales }
    }
}

// SAFETY: repr(C), struct_size first, no padding, integers and pointers only.
unsafe impl Versioned for byol_extract_options {
    const NAME: &'static str = "byol_extract_options";
    const MINIMUM: usize = 8;
}

/// Sets `size` bytes at `options`, which is sizeof(byol_extract_options) in the caller's header, to what
/// BYOL_EXTRACT_OPTIONS_INIT is.
///
/// Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_extract_options_init(options: *mut byol_extract_options, size: usize) {
    // SAFETY: the caller owns `size` bytes at `options`.
    unsafe { pointer::init(options, size) };
}

/// Computes the features of `count` pictures: those of picture i go to features[i * row_stride] and behind it, as many
/// as the encoder's dimension. What lies between the rows is left alone. They do not depend on what else is in the call.
///
/// `row_stride` and `features_len` count floats; row_stride 0 is the dimension. `options` may be NULL, `token` `{0}`.
/// With `item_status` (one for each picture), a bad picture gets its status there, its row is left alone, the others
/// go on and the call succeeds; the log sink hears why. Without (NULL), the first bad picture fails the call and is
/// named in error.item_index. options.element asks for float16 or int8 in place of float.
///
/// Ownership: all memory is the caller's and only used during the call; features must not overlap the pictures.
/// Threads: any; more calls at once than the encoder has sessions wait for each other.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, IMAGE_DECODE, LIMIT, NON_FINITE, NO_MEMORY, RUNTIME,
/// CANCELLED, DEADLINE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_extract(
    encoder: byol_encoder,
    images: *const byol_image,
    count: usize,
    options: *const byol_extract_options,
    features: *mut f32,
    row_stride: usize,
    features_len: usize,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let encoder = encoder::of(encoder)?;
            let images = pointer::structs(images, count, "images")?;
            let out = Out { options: read_options(options)?, features, row_stride, features_len, item_status };
            out.fill(&encoder, count, token, |rows| extract_views(&encoder, &views(&images)?, rows))
        })
    }
}

/// Computes the features of `count` encoded pictures (JPEG, PNG, WebP, BMP, GIF, TIFF), each the bytes of one file.
/// Otherwise as byol_extract; EXIF orientation is obeyed.
///
/// Ownership: all memory is the caller's and only used during the call; features must not overlap the pictures.
/// Threads: any.
/// Errors: those of byol_extract. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_extract_encoded(
    encoder: byol_encoder,
    data: *const *const u8,
    lengths: *const usize,
    count: usize,
    options: *const byol_extract_options,
    features: *mut f32,
    row_stride: usize,
    features_len: usize,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let encoder = encoder::of(encoder)?;
            let pictures = pointer::buffers(data, lengths, count)?;
            let out = Out { options: read_options(options)?, features, row_stride, features_len, item_status };
            out.fill(&encoder, count, token, |rows| {
                rows.run(|out, stride, items, cancel| encoder.extract_encoded(&pictures, out, stride, items, cancel))
            })
        })
    }
}

/// Computes the features of `count` picture files, whose paths are in UTF-8. Otherwise as byol_extract_encoded.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: those of byol_extract, NOT_FOUND, IO. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_extract_files(
    encoder: byol_encoder,
    paths: *const *const c_char,
    count: usize,
    options: *const byol_extract_options,
    features: *mut f32,
    row_stride: usize,
    features_len: usize,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let encoder = encoder::of(encoder)?;
            let paths: Vec<PathBuf> = pointer::texts(paths, count, "paths")?.into_iter().map(PathBuf::from).collect();
            let out = Out { options: read_options(options)?, features, row_stride, features_len, item_status };
            out.fill(&encoder, count, token, |rows| {
                rows.run(|out, stride, items, cancel| encoder.extract_files(&paths, out, stride, items, cancel))
            })
        })
    }
}

/// Computes the features of `count` pictures that already have the input's size, without gaps: with BYOL_TENSOR_U8
/// pixels as [count, height, width, channels], with BYOL_TENSOR_F32 normalised values as [count, channels, height,
/// width] for a model that takes those. `values_len` is their number of bytes. Otherwise as byol_extract.
///
/// Ownership: all memory is the caller's and only used during the call; features must not overlap values.
/// Threads: any.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, MODEL_UNSUPPORTED, NON_FINITE, NO_MEMORY, RUNTIME, CANCELLED,
/// DEADLINE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_extract_tensor(
    encoder: byol_encoder,
    values: *const c_void,
    values_len: usize,
    element: u32,
    count: usize,
    options: *const byol_extract_options,
    features: *mut f32,
    row_stride: usize,
    features_len: usize,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let encoder = encoder::of(encoder)?;
            let contract = encoder.contract();
            let (c, h, w) = (contract.channels, contract.height, contract.width);
            let tensor = match element {
                BYOL_TENSOR_U8 => InputTensor::U8 {
                    shape: [count, h, w, c],
                    data: pointer::slice(values.cast::<u8>(), values_len, "values")?,
                },
                BYOL_TENSOR_F32 if !values_len.is_multiple_of(4) => {
                    return Err(Fault::argument(format_args!("values_len {values_len} is no multiple of 4")));
                }
                BYOL_TENSOR_F32 => InputTensor::F32 {
                    shape: [count, c, h, w],
                    data: pointer::slice(values.cast::<f32>(), values_len / 4, "values")?,
                },
                other => return Err(Fault::argument(format_args!("element is {other}, not BYOL_TENSOR_U8 or _F32"))),
            };
            let item_status = std::ptr::null_mut();
            let out = Out { options: read_options(options)?, features, row_stride, features_len, item_status };
            out.fill(&encoder, count, token, |rows| {
                rows.run(|out, stride, _, cancel| encoder.extract_tensor(tensor, out, stride, cancel))
            })
        })
    }
}

/// Where the caller wants the features of a call.
pub(crate) struct Out {
    pub(crate) options: byol_extract_options,
    pub(crate) features: *mut f32,
    pub(crate) row_stride: usize,
    pub(crate) features_len: usize,
    pub(crate) item_status: *mut byol_status,
}

impl Out {
    /// Runs an extraction into the caller's memory.
    unsafe fn fill(
        self,
        encoder: &Encoder,
        count: usize,
        token: byol_cancel,
        extract: impl FnOnce(&mut Rows<'_>) -> Result<()>,
    ) -> Result<()> {
        let Self { options, features, row_stride, features_len, item_status } = self;
        // SAFETY: the caller's pointers, checked.
        unsafe {
            if options.element == BYOL_ELEMENT_F32 {
                let (length, status) = (features_len, item_status);
                return extract(&mut Rows::read(encoder, count, features, row_stride, length, status, token)?);
            }
            let dimension = encoder.dimension();
            let byol_extract_options { element, packed, packed_len, scales, .. } = options;
            let mut packing = Packing::read(element, packed, packed_len, scales, count, dimension)?;
            let mut rows = Staged::new(encoder, count, item_status, token)?;
            extract(&mut rows.rows())?;
            for (row, values) in rows.features.chunks_exact(dimension).enumerate() {
                if rows.status.as_ref().is_none_or(|status| status[row] == BYOL_OK) {
                    packing.put(row, values);
                }
            }
            Ok(())
        }
    }
}

/// Features that are ours until it is known what becomes of them.
pub(crate) struct Staged<'a> {
    /// `[pictures, dimension]`.
    pub(crate) features: Vec<f32>,
    pub(crate) status: Option<&'a mut [byol_status]>,
    dimension: usize,
    cancel: Cancel,
}

impl Staged<'_> {
    pub(crate) unsafe fn new(
        encoder: &Encoder,
        count: usize,
        item_status: *mut byol_status,
        token: byol_cancel,
    ) -> Result<Self> {
        let dimension = encoder.dimension();
        let length = span(count, dimension, dimension)?;
        PICTURES.fetch_add(count as u64, Ordering::Relaxed);
        let mut features: Vec<f32> = pointer::reserved(length, "the features")?;
        features.resize(length, 0.0);
        // SAFETY: the caller's pointer, checked.
        let status = unsafe { pointer::slice_mut_or_null(item_status, count, "item_status") }?;
        Ok(Self { features, status, dimension, cancel: cancel::of(token)? })
    }

    pub(crate) fn rows(&mut self) -> Rows<'_> {
        let (stride, cancel) = (self.dimension, self.cancel.clone());
        Rows { out: &mut self.features, stride, status: self.status.as_deref_mut(), cancel }
    }
}

/// Where the features of a call go, and what else decides how it runs.
pub(crate) struct Rows<'a> {
    pub(crate) out: &'a mut [f32],
    pub(crate) stride: usize,
    pub(crate) status: Option<&'a mut [byol_status]>,
    pub(crate) cancel: Cancel,
}

impl Rows<'_> {
    unsafe fn read(
        encoder: &Encoder,
        count: usize,
        features: *mut f32,
        stride: usize,
        length: usize,
        status: *mut byol_status,
        token: byol_cancel,
    ) -> Result<Self> {
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let stride = if stride == 0 { encoder.dimension() } else { stride };
            // Before the pointer: its length must be right even where it is NULL.
            let used = span(count, encoder.dimension(), stride)?;
            if length < used {
                return Err(Fault::new(
                    BYOL_E_BUFFER_TOO_SMALL,
                    format_args!("features_len is {length} floats, {used} are needed"),
                ));
            }
            PICTURES.fetch_add(count as u64, Ordering::Relaxed);
            Ok(Self {
                out: pointer::slice_mut(features, used, "features")?,
                stride,
                status: pointer::slice_mut_or_null(status, count, "item_status")?,
                cancel: cancel::of(token)?,
            })
        }
    }

    /// Runs an extraction that takes one outcome per item, or none.
    pub(crate) fn run(
        &mut self,
        extract: impl FnOnce(&mut [f32], usize, Option<&mut [byol_serve::Result<()>]>, &Cancel) -> byol_serve::Result<()>,
    ) -> Result<()> {
        let Some(status) = self.status.as_deref_mut() else {
            return Ok(extract(self.out, self.stride, None, &self.cancel)?);
        };
        let mut items: Vec<byol_serve::Result<()>> = pointer::reserved(status.len(), "the items")?;
        items.resize_with(status.len(), || Ok(()));
        extract(self.out, self.stride, Some(&mut items), &self.cancel)?;
        for (item, (status, outcome)) in status.iter_mut().zip(items).enumerate() {
            *status = outcome.map_or_else(|error| refused(item, error.into()), |()| BYOL_OK);
        }
        Ok(())
    }
}

/// Floats from the first of `count` rows to the end of the last.
pub(crate) fn span(count: usize, columns: usize, stride: usize) -> Result<usize> {
    if stride < columns {
        return Err(Fault::new(BYOL_E_SHAPE, format_args!("row_stride is {stride}, a row has {columns} values")));
    }
    let Some(last) = count.checked_sub(1) else { return Ok(0) };
    let span = last.checked_mul(stride).and_then(|start| start.checked_add(columns));
    span.ok_or_else(|| Fault::argument(format_args!("{count} rows of {stride} values are more than memory can hold")))
}

/// Features of pictures of which some may be unusable as they are.
pub(crate) fn extract_views(encoder: &Encoder, views: &[Result<PictureView<'_>>], rows: &mut Rows<'_>) -> Result<()> {
    let mut good = pointer::reserved(views.len(), "the pictures")?;
    good.extend(views.iter().filter_map(|view| view.as_ref().ok().copied()));
    if good.len() == views.len() {
        return rows.run(|out, stride, items, cancel| encoder.extract(&good, out, stride, items, cancel));
    }
    let bad =
        |item: usize, fault: &Fault| Fault { message: format!("Item {item}: {}", fault.message), ..*fault }.at(item);
    let Some(status) = rows.status.as_deref_mut() else {
        let first = views.iter().enumerate().find_map(|(item, view)| Some(bad(item, view.as_ref().err()?)));
        return first.map_or(Ok(()), Err);
    };
    // The good ones in one call, so that nothing is written unless all of it succeeds; then each to its own row.
    let dimension = encoder.dimension();
    let mut staged: Vec<f32> = pointer::reserved(good.len() * dimension, "the features")?;
    staged.resize(good.len() * dimension, 0.0);
    let mut statuses = vec![BYOL_OK; good.len()];
    Rows { out: &mut staged, stride: dimension, status: Some(&mut statuses), cancel: rows.cancel.clone() }
        .run(|out, stride, items, cancel| encoder.extract(&good, out, stride, items, cancel))?;
    let mut done = staged.chunks_exact(dimension).zip(statuses);
    for (item, (view, status)) in views.iter().zip(status).enumerate() {
        *status = match view {
            Err(fault) => refused(item, Fault { message: fault.message.clone(), ..*fault }),
            Ok(_) => {
                let Some((row, code)) = done.next() else { break };
                if code == BYOL_OK {
                    rows.out[item * rows.stride..][..dimension].copy_from_slice(row);
                }
                code
            }
        };
    }
    Ok(())
}

pub(crate) unsafe fn read_options(options: *const byol_extract_options) -> Result<byol_extract_options> {
    // SAFETY: the caller's pointer, checked.
    let options = unsafe { pointer::options(options, "options") }?;
    if options.flags != 0 || options.reserved != 0 {
        let (flags, reserved) = (options.flags, options.reserved);
        return Err(Fault::argument(format_args!("options: flags {flags:#x} and reserved {reserved:#x} must be 0")));
    }
    Ok(options)
}

/// As [`read_options`], for calls that use the features themselves.
pub(crate) unsafe fn read_plain_options(options: *const byol_extract_options) -> Result<()> {
    // SAFETY: the caller's pointer, checked.
    let options = unsafe { read_options(options) }?;
    if options.element != BYOL_ELEMENT_F32 {
        return Err(Fault::argument(format_args!(
            "options.element is {}; this call gives no features to pack",
            options.element
        )));
    }
    Ok(())
}

/// Pictures whose features were asked for.
static PICTURES: AtomicU64 = AtomicU64::new(0);

pub(crate) fn pictures() -> u64 {
    PICTURES.load(Ordering::Relaxed)
}

/// What the caller learns of a bad item is its status; the sentence goes to the log.
fn refused(item: usize, fault: Fault) -> byol_status {
    log::error(&format!("Item {item}: {}", fault.message));
    fault.code
}
