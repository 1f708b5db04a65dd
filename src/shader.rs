//! Shaders as parts: what is bound, the numbers at hand, declarations, and `main`. They are joined to a text once, at the very
//! end, so whoever merges kernels or shares out their work never takes a text apart.
//!
//! Names of module scope stand between marks (`$`, which WGSL has not): the build marks those of the files in `shaders/`
//! (`build/wgsl.rs`), and whoever writes WGSL in Rust marks its own. So a part can be given names of its own.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::hash::{Hash, Hasher};

mod expression;
mod foreign;
mod params;
mod program;

use crate::bindings::{FUSION, OPERAND_WORDS, OPERANDS, PARAMS};
pub use expression::{Algebra, Expression};
use foreign::Foreign;
pub(crate) use params::{Params, Word, params};
pub use program::Program;
pub(crate) use program::Programs;
use rustc_hash::FxHashSet;

/// Marked WGSL.
pub(crate) type Text = Cow<'static, str>;

/// What a declaration has in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Facts(u8);

impl Facts {
    pub const NONE: Facts = Facts(0);
    /// f16.
    pub const HALF: Facts = Facts(1);
    /// Operations among the lanes of a subgroup.
    pub const SUBGROUP: Facts = Facts(2);
    /// Integers of 64 bits.
    pub const PAIRS: Facts = Facts(4);
    /// Products of matrices by units of their own.
    pub const MATRICES: Facts = Facts(8);
    /// Invocations of a workgroup that wait for one another, or memory that they share.
    pub const WAITS: Facts = Facts(16);
    /// A tile in an invocation's registers: such a text takes long to compile.
    pub const TILE: Facts = Facts(32);

    pub const fn and(self, other: Facts) -> Facts {
        Facts(self.0 | other.0)
    }

    pub const fn has(self, other: Facts) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A declaration at module scope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub name: Text,
    pub text: Text,
    pub facts: Facts,
    /// `Some` for a constant, with its value where that is a plain whole number.
    pub constant: Option<Option<u32>>,
}

impl Hash for Item {
    /// By its name and the ends of its text: that declarations are alike is asked for each kernel of a plan, and most are.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let text = self.text.as_bytes();
        (&*self.name, text.len(), text.first_chunk::<64>(), text.last_chunk::<128>()).hash(state);
    }
}

impl Item {
    /// The declaration `text` of `name`, marked.
    pub fn new(name: impl Into<Text>, text: impl Into<Text>) -> Item {
        Item { name: name.into(), text: text.into(), facts: Facts::NONE, constant: None }
    }

    /// Another name for a type.
    pub fn alias(name: &'static str, kind: impl std::fmt::Display) -> Item {
        Item::new(name, format!("alias ${name}$ = {kind};\n"))
    }

    /// The same with what `facts` says in it.
    pub fn with(self, facts: Facts) -> Item {
        Item { facts: self.facts.and(facts), ..self }
    }

    /// With what `rename` gives, marked, for the names that it knows.
    pub fn renamed(&self, rename: &dyn Fn(&str) -> Option<String>) -> Item {
        let name = rename(&self.name).map_or_else(|| self.name.clone(), |name| unmarked(&name).into());
        Item { name, text: renamed(&self.text, rename).into(), ..self.clone() }
    }
}

/// A value that a constant of a shader may have.
pub(crate) trait Constant {
    /// Its type, its text, and the number that it is.
    fn written(self) -> (&'static str, String, Option<u32>);
}

impl Constant for u32 {
    fn written(self) -> (&'static str, String, Option<u32>) {
        ("u32", format!("{self}u"), Some(self))
    }
}

impl Constant for usize {
    fn written(self) -> (&'static str, String, Option<u32>) {
        (self as u32).written()
    }
}

impl Constant for bool {
    fn written(self) -> (&'static str, String, Option<u32>) {
        ("bool", self.to_string(), None)
    }
}

impl Constant for f32 {
    fn written(self) -> (&'static str, String, Option<u32>) {
        ("f32", format!("{self:?}"), None)
    }
}

/// A value that a device gives `main`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Builtin {
    WorkgroupId,
    NumWorkgroups,
    LocalInvocationIndex,
    LocalInvocationId,
    SubgroupId,
    SubgroupInvocationId,
}

