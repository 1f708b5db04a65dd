//! Writes text letter by letter: a recurrent network learns which character comes next, and then goes on with a prompt.
//!
//! `cargo run --release --example char_lstm -- --data FILE` learns from a text of your own. S. Hochreiter and
//! J. Schmidhuber, "Long short-term memory", Neural Computation 9, 1997.

#[path = "common/course.rs"]
mod course;
#[path = "common/program.rs"]
mod program;
#[path = "common/text.rs"]
mod text;

use anyhow::Result;
use clap::Parser;
use kiln::data::Vocabulary;
use kiln::nn::{Lstm, RecurrentConfig, RecurrentOutput, Sequences};
use kiln::prelude::*;
use kiln::schedule;
use kiln::train::{Progress, Trainer};

/// Characters of a window.
const LENGTH: usize = 64;
const BATCH: usize = 16;
const WIDTH: usize = 192;

/// Learns to write text with a recurrent network.
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

struct Writer {
    embedding: Embedding,
    lstm: Lstm,
    head: Linear,
}

impl Writer {
    fn new(root: &Path, letters: usize) -> Writer {
        let config = RecurrentConfig { batch_first: true, ..Default::default() };
        Writer {
            embedding: Embedding::new(&root.child("embedding"), letters, 64),
            lstm: Lstm::new(&root.child("lstm"), 64, WIDTH, config),
            head: Linear::new(&root.child("head"), WIDTH, letters),
        }
    }

    /// Logits of what follows each of the characters `[batch, length]`, and the states behind the last one. The network
    /// begins in states of zeros, or in those that it is given.
    fn forward(&self, characters: &Tensor, start: Option<&[Tensor]>, mode: Mode) -> (Tensor, Vec<Tensor>) {
        let sequences = Sequences { start, ..Default::default() };
        let RecurrentOutput { output, states } = self.lstm.run(&self.embedding.forward(characters), &sequences, mode);
        (self.head.forward(&output, mode), states)
    }

    /// Goes on with a prompt for `count` characters. Two states are all that the network keeps of what was before.
    fn write(&self, params: &ParamStore, letters: &Vocabulary, prompt: &str, count: usize) -> Result<String> {
        let mut text = letters.encode(prompt);
        let mut new = text.clone();
        let mut past: Option<Vec<Tensor>> = None;
        for _ in 0..count {
            let characters = params.device().tensor(&new, &[1, new.len()]);
            let (logits, states) = no_grad(|| self.forward(&characters, past.as_deref(), Mode::Eval));
            let likely = (logits.select(1, -1) / 0.8).softmax(-1);
            new = likely.multinomial(1, true, params.draws()).to_vec::<u32>()?;
            text.extend(&new);
            past = Some(states);
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
    let writer = Writer::new(&params.root(), text.letters.len());
    println!("model    {} parameters", params.count());

    let rate = schedule::cosine_to(6e-3, 2e-4, steps).warm_up(steps / 20);
    let adam = Adam::new(&params, AdamConfig::default()).schedule(rate).clip_norm(1.0);
    // The windows of a text are many: an epoch is a fifth of the run.
    let mut trainer = Trainer::new(&params)
        .optimizer(adam)
        .epochs(5)
        .limit_batches(steps.div_ceil(5).max(1))
        .limit_validation_batches(args.pick(10_000, 2))
        .callback(Progress::on_stdout());
    let history = trainer.fit(text.train, text.validation, |step, (inputs, targets)| {
        let characters = device.tensor(&inputs.values, &inputs.shape);
        let (logits, _) = writer.forward(&characters, None, step.mode());
        let rows = logits.reshape(&[targets.values.len(), text.letters.len()]);
        step.minimise(&rows.cross_entropy(&device.labels(&targets.values)))
    })?;

    let written = writer.write(&params, &text.letters, "\n", write)?;
    println!("{written}");
    args.keep("char_lstm.txt", written)?;
    params.save(args.file("char_lstm.safetensors")?)?;
    let characters = |batch: usize, length: usize| {
        let all: Vec<u32> = (0..batch * length).map(|i| (i * 7 % text.letters.len()) as u32).collect();
        vec![device.tensor(&all, &[batch, length])]
    };
    // Logits, and the states that the next call goes on from.
    let whole = |x: &[Tensor]| {
        let (logits, states) = writer.forward(&x[0], None, Mode::Eval);
        [vec![logits], states].concat()
    };
    args.export(whole, characters, &[(0, 1)])?;
    text::finish(&args, "char_lstm", &history, &text.letters)
}
