//! AdamW: Adam with decoupled weight decay (Loshchilov and Hutter 2019, "Decoupled weight decay regularization",
//! algorithm 2, as `torch.optim.AdamW` has it).

use super::rule::{Correction, Factors, Rule, shader};
use super::settings::{GroupSettings, Settings, check_number, check_settings, check_share};
use crate::error::Problem;
use crate::kernel::Shader;
use crate::shaders::optim::ADAMW;

/// Configuration of [`super::AdamW`]. The defaults are PyTorch's.
///
/// m <- b1 m + (1-b1) g; v <- b2 v + (1-b2) g^2; theta <- theta - lr ( (m/(1-b1^t)) / (sqrt(v/(1-b2^t)) + eps) + wd theta )
#[derive(Debug, Clone, PartialEq)]
pub struct AdamWConfig {
    /// Learning rate.
    pub lr: f64,
    /// Decay of the first and of the second moment.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Weight decay, scaled by the learning rate; it never enters the moments.
    pub weight_decay: f64,
    /// Scales all gradients together down to this norm.
    pub clip_norm: Option<f64>,
    /// What groups do differently, by name.
    pub groups: Vec<(String, GroupSettings)>,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        AdamWConfig { lr: 1e-3, betas: (0.9, 0.999), eps: 1e-8, weight_decay: 1e-2, clip_norm: None, groups: vec![] }
    }
}

impl Rule for AdamWConfig {
    fn name(&self) -> &'static str {
        "adamw"
    }

    fn settings(&self) -> Settings<'_> {
        let AdamWConfig { lr, weight_decay, clip_norm, .. } = *self;
        Settings { lr, weight_decay, clip_norm, groups: &self.groups }
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn moments(&self) -> &'static [&'static str] {
        &["m", "v"]
    }

    fn is_never_negative(&self, moment: &str) -> bool {
        moment == "v"
    }

    fn shader(&self) -> impl Into<Shader> {
        shader(&ADAMW, &["first", "second"])
    }

    fn correction(&self) -> Option<Correction> {
        let [b1, b2] = [self.betas.0, self.betas.1].map(|beta| {
            let log = beta.ln().max(-100.0);
            // Twelve bits, so that counts below 4096 multiply them exactly, and the rest.
            let high = f64::from(f32::from_bits((log as f32).to_bits() & !0xfff));
            [high, log - high]
        });
        let constants = [b1[0], b1[1], b2[0], b2[1]];
        Some(Correction { wgsl: include_str!("../../shaders/optim/adamw_correction.wgsl"), constants })
    }

    fn factors(&self, lr: f64, weight_decay: f64, updates: u64) -> Factors {
        let (b1, b2) = self.betas;
        let t = (updates + 1) as f64;
        // As 1 - b^t in f32 these would lose five digits; the device forms them as `one_minus_power`.
        let (first, second) = (1.0 - b1.powf(t), 1.0 - b2.powf(t));
        [lr / first, 1.0 / second.sqrt(), self.eps, lr * weight_decay, b1, 1.0 - b1, b2, 1.0 - b2]
    }

    fn reference(&self, factors: &Factors, x: f64, g: f64, moments: &mut [f64; 2]) -> f64 {
        let [rate, correction, eps, decay, b1, c1, b2, c2] = *factors;
        let [m, v] = moments;
        *m = b1 * *m + c1 * g;
        *v = b2 * *v + c2 * g * g;
        x - (decay * x + rate * *m / (v.sqrt() * correction + eps))
    }

    fn check(&self) -> Result<(), Problem> {
        check_settings(&self.settings())?;
        check_share("the first beta", self.betas.0)?;
        check_share("the second beta", self.betas.1)?;
        check_number("eps", self.eps)
    }
}
