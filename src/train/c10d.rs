//! The part of libtorch that `tch` does not bind: c10d's store and process groups, gradients that are reduced while the
//! backward pass goes on, BatchNorm over all ranks, pinned memory, and the switches of TF32. The other half of this file is
//! `c10d.cc`. To use many ranks, see [`crate::distributed`].

#![allow(
    unsafe_code,
    reason = "tch binds nothing of c10d, so that calling libtorch's C++ is left to this module; everything that it gives \
              out is safe: handles are owned by Rust values, and tensors are borrowed for the length of a call"
)]

use crate::cuda::{Nccl, NcclOpen};
use crate::error::{Error, Result};
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::ptr::{null, null_mut};
use std::sync::Arc;
use std::time::Duration;
use tch::Tensor;
use tch::kind::Element;

/// What `c10d.cc` puts before everything that went wrong between ranks.
pub(crate) const BETWEEN_RANKS: &str = "between ranks: ";

type Handle = *mut c_void;
type AnyTensor = *const c_void;

unsafe extern "C" {
    fn byol_c10d_text_free(text: *mut c_char);
    fn byol_c10d_store_open(host: *const c_char, port: u16, serve: bool, ms: i64, out: *mut Handle) -> *mut c_char;
    fn byol_c10d_store_clone(store: Handle, out: *mut Handle) -> *mut c_char;
    fn byol_c10d_store_free(store: Handle);
    fn byol_c10d_store_set(store: Handle, key: *const c_char, value: *const u8, length: usize) -> *mut c_char;
    fn byol_c10d_store_get(
        store: Handle,
        key: *const c_char,
        ms: i64,
        value: *mut *mut c_char,
        length: *mut usize,
    ) -> *mut c_char;
    fn byol_c10d_store_has(store: Handle, key: *const c_char, out: *mut bool) -> *mut c_char;
    fn byol_c10d_store_abandon(store: Handle);
    fn byol_c10d_end_process();
    fn byol_c10d_store_pulse(store: Handle, waits: *mut u64, waiting: *mut bool);
    fn byol_c10d_group_open(
        store: Handle,
        prefix: *const c_char,
        rank: c_int,
        ranks: c_int,
        address: *const c_char,
        interface: *const c_char,
        ms: i64,
        out: *mut Handle,
    ) -> *mut c_char;
    fn byol_c10d_group_open_nccl(
        store: Handle,
        open: NcclOpen,
        prefix: *const c_char,
        rank: c_int,
        ranks: c_int,
        ms: i64,
        out: *mut Handle,
        nccl_says: *mut *mut c_char,
    ) -> *mut c_char;
    fn byol_c10d_settle(group: Handle) -> *mut c_char;
    fn byol_c10d_group_free(group: Handle);
    fn byol_c10d_sum(group: Handle, tensor: AnyTensor) -> *mut c_char;
    fn byol_c10d_broadcast(group: Handle, tensor: AnyTensor, root: c_int) -> *mut c_char;
    fn byol_c10d_batch_norm(
        group: Handle,
        x: AnyTensor,
        weight: AnyTensor,
        bias: AnyTensor,
        batch_mean: AnyTensor,
        batch_variance: AnyTensor,
        eps: f64,
        out: *mut Handle,
    ) -> *mut c_char;
    fn byol_torch_allow_tf32(allowed: bool) -> *mut c_char;
    #[cfg(test)]
    fn byol_torch_tf32_allowed(convolutions: *mut bool, products: *mut bool) -> *mut c_char;
    fn byol_torch_pinned(bytes: *const u8, length: usize, out: *mut Handle) -> *mut c_char;
    fn byol_c10d_bind_gradient(leaf: AnyTensor, gradient: AnyTensor) -> *mut c_char;
    fn byol_c10d_reducer_new(group: Handle, out: *mut Handle) -> *mut c_char;
    fn byol_c10d_reducer_free(reducer: Handle);
    fn byol_c10d_reducer_add(reducer: Handle, a: AnyTensor, b: AnyTensor, bucket: *mut usize) -> *mut c_char;
    fn byol_c10d_reducer_watch(reducer: Handle, bucket: usize, leaf: AnyTensor) -> *mut c_char;
    fn byol_c10d_reducer_arm(reducer: Handle);
    fn byol_c10d_reducer_finish(reducer: Handle) -> *mut c_char;
}

