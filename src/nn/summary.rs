//! What a network consists of, read from one forward pass.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use super::module::{Mode, Module};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Node, Source};
use crate::op::Role;
use crate::params::ParamStore;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// One op of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SummaryRow {
    /// Path of the layer whose parameters it takes, or of the one that it follows: `encoder.fc1`. Empty before any.
    pub path: String,
    /// Name of the op.
    pub op: String,
    /// Shape of its result.
    pub shape: Shape,
    /// Dtype of its result.
    pub dtype: DType,
    /// Elements of the parameters that it takes and no row above has taken.
    pub parameters: usize,
}

/// The ops of a network, in the order in which they were recorded; printed it is a table of 80 columns and more.
///
/// ```
/// use kiln::nn::summary;
/// use kiln::prelude::*;
///
/// let params = ParamStore::new(&Device::cpu(), 1);
/// let net = Sequential::new()
///     .add(Linear::new(&params.root().child("fc1"), 9, 4))
///     .add(Tensor::relu)
///     .add(Linear::new(&params.root().child("fc2"), 4, 2));
/// let summary = summary(&params, &net, &[1, 9])?;
/// assert_eq!(summary.parameters, 9 * 4 + 4 + 4 * 2 + 2);
/// assert_eq!(summary.rows.last().unwrap().path, "fc2");
/// println!("{summary}");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// The ops. Those that move no element (reshapes and the like) have none.
    pub rows: Vec<SummaryRow>,
    /// Elements of all parameters that the network uses, each once.
    pub parameters: usize,
    /// Of these, elements that gradients flow to.
    pub trainable: usize,
    /// Bytes of all results, before the planner fuses ops and uses memory again: an upper bound for one forward pass.
    pub activation_bytes: u64,
}

/// The summary of a network for inputs of `shape`, f32: one forward pass is recorded, as for evaluation, and not run. For
/// other inputs, or several, record it yourself and pass the result to [`Summary::of`].
///
/// # Errors
/// The error of the op that does not take what it gets.
#[track_caller]
pub fn summary(params: &ParamStore, net: &(impl Module + ?Sized), shape: &[usize]) -> Result<Summary> {
    let device: &Device = params.device();
    Summary::of(&net.forward(&device.zeros(shape), Mode::Eval))
}

impl Summary {
    /// The summary of everything that a tensor was recorded from.
    ///
    /// # Errors
    /// The error that it carries.
    pub fn of(output: &Tensor) -> Result<Summary> {
        if let Some(error) = output.error() {
            return Err(error.clone());
        }
        let mut nodes = reachable(output.node());
        nodes.sort_by_key(|node| node.id);
        let mut summary = Summary { rows: vec![], parameters: 0, trainable: 0, activation_bytes: 0 };
        // Of each node, the layer that it is of; of each parameter, whether a row has counted it.
        let (mut paths, mut counted): (HashMap<u64, Arc<str>>, HashSet<Arc<str>>) = Default::default();
        // Parameters that a node takes by way of views and casts alone.
        let mut taken: HashMap<u64, Vec<(Arc<str>, usize, bool)>> = HashMap::new();
        for node in &nodes {
            let inputs = node.with_inputs(<[_]>::to_vec);
            let own: Vec<_> = inputs.iter().filter_map(|input| taken.get(&input.id)).flatten().cloned().collect();
            match &node.source {
                Source::Parameter(leaf) => {
                    let parameter = (leaf.name.clone(), node.meta.elements(), node.requires_grad);
                    taken.insert(node.id, vec![parameter]);
                    continue;
                }
                Source::Op(op) => {
                    let is_leaf = inputs.is_empty();
                    let is_moved = matches!(op.role(), Role::View | Role::Permutation | Role::Cast);
                    // A weight on its way to its product, a constant, or a node with several results.
                    let is_weight = !own.is_empty() && inputs.iter().all(|input| taken.contains_key(&input.id));
                    let path = own
                        .first()
                        .map(|(name, ..)| layer(name))
                        .or_else(|| inputs.iter().rev().find_map(|input| paths.get(&input.id)).cloned());
                    if is_moved && is_weight {
                        taken.insert(node.id, own);
                        continue;
                    }
                    let path = path.unwrap_or_else(|| "".into());
                    paths.insert(node.id, path.clone());
                    if is_leaf || is_moved {
                        continue;
                    }
                    let mut parameters = 0;
                    for (name, elements, trains) in own {
                        if counted.insert(name) {
                            parameters += elements;
                            summary.trainable += if trains { elements } else { 0 };
                        }
                    }
                    summary.parameters += parameters;
                    summary.activation_bytes +=
                        node.meta.elements() as u64 * if node.meta.dtype == DType::F16 { 2 } else { 4 };
                    let row = SummaryRow {
                        path: path.to_string(),
                        op: op.name().into(),
                        shape: node.meta.shape,
                        dtype: node.meta.dtype,
                        parameters,
                    };
                    summary.rows.push(row);
                }
                _ => {
                    let path = inputs.iter().find_map(|input| paths.get(&input.id)).cloned();
                    paths.extend(path.map(|path| (node.id, path)));
                }
            }
        }
        Ok(summary)
    }
}

/// The path of the layer that a parameter is of.
fn layer(parameter: &str) -> Arc<str> {
    parameter.rsplit_once('.').map_or("", |(path, _)| path).into()
}

/// All nodes that a node was recorded from, itself among them.
fn reachable(root: &Arc<Node>) -> Vec<Arc<Node>> {
    let (mut all, mut seen) = (vec![root.clone()], HashSet::from([root.id]));
    let mut next = 0;
    while let Some(node) = all.get(next).cloned() {
        next += 1;
        node.with_inputs(|inputs| all.extend(inputs.iter().filter(|input| seen.insert(input.id)).cloned()));
    }
    all
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let widest =
            |of: &dyn Fn(&SummaryRow) -> usize, least: usize| self.rows.iter().map(of).max().unwrap_or(0).max(least);
        let path = widest(&|row| row.path.len(), 5);
        let op = widest(&|row| row.op.len(), 2);
        let shape = widest(&|row| row.shape.to_string().len(), 6);
        writeln!(f, "{:path$}  {:op$}  {:shape$}  dtype  parameters", "layer", "op", "result")?;
        let mut above = "";
        for row in &self.rows {
            let name = if row.path == above { "" } else { &row.path };
            above = &row.path;
            let count = if row.parameters == 0 { String::new() } else { grouped(row.parameters) };
            let (result, dtype) = (row.shape.to_string(), row.dtype.to_string());
            let line = format!("{name:path$}  {:op$}  {result:shape$}  {dtype:5}  {count:>10}", row.op);
            writeln!(f, "{}", line.trim_end())?;
        }
        let bytes = self.activation_bytes as f64 / (1 << 20) as f64;
        let (all, trained) = (grouped(self.parameters), grouped(self.trainable));
        write!(f, "{all} parameters, {trained} of them trained; at most {bytes:.1} MiB of results in a forward pass")
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let parts: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().filter_map(|part| std::str::from_utf8(part).ok()).collect();
    parts.join(",")
}
