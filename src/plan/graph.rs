//! The planner's graph: nodes with their lowering, views as maps, and what each node needs.

use std::borrow::Cow;

use rustc_hash::FxHashMap;

use crate::dispatch::ArenaRef;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::graph::{LeafKind, Snapshot};
use crate::kernel::{Capabilities, Kernel, Operand};
use crate::layout::{Meta, Run, Strided, ViewKind};
use crate::op::Lowering;
use crate::shader::{Algebra, Expression};
use crate::shape::Shape;
use crate::target::{Choice, Target};

/// What to plan.
pub struct Request<'a> {
    /// The graph.
    pub snapshot: &'a Snapshot,
    /// Nodes wanted, and where.
    pub outputs: Vec<(usize, Destination)>,
    /// What the device can do, and which variants were chosen there.
    pub target: &'a Target,
    /// False to give every op a kernel of its own (the test mode that fused plans are held to).
    pub fusion: bool,
    /// Number of host words that the update takes.
    pub scalars: usize,
}

/// Where a result goes.
#[derive(Debug, Clone)]
pub enum Destination {
    /// Into a buffer of its own.
    Value,
    /// Into this arena from this element on.
    Arena(ArenaRef, usize),
    /// Added to what is in this arena from this element on.
    Accumulate(ArenaRef, usize),
}

/// What a planner's node does.
#[derive(Debug)]
pub enum Work {
    /// A leaf, with its number in the request's snapshot.
    Leaf(LeafKind, usize),
    /// Index arithmetic.
    View,
    /// An expression an element.
    Pointwise { expression: Expression, helpers: &'static str, constants: Vec<f64> },
    /// Hand-written kernels.
    Kernels {
        kernels: Vec<Kernel>,
        temporaries: Vec<usize>,
        /// The nodes of the results behind the first.
        further: Vec<usize>,
    },
    /// A further result of the kernels of a node: which, counted from 0.
    Result { of: usize, number: usize },
}

impl Work {
    /// The elements of the input.
    pub fn copy() -> Work {
        Work::Pointwise { expression: Expression::new("a", Algebra::Plain), helpers: "", constants: vec![] }
    }
}

/// A planner's node.
#[derive(Debug)]
pub struct PlanNode {
    pub name: &'static str,
    pub meta: Meta,
    pub work: Work,
    pub inputs: Vec<usize>,
    /// The stored node beneath, and where its elements are.
    pub(super) base: usize,
    pub(super) map: Strided,
    /// Stored nodes that must be there before it may be read.
    pub(super) after: Vec<usize>,
    /// False for the ops of users, whose expressions may divide by zero or loop for ever: their kernels are checked.
    pub is_own: bool,
}

/// What must be there before a node is computed.
#[derive(Default)]
struct Needs {
    /// What it reads, then what it only waits for; without repeats in either part.
    nodes: Box<[usize]>,
    /// How many it reads.
    reads: usize,
}

impl PlanNode {
    /// True if it may lie anywhere as input 0 of `kernels`, all of which read it by their prologues.
    fn is_read_by_prologue(&self, kernels: &[Kernel]) -> bool {
        let binds = |kernel: &&Kernel| kernel.bindings.iter().any(|binding| binding.operand == Operand::Input(0));
        let fits = |kernel: &Kernel| kernel.prologue && self.map.run(kernel.width()) != Run::Scattered;
        kernels[0].prologue && kernels.iter().filter(binds).all(fits)
    }
}

/// The planner's graph.
pub struct Graph {
    pub nodes: Vec<PlanNode>,
    pub capabilities: Capabilities,
    /// Stored nodes that are results, with their destinations.
    pub outputs: Vec<(usize, Destination)>,
    /// The nodes that read each node; views aside.
    users: Vec<Vec<usize>>,
    /// What each node needs, from [`Graph::index_users`] on.
    needs: Vec<Needs>,
    /// The copy of a node that was made for kernels.
    copies: FxHashMap<usize, usize>,
    pub(super) operand_words: FxHashMap<usize, usize>,
    /// (snapshot leaf, first word)
    pub operands: Vec<(usize, usize)>,
    pub next_word: usize,
    /// Arena ranges of parameter leaves, by snapshot leaf.
    pub parameters: FxHashMap<usize, (ArenaRef, usize)>,
    is_output: Vec<bool>,
    pub(super) variants: Vec<&'static str>,
    pub(super) choices: Vec<(String, Choice)>,
    pub(super) open: Vec<OpenClass>,
}

/// A class of shapes that is to be measured.
pub struct OpenClass {
    pub class: String,
    pub rivals: Vec<Alone>,
}

/// An op alone, by one of its variants, on stored inputs.
pub struct Alone {
    pub choice: Choice,
    pub graph: Graph,
    /// Elements of each input's buffer.
    pub inputs: Vec<usize>,
    /// What it computes, as the outputs of `graph` are.
    pub results: Vec<Meta>,
}

impl Needs {
    fn reading(&self) -> &[usize] {
        &self.nodes[..self.reads]
    }
}

impl Graph {
    pub fn empty(capabilities: &Capabilities) -> Graph {
        Graph {
            nodes: vec![],
            capabilities: capabilities.clone(),
            outputs: vec![],
            users: vec![],
            needs: vec![],
            copies: FxHashMap::default(),
            operand_words: FxHashMap::default(),
            operands: vec![],
            next_word: 0,
            parameters: FxHashMap::default(),
            is_output: vec![],
            variants: vec![],
            choices: vec![],
            open: vec![],
        }
    }

