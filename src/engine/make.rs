//! The plan of a step: its graph with the backward pass, planned, and the kernels of the update behind.

use std::panic::Location;
use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

use super::compute::wanted;
use super::handover::{ArenaKernel, Beside, Bound, Found, Gradients, Step, Trained, Wanted};
use super::plans::Made;
use crate::autograd;
use crate::dispatch::{Dispatch, Name, Numbers, Plan, Slot, SlotKind};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{LeafKind, Node, ParameterLeaf, Snapshot};
use crate::kernel::{Kernel, fold_workgroups};
use crate::plan::{self, Destination, Request};
use crate::shader::Programs;
use crate::state::Assigned;
use crate::target::Target;
use crate::tensor::Tensor;

/// Stored gradients from this length on are read where they are, by kernels of their own; shorter ones are copied into
/// the arena, for one kernel that serves all.
const DIRECT: usize = 1 << 15;

/// The plan of a step: forward, backward, update. With `asks` it has one more result, the flag that says whether the update
/// was done.
pub fn plan_step(
    step: &Step<'_>,
    keyed: &Snapshot,
    outputs: &[usize],
    target: &Target,
    unfused: bool,
    asks: bool,
    at: &'static Location<'static>,
) -> Result<Made> {
    let place: FxHashMap<*const Node, usize> =
        keyed.nodes.iter().enumerate().map(|(i, node)| (Arc::as_ptr(node), i)).collect();
    let (snapshot, reached) = with_gradients(step, keyed, outputs, at)?;
    let (held, roots) = snapshot.roots.split_at(outputs.len());
    let mut wanted: Vec<(usize, Destination)> = held.iter().map(|&i| (i as usize, Destination::Value)).collect();
    let mut found = vec![Found::Nowhere; step.targets.len()];
    let with_gradient = (0..step.targets.len()).filter(|&target| reached[target]);
    // A pass that only gathers gradients leaves nothing that could read one where it is.
    let in_place = step.update.as_ref().is_some_and(|update| !update.changes_gradients);
    for (target, &root) in with_gradient.zip(roots) {
        let (root, Trained { arena, offset, adds, .. }) = (root as usize, &step.targets[target]);
        let elements = snapshot.nodes[root].meta.elements();
        let stored = snapshot.leaves[root] == Some(LeafKind::Stored);
        let whole = in_place && elements >= DIRECT && elements % 4 == 0;
        found[target] = match adds {
            false if stored && whole => Found::InLeaf(root),
            false => {
                wanted.push((root, Destination::Arena(arena.place.clone(), *offset)));
                Found::InArena
            }
            true => {
                wanted.push((root, Destination::Accumulate(arena.place.clone(), *offset)));
                Found::InArena
            }
        };
    }
    let scalars = step.update.as_ref().map_or(0, |update| update.numbers.len());
    let mut plan = plan::build(&Request { snapshot: &snapshot, outputs: wanted, target, fusion: !unfused, scalars })?;
    let accepted = asks.then(|| {
        let (slot, kind) = (plan.slots.len(), SlotKind::Output(plan.outputs.len()));
        plan.slots.push(Slot { name: "accepted", shape: None, kind, bytes: 16 });
        plan.outputs.push(slot);
        Bound::Slot(slot)
    });
    let mut leaves = FxHashMap::default();
    let loss = step.gradients.loss().and_then(|loss| {
        let half = loss.meta.dtype == DType::F16 && target.capabilities.f16;
        let bits = if half { 0x7c00 } else { 0x7f80_0000 };
        let is_loss = |&i: &usize| Arc::ptr_eq(&keyed.nodes[i], loss);
        let bound = match outputs.iter().position(is_loss) {
            Some(output) => Bound::Slot(plan.outputs[output]),
            // It has been read before: a leaf of the update alone.
            None => {
                let number = snapshot.nodes.len();
                leaves.insert(number, *place.get(&Arc::as_ptr(loss))?);
                Bound::Leaf(number, 1)
            }
        };
        Some((bound, bits))
    });
    let mut programs = Programs::default();
    let first = plan.scalars - plan.scalar_window;
    if let Some(update) = &step.update {
        let wanted =
            Wanted { found: &found, first, beside: Beside { loss, accepted }, capabilities: &target.capabilities };
        for ArenaKernel { kernel, arenas } in (update.kernels)(wanted)? {
            append(&mut plan, kernel, arenas, &mut programs)?;
        }
    }
    plan.read_in(step.parts.iter().cloned());
    for (i, node) in snapshot.nodes.iter().enumerate() {
        // Parameters and the loss scale are ranges of arenas: a run brings nothing for them.
        if snapshot.leaves[i].is_some_and(|kind| kind != LeafKind::Parameter) {
            let keyed = place.get(&Arc::as_ptr(node)).copied();
            leaves.insert(
                i,
                keyed.ok_or_else(|| Error::Value {
                    op: "gradient",
                    at: node.at,
                    what: "a gradient rule made a tensor from host data".into(),
                    next: "make it when the op is recorded, and pass it as one of the op's inputs",
                })?,
            );
        }
    }
    Ok(Made { plan, leaves, reached })
}

