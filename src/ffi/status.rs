//! Status codes and the caller-owned error struct: how a failure reaches C.

use std::ffi::c_char;
use std::fmt;

use crate::pointer::{self, Versioned};

/// What every fallible function returns: 0 is success, everything else one of BYOL_E_*. Codes are stable: a code keeps
/// its number for ever, and the number of a retired code is not used again. Expect codes that are newer than your header.
#[allow(non_camel_case_types, reason = "the name in C")]
pub type byol_status = i32;

/// Success.
pub const BYOL_OK: i32 = 0;
/// An argument or option has a value that means nothing; the message names it.
pub const BYOL_E_INVALID_ARG: i32 = 1;
/// A pointer that must not be NULL is NULL; the message names it.
pub const BYOL_E_NULL_POINTER: i32 = 2;
/// A handle is closed, of another kind, or was never given out by this process.
pub const BYOL_E_HANDLE: i32 = 3;
/// A struct_size is impossible, or a struct sets fields that this version of the library does not know.
pub const BYOL_E_ABI: i32 = 4;
/// Not enough memory for something whose size the caller decides.
pub const BYOL_E_NO_MEMORY: i32 = 5;
/// A file or folder can't be read or written.
pub const BYOL_E_IO: i32 = 6;
/// A file, a metadata key or a class does not exist.
pub const BYOL_E_NOT_FOUND: i32 = 7;
/// Asks for something that this build can't do.
pub const BYOL_E_UNSUPPORTED: i32 = 8;
/// This processor lacks instructions that are needed.
pub const BYOL_E_UNSUPPORTED_CPU: i32 = 9;
/// Not an ONNX model, or a damaged one.
pub const BYOL_E_MODEL_INVALID: i32 = 10;
/// An ONNX model, but not one that can serve as an encoder; the message says why.
pub const BYOL_E_MODEL_UNSUPPORTED: i32 = 11;
/// Sizes that must agree do not.
pub const BYOL_E_SHAPE: i32 = 12;
/// A picture can't be decoded.
pub const BYOL_E_IMAGE_DECODE: i32 = 13;
/// A stated limit is exceeded: picture, file or model size.
pub const BYOL_E_LIMIT: i32 = 14;
/// The caller's buffer is too small; `*needed` or the message says how large it must be.
pub const BYOL_E_BUFFER_TOO_SMALL: i32 = 15;
/// Labels and rows, or labels and classes, do not fit together.
pub const BYOL_E_LABEL: i32 = 16;
/// A feature is NaN or infinite.
pub const BYOL_E_NON_FINITE: i32 = 17;
/// There is nothing to learn from the examples: none, one class only, a class without examples, constant features.
pub const BYOL_E_DATA: i32 = 18;
/// A file is not what it should be.
pub const BYOL_E_CORRUPT: i32 = 19;
/// A file was written by a newer byol.
pub const BYOL_E_NEWER_FORMAT: i32 = 20;
/// Stopped by a cancel token or by a progress callback.
pub const BYOL_E_CANCELLED: i32 = 21;
/// Stopped at the deadline that the caller set.
pub const BYOL_E_DEADLINE: i32 = 22;
/// The process already runs ONNX Runtime with other settings.
pub const BYOL_E_BUSY_CONFIG: i32 = 23;
/// The process was forked after it first used libbyol: in the child the library can't work.
pub const BYOL_E_FORKED: i32 = 24;
/// ONNX Runtime failed, or can't be loaded; runtime_code holds its own code where it gave one.
pub const BYOL_E_RUNTIME: i32 = 25;
/// A defect in libbyol was caught; the process goes on. Please report the message.
pub const BYOL_E_PANIC: i32 = 26;
/// byol_shutdown was called.
pub const BYOL_E_SHUTDOWN: i32 = 27;
/// The head was trained on the features of another encoder.
pub const BYOL_E_WRONG_ENCODER: i32 = 28;
/// The objective has no minimum: l2 is 0 and the classes can be told apart without error.
pub const BYOL_E_NO_OPTIMUM: i32 = 29;
/// The solver ran out of iterations before the tolerance was met.
pub const BYOL_E_NOT_CONVERGED: i32 = 30;
/// A callback called a function that must not be called from that callback.
pub const BYOL_E_REENTRANT: i32 = 31;
/// A model's SHA-256 is not the one that was asked for.
pub const BYOL_E_CHECKSUM: i32 = 32;
/// A failure that this version has no code for; the message says what it was.
pub const BYOL_E_OTHER: i32 = 33;

