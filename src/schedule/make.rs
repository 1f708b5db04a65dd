//! Schedules that are a formula of the step.

use std::panic::Location;
use std::sync::Arc;

use super::checks::{at_most, not_negative, one_more, positive, some, sorted, within};
use super::compose::Schedule;
use super::form::{Form, Function, Past, STRIDE, Shape};

/// Most steps of [`multiplicative`], each of which is called for when it is made.
const MOST_FACTORS: u64 = 10_000_000;

/// `lr` at every step (PyTorch: no scheduler; `ConstantLR` is `constant(lr * factor).then(n, constant(lr))`).
///
/// A problem: `lr` is negative or not finite.
#[track_caller]
pub fn constant(lr: f64) -> Schedule {
    let checks = [not_negative("lr", lr)];
    Schedule::checked("schedule::constant", Location::caller(), checks, || Form::Constant(lr))
}

/// lr * factor^floor(t / every): PyTorch's `StepLR`, Keras' `ExponentialDecay` with `staircase`.
///
/// A problem: `every` is 0; `lr` or `factor` is negative or not finite.
#[track_caller]
pub fn step(lr: f64, every: u64, factor: f64) -> Schedule {
    let checks = [not_negative("lr", lr), some("every", every), not_negative("factor", factor)];
    Schedule::checked("schedule::step", Location::caller(), checks, || {
        Form::Every(every, Form::Exponential { lr, factor, steps: 1 }.into())
    })
}

/// lr * factor^n, n the number of `milestones` that are not above t: PyTorch's `MultiStepLR`.
///
/// A milestone that is there twice counts twice. A problem: they are not sorted; `lr` or `factor` is negative or not
/// finite.
#[track_caller]
pub fn multi_step(lr: f64, milestones: &[u64], factor: f64) -> Schedule {
    let checks = [not_negative("lr", lr), sorted("milestones", milestones), not_negative("factor", factor)];
    Schedule::checked("schedule::multi_step", Location::caller(), checks, || Form::MultiStep {
        lr,
        milestones: milestones.into(),
        factor,
    })
}

/// `rates[i]` up to and including step `boundaries[i]`, and the last rate from then on: Keras'
/// `PiecewiseConstantDecay`.
///
/// A problem: not one rate more than boundaries; boundaries that are not sorted; a rate that is negative or not finite.
#[track_caller]
pub fn piecewise_constant(boundaries: &[u64], rates: &[f64]) -> Schedule {
    let checks = [sorted("boundaries", boundaries), one_more(boundaries.len(), rates.len())];
    let checks = checks.into_iter().chain(rates.iter().map(|&rate| not_negative("a rate", rate)));
    Schedule::checked("schedule::piecewise_constant", Location::caller(), checks, || Form::Piecewise {
        last: boundaries.into(),
        rates: rates.into(),
    })
}

/// lr * factor^t: PyTorch's `ExponentialLR`.
///
/// A problem: `lr` or `factor` is negative or not finite.
#[track_caller]
pub fn exponential(lr: f64, factor: f64) -> Schedule {
    let checks = [not_negative("lr", lr), not_negative("factor", factor)];
    Schedule::checked("schedule::exponential", Location::caller(), checks, || Form::Exponential {
        lr,
        factor,
        steps: 1,
    })
}

/// lr * factor^(t / steps): Keras' `ExponentialDecay`. With `staircase` it is [`step`].
///
/// `exponential_decay(1e-7, 1_000, 1e7)` rises from 1e-7 to 1 in 1,000 steps, to find out which rates a model bears.
/// A problem: `steps` is 0; `lr` or `factor` is negative or not finite.
#[track_caller]
pub fn exponential_decay(lr: f64, steps: u64, factor: f64) -> Schedule {
    let checks = [not_negative("lr", lr), some("steps", steps), not_negative("factor", factor)];
    Schedule::checked("schedule::exponential_decay", Location::caller(), checks, || Form::Exponential {
        lr,
        factor,
        steps,
    })
}

/// lr / (1 + rate t / steps): Keras' `InverseTimeDecay`.
///
/// With `staircase` it is `inverse_time(lr, 1, rate).every(steps)`. A problem: `steps` is 0; `lr` or `rate` is negative
/// or not finite.
#[track_caller]
pub fn inverse_time(lr: f64, steps: u64, rate: f64) -> Schedule {
    let checks = [not_negative("lr", lr), some("steps", steps), not_negative("rate", rate)];
    Schedule::checked("schedule::inverse_time", Location::caller(), checks, || Form::InverseTime { lr, rate, steps })
}

