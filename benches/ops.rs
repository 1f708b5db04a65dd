//! Times every op's cases, forward, and forward with gradients, on the best device.
//!
//! `cargo bench --bench ops -- Matmul` times the cases whose name contains a word; `beside` times convolutions over one and three
//! axes and transposed ones beside the one over two axes that does the same products, and poolings and sizes beside one another.

use criterion::{Criterion, criterion_group, criterion_main};
use kiln::ops::attention::{AttentionForm, AttentionOptions};
use kiln::ops::conv2d::{ConvOptions, TransposeOptions};
use kiln::ops::max_pool::MaxPoolOptions;
use kiln::ops::resample::{AvgPoolOptions, Interpolation};
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

/// What is timed with its gradients.
type Form = Box<dyn Fn(&[Tensor]) -> Tensor>;

/// A name, the shapes of inputs, and what is made of them.
type Side = (&'static str, Vec<Vec<usize>>, Form);

fn side(name: &'static str, inputs: &[&[usize]], form: impl Fn(&[Tensor]) -> Tensor + 'static) -> Side {
    (name, inputs.iter().map(|shape| shape.to_vec()).collect(), Box::new(form))
}

fn conv<const D: usize>(padding: [usize; D], stride: usize) -> impl Fn(&[Tensor]) -> Tensor {
    move |x| x[0].conv(&x[1], &ConvOptions { padding, stride: [stride; D], ..ConvOptions::default() })
}

fn transposed<const D: usize>(padding: [usize; D], stride: usize) -> impl Fn(&[Tensor]) -> Tensor {
    let output_padding = padding.map(|size| if size > 0 { stride - 1 } else { 0 });
    let options = TransposeOptions { padding, output_padding, stride: [stride; D], ..TransposeOptions::default() };
    move |x| x[0].conv_transpose(&x[1], &options)
}

fn attention(form: AttentionForm) -> impl Fn(&[Tensor]) -> Tensor {
    move |x| x[0].scaled_dot_product_attention(&x[1], &x[2], &AttentionOptions { form, ..AttentionOptions::default() })
}

/// Convolutions that do as many products as the first of their group, and what reads and writes images.
fn groups() -> Vec<(&'static str, Vec<Side>)> {
    let image: &[usize] = &[8, 32, 64, 64];
    let overlapping = MaxPoolOptions { stride: [2; 2], padding: [1; 2], ..MaxPoolOptions::new([3; 2]) };
    let size = &[128, 128];
    let long: &[&[usize]] = &[&[1, 4, 1024, 64], &[1, 4, 1024, 64], &[1, 4, 1024, 64]];
    vec![
        (
            "row",
            vec![
                side("two_axes", &[&[8, 64, 32, 32], &[64, 64, 1, 3]], conv([0, 1], 1)),
                side("one_axis", &[&[8, 64, 1024], &[64, 64, 3]], conv([1], 1)),
                side("transposed", &[&[8, 64, 1024], &[64, 64, 3]], transposed([1], 1)),
            ],
        ),
        (
            "image",
            vec![
                side("plain", &[&[4, 32, 32, 32], &[64, 32, 3, 3]], conv([1, 1], 1)),
                side("transposed", &[&[4, 64, 32, 32], &[64, 32, 3, 3]], transposed([1, 1], 1)),
            ],
        ),
        (
            "strided",
            vec![
                side("plain", &[&[4, 32, 64, 64], &[64, 32, 3, 3]], conv([1, 1], 2)),
                side("transposed", &[&[4, 64, 32, 32], &[64, 32, 3, 3]], transposed([1, 1], 2)),
            ],
        ),
        (
            "volume",
            vec![
                side("two_axes", &[&[16, 96, 24, 24], &[32, 96, 3, 3]], conv([1, 1], 1)),
                side("three_axes", &[&[2, 32, 8, 24, 24], &[32, 32, 3, 3, 3]], conv([1, 1, 1], 1)),
                side("transposed", &[&[2, 32, 8, 24, 24], &[32, 32, 3, 3, 3]], transposed([1, 1, 1], 1)),
            ],
        ),
        (
            "attention",
            vec![
                side("composed", long, attention(AttentionForm::Composed)),
                side("blocks", long, attention(AttentionForm::Blocks)),
            ],
        ),
        (
            "pool",
            vec![
                side("copy", &[image], |x| x[0].relu()),
                side("max_two_axes", &[image], |x| x[0].max_pool2d([2; 2], [2; 2], [0; 2])),
                side("max_any", &[image], |x| x[0].max_pool(&MaxPoolOptions::new([2; 2]))),
                side("max_two_axes_overlapping", &[image], |x| x[0].max_pool2d([3; 2], [2; 2], [1; 2])),
                side("max_any_overlapping", &[image], move |x| x[0].max_pool(&overlapping)),
                side("mean_two_axes", &[image], |x| x[0].avg_pool2d([2; 2], [2; 2], [0; 2], true)),
                side("mean_any", &[image], |x| x[0].avg_pool(&AvgPoolOptions::new([2; 2]))),
                side("mean_even", &[image], |x| x[0].adaptive_avg_pool([7, 7])),
            ],
        ),
        (
            "size",
            vec![
                side("nearest", &[image], |x| x[0].interpolate(size, Interpolation::Nearest)),
                side("bilinear", &[image], |x| x[0].interpolate(size, Interpolation::Linear { align_corners: false })),
                side("bicubic", &[image], |x| x[0].interpolate(size, Interpolation::Cubic { align_corners: false })),
                side("grid", &[&[2, 16, 32, 32], &[2, 32, 32, 2]], |x| x[0].grid_sample(&x[1], &Default::default())),
            ],
        ),
    ]
}

fn beside(criterion: &mut Criterion) {
    let device = Device::best().expect("a device");
    for (name, sides) in groups() {
        let mut group = criterion.benchmark_group(format!("beside/{name}"));
        group.sample_size(10).warm_up_time(std::time::Duration::from_millis(200));
        for (side, shapes, form) in sides {
            let inputs = shapes.iter().zip(1..).map(|(shape, seed)| device.normal(shape, 0.0, 0.5, seed).variable());
            let inputs: Vec<Tensor> = inputs.collect();
            group.bench_function(side, |bencher| {
                bencher.iter(|| {
                    let wrt: Vec<&Tensor> = inputs.iter().collect();
                    let gradients = form(&inputs).square().sum_all().gradients(&wrt).expect("gradients");
                    let all: Vec<&Tensor> = gradients.iter().collect();
                    device.eval(&all).and_then(|()| device.synchronize()).expect("a run");
                });
            });
        }
        group.finish();
    }
}

/// What grows with its length: gradients of embeddings, sorting. Beside a copy of as many bytes, and a sort on the host.
fn growth(criterion: &mut Criterion) {
    let device = Device::best().expect("a device");
    let mut rng = Philox::new(1, 0);
    let mut group = criterion.benchmark_group("growth");
    group.sample_size(10).warm_up_time(std::time::Duration::from_millis(100));
    group.measurement_time(std::time::Duration::from_secs(1));
    let run = |result: &Tensor| device.eval(&[result]).and_then(|()| device.synchronize()).expect("a run");
    let rows = 50_000;
    for (name, bound) in [("embedding_gradient", rows as u32), ("embedding_gradient_of_one", 1)] {
        let table = device.zeros(&[rows, 128]).variable();
        for count in [512, 2048, 8192, 65_536] {
            let index: Vec<u32> = (0..count).map(|_| rng.below(bound)).collect();
            let (index, weight) = (device.tensor(&index, &[count]), device.uniform(&[count, 128], 0.0, 1.0, 1));
            device.eval(&[&index, &weight, &table]).expect("inputs");
            group.bench_function(format!("{name}/{count}"), |bencher| {
                bencher.iter(|| {
                    let loss = (table.embedding(&index, None) * &weight).sum_all();
                    run(&loss.gradients(&[&table]).expect("a gradient")[0]);
                });
            });
        }
    }
    let moved = device.uniform(&[(rows + 65_536) / 2, 128], 0.0, 1.0, 1);
    device.eval(&[&moved]).expect("inputs");
    group.bench_function("copy", |bencher| bencher.iter(|| run(&(&moved * 1.0))));
    for count in [1024, 65_536, 1 << 20] {
        let values: Vec<f32> = (0..count).map(|_| rng.normal() as f32).collect();
        let keys = device.tensor(&values, &[count]);
        device.eval(&[&keys]).expect("inputs");
        group.bench_function(format!("sort/{count}"), |bencher| bencher.iter(|| run(&keys.sort(0, false))));
        let short = keys.reshape(&[count / 256, 256]);
        group.bench_function(format!("sort_rows/{count}"), |bencher| bencher.iter(|| run(&short.sort(1, false))));
        group.bench_function(format!("sort_on_host/{count}"), |bencher| {
            bencher.iter_batched(
                || values.clone(),
                |mut values| values.sort_unstable_by(f32::total_cmp),
                criterion::BatchSize::LargeInput,
            );
        });
    }
}

criterion_group!(benches, cases, beside, growth);
criterion_main!(benches);
