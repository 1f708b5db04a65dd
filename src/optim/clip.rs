//! The norm of all gradients together and the factor that clips it (Pascanu, Mikolov and Bengio 2013; the factor is that
//! of `torch.nn.utils.clip_grad_norm_`). The factor stays on the device.
//!
//! The pass over the gradients stays where nothing is clipped: it is what finds a gradient that is not finite before
//! anything is changed.

use std::sync::Arc;

use crate::arena::Arena;
use crate::costs::Costs;
use crate::engine::{ArenaKernel, Bound};
use crate::kernel::{Capabilities, Kernel, Shader, Vectors};

/// Workgroups of the first pass over one arena, at most.
const GROUPS: usize = 256;
/// Workgroups where each of the 64 invocations leaves a partial result, at most.
const LANE_GROUPS: usize = 64;

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

    /// The function of a kernel that looks them up, with the class for its uniform.
    pub fn text(&self, binding: usize) -> (String, u32) {
        let (before, value, one) = match self {
            Classes::One(class) => (String::new(), "p.class_number", *class),
            Classes::Each(_) => {
                let declared = format!("@group(0) @binding({binding}) var<storage, read> classes: array<f32>;\n");
                (declared, "u32(classes[block])", 0)
            }
        };
        (format!("{before}fn class_of(block: u32) -> u32 {{\n    return {value};\n}}\n"), one)
    }

    /// What a kernel binds for them.
    pub fn bound(&self) -> Option<(Bound, bool)> {
        match self {
            Classes::One(_) => None,
            Classes::Each(classes) => Some((Bound::Table(classes.clone()), false)),
        }
    }
}

/// A range of gradients with the classes of its blocks.
pub(super) struct Norm {
    pub gradients: Bound,
    pub elements: usize,
    pub classes: Classes,
}

/// What a kernel needs to pass a verdict: the text in front of it, and what that binds from 1 on.
pub(super) struct Verdict {
    pub text: String,
    pub bound: Vec<(Bound, bool)>,
    /// First word of the operands.
    pub word: usize,
    pub parameters: usize,
    pub iterations: u64,
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
                let groups = elements.div_ceil(64 * 64).clamp(1, LANE_GROUPS);
                Sum { elements, vectors, groups, lanes: true }
            }
            false => Sum::tree(elements, (elements / 4).div_ceil(64).clamp(1, GROUPS), vectors),
        }
    }

    fn results(self) -> usize {
        if self.lanes { 64 * self.groups } else { self.groups }
    }

    /// The kernel, with the text that takes its results in front, which binds what is in `bound` from 1 on; its last sizes,
    /// the first result and the words of a verdict, are `tail`.
    fn kernel(self, name: &str, head: &str, norm: Norm, bound: Vec<(Bound, bool)>, tail: [u32; 3]) -> ArenaKernel {
        let Norm { gradients, classes, .. } = norm;
        let (class_of, class) = classes.text(1 + bound.len());
        let text = match self.lanes {
            true => include_str!("../../shaders/optim/clip_norm_lanes.wgsl"),
            false => concat!(
                include_str!("../../shaders/optim/clip_tree.wgsl"),
                include_str!("../../shaders/optim/clip_norm.wgsl")
            ),
        };
        let found = include_str!("../../shaders/optim/clip_found.wgsl");
        let vectors = self.elements / self.vectors.width();
        let text = format!("{head}{class_of}{found}{text}");
        let mut kernel = Kernel::own(name.to_string(), Shader::from(text).file(self.vectors.file()));
        let [first, word, parameters] = tail;
        kernel.params = vec![vectors as u32, self.groups as u32, first, word, class, parameters, 0, 0];
        kernel.workgroups = self.groups as u64;
        kernel.iterations = match self.lanes {
            true => 17 * self.elements.div_ceil(64 * 64 * self.groups) as u64,
            false => vectors.div_ceil(64 * self.groups) as u64,
        };
        let mut arenas = vec![(gradients, false)];
        arenas.extend(bound);
        arenas.extend(classes.bound());
        ArenaKernel { kernel, arenas }
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
    if let [Norm { elements, .. }] = &norms[..]
        && *elements <= costs.one_group_sum
    {
        let sum = Sum::tree(*elements, 1, vectors(*elements));
        let tail = [0, verdict.word as u32, verdict.parameters as u32];
        let mut whole = sum.kernel("clip", &verdict.text, norms.remove(0), verdict.bound, tail);
        whole.kernel.iterations += verdict.iterations;
        return vec![whole];
    }
    let (mut kernels, mut count) = (vec![], 0);
    for norm in norms {
        let sum = Sum::first(norm.elements, vectors(norm.elements), costs);
        let (name, head) = match (sum.lanes, sum.vectors.eights) {
            (true, true) => ("clip_norm.eights", ""),
            (true, false) => ("clip_norm.lanes", ""),
            (false, _) => ("clip_norm", include_str!("../../shaders/optim/clip_partial.wgsl")),
        };
        kernels.push(sum.kernel(name, head, norm, vec![(partials.into(), true)], [count as u32, 0, 0]));
        count += sum.results();
    }
    let (tree, status) =
        (include_str!("../../shaders/optim/clip_tree.wgsl"), include_str!("../../shaders/optim/clip_status.wgsl"));
    let text = format!("{}{tree}{status}", verdict.text);
    let mut kernel = Kernel::own("clip_status", text);
    kernel.params = vec![count as u32, verdict.word as u32, verdict.parameters as u32, 0];
    kernel.iterations = count.div_ceil(64) as u64 + verdict.iterations;
    let mut arenas = vec![(partials.into(), false)];
    arenas.extend(verdict.bound);
    kernels.push(ArenaKernel { kernel, arenas });
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
