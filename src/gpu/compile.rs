//! From a plan to driver objects: pipelines (shared by all plans with the same text), uniforms, bind groups.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Buffer, Gpu, lock};
use crate::device::Storage;
use crate::error::{Error, Result};
use crate::kernel::{FUSION, OPERANDS, PARAMS};
use crate::plan::{Dispatch, Plan, SlotKind};

/// Pipelines and layouts made so far.
#[derive(Default)]
pub(crate) struct Pipelines {
    pipelines: HashMap<(Arc<str>, Vec<Entry>), wgpu::ComputePipeline>,
    layouts: HashMap<Vec<Entry>, wgpu::BindGroupLayout>,
}

/// A binding of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Entry {
    binding: u32,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Read,
    Write,
    Uniform,
}

/// A plan with everything that encoding it takes.
pub(crate) struct Compiled {
    pub plan: Plan,
    pub steps: Vec<Step>,
    uniforms: Option<Buffer>,
    /// Bind groups for each set of outside buffers that has been seen lately.
    pub frames: Vec<Frame>,
    /// Bytes of uniforms.
    pub bytes: u64,
    pub clock: u64,
}

/// One dispatch.
pub(crate) struct Step {
    pub pipeline: wgpu::ComputePipeline,
    pub grid: [u32; 2],
    layout: wgpu::BindGroupLayout,
    params: Option<(u64, u64)>,
    fusion: Option<(u64, u64)>,
}

/// Bind groups over one set of buffers.
pub(crate) struct Frame {
    /// Buffers of earlier runs that it reads, by slot.
    pub stored: Vec<(usize, u64)>,
    /// Buffers of its results, in the plan's order.
    pub outputs: Vec<Buffer>,
    pub groups: Vec<wgpu::BindGroup>,
    pub generation: u64,
    pub used: u64,
    /// Keeps what the bind groups refer to counted.
    pub scratch: Vec<Buffer>,
}

impl Gpu {
    /// Makes what a plan needs besides buffers.
    pub fn compile(&self, plan: Plan) -> Result<Compiled> {
        let alignment = self.0.uniform_alignment.max(16);
        let mut words: Vec<u8> = vec![];
        let mut steps = Vec::with_capacity(plan.dispatches.len());
        for dispatch in &plan.dispatches {
            let mut place = |data: &[u32], length: usize| {
                if data.is_empty() {
                    return None;
                }
                words.resize(words.len().next_multiple_of(alignment as usize), 0);
                let offset = words.len() as u64;
                words.extend_from_slice(bytemuck::cast_slice(data));
                words.resize(offset as usize + length * 4, 0);
                Some((offset, length as u64 * 4))
            };
            let params = place(&dispatch.params, dispatch.params.len().next_multiple_of(4));
            let fusion = place(&dispatch.fusion, dispatch.fusion.len().next_multiple_of(64));
            let entries = entries(dispatch);
            let (pipeline, layout) = self.pipeline(dispatch, entries)?;
            steps.push(Step { pipeline, grid: dispatch.grid, layout, params, fusion });
        }
        let uniforms = if words.is_empty() {
            None
        } else {
            words.resize(words.len().next_multiple_of(alignment as usize), 0);
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = self.buffer("uniforms", words.len() as u64, usage)?;
            self.write(&buffer, 0, &words)?;
            Some(buffer)
        };
        Ok(Compiled { plan, steps, uniforms, frames: vec![], bytes: words.len() as u64, clock: 0 })
    }

