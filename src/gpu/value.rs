//! Results of runs: values in buffers, and the small ones on their way to the host.

use std::sync::{Arc, Mutex, OnceLock};

use super::memory::Buffer;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::wait::{ARRIVED, FAILED, Signal, TAKEN};

/// Bytes of small results that one submission brings back.
pub(crate) const SLOT: u64 = 4096;

/// Small results of one submission, on their way to the host.
#[derive(Debug)]
pub(crate) struct ReadCell {
    pub(super) offset: usize,
    pub(super) bytes: usize,
    pub(super) trip: Arc<Trip>,
}

/// One buffer's journey.
#[derive(Debug)]
pub(crate) struct Trip {
    /// Given back to the ring as soon as it has arrived, however long the results are held.
    pub(super) buffer: Mutex<Option<Buffer>>,
    pub(super) state: Arc<Signal>,
    pub(super) data: Mutex<Vec<u8>>,
    /// What to wait for.
    pub submission: OnceLock<wgpu::SubmissionIndex>,
}

/// Buffers that wait for their next use.
#[derive(Default)]
pub(crate) struct Ring {
    pub(super) idle: Vec<Buffer>,
    pub(super) flying: Vec<Arc<Trip>>,
}

impl Trip {
    /// A part of it.
    pub fn cell(self: &Arc<Trip>, offset: u64, bytes: u64) -> Arc<ReadCell> {
        Arc::new(ReadCell { offset: offset as usize, bytes: bytes as usize, trip: self.clone() })
    }

    /// The buffer, until it has arrived.
    pub fn buffer(&self) -> Result<Buffer> {
        lock(&self.buffer).clone().ok_or_else(|| Error::internal("a read-back without its buffer"))
    }

    /// Maps `buffer`, its own, once the submission of `encoder` has run.
    pub fn launch(self: &Arc<Trip>, buffer: &Buffer, encoder: &wgpu::CommandEncoder) {
        let state = self.state.clone();
        encoder.map_buffer_on_submit(buffer.raw(), wgpu::MapMode::Read, .., move |result| {
            state.set(if result.is_ok() { ARRIVED } else { FAILED });
        });
    }
}

impl ReadCell {
    /// The bytes, if they have arrived.
    pub fn bytes(&self) -> Option<Vec<u8>> {
        if self.trip.state.get() != TAKEN {
            return None;
        }
        Some(lock(&self.trip.data)[self.offset..self.offset + self.bytes].to_vec())
    }

    pub(super) fn failed(&self) -> bool {
        self.trip.state.get() == FAILED
    }
}

/// A computed tensor on a GPU: all of a buffer.
#[derive(Debug)]
pub struct GpuValue {
    pub(crate) buffer: Buffer,
    pub(crate) elements: usize,
    pub(crate) dtype: DType,
    /// The elements on their way to the host, for small results.
    pub(crate) read: Option<Arc<ReadCell>>,
}

impl GpuValue {
    pub(crate) fn new(buffer: Buffer, elements: usize, dtype: DType, read: Option<Arc<ReadCell>>) -> GpuValue {
        buffer.hold();
        GpuValue { buffer, elements, dtype, read }
    }
}

impl Clone for GpuValue {
    fn clone(&self) -> Self {
        GpuValue::new(self.buffer.clone(), self.elements, self.dtype, self.read.clone())
    }
}

impl Drop for GpuValue {
    fn drop(&mut self) {
        self.buffer.release();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
