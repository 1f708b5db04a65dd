//! What a schedule is made of, as plain data, and its value at a step.
//!
//! Steps are whole numbers: where a step lies in a phase, and how much of the phase is left, is formed exactly before
//! anything is rounded.

use std::f64::consts::FRAC_PI_2;
use std::fmt;
use std::sync::Arc;

use crate::error::Problem;

/// Steps between two products that [`Form::Product`] keeps.
pub(super) const STRIDE: u64 = 256;

/// A user's function of the step.
#[derive(Clone)]
pub(super) struct Function(pub Arc<dyn Fn(u64) -> f64 + Send + Sync>);

impl fmt::Debug for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a closure")
    }
}

impl PartialEq for Function {
    fn eq(&self, other: &Function) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// How a phase goes from its first value to its last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shape {
    Linear,
    Cosine,
    /// The share of the phase that is left, to this power.
    Power(f64),
}

impl Shape {
    /// Weight of the first value where the share `left` of the phase is still to come: 1 at its start, 0 at its end.
    fn weight(self, left: f64) -> f64 {
        match self {
            Shape::Linear => left,
            // (1 + cos(pi (1 - left))) / 2, without the difference that loses digits near the end.
            Shape::Cosine => (FRAC_PI_2 * left).sin().powi(2),
            Shape::Power(power) => left.powf(power),
        }
    }

    /// From `from` to `to`, both met exactly.
    fn between(self, from: f64, to: f64, left: f64) -> f64 {
        let weight = self.weight(left);
        from * weight + to * (1.0 - weight)
    }
}

/// What a ramp does behind its end.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Past {
    /// It keeps its last value.
    Holds,
    /// It goes back the way that it came, and on like this.
    Returns,
    /// It is drawn out to as many times its length as the step needs.
    Stretches,
}

/// How the peaks of a cyclic schedule change.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Peaks {
    Equal,
    /// Half the height of the cycle before.
    Halved,
    /// This to the power of the step.
    Power(f64),
}

/// A function of the step.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// Settings that cannot be used.
    Refused(Problem),
    Constant(f64),
    /// lr * factor^(t / steps).
    Exponential {
        lr: f64,
        factor: f64,
        steps: u64,
    },
    /// lr / (1 + rate * t / steps).
    InverseTime {
        lr: f64,
        rate: f64,
        steps: u64,
    },
    /// lr * sqrt(steps / max(t, steps)).
    InverseSqrt {
        lr: f64,
        steps: u64,
    },
    Noam {
        model_size: u64,
        warm_up: u64,
    },
    /// lr * factor^(number of milestones up to t).
    MultiStep {
        lr: f64,
        milestones: Arc<[u64]>,
        factor: f64,
    },
    /// `rates[i]` up to and including step `last[i]`; the last rate from then on.
    Piecewise {
        last: Arc<[u64]>,
        rates: Arc<[f64]>,
    },
    Ramp {
        from: f64,
        to: f64,
        steps: u64,
        shape: Shape,
        past: Past,
    },
    /// From `start` to the value of each phase in turn, which it reaches at the phase's end (in steps).
    Phases {
        start: f64,
        phases: Arc<[(f64, f64)]>,
        shape: Shape,
    },
    /// Cosines from min + (lr - min) decay^i to min, over first * growth^i steps.
    Restarts {
        lr: f64,
        min: f64,
        first: u64,
        growth: f64,
        decay: f64,
    },
    /// Linear from `base` to `peak` in `up` steps and back in `down`.
    Cyclic {
        base: f64,
        peak: f64,
        up: u64,
        down: u64,
        peaks: Peaks,
    },
    Lambda(Function),
    /// lr * factor(1) * .. * factor(min(t, steps)); `kept` has every [`STRIDE`]th product.
    Product {
        factor: Function,
        steps: u64,
        kept: Arc<[f64]>,
    },
    Then {
        first: Arc<Form>,
        at: u64,
        next: Arc<Form>,
    },
    Times(Arc<Form>, Arc<Form>),
    Floor(f64, Arc<Form>),
    Delayed(u64, Arc<Form>),
    /// The other at t / n.
    Every(u64, Arc<Form>),
}

