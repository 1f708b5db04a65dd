//! Several rules in one step, and what is said of gradients and rates whatever the rule.

mod common;

use kiln::Array;
use kiln::optim::*;
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::checkpoint::Checkpoint;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

/// A model of two groups, `body` and one below it, and a parameter in none.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
}

const NAMES: [&str; 3] = ["body", "norm", "head"];

impl Model {
    fn new(device: &Device, seed: u64) -> Model {
        let params = ParamStore::new(device, seed);
        let root = params.root();
        let paths = [root.group("body"), root.group("body.no_decay"), root];
        let init = Init::Normal { mean: 0.0, deviation: 1.0 };
        let param = |((path, name), length): ((&Path, &str), usize)| path.param(name, &[length], init);
        let all = paths.iter().zip(NAMES).zip([37, 5, 131]).map(param).collect();
        Model { params, all }
    }

    /// The loss of step `i`, whose gradients are normals.
    fn loss(&self, i: u64) -> Tensor {
        let product = |(k, param): (usize, &Param)| {
            let gradient = common::normals(&param.shape().unwrap(), 10 * i + k as u64);
            (param.tensor() * self.params.device().array(&gradient)).sum_all()
        };
        self.all.iter().enumerate().map(product).reduce(|a, b| a + b).unwrap()
    }

    fn values(&self) -> Vec<Vec<f64>> {
        self.all.iter().map(|param| param.values().unwrap()).collect()
    }
}

/// SGD for `body` and below, NAdam for what is left, with a rate that falls in `body` and less decay below it.
fn two_rules(params: &ParamStore) -> Optimizers {
    let momentum = SgdConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.1, ..Default::default() };
    let mut optimizer = Optimizers::of(params)
        .group("body", momentum)
        .rest(NAdamConfig { lr: 0.1, ..Default::default() })
        .group_settings("body.no_decay", GroupSettings { lr_scale: 0.5, weight_decay: Some(0.0) });
    optimizer.set_group_schedule("body", schedule::linear(0.1, 0.0, 20)).unwrap();
    optimizer
}

#[test]
fn each_group_moves_as_by_its_rule_alone() {
    for device in devices() {
        let together = Model::new(&device, 1);
        let mut optimizer = two_rules(&together.params);
        let (sgd, nadam) = (Model::new(&device, 1), Model::new(&device, 1));
        let settings = GroupSettings { lr_scale: 0.5, weight_decay: Some(0.0) };
        let momentum = SgdConfig { lr: 0.1, momentum: 0.9, weight_decay: 0.1, ..Default::default() };
        let mut first = Sgd::new(&sgd.params, momentum)
            .group_settings("body.no_decay", settings)
            .schedule(schedule::linear(0.1, 0.0, 20));
        let mut second = NAdam::new(&nadam.params, NAdamConfig { lr: 0.1, ..Default::default() });
        for i in 0..6 {
            optimizer.step(&together.loss(i)).unwrap();
            first.step(&sgd.loss(i)).unwrap();
            second.step(&nadam.loss(i)).unwrap();
        }
        let (all, sgd, nadam) = (together.values(), sgd.values(), nadam.values());
        assert_eq!((&all[0], &all[1]), (&sgd[0], &sgd[1]), "{}", device.name());
        assert_eq!(all[2], nadam[2], "{}", device.name());
        assert_eq!(optimizer.steps(), 6);
    }
}

#[test]
fn a_step_of_several_rules_resumes_to_equal_bits() {
    for device in devices() {
        let path = std::env::temp_dir().join(format!("kiln-several-rules-{}", std::process::id()));
        let model = Model::new(&device, 1);
        let mut optimizer = two_rules(&model.params).clip_norm(2.0);
        for i in 0..7 {
            if i == 4 {
                Checkpoint::save(&path, &model.params, Some(&optimizer), None).unwrap();
            }
            optimizer.step(&model.loss(i)).unwrap();
        }
        let other = Model::new(&device, 2);
        let mut again = two_rules(&other.params).clip_norm(2.0);
        Checkpoint::load(&path, &other.params, Some(&mut again)).unwrap();
        let state = again.state().unwrap();
        assert_eq!((state.rule.as_str(), state.lr, &state.more_lrs[..]), ("sgd+nadam", 0.1 * 0.8, &[0.1][..]));
        assert_eq!(state.kept.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["head"]);
        (4..7).for_each(|i| again.step(&other.loss(i)).unwrap());
        assert_eq!(other.values(), model.values(), "{}", device.name());
        // Not into one of other rules, nor of one.
        let mut foreign = NAdam::new(&other.params, NAdamConfig::default());
        assert!(matches!(Checkpoint::load(&path, &other.params, Some(&mut foreign)), Err(Error::Checkpoint { .. })));
        let mut short = state.clone();
        short.more_lrs.clear();
        assert!(matches!(again.set_state(&short), Err(Error::Value { .. })));
        let mut without = state.clone();
        without.kept.clear();
        assert!(again.set_state(&without).unwrap_err().to_string().contains("lacks what is kept for `head`"));
    }
}

