//! Optimizers with a rule of the user's own.

mod common;

use kiln::kernel::Shader;
use kiln::ops::Problem;
use kiln::optim::{Adafactor, AdafactorConfig, Moment, Muon, MuonConfig, Now, Numbers, Rule, Stepper, Update};
use kiln::prelude::*;

/// theta <- theta - lr sign(g) n / |theta|, with n the number of updates, and half of lr in the first one.
#[derive(Debug)]
struct Signs(f64);

const SIGNS: &str = "
@group(0) @binding(0) var<storage, read_write> theta: array<V>;
@group(0) @binding(1) var<storage, read> gradients: array<V>;
@group(0) @binding(2) var<storage, read_write> seen: array<V>;

struct Factors {
    rate: f32,
}

fn factors_at(at: u32, corrected: vec4<f32>, sums: vec2<f32>) -> Factors {
    return Factors(factor(at).x * corrected.x * corrected.y / sqrt(sums.x));
}

fn measure(i: u32, clip: f32, f: Factors) -> vec2<f32> {
    var sum = 0.0;
    for (var k = 0u; k < PARTS; k++) {
        let x = select(vec4<f32>(0.0), part(theta[i], k), inside(i, k));
        sum += dot(x, x);
    }
    return vec2<f32>(sum, 0.0);
}

fn apply(i: u32, clip: f32, f: Factors) {
    var x: array<vec4<f32>, PARTS>;
    var s: array<vec4<f32>, PARTS>;
    for (var k = 0u; k < PARTS; k++) {
        x[k] = part(theta[i], k);
        let g = adjust(part(gradients[i], k), x[k], clip);
        s[k] = part(seen[i], k) + g;
        x[k] -= f.rate * sign(g);
    }
    theta[i] = joined(x);
    seen[i] = joined(s);
}
";

/// Half of the rate in the first update; counts them a second time.
const SLOWER: &str = "
fn correction(at: u32, count: u32, kept: vec4<f32>) -> Corrected {
    let next = kept.x + 1.0;
    return Corrected(vec4<f32>(select(1.0, factor(at).y, count == 1u), next, 0.0, 0.0), vec4<f32>(next));
}
";

impl Rule for Signs {
    fn name(&self) -> &'static str {
        "signs"
    }

    fn lr(&self) -> f64 {
        self.0
    }

    fn moments(&self) -> Vec<Moment> {
        vec![Moment::new("seen")]
    }

    fn kept(&self) -> &'static [&'static str] {
        &["updates"]
    }

    fn shader(&self) -> Shader {
        SIGNS.into()
    }

    fn correction(&self) -> Option<Shader> {
        Some(SLOWER.into())
    }

    fn measures(&self) -> bool {
        true
    }

    fn numbers(&self, now: &Now) -> Numbers {
        let mut numbers = Numbers::default();
        (numbers[0], numbers[1]) = (now.lr, 0.5);
        numbers
    }

    fn reference(&self, update: &mut Update<'_>) {
        update.kept[0] += 1.0;
        let rate = if update.count == 1 { 0.5 * self.0 } else { self.0 };
        let norm = update.values.iter().map(|x| x * x).sum::<f64>().sqrt();
        let rate = rate * update.kept[0] / norm;
        update.each(|x, g, [seen]| {
            *seen += g;
            x - rate * g.signum()
        });
    }

    fn check(&self) -> std::result::Result<(), Problem> {
        Ok(())
    }
}

#[test]
fn a_rule_of_ones_own_brings_its_shader_as_a_text() {
    let run = |device: &Device| {
        let store = ParamStore::new(device, 0);
        let all: Vec<Param> = [3, 37, 131].iter().map(|n| store.root().param(n, &[*n], Init::Ones)).collect();
        let mut signs = Stepper::new(&store, Signs(0.5)).clip_value(2.0);
        for step in 0..3 {
            let product = |(i, p): (usize, &Param)| {
                let gradient = common::normals(&p.shape().unwrap(), 10 * step + i as u64);
                (p.tensor() * device.array(&gradient) * 4.0).sum_all()
            };
            signs.step(&all.iter().enumerate().map(product).reduce(|a, b| a + b).unwrap()).unwrap();
        }
        let state = signs.state().unwrap();
        assert_eq!(state.kept.iter().map(|(_, kept)| kept[0]).collect::<Vec<_>>(), [3.0; 3]);
        let seen: Vec<f64> = state.tensors.iter().flat_map(|(_, _, values)| values.clone()).collect();
        assert!(seen.iter().all(|x| x.abs() <= 6.0) && seen.iter().any(|x| x.abs() > 2.0), "{seen:?}");
        (all.iter().flat_map(|p| p.values().unwrap()).collect::<Vec<_>>(), seen)
    };
    let (gpu, cpu) = (run(&common::gpu()), run(&Device::cpu()));
    for (got, want) in gpu.0.iter().zip(&cpu.0).chain(gpu.1.iter().zip(&cpu.1)) {
        assert!((got - want).abs() < 1e-5, "{got} {want}");
    }
}

