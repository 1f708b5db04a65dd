//! L-BFGS: directions from how the gradient changed over the last steps, for losses that have no noise.
//!
//! Vectors stay on the device. What a search decides with (a loss, a slope, the largest element of a gradient) it has to
//! read, so that each evaluation waits for the device once, and each iteration once more.

mod memory;
mod place;
mod saved;
mod search;

use std::panic::Location;

use super::optimizer::Optimizer;
use super::settings::check_number;
use super::stepper::Stepper;
use crate::autograd::{backward, check_scalar};
use crate::dtype::DType;
use crate::error::{Error, Problem, Result};
use crate::params::{Param, ParamStore};
use crate::tensor::{Tensor, no_grad};
use crate::wait;
use memory::{Direction, Memory, dot, number, read};
use place::Place;
pub(crate) use saved::{LbfgsInPlace, Saved};
use search::{Point, Start, search};

/// How L-BFGS finds the length of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LineSearch {
    /// It is the learning rate.
    #[default]
    None,
    /// By strong Wolfe conditions, from the learning rate on.
    StrongWolfe,
}

/// Configuration of [`Lbfgs`], with PyTorch's defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct LbfgsConfig {
    /// Length of a step along its direction, or where the search for it begins; the first step of all is at most as long
    /// as the inverse of the sum of the gradient's magnitudes, times this.
    pub lr: f64,
    /// Iterations in each call of [`Lbfgs::step`] at most.
    pub max_iter: usize,
    /// Evaluations of the loss in each call, after which no iteration begins and a search takes what it has; `None`: 5 / 4
    /// of `max_iter`.
    pub max_eval: Option<usize>,
    /// A gradient without an element above it ends the call.
    pub tolerance_grad: f64,
    /// So does a move without an element above it, or a loss that changes by less.
    pub tolerance_change: f64,
    /// Steps that are remembered; two vectors of all parameters each.
    pub history_size: usize,
    /// How the length of a step is found.
    pub line_search: LineSearch,
}

impl Default for LbfgsConfig {
    fn default() -> Self {
        LbfgsConfig {
            lr: 1.0,
            max_iter: 20,
            max_eval: None,
            tolerance_grad: 1e-7,
            tolerance_change: 1e-9,
            history_size: 100,
            line_search: LineSearch::None,
        }
    }
}

impl LbfgsConfig {
    fn check(&self) -> Result<(), Problem> {
        check_number("lr", self.lr)?;
        check_number("tolerance_grad", self.tolerance_grad)?;
        check_number("tolerance_change", self.tolerance_change)?;
        if self.lr == 0.0 || self.history_size == 0 || self.max_iter == 0 {
            let what = format!("lr {}, history_size {}, max_iter {}", self.lr, self.history_size, self.max_iter);
            return Err(Problem::Value(what, "pass numbers above 0"));
        }
        Ok(())
    }
}

/// L-BFGS (Liu and Nocedal 1989, "On the limited memory BFGS method for large scale optimization"), as
/// `torch.optim.LBFGS`.
///
/// d = -H g, with H what the last steps s and changes of the gradient y say about the inverse Hessian, in two loops over
/// them; theta <- theta + t d, with t the learning rate or what a search for the strong Wolfe conditions finds. It is for
/// losses that a step computes alike each time: all data at once, no dropout.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::optim::{Lbfgs, LbfgsConfig, LineSearch};
/// # let device = Device::cpu();
/// # let params = ParamStore::new(&device, 1);
/// # let weight = params.root().param("weight", &[2], Init::Ones);
/// let config = LbfgsConfig { line_search: LineSearch::StrongWolfe, ..Default::default() };
/// let mut lbfgs = Lbfgs::new(&params, config);
/// let loss = lbfgs.step(|| (weight.tensor() - 3.0).square().sum_all())?;
/// assert_eq!(loss.item()?, 8.0); // from before the step
/// assert!(weight.values()?.iter().all(|x| (x - 3.0).abs() < 1e-6));
/// # Ok::<(), Error>(())
/// ```
///
/// It takes all parameters of the store but frozen ones, whatever their groups. One that the loss does not reach has a
/// gradient of zeros. It has no weight decay, clipping or loss scaling: gradients should be f32.
///
/// A checkpoint takes it as a part: `Checkpoint::parts().store("model", &params).part("model", &lbfgs)`.
pub struct Lbfgs {
    config: LbfgsConfig,
    /// Puts the parameters where the search wants them.
    mover: Stepper<Place>,
    memory: Memory,
    /// Names of the parameters that its vectors are made of, from the first step on.
    names: Vec<String>,
    at: &'static Location<'static>,
}