#[test]
fn gradients_are_clipped_all_together() {
    for device in devices() {
        let params = ParamStore::new(&device, 0);
        let first = params.root().group("first").param("a", &[1], Init::Zeros);
        let second = params.root().param("b", &[1], Init::Zeros);
        let sgd = || SgdConfig { lr: 1.0, ..Default::default() };
        let mut optimizer =
            Optimizers::of(&params).group("first", sgd()).rest(LionConfig { lr: 0.25, ..Default::default() });
        optimizer = optimizer.clip_norm(1.0);
        optimizer.step(&(first.tensor() * 3.0 - second.tensor() * 4.0).sum_all()).unwrap();
        assert!((first.values().unwrap()[0] + 0.6).abs() < 1e-6);
        assert_eq!(second.values().unwrap(), [0.25]);
        assert!((optimizer.gradient_norm().unwrap() - 5.0).abs() < 1e-6);
    }
}

#[test]
fn a_step_is_refused_as_a_whole() {
    for device in [Device::cpu(), Device::best().unwrap()] {
        let model = Model::new(&device, 1);
        let mut optimizer = two_rules(&model.params);
        optimizer.step(&model.loss(0)).unwrap();
        let (values, state) = (model.values(), optimizer.state().unwrap());
        let bad = model.loss(1) + (model.all[1].tensor() * f64::INFINITY).sum_all();
        optimizer.step(&bad).unwrap();
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 2, .. })));
        assert_eq!((model.values(), optimizer.state().unwrap()), (values, state));
        optimizer.step(&model.loss(1)).unwrap();
        assert_eq!(optimizer.steps(), 2);
    }
}

#[test]
fn rules_that_cannot_be_used_together_are_reported_by_the_first_step() {
    let model = Model::new(&Device::cpu(), 1);
    let of = || Optimizers::of(&model.params);
    let sgd = SgdConfig::default;
    let refused = |mut optimizer: Optimizers| {
        let error = optimizer.step(&model.loss(0)).unwrap_err();
        assert!(matches!(error, Error::Value { .. }), "{error}");
        error.to_string()
    };
    let text = refused(of().group("body", sgd()));
    assert!(text.contains("no rule takes the parameters of group `default`"), "{text}");
    let text = refused(of().group("body.no_decay", sgd()).group("default", sgd()));
    assert!(text.contains("group `body`"), "{text}");
    assert!(refused(of()).contains("without a rule"));
    let text = refused(of().group("tail", sgd()).rest(sgd()));
    assert!(text.contains("`tail`, which the store does not have"), "{text}");
    assert!(refused(of().rest(sgd()).rest(AdamConfig::default())).contains("two rules for the same groups"));
    assert!(refused(of().group("body", sgd()).group("body", sgd()).rest(sgd())).contains("two rules"));
    assert!(refused(of().rest(AdamConfig { eps: -1.0, ..Default::default() })).contains("eps"));
    let mut late = of().rest(sgd());
    late.step(&model.loss(0)).unwrap();
    assert!(refused(late.group("body", AdamConfig::default())).contains("after the first step"));
    let mut named = of().rest(sgd());
    assert!(matches!(named.set_group_schedule("body", 0.1), Err(Error::Value { .. })));
}

/// The values of one parameter after steps with these gradients.
fn after(optimizer: &mut dyn Optimizer, parameter: &Param, gradients: &[&[f64]]) -> Vec<f64> {
    for gradient in gradients {
        let shape = parameter.shape().unwrap();
        let gradient = Array { shape, dtype: DType::F32, data: gradient.to_vec() };
        let gradient = optimizer.store().device().array(&gradient);
        optimizer.step_with(vec![(parameter.clone(), gradient)]).unwrap();
    }
    parameter.values().unwrap()
}

