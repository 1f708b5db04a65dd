//! Batch normalisation (Ioffe and Szegedy 2015): y = (x - mean) / sqrt(variance + epsilon) * w + b, with the mean and the
//! biased variance of each channel over the batch, or with given ones.
//!
//! Statistics are one read of x, merged in a fixed order; the result is one more, with what follows it in the epilogue.
//! Backward, the two sums over dy and dy h are the gradients of bias and weight, and all that dx needs besides.

mod backward;
mod channels;
mod ranks;
mod statistics;

pub use backward::{BatchNormBackward, BatchNormSums};
pub use ranks::BatchNormOfRanks;
pub use statistics::BatchNormStatistics;

use channels::{Channels, Map, PerChannel, check};

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::shader::Item;
use crate::shaders;
use crate::tensor::Tensor;

/// The channels of input 0, `[n, channels, ..]`, normalised with the statistics in input 1: `[2, channels]`, mean and variance, or
/// `[3, channels]`, those of the batch, whose mean is the sum of the first and the third row ([`BatchNormStatistics`]); times input 2 and plus input 3, `[channels]`, where there are any.
#[derive(Debug)]
pub struct BatchNorm {
    /// Added to the variance.
    pub epsilon: f64,
    /// True if the statistics are those of input 0 ([`BatchNormStatistics`]): its gradient counts them as functions of
    /// it. Either way none flows to input 1.
    pub of_batch: bool,
    /// Whether there is a weight.
    pub weight: bool,
    /// Whether there is a bias.
    pub bias: bool,
}

impl Tensor {
    /// Batch normalisation with the statistics of this tensor, shape `[n, channels, ..]`, f32 or f16: each channel has
    /// mean 0 and variance 1 (`epsilon` is added to the variance), times `weight` plus `bias`, both `[channels]`. As
    /// `torch.nn.functional.batch_norm` with `training=True`; [`Tensor::batch_statistics`] has the numbers for running
    /// statistics, which the planner forms once for both.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] without channels, with one element a channel (its variance is of no
    /// meaning) or for weights of another shape, [`crate::Error::DType`] for integers, [`crate::Error::Value`] for a
    /// negative `epsilon`.
    #[track_caller]
    pub fn batch_norm(&self, weight: Option<&Tensor>, bias: Option<&Tensor>, epsilon: f64) -> Tensor {
        let x = self.widen();
        let statistics = Tensor::apply(BatchNormStatistics, &[&x]);
        x.normalise_channels(&statistics, weight, bias, epsilon, true).cast(self.meta().dtype)
    }

    /// [`Tensor::batch_norm`] with a given `mean` and `variance`, `[channels]`, to which no gradient flows: what is used
    /// after training. As `torch.nn.functional.batch_norm` with `training=False`.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`]; one element a channel is enough.
    #[track_caller]
    pub fn batch_norm_with(
        &self,
        mean: &Tensor,
        variance: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        epsilon: f64,
    ) -> Tensor {
        let statistics = Tensor::stack(&[&mean.widen(), &variance.widen()], 0).detach();
        self.widen().normalise_channels(&statistics, weight, bias, epsilon, false).cast(self.meta().dtype)
    }

    /// Mean and biased variance, f32, of each channel of a tensor `[n, channels, ..]`, f32 or f16: `[channels]` each.
    ///
    /// # Errors
    /// As [`Tensor::batch_norm`].
    #[track_caller]
    pub fn batch_statistics(&self) -> [Tensor; 2] {
        let statistics = Tensor::apply(BatchNormStatistics, &[&self.widen()]);
        if statistics.error().is_some() {
            return [statistics.clone(), statistics];
        }
        let channels = statistics.dims()[1];
        let [first, variance, rest] = [0, 1, 2].map(|k| statistics.slice_fixed(0, k, 1).reshape(&[channels]));
        [first + rest, variance]
    }

    #[track_caller]
    fn normalise_channels(
        &self,
        statistics: &Tensor,
        weight: Option<&Tensor>,
        bias: Option<&Tensor>,
        epsilon: f64,
        of_batch: bool,
    ) -> Tensor {
        if epsilon.is_nan() || epsilon < 0.0 {
            let what = format!("epsilon is {epsilon}");
            return self.problem("batch_norm", Problem::Value(what, "pass a number from 0 on, such as 1e-5"));
        }
        let (weight, bias) = (weight.map(Tensor::widen), bias.map(Tensor::widen));
        let op = BatchNorm { epsilon, of_batch, weight: weight.is_some(), bias: bias.is_some() };
        let inputs: Vec<&Tensor> =
            [Some(self), Some(statistics), weight.as_ref(), bias.as_ref()].into_iter().flatten().collect();
        Tensor::apply(op, &inputs)
    }
}

/// The statistics, input `input`: `statistic(k, channel)`.
fn statistics_at(input: usize) -> PerChannel {
    PerChannel { input, name: "statistic", data: "statistic_data", rows: true }
}

/// The weight, which input it is if there is one: `weight_of(channel)`.
fn weight_at(input: usize) -> PerChannel {
    PerChannel { input, name: "weight_of", data: "weight_of_data", rows: false }
}

