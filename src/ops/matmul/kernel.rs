//! The kernel of a product: its shader and its tile.

use super::site::{Operand, Site};
use crate::costs::Parts;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::ops::shared::{TEAM, team_of};
use crate::ops::tiles::{self, Sizes};

/// Sizes of a product.
const COMMON: &str = include_str!("../../../shaders/matmul/common.wgsl");
/// Tiles of sums that a software driver's lanes form together.
const FOURS: &str = include_str!("../../../shaders/matmul/fours.wgsl");
/// The product in registers, after the text that has its rows.
const REGISTERS: &str = include_str!("../../../shaders/matmul/registers.wgsl");
/// Bindings, patches and the store of products in blocks.
const TILED: &str = include_str!("../../../shaders/matmul/tiled.wgsl");

/// The shader of a variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shader {
    /// As `Wide`, eight elements a load.
    Eights,
    /// As `Subgroup`, four elements a load.
    Wide,
    /// Loads shared by broadcast among the 8 lanes of a subgroup.
    Subgroup,
    /// A square block in workgroup memory.
    Tiled,
    /// A tile in an invocation's registers.
    Registers,
    /// A block formed by matrix units, in half precision.
    Cooperative,
    /// One row or one column.
    Vector,
}

/// A shader with its tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub shader: Shader,
    /// The constants' tile of an invocation, rows first (row loads for `subgroup`).
    pub each: [usize; 2],
    /// Invocations of a workgroup along rows and columns.
    pub group: [usize; 2],
}

/// The kernel of a product, and the number of parts that it leaves to be added.
pub(super) fn form(site: &Site, name: &'static str, form: &Form, capabilities: &Capabilities) -> (Kernel, usize) {
    let (precision, mut sizes, [mut a, mut b]) = (site.precision, site.sizes, [site.a, site.b]);
    let fours = site.along_k(4);
    let mut form = *form;
    if form.shader == Shader::Vector && sizes.rows > 1 {
        // One column: the product is formed transposed.
        (a, b) = (b.turned(), a.turned());
        (sizes.rows, sizes.columns) = (sizes.columns, sizes.rows);
    }
    let constants = form.constants(&a, &b, fours) + &precision.types(&[a.meta, b.meta], capabilities) + COMMON;
    let (splits, split_depth) = form.splits(&sizes, capabilities);
    let quads = matches!(form.shader, Shader::Wide | Shader::Eights) && sizes.columns.is_multiple_of(4);
    let lanes = if quads { 4 } else { 1 };
    let store = match lanes {
        4 => include_str!("../../../shaders/matmul/store_quads.wgsl"),
        _ => include_str!("../../../shaders/matmul/store_elements.wgsl"),
    };
    let source = match form.shader {
        Shader::Wide => constants + TEAM + FOURS + include_str!("../../../shaders/matmul/wide.wgsl") + store,
        Shader::Eights => constants + TEAM + FOURS + include_str!("../../../shaders/matmul/eights.wgsl") + store,
        Shader::Subgroup => constants + include_str!("../../../shaders/matmul/rows_subgroup.wgsl") + REGISTERS,
        Shader::Tiled => constants + TILED + tiles::PLACE + tiles::SHADER,
        Shader::Cooperative => {
            constants + TILED + tiles::PLACE + include_str!("../../../shaders/matmul/cooperative.wgsl")
        }
        Shader::Registers => constants + include_str!("../../../shaders/matmul/rows.wgsl") + REGISTERS,
        Shader::Vector => constants + &team_of(256) + include_str!("../../../shaders/matmul/vector.wgsl"),
    };
    let mut kernel = Kernel::own(name, source);
    kernel.bindings = vec![Binding::input(a.input), Binding::input(b.input), Binding::output()];
    let words = [sizes.rows, sizes.columns, sizes.depth, site.batch[0], site.batch[1], splits, split_depth];
    let words = [&words[..], &a.strides, &b.strides, &[a.start, b.start]].concat();
    kernel.params = words.into_iter().map(|word| word as u32).collect();
    kernel.workgroups = (form.count(&sizes) * splits) as u64;
    kernel.iterations = form.iterations(split_depth.min(sizes.depth));
    kernel.epilogue = true;
    kernel.lanes = lanes;
    kernel.flops = 2 * (sizes.rows * sizes.columns * sizes.batches) as u64 * sizes.depth as u64;
    (kernel, splits)
}

