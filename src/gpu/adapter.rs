//! Choosing and opening an adapter.

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use super::driver::{Gpu, Inner, Tuning, catch, lock};
use super::memory::{Buffer, Memory, Scratch, Staging};
use super::pipelines::Pipelines;
use super::subgroups::Sizes;
use super::value::Ring;
use crate::device_info::DeviceInfo;
use crate::error::{Error, Result};
use crate::kernel::{Capabilities, WHOLE};
use crate::settings::Settings;
use crate::target::{Choices, Target};

fn instance(backends: wgpu::Backends) -> wgpu::Instance {
    let mut descriptor = wgpu::InstanceDescriptor {
        backends,
        // Validation layers only where the environment asks: they cost more than the kernels.
        flags: wgpu::InstanceFlags::empty().with_env(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    descriptor.backend_options.noop.enable = backends == wgpu::Backends::NOOP;
    wgpu::Instance::new(descriptor)
}

/// A Vulkan instance that knows nothing of Wayland. Where it does, Mesa's layer for choosing an adapter looks for a
/// compositor, and its library writes an error to stderr in every program without one.
#[cfg(target_os = "linux")]
fn vulkan_instance() -> Option<wgpu::Instance> {
    use wgpu::wgc::{global::Global, instance::Instance};
    let flags = wgpu::InstanceFlags::empty().with_env();
    let descriptor = wgpu::hal::InstanceDescriptor {
        name: "kiln",
        flags,
        memory_budget_thresholds: Default::default(),
        backend_options: Default::default(),
        telemetry: None,
        display: None,
    };
    let nothing = wgpu::InstanceDescriptor {
        backends: wgpu::Backends::empty(),
        ..wgpu::InstanceDescriptor::new_without_display_handle()
    };
    // SAFETY: an instance needs the extension for surfaces on Wayland alone, which are refused where it is missing from this
    // list; nothing here makes a surface. What is made is handed over whole, once.
    unsafe {
        let without_wayland: Box<wgpu::hal::vulkan::CreateInstanceCallback<'_>> =
            Box::new(|arguments| arguments.extensions.retain(|name| *name != c"VK_KHR_wayland_surface"));
        let made = wgpu::hal::vulkan::Instance::init_with_callback(&descriptor, Some(without_wayland)).ok()?;
        let mut global = Global::from_hal_instance::<wgpu::hal::api::Vulkan>("kiln", made);
        // The flags that wgpu assumes here cut buffers at 4 GiB, for the sake of indirect calls.
        global.instance.flags = flags;
        let empty = Instance::new("kiln", nothing, None);
        Some(wgpu::Instance::from_core(std::mem::replace(&mut global.instance, empty)))
    }
}

/// Instances that reach these back ends.
#[cfg(target_os = "linux")]
fn instances(backends: wgpu::Backends) -> Vec<wgpu::Instance> {
    let vulkan = backends.contains(wgpu::Backends::VULKAN).then(vulkan_instance).flatten();
    let others = backends.contains(wgpu::Backends::GL).then(|| instance(wgpu::Backends::GL));
    vulkan.into_iter().chain(others).collect()
}

/// Instances that reach these back ends.
#[cfg(not(target_os = "linux"))]
fn instances(backends: wgpu::Backends) -> Vec<wgpu::Instance> {
    vec![instance(backends & !wgpu::Backends::NOOP)]
}

fn describe(adapter: &wgpu::Adapter) -> DeviceInfo {
    let info = adapter.get_info();
    let kind = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => "discrete",
        wgpu::DeviceType::IntegratedGpu => "integrated",
        wgpu::DeviceType::VirtualGpu => "virtual",
        wgpu::DeviceType::Cpu => "software",
        // GL does not say; software renderers give themselves away by name.
        wgpu::DeviceType::Other if info.name.to_lowercase().contains("llvmpipe") => "software",
        wgpu::DeviceType::Other => "other",
    };
    let driver = format!("{} {}", info.driver, info.driver_info).trim().to_string();
    // Browsers do not tell.
    let name = if info.name.is_empty() { "a browser's adapter".into() } else { info.name };
    DeviceInfo { name, backend: info.backend.to_string(), kind: kind.into(), driver }
}

fn rank(info: &DeviceInfo) -> (usize, usize) {
    let kinds = ["discrete", "integrated", "virtual", "other", "software"];
    let backends = ["metal", "vulkan", "dx12", "gl"];
    let place = |list: &[&str], name: &str| list.iter().position(|&item| item == name).unwrap_or(list.len());
    (place(&kinds, &info.kind), place(&backends, &info.backend))
}

/// Adapters of some back ends with their descriptions, best first.
async fn adapters(backends: wgpu::Backends) -> Vec<(DeviceInfo, wgpu::Adapter)> {
    let mut all: Vec<(DeviceInfo, wgpu::Adapter)> = vec![];
    for instance in catch(|| instances(backends)).unwrap_or_default() {
        let Ok(found) = catch(|| instance.enumerate_adapters(backends)) else { continue };
        all.extend(found.await.into_iter().map(|adapter| (describe(&adapter), adapter)));
    }
    all.retain(|(_, adapter)| adapter.limits().max_compute_workgroups_per_dimension >= 1);
    all.sort_by_key(|(info, _)| rank(info));
    all
}

/// Side of the largest square f16 matrices that an adapter multiplies with sums in f32.
fn cooperative_side(adapter: &wgpu::Adapter) -> Option<u32> {
    let needs = wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX | wgpu::Features::SHADER_F16 | wgpu::Features::SUBGROUP;
    if !adapter.features().contains(needs) {
        return None;
    }
    let square = |p: &wgpu::CooperativeMatrixProperties| p.m_size == p.n_size && p.n_size == p.k_size;
    let half = |p: &wgpu::CooperativeMatrixProperties| {
        p.ab_type == wgpu::CooperativeScalarType::F16 && p.cr_type == wgpu::CooperativeScalarType::F32
    };
    let all = adapter.cooperative_matrix_properties();
    all.iter().filter(|p| square(p) && half(p)).map(|p| p.m_size).max()
}

impl Gpu {
    /// Every adapter, best first.
    pub async fn list() -> Vec<DeviceInfo> {
        adapters(wgpu::Backends::all()).await.into_iter().map(|(info, _)| info).collect()
    }

    /// The best adapter whose back end or name matches; `None` if there is none. `faults` name what shall fail on it. Of
    /// several that are as good as the best, being alike, it is the one whose `turn` it is.
    pub async fn open(wanted: &str, settings: &Settings, faults: &[&str], turn: usize) -> Result<Option<Gpu>> {
        let wanted = wanted.to_lowercase();
        let matches = |info: &DeviceInfo| {
            wanted == "auto" || info.backend == wanted || info.name.to_lowercase().contains(&wanted)
        };
        // GL last: opening it is slow and noisy, and no adapter is best through it.
        let order = match wanted.as_str() {
            "gl" => vec![wgpu::Backends::GL],
            "vulkan" => vec![wgpu::Backends::VULKAN],
            "metal" => vec![wgpu::Backends::METAL],
            "dx12" => vec![wgpu::Backends::DX12],
            _ => vec![wgpu::Backends::all() & !wgpu::Backends::GL, wgpu::Backends::GL],
        };
        let mut failure = None;
        for backends in order {
            let all = adapters(backends).await;
            let mut all: Vec<_> = all.into_iter().filter(|(info, _)| matches(info)).collect();
            let alike = all.iter().take_while(|(info, _)| Some(info) == all.first().map(|(best, _)| best)).count();
            if let Some(best) = all.get_mut(..alike).filter(|best| !best.is_empty()) {
                best.rotate_left(turn % alike);
            }
            for (info, adapter) in all {
                match Gpu::with_adapter(&info, &adapter, settings, faults).await {
                    Ok(gpu) => return Ok(Some(gpu)),
                    Err(error) => failure = failure.or(Some(error)),
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }

    /// A device that computes nothing, for measuring the host's share of a step.
    pub async fn noop(settings: &Settings) -> Result<Gpu> {
        let instance = instance(wgpu::Backends::NOOP);
        let found = instance.enumerate_adapters(wgpu::Backends::NOOP).await;
        let adapter = found.into_iter().next().ok_or_else(|| Error::NoDevice {
            wanted: "noop".into(),
            available: "none: wgpu was built without its `noop` feature".into(),
        })?;
        Gpu::with_adapter(&describe(&adapter), &adapter, settings, &[]).await
    }

    async fn with_adapter(
        info: &DeviceInfo,
        adapter: &wgpu::Adapter,
        settings: &Settings,
        faults: &[&str],
    ) -> Result<Gpu> {
        let wanted = wgpu::Features::SHADER_F16
            | wgpu::Features::SUBGROUP
            | wgpu::Features::TIMESTAMP_QUERY
            | wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES
            | wgpu::Features::PIPELINE_CACHE;
        let mut features = adapter.features() & wanted;
        let software = info.kind == "software";
        if software {
            features |= adapter.features() & wgpu::Features::SHADER_INT64;
        }
        // As a browser would tell of it: a native run then takes the kernels that one in a tab takes.
        let plain = faults.contains(&"plain");
        if plain {
            features &= wgpu::Features::SHADER_F16 | wgpu::Features::TIMESTAMP_QUERY;
        }
        // Their kernel counts on subgroups of one size.
        let cooperative = cooperative_side(adapter)
            .filter(|_| !plain && adapter.get_info().subgroup_min_size == adapter.get_info().subgroup_max_size);
        if cooperative.is_some() {
            features |= wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX;
        }
        let limits = adapter.limits();
        let mut subgroups = Sizes::of(&adapter.get_info(), features);
        if let (true, Sizes::One(lanes)) = (faults.contains(&"sizes"), subgroups) {
            subgroups = Sizes::Several(lanes);
        }
        // SAFETY: of the experimental features only matrices are asked for, by a kernel of this crate that loads and multiplies
        // them in uniform control flow and within its own workgroup memory.
        let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
        let descriptor = wgpu::DeviceDescriptor {
            label: Some("kiln"),
            required_features: features,
            experimental_features: if cooperative.is_some() { experimental } else { Default::default() },
            required_limits: limits.clone(),
            memory_hints: wgpu::MemoryHints::Performance,
            ..Default::default()
        };
        let driver = |message: String| Error::Driver { device: info.name.clone(), what: "a device".into(), message };
        let spread = software && settings.affinity;
        let threads = spread.then(super::workers::Threads::now);
        let opened = catch(|| adapter.request_device(&descriptor)).map_err(driver)?;
        let (device, queue) = opened.await.map_err(|error| driver(error.to_string()))?;

        if let Some(threads) = threads {
            threads.spread_new();
        }
        let lost = Arc::new(Mutex::new(None));
        let is_lost = Arc::new(AtomicBool::new(false));
        let (reason, flag) = (lost.clone(), is_lost.clone());
        device.set_device_lost_callback(move |why, message| {
            lock(&reason).get_or_insert(format!("{why:?}: {message}"));
            flag.store(true, std::sync::atomic::Ordering::Release);
        });
        let browser = cfg!(target_family = "wasm") || faults.contains(&"browser");
        // The kernels that hardware gets, on a driver that is none.
        let software = software && !faults.contains(&"hardware");
        let late = Arc::new(Mutex::new(None));
        let first = late.clone();
        // Errors outside a scope would end the process by default; the next checked call reports what they break. In a
        // browser it has the first of them.
        device.on_uncaptured_error(Arc::new(move |error| {
            lock(&first).get_or_insert(error);
        }));

        let memory = Arc::new(Memory::new(settings.memory_limit));
        let bytes = crate::dispatch::OPERAND_WORDS as u64 * 4;
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let operands = Buffer::create(&device, &memory, "operands", bytes, usage)?;
        let f16 = features.contains(wgpu::Features::SHADER_F16);
        // More are not used; Chrome has ten at most.
        let most = if plain { 10 } else { 16 };
        let mut gpu = Gpu(Arc::new(Inner {
            info: info.clone(),
            f16,
            target: Mutex::new(Arc::new(Target {
                capabilities: Capabilities {
                    f16,
                    software,
                    pairs: software && features.contains(wgpu::Features::SHADER_INT64),
                    workers: (software && features.contains(wgpu::Features::SUBGROUP))
                        .then(|| std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get) as u32),
                    integrated: info.kind == "integrated",
                    subgroup: subgroups.lanes(),
                    storage_buffers: limits.max_storage_buffers_per_shader_stage.min(most) as usize,
                    binding_bytes: limits.max_storage_buffer_binding_size.min(limits.max_buffer_size) / WHOLE * WHOLE,
                    cooperative,
                },
                choices: Choices::default(),
            })),
            device,
            queue,
            memory,
            lost,
            is_lost,
            browser,
            late,
            late_kernel: Mutex::default(),
            stale: AtomicBool::new(false),
            made: Default::default(),
            max_buffer_size: limits.max_buffer_size / WHOLE * WHOLE,
            uniform_alignment: u64::from(limits.min_uniform_buffer_offset_alignment),
            storage_alignment: u64::from(limits.min_storage_buffer_offset_alignment),
            pipelines: Mutex::new(Pipelines::default()),
            arenas: Mutex::default(),
            scratch: Mutex::new(Scratch::default()),
            staging: Mutex::new(Staging::default()),
            reads: Mutex::new(Ring::default()),
            in_flight: Mutex::default(),
            operands,
            recorder: crate::profile::Recorder::new(),
            timestamps: Mutex::default(),
            warnings: Mutex::default(),
            frugal: AtomicBool::new(false),
            faults: Mutex::new(faults.iter().map(ToString::to_string).collect()),
            cache: crate::cache::Cache::new(&settings.keep),
            show_shaders: settings.show_shaders,
            tuning: Mutex::new(Tuning::new(settings)),
        }));
        gpu.load_pipelines();
        gpu.probe().await;
        if let (Sizes::Several(lanes), false) = (subgroups, browser) {
            gpu.probe_subgroups(lanes);
        }
        gpu.load_choices();
        Ok(gpu)
    }
}
