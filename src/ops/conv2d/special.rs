//! Kernels of a convolution besides the direct ones, and the table that chooses.

use super::geometry::Geometry;
use super::{blocks, depthwise, first, single};
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::Lowering;
use crate::ops::product::Product;
use crate::ops::shared::preferred;

/// Which of the three products.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pass {
    Forward,
    DataGrad,
    WeightGrad,
}

/// A way to form it.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// A tile of channels and columns in registers.
    Direct,
    /// Strips of single planes.
    Depthwise,
    /// All filters of a few channels.
    First,
    /// A matrix product an image.
    Product,
    /// Blocks with this side in workgroup memory.
    Blocks(usize),
}

impl Way {
    fn name(self, pass: Pass) -> &'static str {
        match (self, pass) {
            (Way::Direct, Pass::Forward) => "conv2d",
            (Way::Direct, Pass::DataGrad) => "conv2d_data_grad",
            (Way::Direct, Pass::WeightGrad) => "conv2d_weight_grad",
            (Way::Depthwise, Pass::Forward) => "conv2d.depthwise",
            (Way::Depthwise, Pass::DataGrad) => "conv2d_data_grad.depthwise",
            (Way::Depthwise, Pass::WeightGrad) => "conv2d_weight_grad.depthwise",
            (Way::First, _) => "conv2d.first",
            (Way::Product, Pass::Forward) => "conv2d.product",
            (Way::Product, Pass::DataGrad) => "conv2d_data_grad.product",
            (Way::Product, Pass::WeightGrad) => "conv2d_weight_grad.product",
            (Way::Blocks(128), Pass::Forward) => "conv2d.blocks.128",
            (Way::Blocks(64), Pass::Forward) => "conv2d.blocks.64",
            (Way::Blocks(_), Pass::Forward) => "conv2d.blocks.32",
            (Way::Blocks(128), Pass::DataGrad) => "conv2d_data_grad.blocks.128",
            (Way::Blocks(64), Pass::DataGrad) => "conv2d_data_grad.blocks.64",
            (Way::Blocks(_), Pass::DataGrad) => "conv2d_data_grad.blocks.32",
            (Way::Blocks(128), Pass::WeightGrad) => "conv2d_weight_grad.blocks.128",
            (Way::Blocks(64), Pass::WeightGrad) => "conv2d_weight_grad.blocks.64",
            (Way::Blocks(_), Pass::WeightGrad) => "conv2d_weight_grad.blocks.32",
        }
    }
}

/// Ways for a convolution of this class, the default first. Nothing here looks at the batch but the side of blocks.
fn candidates(g: &Geometry, pass: Pass, capabilities: &Capabilities) -> Vec<Way> {
    let single = if depthwise::fits(g, pass) { Some(Way::Depthwise) } else { None };
    let mut list: Vec<Way> = single.into_iter().chain([Way::Direct]).collect();
    // Numbers of the index arithmetic of blocks, which are constants there, must fit in 32 bits.
    let options = &g.options;
    let reach = (0..2).map(|axis| g.kernel[axis] * options.dilation[axis] * options.stride[axis]).max();
    if capabilities.software && single::fits(g, pass) {
        list.insert(0, Way::Product);
    }
    if capabilities.software || reach.is_none_or(|reach| reach >= 1 << 28) {
        return list;
    }
    let product = blocks::product(g, pass);
    let sides = product.sides(capabilities).into_iter().map(Way::Blocks);
    // Few channels a group leave blocks mostly empty.
    let narrow = product.rows.min(product.columns) <= 8 || product.depth < 16;
    let place = if narrow || list.len() == 2 { list.len() } else { 0 };
    list.splice(place..place, sides);
    if pass == Pass::Forward && first::fits(g) {
        list.insert(0, Way::First);
    }
    list
}

/// The lowering of a pass by the kernel that the table or the device prefers; `None` for the direct kernel.
pub(super) fn lowering(
    g: &Geometry,
    pass: Pass,
    precision: Product,
    inputs: &[Meta],
    output: &Meta,
    capabilities: &Capabilities,
) -> Option<Lowering> {
    let way = preferred(candidates(g, pass, capabilities), |way| way.name(pass), capabilities);
    let types = &precision.types(inputs, capabilities);
    match way {
        Way::Direct => None,
        Way::Product => Some(single::lowering(way.name(pass), precision, inputs, g, pass, output, capabilities)),
        Way::First => Some(first::lowering(way.name(pass), types, g)),
        Way::Depthwise => Some(depthwise::lowering(way.name(pass), types, g, pass, output, capabilities)),
        Way::Blocks(side) => Some(blocks::lowering(way.name(pass), types, side, g, pass, output, capabilities)),
    }
}
