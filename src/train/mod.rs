//! What surrounds the optimizer in a training run.

pub mod checkpoint;
pub mod metrics;
mod safetensors;
