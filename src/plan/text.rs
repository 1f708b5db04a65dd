//! Identifiers of WGSL texts, and the shared functions that a text needs.

use std::collections::{BTreeMap, HashMap, HashSet};
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

/// The functions of `shaders/pointwise/functions.wgsl` and `shaders/pointwise/philox.wgsl` that `text` reaches and does not define.
pub fn helpers_for(text: &str) -> String {
    helpers(text).concat()
}

/// [`helpers_for`], each function apart.
pub fn helpers(text: &str) -> Vec<&'static str> {
    type Functions = (Vec<(&'static str, &'static str)>, HashMap<&'static str, &'static str>);
    static FUNCTIONS: OnceLock<Functions> = OnceLock::new();
    let (all, by_name) = FUNCTIONS.get_or_init(|| {
        let mut functions = vec![];
        for file in [
            include_str!("../../shaders/pointwise/functions.wgsl"),
            include_str!("../../shaders/pointwise/philox.wgsl"),
        ] {
            for (start, _) in file.match_indices("\nfn ") {
                let body = &file[start + 1..];
                let end = body.find("\n}\n").map_or(body.len(), |end| end + 3);
                let name = tokens(&body[3..]).next().unwrap_or("");
                functions.push((name, &body[..end]));
            }
        }
        let by_name = functions.iter().rev().copied().collect();
        (functions, by_name)
    });
    let mut wanted: HashSet<&str> = HashSet::new();
    let mut stack = vec![text];
    while let Some(text) = stack.pop() {
        for token in tokens(text) {
            if let Some((name, body)) = by_name.get_key_value(token)
                && wanted.insert(name)
            {
                stack.push(body);
            }
        }
    }
    all.iter().filter(|(name, _)| wanted.contains(name)).map(|(_, body)| *body).collect()
}

/// `source` with storage `binding` declared as `read_write`; `None` if it declares no such binding.
pub fn writable(source: &str, binding: u32) -> Option<String> {
    let start = source.find(&format!("@binding({binding})"))?;
    let open = start + source[start..].find("var<")? + "var<".len();
    let close = open + source[open..].find('>')?;
    source[open..close].trim_start().starts_with("storage").then(|| {
        let mut text = source.to_string();
        text.replace_range(open..close, "storage, read_write");
        text
    })
}

/// Functions for four lanes, and what they call, under names that a text of one lane leaves free.
pub fn four_lanes(functions: &str) -> String {
    let text = helpers_for(functions) + functions;
    let mut names: BTreeMap<String, String> = BTreeMap::new();
    for name in ["F", "I", "U", "B", "H"] {
        names.insert(name.into(), format!("{name}4"));
    }
    for (at, _) in text.match_indices("fn ") {
        let name = tokens(&text[at + 3..]).next().unwrap_or("");
        if name != "prologue" {
            names.insert(name.into(), format!("{name}_of_four"));
        }
    }
    let aliases = ["F4 = vec4<f32>", "I4 = vec4<i32>", "U4 = vec4<u32>", "B4 = vec4<bool>"];
    let aliases: String = aliases.iter().map(|alias| format!("alias {alias};\n")).collect();
    let half = if has_token(&text, "H") { "alias H4 = vec4<f16>;\n" } else { "" };
    format!("{aliases}{half}{}", substitute(&text, &names))
}

/// `text` with each name that `rename` knows replaced: not members after a dot, nor members being declared in a struct.
pub fn substitute_names(text: &str, rename: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len() * 2);
    let mut in_struct = false;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        if length == 0 {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            in_struct &= !rest.starts_with('}');
            out.push_str(&rest[..next]);
            at += next;
            continue;
        }
        let word = &rest[..length];
        in_struct |= word == "struct";
        let member = out.ends_with('.') || (in_struct && rest[length..].trim_start().starts_with(':'));
        match rename(word).filter(|_| !member) {
            Some(name) => out.push_str(&name),
            None => out.push_str(word),
        }
        at += length;
    }
    out
}

/// A kernel's text taken apart.
#[derive(Debug, Default)]
pub struct Scanned {
    /// Without comments, bindings and the attributes of `main`.
    pub body: String,
    /// Names declared at module scope, besides those of bindings.
    pub names: HashSet<String>,
    /// (binding, access, name, type).
    pub bindings: Vec<(u32, String, String, String)>,
    /// What `main` takes, without attributes.
    pub parameters: String,
    /// The built-in value of each.
    pub builtins: Vec<String>,
    /// Invocations of a workgroup along its axes.
    pub workgroup: [u32; 3],
    /// True if invocations of a workgroup wait for one another.
    pub waits: bool,
    /// True if its invocations work on a tile in registers: such a text takes long to compile.
    pub tile: bool,
}

