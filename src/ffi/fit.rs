//! Training a head: logistic regression to its optimum, with a certificate.

use std::ffi::{c_char, c_void};
use std::ops::ControlFlow;

use byol_serve::Error;
use byol_serve::cancel::Cancel;
use byol_serve::head::{Head, Training};
use byol_serve::solver::{self, FitOptions, FitReport, Progress};

use crate::cancel::{self, byol_cancel};
use crate::encoder::byol_encoder;
use crate::guard::guard;
use crate::handle;
use crate::head::{self, byol_head, matrix};
use crate::pointer::{self, Versioned};
use crate::status::*;

/// How to fit a head. Start with BYOL_FIT_OPTIONS_INIT, which sets the defaults.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_fit_options {
    /// sizeof(byol_fit_options).
    pub struct_size: u32,
    /// Most iterations (default 1000). Reaching them is no error: the report's converged is then 0.
    pub max_iterations: u32,
    /// Penalty per example on the squared weights, at least 0 (default 1e-3): the objective is the mean cross-entropy
    /// plus l2 / 2 times the sum of the squared weights. scikit-learn's C is 1 / (l2 * rows).
    pub l2: f64,
    /// Certified relative distance from the optimum to stop at (default 1e-6).
    pub tolerance: f64,
    /// Threads, 0 for as many as the process may use. The result does not depend on it, bit for bit.
    pub threads: u32,
    /// 1 to penalise as if every column had standard deviation 1, else 0 (default). A head always takes features as the
    /// encoder gives them.
    pub standardize: u32,
    /// One factor per class for the weight of its examples, or NULL.
    pub class_weights: *const f32,
    /// One weight per row, at least 0, or NULL.
    pub sample_weights: *const f32,
    /// Number of floats at class_weights; another number than that of the classes is refused with SHAPE. 0 (default) takes
    /// one per class for granted, which is only safe where no other thread adds classes.
    pub class_weights_len: usize,
}

impl Default for byol_fit_options {
    fn default() -> Self {
        let FitOptions { l2, tolerance, max_iterations, .. } = FitOptions::default();
        Self {
            struct_size: 0,
            max_iterations: max_iterations as u32,
            l2,
            tolerance,
            threads: 0,
            standardize: 0,
            class_weights: std::ptr::null(),
            sample_weights: std::ptr::null(),
            class_weights_len: 0,
        }
    }
}

// SAFETY: repr(C), struct_size first, no padding, numbers and pointers only.
unsafe impl Versioned for byol_fit_options {
    const NAME: &'static str = "byol_fit_options";
    const MINIMUM: usize = 32 + 2 * size_of::<usize>();
}

/// How a fit went. Set struct_size (BYOL_FIT_REPORT_INIT), the library fills in the rest.
#[repr(C)]
#[derive(Clone, Copy, Default)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_fit_report {
    /// sizeof(byol_fit_report).
    pub struct_size: u32,
    /// 1 when the tolerance was met, else 0.
    pub converged: u32,
    /// Iterations done.
    pub iterations: u64,
    /// Passes over all rows.
    pub passes: u64,
    /// Value of the objective at the end.
    pub objective: f64,
    /// Proven: (objective - optimum) / optimum is at most this. -1 where nothing can be proven (l2 0).
    pub gap: f64,
    /// The penalty.
    pub l2: f64,
    /// Wall time.
    pub seconds: f64,
}

// SAFETY: repr(C), struct_size first, no padding, numbers only.
unsafe impl Versioned for byol_fit_report {
    const NAME: &'static str = "byol_fit_report";
    const MINIMUM: usize = 56;
}

/// Hears from a fit after every iteration: how many are done, the objective, and the proven relative distance from the
/// optimum (infinite while nothing is proven). Returns 0 to go on; anything else ends the fit with BYOL_E_CANCELLED. It
/// runs on the thread that called for the fit and must return (no exception, no longjmp).
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_fit_callback =
    Option<unsafe extern "C" fn(user: *mut c_void, iteration: u64, objective: f64, gap: f64) -> i32>;

/// Sets `size` bytes at `options`, which is sizeof(byol_fit_options) in the caller's header, to what
/// BYOL_FIT_OPTIONS_INIT is.
///
/// Does nothing when `options` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_fit_options_init(options: *mut byol_fit_options, size: usize) {
    // SAFETY: the caller owns `size` bytes at `options`.
    unsafe { pointer::init(options, size) };
}

