//! Average pooling over the last two axes, and its gradient.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::Window;
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Mean of each window.
#[derive(Debug, Clone, Copy)]
pub struct AvgPool2d {
    /// The window.
    pub window: Window,
    /// True if padding counts as zeros in the mean.
    pub count_include_pad: bool,
}

/// Gradient of [`AvgPool2d`]: input dy.
#[derive(Debug)]
pub struct AvgPool2dBackward {
    /// The pooling.
    pub pool: AvgPool2d,
    /// Height and width of what was pooled.
    pub size: [usize; 2],
}

impl Tensor {
    /// Mean of each window of [batch, channels, height, width], as `torch.nn.functional.avg_pool2d` in floor mode. With
    /// `count_include_pad` padding counts as zeros, else only elements inside count.
    ///
    /// # Errors
    /// As [`Tensor::max_pool2d`].
    #[track_caller]
    pub fn avg_pool2d(
        &self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
        count_include_pad: bool,
    ) -> Tensor {
        let pool = AvgPool2d { window: Window { kernel, stride, padding }, count_include_pad };
        Tensor::apply(pool, &[self])
    }
}

/// A result of the reference in its dtype.
fn rounded(result: Array) -> Array {
    Product { output: result.dtype, ..Product::FULL }.result(result)
}

impl AvgPool2d {
    fn words(&self, words: &mut Vec<u64>) {
        self.window.words(words);
        words.push(u64::from(self.count_include_pad));
    }

    fn divisor(&self, size: [usize; 2], i: usize, j: usize) -> f64 {
        let mut inside = 0;
        self.window.taps(size, i, j, |_, _| inside += 1);
        let all = self.window.kernel[0] * self.window.kernel[1];
        if self.count_include_pad { all as f64 } else { f64::from(inside.max(1)) }
    }
}

params! {
    struct Sizes {
        planes,
        in_height,
        in_width,
        out_height,
        out_width,
        kernel_height,
        kernel_width,
        stride_height,
        stride_width,
        padding_height,
        padding_width,
        /// 1 if padding counts as elements.
        count_padding,
    }
}

impl Sizes {
    /// Of the pooling of `input` to `output`.
    fn new(pool: &AvgPool2d, input: &Shape, output: &Shape) -> Sizes {
        let Window { kernel, stride, padding } = pool.window;
        Sizes {
            planes: input[0] * input[1],
            in_height: input[2],
            in_width: input[3],
            out_height: output[2],
            out_width: output[3],
            kernel_height: kernel[0],
            kernel_width: kernel[1],
            stride_height: stride[0],
            stride_width: stride[1],
            padding_height: padding[0],
            padding_width: padding[1],
            count_padding: usize::from(pool.count_include_pad),
        }
    }
}

