//! A convolution by 3 x 3 filters with stride 1, or its gradient with respect to images, with 16 multiplications for 36 (Winograd
//! 1980; Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", 2016): filters and images are transformed,
//! multiplied in 16 matrix products, and the products transformed back. For GPUs; it moves four times the bytes, so it is no
//! default but what tuning may find to be faster.

use super::site::{Direction, Site};
use crate::dtype::DType;
use crate::kernel::{Binding, Capabilities, Kernel, Operand};
use crate::layout::Meta;
use crate::op::Lowering;
use crate::ops::matmul::{Matrix, Site as ProductSite, product_kernel};
use crate::ops::product::Product;
use crate::ops::shared::{each, no_epilogue};
use crate::ops::tiles::Sizes;
use crate::ops::variants::Rank;
use crate::shader::{Shader, params};
use crate::shaders::conv2d::{WINOGRAD_FILTERS, WINOGRAD_IMAGES, WINOGRAD_RESULT};
use crate::shape::Shape;

/// Products of a tile of 2 x 2 results.
const PRODUCTS: usize = 16;

params! {
    struct Filters { rows, depth }
}

params! {
    struct Images { depth, tiles, tiles_down, tiles_across, height, width, padding_height, padding_width }
}

params! {
    struct Results { rows, tiles, tiles_down, tiles_across, out_height, out_width, splits }
}

/// A pass as the transforms see it.
struct Pass {
    /// Channels of the result and of what is read.
    rows: usize,
    depth: usize,
    /// Height and width of what is read and of the result.
    input: [usize; 2],
    output: [usize; 2],
    padding: [usize; 2],
    /// Tiles along height and width.
    tiles: [usize; 2],
    batch: usize,
}

impl Pass {
    /// `None` unless filters are 3 x 3, the stride is 1, and nothing else is special.
    fn of(site: &Site) -> Option<Pass> {
        let g = &site.geometry;
        let options = &g.options;
        let is_plain = g.kernel == [3, 3] && options.stride == [1, 1] && options.dilation == [1, 1];
        if !is_plain || options.groups != 1 || options.padding.iter().any(|&padding| padding > 2) {
            return None;
        }
        let (rows, depth, input, output, padding) = match site.pass {
            Direction::Forward => (g.out_channels, g.in_channels, g.input, g.output, options.padding),
            // dx is dy under the filters turned round, padded by what reaches over its edges.
            Direction::DataGrad => (g.in_channels, g.out_channels, g.output, g.input, options.padding.map(|p| 2 - p)),
            Direction::WeightGrad => return None,
        };
        let tiles = output.map(|length| length.div_ceil(2));
        Some(Pass { rows, depth, input, output, padding, tiles, batch: g.batch })
    }

    /// Tiles of all images.
    fn count(&self) -> usize {
        self.batch * self.tiles[0] * self.tiles[1]
    }
}

/// Where it may run: on GPUs, if all that lies between has room in one binding each.
pub(super) fn needs(site: &Site, capabilities: &Capabilities) -> Option<Rank> {
    let pass = Pass::of(site)?;
    let largest = PRODUCTS * (pass.rows * pass.depth).max(pass.rows.max(pass.depth) * pass.count());
    let has_room = largest as u64 * 4 <= capabilities.binding_bytes.min(1 << 30);
    (!capabilities.costs().dear_barriers && has_room).then_some(Rank::Last)
}

/// The kernels.
pub(super) fn lowering(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    // `needs` was asked before.
    let Some(pass) = Pass::of(site) else { return Lowering::Kernels { kernels: vec![], temporaries: vec![] } };
    let Pass { rows, depth, input: [height, width], output: [out_height, out_width], .. } = pass;
    let ([padding_height, padding_width], [tiles_down, tiles_across]) = (pass.padding, pass.tiles);
    let tiles = pass.count();
    let (product, splits) = products(&pass, site.output.shape, name, capabilities);
    let transform = |file, invocations: usize| {
        let shader = each(Shader::of(&[file])).join(site.types(capabilities));
        let mut kernel = Kernel::own(name, shader);
        kernel.workgroups = (invocations as u64).div_ceil(64);
        kernel.iterations = 16;
        kernel
    };

    let mut filters = transform(&WINOGRAD_FILTERS, rows * depth);
    filters.shader = filters.shader.constant("FLIPPED", site.pass == Direction::DataGrad);
    filters.bind(Binding::input(1), "w", "$B_TYPE$");
    filters.bind(Binding::write(0), "u", "f32");
    filters.uniform(Filters { rows, depth });

    let mut images = transform(&WINOGRAD_IMAGES, depth * tiles);
    images.bind(Binding::input(0), "x", "$A_TYPE$");
    images.bind(Binding::write(1), "v", "f32");
    images.uniform(Images { depth, tiles, tiles_down, tiles_across, height, width, padding_height, padding_width });

    let mut results = transform(&WINOGRAD_RESULT, rows * tiles);
    results.bind(Binding::read(2), "m", "f32");
    results.bind(Binding::output(), "y", "$OUT$");
    results.uniform(Results { rows, tiles, tiles_down, tiles_across, out_height, out_width, splits });
    results.iterations = splits as u64 + 8;
    results.epilogue = true;

    let temporaries = vec![rows * depth, depth * tiles, splits * rows * tiles].into_iter().map(|n| PRODUCTS * n);
    Lowering::Kernels { kernels: vec![filters, images, product, results], temporaries: temporaries.collect() }
}

/// The 16 products of transformed filters and images, from temporaries 0 and 1 into 2, and the number of parts of their sums.
/// `other` stands for shapes too large to be one, which `needs` has ruled out.
fn products(pass: &Pass, other: Shape, name: &'static str, capabilities: &Capabilities) -> (Kernel, usize) {
    let Pass { rows, depth, .. } = *pass;
    let tiles = pass.count();
    let meta = |rows: usize, columns: usize| {
        let shape = Shape::new(&[PRODUCTS, rows, columns]).unwrap_or(other);
        Meta { shape, dtype: DType::F32 }
    };
    let matrix = |input: usize, rows: usize, columns: usize| Matrix {
        input,
        meta: meta(rows, columns),
        start: 0,
        strides: [0, rows * columns, columns, 1],
    };
    let site = ProductSite {
        precision: Product::FULL,
        sizes: Sizes { rows, columns: tiles, depth, batches: PRODUCTS },
        batch: [1, PRODUCTS],
        a: matrix(0, rows, depth),
        b: matrix(1, depth, tiles),
        output: meta(rows, tiles),
        whole: false,
    };
    let (mut kernel, splits) = product_kernel(&site, name, capabilities);
    kernel.shader = no_epilogue(std::mem::take(&mut kernel.shader), kernel.lanes);
    kernel.epilogue = false;
    for binding in &mut kernel.bindings {
        *binding = match binding.operand {
            Operand::Input(number) => Binding::read(number),
            _ => Binding::write(2),
        };
    }
    (kernel, splits)
}
