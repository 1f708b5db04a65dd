//! Every optimizer with every option of it over 300 steps, beside PyTorch's values and those of programs written from the papers:
//! `scripts/optimizers.py` makes them and says what is run.

mod common;
#[path = "optimizer_values/lbfgs.rs"]
mod lbfgs;
#[path = "common/pytorch.rs"]
mod pytorch;

use std::collections::HashMap;

use kiln::optim::*;
use kiln::prelude::*;
use kiln::rng::word;
use kiln::{Array, Shape};
use serde_json::Value;

use pytorch::{Case, File};

/// Cases that PyTorch computes in bfloat16, with two or three digits: how near they come in norm.
const BFLOAT16: (&str, f64) = ("muon_bfloat16", 0.03);
/// Rules that step by signs: where one is of a number near zero, f32 may find the other.
const BY_SIGNS: &[&str] = &["lion", "rprop"];

const SHAPES: [&[usize]; 2] = [&[5, 7], &[3]];

fn elements(parameter: usize) -> usize {
    SHAPES[parameter].iter().product()
}

/// The high bits of a Philox word, from 0 to below 2^24.
fn draw(parameter: usize, step: u64, element: usize) -> (f64, bool) {
    let word = word(parameter as u64 + 1, step, element as u32);
    (f64::from(word >> 8), word.is_multiple_of(16))
}

fn start(parameter: usize) -> Vec<f64> {
    let value = |element| (draw(parameter, 0, element).0 - 2f64.powi(23)) / 2f64.powi(22);
    (0..elements(parameter)).map(value).collect()
}

/// The gradient of a parameter in a step, as the script forms it.
fn gradient(parameter: usize, step: u64) -> Option<Array> {
    let is_reached = match parameter {
        0 => !(5..=8).contains(&step),
        _ => step >= 3 && !(7..=9).contains(&step) && !(40..=60).contains(&step),
    };
    let value = |element: usize| {
        let (bits, is_zero) = draw(parameter, step, element);
        let share = bits / 2f64.powi(24);
        let mut value = if is_zero { 0.0 } else { [share, 2.0 * share - 1.0, -share][element % 3] };
        if step % 11 == 5 {
            value *= 1e-12;
        }
        if step % 100 == 17 && step > 100 && element % 7 == 3 {
            value *= 1e4;
        }
        f64::from(value as f32)
    };
    let data = (0..elements(parameter)).map(value).collect();
    let shape = Shape::new(SHAPES[parameter]).unwrap();
    is_reached.then_some(Array { shape, dtype: DType::F32, data })
}

/// The settings of a case; what is not there is the default.
struct Attrs<'a>(&'a Value);

impl Attrs<'_> {
    fn number(&self, name: &str, default: f64) -> f64 {
        self.0.get(name).map_or(default, |value| value.as_f64().unwrap())
    }

    fn flag(&self, name: &str) -> bool {
        self.0.get(name).is_some_and(|value| value.as_bool().unwrap())
    }

    fn numbers(&self, name: &str) -> Vec<f64> {
        self.0.get(name).map_or(vec![], |value| value.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect())
    }

    fn pair(&self, name: &str, default: (f64, f64)) -> (f64, f64) {
        if let [first, second] = self.numbers(name)[..] { (first, second) } else { default }
    }

    fn names(&self, name: &str) -> Vec<&str> {
        self.0[name].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
    }
}

