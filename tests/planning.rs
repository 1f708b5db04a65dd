//! Planning: how its time grows with the graph, how many host numbers a run may carry, and that depth costs no stack.

mod common;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use kiln::Draws;
use kiln::kernel::Capabilities;
use kiln::nn::{Linear, Mode, Module};
use kiln::plan::Plan;
use kiln::prelude::*;

fn software() -> Capabilities {
    Capabilities { software: true, subgroup: Some(8), storage_buffers: 16, ..Capabilities::default() }
}

fn input(device: &Device, shape: &[usize], seed: u64) -> Tensor {
    device.array(&common::normals(shape, seed))
}

/// Time that this thread has spent on a processor, where the system tells; else the time of day.
fn spent() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = text.split(' ').next().and_then(|first| first.parse().ok());
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    nanoseconds.map_or_else(|| START.get_or_init(Instant::now).elapsed(), Duration::from_nanos)
}

/// A chain of linear layers.
fn layers(count: usize) -> Plan {
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let mut h = input(&cpu, &[5, 8], 1);
    for i in 0..count {
        h = Linear::new(&params.root().child(format!("l{i}")), 8, 8).forward(&h, Mode::Train).tanh();
    }
    step(&params, &h.square().mean_all())
}

/// A recurrent net over so many time steps, all of whose states are held and have a part in the loss.
fn recurrent(count: usize) -> Plan {
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let [from_input, from_state] =
        [("input", 3), ("state", 8)].map(|(n, k)| Linear::new(&params.root().child(n), k, 8));
    let data = input(&cpu, &[5, count, 3], 1);
    let (mut h, mut held, mut loss) = (cpu.zeros(&[5, 8]), vec![], cpu.zeros(&[]));
    for t in 0..count {
        let x = data.slice(1, t, 1).reshape(&[5, 3]);
        h = (from_input.forward(&x, Mode::Train) + from_state.forward(&h, Mode::Train)).tanh();
        loss += h.square().mean_all();
        held.push(h.clone());
    }
    step(&params, &loss)
}

/// A chain of products and sums with host numbers, and its gradient.
fn affine(count: usize) -> Plan {
    let cpu = Device::cpu();
    let x = input(&cpu, &[37], 1).variable();
    let y = (0..count).fold(x.clone(), |y, i| y * (1.0 + 1e-3 * i as f64) + 0.5);
    let gradient = y.sum_all().gradients(&[&x]).expect("gradients");
    cpu.plan_for(&[&y, &gradient[0]], &software(), true).expect("a plan")
}

/// Many small sums that do not depend on each other.
fn independent(count: usize) -> Plan {
    let cpu = Device::cpu();
    let parts: Vec<Tensor> = (0..count).map(|i| input(&cpu, &[3, 5], i as u64).exp().sum(&[0])).collect();
    cpu.plan_for(&parts.iter().collect::<Vec<_>>(), &software(), true).expect("a plan")
}

/// One tensor that everything reads.
fn hub(count: usize) -> Plan {
    let cpu = Device::cpu();
    let x = input(&cpu, &[37], 1).exp();
    let parts: Vec<Tensor> = (0..count).map(|i| (&x * (i as f64)).tanh().sum_all()).collect();
    let total = parts.iter().fold(cpu.zeros(&[]), |sum, part| sum + part);
    cpu.plan_for(&[&total], &software(), true).expect("a plan")
}

fn step(params: &ParamStore, loss: &Tensor) -> Plan {
    AdamW::new(params, AdamWConfig::default()).plan_for(loss, true, &software(), true).expect("a plan")
}

