//! Devices, arenas, and what a device remembers between runs.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use crate::device_info::DeviceInfo;
use crate::engine::{self, Engine};
use crate::error::{Error, Result};
use crate::gpu;
use crate::profile::{Clock, Phase, Profile, Recorder, Report, Span};
use crate::rng::Draws;
use crate::settings::Settings;
use crate::version::StoreState;

pub use crate::gpu::GpuValue;

/// Where tensors live and run: a GPU, or the f64 reference on the CPU. Cloning copies the handle.
#[derive(Clone)]
pub struct Device(Arc<Inner>);

struct Inner {
    name: String,
    backend: Backend,
    engine: Mutex<Engine>,
    draws: Draws,
    /// True where steps look for what is not finite.
    checked: AtomicBool,
    /// The parameter stores on it.
    stores: Mutex<Vec<Weak<StoreState>>>,
}

/// What runs the graphs.
pub(crate) enum Backend {
    /// The f64 interpreter.
    Cpu,
    /// An adapter.
    Gpu(gpu::Gpu),
}

impl Device {
    /// The best device: `KILN_DEVICE` if it is set, else a discrete GPU, an integrated one, a software one, the
    /// reference.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if `KILN_DEVICE` names none, [`Error::Driver`] if the adapter gives no device,
    /// [`Error::Setting`] for a `KILN_*` variable with a value that it has not.
    pub fn best() -> Result<Device> {
        let settings = Settings::from_env()?;
        Device::open(settings.device.as_deref().unwrap_or("auto"), &settings)
    }

    /// The device that `wanted` names: `auto`, `cpu`, a back end (`vulkan`, `metal`, `dx12`, `gl`) or part of an
    /// adapter's name, in any case.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if none matches, [`Error::Driver`] if the adapter gives no device, [`Error::Setting`] for a
    /// `KILN_*` variable with a value that it has not.
    pub fn named(wanted: &str) -> Result<Device> {
        Device::open(wanted, &Settings::from_env()?)
    }

