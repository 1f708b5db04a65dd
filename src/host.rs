//! Numbers on the host: what is uploaded and read, and the element types of both.

use crate::dtype::DType;

/// Host data of an upload.
#[derive(Debug, Clone)]
#[allow(missing_docs)]
pub enum HostData {
    F64(Vec<f64>),
    F32(Vec<f32>),
    F16(Vec<half::f16>),
    I32(Vec<i32>),
    U32(Vec<u32>),
}

impl HostData {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            HostData::F64(v) => v.len(),
            HostData::F32(v) => v.len(),
            HostData::F16(v) => v.len(),
            HostData::I32(v) => v.len(),
            HostData::U32(v) => v.len(),
        }
    }

    /// True if there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Element `i` as f64.
    pub fn get(&self, i: usize) -> f64 {
        match self {
            HostData::F64(v) => v[i],
            HostData::F32(v) => f64::from(v[i]),
            HostData::F16(v) => v[i].to_f64(),
            HostData::I32(v) => f64::from(v[i]),
            HostData::U32(v) => f64::from(v[i]),
        }
    }

    /// All elements as f64.
    pub fn to_f64(&self) -> Vec<f64> {
        (0..self.len()).map(|i| self.get(i)).collect()
    }
}

/// An element type that tensors are made of and read into.
///
/// Each has a dtype, which holds its numbers: floats are rounded once (f64 to f32), whole numbers of other widths are i32 or u32 if they
/// fit, else refused.
pub trait Element: Copy + Send + Sync + 'static {
    /// The dtype of a tensor made of such elements.
    const DTYPE: DType;
    /// What elements of this type are called.
    const NAME: &'static str;
    /// From the f64 that the reference holds.
    fn from_f64(value: f64) -> Self;
    /// As an f64; exact for all that a dtype holds.
    fn to_f64(self) -> f64;
    /// True for the dtypes that are read as such elements.
    fn reads(dtype: DType) -> bool {
        dtype == Self::DTYPE
    }

    /// Packs elements for an upload.
    ///
    /// # Errors
    /// The place of the first element that the dtype does not hold.
    fn pack(data: &[Self]) -> Result<HostData, usize> {
        let held = data.iter().map(|x| Self::DTYPE.hold(x.to_f64()));
        let held: Vec<f64> = held.enumerate().map(|(i, x)| x.ok_or(i)).collect::<Result<_, usize>>()?;
        Ok(match Self::DTYPE {
            DType::F32 => HostData::F32(held.into_iter().map(|x| x as f32).collect()),
            DType::F16 => HostData::F16(held.into_iter().map(half::f16::from_f64).collect()),
            DType::I32 => HostData::I32(held.into_iter().map(|x| x as i32).collect()),
            DType::U32 | DType::Bool => HostData::U32(held.into_iter().map(|x| x as u32).collect()),
        })
    }

    /// Unpacks what a device gave back.
    ///
    /// # Errors
    /// The place of the first element that this type does not hold.
    fn unpack(data: &HostData) -> Result<Vec<Self>, usize> {
        let read = |i: usize| {
            let (value, element) = (data.get(i), Self::from_f64(data.get(i)));
            let is_held = element.to_f64() == value || value.is_nan() && element.to_f64().is_nan();
            if is_held { Ok(element) } else { Err(i) }
        };
        (0..data.len()).map(read).collect()
    }
}

/// The types of the dtypes themselves: what is read is there as it is.
macro_rules! element {
    ($type:ty, $dtype:ident, $from:expr, $to:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const NAME: &'static str = stringify!($type);
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
            fn to_f64(self) -> f64 {
                $to(self)
            }
            fn pack(data: &[Self]) -> Result<HostData, usize> {
                Ok(HostData::$dtype(data.to_vec()))
            }
            fn unpack(data: &HostData) -> Result<Vec<Self>, usize> {
                match data {
                    HostData::$dtype(v) => Ok(v.clone()),
                    other => Ok((0..other.len()).map(|i| Self::from_f64(other.get(i))).collect()),
                }
            }
        }
    };
}

element!(f32, F32, |x| x as f32, f64::from);
element!(half::f16, F16, |x| half::f16::from_f32(x as f32), half::f16::to_f64);
element!(i32, I32, |x| x as i32, f64::from);
element!(u32, U32, |x| x as u32, f64::from);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    const NAME: &'static str = "bool";
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
}

impl Element for f64 {
    const DTYPE: DType = DType::F32;
    const NAME: &'static str = "f64";
    fn from_f64(value: f64) -> Self {
        value
    }
    fn to_f64(self) -> f64 {
        self
    }
    /// It holds what any dtype does.
    fn reads(_: DType) -> bool {
        true
    }
}

impl Element for half::bf16 {
    const DTYPE: DType = DType::F32;
    const NAME: &'static str = "bf16";
    fn from_f64(value: f64) -> Self {
        half::bf16::from_f32(value as f32)
    }
    fn to_f64(self) -> f64 {
        half::bf16::to_f64(self)
    }
}

/// Whole numbers of other widths: read from either integer dtype where they hold what is there.
macro_rules! whole {
    ($($type:ident $dtype:ident),+) => { $(
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            const NAME: &'static str = stringify!($type);
            fn from_f64(value: f64) -> Self {
                value as $type
            }
            fn to_f64(self) -> f64 {
                self as f64
            }
            fn reads(dtype: DType) -> bool {
                dtype.is_integer()
            }
        }
    )+ };
}

whole!(i8 I32, i16 I32, i64 I32, isize I32, u8 U32, u16 U32, u64 U32, usize U32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_are_packed_where_32_bits_hold_them() {
        assert!(matches!(i64::pack(&[1, -5]), Ok(HostData::I32(held)) if held == [1, -5]));
        assert!(matches!(i64::pack(&[1, 1 << 40, 2]), Err(1)));
        assert!(matches!(u64::pack(&[u64::MAX]), Err(0)));
        assert!(matches!(u8::pack(&[255]), Ok(HostData::U32(held)) if held == [255]));
        assert_eq!(u8::unpack(&HostData::I32(vec![255, 256])), Err(1));
        assert_eq!(i64::unpack(&HostData::U32(vec![u32::MAX])), Ok(vec![i64::from(u32::MAX)]));
    }

    #[test]
    fn floats_are_packed_rounded_once_and_bf16_is_read_where_it_holds_them() {
        assert!(matches!(f64::pack(&[0.1]), Ok(HostData::F32(held)) if held == [0.1f32]));
        let half = half::bf16::from_f32(1.5);
        assert!(matches!(half::bf16::pack(&[half]), Ok(HostData::F32(held)) if held == [1.5]));
        assert_eq!(half::bf16::unpack(&HostData::F32(vec![1.5, 1.0 + f32::EPSILON])), Err(1));
        assert_eq!(f64::unpack(&HostData::U32(vec![u32::MAX])), Ok(vec![f64::from(u32::MAX)]));
    }
}
