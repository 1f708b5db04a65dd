//! "Meaning, case by case": each promise of the design about what a program means, as a test of its name.

mod common;

use kiln::data;
use kiln::prelude::*;
use kiln::{Draws, Error, State};

fn devices() -> [Device; 2] {
    [Device::cpu(), Device::named("vulkan").expect("a Vulkan driver: `make test` installs one")]
}

fn sgd(params: &ParamStore) -> Sgd {
    Sgd::new(params, SgdConfig { lr: 0.5, ..SgdConfig::default() })
}

/// A store with one parameter `w` = [1, 2, 3].
fn store(device: &Device) -> (ParamStore, Param) {
    let params = ParamStore::new(device, 1);
    let w = params.root().param("w", &[3], Init::Zeros);
    w.set(&[1.0, 2.0, 3.0]).unwrap();
    (params, w)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_array().unwrap().data
}

#[test]
fn lifetime_tensors_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Tensor>();
    check::<Device>();
    check::<ParamStore>();
}

#[test]
fn lifetime_a_long_chain_is_dropped_without_recursion() {
    let mut x = Device::cpu().zeros(&[1]);
    for _ in 0..200_000 {
        x = &x + 1.0;
    }
    drop(x);
}

#[test]
fn a_tensor_read_after_the_update_has_its_old_value() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let old = w.tensor() * 2.0;
        optimizer.step(&w.tensor().sum_all()).unwrap();
        assert_eq!(values(&old), [2.0, 4.0, 6.0]);
        assert_eq!(values(&(w.tensor() * 2.0)), [1.0, 3.0, 5.0]);
    }
}

#[test]
fn a_held_parameter_keeps_its_value_over_the_update() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let before = w.tensor();
        optimizer.step(&w.tensor().sum_all()).unwrap();
        assert_eq!(values(&before), [1.0, 2.0, 3.0]);
        assert_eq!(values(&w.tensor()), [0.5, 1.5, 2.5]);
    }
}

#[test]
fn what_is_held_is_part_of_the_key() {
    let [_, gpu] = devices();
    let (params, w) = store(&gpu);
    let mut optimizer = sgd(&params);
    let mut run = |hold: bool| {
        let y = w.tensor().exp();
        let loss = y.sum_all();
        let held = hold.then_some(y);
        optimizer.step(&loss).unwrap();
        held.map(|y| values(&y))
    };
    run(false);
    run(false);
    let want: Vec<f64> = values(&w.tensor()).iter().map(|x| x.exp()).collect();
    let held = run(true).unwrap();
    for (g, w) in held.iter().zip(&want) {
        assert!((g - w).abs() < 1e-5, "{g} {w}");
    }
}

#[test]
fn read_then_step_works() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let loss = (w.tensor() * w.tensor()).sum_all();
        assert_eq!(loss.item().unwrap(), 14.0);
        optimizer.step(&loss).unwrap();
        assert_eq!(values(&w.tensor()), [0.0, 0.0, 0.0]);
        assert_eq!(loss.item().unwrap(), 14.0);
    }
}

#[test]
fn a_read_before_the_step_changes_no_plan_of_the_step() {
    let [_, gpu] = devices();
    let (params, w) = store(&gpu);
    let mut optimizer = sgd(&params);
    let mut made = vec![];
    for round in 0..4 {
        let loss = (w.tensor() * 0.5).sum_all();
        if round % 2 == 1 {
            loss.item().unwrap();
        }
        optimizer.step(&loss).unwrap();
        made.push(gpu.statistics().plans_made);
    }
    // One for the step that also delivers the loss, one for the read, one for the step after a read.
    assert_eq!(made[3], made[1]);
}

#[test]
fn a_gradient_through_an_overwritten_parameter_is_an_error() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let loss = w.tensor().exp().sum_all();
        optimizer.step(&loss).unwrap();
        let error = optimizer.step(&loss).unwrap_err();
        assert!(matches!(error, Error::History { .. }), "{error}");
        assert!(error.to_string().contains("`w`") && error.to_string().contains("meaning.rs"), "{error}");
    }
}

