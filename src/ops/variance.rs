//! Variance and standard deviation, made of means. What else measures a spread is made so too: in f32 for f16
//! ([`Tensor::formed_wide`]), and of differences that keep their digits however large the mean ([`Tensor::centred`]).

use crate::shape::Axes;
use crate::tensor::Tensor;

impl Tensor {
    /// Variance along `axes`, which are removed, with `correction` degrees of freedom taken off (1: unbiased, 0: biased),
    /// as `torch.var`.
    #[track_caller]
    pub fn var(&self, axes: impl Axes, correction: usize) -> Tensor {
        let rank = self.dims().rank();
        let places = &axes.of(rank);
        if places.iter().any(|&axis| axis >= rank) {
            return self.mean(axes);
        }
        let count: usize = places.iter().filter_map(|&axis| self.dims().get(axis)).product();
        // One element and a correction of 1 divide by zero, as in PyTorch.
        let share = 1.0 / (count as f64 - correction as f64).max(0.0);
        self.formed_wide(|x| x.centred(places).square().sum(places).scale(share))
    }

    /// As [`Tensor::var`], but `axes` stay with length 1.
    #[track_caller]
    pub fn var_keep(&self, axes: impl Axes, correction: usize) -> Tensor {
        let places = axes.of(self.dims().rank());
        self.kept(self.var(axes, correction), &places)
    }

    /// Standard deviation along `axes`, which are removed: the root of [`Tensor::var`], as `torch.std`. Where it is 0 its gradient is,
    /// too.
    #[track_caller]
    pub fn std(&self, axes: impl Axes, correction: usize) -> Tensor {
        let rank = self.dims().rank();
        let places = &axes.of(rank);
        if places.iter().any(|&axis| axis >= rank) {
            return self.mean(axes);
        }
        self.formed_wide(|x| x.var(places, correction).off_zero(Tensor::sqrt))
    }

    /// As [`Tensor::std`], but `axes` stay with length 1.
    #[track_caller]
    pub fn std_keep(&self, axes: impl Axes, correction: usize) -> Tensor {
        let places = axes.of(self.dims().rank());
        self.kept(self.std(axes, correction), &places)
    }

    /// What a reduction along `axes` left of this tensor, with these axes back at length 1.
    #[track_caller]
    fn kept(&self, reduced: Tensor, axes: &[usize]) -> Tensor {
        if reduced.error().is_some() { reduced } else { reduced.reshape(&self.dims().keep(axes)) }
    }

    /// Differences from the mean along `axes`. The first element is taken off before, which changes nothing but the
    /// rounding: where elements are alike the difference is exact, and the mean of what is left is small.
    #[track_caller]
    pub(crate) fn centred(&self, axes: &[usize]) -> Tensor {
        if axes.iter().any(|&axis| axis >= self.dims().rank()) {
            return self.mean_keep(axes);
        }
        let first = axes.iter().fold(self.detach(), |first, &axis| first.slice_fixed(axis, 0, 1));
        let apart = self - first;
        &apart - apart.mean_keep(axes)
    }
}
