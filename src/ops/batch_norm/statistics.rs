//! Mean and variance of channels.

use super::channels::{Channels, Fold, check};
use super::{SHAPES, bound};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::ops::rows::MOMENTS;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Of each channel of `[n, channels, ..]` its first element, the biased variance, and its mean less the first element: `[3, channels]`. In one
/// f32 a large mean would be off by more than numbers near it can bear. The first element counts as given: a gradient of the mean goes to
/// the third number.
#[derive(Debug)]
pub struct BatchNormStatistics;

impl Op for BatchNormStatistics {
    fn name(&self) -> &'static str {
        "batch_norm_statistics"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let channels = check(inputs)?;
        if channels.count() == 1 {
            let what = format!("there is one element for each channel of shape {}", inputs[0].shape);
            return Err(Problem::Shape(what, "train on more than one element a channel"));
        }
        Ok(vec![rows(3, channels)?])
    }

    /// 1/n for the mean and 2 (x - mean) / n for the variance.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let x = &backward.inputs[0];
        let shape = *x.dims();
        let mut dims = vec![1; shape.rank() - 1];
        dims[0] = shape[1];
        let row = |of: &Tensor, k: usize| of.slice_fixed(0, k, 1).reshape(&dims);
        let slope = row(backward.grad, 1).scale(2.0);
        let apart = (x - row(backward.output, 0)) - row(backward.output, 2);
        let total = apart * slope + row(backward.grad, 2);
        vec![Some(total.scale(shape[1] as f64 / shape.elements() as f64))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let (x, channels) = (inputs[0], output.shape[1]);
        let count = (x.data.len() / channels) as f64;
        let length: usize = x.shape[2..].iter().product();
        let number = |i: usize| i / length % channels;
        let mut data = vec![0.0; 3 * channels];
        let (first, rest) = data.split_at_mut(channels);
        let (variance, mean) = rest.split_at_mut(channels);
        (0..channels).for_each(|c| first[c] = x.data[c * length]);
        for (i, x) in x.data.iter().enumerate() {
            mean[number(i)] += (x - first[number(i)]) / count;
        }
        for (i, x) in x.data.iter().enumerate() {
            let apart = x - first[number(i)] - mean[number(i)];
            variance[number(i)] += apart * apart / count;
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let channels = Channels::new(&inputs[0].shape);
        let fold = Fold {
            name: "batch_norm_statistics",
            shader: Shader::of(&[&shaders::batch_norm::STATISTICS, MOMENTS]).constant("CENTRED", true),
            state: &["count", "mean", "square"],
            bound: vec![],
            per_channel: vec![],
            epsilon: 0.0,
        };
        let (mut first, parts) = channels.fold(fold, capabilities);
        if parts == 1 {
            return Lowering::kernel(first);
        }
        first.bindings[1] = Binding::write(0);
        let mut second = Kernel::own("batch_norm_join", each(Shader::of(&[&shaders::batch_norm::JOIN])));
        second.bind(Binding::read(0), "parts", "f32");
        second.bind(Binding::output(), "result", "f32");
        let share = (1.0 / channels.count() as f64) as f32;
        second.uniform(Join { channels: channels.channels, parts, share });
        second.workgroups = (channels.channels as u64).div_ceil(64);
        second.iterations = parts as u64;
        Lowering::Kernels { kernels: vec![first, second], temporaries: vec![parts * 4 * channels.channels] }
    }

    fn cases() -> Vec<Case> {
        let apply = |x: &[Tensor]| Tensor::stack(&x[0].batch_statistics().each_ref(), 0);
        let mut cases: Vec<Case> =
            SHAPES.iter().map(|(name, shape)| Case::new(*name, apply).normal(shape).tolerance(bound(shape))).collect();
        // Several parts a channel.
        for (name, shape) in [("parts", &[3, 2, 131, 129][..]), ("parts_four", &[2, 1, 256, 140])] {
            cases.push(Case::new(name, apply).normal(shape).tolerance(bound(shape)));
        }
        cases
    }
}

params! {
    /// The sizes of `batch_norm/join.wgsl`.
    struct Join { channels, parts, share: f32 }
}

/// `[rows, channels]`.
pub fn rows(rows: usize, channels: Channels) -> Result<Meta, Problem> {
    let too_large = || Problem::Shape(format!("{} channels", channels.channels), "pass fewer channels");
    Ok(Meta { shape: Shape::new(&[rows, channels.channels]).ok_or_else(too_large)?, dtype: DType::F32 })
}
