//! Where the rows of features come from: memory, in float32, float16 or int8, or a file.
//!
//! A fit reads rows in blocks. Float32 is borrowed; everything else is turned into float32 block by block, so that no
//! more than a block per thread is ever held.

use half::f16;
use half::slice::HalfFloatSliceExt;

use crate::curvature::Gathered;
use crate::error::Result;
use crate::feature_file::FeatureFile;

/// Features `[rows, columns]`, row after row.
#[derive(Clone, Copy, Debug)]
pub enum Rows<'a> {
    /// As they are.
    F32(&'a [f32]),
    /// Half precision.
    F16(&'a [f16]),
    /// Whole numbers from -128 to 127, taken as such: a common scale is the penalty's business.
    I8(&'a [i8]),
    /// Read in blocks.
    File(&'a FeatureFile),
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
            Self::File(file) => file.len() * file.dimensions(),
        }
    }

    /// Rows `first..last`; `scratch` is used where they are not there as float32.
    ///
    /// # Errors
    /// None of rows in memory; a file that cannot be read.
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
            Self::File(file) => file.read(first, last, scratch)?,
        }
        Ok(scratch)
    }

    /// The given rows, in this order.
    ///
    /// # Errors
    /// As [`Rows::block`].
    pub(crate) fn gather<'b>(
        &'b self,
        rows: &'b [u32],
        columns: usize,
        scratch: &'b mut Vec<f32>,
    ) -> Result<Gathered<'b>> {
        if let Self::F32(x) = self {
            return Ok(Gathered { x, at: Some(rows) });
        }
        if let Self::File(file) = self {
            scratch.resize(rows.len() * columns, 0.0);
            // One read for rows that follow each other.
            let mut to = &mut scratch[..];
            for run in rows.chunk_by(|a, b| a + 1 == *b) {
                let (here, rest) = to.split_at_mut(run.len() * columns);
                file.read_into(run[0] as usize, here)?;
                to = rest;
            }
            return Ok(Gathered { x: scratch, at: None });
        }
        scratch.clear();
        let mut one = Vec::new();
        for &row in rows {
            let row = row as usize;
            scratch.extend_from_slice(self.block(row, row + 1, columns, &mut one)?);
        }
        Ok(Gathered { x: scratch, at: None })
    }
}
