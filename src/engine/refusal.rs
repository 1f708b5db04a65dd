//! Steps that the device refuses, of which the host learns when others are under way.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::Error;
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
