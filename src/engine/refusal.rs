//! Steps that are not done: those that would change nothing, and those that the device refuses, of which the host learns when
//! others are under way.

use std::collections::HashSet;
use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::step::Gradients;
use super::update::Update;
use crate::error::Error;
use crate::graph::{ParameterLeaf, Snapshot};
use crate::version::StoreState;

/// Whose a step is: what a report that comes after the call needs to know.
#[derive(Debug)]
pub struct Author {
    store: Arc<StoreState>,
    /// Name of the optimizer's rule, and where it was made.
    made: (&'static str, &'static Location<'static>),
    /// Steps refused so far.
    pub refused: AtomicU64,
}

impl Author {
    /// An optimizer of this rule over `store`, made at `at`.
    pub fn new(store: &Arc<StoreState>, rule: &'static str, at: &'static Location<'static>) -> Author {
        Author { store: store.clone(), made: (rule, at), refused: AtomicU64::new(0) }
    }

    /// Notes that a step was refused, for whoever is concerned with the store next.
    pub(super) fn refuse(&self, error: Error) {
        self.refused.fetch_add(1, Ordering::AcqRel);
        self.store.fail(error);
    }
}

impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the {} made at {} ({})", self.made.0, self.made.1, self.store.parameters())
    }
}

/// What went wrong in a step of this status: (norm, factor, 1 if the update was skipped, 1 if that is an error or 2 if it
/// is that the loss scale, whose floor stands for the factor, would have sunk below it).
pub(super) fn failure(status: &[f64], step: u64, author: &Author) -> Option<Error> {
    let (later, found) = (0, None);
    match status {
        [_, _, _, kind] if *kind == 0.0 => None,
        [_, floor, _, kind] if *kind == 2.0 => {
            Some(Error::LossScale { step, optimizer: author.to_string(), later, floor: *floor, found })
        }
        _ => Some(Error::NonFinite { step, optimizer: author.to_string(), later, found }),
    }
}

/// Why a step would change nothing.
pub(super) fn unreached(
    gradients: Gradients<'_>,
    update: &dyn Update,
    keyed: &Snapshot,
    at: &'static Location<'static>,
) -> Error {
    let leaves = || keyed.nodes.iter().filter_map(|node| node.source.parameter());
    let is_own = |leaf: &ParameterLeaf| Arc::ptr_eq(&leaf.store, update.store());
    let targets = update.targets();
    let place = |leaf: &ParameterLeaf| (leaf.arena.id, leaf.offset);
    let trained: HashSet<_> = targets.iter().filter_map(|(node, _)| node.source.parameter().map(place)).collect();
    let parameters = update.store().parameters();
    let (what, next) = match gradients {
        _ if targets.is_empty() => (
            format!("there is nothing to update: the store has {parameters}, none of which may change"),
            "unfreeze a parameter, or make the optimizer for the store of the model",
        ),
        Gradients::Given(_) => (
            format!("no gradient is given for a parameter that is not frozen ({parameters})"),
            "pass the gradient of at least one",
        ),
        Gradients::Of(_) if leaves().any(|leaf| is_own(leaf) && trained.contains(&place(leaf))) => (
            format!(
                "no gradient flows from the loss to a parameter of the optimizer ({parameters}): it was recorded under \
                     no_grad, or all of it passes through detach or an op without a gradient"
            ),
            "record the forward pass outside no_grad, and keep one way to a parameter free of detach",
        ),
        Gradients::Of(_) if leaves().any(is_own) => (
            format!("every parameter that the loss depends on is frozen (the optimizer has {parameters})"),
            "unfreeze one of them before the forward pass is recorded",
        ),
        Gradients::Of(_) if leaves().next().is_some() => (
            format!("the loss depends on parameters of another store (the optimizer has {parameters})"),
            "make the optimizer for the store of the model",
        ),
        Gradients::Of(_) => (
            format!(
                "the loss depends on no parameter of the optimizer ({parameters}): it is a constant or a value without \
                     a history, as no_grad and detach give"
            ),
            "pass the loss of a forward pass recorded outside no_grad",
        ),
    };
    Error::Value { op: "step", at, what, next }
}
