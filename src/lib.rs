//! Kiln trains neural networks on any GPU that wgpu reaches.
#![deny(missing_docs)]

pub mod array;
pub mod autograd;
mod cpu;
mod create;
pub mod data;
mod device;
mod dtype;
mod engine;
mod error;
mod gpu;
pub mod graph;
pub mod kernel;
pub mod ops;
pub mod plan;
pub mod rng;
mod shape;
mod state;
mod tensor;
pub mod train;

pub use array::Array;
pub use device::{Device, DeviceInfo};
pub use dtype::DType;
pub use engine::Statistics;
pub use error::{Error, Result};
pub use rng::Draws;
pub use shape::{MAX_RANK, Shape};
pub use state::State;
pub use tensor::{Element, Tensor, no_grad};
