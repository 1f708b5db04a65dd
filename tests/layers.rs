//! Layers: names and layouts, modes, and a whole training run against PyTorch.

mod common;
#[path = "common/pytorch.rs"]
mod pytorch;
#[path = "layers/small.rs"]
mod small;

use kiln::prelude::*;
use kiln::{Array, Shape};

/// The network of the `cnn_losses` case.
struct Cnn {
    conv1: Conv2d,
    conv2: Conv2d,
    fc: Linear,
}

impl Cnn {
    fn new(root: &Path) -> Cnn {
        Cnn {
            conv1: Conv2d::new(&(root / "conv1"), 1, 8, 3).padding(1),
            conv2: Conv2d::new(&(root / "conv2"), 8, 16, 3).padding(1),
            fc: Linear::new(&(root / "fc"), 64, 10),
        }
    }
}

impl Module for Cnn {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        let pool = MaxPool2d::new(2);
        let x = pool.forward(&self.conv1.forward(x, mode).relu(), mode);
        let x = pool.forward(&self.conv2.forward(&x, mode).relu(), mode);
        self.fc.forward(&Flatten.forward(&x, mode), mode)
    }
}

fn train_as_pytorch(device: &Device, tolerance: f64) {
    let file = pytorch::File::open();
    let case = file.cases.iter().find(|case| case.op == "cnn_losses").unwrap();
    let store = ParamStore::new(device, 0);
    let net = Cnn::new(&store.root());
    for name in &case.inputs[2..] {
        store.get(name).unwrap().set(&file.values(name)).unwrap();
    }
    let (images, labels) = (file.values(&case.inputs[0]), file.values(&case.inputs[1]));
    let mut adamw = AdamW::new(&store, AdamWConfig::default());
    let mut losses = vec![];
    for step in 0..20 {
        let rows = 16 * (step % 5);
        let data = images[rows * 64..(rows + 16) * 64].to_vec();
        let x = device.array(&Array { shape: Shape::new(&[16, 1, 8, 8]).unwrap(), dtype: DType::F32, data });
        let y: Vec<u32> = labels[rows..rows + 16].iter().map(|&label| label as u32).collect();
        let loss = net.forward(&x, Mode::Train).cross_entropy(&device.labels(&y));
        adamw.step(&loss).unwrap();
        losses.push(loss);
    }
    let close = |got: f64, want: f64| (got - want).abs() < tolerance * want.abs().max(1.0);
    for (step, (loss, want)) in losses.iter().zip(file.values(&case.outputs[0])).enumerate() {
        let got = loss.item().unwrap();
        assert!(close(got, want), "step {step}: {got} and {want}");
    }
    for (name, output) in case.inputs[2..].iter().zip(&case.outputs[2..]) {
        let got = store.get(name).unwrap().values().unwrap();
        for (got, want) in got.iter().zip(file.values(output)) {
            assert!(close(*got, want), "{name}: {got} and {want}");
        }
    }
}

#[test]
fn the_reference_trains_a_network_to_pytorch_s_weights() {
    train_as_pytorch(&Device::cpu(), 1e-9);
}

#[test]
fn a_gpu_trains_a_network_to_pytorch_s_weights() {
    train_as_pytorch(&common::gpu(), 1e-4);
}

#[test]
fn parameters_have_pytorch_s_names_shapes_and_bounds() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let net = Cnn::new(&store.root());
    let names = ["conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias", "fc.weight", "fc.bias"];
    assert_eq!(store.names(), names);
    assert_eq!(net.conv2.weight.shape().unwrap()[..], [16, 8, 3, 3]);
    assert_eq!(net.fc.weight.shape().unwrap()[..], [10, 64]);
    assert_eq!(store.count(), 80 + 16 * 72 + 16 + 650);
    for (prefix, fan_in) in [("conv1", 9f64), ("conv2", 72.0), ("fc", 64.0)] {
        for suffix in ["weight", "bias"] {
            let values = store.get(&format!("{prefix}.{suffix}")).unwrap().values().unwrap();
            let largest = values.iter().fold(0f64, |m, x| m.max(x.abs()));
            assert!(largest <= 1.0 / fan_in.sqrt() + 1e-6 && largest > 0.5 / fan_in.sqrt(), "{prefix}.{suffix}");
        }
    }
}

