//! The sizes of a convolution, and what its kernels share.

use super::site::{SINGLE, Site, bind};
use crate::costs::Costs;
use crate::error::Problem;
use crate::kernel::Kernel;
use crate::op::Lowering;
use crate::ops::shared::{TEAM_FILE, split_sum};
use crate::shader::{Shader, params};
use crate::shaders::conv2d::{SPREAD, SUMS, SUMS_SUBGROUP};
use crate::shape::Shape;

/// Stride, padding, dilation and groups of a convolution over `D` axes, outermost first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions<const D: usize> {
    /// Input elements between neighbouring outputs.
    pub stride: [usize; D],
    /// Zeros around the image, on both sides of each axis.
    pub padding: [usize; D],
    /// Input elements between neighbouring taps.
    pub dilation: [usize; D],
    /// Number of groups that channels are divided into; a filter sees one.
    pub groups: usize,
}

/// Of a convolution over one axis.
pub type Conv1dOptions = ConvOptions<1>;
/// Of a convolution over height and width.
pub type Conv2dOptions = ConvOptions<2>;
/// Of a convolution over depth, height and width.
pub type Conv3dOptions = ConvOptions<3>;

impl<const D: usize> Default for ConvOptions<D> {
    fn default() -> Self {
        ConvOptions { stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1 }
    }
}

impl Conv2dOptions {
    pub(super) fn attributes(&self, words: &mut Vec<u64>) {
        let all = [self.stride, self.padding, self.dilation].into_iter().flatten();
        words.extend(all.chain([self.groups]).map(|word| word as u64));
    }
}

/// Every size of a convolution; pairs are (height, width).
#[derive(Debug)]
pub(super) struct Geometry {
    pub batch: usize,
    pub in_channels: usize,
    pub out_channels: usize,
    pub input: [usize; 2],
    pub kernel: [usize; 2],
    pub output: [usize; 2],
    pub options: Conv2dOptions,
}

impl Geometry {
    /// From the shapes of images and filters.
    pub fn new(x: &Shape, w: &Shape, options: &Conv2dOptions) -> Result<Geometry, Problem> {
        let shape = |what: String, next| Err(Problem::Shape(what, next));
        if x.rank() != 4 || w.rank() != 4 {
            return shape(
                format!("images {x} and filters {w}"),
                "pass images [N, C, H, W] and filters [O, C / groups, KH, KW]",
            );
        }
        let Conv2dOptions { stride, padding, dilation, groups } = *options;
        let positive = [stride, dilation].into_iter().flatten().chain([groups]).all(|n| n > 0);
        let largest = [stride, padding, dilation].into_iter().flatten().max().unwrap_or(0);
        if !positive || largest >= 1 << 16 {
            let what = format!("stride {stride:?}, padding {padding:?}, dilation {dilation:?}, groups {groups}");
            return Err(Problem::Value(what, "stride, dilation and groups start at 1, and none may pass 65,535"));
        }
        if !x[1].is_multiple_of(groups) || !w[0].is_multiple_of(groups) || x[1] / groups != w[1] {
            let what = format!("images {x} have {} channels in {groups} groups, filters {w} take {}", x[1], w[1]);
            return shape(what, "filters are [O, C / groups, KH, KW], and O is a multiple of groups too");
        }
        let mut output = [0; 2];
        for axis in 0..2 {
            let (size, taps) = (x[2 + axis] + 2 * padding[axis], w[2 + axis]);
            let reach = dilation[axis].saturating_mul(taps.saturating_sub(1)).saturating_add(1);
            if reach > size || taps == 0 {
                let what = format!(
                    "filters {w} with dilation {dilation:?} reach over {reach} elements, images {x} with padding {padding:?} have {size}"
                );
                return shape(what, "use a smaller filter or more padding");
            }
            output[axis] = (size - reach) / stride[axis] + 1;
        }
        let [input, kernel] = [[x[2], x[3]], [w[2], w[3]]];
        Ok(Geometry { batch: x[0], in_channels: x[1], out_channels: w[0], input, kernel, output, options: *options })
    }

    /// From shapes that have been checked.
    pub fn known(x: &Shape, w: &Shape, y: &Shape, options: &Conv2dOptions) -> Geometry {
        let [input, kernel, output] = [x, w, y].map(|shape| [shape[2], shape[3]]);
        Geometry { batch: x[0], in_channels: x[1], out_channels: w[0], input, kernel, output, options: *options }
    }

