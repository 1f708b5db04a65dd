//! Changes of images: each a function of an image and a stream of random numbers.
//!
//! What is fixed is a method of [`Image`] ([`Image::resize`], [`Image::rotate`], [`Image::hue`], ..). What is random is
//! here, and draws from the stream that a [`DataLoader`](super::DataLoader) gives each item:
//!
//! ```
//! use kiln::data::transforms::{colour_jitter, compose, flip_horizontal, normalise, random_resized_crop};
//! use kiln::data::{DataLoader, Dataset, Image, items};
//!
//! let image = Image::new(3, 30, 40, vec![0.5; 3 * 30 * 40])?;
//! let augment = compose([
//!     random_resized_crop([16, 16], [0.5, 1.0], [0.75, 4.0 / 3.0]),
//!     flip_horizontal(0.5),
//!     colour_jitter(0.4, 0.4, 0.4, 0.1),
//!     normalise(&[0.5; 3], &[0.25; 3]),
//! ]);
//! let mut loader = DataLoader::new(items(vec![(image, 7u32)]), 1)
//!     .shuffle(42)
//!     .try_map(move |(image, label), random| Ok((augment.apply(image, random)?, label)));
//! assert_eq!(loader.next().unwrap()?.0.shape, [1, 3, 16, 16]);
//! # Ok::<(), kiln::Error>(())
//! ```

use std::sync::Arc;

pub use super::policies::{aug_mix, auto_augment, rand_augment, trivial_augment};

use super::image::{Affine, Image};
use crate::error::{Error, Result};
use crate::rng::Philox;

type Change = dyn Fn(Image, &mut Philox) -> Result<Image> + Send + Sync;

/// A change of an image, in part by chance. Clones share what it was made of.
#[derive(Clone)]
pub struct Transform(Arc<Change>);

impl Transform {
    /// One of your own.
    pub fn new(change: impl Fn(Image, &mut Philox) -> Result<Image> + Send + Sync + 'static) -> Transform {
        Transform(Arc::new(change))
    }

    /// The image that it makes of this one.
    ///
    /// # Errors
    /// What the change does not take: a crop that is larger than the image.
    pub fn apply(&self, image: Image, random: &mut Philox) -> Result<Image> {
        (self.0)(image, random)
    }

    /// This change with a probability, else none. PyTorch: `RandomApply`.
    #[must_use]
    pub fn sometimes(self, probability: f64) -> Transform {
        Transform::new(
            move |image, random| {
                if random.uniform() < probability { self.apply(image, random) } else { Ok(image) }
            },
        )
    }
}

/// Uniform in `[low, high)`.
pub(super) fn between(random: &mut Philox, [low, high]: [f64; 2]) -> f64 {
    low + (high - low) * random.uniform()
}

/// `true` as often as `false`.
pub(super) fn coin(random: &mut Philox) -> bool {
    random.next_u32() & 1 == 1
}

/// A start at which a part of `part` lies within `whole`.
fn start(random: &mut Philox, whole: usize, part: usize) -> usize {
    random.below((whole.saturating_sub(part) + 1) as u32) as usize
}

/// All of them, in this order. PyTorch: `Compose`.
pub fn compose(all: impl IntoIterator<Item = Transform>) -> Transform {
    let all: Vec<Transform> = all.into_iter().collect();
    Transform::new(move |image, random| all.iter().try_fold(image, |image, one| one.apply(image, random)))
}

/// One of them, each equally often; none of none. PyTorch: `RandomChoice`.
pub fn one_of(all: impl IntoIterator<Item = Transform>) -> Transform {
    let all: Vec<Transform> = all.into_iter().collect();
    Transform::new(move |image, random| match all.get(random.below(all.len() as u32) as usize) {
        Some(one) => one.apply(image, random),
        None => Ok(image),
    })
}

/// See [`Image::resize`]: height and width. PyTorch: `Resize`.
pub fn resize(size: [usize; 2]) -> Transform {
    Transform::new(move |image, _| image.resize(size))
}

