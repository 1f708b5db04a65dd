//! The planner's graph: shared sub-expressions once, views turned into maps, copies where a kernel needs one.

use rustc_hash::{FxHashMap, FxHashSet};

use super::choose::{Chosen, Site};
use super::graph::{Graph, Request, Work};
use crate::error::{Error, Result};
use crate::graph::{LeafKind, Source};
use crate::layout::{Meta, Strided};
use crate::op::{Op, identity};
use crate::ops::is_own;

/// The graph of a request, with what its kernels read and who reads it.
///
/// # Errors
/// [`Error::Internal`] for a broken rule.
pub fn simplify(request: &Request<'_>) -> Result<Graph> {
    let mut graph = Graph::new(request)?;
    graph.resolve_outputs();
    graph.index_users();
    Ok(graph)
}

/// Words that two ops share if they are the same op on the same inputs.
fn key(op: &dyn Op, inputs: &[usize]) -> Vec<u64> {
    let mut words = vec![identity(op)];
    op.attributes(&mut words);
    words.extend(inputs.iter().map(|&input| input as u64 | 1 << 40));
    words
}

impl Graph {
    fn new(request: &Request<'_>) -> Result<Graph> {
        let snapshot = request.snapshot;
        let mut graph = Graph::empty(&request.target.capabilities);
        // Snapshot index -> planner index; equal ops on equal inputs become one node.
        let mut place = Vec::with_capacity(snapshot.nodes.len());
        let mut seen: FxHashMap<Vec<u64>, usize> = FxHashMap::default();
        // Of ops of several results, those that somebody reads.
        let mut read: FxHashMap<usize, Vec<usize>> = FxHashMap::default();
        for (i, node) in snapshot.nodes.iter().enumerate() {
            let inputs: Vec<usize> = snapshot.inputs[i].iter().map(|&input| place[input as usize]).collect();
            let metas: Vec<Meta> = inputs.iter().map(|&input| graph.nodes[input].meta).collect();
            let index = match (&snapshot.leaves[i], &node.source) {
                (Some(kind), _) => {
                    let index = graph.push(node.name(), node.meta, Work::Leaf(*kind, i), vec![]);
                    if let (LeafKind::Parameter, Source::Parameter(leaf)) = (kind, &node.source) {
                        graph.parameters.insert(i, (leaf.arena.place.clone(), leaf.offset));
                    }
                    if *kind == LeafKind::Operand {
                        graph.operand_words.insert(index, graph.next_word);
                        graph.operands.push((i, graph.next_word));
                        graph.next_word += 4;
                    }
                    index
                }
                (None, Source::Op(op)) => {
                    let words = key(op.as_ref(), &inputs);
                    if let Some(&known) = seen.get(&words) {
                        place.push(known);
                        continue;
                    }
                    // A start that travels with the step is not known to a kernel: such a slice is copied.
                    let view = |(k, &input): (usize, &usize)| {
                        let map = &graph.nodes[input].map;
                        (map.dynamic.is_empty() && op.strided(k, map)).then(|| map.clone())
                    };
                    let views: Vec<Option<Strided>> = inputs.iter().enumerate().map(view).collect();
                    let results = node.result_metas();
                    let site = Site { op: op.as_ref(), metas: &metas, views: &views, results: &results };
                    let Chosen { lowering, variant, choice, open } = site.choose(request.target)?;
                    graph.variants.extend(variant.filter(|variant| !graph.variants.contains(variant)));
                    graph.choices.extend(choice.filter(|choice| !graph.choices.contains(choice)));
                    graph.open.extend(open.filter(|open| graph.open.iter().all(|known| known.class != open.class)));
                    let index = graph.lowered(op.name(), node.meta, lowering, inputs.clone(), &views)?;
                    graph.nodes[index].is_own = is_own(op.as_ref());
                    graph.further_results(index, &results[1..])?;
                    seen.insert(words, index);
                    index
                }
                (None, Source::Result { number, .. }) => {
                    read.entry(inputs[0]).or_default().push(*number);
                    match (&graph.nodes[inputs[0]].work, number) {
                        (_, 0) => inputs[0],
                        (Work::Kernels { further, .. }, _) => further[number - 1],
                        _ => return Err(Error::internal(format!("{} has one result", node.name()))),
                    }
                }
                _ => return Err(Error::internal(format!("node `{}` has neither op nor leaf kind", node.name()))),
            };
            place.push(index);
        }
        for (node, results) in read {
            if let Work::Kernels { kernels, .. } = &mut graph.nodes[node].work {
                crate::kernel::keep_needed(kernels, &results);
            }
        }
        for (output, destination) in &request.outputs {
            graph.outputs.push((place[*output], destination.clone()));
        }
        Ok(graph)
    }

    /// Gives every result a stored node of its own.
    fn resolve_outputs(&mut self) {
        let mut taken: FxHashSet<usize> = FxHashSet::default();
        for k in 0..self.outputs.len() {
            let node = self.outputs[k].0;
            let meta = self.nodes[node].meta;
            let base = self.nodes[node].base;
            let computed = self.is_computed(base);
            let same = self.nodes[node].map.is_identity() && self.nodes[base].meta.elements() == meta.elements();
            let stored = if computed && same && !taken.contains(&base) {
                base
            } else {
                // Copies of one node for two results must not be merged: each result is a buffer of its own.
                let work = Work::copy();
                self.push("copy of a result", meta, work, vec![node])
            };
            taken.insert(stored);
            self.outputs[k].0 = stored;
        }
    }
}
