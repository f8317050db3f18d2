//! Trainers: examples that come and go, and the heads that are fitted to them.

use std::ffi::{c_char, c_void};
use std::ops::{ControlFlow, Range};
use std::path::PathBuf;
use std::sync::Arc;

use byol_serve::cancel::Cancel;
use byol_serve::encoder::Encoder;
use byol_serve::head::Head;
use byol_serve::path::PathPoint;
use byol_serve::solver::{FitOptions, Progress};
use byol_serve::trainer::{Judge, Search, Trainer};
use ndarray::ArrayView2;

use crate::cancel::{self, byol_cancel};
use crate::encoder::{self, byol_encoder};
use crate::extract::{Rows, Staged, extract_views};
use crate::features::{self, Container, byol_features};
use crate::fit::{byol_fit_callback, byol_fit_options, byol_fit_report, listen, read_options, teller, told};
use crate::guard::guard;
use crate::handle::{self, BYOL_KIND_TRAINER, Object};
use crate::head::{byol_head, matrix, table_or_null};
use crate::image::{byol_image, views};
use crate::memory;
use crate::pointer::{self, Place, Report, Versioned, fill};
use crate::status::*;

/// Examples with their classes, to be fitted again and again as they come and go. It holds features, not pictures.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_trainer {
    /// 0 for none.
    pub id: u64,
}

impl Object for Trainer {
    const KIND: u32 = BYOL_KIND_TRAINER;
    const NAME: &'static str = "byol_trainer";
}

/// What a trainer holds. Set struct_size (BYOL_TRAINER_INFO_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_trainer_info {
    /// sizeof(byol_trainer_info).
    pub struct_size: u32,
    /// Features per example.
    pub dimension: u32,
    /// Number of examples.
    pub examples: u64,
    /// Number of classes.
    pub classes: u32,
    /// 1 when it was fitted, so that byol_trainer_refit has a start, else 0.
    pub is_fitted: u32,
    /// SHA-256 of the file of the encoder whose features it takes, hexadecimal, NUL-terminated; empty if it is not known.
    pub encoder_sha256: [c_char; 72],
}

impl Default for byol_trainer_info {
    fn default() -> Self {
        Self { struct_size: 0, dimension: 0, examples: 0, classes: 0, is_fitted: 0, encoder_sha256: [0; 72] }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_trainer_info {
    const NAME: &'static str = "byol_trainer_info";
    const MINIMUM: usize = 96;
}

/// How to search for a penalty. Start with BYOL_SEARCH_OPTIONS_INIT, which sets the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_search_options {
    /// sizeof(byol_search_options).
    pub struct_size: u32,
    /// 0 (default) judges penalties on a share of the examples that is held out; 2 or more by cross-validation in so many
    /// folds, which takes that much longer and is surer with few examples.
    pub folds: u32,
    /// Without folds: ends once the loss has not fallen for so many penalties (default 3); 0 tries all of them.
    pub patience: u32,
    /// Must be 0.
    pub reserved: u32,
    /// Without folds: the share of every class that is held out, above 0 and at most 0.5 (default 0.2).
    pub held_out: f64,
    /// Decides which examples are held out.
    pub seed: u64,
    /// The penalties to try (as byol_fit_options.l2), in any order, or NULL for thirteen from 1 to 1e-6.
    pub penalties: *const f64,
    /// Number of penalties.
    pub penalties_len: usize,
}

/// Penalties that a search tries by itself.
pub const BYOL_SEARCH_PENALTIES: u32 = 13;

impl Default for byol_search_options {
    fn default() -> Self {
        let (held_out, penalties) = (0.2, std::ptr::null());
        Self { struct_size: 0, folds: 0, patience: 3, reserved: 0, held_out, seed: 0, penalties, penalties_len: 0 }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers and pointers only.
unsafe impl Versioned for byol_search_options {
    const NAME: &'static str = "byol_search_options";
    const MINIMUM: usize = 32 + 2 * size_of::<usize>();
}

/// Hears from a search after every penalty (with folds: after every penalty of every fold): the penalty, the share of
/// right examples among those held out, and their mean cross-entropy. Returns 0 to go on; anything else ends the search
/// with BYOL_E_CANCELLED. It runs on the thread that called for the search and must return (no exception, no longjmp).
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_search_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, l2: f64, accuracy: f64, log_loss: f64) -> i32>;

/// Sets `size` bytes at `info`, which is sizeof(byol_trainer_info) in the caller's header, to what
/// BYOL_TRAINER_INFO_INIT is.
///
/// Does nothing when `info` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_trainer_info_init(info: *mut byol_trainer_info, size: usize) {
    // SAFETY: the caller owns `size` bytes at `info`.
    unsafe { pointer::init(info, size) };
}

/// Sets `size` bytes at `options`, which is sizeof(byol_search_options) in the caller's header, to what
/// BYOL_SEARCH_OPTIONS_INIT is.
///
/// Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_search_options_init(options: *mut byol_search_options, size: usize) {
    // SAFETY: the caller owns `size` bytes at `options`.
    unsafe { pointer::init(options, size) };
}