    pub fn push(&mut self, name: &'static str, meta: Meta, work: Work, inputs: Vec<usize>) -> usize {
        let index = self.nodes.len();
        let map = Strided::contiguous(meta.shape);
        self.nodes.push(PlanNode { name, meta, work, inputs, base: index, map, after: vec![], is_own: true });
        index
    }

    /// A node that stores the elements of a buffer where `map` says.
    pub fn push_view(&mut self, name: &'static str, meta: Meta, base: usize, map: Strided) -> usize {
        let inputs = vec![base];
        self.nodes.push(PlanNode { name, meta, work: Work::View, inputs, base, map, after: vec![], is_own: true });
        self.nodes.len() - 1
    }

    pub fn lowered(
        &mut self,
        name: &'static str,
        meta: Meta,
        lowering: Lowering,
        mut inputs: Vec<usize>,
        views: &[Option<Strided>],
    ) -> Result<usize> {
        Ok(match lowering {
            Lowering::Expression { expression, constants } => {
                self.push(name, meta, Work::Pointwise { expression, helpers: "", constants }, inputs)
            }
            Lowering::Pointwise { expression, helpers, constants } => {
                let expression = Expression::of_user(expression);
                self.push(name, meta, Work::Pointwise { expression, helpers, constants }, inputs)
            }
            Lowering::View(kind) => self.view(name, meta, &kind, inputs),
            Lowering::Kernels { kernels, temporaries } => {
                for (k, input) in inputs.iter_mut().enumerate() {
                    let node = &self.nodes[*input];
                    let prologue = k == 0 && node.is_read_by_prologue(&kernels);
                    let any_map = prologue || views.get(k).is_some_and(Option::is_some);
                    let operand = matches!(self.nodes[node.base].work, Work::Leaf(LeafKind::Operand, _));
                    if operand && !prologue || !(any_map || node.map.is_identity()) {
                        *input = self.copy(*input);
                    }
                }
                self.push(name, meta, Work::Kernels { kernels, temporaries, further: vec![] }, inputs)
            }
            Lowering::Variants(_) => return Err(Error::internal(format!("{name}: no variant was chosen"))),
        })
    }

    /// Adds a node for each result of `node` behind the first.
    ///
    /// # Errors
    /// [`Error::Internal`] if there are any and it is not made of kernels.
    pub fn further_results(&mut self, node: usize, metas: &[Meta]) -> Result<Vec<usize>> {
        let name = self.nodes[node].name;
        let push = |(&meta, number): (&Meta, usize)| {
            let result = self.push(name, meta, Work::Result { of: node, number }, vec![]);
            self.nodes[result].is_own = self.nodes[node].is_own;
            result
        };
        let nodes: Vec<usize> = metas.iter().zip(1..).map(push).collect();
        match &mut self.nodes[node].work {
            Work::Kernels { further, .. } => further.clone_from(&nodes),
            _ if nodes.is_empty() => {}
            _ => return Err(Error::internal(format!("{name} has several results and no kernels"))),
        }
        Ok(nodes)
    }

