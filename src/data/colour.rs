//! What changes the values of an image and not its places. Values are in [0, 1]; PyTorch's names are those of
//! `torchvision.transforms.v2.functional` for images of floats.

use super::image::Image;
use crate::error::{Error, Result};

/// Shares of red, green and blue in grey (ITU-R BT.601).
const GREY: [f32; 3] = [0.2989, 0.587, 0.114];

impl Image {
    fn each(mut self, change: impl Fn(f32) -> f32) -> Image {
        self.values.iter_mut().for_each(|value| *value = change(*value));
        self
    }

    /// Its grey values; its own where it has one channel.
    fn grey_values(&self) -> Vec<f32> {
        let pixels = self.height * self.width;
        if self.channels != 3 {
            return self.values[..pixels].to_vec();
        }
        let at = |pixel: usize| (0..3).map(|channel| GREY[channel] * self.values[channel * pixels + pixel]).sum();
        (0..pixels).map(at).collect()
    }

    /// `share` of this image and the rest of `other`, kept in [0, 1].
    fn blend(self, other: &[f32], share: f32) -> Image {
        let mut image = self;
        let others = other.iter().cycle();
        let mix = |(value, other): (&mut f32, &f32)| *value = (share * *value + (1.0 - share) * other).clamp(0.0, 1.0);
        image.values.iter_mut().zip(others).for_each(mix);
        image
    }

    /// Grey, in as many channels. PyTorch: `rgb_to_grayscale(image, 3)`.
    #[must_use]
    pub fn grey(self) -> Image {
        let values = self.grey_values().repeat(self.channels);
        Image { values, ..self }
    }

    /// In one channel. PyTorch: `rgb_to_grayscale(image, 1)`.
    #[must_use]
    pub fn one_channel(self) -> Image {
        Image { values: self.grey_values(), channels: 1, ..self }
    }

    /// In three channels: grey three times; the first three of more.
    #[must_use]
    pub fn three_channels(self) -> Image {
        let pixels = self.height * self.width;
        let values =
            if self.channels < 3 { self.values[..pixels].repeat(3) } else { self.values[..3 * pixels].to_vec() };
        Image { values, channels: 3, ..self }
    }

    /// `factor` times as bright. PyTorch: `adjust_brightness`.
    #[must_use]
    pub fn brightness(self, factor: f64) -> Image {
        self.each(|value| (value * factor as f32).clamp(0.0, 1.0))
    }

    /// `factor` times as far from its mean grey. PyTorch: `adjust_contrast`.
    #[must_use]
    pub fn contrast(self, factor: f64) -> Image {
        let grey = self.grey_values();
        let mean = grey.iter().map(|&value| f64::from(value)).sum::<f64>() / grey.len() as f64;
        self.blend(&[mean as f32], factor as f32)
    }

    /// `factor` times as far from its grey. PyTorch: `adjust_saturation`.
    #[must_use]
    pub fn saturation(self, factor: f64) -> Image {
        let grey = self.grey_values();
        self.blend(&grey, factor as f32)
    }

    /// Its colours turned by `turn` of the circle, -0.5 to 0.5; grey stays. PyTorch: `adjust_hue`.
    #[must_use]
    pub fn hue(mut self, turn: f64) -> Image {
        let pixels = self.height * self.width;
        if self.channels != 3 {
            return self;
        }
        for pixel in 0..pixels {
            let rgb = [0, 1, 2].map(|channel| self.values[channel * pixels + pixel]);
            let turned = turn_hue(rgb, turn as f32);
            (0..3).for_each(|channel| self.values[channel * pixels + pixel] = turned[channel]);
        }
        self
    }

    /// To the power of `gamma`. PyTorch: `adjust_gamma`.
    #[must_use]
    pub fn gamma(self, gamma: f64) -> Image {
        self.each(|value| value.powf(gamma as f32).clamp(0.0, 1.0))
    }

    /// PyTorch: `invert`.
    #[must_use]
    pub fn invert(self) -> Image {
        self.each(|value| 1.0 - value)
    }

    /// Inverted from `threshold` on. PyTorch: `solarize`.
    #[must_use]
    pub fn solarize(self, threshold: f64) -> Image {
        self.each(|value| if value >= threshold as f32 { 1.0 - value } else { value })
    }

    /// In 2^`bits` steps. PyTorch: `posterize`.
    #[must_use]
    pub fn posterize(self, bits: u32) -> Image {
        let levels = (1u32 << bits.min(8)) as f32;
        self.each(|value| (value * levels).floor().clamp(0.0, levels - 1.0) / levels)
    }

    /// Each channel stretched to [0, 1]. PyTorch: `autocontrast`.
    #[must_use]
    pub fn autocontrast(mut self) -> Image {
        for plane in self.values.chunks_exact_mut(self.height * self.width) {
            let low = plane.iter().copied().fold(f32::INFINITY, f32::min);
            let high = plane.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            if high > low {
                plane.iter_mut().for_each(|value| *value = ((*value - low) / (high - low)).clamp(0.0, 1.0));
            }
        }
        self
    }

    /// Each channel in 256 steps that are about equally frequent. PyTorch: `equalize`.
    #[must_use]
    pub fn equalize(mut self) -> Image {
        for plane in self.values.chunks_exact_mut(self.height * self.width) {
            let level = |value: f32| (value * 255.999).clamp(0.0, 255.0) as usize;
            let mut counts = [0usize; 256];
            plane.iter().for_each(|&value| counts[level(value)] += 1);
            let last = counts.iter().rposition(|&count| count > 0).map_or(0, |last| counts[last]);
            let step = (plane.len() - last) / 255;
            let mut table = [0.0f32; 256];
            let mut sum = 0;
            for (entry, (place, count)) in table.iter_mut().zip(counts.iter().enumerate()) {
                // A channel of few pixels, or of one value, has no steps.
                let even = (sum + step / 2).checked_div(step).map_or(place, |level| level.min(255));
                *entry = even as f32 / 255.0;
                sum += count;
            }
            plane.iter_mut().for_each(|value| *value = table[level(*value)]);
        }
        self
    }

