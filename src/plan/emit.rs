//! Shaders of fused pointwise regions: whole kernels, and the epilogues and prologues of hand-written ones.
//!
//! Values are emitted from the results back to the buffers. A value is named by its node and the index at which it is
//! read, so broadcasts and views are index arithmetic. Lengths and strides are words of a uniform, never text, so that
//! changing a batch size compiles nothing.

use std::borrow::Cow;
use std::fmt::Write;
use std::rc::Rc;

use rustc_hash::FxHashMap;

mod access;
mod apart;
mod around;

pub use around::{around, measure_around};

use super::graph::{Graph, Work};
use super::prelude::four_lanes;
use super::units::{State, Unit};
use crate::dispatch::OPERAND_WORDS;
use crate::dtype::DType;
use crate::graph::LeafKind;
use crate::kernel::{EXTRA, Shader};
use crate::layout::Strided;
use crate::shader::{Expression, Facts, Item, Main, Size, USUAL};

/// Why a unit cannot be one kernel.
#[derive(Debug)]
pub struct Refused;

/// A unit as parts of a shader.
#[derive(Debug, Default)]
pub struct Emitted {
    /// Everything but the kernel's own parts, and the functions of the library that are called.
    pub shader: Shader,
    /// Nodes bound for reading, from [`EXTRA`] on.
    pub reads: Vec<usize>,
    /// Nodes bound for writing, after the reads; without the kernel's primary result.
    pub writes: Vec<usize>,
    /// The node that the hand-written kernel stores, or `None` for a whole kernel.
    pub primary: Option<usize>,
    /// Words at [`FUSION`].
    pub words: Vec<u32>,
    /// True if operands are read.
    pub operands: bool,
    /// True if an expression of a user's op is in it.
    pub checked: bool,
    /// Places in `words` of the words of operands.
    pub places: Vec<usize>,
    /// Operations that an element takes.
    pub operations: usize,
    /// True if every member is computed at the index of the results and at no other.
    pub flat: bool,
}

/// Most operations of a function: what a driver's compiler takes for it grows faster than its length.
pub const MOST_OPERATIONS: usize = 512;
/// A single axis of at least this many elements is taken for data, not for a batch of numbers.
const LONG: usize = 4096;
/// Fewer elements an item of a batch than this are taken one at a time where they do not divide by four.
const LEAST_ROW: usize = 16;
/// Fewer elements an item of a batch than this are not taken in pairs, whose kernels compile longer (`docs/software-drivers.md`).
const SHORT: usize = 1 << 18;
/// Invocations of a generated kernel's workgroup.
pub const WORKGROUP: u64 = 64;

/// What stands for a value in a text: shared, for each use asks for it.
type Name = Rc<str>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Index {
    name: Name,
    /// True if the lanes are consecutive elements, false if all lanes read one.
    spread: bool,
}

/// Emits a unit without hand-written kernels; four lanes, or eight as a pair, only where every index allows it.
pub fn emit(graph: &Graph, state: &State, unit_id: usize, unit: &Unit, lanes: usize) -> Result<Emitted, Refused> {
    Ok(whole(graph, state, unit_id, unit, lanes)?.finish())
}

/// [`emit`] without the text: what it takes.
pub fn measure(graph: &Graph, state: &State, unit_id: usize, unit: &Unit, lanes: usize) -> Result<Emitted, Refused> {
    Ok(whole(graph, state, unit_id, unit, lanes)?.out)
}

fn whole<'a>(
    graph: &'a Graph,
    state: &'a State<'a>,
    unit_id: usize,
    unit: &Unit,
    lanes: usize,
) -> Result<Emitter<'a>, Refused> {
    let mut stored: Vec<usize> = unit.members.iter().copied().filter(|&node| state.is_stored(graph, node)).collect();
    stored.sort_unstable();
    let mut emitter = Emitter::new(graph, state, unit_id, lanes.min(4));
    emitter.pairs = lanes == 8;
    emitter.whole(&stored)?;
    Ok(emitter)
}

