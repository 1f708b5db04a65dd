//! Translates numbers in words into digits: "forty two thousand and seven" into 42007, with an encoder that reads the words
//! and a decoder that looks at them while it writes digit by digit.
//!
//! `cargo run --release --example translation`. A. Vaswani and others, "Attention is all you need", 2017. The numbers that
//! it is judged by were not among those that it learnt from.

#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/program.rs"]
mod program;

use anyhow::{Result, ensure};
use clap::Parser;
use kiln::data::{DataLoader, Dataset, HostArray, Split, Vocabulary, items, split};
use kiln::nn::{
    AttentionMask, DecoderMask, SinusoidalPositions, Transformer, TransformerConfig, TransformerLayerConfig,
    TransformerMask,
};
use kiln::prelude::*;
use kiln::rng::Philox;
use kiln::schedule;
use kiln::train::{Progress, Trainer};
use numbers::spell;
use serde_json::json;

const WIDTH: usize = 64;
/// Most words of a number below a million, and most tokens of a translation: six digits and the end.
const WORDS: usize = 11;
const DIGITS: usize = 7;
/// What translations are made of: the digits 0 to 9, a start, and an end, which fills what is left.
const TOKENS: usize = 12;
const START: u32 = 10;
const END: u32 = 11;

/// Translates numbers in words into digits.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
}

/// Tokens with `padding` behind them.
fn padded(mut tokens: Vec<u32>, length: usize, padding: u32) -> HostArray<u32> {
    tokens.resize(length, padding);
    HostArray { shape: vec![length], values: tokens }
}

struct Translator {
    words: Embedding,
    digits: Embedding,
    positions: SinusoidalPositions,
    transformer: Transformer,
    head: Linear,
}

impl Translator {
    fn new(root: &Path, words: usize) -> Translator {
        let layer = TransformerLayerConfig { hidden: 2 * WIDTH, ..Default::default() };
        let config = TransformerConfig { encoder_layers: 1, decoder_layers: 1, layer };
        Translator {
            words: Embedding::new(&root.child("words"), words, WIDTH),
            digits: Embedding::new(&root.child("digits"), TOKENS, WIDTH),
            positions: SinusoidalPositions::new(root.store().device(), WORDS, WIDTH),
            transformer: Transformer::with(&root.child("transformer"), WIDTH, 4, config).norm_first().dropout(0.0),
            head: Linear::new(&root.child("head"), WIDTH, TOKENS),
        }
    }

    /// Logits of the token behind each of `written` `[batch, length]`, for words `[batch, WORDS]` and their numbers.
    fn forward(&self, words: &Tensor, lengths: &Tensor, written: &Tensor, mode: Mode) -> Tensor {
        let read = AttentionMask { lengths: Some(lengths), ..Default::default() };
        let causal = AttentionMask { causal: true, ..Default::default() };
        let mask = TransformerMask { source: read, target: DecoderMask { target: causal, memory: read } };
        let [words, written] = [self.words.forward(words), self.digits.forward(written)];
        let [words, written] = [words, written].map(|x| self.positions.add(&x, 0));
        self.head.forward(&self.transformer.run(&words, &written, &mask, mode), mode)
    }

    /// The likeliest tokens one after the other, `[batch, DIGITS]`: the cache has what was written before.
    fn translate(&self, words: &Tensor, lengths: &Tensor) -> Result<Tensor> {
        let read = AttentionMask { lengths: Some(lengths), ..Default::default() };
        let (device, batch) = (words.device(), lengths.shape()?[0]);
        let Transformer { encoder, decoder } = &self.transformer;
        let memory = encoder.run(&self.positions.add(&self.words.forward(words), 0), &read, Mode::Eval);
        let mut cache = decoder.cache(batch, DIGITS);
        let mut written = vec![device.full(&[batch, 1], f64::from(START), DType::U32)];
        for place in 0..DIGITS {
            let x = self.positions.add(&self.digits.forward(&written[place]), place);
            let x = decoder.run_cached(&x, &memory, &read, &mut cache);
            written.push(self.head.forward(&x, Mode::Eval).argmax(-1));
        }
        Ok(Tensor::concat(&written[1..].iter().collect::<Vec<_>>(), 1))
    }
}

