//! Max pooling over the last two axes: the largest elements, and where they are.
//!
//! Who wants the values alone stores no index: the backward kernel finds the maximum of each window again from x, which the
//! graph keeps anyway. For the usual 2x2 windows that is the same traffic as reading stored indices.

mod backward;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::Window;
use crate::ops::product::Product;
use crate::ops::variants::{names, one_of};
use crate::shader::params;
use crate::shaders;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Largest element of each window, and its place (row * width + column) in the plane, u32.
#[derive(Debug)]
pub struct MaxPool2d(pub Window);

/// Gradient of [`MaxPool2d`]: inputs x and dy.
#[derive(Debug)]
pub struct MaxPool2dBackward(pub Window);

impl Tensor {
    /// Largest element of each window of [batch, channels, height, width], as `torch.nn.functional.max_pool2d` in floor
    /// mode. Padding never wins; NaN does; the gradient goes to the first of equal elements.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Value`] for a wrong rank,
    /// dtype, kernel, stride or padding (more than half a kernel).
    #[track_caller]
    pub fn max_pool2d(&self, kernel: [usize; 2], stride: [usize; 2], padding: [usize; 2]) -> Tensor {
        Tensor::apply(MaxPool2d(Window { kernel, stride, padding }), &[self])
    }

    /// [`Tensor::max_pool2d`], and where each element comes from: row * width + column within its plane of the input, u32
    /// as [`Tensor::argmax`] gives and [`Tensor::gather`] takes. As `torch.nn.functional.max_pool2d` with `return_indices`: the
    /// first of equal elements, the last NaN.
    ///
    /// # Errors
    /// As [`Tensor::max_pool2d`], in both results.
    #[track_caller]
    pub fn max_pool2d_with_indices(
        &self,
        kernel: [usize; 2],
        stride: [usize; 2],
        padding: [usize; 2],
    ) -> (Tensor, Tensor) {
        let [values, indices] = Tensor::apply_many(MaxPool2d(Window { kernel, stride, padding }), &[self]);
        (values, indices)
    }
}

/// Place of the winner of window (i, j) in a plane.
fn winner(window: &Window, plane: &[f64], size: [usize; 2], i: usize, j: usize) -> usize {
    let mut best: Option<usize> = None;
    window.taps(size, i, j, |row, column| {
        let at = row * size[1] + column;
        let better = |b: usize| plane[at].is_nan() || !plane[b].is_nan() && plane[at] > plane[b];
        if best.is_none_or(better) {
            best = Some(at);
        }
    });
    best.unwrap_or(0)
}

/// Calls `visit(output element, plane's first element, place)` for every window.
fn places(window: &Window, x: &Array, output: &[usize], mut visit: impl FnMut(usize, usize, usize)) {
    let size = [x.shape[2], x.shape[3]];
    let area = size[0] * size[1];
    for plane in 0..x.shape[0] * x.shape[1] {
        let values = &x.data[plane * area..(plane + 1) * area];
        for i in 0..output[2] {
            for j in 0..output[3] {
                let place = winner(window, values, size, i, j);
                visit((plane * output[2] + i) * output[3] + j, plane * area, place);
            }
        }
    }
}

params! {
    struct Sizes {
        planes,
        in_height,
        in_width,
        out_height,
        out_width,
        padding_height,
        padding_width,
    }
}

impl Sizes {
    /// Of the pooling of `input` to `output`.
    fn new(window: &Window, input: &Shape, output: &Shape) -> Sizes {
        let [padding_height, padding_width] = window.padding;
        let [planes, in_height, in_width] = [input[0] * input[1], input[2], input[3]];
        Sizes {
            planes,
            in_height,
            in_width,
            out_height: output[2],
            out_width: output[3],
            padding_height,
            padding_width,
        }
    }
}

