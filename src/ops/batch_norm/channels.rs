//! Kernels that walk over the elements of channels: what the ops of batch normalisation have in common.

use crate::costs::Parts;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::ops::rows::{Bound, RESULT, WHOLE, join_lanes, lane_functions};
use crate::ops::shared::{each, team};
use crate::shader::{Item, params};
use crate::shaders;
use crate::shape::Shape;

/// Iterations of a walk at most.
const MAX_WALK: usize = 50_000;

/// A tensor `[n, channels, ..]`.
#[derive(Debug, Clone, Copy)]
pub struct Channels {
    pub n: usize,
    pub channels: usize,
    /// Elements of a channel of one image.
    pub length: usize,
}

impl Channels {
    /// Of a shape that has channels.
    pub fn new(shape: &Shape) -> Channels {
        Channels { n: shape[0], channels: shape[1], length: shape[2..].iter().product() }
    }

    /// Elements of a channel.
    pub fn count(&self) -> usize {
        self.n * self.length
    }

    /// How many elements a value holds, and whether they lie along the length (or are of four channels).
    fn lanes(&self) -> (usize, bool) {
        match (self.length.is_multiple_of(4), self.length == 1 && self.channels.is_multiple_of(4)) {
            (true, _) => (4, true),
            (_, true) => (4, false),
            _ => (1, true),
        }
    }

    /// Lanes, channels, length and values of a channel, in values.
    fn in_values(&self) -> (usize, bool, usize, usize, usize) {
        let (lanes, along) = self.lanes();
        let channels = if along { self.channels } else { self.channels / lanes };
        let length = if along { self.length / lanes } else { 1 };
        (lanes, along, channels, length, self.n * length)
    }

    /// The walk, and functions that read what is bound for each channel.
    fn walk(&self, per_channel: &[PerChannel]) -> Shader {
        let (lanes, along, ..) = self.in_values();
        let walk = lane_functions(lanes, along).file(&shaders::batch_norm::WALK).constant("ALONG", along);
        per_channel.iter().fold(walk, |walk, of| walk.item(of.function()))
    }

    /// Type of what is bound for each channel.
    fn element(&self) -> &'static str {
        if let (4, false) = self.lanes() { "$F$" } else { "f32" }
    }

    /// Binds the operands of a kernel: input 0, which is read through the prologue, then these.
    fn bind(&self, kernel: &mut Kernel, bound: Vec<Bound>, per_channel: &[PerChannel], result: Bound) {
        kernel.bindings.push(Binding::input(0));
        let read = per_channel.iter().map(|of| (Binding::input(of.input), of.data, self.element()));
        for (binding, name, element) in bound.into_iter().chain(read).chain([result]) {
            kernel.bind(binding, name, element);
        }
    }

    fn sizes(&self, parts: usize, step: usize, epsilon: f64) -> Sizes {
        let (_, _, channels, length, total) = self.in_values();
        Sizes {
            channels,
            length,
            total,
            parts,
            per_part: total.div_ceil(parts),
            step,
            step_n: step / length,
            step_i: step % length,
            epsilon: epsilon as f32,
            share: (1.0 / self.count() as f64) as f32,
        }
    }

    /// A kernel that folds each channel to `rows` numbers, and the number of parts whose results follow one another.
    pub fn fold(&self, fold: Fold, capabilities: &Capabilities) -> (Kernel, usize) {
        let (lanes, along, channels, _, total) = self.in_values();
        // Who takes a part of a channel: a subgroup, a workgroup, or one invocation where barriers cost more.
        let subgroup = capabilities.subgroup.filter(|width| width.is_power_of_two());
        let costs = capabilities.costs();
        let (width, is_subgroup) = match (costs.dear_barriers, subgroup) {
            (true, Some(width)) => (width as usize, true),
            (true, None) => (1, false),
            (false, Some(width)) if total <= 16 * width as usize => (width as usize, true),
            (false, _) => (256, false),
        };
        let Parts { enough, least } = if width == 1 { costs.channel_sum_alone } else { costs.channel_sum };
        let parts = (enough / channels).min(total / least).max(total.div_ceil(MAX_WALK * width)).max(1);
        let parts = total.div_ceil(total.div_ceil(parts));
        let put = if lanes == 4 && along { "x.x" } else { "x" };
        let put = format!(
            "fn $put$(row: u32, channel: u32, x: $F$) {{\n    $result$[row * $p$.channels + channel] = {put};\n}}\n"
        );
        let shader = self.walk(&fold.per_channel).constant("PARTIAL", parts > 1).item(Item::new("put", put));
        let shader = shader.file(&shaders::batch_norm::FOLD).join(fold.shader);
        let shader = match width {
            1 => each(shader.file(&shaders::batch_norm::ALONE)),
            _ => {
                let joined = shader.file(WHOLE).join(join_lanes(width as u32, is_subgroup, fold.state));
                team(joined.file(&shaders::batch_norm::TOGETHER), width as u32)
            }
        };
        let name = match (width, is_subgroup) {
            (1, _) => fold.name.to_string(),
            (_, true) => format!("{}.subgroup", fold.name),
            (_, false) => format!("{}.workgroup", fold.name),
        };
        let mut kernel = Kernel::own(name, shader);
        self.bind(&mut kernel, fold.bound, &fold.per_channel, (Binding::output(), "result", self.element()));
        kernel.uniform(self.sizes(parts, width, fold.epsilon));
        let units = (parts * channels) as u64;
        kernel.workgroups = if width == 1 { units.div_ceil(64) } else { units };
        kernel.iterations = (total.div_ceil(parts) / width + 12) as u64;
        kernel.prologue = true;
        kernel.lanes = lanes;
        (kernel, parts)
    }

    /// A kernel that writes each element of each channel.
    pub fn map(&self, map: Map, capabilities: &Capabilities) -> Kernel {
        let (lanes, _, channels, _, total) = self.in_values();
        let steps = capabilities.costs().channel_walk;
        let parts = total.div_ceil(steps);
        let shader = each(self.walk(&map.per_channel).file(&shaders::batch_norm::MAP).join(map.shader));
        let mut kernel = Kernel::own(map.name, shader);
        self.bind(&mut kernel, map.bound, &map.per_channel, RESULT);
        kernel.uniform(self.sizes(parts, parts, map.epsilon));
        kernel.workgroups = ((parts * channels) as u64).div_ceil(64);
        kernel.iterations = steps as u64 + 1;
        kernel.prologue = true;
        kernel.epilogue = true;
        kernel.lanes = lanes;
        kernel
    }
}

