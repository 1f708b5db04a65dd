//! How ranks send gradients, as chosen; the same on all of them.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use super::world::World;

/// Bytes of the gradients that are sent first, while the backward pass goes on, and of those that are sent together then: all of
/// them, behind the pass.
const BUCKETS: [usize; 2] = [usize::MAX; 2];

/// What has been chosen.
pub(super) struct Options {
    in_order: AtomicBool,
    half: AtomicBool,
    joins: AtomicBool,
    buckets: [AtomicUsize; 2],
}

impl Default for Options {
    fn default() -> Options {
        let [in_order, half, joins] = [(); 3].map(|()| AtomicBool::new(false));
        Options { in_order, half, joins, buckets: BUCKETS.map(AtomicUsize::new) }
    }
}

impl World {
    /// Sends gradients while the backward pass goes on: those of the parameters that were made last, which are there first, as soon as
    /// they are so many bytes, then those before them in buckets of `others` bytes; 1 MiB and 25 MiB are usual. `usize::MAX` twice
    /// (the default) sends all together, behind the pass, and so do [`World::keep_order`] and [`World::send_half`]. The bits are the
    /// same.
    ///
    /// Each bucket is two exchanges and a wait for its part of the pass. It pays where the device has more left to compute than
    /// they take, and leaves the host's cores alone: a software driver does not, and was slower with buckets.
    pub fn send_in_buckets(&self, first: usize, others: usize) {
        for (own, bytes) in self.options().buckets.iter().zip([first, others]) {
            own.store(bytes, Ordering::Relaxed);
        }
    }

    /// What [`World::send_in_buckets`] said.
    pub fn buckets(&self) -> [usize; 2] {
        [0, 1].map(|i| self.options().buckets[i].load(Ordering::Relaxed))
    }

    /// Whether the gradients of several micro-batches of a rank are kept apart until they are sent, so that all are added in
    /// the order of their numbers: a run has then the bits of one rank also where a rank accumulates. It takes the memory,
    /// the reads and the bytes on the wire once for each of them. Without it (the default) a rank adds up its own first.
    pub fn keep_order(&self, on: bool) {
        self.options().in_order.store(on, Ordering::Relaxed);
    }

    /// What [`World::keep_order`] said.
    pub fn keeps_order(&self) -> bool {
        self.options().in_order.load(Ordering::Relaxed)
    }

    /// Whether gradients and their sums are sent as f16, with a power of two for each range and what rounding takes away added
    /// to the next ones: half the bytes. The bits are then not those of one rank, though the same on all ranks and in every run;
    /// a run that goes on from a checkpoint begins with nothing left over.
    pub fn send_half(&self, on: bool) {
        self.options().half.store(on, Ordering::Relaxed);
    }

    /// What [`World::send_half`] said.
    pub fn sends_half(&self) -> bool {
        self.options().half.load(Ordering::Relaxed)
    }

    /// Notes that there are layers that join statistics over ranks: all ranks have them, for they have the same model.
    pub(crate) fn set_joins(&self) {
        self.options().joins.store(true, Ordering::Relaxed);
    }

    pub(crate) fn joins(&self) -> bool {
        self.options().joins.load(Ordering::Relaxed)
    }
}
