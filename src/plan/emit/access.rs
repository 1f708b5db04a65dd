//! How emitted text reads and writes buffers.

use std::fmt::Write;

use super::{Emitter, Index, Refused};
use crate::dtype::DType;
use crate::plan::strided::Strided;

impl Emitter<'_> {
    /// The index that an emitted function takes, and its parameters.
    pub(super) fn parameters(&self) -> (Index, &'static str) {
        let (name, parameters) = if self.pairs { ("pair", "pair: u32, half: u32") } else { ("index", "index: u32") };
        (Index { name: name.into(), spread: true }, parameters)
    }

    pub(super) fn load(&mut self, node: usize, index: &Index) -> Result<String, Refused> {
        let dtype = self.graph.nodes[node].meta.dtype;
        let paired = self.pairs && index.spread;
        let width = match (self.pairs, index.spread) {
            (true, true) => 8,
            (true, false) => 1,
            _ => self.lanes,
        };
        let slot = match self.out.reads.iter().position(|&read| read == node) {
            Some(slot) => slot,
            None => {
                self.out.reads.push(node);
                self.widths.push(width);
                self.out.reads.len() - 1
            }
        };
        // Pairs are of elements of four bytes, and a buffer is bound in one way.
        if self.widths[slot] != width || paired && self.graph.element_bytes(dtype) != 4 {
            return Err(Refused);
        }
        let at = &index.name;
        let raw = match (self.lanes, index.spread) {
            _ if paired => format!("half_of(r{slot}[{at} >> 3u], {})", self.half),
            _ if self.pairs => format!("r{slot}[{at}]"),
            (1, _) => format!("r{slot}[{at}]"),
            (_, true) => format!("r{slot}[{at} >> 2u]"),
            (_, false) => format!("r{slot}[{at} >> 2u][{at} & 3u]"),
        };
        let text = match dtype {
            DType::F32 | DType::F16 if paired => format!("bitcast<F>({raw})"),
            DType::I32 if paired => format!("bitcast<I>({raw})"),
            DType::F32 | DType::F16 => format!("F({raw})"),
            DType::I32 => format!("I({raw})"),
            DType::U32 => format!("U({raw})"),
            DType::Bool => format!("U({raw}) != U(0u)"),
        };
        let name = self.fresh("v");
        let _ = writeln!(self.body, "    let {name} = {text};");
        Ok(name)
    }

    pub(super) fn store(&mut self, node: usize, value: &str, at: &str) {
        let slot = self.out.writes.len();
        self.out.writes.push(node);
        let value = match self.graph.nodes[node].meta.dtype {
            DType::Bool => format!("select(U(0u), U(1u), {value})"),
            DType::F16 if self.graph.capabilities.f16 => format!("H({value})"),
            _ => value.into(),
        };
        let _ = writeln!(self.body, "    w{slot}[{at}] = {value};");
    }

    /// Stores both halves of a pair.
    pub(super) fn store_pair(&mut self, node: usize, (low, high): (&String, &String)) -> Result<(), Refused> {
        let dtype = self.graph.nodes[node].meta.dtype;
        if self.graph.element_bytes(dtype) != 4 {
            return Err(Refused);
        }
        let slot = self.out.writes.len();
        self.out.writes.push(node);
        let bits = |value: &str| match dtype {
            DType::Bool => format!("select(U(0u), U(1u), {value})"),
            DType::U32 => value.into(),
            _ => format!("bitcast<U>({value})"),
        };
        let (low, high) = (bits(low), bits(high));
        let _ = writeln!(self.body, "    w{slot}[at] = pair_of({low}, {high});");
        Ok(())
    }

    /// The index in the buffer beneath `map`, for the element `from` of the view.
    pub(super) fn index(&mut self, from: &Index, map: &Strided) -> Result<Index, Refused> {
        let key = (from.clone(), map.clone());
        if let Some(known) = self.indices.get(&key) {
            return Ok(known.clone());
        }
        let axes = map.merged();
        let mut spread = from.spread;
        if self.lanes > 1 && from.spread {
            spread = map.lanes(if self.pairs { 8 } else { self.lanes }).ok_or(Refused)?;
        }
        let mut terms = vec![];
        if map.offset > 0 {
            terms.push(self.word(map.offset as u32));
        }
        for &(operand, stride) in &map.dynamic {
            let first = self.graph.operand_word(operand).ok_or(Refused)?;
            let (at, stride) = (self.word(first as u32), self.word(stride as u32));
            self.out.operands = true;
            terms.push(format!("operand({at}) * {stride}"));
        }
        let mut below = 1usize;
        for (place, &(dim, stride)) in axes.iter().enumerate().rev() {
            if stride > 0 {
                let mut term = from.name.clone();
                if below > 1 {
                    term = format!("{term} / {}", self.word(below as u32));
                }
                if place > 0 {
                    term = format!("({term}) % {}", self.word(dim as u32));
                }
                if stride > 1 {
                    term = format!("({term}) * {}", self.word(stride as u32));
                }
                terms.push(term);
            }
            below *= dim;
        }
        let name = self.fresh("i");
        let sum = if terms.is_empty() { "0u".into() } else { terms.join(" + ") };
        let _ = writeln!(self.body, "    let {name} = {sum};");
        let index = Index { name, spread };
        self.indices.insert(key, index.clone());
        Ok(index)
    }
}
