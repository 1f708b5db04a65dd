//! What stands behind a device: the f64 reference, or a GPU with its plans.

use std::any::Any;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};

use super::plans::{Engine, with_room};
use crate::device::{Backend, Device, Statistics};
use crate::device_info::DeviceInfo;
use crate::dispatch::ArenaRef;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::host::HostData;
use crate::profile::{Profile, Recorder, Report};
use crate::version::StoreState;
use crate::wait;

/// What runs on a device share.
#[derive(Default)]
pub(crate) struct Running {
    /// Locked while graphs are collected and run.
    engine: Mutex<Engine>,
    /// The parameter stores on it.
    stores: Mutex<Vec<Weak<StoreState>>>,
}

/// The f64 interpreter, of which there is one.
pub(crate) struct Reference;

/// An adapter.
pub(crate) struct OnGpu {
    gpu: Gpu,
    running: Running,
}

impl OnGpu {
    pub fn new(gpu: Gpu) -> OnGpu {
        OnGpu { gpu, running: Running::default() }
    }
}

/// What runs on the reference share.
fn reference() -> &'static Running {
    static RUNNING: OnceLock<Running> = OnceLock::new();
    RUNNING.get_or_init(Running::default)
}

impl Device {
    fn on_gpu(&self) -> Option<&OnGpu> {
        let backend: &dyn Any = self.backend();
        backend.downcast_ref()
    }

    /// The adapter; `None` on the reference.
    pub(crate) fn gpu(&self) -> Option<&Gpu> {
        self.on_gpu().map(|backend| &backend.gpu)
    }

    fn running(&self) -> &Running {
        match self.on_gpu() {
            Some(backend) => &backend.running,
            None => reference(),
        }
    }

    /// What runs need, locked.
    pub(crate) fn engine(&self) -> MutexGuard<'_, Engine> {
        lock(&self.running().engine)
    }

    /// Runs `body`, which makes buffers; where memory does not suffice, once more without what runs have left.
    pub(super) fn with_room<T>(&self, gpu: &Gpu, body: impl Fn() -> Result<T>) -> Result<T> {
        with_room(gpu, &self.running().engine, body)
    }

    /// The kernels that tuning chose, by class of shapes, and whose they are (adapter, driver, version): what a resumed run
    /// must keep. `None` on the reference.
    pub(crate) fn kernel_choices(&self) -> Option<(String, BTreeMap<String, String>)> {
        self.gpu().map(Gpu::choices)
    }

    /// Takes the choices of a checkpoint for the plans to come, if they are of this adapter and driver.
    pub(crate) fn adopt_kernel_choices(&self, owner: &str, choices: &BTreeMap<String, String>) {
        if let Some(gpu) = self.gpu()
            && gpu.adopt_choices(owner, choices)
        {
            self.engine().forget_plans();
        }
    }

    /// Notes a store whose failures [`Device::synchronize`] returns.
    pub(crate) fn register(&self, store: &Arc<StoreState>) {
        let mut stores = lock(&self.running().stores);
        stores.retain(|store| store.strong_count() > 0);
        stores.push(Arc::downgrade(store));
    }

    /// Waits until everything submitted has run.
    ///
    /// # Errors
    /// [`Error::DeviceLost`], or [`Error::NonFinite`] of a step, of any store on this device, that has finished.
    pub fn synchronize(&self) -> Result<()> {
        wait::instead("Device::synchronize", "Device::synchronize_async", self.finish())?;
        let stores: Vec<_> = lock(&self.running().stores).iter().filter_map(Weak::upgrade).collect();
        stores.iter().try_for_each(|store| store.take_failure())
    }
}

impl Device {
    /// [`Device::synchronize`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Device::synchronize`].
    pub fn synchronize_async(&self) -> impl Future<Output = Result<()>> + use<> {
        let device = self.clone();
        async move { wait::unblocked(|| device.synchronize()).await }
    }
}

impl Backend for Reference {
    fn info(&self) -> DeviceInfo {
        DeviceInfo { name: "cpu".into(), backend: "reference".into(), kind: "reference".into(), driver: String::new() }
    }

    fn is_reference(&self) -> bool {
        true
    }

    fn finish(&self) -> Result<()> {
        Ok(())
    }

    fn statistics(&self) -> Statistics {
        lock(&reference().engine).statistics.clone()
    }

    fn write_arena(&self, _: &ArenaRef, _: usize, _: &[f32]) -> Result<()> {
        Err(Error::internal("an arena of the reference has its values itself"))
    }

    fn read_arena(&self, _: &ArenaRef, _: usize, _: usize) -> Result<HostData> {
        Err(Error::internal("an arena of the reference has its values itself"))
    }

    fn read_arenas(&self, _: &[&ArenaRef]) -> Result<HostData> {
        Err(Error::internal("an arena of the reference has its values itself"))
    }

