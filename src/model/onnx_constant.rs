//! Tensors of an ONNX file whose values are known before any picture is, and what the file computes from them: mostly
//! shapes, which exporters write as computations.

use crate::onnx_proto::*;
use crate::shape::BATCH;
use std::collections::HashMap;

/// A known tensor. Integers and truth values are kept as floats: those that stand for shapes are exact.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Constant {
    pub dims: Vec<usize>,
    pub values: Vec<f64>,
    /// Of floats rather than of integers or truth values.
    pub float: bool,
}

impl Constant {
    pub fn integers(values: Vec<f64>) -> Self {
        Self { dims: vec![values.len()], values, float: false }
    }

    /// Decodes a tensor whose data are in it.
    pub fn decode(tensor: &TensorProto) -> Result<Self, String> {
        let dims: Vec<usize> = tensor
            .dims
            .iter()
            .map(|&d| usize::try_from(d).map_err(|_| format!("tensor {:?} has a dimension of {d}", tensor.name)))
            .collect::<Result<_, _>>()?;
        let raw = &tensor.raw_data;
        let packed = !raw.is_empty();
        let ints = || tensor.int32_data.iter().map(|&v| f64::from(v)).collect::<Vec<f64>>();
        let halves = |value: fn(u16) -> f64| -> Vec<f64> {
            match packed {
                true => raw.as_chunks().0.iter().map(|b| value(u16::from_le_bytes(*b))).collect(),
                false => tensor.int32_data.iter().map(|&v| value(v as u16)).collect(),
            }
        };
        let values: Vec<f64> = match tensor.data_type {
            data_type::FLOAT if packed => raw.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
            data_type::FLOAT => tensor.float_data.iter().map(|&v| f64::from(v)).collect(),
            data_type::DOUBLE if packed => raw.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
            data_type::DOUBLE => tensor.double_data.clone(),
            data_type::FLOAT16 => halves(|bits| half::f16::from_bits(bits).to_f64()),
            data_type::BFLOAT16 => halves(|bits| half::bf16::from_bits(bits).to_f64()),
            data_type::INT64 if packed => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
            data_type::INT64 => tensor.int64_data.iter().map(|&v| v as f64).collect(),
            data_type::INT32 if packed => raw.as_chunks().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
            data_type::INT8 if packed => raw.iter().map(|&b| f64::from(b as i8)).collect(),
            data_type::BOOL | data_type::UINT8 if packed => raw.iter().map(|&b| f64::from(b)).collect(),
            data_type::INT32 | data_type::INT8 | data_type::UINT8 | data_type::BOOL => ints(),
            other => return Err(format!("tensor {:?} has elements of ONNX type {other}", tensor.name)),
        };
        if count(&dims) != Some(values.len()) {
            let why = format!("tensor {:?} of shape {dims:?} holds {} values", tensor.name, values.len());
            return Err(why);
        }
        let float = [data_type::FLOAT, data_type::DOUBLE, data_type::FLOAT16, data_type::BFLOAT16];
        Ok(Self { dims, values, float: float.contains(&tensor.data_type) })
    }

    /// Its value, where it has one only.
    pub fn scalar(&self) -> Option<f64> {
        if self.values.len() == 1 { self.values.first().copied() } else { None }
    }
}

/// Most values of a tensor that is computed here. A small file can ask for any number of them.
pub(crate) const MOST_COMPUTED: usize = 1 << 24;

/// Number of values of a tensor, where it can be counted.
fn count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d))
}

/// That so many values may be computed.
fn bounded(count: usize) -> Result<(), String> {
    if count <= MOST_COMPUTED { Ok(()) } else { Err(format!("{count} values, at most {MOST_COMPUTED} are computed")) }
}

/// An attribute by name.
pub(crate) fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

/// An integer attribute, or what it is without.
pub(crate) fn integer(node: &NodeProto, name: &str, default: i64) -> i64 {
    attribute(node, name).map_or(default, |a| a.i)
}

/// An axis counted from the front.
pub(crate) fn axis(axis: i64, rank: usize) -> Result<usize, String> {
    let counted = if axis < 0 { axis + rank as i64 } else { axis };
    usize::try_from(counted).ok().filter(|&a| a < rank).ok_or_else(|| format!("axis {axis} of {rank} dimensions"))
}

