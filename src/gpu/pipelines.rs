//! The pipelines and layouts that a device has made.

use std::collections::HashMap;
use std::sync::Arc;

use super::kept::Kept;
use crate::clock::Instant;

/// Pipelines that are kept for plans to come: a program that makes ever new graphs would else fill the memory with them. Plans
/// keep those that they run.
const KEPT: usize = 1024;

/// Pipelines and layouts made so far.
#[derive(Default)]
pub(crate) struct Pipelines {
    pub(super) pipelines: Kept<Key, wgpu::ComputePipeline, KEPT>,
    pub(super) layouts: HashMap<Vec<Entry>, wgpu::BindGroupLayout>,
    /// What the driver keeps of them from one program to the next.
    pub stored: StoredPipelines,
}

pub(super) type Key = (Arc<str>, Vec<Entry>);

/// A binding of a layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Entry {
    pub(super) binding: u32,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Read,
    Write,
    Uniform,
}

/// The driver's cache object, and what is on disk of it.
#[derive(Default)]
pub(crate) struct StoredPipelines {
    pub cache: Option<wgpu::PipelineCache>,
    pub(super) saved: Option<Instant>,
    /// Hash of the data on disk.
    pub(super) hash: u64,
}
