//! A training step: what an optimizer asks of the engine, and the one submission that does it.

use std::collections::{HashMap, HashSet};
use std::panic::Location;
use std::sync::Arc;

use super::refusal::{failure, unreached};
use super::update::{ArenaKernel, Beside, Bound, Found, Update};
use super::{Made, check, compute_for_others, promote, store_cpu, wanted};
use crate::autograd;
use crate::cpu;
use crate::device::{Backend, Device, GpuValue};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{LeafKind, Node, Snapshot, Source, Value};
use crate::kernel::{Kernel, OPERANDS, fold_workgroups};
use crate::layout::Meta;
use crate::plan::{self, Destination, Dispatch, Numbers, Plan, Request, Slot, SlotKind};
use crate::profile::Phase;
use crate::shape::Shape;
use crate::state::{Assigned, Outcome};
use crate::target::Target;
use crate::tensor::{Tensor, outside_rules};

/// Where a step's gradients come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gradients<'a> {
    /// The backward pass of a loss.
    Of(&'a Tensor),
    /// For each target, the one that the user gave.
    Given(&'a [Option<Arc<Node>>]),
}

impl Gradients<'_> {
    /// The loss whose backward pass is to be run.
    pub fn loss(&self) -> Option<&Arc<Node>> {
        match self {
            Gradients::Of(loss) => Some(loss.node()),
            Gradients::Given(_) => None,
        }
    }

    /// The graph's first roots.
    pub fn roots(self) -> Vec<Arc<Node>> {
        match self {
            Gradients::Of(loss) => vec![loss.node().clone()],
            Gradients::Given(given) => given.iter().flatten().cloned().collect(),
        }
    }

    /// Roots that are no results: a given gradient that nobody holds is wanted in the arena alone.
    fn transient(self) -> usize {
        match self {
            Gradients::Of(_) => 0,
            Gradients::Given(given) => given.iter().flatten().count(),
        }
    }

    fn key(self, words: &mut Vec<u64>) {
        match self {
            Gradients::Of(_) => words.push(1),
            Gradients::Given(given) => {
                words.push(2);
                words.extend(given.iter().map(|gradient| u64::from(gradient.is_some())));
            }
        }
    }
}

/// Stored gradients from this length on are read where they are, by kernels of their own; shorter ones are copied into
/// the arena, for one kernel that serves all.
const DIRECT: usize = 1 << 15;

/// Backward pass and update in one submission; assignments to states become their values if the update is done, and are
/// dropped if it is not.
pub(crate) fn step(
    gradients: Gradients<'_>,
    update: &dyn Update,
    device: &Device,
    at: &'static Location<'static>,
) -> Result<()> {
    outside_rules("step", at)?;
    let states = update.store().states();
    let assigned: Vec<Assigned> =
        states.iter().filter_map(|state| state.assigned(update.changes_parameters())).collect();
    let result = match assigned.iter().find_map(|assigned| assigned.new.error()) {
        Some(error) => Err(error.clone()),
        None => run_step(gradients, update, device, at, &assigned),
    };
    let outcome = match &result {
        Ok(outcome) => outcome,
        Err(_) => &Outcome::Failed,
    };
    states.iter().for_each(|state| state.settle(outcome));
    result.map(drop)
}

fn run_step(
    gradients: Gradients<'_>,
    update: &dyn Update,
    device: &Device,
    at: &'static Location<'static>,
    assigned: &[Assigned],
) -> Result<Outcome> {
    let roots = gradients.roots();
    if let Some(error) = roots.iter().find_map(|node| node.error()) {
        return Err(error.clone());
    }
    if let Gradients::Of(loss) = gradients {
        autograd::check_scalar(loss, at)?;
    }
    update.store().take_failure()?;
    if let Some(node) = roots.iter().find(|node| !node.device.same(device)) {
        let [left, right] = [device.name().into(), node.device.name().into()];
        return Err(Error::Device { op: "step", at, left, right });
    }
    let scale = if device.is_checked() { check::scale(update, device)? } else { None };
    let _gate = update.store().enter();
    let accepted = submit(gradients, update, device, at, assigned)?;
    let mut outcome = match accepted {
        _ if !update.changes_parameters() => Outcome::Gathered,
        Some(flag) => Outcome::Asks(flag),
        None => Outcome::Accepted,
    };
    if let Some(status) = update.status().filter(|_| device.is_cpu() || device.is_checked()) {
        // Known at once.
        let status = status.read(device, 0, 4)?;
        if status[2] != 0.0 && device.is_cpu() {
            outcome = Outcome::Refused;
        }
        let reports_later = !device.is_cpu() && !device.engine().forget_step(update.number(), update.author());
        if let Some(error) = failure(&status, update.number(), update.author()).filter(|_| !reports_later) {
            let found = match device.is_checked() {
                true => check::first_not_finite(gradients, scale, update, device).ok().flatten(),
                false => None,
            };
            update.author().refuse(error.at_first(found));
        }
    }
    // Without a check, the version has changed with the parameters.
    if device.is_checked() && update.changes_parameters() {
        update.store().advance();
    }
    Ok(outcome)
}

