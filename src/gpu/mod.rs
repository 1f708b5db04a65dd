//! The driver's side: adapter, device and queue, buffers and their accounting, pipelines, and the encoding of plans.
//! The only module that names `wgpu`.

mod adapter;
mod balance;
mod buffer;
pub(crate) mod choices;
mod compile;
mod driver;
mod fallback;
mod kept;
mod memory;
mod parallel;
mod pipelines;
mod queries;
mod read;
mod run;
mod staging;
mod stored;
mod subgroups;
mod timestamps;
mod value;
mod workers;

pub(crate) use compile::Compiled;
pub(crate) use driver::Gpu;
pub(crate) use memory::Buffer;
pub(crate) use run::Leaf;
pub use value::GpuValue;
pub(crate) use value::ReadCell;
