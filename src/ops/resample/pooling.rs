//! Average pooling over one to three axes: in windows with rests, adaptive, and of powers.

use super::{Filter, Line};
use crate::dtype::DType;
use crate::error::Problem;
use crate::op::{Case, Draw, Tolerance};
use crate::ops::pool::spans::{Sliding, Span};
use crate::tensor::Tensor;

/// Windows of an average pooling over `D` axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AvgPoolOptions<const D: usize> {
    /// Elements of a window.
    pub kernel: [usize; D],
    /// Elements between the beginnings of windows.
    pub stride: [usize; D],
    /// Zeros around, on both sides of each axis: at most half a window.
    pub padding: [usize; D],
    /// True if a rest at the end is a window too (PyTorch's `ceil_mode`).
    pub ceil: bool,
    /// True if padding counts in the mean.
    pub count_include_pad: bool,
}

impl<const D: usize> AvgPoolOptions<D> {
    /// Windows of `kernel` side by side, with PyTorch's defaults.
    pub fn new(kernel: [usize; D]) -> AvgPoolOptions<D> {
        AvgPoolOptions { kernel, stride: kernel, padding: [0; D], ceil: false, count_include_pad: true }
    }
}

impl Tensor {
    /// Mean of each window of `[batch, channels, length]`, as `torch.nn.functional.avg_pool1d`. With `count_include_pad`
    /// padding counts as zeros, else only elements inside count.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool`].
    #[track_caller]
    pub fn avg_pool1d(&self, kernel: usize, stride: usize, padding: usize, count_include_pad: bool) -> Tensor {
        let (kernel, stride, padding) = ([kernel], [stride], [padding]);
        self.avg_pool(&AvgPoolOptions { kernel, stride, padding, ceil: false, count_include_pad })
    }

    /// Mean of each window of `[batch, channels, depth, height, width]`, as `torch.nn.functional.avg_pool3d`.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool`].
    #[track_caller]
    pub fn avg_pool3d(
        &self,
        kernel: [usize; 3],
        stride: [usize; 3],
        padding: [usize; 3],
        count_include_pad: bool,
    ) -> Tensor {
        self.avg_pool(&AvgPoolOptions { kernel, stride, padding, ceil: false, count_include_pad })
    }

    /// Mean of each window of `[batch, channels, ..]` over the one to three axes behind. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for another rank or windows that do not fit, [`crate::Error::DType`] for
    /// integers, [`crate::Error::Value`] for sizes of 0 or beyond 65,535 and for a padding of more than half a window.
    #[track_caller]
    pub fn avg_pool<const D: usize>(&self, options: &AvgPoolOptions<D>) -> Tensor {
        // Two axes without rests have kernels of their own.
        let AvgPoolOptions { kernel, stride, padding, ceil, count_include_pad } = options;
        if let (&[kh, kw], &[sh, sw], &[ph, pw], false) = (&kernel[..], &stride[..], &padding[..], *ceil) {
            return self.avg_pool2d([kh, kw], [sh, sw], [ph, pw], *count_include_pad);
        }
        let filter = Filter::Mean { count_padding: *count_include_pad };
        self.resampled("avg_pool", D, filter, |axis, length| {
            let (kernel, padding) = (options.kernel[axis], options.padding[axis]);
            if padding > kernel / 2 {
                let what = format!("a window of {kernel} with padding {padding}");
                return Err(Problem::Value(what, "pad at most half a window"));
            }
            let slide = Sliding { kernel, stride: options.stride[axis], dilation: 1, before: padding, after: padding };
            Ok(Line::windows(Span::sliding(length, slide, options.ceil)?))
        })
    }

