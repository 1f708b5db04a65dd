//! Averages of weights that follow training on the device: behind each update, in the same submission, and not where the
//! update is skipped.
//!
//! | average | what it is | from |
//! | --- | --- | --- |
//! | [`Ema`] | a <- d a + (1 - d) theta | Polyak and Juditsky 1992, "Acceleration of stochastic approximation by averaging" |
//! | [`Swa`] | the mean of the weights of every k-th step | Izmailov et al. 2018, "Averaging weights leads to wider optima and better generalization" |
//! | [`LastN`] | the mean of the last n of them | Kaddour 2022, "Stop wasting my time! Saving days of ImageNet and BERT training with latest weight averaging" |
//!
//! The first weights that are taken are the average, as in `torch.optim.swa_utils.AveragedModel`; before that a parameter's
//! average is its value. All parameters of a store are averaged, frozen ones too. States are not: running statistics of
//! batch normalisation belong to the weights that they were gathered with, and are gathered anew for the average by a
//! forward pass over some batches in [`Mode::Train`](crate::nn::Mode::Train), while it is in place.

mod memory;
mod state;

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use super::follow::Follower;
use super::settings::check_share;
use super::stepper::Stepper;
use super::tally::MOST_UPDATES;
use crate::arena::Arena;
use crate::engine::{self, ArenaKernel, Work};
use crate::error::{Error, Problem, Result};
use crate::kernel::Capabilities;
use crate::params::{Chunk, Kept, ParamStore};
use crate::plan::Plan;
use crate::target::Target;
use memory::{LANES, Memory};
pub(crate) use state::AverageInPlace;
pub use state::AverageState;

/// Copies that an average of the last weights keeps at most.
const MOST_COPIES: usize = 1000;

/// What is averaged.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Older weights count less and less.
    Ema { decay: f64, warm_up: bool },
    /// All weights count the same.
    Swa,
    /// So many weights count the same, older ones nothing.
    Last(usize),
}

/// What an average is told.
#[derive(Debug, Clone, Copy)]
struct Settings {
    kind: Kind,
    /// The first step whose weights are taken.
    start: u64,
    /// How many steps there are from one to the next.
    every: u64,
}

impl Settings {
    fn check(&self) -> Result<(), Problem> {
        match self.kind {
            Kind::Ema { decay, .. } => check_share("the decay of an average", decay)?,
            Kind::Last(copies) if !(1..=MOST_COPIES).contains(&copies) => {
                let what = format!("an average of the last {copies} weights");
                return Err(Problem::Value(what, "pass a number from 1 to 1000"));
            }
            Kind::Swa | Kind::Last(_) => {}
        }
        if (1..MOST_UPDATES).contains(&self.every) && self.start < MOST_UPDATES {
            return Ok(());
        }
        let what = format!("an average of every {}-th step from step {} on", self.every, self.start);
        Err(Problem::Value(what, "pass steps that a run reaches, and take every first or a later one"))
    }

    /// True if the weights of step `step` are taken.
    fn takes(&self, step: u64) -> bool {
        step >= self.start && (step - self.start).is_multiple_of(self.every)
    }

    /// The share of the present weights behind `count` others; of copies the number of the one that they become.
    fn share(&self, count: u64) -> f64 {
        let n = count as f64;
        match self.kind {
            Kind::Last(copies) => (count % copies as u64) as f64,
            _ if count == 0 => 1.0,
            Kind::Swa => 1.0 / (n + 1.0),
            Kind::Ema { decay, warm_up: true } => (1.0 - decay).max(9.0 / (10.0 + n)),
            Kind::Ema { decay, .. } => 1.0 - decay,
        }
    }

    /// Its host numbers.
    fn numbers(&self) -> [f64; 4] {
        match self.kind {
            Kind::Ema { decay, warm_up } => [1.0 - decay, f64::from(u8::from(warm_up)), 0.0, 0.0],
            Kind::Swa | Kind::Last(_) => [0.0, 2.0, 0.0, 0.0],
        }
    }
}

/// An average of the weights of a store: what [`Ema`], [`Swa`] and [`LastN`] can do. Cloning copies the handle.
///
/// ```
/// # use kiln::prelude::*;
/// use kiln::optim::Ema;
/// # let device = Device::cpu();
/// # let params = ParamStore::new(&device, 1);
/// # let weight = params.root().param("weight", &[3], Init::Ones);
/// let ema = Ema::new(&params, 0.5);
/// let mut sgd = Sgd::new(&params, SgdConfig { lr: 1.0, ..Default::default() }).average(&ema);
/// for _ in 0..2 {
///     sgd.step(&weight.tensor().sum_all())?; // 0, then -1
/// }
/// let kept = ema.swap_in()?;
/// assert_eq!(weight.values()?, [-0.5; 3]); // evaluate here
/// drop(kept);
/// assert_eq!(weight.values()?, [-1.0; 3]);
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone)]
pub struct Average(Arc<Shared>);

