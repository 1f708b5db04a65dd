//! Models from ONNX files: ONNX's own tests of its nodes, whole models, and files that are damaged.
#![cfg(feature = "onnx")]

#[path = "onnx/forms.rs"]
mod forms;
#[path = "onnx/nodes.rs"]
mod nodes;
#[path = "onnx/out.rs"]
mod out;
#[path = "onnx/refused.rs"]
mod refused;
#[path = "onnx/whole.rs"]
mod whole;
#[path = "onnx/write.rs"]
mod write;
