//! Opening devices: which there are, and which is the best.

use std::sync::OnceLock;

use crate::device::Device;
use crate::device_info::DeviceInfo;
use crate::distributed::World;
use crate::engine::{OnGpu, Reference};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::kernel::Capabilities;
use crate::profile::Report;
use crate::settings::Settings;
use crate::wait;

impl Device {
    /// The best device: `KILN_DEVICE` if it is set, else a discrete GPU, an integrated one, a software one, the
    /// reference.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if `KILN_DEVICE` names none, [`Error::Driver`] if the adapter gives no device,
    /// [`Error::Setting`] for a `KILN_*` variable with a value that it has not.
    pub fn best() -> Result<Device> {
        wait::block_on("Device::best", "Device::best_async", Device::best_async())
    }

    /// [`Device::best`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Device::best`].
    pub async fn best_async() -> Result<Device> {
        let settings = Settings::from_env()?;
        Device::open(settings.device.as_deref().unwrap_or("auto"), &settings, 0).await
    }

    /// The device that `wanted` names: `auto`, `cpu`, a back end (`vulkan`, `metal`, `dx12`, `gl`) or part of an
    /// adapter's name, in any case.
    ///
    /// # Errors
    /// [`Error::NoDevice`] if none matches, [`Error::Driver`] if the adapter gives no device, [`Error::Setting`] for a
    /// `KILN_*` variable with a value that it has not.
    pub fn named(wanted: &str) -> Result<Device> {
        wait::block_on("Device::named", "Device::named_async", Device::named_async(wanted))
    }

    /// [`Device::named`] without blocking the thread. A browser's adapter is of the back end `webgpu`.
    ///
    /// # Errors
    /// As [`Device::named`].
    pub async fn named_async(wanted: &str) -> Result<Device> {
        Device::open(wanted, &Settings::from_env()?, 0).await
    }

    async fn open(wanted: &str, settings: &Settings, turn: usize) -> Result<Device> {
        let reference = || {
            if settings.profile != Report::Nothing {
                eprintln!("kiln: the CPU reference runs no kernels, so KILN_PROFILE shows nothing");
            }
            Ok(Device::cpu())
        };
        if wanted.eq_ignore_ascii_case("cpu") {
            return reference();
        }
        match Gpu::open(wanted, settings, &[], turn).await? {
            Some(gpu) => Ok(Device::with_gpu(gpu, settings)),
            None if wanted.eq_ignore_ascii_case("auto") => reference(),
            None => Err(Error::NoDevice {
                wanted: wanted.into(),
                available: Device::list_async().await.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
            }),
        }
    }

    /// The f64 reference. All handles to it are one device.
    pub fn cpu() -> Device {
        static CPU: OnceLock<Device> = OnceLock::new();
        CPU.get_or_init(|| Device::new(Box::new(Reference), Settings::check_or_warn())).clone()
    }

    /// A device without hardware, on which plans are made and encoded but nothing is computed: it shows what the host
    /// costs.
    #[doc(hidden)]
    pub fn noop() -> Result<Device> {
        let settings = Settings::from_env()?;
        Ok(Device::with_gpu(wait::block_on("noop", "noop", Gpu::noop(&settings))?, &settings))
    }

    /// [`Device::named`], but planned for as if it had other capabilities: the kernels of other kinds of device run on it,
    /// as far as its driver takes them. For tests.
    ///
    /// # Errors
    /// Those of [`Device::named`], and [`Error::NoDevice`] for the reference, which has no kernels.
    #[doc(hidden)]
    pub fn named_as_if(wanted: &str, change: impl FnOnce(&mut Capabilities)) -> Result<Device> {
        wait::block_on("named_as_if", "named_as_if_async", Device::named_as_if_async(wanted, change))
    }

    /// [`Device::named_as_if`] without blocking the thread.
    ///
    /// # Errors
    /// As [`Device::named_as_if`].
    #[doc(hidden)]
    pub async fn named_as_if_async(wanted: &str, change: impl FnOnce(&mut Capabilities)) -> Result<Device> {
        let settings = Settings::from_env()?;
        let mut gpu = Gpu::open(wanted, &settings, &[], 0)
            .await?
            .ok_or_else(|| Error::NoDevice { wanted: wanted.into(), available: "none with kernels".into() })?;
        gpu.pretend(change);
        Ok(Device::with_gpu(gpu, &settings))
    }

    /// Every adapter, best first, and the reference. In a browser, which does not tell at once, the reference alone.
    pub fn list() -> Vec<DeviceInfo> {
        let all = async { Ok(Device::list_async().await) };
        wait::block_on("Device::list", "Device::list_async", all).unwrap_or_else(|_| vec![Device::cpu().info()])
    }

    /// [`Device::list`] without blocking the thread.
    pub async fn list_async() -> Vec<DeviceInfo> {
        let mut list = Gpu::list().await;
        list.push(Device::cpu().info());
        list
    }

    fn with_gpu(gpu: Gpu, settings: &Settings) -> Device {
        if settings.profile != Report::Nothing {
            gpu.recorder().switch(true);
            gpu.recorder().report_at_end(settings.profile);
        }
        Device::new(Box::new(OnGpu::new(gpu)), settings.check)
    }

    /// [`Device::named`] on an adapter that fails at what is named, see [`Device::inject_fault`].
    ///
    /// # Errors
    /// Those of [`Device::named`].
    #[doc(hidden)]
    pub fn named_with_faults(wanted: &str, faults: &[&str]) -> Result<Device> {
        let opened = Device::named_with_faults_async(wanted, faults);
        wait::block_on("named_with_faults", "named_with_faults_async", opened)
    }

    /// [`Device::named_with_faults`] without blocking the thread.
    ///
    /// # Errors
    /// Those of [`Device::named`].
    #[doc(hidden)]
    pub async fn named_with_faults_async(wanted: &str, faults: &[&str]) -> Result<Device> {
        let none = || Error::NoDevice { wanted: wanted.into(), available: "none with kernels".into() };
        let settings = Settings::from_env()?;
        let opened = Gpu::open(wanted, &settings, faults, 0).await?;
        Ok(Device::with_gpu(opened.ok_or_else(none)?, &settings))
    }
}

impl World {
    /// The device of this rank: as [`Device::best`], but of several adapters that are alike each rank of a machine takes its own,
    /// by its number there. With a name as [`Device::named`].
    ///
    /// # Errors
    /// As [`Device::best`] and [`Device::named`]; the other ranks are told.
    pub fn device(&self, wanted: Option<&str>) -> Result<Device> {
        let open = async {
            let settings = Settings::from_env()?;
            let wanted = wanted.or(settings.device.as_deref()).unwrap_or("auto");
            Device::open(wanted, &settings, self.local_rank()).await
        };
        wait::block_on("World::device", "Device::best_async", open).inspect_err(|error| self.fail(error))
    }
}