struct Shared {
    store: ParamStore,
    at: &'static Location<'static>,
    settings: Mutex<Settings>,
    /// What it has on the device. Locked for a moment at a time: plans are made with the device locked.
    memory: Mutex<Memory>,
    /// Held while memory is made.
    making: Mutex<()>,
    /// Changes whenever its kernels do.
    edition: AtomicU64,
}

/// An average in which older weights count less and less.
///
/// a <- d a + (1 - d) theta behind each step; d is the decay, with [`Ema::warm_up`] min(decay, (1 + n) / (10 + n)) behind n
/// weights.
#[derive(Debug, Clone)]
pub struct Ema(Average);

/// The mean of the weights of every k-th step from some step on (stochastic weight averaging).
#[derive(Debug, Clone)]
pub struct Swa(Average);

/// The mean of the last n weights, of which the device keeps copies.
#[derive(Debug, Clone)]
pub struct LastN(Average);

impl Ema {
    /// An average of the weights of `store` with this decay, from 0 to below 1; 0.999 remembers about a thousand steps. One
    /// that cannot be used is reported by the first step.
    #[track_caller]
    pub fn new(store: &ParamStore, decay: f64) -> Ema {
        Ema(Average::new(store, Kind::Ema { decay, warm_up: false }, 1, 1))
    }

    /// Forgets the first weights sooner: the decay is min(decay, (1 + n) / (10 + n)) behind n weights, as in TensorFlow.
    #[must_use]
    pub fn warm_up(self) -> Ema {
        self.0.change(|settings| {
            if let Kind::Ema { warm_up, .. } = &mut settings.kind {
                *warm_up = true;
            }
        });
        self
    }

    /// Leaves out the first `steps` steps.
    #[must_use]
    pub fn after(self, steps: u64) -> Ema {
        self.0.change(|settings| settings.start = steps.saturating_add(1));
        self
    }

    /// Takes the weights of every `steps`-th step alone.
    #[must_use]
    pub fn every(self, steps: u64) -> Ema {
        self.0.change(|settings| settings.every = steps);
        self
    }
}

impl Swa {
    /// The mean of the weights after step `start` (the first step is 1) and every `every`-th one behind it.
    #[track_caller]
    pub fn new(store: &ParamStore, start: u64, every: u64) -> Swa {
        Swa(Average::new(store, Kind::Swa, start, every))
    }
}

impl LastN {
    /// The mean of the last `count` weights of those after every `every`-th step. It takes the memory of `count + 1` models.
    #[track_caller]
    pub fn new(store: &ParamStore, count: usize, every: u64) -> LastN {
        LastN(Average::new(store, Kind::Last(count), every, every))
    }

    /// Leaves out the first `steps` steps.
    #[must_use]
    pub fn after(self, steps: u64) -> LastN {
        self.0.change(|settings| settings.start = steps.saturating_add(settings.every));
        self
    }
}

macro_rules! is_an_average {
    ($($name:ident),+) => {
        $(impl Deref for $name {
            type Target = Average;

            fn deref(&self) -> &Average {
                &self.0
            }
        })+
    };
}

is_an_average!(Ema, Swa, LastN);

impl Average {
    #[track_caller]
    fn new(store: &ParamStore, kind: Kind, start: u64, every: u64) -> Average {
        Average(Arc::new(Shared {
            store: store.clone(),
            at: Location::caller(),
            settings: Mutex::new(Settings { kind, start, every }),
            memory: Mutex::default(),
            making: Mutex::default(),
            edition: AtomicU64::new(next_edition()),
        }))
    }

    fn change(&self, change: impl FnOnce(&mut Settings)) {
        change(&mut lock(&self.0.settings));
        self.0.edition.store(next_edition(), Ordering::Release);
    }

    /// The store whose weights are averaged.
    pub fn store(&self) -> &ParamStore {
        &self.0.store
    }

