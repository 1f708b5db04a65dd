//! Gradients that are sent while the backward pass goes on.
//!
//! They are cut into buckets, the parameters that were made last first, for these have their gradients first. Each is
//! read as soon as no later dispatch of the pass writes to it, added up by the ranks, and written, while the device computes those that
//! follow. Each sum is formed as it is without buckets.

use std::ops::Range;

use super::broadcast::encode;
use super::stepper::Stepper;
use super::together::{Stored, hear_heads};
use crate::dispatch::ArenaRef;
use crate::distributed::{Lost, Share};
use crate::engine;
use crate::error::{Error, Result};
use crate::host::HostData;
use crate::params::{Chunk, Placed};

/// Ranges of arenas of gradients, each with the number of its chunk.
pub(super) type Bucket = Vec<(usize, Range<usize>)>;

/// Bytes of a gradient on a GPU, as which the lengths of buckets are counted.
const WIDTH: usize = 4;

/// Cuts the arenas of gradients of these lengths at parameters: the first of `first` bytes or more, the others of `others`.
fn cut(lengths: &[usize], layout: &[Placed], [first, others]: [usize; 2]) -> Vec<Bucket> {
    let (mut buckets, mut open, mut bytes) = (vec![], Bucket::new(), 0usize);
    for (chunk, &length) in lengths.iter().enumerate().rev() {
        let own = layout.iter().filter(|place| place.chunk == chunk);
        // What lies before the first parameter goes with it.
        let mut starts: Vec<usize> = own.map(|place| place.offset).collect();
        starts.sort_unstable();
        starts.first_mut().into_iter().for_each(|start| *start = 0);
        let mut end = length;
        for start in starts.into_iter().rev().filter(|&start| start < length) {
            match open.last_mut().filter(|(of, range)| *of == chunk && range.start == end) {
                Some((_, range)) => range.start = start,
                None => open.push((chunk, start..end)),
            }
            bytes = bytes.saturating_add((end - start) * WIDTH);
            end = start;
            if bytes >= if buckets.is_empty() { first } else { others } {
                buckets.push(std::mem::take(&mut open));
                bytes = 0;
            }
        }
    }
    buckets.extend(Some(open).filter(|open| !open.is_empty()));
    buckets
}

impl<R: ?Sized + Send + Sync> Stepper<R> {
    /// How the gradients are cut: the same on all ranks.
    pub(super) fn buckets(&self, chunks: &[Chunk]) -> Result<Vec<Bucket>> {
        let world = self.together.as_ref().map(|together| &together.world);
        let Some(world) = world.filter(|world| !world.keeps_order() && !world.sends_half()) else { return Ok(vec![]) };
        let lengths: Vec<usize> = chunks.iter().map(|chunk| chunk.values.elements).collect();
        Ok(cut(&lengths, &self.store.layout()?, world.buckets()))
    }

    /// What the pass that ends a step reads while it goes on.
    pub(super) fn early_reads(&mut self) -> Result<Vec<Vec<(ArenaRef, usize, usize)>>> {
        let chunks = self.prepare()?;
        let buckets = self.buckets(&chunks)?;
        if buckets.len() < 2 || self.store.device().is_cpu() {
            return Ok(vec![]);
        }
        let place = |(chunk, range): (usize, Range<usize>)| {
            let arena = chunks.get(chunk).and_then(|chunk| chunk.gradients.as_ref());
            let arena = arena.ok_or_else(|| Error::internal("a chunk without gradients"))?;
            Ok((arena.place.clone(), range.start, range.len()))
        };
        buckets.into_iter().map(|bucket| bucket.into_iter().map(place).collect()).collect()
    }

