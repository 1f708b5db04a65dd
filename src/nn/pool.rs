//! Pooling over one to three axes.

use super::module::{Mode, Module};
use super::sizes::Sizes;
use crate::ops::max_pool::MaxPoolOptions;
use crate::ops::resample::AvgPoolOptions;
use crate::tensor::Tensor;

/// The largest element of each window, over `D` axes: as `torch.nn.MaxPool1d` to `MaxPool3d` with all their options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool<const D: usize>(MaxPoolOptions<D>);

/// As `torch.nn.MaxPool1d`.
pub type MaxPool1d = MaxPool<1>;
/// As `torch.nn.MaxPool2d`.
pub type MaxPool2d = MaxPool<2>;
/// As `torch.nn.MaxPool3d`.
pub type MaxPool3d = MaxPool<3>;

impl<const D: usize> MaxPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: impl Into<Sizes<D>>) -> MaxPool<D> {
        MaxPool(MaxPoolOptions::new(kernel.into().0))
    }

    /// With so many elements between the beginnings of windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> MaxPool<D> {
        self.0.stride = stride.into().0;
        self
    }

    /// With so many elements put around, which never win, on both sides of each axis: at most half a window.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> MaxPool<D> {
        self.0.padding = padding.into().0;
        self
    }

    /// With so many elements from one of a window to the next.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> MaxPool<D> {
        self.0.dilation = dilation.into().0;
        self
    }

    /// A rest at the end is a window too (PyTorch's `ceil_mode`).
    #[must_use]
    pub fn ceil(mut self) -> MaxPool<D> {
        self.0.ceil = true;
        self
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
pub struct AvgPool<const D: usize>(AvgPoolOptions<D>);

/// As `torch.nn.AvgPool1d`.
pub type AvgPool1d = AvgPool<1>;
/// As `torch.nn.AvgPool2d`.
pub type AvgPool2d = AvgPool<2>;
/// As `torch.nn.AvgPool3d`.
pub type AvgPool3d = AvgPool<3>;

impl<const D: usize> AvgPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: impl Into<Sizes<D>>) -> AvgPool<D> {
        AvgPool(AvgPoolOptions::new(kernel.into().0))
    }

    /// With so many elements between the beginnings of windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> AvgPool<D> {
        self.0.stride = stride.into().0;
        self
    }

    /// With so many zeros around, on both sides of each axis: at most half a window.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> AvgPool<D> {
        self.0.padding = padding.into().0;
        self
    }

    /// Padding does not count in the mean.
    #[must_use]
    pub fn without_padding_in_mean(mut self) -> AvgPool<D> {
        self.0.count_include_pad = false;
        self
    }

    /// A rest at the end is a window too (PyTorch's `ceil_mode`).
    #[must_use]
    pub fn ceil(mut self) -> AvgPool<D> {
        self.0.ceil = true;
        self
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
    p: f64,
    kernel: [usize; D],
    stride: [usize; D],
    ceil: bool,
}

/// As `torch.nn.LPPool1d`.
pub type LpPool1d = LpPool<1>;
/// As `torch.nn.LPPool2d`.
pub type LpPool2d = LpPool<2>;
/// As `torch.nn.LPPool3d`.
pub type LpPool3d = LpPool<3>;

impl<const D: usize> LpPool<D> {
    /// Windows of `kernel` side by side.
    pub fn new(p: f64, kernel: impl Into<Sizes<D>>) -> LpPool<D> {
        let Sizes(kernel) = kernel.into();
        LpPool { p, kernel, stride: kernel, ceil: false }
    }

    /// With so many elements between the beginnings of windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> LpPool<D> {
        self.stride = stride.into().0;
        self
    }

    /// A rest at the end is a window too (PyTorch's `ceil_mode`).
    #[must_use]
    pub fn ceil(mut self) -> LpPool<D> {
        self.ceil = true;
        self
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
pub struct AdaptiveAvgPool<const D: usize>([usize; D]);

/// As `torch.nn.AdaptiveAvgPool1d`.
pub type AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
/// As `torch.nn.AdaptiveAvgPool2d`.
pub type AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
/// As `torch.nn.AdaptiveAvgPool3d`.
pub type AdaptiveAvgPool3d = AdaptiveAvgPool<3>;

impl<const D: usize> AdaptiveAvgPool<D> {
    /// To results of `size`; `1` pools over all there is.
    pub fn new(size: impl Into<Sizes<D>>) -> AdaptiveAvgPool<D> {
        AdaptiveAvgPool(size.into().0)
    }
}

impl<const D: usize> Module for AdaptiveAvgPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.adaptive_avg_pool(self.0)
    }
}

/// The largest elements of so many windows along each axis behind the channels, as `torch.nn.AdaptiveMaxPool1d` to `3d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdaptiveMaxPool<const D: usize>([usize; D]);

/// As `torch.nn.AdaptiveMaxPool1d`.
pub type AdaptiveMaxPool1d = AdaptiveMaxPool<1>;
/// As `torch.nn.AdaptiveMaxPool2d`.
pub type AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
/// As `torch.nn.AdaptiveMaxPool3d`.
pub type AdaptiveMaxPool3d = AdaptiveMaxPool<3>;

impl<const D: usize> AdaptiveMaxPool<D> {
    /// To results of `size`; `1` pools over all there is.
    pub fn new(size: impl Into<Sizes<D>>) -> AdaptiveMaxPool<D> {
        AdaptiveMaxPool(size.into().0)
    }
}

impl<const D: usize> Module for AdaptiveMaxPool<D> {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.adaptive_max_pool(self.0)
    }
}
