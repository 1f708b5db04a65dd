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
        // A partial sum a block at most; a range of its own begins where its parameter does.
        let blocks: usize = chunks.iter().map(|chunk| chunk.values.elements / BLOCK).sum();
        let room = 2 * blocks.max(64);
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
        /// Workgroups, where each takes a span, and the first word of the spans.
        groups,
        spans,
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
    /// Adds the kernel of a range whose blocks are of these parameters.
    pub fn add(&mut self, draft: Draft, measured: &Measured, owners: &[u32]) {
        let Draft { mut kernel, form, elements, word, class_number, lanes, mut sites } = draft;
        let vectors = elements / form.width();
        let block = BLOCK / form.width();
        let first = self.partials;
        let shader = std::mem::take(&mut kernel.kernel.shader);
        // Parameters begin at blocks, so runs of equal owners are whole parameters.
        let mut spans = vec![];
        let mut start = 0;
        for run in owners.chunk_by(|left, right| left == right) {
            let parts = if lanes { run.len() } else { run.len().div_ceil(SPAN) };
            self.parts.push([run[0], self.partials as u32, parts as u32]);
            self.partials += parts;
            for span in 0..run.len().div_ceil(SPAN) {
                let begin = start + span * SPAN;
                let end = (begin + SPAN).min(start + run.len());
                spans.extend([begin * block, (end * block).min(vectors)].map(|at| at as u32));
            }
            start += run.len();
        }
        let groups = spans.len() / 2;
        let mut sizes = Sizes { vectors, word, class_number, first, groups, spans: 0 };
        let mut shader = shader.file(if lanes { &MEASURE_LANES } else { &MEASURE });
        if !lanes {
            // In the table of the sites, where there is one: bindings are few.
            let table = match &mut sites {
                Some(words) => {
                    sizes.spans = words.len();
                    words.extend(&spans);
                    "sites"
                }
                None => "spans",
            };
            let text = format!("fn $span_word$(at: u32) -> u32 {{\n    return ${table}$[$p$.spans + at];\n}}\n");
            shader = shader.item(Item::new("span_word", text));
        }
        kernel.kernel.shader = shader;
        kernel.kernel.uniform(sizes);
        kernel.kernel.workgroups = if lanes { owners.len().div_ceil(64) } else { groups } as u64;
        kernel.kernel.iterations = if lanes { block } else { (SPAN * block).div_ceil(64) } as u64;
        kernel.bind(ArenaBinding::write(&measured.partials, "partial", "vec2<f32>"));
        match sites {
            Some(words) => kernel.bind(ArenaBinding::read(Bound::Table(words.into()), "sites", "u32")),
            None if !lanes => kernel.bind(ArenaBinding::read(Bound::Table(spans.into()), "spans", "u32")),
            None => {}
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
pub(super) fn bind_sums(kernel: &mut ArenaKernel, measured: Option<(&Measured, Vec<u32>)>) {
    let value = match measured {
        Some((measured, owners)) => {
            kernel.bind(ArenaBinding::read(&measured.sums, "sums", "vec2<f32>"));
            kernel.bind(ArenaBinding::read(Bound::Table(owners.into()), "owners", "u32"));
            "$sums$[$owners$[block]]"
        }
        None => "vec2<f32>(0.0)",
    };
    let text = format!("fn $sums_of$(block: u32) -> vec2<f32> {{\n    return {value};\n}}\n");
    kernel.kernel.shader.items.push(Item::new("sums_of", text));
}
