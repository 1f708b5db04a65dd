//! Running what is recorded: collect, look the plan up or make it, run it, hand out the values.

mod check;
mod inspect;
mod refusal;
mod room;
mod step;
mod tune;
mod update;

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::cpu;
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu::{self, Compiled, Gpu, GpuValue, Leaf, ReadCell};
use crate::graph::{Node, ParameterLeaf, Snapshot, Source, Value};
use crate::host::HostData;
use crate::plan::{self, Destination, Plan, Request};
use crate::profile::Phase;
use crate::target::Target;
use crate::tensor::outside_rules;
use crate::version::StoreState;

pub use refusal::Author;
pub(crate) use room::with_room;
pub(crate) use step::{Gradients, step, step_plan};
pub use update::{ArenaKernel, Beside, Bound, Found, Update};

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
    /// Steps whose status is on its way, with their numbers and whose they are.
    in_flight: Vec<(Arc<ReadCell>, u64, Arc<Author>)>,
    /// True in the test mode that gives every op its own kernel.
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

/// Runs what `roots` need and stores their values, and those of every node on the way that a user holds.
pub(crate) fn evaluate(device: &Device, roots: &[Arc<Node>]) -> Result<()> {
    roots.iter().try_for_each(|root| outside_rules("eval", root.at))?;
    roots.iter().try_for_each(|root| take_failure(&root.stores))?;
    compute(device, roots)
}

/// The failure of a step of one of `stores`, once.
fn take_failure(stores: &[Arc<StoreState>]) -> Result<()> {
    stores.iter().try_for_each(|store| store.take_failure())
}

/// Computes what an update of `store` is about to take away.
pub(crate) fn evaluate_before_update(device: &Device, store: &Arc<StoreState>) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = store.before_update().into_iter().partition(|node| node.is_own());
    compute_for_others(device, others);
    if own.is_empty() { Ok(()) } else { compute(device, &own) }
}

/// Computes what other threads hold, in runs of its own: it must not enter the key of this thread's step, nor fail it.
fn compute_for_others(device: &Device, mut nodes: Vec<Arc<Node>>) {
    nodes.sort_by_key(|node| node.thread());
    for of_one in nodes.chunk_by(|a, b| a.thread() == b.thread()) {
        if compute(device, of_one).is_err() {
            for node in of_one {
                compute(device, std::slice::from_ref(node)).unwrap_or_else(|error| node.fail(error));
            }
        }
    }
}

/// [`evaluate`] without a word about steps that failed.
pub(crate) fn compute(device: &Device, roots: &[Arc<Node>]) -> Result<()> {
    let engine = &mut *device.engine();
    // Another thread may have come first.
    if roots.iter().all(|root| root.has_value()) {
        return Ok(());
    }
    let span = device.span(Phase::Key, "collect");
    let mut snapshot = Snapshot::collect(roots, None)?;
    if let Backend::Gpu(gpu) = device.backend()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(roots, None)?;
    }
    let outputs = wanted(&snapshot, 0, |node| !node.has_value());
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
            drop(span);
            let make = |unfused: bool, target: &Target| -> Result<Made> {
                let plan = plan::build(&Request {
                    snapshot: &snapshot,
                    outputs: outputs.iter().map(|&i| (i, Destination::Value)).collect(),
                    target,
                    fusion: !unfused,
                    scalars: 0,
                })?;
                Ok(Made { plan, leaves: (0..snapshot.nodes.len()).map(|i| (i, i)).collect(), reached: vec![] })
            };
            engine.run(gpu, &snapshot, &outputs, make, None).map(drop)
        }
    }
}

/// Roots (from number `first` on) and held nodes of a snapshot that have no value yet, as indices.
fn wanted(snapshot: &Snapshot, first: usize, lacks: impl Fn(&Node) -> bool) -> Vec<usize> {
    let mut is_wanted: Vec<bool> = (0..snapshot.nodes.len())
        .map(|i| {
            let node = &snapshot.nodes[i];
            snapshot.leaves[i].is_none() && node.is_held() && lacks(node)
        })
        .collect();
    let mut wanted: Vec<usize> = (0..snapshot.nodes.len()).filter(|&i| is_wanted[i]).collect();
    for &root in &snapshot.roots[first..] {
        let root = root as usize;
        if !is_wanted[root] && lacks(&snapshot.nodes[root]) {
            is_wanted[root] = true;
            wanted.push(root);
        }
    }
    wanted
}