    fn copy_arena(&self, _: &ArenaRef, _: &ArenaRef, _: usize) -> Result<()> {
        Err(Error::internal("an arena of the reference has its values itself"))
    }
}

impl Backend for OnGpu {
    fn info(&self) -> DeviceInfo {
        self.gpu.info().clone()
    }

    fn is_reference(&self) -> bool {
        false
    }

    fn recorder(&self) -> Option<&Recorder> {
        Some(self.gpu.recorder())
    }

    fn finish(&self) -> Result<()> {
        self.gpu.wait()?;
        self.gpu.collect()?;
        lock(&self.running.engine).report();
        Ok(())
    }

    fn pace(&self) -> Result<()> {
        self.gpu.check()?;
        self.gpu.pace()?;
        self.gpu.collect()
    }

    fn statistics(&self) -> Statistics {
        lock(&self.running.engine).statistics.clone()
    }

    fn forget_plans(&self) {
        lock(&self.running.engine).forget_plans();
    }

    fn set_fusion(&self, enabled: bool) {
        lock(&self.running.engine).unfused = !enabled;
    }

    fn make_arena(&self, arena: &ArenaRef) -> Result<()> {
        with_room(&self.gpu, &self.running.engine, || self.gpu.make_arena(arena))
    }

    fn drop_arena(&self, arena: &ArenaRef) {
        self.gpu.drop_arena(arena);
    }

    fn write_arena(&self, arena: &ArenaRef, first: usize, values: &[f32]) -> Result<()> {
        self.gpu.write(&self.gpu.arena(arena)?, first as u64 * 4, bytemuck::cast_slice(values))
    }

    fn read_arena(&self, arena: &ArenaRef, first: usize, length: usize) -> Result<HostData> {
        let buffer = self.gpu.arena(arena)?;
        let read = || self.gpu.read(&buffer, first as u64 * 4, length as u64 * 4);
        let bytes = with_room(&self.gpu, &self.running.engine, read)?;
        Ok(self.gpu.unpack(&bytes, length, DType::F32))
    }

    fn read_arenas(&self, arenas: &[&ArenaRef]) -> Result<HostData> {
        let buffer = |arena: &&ArenaRef| Ok((self.gpu.arena(arena)?, arena.elements as u64 * 4));
        let buffers = arenas.iter().map(buffer).collect::<Result<Vec<_>>>()?;
        let bytes = with_room(&self.gpu, &self.running.engine, || self.gpu.read_together(&buffers))?;
        Ok(self.gpu.unpack(&bytes, bytes.len() / 4, DType::F32))
    }

    fn flush(&self) -> Result<()> {
        self.gpu.flush()
    }

    fn copy_arena(&self, from: &ArenaRef, to: &ArenaRef, elements: usize) -> Result<()> {
        self.gpu.copy(&self.gpu.arena(from)?, &self.gpu.arena(to)?, elements as u64 * 4)
    }

    fn memory(&self) -> (u64, u64) {
        self.gpu.memory()
    }

    fn binding_bytes(&self) -> u64 {
        self.gpu.target().capabilities.binding_bytes
    }

    fn set_profiling(&self, on: bool) -> Result<()> {
        self.gpu.set_profiling(on)
    }

    fn profile(&self) -> Result<Profile> {
        self.gpu.profile()
    }

    fn warnings(&self) -> Vec<String> {
        self.gpu.warnings()
    }

    fn objects_made(&self) -> [u64; 3] {
        self.gpu.made()
    }

    fn driver_counters(&self) -> [isize; 4] {
        self.gpu.driver_counters()
    }

    fn poison_buffers(&self) -> Result<()> {
        let engine = lock(&self.running.engine);
        self.gpu.poison(engine.plans.values().flatten().map(|entry| &entry.compiled))
    }

    fn inject_fault(&self, name: &str) {
        self.gpu.inject_fault(name);
    }

    fn limit_memory(&self, bytes: u64, by_driver: bool) {
        self.gpu.limit_memory(bytes, by_driver);
    }

    fn force_variants(&self, names: &[&'static str]) {
        self.gpu.force(names);
        self.forget_plans();
    }

    fn destroy(&self) {
        self.gpu.destroy();
    }
}

impl Drop for OnGpu {
    fn drop(&mut self) {
        self.gpu.close();
        let report = self.gpu.recorder().report();
        if report == Report::Nothing {
            return;
        }
        match self.gpu.profile() {
            Ok(profile) if profile.runs == 0 => {}
            Ok(profile) if report == Report::ByGrid => eprintln!("{profile:#}"),
            Ok(profile) => eprintln!("{profile}"),
            Err(error) => eprintln!("kiln: no profile: {error}"),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}
