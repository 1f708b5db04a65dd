//! Means of squares over the rows and columns of gradients, for Adafactor: three kernels for all matrices of an arena.

use std::sync::Arc;

use super::places::MomentPlace;

use super::settings::Options;
use super::shapes::matrices;
use crate::arena::Arena;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::kernel::{Kernel, Shader, Vectors};
use crate::params::{BLOCK, Placed};
use crate::shader::{Item, params};
use crate::shaders::optim::{FACTORS_LANES, FACTORS_MEAN, FACTORS_MEANS, FACTORS_TILES, NUMBERS};

/// Matrices with more elements are summed by tiles.
const SMALL: usize = 64 * 64;
/// Side of a tile.
const TILE: usize = 64;
/// Columns of a tile that one invocation sums.
const STRIP: usize = 16;
const NONE: u32 = u32::MAX;
/// Words of a site.
const SITE: usize = 9;

params! {
    /// The first word of the group's numbers, and tiles: a table is padded.
    struct Sizes {
        word,
        tiles,
    }
}

/// A parameter of a range.
pub(super) struct Own<'a> {
    pub number: usize,
    pub place: &'a Placed,
    pub moments: &'a [Option<MomentPlace>],
    pub class: usize,
}

/// What the kernels of a range work on.
pub(super) struct Site<'a> {
    /// First element of the range.
    pub start: usize,
    pub theta: (Bound, bool),
    pub gradients: Bound,
    /// Rows and columns.
    pub moments: &'a [Arc<Arena>],
    pub status: &'a Arc<Arena>,
    pub scratch: &'a Arc<Arena>,
    pub word: usize,
    /// Blocks of the range.
    pub blocks: usize,
    pub options: &'a Options,
    /// The vectors of its kernels.
    pub vectors: Vectors,
    /// True if an invocation sums a tile, without a barrier.
    pub lanes: bool,
}

/// Columns of a tile.
fn across(lanes: bool) -> usize {
    if lanes { STRIP } else { TILE }
}

/// Partial sums of a matrix.
fn partial_sums(rows: usize, columns: usize, lanes: bool) -> usize {
    if rows * columns > SMALL { rows * columns.div_ceil(across(lanes)) + columns * rows.div_ceil(TILE) } else { 0 }
}

/// Numbers that the scratch arena of a range needs room for: the means of rows, then partial sums by lanes, which are more
/// than those by tiles.
pub(super) fn room<'a>(layout: impl Iterator<Item = &'a Placed>) -> usize {
    let of = |place: &Placed| match matrices(&place.shape) {
        Some([count, rows, columns]) => count * (1 + partial_sums(rows, columns, true)),
        None => 0,
    };
    layout.map(of).sum::<usize>().max(1)
}

/// How the factors of some parameters may be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Form {
    /// True if vectors are never of two rows of a matrix.
    whole: bool,
    /// True if there is a parameter that is no matrix.
    some_flat: bool,
}

