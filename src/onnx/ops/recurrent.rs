//! Recurrent networks: plain, gated, with long short-term memory.
//!
//! Those that PyTorch has run as Kiln's own recurrence, whose lines stand in another order; with peepholes, and with a reset before the
//! product, a step at a time.

use super::linear::times;
use crate::dtype::DType;
use crate::onnx::call::{Attribute, Call, Outcome, Row, Value};
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::ops::recurrent::{Cell, RecurrenceOptions};
use crate::tensor::Tensor;

/// One direction of a network.
struct Way {
    /// `[lines hidden, inputs]`, `[lines hidden, hidden]`, `[lines hidden]` twice.
    input: Tensor,
    state: Tensor,
    bias: [Tensor; 2],
    /// `[batch, hidden]`: h, and c of a long short-term memory.
    start: Vec<Tensor>,
    /// Weights of the cell in the gates i, o, f.
    peepholes: Option<Tensor>,
    reverse: bool,
}

/// Lines in another order.
fn ordered(x: &Tensor, hidden: usize, order: &[usize]) -> Tensor {
    let lines: Vec<Tensor> = order
        .iter()
        .map(|&line| x.slice_step(0, (line * hidden) as isize, ((line + 1) * hidden) as isize, 1))
        .collect();
    Tensor::concat(&lines.iter().collect::<Vec<_>>(), 0)
}

/// Line `number` of `[.., lines hidden]`.
fn line(x: &Tensor, hidden: usize, number: usize) -> Tensor {
    x.slice_step(-1, (number * hidden) as isize, ((number + 1) * hidden) as isize, 1)
}

/// The activations of a node, which must be those of PyTorch's networks, the same in each direction.
fn activations(call: &Call<'_>, defaults: &[&str]) -> Result<Vec<String>, Trouble> {
    let named = match call.node.attributes.get("activations") {
        Some(Attribute::Texts(names)) => names.clone(),
        _ => return Ok(defaults.iter().map(|name| name.to_string()).collect()),
    };
    let first = named.get(..defaults.len()).unwrap_or_default().to_vec();
    if first.is_empty() || named.chunks(defaults.len()).any(|way| way != first) {
        return unsupported(format!("activations {named:?}, not the same in each direction"));
    }
    Ok(first)
}

/// h of all steps `[steps, batch, hidden]`, and the last states.
type Ran = (Tensor, Vec<Tensor>);

fn network(
    call: &Call<'_>,
    cell: Cell,
    run: impl Fn(&Tensor, &Way, Option<&Tensor>) -> Result<Ran, Trouble>,
) -> Outcome {
    let elem = call.elem(0)?;
    let wide = |i: usize| -> Result<Option<Tensor>, Trouble> { Ok(call.optional(i)?.map(|x| x.cast(DType::F32))) };
    let batch_first = call.flag("layout", false)?;
    let x = call.tensor(0)?.cast(DType::F32);
    let x = if batch_first { x.transpose(0, 1) } else { x };
    let &[steps, batch, _] = x.shape()? else { return wrong(format!("an input of shape {:?}", call.shape(0)?)) };
    let recurrent = call.shape(2)?;
    let &[ways, rows, hidden] = &recurrent[..] else { return wrong(format!("weights of shape {recurrent:?}")) };
    let lines = cell.lines();
    if hidden == 0 || rows != lines * hidden || call.int("hidden_size", hidden as i64)? != hidden as i64 {
        return wrong(format!("weights of shape {recurrent:?} for {lines} lines"));
    }
    let lengths = match call.has(4) {
        true if call.wholes(4)?.iter().all(|&length| length == steps as i64) => None,
        true => Some(call.tensor(4)?.cast(DType::U32)),
        false => None,
    };
    let reverse = match call.text("direction", "forward")?.as_str() {
        "forward" => vec![false],
        "reverse" => vec![true],
        "bidirectional" => vec![false, true],
        other => return wrong(format!("direction is `{other}`")),
    };
    if reverse.len() != ways {
        return wrong(format!("{} directions and weights of {ways}", reverse.len()));
    }
    let (weight, state) = (call.tensor(1)?.cast(DType::F32), call.tensor(2)?.cast(DType::F32));
    let (bias, peepholes) = (wide(3)?, wide(7)?);
    let starts = [wide(5)?, wide(6)?];
    let (mut all, mut last): (Vec<Tensor>, Vec<Vec<Tensor>>) = (vec![], vec![vec![]; cell.states()]);
    for (number, reverse) in reverse.into_iter().enumerate() {
        let zeros = || call.device.zeros(&[lines * hidden]);
        let side = |half: usize| match &bias {
            Some(bias) => {
                let first = (half * lines * hidden) as isize;
                bias.select(0, number).slice_step(0, first, first + (lines * hidden) as isize, 1)
            }
            None => zeros(),
        };
        let start = |given: &Option<Tensor>| match given {
            Some(given) => given.select(if batch_first { 1 } else { 0 }, number),
            None => call.device.zeros(&[batch, hidden]),
        };
        let way = Way {
            input: weight.select(0, number),
            state: state.select(0, number),
            bias: [side(0), side(1)],
            start: starts.iter().take(cell.states()).map(start).collect(),
            peepholes: peepholes.as_ref().map(|all| all.select(0, number)),
            reverse,
        };
        let (h, ends) = run(&x, &way, lengths.as_ref())?;
        all.push(h);
        last.iter_mut().zip(ends).for_each(|(all, end)| all.push(end));
    }
    let stacked = |parts: &[Tensor], axis: usize| Tensor::stack(&parts.iter().collect::<Vec<_>>(), axis);
    let y = stacked(&all, 1);
    let y = if batch_first { y.permute(&[2, 0, 1, 3]) } else { y };
    let ends = last.iter().map(|ends| stacked(ends, usize::from(batch_first)));
    Ok(std::iter::once(y).chain(ends).map(|x| Value::Tensor(x.cast(elem.dtype()), elem)).collect())
}

