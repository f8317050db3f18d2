//! Heads: linear classifiers of features, from a fit, a file or memory.

use std::ffi::c_char;
use std::sync::Arc;

use byol_serve::head::Head;
use ndarray::{ArrayView2, ShapeBuilder};

use crate::cancel::byol_cancel;
use crate::encoder::{self, byol_encoder};
use crate::extract::{self, Staged, byol_extract_options, span};
use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_HEAD, Object};
use crate::image::{self, byol_image};
use crate::packed::check_finite;
use crate::pointer::{self, Versioned, fill};
use crate::status::*;

/// A linear classifier of features.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_head {
    /// 0 for none.
    pub id: u64,
}

impl Object for Head {
    const KIND: u32 = BYOL_KIND_HEAD;
    const NAME: &'static str = "byol_head";
}

/// What a head is. Set struct_size (BYOL_HEAD_INFO_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_head_info {
    /// sizeof(byol_head_info).
    pub struct_size: u32,
    /// Number of classes.
    pub classes: u32,
    /// Features per picture that it takes.
    pub dimension: u32,
    /// 1 when its fit met the tolerance, else 0.
    pub converged: u32,
    /// Examples that it was fitted on; 0 if it is not known.
    pub examples: u64,
    /// Penalty that it was fitted with; 0 if it is not known.
    pub l2: f64,
    /// SHA-256 of the file of the encoder whose features it takes, hexadecimal, NUL-terminated; empty if it is not known.
    pub encoder_sha256: [c_char; 72],
    /// What the scores were divided by, by byol_head_calibrate; 1 where they were not.
    pub temperature: f64,
}

impl Default for byol_head_info {
    fn default() -> Self {
        Self {
            struct_size: 0,
            classes: 0,
            dimension: 0,
            converged: 0,
            examples: 0,
            l2: 0.0,
            encoder_sha256: [0; 72],
            temperature: 0.0,
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_head_info {
    const NAME: &'static str = "byol_head_info";
    const MINIMUM: usize = 104;
}

/// Sets `size` bytes at `info`, which is sizeof(byol_head_info) in the caller's header, to what BYOL_HEAD_INFO_INIT is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_head_info_init(info: *mut byol_head_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Reads a head from a file (safetensors), whose path is in UTF-8, and checks every part of it.
///
/// Ownership: close the handle with byol_head_close at any time. Threads: any.
/// Errors: NULL_POINTER, INVALID_ARG, NOT_FOUND, IO, LIMIT, CORRUPT, NEWER_FORMAT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_load(
    path: *const c_char,
    head: *mut byol_head,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(head, "head")?;
            let loaded = Head::load(pointer::text(path, "path")?)?;
            place.set(byol_head { id: handle::open(loaded)? });
            Ok(())
        })
    }
}

/// Reads a head from the bytes of its file, as byol_head_load does.
///
/// Ownership: `data` is only read during the call; close the handle with byol_head_close. Threads: any.
/// Errors: NULL_POINTER, CORRUPT, NEWER_FORMAT. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_load_bytes(
    data: *const u8,
    data_len: usize,
    head: *mut byol_head,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(head, "head")?;
            if data.is_null() {
                return Err(Fault::null("data"));
            }
            let loaded = Head::from_bytes(pointer::slice(data, data_len, "data")?)?;
            place.set(byol_head { id: handle::open(loaded)? });
            Ok(())
        })
    }
}

/// Writes a head to a file, whole or not at all.
///
/// Ownership: `path` is only read during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, NOT_FOUND (of the folder), IO. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_save(head: byol_head, path: *const c_char, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let path = pointer::path(path, "path")?;
            Ok(of(head)?.save(path)?)
        })
    }
}

/// Writes a head into memory, as the bytes of its file. `*needed` (may be NULL) becomes their number; `buffer` NULL with
/// `capacity` 0 only asks for that; a short buffer is left alone.
///
/// Ownership: `buffer` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_save_bytes(
    head: byol_head,
    buffer: *mut u8,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe { guard(error, || pointer::give_bytes(&of(head)?.to_bytes()?, buffer, capacity, needed)) }
}

/// Tells what a head is.
///
/// Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_get_info(
    head: byol_head,
    info: *mut byol_head_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            let head = of(head)?;
            let training = head.training.as_ref();
            report.set(byol_head_info {
                struct_size: 0,
                classes: head.classes() as u32,
                dimension: head.dimensions() as u32,
                converged: u32::from(training.is_some_and(|training| training.fit.converged)),
                examples: training.map_or(0, |training| training.examples as u64),
                l2: training.map_or(0.0, |training| training.fit.l2),
                encoder_sha256: fill(head.encoder_sha256.as_deref().unwrap_or("")),
                temperature: head.temperature.unwrap_or(1.0),
            });
            Ok(())
        })
    }
}