/// Makes a trainer without examples for features of `encoder`, or, where that is `{0}`, of `dimension` numbers each.
/// With an encoder, `dimension` is 0 or the encoder's; the heads then refuse other encoders.
///
/// Ownership: close the handle with byol_trainer_close at any time; the encoder may be closed before. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_create(
    encoder: byol_encoder,
    dimension: u32,
    trainer: *mut byol_trainer,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(trainer, "trainer")?;
            let (dimension, encoder) = features::origin(encoder, dimension)?;
            place.set(byol_trainer { id: handle::open(Trainer::new(dimension, encoder)?)? });
            Ok(())
        })
    }
}

/// Tells what a trainer holds.
///
/// Ownership: `info` is the caller's. Threads: any. Errors: NULL_POINTER, HANDLE, ABI. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_get_info(
    trainer: byol_trainer,
    info: *mut byol_trainer_info,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(info, "info")?;
            let trainer = of(trainer)?;
            let examples = trainer.features();
            report.set(byol_trainer_info {
                struct_size: 0,
                dimension: trainer.dimension() as u32,
                examples: examples.len() as u64,
                classes: examples.classes.as_ref().map_or(0, |classes| classes.len() as u32),
                is_fitted: u32::from(trainer.is_fitted()),
                encoder_sha256: fill(trainer.encoder().unwrap_or("")),
            });
            Ok(())
        })
    }
}

/// Adds a class without examples; `class_index` gets its number, counted from 0 in the order of their coming. Where there
/// is a class of that name, that one's.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG (no name, or not UTF-8), NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add_class(
    trainer: byol_trainer,
    name: *const c_char,
    class_index: *mut u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(class_index, "class_index")?;
            let name = pointer::text(name, "name")?;
            place.set(of(trainer)?.add_class(name)?);
            Ok(())
        })
    }
}

/// Writes the name of a class and, where `examples` is not NULL, the number of its examples. Texts are given as by
/// byol_build_info.
///
/// Ownership: all memory is the caller's. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such class), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_get_class(
    trainer: byol_trainer,
    class_index: u32,
    buffer: *mut c_char,
    capacity: usize,
    needed: *mut usize,
    examples: *mut u64,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let told = pointer::place_or_null(examples, "examples")?;
            let held = of(trainer)?.features();
            let classes = held.classes.as_deref().unwrap_or_default();
            pointer::give_listed(classes, class_index as usize, "Class", buffer, capacity, needed)?;
            if let Some(told) = told {
                told.set(held.labels.iter().flatten().filter(|&&label| label == class_index).count() as u64);
            }
            Ok(())
        })
    }
}

/// Removes a class with all its examples. The numbers of the classes behind it become smaller by one.
///
/// Ownership: nothing changes hands. Threads: any. Errors: HANDLE, NOT_FOUND, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_remove_class(
    trainer: byol_trainer,
    class_index: u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || Ok(of(trainer)?.remove_class(class_index).map(drop)?)) }
}

