//! Staging buffers that stay mapped between steps: uploads create nothing once a training loop is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Buffer, Gpu, lock};
use crate::error::{Error, Result};

/// Mapped buffers, waiting or in use.
#[derive(Default)]
pub(crate) struct Staging {
    buffers: Vec<Stage>,
}

/// One staging buffer.
#[derive(Clone)]
pub(crate) struct Stage {
    pub buffer: Buffer,
    /// True while the host may write.
    mapped: Arc<AtomicBool>,
}

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
        // Replace one that is idle and too small rather than let the number grow.
        let idle = staging.buffers.iter().position(|stage| stage.mapped.load(Ordering::Acquire));
        if let Some(small) = idle {
            staging.buffers.swap_remove(small);
        }
        self.count(0, 1);
        let usage = wgpu::BufferUsages::MAP_WRITE | wgpu::BufferUsages::COPY_SRC;
        let bytes = bytes.next_multiple_of(4096);
        let buffer = self.scoped("staging", || {
            super::buffer::Buffer::create_mapped(&self.0.device, &self.0.memory, "staging", bytes, usage)
        })??;
        let stage = Stage { buffer, mapped: Arc::new(AtomicBool::new(false)) };
        staging.buffers.push(stage.clone());
        Ok(stage)
    }
}

impl Stage {
    /// Fills the mapped range and unmaps it, ready to be copied from.
    pub fn fill(&self, bytes: u64, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let raw = self.buffer.raw();
        {
            let mut view =
                raw.get_mapped_range_mut(..bytes).map_err(|error| Error::internal(format!("staging: {error}")))?;
            // The view is write-only memory: fill a host copy first, then one pass into it.
            let mut copy = vec![0; bytes as usize];
            write(&mut copy);
            view.copy_from_slice(&copy);
        }
        raw.unmap();
        Ok(())
    }

    /// Maps it again once the submission of `encoder` has run.
    pub fn recall(&self, encoder: &wgpu::CommandEncoder) {
        let mapped = self.mapped.clone();
        encoder.map_buffer_on_submit(self.buffer.raw(), wgpu::MapMode::Write, .., move |result| {
            mapped.store(result.is_ok(), Ordering::Release);
        });
    }
}
