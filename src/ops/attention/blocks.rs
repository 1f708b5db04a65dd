//! Attention as matrix products of blocks: scores of some queries and some keys, weights of them in place, their product with
//! the values. What is kept between is a block, a running maximum and sum for each of its rows (Dao 2023), and, backward,
//! sums of the gradients.
//!
//! All blocks have the same sizes, the last ones begin early and leave out what the one before has had: sizes that differed
//! would be kernels of their own on drivers that make constants of them.

use super::form::{Site, Sizes, in_lanes};
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::op::Lowering;
use crate::ops::matmul::{Matrix, Site as ProductSite, product_kernel};
use crate::ops::product::Product;
use crate::ops::shared::{each, with_functions};
use crate::ops::tiles;
use crate::shader::{Item, Shader, params};
use crate::shaders;

params! {
    /// Sizes of what puts rows of a block in place.
    struct Place {
        planes, rows, width, length,
        first, fresh,
        zero,
    }
}

params! {
    struct Clear {
        elements,
    }
}

/// A product as it is, and added to what there is already: what becomes of `value`.
fn alone(_: &str) -> String {
    "value".into()
}

fn added(old: &str) -> String {
    format!("value + {old}")
}

/// Blocks of an axis: how long they are, and where each begins and what of it is new.
struct Cut {
    length: usize,
    size: usize,
}

impl Cut {
    /// Blocks of at most so many, which is a multiple of 32, and all as short as their number allows.
    fn new(length: usize, most: usize) -> Cut {
        let size = length.div_ceil(length.div_ceil(most)).next_multiple_of(32);
        Cut { length, size: size.min(length) }
    }

    fn count(&self) -> usize {
        self.length.div_ceil(self.size)
    }

    /// First element, and how many of the block were in the one before.
    fn block(&self, k: usize) -> [usize; 2] {
        let first = (k * self.size).min(self.length - self.size);
        [first, k * self.size - first]
    }

    /// Blocks with any element from `first` to before `end`; one at least.
    fn touching(&self, first: usize, end: usize) -> std::ops::Range<usize> {
        let low = (first / self.size).min(self.count() - 1);
        low..end.div_ceil(self.size).clamp(low + 1, self.count())
    }
}

/// Rows of queries and columns of keys of a block: a few blocks a row, and temporaries that grow as the inputs do.
fn cuts(site: &Site) -> (Cut, Cut) {
    let rows = if site.queries <= 1024 { 128 } else { 256 };
    let columns = (site.keys.next_power_of_two() / 4).clamp(1024, 4096);
    (Cut::new(site.queries, rows), Cut::new(site.keys, columns))
}

/// A block in the making: its kernels.
struct Maker<'a> {
    site: &'a Site,
    name: &'static str,
    capabilities: &'a Capabilities,
    rows: usize,
    columns: usize,
    kernels: Vec<Kernel>,
    temporaries: Vec<usize>,
}

/// An operand of a product: what is bound, its first element, strides of the two batch axes, rows and columns.
type Factor = (Binding, usize, [usize; 4]);

