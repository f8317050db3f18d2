//! A trainer: examples that come and go, and the head that is fitted to them.
//!
//! It holds features, not pictures: those of any encoder, in float32. Every example has a number of its own, so that it
//! can be removed or given to another class; classes come and go too. What is fitted is always the optimum of all the
//! examples that are there ([`crate::solver`]), so the order in which they came does not matter, and nothing is forgotten;
//! [`Trainer::refit`] only gets there sooner, because it starts at the optimum before.
//!
//! All calls take `&self` and come from any thread. Examples may be added while a fit runs: it goes on with those that
//! were there when it began.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::{Array2, ArrayView2};

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::features::Features;
use crate::head::{Head, Training};
use crate::path::{self, PathPoint};
use crate::problem::check_labels;
use crate::solver::{FitOptions, Kept, Progress};

/// Examples and their classes.
#[derive(Debug)]
pub struct Trainer {
    dimension: usize,
    encoder: Option<String>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// With labels and classes, without names.
    examples: Arc<Features>,
    /// The examples' numbers, ascending.
    ids: Vec<u64>,
    next: u64,
    /// The last optimum.
    head: Option<Head>,
    /// What the last fit left for the next; away while one runs.
    kept: Kept,
}

/// How [`Trainer::search`] judges penalties.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Judge {
    /// On a share of every class that is held out, penalties from strong to weak, each starting where those before lead. With
    /// `patience`, the path ends once the loss there has not fallen for so many penalties.
    HeldOut {
        /// The share, above 0 and at most a half.
        share: f64,
        /// None to try every penalty.
        patience: Option<usize>,
    },
    /// By cross-validation in so many folds, stratified by class.
    Folds(usize),
}

/// What [`Trainer::search`] tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Search {
    /// Penalties per example; empty for [`default_penalties`].
    pub penalties: Vec<f64>,
    /// How they are judged.
    pub judge: Judge,
    /// Decides which examples are held out.
    pub seed: u64,
}

impl Default for Search {
    fn default() -> Self {
        Self { penalties: Vec::new(), judge: Judge::HeldOut { share: 0.2, patience: Some(3) }, seed: 0 }
    }
}

/// What became of one penalty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tried {
    /// Penalty per example.
    pub l2: f64,
    /// Share of right rows among those held out; with folds, its mean.
    pub accuracy: f64,
    /// Standard deviation of that share over the folds; 0 without folds.
    pub deviation: f64,
    /// Mean cross-entropy of the rows held out.
    pub log_loss: f64,
}

/// What [`Trainer::search`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// The penalties that were tried, strongest first.
    pub tried: Vec<Tried>,
    /// Index of the best: highest accuracy, then lowest loss, then strongest penalty.
    pub best: usize,
}

/// Thirteen penalties from 1 to 1e-6, two per power of ten, strongest first.
pub fn default_penalties() -> Vec<f64> {
    (0..13).map(|i| 10f64.powf(-0.5 * f64::from(i))).collect()
}

impl Trainer {
    /// A trainer without examples, for features of `dimension` numbers; `encoder` is the SHA-256 (hex) of the encoder
    /// file that makes them, where it is known.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for dimension 0.
    pub fn new(dimension: usize, encoder: Option<String>) -> Result<Self> {
        if dimension == 0 {
            let must = "features have at least one number";
            return Err(Error::InvalidOption { option: "dimension", value: "0".into(), must });
        }
        let examples = Features {
            values: Array2::zeros((0, dimension)),
            labels: Some(Vec::new()),
            classes: Some(Vec::new()),
            encoder: encoder.clone(),
            names: None,
        };
        let state = State { examples: Arc::new(examples), ids: Vec::new(), next: 1, head: None, kept: Kept::default() };
        Ok(Self { dimension, encoder, state: Mutex::new(state) })
    }

    /// Number of features of an example.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// SHA-256 (hex) of the encoder file, where it is known.
    pub fn encoder(&self) -> Option<&str> {
        self.encoder.as_deref()
    }

