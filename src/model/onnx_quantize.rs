//! An encoder's ONNX file with its layers in 8-bit integers (post-training static quantisation, the rewriting half).
//!
//! The file that is written holds pairs of QuantizeLinear and DequantizeLinear around the layers ("QDQ"), which every
//! runtime can run as they stand, and which ONNX Runtime fuses into its integer kernels when it opens the file. Values are
//! uint8 with a zero point, weights int8 with one scale per output channel, biases int32: of the forms that ONNX Runtime
//! 1.32 takes on x86-64 only this one is fast everywhere (docs/results.md; the others were up to nine times slower).
//!
//! The pixels of byol's own files go into the first convolution as they are, uint8: the normalisation before it is a
//! scale and a shift per channel, which its weights and bias take over ([`Form::fold_input`]).
//!
//! What is quantised: convolutions and matrix products with constant weights, and the additions, poolings and
//! concatenations between them. Left in float: the input's normalisation, everything behind the last such layer (so that
//! features keep their resolution), layers that the caller names, and operators that are not known here.
//!
//! Where the ranges of values come from is not decided here: see byol-serve's `quantize`.

use crate::error::{Error, Result};
use crate::onnx::{self, int};
use crate::onnx_constant;
use crate::onnx_proto::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The first operator set with scales per channel.
const OLDEST_OPSET: i64 = 13;
/// Largest absolute value of a quantised weight. Symmetric, as ONNX Runtime's kernels want it.
const WEIGHT_LEVELS: f32 = 127.0;
/// The same with one bit less, for processors that add pairs of products in 16 bits.
const REDUCED_LEVELS: f32 = 63.0;

/// Smallest and largest value that a tensor takes.
pub type Range = (f32, f32);

/// How a file is written.
#[derive(Clone, Debug, Default)]
pub struct Form {
    /// Layers that stay in float, by their names.
    pub float_layers: BTreeSet<String>,
    /// Weights of 7 bits: x86-64 processors without VNNI add products in 16 bits, and saturate with 8.
    pub reduced_weights: bool,
    /// Normalisation inside the first convolution. Exact but for the rim of the picture: what is padded there is one
    /// pixel value instead of the mean of each channel.
    pub fold_input: bool,
    /// Metadata to add; keys get the prefix `byol.`.
    pub metadata: BTreeMap<String, String>,
}

/// A file whose layers can be quantised.
#[derive(Debug)]
pub struct Quantizable {
    model: ModelProto,
    layers: Vec<Layer>,
    /// Position of each constant by its name.
    constants: HashMap<String, usize>,
    prelude: Option<Prelude>,
}

/// `uint8 pixels -> Cast -> Mul -> Add -> a layer`, each the only reader of the one before.
#[derive(Clone, Debug)]
struct Prelude {
    /// The pixels, `[n, channels, height, width]`.
    pixels: String,
    /// Cast, Mul and Add.
    nodes: [usize; 3],
    /// The layer behind them, by its name.
    layer: String,
    /// `value = pixel * scale + shift`, per channel.
    scale: Vec<f32>,
    shift: Vec<f32>,
}

impl Prelude {
    /// Pixels as integers: steps of 1 from the pixel that stands for 0, which is what convolutions pad with.
    fn step(&self) -> Step {
        let zeros: f32 = self.scale.iter().zip(&self.shift).map(|(scale, shift)| -shift / scale).sum();
        Step { scale: 1.0, zero: (zeros / self.scale.len() as f32).round_ties_even().clamp(0.0, 255.0) as u8 }
    }

    /// Puts scale and shift into a convolution's weights `[out, in, ...]` and bias.
    fn fold(&self, weights: &mut [f32], bias: &mut [f32]) {
        let zero = f32::from(self.step().zero);
        let row = weights.len() / bias.len();
        let area = row / self.scale.len();
        for (row, bias) in weights.chunks_mut(row).zip(bias) {
            for (channel, kernel) in row.chunks_mut(area).enumerate() {
                let (scale, shift) = (self.scale[channel], self.shift[channel]);
                *bias += kernel.iter().sum::<f32>() * (shift + scale * zero);
                kernel.iter_mut().for_each(|w| *w *= scale);
            }
        }
    }
}

