//! A network as data: a graph in SSA form.
//!
//! Nodes stand in topological order; each has an [`Op`], the nodes it reads and a name that prefixes its parameters,
//! as torchvision names them (`layer1.0.conv1` owns `layer1.0.conv1.weight`). Two walkers consume it: `byol-train`
//! runs it on libtorch, [`crate::onnx`] writes it. Both `match` on [`Op`] without a wildcard, so that a new operator
//! does not compile until both know it. To build one, see [`crate::zoo`] and [`crate::mlp`].

use crate::error::{Error, Result};
pub use crate::shape::{BATCH, Shape};
use crate::tensor_op::TensorOp;
use std::collections::BTreeMap;

/// Index of a node in [`Graph::nodes`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(pub usize);

/// One operator. Kernel, stride and padding are `[vertical, horizontal]`, padding is the same on both sides.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// The network's only input.
    Input,
    /// 2-d convolution (cross-correlation). Parameters `weight [out, in / groups, kh, kw]` and, with `bias`, `bias [out]`.
    Conv2d {
        /// Channels read.
        in_channels: usize,
        /// Channels written.
        out_channels: usize,
        /// Kernel size.
        kernel: [usize; 2],
        /// Stride.
        stride: [usize; 2],
        /// Zero padding on each side.
        padding: [usize; 2],
        /// Groups that the channels are split into.
        groups: usize,
        /// Whether a bias is added.
        bias: bool,
        /// Weight standardisation (Qiao et al. 2019, arXiv 1903.10520): each output channel's weights, less their mean,
        /// over `sqrt(variance + `[`STANDARDISATION_EPS`]`)`.
        standardised: bool,
    },
    /// Batch normalisation over maps or vectors. Parameters `weight, bias [channels]`, buffers
    /// `running_mean, running_var [channels]`. In training: statistics of the whole batch, also where many
    /// processes have a part of it each; running statistics moved by `momentum` (torch's convention: new = (1 - momentum)
    /// old + momentum batch).
    BatchNorm {
        /// Channels (maps) or features (vectors).
        channels: usize,
        /// Added to the variance.
        eps: f64,
        /// Share of the batch in the running statistics.
        momentum: f64,
    },
    /// Group normalisation over maps (Wu & He 2018, arXiv 1803.08494): mean and variance of each example's groups of
    /// neighbouring channels. Parameters `weight, bias [channels]`.
    GroupNorm {
        /// Channels.
        channels: usize,
        /// Groups that they are split into.
        groups: usize,
        /// Added to the variance.
        eps: f64,
    },
    /// Fully connected, along the last axis. Parameters `weight [out, in]` and, with `bias`, `bias [out]`.
    Linear {
        /// Features read.
        in_features: usize,
        /// Features written.
        out_features: usize,
        /// Whether a bias is added.
        bias: bool,
    },
    /// `max(x, 0)`.
    Relu,
    /// Maximum over windows.
    MaxPool {
        /// Window.
        kernel: [usize; 2],
        /// Stride.
        stride: [usize; 2],
        /// Padding (with minus infinity) on each side.
        padding: [usize; 2],
    },
    /// Mean over windows; what lies in the padding does not count.
    AvgPool {
        /// Window.
        kernel: [usize; 2],
        /// Stride.
        stride: [usize; 2],
        /// Padding on each side.
        padding: [usize; 2],
        /// Whether a last window that begins inside the map but ends outside counts; what lies outside does not.
        ceil: bool,
    },
    /// Mean over all positions: map to vector.
    GlobalAvgPool,
    /// Maximum over all positions: map to vector.
    GlobalMaxPool,
    /// Map to vector in `[channels, height, width]` order.
    Flatten,
    /// Sum of two values of one shape.
    Add,
    /// Vectors one behind the other.
    Concat,
    /// An operator on tensors of any shape.
    Tensor(TensorOp),
}

