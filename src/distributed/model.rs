//! What a step of many ranks would take: a model of latency and bandwidth, fitted to what a few ranks measure.

use std::time::Duration;

use super::communicator::Kind;
use super::world::World;
use crate::clock::Instant;
use crate::error::Result;

/// Bytes of the exchanges that are measured.
const SMALL: usize = 64;
const LARGE: usize = 4 << 20;
/// How many of them, at least and at most: as many as 64 MiB are. The mean counts, as it does for steps: what is lost on the way
/// and sent again is part of it, and rare.
const ROUNDS: [usize; 2] = [15, 200];
const ALL: usize = 64 << 20;

/// What carries messages: how long the smallest takes, and how many bytes a second a rank sends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Network {
    /// Seconds from a rank to another.
    pub latency: f64,
    /// Bytes a second that a rank sends, and takes at the same time.
    pub bandwidth: f64,
}

impl Network {
    /// A link of so many gigabits a second, of which `share` is reached.
    pub fn link(gigabits: f64, share: f64, latency: f64) -> Network {
        Network { latency, bandwidth: gigabits * 1e9 / 8.0 * share }
    }

    /// Measures the network of these ranks by exchanges of 64 bytes and of 4 MiB with each other rank. All must call it.
    ///
    /// # Errors
    /// As [`World::barrier`].
    pub fn measure(world: &World) -> Result<Network> {
        Network::measure_at(world, LARGE)
    }

    /// [`Network::measure`] by exchanges of 64 bytes and of so many: what lossy networks make of a message is no line from its length to
    /// that of a long one.
    ///
    /// # Errors
    /// As [`World::barrier`].
    pub fn measure_at(world: &World, bytes: usize) -> Result<Network> {
        let large = bytes.max(2 * SMALL);
        let others = world.size().saturating_sub(1).max(1) as f64;
        let mut means = [0.0; 2];
        for (mean, bytes) in means.iter_mut().zip([SMALL, large]) {
            let rounds = (ALL / bytes).clamp(ROUNDS[0], ROUNDS[1]);
            let own = std::sync::Arc::new(vec![1u8; bytes]);
            // As in a step, each exchange begins when the one before has ended.
            world.barrier()?;
            let began = Instant::now();
            for _ in 0..rounds {
                world.exchange(Kind::Gather, vec![own.clone(); world.size()])?;
            }
            let seconds = began.elapsed().as_secs_f64() / rounds as f64;
            // That of the slowest rank: a step waits for it.
            let all = world.gather(&[seconds])?;
            *mean = all.into_iter().flatten().fold(0.0, f64::max);
        }
        let [short, long] = means;
        let bandwidth = others * (large - SMALL) as f64 / (long - short).max(1e-9);
        Ok(Network { latency: short / others, bandwidth })
    }
}

/// The time of a step: computing, then sending gradients and sums to all, one rank after the other.
///
/// step(N) = compute + host x 4 P + 2 (N - 1) latency + 8 P (N - 1) / N / bandwidth, with P parameters
///
/// It knows nothing of what networks do beyond that: other traffic, switches that take less than the sum of their links,
/// ranks that share a link, steps that wait for the slowest of many. So it is a bound from below for large N.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScalingModel {
    /// Seconds of a step on one rank.
    pub compute: f64,
    /// Parameters.
    pub parameters: f64,
    /// Seconds a byte of gradients takes to be read back, added and written.
    pub host: f64,
    /// What is between the ranks.
    pub network: Network,
}

impl ScalingModel {
    /// The time of a step of so many ranks.
    pub fn step(&self, ranks: usize) -> Duration {
        if ranks <= 1 {
            return seconds(self.compute);
        }
        let (ranks, bytes) = (ranks as f64, 4.0 * self.parameters);
        let Network { latency, bandwidth } = self.network;
        let messages = 2.0 * (ranks - 1.0) * latency;
        seconds(self.compute + self.host * bytes + messages + 2.0 * bytes * (ranks - 1.0) / ranks / bandwidth)
    }

    /// The share of the images a second that as many ranks would reach that need not wait for each other.
    pub fn efficiency(&self, ranks: usize) -> f64 {
        self.compute / self.step(ranks).as_secs_f64()
    }
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_computing_and_two_ways_of_the_gradients() {
        let network = Network::link(8.0, 0.5, 1e-3);
        let model = ScalingModel { compute: 0.1, parameters: 1e6, host: 1e-9, network };
        assert_eq!(model.step(1), Duration::from_millis(100));
        // 4 ms of the host, 6 ms of latency, 8 MB 3/4 at 500 MB/s.
        assert!((model.step(4).as_secs_f64() - (0.1 + 0.004 + 0.006 + 0.012)).abs() < 1e-9);
        assert!((model.efficiency(4) - 0.1 / 0.122).abs() < 1e-9);
    }

    #[test]
    fn threads_have_a_network_too() {
        let measured: Vec<_> = std::thread::scope(|scope| {
            let ranks: Vec<_> =
                World::threads(2).into_iter().map(|world| scope.spawn(move || Network::measure(&world))).collect();
            ranks.into_iter().map(|rank| rank.join().unwrap().unwrap()).collect()
        });
        assert_eq!(measured[0], measured[1]);
        assert!(measured[0].latency > 0.0 && measured[0].bandwidth > 1e6, "{measured:?}");
    }
}
