//! The messages of ONNX's files that Kiln reads and writes, with the numbers that `onnx.proto3` gives their fields. Fields that are not
//! listed here are skipped when a file is read.
//!
//! A macro of ours writes what prost's derive would: the derive brings a parser of Rust's syntax to the build of every user.

use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::{DecodeContext, WireType, skip_field};

/// How fields of each kind are written and read: by prost, one function for each kind of field.
#[allow(missing_docs)]
mod field {
    /// One value, which is left out where it is the default.
    macro_rules! single {
        ($($name:ident: $value:ty;)+) => { $(
            pub mod $name {
                use prost::DecodeError;
                use prost::bytes::{Buf, BufMut};
                use prost::encoding::{self, DecodeContext, WireType};

                pub type Value = $value;
                pub fn encode(tag: u32, value: &Value, buf: &mut impl BufMut) {
                    if *value != Value::default() {
                        encoding::$name::encode(tag, value, buf);
                    }
                }
                pub fn merge(wire: WireType, value: &mut Value, buf: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
                    encoding::$name::merge(wire, value, buf, context)
                }
                pub fn length(tag: u32, value: &Value) -> usize {
                    if *value == Value::default() { 0 } else { encoding::$name::encoded_len(tag, value) }
                }
            }
        )+ };
    }

    /// Several values, with one tag for all or one each.
    macro_rules! several {
        ($($name:ident: $of:ident $value:ty, $encode:ident $length:ident;)+) => { $(
            pub mod $name {
                use prost::DecodeError;
                use prost::bytes::{Buf, BufMut};
                use prost::encoding::{self, DecodeContext, WireType};

                pub type Value = Vec<$value>;
                pub fn encode(tag: u32, values: &Value, buf: &mut impl BufMut) {
                    encoding::$of::$encode(tag, values, buf);
                }
                pub fn merge(wire: WireType, values: &mut Value, buf: &mut impl Buf, context: DecodeContext) -> Result<(), DecodeError> {
                    encoding::$of::merge_repeated(wire, values, buf, context)
                }
                pub fn length(tag: u32, values: &Value) -> usize {
                    encoding::$of::$length(tag, values)
                }
            }
        )+ };
    }

    single! { int32: i32; int64: i64; float: f32; string: String; bytes: Vec<u8>; }

    several! {
        int32s: int32 i32, encode_packed encoded_len_packed;
        int64s: int64 i64, encode_packed encoded_len_packed;
        uint64s: uint64 u64, encode_packed encoded_len_packed;
        floats: float f32, encode_packed encoded_len_packed;
        doubles: double f64, encode_packed encoded_len_packed;
        strings: string String, encode_repeated encoded_len_repeated;
        byte_strings: bytes Vec<u8>, encode_repeated encoded_len_repeated;
    }

    pub mod one {
        use prost::DecodeError;
        use prost::Message;
        use prost::bytes::{Buf, BufMut};
        use prost::encoding::{self, DecodeContext, WireType};

        pub type Value<M> = Option<M>;
        pub fn encode<M: Message>(tag: u32, value: &Option<M>, buf: &mut impl BufMut) {
            if let Some(message) = value {
                encoding::message::encode(tag, message, buf);
            }
        }
        pub fn merge<M: Message + Default>(
            wire: WireType,
            value: &mut Option<M>,
            buf: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            encoding::message::merge(wire, value.get_or_insert_with(M::default), buf, context)
        }
        pub fn length<M: Message>(tag: u32, value: &Option<M>) -> usize {
            value.as_ref().map_or(0, |message| encoding::message::encoded_len(tag, message))
        }
    }

    pub mod many {
        use prost::DecodeError;
        use prost::Message;
        use prost::bytes::{Buf, BufMut};
        use prost::encoding::{self, DecodeContext, WireType};

        pub type Value<M> = Vec<M>;
        pub fn encode<M: Message>(tag: u32, values: &[M], buf: &mut impl BufMut) {
            encoding::message::encode_repeated(tag, values, buf);
        }
        pub fn merge<M: Message + Default>(
            wire: WireType,
            values: &mut Vec<M>,
            buf: &mut impl Buf,
            context: DecodeContext,
        ) -> Result<(), DecodeError> {
            encoding::message::merge_repeated(wire, values, buf, context)
        }
        pub fn length<M: Message>(tag: u32, values: &[M]) -> usize {
            encoding::message::encoded_len_repeated(tag, values)
        }
    }
}

