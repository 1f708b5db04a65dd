//! Numbers as files hold them: an element type and little-endian bytes.
//!
//! They are decoded and encoded in pieces, so that a file of any size needs no second copy of itself.

use safetensors::Dtype;

use crate::dtype::DType;
use crate::host::HostData;

/// Elements that are decoded at a time.
const PIECE: usize = 4096;

/// Numbers in a file's bytes.
#[doc(hidden)]
#[derive(Debug, Clone, Copy)]
pub struct Packed<'a> {
    dtype: Dtype,
    /// A whole number of elements.
    bytes: &'a [u8],
}

/// What numbers must be, besides fitting their element type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Demand {
    /// Weights and first moments.
    Finite,
    /// Sums of squares.
    FiniteNotNegative,
    /// State of a program's own: a running minimum starts at infinity.
    NotNan,
}

impl<'a> Packed<'a> {
    pub(crate) fn new(dtype: Dtype, bytes: &'a [u8]) -> Packed<'a> {
        Packed { dtype, bytes }
    }

    pub(crate) fn of(values: &'a [f64]) -> Packed<'a> {
        Packed { dtype: Dtype::F64, bytes: bytemuck::cast_slice(values) }
    }

    /// Number of elements.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() * 8 / self.dtype.bitsize()
    }

    /// All elements; zeros for an element type that [`Packed::check`] does not let pass.
    #[doc(hidden)]
    pub fn to_vec(self) -> Vec<f64> {
        let mut all = Vec::with_capacity(self.len());
        self.pieces(|piece| all.extend_from_slice(piece));
        all
    }

    /// Hands the elements on in order, some at a time. All that a tensor can hold is exact in f64.
    pub(crate) fn pieces(&self, mut take: impl FnMut(&[f64])) {
        let mut piece = Vec::with_capacity(PIECE);
        for bytes in self.bytes.chunks(PIECE * self.dtype.bitsize() / 8) {
            piece.clear();
            match self.dtype {
                Dtype::F64 => decode(bytes, &mut piece, f64::from_le_bytes),
                Dtype::F32 => decode(bytes, &mut piece, |word| f64::from(f32::from_le_bytes(word))),
                Dtype::F16 => decode(bytes, &mut piece, |word| half::f16::from_le_bytes(word).to_f64()),
                Dtype::BF16 => decode(bytes, &mut piece, |word| half::bf16::from_le_bytes(word).to_f64()),
                // Those that round are far outside of what a tensor's 32 bits hold, and stay there.
                Dtype::I64 => decode(bytes, &mut piece, |word| i64::from_le_bytes(word) as f64),
                Dtype::U64 => decode(bytes, &mut piece, |word| u64::from_le_bytes(word) as f64),
                Dtype::I32 => decode(bytes, &mut piece, |word| f64::from(i32::from_le_bytes(word))),
                Dtype::U32 => decode(bytes, &mut piece, |word| f64::from(u32::from_le_bytes(word))),
                Dtype::I16 => decode(bytes, &mut piece, |word| f64::from(i16::from_le_bytes(word))),
                Dtype::U16 => decode(bytes, &mut piece, |word| f64::from(u16::from_le_bytes(word))),
                Dtype::I8 => decode(bytes, &mut piece, |word| f64::from(i8::from_le_bytes(word))),
                Dtype::U8 | Dtype::BOOL => decode(bytes, &mut piece, |word| f64::from(u8::from_le_bytes(word))),
                _ => piece.resize(bytes.len() * 8 / self.dtype.bitsize(), 0.0),
            }
            take(&piece);
        }
    }

    /// `Err` with what is wrong unless a tensor of `dtype` can be made of this element type. Integers may come from a float
    /// type, as checkpoints once held them.
    pub(crate) fn suits(&self, dtype: DType) -> Result<(), String> {
        let is_float = matches!(self.dtype, Dtype::F64 | Dtype::F32 | Dtype::F16 | Dtype::BF16);
        let is_integer = matches!(
            self.dtype,
            Dtype::I64 | Dtype::U64 | Dtype::I32 | Dtype::U32 | Dtype::I16 | Dtype::U16 | Dtype::I8 | Dtype::U8
        ) || self.dtype == Dtype::BOOL;
        match is_float || (is_integer && !dtype.is_float()) {
            true => Ok(()),
            false => Err(format!("holds {}, the model's is {dtype}", self.dtype)),
        }
    }

    /// `Err` with what is wrong unless these numbers can stand for a tensor of `dtype` that meets `demand`; `exact` where
    /// floats keep their f64 bits. Elements are counted from `first`.
    pub(crate) fn check(&self, dtype: DType, exact: bool, demand: Demand, first: usize) -> Result<(), String> {
        self.suits(dtype)?;
        let fits = |value: f64| match dtype {
            DType::F32 if exact => true,
            DType::F32 => (value as f32).is_finite() || !value.is_finite(),
            DType::F16 => half::f16::from_f32(value as f32).is_finite() || !value.is_finite(),
            DType::I32 => f64::from(value as i32) == value,
            DType::U32 => f64::from(value as u32) == value,
            DType::Bool => value == 0.0 || value == 1.0,
        };
        let meets = |value: f64| match demand {
            Demand::Finite => value.is_finite(),
            Demand::FiniteNotNegative => value.is_finite() && value >= 0.0,
            Demand::NotNan => !value.is_nan(),
        };
        let (mut first, mut wrong) = (first, None);
        self.pieces(|piece| {
            // A whole piece at once: there is hardly ever anything to find.
            if wrong.is_none() && !piece.iter().fold(true, |sound, &value| sound & meets(value) & fits(value)) {
                let at = piece.iter().position(|&value| !(meets(value) && fits(value)));
                wrong = at.map(|at| (first + at, piece[at]));
            }
            first += piece.len();
        });
        match wrong {
            None => Ok(()),
            Some((at, value)) if meets(value) => Err(format!("is {value} at element {at}, which {dtype} cannot hold")),
            Some((at, value)) => Err(format!("is {value} at element {at}")),
        }
    }
}

fn decode<const N: usize>(bytes: &[u8], out: &mut Vec<f64>, number: impl Fn([u8; N]) -> f64) {
    out.extend(bytes.as_chunks().0.iter().map(|word| number(*word)));
}

/// The element type in files of a tensor of `dtype`; `exact` where floats keep their f64 bits.
pub(crate) fn file_dtype(dtype: DType, exact: bool) -> Dtype {
    match dtype {
        DType::F32 if exact => Dtype::F64,
        DType::F32 => Dtype::F32,
        DType::F16 => Dtype::F16,
        DType::I32 => Dtype::I32,
        DType::U32 => Dtype::U32,
        DType::Bool => Dtype::BOOL,
    }
}

/// `data`, of a tensor whose element type in files is `dtype`, as a file holds it.
pub(crate) fn encode(data: &HostData, dtype: Dtype) -> Vec<u8> {
    match (data, dtype) {
        (HostData::F64(values), Dtype::F64) => bytemuck::cast_slice(values).to_vec(),
        (HostData::F32(values), Dtype::F32) => bytemuck::cast_slice(values).to_vec(),
        (HostData::F16(values), Dtype::F16) => bytemuck::cast_slice(values).to_vec(),
        (HostData::I32(values), Dtype::I32) => bytemuck::cast_slice(values).to_vec(),
        (HostData::U32(values), Dtype::U32) => bytemuck::cast_slice(values).to_vec(),
        (HostData::U32(values), Dtype::BOOL) => values.iter().map(|&value| u8::from(value != 0)).collect(),
        (data, _) => {
            let values = (0..data.len()).map(|i| data.get(i));
            match dtype {
                Dtype::F64 => values.flat_map(f64::to_le_bytes).collect(),
                Dtype::F16 => values.flat_map(|value| half::f16::from_f32(value as f32).to_le_bytes()).collect(),
                Dtype::I32 => values.flat_map(|value| (value as i32).to_le_bytes()).collect(),
                Dtype::U32 => values.flat_map(|value| (value as u32).to_le_bytes()).collect(),
                Dtype::BOOL => values.map(|value| u8::from(value != 0.0)).collect(),
                _ => values.flat_map(|value| (value as f32).to_le_bytes()).collect(),
            }
        }
    }
}
