//! Reads machine code as RADV prints it: blocks, loops, kinds of instructions.

use std::collections::HashMap;
use std::fmt::Write as _;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Multiply-adds of floats: how many an instruction does a lane.
    Fma(u32),
    Vector,
    /// Quarter rate: wide integer products, reciprocals, roots, exponentials.
    Slow,
    /// A sixteenth of the rate.
    Double,
    Scalar,
    ScalarLoad,
    /// Bytes a lane.
    LdsRead(u32),
    LdsWrite(u32),
    Load(u32),
    Store(u32),
    /// Spilled registers and arrays that did not become registers.
    Scratch,
    Wait,
    Barrier,
    Branch,
    Other,
}

pub struct Instruction {
    pub kind: Kind,
    pub text: String,
    /// How often it runs where its loop does: below 1 in branches that only some waves take.
    pub weight: f64,
}

pub struct Loop {
    /// First and last instruction.
    pub first: usize,
    pub last: usize,
    pub parent: Option<usize>,
}

pub struct Program {
    pub code: Vec<Instruction>,
    pub loops: Vec<Loop>,
}

impl Kind {
    fn is_memory(self) -> bool {
        matches!(self, Kind::LdsRead(_) | Kind::LdsWrite(_) | Kind::Load(_) | Kind::Store(_))
    }
}

fn bytes(name: &str) -> u32 {
    // Longest names first.
    let widths = [
        ("dwordx4", 16),
        ("dwordx3", 12),
        ("dwordx2", 8),
        ("dword", 4),
        ("b128", 16),
        ("b96", 12),
        ("b64", 8),
        ("b32", 4),
        ("xyzw", 16),
        ("xyz", 12),
        ("xy", 8),
        ("short", 2),
        ("b16", 2),
        ("u16", 2),
        ("i16", 2),
        ("byte", 1),
        ("b8", 1),
        ("u8", 1),
        ("i8", 1),
        ("_x", 4),
    ];
    widths.iter().find(|(part, _)| name.contains(part)).map_or(4, |(_, bytes)| *bytes)
}

pub fn kind(name: &str) -> Kind {
    if name.starts_with("scratch_") || (name.starts_with("buffer_") && name.contains("scratch")) {
        return Kind::Scratch;
    }
    if let Some(rest) = name.strip_prefix("ds_") {
        let twice = if rest.contains('2')
            && (rest.starts_with("read2") || rest.starts_with("write2") || rest.contains("2addr"))
        {
            2
        } else {
            1
        };
        if rest.starts_with("read") || rest.starts_with("load") {
            return Kind::LdsRead(twice * bytes(rest));
        }
        if rest.starts_with("write") || rest.starts_with("store") {
            return Kind::LdsWrite(twice * bytes(rest));
        }
        // Permutations among lanes pass through the same unit.
        return Kind::LdsRead(4);
    }
    for start in ["buffer_", "global_", "flat_", "image_", "tbuffer_"] {
        if let Some(rest) = name.strip_prefix(start) {
            return match rest {
                _ if rest.starts_with("load") => Kind::Load(bytes(rest)),
                _ if rest.starts_with("store") => Kind::Store(bytes(rest)),
                _ => Kind::Other,
            };
        }
    }
    if name.starts_with("v_") {
        let name = name.strip_suffix("_e64").or(name.strip_suffix("_e32")).unwrap_or(name);
        let fused = [
            "v_fma_",
            "v_fmac_",
            "v_fmaak_",
            "v_fmamk_",
            "v_mad_f",
            "v_mac_f",
            "v_madak_f",
            "v_madmk_f",
            "v_mad_mix",
            "v_mac_legacy",
            "v_fmac_legacy",
        ];
        if name.contains("_f64") || name.contains("64_f") {
            return Kind::Double;
        }
        if name.starts_with("v_pk_fma") || name.starts_with("v_dot2") {
            return Kind::Fma(2);
        }
        if name.starts_with("v_dual_") {
            return Kind::Fma(name.matches("fma").count() as u32);
        }
        if fused.iter().any(|start| name.starts_with(start)) {
            return Kind::Fma(1);
        }
        let slow = [
            "v_mul_lo_",
            "v_mul_hi_u32",
            "v_mul_hi_i32",
            "v_mad_u64",
            "v_mad_i64",
            "v_exp_",
            "v_log_",
            "v_rcp_",
            "v_rsq_",
            "v_sqrt_",
            "v_sin_",
            "v_cos_",
        ];
        if slow.iter().any(|start| name.starts_with(start)) && !name.ends_with("_u16") {
            return Kind::Slow;
        }
        return Kind::Vector;
    }
    match name {
        "s_waitcnt" | "s_waitcnt_vscnt" | "s_waitcnt_depctr" => Kind::Wait,
        "s_barrier" => Kind::Barrier,
        "s_nop"
        | "s_endpgm"
        | "s_clause"
        | "s_inst_prefetch"
        | "s_delay_alu"
        | "s_code_end"
        | "s_set_inst_prefetch_distance" => Kind::Other,
        _ if name.starts_with("s_branch") || name.starts_with("s_cbranch") => Kind::Branch,
        _ if name.starts_with("s_load") || name.starts_with("s_buffer_load") => Kind::ScalarLoad,
        _ if name.starts_with("s_") => Kind::Scalar,
        _ => Kind::Other,
    }
}

