//! Making room: what a device keeps for runs to come is given back before one is refused, and a run that is refused all the
//! same leaves nothing behind. So what fits a new device fits one that has refused something larger.

use std::cell::Cell;

use super::{Engine, Made};
use crate::device::{Backend, Device};
use crate::error::{Error, Result};
use crate::gpu::{self, Gpu};
use crate::graph::Snapshot;
use crate::target::Target;

use super::update::Update;

thread_local! {
    /// True while this thread runs a plan, with its device's engine locked.
    static RUNNING: Cell<bool> = const { Cell::new(false) };
}

fn is_refused<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::OutOfMemory { .. }))
}

impl Engine {
    /// Looks the plan of `self.words` up, or makes it, and runs it over the leaves of `snapshot`; where memory does not
    /// suffice, once more without what other runs have left. Gives the buffer of a result that no node stands for, if the
    /// plan has one.
    pub(super) fn run(
        &mut self,
        gpu: &Gpu,
        snapshot: &Snapshot,
        outputs: &[usize],
        make: impl Fn(bool, &Target) -> Result<Made>,
        update: Option<&dyn Update>,
    ) -> Result<Option<gpu::Buffer>> {
        self.words.push(u64::from(self.unfused));
        let outer = RUNNING.replace(true);
        let mut result = self.attempt(gpu, snapshot, outputs, &make, update);
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
                result = self.attempt(gpu, snapshot, outputs, &make, update);
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
}

/// Runs `body`, which makes buffers; where memory does not suffice, once more without what runs have left.
pub(crate) fn with_room<T>(device: &Device, body: impl Fn() -> Result<T>) -> Result<T> {
    let result = body();
    match device.backend() {
        // Within a run its own second try will do.
        Backend::Gpu(gpu) if is_refused(&result) && !RUNNING.get() => {
            device.engine().give_back(gpu, Engine::forget_plans)?;
            body()
        }
        _ => result,
    }
}
