//! The way back through a recurrence.

use super::kernels::{BACK, Site};
use super::{Cell, Recurrence, floats};
use crate::array::Array;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::ops::variants::{names, one_of};
use crate::tensor::Tensor;

/// Gradients within a [`Recurrence`]: of the products with the state, `[steps + 1, rows, lines hidden]`, a slot of zeros behind the last step;
/// what reaches the initial states past these products, `[states, rows, hidden]`; and, where they differ from the first (a gated recurrent
/// unit's), of x. Inputs: the weight; gates, where there are any; cells of a long short-term memory, else states; the gradient of the states,
/// that of the cells where there is one; lengths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecurrenceBackward {
    /// What it is the gradient of.
    pub forward: Recurrence,
    /// True if the cells have a gradient from outside.
    pub cells: bool,
}

/// What stands for a second gradient.
#[track_caller]
pub(super) fn no_second(grad: &Tensor) -> Tensor {
    let what = "a second gradient through a recurrence".to_string();
    grad.problem("recurrence_backward", Problem::Value(what, "go step by step with a cell (`nn::LstmCell` and others)"))
}

impl RecurrenceBackward {
    fn sizes(&self, inputs: &[Meta]) -> Option<[usize; 3]> {
        let states = inputs.get(1 + usize::from(self.forward.cell.has_gates()))?.shape;
        let all = 3 + [self.forward.cell.has_gates(), self.cells, self.forward.lengths]
            .map(usize::from)
            .iter()
            .sum::<usize>();
        let fits = inputs.len() == all && states.rank() == 3 && states[0] > 1;
        fits.then(|| [states[0] - 1, states[1], states[2]])
    }
}

impl Op for RecurrenceBackward {
    fn name(&self) -> &'static str {
        "recurrence_backward"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.forward.words(words);
        words.push(u64::from(self.cells));
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let sizes = self.sizes(inputs).ok_or_else(|| {
            Problem::Shape("the inputs do not belong together".into(), "pass those of one recurrence")
        })?;
        let [steps, rows, hidden] = sizes;
        let lines = self.forward.cell.lines() * hidden;
        let mut results =
            vec![floats(&[steps + 1, rows, lines])?, floats(&[self.forward.cell.states(), rows, hidden])?];
        if self.forward.cell == Cell::Gru {
            results.push(floats(&[steps, rows, lines])?);
        }
        Ok(results)
    }

    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        vec![Some(no_second(backward.grad)); backward.inputs.len()]
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        self.backward(inputs)
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let [steps, rows, hidden] = self.sizes(inputs).unwrap_or([1; 3]);
        let site = Site { op: self.forward, cells: self.cells, steps, rows, hidden };
        one_of(BACK, site, capabilities, |_, lowering| lowering)
    }

    /// Those of [`Recurrence`], whose gradients it forms.
    fn cases() -> Vec<Case> {
        vec![]
    }

    fn variants() -> Vec<&'static str> {
        names(BACK)
    }
}
