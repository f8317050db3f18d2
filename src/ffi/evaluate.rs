//! How good features and heads are.

use byol_serve::knn::{self, KnnOptions};
use byol_serve::metrics::Tally;

use crate::guard::guard;
use crate::head::{self, byol_head, check_rows, matrix, table_or_null};
use crate::memory;
use crate::pointer::{self, Versioned};
use crate::status::*;

/// What a labelled set says about a head. Set struct_size (BYOL_METRICS_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_metrics {
    /// sizeof(byol_metrics).
    pub struct_size: u32,
    /// Number of classes.
    pub classes: u32,
    /// Number of examples.
    pub examples: u64,
    /// Share of examples whose most probable class is theirs.
    pub top1: f64,
    /// Share of examples whose class is among the five most probable.
    pub top5: f64,
    /// Mean share over the classes that occur.
    pub balanced: f64,
    /// Mean of minus the natural logarithm of the probability of the right class.
    pub log_loss: f64,
    /// Expected calibration error, over 15 equal bins of confidence.
    pub calibration_error: f64,
    /// Lower end of the 95% interval of top1 (Wilson).
    pub top1_low: f64,
    /// Upper end of the 95% interval of top1 (Wilson).
    pub top1_high: f64,
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_metrics {
    const NAME: &'static str = "byol_metrics";
    const MINIMUM: usize = 72;
}

/// Sets `size` bytes at `metrics`, which is sizeof(byol_metrics) in the caller's header, to what BYOL_METRICS_INIT is.
///
/// Does nothing when `metrics` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_metrics_init(metrics: *mut byol_metrics, size: usize) {
    // SAFETY: the caller owns `size` bytes at `metrics`.
    unsafe { pointer::init(metrics, size) };
}

/// Judges a head on labelled features, given as to byol_head_predict; labels count the head's classes.
///
/// `per_class` (may be NULL) gets precision, recall and F1 of every class, as [classes, 3]; a ratio of nothing by nothing
/// is 0. `confusion` (may be NULL) gets the examples as [class, predicted class]. The lengths count values.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, LABEL and NON_FINITE (both with the row in item_index), DATA,
/// BUFFER_TOO_SMALL, LIMIT, NO_MEMORY. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_evaluate(
    head: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    metrics: *mut byol_metrics,
    per_class: *mut f64,
    per_class_len: usize,
    confusion: *mut u64,
    confusion_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let report = pointer::report(metrics, "metrics")?;
            let head = head::of(head)?;
            let classes = head.classes();
            let features = matrix(features, rows, columns, row_stride)?;
            let labels = pointer::slice(labels, rows, "labels")?;
            let per_class = table_or_null(per_class, classes, 3, per_class_len, "per_class")?;
            let confusion = table_or_null(confusion, classes, classes, confusion_len, "confusion")?;
            check_rows(&head, features)?;
            // As many as the caller has rows: memory that may be refused.
            memory::allow(Tally::room(rows), "what is known of each row")?;
            let mut tally = Tally::new(classes);
            tally.reserve(rows)?;
            for (first, chunk) in head::chunks(features, classes) {
                tally.add(head.probabilities(chunk)?.view(), &labels[first..first + chunk.nrows()])?;
            }
            let found = tally.evaluation(&head.labels)?;
            if let Some(per_class) = per_class {
                for (to, class) in per_class.chunks_exact_mut(3).zip(&found.per_class) {
                    to.copy_from_slice(&[class.precision, class.recall, class.f1]);
                }
            }
            if let Some(confusion) = confusion {
                for (to, &count) in confusion.iter_mut().zip(&found.confusion) {
                    *to = count;
                }
            }
            report.set(byol_metrics {
                struct_size: 0,
                classes: classes as u32,
                examples: found.examples as u64,
                top1: found.top1,
                top5: found.top5,
                balanced: found.balanced,
                log_loss: found.log_loss,
                calibration_error: found.ece,
                top1_low: found.interval.0,
                top1_high: found.interval.1,
            });
            Ok(())
        })
    }
}

/// Predicts the class of each of `query_rows` rows by its `k` nearest neighbours, by cosine, among `train_rows` rows with
/// labels: a look at features that needs no training. `temperature` 0 is a majority vote; above 0, a neighbour of
/// cosine s has exp(s / temperature) votes. Strides count floats, 0 for `columns`. `predicted` gets one label per query.
///
/// Ownership: all memory is the caller's and only used during the call. Threads: any.
/// Errors: NULL_POINTER, INVALID_ARG, SHAPE, DATA, NON_FINITE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_knn_predict(
    train: *const f32,
    train_rows: usize,
    train_stride: usize,
    labels: *const u32,
    queries: *const f32,
    query_rows: usize,
    query_stride: usize,
    columns: usize,
    k: u32,
    temperature: f32,
    predicted: *mut u32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let train = matrix(train, train_rows, columns, train_stride)?;
            let queries = matrix(queries, query_rows, columns, query_stride)?;
            let labels = pointer::slice(labels, train_rows, "labels")?;
            let predicted = pointer::slice_mut(predicted, query_rows, "predicted")?;
            let temperature = if temperature == 0.0 { None } else { Some(temperature) };
            let found = knn::knn(train, labels, queries, &KnnOptions { k: k as usize, temperature })?;
            for (to, label) in predicted.iter_mut().zip(found) {
                *to = label;
            }
            Ok(())
        })
    }
}