/// The integers that `name` stands for, if they hang on constants alone; `initializers` are positions by name. Exporters
/// like PyTorch's write a padding as a chain of small operators where one constant would do.
pub(crate) fn integers(graph: &GraphProto, initializers: &HashMap<String, usize>, name: &str) -> Option<Vec<i64>> {
    let makers = graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node)));
    let mut chain = Chain { graph, initializers, makers: makers.collect(), found: HashMap::new() };
    let found = chain.value(name, 0)?;
    (!found.float).then(|| found.values.iter().map(|&v| v as i64).collect())
}

struct Chain<'a> {
    graph: &'a GraphProto,
    initializers: &'a HashMap<String, usize>,
    makers: HashMap<&'a str, &'a NodeProto>,
    /// `None` while it is looked for, so that a circle ends, and where it is no constant.
    found: HashMap<&'a str, Option<Constant>>,
}

impl<'a> Chain<'a> {
    /// Deepest chain that is followed, and most values of a tensor: paddings are a handful.
    const MOST: usize = 256;

    fn value(&mut self, name: &str, depth: usize) -> Option<Constant> {
        if let Some(&index) = self.initializers.get(name) {
            let tensor = &self.graph.initializer[index];
            let small = tensor.dims.iter().try_fold(1i64, |n, &d| n.checked_mul(d)).is_some_and(|n| n <= 256);
            return if small { Constant::decode(tensor).ok() } else { None };
        }
        let (&name, &node) = self.makers.get_key_value(name)?;
        if let Some(found) = self.found.get(name) {
            return found.clone();
        }
        self.found.insert(name, None);
        let deep = depth >= Self::MOST || node.output.len() != 1;
        let inputs: Option<Vec<Constant>> = match deep {
            true => None,
            false => node.input.iter().map(|input| self.value(input, depth + 1)).collect(),
        };
        let found = evaluate(node, &inputs?.iter().collect::<Vec<_>>()).ok().flatten();
        let found = found.filter(|constant| constant.values.len() <= Self::MOST);
        self.found.insert(name, found.clone());
        found
    }
}