#[test]
fn state_is_assigned_exactly_once_even_if_its_tensor_is_dropped() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let count = params.root().state("count", &device.zeros(&[1]));
        for _ in 0..3 {
            let loss = w.tensor().sum_all();
            count.assign(&(count.get() + 1.0));
            // A read makes the forward pass run again in the step; the assignment must not be repeated.
            loss.item().unwrap();
            optimizer.step(&loss).unwrap();
        }
        assert_eq!(values(&count.get()), [3.0]);
    }
}

#[test]
fn state_is_not_assigned_if_the_step_carries_an_error() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let count = params.root().state("count", &device.zeros(&[1]));
        count.assign(&(count.get() + 1.0));
        let bad = (w.tensor() + device.zeros(&[4])).sum_all();
        assert!(matches!(optimizer.step(&bad), Err(Error::Shape { .. })));
        assert_eq!(values(&count.get()), [0.0]);
        assert_eq!(optimizer.steps(), 0);
        assert_eq!(values(&w.tensor()), [1.0, 2.0, 3.0]);
    }
}

#[test]
fn state_without_a_store_is_carried_out_when_read() {
    let state = State::new(&Device::cpu().zeros(&[2]));
    state.assign(&(state.get() + 3.0));
    assert_eq!(values(&state.get()), [3.0, 3.0]);
}

#[test]
fn a_random_draw_is_the_same_in_its_backward_pass_and_in_any_recomputation() {
    for device in devices() {
        let x = device.ones(&[1000]).variable();
        let y = x.dropout(0.5, &Draws::new(3));
        let gradient = y.sum_all().gradients(&[&x]).unwrap().remove(0);
        let forward = values(&y);
        assert_eq!(values(&gradient), forward);
        assert!(forward.contains(&0.0) && forward.contains(&2.0));
    }
}

#[test]
fn two_draws_differ_and_the_same_draw_agrees_between_devices() {
    let [cpu, gpu] = devices();
    let draw = |device: &Device| {
        let draws = Draws::new(7);
        [device.ones(&[500]).dropout(0.3, &draws), device.ones(&[500]).dropout(0.3, &draws)]
            .map(|y| values(&y).iter().map(|x| *x != 0.0).collect::<Vec<_>>())
    };
    let [first, second] = draw(&cpu);
    assert_ne!(first, second);
    assert_eq!(draw(&gpu), [first, second]);
}

#[test]
fn gradients_of_tied_uses_add_up() {
    for device in devices() {
        let (_params, w) = store(&device);
        let loss = (w.tensor() * w.tensor() + w.tensor() * 3.0).sum_all();
        let gradient = loss.gradients(&[&w.tensor()]).unwrap().remove(0);
        assert_eq!(values(&gradient), [5.0, 7.0, 9.0]);
    }
}

#[test]
fn no_gradient_flows_through_detach_or_no_grad() {
    for device in devices() {
        let (_params, w) = store(&device);
        let fixed = no_grad(|| w.tensor() * 2.0);
        assert!(!fixed.requires_grad());
        let loss = (w.tensor().detach() * w.tensor() + fixed).sum_all();
        let gradient = loss.gradients(&[&w.tensor()]).unwrap().remove(0);
        assert_eq!(values(&gradient), [1.0, 2.0, 3.0]);
    }
}

#[test]
fn gradients_can_be_differentiated_again() {
    for device in devices() {
        let x = device.tensor(&[0.5f32, 1.0, 2.0], &[3]).variable();
        let first = (&x * &x * &x).sum_all().gradients(&[&x]).unwrap().remove(0);
        let second = first.sum_all().gradients(&[&x]).unwrap().remove(0);
        assert_eq!(values(&second), [3.0, 6.0, 12.0]);
    }
}

