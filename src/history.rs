//! What a node was computed from, how long it keeps that, and which gradients can be asked for through it.
//!
//! A node without a value keeps its inputs. One with a value keeps them as long as somebody can ask for a gradient through
//! it: until all parameters that such a gradient could reach have been updated.

use std::collections::HashSet;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, MutexGuard};

use crate::error::Error;
use crate::graph::{Inputs, Node, ParameterLeaf, Source, stale};
use crate::version::StoreState;

/// What a node is computed from.
#[derive(Debug, Default)]
pub(crate) struct Past {
    /// Inputs of its op.
    pub inputs: Inputs,
    /// Why there are none any more, where somebody may still ask.
    pub gone: Option<Error>,
}

/// Where the gradients that flow through a node end.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Reach {
    /// For each store, one parameter: the one with the oldest values.
    pub parameters: Vec<Reached>,
    /// True if they reach what [`variable`](crate::Tensor::variable) made.
    pub variable: bool,
}

/// A parameter at one version of its store.
#[derive(Debug, Clone)]
pub(crate) struct Reached {
    pub store: Arc<StoreState>,
    pub version: u64,
    pub name: Arc<str>,
    pub at: &'static Location<'static>,
}

impl PartialEq for Reached {
    fn eq(&self, other: &Reached) -> bool {
        Arc::ptr_eq(&self.store, &other.store) && self.version == other.version
    }
}

impl Reached {
    fn is_stale(&self) -> bool {
        self.store.version() != self.version
    }
}

impl Reach {
    /// Of a parameter.
    pub fn of(leaf: &ParameterLeaf, at: &'static Location<'static>) -> Reach {
        let (store, version, name) = (leaf.store.clone(), leaf.version, leaf.name.clone());
        Reach { parameters: vec![Reached { store, version, name, at }], variable: false }
    }

    /// What gradients reach through any of `inputs`. Most nodes share it with one of their inputs.
    pub fn through(inputs: &[Arc<Node>]) -> Arc<Reach> {
        let mut all: Option<Arc<Reach>> = None;
        for reach in inputs.iter().filter_map(|input| input.reach.as_ref()) {
            match &mut all {
                None => all = Some(reach.clone()),
                Some(known) if Arc::ptr_eq(known, reach) || known == reach => {}
                Some(known) => {
                    let joined = Arc::make_mut(known);
                    joined.variable |= reach.variable;
                    for new in &reach.parameters {
                        match joined.parameters.iter_mut().find(|old| Arc::ptr_eq(&old.store, &new.store)) {
                            Some(old) if new.version < old.version => *old = new.clone(),
                            Some(_) => {}
                            None => joined.parameters.push(new.clone()),
                        }
                    }
                }
            }
        }
        all.unwrap_or_default()
    }

    /// True if a gradient through parameters of `store` can be asked for.
    pub fn is_through(&self, store: &Arc<StoreState>) -> bool {
        self.parameters.iter().any(|reached| Arc::ptr_eq(&reached.store, store))
    }

    /// The error of whoever asks for a gradient, if all that it could be asked for has been updated since.
    fn lost(&self) -> Option<Error> {
        let all = !self.variable && self.parameters.iter().all(Reached::is_stale);
        self.parameters.first().filter(|_| all).map(|reached| stale(&reached.name, reached.at))
    }
}

/// A number for this thread.
pub(crate) fn this_thread() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static NUMBER: u64 = NEXT.fetch_add(1, Ordering::Relaxed);
    }
    NUMBER.with(|number| *number)
}

/// What a node has to do with gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flow {
    /// None flow to it.
    Nothing,
    /// They flow through it to its inputs.
    Through,
    /// They can be asked for, and go no further.
    Ends,
}

impl Node {
    fn past(&self) -> MutexGuard<'_, Past> {
        self.past.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Inputs of its op; none once its history has been let go.
    pub(crate) fn inputs(&self) -> Vec<Arc<Node>> {
        self.past().inputs.to_vec()
    }

