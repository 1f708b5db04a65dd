//! Convolutional layers.

use super::module::{Mode, Module, bias_init, bias_like, placed};
use crate::init::Init;
use crate::ops::conv2d::{ConvOptions, Padding};
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What is not the same for every convolution over `D` axes. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvConfig<const D: usize> {
    /// Steps between windows, outermost axis first.
    pub stride: [usize; D],
    /// Zeros around the image; [`Conv::padded`] for sides that differ.
    pub padding: [usize; D],
    /// Distance of a window's elements.
    pub dilation: [usize; D],
    /// Parts into which channels are split.
    pub groups: usize,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Initial values of the weight; PyTorch's (within `1 / sqrt(fan in)`) if `None`.
    pub init: Option<Init>,
}

impl<const D: usize> Default for ConvConfig<D> {
    fn default() -> Self {
        ConvConfig { stride: [1; D], padding: [0; D], dilation: [1; D], groups: 1, bias: true, init: None }
    }
}

/// Of a [`Conv1d`].
pub type Conv1dConfig = ConvConfig<1>;
/// Of a [`Conv2d`].
pub type Conv2dConfig = ConvConfig<2>;
/// Of a [`Conv3d`].
pub type Conv3dConfig = ConvConfig<3>;

/// Cross-correlation of sequences with a bank of windows, as `torch.nn.Conv1d`.
pub type Conv1d = Conv<1>;
/// Cross-correlation of images with a bank of windows, as `torch.nn.Conv2d`.
pub type Conv2d = Conv<2>;
/// Cross-correlation of volumes with a bank of windows, as `torch.nn.Conv3d`.
pub type Conv3d = Conv<3>;

/// Cross-correlation over `D` axes with a bank of windows: [`Conv1d`], [`Conv2d`] and [`Conv3d`].
#[derive(Debug, Clone)]
pub struct Conv<const D: usize> {
    /// `[out, in / groups, ..kernel]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    options: ConvOptions<D>,
    padding: Option<Padding<D>>,
}

impl<const D: usize> Conv<D> {
    /// From `inputs` to `outputs` channels with windows of `kernel`, outermost axis first.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, outputs: usize, kernel: [usize; D], config: ConvConfig<D>) -> Conv<D> {
        let ConvConfig { stride, padding, dilation, groups, bias, init } = config;
        // Channels that do not divide are reported by the op.
        let inputs = inputs / groups.max(1);
        let shape = [&[outputs, inputs][..], &kernel].concat();
        let fan_in = kernel.iter().fold(inputs, |fan, &size| fan.saturating_mul(size));
        Conv {
            weight: path.param("weight", &shape, init.unwrap_or(Init::FAN_IN_UNIFORM)),
            bias: bias.then(|| path.param("bias", &[outputs], bias_init(fan_in))),
            options: ConvOptions { stride, padding, dilation, groups },
            padding: None,
        }
    }

    /// With `padding` besides that of the configuration: each side its own, or PyTorch's `padding="same"`.
    #[must_use]
    pub fn padded(self, padding: Padding<D>) -> Conv<D> {
        Conv { padding: Some(padding), ..self }
    }
}

/// A bias of channels on what has `axes` axes behind them.
#[track_caller]
pub(super) fn with_bias(y: Tensor, bias: Option<&Param>, axes: usize) -> Tensor {
    match bias {
        Some(bias) => {
            let bias = (0..axes).fold(bias.tensor(), |bias, axis| bias.unsqueeze(1 + axis));
            &y + bias_like(bias, &y)
        }
        None => y,
    }
}

impl<const D: usize> Module for Conv<D> {
    /// `[batch, in, ..]` to `[batch, out, ..]`.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let weight = self.weight.tensor();
        let y = match &self.padding {
            Some(padding) => x.conv_padded(&weight, &self.options, padding),
            None => x.conv(&weight, &self.options),
        };
        let y = with_bias(y, self.bias.as_ref(), D);
        placed(x, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([outputs, inputs, kernel @ ..]) => {
                format!("Conv{D}d {} -> {outputs}, {}", inputs * self.options.groups, sizes(kernel))
            }
            _ => format!("Conv{D}d"),
        })
    }
}

/// Sizes of a window, as errors have them.
pub(super) fn sizes(kernel: &[usize]) -> String {
    kernel.iter().map(usize::to_string).collect::<Vec<_>>().join(" x ")
}