#[test]
fn frozen_parameters_and_those_a_loss_does_not_reach_are_left_alone() {
    for device in devices() {
        let params = ParamStore::new(&device, 1);
        let names = ["used", "frozen", "unreached"];
        let [used, frozen, unreached] = names.map(|name| {
            let param = params.root().param(name, &[2], Init::Constant(1.0));
            param.set(&[1.0, 1.0]).unwrap();
            param
        });
        frozen.freeze();
        let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 0.1, weight_decay: 0.5, ..Default::default() });
        for _ in 0..3 {
            optimizer.step(&(used.tensor() * frozen.tensor()).sum_all()).unwrap();
        }
        assert_eq!(values(&frozen.tensor()), [1.0, 1.0]);
        assert_eq!(values(&unreached.tensor()), [1.0, 1.0]);
        assert!(values(&used.tensor())[0] < 0.9);
    }
}

#[test]
fn accumulation_over_micro_batches_equals_one_batch() {
    for device in devices() {
        let train = |parts: bool| {
            let (params, w) = store(&device);
            let mut optimizer = sgd(&params);
            for _ in 0..3 {
                let part = |scale: f64| (w.tensor() * w.tensor() * scale).sum_all();
                if parts {
                    optimizer.accumulate(&part(0.0625)).unwrap();
                    optimizer.accumulate(&part(0.125)).unwrap();
                    optimizer.step(&part(0.0625)).unwrap();
                } else {
                    optimizer.step(&part(0.25)).unwrap();
                }
            }
            values(&w.tensor())
        };
        assert_eq!(train(true), train(false));
    }
}

#[test]
fn an_upload_used_by_many_runs_keeps_its_value() {
    for device in devices() {
        let x = device.tensor(&[1.0f32, 2.0], &[2]);
        for i in 0..12 {
            assert_eq!(values(&(&x * f64::from(i))), [f64::from(i), 2.0 * f64::from(i)]);
        }
    }
}

#[test]
fn outputs_still_held_are_not_overwritten() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params);
        let losses: Vec<Tensor> = (0..12)
            .map(|_| {
                let loss = w.tensor().sum_all();
                optimizer.step(&loss).unwrap();
                loss
            })
            .collect();
        for (i, loss) in losses.iter().enumerate() {
            assert_eq!(loss.item().unwrap(), 6.0 - 1.5 * i as f64);
        }
    }
}

#[test]
fn a_tensor_that_carries_an_error_passes_through_layers() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 1);
    let net = Sequential::new().add(Flatten).add(Linear::new(&params.root().child("fc"), 4, 2)).add(Tensor::relu);
    let bad = device.zeros(&[3]) + device.zeros(&[4]);
    assert!(matches!(net.forward(&bad, Mode::Train).item(), Err(Error::Shape { op: "add", .. })));
}

#[test]
fn not_a_number_in_a_gradient_skips_the_update_and_is_reported_with_its_step() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 0.1, ..Default::default() });
        optimizer.step(&w.tensor().sum_all()).unwrap();
        device.synchronize().unwrap();
        let before = values(&w.tensor());
        let zero = device.tensor(&[0.0f32, 1.0, 1.0], &[3]);
        optimizer.step(&(w.tensor() / zero).sum_all()).unwrap();
        let error = device.synchronize().err().or_else(|| w.tensor().to_vec::<f32>().err());
        assert!(matches!(error, Some(Error::NonFinite { step: 2, .. })), "{error:?}");
        assert_eq!(values(&w.tensor()), before);
        optimizer.step(&w.tensor().sum_all()).unwrap();
        assert!(values(&w.tensor())[0] < before[0]);
    }
}

