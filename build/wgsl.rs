//! WGSL taken apart at module scope, when the crate is built: nothing reads a shader's text when it runs.
//!
//! A text comes out with the names of module scope between marks ([`MARK`]), its own and those that it expects others to
//! declare. So parts are joined by writing them one after the other, and a part of a merged kernel gets names of its own
//! without anyone looking for them. What is not written as this crate's shaders are is an error with its line.

use std::collections::HashSet;

/// Stands on both sides of a name of module scope; WGSL has no such character.
pub const MARK: char = '$';

/// Whether a word shows it.
type Shows = fn(&str) -> bool;

/// What a text has in it.
pub const FACTS: [(&str, Shows); 6] = [
    ("HALF", |word| word == "f16"),
    ("SUBGROUP", |word| word.strip_prefix("subgroup").is_some_and(|rest| rest.starts_with(char::is_uppercase))),
    ("PAIRS", |word| word == "u64"),
    ("MATRICES", |word| word.starts_with("coop")),
    ("WAITS", |word| word.ends_with("Barrier") || word == "workgroupUniformLoad" || word == "workgroup"),
    ("TILE", |word| word == "array<array<" || word == "subgroupBroadcast"),
];

/// Words of WGSL that this crate's shaders use: no name of module scope is one of them.
const WORDS: &[&str] = &[
    "array",
    "atomic",
    "bool",
    "f16",
    "f32",
    "i32",
    "mat3x4",
    "mat4x3",
    "mat4x4",
    "u32",
    "u64",
    "vec2",
    "vec3",
    "vec4",
    "alias",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "fn",
    "for",
    "if",
    "let",
    "loop",
    "return",
    "struct",
    "true",
    "var",
    "while",
    "storage",
    "uniform",
    "private",
    "workgroup",
    "function",
    "read",
    "read_write",
    "abs",
    "all",
    "any",
    "atomicAdd",
    "atomicMax",
    "bitcast",
    "ceil",
    "clamp",
    "arrayLength",
    "dot",
    "exp",
    "floor",
    "fma",
    "log",
    "max",
    "min",
    "pack2x16float",
    "unpack2x16float",
    "round",
    "select",
    "sign",
    "sqrt",
    "transpose",
    "trunc",
    "workgroupBarrier",
    "workgroupUniformLoad",
];

/// A declaration at module scope.
#[derive(Debug)]
pub struct Item {
    pub name: String,
    /// Its text, marked.
    pub text: String,
    pub facts: HashSet<&'static str>,
    /// The value of a constant that is a plain whole number.
    pub value: Option<u32>,
    /// True for constants.
    pub constant: bool,
}

/// The entry point.
#[derive(Debug)]
pub struct Main {
    /// (name, built-in value) of what it takes.
    pub parameters: Vec<(String, String)>,
    /// Invocations of a workgroup along its axes: numbers, or names of constants.
    pub workgroup: Vec<String>,
    /// From the opening brace on, marked.
    pub body: String,
    pub facts: HashSet<&'static str>,
}

/// A text taken apart.
#[derive(Debug, Default)]
pub struct File {
    pub items: Vec<Item>,
    pub main: Option<Main>,
}

/// A line, and what is wrong there.
pub type Fault = (usize, String);

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// A word, a number, or any other character, with the line that it is in; spaces and line ends are tokens too.
struct Token<'a> {
    text: &'a str,
    line: usize,
}

impl Token<'_> {
    fn is_name(&self) -> bool {
        self.text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
    }

    fn is_space(&self) -> bool {
        self.text.starts_with(char::is_whitespace)
    }
}

/// Takes a text apart.
pub fn parse(text: &str) -> Result<File, Fault> {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        plain.push_str(line.split("//").next().unwrap_or("").trim_end());
        plain.push('\n');
    }
    let tokens = tokens(&plain);
    let mut file = File::default();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].is_space() {
            at += 1;
            continue;
        }
        let end = end_of(&tokens, at)?;
        declaration(&tokens[at..end], &mut file)?;
        at = end;
    }
    Ok(file)
}

