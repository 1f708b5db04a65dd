//! A training step: what an optimizer asks of the engine, and the one submission that does it.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Made, promote, store_cpu, wanted};
use crate::autograd;
use crate::cpu;
use crate::device::{Arena, Backend, Device, StoreState};
use crate::error::{Error, Result};
use crate::graph::{Node, Snapshot};
use crate::kernel::{Capabilities, Kernel, OPERANDS, fold_workgroups};
use crate::plan::{self, Destination, Dispatch, Plan, Request, Slot, SlotKind};
use crate::tensor::Tensor;

/// A kernel over whole arenas that a step runs after the gradients are there.
pub struct ArenaKernel {
    /// The kernel; its `bindings` are not used.
    pub kernel: Kernel,
    /// Arenas bound from 0 on, with write access or not.
    pub arenas: Vec<(Arc<Arena>, bool)>,
}

/// What a step does with the gradients.
pub trait Update {
    /// The store that it changes.
    fn store(&self) -> &Arc<StoreState>;
    /// Appends everything that its kernels depend on besides host numbers.
    fn key(&self, words: &mut Vec<u64>);
    /// Parameters that want a gradient, and where it goes.
    fn targets(&self) -> Vec<(Arc<Node>, Destination)>;
    /// Host numbers of this step, as 32-bit words.
    fn scalars(&self) -> Vec<u32>;
    /// Kernels for the parameters that the loss reaches; `first` is the first word of the host numbers.
    ///
    /// # Errors
    /// What the device refuses.
    fn kernels(&self, reached: &[bool], first: usize) -> Result<Vec<ArenaKernel>>;
    /// The same on the reference's arenas. Returns false if a gradient was not finite and the update was skipped.
    ///
    /// # Errors
    /// A broken internal rule.
    fn reference(&self, reached: &[bool]) -> Result<bool>;
    /// The arena whose first words say how the step went (word 2 is not zero if it was skipped).
    fn status(&self) -> Option<Arc<Arena>>;
    /// The step's number.
    fn number(&self) -> u64;
    /// False for a pass that only gathers gradients.
    fn changes_parameters(&self) -> bool;
    /// Notes which parameters the loss reached.
    fn reached(&self, reached: &[bool]);
}

/// Backward pass and update in one submission; assignments to states are carried out with it, or dropped if it fails.
pub(crate) fn step(loss: &Tensor, update: &dyn Update, at: &'static std::panic::Location<'static>) -> Result<()> {
    let states = update.store().states();
    let assigned: Vec<Tensor> = states.iter().filter_map(|state| state.pending()).collect();
    let result = match assigned.iter().find_map(Tensor::error) {
        Some(error) => Err(error.clone()),
        None => run_step(loss, update, at, &assigned),
    };
    states.iter().for_each(|state| state.settle(result.is_ok()));
    result
}

fn run_step(
    loss: &Tensor,
    update: &dyn Update,
    at: &'static std::panic::Location<'static>,
    assigned: &[Tensor],
) -> Result<()> {
    if let Some(error) = loss.error() {
        return Err(error.clone());
    }
    autograd::check_scalar(loss, at)?;
    let device = loss.device().clone();
    device.take_failure()?;
    let targets = update.targets();
    if let Some((node, _)) = targets.iter().find(|(node, _)| !node.device.same(&device)) {
        let [left, right] = [node.device.name().into(), device.name().into()];
        return Err(Error::Device { op: "step", at, left, right });
    }
    let engine = &mut *device.engine();
    let roots = roots_of(loss, update, assigned);
    let mut snapshot = Snapshot::collect(&roots, true)?;
    if let Backend::Gpu(gpu) = device.backend()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(&roots, true)?;
    }
    let outputs = wanted(&snapshot, |node| !node.has_value());
    let nodes: Vec<Arc<Node>> = targets.iter().map(|(node, _)| node.clone()).collect();
    let result = match device.backend() {
        Backend::Cpu => step_cpu(loss, update, &snapshot, &outputs, &nodes, &device),
        Backend::Gpu(gpu) => {
            engine.words.clear();
            engine.words.push(1);
            snapshot.words(&mut engine.words);
            engine.words.extend(outputs.iter().map(|&i| i as u64));
            update.key(&mut engine.words);
            let make = |unfused| plan_step(loss, update, &snapshot, &outputs, &targets, gpu.capabilities(), unfused);
            engine.run(gpu, &snapshot, &outputs, make, Some(update))
        }
    };
    if result.is_ok() && update.changes_parameters() {
        update.store().advance();
    }
    result
}

/// What a step computes besides gradients: what a user holds and has not read is computed before the parameters change.
fn roots_of(loss: &Tensor, update: &dyn Update, assigned: &[Tensor]) -> Vec<Arc<Node>> {
    let mut roots = vec![loss.node().clone()];
    roots.extend(assigned.iter().map(|value| value.node().clone()).filter(|node| !node.has_value()));
    if update.changes_parameters() {
        let held = update.store().held();
        for node in held {
            if node.error().is_none() && !roots.iter().any(|root| Arc::ptr_eq(root, &node)) {
                roots.push(node);
            }
        }
    }
    roots
}

