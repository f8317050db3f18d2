//! Gradients of both lanes, summed over all ranks while the backward pass goes on.
//!
//! A network's flat gradient is cut into buckets, its last layers first: their gradients come first. A bucket leaves as
//! soon as both lanes have filled it. Biases and normalisations, which lie together behind all weights, leave last.

use crate::c10d::Reducer;
use crate::distributed::Ranks;
use crate::error::Result;
use crate::network::Lane;
use tch::Tensor;

/// Bytes of gradient that are sent at once: enough to fill a network, and little enough to leave early.
const BUCKET_BYTES: usize = 8 << 20;

/// The sum over lanes and ranks of some networks' gradients.
#[derive(Debug)]
pub(crate) struct Reduction {
    reducer: Reducer,
    /// Ranks, whose mean is wanted.
    pub(crate) ranks: usize,
}

impl Reduction {
    /// For networks in the order of the forward pass, each with its two lanes and the number of its weights.
    ///
    /// # Errors
    /// [`crate::Error::Torch`], [`crate::Error::Collective`].
    pub(crate) fn new(ranks: &Ranks, networks: Vec<(&mut Lane, &mut Lane, i64)>) -> Result<Self> {
        let mut reducer = Reducer::new(ranks.gradients())?;
        let largest = (BUCKET_BYTES / size_of::<f32>()) as i64;
        let mut rest = Vec::new();
        for (first, second, weights) in networks.into_iter().rev() {
            let flats = [first.bind_gradient()?.shallow_clone(), second.bind_gradient()?.shallow_clone()];
            let [first, second] = [&*first, &*second];
            let parts = cut(first.leaves().map(|(start, length, _)| (start, length)), weights, largest);
            for (start, end) in parts {
                // Those behind the weights wait for all networks.
                if start >= weights {
                    rest.push((flats.each_ref().map(Tensor::shallow_clone), [first, second], start, end));
                } else {
                    add(&mut reducer, &flats, [first, second], start, end)?;
                }
            }
        }
        for (flats, lanes, start, end) in rest {
            add(&mut reducer, &flats, lanes, start, end)?;
        }
        Ok(Self { reducer, ranks: ranks.count() })
    }

    /// The backward passes that come now are the last before [`finish`](Self::finish).
    pub(crate) fn arm(&self) {
        self.reducer.arm();
    }

    /// Waits until the first lanes' gradients hold the sums.
    ///
    /// # Errors
    /// [`crate::Error::Collective`].
    pub(crate) fn finish(&self) -> Result<()> {
        self.reducer.finish()
    }
}

fn add(reducer: &mut Reducer, flats: &[Tensor; 2], lanes: [&Lane; 2], start: i64, end: i64) -> Result<()> {
    let [first, second] = [0, 1].map(|i: usize| flats[i].f_narrow(0, start, end - start));
    let bucket = reducer.add(&first?, &second?)?;
    for lane in lanes {
        for (_, _, leaf) in lane.leaves().filter(|(at, _, _)| (start..end).contains(at)) {
            reducer.watch(bucket, leaf)?;
        }
    }
    Ok(())
}

/// Ranges of whole parameters, from the last weight to the first, each at most `largest` values unless one parameter is
/// longer; then the range behind the weights, if there is one.
fn cut(parameters: impl Iterator<Item = (i64, i64)>, weights: i64, largest: i64) -> Vec<(i64, i64)> {
    let all: Vec<(i64, i64)> = parameters.collect();
    let mut parts: Vec<(i64, i64)> = Vec::new();
    for &(start, length) in all.iter().rev().filter(|(start, _)| *start < weights) {
        match parts.last_mut() {
            Some((from, to)) if *to - start <= largest => *from = start,
            _ => parts.push((start, start + length)),
        }
    }
    let total = all.last().map_or(0, |(start, length)| start + length);
    if total > weights {
        parts.push((weights, total));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::cut;

    #[test]
    fn buckets_hold_whole_parameters_from_the_last_weight_to_the_first() {
        // Weights of 10, 20, 5 and 100 values, then 7 others.
        let parameters = [(0, 10), (10, 20), (30, 5), (35, 100), (135, 4), (139, 3)];
        let parts = |largest| cut(parameters.into_iter(), 135, largest);
        assert_eq!(parts(30), [(35, 135), (10, 35), (0, 10), (135, 142)]);
        assert_eq!(parts(1), [(35, 135), (30, 35), (10, 30), (0, 10), (135, 142)]);
        assert_eq!(parts(1000), [(0, 135), (135, 142)]);
        assert_eq!(cut([(0, 4)].into_iter(), 4, 8), [(0, 4)]);
        assert!(cut([].into_iter(), 0, 8).is_empty());
    }
}
