//! What has been computed or detached is a value, for ever: no later update makes it an error to use.

mod common;

use std::sync::atomic::{AtomicBool, Ordering};

use kiln::prelude::*;
use kiln::{Error, State};

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

fn sgd(params: &ParamStore, lr: f64) -> Sgd {
    Sgd::new(params, SgdConfig { lr, ..SgdConfig::default() })
}

/// A store with one parameter `w` = [1, 2, 3].
fn store(device: &Device) -> (ParamStore, Param) {
    let params = ParamStore::new(device, 1);
    let w = params.root().param("w", &[3], Init::Zeros);
    w.set(&[1.0, 2.0, 3.0]).unwrap();
    (params, w)
}

fn mlp(params: &ParamStore, outputs: usize) -> Sequential {
    let root = params.root();
    Sequential::new().add(Linear::new(&root.child("a"), 5, 7)).add(Tensor::tanh).add(Linear::new(
        &root.child("b"),
        7,
        outputs,
    ))
}

fn inputs(device: &Device, rows: usize, seed: u64) -> Tensor {
    let mut words = kiln::rng::Philox::new(seed, 0);
    let data: Vec<f32> = (0..rows * 5).map(|_| words.uniform() as f32 * 2.0 - 1.0).collect();
    device.tensor(&data, &[rows, 5])
}

fn values(tensor: &Tensor) -> Vec<f64> {
    tensor.to_array().unwrap().data
}

fn assert_near(got: &[f64], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (g, w) in got.iter().zip(want) {
        assert!((g - w).abs() < 1e-5 * w.abs().max(1.0), "{got:?} for {want:?}");
    }
}

#[test]
fn old_log_probabilities_serve_several_updates() {
    for device in devices() {
        for read in [false, true] {
            let params = ParamStore::new(&device, 3);
            let (policy, x) = (mlp(&params, 4), inputs(&device, 6, 1));
            let mut optimizer = sgd(&params, 0.1);
            let old = no_grad(|| policy.forward(&x, Mode::Eval).log_softmax(1));
            let first = read.then(|| values(&old));
            for _ in 0..3 {
                let new = policy.forward(&x, Mode::Train).log_softmax(1);
                let loss = (&new - &old).exp().square().mean_all();
                optimizer.step(&loss).unwrap();
                assert!(loss.item().unwrap().is_finite());
            }
            let kept = values(&old);
            assert!(first.is_none_or(|first| first == kept));
            // They are those of the policy as it was.
            let fresh = ParamStore::new(&device, 3);
            assert_near(&kept, &values(&mlp(&fresh, 4).forward(&x, Mode::Eval).log_softmax(1)));
        }
    }
}

#[test]
fn detached_old_log_probabilities_serve_several_updates() {
    for device in devices() {
        let params = ParamStore::new(&device, 3);
        let (policy, x) = (mlp(&params, 4), inputs(&device, 6, 1));
        let mut optimizer = sgd(&params, 0.1);
        let old = policy.forward(&x, Mode::Train).log_softmax(1).detach();
        assert!(!old.requires_grad());
        for _ in 0..3 {
            let new = policy.forward(&x, Mode::Train).log_softmax(1);
            optimizer.step(&(&new - &old).exp().square().mean_all()).unwrap();
        }
    }
}

#[test]
fn a_teacher_s_targets_outlive_updates_of_both_models() {
    for device in devices() {
        let [teacher, student] = [3, 4].map(|seed| ParamStore::new(&device, seed));
        let (x, nets) = (inputs(&device, 6, 1), [mlp(&teacher, 4), mlp(&student, 4)]);
        let mut optimizers = [&teacher, &student].map(|params| sgd(params, 0.1));
        let targets = nets[0].forward(&x, Mode::Train).softmax(1).detach();
        let want = {
            let fresh = ParamStore::new(&device, 3);
            values(&mlp(&fresh, 4).forward(&x, Mode::Train).softmax(1))
        };
        for _ in 0..3 {
            let loss = (nets[1].forward(&x, Mode::Train).softmax(1) - &targets).square().sum_all();
            optimizers[1].step(&loss).unwrap();
            optimizers[0].step(&nets[0].forward(&x, Mode::Train).square().sum_all()).unwrap();
        }
        assert_near(&values(&targets), &want);
    }
}

