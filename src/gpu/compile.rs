//! From a plan to driver objects: pipelines (shared by all plans with the same text), uniforms, bind groups.

use std::collections::{HashMap, HashSet, hash_map};
use std::sync::Arc;

use super::balance::{Balanced, balance};
use super::driver::{Gpu, lock};
use super::memory::Buffer;
use super::parallel::in_parallel;
use super::pipelines::{Entry, Key, Kind, Pipelines};
use crate::dispatch::{Dispatch, OPERAND_WORDS, Plan, Slot, SlotKind};
use crate::error::{Error, Result};
use crate::kernel::{FUSION, OPERANDS, PARAMS, QUEUE, SHARES};
use crate::profile::{Label, Phase};
use crate::shader::Program;

/// Bytes of what an empty dispatch binds.
const BLANK: u64 = 256;

/// A plan with everything that encoding it takes.
pub(crate) struct Compiled {
    pub plan: Plan,
    pub steps: Vec<Step>,
    uniforms: Option<Buffer>,
    /// Where the host numbers of a run go, if the buffer that plans share does not hold them.
    numbers: Option<Buffer>,
    /// What the plan brings along, in the order of its slots.
    tables: Vec<Buffer>,
    /// The queues by which kernels share out their work; zeros when a run begins.
    pub queues: Option<Buffer>,
    /// Bind groups for each set of outside buffers that has been seen lately.
    pub frames: Vec<Frame>,
    /// Bytes of uniforms.
    pub bytes: u64,
    pub clock: u64,
    /// What a profile calls its dispatches, from the first profiled run on.
    pub labels: Option<Arc<[Label]>>,
}

/// A pipeline to be made, for a dispatch with these numbers.
struct Missing<'a> {
    key: &'a Key,
    dispatch: &'a Dispatch,
    layout: wgpu::BindGroupLayout,
    ranges: &'a Ranges,
}

/// One dispatch.
pub(crate) struct Step {
    pub pipeline: wgpu::ComputePipeline,
    pub grid: [u32; 2],
    layout: wgpu::BindGroupLayout,
    ranges: Ranges,
}

/// Where the numbers of a dispatch are, in bytes: the first, and how many.
struct Ranges {
    params: Option<(u64, u64)>,
    fusion: Option<(u64, u64)>,
    shares: Option<(u64, u64)>,
    /// Where its queue is.
    queue: u64,
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
    /// The arenas, for the same.
    arenas: Vec<Buffer>,
}

impl Gpu {
    /// Makes what a plan needs besides buffers.
    pub fn compile(&self, plan: Plan) -> Result<Compiled> {
        let _span = self.0.recorder.span(Phase::Compile, "compile");
        let alignment = self.0.uniform_alignment.max(16);
        let mut words: Vec<u8> = vec![];
        let mut ranges = Vec::with_capacity(plan.dispatches.len());
        let mut queues = 0;
        let target = self.target();
        let mut forms = HashMap::new();
        let mut balance = |it| balance(it, plan.bytes_moved(it), &target.capabilities, &mut forms);
        let balanced: Vec<Option<Balanced>> = plan.dispatches.iter().map(&mut balance).collect();
        for (dispatch, balanced) in plan.dispatches.iter().zip(&balanced) {
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
            ranges.push(Ranges {
                params: place(&dispatch.params, dispatch.params.len().next_multiple_of(4)),
                fusion: place(&dispatch.fusion, dispatch.fusion.len().next_multiple_of(64)),
                shares: balanced.as_ref().and_then(|balanced| place(&balanced.words, 4)),
                queue: queues,
            });
            queues += if balanced.is_some() { self.0.storage_alignment.max(16) } else { 0 };
        }
        words.resize(words.len().next_multiple_of(alignment as usize), 0);
        let is_table = |slot: &&Slot| matches!(slot.kind, SlotKind::Table(_));
        let brought: u64 = plan.slots.iter().filter(is_table).map(|slot| slot.bytes).sum();
        self.check_fits(&plan, words.len() as u64 + queues + own_number_bytes(&plan) + brought)?;
        let uniforms = if words.is_empty() {
            None
        } else {
            let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
            let buffer = self.buffer("uniforms", words.len() as u64, usage)?;
            self.write(&buffer, 0, &words)?;
            Some(buffer)
        };
        let numbers = self.own_numbers(&plan)?;
        let mut tables = vec![];
        for slot in &plan.slots {
            if let SlotKind::Table(words) = &slot.kind {
                let buffer = self.storage(slot.name, slot.bytes)?;
                self.write(&buffer, 0, bytemuck::cast_slice(words))?;
                tables.push(buffer);
            }
        }
        let bound = [uniforms.as_ref(), numbers.as_ref()];
        let pipelines = self.pipelines(&plan, &balanced, &ranges, bound)?;
        let mut steps = Vec::with_capacity(plan.dispatches.len());
        for (i, ((pipeline, layout), ranges)) in pipelines.into_iter().zip(ranges).enumerate() {
            let grid = balanced[i].as_ref().map_or(plan.dispatches[i].grid, |balanced| balanced.grid);
            steps.push(Step { pipeline, grid, layout, ranges });
        }
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let bytes = words.len() as u64 + queues;
        let queues = if queues > 0 { Some(self.buffer("work to share out", queues, usage)?) } else { None };
        Ok(Compiled { plan, steps, uniforms, numbers, tables, queues, frames: vec![], bytes, clock: 0, labels: None })
    }

