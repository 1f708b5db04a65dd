//! Expressions of an element: templates for values, with what the planner must know of them.

use std::borrow::Cow;

use super::foreign;

/// What a compiler may make of an expression whose operands share a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algebra {
    /// `a + b`.
    Sum,
    /// `a * b`.
    Product,
    /// A quotient, which products cancel.
    Quotient,
    /// A square root, which its square cancels.
    Root,
    /// `b` where `a`, else `c`: taken for a minimum or maximum of what was compared.
    Choice,
    /// Other arithmetic and comparisons that cancel: a - b, a < b.
    Difference,
    /// A compiler sees through it and cancels nothing: extremes, signs, conversions.
    Plain,
    /// Arithmetic around calls of functions that put bits together.
    Mixed,
    /// A call of such a function.
    Opaque,
    /// Anything: an expression of a user's.
    Unknown,
}

/// An expression of `a`, `b`, `c`, `index` and the constants `k0`, `k1`, .. .
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expression {
    /// WGSL.
    pub text: &'static str,
    /// What a compiler may make of it.
    pub algebra: Algebra,
    /// True for inputs whose further words, `a1` to `a3`, it takes: host numbers.
    pub words: [bool; 3],
    /// True if it draws random numbers: it is costly, and no constant.
    pub draws: bool,
}

impl Expression {
    /// An expression of this crate.
    pub const fn new(text: &'static str, algebra: Algebra) -> Expression {
        Expression { text, algebra, words: [false; 3], draws: false }
    }

    /// An expression of a user's.
    pub(crate) fn of_user(text: &'static str) -> Expression {
        let words = ["a1", "b1", "c1"].map(|word| foreign::words(text).any(|own| own == word));
        let draws = foreign::words(text).any(|own| own == "random_bits");
        Expression { words, draws, ..Expression::new(text, Algebra::Unknown) }
    }

    /// Its text, marked, with what `value` gives for the words that stand for something.
    pub(crate) fn with<'v>(&self, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> String {
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let mut out = String::with_capacity(self.text.len() * 2);
        let mut rest = self.text;
        while let Some(start) = rest.find(is_word) {
            let length = rest[start..].find(|c| !is_word(c)).unwrap_or(rest.len() - start);
            let word = &rest[start..start + length];
            out.push_str(&rest[..start]);
            match value(word) {
                Some(value) => out.push_str(&value),
                // A number, or a member.
                None if word.starts_with(|c: char| c.is_ascii_digit()) || out.ends_with('.') => out.push_str(word),
                None => out.extend(["$", word, "$"]),
            }
            rest = &rest[start + length..];
        }
        out.push_str(rest);
        out
    }
}
