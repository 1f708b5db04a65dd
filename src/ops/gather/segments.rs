//! Sums of what belongs to each of many places, by sorting: the positions of an index are sorted by the place that they name, and
//! each place sums its own run of them, in order. The time is linear in the index and in what is summed.

use crate::kernel::{Binding, Capabilities, Kernel, MAX_ITERATIONS, Shader};
use crate::op::Lowering;
use crate::ops::radix::{Radix, temporary};
use crate::ops::shared::each;
use crate::shader::{Item, params};
use crate::shaders::gather::{BOUNDS, CHUNKS, FLOATS, INSIDE, LONG, PAIRS, PAIRS_STORED, SORT, SUM, TARGETS};
use crate::shape::MAX_RANK;

/// Indices that are sorted by comparing each with each.
const FEW: usize = 512;
/// Sorted positions of a chunk at least, a power of two.
const CHUNK: usize = 256;

/// Columns that an invocation may take where a load is dear: what it reads of its run serves them all. Of eight, loops over
/// them are not unrolled, and sums are kept in memory.
const COLUMNS: [usize; 2] = [4, 2];
/// Invocations that leave enough to do.
const ENOUGH: usize = 1024;

/// What is summed where.
pub(super) struct Segments {
    /// Elements of the index.
    pub count: usize,
    /// Places that it may name.
    pub places: usize,
    /// Blocks of `count` slices, and elements of a slice.
    pub outer: usize,
    pub inner: usize,
    /// Of the axis that an index counts along, and how far its neighbours are apart among the places.
    pub length: usize,
    pub stride: usize,
    /// An index that names nothing.
    pub padding: usize,
    /// (length in the index, stride among the places) of each axis of the index, innermost first.
    pub axes: [[u32; 4]; MAX_RANK],
    /// True to multiply instead.
    pub product: bool,
}

params! {
    struct Targets {
        count,
        nowhere,
        length,
        stride,
        padding,
        axes: [[u32; 4]; MAX_RANK],
    }
}

params! {
    struct Positions {
        count,
        nowhere,
    }
}

params! {
    struct Sums {
        /// Invocations with work on the result, and on the partial sums.
        units,
        partials,
        places,
        /// Values of a slice: floats, fours or eights.
        columns,
        count,
        /// Sorted positions of a chunk, a power of two, and chunks.
        chunk,
        chunks,
        /// The logarithm of `chunk`.
        bits,
    }
}

