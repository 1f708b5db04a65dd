//! Check mode (`KILN_CHECK=1`): which op was the first to give a value that is not finite.

use std::collections::HashSet;
use std::sync::Arc;

use super::step::{Gradients, Update};
use crate::autograd;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Node, Snapshot, Source};
use crate::tensor::{Tensor, in_rule};

/// The loss scale of a step, read before it runs.
pub(super) fn scale(update: &dyn Update, device: &Device) -> Result<Option<f64>> {
    let read = |seed: Tensor| match &seed.node().source {
        Source::Parameter(leaf) => Ok(leaf.arena.read(device, leaf.offset, 1)?[0]),
        _ => Ok(1.0),
    };
    update.seed().map(read).transpose()
}

/// Says what the first value is that is not finite, in a step that was skipped: its parameters are still those it began
/// with. Runs the step's graph again, with a sum beside each node.
pub(super) fn first_not_finite(
    gradients: Gradients<'_>,
    scale: Option<f64>,
    update: &dyn Update,
    device: &Device,
) -> Result<Option<String>> {
    let mut roots = gradients.roots();
    let forward = Snapshot::collect(&roots, gradients.loss())?;
    let forward: HashSet<*const Node> = forward.nodes.iter().map(Arc::as_ptr).collect();
    if let Gradients::Of(loss) = gradients {
        let seed = scale.map(|scale| device.fixed(&[], DType::F32, scale));
        let targets: Vec<Arc<Node>> = update.targets().into_iter().map(|(node, _)| node).collect();
        roots.extend(autograd::backward(loss, seed, &targets)?.iter().flatten().map(|tensor| tensor.node().clone()));
    }
    let snapshot = Snapshot::collect(&roots, gradients.loss())?;
    let floats = snapshot.nodes.iter().filter(|node| node.meta.dtype.is_float());
    // Zero times what is not finite is NaN. No handle to a node is kept, so its value need not be stored.
    let zeros = |node: &Arc<Node>| in_rule(|| Tensor::from_node(node.clone()).widen().scale(0.0).sum_all());
    let flags: Vec<(&Arc<Node>, Tensor)> = floats.map(|node| (node, zeros(node))).collect();
    device.eval(&flags.iter().map(|(_, flag)| flag).collect::<Vec<_>>())?;
    for (node, flag) in &flags {
        if !flag.item()?.is_finite() {
            let (name, at) = (node.name(), node.at);
            return Ok(Some(match &node.source {
                Source::Parameter(leaf) => format!("first in parameter `{}`", leaf.name),
                Source::Op(_) if !forward.contains(&Arc::as_ptr(node)) => {
                    format!("first in {name}, in the backward pass")
                }
                _ => format!("first in {name} at {at}"),
            }));
        }
    }
    Ok(None)
}
