//! Numbers and choices drawn on the device.

use std::panic::Location;

use super::{Normals, random_bits};
use crate::device::Device;
use crate::dtype::DType;
use crate::error::Problem;
use crate::rng::Draws;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// What is wrong with a shape.
fn too_large(shape: &[usize]) -> Problem {
    Problem::Shape(format!("shape {shape:?} is too large"), "use at most 8 axes and 2^32 - 1 elements")
}

impl Device {
    /// The next draw as words of 32 bits, or an invalid tensor.
    #[track_caller]
    fn words(&self, op: &'static str, shape: &[usize], draws: &Draws) -> Tensor {
        match Shape::new(shape) {
            Some(shape) => random_bits(self, shape, draws),
            None => Tensor::invalid(self, too_large(shape).at(op, Location::caller()), Location::caller()),
        }
    }

    /// Uniform in `[0, 1)`, f32, multiples of 2^-24, drawn on the device, as `torch.rand`: the same bits on every device.
    /// [`Device::uniform`] draws on the host.
    ///
    /// # Errors
    /// The result carries [`crate::Error::Shape`] for a shape that is too large.
    #[track_caller]
    pub fn rand(&self, shape: &[usize], draws: &Draws) -> Tensor {
        share(&self.words("rand", shape, draws))
    }

    /// Standard normal, f32, drawn on the device, as `torch.randn`: the same words on every device, and numbers within rounding.
    /// None is beyond 5.8. [`Device::normal`] draws on the host.
    ///
    /// # Errors
    /// As [`Device::rand`].
    #[track_caller]
    pub fn randn(&self, shape: &[usize], draws: &Draws) -> Tensor {
        let words = [0, 1].map(|_| self.words("randn", shape, draws));
        Tensor::apply(Normals, &[&words[0], &words[1]])
    }

    /// Whole numbers from `low` to below `high`, i32, drawn on the device, as `torch.randint`: the same on every device. No number's
    /// share differs from the others' by more than 2^-32.
    ///
    /// # Errors
    /// As [`Device::rand`], and [`crate::Error::Value`] if there is no number between.
    #[track_caller]
    pub fn randint(&self, shape: &[usize], low: i32, high: i32, draws: &Draws) -> Tensor {
        const OP: &str = "randint";
        if low >= high {
            let problem =
                Problem::Value(format!("from {low} to below {high} there is no number"), "pass the lower first");
            return Tensor::invalid(self, problem.at(OP, Location::caller()), Location::caller());
        }
        let words = self.words(OP, shape, draws);
        let span = high.wrapping_sub(low) as u32;
        // The upper 32 bits of word times span, from halves of 16 bits.
        let half = 65_536u32;
        let upper = words.over(half);
        let lower = words - upper.times(half);
        let [below, above] = [span % half, span / half];
        let middle = upper.times(below).plus(&lower.times(below).over(half));
        let cross = lower.times(above).plus(&(&middle - middle.over(half).times(half)));
        let number = upper.times(above).plus(&middle.over(half)).plus(&cross.over(half));
        // Not above i32's largest, which the cast would make of it, where the range is wider: from the middle of it.
        let shifted = number.ge(1u32 << 31);
        let whole = shifted.where_(&number.minus(1u32 << 31), &number.plus(0)).cast(DType::I32);
        let high_half = Tensor::operand(self, DType::I32, f64::from(i32::MIN), OP);
        let zero = Tensor::operand(self, DType::I32, 0.0, OP);
        whole.plus(&shifted.where_(&high_half, &zero)).plus(low)
    }

    /// The numbers from 0 to `n - 1` in random order, u32, drawn on the device, as `torch.randperm`: those of random words sorted, the
    /// same on every device.
    ///
    /// # Errors
    /// As [`Device::rand`].
    #[track_caller]
    pub fn randperm(&self, n: usize, draws: &Draws) -> Tensor {
        let words = self.words("randperm", &[n], draws);
        if words.error().is_some() { words } else { words.argsort(0, false) }
    }
}

impl Tensor {
    /// 1 with the probability that each element is, else 0; same shape and dtype, as `torch.bernoulli`. Probabilities are resolved to
    /// 2^-24; NaN gives 0. No gradient flows.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for integers and bools.
    #[track_caller]
    pub fn bernoulli(&self, draws: &Draws) -> Tensor {
        if self.error().is_some() {
            return self.clone();
        }
        let dtype = self.meta().dtype;
        if !dtype.is_float() {
            let what = format!("probabilities are floats, not {dtype}");
            return self.problem("bernoulli", Problem::DType(what));
        }
        self.device().rand(self.dims(), draws).lt(&self.widen().detach()).cast(dtype)
    }

