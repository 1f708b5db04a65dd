//! What is a formula of other ops and needs no kernel of its own: statistics, and functions with values at their edges.

use crate::dtype::DType;
use crate::error::{Problem, Result};
use crate::ops::shared::check_axis;
use crate::shape::{Axes, Axis};
use crate::tensor::Tensor;

impl Tensor {
    /// Differences of neighbours along `axis`, which gets shorter by one: x_{i+1} - x_i, as `torch.diff`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`], or [`crate::Error::Value`] for an axis with fewer than two elements.
    #[track_caller]
    pub fn diff(&self, axis: impl Into<Axis>) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dims = self.dims();
        let axis = axis.into().of(dims.rank());
        if let Err(problem) = check_axis(axis, dims.rank()) {
            return self.problem("diff", problem);
        }
        let Some(length) = dims[axis].checked_sub(1).filter(|&length| length > 0) else {
            let what = format!("axis {axis} of shape {dims}");
            return self.problem("diff", Problem::Value(what, "take differences of at least two elements"));
        };
        self.slice_fixed(axis, 1, length) - self.slice_fixed(axis, 0, length)
    }

    /// Covariances of the rows of a matrix [variables, observations], with `correction` degrees of freedom taken off (1:
    /// unbiased, 0: biased): [variables, variables], as `torch.cov`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless this is a matrix, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn cov(&self, correction: usize) -> Tensor {
        if let Some(refused) = self.no_matrix("cov") {
            return refused;
        }
        let share = 1.0 / (self.dims()[1] as f64 - correction as f64).max(0.0);
        self.formed_wide(|x| {
            let centred = x.centred(&[1]);
            centred.matmul(&centred.transpose(0, 1)).scale(share)
        })
    }

    /// Pearson's correlations of the rows of a matrix [variables, observations]: [variables, variables], as
    /// `torch.corrcoef`; NaN for a row that is constant.
    ///
    /// # Errors
    /// As [`Tensor::cov`].
    #[track_caller]
    pub fn corrcoef(&self) -> Tensor {
        if let Some(refused) = self.no_matrix("corrcoef") {
            return refused;
        }
        self.formed_wide(|x| {
            let centred = x.centred(&[1]);
            // Divided before the product: squares of large or small deviations would leave f32.
            let rows = &centred / centred.square().sum_keep(&[1]).sqrt();
            rows.matmul(&rows.transpose(0, 1)).clamp(-1.0, 1.0)
        })
    }

    #[track_caller]
    fn no_matrix(&self, op: &'static str) -> Option<Tensor> {
        if self.error().is_some() {
            return Some(self.clone());
        }
        let dims = self.dims();
        (dims.rank() != 2).then(|| {
            let what = format!("shape {dims}");
            self.problem(op, Problem::Shape(what, "pass a matrix [variables, observations]"))
        })
    }

    /// x log(y), and 0 where x is 0 unless y is NaN, as `torch.xlogy`: the terms of an entropy. Shapes broadcast.
    #[track_caller]
    pub fn xlogy(&self, y: &Tensor) -> Tensor {
        // A logarithm that is not wanted is never formed: 0 times infinity would come back from the gradient.
        let free = self.eq(0.0).logical_and(&y.le(0.0).logical_or(&y.eq(f64::INFINITY)));
        self * free.where_(&y.ones_like(), y).log()
    }

    /// log(x / (1 - x)), the inverse of the sigmoid, as `torch.logit`. `epsilon` above 0 keeps x within epsilon and
    /// 1 - epsilon; else what is not within 0 and 1 is NaN.
    #[track_caller]
    pub fn logit(&self, epsilon: f64) -> Tensor {
        let x = if epsilon > 0.0 { self.clamp(epsilon, 1.0 - epsilon) } else { self.clone() };
        x.log() - (-x).log1p()
    }

    /// 0 below 0, 1 above, and `at_zero` at 0, as `torch.heaviside`; NaN stays NaN. No gradient flows.
    #[track_caller]
    pub fn heaviside(&self, at_zero: f64) -> Tensor {
        let x = self.detach();
        let [zeros, ones, at] = [0.0, 1.0, at_zero].map(|number| self.filled_like(number));
        x.gt(0.0).where_(&ones, &x.lt(0.0).where_(&zeros, &x.eq(0.0).where_(&at, &x)))
    }

    /// NaN and the infinities replaced by these numbers, as `torch.nan_to_num`. No gradient flows to what is replaced.
    #[track_caller]
    pub fn nan_to_num(&self, nan: f64, positive: f64, negative: f64) -> Tensor {
        let of = |number: f64| self.filled_like(number);
        let finite = self.eq(f64::INFINITY).where_(&of(positive), self);
        let finite = self.eq(f64::NEG_INFINITY).where_(&of(negative), &finite);
        self.is_nan().where_(&of(nan), &finite)
    }

    /// Sum along `axes`, which are removed, of what is not NaN, as `torch.nansum`. No gradient flows to NaN.
    #[track_caller]
    pub fn nan_sum(&self, axes: impl Axes) -> Tensor {
        let none = self.filled_like(0.0);
        self.is_nan().where_(&none, self).sum(axes)
    }

    /// Mean along `axes`, which are removed, of what is not NaN, as `torch.nanmean`: NaN where all are.
    #[track_caller]
    pub fn nan_mean(&self, axes: impl Axes) -> Tensor {
        let axes = &axes.of(self.dims().rank());
        self.nan_sum(axes) / self.eq(self).cast(DType::F32).sum(axes).cast(self.meta().dtype)
    }

    /// How many elements along `axes`, which are removed, are not 0, as `torch.count_nonzero`: u32. NaN is not 0.
    #[track_caller]
    pub fn count_nonzero(&self, axes: impl Axes) -> Tensor {
        let is_bool = self.error().is_none() && self.meta().dtype == DType::Bool;
        let counted = if is_bool { self.clone() } else { self.ne(0.0) };
        counted.cast(DType::U32).sum(axes)
    }

    /// True for elements with |x - y| <= absolute + relative |y|, as `torch.isclose`: equal infinities are close, NaN is not.
    #[track_caller]
    pub fn is_close(&self, y: &Tensor, relative: f64, absolute: f64) -> Tensor {
        let bound = y.abs().scale(relative).offset(absolute);
        // An infinite bound would take everything in.
        let near = (self - y).abs().le(&bound).logical_and(&y.abs().lt(f64::INFINITY));
        self.eq(y).logical_or(&near)
    }

    /// True if all elements are close ([`Tensor::is_close`]), as `torch.allclose`. Reads, and so waits for the device.
    ///
    /// # Errors
    /// What the tensors carry, or what the device reports.
    pub fn all_close(&self, y: &Tensor, relative: f64, absolute: f64) -> Result<bool> {
        let apart = self.is_close(y, relative, absolute).logical_not();
        Ok(apart.cast(DType::U32).sum_all().item()? == 0.0)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Device, Result, Tensor};

    fn of(data: &[f32]) -> Tensor {
        Device::cpu().tensor(data, &[data.len()])
    }

    #[test]
    fn what_is_no_number_is_replaced_or_left_out() -> Result<()> {
        let x = of(&[1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY]).variable();
        let y = x.nan_to_num(0.5, 9.0, -9.0);
        assert_eq!(y.to_vec::<f32>()?, [1.0, 0.5, 9.0, -9.0]);
        assert_eq!(y.sum_all().gradients(&[&x])?[0].to_vec::<f32>()?, [1.0, 0.0, 0.0, 0.0]);
        let x = of(&[1.0, f32::NAN, 4.0]);
        assert_eq!((x.nan_sum(0).item()?, x.nan_mean(-1).item()?), (5.0, 2.5));
        assert!(of(&[f32::NAN]).nan_mean(0).item()?.is_nan());
        Ok(())
    }

    #[test]
    fn infinities_are_close_to_themselves_alone() -> Result<()> {
        let x = of(&[f32::INFINITY, f32::INFINITY, f32::NAN, 1.0]);
        let y = of(&[f32::INFINITY, f32::NEG_INFINITY, f32::NAN, f32::INFINITY]);
        assert_eq!(x.is_close(&y, 1.0, 1.0).to_vec::<bool>()?, [true, false, false, false]);
        assert!(x.slice(0, 0, 1).all_close(&y.slice(0, 0, 1), 0.0, 0.0)? && !x.all_close(&y, 1.0, 1.0)?);
        Ok(())
    }

    #[test]
    fn an_entropy_has_its_edges() -> Result<()> {
        let p = of(&[0.0, 0.5]).variable();
        let loss = p.xlogy(&p).sum_all();
        assert!(loss.gradients(&[&p])?[0].to_vec::<f32>()?.iter().all(|slope| slope.is_finite()));
        assert!(of(&[0.0]).xlogy(&of(&[f32::NAN])).item()?.is_nan());
        assert_eq!(of(&[0.0]).xlogy(&of(&[f32::INFINITY])).item()?, 0.0);
        Ok(())
    }
}
