//! What a generated kernel takes, known without generating its text anew for every node that joins it.

use super::{Fuser, MAX_WORDS};
use crate::graph::LeafKind;
use crate::kernel::Kernel;
use crate::layout::Strided;
use crate::plan::emit::{Emitted, MOST_OPERATIONS};
use crate::plan::graph::{Graph, Work};
use crate::plan::units::State;
use rustc_hash::FxHashSet;

/// Levels of members above a new one whose operands may have to be hidden from the compiler (`emit/apart.rs`) because of it.
const APART: usize = 4;

/// Words that a long kernel may leave unused.
const SPARE: usize = 32;

/// Bounds on the text of a unit without hand-written kernels.
#[derive(Debug, Clone)]
pub(super) struct Size {
    /// Nodes that it binds for reading.
    reads: Vec<usize>,
    /// How many it binds for writing.
    writes: usize,
    /// Elements of each of these.
    elements: usize,
    /// Host numbers that members take.
    operands: Vec<usize>,
    /// Words of constants of its members.
    constants: usize,
    /// Words of index arithmetic, constants and host numbers at most.
    words: usize,
    /// Words when it was emitted last.
    emitted_words: usize,
    /// Operations at most.
    operations: usize,
    /// See [`Emitted::flat`].
    flat: bool,
}

/// Whether a unit can be one kernel.
pub(super) enum Fits {
    Yes(Size),
    No,
    /// The bounds do not tell.
    Unknown,
}

impl Size {
    /// Of a unit that was emitted.
    pub fn new(graph: &Graph, members: &[usize], emitted: &Emitted) -> Size {
        let mut size = Size {
            reads: emitted.reads.clone(),
            writes: emitted.writes.len(),
            elements: emitted.writes.first().map_or(0, |&node| graph.nodes[node].meta.elements()),
            operands: vec![],
            constants: 0,
            words: emitted.words.len(),
            emitted_words: emitted.words.len(),
            operations: emitted.operations,
            flat: emitted.flat,
        };
        for &member in members {
            size.constants += constants(graph, member);
            let bases = (0..graph.nodes[member].inputs.len()).map(|k| graph.base(member, k));
            size.operands.extend(bases.filter(|&base| is_operand(graph, base)));
        }
        size.operands.sort_unstable();
        size.operands.dedup();
        size
    }
}

fn add(list: &mut Vec<usize>, node: usize) {
    if !list.contains(&node) {
        list.push(node);
    }
}

fn is_operand(graph: &Graph, node: usize) -> bool {
    matches!(graph.nodes[node].work, Work::Leaf(LeafKind::Operand, _))
}

fn constants(graph: &Graph, node: usize) -> usize {
    match &graph.nodes[node].work {
        Work::Pointwise { constants, .. } => constants.len(),
        _ => 0,
    }
}

/// Words of the index arithmetic of a view, at most: a start, and a stride, a length and two to divide by it an axis.
fn index_words(map: &Strided) -> usize {
    if map.is_identity() { 0 } else { 1 + 2 * map.dynamic.len() + 4 * map.shape.rank() }
}

impl Fuser<'_> {
    /// Words that hide operands of `node` and of members above it, at most: each but the first may take one.
    fn hideable(&self, unit: usize, node: usize) -> usize {
        let mut level = vec![node];
        let mut seen: Vec<usize> = level.clone();
        for _ in 0..APART {
            let users = level.iter().flat_map(|&node| self.live_uses(node)).map(|used| used.consumer);
            level = users.filter(|&user| self.unit_of[user] == Some(unit) && !seen.contains(&user)).collect();
            level.sort_unstable();
            level.dedup();
            seen.extend(&level);
        }
        seen.iter().map(|&node| self.graph.nodes[node].inputs.len().saturating_sub(1)).sum()
    }

    /// Buffers that `kernel`, the only one of unit `into`, binds at least once it computes unit `from` too.
    pub(super) fn least_buffers(&self, kernel: &Kernel, into: usize, from: usize) -> usize {
        let graph = self.graph;
        let state = State { unit_of: &self.unit_of, inlined: &self.inlined, live: &self.live };
        let mut reads = FxHashSet::default();
        for &member in self.units[into].members.iter().chain(&self.units[from].members) {
            for k in 0..graph.nodes[member].inputs.len() {
                let base = graph.base(member, k);
                let is_read = match self.unit_of[base] {
                    Some(unit) => unit != into && unit != from,
                    None => matches!(graph.nodes[base].work, Work::Leaf(..)) && !is_operand(graph, base),
                };
                if is_read {
                    reads.insert(base);
                }
            }
        }
        let writes = self.units[from].members.iter().filter(|&&member| state.is_stored(graph, member)).count();
        kernel.bindings.len() - usize::from(kernel.prologue) + reads.len() + writes
    }

    /// Whether `unit`, whose size was `size` before `node` became a member, can still be one kernel.
    pub(super) fn with_member(&self, unit: usize, size: &Size, node: usize) -> Fits {
        let graph = self.graph;
        let inside = |consumer: usize| self.unit_of[consumer] == Some(unit);
        // Computed at the index of the results, once.
        let mut uses = self.live_uses(node);
        if !size.flat || uses.any(|used| self.inlined[used.consumer] || inside(used.consumer) && !used.aligned) {
            return Fits::Unknown;
        }
        let mut next = size.clone();
        next.reads.retain(|&read| read != node);
        next.constants += constants(graph, node);
        next.words += constants(graph, node);
        next.operations += 1;
        next.words += self.hideable(unit, node);
        for k in 0..graph.nodes[node].inputs.len() {
            let (base, map) = graph.access(node, k);
            next.words += index_words(&map);
            if map.dynamic.iter().any(|&(operand, _)| graph.operand_word(operand).is_none()) {
                return Fits::Unknown;
            }
            match &graph.nodes[base].work {
                Work::Leaf(LeafKind::Operand, _) => {
                    add(&mut next.operands, base);
                    next.words += if graph.takes_words(node, k) { 4 } else { 1 };
                }
                Work::Pointwise { constants, .. } if self.inlined[base] && graph.nodes[base].inputs.is_empty() => {
                    next.words += constants.len();
                    next.operations += 1;
                }
                Work::Leaf(..) | Work::Kernels { .. } | Work::Result { .. } => {
                    add(&mut next.reads, base);
                }
                Work::Pointwise { .. } if !self.inlined[base] && !inside(base) => add(&mut next.reads, base),
                _ => return Fits::Unknown,
            }
        }
        let state = State { unit_of: &self.unit_of, inlined: &self.inlined, live: &self.live };
        if state.is_stored(graph, node) {
            next.writes += 1;
            if graph.nodes[node].meta.elements() != next.elements {
                return Fits::No;
            }
        }
        // The number of elements is a word too.
        let least = 1 + next.constants + next.operands.len();
        if next.reads.len() + next.writes > self.buffers || least > MAX_WORDS {
            return Fits::No;
        }
        match next.operations <= MOST_OPERATIONS {
            true if next.words <= MAX_WORDS => Fits::Yes(next),
            // Nearly full: what may still fit is not worth a text for each node that asks.
            true if next.emitted_words > MAX_WORDS - SPARE => Fits::No,
            _ => Fits::Unknown,
        }
    }
}
