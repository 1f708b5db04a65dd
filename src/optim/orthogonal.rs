//! Rounds of Newton and Schulz for Muon: three products a round, each one kernel for all matrices of an arena.

use std::sync::Arc;

use super::factors::{Own, Site};
use super::rule::Rule;
use super::shapes::sides;
use crate::arena::Arena;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::kernel::{Kernel, Shader};
use crate::params::{BLOCK, Placed};
use crate::shader::params;
use crate::shaders::optim::{MUON_APPLY, NUMBERS, ORTHOGONAL_PRODUCT, ORTHOGONAL_START};

/// Elements that a workgroup starts with.
const PART: usize = 1024;
/// Side of a tile.
const TILE: usize = 32;
/// Words of a site.
const SITE: usize = 9;
/// Words of a matrix at which its two places stand.
const PLACES: [usize; 2] = [2, 3];

params! {
    /// The first word of the group's numbers, and where a matrix is and goes.
    struct Sizes {
        word,
        last,
        next,
    }
}

/// Numbers that the scratch arena of a chunk needs room for: each matrix twice, and two squares of its shorter side.
pub(super) fn room<'a>(layout: impl Iterator<Item = &'a Placed>) -> usize {
    let of = |place: &Placed| {
        let [rows, columns] = sides(&place.shape);
        2 * rows * columns + 2 * rows.min(columns).pow(2)
    };
    layout.map(of).sum::<usize>().max(1)
}

/// The products, which run once `sums` are there, and the words of `sites` (`shaders/optim/muon.wgsl`).
pub(super) fn kernels(
    own: &[Own<'_>],
    site: &Site<'_>,
    rule: &dyn Rule,
    rounds: usize,
    sums: &Arc<Arena>,
) -> (Vec<ArenaKernel>, Vec<u32>) {
    let mut sites = vec![0; site.blocks];
    let (mut matrices, mut parts): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
    let (mut squares, mut steps): (Vec<u32>, Vec<u32>) = (vec![], vec![]);
    let (mut next, mut longest) = (0, 0);
    for (matrix, Own { number, place, class, .. }) in own.iter().enumerate() {
        let first = place.offset - site.start;
        let (elements, here) = (place.shape.elements(), sites.len() as u32);
        let [rows, columns] = sides(&place.shape);
        let (short, long) = (rows.min(columns), rows.max(columns));
        longest = longest.max(long);
        let high = u32::from(rows > columns);
        let places = [next, next + elements, next + 2 * elements, next + 2 * elements + short * short];
        next = places[3] + short * short;
        let last = places[rounds % 2];
        sites[first / BLOCK..][..elements.div_ceil(BLOCK)].fill(here);
        let words: [usize; 4] = [first, elements, columns, high as usize];
        sites.extend(words.iter().chain(&[last, long]).map(|&word| word as u32));
        sites.push((rule.ratio(&place.shape) as f32).to_bits());
        sites.extend([*class as u32, *number as u32]);
        debug_assert_eq!(sites.len(), here as usize + SITE);
        matrices.extend([short, long].iter().chain(&places).chain(&[first]).map(|&word| word as u32));
        matrices.extend([high, *number as u32]);
        parts.extend((0..elements).step_by(PART).flat_map(|part| [matrix as u32, part as u32]));
        let tiles = |columns: usize| {
            let rows = (0..short).step_by(TILE);
            rows.flat_map(move |r| (0..columns).step_by(TILE).flat_map(move |c| [matrix as u32, r as u32, c as u32]))
        };
        squares.extend(tiles(short));
        steps.extend(tiles(long));
    }
    let matrices: Arc<[u32]> = matrices.into();
    let (squares, steps): (Arc<[u32]>, Arc<[u32]>) = (squares.into(), steps.into());
    let base = |name: &'static str, shader: Shader, [last, next]: [usize; 2], workgroups: usize, iterations: usize| {
        let mut kernel = Kernel::own(name, shader.file(&NUMBERS).with_operands());
        kernel.uniform(Sizes { word: site.word, last, next });
        kernel.workgroups = workgroups as u64;
        kernel.iterations = iterations as u64;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(site.scratch, "matrices_now", "f32"));
        kernel.bind(ArenaBinding::read(Bound::Table(matrices.clone()), "matrices", "u32"));
        kernel
    };
    let mut start = base("orthogonal_start", Shader::of(&[&ORTHOGONAL_START]), PLACES, parts.len() / 2, PART / 64);
    start.bind(ArenaBinding::read(site.gradients.clone(), "gradients", "f32"));
    start.bind(ArenaBinding::read(sums, "sums", "vec2<f32>"));
    start.bind(ArenaBinding::read(Bound::Table(parts.into()), "parts", "u32"));
    let mut kernels = vec![start];
    for round in 0..rounds {
        let places = [PLACES[round % 2], PLACES[(round + 1) % 2]];
        for (mode, tiles) in [(0u32, &squares), (1, &squares), (2, &steps)] {
            let shader = Shader::of(&[&ORTHOGONAL_PRODUCT]).constant("MODE", mode);
            let name = ["orthogonal_gram", "orthogonal_square", "orthogonal_step"][mode as usize];
            let mut kernel = base(name, shader, places, tiles.len() / 3, longest.div_ceil(16) * 24);
            kernel.bind(ArenaBinding::read(Bound::Table(tiles.clone()), "tiles", "u32"));
            kernels.push(kernel);
        }
    }
    (kernels, sites)
}

/// What the step binds besides `sites`.
pub(super) fn bind(kernel: &mut ArenaKernel, scratch: &Arc<Arena>) {
    let shader = std::mem::take(&mut kernel.kernel.shader);
    kernel.kernel.shader = shader.file(&MUON_APPLY);
    kernel.bind(ArenaBinding::read(scratch, "matrices_now", "f32"));
}
