//! Means of squares over the rows and columns of gradients, for Adafactor: three kernels for all matrices of an arena.

use std::sync::Arc;

use super::places::MomentPlace;
use super::settings::Options;
use super::shapes::matrices;
use super::spans::TEAM;
use crate::arena::Arena;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::kernel::{Kernel, Shader, Vectors};
use crate::params::{BLOCK, Placed};
use crate::shader::{File, Item, params};
use crate::shaders::optim::{
    FACTORS_EIGHTS, FACTORS_MEAN, FACTORS_MEAN_LANES, FACTORS_MEANS, FACTORS_ROWS, FACTORS_TILES, NEARER, NUMBERS,
    WHOLE, WORDS,
};

/// Side of a tile.
const TILE: usize = 64;
/// Columns of a tile that a team sums.
pub(super) const ACROSS: usize = 512;
/// Rows of a matrix whose mean one invocation may take.
const FEW: u32 = 64;
const NONE: u32 = u32::MAX;

params! {
    /// The first word of the group's numbers, tiles and entries: a table is padded.
    struct Sizes {
        word,
        tiles,
        entries,
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
    /// True if a team sums a tile, without a barrier.
    pub lanes: bool,
}

/// How the squares of a matrix are summed.
struct Tiling {
    down: usize,
    across: usize,
    /// Partial sums of all rows, then those of all columns.
    sums: [usize; 2],
}

impl Tiling {
    /// That of a matrix, unless it is small.
    fn of(rows: usize, columns: usize, lanes: bool) -> Option<Tiling> {
        let (small, width) = if lanes { (512, ACROSS) } else { (TILE * TILE, TILE) };
        let (down, across) = (rows.div_ceil(TILE), columns.div_ceil(width));
        let sums = match lanes {
            true => [TEAM * across * rows.next_multiple_of(8), down * columns.next_multiple_of(8)],
            false => [across * rows, down * columns],
        };
        (rows * columns > small).then_some(Tiling { down, across, sums })
    }
}

/// Numbers that the scratch arena of a range needs room for: the means of rows, then partial sums.
pub(super) fn room<'a>(layout: impl Iterator<Item = &'a Placed>) -> usize {
    let sums =
        |rows, columns, lanes| Tiling::of(rows, columns, lanes).map_or(0, |tiling| tiling.sums[0] + tiling.sums[1]);
    let of = |place: &Placed| match matrices(&place.shape) {
        Some([count, rows, columns]) => count * (1 + sums(rows, columns, true).max(sums(rows, columns, false))),
        None => 0,
    };
    // They begin at whole vectors.
    layout.map(of).sum::<usize>() + 8
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
    pub fn of<'a>(own: impl IntoIterator<Item = &'a Own<'a>> + Clone, width: usize) -> Form {
        let all = || own.clone().into_iter().map(|own| matrices(&own.place.shape));
        let whole = all().flatten().all(|[.., columns]| columns.is_multiple_of(width));
        Form { whole, some_flat: all().any(|own| own.is_none()) }
    }
}

