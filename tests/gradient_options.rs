//! What is done to gradients parameter by parameter and row by row: clipping, centralisation, noise.

mod common;

use kiln::optim::{LossScale, OptimizerState, Stepper};
use kiln::prelude::*;

fn devices() -> [Device; 2] {
    [Device::cpu(), common::gpu()]
}

/// Shapes whose rows are shorter and longer than what is summed at a time.
const SHAPES: [&[usize]; 7] = [&[37], &[5, 3], &[4, 2, 3, 3], &[3, 2500], &[9, 1], &[131], &[6]];
/// The parameter that is frozen.
const FROZEN: usize = 6;

struct Model {
    params: ParamStore,
    all: Vec<Param>,
}

impl Model {
    fn new(device: &Device, init: Init, limit: Option<usize>) -> Model {
        let params = ParamStore::new(device, 11);
        limit.into_iter().for_each(|limit| params.limit_arenas(limit));
        let all: Vec<Param> = (0..7).map(|i| params.root().param(format!("p{i}"), SHAPES[i], init)).collect();
        all[FROZEN].freeze();
        Model { params, all }
    }

    /// The gradient of a parameter, the smaller the larger `step`.
    fn gradient(step: u64, number: usize) -> Vec<f64> {
        let mut array = common::normals(SHAPES[number], 10 * step + number as u64);
        array.data.iter_mut().for_each(|x| *x = f64::from((*x / (1 + step) as f64 + 0.125) as f32));
        array.data
    }

    /// A loss with these gradients; those of the parameters from number `first` on.
    fn loss(&self, step: u64, first: usize, bad: Option<f64>) -> Tensor {
        let device = self.params.device();
        let product = |number: usize| {
            let mut gradient = Model::gradient(step, number);
            if let Some(bad) = bad.filter(|_| number == 3) {
                gradient[2499] = bad;
            }
            let gradient = device.tensor(&gradient.iter().map(|&x| x as f32).collect::<Vec<_>>(), SHAPES[number]);
            (self.all[number].tensor() * gradient).sum_all()
        };
        (first..7).map(product).reduce(|a, b| a + b).unwrap()
    }

    fn weights(&self) -> Vec<Vec<f64>> {
        self.all.iter().map(|param| param.values().unwrap()).collect()
    }
}

fn sgd(model: &Model) -> Sgd {
    Sgd::new(&model.params, SgdConfig { lr: 1.0, ..Default::default() })
}

/// Adds an option to an optimizer.
type With = fn(Sgd) -> Sgd;

const OPTIONS: [(&str, With); 6] = [
    ("each", |sgd| sgd.clip_each(0.75)),
    ("adaptive", |sgd| sgd.clip_adaptive(0.1, 1e-3)),
    ("centralise", Stepper::centralise),
    ("noise", |sgd| sgd.gradient_noise(0.3, 0.55)),
    ("all", |sgd| sgd.clip_each(0.75).clip_adaptive(0.1, 0.5).centralise().gradient_noise(0.01, 1.0)),
    ("all and more", |sgd| sgd.clip_each(2.0).centralise().clip_norm(0.5).clip_value(0.01).l2(0.1).maximize()),
];

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|x| x * x).sum::<f64>().sqrt()
}

/// The gradient of a parameter by the formulas of the options without noise.
fn by_hand(option: &str, number: usize, gradient: &[f64], weights: &[f64]) -> Vec<f64> {
    let shape = SHAPES[number];
    let row = if shape.len() > 1 { gradient.len() / shape[0] } else { gradient.len() };
    let rows = gradient.chunks(row).zip(weights.chunks(row));
    let scaled = |row: &[f64], factor: f64| row.iter().map(|g| g * factor).collect::<Vec<_>>();
    match option {
        "each" => scaled(gradient, f64::min(1.0, 0.75 / (norm(gradient) + 1e-6))),
        "adaptive" => {
            let clipped = |(g, x): (&[f64], &[f64])| {
                let (own, most) = (norm(g), 0.1 * norm(x).max(1e-3));
                scaled(g, if own > most { most / own.max(1e-6) } else { 1.0 })
            };
            rows.flat_map(clipped).collect()
        }
        _ if shape.len() == 1 || row == 1 => gradient.to_vec(),
        _ => {
            let centred = |(g, _): (&[f64], &[f64])| {
                let mean = g.iter().sum::<f64>() / row as f64;
                g.iter().map(|g| g - mean).collect::<Vec<_>>()
            };
            rows.flat_map(centred).collect()
        }
    }
}

