//! The kernels of a product, which of them may run where, and which is the default.

use crate::kernel::Capabilities;

/// Sizes of a product.
pub(super) struct Sizes {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub batches: usize,
    /// Where both operands can be read four elements at a time: whether a and b are contiguous along k.
    pub along_k: Option<(bool, bool)>,
}

/// Whether the contiguous axis of an operand is k (true) or its own (false), if it can be read four elements at a time:
/// `axes` are (length, stride) of its own axis and of k.
pub(super) fn fours(start: usize, batches: [usize; 2], axes: [(usize, usize); 2]) -> Option<bool> {
    let even = |x: usize| x.is_multiple_of(4);
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
    /// As `Subgroup`, four elements a load.
    Wide,
    /// Loads shared by broadcast among the 8 lanes of a subgroup.
    Subgroup,
    /// A tile in workgroup memory.
    Tiled,
    /// A tile in an invocation's registers.
    Registers,
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
/// another pipeline.
pub(super) fn candidates(sizes: &Sizes, capabilities: &Capabilities) -> Vec<Variant> {
    let lanes = capabilities.subgroup == Some(8);
    let thin = sizes.rows.min(sizes.columns) <= 4;
    let subgroup = || match thin {
        true => variant("matmul.subgroup.thin", Shader::Subgroup, [1, 2], [8, 8]),
        false => variant("matmul.subgroup", Shader::Subgroup, [4, 4], [8, 8]),
    };
    let registers = || match (capabilities.software, thin) {
        (true, _) => variant("matmul.registers", Shader::Registers, [8, 8], [1, 8]),
        (false, true) => variant("matmul.registers.thin", Shader::Registers, [1, 1], [16, 16]),
        (false, false) => variant("matmul.registers", Shader::Registers, [4, 4], [4, 16]),
    };
    let tiled = || variant("matmul.tiled", Shader::Tiled, [4, 4], [16, 16]);
    let mut list = vec![];
    if capabilities.software {
        if lanes {
            if sizes.along_k.is_some() && !thin {
                list.push(variant("matmul.wide", Shader::Wide, [4, 4], [8, 8]));
            }
            list.push(subgroup());
        }
        list.extend([registers(), tiled()]);
    } else {
        list.extend([registers(), tiled()]);
        if sizes.rows.min(sizes.columns) >= 32 {
            list.reverse();
        }
    }
    list
}

impl Variant {
    /// Tiles of the whole product, batches included.
    pub fn count(&self, sizes: &Sizes) -> usize {
        let [rows, columns] = [0, 1].map(|axis| self.each[axis] * self.group[axis]);
        sizes.rows.div_ceil(rows) * sizes.columns.div_ceil(columns) * sizes.batches
    }

    /// Parts of the sum over k, and the length of each.
    pub fn splits(&self, sizes: &Sizes, software: bool) -> (usize, usize) {
        // The loop bound of an invocation, see `iterations`.
        let longest = if self.shader == Shader::Tiled { 40_000 } else { 56_000 };
        let count = self.count(sizes);
        // A software driver has a few cores and pays for each dispatch; a GPU wants some hundred workgroups.
        let (enough, shortest) = if software { (4, 2048) } else { (256, 256) };
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
        let steps = match self.shader {
            Shader::Tiled => depth.div_ceil(16) * 21 + 8,
            Shader::Wide => depth / 4 + 64,
            Shader::Subgroup | Shader::Registers => depth + 64,
        };
        steps as u64
    }
}