impl Segments {
    pub fn lowering(&self, capabilities: &Capabilities) -> Lowering {
        let costs = capabilities.costs();
        let &Segments { count, places, outer, inner, length, stride, padding, axes, product } = self;
        let mut temporaries = vec![];
        let (targets, runs) = (temporary(&mut temporaries, count), temporary(&mut temporaries, 2 * places));
        let kernel = |name: &'static str, shader: Shader, invocations: usize| {
            let mut kernel = Kernel::own(name, each(shader));
            kernel.workgroups = (invocations as u64).div_ceil(64);
            kernel
        };
        let mut target = kernel("gather.targets", Shader::of(&[&TARGETS]), count.max(places));
        target.bind(Binding::input(0), "index", "u32");
        target.bind(Binding::write(targets), "targets", "u32");
        target.bind(Binding::write(runs), "runs", "vec2<u32>");
        target.shader = target.shader.constant("ONE_AXIS", axes[1..].iter().all(|axis| axis[0] <= 1));
        target.uniform(Targets { count, nowhere: places, length, stride, padding, axes });
        target.iterations = MAX_RANK as u64;
        let mut kernels = vec![target];
        let sorted = if count <= FEW {
            let sorted = temporary(&mut temporaries, 2 * count);
            let mut sort = kernel("gather.sort", Shader::of(&[&SORT]), count);
            sort.bind(Binding::read(targets), "keys", "u32");
            sort.bind(Binding::write(sorted), "sorted", "vec2<u32>");
            sort.uniform(Positions { count, nowhere: places });
            sort.iterations = count as u64 / 4 + 4;
            kernels.push(sort);
            sorted
        } else {
            // `places` itself is a key, too.
            let radix = Radix { rows: 1, length: count, bits: (places as u32).ilog2() + 1 };
            let sorted = radix.sort(targets, &mut temporaries);
            kernels.extend(sorted.kernels);
            sorted.pairs
        };
        let mut bounds = kernel("gather.bounds", Shader::of(&[&BOUNDS]), count.div_ceil(4));
        bounds.bind(Binding::read(sorted), "sorted", "vec2<u32>");
        bounds.bind(Binding::write(runs), "runs", "u32");
        bounds.uniform(Positions { count, nowhere: places });
        bounds.iterations = 4;
        kernels.push(bounds);
        let (width, wide) = match inner {
            n if n.is_multiple_of(8) && capabilities.pairs && !product => (8, "mat2x4<f32>"),
            n if n.is_multiple_of(4) => (4, "vec4<f32>"),
            _ => (1, "f32"),
        };
        let columns = inner / width;
        let chunk = count.isqrt().max(CHUNK).next_power_of_two();
        let chunks = count / chunk;
        let all = outer * places * columns;
        let rounds = 2 * chunk as u64;
        let fits = |&each: &usize| {
            columns.is_multiple_of(each) && all / each >= ENOUGH && rounds * each as u64 <= MAX_ITERATIONS
        };
        let each = COLUMNS.into_iter().filter(|_| costs.dear_loads).find(fits).unwrap_or(1);
        let (units, partials) = (all / each, outer * chunks * columns);
        let sizes = Sums { units, partials, places, columns, count, chunk, chunks, bits: chunk.ilog2() as usize };
        let (start, sign) = if product { ("1.0", "*") } else { ("0.0", "+") };
        let with_sum = |shader: Shader| {
            let start = if width == 8 { "" } else { start };
            let empty = format!("fn $empty$() -> $W$ {{\n    return $W$({start});\n}}\n");
            let joined = format!("fn $joined$(a: $W$, b: $W$) -> $W$ {{\n    return a {sign} b;\n}}\n");
            let shader = shader.file(if width == 8 { &PAIRS } else { &FLOATS });
            shader.alias("W", wide).item(Item::new("empty", empty)).item(Item::new("joined", joined))
        };
        let partial = temporary(&mut temporaries, if chunks > 0 { partials * width } else { 0 });
        if chunks > 0 {
            let mut sum = kernel("gather.chunks", with_sum(Shader::of(&[&CHUNKS])), partials);
            sum.bind(Binding::read(sorted), "sorted", "vec2<u32>");
            sum.bind(Binding::input(1), "grad", "$G$");
            sum.bind(Binding::write(partial), "partial", "$G$");
            sum.uniform(sizes);
            sum.iterations = chunk as u64;
            kernels.push(sum);
        }
        let stored = |shader: Shader| {
            let shader = with_sum(shader);
            if width == 8 { shader.file(&PAIRS_STORED) } else { shader.item(stored(width)) }
        };
        // Both hand over elements of the result, each other ones.
        let finish = |mut kernel: Kernel, iterations: usize| {
            kernel.bind(Binding::read(sorted), "sorted", "vec2<u32>");
            kernel.bind(Binding::read(runs), "runs", "vec2<u32>");
            kernel.bind(Binding::input(1), "grad", "$G$");
            // Pairs are stored as f32; else the planner says what is stored.
            kernel.bind(Binding::output(), "result", if width == 8 { "$G$" } else { "$OUT$" });
            kernel.uniform(sizes);
            kernel.iterations = iterations as u64;
            kernel.epilogue = true;
            (kernel.lanes, kernel.pairs) = (width.min(4), width == 8);
            kernel
        };
        // In a merged text arrays of two aliases of one type would be two types.
        let totals = Item::new("totals", format!("var<private> $totals$: array<{wide}, {each}>;\n"));
        let shader = stored(Shader::of(&[&INSIDE, &SUM])).constant("EACH", each).constant("ONE_BLOCK", outer == 1);
        let shader = shader.constant("CHUNKS", chunks > 0).item(totals);
        let mut sum = finish(kernel("gather.sum", shader, units), 2 * chunk * each);
        sum.flops = (count * inner * outer) as u64;
        kernels.push(sum);
        if chunks > 0 {
            let mut long =
                finish(kernel("gather.long", stored(Shader::of(&[&INSIDE, &LONG])), partials), 2 * chunk + chunks);
            long.bind(Binding::read(partial), "partial", "$G$");
            kernels.push(long);
        }
        Lowering::Kernels { kernels, temporaries }
    }
}

/// `fn store` of unit `at` of the result, a float or four.
fn stored(width: usize) -> Item {
    let text =
        format!("fn $store$(at: u32, value: $W$) {{\n    $result$[at] = $epilogue$(value, at * {width}u);\n}}\n");
    Item::new("store", text)
}
