//! All optimizers, each with a usual rate for two small problems, and the smaller one of them.

use anyhow::Result;
use kiln::optim::*;
use kiln::prelude::*;
use kiln::schedule;

/// An optimizer of a model, at a rate, for so many steps.
pub type Make = fn(&ParamStore, f64, u64) -> Box<dyn Optimizer>;

/// At a rate that falls to 0.
fn falling<R: Rule>(config: R, params: &ParamStore, lr: f64, steps: u64) -> Box<dyn Optimizer> {
    Box::new(Stepper::new(params, config).schedule(schedule::linear(lr, 0.0, steps)))
}

fn plain<R: Rule + Default>(params: &ParamStore, lr: f64, steps: u64) -> Box<dyn Optimizer> {
    falling(R::default(), params, lr, steps)
}

/// Names, rates for the digits and for the regression, and how each is made.
pub const ALL: &[(&str, [f64; 2], Make)] = &[
    ("SGD", [0.3, 0.3], plain::<SgdConfig>),
    ("SGD, momentum", [0.1, 0.1], |params, lr, steps| {
        falling(SgdConfig { momentum: 0.9, nesterov: true, ..Default::default() }, params, lr, steps)
    }),
    ("ASGD", [0.3, 0.3], plain::<AsgdConfig>),
    ("Adam", [0.01, 0.2], plain::<AdamConfig>),
    ("AdamW", [0.01, 0.2], plain::<AdamWConfig>),
    ("Adamax", [0.03, 0.2], plain::<AdamaxConfig>),
    ("NAdam", [0.01, 0.2], plain::<NAdamConfig>),
    ("RAdam", [0.05, 0.3], plain::<RAdamConfig>),
    ("Adan", [0.02, 0.3], plain::<AdanConfig>),
    ("Adagrad", [0.1, 1.0], plain::<AdagradConfig>),
    ("Adadelta", [5.0, 50.0], plain::<AdadeltaConfig>),
    ("RMSprop", [5e-3, 0.2], plain::<RmsPropConfig>),
    ("Rprop", [2e-3, 0.1], |params, lr, _| Box::new(Rprop::new(params, RpropConfig { lr, ..Default::default() }))),
    ("Lion", [5e-3, 0.2], plain::<LionConfig>),
    ("LAMB", [0.05, 0.1], plain::<LambConfig>),
    ("LARS", [20.0, 20.0], plain::<LarsConfig>),
    ("Adafactor", [0.1, 0.2], plain::<AdafactorConfig>),
    ("Muon and AdamW", [0.01, 0.2], |params, lr, steps| {
        let muon = MuonConfig { rate: MuonRate::MatchAdamW, weight_decay: 0.01, ..Default::default() };
        let both = Optimizers::of(params).matrices(muon).rest(AdamWConfig::default());
        Box::new(both.schedule(schedule::linear(lr, 0.0, steps)))
    }),
    // Its weights are a function of the rate, which so stays. It keeps initial weights only where it starts from few squares.
    ("FTRL", [0.1, 1.0], |params, lr, _| {
        Box::new(Ftrl::new(params, FtrlConfig { lr, initial_accumulator: 1e-12, ..Default::default() }))
    }),
    ("Schedule-free SGD", [1.0, 0.5], |params, lr, _| {
        Box::new(ScheduleFreeSgd::new(params, ScheduleFreeSgdConfig { lr, ..Default::default() }))
    }),
    ("Schedule-free AdamW", [0.02, 0.2], |params, lr, _| {
        Box::new(ScheduleFreeAdamW::new(params, ScheduleFreeAdamWConfig { lr, ..Default::default() }))
    }),
];

/// The losses of a run. They are read at its end, so that no step waits for another.
pub fn train(
    mut optimizer: Box<dyn Optimizer>,
    steps: u64,
    mut next: impl FnMut() -> Result<Tensor>,
) -> Result<Vec<f64>> {
    let step = |_| {
        let loss = next()?;
        optimizer.step(&loss)?;
        Ok(loss)
    };
    let losses = (0..steps).map(step).collect::<Result<Vec<Tensor>>>()?;
    losses.iter().map(|loss| Ok(loss.item()?)).collect()
}

/// L-BFGS, which is called with a loss instead of being given one, for so many iterations.
pub fn lbfgs(params: &ParamStore, iterations: u64, mut loss: impl FnMut() -> Tensor) -> Result<Vec<f64>> {
    let config =
        LbfgsConfig { max_iter: 1, max_eval: Some(20), line_search: LineSearch::StrongWolfe, ..Default::default() };
    let mut lbfgs = Lbfgs::new(params, config);
    (0..iterations).map(|_| Ok(lbfgs.step(&mut loss)?.item()?)).collect()
}

/// The weights of y = 3 x1 + 2 x2 + noise as a run finds them.
pub fn regression(params: &ParamStore, steps: u64, lr: f64, make: Make) -> Result<Vec<f64>> {
    regressed(params, |loss| train(make(params, lr, steps), steps, || Ok(loss())).map(drop))
}

/// The same, as `run` finds them that minimises a loss.
pub fn regressed(params: &ParamStore, run: impl FnOnce(&dyn Fn() -> Tensor) -> Result<()>) -> Result<Vec<f64>> {
    let device = params.device();
    let line = Linear::with(&params.root(), 2, 1, LinearConfig { bias: false, ..Default::default() });
    let x = device.uniform(&[256, 2], -1.0, 1.0, 1);
    let y = x.matmul(&device.tensor(&[3.0f32, 2.0], &[2, 1])) + device.normal(&[256, 1], 0.0, 0.1, 2);
    device.eval(&[&x, &y])?;
    run(&|| line.forward(&x, Mode::Train).mse_loss(&y))?;
    Ok(line.weight.values()?)
}
