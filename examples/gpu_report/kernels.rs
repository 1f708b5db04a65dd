//! Kernels alone: a copy, products, convolutions, what memory bounds, attention.

use anyhow::Result;
use kiln::Tensor;
use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::ops::conv2d::Conv2dOptions;
use kiln::prelude::*;

use crate::measure::Report;

/// What everything that memory bounds is compared with: reads and writes of floats, four at a time.
pub fn copy(report: &mut Report) -> Result<()> {
    let sizes: &[usize] = if report.quick { &[20] } else { &[22, 24, 26, 28] };
    for &size in sizes {
        let elements = 1 << size;
        if !report.has_time(&format!("2^{size} floats"), 0.3) {
            break;
        }
        let x = match report.random(&[elements], 1) {
            // What one buffer cannot hold is no fault of the device.
            Err(error) if matches!(error.downcast_ref(), Some(kiln::Error::Limit { .. })) => {
                report.leave_out(&format!("2^{size} floats: more than a buffer holds"));
                break;
            }
            x => x?,
        };
        let times = report.time(|| Ok(vec![-&x]))?;
        report.bytes(&format!("2^{size} floats"), 8.0 * elements as f64, times);
        let rate = 8.0 * elements as f64 / times.best;
        // Small ones may fit a cache: the largest that had time counts.
        report.copy = Some(rate);
        if times.best > 0.5 {
            break;
        }
    }
    Ok(())
}

fn product(report: &mut Report, name: &str, shapes: [&[usize]; 2], half: bool, rate: &mut f64) -> Result<()> {
    let [left, right] = shapes;
    let columns = right[right.len() - 1];
    let operations = 2.0 * (left.iter().product::<usize>() * columns) as f64;
    // Three calls at the rate of the one before, of operands that are made and read at a GB/s.
    let floats = (left.iter().product::<usize>() + right.iter().product::<usize>()) as f64;
    if !report.has_time(name, 0.2 + 3.0 * operations / *rate + 20e-9 * floats) {
        return Ok(());
    }
    let operand = |shape: &[usize], seed| -> Result<Tensor> {
        let stored = report.random(shape, seed)?;
        let stored = if half { stored.cast(DType::F16) } else { stored };
        report.device.eval(&[&stored])?;
        Ok(stored)
    };
    let (a, b) = (operand(left, 1)?, operand(right, 2)?);
    let times = report.time(|| Ok(vec![a.matmul(&b)]))?;
    report.operations(name, operations, times);
    if operations > 1e8 {
        *rate = operations / times.best;
    }
    Ok(())
}

pub fn products(report: &mut Report) -> Result<()> {
    let mut rate = 1e9;
    for size in [256, 512, 1024, 2048, 4096, 4095, 8192] {
        if report.quick && size > 512 {
            break;
        }
        product(report, &format!("{size}^3"), [&[size, size], &[size, size]], false, &mut rate)?;
    }
    product(report, "64 x 784 x 128", [&[64, 784], &[784, 128]], false, &mut rate)?;
    product(report, "64 of 256 x 64 x 256", [&[64, 256, 64], &[64, 64, 256]], false, &mut rate)?;
    product(report, "128 x 8192 x 128", [&[128, 8192], &[8192, 128]], false, &mut rate)?;
    product(report, "1 x 4096 x 4096", [&[1, 4096], &[4096, 4096]], false, &mut rate)
}

/// Operands in half precision, sums in f32.
pub fn half_products(report: &mut Report) -> Result<()> {
    let mut rate = 1e9;
    for size in [512, 1024, 4096, 8192] {
        if report.quick && size > 512 {
            break;
        }
        product(report, &format!("f16 {size}^3"), [&[size, size], &[size, size]], true, &mut rate)?;
    }
    Ok(())
}

/// The three passes of a convolution of 16 square images.
fn passes(report: &mut Report, [from, to]: [usize; 2], size: usize, kernel: usize, stride: usize) -> Result<()> {
    let batch = if report.quick { 1 } else { 16 };
    let name = format!("{kernel}x{kernel} {from} -> {to}, {size}^2{}", if stride > 1 { ", stride 2" } else { "" });
    let out = size.div_ceil(stride);
    let operations = 2.0 * (batch * to * out * out * from * kernel * kernel) as f64;
    let options = Conv2dOptions { stride: [stride; 2], padding: [kernel / 2; 2], ..Default::default() };
    let (x, w) = (report.random(&[batch, from, size, size], 1)?, report.random(&[to, from, kernel, kernel], 2)?);
    let dy = report.random(&[batch, to, out, out], 3)?;
    let mut guess = 0.2;
    for pass in ["forward", "data", "weight"] {
        let name = format!("{name} {pass}");
        if !report.has_time(&name, guess) {
            continue;
        }
        let times = report.time(|| {
            let [image, filter] = [(&x, pass == "data"), (&w, pass == "weight")]
                .map(|(tensor, is_wanted)| if is_wanted { tensor.variable() } else { tensor.clone() });
            let y = image.conv2d(&filter, &options);
            Ok(match pass {
                "forward" => vec![y],
                "data" => (y * &dy).sum_all().gradients(&[&image])?,
                _ => (y * &dy).sum_all().gradients(&[&filter])?,
            })
        })?;
        guess = 4.0 * times.best;
        report.operations(&name, operations, times);
    }
    Ok(())
}

pub fn convolutions(report: &mut Report) -> Result<()> {
    if report.quick {
        return passes(report, [16, 32], 16, 3, 1);
    }
    passes(report, [64; 2], 56, 3, 1)?;
    passes(report, [256; 2], 14, 3, 1)?;
    passes(report, [3, 64], 224, 7, 2)?;
    passes(report, [128; 2], 28, 3, 1)?;
    passes(report, [16, 32], 32, 3, 1)?;
    passes(report, [256; 2], 14, 1, 1)
}

