//! Running a compiled plan: one staging copy, one compute pass, one submission; where it is read in parts, a pass and a
//! submission for each.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

use super::compile::{Compiled, Frame};
use super::driver::Gpu;
use super::memory::{Buffer, Stage};
use super::value::{GpuValue, ReadCell, Trip};
use crate::dispatch::{ArenaRef, SlotKind};
use crate::error::{Error, Result};
use crate::host::HostData;
use crate::profile::Phase;
use crate::wait::Awaited;

/// What a leaf of the graph brings to a run.
pub(crate) enum Leaf<'a> {
    /// Host data.
    Upload(&'a HostData),
    /// A value of an earlier run.
    Stored(GpuValue),
    /// Host numbers.
    Operand([u32; 4]),
}

/// What a run gives back.
pub(crate) struct Run {
    /// Buffers of the results, with their read-back where they are small.
    pub outputs: Vec<(Buffer, Option<Arc<ReadCell>>)>,
    /// Read-back of the status arena.
    pub status: Option<Arc<ReadCell>>,
    /// What is read while later dispatches run: the parts of the plan.
    pub parts: Vec<Awaited>,
}

/// Host data, its slot, where it stands in what is staged, and its bytes.
type Upload<'a> = (&'a HostData, usize, u64, u64);

/// Frames kept for a plan.
const FRAMES: usize = 8;
/// Results up to this size come back with the submission that computes them.
const SMALL: u64 = 256;

/// What a run has taken from what steps use in turn; let go of if it is not submitted.
struct Taken<'a> {
    gpu: &'a Gpu,
    stage: Option<Stage>,
    trip: Option<(Arc<Trip>, Buffer)>,
}

impl Taken<'_> {
    /// They come back by themselves: the submission brings them.
    fn submitted(mut self) -> Option<Arc<Trip>> {
        self.stage = None;
        self.trip.take().map(|(trip, _)| trip)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.stage.iter().for_each(|stage| self.gpu.discard_stage(stage));
        self.trip.iter().for_each(|(trip, _)| self.gpu.discard_trip(trip));
    }
}

impl Compiled {
    /// Some of its dispatches, in a pass of their own.
    fn encode(&self, encoder: &mut wgpu::CommandEncoder, frame: &Frame, steps: Range<usize>) {
        let mut pass = encoder.begin_compute_pass(&Default::default());
        let mut previous: Option<&wgpu::ComputePipeline> = None;
        for (step, group) in self.steps.iter().zip(&frame.groups).take(steps.end).skip(steps.start) {
            if previous != Some(&step.pipeline) {
                pass.set_pipeline(&step.pipeline);
                previous = Some(&step.pipeline);
            }
            pass.set_bind_group(0, group, &[]);
            pass.dispatch_workgroups(step.grid[0], step.grid[1], 1);
        }
    }
}

