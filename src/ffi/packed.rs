//! Features in fewer bytes.

use std::ffi::c_void;

use byol_serve::packed;
use half::f16;
use ndarray::ArrayView2;

use crate::extract::span;
use crate::guard::guard;
use crate::head::matrix;
use crate::pointer;
use crate::status::*;

/// Element type of features: float.
pub const BYOL_ELEMENT_F32: u32 = 0;
/// Element type of features: IEEE 754 half precision, 2 bytes in the machine's order. Relative error at most 2^-11;
/// values beyond 65504 become 65504.
pub const BYOL_ELEMENT_F16: u32 = 1;
/// Element type of features: int8_t from -127 to 127 with one float per row, its scale: value = element * scale. The
/// scale is a 127th of the row's largest absolute value, the error at most half a scale.
pub const BYOL_ELEMENT_I8: u32 = 2;

/// Where packed rows go, without gaps.
pub(crate) enum Packing<'a> {
    F16(&'a mut [f16]),
    I8(&'a mut [i8], &'a mut [f32]),
}

impl Packing<'_> {
    /// Room for `[rows, columns]`; `length` counts bytes.
    pub(crate) unsafe fn read(
        element: u32,
        packed: *mut c_void,
        length: usize,
        scales: *mut f32,
        rows: usize,
        columns: usize,
    ) -> Result<Self> {
        let values = span(rows, columns, columns)?;
        check_length(element, values, length)?;
        // SAFETY: the caller's pointers, checked.
        unsafe {
            match element {
                BYOL_ELEMENT_F16 => Ok(Self::F16(pointer::slice_mut(packed.cast(), values, "packed")?)),
                BYOL_ELEMENT_I8 => Ok(Self::I8(
                    pointer::slice_mut(packed.cast(), values, "packed")?,
                    pointer::slice_mut(scales, rows, "scales")?,
                )),
                other => Err(unknown(other)),
            }
        }
    }

    pub(crate) fn put(&mut self, row: usize, values: &[f32]) {
        let range = row * values.len()..(row + 1) * values.len();
        match self {
            Self::F16(out) => packed::to_f16(values, &mut out[range]),
            Self::I8(out, scales) => scales[row] = packed::to_i8(values, &mut out[range]),
        }
    }
}

/// Bytes of so many values are there.
fn check_length(element: u32, values: usize, length: usize) -> Result<()> {
    let size = match element {
        BYOL_ELEMENT_F16 => 2,
        BYOL_ELEMENT_I8 => 1,
        other => return Err(unknown(other)),
    };
    let needed = values.saturating_mul(size);
    if length < needed {
        return Err(Fault::new(
            BYOL_E_BUFFER_TOO_SMALL,
            format_args!("packed_len is {length} bytes, {needed} are needed"),
        ));
    }
    Ok(())
}

fn unknown(element: u32) -> Fault {
    Fault::argument(format_args!("element is {element}, not BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8"))
}

/// Packs `rows` rows of `columns` features, `row_stride` floats apart (0 for columns), into `element`
/// (BYOL_ELEMENT_F16 or BYOL_ELEMENT_I8), without gaps: a half or a quarter of the memory, for features that are kept in
/// large numbers. `packed_len` counts bytes. `scales` gets one float per row with BYOL_ELEMENT_I8, and may be NULL else.
/// byol_extract does this by itself, where its options ask for it.
///
/// Ownership: all memory is the caller's and only used during the call; outputs must not overlap features. Threads: any.
/// Errors: NULL_POINTER, INVALID_ARG, SHAPE, NON_FINITE (item_index: the row), BUFFER_TOO_SMALL. @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_pack(
    features: *const f32,
    rows: usize,
    columns: usize,
    row_stride: usize,
    element: u32,
    packed: *mut c_void,
    packed_len: usize,
    scales: *mut f32,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let features = matrix(features, rows, columns, row_stride)?;
            let mut packing = Packing::read(element, packed, packed_len, scales, rows, columns)?;
            check_finite(features)?;
            let mut whole = Vec::new();
            for (row, values) in features.outer_iter().enumerate() {
                whole.clear();
                whole.extend(values);
                packing.put(row, &whole);
            }
            Ok(())
        })
    }
}

/// Unpacks rows that byol_pack or byol_extract packed, into rows `row_stride` floats apart (0 for columns).
///
/// Ownership: all memory is the caller's and only used during the call; features must not overlap the inputs.
/// Threads: any.
/// Errors: NULL_POINTER, INVALID_ARG, SHAPE, BUFFER_TOO_SMALL (of features, or packed_len too small). @since 0.1.0
#[unsafe(no_mangle)]
#[must_use]
pub unsafe extern "C" fn byol_unpack(
    packed: *const c_void,
    packed_len: usize,
    element: u32,
    scales: *const f32,
    rows: usize,
    columns: usize,
    features: *mut f32,
    row_stride: usize,
    features_len: usize,
    error: *mut byol_error,
) -> byol_status {
    // SAFETY: the caller's pointers, checked.
    unsafe {
        guard(error, || {
            let values = span(rows, columns, columns)?;
            check_length(element, values, packed_len)?;
            let stride = if row_stride == 0 { columns } else { row_stride };
            let used = span(rows, columns, stride)?;
            if features_len < used {
                return Err(Fault::new(
                    BYOL_E_BUFFER_TOO_SMALL,
                    format_args!("features_len is {features_len} floats, {used} are needed"),
                ));
            }
            let out = pointer::slice_mut(features, used, "features")?;
            match element {
                BYOL_ELEMENT_F16 => {
                    let packed: &[f16] = pointer::slice(packed.cast(), values, "packed")?;
                    for row in 0..rows {
                        packed::from_f16(&packed[row * columns..][..columns], &mut out[row * stride..]);
                    }
                }
                _ => {
                    let packed: &[i8] = pointer::slice(packed.cast(), values, "packed")?;
                    let scales = pointer::slice(scales, rows, "scales")?;
                    for row in 0..rows {
                        packed::from_i8(&packed[row * columns..][..columns], scales[row], &mut out[row * stride..]);
                    }
                }
            }
            Ok(())
        })
    }
}

/// Every value is a number.
pub(crate) fn check_finite(features: ArrayView2<f32>) -> Result<()> {
    for (row, values) in features.outer_iter().enumerate() {
        if let Some(column) = values.iter().position(|value| !value.is_finite()) {
            return Err(byol_serve::Error::NonFinite { row, column, value: values[column] }.into());
        }
    }
    Ok(())
}