impl Builtin {
    /// Its name and its type.
    fn written(self) -> (&'static str, &'static str) {
        match self {
            Builtin::WorkgroupId => ("workgroup_id", "vec3<u32>"),
            Builtin::NumWorkgroups => ("num_workgroups", "vec3<u32>"),
            Builtin::LocalInvocationIndex => ("local_invocation_index", "u32"),
            Builtin::LocalInvocationId => ("local_invocation_id", "vec3<u32>"),
            Builtin::SubgroupId => ("subgroup_id", "u32"),
            Builtin::SubgroupInvocationId => ("subgroup_invocation_id", "u32"),
        }
    }
}

/// Invocations of a workgroup along an axis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Size {
    Is(u32),
    /// As a constant says.
    Of(&'static str),
}

/// The entry point.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Main {
    pub parameters: &'static [(&'static str, Builtin)],
    pub workgroup: [Size; 3],
    /// From the opening brace on.
    pub body: Text,
    pub facts: Facts,
}

/// What most entry points take: `group`, `groups` and `lane`.
pub(crate) const USUAL: &[(&str, Builtin)] =
    &[("group", Builtin::WorkgroupId), ("groups", Builtin::NumWorkgroups), ("lane", Builtin::LocalInvocationIndex)];

/// A file of `shaders/`.
#[derive(Debug)]
pub(crate) struct File {
    pub items: &'static [Item],
    pub main: Option<&'static Main>,
}

/// A declared storage binding.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Storage {
    pub binding: u32,
    pub write: bool,
    pub name: Text,
    /// Type of its elements.
    pub element: Text,
}

/// The parts of a kernel's shader.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Shader {
    pub(crate) storage: Vec<Storage>,
    /// The struct at [`PARAMS`], which is called `p`.
    pub(crate) params: Option<Item>,
    /// Vectors at [`FUSION`], which are called `f`.
    pub(crate) fusion: usize,
    /// Vectors of host numbers at [`OPERANDS`], which are called `operands`.
    pub(crate) operands: usize,
    pub(crate) items: Vec<Item>,
    pub(crate) main: Option<Main>,
    /// Functions that users' expressions bring.
    pub(crate) helpers: Vec<&'static str>,
    /// A whole text of a user's: a kernel, or a part of an optimizer.
    pub(crate) foreign: Option<Foreign>,
}

impl From<&'static str> for Shader {
    /// A text of a user's.
    fn from(text: &'static str) -> Shader {
        Shader::foreign(text.into())
    }
}

impl Shader {
    /// A whole text of a user's: a kernel, or a part of an optimizer.
    pub(crate) fn foreign(text: String) -> Shader {
        Shader { foreign: Some(Foreign::new(text)), ..Shader::default() }
    }

    /// What is in these files, one after the other.
    pub(crate) fn of(files: &[&File]) -> Shader {
        files.iter().fold(Shader::default(), |shader, file| shader.file(file))
    }

    /// With a file.
    pub(crate) fn file(mut self, file: &File) -> Shader {
        self.items.extend_from_slice(file.items);
        self.main = file.main.cloned().or(self.main);
        self
    }

    /// With a constant.
    pub(crate) fn constant(self, name: &'static str, value: impl Constant) -> Shader {
        let (kind, text, number) = value.written();
        let item = Item::new(name, format!("const ${name}$: {kind} = {text};\n"));
        self.item(Item { constant: Some(number), ..item })
    }

    /// With another name for a type.
    pub(crate) fn alias(self, name: &'static str, kind: impl std::fmt::Display) -> Shader {
        self.item(Item::alias(name, kind))
    }

