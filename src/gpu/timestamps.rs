//! Times of dispatches on the device's clock, while a profile is taken.
//!
//! Two timestamps a dispatch, inside the pass where the adapter can; else each dispatch has a pass of its own with
//! timestamps at its bounds. They come back by a buffer of their own, a few runs later, without a wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use super::compile::Compiled;
use super::compile::Frame;
use super::driver::{Gpu, lock};
use super::queries::{FAILED, Flight, MAPPED, PENDING};
use crate::error::Result;
use crate::profile::{Clock, Label, Profile};

/// Most dispatches a query set times: two queries each, at most 4096 in a set on every adapter.
const DISPATCHES: usize = 2048;

/// The queries of the run that is being encoded.
pub(super) struct Stamps {
    sets: Vec<(wgpu::QuerySet, wgpu::Buffer)>,
    buffer: wgpu::Buffer,
    state: Arc<AtomicU8>,
    inside: bool,
    count: usize,
}

impl Stamps {
    /// Encodes every dispatch of `compiled` between two timestamps, and the way of these to the host.
    pub fn encode(&self, encoder: &mut wgpu::CommandEncoder, compiled: &Compiled, frame: &Frame) {
        let steps = || compiled.steps.iter().zip(&frame.groups).enumerate();
        let set = |i: usize| (&self.sets[i / DISPATCHES].0, (i % DISPATCHES * 2) as u32);
        if self.inside {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (i, (step, group)) in steps() {
                let (set, first) = set(i);
                pass.write_timestamp(set, first);
                pass.set_pipeline(&step.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(step.grid[0], step.grid[1], 1);
                pass.write_timestamp(set, first + 1);
            }
        } else {
            for (i, (step, group)) in steps() {
                let (query_set, first) = set(i);
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                    label: None,
                    timestamp_writes: Some(wgpu::ComputePassTimestampWrites {
                        query_set,
                        beginning_of_pass_write_index: Some(first),
                        end_of_pass_write_index: Some(first + 1),
                    }),
                });
                pass.set_pipeline(&step.pipeline);
                pass.set_bind_group(0, group, &[]);
                pass.dispatch_workgroups(step.grid[0], step.grid[1], 1);
            }
        }
        let mut left = self.count;
        for (k, (set, resolved)) in self.sets.iter().enumerate() {
            let queries = left.min(DISPATCHES) * 2;
            left -= queries / 2;
            encoder.resolve_query_set(set, 0..queries as u32, resolved, 0);
            let to = (k * DISPATCHES * 16) as u64;
            encoder.copy_buffer_to_buffer(resolved, 0, &self.buffer, to, queries as u64 * 8);
        }
        let state = self.state.clone();
        encoder.map_buffer_on_submit(&self.buffer, wgpu::MapMode::Read, .., move |result| {
            state.store(if result.is_ok() { MAPPED } else { FAILED }, Ordering::Release);
        });
    }
}

impl Gpu {
    /// How kernels can be timed here.
    pub(super) fn clock(&self) -> Clock {
        let features = self.0.device.features();
        if lock(&self.0.timestamps).broken || !features.contains(wgpu::Features::TIMESTAMP_QUERY) {
            Clock::Missing
        } else if features.contains(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES) {
            Clock::InsidePass
        } else {
            Clock::PassEach
        }
    }

    /// Queries for a run of `count` dispatches; `None` where there are no timestamps.
    pub(super) fn stamps(&self, count: usize) -> Result<Option<Stamps>> {
        let clock = self.clock();
        if clock == Clock::Missing || count == 0 {
            return Ok(None);
        }
        let needed = count.div_ceil(DISPATCHES);
        let bytes = count as u64 * 16;
        let mut all = lock(&self.0.timestamps);
        let made = self.scoped("timestamps", || {
            if self.has_fault("timestamps") {
                self.cause_error();
            }
            while all.sets.len() < needed {
                let queries = DISPATCHES as u32 * 2;
                let set = self.0.device.create_query_set(&wgpu::QuerySetDescriptor {
                    label: None,
                    ty: wgpu::QueryType::Timestamp,
                    count: queries,
                });
                let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
                all.sets.push((set, self.plain_buffer(u64::from(queries) * 8, usage)));
            }
            let known = all.idle.iter().position(|buffer| buffer.size() >= bytes);
            match known {
                Some(known) => all.idle.swap_remove(known),
                None => self.plain_buffer(bytes, wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST),
            }
        });
        let buffer = match made {
            Ok(buffer) => buffer,
            Err(error) => {
                all.broken = true;
                all.sets.clear();
                drop(all);
                self.check()?;
                self.warn(&format!("timestamps are listed but fail, so kernels are counted and not timed ({error})"));
                return Ok(None);
            }
        };
        Ok(Some(Stamps {
            sets: all.sets[..needed].to_vec(),
            buffer,
            state: Arc::new(AtomicU8::new(PENDING)),
            inside: clock == Clock::InsidePass,
            count,
        }))
    }

    /// Outside the accounting: a profile must not change the figures of memory.
    fn plain_buffer(&self, size: u64, usage: wgpu::BufferUsages) -> wgpu::Buffer {
        self.0.device.create_buffer(&wgpu::BufferDescriptor { label: None, size, usage, mapped_at_creation: false })
    }

    /// Notes a submitted run; its times are taken up when they are there.
    pub(super) fn note_run(&self, labels: Arc<[Label]>, stamps: Option<Stamps>, submitted: u64) {
        match stamps {
            Some(Stamps { buffer, state, .. }) => {
                lock(&self.0.timestamps).flying.push(Flight { labels, submitted, buffer, state });
            }
            None => self.0.recorder.run(&labels, None, submitted, self.clock()),
        }
    }

    /// Takes up the times that have come back.
    pub(super) fn collect_times(&self) {
        let clock = self.clock();
        let period = f64::from(self.0.queue.get_timestamp_period());
        let all = &mut *lock(&self.0.timestamps);
        for flight in std::mem::take(&mut all.flying) {
            let Flight { labels, submitted, buffer, state } = flight;
            let times = match state.load(Ordering::Acquire) {
                PENDING => {
                    all.flying.push(Flight { labels, submitted, buffer, state });
                    continue;
                }
                MAPPED => buffer.get_mapped_range(..).ok().map(|view| {
                    let ticks: Vec<u64> = bytemuck::pod_collect_to_vec(&view[..labels.len() * 16]);
                    let nanoseconds = |tick: u64| (tick as f64 * period) as u64;
                    ticks.chunks_exact(2).map(|pair| (nanoseconds(pair[0]), nanoseconds(pair[1]))).collect::<Vec<_>>()
                }),
                _ => None,
            };
            self.0.recorder.run(&labels, times.as_deref(), submitted, clock);
            if times.is_some() {
                buffer.unmap();
                all.idle.push(buffer);
            }
        }
    }

    /// What has been measured; waits for the runs that are under way.
    pub fn profile(&self) -> Result<Profile> {
        if self.0.recorder.is_on() {
            self.wait()?;
        }
        self.collect_times();
        Ok(self.0.recorder.profile(self.0.info.to_string(), self.clock()))
    }

    /// Starts a new profile, or stops.
    pub fn set_profiling(&self, on: bool) -> Result<()> {
        if !on && self.0.recorder.is_on() {
            self.wait()?;
            self.collect_times();
        }
        self.0.recorder.switch(on);
        Ok(())
    }
}
