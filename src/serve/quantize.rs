//! A model file in 8-bit integers: faster and a quarter of the size, with features that point the same way.
//!
//! Post-training static quantisation. Pictures tell the ranges of the network's inner values ([`crate::calibration`]),
//! byol-model's `onnx_quantize` rewrites the file, and what comes out is measured against the float network on pictures
//! that were not calibrated with: cosine of the features, neighbours kept, speed. If the cosine is below what was asked
//! for, the layers that hurt most, by measurement one by one, go back to float until it is reached.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use byol_model::dataset::Dataset;
use byol_model::onnx_quantize::{Form, Quantizable, Range};
use byol_model::{Error as ModelError, onnx_float16};
use ndarray::{Array2, ArrayView2};

use crate::calibration::{Calibration, Method};
use crate::cancel::Cancel;
use crate::encoder::{Encoder, EncoderOptions, InputTensor};
use crate::error::{Error, Result};
use crate::knn::neighbours;
use crate::runtime::Runtime;

/// How to quantise.
#[derive(Clone, Debug)]
pub struct QuantizeOptions {
    /// How ranges are chosen; `None` tries min-max, percentile 99.99, percentile 99.9 and entropy, and takes the best.
    pub method: Option<Method>,
    /// Pictures to calibrate with, evenly spread over the data; a quarter as many again are judged with.
    pub pictures: usize,
    /// Smallest mean cosine between a picture's quantised and float features. Layers go back to float to reach it.
    pub min_cosine: f64,
    /// Layers that stay in float in any case, by name.
    pub float_layers: BTreeSet<String>,
    /// Weights of 7 bits, for x86-64 processors without VNNI.
    pub reduced_weights: bool,
    /// Weights of the layers that stay in float as float16.
    pub float16: bool,
    /// How the model is opened: contract, output, limits.
    pub encoder: EncoderOptions,
}

impl Default for QuantizeOptions {
    fn default() -> Self {
        Self {
            method: None,
            pictures: 256,
            min_cosine: 0.99,
            float_layers: BTreeSet::new(),
            reduced_weights: false,
            float16: false,
            encoder: EncoderOptions::default(),
        }
    }
}

/// A quantised file and what was measured of it.
#[derive(Debug)]
pub struct Quantized {
    /// The file's content.
    pub bytes: Vec<u8>,
    /// Size of the float file in bytes.
    pub float_bytes: usize,
    /// The method that was taken.
    pub method: Method,
    /// Mean cosine of every method that was tried.
    pub tried: Vec<(Method, f64)>,
    /// All layers that can be quantised.
    pub layers: usize,
    /// Those of them that stayed in float, most harmful first.
    pub float_layers: Vec<String>,
    /// Whether the normalisation moved into the first layer.
    pub input_folded: bool,
    /// Pictures calibrated with, and judged with.
    pub pictures: (usize, usize),
    /// Mean cosine between float and quantised features over the judged pictures.
    pub cosine: f64,
    /// The smallest one.
    pub least_cosine: f64,
    /// Share of each picture's 10 nearest neighbours (cosine, among all pictures) that are the same.
    pub neighbours_kept: f64,
    /// Leave-one-out 20-NN accuracy over all pictures with float and with quantised features, where there are labels.
    pub knn: Option<(f64, f64)>,
    /// Pictures per second on prepared pictures: float, quantised. Best of several turns each.
    pub speed: (f64, f64),
}

/// What a long call tells while it runs: a step's name, what is done of it, and how much it is.
pub type Progress<'a> = &'a mut dyn FnMut(&str, usize, usize);

