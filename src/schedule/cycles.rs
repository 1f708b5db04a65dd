//! Schedules of a rate and of the momentum that goes against it.

use std::panic::Location;

use super::checks::{not_negative, positive, share, some, within};
use super::compose::Schedule;
use super::form::{Form, Peaks, Shape};

/// A rate, and the momentum (or Adam's beta1) that falls where it rises.
#[derive(Debug, Clone, PartialEq)]
pub struct Cycle {
    /// Learning rate.
    pub rate: Schedule,
    /// Momentum.
    pub momentum: Schedule,
}

/// Settings of [`one_cycle`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OneCycleConfig {
    /// Share of the steps in which the rate rises: PyTorch's `pct_start`. In [0, 1).
    pub rise: f64,
    /// The first rate is `max_lr` divided by this: PyTorch's `div_factor`.
    pub div_factor: f64,
    /// The last rate is the first divided by this.
    pub final_div_factor: f64,
    /// Lines instead of half cosines: PyTorch's `anneal_strategy="linear"`.
    pub linear: bool,
    /// Up, as long down to the first rate, then down to the last: the original form. Otherwise up, then down to the
    /// last.
    pub three_phase: bool,
    /// Momentum at the peak.
    pub base_momentum: f64,
    /// Momentum at both ends.
    pub max_momentum: f64,
}

impl Default for OneCycleConfig {
    fn default() -> Self {
        OneCycleConfig {
            rise: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            linear: false,
            three_phase: false,
            base_momentum: 0.85,
            max_momentum: 0.95,
        }
    }
}

/// One rise to `max_lr` and one fall far below the first rate over a run of `steps` steps: PyTorch's `OneCycleLR`
/// (Smith and Topin 2018, "Super-convergence").
///
/// The rise ends at step rise * steps - 1, the last phase at step steps - 1; then all stays. A problem: `steps` is 0;
/// `max_lr` is negative or not finite; a divisor is not above 0; `rise` or a momentum is not in [0, 1); with three
/// phases `rise` is above 0.5.
///
/// ```
/// use kiln::schedule::{self, OneCycleConfig};
///
/// let cycle = schedule::one_cycle(0.1, 1_000, OneCycleConfig::default());
/// assert_eq!((cycle.rate.at(299), cycle.momentum.at(299)), (0.1, 0.85)); // the peak
/// ```
#[track_caller]
pub fn one_cycle(max_lr: f64, steps: u64, config: OneCycleConfig) -> Cycle {
    let OneCycleConfig { rise, div_factor, final_div_factor, linear, three_phase, base_momentum, max_momentum } =
        config;
    let (at, shape) = (Location::caller(), if linear { Shape::Linear } else { Shape::Cosine });
    let (total, first) = (steps as f64, max_lr / div_factor);
    // Ends of phases and what is reached there, rate and momentum.
    let last = (total - 1.0, first / final_div_factor, max_momentum);
    let peak = (rise * total - 1.0, max_lr, base_momentum);
    let phases = match three_phase {
        true => vec![peak, (2.0 * rise * total - 2.0, first, max_momentum), last],
        false => vec![peak, last],
    };
    let make = |start: f64, of: fn(&(f64, f64, f64)) -> f64| {
        let room = match three_phase {
            true => within("rise of three phases", rise, 0.0, 0.5, "pass a number from 0 to 0.5"),
            false => share("rise", rise),
        };
        let checks = [
            some("steps", steps),
            not_negative("max_lr", max_lr),
            positive("div_factor", div_factor),
            positive("final_div_factor", final_div_factor),
            room,
            share("base_momentum", base_momentum),
            share("max_momentum", max_momentum),
        ];
        Schedule::checked("schedule::one_cycle", at, checks, || Form::Phases {
            start,
            phases: phases.iter().map(|phase| (phase.0, of(phase))).collect(),
            shape,
        })
    };
    Cycle { rate: make(first, |phase| phase.1), momentum: make(max_momentum, |phase| phase.2) }
}

/// How the peaks of [`cyclic`] change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CyclicMode {
    /// They do not.
    Triangular,
    /// Each rises half as far as the one before.
    Triangular2,
    /// They are scaled by this number to the power of the step.
    ExpRange(f64),
}

/// Settings of [`cyclic`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CyclicConfig {
    /// Steps from the peak down, where they are not those up.
    pub down: Option<u64>,
    /// How peaks change.
    pub mode: CyclicMode,
    /// Momentum at the peak of the rate.
    pub base_momentum: f64,
    /// Momentum at the lowest rate.
    pub max_momentum: f64,
}

impl Default for CyclicConfig {
    fn default() -> Self {
        CyclicConfig { down: None, mode: CyclicMode::Triangular, base_momentum: 0.8, max_momentum: 0.9 }
    }
}

/// From `base` to `max` along a line in `up` steps, back, and so on: PyTorch's `CyclicLR` (Smith 2017, "Cyclical
/// learning rates").
///
/// base + (max - base) height scale: `height` rises from 0 to 1 and falls, `scale` is 1, or 1 / 2^cycle, or gamma^t by
/// [`CyclicMode`]. The momentum is max_momentum - (max_momentum - base_momentum) height scale. A problem: `up` or
/// `down` is 0; a rate or gamma is negative or not finite; a momentum is not in [0, 1).
///
/// ```
/// use kiln::schedule::{self, CyclicConfig, CyclicMode};
///
/// let config = CyclicConfig { mode: CyclicMode::Triangular2, ..Default::default() };
/// let cycle = schedule::cyclic(0.0, 0.1, 50, config);
/// assert_eq!([0, 50, 100, 150].map(|step| cycle.rate.at(step)), [0.0, 0.1, 0.0, 0.05]);
/// ```
#[track_caller]
pub fn cyclic(base: f64, max: f64, up: u64, config: CyclicConfig) -> Cycle {
    let CyclicConfig { down, mode, base_momentum, max_momentum } = config;
    let (at, down) = (Location::caller(), down.unwrap_or(up));
    let (peaks, gamma) = match mode {
        CyclicMode::Triangular => (Peaks::Equal, 1.0),
        CyclicMode::Triangular2 => (Peaks::Halved, 1.0),
        CyclicMode::ExpRange(gamma) => (Peaks::Power(gamma), gamma),
    };
    let make = |base: f64, peak: f64| {
        let checks = [
            not_negative("base", base),
            not_negative("max", peak),
            some("up", up),
            some("down", down),
            not_negative("gamma", gamma),
            share("base_momentum", base_momentum),
            share("max_momentum", max_momentum),
        ];
        Schedule::checked("schedule::cyclic", at, checks, || Form::Cyclic { base, peak, up, down, peaks })
    };
    Cycle { rate: make(base, max), momentum: make(max_momentum, base_momentum) }
}