/// Runs the step. On a GPU, where states were assigned, gives the flag that says whether the update was done.
fn submit(
    gradients: Gradients<'_>,
    update: &dyn Update,
    device: &Device,
    at: &'static Location<'static>,
    assigned: &[Assigned],
) -> Result<Option<Tensor>> {
    let targets = update.targets();
    let (own, others): (Vec<_>, Vec<_>) = match update.changes_parameters() {
        true => update.store().before_update().into_iter().partition(|node| node.is_own()),
        false => Default::default(),
    };
    compute_for_others(device, others);
    let engine = &mut *device.engine();
    let span = device.span(Phase::Key, "collect");
    let roots = roots_of(gradients, own, assigned);
    let mut snapshot = Snapshot::collect(&roots, gradients.loss())?;
    if let Backend::Gpu(gpu) = device.backend()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(&roots, gradients.loss())?;
    }
    let outputs = wanted(&snapshot, gradients.transient(), |node| !node.has_value());
    let accepted = match device.backend() {
        Backend::Cpu => {
            step_cpu(gradients, update, &snapshot, &outputs, device, at)?;
            None
        }
        Backend::Gpu(gpu) => {
            let asks = update.changes_parameters() && !assigned.is_empty();
            engine.words.clear();
            gradients.key(&mut engine.words);
            snapshot.words(&mut engine.words);
            engine.words.extend(outputs.iter().map(|&i| i as u64));
            update.key(&mut engine.words);
            engine.words.push(u64::from(asks));
            drop(span);
            let make = |unfused, target: &Target| {
                plan_step(gradients, update, &snapshot, &outputs, &targets, target, unfused, asks, at)
            };
            engine.run(gpu, &snapshot, &outputs, make, Some(update))?
        }
    };
    // Before another run can look at the parameters. A check looks at those that the step began with.
    if update.changes_parameters() && !device.is_checked() {
        update.store().advance();
    }
    Ok(accepted.map(|buffer| {
        let meta = Meta { shape: Shape::SCALAR, dtype: DType::Bool };
        let flag = Tensor::leaf(device, meta, Source::Stored, at);
        flag.node().set_value(Value::Gpu(GpuValue::new(buffer, 1, DType::Bool, None)));
        flag
    }))
}

/// What a step computes besides gradients: assignments to states, and what is `needed` before the parameters change.
fn roots_of(gradients: Gradients<'_>, needed: Vec<Arc<Node>>, assigned: &[Assigned]) -> Vec<Arc<Node>> {
    let mut roots = gradients.roots();
    // The old value is stored too, for the case that the new one is refused.
    let values = assigned.iter().flat_map(|assigned| [Some(&assigned.new), assigned.old.as_ref()]).flatten();
    roots.extend(values.map(|value| value.node().clone()).filter(|node| !node.has_value()));
    let known: HashSet<*const Node> = roots.iter().map(Arc::as_ptr).collect();
    roots.extend(needed.into_iter().filter(|node| !known.contains(&Arc::as_ptr(node))));
    roots
}

/// The plan that this step would take for `target`; nothing is run, so the reference device will do.
pub(crate) fn step_plan(loss: &Tensor, update: &dyn Update, target: &Target, fusion: bool) -> Result<Plan> {
    if let Some(error) = loss.error() {
        return Err(error.clone());
    }
    let gradients = Gradients::Of(loss);
    let needed = if update.changes_parameters() { update.store().before_update() } else { vec![] };
    let snapshot = Snapshot::collect(&roots_of(gradients, needed, &[]), gradients.loss())?;
    let outputs = wanted(&snapshot, 0, |node| !node.has_value());
    let at = loss.node().at;
    Ok(plan_step(gradients, update, &snapshot, &outputs, &update.targets(), target, !fusion, false, at)?.plan)
}

/// The graph of a step, with the nodes `outputs` of `keyed` as its first roots and the gradients of the targets that have
/// one as the others; and which these are.
fn with_gradients(
    gradients: Gradients<'_>,
    update: &dyn Update,
    keyed: &Snapshot,
    outputs: &[usize],
    targets: &[(Arc<Node>, Destination)],
    at: &'static Location<'static>,
) -> Result<(Snapshot, Vec<bool>)> {
    let mut roots: Vec<Arc<Node>> = outputs.iter().map(|&i| keyed.nodes[i].clone()).collect();
    let each: Vec<Option<Arc<Node>>> = match gradients {
        Gradients::Given(given) => given.to_vec(),
        Gradients::Of(loss) => {
            // Where losses are scaled the backward pass starts from the scale.
            let nodes: Vec<Arc<Node>> = targets.iter().map(|(node, _)| node.clone()).collect();
            let gradients = autograd::backward(loss, update.seed(), &nodes)?;
            gradients.iter().map(|gradient| gradient.as_ref().map(|tensor| tensor.node().clone())).collect()
        }
    };
    let reached: Vec<bool> = each.iter().map(Option::is_some).collect();
    // What was gathered before may be all that a step is given.
    let gathered = gradients.loss().is_none() && gradients.transient() == 0 && update.has_gathered();
    if !reached.contains(&true) && !gathered {
        return Err(unreached(gradients, update, keyed, at));
    }
    roots.extend(each.iter().flatten().cloned());
    Ok((Snapshot::collect(&roots, gradients.loss())?, reached))
}