#[test]
fn dropout_drops_only_while_training_and_never_the_same_twice() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let dropout = Dropout::new(&store.root(), 0.5);
    let x = Device::cpu().ones(&[1000]);
    assert_eq!(dropout.forward(&x, Mode::Eval).to_vec::<f32>().unwrap(), [1.0; 1000]);
    let [a, b] = [0, 1].map(|_| dropout.forward(&x, Mode::Train).to_vec::<f32>().unwrap());
    assert_ne!(a, b);
    let kept = a.iter().filter(|&&x| x == 2.0).count();
    assert!(a.iter().all(|&x| x == 0.0 || x == 2.0) && (400..600).contains(&kept));
}

#[test]
fn functions_are_layers_of_a_sequence() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let root = store.root();
    let net = Sequential::new()
        .add(Linear::new(&root.child(0), 3, 4))
        .add(Tensor::relu)
        .add(|x: &Tensor| x.leaky_relu(0.1))
        .add(Linear::with(&root.child(3), 4, 2, LinearConfig { bias: false, init: Init::Ones }));
    let x = Device::cpu().array(&common::normals(&[5, 3], 1));
    assert_eq!(net.forward(&x, Mode::Train).shape().unwrap(), [5, 2]);
    assert_eq!(store.names(), ["0.weight", "0.bias", "3.weight"]);
}

#[test]
fn an_input_that_does_not_fit_is_an_error_that_names_the_op() {
    let store = ParamStore::new(&Device::cpu(), 4);
    let net = Cnn::new(&store.root());
    let y = net.forward(&Device::cpu().zeros(&[2, 3, 8, 8]), Mode::Train);
    let text = y.shape().unwrap_err().to_string();
    assert!(text.contains("conv2d"), "{text}");
    let mut sgd = Sgd::new(&store, SgdConfig::default());
    assert!(sgd.step(&y.sum_all()).is_err());
}

/// A residual block in the style of users: no trait says what is in it.
struct Block {
    fc: Linear,
    norm: kiln::nn::LayerNorm,
}

impl Module for Block {
    fn forward(&self, x: &Tensor, mode: Mode) -> Tensor {
        x + self.norm.forward(&self.fc.forward(x, mode).relu(), mode)
    }
}

#[test]
fn a_summary_names_layers_that_nobody_has_listed() -> Result<()> {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 1);
        let block = |name: &str| {
            let path = params.root().child("body").child(name);
            Block {
                fc: Linear::new(&path.child("fc"), 6, 6),
                norm: kiln::nn::LayerNorm::new(&path.child("norm"), &[6]),
            }
        };
        let conv = Conv2d::new(&params.root().child("stem"), 1, 2, 3);
        let head = Linear::new(&params.root().child("head"), 6, 3);
        params.root().child("stem").freeze();
        let net = Sequential::new().add(conv).add(Flatten).add(block("0")).add(block("1")).add(head);
        let summary = kiln::nn::summary(&params, &net, &[1, 1, 5, 3])?;
        assert_eq!(summary.parameters, params.count());
        assert_eq!(summary.trainable, params.count() - (2 * 9 + 2));
        let mut paths: Vec<&str> = summary.rows.iter().map(|row| &*row.path).collect();
        paths.dedup();
        let body = ["body.0.fc", "body.0.norm", "body.1.fc", "body.1.norm"];
        assert_eq!(paths, [&["stem"][..], &body, &["head"]].concat());
        let of = |path: &str, op: &str| summary.rows.iter().find(|row| row.path == path && row.op == op).unwrap();
        assert_eq!((of("stem", "conv2d").shape.to_vec(), of("stem", "conv2d").parameters), (vec![1, 2, 3, 1], 18));
        assert_eq!(of("head", "matmul").parameters, 18);
        let text = summary.to_string();
        assert!(text.contains("body.1.norm") && text.ends_with("MiB of results in a forward pass"), "{text}");
        let wrong = kiln::nn::summary(&params, &net, &[1, 1, 5, 4]).unwrap_err().to_string();
        assert!(wrong.contains("in `body.0.fc`, Linear 6 -> 6: "), "{wrong}");
    }
    Ok(())
}