/// Adds examples: `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), and their `labels`, which
/// count the trainer's classes. `ids` (may be NULL) gets one number per row, above 0 and never used again, by which an
/// example can be removed or relabelled. All are added or none; also while a fit runs, which goes on without them.
///
/// Ownership: all memory is the caller's and only used during the call: everything is copied. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), LIMIT,
/// NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add(
    trainer: byol_trainer,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    ids: *mut u64,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let trainer = of(trainer)?;
            let features = matrix(features, rows, columns, row_stride)?;
            let labels = pointer::slice(labels, rows, "labels")?;
            let ids = pointer::slice_mut_or_null(ids, rows, "ids")?;
            memory::allow(features.len().saturating_mul(4), "the examples")?;
            give_ids(ids, trainer.add(features, labels)?, None);
            Ok(())
        })
    }
}

/// Adds pictures as examples: byol_extract, then byol_trainer_add. With `item_status`, a bad picture is told there, its
/// id is 0 and the others are added; without, it fails the call and none is added.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: those of byol_extract and byol_trainer_add, WRONG_ENCODER. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add_images(
    trainer: byol_trainer,
    encoder: byol_encoder,
    images: *const byol_image,
    count: usize,
    labels: *const u32,
    ids: *mut u64,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let images = pointer::structs(images, count, "images")?;
            let pictures = Pictures { trainer, encoder, count, labels, ids, item_status, token };
            pictures.add(|encoder, rows| extract_views(encoder, &views(&images)?, rows))
        })
    }
}

/// Adds encoded pictures as examples, each the bytes of one file, as byol_extract_encoded takes them. Otherwise as
/// byol_trainer_add_images.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: those of byol_trainer_add_images. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add_encoded(
    trainer: byol_trainer,
    encoder: byol_encoder,
    data: *const *const u8,
    lengths: *const usize,
    count: usize,
    labels: *const u32,
    ids: *mut u64,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let files = pointer::buffers(data, lengths, count)?;
            let pictures = Pictures { trainer, encoder, count, labels, ids, item_status, token };
            pictures.add(|encoder, rows| {
                rows.run(|out, stride, items, cancel| encoder.extract_encoded(&files, out, stride, items, cancel))
            })
        })
    }
}

/// Adds picture files as examples, whose paths are in UTF-8. Otherwise as byol_trainer_add_images.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: those of byol_trainer_add_images, NOT_FOUND, IO. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add_files(
    trainer: byol_trainer,
    encoder: byol_encoder,
    paths: *const *const c_char,
    count: usize,
    labels: *const u32,
    ids: *mut u64,
    item_status: *mut byol_status,
    token: byol_cancel,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let paths: Vec<PathBuf> = pointer::texts(paths, count, "paths")?.into_iter().map(PathBuf::from).collect();
            let pictures = Pictures { trainer, encoder, count, labels, ids, item_status, token };
            pictures.add(|encoder, rows| {
                rows.run(|out, stride, items, cancel| encoder.extract_files(&paths, out, stride, items, cancel))
            })
        })
    }
}

/// Adds all rows of a container with labels. Classes are matched by name, and new ones added; labels without names are
/// classes "0", "1", ... `first_id` (may be NULL) gets the number of the first; the others follow it.
///
/// Ownership: nothing changes hands: everything is copied. Threads: any.
/// Errors: NULL_POINTER, HANDLE, SHAPE, LABEL, WRONG_ENCODER, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_add_features(
    trainer: byol_trainer,
    features: byol_features,
    first_id: *mut u64,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let told = pointer::place_or_null(first_id, "first_id")?;
            let (trainer, container) = (of(trainer)?, features::of(features)?);
            let features = container.read();
            memory::allow(features.values.len().saturating_mul(4), "the examples")?;
            let ids = trainer.add_features(&features)?;
            if let Some(told) = told {
                told.set(ids.start);
            }
            Ok(())
        })
    }
}

