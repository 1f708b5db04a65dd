//! Depthwise convolutions (one channel a group), on every kind of device. A plane has little to reuse, so what pays is reading
//! each element once and four at a time; see `shaders/conv2d/depthwise_common.wgsl`.

use super::geometry::Geometry;
use super::site::{Direction, Site, bind};
use crate::kernel::{Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::Lowering;
use crate::ops::shared::{EACH_FILE, split_sum};
use crate::ops::variants::Rank;
use crate::shader::{File, Shader, params};
use crate::shaders::conv2d::{
    DEPTHWISE, DEPTHWISE_COMMON, DEPTHWISE_DATA_GRAD, DEPTHWISE_ELEMENTS, DEPTHWISE_QUADS, DEPTHWISE_WEIGHT_GRAD,
    DEPTHWISE_WINDOW,
};

params! {
    /// Planes, one a channel of an image.
    struct Planes {
        planes, channels, in_height, in_width, out_height, out_width, padding_height,
        /// Rows of a strip that an invocation slides over, or (weight gradient) strips that it adds up.
        each,
        /// Parts of the weight gradient's sum.
        splits,
    }
}

/// Loop iterations that an invocation may do, with some left for what is not counted.
const ITERATIONS: usize = 56_000;

/// How a pass is cut up.
struct Strips {
    /// Columns of an invocation.
    columns: usize,
    /// Rows that it slides over or (weight gradient) strips that it adds up.
    each: usize,
    /// Invocations.
    count: usize,
    /// Loop iterations of one.
    iterations: usize,
}

/// Where these kernels can form the pass.
pub(super) fn needs(site: &Site, _: &Capabilities) -> Option<Rank> {
    fits(&site.geometry, site.pass).then_some(Rank::Good)
}

/// True where they can.
pub(super) fn fits(g: &Geometry, pass: Direction) -> bool {
    let options = &g.options;
    let plain = options.groups == g.in_channels && options.groups == g.out_channels && options.dilation == [1, 1];
    let small = (0..2).all(|axis| g.kernel[axis] <= 7 && options.stride[axis] <= 4 && options.padding[axis] <= 64);
    plain
        && small
        && (pass != Direction::WeightGrad || (g.output[0] + 9) * per_row(g, columns(g, g.output[1])) < ITERATIONS)
}

/// Columns of an invocation over rows of `width`: 8 where few are wasted and the taps leave room for them.
fn columns(g: &Geometry, width: usize) -> usize {
    let wide = g.kernel[0] * g.kernel[1] <= 25 && width.next_multiple_of(8) - width <= width / 4;
    if wide { 8 } else { 4 }
}

/// Loop iterations of a row, nothing unrolled.
fn per_row(g: &Geometry, columns: usize) -> usize {
    let [height, width] = g.kernel;
    let stride = g.options.stride;
    let window = columns * stride[1] + width + 8 + g.options.padding[1];
    let taps = height * (2 + width * (1 + columns));
    3 * columns + stride[0] * (2 + window + columns) + taps + 16
}

impl Strips {
    /// For planes of `height` x `width` results.
    fn slide(g: &Geometry, [height, width]: [usize; 2], columns: usize, capabilities: &Capabilities) -> Strips {
        let per_row = per_row(g, columns);
        let strips = g.batch * g.in_channels * width.div_ceil(columns);
        // Shorter strips read the rows between them twice: only as many as the device needs to be busy.
        let wanted = capabilities.costs().strips;
        let bands = wanted.div_ceil(strips).min(height.div_ceil(4));
        let each = height.div_ceil(bands).min(ITERATIONS / per_row - 9).max(1);
        Strips { columns, each, count: strips * height.div_ceil(each), iterations: (each + 9) * per_row }
    }

    fn add(g: &Geometry, output: &Meta, capabilities: &Capabilities) -> (Strips, usize) {
        let columns = columns(g, g.output[1]);
        let one = (g.output[0] + 9) * per_row(g, columns);
        let strips = g.batch * g.output[1].div_ceil(columns);
        // As many parts as the device needs to be busy; partial results of at most 64 MiB.
        let wanted = capabilities.costs().strip_sum;
        let room = ((16 << 20) / output.elements()).clamp(1, ITERATIONS);
        let parts = wanted.div_ceil(g.in_channels).min(room).max(1);
        let each = strips.div_ceil(parts).min(ITERATIONS / one).max(1);
        let splits = strips.div_ceil(each);
        (Strips { columns, each, count: g.in_channels * splits, iterations: each * one }, splits)
    }
}

/// The kernels of a pass.
pub(super) fn lowering(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let (g, pass, output) = (&site.geometry, site.pass, &site.output);
    let options = &g.options;
    let (mut input, mut result, mut padding) = (g.input, g.output, options.padding);
    // With a stride of 1 the gradient is the convolution of dy with the filter turned round.
    let is_flipped =
        pass == Direction::DataGrad && options.stride == [1, 1] && (0..2).all(|axis| padding[axis] < g.kernel[axis]);
    if is_flipped {
        (input, result) = (g.output, g.input);
        padding = [0, 1].map(|axis| g.kernel[axis] - 1 - padding[axis]);
    }
    let scatters = pass == Direction::DataGrad && !is_flipped;
    let group = capabilities.costs().group;
    let (strips, splits) = match pass {
        Direction::WeightGrad => Strips::add(g, output, capabilities),
        _ if scatters => {
            let columns = if options.stride[1] == 3 { 12 } else { columns(g, input[1]) };
            (Strips::slide(g, input, columns, capabilities), 1)
        }
        _ => (Strips::slide(g, result, columns(g, result[1]), capabilities), 1),
    };
    let stored = if scatters { input[1] } else { result[1] };
    let is_whole = stored.is_multiple_of(4);
    let store = if is_whole { &DEPTHWISE_QUADS } else { &DEPTHWISE_ELEMENTS };
    let files: &[&File] = match pass {
        Direction::WeightGrad => &[&DEPTHWISE_WINDOW, &DEPTHWISE_WEIGHT_GRAD],
        _ if scatters => &[&DEPTHWISE_DATA_GRAD, store],
        _ => &[&DEPTHWISE_WINDOW, &DEPTHWISE, store],
    };
    let numbers = [
        ("KERNEL_HEIGHT", g.kernel[0]),
        ("KERNEL_WIDTH", g.kernel[1]),
        ("STRIDE_HEIGHT", options.stride[0]),
        ("STRIDE_WIDTH", options.stride[1]),
        ("PADDING_WIDTH", padding[1]),
        ("COLUMNS", strips.columns),
        ("GROUP", group),
    ];
    let whole = [input[1], result[1]].map(|width| width.is_multiple_of(4));
    let shader = Shader::of(files).file(&DEPTHWISE_COMMON).file(EACH_FILE);
    let shader = numbers.into_iter().fold(shader, |shader, (name, number)| shader.constant(name, number));
    let shader = shader.constant("WHOLE_X", whole[0]).constant("WHOLE_Y", whole[1]).constant("FLIPPED", is_flipped);
    let mut kernel = Kernel::own(name, shader.join(site.types(capabilities)));
    let (names, b_element, out) = match pass {
        Direction::WeightGrad => (pass.names(), "vec4<$B_TYPE$>", "$OUT$"),
        _ => {
            let first = if scatters { "dy" } else { "x" };
            ([first, "w", "result"], "$B_TYPE$", if is_whole { "vec4<$OUT$>" } else { "$OUT$" })
        }
    };
    bind(&mut kernel, names, ["vec4<$A_TYPE$>", b_element, out]);
    kernel.uniform(Planes {
        planes: g.batch * g.in_channels,
        channels: g.in_channels,
        in_height: input[0],
        in_width: input[1],
        out_height: result[0],
        out_width: result[1],
        padding_height: padding[0],
        each: strips.each,
        splits,
    });
    kernel.workgroups = strips.count.div_ceil(group) as u64;
    kernel.iterations = strips.iterations as u64;
    kernel.epilogue = true;
    kernel.flops = g.flops();
    match pass {
        // The second kernel is always there: another batch size, with another number of parts, finds both made.
        Direction::WeightGrad => split_sum(vec![kernel], splits, output),
        _ => Lowering::kernel(kernel),
    }
}
