//! What is kept of the device's clock: query sets, and times on their way to the host.

use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use crate::profile::Label;

pub(super) const PENDING: u8 = 0;
pub(super) const MAPPED: u8 = 1;
pub(super) const FAILED: u8 = 2;

/// Query sets, and the runs whose times have not come back.
#[derive(Default)]
pub(crate) struct Timestamps {
    pub(super) sets: Vec<(wgpu::QuerySet, wgpu::Buffer)>,
    pub(super) idle: Vec<wgpu::Buffer>,
    pub(super) flying: Vec<Flight>,
    /// True once the adapter has failed at what it lists.
    pub(super) broken: bool,
}

/// The times of one run, on their way to the host.
pub(super) struct Flight {
    pub(super) labels: Arc<[Label]>,
    pub(super) submitted: u64,
    pub(super) buffer: wgpu::Buffer,
    pub(super) state: Arc<AtomicU8>,
}
