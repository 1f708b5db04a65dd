//! Files that are not what they should be: refused whole, saying why, and a good one loads afterwards.

#[path = "common/alone.rs"]
mod alone;
mod common;
#[path = "common/model.rs"]
mod model;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kiln::data::Position;
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::train::checkpoint::Checkpoint;

use alone::{Folder, inside, pass_alone};
use model::{Model, adamw};

/// A fresh directory for one test.
fn folder(test: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("kiln-damaged-{}-{number}-{test}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

/// Loads `bytes` into a model, which must refuse them and stay as it was.
fn refused(test: &str, bytes: &[u8]) -> Error {
    let path = folder(test).join("bad.safetensors");
    fs::write(&path, bytes).unwrap();
    let model = Model::new(&Device::cpu(), 1);
    let before = (model.bits(), model.store.draws().position());
    let mut optimizer = adamw(&model);
    let error = Checkpoint::load(&path, &model.store, Some(&mut optimizer)).unwrap_err();
    assert!(error.to_string().contains("bad.safetensors"), "{error}");
    model.store.load(&path).unwrap_err();
    assert_eq!((model.bits(), model.store.draws().position()), before);
    assert_eq!(optimizer.steps(), 0);
    error
}

fn good() -> Vec<u8> {
    let path = folder("good").join("good.safetensors");
    let model = Model::new(&Device::cpu(), 3);
    let mut optimizer = adamw(&model);
    optimizer.step(&model.loss(0)).unwrap();
    Checkpoint::save(&path, &model.store, Some(&optimizer), None).unwrap();
    fs::read(path).unwrap()
}

/// `bytes` with `from` in the header replaced by `to`, and the header's length put right.
fn edited(bytes: &[u8], from: &str, to: &str) -> Vec<u8> {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[8..8 + length]).unwrap();
    assert!(header.contains(from), "{header}");
    let header = header.replace(from, to);
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), &bytes[8 + length..]].concat()
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let bytes = good();
    for length in [0, 4, 8, 9, 100, bytes.len() / 2, bytes.len() - 1] {
        let error = refused("cut", &bytes[..length]);
        assert!(matches!(error, Error::File { .. }), "{length}: {error}");
    }
}

#[test]
fn an_absurd_header_length_is_refused_before_memory_is_asked_for() {
    for length in [u64::MAX, 1 << 60, 99_999_999] {
        let mut bytes = good();
        bytes[..8].copy_from_slice(&length.to_le_bytes());
        let error = refused("length", &bytes);
        assert!(matches!(error, Error::File { offset: 0, .. }), "{error}");
    }
}

#[test]
fn a_header_that_is_not_one_is_refused() {
    let mut bytes = good();
    bytes[8..30].fill(b'x');
    assert!(matches!(refused("json", &bytes), Error::File { offset: 8, .. }));
    let list = [&2u64.to_le_bytes()[..], b"[]"].concat();
    assert!(matches!(refused("list", &list), Error::File { .. }));
    for (from, to) in [
        ("[5,7]", "[18446744073709551615,7]"),
        ("[5,7]", "[5,8]"),
        ("[5,7]", "[5,-7]"),
        ("\"data_offsets\"", "\"data_offset\""),
        ("\"shape\"", "\"form\""),
    ] {
        assert!(matches!(refused("fields", &edited(&good(), from, to)), Error::File { .. }), "{from} {to}");
    }
}

#[test]
fn names_shapes_and_contents_must_be_the_model_s() {
    for (from, to) in [
        ("\"fc.weight\"", "\"fc.weighs\""),
        ("[5,7]", "[7,5]"),
        ("\"scale\":{\"dtype\":\"F64\"", "\"scale\":{\"dtype\":\"I64\""),
    ] {
        let error = refused("model", &edited(&good(), from, to));
        assert!(matches!(error, Error::Checkpoint { .. }), "{from}: {error}");
    }
    // Whole as weights, not as a checkpoint: its optimizer's state or its metadata is not right.
    for (from, to) in [
        ("optimizer/model/m.scale", "optimizer/model/x.scale"),
        ("adamw", "other"),
        ("version\\\":2", "version\\\":9"),
        ("steps\\\":1", "steps\\\":18446744073709551615"),
        ("fc.weight\\\",1", "fc.weight\\\",18446744073709551615"),
        ("loss_scale\\\":null", "loss_scale\\\":[\\\"NaN\\\",0]"),
        ("loss_scale\\\":null", "loss_scale\\\":[\\\"0\\\",0]"),
    ] {
        let path = folder("state").join("bad.safetensors");
        fs::write(&path, edited(&good(), from, to)).unwrap();
        let model = Model::new(&Device::cpu(), 1);
        let before = model.bits();
        let error = Checkpoint::load(&path, &model.store, Some(&mut adamw(&model))).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. }), "{from}: {error}");
        assert_eq!(model.bits(), before);
    }
}

