//! Counter-based random numbers: Philox 4x32-10 (Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
//! 1, 2, 3", SC 2011). The same words come out of `shaders/pointwise/philox.wgsl`, so a draw does not depend on the device.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::dtype::{DType, half_of};

/// Four random words for `counter` under `key`.
pub fn philox4x32(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for round in 0..10 {
        if round > 0 {
            key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
        }
        let a = u64::from(counter[0]) * 0xD251_1F53;
        let b = u64::from(counter[2]) * 0xCD9E_8D57;
        counter = [(b >> 32) as u32 ^ counter[1] ^ key[0], b as u32, (a >> 32) as u32 ^ counter[3] ^ key[1], a as u32];
    }
    counter
}

/// Word `element` of draw number `draw` under `seed`: what element `element` of a device-side random tensor gets.
///
/// Counter word 1 is 1 here and the (high) block number of [`Philox`] there, so the two never share a counter.
pub fn word(seed: u64, draw: u64, element: u32) -> u32 {
    let counter = [element / 4, 1, draw as u32, (draw >> 32) as u32];
    philox4x32(counter, [seed as u32, (seed >> 32) as u32])[element as usize % 4]
}

/// A stream of random numbers for host-side draws (initial values, shuffling).
#[derive(Debug, Clone)]
pub struct Philox {
    key: [u32; 2],
    stream: [u32; 2],
    block: u64,
    words: [u32; 4],
    used: usize,
}

impl Philox {
    /// The stream `stream` of `seed`; streams of one seed are independent.
    pub fn new(seed: u64, stream: u64) -> Self {
        Philox {
            key: [seed as u32, (seed >> 32) as u32],
            stream: [stream as u32, (stream >> 32) as u32],
            block: 0,
            words: [0; 4],
            used: 4,
        }
    }

    /// The next 32-bit word.
    pub fn next_u32(&mut self) -> u32 {
        if self.used == 4 {
            let counter = [self.block as u32, (self.block >> 32) as u32, self.stream[0], self.stream[1]];
            self.words = philox4x32(counter, self.key);
            self.block += 1;
            self.used = 0;
        }
        self.used += 1;
        self.words[self.used - 1]
    }

    /// Uniform in [0, 1), a multiple of 2^-53.
    pub fn uniform(&mut self) -> f64 {
        let high = u64::from(self.next_u32() >> 5);
        let low = u64::from(self.next_u32() >> 6);
        ((high << 26) | low) as f64 / (1u64 << 53) as f64
    }

    /// Standard normal (Box and Muller 1958).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Uniform in `0..bound` without bias (Lemire 2019: reject the short remainder); 0 for a bound of 0.
    pub fn below(&mut self, bound: u32) -> u32 {
        let bound = bound.max(1);
        let threshold = bound.wrapping_neg() % bound;
        loop {
            let product = u64::from(self.next_u32()) * u64::from(bound);
            if product as u32 >= threshold {
                return (product >> 32) as u32;
            }
        }
    }
}

/// `value`, drawn uniformly from `[low, high)`, kept below `high` when it is rounded to `dtype`: the last number there
/// before it, or `low` if there is none. Bounds count as the dtype rounds them.
pub(crate) fn below(value: f64, [low, high]: [f64; 2], dtype: DType) -> f64 {
    let round = |x: f64| if dtype == DType::F16 { half_of(x).to_f64() } else { f64::from(x as f32) };
    let (least, limit) = (round(low), round(high));
    if round(value) < limit {
        return value;
    }
    // The next number toward minus infinity, by its bits: one step of magnitude, from zero to the least negative one.
    let down = |bits: u32, sign: u32| {
        if bits & !sign == 0 {
            sign | 1
        } else if bits & sign == 0 {
            bits - 1
        } else {
            bits + 1
        }
    };
    let before = match dtype {
        DType::F16 => half::f16::from_bits(down(u32::from(half_of(high).to_bits()), 1 << 15) as u16).to_f64(),
        _ => f64::from(f32::from_bits(down((high as f32).to_bits(), 1 << 31))),
    };
    before.max(least)
}

/// The counter of device-side draws of one seed: each draw takes the next number when it is recorded.
#[derive(Debug, Clone)]
pub struct Draws {
    seed: Arc<AtomicU64>,
    next: Arc<AtomicU64>,
    /// What is added to the numbers that are taken: those of the micro-batches of other ranks lie before.
    ahead: Arc<AtomicU64>,
}

/// Numbers of draws that a micro-batch has, where draws are numbered by micro-batch.
const A_MICRO_BATCH: u64 = 1 << 20;

impl Draws {
    /// Draws of `seed`, from number 0.
    pub fn new(seed: u64) -> Self {
        Draws { seed: Arc::new(AtomicU64::new(seed)), next: Arc::default(), ahead: Arc::default() }
    }

    /// The seed and the number of the next draw.
    pub fn position(&self) -> (u64, u64) {
        (self.seed.load(Ordering::Relaxed), self.next.load(Ordering::Relaxed))
    }

    /// Continues at a [`Draws::position`].
    pub fn seek(&self, (seed, next): (u64, u64)) {
        self.seed.store(seed, Ordering::Relaxed);
        self.next.store(next, Ordering::Relaxed);
    }

    /// Takes a number: the seed and the draw.
    pub(crate) fn take(&self) -> (u64, u64) {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        (self.seed.load(Ordering::Relaxed), next.wrapping_add(self.ahead.load(Ordering::Relaxed)))
    }

    /// Draws from here on as the rank with this number, of several that share each step: position and seeking stay the same
    /// on all of them.
    pub(crate) fn set_rank(&self, rank: usize) {
        self.ahead.store((rank as u64).wrapping_mul(A_MICRO_BATCH), Ordering::Relaxed);
    }

    /// The number of the micro-batch that is drawn for.
    pub(crate) fn micro_batch(&self) -> u64 {
        self.next.load(Ordering::Relaxed) / A_MICRO_BATCH
    }

    /// Goes on with the first draw of a micro-batch.
    pub(crate) fn begin_micro_batch(&self, number: u64) {
        self.next.store(number.wrapping_mul(A_MICRO_BATCH), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers_of_the_paper_s_library() {
        assert_eq!(philox4x32([0; 4], [0; 2]), [0x6627_E8D5, 0xE169_C58D, 0xBC57_AC4C, 0x9B00_DBD8]);
        assert_eq!(philox4x32([u32::MAX; 4], [u32::MAX; 2]), [0x408F_276D, 0x41C8_3B0E, 0xA20B_C7C6, 0x6D54_51FD]);
        assert_eq!(
            philox4x32([0x243F_6A88, 0x85A3_08D3, 0x1319_8A2E, 0x0370_7344], [0xA409_3822, 0x299F_31D0]),
            [0xD16C_FE09, 0x94FD_CCEB, 0x5001_E420, 0x2412_6EA1]
        );
    }

    #[test]
    fn uniforms_have_the_mean_and_variance_of_uniforms() {
        let mut rng = Philox::new(7, 0);
        let draws: Vec<f64> = (0..100_000).map(|_| rng.uniform()).collect();
        let mean = draws.iter().sum::<f64>() / 1e5;
        let variance = draws.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e5;
        assert!((mean - 0.5).abs() < 5e-3 && (variance - 1.0 / 12.0).abs() < 2e-3, "{mean} {variance}");
    }
}