/// The optimizer of a case.
fn optimizer_of(case: &Case, store: &ParamStore) -> Box<dyn Optimizer> {
    /// A configuration whose fields are read where the case has them, and are the default's elsewhere.
    macro_rules! rule {
        ($config:ident $(, $kind:ident $field:ident = $name:literal)*) => {{
            let attrs = Attrs(&case.attrs);
            let default = $config::default();
            // Some configurations have no other fields.
            #[allow(clippy::needless_update)]
            let config = $config { $($field: rule!(@ $kind attrs, $name, default.$field),)* ..default };
            let optimizer = Stepper::new(store, config);
            Box::new(if attrs.flag("maximize") { optimizer.maximize() } else { optimizer })
        }};
        (@ number $attrs:ident, $name:literal, $default:expr) => { $attrs.number($name, $default) };
        (@ pair $attrs:ident, $name:literal, $default:expr) => { $attrs.pair($name, $default) };
        (@ flag $attrs:ident, $name:literal, $default:expr) => { $attrs.flag($name) };
        (@ three $attrs:ident, $name:literal, $default:expr) => {{
            let [first, second, third] = $attrs.numbers($name)[..] else { panic!("three numbers") };
            (first, second, third)
        }};
        (@ count $attrs:ident, $name:literal, $default:expr) => { $attrs.number($name, 0.0) as u64 };
    }
    match case.op.as_str() {
        "adam" => rule!(
            AdamConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay",
            flag amsgrad = "amsgrad"
        ),
        "adamw" => rule!(
            AdamWConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay",
            flag amsgrad = "amsgrad"
        ),
        "adamax" => rule!(
            AdamaxConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay"
        ),
        "nadam" => rule!(
            NAdamConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay",
            number momentum_decay = "momentum_decay",
            flag decoupled_weight_decay = "decoupled_weight_decay"
        ),
        "radam" => rule!(
            RAdamConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay",
            flag decoupled_weight_decay = "decoupled_weight_decay"
        ),
        "adagrad" => rule!(
            AdagradConfig,
            number lr = "lr",
            number lr_decay = "lr_decay",
            number weight_decay = "weight_decay",
            number initial_accumulator = "initial_accumulator_value",
            number eps = "eps"
        ),
        "adadelta" => rule!(
            AdadeltaConfig,
            number lr = "lr",
            number rho = "rho",
            number eps = "eps",
            number weight_decay = "weight_decay"
        ),
        "rmsprop" => rule!(
            RmsPropConfig,
            number lr = "lr",
            number alpha = "alpha",
            number eps = "eps",
            number weight_decay = "weight_decay",
            number momentum = "momentum",
            flag centered = "centered"
        ),
        "rprop" => rule!(RpropConfig, number lr = "lr", pair etas = "etas", pair step_sizes = "step_sizes"),
        "asgd" => rule!(
            AsgdConfig,
            number lr = "lr",
            number lambda = "lambd",
            number alpha = "alpha",
            number t0 = "t0",
            number weight_decay = "weight_decay"
        ),
        "sgd" => rule!(
            SgdConfig,
            number lr = "lr",
            number momentum = "momentum",
            number dampening = "dampening",
            flag nesterov = "nesterov",
            number weight_decay = "weight_decay"
        ),
        "lion" => {
            rule!(LionConfig, number lr = "lr", pair betas = "betas", number weight_decay = "weight_decay")
        }
        "lamb" => rule!(
            LambConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay"
        ),
        "lars" => rule!(
            LarsConfig,
            number lr = "lr",
            number momentum = "momentum",
            flag nesterov = "nesterov",
            number trust = "trust",
            number eps = "eps",
            number weight_decay = "weight_decay"
        ),
        "adan" => rule!(
            AdanConfig,
            number lr = "lr",
            three betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay"
        ),
        "ftrl" => rule!(
            FtrlConfig,
            number lr = "lr",
            number initial_accumulator = "initial_accumulator",
            number l1 = "l1",
            number l2 = "l2",
            number l2_shrinkage = "l2_shrinkage",
            number beta = "beta"
        ),
        "adafactor" => rule!(
            AdafactorConfig,
            number lr = "lr",
            number beta2_decay = "beta2_decay",
            pair eps = "eps",
            number d = "d",
            number weight_decay = "weight_decay"
        ),
        "muon" => {
            let attrs = Attrs(&case.attrs);
            let default = MuonConfig::default();
            let config = MuonConfig {
                lr: attrs.number("lr", default.lr),
                weight_decay: attrs.number("weight_decay", default.weight_decay),
                momentum: attrs.number("momentum", default.momentum),
                nesterov: case.attrs.get("nesterov").is_none_or(|value| value.as_bool().unwrap()),
                rounds: attrs.number("ns_steps", default.rounds as f64) as usize,
                rate: match case.attrs.get("adjust_lr_fn").and_then(Value::as_str) {
                    Some("match_rms_adamw") => MuonRate::MatchAdamW,
                    _ => MuonRate::Original,
                },
                ..default
            };
            Box::new(Muon::new(store, config))
        }
        "schedule_free_sgd" => rule!(
            ScheduleFreeSgdConfig,
            number lr = "lr",
            number momentum = "momentum",
            number weight_decay = "weight_decay",
            count warm_up = "warm_up",
            number r = "r",
            number weight_lr_power = "weight_lr_power"
        ),
        "schedule_free_adamw" => rule!(
            ScheduleFreeAdamWConfig,
            number lr = "lr",
            pair betas = "betas",
            number eps = "eps",
            number weight_decay = "weight_decay",
            count warm_up = "warm_up",
            number r = "r",
            number weight_lr_power = "weight_lr_power"
        ),
        other => panic!("no rule is called {other}"),
    }
}