#[test]
fn labels_out_of_range_are_refused_when_the_loss_is_recorded() {
    for device in devices() {
        let loss = device.zeros(&[2, 3]).cross_entropy(&device.labels(&[0, 3]));
        let error = loss.item().unwrap_err().to_string();
        assert!(error.contains('3') && error.contains("meaning.rs"), "{error}");
    }
}

#[test]
fn a_gradient_may_be_formed_from_another_of_its_arena() {
    type Model = fn(&[Tensor]) -> Tensor;
    let models: [(&[&[usize]], Model); 5] = [
        (&[&[37, 5], &[37, 5]], |p| (&p[0] + &p[1]).square().sum_all()),
        (&[&[37, 5], &[5]], |p| (&p[0] + &p[1]).softmax(1).square().sum_all()),
        (&[&[37, 5], &[5, 37]], |p| (&p[0] + p[1].permute(&[1, 0])).square().sum_all()),
        (&[&[37, 5], &[5], &[5, 7]], |p| (&p[0] + &p[1]).matmul(&p[2]).square().sum_all()),
        (&[&[37, 5], &[5, 5], &[37, 5]], |p| (p[0].matmul(&p[1]) + &p[2]).softmax(1).square().sum_all()),
    ];
    let [cpu, gpu] = devices();
    let hardware = Device::named_as_if("vulkan", |capabilities| capabilities.software = false).unwrap();
    for (number, (shapes, model)) in models.iter().enumerate() {
        let train = |device: &Device| -> Vec<f64> {
            let params = ParamStore::new(device, 3);
            let init = Init::Normal { mean: 0.0, deviation: 1.0 };
            let param = |(i, shape): (usize, &&[usize])| params.root().param(format!("p{i}"), shape, init);
            let all: Vec<Param> = shapes.iter().enumerate().map(param).collect();
            let loss = || model(&all.iter().map(Param::tensor).collect::<Vec<_>>());
            let mut optimizer = sgd(&params);
            optimizer.step(&(loss() * 0.1)).unwrap();
            optimizer.accumulate(&(loss() * 0.1)).unwrap();
            optimizer.step(&(loss() * 0.1)).unwrap();
            all.iter().flat_map(|param| param.values().unwrap()).collect()
        };
        let want = train(&cpu);
        for device in [&gpu, &hardware] {
            for fusion in [true, false] {
                device.set_fusion(fusion);
                for (g, w) in train(device).iter().zip(&want) {
                    assert!((g - w).abs() < 1e-4 * w.abs().max(1.0), "model {number}, fusion {fusion}: {g} {w}");
                }
            }
        }
    }
}

#[test]
fn partial_batches_and_changing_batch_sizes_give_the_reference_s_values() {
    let [cpu, gpu] = devices();
    let digits = data::digits().train.limit(150);
    let train = |device: &Device| {
        let params = ParamStore::new(device, 3);
        let net = Sequential::new().add(Flatten).add(Linear::new(&params.root().child("fc"), 64, 10));
        let mut optimizer = sgd(&params);
        let mut losses = vec![];
        for size in [64, 37, 1] {
            for batch in digits.batches(size).take(4) {
                let logits = net.forward(&device.tensor(&batch.images, &batch.shape), Mode::Train);
                let loss = logits.cross_entropy(&device.labels(&batch.labels));
                optimizer.step(&loss).unwrap();
                losses.push(loss.item().unwrap());
            }
        }
        losses
    };
    for (g, w) in train(&gpu).iter().zip(train(&cpu)) {
        assert!((g - w).abs() < 1e-4, "{g} {w}");
    }
}

#[test]
fn async_reads_give_what_blocking_reads_give() {
    for device in devices() {
        let y = device.tensor(&[1.0f32, 2.0], &[2]) * 3.0;
        let (values, sum) =
            pollster::block_on(async { (y.to_vec_async::<f32>().await, y.sum_all().item_async().await) });
        assert_eq!(values.unwrap(), [3.0, 6.0]);
        assert_eq!(sum.unwrap(), 9.0);
    }
}
