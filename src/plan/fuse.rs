//! Which nodes share a kernel.
//!
//! Units grow from the last node to the first, so that a pointwise op joins its consumers rather than its producer: a
//! mask that only a backward op needs is recomputed there from a stored activation instead of being stored itself.

use std::collections::HashSet;

use super::build::{Graph, Work};
use super::emit::{self, Emitted, State};

/// Words of index arithmetic that fit the uniform of a kernel.
pub const MAX_WORDS: usize = 256;

/// What runs as one kernel (or, for an op of several kernels, together).
#[derive(Debug, Clone, Default)]
pub struct Unit {
    /// Pointwise members before the kernel (its prologue), after it (its epilogue), or the whole of it.
    pub members: HashSet<usize>,
    /// The node with hand-written kernels, if there is one.
    pub kernel: Option<usize>,
    /// Members that feed the kernel's input 0.
    pub prologue: HashSet<usize>,
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

/// A use of a node by another, through views.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Use {
    consumer: usize,
    /// True if element i of the consumer needs element i of the node.
    aligned: bool,
}

pub fn fuse(graph: &Graph, enabled: bool, buffers: usize) -> Fusion {
    let count = graph.nodes.len();
    let mut uses: Vec<Vec<Use>> = vec![vec![]; count];
    for (consumer, node) in graph.nodes.iter().enumerate() {
        if matches!(node.work, Work::View) {
            continue;
        }
        for k in 0..node.inputs.len() {
            let (base, map) = graph.access(consumer, k);
            let used = Use { consumer, aligned: map.is_identity() };
            if !uses[base].contains(&used) {
                uses[base].push(used);
            }
        }
        for operand in graph.dynamic_operands(consumer) {
            uses[operand].push(Use { consumer, aligned: false });
        }
    }
    let mut fuser = Fuser {
        graph,
        units: vec![],
        unit_of: vec![None; count],
        inlined: vec![false; count],
        live: graph.live(),
        constant: constants(graph),
        waited_for: graph.waited_for(),
        buffers,
    };
    for node in 0..count {
        if matches!(graph.nodes[node].work, Work::Kernels { .. } | Work::Pointwise { .. }) {
            let kernel = matches!(graph.nodes[node].work, Work::Kernels { .. }).then_some(node);
            let members = if kernel.is_none() { HashSet::from([node]) } else { HashSet::new() };
            fuser.unit_of[node] = Some(fuser.units.len());
            fuser.units.push(Unit { members, kernel, prologue: HashSet::new() });
        }
    }
    if enabled {
        for node in (0..count).rev() {
            if fuser.live[node] && matches!(graph.nodes[node].work, Work::Pointwise { .. }) {
                fuser.place(node, &uses[node]);
            }
        }
        for (node, uses) in uses.iter().enumerate() {
            if fuser.live[node] {
                fuser.attach_epilogue(node, uses);
            }
        }
    }
    Fusion { units: fuser.units, unit_of: fuser.unit_of, inlined: fuser.inlined }
}

struct Fuser<'a> {
    graph: &'a Graph,
    units: Vec<Unit>,
    unit_of: Vec<Option<usize>>,
    inlined: Vec<bool>,
    live: Vec<bool>,
    /// Nodes that no data enters: whoever needs them forms them.
    constant: Vec<bool>,
    /// Nodes that recomputed regions wait for.
    waited_for: Vec<bool>,
    buffers: usize,
}

/// Pointwise nodes of constants, and of what is made of these alone.
fn constants(graph: &Graph) -> Vec<bool> {
    let mut constant = vec![false; graph.nodes.len()];
    for (node, what) in graph.nodes.iter().enumerate() {
        constant[node] = match &what.work {
            Work::Pointwise { expression, .. } => {
                !expression.contains("random") && graph.dependencies(node).iter().all(|&used| constant[used])
            }
            _ => false,
        };
    }
    constant
}

