//! Which parameter a block of an arena is of.

use crate::params::{BLOCK, Placed};

/// The parameter of each block of a range, as numbers of the layout.
pub(super) fn owners(layout: &[Placed], chunk: usize, start: usize, elements: usize) -> Vec<u32> {
    let mut owners = vec![0; elements / BLOCK];
    for (number, place) in layout.iter().enumerate().filter(|(_, place)| place.chunk == chunk) {
        let last = (place.offset + place.shape.elements()).min(start + elements);
        let blocks = place.offset.max(start)..last;
        if !blocks.is_empty() {
            owners[(blocks.start - start) / BLOCK..(blocks.end - start).div_ceil(BLOCK)].fill(number as u32);
        }
    }
    owners
}