fn parameter(device: &Device, start: &[f64]) -> (ParamStore, Param) {
    let params = ParamStore::new(device, 0);
    let parameter = params.root().param("p", &[start.len()], Init::Zeros);
    parameter.set(start).unwrap();
    (params, parameter)
}

#[test]
fn what_becomes_of_a_gradient_before_a_rule_sees_it() {
    let start = [1.0, -2.0, 0.0, 4.0];
    let gradient: &[f64] = &[3.0, -0.25, -4.0, 0.5];
    type With = fn(Sgd) -> Sgd;
    let cases: [(&str, With, [f64; 4]); 8] = [
        ("clip_value", |sgd| sgd.clip_value(1.0), [1.0, -0.25, -1.0, 0.5]),
        ("maximize", Stepper::maximize, [-3.0, 0.25, 4.0, -0.5]),
        ("l1", |sgd| sgd.l1(0.5), [3.5, -0.75, -4.0, 1.0]),
        ("l2", |sgd| sgd.l2(0.5), [3.5, -1.25, -4.0, 2.5]),
        ("both penalties", |sgd| sgd.l1(0.25).l2(0.5), [3.75, -1.5, -4.0, 2.75]),
        // Decay pulls to 0 either way.
        ("maximize with l2", |sgd| sgd.maximize().l2(0.5), [-2.5, -0.75, 4.0, 1.5]),
        // The norm first, here to a half of it; penalties last.
        ("all", |sgd| sgd.clip_norm(f64::sqrt(25.3125) / 2.0).clip_value(1.0).l2(0.5), [1.5, -1.125, -1.0, 2.25]),
        (
            "no more of them",
            |sgd| sgd.clip_value(1.0).clip_value(None).clip_norm(1.0).clip_norm(None),
            [3.0, -0.25, -4.0, 0.5],
        ),
    ];
    for device in devices() {
        for (name, with, want) in &cases {
            let (params, own) = parameter(&device, &start);
            let mut sgd = with(Sgd::new(&params, SgdConfig { lr: 1.0, ..Default::default() }));
            let got = after(&mut sgd, &own, &[gradient]);
            for (k, (got, want)) in got.iter().zip(want).enumerate() {
                let moved = start[k] - got;
                assert!((moved - want).abs() < 2e-6, "{name} on {}: element {k} by {moved}", device.name());
            }
        }
    }
}

#[test]
fn penalties_enter_the_moments_and_decay_does_not() {
    for device in devices() {
        let moment = |with: fn(AdamW) -> AdamW| {
            let (params, own) = parameter(&device, &[2.0]);
            let mut adamw = with(AdamW::new(&params, AdamWConfig { weight_decay: 0.5, ..Default::default() }));
            after(&mut adamw, &own, &[&[1.0]]);
            adamw.state().unwrap().tensors[0].2[0]
        };
        assert!((moment(|adamw| adamw) - 0.1).abs() < 1e-7);
        assert!((moment(|adamw| adamw.l2(0.5)) - 0.2).abs() < 1e-7);
    }
}

#[test]
fn an_option_that_changes_between_steps_counts_from_the_next_on() {
    for device in devices() {
        let (params, own) = parameter(&device, &[0.0]);
        let mut sgd = Sgd::new(&params, SgdConfig { lr: 1.0, ..Default::default() });
        assert_eq!(after(&mut sgd, &own, &[&[2.0]]), [-2.0]);
        sgd = sgd.clip_value(0.5);
        assert_eq!(after(&mut sgd, &own, &[&[2.0]]), [-2.5]);
        sgd = sgd.clip_value(0.25).maximize();
        assert_eq!(after(&mut sgd, &own, &[&[2.0]]), [-2.25]);
    }
}