/// The parameters of a step as one vector.
struct Whole {
    params: Vec<Param>,
    sizes: Vec<(usize, Vec<usize>)>,
}

/// What was seen at a point.
#[derive(Clone)]
struct Seen {
    loss: Tensor,
    gradient: Tensor,
    /// The largest element of the gradient, by magnitude, and the sum of all.
    largest: f64,
    total: f64,
}

impl Lbfgs {
    /// An optimizer of all parameters of `store`. A setting that cannot be used is reported by the first step.
    #[track_caller]
    pub fn new(store: &ParamStore, config: LbfgsConfig) -> Lbfgs {
        let mover = Stepper::new(store, Place).loss_scaling(None);
        Lbfgs { config, mover, memory: Memory::default(), names: vec![], at: Location::caller() }
    }

    /// Its configuration.
    pub fn config(&self) -> &LbfgsConfig {
        &self.config
    }

    /// The parameters.
    pub fn store(&self) -> &ParamStore {
        &self.mover.store
    }

    /// Iterations so far, of all calls of [`Lbfgs::step`].
    pub fn iterations(&self) -> u64 {
        self.memory.iterations
    }

    /// Evaluations of the loss so far.
    pub fn evaluations(&self) -> u64 {
        self.memory.evaluations
    }

    /// Up to [`LbfgsConfig::max_iter`] iterations. `loss` records the loss, anew each time that it is called, and gives the
    /// same for the same parameters. Returns the loss from before, computed.
    ///
    /// It waits for the device, once for each evaluation and each iteration: a search decides on the host. Other threads that
    /// use the parameters wait until the step is done. Assignments to states (running statistics) of every evaluation are
    /// carried out.
    ///
    /// # Errors
    /// [`Error::Value`] for settings that cannot be used, a loss that depends on no parameter, or parameters that are others
    /// than at the first step; [`Error::NonFinite`] if the loss or its gradient is not finite where a step begins or, without
    /// a line search, where it ends (a search takes a shorter step instead); [`Error::Shape`] unless the loss has one
    /// element; or what computing it met. The weights are what they were, also if `loss` panics, and so is the state.
    #[track_caller]
    pub fn step(&mut self, loss: impl FnMut() -> Tensor) -> Result<Tensor> {
        let at = Location::caller();
        wait::block_on("Lbfgs::step", "Lbfgs::step_async", self.stepped(loss, at))
    }

    /// [`Lbfgs::step`] without blocking the thread. Nothing else may use the parameters until it is done; dropped before, it puts the
    /// weights back.
    ///
    /// # Errors
    /// As [`Lbfgs::step`].
    #[track_caller]
    pub fn step_async<'a>(
        &'a mut self,
        loss: impl FnMut() -> Tensor + 'a,
    ) -> impl Future<Output = Result<Tensor>> + 'a {
        self.stepped(loss, Location::caller())
    }

    async fn stepped(&mut self, mut loss: impl FnMut() -> Tensor, at: &'static Location<'static>) -> Result<Tensor> {
        self.config.check().map_err(|problem| problem.at("lbfgs", self.at))?;
        let state = self.store().state().clone();
        let _gate = state.enter();
        state.check_own("step", at)?;
        let whole = Whole::of(self.store())?;
        self.adopt_names(&whole)?;
        let start = whole.vector();
        let mut run = Run { memory: self.memory.clone(), whole, at, moved: None, lbfgs: self, loss: &mut loss };
        let first = run.iterate(start).await?;
        let memory = std::mem::take(&mut run.memory);
        run.moved = None;
        drop(run);
        self.memory = memory;
        Ok(first)
    }

    /// `Err` unless the parameters are those of the first step.
    fn adopt_names(&mut self, whole: &Whole) -> Result<()> {
        let names: Vec<String> = whole.params.iter().map(Param::name).collect();
        if self.names.is_empty() {
            self.names = names;
        }
        if names_fit(&self.names, whole) {
            return Ok(());
        }
        let what = "the parameters are others than at the first step".to_string();
        let next = "make a new optimizer after adding, freezing or unfreezing parameters";
        Err(Problem::Value(what, next).at("lbfgs", self.at))
    }
}

