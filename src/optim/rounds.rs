//! What becomes of gradients before the verdict, parameter by parameter or row by row: rounds of kernels over the arenas of
//! gradients, in the order centralisation, clipping of rows, clipping of parameters, noise. What they do does not depend on the
//! loss scale, which is in the gradients.
//!
//! Rows are those of the first axis: the weights of one output, of a linear layer as of a convolution. A vector is one row.

use std::sync::Arc;

use super::measure::Join;
use super::settings::Options;
use crate::arena::Arena;
use crate::costs::Costs;
use crate::device::Device;
use crate::engine::{ArenaBinding, ArenaKernel, Bound};
use crate::error::{Error, Result};
use crate::kernel::{Kernel, Shader};
use crate::params::{BLOCK, Chunk, Placed};
use crate::shader::{Item, params};
use crate::shaders::optim::{MEASURE_SUM, UNITS, UNITS_APPLY, UNITS_LANES, UNITS_SCALE};
use crate::shape::Shape;

/// Elements that are summed at a time.
const SPAN: usize = 1024;

/// A round over units of gradients.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Round {
    /// Takes the mean of each row from it.
    Centralise,
    /// Clips the norm of each row to a share of that of the weights, which count as the second at least.
    Adaptive(f64, f64),
    /// Clips the norm of each parameter.
    Each(f64),
}

impl Options {
    /// Its rounds over units, in their order.
    pub fn rounds(&self) -> Vec<Round> {
        let centralise = self.centralise.then_some(Round::Centralise);
        let adaptive = self.clip_adaptive.map(|(share, least)| Round::Adaptive(share, least));
        centralise.into_iter().chain(adaptive).chain(self.clip_each.map(Round::Each)).collect()
    }
}

impl Round {
    /// Words that tell it from others.
    pub fn words(self) -> [u64; 3] {
        match self {
            Round::Centralise => [1, 0, 0],
            Round::Adaptive(share, least) => [2, share.to_bits(), least.to_bits()],
            Round::Each(norm) => [3, norm.to_bits(), 0],
        }
    }

    /// Elements of a unit of a parameter; `None` if it leaves such parameters alone.
    fn unit(self, shape: &Shape) -> Option<usize> {
        let row = if shape.len() > 1 { shape.elements() / shape[0] } else { shape.elements() };
        match self {
            // The mean of one element is that element: nothing would be left of its gradient.
            Round::Centralise => (shape.len() > 1 && row > 1).then_some(row),
            Round::Adaptive(..) => Some(row),
            Round::Each(_) => Some(shape.elements()),
        }
    }

    /// The same in f64, for a parameter with gradients that have the loss scale in them.
    pub fn reference(self, shape: &Shape, values: &[f64], gradients: &mut [f64], scale: f64) {
        let Some(unit) = self.unit(shape) else { return };
        for (gradients, values) in gradients.chunks_mut(unit).zip(values.chunks(unit)) {
            let norm = |values: &[f64], by: f64| values.iter().map(|x| (x / by).powi(2)).sum::<f64>().sqrt();
            let (factor, mean) = match self {
                Round::Centralise => (1.0, gradients.iter().sum::<f64>() / unit as f64),
                Round::Adaptive(share, least) => {
                    let (own, most) = (norm(gradients, scale), share * norm(values, 1.0).max(least));
                    (if own > most { most / own.max(1e-6) } else { 1.0 }, 0.0)
                }
                Round::Each(most) => ((most / (norm(gradients, scale) + 1e-6)).min(1.0), 0.0),
            };
            // What is not finite stays so, for the verdict to see.
            let sound = gradients.iter().all(|g| g.is_finite());
            gradients.iter_mut().for_each(|g| *g = if sound { *g * factor - mean } else { f64::NAN });
        }
    }
}

/// Where the sums of rounds lie.
pub(super) struct Room {
    /// Two a unit.
    sums: Arc<Arena>,
    /// Two a span.
    partials: Arc<Arena>,
}

impl Room {
    /// Makes room for the rounds of these options over all parameters.
    pub fn fit(own: &mut Option<Room>, device: &Device, options: &Options, layout: &[Placed]) -> Result<()> {
        let (mut units, mut spans) = (0, 0);
        for round in options.rounds() {
            let cut = |place: &Placed| {
                let unit = round.unit(&place.shape)?;
                Some((place.shape.elements() / unit, unit.div_ceil(SPAN)))
            };
            let all: Vec<(usize, usize)> = layout.iter().filter_map(cut).collect();
            units = units.max(all.iter().map(|(units, _)| units).sum());
            spans = spans.max(all.iter().map(|(units, spans)| units * spans).sum());
        }
        let holds = |own: &Room| own.sums.elements >= 2 * units && own.partials.elements >= 2 * spans;
        if units == 0 || own.as_ref().is_some_and(holds) {
            return Ok(());
        }
        let room = |count: usize| 2 * count.next_multiple_of(64);
        let sums = device.arena("sums over units", room(units))?;
        *own = Some(Room { sums, partials: device.arena("partial sums over units", room(spans))? });
        Ok(())
    }