impl Form {
    /// Value at step `t`, from 0; NaN for settings that cannot be used.
    pub(super) fn at(&self, t: u64) -> f64 {
        match *self {
            Form::Refused(_) => f64::NAN,
            Form::Constant(lr) => lr,
            Form::Exponential { lr, factor, steps } => lr * factor.powf(t as f64 / steps as f64),
            Form::InverseTime { lr, rate, steps } => lr / (1.0 + rate * t as f64 / steps as f64),
            Form::InverseSqrt { lr, steps } => lr * (steps as f64 / t.max(steps) as f64).sqrt(),
            Form::Noam { model_size, warm_up } => {
                let number = t as f64 + 1.0;
                (model_size as f64).powf(-0.5) * number.powf(-0.5).min(number * (warm_up as f64).powf(-1.5))
            }
            Form::MultiStep { lr, ref milestones, factor } => {
                lr * factor.powf(milestones.partition_point(|&milestone| milestone <= t) as f64)
            }
            Form::Piecewise { ref last, ref rates } => rates[last.partition_point(|&last| last < t)],
            Form::Ramp { from, to, steps, shape, past } => shape.between(from, to, left(t, steps, past)),
            Form::Phases { start, ref phases, shape } => in_phases(start, phases, shape, t as f64),
            Form::Restarts { lr, min, first, growth, decay } => {
                let (restarts, left) = restarts(first, growth, t);
                min + (lr - min) * decay.powf(restarts) * Shape::Cosine.weight(left)
            }
            Form::Cyclic { base, peak, up, down, peaks } => {
                let length = u128::from(up) + u128::from(down);
                let (cycle, place) = (u128::from(t) / length, u128::from(t) % length);
                let height = match place <= u128::from(up) {
                    true => place as f64 / up as f64,
                    false => (length - place) as f64 / down as f64,
                };
                let scale = match peaks {
                    Peaks::Equal => 1.0,
                    Peaks::Halved => 0.5f64.powf(cycle as f64),
                    Peaks::Power(gamma) => gamma.powf(t as f64),
                };
                base * (1.0 - height * scale) + peak * (height * scale)
            }
            Form::Lambda(ref rate) => (rate.0)(t),
            Form::Product { ref factor, steps, ref kept } => {
                let t = t.min(steps);
                let near = kept[(t / STRIDE) as usize];
                (t / STRIDE * STRIDE + 1..=t).fold(near, |product, step| product * (factor.0)(step))
            }
            Form::Then { ref first, at, ref next } => match t.checked_sub(at) {
                Some(t) => next.at(t),
                None => first.at(t),
            },
            Form::Times(ref one, ref other) => one.at(t) * other.at(t),
            // Not `f64::max`, which would hide a NaN.
            Form::Floor(min, ref of) => match of.at(t) {
                rate if rate < min => min,
                rate => rate,
            },
            Form::Delayed(steps, ref of) => of.at(t.saturating_sub(steps)),
            Form::Every(steps, ref of) => of.at(t / steps),
        }
    }
}

/// Share of a ramp of `steps` that is left at step `t`.
fn left(t: u64, steps: u64, past: Past) -> f64 {
    let (t, steps) = (u128::from(t), u128::from(steps));
    let (rest, of) = match past {
        Past::Holds => (steps.saturating_sub(t), steps),
        Past::Returns => ((t % (2 * steps)).abs_diff(steps), steps),
        Past::Stretches => {
            let length = steps * t.div_ceil(steps).max(1);
            (length - t, length)
        }
    };
    rest as f64 / of as f64
}

/// Value in phases whose ends may lie between two steps. One that ends before it starts has no steps, as in PyTorch.
fn in_phases(start: f64, phases: &[(f64, f64)], shape: Shape, t: f64) -> f64 {
    let (mut began, mut from) = (0.0, start);
    for &(end, to) in phases {
        if t < end {
            return shape.between(from, to, (end - t) / (end - began));
        }
        (began, from) = (end, to);
    }
    from
}

/// Restarts up to step `t`, and the share of the current period that is left.
fn restarts(first: u64, growth: f64, t: u64) -> (f64, f64) {
    if growth == 1.0 {
        return ((t / first) as f64, (first - t % first) as f64 / first as f64);
    }
    let (first, t) = (first as f64, t as f64);
    // Powers of a whole number are exact, and so are then the steps of restarts; others are formed near 1 without loss.
    let start = |restarts: f64| match growth.fract() == 0.0 {
        true => first * (growth.powf(restarts) - 1.0) / (growth - 1.0),
        false => first * (restarts * growth.ln()).exp_m1() / (growth - 1.0),
    };
    let mut restarts = ((t / first * (growth - 1.0)).ln_1p() / growth.ln()).floor();
    // The logarithm may be off by a rounding at a restart.
    if start(restarts + 1.0) <= t {
        restarts += 1.0;
    } else if restarts > 0.0 && start(restarts) > t {
        restarts -= 1.0;
    }
    let length = first * growth.powf(restarts);
    (restarts, (1.0 - (t - start(restarts)) / length).clamp(0.0, 1.0))
}