#[test]
fn losses_may_be_summed_and_kept_and_read_at_the_end() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params, 0.5);
        let (mut total, mut with_history) = (device.zeros(&[]), device.zeros(&[]));
        let (mut kept, mut detached) = (vec![], vec![]);
        for _ in 0..12 {
            let loss = w.tensor().sum_all();
            detached.push(loss.detach());
            optimizer.step(&loss).unwrap();
            total = &total + loss.detach();
            with_history = &with_history + &loss;
            kept.push(loss);
        }
        let want: Vec<f64> = (0..12).map(|i| 6.0 - 1.5 * f64::from(i)).collect();
        for losses in [&kept, &detached] {
            assert_eq!(losses.iter().map(|loss| loss.item().unwrap()).collect::<Vec<_>>(), want);
        }
        let sum: f64 = want.iter().sum();
        assert_eq!(total.item().unwrap(), sum);
        assert_eq!(with_history.item().unwrap(), sum);
    }
}

#[test]
fn summing_losses_costs_no_planning() {
    let device = common::gpu();
    let (params, w) = store(&device);
    let mut optimizer = sgd(&params, 0.5);
    let mut total = device.zeros(&[]);
    let mut made = vec![];
    for _ in 0..8 {
        let loss = w.tensor().sum_all();
        optimizer.step(&loss).unwrap();
        total = &total + loss.detach();
        made.push(device.statistics().plans_made);
    }
    assert_eq!(made[3], made[7], "{made:?}");
}

#[test]
fn a_running_mean_of_evaluations_goes_on_over_updates() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params, 0.5);
        let mut mean = device.zeros(&[]);
        let mut want = 0.0;
        for round in 0..6 {
            for _ in 0..2 {
                let loss = no_grad(|| w.tensor().sum_all());
                mean = &mean * 0.5 + loss * 0.5;
                want = want * 0.5 + (6.0 - 1.5 * f64::from(round)) * 0.5;
            }
            if round % 2 == 1 {
                assert_near(&values(&mean), &[want]);
            }
            optimizer.step(&w.tensor().sum_all()).unwrap();
        }
        assert_near(&values(&mean), &[want]);
    }
}

#[test]
fn momentum_encoders_follow_the_weights() {
    for device in devices() {
        for read in [false, true] {
            let (params, w) = store(&device);
            let mut optimizer = sgd(&params, 0.5);
            let mut slow = w.tensor().detach();
            let mut want = [1.0, 2.0, 3.0];
            for step in 1..=5 {
                // The slow weights take part in the loss.
                let loss = (w.tensor() + &slow).sum_all();
                optimizer.step(&loss).unwrap();
                slow = no_grad(|| &slow * 0.75 + w.tensor() * 0.25);
                for (i, want) in want.iter_mut().enumerate() {
                    *want = *want * 0.75 + 0.25 * (1.0 + i as f64 - 0.5 * f64::from(step));
                }
                if read {
                    assert_near(&values(&slow), &want);
                }
            }
            assert_near(&values(&slow), &want);
        }
    }
}

