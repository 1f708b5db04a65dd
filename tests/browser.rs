//! What a browser needs: no call that waits there, the same results by the async forms, errors that come late. The device
//! of these tests behaves as one there: its queue takes copies, nothing waits within a step, and errors come afterwards.

use kiln::optim::{Lbfgs, LbfgsConfig, LineSearch};
use kiln::prelude::*;
use kiln::train::Trainer;
use kiln::train::checkpoint::Checkpoint;
use kiln::{refusing_to_wait, unblocked};
use pollster::block_on;

/// A device that behaves as a browser's.
fn browser() -> Device {
    Device::named_with_faults("vulkan", &["browser"]).expect("a Vulkan driver")
}

struct Net {
    device: Device,
    params: ParamStore,
    net: Sequential,
    adamw: AdamW,
}

fn net(device: &Device) -> Net {
    let params = ParamStore::new(device, 3);
    let net = Sequential::new()
        .add(Conv2d::new(&params.root().child("conv"), 1, 4, 3).padding(1))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&params.root().child("fc"), 4 * 4 * 4, 10));
    let adamw = AdamW::new(&params, AdamWConfig::default()).clip_norm(1.0);
    Net { device: device.clone(), params, net, adamw }
}

impl Net {
    /// The losses of these steps, by forms that wait for nothing.
    fn train(&mut self, steps: std::ops::Range<usize>) -> Result<Vec<f64>> {
        let digits = kiln::data::digits().train;
        let batches: Vec<_> = digits.batches(32).shuffle(5).take(steps.end).collect();
        let mut losses = vec![];
        for batch in &batches[steps] {
            block_on(self.device.ready())?;
            let loss = refusing_to_wait(|| -> Result<Tensor> {
                let images = self.device.tensor(&batch.images, &batch.shape);
                let loss = self.net.forward(&images, Mode::Train).cross_entropy(&self.device.labels(&batch.labels));
                self.adamw.step(&loss)?;
                Ok(loss)
            })?;
            losses.push(block_on(loss.item_async())?);
        }
        Ok(losses)
    }
}

#[test]
fn steps_wait_for_nothing_and_give_the_same_bits() {
    let usual = net(&Device::named("vulkan").unwrap()).train(0..12).unwrap();
    assert!(usual[11] < usual[0]);
    assert_eq!(net(&browser()).train(0..12).unwrap(), usual);
}

/// What the test of the page compares with natively: a device that tells of no more than a browser's.
#[test]
fn a_plain_device_takes_only_kernels_that_a_browser_has() {
    let kernels = |device: &Device| {
        let own = net(device).train(0..2).unwrap();
        let plan = device.last_plan().unwrap();
        let beyond = |text: &str| ["subgroup", "i64", "u64"].iter().any(|word| text.contains(word));
        let beyond = plan.dispatches.iter().filter(|dispatch| beyond(dispatch.source())).count();
        (own, beyond, plan.dispatches.iter().map(|dispatch| dispatch.bindings.len()).max().unwrap())
    };
    let (usual, beyond, _) = kernels(&Device::named("vulkan").unwrap());
    assert!(beyond > 0, "this driver has no more than a browser: the test says nothing");
    let (plain, beyond, most) = kernels(&Device::named_with_faults("vulkan", &["plain"]).unwrap());
    assert!(beyond == 0 && most <= 10);
    assert!(usual.iter().zip(&plain).all(|(usual, plain)| (usual - plain).abs() < 1e-6), "{usual:?} {plain:?}");
}

/// `result` is a refusal that names `form`.
fn names<T>(form: &str, result: Result<T>) {
    match result.map(drop) {
        Err(Error::WouldBlock { instead, .. }) => assert_eq!(instead, form),
        other => panic!("{form}: {other:?}"),
    }
}

