//! The norm of all gradients together and the factor that clips it (Pascanu, Mikolov and Bengio 2013; the factor is that
//! of `torch.nn.utils.clip_grad_norm_`). The factor stays on the device.
//!
//! The pass over the gradients stays where nothing is clipped: it is what finds a gradient that is not finite before
//! anything is changed.

use std::sync::Arc;

use crate::arena::Arena;
use crate::costs::Costs;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};
use crate::params::BLOCK;
use crate::shader::{Item, params};
use crate::shaders::optim::{CLIP_FOUND, CLIP_NORM, CLIP_NORM_LANES, CLIP_PARTIAL, CLIP_STATUS, CLIP_TREE};

/// Workgroups of the first pass over one arena, at most.
const GROUPS: usize = 256;
/// Workgroups where each of the 64 invocations leaves a partial result, at most.
const LANE_GROUPS: usize = 64;
/// How often such a workgroup takes 64 blocks, at least, if there are as many: what it does once is dear there.
const TURNS: usize = 4;

/// The classes of the blocks of 64 elements of a range, from 1; 0 where nothing is updated.
#[derive(Clone)]
pub(super) enum Classes {
    /// The same for all of them.
    One(u32),
    /// One for each, as floats.
    Each(Arc<[u32]>),
}

impl Classes {
    /// Of these blocks.
    pub fn of(blocks: &[u32]) -> Classes {
        match blocks {
            [first, rest @ ..] if rest.iter().all(|class| class == first) => Classes::One(*first),
            _ => Classes::Each(blocks.iter().map(|&class| (class as f32).to_bits()).collect()),
        }
    }

    /// The class for a kernel's uniform.
    pub fn number(&self) -> u32 {
        match self {
            Classes::One(class) => *class,
            Classes::Each(_) => 0,
        }
    }

    /// The class of a block.
    pub fn class(&self, block: usize) -> u32 {
        match self {
            Classes::One(class) => *class,
            Classes::Each(classes) => f32::from_bits(classes[block]) as u32,
        }
    }

    /// Whether a block is updated.
    pub fn updates(&self, block: usize) -> bool {
        self.class(block) != 0
    }

    /// Gives a kernel the function that looks them up, and what that reads.
    pub fn bind(self, kernel: &mut ArenaKernel) {
        let value = match self {
            Classes::One(_) => "$p$.class_number",
            Classes::Each(classes) => {
                kernel.bind(ArenaBinding::read(Bound::Table(classes), "classes", "f32"));
                "u32($classes$[block])"
            }
        };
        let text = format!("fn $class_of$(block: u32) -> u32 {{\n    return {value};\n}}\n");
        kernel.kernel.shader.items.push(Item::new("class_of", text));
    }
}

/// A range of gradients with the classes of its blocks.
pub(super) struct Norm {
    pub gradients: Bound,
    pub elements: usize,
    pub classes: Classes,
}

/// What a kernel needs to pass a verdict: its parts, and what those bind from 1 on.
pub(super) struct Verdict {
    pub shader: Shader,
    pub bound: Vec<ArenaBinding>,
    /// First word of the operands.
    pub word: usize,
    pub parameters: usize,
    pub iterations: u64,
}

/// Who takes the sums of a range.
enum Taker<'a> {
    /// Partial results, from this one on.
    Partials(&'a Arc<Arena>, usize),
    Verdict(Box<Verdict>),
}

params! {
    /// Sizes of the sum of a range.
    struct Sizes {
        vectors,
        groups,
        /// Of lanes: how often a workgroup takes 64 blocks.
        turns,
        /// Of partial results: the number of the first.
        first,
        /// Of a verdict: the first word of its host numbers.
        word,
        class_number: u32,
        /// Of a verdict.
        parameters,
    }
}

params! {
    /// Sizes of the sum of partial results.
    struct Status {
        partials,
        word,
        parameters,
    }
}

/// How a kernel takes the sum of squares of a range: all that its text, its sizes and its results depend on.
#[derive(Clone, Copy)]
struct Sum {
    elements: usize,
    vectors: Vectors,
    groups: usize,
    /// True if each invocation leaves a result, without a barrier.
    lanes: bool,
}

impl Sum {
    /// A workgroup's result each.
    fn tree(elements: usize, groups: usize, vectors: Vectors) -> Sum {
        Sum { elements, vectors, groups, lanes: false }
    }

    /// The first pass over a range, as the device likes it.
    fn first(elements: usize, vectors: Vectors, costs: &Costs) -> Sum {
        match costs.dear_barriers {
            true => {
                let groups = elements.div_ceil(TURNS * 64 * BLOCK).clamp(1, LANE_GROUPS);
                Sum { elements, vectors, groups, lanes: true }
            }
            false => Sum::tree(elements, (elements / 4).div_ceil(64).clamp(1, GROUPS), vectors),
        }
    }

    fn results(self) -> usize {
        if self.lanes { 64 * self.groups } else { self.groups }
    }

