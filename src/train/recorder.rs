//! The CPU's double of a CUDA graph, for tests of [`crate::capture`]. Its other half is `recorder.cc`.

#![allow(unsafe_code, reason = "libtorch's dispatcher is C++; the one handle is owned by a Rust value")]

use crate::c10d;
use crate::capture::Recorder;
use crate::error::{Error, Result};
use std::ffi::{c_char, c_void};

unsafe extern "C" {
    fn byol_recording_new() -> *mut c_void;
    fn byol_recording_free(recording: *mut c_void);
    fn byol_recording_begin(recording: *mut c_void);
    fn byol_recording_end(recording: *mut c_void) -> usize;
    fn byol_recording_replay(recording: *mut c_void) -> *mut c_char;
}

/// Records what this thread asks of libtorch, and carries it out again.
#[derive(Debug)]
pub(crate) struct Double {
    recording: *mut c_void,
    fails: Option<&'static str>,
}

impl Double {
    pub(crate) fn new() -> Self {
        // SAFETY: it takes nothing and gives a handle that is owned here.
        Self { recording: unsafe { byol_recording_new() }, fails: None }
    }

    /// One whose recordings fail.
    pub(crate) fn failing(why: &'static str) -> Self {
        let mut double = Self::new();
        double.fails = Some(why);
        double
    }
}

impl Recorder for Double {
    fn enter(&mut self) -> Result<()> {
        Ok(())
    }

    fn leave(&mut self) -> Result<()> {
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        // SAFETY: the handle is alive; tests record one at a time on a thread.
        unsafe { byol_recording_begin(self.recording) };
        Ok(())
    }

    fn end(&mut self) -> Result<()> {
        // SAFETY: the handle is alive.
        let operators = unsafe { byol_recording_end(self.recording) };
        assert!(operators > 100, "a step of {operators} operators");
        self.fails.map_or(Ok(()), |why| Err(Error::Collective { why: why.into() }))
    }

    fn give_up(&mut self) {
        // SAFETY: the handle is alive.
        unsafe { byol_recording_end(self.recording) };
    }

    fn replay(&mut self) -> Result<()> {
        // SAFETY: the handle is alive, and with it all tensors that were recorded.
        c10d::check(unsafe { byol_recording_replay(self.recording) })
    }
}

impl Drop for Double {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and not used after this.
        unsafe { byol_recording_free(self.recording) };
    }
}
