//! Every rule, with each choice that changes its kernels or what it keeps.
#![allow(dead_code)]

use kiln::ParamStore;
use kiln::optim::*;

/// Makes an optimizer of one rule.
pub type Make = fn(&ParamStore) -> Optimizers;

/// What each is, and how it is made. The settings are such that every part of a formula counts.
pub const RULES: &[(&str, Make)] = &[
    ("adam", |store| of(store, AdamConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("adam amsgrad", |store| of(store, AdamConfig { lr: 0.1, amsgrad: true, ..Default::default() })),
    ("adamw", |store| of(store, AdamWConfig { lr: 0.1, ..Default::default() })),
    ("adamw amsgrad", |store| of(store, AdamWConfig { lr: 0.1, amsgrad: true, ..Default::default() })),
    ("adamax", |store| of(store, AdamaxConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("nadam", |store| of(store, NAdamConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("radam", |store| {
        let decoupled_weight_decay = true;
        of(store, RAdamConfig { lr: 0.1, weight_decay: 0.1, decoupled_weight_decay, ..Default::default() })
    }),
    ("adagrad", |store| {
        of(store, AdagradConfig { lr: 0.1, lr_decay: 0.1, initial_accumulator: 0.5, ..Default::default() })
    }),
    ("adafactor", |store| of(store, AdafactorConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("adadelta", |store| of(store, AdadeltaConfig { weight_decay: 0.1, ..Default::default() })),
    ("rmsprop", |store| of(store, RmsPropConfig { weight_decay: 0.1, ..Default::default() })),
    ("rmsprop momentum", |store| of(store, RmsPropConfig { momentum: 0.9, ..Default::default() })),
    ("rmsprop centered", |store| of(store, RmsPropConfig { centered: true, ..Default::default() })),
    ("rmsprop both", |store| of(store, RmsPropConfig { momentum: 0.9, centered: true, ..Default::default() })),
    ("rprop", |store| of(store, RpropConfig { lr: 0.1, ..Default::default() })),
    ("asgd", |store| of(store, AsgdConfig { lr: 0.1, lambda: 0.1, t0: 1.0, ..Default::default() })),
    ("sgd", |store| of(store, SgdConfig { lr: 0.1, ..Default::default() })),
    ("sgd dampening", |store| of(store, SgdConfig { lr: 0.1, momentum: 0.9, dampening: 0.3, ..Default::default() })),
    ("sgd nesterov", |store| {
        of(store, SgdConfig { lr: 0.1, momentum: 0.9, nesterov: true, weight_decay: 0.1, ..Default::default() })
    }),
    ("lion", |store| of(store, LionConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("lamb", |store| of(store, LambConfig { lr: 0.1, ..Default::default() })),
    ("lars", |store| of(store, LarsConfig { trust: 0.1, weight_decay: 0.1, nesterov: true, ..Default::default() })),
    ("adan", |store| of(store, AdanConfig { lr: 0.1, weight_decay: 0.1, ..Default::default() })),
    ("ftrl", |store| of(store, FtrlConfig { lr: 0.5, l1: 0.1, l2: 0.1, ..Default::default() })),
    ("schedule_free_sgd", |store| {
        of(store, ScheduleFreeSgdConfig { lr: 0.1, warm_up: 3, r: 0.5, weight_decay: 0.1, ..Default::default() })
    }),
    ("schedule_free_adamw", |store| {
        of(store, ScheduleFreeAdamWConfig { lr: 0.1, warm_up: 3, weight_decay: 0.1, ..Default::default() })
    }),
];

fn of(store: &ParamStore, rule: impl Rule) -> Optimizers {
    Optimizers::of(store).rest(rule)
}

/// Runs `check` on each of them that `KILN_CASE` chooses.
pub fn every_rule(mut check: impl FnMut(&str, Make)) {
    for (name, make) in super::choose::chosen(RULES.to_vec(), |(name, _)| name) {
        check(name, make);
    }
}
