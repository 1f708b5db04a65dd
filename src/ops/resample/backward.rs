//! The gradient of a resampling, as a gather: each element sums over the results that it is in.

use super::{Filter, Line, Resample};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::spans::Span;
use crate::ops::product::Product;
use crate::shaders::resample::BACKWARD;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Gradient of [`Resample`]: input dy.
#[derive(Debug, Clone, Copy)]
pub struct ResampleBackward(pub Resample);

impl Op for ResampleBackward {
    fn name(&self) -> &'static str {
        match self.0.filter {
            Filter::Mean { .. } => "window_mean_backward",
            _ => "interpolate_backward",
        }
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.0.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        let wrong = || {
            let what = format!("a gradient of shape {shape} for {:?}", self.0.lines.map(|line| line.span.output));
            Problem::Shape(what, "pass the gradient of the result")
        };
        if shape.rank() != 5 {
            return Err(wrong());
        }
        let [d, h, w] = self.0.lines.map(|line| line.span.input);
        let input = Shape::new(&[shape[0], shape[1], d, h, w]).ok_or_else(wrong)?;
        let input = Meta { shape: input, dtype };
        if self.0.output(&input)?.shape == shape { Ok(vec![input]) } else { Err(wrong()) }
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(self.0, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let [from, to]: [usize; 2] = [&inputs[0].shape, &output.shape].map(|shape| shape[2..].iter().product());
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        let planes = output.shape[0] * output.shape[1];
        self.0.pairs(|at, place, weight| {
            for plane in 0..planes {
                result.data[plane * to + place] += weight * inputs[0].data[plane * from + at];
            }
        });
        vec![Product { output: output.dtype, ..Product::FULL }.result(result)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let shader = self.0.shader(Product::FULL.types(inputs, capabilities)).file(&BACKWARD);
        let mut kernel = Kernel::own(self.name(), shader);
        kernel.bind(Binding::input(0), "dy", "$A_TYPE$");
        kernel.bind(Binding::output(), "dx", "$OUT$");
        kernel.uniform(self.0.sizes(output.elements()));
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.iterations = self.0.rounds().map_or(0, |[_, users]| users) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let filter = Filter::Linear { corners: false };
        let line = |input, output| Line::scaled(input, output, filter, None).unwrap_or(Line::whole(input));
        let even = |input, output| Span::even(input, output).map_or(Line::unit_even(), Line::windows);
        let build = move |op: Resample| move |x: &[Tensor]| Tensor::apply(ResampleBackward(op), &[&x[0]]);
        let linear = Resample { filter, lines: [line(1, 1), line(5, 11), line(7, 3)] };
        let means =
            Resample { filter: Filter::Mean { count_padding: true }, lines: [even(1, 1), even(5, 3), even(3, 7)] };
        let half = Case::new("half", build(linear)).input(&[2, 3, 1, 11, 3], DType::F16, Draw::Normal);
        vec![
            Case::new("linear", build(linear)).normal(&[2, 3, 1, 11, 3]).tolerance(Tolerance::Sum { terms: 16 }),
            Case::new("means", build(means)).normal(&[2, 3, 1, 3, 7]).tolerance(Tolerance::Sum { terms: 12 }),
            half.tolerance(Tolerance::HalfSum { terms: 16 }).not_differentiable(),
        ]
    }
}
