//! Buffers, their accounting, and the scratch that all plans of a device share.

use std::sync::atomic::Ordering;

use super::driver::{Gpu, IN_FLIGHT, lock};
use super::memory::Buffer;
use super::value::GpuValue;
use crate::dispatch::{ArenaRef, Plan};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostData;
use crate::kernel::WHOLE;

const STORAGE: wgpu::BufferUsages =
    wgpu::BufferUsages::STORAGE.union(wgpu::BufferUsages::COPY_SRC).union(wgpu::BufferUsages::COPY_DST);

impl Gpu {
    /// A storage buffer of at least `bytes`.
    pub fn storage(&self, label: &str, bytes: u64) -> Result<Buffer> {
        let bytes = bytes.max(4).next_multiple_of(WHOLE);
        if bytes > self.0.max_buffer_size {
            return Err(Error::Limit {
                what: label.into(),
                bytes,
                limit: self.0.max_buffer_size,
                device: self.0.info.name.clone(),
                next: "use a smaller batch, or split the tensor",
            });
        }
        self.buffer(label, bytes, STORAGE)
    }

    pub(super) fn buffer(&self, label: &str, bytes: u64, usage: wgpu::BufferUsages) -> Result<Buffer> {
        self.count(0, 1);
        let made = self.scoped(label, || Buffer::create(&self.0.device, &self.0.memory, label, bytes, usage));
        match made {
            Err(Error::OutOfMemory { what, used, limit, .. }) => Err(Error::OutOfMemory { what, bytes, used, limit }),
            other => other?,
        }
    }

    /// Makes the buffer of an arena, zeros.
    pub fn make_arena(&self, arena: &ArenaRef) -> Result<()> {
        let buffer = self.storage(&arena.label, arena.elements as u64 * 4)?;
        lock(&self.0.arenas).insert(arena.id, buffer);
        Ok(())
    }

    /// Gives it back, once no plan's bind groups hold it.
    pub fn drop_arena(&self, arena: &ArenaRef) {
        let _buffer = lock(&self.0.arenas).remove(&arena.id);
    }

    /// The buffer of an arena.
    pub fn arena(&self, arena: &ArenaRef) -> Result<Buffer> {
        let found = lock(&self.0.arenas).get(&arena.id).cloned();
        found.ok_or_else(|| Error::internal(format!("arena `{}` is of another device, or gone", arena.label)))
    }

    /// The shared scratch buffers of at least these sizes, and their generation.
    pub(super) fn scratch(&self, sizes: &[u64]) -> Result<(Vec<Buffer>, u64)> {
        let mut scratch = lock(&self.0.scratch);
        for (i, &bytes) in sizes.iter().enumerate() {
            if scratch.buffers.get(i).is_none_or(|buffer| buffer.bytes() < bytes) {
                if i < scratch.buffers.len() {
                    // Give the old one back first: both may not fit.
                    scratch.buffers.truncate(i);
                    scratch.generation += 1;
                }
                let buffer = self.storage("scratch", bytes)?;
                scratch.buffers.push(buffer);
            }
        }
        Ok((scratch.buffers[..sizes.len()].to_vec(), scratch.generation))
    }

    /// Gives back the scratch buffers that are too small for `plan`, with all after them; true if there were any. What was
    /// made to bind them is then stale.
    pub fn outgrow_scratch(&self, plan: &Plan) -> bool {
        let scratch = &mut *lock(&self.0.scratch);
        let small = scratch.buffers.iter().zip(&plan.scratch).position(|(buffer, &bytes)| buffer.bytes() < bytes);
        if let Some(first) = small {
            scratch.buffers.truncate(first);
            scratch.generation += 1;
        }
        small.is_some()
    }

    /// `Err` if the buffers of `plan` would pass the memory limit, with `numbers` bytes of uniforms and queues, and what the
    /// host's data and small results pass through: found before any of them is made.
    pub(super) fn check_fits(&self, plan: &Plan, numbers: u64) -> Result<()> {
        let passing = self.staging_bytes(plan) + self.read_back_bytes();
        let scratch = lock(&self.0.scratch);
        // As [`Gpu::scratch`] does: what is too small is given back with all after it.
        let held = |i: usize| scratch.buffers.get(i).map_or(0, Buffer::bytes);
        let kept = plan.scratch.iter().enumerate().take_while(|&(i, &bytes)| held(i) >= bytes).count();
        let freed: u64 = match kept == plan.scratch.len() {
            true => 0,
            false => scratch.buffers.iter().skip(kept).map(Buffer::bytes).sum(),
        };
        let results: u64 = plan.outputs.iter().map(|&slot| plan.slots[slot].bytes).sum();
        let bytes = plan.scratch[kept..].iter().sum::<u64>() + results + numbers + passing;
        let (used, limit) = (self.0.memory.usage().0.saturating_sub(freed), self.0.memory.limit());
        if used.saturating_add(bytes) <= limit {
            return Ok(());
        }
        let (count, peak) = (plan.dispatches.len(), plan.peak_bytes());
        let what = format!("a plan of {count} dispatches with {peak} bytes at peak (largest: {})", plan.largest());
        Err(Error::OutOfMemory { what, bytes, used, limit })
    }