#[test]
fn target_networks_are_refreshed_while_their_old_targets_are_in_use() {
    for device in devices() {
        let [online, target] = [5, 6].map(|seed| ParamStore::new(&device, seed));
        let (nets, x) = ([mlp(&online, 3), mlp(&target, 3)], inputs(&device, 6, 2));
        let mut optimizer = sgd(&online, 0.1);
        for _ in 0..3 {
            let targets = no_grad(|| nets[1].forward(&x, Mode::Eval) * 0.9 + 1.0);
            let want = values(&no_grad(|| nets[1].forward(&x, Mode::Eval) * 0.9 + 1.0));
            for _ in 0..2 {
                let loss = (nets[0].forward(&x, Mode::Train) - &targets).square().mean_all();
                optimizer.step(&loss).unwrap();
            }
            for (to, from) in target.parameters().iter().zip(online.parameters()) {
                to.set(&from.values().unwrap()).unwrap();
            }
            let loss = (nets[0].forward(&x, Mode::Train) - &targets).square().mean_all();
            optimizer.step(&loss).unwrap();
            assert_near(&values(&targets), &want);
        }
    }
}

#[test]
fn a_gradient_penalty_can_be_kept_over_updates() {
    for device in devices() {
        let params = ParamStore::new(&device, 7);
        let critic = mlp(&params, 1);
        let mut optimizer = sgd(&params, 0.05);
        let mut penalties = vec![];
        let mut gradients = vec![];
        for step in 0..4 {
            let x = inputs(&device, 6, step).variable();
            let score = critic.forward(&x, Mode::Train).sum_all();
            let gradient = score.gradients(&[&x]).unwrap().remove(0);
            let penalty = (gradient.square().sum(&[1]).sqrt() - 1.0).square().mean_all();
            optimizer.step(&(&score + &penalty * 10.0)).unwrap();
            penalties.push(penalty);
            gradients.push(gradient);
        }
        let read: Vec<f64> = penalties.iter().map(|penalty| penalty.item().unwrap()).collect();
        for (gradient, penalty) in gradients.iter().zip(&read) {
            let again = (gradient.square().sum(&[1]).sqrt() - 1.0).square().mean_all();
            assert_near(&[again.item().unwrap()], &[*penalty]);
        }
    }
}

#[test]
fn an_anchor_to_old_weights_holds_over_many_steps() {
    for device in devices() {
        for kind in 0..3 {
            let (params, w) = store(&device);
            let mut optimizer = sgd(&params, 0.25);
            let anchor = match kind {
                0 => w.tensor().detach(),
                1 => no_grad(|| w.tensor()),
                _ => no_grad(|| w.tensor() * 1.0),
            };
            for _ in 0..4 {
                let w = w.tensor();
                optimizer.step(&((&w - &anchor).square().sum_all() + w.sum_all())).unwrap();
            }
            assert_eq!(values(&anchor), [1.0, 2.0, 3.0]);
            // d <- d - 0.25 (2 d + 1), four times from 0.
            assert_near(&values(&(w.tensor() - &anchor)), &[-0.46875; 3]);
        }
    }
}

#[test]
fn hidden_states_are_carried_over_steps() {
    for device in devices() {
        let run = |read: bool| {
            let (params, w) = store(&device);
            let mut optimizer = sgd(&params, 0.125);
            let mut hidden = device.zeros(&[3]);
            for _ in 0..5 {
                hidden = (hidden.detach() * 0.5 + w.tensor()).tanh();
                if read {
                    values(&hidden);
                }
                optimizer.step(&hidden.sum_all()).unwrap();
            }
            [values(&hidden), values(&w.tensor())].concat()
        };
        assert_near(&run(false), &run(true));
    }
}

#[test]
fn replayed_states_serve_later_losses() {
    for device in devices() {
        let params = ParamStore::new(&device, 8);
        let (encoder, head) = (mlp(&params, 5), Linear::new(&params.root().child("head"), 5, 2));
        let mut optimizer = sgd(&params, 0.1);
        let mut replay: Vec<(Tensor, Vec<f64>)> = vec![];
        for step in 0..5 {
            let state = encoder.forward(&inputs(&device, 4, step), Mode::Train);
            let kept = state.detach();
            let old: Vec<&Tensor> = replay.iter().map(|(state, _)| state).chain([&state]).collect();
            let loss = head.forward(&Tensor::concat(&old, 0), Mode::Train).square().mean_all();
            let now = values(&no_grad(|| encoder.forward(&inputs(&device, 4, step), Mode::Eval)));
            optimizer.step(&loss).unwrap();
            replay.push((kept, now));
        }
        for (kept, now) in &replay {
            assert_near(&values(kept), now);
        }
    }
}

