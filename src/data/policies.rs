//! Augmentation by lists of changes: AutoAugment, RandAugment, TrivialAugment, AugMix.
//!
//! The lists and the ranges are those of the papers as torchvision has them. A shear is around the centre here.

use super::image::{Affine, Image};
use super::transforms::{Transform, between, coin};
use crate::error::Result;
use crate::rng::Philox;

/// A change whose strength is a share of its range.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Op {
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Colour,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
    Invert,
}

use Op::*;

/// What a share of 1 means.
#[derive(Debug, Clone, Copy)]
struct Ranges {
    shear: f64,
    /// A share of the side, or pixels.
    translate: Reach,
    degrees: f64,
    colour: f64,
    /// Bits at a share of 0, and how many fewer at 1.
    bits: [f64; 2],
}

#[derive(Debug, Clone, Copy)]
enum Reach {
    Share(f64),
    Pixels(f64),
}

const USUAL: Ranges =
    Ranges { shear: 0.3, translate: Reach::Share(150.0 / 331.0), degrees: 30.0, colour: 0.9, bits: [8.0, 4.0] };
const WIDE: Ranges =
    Ranges { shear: 0.99, translate: Reach::Pixels(32.0), degrees: 135.0, colour: 0.99, bits: [8.0, 6.0] };
const MIXED: Ranges = Ranges { translate: Reach::Share(1.0 / 3.0), bits: [4.0, 4.0], ..USUAL };

const ALL: [Op; 14] = [
    Identity,
    ShearX,
    ShearY,
    TranslateX,
    TranslateY,
    Rotate,
    Brightness,
    Colour,
    Contrast,
    Sharpness,
    Posterize,
    Solarize,
    AutoContrast,
    Equalize,
];

fn change(image: Image, op: Op, share: f64, ranges: &Ranges, random: &mut Philox) -> Image {
    // Drawn in any case: what a stream gives does not depend on the change.
    let sign = if coin(random) { -1.0 } else { 1.0 };
    let reach = |side: usize| match ranges.translate {
        Reach::Share(most) => (sign * share * most * side as f64).trunc(),
        Reach::Pixels(most) => (sign * share * most).trunc(),
    };
    let moved = |image: &Image, map: Affine| image.affine(&map, 0.0);
    let none = Affine::default();
    let shear = (sign * share * ranges.shear).atan().to_degrees();
    let factor = 1.0 + sign * share * ranges.colour;
    match op {
        Identity => image,
        ShearX => moved(&image, Affine { shear: [shear, 0.0], ..none }),
        ShearY => moved(&image, Affine { shear: [0.0, shear], ..none }),
        TranslateX => moved(&image, Affine { translate: [reach(image.width), 0.0], ..none }),
        TranslateY => moved(&image, Affine { translate: [0.0, reach(image.height)], ..none }),
        Rotate => image.rotate(sign * share * ranges.degrees, 0.0),
        Brightness => image.brightness(factor),
        Colour => image.saturation(factor),
        Contrast => image.contrast(factor),
        Sharpness => image.sharpness(factor),
        Posterize => image.posterize((ranges.bits[0] - (share * ranges.bits[1]).round()) as u32),
        Solarize => image.solarize(1.0 - share),
        AutoContrast => image.autocontrast(),
        Equalize => image.equalize(),
        Invert => image.invert(),
    }
}

fn choose<T: Copy>(random: &mut Philox, list: &[T]) -> T {
    list[random.below(list.len() as u32) as usize]
}

/// `count` changes of fourteen, each with the strength `magnitude` of 30. PyTorch: `RandAugment`, usually 2 and 9.
///
/// E. D. Cubuk, B. Zoph, J. Shlens and Q. V. Le, "RandAugment: practical automated data augmentation with a reduced search
/// space", 2019.
pub fn rand_augment(count: usize, magnitude: u32) -> Transform {
    let share = f64::from(magnitude.min(30)) / 30.0;
    Transform::new(move |image, random| {
        let step = |image, _| {
            let op = choose(random, &ALL);
            change(image, op, share, &USUAL, random)
        };
        Ok((0..count).fold(image, step))
    })
}

/// One change of fourteen with any strength, in wide ranges. PyTorch: `TrivialAugmentWide`.
///
/// S. G. Müller and F. Hutter, "TrivialAugment: tuning-free yet state-of-the-art data augmentation", ICCV 2021.
pub fn trivial_augment() -> Transform {
    Transform::new(|image, random| {
        let (op, share) = (choose(random, &ALL), f64::from(random.below(31)) / 30.0);
        Ok(change(image, op, share, &WIDE, random))
    })
}

/// Two changes, their probabilities, and their strengths of 9.
type Pair = [(Op, f64, u32); 2];

