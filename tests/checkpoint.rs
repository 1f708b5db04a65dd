//! Saving and resuming: what comes back, and what a save that fails leaves.

mod common;
#[path = "common/model.rs"]
mod model;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use kiln::data::Position;
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;
use serde_json::json;

use model::{Model, adamw};

/// A fresh directory for one test.
fn folder(test: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("kiln-checkpoint-{}-{number}-{test}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn a_resumed_run_ends_in_the_same_bits() {
    for (name, device) in [("cpu", Device::cpu()), ("gpu", common::gpu())] {
        let path = folder(&format!("resume-{name}")).join("run.safetensors");
        let model = Model::new(&device, 1);
        let mut optimizer = adamw(&model);
        let mut saved = vec![];
        for step in 0..8 {
            if step == 3 {
                let position = Some(Position { epoch: 1, batch: 2 });
                Checkpoint::save(&path, &model.store, Some(&optimizer), position).unwrap();
                saved = model.bits();
            }
            optimizer.set_lr(optimizer.lr() * 0.9).unwrap();
            optimizer.step(&model.loss(step)).unwrap();
        }
        // Another seed: everything must come from the file.
        let resumed = Model::new(&device, 2);
        let mut again = adamw(&resumed);
        let checkpoint = Checkpoint::load(&path, &resumed.store, Some(&mut again)).unwrap();
        assert_eq!(checkpoint.position, Some(Position { epoch: 1, batch: 2 }));
        assert_eq!((checkpoint.steps, again.steps()), (3, 3));
        assert_eq!(resumed.bits(), saved);
        for step in 3..8 {
            again.set_lr(again.lr() * 0.9).unwrap();
            again.step(&resumed.loss(step)).unwrap();
        }
        assert_eq!(resumed.bits(), model.bits(), "on {name}");
    }
}

#[test]
fn weights_go_round_and_a_checkpoint_serves_as_weights() {
    let folder = folder("weights");
    let model = Model::new(&common::gpu(), 1);
    model.store.save(folder.join("weights.safetensors")).unwrap();
    let mut metadata = serde_json::Map::new();
    metadata.insert("note".into(), "third try".into());
    let mut sgd = Sgd::new(&model.store, SgdConfig { momentum: 0.9, ..Default::default() });
    let before = model.bits();
    let held = model.scale.tensor() * 2.0;
    for device in [Device::cpu(), common::gpu()] {
        let other = Model::new(&device, 5);
        other.store.load(folder.join("weights.safetensors")).unwrap();
        assert_eq!(other.bits(), before);
    }
    sgd.step(&model.loss(0)).unwrap();
    Checkpoint::save_with(folder.join("run.safetensors"), &model.store, Some(&sgd), None, metadata).unwrap();
    let after = model.bits();
    model.store.load(folder.join("weights.safetensors")).unwrap();
    assert_eq!(model.bits(), before);
    model.store.load(folder.join("run.safetensors")).unwrap();
    assert_eq!(model.bits(), after);
    let loaded = Checkpoint::load(folder.join("run.safetensors"), &model.store, None).unwrap();
    assert_eq!(loaded.metadata["note"], "third try");
    assert_eq!(held.to_vec::<f32>().unwrap(), [2.0; 5]);
    // Another library reads it.
    let bytes = fs::read(folder.join("weights.safetensors")).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("fc.weight").unwrap().shape(), [5, 7]);
    assert_eq!(file.tensor("scale").unwrap().dtype(), safetensors::Dtype::F32);
}

#[test]
fn a_save_that_fails_leaves_the_old_file() {
    for device in [Device::cpu(), common::gpu()] {
        let folder = folder("fails");
        let path = folder.join("run.safetensors");
        let model = Model::new(&device, 1);
        let mut optimizer = adamw(&model);
        Checkpoint::save(&path, &model.store, Some(&optimizer), None).unwrap();
        let before = fs::read(&path).unwrap();
        let save = |model: &Model, optimizer: &AdamW, name: &str| {
            let saved = Checkpoint::save(&path, &model.store, Some(optimizer), None);
            let error = saved.unwrap_err();
            assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains(name), "{error}");
            assert_eq!(fs::read(&path).unwrap(), before);
            assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        };
        // What could not be loaded again is not saved, though it is found only while the file is written.
        model.scale.set(&[1.0, 2.0, f64::INFINITY, 4.0, 5.0]).unwrap();
        save(&model, &optimizer, "`scale` is inf at element 2");
        model.scale.set(&[1.0; 5]).unwrap();
        // A rate that could not be loaded cannot be set.
        assert!(matches!(optimizer.set_lr(f64::NAN), Err(Error::Value { op: "set_lr", .. })));
        assert!(optimizer.set_lr(-0.1).is_err());
        optimizer.set_lr(0.1).unwrap();
        let state = model.store.root().state("least", &device.tensor(&[f32::INFINITY, 1.0], &[2]));
        state.assign(&device.tensor(&[1.0, f32::NAN], &[2]));
        save(&model, &optimizer, "`least` is NaN at element 1");
        state.assign(&device.tensor(&[f32::INFINITY, 1.0], &[2]));
        Checkpoint::save(&path, &model.store, Some(&optimizer), None).unwrap();
        Checkpoint::load(&path, &model.store, Some(&mut optimizer)).unwrap();
        assert_eq!(state.get().to_vec::<f32>().unwrap(), [f32::INFINITY, 1.0]);
    }
}