/// A convolution or matrix product with constant weights.
#[derive(Clone, Debug)]
struct Layer {
    name: String,
    node: usize,
    /// What comes out, behind the activation where one follows directly.
    output: String,
    /// Output channels' axis of the weights.
    axis: usize,
}

impl Quantizable {
    /// Reads a model file and finds its layers. A batch normalisation behind a convolution is folded into it.
    ///
    /// # Errors
    /// [`Error::Onnx`] for a damaged or foreign file, one that is quantised already, has an operator set before 13, keeps
    /// tensors in other files, or has no layer to quantise.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |why: String| Error::Onnx { why };
        let model = onnx::decode(bytes)?;
        let inspection = onnx::inspect_model(&model)?;
        if inspection.external_data {
            return Err(wrong("it keeps tensors in other files, which is not allowed".into()));
        }
        if inspection.opset < OLDEST_OPSET {
            let why = format!("operator set {}; quantisation needs {OLDEST_OPSET} or newer", inspection.opset);
            return Err(wrong(why));
        }
        let mut found = Self { model, layers: Vec::new(), constants: HashMap::new(), prelude: None };
        if let Some(node) =
            found.graph().node.iter().find(|n| n.op_type.contains("Quantize") || n.op_type.starts_with("QLinear"))
        {
            return Err(wrong(format!("it is quantised already: node {:?} is a {}", node.name, node.op_type)));
        }
        found.index();
        found.fold_batch_norms();
        found.fold_pads();
        found.find_layers();
        found.prelude = found.find_prelude();
        if found.layers.is_empty() {
            return Err(wrong("it has no convolution or matrix product that could be quantised".into()));
        }
        Ok(found)
    }

    /// Whether [`Form::fold_input`] has something to fold.
    pub fn has_foldable_input(&self) -> bool {
        self.prelude.is_some()
    }

    /// Names of the layers, in the order of the graph.
    pub fn layers(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.name.clone()).collect()
    }

    /// The values whose ranges [`Quantizable::write`] needs when no layer stays in float.
    pub fn values(&self) -> Vec<String> {
        self.quantised(&BTreeSet::new()).into_iter().collect()
    }

    /// The file in float, with these values as outputs behind its own, so that they can be looked at.
    pub fn observed(&self, values: &[String]) -> Vec<u8> {
        let mut model = self.model.clone();
        let graph = model.graph.get_or_insert_default();
        let known: BTreeSet<String> = graph.output.iter().chain(&graph.input).map(|v| v.name.clone()).collect();
        let new = values.iter().filter(|value| !known.contains(*value));
        graph.output.extend(new.map(|value| {
            let tensor_type = TensorTypeProto { elem_type: data_type::FLOAT, shape: None };
            ValueInfoProto { name: value.clone(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
        }));
        model.encode_to_vec()
    }

    /// Writes the quantised file.
    ///
    /// # Errors
    /// [`Error::Onnx`] for a value without a finite range, a float layer that does not exist, or weights that are no
    /// finite numbers.
    pub fn write(&self, ranges: &BTreeMap<String, Range>, form: &Form) -> Result<Vec<u8>> {
        let wrong = |why: String| Error::Onnx { why };
        if let Some(name) = form.float_layers.iter().find(|name| !self.layers.iter().any(|l| l.name == **name)) {
            return Err(wrong(format!("it has no layer {name:?} to leave in float")));
        }
        let quantised = self.quantised(&form.float_layers);
        let prelude = self.prelude.as_ref().filter(|p| form.fold_input && !form.float_layers.contains(&p.layer));
        let normalised = prelude.map(|p| self.graph().node[p.nodes[2]].output[0].as_str());
        let mut steps: HashMap<&str, Step> = HashMap::new();
        for value in quantised.iter().filter(|value| Some(value.as_str()) != normalised) {
            let range = ranges.get(value).ok_or_else(|| wrong(format!("no range is known of value {value:?}")))?;
            let step = Step::of(*range).ok_or_else(|| wrong(format!("value {value:?} has the range {range:?}")))?;
            steps.insert(value, step);
        }
        // A pooling that picks values must keep their steps, or it cannot run on integers.
        for node in self.graph().node.iter().filter(|node| node.op_type == "MaxPool") {
            if let (Some(input), Some(output)) = (node.input.first(), node.output.first())
                && let Some(&step) = steps.get(input.as_str())
                && let Some(own) = steps.get_mut(output.as_str())
            {
                *own = step;
            }
        }

        let mut writer = Writer { nodes: Vec::new(), constants: Vec::new(), replaced: HashMap::new() };
        for input in &self.graph().input {
            if let Some(step) = steps.get(input.name.as_str()) {
                writer.pair(&input.name, *step);
            }
        }
        for (index, node) in self.graph().node.iter().enumerate() {
            if prelude.is_some_and(|p| p.nodes.contains(&index)) {
                continue;
            }
            let layer = self.layers.iter().find(|l| l.node == index && !form.float_layers.contains(&l.name));
            let mut node = node.clone();
            if let Some(layer) = layer {
                let folded = prelude.filter(|p| p.layer == layer.name);
                if let Some(prelude) = folded {
                    let read = writer.dequantise(&prelude.pixels, &prelude.pixels, prelude.step());
                    writer.replaced.insert(node.input[0].clone(), read);
                }
                let step = folded.map(Prelude::step).or_else(|| steps.get(node.input[0].as_str()).copied());
                let step = step.ok_or_else(|| wrong(format!("layer {:?} has no step", layer.name)))?;
                self.weights(layer, &mut node, step, folded, form.reduced_weights, &mut writer)?;
            }
            for input in &mut node.input {
                if let Some(other) = writer.replaced.get(input) {
                    input.clone_from(other);
                }
            }
            let outputs = node.output.clone();
            writer.nodes.push(node);
            for output in outputs {
                if let Some(step) = steps.get(output.as_str()) {
                    writer.pair(&output, *step);
                }
            }
        }

        let mut model = self.model.clone();
        model.producer_name = "byol".into();
        model.producer_version = env!("CARGO_PKG_VERSION").into();
        let kept = |property: &StringStringEntryProto| {
            property.key.strip_prefix("byol.").is_none_or(|key| !form.metadata.contains_key(key))
        };
        model.metadata_props.retain(kept);
        let added = form.metadata.iter();
        let added = added.map(|(k, v)| StringStringEntryProto { key: format!("byol.{k}"), value: v.clone() });
        model.metadata_props.extend(added);
        let graph = model.graph.get_or_insert_default();
        graph.node = writer.nodes;
        graph.initializer.extend(writer.constants);
        let read: BTreeSet<&str> = graph.node.iter().flat_map(|n| n.input.iter().map(String::as_str)).collect();
        let unused: BTreeSet<String> =
            graph.initializer.iter().filter(|t| !read.contains(t.name.as_str())).map(|t| t.name.clone()).collect();
        graph.initializer.retain(|t| !unused.contains(&t.name));
        graph.input.retain(|v| !unused.contains(&v.name));
        Ok(model.encode_to_vec())
    }

    /// Quantises a layer's weights and bias, and makes `node` read them.
    fn weights(
        &self,
        layer: &Layer,
        node: &mut NodeProto,
        input: Step,
        folded: Option<&Prelude>,
        reduced: bool,
        writer: &mut Writer,
    ) -> Result<()> {
        let wrong = |why: String| Error::Onnx { why };
        let levels = if reduced { REDUCED_LEVELS } else { WEIGHT_LEVELS };
        let tensor = &self.graph().initializer[self.constants[&node.input[1]]];
        let mut values = floats(tensor);
        let sizes: Vec<usize> = tensor.dims.iter().map(|&d| d as usize).collect();
        if let Some(value) = values.iter().find(|v| !v.is_finite()) {
            return Err(wrong(format!("weight {:?} holds {value}", tensor.name)));
        }
        let channels = sizes[layer.axis];
        let inner: usize = sizes[layer.axis + 1..].iter().product();
        let given = node.input.get(2).filter(|name| !name.is_empty());
        let mut bias = given.map(|name| floats(&self.graph().initializer[self.constants[name]]));
        if let Some(prelude) = folded {
            prelude.fold(&mut values, bias.get_or_insert_with(|| vec![0.0; channels]));
            node.input.resize(3, String::new());
        }
        let mut largest = vec![0.0f32; channels];
        for (i, v) in values.iter().enumerate() {
            let channel = (i / inner) % channels;
            largest[channel] = largest[channel].max(v.abs());
        }
        // A channel of tiny weights and a large bias needs a step at which the bias still fits into 32 bits.
        let scale_of = |(channel, &largest): (usize, &f32)| {
            let for_bias = bias.as_ref().map_or(0.0, |b| b[channel].abs() / input.scale / (1u32 << 30) as f32);
            (largest / levels).max(for_bias).max(f32::MIN_POSITIVE * 1e6)
        };
        let scales: Vec<f32> = largest.iter().enumerate().map(scale_of).collect();
        let quantise = |(i, &v): (usize, &f32)| (v / scales[(i / inner) % channels]).round_ties_even() as i8 as u8;
        let name = format!("{}.int8", layer.name);
        let weight = values.iter().enumerate().map(quantise).collect();
        let weight =
            writer.dequantised(&format!("{name}.weight"), data_type::INT8, &tensor.dims, weight, &scales, layer.axis);
        node.input[1] = weight;
        if let Some(bias) = bias {
            let scales: Vec<f32> = scales.iter().map(|scale| scale * input.scale).collect();
            let ints = bias.iter().zip(&scales).map(|(&b, &s)| (f64::from(b) / f64::from(s)).round_ties_even() as i32);
            let raw = ints.flat_map(i32::to_le_bytes).collect();
            let dims = [channels as i64];
            node.input[2] = writer.dequantised(&format!("{name}.bias"), data_type::INT32, &dims, raw, &scales, 0);
        }
        Ok(())
    }

    /// The values that become integers when all layers but these do: inputs and outputs of layers, and what additions,
    /// poolings and concatenations before them read.
    fn quantised(&self, float_layers: &BTreeSet<String>) -> BTreeSet<String> {
        let graph = self.graph();
        let producer: HashMap<&str, &NodeProto> =
            graph.node.iter().flat_map(|node| node.output.iter().map(move |o| (o.as_str(), node))).collect();
        let mut found = BTreeSet::new();
        let mut open: Vec<&str> = Vec::new();
        for layer in self.layers.iter().filter(|layer| !float_layers.contains(&layer.name)) {
            open.extend([graph.node[layer.node].input[0].as_str(), layer.output.as_str()]);
        }
        while let Some(value) = open.pop() {
            if !found.insert(value.to_owned()) {
                continue;
            }
            let Some(mut node) = producer.get(value).copied() else { continue };
            while is_activation(node) {
                match producer.get(node.input[0].as_str()) {
                    Some(before) => node = before,
                    None => break,
                }
            }
            let passes =
                matches!(node.op_type.as_str(), "Add" | "MaxPool" | "AveragePool" | "GlobalAveragePool" | "Concat");
            let values = || node.input.iter().filter(|input| !input.is_empty());
            if passes && node.output.len() == 1 && !values().any(|v| self.constants.contains_key(v)) {
                open.extend(values().map(String::as_str));
            }
        }
        found
    }

    /// The normalisation in front of the first convolution, as byol's exporter writes it.
    fn find_prelude(&self) -> Option<Prelude> {
        let graph = self.graph();
        let reader = |value: &str| {
            let mut readers = graph.node.iter().enumerate().filter(|(_, n)| n.input.iter().any(|i| i == value));
            readers.next().filter(|_| readers.next().is_none() && !graph.output.iter().any(|o| o.name == value))
        };
        let per_channel = |node: &NodeProto| {
            let tensor = &graph.initializer[*self.constants.get(node.input.get(1)?)?];
            (tensor.data_type == data_type::FLOAT && matches!(tensor.dims[..], [1, _, 1, 1])).then(|| floats(tensor))
        };
        let (cast, node) = graph.node.iter().enumerate().find(|(_, n)| n.op_type == "Cast")?;
        let pixels = node.input[0].clone();
        let producer = graph.node.iter().find(|n| n.output.contains(&pixels) && n.op_type == "Transpose")?;
        let is_bytes = |v: &&ValueInfoProto| onnx::value(v).element == onnx::Element::Uint8;
        graph.input.iter().filter(is_bytes).find(|v| v.name == producer.input[0])?;
        let (mul, scaled) = reader(&node.output[0]).filter(|(_, n)| n.op_type == "Mul")?;
        let (add, shifted) = reader(&scaled.output[0]).filter(|(_, n)| n.op_type == "Add")?;
        let (conv, first) = reader(&shifted.output[0]).filter(|(_, n)| n.op_type == "Conv")?;
        let (scale, shift) = (per_channel(scaled)?, per_channel(shifted)?);
        let layer = self.layers.iter().find(|layer| layer.node == conv)?;
        let weight = &graph.initializer[*self.constants.get(&first.input[1])?];
        // Weights of a grouped convolution have fewer input channels than the picture.
        let fits =
            weight.dims[1] == scale.len() as i64 && scale.len() == shift.len() && scale.iter().all(|&s| s != 0.0);
        fits.then(|| Prelude { pixels, nodes: [cast, mul, add], layer: layer.name.clone(), scale, shift })
    }

    fn find_layers(&mut self) {
        let graph = self.graph();
        let mut readers: HashMap<&str, Vec<&NodeProto>> = HashMap::new();
        for node in &graph.node {
            for input in &node.input {
                readers.entry(input).or_default().push(node);
            }
        }
        let outputs: BTreeSet<&str> = graph.output.iter().map(|v| v.name.as_str()).collect();
        // The only reader of a value that nobody outside sees.
        let only_reader = |value: &str| match readers.get(value).map(Vec::as_slice) {
            Some([reader]) if !outputs.contains(value) => Some(*reader),
            _ => None,
        };
        let constant = |name: &String| {
            let tensor = self.constants.get(name).map(|&at| &graph.initializer[at])?;
            (tensor.data_type == data_type::FLOAT && elements(tensor) == Some(floats_len(tensor))).then_some(tensor)
        };
        let mut layers = Vec::new();
        for (index, node) in graph.node.iter().enumerate().filter(|(_, node)| node.domain.is_empty()) {
            let Some(weight) = node.input.get(1).and_then(constant) else { continue };
            let rank = weight.dims.len();
            let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
            let axis = match node.op_type.as_str() {
                "Conv" if rank >= 3 => 0,
                "Gemm" if rank == 2 => {
                    let plain = |name: &str| attribute(name).is_none_or(|a| a.f == 1.0);
                    if !plain("alpha") || !plain("beta") || attribute("transA").is_some_and(|a| a.i != 0) {
                        continue;
                    }
                    usize::from(attribute("transB").is_none_or(|a| a.i == 0))
                }
                "MatMul" if rank == 2 => 1,
                _ => continue,
            };
            let channels = weight.dims[axis] as usize;
            let bias = node.input.get(2).filter(|name| !name.is_empty());
            if bias.is_some_and(|name| constant(name).is_none_or(|b| elements(b) != Some(channels))) {
                continue;
            }
            let output = match only_reader(&node.output[0]) {
                Some(reader) if is_activation(reader) && reader.input[0] == node.output[0] => &reader.output[0],
                _ => &node.output[0],
            };
            // The features themselves keep their resolution.
            let mut end = output.as_str();
            while let Some(reader) = only_reader(end)
                && matches!(reader.op_type.as_str(), "Flatten" | "Reshape" | "Squeeze" | "Identity")
            {
                end = &reader.output[0];
            }
            if outputs.contains(end) {
                continue;
            }
            let name = if node.name.is_empty() { node.output[0].clone() } else { node.name.clone() };
            layers.push(Layer { name, node: index, output: output.clone(), axis });
        }
        self.layers = layers;
    }

    /// Folds each batch normalisation that alone reads a convolution into that convolution.
    fn fold_batch_norms(&mut self) {
        let graph = self.model.graph.get_or_insert_default();
        let mut readers: HashMap<String, usize> = HashMap::new();
        let named = graph.node.iter().flat_map(|n| n.input.clone()).chain(graph.output.iter().map(|v| v.name.clone()));
        named.for_each(|value| *readers.entry(value).or_default() += 1);
        let mut at = 0;
        while at < graph.node.len() {
            let norm = &graph.node[at];
            at += 1;
            if norm.op_type != "BatchNormalization" || norm.input.len() != 5 || norm.output.len() != 1 {
                continue;
            }
            let Some(conv) = graph.node.iter().position(|n| n.op_type == "Conv" && n.output[0] == norm.input[0]) else {
                continue;
            };
            let value = |name: &String| self.constants.get(name).map(|&i| &graph.initializer[i]);
            let Some(weight) = graph.node[conv].input.get(1).and_then(value) else { continue };
            let parameters: Option<Vec<Vec<f32>>> = norm.input[1..].iter().map(|n| value(n).map(floats)).collect();
            let Some([scale, shift, mean, variance]) = parameters.as_deref() else { continue };
            if readers.get(&norm.input[0]) != Some(&1) || weight.data_type != data_type::FLOAT || scale.is_empty() {
                continue;
            }
            let epsilon = norm.attribute.iter().find(|a| a.name == "epsilon").map_or(1e-5, |a| a.f);
            let factors: Vec<f32> = scale.iter().zip(variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
            let mut weights = floats(weight);
            let row = weights.len() / scale.len();
            weights.chunks_mut(row.max(1)).zip(&factors).for_each(|(row, f)| row.iter_mut().for_each(|w| *w *= f));
            let bias = graph.node[conv].input.get(2).filter(|n| !n.is_empty()).and_then(value).map(floats);
            let bias: Vec<f32> = (0..scale.len())
                .map(|i| (bias.as_ref().map_or(0.0, |b| b[i]) - mean[i]) * factors[i] + shift[i])
                .collect();
            let name = norm.output[0].clone();
            let dims = weight.dims.clone();
            let mut add = |suffix: &str, dims: Vec<i64>, values: &[f32]| {
                let name = format!("{name}.folded.{suffix}");
                self.constants.insert(name.clone(), graph.initializer.len());
                let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                let data_type = data_type::FLOAT;
                graph.initializer.push(TensorProto {
                    dims,
                    data_type,
                    name: name.clone(),
                    raw_data,
                    ..TensorProto::default()
                });
                name
            };
            let weight = add("weight", dims, &weights);
            let bias = add("bias", vec![bias.len() as i64], &bias);
            let conv = &mut graph.node[conv];
            conv.input.truncate(1);
            conv.input.extend([weight, bias]);
            conv.output[0] = name;
            at -= 1;
            graph.node.remove(at);
        }
    }

    /// Moves zeros that are padded in front of a convolution into its own padding. A padding by itself has no integer
    /// kernel here, so it would cost two conversions.
    fn fold_pads(&mut self) {
        let graph = self.model.graph.get_or_insert_default();
        let mut readers: HashMap<String, usize> = HashMap::new();
        let named = graph.node.iter().flat_map(|n| n.input.clone()).chain(graph.output.iter().map(|v| v.name.clone()));
        named.for_each(|value| *readers.entry(value).or_default() += 1);
        let mut at = 0;
        while at < graph.node.len() {
            let pad = &graph.node[at];
            at += 1;
            let plain = |a: &AttributeProto| a.name != "mode" || a.s == b"constant";
            if pad.op_type != "Pad" || pad.input.len() > 3 || !pad.attribute.iter().all(plain) {
                continue;
            }
            let constant = |name: &String| {
                let made = graph.node.iter().find(|n| n.op_type == "Constant" && n.output.first() == Some(name));
                let made = made.and_then(|n| n.attribute.iter().find_map(|a| a.t.as_deref()));
                made.or_else(|| self.constants.get(name).map(|&i| &graph.initializer[i]))
            };
            let fill = pad.input.get(2).filter(|name| !name.is_empty());
            let zeros = fill.is_none_or(|name| constant(name).is_some_and(|t| floats(t).iter().all(|&v| v == 0.0)));
            let amounts = pad.input.get(1).and_then(|name| onnx_constant::integers(graph, &self.constants, name));
            let Some(amounts) = amounts else { continue };
            let rank = amounts.len() / 2;
            let spatial = rank > 2 && (0..2).all(|axis| amounts[axis] == 0 && amounts[rank + axis] == 0);
            if !zeros || !spatial || amounts.iter().any(|&n| n < 0) || readers.get(&pad.output[0]) != Some(&1) {
                continue;
            }
            let (input, output) = (pad.input[0].clone(), pad.output[0].clone());
            let reader = |n: &&mut NodeProto| n.op_type == "Conv" && n.input.first() == Some(&output);
            let Some(conv) = graph.node.iter_mut().find(reader) else { continue };
            // Automatic padding counts from the padded size, so it cannot be added to.
            if conv.attribute.iter().any(|a| a.name == "auto_pad" && a.s != b"NOTSET") {
                continue;
            }
            let added: Vec<i64> = amounts[2..rank].iter().chain(&amounts[rank + 2..]).copied().collect();
            match conv.attribute.iter_mut().find(|a| a.name == "pads") {
                Some(own) if own.ints.len() == added.len() => own.ints.iter_mut().zip(added).for_each(|(o, a)| *o += a),
                Some(_) => continue,
                None => conv.attribute.push(AttributeProto {
                    name: "pads".into(),
                    ints: added,
                    r#type: attribute_type::INTS,
                    ..AttributeProto::default()
                }),
            }
            conv.input[0] = input;
            at -= 1;
            graph.node.remove(at);
        }
        drop_unread(graph);
    }

    fn index(&mut self) {
        let named = self.graph().initializer.iter().enumerate();
        self.constants = named.map(|(i, tensor)| (tensor.name.clone(), i)).collect();
    }

    fn graph(&self) -> &GraphProto {
        // A file without a graph is refused by `inspect_model`.
        static EMPTY: std::sync::LazyLock<GraphProto> = std::sync::LazyLock::new(GraphProto::default);
        self.model.graph.as_ref().unwrap_or(&EMPTY)
    }
}

/// Removes nodes that nothing reads, such as those which computed a padding.
fn drop_unread(graph: &mut GraphProto) {
    loop {
        let read = graph.node.iter().flat_map(|n| n.input.clone()).chain(graph.output.iter().map(|v| v.name.clone()));
        let read: BTreeSet<String> = read.collect();
        let before = graph.node.len();
        graph.node.retain(|node| node.output.iter().any(|output| read.contains(output)));
        if graph.node.len() == before {
            return;
        }
    }
}

/// How a value becomes uint8: `round(value / scale) + zero`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    scale: f32,
    zero: u8,
}

impl Step {
    /// The step of a range, which is widened to hold 0; `None` where it is not finite.
    fn of((least, most): Range) -> Option<Self> {
        if !least.is_finite() || !most.is_finite() {
            return None;
        }
        let (least, most) = (least.min(0.0), most.max(0.0));
        let width = most - least;
        // A value that is always 0 needs some step.
        let scale = if width > 1e-20 { width / 255.0 } else { 1.0 };
        Some(Self { scale, zero: (-least / scale).round_ties_even().clamp(0.0, 255.0) as u8 })
    }
}

struct Writer {
    nodes: Vec<NodeProto>,
    constants: Vec<TensorProto>,
    /// What readers of a value read instead.
    replaced: HashMap<String, String>,
}

impl Writer {
    /// Rounds a value to its step, for all that read it.
    fn pair(&mut self, value: &str, step: Step) {
        let quantised = format!("{value}.uint8");
        let read = self.dequantise(value, &quantised, step);
        let at = self.nodes.len() - 1;
        self.push("QuantizeLinear", &[value, &format!("{value}.scale"), &format!("{value}.zero")], &quantised, vec![]);
        self.nodes.swap(at, at + 1);
        self.replaced.insert(value.into(), read);
    }

    /// Makes floats of integers; gives their name.
    fn dequantise(&mut self, value: &str, quantised: &str, step: Step) -> String {
        let scale = self.constant(&format!("{value}.scale"), data_type::FLOAT, &[], step.scale.to_le_bytes().into());
        let zero = self.constant(&format!("{value}.zero"), data_type::UINT8, &[], vec![step.zero]);
        let read = format!("{value}.rounded");
        self.push("DequantizeLinear", &[quantised, &scale, &zero], &read, vec![]);
        read
    }

    /// A constant of integers, as float again; gives the name of the latter.
    fn dequantised(
        &mut self,
        name: &str,
        kind: i32,
        dims: &[i64],
        raw: Vec<u8>,
        scales: &[f32],
        axis: usize,
    ) -> String {
        let count = [scales.len() as i64];
        let values = self.constant(name, kind, dims, raw);
        let raw = scales.iter().flat_map(|s| s.to_le_bytes()).collect();
        let scale = self.constant(&format!("{name}.scale"), data_type::FLOAT, &count, raw);
        let width = if kind == data_type::INT8 { 1 } else { 4 };
        let zero = self.constant(&format!("{name}.zero"), kind, &count, vec![0; width * scales.len()]);
        let output = format!("{name}.rounded");
        self.push("DequantizeLinear", &[&values, &scale, &zero], &output, vec![int("axis", axis as i64)]);
        output
    }

    fn constant(&mut self, name: &str, data_type: i32, dims: &[i64], raw_data: Vec<u8>) -> String {
        let name = name.to_owned();
        let tensor =
            TensorProto { dims: dims.into(), data_type, name: name.clone(), raw_data, ..TensorProto::default() };
        self.constants.push(tensor);
        name
    }

    fn push(&mut self, op_type: &str, input: &[&str], output: &str, attribute: Vec<AttributeProto>) {
        self.nodes.push(NodeProto {
            input: input.iter().map(|&i| i.to_owned()).collect(),
            output: vec![output.into()],
            name: output.into(),
            op_type: op_type.into(),
            attribute,
            ..NodeProto::default()
        });
    }
}

/// An activation that integer kernels take over: it only cuts values off.
fn is_activation(node: &NodeProto) -> bool {
    matches!(node.op_type.as_str(), "Relu" | "Clip")
}

/// Number of elements that a tensor says it has.
fn elements(tensor: &TensorProto) -> Option<usize> {
    tensor.dims.iter().try_fold(1usize, |n, &d| n.checked_mul(usize::try_from(d).ok()?))
}

fn floats_len(tensor: &TensorProto) -> usize {
    if tensor.raw_data.is_empty() { tensor.float_data.len() } else { tensor.raw_data.len() / 4 }
}

/// The values of a float32 tensor.
pub(crate) fn floats(tensor: &TensorProto) -> Vec<f32> {
    if tensor.raw_data.is_empty() {
        return tensor.float_data.clone();
    }
    tensor.raw_data.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_covers_its_range_and_holds_zero_exactly() {
        for range in [(0.0, 6.0), (-1.0, 3.0), (2.0, 5.0), (-4.0, -1.0), (0.0, 0.0)] {
            let step = Step::of(range).unwrap();
            let back = |q: f32| (q - f32::from(step.zero)) * step.scale;
            assert!(back(0.0) <= range.0.min(0.0) + step.scale && back(255.0) >= range.1 - step.scale, "{range:?}");
        }
        assert_eq!(Step::of((0.0, 25.5)), Some(Step { scale: 0.1, zero: 0 }));
        assert_eq!(Step::of((f32::NEG_INFINITY, 1.0)), None);
        assert_eq!(Step::of((0.0, f32::NAN)), None);
    }
}
