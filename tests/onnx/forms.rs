//! What leaves as ONNX's own ops, at lengths that are free, in other versions, with numbers beside.

use kiln::nn::{self, Gru, LearnedPositions, Lstm, RecurrentConfig, Rnn, Sequences, TransformerEncoderLayer};
use kiln::onnx::{ExportOptions, FreeAxis, export, export_bytes, load, load_bytes};
use kiln::prelude::*;

fn holds(bytes: &[u8], op: &str) -> bool {
    bytes.windows(op.len()).any(|part| part == op.as_bytes())
}

fn far(a: &Tensor, b: &Tensor) -> f64 {
    let (a, b) = (a.to_array().unwrap(), b.to_array().unwrap());
    assert_eq!(a.shape, b.shape);
    a.data.iter().zip(&b.data).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

fn texts() -> ExportOptions {
    ExportOptions { free: vec![FreeAxis::new(0, 1, "length")], ..ExportOptions::default() }
}

/// Exports `net` from an example of `[2, 5, ..]`, reads it again, and compares both at other batches and lengths.
fn comes_back(
    net: &dyn Fn(&Tensor) -> Tensor,
    input: &dyn Fn(usize, usize) -> Tensor,
    options: &ExportOptions,
) -> Vec<u8> {
    let bytes = export_bytes(|x| vec![net(&x[0])], &[input(2, 5)], options).unwrap();
    let model = load_bytes(&bytes, input(1, 1).device()).unwrap();
    for (batch, length) in [(1, 5), (3, 2), (4, 9)] {
        let x = input(batch, length);
        let apart = far(&net(&x), &model.forward(&[x], Mode::Eval)[0]);
        assert!(apart < 1e-6, "off by {apart} at {batch} x {length}");
    }
    bytes
}

#[test]
fn recurrent_layers_leave_whole_at_any_length() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let config = RecurrentConfig { layers: 2, batch_first: true, bidirectional: true, ..RecurrentConfig::default() };
    let input = |batch: usize, length: usize| device.uniform(&[batch, length, 3], -1.0, 1.0, 5);
    let lstm = Lstm::new(&params.root().child("lstm"), 3, 4, config);
    let bytes = comes_back(&|x| lstm.forward(x, Mode::Eval), &input, &texts());
    assert!(holds(&bytes, "LSTM") && holds(&bytes, "lstm.weight_ih_l0") && !holds(&bytes, "Sigmoid"));
    let gru = Gru::new(&params.root().child("gru"), 3, 4, RecurrentConfig { bias: false, ..config });
    let bytes = comes_back(&|x| gru.forward(x, Mode::Eval), &input, &texts());
    assert!(holds(&bytes, "GRU"));
    let rnn = Rnn::relu(&params.root().child("rnn"), 3, 4, RecurrentConfig { layers: 1, ..config });
    // The last states alone, of both directions.
    let last = |x: &Tensor| rnn.run(x, &Sequences::default(), Mode::Eval).states[0].permute(&[1, 0, 2]);
    let bytes = comes_back(&last, &input, &texts());
    assert!(holds(&bytes, "RNN"));
}

#[test]
fn rows_of_their_own_lengths_and_initial_states_leave_too() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let config = RecurrentConfig { batch_first: true, bidirectional: true, ..RecurrentConfig::default() };
    let lstm = Lstm::new(&params.root().child("lstm"), 3, 4, config);
    let net = |x: &[Tensor]| {
        let start = [x[2].clone(), &x[2] * 0.5];
        let sequences = Sequences { start: Some(&start), lengths: Some(&x[1]) };
        let ran = lstm.run(&x[0], &sequences, Mode::Eval);
        vec![ran.output, ran.states[0].clone(), ran.states[1].clone()]
    };
    let inputs = |batch: usize, length: usize| {
        let lengths: Vec<u32> = (0..batch).map(|row| (1 + (row * 3) % length) as u32).collect();
        let start = device.uniform(&[2, batch, 4], -1.0, 1.0, 7);
        vec![device.uniform(&[batch, length, 3], -1.0, 1.0, 5), device.tensor(&lengths, &[batch]), start]
    };
    let free = vec![FreeAxis::new(0, 1, "length"), FreeAxis::new(2, 1, "batch"), FreeAxis::new(0, 0, "batch")];
    let free = [free, vec![FreeAxis::new(1, 0, "batch")]].concat();
    let options = ExportOptions { fixed_batch: true, free, ..ExportOptions::default() };
    let bytes = export_bytes(net, &inputs(2, 5), &options).unwrap();
    let model = load_bytes(&bytes, &device).unwrap();
    for (batch, length) in [(1, 5), (3, 4), (4, 9)] {
        let x = inputs(batch, length);
        for (number, (a, b)) in net(&x).iter().zip(model.forward(&x, Mode::Eval)).enumerate() {
            assert!(far(a, &b) < 1e-6, "output {number} at {batch} x {length} is off by {}", far(a, &b));
        }
    }
}