    /// Gives back all that is kept for runs to come and that no plan's frame holds: scratch, staging, read-back. Waits for
    /// the device, which may still use them.
    pub fn give_back(&self) -> Result<()> {
        self.wait_for_room()?;
        self.collect()?;
        {
            let scratch = &mut *lock(&self.0.scratch);
            scratch.buffers.clear();
            scratch.generation += 1;
        }
        self.give_back_staging();
        self.give_back_read_back();
        // The driver frees what was dropped when it is asked next.
        self.progress()
    }

    /// While it is on, nothing is made that a run can do without.
    pub fn be_frugal(&self, on: bool) {
        self.0.frugal.store(on, Ordering::Relaxed);
    }

    /// How many buffers of a kind that steps take in turn are to be there.
    pub(super) fn in_turn(&self) -> usize {
        if self.0.frugal.load(Ordering::Relaxed) { 1 } else { IN_FLIGHT + 1 }
    }

    /// Changes the memory limit; for tests.
    pub fn limit_memory(&self, bytes: u64, by_driver: bool) {
        self.0.memory.set_limit(bytes, by_driver);
    }

    pub(super) fn scratch_generation(&self) -> u64 {
        lock(&self.0.scratch).generation
    }

    /// Writes host data that is copied before the next submission.
    pub fn write(&self, buffer: &Buffer, offset: u64, bytes: &[u8]) -> Result<()> {
        self.scoped("a write", || self.0.queue.write_buffer(buffer.raw(), offset, bytes))
    }

    /// Copies the first bytes of a buffer to another, behind what was submitted before.
    pub fn copy(&self, from: &Buffer, to: &Buffer, bytes: u64) -> Result<()> {
        self.scoped("a copy", || {
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            encoder.copy_buffer_to_buffer(from.raw(), 0, to.raw(), 0, bytes);
            self.0.queue.submit([encoder.finish()]);
        })
    }

    /// Hands over what was written, and waits: what the driver's library keeps of it until then is given back.
    pub fn flush(&self) -> Result<()> {
        self.scoped("a write", || self.0.queue.submit([]))?;
        self.wait_for_room()
    }

    /// A buffer of its own for an upload that several runs use.
    pub fn upload(&self, data: &HostData, dtype: DType) -> Result<GpuValue> {
        let buffer = self.storage("a tensor", self.upload_bytes(data) as u64)?;
        let mut bytes = vec![0; self.upload_bytes(data)];
        self.pack(data, &mut bytes);
        bytes.resize(bytes.len().next_multiple_of(16), 0);
        self.write(&buffer, 0, &bytes)?;
        Ok(GpuValue::new(buffer, data.len(), dtype, None))
    }

    /// Bytes that `data` takes in a buffer.
    pub fn upload_bytes(&self, data: &HostData) -> usize {
        match data {
            HostData::F16(values) if self.0.f16 => values.len() * 2,
            other => other.len() * 4,
        }
    }

    /// Writes `data` as a buffer holds it.
    pub fn pack(&self, data: &HostData, out: &mut [u8]) {
        match data {
            HostData::F32(values) => out.copy_from_slice(bytemuck::cast_slice(values)),
            HostData::I32(values) => out.copy_from_slice(bytemuck::cast_slice(values)),
            HostData::U32(values) => out.copy_from_slice(bytemuck::cast_slice(values)),
            HostData::F16(values) if self.0.f16 => out.copy_from_slice(bytemuck::cast_slice(values)),
            HostData::F16(values) => {
                for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                    bytes.copy_from_slice(&value.to_f32().to_le_bytes());
                }
            }
            HostData::F64(values) => {
                for (bytes, value) in out.chunks_exact_mut(4).zip(values) {
                    bytes.copy_from_slice(&(*value as f32).to_le_bytes());
                }
            }
        }
    }

    /// Turns a buffer's bytes into host data.
    pub fn unpack(&self, bytes: &[u8], elements: usize, dtype: DType) -> HostData {
        match dtype {
            DType::F16 if self.0.f16 => HostData::F16(bytemuck::pod_collect_to_vec(&bytes[..elements * 2])),
            DType::F16 => {
                let floats: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes[..elements * 4]);
                HostData::F16(floats.into_iter().map(half::f16::from_f32).collect())
            }
            DType::F32 => HostData::F32(bytemuck::pod_collect_to_vec(&bytes[..elements * 4])),
            DType::I32 => HostData::I32(bytemuck::pod_collect_to_vec(&bytes[..elements * 4])),
            DType::U32 | DType::Bool => HostData::U32(bytemuck::pod_collect_to_vec(&bytes[..elements * 4])),
        }
    }
}
