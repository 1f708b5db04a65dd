//! ONNX's element types, and which dtype holds each.

use std::fmt;

use crate::dtype::DType;

macro_rules! elements {
    ($($name:ident = $number:literal $text:literal $dtype:ident;)+) => {
        /// An element type that Kiln holds: of wider ones the numbers that 32 bits have.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Elem {
            $(#[doc = $text] $name = $number,)+
        }

        impl Elem {
            /// The type of ONNX's number.
            ///
            /// # Errors
            /// What the type is called, if Kiln does not hold it.
            pub fn of(number: i32) -> Result<Elem, String> {
                match number {
                    $($number => Ok(Elem::$name),)+
                    _ => Err(named(number)),
                }
            }

            /// What tensors of it are on a device.
            pub fn dtype(self) -> DType {
                match self {
                    $(Elem::$name => DType::$dtype,)+
                }
            }
        }

        impl fmt::Display for Elem {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    $(Elem::$name => $text,)+
                })
            }
        }
    };
}

elements! {
    F32 = 1 "float32" F32;
    U8 = 2 "uint8" U32;
    I8 = 3 "int8" I32;
    U16 = 4 "uint16" U32;
    I16 = 5 "int16" I32;
    I32 = 6 "int32" I32;
    I64 = 7 "int64" I32;
    Bool = 9 "bool" Bool;
    F16 = 10 "float16" F16;
    F64 = 11 "float64" F32;
    U32 = 12 "uint32" U32;
    U64 = 13 "uint64" U32;
    BF16 = 16 "bfloat16" F32;
}

/// The name of a type that Kiln does not hold.
fn named(number: i32) -> String {
    let name = match number {
        8 => "string",
        14 => "complex64",
        15 => "complex128",
        17 => "float8e4m3fn",
        18 => "float8e4m3fnuz",
        19 => "float8e5m2",
        20 => "float8e5m2fnuz",
        21 => "uint4",
        22 => "int4",
        23 => "float4e2m1",
        24 => "float8e8m0",
        25 => "uint2",
        26 => "int2",
        _ => return format!("an unknown element type ({number})"),
    };
    name.into()
}

impl Elem {
    /// True for whole numbers and truth values.
    pub fn is_whole(self) -> bool {
        !self.is_float()
    }

    /// True for floats of any width.
    pub fn is_float(self) -> bool {
        self.dtype().is_float()
    }

    /// What a tensor of `dtype` is called when nothing else is known of it.
    pub fn natural(dtype: DType) -> Elem {
        match dtype {
            DType::F32 => Elem::F32,
            DType::F16 => Elem::F16,
            DType::I32 => Elem::I32,
            DType::U32 => Elem::U32,
            DType::Bool => Elem::Bool,
        }
    }

    /// Bits of a whole number that is narrower than what holds it.
    pub fn narrow(self) -> Option<u32> {
        match self {
            Elem::U8 | Elem::I8 => Some(8),
            Elem::U16 | Elem::I16 => Some(16),
            _ => None,
        }
    }

    /// Least and largest whole number.
    pub fn range(self) -> (i64, i64) {
        match self {
            Elem::U8 => (0, 255),
            Elem::I8 => (-128, 127),
            Elem::U16 => (0, 65_535),
            Elem::I16 => (-32_768, 32_767),
            Elem::U32 | Elem::U64 => (0, i64::from(u32::MAX)),
            Elem::Bool => (0, 1),
            _ => (i64::from(i32::MIN), i64::from(i32::MAX)),
        }
    }

    /// Bytes of an element in a file.
    pub fn bytes(self) -> usize {
        match self {
            Elem::U8 | Elem::I8 | Elem::Bool => 1,
            Elem::U16 | Elem::I16 | Elem::F16 | Elem::BF16 => 2,
            Elem::F32 | Elem::I32 | Elem::U32 => 4,
            Elem::I64 | Elem::F64 | Elem::U64 => 8,
        }
    }
}
