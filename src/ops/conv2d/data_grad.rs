//! Gradient of a convolution with respect to its images, as a gather: each element of the result has one owner.

use super::geometry::{self, Geometry, Tile};
use super::site::{Direction, Site};
use super::{Conv2d, Conv2dOptions, Conv2dWeightGrad, blocks, cases, depthwise, one_by_one, winograd};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::ops::product::Product;
use crate::ops::variants::{Rank, Variant, names, one_of};
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// `dx [N, C, H, W]` from `dy [N, O, OH, OW]` and the filters `[O, C / groups, KH, KW]`.
#[derive(Debug)]
pub struct Conv2dDataGrad {
    /// Of the convolution.
    pub options: Conv2dOptions,
    /// How operands are read and the result is written.
    pub product: Product,
    /// Height and width of the images, which `dy` alone does not tell.
    pub size: [usize; 2],
}

/// The variants of this pass.
static VARIANTS: &[Variant<Site>] = &[
    Variant { name: "conv2d_data_grad.product", needs: one_by_one::needs, make: one_by_one::lowering },
    Variant { name: "conv2d_data_grad.depthwise", needs: depthwise::needs, make: depthwise::lowering },
    Variant { name: "conv2d_data_grad.blocks.128", needs: blocks::needs::<128>, make: blocks::lowering::<128> },
    Variant { name: "conv2d_data_grad.blocks.64", needs: blocks::needs::<64>, make: blocks::lowering::<64> },
    Variant { name: "conv2d_data_grad.blocks.32", needs: blocks::needs::<32>, make: blocks::lowering::<32> },
    Variant { name: "conv2d_data_grad.winograd", needs: winograd::needs, make: winograd::lowering },
    Variant {
        name: "conv2d_data_grad.subgroup",
        needs: |s, c| s.broadcasts(s.geometry.channels(), c).then_some(Rank::Usual),
        make: |s, name, c| direct(s, name, true, c),
    },
    Variant { name: "conv2d_data_grad", needs: |_, _| Some(Rank::Usual), make: |s, name, c| direct(s, name, false, c) },
];

/// The kernels that keep a tile in registers; with `lanes`, those of a subgroup of 8 pass weights on.
fn direct(site: &Site, name: &'static str, lanes: bool, capabilities: &Capabilities) -> Lowering {
    let (g, costs) = (&site.geometry, capabilities.costs());
    let stride = g.options.stride;
    // A stride divides the image into phases; a workgroup works on one of them.
    let [rows, width] = [0, 1].map(|axis| g.input[axis].div_ceil(stride[axis]));
    let tile = Tile::choose(g, g.channels(), width, 1, lanes, costs);
    let spans = g.batch * rows * width.div_ceil(tile.columns);
    let tiles = g.options.groups * g.channels().div_ceil(tile.rows) * spans.div_ceil(tile.group);
    let shader = site.types(capabilities).file(&shaders::conv2d::DATA_GRAD);
    let workgroups = stride[0] * stride[1] * tiles;
    geometry::sum_over_channels(site, name, shader, &tile, g.filters(), workgroups)
}

impl Op for Conv2dDataGrad {
    fn name(&self) -> &'static str {
        "conv2d_data_grad"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.options.attributes(words);
        self.product.words(words);
        words.extend(self.size.map(|size| size as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let (dy, w) = (inputs[0].shape, inputs[1].shape);
        self.product.check(inputs)?;
        if dy.rank() != 4 || w.rank() != 4 {
            return Err(Problem::Shape(format!("gradient {dy} and filters {w}"), "pass tensors of four axes"));
        }
        let shape = geometry::shape([dy[0], w[1] * self.options.groups, self.size[0], self.size[1]])?;
        geometry::fits(&shape, &w, &dy, &self.options)?;
        Ok(vec![Meta { shape, dtype: self.product.output }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        // Linear in both: each gradient is the product of the cotangent with the other.
        let [dy, w] = [&backward.inputs[0], &backward.inputs[1]];
        let (options, dims) = (self.options, w.dims());
        let kernel = [dims[2], dims[3]];
        let of = |input| self.product.gradient_of(input);
        let weight = || Tensor::apply(Conv2dWeightGrad { options, product: of(w), kernel }, &[backward.grad, dy]);
        vec![
            backward.needs[0].then(|| Tensor::apply(Conv2d { options, product: of(dy) }, &[backward.grad, w])),
            backward.needs[1].then(weight),
        ]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [dy, w] = [0, 1].map(|k| self.product.operand(inputs[k]));
        let g = self.geometry(&dy.shape, &w.shape, output);
        let (channels, filters) = (g.channels(), g.filters());
        vec![self.product.result(Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; 4];
            Array::unravel(&output.shape, linear, &mut at);
            let [n, c, h, l] = at;
            let first = c / channels * filters;
            let mut sum = 0.0;
            for o in first..first + filters {
                for (u, i) in g.covering(0, h) {
                    let line = ((n * g.out_channels + o) * g.output[0] + i) * g.output[1];
                    let weights = ((o * channels + c % channels) * g.kernel[0] + u) * g.kernel[1];
                    for (v, j) in g.covering(1, l) {
                        sum += w.data[weights + v] * dy.data[line + j];
                    }
                }
            }
            sum
        }))]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let geometry = self.geometry(&inputs[0].shape, &inputs[1].shape, output);
        let (precision, inputs) = (self.product, inputs.to_vec());
        let site = Site { pass: Direction::DataGrad, geometry, precision, inputs, output: *output };
        one_of(VARIANTS, site, capabilities, |_, lowering| lowering)
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }

    fn cases() -> Vec<Case> {
        cases::data_grad()
    }
}

impl Conv2dDataGrad {
    fn geometry(&self, dy: &Shape, w: &Shape, output: &Meta) -> Geometry {
        Geometry::known(&output.shape, w, dy, &self.options)
    }
}