impl Form {
    /// Of these parameters, in vectors of so many elements.
    pub fn of(own: &[Own<'_>], width: usize) -> Form {
        let all = || own.iter().map(|own| matrices(&own.place.shape));
        let whole = all().flatten().all(|[.., columns]| columns.is_multiple_of(width));
        Form { whole, some_flat: all().any(|own| own.is_none()) }
    }
}

/// The kernels, and the words of `sites` (`shaders/optim/adafactor.wgsl`).
pub(super) fn kernels(own: &[Own<'_>], site: &Site<'_>) -> (Vec<ArenaKernel>, Vec<u32>) {
    // Parameters begin at blocks.
    let mut sites = vec![0; site.blocks];
    let (mut all, mut tiles, mut entries) = (vec![], vec![], vec![]);
    let count: usize = own.iter().filter_map(|own| matrices(&own.place.shape)).map(|[count, ..]| count).sum();
    // Means of rows come first.
    let mut partials = count;
    for Own { number, place, moments, class } in own {
        let at = |moment: usize| moments.get(moment).copied().flatten().map_or(0, |place| place.0);
        let first = place.offset - site.start;
        let (elements, here) = (place.shape.elements(), sites.len() as u32);
        sites[first / BLOCK..][..elements.div_ceil(BLOCK)].fill(here);
        let own = matrices(&place.shape);
        let [length, size] = own.map_or([0, 0], |[_, rows, columns]| [columns, rows * columns]);
        let words: [usize; SITE] = [first, elements, length, size, at(0), at(1), all.len() / 8, *class, *number];
        sites.extend(words.map(|word| word as u32));
        let Some([count, rows, columns]) = own else { continue };
        for b in 0..count {
            let matrix = (all.len() / 8) as u32;
            let mut parts = [NONE; 2];
            if rows * columns > SMALL {
                let (down, across) = (rows.div_ceil(TILE), columns.div_ceil(across(site.lanes)));
                parts = [partials as u32, (partials + rows * across) as u32];
                partials += partial_sums(rows, columns, site.lanes);
                tiles.extend((0..down).flat_map(|r| (0..across).flat_map(move |k| [matrix, r as u32, k as u32])));
            }
            let words = [first + b * rows * columns, rows, columns, at(0) + b * rows, at(1) + b * columns, *class];
            all.extend(words.map(|word| word as u32));
            all.extend(parts);
            entries.extend((0..rows + columns).step_by(64).flat_map(|entry| [matrix, entry as u32]));
        }
    }
    if all.is_empty() {
        return (vec![], sites);
    }
    let longest = all.chunks(8).map(|matrix| matrix[1].max(matrix[2])).max().unwrap_or(0);
    let all: Arc<[u32]> = all.into();
    let sizes = Sizes { word: site.word, tiles: tiles.len() / 3 };
    let base = |name: &'static str, file, vectors: Option<(Vectors, bool)>, workgroups: usize, iterations: u32| {
        let shader = Shader::of(&[file, &NUMBERS]).item(Item::new("adjust", site.options.adjust())).with_operands();
        let (shader, element) = match vectors {
            Some((vectors, whole)) => (shader.file(vectors.file()), if whole { "$V$" } else { "f32" }),
            None => (shader, "f32"),
        };
        let mut kernel = Kernel::own(name, shader);
        kernel.uniform(sizes);
        kernel.workgroups = workgroups as u64;
        kernel.iterations = u64::from(iterations);
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(site.theta.0.clone(), "theta", element));
        kernel.bind(ArenaBinding::read(site.gradients.clone(), "gradients", element));
        kernel.bind(ArenaBinding::read(site.status, "status", "vec4<f32>"));
        kernel.bind(ArenaBinding::read(Bound::Table(all.clone()), "matrices", "u32"));
        kernel
    };
    let mut kernels = vec![];
    if !tiles.is_empty() {
        let mut kernel = if site.lanes {
            // Elements that are read one by one are four.
            let whole = Form::of(own, site.vectors.width()).whole;
            let vectors = if whole { site.vectors } else { Vectors { eights: false } };
            let form = Some((vectors, whole));
            let mut kernel = base("factors_lanes", &FACTORS_LANES, form, tiles.len().div_ceil(3 * 64), TILE as u32);
            kernel.kernel.shader.items.push(squares(whole));
            kernel
        } else {
            base("factors_tiles", &FACTORS_TILES, None, tiles.len() / 3, 80)
        };
        kernel.bind(ArenaBinding::write(site.scratch, "partial", "f32"));
        kernel.bind(ArenaBinding::read(Bound::Table(tiles.into()), "tiles", "u32"));
        kernels.push(kernel);
    }
    let mut kernel = base("factors_means", &FACTORS_MEANS, None, entries.len() / 2, longest.max(TILE as u32));
    kernel.kernel.shader = kernel.kernel.shader.constant("ACROSS", across(site.lanes));
    kernel.bind(ArenaBinding::read(site.scratch, "partial", "f32"));
    kernel.bind(ArenaBinding::write(&site.moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::write(&site.moments[1], "column", "f32"));
    kernel.bind(ArenaBinding::read(Bound::Table(entries.into()), "entries", "u32"));
    kernels.push(kernel);
    let mut kernel = Kernel::own("factors_mean", Shader::of(&[&FACTORS_MEAN]));
    kernel.workgroups = (all.len() / 8) as u64;
    kernel.iterations = u64::from(longest.div_ceil(64)) + 6;
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::read(Bound::Table(all), "matrices", "u32"));
    kernel.bind(ArenaBinding::read(&site.moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::write(site.scratch, "row_means", "f32"));
    kernels.push(kernel);
    (kernels, sites)
}

/// `fn squares(at, some, clip)`: where vectors are whole they are so by `some` or count nothing, else elements are read one by one.
fn squares(whole: bool) -> Item {
    let lines = match whole {
        true => {
            "    let i = at / (4u * $PARTS$);
    let gradient = $gradients$[i];
    let own = $theta$[i];
    for (var k = 0u; k < $PARTS$; k++) {
        let g = $adjust$($part$(gradient, k), $part$(own, k), clip);
        all[k] = select(vec4<f32>(0.0), g * g, some != 0u);
    }\n"
        }
        false => {
            "    for (var l = 0u; l < 4u; l++) {
        if l < some {
            let i = at + l;
            let g = $adjust$(vec4<f32>($gradients$[i]), vec4<f32>($theta$[i]), clip).x;
            all[0][l] = g * g;
        }
    }\n"
        }
    };
    let head = "fn $squares$(at: u32, some: u32, clip: f32) -> array<vec4<f32>, $PARTS$> {\n    var all: array<vec4<f32>, $PARTS$>;\n";
    Item::new("squares", format!("{head}{lines}    return all;\n}}\n"))
}