#[test]
fn a_save_that_could_not_be_loaded_is_refused() {
    let path = folder("unloadable").join("run.safetensors");
    let model = Model::new(&Device::cpu(), 1);
    let mut nested = serde_json::Value::Null;
    for _ in 0..200 {
        nested = serde_json::Value::Array(vec![nested]);
    }
    let metadata = serde_json::Map::from_iter([("nested".to_string(), nested)]);
    assert!(matches!(Checkpoint::save_with(&path, &model.store, None, None, metadata), Err(Error::Checkpoint { .. })));
    model.store.root().param("__metadata__", &[1], Init::Ones);
    let error = model.store.save(&path).unwrap_err();
    assert!(matches!(error, Error::Checkpoint { .. }) && error.to_string().contains("__metadata__"), "{error}");
    assert!(!path.exists());
}

#[test]
fn each_state_keeps_its_dtype_and_every_bit() {
    let path = folder("dtypes").join("run.safetensors");
    let build = |device: &Device, first: bool| {
        let store = ParamStore::new(device, 1);
        store.root().param("weight", &[3], Init::Ones);
        let pick = |value: i64| if first { value } else { 0 };
        let halves = [1.0 / 3.0, 65504.0, -6e-8].map(|x| half::f16::from_f64(if first { x } else { 0.0 }));
        let counts = [16_777_217, i64::from(i32::MIN), -1].map(|x| pick(x) as i32);
        let words = [16_777_217, i64::from(u32::MAX)].map(|x| pick(x) as u32);
        let flags = [true, false, true, true, false].map(|x| x && first);
        let floats = [0.1f32, f32::MIN_POSITIVE, 1e38].map(|x| if first { x } else { 0.0 });
        let states = [
            device.tensor(&counts, &[3, 1]),
            device.tensor(&words, &[2]),
            device.tensor(&halves, &[3]),
            device.tensor(&flags, &[5]),
            device.tensor(&floats, &[3]),
        ];
        let names = ["counts", "words", "halves", "flags", "floats"];
        let states: Vec<kiln::State> =
            names.iter().zip(&states).map(|(name, value)| store.root().state(name, value)).collect();
        // As a step leaves it: computed, not uploaded.
        states[0].assign(&(states[0].get() + if first { 1 } else { 0 }));
        (store, states)
    };
    let all = |states: &[kiln::State]| {
        (
            states[0].get().to_vec::<i32>().unwrap(),
            states[1].get().to_vec::<u32>().unwrap(),
            states[2].get().to_vec::<half::f16>().unwrap(),
            states[3].get().to_vec::<bool>().unwrap(),
            states[4].get().to_vec::<f32>().unwrap(),
        )
    };
    for from in [Device::cpu(), common::gpu()] {
        let (store, states) = build(&from, true);
        let want = all(&states);
        assert_eq!(want.0, [16_777_218, i32::MIN + 1, 0]);
        Checkpoint::save(&path, &store, None, None).unwrap();
        let bytes = fs::read(&path).unwrap();
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        use safetensors::Dtype::{BOOL, F16, I32, U32};
        for (name, dtype) in [("counts", I32), ("words", U32), ("halves", F16), ("flags", BOOL)] {
            assert_eq!(file.tensor(name).unwrap().dtype(), dtype);
        }
        for to in [Device::cpu(), common::gpu()] {
            let (store, states) = build(&to, false);
            Checkpoint::load(&path, &store, None).unwrap();
            assert_eq!(all(&states), want);
            // It can be computed with, stored and saved again.
            states[0].assign(&(states[0].get() + 1));
            Checkpoint::save(&path, &store, None, None).unwrap();
            Checkpoint::load(&path, &store, None).unwrap();
            assert_eq!(states[0].get().to_vec::<i32>().unwrap(), [16_777_219, i32::MIN + 2, 1]);
            fs::write(&path, &bytes).unwrap();
        }
    }
}

