//! How a feature map becomes a vector.

use crate::error::{Error, Result, unknown};
use crate::graph::{GraphBuilder, Init, NodeId, Op, Shape};
use crate::tensor_op::{Binary, TensorOp, Unary};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// Which pooling.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pool {
    /// What the architecture was published with: the class token of a transformer, the mean of all others.
    #[default]
    Published,
    /// Mean over positions.
    Average,
    /// Maximum over positions.
    Max,
    /// Mean and then maximum over positions: timm's `catavgmax`.
    CatAvgMax,
    /// Maximum and then mean over positions: fastai's `AdaptiveConcatPool2d`.
    CatMaxAvg,
    /// Generalised mean (Radenović et al. 2018, arXiv 1711.02512): `mean(max(x, 1e-6)^p)^(1/p)`. `p` is learned and starts
    /// at 3.
    GeM,
    /// Average-pooled to n x n, then flattened: keeps where things are.
    Grid(usize),
}

/// Names of all but the grids.
const NAMES: [(&str, Pool); 6] = [
    ("published", Pool::Published),
    ("average", Pool::Average),
    ("max", Pool::Max),
    ("catavgmax", Pool::CatAvgMax),
    ("catmaxavg", Pool::CatMaxAvg),
    ("gem", Pool::GeM),
];

impl fmt::Display for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, NAMES.iter().find(|(_, pool)| pool == self)) {
            (Pool::Grid(n), _) => write!(f, "grid{n}"),
            (_, found) => f.write_str(found.map_or("published", |(name, _)| name)),
        }
    }
}

impl FromStr for Pool {
    type Err = Error;

    fn from_str(s: &str) -> Result<Self> {
        if let Some((_, pool)) = NAMES.iter().find(|(name, _)| *name == s) {
            return Ok(*pool);
        }
        let grid = s.strip_prefix("grid").and_then(|n| n.parse().ok()).map(Pool::Grid);
        let names = NAMES.map(|(name, _)| name);
        grid.ok_or_else(|| unknown("pooling", s, names.into_iter().chain(["grid2 (or another number)"])))
    }
}

impl Serialize for Pool {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Pools a feature map to a vector; `suffix` tells the poolings of one network apart.
pub(crate) fn pool(b: &mut GraphBuilder, suffix: &str, pool: Pool, x: NodeId) -> Result<NodeId> {
    let average = format!("avgpool{suffix}");
    let maximum = format!("maxpool_last{suffix}");
    match pool {
        Pool::Published | Pool::Average => b.add(average, Op::GlobalAvgPool, &[x]),
        Pool::Max => b.add(maximum, Op::GlobalMaxPool, &[x]),
        Pool::CatAvgMax | Pool::CatMaxAvg => {
            let mean = b.add(average, Op::GlobalAvgPool, &[x])?;
            let max = b.add(maximum, Op::GlobalMaxPool, &[x])?;
            let both = if pool == Pool::CatAvgMax { [mean, max] } else { [max, mean] };
            b.add(format!("{pool}{suffix}"), Op::Concat, &both)
        }
        Pool::GeM => {
            let name = |part: &str| format!("gem{suffix}.{part}");
            let p = b.add(name("p"), Op::Tensor(TensorOp::Parameter { shape: vec![1] }), &[])?;
            b.start(p, &[("", Init::Constant(3.0))]);
            let unary = |op| Op::Tensor(TensorOp::Unary(op));
            let power = || Op::Tensor(TensorOp::Binary(Binary::Pow));
            let x = b.add(name("clamp"), unary(Unary::Clip { min: 1e-6, max: f32::MAX }), &[x])?;
            let x = b.add(name("power"), power(), &[x, p])?;
            let x = b.add(name("mean"), Op::GlobalAvgPool, &[x])?;
            let inverse = b.add(name("inverse"), unary(Unary::Reciprocal), &[p])?;
            b.add(name("root"), power(), &[x, inverse])
        }
        Pool::Grid(n) => {
            let Shape::Map { height, width, .. } = b.shape(x) else {
                return Err(Error::Graph { node: average, why: "reads a feature map".into() });
            };
            let windows = |size: usize| {
                adaptive_windows(size, n).ok_or_else(|| {
                    let fits: Vec<String> =
                        (1..=size).filter(|&n| adaptive_windows(size, n).is_some()).map(|n| n.to_string()).collect();
                    let why = format!("grid{n} does not divide a feature map of {size} pixels; {} do", fits.join(", "));
                    Error::Setting { key: "encoder.pool".into(), why }
                })
            };
            let ([kh, sh, ph], [kw, sw, pw]) = (windows(height)?, windows(width)?);
            let (kernel, stride, padding) = ([kh, kw], [sh, sw], [ph, pw]);
            let x = b.add(average, Op::AvgPool { kernel, stride, padding, ceil: false }, &[x])?;
            b.add(format!("flatten{suffix}"), Op::Flatten, &[x])
        }
    }
}

/// Kernel, stride and padding of the average pooling that has the windows of torch's adaptive pooling from `size` to
/// `n` (from `floor(i size / n)` to `ceil((i + 1) size / n)`), where there is one.
fn adaptive_windows(size: usize, n: usize) -> Option<[usize; 3]> {
    if n == 0 || n > size {
        return None;
    }
    let wanted: Vec<_> = (0..n).map(|i| (i * size / n, ((i + 1) * size).div_ceil(n))).collect();
    let candidates = (1..=size).flat_map(|kernel| {
        (1..=size).flat_map(move |stride| (0..=kernel / 2).map(move |padding| [kernel, stride, padding]))
    });
    candidates.into_iter().find(|&[kernel, stride, padding]| {
        let room = (size + 2 * padding).checked_sub(kernel);
        let window =
            |i: usize| ((i * stride).saturating_sub(padding), (i * stride + kernel).saturating_sub(padding).min(size));
        room.is_some_and(|room| room / stride + 1 == n) && (0..n).all(|i| window(i) == wanted[i])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grid_pooling_has_the_windows_of_adaptive_pooling_or_is_refused() {
        assert_eq!(adaptive_windows(7, 4), Some([3, 2, 1]));
        assert_eq!(adaptive_windows(7, 2), Some([4, 3, 0]));
        assert_eq!(adaptive_windows(8, 2), Some([4, 4, 0]));
        assert_eq!(adaptive_windows(7, 1), Some([7, 1, 0]));
        assert_eq!(adaptive_windows(7, 5), None);
        assert_eq!(adaptive_windows(7, 8), None);
    }
}