/// Quantises the model in `file` with pictures of `dataset`.
///
/// # Errors
/// Those of [`Encoder::from_bytes`]; [`Error::ModelInvalid`] for a model that cannot be quantised; [`Error::EmptyData`]
/// without usable pictures; [`Error::InvalidOption`]; [`Error::Cancelled`], [`Error::Deadline`].
pub fn quantize(
    runtime: &Arc<Runtime>,
    file: &Path,
    bytes: &[u8],
    dataset: &Dataset,
    options: &QuantizeOptions,
    cancel: &Cancel,
    progress: Progress<'_>,
) -> Result<Quantized> {
    check(options)?;
    let invalid = |source: ModelError| Error::ModelInvalid { path: file.into(), source };
    let open = |bytes: &[u8]| {
        let bulk = EncoderOptions { sessions: 0, bulk: true, expected_sha256: None, ..options.encoder.clone() };
        Encoder::from_bytes(runtime, bytes, &bulk)
    };
    let graph = Quantizable::read(bytes).map_err(invalid)?;
    let float = open(bytes)?;
    let (pictures, labels) = prepared(&float, dataset, options.pictures, cancel, progress)?;
    // Every fifth picture judges; the others calibrate.
    let judges = |i: &usize| pictures.len() < 5 || i % 5 == 4;
    let judged: Vec<Vec<u8>> = (0..pictures.len()).filter(judges).map(|i| pictures[i].clone()).collect();
    let calibrated: Vec<Vec<u8>> =
        (0..pictures.len()).filter(|i| pictures.len() < 5 || !judges(i)).map(|i| pictures[i].clone()).collect();

    let values = graph.values();
    let observed = graph.observed(&values);
    let single = EncoderOptions { sessions: 1, expected_sha256: None, ..options.encoder.clone() };
    let observed = Encoder::from_bytes(runtime, &observed, &single)?;
    let calibration = Calibration::observe(&observed, &values, &calibrated, cancel, &mut |done, total| {
        progress("calibrating", done, total);
    })?;
    drop(observed);

    let expected = features(&float, &judged, cancel)?;
    let mut fold_input = false;
    let write = |ranges: &BTreeMap<String, Range>, float_layers: &BTreeSet<String>, fold_input| -> Result<Vec<u8>> {
        let form = Form {
            float_layers: float_layers.clone(),
            reduced_weights: options.reduced_weights,
            fold_input,
            metadata: BTreeMap::new(),
        };
        graph.write(ranges, &form).map_err(invalid)
    };
    let cosine_of = |bytes: &[u8]| -> Result<f64> {
        let found = features(&open(bytes)?, &judged, cancel)?;
        Ok(mean(&cosines(expected.view(), found.view())))
    };

    // The method.
    let methods = match options.method {
        Some(method) => vec![method],
        None => vec![Method::MinMax, Method::Percentile(99.99), Method::Percentile(99.9), Method::Entropy],
    };
    let mut tried: Vec<(Method, f64)> = Vec::new();
    for (i, &method) in methods.iter().enumerate() {
        let cosine = cosine_of(&write(&calibration.ranges(method), &options.float_layers, false)?)?;
        tried.push((method, cosine));
        progress("comparing methods", i + 1, methods.len());
    }
    let better = |best: (Method, f64), next: &(Method, f64)| if next.1 > best.1 { *next } else { best };
    let (method, mut cosine) = tried[1..].iter().fold(tried[0], better);
    let ranges = calibration.ranges(method);

    // The normalisation inside the first layer saves time; the rim of the picture pays for it.
    if graph.has_foldable_input() {
        let folded = cosine_of(&write(&ranges, &options.float_layers, true)?)?;
        if 1.0 - folded <= 1.5 * (1.0 - cosine) + 1e-4 {
            (fold_input, cosine) = (true, folded);
        }
    }

    // The layers that are too sensitive.
    let mut kept: Vec<String> = options.float_layers.iter().cloned().collect();
    let mut float_layers = options.float_layers.clone();
    if cosine < options.min_cosine {
        let names: Vec<String> = graph.layers().into_iter().filter(|name| !float_layers.contains(name)).collect();
        let mut gains = Vec::with_capacity(names.len());
        for (i, name) in names.iter().enumerate() {
            let mut without = float_layers.clone();
            without.insert(name.clone());
            gains.push((cosine_of(&write(&ranges, &without, fold_input)?)?, name));
            progress("looking for sensitive layers", i + 1, names.len());
        }
        gains.sort_by(|a, b| b.0.total_cmp(&a.0));
        for (i, (_, name)) in gains.iter().enumerate() {
            if cosine >= options.min_cosine || i + 1 == gains.len() {
                break;
            }
            float_layers.insert((*name).clone());
            kept.push((*name).clone());
            cosine = cosine_of(&write(&ranges, &float_layers, fold_input)?)?;
            progress("returning layers to float", i + 1, gains.len());
        }
    }

    // The file as it will be.
    let record = serde_json::json!({
        "method": method.to_string(), "float_layers": kept, "float_sha256": float.sha256(),
        "pictures": calibrated.len(), "cosine": cosine, "input_folded": fold_input,
    });
    let metadata = BTreeMap::from([("quantized".to_owned(), record.to_string())]);
    let form = Form { float_layers, reduced_weights: options.reduced_weights, fold_input, metadata };
    let mut written = graph.write(&ranges, &form).map_err(invalid)?;
    if options.float16 {
        written = onnx_float16::write(&written).map_err(invalid)?.0;
    }
    let quantized = open(&written)?;
    let found = features(&quantized, &judged, cancel)?;
    let cosines = cosines(expected.view(), found.view());
    let (all_float, all_found) = (features(&float, &pictures, cancel)?, features(&quantized, &pictures, cancel)?);
    progress("measuring", 1, 2);
    let knn = match &labels {
        Some(labels) => Some((leave_one_out(&all_float, labels)?, leave_one_out(&all_found, labels)?)),
        None => None,
    };
    let speed = speed(&float, &quantized, &pictures, cancel)?;
    progress("measuring", 2, 2);
    Ok(Quantized {
        float_bytes: bytes.len(),
        method,
        tried,
        layers: graph.layers().len(),
        float_layers: kept,
        input_folded: fold_input,
        pictures: (calibrated.len(), judged.len()),
        cosine: mean(&cosines),
        least_cosine: cosines.iter().copied().fold(1.0, f64::min),
        neighbours_kept: neighbours_kept(&all_float, &all_found)?,
        knn,
        speed,
        bytes: written,
    })
}