#[test]
fn a_loss_recorded_before_the_update_of_another_model_can_be_stepped_on_after_it() {
    for device in devices() {
        let run = |late: bool| {
            let [generator, critic] = [9, 10].map(|seed| ParamStore::new(&device, seed));
            let (make, judge) = (mlp(&generator, 5), mlp(&critic, 1));
            let mut optimizers = [&generator, &critic].map(|params| sgd(params, 0.1));
            for step in 0..3 {
                let fake = make.forward(&inputs(&device, 4, step), Mode::Train);
                let judged = judge.forward(&fake.detach(), Mode::Train).square().mean_all();
                if !late {
                    optimizers[1].step(&judged).unwrap();
                }
                let fooled = match late {
                    // A generator's loss that does not go through the critic, so that the order of steps does not matter.
                    true => fake.square().mean_all(),
                    false => make.forward(&inputs(&device, 4, step), Mode::Train).square().mean_all(),
                };
                drop(fake);
                optimizers[0].step(&fooled).unwrap();
                if late {
                    optimizers[1].step(&judged).unwrap();
                }
            }
            critic.parameters().iter().flat_map(|param| param.values().unwrap()).collect::<Vec<f64>>()
        };
        assert_near(&run(true), &run(false));
    }
}

#[test]
fn a_gradient_beside_detached_weights_can_be_asked_for_after_their_update() {
    for device in devices() {
        for read in [false, true] {
            let (params, w) = store(&device);
            let mut optimizer = sgd(&params, 0.5);
            let v = device.tensor(&[1.0f32, -1.0, 2.0], &[3]).variable();
            let y = ((w.tensor() * 2.0).detach() * &v).sum_all();
            if read {
                y.item().unwrap();
            }
            optimizer.step(&w.tensor().sum_all()).unwrap();
            assert_eq!(values(&y.gradients(&[&v]).unwrap()[0]), [2.0, 4.0, 6.0]);
        }
    }
}

#[test]
fn only_a_gradient_through_updated_parameters_is_an_error() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params, 0.5);
        let old = w.tensor();
        let (y, loss) = (old.exp(), w.tensor().square().sum_all());
        optimizer.step(&loss).unwrap();
        let history = |error: Error| {
            assert!(matches!(error, Error::History { .. }), "{error}");
            assert!(error.to_string().contains("`w`") && error.to_string().contains("values.rs"), "{error}");
        };
        history(optimizer.step(&loss).unwrap_err());
        history(optimizer.step(&(w.tensor() * &y).sum_all()).unwrap_err());
        history(y.sum_all().gradients(&[&old]).and_then(|gradients| gradients[0].to_vec::<f32>()).unwrap_err());
        // As values they serve.
        assert_near(&values(&(&y + &loss)), &[1.0, 2.0, 3.0].map(|x: f64| x.exp() + 14.0));
        optimizer.step(&(w.tensor() * y.detach()).sum_all()).unwrap();
    }
}

#[test]
fn a_state_may_be_assigned_what_was_computed_before_an_update() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params, 0.5);
        let mean = State::new(&device.zeros(&[3]));
        for _ in 0..3 {
            let now = w.tensor();
            optimizer.step(&w.tensor().sum_all()).unwrap();
            mean.assign(&(mean.get() + now));
        }
        assert_eq!(values(&mean.get()), [1.5, 4.5, 7.5]);
    }
}

/// Bytes of this process that are in memory.
#[cfg(target_os = "linux")]
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches("kB").trim().parse::<u64>().unwrap() * 1024
}