impl<'a> Maker<'a> {
    fn new(site: &'a Site, name: &'static str, capabilities: &'a Capabilities, cuts: (&Cut, &Cut)) -> Maker<'a> {
        let (rows, columns) = (cuts.0.size, cuts.1.size);
        Maker { site, name, capabilities, rows, columns, kernels: vec![], temporaries: vec![] }
    }

    /// A temporary of so many elements.
    fn temporary(&mut self, elements: usize) -> usize {
        self.temporaries.push(elements);
        self.temporaries.len() - 1
    }

    /// The product of two factors of all batches, `[batch, rows, depth] x [batch, depth, columns]`, through `epilogue`.
    fn product(
        &mut self,
        batch: [usize; 2],
        [rows, depth, columns]: [usize; 3],
        [a, b]: [Factor; 2],
        to: Binding,
        epilogue: &dyn Fn(&str) -> String,
    ) {
        let meta = self.site.inputs[0];
        let matrix = |(_, start, strides): Factor, input: usize| Matrix { input, meta, start, strides };
        let batches = batch[0] * batch[1];
        let sizes = tiles::Sizes { rows, columns, depth, batches };
        let (left, right) = (matrix(a, 0), matrix(b, 1));
        let product =
            ProductSite { precision: Product::FULL, sizes, batch, a: left, b: right, output: meta, whole: true };
        let (mut kernel, _) = product_kernel(&product, self.name, self.capabilities);
        for binding in &mut kernel.bindings {
            *binding = match binding.operand {
                crate::kernel::Operand::Input(0) => a.0,
                crate::kernel::Operand::Input(_) => b.0,
                _ => to,
            };
        }
        let (out, at) = if kernel.lanes == 4 { ("vec4<f32>", "index / 4u") } else { ("f32", "index") };
        let body = epilogue(&format!("$c$[{at}]"));
        let text = format!("fn $epilogue$(value: {out}, index: u32) -> {out} {{\n    return {body};\n}}\n");
        kernel.shader = std::mem::take(&mut kernel.shader).alias("OUT", out).item(Item::new("epilogue", text));
        kernel.epilogue = false;
        self.kernels.push(kernel);
    }

    /// Queries, or what has their rows, from a block's first on.
    fn of_queries(&self, input: usize, first: usize, width: usize) -> Factor {
        let plane = self.site.queries * width;
        (Binding::input(input), first * width, [self.site.groups * plane, plane, width, 1])
    }

    /// Keys or values from a block's first on.
    fn of_keys(&self, input: usize, first: usize, width: usize) -> Factor {
        (Binding::input(input), first * width, [self.site.keys * width, 0, width, 1])
    }

    /// A block of scores or weights.
    fn of_block(&self, temporary: usize) -> Factor {
        let plane = self.rows * self.columns;
        (Binding::read(temporary), 0, [self.site.groups * plane, plane, self.columns, 1])
    }

    fn batch(&self) -> [usize; 2] {
        [self.site.planes / self.site.groups, self.site.groups]
    }

    /// The sizes of a block.
    fn sizes(&self, [first_query, fresh_rows]: [usize; 2], [first_key, fresh_columns]: [usize; 2]) -> Sizes {
        let (rows, columns) = (self.rows, self.columns);
        Sizes { rows, columns, first_query, fresh_rows, first_key, fresh_columns, ..self.site.sizes() }
    }

    /// A kernel over the rows of a block.
    fn rows(&mut self, files: &[&crate::shader::File], sizes: Sizes, bound: &[(Binding, &'static str, &'static str)]) {
        let lanes = if self.columns.is_multiple_of(4) { 4 } else { 1 };
        let shader = files.iter().fold(self.site.shader(lanes), |shader, file| shader.file(file));
        let mut kernel = Kernel::own("attention.rows", each(shader));
        bound.iter().for_each(|&(binding, name, element)| kernel.bind(binding, name, element));
        self.site.bind(&mut kernel);
        kernel.uniform(sizes);
        let rows = self.site.planes * self.rows;
        kernel.workgroups = rows.div_ceil(64) as u64;
        kernel.iterations = (2 * self.columns / lanes + 16) as u64;
        kernel.flops = 16 * (rows * self.columns) as u64;
        self.kernels.push(kernel);
    }

    /// Gives the last product, which ends in `slope_of`, that function, and what the rows' gradients of weights are on average.
    fn with_slopes(&mut self, means: Binding) {
        let scale = self.site.form.scale as f32;
        let Some(kernel) = self.kernels.last_mut() else { return };
        kernel.bind(means, "means", "f32");
        let [float, bits] = if kernel.lanes == 4 { ["vec4<f32>", "vec4<u32>"] } else { ["f32", "u32"] };
        // Of -0, a key that is not seen, it is 0 whatever the other factor is.
        let text = format!(
            "fn $slope_of$(weight: {float}, rest: {float}) -> {float} {{\n    \
             let hidden = bitcast<{bits}>(weight) == {bits}(0x80000000u);\n    \
             return select(weight * rest * ({scale:?}), {float}(), hidden);\n}}\n"
        );
        kernel.shader = std::mem::take(&mut kernel.shader).item(Item::new("slope_of", text));
    }

    /// Rows of a temporary to their places in a result.
    fn place(&mut self, sizes: Place, from: usize, to: usize, how: Placing) {
        let lanes = if sizes.width.is_multiple_of(4) { 4 } else { 1 };
        let shader = in_lanes(lanes);
        let shader = shader.constant("CLEARED", how == Placing::AndCleared).file(&shaders::attention::PLACE);
        let shader = match how {
            Placing::Divided { .. } => with_functions(shader, &["log_full"]).file(&shaders::attention::DIVIDE),
            _ => {
                let takes = "value: $F$, row: u32, line: u32, is_first: bool";
                shader.item(Item::new("divided", format!("fn $divided$({takes}) -> $F$ {{\n    return value;\n}}\n")))
            }
        };
        let mut kernel = Kernel::own("attention.place", each(shader));
        kernel.bind(Binding::write(from), "block", "$F$");
        kernel.bind(Binding::result(to), "result", "$F$");
        if let Placing::Divided { stats } = how {
            kernel.bind(Binding::read(stats), "stats", "vec4<f32>");
            kernel.bind(Binding::result(1), "lse", "f32");
        }
        let elements = sizes.planes * sizes.rows * sizes.width;
        kernel.uniform(sizes);
        kernel.workgroups = (elements / lanes).div_ceil(64) as u64;
        kernel.iterations = 4;
        self.kernels.push(kernel);
    }

    /// Zeros.
    fn clear(&mut self, what: Binding, elements: usize) {
        let mut kernel = Kernel::own("attention.clear", each(Shader::of(&[&shaders::attention::CLEAR])));
        kernel.bind(what, "result", "f32");
        kernel.uniform(Clear { elements });
        kernel.workgroups = elements.div_ceil(256) as u64;
        kernel.iterations = 8;
        self.kernels.push(kernel);
    }

    fn lowering(self) -> Lowering {
        Lowering::Kernels { kernels: self.kernels, temporaries: self.temporaries }
    }
}

/// What becomes of a block's rows on their way.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Placing {
    /// Nothing.
    Plain,
    /// The block is set to 0 behind them.
    AndCleared,
    /// They are divided by the sums of their weights.
    Divided { stats: usize },
}

