//! Stable sorting of rows of u32 keys on the device, by digits from the lowest on: what sorting and the gradients of gathering
//! share. Not an op.
//!
//! A pass counts the digits of each run of keys, sums the counts before each, and moves the keys there. Invocations count in
//! places of their own and walk their run in order, so there are no atomics and equal keys keep their order. The time is linear
//! in the number of keys.

use crate::kernel::{Binding, Kernel, Shader};
use crate::ops::shared::each;
use crate::shader::{File, Item, params};
use crate::shaders::radix::{BEFORE, COUNT, DIGIT, OFFSETS, PLACE, SUMS};

/// Bits of a digit at most.
const BITS: u32 = 8;
/// Keys of a run at least: as many as there are counts of it.
const PART: usize = 256;

/// Rows of keys to sort.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Radix {
    /// Number of rows.
    pub rows: usize,
    /// Keys of a row.
    pub length: usize,
    /// Bits of a key that are not always 0.
    pub bits: u32,
}

/// Kernels that sort, and the temporaries in which they leave the result.
pub(crate) struct Sorted {
    pub kernels: Vec<Kernel>,
    /// The sorted keys and where in its row each of them stood, `[rows, length]` of `vec2<u32>`: side by side, so that both move
    /// in one access.
    pub pairs: usize,
}

params! {
    struct Sizes {
        rows,
        length,
        /// Keys of a run, and runs of a row.
        part,
        runs,
        /// Values of a digit, and the bits below it.
        digits,
        shift,
        /// Counts, those of a span, and spans.
        total,
        span,
        spans,
    }
}

/// Appends a temporary of this size.
pub(crate) fn temporary(temporaries: &mut Vec<usize>, size: usize) -> usize {
    temporaries.push(size.max(1));
    temporaries.len() - 1
}

impl Radix {
    /// Sorts what temporary `keys` holds, in temporaries that are appended to those in the list.
    pub fn sort(&self, keys: usize, temporaries: &mut Vec<usize>) -> Sorted {
        let &Radix { rows, length, bits } = self;
        let passes = bits.div_ceil(BITS).max(1);
        let width = bits.div_ceil(passes).max(1);
        let part = length.isqrt().max(PART).min(length);
        let runs = length.div_ceil(part);
        let total = (rows * runs) << width;
        let span = total.isqrt() + 1;
        let mut sizes =
            Sizes { rows, length, part, runs, digits: 1 << width, shift: 0, total, span, spans: total.div_ceil(span) };
        let mut new = |size: usize| temporary(temporaries, size);
        let mut pairs = [new(2 * rows * length), 0];
        if passes > 1 {
            pairs[1] = new(2 * rows * length);
        }
        let (counts, sums) = (new(total), new(sizes.spans));
        let mut kernels = vec![];
        for pass in 0..passes {
            sizes.shift = (pass * width) as usize;
            let (from, to) = (pairs[(pass as usize + 1) % 2], pairs[pass as usize % 2]);
            let kernel = |name: &'static str, file: &'static File, invocations: usize, iterations: usize| {
                let mut kernel = Kernel::own(name, each(Shader::of(&[&DIGIT, file])));
                kernel.uniform(sizes);
                kernel.workgroups = (invocations as u64).div_ceil(64);
                kernel.iterations = iterations as u64;
                kernel
            };
            // At first every key is alone, and where it is.
            let (bound, element, key, pair) = match pass {
                0 => (keys, "u32", "$keys$[at]", "vec2<u32>($keys$[at], j)"),
                _ => (from, "vec2<u32>", "$keys$[at].x", "$keys$[at]"),
            };
            let mut count = kernel("radix.count", &COUNT, rows * runs, part + sizes.digits);
            count.bind(Binding::read(bound), "keys", element);
            let key = format!("fn $key_at$(at: u32) -> u32 {{\n    return {key};\n}}\n");
            count.shader.items.push(Item::new("key_at", key));
            count.bind(Binding::write(counts), "counts", "u32");
            let mut sum = kernel("radix.sums", &SUMS, sizes.spans, span);
            sum.bind(Binding::read(counts), "counts", "u32");
            sum.bind(Binding::write(sums), "sums", "u32");
            let mut before = kernel("radix.before", &BEFORE, 1, sizes.spans);
            before.bind(Binding::write(sums), "sums", "u32");
            let mut offsets = kernel("radix.offsets", &OFFSETS, sizes.spans, span);
            offsets.bind(Binding::read(sums), "sums", "u32");
            offsets.bind(Binding::write(counts), "counts", "u32");
            let mut place = kernel("radix.place", &PLACE, rows * runs, part);
            place.bind(Binding::read(bound), "keys", element);
            place.bind(Binding::write(counts), "counts", "u32");
            place.bind(Binding::write(to), "moved", "vec2<u32>");
            let pair = format!("fn $pair_at$(at: u32, j: u32) -> vec2<u32> {{\n    return {pair};\n}}\n");
            place.shader.items.push(Item::new("pair_at", pair));
            kernels.extend([count, sum, before, offsets, place]);
        }
        Sorted { kernels, pairs: pairs[(passes as usize + 1) % 2] }
    }
}