/// Messages by their fields: a number, a name, a kind.
macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($tag:literal $label:ident: $kind:ident $(<$message:ty>)?,)* })+) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq)]
        #[allow(missing_docs)]
        pub struct $name { $(pub $label: field::$kind::Value $(<$message>)?,)* }

        #[allow(unused_variables)]
        impl Message for $name {
            fn encode_raw(&self, buf: &mut impl BufMut) {
                $(field::$kind::encode($tag, &self.$label, buf);)*
            }

            fn merge_field(
                &mut self,
                tag: u32,
                wire: WireType,
                buf: &mut impl Buf,
                context: DecodeContext,
            ) -> Result<(), prost::DecodeError> {
                match tag {
                    $($tag => field::$kind::merge(wire, &mut self.$label, buf, context),)*
                    _ => skip_field(wire, tag, buf, context),
                }
            }

            fn encoded_len(&self) -> usize {
                0 $(+ field::$kind::length($tag, &self.$label))*
            }

            fn clear(&mut self) {
                *self = Self::default();
            }
        }
    )+ };
}

messages! {
    /// A file.
    ModelProto {
        1 ir_version: int64,
        2 producer_name: string,
        3 producer_version: string,
        5 model_version: int64,
        7 graph: one<GraphProto>,
        8 opset_import: many<OpsetProto>,
        14 metadata_props: many<EntryProto>,
        25 functions: many<FunctionProto>,
    }
    /// Which version of a set of ops a model is written in.
    OpsetProto {
        1 domain: string,
        2 version: int64,
    }
    /// A key and its value.
    EntryProto {
        1 key: string,
        2 value: string,
    }
    /// A function of the model's own, of which the name is read alone.
    FunctionProto {
        1 name: string,
        10 domain: string,
    }
    /// Nodes, and what goes in and out.
    GraphProto {
        1 node: many<NodeProto>,
        2 name: string,
        5 initializer: many<TensorProto>,
        11 input: many<ValueProto>,
        12 output: many<ValueProto>,
        15 sparse_initializer: many<SparseProto>,
    }
    /// An op and the names of its inputs and outputs; an empty name is one that is left out.
    NodeProto {
        1 input: strings,
        2 output: strings,
        3 name: string,
        4 op_type: string,
        5 attribute: many<AttributeProto>,
        7 domain: string,
    }
    /// A named number, text, tensor or graph of a node.
    AttributeProto {
        1 name: string,
        2 f: float,
        3 i: int64,
        4 s: bytes,
        5 t: one<TensorProto>,
        6 g: one<Box<GraphProto>>,
        7 floats: floats,
        8 ints: int64s,
        9 strings: byte_strings,
        20 kind: int32,
        21 ref_attr_name: string,
        22 sparse_tensor: one<SparseProto>,
    }
    /// Numbers of one type, in the file or in one beside it.
    TensorProto {
        1 dims: int64s,
        2 data_type: int32,
        4 float_data: floats,
        5 int32_data: int32s,
        6 string_data: byte_strings,
        7 int64_data: int64s,
        8 name: string,
        9 raw_data: bytes,
        10 double_data: doubles,
        11 uint64_data: uint64s,
        13 external_data: many<EntryProto>,
        14 data_location: int32,
    }
    /// A sparse tensor, of which the name is read alone.
    SparseProto {
        1 values: one<TensorProto>,
    }
    /// The name and type of an input or output.
    ValueProto {
        1 name: string,
        2 kind: one<TypeProto>,
    }
    /// A type: a tensor, or something that Kiln only names.
    TypeProto {
        1 tensor_type: one<TensorTypeProto>,
        4 sequence_type: one<AnyProto>,
        5 map_type: one<AnyProto>,
        8 sparse_tensor_type: one<AnyProto>,
        9 optional_type: one<AnyProto>,
    }
    /// A message whose content is skipped.
    AnyProto {}
    /// The type and shape of a tensor.
    TensorTypeProto {
        1 elem_type: int32,
        2 shape: one<ShapeProto>,
    }
    /// Axes.
    ShapeProto {
        1 dim: many<DimProto>,
    }
    /// An axis: a length, or a name for one that is free.
    DimProto {
        1 dim_value: int64,
        2 dim_param: string,
    }
}

/// [`AttributeProto::kind`].
pub mod attribute {
    pub const FLOAT: i32 = 1;
    pub const INT: i32 = 2;
    pub const STRING: i32 = 3;
    pub const TENSOR: i32 = 4;
    pub const GRAPH: i32 = 5;
    pub const FLOATS: i32 = 6;
    pub const INTS: i32 = 7;
    pub const STRINGS: i32 = 8;
}
