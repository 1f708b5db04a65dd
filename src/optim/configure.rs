//! What can be said of an optimizer besides its rule.

use std::panic::Location;
use std::sync::Arc;

use super::rule::Rule;
use super::ruled::Ruled;
use super::scale::LossScale;
use super::settings::GroupSettings;
use super::stepper::Stepper;
use crate::error::{Problem, Result};
use crate::params::ParamStore;
use crate::schedule::Schedule;

impl Stepper<dyn Rule> {
    /// An optimizer of several rules, a group each, that does one step with all of them:
    ///
    /// ```
    /// # use kiln::prelude::*;
    /// # use kiln::optim::{AdamWConfig, Optimizers, SgdConfig};
    /// # let device = Device::cpu();
    /// # let params = ParamStore::new(&device, 1);
    /// let encoder = params.root().child("encoder").group("encoder").param("weight", &[3], Init::Ones);
    /// let head = params.root().child("head").param("weight", &[3], Init::Ones);
    /// let mut optimizer = Optimizers::of(&params)
    ///     .group("encoder", SgdConfig { lr: 0.5, ..Default::default() })
    ///     .rest(AdamWConfig::default());
    /// optimizer.step(&(encoder.tensor() * head.tensor()).sum_all())?;
    /// assert_eq!(encoder.values()?, [0.5; 3]);
    /// # Ok::<(), Error>(())
    /// ```
    ///
    /// Gradients are clipped together, and a step is refused as a whole. A group that no rule takes is reported by the
    /// first step.
    #[track_caller]
    pub fn of(store: &ParamStore) -> Self {
        Stepper::with(store, vec![], Location::caller())
    }

    /// The rule of the group `name`, and of those below it (`name.no_decay`).
    #[must_use]
    pub fn group(mut self, name: &str, rule: impl Rule) -> Self {
        self.rules.push(Ruled::new(Arc::new(rule), Some(vec![name.into()])));
        self
    }

    /// The rule of all groups that no other has.
    #[must_use]
    pub fn rest(mut self, rule: impl Rule) -> Self {
        self.rules.push(Ruled::new(Arc::new(rule), None));
        self
    }

    /// The rule of all matrices (parameters of two axes or more) that are in no group of their own: they become the group
    /// `matrices`. It must be said before the parameters are used.
    #[must_use]
    pub fn matrices(mut self, rule: impl Rule) -> Self {
        let moved = self.store.regroup(|_, shape| (shape.len() >= 2).then(|| "matrices".into()));
        self.refused = self.refused.or(moved.err());
        self.group("matrices", rule)
    }
}

impl<R: ?Sized> Stepper<R> {
    /// Settings of the group `name` that differ from the rule's.
    #[must_use]
    pub fn group_settings(mut self, name: &str, settings: GroupSettings) -> Self {
        self.groups.retain(|(known, _)| known != name);
        self.groups.push((name.into(), settings));
        self
    }

    /// Leaves biases and the scales and shifts of norms, all parameters of one axis, out of the weight decay. They become the group
    /// `no_decay` (of a group of its own, `name.no_decay`). It must be said before the parameters are used.
    #[must_use]
    pub fn no_decay_for_vectors(mut self) -> Self {
        let moved = self.store.regroup(|_, shape| (shape.len() < 2).then(|| "no_decay".into()));
        self.refused = self.refused.or(moved.err());
        for name in self.store.groups().iter() {
            if name.split('.').next_back() == Some("no_decay") {
                let above = name.strip_suffix("no_decay").map_or("", |above| above.trim_end_matches('.'));
                let settings = GroupSettings { weight_decay: Some(0.0), ..self.settings_of(above) };
                self = self.group_settings(name, settings);
            }
        }
        self
    }

    /// Scales all gradients together so that their norm is at most `norm` (`torch.nn.utils.clip_grad_norm_`; Pascanu, Mikolov
    /// and Bengio 2013).
    #[must_use]
    pub fn clip_norm(mut self, norm: impl Into<Option<f64>>) -> Self {
        self.options.clip_norm = norm.into();
        self
    }

    /// Clips each element of the gradients to [-value, value] (`torch.nn.utils.clip_grad_value_`).
    #[must_use]
    pub fn clip_value(mut self, value: impl Into<Option<f64>>) -> Self {
        self.options.clip_value = value.into();
        self
    }

    /// Scales the gradient of each parameter alone so that its norm is at most `norm`, before [`Stepper::clip_norm`]
    /// scales all of them. [`Optimizer::gradient_norm`](crate::optim::Optimizer::gradient_norm) is then the norm between the two.
    #[must_use]
    pub fn clip_each(mut self, norm: impl Into<Option<f64>>) -> Self {
        self.options.clip_each = norm.into();
        self
    }

    /// Scales the gradient of each row so that its norm is at most `share` of that of the row's weights, which counts as
    /// `least` at least (adaptive clipping; Brock et al. 2021, "High-performance large-scale image recognition without
    /// normalization", with 0.01 and 1e-3):
    ///
    /// g <- g m / max(|g|, 1e-6) where |g| > m = share max(|theta|, least)
    ///
    /// Rows are those of the first axis: the weights of one output, in linear layers as in convolutions. A vector, such as
    /// a bias, is one row. It comes before [`Stepper::clip_each`].
    #[must_use]
    pub fn clip_adaptive(mut self, share: f64, least: f64) -> Self {
        self.options.clip_adaptive = Some((share, least));
        self
    }

