//! Kiln trains neural networks on any GPU that wgpu reaches.
//!
//! WGSL compute shaders do the arithmetic; Rust records the graph, plans it and drives the queue; parameters, gradients
//! and optimizer state live in GPU memory; an f64 interpreter on the CPU is the judge of every result. This page is the
//! tour. `README.md` starts quicker, `ARCHITECTURE.md` goes deeper.
//!
//! # A first look
//!
//! ```
//! use kiln::prelude::*;
//!
//! let device = Device::cpu(); // or Device::best(): a GPU where there is one
//! let x = device.tensor(&[1.0f32, -2.0, 3.0], &[3]).variable();
//! let y = (&x * &x).sum_all(); // recorded, not run
//! let gradients = y.gradients(&[&x])?; // recorded too
//! assert_eq!(y.item()?, 14.0); // reading runs what it needs
//! assert_eq!(gradients[0].to_vec::<f32>()?, [2.0, -4.0, 6.0]);
//! # Ok::<(), Error>(())
//! ```
//!
//! Ops return a [`Tensor`], never a `Result`, so that a program reads like mathematics. A wrong one gives a tensor that
//! carries the error; what is made of it carries the same one, and reading, stepping or saving returns it:
//!
//! ```
//! # use kiln::prelude::*;
//! # let device = Device::cpu();
//! let sum = device.zeros(&[2, 3]) + device.zeros(&[4]);
//! let error = sum.relu().sum_all().item().unwrap_err();
//! assert!(matches!(error, Error::Shape { op: "add", .. }), "{error}");
//! ```
//!
//! # What to read first
//!
//! To use Kiln: [`Device`], [`Tensor`], [`ParamStore`], [`nn`], [`optim::Optimizer`], [`schedule`], [`data`], then
//! [`train`]. The example `train_cnn` has all of them in one program; [`guide`] tells of
//! layers and losses of your own, and [`from_pytorch`] has PyTorch's names.
//!
//! To change it: `src/ops/softmax.rs`, for every op file has its form; [`graph`], [`autograd`], [`plan`]; then
//! `src/engine`, where a read or a step turns what was recorded into a run.
//!
//! # Six words
//!
//! Who knows these can find any line.
//!
//! | word | what it is |
//! | --- | --- |
//! | [`Tensor`] | a cheap handle to one node of a recorded graph; cloning copies the handle |
//! | [`Snapshot`](graph::Snapshot) | the recorded nodes that a run collects from its roots, in topological order |
//! | [`Op`](ops::Op) | what a node does: shape rule, gradient, f64 reference, GPU form and cases, in one file |
//! | [`Kernel`](kernel::Kernel) | plain data: a shader's text, its sizes, its bindings, its workgroups |
//! | [`Plan`](plan::Plan) | a graph compiled once: fused dispatches in order, and the buffer of each result |
//! | `Gpu` | adapter, device, queue, pipelines and buffers: the only place that names wgpu |
//!
//! # What holds, always
//!
//! 1. **Program order is the meaning.** A tensor's value is what it would be had every op run at once. One recorded
//!    before a parameter update and read after it has the value from before.
//! 2. **A step that has been seen costs no planning.** Plans are found by the structure of the graph. Host numbers (a
//!    learning rate, the `0.3` of `x * 0.3`) are no part of it: they travel in a uniform.
//! 3. **The first error travels, nothing panics.** Whatever a user, a file or a driver can cause is an [`Error`] that
//!    says what to do next.
//! 4. **Same seed, same bits.** No float atomics, sums in a fixed order, random numbers from a counter ([`rng`]). This
//!    holds on one adapter and driver, and for a run that was stopped and resumed.
//! 5. **The f64 interpreter is the judge.** [`Device::cpu`] runs the same graph with each op's plain loops. Kernels are
//!    held to it, and gradient rules to finite differences in it.
//! 6. **Nothing waits that need not.** A step is one submission. Gradient norm, clip factor and the check for values
//!    that are not finite stay on the device, and a small result rides back with the step that computes it.
//!
//! # Features
//!
//! Off by default, and without effect on the rest:
//!
//! | feature | what it adds |
//! | --- | --- |
//! | `csv` | [`data`]: tables from CSV files |
//! | `images` | [`data`]: PNG and JPEG files, folders of them |
//! | `onnx` | [`onnx`]: models from ONNX files, and into them |
//! | `progress` | [`train::Progress`]: bars on a terminal; lines it has without |
//! | `signals` | `train::stop_on_signals`: Ctrl-C and SIGTERM end a fit behind its step |
//! | `full` | all of these |
//! | `mpi` | [`distributed`]: ranks over MPI; needs an MPI and libclang to build |
//! | `counters` | counters of GPU objects, for tests |
//!
//! # Modules
//!
//! From the bottom to the top; a test enforces who may import whom. What has no link is private.
//!
//! | module | what is in it |
//! | --- | --- |
//! | `clock` | the time, also in a browser |
//! | `error`, `shape`, `dtype` | [`Error`], [`Shape`], [`DType`] |
//! | [`array`](mod@array) | host arrays of the f64 reference |
//! | [`kernel`] | kernels as plain data, and the conventions of every shader |
//! | [`rng`] | counter-based random numbers, the same words here and in WGSL |
//! | `wait` | waiting, in two ways: on the thread, or not ([`unblocked`]) |
//! | `layout`, `host` | how the elements of a tensor lie; numbers on the host |
//! | `dispatch` | a [`Plan`](plan::Plan) as plain data: dispatches, and the buffers that they bind |
//! | `device`, `device_info` | [`Device`]: a handle, with one seam to what runs on it; [`DeviceInfo`] |
//! | `arena` | memory that outlives plans |
//! | [`graph`] | recorded nodes, and the snapshot that a run collects |
//! | `history` | what a node was computed from, and how long it keeps that |
//! | `version` | what an update of a store means for recorded nodes |
//! | `tensor`, `create` | [`Tensor`]: recording, and making one from host data |
//! | `op`, [`ops`] | what an op is; all ops, one file each |
//! | `recompute` | regions that the backward pass computes again instead of keeping |
//! | [`autograd`] | the backward pass, recorded in ops |
//! | `state` | [`State`]: what a model carries from step to step besides parameters |
//! | [`plan`] | from a snapshot to dispatches: simplify, fuse, emit, place |
//! | [`profile`] | where the time goes: a table, a trace |
//! | `cpu` | the f64 interpreter |
//! | `settings` | the environment's variables |
//! | `file` | files that are replaced as a whole |
//! | `cache` | files kept between programs |
//! | [`plot`] | line charts as SVG, and what pages of HTML share |
//! | [`search`] | search over settings: spaces, samplers, pruners, studies |
//! | [`distributed`] | ranks of a run, and what they exchange |
//! | `gpu` | the driver's side, and the only `use wgpu` |
//! | `engine` | collect, find or make the plan, run it, hand out values |
//! | `open` | [`Device::best`] and its kin: choosing a device |
//! | `packed`, `transfer` | numbers as files hold them, and their way to and from a device in pieces |
//! | [`init`] | initial values of parameters |
//! | [`params`] | parameters as ranges of a few arenas on the device |
//! | [`nn`] | layers |
//! | [`schedule`] | learning rates as functions of the step |
//! | [`optim`] | optimizers, one dispatch a parameter group |
//! | [`data`] | data sets and loaders |
//! | `onnx` | models from ONNX files, with the feature of that name |
//! | [`train`] | the training loop, checkpoints, metrics |
//! | [`prelude`] | what a training program imports |
#![deny(missing_docs)]

