//! What surrounds the optimizer in a training run.

mod average;
pub mod checkpoint;
mod json;
pub mod metrics;
pub mod mix;
mod safetensors;
mod trainer;

pub use trainer::{Callback, Event, History, Record, Run, Stopped};
