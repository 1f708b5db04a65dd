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
pub trait Element: Copy + Send + Sync + 'static {
    /// The matching dtype.
    const DTYPE: DType;
    /// From the f64 that the reference holds.
    fn from_f64(value: f64) -> Self;
    /// Packs elements for an upload.
    fn pack(data: &[Self]) -> HostData;
    /// Unpacks what a GPU gave back.
    fn unpack(data: &HostData) -> Option<Vec<Self>>;
}

macro_rules! element {
    ($type:ty, $dtype:ident, $from:expr) => {
        impl Element for $type {
            const DTYPE: DType = DType::$dtype;
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
            fn pack(data: &[Self]) -> HostData {
                HostData::$dtype(data.to_vec())
            }
            fn unpack(data: &HostData) -> Option<Vec<Self>> {
                match data {
                    HostData::$dtype(v) => Some(v.clone()),
                    HostData::F64(v) => Some(v.iter().map(|&x| Self::from_f64(x)).collect()),
                    _ => None,
                }
            }
        }
    };
}

element!(f32, F32, |x| x as f32);
element!(half::f16, F16, |x| half::f16::from_f32(x as f32));
element!(i32, I32, |x| x as i32);
element!(u32, U32, |x| x as u32);

impl Element for bool {
    const DTYPE: DType = DType::Bool;
    fn from_f64(value: f64) -> Self {
        value != 0.0
    }
    fn pack(data: &[Self]) -> HostData {
        HostData::U32(data.iter().map(|&b| u32::from(b)).collect())
    }
    fn unpack(data: &HostData) -> Option<Vec<Self>> {
        match data {
            HostData::U32(v) => Some(v.iter().map(|&x| x != 0).collect()),
            HostData::F64(v) => Some(v.iter().map(|&x| x != 0.0).collect()),
            _ => None,
        }
    }
}
