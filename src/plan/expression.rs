//! Expressions of `a`, `b` and `c`, as rows of the pointwise table and users' ops have them: templates for values.

use std::collections::BTreeMap;

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// `expression` with the values in `values` for the words that they stand for; all other names are marked.
pub fn substituted(expression: &str, values: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(expression.len() * 2);
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let length = rest[start..].find(|c| !is_word(c)).unwrap_or(rest.len() - start);
        let word = &rest[start..start + length];
        out.push_str(&rest[..start]);
        match values.get(word) {
            Some(value) => out.push_str(value),
            // A number, or a member.
            None if word.starts_with(|c: char| c.is_ascii_digit()) || out.ends_with('.') => out.push_str(word),
            None => out.extend(["$", word, "$"]),
        }
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

pub fn has_word(expression: &str, wanted: &str) -> bool {
    expression.split(|c| !is_word(c)).any(|word| word == wanted)
}