    /// Shape of the result of a convolution.
    pub fn output(&self) -> Result<Shape, Problem> {
        shape([self.batch, self.out_channels, self.output[0], self.output[1]])
    }

    /// Input channels of a group.
    pub fn channels(&self) -> usize {
        self.in_channels / self.options.groups
    }

    /// True if an image is worth the larger tiles, which run faster but take software drivers longer to compile: a million
    /// products an image (`docs/software-drivers.md`, "conv2d").
    pub(super) fn is_heavy(&self) -> bool {
        let taps = self.kernel[0] * self.kernel[1];
        self.out_channels * self.channels() * taps * self.output[0] * self.output[1] >= 1 << 20
    }

    /// Operations of each of the three products: two a tap and channel of every output.
    pub fn flops(&self) -> u64 {
        let each = 2 * self.channels() * self.kernel[0] * self.kernel[1];
        let outputs = self.batch * self.out_channels * self.output[0] * self.output[1];
        (outputs as u64).saturating_mul(each as u64)
    }

    /// Output channels of a group.
    pub fn filters(&self) -> usize {
        self.out_channels / self.options.groups
    }

    /// The taps of output `at` along an axis that lie inside the input, with the position of each.
    pub fn taps(&self, axis: usize, at: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Conv2dOptions { stride, padding, dilation, .. } = self.options;
        let (from, size) = (at * stride[axis], self.input[axis]);
        let position = move |tap: usize| (from + tap * dilation[axis]).checked_sub(padding[axis]);
        (0..self.kernel[axis]).filter_map(move |tap| Some((tap, position(tap).filter(|&p| p < size)?)))
    }

    /// The taps and outputs that input `at` takes part in along an axis.
    pub fn covering(&self, axis: usize, at: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let Conv2dOptions { stride, padding, dilation, .. } = self.options;
        let (stride, count) = (stride[axis], self.output[axis]);
        let lifted = move |tap: usize| (at + padding[axis]).checked_sub(tap * dilation[axis]);
        let output = move |tap| lifted(tap).filter(|n| n.is_multiple_of(stride)).map(|n| n / stride);
        (0..self.kernel[axis]).filter_map(move |tap| Some((tap, output(tap).filter(|&o| o < count)?)))
    }

    /// The sizes that most kernels know.
    pub fn sizes(&self) -> Sizes {
        let Conv2dOptions { stride, padding, dilation, groups } = self.options;
        Sizes {
            batch: self.batch,
            in_channels: self.in_channels,
            in_height: self.input[0],
            in_width: self.input[1],
            out_channels: self.out_channels,
            out_height: self.output[0],
            out_width: self.output[1],
            groups,
            kernel_height: self.kernel[0],
            stride_height: stride[0],
            padding_height: padding[0],
            padding_width: padding[1],
            dilation_height: dilation[0],
        }
    }

    /// A shader with the constants that go with [`Geometry::sizes`].
    pub fn constants(&self, shader: Shader) -> Shader {
        let shader = shader.constant("KERNEL_WIDTH", self.kernel[1]).constant("STRIDE_WIDTH", self.options.stride[1]);
        shader.constant("DILATION_WIDTH", self.options.dilation[1])
    }

    /// Loop iterations that the row of taps adds where it is too long for drivers to unroll.
    pub fn unrolled(&self, around: usize, columns: usize) -> usize {
        let reach = (self.kernel[1] - 1) * self.options.dilation[1] + 1 + (columns - 1) * self.options.stride[1];
        if self.kernel[1] <= 11 && reach <= 32 { 1 } else { 1 + reach + around * self.kernel[1] * (1 + columns) }
    }
}

/// `Err` unless a convolution of `x` with `w` has the shape `y`.
pub(super) fn fits(x: &Shape, w: &Shape, y: &Shape, options: &Conv2dOptions) -> Result<(), Problem> {
    let want = Geometry::new(x, w, options)?.output()?;
    if want == *y {
        return Ok(());
    }
    let what = format!("a convolution of {x} with {w} has the shape {want}, not {y}");
    Err(Problem::Shape(what, "pass the options and sizes of the forward convolution"))
}