/// Sets `size` bytes at `report`, which is sizeof(byol_fit_report) in the caller's header, to what BYOL_FIT_REPORT_INIT
/// is.
///
/// Does nothing when `report` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any.
/// Errors: none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_fit_report_init(report: *mut byol_fit_report, size: usize) {
    // SAFETY: the caller owns `size` bytes at `report`.
    unsafe { pointer::init(report, size) };
}

/// Fits a head to `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), and their `labels`, each
/// from 0 to classes - 1. Deterministic: the same input gives the same head, whatever the threads.
///
/// `class_names` holds `classes` texts in UTF-8, or is NULL for "0", "1", ... `encoder` is the one whose features these
/// are, so that the head will refuse others; `{0}` leaves that open. `options` (NULL for the defaults), `progress` with
/// its `user`, `token` (`{0}`) and `report` may be left out.
///
/// Ownership: all memory is the caller's and only used during the call; close the head with byol_head_close.
/// Threads: any.
/// Errors: NULL_POINTER, HANDLE, ABI, INVALID_ARG, SHAPE, LABEL, NON_FINITE (both with the row in item_index), DATA,
/// NO_OPTIMUM (l2 0 only), NO_MEMORY, CANCELLED, DEADLINE. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_fit(
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    class_names: *const *const c_char,
    classes: u32,
    encoder: byol_encoder,
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
            let asked = Asked { features, rows, columns, row_stride, labels, class_names, classes, encoder, options };
            fit(asked, None, progress, user, token, head, report)
        })
    }
}

/// Fits a head again as byol_head_fit does, to the same optimum, starting at the head `start`: after examples were
/// added, removed or relabelled, or with another penalty, it takes a fraction of the time. The features are those of all
/// examples. Classes are matched by name; new ones may come, old ones may go.
///
/// Ownership: all memory is the caller's and only used during the call; close the new head with byol_head_close, `start`
/// stays as it is. Threads: any.
/// Errors: those of byol_head_fit. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_head_refit(
    start: byol_head,
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    class_names: *const *const c_char,
    classes: u32,
    encoder: byol_encoder,
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
            let start = head::of(start)?;
            let asked = Asked { features, rows, columns, row_stride, labels, class_names, classes, encoder, options };
            fit(asked, Some(&start), progress, user, token, head, report)
        })
    }
}

/// What byol_head_fit and byol_head_refit are given.
struct Asked {
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    labels: *const u32,
    class_names: *const *const c_char,
    classes: u32,
    encoder: byol_encoder,
    options: *const byol_fit_options,
}

unsafe fn fit(
    asked: Asked,
    start: Option<&Head>,
    progress: byol_fit_callback,
    user: *mut c_void,
    token: byol_cancel,
    head: *mut byol_head,
    report: *mut byol_fit_report,
) -> Result<()> {
    let Asked { features, rows, columns, row_stride, labels, class_names, classes, encoder, options } = asked;
    // SAFETY: the caller's pointers, checked.
    unsafe {
        let place = pointer::place(head, "head")?;
        let report = pointer::report_or_null(report, "report")?;
        let features = matrix(features, rows, columns, row_stride)?;
        let labels = pointer::slice(labels, rows, "labels")?;
        let names = read_names(class_names, classes)?;
        let mut options = read_options(options, classes, rows)?;
        let encoder = head::origin(encoder, columns)?;
        if let Some(start) = start {
            if start.dimensions() != columns {
                let (what, expected) = ("columns, for features of the head to start at", start.dimensions());
                return Err(Error::DimensionMismatch { what, expected, found: columns }.into());
            }
            options.start = Some(start.start_for(&names));
        }
        let token = cancel::of(token)?;
        let (weights, bias, fit) = listen(&token, teller(progress, user), |cancel, progress| {
            solver::fit(features, labels, names.len(), &options, cancel, progress)
        })
        .map_err(|error| named(error, &names))?;
        let told = told(&fit);
        let mut fitted = Head::from_parts(weights.mapv(|w| w as f32), bias.mapv(|b| b as f32), names)?;
        fitted.encoder_sha256 = encoder;
        fitted.training = Some(Training { examples: rows, standardize: options.standardize, fit });
        place.set(byol_head { id: handle::open(fitted)? });
        if let Some(report) = report {
            report.set(told);
        }
        Ok(())
    }
}