/// Copies all examples into a new container, in the order of their numbers, with labels and classes: to be saved with
/// byol_features_save, and to be added to a trainer again later.
///
/// Ownership: close the container with byol_features_close. Threads: any.
/// Errors: NULL_POINTER, HANDLE, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_get_features(
    trainer: byol_trainer,
    features: *mut byol_features,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(features, "features")?;
            let held = of(trainer)?.features();
            memory::allow(held.values.len().saturating_mul(4), "the examples")?;
            place.set(byol_features { id: handle::open(Container::new(held.try_clone()?))? });
            Ok(())
        })
    }
}

/// Removes `count` examples by their numbers. All are removed or none.
///
/// Ownership: `ids` is only read during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, NOT_FOUND (no such example), NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_remove(
    trainer: byol_trainer,
    ids: *const u64,
    count: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let trainer = of(trainer)?;
            Ok(trainer.remove(pointer::slice(ids, count, "ids")?)?)
        })
    }
}

/// Gives an example to another class.
///
/// Ownership: nothing changes hands. Threads: any.
/// Errors: HANDLE, NOT_FOUND (no such example or class), NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_relabel(
    trainer: byol_trainer,
    example: u64,
    class_index: u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || Ok(of(trainer)?.relabel(example, class_index)?)) }
}

/// Fits a head to all examples, as byol_head_fit. options.sample_weights must be NULL.
///
/// Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
/// Threads: any.
/// Errors: those of byol_head_fit. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_fit(
    trainer: byol_trainer,
    options: *const byol_fit_options,
    progress: byol_fit_callback,
    user: *mut c_void,
    token: byol_cancel,
    head: *mut byol_head,
    report: *mut byol_fit_report,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let asked = Asked { trainer, options, progress, user, token, head, report };
            asked.fit(|trainer, options, cancel, progress| trainer.fit(options, cancel, progress))
        })
    }
}

/// Fits a head to all examples, as byol_trainer_fit and to the same optimum, starting at the last one that was fitted:
/// after examples or classes came or went, or with another penalty, it takes a fraction of the time. The first time it
/// is byol_trainer_fit.
///
/// Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
/// Threads: any.
/// Errors: those of byol_head_fit. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_refit(
    trainer: byol_trainer,
    options: *const byol_fit_options,
    progress: byol_fit_callback,
    user: *mut c_void,
    token: byol_cancel,
    head: *mut byol_head,
    report: *mut byol_fit_report,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let asked = Asked { trainer, options, progress, user, token, head, report };
            asked.fit(|trainer, options, cancel, progress| trainer.refit(options, cancel, progress))
        })
    }
}

/// Tries penalties, judges each on examples that are held out, and fits a head with the best to all examples: the highest
/// accuracy, then the lowest loss, then the strongest penalty. fit_options.l2 is not used; report.l2 is the best.
///
/// `tried` (may be NULL) gets, for every penalty that was tried, strongest first, its l2, accuracy, standard deviation of
/// the accuracy over the folds (0 without), and mean cross-entropy, as [penalties, 4]; `tried_len` is the number of
/// doubles there, at least 4 for every penalty of the options (4 * BYOL_SEARCH_PENALTIES where they have none).
/// `tried_count` (may be NULL) gets how many were tried: fewer where patience ended it.
///
/// Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
/// Threads: any.
/// Errors: those of byol_head_fit, BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_search(
    trainer: byol_trainer,
    fit_options: *const byol_fit_options,
    options: *const byol_search_options,
    progress: byol_search_callback,
    user: *mut c_void,
    token: byol_cancel,
    head: *mut byol_head,
    report: *mut byol_fit_report,
    tried: *mut f64,
    tried_len: usize,
    tried_count: *mut usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let fitted = Fitted::read(head, report)?;
            let count = pointer::place_or_null(tried_count, "tried_count")?;
            let trainer = of(trainer)?;
            let fit = self::fit_options(fit_options, &trainer)?;
            let search = read_search(options)?;
            let most =
                if search.penalties.is_empty() { BYOL_SEARCH_PENALTIES as usize } else { search.penalties.len() };
            let tried = table_or_null(tried, most, 4, tried_len, "tried")?;
            let tell = progress.map(|call| {
                move |point: &PathPoint| match call(user, point.fit.l2, point.accuracy, point.log_loss) {
                    0 => ControlFlow::Continue(()),
                    _ => ControlFlow::Break(()),
                }
            });
            let (made, found) =
                listen(&cancel::of(token)?, tell, |cancel, progress| trainer.search(&fit, &search, cancel, progress))?;
            fitted.give(made)?;
            if let Some(out) = tried {
                for (out, tried) in out.chunks_exact_mut(4).zip(&found.tried) {
                    out.copy_from_slice(&[tried.l2, tried.accuracy, tried.deviation, tried.log_loss]);
                }
            }
            if let Some(count) = count {
                count.set(found.tried.len());
            }
            Ok(())
        })
    }
}