/// The bias, as the weight.
fn bias_at(input: usize) -> PerChannel {
    PerChannel { input, name: "bias_of", data: "bias_of_data", rows: false }
}

/// The function for a weight or bias that is not there.
fn absent(name: &'static str, value: &str) -> Item {
    Item::new(name, format!("fn ${name}$(channel: u32) -> $F$ {{\n    return $F$({value});\n}}\n"))
}

/// Rows of a channel's statistics.
fn rows_of(of_batch: bool) -> usize {
    if of_batch { 3 } else { 2 }
}

/// The mean of a channel, from statistics of either kind.
fn mean_of(statistics: &[f64], channels: usize, channel: usize) -> f64 {
    statistics[channel] + statistics.get(2 * channels + channel).unwrap_or(&0.0)
}

/// `rest_of(channel)`: what the mean has beyond the first row of the statistics.
fn rest(of_batch: bool) -> Item {
    let value = if of_batch { "$statistic$(2u, channel)" } else { "$F$(0.0)" };
    Item::new("rest_of", format!("fn $rest_of$(channel: u32) -> $F$ {{\n    return {value};\n}}\n"))
}

/// One element a channel, lengths that four divides and does not, vectors of channels, few and many channels.
const SHAPES: [(&str, &[usize]); 7] = [
    ("images", &[5, 3, 7, 4]),
    ("odd_images", &[3, 37, 5, 3]),
    ("rows", &[131, 12]),
    ("odd_rows", &[37, 5]),
    ("signals", &[2, 20, 67]),
    ("one_channel", &[3, 1, 37, 36]),
    ("two_rows", &[2, 131]),
];

/// The bound of normalised values and their gradients over `count` elements a channel.
fn bound(shape: &[usize]) -> Tolerance {
    let count = shape.iter().product::<usize>() / shape[1];
    // Two elements may lie close together: dividing by their deviation enlarges every rounding.
    let absolute = if count < 8 { 2e-3 } else { 4e-6 + 1e-6 * (count as f64).sqrt() };
    Tolerance::Pointwise { absolute, relative: 1e-5 }
}

