//! Stochastic gradient descent with momentum, Nesterov's momentum, dampening and weight decay, as `torch.optim.SGD` has
//! it (its documentation states where it departs from Sutskever et al. 2013).

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::check_share;
use crate::shaders::optim::{SGD, SGD_CORRECTION, SGD_MOMENTUM, SGD_PLAIN};

/// Configuration of [`Sgd`](crate::optim::Sgd).
///
/// d <- g + wd theta; u <- momentum u + (1 - dampening) d, with u <- d the first time; theta <- theta - lr u, or with
/// Nesterov's momentum theta - lr (d + momentum u).
#[derive(Debug, Clone, PartialEq)]
pub struct SgdConfig {
    /// Learning rate.
    pub lr: f64,
    /// Momentum; 0 keeps no state.
    pub momentum: f64,
    /// Share of the gradient that does not enter the momentum.
    pub dampening: f64,
    /// Nesterov's momentum; wants a momentum and no dampening.
    pub nesterov: bool,
    /// Weight decay, added to the gradient.
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig { lr: 1e-2, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

impl Rule for SgdConfig {
    common!("sgd");

    fn moments(&self) -> Vec<Moment> {
        if self.momentum == 0.0 { vec![] } else { vec![Moment::new("momentum")] }
    }

    fn shader(&self) -> Shader {
        match self.momentum == 0.0 {
            true => elementwise(Shader::of(&[&SGD, &SGD_PLAIN]), &[]),
            false => elementwise(Shader::of(&[&SGD, &SGD_MOMENTUM]), &["momentum"]),
        }
    }

    fn correction(&self) -> Option<Shader> {
        // Without dampening the first update is like any other with a momentum of 0 before it.
        (self.dampening != 0.0).then(|| Shader::of(&[&SGD_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        // A momentum that is configured to be 0 has no arena, whatever a schedule says.
        let momentum = if self.momentum == 0.0 { 0.0 } else { now.momentum.unwrap_or(self.momentum) };
        let (direct, through) = if self.nesterov { (1.0, momentum) } else { (0.0, 1.0) };
        let rates = [now.lr, now.weight_decay, momentum, 0.0];
        numbers([rates, [direct, through, 1.0 - self.dampening, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, momentum, _, direct, through, kept, ..] = *update.numbers;
        if self.momentum == 0.0 {
            return update.each(|x, g, []| x - lr * (g + decay * x));
        }
        let kept = if update.count == 1 { 1.0 } else { kept };
        update.each(|x, g, [u]| {
            let d = g + decay * x;
            *u = momentum * *u + kept * d;
            x - lr * (direct * d + through * *u)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("momentum", self.momentum)?;
        check_share("dampening", self.dampening)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let what = "Nesterov's momentum without a momentum, or with dampening".into();
            return Err(Problem::Value(what, "set a momentum above 0 and a dampening of 0"));
        }
        Ok(())
    }
}
