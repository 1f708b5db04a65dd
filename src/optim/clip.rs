//! The norm of all gradients together and the factor that clips it (Pascanu, Mikolov and Bengio 2013; the factor is that
//! of `torch.nn.utils.clip_grad_norm_`). The factor stays on the device.

use std::sync::Arc;

use crate::device::Arena;
use crate::engine::ArenaKernel;
use crate::kernel::Kernel;

/// Workgroups of the first pass over one arena, at most.
pub(super) const GROUPS: usize = 256;

/// Adds the sum of squares of one arena to the partial results from number `first` on; returns how many they are then.
pub(super) fn partial_norm(
    kernels: &mut Vec<ArenaKernel>,
    gradients: &Arc<Arena>,
    classes: &Arc<Arena>,
    partials: &Arc<Arena>,
    first: usize,
) -> usize {
    let vectors = gradients.elements / 4;
    let groups = vectors.div_ceil(64).clamp(1, GROUPS);
    let mut kernel = Kernel::own("clip_norm", include_str!("../../shaders/clip_norm.wgsl"));
    kernel.params = vec![vectors as u32, groups as u32, first as u32, 0];
    kernel.workgroups = groups as u64;
    kernel.iterations = vectors.div_ceil(64 * groups) as u64;
    let arenas = vec![(gradients.clone(), false), (classes.clone(), false), (partials.clone(), true)];
    kernels.push(ArenaKernel { kernel, arenas });
    first + groups
}

/// Turns the partial results into the status; `word` is the operand with the largest norm (0: no clipping).
pub(super) fn status(count: usize, word: usize, partials: &Arc<Arena>, status: &Arc<Arena>) -> ArenaKernel {
    let mut kernel = Kernel::own("clip_status", include_str!("../../shaders/clip_status.wgsl"));
    kernel.params = vec![count as u32, word as u32, 0, 0];
    kernel.iterations = count.div_ceil(64) as u64;
    ArenaKernel { kernel, arenas: vec![(partials.clone(), false), (status.clone(), true)] }
}

/// The factor in f64; 1 without a largest norm.
pub(super) fn factor(largest: Option<f64>, norm: f64) -> f64 {
    largest.map_or(1.0, |largest| (largest / (norm + 1e-6)).min(1.0))
}
