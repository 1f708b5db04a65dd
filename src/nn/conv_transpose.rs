//! Transposed convolutional layers.

use super::conv::{sizes, with_bias};
use super::module::{Mode, Module, bias_init, placed};
use crate::init::Init;
use crate::ops::conv2d::TransposeOptions;
use crate::params::{Param, Path};
use crate::tensor::Tensor;

/// What is not the same for every transposed convolution over `D` axes. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ConvTransposeConfig<const D: usize> {
    /// Output elements between neighbouring inputs, outermost axis first.
    pub stride: [usize; D],
    /// Elements cut from both sides of each axis of the result.
    pub padding: [usize; D],
    /// Elements more at the end of each axis.
    pub output_padding: [usize; D],
    /// Distance of a window's elements.
    pub dilation: [usize; D],
    /// Parts into which channels are split.
    pub groups: usize,
    /// Whether a bias is added to each channel.
    pub bias: bool,
    /// Initial values of the weight; PyTorch's if `None`: within `1 / sqrt(out / groups * elements of a window)`.
    pub init: Option<Init>,
}

impl<const D: usize> Default for ConvTransposeConfig<D> {
    fn default() -> Self {
        let TransposeOptions { stride, padding, output_padding, dilation, groups } = TransposeOptions::default();
        ConvTransposeConfig { stride, padding, output_padding, dilation, groups, bias: true, init: None }
    }
}

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
    /// From `inputs` to `outputs` channels with windows of `kernel`, outermost axis first.
    #[track_caller]
    pub fn new(
        path: &Path,
        inputs: usize,
        outputs: usize,
        kernel: [usize; D],
        config: ConvTransposeConfig<D>,
    ) -> ConvTranspose<D> {
        let ConvTransposeConfig { stride, padding, output_padding, dilation, groups, bias, init } = config;
        // Channels that do not divide are reported by the op.
        let each = outputs / groups.max(1);
        let shape = [&[inputs, each][..], &kernel].concat();
        // PyTorch counts the second axis of a weight as what comes in, here too.
        let fan_in = kernel.iter().fold(each, |fan, &size| fan.saturating_mul(size));
        ConvTranspose {
            weight: path.param("weight", &shape, init.unwrap_or(Init::FAN_IN_UNIFORM)),
            bias: bias.then(|| path.param("bias", &[outputs], bias_init(fan_in))),
            options: TransposeOptions { stride, padding, output_padding, dilation, groups },
        }
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