fn names_fit(names: &[String], whole: &Whole) -> bool {
    names.len() == whole.params.len() && names.iter().zip(&whole.params).all(|(name, param)| *name == param.name())
}

impl Whole {
    fn of(store: &ParamStore) -> Result<Whole> {
        let params: Vec<Param> = store.parameters().into_iter().filter(|param| !param.is_frozen()).collect();
        let sizes = params.iter().map(|param| param.shape().map(|shape| (shape.elements(), shape.to_vec())));
        Ok(Whole { sizes: sizes.collect::<Result<_>>()?, params })
    }

    fn elements(&self) -> usize {
        self.sizes.iter().map(|(elements, _)| elements).sum()
    }

    /// All of them as they are now.
    fn vector(&self) -> Tensor {
        no_grad(|| joined(self.params.iter().map(Param::tensor)))
    }

    /// The parts of a vector, each for its parameter.
    fn parts(&self, vector: &Tensor) -> Vec<(Param, Tensor)> {
        let mut first = 0;
        let part = |(param, (elements, shape)): (&Param, &(usize, Vec<usize>))| {
            let part = vector.slice(0, first, *elements).reshape(shape);
            first += elements;
            (param.clone(), part)
        };
        self.params.iter().zip(&self.sizes).map(part).collect()
    }
}

/// Tensors behind each other in a vector.
fn joined(tensors: impl Iterator<Item = Tensor>) -> Tensor {
    let flat: Vec<Tensor> = tensors.map(|tensor| tensor.reshape(&[tensor.dims().elements()])).collect();
    Tensor::concat(&flat.iter().collect::<Vec<_>>(), 0)
}

/// A step under way. Dropping it before its end puts the weights back.
struct Run<'a> {
    lbfgs: &'a mut Lbfgs,
    loss: &'a mut dyn FnMut() -> Tensor,
    memory: Memory,
    whole: Whole,
    at: &'static Location<'static>,
    /// Where the weights were, once they have been moved.
    moved: Option<Tensor>,
}

