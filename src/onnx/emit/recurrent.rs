//! Recurrences as ONNX's own `RNN`, `GRU` and `LSTM`, one for each layer and direction.

use std::sync::Arc;

use super::{Site, beneath_views, input_of, int, number_of, op_of, text};
use crate::dtype::DType;
use crate::graph::{Node, Source};
use crate::onnx::proto::{AttributeProto, attribute};
use crate::onnx::writer::{Also, Writer};
use crate::ops::matmul::Matmul;
use crate::ops::pointwise::Pointwise;
use crate::ops::recurrent::{Cell, Recurrence};
use crate::ops::view::{Permute, Reshape};
use crate::tensor::Tensor;

/// What a recurrence has given. Its results hold a slot more than there are steps; ONNX gives the steps and the last state alone.
#[derive(Debug, Clone)]
pub struct Ran {
    reverse: bool,
    /// h of all steps, `[steps, rows, hidden]`.
    output: String,
    /// The last states, `[1, rows, hidden]`: h, and c.
    last: Vec<String>,
}

impl Ran {
    /// What a slice of result `node` is, along the slots: from `starts` on, in the recordings, of so many of the `slots`.
    pub fn slice(&self, node: &Node, starts: &[i64], lengths: &[i64], slots: &[i64]) -> Option<String> {
        let number = match node.source {
            Source::Result { number, .. } => number,
            _ => 0,
        };
        let all = || starts.iter().zip(lengths).zip(slots);
        let is_all = all().all(|((&start, length), slots)| start == i64::from(!self.reverse) && length + 1 == *slots);
        let is_last =
            all().all(|((&start, &length), slots)| length == 1 && start == if self.reverse { 0 } else { slots - 1 });
        // A single step is both.
        match (number, is_all, is_last) {
            (0, true, _) => Some(self.output.clone()),
            (0, _, true) => self.last.first().cloned(),
            (2, _, true) => self.last.get(1).cloned(),
            _ => None,
        }
    }
}

/// Where ONNX's lines are among those of a cell.
fn order(cell: Cell) -> &'static [usize] {
    match cell {
        Cell::Tanh | Cell::Relu => &[0],
        Cell::Gru => &[1, 0, 2],
        Cell::Lstm => &[0, 3, 1, 2],
    }
}

/// The lines of a value `[lines hidden, ..]` in ONNX's order, with an axis for the directions in front.
fn lines(writer: &mut Writer<'_>, node: &Arc<Node>, name: &str, cell: Cell) -> Result<String, String> {
    let dims = node.meta.shape.to_vec();
    if let Source::Parameter(leaf) = &node.source {
        let values = Tensor::from_node(node.clone()).to_array().map_err(|error| error.to_string())?.data;
        let line = values.len() / cell.lines();
        let moved: Vec<f64> = order(cell)
            .iter()
            .flat_map(|&number| values.get(number * line..(number + 1) * line).unwrap_or_default().to_vec())
            .collect();
        let name = writer.constant(node.meta.dtype, &[&[1], &dims[..]].concat(), &moved);
        writer.holds(&name, &leaf.name);
        return Ok(name);
    }
    let zero = writer.wholes(&[0]);
    if cell.lines() == 1 {
        return Ok(writer.add("Unsqueeze", &[name, &zero], vec![]));
    }
    let hidden = dims.first().map_or(0, |&length| length / cell.lines()) as i64;
    let parts: Vec<String> = order(cell)
        .iter()
        .map(|&number| {
            let [start, end] = [number as i64, number as i64 + 1].map(|line| writer.wholes(&[line * hidden]));
            writer.add("Slice", &[name, &start, &end, &zero], vec![])
        })
        .collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let all = writer.add("Concat", &parts, vec![int("axis", 0)]);
    Ok(writer.add("Unsqueeze", &[&all, &zero], vec![]))
}

/// What the products of the inputs were made of: the inputs, their weight `[lines hidden, inputs]`, the bias.
struct Inputs {
    x: Arc<Node>,
    weight: Arc<Node>,
    bias: Option<Arc<Node>>,
}

fn inputs(products: &Arc<Node>) -> Option<Inputs> {
    let is_sum = op_of::<Pointwise>(products).is_some_and(|row| row.0.name == "add");
    let (product, bias) = match is_sum {
        true => (input_of(products, 0)?, Some(beneath_views(&input_of(products, 1)?))),
        false => (products.clone(), None),
    };
    op_of::<Reshape>(&product)?;
    let product = input_of(&product, 0)?;
    op_of::<Matmul>(&product)?;
    let (rows, turned) = (input_of(&product, 0)?, input_of(&product, 1)?);
    op_of::<Reshape>(&rows)?;
    let x = input_of(&rows, 0)?;
    if op_of::<Permute>(&turned)?.axes[..] != [1, 0] {
        return None;
    }
    let weight = input_of(&turned, 0)?;
    let lines = products.meta.shape.last().copied();
    let fits = x.meta.shape.rank() == 3
        && weight.meta.shape.first().copied() == lines
        && x.meta.shape.last() == weight.meta.shape.last()
        && bias.as_ref().is_none_or(|bias| bias.meta.shape.rank() == 1 && bias.meta.shape.first().copied() == lines);
    fits.then_some(Inputs { x, weight, bias })
}

