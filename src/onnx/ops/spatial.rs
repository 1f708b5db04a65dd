//! Images sampled at places: grids, affine maps, regions.

use crate::dtype::DType;
use crate::onnx::call::{Call, Outcome, Row, one, sizes};
use crate::onnx::elem::Elem;
use crate::onnx::numbers::{Data, MOST, Numbers};
use crate::onnx::ops::linear::times;
use crate::onnx::trouble::{Trouble, unsupported, wrong};
use crate::ops::spatial::{GridSampleOptions, SampleMode, SamplePadding};
use crate::tensor::Tensor;

fn grid_sample(call: &Call<'_>) -> Outcome {
    let (x, grid, elem) = (call.tensor(0)?, call.tensor(1)?, call.elem(0)?);
    if call.shape(0)?.len() != 4 {
        return unsupported(format!("an image of shape {:?}", call.shape(0)?));
    }
    let mode = match call.text("mode", "linear")?.as_str() {
        "linear" | "bilinear" => SampleMode::Bilinear,
        "nearest" => SampleMode::Nearest,
        other => return unsupported(format!("mode `{other}`")),
    };
    let padding = match call.text("padding_mode", "zeros")?.as_str() {
        "zeros" => SamplePadding::Zeros,
        "border" => SamplePadding::Border,
        "reflection" => SamplePadding::Reflection,
        other => return unsupported(format!("padding_mode `{other}`")),
    };
    let options = GridSampleOptions { mode, padding, align_corners: call.flag("align_corners", false)? };
    one(x.grid_sample(&grid, &options), elem)
}

fn affine_grid(call: &Call<'_>) -> Outcome {
    let size = sizes(&call.wholes(1)?, "the size")?;
    one(call.tensor(0)?.affine_grid(&size, call.flag("align_corners", false)?), call.elem(0)?)
}

/// Weights of the points that a bin of a region averages, along one axis of an image: `[bins, length]`, for each point of a bin.
struct Points {
    bins: usize,
    each: usize,
    length: usize,
}

impl Points {
    /// The two elements around each point, and what they weigh; a point outside weighs nothing.
    fn of(&self, start: f64, size: f64) -> Vec<[(usize, f64); 2]> {
        let bin = size / self.bins as f64;
        let at = |number: usize| {
            let (bin_number, point) = (number / self.each, number % self.each);
            let at = start + bin * bin_number as f64 + (point as f64 + 0.5) * bin / self.each as f64;
            let length = self.length as f64;
            if !(-1.0..=length).contains(&at) {
                return [(0, 0.0); 2];
            }
            let at = at.clamp(0.0, length - 1.0);
            let low = at.floor();
            let high = (low + 1.0).min(length - 1.0);
            [(low as usize, 1.0 - (at - low)), (high as usize, at - low)]
        };
        (0..self.bins * self.each).map(at).collect()
    }
}

