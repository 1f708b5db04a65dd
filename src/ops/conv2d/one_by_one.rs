//! A convolution with a single tap, stride 1 and no padding, as a matrix product an image: for software drivers, where it beats
//! the direct kernels (`docs/software-drivers.md`, "conv2d").

use super::site::{Direction, Site};
use crate::kernel::Capabilities;
use crate::op::Lowering;
use crate::ops::matmul::{Matrix, Site as ProductSite, product_kernel};
use crate::ops::shared::split_sum;
use crate::ops::tiles::Sizes;
use crate::ops::variants::Rank;

/// Where a pass is such a product, and the partial results of the weight gradient, one an image, have room in 64 MiB.
pub(super) fn needs(site: &Site, capabilities: &Capabilities) -> Option<Rank> {
    let (g, pass) = (&site.geometry, site.pass);
    let options = &g.options;
    let plain = options.stride == [1, 1] && options.padding == [0, 0] && options.groups == 1 && g.kernel == [1, 1];
    let partial = g.batch * g.in_channels * g.out_channels;
    let fits = plain && (pass != Direction::WeightGrad || (partial <= 16 << 20 && g.batch <= 50_000));
    (fits && capabilities.costs().dear_loads).then_some(Rank::First)
}

/// The kernels of a pass.
pub(super) fn lowering(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let (g, pass, inputs, output) = (&site.geometry, site.pass, &site.inputs, site.output);
    let area = g.output[0] * g.output[1];
    let (channels, filters) = (g.in_channels, g.out_channels);
    let operand = |input: usize, strides: [usize; 4]| Matrix { input, meta: inputs[input], start: 0, strides };
    // y = w x, dx = w^T dy, dw = sum over images of dy x^T.
    let ([rows, columns, depth], a, b) = match pass {
        Direction::Forward => {
            ([filters, area, channels], operand(1, [0, 0, channels, 1]), operand(0, [0, channels * area, area, 1]))
        }
        Direction::DataGrad => {
            ([channels, area, filters], operand(1, [0, 0, 1, channels]), operand(0, [0, filters * area, area, 1]))
        }
        Direction::WeightGrad => (
            [filters, channels, area],
            operand(1, [0, filters * area, area, 1]),
            operand(0, [0, channels * area, 1, area]),
        ),
    };
    let sizes = Sizes { rows, columns, depth, batches: g.batch };
    let product = ProductSite { precision: site.precision, sizes, batch: [1, g.batch], a, b, output, whole: false };
    let (kernel, splits) = product_kernel(&product, name, capabilities);
    match pass {
        // The second kernel is always there: another batch size, with another number of parts, finds both made.
        Direction::WeightGrad => split_sum(vec![kernel], splits * g.batch, &output),
        _ if splits == 1 => Lowering::kernel(kernel),
        _ => split_sum(vec![kernel], splits, &output),
    }
}
