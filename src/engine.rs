//! Running what is recorded: collect, look the plan up or make it, run it, hand out the values.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::autograd;
use crate::cpu;
use crate::device::{Arena, Backend, Device, StoreState};
use crate::error::{Error, Result};
use crate::gpu::{Compiled, Gpu, GpuValue, Leaf, ReadCell};
use crate::graph::{HostData, Node, Snapshot, Source, Value};
use crate::kernel::{Kernel, OPERANDS, fold_workgroups};
use crate::plan::{self, Destination, Dispatch, Plan, Request, Slot, SlotKind};
use crate::tensor::Tensor;

/// Bytes of plans (uniforms and structure) that a device keeps; the least recently used go first.
const PLAN_BYTES: u64 = 64 << 20;
/// Plans that a device keeps at most.
const PLAN_COUNT: usize = 256;

/// Counts since a device was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Submissions.
    pub runs: u64,
    /// Plans made.
    pub plans_made: u64,
    /// Runs that found their plan.
    pub plans_found: u64,
    /// Dispatches of the last run.
    pub dispatches: usize,
    /// Readable form of the last plan that was made.
    pub last_plan: String,
}

/// What a device keeps between runs.
#[derive(Default)]
pub(crate) struct Engine {
    plans: HashMap<u64, Vec<Entry>, BuildHasherDefault<DefaultHasher>>,
    words: Vec<u64>,
    clock: u64,
    pub statistics: Statistics,
    in_flight: Vec<(Arc<ReadCell>, u64)>,
    /// False in the test mode that gives every op its own kernel.
    pub unfused: bool,
}

/// A cached plan.
struct Entry {
    words: Vec<u64>,
    compiled: Compiled,
    /// For each leaf number of the plan: the node of the keyed snapshot that brings it.
    leaves: HashMap<usize, usize>,
    /// For each target of a step: whether the loss reaches it.
    reached: Vec<bool>,
    used: u64,
}

/// A plan with what its entry keeps beside it.
struct Made {
    plan: Plan,
    leaves: HashMap<usize, usize>,
    reached: Vec<bool>,
}

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

/// Runs what `roots` need and stores their values, and those of every node on the way that a user holds.
pub(crate) fn evaluate(device: &Device, roots: &[Arc<Node>]) -> Result<()> {
    device.take_failure()?;
    let engine = &mut *device.engine();
    let mut snapshot = Snapshot::collect(roots, false)?;
    if let Backend::Gpu(gpu) = device.backend()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(roots, false)?;
    }
    let outputs = wanted(&snapshot, |node| !node.has_value());
    match device.backend() {
        Backend::Cpu => {
            let values = cpu::interpret(&snapshot, &outputs)?;
            store_cpu(&snapshot, &outputs, &values);
            Ok(())
        }
        Backend::Gpu(gpu) => {
            engine.words.clear();
            engine.words.push(0);
            snapshot.words(&mut engine.words);
            engine.words.extend(outputs.iter().map(|&i| i as u64));
            let make = |unfused: bool| -> Result<Made> {
                let plan = plan::build(&Request {
                    snapshot: &snapshot,
                    outputs: outputs.iter().map(|&i| (i, Destination::Value)).collect(),
                    capabilities: gpu.capabilities(),
                    fusion: !unfused,
                    scalars: 0,
                })?;
                Ok(Made { plan, leaves: (0..snapshot.nodes.len()).map(|i| (i, i)).collect(), reached: vec![] })
            };
            engine.run(gpu, &snapshot, &outputs, make, None)
        }
    }
}

/// Roots and held nodes of a snapshot that have no value yet, as indices.
fn wanted(snapshot: &Snapshot, lacks: impl Fn(&Node) -> bool) -> Vec<usize> {
    let mut wanted: Vec<usize> = (0..snapshot.nodes.len())
        .filter(|&i| {
            let node = &snapshot.nodes[i];
            snapshot.leaves[i].is_none() && node.is_held() && lacks(node)
        })
        .collect();
    for &root in &snapshot.roots {
        let root = root as usize;
        if !wanted.contains(&root) && lacks(&snapshot.nodes[root]) {
            wanted.push(root);
        }
    }
    wanted
}

