//! From a snapshot of recorded nodes to a list of dispatches: simplify, fuse, place.
//!
//! Everything here is plain data and pure functions; the `gpu` module turns a [`Plan`] into driver objects.

mod build;
mod emit;
mod fuse;
mod merge;
mod place;
mod strided;
mod text;

use std::fmt;
use std::sync::Arc;

pub use build::{Destination, Request, build};
pub use place::OPERAND_WORDS;
pub use strided::Strided;

use crate::device::Arena;

/// What a slot's buffer is.
#[derive(Debug, Clone)]
pub enum SlotKind {
    /// Lives only within the plan; number of the shared scratch buffer it is placed in.
    Scratch(usize),
    /// Host data of this leaf, written before the pass into a shared scratch buffer.
    Upload {
        /// Number of the leaf in the request.
        leaf: usize,
        /// Number of the scratch buffer.
        scratch: usize,
    },
    /// The value of this leaf from an earlier run.
    Stored(usize),
    /// The result with this number; a buffer of its own that the user may hold.
    Output(usize),
    /// A range of an arena, in elements.
    Arena(Arc<Arena>, usize, usize),
}

/// A buffer as a plan sees it.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Where it is.
    pub kind: SlotKind,
    /// Size, a multiple of 16.
    pub bytes: u64,
}

/// One dispatch, ready for a driver.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// Name for dumps and profiles.
    pub name: String,
    /// The whole shader text.
    pub source: Arc<str>,
    /// (binding, slot, writable).
    pub bindings: Vec<(u32, usize, bool)>,
    /// Words at [`crate::kernel::PARAMS`].
    pub params: Vec<u32>,
    /// Words at [`crate::kernel::FUSION`].
    pub fusion: Vec<u32>,
    /// True if it reads [`crate::kernel::OPERANDS`].
    pub operands: bool,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// Bound on an invocation's loop iterations.
    pub iterations: u64,
    /// True if loops and divisions are guarded too.
    pub checked: bool,
    /// Floating-point operations, 0 where the op does not state them.
    pub flops: u64,
    /// Bytes moved, where the op states them.
    pub bytes: Option<u64>,
}

/// A compiled graph: dispatches in order, and the buffer of each result.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Buffers.
    pub slots: Vec<Slot>,
    /// Dispatches in order.
    pub dispatches: Vec<Dispatch>,
    /// Sizes of the shared scratch buffers, in bytes.
    pub scratch: Vec<u64>,
    /// Slots of the results, in the order asked for, each with its bytes.
    pub outputs: Vec<usize>,
    /// Upload leaves and their slots.
    pub uploads: Vec<(usize, usize)>,
    /// Operand leaves and the first word of each in the operand uniform.
    pub operands: Vec<(usize, usize)>,
    /// First operand word of the update's host numbers.
    pub scalars: usize,
    /// Words of operands in all.
    pub operand_words: usize,
}

impl Plan {
    /// Bytes that a dispatch reads and writes: what its op states, else what it binds, each binding once.
    pub fn bytes_moved(&self, dispatch: &Dispatch) -> u64 {
        let bound = || dispatch.bindings.iter().map(|&(_, slot, _)| self.slots[slot].bytes).sum();
        dispatch.bytes.unwrap_or_else(bound)
    }

    /// Bytes of scratch and results that the plan needs at once.
    pub fn peak_bytes(&self) -> u64 {
        let outputs: u64 = self.outputs.iter().map(|&slot| self.slots[slot].bytes).sum();
        self.scratch.iter().sum::<u64>() + outputs
    }
}

impl fmt::Display for Plan {
    /// One line a dispatch: name, grid, slots read and written.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} dispatches, {} slots, {} scratch buffers, {} bytes at peak",
            self.dispatches.len(),
            self.slots.len(),
            self.scratch.len(),
            self.peak_bytes()
        )?;
        for (i, dispatch) in self.dispatches.iter().enumerate() {
            let side = |write: bool| {
                let slots = dispatch.bindings.iter().filter(|binding| binding.2 == write);
                slots.map(|&(_, slot, _)| self.slot_name(slot)).collect::<Vec<_>>().join(" ")
            };
            let [x, y] = dispatch.grid;
            writeln!(f, "{i:3} {:40} {x}x{y}  {} <- {}", dispatch.name, side(true), side(false))?;
        }
        Ok(())
    }
}

impl Plan {
    fn slot_name(&self, slot: usize) -> String {
        match &self.slots[slot].kind {
            SlotKind::Scratch(i) => format!("scratch{i}"),
            SlotKind::Upload { leaf, .. } => format!("upload{leaf}"),
            SlotKind::Stored(leaf) => format!("stored{leaf}"),
            SlotKind::Output(i) => format!("output{i}"),
            SlotKind::Arena(arena, offset, length) => format!("{}[{offset}+{length}]", arena.label),
        }
    }
}