    /// Blurred with a Gaussian of `sigma` pixels over `size` pixels (odd), mirrored at the border. PyTorch: `gaussian_blur`.
    ///
    /// # Errors
    /// [`Error::Data`] for an even size, one whose half reaches over a side, and a sigma that is not above 0.
    pub fn blur(&self, size: usize, sigma: f64) -> Result<Image> {
        let half = size / 2;
        if size.is_multiple_of(2) || half >= self.height.min(self.width) || sigma.is_nan() || sigma <= 0.0 {
            let what = format!("a blur of {size} pixels and sigma {sigma} on {}x{}", self.height, self.width);
            return Err(Error::Data { what, next: "pass an odd size below twice the image, and a sigma above 0" });
        }
        let weight = |place: usize| (-0.5 * ((place as f64 - half as f64) / sigma).powi(2)).exp();
        let sum: f64 = (0..size).map(weight).sum();
        let weights: Vec<f32> = (0..size).map(|place| (weight(place) / sum) as f32).collect();
        // Mirrored without the border itself.
        let mirror = |at: usize, side: usize| {
            let at = at.abs_diff(half);
            if at < side { at } else { 2 * (side - 1) - at }
        };
        let before = |at: usize| at < half;
        let source = |at: usize, side: usize| if before(at) { half - at } else { mirror(at, side) };
        Ok(self.of_planes([self.height, self.width], |plane, values| {
            let mut rows = Vec::with_capacity(plane.len());
            for row in plane.chunks_exact(self.width) {
                rows.extend((0..self.width).map(|x| {
                    weights.iter().enumerate().map(|(tap, w)| w * row[source(x + tap, self.width)]).sum::<f32>()
                }));
            }
            for y in 0..self.height {
                let start = values.len();
                values.resize(start + self.width, 0.0);
                for (tap, weight) in weights.iter().enumerate() {
                    let row = &rows[source(y + tap, self.height) * self.width..][..self.width];
                    values[start..].iter_mut().zip(row).for_each(|(sum, value)| *sum += weight * value);
                }
            }
        }))
    }

    /// `factor` times as far from a light blur; 0 is the blur, 1 the image. PyTorch: `adjust_sharpness`.
    #[must_use]
    pub fn sharpness(self, factor: f64) -> Image {
        if self.height < 3 || self.width < 3 {
            return self;
        }
        let width = self.width;
        let mut soft = self.values.clone();
        let size = self.height * width;
        for (channel, plane) in self.planes().enumerate() {
            for y in 1..self.height - 1 {
                for x in 1..width - 1 {
                    let around: f32 = (0..9).map(|tap| plane[(y + tap / 3 - 1) * width + x + tap % 3 - 1]).sum();
                    soft[channel * size + y * width + x] = (around + 4.0 * plane[y * width + x]) / 13.0;
                }
            }
        }
        self.blend(&soft, factor as f32)
    }

    /// Less the mean of each channel, over its standard deviation. PyTorch: `normalize`.
    ///
    /// # Errors
    /// [`Error::Data`] unless there is one of each a channel, and no deviation is 0.
    pub fn normalise(mut self, mean: &[f32], deviation: &[f32]) -> Result<Image> {
        if mean.len() != self.channels || deviation.len() != self.channels || deviation.contains(&0.0) {
            let what = format!("means {mean:?} and deviations {deviation:?} for {} channels", self.channels);
            return Err(Error::Data { what, next: "pass one of each a channel, and no deviation of 0" });
        }
        for (channel, plane) in self.values.chunks_exact_mut(self.height * self.width).enumerate() {
            plane.iter_mut().for_each(|value| *value = (*value - mean[channel]) / deviation[channel]);
        }
        Ok(self)
    }

    /// With a rectangle of the value `fill`. PyTorch: `erase`.
    ///
    /// # Errors
    /// As for [`Image::crop`].
    pub fn erase(mut self, top: usize, left: usize, size: [usize; 2], fill: f32) -> Result<Image> {
        // The same demand on the rectangle.
        self.crop(top, left, size)?;
        for plane in self.values.chunks_exact_mut(self.height * self.width) {
            let rows = plane.chunks_exact_mut(self.width).skip(top).take(size[0]);
            rows.for_each(|row| row[left..left + size[1]].fill(fill));
        }
        Ok(self)
    }
}

/// A colour with its hue turned, by way of hue, saturation and value.
fn turn_hue([r, g, b]: [f32; 3], turn: f32) -> [f32; 3] {
    let (high, low) = (r.max(g).max(b), r.min(g).min(b));
    let range = high - low;
    if range == 0.0 {
        return [r, g, b];
    }
    let sector = if high == r {
        (g - b) / range
    } else if high == g {
        2.0 + (b - r) / range
    } else {
        4.0 + (r - g) / range
    };
    let hue = (sector / 6.0 + turn).rem_euclid(1.0) * 6.0;
    // Each channel is a trapezium of the hue: full for two sixths, empty for two.
    [5.0, 3.0, 1.0].map(|shift: f32| {
        let place = (shift + hue).rem_euclid(6.0);
        high - range * place.min(4.0 - place).clamp(0.0, 1.0)
    })
}