impl Fuser<'_> {
    /// Joins pointwise `node` to its consumers where that is sound.
    fn place(&mut self, node: usize, uses: &[Use]) {
        let uses: Vec<Use> = uses.iter().filter(|used| self.live[used.consumer]).copied().collect();
        let is_output = self.graph.is_output(node);
        let elements = self.graph.nodes[node].meta.elements();
        let pointwise = |used: &Use| matches!(self.graph.nodes[used.consumer].work, Work::Pointwise { .. });
        let costly =
            matches!(&self.graph.nodes[node].work, Work::Pointwise { expression, .. } if expression.contains("random"));
        let free = self.constant[node];
        // Small or single-use producers read at other indices are recomputed by each consumer.
        let absorbs = |used: &Use| pointwise(used) || free && self.is_prologue_alone(node, used.consumer);
        if !is_output && !uses.is_empty() && uses.iter().all(absorbs) && !costly {
            let stretched = uses
                .iter()
                .all(|used| !used.aligned && elements * 4 <= self.graph.nodes[used.consumer].meta.elements());
            let only_one = uses.len() == 1 && !uses[0].aligned;
            if stretched || only_one || free {
                self.inlined[node] = true;
                let unit = self.unit_of[node].take();
                if let Some(unit) = unit {
                    self.units[unit].members.clear();
                }
                if self.within_limits_all(&uses) {
                    return;
                }
                // Too many buffers in a consumer: keep it apart after all.
                self.inlined[node] = false;
                self.unit_of[node] = unit;
                if let Some(unit) = unit {
                    self.units[unit].members.insert(node);
                }
                return;
            }
        }
        // The prologue of a reduction, where nothing else needs the value.
        if let [only] = uses[..]
            && !is_output
            && only.aligned
            && let Work::Kernels { kernels, .. } = &self.graph.nodes[only.consumer].work
            && kernels[0].prologue
            && self.graph.nodes[only.consumer].inputs[0] == node
        {
            self.join_prologue(node, only.consumer);
            return;
        }
        for used in uses.iter().filter(|used| used.aligned) {
            if !pointwise(used) || self.inlined[used.consumer] {
                continue;
            }
            let Some(mine) = self.unit_of[node] else { return };
            let Some(theirs) = self.unit_of[used.consumer] else { continue };
            if self.units[theirs].prologue.contains(&used.consumer) {
                if uses.len() == 1 && !is_output {
                    if let Some(kernel) = self.units[theirs].kernel {
                        self.join_prologue(node, kernel);
                    }
                    return;
                }
                continue;
            }
            // Elements at other indices of the same node would have to be stored first.
            let conflicting = uses
                .iter()
                .any(|other| !other.aligned && self.unit_of[other.consumer] == Some(theirs) && !self.constant[node]);
            if mine != theirs && !conflicting && self.units[theirs].kernel.is_none() {
                self.try_merge(mine, theirs);
            }
        }
    }

    /// True if `kernel` reads `node` through its prologue and in no other way.
    fn is_prologue_alone(&self, node: usize, kernel: usize) -> bool {
        let Work::Kernels { kernels, .. } = &self.graph.nodes[kernel].work else { return false };
        let reads = |k| self.graph.access(kernel, k).0 == node;
        kernels[0].prologue && reads(0) && !(1..self.graph.nodes[kernel].inputs.len()).any(reads)
    }

    fn within_limits_all(&self, uses: &[Use]) -> bool {
        uses.iter().all(|used| match self.unit_of[used.consumer] {
            Some(unit) => self.within_limits(unit),
            // The consumer is inlined itself: its own consumers were checked when it was; check them with this one.
            None => self.units.iter().enumerate().all(|(i, unit)| {
                let needed = unit.members.iter().any(|&member| self.live[member]);
                !needed || self.within_limits(i)
            }),
        })
    }

    fn join_prologue(&mut self, node: usize, kernel: usize) {
        let Some(unit) = self.unit_of[kernel] else { return };
        let old = self.unit_of[node];
        // The kernel is all that reads the node, but a region may wait for it whose results the kernel needs.
        if self.waited_for[node] && old.is_some_and(|old| self.path_outside(old, unit)) {
            return;
        }
        self.units[unit].members.insert(node);
        self.units[unit].prologue.insert(node);
        self.unit_of[node] = Some(unit);
        if let Some(old) = old {
            self.units[old].members.remove(&node);
        }
        if !self.within_limits(unit) {
            self.units[unit].members.remove(&node);
            self.units[unit].prologue.remove(&node);
            self.unit_of[node] = old;
            if let Some(old) = old {
                self.units[old].members.insert(node);
            }
        }
    }

    /// Merges unit `from` into `into` unless that closes a cycle or needs too many buffers.
    fn try_merge(&mut self, from: usize, into: usize) -> bool {
        if self.path_outside(from, into) || self.path_outside(into, from) {
            return false;
        }
        let saved = (self.units[from].clone(), self.units[into].clone());
        let moved = std::mem::take(&mut self.units[from]);
        for &member in moved.members.iter().chain(&moved.kernel) {
            self.unit_of[member] = Some(into);
        }
        self.units[into].members.extend(moved.members);
        self.units[into].prologue.extend(moved.prologue);
        self.units[into].kernel = self.units[into].kernel.or(moved.kernel);
        if self.within_limits(into) {
            return true;
        }
        (self.units[from], self.units[into]) = saved;
        let restored = &self.units[from];
        for &member in restored.members.iter().chain(&restored.kernel) {
            self.unit_of[member] = Some(from);
        }
        false
    }

    /// Sinks the pointwise consumers of a kernel's result into its epilogue.
    fn attach_epilogue(&mut self, node: usize, uses: &[Use]) {
        let Work::Kernels { kernels, .. } = &self.graph.nodes[node].work else { return };
        if !kernels.iter().any(|kernel| kernel.epilogue) {
            return;
        }
        let Some(mine) = self.unit_of[node] else { return };
        for used in uses {
            let Some(theirs) = self.unit_of[used.consumer] else { continue };
            let group = &self.units[theirs];
            let elements = self.graph.nodes[node].meta.elements();
            let fits = used.aligned
                && group.members.contains(&used.consumer)
                && group.kernel.is_none()
                && group.members.iter().all(|&member| self.graph.nodes[member].meta.elements() == elements);
            // Elements at other indices would have to be stored first.
            let conflicting = uses.iter().any(|other| !other.aligned && self.unit_of[other.consumer] == Some(theirs));
            if fits && !conflicting && mine != theirs && self.try_merge(theirs, mine) {
                return;
            }
        }
    }

    /// True if a path leads from `start` to `end` through a third unit (or through nodes of none).
    fn path_outside(&self, start: usize, end: usize) -> bool {
        // Walk back from the end's external inputs; reaching a node of `start` beyond the first edge is a cycle.
        let mut seen = vec![false; self.graph.nodes.len()];
        let mut stack: Vec<usize> = vec![];
        let inside = |node: usize| self.unit_of[node] == Some(end);
        let nodes = self.unit_nodes(end);
        for &node in &nodes {
            for input in self.graph.dependencies(node) {
                if !inside(input) && self.unit_of[input] != Some(start) && !seen[input] {
                    seen[input] = true;
                    stack.push(input);
                }
            }
        }
        while let Some(node) = stack.pop() {
            // A unit is entered whole: it runs after everything that any of its members needs.
            let members = match self.unit_of[node] {
                Some(unit) => self.unit_nodes(unit),
                None => vec![node],
            };
            for member in members {
                for input in self.graph.dependencies(member) {
                    if self.unit_of[input] == Some(start) {
                        return true;
                    }
                    if !seen[input] && !inside(input) {
                        seen[input] = true;
                        stack.push(input);
                    }
                }
            }
        }
        false
    }

    fn unit_nodes(&self, unit: usize) -> Vec<usize> {
        self.units[unit].members.iter().chain(&self.units[unit].kernel).copied().collect()
    }

    /// True if the unit's text can be generated and binds no more buffers than an adapter allows.
    fn within_limits(&self, unit: usize) -> bool {
        let members = &self.units[unit];
        if members.members.is_empty() {
            return true;
        }
        let state = State { unit_of: &self.unit_of, inlined: &self.inlined, live: &self.live };
        let fits = |emitted: &Emitted, own: usize| {
            own + emitted.reads.len() + emitted.writes.len() <= self.buffers && emitted.words.len() <= MAX_WORDS
        };
        match members.kernel.map(|kernel| &self.graph.nodes[kernel].work) {
            Some(Work::Kernels { kernels, .. }) => kernels.iter().all(|kernel| {
                let emitted = emit::around(self.graph, &state, unit, members, kernel);
                // Input 0 of a prologue is among the reads.
                let own = kernel.bindings.len() - usize::from(kernel.prologue);
                emitted.is_ok_and(|emitted| fits(&emitted, own))
            }),
            _ => emit::emit(self.graph, &state, unit, members, 1).is_ok_and(|emitted| fits(&emitted, 0)),
        }
    }
}
