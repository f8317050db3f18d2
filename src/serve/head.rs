//! A linear head: what turns features into classes. Fitted in seconds, kept in one small file beside the encoder.
//!
//! The file is safetensors: `weight` `[classes, columns]` and `bias` `[classes]` in float32, as PyTorch's `Linear` has
//! them, and in the header the names of the classes, the SHA-256 of the encoder whose features it was fitted on, and
//! how it was fitted. Normalisation, where asked for, is folded into the weights: a head always takes the features as
//! they come from the encoder.
//!
//! How the optimum is found is in [`crate::solver`]; how predictions are judged, in [`crate::metrics`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use byol_model::onnx_head::{self, LinearHead};
use ndarray::{Array1, Array2, ArrayView2, Axis};
use safetensors::{Dtype, SafeTensors};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::feature_file::FeatureFile;
use crate::features::{self, Features, class_name};
use crate::metrics::{self, Evaluation, Intervals};
use crate::rows::Rows;
use crate::solver::{self, FitOptions, FitReport, Kept, Progress};

/// A linear classifier of features.
#[derive(Clone, Debug, PartialEq)]
pub struct Head {
    /// `[classes, columns]`.
    pub weights: Array2<f32>,
    /// `[classes]`.
    pub bias: Array1<f32>,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// SHA-256 (hex) of the encoder file whose features the head takes, if it was known.
    pub encoder_sha256: Option<String>,
    /// How it was fitted; none for a head that came from elsewhere.
    pub training: Option<Training>,
    /// What the scores were divided by, where [`Head::calibrate`] was called; the weights have it inside.
    pub temperature: Option<f64>,
    /// The file it was read from or last saved to.
    path: Option<PathBuf>,
}

/// How a head was fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Training {
    /// Number of examples.
    pub examples: usize,
    /// Whether columns were penalised as if their standard deviation were 1.
    pub standardize: bool,
    /// The solver's own report.
    pub fit: FitReport,
}

/// The most probable class of a row.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Prediction {
    /// Index into [`Head::labels`].
    pub label: usize,
    /// From 0 to 1.
    pub probability: f32,
}

/// The newest format of head files that this version reads, and the one it writes.
const FORMAT: u32 = 1;
/// Most bytes of a head file that is read.
const MAX_FILE_BYTES: u64 = 1 << 31;

#[derive(Serialize, Deserialize)]
struct Header {
    kind: String,
    format: u32,
    labels: Vec<String>,
    encoder: Option<String>,
    training: Option<Training>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    temperature: Option<f64>,
}

impl Head {
    /// Fits a head to labelled features. The options' errors and meaning are those of [`solver::fit`]; errors name a
    /// row's file and a class by its name, where the features have names.
    ///
    /// # Errors
    /// As [`solver::fit`], and [`Error::NoLabels`].
    pub fn fit(
        features: &Features,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
    ) -> Result<Self> {
        Self::fit_with(features, options, cancel, progress, &mut Kept::default())
    }

    /// As [`Head::fit`], with what the fit before left: a fit of nearly the same rows is then shorter.
    pub(crate) fn fit_with(
        features: &Features,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
        kept: &mut Kept,
    ) -> Result<Self> {
        let labels = features.labels()?;
        let classes = features.class_count();
        let x = solver::standard_layout(features.values.view());
        let (rows, columns) = (Rows::F32(&x), features.values.ncols());
        let (weights, bias, fit) = solver::fit_with(rows, columns, labels, classes, options, cancel, progress, kept)
            .map_err(|error| named(error, features.names.as_deref(), features.classes.as_deref()))?;
        let training = Training { examples: features.len(), standardize: options.standardize, fit };
        let names = (0..classes).map(|class| features.class_name(class)).collect();
        Ok(Self::fitted(&weights, &bias, names, features.encoder.clone(), training))
    }

