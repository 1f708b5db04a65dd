//! Where a dispatch may go: the groups that run after all that it needs, and have room.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashMap;

use super::{MOST, Part, bindings};
use crate::dispatch::{Plan, SlotKind};
use crate::kernel::Capabilities;

/// Groups that a dispatch is tried with, at most.
const TRIES: usize = 256;

/// The last groups that touched each slot.
pub(super) struct History {
    /// For each slot, those that share memory with it, itself among them.
    shared: Vec<Vec<usize>>,
    /// One more than the last group that bound it, and than the last that wrote it.
    bound: Vec<usize>,
    written: Vec<usize>,
}

impl History {
    pub fn new(plan: &Plan) -> History {
        let mut shared: Vec<Vec<usize>> = (0..plan.slots.len()).map(|slot| vec![slot]).collect();
        // Slots of an arena by range; those of one range are counted as the first of them.
        let mut ranges: BTreeMap<(u64, usize, usize), Vec<usize>> = BTreeMap::new();
        for (slot, info) in plan.slots.iter().enumerate() {
            if let SlotKind::Arena(arena, start, length) = &info.kind {
                ranges.entry((arena.id, *start, *length)).or_default().push(slot);
            }
        }
        let list: Vec<_> = ranges.into_iter().collect();
        let mut overlaps: Vec<Vec<usize>> = list.iter().map(|(_, slots)| vec![slots[0]]).collect();
        for (i, ((arena, start, length), slots)) in list.iter().enumerate() {
            let behind = list[i + 1..].iter().enumerate();
            for (j, (_, others)) in
                behind.take_while(|(_, ((other, from, _), _))| other == arena && *from < start + length)
            {
                overlaps[i].push(others[0]);
                overlaps[i + 1 + j].push(slots[0]);
            }
        }
        for ((_, slots), overlaps) in list.iter().zip(overlaps) {
            // An empty range shares memory with nothing, but nothing is bound empty.
            slots[1..].iter().for_each(|&slot| shared[slot] = vec![slots[0]]);
            shared[slots[0]] = overlaps;
        }
        let none = vec![0; plan.slots.len()];
        History { shared, bound: none.clone(), written: none }
    }

    /// Where a slot's memory is counted.
    fn place(&self, slot: usize) -> usize {
        if self.shared[slot].contains(&slot) { slot } else { self.shared[slot][0] }
    }

    /// The first group that may take a dispatch with these bindings that waits for these slots to be written.
    pub fn earliest(&self, bindings: &[(u32, usize, bool)], waits: &[usize]) -> usize {
        let after = bindings.iter().flat_map(|&(_, slot, write)| {
            let last = if write { &self.bound } else { &self.written };
            self.shared[self.place(slot)].iter().map(|&other| last[other])
        });
        after.chain(waits.iter().map(|&slot| self.written[self.place(slot)])).max().unwrap_or(0)
    }

    /// Notes a dispatch with these bindings in `group`.
    pub fn note(&mut self, bindings: &[(u32, usize, bool)], group: usize) {
        for &(_, slot, write) in bindings {
            let place = self.place(slot);
            self.bound[place] = self.bound[place].max(group + 1);
            if write {
                self.written[place] = self.written[place].max(group + 1);
            }
        }
    }
}

/// Groups that may take one more dispatch.
#[derive(Default)]
pub(super) struct OpenGroups {
    /// Those of small kernels alone, by the number of buffers that they may still bind.
    small: BTreeMap<usize, BTreeSet<usize>>,
    /// All, by the slots that they only read.
    reading: FxHashMap<usize, BTreeSet<usize>>,
    room: FxHashMap<usize, usize>,
}

impl OpenGroups {
    /// The first group from `earliest` on that `fits`. Whoever shares no read takes as many buffers as it binds.
    pub fn first(&self, earliest: usize, part: &Part, fits: impl Fn(usize) -> bool) -> Option<usize> {
        let own = part.storage().len();
        let small = self.small.range(own..).map(|(_, groups)| groups).filter(|_| part.small);
        let sets: Vec<&BTreeSet<usize>> =
            small.chain(part.reads().filter_map(|slot| self.reading.get(&slot))).collect();
        let mut from = earliest;
        for _ in 0..TRIES {
            let group = *sets.iter().filter_map(|set| set.range(from..).next()).min()?;
            if fits(group) {
                return Some(group);
            }
            from = group + 1;
        }
        None
    }

    /// Notes what a group has become.
    pub fn note(&mut self, group: usize, members: &[&Part], capabilities: &Capabilities) {
        if let Some(groups) = self.room.remove(&group).and_then(|room| self.small.get_mut(&room)) {
            groups.remove(&group);
        }
        let bound = bindings(members).0.len();
        let reads = members.iter().flat_map(|part| part.reads());
        // Each dispatch writes to something, which is bound anew.
        if members.len() >= MOST || bound >= capabilities.storage_buffers {
            for slot in reads {
                self.reading.get_mut(&slot).map(|groups| groups.remove(&group));
            }
            return;
        }
        for slot in reads {
            self.reading.entry(slot).or_default().insert(group);
        }
        if members.iter().all(|part| part.small) {
            let room = capabilities.storage_buffers - bound;
            self.room.insert(group, room);
            self.small.entry(room).or_default().insert(group);
        }
    }
}
