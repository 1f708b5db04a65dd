//! Recorded nodes, and the snapshot of them that a run collects.
//!
//! A node is immutable apart from its value and its history. It keeps its inputs alive as long as a gradient may be asked for
//! through it, or it has no value. Nodes count the user's handles apart from the references of other nodes: what a user
//! holds is an output.

use std::panic::Location;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::arena::Arena;
use crate::array::Array;
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Error;
use crate::gpu::GpuValue;
use crate::history::{Flow, Past, Reach, this_thread};
use crate::layout::Meta;
use crate::op::{Op, Role, identity};
use crate::results::ResultNode;
use crate::shape::Shape;
use crate::version::StoreState;

pub use crate::host::HostData;

/// What a node is computed from. Most have one or two: recording allocates none for them.
pub(crate) type Inputs = SmallVec<[Arc<Node>; 2]>;

/// A range of an arena that a parameter leaf stands for, valid for one version of its store.
#[derive(Debug)]
pub struct ParameterLeaf {
    /// The arena of values.
    pub arena: Arc<Arena>,
    /// First element.
    pub offset: usize,
    /// Version of the values when the leaf was made.
    pub version: u64,
    /// The store's present state.
    pub store: Arc<StoreState>,
    /// Name of the parameter.
    pub name: Arc<str>,
}

impl ParameterLeaf {
    /// True if the parameter has been updated since the leaf was made.
    pub fn is_stale(&self) -> bool {
        self.store.version() != self.version
    }
}

/// Where a node's value comes from.
#[derive(Debug)]
pub enum Source {
    /// An op on the node's inputs; shared with the nodes that compute it again. The node of an op of several results has no
    /// value of its own: each result is a node.
    Op(Arc<dyn Op>),
    /// One of several results of the op of its only input.
    Result {
        /// Which.
        number: usize,
        /// Name of the op.
        name: &'static str,
    },
    /// Host data, written into the plan's slot when it runs.
    Upload {
        /// The data.
        data: Arc<HostData>,
        /// Largest value of an integer upload (for label checks).
        largest: Option<u32>,
        /// Number of runs that have used it.
        uses: AtomicU32,
    },
    /// Up to four host numbers (32-bit words on a GPU) that travel in the step's uniform.
    Operand {
        /// As f64, for the reference.
        value: [f64; 4],
        /// As 32-bit words.
        words: [u32; 4],
    },
    /// A parameter.
    Parameter(ParameterLeaf),
    /// A value that came from a run.
    Stored,
    /// An invalid op.
    Error(Error),
}

impl Source {
    /// The parameter that it is, if it is one.
    pub(crate) fn parameter(&self) -> Option<&ParameterLeaf> {
        match self {
            Source::Parameter(leaf) => Some(leaf),
            _ => None,
        }
    }
}

/// A computed value.
#[derive(Debug, Clone)]
pub enum Value {
    /// On the reference device.
    Cpu(Arc<Array>),
    /// On a GPU.
    Gpu(GpuValue),
}

