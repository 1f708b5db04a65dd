//! What surrounds the optimizer in a training run.

pub mod checkpoint;
mod json;
pub mod metrics;
mod safetensors;