impl Op for MaxPool2d {
    fn name(&self) -> &'static str {
        "max_pool2d"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.0.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let values = self.0.output(&inputs[0])?;
        Ok(vec![values, Meta { dtype: DType::U32, ..values }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(MaxPool2dBackward(self.0), &[&backward.inputs[0], backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [mut values, mut indices] =
            [output.dtype, DType::U32].map(|dtype| Array::build(output.shape, dtype, |_| 0.0));
        places(&self.0, inputs[0], &output.shape, |at, first, place| {
            values.data[at] = inputs[0].data[first + place];
            indices.data[at] = place as f64;
        });
        vec![values, indices]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let window = &self.0;
        let rounds = window.kernel[0] * (1 + window.kernel[1]);
        let columns = Window::columns(rounds);
        let types = Product::FULL.types(inputs, capabilities);
        let shader =
            window.constants(types, columns).file(&shaders::max_pool2d::WINDOW).file(&shaders::max_pool2d::FORWARD);
        let mut kernel = Kernel::own("max_pool2d", shader);
        kernel.bind(Binding::input(0), "x", "$A_TYPE$");
        kernel.results = vec![0, 1];
        let sizes = Sizes::new(window, &inputs[0].shape, &output.shape);
        kernel.uniform(sizes);
        let spans = sizes.planes * output.shape[2] * output.shape[3].div_ceil(columns);
        kernel.workgroups = (spans as u64).div_ceil(64);
        kernel.iterations = (columns * (1 + rounds)) as u64;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        // Both results are compared: those of the op that the tensor is a result of.
        let case = |name: &str, shape: &[usize], kernel, stride, padding| {
            Case::new(name, move |x| x[0].max_pool2d_with_indices(kernel, stride, padding).0)
                .input(shape, DType::F32, Draw::Distinct)
                .tolerance(Tolerance::Exact)
        };
        // Overlapping windows add up to four gradients of size 1.
        let sum = Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 };
        let nan = Draw::Values(&[1.0, f64::NAN, 2.0, 2.0, -1.0, 3.0, f64::NEG_INFINITY]);
        vec![
            case("two", &[3, 5, 8, 6], [2, 2], [2, 2], [0, 0]),
            case("odd_rest", &[2, 3, 7, 9], [2, 2], [2, 2], [0, 0]),
            case("overlapping", &[2, 3, 11, 13], [3, 3], [2, 2], [1, 1]).gradient_tolerance(sum),
            case("asymmetric", &[1, 2, 9, 7], [3, 2], [1, 2], [1, 0]).gradient_tolerance(sum),
            case("gaps", &[2, 1, 11, 8], [2, 2], [3, 4], [1, 1]),
            case("one", &[1, 1, 1, 1], [1, 1], [1, 1], [0, 0]),
            Case::new("values_alone", |x| x[0].max_pool2d([3, 3], [2, 2], [1, 1]).relu() + &x[1])
                .input(&[2, 3, 11, 13], DType::F32, Draw::Distinct)
                .normal(&[2, 3, 6, 7])
                .tolerance(sum),
            Case::new("indices_alone", |x| x[0].max_pool2d_with_indices([3, 2], [2, 1], [1, 1]).1 + &x[1])
                .normal(&[2, 3, 7, 5])
                .input(&[2, 3, 4, 6], DType::U32, Draw::Below(9))
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("both_go_on", |x| {
                let (values, indices) = x[0].max_pool2d_with_indices([3, 3], [2, 2], [1, 1]);
                values.square() * indices.eq(&x[1]).cast(DType::F32) + indices.cast(DType::F32)
            })
            .input(&[2, 3, 11, 13], DType::F32, Draw::Distinct)
            .input(&[2, 3, 6, 7], DType::U32, Draw::Below(143))
            .tolerance(sum),
            Case::new("half", |x| x[0].max_pool2d([3, 3], [2, 2], [1, 1]))
                .input(&[2, 3, 11, 13], DType::F16, Draw::Distinct)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
            Case::new("ties_and_nan", |x| x[0].max_pool2d([2, 2], [1, 1], [0, 0]))
                .input(&[1, 1, 5, 5], DType::F32, nan)
                .tolerance(Tolerance::Exact)
                .not_differentiable(),
        ]
    }
}

impl Op for MaxPool2dBackward {
    fn name(&self) -> &'static str {
        "max_pool2d_backward"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.0.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let pooled = self.0.output(&inputs[0])?;
        if pooled.shape != inputs[1].shape {
            let what = format!("a gradient of shape {} for a result of {}", inputs[1].shape, pooled.shape);
            return Err(Problem::Shape(what, "pass the gradient of the pooled result"));
        }
        self.0.loops(backward::rounds(&self.0))?;
        Ok(vec![inputs[0]])
    }

    /// Linear in dy: the elements of the cotangent at the winners. The winners do not move with x.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let (x, dy) = (&backward.inputs[0], &backward.inputs[1]);
        let flat = |tensor: &Tensor| {
            let d = *tensor.dims();
            tensor.reshape(&[d[0], d[1], d[2] * d[3]])
        };
        let [_, indices] = Tensor::apply_many(MaxPool2d(self.0), &[x]);
        vec![None, Some(flat(backward.grad).gather(2, &flat(&indices)).reshape(dy.dims()))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let dy = inputs[1];
        places(&self.0, inputs[0], &dy.shape, |at, first, place| result.data[first + place] += dy.data[at]);
        vec![Product { output: output.dtype, ..Product::FULL }.result(result)]
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let sizes = Sizes::new(&self.0, &inputs[0].shape, &inputs[1].shape);
        let types = Product::FULL.types(inputs, capabilities);
        let site = backward::Site { window: self.0, sizes, types };
        one_of(backward::VARIANTS, site, capabilities, |_, lowering| lowering)
    }

    fn variants() -> Vec<&'static str> {
        names(backward::VARIANTS)
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, shape: &[usize], pooled: &[usize], kernel, stride, padding| {
            let window = Window { kernel, stride, padding };
            let build = move |x: &[Tensor]| Tensor::apply(MaxPool2dBackward(window), &[&x[0].detach(), &x[1]]);
            Case::new(name, build).input(shape, DType::F32, Draw::Distinct).normal(pooled)
        };
        let half = |mut case: Case| {
            case.inputs.iter_mut().for_each(|input| input.dtype = DType::F16);
            case.not_differentiable()
        };
        vec![
            case("apart", &[2, 3, 7, 8], &[2, 3, 3, 4], [2, 2], [2, 2], [0, 0]).tolerance(Tolerance::Exact),
            case("overlapping", &[1, 2, 7, 9], &[1, 2, 4, 5], [3, 3], [2, 2], [1, 1])
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 }),
            // More than one tile along both axes, and windows that reach over their edges.
            case("tiles", &[2, 2, 39, 45], &[2, 2, 20, 23], [3, 3], [2, 2], [1, 1])
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 }),
            case("tiles_by_three", &[1, 2, 70, 37], &[1, 2, 23, 13], [4, 5], [3, 3], [1, 2])
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 }),
            case("tiles_by_one", &[1, 2, 33, 40], &[1, 2, 33, 40], [3, 5], [1, 1], [1, 2])
                .tolerance(Tolerance::Pointwise { absolute: 3e-6, relative: 3e-6 }),
            half(case("half_apart", &[2, 3, 7, 8], &[2, 3, 3, 4], [2, 2], [2, 2], [0, 0])).tolerance(Tolerance::Exact),
            // Sums of up to four, rounded to 11 bits.
            half(case("half_overlapping", &[1, 2, 7, 9], &[1, 2, 4, 5], [3, 3], [2, 2], [1, 1]))
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-3 }),
        ]
    }
}
