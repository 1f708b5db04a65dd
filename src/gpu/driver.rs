//! The handle to an open adapter, and what every call to the driver goes through: errors, panics and a loss become results.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once};
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
    pub(super) in_flight: Mutex<std::collections::VecDeque<wgpu::SubmissionIndex>>,
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

    /// `Err` once the device is lost.
    pub fn check(&self) -> Result<()> {
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
        self.poll(wgpu::PollType::wait_indefinitely())
    }

    pub(super) fn refused(&self, what: &str, message: String) -> Error {
        Error::Driver { device: self.0.info.name.clone(), what: what.into(), message }
    }

    /// Runs driver calls with every kind of driver error, and a panic of the driver's library, turned into a result.
    pub(super) fn scoped<T>(&self, what: &str, body: impl FnOnce() -> T) -> Result<T> {
        self.check()?;
        let device = &self.0.device;
        let memory = device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
        let internal = device.push_error_scope(wgpu::ErrorFilter::Internal);
        let validation = device.push_error_scope(wgpu::ErrorFilter::Validation);
        let result = catch(body);
        let errors = [
            pollster::block_on(validation.pop()),
            pollster::block_on(internal.pop()),
            pollster::block_on(memory.pop()),
        ];
        self.check()?;
        if let Some(error) = errors.into_iter().flatten().next() {
            // A loss that nobody has been told of yet comes as an error of another kind.
            let _ = catch(|| device.poll(wgpu::PollType::Poll));
            self.check()?;
            return Err(match error {
                wgpu::Error::OutOfMemory { .. } => {
                    let used = self.0.memory.usage().0;
                    Error::OutOfMemory { what: what.into(), bytes: 0, used, limit: u64::MAX }
                }
                other => self.refused(what, other.to_string()),
            });
        }
        result.map_err(|message| self.refused(what, message))
    }
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
