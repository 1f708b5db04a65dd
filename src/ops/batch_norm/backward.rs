//! Gradients of batch normalisation.

use super::channels::{Channels, Fold, Map, PerChannel, check};
use super::statistics::{BatchNormStatistics, rows};
use super::{SHAPES, absent, rest, statistics_at, weight_at};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::ops::shared::split_sum;
use crate::shaders;
use crate::tensor::Tensor;

/// For each channel, the sums of dy h and of dy, h = (x - mean) / sqrt(variance + epsilon): `[2, channels]`, from dy, x and
/// the statistics, as for [`super::BatchNorm`]. They are the gradients of weight and bias.
#[derive(Debug)]
pub struct BatchNormSums {
    /// Added to the variance.
    pub epsilon: f64,
    /// True if the statistics are those of x: the gradient counts them as functions of it.
    pub of_batch: bool,
}

/// Gradient of x, normalised with its own statistics: from dy, x, the statistics, [`BatchNormSums`] of these, and the weight
/// where there is one. dx = w r (dy - sum(dy) / n - h sum(dy h) / n), r = 1 / sqrt(variance + epsilon).
///
/// Its own gradient counts statistics and sums as functions of dy and x.
#[derive(Debug)]
pub struct BatchNormBackward {
    /// Added to the variance.
    pub epsilon: f64,
    /// Whether there is a weight.
    pub weight: bool,
}

/// What the formulas of second derivatives are made of.
struct Parts<'a> {
    x: &'a Tensor,
    statistics: &'a Tensor,
    epsilon: f64,
    of_batch: bool,
    dims: Vec<usize>,
    axes: Vec<usize>,
}

impl<'a> Parts<'a> {
    fn new(x: &'a Tensor, statistics: &'a Tensor, epsilon: f64, of_batch: bool) -> Parts<'a> {
        let mut dims = vec![1; x.dims().rank() - 1];
        dims[0] = x.dims()[1];
        let axes = (0..x.dims().rank()).filter(|&axis| axis != 1).collect();
        Parts { x, statistics, epsilon, of_batch, dims, axes }
    }

    fn row(&self, of: &Tensor, k: usize) -> Tensor {
        of.slice_fixed(0, k, 1).reshape(&self.dims)
    }

    /// 1 / sqrt(variance + epsilon).
    fn scale(&self) -> Tensor {
        super::scale(self.statistics, None, self.epsilon, self.x.dims().rank())
    }

    /// h.
    fn normal(&self) -> Tensor {
        let apart = self.x - self.row(self.statistics, 0);
        let apart = if self.of_batch { apart - self.row(self.statistics, 2) } else { apart };
        apart * self.scale()
    }

    fn mean(&self, of: Tensor) -> Tensor {
        of.mean_keep(&self.axes)
    }

    /// r (u - m(u) - h m(u h)).
    fn project(&self, u: &Tensor) -> Tensor {
        let sums =
            Tensor::apply(BatchNormSums { epsilon: self.epsilon, of_batch: true }, &[u, self.x, self.statistics]);
        let op = BatchNormBackward { epsilon: self.epsilon, weight: false };
        Tensor::apply(op, &[u, self.x, self.statistics, &sums])
    }
}

fn check_backward(inputs: &[Meta], of_batch: bool) -> Result<Channels, Problem> {
    let channels = check(inputs)?;
    let fits = inputs[1] == inputs[0] && inputs[2].shape[..] == [super::rows_of(of_batch), channels.channels];
    match fits {
        true => Ok(channels),
        false => Err(Problem::Shape("the inputs do not belong together".into(), "pass those of one normalisation")),
    }
}