/// Words of `sites` (`shaders/optim/adafactor.wgsl`): where the site of each block begins, then the sites.
fn sites(own: &[Own<'_>], site: &Site<'_>) -> Vec<u32> {
    // Parameters begin at blocks.
    let mut sites = vec![0; site.blocks];
    let mut matrix = 0;
    for Own { number, place, moments, class } in own {
        let at = |moment: usize| moments.get(moment).copied().flatten().map_or(0, |place| place.0);
        let first = place.offset - site.start;
        let (elements, here) = (place.shape.elements(), sites.len() as u32);
        sites[first / BLOCK..][..elements.div_ceil(BLOCK)].fill(here);
        let [count, length, size] =
            matrices(&place.shape).map_or([0; 3], |[count, rows, columns]| [count, columns, rows * columns]);
        let words = [first, elements, length, size, at(0), at(1), matrix, *class, *number];
        sites.extend(words.map(|word| word as u32));
        matrix += count;
    }
    sites
}

/// Words of `matrices` (`shaders/optim/factors_means.wgsl`), eight each, and of `tiles`, three each.
fn tables(own: &[Own<'_>], site: &Site<'_>) -> (Vec<u32>, Vec<u32>) {
    let (mut all, mut tiles) = (vec![], vec![]);
    let count: usize = own.iter().filter_map(|own| matrices(&own.place.shape)).map(|[count, ..]| count).sum();
    // Means of rows come first.
    let mut partials = count.next_multiple_of(8);
    for Own { place, moments, class, .. } in own {
        let at = |moment: usize| moments.get(moment).copied().flatten().map_or(0, |place| place.0);
        let first = place.offset - site.start;
        let Some([count, rows, columns]) = matrices(&place.shape) else { continue };
        for b in 0..count {
            let matrix = (all.len() / 8) as u32;
            let mut parts = [NONE; 2];
            if let Some(Tiling { down, across, sums }) = Tiling::of(rows, columns, site.lanes) {
                parts = [partials as u32, (partials + sums[0]) as u32];
                partials += sums[0] + sums[1];
                tiles.extend((0..down).flat_map(|r| (0..across).flat_map(move |k| [matrix, r as u32, k as u32])));
            }
            let words = [first + b * rows * columns, rows, columns, at(0) + b * rows, at(1) + b * columns, *class];
            all.extend(words.map(|word| word as u32));
            all.extend(parts);
        }
    }
    (all, tiles)
}

/// The kernels, and the words of `sites`.
pub(super) fn kernels(own: &[Own<'_>], site: &Site<'_>) -> (Vec<ArenaKernel>, Vec<u32>) {
    let (sites, (all, tiles)) = (sites(own, site), tables(own, site));
    if all.is_empty() {
        return (vec![], sites);
    }
    let longest = all.chunks(8).map(|matrix| matrix[1].max(matrix[2])).max().unwrap_or(0);
    let is_tiled = |matrix: &&[u32]| matrix[6] != NONE;
    let some_direct = !all.chunks(8).all(|matrix| is_tiled(&matrix));
    let multiples = |of: usize| all.chunks(8).filter(is_tiled).all(|matrix| matrix[2].is_multiple_of(of as u32));
    // A word of two floats is never of two rows.
    let form = Vectors { eights: site.vectors.eights && multiples(2) };
    let whole = multiples(form.width());
    let each = all.chunks(8).zip(0..);
    let entries: Vec<u32> = match site.lanes {
        true => each
            .flat_map(|(matrix, number)| {
                let of = |length: u32, word: u32| (0..length).step_by(8).flat_map(move |first| [word, first]);
                of(matrix[1], 2 * number).chain(of(matrix[2], 2 * number + 1))
            })
            .collect(),
        false => each
            .flat_map(|(matrix, number)| (0..matrix[1] + matrix[2]).step_by(64).flat_map(move |entry| [number, entry]))
            .collect(),
    };
    let all: Arc<[u32]> = all.into();
    let sizes = Sizes { word: site.word, tiles: tiles.len() / 3, entries: entries.len() / 2 };
    let base = |name: &'static str, files: &[&File], element: &'static str, workgroups: usize, iterations: u32| {
        let shader = Shader::of(files).file(&NUMBERS).item(Item::new("adjust", site.options.adjust())).with_operands();
        let shader = if site.lanes { shader.file(form.file()).constant("COLUMNS", ACROSS) } else { shader };
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
            let (element, file): (_, &File) = if whole { ("$V$", &WHOLE) } else { (form.word(), &WORDS) };
            let rounds = TILE / 8 * (ACROSS / (TEAM * form.width()));
            let files: [&File; 2] = [&FACTORS_ROWS, file];
            base("factors_rows", &files, element, sizes.tiles.div_ceil(64 / TEAM), rounds as u32)
        } else {
            base("factors_tiles", &[&FACTORS_TILES], "f32", sizes.tiles, 80)
        };
        kernel.bind(ArenaBinding::write(site.scratch, "partial", if site.lanes { "$V$" } else { "f32" }));
        kernel.bind(ArenaBinding::read(Bound::Table(tiles.into()), "tiles", "u32"));
        kernels.push(kernel);
    }
    let (name, file, workgroups) = match site.lanes {
        true => ("factors_eights", &FACTORS_EIGHTS, sizes.entries.div_ceil(64)),
        false => ("factors_means", &FACTORS_MEANS, sizes.entries),
    };
    let mut kernel = base(name, &[file, &NEARER], "f32", workgroups, longest.max(TILE as u32));
    if site.lanes {
        let shader = std::mem::take(&mut kernel.kernel.shader);
        kernel.kernel.shader = shader.constant("SOME_DIRECT", some_direct);
    }
    kernel.bind(ArenaBinding::read(site.scratch, "partial", if site.lanes { "$V$" } else { "f32" }));
    kernel.bind(ArenaBinding::write(&site.moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::write(&site.moments[1], "column", "f32"));
    kernel.bind(ArenaBinding::read(Bound::Table(entries.into()), "entries", "u32"));
    kernels.push(kernel);
    // The means of a few rows are taken by one invocation where a barrier is dear.
    let alone = site.lanes && all.chunks(8).all(|matrix| matrix[1] <= FEW);
    let (file, invocations) = if alone { (&FACTORS_MEAN_LANES, 64) } else { (&FACTORS_MEAN, 1) };
    let mut kernel = Kernel::own("factors_mean", Shader::of(&[file]));
    kernel.workgroups = (all.len() / 8).div_ceil(invocations) as u64;
    kernel.iterations = if alone { u64::from(FEW) } else { u64::from(longest.div_ceil(64)) + 6 };
    let mut kernel = ArenaKernel { kernel, arenas: vec![] };
    kernel.bind(ArenaBinding::read(Bound::Table(all), "matrices", "u32"));
    kernel.bind(ArenaBinding::read(&site.moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::write(site.scratch, "row_means", "f32"));
    kernels.push(kernel);
    (kernels, sites)
}

/// What the kernels of the rule bind besides `sites`: the factors and the means; columns as vectors if they are read so by more than this form
/// says. A block that is not updated has no site.
pub(super) fn bind(kernel: &mut ArenaKernel, moments: &[Arc<Arena>], scratch: &Arc<Arena>, form: Form, vectors: bool) {
    kernel.bind(ArenaBinding::write(&moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::read(&moments[1], "column", if form.whole || vectors { "$V$" } else { "f32" }));
    let [one, all] = match (form.whole, vectors) {
        (true, _) => ["0.0", "$column$[at / (4u * $PARTS$)]"],
        (false, true) => ["$part$($column$[at / (4u * $PARTS$)], at % $PARTS$)[at / $PARTS$ % 4u]", "$V$()"],
        (false, false) => ["$column$[at]", "$V$()"],
    };
    let one = format!("fn $column_at$(at: u32) -> f32 {{\n    return {one};\n}}\n");
    let all = format!("fn $columns_at$(at: u32) -> $V$ {{\n    return {all};\n}}\n");
    let shader = std::mem::take(&mut kernel.kernel.shader);
    kernel.kernel.shader = shader
        .file(&NEARER)
        .constant("WHOLE", form.whole)
        .constant("SOME_FLAT", form.some_flat)
        .item(Item::new("column_at", one))
        .item(Item::new("columns_at", all));
    kernel.bind(ArenaBinding::read(scratch, "row_means", "f32"));
}

/// The class of a block by its site, which is then at hand.
pub(super) fn bind_sites(kernel: &mut ArenaKernel) {
    let class = "fn $class_of$(block: u32) -> u32 {\n    return $take_site$($sites$[block]);\n}\n";
    kernel.kernel.shader.items.push(Item::new("class_of", class));
}

/// The class of a block by its site.
pub(super) fn bind_class(kernel: &mut ArenaKernel) {
    let class = "fn $class_of$(block: u32) -> u32 {\n    let site = $sites$[block];\n    return select(0u, $sites$[site + 7u], site != 0u);\n}\n";
    kernel.kernel.shader.items.push(Item::new("class_of", class));
}

/// What was measured of the parameter whose site begins at word `at`: of a block's, or of that at hand.
pub(super) fn bind_sums(kernel: &mut ArenaKernel, sums: &Arc<Arena>, sites: Vec<u32>, at: &str) {
    kernel.bind(ArenaBinding::read(sums, "sums", "vec2<f32>"));
    kernel.bind(ArenaBinding::read(Bound::Table(sites.into()), "sites", "u32"));
    let text = format!("fn $sums_of$(block: u32) -> vec2<f32> {{\n    return $sums$[$sites$[{at} + 8u]];\n}}\n");
    kernel.kernel.shader.items.push(Item::new("sums_of", text));
}
