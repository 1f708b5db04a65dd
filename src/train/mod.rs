//! What surrounds the optimizer in a training run.

mod average;
pub mod checkpoint;
mod json;
pub mod metrics;
pub mod mix;
pub mod records;
mod safetensors;
mod trainer;

#[cfg(feature = "signals")]
pub use trainer::stop_on_signals;
pub use trainer::{
    Batches, Callback, EarlyStopping, Event, Every, Freeze, History, LrCurve, LrRange, NotFinite, Progress, Record,
    ReduceOnPlateau, Rounds, Run, Saves, Step, Stopped, Trainer, Validation,
};
