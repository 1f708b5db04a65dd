//! A slice's gradient put back where it came from.

use super::{kernel, place};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op, Tolerance};
use crate::shape::Shape;
use crate::tensor::Tensor;

/// Zeros, with input 0 along `axis` from the host number in input 1.
#[derive(Debug)]
pub struct Place {
    /// The axis.
    pub axis: usize,
    /// Its length in the result.
    pub total: usize,
}

impl Tensor {
    #[track_caller]
    pub(crate) fn place(&self, axis: usize, start: &Tensor, total: usize) -> Tensor {
        let half = self.meta().dtype == DType::F16;
        let placed = Tensor::apply(Place { axis, total }, &[&self.cast(DType::F32), start]);
        if half { placed.cast(DType::F16) } else { placed }
    }
}

impl Op for Place {
    fn name(&self) -> &'static str {
        "place"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, self.total as u64]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let mut dims = inputs[0].shape.to_vec();
        crate::ops::shared::check_axis(self.axis, dims.len())?;
        dims[self.axis] = self.total;
        Ok(vec![Meta { shape: Shape::new(&dims).unwrap_or(inputs[0].shape), dtype: DType::F32 }])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let length = backward.inputs[0].dims()[self.axis];
        vec![Some(backward.grad.slice_at(self.axis, &backward.inputs[1], length)), None]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let start = inputs[1].data[0] as usize;
        vec![place(inputs[0], output, |axis| if axis == self.axis { start } else { 0 }, 0.0)]
    }

    fn lowering(&self, inputs: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let before = vec![0; output.shape.rank()];
        Lowering::kernel(kernel("place", &inputs[0].shape, output, &before, 0.0, Some(self.axis)))
    }

    fn cases() -> Vec<Case> {
        let place = |x: &[Tensor]| {
            let start = Tensor::operand(x[0].device(), DType::U32, 3.0, "place");
            x[0].place(1, &start, 11)
        };
        vec![Case::new("middle", place).normal(&[5, 7, 3]).tolerance(Tolerance::Exact)]
    }
}
