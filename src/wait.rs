//! Waiting for what is under way: one mechanism with two ends.
//!
//! Everything that waits says so in one place, [`wait`]: what it waits for, how that is begun, how a thread can sit it out,
//! and how it is taken when it is there. Called as usual, the thread sits it out. Within [`unblocked`] nothing sits, but
//! natively for room for what is submitted: what is not there yet is begun, the call ends early, and is made again once
//! that has arrived. So a call that only reads has its form for browsers, where nobody may sit and wait, without being
//! written twice.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};

/// Nothing has come yet.
pub(crate) const PENDING: u8 = 0;
/// It is there, to be taken.
pub(crate) const ARRIVED: u8 = 1;
/// It was taken.
pub(crate) const TAKEN: u8 = 2;
/// It will not come.
pub(crate) const FAILED: u8 = 3;

/// Passes of a call that must see one state of its stores, before it is given up.
const PASSES: usize = 16;

/// How far something under way has come; wakes who waits for it.
#[derive(Debug)]
pub(crate) struct Signal {
    /// Unlike that of any other.
    pub id: u64,
    state: AtomicU8,
    wakers: Mutex<Vec<Waker>>,
}

impl Signal {
    pub fn new() -> Arc<Signal> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        Arc::new(Signal { id, state: AtomicU8::new(PENDING), wakers: Mutex::default() })
    }

    pub fn get(&self) -> u8 {
        self.state.load(Ordering::Acquire)
    }

    pub fn set(&self, state: u8) {
        self.state.store(state, Ordering::Release);
        // Outside the lock: who is woken may ask at once.
        let wakers = std::mem::take(&mut *lock(&self.wakers));
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Until it is no longer pending.
    pub async fn settled(&self) {
        poll_fn(|context: &mut Context<'_>| {
            let mut wakers = lock(&self.wakers);
            if self.get() != PENDING {
                return Poll::Ready(());
            }
            if !wakers.iter().any(|waker| waker.will_wake(context.waker())) {
                wakers.push(context.waker().clone());
            }
            Poll::Pending
        })
        .await;
    }
}

/// What is waited for: the same key stands for the same thing while one call is made again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    /// What sets the signal of this number.
    Signal(u64),
    /// Everything that has been submitted to a device.
    All(usize),
    /// Bytes of a buffer: its number, the first, how many.
    Bytes(u64, u64, u64),
}

/// Bytes that were waited for; none where only the end was.
pub(crate) type Bytes = Arc<Vec<u8>>;

/// Something under way.
pub(crate) struct Awaited {
    /// Set by the driver.
    pub signal: Arc<Signal>,
    /// Sits it out on this thread.
    pub sit: Box<dyn FnOnce() -> Result<()> + Send>,
    /// Takes what has come.
    pub take: Box<dyn FnOnce() -> Result<Bytes> + Send>,
}

/// What a method gives that must be a trait object's: the result of an async call.
pub type Waiting<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + 'a>>;

type Coming = Pin<Box<dyn Future<Output = Result<Bytes>> + Send>>;

impl Awaited {
    /// Only the end is waited for.
    pub fn end(signal: Arc<Signal>, sit: impl FnOnce() -> Result<()> + Send + 'static) -> Awaited {
        Awaited { signal, sit: Box::new(sit), take: Box::new(|| Ok(Bytes::default())) }
    }

    /// Sits it out on this thread, and takes it.
    pub fn sit_out(self) -> Result<Bytes> {
        (self.sit)()?;
        (self.take)()
    }

    /// The driver calls back by itself in a browser.
    #[cfg(target_family = "wasm")]
    async fn arrive(self) -> Result<Bytes> {
        self.signal.settled().await;
        (self.take)()
    }

    /// Elsewhere somebody must ask it: a thread of its own.
    #[cfg(not(target_family = "wasm"))]
    async fn arrive(self) -> Result<Bytes> {
        let Awaited { signal, sit, take } = self;
        let failure = Arc::new(Mutex::new(None));
        let (done, told) = (Signal::new(), failure.clone());
        let over = done.clone();
        let thread = std::thread::Builder::new().name("kiln wait".into()).spawn(move || {
            *lock(&told) = sit().err();
            over.set(ARRIVED);
        });
        thread.map_err(|error| Error::io("a thread", "start", error))?;
        done.settled().await;
        drop(signal);
        let failed = lock(&failure).take();
        failed.map_or_else(take, Err)
    }
}

/// What a call that is made again has waited for so far, and what its last pass has begun.
#[derive(Default)]
struct Passes {
    known: HashMap<Key, Result<Bytes>>,
    begun: Vec<(Key, Coming)>,
}

/// What a thread does where it would have to wait.
enum Manner {
    /// It sits it out.
    Sits,
    /// It refuses.
    Refuses,
    /// It begins what it needs, and will be back.
    Returns(Passes),
}

