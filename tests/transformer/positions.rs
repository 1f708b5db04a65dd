//! Positions: tables against the formulas of the papers, and what a rotation leaves as it is.

use kiln::nn::{LearnedPositions, RotaryConfig, RotaryEmbedding, RotaryPairs, SinusoidalPositions};
use kiln::prelude::*;

use super::common;

fn both() -> [(Device, f64); 2] {
    [(Device::cpu(), 1e-12), (common::gpu(), 2e-6)]
}

fn pairs(pairs: RotaryPairs) -> RotaryConfig {
    RotaryConfig { pairs, ..RotaryConfig::default() }
}

/// RoFormer, equation 34.
#[test]
fn pairs_are_turned_by_position_times_frequency() {
    let (features, length, offset) = (6, 5, 3);
    for (device, bound) in both() {
        for (config, partner) in [(pairs(RotaryPairs::Neighbours), 1), (pairs(RotaryPairs::Halves), features / 2)] {
            let rotary = RotaryEmbedding::with(&device, features, 8, config);
            let x = device.normal(&[2, length, features], 0.0, 1.0, 1);
            let (y, x) = (rotary.rotate(&x, offset).to_array().unwrap().data, x.to_array().unwrap().data);
            for at in 0..2 * length {
                for pair in 0..features / 2 {
                    let first = at * features + if partner == 1 { 2 * pair } else { pair };
                    let position = (offset + at % length) as f64;
                    let angle = position * 10_000f64.powf(-2.0 * pair as f64 / features as f64);
                    let (a, b) = (x[first], x[first + partner]);
                    let want = [a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin()];
                    let error = (y[first] - want[0]).abs().max((y[first + partner] - want[1]).abs());
                    assert!(error < bound, "{config:?}: {error:e}");
                }
            }
        }
    }
}

#[test]
fn products_of_turned_vectors_depend_on_their_distance_alone() {
    let device = Device::cpu();
    for config in [pairs(RotaryPairs::Neighbours), pairs(RotaryPairs::Halves)] {
        let rotary = RotaryEmbedding::with(&device, 8, 2048, config);
        let [q, k] = [1, 2].map(|seed| device.normal(&[1, 8], 0.0, 1.0, seed));
        let product = |of_query: usize, of_key: usize| {
            (rotary.rotate(&q, of_query) * rotary.rotate(&k, of_key)).sum_all().item().unwrap()
        };
        let [near, far, other] = [product(9, 4), product(2005, 2000), product(9, 5)];
        assert!((near - far).abs() < 1e-9 && (near - other).abs() > 1e-3, "{near} {far} {other}");
    }
}

/// "Attention Is All You Need", section 3.5.
#[test]
fn sinusoidal_positions_are_those_of_the_paper() {
    for (device, bound) in both() {
        let positions = SinusoidalPositions::new(&device, 4096, 6);
        let y = positions.add(&device.zeros(&[2, 3, 6]), 4000).to_array().unwrap().data;
        for (at, got) in y.iter().enumerate() {
            let (position, feature) = ((4000 + at / 6 % 3) as f64, at % 6);
            let angle = position / 10_000f64.powf((feature / 2 * 2) as f64 / 6.0);
            let want = if feature % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((got - want).abs() < bound, "{at}: {got} instead of {want}");
        }
    }
}

#[test]
fn learned_positions_have_the_gradients_of_the_rows_they_took() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let positions = LearnedPositions::new(&params.root(), 7, 2);
        let y = positions.add(&device.zeros(&[3, 2, 2]), 4);
        let gradient = y.sum_all().gradients(&[&positions.weight.tensor()]).unwrap().remove(0);
        let mut want = [0f32; 14];
        want[8..12].fill(3.0);
        assert_eq!(gradient.to_vec::<f32>().unwrap(), want);
    }
}

#[test]
fn positions_that_there_are_none_of_are_refused_by_name() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 1);
    let rotary = RotaryEmbedding::new(&device, 4, 8);
    let sinusoidal = SinusoidalPositions::new(&device, 8, 4);
    let learned = LearnedPositions::new(&params.root().child("positions"), 8, 4);
    let x = device.zeros(&[1, 3, 4]);
    for y in [rotary.rotate(&x, 6), sinusoidal.add(&x, usize::MAX), learned.add(&x, 6)] {
        let error = y.shape().unwrap_err();
        assert!(matches!(error, Error::Value { .. }) && error.to_string().contains("of 8"), "{error}");
    }
    for y in [rotary.rotate(&device.zeros(&[3, 6]), 0), sinusoidal.add(&device.zeros(&[4]), 0)] {
        assert!(matches!(y.shape(), Err(Error::Shape { .. })));
    }
    let odd = RotaryEmbedding::new(&device, 5, 8).rotate(&device.zeros(&[3, 5]), 0);
    assert!(matches!(odd.shape(), Err(Error::Shape { .. })));
}