    /// With a declaration, marked.
    pub(crate) fn item(mut self, item: Item) -> Shader {
        self.items.push(item);
        self
    }

    /// With a storage binding.
    pub(crate) fn bound(
        mut self,
        binding: u32,
        write: bool,
        name: impl Into<Text>,
        element: impl Into<Text>,
    ) -> Shader {
        self.storage.push(Storage { binding, write, name: name.into(), element: element.into() });
        self
    }

    /// With the host numbers of a step.
    pub(crate) fn with_operands(self) -> Shader {
        Shader { operands: OPERAND_WORDS / 4, ..self }
    }

    /// With all parts of another.
    pub(crate) fn join(mut self, other: Shader) -> Shader {
        self.storage.extend(other.storage);
        self.params = other.params.or(self.params);
        self.fusion = self.fusion.max(other.fusion);
        self.operands = self.operands.max(other.operands);
        self.items.extend(other.items);
        self.main = other.main.or(self.main);
        self.helpers.extend(other.helpers);
        self.foreign = other.foreign.or(self.foreign);
        self
    }

    /// What is in it.
    pub(crate) fn facts(&self) -> Facts {
        let items = self.items.iter().map(|item| item.facts);
        let main = self.main.iter().map(|main| main.facts);
        let foreign = self.foreign.iter().map(|foreign| foreign.facts);
        items.chain(main).chain(foreign).fold(Facts::NONE, Facts::and)
    }

    /// Names that it declares, bindings and uniforms aside.
    pub(crate) fn declared(&self) -> FxHashSet<&str> {
        let own = self.items.iter().chain(&self.params).map(|item| item.name.as_ref());
        own.chain(self.foreign.iter().flat_map(Foreign::functions)).collect()
    }

    /// True if a result is stored as the planner says, as f16 or f32.
    pub(crate) fn stores_any_float(&self) -> bool {
        let own = self.storage.iter().any(|storage| names(&storage.element).any(|name| name == "OUT"));
        own || self.foreign.as_ref().is_some_and(|foreign| foreign.stores_any_float)
    }

    /// Names that its parts have and do not declare.
    pub(crate) fn missing(&self) -> FxHashSet<&str> {
        let texts = self.items.iter().map(|item| &item.text).chain(self.main.iter().map(|main| &main.body));
        let foreign = self.foreign.iter().flat_map(Foreign::words);
        let declared = self.declared();
        texts.flat_map(|text| names(text)).chain(foreign).filter(|name| !declared.contains(name)).collect()
    }

    /// Invocations of a workgroup along its axes, where numbers say so.
    pub(crate) fn workgroup(&self) -> Option<[u32; 3]> {
        let value = |size: Size| match size {
            Size::Is(number) => Some(number),
            Size::Of(name) => self.items.iter().find(|item| item.name == name)?.constant?,
        };
        let [x, y, z] = self.main.as_ref()?.workgroup.map(value);
        Some([x?, y?, z?])
    }

    /// What `main` is to be given as invocation `lane` of workgroup `group` of `groups`, counted along one axis; `None` if it
    /// asks for something else.
    pub(crate) fn arguments(&self, group: &str, groups: &str, lane: &str) -> Option<String> {
        let [x, y, z] = self.workgroup()?;
        let local = match [y, z] {
            [1, 1] => format!("vec3<u32>({lane}, 0u, 0u)"),
            _ => format!("vec3<u32>({lane} % {x}u, {lane} / {x}u % {y}u, {lane} / {}u)", x * y),
        };
        let value = |(_, builtin): &(_, Builtin)| match builtin {
            Builtin::WorkgroupId => Some(format!("vec3<u32>({group}, 0u, 0u)")),
            Builtin::NumWorkgroups => Some(format!("vec3<u32>({groups}, 1u, 1u)")),
            Builtin::LocalInvocationIndex => Some(lane.into()),
            Builtin::LocalInvocationId => Some(local.clone()),
            Builtin::SubgroupId | Builtin::SubgroupInvocationId => None,
        };
        let values = self.main.as_ref()?.parameters.iter().map(value);
        Some(values.collect::<Option<Vec<String>>>()?.join(", "))
    }

