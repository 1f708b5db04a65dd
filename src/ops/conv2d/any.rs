//! Convolutions over one, two or three axes, of those over two. One axis is a row; three are two, with the slices that a
//! window's depth takes as channels: the same products, and the input's windows along its depth beside it in memory.

use super::geometry::{Conv1dOptions, Conv2dOptions, Conv3dOptions, ConvOptions};
use crate::error::Problem;
use crate::ops::pool::spans::{Sliding, Span};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Zeros around an image, each side its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Padding<const D: usize> {
    /// So many before and behind each axis.
    Sides([[usize; 2]; D]),
    /// So many that the result has the size of the image, for a stride of 1: `padding="same"` in PyTorch, which puts an odd
    /// one behind.
    Same,
}

/// The name of a convolution over `axes` axes.
fn name(axes: usize) -> &'static str {
    match axes {
        1 => "conv1d",
        2 => {
            // The op, whose plainest variant has the same name.
            "conv2d"
        }
        _ => "conv3d",
    }
}

impl Tensor {
    /// Convolution of `[N, C, L]` with filters `[O, C / groups, K]`, as `torch.nn.functional.conv1d` without bias:
    /// `[N, O, (L + 2 padding - dilation (K - 1) - 1) / stride + 1]`, rounded down. Dtypes as [`Tensor::conv2d`].
    ///
    /// # Errors
    /// As [`Tensor::conv2d`], for tensors of three axes.
    #[track_caller]
    pub fn conv1d(&self, weight: &Tensor, options: &Conv1dOptions) -> Tensor {
        self.conv(weight, options)
    }

    /// Convolution of `[N, C, D, H, W]` with filters `[O, C / groups, KD, KH, KW]`, as `torch.nn.functional.conv3d` without
    /// bias. Dtypes as [`Tensor::conv2d`]. Beside the input it needs memory for KD / (stride along depth) times its size.
    ///
    /// # Errors
    /// As [`Tensor::conv2d`], for tensors of five axes.
    #[track_caller]
    pub fn conv3d(&self, weight: &Tensor, options: &Conv3dOptions) -> Tensor {
        self.conv(weight, options)
    }

    /// [`Tensor::conv1d`], [`Tensor::conv2d`] or [`Tensor::conv3d`], whichever the options are of.
    ///
    /// # Errors
    /// Theirs, and [`crate::Error::Value`] for options of other than one to three axes.
    #[track_caller]
    pub fn conv<const D: usize>(&self, weight: &Tensor, options: &ConvOptions<D>) -> Tensor {
        if let Some(broken) = [self, weight].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let ConvOptions { stride, padding, dilation, groups } = *options;
        if let (&[sh, sw], &[ph, pw], &[dh, dw]) = (&stride[..], &padding[..], &dilation[..]) {
            let options = Conv2dOptions { stride: [sh, sw], padding: [ph, pw], dilation: [dh, dw], groups };
            return self.conv2d(weight, &options);
        }
        let slides = match windows(self.dims(), weight.dims(), options) {
            Ok(spans) => spans,
            Err(problem) => return self.problem(name(D), problem),
        };
        let (x, w) = (*self.dims(), *weight.dims());
        if let ([stride], [padding], [dilation]) = (&stride[..], &padding[..], &dilation[..]) {
            let options =
                Conv2dOptions { stride: [1, *stride], padding: [0, *padding], dilation: [1, *dilation], groups };
            let y = self.unsqueeze(2).conv2d(&weight.unsqueeze(2), &options);
            return y.squeeze(2);
        }
        // What the memory holds is what the product reads: in half precision, half of it.
        let (image, weight, _) = crate::ops::product::operands(self, weight);
        let slices = image.depth_unfolded(slides[0]);
        let options = Conv2dOptions {
            stride: [stride[1], stride[2]],
            padding: [padding[1], padding[2]],
            dilation: [dilation[1], dilation[2]],
            groups,
        };
        let y = slices.conv2d(&weight.reshape(&[w[0], w[1] * w[2], w[3], w[4]]), &options);
        let [depth, height, width] = [0, 1, 2].map(|axis| slides[axis].output);
        y.reshape(&[x[0], depth, w[0], height, width]).permute(&[0, 2, 1, 3, 4])
    }

