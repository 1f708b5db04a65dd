//! Convolutions, poolings, interpolations.

use super::{Site, float, int, ints, text};
use crate::onnx::proto::AttributeProto;
use crate::onnx::writer::Writer;
use crate::ops::avg_pool2d::AvgPool2d;
use crate::ops::conv2d::{Conv2d, Conv2dDataGrad, Conv2dOptions};
use crate::ops::max_pool::MaxPool;
use crate::ops::max_pool2d::MaxPool2d;
use crate::ops::pool::Window;
use crate::ops::pool::spans::{Cut, Sliding, Span};
use crate::ops::resample::{Filter, Resample};

/// Ops that look at windows.
pub fn op(writer: &mut Writer<'_>, site: &Site<'_>) -> Option<Result<String, String>> {
    let x = site.name(0);
    if let Some(Conv2d { options, .. }) = site.is() {
        return Some(Ok(writer.add("Conv", &[x, site.name(1)], of_convolution(options))));
    }
    if let Some(Conv2dDataGrad { options, .. }) = site.is() {
        return Some(transposed(writer, site, options));
    }
    if let Some(MaxPool2d(window)) = site.is() {
        return Some(Ok(writer.add("MaxPool", &[x], of_window(window))));
    }
    if let Some(AvgPool2d { window, count_include_pad }) = site.is() {
        let mut attributes = of_window(window);
        attributes.push(int("count_include_pad", i64::from(*count_include_pad)));
        return Some(Ok(writer.add("AveragePool", &[x], attributes)));
    }
    if let Some(MaxPool { spans }) = site.is() {
        let all = site.all().filter_map(|node| super::op_of::<MaxPool>(node)).map(|pool| pool.spans);
        return Some(spanned("max_pool", spans, all).map(|attributes| writer.add("MaxPool", &[x], attributes)));
    }
    if let Some(Resample { filter, lines }) = site.is() {
        let all = site.all().filter_map(|node| super::op_of::<Resample>(node)).map(|op| op.lines.map(|line| line.span));
        return Some(match filter {
            Filter::Mean { count_padding } => {
                spanned("avg_pool", &lines.map(|line| line.span), all).map(|mut attributes| {
                    attributes.push(int("count_include_pad", i64::from(*count_padding)));
                    writer.add("AveragePool", &[x], attributes)
                })
            }
            _ => resized(writer, site, filter),
        });
    }
    None
}

fn of_convolution(options: &Conv2dOptions) -> Vec<AttributeProto> {
    let [height, width] = options.padding;
    vec![
        ints("strides", options.stride),
        ints("pads", [height, width, height, width]),
        ints("dilations", options.dilation),
        int("group", options.groups as i64),
    ]
}

fn of_window(window: &Window) -> Vec<AttributeProto> {
    let [height, width] = window.padding;
    vec![
        ints("kernel_shape", window.kernel),
        ints("strides", window.stride),
        ints("pads", [height, width, height, width]),
    ]
}

/// A transposed convolution: the gradient of one with respect to its images, of a size that several have.
fn transposed(writer: &mut Writer<'_>, site: &Site<'_>, options: &Conv2dOptions) -> Result<String, String> {
    let (from, to, kernel) = (site.input_lengths(0), site.lengths(), site.shape(1));
    let mut rests = vec![];
    for axis in 0..2 {
        let [stride, padding, dilation] =
            [options.stride[axis], options.padding[axis], options.dilation[axis]].map(|size| size as i64);
        let taps = kernel.get(2 + axis).map_or(1, |&length| length as i64);
        let least = |length: i64| (length - 1) * stride - 2 * padding + dilation * (taps - 1) + 1;
        let (Some(from), Some(to)) = (from.get(2 + axis), to.get(2 + axis)) else { return Err("axes".into()) };
        let left: Vec<i64> = from.iter().zip(to).map(|(&from, to)| to - least(from)).collect();
        match usize::try_from(left[0]) {
            Ok(rest) if left.iter().all(|other| *other == left[0]) => rests.push(rest),
            _ => return Err(format!("`conv_transpose`, whose rest depends on {}", writer.lengths())),
        }
    }
    let mut attributes = of_convolution(options);
    attributes.push(ints("output_padding", rests));
    Ok(writer.add("ConvTranspose", &[site.name(0), site.name(1)], attributes))
}

