//! Computing what is recorded: collect, look the plan up or make it, run it, hand out the values.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::plans::Made;
use crate::array::Array;
use crate::cpu;
use crate::device::Device;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::graph::{Node, Snapshot, Source, Value};
use crate::plan::{self, Destination, Request};
use crate::profile::Phase;
use crate::target::Target;
use crate::tensor::outside_rules;
use crate::version::StoreState;

/// Runs what `roots` need and stores their values, and those of every node on the way that a user holds.
pub(crate) fn evaluate(device: &Device, roots: &[Arc<Node>]) -> Result<()> {
    roots.iter().try_for_each(|root| outside_rules("eval", root.at))?;
    roots.iter().try_for_each(|root| take_failure(&root.stores))?;
    compute(device, roots)
}

/// The failure of a step of one of `stores`, once.
pub(super) fn take_failure(stores: &[Arc<StoreState>]) -> Result<()> {
    stores.iter().try_for_each(|store| store.take_failure())
}

/// Computes what an update of `store` is about to take away.
pub(crate) fn evaluate_before_update(device: &Device, store: &Arc<StoreState>) -> Result<()> {
    let (own, others): (Vec<_>, Vec<_>) = store.before_update().into_iter().partition(|node| node.is_own());
    compute_for_others(device, others);
    if own.is_empty() { Ok(()) } else { compute(device, &own) }
}

/// Computes what other threads hold, in runs of its own: it must not enter the key of this thread's step, nor fail it.
pub(super) fn compute_for_others(device: &Device, mut nodes: Vec<Arc<Node>>) {
    nodes.sort_by_key(|node| node.thread());
    for of_one in nodes.chunk_by(|a, b| a.thread() == b.thread()) {
        if compute(device, of_one).is_err() {
            for node in of_one {
                compute(device, std::slice::from_ref(node)).unwrap_or_else(|error| node.fail(error));
            }
        }
    }
}

impl Device {
    /// Computes nodes, without a word about steps that failed.
    pub(crate) fn compute(&self, roots: &[Arc<Node>]) -> Result<()> {
        compute(self, roots)
    }
}

/// [`evaluate`] without a word about steps that failed.
fn compute(device: &Device, roots: &[Arc<Node>]) -> Result<()> {
    let engine = &mut *device.engine();
    // Another thread may have come first.
    if roots.iter().all(|root| root.has_value()) {
        return Ok(());
    }
    let span = device.span(Phase::Key, "collect");
    let mut snapshot = Snapshot::collect(roots, None)?;
    if let Some(gpu) = device.gpu()
        && promote(gpu, &snapshot)?
    {
        snapshot = Snapshot::collect(roots, None)?;
    }
    let outputs = wanted(&snapshot, 0, |node| !node.has_value());
    match device.gpu() {
        None => {
            let values = cpu::interpret(&snapshot, &outputs)?;
            store_cpu(&snapshot, &outputs, &values);
            Ok(())
        }
        Some(gpu) => {
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
            engine.run(gpu, &snapshot, &outputs, make, &[], None)?;
            engine.report();
            Ok(())
        }
    }
}

/// Roots (from number `first` on) and held nodes of a snapshot that have no value yet, as indices.
pub(super) fn wanted(snapshot: &Snapshot, first: usize, lacks: impl Fn(&Node) -> bool) -> Vec<usize> {
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
pub(super) fn promote(gpu: &Gpu, snapshot: &Snapshot) -> Result<bool> {
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

pub(super) fn store_cpu(snapshot: &Snapshot, outputs: &[usize], values: &[Option<Arc<Array>>]) {
    for &i in outputs {
        if let Some(value) = &values[i] {
            let meta = snapshot.nodes[i].meta;
            // A host number travels with room for the four words of a draw.
            let own = match value.data.get(..meta.elements()) {
                Some(own) if own.len() < value.data.len() => {
                    Arc::new(Array { shape: meta.shape, dtype: meta.dtype, data: own.to_vec() })
                }
                _ => value.clone(),
            };
            snapshot.nodes[i].set_value(Value::Cpu(own));
        }
    }
}
