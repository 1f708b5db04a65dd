//! Sums of gradients in the order of ranks, whatever the network does: ranges of them go to the rank that sums them, and
//! the sums come back.

use std::ops::{AddAssign, Range};
use std::sync::Arc;

use super::communicator::Kind;
use super::half;
use super::world::World;
use crate::error::{Error, Result};

/// Numbers that ranks add up.
pub(crate) trait Number: bytemuck::Pod + AddAssign + Send + Sync {
    /// What changes nothing that it is added to, zeros of either sign included.
    const NOTHING: Self;

    fn to_f64(self) -> f64;
    fn of_f64(x: f64) -> Self;
}

impl Number for f32 {
    const NOTHING: f32 = -0.0;

    fn to_f64(self) -> f64 {
        self.into()
    }

    fn of_f64(x: f64) -> f32 {
        x as f32
    }
}

impl Number for f64 {
    const NOTHING: f64 = -0.0;

    fn to_f64(self) -> f64 {
        self
    }

    fn of_f64(x: f64) -> f64 {
        x
    }
}

/// What rounding to f16 has taken from what a rank has sent: from its gradients, and from its range of sums. Empty where
/// gradients are sent whole.
#[derive(Debug, Default)]
pub(crate) struct Lost<T> {
    gradients: Vec<T>,
    sums: Vec<T>,
}

/// What a rank adds to a sum.
pub(crate) struct Share<T> {
    /// Elements of the sum.
    pub length: usize,
    /// A part of that many for each micro-batch that it has; perhaps none.
    pub parts: Vec<Vec<T>>,
    /// What all ranks are to know of it.
    pub head: Vec<u8>,
}

/// What has become of it.
pub(crate) struct Summed<T> {
    /// ((part 0 of rank 0 + part 0 of rank 1) + ..) + part 1 of rank 0 ..
    pub sum: Vec<T>,
    /// What rank 0 has sent with it.
    pub tail: Vec<u8>,
}

/// What goes to one rank: words of lengths, a head, parts.
fn parcel<T: Number>(share: &Share<T>, range: Range<usize>, mut lost: Option<&mut Lost<T>>) -> Vec<u8> {
    let width = if lost.is_some() { 2 } else { size_of::<T>() };
    let mut bytes = Vec::with_capacity(32 + share.head.len() + share.parts.len() * width_of(width, range.len()));
    for word in [share.length, share.parts.len(), share.head.len(), width] {
        bytes.extend((word as u64).to_le_bytes());
    }
    bytes.extend(&share.head);
    for part in &share.parts {
        let own = part.get(range.clone()).unwrap_or_default();
        match lost.as_mut().and_then(|lost| lost.gradients.get_mut(range.clone())) {
            Some(lost) => half::pack(own, lost, &mut bytes),
            None => bytes.extend(bytemuck::cast_slice::<T, u8>(own)),
        }
    }
    bytes
}

/// Bytes of a part of so many numbers.
fn width_of(width: usize, numbers: usize) -> usize {
    if width == 2 { half::bytes(numbers) } else { width * numbers }
}

/// The part of a sum of so many elements that a rank forms.
fn range(length: usize, rank: usize, size: usize) -> Range<usize> {
    let at = |rank: usize| (length as u128 * rank as u128 / size as u128) as usize;
    at(rank)..at(rank + 1)
}

/// One rank's parcel, taken apart.
struct Opened<'a> {
    parts: Vec<&'a [u8]>,
    head: &'a [u8],
}

fn open(bytes: &[u8], rank: usize, [length, own, width]: [usize; 3]) -> Result<Opened<'_>> {
    let wrong =
        |what: String| Error::Rank { rank, what, next: "run the same program with the same model on all of them" };
    let word = |at: usize| {
        let word = bytes.get(8 * at..8 * at + 8).and_then(|word| word.try_into().ok());
        word.map(u64::from_le_bytes).ok_or_else(|| wrong("its gradients came without their lengths".into()))
    };
    let (theirs, count, head, sent) = (word(0)?, word(1)?, word(2)? as usize, word(3)?);
    if theirs != length as u64 || sent != width as u64 {
        return Err(wrong(format!(
            "it sends {theirs} gradients of {sent} bytes, where {length} of {width} are wanted"
        )));
    }
    let rest = bytes.get(32..).unwrap_or_default();
    let (head, rest) = rest.split_at_checked(head).ok_or_else(|| wrong("its message is cut off".into()))?;
    let own = width_of(width, own);
    if rest.len() as u64 != count.saturating_mul(own as u64) {
        return Err(wrong(format!("{} bytes of gradients, where there are {count} parts", rest.len())));
    }
    let parts = if own == 0 { vec![] } else { rest.chunks_exact(own).collect() };
    Ok(Opened { parts, head })
}

