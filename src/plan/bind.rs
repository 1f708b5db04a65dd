//! From units of nodes to dispatches: the kernels of each, with what is emitted around them, and the slots that they bind.

use rustc_hash::FxHashMap;

use super::emit::{self, Emitted, WORKGROUP};
use super::graph::{Destination, Graph, Work};
use super::prelude::complete;
use super::units::{Fusion, State, Unit};
use crate::dispatch::{Dispatch, Name, Numbers, Plan, Slot, SlotKind};
use crate::error::{Error, Result};
use crate::graph::LeafKind;
use crate::kernel::{EXTRA, Kernel, MAX_ITERATIONS, Operand, Shader, WHOLE, fold_workgroups};
use crate::shader::{Facts, Programs, params};
use crate::shaders;
use crate::shape::Shape;

/// The dispatches of a graph, and what some of them wait for: (dispatch, slot that must have been written before it though it
/// does not bind it).
pub struct Bound {
    pub plan: Plan,
    pub waits: Vec<(usize, usize)>,
}

/// The dispatches of `units`, in this order, and the slots that they bind; each slot of scratch memory is one of its own still.
pub fn bind(graph: &Graph, fusion: &Fusion, state: &State<'_>, units: &[usize]) -> Result<Bound> {
    let mut binder = Binder {
        graph,
        plan: Plan { operands: graph.operands.clone(), scalars: graph.next_word, ..Plan::default() },
        slots: FxHashMap::default(),
        results: graph.outputs.iter().enumerate().rev().map(|(k, &(node, _))| (node, k)).collect(),
        programs: Programs::default(),
        waits: vec![],
    };
    for &unit in units {
        let first = binder.plan.dispatches.len();
        binder.unit(&fusion.units[unit], unit, state)?;
        binder.note_waits(&fusion.units[unit], first);
    }
    binder.outputs()?;
    Ok(Bound { plan: binder.plan, waits: binder.waits })
}

struct Binder<'a> {
    graph: &'a Graph,
    plan: Plan,
    /// Slot of each stored node.
    slots: FxHashMap<usize, usize>,
    /// Results, with their places in the graph's list.
    results: FxHashMap<usize, usize>,
    /// Shaders so far: kernels that are alike share one.
    programs: Programs,
    /// (dispatch, slot that must have been written before it though it does not bind it).
    waits: Vec<(usize, usize)>,
}