/// A recorded node.
#[derive(Debug)]
pub struct Node {
    /// Number in program order.
    pub id: u64,
    /// Where it lives.
    pub device: Device,
    /// Shape and dtype; of no meaning for an error.
    pub meta: Meta,
    /// Where its value comes from.
    pub source: Source,
    /// The results of an op of several; else empty.
    pub(crate) results: Vec<ResultNode>,
    /// True if gradients flow to it.
    pub requires_grad: bool,
    /// True if they flow on to its inputs.
    pub(crate) passes_grad: bool,
    /// What gradients reach through it; `None` unless it requires them.
    pub(crate) reach: Option<Arc<Reach>>,
    /// Stores whose parameters its value depends on.
    pub(crate) stores: SmallVec<[Arc<StoreState>; 1]>,
    /// Number of the recomputed region that it was recorded in, 0 for none.
    pub region: u64,
    /// Source line of the call that recorded it.
    pub at: &'static Location<'static>,
    /// Number of the thread that recorded it; 0 once several threads have it.
    pub(crate) thread: AtomicU64,
    value: Mutex<Option<Value>>,
    /// True once there is a value: asked for at every node of a step.
    has_value: AtomicBool,
    pub(crate) past: Mutex<Past>,
    /// Number of user handles.
    pub handles: AtomicUsize,
    /// Scratch of [`Snapshot::collect`]: run number and index.
    mark: AtomicU64,
    /// Scratch of [`Snapshot::collect`]: the last run whose backward pass goes through it.
    traced: AtomicU64,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl Node {
    pub(crate) fn new(
        device: &Device,
        meta: Meta,
        source: Source,
        inputs: Inputs,
        flow: Flow,
        at: &'static Location<'static>,
    ) -> Node {
        let reach = match (&source, flow) {
            (_, Flow::Nothing) => None,
            (Source::Parameter(leaf), _) => Some(Arc::new(Reach::of(leaf, at))),
            (_, Flow::Through) => Some(Reach::through(&inputs)),
            (_, Flow::Ends) => Some(Arc::new(Reach { parameters: vec![], variable: true })),
        };
        let mut stores: SmallVec<[Arc<StoreState>; 1]> = SmallVec::new();
        if let Source::Parameter(leaf) = &source {
            stores.push(leaf.store.clone());
        }
        for store in inputs.iter().flat_map(|node| &node.stores) {
            if !stores.iter().any(|known| Arc::ptr_eq(known, store)) {
                stores.push(store.clone());
            }
        }
        // A result belongs to its op.
        let region = match (&source, inputs.first()) {
            (Source::Result { .. }, Some(op)) => op.region,
            _ => crate::recompute::current_region(),
        };
        Node {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            device: device.clone(),
            meta,
            source,
            results: vec![],
            requires_grad: flow != Flow::Nothing,
            passes_grad: flow == Flow::Through,
            reach,
            stores,
            region,
            at,
            thread: AtomicU64::new(this_thread()),
            value: Mutex::new(None),
            has_value: AtomicBool::new(false),
            past: Mutex::new(Past { inputs, gone: None }),
            handles: AtomicUsize::new(0),
            mark: AtomicU64::new(0),
            traced: AtomicU64::new(0),
        }
    }

    pub(crate) fn lock_value(&self) -> MutexGuard<'_, Option<Value>> {
        self.value.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The computed value, if there is one.
    pub(crate) fn value(&self) -> Option<Value> {
        self.lock_value().clone()
    }

    pub(crate) fn has_value(&self) -> bool {
        self.has_value.load(Ordering::Acquire)
    }

    pub(crate) fn set_value(&self, value: Value) {
        *self.lock_value() = Some(value);
        self.has_value.store(true, Ordering::Release);
        if !self.passes_grad {
            self.let_go();
        }
    }

    /// The error it carries, if it is an invalid op.
    pub(crate) fn error(&self) -> Option<&Error> {
        match &self.source {
            Source::Error(error) => Some(error),
            _ => None,
        }
    }

    /// True if a user holds it.
    pub(crate) fn is_held(&self) -> bool {
        self.handles.load(Ordering::Acquire) > 0
    }

    /// What its op may be taken for; `None` for a leaf.
    pub(crate) fn role(&self) -> Option<Role> {
        match &self.source {
            Source::Op(op) => Some(op.role()),
            _ => None,
        }
    }

    /// Name of what it does, for dumps and errors.
    pub(crate) fn name(&self) -> &'static str {
        match &self.source {
            Source::Op(op) => op.name(),
            Source::Result { name, .. } => name,
            Source::Upload { .. } => "upload",
            Source::Operand { .. } => "operand",
            Source::Parameter(_) => "parameter",
            Source::Stored => "stored",
            Source::Error(_) => "error",
        }
    }
}

impl Drop for Node {
    /// Long chains are dropped by a loop, not by recursion.
    fn drop(&mut self) {
        let past = |node: &mut Node| match node.past.get_mut() {
            Ok(past) => std::mem::take(&mut past.inputs),
            Err(poisoned) => std::mem::take(&mut poisoned.into_inner().inputs),
        };
        let mut stack = past(self);
        while let Some(node) = stack.pop() {
            if let Some(mut node) = Arc::into_inner(node) {
                stack.extend(past(&mut node));
            }
        }
    }
}

/// What a leaf of a snapshot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LeafKind {
    /// Host data to be written.
    Upload,
    /// A value of an earlier run.
    Stored,
    /// Host numbers.
    Operand,
    /// A range of a parameter arena.
    Parameter,
}