    /// A buffer for the host numbers of a plan that has several windows of them.
    fn own_numbers(&self, plan: &Plan) -> Result<Option<Buffer>> {
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        match own_number_bytes(plan) {
            0 => Ok(None),
            bytes => self.buffer("host numbers", bytes, usage).map(Some),
        }
    }

    /// The layout of a list of bindings.
    fn layout(&self, pipelines: &mut Pipelines, entries: &[Entry]) -> Result<wgpu::BindGroupLayout> {
        if let Some(layout) = pipelines.layouts.get(entries) {
            return Ok(layout.clone());
        }
        let layout = self.scoped("a bind group layout", || {
            let entries: Vec<_> = entries.iter().map(layout_entry).collect();
            let descriptor = wgpu::BindGroupLayoutDescriptor { label: None, entries: &entries };
            self.0.device.create_bind_group_layout(&descriptor)
        })?;
        pipelines.layouts.insert(entries.to_vec(), layout.clone());
        Ok(layout)
    }

    /// The pipeline and layout of each dispatch; what is not there yet is made by as many threads as there are cores.
    ///
    /// Translating WGSL and, on most drivers, compiling happen when a pipeline is made. llvmpipe compiles at the first
    /// dispatch instead, one kernel at a time: an empty one makes it do so while another thread translates the next kernel.
    fn pipelines(
        &self,
        plan: &Plan,
        balanced: &[Option<Balanced>],
        ranges: &[Ranges],
        bound: [Option<&Buffer>; 2],
    ) -> Result<Vec<(wgpu::ComputePipeline, wgpu::BindGroupLayout)>> {
        let mut known = lock(&self.0.pipelines);
        // The pipelines that there are, each with its first dispatch, and the one of each dispatch. Programs that are shared are
        // told apart by where they lie: to hash each anew would take long.
        let mut keys: Vec<(Key, wgpu::BindGroupLayout, usize)> = vec![];
        let mut places: HashMap<(*const Program, Vec<Entry>), usize> = HashMap::new();
        let mut which = Vec::with_capacity(plan.dispatches.len());
        for (i, (dispatch, balanced)) in plan.dispatches.iter().zip(balanced).enumerate() {
            let entries = entries(dispatch, balanced.is_some());
            let program = balanced.as_ref().map_or(&dispatch.program, |balanced| &balanced.program);
            let place = match places.entry((Arc::as_ptr(program), entries)) {
                hash_map::Entry::Occupied(known) => *known.get(),
                hash_map::Entry::Vacant(new) => {
                    let entries = new.key().1.clone();
                    let layout = self.layout(&mut known, &entries)?;
                    keys.push(((program.text().clone(), entries), layout, i));
                    *new.insert(keys.len() - 1)
                }
            };
            which.push(place);
        }
        let mut missing: Vec<Missing> = vec![];
        let mut seen = HashSet::new();
        for (key, layout, first) in &keys {
            if known.pipelines.get(key).is_none() && seen.insert(key) {
                let (dispatch, ranges) = (&plan.dispatches[*first], &ranges[*first]);
                missing.push(Missing { key, dispatch, layout: layout.clone(), ranges });
            }
        }
        if !missing.is_empty() {
            let cache = known.stored.cache.as_ref();
            let blank = self.blank();
            let made = in_parallel(&missing, |missing| {
                let pipeline =
                    self.make_pipeline(missing.dispatch, &missing.key.0, &missing.layout, &plan.variants, cache)?;
                if let Some(blank) = &blank {
                    // What goes wrong here will do so again when the kernel runs.
                    let _ = self.dispatch_nothing(&pipeline, missing, bound, blank);
                }
                Ok(pipeline)
            });
            self.count(2, made.len());
            // All that could be made are kept, whatever became of the others.
            let mut failure = None;
            for (Missing { key, dispatch, .. }, result) in missing.iter().zip(made) {
                match result {
                    Ok(pipeline) => known.pipelines.insert((*key).clone(), pipeline),
                    Err(error) => {
                        let source = dispatch.source();
                        let layout = self.layout(&mut known, &entries(dispatch, false))?;
                        if key.0 != *source && self.make_pipeline(dispatch, source, &layout, &[], None).is_ok() {
                            self.give_up_balance(&error);
                        } else {
                            self.retreat(dispatch, &plan.variants, &error);
                        }
                        failure = failure.or(Some(error));
                    }
                }
            }
            self.save_pipelines(&mut known.stored, false);
            if let Some(error) = failure {
                return Err(error);
            }
        }
        let mut find = |(key, layout, _): (Key, wgpu::BindGroupLayout, usize)| match known.pipelines.get(&key) {
            Some(pipeline) => Ok((pipeline.clone(), layout)),
            None => Err(Error::internal("a pipeline was made and is not there")),
        };
        let found = keys.into_iter().map(&mut find).collect::<Result<Vec<_>>>()?;
        known.pipelines.end_round();
        Ok(which.into_iter().map(|place| found[place].clone()).collect())
    }