/// What reads and writes little more than it must, as shares of the copy.
pub fn memory(report: &mut Report) -> Result<()> {
    let scale = if report.quick { 1 } else { 4 };
    for elements in [scale << 20, 3 * (1 << 20) + 8, 3 * (1 << 20) + 7] {
        if report.has_time("pointwise chain", 0.3) {
            let x = report.random(&[elements], 1)?;
            let times = report.time(|| Ok(vec![(&x * 1.1 + 0.1).gelu() * x.sigmoid() + &x]))?;
            report.bytes(&format!("pointwise chain of {elements}"), 8.0 * elements as f64, times);
        }
    }
    for side in [[512, 1024], [300, 700]] {
        adamw(report, side)?;
    }
    let rows = 1024 * scale;
    let x = report.random(&[rows, 1024], 1)?;
    let labels = report.device.labels(&vec![3; rows]);
    let pass = |x: &Tensor, function: &dyn Fn(&Tensor) -> Tensor| -> Result<Vec<Tensor>> {
        let x = x.variable();
        let y = function(&x);
        let mut results = y.square().sum_all().gradients(&[&x])?;
        results.push(y);
        Ok(results)
    };
    let (gain, shift) = (report.random(&[1024], 2)?, report.random(&[1024], 3)?);
    let elements = (rows * 1024) as f64;
    // Bytes: x, y, dy is made of y, and dx.
    type Function<'a> = (&'a str, f64, Box<dyn Fn(&Tensor) -> Tensor + 'a>);
    let all: [Function<'_>; 4] = [
        ("softmax of 1,024", 20.0, Box::new(|x| x.softmax(1))),
        ("cross-entropy, 1,024 classes", 12.0, Box::new(|x| x.cross_entropy_rows(&labels))),
        ("layer normalisation of 1,024", 20.0, Box::new(|x| x.layer_norm(1, Some(&gain), Some(&shift), 1e-5))),
        ("sums of rows", 12.0, Box::new(|x| x.sum(1))),
    ];
    for (name, bytes, function) in &all {
        if report.has_time(name, 0.3) {
            let times = report.time(|| pass(&x, function))?;
            report.bytes(&format!("{name}, both ways"), bytes * elements, times);
        }
    }
    let images = report.random(&[4 * scale, 64, 112, 112], 1)?;
    let elements = (4 * scale * 64 * 112 * 112) as f64;
    if report.has_time("max pooling", 0.3) {
        let times = report.time(|| pass(&images, &|x| x.max_pool2d([3, 3], [2, 2], [1, 1])))?;
        report.bytes("max pooling 3x3, stride 2, both ways", (4.0 + 1.0 + 4.0 + 1.0 + 4.0) * elements, times);
    }
    if report.has_time("batch normalisation", 0.3) {
        let times = report.time(|| pass(&images, &|x| x.batch_norm(None, None, 1e-5)))?;
        report.bytes("batch normalisation, both ways", 28.0 * elements, times);
    }
    Ok(())
}

/// 20 parameters of this shape.
fn adamw(report: &mut Report, shape: [usize; 2]) -> Result<()> {
    let name = format!("AdamW, 20 of {} x {}", shape[0], shape[1]);
    if !report.has_time(&name, 0.3) {
        return Ok(());
    }
    let params = ParamStore::new(&report.device, 1);
    let init = Init::Uniform { low: -1.0, high: 1.0 };
    let all: Vec<Param> = (0..20).map(|i| params.root().param(i, &shape, init)).collect();
    let gradients: Vec<Tensor> = (0..20).map(|i| report.random(&shape, i)).collect::<Result<_>>()?;
    let mut optimizer = AdamW::new(&params, AdamWConfig { lr: 1e-3, ..AdamWConfig::default() });
    let times = report.time_steps(|| {
        optimizer.step_with(all.iter().cloned().zip(gradients.iter().cloned()).collect())?;
        Ok(())
    })?;
    report.bytes(&name, 28.0 * 20.0 * (shape[0] * shape[1]) as f64, times);
    Ok(())
}

pub fn attention(report: &mut Report) -> Result<()> {
    let length = if report.quick { 128 } else { 1024 };
    let shape = [4, 8, length, 64];
    let [q, k, v] = [1, 2, 3].map(|seed| report.random(&shape, seed));
    let (q, k, v) = (q?, k?, v?);
    let operations = 4.0 * (4 * 8 * length * length * 64) as f64;
    for (form_name, form) in [("blocks", AttentionForm::Blocks), ("composed", AttentionForm::Composed)] {
        let options = AttentionOptions { form, ..Default::default() };
        if report.has_time(&format!("{form_name} forward"), 0.5) {
            let times = report.time(|| Ok(vec![q.scaled_dot_product_attention(&k, &v, &options)]))?;
            report.operations(&format!("{form_name}, {length} long, forward"), operations, times);
        }
        if report.has_time(&format!("{form_name} both ways"), 1.0) {
            let times = report.time(|| {
                let [q, k, v] = [&q, &k, &v].map(Tensor::variable);
                let y = q.scaled_dot_product_attention(&k, &v, &options);
                let mut results = y.square().sum_all().gradients(&[&q, &k, &v])?;
                results.push(y);
                Ok(results)
            })?;
            report.operations(&format!("{form_name}, {length} long, both ways"), 3.5 * operations, times);
        }
    }
    Ok(())
}
