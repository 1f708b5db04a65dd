//! Training over several processes or threads, each with a device of its own: data-parallel, with the bits of one.
//!
//! ```
//! use kiln::distributed::World;
//! use kiln::prelude::*;
//!
//! # fn main() -> Result<()> {
//! let world = World::start()?; // the ranks that mpirun started; one, if nobody did
//! # let device = Device::cpu();
//! let params = ParamStore::new(&device, 42);
//! let fc = Linear::new(&params.root().child("fc"), 64, 10);
//! let mut adamw = AdamW::new(&params, AdamWConfig::default()).distributed(&world)?;
//! let digits = kiln::data::digits().train;
//! for batch in digits.batches(32).shuffle(42).shard(world.rank(), world.size()).take(3) {
//!     let images = device.tensor(&batch.images, &[batch.len(), 64]);
//!     let loss = fc.forward(&images, Mode::Train).cross_entropy(&device.labels(&batch.labels));
//!     adamw.step(&(loss / world.size() as f64))?; // gradients of all ranks are added
//! }
//! if world.is_first() {
//!     println!("{} steps", adamw.steps());
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Trainer::distributed`](crate::train::Trainer::distributed) does all of this for a fit.
//!
//! **The same bits.** The gradients of the ranks are added in their order, so a run repeats to the bit, and N ranks of batch b
//! give what one rank gives that [accumulates](crate::optim::Optimizer::accumulate) N micro-batches of b: weights, moments,
//! counts. Micro-batch k of rank r in a step is number k N + r of the step; draws of dropout are numbered by it. States, such
//! as running statistics, follow the micro-batches of rank 0 alone. All ranks must have the same kind of device and driver.
//!
//! **Errors.** What one rank meets ends all: the others get [`Error::Rank`](crate::Error::Rank) with its words.

mod communicator;
mod half;
mod model;
#[cfg(feature = "mpi")]
mod mpi;
mod options;
mod statistics;
mod sum;
mod threads;
mod world;

pub use communicator::{Communicator, Kind, Outgoing, Parcel, is_over};
pub use model::{Network, ScalingModel};
pub(crate) use statistics::Moments;
pub(crate) use sum::{Lost, Number, Share};
pub use world::{Start, Traffic, World};