/// A connection to the store that all ranks share. One thread at a time uses it; others [`clone`](Self::connect_again).
#[derive(Debug)]
pub(crate) struct Store(Handle);

// SAFETY: c10d's stores are made for use by many threads, and lock where they must.
unsafe impl Send for Store {}
// SAFETY: as above.
unsafe impl Sync for Store {}

impl Store {
    /// Connects to the store at `host:port`, and keeps it where `serve` is set.
    pub(crate) fn open(host: &str, port: u16, serve: bool, patience: Duration) -> Result<Self> {
        let host = text(host)?;
        let mut out = null_mut();
        // SAFETY: the text ends with a zero and outlives the call; `out` may be written.
        check(unsafe { byol_c10d_store_open(host.as_ptr(), port, serve, ms(patience), &raw mut out) })?;
        Ok(Self(out))
    }

    /// A connection of its own to the same store.
    pub(crate) fn connect_again(&self) -> Result<Self> {
        let mut out = null_mut();
        // SAFETY: the handle is alive as long as `self`; `out` may be written.
        check(unsafe { byol_c10d_store_clone(self.0, &raw mut out) })?;
        Ok(Self(out))
    }

    pub(crate) fn set(&self, key: &str, value: &str) -> Result<()> {
        let key = text(key)?;
        // SAFETY: handle, key and `value.len()` bytes are alive during the call.
        check(unsafe { byol_c10d_store_set(self.0, key.as_ptr(), value.as_ptr(), value.len()) })
    }

    /// The value, once it is there.
    pub(crate) fn get(&self, key: &str, patience: Duration) -> Result<String> {
        let key = text(key)?;
        let (mut value, mut length) = (null_mut(), 0);
        // SAFETY: handle and key are alive during the call; both places may be written.
        check(unsafe { byol_c10d_store_get(self.0, key.as_ptr(), ms(patience), &raw mut value, &raw mut length) })?;
        // SAFETY: on success the value is `length` bytes that are owned here until they are freed.
        let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), length) }.to_vec();
        // SAFETY: it came from the same file, and is not used after this.
        unsafe { byol_c10d_text_free(value) };
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(crate) fn has(&self, key: &str) -> Result<bool> {
        let key = text(key)?;
        let mut found = false;
        // SAFETY: handle and key are alive during the call; `found` may be written.
        check(unsafe { byol_c10d_store_has(self.0, key.as_ptr(), &raw mut found) })?;
        Ok(found)
    }

    /// From now on no wait of this store's groups lasts: each fails at once.
    pub(crate) fn abandon(&self) {
        // SAFETY: the handle is alive as long as `self`.
        unsafe { byol_c10d_store_abandon(self.0) };
    }

    /// How many waits for other ranks have ended, and whether one goes on now.
    pub(crate) fn pulse(&self) -> (u64, bool) {
        let (mut waits, mut waiting) = (0, false);
        // SAFETY: the handle is alive as long as `self`; both places may be written.
        unsafe { byol_c10d_store_pulse(self.0, &raw mut waits, &raw mut waiting) };
        (waits, waiting)
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and not used after this.
        unsafe { byol_c10d_store_free(self.0) };
    }
}

/// Ends the process with exit code 1, whatever its threads wait for.
pub(crate) fn end_process() {
    // SAFETY: it takes nothing and does not return.
    unsafe { byol_c10d_end_process() }
}

/// Ranks that sum and send tensors together. All of them make the same calls on a group in the same order.
#[derive(Debug)]
pub(crate) struct Group(Handle);

// SAFETY: a process group may be used from any thread, by one at a time; the callers keep to that (one group a lane, and
// a mutex in the reducer).
unsafe impl Send for Group {}
// SAFETY: as above.
unsafe impl Sync for Group {}

/// Where a rank is among its like, and how the others reach it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) rank: usize,
    pub(crate) ranks: usize,
    /// Its own address.
    pub(crate) address: &'a str,
    /// A network interface by name, instead of the address.
    pub(crate) interface: Option<&'a str>,
}