thread_local! {
    static MANNER: RefCell<Manner> = const { RefCell::new(USUAL) };
    /// True within [`block_on`]: futures may sit on this thread, and need no other.
    static SITS: Cell<bool> = const { Cell::new(false) };
}

const USUAL: Manner = if cfg!(target_family = "wasm") { Manner::Refuses } else { Manner::Sits };

/// Puts a manner in the place of another until it is dropped.
struct For(Option<Manner>);

impl For {
    fn now(manner: Manner) -> For {
        For(Some(MANNER.replace(manner)))
    }

    fn end(mut self) -> Manner {
        match self.0.take() {
            Some(before) => MANNER.replace(before),
            None => USUAL,
        }
    }
}

impl Drop for For {
    fn drop(&mut self) {
        if let Some(before) = self.0.take() {
            MANNER.set(before);
        }
    }
}

/// Waits for what `begin` begins, in the manner of this thread.
///
/// # Errors
/// What beginning, waiting or taking met; [`Error::WouldBlock`] where it has to be waited for and nobody may.
pub(crate) fn wait(key: Key, begin: impl FnOnce() -> Result<Awaited>) -> Result<Bytes> {
    enum Turn {
        Sit,
        Begin,
        Over(Result<Bytes>),
    }
    let turn = MANNER.with_borrow(|manner| match manner {
        Manner::Sits => Turn::Sit,
        Manner::Refuses => Turn::Over(Err(refusal())),
        Manner::Returns(passes) => match passes.known.get(&key) {
            Some(known) => Turn::Over(known.clone()),
            None if passes.begun.iter().any(|(begun, _)| *begun == key) => Turn::Over(Err(refusal())),
            None => Turn::Begin,
        },
    });
    match turn {
        Turn::Sit => {
            let Awaited { sit, take, .. } = begin()?;
            sit()?;
            take()
        }
        Turn::Begin => {
            let coming: Coming = Box::pin(begin()?.arrive());
            MANNER.with_borrow_mut(|manner| {
                if let Manner::Returns(passes) = manner {
                    passes.begun.push((key, coming));
                }
            });
            Err(refusal())
        }
        Turn::Over(result) => result,
    }
}

fn refusal() -> Error {
    Error::WouldBlock { call: "this call", instead: "kiln::unblocked" }
}

/// `result` of `call`, whose form for browsers is `instead`.
pub(crate) fn instead<T>(call: &'static str, instead: &'static str, result: Result<T>) -> Result<T> {
    result.map_err(|error| match error {
        Error::WouldBlock { .. } => Error::WouldBlock { call, instead },
        other => other,
    })
}

/// What `body` gives, without blocking the thread that awaits it: for calls that wait and have no async form of their own.
///
/// `body` is called again whenever something that it waits for has arrived, from its beginning, until nothing is missing.
/// So it should read, not change: its reads are then those of its last pass, and what it has read before is not read anew.
/// Record what it reads outside of it: a tensor that `body` itself makes is another one in each pass, and never arrives.
///
/// ```
/// # use kiln::prelude::*;
/// # fn main() -> Result<()> {
/// # let device = Device::cpu();
/// let scores = device.tensor(&[0.1f32, 0.7, 0.7], &[3]);
/// let different = kiln::unblocked(|| scores.unique::<f32>());
/// assert_eq!(pollster::block_on(different)?.values, [0.1, 0.7]);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// What `body` returns.
pub async fn unblocked<T>(body: impl FnMut() -> Result<T>) -> Result<T> {
    consistent(|| 0, body).await
}

/// [`unblocked`] for a call whose passes must all see what `stamp` stands for: it begins anew where that has changed.
pub(crate) async fn consistent<T>(stamp: impl Fn() -> u64, mut body: impl FnMut() -> Result<T>) -> Result<T> {
    if SITS.get() {
        return body();
    }
    let (mut known, mut seen, mut renewed) = (HashMap::new(), stamp(), 0);
    loop {
        if stamp() != seen {
            (seen, renewed) = (stamp(), renewed + 1);
            known = HashMap::new();
        }
        if renewed >= PASSES {
            let next = "await it before the next step";
            return Err(Error::Data { what: "parameters change while they are read".into(), next });
        }
        let (result, begun);
        (result, known, begun) = pass(known, &mut body);
        // A failure that somebody must be told of may be told once only.
        if begun.is_empty() || result.as_ref().is_err_and(|error| !is_refusal(error)) {
            return result;
        }
        for (key, coming) in begun {
            let arrived = coming.await;
            known.insert(key, arrived);
        }
    }
}

fn is_refusal(error: &Error) -> bool {
    match error {
        Error::Callback { source, .. } => is_refusal(source),
        other => matches!(other, Error::WouldBlock { .. }),
    }
}

type Known = HashMap<Key, Result<Bytes>>;

