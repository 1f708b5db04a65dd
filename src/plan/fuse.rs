//! Which nodes share a kernel.
//!
//! Units grow from the last node to the first, so that a pointwise op joins its consumers rather than its producer: a
//! mask that only a backward op needs is recomputed there from a stored activation instead of being stored itself.

mod size;

use super::contract::Contraction;
use super::emit::{self, Emitted};
use super::graph::{Graph, Work};
use super::units::{Fusion, State, Unit};
use crate::kernel::{Kernel, Operand};
use rustc_hash::FxHashSet;
use size::{Fits, Size};

/// Words of index arithmetic that fit the uniform of a kernel.
pub const MAX_WORDS: usize = 256;

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
            let own = uses[base].iter().rev().take_while(|known| known.consumer == consumer);
            if !own.into_iter().any(|known| *known == used) {
                uses[base].push(used);
            }
        }
        for operand in graph.dynamic_operands(consumer) {
            uses[operand].push(Use { consumer, aligned: false });
        }
    }
    let (mut units, mut unit_of) = (vec![], vec![None; count]);
    for node in 0..count {
        let unit = match &graph.nodes[node].work {
            Work::Kernels { further, .. } => Unit { kernel: Some(node), further: further.clone(), ..Unit::default() },
            Work::Pointwise { .. } => Unit { members: vec![node], ..Unit::default() },
            _ => continue,
        };
        unit.nodes().for_each(|node| unit_of[node] = Some(units.len()));
        units.push(unit);
    }
    let mut fuser = Fuser {
        graph,
        contraction: Contraction::new(graph, units.len(), &unit_of),
        sizes: vec![None; units.len()],
        units,
        unit_of,
        uses,
        inlined: vec![false; count],
        live: graph.live(),
        constant: constants(graph),
        buffers,
    };
    if enabled {
        for node in (0..count).rev() {
            if fuser.live[node] && matches!(graph.nodes[node].work, Work::Pointwise { .. }) {
                fuser.place(node);
            }
        }
        for node in 0..count {
            match graph.nodes[node].work {
                _ if !fuser.live[node] => {}
                Work::Kernels { .. } => fuser.attach_epilogue(node, node, 0),
                Work::Result { of, number } => fuser.attach_epilogue(node, of, number),
                _ => {}
            }
        }
    }
    Fusion { units: fuser.units, unit_of: fuser.unit_of, inlined: fuser.inlined }
}

struct Fuser<'a> {
    graph: &'a Graph,
    units: Vec<Unit>,
    unit_of: Vec<Option<usize>>,
    contraction: Contraction,
    /// What is known of the kernels of units without hand-written ones.
    sizes: Vec<Option<Size>>,
    uses: Vec<Vec<Use>>,
    inlined: Vec<bool>,
    live: Vec<bool>,
    /// Nodes that no data enters: whoever needs them forms them.
    constant: Vec<bool>,
    buffers: usize,
}

/// Pointwise nodes of constants, and of what is made of these alone.
fn constants(graph: &Graph) -> Vec<bool> {
    let mut constant = vec![false; graph.nodes.len()];
    for (node, what) in graph.nodes.iter().enumerate() {
        constant[node] = match &what.work {
            Work::Pointwise { expression, .. } => {
                !expression.draws && graph.dependencies(node).iter().all(|&used| constant[used])
            }
            _ => false,
        };
    }
    constant
}

/// True if one of the kernels reads input 0, by a prologue.
fn read_once(kernels: &[Kernel]) -> bool {
    let binds = |kernel: &&Kernel| kernel.bindings.iter().any(|binding| binding.operand == Operand::Input(0));
    kernels.iter().any(|kernel| kernel.prologue) && kernels.iter().filter(binds).count() == 1
}

