//! Gradients of the rows that were normalised, and of weight and bias with them.

use super::weights::{matrix, sums, sums_gradient, sums_kernels};
use super::{affine, check_rows, columns, weights};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities};
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::ops::rows::{Block, Program, RESULT, Rows};
use crate::ops::shared::add_splits;
use crate::shaders;
use crate::tensor::Tensor;

/// Gradient of normalised rows with respect to the rows, and those of weight and bias as [`super::LayerNormWeightGrad`] gives them: from
/// the result's gradient, the rows, their statistics ([`super::LayerNormStatistics`]) and the weight where there is one.
///
/// Where rows are taken in blocks one kernel has both at hand; else each has its own.
///
/// With g = dy w, h = (x - mean) r and m for the mean over a row: dx = r (g - m(g) - h m(g h)). Its own gradient counts the
/// statistics as functions of the rows.
#[derive(Debug)]
pub struct LayerNormBackward {
    /// What the statistics were formed with: a kernel may form them itself.
    pub epsilon: f64,
    /// False if the mean was taken to be 0: then m(g) is left out.
    pub centred: bool,
    /// Whether there is a weight.
    pub weight: bool,
}

/// Blocks of rows: 32 rows a workgroup, so that few partial sums are to be added.
const BLOCK: Block = Block { kept: &["first", "mean", "scale", "sum", "slope"], most: 4 };

impl LayerNormBackward {
    /// One kernel for the rows' gradient and partial gradients of weight and bias, and one that adds these. The statistics
    /// are formed on the way.
    fn in_blocks(&self, rows: Rows, block: usize, capabilities: &Capabilities) -> Lowering {
        let mut bound = vec![(Binding::input(1), "input", "$V$")];
        bound.extend(weights(3, self.weight, false, "$V$"));
        bound.extend([RESULT, (Binding::write(0), "parts", "$V$")]);
        let shader = columns(self.weight, false).file(&shaders::layer_norm::BACKWARD_BLOCK);
        let program = Program {
            name: self.name(),
            shader: shader.constant("CENTRED", self.centred),
            state: &["count", "mean", "square", "sum", "dot"],
            bound,
            results: 0,
            number: self.epsilon,
            first_of_row: false,
        };
        let kernel = rows.block_kernel(program, block, &BLOCK, capabilities);
        let (parts, sums) = (kernel.workgroups as usize, 2 * rows.length);
        let add = add_splits(sums, parts, Binding::read(0), Binding::result(1));
        Lowering::Kernels { kernels: vec![kernel, add], temporaries: vec![parts * sums] }
    }
}

