//! Convolution, pooling, interpolation and sampling (`scripts/values/spatial.py`).

use kiln::Tensor;
use kiln::ops::conv2d::{ConvOptions, Padding, TransposeOptions};
use kiln::ops::max_pool::MaxPoolOptions;
use kiln::ops::resample::{AvgPoolOptions, Interpolation};
use kiln::ops::spatial::{GridSampleOptions, SampleMode, SamplePadding};
use kiln::ops::unfold::UnfoldOptions;
use serde_json::Value;

use crate::{integer, integers, number};

/// A list of as many numbers as there are axes.
fn list<const D: usize>(attrs: &Value, key: &str) -> [usize; D] {
    integers(attrs, key).try_into().expect("a number for each axis")
}

/// The results of an op, or `None` for one that is not of this file.
pub fn apply(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Vec<Tensor>> {
    let axes = x[0].shape().expect("a valid input").len().saturating_sub(2);
    let windowed = match axes {
        1 => over_axes::<1>(op, attrs, x),
        2 => over_axes::<2>(op, attrs, x),
        _ => over_axes::<3>(op, attrs, x),
    };
    windowed.or_else(|| composed(op, attrs, x)).map(|result| vec![result])
}

/// What has options for each of `D` axes.
fn over_axes<const D: usize>(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Tensor> {
    let list = |key: &str| list::<D>(attrs, key);
    let pooled = || MaxPoolOptions::<D> {
        kernel: list("kernel"),
        stride: list("stride"),
        padding: list("padding"),
        dilation: list("dilation"),
        ceil: attrs["ceil"] == true,
    };
    let result = match op {
        "conv" => {
            let groups = integer(attrs, "groups");
            let (stride, padding, dilation) = (list("stride"), list("padding"), list("dilation"));
            x[0].conv(&x[1], &ConvOptions { stride, padding, dilation, groups })
        }
        "conv_sides" => {
            let options =
                ConvOptions { stride: list("stride"), dilation: list("dilation"), ..ConvOptions::<D>::default() };
            let side = |side: &Value| [0, 1].map(|k| side[k].as_u64().expect("a number of zeros") as usize);
            let padding = match attrs["sides"].as_array() {
                Some(sides) => Padding::Sides(std::array::from_fn(|axis| side(&sides[axis]))),
                None => Padding::Same,
            };
            x[0].conv_padded(&x[1], &options, &padding)
        }
        "conv_transpose" => {
            let options = TransposeOptions {
                stride: list("stride"),
                padding: list("padding"),
                output_padding: list("output_padding"),
                dilation: list("dilation"),
                groups: integer(attrs, "groups"),
            };
            x[0].conv_transpose(&x[1], &options)
        }
        "max_pool" => x[0].max_pool(&pooled()),
        "max_pool_places" => x[0].max_pool_with_indices(&pooled()).1,
        "adaptive_max_pool" => x[0].adaptive_max_pool(list("size")),
        "adaptive_max_pool_places" => x[0].adaptive_max_pool_with_indices(list("size")).1,
        "adaptive_avg_pool" => x[0].adaptive_avg_pool(list("size")),
        "avg_pool" => x[0].avg_pool(&AvgPoolOptions {
            kernel: list("kernel"),
            stride: list("stride"),
            padding: list("padding"),
            ceil: attrs["ceil"] == true,
            count_include_pad: attrs["count_include_pad"] == true,
        }),
        "lp_pool" => x[0].lp_pool(number(attrs, "p"), list("kernel"), list("stride"), attrs["ceil"] == true),
        "max_unpool" => x[0].max_unpool(&x[1], list("size")),
        _ => return None,
    };
    Some(result)
}

fn interpolation(attrs: &Value) -> Interpolation {
    let align_corners = attrs["align_corners"] == true;
    match attrs["mode"].as_str().expect("a mode") {
        "nearest" => Interpolation::Nearest,
        "nearest-exact" => Interpolation::NearestExact,
        "bicubic" => Interpolation::Cubic { align_corners },
        "area" => Interpolation::Area,
        _ => Interpolation::Linear { align_corners },
    }
}

fn composed(op: &str, attrs: &Value, x: &[Tensor]) -> Option<Tensor> {
    let power = || attrs["p"].as_f64().unwrap_or(f64::INFINITY);
    let windows = || UnfoldOptions::<2> {
        kernel: list(attrs, "kernel"),
        stride: list(attrs, "stride"),
        padding: list(attrs, "padding"),
        dilation: list(attrs, "dilation"),
    };
    let result = match op {
        "interpolate" => match attrs["factors"].as_array() {
            Some(factors) => {
                let factors: Vec<f64> = factors.iter().map(|factor| factor.as_f64().expect("a factor")).collect();
                x[0].interpolate_by(&factors, interpolation(attrs))
            }
            None => x[0].interpolate(&integers(attrs, "size"), interpolation(attrs)),
        },
        "unfold" => x[0].unfold(&windows()),
        "fold" => x[0].fold(list(attrs, "size"), &windows()),
        "pixel_shuffle" => x[0].pixel_shuffle(integer(attrs, "by")),
        "pixel_unshuffle" => x[0].pixel_unshuffle(integer(attrs, "by")),
        "channel_shuffle" => x[0].channel_shuffle(integer(attrs, "by")),
        "grid_sample" => {
            let options = GridSampleOptions {
                mode: if attrs["mode"] == "nearest" { SampleMode::Nearest } else { SampleMode::Bilinear },
                padding: match attrs["padding_mode"].as_str() {
                    Some("border") => SamplePadding::Border,
                    Some("reflection") => SamplePadding::Reflection,
                    _ => SamplePadding::Zeros,
                },
                align_corners: attrs["align_corners"] == true,
            };
            x[0].grid_sample(&x[1], &options)
        }
        "affine_grid" => x[0].affine_grid(&integers(attrs, "size"), attrs["align_corners"] == true),
        "instance_norm" => x[0].instance_norm(x.get(1), x.get(2), number(attrs, "eps")),
        "local_response_norm" => {
            let [alpha, beta, k] = ["alpha", "beta", "k"].map(|key| number(attrs, key));
            x[0].local_response_norm(integer(attrs, "size"), alpha, beta, k)
        }
        "normalize" => x[0].normalize(power(), integer(attrs, "axis"), number(attrs, "eps")),
        "cosine_similarity" => x[0].cosine_similarity(&x[1], integer(attrs, "axis"), number(attrs, "eps")),
        "pairwise_distance" => x[0].pairwise_distance(&x[1], power(), number(attrs, "eps")),
        "cdist" => x[0].cdist(&x[1], power()),
        _ => return None,
    };
    Some(result)
}
