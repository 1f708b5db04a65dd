//! [`Schedule`], and what is made of schedules.

use std::fmt;
use std::panic::Location;
use std::sync::Arc;

use super::checks::{first, not_negative, some};
use super::form::{Form, Past, Shape};
use crate::error::Problem;
use crate::plot::Chart;

/// Most schedules that lie in each other: a value is formed by calls as deep.
const DEEPEST: u16 = 500;
/// Most steps that a plot has a point for.
const POINTS: u64 = 4096;

/// A rate (or a momentum, or a factor of either) as a pure function of the step.
///
/// Made by the functions of [`schedule`](super). Cloning copies a handle. Settings that cannot be used do not panic:
/// the schedule carries the first [`Problem`] of its parts, [`Schedule::check`] gives it, and [`Schedule::at`] gives
/// NaN.
#[derive(Clone, PartialEq)]
pub struct Schedule {
    form: Arc<Form>,
    /// Schedules in each other.
    depth: u16,
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.form.fmt(f)
    }
}

/// The same rate at every step.
impl From<f64> for Schedule {
    #[track_caller]
    fn from(lr: f64) -> Schedule {
        Schedule::checked("Schedule::from", Location::caller(), [not_negative("lr", lr)], || Form::Constant(lr))
    }
}

impl Schedule {
    /// A schedule, or the first of `checks` that did not hold.
    pub(super) fn checked(
        function: &str,
        at: &Location<'_>,
        checks: impl IntoIterator<Item = Option<Problem>>,
        form: impl FnOnce() -> Form,
    ) -> Schedule {
        let form = first(checks, function, at).map_or_else(form, Form::Refused);
        Schedule { form: Arc::new(form), depth: 1 }
    }

    /// A schedule made of `parts`, or the first problem of these, else that of `check`.
    fn of<const N: usize>(
        function: &str,
        at: &Location<'_>,
        parts: [Schedule; N],
        check: Option<Problem>,
        form: impl FnOnce([Arc<Form>; N]) -> Form,
    ) -> Schedule {
        if let Some(refused) = parts.iter().find(|part| part.check().is_err()) {
            return refused.clone();
        }
        let depth = 1 + parts.iter().map(|part| part.depth).max().unwrap_or(0);
        let deep = || {
            let what = format!("{depth} schedules lie in each other, where at most {DEEPEST} are possible");
            Problem::Value(what, "use schedule::piecewise_constant or schedule::lambda")
        };
        let checks = [check, (depth > DEEPEST).then(deep)];
        let made = Schedule::checked(function, at, checks, || form(parts.map(|part| part.form)));
        Schedule { depth, ..made }
    }

    /// Value at `step`, counted from 0: that of the first step of a run is `at(0)`.
    ///
    /// NaN where [`Schedule::check`] gives a problem. Any step is possible; those above 2^53 are rounded to f64.
    pub fn at(&self, step: u64) -> f64 {
        self.form.at(step)
    }

    /// The setting that cannot be used, if there is one.
    ///
    /// # Errors
    /// What is wrong with it, and the source line that gave it.
    pub fn check(&self) -> Result<(), Problem> {
        match &*self.form {
            Form::Refused(problem) => Err(problem.clone()),
            _ => Ok(()),
        }
    }

    /// Linear warm-up: multiplied by (t + 1) / (steps + 1) for the first `steps` steps, which none of them makes 0.
    ///
    /// The schedule below goes on meanwhile, so that milestones and ends stay where they are. To let it start behind
    /// the warm-up, delay it: `cosine(1e-3, 9_500).delayed(500).warm_up(500)`. 0 steps are no warm-up.
    #[track_caller]
    pub fn warm_up(self, steps: u64) -> Schedule {
        self.ramped("Schedule::warm_up", Location::caller(), steps, 1.0 / (steps as f64 + 1.0), Shape::Linear)
    }

