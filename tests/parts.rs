//! Checkpoints of several parts: what comes back, what is refused, and that a refused file changes nothing.

#[path = "common/alone.rs"]
mod alone;
mod common;
#[path = "common/model.rs"]
mod model;
#[path = "parts/own.rs"]
mod own;
#[path = "parts/weights.rs"]
mod weights;

use std::fs;
use std::path::Path;

use kiln::Draws;
use kiln::data::{self, Position};
use kiln::optim::OptimizerState;
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::train::checkpoint::{Checkpoint, Loading, Opened, Parts};
use serde_json::{Value, json};

use alone::Folder;
use model::{Model, adamw};

/// Two models that are trained against each other, and all else that a run has.
struct Run {
    generator: Model,
    critic: Model,
    adam: AdamW,
    sgd: Sgd,
    noise: Draws,
    position: Position,
    plateau: Value,
}

/// All that loading can change.
#[derive(Debug, PartialEq)]
struct Contents {
    weights: [Vec<u64>; 2],
    optimizers: [OptimizerState; 2],
    draws: [(u64, u64); 3],
    position: Position,
    plateau: Value,
}

impl Run {
    fn new(device: &Device, seed: u64) -> Run {
        let (generator, critic) = (Model::new(device, seed), Model::new(device, seed + 1));
        let adam = adamw(&generator);
        let sgd = Sgd::new(&critic.store, SgdConfig { lr: 0.02, momentum: 0.9, ..Default::default() });
        let (position, plateau) = (Position::default(), json!({ "best": seed as f64 }));
        Run { generator, critic, adam, sgd, noise: Draws::new(seed + 2), position, plateau }
    }

    /// A step of each model, whose loss depends on the other.
    fn step(&mut self, step: u64) {
        let noise = self.generator.store.device().ones(&[5]).dropout(0.5, &self.noise);
        let loss = self.generator.loss(step) * (self.critic.scale.tensor() * noise).detach().mean_all();
        self.adam.set_lr(self.adam.lr() * 0.9).unwrap();
        self.adam.step(&loss).unwrap();
        let loss = self.critic.loss(step + 100) * self.generator.scale.tensor().detach().mean_all();
        self.sgd.step(&loss).unwrap();
        self.position.batch += 1;
        self.plateau["best"] = json!(self.plateau["best"].as_f64().unwrap() / 3.0);
    }

    fn parts(&self) -> Parts<'_> {
        Checkpoint::parts()
            .store("generator", &self.generator.store)
            .store("critic", &self.critic.store)
            .optimizer("generator", &self.adam)
            .optimizer("critic", &self.sgd)
            .part("noise", &self.noise)
            .position("train", self.position)
            .value("plateau", self.plateau.clone())
    }

    fn ask<'a>(&'a mut self, file: &'a Opened) -> Loading<'a> {
        file.load()
            .store("generator", &self.generator.store)
            .store("critic", &self.critic.store)
            .optimizer("generator", &mut self.adam)
            .optimizer("critic", &mut self.sgd)
            .part("noise", &mut self.noise)
            .position("train", &mut self.position)
            .value("plateau", &mut self.plateau)
    }

    fn load(&mut self, path: &Path) -> Result<()> {
        let file = Checkpoint::open(path)?;
        self.ask(&file).finish()
    }

    fn contents(&self) -> Contents {
        let stores = [&self.generator.store, &self.critic.store];
        Contents {
            weights: [self.generator.bits(), self.critic.bits()],
            optimizers: [self.adam.state().unwrap(), self.sgd.state().unwrap()],
            draws: [stores[0].draws().position(), stores[1].draws().position(), self.noise.position()],
            position: self.position,
            plateau: self.plateau.clone(),
        }
    }
}

/// The error of a load, which must have changed nothing.
fn refused(run: &mut Run, load: impl FnOnce(&mut Run) -> Result<()>) -> Error {
    let before = run.contents();
    let error = load(run).unwrap_err();
    assert_eq!(run.contents(), before, "{error}");
    error
}

/// The error names all of `words`.
fn names(error: &Error, words: &[&str]) {
    assert!(matches!(error, Error::Checkpoint { .. }), "{error:?}");
    let text = error.to_string();
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} are not all in: {text}");
}

#[test]
fn a_run_of_two_models_and_two_optimizers_resumes_to_the_same_bits() {
    for (name, device) in [("cpu", Device::cpu()), ("gpu", common::gpu())] {
        let folder = Folder::new(name);
        let path = folder.join("run.safetensors");
        let mut whole = Run::new(&device, 1);
        let mut saved = None;
        for step in 0..8 {
            if step == 3 {
                whole.parts().save(&path).unwrap();
                saved = Some(whole.contents());
            }
            whole.step(step);
        }
        // Other seeds: everything must come from the file.
        let mut resumed = Run::new(&device, 7);
        resumed.load(&path).unwrap();
        assert_eq!(Some(resumed.contents()), saved, "on {name}");
        (3..8).for_each(|step| resumed.step(step));
        assert_eq!(resumed.contents(), whole.contents(), "on {name}");
    }
}

