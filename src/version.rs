//! Versions of a parameter store: an update ends one, and what was recorded before it belongs to the past.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::dtype::Precision;
use crate::error::{Error, Problem, Result};
use crate::graph::Node;
use crate::history::this_thread;

/// The version of a parameter store, and the recorded nodes that depend on it and have no value yet.
#[derive(Debug, Default)]
pub struct StoreState {
    version: AtomicU64,
    mixed: AtomicBool,
    gate: Gate,
    pending: Mutex<Pending>,
    /// A step that the device has refused, until somebody who is concerned is told.
    failure: Mutex<Option<Error>>,
    /// The first parameter, and how many there are.
    parameters: Mutex<(Option<Arc<str>>, usize)>,
    /// Who has put other values in the parameters' place, for a while, and the call.
    exchanged: Mutex<Option<(usize, &'static Location<'static>)>>,
}

/// Held while a store is updated, and by what must come before an update or after it. A thread may enter again.
#[derive(Debug, Default)]
struct Gate {
    lock: Mutex<()>,
    /// Number of the thread within, 0 for none.
    owner: AtomicU64,
}

/// The gate of a store, until it is dropped.
pub(crate) struct Entered<'a> {
    gate: &'a Gate,
    _guard: MutexGuard<'a, ()>,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.gate.owner.store(0, Ordering::Relaxed);
    }
}

#[derive(Debug, Default)]
struct Pending {
    nodes: Vec<Weak<Node>>,
    prune_at: usize,
}

impl StoreState {
    /// Number of updates so far.
    pub fn version(&self) -> u64 {
        self.version.load(Ordering::Acquire)
    }

    /// In which precision what depends on the store is recorded.
    pub fn precision(&self) -> Precision {
        if self.mixed.load(Ordering::Relaxed) { Precision::Mixed } else { Precision::Full }
    }

    /// Sets [`StoreState::precision`].
    pub(crate) fn set_precision(&self, precision: Precision) {
        self.mixed.store(precision == Precision::Mixed, Ordering::Relaxed);
    }

    /// Notes a node that depends on the store.
    pub(crate) fn remember(&self, node: &Arc<Node>) {
        let mut pending = self.lock();
        // Between updates (evaluation) nodes come and go: the list stays within twice the live ones.
        if pending.nodes.len() >= pending.prune_at.max(1024) {
            pending.nodes.retain(|node| node.strong_count() > 0);
            pending.prune_at = pending.nodes.len() * 2;
        }
        pending.nodes.push(Arc::downgrade(node));
    }

    /// Keeps updates by other threads out until the result is dropped; `None` if this thread does so already. Before the
    /// lock of the store's contents and that of the device.
    pub(crate) fn enter(&self) -> Option<Entered<'_>> {
        let thread = this_thread();
        // Only this thread writes its own number.
        if self.gate.owner.load(Ordering::Relaxed) == thread {
            return None;
        }
        let guard = lock(&self.gate.lock);
        self.gate.owner.store(thread, Ordering::Relaxed);
        Some(Entered { gate: &self.gate, _guard: guard })
    }

    /// [`StoreState::enter`] for several stores, in an order that is the same in every thread.
    pub(crate) fn enter_all(stores: &[Arc<StoreState>]) -> Vec<Entered<'_>> {
        let mut stores: Vec<&Arc<StoreState>> = stores.iter().collect();
        stores.sort_by_key(|store| Arc::as_ptr(store));
        stores.into_iter().filter_map(|store| store.enter()).collect()
    }

    /// Nodes whose values an update would take away, in the order of recording: those that a user holds and that have no
    /// value yet, and what is detached below those that a gradient can still be asked for through other parameters.
    pub(crate) fn before_update(self: &Arc<Self>) -> Vec<Arc<Node>> {
        // Who is held is asked under the lock: a thread that records an op on a node of the list lets go of it only after its
        // result is in the list, too.
        let with_holders = |node: &Weak<Node>| node.upgrade().map(|node| (node.is_held(), node));
        let live: Vec<(bool, Arc<Node>)> = self.lock().nodes.iter().filter_map(with_holders).collect();
        let (mut needed, mut entered, mut seen) = (vec![], HashSet::new(), HashSet::new());
        for (_, node) in live.into_iter().filter(|(is_held, node)| *is_held && node.error().is_none()) {
            if node.outlives(self) {
                node.detached_below(self, &mut entered, &mut needed);
            }
            needed.push(node);
        }
        needed.retain(|node| !node.has_value() && seen.insert(Arc::as_ptr(node)));
        needed
    }

    /// Notes the failure of a step, for the next step, save or read that this store is concerned with.
    pub(crate) fn fail(&self, error: Error) {
        match &mut *lock(&self.failure) {
            Some(first) => first.and_another(),
            none => *none = Some(error),
        }
    }

    /// The noted failure, once.
    pub(crate) fn take_failure(&self) -> Result<()> {
        lock(&self.failure).take().map_or(Ok(()), Err)
    }

    /// Notes who has put other values in the parameters' place, and the call; `None`: they have their own again.
    pub(crate) fn set_exchanged(&self, by: Option<(usize, &'static Location<'static>)>) {
        *lock(&self.exchanged) = by;
    }

    /// True while what `owner` has put there stands in the parameters' place.
    pub(crate) fn is_exchanged_by(&self, owner: usize) -> bool {
        lock(&self.exchanged).is_some_and(|(by, _)| by == owner)
    }

    /// `Err` of `op`, called at `at`, while other values stand in the parameters' place. The caller has entered the store.
    pub(crate) fn check_own(&self, op: &'static str, at: &'static Location<'static>) -> Result<()> {
        let Some((_, by)) = *lock(&self.exchanged) else { return Ok(()) };
        let what = format!("an average stands in the place of the parameters since {by}");
        Err(Problem::Value(what, "drop what that call gave first, which puts the weights back").at(op, at))
    }

    /// Notes a parameter.
    pub(crate) fn add_parameter(&self, name: &Arc<str>) {
        let (first, count) = &mut *lock(&self.parameters);
        first.get_or_insert_with(|| name.clone());
        *count += 1;
    }

    /// Which parameters it has, for a message: `conv1.weight` and 7 others.
    pub(crate) fn parameters(&self) -> String {
        match &*lock(&self.parameters) {
            (None, _) => "no parameters".into(),
            (Some(first), 1) => format!("`{first}`"),
            (Some(first), count) => format!("`{first}` and {} others", count - 1),
        }
    }

    /// After an update: what was recorded before it belongs to the past.
    pub(crate) fn advance(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        let past = std::mem::take(&mut *self.lock());
        past.nodes.iter().filter_map(Weak::upgrade).for_each(|node| node.outlive_update());
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        lock(&self.pending)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
