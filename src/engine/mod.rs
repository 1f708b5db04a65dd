//! Running what is recorded: collect, look the plan up or make it, run it, hand out the values.

mod backend;
mod check;
mod compute;
mod found;
mod handover;
mod kernels;
mod make;
mod plans;
mod read;
mod refusal;
mod step;
mod tune;

pub(crate) use backend::{OnGpu, Reference};
pub(crate) use compute::evaluate_before_update;
pub use found::Unique;
pub(crate) use handover::{
    ArenaBinding, ArenaKernel, Beside, Bound, Found, Gradients, Step, Stepped, Trained, Update, Wanted,
};
pub(crate) use kernels::{Work, plan_kernels, run_kernels};
pub(crate) use make::step_plan;
pub(crate) use read::{computed, hear, read};
pub(crate) use refusal::Author;
pub(crate) use step::step;
