//! Recurrences over sequences: a plain recurrent network, a gated recurrent unit, a long short-term memory.
//!
//! The products of the inputs with their weight are no part of it: a program forms those of all steps as one. A step is one kernel,
//! forward and back: the product of the state with its weight and what the cell makes of it. All steps have one text; which step it is comes
//! as numbers of a uniform. The weight's gradient is one product over all steps.
//!
//! Arrays of states have a slot more than there are steps, which the initial state is in. A row whose sequence has ended keeps its state, so that
//! the last slot has each row's last state.

mod backward;
mod cases;
mod kernels;
mod reference;

pub use backward::RecurrenceBackward;

use crate::array::Array;
use crate::dtype::DType;
use crate::error::Problem;
use crate::kernel::Capabilities;
use crate::layout::Meta;
use crate::op::{Backward, Case, Lowering, Op};
use crate::ops::variants::{names, one_of};
use crate::shape::Shape;
use crate::tensor::Tensor;
use kernels::{Site, THERE};

/// What a step does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cell {
    /// h' = tanh(x + W h + b).
    Tanh,
    /// h' = max(x + W h + b, 0).
    Relu,
    /// Gated recurrent unit, with lines in the order r, z, n: `r, z = sigmoid(x + W h + b)`, `n = tanh(x + r (W h + b))`,
    /// `h' = (1 - z) n + z h`.
    Gru,
    /// Long short-term memory, with lines in the order i, f, g, o: `i, f, o = sigmoid(x + W h + b)`, `g = tanh(x + W h + b)`,
    /// `c' = f c + i g`, `h' = o tanh(c')`.
    Lstm,
}

impl Cell {
    /// Lines of the weights for each hidden unit.
    pub fn lines(self) -> usize {
        match self {
            Cell::Tanh | Cell::Relu => 1,
            Cell::Gru => 3,
            Cell::Lstm => 4,
        }
    }

    /// States that a step passes on: h, and c of a long short-term memory.
    pub fn states(self) -> usize {
        1 + usize::from(self == Cell::Lstm)
    }

    /// True if a step keeps four numbers a unit for the way back.
    fn has_gates(self) -> bool {
        self.lines() > 1
    }
}

/// The states of all steps: results are states `[steps + 1, rows, hidden]`, and with gates these, `[steps, rows, 4 hidden]`, and of a long
/// short-term memory the cells, as the states. Inputs: x, the products of the inputs with their weight, `[steps, rows, lines hidden]`; weight
/// `[lines hidden, hidden]`; bias `[lines hidden]`; the initial state, and cell, `[rows, hidden]`; lengths `[rows]` where there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recurrence {
    /// What a step does.
    pub cell: Cell,
    /// True to begin at the last step of each row.
    pub reverse: bool,
    /// True if rows have lengths of their own, the last input.
    pub lengths: bool,
}

/// What is not the same for every recurrence.
#[derive(Debug, Clone, Copy)]
pub struct RecurrenceOptions<'a> {
    /// What a step does.
    pub cell: Cell,
    /// True to begin at the last step of each row.
    pub reverse: bool,
    /// Steps of each row, u32 `[rows]`: outputs behind them are 0, and the last state is that at the length. A length of 0 leaves the initial
    /// state; one beyond the steps is all of them.
    pub lengths: Option<&'a Tensor>,
}

/// What a recurrence gives.
#[derive(Debug, Clone)]
pub struct Recurrent {
    /// h of every step, `[steps, rows, hidden]`.
    pub output: Tensor,
    /// The last states `[rows, hidden]`: h, and c of a long short-term memory.
    pub last: Vec<Tensor>,
}

