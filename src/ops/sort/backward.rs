//! The gradient of sorting: each element's goes back where it stood.

use super::Sizes;
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::Rows;
use crate::ops::shared::{check_axis, each};
use crate::shaders::sort::{BACKWARD, ROW};
use crate::tensor::Tensor;

/// Input 1, f32, with its rows along an axis in the order from which input 0, what sorting gave as indices, has brought them.
#[derive(Debug)]
pub struct SortBackward {
    /// The axis.
    pub axis: usize,
}

impl Op for SortBackward {
    fn name(&self) -> &'static str {
        "sort_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.push(self.axis as u64);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let (indices, grad) = (inputs[0], inputs[1]);
        check_axis(self.axis, grad.shape.rank())?;
        if indices.shape != grad.shape {
            let what = format!("indices of shape {} for a gradient of shape {}", indices.shape, grad.shape);
            return Err(Problem::Shape(what, "pass the indices that sorting gave"));
        }
        if (indices.dtype, grad.dtype) != (DType::U32, DType::F32) {
            let what = format!("it takes u32 and f32, not {} and {}", indices.dtype, grad.dtype);
            return Err(Problem::DType(what));
        }
        Ok(vec![grad])
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![None, Some(backward.grad.gather(self.axis, &backward.inputs[0]))]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut data = vec![0.0; output.elements()];
        for row in 0..rows.rows {
            let start = rows.start(row);
            for at in rows.positions(row) {
                data[start + inputs[0].data[at] as usize * rows.stride] = inputs[1].data[at];
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let rows = Rows::along(&output.shape, self.axis);
        let mut kernel = Kernel::own("sort_backward", each(Shader::of(&[&ROW, &BACKWARD])));
        kernel.bind(Binding::input(0), "order", "u32");
        kernel.bind(Binding::input(1), "sorted", "f32");
        kernel.bind(Binding::output(), "result", "$OUT$");
        kernel.uniform(Sizes::of(&rows));
        kernel.workgroups = (output.elements() as u64).div_ceil(64);
        kernel.epilogue = true;
        Lowering::kernel(kernel)
    }

    fn cases() -> Vec<Case> {
        let back = |x: &[Tensor]| {
            let indices = x[0].argsort(1, true);
            Tensor::apply(SortBackward { axis: 1 }, &[&indices, &x[1]])
        };
        let case = Case::new("middle", back).input(&[3, 37, 5], DType::I32, Draw::Below(9)).normal(&[3, 37, 5]);
        vec![case.tolerance(Tolerance::Exact)]
    }
}
