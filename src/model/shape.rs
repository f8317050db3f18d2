//! What one value of a network looks like.

use std::fmt;

/// Stands for the number of examples in [`Shape::dims`]. No dimension of a network is so long, and it is prime: what
/// is computed from it shows whether examples were mixed.
pub const BATCH: usize = 1_000_003;

/// Longest list of dimensions, the batch included.
const MAX_RANK: usize = 6;

/// What one example's value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// A feature map `[channels, height, width]`; the batch dimension stands before it.
    Map {
        /// Number of channels.
        channels: usize,
        /// Rows.
        height: usize,
        /// Columns.
        width: usize,
    },
    /// A vector `[features]`; the batch dimension stands before it.
    Vector {
        /// Number of features.
        features: usize,
    },
    /// Anything else: a sequence of tokens `[n, tokens, features]`, a value without a batch dimension such as a learned
    /// parameter, one whose batch dimension is not the first.
    Tensor(Dims),
}

/// The dimensions of a [`Shape::Tensor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    dims: [usize; MAX_RANK],
    rank: usize,
}

impl Shape {
    /// The shape with these dimensions, where [`BATCH`] stands for the number of examples.
    ///
    /// # Errors
    /// Why no value of a network can have them: too many, or examples that are mixed with something else.
    pub fn new(dims: &[usize]) -> Result<Self, String> {
        match *dims {
            [BATCH, features] if features != BATCH => return Ok(Shape::Vector { features }),
            [BATCH, channels, height, width] if ![channels, height, width].contains(&BATCH) => {
                return Ok(Shape::Map { channels, height, width });
            }
            _ => {}
        }
        if dims.len() > MAX_RANK {
            return Err(format!("a value of {} dimensions, at most {MAX_RANK} are possible", dims.len()));
        }
        if dims.iter().filter(|&&d| d == BATCH).count() > 1 || dims.iter().any(|&d| d > BATCH && d % BATCH == 0) {
            return Err("it mixes the examples of a batch with another dimension".into());
        }
        let mut all = [1; MAX_RANK];
        all[..dims.len()].copy_from_slice(dims);
        Ok(Shape::Tensor(Dims { dims: all, rank: dims.len() }))
    }

    /// All dimensions, with [`BATCH`] for the number of examples.
    pub fn dims(self) -> Vec<usize> {
        match self {
            Shape::Map { channels, height, width } => vec![BATCH, channels, height, width],
            Shape::Vector { features } => vec![BATCH, features],
            Shape::Tensor(Dims { dims, rank }) => dims[..rank].to_vec(),
        }
    }

    /// Number of values of one example.
    pub fn len(self) -> usize {
        self.dims().into_iter().filter(|&d| d != BATCH).product()
    }

    /// As [`Shape::len`], where it can be counted.
    pub fn checked_len(self) -> Option<usize> {
        self.dims().into_iter().filter(|&d| d != BATCH).try_fold(1_usize, usize::checked_mul)
    }

    /// Whether there is no value at all.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Shape::Map { channels, height, width } => write!(f, "[{channels}, {height}, {width}]"),
            Shape::Vector { features } => write!(f, "[{features}]"),
            Shape::Tensor(_) => {
                let text = |d: usize| if d == BATCH { "n".into() } else { d.to_string() };
                let all: Vec<String> = self.dims().into_iter().map(text).collect();
                write!(f, "[{}]", all.join(", "))
            }
        }
    }
}
