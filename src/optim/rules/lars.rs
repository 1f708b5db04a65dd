//! LARS: SGD with momentum whose rate is scaled in each parameter by the parameter's norm over its gradient's (You, Gitman and Ginsburg
//! 2017, "Large batch training of convolutional networks").

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, Writes, elementwise_measured, numbers};
use crate::optim::settings::{check_number, check_share};
use crate::shaders::optim::LARS;

/// Configuration of [`Lars`](crate::optim::Lars).
///
/// d = trust |theta| / (|g| + wd |theta| + eps) (g + wd theta), and g + wd theta where a norm is 0; u <- momentum u + d; theta <- theta - lr
/// u, or with Nesterov's momentum theta - lr (d + momentum u). Norms are over the whole parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct LarsConfig {
    /// Learning rate.
    pub lr: f64,
    /// Momentum.
    pub momentum: f64,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Share of its own norm that a parameter moves by at a rate of 1.
    pub trust: f64,
    /// Added to the norms below.
    pub eps: f64,
    /// Weight decay, added to the gradient (L2).
    pub weight_decay: f64,
}

impl Default for LarsConfig {
    fn default() -> Self {
        LarsConfig { lr: 1.0, momentum: 0.9, nesterov: false, trust: 1e-3, eps: 1e-8, weight_decay: 0.0 }
    }
}

impl Rule for LarsConfig {
    common!("lars");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("momentum")]
    }

    fn shader(&self) -> Shader {
        elementwise_measured(Shader::of(&[&LARS]), &["momentum"], Writes::No)
    }

    fn measures(&self) -> bool {
        true
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let momentum = now.momentum.unwrap_or(self.momentum);
        let (direct, through) = if self.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        let rates = [now.lr, now.weight_decay, self.eps, self.trust];
        numbers([rates, [momentum, direct, through, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, trust, momentum, direct, through, ..] = *update.numbers;
        let norm = |values: &[f64]| values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let (own, slope) = (norm(update.values), norm(update.gradients));
        let trust = if own > 0.0 && slope > 0.0 { trust * own / (slope + decay * own + eps) } else { 1.0 };
        update.each(|x, g, [u]| {
            let d = trust * (g + decay * x);
            *u = momentum * *u + d;
            x - lr * (direct * d + through * *u)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("momentum", self.momentum)?;
        check_number("trust", self.trust)?;
        check_number("eps", self.eps)
    }
}
