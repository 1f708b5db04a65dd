//! [`Plateau`]: a rate that falls when a metric no longer gets better.

use std::panic::Location;

use serde_json::{Map, Value, json};

use super::checks::{first, not_negative, share};
use crate::error::{Error, Problem, Result};

/// Which metrics are better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Goal {
    /// Lower ones, as of a loss.
    Min,
    /// Higher ones, as of an accuracy.
    Max,
}

/// By how much a metric must be better than the best to count as better.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Threshold {
    /// By more than this share of the size of the best.
    Relative(f64),
    /// By more than this.
    Absolute(f64),
}

/// Settings of a [`Plateau`], with PyTorch's defaults.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauConfig {
    /// Which metrics are better.
    pub goal: Goal,
    /// The rate is multiplied by this. In [0, 1).
    pub factor: f64,
    /// Metrics in a row that may be no better; one more lowers the rate.
    pub patience: u64,
    /// By how much a metric must be better to count.
    pub threshold: Threshold,
    /// Metrics behind a lower rate that do not count as worse.
    pub cooldown: u64,
    /// The rate does not fall below this.
    pub min_lr: f64,
    /// A rate that would fall by no more than this stays.
    pub eps: f64,
}

impl Default for PlateauConfig {
    fn default() -> Self {
        PlateauConfig {
            goal: Goal::Min,
            factor: 0.1,
            patience: 10,
            threshold: Threshold::Relative(1e-4),
            cooldown: 0,
            min_lr: 0.0,
            eps: 1e-8,
        }
    }
}

/// A rate that falls when a metric no longer gets better: PyTorch's and Keras' `ReduceLROnPlateau`.
///
/// Not a function of the step but of the metrics so far: it has a state, which a checkpoint's metadata can hold. A
/// metric that is NaN is no better than any other and is never the best, so a run of them lowers the rate; so is an
/// infinite one on the wrong side. With [`Threshold::Relative`] a metric counts as better beyond best -+ threshold
/// |best|. That is PyTorch's rule where metrics are positive; PyTorch takes best * (1 -+ threshold), by which a
/// negative metric gets better by staying the same.
///
/// Started at 1 it gives a factor, for a schedule beside it: `rate.at(step) * plateau.lr()`.
///
/// ```
/// use kiln::schedule::{Plateau, PlateauConfig};
///
/// let mut plateau = Plateau::new(0.1, PlateauConfig { patience: 1, ..Default::default() });
/// let rates = [0.9, 0.8, 0.8, 0.8, 0.7].map(|loss| plateau.observe(loss)); // once an epoch
/// assert_eq!(rates, [0.1, 0.1, 0.1, 0.1 * 0.1, 0.1 * 0.1]);
/// ```
#[derive(Debug, Clone)]
pub struct Plateau {
    config: PlateauConfig,
    lr: f64,
    /// Worst possible before the first metric.
    best: f64,
    /// Metrics since the best.
    worse: u64,
    /// Metrics that will not count as worse.
    cooling: u64,
    problem: Option<Problem>,
}

impl Plateau {
    /// A rate that starts at `lr`.
    ///
    /// A problem (see [`Plateau::check`]): `lr`, a threshold, `min_lr` or `eps` is negative or not finite; `factor` is
    /// not in [0, 1).
    #[track_caller]
    pub fn new(lr: f64, config: PlateauConfig) -> Plateau {
        let (Threshold::Relative(threshold) | Threshold::Absolute(threshold)) = config.threshold;
        let checks = [
            not_negative("lr", lr),
            share("factor", config.factor),
            not_negative("threshold", threshold),
            not_negative("min_lr", config.min_lr),
            not_negative("eps", config.eps),
        ];
        let problem = first(checks, "Plateau::new", Location::caller());
        let best = match config.goal {
            Goal::Min => f64::INFINITY,
            Goal::Max => f64::NEG_INFINITY,
        };
        Plateau { config, lr, best, worse: 0, cooling: 0, problem }
    }

    /// Which metrics it takes for better.
    pub fn goal(&self) -> Goal {
        self.config.goal
    }

    /// The setting that cannot be used, if there is one.
    ///
    /// # Errors
    /// What is wrong with it, and the source line that gave it.
    pub fn check(&self) -> Result<(), Problem> {
        self.problem.clone().map_or(Ok(()), Err)
    }

    /// The rate now; NaN where [`Plateau::check`] gives a problem.
    pub fn lr(&self) -> f64 {
        if self.problem.is_some() { f64::NAN } else { self.lr }
    }

    /// Takes the next metric, and gives the rate from now on.
    pub fn observe(&mut self, metric: f64) -> f64 {
        if self.is_better(metric) {
            (self.best, self.worse) = (metric, 0);
        } else {
            self.worse = self.worse.saturating_add(1);
        }
        if self.cooling > 0 {
            (self.cooling, self.worse) = (self.cooling - 1, 0);
        }
        if self.worse > self.config.patience {
            (self.cooling, self.worse) = (self.config.cooldown, 0);
            let lower = self.lr * self.config.factor;
            let lower = if lower < self.config.min_lr { self.config.min_lr } else { lower };
            if self.lr - lower > self.config.eps {
                self.lr = lower;
            }
        }
        self.lr()
    }

    /// False for NaN.
    fn is_better(&self, metric: f64) -> bool {
        let margin = match self.config.threshold {
            // Any finite metric is better than the first best.
            _ if self.best.is_infinite() => 0.0,
            Threshold::Relative(share) => share * self.best.abs(),
            Threshold::Absolute(margin) => margin,
        };
        match self.config.goal {
            Goal::Min => metric < self.best - margin,
            Goal::Max => metric > self.best + margin,
        }
    }

    /// What the metrics so far have made of it, for [`Plateau::set_state`]; numbers are texts, which keep every bit.
    pub fn state(&self) -> Value {
        json!({
            "lr": self.lr.to_string(),
            "best": self.best.to_string(),
            "worse": self.worse,
            "cooling": self.cooling,
        })
    }

    /// Continues from the state of a plateau with the same settings, which are no part of it.
    ///
    /// # Errors
    /// [`Error::Value`] for what [`Plateau::state`] does not give; then nothing has changed.
    #[track_caller]
    pub fn set_state(&mut self, state: &Value) -> Result<()> {
        let at = Location::caller();
        let refused = |what| Error::Value {
            op: "Plateau::set_state",
            at,
            what,
            next: "pass what Plateau::state gave, unchanged",
        };
        let none = Map::new();
        let parts = state.as_object().unwrap_or(&none);
        if let Some(name) = parts.keys().find(|name| !["lr", "best", "worse", "cooling"].contains(&name.as_str())) {
            return Err(refused(format!("the state has a part `{name}` that this version of Kiln does not know")));
        }
        let part = |name: &str| parts.get(name).unwrap_or(&Value::Null);
        let number = |name: &str| part(name).as_str()?.parse::<f64>().ok();
        let missing = |name: &str| refused(format!("the part `{name}` of the state is missing or damaged"));
        let is_rate = |lr: &f64| lr.is_finite() && *lr >= 0.0;
        let lr = number("lr").filter(is_rate).ok_or_else(|| missing("lr"))?;
        let best = number("best").filter(|best| !best.is_nan()).ok_or_else(|| missing("best"))?;
        let worse = part("worse").as_u64().ok_or_else(|| missing("worse"))?;
        let cooling = part("cooling").as_u64().ok_or_else(|| missing("cooling"))?;
        (self.lr, self.best, self.worse, self.cooling) = (lr, best, worse, cooling);
        Ok(())
    }
}
