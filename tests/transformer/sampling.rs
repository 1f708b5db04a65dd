//! Sampling with a cache: what it gives, and that a token costs the same wherever it stands.

use std::time::Instant;

use kiln::nn::{
    AttentionMask, KeyValueCache, LearnedPositions, RotaryEmbedding, TransformerDecoder, TransformerDecoderLayer,
    TransformerEncoder, TransformerEncoderLayer, TransformerLayerConfig,
};
use kiln::prelude::*;

use super::common;

/// A small GPT.
struct Gpt {
    embedding: Embedding,
    positions: LearnedPositions,
    blocks: TransformerEncoder,
    head: Linear,
}

impl Gpt {
    fn new(root: &Path, letters: usize, width: usize, layers: usize, length: usize) -> Gpt {
        let path = root.child("blocks");
        let config = TransformerLayerConfig { hidden: 2 * width, ..Default::default() };
        let blocks = TransformerEncoder::new(&path, layers, |path| {
            TransformerEncoderLayer::with(path, width, 4, config).norm_first().activation(Tensor::gelu).causal()
        });
        Gpt {
            embedding: Embedding::new(&root.child("embedding"), letters, width),
            positions: LearnedPositions::new(&root.child("positions"), length, width),
            blocks: blocks.norm(LayerNorm::new(&path.child("norm"), &[width])),
            head: Linear::new(&root.child("head"), width, letters),
        }
    }

    fn tokens(&self, tokens: &[u32], device: &Device) -> Tensor {
        self.embedding.forward(&device.tensor(tokens, &[1, tokens.len()]))
    }

    /// Logits of all positions.
    fn whole(&self, tokens: &[u32], device: &Device) -> Tensor {
        let x = self.positions.add(&self.tokens(tokens, device), 0);
        self.head.forward(&self.blocks.forward(&x, Mode::Eval), Mode::Eval)
    }

    /// Logits of new positions.
    fn next(&self, tokens: &[u32], device: &Device, cache: &mut KeyValueCache) -> Tensor {
        let x = self.positions.add(&self.tokens(tokens, device), cache.length());
        self.head.forward(&self.blocks.run_cached(&x, cache), Mode::Eval)
    }
}

fn likeliest(logits: &[f32]) -> u32 {
    (0..logits.len()).max_by(|&a, &b| logits[a].total_cmp(&logits[b])).unwrap() as u32
}

fn worst(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    got.iter().zip(want).map(|(got, want)| (got - want).abs()).fold(0.0, f32::max)
}

#[test]
fn a_token_costs_the_same_wherever_it_stands_and_soon_takes_no_plan_of_its_own() {
    const LETTERS: usize = 31;
    const LENGTH: usize = 256;
    let device = common::gpu();
    let params = ParamStore::new(&device, 3);
    let gpt = Gpt::new(&params.root(), LETTERS, 64, 4, LENGTH);
    let mut cache = gpt.blocks.cache(1, LENGTH);
    let (mut tokens, mut logits, mut seconds, mut plans) = (vec![7u32], vec![], vec![], vec![]);
    no_grad(|| {
        for _ in 0..LENGTH {
            let started = Instant::now();
            let row = gpt.next(&tokens[tokens.len() - 1..], &device, &mut cache).to_vec::<f32>().unwrap();
            seconds.push(started.elapsed().as_secs_f64());
            plans.push(device.statistics().plans_made);
            tokens.push(likeliest(&row));
            logits.extend(row);
        }
    });
    assert_eq!((cache.length(), tokens.len()), (LENGTH, LENGTH + 1));
    // The first few tokens make plans, the others none.
    let made: Vec<u64> = plans.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(made.iter().sum::<u64>() <= 16 && made[16..].iter().all(|&made| made == 0), "{made:?}");
    let median = |part: &[f64]| {
        let mut sorted = part.to_vec();
        sorted.sort_by(f64::total_cmp);
        sorted[sorted.len() / 2]
    };
    let [early, late] = [&seconds[8..72], &seconds[192..]].map(median);
    println!("a token of a GPT of 4 layers: {:.2} ms early, {:.2} ms late", 1e3 * early, 1e3 * late);
    assert!(late < 1.3 * early, "{early} s a token early, {late} s late");
    // The logits are those of one pass over the whole text.
    let want = no_grad(|| gpt.whole(&tokens[..LENGTH], &device)).to_vec::<f32>().unwrap();
    let worst = worst(&logits, &want);
    assert!(worst < 1e-4, "{worst:e}");
}