/// Writes the name of a class, counted from 0. Texts are given as by byol_build_info.
///
/// Ownership: `buffer` is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_get_label(
    head: byol_head,
    class_index: u32,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let head = of(head)?;
            pointer::give_listed(&head.labels, class_index as usize, "Class", buffer, capacity, needed)
        })
    }
}

/// Succeeds when a head belongs to an encoder: it takes features of that length, and was fitted on those of that very
/// file (a head that does not know its encoder passes). byol_head_classify checks it by itself.
///
/// Ownership: nothing changes hands. Threads: any. Errors: HANDLE, WRONG_ENCODER, SHAPE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_check(
    head: byol_head,
    encoder: byol_encoder,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe {
        guard(error, || {
            let (head, encoder) = (of(head)?, encoder::of(encoder)?);
            check(&head, &encoder)
        })
    }
}

/// Predicts the classes of `rows` rows of `columns` features, `row_stride` floats apart (0 for columns).
///
/// `labels` gets the most probable class of each row, the lower number in a tie; `probabilities` gets
/// [rows, classes] values without gaps, each row summing to 1, and `probabilities_len` is the number of floats there.
/// One of the two may be NULL.
///
/// Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_predict(
    head: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *mut u32,
    probabilities: *mut f32,
    probabilities_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let head = of(head)?;
            let features = matrix(features, rows, columns, row_stride)?;
            let out = Predictions::read(&head, rows, labels, probabilities, probabilities_len)?;
            check_rows(&head, features)?;
            out.write(&head, features, None)
        })
    }
}

/// Computes a head's scores before they become probabilities: features times weights plus bias, as [rows, classes]
/// without gaps. Otherwise as byol_head_predict.
///
/// Ownership: all memory is the caller's and only used during the call; logits must not overlap features. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_logits(
    head: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    logits: *mut f32,
    logits_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let head = of(head)?;
            let features = matrix(features, rows, columns, row_stride)?;
            let logits = table(logits, rows, head.classes(), logits_len, "logits")?;
            check_rows(&head, features)?;
            for (first, chunk) in chunks(features, head.classes()) {
                let scores = head.logits(chunk)?;
                copy(logits, first * head.classes(), scores.iter().copied());
            }
            Ok(())
        })
    }
}

/// Extracts and predicts in one call: byol_extract, then byol_head_predict, after byol_head_check. A picture that
/// `item_status` refuses leaves its label and probabilities alone.
///
/// Ownership: all memory is the caller's and only used during the call; outputs must not overlap the pictures.
/// Threads: any.
/// Errors: those of byol_extract, byol_head_predict and byol_head_check. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_classify(
    head: byol_head,
    encoder: byol_encoder,
    images: *const byol_image,
    count: usize,
    options: *const byol_extract_options,
    labels: *mut u32,
    probabilities: *mut f32,
    probabilities_len: usize,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let (head, encoder) = (of(head)?, encoder::of(encoder)?);
            check(&head, &encoder)?;
            let images = pointer::structs(images, count, "images")?;
            extract::read_plain_options(options)?;
            let out = Predictions::read(&head, count, labels, probabilities, probabilities_len)?;
            let mut staged = Staged::new(&encoder, count, item_status, token)?;
            extract::extract_views(&encoder, &image::views(&images)?, &mut staged.rows())?;
            let shape = (count, encoder.dimension());
            let view = ArrayView2::from_shape(shape, &staged.features).map_err(Fault::argument)?;
            check_rows(&head, view)?;
            out.write(&head, view, staged.status.as_deref())
        })
    }
}

/// Closes a head. Calls that use it finish. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_head_close(head: byol_head, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Head>(head.id)) }
}

/// What a handle stands for.
pub(crate) fn of(head: byol_head) -> Result<Arc<Head>> {
    handle::get(head.id)
}

/// The caller's features, where they are.
pub(crate) unsafe fn matrix<'a>(
    features: *const f32,
    rows: usize,
    columns: usize,
    stride: usize,
) -> Result<ArrayView2<'a, f32>> {
    let stride = if stride == 0 { columns } else { stride };
    let length = span(rows, columns, stride)?;
    // SAFETY: the caller's pointer, checked.
    let values = unsafe { pointer::slice(features, length, "features") }?;
    // Strides mean nothing to an empty view, but are checked there.
    let strides = if length == 0 { (0, 0) } else { (stride, 1) };
    let view = ArrayView2::from_shape((rows, columns).strides(strides), values);
    view.map_err(|why| Fault::argument(format_args!("{rows} x {columns} features, {stride} apart: {why}")))
}

