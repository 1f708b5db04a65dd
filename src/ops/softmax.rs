//! Softmax and its logarithm along one axis: y = exp(x - m) / s and y = x - m - log(s), with m = max(x) and
//! s = sum(exp(x - m)) along the axis.
//!
//! The maximum is subtracted first, so no finite row overflows. NaN in a row makes the whole row NaN.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{LOG_SUM_EXP, MAX_LENGTH, Program, Rows};
use crate::ops::shared::check_axis;
use crate::tensor::Tensor;

/// Softmax along `axis`.
#[derive(Debug)]
pub struct Softmax {
    /// The axis.
    pub axis: usize,
}

/// Logarithm of the softmax along `axis`.
#[derive(Debug)]
pub struct LogSoftmax {
    /// The axis.
    pub axis: usize,
}

/// Gradient of [`Softmax`] from the gradient dy of its result y, and y: y (dy - sum(y dy)).
#[derive(Debug)]
pub struct SoftmaxBackward {
    /// The axis.
    pub axis: usize,
}

/// Gradient of [`LogSoftmax`] from the gradient dy of its result y, and y: dy - exp(y) sum(dy).
#[derive(Debug)]
pub struct LogSoftmaxBackward {
    /// The axis.
    pub axis: usize,
}

impl Tensor {
    /// Softmax along `axis`: exp(x) over its sum, entries in [0, 1] that sum to 1. Same shape and dtype (f32 or f16);
    /// as `torch.softmax`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn softmax(&self, axis: usize) -> Tensor {
        let x = self.widen();
        let y = if is_long(&x, axis) {
            let powers = (&x - x.max_keep(&[axis]).detach()).exp();
            &powers / &powers.sum_keep(&[axis])
        } else {
            Tensor::apply(Softmax { axis }, &[&x])
        };
        y.result_of(self)
    }

    /// Logarithm of the softmax along `axis`, exact where the softmax itself would round to 0. Same shape and dtype (f32
    /// or f16); as `torch.log_softmax`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn log_softmax(&self, axis: usize) -> Tensor {
        let x = self.widen();
        let y = if is_long(&x, axis) {
            let shifted = &x - x.max_keep(&[axis]).detach();
            &shifted - &shifted.exp().sum_keep(&[axis]).log()
        } else {
            Tensor::apply(LogSoftmax { axis }, &[&x])
        };
        y.result_of(self)
    }
}

/// True for rows longer than a kernel folds: those are composed of other ops.
fn is_long(x: &Tensor, axis: usize) -> bool {
    x.dims().get(axis).is_some_and(|&length| length > MAX_LENGTH)
}

