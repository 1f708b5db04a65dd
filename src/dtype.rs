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
