//! The rules, each in a file with its formula, its source and its f64 form; the shaders are in `shaders/optim/`.

#[macro_use]
mod common;

mod adadelta;
mod adafactor;
mod adagrad;
mod adam;
mod adamax;
mod adan;
mod asgd;
mod common;
mod ftrl;
mod lamb;
mod lars;
mod lion;
mod muon;
mod nadam;
mod radam;
mod rmsprop;
mod rprop;
mod schedule_free;
mod sgd;

pub use adadelta::AdadeltaConfig;
pub use adafactor::AdafactorConfig;
pub use adagrad::AdagradConfig;
pub use adam::{AdamConfig, AdamWConfig};
pub use adamax::AdamaxConfig;
pub use adan::AdanConfig;
pub use asgd::AsgdConfig;
pub use ftrl::FtrlConfig;
pub use lamb::LambConfig;
pub use lars::LarsConfig;
pub use lion::LionConfig;
pub use muon::{MuonConfig, MuonRate};
pub use nadam::NAdamConfig;
pub use radam::RAdamConfig;
pub use rmsprop::RmsPropConfig;
pub use rprop::RpropConfig;
pub use schedule_free::{ScheduleFreeAdamWConfig, ScheduleFreeSgdConfig};
pub use sgd::SgdConfig;
