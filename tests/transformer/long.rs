//! Attention over long sequences: its values, its memory, its loops.

use kiln::kernel::{Capabilities, MAX_ITERATIONS};
use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::plan::Plan;
use kiln::prelude::*;
use kiln::rng::Philox;

use super::common;

/// Attention of `heads` heads of `length` queries and as many keys, 64 wide, with its gradients.
fn attended(device: &Device, heads: usize, length: usize, options: &AttentionOptions<'_>) -> Vec<Tensor> {
    let [q, k, v] = [1, 2, 3].map(|seed| device.normal(&[1, heads, length, 64], 0.0, 1.0, seed).variable());
    let y = q.scaled_dot_product_attention(&k, &v, options);
    let mut all = y.square().sum_all().gradients(&[&q, &k, &v]).unwrap();
    all.push(y);
    all
}

/// The plan of [`attended`] on a device with these capabilities.
fn plan(capabilities: &Capabilities, length: usize, options: &AttentionOptions<'_>) -> Plan {
    let cpu = Device::cpu();
    let all = attended(&cpu, 4, length, options);
    cpu.plan_for(&all.iter().collect::<Vec<_>>(), capabilities, true).unwrap()
}

fn kinds() -> [Capabilities; 2] {
    let software = Capabilities { software: true, subgroup: Some(8), pairs: true, ..Capabilities::default() };
    [software, Capabilities::default()]
}

#[test]
fn long_sequences_take_a_fifth_of_the_memory_of_their_weights_at_most_and_it_grows_with_their_length() {
    let causal = AttentionOptions { causal: true, form: AttentionForm::Blocks, ..AttentionOptions::default() };
    let composed = AttentionOptions { form: AttentionForm::Composed, ..causal };
    for capabilities in kinds() {
        let bytes = |length: usize, options| plan(&capabilities, length, options).peak_bytes();
        let [blocks, whole, long] = [bytes(1024, &causal), bytes(1024, &composed), bytes(8192, &causal)];
        assert!(5 * blocks <= whole, "{blocks} of {whole} bytes");
        // Eight times the length, and larger blocks for it; weights would take 64 times as much.
        assert!(long <= 13 * blocks, "{blocks} bytes for 1024, {long} for 8192");
    }
}

#[test]
fn no_loop_of_8192_keys_comes_near_to_what_drivers_allow() {
    for capabilities in kinds() {
        let plan = plan(&capabilities, 8192, &AttentionOptions::default());
        let most = plan.dispatches.iter().map(|dispatch| dispatch.iterations).max().unwrap();
        assert!(most <= MAX_ITERATIONS, "{most} rounds");
        assert!(plan.to_string().contains("attention"), "{plan}");
    }
}

#[test]
fn rows_of_4096_queries_are_those_of_f64() {
    const LENGTH: usize = 4096;
    let device = common::gpu();
    let causal = AttentionOptions { causal: true, ..AttentionOptions::default() };
    let [q, k, v] = [1, 2, 3].map(|seed| device.normal(&[1, LENGTH, 64], 0.0, 1.0, seed).variable());
    let cotangent = device.normal(&[1, LENGTH, 64], 0.0, 1.0, 4);
    let y = q.scaled_dot_product_attention(&k, &v, &causal);
    let gradients = (&y * &cotangent).sum_all().gradients(&[&q, &v]).unwrap();
    device.eval(&[&y, &gradients[0], &gradients[1]]).unwrap();
    let read = |x: &Tensor| x.to_array().unwrap().data;
    let [q, k, v, g, y, dq, dv] = [&q, &k, &v, &cotangent, &y, &gradients[0], &gradients[1]].map(read);
    let row = |x: &[f64], i: usize| x[64 * i..][..64].to_vec();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let mut rng = Philox::new(7, 0);
    let mut worst = [0f64; 2];
    for _ in 0..64 {
        let i = rng.below(LENGTH as u32) as usize;
        let (qi, gi) = (row(&q, i), row(&g, i));
        let powers: Vec<f64> = (0..=i).map(|j| (dot(&qi, &row(&k, j)) / 8.0).exp()).collect();
        let sum: f64 = powers.iter().sum();
        let mut want = vec![0.0; 64];
        for (j, power) in powers.iter().enumerate() {
            want.iter_mut().zip(row(&v, j)).for_each(|(out, v)| *out += power / sum * v);
        }
        let delta = dot(&gi, &want);
        let mut of_query = vec![0.0; 64];
        for (j, power) in powers.iter().enumerate() {
            let slope = power / sum * (dot(&gi, &row(&v, j)) - delta) / 8.0;
            of_query.iter_mut().zip(row(&k, j)).for_each(|(out, k)| *out += slope * k);
        }
        for (worst, (got, want)) in worst.iter_mut().zip([(row(&y, i), want), (row(&dq, i), of_query)]) {
            let errors = got.iter().zip(&want).map(|(got, want)| (got - want).abs());
            *worst = errors.fold(*worst, f64::max);
        }
    }
    assert!(worst.iter().all(|worst| *worst < 2e-5), "{worst:?}");
    // The weights of a query sum to 1: the gradients of all values are those of all results.
    for column in 0..64 {
        let sum = |x: &[f64]| (0..LENGTH).map(|i| x[64 * i + column]).sum::<f64>();
        assert!((sum(&dv) - sum(&g)).abs() < 1e-2, "{} {}", sum(&dv), sum(&g));
    }
}
