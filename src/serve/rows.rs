//! Where the rows of features come from: memory, in float32, float16 or int8.
//!
//! A fit reads rows in blocks. Float32 is borrowed; everything else is turned into float32 block by block, so that no
//! more than a block per thread is ever held.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::error::Result;

/// Features `[rows, columns]`, row after row.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Whole numbers from -128 to 127, taken as such: a common scale is the penalty's business.
    I8(&'a [i8]),
}

impl<'a> From<&'a [f32]> for Rows<'a> {
    fn from(x: &'a [f32]) -> Self {
        Self::F32(x)
    }
}

impl Rows<'_> {
    /// Number of values.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
            Self::I8(x) => x.len(),
        }
    }

    /// Rows `first..last`; `scratch` is used where they are not there as float32.
    ///
    /// # Errors
    /// None of rows in memory.
    pub(crate) fn block<'b>(
        &'b self,
        first: usize,
        last: usize,
        columns: usize,
        scratch: &'b mut Vec<f32>,
    ) -> Result<&'b [f32]> {
        let range = first * columns..last * columns;
        match self {
            Self::F32(x) => return Ok(&x[range]),
            Self::F16(x) => {
                scratch.resize(range.len(), 0.0);
                x[range].convert_to_f32_slice(scratch);
            }
            Self::I8(x) => {
                scratch.clear();
                scratch.extend(x[range].iter().map(|&v| f32::from(v)));
            }
        }
        Ok(scratch)
    }

    /// The given rows, in this order, one after another from a multiple of 64 bytes on: what is used often from the
    /// second-level cache is worth a copy there.
    ///
    /// # Errors
    /// As [`Rows::block`].
    pub(crate) fn gather<'b>(&self, rows: &[u32], columns: usize, scratch: &'b mut Vec<f32>) -> Result<&'b [f32]> {
        let size = rows.len() * columns;
        scratch.resize(size + 15, 0.0);
        let first = scratch.as_ptr().align_offset(64).min(15);
        let out = &mut scratch[first..first + size];
        let mut one = Vec::new();
        for (out, &row) in out.chunks_exact_mut(columns).zip(rows) {
            out.copy_from_slice(self.block(row as usize, row as usize + 1, columns, &mut one)?);
        }
        Ok(out)
    }
}