#[test]
fn a_shared_layer_is_counted_once() -> Result<()> {
    let params = ParamStore::new(&Device::cpu(), 1);
    let tied = Linear::new(&params.root().child("tied"), 3, 3);
    let x = params.device().zeros(&[2, 3]);
    let twice = tied.forward(&tied.forward(&x, Mode::Train).relu(), Mode::Train);
    assert_eq!(kiln::nn::Summary::of(&twice)?.parameters, 12);
    Ok(())
}

/// Each kind of layer, with an input that it does not take.
#[test]
fn a_layer_that_does_not_fit_says_where_it_is() {
    let params = ParamStore::new(&Device::cpu(), 1);
    let path = |name: &str| params.root().child("net").child(name);
    let x = params.device().zeros(&[2, 7]);
    let images = params.device().zeros(&[2, 7, 5, 5]);
    let index = params.device().tensor(&[9u32], &[1]);
    let conv = Conv2d::new(&path("conv"), 3, 4, 3);
    for (y, place) in [
        (Linear::new(&path("fc"), 9, 2).forward(&x, Mode::Eval), "in `net.fc`, Linear 9 -> 2: "),
        (conv.forward(&images, Mode::Eval), "in `net.conv`, Conv2d 3 -> 4, 3 x 3: "),
        (kiln::nn::LayerNorm::new(&path("ln"), &[9]).forward(&x, Mode::Eval), "in `net.ln`, LayerNorm over [9]: "),
        (kiln::nn::RmsNorm::new(&path("rms"), &[9]).forward(&x, Mode::Eval), "in `net.rms`, RmsNorm over [9]: "),
        (BatchNorm2d::new(&path("bn"), 9).forward(&images, Mode::Train), "in `net.bn`, BatchNorm over [9]: "),
        (Embedding::new(&path("words"), 5, 3).forward(&index), "in `net.words`, Embedding of 5 x 3: "),
        (
            kiln::nn::Lstm::new(&path("lstm"), 5, 3, Default::default()).forward(&x, Mode::Eval),
            "in `net.lstm`, lstm 5 -> 3: ",
        ),
    ] {
        let error = y.relu().error().expect("an error").to_string();
        assert!(error.contains(place), "{error}");
    }
    // What was wrong before is not the layer's.
    let broken = x.softmax(5);
    let error = Linear::new(&path("later"), 7, 2).forward(&broken, Mode::Eval).error().expect("an error").to_string();
    assert!(!error.contains("later"), "{error}");
}

