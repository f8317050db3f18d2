//! More than the best class: the most probable ones, and none where none is probable enough.

use crate::guard::guard;
use crate::head::{self, byol_head, check_rows, matrix, table_or_null};
use crate::status::*;

/// In place of a class: none was probable enough.
pub const BYOL_NO_CLASS: u32 = u32::MAX;

/// Predicts the `k` most probable classes of every row, best first, the lower number first in a tie; features as to
/// byol_head_predict. A class less probable than `threshold` (0 for none) becomes BYOL_NO_CLASS: with k 1, that refuses
/// rows that the head is not sure of.
///
/// `labels` and `probabilities` get [rows, k] values without gaps; `labels_len` and `probabilities_len` count them. One
/// of the two may be NULL. Probabilities are there for refused classes too.
///
/// Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
/// Errors: NULL_POINTER, HANDLE, INVALID_ARG (k is not 1 to the number of classes, threshold not 0 to 1), SHAPE,
/// NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_top_k(
    head: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    k: u32,
    threshold: f32,
    labels: *mut u32,
    labels_len: usize,
    probabilities: *mut f32,
    probabilities_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let head = head::of(head)?;
            let features = matrix(features, rows, columns, row_stride)?;
            let (k, classes) = (k as usize, head.classes());
            if k == 0 || k > classes {
                return Err(Fault::argument(format_args!("k is {k}, not 1 to the {classes} classes")));
            }
            if !(0.0..=1.0).contains(&threshold) {
                return Err(Fault::argument(format_args!("threshold is {threshold}, not 0 to 1")));
            }
            if labels.is_null() && probabilities.is_null() {
                return Err(Fault::null("labels and probabilities"));
            }
            let mut labels = table_or_null(labels, rows, k, labels_len, "labels")?;
            let mut probabilities = table_or_null(probabilities, rows, k, probabilities_len, "probabilities")?;
            check_rows(&head, features)?;
            for (first, chunk) in head::chunks(features, head.classes()) {
                for (row, best) in (first..).zip(head.top_k(chunk, k)?) {
                    for (rank, found) in best.into_iter().enumerate() {
                        let at = row * k + rank;
                        if let Some(labels) = &mut labels {
                            let sure = found.probability >= threshold;
                            labels[at] = if sure { found.label as u32 } else { BYOL_NO_CLASS };
                        }
                        if let Some(probabilities) = &mut probabilities {
                            probabilities[at] = found.probability;
                        }
                    }
                }
            }
            Ok(())
        })
    }
}