/// Takes a kernel's text apart; `None` where it is not written as this crate's are.
pub fn scan(source: &str) -> Option<Scanned> {
    let has = |words: &[&str]| words.iter().any(|word| source.contains(word));
    let mut found = Scanned {
        workgroup: [1; 3],
        waits: has(&["var<workgroup>", "Barrier("]),
        tile: has(&["array<array<", "subgroupBroadcast("]),
        ..Scanned::default()
    };
    let mut text = String::with_capacity(source.len());
    for line in source.lines() {
        let line = line.split("//").next().unwrap_or("").trim_end();
        if !line.is_empty() && !line.starts_with("enable ") {
            text.push_str(line);
            text.push('\n');
        }
    }
    while let Some(start) = text.find("@group(0) @binding(") {
        let end = start + text[start..].find(';')?;
        let declaration = text[start + "@group(0) @binding(".len()..end].to_string();
        let (binding, rest) = declaration.split_once(") var<")?;
        let (space, rest) = rest.split_once("> ")?;
        let (name, kind) = rest.split_once(": ")?;
        let access = space.strip_prefix("storage, ").unwrap_or(space);
        found.bindings.push((binding.parse().ok()?, access.into(), name.into(), kind.into()));
        text.replace_range(start..=end, "");
    }
    let start = text.find("@compute @workgroup_size(")?;
    let header = start + text[start..].find("fn main(")?;
    let sizes = text[start + "@compute @workgroup_size(".len()..header].trim_end().strip_suffix(')')?.to_string();
    for (axis, size) in sizes.split(',').map(str::trim).filter(|size| !size.is_empty()).enumerate() {
        *found.workgroup.get_mut(axis)? = number(&text, size)?;
    }
    let open = header + "fn main(".len();
    let close = open + text[open..].find(") {")?;
    for argument in text[open..close].split('@').map(|piece| piece.trim().trim_end_matches(',')) {
        if argument.is_empty() {
            continue;
        }
        let (value, rest) = argument.strip_prefix("builtin(")?.split_once(") ")?;
        let (name, kind) = rest.split_once(": ")?;
        let kind = if kind.starts_with("vec3") { "vec3<u32>" } else { "u32" };
        found.parameters.push_str(&format!("{name}: {kind}, "));
        found.builtins.push(value.into());
    }
    text.replace_range(start..close, &format!("fn main({}", found.parameters));
    let mut depth = 0;
    let mut last = "";
    for (_, word) in words(&text) {
        if !word.starts_with(is_word) {
            depth = (depth + word.matches('{').count()).saturating_sub(word.matches('}').count());
            continue;
        }
        if depth == 0 && matches!(last, "fn" | "struct" | "alias" | "const" | "var") && word != "private" {
            found.names.insert(word.into());
        }
        // `var<private> name`.
        last = if last == "var" && word == "private" { "var" } else { word };
    }
    found.body = text;
    Some(found)
}

impl Scanned {
    /// What `main` is to be given as invocation `lane` of workgroup `group` of `groups`, counted along one axis; `None` if it
    /// asks for something else.
    pub fn values(&self, group: &str, groups: &str, lane: &str) -> Option<String> {
        let [x, y, _] = self.workgroup;
        let local = match self.workgroup {
            [_, 1, 1] => format!("vec3<u32>({lane}, 0u, 0u)"),
            _ => format!("vec3<u32>({lane} % {x}u, {lane} / {x}u % {y}u, {lane} / {}u)", x * y),
        };
        let value = |builtin: &String| match builtin.as_str() {
            "workgroup_id" => Some(format!("vec3<u32>({group}, 0u, 0u)")),
            "num_workgroups" => Some(format!("vec3<u32>({groups}, 1u, 1u)")),
            "local_invocation_index" => Some(lane.into()),
            "local_invocation_id" => Some(local.clone()),
            "global_invocation_id" => Some(format!("(vec3<u32>({group} * {x}u, 0u, 0u) + {local})")),
            _ => None,
        };
        Some(self.builtins.iter().map(value).collect::<Option<Vec<String>>>()?.join(", "))
    }

    /// True if a function declares `name`, as a parameter or with `let` or `var` (or a struct has such a member).
    pub fn declares_local(&self, name: &str) -> bool {
        let typed = |at: usize| self.body[at + name.len()..].trim_start().starts_with(':');
        let mut last = "";
        let named = words(&self.body).filter(|(_, word)| word.starts_with(is_word));
        named.into_iter().any(|(at, word)| {
            let before = std::mem::replace(&mut last, word);
            word == name && (matches!(before, "let" | "var" | "const") || typed(at))
        })
    }
}

/// Words and what lies between them, with their places.
fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = &text[at..];
        let first = rest.chars().next()?;
        let length = rest.find(|c| is_word(c) != is_word(first)).unwrap_or(rest.len());
        at += length;
        Some((at - length, &rest[..length]))
    })
}

/// A whole number, or a constant of the text that is one.
fn number(text: &str, size: &str) -> Option<u32> {
    let plain = |size: &str| size.trim_end_matches('u').parse().ok();
    plain(size).or_else(|| {
        let start = text.find(&format!("const {size}: u32 = "))?;
        let value = &text[start + format!("const {size}: u32 = ").len()..];
        plain(&value[..value.find(';')?])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_gets_what_it_asks_for_or_is_left_alone() {
        let kernel = |builtin: &str, sizes: &str| {
            let main =
                format!("@compute @workgroup_size({sizes})\nfn main(@builtin({builtin}) it: vec3<u32>) {{\n}}\n");
            scan(&main).and_then(|scanned| scanned.values("g", "n", "l"))
        };
        assert_eq!(kernel("workgroup_id", "8").as_deref(), Some("vec3<u32>(g, 0u, 0u)"));
        assert_eq!(kernel("local_invocation_id", "8").as_deref(), Some("vec3<u32>(l, 0u, 0u)"));
        let [x, y, z] = ["l % 4u", "l / 4u % 2u", "l / 8u"];
        assert_eq!(kernel("local_invocation_id", "4, 2").as_deref(), Some(&*format!("vec3<u32>({x}, {y}, {z})")));
        assert_eq!(kernel("subgroup_invocation_id", "8"), None);
    }
}
