//! The driver's own form of pipelines, kept on disk from one program to the next, where the driver gives it out (Vulkan).
//!
//! Most desktop drivers keep a cache of their own; this serves those that do not. The translation of WGSL is not in it.

use std::time::Duration;

use super::driver::{Gpu, lock};
use super::pipelines::StoredPipelines;
use crate::clock::Instant;
use crate::kernel;

/// At least this long between two writes while a program runs; the last state is written when the device is dropped.
const PAUSE: Duration = Duration::from_secs(2);
const KIND: &str = "pipelines";

impl Gpu {
    /// Whose the cached files are: another adapter, driver or version of Kiln has others.
    pub(super) fn cache_key(&self) -> String {
        format!("{} kiln {}", self.0.info, env!("CARGO_PKG_VERSION"))
    }

    /// Opens the driver's cache with what an earlier program left.
    pub(super) fn load_pipelines(&self) {
        let key = self.cache_key();
        if !self.0.device.features().contains(wgpu::Features::PIPELINE_CACHE) || self.0.cache.path(KIND, &key).is_none()
        {
            return;
        }
        let data = self.0.cache.read(KIND, &key).unwrap_or_else(|why| {
            self.warn(&why);
            None
        });
        let made = self.scoped("a pipeline cache", || {
            let descriptor = wgpu::PipelineCacheDescriptor { label: None, data: data.as_deref(), fallback: true };
            // SAFETY: the data is what the driver gave out: our header names adapter and driver, and its checksum fits. wgpu
            // checks a header of its own, and starts with an empty cache if that is of another driver.
            unsafe { self.0.device.create_pipeline_cache(&descriptor) }
        });
        let mut pipelines = lock(&self.0.pipelines);
        match made {
            Ok(cache) => pipelines.stored.cache = Some(cache),
            Err(error) => self.warn(&format!("the driver's pipelines are not kept ({error})")),
        }
        pipelines.stored.hash = data.map_or(0, |data| kernel::hash(&data));
    }

    /// Writes the driver's cache if it has changed; without `now`, not more often than every few seconds.
    pub(super) fn save_pipelines(&self, stored: &mut StoredPipelines, now: bool) {
        // No browser has one to read; and a scope there would take an error from the next call, which must be told of it.
        if self.is_browser() {
            return;
        }
        let Some(cache) = &stored.cache else { return };
        if !now && stored.saved.is_some_and(|saved| saved.elapsed() < PAUSE) {
            return;
        }
        let Ok(Some(data)) = self.scoped("a pipeline cache", || cache.get_data()) else { return };
        let hash = kernel::hash(&data);
        if hash != stored.hash {
            if let Err(why) = self.0.cache.write(KIND, &self.cache_key(), &data) {
                self.warn(&why);
            }
            stored.hash = hash;
        }
        stored.saved = Some(Instant::now());
    }

    /// To be called when the device is dropped.
    pub fn close(&self) {
        if self.check().is_ok() {
            self.save_pipelines(&mut lock(&self.0.pipelines).stored, true);
        }
    }
}