#[test]
fn every_call_that_would_wait_names_its_async_form() {
    let device = browser();
    let mut own = net(&device);
    own.train(0..2).unwrap();
    let x = device.tensor(&[1.0f32, 2.0], &[2]) * 2.0;
    // Larger than what rides back with a run.
    let y = device.ones(&[100, 100]) * 2.0;
    refusing_to_wait(|| {
        names("Tensor::item_async", x.sum_all().item());
        names("Tensor::to_vec_async", y.to_vec::<f32>());
        names("Tensor::to_array_async", y.to_array());
        device.eval(&[&x]).unwrap();
        names("Device::synchronize_async", device.synchronize());
        names("gradient_norm_async", own.adamw.gradient_norm());
        names("state_async", own.adamw.state());
        names("ParamStore::save_bytes_async", own.params.save_bytes());
        names("ParamStore::save_bytes_async", own.params.save(std::env::temp_dir().join("kiln-never")));
        names("Parts::save_bytes_async", Checkpoint::parts().store("model", &own.params).save_bytes());
        device.set_profiling(true).unwrap();
        device.eval(&[&(&x + 1.0)]).unwrap();
        names("Device::profile_async", device.profile());
    });
    assert_eq!(block_on(x.to_vec_async::<f32>()).unwrap(), [2.0, 4.0]);
    assert_eq!(block_on(y.to_array_async()).unwrap().data, [2.0; 10_000]);
    assert_eq!(block_on(unblocked(|| y.unique::<f32>())).unwrap().counts, [10_000]);
    assert!(block_on(device.profile_async()).unwrap().runs >= 1);
    block_on(device.synchronize_async()).unwrap();
    let norm = block_on(own.adamw.gradient_norm_async()).unwrap();
    assert_eq!(norm, own.adamw.gradient_norm().unwrap());
    assert!(norm > 0.0);
    assert_eq!(block_on(own.adamw.state_async()).unwrap(), own.adamw.state().unwrap());
}

#[test]
fn weights_and_checkpoints_go_through_bytes_and_resume_to_the_same_bits() {
    let device = browser();
    let mut first = net(&device);
    let mut losses = first.train(0..6).unwrap();
    let weights = block_on(first.params.save_bytes_async()).unwrap();
    let path = std::env::temp_dir().join(format!("kiln-browser-{}.safetensors", std::process::id()));
    first.params.save(&path).unwrap();
    assert!(std::fs::read(&path).unwrap() == weights, "the same file");
    std::fs::remove_file(&path).unwrap();
    let parts = Checkpoint::parts().store("model", &first.params).optimizer("model", &first.adamw);
    let bytes = block_on(parts.save_bytes_async()).unwrap();
    losses.extend(first.train(6..12).unwrap());

    let mut second = net(&device);
    second.train(0..2).unwrap();
    let file = Checkpoint::from_bytes(&bytes).unwrap();
    let loading = file.load().store("model", &second.params).optimizer("model", &mut second.adamw);
    block_on(loading.finish_async()).unwrap();
    assert_eq!(second.train(6..12).unwrap(), losses[6..]);

    let third = net(&device);
    refusing_to_wait(|| third.params.load_bytes(&weights)).unwrap();
    assert!(block_on(third.params.save_bytes_async()).unwrap() == weights);
    for damaged in [&weights[..weights.len() - 4], &bytes[..7], b"", &[0xff; 64]] {
        assert!(third.params.load_bytes(damaged).is_err());
    }
}

#[test]
fn a_search_for_a_step_has_a_form_that_waits_for_nothing() {
    let losses = |device: &Device, waits: bool| {
        let params = ParamStore::new(device, 3);
        let weight = params.root().param("weight", &[3], Init::Ones);
        let config = LbfgsConfig { line_search: LineSearch::StrongWolfe, max_iter: 3, ..LbfgsConfig::default() };
        let mut lbfgs = Lbfgs::new(&params, config);
        let loss = || ((weight.tensor() - 3.0).square() + (weight.tensor() * 2.0).cos()).sum_all();
        if !waits {
            refusing_to_wait(|| names("Lbfgs::step_async", lbfgs.step(loss)));
            assert_eq!(block_on(weight.tensor().to_vec_async::<f32>()).unwrap(), [1.0; 3], "it is where it was");
        }
        let step = |lbfgs: &mut Lbfgs| if waits { lbfgs.step(loss) } else { block_on(lbfgs.step_async(loss)) };
        (0..3).map(|_| block_on(step(&mut lbfgs).unwrap().item_async()).unwrap()).collect::<Vec<f64>>()
    };
    let usual = losses(&Device::named("vulkan").unwrap(), true);
    assert!(usual[2] < usual[0], "{usual:?}");
    assert_eq!(losses(&browser(), false), usual);
}

