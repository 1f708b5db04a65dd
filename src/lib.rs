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
pub mod init;
pub mod kernel;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod params;
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
pub use init::Init;
pub use params::{Param, ParamStore, Path};
pub use rng::Draws;
pub use shape::{MAX_RANK, Shape};
pub use state::State;
pub use tensor::{Element, Tensor, no_grad};

/// What a training program uses.
pub mod prelude {
    pub use crate::nn::{
        AvgPool2d, Conv2d, Conv2dConfig, Dropout, Flatten, Linear, MaxPool2d, Mode, Module, Sequential,
    };
    pub use crate::optim::{AdamW, AdamWConfig, Optimizer, Sgd, SgdConfig};
    pub use crate::{DType, Device, Error, Init, Param, ParamStore, Path, Result, Tensor, no_grad};
}
