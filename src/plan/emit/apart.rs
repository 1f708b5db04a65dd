//! Values that meet themselves: x - x, (x + y) - x, x / x, sqrt(x)^2, x == x, x < y ? x : y.
//!
//! Shader compilers take these for 0, y, 1, x, true and a minimum, which they are not where x is infinite or NaN, and where
//! x + y was rounded; nothing in WGSL forbids it. Once ops are fused their operands are plain expressions of one function, where a
//! compiler sees that. So an operand that shares a part with another goes through an `or` with a word of the uniform, which
//! is 0: no compiler knows that.

use std::fmt::Write;
use std::rc::Rc;

use super::{Emitter, LETTERS, Name, Named};
use crate::dtype::DType;
use crate::shader::Algebra;

/// How many ops deep a compiler is taken to look: its rules are patterns of two or three.
const DEPTH: u32 = 3;

/// What a named value is made of.
#[derive(Debug)]
pub(super) struct Made {
    /// Numbers of the values in it, itself the first, and how many ops lie between.
    parts: Vec<(u32, u32)>,
    /// True if it holds a quotient.
    quotient: bool,
    /// True if it is a square root.
    root: bool,
}

impl Made {
    fn shares(&self, other: &Made) -> bool {
        self.parts.iter().any(|(mine, _)| other.parts.iter().any(|(theirs, _)| mine == theirs))
    }
}

impl Emitter<'_> {
    /// Hides those operands of an expression, the values `named` of `a`, `b` and `c`, that a compiler could cancel against
    /// another, and says what the result is made of.
    pub(super) fn kept_apart(&mut self, node: usize, algebra: Algebra, named: &mut Named) -> Made {
        let graph = self.graph;
        let mut operands: Vec<(Name, Rc<Made>)> = Vec::with_capacity(LETTERS.len());
        for (letter, &input) in LETTERS.into_iter().zip(&graph.nodes[node].inputs) {
            let dtype = graph.nodes[input].meta.dtype;
            if !dtype.is_float() && dtype != DType::Bool {
                continue;
            }
            let Some(name) = named.get(letter).cloned() else { continue };
            let mut made = self.made_of(&name);
            if dtype.is_float() && cancels(algebra, &operands, &name, &made) {
                let zero = self.word(0);
                let hidden = self.fresh("v");
                let _ = writeln!(self.body, "    let {hidden} = bitcast<$F$>(bitcast<$U$>({name}) | $U$({zero}));");
                made = self.made_of(&hidden);
                named.set(letter, hidden);
            }
            operands.push((name, made));
        }
        let mut result = self.unknown();
        if !matches!(algebra, Algebra::Mixed | Algebra::Opaque) {
            let parts = operands.iter().flat_map(|(_, made)| &made.parts);
            result.parts.extend(parts.filter(|(_, depth)| *depth < DEPTH).map(|(part, depth)| (*part, depth + 1)));
            let quotient = matches!(algebra, Algebra::Quotient | Algebra::Unknown);
            result.quotient = quotient || operands.iter().any(|(_, made)| made.quotient);
            result.root = matches!(algebra, Algebra::Root | Algebra::Unknown);
        }
        result
    }

    fn made_of(&mut self, name: &Name) -> Rc<Made> {
        if let Some(known) = self.made.get(name) {
            return known.clone();
        }
        let made = Rc::new(self.unknown());
        self.made.insert(name.clone(), made.clone());
        made
    }

    /// What nothing is known of but itself.
    fn unknown(&mut self) -> Made {
        self.next += 1;
        Made { parts: vec![(self.next as u32, 0)], quotient: false, root: false }
    }
}

/// True if a compiler could simplify an expression of these operands and another, `name`.
fn cancels(algebra: Algebra, before: &[(Name, Rc<Made>)], name: &Name, made: &Made) -> bool {
    let shares = || before.iter().any(|(_, other)| other.shares(made));
    match (algebra, before) {
        (Algebra::Sum, [(same, _)]) if same == name => false,
        // Products cancel quotients and roots.
        (Algebra::Product, [(same, other)]) if same == name => other.root,
        (Algebra::Product, [(_, other)]) => (other.quotient || made.quotient) && shares(),
        (Algebra::Product, _) => false,
        // A choice of what was compared is taken for a minimum or maximum, which drops NaN.
        (Algebra::Choice, [(_, condition), (_, chosen)]) => condition.shares(chosen) && condition.shares(made),
        (Algebra::Choice | Algebra::Plain | Algebra::Root | Algebra::Opaque, _) => false,
        _ => shares(),
    }
}
