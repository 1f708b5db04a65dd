//! Images mixed with others of their batch, on the device: MixUp and CutMix, with targets that are shares of classes.

use crate::rng::Philox;
use crate::tensor::Tensor;

/// A batch of images and, for each, a share of every class: for [`Tensor::cross_entropy`]-like losses of soft targets
/// ([`Tensor::cross_entropy_with`]).
#[derive(Debug, Clone)]
pub struct Mixed {
    /// `[n, ..]`, as the images were.
    pub images: Tensor,
    /// `[n, classes]`; each row adds up to 1.
    pub targets: Tensor,
}

/// Each image mixed with another: `share` of its own and the rest of the other's, in values and in targets, where `share`
/// is drawn from the beta distribution with both parameters `alpha` (usually 0.2).
///
/// `targets` are shares of classes ([`Tensor::one_hot`] of labels). The draws are those of `random`: make it from the seed and the step, so
/// that a resumed run draws the same. PyTorch: `MixUp`.
///
/// H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: beyond empirical risk minimization", ICLR 2018.
///
/// # Errors
/// The results carry what is wrong with the shapes.
#[track_caller]
pub fn mix_up(images: &Tensor, targets: &Tensor, alpha: f64, random: &mut Philox) -> Mixed {
    let share = crate::data::beta(random, alpha);
    let others = others(images, random);
    let mix = |x: &Tensor| x * share + x.index_select(0, &others) * (1.0 - share);
    Mixed { images: mix(images), targets: mix(targets) }
}

/// Each image `[n, channels, height, width]` with a rectangle of another's, and targets by the shares of the area; the
/// share of the other image is drawn as for [`mix_up`] (`alpha` usually 1), the place uniformly. PyTorch: `CutMix`.
///
/// S. Yun, D. Han, S. J. Oh, S. Chun, J. Choe and Y. Yoo, "CutMix: regularization strategy to train strong classifiers with
/// localizable features", ICCV 2019.
///
/// # Errors
/// The results carry what is wrong with the shapes.
#[track_caller]
pub fn cut_mix(images: &Tensor, targets: &Tensor, alpha: f64, random: &mut Philox) -> Mixed {
    let share = crate::data::beta(random, alpha);
    let [_, _, height, width] = images.dims()[..] else {
        let broken = images.permute(&[0, 1, 2, 3]);
        return Mixed { images: broken.clone(), targets: broken };
    };
    let side = (1.0 - share).sqrt() / 2.0;
    let mut range = |whole: usize| {
        let (centre, half) = (random.below(whole as u32) as f64, (side * whole as f64).floor());
        [centre - half, centre + half].map(|end| end.clamp(0.0, whole as f64) as usize)
    };
    let ([top, low], [left, right]) = (range(height), range(width));
    let inside = |pixel: usize| (top..low).contains(&(pixel / width)) && (left..right).contains(&(pixel % width));
    let own: Vec<f32> = (0..height * width).map(|pixel| if inside(pixel) { 0.0 } else { 1.0 }).collect();
    let own = images.device().tensor(&own, &[1, 1, height, width]);
    let others = others(images, random);
    let share = 1.0 - ((low - top) * (right - left)) as f64 / (height * width) as f64;
    Mixed {
        images: images * &own + images.index_select(0, &others) * (1.0 - &own),
        targets: targets * share + targets.index_select(0, &others) * (1.0 - share),
    }
}

/// For each image the number of another: a random rotation of a random order.
fn others(images: &Tensor, random: &mut Philox) -> Tensor {
    let count = images.dims().first().copied().unwrap_or(0);
    let mut order: Vec<u32> = (0..count as u32).collect();
    (1..count).rev().for_each(|last| order.swap(last, random.below(last as u32 + 1) as usize));
    let mut others = order.clone();
    for (place, &index) in order.iter().enumerate() {
        others[index as usize] = order[(place + 1) % count];
    }
    images.device().labels(&others)
}