impl Run<'_> {
    /// The iterations of a step from `start` on; the loss there.
    async fn iterate(&mut self, start: Tensor) -> Result<Tensor> {
        let config = self.lbfgs.config.clone();
        let most_evaluations = config.max_eval.unwrap_or(config.max_iter * 5 / 4) as u64;
        let mut now = self.look(None, 0.0).await?;
        self.finite(&now)?;
        let first = now.rest.loss.clone();
        if now.rest.largest <= config.tolerance_grad {
            return Ok(first);
        }
        let (mut evaluations, mut x) = (1, start.clone());
        for iteration in 1..=config.max_iter {
            self.memory.iterations += 1;
            let direction = self.memory.direction(&now.rest.gradient, config.history_size).await?;
            let length =
                if self.memory.iterations == 1 { f64::min(1.0, 1.0 / now.rest.total) * config.lr } else { config.lr };
            self.went(length);
            if direction.slope.is_nan() || direction.slope > -config.tolerance_change {
                break;
            }
            self.moved = Some(start.clone());
            let before = now.loss;
            let is_last = iteration == config.max_iter;
            let (length, looked) = match config.line_search {
                LineSearch::StrongWolfe => {
                    let origin = Point { length: 0.0, slope: direction.slope, ..now };
                    let left = most_evaluations.saturating_sub(evaluations);
                    let (found, looked) = self.search(origin, &x, &direction, length, left).await?;
                    now = found;
                    (now.length, looked)
                }
                LineSearch::None => {
                    self.place(&x, &direction.vector, length)?;
                    if !is_last {
                        now = self.look(None, length).await?;
                        self.finite(&now)?;
                    }
                    (length, u64::from(!is_last))
                }
            };
            self.went(length);
            evaluations += looked;
            let is_small = direction.largest * length.abs() <= config.tolerance_change
                || (now.loss - before).abs() < config.tolerance_change;
            if is_last || evaluations >= most_evaluations || now.rest.largest <= config.tolerance_grad || is_small {
                break;
            }
            x = self.whole.vector();
        }
        Ok(first)
    }

    /// The length of a step along `direction` from `x`, where the weights end.
    async fn search(
        &mut self,
        origin: Point<Seen>,
        x: &Tensor,
        direction: &Direction,
        first: f64,
        trials: u64,
    ) -> Result<(Point<Seen>, u64)> {
        let (largest, least_move) = (direction.largest, self.lbfgs.config.tolerance_change);
        let mut there = 0.0;
        let (found, looked) = search(Start { origin, first, largest, least_move, trials }, async |length| {
            self.place(x, &direction.vector, length)?;
            there = length;
            self.look(Some(&direction.vector), length).await
        })
        .await?;
        if found.length != there {
            self.place(x, &direction.vector, found.length)?;
        }
        Ok((found, looked))
    }

    /// Notes how long the last step was.
    fn went(&mut self, length: f64) {
        if let Some(last) = &mut self.memory.last {
            last.length = length;
        }
    }

    /// Puts the weights `length` directions away from `x`.
    fn place(&mut self, x: &Tensor, direction: &Tensor, length: f64) -> Result<()> {
        let parts = no_grad(|| self.whole.parts(&(x + direction * number(x.device(), length))));
        self.lbfgs.mover.step_with(parts)
    }

    /// Loss and gradient at the weights, and the slope along a direction.
    async fn look(&mut self, direction: Option<&Tensor>, length: f64) -> Result<Point<Seen>> {
        let loss = (self.loss)();
        self.memory.evaluations += 1;
        if let Some(error) = loss.error() {
            return Err(error.clone());
        }
        check_scalar(&loss, self.at)?;
        let leaves: Vec<Tensor> = self.whole.params.iter().map(Param::tensor).collect();
        if let Some(error) = leaves.iter().find_map(Tensor::error) {
            return Err(error.clone());
        }
        let targets: Vec<_> = leaves.iter().map(|leaf| leaf.node().clone()).collect();
        let gradients = backward(&loss, None, &targets)?;
        if gradients.iter().all(Option::is_none) {
            let what = "the loss depends on no parameter of the optimizer".to_string();
            let next = "record it anew each time that it is asked for, from the parameters' tensors";
            return Err(Problem::Value(what, next).at("lbfgs", self.at));
        }
        let (gradient, slope, [value, largest, total]) = no_grad(|| {
            let parts = gradients.into_iter().zip(&leaves).map(|(part, leaf)| match part {
                Some(part) => part.detach().cast(DType::F32),
                None => leaf.device().zeros(leaf.dims()),
            });
            let gradient = joined(parts);
            let magnitude = gradient.abs();
            let slope = direction.map(|direction| dot(&gradient, direction));
            (gradient, slope, [loss.detach().cast(DType::F32), magnitude.max_all(), magnitude.sum_all()])
        });
        let scalars: Vec<&Tensor> = [&value, &largest, &total].into_iter().chain(&slope).collect();
        let numbers = read(gradient.device(), &scalars, &[&gradient, &loss]).await?;
        let seen = Seen { loss: loss.clone(), gradient, largest: numbers[1], total: numbers[2] };
        let slope = numbers.get(3).copied().unwrap_or(0.0);
        Ok(Point { length, loss: numbers[0], slope, rest: seen })
    }

    /// `Err` unless a loss and its gradient are finite.
    fn finite(&self, now: &Point<Seen>) -> Result<()> {
        if now.loss.is_finite() && now.rest.total.is_finite() {
            return Ok(());
        }
        let step = self.memory.iterations + 1;
        let found = Some(format!("evaluation {} of the loss, {}", self.memory.evaluations, now.loss));
        Err(Error::NonFinite { step, optimizer: format!("lbfgs at {}", self.lbfgs.at), later: 0, found })
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        if let Some(start) = self.moved.take() {
            // What goes wrong here the next step meets again before it does anything.
            let _ = self.lbfgs.mover.step_with(self.whole.parts(&start));
        }
    }
}
