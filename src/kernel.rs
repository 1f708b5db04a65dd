//! Kernels as plain data: a shader, what it binds, its sizes and its grid.
//!
//! The conventions that every shader keeps: entry point `main`; group 0; data bindings from 0, inputs before outputs;
//! sizes in a uniform of `u32` members at binding [`PARAMS`]; results pass through `epilogue(value, index)`, whose
//! definition the planner appends (a text that declares its result as `array<OUT>` lets the planner store f16 or f32), those of an op
//! of several through `result_0(value, index)`, `result_1(value, index)`, .., where it does not bind them;
//! workgroups are folded to two dimensions, which kernels take together as one number. A kernel with an epilogue or a prologue may
//! call the functions of `shaders/pointwise/functions.wgsl` (`exp_full`, `log_full`, `is_nan`, ..) without defining them.

use std::borrow::Cow;
use std::collections::BTreeSet;

pub use crate::bindings::{EXTRA, FUSION, MAX_ITERATIONS, MAX_WORKGROUPS, OPERANDS, PARAMS};
pub(crate) use crate::bindings::{QUEUE, SHARES};
pub use crate::capabilities::Capabilities;
pub(crate) use crate::capabilities::Feature;

pub use crate::shader::Shader;
use crate::shader::{Facts, File, Params, Storage, Text};
use crate::shaders;

/// How a kernel goes over a run of floats: the text that declares its vectors `V`, and how many floats each of them has. Both
/// come from here alone, so that a kernel and its sizes cannot disagree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Vectors {
    /// True for eight floats a vector, else four.
    pub eights: bool,
}

impl Vectors {
    /// Those for `elements` floats on a device.
    pub fn of(elements: usize, capabilities: &Capabilities) -> Vectors {
        Vectors { eights: capabilities.pairs && elements.is_multiple_of(8) }
    }

    /// Floats a vector.
    pub fn width(self) -> usize {
        if self.eights { 8 } else { 4 }
    }

    /// The type of their words, four a vector.
    pub fn word(self) -> &'static str {
        if self.eights { "u64" } else { "f32" }
    }

    /// The file that declares them.
    pub fn file(self) -> &'static File {
        if self.eights { &shaders::shared::VECTORS_EIGHTS } else { &shaders::shared::VECTORS }
    }
}

/// Bytes of the largest vector of a kernel: buffers of values are so many times as long, so that the last vector may be partly of nothing.
pub(crate) const WHOLE: u64 = 32;

/// What a kernel's data binding refers to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand {
    /// The op's input with this number.
    Input(usize),
    /// The op's result with this number.
    Output(usize),
    /// A buffer that lives only between the kernels of one op.
    Temporary(usize),
}

/// One data binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Binding {
    /// What is bound.
    pub operand: Operand,
    /// True for `read_write`.
    pub write: bool,
}

impl Binding {
    /// A read-only binding of input `i`.
    pub fn input(i: usize) -> Binding {
        Binding { operand: Operand::Input(i), write: false }
    }

    /// The writable binding of the (first) result.
    pub fn output() -> Binding {
        Binding::result(0)
    }

    /// The writable binding of result `number` of an op of several.
    pub fn result(number: usize) -> Binding {
        Binding { operand: Operand::Output(number), write: true }
    }

    /// A read-only binding of temporary `i`.
    pub fn read(i: usize) -> Binding {
        Binding { operand: Operand::Temporary(i), write: false }
    }

    /// A writable binding of temporary `i`.
    pub fn write(i: usize) -> Binding {
        Binding { operand: Operand::Temporary(i), write: true }
    }
}

/// A dispatch before it has buffers.
#[derive(Debug, Clone, PartialEq)]
pub struct Kernel {
    /// Name for dumps, labels and profiles, with the variant (`matmul.registers`).
    pub name: Cow<'static, str>,
    /// Its shader, without prologue and epilogue.
    pub shader: Shader,
    /// Data bindings 0, 1, ..
    pub bindings: Vec<Binding>,
    /// Words of the uniform at [`PARAMS`].
    pub params: Vec<u32>,
    /// Number of workgroups, before folding.
    pub workgroups: u64,
    /// Upper bound on the loop iterations of one invocation.
    pub iterations: u64,
    /// True if the text calls `epilogue(value, index)` for the op's result.
    pub epilogue: bool,
    /// Results that the text does not bind: it hands each element to `result_0(value, index)`, `result_1(value, index)`, ..,
    /// which stores it where somebody needs it, and what is fused behind it.
    pub results: Vec<usize>,
    /// True if the text calls `prologue(index)` instead of reading input 0.
    pub prologue: bool,
    /// Elements that a call of `prologue` or `epilogue` takes: 1, or 4. With four, values are `vec4`, `index` is a multiple
    /// of four, and so are the functions of `shaders/pointwise/functions.wgsl`: `F` is the type of a value either way.
    pub lanes: usize,
    /// As `lanes`, but for `prologue` alone where it differs: a reduction reads four elements at a time and stores one. There
    /// the types of four lanes are called `F4`, `I4`, `U4`.
    pub prologue_lanes: usize,
    /// True if `prologue` and `epilogue` take `(pair, half)` instead of an index: `pair`, a multiple of eight, is where eight
    /// elements begin, and `half`, 0 or 1, says which four of them are meant. What they read is bound as
    /// `array<vec4<u64>>`, of which the two calls of a pair share the load ([`Capabilities::pairs`]).
    pub pairs: bool,
    /// True if the compiler shall guard every loop and division besides every index. Only kernels whose bounds the
    /// crate's own tests hold to go without.
    pub checked: bool,
    /// Floating-point operations of the dispatch, for profiles; 0 where it is not stated.
    pub flops: u64,
    /// Bytes that it reads and writes, for profiles; `None`: the buffers that it binds, each binding once.
    pub bytes: Option<u64>,
}

