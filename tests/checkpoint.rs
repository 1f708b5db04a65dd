//! Saving and resuming: what comes back, what is refused, what an interrupted save leaves.

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kiln::data::Position;
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

/// A fresh directory for one test.
fn folder(test: &str) -> PathBuf {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("kiln-checkpoint-{}-{number}-{test}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    folder
}

struct Model {
    store: ParamStore,
    weight: Param,
    scale: Param,
    dropout: Dropout,
}

impl Model {
    fn new(device: &Device, seed: u64) -> Model {
        let store = ParamStore::new(device, seed);
        let root = store.root();
        Model {
            weight: root.child("fc").param("weight", &[5, 7], Init::FAN_IN_UNIFORM),
            scale: root.group("scales").param("scale", &[5], Init::Ones),
            dropout: Dropout::new(&root.child("dropout"), 0.3),
            store,
        }
    }

    fn loss(&self, step: u64) -> Tensor {
        let x = self.store.device().array(&common::normals(&[4, 1, 7], step));
        let hidden = self.dropout.forward(&(x * self.weight.tensor()).tanh(), Mode::Train);
        (hidden.sum(&[2]) * self.scale.tensor() - 1.0).square().mean_all()
    }

    fn bits(&self) -> Vec<u64> {
        let all = [&self.weight, &self.scale].map(|parameter| parameter.values().unwrap());
        all.concat().into_iter().map(f64::to_bits).collect()
    }
}

fn adamw(model: &Model) -> AdamW {
    AdamW::new(&model.store, AdamWConfig { lr: 0.013, clip_norm: Some(0.7), ..Default::default() })
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
            optimizer.set_lr(optimizer.lr() * 0.9);
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
            again.set_lr(again.lr() * 0.9);
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
        ("optimizer/m.scale", "optimizer/x.scale"),
        ("adamw", "other"),
        ("version\\\":1", "version\\\":9"),
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

#[test]
fn a_save_that_fails_leaves_the_old_file() {
    let folder = folder("fails");
    let path = folder.join("run.safetensors");
    let model = Model::new(&Device::cpu(), 1);
    model.store.save(&path).unwrap();
    let before = fs::read(&path).unwrap();
    // The temporary name is taken by a directory: the save cannot even begin.
    fs::create_dir(folder.join("run.safetensors.tmp")).unwrap();
    model.scale.set(&[2.0; 5]).unwrap();
    assert!(matches!(model.store.save(&path), Err(Error::Io { .. })));
    assert_eq!(fs::read(&path).unwrap(), before);
    fs::remove_dir(folder.join("run.safetensors.tmp")).unwrap();
    // A save that was cut off left half a temporary file; the next one succeeds.
    fs::write(folder.join("run.safetensors.tmp"), &before[..50]).unwrap();
    model.store.load(&path).unwrap();
    model.store.save(&path).unwrap();
    assert!(!folder.join("run.safetensors.tmp").exists());
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