#[test]
fn a_checkpoint_of_the_first_layout_loads() {
    use safetensors::tensor::TensorView;
    let path = folder("first-layout").join("run.safetensors");
    let floats = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
    // Everything in F32, whatever its dtype.
    let tensors = [
        ("weight", floats(&[1.0, 2.0, 3.0])),
        ("count", floats(&[7.0, -3.0, 16_777_216.0])),
        ("flag", floats(&[1.0, 0.0, 1.0])),
        ("optimizer/momentum.weight", floats(&[-0.5, 0.25, 0.0])),
    ];
    let write = |tensors: &[(&str, Vec<u8>)]| {
        let views = tensors
            .iter()
            .map(|(name, data)| (*name, TensorView::new(safetensors::Dtype::F32, vec![3], data).unwrap()));
        let text = r#"{"version":1,"optimizer":{"rule":"sgd","lr":"0.25","steps":9,"updates":[["weight",9]],
            "loss_scale":null},"draws":[4,17],"position":[1,2],"metadata":{"note":"old"}}"#;
        let metadata = std::collections::HashMap::from([("kiln".to_string(), text.to_string())]);
        fs::write(&path, safetensors::serialize(views, Some(metadata)).unwrap()).unwrap();
    };
    write(&tensors);
    for device in [Device::cpu(), common::gpu()] {
        let store = ParamStore::new(&device, 1);
        let weight = store.root().param("weight", &[3], Init::Ones);
        let count = store.root().state("count", &device.tensor(&[0i32; 3], &[3]));
        let flag = store.root().state("flag", &device.tensor(&[false; 3], &[3]));
        let mut sgd = Sgd::new(&store, SgdConfig { momentum: 0.9, ..Default::default() });
        write(&tensors);
        let checkpoint = Checkpoint::load(&path, &store, Some(&mut sgd)).unwrap();
        assert_eq!((checkpoint.steps, checkpoint.position), (9, Some(Position { epoch: 1, batch: 2 })));
        assert_eq!(checkpoint.metadata["note"], "old");
        assert_eq!((sgd.lr(), sgd.steps(), store.draws().position()), (0.25, 9, (4, 17)));
        assert_eq!(weight.values().unwrap(), [1.0, 2.0, 3.0]);
        assert_eq!(count.get().to_vec::<i32>().unwrap(), [7, -3, 16_777_216]);
        assert_eq!(flag.get().to_vec::<bool>().unwrap(), [true, false, true]);
        assert_eq!(sgd.state().unwrap().tensors[0].2, [-0.5, 0.25, 0.0]);
        for (number, values, why) in [(1, [0.5, 0.0, 0.0], "`count` is 0.5"), (2, [2.0, 0.0, 0.0], "`flag` is 2")] {
            let mut wrong = tensors.clone();
            wrong[number].1 = floats(&values);
            write(&wrong);
            let error = store.load(&path).unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }
}

