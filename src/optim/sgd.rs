//! Stochastic gradient descent with momentum, Nesterov's momentum, dampening and weight decay, as `torch.optim.SGD` has
//! it (its documentation states where it departs from Sutskever et al. 2013).

use super::rule::{Correction, Factors, Rule, shader};
use super::settings::{GroupSettings, Settings, check_settings, check_share};
use crate::error::Problem;
use crate::kernel::Shader;
use crate::shaders::optim::{SGD, SGD_MOMENTUM};

/// Configuration of [`super::Sgd`].
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
    /// Scales all gradients together down to this norm.
    pub clip_norm: Option<f64>,
    /// What groups do differently, by name.
    pub groups: Vec<(String, GroupSettings)>,
}

impl Default for SgdConfig {
    fn default() -> Self {
        SgdConfig {
            lr: 1e-2,
            momentum: 0.0,
            dampening: 0.0,
            nesterov: false,
            weight_decay: 0.0,
            clip_norm: None,
            groups: vec![],
        }
    }
}

impl Rule for SgdConfig {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn settings(&self) -> Settings<'_> {
        let SgdConfig { lr, weight_decay, clip_norm, .. } = *self;
        Settings { lr, weight_decay, clip_norm, groups: &self.groups }
    }

    fn set_lr(&mut self, lr: f64) {
        self.lr = lr;
    }

    fn moments(&self) -> &'static [&'static str] {
        if self.momentum == 0.0 { &[] } else { &["momentum"] }
    }

    fn is_never_negative(&self, _: &str) -> bool {
        false
    }

    fn shader(&self) -> impl Into<Shader> {
        match self.momentum == 0.0 {
            true => shader(&SGD, &[]),
            false => shader(&SGD_MOMENTUM, &["velocity"]),
        }
    }

    fn correction(&self) -> Option<Correction> {
        // Without dampening the first update is like any other with a momentum of 0 before it.
        (self.dampening != 0.0).then_some(Correction {
            wgsl: include_str!("../../shaders/optim/sgd_correction.wgsl"),
            constants: [1.0 - self.dampening, 0.0, 0.0, 0.0],
        })
    }

    fn factors(&self, lr: f64, weight_decay: f64, updates: u64) -> Factors {
        let kept = if updates == 0 { 1.0 } else { 1.0 - self.dampening };
        let (direct, through) = if self.nesterov { (1.0, self.momentum) } else { (0.0, 1.0) };
        [lr, weight_decay, self.momentum, kept, direct, through, 0.0, 0.0]
    }

    fn reference(&self, factors: &Factors, x: f64, g: f64, moments: &mut [f64; 2]) -> f64 {
        let [lr, decay, momentum, kept, direct, through, ..] = *factors;
        let d = g + decay * x;
        moments[0] = momentum * moments[0] + kept * d;
        let step = if self.momentum == 0.0 { d } else { direct * d + through * moments[0] };
        x - lr * step
    }

    fn check(&self) -> Result<(), Problem> {
        check_settings(&self.settings())?;
        check_share("momentum", self.momentum)?;
        check_share("dampening", self.dampening)?;
        if self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            let what = "Nesterov's momentum without a momentum, or with dampening".into();
            return Err(Problem::Value(what, "set a momentum above 0 and a dampening of 0"));
        }
        Ok(())
    }
}
