//! Which batches of an epoch a rank of several takes.

/// Of each `count` batches in a row the one with the number `rank`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Share {
    pub rank: u64,
    pub count: u64,
    /// True if a last round that has not one for each rank is left out.
    pub whole: bool,
}

impl Share {
    /// All batches.
    pub const ALL: Share = Share { rank: 0, count: 1, whole: false };

    /// The share of a rank; a count of 0 is that of all.
    pub fn of(rank: usize, count: usize, whole: bool) -> Share {
        let count = count.max(1) as u64;
        Share { rank: (rank as u64).min(count - 1), count, whole }
    }

    /// The batch of the round that begins with batch `at`; `None` if an epoch of so many batches has none.
    pub fn batch(self, at: u64, batches: u64) -> Option<u64> {
        // Rounds are counted from wherever an epoch was gone on with, which need not be a multiple of their length.
        let last = if self.whole { self.count - 1 } else { self.rank };
        let is_there = at.checked_add(last).is_some_and(|last| last < batches);
        is_there.then(|| at + self.rank)
    }

    /// Where the next round begins.
    pub fn next(self, at: u64, batches: u64) -> u64 {
        at.saturating_add(self.count).min(batches)
    }

    /// Batches from `at` on.
    pub fn left(self, at: u64, batches: u64) -> u64 {
        match self.whole {
            true => batches.saturating_sub(at) / self.count,
            false => batches.saturating_sub(at.saturating_add(self.rank)).div_ceil(self.count),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The batches of a rank from `at` on.
    fn own(share: Share, mut at: u64, batches: u64) -> Vec<u64> {
        let mut own = vec![];
        assert_eq!(share.left(at, batches), {
            while let Some(batch) = share.batch(at, batches) {
                own.push(batch);
                at = share.next(at, batches);
            }
            own.len() as u64
        });
        own
    }

    #[test]
    fn the_shares_of_all_ranks_are_the_rest_of_the_epoch() {
        for (batches, count) in [(10, 4), (3, 4), (8, 4), (5, 1), (7, 3)] {
            for at in 0..=batches {
                let of =
                    |whole| (0..count).map(|rank| own(Share::of(rank, count, whole), at, batches)).collect::<Vec<_>>();
                let mut all = of(false).concat();
                all.sort();
                assert_eq!(all, (at..batches).collect::<Vec<_>>(), "{batches} {count} from {at}");
                // In whole rounds each has as many, wherever they begin.
                let whole = of(true);
                assert!(whole.iter().all(|own| own.len() == whole[0].len()), "{batches} {count} from {at}: {whole:?}");
                let mut all = whole.concat();
                all.sort();
                let end = batches - (batches - at) % count as u64;
                assert_eq!(all, (at..end).collect::<Vec<_>>(), "{batches} {count} from {at}, whole rounds");
            }
        }
    }
}