#[test]
fn a_rate_that_a_schedule_gives_cannot_be_set() {
    for device in devices() {
        let (params, own) = parameter(&device, &[0.0]);
        let config = SgdConfig { lr: 7.0, ..Default::default() };
        let mut sgd = Sgd::new(&params, config).schedule(schedule::linear(1.0, 0.0, 4));
        assert_eq!(sgd.lr(), 1.0);
        assert_eq!(after(&mut sgd, &own, &[&[1.0], &[1.0]]), [-1.75]);
        let error = sgd.set_lr(0.1).unwrap_err();
        assert!(matches!(error, Error::Value { op: "set_lr", .. }), "{error}");
        assert!(error.to_string().contains("end_schedule"), "{error}");
        assert_eq!(sgd.lr(), 0.5);
        sgd.end_schedule();
        assert_eq!(after(&mut sgd, &own, &[&[1.0]]), [-2.25]);
        sgd.set_lr(0.25).unwrap();
        assert_eq!(after(&mut sgd, &own, &[&[1.0]]), [-2.5]);
        assert!(sgd.set_lr(f64::NAN).is_err() && sgd.set_lr(-1.0).is_err());
        assert_eq!(sgd.lr(), 0.25);
    }
    let model = Model::new(&Device::cpu(), 1);
    let mut several = Optimizers::of(&model.params).group("body", SgdConfig::default()).rest(AdamConfig::default());
    assert!(several.set_lr(0.1).unwrap_err().to_string().contains("several rates"));
}

#[test]
fn schedules_of_groups_go_their_own_ways() {
    for device in devices() {
        let params = ParamStore::new(&device, 0);
        let [a, b] = ["a", "b"].map(|name| params.root().group(name).param(name, &[1], Init::Zeros));
        let sgd = |lr: f64| SgdConfig { lr, ..Default::default() };
        let mut optimizer = Optimizers::of(&params).group("a", sgd(1.0)).group("b", sgd(2.0));
        optimizer.set_group_schedule("b", schedule::step(4.0, 2, 0.5)).unwrap();
        for _ in 0..3 {
            optimizer.step(&(a.tensor() + b.tensor()).sum_all()).unwrap();
        }
        assert_eq!((a.values().unwrap(), b.values().unwrap()), (vec![-3.0], vec![-10.0]));
        optimizer.set_schedule(0.5);
        optimizer.step(&(a.tensor() + b.tensor()).sum_all()).unwrap();
        assert_eq!((a.values().unwrap(), b.values().unwrap()), (vec![-3.5], vec![-10.5]));
    }
}

#[test]
fn schedules_of_rate_and_momentum_make_no_new_plan() {
    // A device of its own: what other tests plan is not counted.
    let device = Device::best().unwrap();
    let model = Model::new(&device, 1);
    let mut optimizer = two_rules(&model.params)
        .schedule(schedule::cosine(0.1, 30).warm_up(5))
        .momentum_schedule(schedule::linear(0.9, 0.5, 30));
    optimizer.step(&model.loss(0)).unwrap();
    device.synchronize().unwrap();
    let before = (device.statistics().plans_made, device.objects_made());
    (1..10).for_each(|i| optimizer.step(&model.loss(i)).unwrap());
    optimizer.set_schedule(schedule::linear(0.1, 0.0, 20));
    optimizer.set_group_schedule("body", 0.05).unwrap();
    (10..15).for_each(|i| optimizer.step(&model.loss(i)).unwrap());
    device.synchronize().unwrap();
    assert_eq!((device.statistics().plans_made, device.objects_made()), before);
}

#[test]
fn a_momentum_follows_its_schedule() {
    for device in devices() {
        let (params, own) = parameter(&device, &[0.0]);
        let config = SgdConfig { lr: 1.0, momentum: 0.9, ..Default::default() };
        let mut sgd = Sgd::new(&params, config).momentum_schedule(schedule::linear(0.5, 0.0, 2));
        // u = 1, then 0.25 + 1, then 0 + 1.
        assert_eq!(after(&mut sgd, &own, &[&[1.0], &[1.0], &[1.0]]), [-3.25]);
    }
}

#[test]
fn what_a_schedule_gives_that_cannot_be_used_is_an_error_of_that_step() {
    for device in devices() {
        let (params, own) = parameter(&device, &[0.0]);
        let give = |t: u64| if t == 2 { f64::NAN } else { 1.0 };
        let mut sgd = Sgd::new(&params, SgdConfig::default()).schedule(schedule::lambda(give));
        assert_eq!(after(&mut sgd, &own, &[&[1.0], &[1.0]]), [-2.0]);
        let error = sgd.step(&own.tensor().sum_all()).unwrap_err();
        assert!(matches!(error, Error::Value { op: "sgd", .. }), "{error}");
        sgd.set_schedule(1.0);
        let mut adam = Adam::new(&params, AdamConfig::default()).momentum_schedule(schedule::constant(1.0));
        let error = adam.step(&own.tensor().sum_all()).unwrap_err();
        assert!(error.to_string().contains("momentum"), "{error}");
        assert_eq!(after(&mut sgd, &own, &[&[1.0]]), [-3.0]);
    }
}