impl Tensor {
    /// Runs a cell over the steps of this tensor: `[steps, rows, lines hidden]`, the products of the inputs with their weight and its bias.
    ///
    /// `weight` `[lines hidden, hidden]` and `bias` `[lines hidden]` are those of the state, `start` the initial states `[rows, hidden]`:
    /// h, and c of a long short-term memory. Lines, 1, 3 or 4 for each unit, are in PyTorch's order. All f32. [`crate::nn::Lstm`] and its
    /// neighbours are made of it.
    ///
    /// A second gradient through it is refused; the cells ([`crate::nn::LstmCell`] and its neighbours), step by step, have one.
    ///
    /// # Errors
    /// The results carry [`crate::Error::Shape`], [`crate::Error::DType`] or [`crate::Error::Value`] where something does not fit.
    #[track_caller]
    pub fn recurrence(
        &self,
        weight: &Tensor,
        bias: &Tensor,
        start: &[Tensor],
        options: &RecurrenceOptions<'_>,
    ) -> Recurrent {
        let RecurrenceOptions { cell, reverse, lengths } = *options;
        let op = Recurrence { cell, reverse, lengths: lengths.is_some() };
        let inputs: Vec<&Tensor> = [self, weight, bias].into_iter().chain(start).chain(lengths).collect();
        let states = Tensor::apply(op, &inputs);
        if states.error().is_some() {
            return Recurrent { last: vec![states.clone(); cell.states()], output: states };
        }
        let (steps, rows, hidden) = (self.dims()[0], self.dims()[1], weight.dims()[1]);
        let all = states.results();
        let kept = |states: &Tensor, slot: usize| states.slice_fixed(0, slot, 1).reshape(&[rows, hidden]);
        let end = if reverse { 0 } else { steps };
        let states = std::iter::once(&all[0]).chain(all.get(2));
        let last = states.map(|states| kept(states, end)).collect();
        let output = all[0].slice_fixed(0, usize::from(!reverse), steps);
        let output = match lengths {
            None => output,
            Some(lengths) => {
                let step = self.device().arange(steps, DType::U32).reshape(&[steps, 1, 1]);
                let is_within = step.lt(&lengths.reshape(&[1, rows, 1]));
                is_within.where_(&output, &self.device().fixed(&[], DType::F32, 0.0))
            }
        };
        Recurrent { output, last }
    }
}

impl Recurrence {
    /// Steps, rows and hidden units, or what does not fit.
    fn sizes(&self, inputs: &[Meta]) -> Result<[usize; 3], Problem> {
        let lines = self.cell.lines();
        let wanted = 3 + self.cell.states() + usize::from(self.lengths);
        let shapes = || inputs.iter().map(|meta| meta.shape.to_string()).collect::<Vec<_>>().join(", ");
        let refuse = |next| Err(Problem::Shape(shapes(), next));
        if inputs.len() != wanted {
            return refuse("pass x, weight, bias and the cell's initial states");
        }
        let [x, weight] = [inputs[0].shape, inputs[1].shape];
        if x.rank() != 3 || weight.rank() != 2 || lines.checked_mul(weight[1]) != Some(weight[0]) || x[2] != weight[0] {
            return refuse("pass x [steps, rows, lines hidden] and weight [lines hidden, hidden]");
        }
        let [steps, rows, hidden] = [x[0], x[1], weight[1]];
        if inputs[2].shape[..] != [lines * hidden] {
            return refuse("pass bias [lines hidden]");
        }
        let states = &inputs[3..3 + self.cell.states()];
        if states.iter().any(|state| state.shape[..] != [rows, hidden]) {
            return refuse("pass initial states [rows, hidden]");
        }
        if let Some(wrong) = inputs[..3 + states.len()].iter().find(|meta| meta.dtype != DType::F32) {
            return Err(Problem::DType(format!("it takes f32, not {}", wrong.dtype)));
        }
        if self.lengths {
            let lengths = inputs[wanted - 1];
            if lengths.shape[..] != [rows] {
                return refuse("pass lengths [rows]");
            }
            if lengths.dtype != DType::U32 {
                return Err(Problem::DType(format!("lengths are u32, not {}", lengths.dtype)));
            }
        }
        if weight[0] > kernels::MOST_LINES {
            return refuse("use at most 50,000 lines of weights");
        }
        Ok([steps, rows, hidden])
    }

    fn words(&self, words: &mut Vec<u64>) {
        words.extend([self.cell as u64, u64::from(self.reverse), u64::from(self.lengths)]);
    }

    /// The slot of the initial state.
    fn first(&self, steps: usize) -> usize {
        if self.reverse { steps } else { 0 }
    }

    /// (step, slot before it, slot behind it) in the order of computing.
    fn steps(&self, steps: usize) -> impl DoubleEndedIterator<Item = [usize; 3]> + use<> {
        let reverse = self.reverse;
        (0..steps).map(move |n| match reverse {
            true => [steps - 1 - n, steps - n, steps - 1 - n],
            false => [n, n, n + 1],
        })
    }
}

