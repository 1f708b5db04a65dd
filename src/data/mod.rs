//! Data sets, and the batches that a training run sees.
//!
//! A [`Dataset`] gives items by their number. A [`DataLoader`] makes batches of them on threads, in an order and with
//! random changes that are functions of a seed, the epoch and the item only, so that a stopped run continues where it
//! was, and the number of threads never shows. [`Images`] are in memory as a whole: [`Images::batches`] copies batches out
//! of them.
//!
//! | data | from |
//! | --- | --- |
//! | [`digits`] | embedded in the library: 1,797 images of 8×8, for tests, examples and a first run |
//! | [`mnist`], [`fashion_mnist`] | the original IDX files in a directory ([`directory`] finds it) |
//! | [`cifar10`], [`cifar100`] | the original binary files |
//! | `ImageFolder`, `ImageReader` (feature `images`) | PNG and JPEG files, a folder a class; single files |
//! | [`Table`] | rows of text; `Table::read` (feature `csv`) reads CSV files |
//! | [`TextWindows`] | text, by a [`Vocabulary`] |
//! | [`wav`], [`npy`], [`safetensors`](fn@safetensors) | files of sound, and of arrays ([`rows`]) |
//! | [`Images::new`], [`items`] | your own, in memory |
//!
//! | what | names |
//! | --- | --- |
//! | other sets made of sets | [`Dataset::map`], [`Dataset::subset`], [`Dataset::concat`], [`Dataset::zip`], [`Dataset::cache`], [`window`] |
//! | parts | [`split`] and [`k_fold`], by [`Split`] |
//! | order | [`Shuffled`], [`Weighted`], [`Bucketed`], [`Sharded`]; your own [`Sampler`] |
//! | batches | [`Collate`], [`Padded`], or a closure |
//! | changes by chance | [`DataLoader::map`]; [`transforms`] of an [`Image`]; [`mask_time`], [`mask_frequency`] of a [`spectrogram`] |

mod batches;
mod cifar;
mod collate;
mod colour;
#[cfg(feature = "csv")]
mod csv;
mod data_loader;
mod dataset;
mod digits;
#[cfg(feature = "images")]
mod folder;
mod idx;
mod image;
#[cfg(feature = "images")]
mod image_reader;
mod images;
mod npy;
mod policies;
mod sampler;
mod share;
mod spectrum;
mod split;
mod table;
mod text;
pub mod transforms;
mod wav;
mod workers;

pub use self::image::{Affine, Image};
pub use batches::{Batch, Loader, Position};
pub use cifar::{cifar10, cifar100};
pub use collate::{Collate, Collator, HostArray, Padded, Sequence, Stack, With};
pub use data_loader::DataLoader;
pub use dataset::{Cache, Concat, Dataset, Items, Map, Subset, Zip, items};
pub use digits::digits;
#[cfg(feature = "images")]
pub use folder::ImageFolder;
pub use idx::{fashion_mnist, mnist};
#[cfg(feature = "images")]
pub use image_reader::ImageReader;
pub use images::{Images, Splits};
pub use npy::{npy, safetensors};
pub(crate) use policies::beta;
pub use sampler::{Bucketed, InOrder, Sampler, Sharded, Shuffled, Weighted};
pub use spectrum::{mask_frequency, mask_time, mel, spectrogram};
pub use split::{Portion, Split, Window, k_fold, split, window};
pub use table::{Classes, Feature, Features, Missing, Rows, Table, rows};
pub use text::{Passage, TextWindows, Vocabulary};
pub use wav::{Sound, wav};

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::settings::Settings;

/// The directory of data sets: `given` (a command-line option, say), else the environment variable `KILN_DATA`.
///
/// # Errors
/// [`Error::Setting`] if neither is there.
pub fn directory(given: Option<&Path>) -> Result<PathBuf> {
    choose_directory(given, Settings::data_folder())
}

fn choose_directory(given: Option<&Path>, variable: Option<PathBuf>) -> Result<PathBuf> {
    given.map(Path::to_path_buf).or(variable).ok_or_else(|| Error::Setting {
        name: "KILN_DATA".into(),
        value: String::new(),
        what: "no directory of data sets was named".into(),
        next: "set it to the directory that holds the data files, or use the embedded `kiln::data::digits()`",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_that_is_given_wins_over_the_environment() {
        let chosen = choose_directory(Some(Path::new("given")), Some("variable".into())).unwrap();
        assert_eq!(chosen, Path::new("given"));
        assert_eq!(choose_directory(None, Some("variable".into())).unwrap(), Path::new("variable"));
    }

    #[test]
    fn no_directory_at_all_is_an_error_that_names_the_variable() {
        let error = choose_directory(None, None).unwrap_err();
        assert!(error.to_string().contains("KILN_DATA"), "{error}");
    }
}
