//! Pooling over one to three axes.

use super::module::{Mode, Module};
use crate::ops::max_pool::MaxPoolOptions;
use crate::ops::resample::AvgPoolOptions;
use crate::tensor::Tensor;

/// The largest element of each window, over `D` axes: as `torch.nn.MaxPool1d` to `MaxPool3d` with all their options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool<const D: usize>(pub MaxPoolOptions<D>);

/// As `torch.nn.MaxPool1d`.
pub type MaxPool1d = MaxPool<1>;
/// As `torch.nn.MaxPool3d`.
pub type MaxPool3d = MaxPool<3>;

impl<const D: usize> MaxPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: [usize; D]) -> MaxPool<D> {
        MaxPool(MaxPoolOptions::new(kernel))
    }
}

impl<const D: usize> Module for MaxPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.max_pool(&self.0)
    }
}

/// The mean of each window, over `D` axes: as `torch.nn.AvgPool1d` to `AvgPool3d` with all their options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool<const D: usize>(pub AvgPoolOptions<D>);

/// As `torch.nn.AvgPool1d`.
pub type AvgPool1d = AvgPool<1>;
/// As `torch.nn.AvgPool3d`.
pub type AvgPool3d = AvgPool<3>;

impl<const D: usize> AvgPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: [usize; D]) -> AvgPool<D> {
        AvgPool(AvgPoolOptions::new(kernel))
    }
}

impl<const D: usize> Module for AvgPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.avg_pool(&self.0)
    }
}

/// (Sum of x^p)^(1/p) over each window, over `D` axes: as `torch.nn.LPPool1d` to `LPPool3d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LpPool<const D: usize> {
    /// The power.
    pub p: f64,
    /// Elements of a window.
    pub kernel: [usize; D],
    /// Elements between the beginnings of windows.
    pub stride: [usize; D],
    /// True if a rest at the end is a window too.
    pub ceil: bool,
}

impl<const D: usize> LpPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(p: f64, kernel: [usize; D]) -> LpPool<D> {
        LpPool { p, kernel, stride: kernel, ceil: false }
    }
}

impl<const D: usize> Module for LpPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.lp_pool(self.p, self.kernel, self.stride, self.ceil)
    }
}

/// The means of so many windows along each axis behind the channels, as `torch.nn.AdaptiveAvgPool1d` to `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveAvgPool<const D: usize>(pub [usize; D]);

impl<const D: usize> Module for AdaptiveAvgPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.adaptive_avg_pool(self.0)
    }
}

/// The largest elements of so many windows along each axis behind the channels, as `torch.nn.AdaptiveMaxPool1d` to `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveMaxPool<const D: usize>(pub [usize; D]);

impl<const D: usize> Module for AdaptiveMaxPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.adaptive_max_pool(self.0)
    }
}
