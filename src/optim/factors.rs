//! Means of squares over the rows and columns of gradients, for Adafactor: three kernels for all matrices of an arena.

use std::sync::Arc;

use super::places::MomentPlace;

use super::settings::Options;
use super::shapes::matrices;
use crate::arena::Arena;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::kernel::{Kernel, Shader};
use crate::params::{BLOCK, Placed};
use crate::shader::{Item, params};
use crate::shaders::optim::{FACTORS_MEAN, FACTORS_MEANS, FACTORS_TILES, NUMBERS};

/// Matrices with more elements are summed by tiles.
const SMALL: usize = 64 * 64;
/// Side of a tile.
const TILE: usize = 64;
const NONE: u32 = u32::MAX;
/// Words of a site.
const SITE: usize = 9;

params! {
    /// The first word of the group's numbers.
    struct Sizes {
        word,
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
}

/// Numbers that the scratch arena of a range needs room for: the means of rows, then partial sums.
pub(super) fn room<'a>(layout: impl Iterator<Item = &'a Placed>) -> usize {
    let of = |place: &Placed| match matrices(&place.shape) {
        Some([count, rows, columns]) => {
            let tiles =
                if rows * columns > SMALL { rows * columns.div_ceil(TILE) + columns * rows.div_ceil(TILE) } else { 0 };
            count * (1 + tiles)
        }
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
                let (down, across) = (rows.div_ceil(TILE), columns.div_ceil(TILE));
                parts = [partials as u32, (partials + rows * across) as u32];
                partials += rows * across + columns * down;
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
    let base = |name: &'static str, file, workgroups: usize, iterations: u32| {
        let shader = Shader::of(&[file, &NUMBERS]).item(Item::new("adjust", site.options.adjust())).with_operands();
        let mut kernel = Kernel::own(name, shader);
        kernel.uniform(Sizes { word: site.word });
        kernel.workgroups = workgroups as u64;
        kernel.iterations = u64::from(iterations);
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(site.theta.0.clone(), "theta", "f32"));
        kernel.bind(ArenaBinding::read(site.gradients.clone(), "gradients", "f32"));
        kernel.bind(ArenaBinding::read(site.status, "status", "vec4<f32>"));
        kernel.bind(ArenaBinding::read(Bound::Table(all.clone()), "matrices", "u32"));
        kernel
    };
    let mut kernels = vec![];
    if !tiles.is_empty() {
        let mut kernel = base("factors_tiles", &FACTORS_TILES, tiles.len() / 3, 128);
        kernel.bind(ArenaBinding::write(site.scratch, "partial", "f32"));
        kernel.bind(ArenaBinding::read(Bound::Table(tiles.into()), "tiles", "u32"));
        kernels.push(kernel);
    }
    let mut kernel = base("factors_means", &FACTORS_MEANS, entries.len() / 2, longest.max(TILE as u32));
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

/// What the kernels of the rule bind besides `sites`: the factors and the means. A block that is not updated has no site.
pub(super) fn bind(kernel: &mut ArenaKernel, moments: &[Arc<Arena>], scratch: &Arc<Arena>, form: Form) {
    kernel.bind(ArenaBinding::write(&moments[0], "row", "f32"));
    kernel.bind(ArenaBinding::read(&moments[1], "column", if form.whole { "$V$" } else { "f32" }));
    let [one, part] = match form.whole {
        true => ["0.0", "$part$($column$[at / (4u * $PARTS$)], k)"],
        false => ["$column$[at]", "vec4<f32>(0.0)"],
    };
    let one = format!("fn $column_at$(at: u32) -> f32 {{\n    return {one};\n}}\n");
    let part = format!("fn $column_part$(at: u32, k: u32) -> vec4<f32> {{\n    return {part};\n}}\n");
    let shader = std::mem::take(&mut kernel.kernel.shader);
    kernel.kernel.shader = shader
        .constant("WHOLE", form.whole)
        .constant("SOME_FLAT", form.some_flat)
        .item(Item::new("column_at", one))
        .item(Item::new("column_part", part));
    kernel.bind(ArenaBinding::read(scratch, "row_means", "f32"));
    bind_class(kernel);
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