/// A caller's buffer for `[rows, columns]` values.
pub(crate) unsafe fn table<'a, T: Copy>(
    pointer: *mut T,
    rows: usize,
    columns: usize,
    length: usize,
    name: &str,
) -> Result<&'a mut [T]> {
    let needed = span(rows, columns, columns)?;
    if length < needed {
        return Err(Fault::new(
            BYOL_E_BUFFER_TOO_SMALL,
            format_args!("{name} holds {length} values, {needed} are needed"),
        ));
    }
    // SAFETY: the caller's pointer, checked.
    unsafe { pointer::slice_mut(pointer, needed, name) }
}

/// Like [`table`], with NULL for none.
pub(crate) unsafe fn table_or_null<'a, T: Copy>(
    pointer: *mut T,
    rows: usize,
    columns: usize,
    length: usize,
    name: &str,
) -> Result<Option<&'a mut [T]>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the same promise.
    unsafe { table(pointer, rows, columns, length, name) }.map(Some)
}

/// The SHA-256 of an encoder that is to have features of so many columns, where one is given.
pub(crate) fn origin(encoder: byol_encoder, columns: usize) -> Result<Option<String>> {
    if encoder.id == 0 {
        return Ok(None);
    }
    let encoder = encoder::of(encoder)?;
    if encoder.dimension() != columns {
        let (what, expected) = ("columns, for features of this encoder", encoder.dimension());
        return Err(byol_serve::Error::DimensionMismatch { what, expected, found: columns }.into());
    }
    Ok(Some(encoder.sha256().to_owned()))
}

/// Where predictions go.
struct Predictions<'a> {
    labels: Option<&'a mut [u32]>,
    probabilities: Option<&'a mut [f32]>,
}

impl Predictions<'_> {
    unsafe fn read(head: &Head, rows: usize, labels: *mut u32, probabilities: *mut f32, length: usize) -> Result<Self> {
        if labels.is_null() && probabilities.is_null() {
            return Err(Fault::null("labels and probabilities"));
        }
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let labels = pointer::slice_mut_or_null(labels, rows, "labels")?;
            let probabilities = table_or_null(probabilities, rows, head.classes(), length, "probabilities")?;
            Ok(Self { labels, probabilities })
        }
    }

    /// Writes the predictions of all rows but those that were refused.
    fn write(mut self, head: &Head, features: ArrayView2<f32>, status: Option<&[byol_status]>) -> Result<()> {
        for (first, chunk) in chunks(features, head.classes()) {
            let probabilities = head.probabilities(chunk)?;
            for (row, probabilities) in (first..).zip(probabilities.outer_iter()) {
                if status.is_some_and(|status| status[row] != BYOL_OK) {
                    continue;
                }
                if let Some(labels) = &mut self.labels {
                    let p = &probabilities;
                    labels[row] =
                        (1..p.len()).fold(0, |best, class| if p[class] > p[best] { class } else { best }) as u32;
                }
                if let Some(out) = &mut self.probabilities {
                    copy(out, row * head.classes(), probabilities.iter().copied());
                }
            }
        }
        Ok(())
    }
}

/// Everything that can be wrong with the features, before anything is written.
pub(crate) fn check_rows(head: &Head, features: ArrayView2<f32>) -> Result<()> {
    if features.ncols() != head.dimensions() {
        let (expected, found) = (head.dimensions(), features.ncols());
        let what = "features per row of this head";
        return Err(byol_serve::Error::DimensionMismatch { what, expected, found }.into());
    }
    check_finite(features)
}

fn check(head: &Head, encoder: &byol_serve::encoder::Encoder) -> Result<()> {
    head.check_encoder(encoder.sha256())?;
    if head.dimensions() != encoder.dimension() {
        let (expected, found) = (head.dimensions(), encoder.dimension());
        return Err(byol_serve::Error::DimensionMismatch { what: "features of the encoder", expected, found }.into());
    }
    Ok(())
}

/// Rows in pieces whose scores take at most 256 KiB, or one row's, whatever the caller's number of rows; each with the
/// number of its first row.
pub(crate) fn chunks(features: ArrayView2<f32>, classes: usize) -> impl Iterator<Item = (usize, ArrayView2<f32>)> {
    const SCORES: usize = 1 << 16;
    let rows = features.nrows();
    let step = (SCORES / classes.max(1)).clamp(1, 1024);
    (0..rows).step_by(step).map(move |first| {
        let end = (first + step).min(rows);
        (first, features.slice_move(ndarray::s![first..end, ..]))
    })
}

fn copy(to: &mut [f32], at: usize, values: impl Iterator<Item = f32>) {
    for (to, value) in to[at..].iter_mut().zip(values) {
        *to = value;
    }
}
