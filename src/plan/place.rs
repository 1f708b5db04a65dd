//! Scratch buffers, reused by lifetime.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};

use crate::dispatch::{Plan, SlotKind};

/// Slots from which on buffers are given by time alone: by size each slot asks every buffer.
const MANY: usize = 4096;

/// A slot that wants a buffer, and the first and last dispatch that use it.
#[derive(Clone, Copy)]
struct Use {
    slot: usize,
    bytes: u64,
    first: usize,
    last: usize,
}

/// Slots with their buffers, and the sizes of these.
struct Layout {
    of: Vec<(usize, usize)>,
    sizes: Vec<u64>,
}

impl Layout {
    fn bytes(&self) -> u64 {
        self.sizes.iter().sum()
    }
}

/// In the order of their beginnings: the smallest free buffer that holds it, else the largest free one, grown.
fn by_time(mut uses: Vec<Use>) -> Layout {
    uses.sort_by_key(|of| (of.first, Reverse(of.bytes)));
    let (mut of, mut sizes) = (vec![], vec![]);
    // Buffers by size, and those in use by their last dispatch.
    let mut free: BTreeSet<(u64, usize)> = BTreeSet::new();
    let mut busy: BinaryHeap<Reverse<(usize, usize)>> = BinaryHeap::new();
    for Use { slot, bytes, first, last } in uses {
        while let Some(&Reverse((until, buffer))) = busy.peek()
            && until < first
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
        sizes[chosen] = bytes.max(sizes[chosen]);
        busy.push(Reverse((last, chosen)));
        of.push((slot, chosen));
    }
    Layout { of, sizes }
}

/// The largest first: the smallest buffer that nobody else needs in the meantime (Pisarchyk and Lee 2020, "Efficient memory
/// management for deep neural net inference", greedy by size).
fn by_size(mut uses: Vec<Use>) -> Layout {
    uses.sort_by_key(|of| (Reverse(of.bytes), of.first));
    let (mut of, mut sizes) = (vec![], vec![]);
    // Of each buffer the last dispatch of what begins at a dispatch.
    let mut taken: Vec<BTreeMap<usize, usize>> = vec![];
    for Use { slot, bytes, first, last } in uses {
        let is_free =
            |taken: &BTreeMap<usize, usize>| taken.range(..=last).next_back().is_none_or(|(_, &until)| until < first);
        let chosen = taken.iter().rposition(is_free).unwrap_or_else(|| {
            taken.push(BTreeMap::new());
            sizes.push(bytes);
            sizes.len() - 1
        });
        taken[chosen].insert(first, last);
        of.push((slot, chosen));
    }
    Layout { of, sizes }
}

/// Gives each scratch slot a shared buffer, in whichever way takes less memory.
pub fn place(plan: &mut Plan) {
    let lifetimes = plan.lifetimes();
    let uses: Vec<Use> = (0..plan.slots.len())
        .filter(|&slot| matches!(plan.slots[slot].kind, SlotKind::Scratch(_) | SlotKind::Upload { .. }))
        .map(|slot| {
            // What is never bound is in nobody's way.
            let (first, last) = lifetimes[slot].unwrap_or((usize::MAX, 0));
            Use { slot, bytes: plan.slots[slot].bytes, first, last }
        })
        .collect();
    let other = (uses.len() < MANY).then(|| by_size(uses.clone()));
    let own = by_time(uses);
    let Layout { of, sizes } = other.filter(|other| other.bytes() < own.bytes()).unwrap_or(own);
    for (slot, chosen) in of {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Philox;

    /// True if no two uses that meet share a buffer, and each fits into its own.
    fn is_sound(uses: &[Use], layout: &Layout) -> bool {
        let buffer =
            |of: &Use| layout.of.iter().find(|(slot, _)| *slot == of.slot).expect("each slot is given a buffer").1;
        let meets = |a: &Use, b: &Use| a.slot != b.slot && a.first <= b.last && b.first <= a.last;
        uses.iter().all(|a| a.bytes <= layout.sizes[buffer(a)])
            && uses.iter().all(|a| uses.iter().all(|b| !meets(a, b) || buffer(a) != buffer(b)))
    }

    #[test]
    fn slots_that_are_used_at_one_time_never_share_a_buffer() {
        let mut random = Philox::new(1, 0);
        for round in 0..200 {
            let uses: Vec<Use> = (0..1 + round % 37)
                .map(|slot| {
                    let first = random.below(50) as usize;
                    let last = first + random.below(12) as usize;
                    Use { slot, bytes: 4 * u64::from(1 + random.below(131)), first, last }
                })
                .collect();
            let unbound = Use { slot: 37, bytes: 4, first: usize::MAX, last: 0 };
            for place in [by_time, by_size] {
                let layout = place(uses.clone());
                assert!(is_sound(&uses, &layout), "round {round}");
                let with = place([&uses[..], &[unbound]].concat());
                assert_eq!(with.bytes(), layout.bytes(), "what is never bound takes no room, round {round}");
            }
        }
    }

    /// Partial sums of two gradients, between them what is smaller: by time each lands in a buffer of its own.
    #[test]
    fn a_small_slot_keeps_no_large_buffer_from_the_next_large_slot() {
        let of = |slot, bytes, first, last| Use { slot, bytes, first, last };
        let uses = vec![of(0, 900, 0, 1), of(1, 50, 2, 5), of(2, 900, 3, 4), of(3, 50, 5, 6)];
        assert_eq!(by_time(uses.clone()).bytes(), 1800);
        assert_eq!(by_size(uses).bytes(), 950);
    }
}
