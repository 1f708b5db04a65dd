//! What has been decided when text is emitted.

use std::collections::HashSet;

use crate::plan::build::Graph;

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
        let mut inlined: HashSet<usize> = HashSet::new();
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