params! {
    /// Channels, lengths and steps are in values.
    struct Sizes {
        channels,
        length,
        /// Values of a channel: n * length.
        total,
        parts,
        /// total / parts, rounded up.
        per_part,
        /// A step between values that an invocation takes, as whole lengths and the rest.
        step,
        step_n,
        step_i,
        epsilon: f32,
        /// 1 over the number of elements of a channel.
        share: f32,
    }
}

/// An input that has numbers for each channel.
pub struct PerChannel {
    pub input: usize,
    /// The function that reads it: `name(channel)`, or `name(k, channel)` where it has several rows.
    pub name: &'static str,
    /// What it is bound as.
    pub data: &'static str,
    pub rows: bool,
}

impl PerChannel {
    fn function(&self) -> Item {
        let (name, data) = (self.name, self.data);
        let (parameters, at) = match self.rows {
            true => ("k: u32, channel: u32", "k * $p$.channels + channel"),
            false => ("channel: u32", "channel"),
        };
        Item::new(name, format!("fn ${name}$({parameters}) -> $F$ {{\n    return $F$(${data}$[{at}]);\n}}\n"))
    }
}

/// What an op brings to a fold.
pub struct Fold<'a> {
    pub name: &'static str,
    pub shader: Shader,
    /// Members of its `State`.
    pub state: &'a [&'a str],
    /// What is bound behind input 0, which is read through the prologue; what has numbers for each channel and the result follow.
    pub bound: Vec<Bound>,
    pub per_channel: Vec<PerChannel>,
    pub epsilon: f64,
}

/// What an op brings to a map.
pub struct Map {
    pub name: &'static str,
    pub shader: Shader,
    /// As for a fold.
    pub bound: Vec<Bound>,
    pub per_channel: Vec<PerChannel>,
    pub epsilon: f64,
}

/// `Err` unless the inputs are f32, and the first has channels.
pub fn check(inputs: &[Meta]) -> Result<Channels, Problem> {
    if let Some(meta) = inputs.iter().find(|meta| meta.dtype != DType::F32) {
        return Err(Problem::DType(format!("it takes floats, not {}", meta.dtype)));
    }
    let shape = &inputs[0].shape;
    if shape.rank() < 2 {
        return Err(Problem::Shape(format!("shape {shape} has no channels"), "pass [n, channels, ..]"));
    }
    Ok(Channels::new(shape))
}