fn close(got: &[Vec<f64>], want: &[Vec<f64>], at: &str) {
    for (number, (got, want)) in got.iter().zip(want).enumerate() {
        for (i, (got, want)) in got.iter().zip(want).enumerate() {
            let bound = 4e-6 * want.abs().max(1.0);
            assert!((got - want).abs() <= bound, "{at}, element {i} of p{number}: {got} instead of {want}");
        }
    }
}

const NORMAL: Init = Init::Normal { mean: 0.0, deviation: 0.5 };

#[test]
fn each_does_what_its_formula_says() {
    for device in devices() {
        for (limit, hardware) in [(None, false), (Some(7552), true)] {
            for (option, with) in &OPTIONS[..3] {
                let model = Model::new(&device, NORMAL, limit);
                let mut sgd = with(sgd(&model));
                if hardware {
                    sgd.as_on_hardware();
                }
                // The second step again, from a plan that is there.
                for step in 0..2 {
                    let before = model.weights();
                    sgd.step(&model.loss(step, 0, None)).unwrap();
                    device.poison_buffers().unwrap();
                    let moved = |number: usize| {
                        let gradient = Model::gradient(step, number);
                        let gradient = by_hand(option, number, &gradient, &before[number]);
                        let moved = before[number].iter().zip(gradient).map(|(x, g)| x - g);
                        if number == FROZEN { before[number].clone() } else { moved.collect() }
                    };
                    let want: Vec<Vec<f64>> = (0..7).map(moved).collect();
                    close(&model.weights(), &want, &format!("{option} on {}", device.name()));
                }
            }
        }
    }
}

/// Weights behind three steps, of which one reaches only some parameters and one comes in two parts, and the state.
fn three_steps(device: &Device, with: With, hardware: bool, limit: Option<usize>) -> (Vec<Vec<f64>>, OptimizerState) {
    let model = Model::new(device, NORMAL, limit);
    let mut sgd = with(sgd(&model));
    if hardware {
        sgd.as_on_hardware();
    }
    sgd.step(&model.loss(0, 0, None)).unwrap();
    sgd.step(&model.loss(1, 3, None)).unwrap();
    sgd.accumulate(&(model.loss(2, 0, None) * 0.25)).unwrap();
    sgd.step(&(model.loss(2, 0, None) * 0.75)).unwrap();
    (model.weights(), sgd.state().unwrap())
}

#[test]
fn a_gpu_does_what_the_reference_does() {
    for (option, with) in OPTIONS {
        let want = three_steps(&Device::cpu(), with, false, None);
        for hardware in [false, true] {
            let got = three_steps(&common::gpu(), with, hardware, None);
            close(&got.0, &want.0, option);
            // Another layout, the same bits, but for the norm of all, which is summed in another order.
            let cut = three_steps(&common::gpu(), with, hardware, Some(7552));
            close(&cut.0, &got.0, option);
            assert!(cut.0 == got.0 || option == "all and more", "{option} in several arenas");
        }
    }
}

#[test]
fn the_loss_scale_changes_nothing() {
    for device in devices() {
        for (option, with) in OPTIONS {
            let run = |scale: Option<LossScale>| {
                let model = Model::new(&device, NORMAL, None);
                let mut sgd = with(sgd(&model)).loss_scaling(scale);
                (0..2).for_each(|step| sgd.step(&model.loss(step, 0, None)).unwrap());
                model.weights()
            };
            let scale = LossScale { initial: 4096.0, ..LossScale::default() };
            close(&run(Some(scale)), &run(None), option);
        }
    }
}