/// The header of a file, as text, and its data.
fn parts(bytes: &[u8]) -> (serde_json::Value, Vec<u8>) {
    let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + length]).unwrap(), bytes[8 + length..].to_vec())
}

fn joined(header: &str, data: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The file with element `at` of a tensor set to `value`.
fn with_element(bytes: &[u8], name: &str, at: usize, value: f64) -> Vec<u8> {
    let (header, mut data) = parts(bytes);
    let start = header[name]["data_offsets"][0].as_u64().unwrap() as usize + 8 * at;
    data[start..start + 8].copy_from_slice(&value.to_le_bytes());
    joined(&header.to_string(), &data)
}

/// The error of a file that [`Checkpoint::load`] must refuse, on both devices and whole; a good file loads afterwards.
fn refused_whole(bytes: &[u8], why: &str) {
    let folder = folder("whole");
    for device in [Device::cpu(), common::gpu()] {
        let model = Model::new(&device, 1);
        let mut optimizer = adamw(&model);
        optimizer.step(&model.loss(3)).unwrap();
        let everything = |model: &Model, optimizer: &AdamW| {
            (model.bits(), model.store.draws().position(), optimizer.state().unwrap())
        };
        let before = everything(&model, &optimizer);
        let path = folder.join("bad.safetensors");
        fs::write(&path, bytes).unwrap();
        let error = Checkpoint::load(&path, &model.store, Some(&mut optimizer)).unwrap_err();
        assert!(matches!(error, Error::Checkpoint { .. } | Error::File { .. }), "{error}");
        assert!(error.to_string().contains("bad.safetensors") && error.to_string().contains(why), "{why}: {error}");
        assert_eq!(everything(&model, &optimizer), before, "{why}");
        fs::write(&path, good()).unwrap();
        Checkpoint::load(&path, &model.store, Some(&mut optimizer)).unwrap();
        optimizer.step(&model.loss(4)).unwrap();
        model.store.device().synchronize().unwrap();
    }
}

#[test]
fn numbers_that_no_run_leaves_are_refused_by_name() {
    let good = good();
    for (name, value) in
        [("fc.weight", f64::NAN), ("scale", f64::INFINITY), ("optimizer/model/m.scale", f64::NEG_INFINITY)]
    {
        let bare = name.trim_start_matches("optimizer/model/");
        refused_whole(&with_element(&good, name, 3, value), &format!("`{bare}` is {value} at element 3"));
    }
    refused_whole(
        &with_element(&good, "optimizer/model/v.fc.weight", 31, -1e-9),
        "`v.fc.weight` is -0.000000001 at element 31",
    );
    for lr in ["NaN", "inf", "-inf", "-0.1"] {
        refused_whole(&edited(&good, "lr\\\":\\\"0.013", &format!("lr\\\":\\\"{lr}")), &format!("lr is {lr}"));
    }
    // A momentum may be negative, and so may a weight.
    let path = folder("negative").join("run.safetensors");
    fs::write(&path, with_element(&with_element(&good, "optimizer/model/m.scale", 1, -2.0), "scale", 1, -3.0)).unwrap();
    let model = Model::new(&Device::cpu(), 1);
    Checkpoint::load(&path, &model.store, Some(&mut adamw(&model))).unwrap();
    assert_eq!(model.scale.values().unwrap()[1], -3.0);
    // 1e39 is a number for the reference, and none for a GPU.
    fs::write(&path, with_element(&good, "scale", 1, 1e39)).unwrap();
    model.store.load(&path).unwrap();
    let error = Model::new(&common::gpu(), 1).store.load(&path).unwrap_err();
    assert!(error.to_string().contains("`scale` is 1000000000000000000000000000000000000000 at element 1"), "{error}");
}

#[test]
fn files_whose_parts_do_not_fit_together_are_refused() {
    let good = good();
    let (header, data) = parts(&good);
    let text = header.to_string();
    let entry = |name: &str| format!("\"{name}\":{}", header[name]);
    // Twice the same name, at the same bytes.
    let twice = text.replacen('{', &format!("{{{},", entry("scale")), 1);
    refused_whole(&joined(&twice, &data), "`scale` is there twice");
    let twice = text.replacen("\"dtype\"", "\"dtype\":\"F64\",\"dtype\"", 1);
    refused_whole(&joined(&twice, &data), "`dtype` is there twice");
    refused_whole(&edited(&good, "\\\"steps\\\":1", "\\\"steps\\\":1,\\\"steps\\\":1"), "`steps` is there twice");
    // Bytes that belong to no tensor: behind the last, between two, in the place of one that another claims.
    let long = [&data[..], &[0; 3]].concat();
    refused_whole(&joined(&text, &long), "3 bytes follow the last tensor");
    let place = |name: &str| header[name]["data_offsets"][0].as_u64().unwrap() as usize;
    let names = header.as_object().unwrap().keys().filter(|name| *name != "__metadata__");
    let last = names.max_by_key(|name| place(name)).unwrap();
    let mut holed = header.clone();
    for byte in holed[last]["data_offsets"].as_array_mut().unwrap() {
        *byte = (byte.as_u64().unwrap() + 8).into();
    }
    let moved = [&data[..place(last)], &[0; 8], &data[place(last)..]].concat();
    refused_whole(&joined(&holed.to_string(), &moved), "of the data");
    let m = header["optimizer/model/m.scale"]["data_offsets"].to_string();
    let v = header["optimizer/model/v.scale"]["data_offsets"].to_string();
    refused_whole(&joined(&text.replace(&m, &v), &data), "begins at byte");
    // Unknown parts.
    let from = "\\\"version\\\":2";
    let to = format!("\\\"schedule\\\":7,{from}");
    refused_whole(&edited(&good, from, &to), "`schedule`");
    let from = "\\\"parts\\\":{";
    refused_whole(&edited(&good, from, &format!("{from}\\\"value/schedule\\\":7,")), "value `schedule`, which");
    refused_whole(&edited(&good, from, &format!("{from}\\\"value/a/b\\\":7,")), "`value/a/b`");
    refused_whole(&edited(&good, from, &format!("{from}\\\"schedule\\\":7,")), "`schedule`");
    let twice = format!("{from}\\\"store/model\\\":7,");
    refused_whole(&edited(&good, from, &twice), "`store/model` is there twice");
    refused_whole(&edited(&good, "\\\"rule", "\\\"mood\\\":1,\\\"rule"), "`mood`");
    refused_whole(&edited(&good, "\\\"draws\\\":[", "\\\"draws\\\":[[1],"), "`draws`");
    refused_whole(
        &edited(&good, "\\\"updates\\\":[[\\\"fc.weight\\\",1],", "\\\"updates\\\":["),
        "`m.fc.weight`, but no updates",
    );
    let (from, to) = ("[\\\"scale\\\",1]", "[\\\"scale\\\",1],[\\\"scale\\\",1]");
    refused_whole(&edited(&good, from, to), "updates of `scale` are there twice");
    refused_whole(&edited(&good, "\"dtype\":\"F64\"", "\"dtype\":\"F65\""), "`F65`");
}

#[test]
fn tensors_that_the_optimizer_does_not_keep_are_refused() {
    let path = folder("momentum").join("run.safetensors");
    let model = Model::new(&Device::cpu(), 1);
    let mut sgd = Sgd::new(&model.store, SgdConfig { momentum: 0.9, ..Default::default() });
    sgd.step(&model.loss(0)).unwrap();
    Checkpoint::save(&path, &model.store, Some(&sgd), None).unwrap();
    let mut plain = Sgd::new(&model.store, SgdConfig::default());
    let error = Checkpoint::load(&path, &model.store, Some(&mut plain)).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains("`momentum.fc.weight`"), "{error}");
}