/// Value of byol_error.item_index when no single item is to blame.
pub const BYOL_NO_ITEM: u32 = u32::MAX;

/// Every code with its name, in numeric order.
pub(crate) const NAMES: [(byol_status, &std::ffi::CStr); 34] = [
    (BYOL_OK, c"BYOL_OK"),
    (BYOL_E_INVALID_ARG, c"BYOL_E_INVALID_ARG"),
    (BYOL_E_NULL_POINTER, c"BYOL_E_NULL_POINTER"),
    (BYOL_E_HANDLE, c"BYOL_E_HANDLE"),
    (BYOL_E_ABI, c"BYOL_E_ABI"),
    (BYOL_E_NO_MEMORY, c"BYOL_E_NO_MEMORY"),
    (BYOL_E_IO, c"BYOL_E_IO"),
    (BYOL_E_NOT_FOUND, c"BYOL_E_NOT_FOUND"),
    (BYOL_E_UNSUPPORTED, c"BYOL_E_UNSUPPORTED"),
    (BYOL_E_UNSUPPORTED_CPU, c"BYOL_E_UNSUPPORTED_CPU"),
    (BYOL_E_MODEL_INVALID, c"BYOL_E_MODEL_INVALID"),
    (BYOL_E_MODEL_UNSUPPORTED, c"BYOL_E_MODEL_UNSUPPORTED"),
    (BYOL_E_SHAPE, c"BYOL_E_SHAPE"),
    (BYOL_E_IMAGE_DECODE, c"BYOL_E_IMAGE_DECODE"),
    (BYOL_E_LIMIT, c"BYOL_E_LIMIT"),
    (BYOL_E_BUFFER_TOO_SMALL, c"BYOL_E_BUFFER_TOO_SMALL"),
    (BYOL_E_LABEL, c"BYOL_E_LABEL"),
    (BYOL_E_NON_FINITE, c"BYOL_E_NON_FINITE"),
    (BYOL_E_DATA, c"BYOL_E_DATA"),
    (BYOL_E_CORRUPT, c"BYOL_E_CORRUPT"),
    (BYOL_E_NEWER_FORMAT, c"BYOL_E_NEWER_FORMAT"),
    (BYOL_E_CANCELLED, c"BYOL_E_CANCELLED"),
    (BYOL_E_DEADLINE, c"BYOL_E_DEADLINE"),
    (BYOL_E_BUSY_CONFIG, c"BYOL_E_BUSY_CONFIG"),
    (BYOL_E_FORKED, c"BYOL_E_FORKED"),
    (BYOL_E_RUNTIME, c"BYOL_E_RUNTIME"),
    (BYOL_E_PANIC, c"BYOL_E_PANIC"),
    (BYOL_E_SHUTDOWN, c"BYOL_E_SHUTDOWN"),
    (BYOL_E_WRONG_ENCODER, c"BYOL_E_WRONG_ENCODER"),
    (BYOL_E_NO_OPTIMUM, c"BYOL_E_NO_OPTIMUM"),
    (BYOL_E_NOT_CONVERGED, c"BYOL_E_NOT_CONVERGED"),
    (BYOL_E_REENTRANT, c"BYOL_E_REENTRANT"),
    (BYOL_E_CHECKSUM, c"BYOL_E_CHECKSUM"),
    (BYOL_E_OTHER, c"BYOL_E_OTHER"),
];

/// The longest message in bytes, with its NUL.
pub const BYOL_MESSAGE_BYTES: usize = 488;

/// Why a call failed. It lives where the caller puts it, usually on the stack: nothing to free, no thread-local state.
/// Start it with BYOL_ERROR_INIT or byol_error_init and pass it to as many calls as you like, one at a time: each call
/// sets all of it, to zeros and an empty message when it succeeds. Every function takes NULL instead.
#[repr(C)]
#[derive(Clone, Copy)]
#[allow(non_camel_case_types, reason = "the name in C")]
pub struct byol_error {
    /// sizeof(byol_error); the only field that the caller sets.
    pub struct_size: u32,
    /// The status that the call returned.
    pub code: i32,
    /// ONNX Runtime's own error code with BYOL_E_RUNTIME, where there is one; else 0.
    pub runtime_code: i32,
    /// Which picture, file or row is to blame, counted from 0; BYOL_NO_ITEM when none is.
    pub item_index: u32,
    /// Length of message in bytes, without its NUL.
    pub message_len: u32,
    /// One sentence in UTF-8 that names the culprit, always NUL-terminated, cut between two characters if too long. The
    /// log sink receives it uncut.
    pub message: [c_char; 488],
}

