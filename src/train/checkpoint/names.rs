//! Kinds of parts, and names of those that the short form saves.

// Kinds of Kiln's own parts.
pub(super) const STORE: &str = "store";
pub(super) const OPTIMIZER: &str = "optimizer";
pub(super) const POSITION: &str = "position";
pub(super) const VALUE: &str = "value";
pub(super) const AVERAGE: &str = "average";
pub(super) const PLATEAU: &str = "plateau";
pub(super) const DRAWS: &str = "draws";
// Names of the parts of `Checkpoint::save`.
pub(super) const MODEL: &str = "model";
pub(super) const TRAIN: &str = "train";
pub(super) const METADATA: &str = "metadata";