impl Kernel {
    /// A kernel without fusion hooks, with every check: what an op of your own starts from.
    pub fn new(name: impl Into<Cow<'static, str>>, source: impl Into<String>) -> Kernel {
        Kernel { checked: true, ..Kernel::own(name, Shader::foreign(source.into())) }
    }

    /// A kernel of this crate.
    pub(crate) fn own(name: impl Into<Cow<'static, str>>, shader: impl Into<Shader>) -> Kernel {
        Kernel {
            name: name.into(),
            shader: shader.into(),
            bindings: vec![],
            params: vec![],
            workgroups: 1,
            iterations: 0,
            epilogue: false,
            results: vec![],
            prologue: false,
            lanes: 1,
            prologue_lanes: 0,
            pairs: false,
            checked: false,
            flops: 0,
            bytes: None,
        }
    }
}

impl Kernel {
    /// True if it hands elements of result `number` over, for the planner to fuse what follows.
    pub(crate) fn hands_over(&self, number: usize) -> bool {
        self.epilogue && number == 0 || self.results.contains(&number)
    }

    /// True if the planner generates functions that its text calls.
    pub(crate) fn is_fused(&self) -> bool {
        self.epilogue || self.prologue || !self.results.is_empty()
    }

    /// Sets its sizes.
    pub(crate) fn uniform<P: Params>(&mut self, params: P) {
        self.shader.params = Some(P::item());
        self.params = params.words();
    }

    /// Adds a data binding, of elements of this type.
    pub(crate) fn bind(&mut self, binding: Binding, name: &'static str, element: impl Into<Text>) {
        let number = self.bindings.len() as u32;
        self.shader.storage.push(Storage {
            binding: number,
            write: binding.write,
            name: name.into(),
            element: element.into(),
        });
        self.bindings.push(binding);
    }

    /// Elements side by side that it reads at once through `prologue`.
    pub(crate) fn width(&self) -> usize {
        if self.pairs { 2 * self.lanes } else { self.lanes.max(self.prologue_lanes) }
    }
}

/// Drops the kernels of an op that none of these of its results needs.
pub(crate) fn keep_needed(kernels: &mut Vec<Kernel>, results: &[usize]) {
    let mut temporaries: BTreeSet<usize> = BTreeSet::new();
    let mut outputs: BTreeSet<usize> = results.iter().copied().collect();
    // What a later kernel reads is needed, too; a result that it binds it may read.
    kernels.reverse();
    kernels.retain(|kernel| {
        let of_use = |binding: &Binding| match binding.operand {
            Operand::Output(number) => outputs.contains(&number),
            Operand::Temporary(k) => binding.write && temporaries.contains(&k),
            Operand::Input(_) => false,
        };
        let handed = kernel.results.iter().any(|number| outputs.contains(number));
        let needed = handed || kernel.bindings.iter().any(of_use);
        if needed {
            for binding in &kernel.bindings {
                match binding.operand {
                    Operand::Temporary(k) => drop(temporaries.insert(k)),
                    Operand::Output(number) => drop(outputs.insert(number)),
                    Operand::Input(_) => {}
                }
            }
        }
        needed
    });
    kernels.reverse();
}

/// Splits `count` workgroups over two dimensions so that neither passes the limit; the shader ignores the surplus.
///
/// `None` if even two dimensions do not hold them.
pub fn fold_workgroups(count: u64) -> Option<[u32; 2]> {
    let max = u64::from(MAX_WORKGROUPS);
    if count <= max {
        return Some([count as u32, 1]);
    }
    let rows = count.div_ceil(max);
    (rows <= max).then(|| [count.div_ceil(rows) as u32, rows as u32])
}

/// FNV-1a, 64 bits: finds accidents, not attacks.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

impl Feature {
    /// The one that a shader needs.
    pub fn of(shader: &Shader) -> Option<Feature> {
        let facts = shader.facts();
        let needed = [
            (Facts::MATRICES, Feature::Cooperative),
            (Facts::PAIRS, Feature::Pairs),
            (Facts::SUBGROUP, Feature::Subgroup),
        ];
        needed.into_iter().find_map(|(fact, feature)| facts.has(fact).then_some(feature))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folding_covers_every_workgroup_within_the_limit() {
        for count in [0, 1, 65_535, 65_536, 1_000_003, 65_535 * 65_535] {
            let [x, y] = fold_workgroups(count).unwrap();
            assert!(u64::from(x) * u64::from(y) >= count && x <= MAX_WORKGROUPS && y <= MAX_WORKGROUPS);
        }
        assert_eq!(fold_workgroups(1 << 40), None);
    }
}
