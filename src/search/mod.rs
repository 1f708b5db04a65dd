//! Search over settings: learning rates, widths, which optimizer.
//!
//! A [`Space`] says which values parameters may take. A [`Study`] runs trials: a [`Sampler`] says which point comes next
//! ([`Grid`], [`Random`], [`Halton`], [`Tpe`], [`GaussianProcess`]), a [`Pruner`] stops those that are not worth their
//! time ([`Median`], [`SuccessiveHalving`]). A study in a file goes on after a kill, and several processes may work on it;
//! [`Study::report`] makes a page of it. The example `tune` has all of them in one program.
//!
//! ```
//! use kiln::prelude::*;
//! use kiln::search::{Goal, Median, Space, Study, StudyConfig, Tpe, Verdict};
//!
//! let space = Space::new()
//!     .log_uniform("lr", 1e-3, 1.0)
//!     .choice("optimizer", ["sgd", "adamw"])
//!     .when("optimizer", ["sgd"], |space| space.uniform("momentum", 0.0, 0.95));
//! let config = StudyConfig { goal: Goal::Minimize, seed: 42, ..Default::default() };
//! let mut study = Study::new(space, Tpe::default(), config)?.pruner(Median::default());
//! let device = Device::cpu();
//! study.run(5, |trial| {
//!     let params = ParamStore::new(&device, trial.seed());
//!     let line = Linear::new(&params.root(), 1, 1);
//!     let lr = trial.float("lr")?;
//!     let mut optimizer: Box<dyn Optimizer> = match trial.choice("optimizer")? {
//!         "sgd" => {
//!             let momentum = trial.float("momentum")?;
//!             Box::new(Sgd::new(&params, SgdConfig { lr, momentum, ..Default::default() }))
//!         }
//!         _ => Box::new(AdamW::new(&params, AdamWConfig { lr, ..Default::default() })),
//!     };
//!     let (x, y) = (device.tensor(&[0.0f32, 1.0, 2.0], &[3, 1]), device.tensor(&[1.0f32, 3.0, 5.0], &[3, 1]));
//!     let mut last = f64::NAN;
//!     for step in 1..=10 {
//!         let loss = (line.forward(&x, Mode::Train) - &y).square().mean_all();
//!         optimizer.step(&loss)?;
//!         last = loss.item()?;
//!         if trial.report(step, last)? == Verdict::Prune {
//!             break;
//!         }
//!     }
//!     Ok::<f64, Error>(last)
//! })?;
//! assert_eq!(study.trials().len(), 5);
//! # Ok::<(), Error>(())
//! ```
//!
//! # The file of a study
//!
//! Lines of JSON. The first has the space, the goal and the seed; each other one has an `event` and the number of its
//! `trial`: `start` with its `point`, `report` with a `step` and a `value`, `note` with a `name` and a `value`, and `end`
//! with its `state` (`complete`, `pruned`, `failed`, `killed`), its `value` and its `seconds`. Numbers that are not finite
//! are `null`. Beside it lies a small file for each process that runs trials, whose lock says that the process is alive.

mod cholesky;
mod cross;
mod event;
mod gp;
mod grid;
mod halton;
mod importance;
mod journal;
mod parallel;
mod parzen;
mod point;
mod process;
mod pruner;
mod range;
mod record;
mod report;
mod sampler;
mod space;
mod study;
mod tpe;
mod trial;
mod worker;

pub use cross::{Scores, cross_validate};
pub use gp::GaussianProcess;
pub use grid::Grid;
pub use halton::Halton;
pub use point::{Point, Value};
pub use pruner::{Median, Pruner, SuccessiveHalving};
pub use range::Range;
pub use record::{Goal, Record, State};
pub use sampler::{First, History, Random, Sampler};
pub use space::{Condition, Parameter, Space};
pub use study::{Study, StudyConfig};
pub use tpe::Tpe;
pub use trial::{Trial, Verdict};
