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
        let end = if self.whole { batches - batches % self.count } else { batches };
        (at < end).then_some(at.saturating_add(self.rank)).filter(|&batch| batch < batches)
    }

    /// Where the next round begins.
    pub fn next(self, at: u64, batches: u64) -> u64 {
        at.saturating_add(self.count).min(batches)
    }

    /// The batch that the round before `at` had for this rank.
    pub fn last(self, at: u64) -> u64 {
        // Rounds begin at multiples of their length; only the last of an epoch may be shorter.
        at.saturating_sub(1) / self.count * self.count + self.rank
    }

    /// Batches from `at` on.
    pub fn left(self, at: u64, batches: u64) -> u64 {
        let end = if self.whole { batches - batches % self.count } else { batches };
        end.saturating_sub(at.saturating_add(self.rank)).div_ceil(self.count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shares_of_all_ranks_are_the_epoch() {
        for (batches, count, whole) in
            [(10, 4, false), (10, 4, true), (3, 4, false), (3, 4, true), (8, 4, true), (5, 1, false)]
        {
            let mut all = vec![];
            for rank in 0..count {
                let share = Share::of(rank, count, whole);
                let (mut at, mut own) = (0, vec![]);
                assert_eq!(share.left(0, batches), {
                    while let Some(batch) = share.batch(at, batches) {
                        own.push(batch);
                        at = share.next(at, batches);
                        assert_eq!(share.last(at), batch);
                    }
                    own.len() as u64
                });
                all.extend(own);
            }
            all.sort();
            let end = if whole { batches - batches % count as u64 } else { batches };
            assert_eq!(all, (0..end).collect::<Vec<_>>(), "{batches} {count} {whole}");
        }
    }
}
