//! Data sets and the order in which a training run sees them.
//!
//! A [`Dataset`] is host memory: images in `[0, 1]` and their labels. [`Dataset::batches`] makes a [`Loader`], whose
//! order is a function of a seed and the epoch only, so that a stopped run continues where it was.
//!
//! | data | from |
//! | --- | --- |
//! | [`digits`] | embedded in the library: 1,797 images of 8×8, for tests, examples and a first run |
//! | [`mnist`], [`fashion_mnist`] | the original IDX files in a directory ([`directory`] finds it) |
//! | [`Dataset::new`] | your own |

mod digits;
mod idx;
mod loader;

pub use digits::digits;
pub use idx::{fashion_mnist, mnist};
pub use loader::{Batch, Loader, Position};

use std::panic::Location;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::settings::Settings;

/// Labelled images in host memory. The fields agree with each other: [`Dataset::new`] sees to it.
#[derive(Clone, PartialEq)]
pub struct Dataset {
    name: String,
    images: Vec<f32>,
    labels: Vec<u32>,
    shape: [usize; 3],
    classes: usize,
}

/// The two parts of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// What the model learns from.
    pub train: Dataset,
    /// What it is judged by, never trained on.
    pub test: Dataset,
}

impl Dataset {
    /// A data set of your own: `images` holds one image after the other, each of `shape` (channels, height, width) in
    /// row order; `labels` one class below `classes` for each image.
    ///
    /// # Errors
    /// [`Error::Value`] if the lengths do not agree with `shape`, or a label is not below `classes`.
    #[track_caller]
    pub fn new(
        name: impl Into<String>,
        images: Vec<f32>,
        labels: Vec<u32>,
        shape: [usize; 3],
        classes: usize,
    ) -> Result<Self> {
        let refuse = |what, next| Error::Value { op: "Dataset::new", at: Location::caller(), what, next };
        let pixels = shape.iter().try_fold(1usize, |product, &side| product.checked_mul(side));
        let wanted = pixels.and_then(|pixels| pixels.checked_mul(labels.len()));
        if wanted != Some(images.len()) || pixels == Some(0) {
            return Err(refuse(
                format!("{} values do not make {} images of shape {shape:?}", images.len(), labels.len()),
                "pass one label an image, and channels * height * width values an image",
            ));
        }
        if let Some(index) = labels.iter().position(|&label| label as usize >= classes) {
            return Err(refuse(
                format!("label {index} is {}, with {classes} classes", labels[index]),
                "number the classes from 0, and pass how many there are",
            ));
        }
        Ok(Dataset { name: name.into(), images, labels, shape, classes })
    }

    /// What the data set is called in logs.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Whether there is no image.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Channels, height and width of one image.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// Number of classes; every label is below it.
    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All images, one after the other (NCHW).
    pub fn images(&self) -> &[f32] {
        &self.images
    }

    /// The class of each image.
    pub fn labels(&self) -> &[u32] {
        &self.labels
    }

    /// The data set cut to its first `images` images, for a quick run; unchanged if it has no more than that.
    #[must_use]
    pub fn limit(mut self, images: usize) -> Self {
        self.labels.truncate(images);
        self.images.truncate(self.labels.len() * self.pixels());
        self
    }

    /// A [`Loader`] of batches of `size` images, in order until [`Loader::shuffle`] is called.
    ///
    /// A size of 0 means all images in one batch.
    pub fn batches(&self, size: usize) -> Loader<'_> {
        Loader::new(self, size)
    }

    /// Values in one image.
    fn pixels(&self) -> usize {
        self.shape.iter().product()
    }
}

impl std::fmt::Debug for Dataset {
    // Not derived: a failed assertion should not print millions of pixels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Dataset")
            .field("name", &self.name)
            .field("len", &self.len())
            .field("shape", &self.shape)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

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
    fn a_dataset_refuses_images_that_do_not_fill_its_shape() {
        let error = Dataset::new("own", vec![0.0; 7], vec![0, 1], [1, 2, 2], 2).unwrap_err();
        assert!(matches!(&error, Error::Value { at, .. } if at.file() == file!()), "{error}");
    }

    #[test]
    fn a_dataset_refuses_a_label_that_is_no_class() {
        let error = Dataset::new("own", vec![0.0; 8], vec![0, 2], [1, 2, 2], 2).unwrap_err();
        assert!(error.to_string().contains("label 1 is 2, with 2 classes"), "{error}");
    }

    #[test]
    fn a_shape_whose_product_overflows_is_an_error() {
        assert!(Dataset::new("own", vec![], vec![0], [usize::MAX, 2, 2], 1).is_err());
    }

    #[test]
    fn a_shape_without_values_is_an_error() {
        assert!(Dataset::new("own", vec![], vec![0], [1, 0, 2], 1).is_err());
    }

    #[test]
    fn a_limit_keeps_the_first_images_and_their_labels() {
        let set = Dataset::new("own", vec![1.0, 2.0, 3.0], vec![2, 1, 0], [1, 1, 1], 3).unwrap();
        let cut = set.clone().limit(2);
        assert_eq!((cut.images(), cut.labels()), (&[1.0, 2.0][..], &[2, 1][..]));
        assert_eq!(set.clone().limit(9), set);
    }

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