/// lr sqrt(steps / max(t, steps)): `lr` for `steps` steps, then falling as 1 / sqrt(t) (Raffel et al. 2020, T5).
///
/// With [`Schedule::warm_up_from`]`(steps, 0.0)` it is that of fairseq. A problem: `steps` is 0; `lr` is negative or
/// not finite.
#[track_caller]
pub fn inverse_sqrt(lr: f64, steps: u64) -> Schedule {
    let checks = [not_negative("lr", lr), some("steps", steps)];
    Schedule::checked("schedule::inverse_sqrt", Location::caller(), checks, || Form::InverseSqrt { lr, steps })
}

/// model_size^-0.5 min(n^-0.5, n warm_up^-1.5) with n = t + 1: the schedule of Vaswani et al. 2017, section 5.3.
///
/// Linear up to step `warm_up`, then as 1 / sqrt(n). A problem: `model_size` or `warm_up` is 0.
#[track_caller]
pub fn noam(model_size: u64, warm_up: u64) -> Schedule {
    let checks = [some("model_size", model_size), some("warm_up", warm_up)];
    Schedule::checked("schedule::noam", Location::caller(), checks, || Form::Noam { model_size, warm_up })
}

fn ramp(
    function: &str,
    at: &Location<'_>,
    (from, to): (f64, f64),
    steps: u64,
    (shape, past): (Shape, Past),
) -> Schedule {
    let power = match shape {
        Shape::Power(power) => positive("power", power),
        _ => None,
    };
    let checks = [not_negative("the first rate", from), not_negative("the last rate", to), some("steps", steps), power];
    Schedule::checked(function, at, checks, || Form::Ramp { from, to, steps, shape, past })
}

/// From `from` to `to` along a line in `steps` steps, then `to`: PyTorch's `LinearLR`, which gives both as factors of a
/// rate.
///
/// A problem: `steps` is 0; a rate is negative or not finite.
#[track_caller]
pub fn linear(from: f64, to: f64, steps: u64) -> Schedule {
    ramp("schedule::linear", Location::caller(), (from, to), steps, (Shape::Linear, Past::Holds))
}

/// to + (from - to) (1 - t / steps)^power, then `to`: PyTorch's `PolynomialLR` (where `to` is 0), Keras'
/// `PolynomialDecay`.
///
/// A problem: `steps` is 0; `power` is not above 0; a rate is negative or not finite.
#[track_caller]
pub fn polynomial(from: f64, to: f64, steps: u64, power: f64) -> Schedule {
    ramp("schedule::polynomial", Location::caller(), (from, to), steps, (Shape::Power(power), Past::Holds))
}

/// As [`polynomial`], but behind each end it goes on as if it had been that many `steps` longer: Keras'
/// `PolynomialDecay` with `cycle`.
///
/// to + (from - to) (1 - t / (k steps))^power with k = max(1, ceil(t / steps)). A problem: as for [`polynomial`].
#[track_caller]
pub fn polynomial_cycle(from: f64, to: f64, steps: u64, power: f64) -> Schedule {
    ramp("schedule::polynomial_cycle", Location::caller(), (from, to), steps, (Shape::Power(power), Past::Stretches))
}

/// From `lr` to 0 along half a cosine in `steps` steps, then 0: Keras' `CosineDecay`, PyTorch's `CosineAnnealingLR` up
/// to its `T_max` (Loshchilov and Hutter 2017, without restarts).
///
/// lr (1 + cos(pi t / steps)) / 2. A problem: `steps` is 0; `lr` is negative or not finite.
#[track_caller]
pub fn cosine(lr: f64, steps: u64) -> Schedule {
    ramp("schedule::cosine", Location::caller(), (lr, 0.0), steps, (Shape::Cosine, Past::Holds))
}

