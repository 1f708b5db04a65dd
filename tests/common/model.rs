//! The model of the tests of checkpoints: two groups of parameters, random draws.

use kiln::prelude::*;

use super::common;

pub struct Model {
    pub store: ParamStore,
    pub weight: Param,
    pub scale: Param,
    pub dropout: Dropout,
}

impl Model {
    pub fn new(device: &Device, seed: u64) -> Model {
        let store = ParamStore::new(device, seed);
        let root = store.root();
        Model {
            weight: root.child("fc").param("weight", &[5, 7], Init::FAN_IN_UNIFORM),
            scale: root.group("scales").param("scale", &[5], Init::Ones),
            dropout: Dropout::new(&root.child("dropout"), 0.3),
            store,
        }
    }

    pub fn loss(&self, step: u64) -> Tensor {
        let x = self.store.device().array(&common::normals(&[4, 1, 7], step));
        let hidden = self.dropout.forward(&(x * self.weight.tensor()).tanh(), Mode::Train);
        (hidden.sum(&[2]) * self.scale.tensor() - 1.0).square().mean_all()
    }

    pub fn bits(&self) -> Vec<u64> {
        let all = [&self.weight, &self.scale].map(|parameter| parameter.values().unwrap());
        all.concat().into_iter().map(f64::to_bits).collect()
    }
}

pub fn adamw(model: &Model) -> AdamW {
    AdamW::new(&model.store, AdamWConfig { lr: 0.013, ..Default::default() }).clip_norm(0.7)
}