fn tokens(text: &str) -> Vec<Token<'_>> {
    let (mut found, mut line, mut rest) = (vec![], 1, text);
    while let Some(first) = rest.chars().next() {
        let end = |stop: &dyn Fn(char) -> bool| rest.find(stop).unwrap_or(rest.len());
        let length = match first {
            '0'..='9' => end(&|c| !is_word(c) && c != '.'),
            c if is_word(c) => end(&|c| !is_word(c)),
            c if c.is_whitespace() => end(&|c| !c.is_whitespace()),
            c => c.len_utf8(),
        };
        let (token, behind) = rest.split_at(length);
        found.push(Token { text: token, line });
        line += token.matches('\n').count();
        rest = behind;
    }
    found
}

/// Where the declaration that begins at `start` ends: behind a semicolon, or behind a brace that closes a function or struct.
fn end_of(tokens: &[Token], start: usize) -> Result<usize, Fault> {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate().skip(start) {
        match token.text {
            "{" | "(" => depth += 1,
            ")" => depth -= 1,
            "}" => {
                depth -= 1;
                if depth == 0 {
                    return Ok(at + 1);
                }
            }
            ";" if depth == 0 => return Ok(at + 1),
            _ => {}
        }
    }
    Err((tokens[start].line, "this declaration has no end".into()))
}

fn declaration(tokens: &[Token], file: &mut File) -> Result<(), Fault> {
    let words: Vec<&Token> = tokens.iter().filter(|token| !token.is_space()).collect();
    let fault = |what: &str| Err((words[0].line, what.to_string()));
    let texts: Vec<&str> = words.iter().map(|token| token.text).collect();
    if let ["@", "compute", ..] = texts[..] {
        file.main = Some(main(tokens)?);
        return Ok(());
    }
    let (name, constant) = match texts[..] {
        ["var", "<", "workgroup" | "private", ">", name, ..] => (name, false),
        ["const", name, ..] => (name, true),
        ["alias" | "struct" | "fn", name, ..] => (name, false),
        _ => return fault("this is no declaration that the build knows"),
    };
    if WORDS.contains(&name) {
        return fault("its name is a word of WGSL");
    }
    let value = match texts[..] {
        ["const", _, ":", "u32", "=", number, ";"] => number.trim_end_matches('u').parse().ok(),
        _ => None,
    };
    let members: HashSet<&str> = match texts[0] {
        "struct" => words.windows(2).filter(|pair| pair[1].text == ":").map(|pair| pair[0].text).collect(),
        _ => HashSet::new(),
    };
    let mut text = lines(&marked(tokens.iter(), &members)?);
    text.push('\n');
    file.items.push(Item { name: name.into(), text, facts: facts(&words), value, constant });
    Ok(())
}

fn main(tokens: &[Token]) -> Result<Main, Fault> {
    let line = tokens[0].line;
    let fault = |what: &str| (line, what.to_string());
    let texts: Vec<&str> = tokens.iter().filter(|token| !token.is_space()).map(|token| token.text).collect();
    let header =
        texts.iter().position(|&text| text == "fn").ok_or_else(|| fault("an entry point without a function"))?;
    let ["@", "compute", "@", "workgroup_size", "(", sizes @ .., ")"] = &texts[..header] else {
        return Err(fault("an entry point without a workgroup size"));
    };
    let ["main", "(", ..] = texts[header + 1..] else { return Err(fault("an entry point that is not `main`")) };
    let workgroup = sizes.iter().filter(|&&text| text != ",").map(|text| text.to_string()).collect();
    let open = tokens.iter().position(|token| token.text == "{").ok_or_else(|| fault("`main` without a body"))?;
    let before: Vec<&str> = tokens[..open].iter().filter(|token| !token.is_space()).map(|token| token.text).collect();
    let mut parameters = vec![];
    let mut rest = &before[header + 3..];
    while let ["@", "builtin", "(", value, ")", name, ":", behind @ ..] = rest {
        parameters.push((name.to_string(), value.to_string()));
        rest = match behind.iter().position(|&text| text == "@") {
            Some(next) => &behind[next..],
            None => &[],
        };
    }
    if !rest.is_empty() && rest != [")"] {
        return Err(fault("what `main` takes is no list of built-in values"));
    }
    let body = {
        let mut scopes = Scopes::default();
        scopes.open();
        parameters.iter().for_each(|(name, _)| scopes.declare(name));
        lines(&scopes.marked(tokens[open..].iter())?)
    };
    let words: Vec<&Token> = tokens[open..].iter().collect();
    Ok(Main { parameters, workgroup, body, facts: facts(&words) })
}