#[test]
fn a_refused_step_stays_refused_and_leaves_no_trace() {
    for device in devices() {
        for (option, with) in OPTIONS {
            let runs = [None, Some(f64::NAN), Some(f64::INFINITY), Some(1e30)].map(|bad| {
                let model = Model::new(&device, NORMAL, None);
                let mut sgd = with(sgd(&model));
                for step in 0..3 {
                    if let Some(bad) = bad.filter(|_| step == 1) {
                        // What is finite in f64 is so on the reference.
                        let bad = if device.is_cpu() && bad.is_finite() { f64::NAN } else { bad };
                        sgd.step(&model.loss(7, 0, Some(bad))).unwrap();
                    }
                    while let Err(error) = sgd.step(&model.loss(step, 0, None)) {
                        assert!(matches!(error, Error::NonFinite { step: 2, .. }), "{error}");
                    }
                }
                let (mut reported, mut state) = (0, None);
                while state.is_none() {
                    match sgd.state() {
                        Ok(found) => state = Some(found),
                        Err(_) => reported += 1,
                    }
                }
                assert!(reported < 2);
                (model.weights(), state)
            });
            // The square of 1e30 is beyond f32, where norms are formed.
            let cases = if ["centralise", "noise"].contains(&option) { 1..3 } else { 1..4 };
            for i in cases {
                assert!(runs[i] == runs[0], "{option} {i} on {}", device.name());
            }
        }
    }
}

#[test]
fn a_stored_gradient_is_left_as_it_was() {
    // Long enough to be read where it is.
    const LONG: usize = 40_004;
    for (option, with) in OPTIONS {
        let results = devices().map(|device| {
            let params = ParamStore::new(&device, 7);
            let long = params.root().param("long", &[LONG / 4, 4], NORMAL);
            let gradient = device.array(&common::normals(&[LONG / 4, 4], 3)) * 1.0;
            device.eval(&[&gradient]).unwrap();
            let mut sgd = with(Sgd::new(&params, SgdConfig { lr: 1.0, ..Default::default() }));
            let before = gradient.to_vec::<f32>().unwrap();
            for _ in 0..2 {
                sgd.step_with(vec![(long.clone(), gradient.clone())]).unwrap();
            }
            assert!(gradient.to_vec::<f32>().unwrap() == before, "{option}");
            vec![long.values().unwrap()]
        });
        close(&results[1], &results[0], option);
    }
}

#[test]
fn noise_resumes_and_falls() {
    for device in devices() {
        let run = |resumes: bool| {
            let mut model = Model::new(&device, Init::Zeros, None);
            let mut optimizer = sgd(&model).gradient_noise(1.0, 2.0);
            let mut sizes = vec![];
            for step in 0..4 {
                if resumes && step == 2 {
                    let (weights, state) = (model.weights(), optimizer.state().unwrap());
                    model = Model::new(&device, Init::Zeros, Some(7552));
                    model.all.iter().zip(&weights).for_each(|(param, values)| param.set(values).unwrap());
                    optimizer = sgd(&model).gradient_noise(1.0, 2.0);
                    optimizer.set_state(&state).unwrap();
                }
                let before = model.weights();
                optimizer.step(&(model.loss(0, 0, None) * 0.0)).unwrap();
                let moved =
                    model.weights().concat().iter().zip(before.concat()).map(|(x, b)| x - b).collect::<Vec<_>>();
                sizes.push(norm(&moved) / (moved.len() as f64).sqrt());
            }
            (model.weights(), sizes)
        };
        let (want, got) = (run(false), run(true));
        assert!(got.0 == want.0, "{}", device.name());
        for (step, size) in want.1.iter().enumerate() {
            // The deviation of about 7,700 normals, over the number of the step.
            assert!((size * (step + 1) as f64 - 1.0).abs() < 0.03, "step {step}: {size}");
        }
    }
}

#[test]
fn options_that_cannot_be_used_are_refused() {
    let model = Model::new(&Device::cpu(), NORMAL, None);
    let wrong: [With; 6] = [
        |sgd| sgd.clip_each(0.0),
        |sgd| sgd.clip_each(f64::NAN),
        |sgd| sgd.clip_adaptive(-0.01, 1e-3),
        |sgd| sgd.clip_adaptive(0.01, 0.0),
        |sgd| sgd.gradient_noise(-1.0, 0.55),
        |sgd| sgd.gradient_noise(1.0, f64::INFINITY),
    ];
    for with in wrong {
        let error = with(sgd(&model)).step(&model.loss(0, 0, None)).unwrap_err();
        assert!(matches!(error, Error::Value { op: "sgd", .. }), "{error}");
    }
}