#[test]
fn normalisations_leave_as_what_they_are() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let root = params.root();
    let groups = nn::GroupNorm::new(&root.child("groups"), 2, 4);
    let instances = nn::InstanceNorm::new(&root.child("instances"), 4);
    let layer = nn::LayerNorm::new(&root.child("layer"), &[3, 5]);
    for param in [&groups.weight, &groups.bias] {
        param.set(&[0.5f32, 1.5, -1.0, 2.0]).unwrap();
    }
    let net = |x: &Tensor| {
        let y = groups.forward(x, Mode::Eval) + instances.forward(x, Mode::Eval).gelu();
        layer.forward(&y, Mode::Eval) + y.rms_norm(1, None, 1e-5)
    };
    let x = |batch: usize| device.uniform(&[batch, 4, 3, 5], -1.0, 1.0, 5);
    for (opset, names) in [
        (13, &["Erf", "ReduceMean"][..]),
        (17, &["LayerNormalization", "InstanceNormalization", "Erf"]),
        (21, &["LayerNormalization", "InstanceNormalization", "GroupNormalization", "Gelu"]),
        (23, &["RMSNormalization", "GroupNormalization"]),
    ] {
        let options = ExportOptions { opset: Some(opset), ..ExportOptions::default() };
        let bytes = export_bytes(|x| vec![net(&x[0])], &[x(2)], &options).unwrap();
        names.iter().for_each(|name| assert!(holds(&bytes, name), "version {opset} has no {name}"));
        let model = load_bytes(&bytes, &device).unwrap();
        let apart = far(&net(&x(3)), &model.forward(&[x(3)], Mode::Eval)[0]);
        assert!(apart < 1e-6, "version {opset} is off by {apart}");
    }
    let options = ExportOptions { opset: Some(24), ..ExportOptions::default() };
    assert!(matches!(export_bytes(|x| vec![net(&x[0])], &[x(2)], &options), Err(Error::Onnx { .. })));
    let options = ExportOptions { opset: Some(17), ..ExportOptions::default() };
    let bits = |x: &[Tensor]| vec![x[0].bitwise_and(3)];
    let error = export_bytes(bits, &[device.labels(&[1, 2])], &options).unwrap_err().to_string();
    assert!(error.contains("`bitwise_and`") && error.contains("version 18"), "{error}");
}

#[test]
fn a_causal_transformer_is_free_in_batch_and_length() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let root = params.root();
    let table = Embedding::new(&root.child("words"), 11, 8);
    let places = LearnedPositions::new(&root.child("places"), 16, 8);
    let layer = TransformerEncoderLayer::new(&root.child("layer"), 8, 2).norm_first().causal();
    let net = |x: &Tensor| layer.forward(&places.add(&table.forward(x), 0), Mode::Eval);
    let words = |batch: usize, length: usize| {
        let words: Vec<u32> = (0..batch * length).map(|i| (i * 7 % 11) as u32).collect();
        device.tensor(&words, &[batch, length])
    };
    let bytes = comes_back(&net, &words, &texts());
    assert!(holds(&bytes, "Softmax") && !holds(&bytes, "Attention"));
    let bytes = comes_back(&net, &words, &ExportOptions { opset: Some(23), ..texts() });
    assert!(holds(&bytes, "Attention") && !holds(&bytes, "Softmax"));
}

