//! The plans of a device: looked up by the words of a graph, or made; run over its leaves; dropped where room is wanted.
//!
//! What a device keeps for runs to come is given back before one is refused, and a run that is refused all the same leaves
//! nothing behind. So what fits a new device fits one that has refused something larger.

use std::cell::Cell;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::sync::{Arc, Mutex};

use rustc_hash::{FxHashMap, FxHasher};

use super::refusal::{Author, failure};
use crate::device::Statistics;
use crate::dispatch::{ArenaRef, Plan};
use crate::error::{Error, Result};
use crate::gpu::{self, Compiled, Gpu, GpuValue, Leaf, ReadCell};
use crate::graph::{Snapshot, Source, Value};
use crate::profile::Phase;
use crate::target::Target;
use crate::wait::Awaited;

/// Bytes of plans (uniforms and structure) that a device keeps; the least recently used go first.
const PLAN_BYTES: u64 = 64 << 20;
/// Plans that a device keeps at most.
const PLAN_COUNT: usize = 256;

/// What a device keeps between runs.
#[derive(Default)]
pub(crate) struct Engine {
    pub plans: FxHashMap<u64, Vec<Entry>>,
    pub words: Vec<u64>,
    clock: u64,
    pub statistics: Statistics,
    /// Steps whose status is on its way, with their numbers and whose they are.
    in_flight: Vec<(Arc<ReadCell>, u64, Arc<Author>)>,
    /// True in the test mode that gives every op its own kernel.
    pub unfused: bool,
}

/// A cached plan.
pub struct Entry {
    pub words: Vec<u64>,
    pub compiled: Compiled,
    /// For each leaf number of the plan: the node of the keyed snapshot that brings it.
    pub leaves: FxHashMap<usize, usize>,
    /// For each target of a step: whether the loss reaches it.
    pub reached: Vec<bool>,
    pub used: u64,
}

/// A plan with what its entry keeps beside it.
pub struct Made {
    pub plan: Plan,
    pub leaves: FxHashMap<usize, usize>,
    pub reached: Vec<bool>,
}

/// What a run gives besides the values that it stores in nodes.
pub struct Ran {
    /// The buffer of a result that no node stands for, if the plan has one.
    pub extra: Option<gpu::Buffer>,
    /// How the step went, on its way to the host.
    pub status: Option<Arc<ReadCell>>,
    /// For each target of a step: whether the loss reaches it.
    pub reached: Vec<bool>,
    /// What is read while the run goes on: the parts of the plan.
    pub parts: Vec<Awaited>,
}

thread_local! {
    /// True while this thread runs a plan, with its device's engine locked.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

fn is_refused<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::OutOfMemory { .. }))
}

impl Engine {
    /// Looks the plan of `self.words` up, or makes it, and runs it over the leaves of `snapshot`; where memory does not
    /// suffice, once more without what other runs have left.
    pub fn run(
        &mut self,
        gpu: &Gpu,
        snapshot: &Snapshot,
        outputs: &[usize],
        make: impl Fn(bool, &Target) -> Result<Made>,
        numbers: &[u32],
        status: Option<&ArenaRef>,
    ) -> Result<Ran> {
        // What an earlier call was refused late is told as it is, not taken for want of room here.
        gpu.check()?;
        self.words.push(u64::from(self.unfused));
        if gpu.take_stale() {
            self.forget_plans();
        }
        let outer = RUNNING.replace(true);
        let mut result = self.attempt(gpu, snapshot, outputs, &make, numbers, status);
        // What plans hold besides their numbers, then the numbers of all plans.
        for forget in [Engine::forget_frames, Engine::forget_plans] {
            if !is_refused(&result) {
                break;
            }
            let used = gpu.memory().0;
            if let Err(error) = self.give_back(gpu, forget) {
                result = Err(error);
            } else if gpu.memory().0 < used {
                gpu.be_frugal(true);
                result = self.attempt(gpu, snapshot, outputs, &make, numbers, status);
                gpu.be_frugal(false);
            }
        }
        if is_refused(&result) {
            // A loss of the device meanwhile is told by what comes next.
            let _ = self.give_back(gpu, Engine::forget_plans);
        }
        RUNNING.set(outer);
        result
    }

