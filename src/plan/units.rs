//! What fusion decides: which nodes share a kernel.

use rustc_hash::{FxHashMap, FxHashSet};

use super::graph::Graph;

/// What runs as one kernel (or, for an op of several kernels, together).
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Pointwise members before the kernel (its prologue), after it (its epilogue), or the whole of it.
    pub members: Vec<usize>,
    /// The node with hand-written kernels, if there is one.
    pub kernel: Option<usize>,
    /// Members that feed the kernel's input 0.
    pub prologue: FxHashSet<usize>,
    /// Further results of the kernel.
    pub further: Vec<usize>,
    /// Members behind one of these, with its number; those behind the first result are not among them.
    pub behind: FxHashMap<usize, usize>,
}

impl Unit {
    /// All that its kernels compute.
    pub fn nodes(&self) -> impl Iterator<Item = usize> {
        self.members.iter().chain(&self.kernel).chain(&self.further).copied()
    }
}

/// The outcome: units in no particular order, and the unit of each node.
#[derive(Debug, Default)]
pub struct Fusion {
    /// The units.
    pub units: Vec<Unit>,
    /// The unit whose kernel computes (and, if needed, stores) a node; `None` for leaves, views and inlined nodes.
    pub unit_of: Vec<Option<usize>>,
    /// Pointwise nodes that every consumer recomputes.
    pub inlined: Vec<bool>,
}

/// What fusion has decided so far.
pub struct State<'a> {
    pub unit_of: &'a [Option<usize>],
    pub inlined: &'a [bool],
    pub live: &'a [bool],
}

impl State<'_> {
    /// True if `node` must be in a buffer after its unit has run.
    pub fn is_stored(&self, graph: &Graph, node: usize) -> bool {
        graph.is_output(node) || self.is_needed_outside(graph, node)
    }

    fn is_needed_outside(&self, graph: &Graph, node: usize) -> bool {
        let unit = self.unit_of[node];
        let mut stack = vec![node];
        let mut inlined: FxHashSet<usize> = FxHashSet::default();
        while let Some(node) = stack.pop() {
            for &user in graph.consumers(node).iter().filter(|&&user| self.live[user]) {
                match self.inlined[user] {
                    true if inlined.insert(user) => stack.push(user),
                    true => {}
                    false if self.unit_of[user] != unit => return true,
                    false => {}
                }
            }
        }
        false
    }
}
