//! Reading back: a ring of small buffers that results are copied to by the submission that computes them.

use std::sync::{Arc, Mutex, OnceLock};

use super::driver::{Gpu, lock};
use super::memory::Buffer;
use super::value::{GpuValue, SLOT, Trip};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::host::HostData;
use crate::wait::{self, ARRIVED, Awaited, Bytes, FAILED, Key, PENDING, Signal, TAKEN};

/// Most naps of 50 microseconds (10 s in all) until a callback whose submission has run.
const NAPS: usize = 200_000;

/// Lets another thread, whose poll has taken the callback of a finished submission, run it.
fn await_callback(state: &Signal) {
    for _ in 0..NAPS {
        if state.get() != PENDING {
            return;
        }
        std::thread::sleep(std::time::Duration::from_micros(50));
    }
}

/// Bytes on their way to the host.
pub(super) struct Reading {
    staging: Buffer,
    bytes: u64,
    state: Arc<Signal>,
}

impl Reading {
    /// Copies the bytes of these buffers once what has been encoded has run.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, parts: &[(&Buffer, u64, u64)]) {
        let mut to = 0;
        for &(buffer, offset, bytes) in parts {
            encoder.copy_buffer_to_buffer(buffer.raw(), offset, self.staging.raw(), to, bytes);
            to += bytes;
        }
        let arrived = self.state.clone();
        encoder.map_buffer_on_submit(self.staging.raw(), wgpu::MapMode::Read, .., move |result| {
            arrived.set(if result.is_ok() { ARRIVED } else { FAILED });
        });
    }

    /// The wait for them, with the submission that brings them.
    pub fn awaited(self, gpu: &Gpu, submission: wgpu::SubmissionIndex) -> Awaited {
        let Reading { staging, bytes, state } = self;
        let (sitting, waited) = (gpu.clone(), state.clone());
        let (gpu, signal) = (gpu.clone(), state.clone());
        let take = move || {
            gpu.check()?;
            if state.get() != ARRIVED {
                return Err(gpu.refused("a read", "the buffer could not be mapped".into()));
            }
            let view = staging.raw().get_mapped_range(..bytes);
            let data = view.map_err(|error| Error::internal(format!("a read: {error}")))?.to_vec();
            staging.raw().unmap();
            Ok(Arc::new(data))
        };
        let sit = move || sitting.sit(&waited, Some(submission));
        Awaited { signal, sit: Box::new(sit), take: Box::new(take) }
    }
}