fn main() -> Result<()> {
    let args = Args::parse().common;
    let device = args.start()?;
    let mut random = Philox::new(args.seed, 0);
    let mut numbers: Vec<u32> = (0..args.pick(30_000, 6_000)).map(|n| random.below(10u32.pow(1 + n % 6))).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let vocabulary = Vocabulary::words(&numbers.iter().map(|&n| spell(n) + " ").collect::<String>(), 1, usize::MAX);
    let pairs = numbers.iter().map(|&number| {
        let words = vocabulary.encode(&spell(number));
        let digits = number.to_string().into_bytes().into_iter().map(|digit| u32::from(digit - b'0'));
        let written = [START].into_iter().chain(digits).collect();
        (words.len() as u32, padded(words, WORDS, 0), padded(written, 1 + DIGITS, END))
    });
    let parts = split(items(pairs.collect::<Vec<_>>()), Split::Random, &[0.9, 0.1], args.seed)?;
    println!("data     {} numbers to learn from, {} others to judge by", parts[0].len(), parts[1].len());
    let train = DataLoader::new(parts[0].clone(), 64).shuffle(args.seed).drop_last(true);
    let test = || DataLoader::new(parts[1].clone(), 256);

    let params = ParamStore::new(&device, args.seed);
    let translator = Translator::new(&params.root(), vocabulary.len());
    let epochs = args.pick(4, 2);
    let rate = schedule::cosine(2e-3, epochs * train.batches_per_epoch()).warm_up(40);
    let adamw = AdamW::new(&params, AdamWConfig::default()).schedule(rate).clip_norm(1.0);
    let upload = |array: &HostArray<u32>| device.tensor(&array.values, &array.shape);
    let mut trainer = Trainer::new(&params).optimizer(adamw).epochs(epochs).callback(Progress::on_stdout());
    trainer.fit(train, test(), |step, (lengths, words, written)| {
        let [lengths, words, written] = [&lengths, &words, &written].map(upload);
        let [given, wanted] = [0, 1].map(|first| written.slice(1, first, DIGITS));
        let logits = translator.forward(&words, &lengths, &given, step.mode());
        let rows = lengths.shape()?[0] * DIGITS;
        step.minimise(&logits.reshape(&[rows, TOKENS]).cross_entropy(&wanted.reshape(&[rows])))
    })?;

    let mut right = 0;
    for batch in test() {
        let (lengths, words, written) = batch?;
        let guesses = no_grad(|| translator.translate(&upload(&words), &upload(&lengths)))?.to_vec::<u32>()?;
        let text = |row: &[u32]| row.iter().take_while(|&&token| token < START).map(u32::to_string).collect::<String>();
        for (row, guess) in guesses.chunks(DIGITS).enumerate() {
            let wanted = text(&written.values[row * (1 + DIGITS) + 1..][..DIGITS]);
            right += usize::from(text(guess) == wanted);
            if row % 50 == 0 {
                println!("{:72} {}", spell(wanted.parse()?), text(guess));
            }
        }
    }
    // A step of writing: words, their numbers, and what is written so far.
    let sentences = |batch: usize, length: usize| {
        let all = |count: usize, most: usize| (0..batch * count).map(|i| (i * 5 % most) as u32).collect::<Vec<_>>();
        let lengths: Vec<u32> = (0..batch).map(|row| (1 + row % WORDS) as u32).collect();
        let words = device.tensor(&all(WORDS, vocabulary.len()), &[batch, WORDS]);
        vec![words, device.tensor(&lengths, &[batch]), device.tensor(&all(length, TOKENS), &[batch, length])]
    };
    args.export(|x| vec![translator.forward(&x[0], &x[1], &x[2], Mode::Eval)], sentences, &[(2, 1)])?;
    let exact = right as f64 / parts[1].len() as f64;
    args.finish(json!({ "exact_match": exact }))?;
    ensure!(exact > args.pick(0.95, 0.05), "{:.1} % of the numbers were translated", 100.0 * exact);
    Ok(())
}