/// A report as C has it.
pub(crate) fn told(fit: &FitReport) -> byol_fit_report {
    byol_fit_report {
        struct_size: 0,
        converged: u32::from(fit.converged),
        iterations: fit.iterations as u64,
        passes: fit.passes as u64,
        objective: fit.objective,
        gap: fit.gap.unwrap_or(-1.0),
        l2: fit.l2,
        seconds: fit.seconds,
    }
}

/// The caller's callback as the solver calls it.
pub(crate) fn teller(
    progress: byol_fit_callback,
    user: *mut c_void,
) -> Option<impl FnMut(&Progress) -> ControlFlow<()>> {
    let call = progress?;
    Some(move |p: &Progress| {
        // SAFETY: the caller promises that it may be called with its user.
        match unsafe { call(user, p.iteration as u64, p.objective, p.gap) } {
            0 => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    })
}

/// Works, while the listener and the caller's token can both stop it. The listener must not trigger the token, which may
/// be in use elsewhere, so the work gets a child of it.
pub(crate) fn listen<P, T>(
    token: &Cancel,
    tell: Option<impl FnMut(&P) -> ControlFlow<()>>,
    work: impl FnOnce(&Cancel, Option<&mut dyn FnMut(&P)>) -> byol_serve::Result<T>,
) -> byol_serve::Result<T> {
    let Some(mut tell) = tell else { return work(token, None) };
    let own = token.child();
    let mut progress = |p: &P| {
        if tell(p).is_break() {
            own.trigger();
        }
    };
    work(&own, Some(&mut progress))
}

/// Puts names where the solver has only numbers.
fn named(error: Error, names: &[String]) -> Error {
    let class =
        |label: &str| label.parse().ok().and_then(|class: usize| names.get(class)).cloned().unwrap_or(label.into());
    match error {
        Error::OneClass { label, examples } => Error::OneClass { label: class(&label), examples },
        Error::EmptyClass { label } => Error::EmptyClass { label: class(&label) },
        other => other,
    }
}

/// Refuses what can't be a number of classes, before so many names are read.
pub(crate) fn check_classes(classes: u32) -> Result<()> {
    /// A head of so many classes would have to be at least as large as a whole encoder.
    const MOST_CLASSES: u32 = 1 << 24;
    match classes {
        0..=MOST_CLASSES => Ok(()),
        _ => Err(Fault::argument(format_args!("classes is {classes}; at most {MOST_CLASSES}"))),
    }
}

/// So many names, or numbers for names.
pub(crate) unsafe fn read_names(class_names: *const *const c_char, classes: u32) -> Result<Vec<String>> {
    check_classes(classes)?;
    if class_names.is_null() {
        return Ok((0..classes).map(|class| class.to_string()).collect());
    }
    // SAFETY: the caller's pointers, checked.
    let names = unsafe { pointer::texts(class_names, classes as usize, "class_names") }?;
    Ok(names.into_iter().map(str::to_owned).collect())
}

/// The options; `rows` of sample weights are expected.
pub(crate) unsafe fn read_options(options: *const byol_fit_options, classes: u32, rows: usize) -> Result<FitOptions> {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        let options = pointer::options(options, "options")?;
        let weights = |weights: *const f32, count: usize, name: &str| -> Result<Option<Vec<f32>>> {
            Ok(pointer::slice_or_null(weights, count, name)?.map(<[f32]>::to_vec))
        };
        if options.standardize > 1 {
            return Err(Fault::argument(format_args!("options.standardize is {}, not 0 or 1", options.standardize)));
        }
        let classes = classes as usize;
        let found = options.class_weights_len;
        if found != 0 && options.class_weights.is_null() {
            return Err(Fault::null("options.class_weights"));
        }
        if found != 0 && found != classes {
            return Err(Error::DimensionMismatch { what: "class weights", expected: classes, found }.into());
        }
        Ok(FitOptions {
            l2: options.l2,
            tolerance: options.tolerance,
            max_iterations: options.max_iterations as usize,
            threads: options.threads as usize,
            standardize: options.standardize == 1,
            class_weights: weights(options.class_weights, classes, "options.class_weights")?,
            sample_weights: weights(options.sample_weights, rows, "options.sample_weights")?,
            ..FitOptions::default()
        })
    }
}
