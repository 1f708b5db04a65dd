//! FTRL-Proximal (McMahan et al. 2013, "Ad click prediction: a view from the trenches"), as Keras' `Ftrl` has it: for sparse linear
//! models, whose weights it keeps at exactly 0.

use crate::error::Problem;
use crate::kernel::Shader;
use crate::optim::rule::{Moment, Now, Numbers, Rule, Update, elementwise, numbers};
use crate::optim::settings::check_number;
use crate::shaders::optim::{FIRST_CORRECTION, FTRL};

/// Configuration of [`Ftrl`](crate::optim::Ftrl). The defaults are Keras'.
///
/// n' = n + g^2; z <- z + g + 2 shrinkage theta - (sqrt(n') - sqrt(n)) / lr theta; theta <- ( clip(z, -l1, l1) - z ) / ( (sqrt(n') + beta) / lr
/// + 2 l2 ); n <- n'; at a rate of 0 nothing changes.
#[derive(Debug, Clone, PartialEq)]
pub struct FtrlConfig {
    /// Learning rate; above 0.
    pub lr: f64,
    /// n before the first update; above 0.
    pub initial_accumulator: f64,
    /// Below this magnitude of z a weight is 0.
    pub l1: f64,
    /// Pulls weights to 0.
    pub l2: f64,
    /// A penalty of weights that enters z alone.
    pub l2_shrinkage: f64,
    /// The beta of the paper, which adds to the root.
    pub beta: f64,
}

impl Default for FtrlConfig {
    fn default() -> Self {
        FtrlConfig { lr: 1e-3, initial_accumulator: 0.1, l1: 0.0, l2: 0.0, l2_shrinkage: 0.0, beta: 0.0 }
    }
}

impl Rule for FtrlConfig {
    fn name(&self) -> &'static str {
        "ftrl"
    }

    fn lr(&self) -> f64 {
        self.lr
    }

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::square("n"), Moment::new("z")]
    }

    fn shader(&self) -> Shader {
        elementwise(Shader::of(&[&FTRL]), &["n", "z"])
    }

    fn correction(&self) -> Option<Shader> {
        Some(Shader::of(&[&FIRST_CORRECTION]))
    }

    fn numbers(&self, now: &Now) -> Numbers {
        // At a rate of 0 the formula has no value; nothing moves then, which a slope of 0 says.
        let slope = if now.lr == 0.0 { 0.0 } else { 1.0 / now.lr.max(1e-30) };
        let rates = [slope, self.l1, 2.0 * self.l2 + self.beta * slope, 2.0 * self.l2_shrinkage];
        numbers([rates, [self.initial_accumulator, 0.0, 0.0, 0.0], [0.0; 4], [0.0; 4]])
    }

    fn reference(&self, update: &mut Update<'_>) {
        let [slope, l1, pull, shrinkage, initial, ..] = *update.numbers;
        let initial = if update.count == 1 { initial } else { 0.0 };
        update.each(|x, g, [n, z]| {
            let before = *n + initial;
            if slope == 0.0 {
                *n = before;
                return x;
            }
            *n = before + g * g;
            *z += g + shrinkage * x - (n.sqrt() - before.sqrt()) * slope * x;
            (z.clamp(-l1, l1) - *z) / (n.sqrt() * slope + pull)
        });
    }

    fn check(&self) -> Result<(), Problem> {
        let numbers = [self.l1, self.l2, self.l2_shrinkage, self.beta];
        ["l1", "l2", "l2_shrinkage", "beta"].iter().zip(numbers).try_for_each(|(name, x)| check_number(name, x))?;
        check_number("initial_accumulator", self.initial_accumulator)?;
        if self.lr > 0.0 && self.initial_accumulator > 0.0 {
            return Ok(());
        }
        let what = format!("lr is {}, initial_accumulator {}", self.lr, self.initial_accumulator);
        Err(Problem::Value(what, "pass positive numbers"))
    }
}