impl Group {
    /// Connects all ranks with each other: returns once all are there. `patience` is also the longest that Gloo itself
    /// lets a collective take.
    pub(crate) fn open(store: &Store, prefix: &str, place: Place<'_>, patience: Duration) -> Result<Self> {
        let (prefix, address) = (text(prefix)?, text(place.address)?);
        let interface = place.interface.map(text).transpose()?;
        let [rank, ranks] = [place.rank, place.ranks].map(|n| c_int::try_from(n).unwrap_or(c_int::MAX));
        let mut out = null_mut();
        // SAFETY: the handle and all texts are alive during the call; `out` may be written.
        check(unsafe {
            let interface = interface.as_ref().map_or(null(), |text| text.as_ptr());
            let (prefix, address) = (prefix.as_ptr(), address.as_ptr());
            byol_c10d_group_open(store.0, prefix, rank, ranks, address, interface, ms(patience), &raw mut out)
        })?;
        Ok(Self(out))
    }

    /// The same on CUDA devices, over NCCL. Its collectives stand in line on the device, and the host goes on.
    pub(crate) fn open_nccl(
        store: &Store,
        nccl: &Nccl,
        prefix: &str,
        [rank, ranks]: [usize; 2],
        patience: Duration,
    ) -> Result<Self> {
        let prefix = text(prefix)?;
        let [rank, ranks] = [rank, ranks].map(|n| c_int::try_from(n).unwrap_or(c_int::MAX));
        let (mut out, mut says) = (null_mut(), null_mut());
        // SAFETY: the handle and the text are alive during the call; both places may be written.
        check(unsafe {
            let (out, says) = (&raw mut out, &raw mut says);
            byol_c10d_group_open_nccl(store.0, nccl.open(), prefix.as_ptr(), rank, ranks, ms(patience), out, says)
        })?;
        nccl.check(says)?;
        Ok(Self(out))
    }

    /// Waits until the device has done what this group was asked for. Where the group is the CPU's, it is done already.
    pub(crate) fn settle(&self) -> Result<()> {
        // SAFETY: the handle is alive as long as `self`.
        check(unsafe { byol_c10d_settle(self.0) })
    }

    /// Replaces the tensor by its sum over all ranks.
    pub(crate) fn sum(&self, tensor: &Tensor) -> Result<()> {
        // SAFETY: handle and tensor are alive during the call, which waits for the result.
        check(unsafe { byol_c10d_sum(self.0, any(tensor)) })
    }

    /// Replaces the tensor by rank `root`'s.
    pub(crate) fn broadcast(&self, tensor: &Tensor, root: usize) -> Result<()> {
        let root = c_int::try_from(root).unwrap_or(c_int::MAX);
        // SAFETY: as in `sum`.
        check(unsafe { byol_c10d_broadcast(self.0, any(tensor), root) })
    }

    /// BatchNorm with the statistics of all ranks' batches, forward and backward. They are left in the two tensors, the
    /// variance without bias, as the running statistics want it. The group must outlive the backward pass.
    pub(crate) fn batch_norm(
        self: &Arc<Self>,
        x: &Tensor,
        [weight, bias]: [Option<&Tensor>; 2],
        [batch_mean, batch_variance]: [&Tensor; 2],
        eps: f64,
    ) -> Result<Tensor> {
        let mut out = null_mut();
        let [weight, bias] = [weight, bias].map(|t| t.map_or(null(), any));
        let (mean, variance) = (any(batch_mean), any(batch_variance));
        // SAFETY: all are alive during the call; a null stands for no tensor; `out` may be written.
        check(unsafe { byol_c10d_batch_norm(self.0, any(x), weight, bias, mean, variance, eps, &raw mut out) })?;
        // SAFETY: on success `out` is a new at::Tensor, which is what tch's tensors own.
        Ok(unsafe { Tensor::from_ptr(out.cast()) })
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and not used after this.
        unsafe { byol_c10d_group_free(self.0) };
    }
}

/// Whether CUDA's convolutions and matrix products of float32 may round their factors to TF32, in this process.
pub(crate) fn allow_tf32(allowed: bool) -> Result<()> {
    // SAFETY: it takes and gives no memory.
    check(unsafe { byol_torch_allow_tf32(allowed) })
}

