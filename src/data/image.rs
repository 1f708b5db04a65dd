//! An image on the host, and where its pixels come from: sizes, cuts, turns.
//!
//! Positions count from the top left corner. Pixel (x, y) covers the square from there to (x + 1, y + 1): its centre is at
//! a half, as in PyTorch with `align_corners=False`.

use super::collate::{Collate, HostArray};
use crate::error::{Error, Result};

/// An image in memory: `[channels, height, width]`, f32, row-major, with values in [0, 1] for the transforms of colour.
///
/// That is the layout of a network's input, so a batch of images is an [`HostArray`] of `[n, channels, height, width]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Image {
    /// Channels: 1 is grey, 3 are red, green and blue.
    pub channels: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// The values, channel by channel.
    pub values: Vec<f32>,
}

impl Image {
    /// An image of these values.
    ///
    /// # Errors
    /// [`Error::Data`] unless there are `channels * height * width` values, at least one.
    pub fn new(channels: usize, height: usize, width: usize, values: Vec<f32>) -> Result<Image> {
        let count = channels.checked_mul(height).and_then(|count| count.checked_mul(width));
        if count != Some(values.len()) || values.is_empty() {
            let what = format!("{} values for an image of {channels}x{height}x{width}", values.len());
            return Err(Error::Data { what, next: "pass one value an element" });
        }
        Ok(Image { channels, height, width, values })
    }

    /// One channel after the other.
    pub(super) fn planes(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks_exact(self.height * self.width)
    }

    /// An image of another size, channel by channel.
    pub(super) fn of_planes(&self, [height, width]: [usize; 2], plane: impl Fn(&[f32], &mut Vec<f32>)) -> Image {
        let mut values = Vec::with_capacity(self.channels * height * width);
        self.planes().for_each(|own| plane(own, &mut values));
        Image { channels: self.channels, height, width, values }
    }

    /// Resized bilinearly; where it shrinks, each pixel is a weighted mean of all that it covers (antialiasing).
    ///
    /// PyTorch: `torchvision.transforms.v2.functional.resize(image, [height, width], antialias=True)`.
    ///
    /// # Errors
    /// [`Error::Data`] for a size of 0.
    pub fn resize(&self, [height, width]: [usize; 2]) -> Result<Image> {
        if height == 0 || width == 0 {
            let what = format!("an image of {height}x{width}");
            return Err(Error::Data { what, next: "resize to at least one pixel" });
        }
        let (rows, columns) = (taps(self.height, height), taps(self.width, width));
        Ok(self.of_planes([height, width], |plane, values| {
            let mut narrow = Vec::with_capacity(self.height * width);
            for row in plane.chunks_exact(self.width) {
                narrow.extend(columns.iter().map(|(first, weights)| {
                    row[*first..].iter().zip(weights).map(|(value, weight)| value * weight).sum::<f32>()
                }));
            }
            for (first, weights) in &rows {
                let start = values.len();
                values.resize(start + width, 0.0);
                for (row, weight) in narrow[first * width..].chunks_exact(width).zip(weights) {
                    values[start..].iter_mut().zip(row).for_each(|(sum, value)| *sum += value * weight);
                }
            }
        }))
    }

    /// Resized so that the shorter side has `side` pixels. PyTorch: `resize(image, side)`.
    ///
    /// # Errors
    /// As for [`Image::resize`].
    pub fn resize_shorter(&self, side: usize) -> Result<Image> {
        self.resize(shorter(self.height, self.width, side))
    }

    /// The part of `height` rows from `top` on, and `width` columns from `left` on.
    ///
    /// # Errors
    /// [`Error::Data`] unless it lies within the image and is not empty.
    pub fn crop(&self, top: usize, left: usize, [height, width]: [usize; 2]) -> Result<Image> {
        let fits =
            |start: usize, size: usize, whole| size > 0 && start.checked_add(size).is_some_and(|end| end <= whole);
        if !fits(top, height, self.height) || !fits(left, width, self.width) {
            let what = format!(
                "a part of {height}x{width} at row {top}, column {left} of an image of {}x{}",
                self.height, self.width
            );
            return Err(Error::Data { what, next: "take a smaller part, or resize or pad the image first" });
        }
        Ok(self.of_planes([height, width], |plane, values| {
            let rows = plane.chunks_exact(self.width).skip(top).take(height);
            rows.for_each(|row| values.extend_from_slice(&row[left..left + width]));
        }))
    }

