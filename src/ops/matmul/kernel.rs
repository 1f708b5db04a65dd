//! The kernel of a product: its shader and its tile.

use super::site::{Axis, Matrix, Site};
use crate::costs::Parts;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::ops::shared::TEAM_FILE;
use crate::ops::tiles::{self, Sizes};
use crate::shader::{Facts, Item, Shader, params};
use crate::shaders::matmul::{
    COMMON, COOPERATIVE, EIGHTS, FOURS, REGISTERS, ROWS, ROWS_SUBGROUP, STORE_ELEMENTS, STORE_QUADS, TILED, VECTOR,
    WIDE,
};

params! {
    /// Sizes of a product and how many parts its sum has; strides and starts count elements.
    struct Layout {
        rows, columns, depth, batch_outer, batch_inner, splits, split_depth,
        a_batch_outer, a_batch_inner, a_row, a_column,
        b_batch_outer, b_batch_inner, b_row, b_column,
        a_start, b_start,
    }
}

/// How a variant forms the product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Method {
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

/// A method with its tile.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    pub method: Method,
    /// The constants' tile of an invocation, rows first (row loads for `subgroup`).
    pub each: [usize; 2],
    /// Invocations of a workgroup along rows and columns.
    pub group: [usize; 2],
}

/// The kernel of a product, and the number of parts that it leaves to be added.
pub(super) fn form(site: &Site, name: &'static str, form: &Form, capabilities: &Capabilities) -> (Kernel, usize) {
    let (precision, mut sizes, [mut a, mut b]) = (site.precision, site.sizes, [site.a, site.b]);
    let fours = site.contiguous(4);
    let mut form = *form;
    if form.method == Method::Vector && sizes.rows > 1 {
        // One column: the product is formed transposed.
        (a, b) = (b.turned(), a.turned());
        (sizes.rows, sizes.columns) = (sizes.columns, sizes.rows);
    }
    let shader = form.shader(&a, &b, fours);
    let (splits, split_depth) = if site.whole { (1, sizes.depth) } else { form.splits(&sizes, capabilities) };
    let (is_quads, shader) = match form.method {
        Method::Wide | Method::Eights if sizes.columns.is_multiple_of(4) => (true, shader.file(&STORE_QUADS)),
        Method::Wide | Method::Eights => (false, shader.file(&STORE_ELEMENTS)),
        _ => (false, shader),
    };
    let mut kernel = Kernel::own(name, shader.join(precision.types(&[a.meta, b.meta], capabilities)));
    let [a_element, b_element] = match form.method {
        Method::Eights => ["vec4<u64>"; 2],
        Method::Wide | Method::Tiled | Method::Cooperative => ["vec4<$A_TYPE$>", "vec4<$B_TYPE$>"],
        Method::Subgroup | Method::Registers | Method::Vector => ["$A_TYPE$", "$B_TYPE$"],
    };
    kernel.bind(Binding::input(a.input), "a", a_element);
    kernel.bind(Binding::input(b.input), "b", b_element);
    kernel.bind(Binding::output(), "c", "$OUT$");
    let Sizes { rows, columns, depth, .. } = sizes;
    let [batch_outer, batch_inner] = site.batch;
    let [a_batch_outer, a_batch_inner, a_row, a_column] = a.strides;
    let [b_batch_outer, b_batch_inner, b_row, b_column] = b.strides;
    let [a_start, b_start] = [a.start, b.start];
    #[rustfmt::skip]
    kernel.uniform(Layout {
        rows, columns, depth, batch_outer, batch_inner, splits, split_depth,
        a_batch_outer, a_batch_inner, a_row, a_column,
        b_batch_outer, b_batch_inner, b_row, b_column,
        a_start, b_start,
    });
    kernel.workgroups = (form.count(&sizes) * splits) as u64;
    kernel.iterations = form.iterations(split_depth.min(sizes.depth));
    kernel.epilogue = true;
    kernel.lanes = if is_quads { 4 } else { 1 };
    kernel.flops = 2 * (sizes.rows * sizes.columns * sizes.batches) as u64 * sizes.depth as u64;
    (kernel, splits)
}

