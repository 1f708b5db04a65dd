//! Parts of a program's own: an optimizer that is none of Kiln's, and a struct.

use std::fs;

use kiln::Draws;
use kiln::optim::OptimizerState;
use kiln::prelude::*;
use kiln::train::checkpoint::{Checkpoint, Commit, Part, PartReader, PartWriter};
use serde_json::json;

use crate::alone::Folder;
use crate::common;
use crate::model::{Model, adamw};
use crate::{joined, names, taken_apart, with_nan, with_parts};

/// An optimizer that is none of Kiln's: what it does not say itself is as the trait has it.
struct Own(AdamW);

impl Optimizer for Own {
    fn step(&mut self, loss: &Tensor) -> Result<()> {
        self.0.step(loss)
    }
    fn accumulate(&mut self, loss: &Tensor) -> Result<()> {
        self.0.accumulate(loss)
    }
    fn step_with(&mut self, gradients: Vec<(Param, Tensor)>) -> Result<()> {
        self.0.step_with(gradients)
    }
    fn lr(&self) -> f64 {
        self.0.lr()
    }
    fn set_lr(&mut self, lr: f64) -> Result<()> {
        self.0.set_lr(lr)
    }
    fn steps(&self) -> u64 {
        self.0.steps()
    }
    fn gradient_norm(&self) -> Result<f64> {
        self.0.gradient_norm()
    }
    fn loss_scale(&self) -> Result<Option<f64>> {
        self.0.loss_scale()
    }
    fn store(&self) -> &ParamStore {
        self.0.store()
    }
    fn state(&self) -> Result<OptimizerState> {
        self.0.state()
    }
    fn set_state(&mut self, state: &OptimizerState) -> Result<()> {
        self.0.set_state(state)
    }
}

#[test]
fn an_optimizer_of_a_program_s_own_is_taken_with_all_parts_or_not_at_all() {
    let folder = Folder::new("own");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let model = Model::new(&device, 1);
        let mut own = Own(adamw(&model));
        let mut noise = Draws::new(1);
        own.step(&model.loss(0)).unwrap();
        Checkpoint::parts().optimizer("own", &own).part("noise", &noise).save(&path).unwrap();
        let (good, saved) = (fs::read(&path).unwrap(), own.state().unwrap());
        own.step(&model.loss(1)).unwrap();
        let before = own.state().unwrap();
        fs::write(&path, with_parts(&good, |parts| parts["parts"]["draws/noise"] = json!(null))).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        let load = file.load().optimizer("own", &mut own).part("noise", &mut noise);
        names(&load.finish().unwrap_err(), &["draws `noise`"]);
        assert_eq!(own.state().unwrap(), before);
        fs::write(&path, &good).unwrap();
        let file = Checkpoint::open(&path).unwrap();
        file.load().optimizer("own", &mut own).part("noise", &mut noise).finish().unwrap();
        assert_eq!(own.state().unwrap(), saved);
    }
}

/// A struct of a program's own: counts on a device, numbers of the host, and a word.
struct Memory {
    device: Device,
    counts: Tensor,
    returns: Vec<f64>,
    word: String,
}

impl Part for Memory {
    fn kind(&self) -> &str {
        "memory"
    }

    fn write(&self, to: &mut PartWriter<'_>) -> Result<()> {
        to.state(self.word.as_str());
        to.tensor("counts", &self.counts)?;
        to.values("returns", &[self.returns.len(), 1], self.returns.clone())
    }

    fn read<'a>(&'a mut self, from: &PartReader<'a>) -> Result<Commit<'a>> {
        let word = from.state().as_str().ok_or_else(|| from.refuse("it has no word", "save one"))?.to_string();
        let counts = from.tensor(&self.device, "counts", &[3], DType::I32)?;
        let shape = from.shape("returns").unwrap_or(&[]).to_vec();
        let returns = from.values("returns", &shape)?;
        Ok(Box::new(move || {
            (self.word, self.counts, self.returns) = (word, counts, returns);
            Ok(())
        }))
    }
}

fn memory(device: &Device, first: i32) -> Memory {
    let counts = device.tensor(&[first, -5, 16_777_217], &[3]);
    let returns = vec![1.0 / 3.0, f64::INFINITY, -0.0, 5e-324];
    Memory { device: device.clone(), counts: &counts + 1, returns, word: "first".into() }
}

#[test]
fn a_struct_of_a_program_s_own_is_a_part() {
    let folder = Folder::new("struct");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let mut saved = memory(&device, 7);
        Checkpoint::parts().part("episodes", &saved).save(&path).unwrap();
        let good = fs::read(&path).unwrap();
        let blank = || Memory { returns: vec![], word: "blank".into(), ..memory(&device, 0) };
        let mut loaded = blank();
        let load = |into: &mut Memory| Checkpoint::open(&path)?.load().part("episodes", into).finish();
        load(&mut loaded).unwrap();
        let bits = |memory: &Memory| memory.returns.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        assert_eq!((bits(&loaded), &loaded.word), (bits(&saved), &saved.word));
        assert_eq!(loaded.counts.to_vec::<i32>().unwrap(), [8, -4, 16_777_218]);
        // What it refuses, and what it does not ask for.
        let refuses = |bytes: &[u8], words: &[&str]| {
            fs::write(&path, bytes).unwrap();
            let mut loaded = blank();
            names(&load(&mut loaded).unwrap_err(), words);
            assert!(loaded.returns.is_empty() && loaded.word == "blank");
        };
        let renamed = |from: &str, to: &str| {
            let (mut header, data) = taken_apart(&good);
            let entry = header.as_object_mut().unwrap().remove(from).unwrap();
            header[to] = entry;
            joined(&header, &data)
        };
        refuses(
            &with_parts(&good, |parts| parts["parts"]["memory/episodes"] = json!(3)),
            &["memory `episodes`: it has no"],
        );
        let (own, other) = ("memory/episodes/counts", "memory/episodes/sums");
        refuses(&renamed(own, other), &["memory `episodes`: there is no tensor `counts`"]);
        refuses(&renamed(own, "memory/other/counts"), &["memory/other/counts", "none of its parts: memory `episodes`"]);
        refuses(&renamed(own, "counts"), &["`counts`", "none of its parts"]);
        refuses(&with_nan(&good, "memory/episodes/returns"), &["memory `episodes`: `returns` is NaN at element 3"]);
        let (mut header, data) = taken_apart(&good);
        let end = data.len();
        header[other] = json!({ "dtype": "F32", "shape": [0], "data_offsets": [end, end] });
        refuses(&joined(&header, &data), &["memory `episodes`: it has `sums`"]);
        // What could not be loaded again is not saved.
        let saves = |memory: &Memory| Checkpoint::parts().part("episodes", memory).save(&path).unwrap_err();
        saved.returns[1] = f64::NAN;
        names(&saves(&saved), &["`memory/episodes/returns` is NaN at element 1"]);
        saved.counts = device.zeros(&[2]) + device.zeros(&[3]);
        assert!(matches!(saves(&saved), Error::Shape { .. }));
    }
}
