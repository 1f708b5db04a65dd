//! Kernels that walk over the elements of channels: what the ops of batch normalisation have in common.

use crate::costs::Parts;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::ops::rows::{join_lanes, lane_functions};
use crate::ops::shared::{EACH, team_of};
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

    /// Constants and functions of the walk. `per_channel`: bindings of arrays over channels with the function that reads
    /// each: `name_of(channel)`, or with a row number before it where the array has several rows.
    fn head(&self, per_channel: &[(usize, &str, bool)]) -> String {
        let (lanes, along, ..) = self.in_values();
        let mut text = format!(
            "const LANES: u32 = {lanes}u;\nconst ALONG: bool = {along};\n{}{}",
            lane_functions(lanes, along),
            include_str!("../../../shaders/batch_norm/walk.wgsl")
        );
        let wide = lanes == 4 && !along;
        let element = if wide { "F" } else { "f32" };
        for &(binding, name, rows) in per_channel {
            let (parameters, at) = match rows {
                true => ("k: u32, channel: u32", "k * p.channels + channel"),
                false => ("channel: u32", "channel"),
            };
            text += &format!(
                "@group(0) @binding({binding}) var<storage, read> {name}_data: array<{element}>;\n\
                 fn {name}({parameters}) -> F {{\n    return F({name}_data[{at}]);\n}}\n"
            );
        }
        text
    }

    fn params(&self, parts: usize, step: usize, epsilon: f64) -> Vec<u32> {
        let (_, _, channels, length, total) = self.in_values();
        let mut words: Vec<u32> =
            [channels, length, total, parts, total.div_ceil(parts), step, step / length, step % length]
                .map(|word| word as u32)
                .into();
        words.extend([epsilon, 1.0 / self.count() as f64].map(|number| (number as f32).to_bits()));
        words
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
        let result = if lanes == 4 && !along { "F" } else { "f32" };
        let put = if lanes == 4 && along { "x.x" } else { "x" };
        let (join, entry) = match width {
            1 => (String::new(), include_str!("../../../shaders/batch_norm/alone.wgsl").to_string()),
            width => (join_lanes(width as u32, is_subgroup, fold.state), team_of(width as u32)),
        };
        let source = format!(
            "{}const PARTIAL: bool = {};\n\
             @group(0) @binding({}) var<storage, read_write> result: array<{result}>;\n\
             fn put(row: u32, channel: u32, x: F) {{\n    result[row * p.channels + channel] = {put};\n}}\n{join}{}{}{}",
            self.head(fold.per_channel),
            parts > 1,
            fold.bindings.len() - 1,
            include_str!("../../../shaders/batch_norm/fold.wgsl"),
            entry,
            fold.text
        );
        let name = match (width, is_subgroup) {
            (1, _) => fold.name.to_string(),
            (_, true) => format!("{}.subgroup", fold.name),
            (_, false) => format!("{}.workgroup", fold.name),
        };
        let mut kernel = Kernel::own(name, source);
        kernel.bindings = fold.bindings;
        kernel.params = self.params(parts, width, fold.epsilon);
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
        let source = format!(
            "{EACH}{}@group(0) @binding({}) var<storage, read_write> result: array<OUT>;\n{}{}",
            self.head(map.per_channel),
            map.bindings.len() - 1,
            include_str!("../../../shaders/batch_norm/map.wgsl"),
            map.text
        );
        let mut kernel = Kernel::own(map.name, source);
        kernel.bindings = map.bindings;
        kernel.params = self.params(parts, parts, map.epsilon);
        kernel.workgroups = ((parts * channels) as u64).div_ceil(64);
        kernel.iterations = steps as u64 + 1;
        kernel.prologue = true;
        kernel.epilogue = true;
        kernel.lanes = lanes;
        kernel
    }
}

/// What an op brings to a fold.
pub struct Fold<'a> {
    pub name: &'static str,
    pub text: String,
    /// Members of its `State`.
    pub state: &'a [&'a str],
    pub per_channel: &'a [(usize, &'a str, bool)],
    /// Bindings 0, 1, .., the result last; input 0 is read through the prologue.
    pub bindings: Vec<Binding>,
    pub epsilon: f64,
}

/// What an op brings to a map.
pub struct Map<'a> {
    pub name: &'static str,
    pub text: String,
    pub per_channel: &'a [(usize, &'a str, bool)],
    /// Bindings 0, 1, .., the result last; input 0 is read through the prologue.
    pub bindings: Vec<Binding>,
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