    /// Checks that features of an encoder may become examples here. What is not known passes.
    ///
    /// # Errors
    /// [`Error::FeaturesOfAnotherEncoder`].
    pub fn check_encoder(&self, sha256: &str) -> Result<()> {
        match &self.encoder {
            Some(expected) if !expected.eq_ignore_ascii_case(sha256) => {
                Err(Error::FeaturesOfAnotherEncoder { expected: expected.clone(), found: sha256.to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.state().ids.len()
    }

    /// Whether there is no example.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The classes' names, in the order of their numbers.
    pub fn classes(&self) -> Vec<String> {
        self.state().classes().to_vec()
    }

    /// Number of examples of every class.
    pub fn counts(&self) -> Vec<u64> {
        let state = self.state();
        let mut counts = vec![0; state.classes().len()];
        state.labels().iter().for_each(|&label| counts[label as usize] += 1);
        counts
    }

    /// The examples as they are now, in the order of their numbers, with labels and classes: to be saved, say.
    pub fn features(&self) -> Arc<Features> {
        Arc::clone(&self.state().examples)
    }

    /// Whether there is a head of a fit before.
    pub fn is_fitted(&self) -> bool {
        self.state().head.is_some()
    }

    /// The head of the last fit.
    pub fn head(&self) -> Option<Head> {
        self.state().head.clone()
    }

    /// Adds a class without examples and gives its number; the number of the class of that name, where there is one.
    ///
    /// # Errors
    /// [`Error::InvalidOption`] for an empty name, [`Error::NoMemory`].
    pub fn add_class(&self, name: &str) -> Result<u32> {
        if name.is_empty() {
            return Err(Error::InvalidOption { option: "name", value: "\"\"".into(), must: "a class needs a name" });
        }
        let mut state = self.state();
        if let Some(class) = state.classes().iter().position(|class| class == name) {
            return Ok(class as u32);
        }
        let classes = state.unique()?.classes.get_or_insert_default();
        classes.push(name.to_owned());
        Ok((classes.len() - 1) as u32)
    }

    /// Removes a class with all its examples; the numbers of the classes behind it become smaller by one. Gives the
    /// number of examples removed.
    ///
    /// # Errors
    /// [`Error::UnknownClass`], [`Error::NoMemory`].
    pub fn remove_class(&self, class: u32) -> Result<usize> {
        let mut state = self.state();
        state.check_class(class)?;
        let keep: Vec<bool> = state.labels().iter().map(|&label| label != class).collect();
        let removed = state.retain(&keep)?;
        let examples = state.unique()?;
        for label in examples.labels.iter_mut().flatten().filter(|label| **label > class) {
            *label -= 1;
        }
        if let Some(classes) = &mut examples.classes {
            classes.remove(class as usize);
        }
        Ok(removed)
    }

    /// Adds examples and gives their numbers, which are never used again. All are added or none.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`], [`Error::LabelMismatch`], [`Error::LabelOutside`] for a class that is not there,
    /// [`Error::NonFinite`], [`Error::NoMemory`].
    pub fn add(&self, rows: ArrayView2<f32>, labels: &[u32]) -> Result<Range<u64>> {
        let mut state = self.state();
        check_labels(labels, state.classes().len())?;
        state.push(rows, labels)
    }

    /// Checks that labels count the classes that there are, before examples are made for them.
    ///
    /// # Errors
    /// [`Error::LabelOutside`].
    pub fn check_labels(&self, labels: &[u32]) -> Result<()> {
        check_labels(labels, self.state().classes().len())
    }

    /// Adds the rows of labelled features; classes are matched by name, and new ones added.
    ///
    /// # Errors
    /// [`Error::FeaturesOfAnotherEncoder`], [`Error::DimensionMismatch`], [`Error::NoLabels`], [`Error::LabelMismatch`],
    /// [`Error::LabelOutside`], [`Error::NonFinite`], [`Error::NoMemory`].
    pub fn add_features(&self, features: &Features) -> Result<Range<u64>> {
        if let Some(found) = &features.encoder {
            self.check_encoder(found)?;
        }
        if features.dimensions() != self.dimension {
            let (expected, found) = (self.dimension, features.dimensions());
            return Err(Error::DimensionMismatch { what: "columns of rows to add", expected, found });
        }
        let labels = features.labels()?;
        features.check_finite()?;
        let classes = features.class_count();
        check_labels(labels, classes)?;
        let numbers: Vec<u32> =
            (0..classes).map(|class| self.add_class(&features.class_name(class))).collect::<Result<_>>()?;
        let labels: Vec<u32> = labels.iter().map(|&label| numbers[label as usize]).collect();
        self.add(features.values.view(), &labels)
    }

    /// Removes examples. All are removed or none.
    ///
    /// # Errors
    /// [`Error::UnknownExample`], [`Error::NoMemory`].
    pub fn remove(&self, ids: &[u64]) -> Result<()> {
        let mut state = self.state();
        let mut keep = vec![true; state.ids.len()];
        for &id in ids {
            keep[state.row(id)?] = false;
        }
        state.retain(&keep).map(drop)
    }

    /// Gives an example to another class.
    ///
    /// # Errors
    /// [`Error::UnknownExample`], [`Error::UnknownClass`], [`Error::NoMemory`].
    pub fn relabel(&self, id: u64, class: u32) -> Result<()> {
        let mut state = self.state();
        state.check_class(class)?;
        let row = state.row(id)?;
        if let Some(labels) = &mut state.unique()?.labels {
            labels[row] = class;
        }
        Ok(())
    }

    /// Fits a head to all examples.
    ///
    /// # Errors
    /// As [`Head::fit`]; [`Error::EmptyClass`] names a class without examples.
    pub fn fit(
        &self,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
    ) -> Result<Head> {
        // From nothing, whatever was fitted before: the same examples give the same head.
        let mut kept = Kept::default();
        let head = Head::fit_with(&self.features(), options, cancel, progress, &mut kept)?;
        self.state().kept = kept.light();
        Ok(self.keep(head))
    }

    /// Fits a head to all examples as [`Trainer::fit`] does, to the same optimum, starting at the last one: after a few
    /// changes, or with a neighbouring penalty, it takes a fraction of the time. The first time it is a fit.
    ///
    /// # Errors
    /// As [`Trainer::fit`].
    pub fn refit(
        &self,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
    ) -> Result<Head> {
        let (examples, last, mut kept) = {
            let mut state = self.state();
            (Arc::clone(&state.examples), state.head.clone(), std::mem::take(&mut state.kept))
        };
        let head = match last {
            Some(last) => last.refit_with(&examples, options, cancel, progress, &mut kept)?,
            None => Head::fit_with(&examples, options, cancel, progress, &mut kept)?,
        };
        self.state().kept = kept.light();
        Ok(self.keep(head))
    }

    /// Tries penalties on examples that are held out, and fits the best to all examples. `options.l2` is not used.
    ///
    /// # Errors
    /// As [`Trainer::fit`], [`path::fit_path`] and [`path::cross_validate`]; [`Error::InvalidOption`] for a share that is
    /// not above 0 and at most a half.
    pub fn search(
        &self,
        options: &FitOptions,
        search: &Search,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&PathPoint)>,
    ) -> Result<(Head, Found)> {
        let examples = self.features();
        let own = default_penalties();
        let penalties = if search.penalties.is_empty() { &own } else { &search.penalties };
        let (head, found) = match search.judge {
            Judge::Folds(folds) => {
                let judged = path::cross_validate(&examples, penalties, folds, search.seed, options, cancel, progress)?;
                let options = FitOptions { l2: judged.points[judged.best].l2, ..options.clone() };
                let tried = judged.points.iter().map(|p| Tried {
                    l2: p.l2,
                    accuracy: p.accuracy,
                    deviation: p.deviation,
                    log_loss: p.log_loss,
                });
                let found = Found { tried: tried.collect(), best: judged.best };
                (Head::fit(&examples, &options, cancel, None)?, found)
            }
            Judge::HeldOut { share, patience } => {
                if !(share > 0.0 && share <= 0.5) {
                    let must = "it must be above 0 and at most 0.5";
                    return Err(Error::InvalidOption { option: "share", value: share.to_string(), must });
                }
                let labels = examples.labels()?;
                let fold = path::stratified_folds(labels, (1.0 / share).round() as usize, search.seed);
                let (out, rest): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|&row| fold[row] == 0);
                let (out, rest) = (examples.select(&out), examples.select(&rest));
                let walked = path::fit_path(
                    rest.values.view(),
                    rest.labels()?,
                    out.values.view(),
                    out.labels()?,
                    examples.class_count(),
                    penalties,
                    patience,
                    options,
                    cancel,
                    progress,
                )?;
                let tried = walked.points.iter().map(|p| Tried {
                    l2: p.fit.l2,
                    accuracy: p.accuracy,
                    deviation: 0.0,
                    log_loss: p.log_loss,
                });
                let found = Found { tried: tried.collect(), best: walked.best };
                let labels = (0..examples.class_count()).map(|class| examples.class_name(class)).collect();
                let (weights, bias) = (walked.weights.mapv(|w| w as f32), walked.bias.mapv(|b| b as f32));
                let mut head = Head::from_parts(weights, bias, labels)?;
                head.encoder_sha256 = examples.encoder.clone();
                let standardize = options.standardize;
                head.training = Some(Training { examples: examples.len(), standardize, fit: walked.refit });
                (head, found)
            }
        };
        Ok((self.keep(head), found))
    }

    /// A head without fitting, as [`Head::imprint`]. It does not become the start of a refit.
    ///
    /// # Errors
    /// As [`Head::imprint`].
    pub fn imprint(&self, scale: f32) -> Result<Head> {
        Head::imprint(&self.features(), scale)
    }

    fn keep(&self, head: Head) -> Head {
        self.state().head = Some(head.clone());
        head
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn classes(&self) -> &[String] {
        self.examples.classes.as_deref().unwrap_or_default()
    }

    fn labels(&self) -> &[u32] {
        self.examples.labels.as_deref().unwrap_or_default()
    }

    fn check_class(&self, class: u32) -> Result<()> {
        let classes = self.classes().len();
        if (class as usize) < classes { Ok(()) } else { Err(Error::UnknownClass { class, classes }) }
    }

    fn row(&self, id: u64) -> Result<usize> {
        self.ids.binary_search(&id).map_err(|_| Error::UnknownExample { id })
    }

    /// The examples to be changed: a copy of their own, where a fit goes on with them.
    fn unique(&mut self) -> Result<&mut Features> {
        if Arc::get_mut(&mut self.examples).is_none() {
            self.examples = Arc::new(self.examples.try_clone()?);
        }
        // It is the only one by now, so nothing is copied here.
        Ok(Arc::make_mut(&mut self.examples))
    }

    fn push(&mut self, rows: ArrayView2<f32>, labels: &[u32]) -> Result<Range<u64>> {
        let count = rows.nrows();
        let no_memory = |_| Error::NoMemory { bytes: count.saturating_mul(size_of::<u64>()) };
        self.ids.try_reserve(count).map_err(no_memory)?;
        let examples = self.unique()?;
        let added = examples.append(rows, Some(labels), None);
        // An empty list is none to `append`; here there are always labels.
        examples.labels.get_or_insert_default();
        added?;
        let ids = self.next..self.next + count as u64;
        self.ids.extend(ids.clone());
        self.next = ids.end;
        Ok(ids)
    }

    /// Keeps the examples that are marked; gives how many are gone.
    fn retain(&mut self, keep: &[bool]) -> Result<usize> {
        let gone = keep.iter().filter(|keep| !**keep).count();
        if gone == 0 {
            return Ok(0);
        }
        let examples = self.unique()?;
        let columns = examples.dimensions();
        let (mut values, _) = std::mem::take(&mut examples.values).into_raw_vec_and_offset();
        let mut to = 0;
        for from in (0..keep.len()).filter(|&row| keep[row]) {
            values.copy_within(from * columns..(from + 1) * columns, to * columns);
            to += 1;
        }
        values.truncate(to * columns);
        let wrong = |_| Error::DimensionMismatch { what: "values of the examples", expected: to, found: 0 };
        examples.values = Array2::from_shape_vec((to, columns), values).map_err(wrong)?;
        let mut rows = keep.iter();
        if let Some(labels) = &mut examples.labels {
            labels.retain(|_| *rows.next().unwrap_or(&true));
        }
        let mut rows = keep.iter();
        self.ids.retain(|_| *rows.next().unwrap_or(&true));
        Ok(gone)
    }
}

#[cfg(test)]
mod tests {
    use ndarray::s;

    use super::*;

    /// Three classes in five columns, overlapping a little.
    fn rows(count: usize) -> (Array2<f32>, Vec<u32>) {
        let mut state = 7u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
        };
        let labels: Vec<u32> = (0..count).map(|row| (row % 3) as u32).collect();
        let values = Array2::from_shape_fn((count, 5), |(row, column)| {
            noise() * 2.0 + if column == row % 3 { 1.5 } else { 0.0 }
        });
        (values, labels)
    }

    fn trainer(values: &Array2<f32>, labels: &[u32]) -> Trainer {
        let trainer = Trainer::new(5, Some("ab".repeat(32))).unwrap();
        for (number, name) in ["red", "green", "blue"].into_iter().enumerate() {
            assert_eq!(trainer.add_class(name).unwrap(), number as u32);
        }
        assert_eq!(trainer.add_class("green").unwrap(), 1);
        assert_eq!(trainer.add(values.view(), labels).unwrap(), 1..labels.len() as u64 + 1);
        trainer
    }

    fn far(a: &Head, b: &Head) -> f32 {
        (&a.weights - &b.weights).iter().chain((&a.bias - &b.bias).iter()).fold(0f32, |most, v| most.max(v.abs()))
    }

    fn fit(trainer: &Trainer) -> Head {
        let options = FitOptions { tolerance: 1e-10, ..FitOptions::default() };
        trainer.fit(&options, &Cancel::new(), None).unwrap()
    }

    #[test]
    fn a_fit_is_that_of_a_head_on_the_same_rows_and_does_not_care_how_they_came() {
        let (values, labels) = rows(90);
        let whole = fit(&trainer(&values, &labels));
        let features = Features {
            classes: Some(["red", "green", "blue"].map(String::from).into()),
            encoder: Some("ab".repeat(32)),
            ..Features::labelled(values.clone(), labels.clone())
        };
        let options = FitOptions { tolerance: 1e-10, ..FitOptions::default() };
        let direct = Head::fit(&features, &options, &Cancel::new(), None).unwrap();
        assert_eq!((&whole.weights, &whole.labels), (&direct.weights, &direct.labels));

        // With detours: more rows that go again, and one that is taken for another class at first.
        let other = trainer(&values.slice(s![..40, ..]).to_owned(), &labels[..40]);
        let extra = other.add(values.slice(s![..9, ..]), &[2; 9]).unwrap();
        other.add(values.slice(s![40.., ..]), &labels[40..]).unwrap();
        other.relabel(3, 0).unwrap();
        fit(&other);
        other.remove(&extra.collect::<Vec<_>>()).unwrap();
        other.relabel(3, labels[2]).unwrap();
        assert_eq!(other.counts(), [30, 30, 30]);
        assert_eq!(fit(&other).weights, whole.weights);
        let again = other.refit(&options, &Cancel::new(), None).unwrap();
        assert!(far(&again, &whole) < 1e-4, "{}", far(&again, &whole));
        // From where it is, a fit of the usual tolerance has nothing left to do.
        let still = other.refit(&FitOptions::default(), &Cancel::new(), None).unwrap();
        assert_eq!(still.training.unwrap().fit.iterations, 0);
        other.add_features(&features).unwrap();
        assert_eq!((other.len(), other.classes().len()), (180, 3));
    }

    #[test]
    fn a_class_goes_with_its_examples_and_comes_back_under_another_number() {
        let (values, labels) = rows(60);
        let trainer = trainer(&values, &labels);
        assert_eq!(trainer.remove_class(0).unwrap(), 20);
        assert_eq!(trainer.classes(), ["green", "blue"]);
        assert_eq!(trainer.counts(), [20, 20]);
        assert_eq!(fit(&trainer).labels, ["green", "blue"]);
        assert!(matches!(trainer.remove(&[1]), Err(Error::UnknownExample { id: 1 })));
        assert!(matches!(trainer.remove(&[2, 999]), Err(Error::UnknownExample { id: 999 })));
        assert_eq!(trainer.len(), 40);
        let class = trainer.add_class("red").unwrap();
        assert_eq!(class, 2);
        let empty = trainer.fit(&FitOptions::default(), &Cancel::new(), None).unwrap_err();
        assert!(empty.to_string().contains("red"), "{empty}");
        assert_eq!(trainer.add(values.slice(s![..1, ..]), &[2]).unwrap(), 61..62);
        assert_eq!(fit(&trainer).classes(), 3);
    }

    #[test]
    fn what_cannot_be_an_example_changes_nothing() {
        let (mut values, labels) = rows(30);
        let trainer = trainer(&values, &labels);
        values[[4, 2]] = f32::NAN;
        assert!(matches!(trainer.add(values.view(), &labels), Err(Error::NonFinite { row: 4, column: 2, .. })));
        let good = values.slice(s![..3, ..]);
        assert!(matches!(trainer.add(good, &[0, 1, 3]), Err(Error::LabelOutside { row: 2, label: 3, .. })));
        assert!(matches!(trainer.add(good, &[0, 1]), Err(Error::LabelMismatch { .. })));
        assert!(matches!(trainer.add(good.slice(s![.., ..4]), &[0, 1, 2]), Err(Error::DimensionMismatch { .. })));
        assert!(matches!(trainer.relabel(1, 3), Err(Error::UnknownClass { class: 3, classes: 3 })));
        assert!(matches!(trainer.remove_class(3), Err(Error::UnknownClass { .. })));
        assert_eq!((trainer.len(), trainer.counts()), (30, vec![10; 3]));
        assert!(Trainer::new(0, None).is_err() && trainer.add_class("").is_err());
    }

    #[test]
    fn a_fit_goes_on_with_the_examples_it_began_with() {
        let (values, labels) = rows(30);
        let trainer = trainer(&values, &labels);
        let before = trainer.features();
        trainer.add(values.slice(s![..3, ..]), &labels[..3]).unwrap();
        assert_eq!((before.len(), trainer.len()), (30, 33));
    }

    #[test]
    fn a_search_finds_the_same_penalty_as_its_points_say_and_fits_it() {
        let (values, labels) = rows(120);
        let trainer = trainer(&values, &labels);
        for judge in [Judge::HeldOut { share: 0.25, patience: None }, Judge::Folds(4)] {
            let search = Search { judge, ..Search::default() };
            let mut heard = 0;
            let mut hear = |_: &PathPoint| heard += 1;
            let (head, found) =
                trainer.search(&FitOptions::default(), &search, &Cancel::new(), Some(&mut hear)).unwrap();
            assert_eq!(found.tried.len(), 13);
            assert_eq!(heard, if judge == Judge::Folds(4) { 52 } else { 13 });
            let best = found.tried[found.best];
            assert!(found.tried.iter().all(|tried| tried.accuracy <= best.accuracy));
            assert_eq!(head.training.as_ref().unwrap().fit.l2, best.l2);
            assert_eq!(head.training.unwrap().examples, 120);
        }
        let search = Search { judge: Judge::HeldOut { share: 0.9, patience: None }, ..Search::default() };
        assert!(trainer.search(&FitOptions::default(), &search, &Cancel::new(), None).is_err());
    }

    #[test]
    fn a_search_in_folds_converges_on_one_raw_column_of_any_size() {
        for (size, shift) in [(1.0, 0.0), (255.0, 0.0), (1e4, 0.0), (100.0, 1000.0), (1e-3, 5.0)] {
            let trainer = Trainer::new(1, None).unwrap();
            for name in ["low", "high"] {
                trainer.add_class(name).unwrap();
            }
            let labels: Vec<u32> = (0..40).map(|row| row % 2).collect();
            let value = |row: usize| (row % 2) as f32 + ((row * 7) % 11) as f32 / 40.0;
            let values = Array2::from_shape_fn((40, 1), |(row, _)| shift + size * value(row));
            trainer.add(values.view(), &labels).unwrap();
            let mut hear = |point: &PathPoint| assert!(point.fit.converged, "{size}, {shift}: {point:?}");
            let penalties = default_penalties()[..11].to_vec();
            let search = Search { penalties, judge: Judge::Folds(5), ..Search::default() };
            let (head, _) = trainer.search(&FitOptions::default(), &search, &Cancel::new(), Some(&mut hear)).unwrap();
            assert!(head.training.unwrap().fit.converged);
        }
    }

    #[test]
    fn an_imprinted_head_needs_one_example_of_each_class() {
        let (values, labels) = rows(3);
        let head = trainer(&values, &labels).imprint(10.0).unwrap();
        assert_eq!(head.classes(), 3);
        assert!(head.training.is_none());
    }
}
