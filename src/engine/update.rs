//! What a step asks of an optimizer, and what it hands over.

use std::sync::Arc;

use super::refusal::Author;
use crate::device::Arena;
use crate::error::Result;
use crate::graph::Node;
use crate::kernel::{Capabilities, Kernel};
use crate::plan::Destination;
use crate::tensor::Tensor;
use crate::version::StoreState;

/// A kernel over arenas that a step runs after the gradients are there.
pub struct ArenaKernel {
    /// The kernel; its `bindings` are not used.
    pub kernel: Kernel,
    /// What is bound from 0 on, with write access or not.
    pub arenas: Vec<(Bound, bool)>,
}

/// What a kernel of an update binds.
#[derive(Debug, Clone)]
pub enum Bound {
    /// A whole arena.
    Arena(Arc<Arena>),
    /// Elements of an arena: the first, and how many.
    Range(Arc<Arena>, usize, usize),
    /// A stored gradient: the number of its leaf, and how many elements it has.
    Leaf(usize, usize),
    /// A slot of the plan.
    Slot(usize),
}

impl From<&Arc<Arena>> for Bound {
    fn from(arena: &Arc<Arena>) -> Bound {
        Bound::Arena(arena.clone())
    }
}

/// Where an update finds the gradient of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// There is none.
    Nowhere,
    /// At the target's place in the arena of gradients.
    InArena,
    /// In the buffer of a stored value, the leaf with this number.
    InLeaf(usize),
}

/// What the verdict on a step has to do with beside its gradients.
#[derive(Debug, Default)]
pub struct Beside {
    /// The loss, and the bits of its exponent in a word: the step is refused where all of them are set.
    pub loss: Option<(Bound, u32)>,
    /// One word, which gets 1 if the update is done, 0 if it is skipped.
    pub accepted: Option<Bound>,
}

/// What a step does with the gradients.
pub trait Update {
    /// The store that it changes.
    fn store(&self) -> &Arc<StoreState>;
    /// Appends everything that its kernels depend on besides host numbers.
    fn key(&self, words: &mut Vec<u64>);
    /// Parameters that want a gradient, and where it goes.
    fn targets(&self) -> Vec<(Arc<Node>, Destination)>;
    /// Host numbers of this step, as 32-bit words.
    fn scalars(&self) -> Vec<u32>;
    /// Kernels for the targets that have a gradient; `first` is the first word of the host numbers.
    ///
    /// # Errors
    /// What the device refuses.
    fn kernels(
        &self,
        found: &[Found],
        first: usize,
        beside: Beside,
        capabilities: &Capabilities,
    ) -> Result<Vec<ArenaKernel>>;
    /// The same on the reference's arenas, for a loss that is finite or not.
    ///
    /// # Errors
    /// A broken internal rule.
    fn reference(&self, reached: &[bool], finite: bool) -> Result<()>;
    /// What the loss is multiplied by, a scalar on the device.
    fn seed(&self) -> Option<Tensor>;
    /// The arena whose first words say how the step went (see `refusal.rs`).
    fn status(&self) -> Option<Arc<Arena>>;
    /// The step's number.
    fn number(&self) -> u64;
    /// Whose it is.
    fn author(&self) -> &Arc<Author>;
    /// True if there are gradients from passes before.
    fn has_gathered(&self) -> bool;
    /// False for a pass that only gathers gradients.
    fn changes_parameters(&self) -> bool;
    /// Notes which parameters the loss reached.
    fn reached(&self, reached: &[bool]);
}
