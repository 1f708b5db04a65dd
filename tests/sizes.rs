//! Sizes whose sums and products overflow are errors, on a GPU and on the reference; draws stay within their bounds.

mod common;

use kiln::prelude::*;
use kiln::rng::Philox;

/// The error that `build` carries on the GPU and on the reference.
fn error(build: impl Fn(&Device) -> Tensor) -> Error {
    let [one, other] = [common::gpu(), Device::cpu()].map(|device| match build(&device).to_array() {
        Ok(array) => panic!("no error, but {array:?}"),
        Err(error) => error,
    });
    assert_eq!(one.to_string(), other.to_string());
    one
}

#[test]
fn uniform_draws_stay_below_their_upper_bound() {
    // The last of these draws is above 1 - 2^-25, and rounds to 1 in f32: one in 33 million is.
    let (seed, count) = (884, 7740);
    let (low, high) = (0.0, 1.0);
    for device in [common::gpu(), Device::cpu()] {
        let found = device.uniform(&[count], low, high, seed).to_vec::<f32>().unwrap();
        assert_eq!(found[count - 1], 1f32.next_down());
        assert!(found.iter().all(|&x| (0.0..1.0).contains(&x)));
    }
    for (low, high) in
        [(0.0, 1.0), (-1.0, 0.0), (-3.0, -0.1), (0.1, 0.1001), (2.0, 2.0), (1e6, 1e6 + 0.01), (-1e-9, 1e-9)]
    {
        for (dtype, least, limit) in [
            (DType::F32, f64::from(low as f32), f64::from(high as f32)),
            (DType::F16, half::f16::from_f64(low).to_f64(), half::f16::from_f64(high).to_f64()),
        ] {
            let draw =
                |device: Device| device.uniform_as(&[4099], low, high, dtype, 5).cast(DType::F32).to_vec::<f32>();
            let [found, other] = [common::gpu(), Device::cpu()].map(|device| draw(device).unwrap());
            assert_eq!(found, other);
            let inside = |x: f64| x >= least && (x < limit || limit <= least && x == least);
            assert!(found.iter().all(|&x| inside(f64::from(x))), "{dtype} from {low} to {high}");
        }
    }
    for (low, high) in [(1.0, 0.0), (f64::NAN, 1.0), (0.0, f64::INFINITY)] {
        assert!(matches!(error(|device| device.uniform(&[3], low, high, 1)), Error::Value { op: "uniform", .. }));
    }
    assert!(matches!(error(|device| device.uniform_as(&[3], 0.0, 1.0, DType::I32, 1)), Error::DType { .. }));
}

#[test]
fn initial_values_stay_below_their_upper_bound() {
    for seed in 0..40 {
        for init in [
            Init::Uniform { low: 0.0, high: f64::from_bits(1) },
            Init::Uniform { low: 1.0, high: 1.0 + 2f64.powi(-23) },
        ] {
            let Init::Uniform { low, high } = init else { unreachable!() };
            let values = init.draw(&[37], &mut Philox::new(seed, 0)).unwrap();
            let (low, high) = (low as f32, high as f32);
            assert!(values.iter().all(|&x| x as f32 >= low && ((x as f32) < high || low == high)), "{init:?}");
        }
    }
    assert!(Init::Uniform { low: 1.0, high: 0.0 }.draw(&[3], &mut Philox::new(0, 0)).is_err());
}

#[test]
fn sizes_that_overflow_are_errors() {
    const MOST: usize = usize::MAX;
    let x = |device: &Device| device.normal(&[2, 3, 4], 0.0, 1.0, 1);
    let image = |device: &Device| device.normal(&[1, 1, 4, 4], 0.0, 1.0, 1);
    for sizes in [&[3, MOST][..], &[MOST, 3, 2], &[MOST], &[5, MOST - 1]] {
        for k in 0..sizes.len() {
            assert!(matches!(error(|device| x(device).split(2, sizes)[k].clone()), Error::Shape { op: "split", .. }));
        }
    }
    assert!(matches!(error(|device| x(device).split(MOST, &[1])[0].clone()), Error::Axis { .. }));
    let windows: [([usize; 2], [usize; 2], [usize; 2]); 8] = [
        ([1 << 32, 1], [1, 1], [1 << 31, 0]),
        ([1, 1 << 32], [1, 1], [0, 1 << 31]),
        ([MOST, MOST], [1, 1], [MOST / 2, MOST / 2]),
        ([MOST, 1], [MOST, 1], [0, 0]),
        ([1, 1], [1 << 32, MOST], [0, 0]),
        ([65_535, 65_535], [1, 1], [32_767, 32_767]),
        ([2, 2], [1, 1], [MOST, 1]),
        ([300, 300], [1, 1], [150, 150]),
    ];
    for (kernel, stride, padding) in windows {
        assert!(matches!(error(|device| image(device).avg_pool2d(kernel, stride, padding, true)), Error::Value { .. }));
        assert!(matches!(
            error(|device| image(device).avg_pool2d(kernel, stride, padding, false)),
            Error::Value { .. }
        ));
        assert!(matches!(error(|device| image(device).max_pool2d(kernel, stride, padding)), Error::Value { .. }));
    }
    let shapes: [&[usize]; 7] =
        [&[MOST, MOST], &[1 << 32], &[1 << 16, 1 << 16], &[0, MOST], &[MOST, 0], &[2, 3, 4, MOST, 2], &[1; 9]];
    for shape in shapes {
        error(|device| x(device).reshape(shape));
        error(|device| x(device).expand(shape));
        error(|device| device.zeros(shape));
        error(|device| device.full(shape, 1.0, DType::I32));
        error(|device| device.uniform(shape, 0.0, 1.0, 1));
        error(|device| device.normal(shape, 0.0, 1.0, 1));
        error(|device| device.tensor(&[1.0f32], shape));
        for device in [common::gpu(), Device::cpu()] {
            let params = ParamStore::new(&device, 1);
            assert!(params.root().param("p", shape, Init::HE).tensor().to_array().is_err());
        }
    }
    for n in [0, MOST, 1 << 32] {
        error(|device| device.arange(n, DType::U32));
        error(|device| device.tensor(&[1u32], &[1]).one_hot(n));
    }
    error(|device| x(device).slice(2, MOST, 2));
    error(|device| x(device).slice(2, 2, MOST));
    error(|device| x(device).slice(MOST, 0, 1));
    error(|device| x(device).slice(2, 0, 0));
    for pairs in [[(MOST, MOST), (0, 0), (0, 0)], [(1 << 31, 1 << 31), (1, 0), (0, 0)], [(0, MOST), (MOST, 1), (0, 0)]]
    {
        assert!(matches!(error(|device| x(device).pad(&pairs, 0.0)), Error::Shape { op: "pad", .. }));
    }
    error(|device| x(device).unsqueeze(MOST));
    error(|device| x(device).flatten(MOST));
    error(|device| x(device).transpose(0, MOST));
    error(|device| x(device).permute(&[0, 1, MOST]));
    error(|device| x(device).sum(&[MOST]));
    error(|device| x(device).var(&[MOST], MOST));
    error(|device| Tensor::stack(&[&x(device)], MOST));
    error(|device| Tensor::concat(&[&x(device), &x(device)], MOST));
    error(|device| x(device).softmax(MOST));
    error(|device| x(device).layer_norm(MOST, None, None, 1e-5));
    error(|device| image(device).group_norm(MOST, None, None, 1e-5));
    let large = |device: &Device| device.zeros(&[1 << 31]);
    error(|device| Tensor::concat(&[&large(device), &large(device)], 0));
    error(|device| device.zeros(&[1 << 20, 1]) + device.zeros(&[1, 1 << 20]));
    error(|device| device.zeros(&[1 << 20, 1]).matmul(&device.zeros(&[1, 1 << 20])));
}

