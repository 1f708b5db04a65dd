//! Element types.

use std::fmt;

/// The type of a tensor's elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float: the type of arithmetic.
    F32,
    /// 16-bit float: storage and casts; arithmetic on it is done in `F32` and rounded once.
    F16,
    /// 32-bit signed integer.
    I32,
    /// 32-bit unsigned integer.
    U32,
    /// Truth value (one 32-bit word on a GPU).
    Bool,
}

impl DType {
    /// True for `F32` and `F16`.
    pub fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::F16)
    }

    /// Rounds `value` to the nearest value of this type as a cast does: floats to nearest even, integers toward zero
    /// with saturation (NaN to 0), booleans to "not zero". `F32` keeps all f64 bits: the reference computes in f64.
    pub fn round(self, value: f64) -> f64 {
        match self {
            DType::F32 => value,
            DType::F16 => half::f16::from_f32(value as f32).to_f64(),
            DType::I32 => f64::from(value as i32),
            DType::U32 => f64::from(value as u32),
            DType::Bool => f64::from(u8::from(value != 0.0)),
        }
    }

    /// The rule for every host number that stands beside a tensor: what a tensor of this type makes of `number`, the same
    /// on every device.
    ///
    /// Floats round it once, to nearest even, so that `x.eq(0.1)` holds where x is 0.1 rounded to its dtype. Integers and
    /// booleans take a number that is one of theirs; `None` for any other (a fraction, out of range, NaN).
    pub fn hold(self, number: f64) -> Option<f64> {
        let exact = |held: f64| (held == number).then_some(held);
        match self {
            DType::F32 => Some(f64::from(number as f32)),
            DType::F16 => Some(half_of(number).to_f64()),
            DType::I32 => exact(f64::from(number as i32)),
            DType::U32 => exact(f64::from(number as u32)),
            DType::Bool => exact(f64::from(u8::from(number != 0.0))),
        }
    }

    /// The whole number `value` in the 32 bits of an integer type: it wraps, as WGSL's arithmetic does. Every reference of
    /// integer arithmetic ends here, computed in wrapping `i64`s, which agree with it modulo 2^32.
    pub fn wrap(self, value: i64) -> f64 {
        match self {
            DType::I32 => f64::from(value as i32),
            DType::U32 => f64::from(value as u32),
            DType::F32 | DType::F16 | DType::Bool => self.round(value as f64),
        }
    }

    /// True for `I32` and `U32`.
    pub fn is_integer(self) -> bool {
        matches!(self, DType::I32 | DType::U32)
    }
}

/// `number` rounded once to half precision. The step by way of f32 rounds to odd: the last bit keeps what is cut off, so
/// that the second rounding sees on which side of a tie the number lies.
pub(crate) fn half_of(number: f64) -> half::f16 {
    let near = number as f32;
    if f64::from(near) == number || !near.is_finite() {
        return half::f16::from_f32(near);
    }
    let is_beyond = f64::from(near).abs() > number.abs();
    let cut = near.to_bits() - u32::from(is_beyond);
    half::f16::from_f32(f32::from_bits(cut | 1))
}

/// In which precision a model computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Precision {
    /// As written: f32 unless a program casts.
    #[default]
    Full,
    /// As `torch.autocast` to f16 has it (Micikevicius et al. 2018, "Mixed precision training"): matrix products and
    /// convolutions read f16, sum in f32 and give f16; what follows them elementwise, pooling included, stays f16;
    /// exponentials, logarithms, softmax, norms, sums and losses are f32; where f16 meets f32 the result is f32.
    /// Parameters, their gradients and optimizer state stay f32.
    Mixed,
}

/// `full` or `mixed`, as command lines have it.
impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if *self == Precision::Full { "full" } else { "mixed" })
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DType::F32 => "f32",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::Bool => "bool",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_precision_is_rounded_to_once() {
        // Just above the middle between 1 and 1 + 2^-10: f32 falls on the middle itself, and would go to the even 1.
        let above = 1.0 + 2f64.powi(-11) + 2f64.powi(-40);
        let next = 1.0 + 2f64.powi(-10);
        assert_eq!(half::f16::from_f32(above as f32).to_f64(), 1.0);
        assert_eq!(DType::F16.hold(above), Some(next));
        assert_eq!(DType::F16.hold(-above), Some(-next));
        assert_eq!(DType::F16.hold(1.0 + 2f64.powi(-11) - 2f64.powi(-40)), Some(1.0));
        assert_eq!(DType::F16.hold(65_519.999_999_999), Some(65_504.0));
        assert_eq!(DType::F16.hold(65_520.0), Some(f64::INFINITY));
        assert_eq!(DType::F16.hold(-1e-300), Some(0.0));
        assert!(DType::F16.hold(f64::NAN).is_some_and(f64::is_nan));
        for bits in 0..0x7c00 {
            let value = half::f16::from_bits(bits);
            assert_eq!(DType::F16.hold(value.to_f64()), Some(value.to_f64()));
        }
    }

    #[test]
    fn integers_hold_their_own_numbers_alone() {
        for (dtype, least, most) in
            [(DType::I32, -2_147_483_648.0, 2_147_483_647.0), (DType::U32, 0.0, 4_294_967_295.0)]
        {
            for held in [least, most, -0.0, 7.0] {
                assert_eq!(dtype.hold(held), Some(held));
            }
            for refused in [least - 1.0, most + 1.0, 0.5, f64::NAN, f64::INFINITY, -1e300] {
                assert_eq!(dtype.hold(refused), None, "{dtype} {refused}");
            }
        }
        assert_eq!([0.0, 1.0, 0.5, 2.0].map(|x| DType::Bool.hold(x)), [Some(0.0), Some(1.0), None, None]);
    }
}