    /// Means of `size` windows along the last axes of `[batch, channels, ..]`, as even as can be, as
    /// `torch.nn.functional.adaptive_avg_pool1d` to `3d`: window i of n from floor(i length / n) to ceil((i + 1) length / n).
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`] or, for a size of 0, [`crate::Error::Value`].
    #[track_caller]
    pub fn adaptive_avg_pool<const D: usize>(&self, size: [usize; D]) -> Tensor {
        if size == [1; D] && self.error().is_none() && self.dims().rank() == D + 2 && self.meta().dtype.is_float() {
            return self.global_avg_pool();
        }
        self.means("adaptive_avg_pool", &size)
    }

    #[track_caller]
    pub(super) fn means(&self, op: &'static str, size: &[usize]) -> Tensor {
        let filter = Filter::Mean { count_padding: false };
        self.resampled(op, size.len(), filter, |axis, length| Ok(Line::windows(Span::even(length, size[axis])?)))
    }

    /// The mean over all axes behind the channels of `[batch, channels, ..]`, which stay with length 1.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] unless there are such axes, [`crate::Error::DType`] for integers.
    #[track_caller]
    pub fn global_avg_pool(&self) -> Tensor {
        match self.behind_channels("global_avg_pool") {
            Ok(axes) => self.widen().mean_keep(&axes).cast(self.meta().dtype),
            Err(broken) => broken,
        }
    }

    /// The largest element over all axes behind the channels of `[batch, channels, ..]`, which stay with length 1.
    ///
    /// # Errors
    /// As [`Tensor::global_avg_pool`].
    #[track_caller]
    pub fn global_max_pool(&self) -> Tensor {
        match self.behind_channels("global_max_pool") {
            Ok(axes) => self.max_keep(&axes),
            Err(broken) => broken,
        }
    }

    #[track_caller]
    fn behind_channels(&self, op: &'static str) -> Result<Vec<usize>, Tensor> {
        if self.error().is_some() {
            return Err(self.clone());
        }
        if self.dims().rank() < 3 {
            let what = format!("input of shape {}", self.dims());
            return Err(self.problem(op, Problem::Shape(what, "pass [batch, channels, ..] with axes behind")));
        }
        Ok((2..self.dims().rank()).collect())
    }

    /// (sum of x^`p`)^(1/`p`) over each window of `[batch, channels, ..]`, as `torch.nn.functional.lp_pool1d` to `3d`; the
    /// maximum for an infinite `p`. Where the sum is 0 the gradient is 0.
    ///
    /// # Errors
    /// As [`Tensor::avg_pool`], and [`crate::Error::Value`] unless `p` is positive.
    #[track_caller]
    pub fn lp_pool<const D: usize>(&self, p: f64, kernel: [usize; D], stride: [usize; D], ceil: bool) -> Tensor {
        if p.is_nan() || p <= 0.0 {
            return self.problem("lp_pool", Problem::Value(format!("a power of {p}"), "pass a number above 0"));
        }
        let elements = kernel.iter().fold(1.0, |product, &size| product * size as f64);
        self.formed_wide(|x| {
            let powers = x.power_of(p);
            let means = powers.avg_pool(&AvgPoolOptions { stride, ceil, ..AvgPoolOptions::new(kernel) });
            means.scale(elements).root_of(p)
        })
    }
}

impl Tensor {
    /// The mean over `size` neighbouring channels of `[batch, channels, ..]`, zeros beyond the first and the last.
    #[track_caller]
    pub(crate) fn channel_means(&self, op: &'static str, size: usize) -> Tensor {
        let dims = *self.dims();
        let rest: usize = dims.iter().skip(2).product();
        let volume = self.reshape(&[dims[0], 1, dims[1], 1, rest]);
        let means = volume.resampled(op, 3, Filter::Mean { count_padding: true }, |axis, length| match axis {
            0 => {
                let (before, after) = (size / 2, size.saturating_sub(1) / 2);
                let slide = Sliding { kernel: size, stride: 1, dilation: 1, before, after };
                Ok(Line::windows(Span::sliding(length, slide, false)?))
            }
            _ => Ok(Line::whole(length)),
        });
        means.reshape(&dims)
    }

    /// x^p, without a power where a product does.
    #[track_caller]
    pub(crate) fn power_of(&self, p: f64) -> Tensor {
        match p {
            1.0 => self.clone(),
            2.0 => self.square(),
            _ => self.pow(&self.scalar(p)),
        }
    }

    /// x^(1/p) of what is not negative, with a gradient of 0 at 0, where there is none.
    #[track_caller]
    pub(crate) fn root_of(&self, p: f64) -> Tensor {
        if p == 1.0 {
            return self.clone();
        }
        let is_zero = self.detach().eq(&self.scalar(0.0));
        let safe = is_zero.where_(&self.scalar(1.0), self);
        let root = if p == 2.0 { safe.sqrt() } else { safe.pow(&self.scalar(1.0 / p)) };
        is_zero.where_(&self.scalar(0.0), &root)
    }
}

pub(super) fn cases() -> Vec<Case> {
    let pool = |name: &str, shape: &[usize], kernel: [usize; 2], stride, padding, ceil, count| {
        let options = AvgPoolOptions { kernel, stride, padding, ceil, count_include_pad: count };
        let terms = kernel[0] * kernel[1];
        Case::new(name, move |x| x[0].avg_pool(&options)).normal(shape).tolerance(Tolerance::Sum { terms })
    };
    let sum = |terms| Tolerance::Sum { terms };
    vec![
        pool("rests", &[2, 3, 8, 11], [3, 3], [2, 3], [1, 0], true, true),
        pool("rests_without_padding", &[2, 3, 8, 11], [3, 2], [2, 3], [1, 1], true, false),
        Case::new("row", |x| x[0].avg_pool1d(5, 2, 2, false)).normal(&[2, 3, 131]).tolerance(sum(5)),
        Case::new("volume", |x| x[0].avg_pool3d([2, 3, 2], [1, 2, 2], [1, 1, 0], true))
            .normal(&[2, 2, 4, 7, 6])
            .tolerance(sum(12)),
        Case::new("adaptive", |x| x[0].adaptive_avg_pool([5, 3])).normal(&[2, 3, 7, 11]).tolerance(sum(15)),
        Case::new("adaptive_up", |x| x[0].transpose(2, 3).adaptive_avg_pool([7, 5]))
            .normal(&[2, 3, 3, 5])
            .tolerance(sum(9)),
        Case::new("adaptive_volume", |x| x[0].adaptive_avg_pool([2, 1, 3])).normal(&[1, 3, 3, 4, 7]).tolerance(sum(36)),
        // Too many elements a window for one loop.
        Case::new("adaptive_large", |x| x[0].adaptive_avg_pool([2, 1]))
            .normal(&[1, 1, 601, 307])
            .tolerance(sum(100_000)),
        Case::new("between", |x| (x[0].tanh().adaptive_avg_pool([4]) * &x[1]).relu())
            .normal(&[2, 3, 37])
            .normal(&[4])
            .tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 }),
        Case::new("powers", |x| x[0].lp_pool(3.0, [3, 2], [2, 2], true))
            .input(&[2, 3, 8, 6], DType::F32, Draw::Uniform(0.1, 2.0))
            .tolerance(Tolerance::Pointwise { absolute: 1e-5, relative: 1e-5 }),
        Case::new("half", |x| x[0].adaptive_avg_pool([5, 3]))
            .input(&[2, 3, 7, 11], DType::F16, Draw::Normal)
            .tolerance(Tolerance::HalfSum { terms: 15 })
            .not_differentiable(),
    ]
}
