//! Heads from weights, and new heads from heads: copies, and probabilities put right.

use std::ffi::c_char;

use byol_serve::head::Head;
use byol_serve::metrics;
use ndarray::{Array1, Array2};

use crate::encoder::byol_encoder;
use crate::extract::span;
use crate::fit::read_names;
use crate::guard::guard;
use crate::handle;
use crate::head::{self, byol_head, check_rows, matrix, table_or_null};
use crate::packed::check_finite;
use crate::pointer;
use crate::status::*;

/// Makes a head from weights that come from elsewhere, such as scikit-learn's coef_ and intercept_ or a PyTorch Linear:
/// `weights` is [classes, columns], `row_stride` floats apart (0 for columns), and `bias` one float per class, or NULL
/// for none. `class_names` and `encoder` are as to byol_head_fit: with byol_head_get_weights, this also gives a head
/// other names.
///
/// Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
/// Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, NON_FINITE (item_index: the class), NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_create(
    weights: *const f32,
    classes: u32,
    columns: usize,
    row_stride: usize,
    bias: *const f32,
    class_names: *const *const c_char,
    encoder: byol_encoder,
    head: *mut byol_head,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(head, "head")?;
            if classes == 0 || columns == 0 {
                return Err(Fault::argument(format_args!("classes {classes} and columns {columns} must be above 0")));
            }
            let rows = classes as usize;
            let weights = matrix(weights, rows, columns, row_stride)?;
            let names = read_names(class_names, classes)?;
            check_finite(weights)?;
            let bias = match pointer::slice_or_null(bias, rows, "bias")? {
                None => Array1::zeros(rows),
                Some(bias) => Array1::from(bias.to_vec()),
            };
            if let Some(row) = bias.iter().position(|value| !value.is_finite()) {
                let why = format!("bias[{row}] is {}", bias[row]);
                return Err(Fault::new(BYOL_E_NON_FINITE, why).at(row));
            }
            let mut values: Vec<f32> = pointer::reserved(span(rows, columns, columns)?, "the weights")?;
            values.extend(weights.iter());
            let weights = Array2::from_shape_vec((rows, columns), values).map_err(Fault::argument)?;
            let mut made = Head::from_parts(weights, bias, names)?;
            made.encoder_sha256 = head::origin(encoder, columns)?;
            place.set(byol_head { id: handle::open(made)? });
            Ok(())
        })
    }
}

/// Copies a head's weights, [classes, dimension] without gaps, and its bias, one float per class. Either may be NULL; the
/// lengths count floats.
///
/// Ownership: all memory is the caller's. Threads: any. Errors: NULL_POINTER (both), HANDLE, BUFFER_TOO_SMALL.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_get_weights(
    head: byol_head,
    weights: *mut f32,
    weights_len: usize,
    bias: *mut f32,
    bias_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let head = head::of(head)?;
            if weights.is_null() && bias.is_null() {
                return Err(Fault::null("weights and bias"));
            }
            let weights = table_or_null(weights, head.classes(), head.dimensions(), weights_len, "weights")?;
            let bias = table_or_null(bias, head.classes(), 1, bias_len, "bias")?;
            if let Some(out) = weights {
                out.iter_mut().zip(&head.weights).for_each(|(out, &value)| *out = value);
            }
            if let Some(out) = bias {
                out.iter_mut().zip(&head.bias).for_each(|(out, &value)| *out = value);
            }
            Ok(())
        })
    }
}

/// Gives a head a second handle, which is closed by itself. Heads never change, so nothing is copied.
///
/// Ownership: close the new handle with byol_head_close. Threads: any. Errors: NULL_POINTER, HANDLE, LIMIT, NO_MEMORY.
/// @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_clone(head: byol_head, copy: *mut byol_head, error: *mut byol_error) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(copy, "copy")?;
            place.set(byol_head { id: handle::open_shared(head::of(head)?)? });
            Ok(())
        })
    }
}

/// Makes a head whose probabilities are as often right as they say: finds the temperature of least log-loss on labelled
/// features that the head was not fitted to, given as to byol_head_evaluate, and divides the scores by it (temperature
/// scaling, Guo et al. 2017). No prediction changes. `temperature` (may be NULL) gets it; above 1 the head was too sure.
///
/// Ownership: all memory is the caller's and only used during the call; close the new head with byol_head_close, `head`
/// stays as it is. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), DATA,
/// NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_calibrate(
    head: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    calibrated: *mut byol_head,
    temperature: *mut f64,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let place = pointer::place(calibrated, "calibrated")?;
            let told = pointer::place_or_null(temperature, "temperature")?;
            let head = head::of(head)?;
            let features = matrix(features, rows, columns, row_stride)?;
            let labels = pointer::slice(labels, rows, "labels")?;
            check_rows(&head, features)?;
            let classes = head.classes();
            let mut logits: Vec<f32> = pointer::reserved(span(rows, classes, classes)?, "the scores")?;
            for (_, chunk) in head::chunks(features, head.classes()) {
                logits.extend(head.logits(chunk)?);
            }
            let logits = Array2::from_shape_vec((rows, classes), logits).map_err(Fault::argument)?;
            let found = metrics::temperature(logits.view(), labels)?;
            let mut cooled = Head::clone(&head);
            cooled.cool(found);
            place.set(byol_head { id: handle::open(cooled)? });
            if let Some(told) = told {
                told.set(found);
            }
            Ok(())
        })
    }
}