/// What a node computes from known values. `None` where it is no operator that shapes are computed with.
pub(crate) fn evaluate(node: &NodeProto, inputs: &[&Constant]) -> Result<Option<Constant>, String> {
    let input = |n: usize| inputs.get(n).copied().ok_or_else(|| format!("input {n} is missing"));
    let like = |c: &Constant, values: Vec<f64>| Constant { dims: c.dims.clone(), values, float: c.float };
    let map = |f: fn(f64) -> f64| -> Result<Constant, String> {
        let x = input(0)?;
        Ok(like(x, x.values.iter().map(|&v| f(v)).collect()))
    };
    Ok(Some(match node.op_type.as_str() {
        "Constant" => constant(node)?,
        "Identity" => input(0)?.clone(),
        "Cast" => {
            let x = input(0)?;
            let to = integer(node, "to", 1) as i32;
            let float = [data_type::FLOAT, data_type::DOUBLE, data_type::FLOAT16, data_type::BFLOAT16].contains(&to);
            let cast = |&v: &f64| match to {
                data_type::BOOL => f64::from(v != 0.0),
                _ if float => v,
                _ => v.trunc(),
            };
            Constant { dims: x.dims.clone(), values: x.values.iter().map(cast).collect(), float }
        }
        "Neg" => map(|v| -v)?,
        "Sqrt" => map(f64::sqrt)?,
        "Abs" => map(f64::abs)?,
        "Floor" => map(f64::floor)?,
        "Ceil" => map(f64::ceil)?,
        "Reciprocal" => map(|v| 1.0 / v)?,
        "Exp" => map(f64::exp)?,
        "Log" => map(f64::ln)?,
        "Not" => map(|v| f64::from(v == 0.0))?,
        "Clip" if node.input.get(1).is_some_and(|name| !name.is_empty()) => {
            let x = input(0)?;
            let bound = |n: usize, default: f64| inputs.get(n).and_then(|c| c.scalar()).unwrap_or(default);
            let (low, high) = (bound(1, f64::MIN), bound(2, f64::MAX));
            like(x, x.values.iter().map(|&v| v.max(low).min(high)).collect())
        }
        "Add" | "Sub" | "Mul" | "Div" | "Pow" | "Mod" | "Max" | "Min" | "Equal" | "Greater" | "Less" | "And" => {
            let (a, b) = (input(0)?, input(1)?);
            let float = a.float || b.float;
            let f: fn(f64, f64) -> f64 = match node.op_type.as_str() {
                "Add" => |a, b| a + b,
                "Sub" => |a, b| a - b,
                "Mul" => |a, b| a * b,
                "Div" if float => |a, b| a / b,
                "Div" => |a, b| (a / b).trunc(),
                "Pow" => f64::powf,
                "Mod" => f64::rem_euclid,
                "Max" => f64::max,
                "Min" => f64::min,
                "Equal" => |a, b| f64::from(a == b),
                "Greater" => |a, b| f64::from(a > b),
                "Less" => |a, b| f64::from(a < b),
                _ => |a, b| f64::from(a != 0.0 && b != 0.0),
            };
            let truth = matches!(node.op_type.as_str(), "Equal" | "Greater" | "Less" | "And");
            Constant { float: float && !truth, ..pairwise(a, b, f)? }
        }
        "Where" => {
            let (condition, a, b) = (input(0)?, input(1)?, input(2)?);
            let chosen = pairwise(a, b, |a, _| a)?;
            let other = pairwise(b, a, |b, _| b)?;
            let truth = pairwise(condition, &chosen, |c, _| c)?;
            let pick = |i: usize| if truth.values[i] != 0.0 { chosen.values.get(i) } else { other.values.get(i) };
            let values = (0..truth.values.len()).map(pick).collect::<Option<Vec<&f64>>>();
            let values = values.ok_or("its values do not fit each other")?.into_iter().copied().collect();
            Constant { dims: truth.dims, values, float: a.float }
        }
        "Gather" => {
            let (x, index) = (input(0)?, input(1)?);
            let at = axis(integer(node, "axis", 0), x.dims.len())?;
            let rows = x.dims[at];
            let inner: usize = x.dims[at + 1..].iter().product();
            let outer: usize = x.dims[..at].iter().product();
            bounded(outer.saturating_mul(inner).saturating_mul(index.values.len()))?;
            let mut values = Vec::new();
            for o in 0..outer {
                for &i in &index.values {
                    let i = axis(i as i64, rows)?;
                    values.extend(&x.values[(o * rows + i) * inner..][..inner]);
                }
            }
            let dims = [&x.dims[..at], &index.dims, &x.dims[at + 1..]].concat();
            Constant { dims, values, float: x.float }
        }
        "Concat" => {
            let first = input(0)?;
            if inputs.iter().any(|c| c.dims.len() != 1) {
                return Ok(None);
            }
            bounded(inputs.iter().map(|c| c.values.len()).sum())?;
            Constant {
                float: first.float,
                ..Constant::integers(inputs.iter().flat_map(|c| c.values.iter().copied()).collect())
            }
        }
        "Slice" => {
            let x = input(0)?;
            let one = |n: usize, default: f64| inputs.get(n).and_then(|c| c.scalar()).unwrap_or(default) as i64;
            let at = axis(one(3, 0.0), x.dims.len())?;
            let (length, step) = (x.dims[at] as i64, one(4, 1.0));
            let last = if step < 0 { length - 1 } else { length };
            // Of an axis of no length nothing is taken, whichever way it is counted.
            let clamp = |i: i64, low: i64| (if i < 0 { i.saturating_add(length) } else { i }).max(low).min(last);
            let start = clamp(one(1, 0.0), 0);
            // Before the first index, where it is counted backwards to its end.
            let end = clamp(one(2, f64::MAX), if step < 0 { -1 } else { 0 });
            let within = |i: &i64| if step < 0 { *i > end } else { *i < end };
            if step == 0 {
                return Err("steps of 0".into());
            }
            let rows: Vec<usize> = std::iter::successors(Some(start), |i| i.checked_add(step))
                .take_while(within)
                .map(|i| i as usize)
                .collect();
            let inner: usize = x.dims[at + 1..].iter().product();
            let outer: usize = x.dims[..at].iter().product();
            let mut values = Vec::new();
            for o in 0..outer {
                for row in &rows {
                    values.extend(&x.values[(o * x.dims[at] + row) * inner..][..inner]);
                }
            }
            let mut dims = x.dims.clone();
            dims[at] = rows.len();
            Constant { dims, values, float: x.float }
        }
        "Transpose" => {
            let x = input(0)?;
            match x.dims[..] {
                [] | [_] => x.clone(),
                [rows, columns] if attribute(node, "perm").is_none_or(|a| a.ints == [1, 0]) => {
                    let values = (0..rows * columns).map(|i| x.values[(i % rows) * columns + i / rows]).collect();
                    Constant { dims: vec![columns, rows], values, float: x.float }
                }
                _ => return Ok(None),
            }
        }
        "Reshape" | "Unsqueeze" | "Squeeze" | "Flatten" => {
            let x = input(0)?;
            match x.values.len() {
                1 if node.op_type == "Squeeze" => Constant { dims: Vec::new(), ..x.clone() },
                1 if node.op_type == "Unsqueeze" => Constant { dims: vec![1; x.dims.len() + 1], ..x.clone() },
                n if node.op_type == "Reshape" => {
                    let to = &input(1)?.values;
                    let known: f64 = to.iter().filter(|&&d| d > 0.0).product();
                    let dim = |&d: &f64| if d < 0.0 { (n as f64 / known) as usize } else { d as usize };
                    let dims: Vec<usize> = to.iter().map(dim).collect();
                    if count(&dims) != Some(n) {
                        return Err(format!("cannot reshape {n} values to {to:?}"));
                    }
                    Constant { dims, ..x.clone() }
                }
                _ => return Ok(None),
            }
        }
        "Size" => Constant { dims: Vec::new(), ..Constant::integers(vec![input(0)?.values.len() as f64]) },
        "Shape" => Constant::integers(input(0)?.dims.iter().map(|&d| d as f64).collect()),
        "ReduceProd" => {
            Constant { dims: Vec::new(), values: vec![input(0)?.values.iter().product()], float: input(0)?.float }
        }
        "Range" => {
            let at = |n: usize| input(n)?.scalar().ok_or_else(|| "a range of several starts".to_owned());
            let (start, limit, step) = (at(0)?, at(1)?, at(2)?);
            let count = ((limit - start) / step).ceil();
            // No axis is as long as BATCH.
            if !(0.0..BATCH as f64).contains(&count) {
                return Err(format!("a range from {start} to {limit} by {step}"));
            }
            let values = (0..count as usize).map(|i| start + i as f64 * step).collect();
            Constant { float: input(0)?.float, ..Constant::integers(values) }
        }
        "ConstantOfShape" | "Expand" => {
            let shape = if node.op_type == "Expand" { input(1)? } else { input(0)? };
            let value = match node.op_type.as_str() {
                "Expand" => input(0)?.clone(),
                _ => match attribute(node, "value").and_then(|a| a.t.as_deref()) {
                    Some(tensor) => Constant::decode(tensor)?,
                    None => Constant { dims: vec![1], values: vec![0.0], float: true },
                },
            };
            let Some(scalar) = value.scalar() else { return Ok(None) };
            let dims: Vec<usize> = shape.values.iter().map(|&d| d as usize).collect();
            let count = count(&dims).filter(|&n| n <= MOST_COMPUTED && dims.iter().all(|&d| d < BATCH));
            let Some(count) = count else { return Ok(None) };
            Constant { values: vec![scalar; count], dims, float: value.float }
        }
        _ => return Ok(None),
    }))
}

