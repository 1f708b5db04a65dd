//! Text for language models: tokens of bytes, characters or words, and windows over them that copy nothing.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use super::collate::{Collate, HostArray};
use super::dataset::{Dataset, beyond};
use crate::error::{Error, Result};

/// What stands for what a vocabulary does not have: token 0 of those of words and characters.
const UNKNOWN: &str = "<unknown>";

/// What the tokens of a text are, and their numbers.
#[derive(Debug, Clone)]
pub struct Vocabulary {
    kind: Kind,
    /// The text of each token.
    tokens: Vec<String>,
    numbers: HashMap<String, u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Bytes,
    Characters,
    Words,
}

impl Vocabulary {
    /// The 256 bytes of UTF-8: no text has others.
    pub fn bytes() -> Vocabulary {
        Vocabulary { kind: Kind::Bytes, tokens: vec![], numbers: HashMap::new() }
    }

    /// The characters of `text`, in their order in Unicode, behind one for unknown ones.
    pub fn characters(text: &str) -> Vocabulary {
        let mut found: Vec<char> = text.chars().collect();
        found.sort_unstable();
        found.dedup();
        Vocabulary::of(Kind::Characters, found.into_iter().map(String::from))
    }

    /// The words of `text` that come at least `least` times, at most `most` of them, the most frequent first, behind one
    /// for unknown ones. Words are runs of letters, digits and `'`; any other character but white space is one of its own.
    pub fn words(text: &str, least: usize, most: usize) -> Vocabulary {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        words(text).for_each(|word| *counts.entry(word).or_default() += 1);
        let mut found: Vec<(&str, usize)> = counts.into_iter().filter(|(_, count)| *count >= least).collect();
        // Stable: words of one frequency are in order of their bytes.
        found.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        Vocabulary::of(Kind::Words, found.into_iter().take(most).map(|(word, _)| word.to_string()))
    }

    fn of(kind: Kind, tokens: impl Iterator<Item = String>) -> Vocabulary {
        let tokens: Vec<String> = std::iter::once(UNKNOWN.to_string()).chain(tokens).collect();
        let numbers = tokens.iter().enumerate().map(|(number, token)| (token.clone(), number as u32)).collect();
        Vocabulary { kind, tokens, numbers }
    }

    /// Number of tokens; each is below it.
    pub fn len(&self) -> usize {
        if self.kind == Kind::Bytes { 256 } else { self.tokens.len() }
    }

    /// Never: there are bytes, or the token for unknown ones.
    pub fn is_empty(&self) -> bool {
        false
    }

    /// The tokens of a text; 0 for what the vocabulary does not have.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        let number = |token: &str| self.numbers.get(token).copied().unwrap_or(0);
        match self.kind {
            Kind::Bytes => text.bytes().map(u32::from).collect(),
            Kind::Characters => text.chars().map(|c| number(c.encode_utf8(&mut [0; 4]))).collect(),
            Kind::Words => words(text).map(number).collect(),
        }
    }

    /// The text of tokens: words with a space between them; bytes that are no UTF-8 as `U+FFFD`.
    ///
    /// # Errors
    /// [`Error::Data`] for a token that is not below [`Vocabulary::len`].
    pub fn decode(&self, tokens: &[u32]) -> Result<String> {
        if let Some(token) = tokens.iter().find(|&&token| token as usize >= self.len()) {
            let what = format!("token {token} of a vocabulary of {}", self.len());
            return Err(Error::Data { what, next: "decode with the vocabulary that encoded" });
        }
        if self.kind == Kind::Bytes {
            let bytes: Vec<u8> = tokens.iter().map(|&token| token as u8).collect();
            return Ok(String::from_utf8_lossy(&bytes).into_owned());
        }
        let parts: Vec<&str> = tokens.iter().map(|&token| self.tokens[token as usize].as_str()).collect();
        Ok(parts.join(if self.kind == Kind::Words { " " } else { "" }))
    }
}

/// Runs of letters, digits and `'`, and other characters that are not white space.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_part = |c: char| c.is_alphanumeric() || c == '\'';
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let first = rest.chars().next()?;
        let end =
            if is_part(first) { rest.find(|c: char| !is_part(c)).unwrap_or(rest.len()) } else { first.len_utf8() };
        let (word, behind) = rest.split_at(end);
        rest = behind;
        Some(word)
    })
}

/// Windows over tokens: each with the tokens behind, which a language model learns to foretell.
///
/// Windows share the tokens: a million of them take no memory, and an item is a range. A batch is a pair of arrays of
/// shape `[n, length]`: the tokens, and those one further.
///
/// ```
/// use kiln::data::{DataLoader, TextWindows, Vocabulary};
///
/// let text = "to be, or not to be";
/// let letters = Vocabulary::characters(text);
/// let windows = TextWindows::new(letters.encode(text), 6, 3)?;
/// let (inputs, targets) = DataLoader::new(windows, 2).next().unwrap()?;
/// assert_eq!(letters.decode(&inputs.values[..6])?, "to be,");
/// assert_eq!(letters.decode(&targets.values[..6])?, "o be, ");
/// # Ok::<(), kiln::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct TextWindows {
    tokens: Arc<[u32]>,
    length: usize,
    step: usize,
}

impl TextWindows {
    /// Windows of `length` tokens and the one behind, the first at token 0 and then one every `step`; only whole ones.
    ///
    /// # Errors
    /// [`Error::Data`] for a length or step of 0, and for a text that has no window.
    pub fn new(tokens: impl Into<Arc<[u32]>>, length: usize, step: usize) -> Result<TextWindows> {
        let tokens = tokens.into();
        if length == 0 || step == 0 || tokens.len() <= length {
            let what = format!("windows of {length} tokens every {step} in a text of {}", tokens.len());
            return Err(Error::Data { what, next: "pass a length and a step above 0, and a text that is longer" });
        }
        Ok(TextWindows { tokens, length, step })
    }
}

impl Dataset for TextWindows {
    type Item = Passage;

    fn len(&self) -> usize {
        (self.tokens.len() - 1 - self.length) / self.step + 1
    }

    fn get(&self, index: usize) -> Result<Passage> {
        if index >= self.len() {
            return Err(beyond(index, self.len()));
        }
        let start = index * self.step;
        Ok(Passage { tokens: self.tokens.clone(), range: start..start + self.length })
    }
}

/// A window of [`TextWindows`].
#[derive(Debug, Clone)]
pub struct Passage {
    tokens: Arc<[u32]>,
    range: Range<usize>,
}

impl Passage {
    /// Its tokens.
    pub fn inputs(&self) -> &[u32] {
        &self.tokens[self.range.clone()]
    }

    /// The tokens one further.
    pub fn targets(&self) -> &[u32] {
        &self.tokens[self.range.start + 1..self.range.end + 1]
    }
}

impl Collate for Passage {
    type Batch = (HostArray<u32>, HostArray<u32>);

    fn collate(items: Vec<Self>) -> Result<Self::Batch> {
        let length = items.first().map_or(0, |item| item.range.len());
        if items.iter().any(|item| item.range.len() != length) {
            let what = "windows of two lengths in one batch".into();
            return Err(Error::Data { what, next: "make batches of one set of windows" });
        }
        let shape = vec![items.len(), length];
        let inputs = items.iter().flat_map(|item| item.inputs().iter().copied()).collect();
        let targets = items.iter().flat_map(|item| item.targets().iter().copied()).collect();
        Ok((HostArray { shape: shape.clone(), values: inputs }, HostArray { shape, values: targets }))
    }
}
