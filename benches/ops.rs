//! Times every op's cases, forward, and forward with gradients, on the best device.
//!
//! `cargo bench --bench ops -- Matmul` times the cases whose name contains a word; `beside` times convolutions over one and three
//! axes and transposed ones beside the one over two axes that does the same products.

use criterion::{Criterion, criterion_group, criterion_main};
use kiln::ops::conv2d::{ConvOptions, TransposeOptions};
use kiln::ops::{CaseInput, Draw, all_cases};
use kiln::rng::Philox;
use kiln::{Array, DType, Device, Shape, Tensor};

fn draw(input: &CaseInput, rng: &mut Philox) -> Array {
    let shape = Shape::new(&input.shape).expect("a case's shape");
    let value = |i: usize, rng: &mut Philox| match &input.draw {
        Draw::Normal => rng.normal(),
        Draw::Uniform(low, high) => low + (high - low) * rng.uniform(),
        Draw::Below(bound) => f64::from(rng.below(*bound)),
        Draw::Values(values) => values[i % values.len()],
        Draw::Distinct => (i as f64 + 0.25) / 32.0,
    };
    let data = (0..shape.elements()).map(|i| input.dtype.round(value(i, rng))).collect();
    Array { shape, dtype: input.dtype, data }
}

fn cases(criterion: &mut Criterion) {
    let device = Device::best().expect("a device");
    println!("on {}", device.info());
    for case in all_cases() {
        let mut rng = Philox::new(1, 0);
        let inputs: Vec<Array> = case.inputs.iter().map(|input| draw(input, &mut rng)).collect();
        let tensors: Vec<Tensor> = inputs
            .iter()
            .map(|array| match array.dtype {
                DType::F32 if case.differentiable => device.array(array).variable(),
                _ => device.array(array),
            })
            .collect();
        let mut group = criterion.benchmark_group(&case.name);
        group.sample_size(10).warm_up_time(std::time::Duration::from_millis(50));
        group.measurement_time(std::time::Duration::from_millis(300));
        group.bench_function("forward", |bencher| {
            bencher.iter(|| {
                let result = (case.build)(&tensors);
                device.eval(&[&result]).and_then(|()| device.synchronize()).expect("a run");
            });
        });
        if case.differentiable {
            group.bench_function("gradients", |bencher| {
                bencher.iter(|| {
                    let wrt: Vec<&Tensor> = tensors.iter().filter(|tensor| tensor.requires_grad()).collect();
                    let gradients = (case.build)(&tensors).sum_all().gradients(&wrt).expect("gradients");
                    let all: Vec<&Tensor> = gradients.iter().collect();
                    device.eval(&all).and_then(|()| device.synchronize()).expect("a run");
                });
            });
        }
        group.finish();
    }
}

/// A convolution's forward pass with its two gradients.
type Convolve = Box<dyn Fn(&Tensor, &Tensor) -> Tensor>;

fn conv<const D: usize>(padding: [usize; D], stride: usize) -> Convolve {
    Box::new(move |x, w| x.conv(w, &ConvOptions { padding, stride: [stride; D], ..ConvOptions::default() }))
}

fn transposed<const D: usize>(padding: [usize; D], stride: usize) -> Convolve {
    let output_padding = padding.map(|size| if size > 0 { stride - 1 } else { 0 });
    let options = TransposeOptions { padding, output_padding, stride: [stride; D], ..TransposeOptions::default() };
    Box::new(move |x, w| x.conv_transpose(w, &options))
}

/// Convolutions that do as many products as the first of their group.
fn beside(criterion: &mut Criterion) {
    let device = Device::best().expect("a device");
    let side =
        |name: &'static str, x: &[usize], w: &[usize], convolve: Convolve| (name, x.to_vec(), w.to_vec(), convolve);
    let groups = [
        (
            "row",
            vec![
                side("two_axes", &[8, 64, 32, 32], &[64, 64, 1, 3], conv([0, 1], 1)),
                side("one_axis", &[8, 64, 1024], &[64, 64, 3], conv([1], 1)),
                side("transposed", &[8, 64, 1024], &[64, 64, 3], transposed([1], 1)),
            ],
        ),
        (
            "image",
            vec![
                side("plain", &[4, 32, 32, 32], &[64, 32, 3, 3], conv([1, 1], 1)),
                side("transposed", &[4, 64, 32, 32], &[64, 32, 3, 3], transposed([1, 1], 1)),
            ],
        ),
        (
            "strided",
            vec![
                side("plain", &[4, 32, 64, 64], &[64, 32, 3, 3], conv([1, 1], 2)),
                side("transposed", &[4, 64, 32, 32], &[64, 32, 3, 3], transposed([1, 1], 2)),
            ],
        ),
        (
            "volume",
            vec![
                side("two_axes", &[16, 96, 24, 24], &[32, 96, 3, 3], conv([1, 1], 1)),
                side("three_axes", &[2, 32, 8, 24, 24], &[32, 32, 3, 3, 3], conv([1, 1, 1], 1)),
                side("transposed", &[2, 32, 8, 24, 24], &[32, 32, 3, 3, 3], transposed([1, 1, 1], 1)),
            ],
        ),
    ];
    for (name, sides) in groups {
        let mut group = criterion.benchmark_group(format!("beside/{name}"));
        group.sample_size(10).warm_up_time(std::time::Duration::from_millis(200));
        for (side, x, w, convolve) in sides {
            let [x, w] = [(&x, 1), (&w, 2)].map(|(shape, seed)| device.normal(shape, 0.0, 1.0, seed).variable());
            group.bench_function(side, |bencher| {
                bencher.iter(|| {
                    let y = convolve(&x, &w);
                    let gradients = y.square().sum_all().gradients(&[&x, &w]).expect("gradients");
                    let all: Vec<&Tensor> = gradients.iter().collect();
                    device.eval(&all).and_then(|()| device.synchronize()).expect("a run");
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, cases, beside);
criterion_main!(benches);
