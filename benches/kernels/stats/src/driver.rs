//! RADV for a GPU that need not be there: opens it, and has a compute shader compiled.

use std::ffi::{CStr, CString, c_char};

use ash::vk;

use crate::{Failure, spirv};

pub struct Driver {
    _entry: ash::Entry,
    device: ash::Device,
    executables: ash::khr::pipeline_executable_properties::Device,
    matrices: bool,
}

/// What the driver says of a shader: statistics by name, and its machine code.
pub struct Compiled {
    pub subgroup: u32,
    statistics: Vec<(String, f64)>,
    pub assembly: String,
}

impl Compiled {
    pub fn statistic(&self, name: &str) -> Option<f64> {
        self.statistics.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| *value)
    }
}

/// Points the loader at RADV, and RADV at a GPU of this family.
fn choose(family: &str) -> Result<(), Failure> {
    let folders = ["/usr/share/vulkan/icd.d", "/usr/local/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
    let files = folders.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    let mut paths: Vec<String> = files.map(|file| file.path().to_string_lossy().into_owned()).collect();
    paths.retain(|path| path.contains("radeon_icd") && path.ends_with(".json"));
    paths.sort_by_key(|path| !path.contains(std::env::consts::ARCH));
    let set = |name: &str, value: &str| {
        // SAFETY: this program has one thread.
        unsafe { std::env::set_var(name, value) };
    };
    set("RADV_FORCE_FAMILY", family);
    set("MESA_SHADER_CACHE_DISABLE", "true");
    if std::env::var_os("VK_DRIVER_FILES").is_none() {
        let missing = "RADV's driver file, radeon_icd.*.json, is in no usual folder; Debian's and Ubuntu's mesa-vulkan-drivers have it";
        let path = paths.first().ok_or(missing)?;
        set("VK_DRIVER_FILES", path);
        set("VK_ICD_FILENAMES", path);
    }
    Ok(())
}

impl Driver {
    pub fn open(family: &str) -> Result<Driver, Failure> {
        choose(family)?;
        // SAFETY: what is loaded is a Vulkan loader; handles live as long as the process.
        unsafe {
            let entry = ash::Entry::load()?;
            let application = vk::ApplicationInfo::default().api_version(vk::API_VERSION_1_3);
            let info = vk::InstanceCreateInfo::default().application_info(&application);
            let instance = entry.create_instance(&info, None)?;
            // The null device has no memory: nobody may ask for its heaps.
            let physical = *instance.enumerate_physical_devices()?.first().ok_or("RADV lists no device")?;
            let known = instance.enumerate_device_extension_properties(physical)?;
            let matrices = known.iter().any(|it| text(&it.extension_name) == "VK_KHR_cooperative_matrix");
            let mut eleven = vk::PhysicalDeviceVulkan11Features::default();
            let mut twelve = vk::PhysicalDeviceVulkan12Features::default();
            let mut thirteen = vk::PhysicalDeviceVulkan13Features::default();
            let mut robustness = vk::PhysicalDeviceRobustness2FeaturesEXT::default();
            let mut all = vk::PhysicalDeviceFeatures2::default()
                .push_next(&mut eleven)
                .push_next(&mut twelve)
                .push_next(&mut thirteen)
                .push_next(&mut robustness);
            instance.get_physical_device_features2(physical, &mut all);
            let core = all.features;
            let mut executables =
                vk::PhysicalDevicePipelineExecutablePropertiesFeaturesKHR::default().pipeline_executable_info(true);
            let extensions =
                [ash::khr::pipeline_executable_properties::NAME, ash::ext::robustness2::NAME].map(CStr::as_ptr);
            let queues = [vk::DeviceQueueCreateInfo::default().queue_family_index(0).queue_priorities(&[1.0])];
            [eleven.p_next, twelve.p_next, thirteen.p_next, robustness.p_next] = [std::ptr::null_mut(); 4];
            let info = vk::DeviceCreateInfo::default()
                .queue_create_infos(&queues)
                .enabled_extension_names(&extensions)
                .enabled_features(&core)
                .push_next(&mut eleven)
                .push_next(&mut twelve)
                .push_next(&mut thirteen)
                .push_next(&mut robustness)
                .push_next(&mut executables);
            let device = instance.create_device(physical, &info, None)?;
            let executables = ash::khr::pipeline_executable_properties::Device::new(&instance, &device);
            Ok(Driver { _entry: entry, device, executables, matrices })
        }
    }

    pub fn compile(&self, words: &[u32]) -> Result<Compiled, Failure> {
        let shader = spirv::reflect(words)?;
        if shader.matrices && !self.matrices {
            return Err("this driver knows no cooperative matrices".into());
        }
        let device = &self.device;
        let entry = CString::new(shader.entry.as_str())?;
        // SAFETY: all handles are of this device; the module is valid SPIR-V, or the driver says so.
        unsafe {
            let module = device.create_shader_module(&vk::ShaderModuleCreateInfo::default().code(words), None)?;
            let sets = shader.bindings.iter().map(|binding| binding.set + 1).max().unwrap_or(0);
            let mut layouts = vec![];
            for set in 0..sets {
                let binding = |it: &spirv::Binding| {
                    vk::DescriptorSetLayoutBinding::default()
                        .binding(it.number)
                        .descriptor_count(1)
                        .descriptor_type(it.kind)
                        .stage_flags(vk::ShaderStageFlags::COMPUTE)
                };
                let bindings: Vec<_> = shader.bindings.iter().filter(|it| it.set == set).map(binding).collect();
                let info = vk::DescriptorSetLayoutCreateInfo::default().bindings(&bindings);
                layouts.push(device.create_descriptor_set_layout(&info, None)?);
            }
            let info = vk::PipelineLayoutCreateInfo::default().set_layouts(&layouts);
            let layout = device.create_pipeline_layout(&info, None)?;
            // The driver chooses the size of subgroups, as under wgpu where it has them.
            let stage = vk::PipelineShaderStageCreateInfo::default()
                .stage(vk::ShaderStageFlags::COMPUTE)
                .module(module)
                .name(&entry)
                .flags(vk::PipelineShaderStageCreateFlags::ALLOW_VARYING_SUBGROUP_SIZE);
            let flags = vk::PipelineCreateFlags::CAPTURE_STATISTICS_KHR
                | vk::PipelineCreateFlags::CAPTURE_INTERNAL_REPRESENTATIONS_KHR;
            let info = [vk::ComputePipelineCreateInfo::default().flags(flags).stage(stage).layout(layout)];
            let made = device.create_compute_pipelines(vk::PipelineCache::null(), &info, None);
            let pipeline = *made.map_err(|(_, error)| error)?.first().ok_or("no pipeline")?;
            let compiled = self.ask(pipeline);
            device.destroy_pipeline(pipeline, None);
            device.destroy_pipeline_layout(layout, None);
            layouts.into_iter().for_each(|layout| device.destroy_descriptor_set_layout(layout, None));
            device.destroy_shader_module(module, None);
            compiled
        }
    }

    /// # Safety
    /// The pipeline is of this device and was made with both capture flags.
    unsafe fn ask(&self, pipeline: vk::Pipeline) -> Result<Compiled, Failure> {
        // SAFETY: see above; the buffers are as long as the driver says.
        unsafe {
            let of = vk::PipelineInfoKHR::default().pipeline(pipeline);
            let properties = self.executables.get_pipeline_executable_properties(&of)?;
            let subgroup = properties.first().map_or(0, |it| it.subgroup_size);
            let of = vk::PipelineExecutableInfoKHR::default().pipeline(pipeline).executable_index(0);
            let statistics = self.executables.get_pipeline_executable_statistics(&of)?;
            let statistics = statistics.iter().map(|it| (text(&it.name), number(it))).collect();
            let mut parts = self.executables.get_pipeline_executable_internal_representations(&of)?;
            let mut room: Vec<Vec<u8>> = parts.iter().map(|part| vec![0; part.data_size]).collect();
            for (part, room) in parts.iter_mut().zip(&mut room) {
                part.p_data = room.as_mut_ptr().cast();
            }
            let mut count = parts.len() as u32;
            let read = self.executables.fp().get_pipeline_executable_internal_representations_khr;
            read(self.device.handle(), &of, &mut count, parts.as_mut_ptr()).result()?;
            let is_assembly = |part: &vk::PipelineExecutableInternalRepresentationKHR<'_>| {
                text(&part.name).to_lowercase().contains("assembly")
            };
            let at = parts.iter().position(is_assembly).ok_or("the driver shows no machine code")?;
            let bytes = room[at].split(|&byte| byte == 0).next().unwrap_or_default();
            Ok(Compiled { subgroup, statistics, assembly: String::from_utf8_lossy(bytes).into_owned() })
        }
    }
}

fn number(statistic: &vk::PipelineExecutableStatisticKHR<'_>) -> f64 {
    // SAFETY: the format says which member it is.
    unsafe {
        match statistic.format {
            vk::PipelineExecutableStatisticFormatKHR::BOOL32 => f64::from(statistic.value.b32),
            vk::PipelineExecutableStatisticFormatKHR::INT64 => statistic.value.i64 as f64,
            vk::PipelineExecutableStatisticFormatKHR::UINT64 => statistic.value.u64 as f64,
            _ => statistic.value.f64,
        }
    }
}

fn text(characters: &[c_char]) -> String {
    characters.iter().take_while(|&&c| c != 0).map(|&c| c as u8 as char).collect()
}
