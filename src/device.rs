//! Devices as nodes hold them: a handle, and one seam, [`Backend`], to what runs the graphs. That lies above, in
//! [`crate::engine`]; devices are opened in `open.rs`.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::device_info::DeviceInfo;
use crate::dispatch::ArenaRef;
use crate::error::Result;
use crate::host::HostData;
use crate::profile::{Clock, Phase, Profile, Recorder, Span};
use crate::rng::Draws;
use crate::wait;

/// Where tensors live and run: a GPU, or the f64 reference on the CPU. Cloning copies the handle.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    info: DeviceInfo,
    is_cpu: bool,
    draws: Draws,
    /// True where steps look for what is not finite.
    checked: AtomicBool,
    backend: Box<dyn Backend>,
}

/// Counts since a device was made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Submissions.
    pub runs: u64,
    /// Plans made.
    pub plans_made: u64,
    /// Runs that found their plan.
    pub plans_found: u64,
    /// Dispatches of the last run.
    pub dispatches: usize,
    /// Readable form of the last plan that was made.
    pub last_plan: String,
}

/// What stands behind a device: the f64 reference or a GPU. The engine, which runs graphs on it, finds its own type again
/// behind the trait. By default there is nothing to do and nothing to tell, as on the reference.
pub(crate) trait Backend: Any + Send + Sync {
    /// Name, back end, kind and driver.
    fn info(&self) -> DeviceInfo;
    /// True for the f64 reference.
    fn is_reference(&self) -> bool;
    /// The profiler.
    fn recorder(&self) -> Option<&Recorder> {
        None
    }
    /// Waits until everything submitted has run and is reported to its store.
    fn finish(&self) -> Result<()>;
    /// Waits until few enough submissions are under way for another to join them.
    fn pace(&self) -> Result<()> {
        Ok(())
    }
    /// Counts so far.
    fn statistics(&self) -> Statistics;
    /// Drops every cached plan.
    fn forget_plans(&self) {}
    /// Gives every op a kernel of its own, or no longer.
    fn set_fusion(&self, _enabled: bool) {}

    /// Makes the memory of an arena, zeros.
    fn make_arena(&self, _arena: &ArenaRef) -> Result<()> {
        Ok(())
    }
    /// Gives it back.
    fn drop_arena(&self, _arena: &ArenaRef) {}
    /// Writes values from an element of an arena on; [`Backend::flush`] hands them over.
    fn write_arena(&self, arena: &ArenaRef, first: usize, values: &[f32]) -> Result<()>;
    /// Reads so many from an element on; waits for them.
    fn read_arena(&self, arena: &ArenaRef, first: usize, length: usize) -> Result<HostData>;
    /// Reads whole arenas, one behind the other, with one wait.
    fn read_arenas(&self, arenas: &[&ArenaRef]) -> Result<HostData>;
    /// Hands over what was written, and waits.
    fn flush(&self) -> Result<()> {
        Ok(())
    }

    /// Copies so many elements from the beginning of an arena to that of another, on the device.
    fn copy_arena(&self, from: &ArenaRef, to: &ArenaRef, elements: usize) -> Result<()>;

