//! Recording a program, node by node; and folding what does not depend on inputs or parameters.

use std::sync::Arc;

use super::call::{Call, Node, Outcome, Program, Value};
use super::numbers::{MOST, Numbers, rounded};
use super::trouble::{Trouble, wrong};
use crate::device::Device;
use crate::error::Error;
use crate::nn::Mode;
use crate::rng::Draws;
use crate::state::State;

/// What all nodes of a pass share.
pub struct Pass<'a> {
    /// Whether it is for learning.
    pub mode: Mode,
    /// The model's device.
    pub device: &'a Device,
    /// The model's counter of random draws.
    pub draws: &'a Draws,
}

/// Records `program` on `values`, which hold a value for each place that no node fills.
///
/// # Errors
/// That of the first node that cannot be recorded, with its name.
pub fn record(
    program: &Program,
    values: &mut [Value],
    states: &dyn Fn(usize) -> Option<State>,
    pass: &Pass<'_>,
) -> Result<(), Error> {
    for node in &program.nodes {
        node_on(node, values, states, pass).map_err(|trouble| trouble.of_node(&node.label))?;
    }
    Ok(())
}

/// Records one node.
pub fn node_on(
    node: &Node,
    values: &mut [Value],
    states: &dyn Fn(usize) -> Option<State>,
    pass: &Pass<'_>,
) -> Result<(), Trouble> {
    let value = |slot: &Option<usize>| match slot.and_then(|slot| values.get(slot)) {
        Some(value) => value.clone(),
        None => Value::Absent,
    };
    let inputs: Vec<Value> = node.inputs.iter().map(value).collect();
    let (own, captured) = inputs.split_at(node.own.min(inputs.len()));
    let kept: Vec<Option<State>> = match node.row.states {
        [] => vec![],
        _ => node.inputs.iter().map(|slot| slot.and_then(states)).collect(),
    };
    let call = Call {
        node,
        inputs: own,
        captured,
        states: &kept,
        mode: pass.mode,
        device: pass.device,
        draws: pass.draws,
        run_graph: inner,
    };
    let results = op(&call)?;
    for (slot, result) in node.outputs.iter().zip(results) {
        if let Value::Tensor(tensor, _) = &result
            && let Some(error) = tensor.error()
        {
            return Err(Trouble::Op(error.clone()));
        }
        if let Some(place) = slot.and_then(|slot| values.get_mut(slot)) {
            *place = result;
        }
    }
    Ok(())
}

/// Runs the op of a node: on the reference where all of its inputs are known, so that the results are, too.
fn op(call: &Call<'_>) -> Outcome {
    let is_known = |value: &Value| !matches!(value, Value::Tensor(..));
    let row = call.node.row;
    if row.native
        || row.is_random
        || !call.inputs.iter().all(is_known)
        || !call.inputs.iter().any(|value| matches!(value, Value::Known(_)))
    {
        return (row.run)(call);
    }
    let reference = Device::cpu();
    let results = (row.run)(&Call { device: &reference, ..*call })?;
    // What is large is left to the device.
    let is_large = |value: &Value| match value {
        Value::Tensor(tensor, _) => tensor.shape().is_ok_and(|shape| shape.iter().product::<usize>() > MOST),
        _ => false,
    };
    if results.iter().any(is_large) {
        return (row.run)(call);
    }
    results.into_iter().map(settle).collect()
}

/// A value of the reference as known numbers.
fn settle(value: Value) -> Result<Value, Trouble> {
    let Value::Tensor(tensor, elem) = value else { return Ok(value) };
    let mut numbers = Numbers::read(&tensor, elem)?;
    if let super::numbers::Data::Real(values) = &mut numbers.data {
        values.iter_mut().for_each(|value| *value = rounded(*value, elem));
    }
    Ok(Value::Known(Arc::new(numbers)))
}

/// Runs a graph of a node on its inputs, and on what it takes from around it.
fn inner(program: &Program, inputs: &[Value], captured: &[Value], call: &Call<'_>) -> Outcome {
    let mut values = vec![Value::Absent; program.names.len()];
    let set = |values: &mut Vec<Value>, slot: usize, value: Value| {
        if let Some(place) = values.get_mut(slot) {
            *place = value;
        }
    };
    for (&slot, numbers) in &program.constants {
        set(&mut values, slot, Value::Known(numbers.clone()));
    }
    if program.inputs.len() != inputs.len() {
        return wrong(format!("its graph takes {} inputs and gets {}", program.inputs.len(), inputs.len()));
    }
    for (port, value) in program.inputs.iter().zip(inputs) {
        set(&mut values, port.slot, value.clone());
    }
    for ((_, slot), value) in program.captures.iter().zip(captured) {
        set(&mut values, *slot, value.clone());
    }
    let pass = Pass { mode: call.mode, device: call.device, draws: call.draws };
    record(program, &mut values, &|_| None, &pass)?;
    Ok(program.outputs.iter().map(|port| values.get(port.slot).cloned().unwrap_or(Value::Absent)).collect())
}
