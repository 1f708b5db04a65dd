//! Schedule-free SGD and AdamW (Defazio et al. 2024, "The road less scheduled"), as the authors' program has them: an average of the
//! iterates does what a falling rate would, whenever training ends.
//!
//! Gradients are taken at y, a point between the iterates z and their average x; the parameters hold y. Evaluate and save with x,
//! which [`Stepper::averaged`](crate::optim::Stepper::averaged) puts in their place.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Averaged, Moment, Now, Numbers, Rule, Update, elementwise, logarithm, numbers, with_powers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{SCHEDULE_FREE, SCHEDULE_FREE_ADAMW, SCHEDULE_FREE_CORRECTION, SCHEDULE_FREE_SGD};

/// Configuration of [`ScheduleFreeAdamW`](crate::optim::ScheduleFreeAdamW).
///
/// v <- b2 v + (1-b2) g^2; d = g / (sqrt(v/(1-b2^t)) + eps) + wd y; then as [`ScheduleFreeSgdConfig`]
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFreeAdamWConfig {
    /// Learning rate; above 0. One to ten times that of AdamW with a schedule.
    pub lr: f64,
    /// Where y lies between z (0) and x (1), and the decay of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay at y, scaled by the learning rate.
    pub weight_decay: f64,
    /// Updates over which the rate grows from 0.
    pub warm_up: u64,
    /// Power of the count of updates in the weight of an iterate.
    pub r: f64,
    /// Power of the largest rate so far in the weight of an iterate.
    pub weight_lr_power: f64,
}

impl Default for ScheduleFreeAdamWConfig {
    fn default() -> Self {
        ScheduleFreeAdamWConfig {
            lr: 2.5e-3,
            betas: (0.9, 0.999),
            eps: 1e-8,
            weight_decay: 0.0,
            warm_up: 0,
            r: 0.0,
            weight_lr_power: 2.0,
        }
    }
}

/// Configuration of [`ScheduleFreeSgd`](crate::optim::ScheduleFreeSgd).
///
/// d = g + wd y; y <- (1-c) y + c z + lr (momentum (1-c) - 1) d; z <- z - lr d; c is the weight t^r max(lr)^p of the iterate over the sum of
/// the weights so far.
#[derive(Debug, Clone, PartialEq)]
pub struct ScheduleFreeSgdConfig {
    /// Learning rate; above 0. Ten to fifty times that of SGD with momentum.
    pub lr: f64,
    /// Where y lies between z (0) and x (1).
    pub momentum: f64,
    /// Weight decay at y, added to the gradient.
    pub weight_decay: f64,
    /// Updates over which the rate grows from 0.
    pub warm_up: u64,
    /// Power of the count of updates in the weight of an iterate.
    pub r: f64,
    /// Power of the largest rate so far in the weight of an iterate.
    pub weight_lr_power: f64,
}

impl Default for ScheduleFreeSgdConfig {
    fn default() -> Self {
        ScheduleFreeSgdConfig { lr: 1.0, momentum: 0.9, weight_decay: 0.0, warm_up: 0, r: 0.0, weight_lr_power: 2.0 }
    }
}

/// What both are.
struct Both {
    lr: f64,
    beta: f64,
    /// Decay of the second moment, and what is added to its root.
    second: Option<(f64, f64)>,
    warm_up: u64,
    powers: [f64; 2],
}

impl Both {
    fn moments(&self) -> Vec<Moment> {
        let mut moments = vec![Moment::new("z")];
        moments.extend(self.second.map(|_| Moment::square("v")));
        moments
    }

    fn shader(&self) -> Shader {
        match self.second {
            Some(_) => elementwise(Shader::of(&[&SCHEDULE_FREE, &SCHEDULE_FREE_ADAMW]), &["z", "v"]),
            None => elementwise(Shader::of(&[&SCHEDULE_FREE, &SCHEDULE_FREE_SGD]), &["z"]),
        }
    }

    /// x, from y = (1 - b1) z + b1 x.
    fn averaged(&self, now: &Now) -> Averaged {
        Averaged { moment: 0, share: 1.0 - 1.0 / now.momentum.unwrap_or(self.beta) }
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b2, eps) = self.second.unwrap_or((0.0, 0.0));
        let [high, low] = logarithm(b2);
        let [r, power] = self.powers;
        let rates = [now.lr, now.weight_decay, eps, now.momentum.unwrap_or(self.beta)];
        let constants = [high, low, self.warm_up as f64, r];
        numbers([rates, [b2, 1.0 - b2, 0.0, 0.0], constants, [power, self.lr, 0.0, 0.0]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [rate, decay, eps, b1, b2, c2, _, _, _, _, warm_up, r, power, unit, ..] = *update.numbers;
        let t = update.count as f64;
        let lr = rate * (t / warm_up.max(1.0)).min(1.0);
        let largest = lr.max(update.kept[1]);
        let weight = t.powf(r) * (largest / unit).powf(power);
        let sum = update.kept[0] + weight;
        (update.kept[0], update.kept[1]) = (sum, largest);
        let c = if sum == 0.0 { 0.0 } else { weight / sum };
        let first = update.count == 1;
        let second = 1.0 - b2.powf(t);
        let step = |y: f64, d: f64, z: &mut f64| {
            let d = d + decay * y;
            let from = if first { y } else { *z };
            *z = from - lr * d;
            y + c * (from - y) + lr * (b1 * (1.0 - c) - 1.0) * d
        };
        match self.second {
            Some(_) => update.each(|y, g, [z, v]| {
                *v = b2 * *v + c2 * g * g;
                step(y, g / ((*v / second).sqrt() + eps), z)
            }),
            None => update.each(|y, g, [z]| step(y, g, z)),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta, or momentum", self.beta)?;
        let (b2, eps) = self.second.unwrap_or((0.0, 0.0));
        check_share("the second beta", b2)?;
        check_number("eps", eps)?;
        check_number("r", self.powers[0])?;
        check_number("weight_lr_power", self.powers[1])?;
        if self.lr > 0.0 {
            return Ok(());
        }
        Err(Problem::Value(format!("lr is {}", self.lr), "pass a positive number"))
    }
}

macro_rules! rule {
    ($config:ident, $name:literal, |$own:ident| ($beta:expr, $second:expr)) => {
        impl $config {
            fn both(&self) -> Both {
                let $own = self;
                let (beta, second) = ($beta, $second);
                let $config { lr, warm_up, r, weight_lr_power, .. } = *self;
                Both { lr, beta, second, warm_up, powers: [r, weight_lr_power] }
            }
        }

        impl Rule for $config {
            common!($name);

            fn moments(&self) -> Vec<Moment> {
                self.both().moments()
            }

            fn kept(&self) -> &'static [&'static str] {
                &["weight_sum", "largest_lr"]
            }

            fn averaged(&self, now: &Now) -> Option<Averaged> {
                Some(self.both().averaged(now))
            }

            fn shader(&self) -> Shader {
                self.both().shader()
            }

            fn correction(&self) -> Option<Shader> {
                Some(with_powers(Shader::of(&[&SCHEDULE_FREE_CORRECTION])))
            }

            fn numbers(&self, now: &Now) -> Numbers {
                self.both().numbers(now)
            }

            fn reference(&self, update: &mut Update<'_>) {
                self.both().reference(update);
            }

            fn check(&self) -> Result<(), Problem> {
                self.both().check()
            }
        }
    };
}

rule!(ScheduleFreeAdamWConfig, "schedule_free_adamw", |own| (own.betas.0, Some((own.betas.1, own.eps))));
rule!(ScheduleFreeSgdConfig, "schedule_free_sgd", |own| (own.momentum, None));
