//! Sums over whole parameters that a rule asks for (norms of weights, of gradients, of updates): what `measure` of its shader
//! adds for each vector, in a fixed order. A kernel a range leaves partial sums, one kernel for all joins them.

use std::sync::Arc;

use super::clip::Classes;
use super::spans::{Spans, TEAM};
use super::walk;
use crate::arena::Arena;
use crate::device::Device;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::error::Result;
use crate::kernel::{Kernel, Vectors};
use crate::params::{BLOCK, Chunk, Placed};
use crate::shader::{Item, Shader, params};
use crate::shaders::optim::{MEASURE, MEASURE_LANES, MEASURE_SUM, MEASURE_SUM_LANES, UPDATE_SHARED, WALK_MEASURE};

/// Partial sums of a parameter that one invocation may join.
const FEW: u32 = 512;

/// The parameter that a block of 64 elements is of, where it is updated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its number in the layout.
    pub number: u32,
    /// The element behind its last, counted from where the range begins: padding follows.
    pub end: u32,
}

/// Where the sums lie.
pub(super) struct Measured {
    /// Two a parameter.
    pub sums: Arc<Arena>,
    /// Two a partial sum.
    partials: Arc<Arena>,
}

impl Measured {
    /// Makes room for these parameters in these arenas.
    pub fn fit(own: &mut Option<Measured>, device: &Device, chunks: &[Chunk], layout: &[Placed]) -> Result<()> {
        let parameters = layout.len();
        let sums = 2 * parameters.max(1).next_multiple_of(64);
        // Of a team all leave a sum. A parameter may be in two ranges: in that of its arena, where it is passed over, and in one of
        // its own.
        let blocks: usize = chunks.iter().map(|chunk| chunk.values.elements / BLOCK).sum();
        let teams = Spans::most(blocks, parameters).max(layout.iter().map(walk::most).sum());
        let room = (2 * 2 * TEAM * teams).next_multiple_of(64);
        if own.as_ref().is_some_and(|own| own.sums.elements >= sums && own.partials.elements >= room) {
            return Ok(());
        }
        let sums = device.arena("measured sums", sums)?;
        *own = Some(Measured { sums, partials: device.arena("partial measures", room)? });
        Ok(())
    }
}

/// A kernel that measures a range, but for its `main` and where its sums go.
pub(super) struct Draft {
    pub kernel: ArenaKernel,
    pub form: Vectors,
    pub elements: usize,
    /// First word of the group's numbers.
    pub word: usize,
    pub classes: Classes,
    /// True if each invocation of a team leaves a sum, without a barrier.
    pub lanes: bool,
    pub way: Way,
}

/// How a range is gone over.
pub(super) enum Way {
    /// By spans.
    Spans,
    /// By spans, with the table of a rule that has sites.
    Sites(Vec<u32>),
    /// By teams that go over matrices, whose words begin at word `at` of the table; so many of each parameter.
    Walk { sites: Vec<u32>, teams: usize, at: usize, parameters: Vec<(u32, usize)> },
}

params! {
    /// Sizes of a range that is measured.
    struct Sizes {
        vectors,
        word,
        class_number: u32,
        /// Number of its first partial sum.
        first,
        /// How many there are, and the first word of them.
        spans,
        spans_at,
    }
}

params! {
    /// Sizes of the joining of partial sums.
    pub(super) struct Join {
        parameters,
    }
}

/// The kernels that measure, as they come together.
#[derive(Default)]
pub(super) struct Measuring {
    kernels: Vec<ArenaKernel>,
    /// Partial sums so far.
    partials: usize,
    /// (parameter, first partial sum, number of them) of each parameter.
    parts: Vec<[u32; 3]>,
    /// True if each invocation of a team has left one.
    lanes: bool,
}

