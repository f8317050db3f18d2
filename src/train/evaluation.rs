//! k-NN accuracy of the encoder as it is, on labelled pictures held apart from each other. Labels are read here and
//! nowhere else in training: they say how a run is doing, and never reach it.

use crate::augment::{Draw, Random};
use crate::error::{Error, Result};
use crate::monitor::{Labelled, Vote, knn_top1};
use byol_model::dataset::Dataset;
use byol_model::picture::InputContract;
use rayon::prelude::*;

/// Pictures whose classes are guessed, at most; and a fifth of the data at most.
const QUERIES: usize = 1000;
/// Pictures that are asked, at most.
const BANK: usize = 8000;
/// Pictures in one pass where nothing learns.
pub(crate) const BATCH: usize = 250;

/// The pictures of all evaluations of a run.
#[derive(Debug)]
pub struct Evaluation {
    data: Dataset,
    contract: InputContract,
    /// Rows of `data` and their labels: first those whose classes are guessed, then those that are asked.
    rows: Vec<usize>,
    labels: Vec<u32>,
    queries: usize,
    k: usize,
}

impl Evaluation {
    /// Picks pictures by the seed; none where the data have no labels, or too few pictures.
    ///
    /// # Errors
    /// [`Error::Setting`] where there are fewer pictures to ask than `k`.
    pub fn new(data: &Dataset, contract: &InputContract, k: usize, seed: u64) -> Result<Option<Self>> {
        let Some(all) = data.labels() else { return Ok(None) };
        let queries = QUERIES.min(data.len() / 5);
        if queries == 0 {
            return Ok(None);
        }
        let mut rows: Vec<usize> = (0..data.len()).collect();
        Random::new(Draw { seed, epoch: 0, picture: 0, view: u64::MAX - 1 }).shuffle(&mut rows);
        rows.truncate(queries + BANK);
        if rows.len() - queries < k {
            let why = format!("is more than the {} labelled pictures that can be asked", rows.len() - queries);
            return Err(Error::setting("evaluation_k", k, why));
        }
        let labels = rows.iter().map(|&row| all[row]).collect();
        Ok(Some(Self { data: data.clone(), contract: contract.clone(), rows, labels, queries, k }))
    }

    /// Neighbours asked for each picture.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Pictures whose classes are guessed.
    pub fn queries(&self) -> usize {
        self.queries
    }

    /// Rows of the data set whose classes are guessed: nothing that is judged here may learn from them.
    pub fn held_out(&self) -> &[usize] {
        &self.rows[..self.queries]
    }

    /// Features of all pictures that are needed. `features` turns normalised pictures into feature vectors.
    ///
    /// # Errors
    /// [`Error::Model`] names a picture that cannot be read; what `features` gives.
    pub fn features(&self, features: impl Fn(&[f32]) -> Result<Vec<f32>>) -> Result<Features<'_>> {
        let mut all = Vec::new();
        for rows in self.rows.chunks(BATCH) {
            all.extend(features(&prepared(&self.data, rows, &self.contract)?)?);
        }
        Ok(Features { values: all, of: self })
    }
}

/// These rows' pictures as the contract prepares and normalises them, without chance, one behind the other.
pub(crate) fn prepared(data: &Dataset, rows: &[usize], contract: &InputContract) -> Result<Vec<f32>> {
    let one = contract.bytes();
    let mut pictures = vec![0.0; rows.len() * one];
    pictures.par_chunks_exact_mut(one).zip(rows).try_for_each(|(out, &row)| -> Result<()> {
        let mut pixels = vec![0; one];
        contract.prepare(data.picture(row)?.view(), &mut pixels)?;
        contract.normalise(&pixels, out);
        Ok(())
    })?;
    Ok(pictures)
}

/// Features of an evaluation's pictures.
#[derive(Debug)]
pub struct Features<'a> {
    values: Vec<f32>,
    of: &'a Evaluation,
}

impl Features<'_> {
    /// Features and labels of the pictures whose classes are guessed.
    pub fn queries(&self) -> Labelled<'_> {
        let end = self.values.len() / self.of.rows.len() * self.of.queries;
        Labelled { features: &self.values[..end], labels: &self.of.labels[..self.of.queries] }
    }

    /// Share of those pictures whose nearest neighbours, by cosine, have their class.
    pub fn knn(&self) -> f64 {
        let queries = self.queries();
        let bank =
            Labelled { features: &self.values[queries.features.len()..], labels: &self.of.labels[self.of.queries..] };
        knn_top1(bank, queries, self.of.k, Vote::Majority)
    }
}