/// What a run of a case gives.
struct Run {
    /// The elements of both parameters after each of the file's steps.
    values: Vec<Vec<f64>>,
    state: OptimizerState,
}

fn run(device: &Device, case: &Case, steps: &[u64]) -> Run {
    let store = ParamStore::new(device, 0);
    // What Muon does not take is not there.
    let trained = if Attrs(&case.attrs).flag("matrix_only") { 1 } else { 2 };
    let parameters: Vec<Param> = ["matrix", "vector"]
        .iter()
        .zip(SHAPES)
        .take(trained)
        .map(|(name, shape)| store.root().param(name, shape, Init::Zeros))
        .collect();
    for (number, parameter) in parameters.iter().enumerate() {
        parameter.set(&start(number)).unwrap();
    }
    let mut optimizer = optimizer_of(case, &store);
    let mut values = vec![];
    for step in 1..=*steps.last().unwrap() {
        let given = parameters.iter().enumerate().filter_map(|(number, parameter)| {
            gradient(number, step).map(|gradient| (parameter.clone(), device.array(&gradient)))
        });
        let given: Vec<(Param, Tensor)> = given.collect();
        // No optimizer moves what has no gradient; a step with none at all is an error here.
        if !given.is_empty() {
            optimizer.step_with(given).unwrap();
        }
        if steps.contains(&step) {
            device.poison_buffers().unwrap();
            let mut all: Vec<f64> = parameters.iter().flat_map(|parameter| parameter.values().unwrap()).collect();
            (trained..2).for_each(|parameter| all.extend(start(parameter)));
            values.push(all);
        }
    }
    Run { values, state: optimizer.state().unwrap() }
}

/// Norm of the difference over the norm, of all elements but those of `without`.
fn distance(got: &[f64], want: &[f64], without: &[usize]) -> f64 {
    assert_eq!(got.len(), want.len());
    let norm = |each: &dyn Fn(usize) -> f64| {
        (0..want.len()).filter(|i| !without.contains(i)).map(|i| each(i).powi(2)).sum::<f64>().sqrt()
    };
    let error = norm(&|i| got[i] - want[i]) / norm(&|i| want[i]).max(1e-300);
    // NaN is no small error.
    if error.is_nan() { f64::INFINITY } else { error }
}

