//! Staging buffers that stay mapped between steps: uploads create nothing once a training loop is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::driver::{Gpu, lock};
use super::memory::{Buffer, Stage};
use crate::dispatch::Plan;
use crate::error::{Error, Result};

/// Staging buffers up to this size are made for every step in flight at once.
const EAGER: u64 = 16 << 20;

impl Gpu {
    /// A mapped staging buffer of at least `bytes`.
    pub(super) fn stage(&self, bytes: u64) -> Result<Stage> {
        let mut staging = lock(&self.0.staging);
        let fits = |stage: &&Stage| stage.buffer.bytes() >= bytes && stage.mapped.load(Ordering::Acquire);
        for attempt in 0..2 {
            if let Some(stage) = staging.buffers.iter().filter(fits).min_by_key(|stage| stage.buffer.bytes()) {
                stage.mapped.store(false, Ordering::Release);
                return Ok(stage.clone());
            }
            if attempt == 0 {
                self.progress()?;
            }
        }
        // Idle ones that are too small go first: the number stays bounded.
        let size = bytes.next_multiple_of(4096);
        staging.buffers.retain(|stage| stage.buffer.bytes() >= size || !stage.mapped.load(Ordering::Acquire));
        // As many as can be in flight, at once: how many a loop needs must not depend on timing.
        let wanted = if size <= EAGER { self.in_turn() } else { 1 };
        let have = staging.buffers.iter().filter(|stage| stage.buffer.bytes() >= size).count();
        for number in have.min(wanted - 1)..wanted {
            match self.mapped_buffer(size) {
                Ok(buffer) => staging.buffers.push(Stage { buffer, mapped: Arc::new(AtomicBool::new(true)) }),
                // Those that are there will do, if only after a wait.
                Err(Error::OutOfMemory { .. }) if have + number > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if !staging.buffers.iter().any(|stage| fits(&stage)) {
            self.wait_for_room()?;
        }
        let stage = staging.buffers.iter().find(fits).ok_or_else(|| Error::internal("no staging buffer came back"))?;
        stage.mapped.store(false, Ordering::Release);
        Ok(stage.clone())
    }

    /// Bytes that a run of `plan` needs for staging beyond what is there.
    pub(super) fn staging_bytes(&self, plan: &Plan) -> u64 {
        let uploads: u64 = plan.uploads.iter().map(|&(_, slot)| plan.slots[slot].bytes).sum();
        let bytes = (plan.operand_words as u64 * 4).next_multiple_of(16) + uploads;
        let is_there = lock(&self.0.staging).buffers.iter().any(|stage| stage.buffer.bytes() >= bytes);
        if is_there { 0 } else { bytes.next_multiple_of(4096) }
    }

    /// Lets go of a staging buffer that a run has taken and not submitted.
    pub(super) fn discard_stage(&self, stage: &Stage) {
        lock(&self.0.staging).buffers.retain(|other| other.buffer.id() != stage.buffer.id());
    }

    /// Gives back the staging buffers that no run uses.
    pub(super) fn give_back_staging(&self) {
        lock(&self.0.staging).buffers.retain(|stage| !stage.mapped.load(Ordering::Acquire));
    }

    fn mapped_buffer(&self, bytes: u64) -> Result<Buffer> {
        self.count(0, 1);
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        self.scoped("staging", || Buffer::create_mapped(&self.0.device, &self.0.memory, "staging", bytes, usage))?
    }
}
