//! Logarithms of running sums of exponentials along an axis: y_j = log(e^x_0 + .. + e^x_j).

use super::{Program, check, kernels, positions};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{EXP_DOWN, RESULT, Rows};
use crate::shaders::scan::EXPONENTIALS;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// The logarithm of the sum of exponentials of the elements up to each one along an axis.
#[derive(Debug)]
pub struct Logcumsumexp {
    /// The axis.
    pub axis: usize,
}

impl Tensor {
    /// log(e^x_0 + .. + e^x_j) up to each element j along `axis`, without leaving the range: same shape and dtype, as
    /// `torch.logcumsumexp`. Half precision is summed in f32 and rounded once.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::DType`] for what is no float.
    #[track_caller]
    pub fn logcumsumexp(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        self.formed_wide(|x| Tensor::apply(Logcumsumexp { axis }, &[x]))
    }
}

impl Op for Logcumsumexp {
    fn name(&self) -> &'static str {
        "logcumsumexp"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(self.axis, &inputs[0])?;
        match inputs[0].dtype {
            DType::F32 => Ok(vec![inputs[0]]),
            other => Err(Problem::DType(format!("it takes floats, not {other}"))),
        }
    }

    /// dx_i = exp(x_i - y_i) r_i with r_i = g_i + exp(y_i - y_{i+1}) r_{i+1}: y grows, so no exponent is above 0. Where all so far is
    /// -inf, a finite y keeps differences from being NaN, and the share is 0.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (x, y) = (&backward.inputs[0], backward.output.maximum(-1e38));
        let behind = y.moved(self.axis, true, 0.0);
        let shares = (&y - behind).minimum(0.0).exp();
        let gathered = backward.grad.linear_recurrence(&shares, self.axis, true);
        vec![Some((x - &y).exp() * gathered)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut data = inputs[0].data.clone();
        for row in 0..rows.rows {
            let mut sum = f64::NEG_INFINITY;
            for at in positions(&rows, row, false) {
                let x = data[at];
                let top = if x.is_nan() || sum.is_nan() { f64::NAN } else { sum.max(x) };
                sum = if top.is_infinite() { top } else { top + ((sum - top).exp() + (x - top).exp()).ln() };
                data[at] = sum;
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let program = Program {
            name: "logcumsumexp",
            shader: Shader::of(&[&EXPONENTIALS, EXP_DOWN]),
            words: 2,
            reverse: false,
            reads: vec![],
            writes: vec![RESULT],
        };
        kernels(&Rows::along(&output.shape, self.axis), &program)
    }

    fn cases() -> Vec<Case> {
        let along = |axis: usize| move |x: &[Tensor]| x[0].logcumsumexp(axis);
        // Sums of as many rounded exponentials.
        let bound = Tolerance::Pointwise { absolute: 4e-6, relative: 4e-6 };
        let case = |name: &str, shape: &[usize], axis: usize| {
            let case = Case::new(name, along(axis)).normal(shape).tolerance(bound);
            case.gradient_tolerance(Tolerance::Pointwise { absolute: 2e-5, relative: 2e-5 })
        };
        let masked = Draw::Values(&[f64::NEG_INFINITY, f64::NEG_INFINITY, 1.0, -2.0, f64::NEG_INFINITY, 3.0]);
        let broken = Draw::Values(&[1.0, f64::INFINITY, 2.0, f64::INFINITY, f64::NAN, 1.0, 2.0]);
        vec![
            case("last", &[37, 131], 1),
            case("first", &[131, 5], 0),
            case("runs", &[3, 1031], 1),
            Case::new("large", |x| (&x[0] * 300.0).logcumsumexp(1))
                .normal(&[5, 37])
                .tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 2e-6 })
                .not_differentiable(),
            Case::new("masked", along(1)).input(&[3, 6], DType::F32, masked).tolerance(bound).not_differentiable(),
            Case::new("not_finite", along(1)).input(&[3, 7], DType::F32, broken).tolerance(bound).not_differentiable(),
            Case::new("half", along(1))
                .input(&[5, 37], DType::F16, Draw::Normal)
                .tolerance(Tolerance::HalfSum { terms: 37 })
                .not_differentiable(),
        ]
    }
}
