//! The messages of ONNX's files that Kiln reads and writes, with the numbers that `onnx.proto3` gives their fields. Fields that are not
//! listed here are skipped when a file is read.

use prost::Message;

macro_rules! messages {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $label:ident: $kind:ty,)* })+) => { $(
        $(#[$doc])*
        #[derive(Clone, PartialEq, Message)]
        pub struct $name { $($(#[$field])* pub $label: $kind,)* }
    )+ };
}

messages! {
    /// A file.
    ModelProto {
        #[prost(int64, tag = "1")] ir_version: i64,
        #[prost(string, tag = "2")] producer_name: String,
        #[prost(string, tag = "3")] producer_version: String,
        #[prost(int64, tag = "5")] model_version: i64,
        #[prost(message, optional, tag = "7")] graph: Option<GraphProto>,
        #[prost(message, repeated, tag = "8")] opset_import: Vec<OpsetProto>,
        #[prost(message, repeated, tag = "14")] metadata_props: Vec<EntryProto>,
        #[prost(message, repeated, tag = "25")] functions: Vec<FunctionProto>,
    }
    /// Which version of a set of ops a model is written in.
    OpsetProto {
        #[prost(string, tag = "1")] domain: String,
        #[prost(int64, tag = "2")] version: i64,
    }
    /// A key and its value.
    EntryProto {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
    /// A function of the model's own, of which the name is read alone.
    FunctionProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "10")] domain: String,
    }
    /// Nodes, and what goes in and out.
    GraphProto {
        #[prost(message, repeated, tag = "1")] node: Vec<NodeProto>,
        #[prost(string, tag = "2")] name: String,
        #[prost(message, repeated, tag = "5")] initializer: Vec<TensorProto>,
        #[prost(message, repeated, tag = "11")] input: Vec<ValueProto>,
        #[prost(message, repeated, tag = "12")] output: Vec<ValueProto>,
        #[prost(message, repeated, tag = "15")] sparse_initializer: Vec<SparseProto>,
    }
    /// An op and the names of its inputs and outputs; an empty name is one that is left out.
    NodeProto {
        #[prost(string, repeated, tag = "1")] input: Vec<String>,
        #[prost(string, repeated, tag = "2")] output: Vec<String>,
        #[prost(string, tag = "3")] name: String,
        #[prost(string, tag = "4")] op_type: String,
        #[prost(message, repeated, tag = "5")] attribute: Vec<AttributeProto>,
        #[prost(string, tag = "7")] domain: String,
    }
    /// A named number, text, tensor or graph of a node.
    AttributeProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(float, tag = "2")] f: f32,
        #[prost(int64, tag = "3")] i: i64,
        #[prost(bytes = "vec", tag = "4")] s: Vec<u8>,
        #[prost(message, optional, tag = "5")] t: Option<TensorProto>,
        #[prost(message, optional, boxed, tag = "6")] g: Option<Box<GraphProto>>,
        #[prost(float, repeated, tag = "7")] floats: Vec<f32>,
        #[prost(int64, repeated, tag = "8")] ints: Vec<i64>,
        #[prost(bytes = "vec", repeated, tag = "9")] strings: Vec<Vec<u8>>,
        #[prost(int32, tag = "20")] kind: i32,
        #[prost(string, tag = "21")] ref_attr_name: String,
        #[prost(message, optional, tag = "22")] sparse_tensor: Option<SparseProto>,
    }
    /// Numbers of one type, in the file or in one beside it.
    TensorProto {
        #[prost(int64, repeated, tag = "1")] dims: Vec<i64>,
        #[prost(int32, tag = "2")] data_type: i32,
        #[prost(float, repeated, tag = "4")] float_data: Vec<f32>,
        #[prost(int32, repeated, tag = "5")] int32_data: Vec<i32>,
        #[prost(bytes = "vec", repeated, tag = "6")] string_data: Vec<Vec<u8>>,
        #[prost(int64, repeated, tag = "7")] int64_data: Vec<i64>,
        #[prost(string, tag = "8")] name: String,
        #[prost(bytes = "vec", tag = "9")] raw_data: Vec<u8>,
        #[prost(double, repeated, tag = "10")] double_data: Vec<f64>,
        #[prost(uint64, repeated, tag = "11")] uint64_data: Vec<u64>,
        #[prost(message, repeated, tag = "13")] external_data: Vec<EntryProto>,
        #[prost(int32, tag = "14")] data_location: i32,
    }
    /// A sparse tensor, of which the name is read alone.
    SparseProto {
        #[prost(message, optional, tag = "1")] values: Option<TensorProto>,
    }
    /// The name and type of an input or output.
    ValueProto {
        #[prost(string, tag = "1")] name: String,
        #[prost(message, optional, tag = "2")] kind: Option<TypeProto>,
    }
    /// A type: a tensor, or something that Kiln only names.
    TypeProto {
        #[prost(message, optional, tag = "1")] tensor_type: Option<TensorTypeProto>,
        #[prost(message, optional, tag = "4")] sequence_type: Option<AnyProto>,
        #[prost(message, optional, tag = "5")] map_type: Option<AnyProto>,
        #[prost(message, optional, tag = "8")] sparse_tensor_type: Option<AnyProto>,
        #[prost(message, optional, tag = "9")] optional_type: Option<AnyProto>,
    }
    /// A message whose content is skipped.
    AnyProto {}
    /// The type and shape of a tensor.
    TensorTypeProto {
        #[prost(int32, tag = "1")] elem_type: i32,
        #[prost(message, optional, tag = "2")] shape: Option<ShapeProto>,
    }
    /// Axes.
    ShapeProto {
        #[prost(message, repeated, tag = "1")] dim: Vec<DimProto>,
    }
    /// An axis: a length, or a name for one that is free.
    DimProto {
        #[prost(int64, tag = "1")] dim_value: i64,
        #[prost(string, tag = "2")] dim_param: String,
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