impl Binder<'_> {
    fn new_slot(&mut self, node: usize, shape: Option<Shape>, kind: SlotKind, bytes: u64) -> usize {
        let name = self.graph.nodes[node].name;
        self.plan.slots.push(Slot { name, shape, kind, bytes: bytes.max(4).next_multiple_of(WHOLE) });
        self.plan.slots.len() - 1
    }

    /// Notes what the dispatches of `unit`, from `first` on, wait for without reading it.
    fn note_waits(&mut self, unit: &Unit, first: usize) {
        for node in unit.nodes() {
            let waits = self.graph.waits(node).iter();
            let slots: Vec<usize> = waits.filter_map(|other| self.slots.get(other).copied()).collect();
            for at in first..self.plan.dispatches.len() {
                self.waits.extend(slots.iter().map(|&slot| (at, slot)));
            }
        }
    }

    fn slot(&mut self, node: usize) -> usize {
        if let Some(&slot) = self.slots.get(&node) {
            return slot;
        }
        let meta = self.graph.nodes[node].meta;
        let bytes = meta.elements() as u64 * self.graph.element_bytes(meta.dtype);
        let position = self.results.get(&node).copied();
        let kind = match (&self.graph.nodes[node].work, position) {
            (Work::Leaf(LeafKind::Upload, leaf), _) => SlotKind::Upload { leaf: *leaf, scratch: usize::MAX },
            (Work::Leaf(_, leaf), _) => match self.graph.parameters.get(leaf) {
                Some((arena, offset)) => SlotKind::Arena(arena.clone(), *offset, meta.elements()),
                None => SlotKind::Stored(*leaf),
            },
            (_, Some(k)) => match &self.graph.outputs[k].1 {
                Destination::Value => SlotKind::Output(k),
                Destination::Arena(arena, offset) => SlotKind::Arena(arena.clone(), *offset, meta.elements()),
                Destination::Accumulate(..) => SlotKind::Scratch(usize::MAX),
            },
            _ => SlotKind::Scratch(usize::MAX),
        };
        let slot = self.new_slot(node, Some(meta.shape), kind, bytes);
        if let Work::Leaf(LeafKind::Upload, leaf) = self.graph.nodes[node].work {
            self.plan.uploads.push((leaf, slot));
        }
        self.slots.insert(node, slot);
        slot
    }

    fn unit(&mut self, unit: &Unit, id: usize, state: &State<'_>) -> Result<()> {
        let Some(kernel) = unit.kernel else {
            let emitted = |lanes| emit::emit(self.graph, state, id, unit, lanes);
            // As many elements an invocation as all indices allow.
            let widths: &[usize] = if self.graph.capabilities.pairs { &[8, 4, 1] } else { &[4, 1] };
            let found = widths.iter().find_map(|&lanes| Some((emitted(lanes).ok()?, lanes as u64)));
            let (emitted, lanes) = found.ok_or_else(|| Error::internal("a fused region has no kernel"))?;
            return self.pointwise(unit, emitted, lanes);
        };
        let Work::Kernels { kernels, .. } = &self.graph.nodes[kernel].work else {
            return Err(Error::internal("a kernel unit without kernels"));
        };
        let around = |kernel: &Kernel| emit::around(self.graph, state, id, unit, kernel);
        let emitted: std::result::Result<Vec<Emitted>, _> = kernels.iter().map(around).collect();
        let emitted = emitted.map_err(|_| Error::internal("a fused kernel has no epilogue"))?;
        self.kernels(kernel, unit, &emitted)
    }

    fn pointwise(&mut self, unit: &Unit, emitted: Emitted, lanes: u64) -> Result<()> {
        let elements = self.graph.nodes[emitted.writes[0]].meta.elements() as u64;
        let mut names: Vec<usize> = unit.members.to_vec();
        names.sort_unstable();
        let kernel = names.iter().map(|&node| self.graph.nodes[node].name).collect::<Vec<_>>().join("+").into();
        let bindings = self.bindings(&emitted);
        self.push(
            emitted.shader,
            Draft {
                name: Name { kernel, fused: 0 },
                is_open: true,
                bindings,
                params: vec![],
                fusion: emitted.words,
                operands: emitted.operands,
                numbers: Numbers { window: 0, places: emitted.places },
                iterations: 16,
                checked: emitted.checked,
                // An operation a fused op and element: what an `exp` costs is the driver's secret.
                flops: names.len() as u64 * elements,
                bytes: None,
            },
            elements.div_ceil(lanes).div_ceil(WORKGROUP),
        )
    }

    fn bindings(&mut self, emitted: &Emitted) -> Vec<(u32, usize, bool)> {
        let all =
            emitted.reads.iter().map(|&node| (node, false)).chain(emitted.writes.iter().map(|&node| (node, true)));
        let all: Vec<(usize, bool)> = all.collect();
        all.into_iter().enumerate().map(|(i, (node, write))| (EXTRA + i as u32, self.slot(node), write)).collect()
    }

    fn kernels(&mut self, node: usize, unit: &Unit, emitted: &[Emitted]) -> Result<()> {
        let Work::Kernels { kernels, temporaries, further } = &self.graph.nodes[node].work else {
            return Err(Error::internal("a kernel unit without kernels"));
        };
        let temporaries: Vec<usize> = temporaries
            .iter()
            .map(|&elements| self.new_slot(node, None, SlotKind::Scratch(usize::MAX), elements as u64 * 4))
            .collect();
        let primary = emitted.iter().find_map(|emitted| emitted.primary);
        let binds = |kernel: &Kernel| kernel.bindings.iter().any(|binding| binding.operand == Operand::Output(0));
        let first = primary.unwrap_or(node);
        if kernels.iter().any(binds) {
            self.slot(first);
        }
        for (kernel, emitted) in kernels.iter().zip(emitted) {
            let mut bindings = vec![];
            for (i, binding) in kernel.bindings.iter().enumerate() {
                let slot = match binding.operand {
                    // Input 0 of a prologue is read by the emitted function.
                    Operand::Input(0) if kernel.prologue => continue,
                    Operand::Input(k) => self.slot(self.graph.access(node, k).0),
                    Operand::Output(0) => self.slot(first),
                    Operand::Output(k) => {
                        let result = further.get(k - 1);
                        self.slot(*result.ok_or_else(|| Error::internal("a kernel binds a result that its op lacks"))?)
                    }
                    Operand::Temporary(k) => temporaries[k],
                };
                bindings.push((i as u32, slot, binding.write));
            }
            let fused = kernel.is_fused();
            if fused {
                bindings.extend(self.bindings(emitted));
            }
            let shader = if fused { fused_shader(kernel, emitted) } else { kernel.shader.clone() };
            let before = if kernel.prologue { unit.prologue.len() } else { 0 };
            let tail = unit.members.iter().filter(|member| !unit.prologue.contains(member));
            let number = |member: &usize| unit.behind.get(member).copied().unwrap_or(0);
            let behind = tail.filter(|member| kernel.hands_over(number(member))).count();
            self.push(
                shader,
                Draft {
                    name: Name { kernel: kernel.name.clone(), fused: before + behind },
                    is_open: fused,
                    bindings,
                    params: kernel.params.clone(),
                    fusion: if fused { emitted.words.clone() } else { vec![] },
                    operands: fused && emitted.operands,
                    numbers: Numbers { window: 0, places: if fused { emitted.places.clone() } else { vec![] } },
                    iterations: kernel.iterations,
                    checked: kernel.checked || fused && emitted.checked,
                    flops: kernel.flops,
                    bytes: kernel.bytes,
                },
                kernel.workgroups,
            )?;
        }
        Ok(())
    }

    fn push(&mut self, mut shader: Shader, mut draft: Draft, workgroups: u64) -> Result<()> {
        if draft.iterations > MAX_ITERATIONS {
            return Err(Error::internal(format!(
                "kernel {} may loop {} times an invocation, more than software drivers allow",
                draft.name, draft.iterations
            )));
        }
        let grid = fold_workgroups(workgroups).ok_or_else(|| Error::Limit {
            what: format!("workgroups of {}", draft.name),
            bytes: workgroups,
            limit: 65_535 * 65_535,
            device: "this device".into(),
            next: "use a smaller batch, or split the tensor",
        })?;
        if workgroups == 0 {
            return Ok(());
        }
        self.share_arenas(&mut shader, &mut draft)?;
        let Draft { name, is_open, bindings, params, fusion, operands, numbers, iterations, checked, flops, bytes } =
            draft;
        let program = if is_open { self.programs.completed(shader, complete) } else { self.programs.of(shader) };
        self.plan.dispatches.push(Dispatch {
            names: vec![name],
            program,
            bindings,
            params,
            fusion,
            operands,
            numbers,
            grid,
            iterations,
            checked,
            flops,
            bytes,
        });
        Ok(())
    }

    /// A buffer is bound for reading or for writing in one dispatch, not for both. A gradient that is formed from another
    /// one of its arena is: the other is then bound for writing too, or, where a user's text declares it, copied.
    fn share_arenas(&mut self, shader: &mut Shader, draft: &mut Draft) -> Result<()> {
        let arena = |slot: usize, plan: &Plan| match &plan.slots[slot].kind {
            SlotKind::Arena(arena, ..) => Some(arena.id),
            _ => None,
        };
        let bound = draft.bindings.iter().filter(|binding| binding.2);
        let written: Vec<u64> = bound.filter_map(|binding| arena(binding.1, &self.plan)).collect();
        for (binding, slot, write) in &mut draft.bindings {
            if *write || !arena(*slot, &self.plan).is_some_and(|id| written.contains(&id)) {
                continue;
            }
            match shader.storage.iter_mut().find(|storage| storage.binding == *binding) {
                Some(storage) => (storage.write, *write) = (true, true),
                None => *slot = self.copied(*slot)?,
            }
        }
        Ok(())
    }

    /// A slot with what is in `slot`, a range of an arena.
    fn copied(&mut self, slot: usize) -> Result<usize> {
        let Slot { name, shape, bytes, .. } = self.plan.slots[slot];
        self.plan.slots.push(Slot { name, shape, kind: SlotKind::Scratch(usize::MAX), bytes });
        let copy = self.plan.slots.len() - 1;
        let elements = shape.map_or(bytes as usize / 4, |shape| shape.elements());
        self.range(range_kernel("copy", Shader::of(&[&shaders::plan::COPY]), elements, 2), slot, copy)?;
        Ok(copy)
    }

    /// Pushes a kernel from one slot into another.
    fn range(&mut self, kernel: Kernel, from: usize, to: usize) -> Result<()> {
        let Kernel { name, shader, params, workgroups, flops, bytes, .. } = kernel;
        let draft = Draft {
            name: Name { kernel: name, fused: 0 },
            bindings: vec![(0, from, false), (1, to, true)],
            params,
            flops,
            bytes,
            ..Draft::default()
        };
        self.push(shader, draft, workgroups)
    }

    fn outputs(&mut self) -> Result<()> {
        for k in 0..self.graph.outputs.len() {
            let (node, destination) = &self.graph.outputs[k];
            let (node, slot) = (*node, self.slot(*node));
            match destination {
                Destination::Value => self.plan.outputs.push(slot),
                Destination::Arena(..) => {}
                Destination::Accumulate(arena, offset) => {
                    let elements = self.graph.nodes[node].meta.elements();
                    let kind = SlotKind::Arena(arena.clone(), *offset, elements);
                    let target = self.new_slot(node, None, kind, elements as u64 * 4);
                    let shader = Shader::of(&[&shaders::plan::ACCUMULATE]);
                    let kernel = Kernel { flops: elements as u64, ..range_kernel("accumulate", shader, elements, 3) };
                    self.range(kernel, slot, target)?;
                }
            }
        }
        Ok(())
    }
}