#[test]
fn a_file_of_version_1_loads_by_the_short_form_and_by_its_parts() {
    // Written by the first version: three steps of AdamW on the reference, dropout, a state, a position, metadata.
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/checkpoint-v1.safetensors");
    let weights = [
        [-0.3050515285450381, 0.20188102561343912, 0.14589714710367155],
        [0.2528670994277028, -0.058532035881579125, 0.14536300603282595],
    ];
    let m = [
        [-0.3498259581096564, 0.17023369372601888, 0.04968869109384193],
        [-0.36122369376902996, 0.1289939975989284, 0.07115625793814687],
    ];
    let position = Position { epoch: 2, batch: 7 };
    let metadata = json!({ "note": "first", "rate": 0.1 });
    for device in [Device::cpu(), common::gpu()] {
        let rounded = |x: f64| if device.is_cpu() { x } else { f64::from(x as f32) };
        let build = || {
            let store = ParamStore::new(&device, 99);
            let root = store.root();
            let weight = root.child("fc").param("weight", &[2, 3], Init::Ones);
            root.group("biases").child("fc").param("bias", &[2], Init::Ones);
            let mean = root.child("norm").state("running_mean", &device.zeros(&[3]));
            (AdamW::new(&store, AdamWConfig::default()), store, weight, mean)
        };
        let check = |(adam, store, weight, mean): &(AdamW, ParamStore, Param, kiln::State)| {
            assert_eq!(weight.values().unwrap(), weights.concat().into_iter().map(rounded).collect::<Vec<_>>());
            assert_eq!(mean.get().to_vec::<f32>().unwrap(), [1.25, -0.4375, -0.25]);
            assert_eq!(store.draws().position(), (5, 3));
            let state = adam.state().unwrap();
            assert_eq!((state.lr, state.steps, state.tensors.len()), (0.0625, 3, 4));
            assert_eq!(state.updates, [("fc.weight".to_string(), 3), ("fc.bias".to_string(), 3)]);
            assert_eq!(state.tensors[0].2, m.concat().into_iter().map(rounded).collect::<Vec<_>>());
        };
        let mut short = build();
        let loaded = Checkpoint::load(&path, &short.1, Some(&mut short.0)).unwrap();
        check(&short);
        assert_eq!((loaded.steps, loaded.position), (3, Some(position)));
        assert_eq!(serde_json::Value::Object(loaded.metadata), metadata);

        let (mut long, mut found) = (build(), (Position::default(), serde_json::Value::Null));
        let file = Checkpoint::open(&path).unwrap();
        let parts: Vec<_> = file.parts().collect();
        assert_eq!(parts, [("optimizer", "model"), ("position", "train"), ("store", "model"), ("value", "metadata")]);
        let load = file.load().store("model", &long.1).optimizer("model", &mut long.0);
        load.position("train", &mut found.0).value("metadata", &mut found.1).finish().unwrap();
        check(&long);
        assert_eq!(found, (position, metadata.clone()));

        let other = build();
        other.1.load(&path).unwrap();
        assert_eq!(other.2.values().unwrap(), long.2.values().unwrap());
        // Saved again, it is of the present version.
        let again = folder("again").join("run.safetensors");
        Checkpoint::save(&again, &long.1, Some(&long.0), None).unwrap();
        assert!(String::from_utf8_lossy(&fs::read(&again).unwrap()).contains(r#"\"version\":2"#));
        let mut last = build();
        Checkpoint::load(&again, &last.1, Some(&mut last.0)).unwrap();
        check(&last);
    }
}

#[test]
fn integer_tensors_of_pytorch_that_the_model_has_not_are_passed_over() {
    use safetensors::tensor::TensorView;
    let path = folder("pytorch").join("weights.safetensors");
    let (floats, counts) = (2.5f32.to_le_bytes().repeat(3), 7i64.to_le_bytes());
    let write = |name: &str| {
        let views = [
            ("weight", TensorView::new(safetensors::Dtype::F32, vec![3], &floats).unwrap()),
            ("norm.num_batches_tracked", TensorView::new(safetensors::Dtype::I64, vec![], &counts).unwrap()),
            (name, TensorView::new(safetensors::Dtype::F8_E4M3, vec![8], &counts).unwrap()),
        ];
        fs::write(&path, safetensors::serialize(views, None).unwrap()).unwrap();
    };
    let store = ParamStore::new(&Device::cpu(), 1);
    let weight = store.root().param("weight", &[3], Init::Ones);
    write("mask");
    store.load(&path).unwrap();
    assert_eq!(weight.values().unwrap(), [2.5; 3]);
    store.root().param("bias", &[8], Init::Ones);
    write("bias");
    let error = store.load(&path).unwrap_err();
    assert!(error.to_string().contains("`bias` holds F8_E4M3") && error.to_string().contains("convert"), "{error}");
}

#[test]
fn a_place_that_cannot_be_written_or_read_is_an_error() {
    let model = Model::new(&Device::cpu(), 1);
    let nowhere = folder("nowhere").join("missing").join("run.safetensors");
    assert!(matches!(model.store.save(&nowhere), Err(Error::Io { .. })));
    assert!(matches!(model.store.load(&nowhere), Err(Error::Io { action: "read", .. })));
    assert!(matches!(model.store.save(".."), Err(Error::Io { .. })));
    assert!(matches!(model.store.load(folder("itself")), Err(Error::Io { .. } | Error::File { .. })));
}

#[test]
fn gathered_gradients_are_not_lost_in_silence() {
    let model = Model::new(&Device::cpu(), 1);
    let mut optimizer = adamw(&model);
    optimizer.accumulate(&model.loss(0)).unwrap();
    let path = folder("gathered").join("run.safetensors");
    assert!(matches!(Checkpoint::save(&path, &model.store, Some(&optimizer), None), Err(Error::Value { .. })));
    assert!(!path.exists());
}