#[test]
fn layers_over_one_to_three_axes_have_pytorch_s_shapes_and_bounds() {
    use kiln::nn::{Conv1d, Conv3d, ConvTranspose2d, InstanceNorm, PixelShuffle, Upsample};
    use kiln::ops::conv2d::Padding;
    use kiln::ops::resample::Interpolation;
    let device = Device::cpu();
    let store = ParamStore::new(&device, 4);
    let root = store.root();
    let row = Conv1d::with(&root.child("row"), 6, 4, 4, ConvConfig { groups: 2, ..Default::default() });
    let volume = Conv3d::new(&root.child("volume"), 2, 5, [2, 3, 3]);
    let config = ConvConfig { groups: 3, ..Default::default() };
    let back = ConvTranspose2d::with(&root.child("back"), 6, 12, [2, 3], config).stride(2);
    let norm = InstanceNorm::new(&root.child("norm"), 12);
    let names = ["row.weight", "row.bias", "volume.weight", "volume.bias", "back.weight", "back.bias"];
    assert_eq!(store.names()[..6], names);
    assert_eq!(store.names()[6..], ["norm.weight", "norm.bias"]);
    for (layer, shape, fan_in) in
        [("row", &[4, 3, 4][..], 12f64), ("volume", &[5, 2, 2, 3, 3], 36.0), ("back", &[6, 4, 2, 3], 24.0)]
    {
        let weight = store.get(&format!("{layer}.weight")).unwrap();
        assert_eq!(weight.shape().unwrap()[..], *shape);
        let largest = weight.values().unwrap().iter().fold(0f64, |m, x| m.max(x.abs()));
        assert!(largest <= 1.0 / fan_in.sqrt() + 1e-6 && largest > 0.5 / fan_in.sqrt(), "{layer}: {largest}");
    }
    let shape =
        |layer: &dyn Module, shape: &[usize]| layer.forward(&device.ones(shape), Mode::Train).shape().unwrap().to_vec();
    assert_eq!(shape(&row, &[2, 6, 9]), [2, 4, 6]);
    assert_eq!(shape(&row.padded(Padding::Same), &[2, 6, 9]), [2, 4, 9]);
    assert_eq!(shape(&volume, &[2, 2, 4, 5, 6]), [2, 5, 3, 3, 4]);
    assert_eq!(shape(&back, &[2, 6, 3, 4]), [2, 12, 6, 9]);
    assert_eq!(shape(&norm, &[2, 12, 3]), [2, 12, 3]);
    assert_eq!(shape(&PixelShuffle(2), &[2, 8, 3, 4]), [2, 2, 6, 8]);
    assert_eq!(shape(&Upsample::by(&[1.5], Interpolation::NearestExact), &[2, 8, 3]), [2, 8, 4]);
}

/// Mean and variance of all elements.
fn spread(x: &Tensor) -> (f64, f64) {
    let data = x.to_array().unwrap().data;
    let mean = data.iter().sum::<f64>() / data.len() as f64;
    (mean, data.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / data.len() as f64)
}

#[test]
fn dropout_of_other_kinds_drops_what_it_says() -> Result<()> {
    use kiln::nn::{AlphaDropout, ChannelDropout};
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 3);
        let x = device.ones(&[64, 37, 3]);
        let y = ChannelDropout::new(&params.root(), 0.25).forward(&x, Mode::Train).to_vec::<f32>()?;
        let channels: Vec<&[f32]> = y.chunks(3).collect();
        assert!(
            channels.iter().all(|c| c.iter().all(|&x| x == c[0]) && (c[0] == 0.0 || (c[0] - 4.0 / 3.0).abs() < 1e-6))
        );
        let dropped = channels.iter().filter(|c| c[0] == 0.0).count() as f64 / channels.len() as f64;
        assert!((dropped - 0.25).abs() < 0.04, "{dropped}");

        // Standard normal stays so.
        let x = device.normal(&[200, 131], 0.0, 1.0, 5);
        for layer in [AlphaDropout::new(&params.root(), 0.2), AlphaDropout::new(&params.root(), 0.2).channels()] {
            let (mean, variance) = spread(&layer.forward(&x, Mode::Train));
            assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.05, "{mean} {variance}");
            assert_eq!(layer.forward(&x, Mode::Eval).to_vec::<f32>()?, x.to_vec::<f32>()?);
        }
        let all = AlphaDropout::new(&params.root(), 1.0).forward(&x, Mode::Train);
        assert!(matches!(all.error(), Some(Error::Value { .. })));
    }
    Ok(())
}