impl Op for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        let flags = [self.of_batch, self.weight, self.bias].map(u64::from);
        words.push(self.epsilon.to_bits());
        words.extend(flags);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Channels { channels, .. } = check(inputs)?;
        if inputs[1].shape[..] != [rows_of(self.of_batch), channels] {
            let what = format!("statistics of shape {} for {channels} channels", inputs[1].shape);
            return Err(Problem::Shape(what, "pass a mean and a variance for each channel"));
        }
        match inputs[2..].iter().find(|meta| meta.shape[..] != [channels]) {
            Some(meta) => {
                let what = format!("a weight or bias of shape {} for {channels} channels", meta.shape);
                Err(Problem::Shape(what, "give it one element for each channel"))
            }
            None => Ok(vec![inputs[0]]),
        }
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [x, statistics, grad] = [&backward.inputs[0], &backward.inputs[1], backward.grad];
        let weight = self.weight.then(|| &backward.inputs[2]);
        let wants_weights = backward.needs[2..].contains(&true);
        let sums = (wants_weights || self.of_batch && backward.needs[0]).then(|| {
            Tensor::apply(BatchNormSums { epsilon: self.epsilon, of_batch: self.of_batch }, &[grad, x, statistics])
        });
        let from_x = backward.needs[0].then(|| match &sums {
            Some(sums) if self.of_batch => {
                let op = BatchNormBackward { epsilon: self.epsilon, weight: self.weight };
                let inputs: Vec<&Tensor> =
                    [Some(grad), Some(x), Some(statistics), Some(sums), weight].into_iter().flatten().collect();
                Tensor::apply(op, &inputs)
            }
            _ => grad * scale(statistics, weight, self.epsilon, x.dims().rank()),
        });
        let mut gradients = vec![from_x, None];
        for (k, present) in [self.weight, self.bias].into_iter().enumerate() {
            let part = |sums: &Tensor| {
                let row = sums.slice_fixed(0, k, 1);
                row.reshape(&[row.dims().elements()])
            };
            gradients.extend(present.then(|| sums.as_ref().filter(|_| wants_weights).map(part)));
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let channels = output.shape[1];
        let statistics = &inputs[1].data;
        let weight = |c: usize| if self.weight { inputs[2].data[c] } else { 1.0 };
        let bias = |c: usize| if self.bias { inputs[inputs.len() - 1].data[c] } else { 0.0 };
        let length: usize = output.shape[2..].iter().product();
        let one = |(i, x): (usize, &f64)| {
            let c = i / length % channels;
            (x - mean_of(statistics, channels, c)) / (statistics[channels + c] + self.epsilon).sqrt() * weight(c)
                + bias(c)
        };
        vec![Array {
            shape: output.shape,
            dtype: output.dtype,
            data: inputs[0].data.iter().enumerate().map(one).collect(),
        }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let channels = Channels::new(&output.shape);
        let mut shader = Shader::of(&[&shaders::batch_norm::NORMALISE]).item(rest(self.of_batch));
        let mut per_channel = vec![statistics_at(1)];
        match self.weight {
            true => per_channel.push(weight_at(2)),
            false => shader.items.push(absent("weight_of", "1.0")),
        }
        match self.bias {
            true => per_channel.push(bias_at(inputs.len() - 1)),
            false => shader.items.push(absent("bias_of", "0.0")),
        }
        let map = Map { name: "batch_norm", shader, bound: vec![], per_channel, epsilon: self.epsilon };
        Lowering::kernel(channels.map(map, capabilities))
    }

    fn cases() -> Vec<Case> {
        let mut cases = vec![];
        for (name, shape) in SHAPES {
            let channels = [shape[1]];
            let case = Case::new(name, |x| x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-2));
            cases.push(case.normal(shape).normal(&channels).normal(&channels).tolerance(bound(shape)));
            let given = Case::new(format!("given_{name}"), |x| {
                let [mean, variance] = given_statistics(&x[1]);
                x[0].batch_norm_with(&mean, &variance, Some(&x[1]), Some(&x[2]), 1e-5)
            });
            let given = given.normal(shape).normal(&channels).normal(&channels).tolerance(bound(shape));
            cases.push(given);
        }
        let plain = Case::new("plain", |x| x[0].batch_norm(None, None, 1e-5));
        cases.push(plain.normal(&[4, 3, 5]).tolerance(bound(&[4, 3, 5])));
        let bias = Case::new("bias_only", |x| x[0].batch_norm(None, Some(&x[1]), 1e-5));
        cases.push(bias.normal(&[4, 12, 5]).normal(&[12]).tolerance(bound(&[4, 12, 5])));
        // A mean that is large beside the deviation: squares less the square of the mean would lose three digits.
        // Rounding x + 50 moves each element by up to 2e-6.
        let shifted = Case::new("far_from_zero", |x| x[0].offset(50.0).batch_norm(None, None, 1e-5));
        cases.push(shifted.normal(&[37, 4, 4, 4]).tolerance(Tolerance::Pointwise { absolute: 2e-5, relative: 2e-5 }));
        let far = [("far_images", &[16, 3, 9, 9][..]), ("far_rows", &[131, 12]), ("far_parts", &[2, 1, 256, 140])];
        for (name, shape) in far {
            let case = Case::new(name, |x| x[0].batch_norm(Some(&x[1]), Some(&x[2]), 1e-5));
            let case = case.input(shape, DType::F32, Draw::Uniform(998.0, 1_002.0));
            cases.push(case.normal(&[shape[1]]).normal(&[shape[1]]).tolerance(bound(shape)));
        }
        let fused = Case::new("between", |x| (&x[0] * 2.0).batch_norm(Some(&x[1]), None, 1e-5).relu() + &x[2]);
        let shape = [3, 5, 4, 4];
        cases.push(fused.normal(&shape).normal(&[5]).normal(&shape).tolerance(bound(&shape)));
        let both = Case::new("with_statistics", |x| {
            let [mean, variance] = x[0].batch_statistics();
            x[0].batch_norm(None, None, 1e-5) * (mean + variance).reshape(&[5, 1])
        });
        cases.push(both.normal(&[3, 5, 12]).tolerance(bound(&[3, 5, 12])));
        cases
    }
}

/// A mean and a variance for each channel of `like`, to test with: no variables.
fn given_statistics(like: &Tensor) -> [Tensor; 2] {
    let numbers = like.device().arange(like.dims().elements(), DType::F32);
    [numbers.scale(0.1), numbers.scale(0.25).offset(0.5)]
}

/// w / sqrt(variance + epsilon), shaped to go with a tensor of `rank` axes.
fn scale(statistics: &Tensor, weight: Option<&Tensor>, epsilon: f64, rank: usize) -> Tensor {
    let channels = statistics.dims()[1];
    let mut dims = vec![1; rank - 1];
    dims[0] = channels;
    let deviation = statistics.slice_fixed(0, 1, 1).reshape(&dims).offset(epsilon).sqrt();
    match weight {
        Some(weight) => weight.reshape(&dims) / deviation,
        None => deviation.recip(),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Error};

    #[test]
    fn one_element_a_channel_and_weights_of_another_shape_are_refused() {
        let device = Device::cpu();
        let single = device.zeros(&[1, 3]).batch_norm(None, None, 1e-5);
        assert!(matches!(single.error(), Some(Error::Shape { .. })), "{single:?}");
        let x = device.zeros(&[2, 3, 4]);
        let wrong = x.batch_norm(Some(&device.zeros(&[4])), None, 1e-5);
        assert!(matches!(wrong.error(), Some(Error::Shape { op: "batch_norm", .. })), "{wrong:?}");
        assert!(matches!(device.zeros(&[7]).batch_norm(None, None, 1e-5).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.batch_norm(None, None, f64::NAN).error(), Some(Error::Value { op: "batch_norm", .. })));
    }
}
