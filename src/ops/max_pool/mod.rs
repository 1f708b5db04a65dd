//! Max pooling over one to three axes, with dilation and rests, or adaptive: the largest element of each window, and where it
//! is. [`crate::ops::max_pool2d`] has the plain case of images; this one keeps places, from which gradients are formed.

mod backward;

pub use backward::MaxPoolBackward;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::spans::{self, Cut, Sliding, Span};
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders::max_pool::{FORWARD, SPANS};
use crate::tensor::Tensor;

/// Largest element of each window of `[batch, channels, depth, height, width]`, and its place in the volume, u32.
#[derive(Debug, Clone, Copy)]
pub struct MaxPool {
    /// The windows along the last three axes.
    pub spans: [Span; 3],
}

/// Windows of a max pooling over `D` axes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MaxPoolOptions<const D: usize> {
    /// Elements of a window.
    pub kernel: [usize; D],
    /// Elements between the beginnings of windows.
    pub stride: [usize; D],
    /// Elements put around, which never win, on both sides of each axis: at most half a window.
    pub padding: [usize; D],
    /// Elements between those of a window.
    pub dilation: [usize; D],
    /// True if a rest at the end is a window too (PyTorch's `ceil_mode`).
    pub ceil: bool,
}

impl<const D: usize> MaxPoolOptions<D> {
    /// Windows of `kernel` side by side.
    pub fn new(kernel: [usize; D]) -> MaxPoolOptions<D> {
        MaxPoolOptions { kernel, stride: kernel, padding: [0; D], dilation: [1; D], ceil: false }
    }
}

impl Tensor {
    /// Largest element of each window of `[batch, channels, length]`, as `torch.nn.functional.max_pool1d`.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`].
    #[track_caller]
    pub fn max_pool1d(&self, kernel: usize, stride: usize, padding: usize) -> Tensor {
        self.max_pool(&MaxPoolOptions { stride: [stride], padding: [padding], ..MaxPoolOptions::new([kernel]) })
    }

    /// Largest element of each window of `[batch, channels, depth, height, width]`, as `torch.nn.functional.max_pool3d`.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`].
    #[track_caller]
    pub fn max_pool3d(&self, kernel: [usize; 3], stride: [usize; 3], padding: [usize; 3]) -> Tensor {
        self.max_pool(&MaxPoolOptions { stride, padding, ..MaxPoolOptions::new(kernel) })
    }

    /// Largest element of each window of `[batch, channels, ..]` over the one to three axes behind. Padding never wins; NaN
    /// does; the gradient goes to the first of equal elements. f32 or f16.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for another rank or windows that do not fit, [`crate::Error::DType`] for
    /// integers, [`crate::Error::Value`] for sizes of 0 or beyond 65,535, for a padding of more than half a window, and for
    /// windows that dilation leaves without an element.
    #[track_caller]
    pub fn max_pool<const D: usize>(&self, options: &MaxPoolOptions<D>) -> Tensor {
        // Two axes without these options have kernels of their own.
        let MaxPoolOptions { kernel, stride, padding, dilation, ceil } = options;
        if let (&[kh, kw], &[sh, sw], &[ph, pw], [1, 1], false) =
            (&kernel[..], &stride[..], &padding[..], &dilation[..], *ceil)
        {
            return self.max_pool2d([kh, kw], [sh, sw], [ph, pw]);
        }
        self.max_pool_with_indices(options).0
    }

    /// [`Tensor::max_pool`], and where each element comes from: its place in the image or volume behind its channel, in
    /// row-major order, u32. As in PyTorch with `return_indices`: the first of equal elements, the last NaN.
    ///
    /// # Errors
    /// As [`Tensor::max_pool`], in both results.
    #[track_caller]
    pub fn max_pool_with_indices<const D: usize>(&self, options: &MaxPoolOptions<D>) -> (Tensor, Tensor) {
        self.largest("max_pool", D, |axis, length| {
            let (kernel, padding) = (options.kernel[axis], options.padding[axis]);
            let (stride, dilation) = (options.stride[axis], options.dilation[axis]);
            let slide = Sliding { kernel, stride, dilation, before: padding, after: padding };
            let span = Span::sliding(length, slide, options.ceil)?;
            if padding > slide.reach() / 2 || (0..span.output).any(|i| span.taps(i).next().is_none()) {
                let what = format!("a window of {kernel}, dilation {dilation}, padding {padding}");
                return Err(Problem::Value(what, "pad at most half a window, and leave each an element"));
            }
            Ok(span)
        })
    }