/// One of a few small damages, drawn from `rng`.
fn damage(bytes: &mut Vec<u8>, rng: &mut Philox) {
    let header = bytes.first_chunk::<8>().map_or(0, |length| u64::from_le_bytes(*length) as usize).min(bytes.len());
    for _ in 0..=rng.below(3) {
        // Mostly in the header: that is where the structure is.
        let end = if rng.below(4) > 0 { (header + 8).min(bytes.len()) } else { bytes.len() };
        let at = rng.below(end.max(1) as u32) as usize;
        match rng.below(6) {
            0 | 1 if at < bytes.len() => bytes[at] ^= 1 << rng.below(8),
            2 => bytes.insert(at.min(bytes.len()), rng.below(256) as u8),
            3 if at < bytes.len() => drop(bytes.remove(at)),
            4 if at < bytes.len() => bytes[at] = b"0123456789-{}[]\",:\\n"[rng.below(20) as usize],
            _ => {
                let to = (at + rng.below(16) as usize).min(bytes.len());
                let copy = bytes[at.min(to)..to].to_vec();
                bytes.splice(at.min(to)..at.min(to), copy);
            }
        }
    }
}

#[test]
fn damaged_checkpoints_load_whole_or_are_refused_whole() {
    let folder = Folder::new("damaged");
    let path = folder.join("run.safetensors");
    let device = Device::cpu();
    let build = || {
        let store = ParamStore::new(&device, 1);
        let root = store.root();
        let weights = [root.param("a", &[3], Init::Ones), root.param("b", &[2, 2], Init::FAN_IN_UNIFORM)];
        let state = root.state("count", &device.tensor(&[16_777_217i32, -1], &[2]));
        let optimizer = AdamW::new(&store, AdamWConfig::default());
        (store, weights, state, optimizer)
    };
    let (store, weights, state, mut optimizer) = build();
    optimizer.step(&(weights[0].tensor().sum_all() + weights[1].tensor().square().sum_all())).unwrap();
    Checkpoint::save(&path, &store, Some(&optimizer), None).unwrap();
    let good = fs::read(&path).unwrap();
    let everything = |(store, weights, state, optimizer): &(ParamStore, [Param; 2], kiln::State, AdamW)| {
        let weights = weights.each_ref().map(|weight| weight.values().unwrap());
        let state = (state.get().to_vec::<i32>().unwrap(), store.draws().position());
        (weights, state, optimizer.state().unwrap())
    };
    let saved = everything(&(store, weights, state, optimizer));
    let mut rng = Philox::new(24, 0);
    let (mut loaded, mut refused) = (0, 0);
    let mut model = build();
    for number in 0..4000 {
        let mut bytes = good.clone();
        damage(&mut bytes, &mut rng);
        // A file that is cut and written anew is brought to the disk by some file systems, one that is made is not.
        fs::remove_file(&path).unwrap();
        fs::write(&path, &bytes).unwrap();
        let before = everything(&model);
        match Checkpoint::load(&path, &model.0, Some(&mut model.3)) {
            Ok(_) => {
                loaded += 1;
                let (weights, _, optimizer) = everything(&model);
                let moments = optimizer.tensors.iter().flat_map(|(.., values)| values);
                let all = weights.iter().flatten().chain(moments);
                assert!(all.clone().all(|value| value.is_finite()), "file {number}");
                assert!(optimizer.lr.is_finite() && optimizer.lr >= 0.0, "file {number}");
            }
            Err(error) => {
                refused += 1;
                assert!(error.to_string().contains("run.safetensors"), "{error}");
                assert_eq!(everything(&model), before, "file {number}: {error}");
            }
        }
        if number % 100 == 0 {
            fs::write(&path, &good).unwrap();
            Checkpoint::load(&path, &model.0, Some(&mut model.3)).unwrap();
            assert_eq!(everything(&model), saved);
        }
    }
    assert!(loaded > 30 && refused > 1000, "{loaded} loaded, {refused} refused");
}

