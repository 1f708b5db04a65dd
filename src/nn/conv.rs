//! Convolutional layers.

use super::module::{Mode, Module, bias_init, bias_like, placed};
use super::sizes::Sizes;
use crate::init::Init;
use crate::ops::conv2d::{ConvOptions, Padding};
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What shapes or draws the parameters of a convolution, transposed or not. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvConfig {
    /// Parts into which channels are split.
    pub groups: usize,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Initial values of the weight. The default is PyTorch's: within `1 / sqrt(fan in)`, of what a weight's second axis and
    /// window are, for transposed ones too.
    pub init: Init,
}

impl Default for ConvConfig {
    fn default() -> Self {
        ConvConfig { groups: 1, bias: true, init: Init::FAN_IN_UNIFORM }
    }
}

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
    /// From `inputs` to `outputs` channels with windows of `kernel` (`3`, or `[3, 5]`, outermost axis first), with a bias,
    /// steps of 1 and no padding.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, outputs: usize, kernel: impl Into<Sizes<D>>) -> Conv<D> {
        Conv::with(path, inputs, outputs, kernel, ConvConfig::default())
    }

    /// With a choice of groups, bias and initial values.
    #[track_caller]
    pub fn with(
        path: &Path,
        inputs: usize,
        outputs: usize,
        kernel: impl Into<Sizes<D>>,
        config: ConvConfig,
    ) -> Conv<D> {
        let (ConvConfig { groups, bias, init }, Sizes(kernel)) = (config, kernel.into());
        // Channels that do not divide are reported by the op.
        let inputs = inputs / groups.max(1);
        let shape = [&[outputs, inputs][..], &kernel].concat();
        let fan_in = kernel.iter().fold(inputs, |fan, &size| fan.saturating_mul(size));
        Conv {
            weight: path.param("weight", &shape, init),
            bias: bias.then(|| path.param("bias", &[outputs], bias_init(fan_in))),
            options: ConvOptions { groups, ..ConvOptions::default() },
            padding: None,
        }
    }

    /// With so many steps between windows.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> Conv<D> {
        self.options.stride = stride.into().0;
        self
    }

    /// With so many zeros on both sides of each axis.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> Conv<D> {
        self.options.padding = padding.into().0;
        self
    }

    /// With so many elements from one of a window to the next.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> Conv<D> {
        self.options.dilation = dilation.into().0;
        self
    }

    /// With `padding` besides: each side its own, or PyTorch's `padding="same"`.
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