/// Without lines that have nothing in them.
fn lines(text: &str) -> String {
    text.lines().filter(|line| !line.trim().is_empty()).collect::<Vec<_>>().join("\n")
}

fn facts(words: &[&Token]) -> HashSet<&'static str> {
    let words: Vec<&Token> = words.iter().copied().filter(|token| !token.is_space()).collect();
    let nested = words.windows(4).any(|four| four.iter().map(|token| token.text).eq(["array", "<", "array", "<"]));
    let has = |is: fn(&str) -> bool| words.iter().any(|token| is(token.text)) || nested && is("array<array<");
    FACTS.iter().filter(|(_, is)| has(*is)).map(|(name, _)| *name).collect()
}

fn marked<'a>(tokens: impl Iterator<Item = &'a Token<'a>>, members: &HashSet<&str>) -> Result<String, Fault> {
    let mut scopes = Scopes::default();
    scopes.open();
    members.iter().for_each(|name| scopes.declare(name));
    scopes.marked(tokens)
}

/// The names that are declared where a text has come to.
#[derive(Default)]
struct Scopes {
    /// Names, and true for the scope of a `for`, which ends with its body.
    open: Vec<(HashSet<String>, bool)>,
}

impl Scopes {
    fn open(&mut self) {
        self.open.push((HashSet::new(), false));
    }

    fn declare(&mut self, name: &str) {
        if let Some((names, _)) = self.open.last_mut() {
            names.insert(name.into());
        }
    }

    fn knows(&self, name: &str) -> bool {
        self.open.iter().any(|(names, _)| names.contains(name))
    }

    /// The text of a declaration with names of module scope marked.
    fn marked<'a>(&mut self, tokens: impl Iterator<Item = &'a Token<'a>>) -> Result<String, Fault> {
        let tokens: Vec<&Token> = tokens.collect();
        let mut out = String::new();
        // Names that are there from the end of their statement on.
        let mut waiting: Vec<&str> = vec![];
        let (mut parentheses, mut in_header) = (0, false);
        let near = |at: usize, back: bool| {
            let found = |at: &usize| !tokens[*at].is_space();
            let place = if back { (0..at).rev().find(found) } else { (at + 1..tokens.len()).find(found) };
            place.map_or("", |at| tokens[at].text)
        };
        let is_function = tokens.first().is_some_and(|token| token.text == "fn");
        for (at, token) in tokens.iter().enumerate() {
            match token.text {
                "{" => {
                    self.open();
                    waiting.drain(..).for_each(|name| self.declare(name));
                    in_header = false;
                }
                "}" => {
                    self.open.pop();
                    if self.open.last().is_some_and(|(_, is_for)| *is_for) {
                        self.open.pop();
                    }
                }
                "for" => self.open.push((HashSet::new(), true)),
                ";" => waiting.drain(..).for_each(|name| self.declare(name)),
                "(" => {
                    parentheses += 1;
                    in_header |= is_function && at < 6 && parentheses == 1;
                }
                ")" => parentheses -= 1,
                name if token.is_name() => {
                    let (before, behind) = (near(at, true), near(at, false));
                    let declares = matches!(before, "let" | "const") && at > 2
                        || before == "var" && behind != "<" && at > 2
                        || in_header && parentheses == 1 && behind == ":";
                    if declares {
                        waiting.push(name);
                    } else if before == "@" && name == "builtin" {
                        return Err((token.line, "only `main` takes built-in values".into()));
                    } else if before != "."
                        && before != "@"
                        && !self.knows(name)
                        && !WORDS.contains(&name)
                        && !is_operation(name)
                    {
                        out.push(MARK);
                        out.push_str(name);
                        out.push(MARK);
                        continue;
                    }
                }
                _ => {}
            }
            out.push_str(token.text);
        }
        Ok(out)
    }
}

/// True for the operations of subgroups and of matrix units.
fn is_operation(name: &str) -> bool {
    let upper = |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with(char::is_uppercase));
    upper("subgroup") || upper("coop")
}
