//! The norm of all gradients together and the factor that clips it (Pascanu, Mikolov and Bengio 2013; the factor is that
//! of `torch.nn.utils.clip_grad_norm_`). The factor stays on the device.
//!
//! The pass over the gradients stays where nothing is clipped: it is what finds a gradient that is not finite before
//! anything is changed.

use std::sync::Arc;

use crate::device::Arena;
use crate::engine::{ArenaKernel, Bound};
use crate::kernel::{Capabilities, Kernel, VECTORS};

/// Workgroups of the first pass over one arena, at most.
const GROUPS: usize = 256;
/// Workgroups where each of the 64 invocations leaves a partial result, at most.
const LANE_GROUPS: usize = 64;

/// Gradients that one workgroup sums, without a second pass, on software drivers and on GPUs: where that takes no longer
/// than another dispatch.
const WHOLE: [usize; 2] = [32 << 10, 16 << 10];
/// Takes the sum of all squares to the status.
const FINISH: &str = include_str!("../../shaders/clip_finish.wgsl");

/// The classes of the blocks of 64 elements of a range, from 1; 0 where nothing is updated.
#[derive(Clone)]
pub(super) enum Classes {
    /// The same for all of them.
    One(u32),
    /// One for each.
    Each(Arc<Arena>),
}

impl Classes {
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
            Classes::Each(classes) => Some((classes.into(), false)),
        }
    }
}

/// A range of gradients with the classes of its blocks.
pub(super) struct Norm {
    pub gradients: Bound,
    pub elements: usize,
    pub classes: Classes,
}

/// Kernels that form the status from all gradients of a step; `word` is the operand with the largest norm (0: no clipping).
pub(super) fn kernels(
    norms: Vec<Norm>,
    word: usize,
    partials: &Arc<Arena>,
    status_arena: &Arc<Arena>,
    capabilities: &Capabilities,
) -> Vec<ArenaKernel> {
    let software = capabilities.software;
    if let [Norm { gradients, elements, classes }] = &norms[..]
        && *elements <= WHOLE[usize::from(!software)]
    {
        let (class_of, class) = classes.text(2);
        let text = format!("{FINISH}{class_of}{}", include_str!("../../shaders/clip_norm.wgsl"));
        let mut kernel = Kernel::own("clip", text);
        kernel.params = vec![*elements as u32 / 4, 1, 0, word as u32, class, 0, 0, 0];
        kernel.iterations = (elements / 4).div_ceil(64) as u64;
        let mut arenas = vec![(gradients.clone(), false), (status_arena.into(), true)];
        arenas.extend(classes.bound());
        return vec![ArenaKernel { kernel, arenas }];
    }
    let (mut kernels, count) = partial_norms(norms, partials, capabilities);
    kernels.push(status(count, word, partials, status_arena));
    kernels
}

/// Kernels that leave partial sums of squares, and how many.
pub(super) fn partial_norms(
    norms: Vec<Norm>,
    partials: &Arc<Arena>,
    capabilities: &Capabilities,
) -> (Vec<ArenaKernel>, usize) {
    let (mut kernels, mut count) = (vec![], 0);
    for norm in norms {
        count = partial_norm(&mut kernels, norm, partials, count, capabilities);
    }
    (kernels, count)
}

/// Partial results that a range of so many elements takes, at most.
pub(super) fn partials(elements: usize) -> usize {
    groups(elements, false).max(64 * groups(elements, true))
}

fn groups(elements: usize, software: bool) -> usize {
    match software {
        true => elements.div_ceil(64 * 64).clamp(1, LANE_GROUPS),
        false => (elements / 4).div_ceil(64).clamp(1, GROUPS),
    }
}

/// Adds the sum of squares of a range of gradients to the partial results from number `first` on; returns how many they
/// are then.
fn partial_norm(
    kernels: &mut Vec<ArenaKernel>,
    Norm { gradients, elements, classes }: Norm,
    partials: &Arc<Arena>,
    first: usize,
    capabilities: &Capabilities,
) -> usize {
    let software = capabilities.software;
    let wide = capabilities.pairs && elements.is_multiple_of(8);
    let vectors = if wide { elements / 8 } else { elements / 4 };
    let groups = groups(elements, software);
    let (class_of, class) = classes.text(2);
    let (mut kernel, results) = if software {
        let name = if wide { "clip_norm.wide" } else { "clip_norm.lanes" };
        let vectors = VECTORS[usize::from(wide)];
        let text = format!("{vectors}{class_of}{}", include_str!("../../shaders/clip_norm_lanes.wgsl"));
        (Kernel::own(name, text), 64 * groups)
    } else {
        let partial = include_str!("../../shaders/clip_partial.wgsl");
        let text = format!("{partial}{class_of}{}", include_str!("../../shaders/clip_norm.wgsl"));
        (Kernel::own("clip_norm", text), groups)
    };
    kernel.params = vec![vectors as u32, groups as u32, first as u32, 0, class, 0, 0, 0];
    kernel.workgroups = groups as u64;
    kernel.iterations = match software {
        true => 17 * elements.div_ceil(64 * 64 * groups) as u64,
        false => vectors.div_ceil(64 * groups) as u64,
    };
    let mut arenas = vec![(gradients, false), (partials.into(), true)];
    arenas.extend(classes.bound());
    kernels.push(ArenaKernel { kernel, arenas });
    first + results
}

/// Turns the partial results into the status; `word` is the operand with the largest norm (0: no clipping).
fn status(count: usize, word: usize, partials: &Arc<Arena>, status: &Arc<Arena>) -> ArenaKernel {
    let text = format!("{FINISH}{}", include_str!("../../shaders/clip_status.wgsl"));
    let mut kernel = Kernel::own("clip_status", text);
    kernel.params = vec![count as u32, word as u32, 0, 0];
    kernel.iterations = count.div_ceil(64) as u64;
    ArenaKernel { kernel, arenas: vec![(partials.into(), false), (status.into(), true)] }
}

/// The factor in f64; 1 without a largest norm.
pub(super) fn factor(largest: Option<f64>, norm: f64) -> f64 {
    largest.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0))
}
