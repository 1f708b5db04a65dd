//! Check mode (`KILN_CHECK=1`): which op was the first to give a value that is not finite.

use std::sync::Arc;

use rustc_hash::FxHashSet;

use super::handover::{Gradients, Step};
use crate::autograd;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Result;
use crate::graph::{Node, Snapshot, Source};
use crate::tensor::{Tensor, in_rule};

/// The loss scale of a step, read before it runs.
pub(super) fn scale(step: &Step<'_>) -> Result<Option<f64>> {
    let read = |seed: &Tensor| match &seed.node().source {
        Source::Parameter(leaf) => Ok(leaf.arena.read(leaf.offset, 1)?[0]),
        _ => Ok(1.0),
    };
    step.seed.as_ref().map(read).transpose()
}

/// What the elements of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Content {
    Finite,
    /// Infinite ones among them.
    Infinite,
    /// NaN among them.
    Nan,
}

/// How surely a node is where things went wrong, the surest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Blame {
    /// It has made what is not finite out of what is, or NaN out of infinities.
    Made,
    /// It passes on what is not finite, or is a constant or an upload with an infinity, as masks are by intent.
    Passed,
}

/// Says where a step that was skipped has its first value that is not finite: its parameters are still those it began
/// with. Runs the step's graph again, with two sums beside each node.
pub(super) fn first_not_finite(step: &Step<'_>, scale: Option<f64>, device: &Device) -> Result<Option<String>> {
    let gradients = step.gradients;
    let mut roots = gradients.roots();
    let forward = Snapshot::collect(&roots, gradients.loss())?;
    let forward: FxHashSet<*const Node> = forward.nodes.iter().map(Arc::as_ptr).collect();
    if let Gradients::Of(loss) = gradients {
        let seed = scale.map(|scale| device.fixed(&[], DType::F32, scale));
        let targets: Vec<Arc<Node>> = step.targets.iter().map(|target| target.node.clone()).collect();
        roots.extend(autograd::backward(loss, seed, &targets)?.iter().flatten().map(|tensor| tensor.node().clone()));
    }
    let snapshot = Snapshot::collect(&roots, gradients.loss())?;
    let contents = contents(&snapshot, device)?;
    let mut found: Option<(Blame, bool, u64)> = None;
    let mut first = None;
    for (i, node) in snapshot.nodes.iter().enumerate() {
        let own = contents[i];
        if own == Content::Finite {
            continue;
        }
        let worst = snapshot.inputs[i].iter().map(|&input| contents[input as usize]).max();
        let blame = match worst {
            Some(Content::Finite) => Blame::Made,
            Some(Content::Infinite) if own == Content::Nan => Blame::Made,
            None if own == Content::Nan => Blame::Made,
            _ => Blame::Passed,
        };
        // Forward in program order, then backward as it is computed.
        let backward = !forward.contains(&Arc::as_ptr(node));
        let place = (blame, backward, if backward { i as u64 } else { node.id });
        if found.is_none_or(|found| place < found) {
            (found, first) = (Some(place), Some(node));
        }
    }
    Ok(first.map(|node| {
        let (name, at) = (node.name(), node.at);
        match &node.source {
            Source::Parameter(leaf) => format!("first in parameter `{}`", leaf.name),
            Source::Op(_) | Source::Result { .. } if !forward.contains(&Arc::as_ptr(node)) => {
                format!("first in {name}, in the backward pass")
            }
            _ => format!("first in {name} at {at}"),
        }
    }))
}

/// What each node of a snapshot holds.
fn contents(snapshot: &Snapshot, device: &Device) -> Result<Vec<Content>> {
    // Zero times what is not finite is NaN, and clamping leaves NaN alone. No handle to a node is kept, so its value need not
    // be stored.
    let flags = |node: &Arc<Node>| {
        in_rule(|| {
            let x = Tensor::from_node(node.clone()).widen();
            [x.scale(0.0).sum_all(), x.clamp(-1.0, 1.0).scale(0.0).sum_all()]
        })
    };
    // The node of an op of several results has no value.
    let is_float = |node: &Arc<Node>| node.meta.dtype.is_float() && node.results.is_empty();
    let flags: Vec<Option<[Tensor; 2]>> =
        snapshot.nodes.iter().map(|node| is_float(node).then(|| flags(node))).collect();
    device.eval(&flags.iter().flatten().flatten().collect::<Vec<_>>())?;
    let content = |flags: &Option<[Tensor; 2]>| match flags {
        Some([not_finite, nan]) => match (not_finite.item()?.is_finite(), nan.item()?.is_finite()) {
            (true, _) => Ok(Content::Finite),
            (false, true) => Ok(Content::Infinite),
            (false, false) => Ok(Content::Nan),
        },
        None => Ok(Content::Finite),
    };
    let mut contents: Vec<Content> = flags.iter().map(content).collect::<Result<_>>()?;
    for (i, node) in snapshot.nodes.iter().enumerate() {
        if !node.results.is_empty() {
            let worst = snapshot.inputs[i].iter().map(|&input| contents[input as usize]).max();
            contents[i] = worst.unwrap_or(Content::Finite);
        }
    }
    Ok(contents)
}
