//! Versioned state: running statistics, averaged weights, whatever a model carries from step to step besides what
//! gradients change.
//!
//! An assignment takes effect with the next step of the store it belongs to (or when it is read): exactly once, even if
//! the tensors it came from are dropped, and not at all if that step carries an error.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::graph::Source;
use crate::ops::Problem;
use crate::tensor::Tensor;

/// Assignments in a row that no step has carried out and nobody has read, before [`State::get`] computes them: each keeps
/// alive what it is computed from.
const CHAIN: usize = 32;

/// A value that a program assigns to, step by step. Cloning copies the handle.
#[derive(Debug, Clone)]
pub struct State(pub(crate) Arc<StateCell>);

/// What handles to a state share.
#[derive(Debug)]
pub(crate) struct StateCell {
    slot: Mutex<Slot>,
}

#[derive(Debug)]
struct Slot {
    /// The value after the last step that succeeded.
    committed: Tensor,
    /// Assigned since.
    pending: Option<Tensor>,
    /// Assignments since something was computed.
    chain: usize,
}

impl State {
    /// A state that holds `initial` and belongs to no store: its assignments are carried out when they are read.
    pub fn new(initial: &Tensor) -> State {
        State(Arc::new(StateCell { slot: Mutex::new(Slot { committed: initial.detach(), pending: None, chain: 0 }) }))
    }

    /// The present value, assignments that are still to be carried out included.
    pub fn get(&self) -> Tensor {
        let value = self.0.lock().value();
        if self.0.lock().chain >= CHAIN && value.error().is_none() {
            let device = value.device();
            // Whoever reads next is told what went wrong.
            device.eval(&[&value]).unwrap_or_else(|error| device.fail_later(error));
        }
        self.0.lock().value()
    }

    /// Makes `value` the present value; no gradient flows through it.
    ///
    /// A value of another shape or dtype, or one that carries an error, makes the next step return that error and leave
    /// the state as it was.
    #[track_caller]
    pub fn assign(&self, value: &Tensor) {
        let mut slot = self.0.lock();
        let (old, new) = (slot.committed.meta(), value.meta());
        let value = if value.error().is_none() && slot.committed.error().is_none() && old != new {
            let what = format!("a state of shape {} {} was given {} {}", old.shape, old.dtype, new.shape, new.dtype);
            value.problem("assign", Problem::Shape(what, "assign a value of the state's shape and dtype"))
        } else {
            value.detach()
        };
        slot.pending = Some(value);
        slot.chain += 1;
    }

    /// Replaces the value at once, as loading a checkpoint does.
    pub(crate) fn set(&self, value: Tensor) {
        *self.0.lock() = Slot { committed: value, pending: None, chain: 0 };
    }
}

/// A computed value as a leaf: what it was computed from is let go, and that the parameters beneath change is of no
/// concern to it.
fn stored(value: &Tensor) -> Option<Tensor> {
    let node = value.node();
    let computed = node.value().filter(|_| matches!(node.source, Source::Op(_)))?;
    let leaf = Tensor::leaf(value.device(), value.meta(), Source::Stored, node.at);
    leaf.node().set_value(computed);
    Some(leaf)
}

impl Slot {
    /// The present value, as a leaf where it has been computed.
    fn value(&mut self) -> Tensor {
        if let Some(stored) = self.pending.as_ref().and_then(stored) {
            (self.pending, self.chain) = (Some(stored), 0);
        }
        self.pending.as_ref().unwrap_or(&self.committed).clone()
    }
}

impl StateCell {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The assignment that a step must carry out.
    pub fn pending(&self) -> Option<Tensor> {
        self.lock().pending.clone()
    }

    /// Ends a step: the assignments are kept, or dropped where it failed.
    pub fn settle(&self, succeeded: bool) {
        let mut slot = self.lock();
        slot.chain = 0;
        if let Some(pending) = slot.pending.take()
            && succeeded
        {
            slot.committed = stored(&pending).unwrap_or(pending);
        }
    }
}