    /// Changes whenever its arenas do.
    pub fn key(&self) -> u64 {
        self.sums.id
    }
}

/// The parameters of a chunk whose gradients are changed.
#[derive(Default)]
pub(super) struct Owners {
    /// For each block 0, or 1 + the number of its parameter among these.
    pub blocks: Vec<u32>,
    /// Four words a parameter.
    pub words: Vec<u32>,
}

impl Owners {
    pub fn of(chunk: &Chunk) -> Owners {
        Owners { blocks: vec![0; chunk.values.elements / BLOCK], words: vec![] }
    }

    /// Adds a parameter: its first element, how many it has, and two words more.
    pub fn add(&mut self, place: &Placed, more: [u32; 2]) {
        let elements = place.shape.elements();
        self.words.extend([place.offset as u32, elements as u32, more[0], more[1]]);
        let number = (self.words.len() / 4) as u32;
        self.blocks[place.offset / BLOCK..][..elements.div_ceil(BLOCK)].fill(number);
    }

    /// Binds both tables.
    pub fn bind(self, kernel: &mut ArenaKernel) {
        kernel.bind(ArenaBinding::read(Bound::Table(self.blocks.into()), "blocks", "u32"));
        kernel.bind(ArenaBinding::read(Bound::Table(self.words.into()), "owners", "vec4<u32>"));
    }
}

params! {
    /// Sizes of the sums over spans.
    struct Spans {
        spans,
        /// Number of its first partial sum.
        first,
    }
}

params! {
    /// Sizes of the change of gradients.
    struct Changes {
        elements,
        nan: u32,
        most: f32,
        least: f32,
    }
}

/// A chunk, cut into units.
struct Cut<'a> {
    chunk: &'a Chunk,
    gradients: &'a Arc<Arena>,
    owners: Owners,
    /// First and last element of each span.
    spans: Vec<u32>,
    /// Number of its first span.
    first: usize,
}

/// The kernels of one round over the parameters to be updated, which are given by chunk.
pub(super) fn kernels(
    round: Round,
    chunks: &[Chunk],
    updated: &[Vec<&Placed>],
    room: &Room,
    scale: &Arc<Arena>,
    costs: &Costs,
) -> Result<Vec<ArenaKernel>> {
    let mut cuts = vec![];
    // (unit, first span, how many) of each unit.
    let mut parts: Vec<[u32; 3]> = vec![];
    let mut first = 0;
    for (chunk, places) in chunks.iter().zip(updated) {
        let gradients = chunk.gradients.as_ref().ok_or_else(|| Error::internal("a chunk without gradients"))?;
        let mut cut = Cut { chunk, gradients, owners: Owners::of(chunk), spans: vec![], first };
        for place in places {
            let Some(unit) = round.unit(&place.shape) else { continue };
            cut.owners.add(place, [unit as u32, parts.len() as u32]);
            for start in (0..place.shape.elements()).step_by(unit).map(|start| place.offset + start) {
                let spans = (start..start + unit).step_by(SPAN);
                parts.push([parts.len() as u32, (first + cut.spans.len() / 2) as u32, spans.len() as u32]);
                cut.spans.extend(spans.flat_map(|span| [span, (span + SPAN).min(start + unit)]).map(|at| at as u32));
            }
        }
        first += cut.spans.len() / 2;
        cuts.extend((!cut.spans.is_empty()).then_some(cut));
    }
    // Where each unit is one span, what is left of it is its sum.
    let most = parts.iter().map(|part| part[2]).max().unwrap_or(0);
    let partials = if most > 1 { &room.partials } else { &room.sums };
    let mut kernels: Vec<ArenaKernel> = cuts.iter().map(|cut| cut.sum(round, partials, scale, costs)).collect();
    if most > 1 {
        let mut kernel = Kernel::own("round.sum", Shader::of(&[&MEASURE_SUM]));
        kernel.uniform(Join { parameters: parts.len() });
        kernel.workgroups = parts.len() as u64;
        kernel.iterations = u64::from(most.div_ceil(64)) + 6;
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(partials, "partial", "vec2<f32>"));
        kernel.bind(ArenaBinding::write(&room.sums, "sums", "vec2<f32>"));
        kernel.bind(ArenaBinding::read(Bound::Table(parts.concat().into()), "parts", "u32"));
        kernels.push(kernel);
    }
    kernels.extend(cuts.into_iter().map(|cut| cut.change(round, &room.sums, costs)));
    Ok(kernels)
}