    /// As [`Head::fit`], of features that stay in their file: memory does not grow with the number of rows, but for four
    /// bytes a label.
    ///
    /// # Errors
    /// As [`Head::fit`]; [`Error::Io`] and [`Error::Corrupt`] where the file is cut off or written to meanwhile.
    pub fn fit_file(
        file: &FeatureFile,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
    ) -> Result<Self> {
        let (labels, classes) = (file.labels()?, file.class_count());
        let fitted = solver::fit_rows(Rows::File(file), file.dimensions(), labels, classes, options, cancel, progress);
        // What is wrong with a file that changes is that, whatever its numbers led to.
        file.unchanged()?;
        let (weights, bias, fit) =
            fitted.map_err(|error| named(error, file.names.as_deref(), file.classes.as_deref()))?;
        let training = Training { examples: file.len(), standardize: options.standardize, fit };
        let names = (0..classes).map(|class| class_name(file.classes.as_deref(), class)).collect();
        Ok(Self::fitted(&weights, &bias, names, file.encoder.clone(), training))
    }

    fn fitted(
        weights: &Array2<f64>,
        bias: &Array1<f64>,
        labels: Vec<String>,
        encoder_sha256: Option<String>,
        training: Training,
    ) -> Self {
        let (weights, bias) = (weights.mapv(|w| w as f32), bias.mapv(|b| b as f32));
        Self { weights, bias, labels, encoder_sha256, training: Some(training), temperature: None, path: None }
    }

    /// Fits again after examples were added, removed or relabelled, or with another penalty: to the same optimum as
    /// [`Head::fit`], in less time, because it starts at this head. `features` are all examples. Classes are matched by
    /// name; those that are gone are left out. With a new class the fit starts from nothing: it moves the weights of all
    /// others, and starting at the old ones took longer (docs/results.md).
    ///
    /// # Errors
    /// As [`Head::fit`], and [`Error::DimensionMismatch`] for features of another length.
    pub fn refit(
        &self,
        features: &Features,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
    ) -> Result<Self> {
        self.refit_with(features, options, cancel, progress, &mut Kept::default())
    }

    /// As [`Head::refit`], with what the fit before left.
    pub(crate) fn refit_with(
        &self,
        features: &Features,
        options: &FitOptions,
        cancel: &Cancel,
        progress: Option<&mut dyn FnMut(&Progress)>,
        kept: &mut Kept,
    ) -> Result<Self> {
        self.check_dimensions(features.dimensions())?;
        let names: Vec<String> = (0..features.class_count()).map(|class| features.class_name(class)).collect();
        // Measured: where a class is new, the old optimum is no better a start than none (docs/results.md).
        let known = names.iter().all(|name| self.labels.contains(name));
        let start = known.then(|| self.start_for(&names));
        Self::fit_with(features, &FitOptions { start, ..options.clone() }, cancel, progress, kept)
    }

    /// Where a fit of these classes may start so that it is short: [`FitOptions::start`].
    pub fn start_for(&self, names: &[String]) -> (Array2<f64>, Array1<f64>) {
        let mut start = (Array2::zeros((names.len(), self.dimensions())), Array1::zeros(names.len()));
        for (class, name) in names.iter().enumerate() {
            if let Some(old) = self.labels.iter().position(|label| label == name) {
                start.0.row_mut(class).assign(&self.weights.row(old).mapv(f64::from));
                start.1[class] = f64::from(self.bias[old]);
            } else {
                // Rare at first: every old class scores above it by about the logarithm of their number of rows.
                start.1[class] = self.bias.iter().map(|&b| f64::from(b)).fold(f64::INFINITY, f64::min) - 1.0;
            }
        }
        start
    }

