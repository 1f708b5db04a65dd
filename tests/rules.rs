//! Optimizers with a rule of the user's own.

mod common;

use kiln::kernel::Shader;
use kiln::ops::Problem;
use kiln::optim::{Correction, Factors, Rule, Settings, Stepper};
use kiln::prelude::*;

/// theta <- theta - lr sign(g).
struct Signs(f64);

const SIGNS: &str = "
@group(0) @binding(0) var<storage, read_write> theta: array<V>;
@group(0) @binding(1) var<storage, read> gradients: array<V>;

struct Factors {
    rate: f32,
}

fn factors_at(at: u32, correction: vec2<f32>) -> Factors {
    return Factors(factor(at).x * correction.x);
}

fn apply(i: u32, clip: f32, f: Factors) {
    var x: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        x[k] = part(theta[i], k) - f.rate * sign(clip * part(gradients[i], k));
    }
    theta[i] = joined(x);
}
";

/// Half of the rate in the first update.
const SLOWER: &str = "
fn correction(constants: vec4<f32>, count: u32) -> vec2<f32> {
    return vec2<f32>(select(1.0, constants.x, count == 1u));
}
";

impl Rule for Signs {
    fn name(&self) -> &'static str {
        "signs"
    }

    fn settings(&self) -> Settings<'_> {
        Settings { lr: self.0, weight_decay: 0.0, clip_norm: None, groups: &[] }
    }

    fn set_lr(&mut self, lr: f64) {
        self.0 = lr;
    }

    fn moments(&self) -> &'static [&'static str] {
        &[]
    }

    fn is_never_negative(&self, _: &str) -> bool {
        false
    }

    fn shader(&self) -> impl Into<Shader> {
        SIGNS
    }

    fn correction(&self) -> Option<Correction> {
        Some(Correction { wgsl: SLOWER, constants: [0.5, 0.0, 0.0, 0.0] })
    }

    fn factors(&self, lr: f64, _: f64, updates: u64) -> Factors {
        let rate = if updates == 0 { 0.5 * lr } else { lr };
        [rate, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    }

    fn reference(&self, factors: &Factors, value: f64, gradient: f64, _: &mut [f64; 2]) -> f64 {
        value - factors[0] * gradient.signum()
    }

    fn check(&self) -> std::result::Result<(), Problem> {
        Ok(())
    }
}

#[test]
fn a_rule_of_ones_own_brings_its_shader_as_a_text() {
    for device in [common::gpu(), Device::cpu()] {
        let store = ParamStore::new(&device, 0);
        let parameter = store.root().param("p", &[3], Init::Ones);
        let mut signs = Stepper::new(&store, Signs(0.5));
        for _ in 0..2 {
            let gradient = device.tensor(&[-7.0f32, 0.5, 3.0], &[3]);
            signs.step(&(parameter.tensor() * gradient).sum_all()).unwrap();
        }
        assert_eq!(parameter.values().unwrap(), [1.75, 0.25, 0.25]);
    }
}
