//! Which variant of a kernel serves a class of shapes, where somebody has measured; and the plans that measure it.

use std::fmt::Write as _;

use super::graph::{Destination, Graph, Work};
use super::{fuse, place};
use crate::dispatch::{Candidate, Open, Plan};
use crate::error::Result;
use crate::graph::LeafKind;
use crate::kernel::{Capabilities, Choice, Offers};
use crate::layout::{Meta, Strided};
use crate::op::{Lowering, Op};
use crate::shape::Shape;

/// Most variants that are measured for a class.
const MOST: usize = 10;

/// How an op is lowered.
pub struct Chosen {
    pub lowering: Lowering,
    /// The class and what was chosen for it.
    pub choice: Option<(String, Choice)>,
    /// What must be measured first.
    pub open: Option<Open>,
}

/// What a lowering depends on.
pub struct Site<'a> {
    pub op: &'a dyn Op,
    pub metas: &'a [Meta],
    pub views: &'a [Option<Strided>],
    pub output: &'a Meta,
}

impl Site<'_> {
    /// Op, attributes and shapes with lengths rounded up to a power of two: another batch size is mostly the same class.
    fn class(&self) -> String {
        let mut words = vec![];
        self.op.attributes(&mut words);
        let mut class = self.op.name().to_string();
        if !words.is_empty() {
            class += &format!("{words:?}").replace(", ", ",");
        }
        for (k, meta) in self.metas.iter().enumerate() {
            let lengths: Vec<String> = meta.shape.iter().map(|length| length.next_power_of_two().to_string()).collect();
            let turned = match &self.views[k] {
                Some(view)
                    if view.shape.iter().zip(&view.strides).next_back().is_some_and(|(&d, &s)| d > 1 && s != 1) =>
                {
                    "t"
                }
                _ => "",
            };
            // Writing to a string cannot fail.
            let _ = write!(class, " {}[{}]{turned}", meta.dtype, lengths.join("x"));
        }
        class
    }

    pub fn lower(&self, capabilities: &Capabilities) -> Lowering {
        if self.views.iter().any(Option::is_some) {
            self.op.lowering_strided(self.metas, self.views, self.output, capabilities)
        } else {
            self.op.lowering(self.metas, self.output, capabilities)
        }
    }

    /// The lowering with the variant that was chosen for this class; where a class is to be measured, the plans for that.
    pub fn choose(&self, capabilities: &Capabilities) -> Result<Chosen> {
        if capabilities.choices.is_empty() && !capabilities.measure {
            return Ok(Chosen { lowering: self.lower(capabilities), choice: None, open: None });
        }
        let offers = Offers::open();
        let plain = self.lower(&Capabilities { offers: offers.clone(), ..capabilities.clone() });
        let names = offers.names();
        let default = || Chosen { lowering: plain.clone(), choice: None, open: None };
        if names.len() < 2 {
            return Ok(default());
        }
        // Shapes of one class that have different defaults (four elements a load, or not) are two.
        let class = format!("{} {}", self.class(), names[0]);
        let with = |name: &String| self.lower(&Capabilities { chosen: Some(name.clone()), ..capabilities.clone() });
        if let Some(choice) = capabilities.choices.get(&class) {
            let name = names.iter().find(|&name| *name == choice.variant);
            // A choice made for another text of the shader says nothing about this one.
            if let Some(lowering) = name.map(with).filter(|lowering| hash(lowering) == choice.shader) {
                return Ok(Chosen { lowering, choice: Some((class, choice.clone())), open: None });
            }
        }
        if !capabilities.measure || capabilities.settled.contains(&class) {
            return Ok(default());
        }
        let mut candidates: Vec<Candidate> = vec![];
        for name in names.iter().take(MOST) {
            let lowering = with(name);
            let choice = Choice { variant: name.clone(), shader: hash(&lowering) };
            let (plan, inputs) = self.alone(lowering, capabilities)?;
            candidates.push(Candidate { choice, plan, inputs });
        }
        Ok(Chosen { open: Some(Open { class, candidates }), ..default() })
    }

    /// A plan of this op on stored inputs that lie as they do in the graph, and the elements of their buffers.
    fn alone(&self, lowering: Lowering, capabilities: &Capabilities) -> Result<(Plan, Vec<usize>)> {
        let mut graph = Graph::empty(capabilities);
        let (mut inputs, mut sizes) = (vec![], vec![]);
        for (k, meta) in self.metas.iter().enumerate() {
            let extent = self.views[k].as_ref().map_or(meta.elements(), |view| {
                let last = view.shape.iter().zip(&view.strides).map(|(&length, &stride)| (length - 1) * stride);
                view.offset + last.sum::<usize>() + 1
            });
            let stored = Meta { shape: Shape::new(&[extent]).unwrap_or(meta.shape), dtype: meta.dtype };
            let leaf = graph.push("input", stored, Work::Leaf(LeafKind::Stored, k), vec![]);
            inputs.push(match &self.views[k] {
                Some(view) => graph.push_view("input", *meta, leaf, view.clone()),
                None => graph.push_view("input", *meta, leaf, Strided::contiguous(meta.shape)),
            });
            sizes.push(extent);
        }
        let node = graph.lowered(self.op.name(), *self.output, lowering, inputs, self.views);
        graph.outputs.push((node, Destination::Value));
        graph.index_users();
        let fusion = fuse::fuse(&graph, true, capabilities.storage_buffers);
        Ok((place::place(&graph, &fusion, 0, true)?, sizes))
    }
}

/// Of the first kernel's shader without the constants before it and the epilogue behind it: what a class's shapes share.
fn hash(lowering: &Lowering) -> u64 {
    let Lowering::Kernels { kernels, .. } = lowering else { return 0 };
    let source = kernels.first().map_or("", |kernel| kernel.source.as_str());
    let own = source.split("\nfn epilogue(").next().unwrap_or_default();
    let lines: Vec<&str> = own.lines().filter(|line| !line.starts_with("const ")).collect();
    crate::kernel::hash(lines.join("\n").as_bytes())
}