    fn open(wanted: &str, settings: &Settings) -> Result<Device> {
        let reference = || {
            if settings.profile != Report::Nothing {
                eprintln!("kiln: the CPU reference runs no kernels, so KILN_PROFILE shows nothing");
            }
            Ok(Device::cpu())
        };
        if wanted.eq_ignore_ascii_case("cpu") {
            return reference();
        }
        match gpu::Gpu::open(wanted, settings, &[])? {
            Some(gpu) => Ok(Device::with_gpu(gpu, settings)),
            None if wanted.eq_ignore_ascii_case("auto") => reference(),
            None => Err(Error::NoDevice {
                wanted: wanted.into(),
                available: Device::list().iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The f64 reference. All handles to it are one device.
    pub fn cpu() -> Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device::new("cpu".into(), Backend::Cpu, Settings::check_or_warn())).clone()
    }

    /// A device without hardware, on which plans are made and encoded but nothing is computed: it shows what the host
    /// costs.
    #[doc(hidden)]
    pub fn noop() -> Result<Device> {
        let settings = Settings::from_env()?;
        Ok(Device::with_gpu(gpu::Gpu::noop(&settings)?, &settings))
    }

    /// [`Device::named`], but planned for as if it had other capabilities: the kernels of other kinds of device run on it,
    /// as far as its driver takes them. For tests.
    ///
    /// # Errors
    /// Those of [`Device::named`], and [`Error::NoDevice`] for the reference, which has no kernels.
    #[doc(hidden)]
    pub fn named_as_if(wanted: &str, change: impl FnOnce(&mut crate::kernel::Capabilities)) -> Result<Device> {
        let settings = Settings::from_env()?;
        let mut gpu = gpu::Gpu::open(wanted, &settings, &[])?
            .ok_or_else(|| Error::NoDevice { wanted: wanted.into(), available: "none with kernels".into() })?;
        gpu.pretend(change);
        Ok(Device::with_gpu(gpu, &settings))
    }

    /// Takes these kernel variants wherever an op lists them. For tests.
    #[doc(hidden)]
    pub fn force_variants(&self, names: &[&'static str]) {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.force(names);
            self.engine().forget_plans();
        }
    }

    /// Every adapter, best first, and the reference.
    pub fn list() -> Vec<DeviceInfo> {
        let mut list = gpu::Gpu::list();
        list.push(Device::cpu().info());
        list
    }

    fn with_gpu(gpu: gpu::Gpu, settings: &Settings) -> Device {
        if settings.profile != Report::Nothing {
            gpu.recorder().switch(true);
            gpu.recorder().report_at_end(settings.profile);
        }
        Device::new(gpu.info().name.clone(), Backend::Gpu(gpu), settings.check)
    }

    fn new(name: String, backend: Backend, check: bool) -> Device {
        Device(Arc::new(Inner {
            name,
            backend,
            engine: Mutex::new(Engine::default()),
            draws: Draws::new(0),
            checked: AtomicBool::new(check),
            stores: Mutex::default(),
        }))
    }

    /// Name of the adapter, or `cpu`.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Name, back end, kind and driver.
    pub fn info(&self) -> DeviceInfo {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.info().clone(),
            Backend::Cpu => DeviceInfo {
                name: "cpu".into(),
                backend: "reference".into(),
                kind: "reference".into(),
                driver: String::new(),
            },
        }
    }

    /// True for the f64 reference.
    pub fn is_cpu(&self) -> bool {
        matches!(self.0.backend, Backend::Cpu)
    }

    /// True if host numbers keep all their f64 bits here.
    pub(crate) fn is_exact(&self) -> bool {
        self.is_cpu()
    }

    /// The counter of random draws that layers without a store of their own use.
    pub fn draws(&self) -> &Draws {
        &self.0.draws
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::NonFinite`] of a step, of any store on this device, that has finished.
    pub fn synchronize(&self) -> Result<()> {
        self.finish()?;
        let stores: Vec<_> = self.stores().iter().filter_map(Weak::upgrade).collect();
        stores.iter().try_for_each(|store| store.take_failure())
    }

    /// Waits until everything submitted has run and is reported to its store.
    pub(crate) fn finish(&self) -> Result<()> {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.wait()?;
            gpu.collect()?;
        }
        self.engine().report();
        Ok(())
    }

    fn stores(&self) -> MutexGuard<'_, Vec<Weak<StoreState>>> {
        lock(&self.0.stores)
    }

    /// Notes a store whose failures [`Device::synchronize`] returns.
    pub(crate) fn register(&self, store: &Arc<StoreState>) {
        let mut stores = self.stores();
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    /// Bytes of GPU memory that tensors, parameters and plans of this process use on this device, now and at most.
    pub fn memory(&self) -> (u64, u64) {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.memory(),
            Backend::Cpu => (0, 0),
        }
    }

    /// Counts since the device was made: runs, dispatches, plans made, plans found.
    pub fn statistics(&self) -> crate::engine::Statistics {
        self.engine().statistics.clone()
    }

    /// Starts a profile of what runs from now on, or stops. Measuring changes no result; it costs some time a run.
    ///
    /// `KILN_PROFILE=1` starts one with the device and prints it to stderr when the device is dropped. The reference has no
    /// kernels to measure and ignores it.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn set_profiling(&self, on: bool) -> Result<()> {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.set_profiling(on),
            Backend::Cpu => Ok(()),
        }
    }

    /// What was measured since profiling was switched on; waits for what is under way. Empty on the reference.
    ///
    /// # Errors
    /// [`Error::DeviceLost`].
    pub fn profile(&self) -> Result<Profile> {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.profile(),
            Backend::Cpu => Ok(Recorder::new().profile(self.info().to_string(), Clock::Missing)),
        }
    }

    /// A span of host time, if there is a profile.
    #[inline]
    pub(crate) fn span(&self, phase: Phase, name: &'static str) -> Option<Span<'_>> {
        match &self.0.backend {
            Backend::Gpu(gpu) => Some(gpu.recorder().span(phase, name)),
            Backend::Cpu => None,
        }
    }

    /// What the device has warned of on stderr so far: failures that it found a way around.
    pub fn warnings(&self) -> Vec<String> {
        match &self.0.backend {
            Backend::Gpu(gpu) => gpu.warnings(),
            Backend::Cpu => vec![],
        }
    }

    /// [`Device::named`] on an adapter that fails at what is named, see [`Device::inject_fault`].
    ///
    /// # Errors
    /// Those of [`Device::named`].
    #[doc(hidden)]
    pub fn named_with_faults(wanted: &str, faults: &[&str]) -> Result<Device> {
        let none = || Error::NoDevice { wanted: wanted.into(), available: "none with kernels".into() };
        let settings = Settings::from_env()?;
        Ok(Device::with_gpu(gpu::Gpu::open(wanted, &settings, faults)?.ok_or_else(none)?, &settings))
    }

    /// Makes what is named fail at the driver from now on: `timestamps`, a word of shaders (`subgroup`) or the name of a
    /// kernel variant. For tests of what happens then.
    #[doc(hidden)]
    pub fn inject_fault(&self, name: &str) {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.inject_fault(name);
        }
    }

    /// Changes the memory limit, that of `KILN_MEMORY_LIMIT` or one that only the driver knows. For tests.
    #[doc(hidden)]
    pub fn limit_memory(&self, bytes: u64, by_driver: bool) {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.limit_memory(bytes, by_driver);
        }
    }

    /// Turns check mode on or off (at first what `KILN_CHECK` says): each step is waited for, and the error of one with a
    /// gradient that is not finite names the first op that gave such a value.
    pub fn set_check(&self, enabled: bool) {
        self.0.checked.store(enabled, Ordering::Relaxed);
    }

    pub(crate) fn is_checked(&self) -> bool {
        self.0.checked.load(Ordering::Relaxed)
    }

    /// Destroys the device at the driver: everything on it then returns [`Error::DeviceLost`]. For tests of that.
    pub fn destroy(&self) {
        if let Backend::Gpu(gpu) = &self.0.backend {
            gpu.destroy();
        }
    }

    pub(crate) fn same(&self, other: &Device) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn backend(&self) -> &Backend {
        &self.0.backend
    }

    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.0.engine)
    }

    /// A new arena of `elements` f32 zeros.
    pub(crate) fn arena(&self, label: String, elements: usize) -> Result<Arc<Arena>> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let storage = match &self.0.backend {
            Backend::Cpu => Storage::Cpu(Mutex::new(vec![0.0; elements])),
            Backend::Gpu(gpu) => Storage::Gpu(engine::with_room(self, || gpu.arena(&label, elements as u64 * 4))?),
        };
        Ok(Arc::new(Arena { id: NEXT.fetch_add(1, Ordering::Relaxed), label, elements, storage }))
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let Backend::Gpu(gpu) = &self.backend else { return };
        gpu.close();
        let report = gpu.recorder().report();
        if report == Report::Nothing {
            return;
        }
        match gpu.profile() {
            Ok(profile) if profile.runs == 0 => {}
            Ok(profile) if report == Report::ByGrid => eprintln!("{profile:#}"),
            Ok(profile) => eprintln!("{profile}"),
            Err(error) => eprintln!("kiln: no profile: {error}"),
        }
    }
}

impl fmt::Debug for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Device({})", self.info())
    }
}

/// A flat run of f32 on a device (f64 on the reference) that outlives plans: parameters, gradients, optimizer state.
#[derive(Debug)]
pub struct Arena {
    /// Unique number.
    pub id: u64,
    /// Name for dumps.
    pub label: String,
    /// Length.
    pub elements: usize,
    pub(crate) storage: Storage,
}

/// Memory of an arena.
#[derive(Debug)]
pub(crate) enum Storage {
    /// On the reference.
    Cpu(Mutex<Vec<f64>>),
    /// On a GPU.
    Gpu(gpu::Buffer),
}

impl Arena {
    /// The values of a reference arena, locked.
    pub(crate) fn cpu(&self) -> Result<MutexGuard<'_, Vec<f64>>> {
        match &self.storage {
            Storage::Cpu(data) => Ok(lock(data)),
            Storage::Gpu(_) => Err(Error::internal("a GPU arena read on the reference device")),
        }
    }

    /// `length` values of a reference arena.
    pub(crate) fn read_cpu(&self, offset: usize, length: usize) -> Result<Vec<f64>> {
        Ok(self.cpu()?[offset..offset + length].to_vec())
    }

    /// Writes values from `offset` on.
    pub(crate) fn write(&self, device: &Device, offset: usize, values: &[f64]) -> Result<()> {
        match (&self.storage, device.backend()) {
            (Storage::Cpu(_), _) => self.cpu()?[offset..offset + values.len()].copy_from_slice(values),
            (Storage::Gpu(buffer), Backend::Gpu(gpu)) => {
                let data: Vec<f32> = values.iter().map(|&x| x as f32).collect();
                gpu.write(buffer, offset as u64 * 4, bytemuck::cast_slice(&data))?;
            }
            _ => return Err(Error::internal("an arena used with another device")),
        }
        Ok(())
    }

    /// Reads values from `offset` on; waits for the GPU.
    pub(crate) fn read(&self, device: &Device, offset: usize, length: usize) -> Result<Vec<f64>> {
        match (&self.storage, device.backend()) {
            (Storage::Cpu(_), _) => self.read_cpu(offset, length),
            (Storage::Gpu(buffer), Backend::Gpu(gpu)) => {
                let bytes = engine::with_room(device, || gpu.read(buffer, offset as u64 * 4, length as u64 * 4))?;
                Ok(bytemuck::pod_collect_to_vec::<u8, f32>(&bytes).iter().map(|&x| f64::from(x)).collect())
            }
            _ => Err(Error::internal("an arena used with another device")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