    /// The kernel.
    fn kernel(self, name: &'static str, norm: Norm, taker: Taker<'_>) -> ArenaKernel {
        let Norm { gradients, classes, .. } = norm;
        let vectors = self.elements / self.vectors.width();
        let turns = self.elements.div_ceil(64 * BLOCK * self.groups);
        let mut iterations = match self.lanes {
            true => 17 * turns as u64,
            false => vectors.div_ceil(64 * self.groups) as u64,
        };
        let (shader, bound, [first, word, parameters]) = match taker {
            Taker::Partials(partials, first) => {
                let shader = if self.lanes { Shader::default() } else { Shader::of(&[&CLIP_PARTIAL]) };
                (shader, vec![ArenaBinding::write(partials, "partial", "vec2<f32>")], [first, 0, 0])
            }
            Taker::Verdict(verdict) => {
                let Verdict { shader, bound, word, parameters, iterations: more } = *verdict;
                iterations += more;
                (shader, bound, [0, word, parameters])
            }
        };
        let shader = shader.file(self.vectors.file()).file(&CLIP_FOUND);
        let shader = match self.lanes {
            true => shader.file(&CLIP_NORM_LANES),
            false => shader.file(&CLIP_TREE).file(&CLIP_NORM),
        };
        let mut kernel = Kernel::own(name, shader);
        let (groups, class_number) = (self.groups, classes.number());
        kernel.uniform(Sizes { vectors, groups, turns, first, word, class_number, parameters });
        kernel.workgroups = groups as u64;
        kernel.iterations = iterations;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(gradients, "gradients", "$V$"));
        bound.into_iter().for_each(|binding| kernel.bind(binding));
        classes.bind(&mut kernel);
        kernel
    }
}

/// Kernels that form the verdict of a step from all its gradients.
pub(super) fn kernels(
    mut norms: Vec<Norm>,
    verdict: Verdict,
    partials: &Arc<Arena>,
    capabilities: &Capabilities,
    costs: &Costs,
) -> Vec<ArenaKernel> {
    let vectors = |elements| Vectors::of(elements, capabilities);
    if let [Norm { elements, classes, .. }] = &norms[..]
        && *elements <= costs.one_group_sum
        // What the sum and the verdict bind is too much for some devices.
        && 1 + usize::from(matches!(classes, Classes::Each(_))) + verdict.bound.len() <= capabilities.storage_buffers
    {
        let sum = Sum::tree(*elements, 1, vectors(*elements));
        return vec![sum.kernel("clip", norms.remove(0), Taker::Verdict(verdict.into()))];
    }
    let (mut kernels, mut count) = (vec![], 0);
    for norm in norms {
        let sum = Sum::first(norm.elements, vectors(norm.elements), costs);
        let name = match (sum.lanes, sum.vectors.eights) {
            (true, true) => "clip_norm.eights",
            (true, false) => "clip_norm.lanes",
            (false, _) => "clip_norm",
        };
        kernels.push(sum.kernel(name, norm, Taker::Partials(partials, count)));
        count += sum.results();
    }
    let Verdict { shader, bound, word, parameters, iterations } = verdict;
    let mut kernel = Kernel::own("clip_status", shader.file(&CLIP_TREE).file(&CLIP_STATUS));
    kernel.uniform(Status { partials: count, word, parameters });
    kernel.iterations = count.div_ceil(64) as u64 + iterations;
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::read(partials, "partial", "vec2<f32>"));
    bound.into_iter().for_each(|binding| kernel.bind(binding));
    kernels.push(kernel);
    kernels
}

/// Partial results that a range of so many elements takes, at most.
pub(super) fn partials(elements: usize) -> usize {
    let results = |costs| Sum::first(elements, Vectors { eights: false }, costs).results();
    Costs::all().into_iter().map(results).max().unwrap_or(0)
}

/// The factor in f64; 1 without a largest norm.
pub(super) fn factor(largest: Option<f64>, norm: f64) -> f64 {
    largest.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Device;

    #[test]
    fn a_sum_and_a_verdict_are_apart_where_one_kernel_would_bind_too_much() {
        let arena = Device::cpu().arena("any", 128).unwrap();
        let capabilities = Capabilities::default();
        // As a verdict binds with what rules keep, the loss, and states that wait for it.
        let names = ["status", "scaling", "counts", "members", "kept_numbers", "accepted", "loss"];
        for (blocks, count) in [([1, 1], 1), ([1, 2], 2)] {
            let bound = names.map(|name| ArenaBinding::write(&arena, name, "f32")).into();
            let verdict = Verdict { shader: Shader::default(), bound, word: 0, parameters: 2, iterations: 1 };
            let norm = Norm { gradients: (&arena).into(), elements: 128, classes: Classes::of(&blocks) };
            let all = kernels(vec![norm], verdict, &arena, &capabilities, capabilities.costs());
            assert_eq!(all.len(), count);
            assert!(all.iter().all(|kernel| kernel.arenas.len() <= capabilities.storage_buffers));
        }
    }
}
