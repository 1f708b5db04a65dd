//! What can be said of a device before it is opened.

use std::fmt;

/// What there is to choose from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceInfo {
    /// Name of the adapter, or `cpu`.
    pub name: String,
    /// Back end (`vulkan`, `metal`, `dx12`, `gl`), or `reference`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `reference`.
    pub kind: String,
    /// Name and version of the driver.
    pub driver: String,
}

impl fmt::Display for DeviceInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {}", self.name, self.backend, self.kind)?;
        if self.driver.is_empty() { f.write_str(")") } else { write!(f, ", {})", self.driver) }
    }
}
