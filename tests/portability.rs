//! Every shader text that the ops' cases and a training step use translates to SPIR-V, MSL and HLSL, for every kind of
//! device, without a driver; and Chrome's compiler, where it is there, takes all that a browser could get.
//!
//! `KILN_CASE=softmax KILN_TEXTS=target/texts cargo test --profile checks --test portability` writes the texts of an op.

mod common;
#[path = "common/tint.rs"]
mod tint;

use std::collections::{BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use common::net::{Net, batch};
use common::rules::{RULES, every_rule};
use kiln::kernel::Capabilities;
use kiln::optim::{
    Ema, LambConfig, LarsConfig, LastN, NAdamConfig, Rule, Sam, ScheduleFreeSgd, ScheduleFreeSgdConfig, Stepper,
};
use kiln::plan::Dispatch;
use kiln::prelude::*;

fn translate(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let capabilities = naga::valid::Capabilities::SHADER_FLOAT16
        | naga::valid::Capabilities::SUBGROUP
        | naga::valid::Capabilities::SHADER_INT64
        | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | naga::valid::Capabilities::COOPERATIVE_MATRIX;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    let info = validator.validate(&module).map_err(|error| format!("validation: {error:?}"))?;
    let spirv = naga::back::spv::Options { lang_version: (1, 3), ..Default::default() };
    let words = naga::back::spv::write_vec(&module, &info, &spirv, None).map_err(|error| format!("SPIR-V: {error}"))?;
    one_type_an_array(&words)?;
    // Metal has matrices of 8 x 8 only, HLSL none.
    if source.contains("coop_mat16x16") {
        return Ok(());
    }
    let msl = naga::back::msl::Options { lang_version: (2, 4), fake_missing_bindings: true, ..Default::default() };
    naga::back::msl::write_string(&module, &info, &msl, &Default::default())
        .map_err(|error| format!("MSL: {error}"))?;
    if source.contains("coop_mat") {
        return Ok(());
    }
    let hlsl = naga::back::hlsl::Options {
        shader_model: naga::back::hlsl::ShaderModel::V6_2,
        fake_missing_bindings: true,
        ..Default::default()
    };
    let mut text = String::new();
    let pipeline = Default::default();
    naga::back::hlsl::Writer::new(&mut text, &hlsl, &pipeline)
        .write(&module, &info, None)
        .map_err(|error| format!("HLSL: {error}"))?;
    Ok(())
}

/// `Err` if two types of SPIR-V are the same array: values of one are no values of the other, which a validator finds where
/// they are passed on. An alias of an array makes such a type.
fn one_type_an_array(words: &[u32]) -> Result<(), String> {
    const OP_TYPE_ARRAY: u32 = 28;
    let (mut at, mut seen) = (5, HashSet::new());
    while let Some(&word) = words.get(at) {
        let length = (word >> 16).max(1) as usize;
        if word & 0xffff == OP_TYPE_ARRAY && !seen.insert(words[at + 2..at + length].to_vec()) {
            return Err("SPIR-V: an array is declared as two types; give none an alias".into());
        }
        at += length;
    }
    Ok(())
}

/// Kinds of device: the lowest common set, software drivers, a GPU with everything.
fn kinds() -> Vec<Capabilities> {
    let common = Capabilities::default();
    let software = Capabilities { software: true, ..common.clone() };
    let lanes = Capabilities { software: true, subgroup: Some(8), f16: true, ..common.clone() };
    let pairs = Capabilities { pairs: true, ..lanes.clone() };
    let discrete = Capabilities { f16: true, subgroup: Some(32), storage_buffers: 16, ..common.clone() };
    let matrices = [8, 16].map(|side| Capabilities { cooperative: Some(side), ..discrete.clone() });
    [common, software, lanes, pairs, discrete].into_iter().chain(matrices).collect()
}

/// True if a browser could be such a device: it knows neither integers of 64 bits nor units for matrices.
fn is_a_browser_s(capabilities: &Capabilities) -> bool {
    !capabilities.pairs && capabilities.cooperative.is_none()
}

/// The texts that were translated, and those of them that a browser could get; for all threads.
#[derive(Default)]
struct Texts(Mutex<Known>);

#[derive(Default)]
struct Known {
    seen: HashSet<Arc<str>>,
    of_browsers: HashSet<Arc<str>>,
    for_browsers: Vec<(String, String)>,
}

impl Texts {
    fn check(&self, dispatch: &Dispatch, capabilities: &Capabilities) -> Result<(), String> {
        let source = dispatch.source();
        let is_new = {
            let known = &mut *self.0.lock().unwrap();
            let is_new = known.seen.insert(source.clone());
            if is_new {
                write(dispatch, known.seen.len());
            }
            if is_a_browser_s(capabilities) && known.of_browsers.insert(source.clone()) {
                known.for_browsers.push((dispatch.name(), dispatch.for_browsers(source).into_owned()));
            }
            is_new
        };
        match is_new {
            true => translate(source).map_err(|error| format!("{}: {error}\n{source}", dispatch.name())),
            false => Ok(()),
        }
    }

    /// The texts, once browsers take theirs.
    fn taken_by_browsers(self) -> HashSet<Arc<str>> {
        let known = self.0.into_inner().unwrap();
        tint::browsers_take(&known.for_browsers);
        known.seen
    }
}

/// Writes a text to the folder that `KILN_TEXTS` names, for whoever wants to read it.
fn write(dispatch: &Dispatch, number: usize) {
    let Some(folder) = std::env::var_os("KILN_TEXTS").map(PathBuf::from) else { return };
    let plain = |c: char| if c.is_alphanumeric() || "._-".contains(c) { c } else { '_' };
    let name: String = dispatch.name().chars().map(plain).take(100).collect();
    let path = folder.join(format!("{name}.{number}.wgsl"));
    std::fs::create_dir_all(&folder).and_then(|()| std::fs::write(path, &**dispatch.source())).expect("the folder");
}

#[test]
fn every_shader_of_every_case_translates_for_every_kind_of_device() {
    let (texts, used) = (Texts::default(), Mutex::new(BTreeSet::new()));
    common::every_case_shared(Device::cpu, |cpu, _, case| {
        let recorded = common::Recorded::new(cpu, case)?;
        for capabilities in kinds() {
            let names = common::variants(&capabilities, |target| recorded.plan(target, true))?;
            let alone = names.len() < 2;
            let forced = names.iter().filter(|_| !alone).map(|&name| common::forcing(&capabilities, &[name]));
            for target in forced.chain([common::forcing(&capabilities, &[])]) {
                for dispatch in recorded.kernels(&target)? {
                    texts.check(&dispatch, &capabilities)?;
                }
            }
            used.lock().unwrap().extend(names);
        }
        Ok(())
    });
    let (seen, used) = (texts.taken_by_browsers(), used.into_inner().unwrap());
    // One case alone has few.
    if std::env::var_os("KILN_CASE").is_some() {
        return;
    }
    assert_eq!(used.into_iter().collect::<Vec<_>>(), kiln::ops::all_variants(), "every variant has a case");
    for side in ["coop_mat8x8", "coop_mat16x16"] {
        assert!(seen.iter().any(|text| text.contains(side)), "no text with {side}");
    }
    assert!(seen.len() > 100, "only {} texts", seen.len());
}

/// Names of the kernels of a step, of a pass that only gathers and of one that adds to what was gathered, all translated
/// for every kind of device.
fn kernels_of_steps(
    texts: &Texts,
    config: impl Rule,
    clip: Option<f64>,
    arena: usize,
    precision: Precision,
) -> HashSet<String> {
    let cpu = Device::cpu();
    let net = Net::new(&cpu);
    net.params.limit_arenas(arena);
    net.params.set_precision(precision);
    let (ema, last) = (Ema::new(&net.params, 0.9), LastN::new(&net.params, 3, 1));
    let mut optimizer = Stepper::new(&net.params, config).clip_norm(clip).average(&ema).average(&last);
    if arena < 1 << 20 {
        optimizer = optimizer.clip_each(1.0).clip_adaptive(0.01, 1e-3).centralise().gradient_noise(0.01, 0.55);
    }
    let (x, labels) = batch(&cpu, 37, 0);
    let mut names = HashSet::new();
    for gathered in [false, true] {
        let loss = net.forward(&x).cross_entropy(&labels);
        for (capabilities, update) in kinds().iter().flat_map(|kind| [(kind, false), (kind, true)]) {
            let variants = common::variants(capabilities, |target| optimizer.plan_with(&loss, update, target, true));
            let forced = variants.unwrap().into_iter().map(|name| common::forcing(capabilities, &[name]));
            for (target, fusion) in forced
                .chain([common::forcing(capabilities, &[])])
                .flat_map(|target| [(target.clone(), true), (target, false)])
            {
                let plan = optimizer.plan_with(&loss, update, &target, fusion).unwrap();
                for dispatch in plan.dispatches {
                    texts.check(&dispatch, capabilities).unwrap_or_else(|error| panic!("{error}"));
                    names.insert(dispatch.name());
                }
            }
        }
        if !gathered {
            optimizer.accumulate(&loss).unwrap();
        }
    }
    names
}

#[test]
fn every_shader_of_a_training_step_translates_for_every_kind_of_device() {
    let clip_norm = Some(1.0);
    // One small arena, whose norm is one kernel, and several.
    let (one, several) = (1 << 20, 512);
    let [whole, parts] = [&["clip"][..], &["clip_norm", "clip_norm.lanes", "clip_status"]];
    let (full, mixed) = (Precision::Full, Precision::Mixed);
    let momentum = || SgdConfig { momentum: 0.9, nesterov: true, ..Default::default() };
    let own = Texts::default();
    let texts = &own;
    let all = [
        ("adamw", whole, kernels_of_steps(texts, AdamWConfig::default(), clip_norm, one, full)),
        ("adamw", parts, kernels_of_steps(texts, AdamWConfig::default(), clip_norm, several, full)),
        ("adamw", parts, kernels_of_steps(texts, AdamWConfig::default(), clip_norm, several, mixed)),
        ("sgd", whole, kernels_of_steps(texts, SgdConfig::default(), clip_norm, one, full)),
        ("sgd", whole, kernels_of_steps(texts, SgdConfig::default(), clip_norm, one, mixed)),
        ("sgd", parts, kernels_of_steps(texts, momentum(), None, several, full)),
        ("sgd", parts, kernels_of_steps(texts, momentum(), None, several, mixed)),
    ];
    for (update, clip, names) in all {
        for name in [&[update, "accumulate"], clip].concat() {
            assert!(names.contains(name), "no {name} in {names:?}");
        }
    }
    own.taken_by_browsers();
}

#[test]
fn every_shader_beside_a_step_translates_for_every_kind_of_device() {
    let net = Net::new(&Device::cpu());
    let (ema, last) = (Ema::new(&net.params, 0.9), LastN::new(&net.params, 3, 1));
    let mut optimizer = ScheduleFreeSgd::new(&net.params, ScheduleFreeSgdConfig::default());
    let (x, labels) = batch(net.params.device(), 37, 0);
    let loss = net.forward(&x).cross_entropy(&labels);
    let sgd = || Sgd::new(&net.params, SgdConfig::default());
    let mut sharp = [Sam::new(sgd(), 0.05), Sam::new(sgd(), 0.5).adaptive(0.01)];
    let texts = Texts::default();
    for capabilities in kinds() {
        let target = common::forcing(&capabilities, &[]);
        let mut plans = vec![ema.plan_with(&target), last.plan_with(&target), optimizer.plan_averaged(&target)];
        plans.extend(sharp.iter_mut().flat_map(|sam| sam.plans_with(&loss, &target).unwrap().map(Ok)));
        for dispatch in plans.into_iter().flat_map(|plan| plan.unwrap().dispatches) {
            texts.check(&dispatch, &capabilities).unwrap_or_else(|error| panic!("{error}"));
        }
    }
    let seen = texts.taken_by_browsers();
    assert!(seen.len() >= 6, "only {} texts", seen.len());
}

/// Parameters of one group or two, some of which were updated before: ranges of one class, and of several. And a state, which
/// each step assigns to.
struct Model {
    params: ParamStore,
    all: Vec<Param>,
    state: kiln::State,
}

impl Model {
    fn new(device: &Device, second: &str) -> Model {
        let params = ParamStore::new(device, 1);
        let other = params.root().group(second);
        let paths = [params.root(), params.root(), other.clone(), other];
        let param = |(i, path): (usize, &Path)| path.param(format!("p{i}"), &[[37, 64, 131, 5][i]], Init::Ones);
        let all = paths.iter().enumerate().map(param).collect();
        let state = params.root().state("steps", &device.zeros(&[1]));
        Model { params, all, state }
    }

    fn loss(&self, parameters: &[usize]) -> Tensor {
        self.state.assign(&(self.state.get() + 1.0));
        parameters.iter().map(|&i| self.all[i].tensor().square().sum_all()).reduce(|a, b| a + b).unwrap()
    }
}

/// What may be said of an optimizer besides its rules, as far as the kernels depend on it.
const OPTIONS: [fn(Optimizers) -> Optimizers; 6] = [
    |optimizer| optimizer,
    |optimizer| optimizer.clip_norm(1.0).clip_value(0.5).l1(0.1).l2(0.1).maximize(),
    |optimizer| optimizer.clip_value(0.5),
    |optimizer| optimizer.l1(0.1),
    |optimizer| optimizer.l2(0.1),
    |optimizer| optimizer.maximize(),
];

#[test]
fn every_shader_of_every_rule_translates_for_every_kind_of_device() {
    let cpu = Device::cpu();
    let texts = Texts::default();
    let mut names = HashSet::new();
    let mut translate = |what: &str, make: &dyn Fn(&ParamStore) -> Optimizers| {
        // An arena for all, whose norm one kernel takes; one a group; several.
        for (second, limit) in [("default", 1 << 20), ("other", 1 << 20), ("other", 192)] {
            let model = Model::new(&cpu, second);
            model.params.limit_arenas(limit);
            let mut optimizer = make(&model.params);
            // Before a step all histories are one.
            for (step, reached) in [&[1, 2][..], &[0, 1, 2, 3]].into_iter().enumerate() {
                let loss = &model.loss(reached);
                for kind in kinds() {
                    let plan = optimizer.plan_for(loss, true, &kind, true).unwrap();
                    for dispatch in plan.dispatches {
                        let (name, bound) = (dispatch.name(), dispatch.bindings.len());
                        texts.check(&dispatch, &kind).unwrap_or_else(|error| panic!("{what}: {error}"));
                        assert!(bound <= kind.storage_buffers, "{what}: {name} binds {bound} buffers");
                        names.insert(name);
                    }
                }
                if step == 0 {
                    optimizer.step(loss).unwrap();
                }
            }
        }
    };
    every_rule(|name, make| {
        // What options change is the same for all; each combination with one rule.
        let options = if name == RULES[0].0 { &OPTIONS[..] } else { &OPTIONS[..2] };
        for option in options {
            translate(name, &|params| option(make(params)));
        }
    });
    translate("NAdam beside LAMB", &|params: &ParamStore| {
        Optimizers::of(params).group("default", NAdamConfig::default()).rest(LambConfig::default())
    });
    translate("LARS beside NAdam", &|params: &ParamStore| {
        Optimizers::of(params).group("default", LarsConfig::default()).rest(NAdamConfig::default())
    });
    texts.taken_by_browsers();
    if std::env::var_os("KILN_CASE").is_some() {
        return;
    }
    for name in
        ["settle", "measure_sum", "lamb", "lamb.measure", "lars.eights", "nadam", "clip", "clip_status", "adan.eights"]
    {
        assert!(names.contains(name), "no {name} in {names:?}");
    }
}