/// Gives uploads that are used again and again a buffer of their own. True if there were any.
fn promote(gpu: &Gpu, snapshot: &Snapshot) -> Result<bool> {
    let mut any = false;
    for node in &snapshot.nodes {
        if let Source::Upload { data, uses, .. } = &node.source
            && !node.has_value()
            && uses.fetch_add(1, Ordering::Relaxed) >= 2
        {
            node.set_value(Value::Gpu(gpu.upload(data, node.meta.dtype)?));
            any = true;
        }
    }
    Ok(any)
}

fn store_cpu(snapshot: &Snapshot, outputs: &[usize], values: &[Option<Arc<crate::array::Array>>]) {
    for &i in outputs {
        if let Some(value) = &values[i] {
            snapshot.nodes[i].set_value(Value::Cpu(value.clone()));
        }
    }
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
    // What a user holds and has not read is computed before the parameters change.
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
            let make = |unfused| plan_step(loss, update, &snapshot, &outputs, &targets, gpu, unfused);
            engine.run(gpu, &snapshot, &outputs, make, Some(update))
        }
    };
    if result.is_ok() && update.changes_parameters() {
        update.store().advance();
    }
    result
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
    let held: Vec<Arc<Node>> = outputs.iter().map(|&i| snapshot.nodes[i].clone()).collect();
    let gradients = autograd::backward(loss, targets)?;
    let reached: Vec<bool> = gradients.iter().map(Option::is_some).collect();
    let mut roots = held.clone();
    roots.extend(gradients.iter().flatten().map(|gradient| gradient.node().clone()));
    let snapshot = Snapshot::collect(&roots, true)?;
    let keep: Vec<usize> = snapshot.roots.iter().map(|&root| root as usize).collect();
    let values = cpu::interpret(&snapshot, &keep)?;
    store_cpu(&snapshot, &keep[..held.len()], &values);
    let mut next = held.len();
    for (gradient, (_, destination)) in gradients.iter().zip(&destinations) {
        if gradient.is_none() {
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
    gpu: &Gpu,
    unfused: bool,
) -> Result<Made> {
    let place: HashMap<*const Node, usize> =
        keyed.nodes.iter().enumerate().map(|(i, node)| (Arc::as_ptr(node), i)).collect();
    let held: Vec<Arc<Node>> = outputs.iter().map(|&i| keyed.nodes[i].clone()).collect();
    let nodes: Vec<Arc<Node>> = targets.iter().map(|(node, _)| node.clone()).collect();
    let gradients = autograd::backward(loss, &nodes)?;
    let mut roots = held.clone();
    roots.extend(gradients.iter().flatten().map(|gradient| gradient.node().clone()));
    let snapshot = Snapshot::collect(&roots, true)?;
    let mut wanted: Vec<(usize, Destination)> =
        snapshot.roots[..held.len()].iter().map(|&i| (i as usize, Destination::Value)).collect();
    let reached: Vec<bool> = gradients.iter().map(Option::is_some).collect();
    let with_gradient = targets.iter().zip(&reached).filter(|(_, reached)| **reached);
    for (&root, ((_, destination), _)) in snapshot.roots[held.len()..].iter().zip(with_gradient) {
        wanted.push((root as usize, destination.clone()));
    }
    let scalars = update.scalars().len();
    let mut plan = plan::build(&Request {
        snapshot: &snapshot,
        outputs: wanted,
        capabilities: gpu.capabilities(),
        fusion: !unfused,
        scalars,
    })?;
    for ArenaKernel { kernel, arenas } in update.kernels(&reached, plan.scalars)? {
        append(&mut plan, kernel, arenas)?;
    }
    let mut leaves = HashMap::new();
    for (i, node) in snapshot.nodes.iter().enumerate() {
        if snapshot.leaves[i].is_some() {
            let keyed = place.get(&Arc::as_ptr(node)).copied();
            leaves.insert(i, keyed.ok_or_else(|| Error::internal("a gradient rule brought a leaf of its own"))?);
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
    });
    Ok(())
}

impl Engine {
    /// Looks the plan of `self.words` up, or makes it, and runs it over the leaves of `snapshot`.
    fn run(
        &mut self,
        gpu: &Gpu,
        snapshot: &Snapshot,
        outputs: &[usize],
        make: impl Fn(bool) -> Result<Made>,
        update: Option<&dyn Update>,
    ) -> Result<()> {
        self.words.push(u64::from(self.unfused));
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.words);
        self.clock += 1;
        let clock = self.clock;
        let place = |entries: &Vec<Entry>, words: &[u64]| entries.iter().position(|entry| entry.words == words);
        let known = self.plans.get(&hash).and_then(|entries| place(entries, &self.words));
        let known = match known {
            Some(known) => {
                self.statistics.plans_found += 1;
                known
            }
            None => {
                self.make_room();
                let Made { plan, leaves, reached } = make(self.unfused)?;
                self.statistics.last_plan = plan.to_string();
                self.statistics.plans_made += 1;
                let compiled = gpu.compile(plan)?;
                let entries = self.plans.entry(hash).or_default();
                entries.push(Entry { words: self.words.clone(), compiled, leaves, reached, used: clock });
                entries.len() - 1
            }
        };
        let Some(entry) = self.plans.get_mut(&hash).and_then(|entries| entries.get_mut(known)) else {
            return Err(Error::internal("a plan was dropped while it was made"));
        };
        entry.used = clock;
        let leaves = &entry.leaves;
        let leaf = |number: usize| -> Result<Leaf<'_>> {
            let node = leaves.get(&number).map(|&i| &snapshot.nodes[i]);
            let node = node.ok_or_else(|| Error::internal("a plan has a leaf that its graph lacks"))?;
            match (&node.source, node.value()) {
                (Source::Operand { words, .. }, _) => Ok(Leaf::Operand(*words)),
                (_, Some(Value::Gpu(value))) => Ok(Leaf::Stored(value)),
                (Source::Upload { data, .. }, None) => Ok(Leaf::Upload(data)),
                _ => Err(Error::internal(format!("leaf `{}` has no value", node.name()))),
            }
        };
        let scalars = update.map(Update::scalars).unwrap_or_default();
        let status = update.and_then(Update::status);
        let run = gpu.run(&mut entry.compiled, leaf, &scalars, status.as_deref())?;
        self.statistics.runs += 1;
        self.statistics.dispatches = entry.compiled.steps.len();
        for (&i, (buffer, cell)) in outputs.iter().zip(run.outputs) {
            let meta = snapshot.nodes[i].meta;
            snapshot.nodes[i].set_value(Value::Gpu(GpuValue::new(buffer, meta.elements(), meta.dtype, cell)));
        }
        if let Some(update) = update {
            update.reached(&entry.reached);
            self.in_flight.extend(run.status.map(|cell| (cell, update.number())));
        }
        self.report(snapshot.nodes.first().map(|node| &node.device));
        Ok(())
    }

    /// Passes on what finished steps reported.
    fn report(&mut self, device: Option<&Device>) {
        self.in_flight.retain(|(cell, number)| match cell.bytes() {
            Some(bytes) => {
                // The status: norm, factor, skipped, unused.
                if bytes[8..12] != [0; 4]
                    && let Some(device) = device
                {
                    device.fail_later(Error::NonFinite { step: *number });
                }
                false
            }
            None => true,
        });
    }

    /// Drops the least recently used plans beyond the budget.
    fn make_room(&mut self) {
        loop {
            let all =
                self.plans.iter().flat_map(|(hash, list)| list.iter().enumerate().map(move |(i, e)| (hash, i, e)));
            let (mut count, mut bytes, mut oldest) = (0, 0, None);
            for (&hash, i, entry) in all {
                count += 1;
                bytes += entry.compiled.bytes + entry.words.len() as u64 * 8;
                if oldest.is_none_or(|(_, _, used)| entry.used < used) {
                    oldest = Some((hash, i, entry.used));
                }
            }
            let Some((hash, i, _)) = oldest.filter(|_| count >= PLAN_COUNT || bytes >= PLAN_BYTES) else { return };
            if let Some(list) = self.plans.get_mut(&hash) {
                list.swap_remove(i);
            }
        }
    }

    /// Drops every plan: what follows is planned anew.
    pub fn forget_plans(&mut self) {
        self.plans.clear();
    }
}