fn step_cpu(
    gradients: Gradients<'_>,
    update: &dyn Update,
    snapshot: &Snapshot,
    outputs: &[usize],
    device: &Device,
    at: &'static Location<'static>,
) -> Result<()> {
    let destinations = update.targets();
    let (snapshot, reached) = with_gradients(gradients, update, snapshot, outputs, &destinations, at)?;
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
    let value = gradients.loss().and_then(|loss| loss.value());
    let finite = match &value {
        Some(Value::Cpu(loss)) => loss.data.iter().all(|x| x.is_finite()),
        _ => true,
    };
    update.reference(&reached, finite)?;
    update.reached(&reached);
    Ok(())
}

/// The plan of a step: forward, backward, update. With `asks` it has one more result, the flag that says whether the update
/// was done.
#[expect(clippy::too_many_arguments, reason = "the parts of one step")]
fn plan_step(
    gradients: Gradients<'_>,
    update: &dyn Update,
    keyed: &Snapshot,
    outputs: &[usize],
    targets: &[(Arc<Node>, Destination)],
    target: &Target,
    unfused: bool,
    asks: bool,
    at: &'static Location<'static>,
) -> Result<Made> {
    let place: HashMap<*const Node, usize> =
        keyed.nodes.iter().enumerate().map(|(i, node)| (Arc::as_ptr(node), i)).collect();
    let (snapshot, reached) = with_gradients(gradients, update, keyed, outputs, targets, at)?;
    let (held, roots) = snapshot.roots.split_at(outputs.len());
    let mut wanted: Vec<(usize, Destination)> = held.iter().map(|&i| (i as usize, Destination::Value)).collect();
    let mut found = vec![Found::Nowhere; targets.len()];
    let with_gradient = (0..targets.len()).filter(|&target| reached[target]);
    for (target, &root) in with_gradient.zip(roots) {
        let (root, destination) = (root as usize, &targets[target].1);
        let elements = snapshot.nodes[root].meta.elements();
        let stored = snapshot.leaves[root] == Some(LeafKind::Stored);
        let whole = elements >= DIRECT && elements % 4 == 0;
        found[target] = match destination {
            Destination::Arena(..) if stored && whole => Found::InLeaf(root),
            _ => {
                wanted.push((root, destination.clone()));
                Found::InArena
            }
        };
    }
    let scalars = update.scalars().len();
    let mut plan = plan::build(&Request { snapshot: &snapshot, outputs: wanted, target, fusion: !unfused, scalars })?;
    let accepted = asks.then(|| {
        let (slot, kind) = (plan.slots.len(), SlotKind::Output(plan.outputs.len()));
        plan.slots.push(Slot { name: "accepted", shape: None, kind, bytes: 16 });
        plan.outputs.push(slot);
        Bound::Slot(slot)
    });
    let mut leaves = HashMap::new();
    let loss = gradients.loss().and_then(|loss| {
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
    let mut texts = HashSet::new();
    let first = plan.scalars - plan.scalar_window;
    for ArenaKernel { kernel, arenas } in
        update.kernels(&found, first, Beside { loss, accepted }, &target.capabilities)?
    {
        append(&mut plan, kernel, arenas, &mut texts)?;
    }
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

/// Adds a kernel of the update to a plan; those of one text share it.
fn append(plan: &mut Plan, kernel: Kernel, bound: Vec<(Bound, bool)>, texts: &mut HashSet<Arc<str>>) -> Result<()> {
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
        };
        let bytes = (elements as u64 * 4).next_multiple_of(16);
        plan.slots.push(Slot { name: "arena", shape: None, kind, bytes });
        bindings.push((binding as u32, plan.slots.len() - 1, write));
    }
    let grid =
        fold_workgroups(kernel.workgroups).ok_or_else(|| Error::internal("an update has too many workgroups"))?;
    let source = texts.get(kernel.source.as_str()).cloned().unwrap_or_else(|| kernel.source.as_str().into());
    texts.insert(source.clone());
    plan.dispatches.push(Dispatch {
        name: kernel.name.to_string(),
        operands: source.contains(&format!("@binding({OPERANDS})")),
        numbers: Numbers { window: plan.scalar_window, places: vec![] },
        source,
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
