//! Scratch buffers, reused by lifetime.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};

use crate::dispatch::{Plan, SlotKind};

/// Gives each scratch slot a shared buffer: the smallest free one that holds it, else the largest free one, grown.
pub fn place(plan: &mut Plan) {
    let lifetimes = plan.lifetimes();
    let first = |slot: usize| lifetimes[slot].map_or(usize::MAX, |(first, _)| first);
    let last = |slot: usize| lifetimes[slot].map_or(0, |(_, last)| last);
    let mut order: Vec<usize> = (0..plan.slots.len())
        .filter(|&slot| matches!(plan.slots[slot].kind, SlotKind::Scratch(_) | SlotKind::Upload { .. }))
        .collect();
    order.sort_by_key(|&slot| (first(slot), Reverse(plan.slots[slot].bytes)));
    let mut sizes: Vec<u64> = vec![];
    // Buffers by size, and those in use by their last dispatch.
    let mut free: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut busy: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    for slot in order {
        let bytes = plan.slots[slot].bytes;
        while let Some(&Reverse((until, buffer))) = busy.peek()
            && until < first(slot)
        {
            busy.pop();
            free.insert((sizes[buffer], buffer));
        }
        let fits = free.range((bytes, 0)..).next().or_else(|| free.last()).copied();
        let chosen = match fits {
            Some(buffer) => {
                free.remove(&buffer);
                buffer.1
            }
            None => {
                sizes.push(0);
                sizes.len() - 1
            }
        };
        sizes[chosen] = sizes[chosen].max(bytes);
        busy.push(Reverse((last(slot), chosen)));
        match &mut plan.slots[slot].kind {
            SlotKind::Scratch(scratch) | SlotKind::Upload { scratch, .. } => *scratch = chosen,
            _ => {}
        }
    }
    // Largest first, so that plans that share the buffers waste least.
    let mut rank: Vec<usize> = (0..sizes.len()).collect();
    rank.sort_by_key(|&i| Reverse(sizes[i]));
    let mut place = vec![0; sizes.len()];
    rank.iter().enumerate().for_each(|(new, &old)| place[old] = new);
    plan.scratch = rank.iter().map(|&old| sizes[old]).collect();
    for slot in &mut plan.slots {
        match &mut slot.kind {
            SlotKind::Scratch(scratch) | SlotKind::Upload { scratch, .. } if *scratch != usize::MAX => {
                *scratch = place[*scratch];
            }
            _ => {}
        }
    }
    // Slots of results that a later unit never used (unreachable scratch) keep the marker and are never bound.
}