impl Device {
    /// Drops every cached plan. For tests that compare a fresh plan with a cached one.
    #[doc(hidden)]
    pub fn forget_plans(&self) {
        self.engine().forget_plans();
    }

    /// Gives every op a kernel of its own: the test mode that fused plans are held to.
    #[doc(hidden)]
    pub fn set_fusion(&self, enabled: bool) {
        self.engine().unfused = !enabled;
    }

    /// The plan that running these tensors would take on a device with `capabilities`: what is fused, what is stored,
    /// in which order. It prints as one line a dispatch.
    ///
    /// # Errors
    /// The error that one of them carries, or what planning met.
    pub fn plan_for(
        &self,
        tensors: &[&Tensor],
        capabilities: &crate::kernel::Capabilities,
        fusion: bool,
    ) -> Result<Plan> {
        let roots: Vec<Arc<Node>> = tensors.iter().map(|tensor| tensor.node().clone()).collect();
        let snapshot = Snapshot::collect(&roots, false)?;
        let outputs = wanted(&snapshot, |node| !node.has_value());
        plan::build(&Request {
            snapshot: &snapshot,
            outputs: outputs.into_iter().map(|i| (i, Destination::Value)).collect(),
            capabilities,
            fusion,
            scalars: 0,
        })
    }

    /// Driver objects made so far by the device: (buffers, bind groups, pipelines). A cached step makes none.
    pub fn objects_made(&self) -> [u64; 3] {
        match self.backend() {
            Backend::Gpu(gpu) => gpu.made(),
            Backend::Cpu => [0; 3],
        }
    }