fn check(options: &QuantizeOptions) -> Result<()> {
    let wrong = |option, value: String, must| Err(Error::InvalidOption { option, value, must });
    if options.pictures == 0 {
        return wrong("pictures", "0".into(), "it must be at least 1; some hundred are usual");
    }
    if !(0.0..=1.0).contains(&options.min_cosine) {
        return wrong("min-cosine", options.min_cosine.to_string(), "it must lie between 0 and 1");
    }
    match options.method {
        Some(Method::Percentile(percent)) if !(50.0..=100.0).contains(&percent) => {
            wrong("percentile", percent.to_string(), "it must lie between 50 and 100; 99.99 is usual")
        }
        _ => Ok(()),
    }
}

type Pictures = (Vec<Vec<u8>>, Option<Vec<u32>>);

/// Up to `wanted` pictures and a quarter more, evenly spread, at the input's size; those that cannot be read are skipped.
fn prepared(
    encoder: &Encoder,
    dataset: &Dataset,
    wanted: usize,
    cancel: &Cancel,
    progress: Progress<'_>,
) -> Result<Pictures> {
    let count = wanted.saturating_add(wanted / 4).min(dataset.len());
    let (mut pictures, mut labels) = (Vec::with_capacity(count), Vec::with_capacity(count));
    for i in 0..count {
        cancel.check()?;
        let index = i * dataset.len() / count;
        let mut pixels = vec![0; encoder.contract().bytes()];
        let picture = dataset.picture_for(index, encoder.contract());
        if picture.and_then(|picture| encoder.contract().prepare(picture.view(), &mut pixels)).is_ok() {
            pictures.push(pixels);
            labels.extend(dataset.labels().map(|labels| labels[index]));
        }
        progress("reading pictures", i + 1, count);
    }
    if pictures.is_empty() {
        return Err(Error::EmptyData { what: "pictures that can be used" });
    }
    let labels = (labels.len() == pictures.len()).then_some(labels);
    Ok((pictures, labels))
}

/// Features of prepared pictures, `[pictures, dimension]`.
fn features(encoder: &Encoder, pictures: &[Vec<u8>], cancel: &Cancel) -> Result<Array2<f32>> {
    let contract = encoder.contract();
    let dimension = encoder.dimension();
    let shape = [pictures.len(), contract.height, contract.width, contract.channels];
    let mut values = vec![0.0; pictures.len() * dimension];
    let data = pictures.concat();
    encoder.extract_tensor(InputTensor::U8 { shape, data: &data }, &mut values, dimension, cancel)?;
    let wrong = |_| Error::DimensionMismatch { what: "features", expected: pictures.len() * dimension, found: 0 };
    Array2::from_shape_vec((pictures.len(), dimension), values).map_err(wrong)
}