#[test]
fn planning_grows_with_the_graph_and_not_with_its_square() {
    type Kind = (&'static str, fn(usize) -> Plan, usize);
    let kinds: [Kind; 5] = [
        ("layers", layers, 150),
        ("recurrent", recurrent, 100),
        ("affine", affine, 500),
        ("independent", independent, 300),
        ("hub", hub, 300),
    ];
    for (name, plan, count) in kinds {
        // The least of some tries: others on the machine make it longer, never shorter. Recording is part of it.
        let time = |count: usize, tries: u32| {
            let once = |_| {
                let before = spent();
                plan(count);
                (spent() - before).as_secs_f64()
            };
            (0..tries).map(once).fold(f64::INFINITY, f64::min)
        };
        let factors: Vec<f64> = (0..3).map(|_| time(8 * count, 1) / time(count, 3)).collect();
        let factor = factors.iter().copied().fold(f64::INFINITY, f64::min);
        // Eight times the nodes: 8 times as long, or 64 times.
        assert!(factor < 20.0, "{name}: {factors:.1?} times as long for eight times the graph");
    }
}

#[test]
fn equal_layers_share_the_texts_of_their_kernels() {
    for plan in [layers(100), recurrent(100)] {
        let all = plan.dispatches.len();
        let texts: HashSet<&str> = plan.dispatches.iter().map(|dispatch| &**dispatch.source()).collect();
        let objects: HashSet<*const u8> = plan.dispatches.iter().map(|dispatch| dispatch.source().as_ptr()).collect();
        assert!(all > 200 && texts.len() < 40, "{} texts for {all} dispatches", texts.len());
        let mut names: Vec<String> = plan.dispatches.iter().map(|dispatch| dispatch.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(objects.len(), texts.len(), "{names:?}");
    }
}

/// `x` after `count` products and sums, on a device or by hand.
fn folded(x: &Tensor, count: usize, shift: f64) -> Tensor {
    (0..count).fold(x.clone(), |y, i| y * factor(i, shift) + term(i))
}

fn factor(i: usize, shift: f64) -> f64 {
    0.9 + shift + (i % 97) as f64 * 1e-3
}

fn term(i: usize) -> f64 {
    (i % 89) as f64 * 1e-2 - 0.3
}

#[test]
fn a_run_carries_twenty_thousand_host_numbers() {
    let gpu = common::gpu();
    let data = common::normals(&[37], 1).data;
    for shift in [0.0, 0.01] {
        let got = folded(&input(&gpu, &[37], 1), 10_000, shift).to_vec::<f32>().expect("a value");
        let step = |y: f64, i: usize| y * f64::from(factor(i, shift) as f32) + f64::from(term(i) as f32);
        for (got, x) in got.iter().zip(&data) {
            let want = (0..10_000).fold(*x, step);
            assert!((f64::from(*got) - want).abs() < 1e-5 * (1.0 + want.abs()), "{got} instead of {want}");
        }
    }
}

/// As much as one program can do with host numbers: starts of slices, random draws, numbers of merged kernels.
fn mixture(device: &Device, draws: &Draws, count: usize) -> (Tensor, Tensor) {
    let x = input(device, &[41, 5], 1);
    let mut y = input(device, &[5], 2);
    let mut parts = vec![];
    for i in 0..count {
        y = y * factor(i, 0.0) + x.slice(0, i % 41, 1).reshape(&[5]) * term(i);
        if i % 40 == 0 {
            y = y.dropout(0.1, draws);
        }
        if i % 2 == 0 {
            parts.push((&x * factor(i, 0.0)).sum_all());
        }
    }
    let parts = parts.iter().collect::<Vec<_>>();
    (y, Tensor::concat(&parts.iter().map(|part| part.reshape(&[1])).collect::<Vec<_>>().iter().collect::<Vec<_>>(), 0))
}

#[test]
fn starts_of_slices_draws_and_merged_kernels_find_their_numbers_among_thousands() {
    let (cpu, gpu) = (Device::cpu(), common::gpu());
    let run = |device: &Device| {
        let (a, b) = mixture(device, &Draws::new(3), 400);
        device.eval(&[&a, &b]).expect("a run");
        [a, b].map(|tensor| tensor.to_array().expect("a value").data)
    };
    for (got, want) in run(&gpu).iter().zip(&run(&cpu)) {
        for (g, w) in got.iter().zip(want) {
            assert!((g - w).abs() < 1e-4 * (1.0 + w.abs()), "{g} instead of {w}");
        }
    }
}

#[test]
fn the_numbers_of_an_update_are_found_behind_thousands_of_others() {
    let train = |device: &Device| {
        let params = ParamStore::new(device, 1);
        let weight = params.root().param("weight", &[37], Init::Normal { mean: 0.0, deviation: 1.0 });
        let config = AdamWConfig { lr: 1e-2, weight_decay: 1e-2, ..AdamWConfig::default() };
        let mut adamw = AdamW::new(&params, config).clip_norm(1.0);
        for i in 0..2 {
            adamw.set_lr(1e-2 / f64::from(i + 1)).expect("a rate");
            let loss = folded(&weight.tensor(), 600, 0.05).square().mean_all();
            adamw.step(&loss).expect("a step");
        }
        weight.tensor().to_array().expect("a value").data
    };
    let gpu = common::gpu();
    for (g, w) in train(&gpu).iter().zip(&train(&Device::cpu())) {
        assert!((g - w).abs() < 1e-5, "{g} instead of {w}");
    }
}

#[test]
fn deep_graphs_need_no_deep_stack() {
    let run = || {
        let cpu = Device::cpu();
        let plan = |tensors: &[&Tensor]| cpu.plan_for(tensors, &software(), true).expect("a plan").dispatches.len();
        let x = input(&cpu, &[37], 1).variable();
        let gradient = |y: &Tensor| y.sum_all().gradients(&[&x]).expect("gradients").remove(0);
        let deep = (0..20_000).fold(x.clone(), |y, _| y.tanh());
        assert!(plan(&[&deep, &gradient(&deep)]) > 10);
        // A chain of constants in the backward pass, of views, and of ops read at other indices.
        let turned = (0..5_000).fold(x.clone(), |y, _| 1.0 - y);
        plan(&[&turned, &gradient(&turned)]);
        let viewed = (0..5_000).fold(x.clone(), |y, i| if i % 2 == 0 { y.reshape(&[37, 1]) } else { y.reshape(&[37]) });
        plan(&[&viewed.exp(), &gradient(&viewed.exp())]);
        let shifted = (0..3_000).fold(x.reshape(&[37, 1]), |y, _| y.expand(&[37, 2]).slice(1, 1, 1).exp());
        plan(&[&shifted]);
        let again = (0..2_000).fold(x.clone(), |y, _| kiln::recompute(|| y.tanh().exp()));
        plan(&[&again, &gradient(&again)]);
        let inside = kiln::recompute(|| (0..5_000).fold(x.clone(), |y, _| y.tanh()));
        plan(&[&inside, &gradient(&inside)]);
    };
    std::thread::Builder::new().stack_size(2 << 20).spawn(run).unwrap().join().expect("no overflow");
}

#[test]
fn a_constant_that_four_lanes_cannot_read_is_stored() {
    // Of five columns, a reduction that reads four elements at a time cannot form the constant by itself.
    let cpu = Device::cpu();
    let plan = |seed: u64| {
        let x = input(&cpu, &[8, 5], seed);
        let ones = cpu.ones(&[8, 1]).expand(&[8, 5]).exp();
        let y = ones.softmax(1) + &x;
        cpu.plan_for(&[&y], &Capabilities::default(), true).map(|plan| plan.dispatches.len())
    };
    assert!(plan(1).is_ok(), "{:?}", plan(1).err());
}
