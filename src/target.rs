//! What plans are made for: what an adapter can do, and what was decided about the variants of ops on it.

use std::collections::{BTreeMap, BTreeSet};

use crate::capabilities::Capabilities;

/// What plans are made for.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Target {
    /// What the adapter can do.
    pub capabilities: Capabilities,
    /// What was decided.
    pub choices: Choices,
}

/// What was decided about the variants of ops, by name.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choices {
    /// Variants to take wherever an op lists them, before the default: a test wants them.
    pub forced: Vec<&'static str>,
    /// Variants that the driver has failed at: an op takes them only where it lists no other.
    pub refused: BTreeSet<String>,
    /// The variant for each class of shapes that was measured.
    pub measured: BTreeMap<String, Choice>,
    /// Classes whose variant does not change any more.
    pub settled: BTreeSet<String>,
    /// True if what was not measured yet shall be.
    pub measure: bool,
}

/// A variant that was measured to be the fastest of its class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Choice {
    /// Its name.
    pub variant: String,
    /// Hash of its shader's text: another text must be measured anew.
    pub shader: u64,
}