/// The numbers of a part.
fn numbers<T: Number>(bytes: &[u8], width: usize) -> Vec<T> {
    match width {
        2 => half::unpack(bytes).collect(),
        _ => bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect(),
    }
}

impl World {
    /// Adds the shares of all ranks. `known` looks at the heads of all, in their order, before anything is sent back; what it
    /// gives on rank 0 is on every rank the tail. With `lost` all is sent as f16.
    pub(crate) fn sum<T: Number>(
        &self,
        share: Share<T>,
        mut lost: Option<&mut Lost<T>>,
        known: impl FnOnce(&[&[u8]]) -> Result<Vec<u8>>,
    ) -> Result<Summed<T>> {
        let (rank, size, length) = (self.rank(), self.size(), share.length);
        let (own, width) = (range(length, rank, size), if lost.is_some() { 2 } else { size_of::<T>() });
        if let Some(lost) = &mut lost {
            lost.gradients.resize(length, T::of_f64(0.0));
            lost.sums.resize(own.len(), T::of_f64(0.0));
        }
        // The own share goes nowhere, and is read by the same code.
        let pack = |to: usize| Arc::new(parcel(&share, range(length, to, size), lost.as_deref_mut()));
        let out: Vec<_> = (0..size).map(pack).collect();
        drop(share);
        let mine = out.get(rank).cloned().unwrap_or_default();
        let mut arrived = self.exchange(Kind::Scatter, out)?;
        if let Some(place) = arrived.get_mut(rank) {
            *place = Arc::unwrap_or_clone(mine);
        }
        let opened = arrived.iter().enumerate().map(|(rank, bytes)| open(bytes, rank, [length, own.len(), width]));
        let opened = opened.collect::<Result<Vec<_>>>()?;
        let heads: Vec<&[u8]> = opened.iter().map(|opened| opened.head).collect();
        let tail = known(&heads)?;
        let sum = in_order::<T>(&opened, own.len(), width);
        drop(opened);
        drop(arrived);
        let mut back = (tail.len() as u64).to_le_bytes().to_vec();
        if rank != 0 {
            back = 0u64.to_le_bytes().to_vec();
        } else {
            back.extend(&tail);
        }
        match lost {
            Some(lost) => half::pack(&sum, &mut lost.sums, &mut back),
            None => back.extend(bytemuck::cast_slice::<T, u8>(&sum)),
        }
        let back = Arc::new(back);
        let mut arrived = self.exchange(Kind::Sums, vec![back.clone(); size])?;
        if let Some(place) = arrived.get_mut(rank) {
            *place = Arc::unwrap_or_clone(back);
        }
        let mut whole = Summed { sum: Vec::with_capacity(length), tail: vec![] };
        for (rank, bytes) in arrived.iter().enumerate() {
            let cut = || Error::Rank { rank, what: "its sums are cut off".into(), next: "look at the network" };
            let (words, rest) = bytes.split_at_checked(8).ok_or_else(cut)?;
            let tail = words.try_into().map(u64::from_le_bytes).map_err(|_| cut())? as usize;
            let (tail, rest) = rest.split_at_checked(tail).ok_or_else(cut)?;
            if rest.len() != width_of(width, range(length, rank, size).len()) {
                return Err(cut());
            }
            if rank == 0 {
                whole.tail = tail.to_vec();
            }
            whole.sum.extend(numbers::<T>(rest, width));
        }
        Ok(whole)
    }
}