/// The kernels of the forward pass.
pub(super) fn forward(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let (queries, keys) = cuts(site);
    let mut maker = Maker::new(site, name, capabilities, (&queries, &keys));
    let Site { planes, features, values, .. } = *site;
    let (rows, columns) = (queries.size, keys.size);
    let scores = maker.temporary(planes * rows * columns);
    let stats = maker.temporary(planes * rows * 4);
    let sums = maker.temporary(planes * rows * values);
    for block in 0..queries.count() {
        let [first, fresh] = queries.block(block);
        let [low, high] = site.span(first, first + rows);
        for (k, part) in keys.touching(low, high).enumerate() {
            let at = keys.block(part);
            let q = maker.of_queries(0, first, features);
            let (bound, start, [outer, inner, row, column]) = maker.of_keys(1, at[0], features);
            let turned = (bound, start, [outer, inner, column, row]);
            maker.product(maker.batch(), [rows, features, columns], [q, turned], Binding::write(scores), &alone);
            let sizes = Sizes { is_first: usize::from(k == 0), ..maker.sizes([first, fresh], at) };
            let lanes = if columns.is_multiple_of(4) { "vec4<f32>" } else { "f32" };
            let bound = [(Binding::write(scores), "scores", lanes), (Binding::write(stats), "stats", "vec4<f32>")];
            maker.rows(&[&shaders::attention::WEIGHTS], sizes, &bound);
            let v = maker.of_keys(2, at[0], values);
            let factors = [maker.of_block(scores), v];
            // The sums so far shrink as the maximum has grown.
            let shrunk = |old: &str| {
                let shrink = format!("$stats$[index / {values}u].z");
                format!("select(value + {old} * {shrink}, value, {shrink} < 0.0)")
            };
            maker.product(maker.batch(), [rows, columns, values], factors, Binding::write(sums), &shrunk);
            if let Some(kernel) = maker.kernels.last_mut() {
                kernel.bind(Binding::read(stats), "stats", "vec4<f32>");
            }
        }
        let sizes = Place { planes, rows, width: values, length: site.queries, first, fresh, zero: 0 };
        maker.place(sizes, sums, 0, Placing::Divided { stats });
    }
    maker.lowering()
}