/// Means over the bins of regions of images, by the four pixels around each of a few points: `[regions, channels, height, width]`.
fn roi_align(call: &Call<'_>) -> Outcome {
    let (x, shape, elem) = (call.tensor(0)?, call.shape(0)?, call.elem(0)?);
    let &[_, channels, height, width] = &shape[..] else { return wrong(format!("an image of shape {shape:?}")) };
    let is_mean = match call.text("mode", "avg")?.as_str() {
        "avg" => true,
        "max" => false,
        other => return wrong(format!("mode is `{other}`")),
    };
    let (regions, images) = (call.known(1)?.reals(), sizes(&call.wholes(2)?, "batch_indices")?);
    if regions.len() != images.len() * 4 || images.is_empty() {
        return wrong(format!("{} numbers for {} regions", regions.len(), images.len()));
    }
    let out = |name: &str| Ok::<_, Trouble>(usize::try_from(call.int(name, 1)?).unwrap_or(1).max(1));
    let (rows, columns) = (out("output_height")?, out("output_width")?);
    let points = usize::try_from(call.int("sampling_ratio", 0)?).unwrap_or(0);
    let scale = call.float("spatial_scale", 1.0)?;
    let half = call.node.version >= 16 && call.text("coordinate_transformation_mode", "half_pixel")? == "half_pixel";
    let mut results = vec![];
    for (region, &image) in regions.chunks_exact(4).zip(&images) {
        let &[left, top, right, bottom] = region else { continue };
        let shift = if half { 0.5 } else { 0.0 };
        let (x0, y0) = (left * scale - shift, top * scale - shift);
        let least = if half { 0.0 } else { 1.0 };
        let size = |from: f64, to: f64| ((to - from) * scale).max(least);
        let (wide, high) = (size(left, right), size(top, bottom));
        let each =
            |size: f64, bins: usize| if points > 0 { points } else { (size / bins as f64).ceil().max(1.0) as usize };
        let (across, down) = (each(wide, columns), each(high, rows));
        // Weights of each point along an axis, and the region that comes out.
        let weights = |bins: usize, each: usize, length: usize| bins.saturating_mul(each).saturating_mul(length);
        let along = weights(rows, down, height).max(weights(columns, across, width));
        if along.max(rows.saturating_mul(columns)) > MOST {
            return unsupported(format!("a region of {wide} by {high} elements"));
        }
        let along_y = Points { bins: rows, each: down, length: height }.of(y0, high);
        let along_x = Points { bins: columns, each: across, length: width }.of(x0, wide);
        let matrix = |taps: &[[(usize, f64); 2]], length: usize| {
            let mut weights = vec![0.0; taps.len() * length];
            for (row, taps) in taps.iter().enumerate() {
                for &(at, weight) in taps {
                    if let Some(place) = weights.get_mut(row * length + at) {
                        *place += weight;
                    }
                }
            }
            Numbers::new(Elem::F32, vec![taps.len(), length], Data::Real(weights)).tensor(call.device)
        };
        let (over_y, over_x) = (matrix(&along_y, height)?, matrix(&along_x, width)?);
        let picture = x.select(0, image).cast(DType::F32);
        if is_mean {
            let sampled = times(&times(&over_y, &picture), &over_x.transpose(0, 1));
            let bins = sampled.reshape(&[channels, rows, down, columns, across]);
            results.push(bins.mean(&[2, 4]));
            continue;
        }
        // The largest of the four weighted pixels of each point.
        let pick = |taps: &[[(usize, f64); 2]], side: usize| -> (Vec<u32>, Vec<f64>) {
            taps.iter().filter_map(|taps| taps.get(side)).map(|&(at, weight)| (at as u32, weight)).unzip()
        };
        let mut largest: Option<Tensor> = None;
        for (side_y, side_x) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
            let ((ys, by_y), (xs, by_x)) = (pick(&along_y, side_y), pick(&along_x, side_x));
            let picked = picture
                .index_select(1, &call.device.tensor(&ys, &[ys.len()]))
                .index_select(2, &call.device.tensor(&xs, &[xs.len()]));
            let by_y = Numbers::new(Elem::F32, vec![by_y.len(), 1], Data::Real(by_y)).tensor(call.device)?;
            let by_x = Numbers::new(Elem::F32, vec![1, by_x.len()], Data::Real(by_x)).tensor(call.device)?;
            let weighted = picked * by_y * by_x;
            largest = Some(match largest {
                None => weighted,
                Some(largest) => largest.maximum(&weighted),
            });
        }
        let Some(largest) = largest else { continue };
        results.push(largest.reshape(&[channels, rows, down, columns, across]).max(&[2, 4]));
    }
    one(Tensor::stack(&results.iter().collect::<Vec<_>>(), 0).cast(elem.dtype()), elem)
}

/// Sampling.
pub const ROWS: &[Row] = &[
    Row::new("GridSample", grid_sample).with(&["align_corners", "mode", "padding_mode"]),
    Row::new("AffineGrid", affine_grid).with(&["align_corners"]).knows(&[1]),
    Row::new("RoiAlign", roi_align)
        .with(&[
            "coordinate_transformation_mode",
            "mode",
            "output_height",
            "output_width",
            "sampling_ratio",
            "spatial_scale",
        ])
        .knows(&[1, 2]),
];