    /// As [`Schedule::warm_up`], along half a cosine: flat at both ends.
    #[track_caller]
    pub fn warm_up_cosine(self, steps: u64) -> Schedule {
        self.ramped("Schedule::warm_up_cosine", Location::caller(), steps, 1.0 / (steps as f64 + 1.0), Shape::Cosine)
    }

    /// As [`Schedule::warm_up`], from `factor` at step 0: multiplied by factor + (1 - factor) t / steps.
    ///
    /// A problem: `factor` is negative or not finite.
    #[track_caller]
    pub fn warm_up_from(self, steps: u64, factor: f64) -> Schedule {
        self.ramped("Schedule::warm_up_from", Location::caller(), steps, factor, Shape::Linear)
    }

    fn ramped(self, function: &str, at: &Location<'_>, steps: u64, from: f64, shape: Shape) -> Schedule {
        let check = not_negative("factor", from);
        if steps == 0 && check.is_none() {
            return self;
        }
        let ramp = Form::Ramp { from, to: 1.0, steps, shape, past: Past::Holds };
        Schedule::of(function, at, [self], check, |[of]| Form::Times(ramp.into(), of))
    }

    /// This schedule before step `at`, and `next` from then on, which counts its steps from there
    /// (PyTorch's `SequentialLR`).
    #[track_caller]
    pub fn then(self, at: u64, next: Schedule) -> Schedule {
        let caller = Location::caller();
        Schedule::of("Schedule::then", caller, [self, next], None, |[first, next]| Form::Then { first, at, next })
    }

    /// The product of both (PyTorch's `ChainedScheduler`, whose schedules multiply one rate).
    #[track_caller]
    pub fn times(self, other: Schedule) -> Schedule {
        Schedule::of("Schedule::times", Location::caller(), [self, other], None, |[one, two]| Form::Times(one, two))
    }

    /// Multiplied by `factor`.
    ///
    /// A problem: `factor` is negative or not finite.
    #[track_caller]
    pub fn scaled(self, factor: f64) -> Schedule {
        Schedule::of("Schedule::scaled", Location::caller(), [self], not_negative("factor", factor), |[of]| {
            Form::Times(Form::Constant(factor).into(), of)
        })
    }

    /// Its first value for `steps` steps more; then it starts.
    #[track_caller]
    pub fn delayed(self, steps: u64) -> Schedule {
        Schedule::of("Schedule::delayed", Location::caller(), [self], None, |[of]| Form::Delayed(steps, of))
    }

    /// Counted in units of `steps`: each value stays for so many, as where PyTorch's schedulers are stepped once an
    /// epoch.
    ///
    /// A problem: `steps` is 0.
    #[track_caller]
    pub fn every(self, steps: u64) -> Schedule {
        let check = some("steps", steps);
        Schedule::of("Schedule::every", Location::caller(), [self], check, |[of]| Form::Every(steps, of))
    }

    /// Never below `min`, warm-up included. A value that is NaN stays so.
    ///
    /// A problem: `min` is negative or not finite.
    #[track_caller]
    pub fn floor(self, min: f64) -> Schedule {
        let check = not_negative("min", min);
        Schedule::of("Schedule::floor", Location::caller(), [self], check, |[of]| Form::Floor(min, of))
    }

    /// Steps and values from step 0 to `steps`, for a [`Chart`]: each step up to 4,096, else as many evenly among them.
    pub fn points(&self, steps: u64) -> Vec<(f64, f64)> {
        let parts = steps.clamp(1, POINTS);
        let step = |part: u64| (u128::from(steps) * u128::from(part) / u128::from(parts)) as u64;
        (0..=parts).map(step).map(|step| (step as f64, self.at(step))).collect()
    }

    /// The values up to step `steps` as a picture: the text of an SVG file, for light and dark pages.
    ///
    /// Several schedules, or a logarithmic axis: put [`Schedule::points`] into a [`Chart`].
    pub fn plot(&self, steps: u64) -> String {
        Chart::new("Learning rate").axes("step", "rate").line("rate", self.points(steps)).svg()
    }
}
