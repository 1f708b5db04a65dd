//! The kernel of a product whose operands are given by their strides.

use super::variants::{self, Shader, along_k};
use crate::dtype::DType;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::ops::product::Product;
use crate::ops::shared::preferred;
use crate::ops::tiles::{self, Sizes};

/// An operand of a product: the input that it is, its first element, and the strides of its two batch axes, its rows and its
/// columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operand {
    pub input: usize,
    pub meta: Meta,
    pub start: usize,
    pub strides: [usize; 4],
}

/// Sizes of a product.
const COMMON: &str = include_str!("../../../shaders/matmul/common.wgsl");
/// Bindings, patches and the store of products in blocks.
const TILED: &str = include_str!("../../../shaders/matmul/tiled.wgsl");

impl Operand {
    fn turned(self) -> Operand {
        let [outer, inner, row, column] = self.strides;
        Operand { strides: [outer, inner, column, row], ..self }
    }
}

/// The kernel that forms `a` x `b` for each of `batch` matrices, and the number of parts that it leaves to be added.
pub(crate) fn kernel(
    precision: Product,
    mut sizes: Sizes,
    batch: [usize; 2],
    mut a: Operand,
    mut b: Operand,
    capabilities: &Capabilities,
) -> (Kernel, usize) {
    let along = |width: usize, of: &Operand, own: usize, length: usize, k: usize| {
        let [outer, inner, ..] = of.strides;
        along_k(width, of.start, [outer, inner], [(length, of.strides[own]), (sizes.depth, of.strides[k])])
    };
    let both = |width| [along(width, &a, 2, sizes.rows, 3), along(width, &b, 3, sizes.columns, 2)];
    let [a_fours, b_fours] = both(4);
    let [a_eights, b_eights] = both(8);
    let single = !precision.half && a.meta.dtype == DType::F32 && b.meta.dtype == DType::F32;
    let eights = capabilities.pairs && single && a_eights == Some(true) && b_eights.is_some();
    let fours = a_fours.is_some() && b_fours.is_some();
    let transposed = a.strides[2] == 1 && a.strides[3] != 1;
    let list = variants::candidates(&sizes, transposed, [fours, eights], precision.half, capabilities);
    let mut variant = preferred(list, |variant| variant.name, capabilities);
    if variant.shader == Shader::Vector && sizes.rows > 1 {
        // One column: the product is formed transposed.
        (a, b) = (b.turned(), a.turned());
        (sizes.rows, sizes.columns) = (sizes.columns, sizes.rows);
    }
    let constants =
        variant.constants(&a, &b, [a_fours, b_fours]) + &precision.types(&[a.meta, b.meta], capabilities) + COMMON;
    let (splits, split_depth) = variant.splits(&sizes, capabilities);
    let quads = matches!(variant.shader, Shader::Wide | Shader::Eights) && sizes.columns.is_multiple_of(4);
    let lanes = if quads { 4 } else { 1 };
    let store = match lanes {
        4 => include_str!("../../../shaders/matmul/store_quads.wgsl"),
        _ => include_str!("../../../shaders/matmul/store_elements.wgsl"),
    };
    let source = match variant.shader {
        Shader::Wide => constants + include_str!("../../../shaders/matmul/wide.wgsl") + store,
        Shader::Eights => constants + include_str!("../../../shaders/matmul/eights.wgsl") + store,
        Shader::Subgroup => constants + include_str!("../../../shaders/matmul/subgroup.wgsl"),
        Shader::Tiled => constants + TILED + tiles::PLACE + tiles::SHADER,
        Shader::Cooperative => {
            constants + TILED + tiles::PLACE + include_str!("../../../shaders/matmul/cooperative.wgsl")
        }
        Shader::Registers => constants + include_str!("../../../shaders/matmul/registers.wgsl"),
        Shader::Vector => constants + include_str!("../../../shaders/matmul/vector.wgsl"),
    };
    let mut kernel = Kernel::own(variant.name, source);
    kernel.bindings = vec![Binding::input(a.input), Binding::input(b.input), Binding::output()];
    let words = [sizes.rows, sizes.columns, sizes.depth, batch[0], batch[1], splits, split_depth];
    let words = [&words[..], &a.strides, &b.strides, &[a.start, b.start]].concat();
    kernel.params = words.into_iter().map(|word| word as u32).collect();
    kernel.workgroups = (variant.count(&sizes) * splits) as u64;
    kernel.iterations = variant.iterations(split_depth.min(sizes.depth));
    kernel.epilogue = true;
    kernel.lanes = lanes;
    kernel.flops = 2 * (sizes.rows * sizes.columns * sizes.batches) as u64 * sizes.depth as u64;
    (kernel, splits)
}
