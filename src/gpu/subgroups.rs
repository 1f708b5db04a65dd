//! The subgroups that kernels may count on: those of a driver that has one size, or, where it chooses a size for each
//! pipeline (AMD's RDNA: 32 or 64), workgroups of the smallest. They lie in one subgroup of either size, and exchange among
//! their own lanes, if lanes are numbered in order; that is tried when the adapter is opened, for no rule says so.

use super::driver::{Gpu, catch};
use crate::error::Result;

/// Workgroups that the trial runs.
const GROUPS: u32 = 4;

/// Sizes of an adapter's subgroups.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sizes {
    /// There are none that a kernel could count on.
    Unknown,
    /// All have this many lanes.
    One(u32),
    /// The driver chooses; workgroups of so many lanes are to lie in one.
    Several(u32),
}

impl Sizes {
    pub fn of(info: &wgpu::AdapterInfo, features: wgpu::Features) -> Sizes {
        let (least, most) = (info.subgroup_min_size, info.subgroup_max_size);
        match features.contains(wgpu::Features::SUBGROUP) {
            true if least == most => Sizes::One(least),
            // Workgroups of fewer lanes would leave most of a larger subgroup idle.
            true if least >= 32 && least.is_power_of_two() => Sizes::Several(least),
            _ => Sizes::Unknown,
        }
    }

    /// Lanes of a workgroup that exchanges.
    pub fn lanes(self) -> Option<u32> {
        match self {
            Sizes::Unknown => None,
            Sizes::One(lanes) | Sizes::Several(lanes) => Some(lanes),
        }
    }
}

/// Each lane tells what it gets of the lanes whose numbers differ by 1, 2, 4, ..
fn trial(lanes: u32, faulty: bool) -> String {
    let steps = lanes.ilog2();
    // A driver that numbers lanes otherwise, for tests.
    let number = if faulty { "(lane + 1u)" } else { "lane" };
    format!(
        "@group(0) @binding(0) var<storage, read_write> met: array<u32>;
@compute @workgroup_size({lanes}) fn main(@builtin(local_invocation_index) lane: u32, @builtin(workgroup_id) group: vec3<u32>) {{
    for (var step = 0u; step < {steps}u; step++) {{
        met[(group.x * {steps}u + step) * {lanes}u + lane] = subgroupShuffleXor(1000u * group.x + {number}, 1u << step);
    }}
}}
"
    )
}

impl Gpu {
    /// Runs the trial of workgroups of `lanes`, and gives up subgroups where it fails.
    pub(super) fn probe_subgroups(&mut self, lanes: u32) {
        let failure = match catch(|| self.exchanges(lanes)) {
            Ok(Ok(true)) => return,
            Ok(Ok(false)) => "lanes are not numbered in order".to_string(),
            Ok(Err(error)) => error.to_string(),
            Err(reason) => reason,
        };
        self.pretend(|capabilities| capabilities.subgroup = None);
        self.warn(&format!("subgroups of several sizes will not be used ({failure})"));
    }

    /// True if every lane of the trial met the one that it should.
    fn exchanges(&self, lanes: u32) -> Result<bool> {
        let steps = lanes.ilog2();
        let words = u64::from(GROUPS * steps * lanes);
        let text = trial(lanes, self.has_fault("lanes"));
        let (made, verdict) = self.judged(|| self.run_trial(&text, 4 * words));
        let staging = made.map_err(|message| self.refused("a trial of subgroups", message))?;
        if let Some(error) = pollster::block_on(verdict.0) {
            return Err(self.translated("a trial of subgroups", error));
        }
        self.poll(wgpu::PollType::wait_indefinitely())?;
        let view = staging.get_mapped_range(..);
        let view = view.map_err(|error| self.refused("a trial of subgroups", error.to_string()))?;
        let numbers = view.chunks_exact(4).map(|bytes| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
        let wanted = (0..GROUPS).flat_map(|group| {
            (0..steps).flat_map(move |step| (0..lanes).map(move |lane| 1000 * group + (lane ^ (1 << step))))
        });
        Ok(numbers.eq(wanted))
    }

    /// Submits the trial; the buffer is mapped when it has run.
    fn run_trial(&self, text: &str, bytes: u64) -> wgpu::Buffer {
        let device = &self.0.device;
        let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: None,
            entries: &[wgpu::BindGroupLayoutEntry {
                binding: 0,
                visibility: wgpu::ShaderStages::COMPUTE,
                ty: wgpu::BindingType::Buffer {
                    ty: wgpu::BufferBindingType::Storage { read_only: false },
                    has_dynamic_offset: false,
                    min_binding_size: None,
                },
                count: None,
            }],
        });
        let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: None,
            bind_group_layouts: &[Some(&layout)],
            immediate_size: 0,
        });
        let source = wgpu::ShaderSource::Wgsl(text.into());
        let module = device.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source });
        let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label: None,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some("main"),
            compilation_options: Default::default(),
            cache: None,
        });
        let buffer = |usage| {
            device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false })
        };
        let met = buffer(wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC);
        let staging = buffer(wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST);
        let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &layout,
            entries: &[wgpu::BindGroupEntry { binding: 0, resource: met.as_entire_binding() }],
        });
        let mut encoder = device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        pass.set_pipeline(&pipeline);
        pass.set_bind_group(0, &group, &[]);
        pass.dispatch_workgroups(GROUPS, 1, 1);
        drop(pass);
        encoder.copy_buffer_to_buffer(&met, 0, &staging, 0, bytes);
        self.0.queue.submit([encoder.finish()]);
        staging.map_async(wgpu::MapMode::Read, .., |_| ());
        staging
    }
}