/// Words for the inputs of an expression.
const LETTERS: [&str; 3] = ["a", "b", "c"];

/// The values that words of an expression stand for: a handful.
#[derive(Default)]
struct Named(Vec<(Cow<'static, str>, Name)>);

impl Named {
    fn push(&mut self, word: impl Into<Cow<'static, str>>, value: Name) {
        self.0.push((word.into(), value));
    }

    fn get(&self, word: &str) -> Option<&Name> {
        self.0.iter().find(|(own, _)| own == word).map(|(_, value)| value)
    }

    fn set(&mut self, word: &str, value: Name) {
        self.0.iter_mut().filter(|(own, _)| own == word).for_each(|(_, held)| *held = value.clone());
    }
}

struct Emitter<'a> {
    graph: &'a Graph,
    state: &'a State<'a>,
    unit: Option<usize>,
    lanes: usize,
    /// True if functions are for half of a pair of four elements each: see [`crate::kernel::Kernel::pairs`].
    pairs: bool,
    /// Which half of a pair is being emitted.
    half: &'static str,
    /// Words that the half emitted so far has used: the second takes those of the first.
    used: usize,
    /// For each of `out.reads`, how many elements a load brings.
    widths: Vec<usize>,
    out: Emitted,
    body: String,
    values: FxHashMap<(usize, Index), Name>,
    /// What named values are made of.
    made: FxHashMap<Name, Rc<apart::Made>>,
    indices: FxHashMap<(Index, Strided), Index>,
    /// (quotient, divisor) of an index by a length.
    quotients: FxHashMap<(Name, usize), (Name, Name)>,
    next: usize,
    /// True if the prologue is for four lanes and all else for one.
    is_wider: bool,
    /// True if the last vector is partly of nothing: then every index is that of the results.
    has_tail: bool,
}

impl<'a> Emitter<'a> {
    fn new(graph: &'a Graph, state: &'a State<'a>, unit: usize, lanes: usize) -> Emitter<'a> {
        Emitter {
            graph,
            state,
            unit: Some(unit),
            lanes,
            pairs: false,
            half: "half",
            used: 0,
            widths: vec![],
            out: Emitted { flat: true, ..Emitted::default() },
            body: String::new(),
            values: FxHashMap::default(),
            made: FxHashMap::default(),
            indices: FxHashMap::default(),
            quotients: FxHashMap::default(),
            next: 0,
            is_wider: false,
            has_tail: false,
        }
    }

    /// A kernel of its own: one invocation writes `lanes` elements of every stored member.
    fn whole(&mut self, stored: &[usize]) -> Result<(), Refused> {
        let elements = self.graph.nodes[*stored.first().ok_or(Refused)?].meta.elements();
        // A choice that does not depend on the first axis, the batch: another batch size must find the same pipeline.
        let shape = self.graph.nodes[stored[0]].meta.shape;
        let row = match shape.rank() {
            0 | 1 if elements < LONG => 1,
            0 | 1 => elements,
            _ => elements / shape[0],
        };
        let width = if self.pairs { 8 } else { self.lanes };
        if self.pairs && row < SHORT {
            return Err(Refused);
        }
        if !row.is_multiple_of(width) {
            // Values lie in buffers of whole vectors (`WHOLE`): the last one may be partly of nothing, which nobody reads.
            let is_long = shape.rank() > 1 && row >= LEAST_ROW || shape.rank() < 2 && elements >= LONG;
            if !is_long || stored.iter().any(|&node| self.graph.is_in_arena(node)) {
                return Err(Refused);
            }
            self.has_tail = true;
        }
        let count = self.word(elements.div_ceil(width) as u32);
        let (index, _) = self.parameters();
        let _ = writeln!(
            self.body,
            "{{\n    let at = (group.x + group.y * groups.x) * {WORKGROUP}u + lane;\n    if at >= {count} {{\n        return;\n    }}\n    \
             let {} = at * {width}u;",
            index.name
        );
        if stored.iter().any(|&node| self.graph.nodes[node].meta.elements() != elements) {
            return Err(Refused);
        }
        if self.pairs {
            let used = self.used;
            let low = self.half(stored, &index, "0u")?;
            self.used = used;
            self.out.operations = 0;
            self.forget();
            let high = self.half(stored, &index, "1u")?;
            for (&node, halves) in stored.iter().zip(low.iter().zip(&high)) {
                self.store_pair(node, halves)?;
            }
        } else {
            for &node in stored {
                let value = self.value(node, &index)?;
                self.store(node, &value, "at");
            }
        }
        let body = self.finish_function() + "}";
        let workgroup = [Size::Is(WORKGROUP as u32), Size::Is(1), Size::Is(1)];
        self.out.shader.main = Some(Main { parameters: USUAL, workgroup, body: body.into(), facts: Facts::NONE });
        Ok(())
    }

    /// The values of one half of a pair.
    fn half(&mut self, stored: &[usize], index: &Index, half: &'static str) -> Result<Vec<Name>, Refused> {
        self.half = half;
        stored.iter().map(|&node| self.value(node, index)).collect()
    }

    /// Value of input `k` of `node` where `node` is read at `index`.
    fn input(&mut self, node: usize, k: usize, index: &Index) -> Result<Name, Refused> {
        let (base, map) = self.graph.access(node, k);
        if map.is_identity() {
            return self.value(base, index);
        }
        let index = self.index(index, &map)?;
        self.value(base, &index)
    }

    fn value(&mut self, node: usize, index: &Index) -> Result<Name, Refused> {
        if let Some(known) = self.values.get(&(node, index.clone())) {
            return Ok(known.clone());
        }
        let name = match &self.graph.nodes[node].work {
            Work::Leaf(LeafKind::Operand, _) => self.operand(node, 0)?,
            Work::Pointwise { expression, helpers, constants }
                if self.state.inlined[node] || self.state.unit_of[node] == self.unit =>
            {
                self.pointwise(node, *expression, helpers, constants, index)?
            }
            // The kernel's own value is at hand only where it is being stored.
            Work::Kernels { .. } | Work::Result { .. } if self.state.unit_of[node] == self.unit => return Err(Refused),
            Work::View => return Err(Refused),
            _ => self.load(node, index)?,
        };
        self.values.insert((node, index.clone()), name.clone());
        Ok(name)
    }

    fn pointwise(
        &mut self,
        node: usize,
        expression: Expression,
        helpers: &'static str,
        constants: &[f64],
        index: &Index,
    ) -> Result<Name, Refused> {
        self.out.operations += 1;
        if self.out.operations > MOST_OPERATIONS {
            return Err(Refused);
        }
        self.out.flat &= self.state.inlined[node] || index.name == self.parameters().0.name;
        let mut named = Named::default();
        let count = self.graph.nodes[node].inputs.len();
        for (k, letter) in LETTERS.into_iter().enumerate().take(count) {
            let (base, _) = self.graph.access(node, k);
            if expression.words[k] {
                for word in 1..4 {
                    let value = self.operand(base, word)?;
                    named.push(format!("{letter}{word}"), value);
                }
            }
            let value = self.input(node, k, index)?;
            named.push(letter, value);
        }
        for (k, &constant) in constants.iter().enumerate() {
            let (bits, open) = match self.graph.nodes[node].meta.dtype {
                DType::I32 => (constant as i32 as u32, "$I$(bitcast<i32>("),
                DType::U32 => (constant as u32, "$U$(("),
                DType::F32 | DType::F16 | DType::Bool => ((constant as f32).to_bits(), "$F$(bitcast<f32>("),
            };
            let word = self.word(bits);
            named.push(format!("k{k}"), format!("{open}{word}))").into());
        }
        if !helpers.is_empty() && !self.out.shader.helpers.contains(&helpers) {
            self.out.shader.helpers.push(helpers);
        }
        self.out.checked |= !self.graph.nodes[node].is_own;
        let made = self.kept_apart(node, expression.algebra, &mut named);
        let text = expression.with(|word| match word {
            "index" => Some(self.lanes_of(index).into()),
            "random_bits" => Some(format!("$random_bits{}$", self.lanes).into()),
            _ => named.get(word).map(|value| Cow::Borrowed(&**value)),
        });
        let half = self.graph.nodes[node].meta.dtype == DType::F16;
        let text = if half { self.rounded(&text) } else { text };
        let name = self.fresh("v");
        let _ = writeln!(self.body, "    let {name} = {text};");
        self.made.insert(name.clone(), Rc::new(made));
        Ok(name)
    }

    /// Text of the numbers of the elements that the lanes are.
    fn lanes_of(&self, index: &Index) -> String {
        match (self.lanes, index.spread) {
            (1, _) | (_, false) => format!("$U$({})", index.name),
            (_, true) if self.pairs => {
                format!("($U$({} + 4u * {}) + $U$(0u, 1u, 2u, 3u))", index.name, self.half)
            }
            (_, true) => format!("($U$({}) + $U$(0u, 1u, 2u, 3u))", index.name),
        }
    }

    fn fresh(&mut self, letter: &str) -> Name {
        self.next += 1;
        format!("{letter}{}", self.next).into()
    }

    fn finish_function(&mut self) -> String {
        self.forget();
        std::mem::take(&mut self.body)
    }

    /// Forgets the names of one function.
    fn forget(&mut self) {
        self.values.clear();
        self.made.clear();
        self.indices.clear();
        self.quotients.clear();
    }

    fn finish(mut self) -> Emitted {
        let half = self.graph.capabilities.f16;
        let mut shader = std::mem::take(&mut self.out.shader);
        if self.is_wider {
            // The prologue came first.
            let mut prologue = Shader { items: vec![shader.items.swap_remove(0)], ..Shader::default() };
            four_lanes(&mut prologue, half);
            shader = shader.join(prologue);
        }
        for (alias, scalar) in [("F", "f32"), ("I", "i32"), ("U", "u32"), ("B", "bool")] {
            shader.items.push(Item::alias(alias, self.wide(scalar)));
        }
        if half {
            shader.items.push(Item::alias("H", self.wide("f16")).with(Facts::HALF));
        }
        // A round length keeps texts that differ only in the number of words from compiling twice.
        shader.fusion = self.out.words.len().div_ceil(64) * 16;
        if self.out.operands {
            shader.operands = OPERAND_WORDS / 4;
            let text = "fn $operand$(k: u32) -> u32 {\n    return $operands$[k >> 2u][k & 3u];\n}\n";
            shader.items.push(Item::new("operand", text));
        }
        let scalar = |node: usize| match self.graph.nodes[node].meta.dtype {
            float @ (DType::F32 | DType::F16) => self.float_type(float),
            DType::I32 => "i32",
            DType::U32 | DType::Bool => "u32",
        };
        let paired_writes = self.pairs && self.half != "half";
        let element = |(letter, i, node): (&str, usize, usize)| match self.widths.get(i).filter(|_| letter == "r") {
            Some(8) => "vec4<u64>".to_string(),
            Some(4) => format!("vec4<{}>", scalar(node)),
            Some(_) => scalar(node).to_string(),
            None if paired_writes => "vec4<u64>".to_string(),
            None => self.wide(scalar(node)),
        };
        let reads = self.out.reads.iter().enumerate().map(|(i, &node)| ("r", i, false, node));
        let writes = self.out.writes.iter().enumerate().map(|(i, &node)| ("w", i, true, node));
        for (binding, (letter, i, write, node)) in reads.chain(writes).enumerate() {
            shader = shader.bound(binding as u32 + EXTRA, write, format!("{letter}{i}"), element((letter, i, node)));
        }
        self.out.shader = shader;
        self.out
    }
}

/// Alias of the lanes of a dtype where values are computed.
fn value_type(dtype: DType) -> &'static str {
    match dtype {
        DType::F32 | DType::F16 => "$F$",
        DType::I32 => "$I$",
        DType::U32 | DType::Bool => "$U$",
    }
}
