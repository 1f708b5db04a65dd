//! Writes text letter by letter: a small GPT learns which character comes next, and then goes on with a prompt.
//!
//! `cargo run --release --example char_gpt -- --data FILE` learns from a text of your own. A. Vaswani and others, "Attention
//! is all you need", 2017; A. Radford and others, "Improving language understanding by generative pre-training", 2018.

#[path = "common/course.rs"]
mod course;
#[path = "common/program.rs"]
mod program;
#[path = "common/text.rs"]
mod text;

use anyhow::Result;
use clap::Parser;
use kiln::data::Vocabulary;
use kiln::nn::{KeyValueCache, LearnedPositions, TransformerEncoder, TransformerEncoderLayer, TransformerLayerConfig};
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::{Progress, Trainer};

/// Characters that the model sees at once.
const LENGTH: usize = 64;
const BATCH: usize = 12;
const WIDTH: usize = 96;

/// Learns to write text with a small transformer.
#[derive(Parser)]
struct Args {
    #[command(flatten)]
    common: program::Common,
    #[command(flatten)]
    text: text::Source,
    /// Steps of training, rounded up to a multiple of five.
    #[arg(long, default_value_t = 1400)]
    steps: u64,
    /// Characters to write in the end.
    #[arg(long, default_value_t = 500)]
    write: usize,
}

struct Gpt {
    embedding: Embedding,
    positions: LearnedPositions,
    blocks: TransformerEncoder,
    head: Linear,
}

impl Gpt {
    fn new(root: &Path, letters: usize) -> Gpt {
        let path = root.child("blocks");
        let config = TransformerLayerConfig { hidden: 4 * WIDTH, ..Default::default() };
        let blocks = TransformerEncoder::new(&path, 2, |path| {
            let block = TransformerEncoderLayer::with(path, WIDTH, 4, config);
            block.norm_first().activation(Tensor::gelu).dropout(0.0).causal()
        });
        let small = EmbeddingConfig { init: Init::Normal { mean: 0.0, deviation: 0.1 }, ..Default::default() };
        Gpt {
            embedding: Embedding::with(&root.child("embedding"), letters, WIDTH, small),
            positions: LearnedPositions::new(&root.child("positions"), LENGTH, WIDTH),
            blocks: blocks.norm(LayerNorm::new(&path.child("norm"), &[WIDTH])),
            head: Linear::new(&root.child("head"), WIDTH, letters),
        }
    }

    /// Logits of what follows each of the characters `[batch, length]`.
    fn forward(&self, characters: &Tensor, mode: Mode) -> Tensor {
        let x = self.positions.add(&self.embedding.forward(characters), 0);
        self.head.forward(&self.blocks.forward(&x, mode), mode)
    }

    /// The same for characters that stand behind those in the cache.
    fn next(&self, characters: &Tensor, cache: &mut KeyValueCache) -> Tensor {
        let x = self.positions.add(&self.embedding.forward(characters), cache.length());
        self.head.forward(&self.blocks.run_cached(&x, cache), Mode::Eval)
    }

    /// Goes on with a prompt for `count` characters. Each costs one position: the cache has what was seen before.
    fn write(&self, params: &ParamStore, letters: &Vocabulary, prompt: &str, count: usize) -> Result<String> {
        let device = params.device();
        let mut text = letters.encode(prompt);
        let mut cache = self.blocks.cache(1, LENGTH);
        let mut new = text.clone();
        for _ in 0..count {
            if cache.length() + new.len() > LENGTH {
                // No room: begin again with the last half of what there is.
                cache.truncate(0);
                new = text[text.len() - LENGTH / 2..].to_vec();
            }
            let logits = no_grad(|| self.next(&device.tensor(&new, &[1, new.len()]), &mut cache));
            let likely = (logits.select(1, -1) / 0.8).softmax(-1);
            new = likely.multinomial(1, true, params.draws()).to_vec::<u32>()?;
            text.extend(&new);
        }
        Ok(letters.decode(&text)?)
    }
}

fn main() -> Result<()> {
    let Args { common: args, text, steps, write } = Args::parse();
    let device = args.start()?;
    let (steps, write) = (args.pick(steps, steps.min(30)), args.pick(write, 100));
    let text = text.open(LENGTH, BATCH, args.seed)?;
    let params = ParamStore::new(&device, args.seed);
    let gpt = Gpt::new(&params.root(), text.letters.len());
    println!("model    {} parameters", params.count());

    let rate = schedule::cosine_to(5e-3, 1e-4, steps).warm_up(steps / 20);
    let adamw = AdamW::new(&params, AdamWConfig { betas: (0.9, 0.99), weight_decay: 0.1, ..Default::default() });
    // The windows of a text are many: an epoch is a fifth of the run.
    let mut trainer = Trainer::new(&params)
        .optimizer(adamw.schedule(rate).clip_norm(1.0))
        .epochs(5)
        .limit_batches(steps.div_ceil(5).max(1))
        .limit_validation_batches(args.pick(10_000, 2))
        .callback(Progress::on_stdout());
    let history = trainer.fit(text.train, text.validation, |step, (inputs, targets)| {
        let logits = gpt.forward(&device.tensor(&inputs.values, &inputs.shape), step.mode());
        let rows = logits.reshape(&[targets.values.len(), text.letters.len()]);
        step.minimise(&rows.cross_entropy(&device.labels(&targets.values)))
    })?;

    let written = gpt.write(&params, &text.letters, "\n", write)?;
    println!("{written}");
    args.keep("char_gpt.txt", written)?;
    params.save(args.file("char_gpt.safetensors")?)?;
    let characters = |batch: usize, length: usize| {
        let all: Vec<u32> = (0..batch * length).map(|i| (i * 7 % text.letters.len()) as u32).collect();
        vec![device.tensor(&all, &[batch, length])]
    };
    args.export(|x| vec![gpt.forward(&x[0], Mode::Eval)], characters, &[(0, 1)])?;
    text::finish(&args, "char_gpt", &history, &text.letters)
}