#[test]
fn layers_of_layers_compute_what_they_are_made_of() -> Result<()> {
    use kiln::nn::{Bag, Bilinear, EmbeddingBag, Prelu, Residual};
    let params = ParamStore::new(&Device::cpu(), 3);
    let root = params.root();
    let x = params.device().normal(&[5, 3], 0.0, 1.0, 7);
    let same = |a: &Tensor, b: &Tensor| a.all_close(b, 1e-6, 1e-6).unwrap();

    let fc = Linear::new(&root.child("fc"), 3, 3);
    let around = Linear::new(&root.child("around"), 3, 3);
    let of = |layer: &Linear| layer.forward(&x, Mode::Eval);
    assert!(same(&Residual::new(fc.clone()).forward(&x, Mode::Eval), &(&x + of(&fc))));
    let both = Residual::new(fc.clone()).shortcut(around.clone());
    assert!(same(&both.forward(&x, Mode::Eval), &(of(&around) + of(&fc))));
    let boxed: Box<dyn Module> = Box::new(fc.clone());
    assert!(same(&vec![boxed, Box::new(Tensor::relu)].forward(&x, Mode::Eval), &of(&fc).relu()));

    let slopes = Prelu::new(&root.child("prelu"), 3);
    assert!(same(&slopes.forward(&x, Mode::Eval), &x.leaky_relu(0.25)));

    let bilinear = Bilinear::new(&root.child("bilinear"), 3, 2, 4);
    let z = params.device().normal(&[5, 2], 0.0, 1.0, 8);
    let y = bilinear.forward(&x, &z);
    let weight = bilinear.weight.tensor();
    let one = x.select(0, 1).unsqueeze(0).matmul(&weight.select(0, 2)).matmul(&z.select(0, 1).unsqueeze(1));
    let bias = bilinear.bias.as_ref().unwrap().tensor().select(0, 2);
    assert!(same(&y.select(0, 1).select(0, 2), &(one.flatten(0).select(0, 0) + bias)));
    assert!(matches!(bilinear.forward(&x, &x).error(), Some(Error::Shape { .. })));

    let config = EmbeddingConfig { padding: Some(0), ..Default::default() };
    let table = Embedding::with(&root.child("words"), 5, 3, config);
    let bags = params.device().tensor(&[1u32, 2, 0, 0, 0, 0], &[2, 3]);
    let (first, second) = (table.weight.tensor().select(0, 1), table.weight.tensor().select(0, 2));
    let of = |mode| EmbeddingBag::new(table.clone(), mode).forward(&bags);
    assert!(same(&of(Bag::Mean).select(0, 0), &((&first + &second) * 0.5)));
    assert!(same(&of(Bag::Sum).select(0, 0), &(&first + &second)));
    assert_eq!(of(Bag::Mean).select(0, 1).to_vec::<f32>()?, [0.0; 3]);
    assert!(same(&of(Bag::Max).select(0, 0), &first.maximum(&second).maximum(0.0)));
    Ok(())
}

#[test]
fn normed_weights_have_the_norms_they_say() -> Result<()> {
    use kiln::nn::{SpectralNorm, WeightNorm};
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 3);
        let normed = WeightNorm::new(&params.root().child("a"), &[4, 3, 2], Init::FAN_IN_UNIFORM);
        let lengths = |w: &Tensor| w.square().sum(&[1, 2]).sqrt().to_vec::<f32>();
        assert!(lengths(&normed.tensor())?.iter().all(|length| (length - 1.0).abs() < 1e-6));
        normed.keep_weight()?;
        assert!(normed.tensor().all_close(&normed.direction.tensor(), 1e-6, 1e-6)?);

        // A diagonal's singular values are known.
        let spectral = SpectralNorm::new(&params.root().child("b"), &[3, 3], Init::Zeros, 5);
        spectral.weight.set(&[4.0, 0.0, 0.0, 0.0, -2.0, 0.0, 0.0, 0.0, 1.0])?;
        let mut sgd = Sgd::new(&params, SgdConfig { lr: 0.0, ..Default::default() });
        for _ in 0..30 {
            sgd.step(&spectral.tensor(Mode::Train).square().sum_all())?;
        }
        let weight = spectral.tensor(Mode::Eval).to_vec::<f32>()?;
        assert!((weight[0] - 1.0).abs() < 1e-5 && (weight[4] + 0.5).abs() < 1e-5, "{weight:?}");
        assert_eq!(params.root().child("b").states().len(), 2);
    }
    Ok(())
}

