//! What a training step costs besides its arithmetic: nothing is made twice, memory stays, updates are few.

mod common;

use common::net::{Net, adamw, train};
use kiln::Error;
use kiln::prelude::*;

#[test]
fn a_cached_step_makes_no_pipeline_buffer_bind_group_or_shader() {
    let device = Device::named("vulkan").expect("a Vulkan driver");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let mut previous = None;
    let mut run = |from: u64, to: u64| {
        for step in from..to {
            let loss = train(&device, &net, &mut optimizer, 37, step);
            // The loss of the step before is still held while this one runs, and read after it.
            let before: Option<Tensor> = previous.replace(loss);
            if let Some(before) = before {
                assert!(before.item().unwrap().is_finite());
            }
        }
    };
    run(0, 8);
    let (made, counters) = (device.objects_made(), device.driver_counters());
    let plans = device.statistics().plans_made;
    run(8, 40);
    assert_eq!(device.objects_made(), made, "buffers, bind groups, pipelines");
    assert_eq!(device.driver_counters(), counters, "live buffers, bind groups, pipelines, shader modules");
    assert_eq!(device.statistics().plans_made, plans);
    assert!(counters[0] > 0, "the driver's counters are off");
}

#[test]
fn the_update_is_one_dispatch_a_group() {
    let device = Device::named("vulkan").expect("a Vulkan driver");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    train(&device, &net, &mut optimizer, 37, 0);
    let plan = device.statistics().last_plan;
    let updates =
        plan.lines().filter(|line| line.split_whitespace().nth(1).is_some_and(|name| name.starts_with("adamw")));
    assert_eq!(updates.count(), 1, "{plan}");
}

#[test]
fn two_runs_with_one_seed_are_equal_to_the_bit() {
    let run = || {
        let device = Device::named("vulkan").expect("a Vulkan driver");
        let net = Net::new(&device);
        let mut optimizer = adamw(&net);
        let losses: Vec<f64> =
            (0..20).map(|step| train(&device, &net, &mut optimizer, 37, step).item().unwrap()).collect();
        (losses, net.weights[0].values().unwrap())
    };
    assert_eq!(run(), run());
}

#[test]
fn a_gpu_follows_the_reference_for_twenty_steps() {
    let run = |device: &Device| {
        let net = Net::new(device);
        let mut optimizer = adamw(&net);
        (0..20).map(|step| train(device, &net, &mut optimizer, 37, step).item().unwrap()).collect::<Vec<_>>()
    };
    let gpu = run(&Device::named("vulkan").expect("a Vulkan driver"));
    for (step, (g, w)) in gpu.iter().zip(run(&Device::cpu())).enumerate() {
        assert!((g - w).abs() < 1e-4, "step {step}: {g} {w}");
    }
}

#[test]
fn a_loss_that_is_not_finite_is_reported_and_training_can_go_on() {
    let device = Device::named("vulkan").expect("a Vulkan driver");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    train(&device, &net, &mut optimizer, 37, 0);
    let x = device.tensor(&[f32::INFINITY; 16], &[1, 16]);
    let loss = net.forward(&x).cross_entropy(&device.labels(&[1]));
    optimizer.step(&loss).unwrap();
    assert!(matches!(device.synchronize(), Err(Error::NonFinite { step: 2, .. })));
    let loss = train(&device, &net, &mut optimizer, 37, 2);
    assert!(loss.item().unwrap().is_finite());
}

#[test]
fn a_batch_that_is_read_a_few_times_before_its_step_makes_nothing_either() {
    let device = Device::named("vulkan").expect("a Vulkan driver");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let mut run = |from: u64, to: u64| {
        for step in from..to {
            let (x, labels) = common::net::batch(&device, 37, step);
            let logits = net.forward(&x);
            let loss = logits.cross_entropy(&labels);
            // Each read is a run that uses the batch.
            for factor in 0..3 {
                assert!((net.forward(&x).sum_all() * f64::from(factor)).item().unwrap().is_finite());
            }
            drop(logits);
            optimizer.step(&loss).unwrap();
        }
    };
    run(0, 8);
    let made = device.objects_made();
    run(8, 20);
    assert_eq!(device.objects_made(), made, "buffers, bind groups, pipelines");
}
