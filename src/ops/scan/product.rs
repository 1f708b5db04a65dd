//! Running products along an axis: y_j = x_0 .. x_j.

use super::{check, numbers, positions};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::Rows;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// Products of the elements up to each one along an axis, or with `reverse` from each one on.
#[derive(Debug)]
pub struct Cumprod {
    /// The axis.
    pub axis: usize,
    /// True to begin at the end.
    pub reverse: bool,
}

impl Tensor {
    /// Products of the elements up to each one along `axis`: same shape and dtype, as `torch.cumprod`. Integers wrap; half
    /// precision is multiplied in f32 and rounded once. The gradient divides by nothing, so zeros are no special case.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::DType`] for booleans.
    #[track_caller]
    pub fn cumprod(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        Tensor::apply(Cumprod { axis, reverse: false }, &[self])
    }

    /// The product of all other elements along `axis`, for each one.
    #[track_caller]
    pub(crate) fn products_of_others(&self, axis: usize) -> Tensor {
        let before = self.cumprod(axis).moved(axis, false, 1.0);
        before * Tensor::apply(Cumprod { axis, reverse: true }, &[self]).moved(axis, true, 1.0)
    }

    /// Each element one place further on along `axis`, or with `back` one place back; the free end is `fill`.
    #[track_caller]
    pub(crate) fn moved(&self, axis: usize, back: bool, fill: f64) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let shape = *self.dims();
        let length = shape[axis];
        if length == 1 {
            return self.device().fixed(&shape, self.meta().dtype, fill);
        }
        let mut around = vec![(0, 0); shape.rank()];
        around[axis] = if back { (0, 1) } else { (1, 0) };
        self.slice(axis, usize::from(back), length - 1).pad(&around, fill)
    }
}

impl Op for Cumprod {
    fn name(&self) -> &'static str {
        "cumprod"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, u64::from(self.reverse)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(self.axis, &inputs[0])?;
        if inputs[0].dtype == DType::Bool {
            return Err(Problem::DType("it is not defined for bool; cast it to an integer".into()));
        }
        Ok(vec![inputs[0]])
    }

    /// dx_i = y_{i-1} r_i, where r_i = g_i + x_{i+1} r_{i+1} gathers what comes behind.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (x, y) = (backward.inputs[0].widen(), backward.output.widen());
        let behind =
            backward.grad.widen().linear_recurrence(&x.moved(self.axis, !self.reverse, 0.0), self.axis, !self.reverse);
        vec![Some((y.moved(self.axis, self.reverse, 1.0) * behind).cast(backward.inputs[0].meta().dtype))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut data = inputs[0].data.clone();
        for row in 0..rows.rows {
            let (mut product, mut whole) = (1.0, 1i64);
            for at in positions(&rows, row, self.reverse) {
                (product, whole) = (product * data[at], whole.wrapping_mul(data[at] as i64));
                data[at] =
                    if output.dtype.is_integer() { output.dtype.wrap(whole) } else { output.dtype.round(product) };
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        numbers("cumprod", true, self.reverse, self.axis, output)
    }

    fn cases() -> Vec<Case> {
        let along = |axis: usize| move |x: &[Tensor]| x[0].cumprod(axis);
        // Factors around 1: products of many stay numbers.
        let bound = Tolerance::Pointwise { absolute: 1e-5, relative: 2e-5 };
        let near_one = Draw::Uniform(0.9, 1.1);
        let float = |name: &str, shape: &[usize], axis: usize| {
            Case::new(name, along(axis)).input(shape, DType::F32, near_one.clone()).tolerance(bound)
        };
        let zeros = |name: &str, values: &'static [f64]| {
            Case::new(name, along(1)).input(&[3, 7], DType::F32, Draw::Values(values)).tolerance(bound)
        };
        vec![
            float("vector", &[37], 0),
            float("of_one", &[131, 1], 1),
            float("middle", &[3, 37, 5], 1),
            float("runs", &[2, 1031], 1),
            float("first_runs", &[1031, 3], 0),
            zeros("a_zero", &[1.5, -2.0, 0.5, 0.0, 3.0, 1.25, -1.0]),
            zeros("zeros", &[1.5, 0.0, 0.5, 0.0, 3.0, 1.25, -1.0, 2.0, 0.0, 0.0, 1.0]),
            Case::new("transposed", |x| x[0].transpose(0, 1).cumprod(0).tanh())
                .input(&[131, 37], DType::F32, near_one.clone())
                .tolerance(bound),
            Case::new("reverse", |x| Tensor::apply(Cumprod { axis: 1, reverse: true }, &[&x[0]]))
                .input(&[5, 37], DType::F32, near_one.clone())
                .tolerance(bound),
            Case::new("i32", along(1))
                .input(&[5, 37], DType::I32, Draw::Uniform(-9.0, 9.0))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("half", along(1))
                .input(&[5, 37], DType::F16, near_one.clone())
                .tolerance(Tolerance::HalfSum { terms: 37 })
                .not_differentiable(),
        ]
    }
}