impl Op for LayerNormBackward {
    fn name(&self) -> &'static str {
        "layer_norm_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.epsilon.to_bits(), u64::from(self.centred), u64::from(self.weight)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let [rows, n] = check_rows(inputs)?;
        let fits = inputs[1] == inputs[0]
            && inputs[2].shape[..] == [rows, 4]
            && inputs[3..].iter().all(|weight| weight.shape[..] == [n]);
        match fits {
            true => Ok(vec![inputs[0], matrix(2, n)?]),
            false => Err(Problem::Shape("the inputs do not belong together".into(), "pass those of one normalisation")),
        }
    }

    /// With D for the gradient of this result and P(u) = u - m(u) - h m(u h), which is its own transpose, so that
    /// dx = r P(g): r P(D) for g, and -r (h m(D dx) + r P(D m(g h) + g m(D h))) for x.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let of_sums =
            backward.grads[1].as_ref().map(|grad| sums_gradient(backward.inputs, grad, self.centred, self.epsilon));
        if backward.grads[0].is_none() {
            let mut gradients: Vec<Option<Tensor>> = of_sums.into_iter().flatten().map(Some).collect();
            gradients.resize(backward.inputs.len(), None);
            return gradients;
        }
        let [dy, x, statistics] = [&backward.inputs[0], &backward.inputs[1], &backward.inputs[2]];
        let weight = backward.inputs.get(3);
        let rows = x.dims()[0];
        let project = |u: &Tensor| {
            let op = LayerNormBackward { epsilon: self.epsilon, centred: self.centred, weight: false };
            Tensor::apply(op, &[u, x, statistics])
        };
        let mean = |u: Tensor| u.mean_keep(&[1]);
        let column = |k: usize| statistics.slice_fixed(1, k, 1).reshape(&[rows, 1]);
        let scale = column(1);
        let normal = super::normal(x, statistics);
        let grad = weight.map_or_else(|| dy.clone(), |weight| dy * weight);
        let projected = project(backward.grad);
        let from_x = backward.needs[1].then(|| {
            let twisted = backward.grad * mean(&grad * &normal) + &grad * mean(backward.grad * &normal);
            -(&scale * (&normal * mean(backward.grad * backward.output) + project(&twisted)))
        });
        let from_dy = weight.map_or_else(|| projected.clone(), |weight| &projected * weight);
        let mut gradients = vec![Some(from_dy), from_x, None];
        gradients.extend(weight.map(|_| Some((dy * &projected).sum(&[0]))));
        for (gradient, of_sums) in gradients.iter_mut().zip(of_sums.into_iter().flatten()) {
            *gradient = gradient.take().map(|gradient| gradient + of_sums);
        }
        gradients
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let n = output.shape[1];
        let mut data = Vec::with_capacity(output.elements());
        for (row, (dy, x)) in inputs[0].data.chunks(n).zip(inputs[1].data.chunks(n)).enumerate() {
            let (mean, scale) = super::mean_and_scale(&inputs[2].data, row);
            let g: Vec<f64> = (0..n).map(|j| if self.weight { dy[j] * inputs[3].data[j] } else { dy[j] }).collect();
            let h: Vec<f64> = x.iter().map(|x| (x - mean) * scale).collect();
            let sum = if self.centred { g.iter().sum::<f64>() / n as f64 } else { 0.0 };
            let dot = g.iter().zip(&h).map(|(g, h)| g * h).sum::<f64>() / n as f64;
            data.extend(g.iter().zip(&h).map(|(g, h)| scale * (g - sum - h * dot)));
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }, sums(inputs)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let rows = Rows::along(&output.shape, 1);
        if let Some(block) = rows.block(BLOCK.most, capabilities) {
            return self.in_blocks(rows, block, capabilities);
        }
        let mut bound = vec![(Binding::input(1), "input", "$F$"), (Binding::input(2), "statistics", "vec4<f32>")];
        bound.extend(weights(3, self.weight, false, "$F$"));
        bound.push(RESULT);
        let shader = affine(self.weight, false).file(&shaders::layer_norm::BACKWARD);
        let program = Program {
            name: self.name(),
            shader: shader.constant("CENTRED", self.centred),
            state: &["sum", "dot"],
            bound,
            results: 0,
            number: 0.0,
            first_of_row: false,
        };
        let (sums, temporaries) = sums_kernels(inputs, Binding::result(1), capabilities);
        let kernels = std::iter::once(rows.kernel(program, capabilities)).chain(sums).collect();
        Lowering::Kernels { kernels, temporaries }
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, centred: bool, [rows, n]: [usize; 2]| {
            let case = Case::new(name, move |x| {
                let statistics = Tensor::apply(super::LayerNormStatistics { epsilon: 1e-2, centred }, &[&x[1]]);
                Tensor::apply(
                    LayerNormBackward { epsilon: 1e-2, centred, weight: true },
                    &[&x[0], &x[1], &statistics, &x[2]],
                )
            });
            // Second derivatives are products of three sums over a row.
            let bound = Tolerance::Pointwise { absolute: 2e-5, relative: 2e-5 };
            case.normal(&[rows, n]).normal(&[rows, n]).normal(&[n]).tolerance(bound)
        };
        vec![
            case("short", true, [37, 5]),
            case("four", true, [37, 12]),
            case("subgroup", true, [7, 516]),
            case("rms", false, [37, 5]),
            case("rms_subgroup", false, [5, 1031]),
        ]
    }
}
