//! Softmax and its logarithm along one axis: y = exp(x - m) / s and y = x - m - log(s), with m = max(x) and
//! s = sum(exp(x - m)) along the axis.
//!
//! The maximum is subtracted first, so no finite row overflows. NaN in a row makes the whole row NaN.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{EXP_DOWN, LOG_SUM_EXP, MAX_LENGTH, Program, RESULT, Rows};
use crate::ops::shared::check_axis;
use crate::shaders;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// Softmax along `axis`, or its logarithm.
#[derive(Debug)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
    /// True for the logarithm.
    pub log: bool,
}

/// Gradient of [`Softmax`] from the gradient dy of its result y, and y: y (dy - sum(y dy)); that of the logarithm:
/// dy - exp(y) sum(dy).
#[derive(Debug)]
pub struct SoftmaxBackward {
    /// The axis.
    pub axis: usize,
    /// True for the logarithm.
    pub log: bool,
}

impl Tensor {
    /// Softmax along `axis`: exp(x) over its sum, entries in [0, 1] that sum to 1. Same shape and dtype (f32 or f16);
    /// as `torch.softmax`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn softmax(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        let x = self.widen();
        let y = if is_long(&x, axis) {
            let powers = (&x - x.max_keep(&[axis]).detach()).exp();
            &powers / &powers.sum_keep(&[axis])
        } else {
            Tensor::apply(Softmax { axis, log: false }, &[&x])
        };
        y.result_of(self)
    }

    /// Logarithm of the softmax along `axis`, exact where the softmax itself would round to 0. Same shape and dtype (f32
    /// or f16); as `torch.log_softmax`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn log_softmax(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        let x = self.widen();
        let y = if is_long(&x, axis) {
            let shifted = &x - x.max_keep(&[axis]).detach();
            &shifted - &shifted.exp().sum_keep(&[axis]).log()
        } else {
            Tensor::apply(Softmax { axis, log: true }, &[&x])
        };
        y.result_of(self)
    }
}

/// True for rows longer than a kernel folds: those are composed of other ops.
fn is_long(x: &Tensor, axis: usize) -> bool {
    x.dims().get(axis).is_some_and(|&length| length > MAX_LENGTH)
}

fn shape(axis: usize, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
    check_axis(axis, inputs[0].shape.rank())?;
    match inputs.iter().find(|meta| meta.dtype != DType::F32) {
        Some(meta) => Err(Problem::DType(format!("it takes floats, not {}", meta.dtype))),
        None => Ok(vec![inputs[0]]),
    }
}

/// Fills the result row by row: `row(positions, data)` gives the values at these positions.
fn by_rows(axis: usize, output: &Meta, row: impl Fn(&[usize]) -> Vec<f64>) -> Array {
    let rows = Rows::along(&output.shape, axis);
    let mut data = vec![0.0; output.elements()];
    for r in 0..rows.rows {
        let at: Vec<usize> = rows.positions(r).collect();
        at.iter().zip(row(&at)).for_each(|(&i, value)| data[i] = value);
    }
    Array { shape: output.shape, dtype: output.dtype, data }
}

/// One row, a row longer than a workgroup, axes before others, many rows side by side, four elements a value.
const SHAPES: [(&str, &[usize], usize); 11] = [
    ("four_along", &[37, 12], 1),
    ("four_along_long", &[3, 1036], 1),
    ("four_across", &[3, 131, 20], 1),
    ("four_along_subgroup", &[131, 516], 1),
    ("last", &[37, 10], 1),
    ("first", &[7, 37], 0),
    ("middle", &[3, 131, 5], 1),
    ("one_class", &[5, 1], 1),
    ("one_row", &[1, 1031], 1),
    ("vector", &[67], 0),
    ("side_by_side", &[1, 37, 2053], 1),
];

/// Logits that are not finite: some masked, and whole rows of what has no softmax.
fn unusual(log: bool) -> [Case; 2] {
    let masked = Draw::Values(&[f64::NEG_INFINITY, 1.0, -2.0, f64::NEG_INFINITY, 3.0]);
    let broken = Draw::Values(&[f64::NAN, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY]);
    [("masked", [3, 5], masked), ("not_finite", [5, 2], broken)].map(|(name, shape, draw)| {
        let case = Case::new(label(log, name), move |x| Tensor::apply(Softmax { axis: 1, log }, &[&x[0]]));
        case.input(&shape, DType::F32, draw).not_differentiable()
    })
}