#[test]
fn kept_losses_keep_neither_batches_nor_activations() {
    let device = common::gpu();
    let params = ParamStore::new(&device, 11);
    let net = mlp(&params, 355);
    let mut optimizer = sgd(&params, 0.01);
    let (mut losses, mut sizes) = (vec![], vec![]);
    for step in 0..40 {
        let logits = net.forward(&inputs(&device, 64, step), Mode::Train);
        let loss = logits.square().mean_all();
        optimizer.step(&loss).unwrap();
        drop(logits);
        losses.push(loss);
        sizes.push(device.memory().0);
    }
    let grown = sizes[39] - sizes[9];
    assert!(grown < 30 * 1024, "{grown} bytes for 30 losses; logits take 90,880 a step");
    assert!(losses.iter().all(|loss| loss.item().unwrap().is_finite()));
}

#[test]
#[cfg(target_os = "linux")]
fn kept_values_keep_no_host_data() {
    for device in devices() {
        let (params, w) = store(&device);
        let mut optimizer = sgd(&params, 0.01);
        let (mut kept, mut first) = (vec![], 0);
        for step in 0..26 {
            let x = device.tensor(&vec![0.5f32; 3 << 19], &[1 << 19, 3]);
            let loss = (&x * w.tensor()).mean_all();
            let metric = no_grad(|| (&x * w.tensor()).square().mean_all());
            optimizer.step(&loss).unwrap();
            kept.extend([loss, metric]);
            if step == 5 {
                device.synchronize().unwrap();
                first = resident();
            }
        }
        device.synchronize().unwrap();
        let grown = resident().saturating_sub(first);
        // Other tests of this process allocate too.
        assert!(grown < 60 << 20, "{grown} bytes for 20 batches of 6 MiB on {device:?}");
    }
}

#[test]
fn four_threads_evaluate_beside_a_trainer() {
    for device in devices() {
        let params = ParamStore::new(&device, 12);
        let w = params.root().param("w", &[3], Init::Zeros);
        let b = params.root().param("b", &[3], Init::Zeros);
        let (done, steps) = (AtomicBool::new(false), 150);
        std::thread::scope(|scope| {
            let evaluate = || {
                let (mut last, mut reads) = (0.0, 0);
                let x = device.tensor(&[1.0f32, 2.0, 3.0], &[3]);
                while !done.load(Ordering::Relaxed) || reads < 3 {
                    // Both count the steps; a thread may see an update between the two.
                    let y = no_grad(|| (&x * w.tensor()).exp().log() / &x + b.tensor());
                    let z = no_grad(|| w.tensor() * 1.0);
                    if reads % 3 == 0 {
                        std::thread::yield_now();
                    }
                    let read = y.to_vec::<f32>().expect("a value");
                    let low = z.to_vec::<f32>().expect("a value")[0];
                    let count = f64::from(read[0]) / -0.015625;
                    assert!((count - count.round()).abs() < 1e-2, "{read:?}");
                    assert!(count >= last - 1e-2 && count <= 2.0 * f64::from(steps) + 1e-2, "{count} after {last}");
                    assert!(f64::from(low) / -0.015625 >= (count / 2.0).floor() - 1e-2, "{low} {count}");
                    (last, reads) = (count, reads + 1);
                }
                assert!(reads >= 3);
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(evaluate)).collect();
            let mut optimizer = sgd(&params, 0.015625);
            for step in 0..steps {
                let loss = (w.tensor() + b.tensor()).sum_all();
                optimizer.step(&loss).expect("a step");
                let want = -0.015625 * 6.0 * f64::from(step);
                assert!((loss.item().expect("a loss") - want).abs() < 1e-3);
            }
            done.store(true, Ordering::Relaxed);
            threads.into_iter().for_each(|thread| thread.join().expect("a thread without a failure"));
        });
    }
}
