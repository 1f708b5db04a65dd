//! L-BFGS beside PyTorch's (`scripts/lbfgs.py`), on functions without noise; and what it refuses, keeps and puts back.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use kiln::optim::{Lbfgs, LbfgsConfig, LineSearch};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

use super::pytorch::{Case, File};
use super::{Attrs, common};

/// A case on a device.
struct Problem {
    params: ParamStore,
    x: Param,
    op: String,
    given: Vec<Tensor>,
}

impl Problem {
    fn new(device: &Device, file: &File, case: &Case) -> Problem {
        let n = Attrs(&case.attrs).number("n", 0.0) as usize;
        let params = ParamStore::new(device, 0);
        let x = params.root().param("x", &[n], Init::Zeros);
        if case.op == "rosenbrock" {
            x.set(&(0..n).map(|i| if i % 2 == 0 { -1.2 } else { 1.0 }).collect::<Vec<_>>()).unwrap();
        }
        let upload = |name: &String| {
            let values: Vec<f32> = file.values(name).iter().map(|x| *x as f32).collect();
            device.tensor(&values, &file.shape(name))
        };
        Problem { params, x, op: case.op.clone(), given: case.inputs.iter().map(upload).collect() }
    }

    fn loss(&self) -> Tensor {
        let x = self.x.tensor();
        let n = x.shape().unwrap()[0];
        match &*self.op {
            "rosenbrock" => {
                let (first, second) = (x.slice(0, 0, n - 1), x.slice(0, 1, n - 1));
                ((second - first.square()).square() * 100.0 + (first - 1.0).square()).sum_all()
            }
            "quadratic" => {
                let numbers: Vec<f64> = (0..n).map(|i| i as f64).collect();
                let factors = numbers.iter().map(|i| 1000f64.powf(i / (n - 1) as f64)).collect();
                let array = |data| kiln::Array { shape: kiln::Shape::new(&[n]).unwrap(), dtype: DType::F32, data };
                let [factors, target] = [factors, numbers].map(|data| x.device().array(&array(data)));
                (factors * (x - target).square()).sum_all() * 0.5
            }
            "logistic" => {
                let rows = self.given[1].shape().unwrap()[0];
                let z = self.given[0].matmul(&x.reshape(&[n, 1])).reshape(&[rows]);
                z.binary_cross_entropy_with_logits(&self.given[1]) + x.square().sum_all() / 200.0
            }
            other => panic!("no function is called {other}"),
        }
    }
}

fn config(case: &Case) -> LbfgsConfig {
    let (attrs, default) = (Attrs(&case.attrs), LbfgsConfig::default());
    LbfgsConfig {
        lr: attrs.number("lr", default.lr),
        max_iter: attrs.number("max_iter", default.max_iter as f64) as usize,
        max_eval: case.attrs.get("max_eval").map(|most| most.as_u64().unwrap() as usize),
        history_size: attrs.number("history_size", default.history_size as f64) as usize,
        line_search: if case.attrs.get("line_search_fn").is_some() {
            LineSearch::StrongWolfe
        } else {
            LineSearch::None
        },
        ..default
    }
}

fn file() -> File {
    File::named("lbfgs.safetensors")
}

fn case<'a>(file: &'a File, name: &str) -> &'a Case {
    file.cases.iter().find(|case| case.name == name).unwrap()
}

#[test]
fn the_reference_takes_every_step_of_lbfgs() {
    let file = file();
    for case in &file.cases {
        let problem = Problem::new(&Device::cpu(), &file, case);
        let mut lbfgs = Lbfgs::new(&problem.params, config(case));
        let [xs, losses, counts] = [0, 1, 2].map(|output| file.values(&case.outputs[output]));
        let n = problem.x.shape().unwrap()[0];
        for (step, want) in xs.chunks(n).enumerate() {
            let loss = lbfgs.step(|| problem.loss()).unwrap().item().unwrap();
            let at = format!("{}, step {}", case.name, step + 1);
            assert!((loss - losses[step]).abs() <= 1e-10 * (1.0 + losses[step]), "{at}: {loss}");
            let got = problem.x.values().unwrap();
            let size = want.iter().map(|x| x.abs()).fold(1.0, f64::max);
            let error = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
            assert!(error <= 1e-10 * size, "{at}: off by {error:.1e}, {got:?} instead of {want:?}");
            let found = [lbfgs.iterations() as f64, lbfgs.evaluations() as f64];
            assert_eq!(found, counts[2 * step..][..2], "{at}");
        }
    }
}