impl Measuring {
    /// Adds the kernel of a range whose blocks have these owners.
    pub fn add(&mut self, draft: Draft, measured: &Measured, owners: &[Option<Owner>]) {
        let Draft { mut kernel, form, elements, word, classes, lanes, way } = draft;
        let vectors = elements / form.width();
        let first = self.partials;
        let shader = std::mem::take(&mut kernel.kernel.shader);
        let shader = if lanes { shader.constant("ONE_CLASS", matches!(classes, Classes::One(_))) } else { shader };
        let (sites, spans, spans_at, parameters) = match way {
            Way::Walk { sites, teams, at, parameters } => {
                let none = "fn $sums_of$(block: u32) -> vec2<f32> {\n    return vec2<f32>(0.0);\n}\n";
                let shader = shader.file(&WALK_MEASURE).file(&UPDATE_SHARED).item(Item::new("sums_of", none));
                kernel.kernel.shader = shader.constant("MEASURES", true);
                (Some(sites), teams, at, parameters)
            }
            way => {
                let mut sites = if let Way::Sites(sites) = way { Some(sites) } else { None };
                kernel.kernel.shader = shader.file(if lanes { &MEASURE_LANES } else { &MEASURE });
                let spans = Spans::of(owners, &classes, vectors, form.width());
                let (count, parameters) = (spans.count(), spans.parameters.clone());
                let at = spans.bind(&mut kernel, sites.as_mut());
                kernel.kernel.workgroups = if lanes { (count * TEAM).div_ceil(64) } else { count } as u64;
                kernel.kernel.iterations = Spans::rounds(if lanes { TEAM } else { 64 }, form.width());
                (sites, count, at, parameters)
            }
        };
        let sums = if lanes { TEAM } else { 1 };
        self.lanes = lanes;
        for (number, spans) in parameters {
            self.parts.push([number, self.partials as u32, (spans * sums) as u32]);
            self.partials += spans * sums;
        }
        kernel.kernel.uniform(Sizes { vectors, word, class_number: classes.number(), first, spans, spans_at });
        kernel.bind(ArenaBinding::write(&measured.partials, "partial", "vec2<f32>"));
        if let Some(words) = sites {
            kernel.bind(ArenaBinding::read(Bound::Table(words.into()), "sites", "u32"));
        }
        self.kernels.push(kernel);
    }

    /// All of them, and the one that joins the partial sums.
    pub fn kernels(mut self, measured: &Measured) -> Vec<ArenaKernel> {
        if self.parts.is_empty() {
            return vec![];
        }
        let most = self.parts.iter().map(|part| part[2]).max().unwrap_or(0);
        // A few are joined by one invocation where a barrier is dear.
        let alone = self.lanes && most <= FEW;
        let (file, invocations) = if alone { (&MEASURE_SUM_LANES, 64) } else { (&MEASURE_SUM, 1) };
        let mut kernel = Kernel::own("measure_sum", Shader::of(&[file]));
        kernel.uniform(Join { parameters: self.parts.len() });
        kernel.workgroups = self.parts.len().div_ceil(invocations) as u64;
        kernel.iterations = u64::from(most.div_ceil(if alone { TEAM as u32 } else { 64 })) + 6;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(&measured.partials, "partial", if alone { "vec4<f32>" } else { "vec2<f32>" }));
        kernel.bind(ArenaBinding::write(&measured.sums, "sums", "vec2<f32>"));
        let parts: Vec<u32> = self.parts.concat();
        kernel.bind(ArenaBinding::read(Bound::Table(parts.into()), "parts", "u32"));
        self.kernels.push(kernel);
        self.kernels
    }
}

/// Gives an update the function `sums_of`: what was measured of a block's parameter, where blocks are of these, or of the span's.
pub(super) fn bind_sums(
    kernel: &mut ArenaKernel,
    measured: Option<&Measured>,
    owners: &[Option<Owner>],
    in_spans: bool,
) {
    if let Some(measured) = measured {
        kernel.bind(ArenaBinding::read(&measured.sums, "sums", "vec2<f32>"));
    }
    let value = match (measured, in_spans) {
        (None, _) => "vec2<f32>(0.0)",
        (Some(_), true) => "$sums$[$span_word$($own_span$ + 3u)]",
        (Some(_), false) => {
            let owners: Vec<u32> = owners.iter().map(|owner| owner.map_or(0, |owner| owner.number)).collect();
            kernel.bind(ArenaBinding::read(Bound::Table(owners.into()), "owners", "u32"));
            "$sums$[$owners$[block]]"
        }
    };
    let text = format!("fn $sums_of$(block: u32) -> vec2<f32> {{\n    return {value};\n}}\n");
    kernel.kernel.shader.items.push(Item::new("sums_of", text));
}