impl Op for AvgPool2d {
    fn name(&self) -> &'static str {
        "avg_pool2d"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![self.window.output(&inputs[0])?])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let input = backward.inputs[0].dims();
        vec![Some(Tensor::apply(AvgPool2dBackward { pool: *self, size: [input[2], input[3]] }, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let x = inputs[0];
        let size = [x.shape[2], x.shape[3]];
        let area = output.shape[2] * output.shape[3];
        vec![rounded(Array::build(output.shape, output.dtype, |at| {
            let (plane, i, j) = (at / area, at % area / output.shape[3], at % output.shape[3]);
            let mut sum = 0.0;
            self.window.taps(size, i, j, |row, column| sum += x.data[(plane * size[0] + row) * size[1] + column]);
            sum / self.divisor(size, i, j)
        }))]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let types = Product::FULL.types(inputs, capabilities);
        let window = &self.window;
        let shader = each(types).file(&shaders::avg_pool2d::FORWARD);
        let mut kernel = Kernel::own("avg_pool2d", shader);
        kernel.bind(Binding::input(0), "x", "$A_TYPE$");
        kernel.bind(Binding::output(), "y", "$OUT$");
        kernel.uniform(Sizes::new(self, &inputs[0].shape, &output.shape));
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = (window.kernel[0] * (1 + window.kernel[1])) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, shape: &[usize], kernel: [usize; 2], stride, padding, count| {
            Case::new(name, move |x| x[0].avg_pool2d(kernel, stride, padding, count))
                .normal(shape)
                .tolerance(Tolerance::Sum { terms: kernel[0] * kernel[1] })
        };
        vec![
            case("two", &[3, 5, 8, 6], [2, 2], [2, 2], [0, 0], true),
            case("overlapping", &[2, 3, 11, 13], [3, 3], [2, 2], [1, 1], true),
            case("without_padding", &[2, 3, 11, 13], [3, 3], [2, 1], [1, 1], false),
            case("gaps", &[2, 1, 11, 8], [2, 2], [3, 4], [0, 1], true),
            case("global", &[2, 37, 5, 7], [5, 7], [1, 1], [0, 0], true),
            Case::new("half", |x| x[0].avg_pool2d([3, 3], [2, 1], [1, 1], false))
                .input(&[2, 3, 11, 13], DType::F16, Draw::Normal)
                .tolerance(Tolerance::HalfSum { terms: 9 })
                .not_differentiable(),
        ]
    }
}

impl AvgPool2dBackward {
    /// Rounds of loops that an element takes: over the windows that cover it.
    fn rounds(&self) -> usize {
        let [rows, columns] = self.pool.window.covering();
        rows * (1 + columns)
    }
}

impl Op for AvgPool2dBackward {
    fn name(&self) -> &'static str {
        "avg_pool2d_backward"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.pool.words(words);
        words.extend(self.size.map(|n| n as u64));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        let input = match *shape {
            [batch, channels, _, _] => Shape::new(&[batch, channels, self.size[0], self.size[1]]),
            _ => None,
        };
        let input = input.map(|shape| Meta { shape, dtype });
        if !input.is_some_and(|input| self.pool.window.output(&input).is_ok_and(|output| output.shape == shape)) {
            let what = format!("a gradient of shape {shape} for planes of {:?}", self.size);
            return Err(Problem::Shape(what, "pass the gradient of the pooled result"));
        }
        self.pool.window.loops(self.rounds())?;
        Ok(vec![input.unwrap_or(inputs[0])])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(self.pool, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let dy = inputs[0];
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let (out, [_, width]) = (&dy.shape, self.size);
        for (at, slope) in dy.data.iter().enumerate() {
            let (j, i) = (at % out[3], at / out[3] % out[2]);
            let first = at / (out[2] * out[3]) * self.size[0] * width;
            let share = slope / self.pool.divisor(self.size, i, j);
            self.pool.window.taps(self.size, i, j, |row, column| result.data[first + row * width + column] += share);
        }
        vec![rounded(result)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let types = Product::FULL.types(inputs, capabilities);
        let window = &self.pool.window;
        let columns = Window::columns(self.rounds());
        let shader = window.constants(types, columns).file(&shaders::avg_pool2d::BACKWARD);
        let mut kernel = Kernel::own("avg_pool2d_backward", shader);
        kernel.bind(Binding::input(0), "dy", "$A_TYPE$");
        kernel.bind(Binding::output(), "dx", "$OUT$");
        kernel.uniform(Sizes::new(&self.pool, &output.shape, &inputs[0].shape));
        let shape = output.shape;
        let spans = shape[0] * shape[1] * shape[2] * shape[3].div_ceil(columns);
        kernel.workgroups = (spans as u64).div_ceil(64);
        kernel.iterations = (columns * (1 + self.rounds())) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let window = Window { kernel: [3, 2], stride: [2, 1], padding: [1, 1] };
        let pool = AvgPool2d { window, count_include_pad: false };
        vec![
            Case::new("plain", move |x| Tensor::apply(AvgPool2dBackward { pool, size: [7, 5] }, &[&x[0]]))
                .normal(&[2, 3, 4, 6])
                .tolerance(Tolerance::Sum { terms: 6 }),
            Case::new("half", move |x| Tensor::apply(AvgPool2dBackward { pool, size: [7, 5] }, &[&x[0]]))
                .input(&[2, 3, 4, 6], DType::F16, Draw::Normal)
                .tolerance(Tolerance::HalfSum { terms: 6 })
                .not_differentiable(),
        ]
    }
}
