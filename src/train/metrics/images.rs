//! Metrics of images beside their originals.

use std::panic::Location;

use super::regression::alike;
use super::{Figure, Metric, Observation, Totals};
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::ops::conv2d::Conv2dOptions;
use crate::tensor::Tensor;

/// Width of the window of [`Ssim`], and its standard deviation in pixels.
const WINDOW: usize = 11;
const DEVIATION: f64 = 1.5;
/// Constants of [`Ssim`] that keep it from dividing by nearly nothing, as shares of the range.
const K: [f64; 2] = [0.01, 0.03];

/// Peak signal-to-noise ratio in decibels, `10 log10(range^2 / MSE)`: of each image, and the mean over all of them.
///
/// Predictions and targets are floats of one shape, `[n, ..]`. Infinite where an image equals its original; NaN before the
/// first batch. scikit-image: `peak_signal_noise_ratio`.
#[derive(Debug, Clone, Copy)]
pub struct Psnr {
    range: f64,
}

impl Psnr {
    /// Of values whose distance is at most `range`: 1 for images from 0 to 1, 255 for bytes.
    pub fn new(range: f64) -> Psnr {
        Psnr { range }
    }
}

impl Metric for Psnr {
    fn name(&self) -> String {
        "psnr".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [predictions, targets] = alike("Psnr", predictions, targets)?;
        let images = targets.dims().first().copied().unwrap_or(1);
        let errors = (&predictions - &targets).square().reshape(&[images, targets.dims().elements() / images]).mean(1);
        let decibels = (errors.log10() * -1.0 + 2.0 * self.range.log10()) * 10.0;
        let sums = Some(decibels.sum_all().reshape(&[1]));
        Ok(Observation { items: images as u64, sums, ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        Ok(Figure::new(totals.sum(0)? / totals.items as f64))
    }
}

/// Structural similarity, at most 1: of each image, over all places where the window, a Gaussian of 11 pixels with
/// deviation 1.5, fits into it, and the mean over channels and images.
///
/// Predictions and targets are floats, `[n, channels, h, w]`, with `h` and `w` of at least 11. NaN before the first batch.
/// scikit-image: `structural_similarity` with `gaussian_weights=True, sigma=1.5, use_sample_covariance=False`.
///
/// Z. Wang, A. C. Bovik, H. R. Sheikh and E. P. Simoncelli, "Image quality assessment: from error visibility to structural
/// similarity", IEEE Transactions on Image Processing 13, 2004.
#[derive(Debug, Clone, Copy)]
pub struct Ssim {
    range: f64,
}

impl Ssim {
    /// Of values whose distance is at most `range`.
    pub fn new(range: f64) -> Ssim {
        Ssim { range }
    }
}

impl Metric for Ssim {
    fn name(&self) -> String {
        "ssim".into()
    }

    fn observe(&self, predictions: &Tensor, targets: &Tensor, _: Option<&Tensor>) -> Result<Observation> {
        let [x, y] = alike("Ssim", predictions, targets)?;
        let [n, channels, h, w] = match x.dims()[..] {
            [n, channels, h, w] if h >= WINDOW && w >= WINDOW => [n, channels, h, w],
            _ => {
                let what = format!("images of shape {}, where [n, channels, h, w] from 11 x 11 on is wanted", x.dims());
                let next = "give images a batch and a channel axis, and at least the size of the window";
                return Err(Error::Shape { op: "Ssim", at: Location::caller(), what, next });
            }
        };
        // Around the middle of the range: squares keep more digits there.
        let middle = self.range / 2.0;
        let [x, y] = [x, y].map(|x| x.reshape(&[n * channels, 1, h, w]) - middle);
        let all = Tensor::concat(&[&x, &y, &x.square(), &y.square(), &(&x * &y)], 0);
        let (rows, columns) = self.windows(&all);
        let blurred = all.conv2d(&rows, &Conv2dOptions::default()).conv2d(&columns, &Conv2dOptions::default());
        let [mean_x, mean_y, xx, yy, xy] = std::array::from_fn(|k| blurred.slice(0, k * n * channels, n * channels));
        let (var_x, var_y) = (xx - mean_x.square(), yy - mean_y.square());
        let covariance = xy - &mean_x * &mean_y;
        let [mean_x, mean_y] = [mean_x + middle, mean_y + middle];
        let [c1, c2] = K.map(|k| (k * self.range).powi(2));
        let above = (&mean_x * &mean_y * 2.0 + c1) * (covariance * 2.0 + c2);
        let below = (mean_x.square() + mean_y.square() + c1) * (var_x + var_y + c2);
        let sum = (above / below).mean(&[1, 2, 3]).sum_all() / channels as f64;
        Ok(Observation { items: n as u64, sums: Some(sum.reshape(&[1])), ..Observation::default() })
    }

    fn figure(&self, totals: &Totals) -> Result<Figure> {
        Ok(Figure::new(totals.sum(0)? / totals.items as f64))
    }
}

impl Ssim {
    /// The window along each axis, as filters.
    fn windows(&self, beside: &Tensor) -> (Tensor, Tensor) {
        let half = (WINDOW / 2) as f64;
        let weights: Vec<f64> = (0..WINDOW).map(|i| (-0.5 * ((i as f64 - half) / DEVIATION).powi(2)).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let data: Vec<f64> = weights.iter().map(|weight| weight / sum).collect();
        let window = super::accumulate::array(&[1, 1, WINDOW, 1], DType::F32, data);
        let rows = beside.device().array(&window);
        let columns = rows.permute(&[0, 1, 3, 2]);
        (rows, columns)
    }
}
