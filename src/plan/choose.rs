//! Which variant of an op a plan takes, of those that the op lists: the one that a test forces, the one that was measured to be
//! the fastest for the class of shapes, or the default; one that the driver has refused only if there is no other. And the
//! graphs by which a class is measured.

use std::fmt::Write as _;

use super::graph::{Alone, Destination, Graph, OpenClass, Work};
use crate::error::{Error, Result};
use crate::graph::LeafKind;
use crate::kernel::{Capabilities, Kernel};
use crate::layout::{Meta, Strided};
use crate::op::{Candidate, Lowering, Op};
use crate::shader::Item;
use crate::shape::Shape;
use crate::target::{Choice, Target};

/// Most variants that are measured for a class.
const MOST: usize = 10;

/// How an op is lowered.
pub struct Chosen {
    pub lowering: Lowering,
    /// The variant that it takes, if the op lists others.
    pub variant: Option<&'static str>,
    /// The class and what was chosen for it.
    pub choice: Option<(String, Choice)>,
    /// What must be measured first.
    pub open: Option<OpenClass>,
}

/// What a lowering depends on.
pub struct Site<'a> {
    pub op: &'a dyn Op,
    pub metas: &'a [Meta],
    pub views: &'a [Option<Strided>],
    /// Of each result.
    pub results: &'a [Meta],
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

    fn lower(&self, capabilities: &Capabilities) -> Lowering {
        if self.views.iter().any(Option::is_some) {
            self.op.lowering_strided(self.metas, self.views, &self.results[0], capabilities)
        } else {
            self.op.lowering(self.metas, &self.results[0], capabilities)
        }
    }

    /// The lowering with the variant to take; where its class is to be measured, the plans for that.
    pub fn choose(&self, Target { capabilities, choices }: &Target) -> Result<Chosen> {
        let listed = match self.lower(capabilities) {
            Lowering::Variants(listed) => listed,
            lowering => return Ok(Chosen { lowering, variant: None, choice: None, open: None }),
        };
        let taken = |candidate: &Candidate, lowering: Lowering| {
            let variant = (listed.len() > 1).then_some(candidate.name);
            Chosen { lowering, variant, choice: None, open: None }
        };
        let is_allowed = |candidate: &&Candidate| !choices.refused.contains(candidate.name);
        let allowed: Vec<&Candidate> = listed.iter().filter(is_allowed).collect();
        let default = allowed.first().copied().or(listed.first());
        let default = default.ok_or_else(|| Error::internal(format!("{} lists no variant", self.op.name())))?;
        // A variant that is forced leaves nothing to measure.
        let is_forced = |candidate: &&Candidate| choices.forced.contains(&candidate.name);
        if listed.iter().any(|candidate| is_forced(&candidate)) {
            let forced = allowed.iter().copied().find(is_forced).unwrap_or(default);
            return Ok(taken(forced, forced.make()));
        }
        if allowed.len() < 2 || choices.measured.is_empty() && !choices.measure {
            return Ok(taken(default, default.make()));
        }
        // Shapes of one class that have different defaults (four elements a load, or not) are two.
        let class = format!("{} {}", self.class(), default.name);
        if let Some(choice) = choices.measured.get(&class)
            && let Some(chosen) = allowed.iter().find(|candidate| candidate.name == choice.variant)
        {
            let lowering = chosen.make();
            // A choice made for another text of the shader says nothing about this one.
            if hash(&lowering) == choice.shader {
                return Ok(Chosen { choice: Some((class, choice.clone())), ..taken(chosen, lowering) });
            }
        }
        if !choices.measure || choices.settled.contains(&class) {
            return Ok(taken(default, default.make()));
        }
        let rival = |candidate: &&Candidate| {
            let lowering = candidate.make();
            let choice = Choice { variant: candidate.name.into(), shader: hash(&lowering) };
            let (mut graph, inputs) = self.alone(lowering, capabilities)?;
            graph.variants.push(candidate.name);
            Ok(Alone { choice, graph, inputs, results: self.results.to_vec() })
        };
        let rivals = allowed.iter().take(MOST).map(rival).collect::<Result<_>>()?;
        Ok(Chosen { open: Some(OpenClass { class, rivals }), ..taken(default, default.make()) })
    }

    /// The graph of this op alone, on stored inputs that lie as they do in the whole one, and the elements of their buffers.
    fn alone(&self, lowering: Lowering, capabilities: &Capabilities) -> Result<(Graph, Vec<usize>)> {
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
        let node = graph.lowered(self.op.name(), self.results[0], lowering, inputs, self.views)?;
        let further = graph.further_results(node, &self.results[1..])?;
        graph.outputs.extend(std::iter::once(node).chain(further).map(|result| (result, Destination::Value)));
        graph.index_users();
        Ok((graph, sizes))
    }
}

/// Of the first kernel's shader without its constants and without an epilogue: what a class's shapes share.
fn hash(lowering: &Lowering) -> u64 {
    let Lowering::Kernels { kernels, .. } = lowering else { return 0 };
    let Some(Kernel { shader, .. }) = kernels.first() else { return 0 };
    let own = |item: &&Item| item.constant.is_none() && item.name != "epilogue" && item.name != "OUT";
    let items = shader.items.iter().filter(own).map(|item| &item.text);
    let all: Vec<&str> = items.chain(shader.main.iter().map(|main| &main.body)).map(|text| text.as_ref()).collect();
    crate::kernel::hash(all.concat().as_bytes())
}