mod arena;
pub mod array;
pub mod autograd;
mod bindings;
mod cache;
mod capabilities;
mod clock;
mod costs;
mod cpu;
mod create;
pub mod data;
mod device;
mod device_info;
mod dispatch;
pub mod distributed;
mod dtype;
mod engine;
mod error;
mod file;
mod gpu;
pub mod graph;
mod history;
mod host;
pub mod init;
pub mod kernel;
mod layout;
pub mod nn;
#[cfg(feature = "onnx")]
pub mod onnx;
mod op;
mod open;
pub mod ops;
pub mod optim;
mod packed;
pub mod params;
pub mod plan;
pub mod plot;
pub mod profile;
mod recompute;
mod results;
pub mod rng;
pub mod schedule;
pub mod search;
mod settings;
mod shader;
mod shaders;
mod shape;
mod state;
mod target;
mod tensor;
pub mod train;
mod transfer;
mod version;
mod wait;

pub use array::Array;
pub use device::{Device, Statistics};
pub use device_info::DeviceInfo;
pub use dtype::{DType, Precision};
pub use engine::Unique;
pub use error::{Error, Result};
pub use host::Element;
pub use init::Init;
pub use params::{Param, ParamStore, Path};
pub use recompute::recompute;
pub use rng::Draws;
pub use shape::{Axes, Axis, MAX_RANK, Shape};
pub use state::State;
pub use tensor::{Tensor, no_grad, with_precision};
#[doc(hidden)]
pub use wait::refusing_to_wait;
pub use wait::{Waiting, unblocked};

/// Doors for `fuzz/` to the files that a device keeps between programs.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::cache::{open, seal, with_checksum};
    pub use crate::gpu::choices::parse as choices;
}

/// What a training program uses.
pub mod prelude {
    pub use crate::nn::{
        AvgPool2d, BatchNorm1d, BatchNorm2d, Conv2d, ConvConfig, Dropout, Embedding, EmbeddingConfig, Flatten,
        LayerNorm, Linear, LinearConfig, MaxPool2d, Mode, Module, MultiHeadAttention, MultiHeadAttentionConfig,
        Sequential,
    };
    pub use crate::optim::{Adam, AdamConfig, AdamW, AdamWConfig, Optimizer, Optimizers, Sgd, SgdConfig};
    pub use crate::{DType, Device, Error, Init, Param, ParamStore, Path, Precision, Result, Tensor, no_grad};
}

pub mod guide {
    #![doc = include_str!("../docs/guide.md")]
    // What its links name.
    #![allow(unused_imports)]
    use crate::nn;
    use crate::prelude::*;
    use crate::state::State;
}

pub mod from_pytorch {
    #![doc = include_str!("../docs/from-pytorch.md")]
    // What its links name.
    #![allow(unused_imports)]
    use crate::nn::{self, Module};
    use crate::optim::{self, *};
    use crate::prelude::*;
    use crate::schedule::{self, Schedule};
    use crate::state::State;
    use crate::{init, params};
}

/// The programs in the README and in pages, compiled and run with the doc tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    pub struct Readme;
    #[doc = include_str!("../docs/optimizers.md")]
    pub struct Optimizers;
    #[doc = include_str!("../docs/training.md")]
    pub struct Training;
}