impl Op {
    /// The operator's name as printed by `byol summary`.
    pub fn name(&self) -> &'static str {
        match self {
            Op::Input => "Input",
            Op::Conv2d { standardised: false, .. } => "Conv2d",
            Op::Conv2d { standardised: true, .. } => "StdConv2d",
            Op::BatchNorm { .. } => "BatchNorm",
            Op::GroupNorm { .. } => "GroupNorm",
            Op::Linear { .. } => "Linear",
            Op::Relu => "ReLU",
            Op::MaxPool { .. } => "MaxPool",
            Op::AvgPool { .. } => "AvgPool",
            Op::GlobalAvgPool => "GlobalAvgPool",
            Op::GlobalMaxPool => "GlobalMaxPool",
            Op::Flatten => "Flatten",
            Op::Add => "Add",
            Op::Concat => "Concat",
            Op::Tensor(op) => op.name(),
        }
    }
}

/// A node: an operator, what it reads, and what it writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Unique in the graph; prefixes the node's parameters.
    pub name: String,
    /// The operator.
    pub op: Op,
    /// Nodes read, all earlier in the graph.
    pub inputs: Vec<NodeId>,
    /// Shape of one example of the output.
    pub shape: Shape,
    /// How parameters start that do not start as their operator's usually do, by the end of their name (`"weight"`).
    pub init: BTreeMap<&'static str, Init>,
}

/// Added to the variance of standardised weights (timm's `StdConv2d`).
pub const STANDARDISATION_EPS: f64 = 1e-6;

/// How a parameter starts.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Init {
    /// He normal, fan-out, for ReLU: standard deviation `sqrt(2 / fan)` (torchvision's ResNet).
    KaimingFanOut {
        /// `out_channels * kernel area`.
        fan: usize,
    },
    /// He normal, fan-in, for ReLU: standard deviation `sqrt(2 / fan)` (fastai).
    KaimingFanIn {
        /// `in_channels / groups * kernel area`.
        fan: usize,
    },
    /// Normal around 0. timm's truncated normals are cut at 100 standard deviations, so they are these.
    Normal {
        /// Standard deviation.
        deviation: f32,
    },
    /// Uniform in `±1 / sqrt(fan)` (PyTorch's default for Linear, weight and bias).
    UniformFanIn {
        /// Number of inputs of one output.
        fan: usize,
    },
    /// A constant.
    Constant(f32),
}

/// A parameter or buffer of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Full name, for example `layer1.0.conv1.weight`.
    pub name: String,
    /// Shape in torch's order.
    pub shape: Vec<usize>,
    /// How it starts.
    pub init: Init,
    /// Learned by gradient; false for the running statistics of BatchNorm.
    pub trainable: bool,
    /// Bias, or scale and shift of a normalisation: LARS neither decays nor adapts these (paper, section 3.2 and
    /// appendix F.5).
    pub bias_or_norm: bool,
}

