//! The text of a user's kernel, and the only place that reads a shader's text: nothing else says what a user calls.

use rustc_hash::FxHashSet;

use super::Facts;

/// A whole text that a user wrote.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Foreign {
    pub text: String,
    pub facts: Facts,
    /// True if its result is declared as `array<OUT>` or `array<vec4<OUT>>`: the planner says what is stored.
    pub stores_any_float: bool,
}

pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').filter(|word| !word.is_empty())
}

impl Foreign {
    pub fn new(text: String) -> Foreign {
        let half = if words(&text).any(|word| word == "f16") { Facts::HALF } else { Facts::NONE };
        let matrices = if text.contains("coop_mat") { Facts::MATRICES } else { Facts::NONE };
        let stores_any_float = text.contains("array<OUT>") || text.contains("array<vec4<OUT>>");
        Foreign { text, facts: half.and(matrices), stores_any_float }
    }

    /// The words in it: those of our functions among them are calls.
    pub fn words(&self) -> FxHashSet<&str> {
        words(&self.text).collect()
    }

    /// The functions that it declares.
    pub fn functions(&self) -> impl Iterator<Item = &str> {
        self.text.match_indices("fn ").filter_map(|(at, _)| words(&self.text[at + 3..]).next())
    }
}
