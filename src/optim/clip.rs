//! The norm of all gradients together and the factor that clips it (Pascanu, Mikolov and Bengio 2013; the factor is that
//! of `torch.nn.utils.clip_grad_norm_`). The factor stays on the device.
//!
//! The pass over the gradients stays where nothing is clipped: it is what finds a gradient that is not finite before
//! anything is changed.

use std::sync::Arc;

use crate::device::Arena;
use crate::engine::{ArenaKernel, Bound};
use crate::kernel::Kernel;

/// Workgroups of the first pass over one arena, at most.
const GROUPS: usize = 256;
/// Workgroups where each of the 64 invocations leaves a partial result, at most.
const LANE_GROUPS: usize = 64;

/// Gradients that one workgroup sums, without a second pass, on software drivers and on GPUs: where that takes no longer
/// than another dispatch.
const WHOLE: [usize; 2] = [32 << 10, 16 << 10];
/// Takes the sum of all squares to the status.
const FINISH: &str = include_str!("../../shaders/clip_finish.wgsl");

/// A range of gradients with the classes of its blocks.
pub(super) struct Norm {
    pub gradients: Bound,
    pub elements: usize,
    pub classes: Arc<Arena>,
}

/// Kernels that form the status from all gradients of a step; `word` is the operand with the largest norm (0: no clipping).
pub(super) fn kernels(
    norms: Vec<Norm>,
    word: usize,
    partials: &Arc<Arena>,
    status_arena: &Arc<Arena>,
    software: bool,
) -> Vec<ArenaKernel> {
    if let [Norm { gradients, elements, classes }] = &norms[..]
        && *elements <= WHOLE[usize::from(!software)]
    {
        let mut kernel = Kernel::own("clip", format!("{FINISH}{}", include_str!("../../shaders/clip_norm.wgsl")));
        kernel.params = vec![*elements as u32 / 4, 1, 0, word as u32];
        kernel.iterations = (elements / 4).div_ceil(64) as u64;
        let arenas = vec![(gradients.clone(), false), (classes.into(), false), (status_arena.into(), true)];
        return vec![ArenaKernel { kernel, arenas }];
    }
    let (mut kernels, count) = partial_norms(norms, partials, software);
    kernels.push(status(count, word, partials, status_arena));
    kernels
}

/// Kernels that leave partial sums of squares, and how many.
pub(super) fn partial_norms(norms: Vec<Norm>, partials: &Arc<Arena>, software: bool) -> (Vec<ArenaKernel>, usize) {
    let (mut kernels, mut count) = (vec![], 0);
    for norm in norms {
        count = partial_norm(&mut kernels, norm, partials, count, software);
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
    software: bool,
) -> usize {
    let vectors = elements / 4;
    let groups = groups(elements, software);
    let (mut kernel, results) = if software {
        (Kernel::own("clip_norm.lanes", include_str!("../../shaders/clip_norm_lanes.wgsl")), 64 * groups)
    } else {
        let partial = include_str!("../../shaders/clip_partial.wgsl");
        (Kernel::own("clip_norm", format!("{partial}{}", include_str!("../../shaders/clip_norm.wgsl"))), groups)
    };
    kernel.params = vec![vectors as u32, groups as u32, first as u32, 0];
    kernel.workgroups = groups as u64;
    kernel.iterations = match software {
        true => 17 * vectors.div_ceil(16 * 64 * groups) as u64,
        false => vectors.div_ceil(64 * groups) as u64,
    };
    kernels.push(ArenaKernel {
        kernel,
        arenas: vec![(gradients, false), ((&classes).into(), false), (partials.into(), true)],
    });
    first + results
}

/// Turns the partial results into the status; `word` is the operand with the largest norm (0: no clipping).
fn status(count: usize, word: usize, partials: &Arc<Arena>, status: &Arc<Arena>) -> ArenaKernel {
    let finish = FINISH.replace("@binding(2)", "@binding(1)");
    let mut kernel = Kernel::own("clip_status", finish + include_str!("../../shaders/clip_status.wgsl"));
    kernel.params = vec![count as u32, word as u32, 0, 0];
    kernel.iterations = count.div_ceil(64) as u64;
    ArenaKernel { kernel, arenas: vec![(partials.into(), false), (status.into(), true)] }
}

/// The factor in f64; 1 without a largest norm.
pub(super) fn factor(largest: Option<f64>, norm: f64) -> f64 {
    largest.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0))
}
