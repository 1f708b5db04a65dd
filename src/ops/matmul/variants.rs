//! The variants of a product: which may run where, and which is the default.

use super::kernel::{Form, Method, form, matrix_side};
use super::site::Site;
use crate::kernel::{Capabilities, Kernel};
use crate::ops::variants::{Rank, Variant};

/// Each makes a kernel, and the number of parts that it leaves to be added. Classes of shapes are wide, so that another
/// batch size rarely means another pipeline.
pub(super) static VARIANTS: &[Variant<Site, (Kernel, usize)>] = &[
    Variant {
        name: "matmul.vector",
        needs: |s, c| (!c.costs().dear_barriers && s.shorter() == 1).then_some(Rank::First),
        make: |s, name, c| form(s, name, &Form { method: Method::Vector, each: [1, 1], group: [1, 4] }, c),
    },
    Variant {
        name: "matmul.eights",
        needs: |s, c| (broadcasts(c) && c.pairs && !s.is_thin() && s.is_in_eights()).then_some(Rank::Usual),
        make: |s, name, c| form(s, name, &Form { method: Method::Eights, each: [4, 4], group: [8, 8] }, c),
    },
    Variant {
        name: "matmul.wide",
        needs: |s, c| (broadcasts(c) && !s.is_thin() && s.is_in_fours()).then_some(Rank::Usual),
        make: |s, name, c| form(s, name, &Form { method: Method::Wide, each: [4, 4], group: [8, 8] }, c),
    },
    Variant {
        name: "matmul.subgroup",
        needs: |s, c| (broadcasts(c) && !s.is_thin()).then_some(Rank::Usual),
        make: |s, name, c| form(s, name, &Form { method: Method::Subgroup, each: [4, 4], group: [8, 8] }, c),
    },
    Variant {
        name: "matmul.subgroup.thin",
        needs: |s, c| match s.is_thin() {
            true => broadcasts(c).then_some(Rank::Usual),
            // It has next to nothing to do, and other tiles take longer to compile.
            false => (broadcasts(c) && s.is_small()).then_some(Rank::First),
        },
        make: |s, name, c| form(s, name, &Form { method: Method::Subgroup, each: [1, 2], group: [8, 8] }, c),
    },
    // No default: no test has run it yet, so it is taken by name, or where a measurement on the device found it to be right
    // and fast.
    Variant {
        name: "matmul.cooperative",
        needs: |s, c| {
            matrix_side(s, c)?;
            has_blocks(s, c).then_some(Rank::Last)
        },
        make: |s, name, c| {
            let side = 8 * matrix_side(s, c).unwrap_or(8);
            form(s, name, &Form { method: Method::Cooperative, each: [side, side], group: [1, 1] }, c)
        },
    },
    Variant {
        name: "matmul.tiled.128",
        needs: |s, c| blocks(s, 128, c),
        make: |s, name, c| form(s, name, &Form { method: Method::Tiled, each: [8, 8], group: [16, 16] }, c),
    },
    Variant {
        name: "matmul.tiled.64",
        needs: |s, c| blocks(s, 64, c),
        make: |s, name, c| form(s, name, &Form { method: Method::Tiled, each: [8, 4], group: [8, 16] }, c),
    },
    Variant {
        name: "matmul.tiled.32",
        needs: |s, c| blocks(s, 32, c),
        make: |s, name, c| form(s, name, &Form { method: Method::Tiled, each: [4, 4], group: [8, 8] }, c),
    },
    Variant {
        name: "matmul.registers.thin",
        needs: |s, c| (!c.costs().dear_loads && s.is_thin()).then_some(Rank::First),
        make: |s, name, c| form(s, name, &Form { method: Method::Registers, each: [1, 1], group: [16, 16] }, c),
    },
    // The same with a tile for each kind of device.
    Variant {
        name: "matmul.registers",
        needs: |_, c| c.costs().dear_loads.then_some(Rank::Last),
        make: |s, name, c| form(s, name, &Form { method: Method::Registers, each: [8, 8], group: [1, 8] }, c),
    },
    Variant {
        name: "matmul.registers",
        needs: |s, c| {
            // Blocks that would be mostly edge come last. Small kernels without barriers can share a dispatch, too.
            let rank = if s.shorter() < 32 { Rank::First } else { Rank::Last };
            (!c.costs().dear_loads && !s.is_thin()).then_some(rank)
        },
        make: |s, name, c| form(s, name, &Form { method: Method::Registers, each: [4, 4], group: [4, 16] }, c),
    },
];

/// True where lanes had better load once and pass on, among the 8 of a subgroup.
fn broadcasts(capabilities: &Capabilities) -> bool {
    capabilities.costs().dear_loads && capabilities.subgroup == Some(8)
}

/// True where blocks in workgroup memory are worth their barriers.
fn has_blocks(site: &Site, capabilities: &Capabilities) -> bool {
    !capabilities.costs().dear_barriers && site.shorter() > 1
}

/// Blocks with this side: the one that suits the sizes before the others.
fn blocks(site: &Site, side: usize, capabilities: &Capabilities) -> Option<Rank> {
    has_blocks(site, capabilities).then(|| site.sizes.rank(side, capabilities))
}
