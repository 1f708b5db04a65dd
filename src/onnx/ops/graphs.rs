//! Ops that hold graphs. Which graph runs, and how often, is known while recording: from the model's constants and inputs, or read.

use std::sync::Arc;

use crate::onnx::call::{Call, Outcome, Row, Value, place};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, Numbers};
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::tensor::Tensor;

/// Turns of a loop at most: each is recorded anew.
const MOST_TURNS: usize = 1024;

/// One of two graphs, by a condition.
fn choose(call: &Call<'_>) -> Outcome {
    let is_true = call.number(0)? != 0.0;
    let branch = if is_true { "then_branch" } else { "else_branch" };
    let gives = call.graph_of(branch)?.outputs.len();
    fits(call, gives)?;
    call.graph(branch, &[])
}

/// Makes sure that so many values are enough for the node's outputs.
fn fits(call: &Call<'_>, gives: usize) -> Result<(), Trouble> {
    match call.node.outputs.len() {
        wanted if wanted > gives => wrong(format!("it has {wanted} outputs, of which its graph gives {gives}")),
        _ => Ok(()),
    }
}

/// How many values the graph of each turn gives to be kept: it takes `carried` ones and `others`, and gives as many carried ones, behind
/// `conditions`.
fn kept(call: &Call<'_>, carried: usize, others: usize, conditions: usize) -> Result<usize, Trouble> {
    let graph = call.graph_of("body")?;
    let (takes, gives) = (graph.inputs.len(), graph.outputs.len());
    if takes != carried + others {
        return wrong(format!("its graph takes {takes} inputs and gets {}", carried + others));
    }
    let Some(kept) = gives.checked_sub(carried + conditions) else {
        return wrong(format!("its graph gives {gives} values, where {} are wanted at least", carried + conditions));
    };
    fits(call, carried + kept)?;
    Ok(kept)
}

/// A single known number.
fn single(elem: Elem, value: i64) -> Value {
    Value::Known(Arc::new(Numbers::new(elem, vec![], Data::Whole(vec![value]))))
}

fn tensor_of(value: &Value, call: &Call<'_>) -> Result<(Tensor, Elem), Trouble> {
    match value {
        Value::Tensor(tensor, elem) => Ok((tensor.clone(), *elem)),
        Value::Known(numbers) => Ok((numbers.tensor(call.device)?, numbers.elem)),
        Value::Absent => wrong("its graph gives no value"),
    }
}

/// What each turn gave, along a new axis.
fn stacked(turns: &[Value], axis: i64, reverse: bool, call: &Call<'_>) -> Result<Value, Trouble> {
    let mut tensors = vec![];
    let mut elem = Elem::F32;
    for turn in turns {
        let (tensor, of) = tensor_of(turn, call)?;
        elem = of;
        tensors.push(tensor);
    }
    if reverse {
        tensors.reverse();
    }
    let Some(first) = tensors.first() else { return unsupported("a loop of no turns, whose results are empty") };
    let axis = place(axis, first.shape()?.len() + 1)?;
    Ok(Value::Tensor(Tensor::stack(&tensors.iter().collect::<Vec<_>>(), axis), elem))
}

/// A graph for as many turns as are asked for, and as its own condition holds.
fn repeat(call: &Call<'_>) -> Outcome {
    let most = if call.has(0) { call.number(0)? } else { f64::INFINITY };
    let mut goes_on = if call.has(1) { call.number(1)? != 0.0 } else { true };
    let mut carried: Vec<Value> = call.inputs.get(2..).unwrap_or_default().to_vec();
    let kept = kept(call, carried.len(), 2, 1)?;
    let mut scans = vec![vec![]; kept];
    let mut turn = 0;
    while goes_on && (turn as f64) < most {
        if turn == MOST_TURNS {
            return unsupported(format!("a loop of more than {MOST_TURNS} turns"));
        }
        let inputs = [vec![single(Elem::I64, turn as i64), single(Elem::Bool, 1)], carried.clone()].concat();
        let mut results = call.graph("body", &inputs)?.into_iter();
        goes_on = match results.next() {
            Some(Value::Known(numbers)) => numbers.reals().first() == Some(&1.0),
            Some(Value::Tensor(tensor, elem)) => Numbers::read(&tensor, elem)?.reals().first() == Some(&1.0),
            _ => return wrong("its graph gives no condition"),
        };
        carried.iter_mut().zip(results.by_ref()).for_each(|(carried, result)| *carried = result);
        scans.iter_mut().zip(results).for_each(|(scan, result)| scan.push(result));
        turn += 1;
    }
    let first = carried.len();
    let wanted = scans.iter().enumerate().filter(|(number, _)| call.wants(first + number));
    let mut results = [carried, vec![Value::Absent; kept]].concat();
    for (number, scan) in wanted {
        if let Some(place) = results.get_mut(first + number) {
            *place = stacked(scan, 0, false, call)?;
        }
    }
    Ok(results)
}

