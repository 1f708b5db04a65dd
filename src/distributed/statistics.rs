//! Statistics of a batch that is spread over ranks: each says what it has of it, and all form the same sums in their order.
//!
//! A rank without a part of the batch says so as often as it takes until none has one.

use std::sync::Arc;

use super::communicator::Kind;
use super::world::World;
use crate::error::{Error, Result};

/// What is joined: a word of the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joined {
    Statistics = 1,
    Sums = 2,
}

/// Words before the numbers: what they are, channels, elements a channel.
const WORDS: usize = 3;

/// Mean and variance of the channels of a batch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Moments {
    /// Elements a channel.
    pub count: f64,
    /// Of each channel.
    pub mean: Vec<f64>,
    /// Of each channel, biased.
    pub variance: Vec<f64>,
}

impl World {
    /// The moments of the whole batch, of which this rank has a part with these. The same bits on all ranks.
    ///
    /// # Errors
    /// As [`World::barrier`]; [`Error::Rank`] for a rank that is at another layer.
    pub(crate) fn join_moments(&self, own: &Moments) -> Result<Moments> {
        let channels = own.mean.len();
        let parts = self.join(Joined::Statistics, own.count, channels, &[&own.mean[..], &own.variance].concat())?;
        let count: f64 = parts.iter().map(|(count, _)| count).sum();
        let mut whole = Moments { count, mean: vec![0.0; channels], variance: vec![0.0; channels] };
        for (of, numbers) in &parts {
            whole.mean.iter_mut().zip(numbers).for_each(|(mean, own)| *mean += own * of / count);
        }
        for (of, numbers) in &parts {
            let (means, variances) = numbers.split_at(channels);
            for (c, (mean, variance)) in means.iter().zip(variances).enumerate() {
                whole.variance[c] += (variance + (mean - whole.mean[c]).powi(2)) * of / count;
            }
        }
        Ok(whole)
    }

    /// The elements a channel of the whole batch, and these sums over it, of which this rank has a part.
    ///
    /// # Errors
    /// As [`World::join_moments`].
    pub(crate) fn join_sums(&self, count: f64, channels: usize, own: &[f64]) -> Result<(f64, Vec<f64>)> {
        let parts = self.join(Joined::Sums, count, channels, own)?;
        let mut sums = vec![0.0; own.len()];
        for (_, numbers) in &parts {
            sums.iter_mut().zip(numbers).for_each(|(sum, own)| *sum += own);
        }
        Ok((parts.iter().map(|(count, _)| count).sum(), sums))
    }

    /// Waits until no rank has a part of a batch any more, with which others join theirs.
    ///
    /// # Errors
    /// As [`World::barrier`].
    pub(crate) fn end_joining(&self) -> Result<()> {
        while self.joins() && !self.is_alone() {
            let all = self.exchange(Kind::Statistics, vec![])?;
            if all.iter().all(Vec::is_empty) {
                break;
            }
        }
        Ok(())
    }

    /// What the ranks have that have a part: its elements a channel and its numbers, as many as this rank's.
    fn join(&self, what: Joined, count: f64, channels: usize, numbers: &[f64]) -> Result<Vec<(f64, Vec<f64>)>> {
        let words = [what as u64, channels as u64, count.to_bits()];
        let own: Vec<u64> = words.into_iter().chain(numbers.iter().map(|x| x.to_bits())).collect();
        let own = Arc::new(own.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>());
        let mut all = self.exchange(Kind::Statistics, vec![own.clone(); self.size()])?;
        if let Some(place) = all.get_mut(self.rank()) {
            *place = Arc::unwrap_or_clone(own);
        }
        let mut parts = vec![];
        for (rank, bytes) in all.iter().enumerate().filter(|(_, bytes)| !bytes.is_empty()) {
            let theirs: Vec<u64> = bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).map(u64::from_le).collect();
            let is_same = theirs.get(..2) == Some(&words[..2]) && theirs.len() == WORDS + numbers.len();
            if !is_same {
                let what = format!("it is not at the same layer with batch statistics as rank {}", self.rank());
                let next = "let all ranks run the same layers in the same order";
                return Err(self.breaks(Error::Rank { rank, what, next }));
            }
            let mut theirs = theirs.into_iter().skip(WORDS - 1).map(f64::from_bits);
            parts.push((theirs.next().unwrap_or(0.0), theirs.collect()));
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::super::threads::on_ranks;
    use super::*;

    fn moments(values: &[f64]) -> Moments {
        let count = values.len() as f64;
        let mean = values.iter().sum::<f64>() / count;
        let variance = values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / count;
        Moments { count, mean: vec![mean], variance: vec![variance] }
    }

    #[test]
    fn moments_of_parts_are_those_of_the_whole_also_where_a_rank_has_none() {
        let parts = [&[1.0, 2.0, 4.0][..], &[], &[-7.0, 100.0]];
        let whole = moments(&parts.concat());
        let joined = on_ranks(3, |world| {
            world.set_joins();
            let own = parts[world.rank()];
            let joined = (!own.is_empty()).then(|| world.join_moments(&moments(own)).unwrap());
            let sums = (!own.is_empty()).then(|| world.join_sums(own.len() as f64, 1, &own[..1]).unwrap());
            world.end_joining().unwrap();
            (joined, sums)
        });
        assert_eq!(joined[0], joined[2]);
        assert_eq!(joined[1], (None, None));
        let (joined, sums) = joined[0].clone();
        let joined = joined.unwrap();
        assert_eq!(joined.count, 5.0);
        assert!((joined.mean[0] - whole.mean[0]).abs() < 1e-12, "{joined:?} {whole:?}");
        assert!((joined.variance[0] - whole.variance[0]).abs() < 1e-9, "{joined:?} {whole:?}");
        assert_eq!(sums, Some((5.0, vec![-6.0])));
    }

    #[test]
    fn ranks_at_other_layers_are_told_apart() {
        let errors = on_ranks(2, |world| world.join_sums(1.0, 1 + world.rank(), &[0.0]).unwrap_err().to_string());
        assert!(errors[0].starts_with("rank 1: it is not at the same layer"), "{errors:?}");
        assert!(errors[1].starts_with("rank 0: it is not at the same layer"), "{errors:?}");
    }
}