    /// What empty dispatches read and write, on drivers that compile when a kernel is dispatched.
    fn blank(&self) -> Option<[Buffer; 2]> {
        (self.target().capabilities.costs().compiles_at_dispatch && !self.is_browser()).then_some(())?;
        let usage = wgpu::BufferUsages::STORAGE;
        let buffer = |_| self.buffer("nothing", BLANK, usage).ok();
        let [read, written] = [0, 1].map(buffer);
        Some([read?, written?])
    }

    /// Has the driver compile a kernel now, with the numbers that it will have: lavapipe makes constants of those that loops and
    /// branches depend on (`docs/software-drivers.md`, "compiling").
    fn dispatch_nothing(
        &self,
        pipeline: &wgpu::ComputePipeline,
        Missing { key: (_, entries), dispatch, layout, ranges }: &Missing,
        bound: [Option<&Buffer>; 2],
        [read, written]: &[Buffer; 2],
    ) -> Result<()> {
        self.scoped("an empty dispatch", || {
            let mut list = self.numbers(dispatch, ranges, bound);
            for entry in entries {
                match entry.kind {
                    Kind::Read => list.push(bind(entry.binding, read, 0, BLANK)),
                    Kind::Write => list.push(bind(entry.binding, written, 0, BLANK)),
                    Kind::Uniform => {}
                }
            }
            let descriptor = wgpu::BindGroupDescriptor { label: None, layout, entries: &list };
            let group = self.0.device.create_bind_group(&descriptor);
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(0, 0, 0);
            drop(pass);
            self.0.queue.submit([encoder.finish()]);
        })
    }

