//! Transposed convolution: the gradient of a convolution with respect to its images, as a layer of its own. Its gradients are
//! the convolution and the gradient with respect to filters.

use super::Conv2dDataGrad;
use super::any::ranks;
use super::geometry::Conv2dOptions;
use crate::error::Problem;
use crate::ops::pool::spans::{Sliding, Span};
use crate::ops::product;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// What is not the same for every transposed convolution over `D` axes. The defaults are PyTorch's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransposeOptions<const D: usize> {
    /// Output elements between neighbouring inputs.
    pub stride: [usize; D],
    /// Elements cut from both sides of each axis of the result.
    pub padding: [usize; D],
    /// Elements more at the end of each axis, where a convolution of this stride leaves a rest.
    pub output_padding: [usize; D],
    /// Output elements between neighbouring taps.
    pub dilation: [usize; D],
    /// Number of groups that channels are divided into.
    pub groups: usize,
}

impl<const D: usize> Default for TransposeOptions<D> {
    fn default() -> Self {
        TransposeOptions { stride: [1; D], padding: [0; D], output_padding: [0; D], dilation: [1; D], groups: 1 }
    }
}

/// The name of a transposed convolution over `axes` axes.
fn name(axes: usize) -> &'static str {
    match axes {
        1 => "conv_transpose1d",
        2 => "conv_transpose2d",
        _ => "conv_transpose3d",
    }
}

impl Tensor {
    /// Transposed convolution of `[N, C, L]` with filters `[C, O / groups, K]`, as `torch.nn.functional.conv_transpose1d`
    /// without bias: `[N, O, (L - 1) stride - 2 padding + dilation (K - 1) + output_padding + 1]`. Dtypes as
    /// [`Tensor::conv2d`].
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose`].
    #[track_caller]
    pub fn conv_transpose1d(&self, weight: &Tensor, options: &TransposeOptions<1>) -> Tensor {
        self.conv_transpose(weight, options)
    }

    /// The same of images `[N, C, H, W]` with filters `[C, O / groups, KH, KW]`, as `torch.nn.functional.conv_transpose2d`.
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose`].
    #[track_caller]
    pub fn conv_transpose2d(&self, weight: &Tensor, options: &TransposeOptions<2>) -> Tensor {
        self.conv_transpose(weight, options)
    }

    /// The same of volumes `[N, C, D, H, W]` with filters `[C, O / groups, KD, KH, KW]`, as
    /// `torch.nn.functional.conv_transpose3d`. Beside the result it needs memory for KD times the result's slices.
    ///
    /// # Errors
    /// As [`Tensor::conv_transpose`].
    #[track_caller]
    pub fn conv_transpose3d(&self, weight: &Tensor, options: &TransposeOptions<3>) -> Tensor {
        self.conv_transpose(weight, options)
    }

    /// The transposed convolution over as many axes as the options are of.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless channels, groups and filters fit and something is left of the
    /// result, [`crate::Error::Value`] for a stride, dilation or number of groups of 0 or an output padding of at least the
    /// stride and the dilation, and [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn conv_transpose<const D: usize>(&self, weight: &Tensor, options: &TransposeOptions<D>) -> Tensor {
        if let Some(broken) = [self, weight].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let spans = match windows(self.dims(), weight.dims(), options) {
            Ok(spans) => spans,
            Err(problem) => return self.problem(name(D), problem),
        };
        let (x, weight, product) = product::operands(self, weight);
        // A whole stride of output padding is what one more input of 0 gives.
        let more: Vec<usize> = (0..D).map(|axis| spans[axis].output - x.dims()[2 + axis]).collect();
        let x = if more.iter().any(|&more| more > 0) {
            let pairs: Vec<_> = [0, 0].into_iter().chain(more).map(|more| (0, more)).collect();
            let dtype = x.meta().dtype;
            x.widen().pad(&pairs, 0.0).cast(dtype)
        } else {
            x
        };
        let (images, w) = (*x.dims(), *weight.dims());
        let TransposeOptions { stride, padding, dilation, groups, .. } = *options;
        let pair = |of: &[usize; D], lone: usize| match of[..] {
            [one] => [lone, one],
            [.., height, width] => [height, width],
            [] => [lone; 2],
        };
        let size = match &spans[..] {
            [one] => [1, one.input],
            [.., height, width] => [height.input, width.input],
            [] => [1; 2],
        };
        let options = Conv2dOptions {
            stride: pair(&stride, 1),
            padding: pair(&padding, 0),
            dilation: pair(&dilation, 1),
            groups,
        };
        let grad = |x: &Tensor, w: &Tensor| Tensor::apply(Conv2dDataGrad { options, product, size }, &[x, w]);
        match D {
            1 => grad(&x.unsqueeze(2), &weight.unsqueeze(2)).squeeze(2),
            2 => grad(&x, &weight),
            _ => {
                let slices =
                    x.permute(&[0, 2, 1, 3, 4]).reshape(&[images[0] * images[2], images[1], images[3], images[4]]);
                let y = grad(&slices, &weight.reshape(&[w[0], w[1] * w[2], w[3], w[4]]));
                y.depth_folded(spans[0], images[0])
            }
        }
    }
}

/// The windows of the convolution that this one transposes: its images are the results here.
fn windows<const D: usize>(x: &Shape, w: &Shape, options: &TransposeOptions<D>) -> Result<Vec<Span>, Problem> {
    if !(1..=3).contains(&D) || x.rank() != D + 2 || w.rank() != D + 2 {
        return Err(ranks(x, w, D));
    }
    let TransposeOptions { stride, padding, output_padding, dilation, groups } = *options;
    if groups == 0 || !x[1].is_multiple_of(groups) || x[1] != w[0] {
        let what = format!("images {x} have {} channels in {groups} groups, filters {w} take {}", x[1], w[0]);
        return Err(Problem::Shape(what, "filters are [C, O / groups, ..], and C is a multiple of groups"));
    }
    let span = |axis: usize| {
        let (padding, rest) = (padding[axis], output_padding[axis]);
        let slide = Sliding {
            kernel: w[2 + axis],
            stride: stride[axis],
            dilation: dilation[axis],
            before: padding,
            after: padding,
        };
        if rest >= slide.stride.max(slide.dilation) && rest > 0 {
            let what =
                format!("an output padding of {rest} with stride {} and dilation {}", slide.stride, slide.dilation);
            return Err(Problem::Value(what, "pad less than the stride or the dilation"));
        }
        let sizes = [slide.kernel, slide.stride, slide.dilation];
        let fits = sizes.iter().all(|&size| size > 0) && sizes.iter().chain([&padding]).all(|&size| size < 1 << 16);
        let full = fits.then(|| (x[2 + axis].max(1) - 1).checked_mul(slide.stride)).flatten();
        let input =
            full.and_then(|full| (full + slide.reach() + rest).checked_sub(2 * padding)).filter(|&size| size > 0);
        let Some(input) = input else {
            let what = format!("images {x}, filters {w} and {options:?} leave no result along axis {}", 2 + axis);
            return Err(Problem::Value(
                what,
                "stride and dilation start at 1, no size may pass 65,535, and the padding leaves a result",
            ));
        };
        Span::sliding(input, slide, false)
    };
    (0..D).map(span).collect()
}