    /// The middle part. PyTorch: `center_crop`, but for images that are too small.
    ///
    /// # Errors
    /// [`Error::Data`] if the image is smaller.
    pub fn centre_crop(&self, size: [usize; 2]) -> Result<Image> {
        let middle = |whole: usize, part: usize| (whole.saturating_sub(part) as f64 / 2.0).round_ties_even() as usize;
        self.crop(middle(self.height, size[0]), middle(self.width, size[1]), size)
    }

    /// With `border` more pixels of the value `fill` on each side.
    pub fn pad(&self, border: usize, fill: f32) -> Image {
        let (height, width) = (self.height + 2 * border, self.width + 2 * border);
        self.of_planes([height, width], |plane, values| {
            let start = values.len();
            values.resize(start + height * width, fill);
            for (y, row) in plane.chunks_exact(self.width).enumerate() {
                let at = start + (y + border) * width + border;
                values[at..at + self.width].copy_from_slice(row);
            }
        })
    }

    /// Left and right swapped. PyTorch: `horizontal_flip`.
    #[must_use]
    pub fn flip_horizontal(mut self) -> Image {
        self.values.chunks_exact_mut(self.width).for_each(<[f32]>::reverse);
        self
    }

    /// Top and bottom swapped. PyTorch: `vertical_flip`.
    #[must_use]
    pub fn flip_vertical(self) -> Image {
        self.of_planes([self.height, self.width], |plane, values| {
            plane.rchunks_exact(self.width).for_each(|row| values.extend_from_slice(row));
        })
    }

    /// Turned counter-clockwise around its centre, by `degrees`; its size stays, and `fill` comes in from outside.
    ///
    /// PyTorch: `rotate(image, degrees, InterpolationMode.BILINEAR)`.
    pub fn rotate(&self, degrees: f64, fill: f32) -> Image {
        self.affine(&Affine { degrees: -degrees, ..Affine::default() }, fill)
    }

    /// Sheared, scaled, turned around its centre and moved. PyTorch: `affine(.., InterpolationMode.BILINEAR)`.
    pub fn affine(&self, map: &Affine, fill: f32) -> Image {
        let [a, b, c, d] = map.inverse();
        let (cx, cy) = (self.width as f64 / 2.0, self.height as f64 / 2.0);
        self.warp(fill, |x, y| {
            let (x, y) = (x - cx - map.translate[0], y - cy - map.translate[1]);
            [a * x + b * y + cx, c * x + d * y + cy]
        })
    }

    /// Seen from the side: the corners `from` (x, y; top left, top right, bottom right, bottom left) come to lie at `to`.
    ///
    /// PyTorch: `perspective(image, from, to)`.
    ///
    /// # Errors
    /// [`Error::Data`] where three corners of `to` lie on a line.
    pub fn perspective(&self, from: [[f64; 2]; 4], to: [[f64; 2]; 4], fill: f32) -> Result<Image> {
        let [a, b, c, d, e, f, g, h] = homography(to, from).ok_or_else(|| {
            let what = format!("the corners {to:?} make no quadrilateral");
            Error::Data { what, next: "let no three corners lie on a line" }
        })?;
        Ok(self.warp(fill, |x, y| {
            let scale = 1.0 / (g * x + h * y + 1.0);
            [(a * x + b * y + c) * scale, (d * x + e * y + f) * scale]
        }))
    }

    /// Each pixel from where `place` says that its centre comes from, bilinearly; `fill` lies outside.
    fn warp(&self, fill: f32, place: impl Fn(f64, f64) -> [f64; 2]) -> Image {
        let (height, width) = (self.height, self.width);
        let mut values = vec![0.0; self.values.len()];
        let at = |plane: &[f32], x: f64, y: f64| {
            let inside = x >= 0.0 && y >= 0.0 && x < width as f64 && y < height as f64;
            if inside { plane[y as usize * width + x as usize] } else { fill }
        };
        for y in 0..height {
            for x in 0..width {
                let [fx, fy] = place(x as f64 + 0.5, y as f64 + 0.5).map(|at| at - 0.5);
                let (x0, y0) = (fx.floor(), fy.floor());
                let (wx, wy) = ((fx - x0) as f32, (fy - y0) as f32);
                for (channel, plane) in self.planes().enumerate() {
                    let top = at(plane, x0, y0) * (1.0 - wx) + at(plane, x0 + 1.0, y0) * wx;
                    let low = at(plane, x0, y0 + 1.0) * (1.0 - wx) + at(plane, x0 + 1.0, y0 + 1.0) * wx;
                    values[(channel * height + y) * width + x] = top * (1.0 - wy) + low * wy;
                }
            }
        }
        Image { values, ..*self }
    }
}