/// Adds a kernel over arenas to a plan; those that are alike share a program.
pub(super) fn append(
    plan: &mut Plan,
    kernel: Kernel,
    bound: Vec<(Bound, bool)>,
    programs: &mut Programs,
) -> Result<()> {
    let mut bindings = vec![];
    for (binding, (bound, write)) in bound.into_iter().enumerate() {
        let (kind, elements) = match bound {
            Bound::Slot(slot) => {
                bindings.push((binding as u32, slot, write));
                continue;
            }
            Bound::Arena(arena) => {
                let elements = arena.elements;
                (SlotKind::Arena(arena, 0, elements), elements)
            }
            Bound::Range(arena, first, elements) => (SlotKind::Arena(arena, first, elements), elements),
            Bound::Leaf(leaf, elements) => (SlotKind::Stored(leaf), elements),
            Bound::Table(words) => {
                let elements = words.len();
                (SlotKind::Table(words), elements)
            }
        };
        let bytes = (elements as u64 * 4).next_multiple_of(16);
        plan.slots.push(Slot { name: "arena", shape: None, kind, bytes });
        bindings.push((binding as u32, plan.slots.len() - 1, write));
    }
    let grid =
        fold_workgroups(kernel.workgroups).ok_or_else(|| Error::internal("an update has too many workgroups"))?;
    plan.dispatches.push(Dispatch {
        names: vec![Name { kernel: kernel.name, fused: 0 }],
        operands: kernel.shader.operands > 0,
        numbers: Numbers { window: plan.scalar_window, places: vec![] },
        program: programs.of(kernel.shader),
        bindings,
        params: kernel.params,
        fusion: vec![],
        grid,
        iterations: kernel.iterations,
        checked: kernel.checked,
        flops: kernel.flops,
        bytes: kernel.bytes,
    });
    Ok(())
}

/// The graph of a step, with the nodes `outputs` of `keyed` as its first roots and the gradients of the targets that have
/// one as the others; and which these are.
pub fn with_gradients(
    step: &Step<'_>,
    keyed: &Snapshot,
    outputs: &[usize],
    at: &'static Location<'static>,
) -> Result<(Snapshot, Vec<bool>)> {
    let mut roots: Vec<Arc<Node>> = outputs.iter().map(|&i| keyed.nodes[i].clone()).collect();
    let each: Vec<Option<Arc<Node>>> = match step.gradients {
        Gradients::Given(given) => given.to_vec(),
        Gradients::Of(loss) => {
            // Where losses are scaled the backward pass starts from the scale.
            let nodes: Vec<Arc<Node>> = step.targets.iter().map(|target| target.node.clone()).collect();
            let gradients = autograd::backward(loss, step.seed.clone(), &nodes)?;
            gradients.iter().map(|gradient| gradient.as_ref().map(|tensor| tensor.node().clone())).collect()
        }
    };
    let reached: Vec<bool> = each.iter().map(Option::is_some).collect();
    // What was gathered before may be all that a step is given.
    let gathered = step.gradients.loss().is_none() && step.gradients.transient() == 0 && step.has_gathered;
    if !reached.contains(&true) && !gathered {
        return Err(unreached(step, keyed, at));
    }
    roots.extend(each.iter().flatten().cloned());
    Ok((Snapshot::collect(&roots, step.gradients.loss())?, reached))
}