#[test]
fn parameters_that_are_added_late_make_no_step_wait() {
    let device = browser();
    let mut own = net(&device);
    own.train(0..3).unwrap();
    // More than the arenas of counts have room for.
    let more: Vec<Param> =
        (0..80).map(|i| own.params.root().child(format!("late{i}")).param("bias", &[3], Init::Zeros)).collect();
    refusing_to_wait(|| {
        let sum = more.iter().map(|param| (param.tensor() - 1.0).square().sum_all()).reduce(|a, b| a + b);
        own.adamw.step(&sum.unwrap())
    })
    .unwrap();
    let state = block_on(own.adamw.state_async()).unwrap();
    let count = |name: &str| state.updates.iter().find(|(other, _)| other == name).unwrap().1;
    assert_eq!((count("conv.weight"), count("late79.bias")), (3, 1));
}

#[test]
fn a_kernel_that_is_refused_late_is_the_error_of_the_next_call() {
    let device = browser();
    let sum = |device: &Device| device.eval(&[&(device.tensor(&[1.0f32; 64], &[64]) + 1.0)]);
    sum(&device).unwrap();
    let name = device.last_plan().unwrap().dispatches[0].name();
    let refused = Device::named_with_faults("vulkan", &["browser", &name]).unwrap();
    let error = sum(&refused).and_then(|()| block_on(refused.ready())).unwrap_err();
    assert!(matches!(&error, Error::Driver { what, .. } if what.contains(&name)), "{error}");
    assert_eq!(block_on((refused.ones(&[2]) * 0.0).sum_all().item_async()).unwrap(), 0.0, "others are as before");
}

#[test]
fn a_variant_that_is_refused_late_is_replaced() {
    let device = browser();
    let product = |device: &Device| {
        let x = device.ones(&[64, 64]);
        block_on((&x + 1.0).matmul(&x).sum_all().item_async())
    };
    product(&device).unwrap();
    let variants = device.last_plan().unwrap().variants;
    assert!(!variants.is_empty(), "a plan with a choice of kernels");
    let other = browser();
    variants.iter().for_each(|name| other.inject_fault(name));
    let value = (0..6).find_map(|_| match product(&other) {
        Ok(value) => Some(value),
        Err(Error::Driver { .. }) => None,
        Err(error) => panic!("{error}"),
    });
    assert_eq!(value, Some(2.0 * 64.0 * 64.0 * 64.0));
    assert!(!other.warnings().is_empty());
}

#[test]
fn a_lost_device_is_the_error_of_what_awaits_it() {
    let device = browser();
    let x = device.ones(&[100, 100]) * 3.0;
    device.destroy();
    assert!(matches!(block_on(x.to_vec_async::<f32>()), Err(Error::DeviceLost { .. })));
    assert!(matches!(block_on(device.ready()), Err(Error::DeviceLost { .. })));
    assert!(matches!(block_on(device.synchronize_async()), Err(Error::DeviceLost { .. })));
}

fn is_sendable<T: Send>(future: T) -> T {
    future
}

#[test]
fn a_fit_without_workers_trains_as_one_that_blocks() {
    let fit = |device: &Device, blocking: bool| {
        let Net { params, net, adamw, .. } = net(device);
        let digits = kiln::data::digits();
        let train = digits.train.batches(128).shuffle(9);
        let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(2).log_gradient_norm();
        let step = |step: &mut kiln::train::Step<'_>, batch: kiln::data::Batch| {
            let logits = net.forward(&params.device().tensor(&batch.images, &batch.shape), step.mode());
            step.minimise(&logits.cross_entropy(&params.device().labels(&batch.labels)))
        };
        let test = digits.test.batches(120);
        match blocking {
            true => trainer.fit(train, test, step),
            false => block_on(is_sendable(trainer.fit_async(train, test, step))),
        }
    };
    let usual = fit(&Device::named("vulkan").unwrap(), true).unwrap();
    let tab = fit(&browser(), false).unwrap();
    let values = |history: &kiln::train::History| -> Vec<_> {
        history
            .epochs
            .iter()
            .map(|record| (record.values.get("loss").copied(), record.values.get("val_loss").copied()))
            .collect()
    };
    assert_eq!(values(&tab), values(&usual));
    assert!(values(&tab)[1].1 < values(&tab)[0].1);
    let refused = refusing_to_wait(|| fit(&browser(), true));
    assert!(matches!(refused, Err(Error::WouldBlock { instead: "Trainer::fit_async", .. })), "{refused:?}");
}
