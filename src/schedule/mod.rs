//! Learning-rate schedules: pure functions of the step, which compose.
//!
//! ```
//! use kiln::schedule;
//!
//! // Up for 500 steps, then down along a cosine until step 10,000, never below 1e-5.
//! let rate = schedule::cosine(1e-3, 10_000).warm_up(500).floor(1e-5);
//!
//! // Warm-up, a long plateau, and a last stretch down to nothing.
//! let wsd = schedule::constant(1e-3).then(8_000, schedule::linear(1e-3, 0.0, 2_000)).warm_up(500);
//!
//! assert_eq!(rate.at(500), schedule::cosine(1e-3, 10_000).at(500));
//! assert_eq!([500, 8_000, 9_000, 10_000].map(|step| wsd.at(step)), [1e-3, 1e-3, 5e-4, 0.0]);
//! ```
//!
//! A [`Schedule`] gives the rate of a step, counted from 0, from that number alone. So it has no state: a run that
//! resumes at step 1,000 goes on with `at(1_000)`. All is f64. The rate travels as a host number; no schedule makes a
//! new plan. Only [`Plateau`], which looks at a metric, has a state.
//!
//! Settings that cannot be used (0 steps, a rate that is NaN, milestones that are not sorted) do not panic. The
//! schedule carries the problem with the source line that gave them; [`Schedule::check`] gives it, and values are NaN.
//!
//! # By PyTorch's and Keras' names
//!
//! Rates here are absolute. PyTorch's schedulers change the optimizer's rate, `lr` below.
//!
//! | Kiln | PyTorch | Keras |
//! | --- | --- | --- |
//! | [`constant`] | | a number |
//! | `constant(lr * f).then(n, constant(lr))` | `ConstantLR` | |
//! | [`step`] | `StepLR` | `ExponentialDecay`, `staircase` |
//! | [`multi_step`] | `MultiStepLR` | |
//! | [`piecewise_constant`] | | `PiecewiseConstantDecay` |
//! | [`exponential`] | `ExponentialLR` | |
//! | [`exponential_decay`] | | `ExponentialDecay` |
//! | [`inverse_time`] | | `InverseTimeDecay` |
//! | `inverse_time(lr, 1, rate).every(n)` | | `InverseTimeDecay`, `staircase` |
//! | [`linear`] | `LinearLR` | |
//! | [`polynomial`] | `PolynomialLR` | `PolynomialDecay` |
//! | [`polynomial_cycle`] | | `PolynomialDecay`, `cycle` |
//! | [`cosine`], [`cosine_to`] | `CosineAnnealingLR` up to `T_max` | `CosineDecay` |
//! | `linear(a, lr, w).then(w, cosine_to(lr, alpha * lr, n))` | | `CosineDecay`, `warmup_steps` |
//! | [`cosine_wave`] | `CosineAnnealingLR` | |
//! | [`cosine_restarts`] | `CosineAnnealingWarmRestarts` | `CosineDecayRestarts` |
//! | [`one_cycle`] | `OneCycleLR` | |
//! | [`cyclic`] | `CyclicLR` | |
//! | [`noam`], [`inverse_sqrt`] | by `LambdaLR` | |
//! | [`lambda`] | `LambdaLR` | `LearningRateScheduler` |
//! | [`multiplicative`] | `MultiplicativeLR` | |
//! | [`Schedule::then`] | `SequentialLR` | |
//! | [`Schedule::times`] | `ChainedScheduler` | |
//! | [`Schedule::every`] | `scheduler.step()` once an epoch | `LearningRateScheduler` |
//! | [`Plateau`] | `ReduceLROnPlateau` | `ReduceLROnPlateau` |
//!
//! # What each is for
//!
//! t is the step; "share" is the part of a phase that has passed, from 0 to 1.
//!
//! | schedule | rate | when |
//! | --- | --- | --- |
//! | [`cosine`] | lr (1 + cos(pi share)) / 2 | the length of the run is known: a good default, with a warm-up |
//! | [`linear`] | from (1 - share) + to share | fine-tuning; the last stretch of a run |
//! | [`one_cycle`] | up, then far down | short runs of convolutional networks at high rates |
//! | [`step`], [`multi_step`] | lr factor^n | recipes of ResNets, with their milestones |
//! | [`exponential`] | lr factor^t | a slow fall in runs with no known end |
//! | [`polynomial`] | to + (from - to) (1 - share)^power | segmentation recipes (power 0.9) |
//! | [`inverse_time`] | lr / (1 + rate t / steps) | the classical condition of SGD's convergence |
//! | [`noam`], [`inverse_sqrt`] | as 1 / sqrt(t) | transformers in runs with no known end |
//! | [`cosine_restarts`] | cosines, again and again | snapshots at the end of each period |
//! | [`cyclic`] | lines up and down | a rate that is only known to lie in a range |
//! | [`exponential_decay`] upwards | lr factor^(t / steps) | finding the largest rate that a model bears |
//! | [`Plateau`] | lr factor^(plateaus) | the length of a run depends on a metric |
//!
//! # A picture
//!
//! [`Schedule::plot`] gives the text of an SVG file. Several schedules go into one [`Chart`](crate::plot::Chart):
//!
//! ```
//! use kiln::plot::Chart;
//! use kiln::schedule;
//!
//! let cosine = schedule::cosine(1e-3, 1_000).warm_up(100);
//! let noam = schedule::noam(512, 400);
//! let chart = Chart::new("Two schedules")
//!     .axes("step", "rate")
//!     .line("cosine", cosine.points(1_000))
//!     .line("noam", noam.points(1_000));
//! let text = chart.svg(); // std::fs::write("schedules.svg", text)
//! # assert!(text.contains("noam"));
//! ```

mod checks;
mod compose;
mod cycles;
mod form;
mod make;
mod plateau;

pub use compose::Schedule;
pub use cycles::{Cycle, CyclicConfig, CyclicMode, OneCycleConfig, cyclic, one_cycle};
pub use make::{
    RestartsConfig, constant, cosine, cosine_restarts, cosine_to, cosine_wave, exponential, exponential_decay,
    inverse_sqrt, inverse_time, lambda, linear, multi_step, multiplicative, noam, piecewise_constant, polynomial,
    polynomial_cycle, step,
};
pub use plateau::{Goal, Plateau, PlateauConfig, Threshold};
