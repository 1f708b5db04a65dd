//! Pooling layers.

use super::module::{Mode, Module};
use crate::tensor::Tensor;

/// The largest element of each window, as `torch.nn.MaxPool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPool2d {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Minus infinities around the image.
    pub padding: [usize; 2],
}

impl MaxPool2d {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: [usize; 2]) -> MaxPool2d {
        MaxPool2d { kernel, stride: kernel, padding: [0, 0] }
    }
}

impl Module for MaxPool2d {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.max_pool2d(self.kernel, self.stride, self.padding)
    }
}

/// The mean of each window, as `torch.nn.AvgPool2d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPool2d {
    /// Height and width of a window.
    pub kernel: [usize; 2],
    /// Steps between windows.
    pub stride: [usize; 2],
    /// Zeros around the image.
    pub padding: [usize; 2],
    /// Whether those zeros count in the mean.
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: [usize; 2]) -> AvgPool2d {
        AvgPool2d { kernel, stride: kernel, padding: [0, 0], count_include_pad: true }
    }
}

impl Module for AvgPool2d {
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        x.avg_pool2d(self.kernel, self.stride, self.padding, self.count_include_pad)
    }
}
