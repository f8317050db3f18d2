//! A container of features: rows with labels and names, kept in files, searched by similarity.

use std::ffi::c_char;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use byol_serve::features::Features;
use byol_serve::knn;
use ndarray::{Array2, ArrayViewMut2};

use crate::encoder::{self, byol_encoder};
use crate::extract::span;
use crate::fit::check_classes;
use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_FEATURES, Object};
use crate::head::{matrix, table, table_or_null};
use crate::memory;
use crate::pointer::{self, Versioned, fill};
use crate::status::*;

/// Rows of features with what is known about each.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_features {
    /// 0 for none.
    pub id: u64,
}

/// What a handle stands for. Calls that read share it, calls that change it wait for them.
pub(crate) struct Container(RwLock<Features>);

impl Object for Container {
    const KIND: u32 = BYOL_KIND_FEATURES;
    const NAME: &'static str = "byol_features";
}

impl Container {
    pub(crate) fn new(features: Features) -> Self {
        Self(RwLock::new(features))
    }

    pub(crate) fn read(&self) -> RwLockReadGuard<'_, Features> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Features> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a container holds. Set struct_size (BYOL_FEATURES_INFO_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_features_info {
    /// sizeof(byol_features_info).
    pub struct_size: u32,
    /// Features per row.
    pub dimension: u32,
    /// Number of rows.
    pub rows: u64,
    /// Number of classes that have names.
    pub classes: u32,
    /// 1 when the rows have labels, else 0.
    pub has_labels: u32,
    /// 1 when the rows have names, else 0.
    pub has_names: u32,
    /// 1 when encoder_sha256 is known, else 0.
    pub has_encoder: u32,
    /// SHA-256 of the file of the encoder that made the features, hexadecimal, NUL-terminated; empty if it is not known.
    pub encoder_sha256: [c_char; 72],
}

impl Default for byol_features_info {
    fn default() -> Self {
        Self {
            struct_size: 0,
            dimension: 0,
            rows: 0,
            classes: 0,
            has_labels: 0,
            has_names: 0,
            has_encoder: 0,
            encoder_sha256: [0; 72],
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_features_info {
    const NAME: &'static str = "byol_features_info";
    const MINIMUM: usize = 104;
}

/// Sets `size` bytes at `info`, which is sizeof(byol_features_info) in the caller's header, to what
/// BYOL_FEATURES_INFO_INIT is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_features_info_init(info: *mut byol_features_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Makes an empty container for features of `encoder`, or, where that is `{0}`, of `dimension` numbers each. With an
/// encoder, `dimension` is 0 or the encoder's.
///
/// Ownership: close the handle with byol_features_close at any time. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_create(
    encoder: byol_encoder,
    dimension: u32,
    features: *mut byol_features,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(features, "features")?;
            let (dimension, encoder) = origin(encoder, dimension)?;
            let empty = Features { values: Array2::zeros((0, dimension)), encoder, ..Features::default() };
            place.set(byol_features { id: handle::open(Container::new(empty))? });
            Ok(())
        })
    }
}

/// Adds rows behind the last: `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), their `labels`
/// (NULL for none) and their `names` (NULL for none): the paths of their pictures, say. Either all rows of a container
/// have labels, or none has; so for names. All are added or none.
///
/// Ownership: all memory is the caller's and only used during the call: everything is copied. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL (missing), NON_FINITE (item_index: the row), LIMIT, NO_MEMORY.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_append(
    features: byol_features,
    values: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    names: *const *const c_char,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            let values = matrix(values, rows, columns, row_stride)?;
            let labels = pointer::slice_or_null(labels, rows, "labels")?;
            let names: Option<Vec<String>> = match names.is_null() {
                true => None,
                false => Some(pointer::texts(names, rows, "names")?.into_iter().map(str::to_owned).collect()),
            };
            memory::allow(values.len().saturating_mul(4), "the features")?;
            Ok(container.write().append(values, labels, names.as_deref())?)
        })
    }
}

/// Names the classes that labels count, in place of what they were called before; 0 names for none.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, LABEL (a label has no name; item_index: its row). @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_set_classes(
    features: byol_features,
    class_names: *const *const c_char,
    classes: u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            check_classes(classes)?;
            let names = pointer::texts(class_names, classes as usize, "class_names")?;
            let names: Vec<String> = names.into_iter().map(str::to_owned).collect();
            Ok(container.write().set_classes(names)?)
        })
    }
}