/// See [`Image::resize_shorter`].
pub fn resize_shorter(side: usize) -> Transform {
    Transform::new(move |image, _| image.resize_shorter(side))
}

/// See [`Image::centre_crop`]. PyTorch: `CenterCrop`.
pub fn centre_crop(size: [usize; 2]) -> Transform {
    Transform::new(move |image, _| image.centre_crop(size))
}

/// See [`Image::pad`]. PyTorch: `Pad`.
pub fn pad(border: usize, fill: f32) -> Transform {
    Transform::new(move |image, _| Ok(image.pad(border, fill)))
}

/// A part of this size, anywhere. PyTorch: `RandomCrop`.
pub fn random_crop(size: [usize; 2]) -> Transform {
    Transform::new(move |image, random| {
        let (top, left) = (start(random, image.height, size[0]), start(random, image.width, size[1]));
        image.crop(top, left, size)
    })
}

/// A part with a share `scale` of the area and a ratio `ratio` of width to height, resized to `size`; the middle where
/// ten draws do not fit. PyTorch: `RandomResizedCrop`, whose usual values are `[0.08, 1.0]` and `[0.75, 4.0 / 3.0]`.
pub fn random_resized_crop(size: [usize; 2], scale: [f64; 2], ratio: [f64; 2]) -> Transform {
    Transform::new(move |image, random| {
        let (height, width) = (image.height as f64, image.width as f64);
        for _ in 0..10 {
            let area = height * width * between(random, scale);
            let ratio = between(random, ratio.map(f64::ln)).exp();
            let [h, w] = [(area / ratio).sqrt(), (area * ratio).sqrt()].map(|side| side.round() as usize);
            if (1..=image.height).contains(&h) && (1..=image.width).contains(&w) {
                let (top, left) = (start(random, image.height, h), start(random, image.width, w));
                return image.crop(top, left, [h, w])?.resize(size);
            }
        }
        let within = (width / height).clamp(ratio[0], ratio[1]);
        let [h, w] = [(width / within).min(height), (height * within).min(width)];
        let whole = |side: f64| (side.round() as usize).max(1);
        image.centre_crop([whole(h), whole(w)])?.resize(size)
    })
}

/// PyTorch: `RandomHorizontalFlip`.
pub fn flip_horizontal(probability: f64) -> Transform {
    Transform::new(|image, _| Ok(image.flip_horizontal())).sometimes(probability)
}

/// PyTorch: `RandomVerticalFlip`.
pub fn flip_vertical(probability: f64) -> Transform {
    Transform::new(|image, _| Ok(image.flip_vertical())).sometimes(probability)
}

/// Turned by up to `degrees` either way. PyTorch: `RandomRotation`.
pub fn random_rotation(degrees: f64, fill: f32) -> Transform {
    Transform::new(move |image, random| Ok(image.rotate(between(random, [-degrees, degrees]), fill)))
}

/// Turned by up to `degrees` and moved by up to these shares of width and height either way, scaled, and sheared by up to
/// `shear` degrees along x either way. PyTorch: `RandomAffine`.
pub fn random_affine(degrees: f64, translate: [f64; 2], scale: [f64; 2], shear: f64, fill: f32) -> Transform {
    Transform::new(move |image, random| {
        let most = [translate[0] * image.width as f64, translate[1] * image.height as f64];
        let map = Affine {
            degrees: between(random, [-degrees, degrees]),
            translate: most.map(|most| between(random, [-most, most]).round()),
            scale: between(random, scale),
            shear: [between(random, [-shear, shear]), 0.0],
        };
        Ok(image.affine(&map, fill))
    })
}