/// Whole numbers of an attribute, one for each of `count`, 0 where it is left out.
fn each(call: &Call<'_>, name: &str, count: usize) -> Result<Vec<i64>, Trouble> {
    match call.ints(name)? {
        None => Ok(vec![0; count]),
        Some(values) if values.len() == count => Ok(values),
        Some(values) => wrong(format!("attribute `{name}` has {} numbers, where {count} are wanted", values.len())),
    }
}

/// A graph for each element along an axis of its inputs.
fn scan(call: &Call<'_>) -> Outcome {
    if call.node.version < 9 {
        return unsupported("its form before version 9");
    }
    let count = usize::try_from(call.int("num_scan_inputs", 0)?).unwrap_or(0);
    let Some(first) = call.inputs.len().checked_sub(count).filter(|_| count > 0) else {
        return wrong(format!("{count} inputs to go along, of {}", call.inputs.len()));
    };
    let kept = kept(call, first, count, 0)?;
    let (axes, backward) = (each(call, "scan_input_axes", count)?, each(call, "scan_input_directions", count)?);
    let (to, reverse) = (each(call, "scan_output_axes", kept)?, each(call, "scan_output_directions", kept)?);
    let mut along = vec![];
    for (number, axis) in axes.iter().enumerate() {
        let (tensor, elem) = tensor_of(call.value(first + number), call)?;
        let axis = place(*axis, tensor.shape()?.len())?;
        let length = tensor.shape()?.get(axis).copied().unwrap_or(0);
        along.push((tensor, elem, axis, length));
    }
    let turns = along.first().map_or(0, |input| input.3);
    if along.iter().any(|input| input.3 != turns) {
        return wrong("its inputs have other lengths along their axes");
    }
    if turns > MOST_TURNS {
        return unsupported(format!("a scan of more than {MOST_TURNS} turns"));
    }
    let mut carried: Vec<Value> = call.inputs.get(..first).unwrap_or_default().to_vec();
    let mut scans = vec![vec![]; kept];
    for turn in 0..turns {
        let at = along.iter().zip(&backward).map(|((tensor, elem, axis, _), backward)| {
            let place = if *backward == 0 { turn } else { turns - 1 - turn };
            Value::Tensor(tensor.select(*axis, place), *elem)
        });
        let inputs: Vec<Value> = carried.iter().cloned().chain(at).collect();
        let mut results = call.graph("body", &inputs)?.into_iter();
        carried.iter_mut().zip(results.by_ref()).for_each(|(carried, result)| *carried = result);
        scans.iter_mut().zip(results).for_each(|(scan, result)| scan.push(result));
    }
    let ways = to.iter().zip(&reverse);
    let scans = scans.iter().zip(ways).map(|(scan, (axis, reverse))| stacked(scan, *axis, *reverse != 0, call));
    Ok([carried, scans.collect::<Result<Vec<_>, _>>()?].concat())
}

const ALONG: &[&str] = &[
    "body",
    "num_scan_inputs",
    "scan_input_axes",
    "scan_input_directions",
    "scan_output_axes",
    "scan_output_directions",
];

/// Graphs.
pub const ROWS: &[Row] = &[
    Row::new("If", choose).with(&["else_branch", "then_branch"]).knows(&[0]).native(),
    Row::new("Loop", repeat).with(&["body"]).knows(&[0, 1]).native(),
    Row::new("Scan", scan).with(ALONG).native(),
];
