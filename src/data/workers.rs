//! The threads of a loader. Each takes the next batch that nobody has begun, loads its items, makes it a batch, and puts
//! it where the loader waits for it by its number.

use std::any::Any;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use super::collate::Collator;
use super::data_loader::Source;
use crate::clock::Instant;
use crate::error::{Error, Result};
use crate::rng::{Philox, philox4x32};

/// Keeps what transforms draw apart from every other use of the same seed.
const CHANGE: u64 = 0x7472_616e_7366_6f72;

/// The items of an epoch.
pub(super) struct Order {
    indices: Vec<usize>,
    /// How often each has come before; nothing where none comes again.
    copies: Option<Vec<u32>>,
}

impl Order {
    /// The order `indices`, all below `length`.
    pub fn new(indices: Vec<usize>, length: usize) -> Order {
        let mut seen = vec![0u32; length];
        let before = |&index: &usize| {
            seen[index] += 1;
            seen[index] - 1
        };
        let copies: Vec<u32> = indices.iter().map(before).collect();
        let copies = copies.iter().any(|&copy| copy > 0).then_some(copies);
        Order { indices, copies }
    }
}

/// The stream of an item in an epoch.
pub(super) fn stream(seed: u64, epoch: u64, index: u64, copy: u32) -> Philox {
    let halves = |word: u64| [word as u32, (word >> 32) as u32];
    let ([a, b], [c, d]) = (halves(index), halves(epoch));
    let mut words = philox4x32([a, b, c, d], halves(seed ^ CHANGE));
    if copy > 0 {
        words = philox4x32(words, [copy, 0]);
    }
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Philox::new(join(words[0], words[1]), join(words[2], words[3]))
}

/// How to load the batches of one epoch.
pub(super) struct Job<T, C> {
    pub source: Arc<dyn Source<T>>,
    pub collator: Arc<C>,
    pub order: Arc<Order>,
    pub size: usize,
    pub seed: u64,
    pub epoch: u64,
    pub batches: u64,
    /// Of so many batches one is loaded.
    pub every: u64,
    pub skip: bool,
}

/// What has become of a batch.
pub(super) struct Outcome<B> {
    /// None where no item is left.
    pub batch: Result<Option<B>>,
    pub skipped: Vec<Error>,
}

impl<T, C: Collator<T>> Job<T, C> {
    /// Loads batch `number`; stops early when `cancelled` says so, and tells `at` the item that it begins.
    pub fn run(&self, number: u64, cancelled: &dyn Fn() -> bool, at: &mut dyn FnMut(usize)) -> Outcome<C::Batch> {
        let start = number as usize * self.size;
        let end = self.order.indices.len().min(start.saturating_add(self.size));
        let (mut items, mut skipped) = (Vec::with_capacity(end - start), vec![]);
        for place in start..end {
            if cancelled() {
                return Outcome { batch: Ok(None), skipped };
            }
            let index = self.order.indices[place];
            at(index);
            match self.item(place, index) {
                Ok(item) => items.push(item),
                Err(error) if self.skip => skipped.push(error),
                Err(error) => return Outcome { batch: Err(error), skipped },
            }
        }
        if items.is_empty() {
            return Outcome { batch: Ok(None), skipped };
        }
        let batch = catch_unwind(AssertUnwindSafe(|| self.collator.batch(items))).unwrap_or_else(|panic| {
            let what = format!("making batch {number} panicked: {}", message(&*panic));
            Err(Error::Data { what, next: "correct the closure that makes batches" })
        });
        Outcome { batch: batch.map(Some), skipped }
    }

    fn item(&self, place: usize, index: usize) -> Result<T> {
        let copy = self.order.copies.as_ref().map_or(0, |copies| copies[place]);
        let mut random = stream(self.seed, self.epoch, index as u64, copy);
        let what = match catch_unwind(AssertUnwindSafe(|| self.source.load(index, &mut random))) {
            Ok(Ok(item)) => return Ok(item),
            Ok(Err(error)) => error.to_string(),
            Err(panic) => {
                format!("its loading panicked: {}; correct the code that loads or changes it", message(&*panic))
            }
        };
        Err(Error::Item { index, name: self.source.name(index), what })
    }
}

/// The words of a panic.
fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("without a message")
}

/// What workers and the loader share.
struct Desk<B> {
    state: Mutex<State<B>>,
    /// Work for workers: a batch has been taken, or all is over.
    work: Condvar,
    /// A batch is ready.
    ready: Condvar,
}