/// As [`cosine`], down (or up) to the rate `to`: PyTorch's `eta_min`, Keras' `alpha` times the first rate.
///
/// to + (from - to) (1 + cos(pi t / steps)) / 2. A problem: `steps` is 0; a rate is negative or not finite.
#[track_caller]
pub fn cosine_to(from: f64, to: f64, steps: u64) -> Schedule {
    ramp("schedule::cosine_to", Location::caller(), (from, to), steps, (Shape::Cosine, Past::Holds))
}

/// As [`cosine_to`], but behind `steps` it rises again, and so on: PyTorch's `CosineAnnealingLR` past its `T_max`.
///
/// A problem: as for [`cosine_to`].
#[track_caller]
pub fn cosine_wave(from: f64, to: f64, steps: u64) -> Schedule {
    ramp("schedule::cosine_wave", Location::caller(), (from, to), steps, (Shape::Cosine, Past::Returns))
}

/// Settings of [`cosine_restarts`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RestartsConfig {
    /// Each period is so many times as long as the one before: PyTorch's `T_mult`, Keras' `t_mul`. 1 to 1000.
    pub growth: f64,
    /// Each period starts so many times as far above `min` as the one before: Keras' `m_mul`; 1 in PyTorch.
    pub decay: f64,
    /// Rate at the end of each period: PyTorch's `eta_min`, Keras' `alpha` times the first rate.
    pub min: f64,
}

impl Default for RestartsConfig {
    fn default() -> Self {
        RestartsConfig { growth: 1.0, decay: 1.0, min: 0.0 }
    }
}

/// A cosine from `lr` down in `first` steps, then another from the top, and so on: PyTorch's
/// `CosineAnnealingWarmRestarts`, Keras' `CosineDecayRestarts` (Loshchilov and Hutter 2017, SGDR).
///
/// Period i has first * growth^i steps; min + (lr - min) decay^i (1 + cos(pi share)) / 2, `share` what has passed of
/// it. A problem: `first` is 0; `growth` is not from 1 to 1000; a rate or `decay` is negative or not finite.
///
/// ```
/// use kiln::schedule::{self, RestartsConfig};
///
/// let rate = schedule::cosine_restarts(1e-3, 100, RestartsConfig { growth: 2.0, ..Default::default() });
/// assert_eq!((rate.at(100), rate.at(300)), (1e-3, 1e-3)); // periods of 100, 200, 400, .. steps
/// ```
#[track_caller]
pub fn cosine_restarts(lr: f64, first: u64, config: RestartsConfig) -> Schedule {
    let RestartsConfig { growth, decay, min } = config;
    let checks = [
        not_negative("lr", lr),
        not_negative("min", min),
        some("first", first),
        within("growth", growth, 1.0, 1000.0, "pass a number from 1 to 1000"),
        not_negative("decay", decay),
    ];
    Schedule::checked("schedule::cosine_restarts", Location::caller(), checks, || Form::Restarts {
        lr,
        min,
        first,
        growth,
        decay,
    })
}

/// rate(t): PyTorch's `LambdaLR`, whose function gives a factor (`lambda(factor).scaled(lr)`).
///
/// The function must be pure: a resumed run asks it for the same steps again. It is asked at each step; a value that is
/// no rate is found out when it is used.
#[track_caller]
pub fn lambda(rate: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Schedule {
    Schedule::checked("schedule::lambda", Location::caller(), [], || Form::Lambda(Function(Arc::new(rate))))
}

/// lr * factor(1) * factor(2) * .. * factor(t), with no factors behind `steps`: PyTorch's `MultiplicativeLR`.
///
/// The function must be pure. It is called for each of `steps` at once, and for up to 255 at each value, so a value
/// does not take longer at a later step. A problem: more than 10,000,000 steps; `lr` is negative or not finite.
#[track_caller]
pub fn multiplicative(lr: f64, steps: u64, factor: impl Fn(u64) -> f64 + Send + Sync + 'static) -> Schedule {
    let next = "use schedule::lambda with the product as a formula";
    let checks = [not_negative("lr", lr), at_most("steps", steps, MOST_FACTORS, next)];
    Schedule::checked("schedule::multiplicative", Location::caller(), checks, || {
        let (mut kept, mut product) = (vec![lr], lr);
        for step in 1..=steps {
            product *= factor(step);
            if step % STRIDE == 0 {
                kept.push(product);
            }
        }
        Form::Product { factor: Function(Arc::new(factor)), steps, kept: kept.into() }
    })
}