#[test]
fn a_prompt_goes_in_at_once_and_another_continuation_begins_behind_it() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let gpt = Gpt::new(&params.root(), 11, 8, 2, 16);
    let mut cache = gpt.blocks.cache(1, 9);
    let text = [1u32, 4, 9, 2, 2, 7, 5];
    let want = gpt.whole(&text, &device).to_vec::<f32>().unwrap();
    let mut got = gpt.next(&text[..3], &device, &mut cache).to_vec::<f32>().unwrap();
    // Another end of the text leaves nothing behind.
    gpt.next(&[8, 8, 8, 8], &device, &mut cache).to_vec::<f32>().unwrap();
    assert_eq!(cache.length(), 7);
    cache.truncate(3);
    got.extend(gpt.next(&text[3..5], &device, &mut cache).to_vec::<f32>().unwrap());
    got.extend(gpt.next(&text[5..], &device, &mut cache).to_vec::<f32>().unwrap());
    let worst = worst(&got, &want);
    assert!(worst < 1e-6, "{worst:e}");
}

#[test]
fn what_is_turned_by_positions_is_so_behind_a_cache() {
    for device in [Device::cpu(), common::gpu()] {
        let params = ParamStore::new(&device, 3);
        let rotary = RotaryEmbedding::new(&device, 4, 6);
        let layer = MultiHeadAttention::new(&params.root(), 8, 2).causal().rotary(&rotary);
        let x = device.normal(&[3, 5, 8], 0.0, 1.0, 1);
        let mut cache = layer.cache(3, 6);
        let mut parts = vec![];
        for (start, length) in [(0, 2), (2, 1), (3, 2)] {
            parts.push(layer.attend_cached(&x.slice(1, start, length), &cache, 0));
            cache.advance(length);
        }
        let got = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).to_vec::<f32>().unwrap();
        let want = layer.forward(&x, Mode::Eval).to_vec::<f32>().unwrap();
        assert!(worst(&got, &want) < 1e-5);
    }
}

#[test]
fn a_decoder_samples_over_its_memory() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let config = TransformerLayerConfig { hidden: 12, ..Default::default() };
    let decoder =
        TransformerDecoder::new(&params.root(), 2, |path| TransformerDecoderLayer::with(path, 8, 2, config).causal());
    let [x, memory] = [1, 2].map(|seed| device.normal(&[2, 4, 8], 0.0, 1.0, seed));
    let lengths = device.tensor(&[4u32, 1], &[2]);
    let mask = AttentionMask { lengths: Some(&lengths), ..Default::default() };
    let whole = kiln::nn::DecoderMask { memory: mask, ..Default::default() };
    let want = decoder.run(&x, &memory, &whole, Mode::Eval).to_vec::<f32>().unwrap();
    let mut cache = decoder.cache(2, 4);
    let parts = [0, 1, 2, 3].map(|at| decoder.run_cached(&x.slice(1, at, 1), &memory, &mask, &mut cache));
    let got = Tensor::concat(&parts.iter().collect::<Vec<_>>(), 1).to_vec::<f32>().unwrap();
    assert!(worst(&got, &want) < 1e-6);
}

#[test]
fn a_cache_refuses_what_it_has_no_room_for_and_stays_as_it_was() {
    let device = Device::cpu();
    let params = ParamStore::new(&device, 3);
    let layer = |path: &Path| TransformerEncoderLayer::with(path, 8, 2, Default::default()).causal();
    let blocks = TransformerEncoder::new(&params.root(), 2, layer);
    let mut cache = blocks.cache(1, 3);
    blocks.run_cached(&device.ones(&[1, 2, 8]), &mut cache);
    let error = blocks.run_cached(&device.ones(&[1, 2, 8]), &mut cache).shape().unwrap_err();
    assert!(matches!(error, Error::Value { .. }) && error.to_string().contains("cache for 3"), "{error}");
    assert_eq!(cache.length(), 2);
    let error = blocks.run_cached(&device.ones(&[2, 1, 8]), &mut cache).shape().unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
    let error = blocks.layers[0].self_attn.attend_cached(&device.ones(&[1, 1, 8]), &cache, 2).shape().unwrap_err();
    assert!(matches!(error, Error::Value { .. }) && error.to_string().contains("layer 2"), "{error}");
    assert!(!blocks.run_cached(&device.ones(&[1, 1, 8]), &mut cache).to_array().unwrap().data[0].is_nan());
}