    fn pipeline(
        &self,
        dispatch: &Dispatch,
        entries: Vec<Entry>,
    ) -> Result<(wgpu::ComputePipeline, wgpu::BindGroupLayout)> {
        let mut pipelines = lock(&self.0.pipelines);
        let device = &self.0.device;
        let layout = match pipelines.layouts.get(&entries) {
            Some(layout) => layout.clone(),
            None => {
                let layout = self.scoped("a bind group layout", || {
                    let entries: Vec<_> = entries.iter().map(layout_entry).collect();
                    device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries })
                })?;
                pipelines.layouts.insert(entries.clone(), layout.clone());
                layout
            }
        };
        let key = (dispatch.source.clone(), entries);
        if let Some(pipeline) = pipelines.pipelines.get(&key) {
            return Ok((pipeline.clone(), layout));
        }
        self.count(2, 1);
        let made = self.scoped(&format!("kernel `{}`", dispatch.name), || {
            // Loops are bounded by the verifier's count and divisors are never zero; indices stay checked.
            let checks = wgpu::ShaderRuntimeChecks {
                bounds_checks: true,
                force_loop_bounding: dispatch.checked,
                int_div_checks: dispatch.checked,
                ..wgpu::ShaderRuntimeChecks::checked()
            };
            let source = wgpu::ShaderSource::Wgsl(dispatch.source.as_ref().into());
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&dispatch.name), source };
            // SAFETY: indices stay checked in every module, and so do loops and divisions in those of users. In our own,
            // loops end (their counts are at most `iterations`) and divisors are lengths, which are not zero.
            let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(&layout)],
                immediate_size: 0,
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&dispatch.name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: false,
                },
                cache: None,
            })
        });
        let pipeline = match made {
            Err(Error::Driver { device, what, message }) => {
                let text = if std::env::var_os("KILN_SHOW_SHADERS").is_some() { dispatch.source.as_ref() } else { "" };
                return Err(Error::Driver { device, what, message: format!("{message}{text}") });
            }
            other => other?,
        };
        pipelines.pipelines.insert(key, pipeline.clone());
        Ok((pipeline, layout))
    }

    /// Bind groups of `compiled` over these outside buffers.
    pub(super) fn frame(
        &self,
        compiled: &Compiled,
        stored: Vec<(usize, Buffer)>,
        outputs: Vec<Buffer>,
    ) -> Result<Frame> {
        let (scratch, generation) = self.scratch(&compiled.plan.scratch)?;
        let plan = &compiled.plan;
        let mut buffers: Vec<Option<(Buffer, u64)>> = Vec::with_capacity(plan.slots.len());
        for (i, slot) in plan.slots.iter().enumerate() {
            buffers.push(match &slot.kind {
                SlotKind::Scratch(k) | SlotKind::Upload { scratch: k, .. } => scratch.get(*k).map(|b| (b.clone(), 0)),
                SlotKind::Stored(_) => stored.iter().find(|(slot, _)| *slot == i).map(|(_, b)| (b.clone(), 0)),
                SlotKind::Output(_) => {
                    let k = plan.outputs.iter().position(|&output| output == i);
                    k.and_then(|k| outputs.get(k)).map(|b| (b.clone(), 0))
                }
                SlotKind::Arena(arena, offset, _) => match &arena.storage {
                    Storage::Gpu(buffer) => Some((buffer.clone(), *offset as u64 * 4)),
                    Storage::Cpu(_) => None,
                },
            });
        }
        let missing = || Error::internal("a plan binds a slot without a buffer");
        self.count(1, compiled.steps.len());
        let groups = self.scoped("bind groups", || {
            let mut groups = Vec::with_capacity(compiled.steps.len());
            for (dispatch, step) in plan.dispatches.iter().zip(&compiled.steps) {
                let mut list = vec![];
                for &(binding, slot, _) in &dispatch.bindings {
                    let (buffer, offset) = buffers[slot].as_ref().ok_or_else(missing)?;
                    let size = plan.slots[slot].bytes.min(buffer.bytes() - offset);
                    list.push(bind(binding, buffer, *offset, size));
                }
                let mut uniform = |binding, range: Option<(u64, u64)>| -> Result<()> {
                    if let Some((offset, size)) = range {
                        list.push(bind(binding, compiled.uniforms.as_ref().ok_or_else(missing)?, offset, size));
                    }
                    Ok(())
                };
                uniform(PARAMS, step.params)?;
                uniform(FUSION, step.fusion)?;
                if dispatch.operands {
                    list.push(bind(OPERANDS, &self.0.operands, 0, self.0.operands.bytes()));
                }
                groups.push(self.0.device.create_bind_group(&wgpu::BindGroupDescriptor {
                    label: None,
                    layout: &step.layout,
                    entries: &list,
                }));
            }
            Ok(groups)
        })??;
        let stored = stored.into_iter().map(|(slot, buffer)| (slot, buffer.id())).collect();
        Ok(Frame { stored, outputs, groups, generation, used: 0, scratch })
    }
}

fn entries(dispatch: &Dispatch) -> Vec<Entry> {
    let kind = |write| if write { Kind::Write } else { Kind::Read };
    let mut entries: Vec<Entry> =
        dispatch.bindings.iter().map(|&(binding, _, write)| Entry { binding, kind: kind(write) }).collect();
    let mut uniform = |binding, present| {
        if present {
            entries.push(Entry { binding, kind: Kind::Uniform });
        }
    };
    uniform(PARAMS, !dispatch.params.is_empty());
    uniform(FUSION, !dispatch.fusion.is_empty());
    uniform(OPERANDS, dispatch.operands);
    entries
}

fn layout_entry(entry: &Entry) -> wgpu::BindGroupLayoutEntry {
    let ty = match entry.kind {
        Kind::Uniform => wgpu::BufferBindingType::Uniform,
        kind => wgpu::BufferBindingType::Storage { read_only: kind == Kind::Read },
    };
    wgpu::BindGroupLayoutEntry {
        binding: entry.binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    }
}

fn bind(binding: u32, buffer: &Buffer, offset: u64, size: u64) -> wgpu::BindGroupEntry<'_> {
    wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer: buffer.raw(),
            offset,
            size: std::num::NonZeroU64::new(size),
        }),
    }
}