/// The loop over blocks with this side by matrix units, without how their operands are read.
fn matrices(side: usize) -> Shader {
    let matrix = side / 8;
    let kind = |name, of: &str| {
        Item::alias(name, format!("coop_mat{matrix}x{matrix}<{of}>")).with(Facts::MATRICES.and(Facts::HALF))
    };
    let shader = tiles::place(side).file(&COOPERATIVE).constant("MATRIX", matrix);
    shader.item(kind("Left", "f16, A")).item(kind("Right", "f16, B")).item(kind("Sum", "f32, C"))
}

/// Side of the matrices that the adapter multiplies, where this shader can use them: it counts on subgroups of 32.
pub(super) fn matrix_side(site: &Site, capabilities: &Capabilities) -> Option<usize> {
    let fits = site.precision.half && capabilities.f16 && capabilities.subgroup == Some(32);
    capabilities.cooperative.filter(|side| fits && matches!(side, 8 | 16)).map(|side| side as usize)
}

impl Form {
    /// The shader for these operands, without how they are read and how a method of fours stores. A product with a vector
    /// takes its tile from the matrix' layout.
    fn shader(&mut self, a: &Matrix, b: &Matrix, fours: [Option<Axis>; 2]) -> Shader {
        let ([rows, columns], [y, x]) = (self.each, self.group);
        let [a_along_k, b_along_k] = fours.map(|axis| axis == Some(Axis::Depth));
        let shader = match self.method {
            Method::Eights => Shader::of(&[TEAM_FILE, &FOURS, &EIGHTS]).constant("B_ALONG_K", b_along_k),
            Method::Wide => {
                let shader = Shader::of(&[TEAM_FILE, &FOURS, &WIDE]);
                shader.constant("A_ALONG_K", a_along_k).constant("B_ALONG_K", b_along_k)
            }
            Method::Subgroup => {
                let shader = Shader::of(&[&ROWS_SUBGROUP, &REGISTERS]);
                shader.constant("ROW_LOADS", rows).constant("COLUMNS", columns)
            }
            Method::Registers => {
                let shader = Shader::of(&[&ROWS, &REGISTERS]).constant("ROWS", rows).constant("COLUMNS", columns);
                shader.constant("GROUP_X", x).constant("GROUP_Y", y)
            }
            Method::Vector => {
                let along = b.strides[2] == 1 || b.strides[3] != 1;
                self.group[1] = if along { 4 } else { 64 };
                let shader = Shader::of(&[TEAM_FILE, &VECTOR]).constant("GROUP", 256usize);
                shader.constant("ALONG_DEPTH", along).constant("OUTPUTS", self.group[1])
            }
            Method::Tiled | Method::Cooperative => {
                // Neighbours load neighbouring elements: along k where that is the contiguous axis.
                let strides = [a.strides[3] == 1, b.strides[2] == 1 && b.strides[3] != 1];
                let [a_along, b_along] = [0, 1].map(|k| fours[k].map_or(strides[k], |axis| axis == Axis::Depth));
                let [a_whole, b_whole] = fours.map(|axis| axis.is_some());
                let block = match self.method {
                    Method::Tiled => tiles::block(rows * y),
                    _ => matrices(rows),
                };
                let block = block.file(&TILED).constant("A_ALONG_DEPTH", a_along).constant("B_ALONG_DEPTH", b_along);
                block.constant("A_WHOLE", a_whole).constant("B_WHOLE", b_whole)
            }
        };
        shader.file(&COMMON)
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
        matches!(self.method, Method::Tiled | Method::Cooperative)
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
        match self.method {
            Method::Tiled | Method::Cooperative => tiles::iterations(depth),
            Method::Wide | Method::Eights => depth as u64 / 4 + 64,
            _ => depth as u64 + 64,
        }
    }
}