/// f32 of a shape that users may have made too large.
fn floats(dims: &[usize]) -> Result<Meta, Problem> {
    let shape = Shape::new(dims);
    let too_large = || Problem::Shape(format!("states {dims:?}"), "use fewer steps, rows or units at once");
    Ok(Meta { shape: shape.ok_or_else(too_large)?, dtype: DType::F32 })
}

impl Op for Recurrence {
    fn name(&self) -> &'static str {
        "recurrence"
    }

    fn attributes(&self, words: &mut Vec<u64>) {
        self.words(words);
    }

    fn shape(&self, inputs: &[Meta]) -> Result<Vec<Meta>, Problem> {
        let [steps, rows, hidden] = self.sizes(inputs)?;
        let states = floats(&[steps.saturating_add(1), rows, hidden])?;
        let mut results = vec![states];
        if self.cell.has_gates() {
            results.push(floats(&[steps, rows, 4 * hidden])?);
        }
        results.extend((self.cell == Cell::Lstm).then_some(states));
        Ok(results)
    }

    /// The kernels of the way back give the gradients of x and of the products with the state; that of the weight is one product over all steps.
    fn gradient(&self, backward: &Backward<'_>) -> Vec<Option<Tensor>> {
        let [x, weight] = [&backward.inputs[0], &backward.inputs[1]];
        if self.cell.has_gates() && backward.grads[1].is_some() {
            return vec![Some(backward::no_second(backward.grad)); backward.inputs.len()];
        }
        let (steps, rows, hidden) = (x.dims()[0], x.dims()[1], weight.dims()[1]);
        let lines = weight.dims()[0];
        let states = &backward.outputs[0];
        let dcells = backward.grads.get(2).and_then(Option::as_ref);
        let op = RecurrenceBackward { forward: *self, cells: dcells.is_some() };
        let kept = match self.cell {
            Cell::Tanh | Cell::Relu => vec![states],
            Cell::Gru => vec![&backward.outputs[1], states],
            Cell::Lstm => vec![&backward.outputs[1], &backward.outputs[2]],
        };
        let lengths = self.lengths.then(|| backward.inputs.last()).flatten();
        let inputs: Vec<&Tensor> =
            std::iter::once(weight).chain(kept).chain([backward.grad]).chain(dcells).chain(lengths).collect();
        let results = Tensor::apply(op, &inputs).results();
        if let Some(broken) = results.iter().find(|result| result.error().is_some()) {
            return vec![Some(broken.clone()); backward.inputs.len()];
        }
        let (d, carry) = (&results[0], &results[1]);
        let first = self.first(steps);
        // The slot behind the last step is zeros, so it adds nothing.
        let all = d.reshape(&[(steps + 1) * rows, lines]);
        let of_weight = || all.transpose(0, 1).matmul(&states.reshape(&[(steps + 1) * rows, hidden]));
        let slot = |of: &Tensor, slot: usize, width: usize| of.slice_fixed(0, slot, 1).reshape(&[rows, width]);
        let of_start = || {
            let product = slot(d, first, lines).matmul(weight);
            product + slot(carry, 0, hidden) + slot(backward.grad, first, hidden)
        };
        let of_cell = || {
            let carried = slot(carry, 1, hidden);
            dcells.map_or(carried.clone(), |dcells| carried + slot(dcells, first, hidden))
        };
        let needs = backward.needs;
        let mut gradients = vec![
            needs[0].then(|| match results.get(2) {
                Some(dx) => dx.clone(),
                None => d.slice_fixed(0, usize::from(self.reverse), steps),
            }),
            needs[1].then(of_weight),
            needs[2].then(|| all.sum(&[0])),
            needs[3].then(of_start),
        ];
        if self.cell == Cell::Lstm {
            gradients.push(needs[4].then(of_cell));
        }
        gradients.extend(self.lengths.then_some(None));
        gradients
    }

    fn reference(&self, inputs: &[&Array], _: &Meta) -> Vec<Array> {
        self.forward(inputs)
    }

    fn lowering(&self, inputs: &[Meta], _: &Meta, capabilities: &Capabilities) -> Lowering {
        let [steps, rows, hidden] = [inputs[0].shape[0], inputs[0].shape[1], inputs[1].shape[1]];
        let site = Site { op: *self, cells: false, steps, rows, hidden };
        one_of(THERE, site, capabilities, |_, lowering| lowering)
    }

    fn cases() -> Vec<Case> {
        cases::all()
    }

    fn variants() -> Vec<&'static str> {
        names(THERE)
    }
}