    /// Bytes in use, now and at most.
    fn memory(&self) -> (u64, u64) {
        (0, 0)
    }
    /// Bytes of a buffer that a kernel can bind.
    fn binding_bytes(&self) -> u64 {
        u64::MAX
    }
    /// Starts or stops a profile.
    fn set_profiling(&self, _on: bool) -> Result<()> {
        Ok(())
    }
    /// What was measured.
    fn profile(&self) -> Result<Profile> {
        Ok(Recorder::new().profile(self.info().to_string(), Clock::Missing))
    }
    /// What the user has been warned of.
    fn warnings(&self) -> Vec<String> {
        vec![]
    }
    /// Driver objects made so far.
    fn objects_made(&self) -> [u64; 3] {
        [0; 3]
    }
    /// The driver library's own counts.
    fn driver_counters(&self) -> [isize; 4] {
        [0; 4]
    }
    /// Fills what nobody holds with NaN.
    fn poison_buffers(&self) -> Result<()> {
        Ok(())
    }
    /// Makes what is named fail at the driver.
    fn inject_fault(&self, _name: &str) {}
    /// Changes the memory limit.
    fn limit_memory(&self, _bytes: u64, _by_driver: bool) {}
    /// Takes these kernel variants wherever an op lists them.
    fn force_variants(&self, _names: &[&'static str]) {}
    /// Destroys the device at the driver.
    fn destroy(&self) {}
}

impl Device {
    pub(crate) fn new(backend: Box<dyn Backend>, check: bool) -> Device {
        Device(Arc::new(Inner {
            info: backend.info(),
            is_cpu: backend.is_reference(),
            draws: Draws::new(0),
            checked: AtomicBool::new(check),
            backend,
        }))
    }

    /// What runs the graphs.
    pub(crate) fn backend(&self) -> &dyn Backend {
        &*self.0.backend
    }

    /// Name of the adapter, or `cpu`.
    pub fn name(&self) -> &str {
        &self.0.info.name
    }

    /// Name, back end, kind and driver.
    pub fn info(&self) -> DeviceInfo {
        self.0.info.clone()
    }

    /// True for the f64 reference.
    pub fn is_cpu(&self) -> bool {
        self.0.is_cpu
    }

    /// True if host numbers keep all their f64 bits here.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_cpu()
    }

    pub(crate) fn same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// The counter of random draws that layers without a store of their own use.
    pub fn draws(&self) -> &Draws {
        &self.0.draws
    }

    /// Waits until everything submitted has run and is reported to its store.
    pub(crate) fn finish(&self) -> Result<()> {
        self.backend().finish()
    }

    /// Ready for another step: at most three are under way. Where a thread may wait, a step does so itself; in a browser,
    /// where it may not, a loop awaits this before each step, or its memory grows with what is queued.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`], and what a browser has refused since the last call.
    pub fn ready(&self) -> impl Future<Output = Result<()>> + use<> {
        let device = self.clone();
        async move { wait::unblocked(|| device.backend().pace()).await }
    }

    /// Bytes of GPU memory that tensors, parameters and plans of this process use on this device, now and at most.
    pub fn memory(&self) -> (u64, u64) {
        self.backend().memory()
    }

    /// Counts since the device was made: runs, dispatches, plans made, plans found.
    pub fn statistics(&self) -> Statistics {
        self.backend().statistics()
    }

    /// Drops every cached plan. For tests that compare a fresh plan with a cached one.
    #[doc(hidden)]
    pub fn forget_plans(&self) {
        self.backend().forget_plans();
    }

    /// Gives every op a kernel of its own: the test mode that fused plans are held to.
    #[doc(hidden)]
    pub fn set_fusion(&self, enabled: bool) {
        self.backend().set_fusion(enabled);
    }

    /// Starts a profile of what runs from now on, or stops. Measuring changes no result; it costs some time a run.
    ///
    /// `KILN_PROFILE=1` starts one with the device and prints it to stderr when the device is dropped. The reference has no
    /// kernels to measure and ignores it.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn set_profiling(&self, on: bool) -> Result<()> {
        wait::instead("Device::set_profiling", "Device::synchronize_async", self.backend().set_profiling(on))
    }

    /// What was measured since profiling was switched on; waits for what is under way. Empty on the reference.
    ///
    /// # Errors
    /// [`crate::Error::DeviceLost`].
    pub fn profile(&self) -> Result<Profile> {
        wait::instead("Device::profile", "Device::profile_async", self.backend().profile())
    }

    /// [`Device::profile`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Device::profile`].
    pub fn profile_async(&self) -> impl Future<Output = Result<Profile>> + use<> {
        let device = self.clone();
        async move { wait::unblocked(|| device.profile()).await }
    }

    /// A span of host time, if there is a profile.
    #[inline]
    pub(crate) fn span(&self, phase: Phase, name: &'static str) -> Option<Span<'_>> {
        self.backend().recorder().map(|recorder| recorder.span(phase, name))
    }

    /// What the device has warned of on stderr so far: failures that it found a way around.
    pub fn warnings(&self) -> Vec<String> {
        self.backend().warnings()
    }

    /// Driver objects made so far by the device: (buffers, bind groups, pipelines). A cached step makes none.
    pub fn objects_made(&self) -> [u64; 3] {
        self.backend().objects_made()
    }

    /// The driver library's own counts of live (buffers, bind groups, compute pipelines, shader modules); zeros
    /// without the `counters` feature.
    #[doc(hidden)]
    pub fn driver_counters(&self) -> [isize; 4] {
        self.backend().driver_counters()
    }

    /// Fills every scratch buffer and every result buffer that nobody holds with NaN, so that a kernel that leaves an
    /// element unwritten shows. For tests.
    #[doc(hidden)]
    pub fn poison_buffers(&self) -> Result<()> {
        self.backend().poison_buffers()
    }

    /// Takes these kernel variants wherever an op lists them. For tests.
    #[doc(hidden)]
    pub fn force_variants(&self, names: &[&'static str]) {
        self.backend().force_variants(names);
    }

    /// Makes what is named fail at the driver from now on: `timestamps`, a word of shaders (`subgroup`) or the name of a
    /// kernel variant. For tests of what happens then.
    #[doc(hidden)]
    pub fn inject_fault(&self, name: &str) {
        self.backend().inject_fault(name);
    }

    /// Changes the memory limit, that of `KILN_MEMORY_LIMIT` or one that only the driver knows. For tests.
    #[doc(hidden)]
    pub fn limit_memory(&self, bytes: u64, by_driver: bool) {
        self.backend().limit_memory(bytes, by_driver);
    }

    /// Turns check mode on or off (at first what `KILN_CHECK` says): each step is waited for, and the error of one with a
    /// gradient that is not finite names the first op that gave such a value.
    pub fn set_check(&self, enabled: bool) {
        self.0.checked.store(enabled, Ordering::Relaxed);
    }

    pub(crate) fn is_checked(&self) -> bool {
        self.0.checked.load(Ordering::Relaxed)
    }

    /// Destroys the device at the driver: everything on it then returns [`crate::Error::DeviceLost`]. For tests of that.
    pub fn destroy(&self) {
        self.backend().destroy();
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.0.info)
    }
}