fn label(log: bool, name: &str) -> String {
    if log { format!("log_{name}") } else { name.into() }
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax" } else { "softmax" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        shape(self.axis, inputs)
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let op = SoftmaxBackward { axis: self.axis, log: self.log };
        vec![Some(Tensor::apply(op, &[backward.grad, backward.output]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![by_rows(self.axis, output, |at| {
            let x: Vec<f64> = at.iter().map(|&i| inputs[0].data[i]).collect();
            let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
            match self.log {
                true => x.iter().map(|x| x - top - sum.ln()).collect(),
                false => x.iter().map(|x| (x - top).exp() / sum).collect(),
            }
        })]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: self.name(),
            shader: Shader::of(&[&shaders::softmax::FORWARD, LOG_SUM_EXP, EXP_DOWN]).constant("LOG", self.log),
            state: &["top", "sum", "bad"],
            bound: vec![RESULT],
            results: 0,
            number: 0.0,
            first_of_row: false,
        };
        Lowering::kernel(Rows::along(&output.shape, self.axis).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        let mut cases = vec![];
        for (name, shape, axis) in SHAPES {
            cases.push(Case::new(name, move |x| x[0].softmax(axis)).normal(shape));
            let case = Case::new(label(true, name), move |x| x[0].log_softmax(axis)).normal(shape);
            // The gradient subtracts a sum of gradients.
            let absolute = 2e-7 * shape[axis] as f64 + 1e-6;
            cases.push(case.gradient_tolerance(Tolerance::Pointwise { absolute, relative: 1e-6 }));
        }
        // Logits far beyond the range of exp.
        let large = Case::new("large", |x| (&x[0] * 300.0).softmax(1)).normal(&[37, 10]);
        cases.push(large.gradient_tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 2e-6 }));
        cases.extend([false, true].into_iter().flat_map(unusual));
        cases
    }
}

impl Op for SoftmaxBackward {
    fn name(&self) -> &'static str {
        if self.log { "log_softmax_backward" } else { "softmax_backward" }
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        shape(self.axis, inputs)
    }

    /// With D for the gradient of this op's result: D (dy - sum(y dy)) - dy sum(y D) and y (D - sum(y D)); for the logarithm
    /// -D exp(y) sum(dy) and D - sum(D exp(y)).
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (dy, y, grad) = (&backward.inputs[0], &backward.inputs[1], backward.grad);
        let sum = |x: &Tensor| x.sum_keep(&[self.axis]);
        if self.log {
            let weighted = grad * y.exp();
            let output = backward.needs[1].then(|| -(&weighted * sum(dy)));
            return vec![backward.needs[0].then(|| grad - sum(&weighted)), output];
        }
        let output = backward.needs[1].then(|| grad * (dy - sum(&(y * dy))) - dy * sum(&(y * grad)));
        let op = || SoftmaxBackward { axis: self.axis, log: false };
        vec![backward.needs[0].then(|| Tensor::apply(op(), &[grad, y])), output]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let (dy, y) = (&inputs[0].data, &inputs[1].data);
        vec![by_rows(self.axis, output, |at| {
            if self.log {
                let sum: f64 = at.iter().map(|&i| dy[i]).sum();
                return at.iter().map(|&i| dy[i] - y[i].exp() * sum).collect();
            }
            let sum: f64 = at.iter().map(|&i| y[i] * dy[i]).sum();
            at.iter().map(|&i| y[i] * (dy[i] - sum)).collect()
        })]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let program = Program {
            name: self.name(),
            shader: Shader::of(&[&shaders::softmax::BACKWARD]).constant("LOG", self.log),
            state: &[],
            bound: vec![(Binding::input(1), "outputs", "$F$"), RESULT],
            results: 0,
            number: 0.0,
            first_of_row: false,
        };
        Lowering::kernel(Rows::along(&output.shape, self.axis).kernel(program, capabilities))
    }

    fn cases() -> Vec<Case> {
        // Results of the softmax, and of its logarithm.
        let drawn = [(false, Draw::Uniform(0.0, 1.0)), (true, Draw::Uniform(-3.0, 0.0))];
        let case = |(name, shape, axis): (&str, &'static [usize], usize), log: bool, y: Draw| {
            let apply = move |x: &[Tensor]| Tensor::apply(SoftmaxBackward { axis, log }, &[&x[0], &x[1]]);
            Case::new(label(log, name), apply).normal(shape).input(shape, DType::F32, y).tolerance(sums(shape[axis]))
        };
        let of = |(log, y): (bool, Draw)| SHAPES.map(|shape| case(shape, log, y.clone()));
        drawn.into_iter().flat_map(of).collect()
    }
}

/// The bound of a result that holds sums of `terms` products of size 1, times factors of size up to 4.
fn sums(terms: usize) -> Tolerance {
    let absolute = 4e-6 * (terms as f64).sqrt();
    Tolerance::Pointwise { absolute, relative: 2e-6 }
}