/// The nodes that a run needs, in topological order, and the words that identify their structure.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// The nodes.
    pub nodes: Vec<Arc<Node>>,
    /// What each node is if it is a leaf.
    pub leaves: Vec<Option<LeafKind>>,
    /// Inputs of each node, as indices; empty for leaves.
    pub inputs: Vec<SmallVec<[u32; 4]>>,
    /// Indices of the roots.
    pub roots: Vec<u32>,
}

static NEXT_RUN: AtomicU64 = AtomicU64::new(1);

impl Snapshot {
    /// None yet, with room for so many nodes and roots.
    fn with_room(nodes: usize, roots: usize) -> Snapshot {
        Snapshot {
            nodes: Vec::with_capacity(nodes),
            leaves: Vec::with_capacity(nodes),
            inputs: Vec::with_capacity(nodes),
            roots: Vec::with_capacity(roots),
        }
    }

    /// Collects what `roots` need. With a `loss`, nodes between it and the parameters are entered even where they have a
    /// value: what its backward pass needs. The order is that of a depth-first walk from the roots, so the order of
    /// recording does not show.
    ///
    /// # Errors
    /// The error that a root carries, or [`Error::History`] if a parameter that the backward pass goes to has been
    /// updated since.
    pub fn collect(roots: &[Arc<Node>], loss: Option<&Arc<Node>>) -> Result<Snapshot, Error> {
        let run = NEXT_RUN.fetch_add(1, Ordering::Relaxed) & 0xFFFF_FFFF;
        if let Some(loss) = loss {
            trace(loss, run)?;
        }
        let mut snapshot = Snapshot::with_room(64, roots.len());
        let index_of = |node: &Node| {
            let mark = node.mark.load(Ordering::Relaxed);
            (mark >> 32 == run).then_some(mark as u32)
        };
        let mut stack: Vec<(Arc<Node>, bool)> = Vec::with_capacity(64);
        for root in roots {
            stack.push((root.clone(), false));
            while let Some((node, entered)) = stack.pop() {
                if index_of(&node).is_some() {
                    continue;
                }
                if !entered {
                    let leaf = leaf_kind(&node, node.traced.load(Ordering::Relaxed) == run)?;
                    if leaf.is_none() {
                        stack.push((node.clone(), true));
                        let new = |input: &&Arc<Node>| index_of(input).is_none();
                        let push = |input: &Arc<Node>| (input.clone(), false);
                        node.with_inputs(|inputs| stack.extend(inputs.iter().rev().filter(new).map(push)));
                        continue;
                    }
                    snapshot.leaves.push(leaf);
                    snapshot.inputs.push(SmallVec::new());
                } else {
                    let index = |input: &Arc<Node>| index_of(input).unwrap_or(u32::MAX);
                    snapshot.leaves.push(None);
                    snapshot.inputs.push(node.with_inputs(|inputs| inputs.iter().map(index).collect()));
                    // What else a user holds of its results is computed with them.
                    let wanted = |other: &Arc<Node>| other.is_held() && !other.has_value() && other.lost().is_none();
                    stack.extend(node.known_results().flatten().filter(wanted).map(|other| (other, false)));
                }
                node.mark.store(run << 32 | snapshot.nodes.len() as u64, Ordering::Relaxed);
                snapshot.nodes.push(node);
            }
            snapshot.roots.push(index_of(root).unwrap_or(u32::MAX));
        }
        Ok(snapshot)
    }

    /// Index of `node` in this snapshot, if no other snapshot was collected since.
    pub fn position(&self, node: &Arc<Node>) -> Option<usize> {
        let index = node.mark.load(Ordering::Relaxed) as u32 as usize;
        (index < self.nodes.len() && Arc::ptr_eq(&self.nodes[index], node)).then_some(index)
    }

