//! Versioned state: running statistics, averaged weights, whatever a model carries from step to step besides what
//! gradients change.
//!
//! An assignment takes effect with the next step of the store it belongs to (or when it is read): exactly once, even if
//! the tensors it came from are dropped, and not at all if that step carries an error or is refused for what is not finite.
//!
//! Whether a step is refused is known on the device first. So the value of a state after a step is a recorded choice between
//! the new and the old one by the flag that the step leaves: whoever reads or uses it next, perhaps the next step, makes the
//! choice on the way.

use std::sync::{Arc, Mutex, MutexGuard};

use crate::error::{Problem, Result};
use crate::graph::Source;
use crate::layout::Meta;
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
    /// Assigned before a pass that gathered gradients for a step that is still to come.
    gathered: Option<Tensor>,
    /// Assigned since.
    pending: Option<Tensor>,
    /// Assignments since something was computed.
    chain: usize,
}

impl State {
    /// A state that holds `initial` and belongs to no store: its assignments are carried out when they are read.
    pub fn new(initial: &Tensor) -> State {
        State(Arc::new(StateCell { slot: Mutex::new(Slot::new(initial.detach())) }))
    }

    /// The present value, assignments that are still to be carried out included.
    pub fn get(&self) -> Tensor {
        let value = self.0.lock().value();
        if self.0.lock().chain >= CHAIN && value.error().is_none() {
            // What goes wrong here goes wrong again for whoever reads it.
            let _ = value.device().compute(std::slice::from_ref(value.node()));
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

    /// Shape and dtype: no assignment changes them.
    pub(crate) fn meta(&self) -> Result<Meta> {
        let slot = self.0.lock();
        slot.committed.error().map_or(Ok(slot.committed.meta()), |error| Err(error.clone()))
    }

    /// Replaces the value at once, as loading a checkpoint does.
    pub(crate) fn set(&self, value: Tensor) {
        *self.0.lock() = Slot::new(value);
    }
}

/// A computed value as a leaf: what it was computed from is let go, and that the parameters beneath change is of no
/// concern to it.
fn stored(value: &Tensor) -> Option<Tensor> {
    let node = value.node();
    let computed = node.value().filter(|_| matches!(node.source, Source::Op(_) | Source::Result { .. }))?;
    let leaf = Tensor::leaf(value.device(), value.meta(), Source::Stored, node.at);
    leaf.node().set_value(computed);
    Some(leaf)
}

/// [`stored`], or the value as it is.
fn settled(value: Tensor) -> Tensor {
    stored(&value).unwrap_or(value)
}

impl Slot {
    fn new(committed: Tensor) -> Slot {
        Slot { committed, gathered: None, pending: None, chain: 0 }
    }

    /// The present value, as a leaf where it has been computed.
    fn value(&mut self) -> Tensor {
        let present = self.pending.as_mut().or(self.gathered.as_mut()).unwrap_or(&mut self.committed);
        if let Some(stored) = stored(present) {
            *present = stored;
            self.chain = 0;
        }
        present.clone()
    }
}

/// An assignment that a step carries out.
pub(crate) struct Assigned {
    /// The value if the step is done.
    pub new: Tensor,
    /// The value if it is not, where that is still to be computed.
    pub old: Option<Tensor>,
}

/// How a step went.
pub(crate) enum Outcome {
    /// Its update was done.
    Accepted,
    /// Its update was skipped.
    Refused,
    /// The device knows: this flag will say.
    Asks(Tensor),
    /// It only gathered gradients: the step is to come.
    Gathered,
    /// It was not submitted.
    Failed,
}

impl StateCell {
    fn lock(&self) -> MutexGuard<'_, Slot> {
        self.slot.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The assignment that a pass must carry out, if there is one: one that only gathers gradients computes what has been
    /// assigned since the last.
    pub fn assigned(&self, is_update: bool) -> Option<Assigned> {
        let slot = self.lock();
        let earlier = slot.gathered.as_ref().filter(|_| is_update);
        let new = slot.pending.as_ref().or(earlier)?.clone();
        let old = Some(&slot.committed)
            .filter(|old| is_update && matches!(old.node().source, Source::Op(_) | Source::Result { .. }));
        Some(Assigned { new, old: old.cloned() })
    }

    /// What passes that gathered gradients have assigned, for a step that is still to come.
    pub fn gathered(&self) -> Option<Tensor> {
        self.lock().gathered.clone()
    }

    /// Puts another value in the place of [`StateCell::gathered`]: that of another rank.
    pub fn set_gathered(&self, value: Option<Tensor>) {
        let slot = &mut *self.lock();
        (slot.gathered, slot.pending) = (value, None);
    }

    /// The value of the last step that succeeded.
    pub fn committed(&self) -> Tensor {
        self.lock().committed.clone()
    }

    /// Ends a pass.
    pub fn settle(&self, outcome: &Outcome) {
        let slot = &mut *self.lock();
        slot.chain = 0;
        let pending = slot.pending.take();
        match outcome {
            Outcome::Failed => {}
            Outcome::Gathered => slot.gathered = pending.map(settled).or(slot.gathered.take()),
            Outcome::Refused => slot.gathered = None,
            Outcome::Accepted | Outcome::Asks(_) => {
                let gathered = slot.gathered.take();
                let Some(new) = pending.or(gathered).map(settled) else { return };
                slot.committed = match outcome {
                    Outcome::Asks(flag) => flag.where_(&new, &settled(slot.committed.clone())),
                    _ => new,
                };
            }
        }
    }
}