    /// Largest elements of `size` windows along the last axes of `[batch, channels, ..]`, as even as can be, as
    /// `torch.nn.functional.adaptive_max_pool1d` to `3d`.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`] or, for a size of 0 or windows of more than some
    /// 65,000 elements, [`crate::Error::Value`].
    #[track_caller]
    pub fn adaptive_max_pool<const D: usize>(&self, size: [usize; D]) -> Tensor {
        if size == [1; D] && self.error().is_none() && self.dims().rank() == D + 2 && self.meta().dtype.is_float() {
            return self.max_keep(&(2..D + 2).collect::<Vec<_>>());
        }
        self.adaptive_max_pool_with_indices(size).0
    }

    /// [`Tensor::adaptive_max_pool`], and where each element comes from, as of [`Tensor::max_pool_with_indices`].
    ///
    /// # Errors
    /// As [`Tensor::adaptive_max_pool`], in both results.
    #[track_caller]
    pub fn adaptive_max_pool_with_indices<const D: usize>(&self, size: [usize; D]) -> (Tensor, Tensor) {
        self.largest("adaptive_max_pool", D, |axis, length| Span::even(length, size[axis]))
    }

    #[track_caller]
    fn largest(
        &self,
        op: &'static str,
        axes: usize,
        span: impl Fn(usize, usize) -> Result<Span, Problem>,
    ) -> (Tensor, Tensor) {
        if self.error().is_some() {
            return (self.clone(), self.clone());
        }
        let parts = spans::volume(self.dims(), axes).and_then(|dims| Ok((dims, spans::spans(dims, axes, span)?)));
        let (dims, mut spans) = match parts {
            Ok(parts) => parts,
            Err(problem) => {
                let broken = self.problem(op, problem);
                return (broken.clone(), broken);
            }
        };
        // Even windows have even ones of one element beside them.
        if spans.iter().any(|span| span.cut == Cut::Even) {
            spans.iter_mut().for_each(|span| span.cut = Cut::Even);
        }
        let [values, indices] = Tensor::apply_many(MaxPool { spans }, &[&self.reshape(&dims)]);
        if values.error().is_some() {
            return (values, indices);
        }
        let flat = spans::flat(values.dims(), axes);
        (values.reshape(&flat), indices.reshape(&flat))
    }
}

params! {
    struct Sizes {
        elements,
        /// Of each axis (input, output, kernel, stride), (dilation, before, after, 0).
        spans: [[u32; 4]; 6],
    }
}

/// A shader with the windows, and their sizes for `elements` invocations.
fn windows(shader: Shader, spans: &[Span; 3], elements: usize) -> (Shader, Sizes) {
    let [a, b, c] = spans.map(|span| span.sizes());
    let shader = each(shader).file(&SPANS).constant("EVEN", spans[0].cut == Cut::Even);
    (shader, Sizes { elements, spans: [a[0], a[1], b[0], b[1], c[0], c[1]] })
}

