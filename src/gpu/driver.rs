//! The handle to an open adapter, and what every call to the driver goes through: errors, panics and a loss become results.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::memory::{Buffer, Memory, Scratch, Staging};
use super::pipelines::Pipelines;
use super::queries::Timestamps;
use super::value::Ring;
use crate::cache::Cache;
use crate::device_info::DeviceInfo;
use crate::error::{Error, Result};
use crate::kernel::Capabilities;
use crate::profile::{Phase, Recorder};
use crate::settings::{Settings, Tune};
use crate::target::Target;
use crate::wait::{self, ARRIVED, Awaited, Key, PENDING, Signal};

/// An open adapter with what is cached on it. Cloning copies the handle.
#[derive(Clone)]
pub(crate) struct Gpu(pub(super) Arc<Inner>);

pub(crate) struct Inner {
    pub(super) info: DeviceInfo,
    /// True if half precision is stored as such: fixed when the device is opened, for buffers depend on it.
    pub(super) f16: bool,
    pub(super) target: Mutex<Arc<Target>>,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) memory: Arc<Memory>,
    /// Message of the driver once the device is lost.
    pub(super) lost: Arc<Mutex<Option<String>>>,
    pub(super) is_lost: Arc<AtomicBool>,
    /// True in a browser, and where a test wants it to be like that: nothing waits, and errors come late.
    pub(super) browser: bool,
    /// What the driver refused after the call had returned; for the next one.
    pub(super) late: Arc<Mutex<Option<wgpu::Error>>>,
    /// A kernel that was refused late, with the error.
    pub(super) late_kernel: Mutex<Option<Error>>,
    /// True if plans hold kernels or buffers that were refused late.
    pub(super) stale: AtomicBool,
    /// Buffers, bind groups and pipelines made so far.
    pub(super) made: [AtomicU64; 3],
    pub(super) max_buffer_size: u64,
    pub(super) uniform_alignment: u64,
    pub(super) storage_alignment: u64,
    pub(super) pipelines: Mutex<Pipelines>,
    /// Buffers of arenas, by number.
    pub(super) arenas: Mutex<HashMap<u64, Buffer>>,
    pub(super) scratch: Mutex<Scratch>,
    pub(super) staging: Mutex<Staging>,
    pub(super) reads: Mutex<Ring>,
    pub(super) in_flight: Mutex<std::collections::VecDeque<Flying>>,
    /// The host numbers of the run that is being encoded.
    pub(super) operands: Buffer,
    pub(super) cache: Cache,
    /// True if the text of a kernel that is refused is part of the error.
    pub(super) show_shaders: bool,
    pub(super) tuning: Mutex<Tuning>,
    pub(super) recorder: Recorder,
    pub(super) timestamps: Mutex<Timestamps>,
    /// What the user has been warned of, once each.
    pub(super) warnings: Mutex<Vec<String>>,
    /// Failures that a test wants to see.
    pub(super) faults: Mutex<Vec<String>>,
    /// True while nothing is made that a run can do without.
    pub(super) frugal: AtomicBool,
}

/// How the user wants kernels to be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tuning {
    pub read: bool,
    pub measure: bool,
    pub left: Duration,
}

impl Tuning {
    pub fn new(settings: &Settings) -> Tuning {
        Tuning { read: settings.tune != Tune::Off, measure: settings.tune == Tune::On, left: settings.tune_time }
    }
}

/// Steps that may be queued before the host waits for the oldest.
pub(super) const IN_FLIGHT: usize = 3;

impl Gpu {
    pub fn info(&self) -> &DeviceInfo {
        &self.0.info
    }

    /// What plans are made for; another value once the driver has failed at something, or something was measured.
    pub fn target(&self) -> Arc<Target> {
        lock(&self.0.target).clone()
    }

    /// Lets plans be made as if the adapter had other capabilities; only before the handle is shared.
    pub fn pretend(&mut self, change: impl FnOnce(&mut Capabilities)) {
        if let Some(inner) = Arc::get_mut(&mut self.0) {
            let target = Arc::make_mut(inner.target.get_mut().unwrap_or_else(|broken| broken.into_inner()));
            change(&mut target.capabilities);
            inner.f16 = target.capabilities.f16;
        }
    }

    /// The profiler.
    pub fn recorder(&self) -> &Recorder {
        &self.0.recorder
    }

    /// Tells the user something, once, on stderr: the run goes on.
    pub fn warn(&self, text: &str) {
        let mut warnings = lock(&self.0.warnings);
        if !warnings.iter().any(|known| known == text) {
            eprintln!("kiln: {}: {text}", self.0.info.name);
            warnings.push(text.into());
        }
    }

    /// What the user has been warned of.
    pub fn warnings(&self) -> Vec<String> {
        lock(&self.0.warnings).clone()
    }

    /// Makes what is named fail from now on, at the driver.
    pub fn inject_fault(&self, name: &str) {
        if name == "loss" {
            // Nobody notes it: what comes next has to find out.
            return self.0.device.destroy();
        }
        lock(&self.0.faults).push(name.into());
    }

