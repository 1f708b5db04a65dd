//! What a fit costs beside a loop written by hand: no submission, no plan and no wait a step.

use std::sync::{Arc, Mutex};

use kiln::prelude::*;
use kiln::train::{Event, Run, Trainer};

use super::accuracy;

/// The convolutional network of `examples/train_cnn`.
fn cnn(device: &Device) -> (ParamStore, Sequential, AdamW) {
    let params = ParamStore::new(device, 42);
    let root = params.root();
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv1"), 1, 16, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc1"), 128, 64))
        .add(Tensor::relu)
        .add(Linear::new(&root.child("fc2"), 64, 10));
    let adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..Default::default() });
    (params, net, adamw)
}

#[test]
fn a_step_of_a_fit_is_one_submission_and_plans_nothing_once_it_has_been_seen() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let (params, net, adamw) = cnn(&device);
    let counts = Arc::new(Mutex::new(vec![]));
    let (to, own) = (counts.clone(), device.clone());
    let count = move |event: Event<'_>, _: &mut Run<'_>| {
        if let Event::EpochEnd(_) = event {
            let statistics = own.statistics();
            to.lock().unwrap().push((statistics.runs, statistics.plans_made, own.objects_made()[2]));
        }
        Ok(())
    };
    let digits = kiln::data::digits().train;
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(4).callback(count);
    // Epochs of 22 steps, in which a stretch of metrics ends at the 16th, 32nd, 48th, and with each.
    let history = trainer.fit(digits.batches(64).shuffle(42).drop_last(true), (), |step, batch| {
        let (images, labels) = (step.device().tensor(&batch.images, &batch.shape), step.device().labels(&batch.labels));
        let logits = net.forward(&images, step.mode());
        step.metric("accuracy", accuracy(&logits, &labels));
        step.minimise(&logits.cross_entropy(&labels))
    });
    assert!(history.unwrap().get("accuracy").unwrap() > 0.8);
    let counts = counts.lock().unwrap();
    for pair in counts.windows(2) {
        assert_eq!(pair[1].0 - pair[0].0, 22, "submissions in an epoch: {counts:?}");
    }
    assert!(counts[3].1 == counts[0].1 && counts[3].2 == counts[0].2, "plans or pipelines were made: {counts:?}");
}