/// By Kiln's own recurrence; `order` is where its lines are among ONNX's.
fn whole(x: &Tensor, way: &Way, lengths: Option<&Tensor>, cell: Cell, order: &[usize]) -> Result<Ran, Trouble> {
    let hidden = way.state.shape()?.last().copied().unwrap_or(0);
    let moved = |x: &Tensor| if order.len() == 1 { x.clone() } else { ordered(x, hidden, order) };
    let products = times(x, &moved(&way.input).transpose(0, 1)) + moved(&way.bias[0]);
    let options = RecurrenceOptions { cell, reverse: way.reverse, lengths };
    let ran = products.recurrence(&moved(&way.state), &moved(&way.bias[1]), &way.start, &options);
    Ok((ran.output, ran.last))
}

/// A step at a time: `step` makes the next states of the products of a step's input and the states.
fn stepped(
    x: &Tensor,
    way: &Way,
    lengths: Option<&Tensor>,
    step: impl Fn(&Tensor, &[Tensor]) -> Vec<Tensor>,
) -> Result<Ran, Trouble> {
    if lengths.is_some() {
        return unsupported("rows of different lengths, with peepholes or a reset before the product");
    }
    let steps = x.shape()?.first().copied().unwrap_or(0);
    let products = times(x, &way.input.transpose(0, 1)) + &way.bias[0];
    let mut states = way.start.clone();
    let mut outputs = vec![Tensor::clone(&products); steps];
    for number in 0..steps {
        let at = if way.reverse { steps - 1 - number } else { number };
        states = step(&products.select(0, at), &states);
        if let (Some(output), Some(h)) = (outputs.get_mut(at), states.first()) {
            *output = h.clone();
        }
    }
    Ok((Tensor::stack(&outputs.iter().collect::<Vec<_>>(), 0), states))
}

fn rnn(call: &Call<'_>) -> Outcome {
    let cell = match activations(call, &["Tanh"])?.first().map(String::as_str) {
        Some("Tanh") => Cell::Tanh,
        Some("Relu") => Cell::Relu,
        other => return unsupported(format!("activation {other:?}")),
    };
    network(call, cell, |x, way, lengths| whole(x, way, lengths, cell, &[0]))
}

fn plain(call: &Call<'_>, defaults: &[&str]) -> Result<(), Trouble> {
    let named = activations(call, defaults)?;
    if named != defaults { unsupported(format!("activations {named:?}")) } else { Ok(()) }
}

fn gru(call: &Call<'_>) -> Outcome {
    plain(call, &["Sigmoid", "Tanh"])?;
    let after = call.flag("linear_before_reset", false)?;
    network(call, Cell::Gru, |x, way, lengths| {
        if after {
            return whole(x, way, lengths, Cell::Gru, &[1, 0, 2]);
        }
        let hidden = way.state.shape()?.last().copied().unwrap_or(0);
        let turned = way.state.transpose(0, 1);
        stepped(x, way, lengths, |x, states| {
            let Some(h) = states.first() else { return vec![] };
            let gates =
                times(h, &line(&turned, 2 * hidden, 0)) + line(&way.bias[1], 2 * hidden, 0) + line(x, 2 * hidden, 0);
            let gates = gates.sigmoid();
            let (z, r) = (line(&gates, hidden, 0), line(&gates, hidden, 1));
            let reset = times(&(r * h), &line(&turned, hidden, 2)) + line(&way.bias[1], hidden, 2);
            let new = (line(x, hidden, 2) + reset).tanh();
            vec![&new + z * (h - &new)]
        })
    })
}

fn lstm(call: &Call<'_>) -> Outcome {
    plain(call, &["Sigmoid", "Tanh", "Tanh"])?;
    if call.flag("input_forget", false)? {
        return unsupported("input_forget");
    }
    network(call, Cell::Lstm, |x, way, lengths| {
        let Some(peepholes) = &way.peepholes else {
            return whole(x, way, lengths, Cell::Lstm, &[0, 2, 3, 1]);
        };
        let hidden = way.state.shape()?.last().copied().unwrap_or(0);
        let turned = way.state.transpose(0, 1);
        stepped(x, way, lengths, |x, states| {
            let [h, c] = states else { return vec![] };
            let sums = times(h, &turned) + &way.bias[1] + x;
            let peep = |number: usize, cell: &Tensor| line(peepholes, hidden, number) * cell;
            let i = (line(&sums, hidden, 0) + peep(0, c)).sigmoid();
            let f = (line(&sums, hidden, 2) + peep(2, c)).sigmoid();
            let next = f * c + i * line(&sums, hidden, 3).tanh();
            let o = (line(&sums, hidden, 1) + peep(1, &next)).sigmoid();
            vec![o * next.tanh(), next]
        })
    })
}

const ATTRIBUTES: &[&str] =
    &["activations", "direction", "hidden_size", "input_forget", "layout", "linear_before_reset"];

/// Recurrent networks.
pub const ROWS: &[Row] = &[
    Row::new("RNN", rnn).with(ATTRIBUTES).knows(&[4]),
    Row::new("GRU", gru).with(ATTRIBUTES).knows(&[4]),
    Row::new("LSTM", lstm).with(ATTRIBUTES).knows(&[4]),
];
