//! Networks of Kiln to ONNX files and back: the same values at any batch size.

use kiln::nn::{self, TransformerEncoderLayer};
use kiln::onnx::{ExportOptions, export_bytes, load_bytes};
use kiln::prelude::*;

/// Exports `net` from an example, reads it again, and compares both on other batch sizes.
fn comes_back(net: &dyn Fn(&Tensor) -> Tensor, input: &dyn Fn(usize) -> Tensor) {
    let bytes = export_bytes(|x| vec![net(&x[0])], &[input(2)], &ExportOptions::default()).unwrap();
    let model = load_bytes(&bytes, input(1).device()).unwrap();
    for batch in [1, 3, 8] {
        let x = input(batch);
        let wanted = net(&x).to_array().unwrap();
        let got = model.forward(&[x], Mode::Eval)[0].to_array().unwrap();
        assert_eq!(got.shape, wanted.shape);
        let far = got.data.iter().zip(&wanted.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert!(far < 1e-6, "off by {far} in a batch of {batch}");
    }
}

#[test]
fn a_convolutional_network_comes_back() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let root = params.root();
    let net = Sequential::new()
        .add(Conv2d::new(&root.child("conv"), 1, 4, 3).padding(1))
        .add(BatchNorm2d::new(&root.child("norm"), 4))
        .add(Tensor::relu)
        .add(MaxPool2d::new(2))
        .add(Flatten)
        .add(Linear::new(&root.child("fc"), 4 * 4 * 4, 5))
        .add(|x: &Tensor| x.log_softmax(1));
    comes_back(&|x| net.forward(x, Mode::Eval), &|batch| device.uniform(&[batch, 1, 8, 8], -1.0, 1.0, 5));
    let bytes = export_bytes(
        |x| vec![net.forward(&x[0], Mode::Eval)],
        &[device.zeros(&[2, 1, 8, 8])],
        &ExportOptions {
            inputs: vec!["images".into()],
            metadata: [("classes".to_string(), "a,b,c,d,e".to_string())].into(),
            ..ExportOptions::default()
        },
    )
    .unwrap();
    let model = load_bytes(&bytes, &device).unwrap();
    assert_eq!(model.inputs()[0].name, "images");
    assert_eq!(model.metadata()["classes"], "a,b,c,d,e");
    let mut names = model.params().names();
    names.sort();
    // Running statistics are no parameters.
    assert_eq!(names, ["conv.bias", "conv.weight", "fc.bias", "fc.weight", "norm.bias", "norm.weight"]);
}

#[test]
fn what_depends_on_the_size_of_the_batch_is_named() {
    let device = Device::cpu();
    let refused = |net: &dyn Fn(&Tensor) -> Tensor| {
        let bytes = export_bytes(|x| vec![net(&x[0])], &[device.zeros(&[2, 3])], &ExportOptions::default());
        bytes.map(|_| ()).unwrap_err().to_string()
    };
    let rows = |x: &Tensor| x.shape().unwrap()[0];
    assert!(refused(&|x| x * (1.0 / rows(x) as f64)).contains("a number that depends on the batch"));
    let filled = |x: &Tensor| x + device.tensor(&[rows(x) as f32; 3], &[3]);
    assert!(refused(&filled).contains("a constant whose values depend on the batch"));
}

#[test]
fn a_transformer_comes_back() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let table = Embedding::new(&params.root().child("words"), 11, 8);
    let layer = TransformerEncoderLayer::new(&params.root().child("layer"), 8, 2);
    let fc = Linear::new(&params.root().child("fc"), 8, 3);
    let net = |x: &Tensor| fc.forward(&layer.forward(&table.forward(x), Mode::Eval).mean(1), Mode::Eval);
    let words = |batch: usize| {
        let words: Vec<u32> = (0..batch * 5).map(|i| (i * 7 % 11) as u32).collect();
        device.tensor(&words, &[batch, 5])
    };
    comes_back(&net, &words);
}

#[test]
fn activations_and_numbers_come_back() {
    let device = Device::cpu();
    let net = |x: &Tensor| {
        let y = x.gelu() + x.gelu_tanh() * 0.3 + x.silu() - x.leaky_relu(0.1) + x.elu(0.7) + x.hardswish();
        let z = y.clamp(-0.5, 0.5) + (x.square() + 0.1).rsqrt() + x.gt(0.2).where_(x, &y);
        z.rms_norm(1, None, 1e-6) + x.group_norm(2, None, None, 1e-5)
    };
    comes_back(&net, &|batch| device.uniform(&[batch, 6], -2.0, 2.0, 9));
}

#[test]
fn what_an_onnx_file_cannot_hold_is_named() {
    let device = Device::cpu();
    let x = device.zeros(&[2, 3]);
    let error =
        export_bytes(|x| vec![x[0].sort(1, false).cumprod(1)], std::slice::from_ref(&x), &ExportOptions::default());
    let text = error.unwrap_err().to_string();
    assert!(text.contains("`sort`") && text.contains("`cumprod`"), "{text}");
    let params = ParamStore::new(&device, 1);
    let norm = nn::BatchNorm2d::new(&params.root(), 3);
    let images = [device.zeros(&[2, 3, 4, 4])];
    let error = export_bytes(|x| vec![norm.forward(&x[0], Mode::Train)], &images, &ExportOptions::default());
    assert!(error.unwrap_err().to_string().contains("evaluation"));
    let wrong = export_bytes(|x| vec![x[0].matmul(&x[0])], &[x], &ExportOptions::default());
    assert!(matches!(wrong, Err(Error::Shape { .. })));
}
