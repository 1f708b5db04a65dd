//! The kernels of a product, which of them may run where, and which is the default.

use super::kernel::Operand;
use crate::kernel::Capabilities;
use crate::ops::tiles::{self, Sizes};

/// Whether the contiguous axis of an operand is k (true) or its own (false), if it can be read `width` elements at a time:
/// `axes` are (length, stride) of its own axis and of k.
pub(super) fn along_k(width: usize, start: usize, batches: [usize; 2], axes: [(usize, usize); 2]) -> Option<bool> {
    let even = |x: usize| x.is_multiple_of(width);
    if !(even(start) && batches.into_iter().all(even)) {
        return None;
    }
    match axes {
        [(_, stride), (depth, 1)] if even(depth) && even(stride) => Some(true),
        [(length, 1), (_, stride)] if even(length) && even(stride) => Some(false),
        _ => None,
    }
}

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

/// A named kernel with its tile.
#[derive(Debug)]
pub(super) struct Variant {
    pub name: &'static str,
    pub shader: Shader,
    /// The constants' tile of an invocation, rows first (row loads for `subgroup`).
    pub each: [usize; 2],
    /// Invocations of a workgroup along rows and columns.
    pub group: [usize; 2],
}

const fn variant(name: &'static str, shader: Shader, each: [usize; 2], group: [usize; 2]) -> Variant {
    Variant { name, shader, each, group }
}

/// Kernels for a product of this class, the default first. Classes are wide, so that another batch size rarely means
/// another pipeline. `transposed`: of the left operand rows lie side by side. `fours` and `eights`: true if both operands can be read so. `half`: operands are rounded to f16.
pub(super) fn candidates(
    sizes: &Sizes,
    transposed: bool,
    [fours, eights]: [bool; 2],
    half: bool,
    capabilities: &Capabilities,
) -> Vec<Variant> {
    let shorter = sizes.rows.min(sizes.columns);
    let thin = shorter <= 4;
    let registers = match (capabilities.software, thin) {
        (true, _) => variant("matmul.registers", Shader::Registers, [8, 8], [1, 8]),
        (false, true) => variant("matmul.registers.thin", Shader::Registers, [1, 1], [16, 16]),
        (false, false) => variant("matmul.registers", Shader::Registers, [4, 4], [4, 16]),
    };
    if capabilities.software {
        let subgroup = match thin {
            true => variant("matmul.subgroup.thin", Shader::Subgroup, [1, 2], [8, 8]),
            false => variant("matmul.subgroup", Shader::Subgroup, [4, 4], [8, 8]),
        };
        let wide = (fours && !thin).then_some(variant("matmul.wide", Shader::Wide, [4, 4], [8, 8]));
        let eights = (eights && !thin).then_some(variant("matmul.eights", Shader::Eights, [4, 4], [8, 8]));
        let mut lanes = if capabilities.subgroup == Some(8) { vec![eights, wide, Some(subgroup)] } else { vec![] };
        if is_small(sizes, transposed) && !thin && !lanes.is_empty() {
            // It has next to nothing to do, and other tiles take up to three times as long to compile.
            lanes.insert(0, Some(variant("matmul.subgroup.thin", Shader::Subgroup, [1, 2], [8, 8])));
        }
        return lanes.into_iter().flatten().chain([registers]).collect();
    }
    if shorter == 1 {
        return vec![variant("matmul.vector", Shader::Vector, [1, 1], [1, 4]), registers];
    }
    let mut list: Vec<Variant> = sizes
        .sides(capabilities)
        .into_iter()
        .map(|side| match side {
            128 => variant("matmul.tiled.128", Shader::Tiled, [8, 8], [16, 16]),
            64 => variant("matmul.tiled.64", Shader::Tiled, [8, 4], [8, 16]),
            _ => variant("matmul.tiled.32", Shader::Tiled, [4, 4], [8, 8]),
        })
        .collect();
    if let Some(matrix) = matrix_side(half, capabilities) {
        let side = 8 * matrix;
        let cooperative = variant("matmul.cooperative", Shader::Cooperative, [side, side], [1, 1]);
        list.insert(if 2 * shorter >= side { 0 } else { list.len() }, cooperative);
    }
    // Blocks that would be mostly edge come last. Small kernels without barriers can share a dispatch, too.
    list.insert(if shorter < 32 { 0 } else { list.len() }, registers);
    list
}

/// True for a weight of up to 32 x 32 and any batch, which is the rows of the result and of the gradient that a layer passes on, and
/// the depth of the weight's gradient, whose left operand is transposed.
fn is_small(sizes: &Sizes, transposed: bool) -> bool {
    let weight = if transposed { sizes.rows } else { sizes.depth };
    sizes.batches == 1 && sizes.columns <= 32 && weight <= 32
}

/// Side of the matrices that the adapter multiplies, where this shader can use them: it counts on subgroups of 32.
fn matrix_side(half: bool, capabilities: &Capabilities) -> Option<usize> {
    let fits = half && capabilities.f16 && capabilities.subgroup == Some(32);
    capabilities.cooperative.filter(|side| fits && matches!(side, 8 | 16)).map(|side| side as usize)
}

impl Variant {
    /// The lines that go in front of the shader, for these operands. A product with a vector takes its tile from the matrix' layout.
    pub fn constants(&mut self, a: &Operand, b: &Operand, fours: [Option<bool>; 2]) -> String {
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
    pub fn tile(&self) -> [usize; 2] {
        [0, 1].map(|axis| self.each[axis] * self.group[axis])
    }

    /// Tiles of the whole product, batches included.
    pub fn count(&self, sizes: &Sizes) -> usize {
        let [rows, columns] = self.tile();
        sizes.rows.div_ceil(rows) * sizes.columns.div_ceil(columns) * sizes.batches
    }

    fn is_blocks(&self) -> bool {
        matches!(self.shader, Shader::Tiled | Shader::Cooperative)
    }

    /// Parts of the sum over k, and the length of each.
    pub fn splits(&self, sizes: &Sizes, capabilities: &Capabilities) -> (usize, usize) {
        // The loop bound of an invocation, see `iterations`.
        let longest = if self.is_blocks() { 50_000 } else { 56_000 };
        let count = self.count(sizes);
        // A software driver has a few cores and pays for each dispatch.
        let (enough, shortest) = match capabilities.software {
            true => (4, 2048),
            false => (2 * capabilities.enough_workgroups(), 256),
        };
        let wanted = if count < enough { (enough / count).min(sizes.depth / shortest).max(1) } else { 1 };
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
    pub fn iterations(&self, depth: usize) -> u64 {
        match self.shader {
            Shader::Tiled | Shader::Cooperative => tiles::iterations(depth),
            Shader::Wide | Shader::Eights => depth as u64 / 4 + 64,
            _ => depth as u64 + 64,
        }
    }
}