struct State<B> {
    /// The first batch that nobody has begun.
    next: u64,
    /// Batches from here on may not be begun.
    limit: u64,
    ready: BTreeMap<u64, Outcome<B>>,
    /// The item that each worker is at.
    at: Vec<Option<usize>>,
    cancelled: bool,
}

impl<B> Desk<B> {
    fn lock(&self) -> MutexGuard<'_, State<B>> {
        // No code of a user runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Threads at work on an epoch. Dropping it ends them.
pub(super) struct Crew<B> {
    desk: Arc<Desk<B>>,
    threads: Vec<JoinHandle<()>>,
    ahead: u64,
    /// From one batch to the next.
    every: u64,
    name: Box<dyn Fn(usize) -> Option<String> + Send>,
    /// A batch did not come in time: a thread may never end.
    stuck: bool,
}

impl<B: Send + 'static> Crew<B> {
    /// Starts `workers` threads on the batches from `first`, at most `ahead` of them before they are asked for.
    pub fn start<T, C>(job: Job<T, C>, first: u64, workers: usize, ahead: usize) -> Result<Crew<B>>
    where
        T: 'static,
        C: Collator<T, Batch = B> + Send + Sync + 'static,
    {
        let (ahead, every) = ((ahead as u64).saturating_mul(job.every), job.every);
        let state = State {
            next: first,
            limit: first.saturating_add(ahead),
            ready: BTreeMap::new(),
            at: vec![None; workers],
            cancelled: false,
        };
        let desk = Arc::new(Desk { state: Mutex::new(state), work: Condvar::new(), ready: Condvar::new() });
        let source = job.source.clone();
        let name = Box::new(move |index| source.name(index));
        let job = Arc::new(job);
        let mut crew = Crew { desk: desk.clone(), threads: vec![], ahead, every, name, stuck: false };
        for worker in 0..workers {
            let (desk, job) = (desk.clone(), job.clone());
            let thread = std::thread::Builder::new().name(format!("kiln data {worker}"));
            let thread = thread.spawn(move || work(&desk, &job, worker)).map_err(|error| Error::Data {
                what: format!("worker {worker} cannot be started: {error}"),
                next: "use fewer workers",
            })?;
            crew.threads.push(thread);
        }
        Ok(crew)
    }

    /// Waits for batch `number`.
    pub fn take(&mut self, number: u64, timeout: Option<Duration>) -> Result<Outcome<B>> {
        let began = Instant::now();
        let mut state = self.desk.lock();
        loop {
            if let Some(outcome) = state.ready.remove(&number) {
                state.limit = (number + self.every).saturating_add(self.ahead);
                drop(state);
                self.desk.work.notify_all();
                return Ok(outcome);
            }
            let Some(longest) = timeout else {
                state = self.desk.ready.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = longest.saturating_sub(began.elapsed());
            if left.is_zero() {
                let at: Vec<usize> = state.at.iter().flatten().copied().collect();
                drop(state);
                self.stuck = true;
                let called = |&index: &usize| match (self.name)(index) {
                    Some(name) => format!("item {index} ({name})"),
                    None => format!("item {index}"),
                };
                let at: Vec<String> = at.iter().map(called).collect();
                let what = format!("batch {number} did not come within {longest:?}: workers are at {}", at.join(", "));
                return Err(Error::Data { what, next: "see what keeps these items, or wait longer" });
            }
            state = self.desk.ready.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl<B> Drop for Crew<B> {
    fn drop(&mut self) {
        self.desk.lock().cancelled = true;
        self.desk.work.notify_all();
        for thread in self.threads.drain(..) {
            if !self.stuck || thread.is_finished() {
                // A panic of a user's code has been caught and told already.
                let _ = thread.join();
            }
        }
    }
}

fn work<T, C: Collator<T>>(desk: &Desk<C::Batch>, job: &Job<T, C>, worker: usize) {
    loop {
        let mut state = desk.lock();
        while !state.cancelled && state.next < job.batches && state.next >= state.limit {
            state = desk.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.cancelled || state.next >= job.batches {
            return;
        }
        let number = state.next;
        state.next += job.every;
        drop(state);
        let outcome = job.run(number, &|| desk.lock().cancelled, &mut |index| desk.lock().at[worker] = Some(index));
        let mut state = desk.lock();
        state.at[worker] = None;
        state.ready.insert(number, outcome);
        drop(state);
        desk.ready.notify_all();
    }
}
