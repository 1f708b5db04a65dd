//! Data sets and their loader: the same batches with any number of workers, and an error for all that is wrong.

#[cfg(all(feature = "images", unix))]
#[path = "data_loading/folders.rs"]
mod folders;
#[path = "data_loading/loader.rs"]
mod loader;
#[path = "data_loading/sets.rs"]
mod sets;
#[path = "data_loading/sources.rs"]
mod sources;
#[path = "data_loading/torchvision.rs"]
mod torchvision;
#[path = "data_loading/transforms.rs"]
mod transforms;