impl Parameter {
    /// Number of values.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Whether there is no value at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Node {
    /// The node's parameters, then its buffers, in torch's order.
    pub fn parameters(&self) -> Vec<Parameter> {
        let parameter = |suffix: &str, shape: Vec<usize>, init, trainable, bias_or_norm| Parameter {
            name: format!("{}.{suffix}", self.name),
            shape,
            init: self.init.get(suffix).copied().unwrap_or(init),
            trainable,
            bias_or_norm,
        };
        match &self.op {
            &Op::Conv2d { in_channels, out_channels, kernel: [h, w], groups, bias, .. } => {
                let init = Init::KaimingFanOut { fan: out_channels / groups * h * w };
                let mut all =
                    vec![parameter("weight", vec![out_channels, in_channels / groups, h, w], init, true, false)];
                if bias {
                    let init = Init::UniformFanIn { fan: in_channels / groups * h * w };
                    all.push(parameter("bias", vec![out_channels], init, true, true));
                }
                all
            }
            &Op::BatchNorm { channels, .. } => vec![
                parameter("weight", vec![channels], Init::Constant(1.0), true, true),
                parameter("bias", vec![channels], Init::Constant(0.0), true, true),
                parameter("running_mean", vec![channels], Init::Constant(0.0), false, true),
                parameter("running_var", vec![channels], Init::Constant(1.0), false, true),
            ],
            &Op::GroupNorm { channels, .. } => vec![
                parameter("weight", vec![channels], Init::Constant(1.0), true, true),
                parameter("bias", vec![channels], Init::Constant(0.0), true, true),
            ],
            &Op::Linear { in_features, out_features, bias } => {
                let init = Init::UniformFanIn { fan: in_features };
                let mut all = vec![parameter("weight", vec![out_features, in_features], init, true, false)];
                if bias {
                    all.push(parameter("bias", vec![out_features], init, true, true));
                }
                all
            }
            &Op::Tensor(TensorOp::LayerNormalization { features, .. }) => vec![
                parameter("weight", vec![features], Init::Constant(1.0), true, true),
                parameter("bias", vec![features], Init::Constant(0.0), true, true),
            ],
            Op::Tensor(TensorOp::Parameter { shape }) => {
                // What is one for all examples or positions (class token, position embedding, layer scale) counts as a
                // bias, as timm has it.
                let bias_or_norm = shape.len() < 2 || shape[0] == 1;
                let usual = Init::UniformFanIn { fan: shape.last().copied().unwrap_or(1) };
                let init = self.init.get("").copied().unwrap_or(usual);
                vec![Parameter { name: self.name.clone(), shape: shape.clone(), init, trainable: true, bias_or_norm }]
            }
            Op::Input
            | Op::Tensor(_)
            | Op::Relu
            | Op::MaxPool { .. }
            | Op::AvgPool { .. }
            | Op::GlobalAvgPool
            | Op::GlobalMaxPool
            | Op::Flatten
            | Op::Add
            | Op::Concat => Vec::new(),
        }
    }
}

/// A network with one input and one output. Its nodes are private so that every graph is valid: inputs come before
/// their readers, names are unique, shapes fit.
#[derive(Clone, Debug, PartialEq)]
pub struct Graph {
    nodes: Vec<Node>,
    output: NodeId,
}

impl Graph {
    /// All nodes in topological order; the first is the input.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// One node.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node whose value is the network's output.
    pub fn output(&self) -> NodeId {
        self.output
    }

    /// Shape of one example of the input.
    pub fn input_shape(&self) -> Shape {
        self.nodes[0].shape
    }

    /// Shape of one example of the output.
    pub fn output_shape(&self) -> Shape {
        self.node(self.output).shape
    }

    /// Number of features of the output: its length, whatever its shape.
    pub fn dimension(&self) -> usize {
        self.output_shape().len()
    }

    /// Every parameter and buffer, in the order of the nodes.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.nodes.iter().flat_map(Node::parameters).collect()
    }

    /// Number of learned values.
    pub fn parameter_count(&self) -> usize {
        self.parameters().iter().filter(|p| p.trainable).map(Parameter::len).sum()
    }

    /// Number of values that are kept but not learned: running statistics.
    pub fn buffer_count(&self) -> usize {
        self.parameters().iter().filter(|p| !p.trainable).map(Parameter::len).sum()
    }

    /// Multiply-adds of one example's forward pass: convolutions, fully connected layers and the matrix products of
    /// attention, as the field counts them.
    pub fn multiply_adds(&self) -> u64 {
        self.nodes.iter().map(|node| self.multiply_adds_of(node)).sum()
    }

    /// The part that one node has in [`Graph::multiply_adds`].
    pub fn multiply_adds_of(&self, node: &Node) -> u64 {
        let n = match node.op {
            Op::Conv2d { in_channels, kernel: [h, w], groups, .. } => node.shape.len() * in_channels / groups * h * w,
            Op::Linear { in_features, .. } => node.shape.len() * in_features,
            Op::Tensor(TensorOp::MatMul) => {
                let inner = self.node(node.inputs[0]).shape.dims().last().copied().unwrap_or(0);
                node.shape.len() * inner
            }
            _ => 0,
        };
        n as u64
    }
}

