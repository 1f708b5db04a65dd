//! Convolution over two axes, NCHW; its two gradients are ops of their own, because each is a product with the other.
//!
//! One invocation keeps a tile of channels x neighbouring columns in registers and slides along the rows of a kernel; the
//! row of taps is unrolled, everything else is a loop over sizes that travel as parameters. `subgroup` (software drivers
//! with 8 lanes) loads a weight once a subgroup and broadcasts it.
//!
//! Besides the direct kernels described above (`VARIANTS` lists them, in each pass's file): `depthwise` ones slide down strips of single planes;
//! `blocks` form products in workgroup memory on GPUs; `product` takes a convolution with a single tap as matrix products
//! on software drivers; `first` is for images with few channels, on GPUs; `winograd` needs fewer products for 3 x 3 filters, where
//! tuning finds it to be faster.
//!
//! Rates on software drivers, and what was tried there: `docs/software-drivers.md`, "conv2d".

mod any;
mod blocks;
mod cases;
mod composed;
mod data_grad;
mod depthwise;
mod first;
mod geometry;
mod one_by_one;
mod site;
mod transposed;
mod weight_grad;
mod winograd;

pub use any::Padding;
pub(super) use composed::cases as composed;
pub use data_grad::Conv2dDataGrad;
pub use geometry::{Conv1dOptions, Conv2dOptions, Conv3dOptions, ConvOptions};
use geometry::{Geometry, Tile};
use site::{Direction, Site};
pub use transposed::TransposeOptions;
pub use weight_grad::Conv2dWeightGrad;

use crate::array::Array;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Lowering, Op};
use crate::ops::product::{self, Product};
use crate::ops::variants::{Rank, Variant, names, one_of};
use crate::shaders;
use crate::tensor::Tensor;

/// Convolution of `[N, C, H, W]` with `[O, C / groups, KH, KW]`.
#[derive(Debug)]
pub struct Conv2d {
    /// Stride, padding, dilation, groups.
    pub options: Conv2dOptions,
    /// How operands are read and the result is written.
    pub product: Product,
}

impl Tensor {
    /// Convolution of images `[N, C, H, W]` with filters `[O, C / groups, KH, KW]`, as `torch.nn.functional.conv2d` without
    /// bias: `[N, O, OH, OW]`, `OH = (H + 2 padding - dilation (KH - 1) - 1) / stride + 1`, rounded down.
    ///
    /// Both f32, or both f16 (the sum is formed in f32); in mixed precision any floats, as f16. A bias is added with `+ bias.reshape(&[1, O, 1, 1])`, which costs
    /// no pass of its own.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless both have four axes, the channels fit the groups and the filter
    /// fits the padded image, [`crate::Error::Value`] for a stride, dilation or number of groups of 0, and
    /// [`crate::Error::DType`] for other dtypes.
    #[track_caller]
    pub fn conv2d(&self, weight: &Tensor, options: &Conv2dOptions) -> Tensor {
        let (x, weight, product) = product::operands(self, weight);
        Tensor::apply(Conv2d { options: *options, product }, &[&x, &weight])
    }
}

/// The variants of this pass.
static VARIANTS: &[Variant<Site>] = &[
    Variant { name: "conv2d.first", needs: first::needs, make: first::lowering },
    Variant { name: "conv2d.product", needs: one_by_one::needs, make: one_by_one::lowering },
    Variant { name: "conv2d.depthwise", needs: depthwise::needs, make: depthwise::lowering },
    Variant { name: "conv2d.blocks.128", needs: blocks::needs::<128>, make: blocks::lowering::<128> },
    Variant { name: "conv2d.blocks.64", needs: blocks::needs::<64>, make: blocks::lowering::<64> },
    Variant { name: "conv2d.blocks.32", needs: blocks::needs::<32>, make: blocks::lowering::<32> },
    Variant { name: "conv2d.winograd", needs: winograd::needs, make: winograd::lowering },
    Variant {
        name: "conv2d.subgroup",
        needs: |s, c| s.broadcasts(s.geometry.filters(), c).then_some(Rank::Usual),
        make: |s, name, c| direct(s, name, true, c),
    },
    Variant { name: "conv2d", needs: |_, _| Some(Rank::Usual), make: |s, name, c| direct(s, name, false, c) },
];

/// The kernels that keep a tile in registers; with `lanes`, those of a subgroup of 8 pass weights on.
fn direct(site: &Site, name: &'static str, lanes: bool, capabilities: &Capabilities) -> Lowering {
    let (g, costs) = (&site.geometry, capabilities.costs());
    let tile = Tile::choose(g, g.filters(), g.output[1], g.options.stride[1], lanes, costs);
    let spans = g.batch * g.output[0] * g.output[1].div_ceil(tile.columns);
    let workgroups = g.options.groups * g.filters().div_ceil(tile.rows) * spans.div_ceil(tile.group);
    let shader = site.types(capabilities).file(&shaders::conv2d::DIRECT);
    geometry::sum_over_channels(site, name, shader, &tile, g.channels(), workgroups)
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.options.attributes(words);
        self.product.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let (x, w) = (inputs[0], inputs[1]);
        self.product.check(inputs)?;
        let shape = Geometry::new(&x.shape, &w.shape, &self.options)?.output()?;
        Ok(vec![Meta { shape, dtype: self.product.output }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [x, w] = [&backward.inputs[0], &backward.inputs[1]];
        let dy = backward.grad;
        let (options, [x_dims, w_dims]) = (self.options, [x.dims(), w.dims()]);
        let of = |input| self.product.gradient_of(input);
        let data = || Tensor::apply(Conv2dDataGrad { options, product: of(x), size: [x_dims[2], x_dims[3]] }, &[dy, w]);
        let kernel = [w_dims[2], w_dims[3]];
        let weight = || Tensor::apply(Conv2dWeightGrad { options, product: of(w), kernel }, &[x, dy]);
        vec![backward.needs[0].then(data), backward.needs[1].then(weight)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [x, w] = [0, 1].map(|k| self.product.operand(inputs[k]));
        let g = Geometry::known(&x.shape, &w.shape, &output.shape, &self.options);
        let (channels, filters) = (g.channels(), g.filters());
        vec![self.product.result(Array::build(output.shape, output.dtype, |linear| {
            let mut at = [0; 4];
            Array::unravel(&output.shape, linear, &mut at);
            let [n, o, i, j] = at;
            let mut sum = 0.0;
            for c in 0..channels {
                let plane = (n * g.in_channels + o / filters * channels + c) * g.input[0];
                for (u, row) in g.taps(0, i) {
                    let line = (plane + row) * g.input[1];
                    let weights = ((o * channels + c) * g.kernel[0] + u) * g.kernel[1];
                    for (v, column) in g.taps(1, j) {
                        sum += w.data[weights + v] * x.data[line + column];
                    }
                }
            }
            sum
        }))]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let geometry = Geometry::known(&inputs[0].shape, &inputs[1].shape, &output.shape, &self.options);
        let (precision, inputs) = (self.product, inputs.to_vec());
        let site = Site { pass: Direction::Forward, geometry, precision, inputs, output: *output };
        one_of(VARIANTS, site, capabilities, |_, lowering| lowering)
    }

    fn variants() -> Vec<&'static str> {
        names(VARIANTS)
    }

    fn cases() -> Vec<Case> {
        cases::forward()
    }
}
