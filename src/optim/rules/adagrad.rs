//! Adagrad (Duchi, Hazan and Singer 2011, "Adaptive subgradient methods for online learning and stochastic optimization"), as
//! `torch.optim.Adagrad` has it.

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::check_number;
use crate::shaders::optim::{ADAGRAD, ADAGRAD_CORRECTION};

/// Configuration of [`Adagrad`](crate::optim::Adagrad). The defaults are PyTorch's.
///
/// d <- g + wd theta; s <- s + d^2; theta <- theta - lr / (1 + (t-1) lr_decay) d / (sqrt(s) + eps)
#[derive(Debug, Clone, PartialEq)]
pub struct AdagradConfig {
    /// Learning rate.
    pub lr: f64,
    /// How the rate falls with the number of updates.
    pub lr_decay: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
    /// The sum of squares before the first update.
    pub initial_accumulator: f64,
    /// Added to the root.
    pub eps: f64,
}

impl Default for AdagradConfig {
    fn default() -> Self {
        AdagradConfig { lr: 1e-2, lr_decay: 0.0, weight_decay: 0.0, initial_accumulator: 0.0, eps: 1e-10 }
    }
}

impl Rule for AdagradConfig {
    common!("adagrad");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::square("sum")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&ADAGRAD]), &["sum"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&ADAGRAD_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let rates = [now.lr, now.weight_decay, self.eps, self.initial_accumulator];
        numbers([rates, [self.lr_decay, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, initial, slower, ..] = *update.numbers;
        let rate = lr / (1.0 + (update.count - 1) as f64 * slower);
        let first = if update.count == 1 { initial } else { 0.0 };
        update.each(|x, g, [sum]| {
            let d = g + decay * x;
            *sum += first + d * d;
            x - rate * d / (sum.sqrt() + eps)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_number("lr_decay", self.lr_decay)?;
        check_number("initial_accumulator", self.initial_accumulator)?;
        check_number("eps", self.eps)
    }
}