/// Cosine of each pair of rows; 1 for two rows of zeros.
fn cosines(a: ArrayView2<f32>, b: ArrayView2<f32>) -> Vec<f64> {
    let dot = |a: ndarray::ArrayView1<f32>, b: ndarray::ArrayView1<f32>| -> f64 {
        a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
    };
    let cosine = |(a, b): (ndarray::ArrayView1<f32>, ndarray::ArrayView1<f32>)| {
        let (lengths, product) = ((dot(a, a) * dot(b, b)).sqrt(), dot(a, b));
        if lengths > 0.0 { product / lengths } else { f64::from(u8::from(dot(a, a) == dot(b, b))) }
    };
    a.outer_iter().zip(b.outer_iter()).map(cosine).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}

/// Of each row's 10 nearest other rows, the share that both sets of features agree on.
fn neighbours_kept(a: &Array2<f32>, b: &Array2<f32>) -> Result<f64> {
    let k = 10.min(a.nrows().saturating_sub(1));
    if k == 0 {
        return Ok(1.0);
    }
    let nearest = |x: &Array2<f32>| -> Result<Vec<BTreeSet<u32>>> {
        let (indices, _) = neighbours(x.view(), x.view(), k + 1)?;
        let others = |(row, found): (usize, ndarray::ArrayView1<u32>)| {
            found.iter().copied().filter(|&other| other as usize != row).take(k).collect()
        };
        Ok(indices.outer_iter().enumerate().map(others).collect())
    };
    let (a, b) = (nearest(a)?, nearest(b)?);
    let common: usize = a.iter().zip(&b).map(|(a, b)| a.intersection(b).count()).sum();
    Ok(common as f64 / (k * a.len()) as f64)
}

/// Share of pictures whose class is that of most of their 20 nearest others; a tie goes to the nearer class.
fn leave_one_out(x: &Array2<f32>, labels: &[u32]) -> Result<f64> {
    let k = 20.min(x.nrows().saturating_sub(1));
    let (indices, _) = neighbours(x.view(), x.view(), k + 1)?;
    let mut right = 0;
    for (row, found) in indices.outer_iter().enumerate() {
        let mut votes: Vec<(u32, usize)> = Vec::new();
        for &other in found.iter().filter(|&&other| other as usize != row).take(k) {
            let label = labels[other as usize];
            match votes.iter_mut().find(|(class, _)| *class == label) {
                Some((_, count)) => *count += 1,
                None => votes.push((label, 1)),
            }
        }
        let most = votes.iter().fold((u32::MAX, 0), |best, &vote| if vote.1 > best.1 { vote } else { best });
        right += usize::from(most.0 == labels[row]);
    }
    Ok(right as f64 / labels.len().max(1) as f64)
}

/// Pictures per second of both, in turn: the best of several turns, because other programs only ever slow one down.
fn speed(float: &Encoder, quantized: &Encoder, pictures: &[Vec<u8>], cancel: &Cancel) -> Result<(f64, f64)> {
    const TURNS: usize = 5;
    const LONG_ENOUGH: Duration = Duration::from_secs(2);
    let contract = float.contract();
    let shape = [contract.height, contract.width, contract.channels];
    let format = match shape[2] {
        1 => byol_model::picture::PixelFormat::Gray8,
        _ => byol_model::picture::PixelFormat::Rgb8,
    };
    let stride = shape[1] * shape[2];
    let view = |pixels| byol_model::picture::PictureView::new(format, shape[1], shape[0], stride, pixels);
    let some = pictures.iter().cycle().take(pictures.len().clamp(32, 64));
    let views: Vec<_> = some.map(|pixels| view(pixels)).collect::<Result<_, ModelError>>()?;
    let rate = |encoder: &Encoder| -> Result<f64> {
        let dimension = encoder.dimension();
        let mut out = vec![0.0; views.len() * dimension];
        let began = Instant::now();
        encoder.extract(&views, &mut out, dimension, None, cancel)?;
        Ok(views.len() as f64 / began.elapsed().as_secs_f64())
    };
    float.warm_up()?;
    quantized.warm_up()?;
    let (mut best, began) = ((0.0f64, 0.0f64), Instant::now());
    for turn in 0.. {
        best = (best.0.max(rate(float)?), best.1.max(rate(quantized)?));
        if turn + 1 >= TURNS && began.elapsed() >= LONG_ENOUGH {
            break;
        }
    }
    Ok(best)
}
