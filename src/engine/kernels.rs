//! Kernels over arenas in a submission of their own: what changes parameters outside a step.

use rustc_hash::FxHashMap;

use super::handover::ArenaKernel;
use super::make::append;
use super::plans::Made;
use crate::device::Device;
use crate::dispatch::Plan;
use crate::error::{Error, Result};
use crate::graph::Snapshot;
use crate::kernel::{Capabilities, hash};
use crate::plan::{self, Request};
use crate::shader::Programs;
use crate::target::Target;

/// Stands before the words of such work where graphs have 0 and steps 1 or 2.
const WORK: u64 = 3;

/// Work over arenas.
pub struct Work<'a> {
    /// What it is.
    pub name: &'static str,
    /// Everything else that the kernels depend on besides host numbers.
    pub key: Vec<u64>,
    /// Host numbers.
    pub numbers: &'a [f64],
    /// The kernels, asked for when a plan is made; their host numbers begin at the word that is given.
    pub kernels: &'a dyn Fn(usize, &Capabilities) -> Result<Vec<ArenaKernel>>,
}

/// Runs kernels over arenas of a GPU, without waiting for them. The caller has entered the store.
pub(crate) fn run_kernels(device: &Device, work: &Work<'_>) -> Result<()> {
    let Some(gpu) = device.gpu() else { return Err(Error::internal("kernels on the reference device")) };
    let engine = &mut *device.engine();
    let snapshot = Snapshot::collect(&[], None)?;
    let numbers: Vec<u32> = work.numbers.iter().map(|&x| (x as f32).to_bits()).collect();
    engine.words.clear();
    engine.words.extend([WORK, hash(work.name.as_bytes())]);
    engine.words.extend(&work.key);
    let make = |_: bool, target: &Target| {
        Ok(Made { plan: plan_kernels(work, target)?, leaves: FxHashMap::default(), reached: vec![] })
    };
    engine.run(gpu, &snapshot, &[], make, &numbers, None)?;
    engine.report();
    Ok(())
}

/// The plan of such work; nothing is run.
pub(crate) fn plan_kernels(work: &Work<'_>, target: &Target) -> Result<Plan> {
    let snapshot = Snapshot::collect(&[], None)?;
    let scalars = work.numbers.len();
    let mut plan = plan::build(&Request { snapshot: &snapshot, outputs: vec![], target, fusion: true, scalars })?;
    let mut programs = Programs::default();
    let first = plan.scalars - plan.scalar_window;
    for ArenaKernel { kernel, arenas } in (work.kernels)(first, &target.capabilities)? {
        append(&mut plan, kernel, arenas, &mut programs)?;
    }
    Ok(plan)
}
