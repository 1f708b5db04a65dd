//! Sizes of blocks in workgroup memory (see `shaders/tiles/loop.wgsl`): what the GPU kernels of matrix products and
//! convolutions have in common. Not an op; ops bring functions of their own.

use crate::costs::Parts;
use crate::kernel::Capabilities;
use crate::ops::variants::Rank;
use crate::shader::Shader;
use crate::shaders;

/// Sides of the blocks of c that a workgroup may form.
pub(crate) const SIDES: [usize; 3] = [128, 64, 32];
/// Longest part of a sum that one loop runs over, within the bound on iterations.
const LONGEST: usize = 50_000;

/// Sizes of a product, `batches` times.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub batches: usize,
}

impl Sizes {
    /// Blocks of all matrices.
    pub fn count(&self, side: usize) -> usize {
        self.rows.div_ceil(side) * self.columns.div_ceil(side) * self.batches
    }

    /// The side that suits: larger blocks read less, smaller ones fill more of the chip and waste less at the edges. So the
    /// largest that fills it, with the sum in parts where it is long.
    pub fn side(&self, capabilities: &Capabilities) -> usize {
        let shorter = self.rows.min(self.columns);
        let parts = (self.depth / 512).max(1);
        let enough = capabilities.costs().enough_workgroups;
        let fills = |&side: &usize| shorter * 4 >= side * 3 && self.count(side) * parts >= enough;
        SIDES.into_iter().find(fills).unwrap_or(32)
    }

    /// When blocks with this side are taken: those of the side that suits before others.
    pub fn rank(&self, side: usize, capabilities: &Capabilities) -> Rank {
        if side == self.side(capabilities) { Rank::Good } else { Rank::Usual }
    }

    /// Parts of the sum over k and the length of each, a multiple of 16: as many as keep the device busy, at most `most`.
    pub fn splits(&self, side: usize, most: usize, capabilities: &Capabilities) -> (usize, usize) {
        let Parts { enough, least } = capabilities.costs().product_sum;
        let wanted = enough
            .div_ceil(self.count(side))
            .min(self.depth / least)
            .min(most)
            .max(self.depth.div_ceil(LONGEST))
            .max(1);
        let split_depth = self.depth.div_ceil(wanted).next_multiple_of(16);
        (self.depth.div_ceil(split_depth).max(1), split_depth)
    }
}

/// The place of a block with this side, which every loop over blocks needs.
pub(crate) fn place(side: usize) -> Shader {
    Shader::of(&[&shaders::tiles::PLACE]).constant("SIDE", side)
}

/// The same with the loop over k.
pub(crate) fn block(side: usize) -> Shader {
    place(side).file(&shaders::tiles::LOOP).constant("TALL", side >= 64).constant("WIDE", side >= 128)
}

/// Loop iterations of an invocation over `depth` terms.
pub(crate) fn iterations(depth: usize) -> u64 {
    (depth.div_ceil(16) * 5 + 40) as u64
}