#[test]
fn convolutions_and_layers_of_sizes_that_overflow_are_errors() {
    use kiln::ops::conv2d::Conv2dOptions;
    const MOST: usize = usize::MAX;
    let image = |device: &Device| device.zeros(&[1, 4, 5, 5]);
    let filter = |device: &Device| device.zeros(&[4, 4, 3, 3]);
    let plain = Conv2dOptions::default();
    let options = [
        Conv2dOptions { padding: [MOST, 0], ..plain },
        Conv2dOptions { padding: [MOST / 2, MOST / 2], ..plain },
        Conv2dOptions { stride: [MOST, 1], ..plain },
        Conv2dOptions { dilation: [MOST, MOST], ..plain },
        Conv2dOptions { dilation: [1, 1 << 63], padding: [0, 1 << 15], ..plain },
        Conv2dOptions { groups: MOST, ..plain },
        Conv2dOptions { groups: 0, ..plain },
    ];
    for options in options {
        error(|device| image(device).conv2d(&filter(device), &options));
    }
    for device in [common::gpu(), Device::cpu()] {
        let root = ParamStore::new(&device, 1).root();
        assert!(Linear::new(&root.child("a"), MOST, MOST).weight.tensor().to_array().is_err());
        assert!(Embedding::new(&root.child("b"), MOST, 2).weight.tensor().to_array().is_err());
        let conv = Conv2d::new(&root.child("c"), MOST, 3, MOST);
        assert!(conv.forward(&image(&device), Mode::Eval).to_array().is_err());
        let conv = Conv2d::with(&root.child("d"), 4, 4, 3, ConvConfig { groups: MOST, ..Default::default() });
        assert!(conv.forward(&image(&device), Mode::Eval).to_array().is_err());
        let layer = MultiHeadAttention::new(&root.child("e"), MOST / 2, MOST);
        assert!(layer.forward(&device.zeros(&[1, 2, 3]), Mode::Eval).to_array().is_err());
        let layer = MultiHeadAttention::new(&root.child("f"), 6, MOST);
        assert!(layer.forward(&device.zeros(&[1, 2, 6]), Mode::Eval).to_array().is_err());
    }
}

#[test]
fn pooling_in_wide_windows_has_gradients() {
    // 13 x 13 with stride 1, as in spatial pyramids: more steps an element than four columns of one invocation may take.
    let x = common::normals(&[1, 1, 14, 15], 3);
    let gradient = |device: &Device, average: bool| {
        let x = device.array(&x).variable();
        let y =
            if average { x.avg_pool2d([13, 13], [1, 1], [6, 6], true) } else { x.max_pool2d([13, 13], [1, 1], [6, 6]) };
        y.square().sum_all().gradients(&[&x]).expect("a gradient")[0].to_array().expect("a value")
    };
    for average in [false, true] {
        let [got, want] = [common::gpu(), Device::cpu()].map(|device| gradient(&device, average));
        for (got, want) in got.data.iter().zip(&want.data) {
            assert!((got - want).abs() < 1e-4 * want.abs().max(1.0), "{got} instead of {want}");
        }
    }
    let far = |device: &Device| {
        let x = device.array(&common::normals(&[1, 1, 40, 40], 3)).variable();
        let y = x.max_pool2d([30, 30], [1, 1], [15, 15]);
        y.sum_all().gradients(&[&x]).map_or_else(|error| error, |gradients| gradients[0].to_array().unwrap_err())
    };
    for device in [common::gpu(), Device::cpu()] {
        let found = far(&device);
        assert!(matches!(found, Error::Value { .. }), "{found}");
    }
}