/// The kernels of the backward pass.
pub(super) fn backward(site: &Site, name: &'static str, capabilities: &Capabilities) -> Lowering {
    let (queries, keys) = cuts(site);
    let mut maker = Maker::new(site, name, capabilities, (&queries, &keys));
    let Site { planes, groups, features, values, .. } = *site;
    let (rows, columns) = (queries.size, keys.size);
    let scores = maker.temporary(planes * rows * columns);
    // Slopes are made of weights alone, unless a cap asks for the score as well, or dropout for what it has left out.
    let in_place = site.form.cap.is_none() && site.form.dropout == 0.0;
    let slopes = if in_place { scores } else { maker.temporary(planes * rows * columns) };
    let means = in_place.then(|| maker.temporary(planes * rows));
    let sums = maker.temporary(planes * rows * features);
    maker.clear(Binding::write(sums), planes * rows * features);
    // Sums of the gradients of each part of the keys, and of the values: the results themselves where there is one part.
    let key_planes = planes / groups;
    let mut parts: Vec<[Binding; 2]> = vec![];
    for _ in 0..keys.count() {
        let of = |maker: &mut Maker<'_>, width: usize, result: usize| match keys.count() {
            1 => Binding::result(result),
            _ => Binding::write(maker.temporary(key_planes * columns * width)),
        };
        parts.push([of(&mut maker, features, 1), of(&mut maker, values, 2)]);
    }
    for &[dk, dv] in &parts {
        maker.clear(dk, key_planes * columns * features);
        maker.clear(dv, key_planes * columns * values);
    }
    for block in 0..queries.count() {
        let [first, fresh] = queries.block(block);
        let [low, high] = site.span(first + fresh, first + rows);
        for part in keys.touching(low, high) {
            let at = keys.block(part);
            let turned =
                |(bound, start, [outer, inner, row, column]): Factor| (bound, start, [outer, inner, column, row]);
            let k = maker.of_keys(1, at[0], features);
            let v = maker.of_keys(2, at[0], values);
            let q = maker.of_queries(0, first, features);
            let dy = maker.of_queries(3, first, values);
            maker.product(maker.batch(), [rows, features, columns], [q, turned(k)], Binding::write(scores), &alone);
            // Heads that share keys add up one after the other.
            let for_keys = |maker: &mut Maker<'_>, temporary: usize, right: Factor, width: usize, to: Binding| {
                for group in 0..groups {
                    let of_group = |(bound, start, [outer, inner, row, column]): Factor| -> Factor {
                        (bound, start + group * inner, [0, outer, row, column])
                    };
                    let factors = [turned(of_group(maker.of_block(temporary))), of_group(right)];
                    maker.product([1, key_planes], [columns, rows, width], factors, to, &added);
                }
            };
            let lanes = if columns.is_multiple_of(4) { "vec4<f32>" } else { "f32" };
            let sizes = maker.sizes([first, fresh], at);
            let (lse, delta) = ((Binding::input(4), "lse", "f32"), (Binding::input(5), "delta", "f32"));
            if let Some(means) = means {
                let bound =
                    [(Binding::write(scores), "scores", lanes), lse, delta, (Binding::write(means), "means", "f32")];
                maker.rows(&[&shaders::attention::BLOCK_ROW, &shaders::attention::AGAIN], sizes, &bound);
                for_keys(&mut maker, scores, dy, values, parts[part][1]);
                // The weights become the gradients of the scores' products.
                let slope = |old: &str| format!("$slope_of$({old}, value - $means$[index / {columns}u])");
                maker.product(maker.batch(), [rows, values, columns], [dy, turned(v)], Binding::write(scores), &slope);
                maker.with_slopes(Binding::read(means));
            } else {
                maker.product(maker.batch(), [rows, values, columns], [dy, turned(v)], Binding::write(slopes), &alone);
                let slopes = (Binding::write(slopes), "slopes", lanes);
                let bound = [(Binding::write(scores), "scores", lanes), slopes, lse, delta];
                maker.rows(&[&shaders::attention::BLOCK_ROW, &shaders::attention::SLOPES], sizes, &bound);
                for_keys(&mut maker, scores, dy, values, parts[part][1]);
            }
            let factors = [maker.of_block(slopes), k];
            maker.product(maker.batch(), [rows, columns, features], factors, Binding::write(sums), &added);
            for_keys(&mut maker, slopes, q, features, parts[part][0]);
        }
        let sizes = Place { planes, rows, width: features, length: site.queries, first, fresh, zero: 0 };
        maker.place(sizes, sums, 0, Placing::AndCleared);
    }
    if keys.count() > 1 {
        for (part, both) in parts.iter().enumerate() {
            let [first, fresh] = keys.block(part);
            for (k, (binding, width)) in both.iter().zip([features, values]).enumerate() {
                let crate::kernel::Operand::Temporary(from) = binding.operand else { continue };
                let sizes =
                    Place { planes: key_planes, rows: columns, width, length: site.keys, first, fresh, zero: 0 };
                maker.place(sizes, from, k + 1, Placing::Plain);
            }
        }
    }
    maker.lowering()
}

/// What the sums of products must not be cut into: the longest features that blocks take.
pub(super) const MOST_FEATURES: usize = 256;