/// True for a value that is zeros.
fn is_zero(node: &Arc<Node>) -> bool {
    number_of(&beneath_views(node)) == Some(0.0)
}

/// A recurrence.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Option<Result<String, String>> {
    let recurrence = site.is::<Recurrence>()?;
    Some(write(writer, site, recurrence))
}

fn write(writer: &mut Writer<'_>, site: &Site<'_>, op: &Recurrence) -> Result<String, String> {
    let &Recurrence { cell, reverse, lengths } = op;
    let [Some(products), Some(weight), Some(bias)] = [0, 1, 2].map(|input| site.inputs.get(input)) else {
        return Err("a recurrence of nothing".into());
    };
    let hidden = weight.meta.shape.last().copied().unwrap_or(1);
    let all = cell.lines() * hidden;
    let known = |writer: &Writer<'_>, node: &Arc<Node>| writer.known(node).unwrap_or_default();
    let (x, of_inputs, of_input_bias) = match inputs(products) {
        Some(found) => {
            let name = known(writer, &found.weight);
            let of_inputs = lines(writer, &found.weight, &name, cell)?;
            let bias = match &found.bias {
                Some(bias) => {
                    let name = known(writer, bias);
                    Some(lines(writer, bias, &name, cell)?)
                }
                None => None,
            };
            (known(writer, &found.x), of_inputs, bias)
        }
        // What was made of the inputs otherwise passes a weight that leaves it as it is.
        None => {
            let mut one = vec![0.0; all * all];
            for (row, &line) in order(cell).iter().enumerate() {
                for unit in 0..hidden {
                    if let Some(place) = one.get_mut((row * hidden + unit) * all + line * hidden + unit) {
                        *place = 1.0;
                    }
                }
            }
            (site.name(0).to_string(), writer.constant(DType::F32, &[1, all, all], &one), None)
        }
    };
    let of_states = lines(writer, weight, site.name(1), cell)?;
    let of_state_bias = if is_zero(bias) { None } else { Some(lines(writer, bias, site.name(2), cell)?) };
    let zeros = |writer: &mut Writer<'_>| writer.constant(DType::F32, &[1, all], &vec![0.0; all]);
    let bias = match (of_input_bias, of_state_bias) {
        (None, None) => String::new(),
        (first, second) => {
            let first = first.unwrap_or_else(|| zeros(writer));
            let second = second.unwrap_or_else(|| zeros(writer));
            writer.add("Concat", &[&first, &second], vec![int("axis", 1)])
        }
    };
    let counts = match lengths {
        true => writer.add("Cast", &[site.names.last().map_or("", String::as_str)], vec![int("to", 6)]),
        false => String::new(),
    };
    let zero = writer.wholes(&[0]);
    let mut starts = vec![];
    for state in 0..cell.states() {
        starts.push(match site.inputs.get(3 + state) {
            Some(start) if !is_zero(start) => writer.add("Unsqueeze", &[site.name(3 + state), &zero], vec![]),
            _ => String::new(),
        });
    }
    let mut given = vec![x.as_str(), &of_inputs, &of_states, &bias, &counts];
    given.extend(starts.iter().map(String::as_str));
    let mut attributes: Vec<AttributeProto> =
        vec![int("hidden_size", hidden as i64), text("direction", if reverse { "reverse" } else { "forward" })];
    let name = match cell {
        Cell::Tanh => "RNN",
        Cell::Relu => {
            let strings = vec![b"Relu".to_vec()];
            let kind = attribute::STRINGS;
            attributes.push(AttributeProto { name: "activations".into(), kind, strings, ..AttributeProto::default() });
            "RNN"
        }
        Cell::Gru => {
            attributes.push(int("linear_before_reset", 1));
            "GRU"
        }
        Cell::Lstm => "LSTM",
    };
    let results: Vec<String> = (0..1 + cell.states()).map(|_| writer.name()).collect();
    let outputs: Vec<&str> = results.iter().map(String::as_str).collect();
    writer.push(name, &given, &outputs, attributes);
    let mut results = results.into_iter();
    let one = writer.wholes(&[1]);
    let output = writer.add("Squeeze", &[&results.next().unwrap_or_default(), &one], vec![]);
    let ran = Ran { reverse, output, last: results.collect() };
    let slots = "the states of a recurrence before its first step, or behind the last of each row";
    for number in [0, 2] {
        writer.lack(&site.node.result(number), slots.into());
    }
    writer.is_also(site.node, Also::Ran(ran));
    // The slots as a whole are no result of ONNX's op.
    Ok(String::new())
}
