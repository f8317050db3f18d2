//! Integers that an ONNX graph computes from constants alone: sizes and paddings, which exporters like PyTorch's write as
//! a chain of small operators where one constant would do.
//!
//! Only what occurs in such chains is known: Constant, ConstantOfShape, Identity, Cast, Concat, Reshape, Squeeze,
//! Unsqueeze, Slice and Transpose. Anything else is simply no constant.

use crate::onnx_proto::*;
use std::collections::HashMap;

/// Deepest chain that is followed, and most values of a tensor: paddings are a handful.
const MOST: usize = 256;

/// A tensor of integers.
#[derive(Clone, Debug, PartialEq)]
struct Integers {
    dims: Vec<usize>,
    values: Vec<i64>,
}

/// The values of `name`, if they hang on constants alone; `initializers` are positions by name.
pub(crate) fn integers(graph: &GraphProto, initializers: &HashMap<String, usize>, name: &str) -> Option<Vec<i64>> {
    let makers: HashMap<&str, &NodeProto> =
        graph.node.iter().flat_map(|node| node.output.iter().map(move |output| (output.as_str(), node))).collect();
    Evaluation { graph, initializers, makers }.value(name, 0).map(|found| found.values)
}

struct Evaluation<'a> {
    graph: &'a GraphProto,
    initializers: &'a HashMap<String, usize>,
    makers: HashMap<&'a str, &'a NodeProto>,
}

impl Evaluation<'_> {
    fn value(&self, name: &str, depth: usize) -> Option<Integers> {
        if depth > MOST {
            return None;
        }
        if let Some(&index) = self.initializers.get(name) {
            return read(&self.graph.initializer[index]);
        }
        let node = *self.makers.get(name)?;
        let attribute = |name: &str| node.attribute.iter().find(|a| a.name == name);
        let input = |i: usize| node.input.get(i).filter(|name| !name.is_empty());
        let ints = |i: usize| self.value(input(i)?, depth + 1);
        let found = match node.op_type.as_str() {
            "Constant" => read(attribute("value")?.t.as_deref()?)?,
            "ConstantOfShape" => {
                let dims = sizes(&ints(0)?.values)?;
                let fill = attribute("value")
                    .and_then(|a| a.t.as_deref())
                    .map_or(Some(0), |t| Some(*read(t)?.values.first()?))?;
                let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)).filter(|&n| n <= MOST)?;
                Integers { values: vec![fill; count], dims }
            }
            "Identity" => ints(0)?,
            // To a float and back would be the same, but a float in between is not followed.
            "Cast" => ints(0).filter(|_| {
                attribute("to").is_some_and(|a| [data_type::INT32, data_type::INT64].contains(&(a.i as i32)))
            })?,
            "Concat" if attribute("axis").is_some_and(|a| a.i == 0) => {
                let parts = (0..node.input.len()).map(ints).collect::<Option<Vec<_>>>()?;
                let values: Vec<i64> = parts.iter().flat_map(|part| part.values.clone()).collect();
                let flat = parts.iter().all(|part| part.dims.len() == 1);
                flat.then(|| Integers { dims: vec![values.len()], values })?
            }
            "Reshape" => ints(0)?.reshaped(&ints(1)?.values)?,
            "Squeeze" | "Unsqueeze" => {
                let x = ints(0)?;
                // Of one value, whatever its axes: all that is asked of it is the value.
                (x.values.len() == 1).then(|| Integers { dims: vec![1], values: x.values })?
            }
            "Slice" => {
                let x = ints(0)?;
                let (starts, ends) = (ints(1)?.values, ints(2)?.values);
                let axes = if input(3).is_some() { ints(3)?.values } else { (0..starts.len() as i64).collect() };
                let steps = if input(4).is_some() { ints(4)?.values } else { vec![1; starts.len()] };
                let mut along = starts.iter().zip(&ends).zip(axes.iter().zip(&steps));
                along.try_fold(x, |x, ((&start, &end), (&axis, &step))| x.sliced(start, end, axis, step))?
            }
            "Transpose" => {
                let x = ints(0)?;
                let order = attribute("perm").map_or((0..x.dims.len() as i64).rev().collect(), |a| a.ints.clone());
                x.transposed(&order)?
            }
            _ => return None,
        };
        (found.values.len() <= MOST).then_some(found)
    }
}