    pub(super) fn has_fault(&self, name: &str) -> bool {
        lock(&self.0.faults).iter().any(|fault| fault == name)
    }

    /// An error of the driver's library, for injected faults.
    pub(super) fn cause_error(&self) {
        let (size, usage) = (4, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::MAP_WRITE);
        let descriptor =
            wgpu::BufferDescriptor { label: Some("an injected fault"), size, usage, mapped_at_creation: false };
        let _ = self.0.device.create_buffer(&descriptor);
    }

    /// Buffers, bind groups and pipelines made so far.
    pub fn made(&self) -> [u64; 3] {
        [0, 1, 2].map(|i| self.0.made[i].load(Ordering::Relaxed))
    }

    pub(super) fn count(&self, kind: usize, number: usize) {
        self.0.made[kind].fetch_add(number as u64, Ordering::Relaxed);
    }

    /// The driver library's counts of live buffers, bind groups, compute pipelines and shader modules.
    pub fn driver_counters(&self) -> [isize; 4] {
        let hal = self.0.device.get_internal_counters().hal;
        [hal.buffers.read(), hal.bind_groups.read(), hal.compute_pipelines.read(), hal.shader_modules.read()]
    }

    /// Bytes in use, now and at most.
    pub fn memory(&self) -> (u64, u64) {
        self.0.memory.usage()
    }

    /// Destroys the device; its loss is noted at once.
    pub fn destroy(&self) {
        self.0.device.destroy();
        self.mark_lost("destroyed by the program".into());
    }

    pub(super) fn mark_lost(&self, reason: String) {
        lock(&self.0.lost).get_or_insert(reason);
        self.0.is_lost.store(true, Ordering::Release);
    }

    /// `Err` once the device is lost, and once for what a browser has refused since the last check.
    pub fn check(&self) -> Result<()> {
        self.check_lost()?;
        if self.0.browser { self.take_late() } else { Ok(()) }
    }

    /// `Err` once the device is lost.
    pub(super) fn check_lost(&self) -> Result<()> {
        if !self.0.is_lost.load(Ordering::Acquire) {
            return Ok(());
        }
        let reason = lock(&self.0.lost).clone().unwrap_or_default();
        Err(Error::DeviceLost { device: self.0.info.name.clone(), reason })
    }