/// Compares a run with the file; `Err` with all that is too far off. `bound` is of the norm, and `usual` how many times f32's own
/// error counts as much.
fn compare(file: &File, case: &Case, run: &Run, bound: f64, usual: f64) -> Result<f64, String> {
    let (exact, single) = (file.values(&case.outputs[0]), file.values(&case.outputs[1]));
    let length = exact.len() / run.values.len();
    let steps = file.metadata("steps");
    let (mut failures, mut odd, mut worst) = (vec![], vec![], 0.0f64);
    for (k, (want, single)) in exact.chunks(length).zip(single.chunks(length)).enumerate() {
        let got = &run.values[k];
        if BY_SIGNS.contains(&&*case.op) {
            let is_odd = |&i: &usize| (got[i] - want[i]).abs() > 1e-4 * (1.0 + want[i].abs()) && !odd.contains(&i);
            let new: Vec<usize> = (0..length).filter(is_odd).collect();
            odd.extend(new);
        }
        let (error, of_f32) = (distance(got, want, &odd), distance(single, want, &odd));
        worst = worst.max(error / bound.max(usual * of_f32));
        if error > bound.max(usual * of_f32) {
            failures.push(format!("step {}: {error:.1e}, where f32 is off by {of_f32:.1e}", steps[k]));
        }
    }
    // One in 10^4 of the elements that were updated.
    let most = length * steps[run.values.len() - 1].as_u64().unwrap() as usize / 10_000;
    if odd.len() > most {
        failures.push(format!("{} elements went another way", odd.len()));
    }
    let tensors: HashMap<&str, &Vec<f64>> =
        run.state.tensors.iter().map(|(name, _, values)| (name.as_str(), values)).collect();
    for (moment, outputs) in Attrs(&case.attrs).names("moments").iter().zip(case.outputs[2..].chunks(2)) {
        let got = ["matrix", "vector"].map(|name| tensors[&*format!("{moment}.{name}")].clone()).concat();
        let want = file.values(&outputs[0]);
        let (error, of_f32) = (distance(&got, &want, &odd), distance(&file.values(&outputs[1]), &want, &odd));
        if error > bound.max(usual * of_f32) {
            failures.push(format!("{moment}: {error:.1e}, where f32 is off by {of_f32:.1e}"));
        }
    }
    if failures.is_empty() { Ok(worst) } else { Err(format!("{}: {}", case.name, failures.join("; "))) }
}

fn every_case(device: &Device, bound: f64, usual: f64) {
    let file = File::named("optimizers.safetensors");
    let steps: Vec<u64> =
        file.metadata("steps").as_array().unwrap().iter().map(|step| step.as_u64().unwrap()).collect();
    let cases = file.cases.iter().collect();
    let mut failures = vec![];
    for case in common::choose::chosen(cases, |case| &case.name) {
        let bound = if case.name.starts_with(BFLOAT16.0) { BFLOAT16.1 } else { bound };
        match compare(&file, case, &run(device, case, &steps), bound, usual) {
            Ok(worst) => println!("{:32} {worst:.3} of the bound", case.name),
            Err(error) => failures.push(error),
        }
    }
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_reference_has_the_values_of_every_optimizer() {
    every_case(&Device::cpu(), 1e-12, 0.0);
}

#[test]
fn a_gpu_has_the_values_of_every_optimizer() {
    every_case(&common::gpu(), 1e-6, 2.0);
}

#[test]
fn gl_has_the_values_of_every_optimizer() {
    every_case(&common::backend("gl"), 1e-6, 2.0);
}

#[test]
fn every_rule_has_a_case() {
    let file = File::named("optimizers.safetensors");
    let store = ParamStore::new(&Device::cpu(), 0);
    let mut known = vec![];
    for case in &file.cases {
        assert_eq!(optimizer_of(case, &store).state().unwrap().rule, case.op);
        known.push(case.op.as_str());
    }
    known.sort_unstable();
    known.dedup();
    // Each rule has a configuration, which the crate passes on.
    let rules = include_str!("../src/optim/rules/mod.rs");
    let word = |c: char| !c.is_ascii_alphanumeric();
    let configs = rules.split(word).filter(|word| word.ends_with("Config")).collect::<Vec<_>>();
    let own = include_str!("optimizer_values.rs");
    let missing: Vec<&&str> = configs.iter().filter(|config| !own.contains(**config)).collect();
    assert!(missing.is_empty(), "no case for {missing:?}");
    assert_eq!(configs.len(), known.len(), "{configs:?} {known:?}");
}
