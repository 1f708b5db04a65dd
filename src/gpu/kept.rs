//! A map that forgets what has not been asked for the longest.

use std::collections::HashMap;
use std::hash::Hash;

/// Values by key, at most `MOST` of them between two rounds of use.
pub(super) struct Kept<K, V, const MOST: usize> {
    all: HashMap<K, (V, u64)>,
    round: u64,
}

impl<K, V, const MOST: usize> Default for Kept<K, V, MOST> {
    fn default() -> Self {
        Kept { all: HashMap::new(), round: 0 }
    }
}

impl<K: Hash + Eq + Clone, V, const MOST: usize> Kept<K, V, MOST> {
    /// The value of `key`, which counts as used in this round.
    pub fn get(&mut self, key: &K) -> Option<&V> {
        let (value, used) = self.all.get_mut(key)?;
        *used = self.round;
        Some(value)
    }

    pub fn insert(&mut self, key: K, value: V) {
        self.all.insert(key, (value, self.round));
    }

    /// Ends a round: forgets what was used in the oldest ones until `MOST` are left, but nothing of the round itself.
    pub fn end_round(&mut self) {
        if self.all.len() > MOST {
            let mut by_age: Vec<(u64, K)> = self.all.iter().map(|(key, (_, used))| (*used, key.clone())).collect();
            by_age.sort_by_key(|(used, _)| *used);
            let surplus = by_age.len() - MOST;
            for (_, key) in by_age.into_iter().take(surplus).filter(|(used, _)| *used < self.round) {
                self.all.remove(&key);
            }
        }
        self.round += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held<const MOST: usize>(kept: &Kept<u32, u32, MOST>) -> Vec<u32> {
        let mut all: Vec<u32> = kept.all.keys().copied().collect();
        all.sort();
        all
    }

    #[test]
    fn what_was_used_in_the_oldest_round_is_forgotten() {
        let mut kept = Kept::<_, _, 4>::default();
        for key in 0..10 {
            kept.insert(key, key);
            assert_eq!(kept.get(&0), Some(&0));
            kept.end_round();
        }
        assert_eq!(held(&kept), [0, 7, 8, 9]);
    }

    #[test]
    fn a_round_that_uses_more_keeps_them_until_the_next() {
        let mut kept = Kept::<_, _, 2>::default();
        (0..5).for_each(|key| kept.insert(key, key));
        kept.end_round();
        assert_eq!(held(&kept), [0, 1, 2, 3, 4]);
        kept.insert(5, 5);
        kept.end_round();
        assert_eq!(held(&kept).len(), 2);
        assert_eq!(kept.get(&5), Some(&5));
    }
}