    /// A head without fitting: every class's weights are its mean feature, scaled to length 1 (Qi et al. 2018,
    /// "imprinting"), so that a row's score is `scale` times its cosine with the class where rows have length 1.
    ///
    /// # Errors
    /// [`Error::EmptyData`], [`Error::NoLabels`], [`Error::LabelMismatch`], [`Error::LabelOutside`],
    /// [`Error::NonFinite`], [`Error::EmptyClass`].
    pub fn imprint(features: &Features, scale: f32) -> Result<Self> {
        let (labels, classes) = (features.labels()?, features.class_count());
        if features.is_empty() {
            return Err(Error::EmptyData { what: "rows of features" });
        }
        features.check_finite()?;
        let mut sums = Array2::<f64>::zeros((classes, features.dimensions()));
        let mut counts = vec![0usize; classes];
        for (row, (x, &label)) in features.values.outer_iter().zip(labels).enumerate() {
            let class = label as usize;
            if class >= classes {
                return Err(Error::LabelOutside { row, label: label.into(), classes });
            }
            let length = x.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
            sums.row_mut(class).zip_mut_with(&x, |sum, &v| *sum += f64::from(v) / length);
            counts[class] += 1;
        }
        if let Some(class) = counts.iter().position(|&count| count == 0) {
            return Err(Error::EmptyClass { label: features.class_name(class) });
        }
        for mut sum in sums.outer_iter_mut() {
            let length = sum.dot(&sum).sqrt().max(f64::MIN_POSITIVE);
            sum.mapv_inplace(|v| v / length * f64::from(scale));
        }
        Ok(Self {
            weights: sums.mapv(|v| v as f32),
            bias: Array1::zeros(classes),
            labels: (0..classes).map(|class| features.class_name(class)).collect(),
            encoder_sha256: features.encoder.clone(),
            training: None,
            temperature: None,
            path: None,
        })
    }

    /// A head from weights `[classes, columns]` and bias that were made elsewhere, such as scikit-learn's `coef_` and
    /// `intercept_` or a PyTorch `Linear`.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] if there is not one bias and one name per row of weights.
    pub fn from_parts(weights: Array2<f32>, bias: Array1<f32>, labels: Vec<String>) -> Result<Self> {
        let expected = weights.nrows();
        if bias.len() != expected {
            return Err(Error::DimensionMismatch { what: "bias of the head", expected, found: bias.len() });
        }
        if labels.len() != expected {
            return Err(Error::DimensionMismatch { what: "labels of the head", expected, found: labels.len() });
        }
        Ok(Self { weights, bias, labels, encoder_sha256: None, training: None, temperature: None, path: None })
    }

    /// Number of classes.
    pub fn classes(&self) -> usize {
        self.weights.nrows()
    }

    /// Number of features that a row must have.
    pub fn dimensions(&self) -> usize {
        self.weights.ncols()
    }

    /// Scores `[rows, classes]`: features times weights plus bias.
    ///
    /// # Errors
    /// [`Error::DimensionMismatch`] for features of another length.
    pub fn logits(&self, features: ArrayView2<f32>) -> Result<Array2<f32>> {
        self.check_dimensions(features.ncols())?;
        Ok(features.dot(&self.weights.t()) + &self.bias)
    }