/// The sum of parts: the first of each rank, then the second of each, and so on.
fn in_order<T: Number>(opened: &[Opened<'_>], length: usize, width: usize) -> Vec<T> {
    let rounds = opened.iter().map(|opened| opened.parts.len()).max().unwrap_or(0);
    let mut parts = (0..rounds).flat_map(|round| opened.iter().filter_map(move |opened| opened.parts.get(round)));
    let mut sum: Vec<T> = match parts.next() {
        Some(first) => numbers(first, width),
        None => vec![T::NOTHING; length],
    };
    for part in parts {
        sum.iter_mut().zip(numbers::<T>(part, width)).for_each(|(sum, own)| *sum += own);
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::super::threads::on_ranks;
    use super::*;

    #[test]
    fn ranges_cover_a_sum_once() {
        for (length, size) in [(0, 3), (1, 4), (7, 2), (1000, 7)] {
            let ends: Vec<_> = (0..size).map(|rank| range(length, rank, size)).collect();
            assert_eq!(ends.iter().map(ExactSizeIterator::len).sum::<usize>(), length);
            assert!(ends.windows(2).all(|pair| pair[0].end == pair[1].start), "{ends:?}");
        }
    }

    #[test]
    fn parts_are_added_round_by_round_in_the_order_of_ranks() {
        // Numbers whose sum depends on the order.
        let number =
            |rank: usize, part: usize, i: usize| (1.0 + i as f32) * [1e8, -1e8, 0.25, 3.0][(rank + 2 * part) % 4];
        for size in 1..=4 {
            let summed = on_ranks(size, |world| {
                let rank = world.rank();
                // The last round has rank 0 alone.
                let parts =
                    (0..if rank == 0 { 3 } else { 2 }).map(|part| (0..10).map(|i| number(rank, part, i)).collect());
                let share = Share { length: 10, parts: parts.collect(), head: vec![rank as u8] };
                let summed = world.sum::<f32>(share, None, |heads| Ok(heads.concat())).unwrap();
                (summed.sum, summed.tail)
            });
            let mut want = [-0.0f32; 10];
            for (part, rank) in (0..3).flat_map(|part| (0..size).map(move |rank| (part, rank))) {
                if part < 2 || rank == 0 {
                    want.iter_mut().enumerate().for_each(|(i, sum)| *sum += number(rank, part, i));
                }
            }
            let heads: Vec<u8> = (0..size as u8).collect();
            assert!(summed.iter().all(|(sum, tail)| *sum == want && *tail == heads), "{size}: {summed:?}\n{want:?}");
        }
    }

    #[test]
    fn sums_of_f16_are_the_same_on_all_ranks_and_right_in_the_mean() {
        let sums = on_ranks(3, |world| {
            let mut lost = Lost::default();
            let mut total = [0.0f64; 5];
            for step in 0..200 {
                let part: Vec<f32> = (0..5).map(|i| (i as f32 - 1.7) * 1.001f32.powi(step)).collect();
                let share = Share { length: 5, parts: vec![part], head: vec![] };
                let summed = world.sum::<f32>(share, Some(&mut lost), |_| Ok(vec![])).unwrap().sum;
                summed.iter().zip(&mut total).for_each(|(x, total)| *total += f64::from(*x));
            }
            total
        });
        assert!(sums.iter().all(|sum| *sum == sums[0]));
        for (i, sum) in sums[0].iter().enumerate() {
            let want: f64 = (0..200).map(|step| 3.0 * (i as f64 - 1.7) * 1.001f64.powi(step)).sum();
            assert!((sum - want).abs() < 1e-2, "{sum} {want}");
        }
    }

    #[test]
    fn what_a_rank_has_not_changes_no_sign() {
        let summed = on_ranks(3, |world| {
            let parts = if world.rank() == 1 { vec![vec![-0.0f32, 0.0, 1.0]] } else { vec![] };
            world.sum(Share { length: 3, parts, head: vec![] }, None, |_| Ok(vec![])).unwrap().sum
        });
        for sum in summed {
            assert_eq!(sum.iter().map(|x| x.to_bits()).collect::<Vec<_>>(), [-0.0f32, 0.0, 1.0].map(f32::to_bits));
        }
    }
}