/// A model whose steps can be refused, its optimizer, and all that a load changes.
struct Single {
    store: ParamStore,
    weight: Param,
    optimizer: AdamW,
}

impl Single {
    fn new(device: &Device) -> Single {
        let store = ParamStore::new(device, 1);
        let weight = store.root().param("weight", &[1, 37], Init::FAN_IN_UNIFORM);
        let optimizer = AdamW::new(&store, AdamWConfig { lr: 0.013, ..Default::default() });
        Single { store, weight, optimizer }
    }

    /// A step, refused if `factor` is not a number.
    fn step(&mut self, factor: f64) {
        let loss = self.weight.tensor().square().sum_all() * factor;
        self.optimizer.step(&loss).unwrap();
    }

    fn everything(&self) -> (Vec<f64>, kiln::optim::OptimizerState, (u64, u64)) {
        (self.weight.values().unwrap(), self.optimizer.state().unwrap(), self.store.draws().position())
    }
}

/// In processes of their own, for a device may tell others of a step that was refused.
#[test]
fn a_good_file_loads_whatever_went_wrong_before() {
    let Some(folder) = inside() else {
        return pass_alone("a_good_file_loads_whatever_went_wrong_before", &Folder::new("good-after-bad").0);
    };
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut model = Single::new(&device);
        model.step(1.0);
        Checkpoint::save(&path, &model.store, Some(&model.optimizer), None).unwrap();
        let saved = model.everything();
        // Another learning rate.
        model.optimizer.set_lr(0.75).unwrap();
        Checkpoint::load(&path, &model.store, Some(&mut model.optimizer)).unwrap();
        assert_eq!(model.everything(), saved);
        // A step that was refused and that nobody has been told of, and tensors that nobody has read.
        let doubled: Vec<f32> = saved.0.iter().map(|&x| x as f32 * 2.0).collect();
        let before = model.weight.tensor() * 2.0;
        model.step(f64::NAN);
        let after = model.weight.tensor() * 2.0;
        Checkpoint::load(&path, &model.store, Some(&mut model.optimizer)).unwrap();
        assert_eq!(model.everything(), saved);
        for held in [before, after] {
            assert_eq!(held.to_vec::<f32>().unwrap(), doubled);
        }
        // Weights alone load too, and the step is told of afterwards.
        model.step(f64::NAN);
        let held = model.weight.tensor() * 2.0;
        model.store.load(&path).unwrap();
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { .. })));
        assert_eq!(model.weight.values().unwrap(), saved.0);
        assert_eq!(held.to_vec::<f32>().unwrap(), doubled);
        Checkpoint::load(&path, &model.store, Some(&mut model.optimizer)).unwrap();
        model.step(1.0);
        device.synchronize().unwrap();
        assert_eq!(model.optimizer.steps(), 2);
    }
}