/// Most numbers of one example's value between two nodes: a gigabyte in float32.
const MOST_VALUES: usize = 1 << 28;

/// Builds a [`Graph`] node by node, inferring and checking shapes.
#[derive(Debug)]
pub struct GraphBuilder {
    nodes: Vec<Node>,
}

impl GraphBuilder {
    /// Starts a graph whose input has the given shape.
    pub fn new(input: Shape) -> Self {
        let (op, inputs, init) = (Op::Input, Vec::new(), BTreeMap::new());
        Self { nodes: vec![Node { name: "input".into(), op, inputs, shape: input, init }] }
    }

    /// The input's node.
    pub fn input(&self) -> NodeId {
        NodeId(0)
    }

    /// A node's name.
    pub fn name(&self, id: NodeId) -> &str {
        &self.nodes[id.0].name
    }

    /// Shape of a node's output.
    pub fn shape(&self, id: NodeId) -> Shape {
        self.nodes[id.0].shape
    }

    /// Adds a node.
    ///
    /// # Errors
    /// [`Error::Graph`] names the node where a name is taken, an input does not exist or a shape does not fit.
    pub fn add(&mut self, name: impl Into<String>, op: Op, inputs: &[NodeId]) -> Result<NodeId> {
        let name = name.into();
        let wrong = |why: String| Error::Graph { node: name.clone(), why };
        if self.nodes.iter().any(|n| n.name == name) {
            return Err(wrong("the name is taken".into()));
        }
        if let Some(id) = inputs.iter().find(|id| id.0 >= self.nodes.len()) {
            return Err(wrong(format!("input {} does not exist", id.0)));
        }
        let shapes: Vec<Shape> = inputs.iter().map(|&id| self.shape(id)).collect();
        let shape = infer(&op, &shapes).map_err(wrong)?;
        if shape.checked_len().is_none_or(|len| len > MOST_VALUES) {
            return Err(wrong(format!("a value of {shape} is larger than {MOST_VALUES} numbers")));
        }
        self.nodes.push(Node { name, op, inputs: inputs.to_vec(), shape, init: BTreeMap::new() });
        Ok(NodeId(self.nodes.len() - 1))
    }

