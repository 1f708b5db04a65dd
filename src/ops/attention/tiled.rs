//! Attention by tiles in workgroup memory, for GPUs: a workgroup has 32 queries and goes over the keys, or 32 keys and goes
//! over the queries, so that every result has one owner.

use super::form::Site;
use crate::kernel::{Binding, Capabilities, Kernel, MAX_ITERATIONS};
use crate::op::Lowering;
use crate::ops::shared::{team, with_functions};
use crate::ops::variants::Rank;
use crate::shader::{File, Item, Shader};
use crate::shaders::attention::{KEY_GRAD, QUERY_GRAD, SLOPE, TILED, TILES};

/// Queries, or keys, of a workgroup.
const SIDE: usize = 32;

/// What a kernel goes over.
struct Walk {
    /// Products of a tile: of queries and keys alone, or of dy and values, too.
    is_backward: bool,
    /// Tiles at most.
    tiles: usize,
    /// Vectors of sums that an invocation keeps of a row.
    columns: usize,
}

impl Walk {
    /// Rounds of an invocation's loops: slabs, scores, rows' maxima, sums.
    fn iterations(&self, site: &Site) -> u64 {
        let slabs = site.features.div_ceil(16) + if self.is_backward { site.values.div_ceil(16) } else { 0 };
        let tile = 7 * slabs + 40 + 4 * (16 + self.columns) + 8 * (2 + 5 * self.columns);
        (self.tiles * tile + 64 + 32 * self.columns) as u64
    }
}

fn vectors(width: usize) -> usize {
    width.div_ceil(SIDE)
}

/// Forward.
fn forward_walk(site: &Site) -> Walk {
    Walk { is_backward: false, tiles: site.keys.div_ceil(SIDE) + 1, columns: vectors(site.values) }
}

fn query_walk(site: &Site) -> Walk {
    Walk { is_backward: true, tiles: site.keys.div_ceil(SIDE) + 1, columns: vectors(site.features) }
}

fn key_walk(site: &Site) -> Walk {
    let columns = vectors(site.features) + vectors(site.values);
    Walk { is_backward: true, tiles: site.groups * (site.queries.div_ceil(SIDE) + 1), columns }
}

/// Where loops stay within their bound, sums in registers, and as much is bound as every adapter binds.
pub(super) fn needs(site: &Site, is_backward: bool, capabilities: &Capabilities) -> Option<Rank> {
    let walks = match is_backward {
        true => vec![query_walk(site), key_walk(site)],
        false => vec![forward_walk(site)],
    };
    let short = walks.iter().all(|walk| walk.iterations(site) <= MAX_ITERATIONS);
    let bound = if is_backward { 8 } else { 5 } + site.extras().into_iter().flatten().count();
    let fits = site.features.max(site.values) <= 128 && bound <= capabilities.storage_buffers;
    // Where barriers are dear it runs, but last.
    let rank = if capabilities.costs().dear_barriers { Rank::Last } else { Rank::First };
    (short && fits).then_some(rank)
}

/// The text that reads an input of this name at `at`.
type Reads = fn(&str) -> String;

/// A kernel of workgroups that each own a tile.
fn kernel(site: &Site, name: &'static str, files: &[&File], inputs: usize, tiles: usize, walk: &Walk) -> Kernel {
    let names = ["queries", "keys", "values", "dy", "lse", "delta"];
    // What a product may be of.
    let read = ["queries", "keys", "values", "dy"];
    let last = if inputs > 3 { 3 } else { 2 };
    let quads = site.features.is_multiple_of(4) && site.values.is_multiple_of(4);
    // Of each input: an element, or a quad; buffers are bound in one of the ways and read in both.
    let (element, quad): (Reads, Reads) = match quads {
        true => (|name| format!("${name}$[at / 4u][at % 4u]"), |name| format!("${name}$[at]")),
        false => (
            |name| format!("${name}$[at]"),
            |name| {
                let one = |k: usize| format!("${name}$[4u * at + {k}u]");
                format!("vec4<f32>({}, {}, {}, {})", one(0), one(1), one(2), one(3))
            },
        ),
    };
    let function = |name: &'static str, kind: &str, of: Reads| {
        let branch = |k: usize| format!("    if which == {k}u {{\n        return {};\n    }}\n", of(read[k]));
        let branches: String = (0..last).map(branch).collect();
        let text =
            format!("fn ${name}$(which: u32, at: u32) -> {kind} {{\n{branches}    return {};\n}}\n", of(read[last]));
        Item::new(name, text)
    };
    let shader = site.shader(1).file(&TILES).constant("QUADS", quads);
    let mut shader = shader.item(function("element", "f32", element)).item(function("quad", "vec4<f32>", quad));
    if inputs == 3 {
        shader = with_functions(shader, &["log_full"]);
    }
    let shader = files.iter().fold(shader, |shader, file| shader.file(file));
    let mut kernel = Kernel::own(name, team(shader, 64));
    for (k, name) in names[..inputs].iter().enumerate() {
        let in_quads = quads && k <= last;
        kernel.bind(Binding::input(k), name, if in_quads { "vec4<f32>" } else { "f32" });
    }
    kernel.workgroups = tiles as u64;
    kernel.iterations = walk.iterations(site);
    kernel
}

fn finished(
    mut kernel: Kernel,
    site: &Site,
    results: &[(usize, &'static str)],
    constants: &[(&'static str, usize)],
) -> Kernel {
    results.iter().for_each(|&(number, name)| kernel.bind(Binding::result(number), name, "f32"));
    site.bind(&mut kernel);
    kernel.shader = constants
        .iter()
        .fold(std::mem::take(&mut kernel.shader), |shader: Shader, &(name, value)| shader.constant(name, value));
    kernel.uniform(site.sizes());
    kernel
}

/// The kernel of the forward pass.
pub(super) fn forward(site: &Site, name: &'static str) -> Lowering {
    let tiles = site.planes * site.queries.div_ceil(SIDE);
    let mut kernel = kernel(site, name, &[&TILED], 3, tiles, &forward_walk(site));
    kernel.flops = 2 * (site.planes * site.queries * site.keys) as u64 * (site.features + site.values) as u64;
    Lowering::kernel(finished(kernel, site, &[(0, "result"), (1, "lse")], &[("COLUMNS", vectors(site.values))]))
}

/// The kernels of the backward pass.
pub(super) fn backward(site: &Site, name: &'static str) -> Lowering {
    let tiles = site.planes * site.queries.div_ceil(SIDE);
    let of_queries = kernel(site, name, &[&SLOPE, &QUERY_GRAD], 6, tiles, &query_walk(site));
    let columns = ("COLUMNS", vectors(site.features));
    let of_queries = finished(of_queries, site, &[(0, "dq")], &[columns]);
    let tiles = site.planes / site.groups * site.keys.div_ceil(SIDE);
    let of_keys = kernel(site, name, &[&SLOPE, &KEY_GRAD], 6, tiles, &key_walk(site));
    let columns = [columns, ("VALUE_COLUMNS", vectors(site.values))];
    let of_keys = finished(of_keys, site, &[(1, "dk"), (2, "dv")], &columns);
    Lowering::Kernels { kernels: vec![of_queries, of_keys], temporaries: vec![] }
}
