//! Transposed convolutional layers.

use super::conv::{ConvConfig, sizes, with_bias};
use super::module::{Mode, Module, bias_init, placed};
use super::sizes::Sizes;
use crate::ops::conv2d::TransposeOptions;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// Transposed convolution of sequences, as `torch.nn.ConvTranspose1d`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// Transposed convolution of images, as `torch.nn.ConvTranspose2d`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// Transposed convolution of volumes, as `torch.nn.ConvTranspose3d`.
pub type ConvTranspose3d = ConvTranspose<3>;

/// The transpose of a convolution over `D` axes: [`ConvTranspose1d`], [`ConvTranspose2d`] and [`ConvTranspose3d`].
#[derive(Debug, Clone)]
pub struct ConvTranspose<const D: usize> {
    /// `[in, out / groups, ..kernel]`.
    pub weight: Param,
    /// `[out]`.
    pub bias: Option<Param>,
    options: TransposeOptions<D>,
}

impl<const D: usize> ConvTranspose<D> {
    /// From `inputs` to `outputs` channels with windows of `kernel` (`3`, or `[3, 5]`, outermost axis first), with a bias
    /// and steps of 1.
    #[track_caller]
    pub fn new(path: &Path, inputs: usize, outputs: usize, kernel: impl Into<Sizes<D>>) -> ConvTranspose<D> {
        ConvTranspose::with(path, inputs, outputs, kernel, ConvConfig::default())
    }

    /// With a choice of groups, bias and initial values.
    #[track_caller]
    pub fn with(
        path: &Path,
        inputs: usize,
        outputs: usize,
        kernel: impl Into<Sizes<D>>,
        config: ConvConfig,
    ) -> ConvTranspose<D> {
        let (ConvConfig { groups, bias, init }, Sizes(kernel)) = (config, kernel.into());
        // Channels that do not divide are reported by the op.
        let each = outputs / groups.max(1);
        let shape = [&[inputs, each][..], &kernel].concat();
        // PyTorch counts the second axis of a weight as what comes in, here too.
        let fan_in = kernel.iter().fold(each, |fan, &size| fan.saturating_mul(size));
        ConvTranspose {
            weight: path.param("weight", &shape, init),
            bias: bias.then(|| path.param("bias", &[outputs], bias_init(fan_in))),
            options: TransposeOptions { groups, ..TransposeOptions::default() },
        }
    }

    /// With so many output elements between neighbouring inputs.
    #[must_use]
    pub fn stride(mut self, stride: impl Into<Sizes<D>>) -> ConvTranspose<D> {
        self.options.stride = stride.into().0;
        self
    }

    /// With so many elements cut from both sides of each axis of the result.
    #[must_use]
    pub fn padding(mut self, padding: impl Into<Sizes<D>>) -> ConvTranspose<D> {
        self.options.padding = padding.into().0;
        self
    }

    /// With so many elements more at the end of each axis.
    #[must_use]
    pub fn output_padding(mut self, more: impl Into<Sizes<D>>) -> ConvTranspose<D> {
        self.options.output_padding = more.into().0;
        self
    }

    /// With so many elements from one of a window to the next.
    #[must_use]
    pub fn dilation(mut self, dilation: impl Into<Sizes<D>>) -> ConvTranspose<D> {
        self.options.dilation = dilation.into().0;
        self
    }
}

impl<const D: usize> Module for ConvTranspose<D> {
    /// `[batch, in, ..]` to `[batch, out, ..]`.
    #[track_caller]
    fn forward(&self, x: &Tensor, _: Mode) -> Tensor {
        let y = with_bias(x.conv_transpose(&self.weight.tensor(), &self.options), self.bias.as_ref(), D);
        placed(x, y, &self.weight, || match self.weight.shape().as_deref() {
            Ok([inputs, outputs, kernel @ ..]) => {
                format!("ConvTranspose{D}d {inputs} -> {}, {}", outputs * self.options.groups, sizes(kernel))
            }
            _ => format!("ConvTranspose{D}d"),
        })
    }
}