/// Runs of an upload before it gets a buffer of its own: a batch that is read a few times, then stepped on, must not.
const PROMOTE_AFTER: u32 = 8;

/// Gives uploads that are used again and again a buffer of their own. True if there were any.
fn promote(gpu: &Gpu, snapshot: &Snapshot) -> Result<bool> {
    let mut any = false;
    for node in &snapshot.nodes {
        if let Source::Upload { data, uses, .. } = &node.source
            && !node.has_value()
            && uses.fetch_add(1, Ordering::Relaxed) >= PROMOTE_AFTER
        {
            match gpu.upload(data, node.meta.dtype) {
                Ok(value) => {
                    node.set_value(Value::Gpu(value));
                    any = true;
                }
                // Then it goes on through staging, and asks again later.
                Err(Error::OutOfMemory { .. }) => uses.store(0, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
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

impl Engine {
    /// [`Engine::run`], once.
    fn attempt(
        &mut self,
        gpu: &Gpu,
        snapshot: &Snapshot,
        outputs: &[usize],
        make: &impl Fn(bool, &Target) -> Result<Made>,
        update: Option<&dyn Update>,
    ) -> Result<Option<gpu::Buffer>> {
        let recorder = gpu.recorder();
        let span = recorder.span(Phase::Key, "look up");
        let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one(&self.words);
        self.clock += 1;
        let clock = self.clock;
        let place = |entries: &Vec<Entry>, words: &[u64]| entries.iter().position(|entry| entry.words == words);
        let known = self.plans.get(&hash).and_then(|entries| place(entries, &self.words));
        drop(span);
        let known = match known {
            Some(known) => {
                self.statistics.plans_found += 1;
                known
            }
            None => {
                self.make_room();
                let (compiled, leaves, reached) = self.compile(gpu, make)?;
                let entries = self.plans.entry(hash).or_default();
                entries.push(Entry { words: self.words.clone(), compiled, leaves, reached, used: clock });
                entries.len() - 1
            }
        };
        let outgrows =
            |entries: &Vec<Entry>| entries.get(known).is_some_and(|entry| gpu.outgrow_scratch(&entry.compiled.plan));
        if self.plans.get(&hash).is_some_and(outgrows) {
            // Two sets of scratch may not fit: no other plan shall keep the old one.
            self.plans.values_mut().flatten().for_each(|entry| entry.compiled.forget_scratch());
        }
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
        let mut results = run.outputs.into_iter();
        for (&i, (buffer, cell)) in outputs.iter().zip(&mut results) {
            let meta = snapshot.nodes[i].meta;
            snapshot.nodes[i].set_value(Value::Gpu(GpuValue::new(buffer, meta.elements(), meta.dtype, cell)));
        }
        if let Some(update) = update {
            update.reached(&entry.reached);
            self.in_flight.extend(run.status.map(|cell| (cell, update.number(), update.author().clone())));
        }
        self.report();
        Ok(results.next().map(|(buffer, _)| buffer))
    }

    /// Makes a plan and its pipelines. Where the driver refuses a kernel that there is another way for, the device has
    /// learnt to do without it, and the plan is made again.
    fn compile(
        &mut self,
        gpu: &Gpu,
        make: &impl Fn(bool, &Target) -> Result<Made>,
    ) -> Result<(Compiled, HashMap<usize, usize>, Vec<bool>)> {
        loop {
            let span = gpu.recorder().span(Phase::Plan, "plan");
            let target = gpu.target();
            let Made { mut plan, leaves, reached } = make(self.unfused, &target).map_err(|error| match error {
                Error::Limit { what, bytes, limit, next, .. } => {
                    Error::Limit { what, bytes, limit, next, device: gpu.info().name.clone() }
                }
                other => other,
            })?;
            self.statistics.last_plan = plan.to_string();
            self.statistics.plans_made += 1;
            drop(span);
            if !plan.open.is_empty() {
                // Decided now, for good: the same plan again finds nothing open.
                self.tune(gpu, std::mem::take(&mut plan.open))?;
                continue;
            }
            match gpu.compile(plan) {
                Ok(compiled) => return Ok((compiled, leaves, reached)),
                // Each turn gives up a feature or a variant: there is an end.
                Err(_) if !Arc::ptr_eq(&target, &gpu.target()) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Passes on what finished steps reported, each to its own store.
    pub fn report(&mut self) {
        self.in_flight.retain(|(cell, number, author)| match cell.bytes() {
            Some(bytes) => {
                let status: Vec<f64> = bytes[..16]
                    .chunks_exact(4)
                    .map(|word| f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])))
                    .collect();
                if let Some(error) = refusal::failure(&status, *number, author) {
                    author.refuse(error);
                }
                false
            }
            None => true,
        });
    }

    /// Takes a step out of those that report later; false if it has reported already.
    fn forget_step(&mut self, number: u64, author: &Arc<Author>) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|(_, other, whose)| *other != number || !Arc::ptr_eq(whose, author));
        self.in_flight.len() < before
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

/// The elements of a node, run if needed.
pub(crate) fn read(node: &Arc<Node>) -> Result<Arc<HostData>> {
    if let Some(error) = node.error() {
        return Err(error.clone());
    }
    outside_rules("read", node.at)?;
    let device = &node.device;
    if !node.has_value() {
        match &node.source {
            Source::Upload { data, .. } => return Ok(data.clone()),
            Source::Parameter(leaf) => match read_parameter(node, leaf)? {
                Some(data) => return Ok(Arc::new(data)),
                None => evaluate(device, std::slice::from_ref(node))?,
            },
            _ => evaluate(device, std::slice::from_ref(node))?,
        }
    }
    match node.value() {
        Some(Value::Cpu(array)) => {
            take_failure(&node.stores)?;
            Ok(Arc::new(HostData::F64(array.data.clone())))
        }
        Some(Value::Gpu(value)) => {
            let Backend::Gpu(gpu) = device.backend() else {
                return Err(Error::internal("a GPU value on the reference device"));
            };
            let data = with_room(device, || gpu.read_value(&value, true))?;
            settle(node)?;
            data.map(Arc::new).ok_or_else(|| Error::internal("a read gave nothing"))
        }
        None => Err(Error::internal("a run left its root without a value")),
    }
}

/// The present values of a parameter, if they are those of the leaf.
fn read_parameter(node: &Node, leaf: &ParameterLeaf) -> Result<Option<HostData>> {
    let device = &node.device;
    take_failure(&node.stores)?;
    let gate = leaf.store.enter();
    if leaf.is_stale() || node.has_value() {
        return Ok(None);
    }
    let values = leaf.arena.read(device, leaf.offset, node.meta.elements())?;
    drop(gate);
    settle(node)?;
    Ok(Some(match device.is_exact() {
        true => HostData::F64(values),
        false => HostData::F32(values.iter().map(|&x| x as f32).collect()),
    }))
}

/// [`read`] without blocking the thread: what is recorded is submitted now, and a thread of its own does the waiting.
pub(crate) async fn read_async(node: Arc<Node>) -> Result<Arc<HostData>> {
    outside_rules("read", node.at)?;
    if !node.has_value() && matches!(node.source, Source::Op(_) | Source::Result { .. }) && !node.device.is_cpu() {
        evaluate(&node.device, std::slice::from_ref(&node))?;
    }
    let (sender, receiver) = futures_intrusive::channel::shared::oneshot_channel();
    let (waited, again) = (node.clone(), node);
    let thread = std::thread::Builder::new().name("kiln read".into()).spawn(move || {
        // The reader may be gone: then nobody wants the value.
        let _ = sender.send(read(&waited));
    });
    match thread {
        Ok(_) => match receiver.receive().await {
            Some(result) => result,
            None => Err(Error::internal("a read ended without a result")),
        },
        // No thread to be had: wait here.
        Err(_) => read(&again),
    }
}

/// Collects the reports of finished steps and returns the failure of one that `node` is concerned with.
fn settle(node: &Node) -> Result<()> {
    node.device.engine().report();
    take_failure(&node.stores)
}

/// The elements of a value if they are on the host already.
pub(crate) fn peek(value: &Value) -> Option<Arc<HostData>> {
    match value {
        Value::Cpu(array) => Some(Arc::new(HostData::F64(array.data.clone()))),
        Value::Gpu(_) => None,
    }
}