    /// Lets callbacks run; waits where `wait` says so. The driver's panic on a lost device becomes an error.
    pub(super) fn poll(&self, wait: wgpu::PollType) -> Result<()> {
        self.check()?;
        let waits = matches!(wait, wgpu::PollType::Wait { .. });
        let _span = waits.then(|| self.0.recorder.span(Phase::Wait, "wait"));
        let polled = catch(|| {
            assert!(!self.has_fault("poll"), "an injected fault");
            self.0.device.poll(wait)
        });
        self.check()?;
        match polled {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.refused("waiting for the queue", error.to_string())),
            Err(reason) => {
                self.mark_lost(reason);
                self.check()
            }
        }
    }

    /// Lets callbacks of finished work run, without waiting.
    pub fn progress(&self) -> Result<()> {
        self.poll(wgpu::PollType::Poll)
    }

    /// Waits until everything submitted has run.
    pub fn wait(&self) -> Result<()> {
        if self.0.browser && !self.is_busy() {
            return self.check();
        }
        let gpu = self.clone();
        let key = Key::All(Arc::as_ptr(&self.0) as usize);
        wait::wait(key, || {
            let signal = Signal::new();
            #[cfg(target_family = "wasm")]
            {
                let done = signal.clone();
                self.0.queue.on_submitted_work_done(move || done.set(ARRIVED));
            }
            Ok(Awaited::end(signal, move || gpu.poll(wgpu::PollType::wait_indefinitely())))
        })?;
        self.check()
    }

    /// Waits so that what was dropped is given back. Browsers give it back in their own time.
    pub(super) fn wait_for_room(&self) -> Result<()> {
        if self.0.browser { Ok(()) } else { self.poll(wgpu::PollType::wait_indefinitely()) }
    }

    /// Waits for the oldest submissions until another may join the queue: flow control, not a stall.
    pub fn pace(&self) -> Result<()> {
        loop {
            let oldest = {
                let mut queue = lock(&self.0.in_flight);
                queue.retain(|flying| flying.done.get() == PENDING);
                if queue.len() < IN_FLIGHT { return Ok(()) } else { queue.front().cloned() }
            };
            let Some(Flying { index, done }) = oldest else { return Ok(()) };
            let (gpu, waited) = (self.clone(), done.clone());
            wait::wait(Key::Signal(done.id), || {
                Ok(Awaited::end(waited.clone(), move || {
                    gpu.poll(wgpu::PollType::Wait { submission_index: Some(index), timeout: None })?;
                    waited.set(ARRIVED);
                    Ok(())
                }))
            })?;
        }
    }

    /// Notes a submission.
    pub(super) fn note_flight(&self, index: wgpu::SubmissionIndex) {
        let done = Signal::new();
        if self.0.browser {
            let signal = done.clone();
            self.0.queue.on_submitted_work_done(move || signal.set(ARRIVED));
        }
        let mut queue = lock(&self.0.in_flight);
        queue.retain(|flying| flying.done.get() == PENDING);
        queue.push_back(Flying { index, done });
    }

    /// True if something may still run.
    fn is_busy(&self) -> bool {
        lock(&self.0.in_flight).iter().any(|flying| flying.done.get() == PENDING)
    }

    pub(super) fn refused(&self, what: &str, message: String) -> Error {
        Error::Driver { device: self.0.info.name.clone(), what: what.into(), message }
    }

    /// Runs driver calls with every kind of driver error, and a panic of the driver's library, turned into a result.
    ///
    /// In a browser errors come when the call has long returned: there the next check has them.
    pub(super) fn scoped<T>(&self, what: &str, body: impl FnOnce() -> T) -> Result<T> {
        self.check()?;
        if self.0.browser {
            return catch(body).map_err(|message| self.refused(what, message));
        }
        let (result, verdict) = self.judged(body);
        let error = now(verdict.0);
        self.check()?;
        if let Some(error) = error {
            // A loss that nobody has been told of yet comes as an error of another kind.
            let _ = catch(|| self.0.device.poll(wgpu::PollType::Poll));
            self.check()?;
            return Err(self.translated(what, error));
        }
        result.map_err(|message| self.refused(what, message))
    }

    /// Runs driver calls, and gives what the driver will say of them.
    pub(super) fn judged<T>(&self, body: impl FnOnce() -> T) -> (std::result::Result<T, String>, Verdict) {
        let device = &self.0.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = catch(body);
        (result, Verdict(Box::pin(first_of(validation.pop(), internal.pop(), memory.pop()))))
    }

    pub(super) fn translated(&self, what: &str, error: wgpu::Error) -> Error {
        match error {
            wgpu::Error::OutOfMemory { .. } => {
                let used = self.0.memory.usage().0;
                Error::OutOfMemory { what: what.into(), bytes: 0, used, limit: u64::MAX }
            }
            other => self.refused(what, other.to_string()),
        }
    }

    /// What was refused late, once.
    fn take_late(&self) -> Result<()> {
        let (kernel, other) = (lock(&self.0.late_kernel).take(), lock(&self.0.late).take());
        match (kernel, other) {
            (Some(error), _) => Err(error),
            (None, Some(error)) => {
                // Plans may hold buffers that there are not.
                self.0.stale.store(true, Ordering::Release);
                Err(self.translated("an earlier call", error))
            }
            (None, None) => Ok(()),
        }
    }

    /// Notes a kernel that was refused after its plan was made.
    pub(super) fn note_late(&self, error: Error) {
        lock(&self.0.late_kernel).get_or_insert(error);
        self.0.stale.store(true, Ordering::Release);
    }

    /// True, once, if plans hold kernels or buffers that were refused late.
    pub fn take_stale(&self) -> bool {
        self.0.stale.load(Ordering::Relaxed) && self.0.stale.swap(false, Ordering::AcqRel)
    }

    /// True in a browser, or where a test wants it to be like that.
    pub(super) fn is_browser(&self) -> bool {
        self.0.browser
    }
}

/// What the driver will say of calls: an error, if there is one.
pub(super) struct Verdict(pub(super) Pin<Box<dyn Future<Output = Option<wgpu::Error>>>>);

type Popped = Option<wgpu::Error>;

async fn first_of(
    validation: impl Future<Output = Popped>,
    internal: impl Future<Output = Popped>,
    memory: impl Future<Output = Popped>,
) -> Popped {
    let errors = [validation.await, internal.await, memory.await];
    errors.into_iter().flatten().next()
}

/// A submission that may still run.
#[derive(Clone)]
pub(crate) struct Flying {
    index: wgpu::SubmissionIndex,
    done: Arc<Signal>,
}

/// What a future of the driver gives: natively it is there at once.
fn now<T>(future: impl Future<Output = Option<T>>) -> Option<T> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => None,
    }
}

/// Lets `future` run by itself.
pub(super) fn later(future: impl Future<Output = ()> + 'static) {
    #[cfg(target_family = "wasm")]
    wasm_bindgen_futures::spawn_local(future);
    #[cfg(not(target_family = "wasm"))]
    now(async move {
        future.await;
        Some(())
    });
}

thread_local! {
    /// True while this thread is within [`catch`].
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
    /// Where the last panic there was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs `body`; a panic becomes its message and place, and is not printed: the error says it.
pub(super) fn catch<T>(body: impl FnOnce() -> T) -> std::result::Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        // A thread that panics may not change the hook.
        if !std::thread::panicking() {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| match CAUGHT.try_with(Cell::get) {
                Ok(true) => PLACE.with_borrow_mut(|place| {
                    *place = panic.location().map_or_else(String::new, |location| format!(" (at {location})"));
                }),
                _ => before(panic),
            }));
        }
    });
    let before = CAUGHT.replace(true);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    CAUGHT.set(before);
    result.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
        text.unwrap_or_else(|| "a panic".into()) + &PLACE.take()
    })
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