/// The next character of a line that is repeated: only who remembers what came before knows which `o` ends a word.
#[test]
fn a_character_lstm_learns_a_line_by_heart() -> Result<()> {
    let line = "so do not go too low or so ";
    let letters: Vec<char> = "so dntgwlr".chars().collect();
    let numbers: Vec<u32> =
        line.chars().map(|c| letters.iter().position(|&l| l == c).expect("a letter") as u32).collect();
    let device = common::gpu();
    let params = ParamStore::new(&device, 1);
    let root = params.root();
    let embedding = Embedding::new(&root.child("letters"), letters.len(), 8);
    let lstm = kiln::nn::Lstm::new(&root.child("lstm"), 8, 24, Default::default());
    let out = Linear::new(&root.child("out"), 24, letters.len());
    let mut adam = Adam::new(&params, AdamConfig { lr: 0.03, ..Default::default() });
    let steps = numbers.len() - 1;
    let mut losses = vec![];
    for _ in 0..60 {
        let x = embedding.forward(&device.tensor(&numbers[..steps], &[steps, 1]));
        let logits = out.forward(&lstm.forward(&x, Mode::Train), Mode::Train).reshape(&[steps, letters.len()]);
        let loss = logits.cross_entropy(&device.labels(&numbers[1..]));
        adam.step(&loss)?;
        losses.push(loss.item()?);
    }
    assert!(losses[0] > 2.0 && losses[59] < 0.2, "{} then {}", losses[0], losses[59]);
    Ok(())
}

#[test]
fn all_steps_of_a_recurrence_have_one_text_and_a_long_one_is_planned_at_once() -> Result<()> {
    use kiln::kernel::Capabilities;
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let config = kiln::nn::RecurrentConfig { bidirectional: true, layers: 2, ..Default::default() };
    let lstm = kiln::nn::Lstm::new(&params.root(), 8, 16, config);
    let texts = |steps: usize| -> Result<std::collections::BTreeSet<String>> {
        let y = lstm.forward(&cpu.zeros(&[steps, 8, 8]), Mode::Train).square().sum_all();
        let weights: Vec<Tensor> = lstm.weights().iter().map(|weights| weights.weight_hh.tensor()).collect();
        let gradients = y.gradients(&weights.iter().collect::<Vec<_>>())?;
        let software = Capabilities { software: true, subgroup: Some(8), pairs: true, ..Capabilities::default() };
        let plan = cpu.plan_for(&gradients.iter().collect::<Vec<_>>(), &software, true)?;
        assert!(plan.dispatches.len() >= 4 * steps, "{}", plan.dispatches.len());
        let is_step = |dispatch: &&kiln::plan::Dispatch| {
            common::kernel_names(dispatch).any(|name| name.starts_with("recurrence"))
        };
        Ok(plan.dispatches.iter().filter(is_step).map(|dispatch| dispatch.source().to_string()).collect())
    };
    let (few, started) = (texts(12)?, std::time::Instant::now());
    let many = texts(512)?;
    assert!(started.elapsed().as_secs_f64() < 4.0, "{:?}", started.elapsed());
    assert_eq!(few.len(), many.len());
    Ok(())
}

#[test]
fn a_second_gradient_through_a_recurrence_is_refused_and_a_cell_has_one() -> Result<()> {
    use kiln::nn::{Lstm, LstmCell, RecurrentConfig};
    let cpu = Device::cpu();
    let params = ParamStore::new(&cpu, 1);
    let x = cpu.normal(&[2, 3, 4], 0.0, 1.0, 1).variable();
    let once = |y: &Tensor| y.square().sum_all().gradients(&[&x]).map(|gradients| gradients[0].square().sum_all());
    let lstm = Lstm::new(&params.root().child("layer"), 4, 5, RecurrentConfig::default());
    let error = once(&lstm.forward(&x, Mode::Train))?.gradients(&[&x]).unwrap_err().to_string();
    assert!(error.contains("LstmCell"), "{error}");
    let cell = LstmCell::new(&params.root().child("cell"), 4, 5, true);
    let zeros = cpu.zeros(&[3, 5]);
    let (h, c) = cell.step(&x.slice(0, 0, 1).reshape(&[3, 4]), &zeros, &zeros);
    let (h, _) = cell.step(&x.slice(0, 1, 1).reshape(&[3, 4]), &h, &c);
    assert!(once(&h)?.gradients(&[&x])?[0].to_vec::<f32>()?.iter().any(|&g| g != 0.0));
    Ok(())
}
