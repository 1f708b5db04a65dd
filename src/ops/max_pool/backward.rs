//! The gradient of a max pooling, as a gather from the windows that an element is in.

use super::{MaxPoolOptions, windows};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::spans::{self, Span};
use crate::ops::product::Product;
use crate::shaders::max_pool::BACKWARD;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Gradient of [`super::MaxPool`]: its places, and dy.
#[derive(Debug, Clone, Copy)]
pub struct MaxPoolBackward {
    /// The windows.
    pub spans: [Span; 3],
}

impl Op for MaxPoolBackward {
    fn name(&self) -> &'static str {
        "max_pool_backward"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.spans.iter().for_each(|span| span.words(words));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[1];
        let wrong = || {
            let what = format!("places of shape {} and a gradient of shape {shape}", inputs[0].shape);
            Problem::Shape(what, "pass the places and the gradient of the pooled result")
        };
        if shape.rank() != 5 || inputs[0].shape != shape || inputs[0].dtype != DType::U32 || !dtype.is_float() {
            return Err(wrong());
        }
        let [d, h, w] = self.spans.map(|span| span.input);
        let input = Shape::new(&[shape[0], shape[1], d, h, w]).ok_or_else(wrong)?;
        spans::loops(self.spans.map(|span| span.most_windows()))?;
        if spans::output(&input, &self.spans)? == shape { Ok(vec![Meta { shape: input, dtype }]) } else { Err(wrong()) }
    }

    /// Linear in dy: the elements of the cotangent at the winners, which do not move with it.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let places = &backward.inputs[0];
        let flat = |tensor: &Tensor| {
            let dims = tensor.dims();
            tensor.reshape(&[dims[0], dims[1], dims[2] * dims[3] * dims[4]])
        };
        vec![None, Some(flat(backward.grad).gather(2, &flat(places)).reshape(places.dims()))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let [from, to]: [usize; 2] = [&inputs[1].shape, &output.shape].map(|shape| shape[2..].iter().product());
        for (at, slope) in inputs[1].data.iter().enumerate() {
            result.data[at / from * to + inputs[0].data[at] as usize] += slope;
        }
        vec![Product { output: output.dtype, ..Product::FULL }.result(result)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        // The one float.
        let types = Product::FULL.types(&inputs[1..], capabilities);
        let (shader, sizes) = windows(types, &self.spans, output.elements());
        let mut kernel = Kernel::own("max_pool_backward", shader.file(&BACKWARD));
        kernel.bind(Binding::input(0), "places", "u32");
        kernel.bind(Binding::input(1), "dy", "$A_TYPE$");
        kernel.bind(Binding::output(), "dx", "$OUT$");
        kernel.uniform(sizes);
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = spans::loops(self.spans.map(|span| span.most_windows())).unwrap_or(0) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let options = MaxPoolOptions { stride: [2, 1], padding: [1, 1], ..MaxPoolOptions::new([3, 2]) };
        let pooled = move |x: &[Tensor]| {
            let (values, indices) = x[0].detach().max_pool_with_indices(&options);
            let spans = spans::spans([2, 3, 1, 7, 9], 2, |axis, length| {
                let slide = spans::Sliding {
                    kernel: options.kernel[axis],
                    stride: options.stride[axis],
                    dilation: 1,
                    before: 1,
                    after: 1,
                };
                Span::sliding(length, slide, false)
            });
            let volume = |tensor: &Tensor| tensor.unsqueeze(2);
            match spans {
                Ok(spans) => Tensor::apply(MaxPoolBackward { spans }, &[&volume(&indices), &volume(&x[1])]),
                Err(problem) => values.problem("max_pool", problem),
            }
        };
        let case = |name: &str, dtype: DType| {
            Case::new(name, pooled).input(&[2, 3, 7, 9], dtype, Draw::Distinct).input(
                &[2, 3, 4, 10],
                dtype,
                Draw::Normal,
            )
        };
        vec![
            case("overlapping", DType::F32).tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-6 }),
            case("half", DType::F16)
                .tolerance(Tolerance::Pointwise { absolute: 1e-6, relative: 1e-3 })
                .not_differentiable(),
        ]
    }
}