/// A shear, then a scale, then a turn, then a move.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    /// Clockwise.
    pub degrees: f64,
    /// Pixels to the right and down.
    pub translate: [f64; 2],
    /// Above 1 enlarges.
    pub scale: f64,
    /// Degrees, along x and along y.
    pub shear: [f64; 2],
}

impl Default for Affine {
    /// Nothing.
    fn default() -> Affine {
        Affine { degrees: 0.0, translate: [0.0; 2], scale: 1.0, shear: [0.0; 2] }
    }
}

impl Affine {
    /// The matrix from a place in the result, counted from the centre, to the one in the image.
    fn inverse(&self) -> [f64; 4] {
        let (turn, sx, sy) = (self.degrees.to_radians(), self.shear[0].to_radians(), self.shear[1].to_radians());
        let a = (turn - sy).cos() / sy.cos();
        let b = -a * sx.tan() - turn.sin();
        let c = (turn - sy).sin() / sy.cos();
        let d = -c * sx.tan() + turn.cos();
        // The determinant of turn and shear is 1.
        [d, -b, -c, a].map(|entry| entry / self.scale)
    }
}

/// Height and width once the shorter of them is `side`.
pub(super) fn shorter(height: usize, width: usize, side: usize) -> [usize; 2] {
    let long = |long: usize, short: usize| side.saturating_mul(long) / short;
    if height <= width { [side, long(width, height)] } else { [long(height, width), side] }
}

/// For each of `to` pixels of a row the first of `from` that counts, and the weights from there on.
fn taps(from: usize, to: usize) -> Vec<(usize, Vec<f32>)> {
    let scale = from as f64 / to as f64;
    let reach = scale.max(1.0);
    let one = |pixel: usize| {
        let centre = scale * (pixel as f64 + 0.5);
        let first = (centre - reach + 0.5).max(0.0) as usize;
        let end = ((centre + reach + 0.5) as usize).min(from);
        let weight = |place: usize| (1.0 - ((place as f64 + 0.5 - centre) / reach).abs()).max(0.0);
        let sum: f64 = (first..end).map(weight).sum();
        (first, (first..end).map(|place| (weight(place) / sum) as f32).collect())
    };
    (0..to).map(one).collect()
}

/// The eight numbers of the projection that takes the corners `from` to the corners `to`, by elimination.
fn homography(from: [[f64; 2]; 4], to: [[f64; 2]; 4]) -> Option<[f64; 8]> {
    let mut rows = [[0.0f64; 9]; 8];
    for (corner, ([x, y], [u, v])) in from.into_iter().zip(to).enumerate() {
        rows[2 * corner] = [x, y, 1.0, 0.0, 0.0, 0.0, -u * x, -u * y, u];
        rows[2 * corner + 1] = [0.0, 0.0, 0.0, x, y, 1.0, -v * x, -v * y, v];
    }
    for column in 0..8 {
        let pivot = (column..8).max_by(|&a, &b| rows[a][column].abs().total_cmp(&rows[b][column].abs()))?;
        rows.swap(column, pivot);
        let head = rows[column];
        if head[column].abs() < 1e-9 {
            return None;
        }
        for (_, row) in rows.iter_mut().enumerate().filter(|(number, _)| *number != column) {
            let factor = row[column] / head[column];
            row.iter_mut().zip(head).for_each(|(entry, of_head)| *entry -= factor * of_head);
        }
    }
    Some(std::array::from_fn(|place| rows[place][8] / rows[place][place]))
}

/// Images of one size become an array `[n, channels, height, width]`.
impl Collate for Image {
    type Batch = HostArray<f32>;

    fn collate(items: Vec<Self>) -> Result<HostArray<f32>> {
        let arrays = items
            .into_iter()
            .map(|image| HostArray { shape: vec![image.channels, image.height, image.width], values: image.values });
        HostArray::collate(arrays.collect())
    }
}