/// Side of the matrices that the adapter multiplies, where this shader can use them: it counts on subgroups of 32.
pub(super) fn matrix_side(site: &Site, capabilities: &Capabilities) -> Option<usize> {
    let fits = site.precision.half && capabilities.f16 && capabilities.subgroup == Some(32);
    capabilities.cooperative.filter(|side| fits && matches!(side, 8 | 16)).map(|side| side as usize)
}

impl Form {
    /// The lines that go in front of the shader, for these operands. A product with a vector takes its tile from the matrix' layout.
    fn constants(&mut self, a: &Operand, b: &Operand, fours: [Option<bool>; 2]) -> String {
        let ([rows, columns], [y, x]) = (self.each, self.group);
        match self.shader {
            Shader::Eights => format!("const B_ALONG_K: bool = {};\n", fours[1].unwrap_or_default()),
            Shader::Wide => {
                let [a, b] = fours.map(Option::unwrap_or_default);
                format!("const A_ALONG_K: bool = {a};\nconst B_ALONG_K: bool = {b};\n")
            }
            Shader::Subgroup => format!("const ROW_LOADS: u32 = {rows}u;\nconst COLUMNS: u32 = {columns}u;\n"),
            Shader::Registers => format!(
                "const ROWS: u32 = {rows}u;\nconst COLUMNS: u32 = {columns}u;\n\
                 const GROUP_X: u32 = {x}u;\nconst GROUP_Y: u32 = {y}u;\n"
            ),
            Shader::Vector => {
                let along = b.strides[2] == 1 || b.strides[3] != 1;
                self.group[1] = if along { 4 } else { 64 };
                format!("const ALONG_DEPTH: bool = {along};\nconst OUTPUTS: u32 = {}u;\n", self.group[1])
            }
            Shader::Tiled | Shader::Cooperative => {
                // Neighbours load neighbouring elements: along k where that is the contiguous axis.
                let strides = [a.strides[3] == 1, b.strides[2] == 1 && b.strides[3] != 1];
                let [a_along, b_along] = [0, 1].map(|k| fours[k].unwrap_or(strides[k]));
                let [a_whole, b_whole] = fours.map(|along| along.is_some());
                let block = match self.shader {
                    Shader::Tiled => tiles::constants(rows * y),
                    _ => {
                        let (side, matrix) = (rows, rows / 8);
                        let kind = format!("coop_mat{matrix}x{matrix}");
                        format!(
                            "const SIDE: u32 = {side}u;\nconst MATRIX: u32 = {matrix}u;\n\
                             alias Left = {kind}<f16, A>;\nalias Right = {kind}<f16, B>;\nalias Sum = {kind}<f32, C>;\n"
                        )
                    }
                };
                block
                    + &format!("const A_ALONG_DEPTH: bool = {a_along};\nconst B_ALONG_DEPTH: bool = {b_along};\n")
                    + &format!("const A_WHOLE: bool = {a_whole};\nconst B_WHOLE: bool = {b_whole};\n")
            }
        }
    }

    /// Rows and columns of a workgroup's tile.
    fn tile(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.each[axis] * self.group[axis])
    }

    /// Tiles of the whole product, batches included.
    fn count(&self, sizes: &Sizes) -> usize {
        let [rows, columns] = self.tile();
        sizes.rows.div_ceil(rows) * sizes.columns.div_ceil(columns) * sizes.batches
    }

    fn is_blocks(&self) -> bool {
        matches!(self.shader, Shader::Tiled | Shader::Cooperative)
    }

    /// Parts of the sum over k, and the length of each.
    fn splits(&self, sizes: &Sizes, capabilities: &Capabilities) -> (usize, usize) {
        // The loop bound of an invocation, see `iterations`.
        let longest = if self.is_blocks() { 50_000 } else { 56_000 };
        let count = self.count(sizes);
        let Parts { enough, least } = capabilities.costs().product_sum;
        let wanted = if count < enough { (enough / count).min(sizes.depth / least).max(1) } else { 1 };
        let split_depth = sizes.depth.div_ceil(wanted.max(sizes.depth.div_ceil(longest)));
        match split_depth >= sizes.depth {
            true => (1, sizes.depth),
            false => {
                let split_depth = split_depth.next_multiple_of(16);
                (sizes.depth.div_ceil(split_depth), split_depth)
            }
        }
    }

    /// Loop iterations of an invocation at most.
    fn iterations(&self, depth: usize) -> u64 {
        match self.shader {
            Shader::Tiled | Shader::Cooperative => tiles::iterations(depth),
            Shader::Wide | Shader::Eights => depth as u64 / 4 + 64,
            _ => depth as u64 + 64,
        }
    }
}