    fn view(&mut self, name: &'static str, meta: Meta, kind: &ViewKind, inputs: Vec<usize>) -> usize {
        let from = inputs[0];
        let mut after = self.nodes[from].after.clone();
        if *kind == ViewKind::After {
            let other = self.nodes[inputs[1]].base;
            // A constant is there from the start, and shall not be stored for this.
            let constant =
                matches!(&self.nodes[other].work, Work::Pointwise { .. }) && self.nodes[other].inputs.is_empty();
            if !constant && !after.contains(&other) {
                after.push(other);
            }
        }
        // A constant start is an offset; one that travels with the step is added in the kernel.
        let start = inputs.get(1).map(|&start| match &self.nodes[start].work {
            Work::Pointwise { constants, .. } if !constants.is_empty() => Ok(constants[0] as usize),
            _ => Err(start),
        });
        let map = match (kind, start) {
            (ViewKind::Slice { axis }, Some(Ok(start))) => {
                let mut map = self.nodes[from].map.clone();
                map.offset += start * map.strides[*axis];
                map.shape = meta.shape;
                Some(map)
            }
            (_, start) => self.nodes[from].map.view(kind, meta.shape, start.and_then(std::result::Result::err)),
        };
        let (base, map, inputs) = match map {
            Some(map) => (self.nodes[from].base, map, inputs),
            None => {
                let copy = self.copy(from);
                after.clear();
                (copy, Strided::contiguous(meta.shape), vec![copy])
            }
        };
        self.nodes.push(PlanNode { name, meta, work: Work::View, inputs, base, map, after, is_own: true });
        self.nodes.len() - 1
    }

    /// A node that stores the elements of `node` row-major.
    fn copy(&mut self, node: usize) -> usize {
        if let Some(&known) = self.copies.get(&node) {
            return known;
        }
        let work = Work::copy();
        let copy = self.push("copy", self.nodes[node].meta, work, vec![node]);
        self.copies.insert(node, copy);
        copy
    }

    pub fn index_users(&mut self) {
        let count = self.nodes.len();
        self.users = vec![vec![]; count];
        self.is_output = vec![false; count];
        for &(node, _) in &self.outputs {
            self.is_output[node] = true;
        }
        let mut seen = vec![usize::MAX; count];
        self.needs = (0..count).map(|node| self.needs_of(node, &mut seen)).collect();
        for node in 0..count {
            if !matches!(self.nodes[node].work, Work::View) {
                for &used in self.needs[node].reading() {
                    self.users[used].push(node);
                }
            }
        }
    }

    /// The node beneath input `k` of `node`, and where its elements are: over the node's shape for a pointwise node,
    /// over the input's own for a kernel.
    pub fn access(&self, node: usize, k: usize) -> (usize, Cow<'_, Strided>) {
        let input = &self.nodes[self.nodes[node].inputs[k]];
        match self.nodes[node].work {
            Work::Pointwise { .. } => (input.base, self.broadcast(input, self.nodes[node].meta.shape)),
            _ => (input.base, Cow::Borrowed(&input.map)),
        }
    }