impl Op for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.spans.iter().for_each(|span| span.words(words));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() {
            return Err(Problem::DType(format!("it takes floats, not {dtype}")));
        }
        let shape = spans::output(&shape, &self.spans)?;
        spans::loops(self.spans.map(|span| span.most_taps()))?;
        spans::loops(self.spans.map(|span| span.most_windows()))?;
        Ok(vec![Meta { shape, dtype }, Meta { shape, dtype: DType::U32 }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let back = MaxPoolBackward { spans: self.spans };
        vec![Some(Tensor::apply(back, &[&backward.outputs[1], backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let x = inputs[0];
        let [mut values, mut indices] =
            [output.dtype, DType::U32].map(|dtype| Array::build(output.shape, dtype, |_| 0.0));
        let [_, height, width] = self.spans.map(|span| span.input);
        let area: usize = x.shape[2..].iter().product();
        for at in 0..output.elements() {
            let mut index = [0; 5];
            Array::unravel(&output.shape, at, &mut index);
            let [n, c, i, j, k] = index;
            let plane = &x.data[(n * x.shape[1] + c) * area..][..area];
            let mut best: Option<usize> = None;
            for (_, d) in self.spans[0].taps(i) {
                for (_, h) in self.spans[1].taps(j) {
                    for (_, w) in self.spans[2].taps(k) {
                        let place = (d * height + h) * width + w;
                        let better = |b: usize| plane[place].is_nan() || !plane[b].is_nan() && plane[place] > plane[b];
                        if best.is_none_or(better) {
                            best = Some(place);
                        }
                    }
                }
            }
            let place = best.unwrap_or(0);
            values.data[at] = plane[place];
            indices.data[at] = place as f64;
        }
        vec![values, indices]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let types = Product::FULL.types(inputs, capabilities);
        let (shader, sizes) = windows(types, &self.spans, output.elements());
        let mut kernel = Kernel::own("max_pool", shader.file(&FORWARD));
        kernel.bind(Binding::input(0), "x", "$A_TYPE$");
        kernel.results = vec![0, 1];
        kernel.uniform(sizes);
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = spans::loops(self.spans.map(|span| span.most_taps())).unwrap_or(0) as u64;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        // Overlapping windows add up gradients of size 1.
        let sum = Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 };
        let image = |name: &str, shape: &[usize], options: MaxPoolOptions<2>| {
            Case::new(name, move |x| x[0].max_pool_with_indices(&options).0)
                .input(shape, DType::F32, Draw::Distinct)
                .tolerance(Tolerance::Exact)
                .gradient_tolerance(sum)
        };
        let plain = MaxPoolOptions::new([3, 2]);
        let nan = Draw::Values(&[1.0, f64::NAN, 2.0, 2.0, -1.0, 3.0, f64::NEG_INFINITY]);
        let exact = |case: Case| case.tolerance(Tolerance::Exact).gradient_tolerance(sum);
        vec![
            image("rests", &[2, 3, 8, 7], MaxPoolOptions { ceil: true, ..plain }),
            image(
                "dilated",
                &[2, 3, 9, 11],
                MaxPoolOptions { dilation: [2, 3], stride: [2, 1], padding: [1, 1], ..plain },
            ),
            exact(Case::new("row", |x| x[0].max_pool1d(5, 2, 2)).input(&[2, 3, 131], DType::F32, Draw::Distinct)),
            exact(Case::new("volume", |x| x[0].max_pool3d([2, 3, 2], [1, 2, 2], [1, 1, 0])).input(
                &[2, 2, 4, 7, 6],
                DType::F32,
                Draw::Distinct,
            )),
            exact(Case::new("adaptive", |x| x[0].adaptive_max_pool([5, 3])).input(
                &[2, 3, 7, 11],
                DType::F32,
                Draw::Distinct,
            )),
            exact(Case::new("adaptive_up", |x| x[0].transpose(1, 2).adaptive_max_pool([67])).input(
                &[2, 37, 3],
                DType::F32,
                Draw::Distinct,
            )),
            Case::new("between", |x| {
                let (values, indices) = x[0].tanh().max_pool_with_indices(&MaxPoolOptions::new([2, 2, 1]));
                values.square() * indices.cast(DType::F32) + &x[1]
            })
            .input(&[1, 2, 4, 5, 3], DType::F32, Draw::Distinct)
            .normal(&[3])
            .tolerance(Tolerance::Pointwise { absolute: 1e-4, relative: 1e-5 }),
            Case::new("ties_and_nan", |x| x[0].max_pool1d(3, 1, 1))
                .input(&[1, 1, 37], DType::F32, nan)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("half", |x| x[0].max_pool3d([2, 3, 2], [1, 2, 2], [1, 1, 0]))
                .input(&[2, 2, 4, 7, 6], DType::F16, Draw::Distinct)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Device, Error};

    #[test]
    fn a_window_without_elements_and_sizes_of_none_are_refused() {
        let x = Device::cpu().zeros(&[1, 1, 1]);
        let apart = MaxPoolOptions { padding: [2], dilation: [4], stride: [1], ..MaxPoolOptions::new([2]) };
        assert!(matches!(x.max_pool(&apart).error(), Some(Error::Value { op: "max_pool", .. })));
        assert!(matches!(x.max_pool1d(0, 1, 0).error(), Some(Error::Value { .. })));
        assert!(matches!(x.max_pool1d(2, 1, 0).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.max_pool3d([1; 3], [1; 3], [0; 3]).error(), Some(Error::Shape { .. })));
        assert!(matches!(x.adaptive_max_pool([0]).error(), Some(Error::Value { op: "adaptive_max_pool", .. })));
    }
}