    /// Drops what plans keep for runs to come: bind groups, and results that nobody holds.
    fn forget_frames(&mut self) {
        self.plans.values_mut().flatten().for_each(|entry| entry.compiled.frames.clear());
    }

    fn give_back(&mut self, gpu: &Gpu, forget: fn(&mut Engine)) -> Result<()> {
        forget(self);
        gpu.give_back()
    }

    /// [`Engine::run`], once.
    fn attempt(
        &mut self,
        gpu: &Gpu,
        snapshot: &Snapshot,
        outputs: &[usize],
        make: &impl Fn(bool, &Target) -> Result<Made>,
        numbers: &[u32],
        status: Option<&ArenaRef>,
    ) -> Result<Ran> {
        let recorder = gpu.recorder();
        let span = recorder.span(Phase::Key, "look up");
        let hash = BuildHasherDefault::<FxHasher>::default().hash_one(&self.words);
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
        let run = gpu.run(&mut entry.compiled, leaf, numbers, status)?;
        self.statistics.runs += 1;
        self.statistics.dispatches = entry.compiled.steps.len();
        let mut results = run.outputs.into_iter();
        for (&i, (buffer, cell)) in outputs.iter().zip(&mut results) {
            let meta = snapshot.nodes[i].meta;
            snapshot.nodes[i].set_value(Value::Gpu(GpuValue::new(buffer, meta.elements(), meta.dtype, cell)));
        }
        let reached = entry.reached.clone();
        Ok(Ran { extra: results.next().map(|(buffer, _)| buffer), status: run.status, reached, parts: run.parts })
    }

    /// Makes a plan and its pipelines. Where the driver refuses a kernel that there is another way for, the device has
    /// learnt to do without it, and the plan is made again.
    fn compile(
        &mut self,
        gpu: &Gpu,
        make: &impl Fn(bool, &Target) -> Result<Made>,
    ) -> Result<(Compiled, FxHashMap<usize, usize>, Vec<bool>)> {
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

    /// Passes on what finished steps reported, each to its own store.
    pub fn report(&mut self) {
        self.in_flight.retain(|(cell, number, author)| match cell.bytes() {
            Some(bytes) => {
                let status: Vec<f64> = bytes[..16]
                    .chunks_exact(4)
                    .map(|word| f64::from(f32::from_le_bytes([word[0], word[1], word[2], word[3]])))
                    .collect();
                if let Some(error) = failure(&status, *number, author) {
                    author.refuse(error);
                }
                false
            }
            None => true,
        });
    }

    /// Notes a step whose status is on its way, and passes on those that have come.
    pub fn await_report(&mut self, status: Option<Arc<ReadCell>>, number: u64, author: &Arc<Author>) {
        self.in_flight.extend(status.map(|cell| (cell, number, author.clone())));
        self.report();
    }

    /// Takes a step out of those that report later; false if it has reported already.
    pub fn forget_step(&mut self, number: u64, author: &Arc<Author>) -> bool {
        let before = self.in_flight.len();
        self.in_flight.retain(|(_, other, whose)| *other != number || !Arc::ptr_eq(whose, author));
        self.in_flight.len() < before
    }
}

/// Runs `body`, which makes buffers on `gpu`; where memory does not suffice, once more without what runs have left.
pub fn with_room<T>(gpu: &Gpu, engine: &Mutex<Engine>, body: impl Fn() -> Result<T>) -> Result<T> {
    gpu.check()?;
    let result = body();
    // Within a run its own second try will do.
    if !is_refused(&result) || RUNNING.get() {
        return result;
    }
    engine.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).give_back(gpu, Engine::forget_plans)?;
    body()
}
