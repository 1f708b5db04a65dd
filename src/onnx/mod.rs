//! Models from ONNX files, to be run and to be trained; with the feature `onnx`.
//!
//! ```no_run
//! use kiln::prelude::*;
//!
//! let device = Device::best()?;
//! let model = kiln::onnx::load("resnet.onnx", &device)?;
//! let mut adamw = AdamW::new(model.params(), AdamWConfig::default());
//! # let (images, labels) = (device.zeros(&[1, 3, 32, 32]), device.labels(&[0]));
//! let logits = &model.forward(&[images], Mode::Train)[0];
//! adamw.step(&logits.cross_entropy(&labels))?;
//! # Ok::<(), Error>(())
//! ```
//!
//! `docs/onnx.md` lists the ops. Whole numbers of 64 bits are held in 32, with a check of their range where they are known; float64 and
//! bfloat16 are held as f32.

mod beside;
mod call;
mod decode;
mod elem;
mod emit;
mod export;
mod free;
mod graph;
mod model;
mod names;
mod numbers;
mod ops;
mod proto;
mod run;
mod trouble;
mod windows;
mod writer;

pub use call::Port;
pub use elem::Elem;
pub use export::{ExportOptions, export, export_bytes};
pub use free::FreeAxis;
pub use model::{Model, load, load_bytes, tensor};
pub use ops::names as ops;