/// Tells what a container holds.
///
/// Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_get_info(
    features: byol_features,
    info: *mut byol_features_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            let container = of(features)?;
            let features = container.read();
            report.set(byol_features_info {
                struct_size: 0,
                dimension: features.dimensions() as u32,
                rows: features.len() as u64,
                classes: features.classes.as_ref().map_or(0, |classes| classes.len() as u32),
                has_labels: u32::from(features.labels.is_some()),
                has_names: u32::from(features.names.is_some()),
                has_encoder: u32::from(features.encoder.is_some()),
                encoder_sha256: fill(features.encoder.as_deref().unwrap_or("")),
            });
            Ok(())
        })
    }
}

/// Copies `rows` rows from row `first` on: their features into `values`, `row_stride` floats apart (0 for the dimension),
/// of which `values_len` are there, and their labels into `labels`. One of the two may be NULL. There is no pointer
/// into a container, so that nothing can be used after it is gone.
///
/// Ownership: all memory is the caller's. Threads: any.
/// Errors: NULL_POINTER (both), HANDLE, NOT_FOUND (no such rows), LABEL (there are none), SHAPE, BUFFER_TOO_SMALL.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_get_rows(
    features: byol_features,
    first: usize,
    rows: usize,
    values: *mut f32,
    row_stride: usize,
    values_len: usize,
    labels: *mut u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            if values.is_null() && labels.is_null() {
                return Err(Fault::null("values and labels"));
            }
            let container = of(features)?;
            let features = container.read();
            let end = first.checked_add(rows).filter(|&end| end <= features.len());
            let Some(end) = end else {
                let found = features.len();
                return Err(Fault::new(BYOL_E_NOT_FOUND, format_args!("{rows} rows from {first} on, of {found}")));
            };
            let labels = match pointer::slice_mut_or_null(labels, rows, "labels")? {
                Some(out) => Some((out, &features.labels()?[first..end])),
                None => None,
            };
            if !values.is_null() {
                let columns = features.dimensions();
                let stride = if row_stride == 0 { columns } else { row_stride };
                let used = span(rows, columns, stride)?;
                if values_len < used {
                    return Err(Fault::new(
                        BYOL_E_BUFFER_TOO_SMALL,
                        format_args!("values_len is {values_len} floats, {used} are needed"),
                    ));
                }
                let out = pointer::slice_mut(values, used, "values")?;
                for (out, row) in out.chunks_mut(stride).zip(first..end) {
                    out.iter_mut().zip(features.values.row(row)).for_each(|(out, &value)| *out = value);
                }
            }
            if let Some((out, labels)) = labels {
                out.copy_from_slice(labels);
            }
            Ok(())
        })
    }
}

/// Writes the name of a row. Texts are given as by byol_build_info.
///
/// Ownership: `buffer` is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such row, or rows have no names), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_get_name(
    features: byol_features,
    row: usize,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            let features = container.read();
            let names = features.names.as_deref().unwrap_or_default();
            pointer::give_listed(names, row, "Name", buffer, capacity, needed)
        })
    }
}

/// Writes the name of a class, counted from 0. Texts are given as by byol_build_info.
///
/// Ownership: `buffer` is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_get_class(
    features: byol_features,
    class_index: u32,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            let features = container.read();
            let names = features.classes.as_deref().unwrap_or_default();
            pointer::give_listed(names, class_index as usize, "Class", buffer, capacity, needed)
        })
    }
}

/// Writes a container to a file, whole or not at all: ".safetensors" takes everything, ".npy" the features alone.
///
/// Ownership: `path` is only read during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, CORRUPT (another extension), NOT_FOUND (of the folder), IO. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_save(
    features: byol_features,
    path: *const c_char,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let path = pointer::path(path, "path")?;
            let container = of(features)?;
            Ok(container.read().save(path)?)
        })
    }
}

