//! Windows added up where they were taken from: the adjoint of [`Unfold`], as a gather.

use super::{Order, Unfold, UnfoldOptions, columns, pairs, slide, words};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel};
use crate::layout::Meta;
use crate::op::{Backward, Case, Casting, Draw, Lowering, Op, Tolerance};
use crate::ops::pool::spans::Span;
use crate::ops::product::Product;
use crate::ops::shared::each;
use crate::shader::params;
use crate::shaders;
use crate::shape::{MAX_RANK, Shape};
use crate::tensor::Tensor;

/// The sum, for each element of `[batch, channels, depth, height, width]`, over the windows that it is in.
#[derive(Debug, Clone, Copy)]
pub struct Fold {
    /// As in [`Unfold`].
    pub spans: [Span; 3],
    /// What is read.
    pub order: Order,
}

params! {
    struct Sizes {
        elements,
        channels,
        /// Of each axis what [`Span::sizes`] gives.
        spans: [[u32; 4]; 6],
        /// Of the columns: (batch, elements of a window along each axis), (channels, windows along each axis).
        strides: [[u32; 4]; 2],
    }
}

impl Fold {
    /// The volume that columns come from.
    fn volume(&self, shape: &Shape) -> Option<Shape> {
        let place = |wanted| self.order.roles().into_iter().position(|role| role == wanted);
        let [batch, channels] = [shape.get(place(0)?)?, shape.get(place(1)?)?];
        let [d, h, w] = self.spans.map(|span| span.input);
        Shape::new(&[*batch, *channels, d, h, w])
    }
}

impl Op for Fold {
    fn name(&self) -> &'static str {
        "fold"
    }

    fn casting(&self) -> Casting {
        Casting::Own
    }

    fn attributes(&self, all: &mut Vec<u64>) {
        words(&self.spans, self.order, all);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let Meta { shape, dtype } = inputs[0];
        if !dtype.is_float() {
            return Err(Problem::DType(format!("it takes floats, not {dtype}")));
        }
        let what = || Problem::Shape(format!("columns of shape {shape}"), "pass what unfold gives");
        let volume = self.volume(&shape).ok_or_else(what)?;
        match columns(&volume, &self.spans, self.order)? == shape {
            true => Ok(vec![Meta { shape: volume, dtype }]),
            false => Err(what()),
        }
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(Tensor::apply(Unfold { spans: self.spans, order: self.order }, &[backward.grad]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let mut result = Array::build(output.shape, output.dtype, |_| 0.0);
        pairs(&inputs[0].shape, &self.spans, self.order, output.shape[1], |column, place| {
            result.data[place] += inputs[0].data[column];
        });
        vec![Product { output: output.dtype, ..Product::FULL }.result(result)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, capabilities: &Capabilities) -> Lowering {
        let strides = inputs[0].shape.strides();
        let mut by_role = [0; MAX_RANK];
        self.order.roles().iter().zip(&strides).for_each(|(&role, &stride)| by_role[role] = stride as u32);
        let [n, c, a, b, e, i, j, k] = by_role;
        let strides = [[n, a, b, e], [c, i, j, k]];
        let [x, y, z] = self.spans.map(|span| span.sizes());
        let shader = each(Product::FULL.types(inputs, capabilities)).file(&shaders::unfold::FOLD);
        let mut kernel = Kernel::own("fold", shader);
        kernel.bind(Binding::input(0), "columns", "$A_TYPE$");
        kernel.bind(Binding::output(), "result", "$OUT$");
        kernel.uniform(Sizes {
            elements: output.elements(),
            channels: output.shape[1],
            spans: [x[0], x[1], y[0], y[1], z[0], z[1]],
            strides,
        });
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        let [d, h, w] = self.spans.map(|span| slide(&span).kernel);
        kernel.iterations = (d * (1 + h * (1 + w))) as u64;
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let options = UnfoldOptions { stride: [2, 1], padding: [1, 2], dilation: [1, 2], ..UnfoldOptions::new([3, 2]) };
        let fold = move |x: &[Tensor]| x[0].fold([7, 9], &options);
        vec![
            Case::new("uneven", fold).normal(&[2, 18, 44]).tolerance(Tolerance::Sum { terms: 6 }),
            Case::new("apart", |x| x[0].fold([6], &UnfoldOptions { stride: [3], ..UnfoldOptions::new([2]) }))
                .normal(&[37, 2, 2])
                .tolerance(Tolerance::Exact),
            Case::new("half", fold)
                .input(&[2, 18, 44], DType::F16, Draw::Normal)
                .tolerance(Tolerance::HalfSum { terms: 6 })
                .not_differentiable(),
        ]
    }
}