#[test]
fn a_rate_of_nothing_moves_nothing_with_ftrl() {
    for device in devices() {
        let (params, own) = parameter(&device, &[1.0, -2.0, 0.0]);
        let config = FtrlConfig { lr: 0.5, beta: 1.0, ..Default::default() };
        let mut ftrl = Ftrl::new(&params, config).schedule(schedule::linear(0.0, 1.0, 2));
        assert_eq!(after(&mut ftrl, &own, &[&[1.0, 1.0, 0.0]]), [1.0, -2.0, 0.0]);
        assert!(after(&mut ftrl, &own, &[&[1.0, 1.0, 0.0]]).iter().all(|x| x.is_finite()));
        let state = ftrl.state().unwrap();
        // What was there before the first update is counted once.
        assert!((state.tensors[0].2[2] - 0.1).abs() < 1e-7, "{state:?}");
    }
}

/// The file with what it says of the optimizer changed.
fn with_state(bytes: &[u8], change: impl Fn(&mut serde_json::Value)) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let mut header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
    let mut own: serde_json::Value = serde_json::from_str(header["__metadata__"]["kiln"].as_str().unwrap()).unwrap();
    change(&mut own["parts"]["optimizer/model"]);
    header["__metadata__"]["kiln"] = own.to_string().into();
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn damaged_rates_and_kept_numbers_are_refused_whole() {
    use serde_json::{Value, json};
    let path = std::env::temp_dir().join(format!("kiln-damaged-rules-{}", std::process::id()));
    let device = Device::cpu();
    let saved = Model::new(&device, 1);
    let mut optimizer = two_rules(&saved.params);
    (0..3).for_each(|i| optimizer.step(&saved.loss(i)).unwrap());
    Checkpoint::save(&path, &saved.params, Some(&optimizer), None).unwrap();
    let good = std::fs::read(&path).unwrap();
    type Damage<'a> = &'a dyn Fn(&mut Value);
    let damages: [(&str, Damage<'_>); 13] = [
        ("learning rates", &|state| state["more_lrs"] = json!([])),
        ("learning rates", &|state| state["more_lrs"] = json!(["0.1", "0.1"])),
        ("learning rates", &|state| drop(state.as_object_mut().unwrap().remove("more_lrs"))),
        ("lr is NaN", &|state| state["more_lrs"] = json!(["NaN"])),
        ("lr is -0.5", &|state| state["more_lrs"] = json!(["-0.5"])),
        ("`more_lrs`", &|state| state["more_lrs"] = json!([0.1])),
        ("`more_lrs`", &|state| state["more_lrs"] = json!("0.1")),
        ("kept for `head`", &|state| state["kept"] = json!([])),
        ("kept for `head`", &|state| state["kept"][0][1][0] = json!("inf")),
        ("`head`", &|state| state["kept"] = json!([state["kept"][0], state["kept"][0]])),
        ("`body`", &|state| state["kept"][0][0] = json!("body")),
        ("`kept`", &|state| drop(state["kept"][0][1].as_array_mut().unwrap().pop())),
        ("`kept`", &|state| state["kept"][0][1][0] = json!(0.5)),
    ];
    for (word, change) in damages {
        let model = Model::new(&device, 2);
        let mut optimizer = two_rules(&model.params);
        optimizer.step(&model.loss(7)).unwrap();
        let before = (model.values(), optimizer.state().unwrap());
        std::fs::write(&path, with_state(&good, change)).unwrap();
        let error = Checkpoint::load(&path, &model.params, Some(&mut optimizer)).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains(word), "{word}: {error}");
        assert!((model.values(), optimizer.state().unwrap()) == before, "{word}");
    }
    std::fs::write(&path, with_state(&good, |_| {})).unwrap();
    let model = Model::new(&device, 2);
    Checkpoint::load(&path, &model.params, Some(&mut two_rules(&model.params))).unwrap();
    assert_eq!(model.values(), saved.values());
    std::fs::remove_file(&path).unwrap();
}