impl Gpu {
    /// Encodes and submits `compiled`; creates nothing that an earlier run of it has made.
    pub fn run<'a>(
        &self,
        compiled: &mut Compiled,
        leaf: impl Fn(usize) -> Result<Leaf<'a>>,
        scalars: &[u32],
        status: Option<&ArenaRef>,
    ) -> Result<Run> {
        if !self.is_browser() {
            self.pace()?;
        }
        let recorder = &self.0.recorder;
        let mut profiled = None;
        if recorder.is_on() {
            self.collect_times();
            profiled = Some((compiled.labels(), self.stamps(compiled.steps.len())?));
        }
        let encoding = recorder.span(Phase::Encode, "encode");
        self.collect()?;
        let frame = self.choose_frame(compiled, &leaf)?;
        let plan = &compiled.plan;

        // Everything that the host brings, in one staging buffer: operands first, then uploads.
        let mut total = (plan.operand_words as u64 * 4).next_multiple_of(16);
        let mut uploads = Vec::with_capacity(plan.uploads.len());
        for &(number, slot) in &plan.uploads {
            let Leaf::Upload(data) = leaf(number)? else {
                return Err(Error::internal("an upload has become something else"));
            };
            let bytes = self.upload_bytes(data) as u64;
            uploads.push((data, slot, total, bytes));
            total = (total + bytes).next_multiple_of(16);
        }
        let mut taken = Taken { gpu: self, stage: None, trip: None };
        if total > 0 {
            let mut words = vec![0u32; plan.operand_words];
            for &(number, first) in &plan.operands {
                let Leaf::Operand(value) = leaf(number)? else {
                    return Err(Error::internal("an operand has become something else"));
                };
                words[first..first + 4].copy_from_slice(&value);
            }
            words[plan.scalars..plan.scalars + scalars.len()].copy_from_slice(scalars);
            if self.is_browser() {
                // A mapped buffer would come back only when the program next awaits; the queue takes copies.
                self.hand_over(compiled, frame, &words, &uploads)?;
            } else {
                let stage = self.stage(total)?;
                taken.stage = Some(stage.clone());
                stage.fill(total, |bytes| {
                    bytes[..words.len() * 4].copy_from_slice(bytemuck::cast_slice(&words));
                    for (data, _, offset, length) in &uploads {
                        self.pack(data, &mut bytes[*offset as usize..(*offset + *length) as usize]);
                    }
                })?;
            }
        }

        let small: Vec<Option<u64>> = {
            let mut offset = if status.is_some() { 16 } else { 0 };
            let mut place = |bytes: u64| {
                if bytes > SMALL || offset + bytes > super::value::SLOT {
                    return None;
                }
                offset += bytes;
                Some(offset - bytes)
            };
            plan.outputs.iter().map(|&slot| place(plan.slots[slot].bytes)).collect()
        };
        if status.is_some() || small.iter().any(Option::is_some) {
            let trip = self.trip()?;
            let buffer = trip.buffer()?;
            taken.trip = Some((trip, buffer));
        }
        let (stage, trip) = (&taken.stage, &taken.trip);
        let status = status.map(|arena| self.arena(arena)).transpose()?;
        let frame = &compiled.frames[frame];
        let plan = &compiled.plan;
        let mut handed_over = 0;
        let mut parts = vec![];
        for part in &plan.parts {
            let range = |(arena, first, elements): &(ArenaRef, usize, usize)| {
                Ok((self.arena(arena)?, *first as u64 * 4, *elements as u64 * 4))
            };
            parts.push(part.ranges.iter().map(range).collect::<Result<Vec<_>>>()?);
        }
        let parts: Vec<Vec<_>> =
            parts.iter().map(|part| part.iter().map(|(b, at, n)| (b, *at, *n)).collect()).collect();
        let readings = parts.iter().map(|part| self.reading(part)).collect::<Result<Vec<_>>>()?;
        let mut handed = vec![];
        let submitted = self.scoped("a step", || {
            let mut encoder = self.0.device.create_command_encoder(&Default::default());
            if let Some(stage) = stage {
                let words = (plan.operand_words as u64 * 4).next_multiple_of(16);
                if words > 0 {
                    encoder.copy_buffer_to_buffer(stage.buffer.raw(), 0, compiled.numbers(self).raw(), 0, words);
                }
                for (_, slot, offset, bytes) in &uploads {
                    if let SlotKind::Upload { scratch, .. } = plan.slots[*slot].kind {
                        let to = frame.scratch[scratch].raw();
                        let bytes = bytes.next_multiple_of(4);
                        encoder.copy_buffer_to_buffer(stage.buffer.raw(), *offset, to, 0, bytes);
                    }
                }
            }
            if let Some(queues) = &compiled.queues {
                encoder.clear_buffer(queues.raw(), 0, None);
            }
            if let Some((_, Some(stamps))) = &profiled {
                stamps.encode(&mut encoder, compiled, frame);
            } else {
                let mut first = 0;
                for ((part, ranges), reading) in plan.parts.iter().zip(&parts).zip(&readings) {
                    compiled.encode(&mut encoder, frame, first..part.after);
                    first = part.after;
                    reading.encode(&mut encoder, ranges);
                    // Submitted by itself: the host reads it while the rest runs.
                    let next = self.0.device.create_command_encoder(&Default::default());
                    let whole = std::mem::replace(&mut encoder, next);
                    handed.push(self.0.queue.submit([whole.finish()]));
                }
                compiled.encode(&mut encoder, frame, first..compiled.steps.len());
            }
            // A profile times a run as one.
            for (ranges, reading) in parts.iter().zip(&readings).skip(handed.len()) {
                reading.encode(&mut encoder, ranges);
            }
            if let Some((trip, back)) = trip {
                if let Some(buffer) = &status {
                    encoder.copy_buffer_to_buffer(buffer.raw(), 0, back.raw(), 0, 16);
                }
                for ((buffer, offset), &slot) in frame.outputs.iter().zip(&small).zip(&plan.outputs) {
                    if let Some(offset) = offset {
                        let bytes = plan.slots[slot].bytes;
                        encoder.copy_buffer_to_buffer(buffer.raw(), 0, back.raw(), *offset, bytes);
                    }
                }
                trip.launch(back, &encoder);
            }
            if let Some(stage) = stage {
                stage.recall(&encoder);
            }
            let commands = encoder.finish();
            drop(encoding);
            if profiled.is_some() {
                handed_over = recorder.now();
            }
            let _span = recorder.span(Phase::Submit, "submit");
            self.0.queue.submit([commands])
        })?;
        if let Some((labels, stamps)) = profiled {
            self.note_run(labels, stamps, handed_over);
        }
        let trip = taken.submitted();
        if let Some(trip) = &trip {
            // Set once: a trip is made for one submission.
            let _ = trip.submission.set(submitted.clone());
        }
        handed.resize(readings.len(), submitted.clone());
        let parts = readings.into_iter().zip(handed).map(|(reading, at)| reading.awaited(self, at)).collect();
        self.note_flight(submitted);
        let outputs = frame.outputs.iter().zip(&small).zip(&plan.outputs).map(|((buffer, offset), &slot)| {
            let cell = offset.zip(trip.as_ref()).map(|(offset, trip)| trip.cell(offset, plan.slots[slot].bytes));
            (buffer.clone(), cell)
        });
        let status = status.and(trip.as_ref()).map(|trip| trip.cell(0, 16));
        Ok(Run { outputs: outputs.collect(), status, parts })
    }

    /// Gives the queue what the host brings to a run: it is written before what is submitted next.
    fn hand_over(&self, compiled: &Compiled, frame: usize, words: &[u32], uploads: &[Upload<'_>]) -> Result<()> {
        if !words.is_empty() {
            self.write(compiled.numbers(self), 0, bytemuck::cast_slice(words))?;
        }
        for &(data, slot, _, length) in uploads {
            if let SlotKind::Upload { scratch, .. } = compiled.plan.slots[slot].kind {
                let mut bytes = vec![0; length as usize];
                self.pack(data, &mut bytes);
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                self.write(&compiled.frames[frame].scratch[scratch], 0, &bytes)?;
            }
        }
        Ok(())
    }

    /// The frame whose stored buffers are these and whose results nobody holds; makes one if there is none.
    fn choose_frame<'a>(&self, compiled: &mut Compiled, leaf: &impl Fn(usize) -> Result<Leaf<'a>>) -> Result<usize> {
        let mut stored = vec![];
        for (slot, info) in compiled.plan.slots.iter().enumerate() {
            if let SlotKind::Stored(number) = info.kind {
                let Leaf::Stored(value) = leaf(number)? else {
                    return Err(Error::internal("a stored value has become something else"));
                };
                stored.push((slot, value.buffer.clone()));
            }
        }
        compiled.clock += 1;
        let clock = compiled.clock;
        let generation = self.scratch_generation();
        let ids: Vec<(usize, u64)> = stored.iter().map(|(slot, buffer)| (*slot, buffer.id())).collect();
        let free = |buffers: &[Buffer]| buffers.iter().all(Buffer::is_free);
        let known = compiled
            .frames
            .iter()
            .position(|frame| frame.generation == generation && frame.stored == ids && free(&frame.outputs));
        if let Some(known) = known {
            compiled.frames[known].used = clock;
            return Ok(known);
        }
        let taken: HashSet<u64> = ids.iter().map(|(_, id)| *id).collect();
        let mut outputs = Vec::with_capacity(compiled.plan.outputs.len());
        for (k, &slot) in compiled.plan.outputs.iter().enumerate() {
            // A result's buffer may serve several frames; one that is free and not stored elsewhere is taken again.
            let reusable = compiled
                .frames
                .iter()
                .map(|frame| &frame.outputs[k])
                .find(|buffer| buffer.is_free() && !taken.contains(&buffer.id()));
            outputs.push(match reusable {
                Some(buffer) => buffer.clone(),
                None => self.storage("a result", compiled.plan.slots[slot].bytes)?,
            });
        }
        compiled.frames.retain(|frame| frame.generation == generation);
        if compiled.frames.len() >= FRAMES
            && let Some(oldest) = (0..compiled.frames.len()).min_by_key(|&i| compiled.frames[i].used)
        {
            compiled.frames.swap_remove(oldest);
        }
        let mut frame = self.frame(compiled, stored, outputs)?;
        frame.used = clock;
        compiled.frames.push(frame);
        Ok(compiled.frames.len() - 1)
    }

    /// Fills scratch and unheld results of these plans with NaN.
    pub fn poison<'a>(&self, plans: impl Iterator<Item = &'a Compiled>) -> Result<()> {
        // Frames share their scratch: each buffer is filled once.
        let mut seen = HashSet::new();
        for frame in plans.flat_map(|compiled| &compiled.frames) {
            for buffer in frame.scratch.iter().chain(frame.outputs.iter().filter(|buffer| buffer.is_free())) {
                if seen.insert(buffer.id()) {
                    self.write(buffer, 0, &vec![0xff; buffer.bytes() as usize])?;
                }
            }
        }
        Ok(())
    }
}
