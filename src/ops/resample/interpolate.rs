//! Images, sequences and volumes in another size.

use super::{Filter, Line};
use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

/// How the elements between are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interpolation {
    /// The element at floor(i scale).
    Nearest,
    /// The element whose middle is nearest: PyTorch's `nearest-exact`.
    NearestExact,
    /// Linear along each axis: PyTorch's `linear`, `bilinear` and `trilinear`.
    Linear {
        /// True if the first and last elements lie on one another, else the ends of the axes do.
        align_corners: bool,
    },
    /// Cubic along each axis: PyTorch's `bicubic`.
    Cubic {
        /// As of [`Interpolation::Linear`].
        align_corners: bool,
    },
    /// The mean of each result's window: [`Tensor::adaptive_avg_pool`].
    Area,
}

impl Interpolation {
    fn filter(self) -> Option<Filter> {
        match self {
            Interpolation::Nearest => Some(Filter::Nearest { exact: false }),
            Interpolation::NearestExact => Some(Filter::Nearest { exact: true }),
            Interpolation::Linear { align_corners: corners } => Some(Filter::Linear { corners }),
            Interpolation::Cubic { align_corners: corners } => Some(Filter::Cubic { corners }),
            Interpolation::Area => None,
        }
    }
}

impl Tensor {
    /// `[batch, channels, ..]` with `size` elements along the one to three axes behind, as
    /// `torch.nn.functional.interpolate` with a size. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are as many axes as sizes, [`crate::Error::DType`] for
    /// integers, [`crate::Error::Value`] for a size of 0 or lengths whose product passes 2^30.
    #[track_caller]
    pub fn interpolate(&self, size: &[usize], mode: Interpolation) -> Tensor {
        match mode.filter() {
            Some(filter) => self.resampled("interpolate", size.len(), filter, |axis, length| {
                Line::scaled(length, size[axis], filter, None)
            }),
            None => self.means("interpolate", size),
        }
    }

    /// `[batch, channels, ..]` with floor(length * factor) elements along the axes behind, as `torch.nn.functional.interpolate`
    /// with a scale factor: places are found by the factor, not by the lengths, but with `align_corners`.
    ///
    /// # Errors
    /// As [`Tensor::interpolate`], and [`crate::Error::Value`] for a factor that is not positive.
    #[track_caller]
    pub fn interpolate_by(&self, factors: &[f64], mode: Interpolation) -> Tensor {
        let sized = |axis: usize, length: usize| {
            let factor: f64 = factors[axis];
            let size = (length as f64 * factor).floor();
            if !(factor.is_finite() && factor > 0.0 && (1.0..4e9).contains(&size)) {
                let what = format!("a factor of {factor} for {length} elements");
                return Err(Problem::Value(what, "pass factors above 0 that leave at least one element"));
            }
            Ok((size as usize, factor))
        };
        match mode.filter() {
            Some(filter) => self.resampled("interpolate", factors.len(), filter, |axis, length| {
                let (size, factor) = sized(axis, length)?;
                Line::scaled(length, size, filter, Some(factor))
            }),
            None => {
                let lengths = self.dims().iter().skip(2).take(factors.len()).enumerate();
                let sizes: Result<Vec<usize>, Problem> =
                    lengths.map(|(axis, &length)| Ok(sized(axis, length)?.0)).collect();
                match sizes {
                    Ok(sizes) => self.means("interpolate", &sizes),
                    Err(problem) => self.problem("interpolate", problem),
                }
            }
        }
    }
}

pub(super) fn cases() -> Vec<Case> {
    use Interpolation::{Area, Cubic, Linear, Nearest, NearestExact};
    let case = |name: &str, shape: &[usize], size: &'static [usize], mode, terms| {
        Case::new(name, move |x| x[0].interpolate(size, mode)).normal(shape).tolerance(Tolerance::Sum { terms })
    };
    // Weights of both signs: a bound on the size of terms, not on that of their sum.
    let cubic_case = |name: &str, shape: &[usize], size: &'static [usize], mode| {
        let bound = Tolerance::Pointwise { absolute: 5e-6, relative: 2e-6 };
        case(name, shape, size, mode, 1).tolerance(bound)
    };
    let [ends, corners] = [false, true].map(|align_corners| Linear { align_corners });
    let [cubic, cubic_corners] = [false, true].map(|align_corners| Cubic { align_corners });
    vec![
        case("nearest", &[2, 3, 7, 5], &[11, 13], Nearest, 6),
        case("nearest_exact_row", &[2, 3, 131], &[37], NearestExact, 4),
        case("linear_row", &[2, 3, 37], &[131], ends, 8),
        case("bilinear", &[2, 3, 7, 5], &[11, 3], ends, 20),
        case("bilinear_corners", &[2, 3, 7, 5], &[3, 17], corners, 20),
        case("trilinear", &[1, 2, 3, 4, 5], &[5, 8, 3], ends, 60),
        case("to_one", &[2, 3, 7, 5], &[1, 1], corners, 4),
        cubic_case("of_one", &[2, 3, 1, 1], &[3, 5], cubic),
        cubic_case("bicubic", &[2, 3, 7, 5], &[11, 9], cubic),
        cubic_case("bicubic_corners", &[2, 3, 9, 5], &[4, 11], cubic_corners),
        case("area", &[2, 3, 7, 5], &[3, 4], Area, 12),
        Case::new("by_factor", move |x| x[0].tanh().interpolate_by(&[1.7, 0.6], ends).relu())
            .normal(&[2, 3, 7, 11])
            .tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 }),
        // Too many results for one loop of the gradient.
        case("far_up", &[1, 2, 1, 1], &[301, 257], Nearest, 80_000),
        Case::new("half_bicubic", move |x| x[0].interpolate(&[11, 9], cubic))
            .input(&[2, 3, 7, 5], DType::F16, Draw::Normal)
            .tolerance(Tolerance::HalfSum { terms: 16 })
            .not_differentiable(),
        Case::new("not_finite", |x| x[0].interpolate(&[7, 10], Nearest))
            .input(&[1, 1, 3, 5], DType::F32, Draw::Values(&[1.0, f64::NAN, f64::INFINITY, -2.0]))
            .tolerance(Tolerance::Exact)
            .not_differentiable(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn what_does_not_fit_is_refused() {
        let x = Device::cpu().zeros(&[2, 3, 7, 5]);
        let linear = Interpolation::Linear { align_corners: false };
        assert!(matches!(x.interpolate(&[3], linear).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.interpolate(&[3, 0], linear).error(), Some(Error::Value { .. })));
        assert!(matches!(x.interpolate(&[3, 1 << 30], linear).error(), Some(Error::Value { .. })));
        assert!(matches!(x.interpolate_by(&[0.1, 2.0], linear).error(), Some(Error::Value { .. })));
        assert!(matches!(x.interpolate_by(&[f64::NAN, 2.0], Interpolation::Area).error(), Some(Error::Value { .. })));
        assert!(matches!(x.cast(DType::I32).interpolate(&[3, 3], linear).error(), Some(Error::DType { .. })));
    }
}
