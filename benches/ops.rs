//! Times every op's cases, forward, and forward with gradients, on the best device.
//!
//! `cargo bench --bench ops -- Matmul` times the cases whose name contains a word.

use criterion::{Criterion, criterion_group, criterion_main};
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

criterion_group!(benches, cases);
criterion_main!(benches);