    /// Puts the average in the place of the parameters, on the device, until the guard is dropped. Does not wait.
    ///
    /// Tensors recorded before keep the values from before. Steps meanwhile are errors, and so is another average put in
    /// place.
    ///
    /// # Errors
    /// [`Error::Value`] for settings that cannot be used or while an average is in place,
    /// [`Error::NonFinite`] of an earlier step, or what the device refuses; nothing has changed then.
    #[track_caller]
    pub fn swap_in(&self) -> Result<Kept> {
        let at = Location::caller();
        self.0.fit()?;
        self.0.store.exchange(("swap_in", at), self.owner(), |chunks| self.0.formed(chunks))
    }

    /// The plan that makes it ready to be put in place, for a device of this kind. Nothing is run. For tests.
    #[doc(hidden)]
    pub fn plan_with(&self, target: &Target) -> Result<Plan> {
        self.0.fit()?;
        self.0.work(|work| engine::plan_kernels(work, target))
    }

    /// Whose exchange is whose.
    fn owner(&self) -> usize {
        Arc::as_ptr(&self.0) as usize
    }

    /// True while it stands in the parameters' place.
    pub(crate) fn is_in_place(&self) -> bool {
        self.0.store.state().is_exchanged_by(self.owner())
    }

    /// The arenas of the average, one for each of the store's, with what parameters have no average yet filled in. The
    /// caller has entered the store.
    pub(crate) fn arenas(&self) -> Result<Vec<Arc<Arena>>> {
        self.0.fit()?;
        self.0.formed(&self.0.store.chunks(false)?)
    }
}

impl Shared {
    fn settings(&self) -> Settings {
        *lock(&self.settings)
    }

    fn memory(&self) -> Memory {
        lock(&self.memory).clone()
    }

    fn refuse(&self, problem: Problem) -> Error {
        problem.at("average", self.at)
    }

    /// Makes the memory that is missing.
    fn fit(&self) -> Result<()> {
        let settings = self.settings();
        settings.check().map_err(|problem| self.refuse(problem))?;
        if lock(&self.memory).holds(self.store.extent()) {
            return Ok(());
        }
        let _making = lock(&self.making);
        let (chunks, layout) = (self.store.chunks(false)?, self.store.layout()?);
        let mut memory = self.memory();
        if memory.fit(&self.store, settings.kind, &chunks, layout)? {
            *lock(&self.memory) = memory;
            self.edition.store(next_edition(), Ordering::Release);
        }
        Ok(())
    }

    /// [`Average::arenas`].
    fn formed(&self, chunks: &[Chunk]) -> Result<Vec<Arc<Arena>>> {
        let (memory, device) = (self.memory(), self.store.device());
        match device.is_cpu() {
            true => memory.form_on_reference()?,
            false => self.work(|work| engine::run_kernels(device, work))?,
        }
        Ok(memory.averages().take(chunks.len()).collect())
    }

    /// What `run` makes of the kernels that make it ready to be put in place.
    fn work<T>(&self, run: impl FnOnce(&Work<'_>) -> T) -> T {
        let memory = self.memory();
        let kernels = |_: usize, capabilities: &Capabilities| memory.form(capabilities);
        run(&Work { name: "average", key: vec![self.key()], numbers: &[], kernels: &kernels })
    }
}

impl Follower for Shared {
    fn prepare(&self, store: &ParamStore) -> Result<()> {
        if !self.store.same(store) {
            let what = "an average of another store's weights".into();
            return Err(self.refuse(Problem::Value(what, "make it for the store of the optimizer")));
        }
        self.fit()
    }

    fn key(&self) -> u64 {
        self.edition.load(Ordering::Acquire)
    }

    fn numbers(&self) -> [f64; 4] {
        self.settings().numbers()
    }

    fn kernels(&self, word: usize, status: &Arc<Arena>, capabilities: &Capabilities) -> Result<Vec<ArenaKernel>> {
        self.memory().follow(&self.settings(), word, status, capabilities)
    }

    fn reference(&self) -> Result<()> {
        self.memory().follow_on_reference(&self.settings())
    }
}

impl<R: ?Sized> Stepper<R> {
    /// Lets an average follow the weights, from the next step on.
    #[must_use]
    pub fn average(mut self, average: &Average) -> Self {
        self.add_average(average);
        self
    }

    /// [`Stepper::average`] of an optimizer that runs. One that follows already is not added again.
    pub fn add_average(&mut self, average: &Average) {
        self.add_follower(average.0.clone());
    }
}

impl fmt::Debug for Average {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Average({:?} made at {})", self.0.settings(), self.0.at)
    }
}

/// A number that no other has.
fn next_edition() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
