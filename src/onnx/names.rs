//! The names of an exported model's inputs, outputs and parameters: a file has one value of each.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::export::{ExportOptions, Recording};
use crate::error::{Error, Result};
use crate::graph::{Node, Source};
use crate::tensor::Tensor;
use crate::version::StoreState;

/// The name that is said, or one that is made.
pub fn named(said: &[String], kind: &str, number: usize, count: usize) -> String {
    match said.get(number) {
        Some(name) => name.clone(),
        None if count == 1 => kind.into(),
        None => format!("{kind}_{number}"),
    }
}

/// What has a name: in words, and for a parameter its store.
type Owner = (String, Option<*const StoreState>);

/// All names that are given.
///
/// # Errors
/// [`Error::Onnx`] for one that two values would have, with both.
pub fn given(options: &ExportOptions, recording: &Recording) -> Result<HashSet<String>> {
    let ports = |said: &[String], kind: &str, tensors: &[Tensor]| -> Vec<(String, Owner)> {
        let port = |number| (named(said, kind, number, tensors.len()), (format!("{kind} {number}"), None));
        (0..tensors.len()).map(port).collect()
    };
    let parameter = |node: &Arc<Node>| match &node.source {
        Source::Parameter(leaf) => {
            let what = format!("a parameter of shape {}", node.meta.shape);
            Some((leaf.name.to_string(), (what, Some(Arc::as_ptr(&leaf.store)))))
        }
        _ => None,
    };
    let inputs = ports(&options.inputs, "input", &recording.inputs);
    let outputs = ports(&options.outputs, "output", &recording.outputs);
    let mut taken: HashMap<String, Owner> = HashMap::new();
    for (name, (what, store)) in recording.nodes.iter().filter_map(parameter).chain(inputs).chain(outputs) {
        match taken.get(&name) {
            // The same parameter once more.
            Some((_, known)) if known.is_some() && *known == store => {}
            Some((other, known)) => {
                let stores = if known.is_some() && store.is_some() { ", of two stores" } else { "" };
                let what = format!("`{name}` is the name of {other} and of {what}{stores}");
                let next = "give one of them another name: a path of its own in its store, or one in `ExportOptions`";
                return Err(Error::Onnx { what, next });
            }
            None => drop(taken.insert(name, (what, store))),
        }
    }
    Ok(taken.into_keys().collect())
}