/// One pass of `body`, with what is known: its result, that, and what has been begun.
fn pass<T>(known: Known, body: &mut impl FnMut() -> Result<T>) -> (Result<T>, Known, Vec<(Key, Coming)>) {
    let manner = For::now(Manner::Returns(Passes { known, begun: vec![] }));
    let result = body();
    match manner.end() {
        Manner::Returns(Passes { known, begun }) => (result, known, begun),
        _ => (result, Known::new(), vec![]),
    }
}

/// The blocking form of an async call: sits until `future` is done. In a browser gives what is there at once.
///
/// # Errors
/// What `future` gives; [`Error::WouldBlock`] that names `instead` where it is not done at once and nobody may wait.
pub(crate) fn block_on<T>(
    call: &'static str,
    instead: &'static str,
    future: impl Future<Output = Result<T>>,
) -> Result<T> {
    sit_or_refuse(call, instead, pin!(future))
}

/// [`block_on`] of any future of `T`: what a future does would be compiled anew for each place that polls it.
fn sit_or_refuse<T>(
    call: &'static str,
    instead: &'static str,
    mut future: Pin<&mut dyn Future<Output = Result<T>>>,
) -> Result<T> {
    let refuses = MANNER.with_borrow(|manner| !matches!(manner, Manner::Sits));
    if !refuses {
        struct Before(bool);
        impl Drop for Before {
            fn drop(&mut self) {
                SITS.set(self.0);
            }
        }
        let _before = Before(SITS.replace(true));
        return sit_through(future);
    }
    match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(Error::WouldBlock { call, instead }),
    }
}

#[cfg(not(target_family = "wasm"))]
fn sit_through<T>(future: impl Future<Output = Result<T>>) -> Result<T> {
    pollster::block_on(future)
}

/// Never reached: nobody sits there.
#[cfg(target_family = "wasm")]
fn sit_through<T>(_: impl Future<Output = Result<T>>) -> Result<T> {
    Err(refusal())
}

/// Calls `body` as a browser would: nothing in it may wait. For tests.
#[doc(hidden)]
pub fn refusing_to_wait<T>(body: impl FnOnce() -> T) -> T {
    let _manner = For::now(Manner::Refuses);
    body()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Something that arrives after a while, and counts how often it was begun.
    fn slow(key: u64, begun: &Cell<usize>) -> Result<Bytes> {
        wait(Key::Bytes(key, 0, 1), || {
            begun.set(begun.get() + 1);
            let take = move || Ok(Arc::new(vec![key as u8]));
            Ok(Awaited { signal: Signal::new(), sit: Box::new(|| Ok(())), take: Box::new(take) })
        })
    }

    #[test]
    fn a_call_is_made_again_until_all_is_there_and_begins_nothing_twice() {
        let (begun, passes) = (Cell::new(0), Cell::new(0));
        let both = pollster::block_on(unblocked(|| {
            passes.set(passes.get() + 1);
            Ok((slow(1, &begun)?, slow(2, &begun)?, slow(1, &begun)?))
        }));
        assert_eq!(both.unwrap(), (Arc::new(vec![1]), Arc::new(vec![2]), Arc::new(vec![1])));
        assert_eq!((begun.get(), passes.get()), (2, 3));
        let (begun, passes) = (Cell::new(0), Cell::new(0));
        let once = unblocked(|| {
            passes.set(passes.get() + slow(1, &begun)?.len());
            Ok(())
        });
        let own = block_on("a", "b", once);
        assert_eq!((own.is_ok(), begun.get(), passes.get()), (true, 1, 1), "a thread that may sit makes one pass");
    }

    #[test]
    fn a_change_between_two_passes_begins_anew() {
        let (begun, version) = (Cell::new(0), Cell::new(0));
        let read = consistent(
            || version.get(),
            || {
                let first = slow(1, &begun)?;
                version.set(1);
                slow(2, &begun)?;
                Ok(first)
            },
        );
        assert!(pollster::block_on(read).is_ok());
        assert_eq!(begun.get(), 4);
        let restless = consistent(|| version.replace(version.get() + 1), || slow(1, &begun));
        assert!(matches!(pollster::block_on(restless), Err(Error::Data { .. })));
    }

    #[test]
    fn where_nobody_may_wait_the_error_names_the_other_form() {
        let begun = Cell::new(0);
        let refused = refusing_to_wait(|| instead("item", "item_async", slow(1, &begun)));
        assert!(matches!(refused, Err(Error::WouldBlock { call: "item", instead: "item_async" })));
        assert_eq!(begun.get(), 0);
        let ready = refusing_to_wait(|| block_on("best", "best_async", async { Ok(1) }));
        assert_eq!(ready.unwrap(), 1);
        let never = refusing_to_wait(|| block_on::<()>("best", "best_async", std::future::pending()));
        assert!(matches!(never, Err(Error::WouldBlock { instead: "best_async", .. })));
    }
}
