//! Convolutional layers.

use super::module::{Mode, Module};
use crate::init::Init;
use crate::ops::conv2d::Conv2dOptions;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What is not the same for every convolution. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conv2dConfig {
    /// Steps between windows, vertical and horizontal.
    pub stride: [usize; 2],
    /// Zeros around the image, vertical and horizontal.
    pub padding: [usize; 2],
    /// Distance of a window's elements, vertical and horizontal.
    pub dilation: [usize; 2],
    /// Parts into which channels are split.
    pub groups: usize,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Initial values of the weight; PyTorch's (within `1 / sqrt(fan in)`) if `None`.
    pub init: Option<Init>,
}

impl Default for Conv2dConfig {
    fn default() -> Self {
        Conv2dConfig { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1, bias: true, init: None }
    }
}

/// Cross-correlation of images with a bank of windows, as `torch.nn.Conv2d`.
#[derive(Debug, Clone)]
pub struct Conv2d {
    /// `[out, in / groups, kernel height, kernel width]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    options: Conv2dOptions,
}

impl Conv2d {
    /// From `inputs` to `outputs` channels with windows of `kernel` (height, width).
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, outputs: usize, kernel: [usize; 2], config: Conv2dConfig) -> Conv2d {
        let Conv2dConfig { stride, padding, dilation, groups, bias, init } = config;
        // Channels that do not divide are reported by the op.
        let inputs = inputs / groups.max(1);
        let shape = [outputs, inputs, kernel[0], kernel[1]];
        Conv2d {
            weight: path.param("weight", &shape, init.unwrap_or(Init::FAN_IN_UNIFORM)),
            bias: bias.then(|| {
                path.param(
                    "bias",
                    &[outputs],
                    super::module::bias_init(inputs.saturating_mul(kernel[0]).saturating_mul(kernel[1])),
                )
            }),
            options: Conv2dOptions { stride, padding, dilation, groups },
        }
    }
}

impl Module for Conv2d {
    /// `[batch, in, height, width]` to `[batch, out, ..]`.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let y = x.conv2d(&self.weight.tensor(), &self.options);
        let y = match &self.bias {
            Some(bias) => &y + super::module::bias_like(bias.tensor().unsqueeze(1).unsqueeze(2), &y),
            None => y,
        };
        super::module::placed(x, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([outputs, inputs, height, width]) => {
                format!("Conv2d {} -> {outputs}, {height} x {width}", inputs * self.options.groups)
            }
            _ => "Conv2d".into(),
        })
    }
}