    /// The driver library's own counts of live (buffers, bind groups, compute pipelines, shader modules); zeros
    /// without the `counters` feature.
    #[doc(hidden)]
    pub fn driver_counters(&self) -> [isize; 4] {
        match self.backend() {
            Backend::Gpu(gpu) => gpu.driver_counters(),
            Backend::Cpu => [0; 4],
        }
    }

    /// Fills every scratch buffer and every result buffer that nobody holds with NaN, so that a kernel that leaves an
    /// element unwritten shows. For tests.
    #[doc(hidden)]
    pub fn poison_buffers(&self) -> Result<()> {
        let engine = self.engine();
        let Backend::Gpu(gpu) = self.backend() else { return Ok(()) };
        gpu.poison(engine.plans.values().flatten().map(|entry| &entry.compiled))
    }

    /// Runs what these tensors need in one submission, without waiting for it.
    ///
    /// # Errors
    /// The error that one of them carries, or what running them met.
    pub fn eval(&self, tensors: &[&Tensor]) -> Result<()> {
        if let Some(error) = tensors.iter().find_map(|tensor| tensor.error()) {
            return Err(error.clone());
        }
        let roots: Vec<Arc<Node>> =
            tensors.iter().map(|tensor| tensor.node().clone()).filter(|node| !node.has_value()).collect();
        if roots.is_empty() { Ok(()) } else { evaluate(self, &roots) }
    }
}

/// The elements of a node, run if needed.
pub(crate) async fn read(node: &Arc<Node>) -> Result<Arc<HostData>> {
    if let Some(error) = node.error() {
        return Err(error.clone());
    }
    let device = &node.device;
    if !node.has_value() {
        match &node.source {
            Source::Upload { data, .. } => return Ok(data.clone()),
            Source::Parameter(leaf) if !leaf.is_stale() => {
                device.take_failure()?;
                let values = leaf.arena.read(device, leaf.offset, node.meta.elements())?;
                settle(device)?;
                let data = if device.is_exact() {
                    HostData::F64(values)
                } else {
                    HostData::F32(values.iter().map(|&x| x as f32).collect())
                };
                return Ok(Arc::new(data));
            }
            _ => evaluate(device, std::slice::from_ref(node))?,
        }
    }
    match node.value() {
        Some(Value::Cpu(array)) => {
            device.take_failure()?;
            Ok(Arc::new(HostData::F64(array.data.clone())))
        }
        Some(Value::Gpu(value)) => {
            let Backend::Gpu(gpu) = device.backend() else {
                return Err(Error::internal("a GPU value on the reference device"));
            };
            let data = gpu.read_value(&value, true)?;
            settle(device)?;
            data.map(Arc::new).ok_or_else(|| Error::internal("a read gave nothing"))
        }
        None => Err(Error::internal("a run left its root without a value")),
    }
}

/// Collects the reports of finished steps and returns the first failure.
pub(crate) fn settle(device: &Device) -> Result<()> {
    device.engine().report(Some(device));
    device.take_failure()
}

/// The elements of a value if they are on the host already.
pub(crate) fn peek(value: &Value) -> Option<Arc<HostData>> {
    match value {
        Value::Cpu(array) => Some(Arc::new(HostData::F64(array.data.clone()))),
        Value::Gpu(_) => None,
    }
}
