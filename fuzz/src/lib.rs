//! What the fuzzers call: ordinary functions of bytes that panic where Kiln breaks a promise.
//!
//! `fuzz_targets/` hands them to libFuzzer, `tests/fuzzing.rs` includes this file and calls them with seeded inputs.

pub mod files;
pub mod memory;
pub mod mutate;
#[cfg(feature = "onnx")]
pub mod onnx;
pub mod parts;
pub mod programs;
