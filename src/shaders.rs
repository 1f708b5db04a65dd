//! The files of `shaders/`, taken apart by the build: `shaders::matmul::WIDE` is `shaders/matmul/wide.wgsl`.

#![allow(dead_code)]

use crate::shader::*;

include!(concat!(env!("OUT_DIR"), "/shaders.rs"));