impl Integers {
    fn reshaped(self, wanted: &[i64]) -> Option<Self> {
        let known: i64 = wanted.iter().filter(|&&d| d != -1).try_fold(1i64, |n, &d| n.checked_mul(d))?;
        let rest = if known > 0 { self.values.len() as i64 / known } else { return None };
        let dims = sizes(&wanted.iter().map(|&d| if d == -1 { rest } else { d }).collect::<Vec<_>>())?;
        let count = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
        (count == self.values.len()).then_some(Self { dims, values: self.values })
    }

    fn sliced(self, start: i64, end: i64, axis: i64, step: i64) -> Option<Self> {
        let rank = self.dims.len() as i64;
        let axis = usize::try_from(if axis < 0 { axis + rank } else { axis }).ok().filter(|&a| (a as i64) < rank)?;
        let size = self.dims[axis] as i64;
        let from_end = |at: i64| if at < 0 { at.saturating_add(size) } else { at };
        let taken: Vec<i64> = match step {
            0 => return None,
            1.. => (from_end(start).clamp(0, size)..from_end(end).clamp(0, size)).step_by(step as usize).collect(),
            _ => {
                let (first, last) = (from_end(start).clamp(-1, size - 1), from_end(end).clamp(-1, size - 1));
                (last + 1..=first).rev().step_by(usize::try_from(step.unsigned_abs()).ok()?).collect()
            }
        };
        let inner: usize = self.dims[axis + 1..].iter().product();
        let blocks = self.values.chunks((inner * self.dims[axis]).max(1));
        let values = blocks.flat_map(|block| {
            taken
                .iter()
                .flat_map(|&at| block[at as usize * inner..(at as usize + 1) * inner].to_vec())
                .collect::<Vec<_>>()
        });
        let mut dims = self.dims.clone();
        dims[axis] = taken.len();
        Some(Self { values: values.collect(), dims })
    }

    fn transposed(self, order: &[i64]) -> Option<Self> {
        let order = sizes(order)?;
        let mut sorted = order.clone();
        sorted.sort_unstable();
        if sorted != (0..self.dims.len()).collect::<Vec<_>>() {
            return None;
        }
        let stride = |axis: usize| self.dims[axis + 1..].iter().product::<usize>();
        let dims: Vec<usize> = order.iter().map(|&axis| self.dims[axis]).collect();
        let values = (0..self.values.len()).map(|index| {
            let (mut rest, mut at) = (index, 0);
            for (position, &axis) in order.iter().enumerate().rev() {
                at += rest % dims[position] * stride(axis);
                rest /= dims[position];
            }
            self.values[at]
        });
        Some(Self { values: values.collect(), dims: dims.clone() })
    }
}

fn sizes(values: &[i64]) -> Option<Vec<usize>> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

/// A stored tensor of integers.
fn read(tensor: &TensorProto) -> Option<Integers> {
    let dims = sizes(&tensor.dims)?;
    let raw = &tensor.raw_data[..];
    let values: Vec<i64> = match tensor.data_type {
        data_type::INT64 if raw.is_empty() => tensor.int64_data.clone(),
        data_type::INT64 => raw.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b)).collect(),
        data_type::INT32 if raw.is_empty() => tensor.int32_data.iter().map(|&v| v.into()).collect(),
        data_type::INT32 => raw.as_chunks().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect(),
        _ => return None,
    };
    let fits = dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d)) == Some(values.len()) && values.len() <= MOST;
    fits.then_some(Integers { dims, values })
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
        let x = Integers { dims: vec![2, 3], values: vec![0, 1, 2, 3, 4, 5] };
        let slice = |start, end, axis, step| x.clone().sliced(start, end, axis, step).map(|x| x.values);
        assert_eq!(slice(1, 3, 1, 1), Some(vec![1, 2, 4, 5]));
        assert_eq!(slice(-1, i64::MIN, -1, -2), Some(vec![2, 0, 5, 3]));
        assert_eq!(slice(5, 9, 0, 1), Some(vec![]));
        assert_eq!(slice(0, 1, 2, 1), None);
        assert_eq!(slice(0, 1, 0, 0), None);
    }
}