impl Default for byol_error {
    fn default() -> Self {
        Self { struct_size: 0, code: 0, runtime_code: 0, item_index: BYOL_NO_ITEM, message_len: 0, message: [0; 488] }
    }
}

// SAFETY: repr(C), struct_size first, integers only, no padding (508 bytes = 5 x 4 + 488).
unsafe impl Versioned for byol_error {
    const NAME: &'static str = "byol_error";
    const MINIMUM: usize = 508;
}

/// Sets `size` bytes at `error`, which is sizeof(byol_error) in the caller's header, to what BYOL_ERROR_INIT is.
///
/// Does nothing when `error` is NULL or `size` impossible. Ownership: the struct is the caller's. Threads: any. Errors:
/// none. @since 0.1.0
#[unsafe(no_mangle)]
pub unsafe extern "C" fn byol_error_init(error: *mut byol_error, size: usize) {
    // SAFETY: the caller owns `size` bytes at `error`.
    unsafe { pointer::init(error, size) };
}

/// A failure on its way to C.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) code: byol_status,
    pub(crate) runtime_code: i32,
    pub(crate) item: Option<usize>,
    pub(crate) message: String,
}

/// The result of what runs inside a guard.
pub(crate) type Result<T, E = Fault> = std::result::Result<T, E>;

impl Fault {
    pub(crate) fn new(code: byol_status, message: impl fmt::Display) -> Self {
        Self { code, runtime_code: 0, item: None, message: message.to_string() }
    }

    pub(crate) fn argument(message: impl fmt::Display) -> Self {
        Self::new(BYOL_E_INVALID_ARG, message)
    }

    pub(crate) fn null(name: &str) -> Self {
        Self::new(BYOL_E_NULL_POINTER, format_args!("{name} is NULL"))
    }

    pub(crate) fn no_memory(what: impl fmt::Display, bytes: usize) -> Self {
        Self::new(BYOL_E_NO_MEMORY, format_args!("No memory for {what} ({bytes} bytes)"))
    }

    /// Blames one of several items.
    pub(crate) fn at(mut self, item: usize) -> Self {
        self.item = Some(item);
        self
    }

    pub(crate) fn as_error(&self) -> byol_error {
        let mut error = byol_error {
            struct_size: 0,
            code: self.code,
            runtime_code: self.runtime_code,
            item_index: self.item.and_then(|item| u32::try_from(item).ok()).unwrap_or(BYOL_NO_ITEM),
            message_len: 0,
            message: [0; 488],
        };
        let text = cut(&self.message, BYOL_MESSAGE_BYTES - 1);
        // A NUL inside a message (from a path, say) would end it early for C.
        for (to, from) in error.message.iter_mut().zip(text.bytes()) {
            *to = if from == 0 { b' ' } else { from } as c_char;
        }
        error.message_len = text.len() as u32;
        error
    }
}

/// The longest start of `text` that fits into `bytes` and ends between two characters.
fn cut(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_and_its_own_number() {
        let source = include_str!("status.rs");
        let declared: Vec<(&str, i32)> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub const BYOL_")?.split_once(": i32 = "))
            .map(|(name, value)| (name, value.trim_end_matches(';').parse().expect("a number")))
            .collect();
        assert_eq!(declared.len(), NAMES.len());
        for (index, ((name, value), (code, text))) in declared.iter().zip(NAMES).enumerate() {
            assert_eq!(*value, index as i32);
            assert_eq!(*value, code);
            assert_eq!(text.to_str().expect("ASCII"), format!("BYOL_{name}"));
        }
    }

    #[test]
    fn a_long_message_is_cut_between_two_characters_and_keeps_its_nul() {
        let error = Fault::new(BYOL_E_IO, "é".repeat(400)).as_error();
        assert_eq!(error.message_len, 486);
        assert_eq!(error.message[486], 0);
        let bytes = error.message[..486].iter().map(|&c| c as u8).collect();
        assert!(String::from_utf8(bytes).is_ok());
    }

    #[test]
    fn a_nul_inside_a_message_does_not_end_it() {
        let error = Fault::new(BYOL_E_IO, "a\0b").as_error();
        assert_eq!(error.message[..4].iter().map(|&c| c as u8).collect::<Vec<_>>(), b"a b\0");
    }
}
