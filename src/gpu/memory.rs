//! Buffers whose bytes are counted, and those that a device keeps for the runs to come: scratch and staging.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use crate::error::{Error, Result};

/// Bytes in use on a device.
#[derive(Debug)]
pub(crate) struct Memory {
    used: AtomicU64,
    peak: AtomicU64,
    limit: AtomicU64,
    /// What a driver without more memory would give, for tests.
    driver: AtomicU64,
}

impl Memory {
    /// With at most `limit` bytes.
    pub fn new(limit: Option<u64>) -> Memory {
        let [used, peak] = [0; 2].map(AtomicU64::new);
        let [limit, driver] = [limit.unwrap_or(u64::MAX), u64::MAX].map(AtomicU64::new);
        Memory { used, peak, limit, driver }
    }

    pub fn usage(&self) -> (u64, u64) {
        (self.used.load(Ordering::Relaxed), self.peak.load(Ordering::Relaxed))
    }

    pub(super) fn limit(&self) -> u64 {
        self.limit.load(Ordering::Relaxed)
    }

    /// Changes the limit, or makes it that of a driver, which is not known before it is met.
    pub fn set_limit(&self, bytes: u64, by_driver: bool) {
        if by_driver { &self.driver } else { &self.limit }.store(bytes, Ordering::Relaxed);
    }

    fn take(&self, bytes: u64, what: &str) -> Result<()> {
        let (limit, driver) = (self.limit(), self.driver.load(Ordering::Relaxed));
        let add = |used: u64| used.checked_add(bytes).filter(|&sum| sum <= limit.min(driver));
        match self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add) {
            Ok(used) => {
                self.peak.fetch_max(used + bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => {
                let limit = if limit <= driver { limit } else { u64::MAX };
                Err(Error::OutOfMemory { what: what.into(), bytes, used, limit })
            }
        }
    }
}

/// A buffer whose bytes are counted until it is dropped. Cloning copies the handle.
#[derive(Debug, Clone)]
pub(crate) struct Buffer(Arc<BufferInner>);

/// A driver's buffer, behind a pointer that says that threads may share it: who asks whether a tensor's handle is `Send`
/// ends here, and does not follow wgpu's types deeper than the compiler's limit. Structs of users hold tensors.
trait Raw: std::fmt::Debug + Send + Sync {
    fn buffer(&self) -> &wgpu::Buffer;
}

impl Raw for wgpu::Buffer {
    fn buffer(&self) -> &wgpu::Buffer {
        self
    }
}

#[derive(Debug)]
struct BufferInner {
    id: u64,
    raw: Box<dyn Raw>,
    bytes: u64,
    memory: Arc<Memory>,
    /// Number of values that a user can still reach.
    held: AtomicUsize,
}

impl Drop for BufferInner {
    fn drop(&mut self) {
        // A browser gives the memory back when its collector finds the buffer, unless told so.
        if cfg!(target_family = "wasm") {
            self.raw.buffer().destroy();
        }
        self.memory.used.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Buffer {
    pub fn create(
        device: &wgpu::Device,
        memory: &Arc<Memory>,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer> {
        Buffer::with(device, memory, label, bytes, usage, false)
    }

    /// A buffer that the host may write at once.
    pub fn create_mapped(
        device: &wgpu::Device,
        memory: &Arc<Memory>,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
    ) -> Result<Buffer> {
        Buffer::with(device, memory, label, bytes, usage, true)
    }

    fn with(
        device: &wgpu::Device,
        memory: &Arc<Memory>,
        label: &str,
        bytes: u64,
        usage: wgpu::BufferUsages,
        mapped_at_creation: bool,
    ) -> Result<Buffer> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        memory.take(bytes, label)?;
        let descriptor = wgpu::BufferDescriptor { label: Some(label), size: bytes, usage, mapped_at_creation };
        let raw = device.create_buffer(&descriptor);
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let raw: Box<dyn Raw> = Box::new(raw);
        Ok(Buffer(Arc::new(BufferInner { id, raw, bytes, memory: memory.clone(), held: AtomicUsize::new(0) })))
    }

    pub fn id(&self) -> u64 {
        self.0.id
    }

    pub fn raw(&self) -> &wgpu::Buffer {
        self.0.raw.buffer()
    }

    pub fn bytes(&self) -> u64 {
        self.0.bytes
    }

    /// Notes a value that refers to it.
    pub fn hold(&self) {
        self.0.held.fetch_add(1, Ordering::AcqRel);
    }

    /// Notes that such a value is gone.
    pub fn release(&self) {
        self.0.held.fetch_sub(1, Ordering::AcqRel);
    }

    /// True if no value refers to it.
    pub fn is_free(&self) -> bool {
        self.0.held.load(Ordering::Acquire) == 0
    }
}

/// Scratch buffers, largest first; plans of one device take turns in them.
#[derive(Default)]
pub(crate) struct Scratch {
    pub(super) buffers: Vec<Buffer>,
    /// Changes when a buffer is replaced: bind groups made before are stale.
    pub generation: u64,
}

/// Mapped buffers, waiting or in use.
#[derive(Default)]
pub(crate) struct Staging {
    pub(super) buffers: Vec<Stage>,
}

/// One staging buffer.
#[derive(Clone)]
pub(crate) struct Stage {
    pub buffer: Buffer,
    /// True while the host may write.
    pub(super) mapped: Arc<AtomicBool>,
}

impl Stage {
    /// Fills the mapped range and unmaps it, ready to be copied from.
    pub fn fill(&self, bytes: u64, write: impl FnOnce(&mut [u8])) -> Result<()> {
        let raw = self.buffer.raw();
        {
            let mut view =
                raw.get_mapped_range_mut(..bytes).map_err(|error| Error::internal(format!("staging: {error}")))?;
            // The view is write-only memory: fill a host copy first, then one pass into it.
            let mut copy = vec![0; bytes as usize];
            write(&mut copy);
            view.copy_from_slice(&copy);
        }
        raw.unmap();
        Ok(())
    }

    /// Maps it again once the submission of `encoder` has run.
    pub fn recall(&self, encoder: &wgpu::CommandEncoder) {
        let mapped = self.mapped.clone();
        encoder.map_buffer_on_submit(self.buffer.raw(), wgpu::MapMode::Write, .., move |result| {
            mapped.store(result.is_ok(), Ordering::Release);
        });
    }
}