    /// Says how a node's parameters start, by the end of their name: `"weight"`, and `""` for a learned tensor.
    pub fn start(&mut self, id: NodeId, starts: &[(&'static str, Init)]) {
        self.nodes[id.0].init.extend(starts.iter().copied());
    }

    /// Ends the graph with `output` as its value.
    pub fn finish(self, output: NodeId) -> Graph {
        Graph { nodes: self.nodes, output }
    }
}

/// The shape that `op` writes when it reads `inputs`, or why it cannot.
fn infer(op: &Op, inputs: &[Shape]) -> Result<Shape, String> {
    let one = || match inputs {
        [shape] => Ok(*shape),
        _ => Err(format!("{} reads one value, got {}", op.name(), inputs.len())),
    };
    let map = || match one()? {
        Shape::Map { channels, height, width } => Ok((channels, height, width)),
        shape => Err(format!("{} reads a feature map, got {shape}", op.name())),
    };
    let window = |size: usize, kernel: usize, stride: usize, padding: usize| {
        if kernel == 0 || stride == 0 {
            return Err(format!("kernel {kernel} and stride {stride} must be positive"));
        }
        let padded = padding.saturating_mul(2).saturating_add(size);
        match padded.checked_sub(kernel) {
            Some(room) => Ok((room / stride).saturating_add(1)),
            None => Err(format!("kernel {kernel} is larger than the padded input {padded}")),
        }
    };
    match *op {
        Op::Tensor(ref op) => op.infer(inputs),
        Op::Input => Err("a graph has one input, made by its builder".into()),
        Op::Conv2d { in_channels, out_channels, kernel, stride, padding, groups, .. } => {
            let (channels, height, width) = map()?;
            if channels != in_channels {
                return Err(format!("expects {in_channels} channels, got {channels}"));
            }
            if groups == 0 || in_channels % groups != 0 || out_channels % groups != 0 || out_channels == 0 {
                return Err(format!("{in_channels} to {out_channels} channels do not divide into {groups} groups"));
            }
            Ok(Shape::Map {
                channels: out_channels,
                height: window(height, kernel[0], stride[0], padding[0])?,
                width: window(width, kernel[1], stride[1], padding[1])?,
            })
        }
        Op::BatchNorm { channels, .. } => {
            let shape = one()?;
            let found = match shape {
                Shape::Map { channels, .. } => channels,
                Shape::Vector { features } => features,
                Shape::Tensor(_) => return Err(format!("BatchNorm reads maps or vectors, got {shape}")),
            };
            if found == channels { Ok(shape) } else { Err(format!("expects {channels} channels, got {found}")) }
        }
        Op::GroupNorm { channels, groups, .. } => {
            let shape = one()?;
            let (found, ..) = map()?;
            if groups == 0 || channels % groups != 0 {
                return Err(format!("{channels} channels do not divide into {groups} groups"));
            }
            if found == channels { Ok(shape) } else { Err(format!("expects {channels} channels, got {found}")) }
        }
        Op::Linear { in_features, out_features, .. } => match one()? {
            Shape::Vector { features } if features == in_features && out_features > 0 => {
                Ok(Shape::Vector { features: out_features })
            }
            shape @ (Shape::Tensor(_) | Shape::Map { .. }) if shape.dims().last() == Some(&in_features) => {
                let mut dims = shape.dims();
                dims.pop();
                dims.push(out_features);
                Shape::new(&dims)
            }
            shape => Err(format!("expects a vector of {in_features}, got {shape}")),
        },
        Op::Relu => one(),
        Op::AvgPool { kernel, stride, padding, ceil: true } => {
            let (channels, height, width) = map()?;
            // The last window begins inside the map or its first padding, as PyTorch has it.
            let window = |size: usize, kernel: usize, stride: usize, padding: usize| {
                let n = window(size, kernel, stride, padding)?;
                let whole = (size + 2 * padding - kernel).is_multiple_of(stride);
                Ok::<_, String>(if !whole && n * stride < size + padding { n + 1 } else { n })
            };
            Ok(Shape::Map {
                channels,
                height: window(height, kernel[0], stride[0], padding[0])?,
                width: window(width, kernel[1], stride[1], padding[1])?,
            })
        }
        Op::MaxPool { kernel, stride, padding } | Op::AvgPool { kernel, stride, padding, ceil: false } => {
            let (channels, height, width) = map()?;
            Ok(Shape::Map {
                channels,
                height: window(height, kernel[0], stride[0], padding[0])?,
                width: window(width, kernel[1], stride[1], padding[1])?,
            })
        }
        Op::GlobalAvgPool | Op::GlobalMaxPool => Ok(Shape::Vector { features: map()?.0 }),
        Op::Flatten => match one()? {
            shape if shape.dims().first() == Some(&BATCH) => Ok(Shape::Vector { features: shape.len() }),
            shape => Err(format!("Flatten reads examples one behind the other, got {shape}")),
        },
        Op::Add => match inputs {
            [a, b] if a == b => Ok(*a),
            [a, b] => Err(format!("cannot add {a} and {b}")),
            _ => Err(format!("Add reads two values, got {}", inputs.len())),
        },
        Op::Concat => {
            let mut features = 0;
            for shape in inputs {
                match shape {
                    Shape::Vector { features: n } => features += n,
                    Shape::Map { .. } | Shape::Tensor(_) => return Err(format!("Concat reads vectors, got {shape}")),
                }
            }
            if features == 0 { Err("Concat reads at least one value".into()) } else { Ok(Shape::Vector { features }) }
        }
    }
}
