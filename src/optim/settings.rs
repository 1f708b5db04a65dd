//! What all optimizers are configured with, and which of it cannot be used.

use crate::error::Problem;

/// What one parameter group does differently.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GroupSettings {
    /// Factor of the learning rate.
    pub lr_scale: f64,
    /// Weight decay, where it is not the optimizer's. Rules that have none (Rprop, FTRL) take no notice.
    pub weight_decay: Option<f64>,
}

impl Default for GroupSettings {
    fn default() -> Self {
        GroupSettings { lr_scale: 1.0, weight_decay: None }
    }
}

/// What becomes of a gradient before a rule sees it, whatever the rule.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(super) struct Options {
    /// Largest norm of all gradients together.
    pub clip_norm: Option<f64>,
    /// Largest magnitude of an element, after that.
    pub clip_value: Option<f64>,
    /// Largest norm of a parameter's gradient.
    pub clip_each: Option<f64>,
    /// Largest norm of a row's gradient, as a share of the norm of the row, which counts as at least the second.
    pub clip_adaptive: Option<(f64, f64)>,
    /// Takes the mean of each row from its gradient.
    pub centralise: bool,
    /// Variance of the noise of the first step, and the power of steps by which it falls.
    pub noise: Option<(f64, f64)>,
    /// Factors of the penalties: of sign(theta), and of theta.
    pub penalties: [f64; 2],
    /// Goes up instead of down.
    pub maximize: bool,
}

impl Options {
    pub fn check(&self) -> Result<(), Problem> {
        let positive = |name: &str, value: Option<f64>| match value {
            Some(value) if !(value.is_finite() && value > 0.0) => {
                Err(Problem::Value(format!("{name} is {value}"), "pass a positive number, or do without"))
            }
            _ => Ok(()),
        };
        positive("clip_norm", self.clip_norm)?;
        positive("clip_value", self.clip_value)?;
        positive("clip_each", self.clip_each)?;
        positive("clip_adaptive", self.clip_adaptive.map(|(share, _)| share))?;
        positive("the least norm of clip_adaptive", self.clip_adaptive.map(|(_, least)| least))?;
        check_number("the penalty l1", self.penalties[0])?;
        check_number("the penalty l2", self.penalties[1])?;
        let (variance, power) = self.noise.unwrap_or_default();
        check_number("the variance of the noise", variance)?;
        check_number("the power of the noise", power)
    }

    /// What the text of an update depends on.
    pub fn key(&self) -> u64 {
        let flags = [
            self.clip_value.is_some(),
            self.clip_each.is_some(),
            self.clip_adaptive.is_some(),
            self.centralise,
            self.noise.is_some(),
            self.penalties != [0.0; 2],
            self.maximize,
        ];
        flags.iter().fold(0, |key, &flag| key << 1 | u64::from(flag))
    }

    /// `fn adjust(g, x, clip)`: the gradient as a rule takes it, of elements whose clipped gradient is g clip and whose
    /// value is x.
    pub fn adjust(&self) -> String {
        let mut text = "fn $adjust$(g: vec4<f32>, x: vec4<f32>, clip: f32) -> vec4<f32> {\n".to_string();
        let plain = self.clip_value.is_none() && self.penalties == [0.0; 2] && !self.maximize;
        if plain {
            return text + "    return g * clip;\n}\n";
        }
        text += "    let own = $factor$($p$.word / 4u + 4u);\n    var d = g * clip;\n";
        if self.clip_value.is_some() {
            text += "    d = clamp(d, vec4<f32>(-own.x), vec4<f32>(own.x));\n";
        }
        if self.maximize {
            text += "    d = -d;\n";
        }
        if self.penalties != [0.0; 2] {
            text += "    d += own.z * x + own.y * sign(x);\n";
        }
        text + "    return d;\n}\n"
    }

    /// Host numbers of [`Options::adjust`].
    pub fn numbers(&self) -> [f64; 4] {
        let [l1, l2] = self.penalties;
        [self.clip_value.unwrap_or(0.0), l1, l2, 0.0]
    }

    /// The same in f64.
    pub fn adjusted(&self, gradient: f64, x: f64) -> f64 {
        let bound = self.clip_value.unwrap_or(f64::INFINITY);
        let clipped = gradient.clamp(-bound, bound);
        let [l1, l2] = self.penalties;
        let sign = if x == 0.0 { 0.0 } else { x.signum() };
        (if self.maximize { -clipped } else { clipped }) + l2 * x + l1 * sign
    }
}

/// `Err` unless `value` is finite and not negative.
pub(super) fn check_number(name: &str, value: f64) -> Result<(), Problem> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a finite number that is not negative"))
}

/// `Err` unless `value` is in [0, 1).
pub(super) fn check_share(name: &str, value: f64) -> Result<(), Problem> {
    if (0.0..1.0).contains(&value) {
        return Ok(());
    }
    Err(Problem::Value(format!("{name} is {value}"), "pass a number from 0 to below 1"))
}
