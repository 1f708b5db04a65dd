//! What surrounds the optimizer in a training run.

pub mod metrics;