    /// Puts the sums over all ranks where the own gradients were, bucket by bucket.
    pub(super) fn meet_in_buckets<T: Stored>(&mut self, chunks: &[Chunk], buckets: &[Bucket]) -> Result<()> {
        let arriving =
            self.together.as_mut().map(|together| std::mem::take(&mut together.arriving)).unwrap_or_default();
        let reached = self.gathered.clone();
        if arriving.is_empty() {
            self.take_gathered()?;
        }
        self.gathered.fill(false);
        let check = self.check_of_step()?;
        let (states, layout) = (self.store.adopted(), self.store.layout()?);
        let Some(together) = &mut self.together else { return Ok(()) };
        let world = together.world.clone();
        let whole: Vec<Vec<T>> = std::mem::take(&mut together.parts).into_iter().filter_map(T::of).collect();
        if !arriving.is_empty() {
            together.reached.resize(reached.len(), false);
            together.reached.iter_mut().zip(&reached).for_each(|(any, own)| *any |= own);
        }
        let (loss, head) = (together.loss.take(), together.head(check, reached.len()).to_bytes());
        let starts: Vec<usize> =
            chunks.iter().scan(0, |next, chunk| Some(std::mem::replace(next, *next + chunk.values.elements))).collect();
        let mut arriving = arriving.into_iter();
        let (mut passes, mut tail, mut is_finite) = (0, vec![], true);
        for (number, bucket) in buckets.iter().enumerate() {
            let (is_first, is_last) = (number == 0, number + 1 == buckets.len());
            let slice = |part: &Vec<T>| -> Vec<T> {
                let of =
                    |(chunk, range): &(usize, Range<usize>)| starts[*chunk] + range.start..starts[*chunk] + range.end;
                bucket.iter().flat_map(|range| part.get(of(range)).unwrap_or_default()).copied().collect()
            };
            let mut parts: Vec<Vec<T>> = whole.iter().map(slice).collect();
            if let Some(awaited) = arriving.next() {
                let bytes = awaited.sit_out()?;
                world.count_read(bytes.len() as u64);
                let own = T::of(HostData::F32(bytemuck::pod_collect_to_vec(&bytes)));
                let mut own = own.ok_or_else(|| Error::internal("gradients of another width"))?;
                clear(&mut own, bucket, &layout, &reached);
                parts.push(own);
            }
            if is_first {
                // All steps before this one have run: their outcome is known on every rank from here on.
                engine::hear(self.store.device())?;
            }
            let mut said = if is_first { head.clone() } else { vec![] };
            if is_last {
                let own = loss.as_ref().map(|loss| engine::computed(loss.node())).transpose()?;
                said.push(u8::from(own.is_none_or(|loss| loss.to_f64().iter().all(|x| x.is_finite()))));
                if world.is_first() {
                    tail = encode(&states.iter().map(|state| state.gathered()).collect::<Vec<_>>())?;
                }
            }
            let length = bucket.iter().map(|(_, range)| range.len()).sum();
            let gathered = &mut self.gathered;
            let share = Share { length, parts, head: said };
            let summed = world.sum(share, None::<&mut Lost<T>>, |heads| {
                if is_first {
                    passes = hear_heads(&world, heads, check, gathered)?;
                }
                is_finite &= !is_last || heads.iter().all(|head| head.last() == Some(&1));
                Ok(std::mem::take(&mut tail))
            })?;
            tail = summed.tail;
            let mut rest = &summed.sum[..];
            for (chunk, range) in bucket {
                let (own, others) = rest.split_at_checked(range.len()).unwrap_or((rest, &[]));
                T::write(&chunks[*chunk], range.start, own)?;
                rest = others;
            }
            world.count_written(size_of_val(&summed.sum[..]) as u64);
        }
        if let Some((place, _)) = layout.iter().zip(&self.gathered).find(|(_, reached)| !is_finite && **reached) {
            // A loss that is not finite on one rank: all refuse the step, by a gradient that is not finite either.
            T::write(&chunks[place.chunk], place.offset, &[T::NAN])?;
        }
        self.end_meeting(&tail, passes)
    }
}

/// Puts nothing where there is no gradient.
fn clear<T: Stored>(own: &mut [T], bucket: &Bucket, layout: &[Placed], reached: &[bool]) {
    let mut before = 0;
    for (chunk, range) in bucket {
        for (place, _) in layout.iter().zip(reached).filter(|(place, reached)| place.chunk == *chunk && !**reached) {
            let (first, end) = (place.offset.max(range.start), (place.offset + place.shape.elements()).min(range.end));
            if first < end
                && let Some(own) = own.get_mut(before + first - range.start..before + end - range.start)
            {
                own.fill(T::NOTHING);
            }
        }
        before += range.len();
    }
}