/// Seen from the side: each corner moved inwards by up to `distortion` of half a side. PyTorch: `RandomPerspective`.
pub fn random_perspective(distortion: f64, fill: f32) -> Transform {
    Transform::new(move |image, random| {
        let (right, low) = (image.width as f64 - 1.0, image.height as f64 - 1.0);
        let from = [[0.0, 0.0], [right, 0.0], [right, low], [0.0, low]];
        let to = from.map(|corner| {
            let inwards = |at: f64, side: f64, random: &mut Philox| {
                let by = between(random, [0.0, distortion * side / 2.0]);
                if at > 0.0 { at - by } else { by }
            };
            [inwards(corner[0], right, random), inwards(corner[1], low, random)]
        });
        image.perspective(from, to, fill)
    })
}

/// Brightness, contrast and saturation by a factor within this of 1, and the hue within this of 0 (at most 0.5), in random
/// order. PyTorch: `ColorJitter`.
pub fn colour_jitter(brightness: f64, contrast: f64, saturation: f64, hue: f64) -> Transform {
    Transform::new(move |mut image, random| {
        let mut order = [0, 1, 2, 3];
        (1..4).rev().for_each(|last| order.swap(last, random.below(last as u32 + 1) as usize));
        for change in order {
            let factor = |random: &mut Philox, most: f64| between(random, [(1.0 - most).max(0.0), 1.0 + most]);
            image = match change {
                0 => image.brightness(factor(random, brightness)),
                1 => image.contrast(factor(random, contrast)),
                2 => image.saturation(factor(random, saturation)),
                _ => image.hue(between(random, [-hue, hue])),
            };
        }
        Ok(image)
    })
}

/// Grey in as many channels, with a probability. PyTorch: `RandomGrayscale`.
pub fn random_grey(probability: f64) -> Transform {
    Transform::new(|image, _| Ok(image.grey())).sometimes(probability)
}

/// Blurred with a sigma of this range. PyTorch: `GaussianBlur`.
pub fn blur(size: usize, sigma: [f64; 2]) -> Transform {
    Transform::new(move |image, random| image.blur(size, between(random, sigma)))
}

/// Normal noise of this standard deviation, kept in [0, 1]. PyTorch: `GaussianNoise`.
pub fn noise(deviation: f64) -> Transform {
    Transform::new(move |mut image, random| {
        let change =
            |value: &mut f32| *value = (f64::from(*value) + deviation * random.normal()).clamp(0.0, 1.0) as f32;
        image.values.iter_mut().for_each(change);
        Ok(image)
    })
}

/// A rectangle with a share `scale` of the area replaced by `fill`, with a probability. PyTorch: `RandomErasing`.
pub fn random_erasing(probability: f64, scale: [f64; 2], fill: f32) -> Transform {
    let ratio = [0.3f64.ln(), 3.3f64.ln()];
    let erase = move |image: Image, random: &mut Philox| {
        for _ in 0..10 {
            let area = (image.height * image.width) as f64 * between(random, scale);
            let ratio = between(random, ratio).exp();
            let [h, w] = [(area * ratio).sqrt(), (area / ratio).sqrt()].map(|side| side.round() as usize);
            if (1..image.height).contains(&h) && (1..image.width).contains(&w) {
                let (top, left) = (start(random, image.height, h), start(random, image.width, w));
                return image.erase(top, left, [h, w], fill);
            }
        }
        Ok(image)
    };
    Transform::new(erase).sometimes(probability)
}

/// See [`Image::normalise`]. PyTorch: `Normalize`.
pub fn normalise(mean: &[f32], deviation: &[f32]) -> Transform {
    let (mean, deviation) = (mean.to_vec(), deviation.to_vec());
    Transform::new(move |image, _| image.normalise(&mean, &deviation))
}

/// In this many channels: 1 (grey) or 3.
pub fn channels(count: usize) -> Transform {
    Transform::new(move |image, _| match count {
        1 => Ok(image.one_channel()),
        3 => Ok(image.three_channels()),
        _ => {
            let what = format!("an image of {count} channels");
            Err(Error::Data { what, next: "ask for 1 or 3" })
        }
    })
}
