//! Ops of several results: one node for the op, which has no value of its own, and one for each result that somebody has.
//!
//! So each result is held, computed, dropped and differentiated through like any other tensor.

use std::sync::{Arc, Mutex, MutexGuard, Weak};

use crate::graph::{Node, Source};
use crate::history::Flow;
use crate::layout::Meta;

/// One of several results, as the op's node knows it.
#[derive(Debug)]
pub(crate) struct ResultNode {
    meta: Meta,
    /// Its node, as long as somebody has it.
    node: Mutex<Weak<Node>>,
}

impl ResultNode {
    fn lock(&self) -> MutexGuard<'_, Weak<Node>> {
        self.node.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

impl Node {
    /// The same with these results, if there are several.
    pub(crate) fn with_results(mut self, metas: &[Meta]) -> Node {
        if metas.len() > 1 {
            self.results = metas.iter().map(|&meta| ResultNode { meta, node: Mutex::default() }).collect();
        }
        self
    }

    /// Shape and dtype of each of its op's results.
    pub(crate) fn result_metas(&self) -> Vec<Meta> {
        if self.results.is_empty() { vec![self.meta] } else { self.results.iter().map(|result| result.meta).collect() }
    }

    /// The nodes of its results that somebody has.
    pub(crate) fn known_results(&self) -> impl Iterator<Item = Option<Arc<Node>>> {
        self.results.iter().map(|result| result.lock().upgrade())
    }

    /// The node of result `number` of its op: one for all who ask for it.
    pub(crate) fn result(self: &Arc<Node>, number: usize) -> Arc<Node> {
        let Some(result) = self.results.get(number) else { return self.clone() };
        let mut known = result.lock();
        known.upgrade().unwrap_or_else(|| {
            let through = self.flow() != Flow::Nothing && result.meta.dtype.is_float();
            let flow = if through { Flow::Through } else { Flow::Nothing };
            let source = Source::Result { number, name: self.name() };
            let node = Arc::new(Node::new(
                &self.device,
                result.meta,
                source,
                smallvec::smallvec![self.clone()],
                flow,
                self.at,
            ));
            *known = Arc::downgrade(&node);
            node
        })
    }
}
