//! What a step hands over to the engine.

use std::sync::Arc;

use super::refusal::Author;
use crate::arena::Arena;
use crate::dispatch::ArenaRef;
use crate::error::Result;
use crate::graph::Node;
use crate::kernel::{Capabilities, Kernel};
use crate::shader::Storage;
use crate::state::StateCell;
use crate::tensor::Tensor;
use crate::version::StoreState;
use crate::wait::Awaited;

/// A step of an optimizer: gradients, and what becomes of them.
pub struct Step<'a> {
    /// The store that it belongs to.
    pub store: &'a Arc<StoreState>,
    /// The states whose assignments it carries out.
    pub states: Vec<Arc<StateCell>>,
    /// Whose it is.
    pub author: &'a Arc<Author>,
    /// Its number.
    pub number: u64,
    /// Where the gradients come from.
    pub gradients: Gradients<'a>,
    /// True if other ranks do the same step with the same gradients: what became of earlier steps is told at the next.
    pub has_met: bool,
    /// Parameters that want one.
    pub targets: Vec<Trained>,
    /// True if there are gradients from passes before.
    pub has_gathered: bool,
    /// What the loss is multiplied by, a scalar on the device.
    pub seed: Option<Tensor>,
    /// Everything that the kernels of the update depend on besides host numbers.
    pub key: Vec<u64>,
    /// Ranges of arenas that are read while the pass goes on, in this order; of a GPU alone. Part of the key.
    pub parts: Vec<Vec<(ArenaRef, usize, usize)>>,
    /// `None` for a pass that only gathers gradients.
    pub update: Option<Update<'a>>,
}

/// What has become of a step so far.
pub struct Stepped {
    /// For each target: whether there is a gradient.
    pub reached: Vec<bool>,
    /// For each part the wait for it.
    pub parts: Vec<Awaited>,
}

impl Step<'_> {
    /// The update, if it ends the step.
    pub fn end(&self) -> Option<&Update<'_>> {
        self.update.as_ref().filter(|update| update.ends)
    }
}

/// A parameter that wants a gradient, and where in an arena it goes.
pub struct Trained {
    /// The leaf of the parameter.
    pub node: Arc<Node>,
    /// The arena of gradients.
    pub arena: Arc<Arena>,
    /// First element.
    pub offset: usize,
    /// True if it is added to what is there.
    pub adds: bool,
}

/// What a step does with the gradients.
pub struct Update<'a> {
    /// Host numbers of this step, as 32-bit words.
    pub numbers: Vec<u32>,
    /// The arena whose first words say how the step went (see `refusal.rs`).
    pub status: &'a Arc<Arena>,
    /// True if it ends the step; false if it moves the parameters on the way to another pass.
    pub ends: bool,
    /// True if the kernels change gradients: all of them are then wanted in the arenas.
    pub changes_gradients: bool,
    /// The kernels, asked for when a plan is made.
    pub kernels: &'a dyn Fn(Wanted<'_>) -> Result<Vec<ArenaKernel>>,
    /// The same on the reference's arenas, for targets that the loss reaches or not and a loss that is finite or not.
    pub reference: &'a dyn Fn(&[bool], bool) -> Result<()>,
}

/// What the kernels of an update are made for.
pub struct Wanted<'a> {
    /// For each target, where its gradient is.
    pub found: &'a [Found],
    /// First word of the host numbers.
    pub first: usize,
    /// What the verdict has to do with beside the gradients.
    pub beside: Beside,
    /// What the device can do.
    pub capabilities: &'a Capabilities,
}

/// Where a step's gradients come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gradients<'a> {
    /// The backward pass of a loss.
    Of(&'a Tensor),
    /// For each target, the one that the user gave.
    Given(&'a [Option<Arc<Node>>]),
}

impl Gradients<'_> {
    /// The loss whose backward pass is to be run.
    pub fn loss(&self) -> Option<&Arc<Node>> {
        match self {
            Gradients::Of(loss) => Some(loss.node()),
            Gradients::Given(_) => None,
        }
    }

    /// The graph's first roots.
    pub fn roots(self) -> Vec<Arc<Node>> {
        match self {
            Gradients::Of(loss) => vec![loss.node().clone()],
            Gradients::Given(given) => given.iter().flatten().cloned().collect(),
        }
    }

    /// Roots that are no results: a given gradient that nobody holds is wanted in the arena alone.
    pub fn transient(self) -> usize {
        match self {
            Gradients::Of(_) => 0,
            Gradients::Given(given) => given.iter().flatten().count(),
        }
    }

    pub fn key(self, words: &mut Vec<u64>) {
        match self {
            Gradients::Of(_) => words.push(1),
            Gradients::Given(given) => {
                words.push(2);
                words.extend(given.iter().map(|gradient| u64::from(gradient.is_some())));
            }
        }
    }
}

/// A kernel over arenas that a step runs after the gradients are there.
pub struct ArenaKernel {
    /// The kernel; its `bindings` are not used.
    pub kernel: Kernel,
    /// What is bound from 0 on, with write access or not.
    pub arenas: Vec<(Bound, bool)>,
}

impl ArenaKernel {
    /// Adds a binding.
    pub fn bind(&mut self, ArenaBinding { bound, write, name, element }: ArenaBinding) {
        let binding = self.arenas.len() as u32;
        self.kernel.shader.storage.push(Storage { binding, write, name: name.into(), element: element.into() });
        self.arenas.push((bound, write));
    }
}

/// A binding of an [`ArenaKernel`].
pub struct ArenaBinding {
    bound: Bound,
    write: bool,
    name: &'static str,
    element: &'static str,
}

impl ArenaBinding {
    /// A read-only one, called so, of elements of this type.
    pub fn read(bound: impl Into<Bound>, name: &'static str, element: &'static str) -> ArenaBinding {
        ArenaBinding { bound: bound.into(), write: false, name, element }
    }

    /// A writable one.
    pub fn write(bound: impl Into<Bound>, name: &'static str, element: &'static str) -> ArenaBinding {
        ArenaBinding { write: true, ..ArenaBinding::read(bound, name, element) }
    }
}

/// What a kernel of an update binds.
#[derive(Debug, Clone)]
pub enum Bound {
    /// A whole arena.
    Arena(ArenaRef),
    /// Elements of an arena: the first, and how many.
    Range(ArenaRef, usize, usize),
    /// A stored gradient: the number of its leaf, and how many elements it has.
    Leaf(usize, usize),
    /// A slot of the plan.
    Slot(usize),
    /// Words that the plan brings along.
    Table(Arc<[u32]>),
}

impl From<&Arc<Arena>> for Bound {
    fn from(arena: &Arc<Arena>) -> Bound {
        Bound::Arena(arena.place.clone())
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