#[test]
fn what_fixes_a_length_is_named() {
    let device = Device::cpu();
    let x = device.zeros(&[2, 6]);
    let refused = |net: &dyn Fn(&Tensor) -> Tensor| {
        export_bytes(|x| vec![net(&x[0])], std::slice::from_ref(&x), &texts()).unwrap_err().to_string()
    };
    let mean = |x: &Tensor| x.sum(1) * (1.0 / x.shape().unwrap()[1] as f64);
    let error = refused(&mean);
    assert!(error.contains("`mul` of a number that depends on the batch or the length"), "{error}");
    let other = |x: &Tensor| if x.shape().unwrap()[1] > 6 { x.relu() } else { x.tanh() };
    assert!(refused(&other).contains("other ops for other lengths"));
    let wrong = |free: Vec<FreeAxis>| {
        let options = ExportOptions { free, ..ExportOptions::default() };
        export_bytes(|x| vec![x[0].relu()], std::slice::from_ref(&x), &options).unwrap_err()
    };
    assert!(matches!(wrong(vec![FreeAxis::new(1, 0, "a")]), Error::Onnx { .. }));
    assert!(matches!(wrong(vec![FreeAxis::new(0, 2, "a")]), Error::Onnx { .. }));
    assert!(matches!(wrong(vec![FreeAxis::new(0, 1, "a"), FreeAxis::new(0, 1, "b")]), Error::Onnx { .. }));
    assert!(matches!(wrong(vec![FreeAxis::new(0, 1, "batch")]), Error::Onnx { .. }));
}

