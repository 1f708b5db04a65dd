//! Labelled images in host memory.

use std::panic::Location;

use super::batches::Loader;
use super::collate::HostArray;
use super::dataset::{Dataset, beyond};
use super::image::Image;
use crate::error::{Error, Result};

/// Labelled images in host memory. The fields agree with each other: [`Images::new`] sees to it.
#[derive(Clone, PartialEq)]
pub struct Images {
    pub(super) name: String,
    pub(super) images: Vec<f32>,
    pub(super) labels: Vec<u32>,
    pub(super) shape: [usize; 3],
    pub(super) classes: usize,
}

/// The two parts of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Splits {
    /// What the model learns from.
    pub train: Images,
    /// What it is judged by, never trained on.
    pub test: Images,
}

impl Images {
    /// A number that the bits of all images and labels decide.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mix = |hash: u64, word: u32| (hash ^ u64::from(word)).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23);
        let pixels = self.images().iter().map(|x| x.to_bits());
        pixels.chain(self.labels().iter().copied()).fold(0, mix)
    }

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
        let refuse = |what, next| Error::Value { op: "Images::new", at: Location::caller(), what, next };
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
        Ok(Images { name: name.into(), images, labels, shape, classes })
    }

    /// A data set of images in memory, from one that reads them: a folder, or a part of it. All are read at once.
    ///
    /// # Errors
    /// What reading met; [`Error::Value`] for images of several sizes, or a label that is not below `classes`.
    #[track_caller]
    pub fn gather(name: impl Into<String>, set: &impl Dataset<Item = (Image, u32)>, classes: usize) -> Result<Self> {
        let (at, mut shape) = (Location::caller(), [0; 3]);
        let (mut images, mut labels) = (vec![], vec![]);
        for item in 0..set.len() {
            let (image, label) = set.get(item)?;
            let own = [image.channels, image.height, image.width];
            if item > 0 && own != shape {
                let what = format!("image {item} of {own:?}, where the first is of {shape:?}");
                return Err(Error::Value { op: "Images::gather", at, what, next: "resize them where they are read" });
            }
            shape = own;
            images.extend(image.values);
            labels.push(label);
        }
        Images::new(name, images, labels, shape, classes)
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
    pub(super) fn pixels(&self) -> usize {
        self.shape.iter().product()
    }
}

/// An image and its class: `[channels, height, width]`.
impl Dataset for Images {
    type Item = (HostArray<f32>, u32);

    fn len(&self) -> usize {
        self.labels.len()
    }

    fn get(&self, index: usize) -> Result<(HostArray<f32>, u32)> {
        let pixels = self.pixels();
        let label = *self.labels.get(index).ok_or_else(|| beyond(index, self.labels.len()))?;
        let values = self.images[index * pixels..][..pixels].to_vec();
        Ok((HostArray { shape: self.shape.to_vec(), values }, label))
    }
}

impl std::fmt::Debug for Images {
    // Not derived: a failed assertion should not print millions of pixels.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Images")
            .field("name", &self.name)
            .field("len", &self.len())
            .field("shape", &self.shape)
            .field("classes", &self.classes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_refuse_images_that_do_not_fill_its_shape() {
        let error = Images::new("own", vec![0.0; 7], vec![0, 1], [1, 2, 2], 2).unwrap_err();
        assert!(matches!(&error, Error::Value { at, .. } if at.file() == file!()), "{error}");
    }

    #[test]
    fn gathered_images_are_those_of_the_set_and_of_one_size() {
        let image = |side: usize, value: f32| Image::new(1, side, 1, vec![value; side]).unwrap();
        let set = crate::data::items(vec![(image(2, 0.5), 1), (image(2, 0.25), 0)]);
        let gathered = Images::gather("two", &set, 2).unwrap();
        assert_eq!((gathered.images(), gathered.labels()), (&[0.5, 0.5, 0.25, 0.25][..], &[1, 0][..]));
        let error = Images::gather("two", &crate::data::items(vec![(image(2, 0.5), 1), (image(3, 0.5), 0)]), 2);
        assert!(error.unwrap_err().to_string().contains("image 1 of [1, 3, 1]"));
    }

    #[test]
    fn they_refuse_a_label_that_is_no_class() {
        let error = Images::new("own", vec![0.0; 8], vec![0, 2], [1, 2, 2], 2).unwrap_err();
        assert!(error.to_string().contains("label 1 is 2, with 2 classes"), "{error}");
    }

    #[test]
    fn a_shape_whose_product_overflows_is_an_error() {
        assert!(Images::new("own", vec![], vec![0], [usize::MAX, 2, 2], 1).is_err());
    }

    #[test]
    fn a_shape_without_values_is_an_error() {
        assert!(Images::new("own", vec![], vec![0], [1, 0, 2], 1).is_err());
    }

    #[test]
    fn a_limit_keeps_the_first_images_and_their_labels() {
        let set = Images::new("own", vec![1.0, 2.0, 3.0], vec![2, 1, 0], [1, 1, 1], 3).unwrap();
        let cut = set.clone().limit(2);
        assert_eq!((cut.images(), cut.labels()), (&[1.0, 2.0][..], &[2, 1][..]));
        assert_eq!(set.clone().limit(9), set);
    }
}
