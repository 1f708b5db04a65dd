//! The words of a counter as a tensor: kernels that draw by themselves read them there.

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::shader::{Algebra, Expression};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// The four words of a counter, which travels as an operand: seed low, seed high, draw low, draw high. u32, `[4]`.
#[derive(Debug)]
pub struct Counter;

impl Op for Counter {
    fn name(&self) -> &'static str {
        "counter"
    }

    fn attributes(&self, _: &mut Vec<u64>) {}

    fn shape(&self, _: &[Meta]) -> Result<Vec<Meta>, Problem> {
        Ok(vec![Meta { shape: Shape::new(&[4]).unwrap_or(Shape::SCALAR), dtype: DType::U32 }])
    }

    fn gradient(&self, _: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        vec![Array { shape: output.shape, dtype: output.dtype, data: inputs[0].data[..4].to_vec() }]
    }

    fn lowering(&self, _: &[Meta], _: &Meta, _: &Capabilities) -> Lowering {
        let text = "select(select(U(a), U(a1), index == U(1u)), select(U(a2), U(a3), index == U(3u)), index >= U(2u))";
        let plain = Expression::new(text, Algebra::Opaque);
        let expression = Expression { words: [true, false, false], draws: true, ..plain };
        Lowering::Expression { expression, constants: vec![] }
    }

    /// By those of attention with dropout.
    fn cases() -> Vec<Case> {
        vec![]
    }
}