fn shape(axis: usize, inputs: &[Meta]) -> Result<Meta, Problem> {
    check_axis(axis, inputs[0].shape.rank())?;
    match inputs.iter().find(|meta| meta.dtype != DType::F32) {
        Some(meta) => Err(Problem::DType(format!("it takes floats, not {}", meta.dtype))),
        None => Ok(inputs[0]),
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

fn forward(name: &'static str, log: bool, axis: usize, output: &Meta, capabilities: &Capabilities) -> Kernel {
    let program = Program {
        name,
        text: format!("const LOG: bool = {log};\n{LOG_SUM_EXP}{}", include_str!("../../shaders/softmax/forward.wgsl")),
        state: &["top", "sum", "bad"],
        bindings: vec![Binding::input(0), Binding::output()],
        results: 0,
        number: 0.0,
        first_of_row: false,
    };
    Rows::along(&output.shape, axis).kernel(program, capabilities)
}

fn backward(name: &'static str, log: bool, axis: usize, output: &Meta, capabilities: &Capabilities) -> Kernel {
    let program = Program {
        name,
        text: format!("const LOG: bool = {log};\n{}", include_str!("../../shaders/softmax/backward.wgsl")),
        state: &[],
        bindings: vec![Binding::input(0), Binding::input(1), Binding::output()],
        results: 0,
        number: 0.0,
        first_of_row: false,
    };
    Rows::along(&output.shape, axis).kernel(program, capabilities)
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

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        shape(self.axis, inputs)
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(SoftmaxBackward { axis: self.axis }, &[backward.grad, backward.output]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        by_rows(self.axis, output, |at| {
            let x: Vec<f64> = at.iter().map(|&i| inputs[0].data[i]).collect();
            let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
            x.iter().map(|x| (x - top).exp() / sum).collect()
        })
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        Lowering::kernel(forward("softmax", false, self.axis, output, capabilities))
    }

    fn cases() -> Vec<Case> {
        let mut cases: Vec<Case> = SHAPES
            .iter()
            .map(|&(name, shape, axis)| Case::new(name, move |x| x[0].softmax(axis)).normal(shape))
            .collect();
        // Logits far beyond the range of exp.
        cases.push(
            Case::new("large", |x| (&x[0] * 300.0).softmax(1))
                .normal(&[37, 10])
                .gradient_tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 2e-6 }),
        );
        let masked = Draw::Values(&[f64::NEG_INFINITY, 1.0, -2.0, f64::NEG_INFINITY, 3.0]);
        cases.push(Case::new("masked", |x| x[0].softmax(1)).input(&[3, 5], DType::F32, masked).not_differentiable());
        let broken = Draw::Values(&[f64::NAN, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        cases
            .push(Case::new("not_finite", |x| x[0].softmax(1)).input(&[5, 2], DType::F32, broken).not_differentiable());
        cases
    }
}

impl Op for LogSoftmax {
    fn name(&self) -> &'static str {
        "log_softmax"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        shape(self.axis, inputs)
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(LogSoftmaxBackward { axis: self.axis }, &[backward.grad, backward.output]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        by_rows(self.axis, output, |at| {
            let x: Vec<f64> = at.iter().map(|&i| inputs[0].data[i]).collect();
            let top = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = x.iter().map(|x| (x - top).exp()).sum();
            x.iter().map(|x| x - top - sum.ln()).collect()
        })
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        Lowering::kernel(forward("log_softmax", true, self.axis, output, capabilities))
    }

    fn cases() -> Vec<Case> {
        let mut cases: Vec<Case> = SHAPES
            .iter()
            .map(|&(name, shape, axis)| {
                let terms = shape[axis];
                let case = Case::new(name, move |x| x[0].log_softmax(axis)).normal(shape);
                // The gradient subtracts a sum of gradients.
                case.gradient_tolerance(Tolerance::Pointwise { absolute: 2e-7 * terms as f64 + 1e-6, relative: 1e-6 })
            })
            .collect();
        let masked = Draw::Values(&[f64::NEG_INFINITY, 1.0, -2.0, f64::NEG_INFINITY, 3.0]);
        cases
            .push(Case::new("masked", |x| x[0].log_softmax(1)).input(&[3, 5], DType::F32, masked).not_differentiable());
        let broken = Draw::Values(&[f64::NAN, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY, f64::NEG_INFINITY]);
        cases.push(
            Case::new("not_finite", |x| x[0].log_softmax(1)).input(&[5, 2], DType::F32, broken).not_differentiable(),
        );
        cases
    }
}

impl Op for SoftmaxBackward {
    fn name(&self) -> &'static str {
        "softmax_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        shape(self.axis, inputs)
    }

    /// With D for the gradient of this op's result: D (dy - sum(y dy)) - dy sum(y D) and y (D - sum(y D)).
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (dy, y, grad) = (&backward.inputs[0], &backward.inputs[1], backward.grad);
        let sum = |x: Tensor| x.sum_keep(&[self.axis]);
        let output = backward.needs[1].then(|| grad * (dy - sum(y * dy)) - dy * sum(y * grad));
        let gradient = backward.needs[0].then(|| Tensor::apply(SoftmaxBackward { axis: self.axis }, &[grad, y]));
        vec![gradient, output]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        let (dy, y) = (&inputs[0].data, &inputs[1].data);
        by_rows(self.axis, output, |at| {
            let sum: f64 = at.iter().map(|&i| y[i] * dy[i]).sum();
            at.iter().map(|&i| y[i] * (dy[i] - sum)).collect()
        })
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        Lowering::kernel(backward("softmax_backward", false, self.axis, output, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape, axis): (&str, &'static [usize], usize)| {
            let apply = move |x: &[Tensor]| Tensor::apply(SoftmaxBackward { axis }, &[&x[0], &x[1]]);
            let case = Case::new(name, apply).normal(shape).input(shape, DType::F32, Draw::Uniform(0.0, 1.0));
            case.tolerance(sums(shape[axis]))
        };
        SHAPES.into_iter().map(case).collect()
    }
}

impl Op for LogSoftmaxBackward {
    fn name(&self) -> &'static str {
        "log_softmax_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Meta, Problem> {
        shape(self.axis, inputs)
    }

    /// With D for the gradient of this op's result: -D exp(y) sum(dy) and D - sum(D exp(y)).
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (dy, y, grad) = (&backward.inputs[0], &backward.inputs[1], backward.grad);
        let weighted = grad * y.exp();
        let output = backward.needs[1].then(|| -(&weighted * dy.sum_keep(&[self.axis])));
        let gradient = backward.needs[0].then(|| grad - weighted.sum_keep(&[self.axis]));
        vec![gradient, output]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Array {
        let (dy, y) = (&inputs[0].data, &inputs[1].data);
        by_rows(self.axis, output, |at| {
            let sum: f64 = at.iter().map(|&i| dy[i]).sum();
            at.iter().map(|&i| dy[i] - y[i].exp() * sum).collect()
        })
    }

    fn lowering(&self, _: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        Lowering::kernel(backward("log_softmax_backward", true, self.axis, output, capabilities))
    }

    fn cases() -> Vec<Case> {
        let case = |(name, shape, axis): (&str, &'static [usize], usize)| {
            let apply = move |x: &[Tensor]| Tensor::apply(LogSoftmaxBackward { axis }, &[&x[0], &x[1]]);
            let case = Case::new(name, apply).normal(shape).input(shape, DType::F32, Draw::Uniform(-3.0, 0.0));
            case.tolerance(sums(shape[axis]))
        };
        SHAPES.into_iter().map(case).collect()
    }
}

/// The bound of a result that holds sums of `terms` products of size 1, times factors of size up to 4.
fn sums(terms: usize) -> Tolerance {
    let absolute = 4e-6 * (terms as f64).sqrt();
    Tolerance::Pointwise { absolute, relative: 2e-6 }
}