impl Op for BatchNormSums {
    fn name(&self) -> &'static str {
        "batch_norm_sums"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.of_batch)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![rows(2, check_backward(inputs, self.of_batch)?)?])
    }

    /// With D and E for the gradients of the two sums: D h + E for dy; for x what normalising sends back for dy D, or
    /// r dy D where the statistics are given.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [dy, x, statistics] = [&backward.inputs[0], &backward.inputs[1], &backward.inputs[2]];
        let parts = Parts::new(x, statistics, self.epsilon, self.of_batch);
        let (d, e) = (parts.row(backward.grad, 0), parts.row(backward.grad, 1));
        let from_dy = parts.normal() * &d + e;
        let weighted = dy * d;
        let from_x = if self.of_batch { parts.project(&weighted) } else { weighted * parts.scale() };
        vec![Some(from_dy), Some(from_x), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let channels = output.shape[1];
        let length: usize = inputs[0].shape[2..].iter().product();
        let statistics = &inputs[2].data;
        let mut data = vec![0.0; 2 * channels];
        for (i, (dy, x)) in inputs[0].data.iter().zip(&inputs[1].data).enumerate() {
            let c = i / length % channels;
            data[c] +=
                dy * (x - super::mean_of(statistics, channels, c)) / (statistics[channels + c] + self.epsilon).sqrt();
            data[channels + c] += dy;
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let channels = Channels::new(&inputs[0].shape);
        let fold = Fold {
            name: "batch_norm_sums",
            shader: Shader::of(&[&shaders::batch_norm::SUMS]).item(rest(self.of_batch)),
            state: &["dot", "sum"],
            bound: vec![(Binding::input(1), "input", "$F$")],
            per_channel: vec![statistics_at(2)],
            epsilon: self.epsilon,
        };
        match channels.fold(fold, capabilities) {
            (kernel, 1) => Lowering::kernel(kernel),
            (kernel, parts) => split_sum(vec![kernel], parts, output),
        }
    }

    fn cases() -> Vec<Case> {
        let shapes = [("parts", &[3, 2, 131, 129][..]), ("parts_four", &[2, 1, 256, 140])];
        let case = |(name, shape): (&str, &'static [usize])| {
            let case = Case::new(name, |x| {
                let statistics = Tensor::apply(BatchNormStatistics, &[&x[1]]);
                Tensor::apply(BatchNormSums { epsilon: 0.1, of_batch: true }, &[&x[0], &x[1], &statistics])
            });
            let count = shape.iter().product::<usize>() / shape[1];
            let absolute = 1e-5 * (count as f64).sqrt().max(2.0);
            case.normal(shape).normal(shape).tolerance(Tolerance::Pointwise { absolute, relative: 1e-5 })
        };
        let given = Case::new("given", |x| {
            let statistics = Tensor::stack(&super::given_statistics(&x[2]).each_ref(), 0);
            Tensor::apply(BatchNormSums { epsilon: 0.1, of_batch: false }, &[&x[0], &x[1], &statistics])
        });
        let given = given.normal(&[3, 5, 4]).normal(&[3, 5, 4]).normal(&[5]);
        let mut cases: Vec<Case> = SHAPES.into_iter().chain(shapes).map(case).collect();
        cases.push(given.tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 }));
        cases
    }
}

impl Op for BatchNormBackward {
    fn name(&self) -> &'static str {
        "batch_norm_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.weight)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check_backward(inputs, true)?;
        Ok(vec![inputs[0]])
    }

    /// With D for the gradient of this result, g = dy w and P(u) = u - m(u) - h m(u h), which is its own transpose, so that
    /// dx = r P(g): w r P(D) for dy, sum(dy r P(D)) for w, and -r (h m(D dx) + r P(D m(g h) + g m(D h))) for x.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [dy, x, statistics] = [&backward.inputs[0], &backward.inputs[1], &backward.inputs[2]];
        let parts = Parts::new(x, statistics, self.epsilon, true);
        let weight = backward.inputs.get(4);
        let weighted = |u: &Tensor| weight.map_or_else(|| u.clone(), |weight| u * weight.reshape(&parts.dims));
        let projected = parts.project(backward.grad);
        let from_x = backward.needs[1].then(|| {
            let (grad, normal) = (weighted(dy), parts.normal());
            let twisted = backward.grad * parts.mean(&grad * &normal) + &grad * parts.mean(backward.grad * &normal);
            -(parts.scale() * (normal * parts.mean(backward.grad * backward.output) + parts.project(&twisted)))
        });
        let mut gradients = vec![Some(weighted(&projected)), from_x, None, None];
        gradients.extend(weight.map(|_| Some((dy * &projected).sum(&parts.axes))));
        gradients
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let channels = output.shape[1];
        let length: usize = output.shape[2..].iter().product();
        let count = (output.elements() / channels) as f64;
        let (statistics, sums) = (&inputs[2].data, &inputs[3].data);
        let one = |(i, (dy, x)): (usize, (&f64, &f64))| {
            let c = i / length % channels;
            let scale = 1.0 / (statistics[channels + c] + self.epsilon).sqrt();
            let normal = (x - super::mean_of(statistics, channels, c)) * scale;
            let weight = if self.weight { inputs[4].data[c] } else { 1.0 };
            weight * scale * (dy - sums[channels + c] / count - normal * sums[c] / count)
        };
        let data = inputs[0].data.iter().zip(&inputs[1].data).enumerate().map(one).collect();
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let channels = Channels::new(&output.shape);
        let mut shader = Shader::of(&[&shaders::batch_norm::BACKWARD]).item(rest(true));
        let sums = PerChannel { input: 3, name: "sum_of", data: "sum_of_data", rows: true };
        let mut per_channel = vec![statistics_at(2), sums];
        match self.weight {
            true => per_channel.push(weight_at(4)),
            false => shader.items.push(absent("weight_of", "1.0")),
        }
        let bound = vec![(Binding::input(1), "input", "$F$")];
        let map = Map { name: "batch_norm_backward", shader, bound, per_channel, epsilon: self.epsilon };
        Lowering::kernel(channels.map(map, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape): (&str, &'static [usize])| {
            let case = Case::new(name, |x| {
                let statistics = Tensor::apply(BatchNormStatistics, &[&x[1]]);
                let sums = Tensor::apply(BatchNormSums { epsilon: 0.1, of_batch: true }, &[&x[0], &x[1], &statistics]);
                let op = BatchNormBackward { epsilon: 0.1, weight: true };
                Tensor::apply(op, &[&x[0], &x[1], &statistics, &sums, &x[2]])
            });
            let bound = Tolerance::Pointwise { absolute: 1e-4, relative: 1e-4 };
            case.normal(shape).normal(shape).normal(&[shape[1]]).tolerance(bound)
        };
        SHAPES.into_iter().map(case).collect()
    }
}
