//! The training loop: what it does is what a hand-written one does, and what interrupts it leaves no trace.

#[path = "trainer/errors.rs"]
mod errors;
#[path = "trainer/figures.rs"]
mod figures;
#[path = "trainer/interrupted.rs"]
mod interrupted;
#[path = "trainer/loops.rs"]
mod loops;
#[path = "trainer/policies.rs"]
mod policies;
#[path = "trainer/waits.rs"]
mod waits;

use std::path::PathBuf;

use kiln::data::{Batch, Images, Loader, digits};
use kiln::prelude::*;
use kiln::train::{Step, Trainer};

/// A small classifier of digits with everything that a step can carry along: dropout, running statistics.
struct Net {
    params: ParamStore,
    layers: Sequential,
}

impl Net {
    fn new(device: &Device, seed: u64) -> Net {
        Net::of_width(device, seed, 8)
    }

    fn of_width(device: &Device, seed: u64, width: usize) -> Net {
        let params = ParamStore::new(device, seed);
        let root = params.root();
        let layers = Sequential::new()
            .add(Linear::new(&root.child("fc1"), 64, width))
            .add(BatchNorm1d::new(&root.child("norm"), width))
            .add(Tensor::relu)
            .add(Dropout::new(&root.child("dropout"), 0.2))
            .add(Linear::new(&root.child("fc2"), width, 10));
        Net { params, layers }
    }

    fn adamw(&self) -> AdamW {
        AdamW::new(&self.params, AdamWConfig { lr: 0.01, ..Default::default() }).clip_norm(1.0)
    }

    /// A trainer with an optimizer.
    fn trainer(&self) -> Trainer {
        Trainer::new(&self.params).optimizer(self.adamw())
    }

    /// What is done with a batch.
    fn step(&self, step: &mut Step<'_>, batch: &Batch) -> Result<()> {
        let (logits, labels) = self.logits(step.device(), batch, step.mode());
        step.metric("accuracy", accuracy(&logits, &labels));
        step.minimise(&logits.cross_entropy(&labels))
    }

    fn logits(&self, device: &Device, batch: &Batch, mode: Mode) -> (Tensor, Tensor) {
        let images = device.tensor(&batch.images, &[batch.len(), 64]);
        (self.layers.forward(&images, mode), device.labels(&batch.labels))
    }

    /// Every bit of every parameter and state.
    fn bits(&self) -> Vec<(String, Vec<u64>)> {
        let bits = |values: Vec<f64>| values.into_iter().map(f64::to_bits).collect();
        let parameters = self.params.parameters().into_iter().map(|p| (p.name(), bits(p.values().unwrap())));
        let states = self.params.root().states().into_iter();
        parameters.chain(states.map(|(name, state)| (name, bits(state.get().to_vec().unwrap())))).collect()
    }
}

fn accuracy(logits: &Tensor, labels: &Tensor) -> Tensor {
    logits.argmax(1).eq(labels).cast(DType::F32).mean_all()
}

/// 90 images to train on and 40 to judge by: six batches of 16 an epoch, the last one smaller.
fn data() -> (Images, Images) {
    let splits = digits();
    (splits.train.limit(90), splits.test.limit(40))
}

fn loader(images: &Images) -> Loader<'_> {
    images.batches(16).shuffle(5)
}

/// A path in the system's folder for such that nobody else uses.
fn unused(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("kiln-trainer-{}-{name}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    path
}
