//! Running sums along an axis: y_j = x_0 + .. + x_j, by the kernels of `src/ops/scan/`.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::Rows;
use crate::ops::scan::{check, numbers, positions};
use crate::shape::Axis;
use crate::tensor::Tensor;

/// Sums of the elements up to each one along an axis, or with `reverse` from each one on: the gradient of the other.
#[derive(Debug)]
pub struct Cumsum {
    /// The axis.
    pub axis: usize,
    /// True to begin at the end.
    pub reverse: bool,
}

impl Tensor {
    /// Sums of the elements up to each one along `axis`: same shape and dtype, as `torch.cumsum`. Integers wrap; half precision
    /// is summed in f32 and rounded once.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::DType`] for booleans.
    #[track_caller]
    pub fn cumsum(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        Tensor::apply(Cumsum { axis, reverse: false }, &[self])
    }
}

impl Op for Cumsum {
    fn name(&self) -> &'static str {
        "cumsum"
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

    /// Each element is in the sums from its own on.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(Cumsum { axis: self.axis, reverse: !self.reverse }, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut data = inputs[0].data.clone();
        for row in 0..rows.rows {
            let (mut sum, mut whole) = (0.0, 0i64);
            for at in positions(&rows, row, self.reverse) {
                (sum, whole) = (sum + data[at], whole.wrapping_add(data[at] as i64));
                data[at] = if output.dtype.is_integer() { output.dtype.wrap(whole) } else { output.dtype.round(sum) };
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        numbers("cumsum", false, self.reverse, self.axis, output)
    }

    fn cases() -> Vec<Case> {
        let along = |axis: usize| move |x: &[Tensor]| x[0].cumsum(axis);
        let shapes: [(&str, &[usize], usize); 9] = [
            ("vector", &[37], 0),
            ("one", &[1], 0),
            ("of_one", &[131, 1], 1),
            ("last", &[37, 131], 1),
            ("first", &[131, 37], 0),
            ("middle", &[3, 37, 5], 1),
            ("runs", &[2, 2053], 1),
            ("runs_side_by_side", &[1031, 3], 0),
            ("longer_than_a_loop", &[70_001], 0),
        ];
        let float = |(name, shape, axis): (&str, &[usize], usize)| {
            Case::new(name, along(axis)).normal(shape).tolerance(Tolerance::Sum { terms: shape[axis] })
        };
        let mut cases: Vec<Case> = shapes.into_iter().map(float).collect();
        // Half the range and more: sums wrap.
        let whole = |name: &str, shape: &[usize], dtype: DType, draw: Draw| {
            Case::new(name, along(1)).input(shape, dtype, draw).tolerance(Tolerance::Exact).not_differentiable()
        };
        cases.extend([
            whole("u32", &[37, 131], DType::U32, Draw::Below(u32::MAX)),
            whole("i32", &[37, 131], DType::I32, Draw::Uniform(-2e9, 2e9)),
            whole("i32_runs", &[2, 2053], DType::I32, Draw::Uniform(-2e9, 2e9)),
        ]);
        let half = |name: &str, shape: &[usize], axis: usize| {
            let case = Case::new(name, along(axis)).input(shape, DType::F16, Draw::Normal).not_differentiable();
            case.tolerance(Tolerance::HalfSum { terms: shape[axis] })
        };
        cases.extend([half("half", &[5, 131], 1), half("half_runs", &[1031, 2], 0)]);
        let sum = |terms| Tolerance::Sum { terms };
        cases.extend([
            Case::new("transposed", |x| x[0].transpose(0, 1).cumsum(1)).normal(&[131, 37]).tolerance(sum(131)),
            Case::new("stretched", |x| x[0].expand(&[3, 5, 37]).cumsum(1)).normal(&[3, 1, 37]).tolerance(sum(5)),
            Case::new("sliced_runs", |x| x[0].slice(1, 7, 1031).cumsum(1)).normal(&[3, 1039]).tolerance(sum(1031)),
            Case::new("reverse", |x| Tensor::apply(Cumsum { axis: 1, reverse: true }, &[&x[0]]))
                .normal(&[5, 1031])
                .tolerance(sum(1031)),
        ]);
        for (name, shape) in [("between", [37, 131]), ("between_runs", [3, 1031])] {
            let around = Case::new(name, |x| (x[0].tanh() * &x[1]).cumsum(1).scale(0.01).tanh() + &x[0]);
            let bound = Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 };
            cases.push(around.normal(&shape).normal(&[shape[1]]).tolerance(bound));
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error};

    #[test]
    fn an_axis_beyond_the_rank_and_booleans_are_refused() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.cumsum(2).error(), Some(Error::Axis { op: "cumsum", .. })));
        assert!(matches!(x.cast(DType::Bool).cumsum(0).error(), Some(Error::DType { op: "cumsum", .. })));
    }
}