impl Program {
    pub fn parse(text: &str) -> Program {
        let mut code: Vec<Instruction> = vec![];
        let mut labels = HashMap::new();
        let mut jumps = vec![];
        for line in text.lines() {
            let line = line.split(';').next().unwrap_or_default().trim();
            if let Some(label) = line.strip_suffix(':') {
                labels.insert(label.to_string(), code.len());
                continue;
            }
            // Only what looks like an instruction.
            let Some(name) = line
                .split_whitespace()
                .next()
                .filter(|name| name.contains('_') && name.starts_with(|c: char| c.is_ascii_lowercase()))
            else {
                continue;
            };
            let kind = kind(name);
            if kind == Kind::Branch
                && let Some(target) = line.split_whitespace().nth(1)
            {
                jumps.push((code.len(), target.to_string(), name.to_string()));
            }
            code.push(Instruction { kind, text: line.to_string(), weight: 1.0 });
        }
        // A jump back closes a loop; several to one head are one loop.
        let mut heads: HashMap<usize, usize> = HashMap::new();
        for (at, target, _) in &jumps {
            if let Some(&head) = labels.get(target).filter(|head| *head <= at) {
                let last = heads.entry(head).or_insert(*at);
                *last = (*last).max(*at);
            }
        }
        let mut loops: Vec<Loop> = heads.into_iter().map(|(first, last)| Loop { first, last, parent: None }).collect();
        loops.sort_by_key(|it| (it.first, std::cmp::Reverse(it.last)));
        for i in 0..loops.len() {
            let inside = |outer: &Loop| outer.first <= loops[i].first && loops[i].last <= outer.last;
            loops[i].parent = (0..i).rev().find(|&k| inside(&loops[k]));
        }
        let mut program = Program { code, loops };
        program.weigh(&labels, &jumps);
        program.leave_ends(&labels, &jumps);
        program
    }

    /// Two ways of which a wave takes one: `execz` jumps over the first, then over the second. Each gets half the weight, if
    /// both read or write memory.
    fn weigh(&mut self, labels: &HashMap<String, usize>, jumps: &[(usize, String, String)]) {
        let skips: Vec<(usize, usize)> = jumps
            .iter()
            .filter(|(at, target, name)| name == "s_cbranch_execz" && labels.get(target).is_some_and(|to| to > at))
            .map(|(at, target, _)| (*at, labels[target]))
            .collect();
        for (i, &(at, to)) in skips.iter().enumerate() {
            // The way back in: few instructions after the first skip ends, a second begins on the inverted mask.
            let other = skips[i + 1..].iter().find(|(other, _)| *other >= to && *other <= to + 4);
            let Some(&(other_at, other_to)) = other else { continue };
            let inverts = self.code[to..other_at].iter().any(|it| {
                it.text.starts_with("s_andn2") || it.text.starts_with("s_xor") || it.text.starts_with("s_and_not1")
            });
            // A way that only moves a few registers is no second way: then the first is what most waves take.
            let moves = |from: usize, to: usize| self.code[from..to].iter().any(|it| it.kind.is_memory());
            if !inverts || !moves(at, to) || !moves(other_at, other_to) {
                continue;
            }
            for it in (at + 1..to).chain(other_at + 1..other_to) {
                self.code[it].weight *= 0.5;
            }
        }
    }

    /// A branch that whole waves take or not, over arithmetic alone, and none where they do not: in a loop that is what is done
    /// once, at its end. It counts nothing.
    fn leave_ends(&mut self, labels: &HashMap<String, usize>, jumps: &[(usize, String, String)]) {
        for (at, target, name) in jumps {
            let Some(&to) = labels.get(target).filter(|to| **to > *at && name.starts_with("s_cbranch_scc")) else {
                continue;
            };
            let is_in_loop = self.loops.iter().any(|it| it.first <= *at && to <= it.last);
            let block = &mut self.code[at + 1..to];
            let plain = |it: &Instruction| matches!(it.kind, Kind::Vector | Kind::Slow | Kind::Scalar | Kind::Wait);
            if is_in_loop && !block.is_empty() && block.iter().all(plain) {
                block.iter_mut().for_each(|it| it.weight = 0.0);
            }
        }
    }

    pub fn depth(&self, at: usize) -> usize {
        self.loops[at].parent.map_or(1, |parent| 1 + self.depth(parent))
    }

    /// Instructions of a loop that are in none of the loops inside it.
    pub fn own(&self, at: usize) -> impl Iterator<Item = (usize, &Instruction)> {
        let inner: Vec<(usize, usize)> =
            self.loops.iter().filter(|it| it.parent == Some(at)).map(|it| (it.first, it.last)).collect();
        let range = self.loops[at].first..=self.loops[at].last;
        range
            .filter(move |i| !inner.iter().any(|(first, last)| (first..=last).contains(&i)))
            .map(|i| (i, &self.code[i]))
    }