    /// What `main` does, from the opening brace on. A function `before_main` of a shader is done before all else.
    pub(crate) fn body(&self) -> Option<Text> {
        let main = self.main.as_ref()?;
        let before = self.items.iter().any(|item| item.name == "before_main");
        Some(match main.body.strip_prefix('{').filter(|_| before) {
            Some(rest) => format!("{{\n    $before_main$();{rest}").into(),
            None => main.body.clone(),
        })
    }

    /// `main` with this body as a function of this name.
    pub(crate) fn main_function(&self, name: &str, body: &str) -> Option<Item> {
        let main = self.main.as_ref()?;
        let parameters = main.parameters.iter().map(|(name, builtin)| format!("{name}: {}, ", builtin.written().1));
        let text = format!("fn ${name}$({}) {}\n", parameters.collect::<String>(), body);
        Some(Item { facts: main.facts, ..Item::new(name.to_string(), text) })
    }

    /// Its text.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        let facts = self.facts();
        for (fact, name) in [(Facts::HALF, "f16"), (Facts::MATRICES, "wgpu_cooperative_matrix")] {
            if facts.has(fact) {
                let _ = writeln!(out, "enable {name};");
            }
        }
        let bound = |binding: u32, space: &str, name: &str, kind: &str| {
            format!("@group(0) @binding({binding}) var<{space}> {name}: {kind};\n")
        };
        if self.params.is_some() {
            out += &bound(PARAMS, "uniform", "p", "Params");
        }
        for (binding, name, vectors) in [(FUSION, "f", self.fusion), (OPERANDS, "operands", self.operands)] {
            if vectors > 0 {
                out += &bound(binding, "uniform", name, &format!("array<vec4<u32>, {vectors}>"));
            }
        }
        for Storage { binding, write, name, element } in &self.storage {
            let space = if *write { "storage, read_write" } else { "storage, read" };
            out += &bound(*binding, space, name, &format!("array<{}>", unmarked(element)));
        }
        self.params.iter().chain(&self.items).for_each(|item| write_plain(&item.text, &mut out));
        out.extend(self.helpers.iter().copied());
        out.extend(self.foreign.iter().map(|foreign| foreign.text.as_str()));
        if let (Some(main), Some(body)) = (&self.main, self.body()) {
            let sizes: Vec<String> = main
                .workgroup
                .iter()
                .map(|size| match size {
                    Size::Is(number) => number.to_string(),
                    Size::Of(name) => name.to_string(),
                })
                .collect();
            let _ = writeln!(out, "@compute @workgroup_size({})\nfn main(", sizes.join(", "));
            for (name, builtin) in main.parameters {
                let (value, kind) = builtin.written();
                let _ = writeln!(out, "    @builtin({value}) {name}: {kind},");
            }
            out.push_str(") ");
            write_plain(&body, &mut out);
            out.push('\n');
        }
        out
    }
}

/// The names in a marked text.
pub(crate) fn names(text: &str) -> impl Iterator<Item = &str> {
    text.split('$').skip(1).step_by(2)
}

fn write_plain(text: &str, out: &mut String) {
    out.extend(text.split('$'));
}

/// A text without its marks.
pub(crate) fn unmarked(text: &str) -> String {
    text.split('$').collect()
}

/// A marked text with what `rename` gives, marked, for the names that it knows.
pub(crate) fn renamed(text: &str, rename: &dyn Fn(&str) -> Option<String>) -> String {
    let mut out = String::with_capacity(text.len() * 5 / 4);
    for (k, piece) in text.split('$').enumerate() {
        match rename(piece).filter(|_| k % 2 == 1) {
            Some(other) => out.push_str(&other),
            None if k % 2 == 1 => out.extend(["$", piece, "$"]),
            None => out.push_str(piece),
        }
    }
    out
}