/// The shape of a result.
pub(super) fn shape(dims: [usize; 4]) -> Result<Shape, Problem> {
    Shape::new(&dims)
        .ok_or_else(|| Problem::Shape(format!("the result, {dims:?}, is too large"), "use at most 2^32 - 1 elements"))
}

params! {
    /// The sizes of a convolution that most kernels know.
    pub(super) struct Sizes {
        batch, in_channels, in_height, in_width, out_channels, out_height, out_width, groups,
        kernel_height, stride_height, padding_height, padding_width, dilation_height,
    }
}

params! {
    /// The channels of a group that a sum is over, and the part that it is of the result.
    struct Part { begin, end, part }
}

/// What a workgroup of the forward kernel or of the data gradient computes.
pub(super) struct Tile {
    /// True for the kernel with subgroup broadcasts.
    pub subgroup: bool,
    /// Channels of a workgroup.
    pub rows: usize,
    /// Neighbouring columns of an invocation.
    pub columns: usize,
    /// Invocations of a workgroup.
    pub group: usize,
}

impl Tile {
    /// For `rows` channels a group and `width` columns; `step` inputs apart; `lanes`: of a subgroup of 8 that passes weights on. Nothing here looks at the batch.
    pub fn choose(g: &Geometry, rows: usize, width: usize, step: usize, lanes: bool, costs: &Costs) -> Tile {
        let taps = g.kernel[1];
        let wasted = |columns: usize| width.div_ceil(columns) * columns - width;
        let sevens = taps <= 5 && step == 1 && wasted(7) < wasted(4).max(1);
        let eights = lanes && taps <= 3 && step == 1 && width > 4 && wasted(8) == 0 && !sevens;
        let columns = if sevens {
            7
        } else if eights {
            8
        } else {
            4
        };
        let columns = columns.min((35 / taps).max(1));
        if lanes {
            let loads = if rows > 8 && !eights && taps <= 8 && g.is_heavy() { 2 } else { 1 };
            return Tile { subgroup: true, rows: 8 * loads, columns, group: 8 };
        }
        let each = if rows < 4 {
            1
        } else if taps > 3 {
            4
        } else {
            8
        };
        let most = if each == 1 { 4 } else { costs.tile_columns };
        Tile { subgroup: false, rows: each, columns: columns.min(most), group: costs.group }
    }

    /// The sums of an invocation.
    fn shader(&self) -> Shader {
        let shader = match self.subgroup {
            true => Shader::of(&[&SPREAD, &SUMS_SUBGROUP]).constant("ROW_LOADS", self.rows / 8),
            false => Shader::of(&[&SUMS]).constant("ROWS", self.rows).constant("GROUP", self.group),
        };
        shader.constant("COLUMNS", self.columns)
    }
}

/// The forward kernel or the data gradient, as `shader` has it: a sum over `channels` of a group, split where one loop would be
/// too long.
pub(super) fn sum_over_channels(
    site: &Site,
    name: &'static str,
    shader: Shader,
    tile: &Tile,
    channels: usize,
    workgroups: usize,
) -> Lowering {
    let g = &site.geometry;
    let shader = g.constants(shader.join(tile.shader()).file(TEAM_FILE));
    let per_channel = 1 + g.kernel[0] * g.unrolled(tile.rows, tile.columns);
    let longest = ((56_000 - 64) / per_channel).max(1);
    let splits = channels.div_ceil(longest);
    let each = channels.div_ceil(splits);
    let kernels = (0..splits).map(|part| {
        let mut kernel = Kernel::own(name, shader.clone());
        bind(&mut kernel, site.pass.names(), SINGLE);
        let end = ((part + 1) * each).min(channels);
        kernel.uniform((g.sizes(), Part { begin: part * each, end, part }));
        kernel.workgroups = workgroups as u64;
        kernel.iterations = (each * per_channel + 64) as u64;
        kernel.flops = g.flops() / splits as u64;
        kernel.epilogue = true;
        kernel
    });
    let mut kernels: Vec<Kernel> = kernels.collect();
    match kernels.pop() {
        Some(kernel) if splits == 1 => Lowering::kernel(kernel),
        last => {
            kernels.extend(last);
            split_sum(kernels, splits, &site.output)
        }
    }
}