    fn broadcast<'a>(&self, input: &'a PlanNode, shape: Shape) -> Cow<'a, Strided> {
        if input.meta.shape == shape { Cow::Borrowed(&input.map) } else { Cow::Owned(input.map.expand(shape)) }
    }

    /// What `node` needs; `seen` holds, for each node, the last one that was found to need it.
    fn needs_of(&self, node: usize, seen: &mut [usize]) -> Needs {
        let inputs = &self.nodes[node].inputs;
        // Kernels may do without an input.
        let mut is_read = vec![true; inputs.len()];
        if let Work::Kernels { kernels, .. } = &self.nodes[node].work {
            is_read.fill(false);
            for kernel in kernels {
                is_read.iter_mut().take(1).for_each(|first| *first |= kernel.prologue);
                for bound in &kernel.bindings {
                    if let Operand::Input(k) = bound.operand
                        && let Some(read) = is_read.get_mut(k)
                    {
                        *read = true;
                    }
                }
            }
        }
        let mut nodes = vec![];
        let mut add = |used: usize, nodes: &mut Vec<usize>| {
            if used != node && std::mem::replace(&mut seen[used], node) != node {
                nodes.push(used);
            }
        };
        for (&input, _) in inputs.iter().zip(is_read).filter(|(_, is_read)| *is_read) {
            let input = &self.nodes[input];
            add(input.base, &mut nodes);
            input.map.dynamic.iter().for_each(|&(operand, _)| add(operand, &mut nodes));
        }
        let reads = nodes.len();
        if let Work::Result { of, .. } = self.nodes[node].work {
            add(of, &mut nodes);
        }
        for &earlier in inputs.iter().flat_map(|&input| &self.nodes[input].after) {
            add(earlier, &mut nodes);
        }
        Needs { nodes: nodes.into(), reads }
    }

    /// The stored or inlined nodes that `node` reads, without repeats, operands of slices included.
    pub fn reads(&self, node: usize) -> &[usize] {
        self.needs[node].reading()
    }

    /// What must have been computed before `node` though it does not read it.
    pub fn waits(&self, node: usize) -> &[usize] {
        &self.needs[node].nodes[self.needs[node].reads..]
    }

    /// What `node` reads, and what must have been computed before it for another reason.
    pub fn dependencies(&self, node: usize) -> &[usize] {
        &self.needs[node].nodes
    }

    /// The node beneath input `k` of `node`.
    pub fn base(&self, node: usize, k: usize) -> usize {
        self.nodes[self.nodes[node].inputs[k]].base
    }

    /// True if pointwise `node` takes more than the first word of input `k`, host numbers.
    pub fn takes_words(&self, node: usize, k: usize) -> bool {
        let Work::Pointwise { expression, .. } = &self.nodes[node].work else { return false };
        expression.words.get(k).copied().unwrap_or(false)
    }

    pub fn dynamic_operands(&self, node: usize) -> Vec<usize> {
        let maps = self.nodes[node].inputs.iter().map(|&input| &self.nodes[input].map);
        maps.flat_map(|map| map.dynamic.iter().map(|&(operand, _)| operand)).collect()
    }

    pub fn consumers(&self, node: usize) -> &[usize] {
        &self.users[node]
    }

    pub fn is_output(&self, node: usize) -> bool {
        self.is_output[node]
    }

    /// True if a kernel of the plan computes it.
    pub fn is_computed(&self, node: usize) -> bool {
        matches!(self.nodes[node].work, Work::Pointwise { .. } | Work::Kernels { .. } | Work::Result { .. })
    }

    /// True if a value lies in an arena, among others.
    pub fn is_in_arena(&self, node: usize) -> bool {
        let goes = |(result, to): &(usize, Destination)| *result == node && !matches!(to, Destination::Value);
        matches!(self.nodes[node].work, Work::Leaf(LeafKind::Parameter, _)) || self.outputs.iter().any(goes)
    }

    pub fn operand_word(&self, node: usize) -> Option<usize> {
        self.operand_words.get(&node).copied()
    }

    /// Which nodes some result needs.
    pub fn live(&self) -> Vec<bool> {
        let mut live = vec![false; self.nodes.len()];
        let mut stack: Vec<usize> = self.outputs.iter().map(|&(node, _)| node).collect();
        while let Some(node) = stack.pop() {
            if !std::mem::replace(&mut live[node], true) {
                stack.extend_from_slice(self.reads(node));
                if let Work::Result { of, .. } = self.nodes[node].work {
                    stack.push(of);
                }
            }
        }
        live
    }

    /// Bytes of an element in a buffer.
    pub fn element_bytes(&self, dtype: DType) -> u64 {
        if dtype == DType::F16 && self.capabilities.f16 { 2 } else { 4 }
    }
}