/// What is allowed: convolutions, matrix products.
#[cfg(test)]
pub(crate) fn tf32_allowed() -> [bool; 2] {
    let (mut convolutions, mut products) = (false, false);
    // SAFETY: both places may be written.
    check(unsafe { byol_torch_tf32_allowed(&raw mut convolutions, &raw mut products) }).unwrap();
    [convolutions, products]
}

/// Numbers in memory that a CUDA device reads by itself.
pub(crate) fn pinned<T: Element>(values: &[T]) -> Result<Tensor> {
    let mut out = null_mut();
    // SAFETY: the values are so many bytes and alive during the call, which copies them; `out` may be written.
    check(unsafe { byol_torch_pinned(values.as_ptr().cast(), size_of_val(values), &raw mut out) })?;
    // SAFETY: on success `out` is a new at::Tensor, which is what tch's tensors own.
    let bytes = unsafe { Tensor::from_ptr(out.cast()) };
    Ok(bytes.f_view_dtype(T::KIND)?)
}

/// From now on the gradient of `leaf` is added to `gradient`, which has its shape.
pub(crate) fn bind_gradient(leaf: &Tensor, gradient: &Tensor) -> Result<()> {
    // SAFETY: both are alive during the call, which takes references of its own.
    check(unsafe { byol_c10d_bind_gradient(any(leaf), any(gradient)) })
}

/// Sums gradients over two lanes and all ranks, bucket by bucket, each as soon as it is filled.
#[derive(Debug)]
pub(crate) struct Reducer {
    handle: Handle,
    _group: Arc<Group>, // outlives the reducer
}

// SAFETY: the reducer locks itself.
unsafe impl Send for Reducer {}
// SAFETY: as above.
unsafe impl Sync for Reducer {}

impl Reducer {
    pub(crate) fn new(group: &Arc<Group>) -> Result<Self> {
        let mut out = null_mut();
        // SAFETY: the group is kept alive beside the reducer; `out` may be written.
        check(unsafe { byol_c10d_reducer_new(group.0, &raw mut out) })?;
        Ok(Self { handle: out, _group: Arc::clone(group) })
    }

    /// A range of both lanes' flat gradients; the sum is left in the first. Buckets are sent in the order of their making.
    pub(crate) fn add(&mut self, first: &Tensor, second: &Tensor) -> Result<usize> {
        let mut bucket = 0;
        // SAFETY: all are alive during the call, which takes references of its own; `bucket` may be written.
        check(unsafe { byol_c10d_reducer_add(self.handle, any(first), any(second), &raw mut bucket) })?;
        Ok(bucket)
    }

    /// The bucket is filled once this leaf, and all others that were named, have their gradients.
    pub(crate) fn watch(&mut self, bucket: usize, leaf: &Tensor) -> Result<()> {
        // SAFETY: as in `add`.
        check(unsafe { byol_c10d_reducer_watch(self.handle, bucket, any(leaf)) })
    }

    /// The gradients of the backward passes that come now are the last of this step.
    pub(crate) fn arm(&self) {
        // SAFETY: the handle is alive as long as `self`.
        unsafe { byol_c10d_reducer_arm(self.handle) };
    }

    /// Waits for all buckets.
    pub(crate) fn finish(&self) -> Result<()> {
        // SAFETY: the handle is alive as long as `self`.
        check(unsafe { byol_c10d_reducer_finish(self.handle) })
    }
}

impl Drop for Reducer {
    fn drop(&mut self) {
        // SAFETY: the handle is owned, and not used after this; the hooks share what they need.
        unsafe { byol_c10d_reducer_free(self.handle) };
    }
}

fn any(tensor: &Tensor) -> AnyTensor {
    tensor.as_ptr().cast()
}

fn text(text: &str) -> Result<CString> {
    CString::new(text).map_err(|_| Error::Collective { why: format!("{text:?} has a zero in it") })
}

fn ms(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

pub(crate) fn check(error: *mut c_char) -> Result<()> {
    if error.is_null() {
        return Ok(());
    }
    // SAFETY: an error is a text that ends with a zero, owned here until it is freed.
    let why = unsafe { CStr::from_ptr(error) }.to_string_lossy().into_owned();
    // SAFETY: it came from the same file, and is not used after this.
    unsafe { byol_c10d_text_free(error) };
    Err(Error::Collective { why })
}