/// Windows along three axes; in each recording they must be the same, and reach as far.
fn spanned(name: &str, spans: &[Span; 3], all: impl Iterator<Item = [Span; 3]>) -> Result<Vec<AttributeProto>, String> {
    let mut windows = vec![];
    for span in spans {
        match span.cut {
            Cut::Sliding(slide) => windows.push(slide),
            Cut::Even => return Err(format!("`{name}` with windows as even as can be")),
        }
    }
    // A rest has a window of its own, or it has none.
    let more = |span: &Span, slide: &Sliding| {
        let long = (span.input + slide.before + slide.after).checked_sub(slide.reach());
        long.map(|long| span.output != long / slide.stride + 1)
    };
    let mut has_rest = false;
    for spans in all {
        for (span, slide) in spans.iter().zip(&windows) {
            if span.cut != Cut::Sliding(*slide) {
                return Err(format!("`{name}`, whose windows depend on the input's length"));
            }
            has_rest |= more(span, slide).unwrap_or(true);
        }
    }
    let of = |size: fn(&Sliding) -> usize| windows.iter().map(size).collect::<Vec<_>>();
    let mut attributes = vec![
        ints("kernel_shape", of(|slide| slide.kernel)),
        ints("strides", of(|slide| slide.stride)),
        ints("pads", [of(|slide| slide.before), of(|slide| slide.after)].concat()),
        int("ceil_mode", i64::from(has_rest)),
    ];
    if windows.iter().any(|slide| slide.dilation != 1) {
        attributes.push(ints("dilations", of(|slide| slide.dilation)));
    }
    Ok(attributes)
}

/// An interpolation to the size that the result has.
fn resized(writer: &mut Writer<'_>, site: &Site<'_>, filter: &Filter) -> Result<String, String> {
    let (mode, corners, places) = match *filter {
        Filter::Nearest { exact } => ("nearest", false, Some(exact)),
        Filter::Linear { corners } => ("linear", corners, None),
        Filter::Cubic { corners } => ("cubic", corners, None),
        Filter::Mean { .. } => return Err("`avg_pool`".into()),
    };
    let way = match (corners, places) {
        (true, _) => "align_corners",
        (false, Some(false)) => "asymmetric",
        (false, _) => "half_pixel",
    };
    let mut attributes = vec![text("mode", mode), text("coordinate_transformation_mode", way)];
    if let Some(exact) = places {
        attributes.push(text("nearest_mode", if exact { "round_prefer_ceil" } else { "floor" }));
    }
    if mode == "cubic" {
        attributes.push(float("cubic_coeff_a", -0.75));
    }
    // Of volumes, images have one slice: without it, which runtimes are faster by and some modes need.
    let (from, to) = (site.input_lengths(0), site.lengths());
    let is_image = [&from, &to].iter().all(|all| all.get(2).is_some_and(|axis| axis.iter().all(|&length| length == 1)));
    let two = writer.wholes(&[2]);
    if is_image {
        let x = writer.add("Squeeze", &[site.name(0), &two], vec![]);
        let flat: Vec<Vec<i64>> =
            to.iter().enumerate().filter(|(axis, _)| *axis != 2).map(|(_, of)| of.clone()).collect();
        let sizes = writer.numbers(&flat).map_err(|what| format!("an interpolation to {what}"))?;
        let y = writer.add("Resize", &[&x, "", "", &sizes], attributes);
        return Ok(writer.add("Unsqueeze", &[&y, &two], vec![]));
    }
    let sizes = writer.numbers(&to).map_err(|what| format!("an interpolation to {what}"))?;
    Ok(writer.add("Resize", &[site.name(0), "", "", &sizes], attributes))
}