#[test]
fn parts_may_be_on_several_devices() {
    let folder = Folder::new("devices");
    let path = folder.join("run.safetensors");
    let [here, there] = [Device::cpu(), common::gpu()].map(|device| Model::new(&device, 3));
    Checkpoint::parts().store("here", &here.store).store("there", &there.store).save(&path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    for (name, dtype) in [("here", safetensors::Dtype::F64), ("there", safetensors::Dtype::F32)] {
        assert_eq!(file.tensor(&format!("store/{name}/fc.weight")).unwrap().dtype(), dtype);
    }
    // Each into the other's device.
    let [first, second] = [common::gpu(), Device::cpu()].map(|device| Model::new(&device, 4));
    let file = Checkpoint::open(&path).unwrap();
    file.load().store("here", &first.store).store("there", &second.store).finish().unwrap();
    assert_eq!((first.bits(), second.bits()), (here.bits(), there.bits()));
}

#[test]
fn a_part_that_is_missing_is_named() {
    let folder = Folder::new("missing");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut run = Run::new(&device, 1);
        run.step(0);
        Checkpoint::parts().store("generator", &run.generator.store).save(&path).unwrap();
        run.step(1);
        let error = refused(&mut run, |run| run.load(&path));
        names(&error, &["run.safetensors", "no store `critic`", "but store `generator`"]);
    }
}

#[test]
fn a_part_that_the_program_does_not_ask_for_is_named_unless_the_rest_may_be_left() {
    let folder = Folder::new("unknown");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut run = Run::new(&device, 1);
        run.step(0);
        run.parts().part("sampling", &Draws::new(4)).value("seed", 3).save(&path).unwrap();
        let saved = run.contents();
        run.step(1);
        let error = refused(&mut run, |run| run.load(&path));
        names(&error, &["draws `sampling`, value `seed`, which the program does not ask for", "rest_ignored"]);
        let file = Checkpoint::open(&path).unwrap();
        run.ask(&file).rest_ignored().finish().unwrap();
        assert_eq!(run.contents(), saved);
        // What is asked for must still be there.
        let error = file.load().store("actor", &run.critic.store).rest_ignored().finish().unwrap_err();
        names(&error, &["no store `actor`"]);
        assert_eq!(file.value("seed"), Some(&json!(3)));
        assert!(file.has("draws", "sampling") && !file.has("value", "sampling") && file.parts().count() == 9);
    }
}

#[test]
fn a_part_of_another_kind_is_refused_with_both_kinds() {
    let folder = Folder::new("kinds");
    let path = folder.join("run.safetensors");
    let mut run = Run::new(&Device::cpu(), 1);
    Checkpoint::parts().store("generator", &run.generator.store).value("train", 7).save(&path).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let error = refused(&mut run, |run| file.load().optimizer("generator", &mut run.adam).finish());
    names(&error, &["store `generator` was saved there, where optimizer `generator` is asked for"]);
    let error = refused(&mut run, |run| file.load().position("train", &mut run.position).rest_ignored().finish());
    names(&error, &["value `train` was saved there, where position `train` is asked for"]);
}

#[test]
fn a_part_that_is_asked_for_or_given_twice_is_refused() {
    let folder = Folder::new("twice");
    let path = folder.join("run.safetensors");
    let run = Run::new(&Device::cpu(), 1);
    let twice = run.parts().store("critic", &run.generator.store);
    names(&twice.save(&path).unwrap_err(), &["store `critic` is there twice"]);
    assert!(!path.exists());
    run.parts().save(&path).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let twice = file.load().store("critic", &run.critic.store).store("critic", &run.generator.store);
    names(&twice.finish().unwrap_err(), &["store `critic` is asked for twice"]);
}

