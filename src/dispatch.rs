//! A plan as plain data: dispatches in order, and the buffers that they bind. What makes one is in [`crate::plan`].

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

pub use crate::bindings::OPERAND_WORDS;
use crate::layout::Meta;
use crate::shader::{Facts, Program};
use crate::shape::Shape;
use crate::target::Choice;

/// An arena as a plan knows it: the device finds its buffer by the number.
#[derive(Debug, Clone)]
pub struct ArenaRef {
    /// Unique number.
    pub id: u64,
    /// Length.
    pub elements: usize,
    /// Name for dumps.
    pub label: Arc<str>,
}

/// What a slot's buffer is.
#[derive(Debug, Clone)]
pub enum SlotKind {
    /// Lives only within the plan; number of the shared scratch buffer it is placed in.
    Scratch(usize),
    /// Host data of this leaf, written before the pass into a shared scratch buffer.
    Upload {
        /// Number of the leaf in the request.
        leaf: usize,
        /// Number of the scratch buffer.
        scratch: usize,
    },
    /// The value of this leaf from an earlier run.
    Stored(usize),
    /// The result with this number; a buffer of its own that the user may hold.
    Output(usize),
    /// A range of an arena, in elements.
    Arena(ArenaRef, usize, usize),
    /// These words, which the plan brings along.
    Table(Arc<[u32]>),
}

/// A buffer as a plan sees it.
#[derive(Debug, Clone)]
pub struct Slot {
    /// Name of the op whose value it holds.
    pub name: &'static str,
    /// Shape of that value; `None` for what only the kernels of one op share, and for whole arenas.
    pub shape: Option<Shape>,
    /// Where it is.
    pub kind: SlotKind,
    /// Size, a multiple of 16.
    pub bytes: u64,
}

/// What a kernel of a dispatch is called.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Name {
    /// Name of the kernel with its variant, or of the ops that a generated one computes.
    pub kernel: Cow<'static, str>,
    /// Number of ops fused into it.
    pub fused: usize,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fused {
            0 => f.write_str(&self.kernel),
            fused => write!(f, "{} +{fused}", self.kernel),
        }
    }
}

/// One dispatch, ready for a driver.
#[derive(Debug, Clone)]
pub struct Dispatch {
    /// What its kernels are called: several where small ones were merged.
    pub names: Vec<Name>,
    /// Its shader, which dispatches that are alike share.
    pub program: Arc<Program>,
    /// (binding, slot, writable).
    pub bindings: Vec<(u32, usize, bool)>,
    /// Words at [`crate::kernel::PARAMS`].
    pub params: Vec<u32>,
    /// Words at [`crate::kernel::FUSION`].
    pub fusion: Vec<u32>,
    /// True if it reads [`crate::kernel::OPERANDS`].
    pub operands: bool,
    /// Which host numbers these are.
    pub numbers: Numbers,
    /// Workgroups in x and y.
    pub grid: [u32; 2],
    /// Bound on an invocation's loop iterations.
    pub iterations: u64,
    /// True if loops and divisions are guarded too.
    pub checked: bool,
    /// Floating-point operations, 0 where the op does not state them.
    pub flops: u64,
    /// Bytes moved, where the op states them.
    pub bytes: Option<u64>,
}

impl Dispatch {
    /// Its name for dumps and profiles.
    pub fn name(&self) -> String {
        self.names.iter().map(Name::to_string).collect::<Vec<_>>().join(" | ")
    }

    /// The whole text of its shader.
    pub fn source(&self) -> &Arc<str> {
        self.program.text()
    }

    /// `source`, a text of its shader, as browsers take it: operations among the lanes of a subgroup are an extension there,
    /// which a text has to ask for; the compiler of all other back ends refuses to be asked.
    #[doc(hidden)]
    pub fn for_browsers<'a>(&self, source: &'a str) -> Cow<'a, str> {
        match self.program.shader.facts().has(Facts::SUBGROUP) {
            true => Cow::Owned(format!("enable subgroups;\n{source}")),
            false => Cow::Borrowed(source),
        }
    }
}

/// A compiled graph: dispatches in order, and the buffer of each result.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Buffers.
    pub slots: Vec<Slot>,
    /// Dispatches in order.
    pub dispatches: Vec<Dispatch>,
    /// Sizes of the shared scratch buffers, in bytes.
    pub scratch: Vec<u64>,
    /// Slots of the results, in the order asked for, each with its bytes.
    pub outputs: Vec<usize>,
    /// Upload leaves and their slots.
    pub uploads: Vec<(usize, usize)>,
    /// Operand leaves and the first word of each among the host numbers; one that several windows hold is there as often.
    pub operands: Vec<(usize, usize)>,
    /// First operand word of the update's host numbers.
    pub scalars: usize,
    /// First word of the window that they are in.
    pub scalar_window: usize,
    /// Words of operands in all.
    pub operand_words: usize,
    /// Variants that it takes where an op lists another.
    pub variants: Vec<&'static str>,
    /// Classes of shapes whose kernel was chosen by measurement, and the choice.
    pub choices: Vec<(String, Choice)>,
    /// Classes that are to be measured.
    pub open: Vec<Open>,
    /// What is read while later dispatches run, in order; none of most plans.
    pub parts: Vec<Part>,
}

/// Ranges of arenas that are read once so many dispatches have run, one behind the other.
#[derive(Debug, Clone)]
pub struct Part {
    /// Dispatches before it.
    pub after: usize,
    /// Arenas, the first element of each, and how many.
    pub ranges: Vec<(ArenaRef, usize, usize)>,
}

impl Plan {
    /// Adds parts that are read as soon as no later dispatch writes to them, each behind the one before.
    pub fn read_in(&mut self, parts: impl IntoIterator<Item = Vec<(ArenaRef, usize, usize)>>) {
        let mut before = 0;
        for ranges in parts {
            let meets = |slot: usize| match self.slots.get(slot).map(|slot| &slot.kind) {
                Some(SlotKind::Arena(arena, first, elements)) => ranges.iter().any(|(own, from, length)| {
                    own.id == arena.id && *from < first + elements && *first < from + length
                }),
                _ => false,
            };
            let writes = |dispatch: &Dispatch| dispatch.bindings.iter().any(|(_, slot, write)| *write && meets(*slot));
            let last = self.dispatches.iter().rposition(writes).map_or(0, |last| last + 1);
            before = last.max(before);
            self.parts.push(Part { after: before, ranges });
        }
    }
}

/// The host numbers that a dispatch reads.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// First word of what it binds at [`crate::kernel::OPERANDS`].
    pub window: usize,
    /// Places among its index words (of a merged dispatch: among its sizes) that hold the word of a host number, counted
    /// from the window's first.
    pub places: Vec<usize>,
}

/// An op whose class of shapes nobody has measured.
#[derive(Debug, Clone)]
pub struct Open {
    /// Name of the class.
    pub class: String,
    /// A plan of the op alone for each variant, the default first.
    pub rivals: Vec<Rival>,
}

/// A variant, ready to be measured.
#[derive(Debug, Clone)]
pub struct Rival {
    /// What choosing it means.
    pub choice: Choice,
    /// The op alone, on stored inputs.
    pub plan: Plan,
    /// Elements of each input's buffer.
    pub inputs: Vec<usize>,
    /// What it computes, as the plan's outputs are.
    pub results: Vec<Meta>,
}