    fn make_pipeline(
        &self,
        dispatch: &Dispatch,
        source: &str,
        layout: &wgpu::BindGroupLayout,
        variants: &[&'static str],
        cache: Option<&wgpu::PipelineCache>,
    ) -> Result<wgpu::ComputePipeline> {
        let device = &self.0.device;
        let name = dispatch.name();
        let make = || {
            // Loops are bounded by the verifier's count and no division is left open; indices stay checked.
            let checks = wgpu::ShaderRuntimeChecks {
                bounds_checks: true,
                force_loop_bounding: dispatch.checked,
                int_div_checks: dispatch.checked,
                ..wgpu::ShaderRuntimeChecks::checked()
            };
            let text = match self.is_to_fail(dispatch, source) {
                true => "an injected fault".into(),
                false if cfg!(target_arch = "wasm32") => dispatch.for_browsers(source),
                false => source.into(),
            };
            let source = wgpu::ShaderSource::Wgsl(text);
            let descriptor = wgpu::ShaderModuleDescriptor { label: Some(&name), source };
            // SAFETY: indices stay checked in every module, and so do loops and divisions in those with a text of a user's
            // (a kernel, or an expression that was fused into one of ours). In our own, loops end (their counts are at most
            // `iterations`), and integers are divided by lengths and strides, which are not zero, or by
            // `signed_quotient` and `unsigned_quotient`, which exchange the divisors that leave the result open. The compiler has
            // no check of divisions for GL, where one that is left open gives some number and nothing worse.
            let module = unsafe { device.create_shader_module_trusted(descriptor, checks) };
            let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: None,
                bind_group_layouts: &[Some(layout)],
                immediate_size: 0,
            });
            device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(&name),
                layout: Some(&pipeline_layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &[],
                    zero_initialize_workgroup_memory: false,
                },
                cache,
            })
        };
        if self.is_browser() {
            return self.make_unjudged(format!("kernel `{name}`"), dispatch, variants, make);
        }
        match self.scoped(&format!("kernel `{name}`"), make) {
            Err(Error::Driver { device, what, message }) => {
                let text = if self.0.show_shaders { source } else { "" };
                Err(Error::Driver { device, what, message: format!("{message}{text}") })
            }
            other => other,
        }
    }

    /// What a dispatch binds as uniforms.
    fn numbers<'a>(
        &'a self,
        dispatch: &Dispatch,
        ranges: &Ranges,
        [uniforms, numbers]: [Option<&'a Buffer>; 2],
    ) -> Vec<wgpu::BindGroupEntry<'a>> {
        let own = [(PARAMS, ranges.params), (FUSION, ranges.fusion), (SHARES, ranges.shares)];
        let own = own.into_iter().filter_map(|(binding, range)| Some((binding, range?, uniforms?)));
        let own = own.map(|(binding, (offset, size), buffer)| bind(binding, buffer, offset, size));
        let operands = numbers.unwrap_or(&self.0.operands);
        let window = || bind(OPERANDS, operands, dispatch.numbers.window as u64 * 4, OPERAND_WORDS as u64 * 4);
        own.chain(dispatch.operands.then(window)).collect()
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
        let mut found = stored.iter();
        let mut tables = compiled.tables.iter();
        let mut arenas = vec![];
        let results: HashMap<usize, usize> = plan.outputs.iter().enumerate().map(|(k, &slot)| (slot, k)).collect();
        for (i, slot) in plan.slots.iter().enumerate() {
            buffers.push(match &slot.kind {
                SlotKind::Scratch(k) | SlotKind::Upload { scratch: k, .. } => scratch.get(*k).map(|b| (b.clone(), 0)),
                // In the order of the slots.
                SlotKind::Stored(_) => found.next().filter(|(slot, _)| *slot == i).map(|(_, b)| (b.clone(), 0)),
                SlotKind::Output(_) => results.get(&i).and_then(|&k| outputs.get(k)).map(|b| (b.clone(), 0)),
                SlotKind::Arena(arena, offset, _) => {
                    let buffer = self.arena(arena)?;
                    arenas.push(buffer.clone());
                    Some((buffer, *offset as u64 * 4))
                }
                SlotKind::Table(_) => tables.next().map(|buffer| (buffer.clone(), 0)),
            });
        }
        let missing = || Error::internal("a plan binds a slot without a buffer");
        self.count(1, compiled.steps.len());
        let groups = self.scoped("bind groups", || {
            let mut groups = Vec::with_capacity(compiled.steps.len());
            for (dispatch, step) in plan.dispatches.iter().zip(&compiled.steps) {
                let mut list =
                    self.numbers(dispatch, &step.ranges, [compiled.uniforms.as_ref(), compiled.numbers.as_ref()]);
                for &(binding, slot, _) in &dispatch.bindings {
                    let (buffer, offset) = buffers[slot].as_ref().ok_or_else(missing)?;
                    let size = plan.slots[slot].bytes.min(buffer.bytes() - offset);
                    list.push(bind(binding, buffer, *offset, size));
                }
                if let (Some(_), Some(queues)) = (step.ranges.shares, &compiled.queues) {
                    list.push(bind(QUEUE, queues, step.ranges.queue, 16));
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
        Ok(Frame { stored, outputs, groups, generation, used: 0, scratch, arenas })
    }
}

impl Compiled {
    /// The buffer of its host numbers.
    pub fn numbers<'a>(&'a self, gpu: &'a Gpu) -> &'a Buffer {
        self.numbers.as_ref().unwrap_or(&gpu.0.operands)
    }

    /// Lets go of the scratch buffers that its frames bind; those of its results stay, for the frames to come.
    pub fn forget_scratch(&mut self) {
        for frame in &mut self.frames {
            frame.groups.clear();
            frame.scratch.clear();
            frame.arenas.clear();
        }
    }

    /// What a profile calls its dispatches.
    pub fn labels(&mut self) -> Arc<[Label]> {
        let plan = &self.plan;
        let label = |dispatch: &Dispatch| Label {
            name: dispatch.name().as_str().into(),
            grid: dispatch.grid,
            bytes: plan.bytes_moved(dispatch),
            flops: dispatch.flops,
        };
        self.labels.get_or_insert_with(|| plan.dispatches.iter().map(label).collect()).clone()
    }
}

/// Bytes of the host numbers of a plan for which the buffer that all share is too small, with the last window whole.
fn own_number_bytes(plan: &Plan) -> u64 {
    if plan.operand_words <= OPERAND_WORDS {
        return 0;
    }
    let windows = plan.dispatches.iter().map(|dispatch| dispatch.numbers.window);
    let words = (windows.max().unwrap_or(0) + OPERAND_WORDS).max(plan.operand_words);
    (words as u64 * 4).next_multiple_of(16)
}

fn entries(dispatch: &Dispatch, balanced: bool) -> Vec<Entry> {
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
    uniform(SHARES, balanced);
    if balanced {
        entries.push(Entry { binding: QUEUE, kind: Kind::Write });
    }
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