/// The policy that was found on ImageNet: 25 pairs. A strength of 0 stands where there is none.
const IMAGENET: [Pair; 25] = [
    [(Posterize, 0.4, 8), (Rotate, 0.6, 9)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
    [(Posterize, 0.6, 7), (Posterize, 0.6, 6)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Equalize, 0.4, 0), (Rotate, 0.8, 8)],
    [(Solarize, 0.6, 3), (Equalize, 0.6, 0)],
    [(Posterize, 0.8, 5), (Equalize, 1.0, 0)],
    [(Rotate, 0.2, 3), (Solarize, 0.6, 8)],
    [(Equalize, 0.6, 0), (Posterize, 0.4, 6)],
    [(Rotate, 0.8, 8), (Colour, 0.4, 0)],
    [(Rotate, 0.4, 9), (Equalize, 0.6, 0)],
    [(Equalize, 0.0, 0), (Equalize, 0.8, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Colour, 0.6, 4), (Contrast, 1.0, 8)],
    [(Rotate, 0.8, 8), (Colour, 1.0, 2)],
    [(Colour, 0.8, 8), (Solarize, 0.8, 7)],
    [(Sharpness, 0.4, 7), (Invert, 0.6, 0)],
    [(ShearX, 0.6, 5), (Equalize, 1.0, 0)],
    [(Colour, 0.4, 0), (Equalize, 0.6, 0)],
    [(Equalize, 0.4, 0), (Solarize, 0.2, 4)],
    [(Solarize, 0.6, 5), (AutoContrast, 0.6, 0)],
    [(Invert, 0.6, 0), (Equalize, 1.0, 0)],
    [(Colour, 0.6, 4), (Contrast, 1.0, 8)],
    [(Equalize, 0.8, 0), (Equalize, 0.6, 0)],
];

/// One of the 25 pairs of changes that were found on ImageNet. PyTorch: `AutoAugment(AutoAugmentPolicy.IMAGENET)`.
///
/// E. D. Cubuk, B. Zoph, D. Mané, V. Vasudevan and Q. V. Le, "AutoAugment: learning augmentation policies from data",
/// CVPR 2019.
pub fn auto_augment() -> Transform {
    Transform::new(|image, random| {
        let pair = choose(random, &IMAGENET);
        let step = |image, (op, probability, strength): (Op, f64, u32)| {
            if random.uniform() < probability {
                change(image, op, f64::from(strength) / 9.0, &USUAL, random)
            } else {
                image
            }
        };
        Ok(pair.into_iter().fold(image, step))
    })
}

/// The image mixed with `width` chains of one to three changes of a strength up to `severity` of 10; shares of the mixture
/// are drawn with `alpha` (usually 1). PyTorch: `AugMix`, usually with 3 and 3.
///
/// D. Hendrycks, N. Mu, E. D. Cubuk, B. Zoph, J. Gilmer and B. Lakshminarayanan, "AugMix: a simple data processing method
/// to improve robustness and uncertainty", ICLR 2020.
pub fn aug_mix(severity: u32, width: usize, alpha: f64) -> Transform {
    Transform::new(move |image: Image, random: &mut Philox| -> Result<Image> {
        let keep = beta(random, alpha);
        let gammas: Vec<f64> = (0..width).map(|_| gamma(random, alpha)).collect();
        let sum: f64 = gammas.iter().sum();
        let mut mixed: Vec<f32> = image.values.iter().map(|value| keep as f32 * value).collect();
        for own in gammas {
            let mut chain = image.clone();
            for _ in 0..1 + random.below(3) {
                let op = choose(random, &ALL[1..]);
                let share = between(random, [0.0, f64::from(severity.clamp(1, 10)) / 10.0]);
                chain = change(chain, op, share, &MIXED, random);
            }
            let share = ((1.0 - keep) * own / sum.max(f64::MIN_POSITIVE)) as f32;
            mixed.iter_mut().zip(&chain.values).for_each(|(sum, value)| *sum += share * value);
        }
        Ok(Image { values: mixed, ..image })
    })
}

/// A draw of the gamma distribution with scale 1 (Marsaglia and Tsang 2000).
pub(crate) fn gamma(random: &mut Philox, shape: f64) -> f64 {
    if shape < 1.0 {
        let power = (1.0 - random.uniform()).powf(1.0 / shape.max(1e-3));
        return gamma(random, shape.max(1e-3) + 1.0) * power;
    }
    let d = shape - 1.0 / 3.0;
    let c = 1.0 / (9.0 * d).sqrt();
    loop {
        let x = random.normal();
        let v = (1.0 + c * x).powi(3);
        if v > 0.0 && (1.0 - random.uniform()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
            return d * v;
        }
    }
}

/// A draw of the beta distribution with both parameters `alpha`.
pub(crate) fn beta(random: &mut Philox, alpha: f64) -> f64 {
    let (a, b) = (gamma(random, alpha), gamma(random, alpha));
    if a + b > 0.0 { a / (a + b) } else { 0.5 }
}