/// The header of a file, and its data.
fn taken_apart(bytes: &[u8]) -> (Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn joined(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// A file whose parts are changed by `edit`.
fn with_parts(bytes: &[u8], edit: impl FnOnce(&mut Value)) -> Vec<u8> {
    let (mut header, data) = taken_apart(bytes);
    let mut parts: Value = serde_json::from_str(header["__metadata__"]["kiln"].as_str().unwrap()).unwrap();
    edit(&mut parts);
    header["__metadata__"]["kiln"] = json!(parts.to_string());
    joined(&header, &data)
}

/// A file with the last element of a tensor set to NaN.
fn with_nan(bytes: &[u8], name: &str) -> Vec<u8> {
    let (header, mut data) = taken_apart(bytes);
    let end = header[name]["data_offsets"][1].as_u64().unwrap() as usize;
    match header[name]["dtype"].as_str().unwrap() {
        "F64" => data[end - 8..end].copy_from_slice(&f64::NAN.to_le_bytes()),
        _ => data[end - 4..end].copy_from_slice(&f32::NAN.to_le_bytes()),
    }
    joined(&header, &data)
}

#[test]
fn a_part_that_fails_leaves_those_before_it_untouched() {
    let folder = Folder::new("untouched");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut run = Run::new(&device, 1);
        run.step(0);
        run.parts().save(&path).unwrap();
        let (good, saved) = (fs::read(&path).unwrap(), run.contents());
        run.step(1);
        let mut refuses = |bytes: &[u8], words: &[&str]| {
            fs::write(&path, bytes).unwrap();
            let error = refused(&mut run, |run| run.load(&path));
            names(&error, words);
        };
        // One of each kind; asked for last is the value, which takes any JSON.
        refuses(&with_nan(&good, "store/critic/scale"), &["store `critic`: `scale` is NaN at element 4"]);
        let moment = "momentum.fc.weight";
        refuses(
            &with_nan(&good, &format!("optimizer/critic/{moment}")),
            &["optimizer `critic`: `momentum.fc.weight` is NaN at element 34"],
        );
        let damaged = |key: &str, entry: &str, value: Value| {
            with_parts(&good, |parts| match entry {
                "" => parts["parts"][key] = value,
                entry => parts["parts"][key][entry] = value,
            })
        };
        refuses(&damaged("store/critic", "draws", json!([1])), &["store `critic`", "`draws`"]);
        refuses(&damaged("store/critic", "mood", json!(1)), &["store `critic`", "`mood`"]);
        refuses(&damaged("optimizer/critic", "lr", json!("-1")), &["optimizer `critic`", "lr is -1"]);
        refuses(&damaged("optimizer/critic", "rule", json!("adamw")), &["optimizer `critic`", "one of adamw"]);
        refuses(&damaged("draws/noise", "", json!([1, -2])), &["draws `noise`"]);
        refuses(&damaged("position/train", "", json!("here")), &["position `train`"]);
        fs::write(&path, &good).unwrap();
        run.load(&path).unwrap();
        assert_eq!(run.contents(), saved);
    }
}

#[test]
fn a_loader_is_a_part_and_refuses_a_position_that_it_has_not() {
    let folder = Folder::new("loader");
    let path = folder.join("run.safetensors");
    let digits = data::digits().train;
    let mut loader = digits.batches(64).shuffle(3);
    loader.by_ref().take(20).for_each(drop);
    Checkpoint::parts().part("train", &loader).save(&path).unwrap();
    let next = loader.next();
    let file = Checkpoint::open(&path).unwrap();
    let mut resumed = digits.batches(64).shuffle(3);
    file.load().part("train", &mut resumed).finish().unwrap();
    assert_eq!(resumed.next(), next);
    let model = Model::new(&Device::cpu(), 1);
    let before = model.bits();
    let mut other = digits.batches(128).shuffle(3);
    let file = Checkpoint::parts().part("train", &loader).store("model", &Model::new(&Device::cpu(), 2).store);
    file.save(&path).unwrap();
    let file = Checkpoint::open(&path).unwrap();
    let error = file.load().store("model", &model.store).part("train", &mut other).finish().unwrap_err();
    names(&error, &["position `train`: batch 21 of an epoch that has 12"]);
    assert_eq!((model.bits(), other.position()), (before, Position::default()));
    // Position and loader are of one kind.
    let mut position = Position::default();
    file.load().position("train", &mut position).rest_ignored().finish().unwrap();
    assert_eq!(position, Position { epoch: 0, batch: 21 });
}

#[test]
fn numbers_of_a_value_come_back_to_the_bit() {
    let folder = Folder::new("bits");
    let path = folder.join("run.safetensors");
    let mut rng = Philox::new(5, 0);
    let mut word = || f64::from_bits(u64::from(rng.next_u32()) << 32 | u64::from(rng.next_u32()));
    let drawn = std::iter::from_fn(|| Some(word())).filter(|x| x.is_finite()).take(3000);
    let numbers: Vec<f64> = [0.1 + 0.2, -0.0, 5e-324, f64::MAX, f64::MIN_POSITIVE].into_iter().chain(drawn).collect();
    let mut value = Value::Null;
    Checkpoint::parts().value("numbers", numbers.clone()).save(&path).unwrap();
    Checkpoint::open(&path).unwrap().load().value("numbers", &mut value).finish().unwrap();
    for (found, saved) in value.as_array().unwrap().iter().zip(&numbers) {
        assert_eq!(found.as_f64().unwrap().to_bits(), saved.to_bits(), "{saved:e}");
    }
    assert_eq!(value.as_array().unwrap().len(), numbers.len());
}

#[test]
fn the_only_store_keeps_plain_names_and_several_have_prefixes() {
    let folder = Folder::new("names");
    let path = folder.join("run.safetensors");
    let mut run = Run::new(&Device::cpu(), 1);
    run.step(0);
    let tensors = || {
        let (header, _) = taken_apart(&fs::read(&path).unwrap());
        header.as_object().unwrap().keys().filter(|name| *name != "__metadata__").cloned().collect::<Vec<_>>()
    };
    let alone = || Checkpoint::parts().store("critic", &run.critic.store).optimizer("critic", &run.sgd);
    alone().save(&path).unwrap();
    let moments = ["optimizer/critic/momentum.fc.weight", "optimizer/critic/momentum.scale"];
    assert_eq!(tensors(), ["fc.weight", moments[0], moments[1], "scale"]);
    let other = Model::new(&Device::cpu(), 5);
    other.store.load(&path).unwrap();
    assert_eq!(other.bits(), run.critic.bits());
    alone().store("generator", &run.generator.store).save(&path).unwrap();
    let stores =
        ["critic", "generator"].map(|store| ["fc.weight", "scale"].map(|name| format!("store/{store}/{name}")));
    assert_eq!(tensors(), [moments.map(String::from), stores[0].clone(), stores[1].clone()].concat());
    names(&other.store.load(&path).unwrap_err(), &["store `critic`, store `generator`", "Checkpoint::open"]);
    Checkpoint::parts().value("only", 1).save(&path).unwrap();
    names(&other.store.load(&path).unwrap_err(), &["not one store but nothing"]);
}

#[test]
fn names_that_would_be_mistaken_for_others_are_refused() {
    let folder = Folder::new("mistaken");
    let path = folder.join("run.safetensors");
    let model = Model::new(&Device::cpu(), 1);
    for name in ["", "a/b", "/"] {
        names(&Checkpoint::parts().value(name, 1).save(&path).unwrap_err(), &[&format!("`{name}`"), "without `/`"]);
    }
    model.store.root().param("optimizer/model/m.scale", &[5], Init::Ones);
    let adam = adamw(&model);
    let error = Checkpoint::save(&path, &model.store, Some(&adam), None).unwrap_err();
    names(&error, &["parameter name `optimizer/model/m.scale` is taken for optimizer `model`"]);
    assert!(!path.exists());
    // Nobody is there to mistake it for, or it has a prefix of its own.
    Checkpoint::save(&path, &model.store, None, None).unwrap();
    Checkpoint::load(&path, &model.store, None).unwrap();
    let other = Model::new(&Device::cpu(), 1);
    let parts = Checkpoint::parts().store("model", &model.store).store("other", &other.store);
    parts.optimizer("model", &adam).save(&path).unwrap();
    let (mut again, file) = (adamw(&model), Checkpoint::open(&path).unwrap());
    let load = file.load().store("model", &model.store).store("other", &other.store);
    load.optimizer("model", &mut again).finish().unwrap();
}

#[test]
fn threads_that_save_the_same_stores_in_another_order_do_not_wait_for_each_other() {
    let folder = Folder::new("order");
    let models = [1, 2].map(|seed| Model::new(&Device::cpu(), seed));
    let (done, ended) = std::sync::mpsc::channel();
    std::thread::scope(|scope| {
        for (number, names) in [[0, 1], [1, 0]].into_iter().enumerate() {
            let (models, done) = (&models, done.clone());
            let path = folder.join(&format!("{number}.safetensors"));
            scope.spawn(move || {
                for _ in 0..50 {
                    let [first, second] = names.map(|name: usize| &models[name].store);
                    let named = |name: usize| ["a", "b"][name];
                    let parts = Checkpoint::parts().store(named(names[0]), first).store(named(names[1]), second);
                    parts.save(&path).unwrap();
                    let file = Checkpoint::open(&path).unwrap();
                    file.load().store(named(names[0]), first).store(named(names[1]), second).finish().unwrap();
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..2 {
            let waited = ended.recv_timeout(std::time::Duration::from_secs(120));
            // A scope would wait for ever.
            if waited.is_err() {
                eprintln!("two threads wait for each other");
                std::process::abort();
            }
        }
    });
}