#[test]
fn a_length_that_is_cut_off_or_rounded_down_is_not_taken_for_the_example_s() {
    let device = Device::cpu();
    let refused = |length: usize, of: &dyn Fn(usize) -> usize| {
        let x = device.zeros(&[2, length]);
        let net = |x: &[Tensor]| vec![x[0].slice(1, 0, of(x[0].shape().unwrap()[1]))];
        export_bytes(net, &[x], &texts()).unwrap_err().to_string()
    };
    // The same as without for the example and the lengths just behind it.
    let error = refused(5, &|length| length.min(8));
    assert!(error.contains("a slice at a length of 5 that is"), "{error}");
    let error = refused(4, &|length| length / 4);
    assert!(error.contains("a slice at a length of 1 that is"), "{error}");
    // Positions that a network has too few of are said to be the example's concern.
    let params = ParamStore::new(&device, 3);
    let places = LearnedPositions::new(&params.root(), 12, 8);
    let add = |x: &[Tensor]| vec![places.add(&x[0], 0)];
    let error = export_bytes(add, &[device.zeros(&[2, 5, 8])], &texts()).unwrap_err();
    assert!(matches!(error, Error::Onnx { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("refuses batch 7, length 14") && error.contains("less than half as long"), "{error}");
    export_bytes(add, &[device.zeros(&[2, 4, 8])], &texts()).unwrap();
}

#[test]
fn bits_of_whole_numbers_from_0_on_are_turned_in_their_own_width() {
    let device = Device::cpu();
    let turned = |x: &Tensor| {
        let bytes = export_bytes(|x| vec![x[0].bitwise_not()], std::slice::from_ref(x), &ExportOptions::default());
        bytes.unwrap()
    };
    let x = device.labels(&[0, 5, 77]);
    let bytes = turned(&x);
    // To 32 bits and back: those above them would be ones, too.
    assert!(holds(&bytes, "BitwiseNot") && holds(&bytes, "Cast"));
    let back = load_bytes(&bytes, &device).unwrap().forward(std::slice::from_ref(&x), Mode::Eval);
    let low = |x: &Tensor| x.bitwise_and(0x7fff_ffff).to_vec::<i32>().unwrap();
    assert_eq!(low(&back[0]), low(&x.bitwise_not().cast(DType::I32)));
    let signed = turned(&device.tensor(&[0i32, 5, -77], &[3]));
    assert!(holds(&signed, "BitwiseNot") && !holds(&signed, "Cast"));
}

#[test]
fn a_name_that_two_values_would_have_is_refused() {
    let device = Device::cpu();
    let x = device.zeros(&[2, 3]);
    let of = |net: &dyn Fn(&Tensor) -> Tensor, options: &ExportOptions| {
        export_bytes(|x| vec![net(&x[0])], std::slice::from_ref(&x), options).map_err(|error| error.to_string())
    };
    let stores = [ParamStore::new(&device, 1), ParamStore::new(&device, 2)];
    let [first, second] = &stores.each_ref().map(|store| Linear::new(&store.root().child("fc"), 3, 3));
    let both = |x: &Tensor| second.forward(&first.forward(x, Mode::Eval), Mode::Eval);
    let error = of(&both, &ExportOptions::default()).unwrap_err();
    let wanted =
        "`fc.weight` is the name of a parameter of shape [3, 3] and of a parameter of shape [3, 3], of two stores";
    assert!(error.contains(wanted), "{error}");
    // One layer twice is one parameter.
    of(&|x| first.forward(&first.forward(x, Mode::Eval), Mode::Eval), &ExportOptions::default()).unwrap();
    let params = ParamStore::new(&device, 1);
    let weights = ["input", "_1", "_2"].map(|name| params.root().param(name, &[3], Init::Ones));
    let error = of(&|x| x + weights[0].tensor(), &ExportOptions::default()).unwrap_err();
    assert!(error.contains("`input` is the name of a parameter of shape [3] and of input 0"), "{error}");
    let options = ExportOptions { inputs: vec!["x".into()], outputs: vec!["x".into()], ..ExportOptions::default() };
    let error = of(&|x| x.relu(), &options).unwrap_err();
    assert!(error.contains("`x` is the name of input 0 and of output 0"), "{error}");
    // Names that values get by themselves keep out of the way.
    weights[2].set(&[2.0f32, 3.0, 4.0]).unwrap();
    let net = |x: &Tensor| (x * 3.0 + weights[1].tensor()) * weights[2].tensor();
    let bytes = of(&net, &ExportOptions::default()).unwrap();
    let (model, x) = (load_bytes(&bytes, &device).unwrap(), device.uniform(&[2, 3], -1.0, 1.0, 5));
    assert!(far(&net(&x), &model.forward(&[x], Mode::Eval)[0]) < 1e-6);
}

#[test]
fn numbers_beside_the_model_are_read_again() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let net = Linear::new(&params.root().child("fc"), 40, 30);
    let folder = std::env::temp_dir().join(format!("kiln-onnx-beside-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("net.onnx");
    let options = ExportOptions { beside: Some(1000), version: 7, ..ExportOptions::default() };
    let x = device.uniform(&[2, 40], -1.0, 1.0, 5);
    export(|x| vec![net.forward(&x[0], Mode::Eval)], std::slice::from_ref(&x), &path, &options).unwrap();
    // The weight is beside, the bias is not.
    let data = std::fs::metadata(folder.join("net.onnx.data")).unwrap().len();
    assert!((4 * 1200..4 * 1200 + 4096).contains(&data), "{data}");
    assert!(std::fs::metadata(&path).unwrap().len() < 1000);
    let model = load(&path, &device).unwrap();
    assert_eq!(far(&net.forward(&x, Mode::Eval), &model.forward(&[x], Mode::Eval)[0]), 0.0);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_op_that_onnx_has_not_leaves_in_the_domain_that_is_named_for_it() {
    let device = Device::cpu();
    let x = [device.zeros(&[2, 3])];
    let net = |x: &[Tensor]| vec![x[0].cumprod(1)];
    let error = export_bytes(net, &x, &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("`cumprod`"), "{error}");
    let domains = [("cumprod".to_string(), "my.ops".to_string())].into();
    let bytes = export_bytes(net, &x, &ExportOptions { domains, ..ExportOptions::default() }).unwrap();
    let error = load_bytes(&bytes, &device).unwrap_err().to_string();
    assert!(error.contains("`cumprod` of domain `my.ops`"), "{error}");
}
