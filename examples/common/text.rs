//! A text for models of characters: read from a file, or made; cut into windows to train on and to judge by.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use kiln::data::{DataLoader, Passage, TextWindows, Vocabulary};
use kiln::rng::Philox;
use kiln::train::History;
use serde_json::json;

use crate::course::curves;
use crate::program::Common;

/// The text to learn from.
#[derive(Debug, Clone, clap::Args)]
pub struct Source {
    /// Learn from this text, in UTF-8; without it from one that the program makes.
    #[arg(long, value_name = "FILE")]
    data: Option<PathBuf>,
}

/// Windows of a text: nine tenths of it to train on, the last tenth to judge by.
pub struct Text {
    pub letters: Vocabulary,
    pub train: DataLoader<Passage>,
    pub validation: DataLoader<Passage>,
}

impl Source {
    /// Windows of `length` characters in batches of `batch`: those to train on begin at any character, in random order.
    pub fn open(&self, length: usize, batch: usize, seed: u64) -> Result<Text> {
        let (name, text) = match &self.data {
            Some(path) => (path.display().to_string(), read(path)?),
            None => ("made by the program; --data FILE takes another".into(), made(seed)),
        };
        let letters = Vocabulary::characters(&text);
        let tokens = letters.encode(&text);
        println!("text     {} characters, {} different ones: {name}", tokens.len(), letters.len() - 1);
        let (train, rest) = tokens.split_at(tokens.len() - tokens.len() / 10);
        let train = DataLoader::new(TextWindows::new(train, length, 1)?, batch).shuffle(seed).drop_last(true);
        // Batches of one size share a plan.
        let validation = DataLoader::new(TextWindows::new(rest, length, length)?, batch).drop_last(true);
        Ok(Text { letters, train, validation })
    }
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| {
        format!("{} cannot be read as a text in UTF-8; without --data the program makes one", path.display())
    })
}

/// Draws the losses, and leaves the last one in nats a character.
pub fn finish(args: &Common, name: &str, history: &History, letters: &Vocabulary) -> Result<()> {
    let chart = curves(history, "What a character costs", "nats", &["loss", "val_loss"]);
    args.keep(&format!("{name}.svg"), chart)?;
    let (val_loss, steps) = (history.get("val_loss").unwrap_or(f64::NAN), history.last().map_or(0, |last| last.step));
    args.finish(json!({ "val_loss": val_loss, "steps": steps }))?;
    // A model that knows nothing pays the logarithm of the number of characters.
    let nothing = (letters.len() as f64).ln();
    ensure!(val_loss < nothing - 0.5, "{val_loss:.3} nats a character, where knowing nothing costs {nothing:.3}");
    Ok(())
}

/// One of a list, by chance.
fn one_of<T: Copy>(random: &mut Philox, list: &[T]) -> T {
    list[random.below(list.len() as u32) as usize]
}

/// Some 200,000 characters of sentences that keep to rules: who speaks, what they saw, and a rhyme that goes with the time.
fn made(seed: u64) -> String {
    let random = &mut Philox::new(seed, 7);
    let mut text = String::new();
    while text.len() < 200_000 {
        let speaker = one_of(random, &["MILLER", "QUEEN", "SAILOR", "FOX", "RAVEN"]);
        let verb = one_of(random, &["saw", "lost", "found", "sold"]);
        let colour = one_of(random, &["red", "green", "silver", "old"]);
        let thing = one_of(random, &["boat", "tower", "lantern", "horse"]);
        let place = one_of(random, &["harbour", "forest", "market", "valley"]);
        let times = [
            ("in the morning", "one", "sun"),
            ("at noon", "two", "blue"),
            ("before the rain", "three", "tree"),
            ("last winter", "four", "door"),
        ];
        let (time, number, rhyme) = one_of(random, &times);
        text += &format!("{speaker}:\nI {verb} a {colour} {thing} near the {place} {time}.\n");
        text += &format!("And {number} more {thing}s, as {number} as the {rhyme}!\n\n");
    }
    text
}