impl Round {
    fn name(self) -> &'static str {
        match self {
            Round::Centralise => "centralise",
            Round::Adaptive(..) => "clip_adaptive",
            Round::Each(_) => "clip_each",
        }
    }

    /// `fn term(i)`, what element i adds to the sums: its gradient, or the squares of gradient and weight.
    fn term(self) -> Item {
        let lines = match self {
            Round::Centralise => "    return vec2<f32>($gradients$[i], 0.0);\n",
            Round::Adaptive(..) => {
                "    let pair = vec2<f32>($gradients$[i] / $loss_scale$, $theta$[i]);\n    return pair * pair;\n"
            }
            Round::Each(_) => "    let g = $gradients$[i] / $loss_scale$;\n    return vec2<f32>(g * g, 0.0);\n",
        };
        Item::new("term", format!("fn $term$(i: u32) -> vec2<f32> {{\n{lines}}}\n"))
    }

    /// `fn change_of(sum, count)`: what gradients of a unit are multiplied by, and what is then taken from them.
    fn change_of(self) -> Item {
        let lines = match self {
            Round::Centralise => "    return vec2<f32>(1.0, sum.x / f32(count));\n",
            Round::Adaptive(..) => {
                "    let norm = sqrt(sum.x);
    let most = $p$.most * max(sqrt(sum.y), $p$.least);
    return vec2<f32>(select(1.0, most / max(norm, 1e-6), norm > most), 0.0);\n"
            }
            Round::Each(_) => "    return vec2<f32>(min(1.0, $p$.most / (sqrt(sum.x) + 1e-6)), 0.0);\n",
        };
        Item::new("change_of", format!("fn $change_of$(sum: vec2<f32>, count: u32) -> vec2<f32> {{\n{lines}}}\n"))
    }
}

impl Cut<'_> {
    /// The kernel that sums its spans.
    fn sum(&self, round: Round, partials: &Arc<Arena>, scale: &Arc<Arena>, costs: &Costs) -> ArenaKernel {
        let spans = self.spans.len() / 2;
        let main = if costs.dear_barriers { &UNITS_LANES } else { &UNITS };
        let mut shader = Shader::of(&[main]).item(round.term());
        let scaled = round != Round::Centralise;
        if scaled {
            shader = shader.file(&UNITS_SCALE);
        }
        let mut kernel = Kernel::own(format!("{}.measure", round.name()), shader);
        kernel.uniform(Spans { spans, first: self.first });
        (kernel.workgroups, kernel.iterations) = match costs.dear_barriers {
            true => (spans.div_ceil(64) as u64, SPAN as u64),
            false => (spans as u64, SPAN.div_ceil(64) as u64 + 6),
        };
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::read(self.gradients, "gradients", "f32"));
        if matches!(round, Round::Adaptive(..)) {
            kernel.bind(ArenaBinding::read(&self.chunk.values, "theta", "f32"));
        }
        if scaled {
            kernel.bind(ArenaBinding::read(scale, "scaling", "f32"));
        }
        kernel.bind(ArenaBinding::write(partials, "partial", "vec2<f32>"));
        kernel.bind(ArenaBinding::read(Bound::Table(self.spans.as_slice().into()), "spans", "u32"));
        kernel
    }

    /// The kernel that changes its gradients.
    fn change(self, round: Round, sums: &Arc<Arena>, costs: &Costs) -> ArenaKernel {
        let elements = self.chunk.values.elements;
        let each = if costs.dear_loads { BLOCK } else { 1 };
        let shader = Shader::of(&[&UNITS_APPLY]).item(round.change_of()).constant("EACH", each);
        let mut kernel = Kernel::own(round.name(), shader);
        let (most, least) = match round {
            Round::Centralise => (0.0, 0.0),
            Round::Adaptive(share, least) => (share, least),
            Round::Each(norm) => (norm, 0.0),
        };
        let nan = f32::NAN.to_bits();
        kernel.uniform(Changes { elements, nan, most: most as f32, least: least as f32 });
        kernel.workgroups = elements.div_ceil(64 * each) as u64;
        kernel.iterations = each as u64;
        kernel.bytes = Some(elements as u64 * 8);
        let mut kernel = ArenaKernel { kernel, arenas: vec![] };
        kernel.bind(ArenaBinding::write(self.gradients, "gradients", "f32"));
        kernel.bind(ArenaBinding::read(sums, "sums", "vec2<f32>"));
        self.owners.bind(&mut kernel);
        kernel
    }
}

/// True if the kernels of a step change gradients.
pub(super) fn any(options: &Options) -> bool {
    options.noise.is_some() || !options.rounds().is_empty()
}
