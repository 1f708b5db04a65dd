//! The files of `shaders/`, taken apart by the build: `shaders::matmul::WIDE` is `shaders/matmul/wide.wgsl`.

// The corrections of optimizers are handed over as whole texts, as those of users are; that every file is used, a test of the
// sources holds.
#![allow(dead_code)]

use crate::shader::*;

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
