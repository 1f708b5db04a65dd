//! Attention, embeddings and a small transformer made of them.

mod common;
#[path = "transformer/deep.rs"]
mod deep;
#[path = "transformer/long.rs"]
mod long;
#[path = "transformer/positions.rs"]
mod positions;
#[path = "common/pytorch.rs"]
mod pytorch;
#[path = "transformer/sampling.rs"]
mod sampling;

use kiln::kernel::Capabilities;
use kiln::nn::AttentionMask;
use kiln::ops::attention::AttentionOptions;
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::{Array, Shape};

/// Holds the layer, its output and all gradients, to PyTorch's.
fn multi_head_attention(device: &Device, bound: f64) {
    let file = pytorch::File::open();
    let mut count = 0;
    for case in file.cases.iter().filter(|case| case.op == "multi_head_attention") {
        let array = |name: &str| Array {
            shape: Shape::new(&file.shape(name)).unwrap(),
            dtype: DType::F32,
            data: file.values(name),
        };
        let params = ParamStore::new(device, 0);
        let layer = MultiHeadAttention::new(&params.root(), 6, case.attrs["heads"].as_u64().unwrap() as usize);
        let layer = if case.attrs["causal"] == true { layer.causal() } else { layer };
        let all = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"]
            .map(|name| params.get(name).unwrap());
        all.iter().zip(&case.inputs[1..]).for_each(|(param, name)| param.set(&file.values(name)).unwrap());
        let x = device.array(&array(&case.inputs[0])).variable();
        let y = layer.forward(&x, Mode::Train);
        let close = |got: &Tensor, name: &str| {
            let (got, want) = (got.to_array().unwrap().data, file.values(name));
            let worst = got.iter().zip(&want).map(|(g, w)| (g - w).abs() / (1.0 + w.abs())).fold(0.0, f64::max);
            assert!(got.len() == want.len() && worst < bound, "{name}: {worst:e}");
        };
        close(&y, &case.outputs[0]);
        let loss = (&y * device.array(&array(&format!("{}.cotangent0", case.name)))).sum_all();
        let leaves = all.each_ref().map(Param::tensor);
        let gradients = loss.gradients(&[&x, &leaves[0], &leaves[1], &leaves[2], &leaves[3]]).unwrap();
        for (i, gradient) in gradients.iter().enumerate() {
            close(gradient, &format!("{}.grad{i}", case.name));
        }
        // Another tensor of the same values takes the path of cross-attention.
        let other = &x + 0.0;
        close(&layer.attend(&x, &other, &other, &AttentionMask::default(), Mode::Train), &case.outputs[0]);
        count += 1;
    }
    assert_eq!(count, 2);
}

#[test]
fn multi_head_attention_is_pytorch_s() {
    multi_head_attention(&Device::cpu(), 1e-10);
    multi_head_attention(&common::gpu(), 1e-5);
}

#[test]
fn heads_of_a_fused_projection_are_read_where_they_are() {
    let cpu = Device::cpu();
    let y = {
        let parts = cpu.normal(&[2, 16, 48], 0.0, 1.0, 1).split(2, &[16; 3]);
        let [q, k, v] = [0, 1, 2].map(|i| parts[i].reshape(&[2, 16, 4, 4]).permute(&[0, 2, 1, 3]));
        let options = AttentionOptions { causal: true, ..AttentionOptions::default() };
        q.scaled_dot_product_attention(&k, &v, &options)
    };
    let plan = cpu.plan_for(&[&y], &Capabilities::default(), true).unwrap();
    // Product with scale and mask, softmax, product.
    assert_eq!(plan.dispatches.len(), 3, "{plan}");
}

#[test]
fn the_gradients_of_the_pieces_of_a_split_are_joined() {
    let cpu = Device::cpu();
    let x = cpu.normal(&[6, 12], 0.0, 1.0, 1).variable();
    let gradient = |sizes: &[usize], used: usize| {
        let pieces = x.split(1, sizes);
        let loss = pieces[..used].iter().map(|piece| piece.square().sum_all()).reduce(|a, b| a + b).unwrap();
        loss.gradients(&[&x]).unwrap().remove(0)
    };
    let all = gradient(&[4, 3, 5], 3);
    let plan = cpu.plan_for(&[&all], &Capabilities::default(), true).unwrap().to_string();
    assert!(plan.contains("concat") && !plan.contains("place"), "{plan}");
    let want: Vec<f64> = x.to_array().unwrap().data.iter().map(|x| 2.0 * x).collect();
    assert_eq!(all.to_array().unwrap().data, want);
    // Not all of it: zeros elsewhere.
    let some = gradient(&[4, 3, 5], 2).to_array().unwrap().data;
    assert!((0..72).all(|i| some[i] == if i % 12 < 7 { want[i] } else { 0.0 }));
}

#[test]
fn heads_that_do_not_divide_the_features_are_refused() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 0);
    let layer = MultiHeadAttention::new(&params.root(), 6, 4);
    assert!(matches!(layer.forward(&device.zeros(&[1, 2, 6]), Mode::Eval).error(), Some(Error::Value { .. })));
    let layer = MultiHeadAttention::new(&params.root().child("b"), 8, 4);
    assert!(matches!(layer.forward(&device.zeros(&[1, 2, 6]), Mode::Eval).error(), Some(Error::Shape { .. })));
}

