//! The forward pass over images with few channels, for GPUs: see `shaders/conv2d/first.wgsl`.

use super::blocks;
use super::site::{SINGLE, Site, bind};
use crate::kernel::{Capabilities, Kernel};
use crate::op::Lowering;
use crate::ops::variants::Rank;
use crate::shader::Shader;
use crate::shaders;

/// Where this kernel can form the forward pass: its weights have room in 16 KiB of workgroup memory.
pub(super) fn needs(site: &Site, capabilities: &Capabilities) -> Option<Rank> {
    let g = &site.geometry;
    let is_narrow = g.options.groups == 1 && g.in_channels <= 4;
    let fits = is_narrow && g.in_channels * g.kernel[0] * g.kernel[1] <= 256 && blocks::is_addressable(g);
    (fits && !capabilities.costs().dear_barriers).then_some(Rank::First)
}

/// The kernel.
pub(super) fn lowering(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let g = &site.geometry;
    let shader = g.constants(Shader::of(&[&shaders::conv2d::FIRST]));
    let shader = shader.constant("CHANNELS", g.in_channels).constant("KERNEL_HEIGHT", g.kernel[0]);
    let mut kernel = Kernel::own(name, shader.join(site.types(capabilities)));
    bind(&mut kernel, site.pass.names(), SINGLE);
    kernel.uniform(g.sizes());
    let spans = g.batch * g.output[0] * g.output[1].div_ceil(4);
    kernel.workgroups = (g.out_channels.div_ceil(16) * spans.div_ceil(64)) as u64;
    let taps = g.in_channels * g.kernel[0] * g.kernel[1];
    kernel.iterations = (g.in_channels * g.kernel[0] * (1 + 2 * g.kernel[1]) + taps + 16) as u64;
    kernel.epilogue = true;
    kernel.flops = g.flops();
    Lowering::kernel(kernel)
}
