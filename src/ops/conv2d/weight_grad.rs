//! Gradient of a convolution with respect to its filters.
//!
//! The sum runs over all images and positions. It is cut into parts, which a second kernel adds in order:
//! the same bits in every run, whatever the number of parts that run at once. The second kernel is always there, so that
//! another batch size, with another number of parts, finds both compiled.

use super::geometry::{self, Geometry};
use super::site::{Direction, SINGLE, Site, bind};
use super::{Conv2d, Conv2dDataGrad, Conv2dOptions, blocks, cases, depthwise, one_by_one};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::{Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::ops::product::Product;
use crate::ops::shared::{TEAM_FILE, split_sum};
use crate::ops::variants::{Rank, Variant, names, one_of};
use crate::shader::{Shader, params};
use crate::shaders::conv2d::{SPREAD, WEIGHT_GRAD, WEIGHT_SUMS, WEIGHT_SUMS_SUBGROUP};
use crate::tensor::Tensor;

/// `dw [O, C / groups, KH, KW]` from the images `[N, C, H, W]` and `dy [N, O, OH, OW]`.
#[derive(Debug)]
pub struct Conv2dWeightGrad {
    /// Of the convolution.
    pub options: Conv2dOptions,
    /// How operands are read and the result is written.
    pub product: Product,
    /// Height and width of the filters.
    pub kernel: [usize; 2],
}

/// The variants of this pass.
static VARIANTS: &[Variant<Site>] = &[
    Variant { name: "conv2d_weight_grad.product", needs: one_by_one::needs, make: one_by_one::lowering },
    Variant { name: "conv2d_weight_grad.depthwise", needs: depthwise::needs, make: depthwise::lowering },
    Variant { name: "conv2d_weight_grad.blocks.128", needs: blocks::needs::<128>, make: blocks::lowering::<128> },
    Variant { name: "conv2d_weight_grad.blocks.64", needs: blocks::needs::<64>, make: blocks::lowering::<64> },
    Variant { name: "conv2d_weight_grad.blocks.32", needs: blocks::needs::<32>, make: blocks::lowering::<32> },
    Variant {
        name: "conv2d_weight_grad.subgroup",
        needs: |s, c| s.broadcasts(s.geometry.filters(), c).then_some(Rank::Usual),
        make: |s, name, c| direct(s, name, true, c),
    },
    Variant {
        name: "conv2d_weight_grad",
        needs: |_, _| Some(Rank::Usual),
        make: |s, name, c| direct(s, name, false, c),
    },
];

/// Taps that an invocation keeps the sums of, and elements between the first and the last of them, at most.
const MOST_TAPS: usize = 11;
const LONGEST_WINDOW: usize = 32;

params! {
    /// The parts of the sum, lines of a part, and segments of a row of dy with their columns.
    struct Lines { splits, split_lines, segments, segment_width }
}

/// The kernels that keep a tile in registers; with `lanes`, those of a subgroup of 8 pass weights on.
fn direct(site: &Site, name: &'static str, lanes: bool, capabilities: &Capabilities) -> Lowering {
    let (g, costs) = (&site.geometry, capabilities.costs());
    let filters = g.filters();
    // Wide rows of taps are cut, so that what an invocation keeps fits its registers, and drivers unroll its loops.
    let most = ((LONGEST_WINDOW - 1) / g.options.dilation[1] + 1).min(MOST_TAPS);
    let parts = g.kernel[1].div_ceil(most);
    let taps = g.kernel[1].div_ceil(parts);
    let strips = g.channels() * g.kernel[0] * g.kernel[1].div_ceil(taps);
    let wide = taps > 5;
    let rows = match lanes {
        true if filters > 8 && !wide && g.is_heavy() => 16,
        true => 8,
        false if filters < 4 => 1,
        false => 8,
    };
    let group = costs.group;
    let lines = if strips > 8 && !wide && g.is_heavy() { 2 } else { 1 };
    let tiles = g.options.groups * filters.div_ceil(rows) * strips.div_ceil(group * lines);
    // Few large parts on a few cores, many on a GPU; none beyond the loop bound, and partial results of at most 64 MiB.
    // Rows too long for one loop are cut.
    let segments = (1 + g.output[1]).div_ceil(40_000);
    let segment_width = g.output[1].div_ceil(segments);
    // None is empty.
    let segments = g.output[1].div_ceil(segment_width);
    let total = g.batch * g.output[0] * segments;
    let per_line = 1 + segment_width;
    let longest = ((56_000 - 64) / per_line).max(1);
    let room = ((16 << 20) / site.output.elements()).max(1);
    let splits = costs.filter_sum.div_ceil(tiles).min(room).min(total).max(total.div_ceil(longest));
    let split_lines = total.div_ceil(splits);
    let splits = total.div_ceil(split_lines);
    let sums = match lanes {
        true => Shader::of(&[&SPREAD, &WEIGHT_SUMS_SUBGROUP]).constant("ROW_LOADS", rows / 8),
        false => Shader::of(&[&WEIGHT_SUMS]).constant("ROWS", rows).constant("GROUP", group),
    };
    let shader = g.constants(sums.file(TEAM_FILE).file(&WEIGHT_GRAD)).constant("LINES", lines).constant("TAPS", taps);
    let mut kernel = Kernel::own(name, shader.join(site.types(capabilities)));
    bind(&mut kernel, site.pass.names(), SINGLE);
    kernel.uniform((g.sizes(), Lines { splits, split_lines, segments, segment_width }));
    kernel.workgroups = (splits * tiles) as u64;
    kernel.iterations = (split_lines * per_line + 64) as u64;
    kernel.flops = g.flops();
    split_sum(vec![kernel], splits, &site.output)
}

impl Op for Conv2dWeightGrad {
    fn name(&self) -> &'static str {
        "conv2d_weight_grad"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.options.attributes(words);
        self.product.words(words);
        words.extend(self.kernel.map(|size| size as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let (x, dy) = (inputs[0].shape, inputs[1].shape);
        self.product.check(inputs)?;
        if x.rank() != 4 || dy.rank() != 4 {
            return Err(Problem::Shape(format!("images {x} and gradient {dy}"), "pass tensors of four axes"));
        }
        let channels = x[1] / self.options.groups.max(1);
        let shape = geometry::shape([dy[1], channels, self.kernel[0], self.kernel[1]])?;
        geometry::fits(&x, &shape, &dy, &self.options)?;
        Ok(vec![Meta { shape, dtype: self.product.output }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        // Linear in both: each gradient is the product of the cotangent with the other.
        let [x, dy] = [&backward.inputs[0], &backward.inputs[1]];
        let (options, dims) = (self.options, x.dims());
        let size = [dims[2], dims[3]];
        let of = |input| self.product.gradient_of(input);
        let data = || Tensor::apply(Conv2dDataGrad { options, product: of(x), size }, &[dy, backward.grad]);
        vec![
            backward.needs[0].then(data),
            backward.needs[1].then(|| Tensor::apply(Conv2d { options, product: of(dy) }, &[x, backward.grad])),
        ]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [x, dy] = [0, 1].map(|k| self.product.operand(inputs[k]));
        let g = Geometry::known(&x.shape, &output.shape, &dy.shape, &self.options);
        let (channels, filters) = (g.channels(), g.filters());
        vec![self.product.result(Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; 4];
            Array::unravel(&output.shape, linear, &mut at);
            let [o, c, u, v] = at;
            let plane = |n| n * g.in_channels + o / filters * channels + c;
            let inside = |axis, at, tap| g.taps(axis, at).find(|&(t, _)| t == tap).map(|(_, position)| position);
            let columns: Vec<(usize, usize)> = (0..g.output[1]).filter_map(|j| Some((j, inside(1, j, v)?))).collect();
            let mut sum = 0.0;
            for n in 0..g.batch {
                for i in 0..g.output[0] {
                    let Some(row) = inside(0, i, u) else { continue };
                    let line = (plane(n) * g.input[0] + row) * g.input[1];
                    let gradient = ((n * g.out_channels + o) * g.output[0] + i) * g.output[1];
                    sum +=
                        columns.iter().map(|&(j, column)| dy.data[gradient + j] * x.data[line + column]).sum::<f64>();
                }
            }
            sum
        }))]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let geometry = Geometry::known(&inputs[0].shape, &output.shape, &inputs[1].shape, &self.options);
        let (precision, inputs) = (self.product, inputs.to_vec());
        let site = Site { pass: Direction::WeightGrad, geometry, precision, inputs, output: *output };
        one_of(VARIANTS, site, capabilities, |_, lowering| lowering)
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }

    fn cases() -> Vec<Case> {
        cases::weight_grad()
    }
}
