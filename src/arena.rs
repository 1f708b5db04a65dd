//! Arenas: flat runs of f32 that outlive plans.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::device::Device;
use crate::dispatch::ArenaRef;
use crate::error::{Error, Result};
use crate::host::HostData;

/// A flat run of f32 on a device (f64 on the reference) that outlives plans: parameters, gradients, optimizer state. A GPU
/// finds the buffer by the arena's number.
#[derive(Debug)]
pub struct Arena {
    /// What plans know of it.
    pub(crate) place: ArenaRef,
    /// Unique number.
    pub id: u64,
    /// Length.
    pub elements: usize,
    device: Device,
    /// Its values on the reference; empty on a GPU.
    reference: Mutex<Vec<f64>>,
}

impl Drop for Arena {
    fn drop(&mut self) {
        self.device.backend().drop_arena(&self.place);
    }
}

impl Device {
    /// A new arena of `elements` f32 zeros.
    pub(crate) fn arena(&self, label: &str, elements: usize) -> Result<Arc<Arena>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let place = ArenaRef { id, elements, label: label.into() };
        self.backend().make_arena(&place)?;
        let reference = Mutex::new(if self.is_cpu() { vec![0.0; elements] } else { vec![] });
        Ok(Arc::new(Arena { place, id, elements, device: self.clone(), reference }))
    }
}

impl Arena {
    /// The values of a reference arena, locked.
    pub(crate) fn cpu(&self) -> Result<MutexGuard<'_, Vec<f64>>> {
        match self.device.is_cpu() {
            true => Ok(self.reference.lock().unwrap_or_else(|poisoned| poisoned.into_inner())),
            false => Err(Error::internal("a GPU arena read on the reference device")),
        }
    }

    /// True if its values are on the reference.
    pub(crate) fn is_cpu(&self) -> bool {
        self.device.is_cpu()
    }

    /// `length` values of a reference arena.
    pub(crate) fn read_cpu(&self, offset: usize, length: usize) -> Result<Vec<f64>> {
        Ok(self.cpu()?[offset..offset + length].to_vec())
    }

    /// Writes values from `offset` on.
    pub(crate) fn write(&self, offset: usize, values: &[f64]) -> Result<()> {
        if self.device.is_cpu() {
            self.cpu()?[offset..offset + values.len()].copy_from_slice(values);
            return Ok(());
        }
        let values: Vec<f32> = values.iter().map(|&x| x as f32).collect();
        self.device.backend().write_arena(&self.place, offset, &values)
    }

    /// [`Arena::write`] of numbers as a GPU has them.
    pub(crate) fn write_f32(&self, offset: usize, values: &[f32]) -> Result<()> {
        match self.device.is_cpu() {
            true => self.write(offset, &values.iter().map(|&x| f64::from(x)).collect::<Vec<_>>()),
            false => self.device.backend().write_arena(&self.place, offset, values),
        }
    }

    /// Takes the values of another, from its beginning, to their bits; waits for nothing.
    pub(crate) fn copy_from(&self, other: &Arena) -> Result<()> {
        let elements = other.elements.min(self.elements);
        if self.device.is_cpu() {
            let values = other.read_cpu(0, elements)?;
            self.cpu()?[..elements].copy_from_slice(&values);
            return Ok(());
        }
        self.device.backend().copy_arena(&other.place, &self.place, elements)
    }

    /// Reads values from `offset` on; waits for the GPU.
    pub(crate) fn read(&self, offset: usize, length: usize) -> Result<Vec<f64>> {
        Ok(match self.read_as_stored(offset, length)? {
            HostData::F64(values) => values,
            other => other.to_f64(),
        })
    }

    /// Whole arenas of one device, one behind the other, in the device's own numbers; one wait.
    pub(crate) fn read_together(arenas: &[Arc<Arena>]) -> Result<HostData> {
        match arenas.first() {
            Some(first) if !first.device.is_cpu() => {
                let places: Vec<&ArenaRef> = arenas.iter().map(|arena| &arena.place).collect();
                first.device.backend().read_arenas(&places)
            }
            _ => {
                let each = arenas.iter().map(|arena| arena.read_cpu(0, arena.elements));
                Ok(HostData::F64(each.collect::<Result<Vec<_>>>()?.concat()))
            }
        }
    }

    /// [`Arena::read`] in the device's own numbers.
    pub(crate) fn read_as_stored(&self, offset: usize, length: usize) -> Result<HostData> {
        match self.device.is_cpu() {
            true => Ok(HostData::F64(self.read_cpu(offset, length)?)),
            false => self.device.backend().read_arena(&self.place, offset, length),
        }
    }
}
