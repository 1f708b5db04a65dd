//! The three kernels of a convolution as products of blocks in workgroup memory, for GPUs: nothing is laid out anew, the
//! blocks' patches are gathered from where they are.

use super::depthwise;
use super::geometry::Geometry;
use super::site::{Direction, Site, bind};
use crate::kernel::{Capabilities, Kernel};
use crate::op::Lowering;
use crate::ops::shared::split_sum;
use crate::ops::tiles::{self, Sizes};
use crate::ops::variants::Rank;
use crate::shader::params;
use crate::shaders;

/// Numbers below this are divided with a reciprocal, see `divide` in the shader.
const SMALL: usize = 1 << 24;

params! {
    /// A convolution as a product of blocks.
    struct Blocks {
        batch, in_channels, in_height, in_width, out_channels, out_height, out_width, groups, padding_height, padding_width,
        /// Parts of the sum over k, and the length of each.
        splits, split_depth,
        /// Reciprocals of the sizes of what a column of the product (for dw: a k) is taken apart into.
        area_reciprocal: f32,
        width_reciprocal: f32,
    }
}

/// Sizes of the product that a pass is: one a group, and one a phase of the data gradient.
fn sizes(g: &Geometry, pass: Direction) -> Sizes {
    let (taps, groups) = (g.kernel[0] * g.kernel[1], g.options.groups);
    let positions = g.batch * g.output[0] * g.output[1];
    match pass {
        Direction::Forward => {
            Sizes { rows: g.filters(), columns: positions, depth: g.channels() * taps, batches: groups }
        }
        Direction::DataGrad => {
            let stride = g.options.stride;
            let [height, width] = [0, 1].map(|axis| g.input[axis].div_ceil(stride[axis]));
            // No phase has more taps than the first that has any.
            let [up, across] = [0, 1].map(|axis| g.kernel[axis].div_ceil(step(g, axis)));
            let batches = groups * stride[0] * stride[1];
            Sizes { rows: g.channels(), columns: g.batch * height * width, depth: g.filters() * up * across, batches }
        }
        Direction::WeightGrad => {
            Sizes { rows: g.filters(), columns: g.channels() * taps, depth: positions, batches: groups }
        }
    }
}

/// Taps between those that reach the same phase of the image.
fn step(g: &Geometry, axis: usize) -> usize {
    let (stride, dilation) = (g.options.stride[axis], g.options.dilation[axis]);
    let (mut a, mut b) = (stride, dilation);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    stride / a
}

/// True if the numbers of the index arithmetic, which are constants, fit in 32 bits.
pub(super) fn is_addressable(g: &Geometry) -> bool {
    (0..2).all(|axis| g.kernel[axis] * g.options.dilation[axis] * g.options.stride[axis] < 1 << 28)
}

/// Where blocks in workgroup memory are worth their barriers, and when those with this side are taken.
pub(super) fn needs<const SIDE: usize>(site: &Site, capabilities: &Capabilities) -> Option<Rank> {
    let (g, pass) = (&site.geometry, site.pass);
    if capabilities.costs().dear_barriers || !is_addressable(g) {
        return None;
    }
    let sizes = sizes(g, pass);
    // Few channels a group leave blocks mostly empty.
    let is_narrow = sizes.rows.min(sizes.columns) <= 8 || sizes.depth < 16;
    match (sizes.rank(SIDE, capabilities), is_narrow || depthwise::fits(g, pass)) {
        (Rank::Good, true) => Some(Rank::Late),
        (_, true) => Some(Rank::Last),
        (rank, false) => Some(rank),
    }
}

/// The kernels of a pass with blocks of this side.
pub(super) fn lowering<const SIDE: usize>(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let (g, pass, output) = (&site.geometry, site.pass, &site.output);
    let sizes = sizes(g, pass);
    // Partial results of at most 64 MiB.
    let most = ((16 << 20) / output.elements()).max(1);
    let (splits, split_depth) = sizes.splits(SIDE, most, capabilities);
    let (area, width) = match pass {
        Direction::DataGrad => (sizes.columns / g.batch, g.input[1].div_ceil(g.options.stride[1])),
        _ => (g.output[0] * g.output[1], g.output[1]),
    };
    // What is read as quads starts and ends with whole ones.
    let whole = match pass {
        Direction::Forward => sizes.depth.is_multiple_of(4),
        Direction::DataGrad => false,
        Direction::WeightGrad => area.is_multiple_of(4),
    };
    let small = sizes.columns.max(sizes.depth).max(g.batch * area) + SIDE < SMALL;
    let options = &g.options;
    let file = match pass {
        Direction::Forward => &shaders::conv2d::BLOCKS,
        Direction::DataGrad => &shaders::conv2d::DATA_GRAD_BLOCKS,
        Direction::WeightGrad => &shaders::conv2d::WEIGHT_GRAD_BLOCKS,
    };
    let shader = tiles::block(SIDE).file(&shaders::conv2d::BLOCKS_COMMON).file(file);
    let constants = [
        ("KERNEL_HEIGHT", g.kernel[0]),
        ("KERNEL_WIDTH", g.kernel[1]),
        ("STRIDE_HEIGHT", options.stride[0]),
        ("STRIDE_WIDTH", options.stride[1]),
        ("DILATION_HEIGHT", options.dilation[0]),
        ("DILATION_WIDTH", options.dilation[1]),
        ("STEP_HEIGHT", step(g, 0)),
        ("STEP_WIDTH", step(g, 1)),
    ];
    let shader = constants.into_iter().fold(shader, |shader, (name, number)| shader.constant(name, number));
    let shader = shader.constant("WHOLE", whole).constant("SMALL", small).join(site.types(capabilities));
    let mut kernel = Kernel::own(name, shader);
    let b_element = if pass == Direction::DataGrad { "$B_TYPE$" } else { "vec4<$B_TYPE$>" };
    bind(&mut kernel, pass.names(), ["$A_TYPE$", b_element, "$OUT$"]);
    kernel.uniform(Blocks {
        batch: g.batch,
        in_channels: g.in_channels,
        in_height: g.input[0],
        in_width: g.input[1],
        out_channels: g.out_channels,
        out_height: g.output[0],
        out_width: g.output[1],
        groups: options.groups,
        padding_height: options.padding[0],
        padding_width: options.padding[1],
        splits,
        split_depth,
        area_reciprocal: 1.0 / area as f32,
        width_reciprocal: 1.0 / width as f32,
    });
    kernel.workgroups = (sizes.count(SIDE) * splits) as u64;
    let searched: usize = (0..2).map(|axis| step(g, axis).min(g.kernel[axis])).sum();
    kernel.iterations = tiles::iterations(split_depth.min(sizes.depth)) + searched as u64;
    kernel.epilogue = true;
    kernel.flops = g.flops();
    // The weight gradient always has its second kernel: another batch size, with another number of parts, finds both made.
    match splits == 1 && pass != Direction::WeightGrad {
        true => Lowering::kernel(kernel),
        false => split_sum(vec![kernel], splits, output),
    }
}
