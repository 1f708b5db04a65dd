//! How emitted text reads and writes buffers.

use std::fmt::Write;

use super::{Emitter, Index, Name, Refused};
use crate::dtype::DType;
use crate::layout::{Run, Strided};

impl Emitter<'_> {
    /// The index that an emitted function takes, and its parameters.
    pub(super) fn parameters(&self) -> (Index, &'static str) {
        let (name, parameters) = if self.pairs { ("pair", "pair: u32, half: u32") } else { ("index", "index: u32") };
        (Index { name: name.into(), spread: true }, parameters)
    }

    pub(super) fn operand(&mut self, node: usize, word: u32) -> Result<Name, Refused> {
        let first = self.graph.operand_word(node).ok_or(Refused)?;
        let at = self.operand_place(first as u32 + word);
        let raw = format!("$operand$({at})");
        let text = match self.graph.nodes[node].meta.dtype {
            DType::F32 | DType::F16 => format!("$F$(bitcast<f32>({raw}))"),
            DType::I32 => format!("$I$(bitcast<i32>({raw}))"),
            DType::U32 => format!("$U$({raw})"),
            DType::Bool => format!("$B$({raw} != 0u)"),
        };
        Ok(text.into())
    }

    /// Text of a uniform word that says where a word of the host numbers is.
    fn operand_place(&mut self, word: u32) -> String {
        self.out.operands = true;
        if self.used == self.out.words.len() {
            self.out.places.push(self.used);
        }
        self.word(word)
    }

    /// Text of a uniform word that holds `value`.
    pub(super) fn word(&mut self, value: u32) -> String {
        let k = self.used;
        self.used += 1;
        if k == self.out.words.len() {
            self.out.words.push(value);
        }
        format!("$f$[{}].{}", k / 4, ["x", "y", "z", "w"][k % 4])
    }

    /// `text` rounded to half precision, in f32.
    pub(super) fn rounded(&self, text: &str) -> String {
        if self.graph.capabilities.f16 {
            format!("$F$($H$({text}))")
        } else {
            format!("$round_half{}$({text})", self.lanes)
        }
    }

    /// WGSL name of a float in a buffer.
    pub(super) fn float_type(&self, dtype: DType) -> &'static str {
        if dtype == DType::F16 && self.graph.capabilities.f16 { "f16" } else { "f32" }
    }

    /// The type of the lanes of a scalar type.
    pub(super) fn wide(&self, scalar: &str) -> String {
        if self.lanes == 1 { scalar.into() } else { format!("vec4<{scalar}>") }
    }

    pub(super) fn load(&mut self, node: usize, index: &Index) -> Result<Name, Refused> {
        if self.has_tail && self.graph.is_in_arena(node) {
            return Err(Refused);
        }
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
            _ if paired => format!("$half_of$($r{slot}$[{at} >> 3u], {})", self.half),
            _ if self.pairs => format!("$r{slot}$[{at}]"),
            (1, _) => format!("$r{slot}$[{at}]"),
            (_, true) => format!("$r{slot}$[{at} >> 2u]"),
            (_, false) => format!("$r{slot}$[{at} >> 2u][{at} & 3u]"),
        };
        let text = match dtype {
            DType::F32 | DType::F16 if paired => format!("bitcast<$F$>({raw})"),
            DType::I32 if paired => format!("bitcast<$I$>({raw})"),
            // A vector is made of one element of its own type only.
            DType::F16 if self.lanes > 1 && !index.spread => format!("$F$(f32({raw}))"),
            DType::F32 | DType::F16 => format!("$F$({raw})"),
            DType::I32 => format!("$I$({raw})"),
            DType::U32 => format!("$U$({raw})"),
            DType::Bool => format!("$U$({raw}) != $U$(0u)"),
        };
        let name = self.fresh("v");
        let _ = writeln!(self.body, "    let {name} = {text};");
        Ok(name)
    }

    pub(super) fn store(&mut self, node: usize, value: &str, at: &str) {
        let slot = self.out.writes.len();
        self.out.writes.push(node);
        let value = match self.graph.nodes[node].meta.dtype {
            DType::Bool => format!("select($U$(0u), $U$(1u), {value})"),
            DType::F16 if self.graph.capabilities.f16 => format!("$H$({value})"),
            _ => value.into(),
        };
        let _ = writeln!(self.body, "    $w{slot}$[{at}] = {value};");
    }

    /// Stores both halves of a pair.
    pub(super) fn store_pair(&mut self, node: usize, (low, high): (&Name, &Name)) -> Result<(), Refused> {
        let dtype = self.graph.nodes[node].meta.dtype;
        if self.graph.element_bytes(dtype) != 4 {
            return Err(Refused);
        }
        let slot = self.out.writes.len();
        self.out.writes.push(node);
        let bits = |value: &str| match dtype {
            DType::Bool => format!("select($U$(0u), $U$(1u), {value})"),
            DType::U32 => value.into(),
            _ => format!("bitcast<$U$>({value})"),
        };
        let (low, high) = (bits(low), bits(high));
        let _ = writeln!(self.body, "    $w{slot}$[at] = $pair_of$({low}, {high});");
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
        if self.has_tail && from.spread {
            // Elsewhere a vector would begin within another.
            if axes.iter().any(|&(_, stride)| stride != 0) || map.offset > 0 || !map.dynamic.is_empty() {
                return Err(Refused);
            }
            spread = false;
        } else if self.lanes > 1 && from.spread {
            spread = match map.run(if self.pairs { 8 } else { self.lanes }) {
                Run::SideBySide => true,
                Run::Same => false,
                Run::Scattered => return Err(Refused),
            };
        }
        let mut terms = vec![];
        if map.offset > 0 {
            terms.push(self.word(map.offset as u32));
        }
        for &(operand, stride) in &map.dynamic {
            let first = self.graph.operand_word(operand).ok_or(Refused)?;
            let (at, stride) = (self.operand_place(first as u32), self.word(stride as u32));
            terms.push(format!("$operand$({at}) * {stride}"));
        }
        // From the last axis on: what is left of the index when the axes behind are divided out.
        let mut rest = from.name.clone();
        for (place, &(dim, stride)) in axes.iter().enumerate().rev() {
            if axes[..=place].iter().all(|&(_, stride)| stride == 0) {
                break;
            }
            let mut term = rest.to_string();
            if place > 0 {
                let (above, length) = self.divided(&rest, dim);
                term = format!("({rest} - {above} * {length})");
                rest = above;
            }
            match stride {
                0 => {}
                1 => terms.push(term),
                _ => terms.push(format!("{term} * {}", self.word(stride as u32))),
            }
        }
        // No letter of a type: `i32` would hide it.
        let name = self.fresh("at");
        let sum = if terms.is_empty() { "0u".into() } else { terms.join(" + ") };
        let _ = writeln!(self.body, "    let {name} = {sum};");
        let index = Index { name, spread };
        self.indices.insert(key, index.clone());
        Ok(index)
    }

    /// Names of `index / length` and of `length`.
    fn divided(&mut self, index: &Name, length: usize) -> (Name, Name) {
        let key = (index.clone(), length);
        if let Some(known) = self.quotients.get(&key) {
            return known.clone();
        }
        let [magic, shift] = divisor(length as u32).map(|word| self.word(word));
        let length: Name = self.word(length as u32).into();
        let name = self.fresh("q");
        let _ = writeln!(self.body, "    let {name} = $quotient$({index}, {magic}, {shift});");
        self.quotients.insert(key, (name.clone(), length.clone()));
        (name, length)
    }
}