/// Reads a container from a file that byol_features_save or the command wrote, or any two-dimensional ".npy" of numbers,
/// and checks every part of it.
///
/// Ownership: close the handle with byol_features_close at any time. Threads: any.
/// Errors: NULL_POINTER, INVALID_ARG, NOT_FOUND, IO, CORRUPT, NEWER_FORMAT. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_load(
    path: *const c_char,
    features: *mut byol_features,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(features, "features")?;
            let loaded = Features::load(pointer::text(path, "path")?)?;
            place.set(byol_features { id: handle::open(Container::new(loaded))? });
            Ok(())
        })
    }
}

/// Computes the cosine of each of `query_rows` queries with every row of the container: [query_rows, rows] values without
/// gaps into `similarities`, of which `similarities_len` are there. A row of zeros has cosine 0 with everything.
///
/// Ownership: all memory is the caller's and only used during the call; similarities must not overlap queries.
/// Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, DATA (the container is empty), NON_FINITE, BUFFER_TOO_SMALL.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_similarity(
    features: byol_features,
    queries: *const f32,
    query_rows: usize,
    columns: usize,
    query_stride: usize,
    similarities: *mut f32,
    similarities_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            let queries = matrix(queries, query_rows, columns, query_stride)?;
            let features = container.read();
            let shape = (query_rows, features.len());
            let out = table(similarities, query_rows, features.len(), similarities_len, "similarities")?;
            let out = ArrayViewMut2::from_shape(shape, out).map_err(Fault::argument)?;
            Ok(knn::similarity(features.values.view(), queries, out)?)
        })
    }
}

/// Finds the `k` rows of the container with the largest cosine to each of `query_rows` queries, nearest first, the lower
/// row first in a tie. `nearest` gets their numbers and `similarities` their cosines, [query_rows, k] values each without
/// gaps, of which `nearest_len` and `similarities_len` are there. One of the two may be NULL.
///
/// Ownership: all memory is the caller's and only used during the call; outputs must not overlap queries. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG (k is not 1 to the number of rows), SHAPE, DATA (the container is empty),
/// NON_FINITE, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_features_nearest(
    features: byol_features,
    queries: *const f32,
    query_rows: usize,
    columns: usize,
    query_stride: usize,
    k: u32,
    nearest: *mut u32,
    nearest_len: usize,
    similarities: *mut f32,
    similarities_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let container = of(features)?;
            let queries = matrix(queries, query_rows, columns, query_stride)?;
            if nearest.is_null() && similarities.is_null() {
                return Err(Fault::null("nearest and similarities"));
            }
            let features = container.read();
            let (rows, wanted) = (features.len(), k as usize);
            if rows > 0 && !(1..=rows).contains(&wanted) {
                return Err(Fault::argument(format_args!("k is {k}, not 1 to the {rows} rows")));
            }
            let nearest = table_or_null(nearest, query_rows, wanted, nearest_len, "nearest")?;
            let similarities = table_or_null(similarities, query_rows, wanted, similarities_len, "similarities")?;
            let (indices, cosines) = knn::neighbours(features.values.view(), queries, wanted)?;
            if let Some(out) = nearest {
                out.iter_mut().zip(&indices).for_each(|(out, &row)| *out = row);
            }
            if let Some(out) = similarities {
                out.iter_mut().zip(&cosines).for_each(|(out, &cosine)| *out = cosine);
            }
            Ok(())
        })
    }
}

/// Closes a container. Calls that use it finish. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_features_close(features: byol_features, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Container>(features.id)) }
}

/// What a handle stands for.
pub(crate) fn of(features: byol_features) -> Result<Arc<Container>> {
    handle::get(features.id)
}

/// Dimension and SHA-256 of an encoder, or a dimension alone.
pub(crate) fn origin(encoder: byol_encoder, dimension: u32) -> Result<(usize, Option<String>)> {
    if encoder.id == 0 {
        if dimension == 0 {
            return Err(Fault::argument("dimension is 0 and there is no encoder to have one"));
        }
        return Ok((dimension as usize, None));
    }
    let encoder = encoder::of(encoder)?;
    let (expected, found) = (encoder.dimension(), dimension as usize);
    if dimension != 0 && found != expected {
        return Err(byol_serve::Error::DimensionMismatch { what: "dimension of the encoder", expected, found }.into());
    }
    Ok((expected, Some(encoder.sha256().to_owned())))
}
