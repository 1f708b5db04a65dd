//! Sums over whole parameters that a rule asks for (norms of weights, of gradients, of updates): what `measure` of its shader
//! adds for each vector, in a fixed order. A kernel a range leaves partial sums, one kernel for all joins them.

use std::sync::Arc;

use crate::arena::Arena;
use crate::device::Device;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::error::Result;
use crate::kernel::{Kernel, Vectors};
use crate::params::{BLOCK, Chunk};
use crate::shader::{Item, Shader, params};
use crate::shaders::optim::{MEASURE, MEASURE_LANES, MEASURE_SUM};

/// The parameter that a block of 64 elements is of, where it is updated.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    /// Its number in the layout.
    pub number: u32,
    /// The element behind its last, counted from where the range begins: padding follows.
    pub end: u32,
}

/// Blocks of 64 elements that a workgroup sums.
const SPAN: usize = 64;

/// Where the sums lie.
pub(super) struct Measured {
    /// Two a parameter.
    pub sums: Arc<Arena>,
    /// Two a partial sum.
    partials: Arc<Arena>,
}

impl Measured {
    /// Makes room for so many parameters in these arenas.
    pub fn fit(own: &mut Option<Measured>, device: &Device, chunks: &[Chunk], parameters: usize) -> Result<()> {
        let sums = 2 * parameters.max(1).next_multiple_of(64);
        // A partial sum a block at most. A parameter may be in two ranges: in that of its arena, where it is passed over, and
        // in one of its own.
        let blocks: usize = chunks.iter().map(|chunk| chunk.values.elements / BLOCK).sum();
        let room = 4 * blocks.max(64);
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
    pub class_number: u32,
    /// True if all blocks are of that class.
    pub one: bool,
    /// True if each invocation leaves a sum, without a barrier.
    pub lanes: bool,
    /// The table of a rule that has sites.
    pub sites: Option<Vec<u32>>,
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
}

impl Measuring {
    /// Adds the kernel of a range whose blocks have these owners.
    pub fn add(&mut self, draft: Draft, measured: &Measured, owners: &[Option<Owner>]) {
        let Draft { mut kernel, form, elements, word, class_number, one, lanes, mut sites } = draft;
        let vectors = elements / form.width();
        let block = BLOCK / form.width();
        let first = self.partials;
        // Of a span the first vector, the one behind its last, and where its parameter ends.
        let mut spans = vec![];
        let mut start = 0;
        // Parameters begin at blocks, so runs of equal owners are whole parameters.
        for run in owners.chunk_by(|left, right| left == right) {
            let own = if lanes { run.len() } else { run.len().div_ceil(SPAN) };
            if let Some(owner) = run[0] {
                self.parts.push([owner.number, self.partials as u32, own as u32]);
                self.partials += own;
                let ends = (0..run.len()).step_by(SPAN).map(|at| (start + at, start + (at + SPAN).min(run.len())));
                let span = |(begin, end): (usize, usize)| {
                    [(begin * block) as u32, (end * block).min(vectors) as u32, owner.end]
                };
                spans.extend(ends.flat_map(span));
            } else if lanes {
                // A lane is as far from the first as its block.
                self.partials += own;
            }
            start += run.len();
        }
        let groups = spans.len() / 3;
        let mut sizes = Sizes { vectors, word, class_number, first, spans: groups, spans_at: 0 };
        // In the table of the sites, where there is one: bindings are few.
        let (hook, table) = match (lanes, &mut sites) {
            (true, Some(_)) => {
                let value = "$sites$[$sites$[block]] + $sites$[$sites$[block] + 1u]";
                (format!("fn $end_of$(block: u32) -> u32 {{\n    return {value};\n}}\n"), None)
            }
            (true, None) => {
                let ends: Vec<u32> = owners.iter().map(|owner| owner.map_or(0, |owner| owner.end)).collect();
                ("fn $end_of$(block: u32) -> u32 {\n    return $ends$[block];\n}\n".into(), Some(("ends", ends)))
            }
            (false, Some(words)) => {
                sizes.spans_at = words.len();
                words.extend(&spans);
                ("fn $span_word$(at: u32) -> u32 {\n    return $sites$[$p$.spans_at + at];\n}\n".into(), None)
            }
            (false, None) => {
                let text = "fn $span_word$(at: u32) -> u32 {\n    return $spans$[at];\n}\n";
                (text.to_string(), Some(("spans", spans)))
            }
        };
        let shader = std::mem::take(&mut kernel.kernel.shader);
        let shader = shader.item(Item::new(if lanes { "end_of" } else { "span_word" }, hook));
        let shader = if lanes { shader.constant("ONE_CLASS", one) } else { shader };
        kernel.kernel.shader = shader.file(if lanes { &MEASURE_LANES } else { &MEASURE });
        kernel.kernel.uniform(sizes);
        kernel.kernel.workgroups = if lanes { owners.len().div_ceil(64) } else { groups } as u64;
        kernel.kernel.iterations = if lanes { block } else { (SPAN * block).div_ceil(64) } as u64;
        kernel.bind(ArenaBinding::write(&measured.partials, "partial", "vec2<f32>"));
        let sites = sites.map(|words| ("sites", words));
        for (name, words) in sites.into_iter().chain(table) {
            kernel.bind(ArenaBinding::read(Bound::Table(words.into()), name, "u32"));
        }
        self.kernels.push(kernel);
    }

    /// All of them, and the one that joins the partial sums.
    pub fn kernels(mut self, measured: &Measured) -> Vec<ArenaKernel> {
        if self.parts.is_empty() {
            return vec![];
        }
        let most = self.parts.iter().map(|part| part[2]).max().unwrap_or(0);
        let mut kernel = Kernel::own("measure_sum", Shader::of(&[&MEASURE_SUM]));
        kernel.uniform(Join { parameters: self.parts.len() });
        kernel.workgroups = self.parts.len() as u64;
        kernel.iterations = u64::from(most.div_ceil(64)) + 6;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(&measured.partials, "partial", "vec2<f32>"));
        kernel.bind(ArenaBinding::write(&measured.sums, "sums", "vec2<f32>"));
        let parts: Vec<u32> = self.parts.concat();
        kernel.bind(ArenaBinding::read(Bound::Table(parts.into()), "parts", "u32"));
        self.kernels.push(kernel);
        self.kernels
    }
}

/// Gives an update the function `sums_of`: what was measured of a block's parameter, where blocks are of these.
pub(super) fn bind_sums(kernel: &mut ArenaKernel, measured: Option<(&Measured, &[Option<Owner>])>) {
    let value = match measured {
        Some((measured, owners)) => {
            let owners: Vec<u32> = owners.iter().map(|owner| owner.map_or(0, |owner| owner.number)).collect();
            kernel.bind(ArenaBinding::read(&measured.sums, "sums", "vec2<f32>"));
            kernel.bind(ArenaBinding::read(Bound::Table(owners.into()), "owners", "u32"));
            "$sums$[$owners$[block]]"
        }
        None => "vec2<f32>(0.0)",
    };
    let text = format!("fn $sums_of$(block: u32) -> vec2<f32> {{\n    return {value};\n}}\n");
    kernel.kernel.shader.items.push(Item::new("sums_of", text));
}