/// Makes a head without fitting: every class's weights are the mean of its examples, each scaled to length 1, scaled to
/// length `scale` (Qi et al. 2018, "imprinting"; 10 to 30 is usual for features of length 1). One example of each class
/// is enough. It does not become the start of byol_trainer_refit.
///
/// Ownership: close the head with byol_head_close. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG (scale is not above 0), DATA. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_trainer_imprint(
    trainer: byol_trainer,
    scale: f32,
    head: *mut byol_head,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let fitted = Fitted::read(head, std::ptr::null_mut())?;
            let trainer = of(trainer)?;
            if !(scale.is_finite() && scale > 0.0) {
                return Err(Fault::argument(format_args!("scale is {scale}, not above 0")));
            }
            fitted.give(trainer.imprint(scale)?)
        })
    }
}

/// Closes a trainer with its examples. Calls that use it finish. Closing `{0}` does nothing.
///
/// Ownership: the handle is given back. Threads: any. Errors: HANDLE when it is closed already. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_trainer_close(trainer: byol_trainer, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's error struct or NULL.
    unsafe { guard(error, || handle::close::<Trainer>(trainer.id)) }
}

/// What a handle stands for.
fn of(trainer: byol_trainer) -> Result<Arc<Trainer>> {
    handle::get(trainer.id)
}

/// What the functions that add pictures are given.
struct Pictures {
    trainer: byol_trainer,
    encoder: byol_encoder,
    count: usize,
    labels: *const u32,
    ids: *mut u64,
    item_status: *mut byol_status,
    token: byol_cancel,
}

impl Pictures {
    unsafe fn add(self, extract: impl FnOnce(&Encoder, &mut Rows<'_>) -> Result<()>) -> Result<()> {
        let Self { trainer, encoder, count, labels, ids, item_status, token } = self;
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let (trainer, encoder) = (of(trainer)?, encoder::of(encoder)?);
            trainer.check_encoder(encoder.sha256())?;
            let (expected, found) = (trainer.dimension(), encoder.dimension());
            if expected != found {
                let what = "features of the encoder, for this trainer";
                return Err(byol_serve::Error::DimensionMismatch { what, expected, found }.into());
            }
            let labels = pointer::slice(labels, count, "labels")?;
            let ids = pointer::slice_mut_or_null(ids, count, "ids")?;
            // Before the work, which is long.
            trainer.check_labels(labels)?;
            let mut staged = Staged::new(&encoder, count, item_status, token)?;
            extract(&encoder, &mut staged.rows())?;
            let is_good = |item: usize| staged.status.as_ref().is_none_or(|status| status[item] == BYOL_OK);
            let good: Vec<usize> = (0..count).filter(|&item| is_good(item)).collect();
            let (mut values, mut kept) = (Vec::new(), Vec::new());
            let (rows, labels) = if good.len() == count {
                (&staged.features, labels)
            } else {
                values.extend(good.iter().flat_map(|&item| &staged.features[item * found..][..found]));
                kept.extend(good.iter().map(|&item| labels[item]));
                (&values, &kept[..])
            };
            let rows = ArrayView2::from_shape((good.len(), found), rows).map_err(Fault::argument)?;
            give_ids(ids, trainer.add(rows, labels)?, Some(&good));
            Ok(())
        }
    }
}

