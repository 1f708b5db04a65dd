//! What a plan looks like to a reader: its dispatches in order, what is alive at each, and the largest tensors.

use std::fmt;
use std::path::Path;

use rustc_hash::FxHashSet;

use crate::dispatch::{Dispatch, Plan, Slot, SlotKind};
use crate::error::Result;
use crate::file;

/// Tensors that a report and an error list by name.
const LARGEST: usize = 5;

impl Plan {
    /// Writes the plan into a folder, which is made if it is not there: `plan.txt`, a line a dispatch, and each text of a
    /// kernel once, under the number and the name of the first dispatch that runs it.
    ///
    /// # Errors
    /// [`Error::Io`](crate::Error::Io).
    pub fn write(&self, folder: impl AsRef<Path>) -> Result<()> {
        let folder = folder.as_ref();
        file::write_text(&folder.join("plan.txt"), &self.to_string())?;
        let mut written = FxHashSet::default();
        for (number, dispatch) in self.dispatches.iter().enumerate() {
            if written.insert(dispatch.source()) {
                let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
                let name: String = dispatch.name().chars().map(plain).take(100).collect();
                file::write_text(&folder.join(format!("{number:03}_{name}.wgsl")), dispatch.source())?;
            }
        }
        Ok(())
    }

    /// Bytes of scratch and results that the plan needs at once.
    pub fn peak_bytes(&self) -> u64 {
        let outputs: u64 = self.outputs.iter().map(|&slot| self.slots[slot].bytes).sum();
        self.scratch.iter().sum::<u64>() + outputs
    }

    /// Bytes that a dispatch reads and writes: what its op states, else what it binds, each binding once.
    pub fn bytes_moved(&self, dispatch: &Dispatch) -> u64 {
        let bound = || dispatch.bindings.iter().map(|&(_, slot, _)| self.slots[slot].bytes).sum();
        dispatch.bytes.unwrap_or_else(bound)
    }

    /// For each slot, the first and the last dispatch that binds it. Uploads are there from the start.
    pub fn lifetimes(&self) -> Vec<Option<(usize, usize)>> {
        let mut lifetimes = vec![None; self.slots.len()];
        for (at, dispatch) in self.dispatches.iter().enumerate() {
            for &(_, slot, _) in &dispatch.bindings {
                let first = lifetimes[slot].map_or(at, |(first, _): (usize, usize)| first);
                lifetimes[slot] = Some((first, at));
            }
        }
        for (slot, lifetime) in self.slots.iter().zip(&mut lifetimes) {
            if matches!(slot.kind, SlotKind::Upload { .. }) && !self.dispatches.is_empty() {
                *lifetime = Some((0, lifetime.map_or(0, |(_, last)| last)));
            }
        }
        lifetimes
    }

    /// Bytes of uploads and intermediate values alive at each dispatch: what scratch buffers hold.
    pub fn live_bytes(&self) -> Vec<u64> {
        let mut live = vec![0; self.dispatches.len()];
        let mut ends = vec![0; self.dispatches.len()];
        for (slot, lifetime) in self.slots.iter().zip(self.lifetimes()) {
            if let (true, Some((first, last))) = (slot.is_scratch(), lifetime) {
                live[first] += slot.bytes;
                ends[last] += slot.bytes;
            }
        }
        for at in 1..live.len() {
            live[at] += live[at - 1] - ends[at - 1];
        }
        live
    }

    /// The largest uploads, intermediate values and results, largest first, as text.
    pub fn largest(&self) -> String {
        let lifetimes = self.lifetimes();
        let mut slots: Vec<usize> = (0..self.slots.len())
            .filter(|&slot| self.slots[slot].is_scratch() || matches!(self.slots[slot].kind, SlotKind::Output(_)))
            .collect();
        slots.sort_by_key(|&slot| std::cmp::Reverse(self.slots[slot].bytes));
        let line = |&slot: &usize| {
            let Slot { name, shape, bytes, .. } = &self.slots[slot];
            let shape = shape.map(|shape| format!(" {shape}")).unwrap_or_default();
            let alive = lifetimes[slot].map(|(first, last)| format!(", alive {first} to {last}")).unwrap_or_default();
            format!("{name}{shape} {bytes} bytes{alive}")
        };
        slots.iter().take(LARGEST).map(line).collect::<Vec<_>>().join("; ")
    }

    fn slot_name(&self, slot: usize) -> String {
        match &self.slots[slot].kind {
            SlotKind::Scratch(i) => format!("scratch{i}"),
            SlotKind::Upload { leaf, .. } => format!("upload{leaf}"),
            SlotKind::Stored(leaf) => format!("stored{leaf}"),
            SlotKind::Output(i) => format!("output{i}"),
            SlotKind::Arena(arena, offset, length) => format!("{}[{offset}+{length}]", arena.label),
            SlotKind::Table(words) => format!("table[{}]", words.len()),
        }
    }
}

impl Slot {
    fn is_scratch(&self) -> bool {
        matches!(self.kind, SlotKind::Scratch(_) | SlotKind::Upload { .. })
    }
}

impl fmt::Display for Plan {
    /// One line a dispatch: name, grid, bytes alive in scratch, slots written and read; then the largest tensors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let live = self.live_bytes();
        writeln!(
            f,
            "{} dispatches, {} slots, {} scratch buffers of {} bytes ({} alive at most), {} bytes at peak",
            self.dispatches.len(),
            self.slots.len(),
            self.scratch.len(),
            self.scratch.iter().sum::<u64>(),
            live.iter().max().unwrap_or(&0),
            self.peak_bytes()
        )?;
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            let side = |write: bool| {
                let slots = dispatch.bindings.iter().filter(|binding| binding.2 == write);
                slots.map(|&(_, slot, _)| self.slot_name(slot)).collect::<Vec<_>>().join(" ")
            };
            let [x, y] = dispatch.grid;
            writeln!(f, "{i:3} {:40} {x}x{y}  {:>11}  {} <- {}", dispatch.name(), live[i], side(true), side(false))?;
        }
        for (class, choice) in &self.choices {
            writeln!(f, "tuned {class}: {}", choice.variant)?;
        }
        writeln!(f, "largest: {}", self.largest())
    }
}