impl Gpu {
    /// A ring buffer for the small results of the next submission.
    pub(super) fn trip(&self) -> Result<Arc<Trip>> {
        let mut idle = lock(&self.0.reads).idle.pop();
        if idle.is_none() {
            let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
            // As many as can be in flight, at once: how many a loop needs must not depend on timing.
            for made in 0..self.in_turn() {
                match self.buffer("read-back", SLOT, usage) {
                    Ok(buffer) => lock(&self.0.reads).idle.push(buffer),
                    Err(Error::OutOfMemory { .. }) if made > 0 => break,
                    Err(error @ Error::OutOfMemory { .. }) => {
                        // One that is under way will do, after a wait.
                        self.wait_for_room()?;
                        self.collect()?;
                        if lock(&self.0.reads).idle.is_empty() {
                            return Err(error);
                        }
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            idle = lock(&self.0.reads).idle.pop();
        }
        let Some(buffer) = idle else { return Err(Error::internal("no read-back buffer was made")) };
        let trip = Arc::new(Trip {
            buffer: Mutex::new(Some(buffer)),
            state: Signal::new(),
            data: Mutex::new(vec![]),
            submission: OnceLock::new(),
        });
        lock(&self.0.reads).flying.push(trip.clone());
        Ok(trip)
    }

    /// Bytes that a run needs for its small results beyond what is there.
    pub(super) fn read_back_bytes(&self) -> u64 {
        let ring = lock(&self.0.reads);
        if ring.idle.is_empty() && ring.flying.is_empty() { SLOT } else { 0 }
    }

    /// Lets go of a ring buffer whose run was not submitted.
    pub(super) fn discard_trip(&self, trip: &Arc<Trip>) {
        lock(&self.0.reads).flying.retain(|other| !Arc::ptr_eq(other, trip));
        trip.state.set(FAILED);
        lock(&trip.buffer).take();
    }

    /// Gives back the ring buffers that no run uses.
    pub(super) fn give_back_read_back(&self) {
        lock(&self.0.reads).idle.clear();
    }

    /// Takes what has arrived and gives its buffers back to the ring.
    pub fn collect(&self) -> Result<()> {
        self.progress()?;
        let ring = &mut *lock(&self.0.reads);
        for trip in std::mem::take(&mut ring.flying) {
            match trip.state.get() {
                ARRIVED => {
                    let Some(buffer) = lock(&trip.buffer).take() else { continue };
                    let view = buffer.raw().get_mapped_range(..);
                    let view = view.map_err(|error| Error::internal(format!("read-back: {error}")))?;
                    *lock(&trip.data) = view.to_vec();
                    drop(view);
                    buffer.raw().unmap();
                    trip.state.set(TAKEN);
                    ring.idle.push(buffer);
                }
                PENDING => ring.flying.push(trip),
                _ => {}
            }
        }
        Ok(())
    }

    /// The elements of a value; waits for them where `wait` is set, else gives `None` if they are not there yet.
    pub fn read_value(&self, value: &GpuValue, wait: bool) -> Result<Option<HostData>> {
        let unpack = |bytes: &[u8]| Ok(Some(self.unpack(bytes, value.elements, value.dtype)));
        let Some(cell) = &value.read else {
            if !wait {
                return Ok(None);
            }
            return unpack(&self.read(&value.buffer, 0, self.value_bytes(value))?);
        };
        if let Some(bytes) = cell.bytes() {
            return unpack(&bytes);
        }
        self.collect()?;
        if let Some(bytes) = cell.bytes() {
            return unpack(&bytes);
        }
        if wait {
            // Only for the submission that brings it: later steps stay queued.
            let (gpu, trip) = (self.clone(), cell.trip.clone());
            let state = trip.state.clone();
            wait::wait(Key::Signal(state.id), || {
                Ok(Awaited::end(state, move || gpu.sit(&trip.state, trip.submission.get().cloned())))
            })?;
            self.collect()?;
        }
        match cell.bytes() {
            Some(bytes) => unpack(&bytes),
            None if cell.failed() || wait => {
                self.check()?;
                Err(self.refused("a read-back", "the buffer could not be mapped".into()))
            }
            None => Ok(None),
        }
    }

    fn value_bytes(&self, value: &GpuValue) -> u64 {
        self.bytes_of(value.elements, value.dtype)
    }

    /// Bytes of so many elements, in whole words.
    pub fn bytes_of(&self, elements: usize, dtype: DType) -> u64 {
        let size = if dtype == DType::F16 && self.0.f16 { 2 } else { 4 };
        (elements as u64 * size).next_multiple_of(4)
    }

    /// `length` elements of a value from element `first`, a multiple of two, on. Waits for them.
    pub fn read_part(&self, value: &GpuValue, first: usize, length: usize) -> Result<HostData> {
        let (offset, bytes) = (self.bytes_of(first, value.dtype), self.bytes_of(length, value.dtype));
        Ok(self.unpack(&self.read(&value.buffer, offset, bytes)?, length, value.dtype))
    }

    /// Copies `bytes` of a buffer to the host and waits for them; piece by piece where there is no room for all.
    pub fn read(&self, buffer: &Buffer, offset: u64, bytes: u64) -> Result<Bytes> {
        let key = Key::Bytes(buffer.id(), offset, bytes);
        match wait::wait(key, || self.begin_read(&[(buffer, offset, bytes)])) {
            Err(Error::OutOfMemory { .. }) if bytes > SLOT => {
                let half = (bytes / 2).next_multiple_of(16);
                let mut data = Arc::unwrap_or_clone(self.read(buffer, offset, half)?);
                data.extend_from_slice(&self.read(buffer, offset + half, bytes - half)?);
                Ok(Arc::new(data))
            }
            other => other,
        }
    }

    /// The beginnings of several buffers, of so many bytes each, one behind the other: one wait for all, or one each where
    /// there is no room for all.
    pub fn read_together(&self, buffers: &[(Buffer, u64)]) -> Result<Vec<u8>> {
        let parts: Vec<_> = buffers.iter().map(|(buffer, bytes)| (buffer, 0, *bytes)).collect();
        let bytes = parts.iter().map(|(.., bytes)| bytes).sum();
        let Some((first, ..)) = buffers.first() else { return Ok(vec![]) };
        match wait::wait(Key::Bytes(first.id(), 0, bytes), || self.begin_read(&parts)) {
            Err(Error::OutOfMemory { .. }) if buffers.len() > 1 => {
                let each =
                    buffers.iter().map(|(buffer, bytes)| Ok(Arc::unwrap_or_clone(self.read(buffer, 0, *bytes)?)));
                Ok(each.collect::<Result<Vec<_>>>()?.concat())
            }
            other => other.map(Arc::unwrap_or_clone),
        }
    }

    fn begin_read(&self, parts: &[(&Buffer, u64, u64)]) -> Result<Awaited> {
        let reading = self.reading(parts)?;
        let submission = self.scoped("a read", || {
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            reading.encode(&mut encoder, parts);
            self.0.queue.submit([encoder.finish()])
        })?;
        Ok(reading.awaited(self, submission))
    }

    /// Room on the host's side for so many bytes of each buffer.
    pub(super) fn reading(&self, parts: &[(&Buffer, u64, u64)]) -> Result<Reading> {
        let bytes: u64 = parts.iter().map(|(.., bytes)| bytes).sum();
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Ok(Reading { staging: self.buffer("a read", bytes.max(4), usage)?, bytes, state: Signal::new() })
    }

    /// Waits on this thread until a submission has run and its callback has set `state`.
    pub(super) fn sit(&self, state: &Signal, submission_index: Option<wgpu::SubmissionIndex>) -> Result<()> {
        self.poll(wgpu::PollType::Wait { submission_index, timeout: None })?;
        await_callback(state);
        Ok(())
    }
}
