//! What is taken from sorted rows: the largest, the smallest, the k-th, medians, quantiles.

use crate::error::Problem;
use crate::shape::Axis;
use crate::tensor::Tensor;

/// What [`Tensor::quantile`] makes of a place between two elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Interpolation {
    /// As much of each as the place is near it.
    #[default]
    Linear,
    /// The lower element.
    Lower,
    /// The higher element.
    Higher,
    /// The nearer one, and in the middle the one with an even number.
    Nearest,
    /// The middle of both.
    Midpoint,
}

impl Tensor {
    /// The `k` largest elements along `axis`, or the smallest, in order, and where each stands (u32), as `torch.topk` with
    /// `sorted=True`. Of equal elements the first ones are taken. NaN counts as largest.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::Value`] unless `k` is from 1 to the
    /// length of the axis.
    #[track_caller]
    pub fn topk(&self, k: usize, axis: impl Into<Axis>, largest: bool) -> (Tensor, Tensor) {
        let axis = axis.into().of(self.dims().rank());
        match self.bad_rank("topk", k, axis) {
            Some(bad) => (bad.clone(), bad),
            None => {
                let (values, indices) = self.sort_with_indices(axis, largest);
                (values.slice_fixed(axis, 0, k), indices.slice_fixed(axis, 0, k))
            }
        }
    }

    /// The `k`-th smallest element along `axis`, which is removed, from 1 on, and where it stands (u32), as `torch.kthvalue`. Of
    /// equal elements the first stands before the others. NaN counts as largest.
    ///
    /// # Errors
    /// As [`Tensor::topk`].
    #[track_caller]
    pub fn kthvalue(&self, k: usize, axis: impl Into<Axis>) -> (Tensor, Tensor) {
        let axis = axis.into().of(self.dims().rank());
        if let Some(bad) = self.bad_rank("kthvalue", k, axis) {
            return (bad.clone(), bad);
        }
        let (values, indices) = self.sort_with_indices(axis, false);
        let only = |x: &Tensor| x.slice_fixed(axis, k - 1, 1).squeeze(axis);
        (only(&values), only(&indices))
    }

    /// The median along `axis`, which is removed: of an even number of elements the lower of the two in the middle, as
    /// `torch.median`. NaN if one of the elements is.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank.
    #[track_caller]
    pub fn median(&self, axis: impl Into<Axis>) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        if let Some(bad) = self.bad_rank("median", 1, axis) {
            return bad;
        }
        let length = self.dims()[axis];
        let sorted = self.sort(axis, false);
        let middle = sorted.slice_fixed(axis, (length - 1) / 2, 1);
        let median = if self.meta().dtype.is_float() { sorted.nan_or(axis, &middle) } else { middle };
        median.squeeze(axis)
    }

    /// The quantile `q` along `axis`, which is removed: the element at place `q (n - 1)` of n in order, or what `between` makes of
    /// its neighbours, as `torch.quantile`. NaN if one of the elements is. Floats; half precision in f32, rounded once.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Axis`] if `axis` is not below the rank, [`crate::Error::Value`] unless `0 <= q <= 1`, and
    /// [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn quantile(&self, q: f64, axis: impl Into<Axis>, between: Interpolation) -> Tensor {
        let axis = axis.into().of(self.dims().rank());
        const OP: &str = "quantile";
        if let Some(bad) = self.bad_rank(OP, 1, axis) {
            return bad;
        }
        if !self.meta().dtype.is_float() {
            let what = format!("it takes floats, not {}", self.meta().dtype);
            return self.problem(OP, Problem::DType(what));
        }
        if !(0.0..=1.0).contains(&q) {
            let what = format!("quantile {q} is not in [0, 1]");
            return self.problem(OP, Problem::Value(what, "pass a share of the elements"));
        }
        let place = q * (self.dims()[axis] - 1) as f64;
        let (low, high) = (place.floor(), place.ceil());
        self.formed_wide(|x| {
            let sorted = x.sort(axis, false);
            let element = |place: f64| sorted.slice_fixed(axis, place as usize, 1);
            let value = match between {
                _ if low == high => element(low),
                Interpolation::Lower => element(low),
                Interpolation::Higher => element(high),
                Interpolation::Nearest => element(place.round_ties_even()),
                Interpolation::Linear | Interpolation::Midpoint => {
                    let share = if between == Interpolation::Linear { place - low } else { 0.5 };
                    let below = element(low);
                    // Without the difference, which is NaN between two infinities.
                    below.scale(1.0 - share) + element(high).scale(share)
                }
            };
            sorted.nan_or(axis, &value).squeeze(axis)
        })
    }

    /// The last of these sorted rows where it is NaN, else `value`.
    fn nan_or(&self, axis: usize, value: &Tensor) -> Tensor {
        let last = self.slice_fixed(axis, self.dims()[axis] - 1, 1);
        last.ne(&last).where_(&last, value)
    }

    /// An invalid tensor if there is no element number `k` along `axis`.
    #[track_caller]
    fn bad_rank(&self, op: &'static str, k: usize, axis: usize) -> Option<Tensor> {
        if self.error().is_some() {
            return Some(self.clone());
        }
        let Some(&length) = self.dims().get(axis) else {
            return Some(self.problem(op, Problem::Axis(axis, self.dims().rank())));
        };
        (k == 0 || k > length).then(|| {
            let what = format!("{k} of the {length} elements of axis {axis} of shape {}", self.dims());
            self.problem(op, Problem::Value(what, "pass a number from 1 to the length of the axis"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Interpolation;
    use crate::{DType, Device, Error};

    #[test]
    fn what_is_no_place_in_a_row_is_refused() {
        let x = Device::cpu().zeros(&[2, 3]);
        assert!(matches!(x.sort(2, false).error(), Some(Error::Axis { .. })));
        assert!(matches!(x.topk(4, 1, true).0.error(), Some(Error::Value { .. })));
        assert!(matches!(x.topk(0, 1, true).1.error(), Some(Error::Value { .. })));
        assert!(matches!(x.kthvalue(1, 2).0.error(), Some(Error::Axis { .. })));
        assert!(matches!(x.quantile(1.5, 1, Interpolation::Linear).error(), Some(Error::Value { .. })));
        let whole = x.cast(DType::I32);
        assert!(matches!(whole.quantile(0.5, 1, Interpolation::Linear).error(), Some(Error::DType { .. })));
    }
}