    /// `count` numbers of a place on the last axis, each drawn with the probability that the elements there, not negative, have of
    /// their sum: `[.., count]`, u32, as `torch.multinomial`. Without `replacement` no place is drawn twice, and those of
    /// probability 0 last.
    ///
    /// # Errors
    /// The result carries [`crate::Error::DType`] for integers, [`crate::Error::Shape`] for a scalar, [`crate::Error::Value`] for a count
    /// of 0 and, without replacement, for more than there are places.
    #[track_caller]
    pub fn multinomial(&self, count: usize, replacement: bool, draws: &Draws) -> Tensor {
        const OP: &str = "multinomial";
        if self.error().is_some() {
            return self.clone();
        }
        let dims = *self.dims();
        if !self.meta().dtype.is_float() {
            let what = format!("probabilities are floats, not {}", self.meta().dtype);
            return self.problem(OP, Problem::DType(what));
        }
        let Some((&length, before)) = dims.split_last() else {
            return self.problem(OP, Problem::Shape("a scalar has no places".into(), "pass [.., places]"));
        };
        if count == 0 || !replacement && count > length {
            let what = format!("{count} of {length} places");
            return self.problem(OP, Problem::Value(what, "draw one or more, and no more than there are"));
        }
        let (share, axis) = (self.widen().detach(), before.len());
        if !replacement {
            // The first to come of those that come at these rates (Efraimidis and Spirakis 2006).
            let wait = -(self.device().rand(&dims, draws).negative().offset(1.0).log());
            return (wait / share).topk(count, axis, false).1;
        }
        let rows: usize = before.iter().product();
        let sums = share.cumsum(axis).reshape(&[rows, 1, length]);
        let total = sums.slice_fixed(2, length - 1, 1);
        let drawn = self.device().rand(&[rows, count, 1], draws) * &total;
        // Places whose sum is passed; the last that has a share is not, whatever rounding does.
        let passed = sums.le(&drawn).logical_and(&sums.lt(&total));
        let place = passed.cast(DType::U32).sum(&[2]);
        place.reshape(&[before, &[count]].concat())
    }
}

/// Uniform in `[0, 1)` of words: their upper 24 bits.
#[track_caller]
fn share(words: &Tensor) -> Tensor {
    if words.error().is_some() {
        return words.clone();
    }
    words.over(256u32).cast(DType::F32).scale(1.0 / 16_777_216.0)
}

#[cfg(test)]
mod tests {
    use crate::rng::Draws;
    use crate::{Device, Error};

    #[test]
    fn draws_have_the_moments_of_what_they_draw() {
        let (device, draws) = (Device::cpu(), Draws::new(3));
        let normal = device.randn(&[100_000], &draws).to_vec::<f32>().unwrap();
        let mean = normal.iter().map(|&x| f64::from(x)).sum::<f64>() / 1e5;
        let variance = normal.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / 1e5;
        assert!(mean.abs() < 0.02 && (variance - 1.0).abs() < 0.02, "{mean} {variance}");
        let whole = device.randint(&[10_000], -3, 4, &draws).to_vec::<i32>().unwrap();
        let counts = (-3..4).map(|k| whole.iter().filter(|&&x| x == k).count());
        assert!(counts.clone().sum::<usize>() == 10_000 && counts.clone().all(|n| n > 1200), "{counts:?}");
        let wide = device.randint(&[1000], i32::MIN, i32::MAX, &draws).to_vec::<i32>().unwrap();
        assert!(wide.iter().any(|&x| x < -1_000_000_000) && wide.iter().any(|&x| x > 1_000_000_000));
    }

    #[test]
    fn a_permutation_has_each_number_once_and_a_choice_no_place_twice() {
        let (device, draws) = (Device::cpu(), Draws::new(3));
        let mut numbers = device.randperm(1000, &draws).to_vec::<u32>().unwrap();
        assert_ne!(numbers[..10], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
        numbers.sort_unstable();
        assert!(numbers.iter().enumerate().all(|(i, &x)| i as u32 == x));
        let shares = device.tensor(&[0.0f32, 1.0, 2.0, 0.0, 1.0], &[5]);
        let mut places = shares.multinomial(3, false, &draws).to_vec::<u32>().unwrap();
        places.sort_unstable();
        assert_eq!(places, [1, 2, 4]);
        let often = shares.multinomial(10_000, true, &draws).to_vec::<u32>().unwrap();
        let count = |k: u32| often.iter().filter(|&&x| x == k).count() as i64;
        assert!(count(0) == 0 && count(3) == 0 && (count(2) - 5000).abs() < 300, "{:?}", [1, 2, 4].map(count));
    }

    #[test]
    fn what_cannot_be_drawn_is_refused() {
        let (device, draws) = (Device::cpu(), Draws::new(3));
        assert!(matches!(device.randint(&[2], 3, 3, &draws).error(), Some(Error::Value { .. })));
        assert!(matches!(device.rand(&[1 << 20, 1 << 20], &draws).error(), Some(Error::Shape { .. })));
        assert!(matches!(device.ones(&[3]).multinomial(4, false, &draws).error(), Some(Error::Value { .. })));
        assert!(matches!(device.arange(3, crate::DType::U32).bernoulli(&draws).error(), Some(Error::DType { .. })));
    }
}
