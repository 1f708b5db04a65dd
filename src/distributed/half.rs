//! Gradients as f16 on the wire: half the bytes, and what rounding takes away is added to the next ones (error feedback; Seide
//! et al. 2014, "1-bit stochastic gradient descent and its application to data-parallel distributed training of speech DNNs").
//!
//! A range has one power of two, by which its largest number nearly fills the range of f16.

use half::f16;

use super::sum::Number;

/// The exponent that the largest number of a range gets.
const TOP: i32 = 14;

/// Bytes of so many numbers.
pub(super) fn bytes(numbers: usize) -> usize {
    4 + 2 * numbers
}

/// Packs numbers with what is left of earlier ones, and leaves there what is lost of these.
pub(super) fn pack<T: Number>(values: &[T], left: &mut [T], out: &mut Vec<u8>) {
    let wanted = |value: &T, left: &T| value.to_f64() + left.to_f64();
    let most = values.iter().zip(&*left).map(|(value, left)| wanted(value, left).abs()).fold(0.0, f64::max);
    let exponent = if most > 0.0 && most.is_finite() { TOP - most.log2().floor() as i32 } else { 0 };
    let scale = 2f64.powi(exponent);
    out.extend(exponent.to_le_bytes());
    for (value, left) in values.iter().zip(left) {
        let wanted = wanted(value, left);
        let sent = f16::from_f64(wanted * scale);
        let lost = wanted - sent.to_f64() / scale;
        // What is not finite refuses the step, and is not carried on.
        *left = T::of_f64(if lost.is_finite() { lost } else { 0.0 });
        out.extend(sent.to_le_bytes());
    }
}

/// The numbers of [`pack`].
pub(super) fn unpack<T: Number>(bytes: &[u8]) -> impl Iterator<Item = T> {
    let (exponent, rest) = bytes.split_first_chunk().unwrap_or((&[0; 4], &[]));
    let scale = 2f64.powi(-i32::from_le_bytes(*exponent));
    rest.chunks_exact(2).map(move |pair| {
        let bits = pair.try_into().map(u16::from_le_bytes).unwrap_or(0);
        T::of_f64(f16::from_bits(bits).to_f64() * scale)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(values: &[f32], left: &mut [f32]) -> Vec<f32> {
        let mut out = vec![];
        pack(values, left, &mut out);
        assert_eq!(out.len(), bytes(values.len()));
        unpack(&out).collect()
    }

    #[test]
    fn what_rounding_takes_comes_later() {
        for size in [1e-30f32, 1.0, 3e7] {
            let values = [size, -0.1 * size, 1.234_567e-5 * size, 0.0];
            let (mut left, mut sum) = ([0.0; 4], [0.0f64; 4]);
            for _ in 0..1000 {
                sent(&values, &mut left).iter().zip(&mut sum).for_each(|(x, sum)| *sum += f64::from(*x));
            }
            for (value, sum) in values.iter().zip(sum) {
                let mean = sum / 1000.0;
                assert!((mean - f64::from(*value)).abs() <= 1e-6 * f64::from(size), "{value} {mean}");
            }
        }
    }

    #[test]
    fn what_is_not_finite_arrives_so_and_is_forgotten() {
        let mut left = [0.0; 2];
        assert!(sent(&[f32::NAN, 1.0], &mut left)[0].is_nan());
        assert!(!sent(&[f32::INFINITY, 1.0], &mut left)[0].is_finite());
        assert_eq!(sent(&[1.0, 1.0], &mut left)[0], 1.0);
    }
}