/// The value of a node `Constant`.
fn constant(node: &NodeProto) -> Result<Constant, String> {
    let of = |name: &str| attribute(node, name);
    let scalar = |value: f64, float: bool| Constant { dims: Vec::new(), values: vec![value], float };
    if let Some(tensor) = of("value").and_then(|a| a.t.as_deref()) {
        Constant::decode(tensor)
    } else if let Some(a) = of("value_int") {
        Ok(scalar(a.i as f64, false))
    } else if let Some(a) = of("value_float") {
        Ok(scalar(f64::from(a.f), true))
    } else if let Some(a) = of("value_ints") {
        Ok(Constant::integers(a.ints.iter().map(|&v| v as f64).collect()))
    } else if let Some(a) = of("value_floats") {
        let values = a.floats.iter().map(|&v| f64::from(v)).collect();
        Ok(Constant { float: true, ..Constant::integers(values) })
    } else {
        Err("its value is no tensor of numbers".into())
    }
}

/// A function of two values of one shape, or of a value and a number.
fn pairwise(a: &Constant, b: &Constant, f: impl Fn(f64, f64) -> f64) -> Result<Constant, String> {
    let (dims, values) = if a.dims == b.dims {
        (a.dims.clone(), a.values.iter().zip(&b.values).map(|(&a, &b)| f(a, b)).collect())
    } else if let Some(b) = b.scalar().filter(|_| b.dims.len() <= a.dims.len()) {
        (a.dims.clone(), a.values.iter().map(|&a| f(a, b)).collect())
    } else if let Some(a) = a.scalar() {
        (b.dims.clone(), b.values.iter().map(|&b| f(a, b)).collect())
    } else {
        return Err(format!("known values of shapes {:?} and {:?} do not fit", a.dims, b.dims));
    };
    Ok(Constant { dims, values, float: a.float || b.float })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(dims: &[i64], values: &[i64]) -> TensorProto {
        let (dims, int64_data) = (dims.to_vec(), values.to_vec());
        TensorProto { dims, data_type: data_type::INT64, int64_data, ..TensorProto::default() }
    }

    fn node(op: &str, inputs: &[&str], output: &str, attribute: Option<AttributeProto>) -> NodeProto {
        NodeProto {
            op_type: op.into(),
            input: inputs.iter().map(|&name| name.into()).collect(),
            output: vec![output.into()],
            attribute: attribute.into_iter().collect(),
            ..NodeProto::default()
        }
    }

    fn constant(name: &str, dims: &[i64], values: &[i64]) -> NodeProto {
        let t = Some(Box::new(tensor(dims, values)));
        node("Constant", &[], name, Some(AttributeProto { name: "value".into(), t, ..AttributeProto::default() }))
    }

    fn number(name: &str, i: i64) -> Option<AttributeProto> {
        Some(AttributeProto { name: name.into(), i, ..AttributeProto::default() })
    }

    /// What torch.onnx writes for `ZeroPad2d((1, 2, 3, 4))`: left, right, top, bottom become the begins, then the ends, of
    /// all four axes.
    fn padding(values: &[i64]) -> GraphProto {
        let perm = AttributeProto { name: "perm".into(), ints: vec![1, 0], ..AttributeProto::default() };
        let nodes = vec![
            constant("given", &[4], values),
            constant("missing", &[1], &[4]),
            node("ConstantOfShape", &["missing"], "zeros", None),
            node("Concat", &["given", "zeros"], "all", number("axis", 0)),
            constant("pairs", &[2], &[-1, 2]),
            node("Reshape", &["all", "pairs"], "rows", None),
            constant("start", &[1], &[-1]),
            constant("end", &[1], &[i64::MIN + 1]),
            constant("axis", &[1], &[0]),
            constant("step", &[1], &[-1]),
            node("Slice", &["rows", "start", "end", "axis", "step"], "turned", None),
            node("Transpose", &["turned"], "columns", Some(perm)),
            constant("flat", &[1], &[-1]),
            node("Reshape", &["columns", "flat"], "row", None),
            node("Cast", &["row"], "pads", number("to", 7)),
        ];
        GraphProto { node: nodes, ..GraphProto::default() }
    }

    #[test]
    fn a_padding_as_pytorch_writes_it_is_a_constant() {
        let found = integers(&padding(&[1, 2, 3, 4]), &HashMap::new(), "pads");
        assert_eq!(found, Some(vec![0, 0, 3, 1, 0, 0, 4, 2]));
    }

    #[test]
    fn what_hangs_on_an_input_or_itself_or_grows_is_no_constant() {
        let mut graph = padding(&[1, 2, 3, 4]);
        graph.node.remove(0);
        assert_eq!(integers(&graph, &HashMap::new(), "pads"), None);
        graph.node.push(node("Identity", &["pads"], "given", None));
        assert_eq!(integers(&graph, &HashMap::new(), "pads"), None);
        let graph = GraphProto {
            node: vec![constant("n", &[2], &[1 << 40, 1 << 40]), node("ConstantOfShape", &["n"], "huge", None)],
            ..GraphProto::default()
        };
        assert_eq!(integers(&graph, &HashMap::new(), "huge"), None);
    }

    #[test]
    fn slices_take_what_onnx_says() {
        let slice = |bounds: [i64; 4]| {
            let mut graph = GraphProto::default();
            graph.node.push(constant("x", &[2, 3], &[0, 1, 2, 3, 4, 5]));
            for (name, value) in ["start", "end", "axis", "step"].iter().zip(bounds) {
                graph.node.push(constant(name, &[1], &[value]));
            }
            graph.node.push(node("Slice", &["x", "start", "end", "axis", "step"], "y", None));
            integers(&graph, &HashMap::new(), "y")
        };
        assert_eq!(slice([1, 3, 1, 1]), Some(vec![1, 2, 4, 5]));
        assert_eq!(slice([-1, i64::MIN, -1, -2]), Some(vec![2, 0, 5, 3]));
        assert_eq!(slice([5, 9, 0, 1]), Some(vec![]));
        assert_eq!(slice([0, 1, 2, 1]), None);
        assert_eq!(slice([0, 1, 0, 0]), None);
    }
}
