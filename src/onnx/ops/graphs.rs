//! Ops that hold graphs.

use crate::onnx::call::{Call, Outcome, Row};

/// One of two graphs, by a condition that is known while recording: that of the model's inputs or constants.
fn choose(call: &Call<'_>) -> Outcome {
    let is_true = call.number(0)? != 0.0;
    call.graph(if is_true { "then_branch" } else { "else_branch" }, &[])
}

/// Graphs.
pub const ROWS: &[Row] = &[Row::new("If", choose).with(&["else_branch", "then_branch"]).knows(&[0]).native()];