#[test]
fn a_table_is_refused_what_it_cannot_look_up() {
    let device = Device::cpu();
    let table = device.zeros(&[5, 3]);
    let index = device.tensor(&[0u32, 4, 1, 2], &[2, 2]);
    assert_eq!(table.embedding(&index, None).shape().unwrap(), [2, 2, 3]);
    let refused = |table: &Tensor, index: &Tensor, padding| table.embedding(index, padding).error().cloned();
    assert!(matches!(refused(&table, &device.tensor(&[5u32], &[1]), None), Some(Error::Value { op: "embedding", .. })));
    assert!(matches!(refused(&table, &index, Some(5)), Some(Error::Value { .. })));
    assert!(matches!(refused(&device.zeros(&[5]), &index, None), Some(Error::Shape { .. })));
    assert!(matches!(refused(&table, &device.zeros(&[2]), None), Some(Error::DType { .. })));
}

#[test]
fn rows_that_are_looked_up_often_and_never_have_the_gradient_of_their_positions() {
    // Few of many rows, one of them again and again.
    for device in [Device::cpu(), common::gpu()] {
        let table = device.zeros(&[20_011, 8]).variable();
        let index: Vec<u32> = (0..600).map(|i| if i % 3 == 0 { 20_010 } else { i * 7 }).collect();
        let picked = table.embedding(&device.tensor(&index, &[600]), None);
        let gradient = picked.sum_all().gradients(&[&table]).unwrap().remove(0).to_vec::<f32>().unwrap();
        let mut want = vec![0.0; 20_011 * 8];
        index.iter().for_each(|&row| want[row as usize * 8..][..8].iter_mut().for_each(|x| *x += 1.0));
        assert_eq!(gradient, want);
    }
}

/// Characters that look like words, and the entropy of their frequencies in nats.
fn text() -> (Vec<u32>, usize, f64) {
    let words = ["kiln ", "clay ", "fire ", "glaze ", "ash "];
    let mut rng = Philox::new(3, 0);
    let text: String = (0..400).map(|_| words[rng.below(5) as usize]).collect();
    let mut letters: Vec<char> = text.chars().collect();
    letters.sort_unstable();
    letters.dedup();
    let codes: Vec<u32> = text.chars().map(|c| letters.binary_search(&c).unwrap() as u32).collect();
    let share = |code: usize| codes.iter().filter(|&&c| c as usize == code).count() as f64 / codes.len() as f64;
    let entropy = (0..letters.len()).map(share).map(|p| -p * p.ln()).sum();
    (codes, letters.len(), entropy)
}

#[test]
fn a_block_learns_to_spell() {
    const LENGTH: usize = 16;
    const ROWS: usize = 16;
    const WIDTH: usize = 32;
    let (codes, letters, entropy) = text();
    let device = common::gpu();
    let params = ParamStore::new(&device, 5);
    let root = params.root();
    let embedding = Embedding::new(&root.child("letters"), letters, WIDTH);
    let places = Embedding::new(&root.child("places"), LENGTH, WIDTH);
    let attention = MultiHeadAttention::new(&root.child("attention"), WIDTH, 4).causal();
    let norms = ["norm1", "norm2", "norm3"].map(|name| LayerNorm::new(&root.child(name), &[WIDTH]));
    let up = Linear::new(&root.child("up"), WIDTH, 4 * WIDTH);
    let down = Linear::new(&root.child("down"), 4 * WIDTH, WIDTH);
    let head = Linear::new(&root.child("head"), WIDTH, letters);
    let mut adamw = AdamW::new(&params, AdamWConfig { lr: 1e-2, ..Default::default() });
    let order: Vec<u32> = (0..LENGTH as u32).collect();
    let mut rng = Philox::new(8, 0);
    let mut losses = vec![];
    for _ in 0..60 {
        let starts: Vec<usize> = (0..ROWS).map(|_| rng.below((codes.len() - LENGTH) as u32) as usize).collect();
        let cut = |shift: usize| -> Vec<u32> {
            starts.iter().flat_map(|&start| codes[start + shift..start + shift + LENGTH].to_vec()).collect()
        };
        let x = embedding.forward(&device.tensor(&cut(0), &[ROWS, LENGTH]))
            + places.forward(&device.tensor(&order, &[LENGTH]));
        let x = &x + attention.forward(&norms[0].forward(&x, Mode::Train), Mode::Train);
        let hidden = up.forward(&norms[1].forward(&x, Mode::Train), Mode::Train).gelu();
        let x = &x + down.forward(&hidden, Mode::Train);
        let logits = head.forward(&norms[2].forward(&x, Mode::Train), Mode::Train);
        let loss = logits.reshape(&[ROWS * LENGTH, letters]).cross_entropy(&device.labels(&cut(1)));
        adamw.step(&loss).unwrap();
        losses.push(loss);
    }
    let losses: Vec<f64> = losses.iter().map(|loss| loss.item().unwrap()).collect();
    let last = losses[50..].iter().sum::<f64>() / 10.0;
    assert!(losses[0] > 0.9 * entropy && last < 0.5 * entropy, "{last} of {entropy}: {losses:?}");
}