#[test]
fn a_gpu_finds_the_same_minima() {
    let file = file();
    for (name, most) in [("rosenbrock_2_wolfe", 1e-3), ("rosenbrock_10_wolfe", 1e-2), ("logistic_none", 1e-3)] {
        let case = case(&file, name);
        let problem = Problem::new(&common::gpu(), &file, case);
        let line_search = LineSearch::StrongWolfe;
        let config = LbfgsConfig { max_iter: 100, max_eval: Some(200), line_search, ..Default::default() };
        let mut lbfgs = Lbfgs::new(&problem.params, config);
        lbfgs.step(|| problem.loss()).unwrap();
        let got = problem.x.values().unwrap();
        let ones = vec![1.0; got.len()];
        let n = got.len();
        let xs = file.values(&case.outputs[0]);
        let want = if case.op == "rosenbrock" { &ones[..] } else { &xs[xs.len() - n..] };
        let error = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f64::max);
        assert!(error <= most, "{name}: off by {error:.1e} after {} iterations, {got:?}", lbfgs.iterations());
    }
}

#[test]
fn lbfgs_resumes_to_equal_bits() {
    let file = file();
    let path = std::env::temp_dir().join(format!("kiln-lbfgs-{}", std::process::id()));
    for device in [Device::cpu(), common::gpu()] {
        for name in ["rosenbrock_10_wolfe", "quadratic_none"] {
            let case = case(&file, name);
            let run = |stop: Option<usize>| {
                let mut problem = Problem::new(&device, &file, case);
                let mut lbfgs = Lbfgs::new(&problem.params, config(case));
                for step in 0..5 {
                    if stop == Some(step) {
                        Checkpoint::parts().store("model", &problem.params).part("model", &lbfgs).save(&path).unwrap();
                        problem = Problem::new(&device, &file, case);
                        lbfgs = Lbfgs::new(&problem.params, config(case));
                        let load = Checkpoint::open(&path).unwrap();
                        load.load().store("model", &problem.params).part("model", &mut lbfgs).finish().unwrap();
                    }
                    lbfgs.step(|| problem.loss()).unwrap();
                }
                let bits: Vec<u64> = problem.x.values().unwrap().into_iter().map(f64::to_bits).collect();
                (bits, lbfgs.iterations(), lbfgs.evaluations())
            };
            let whole = run(None);
            for stop in [0, 1, 3] {
                assert_eq!(run(Some(stop)), whole, "{name} on {}, stopped before {stop}", device.name());
            }
        }
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_state_of_another_model_is_refused() {
    let file = file();
    let path = std::env::temp_dir().join(format!("kiln-lbfgs-other-{}", std::process::id()));
    let saved = Problem::new(&Device::cpu(), &file, case(&file, "quadratic_none"));
    let mut lbfgs = Lbfgs::new(&saved.params, LbfgsConfig::default());
    lbfgs.step(|| saved.loss()).unwrap();
    Checkpoint::parts().part("model", &lbfgs).save(&path).unwrap();
    let load = |n: usize, name: &str, config: LbfgsConfig| {
        let params = ParamStore::new(&Device::cpu(), 0);
        params.root().param(name, &[n], Init::Zeros);
        let mut lbfgs = Lbfgs::new(&params, config);
        Checkpoint::open(&path).unwrap().load().part("model", &mut lbfgs).finish()
    };
    load(10, "x", LbfgsConfig::default()).unwrap();
    let short = LbfgsConfig { history_size: 2, ..Default::default() };
    for result in [load(11, "x", LbfgsConfig::default()), load(10, "y", LbfgsConfig::default()), load(10, "x", short)] {
        assert!(matches!(result, Err(Error::Checkpoint { .. })), "{result:?}");
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn lbfgs_refuses_what_it_cannot_follow_and_puts_the_weights_back() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 0);
        let x = params.root().param("x", &[3], Init::Ones);
        let mut lbfgs = Lbfgs::new(&params, LbfgsConfig { lr: 10.0, ..Default::default() });
        let constant = device.ones(&[]);
        assert!(matches!(lbfgs.step(|| constant.clone()), Err(Error::Value { .. })));
        let other = constant.variable();
        assert!(matches!(lbfgs.step(|| other.square()), Err(Error::Value { .. })));
        assert!(matches!(lbfgs.step(|| x.tensor().square()), Err(Error::Shape { .. })));
        assert!(matches!(lbfgs.step(|| x.tensor().log().sum_all() / 0.0), Err(Error::NonFinite { .. })));
        // It is finite where it begins, and not where the step leads.
        let before = x.values().unwrap();
        let calls = Cell::new(0);
        let leads_out = || {
            calls.set(calls.get() + 1);
            (x.tensor() * 3.0 - 2.0).log().sum_all()
        };
        assert!(matches!(lbfgs.step(leads_out), Err(Error::NonFinite { .. })));
        assert_eq!((calls.get(), x.values().unwrap(), lbfgs.iterations()), (2, before.clone(), 0));
        let panics = || {
            calls.set(calls.get() + 1);
            assert!(calls.get() < 4, "the second call");
            x.tensor().square().sum_all()
        };
        assert!(catch_unwind(AssertUnwindSafe(|| lbfgs.step(panics))).is_err());
        assert_eq!(x.values().unwrap(), before);
        lbfgs.step(|| (x.tensor() - 2.0).square().sum_all() * 0.05).unwrap();
        params.root().param("late", &[1], Init::Ones);
        assert!(matches!(lbfgs.step(|| x.tensor().square().sum_all()), Err(Error::Value { .. })));
        let wrong = LbfgsConfig { history_size: 0, ..Default::default() };
        assert!(matches!(Lbfgs::new(&params, wrong).step(|| x.tensor().sum_all()), Err(Error::Value { .. })));
    }
}

#[test]
fn a_search_turns_back_from_a_loss_that_is_not_finite() {
    let params = ParamStore::new(&common::gpu(), 0);
    let x = params.root().param("x", &[2], Init::Constant(0.5));
    let line_search = LineSearch::StrongWolfe;
    let mut lbfgs =
        Lbfgs::new(&params, LbfgsConfig { lr: 100.0, max_eval: Some(60), line_search, ..Default::default() });
    // x - ln x has its minimum at 1, and no value below 0.
    lbfgs.step(|| (x.tensor() - x.tensor().log()).sum_all()).unwrap();
    assert!(x.values().unwrap().iter().all(|x| (x - 1.0).abs() < 1e-3), "{:?}", x.values());
}

/// Lengths of steps are numbers of the host that change each time.
#[test]
fn a_search_plans_nothing_anew_once_its_memory_is_full() {
    // One of its own: others would count their plans.
    let device = Device::best().unwrap();
    let params = ParamStore::new(&device, 0);
    let x = params.root().param("x", &[10], Init::Uniform { low: -2.0, high: 2.0 });
    let line_search = LineSearch::StrongWolfe;
    let config = LbfgsConfig { history_size: 3, max_iter: 1, line_search, ..Default::default() };
    let mut lbfgs = Lbfgs::new(&params, config);
    let rosenbrock = || {
        let (a, b) = (x.tensor().slice(0, 0, 9), x.tensor().slice(0, 1, 9));
        ((b - a.square()).square() * 100.0 + (1.0 - a).square()).sum_all()
    };
    for _ in 0..20 {
        lbfgs.step(rosenbrock).unwrap();
    }
    let planned = device.statistics().plans_made;
    let evaluated = lbfgs.evaluations();
    for _ in 0..8 {
        lbfgs.step(rosenbrock).unwrap();
    }
    assert!(lbfgs.evaluations() >= evaluated + 16);
    assert_eq!(device.statistics().plans_made, planned);
}