/// Tells the new examples' numbers; 0 for items that are not among the `good`.
fn give_ids(out: Option<&mut [u64]>, ids: Range<u64>, good: Option<&[usize]>) {
    let Some(out) = out else { return };
    match good {
        None => out.iter_mut().zip(ids).for_each(|(out, id)| *out = id),
        Some(good) => {
            out.fill(0);
            good.iter().zip(ids).for_each(|(&item, id)| out[item] = id);
        }
    }
}

unsafe fn fit_options(options: *const byol_fit_options, trainer: &Trainer) -> Result<FitOptions> {
    // SAFETY: the caller's pointer, checked.
    unsafe {
        let given = pointer::options(options, "options")?;
        if !given.sample_weights.is_null() {
            return Err(Fault::argument("options.sample_weights must be NULL: a trainer's rows come and go"));
        }
        read_options(options, trainer.classes().len() as u32, 0)
    }
}

unsafe fn read_search(options: *const byol_search_options) -> Result<Search> {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        let options = pointer::options(options, "options")?;
        if options.reserved != 0 || options.folds == 1 {
            let (reserved, folds) = (options.reserved, options.folds);
            return Err(Fault::argument(format_args!(
                "options: reserved is {reserved}, not 0, or folds is {folds}, not 0 or at least 2"
            )));
        }
        if options.penalties.is_null() && options.penalties_len != 0 {
            return Err(Fault::null("options.penalties"));
        }
        if !options.penalties.is_null() && options.penalties_len == 0 {
            return Err(Fault::argument("options.penalties_len is 0"));
        }
        let patience = Some(options.patience as usize).filter(|&patience| patience > 0);
        Ok(Search {
            penalties: pointer::slice(options.penalties, options.penalties_len, "options.penalties")?.to_vec(),
            judge: match options.folds {
                0 => Judge::HeldOut { share: options.held_out, patience },
                folds => Judge::Folds(folds as usize),
            },
            seed: options.seed,
        })
    }
}

/// What byol_trainer_fit and byol_trainer_refit are given.
struct Asked {
    trainer: byol_trainer,
    options: *const byol_fit_options,
    progress: byol_fit_callback,
    user: *mut c_void,
    token: byol_cancel,
    head: *mut byol_head,
    report: *mut byol_fit_report,
}

impl Asked {
    unsafe fn fit(
        self,
        method: impl FnOnce(&Trainer, &FitOptions, &Cancel, Option<&mut dyn FnMut(&Progress)>) -> byol_serve::Result<Head>,
    ) -> Result<()> {
        let Self { trainer, options, progress, user, token, head, report } = self;
        // SAFETY: the caller's pointers, checked.
        unsafe {
            let fitted = Fitted::read(head, report)?;
            let trainer = of(trainer)?;
            let options = fit_options(options, &trainer)?;
            let made = listen(&cancel::of(token)?, teller(progress, user), |cancel, progress| {
                method(&trainer, &options, cancel, progress)
            })?;
            fitted.give(made)
        }
    }
}

/// Where a head and the report of its fit go.
struct Fitted {
    head: Place<byol_head>,
    report: Option<Report<byol_fit_report>>,
}

impl Fitted {
    unsafe fn read(head: *mut byol_head, report: *mut byol_fit_report) -> Result<Self> {
        // SAFETY: the caller's pointers, checked.
        unsafe { Ok(Self { head: pointer::place(head, "head")?, report: pointer::report_or_null(report, "report")? }) }
    }

    fn give(self, head: Head) -> Result<()> {
        let report = head.training.as_ref().map(|training| told(&training.fit));
        self.head.set(byol_head { id: handle::open(head)? });
        if let (Some(place), Some(report)) = (self.report, report) {
            place.set(report);
        }
        Ok(())
    }
}