/// Words by which a shader divides by `number`, which is not 0, without a division: see `quotient` in `pointwise/functions.wgsl`.
fn divisor(number: u32) -> [u32; 2] {
    let shift = u64::from(number).next_power_of_two().trailing_zeros();
    let magic = ((1u64 << 32) * ((1u64 << shift) - u64::from(number)) / u64::from(number) + 1) as u32;
    [magic, shift]
}

#[cfg(test)]
mod tests {
    use super::divisor;

    #[test]
    fn numbers_are_divided_exactly() {
        let quotient = |x: u32, [magic, shift]: [u32; 2]| {
            let high = ((u64::from(x) * u64::from(magic)) >> 32) as u32;
            (high + ((x - high) >> shift.min(1))) >> (shift.max(1) - 1)
        };
        let mut random = 1u32;
        let mut next = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> (random & 31)
        };
        for _ in 0..1000 {
            let number = next().clamp(1, 1 << 31);
            let words = divisor(number);
            for x in [0, 1, number - 1, number, u32::MAX, u32::MAX - 1, next(), next()] {
                let multiple = x / number * number;
                for x in [x, multiple, multiple.saturating_sub(1)] {
                    assert_eq!(quotient(x, words), x / number, "{x} / {number}");
                }
            }
        }
        for number in 1..=300 {
            assert_eq!(quotient(u32::MAX, divisor(number)), u32::MAX / number, "{number}");
        }
    }
}