    pub fn count(&self, at: usize) -> Counts {
        let mut counts = Counts::default();
        self.own(at).for_each(|(_, it)| counts.add(it, 1.0));
        counts
    }

    /// Rounds of a loop whose counter goes from 0 by a constant to a constant, both of which are in the code.
    pub fn rounds(&self, at: usize) -> Option<u64> {
        let words = |it: &Instruction| -> Vec<String> {
            it.text.replace(',', " ").split_whitespace().map(String::from).collect()
        };
        let number = |word: &str| match word.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => word.parse().ok(),
        };
        let own: Vec<Vec<String>> = self.own(at).map(|(_, it)| words(it)).collect();
        own.iter().filter(|it| it[0].starts_with("s_cmp_") || it[0].starts_with("s_cmpk_")).find_map(|compare| {
            let (counter, end) = (compare.get(1)?, number(compare.get(2)?)?);
            let step = own.iter().find_map(|it| {
                let adds = it[0].starts_with("s_add_") || it[0].starts_with("s_addk_");
                (adds && it.get(1) == Some(counter)).then(|| number(it.last()?)).flatten()
            })?;
            (step > 0).then(|| end.div_ceil(step)).filter(|&rounds| (1..=64).contains(&rounds))
        })
    }

    /// The loop with the most multiply-adds of its own; else the one with the most instructions.
    pub fn hottest(&self) -> Option<usize> {
        let score = |at: &usize| {
            let own = self.count(*at);
            ((own.fma * 16.0) as u64, own.all as u64)
        };
        (0..self.loops.len()).max_by_key(score)
    }
}

#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub all: f64,
    /// Multiply-adds, and the instructions that do them.
    pub fma: f64,
    pub fma_instructions: f64,
    pub vector: f64,
    pub slow: f64,
    pub double: f64,
    pub scalar: f64,
    pub lds_reads: f64,
    pub lds_read_bytes: f64,
    pub lds_writes: f64,
    pub lds_write_bytes: f64,
    pub loads: f64,
    pub load_bytes: f64,
    pub stores: f64,
    pub store_bytes: f64,
    pub scratch: f64,
    pub waits: f64,
    pub barriers: f64,
    /// By name, for what each width is.
    pub names: std::collections::BTreeMap<String, f64>,
}

impl Counts {
    pub fn add(&mut self, it: &Instruction, times: f64) {
        let n = it.weight * times;
        self.all += n;
        let mut named = |kind: &str| *self.names.entry(kind.to_string()).or_default() += n;
        match it.kind {
            Kind::Fma(each) => {
                self.fma += n * f64::from(each);
                self.fma_instructions += n;
            }
            Kind::Vector => self.vector += n,
            Kind::Slow => self.slow += n,
            Kind::Double => self.double += n,
            Kind::Scalar | Kind::ScalarLoad | Kind::Branch => self.scalar += n,
            Kind::LdsRead(bytes) => {
                self.lds_reads += n;
                self.lds_read_bytes += n * f64::from(bytes);
                named(&format!("lds read {bytes}B"));
            }
            Kind::LdsWrite(bytes) => {
                self.lds_writes += n;
                self.lds_write_bytes += n * f64::from(bytes);
                named(&format!("lds write {bytes}B"));
            }
            Kind::Load(bytes) => {
                self.loads += n;
                self.load_bytes += n * f64::from(bytes);
                named(&format!("load {bytes}B"));
            }
            Kind::Store(bytes) => {
                self.stores += n;
                self.store_bytes += n * f64::from(bytes);
                named(&format!("store {bytes}B"));
            }
            Kind::Scratch => self.scratch += n,
            Kind::Wait => self.waits += n,
            Kind::Barrier => self.barriers += n,
            Kind::Other => {}
        }
        if matches!(it.kind, Kind::Vector | Kind::Slow | Kind::Double) {
            let name = it.text.split_whitespace().next().unwrap_or_default();
            named(name.trim_end_matches("_e32").trim_end_matches("_e64"));
        }
    }

    pub fn text(&self) -> String {
        let mut out = format!(
            "{} instructions: {} fma, {} vector, {} slow, {} scalar, {} waits, {} barriers",
            self.all,
            self.fma,
            self.vector,
            self.slow + self.double,
            self.scalar,
            self.waits,
            self.barriers
        );
        if self.scratch > 0.0 {
            write!(out, ", {} SCRATCH", self.scratch).expect("a string");
        }
        for (name, count) in self.names.iter().filter(|(name, _)| name.contains(' ')) {
            write!(out, ", {count} {name}").expect("a string");
        }
        let mut vector: Vec<_> = self.names.iter().filter(|(name, _)| name.starts_with("v_")).collect();
        vector.sort_by(|a, b| b.1.total_cmp(a.1));
        for (name, count) in vector.into_iter().take(6) {
            write!(out, ", {count} {name}").expect("a string");
        }
        out
    }
}