/// What the kernels of the rule bind besides `sites`: the factors and the means. A block that is not updated has no site.
pub(super) fn bind(kernel: &mut ArenaKernel, moments: &[Arc<Arena>], scratch: &Arc<Arena>, form: Form) {
    kernel.bind(ArenaBinding::write(&moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::read(&moments[1], "column", if form.whole { "$V$" } else { "f32" }));
    let [one, all] = match form.whole {
        true => ["0.0", "$column$[at / (4u * $PARTS$)]"],
        false => ["$column$[at]", "$V$()"],
    };
    let one = format!("fn $column_at$(at: u32) -> f32 {{\n    return {one};\n}}\n");
    let all = format!("fn $columns_at$(at: u32) -> $V$ {{\n    return {all};\n}}\n");
    let shader = std::mem::take(&mut kernel.kernel.shader);
    kernel.kernel.shader = shader
        .constant("WHOLE", form.whole)
        .constant("SOME_FLAT", form.some_flat)
        .item(Item::new("column_at", one))
        .item(Item::new("columns_at", all));
    kernel.bind(ArenaBinding::read(scratch, "row_means", "f32"));
    let class = "fn $class_of$(block: u32) -> u32 {\n    return $take_site$(block);\n}\n";
    kernel.kernel.shader.items.push(Item::new("class_of", class));
}

/// The class of a block by its site.
pub(super) fn bind_class(kernel: &mut ArenaKernel) {
    let class = "fn $class_of$(block: u32) -> u32 {\n    let site = $sites$[block];\n    return select(0u, $sites$[site + 7u], site != 0u);\n}\n";
    kernel.kernel.shader.items.push(Item::new("class_of", class));
}

/// What was measured of a block's parameter.
pub(super) fn bind_sums(kernel: &mut ArenaKernel, sums: &Arc<Arena>, sites: Vec<u32>) {
    kernel.bind(ArenaBinding::read(sums, "sums", "vec2<f32>"));
    kernel.bind(ArenaBinding::read(Bound::Table(sites.into()), "sites", "u32"));
    let text = "fn $sums_of$(block: u32) -> vec2<f32> {\n    return $sums$[$sites$[$sites$[block] + 8u]];\n}\n";
    kernel.kernel.shader.items.push(Item::new("sums_of", text));
}
