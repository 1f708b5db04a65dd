//! RMSprop (Hinton 2012, "Neural networks for machine learning", lecture 6), centred and with momentum if asked, as
//! `torch.optim.RMSprop` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::{RMSPROP, RMSPROP_CENTRED, RMSPROP_DIRECT, RMSPROP_MOMENTUM, RMSPROP_PLAIN};

/// Configuration of [`RmsProp`](crate::optim::RmsProp). The defaults are PyTorch's.
///
/// d <- g + wd theta; s <- alpha s + (1-alpha) d^2; u = d / (sqrt(s) + eps); b <- momentum b + u; theta <- theta - lr b. Centred, s is less
/// the square of the mean a of d: that difference is kept, s <- alpha (s + (1-alpha) (d - a)^2), a <- a + (1-alpha) (d - a), because in f32
/// nothing is left of it where gradients hardly change.
#[derive(Debug, Clone, PartialEq)]
pub struct RmsPropConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the means.
    pub alpha: f64,
    /// Added to the root.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
    /// Momentum; 0 keeps none.
    pub momentum: f64,
    /// Divides by the deviation in place of the root of the mean of squares.
    pub centered: bool,
}

impl Default for RmsPropConfig {
    fn default() -> Self {
        RmsPropConfig { lr: 1e-2, alpha: 0.99, eps: 1e-8, weight_decay: 0.0, momentum: 0.0, centered: false }
    }
}

impl RmsPropConfig {
    fn names(&self) -> &'static [&'static str] {
        match (self.centered, self.momentum == 0.0) {
            (false, true) => &["square"],
            (false, false) => &["square", "momentum"],
            (true, true) => &["variance", "mean"],
            (true, false) => &["variance", "mean", "momentum"],
        }
    }
}

impl Rule for RmsPropConfig {
    common!("rmsprop");

    fn moments(&self) -> Vec<Moment> {
        let moment = |&name: &&'static str| Moment { name, never_negative: ["square", "variance"].contains(&name) };
        self.names().iter().map(moment).collect()
    }

    fn shader(&self) -> Shader {
        let mean = if self.centered { &RMSPROP_CENTRED } else { &RMSPROP_PLAIN };
        let step = if self.momentum == 0.0 { &RMSPROP_DIRECT } else { &RMSPROP_MOMENTUM };
        elementwise(Shader::of(&[&RMSPROP, mean, step]), self.names())
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let momentum = if self.momentum == 0.0 { 0.0 } else { now.momentum.unwrap_or(self.momentum) };
        let rates = [now.lr, now.weight_decay, self.eps, momentum];
        numbers([rates, [self.alpha, 1.0 - self.alpha, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, momentum, alpha, rest, ..] = *update.numbers;
        let step = |x: f64, g: f64, square: &mut f64, mean: Option<&mut f64>, kept: Option<&mut f64>| {
            let d = g + decay * x;
            match mean {
                Some(mean) => {
                    let away = d - *mean;
                    *square = alpha * (*square + rest * away * away);
                    *mean += rest * away;
                }
                None => *square = alpha * *square + rest * d * d,
            }
            let u = d / (square.sqrt() + eps);
            let step = kept.map_or(u, |kept| {
                *kept = momentum * *kept + u;
                *kept
            });
            x - lr * step
        };
        match (self.centered, self.momentum == 0.0) {
            (false, true) => update.each(|x, g, [s]| step(x, g, s, None, None)),
            (false, false) => update.each(|x, g, [s, b]| step(x, g, s, None, Some(b))),
            (true, true) => update.each(|x, g, [s, a]| step(x, g, s, Some(a), None)),
            (true, false) => update.each(|x, g, [s, a, b]| step(x, g, s, Some(a), Some(b))),
        }
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("alpha", self.alpha)?;
        check_number("momentum", self.momentum)?;
        check_number("eps", self.eps)
    }
}
