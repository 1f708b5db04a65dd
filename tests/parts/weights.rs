//! Weights in parts: what is loaded, what is reported, what is refused, and that a refused file changes nothing.

use std::fs;

use kiln::nn::BatchNorm;
use kiln::prelude::*;
use kiln::train::checkpoint::{Checkpoint, FileInfo, Load, Save};
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};

use crate::alone::Folder;
use crate::common;

/// A body with a state, and a head of `classes`.
fn model(device: &Device, seed: u64, classes: usize) -> ParamStore {
    let params = ParamStore::new(device, seed);
    let body = params.root().child("body");
    Linear::new(&body.child("fc"), 4, 3);
    BatchNorm::new(&body.child("norm"), 3);
    Linear::new(&params.root().child("head"), 3, classes);
    params
}

fn values(params: &ParamStore, name: &str) -> Vec<f64> {
    params.get(name).expect("a parameter").values().expect("its values")
}

fn all(params: &ParamStore) -> Vec<Vec<f64>> {
    params.names().iter().map(|name| values(params, name)).collect()
}

#[test]
fn a_body_goes_from_one_model_to_another() -> Result<()> {
    for device in [Device::cpu(), common::gpu()] {
        let folder = Folder::new("weights-body");
        let path = folder.join("old.safetensors");
        let (old, new) = (model(&device, 1, 10), model(&device, 2, 2));
        let (_, mean) =
            old.root().states().into_iter().find(|(name, _)| name.ends_with("running_mean")).expect("a state");
        mean.assign(&device.tensor(&[1f32, 2.0, 3.0], &[3]));
        old.save(&path)?;
        let before = all(&new);
        assert!(matches!(new.load_with(&path, &Load::default()), Err(Error::Checkpoint { .. })));
        assert_eq!(all(&new), before);

        let held = &new.get("body.fc.weight").expect("a parameter").tensor() * 2.0;
        let loaded = new.load_with(&path, &Load { skip_mismatched: true, ..Load::default() })?;
        assert_eq!(loaded.mismatched, ["head.bias", "head.weight"]);
        assert_eq!((loaded.missing.len(), loaded.left_over.len(), loaded.loaded.len()), (0, 0, 6));
        assert_eq!(values(&new, "body.fc.weight"), values(&old, "body.fc.weight"));
        assert_eq!(values(&new, "head.bias"), before[new.names().iter().position(|name| name == "head.bias").unwrap()]);
        let twice: Vec<f64> = before[0].iter().map(|value| value * 2.0).collect();
        assert_eq!(held.to_array()?.data, twice, "what was recorded before keeps the values from before");
        let (_, mean) =
            new.root().states().into_iter().find(|(name, _)| name.ends_with("running_mean")).expect("a state");
        assert_eq!(mean.get().to_vec::<f32>()?, [1.0, 2.0, 3.0]);
    }
    Ok(())
}

#[test]
fn some_of_a_model_is_saved_and_loaded_where_it_belongs() -> Result<()> {
    let folder = Folder::new("weights-some");
    let path = folder.join("head.safetensors");
    let (old, new) = (model(&Device::cpu(), 1, 2), model(&Device::cpu(), 2, 2));
    let texts = [("classes", "cat,dog")];
    old.save_with(&path, &Save { which: &|name| name.starts_with("head."), metadata: &texts })?;
    let info = FileInfo::read(&path)?;
    let names: Vec<&str> = info.tensors.iter().map(|tensor| &*tensor.name).collect();
    assert_eq!((names, info.tensors[1].shape.clone()), (vec!["head.bias", "head.weight"], vec![2, 3]));
    assert_eq!((info.tensors[1].dtype.as_str(), info.metadata["classes"].as_str()), ("F32", "cat,dog"));

    let error = new.load_with(&path, &Load::default()).unwrap_err().to_string();
    assert!(error.contains("`body.fc.bias`") && error.contains("strict: false"), "{error}");
    let loaded = new.load_with(&path, &Load { strict: false, ..Load::default() })?;
    assert_eq!((loaded.loaded.len(), loaded.missing.len()), (2, 6));
    assert_eq!(values(&new, "head.weight"), values(&old, "head.weight"));
    assert_ne!(values(&new, "body.fc.weight"), values(&old, "body.fc.weight"));

    old.save_where(&path, |name| name.starts_with("body.norm"))?;
    assert_eq!(FileInfo::read(&path)?.tensors.len(), 4, "a state goes with the parameters");
    let before = fs::read(&path).expect("the file");
    let none = old.save_where(&path, |_| false);
    assert!(matches!(none, Err(Error::Value { op: "save_with", .. })));
    let taken = old.save_with(&path, &Save { metadata: &[("format", "own")], ..Save::default() });
    assert!(matches!(taken, Err(Error::Value { .. })));
    assert_eq!(fs::read(&path).expect("the file"), before);
    Ok(())
}