    /// [`Tensor::conv`] with `padding` besides that of the options, each side its own: `padding="same"`, or what
    /// `torch.nn.functional.pad` puts before a convolution.
    ///
    /// # Errors
    /// As [`Tensor::conv`], and [`crate::Error::Value`] for [`Padding::Same`] with another stride than 1.
    #[track_caller]
    pub fn conv_padded<const D: usize>(
        &self,
        weight: &Tensor,
        options: &ConvOptions<D>,
        padding: &Padding<D>,
    ) -> Tensor {
        if let Some(broken) = [self, weight].into_iter().find(|x| x.error().is_some()) {
            return broken.clone();
        }
        let mut options = *options;
        if self.dims().rank() != D + 2 || weight.dims().rank() != D + 2 {
            return self.problem(name(D), ranks(self.dims(), weight.dims(), D));
        }
        let sides = match *padding {
            Padding::Sides(sides) => sides,
            Padding::Same if options.stride != [1; D] => {
                let what = format!("padding \"same\" with stride {:?}", options.stride);
                return self.problem(name(D), Problem::Value(what, "use a stride of 1, or say how much to pad"));
            }
            Padding::Same => std::array::from_fn(|axis| {
                let reach = (weight.dims()[2 + axis].max(1) - 1).saturating_mul(options.dilation[axis]);
                [reach / 2, reach - reach / 2]
            }),
        };
        // What both sides have in common the convolution pads itself, without a copy of the image.
        let rest = sides.iter().zip(&mut options.padding).map(|(&[before, after], padding)| {
            let both = before.min(after);
            *padding = padding.saturating_add(both);
            (before - both, after - both)
        });
        let pairs: Vec<(usize, usize)> = [(0, 0); 2].into_iter().chain(rest).collect();
        let dtype = self.meta().dtype;
        let x = if pairs.iter().all(|&pair| pair == (0, 0)) {
            self.clone()
        } else {
            self.widen().pad(&pairs, 0.0).cast(dtype)
        };
        x.conv(weight, &options)
    }
}

/// What is wrong with the number of axes.
pub(super) fn ranks(x: &Shape, w: &Shape, axes: usize) -> Problem {
    if !(1..=3).contains(&axes) {
        return Problem::Value(format!("options of {axes} axes"), "pass those of one, two or three");
    }
    let what = format!("images {x} and filters {w} for a convolution over {axes} axes");
    Problem::Shape(what, "pass images [N, C, ..] and filters [O, C / groups, ..] with these axes behind")
}

/// The windows of a convolution along each of its axes.
fn windows<const D: usize>(x: &Shape, w: &Shape, options: &ConvOptions<D>) -> Result<Vec<Span>, Problem> {
    if !(1..=3).contains(&D) || x.rank() != D + 2 || w.rank() != D + 2 {
        return Err(ranks(x, w, D));
    }
    let groups = options.groups;
    if groups == 0 || !x[1].is_multiple_of(groups) || !w[0].is_multiple_of(groups) || x[1] / groups != w[1] {
        let what = format!("images {x} have {} channels in {groups} groups, filters {w} take {}", x[1], w[1]);
        return Err(Problem::Shape(what, "filters are [O, C / groups, ..], and O is a multiple of groups too"));
    }
    let span = |axis: usize| {
        let padding = options.padding[axis];
        let (stride, dilation) = (options.stride[axis], options.dilation[axis]);
        Span::sliding(
            x[2 + axis],
            Sliding { kernel: w[2 + axis], stride, dilation, before: padding, after: padding },
            false,
        )
    };
    (0..D).map(span).collect()
}