impl Fuser<'_> {
    /// Joins pointwise `node` to its consumers where that is sound.
    fn place(&mut self, node: usize) {
        let uses: Vec<Use> = self.live_uses(node).collect();
        let is_output = self.graph.is_output(node);
        let elements = self.graph.nodes[node].meta.elements();
        let pointwise = |used: &Use| matches!(self.graph.nodes[used.consumer].work, Work::Pointwise { .. });
        let costly = matches!(&self.graph.nodes[node].work, Work::Pointwise { expression, .. } if expression.draws);
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
                    self.units[unit].members.push(node);
                }
                return;
            }
        }
        // The prologue of a reduction, where nothing else needs the value.
        if let [only] = uses[..]
            && !is_output
            && only.aligned
            && let Work::Kernels { kernels, .. } = &self.graph.nodes[only.consumer].work
            && read_once(kernels)
            && self.graph.nodes[only.consumer].inputs[0] == node
        {
            self.join_prologue(node, only.consumer);
            return;
        }
        let elsewhere: Vec<usize> = uses.iter().filter(|used| !used.aligned).map(|used| used.consumer).collect();
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
            let conflicting =
                !self.constant[node] && elsewhere.iter().any(|&consumer| self.unit_of[consumer] == Some(theirs));
            if mine != theirs && !conflicting && self.units[theirs].kernel.is_none() {
                self.try_merge(mine, theirs);
            }
        }
    }

    /// True if `kernel` reads `node` through its prologue and in no other way.
    fn is_prologue_alone(&self, node: usize, kernel: usize) -> bool {
        let Work::Kernels { kernels, .. } = &self.graph.nodes[kernel].work else { return false };
        let reads = |k| self.graph.access(kernel, k).0 == node;
        read_once(kernels) && reads(0) && !(1..self.graph.nodes[kernel].inputs.len()).any(reads)
    }

    fn live_uses(&self, node: usize) -> impl Iterator<Item = Use> {
        self.uses[node].iter().filter(|used| self.live[used.consumer]).copied()
    }

    /// True if the kernels that compute these users, themselves or inlined, stay within the limits.
    fn within_limits_all(&mut self, uses: &[Use]) -> bool {
        let (mut units, mut inlined) = (FxHashSet::default(), FxHashSet::default());
        let mut stack: Vec<usize> = uses.iter().map(|used| used.consumer).collect();
        while let Some(user) = stack.pop() {
            match self.unit_of[user] {
                Some(unit) => drop(units.insert(unit)),
                None if inlined.insert(user) => stack.extend(self.live_uses(user).map(|used| used.consumer)),
                None => {}
            }
        }
        let fit = units.iter().all(|&unit| self.within_limits(unit));
        if !fit {
            // What was found of some holds with the node inlined.
            units.iter().for_each(|&unit| self.sizes[unit] = None);
        }
        fit
    }

    /// Joins `node` to the prologue of `kernel`, its only user, unless that closes a cycle or needs too many buffers.
    fn join_prologue(&mut self, node: usize, kernel: usize) {
        let (Some(own), Some(unit)) = (self.unit_of[node], self.unit_of[kernel]) else { return };
        let room = self.contraction.room(self.graph, &self.units, &self.unit_of, own, unit);
        let Some(room) = room else { return };
        self.units[unit].members.push(node);
        self.units[unit].prologue.insert(node);
        self.units[own].members.clear();
        self.unit_of[node] = Some(unit);
        if self.within_limits(unit) {
            self.contraction.join(room, unit);
            return;
        }
        self.units[unit].members.pop();
        self.units[unit].prologue.remove(&node);
        self.units[own].members.push(node);
        self.unit_of[node] = Some(own);
    }

    /// Merges unit `from` into `into` unless that closes a cycle or needs too many buffers.
    fn try_merge(&mut self, from: usize, into: usize) -> bool {
        // What the bounds tell is asked before the search for a path, which costs more.
        let fits = self.as_member(from, into);
        if matches!(fits, Fits::No) {
            return false;
        }
        let room = self.contraction.room(self.graph, &self.units, &self.unit_of, from, into);
        let Some(room) = room else { return false };
        let moved = std::mem::take(&mut self.units[from]);
        let before = self.units[into].members.len();
        moved.nodes().for_each(|member| self.unit_of[member] = Some(into));
        self.units[into].members.extend(&moved.members);
        let fits = match fits {
            Fits::Yes(size) => {
                self.sizes[into] = Some(size);
                true
            }
            _ => self.within_limits(into),
        };
        if fits {
            self.contraction.join(room, into);
            return true;
        }
        self.units[into].members.truncate(before);
        moved.nodes().for_each(|member| self.unit_of[member] = Some(from));
        self.units[from] = moved;
        false
    }

    /// Whether `into` can still be one kernel with unit `from`, as far as bounds tell.
    fn as_member(&mut self, from: usize, into: usize) -> Fits {
        let &[member] = &self.units[from].members[..] else { return Fits::Unknown };
        if self.units[from].kernel.is_some() {
            return Fits::Unknown;
        }
        let Some(size) = self.sizes[into].take() else { return Fits::Unknown };
        self.unit_of[member] = Some(into);
        let fits = self.with_member(into, &size, member);
        self.unit_of[member] = Some(from);
        self.sizes[into] = Some(size);
        fits
    }

    /// Sinks the pointwise consumers of `node`, result `number` of `kernel`, into the function that it is handed to.
    fn attach_epilogue(&mut self, node: usize, kernel: usize, number: usize) {
        let Work::Kernels { kernels, .. } = &self.graph.nodes[kernel].work else { return };
        if !kernels.iter().any(|kernel| kernel.hands_over(number)) {
            return;
        }
        let Some(mine) = self.unit_of[node] else { return };
        let elsewhere: Vec<usize> =
            self.uses[node].iter().filter(|used| !used.aligned).map(|used| used.consumer).collect();
        for k in 0..self.uses[node].len() {
            let used = self.uses[node][k];
            let Some(theirs) = self.unit_of[used.consumer] else { continue };
            let group = &self.units[theirs];
            let elements = self.graph.nodes[node].meta.elements();
            let fits = used.aligned
                && group.kernel.is_none()
                && group.members.iter().all(|&member| self.graph.nodes[member].meta.elements() == elements);
            // Elements at other indices would have to be stored first.
            let conflicting = elsewhere.iter().any(|&consumer| self.unit_of[consumer] == Some(theirs));
            if !fits || conflicting || mine == theirs {
                continue;
            }
            // Counted before the search for a path, which may lead through long chains of sums.
            if let [only] = &kernels[..]
                && self.least_buffers(only, mine, theirs) > self.buffers
            {
                continue;
            }
            let members = group.members.clone();
            if number > 0 {
                self.units[mine].behind.extend(members.iter().map(|&member| (member, number)));
            }
            if self.try_merge(theirs, mine) {
                return;
            }
            self.units[mine].behind.retain(|member, _| !members.contains(member));
        }
    }

    /// True if the unit's text can be generated and binds no more buffers than an adapter allows.
    fn within_limits(&mut self, unit: usize) -> bool {
        let members = &self.units[unit];
        let kernels = match members.kernel.map(|kernel| &self.graph.nodes[kernel].work) {
            Some(Work::Kernels { kernels, .. }) => &kernels[..],
            _ => &[],
        };
        // What is inlined may be read through a prologue.
        if members.members.is_empty() && !kernels.iter().any(|kernel| kernel.prologue) {
            return true;
        }
        let state = State { unit_of: &self.unit_of, inlined: &self.inlined, live: &self.live };
        let fits = |emitted: &Emitted, own: usize| {
            own + emitted.reads.len() + emitted.writes.len() <= self.buffers && emitted.words.len() <= MAX_WORDS
        };
        if members.kernel.is_some() {
            return kernels.iter().all(|kernel| {
                let emitted = emit::measure_around(self.graph, &state, unit, members, kernel);
                // Input 0 of a prologue is among the reads.
                let own = kernel.bindings.len() - usize::from(kernel.prologue);
                emitted.is_ok_and(|emitted| fits(&emitted, own))
            });
        }
        match emit::measure(self.graph, &state, unit, members, 1) {
            Ok(emitted) if fits(&emitted, 0) => {
                self.sizes[unit] = Some(Size::new(self.graph, &members.members, &emitted));
                true
            }
            _ => false,
        }
    }
}