/// The plan that this step would take on a device with `capabilities`; nothing is run, so the reference device will do.
pub(crate) fn step_plan(loss: &Tensor, update: &dyn Update, capabilities: &Capabilities, fusion: bool) -> Result<Plan> {
    if let Some(error) = loss.error() {
        return Err(error.clone());
    }
    let snapshot = Snapshot::collect(&roots_of(loss, update, &[]), true)?;
    let outputs = wanted(&snapshot, |node| !node.has_value());
    Ok(plan_step(loss, update, &snapshot, &outputs, &update.targets(), capabilities, !fusion)?.plan)
}

/// The graph of a step, with the nodes `outputs` of `keyed` as its first roots and the gradients of the targets that the
/// loss reaches as the others; and which these are.
fn with_gradients(
    loss: &Tensor,
    keyed: &Snapshot,
    outputs: &[usize],
    targets: &[Arc<Node>],
) -> Result<(Snapshot, Vec<bool>)> {
    let gradients = autograd::backward(loss, targets)?;
    let mut roots: Vec<Arc<Node>> = outputs.iter().map(|&i| keyed.nodes[i].clone()).collect();
    roots.extend(gradients.iter().flatten().map(|gradient| gradient.node().clone()));
    let reached = gradients.iter().map(Option::is_some).collect();
    Ok((Snapshot::collect(&roots, true)?, reached))
}

fn step_cpu(
    loss: &Tensor,
    update: &dyn Update,
    snapshot: &Snapshot,
    outputs: &[usize],
    targets: &[Arc<Node>],
    device: &Device,
) -> Result<()> {
    let destinations = update.targets();
    let (snapshot, reached) = with_gradients(loss, snapshot, outputs, targets)?;
    let keep: Vec<usize> = snapshot.roots.iter().map(|&root| root as usize).collect();
    let values = cpu::interpret(&snapshot, &keep)?;
    let mut next = outputs.len();
    store_cpu(&snapshot, &keep[..next], &values);
    for (reached, (_, destination)) in reached.iter().zip(&destinations) {
        if !reached {
            continue;
        }
        let value = values[keep[next]].as_ref().ok_or_else(|| Error::internal("a gradient was not computed"))?;
        next += 1;
        match destination {
            Destination::Arena(arena, offset) => arena.write(device, *offset, &value.data)?,
            Destination::Accumulate(arena, offset) => {
                let mut total = arena.cpu()?;
                total[*offset..].iter_mut().zip(&value.data).for_each(|(total, part)| *total += part);
            }
            Destination::Value => {}
        }
    }
    if !update.reference(&reached)? {
        device.fail_later(Error::NonFinite { step: update.number() });
    }
    update.reached(&reached);
    Ok(())
}

/// The plan of a step: forward, backward, update.
fn plan_step(
    loss: &Tensor,
    update: &dyn Update,
    keyed: &Snapshot,
    outputs: &[usize],
    targets: &[(Arc<Node>, Destination)],
    capabilities: &Capabilities,
    unfused: bool,
) -> Result<Made> {
    let place: HashMap<*const Node, usize> =
        keyed.nodes.iter().enumerate().map(|(i, node)| (Arc::as_ptr(node), i)).collect();
    let nodes: Vec<Arc<Node>> = targets.iter().map(|(node, _)| node.clone()).collect();
    let (snapshot, reached) = with_gradients(loss, keyed, outputs, &nodes)?;
    let (held, gradients) = snapshot.roots.split_at(outputs.len());
    let mut wanted: Vec<(usize, Destination)> = held.iter().map(|&i| (i as usize, Destination::Value)).collect();
    let with_gradient = targets.iter().zip(&reached).filter(|(_, reached)| **reached);
    for (&root, ((_, destination), _)) in gradients.iter().zip(with_gradient) {
        wanted.push((root as usize, destination.clone()));
    }
    let scalars = update.scalars().len();
    let mut plan =
        plan::build(&Request { snapshot: &snapshot, outputs: wanted, capabilities, fusion: !unfused, scalars })?;
    for ArenaKernel { kernel, arenas } in update.kernels(&reached, plan.scalars)? {
        append(&mut plan, kernel, arenas)?;
    }
    let mut leaves = HashMap::new();
    for (i, node) in snapshot.nodes.iter().enumerate() {
        if snapshot.leaves[i].is_some() {
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

fn append(plan: &mut Plan, kernel: Kernel, arenas: Vec<(Arc<Arena>, bool)>) -> Result<()> {
    let mut bindings = vec![];
    for (binding, (arena, write)) in arenas.into_iter().enumerate() {
        let bytes = arena.elements as u64 * 4;
        let elements = arena.elements;
        plan.slots.push(Slot { kind: SlotKind::Arena(arena, 0, elements), bytes: bytes.next_multiple_of(16) });
        bindings.push((binding as u32, plan.slots.len() - 1, write));
    }
    let grid =
        fold_workgroups(kernel.workgroups).ok_or_else(|| Error::internal("an update has too many workgroups"))?;
    plan.dispatches.push(Dispatch {
        name: kernel.name.to_string(),
        operands: kernel.source.contains(&format!("@binding({OPERANDS})")),
        source: kernel.source.into(),
        bindings,
        params: kernel.params,
        fusion: vec![],
        grid,
        iterations: kernel.iterations,
        checked: kernel.checked,
    });
    Ok(())
}
