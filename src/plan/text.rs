//! Identifiers of WGSL texts, and the shared functions that a text needs.

use std::collections::{BTreeMap, HashSet};
use std::sync::OnceLock;

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// The identifiers of a text.
pub fn tokens(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !is_word(c)).filter(|token| !token.is_empty())
}

pub fn has_token(text: &str, wanted: &str) -> bool {
    tokens(text).any(|token| token == wanted)
}

pub fn substitute(expression: &str, names: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(expression.len() * 2);
    let mut rest = expression;
    while let Some(start) = rest.find(is_word) {
        let length = rest[start..].find(|c| !is_word(c)).unwrap_or(rest.len() - start);
        let token = &rest[start..start + length];
        out.push_str(&rest[..start]);
        out.push_str(names.get(token).map_or(token, String::as_str));
        rest = &rest[start + length..];
    }
    out.push_str(rest);
    out
}

/// The functions of `shaders/pointwise.wgsl` and `shaders/philox.wgsl` that `text` reaches and does not define.
pub fn helpers_for(text: &str) -> String {
    helpers(text).concat()
}

/// [`helpers_for`], each function apart.
pub fn helpers(text: &str) -> Vec<&'static str> {
    static FUNCTIONS: OnceLock<Vec<(&'static str, &'static str)>> = OnceLock::new();
    let all = FUNCTIONS.get_or_init(|| {
        let mut functions = vec![];
        for file in [include_str!("../../shaders/pointwise.wgsl"), include_str!("../../shaders/philox.wgsl")] {
            for (start, _) in file.match_indices("\nfn ") {
                let body = &file[start + 1..];
                let end = body.find("\n}\n").map_or(body.len(), |end| end + 3);
                let name = tokens(&body[3..]).next().unwrap_or("");
                functions.push((name, &body[..end]));
            }
        }
        functions
    });
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut stack = vec![text];
    while let Some(text) = stack.pop() {
        for token in tokens(text) {
            if let Some((name, body)) = all.iter().find(|(name, _)| *name == token)
                && wanted.insert(name)
            {
                stack.push(body);
            }
        }
    }
    all.iter().filter(|(name, _)| wanted.contains(name)).map(|(_, body)| *body).collect()
}
