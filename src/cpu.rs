//! The f64 interpreter: runs a recorded graph node by node with each op's reference.

use std::collections::HashMap;
use std::sync::Arc;

use crate::array::Array;
use crate::error::{Error, Result};
use crate::graph::{Node, Snapshot, Source, Value};

/// Values of every node of `snapshot`; nodes that nothing later needs are dropped as soon as their last use is done.
pub fn interpret(snapshot: &Snapshot, keep: &[usize]) -> Result<Vec<Option<Arc<Array>>>> {
    let count = snapshot.nodes.len();
    let mut last_use = vec![0; count];
    for (i, inputs) in snapshot.inputs.iter().enumerate() {
        inputs.iter().for_each(|&input| last_use[input as usize] = i);
    }
    keep.iter().for_each(|&i| last_use[i] = usize::MAX);
    let mut values: Vec<Option<Arc<Array>>> = vec![None; count];
    // All results of an op of several, for the nodes of these.
    let mut several: HashMap<usize, Vec<Arc<Array>>> = HashMap::new();
    for i in 0..count {
        let node = &snapshot.nodes[i];
        let value = match (&snapshot.leaves[i], &node.source) {
            (Some(_), _) => leaf(node)?,
            (None, Source::Op(op)) => {
                let inputs: Vec<&Array> =
                    snapshot.inputs[i].iter().filter_map(|&input| values[input as usize].as_deref()).collect();
                if inputs.len() != snapshot.inputs[i].len() {
                    return Err(Error::internal(format!("an input of {} was dropped early", op.name())));
                }
                let results: Vec<Arc<Array>> = op.reference(&inputs, &node.meta).into_iter().map(Arc::new).collect();
                if results.len() != node.result_metas().len() {
                    let what = format!("the reference of {} gives {} results", op.name(), results.len());
                    return Err(Error::internal(what));
                }
                let first = results[0].clone();
                if results.len() > 1 {
                    several.insert(i, results);
                }
                first
            }
            (None, Source::Result { number, .. }) => {
                let results = snapshot.inputs[i].first().and_then(|&op| several.get(&(op as usize)));
                let result = results.and_then(|results| results.get(*number));
                result.cloned().ok_or_else(|| Error::internal("a result without its op"))?
            }
            (None, _) => return Err(Error::internal("a node without a value")),
        };
        values[i] = Some(value);
        for &input in &snapshot.inputs[i] {
            if last_use[input as usize] == i {
                values[input as usize] = None;
                several.remove(&(input as usize));
            }
        }
    }
    Ok(values)
}

fn leaf(node: &Node) -> Result<Arc<Array>> {
    let meta = node.meta;
    let array = |data: Vec<f64>| Arc::new(Array { shape: meta.shape, dtype: meta.dtype, data });
    if let Some(Value::Cpu(array)) = node.value() {
        return Ok(array);
    }
    match &node.source {
        Source::Upload { data, .. } => Ok(array(data.to_f64())),
        // Four words travel for a random draw; a plain number is the first.
        Source::Operand { value, .. } => Ok(array(value.to_vec())),
        Source::Parameter(leaf) => Ok(array(leaf.arena.read_cpu(leaf.offset, meta.elements())?)),
        _ => Err(Error::internal(format!("leaf `{}` has no value on the reference device", node.name()))),
    }
}