/// Why a step would change nothing.
fn unreached(step: &Step<'_>, keyed: &Snapshot, at: &'static Location<'static>) -> Error {
    let leaves = || keyed.nodes.iter().filter_map(|node| node.source.parameter());
    let is_own = |leaf: &ParameterLeaf| Arc::ptr_eq(&leaf.store, step.store);
    let targets = &step.targets;
    let place = |leaf: &ParameterLeaf| (leaf.arena.id, leaf.offset);
    let trained: FxHashSet<_> = targets.iter().filter_map(|target| target.node.source.parameter().map(place)).collect();
    let parameters = step.store.parameters();
    let (what, next) = match step.gradients {
        _ if targets.is_empty() => (
            format!("there is nothing to update: the store has {parameters}, none of which may change"),
            "unfreeze a parameter, or make the optimizer for the store of the model",
        ),
        Gradients::Given(_) => (
            format!("no gradient is given for a parameter that is not frozen ({parameters})"),
            "pass the gradient of at least one",
        ),
        Gradients::Of(_) if leaves().any(|leaf| is_own(leaf) && trained.contains(&place(leaf))) => (
            format!(
                "no gradient flows from the loss to a parameter of the optimizer ({parameters}): it was recorded under \
                     no_grad, or all of it passes through detach or an op without a gradient"
            ),
            "record the forward pass outside no_grad, and keep one way to a parameter free of detach",
        ),
        Gradients::Of(_) if leaves().any(is_own) => (
            format!("every parameter that the loss depends on is frozen (the optimizer has {parameters})"),
            "unfreeze one of them before the forward pass is recorded",
        ),
        Gradients::Of(_) if leaves().next().is_some() => (
            format!("the loss depends on parameters of another store (the optimizer has {parameters})"),
            "make the optimizer for the store of the model",
        ),
        Gradients::Of(_) => (
            format!(
                "the loss depends on no parameter of the optimizer ({parameters}): it is a constant or a value without \
                     a history, as no_grad and detach give"
            ),
            "pass the loss of a forward pass recorded outside no_grad",
        ),
    };
    Error::Value { op: "step", at, what, next }
}

/// What a step computes besides gradients: assignments to states, and what is `needed` before the parameters change.
pub fn roots_of(step: &Step<'_>, needed: Vec<Arc<Node>>, assigned: &[Assigned]) -> Vec<Arc<Node>> {
    let mut roots = step.gradients.roots();
    // The old value is stored too, for the case that the new one is refused.
    let values = assigned.iter().flat_map(|assigned| [Some(&assigned.new), assigned.old.as_ref()]).flatten();
    roots.extend(values.map(|value| value.node().clone()).filter(|node| !node.has_value()));
    let known: FxHashSet<*const Node> = roots.iter().map(Arc::as_ptr).collect();
    roots.extend(needed.into_iter().filter(|node| !known.contains(&Arc::as_ptr(node))));
    roots
}

/// The plan that this step would take for `target`; nothing is run, so the reference device will do.
pub(crate) fn step_plan(loss: &Tensor, step: &Step<'_>, target: &Target, fusion: bool) -> Result<Plan> {
    if let Some(error) = loss.error() {
        return Err(error.clone());
    }
    let needed = if step.update.is_some() { step.store.before_update() } else { vec![] };
    let snapshot = Snapshot::collect(&roots_of(step, needed, &[]), step.gradients.loss())?;
    let outputs = wanted(&snapshot, 0, |node| !node.has_value());
    let at = loss.node().at;
    Ok(plan_step(step, &snapshot, &outputs, target, !fusion, false, at)?.plan)
}
