//! From a snapshot of recorded nodes to a list of dispatches: simplify, fuse, place.
//!
//! Everything here is plain data and pure functions; the `gpu` module turns a [`Plan`] into driver objects.

mod build;
mod choose;
mod contract;
mod emit;
mod fuse;
mod graph;
mod merge;
mod numbers;
mod order;
mod place;
mod prelude;
mod report;
mod units;

pub use build::{Request, build};
pub use graph::Destination;

pub use crate::dispatch::{ArenaRef, Dispatch, Name, Numbers, OPERAND_WORDS, Open, Plan, Rival, Slot, SlotKind};
pub use crate::layout::Strided;
pub use crate::shader::Program;
pub use crate::target::{Choice, Choices, Target};