    /// Takes the mean of each row of the first axis from its gradient (gradient centralisation; Yong et al. 2020, "Gradient
    /// centralization: a new optimization technique for deep neural networks"), before anything is clipped. Vectors, and
    /// rows of one element, are left alone.
    #[must_use]
    pub fn centralise(mut self) -> Self {
        self.options.centralise = true;
        self
    }

    /// Adds normal noise of variance `variance` / (1 + t)^`power` to each element of the gradients in the step that t others
    /// came before (Neelakantan et al. 2015, "Adding gradient noise improves learning for very deep networks", with
    /// variances of 0.01, 0.3 and 1 and a power of 0.55).
    ///
    /// It comes behind the clipping of rows and parameters, and before [`Stepper::clip_norm`]. It is drawn by Philox from the
    /// seed of the store's [draws](crate::ParamStore::draws), the parameter's name, the step and the element, so a run that
    /// is resumed, or done on another device, has the same. t is the device's own count of what [`Optimizer::steps`](crate::optim::Optimizer::steps) counts:
    /// refused steps are none.
    #[must_use]
    pub fn gradient_noise(mut self, variance: f64, power: f64) -> Self {
        self.options.noise = Some((variance, power));
        self
    }

    /// Adds `factor` times the sign of each parameter to its gradient: the penalty factor |theta|, which pulls weights to 0.
    #[must_use]
    pub fn l1(mut self, factor: f64) -> Self {
        self.options.penalties[0] = factor;
        self
    }

    /// Adds `factor` times each parameter to its gradient: the penalty factor theta^2 / 2, whatever the rule. It enters the
    /// moments, unlike the decay of AdamW.
    #[must_use]
    pub fn l2(mut self, factor: f64) -> Self {
        self.options.penalties[1] = factor;
        self
    }

    /// Goes up the gradient instead of down (PyTorch's `maximize`). Decay and penalties still pull to 0.
    #[must_use]
    pub fn maximize(mut self) -> Self {
        self.options.maximize = true;
        self
    }

    /// The learning rate as a function of [`Optimizer::steps`](crate::optim::Optimizer::steps), from the next step on, for all rules. Group factors multiply it.
    #[must_use]
    pub fn schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.set_schedule(schedule);
        self
    }

    /// [`Stepper::schedule`] of an optimizer that runs. A changed schedule makes no new plan.
    pub fn set_schedule(&mut self, schedule: impl Into<Schedule>) {
        let schedule = schedule.into();
        self.rules.iter_mut().for_each(|ruled| ruled.schedule = Some(schedule.clone()));
    }

    /// The schedule of the rule of one group alone.
    ///
    /// # Errors
    /// [`Error::Value`](crate::Error::Value) if no rule was given for a group of this name.
    pub fn set_group_schedule(&mut self, group: &str, schedule: impl Into<Schedule>) -> Result<()> {
        let named = |ruled: &&mut Ruled| ruled.groups.iter().flatten().any(|own| own == group);
        match self.rules.iter_mut().find(named) {
            Some(ruled) => ruled.schedule = Some(schedule.into()),
            None => {
                let what = format!("a schedule for group `{group}`, which has no rule of its own");
                return Err(self.refuse(Problem::Value(what, "give the group a rule by Optimizers::group")));
            }
        }
        Ok(())
    }

    /// Ends [`Stepper::schedule`]: the rate stays as it is at this step, and [`Optimizer::set_lr`](crate::optim::Optimizer::set_lr) may change it.
    pub fn end_schedule(&mut self) {
        let steps = self.steps_done();
        for ruled in &mut self.rules {
            ruled.lr = ruled.lr(steps);
            (ruled.schedule, ruled.momentum) = (None, None);
        }
    }

    /// The momentum (of rules with betas the first one) as a function of [`Optimizer::steps`](crate::optim::Optimizer::steps), from the next step on.
    #[must_use]
    pub fn momentum_schedule(mut self, schedule: impl Into<Schedule>) -> Self {
        self.set_momentum_schedule(schedule);
        self
    }

    /// [`Stepper::momentum_schedule`] of an optimizer that runs.
    pub fn set_momentum_schedule(&mut self, schedule: impl Into<Schedule>) {
        let schedule = schedule.into();
        self.rules.iter_mut().for_each(|ruled| ruled.momentum = Some(schedule.clone()));
    }

    /// With or without loss scaling, from the first step on. Where this is not called losses are scaled, by the defaults
    /// of [`LossScale`], if the store's precision is [`crate::Precision::Mixed`].
    ///
    /// A step whose scaled gradients are not finite is then no error: its update is skipped and the scale lowered.
    #[must_use]
    pub fn loss_scaling(mut self, scale: Option<LossScale>) -> Self {
        self.scaling = Some(scale);
        self
    }
}
