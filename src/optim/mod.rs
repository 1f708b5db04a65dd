//! Optimizers, one dispatch a parameter group.
//!
//! An optimizer is a [`Rule`] (its configuration: what it keeps for each scalar, its shader, its f64 form) run by a
//! [`Stepper`], which knows the store: gradients, clipping, groups, which parameters the loss reached, state. A rule of
//! your own needs no more than an `impl Rule`.
//!
//! Rates and factors are host numbers that travel with each step, so a schedule never makes a new plan. Parameters that
//! a loss does not reach, and frozen ones, are left alone: no decay, no moments. Each parameter counts its own updates,
//! as PyTorch's do, so that bias corrections are right for one that is reached late. The device counts them: a step that it
//! refuses, of which the host learns later, leaves no trace.

mod average;
mod averaged;
mod blocks;
mod broadcast;
mod buckets;
mod clip;
mod configure;
mod factors;
mod follow;
mod given;
mod kernels;
mod lbfgs;
mod measure;
mod noise;
mod optimizer;
mod orthogonal;
mod pass;
mod places;
mod prepare;
mod reference;
mod rounds;
mod rule;
mod ruled;
mod rules;
mod scale;
mod settings;
mod shapes;
mod sharp;
mod spans;
mod state;
mod stepper;
mod synced;
mod tally;
mod together;
mod walk;

pub(crate) use average::AverageInPlace;
pub use average::{Average, AverageState, Ema, LastN, Swa};
pub use lbfgs::{Lbfgs, LbfgsConfig, LineSearch};
pub(crate) use lbfgs::{LbfgsInPlace, Saved as LbfgsSaved};
pub use optimizer::Optimizer;
pub use rule::{Averaged, Moment, Now, Numbers, Rule, Update};
pub use rules::{
    AdadeltaConfig, AdafactorConfig, AdagradConfig, AdamConfig, AdamWConfig, AdamaxConfig, AdanConfig, AsgdConfig,
    FtrlConfig, LambConfig, LarsConfig, LionConfig, MuonConfig, MuonRate, NAdamConfig, RAdamConfig, RmsPropConfig,
    RpropConfig, ScheduleFreeAdamWConfig, ScheduleFreeSgdConfig, SgdConfig,
};
pub use scale::LossScale;
pub use settings::GroupSettings;
pub use sharp::Sam;
pub(crate) use state::InPlace;
pub use state::OptimizerState;
#[doc(hidden)]
pub use state::{StateInPlace, StateTensors};
pub use stepper::Stepper;

/// Adadelta (Zeiler 2012): see [`AdadeltaConfig`].
pub type Adadelta = Stepper<AdadeltaConfig>;
/// Adafactor (Shazeer and Stern 2018): see [`AdafactorConfig`].
pub type Adafactor = Stepper<AdafactorConfig>;
/// Adagrad (Duchi, Hazan and Singer 2011): see [`AdagradConfig`].
pub type Adagrad = Stepper<AdagradConfig>;
/// Adam (Kingma and Ba 2015): see [`AdamConfig`].
pub type Adam = Stepper<AdamConfig>;
/// AdamW (Loshchilov and Hutter 2019): see [`AdamWConfig`].
pub type AdamW = Stepper<AdamWConfig>;
/// Adamax (Kingma and Ba 2015): see [`AdamaxConfig`].
pub type Adamax = Stepper<AdamaxConfig>;
/// Adan (Xie et al. 2022): see [`AdanConfig`].
pub type Adan = Stepper<AdanConfig>;
/// Averaged SGD (Polyak and Juditsky 1992): see [`AsgdConfig`].
pub type Asgd = Stepper<AsgdConfig>;
/// FTRL-Proximal (McMahan et al. 2013): see [`FtrlConfig`].
pub type Ftrl = Stepper<FtrlConfig>;
/// LAMB (You et al. 2020): see [`LambConfig`].
pub type Lamb = Stepper<LambConfig>;
/// LARS (You, Gitman and Ginsburg 2017): see [`LarsConfig`].
pub type Lars = Stepper<LarsConfig>;
/// Lion (Chen et al. 2023): see [`LionConfig`].
pub type Lion = Stepper<LionConfig>;
/// Muon (Jordan et al. 2024): see [`MuonConfig`].
pub type Muon = Stepper<MuonConfig>;
/// NAdam (Dozat 2016): see [`NAdamConfig`].
pub type NAdam = Stepper<NAdamConfig>;
/// RAdam (Liu et al. 2020): see [`RAdamConfig`].
pub type RAdam = Stepper<RAdamConfig>;
/// RMSprop (Hinton 2012): see [`RmsPropConfig`].
pub type RmsProp = Stepper<RmsPropConfig>;
/// Rprop (Riedmiller and Braun 1993): see [`RpropConfig`].
pub type Rprop = Stepper<RpropConfig>;
/// Schedule-free AdamW (Defazio et al. 2024): see [`ScheduleFreeAdamWConfig`].
pub type ScheduleFreeAdamW = Stepper<ScheduleFreeAdamWConfig>;
/// Schedule-free SGD (Defazio et al. 2024): see [`ScheduleFreeSgdConfig`].
pub type ScheduleFreeSgd = Stepper<ScheduleFreeSgdConfig>;
/// Stochastic gradient descent with momentum: see [`SgdConfig`].
pub type Sgd = Stepper<SgdConfig>;
/// Several rules, a group each, in one step.
pub type Optimizers = Stepper<dyn Rule>;