#[test]
fn names_of_a_wrapper_are_taken_off_and_changed() -> Result<()> {
    let folder = Folder::new("weights-names");
    let path = folder.join("wrapped.safetensors");
    let wrapped = ParamStore::new(&Device::cpu(), 1);
    Linear::new(&wrapped.root().child("module").child("encoder"), 4, 3);
    Linear::new(&wrapped.root().child("ema"), 2, 2);
    wrapped.save(&path)?;
    let own = ParamStore::new(&Device::cpu(), 2);
    Linear::new(&own.root().child("body"), 4, 3);

    let rename = |name: &str| name.strip_prefix("encoder.").map(|rest| format!("body.{rest}"));
    let load = Load { strict: false, prefix: "module.", rename: &rename, ..Load::default() };
    let loaded = own.load_with(&path, &load)?;
    assert_eq!(
        (loaded.loaded, loaded.left_over),
        (vec!["body.bias".into(), "body.weight".into()], vec!["ema.bias".to_string(), "ema.weight".into()])
    );
    assert_eq!(values(&own, "body.weight"), values(&wrapped, "module.encoder.weight"));

    let one = |_: &str| Some("body.weight".to_string());
    let error = own.load_with(&path, &Load { strict: false, rename: &one, ..Load::default() }).unwrap_err().to_string();
    assert!(error.contains("both become `body.weight`"), "{error}");
    Ok(())
}

/// PyTorch keeps weights in other widths, and counts as I64.
#[test]
fn every_width_of_a_file_is_read() -> Result<()> {
    let folder = Folder::new("weights-widths");
    let path = folder.join("widths.safetensors");
    let numbers = [0.5, -2.0, 1.25];
    let doubles: Vec<u8> = numbers.iter().flat_map(|x: &f64| x.to_le_bytes()).collect();
    let halves: Vec<u8> = numbers.iter().flat_map(|&x| half::f16::from_f64(x).to_le_bytes()).collect();
    let brains: Vec<u8> = numbers.iter().flat_map(|&x| half::bf16::from_f64(x).to_le_bytes()).collect();
    let count = 7i64.to_le_bytes();
    let view = |dtype, shape: &[usize], bytes| TensorView::new(dtype, shape.to_vec(), bytes).expect("a view");
    let tensors = [
        ("a", view(Dtype::F64, &[3], &doubles)),
        ("b", view(Dtype::F16, &[3], &halves)),
        ("c", view(Dtype::BF16, &[3], &brains)),
        ("steps", view(Dtype::I64, &[], &count)),
    ];
    serialize_to_file(tensors, None, &path).expect("a file");
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        for name in ["a", "b", "c"] {
            params.root().param(name, &[3], Init::Zeros);
        }
        let steps = params.root().state("steps", &device.zeros(&[]));
        let loaded = params.load_with(&path, &Load::default());
        // A count is no float: a state of floats does not take it unasked.
        assert!(matches!(loaded, Err(Error::Checkpoint { .. })), "{loaded:?}");
        let floats = |name: &str| (name != "steps").then(|| name.to_string());
        let loaded = params.load_with(&path, &Load { strict: false, rename: &floats, ..Load::default() })?;
        assert_eq!((loaded.loaded.len(), loaded.missing), (3, vec!["steps".to_string()]));
        for name in ["a", "b", "c"] {
            assert_eq!(values(&params, name), numbers);
        }
        assert_eq!(steps.get().item()?, 0.0);
    }
    let dtypes: Vec<String> = FileInfo::read(&path)?.tensors.into_iter().map(|tensor| tensor.dtype).collect();
    assert_eq!(dtypes, ["F64", "F16", "BF16", "I64"]);
    Ok(())
}

#[test]
fn the_store_of_a_checkpoint_is_read_too() -> Result<()> {
    let folder = Folder::new("weights-checkpoint");
    let path = folder.join("run.safetensors");
    let (old, new) = (model(&Device::cpu(), 1, 2), model(&Device::cpu(), 2, 2));
    let sgd = Sgd::new(&old, SgdConfig { momentum: 0.9, ..Default::default() });
    Checkpoint::parts().store("net", &old).optimizer("net", &sgd).save(&path)?;
    let loaded = new.load_with(&path, &Load::default())?;
    assert_eq!(loaded.loaded.len(), 8);
    assert_eq!(all(&new), all(&old));
    Ok(())
}

#[test]
fn what_is_below_a_path_is_found_and_frozen() -> Result<()> {
    let params = model(&Device::cpu(), 1, 2);
    Linear::new(&params.root().child("body2"), 2, 2);
    let body = params.root().child("body");
    let names: Vec<String> = body.parameters().iter().map(|param| param.name()).collect();
    assert_eq!(names, ["body.fc.weight", "body.fc.bias", "body.norm.weight", "body.norm.bias"]);
    let states: Vec<String> = body.states().into_iter().map(|(name, _)| name).collect();
    assert_eq!(states, ["body.norm.running_mean", "body.norm.running_var"]);
    assert_eq!((params.root().parameters().len(), body.child("fc").freeze()), (8, 2));
    let frozen = |params: &ParamStore| params.parameters().iter().filter(|param| param.is_frozen()).count();
    assert_eq!((frozen(&params), params.root().unfreeze(), frozen(&params)), (2, 8, 0));

    let head = params.get("head.bias").expect("a parameter");
    head.assign(&Device::cpu().tensor(&[3i32, -1], &[2]))?;
    assert_eq!(head.values()?, [3.0, -1.0]);
    assert!(matches!(head.assign(&Device::cpu().zeros(&[3])), Err(Error::Shape { op: "assign", .. })));
    Ok(())
}

#[test]
fn an_error_is_one_readable_line() {
    let error = Device::cpu().zeros(&[3]).softmax(2).to_vec::<f32>().unwrap_err();
    assert_eq!(format!("{error:?}"), error.to_string());
}
