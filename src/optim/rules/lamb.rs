//! LAMB: AdamW whose step in each parameter is as long as the parameter (You et al. 2020, "Large batch optimization for deep learning").

use super::common::common;
use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, Writes, elementwise_measured, logarithm, numbers};
use crate::optim::settings::check_share;
use crate::shaders::optim::{ADAM_CORRECTION, LAMB};

/// Configuration of [`Lamb`](crate::optim::Lamb).
///
/// Adam's moments m and v; u = (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps) + wd theta; theta <- theta - lr |theta| / |u| u, with norms over the
/// whole parameter, and lr u where one of them is 0.
#[derive(Debug, Clone, PartialEq)]
pub struct LambConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment; above 0.
    pub eps: f64,
    /// Weight decay, a part of u.
    pub weight_decay: f64,
}

impl Default for LambConfig {
    fn default() -> Self {
        LambConfig { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-6, weight_decay: 1e-2 }
    }
}

impl Rule for LambConfig {
    common!("lamb");

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("m"), Moment::square("v")]
    }

    fn shader(&self) -> Shader {
        elementwise_measured(Shader::of(&[&LAMB]), &["m", "v"], Writes::Yes)
    }

    fn measures(&self) -> bool {
        true
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&ADAM_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let (b1, b2) = (now.momentum.unwrap_or(self.betas.0), self.betas.1);
        let ([h1, l1], [h2, l2]) = (logarithm(b1), logarithm(b2));
        let rates = [now.lr, now.weight_decay, self.eps, 0.0];
        numbers([rates, [b1, 1.0 - b1, b2, 1.0 - b2], [h1, l1, h2, l2], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [lr, decay, eps, _, b1, c1, b2, c2, ..] = *update.numbers;
        let t = update.count as f64;
        let (first, second) = (1.0 - b1.powf(t), 1.0 - b2.powf(t));
        let direction = |x: f64, m: f64, v: f64| m / first / ((v / second).sqrt() + eps) + decay * x;
        let mut sums = [0.0; 2];
        update.each(|x, g, [m, v]| {
            *m = b1 * *m + c1 * g;
            *v = b2 * *v + c2 * g * g;
            sums[0] += x * x;
            sums[1] += direction(x, *m, *v).powi(2);
            x
        });
        let trust = if sums[0] > 0.0 && sums[1] > 0.0 { (sums[0] / sums[1]).sqrt() } else { 1.0 };
        update.each(|x, _, [m, v]| x - lr * trust * direction(x, *m, *v));
    }

    fn check(&self) -> Result<(), Problem> {
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        // The device has it in f32.
        if self.eps.is_finite() && self.eps as f32 >= f32::MIN_POSITIVE {
            return Ok(());
        }
        Err(Problem::Value(format!("eps is {}", self.eps), "pass a positive number of at least 1.2e-38"))
    }
}
