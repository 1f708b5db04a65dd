//! Norms of vectors, made of other ops. The gradient at 0 is 0, as in PyTorch: what has no slope there is kept out of roots and powers,
//! since an infinity behind a mask would come back as NaN from the second derivative.

use crate::error::Problem;
use crate::shape::Axes;
use crate::tensor::Tensor;

impl Tensor {
    /// The `p`-norm of the elements along `axes`, which are removed: (sum |x|^p)^(1/p), as `torch.linalg.vector_norm`. The norm of
    /// infinity is the largest |x|, of -infinity the smallest, of 0 the number of elements that are not 0.
    ///
    /// Half precision is formed in f32 and rounded once. The gradient is 0 for elements that are 0; that of an infinite norm goes
    /// to the first of equal elements, where PyTorch shares it.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] for an axis out of range, [`crate::Error::DType`] for what is no float, and
    /// [`crate::Error::Value`] for a NaN.
    #[track_caller]
    pub fn norm(&self, p: f64, axes: impl Axes) -> Tensor {
        let axes = &axes.of(self.dims().rank());
        self.norm_of(p, axes, |x, reduction| match reduction {
            Reduction::Sum => x.sum(axes),
            Reduction::Max => x.max(axes),
            Reduction::Min => x.min(axes),
        })
    }

    /// As [`Tensor::norm`], but `axes` stay with length 1.
    #[track_caller]
    pub fn norm_keep(&self, p: f64, axes: impl Axes) -> Tensor {
        let axes = &axes.of(self.dims().rank());
        self.norm_of(p, axes, |x, reduction| match reduction {
            Reduction::Sum => x.sum_keep(axes),
            Reduction::Max => x.max_keep(axes),
            Reduction::Min => x.min_keep(axes),
        })
    }

    /// As [`Tensor::norm`] over all axes: a scalar.
    #[track_caller]
    pub fn norm_all(&self, p: f64) -> Tensor {
        self.norm(p, &(0..self.dims().rank()).collect::<Vec<_>>())
    }

    #[track_caller]
    fn norm_of(&self, p: f64, axes: &[usize], reduce: impl Fn(&Tensor, Reduction) -> Tensor) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let rank = self.dims().rank();
        if let Some(&axis) = axes.iter().find(|&&axis| axis >= rank) {
            return self.problem("norm", Problem::Axis(axis, rank));
        }
        if !self.meta().dtype.is_float() {
            let what = format!("it is not defined for {}; cast it to a float", self.meta().dtype);
            return self.problem("norm", Problem::DType(what));
        }
        if p.is_nan() {
            return self.problem("norm", Problem::Value("p is NaN".into(), "pass a number, such as 2"));
        }
        self.formed_wide(|x| match p {
            f64::INFINITY => reduce(&x.abs(), Reduction::Max),
            f64::NEG_INFINITY => reduce(&x.abs(), Reduction::Min),
            0.0 => reduce(&x.ne(0).where_(&x.scalar(1.0), &x.scalar(0.0)), Reduction::Sum),
            1.0 => reduce(&x.abs(), Reduction::Sum),
            2.0 => reduce(&x.square(), Reduction::Sum).off_zero(Tensor::sqrt),
            p if p > 0.0 => {
                let powers = x.abs().off_zero(|size| size.pow(&x.scalar(p)));
                reduce(&powers, Reduction::Sum).off_zero(|sum| sum.pow(&x.scalar(1.0 / p)))
            }
            p => reduce(&x.abs().pow(&x.scalar(p)), Reduction::Sum).pow(&x.scalar(1.0 / p)),
        })
    }

    /// `form` of what is not 0, and 0 with the gradient 0 of what is.
    #[track_caller]
    pub(crate) fn off_zero(&self, form: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        let is_zero = self.eq(0);
        is_zero.where_(&self.scalar(0.0), &form(&is_zero.where_(&self.scalar(1.0), self)))
    }
}

/// What becomes of the elements along the axes.
enum Reduction {
    Sum,
    Max,
    Min,
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Error};

    #[test]
    fn second_derivatives_at_zeros_are_numbers() {
        let x = Device::cpu().tensor(&[0.0f32, 0.0, 3.0, 0.0], &[2, 2]).variable();
        for p in [0.5, 1.0, 1.5, 2.0, 3.0, f64::INFINITY] {
            let first = x.norm(p, -1).sum_all().gradients(&[&x]).unwrap().remove(0);
            assert!(first.to_vec::<f32>().unwrap().iter().all(|g| g.is_finite()), "norm {p}");
            if first.requires_grad() {
                let second = first.sum_all().gradients(&[&x]).unwrap().remove(0);
                assert!(second.to_vec::<f32>().unwrap().iter().all(|g| g.is_finite()), "norm {p}");
            }
        }
    }

    #[test]
    fn integers_nan_and_axes_beyond_the_rank_are_refused() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.cast(DType::I32).norm_all(2.0).error(), Some(Error::DType { op: "norm", .. })));
        assert!(matches!(x.norm_all(f64::NAN).error(), Some(Error::Value { op: "norm", .. })));
        assert!(matches!(x.norm(2.0, 2).error(), Some(Error::Axis { op: "norm", .. })));
        assert!(matches!(x.log_sum_exp(&[0, 0]).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.any(5).error(), Some(Error::Axis { .. })));
        assert!(matches!(x.std(5, 1).error(), Some(Error::Axis { .. })));
    }
}
