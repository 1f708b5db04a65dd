//! The cases on which recurrences are tested.

use super::{Cell, RecurrenceOptions};
use crate::dtype::DType;
use crate::op::{Case, Draw, Tolerance};
use crate::tensor::Tensor;

/// Rounding grows from step to step, and sums of up to 37 terms of size 1 go through slopes of up to 1.
const BOUND: Tolerance = Tolerance::Pointwise { absolute: 4e-5, relative: 1e-5 };

/// What a recurrence gives, all its parts side by side.
fn joined(cell: Cell, reverse: bool, x: &[Tensor], lengths: Option<&Tensor>) -> Tensor {
    let states = 3 + cell.states();
    // Weights of a size that neither saturates nor explodes.
    let weight = x[1].scale(0.3);
    let given = x[0].recurrence(&weight, &x[2], &x[3..states], &RecurrenceOptions { cell, reverse, lengths });
    let last: Vec<Tensor> = given.last.iter().map(|state| state.unsqueeze(0)).collect();
    Tensor::concat(&std::iter::once(&given.output).chain(&last).collect::<Vec<_>>(), 0)
}

fn case(name: &str, cell: Cell, [steps, rows, hidden]: [usize; 3], reverse: bool) -> Case {
    let lines = cell.lines() * hidden;
    let case = Case::new(name, move |x| joined(cell, reverse, x, None));
    let case = case.normal(&[steps, rows, lines]).normal(&[lines, hidden]).normal(&[lines]);
    (0..cell.states()).fold(case, |case, _| case.normal(&[rows, hidden])).tolerance(BOUND)
}

/// Rows of lengths of their own: one of none, one beyond the steps.
fn lengths(name: &str, cell: Cell, [steps, rows, hidden]: [usize; 3], reverse: bool) -> Case {
    let mut case = case(name, cell, [steps, rows, hidden], reverse);
    case.build = std::sync::Arc::new(move |x: &[Tensor]| joined(cell, reverse, x, x.last()));
    case.input(&[rows], DType::U32, Draw::Values(&[3.0, 7.0, 0.0, 1.0, 5.0, 9.0]))
}

pub(super) fn all() -> Vec<Case> {
    vec![
        case("lstm", Cell::Lstm, [7, 3, 5], false),
        case("lstm_one", Cell::Lstm, [1, 1, 1], false),
        case("lstm_wide", Cell::Lstm, [3, 37, 36], false),
        case("lstm_odd", Cell::Lstm, [2, 3, 37], true),
        lengths("lstm_lengths", Cell::Lstm, [5, 7, 4], false),
        lengths("lstm_lengths_reverse", Cell::Lstm, [5, 7, 5], true),
        case("gru", Cell::Gru, [7, 3, 5], true),
        case("gru_wide", Cell::Gru, [3, 37, 36], false),
        lengths("gru_lengths", Cell::Gru, [5, 7, 12], true),
        case("tanh", Cell::Tanh, [7, 3, 5], false),
        case("tanh_wide", Cell::Tanh, [3, 37, 36], true),
        case("relu", Cell::Relu, [2, 5, 8], false),
        lengths("tanh_lengths", Cell::Tanh, [5, 7, 12], false),
        // A long short-term memory between pointwise ops, whose cells nobody reads, from no state.
        Case::new("between", |x| {
            let start = [x[0].device().zeros(&[5, 8]), x[0].device().zeros(&[5, 8])];
            let options = RecurrenceOptions { cell: Cell::Lstm, reverse: false, lengths: None };
            let given = x[0].transpose(0, 1).tanh().recurrence(&x[1].scale(0.3), &x[2], &start, &options);
            given.output.square() + &x[3]
        })
        .normal(&[5, 3, 32])
        .normal(&[32, 8])
        .normal(&[32])
        .normal(&[8])
        .tolerance(BOUND),
        Case::new("infinite", |x| joined(Cell::Lstm, false, x, None))
            .input(&[2, 3, 4], DType::F32, Draw::Values(&[1.0, f64::INFINITY, -2.0, 200.0, f64::NEG_INFINITY]))
            .normal(&[4, 1])
            .normal(&[4])
            .normal(&[3, 1])
            .normal(&[3, 1])
            .tolerance(BOUND)
            .not_differentiable(),
    ]
}