#[test]
fn a_bad_file_changes_nothing_while_a_refused_step_is_pending() {
    let Some(folder) = inside() else {
        return pass_alone("a_bad_file_changes_nothing_while_a_refused_step_is_pending", &Folder::new("pending").0);
    };
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut model = Single::new(&device);
        model.step(1.0);
        Checkpoint::save(&path, &model.store, Some(&model.optimizer), None).unwrap();
        // The last numbers of a file are those of the last moment.
        let mut bytes = fs::read(&path).unwrap();
        let end = bytes.len();
        bytes[end - 4..].copy_from_slice(&f32::NAN.to_le_bytes());
        if device.is_cpu() {
            bytes[end - 8..].copy_from_slice(&f64::NAN.to_le_bytes());
        }
        fs::write(&path, bytes).unwrap();
        model.step(1.0);
        let before = model.everything();
        model.step(f64::NAN);
        let error = Checkpoint::load(&path, &model.store, Some(&mut model.optimizer)).unwrap_err();
        assert!(
            matches!(error, Error::Checkpoint { .. }) && error.to_string().contains("`v.weight` is NaN"),
            "{error}"
        );
        // The step is reported as if nothing had been loaded.
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 3, .. })));
        assert_eq!(model.weight.values().unwrap(), before.0);
        assert_eq!(model.optimizer.state().unwrap().tensors, before.1.tensors);
    }
}

#[test]
fn a_bad_part_behind_a_good_optimizer_leaves_a_refused_step_pending() {
    let Some(folder) = inside() else {
        let folder = Folder::new("behind");
        return pass_alone("a_bad_part_behind_a_good_optimizer_leaves_a_refused_step_pending", &folder.0);
    };
    let path = folder.join("run.safetensors");
    let digits = kiln::data::digits().train;
    for device in [Device::cpu(), common::gpu()] {
        let mut model = Single::new(&device);
        model.step(1.0);
        let parts = Checkpoint::parts().store("model", &model.store).optimizer("model", &model.optimizer);
        parts.position("train", Position { epoch: 0, batch: 99 }).save(&path).unwrap();
        model.step(1.0);
        let before = model.everything();
        model.step(f64::NAN);
        let (mut loader, file) = (digits.batches(64), Checkpoint::open(&path).unwrap());
        let load = file.load().store("model", &model.store).optimizer("model", &mut model.optimizer);
        let error = load.part("train", &mut loader).finish().unwrap_err();
        assert!(error.to_string().contains("batch 99 of an epoch that has 23"), "{error}");
        assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 3, .. })));
        assert_eq!(model.everything(), before);
    }
}
