//! The order of the kernels: what must come first does, and among the rest what gives memory back goes first.
//!
//! The order of recording alone would run all gradients of activations first and those of parameters last, since the
//! loss reaches the first layer's parameters through all others. Every activation of a recomputed region would wait for
//! that: 20 convolutions, recomputed in blocks of five, need 4.1 MB of scratch in this order and 12.1 MB in that one, as
//! much as without recomputation. A gradient is also read while it is in the cache.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::build::{Graph, Work};
use super::emit::State;
use super::fuse::Fusion;
use crate::error::{Error, Result};

/// What the order hangs on for one unit.
#[derive(Default)]
struct Needs {
    /// Units that must run before it.
    units: BTreeSet<usize>,
    /// Nodes of other units that it reads from scratch.
    reads: HashSet<usize>,
    /// Bytes that it writes to scratch.
    writes: u64,
    /// Its place in the order of recording; `None` if nothing needs it.
    recorded: Option<usize>,
}

/// Units in the order in which they run.
pub fn order(graph: &Graph, fusion: &Fusion, state: &State<'_>) -> Result<Vec<usize>> {
    let needs: Vec<Needs> = (0..fusion.units.len()).map(|id| needs(graph, fusion, state, id)).collect();
    let lives = |id: usize| needs[id].recorded.is_some();
    let mut users: Vec<Vec<usize>> = vec![vec![]; needs.len()];
    let mut open = vec![0; needs.len()];
    let mut readers: HashMap<usize, usize> = HashMap::new();
    for (id, need) in needs.iter().enumerate().filter(|(id, _)| lives(*id)) {
        // What is waited for but read by nothing is not computed.
        for &other in need.units.iter().filter(|&&other| lives(other)) {
            users[other].push(id);
            open[id] += 1;
        }
        need.reads.iter().for_each(|&node| *readers.entry(node).or_default() += 1);
    }
    let total = (0..needs.len()).filter(|&id| lives(id)).count();
    let mut ready: BTreeSet<(Option<usize>, usize)> =
        (0..needs.len()).filter(|&id| lives(id) && open[id] == 0).map(|id| (needs[id].recorded, id)).collect();
    let mut order = Vec::with_capacity(total);
    loop {
        // Bytes given back: inputs that no other unit still reads.
        let frees = |id: usize| -> u64 {
            let last = needs[id].reads.iter().filter(|node| readers[*node] == 1);
            last.map(|&node| bytes(graph, node)).sum()
        };
        let shrinks = ready.iter().find(|&&(_, id)| frees(id) >= needs[id].writes);
        let Some(&next) = shrinks.or_else(|| ready.first()) else { break };
        ready.remove(&next);
        let (_, id) = next;
        order.push(id);
        for node in &needs[id].reads {
            readers.entry(*node).and_modify(|count| *count -= 1);
        }
        for &user in &users[id] {
            open[user] -= 1;
            if open[user] == 0 {
                ready.insert((needs[user].recorded, user));
            }
        }
    }
    if order.len() == total { Ok(order) } else { Err(Error::internal("fusion closed a cycle")) }
}

fn needs(graph: &Graph, fusion: &Fusion, state: &State<'_>, id: usize) -> Needs {
    let unit = &fusion.units[id];
    let mut stack: Vec<usize> =
        unit.members.iter().chain(&unit.kernel).copied().filter(|&node| state.live[node]).collect();
    let scratch = |node: usize| {
        !graph.is_output(node) && matches!(graph.nodes[node].work, Work::Kernels { .. } | Work::Pointwise { .. })
    };
    let stored = stack.iter().filter(|&&node| scratch(node) && state.is_stored(graph, node));
    let mut needs = Needs {
        recorded: stack.iter().copied().max(),
        writes: stored.map(|&node| bytes(graph, node)).sum(),
        ..Needs::default()
    };
    while let Some(node) = stack.pop() {
        let reads = graph.reads(node);
        for used in graph.dependencies(node) {
            match fusion.unit_of[used] {
                Some(other) if other != id => {
                    needs.units.insert(other);
                    if reads.contains(&used) && scratch(used) {
                        needs.reads.insert(used);
                    }
                }
                None if fusion.inlined[used] || graph.is_byproduct(used) => stack.push(used),
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