/// Twelve steps of an optimizer over parameters of these shapes: their values, and the state's.
fn twelve_steps(device: &Device, shapes: &[&[usize]], make: &dyn Fn(&ParamStore) -> Box<dyn Optimizer>) -> Vec<f64> {
    let store = ParamStore::new(device, 7);
    let init = Init::Normal { mean: 0.1, deviation: 1.0 };
    let all: Vec<Param> = shapes.iter().enumerate().map(|(i, shape)| store.root().param(i, shape, init)).collect();
    let mut optimizer = make(&store);
    for step in 0..12 {
        let product = |(i, p): (usize, &Param)| {
            let gradient = common::normals(&p.shape().unwrap(), 100 * step + i as u64);
            (p.tensor() * device.array(&gradient)).sum_all()
        };
        // A parameter that is reached later counts its own updates.
        let reached = if step < 3 { all.len() - 1 } else { all.len() };
        let loss = all[..reached].iter().enumerate().map(product).reduce(|a, b| a + b).unwrap();
        optimizer.step(&loss).unwrap();
    }
    let state = optimizer.state().unwrap();
    let kept = state.tensors.into_iter().flat_map(|(_, _, values)| values);
    all.iter().flat_map(|p| p.values().unwrap()).chain(kept).collect()
}

fn same_on_both(shapes: &[&[usize]], make: &dyn Fn(&ParamStore) -> Box<dyn Optimizer>) {
    as_on_the_reference(&common::gpu(), shapes, make);
}

fn as_on_the_reference(device: &Device, shapes: &[&[usize]], make: &dyn Fn(&ParamStore) -> Box<dyn Optimizer>) {
    let (got, want) = (twelve_steps(device, shapes, make), twelve_steps(&Device::cpu(), shapes, make));
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= 2e-5 * want.abs().max(0.1), "{} {i}: {got} {want}", device.name());
    }
}

#[test]
fn adafactor_keeps_rows_and_columns() {
    let shapes: [&[usize]; 6] = [&[5, 7], &[3], &[70, 90], &[2, 3, 4], &[131], &[131, 37]];
    let config = || AdafactorConfig { lr: 0.1, weight_decay: 0.05, ..Default::default() };
    let make = |store: &ParamStore| -> Box<dyn Optimizer> { Box::new(Adafactor::new(store, config()).clip_norm(20.0)) };
    // Rows of whole vectors, and such that are not; large matrices by teams of lanes, in eights and in fours, and by tiles as on a GPU.
    let whole: [&[usize]; 4] = [&[70, 88], &[3, 65, 72], &[16, 8], &[131]];
    let wide: [&[usize]; 6] = [&[131], &[9, 1048], &[5, 7], &[3, 6, 96], &[12, 36], &[66, 520]];
    let hardware = Device::named_as_if("vulkan", |capabilities| capabilities.software = false).unwrap();
    let fours = Device::named_as_if("vulkan", |capabilities| capabilities.pairs = false).unwrap();
    for device in [common::gpu(), fours, hardware] {
        as_on_the_reference(&device, &shapes, &make);
        as_on_the_reference(&device, &whole, &make);
        as_on_the_reference(&device, &whole[..2], &make);
        as_on_the_reference(&device, &wide, &make);
        as_on_the_reference(&device, &[wide[1], wide[5]], &make);
    }
    let store = ParamStore::new(&Device::cpu(), 0);
    let weight = store.root().param("weight", &[30, 40], Init::Ones);
    let mut adafactor = Adafactor::new(&store, config());
    adafactor.step(&weight.tensor().square().sum_all()).unwrap();
    let kept: usize = adafactor.state().unwrap().tensors.iter().map(|(.., values)| values.len()).sum();
    assert_eq!(kept, 70, "rows and columns alone");
}

#[test]
fn muon_makes_matrices_orthogonal_and_leaves_vectors_to_another_rule() {
    let shapes: [&[usize]; 6] = [&[5, 7], &[3], &[70, 90], &[90, 33], &[131, 37], &[4, 3, 3, 3]];
    let muon = || MuonConfig { lr: 0.1, ..Default::default() };
    same_on_both(&shapes, &|store| {
        Box::new(Optimizers::of(store).matrices(muon()).rest(AdamWConfig::default()).clip_norm(20.0))
    });
    // Without decay and momentum one step moves by a matrix whose singular values are near 1.
    let store = ParamStore::new(&common::gpu(), 0);
    let weight = store.root().param("weight", &[3, 3], Init::Zeros);
    let mut own = Muon::new(&store, MuonConfig { lr: 1.0, weight_decay: 0.0, momentum: 0.0, ..Default::default() });
    let gradient = common::normals(&[3, 3], 1);
    own.step(&(weight.tensor() * store.device().array(&gradient)).sum_all()).unwrap();
    let moved = weight.values().unwrap();
    let squares: f64 = moved.iter().map(|x| x * x).sum();
    assert!((1.5..4.0).contains(&squares), "{moved:?}");
    let store = ParamStore::new(&Device::cpu(), 0);
    let bias = store.root().param("bias", &[3], Init::Zeros);
    let error = Muon::new(&store, muon()).step(&bias.tensor().sum_all()).unwrap_err();
    assert!(error.to_string().contains("matrices(muon)"), "{error}");
}