    /// What `look` sees in the inputs. It must not ask for those of the same node.
    pub(crate) fn with_inputs<T>(&self, look: impl FnOnce(&[Arc<Node>]) -> T) -> T {
        look(&self.past().inputs)
    }

    /// Adds its inputs that gradients flow on to, the last first.
    ///
    /// # Errors
    /// [`Error::History`] if its history has been let go.
    pub(crate) fn gradient_inputs(&self, to: &mut Vec<Arc<Node>>) -> Result<(), Error> {
        if self.passes_grad {
            let past = self.past();
            if let Some(error) = &past.gone {
                return Err(error.clone());
            }
            to.extend(past.inputs.iter().rev().filter(|input| input.requires_grad).cloned());
        }
        Ok(())
    }

    /// What it has to do with gradients.
    pub(crate) fn flow(&self) -> Flow {
        match (self.requires_grad, self.passes_grad) {
            (false, _) => Flow::Nothing,
            (true, true) => Flow::Through,
            (true, false) => Flow::Ends,
        }
    }

    /// True if a gradient through it may reach a parameter.
    pub(crate) fn reaches_parameters(&self) -> bool {
        self.reach.as_ref().is_some_and(|reach| !reach.parameters.is_empty())
    }

    /// Why a gradient through it can no longer be formed, if so.
    pub(crate) fn lost(&self) -> Option<Error> {
        self.past().gone.clone()
    }

    /// Lets go of what it was computed from, where nobody can ask for a gradient through it any more.
    pub(crate) fn let_go(&self) {
        let lost = self.reach.as_ref().filter(|_| self.passes_grad).map(|reach| reach.lost());
        if let Some(None) = lost {
            return;
        }
        let new = Past { inputs: Inputs::new(), gone: lost.flatten() };
        // The inputs are dropped after the lock.
        let _old = std::mem::replace(&mut *self.past(), new);
    }

    /// True if a gradient can be asked for through it, and through no parameter of `store`: it can be so after an update too.
    pub(crate) fn outlives(&self, store: &Arc<StoreState>) -> bool {
        self.reach.as_ref().is_some_and(|reach| !reach.is_through(store))
    }

    /// Adds what the backward pass of this node sees, depends on `store`, and is not on a gradient's way.
    pub(crate) fn detached_below(
        &self,
        store: &Arc<StoreState>,
        entered: &mut HashSet<*const Node>,
        found: &mut Vec<Arc<Node>>,
    ) {
        let depends = |node: &Arc<Node>| node.stores.iter().any(|known| Arc::ptr_eq(known, store));
        let mut below = if self.passes_grad { self.inputs() } else { vec![] };
        while let Some(node) = below.pop() {
            if !depends(&node) || !entered.insert(Arc::as_ptr(&node)) {
                continue;
            }
            match node.flow() {
                Flow::Nothing | Flow::Ends => found.push(node),
                Flow::Through => below.extend(node.inputs()),
            }
        }
    }

    /// After an update of a store that it depends on.
    pub(crate) fn outlive_update(&self) {
        if self.has_value() && matches!(self.source, Source::Op(_) | Source::Result { .. }) {
            self.let_go();
        }
    }

    /// Number of the thread that recorded it; 0 once several threads have it.
    pub(crate) fn thread(&self) -> u64 {
        self.thread.load(Ordering::Relaxed)
    }

    /// Notes that this thread has it too.
    pub(crate) fn share(&self) {
        if !self.is_own() {
            self.thread.store(0, Ordering::Relaxed);
        }
    }

    /// True if this thread recorded it.
    pub(crate) fn is_own(&self) -> bool {
        self.thread() == this_thread()
    }

    /// Notes that it cannot be computed: a read returns `error`.
    pub(crate) fn fail(&self, error: Error) {
        *self.past() = Past { inputs: Inputs::new(), gone: Some(error) };
    }
}
