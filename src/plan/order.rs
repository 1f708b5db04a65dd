//! The order of the kernels: what must come first does, and among the rest what gives memory back goes first.
//!
//! The order of recording alone would run all gradients of activations first and those of parameters last, since the
//! loss reaches the first layer's parameters through all others. Every activation of a recomputed region would wait for
//! that: 20 convolutions, recomputed in blocks of five, need 4.1 MB of scratch in this order and 12.1 MB in that one, as
//! much as without recomputation. A gradient is also read while it is in the cache.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::graph::Graph;
use super::units::Fusion;
use super::units::State;
use crate::error::{Error, Result};

/// What the order depends on for one unit.
#[derive(Default)]
struct Needs {
    /// Units that must run before it.
    units: BTreeSet<usize>,
    /// Nodes of other units that it reads from scratch.
    reads: FxHashSet<usize>,
    /// Bytes that it writes to scratch.
    writes: u64,
    /// Its place in the order of recording; `None` if nothing needs it.
    recorded: Option<usize>,
}

/// Who reads a node.
#[derive(Default)]
struct Readers {
    units: Vec<usize>,
    /// How many of them have not run.
    left: usize,
}

/// Units in the order in which they run.
pub fn order(graph: &Graph, fusion: &Fusion, state: &State<'_>) -> Result<Vec<usize>> {
    let needs: Vec<Needs> = (0..fusion.units.len()).map(|id| needs(graph, fusion, state, id)).collect();
    let lives = |id: usize| needs[id].recorded.is_some();
    let mut users: Vec<Vec<usize>> = vec![vec![]; needs.len()];
    let mut open = vec![0; needs.len()];
    let mut readers: FxHashMap<usize, Readers> = FxHashMap::default();
    for (id, need) in needs.iter().enumerate().filter(|(id, _)| lives(*id)) {
        // What is waited for but read by nothing is not computed.
        for &other in need.units.iter().filter(|&&other| lives(other)) {
            users[other].push(id);
            open[id] += 1;
        }
        for &node in &need.reads {
            let readers = readers.entry(node).or_default();
            readers.units.push(id);
            readers.left += 1;
        }
    }
    // Bytes given back: inputs that no other unit still reads.
    let mut frees = vec![0; needs.len()];
    for (&node, readers) in readers.iter().filter(|(_, readers)| readers.left == 1) {
        frees[readers.units[0]] += bytes(graph, node);
    }
    let mut has_run = vec![false; needs.len()];
    let total = (0..needs.len()).filter(|&id| lives(id)).count();
    let mut ready: BTreeSet<(Option<usize>, usize)> = BTreeSet::new();
    // Those of them that give back as much as they take.
    let mut shrinks: BTreeSet<(Option<usize>, usize)> = BTreeSet::new();
    let mut start: Vec<usize> = (0..needs.len()).filter(|&id| lives(id) && open[id] == 0).collect();
    let mut order = Vec::with_capacity(total);
    loop {
        for id in start.drain(..) {
            ready.insert((needs[id].recorded, id));
            if frees[id] >= needs[id].writes {
                shrinks.insert((needs[id].recorded, id));
            }
        }
        let Some(&next) = shrinks.first().or_else(|| ready.first()) else { break };
        ready.remove(&next);
        shrinks.remove(&next);
        let (_, id) = next;
        order.push(id);
        has_run[id] = true;
        for node in &needs[id].reads {
            let Some(readers) = readers.get_mut(node) else { continue };
            readers.left -= 1;
            if readers.left == 1
                && let Some(&last) = readers.units.iter().find(|&&unit| !has_run[unit])
            {
                frees[last] += bytes(graph, *node);
                let place = (needs[last].recorded, last);
                if frees[last] >= needs[last].writes && ready.contains(&place) {
                    shrinks.insert(place);
                }
            }
        }
        for &user in &users[id] {
            open[user] -= 1;
            if open[user] == 0 {
                start.push(user);
            }
        }
    }
    if order.len() == total { Ok(order) } else { Err(Error::internal("fusion closed a cycle")) }
}

fn needs(graph: &Graph, fusion: &Fusion, state: &State<'_>, id: usize) -> Needs {
    let unit = &fusion.units[id];
    let mut stack: Vec<usize> = unit.nodes().filter(|&node| state.live[node]).collect();
    let scratch = |node: usize| !graph.is_output(node) && graph.is_computed(node);
    let stored = stack.iter().filter(|&&node| scratch(node) && state.is_stored(graph, node));
    let mut needs = Needs {
        recorded: stack.iter().copied().max(),
        writes: stored.map(|&node| bytes(graph, node)).sum(),
        ..Needs::default()
    };
    let mut passed = FxHashSet::default();
    while let Some(node) = stack.pop() {
        let count = graph.reads(node).len();
        for (k, &used) in graph.dependencies(node).iter().enumerate() {
            match fusion.unit_of[used] {
                Some(other) if other != id => {
                    needs.units.insert(other);
                    if k < count && scratch(used) {
                        needs.reads.insert(used);
                    }
                }
                None if fusion.inlined[used] && passed.insert(used) => stack.push(used),
                _ => {}
            }
        }
    }
    needs
}

fn bytes(graph: &Graph, node: usize) -> u64 {
    let meta = graph.nodes[node].meta;
    meta.elements() as u64 * graph.element_bytes(meta.dtype)
}