    /// Probabilities `[rows, classes]`; every row sums to 1.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn probabilities(&self, features: ArrayView2<f32>) -> Result<Array2<f32>> {
        let mut scores = self.logits(features)?;
        for mut row in scores.axis_iter_mut(Axis(0)) {
            let top = row.fold(f32::NEG_INFINITY, |top, &score| top.max(score));
            row.mapv_inplace(|score| (score - top).exp());
            let total = row.sum();
            row.mapv_inplace(|e| e / total);
        }
        Ok(scores)
    }

    /// The most probable class of every row; the lower number in a tie.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn predict(&self, features: ArrayView2<f32>) -> Result<Vec<Prediction>> {
        Ok(self.top_k(features, 1)?.into_iter().filter_map(|best| best.into_iter().next()).collect())
    }

    /// The `k` most probable classes of every row, best first; all classes if there are fewer.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn top_k(&self, features: ArrayView2<f32>, k: usize) -> Result<Vec<Vec<Prediction>>> {
        let probabilities = self.probabilities(features)?;
        let best = |row: ndarray::ArrayView1<f32>| {
            let mut ranked: Vec<Prediction> =
                row.iter().enumerate().map(|(label, &probability)| Prediction { label, probability }).collect();
            ranked.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            ranked.truncate(k);
            ranked
        };
        Ok(probabilities.outer_iter().map(best).collect())
    }

    /// Judges the head on labelled features. Labels count this head's classes, or, where the features name theirs,
    /// classes are matched by name.
    ///
    /// # Errors
    /// [`Error::NoLabels`], [`Error::EmptyData`], [`Error::LabelMismatch`], [`Error::LabelOutside`] for a class that the
    /// head does not know, [`Error::DimensionMismatch`], [`Error::HeadForAnotherEncoder`].
    pub fn evaluate(&self, features: &Features) -> Result<Evaluation> {
        Ok(self.evaluate_with(features, None)?.0)
    }

    /// As [`Head::evaluate`], and with `resamples` (sets, seed) as [`Head::bootstrap`], from the same probabilities.
    ///
    /// # Errors
    /// As [`Head::evaluate`] and [`Head::bootstrap`].
    pub fn evaluate_with(
        &self,
        features: &Features,
        resamples: Option<(usize, u64)>,
    ) -> Result<(Evaluation, Option<Intervals>)> {
        let own = self.labels_of(features)?;
        let mut tally = metrics::Tally::new(self.classes());
        tally.add(self.probabilities(features.values.view())?.view(), &own)?;
        self.told(&tally, resamples)
    }

    fn told(&self, tally: &metrics::Tally, resamples: Option<(usize, u64)>) -> Result<(Evaluation, Option<Intervals>)> {
        let intervals = resamples.map(|(sets, seed)| tally.intervals(sets, seed)).transpose()?;
        Ok((tally.evaluation(&self.labels)?, intervals))
    }

    /// 95% intervals of [`Head::evaluate`]'s figures, from `resamples` sets of rows; the seed decides all.
    ///
    /// # Errors
    /// As [`Head::evaluate`] and [`Intervals::bootstrap`].
    pub fn bootstrap(&self, features: &Features, resamples: usize, seed: u64) -> Result<Intervals> {
        let own = self.labels_of(features)?;
        Intervals::bootstrap(self.probabilities(features.values.view())?.view(), &own, resamples, seed)
    }

    /// As [`Head::evaluate`], and with `resamples` as [`Head::bootstrap`], of features that stay in their file.
    ///
    /// # Errors
    /// As [`Head::evaluate`] and [`Head::bootstrap`]; [`Error::Io`] and [`Error::Corrupt`] where the file is cut off or
    /// written to meanwhile.
    pub fn evaluate_file(
        &self,
        file: &FeatureFile,
        resamples: Option<(usize, u64)>,
    ) -> Result<(Evaluation, Option<Intervals>)> {
        let own = self.own_labels(file.labels()?, file.classes.as_deref(), file.encoder.as_deref())?;
        self.check_dimensions(file.dimensions())?;
        let mut tally = metrics::Tally::new(self.classes());
        // Blocks of 4 MB of features, or of a row.
        let block = ((1 << 20) / file.dimensions().max(self.classes()).max(1)).max(1);
        let mut rows = Vec::new();
        for (index, labels) in own.chunks(block).enumerate() {
            let first = index * block;
            file.read(first, first + labels.len(), &mut rows)?;
            let view = ArrayView2::from_shape((labels.len(), file.dimensions()), &rows);
            let mismatch = |_| Error::LabelMismatch { features: file.len(), labels: own.len() };
            tally.add(self.probabilities(view.map_err(mismatch)?)?.view(), labels)?;
        }
        file.unchanged()?;
        self.told(&tally, resamples)
    }

    /// As [`Head::predict`], but no answer for a row whose most probable class is less probable than `threshold`.
    ///
    /// # Errors
    /// As [`Head::logits`].
    pub fn predict_above(&self, features: ArrayView2<f32>, threshold: f32) -> Result<Vec<Option<Prediction>>> {
        let sure = |best: Prediction| Some(best).filter(|best| best.probability >= threshold);
        Ok(self.predict(features)?.into_iter().map(sure).collect())
    }

    /// A head from a linear layer in a safetensors file: PyTorch's `weight` `[classes, columns]` and `bias`, behind any
    /// prefix (`fc.weight`), or scikit-learn's `coef_` and `intercept_`; float32 or float64. A single row of `coef_`, as
    /// scikit-learn has it for two classes, becomes two. No labels: the classes are called 0, 1, ...
    ///
    /// The file must have been written from arrays in C order: safetensors' writer for NumPy writes memory as it lies,
    /// and scikit-learn's `coef_` often lies in Fortran order (`numpy.ascontiguousarray` puts it right).
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Corrupt`] naming file and tensor; [`Error::DimensionMismatch`] for labels.
    pub fn import(path: impl AsRef<Path>, labels: Option<Vec<String>>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = atomic::read(path, MAX_FILE_BYTES)?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| Error::corrupt(path, e.to_string()))?;
        let named = |ends: [&str; 2]| {
            let is = |name: &&str| ends.iter().any(|end| *name == *end || name.ends_with(&format!(".{end}")));
            let names: Vec<&str> = tensors.names().into_iter().map(AsRef::as_ref).collect();
            let found: Vec<&str> = names.iter().copied().filter(|name| is(name)).collect();
            match found[..] {
                [one] => Ok(one.to_string()),
                [] => Err(format!("no tensor {} or {}; it has {names:?}", ends[0], ends[1])),
                _ => Err(format!("several linear layers, {found:?}: keep the one you mean")),
            }
        };
        let read = |name: &str| -> Result<(Vec<usize>, Vec<f32>)> {
            let tensor = tensors.tensor(name).map_err(|e| Error::corrupt(path, e.to_string()))?;
            let data = tensor.data();
            let values: Vec<f32> = match tensor.dtype() {
                Dtype::F32 => data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
                Dtype::F64 => data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect(),
                other => return Err(Error::corrupt(path, format!("{name} is {other:?}; float32 or float64 is read"))),
            };
            match values.iter().find(|v| !v.is_finite()) {
                Some(value) => Err(Error::corrupt(path, format!("{name} has the value {value}"))),
                None => Ok((tensor.shape().to_vec(), values)),
            }
        };
        let name = named(["weight", "coef_"]).map_err(|why| Error::corrupt(path, why))?;
        let (shape, mut weights) = read(&name)?;
        let (mut classes, columns) = match shape[..] {
            [classes, columns] if classes > 0 && columns > 0 => (classes, columns),
            _ => return Err(Error::corrupt(path, format!("{name} has shape {shape:?}; [classes, columns] is read"))),
        };
        let mut bias = match named(["bias", "intercept_"]) {
            Ok(name) => {
                let (shape, bias) = read(&name)?;
                if bias.len() != classes {
                    let why = format!("{name} has shape {shape:?}; one value per class, {classes}, is needed");
                    return Err(Error::corrupt(path, why));
                }
                bias
            }
            // A layer without one.
            Err(_) => vec![0.0; classes],
        };
        if classes == 1 {
            // The score of the second class over the first; halves of it each way give the same probabilities.
            weights = weights.iter().map(|w| -0.5 * w).chain(weights.iter().map(|w| 0.5 * w)).collect();
            bias = vec![-0.5 * bias[0], 0.5 * bias[0]];
            classes = 2;
        }
        let weights = Array2::from_shape_vec((classes, columns), weights)
            .map_err(|e| Error::corrupt(path, format!("{name}: {e}")))?;
        let labels = labels.unwrap_or_else(|| (0..classes).map(|class| class.to_string()).collect());
        Self::from_parts(weights, bias.into(), labels)
    }

    /// The features' labels in this head's numbers.
    fn labels_of(&self, features: &Features) -> Result<Vec<u32>> {
        self.own_labels(features.labels()?, features.classes.as_deref(), features.encoder.as_deref())
    }

    fn own_labels(&self, labels: &[u32], classes: Option<&[String]>, encoder: Option<&str>) -> Result<Vec<u32>> {
        if let Some(encoder) = encoder {
            self.check_encoder(encoder)?;
        }
        let own = match classes {
            None => labels.to_vec(),
            Some(names) => {
                let number = |(row, &label): (usize, &u32)| {
                    let outside = || Error::LabelOutside { row, label: label.into(), classes: self.classes() };
                    let name = names.get(label as usize).ok_or_else(outside)?;
                    self.labels.iter().position(|label| label == name).map(|own| own as u32).ok_or_else(outside)
                };
                labels.iter().enumerate().map(number).collect::<Result<Vec<_>>>()?
            }
        };
        Ok(own)
    }

    /// Checks that this head belongs to an encoder. A head or an encoder of unknown origin passes.
    ///
    /// # Errors
    /// [`Error::HeadForAnotherEncoder`].
    pub fn check_encoder(&self, sha256: &str) -> Result<()> {
        match &self.encoder_sha256 {
            Some(expected) if !expected.eq_ignore_ascii_case(sha256) => Err(Error::HeadForAnotherEncoder {
                path: self.path.clone().unwrap_or_else(|| "this head".into()),
                expected: expected.clone(),
                found: sha256.to_string(),
            }),
            _ => Ok(()),
        }
    }

    /// Writes the head, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        atomic::write(path.as_ref(), &[&self.to_bytes()?])
    }

    /// Reads a head and checks every part of it.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Corrupt`] naming file and tensor, [`Error::NewerFormat`].
    pub fn load(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = atomic::read(path, MAX_FILE_BYTES)?;
        Ok(Self { path: Some(path.to_path_buf()), ..Self::parse(path, &bytes)? })
    }

    /// The head as an ONNX model of its own: `features`, float32 `[n, dimensions]`, to `logits` and `probabilities`,
    /// float32 `[n, classes]`. Metadata: `byol.labels` (a JSON list) and, where known, `byol.encoder_sha256`.
    ///
    /// # Errors
    /// None for a head that was fitted or loaded.
    pub fn to_onnx(&self) -> Result<Vec<u8>> {
        self.with_linear(onnx_head::write)
    }

    /// The file of the head's encoder with the head behind it: one classifier from pictures to `logits` and
    /// `probabilities`, which stock ONNX Runtime runs. Its `features` stay an output.
    ///
    /// # Errors
    /// [`Error::HeadForAnotherEncoder`]; [`Error::Model`] for bytes that are no encoder, or whose features have another
    /// length.
    pub fn to_onnx_behind(&self, encoder: &[u8]) -> Result<Vec<u8>> {
        self.check_encoder(&byol_model::sha256_hex(encoder))?;
        self.with_linear(|head, metadata| onnx_head::append(encoder, head, metadata))
    }

    /// Calls `make` with the head as the ONNX writer takes it, and its metadata.
    fn with_linear(
        &self,
        make: impl FnOnce(&LinearHead<'_>, &BTreeMap<String, String>) -> byol_model::error::Result<Vec<u8>>,
    ) -> Result<Vec<u8>> {
        let (weight, bias): (Vec<f32>, _) = (self.weights.iter().copied().collect(), self.bias.to_vec());
        let origin = self.encoder_sha256.iter().map(|sha256| ("encoder_sha256".to_string(), sha256.clone()));
        let head = LinearHead { weight: &weight, bias: &bias, labels: &self.labels };
        Ok(make(&head, &origin.collect())?)
    }

    /// Scales the scores so that probabilities are as often right as they say (temperature scaling, Guo et al. 2017,
    /// <https://arxiv.org/abs/1706.04599>): finds the temperature of least log-loss on labelled features that the head
    /// was not fitted to, and divides weights and bias by it. No prediction changes. Returns the temperature; above 1,
    /// the head was too sure.
    ///
    /// # Errors
    /// As [`Head::evaluate`].
    pub fn calibrate(&mut self, features: &Features) -> Result<f64> {
        let own = self.labels_of(features)?;
        let logits = self.logits(features.values.view())?;
        let temperature = metrics::temperature(logits.view(), &own)?;
        self.cool(temperature);
        Ok(temperature)
    }

    /// Divides all scores by a temperature, such as [`Head::calibrate`] found for a head like this one.
    pub fn cool(&mut self, temperature: f64) {
        self.weights.mapv_inplace(|w| (f64::from(w) / temperature) as f32);
        self.bias.mapv_inplace(|b| (f64::from(b) / temperature) as f32);
        self.temperature = Some(self.temperature.unwrap_or(1.0) * temperature);
    }

    /// The head as the bytes of its file; the same head gives the same bytes.
    ///
    /// # Errors
    /// [`Error::Corrupt`] if the labels do not fit into a safetensors header (100 MB).
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let path = Path::new("head");
        let header = Header {
            kind: "head".into(),
            format: FORMAT,
            labels: self.labels.clone(),
            encoder: self.encoder_sha256.clone(),
            training: self.training.clone().map(|mut training| {
                // The clock is no part of a head: equal fits give equal files.
                training.fit.seconds = 0.0;
                training
            }),
            temperature: self.temperature,
        };
        let weights: Vec<u8> = self.weights.iter().flat_map(|w| w.to_le_bytes()).collect();
        let bias: Vec<u8> = self.bias.iter().flat_map(|b| b.to_le_bytes()).collect();
        let tensors = vec![
            ("weight", features::view(path, Dtype::F32, self.weights.shape().to_vec(), &weights)?),
            ("bias", features::view(path, Dtype::F32, vec![self.bias.len()], &bias)?),
        ];
        features::serialize(path, tensors, &header)
    }

    /// A head from the bytes of its file.
    ///
    /// # Errors
    /// As [`Head::load`]; the file is called `head` there.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        Self::parse(Path::new("head"), bytes)
    }

    fn parse(path: &Path, bytes: &[u8]) -> Result<Self> {
        let (tensors, header): (_, Header) = features::parse(path, bytes, "head", FORMAT)?;
        let classes = header.labels.len();
        let wrong = |name, shape: &[usize], expected| {
            Error::corrupt(path, format!("tensor {name}: shape {shape:?}, expected {expected} for {classes} labels"))
        };
        let (shape, weights) = features::floats(path, &tensors, "weight")?;
        if !matches!(shape[..], [rows, columns] if rows == classes && columns > 0) || classes == 0 {
            return Err(wrong("weight", &shape, "[labels, columns]"));
        }
        let (bias_shape, bias) = features::floats(path, &tensors, "bias")?;
        if bias_shape != [classes] {
            return Err(wrong("bias", &bias_shape, "[labels]"));
        }
        for (name, values) in [("weight", &weights), ("bias", &bias)] {
            if let Some(at) = values.iter().position(|value| !value.is_finite()) {
                return Err(Error::corrupt(path, format!("tensor {name}: element {at} is {}", values[at])));
            }
        }
        let weights = Array2::from_shape_vec((classes, shape[1]), weights)
            .map_err(|why| Error::corrupt(path, format!("tensor weight: {why}")))?;
        Ok(Self {
            weights,
            bias: bias.into(),
            labels: header.labels,
            encoder_sha256: header.encoder,
            training: header.training,
            temperature: header.temperature,
            path: None,
        })
    }

    fn check_dimensions(&self, found: usize) -> Result<()> {
        match found == self.dimensions() {
            true => Ok(()),
            false => {
                let expected = self.dimensions();
                Err(Error::DimensionMismatch { what: "features per row of this head", expected, found })
            }
        }
    }
}

/// Puts names where the solver has only numbers.
fn named(error: Error, names: Option<&[String]>, classes: Option<&[String]>) -> Error {
    let class = |label: &str| label.parse().map_or_else(|_| label.to_string(), |class| class_name(classes, class));
    match error {
        Error::NonFinite { row, column, value } => match names.and_then(|names| names.get(row)) {
            Some(name) => Error::NonFiniteNamed { name: name.clone(), row, column, value },
            None => error,
        },
        Error::OneClass { label, examples } => Error::OneClass { label: class(&label), examples },
        Error::EmptyClass { label } => Error::EmptyClass { label: class(&label) },
        other => other,
    }
}
