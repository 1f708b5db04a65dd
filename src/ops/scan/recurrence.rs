//! The linear recurrence h_j = a_j h_{j-1} + b_j along an axis, with h before the first taken for 0: what gradients of scans are made
//! of. Its own gradient is another one in the other direction.

use super::{Program, check, kernels, positions};
use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::{Binding, Capabilities, Shader};
use crate::layout::Meta;
use crate::op::{Backward, Case, Draw, Lowering, Op, Tolerance};
use crate::ops::rows::{RESULT, Rows};
use crate::shaders::scan::RECURRENCE;
use crate::tensor::Tensor;

/// The recurrence of factors a, input 0, and addends b, input 1.
#[derive(Debug)]
pub struct Recurrence {
    /// The axis.
    pub axis: usize,
    /// True to begin at the end.
    pub reverse: bool,
}

impl Tensor {
    /// h_j = a_j h_{j-1} + b_j of these addends b and `factors` a along `axis`; the first factor does not count.
    #[track_caller]
    pub(crate) fn linear_recurrence(&self, factors: &Tensor, axis: usize, reverse: bool) -> Tensor {
        Tensor::apply(Recurrence { axis, reverse }, &[factors, self])
    }
}

impl Op for Recurrence {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        words.extend([self.axis as u64, u64::from(self.reverse)]);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        check(self.axis, &inputs[0])?;
        if inputs[0] != inputs[1] {
            let what = format!("factors of shape {} beside addends of {}", inputs[0].shape, inputs[1].shape);
            return Err(Problem::Shape(what, "pass two tensors of one shape and dtype"));
        }
        match inputs[0].dtype {
            DType::F32 => Ok(vec![inputs[0]]),
            other => Err(Problem::DType(format!("it takes f32, not {other}"))),
        }
    }

    /// db_j = g_j + a_{j+1} db_{j+1} and da_j = db_j h_{j-1}.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let factors = backward.inputs[0].moved(self.axis, !self.reverse, 0.0);
        let addends = backward.grad.linear_recurrence(&factors, self.axis, !self.reverse);
        let before = || backward.output.moved(self.axis, self.reverse, 0.0);
        vec![backward.needs[0].then(|| &addends * before()), Some(addends)]
    }

    fn reference(&self, inputs: &[&Array], output: &Meta) -> Vec<Array> {
        let rows = Rows::along(&output.shape, self.axis);
        let mut data = inputs[1].data.clone();
        for row in 0..rows.rows {
            let mut before = None;
            for at in positions(&rows, row, self.reverse) {
                data[at] += before.map_or(0.0, |before: f64| inputs[0].data[at] * before);
                before = Some(data[at]);
            }
        }
        vec![Array { shape: output.shape, dtype: output.dtype, data }]
    }

    fn lowering(&self, _: &[Meta], output: &Meta, _: &Capabilities) -> Lowering {
        let program = Program {
            name: "recurrence",
            shader: Shader::of(&[&RECURRENCE]),
            words: 2,
            reverse: self.reverse,
            reads: vec![(Binding::input(1), "addend", "f32")],
            writes: vec![RESULT],
        };
        kernels(&Rows::along(&output.shape, self.axis), &program)
    }

    fn cases() -> Vec<Case> {
        let case = |name: &str, shape: &[usize], axis: usize, reverse: bool| {
            let case = Case::new(name, move |x| x[1].linear_recurrence(&x[0], axis, reverse));
            case.input(shape, DType::F32, Draw::Uniform(-0.9, 0.9))
                .normal(shape)
                .tolerance(Tolerance::Pointwise { absolute: 2e-6, relative: 2e-6 })
        };
        vec![
            case("last", &[37, 131], 1, false),
            case("reverse", &[3, 37, 5], 1, true),
            case("runs", &[3, 1031], 1, false),
            case("runs_reverse", &[1031, 3], 0, true),
            case("of_one", &[5, 1], 1, false),
        ]
    }
}