    /// Appends the words of the structure: equal words mean the same plan fits.
    pub fn words(&self, words: &mut Vec<u64>) {
        // Places of the regions met so far, from 1 on, and the one met last.
        let mut regions: FxHashMap<u64, u64> = FxHashMap::default();
        let mut last = (0, 0);
        for (i, node) in self.nodes.iter().enumerate() {
            let flags = u64::from(node.requires_grad) << 8 | node.meta.dtype as u64;
            match (&self.leaves[i], &node.source) {
                (Some(kind), source) => {
                    words.push(0xF000 | (*kind as u64) << 16 | flags | (node.meta.shape.rank() as u64) << 32);
                    words.extend(node.meta.shape.iter().map(|&d| d as u64));
                    if let (LeafKind::Parameter, Source::Parameter(leaf)) = (kind, source) {
                        words.extend([leaf.arena.id, leaf.offset as u64]);
                    }
                }
                (None, Source::Op(op)) => {
                    words.push(identity(op.as_ref()));
                    let start = words.len();
                    // Regions by the order in which they are met: their own numbers differ from step to step.
                    if node.region != last.0 && node.region != 0 {
                        let next = regions.len() as u64 + 1;
                        last = (node.region, *regions.entry(node.region).or_insert(next));
                    }
                    let region = if node.region == 0 { 0 } else { last.1 };
                    words.push(flags | region << 9);
                    op.attributes(words);
                    words[start] |= ((words.len() - start) as u64) << 32;
                    words.extend(self.inputs[i].iter().map(|&input| u64::from(input)));
                }
                (None, Source::Result { number, .. }) => {
                    words.push(0xE000 | (*number as u64) << 16 | flags);
                    words.extend(self.inputs[i].iter().map(|&input| u64::from(input)));
                }
                // A node that is neither is never collected without a leaf kind.
                (None, _) => words.push(u64::MAX),
            }
        }
        words.push(0xFFFF_0000 | (self.roots.len() as u64) << 32);
        words.extend(self.roots.iter().map(|&root| u64::from(root)));
    }
}

/// Marks the nodes that the backward pass of `loss` goes through on its way to parameters.
fn trace(loss: &Arc<Node>, run: u64) -> Result<(), Error> {
    let mut stack = vec![loss.clone()];
    while let Some(node) = stack.pop() {
        if !node.reaches_parameters() || node.traced.swap(run, Ordering::Relaxed) == run {
            continue;
        }
        match &node.source {
            Source::Parameter(leaf) if leaf.is_stale() => return Err(stale(&leaf.name, node.at)),
            _ => node.gradient_inputs(&mut stack)?,
        }
    }
    Ok(())
}

/// What a node is to a run if it is a leaf; `traced`: its backward pass goes through it.
fn leaf_kind(node: &Node, traced: bool) -> Result<Option<LeafKind>, Error> {
    let known = node.has_value() && !traced;
    match &node.source {
        Source::Error(error) => Err(error.clone()),
        Source::Operand { .. } => Ok(Some(LeafKind::Operand)),
        Source::Parameter(_) if known => Ok(Some(LeafKind::Stored)),
        Source::Parameter(leaf) if leaf.is_stale() => Err(stale(&leaf.name, node.at)),
        Source::Parameter(_) => Ok(Some(LeafKind::Parameter)),
        Source::Upload { .. } if !node.has_value() => Ok(Some(LeafKind::Upload)),
        Source::Op(_) | Source::Result { .. } if !known => node.lost().map_or(Ok(None), Err),
        _ => Ok(Some(LeafKind::Stored)),
    }
}

pub(crate) fn stale(name: &str, at: &'static Location<'static>) -> Error {
    Error::History {
        op: "gradient",
        at,
        what: format!("parameter `{name}`, recorded here, has been updated since"),
        next: "record the forward pass again after the update",
    }
}

/// Shape and dtype of a scalar operand.
pub(crate) fn scalar(dtype: DType) -> Meta {
    Meta { shape: Shape::SCALAR, dtype }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_of_a_million_nodes_is_dropped_without_recursion() {
        let device = Device::cpu();
        let at = Location::caller();
        let mut node =
            Arc::new(Node::new(&device, scalar(DType::F32), Source::Stored, Inputs::new(), Flow::Nothing, at));
        for _ in 0..1_000_000 {
            node = Arc::new(Node::new(
                &device,
                scalar(DType::F32),
                Source::Stored,
                smallvec::smallvec![node],
                Flow::Nothing,
                at,
            ));
        }
        drop(node);
    }
}