/// A dispatch without its shader and its grid.
#[derive(Default)]
struct Draft {
    name: Name,
    /// True if its shader calls functions of the library that it has not yet.
    is_open: bool,
    bindings: Vec<(u32, usize, bool)>,
    params: Vec<u32>,
    fusion: Vec<u32>,
    operands: bool,
    numbers: Numbers,
    iterations: u64,
    checked: bool,
    flops: u64,
    bytes: Option<u64>,
}

/// The shader of a kernel with what is emitted around it.
fn fused_shader(kernel: &Kernel, emitted: &Emitted) -> Shader {
    let mut around = emitted.shader.clone();
    if kernel.shader.facts().has(Facts::MATRICES) {
        // There B is the place of a matrix in a product.
        let rename = |name: &str| (name == "B").then(|| "$TRUTH$".to_string());
        around.items = around.items.iter().map(|item| item.renamed(&rename)).collect();
    }
    around.join(kernel.shader.clone())
}

params! {
    /// Sizes of what goes over a range of an arena.
    struct Sizes {
        elements,
    }
}

/// A kernel over a range of an arena, which moves so many times its bytes.
fn range_kernel(name: &'static str, shader: Shader, elements: usize, moved: u64) -> Kernel {
    let mut kernel = Kernel::own(name, shader.bound(0, false, "x", "f32").bound(1, true, "g", "f32"));
    kernel.uniform(Sizes { elements });
    kernel.workgroups = (elements as u64).div_ceil(WORKGROUP);
    kernel.bytes = Some(elements as u64 * 4 * moved);
    kernel
}
