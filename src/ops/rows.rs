//! Kernels that fold each row of a tensor and then write results of it: what softmax, cross-entropy, layer normalisation
//! and their gradients have in common. Not an op; ops put their own functions in front of the text (see
//! `shaders/rows/loop.wgsl`).

use crate::kernel::{Binding, Capabilities, Kernel};
use crate::ops::shared::{EACH, team_of};
use crate::shape::Shape;

/// Values that a lane of a workgroup may pass over twice within the loop bound.
const MAX_PASS: usize = 29_000;
/// Longest row that a kernel folds: the widest workgroup of software drivers has 64 lanes.
pub(crate) const MAX_LENGTH: usize = 64 * MAX_PASS;
/// Longest row, in values, for one invocation: a quarter of it in iterations to fold, and all of it to write.
const MAX_SINGLE: usize = 45_000;

/// How `rows/block.wgsl` gets at values that are moved one at a time.
const VALUES: &str = "const HALVES: u32 = 1u;
alias V = F;
fn value_of(x: V, half: u32) -> F {
    return x;
}
fn stored(low: F, high: F) -> V {
    return low;
}
fn first_at(at: u32, half: u32) -> F {
    return prologue(at * LANES);
}
fn finish(x: F, at: u32, half: u32) -> OUT {
    return epilogue(x, at * LANES);
}
fn put(at: u32, low: OUT, high: OUT) {
    result[at] = low;
}
";

/// How it gets at pairs of values.
const PAIRS: &str = "const HALVES: u32 = 2u;
alias V = vec4<u64>;
fn value_of(x: V, half: u32) -> F {
    return bitcast<F>(half_of(x, half));
}
fn stored(low: F, high: F) -> V {
    return pair_of(bitcast<U>(low), bitcast<U>(high));
}
fn first_at(at: u32, half: u32) -> F {
    return prologue(at * 8u, half);
}
fn finish(x: F, at: u32, half: u32) -> F {
    return epilogue(x, at * 8u, half);
}
fn put(at: u32, low: F, high: F) {
    result[at] = stored(low, high);
}
";

/// Iterations of a workgroup that takes several rows, at most.
const MAX_BLOCK: usize = 50_000;

/// Functions that form a row's maximum and its sum of exponentials.
pub(crate) const LOG_SUM_EXP: &str = include_str!("../../shaders/rows/log_sum_exp.wgsl");
/// Functions that form a mean and a sum of squared differences from it.
pub(crate) const MOMENTS: &str = include_str!("../../shaders/rows/moments.wgsl");

/// The rows of a tensor along one axis.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rows {
    /// Number of rows.
    pub rows: usize,
    /// Elements of a row.
    pub length: usize,
    /// Elements between neighbours of a row.
    pub stride: usize,
}

/// What an op brings to a kernel over rows.
pub(crate) struct Program {
    /// Name of the kernel.
    pub name: &'static str,
    /// Bindings and functions.
    pub text: String,
    /// Members of its `State`, for the exchange between lanes; empty if it is a single `F`.
    pub state: &'static [&'static str],
    /// Bindings 0, 1, ..; input 0 is read through the prologue.
    pub bindings: Vec<Binding>,
    /// Results a row, or 0 for one result an element.
    pub results: usize,
    /// A number of the op.
    pub number: f64,
    /// True if input 0 holds one number a row, which the text reads by `first_of(row)`: through the prologue, where a call
    /// of that is for one element.
    pub first_of_row: bool,
}

/// What an op brings besides to a kernel that takes rows in blocks (see `shaders/rows/block.wgsl`).
pub(crate) struct Block {
    /// Members of `Kept`: the numbers of a row, f32 each, that its results depend on.
    pub kept: &'static [&'static str],
    /// Most blocks of a subgroup's width that a workgroup takes.
    pub most: usize,
}

/// Who takes a row.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Team {
    /// One invocation.
    Invocation,
    /// A workgroup that is one subgroup.
    Subgroup(u32),
    /// A workgroup of this many.
    Workgroup(u32),
}

impl Rows {
    /// The rows of `shape` along `axis`.
    pub fn along(shape: &Shape, axis: usize) -> Rows {
        let length = shape[axis];
        Rows { rows: shape.elements() / length, length, stride: shape[axis + 1..].iter().product() }
    }

    /// Position of the first element of a row.
    pub fn start(&self, row: usize) -> usize {
        row / self.stride * self.stride * self.length + row % self.stride
    }

    /// Positions of a row's elements.
    pub fn positions(self, row: usize) -> impl Iterator<Item = usize> + Clone {
        (0..self.length).map(move |j| self.start(row) + j * self.stride)
    }

    /// Elements of a value along a contiguous row, whether two values are moved at once, and how many such there are.
    fn values(&self, capabilities: &Capabilities) -> (usize, bool, usize) {
        let width = capabilities.subgroup.unwrap_or(1) as usize;
        match self.length {
            n if capabilities.pairs && n.is_multiple_of(8) && n > 8 * width => (4, true, n / 8),
            n if n.is_multiple_of(4) => (4, false, n / 4),
            n => (1, false, n),
        }
    }

    /// Rows that a workgroup takes of those that share what they read of a column, or `None` where rows had better be
    /// taken one by one: on GPUs, whose caches serve such reads, and where a row is shorter than a subgroup.
    pub fn block(&self, most: usize, capabilities: &Capabilities) -> Option<usize> {
        let width =
            capabilities.subgroup.filter(|width| capabilities.costs().dear_loads && width.is_power_of_two())? as usize;
        let (_, _, length) = self.values(capabilities);
        let within = MAX_BLOCK / (2 * length.div_ceil(width) + 4);
        // A few workgroups for each core, if there are rows for them.
        let rows = (most * width).min(self.rows.div_ceil(8)).min(within);
        (self.stride == 1 && length > width && within >= width).then_some(rows.max(1))
    }

    /// The kernel of `program` that takes `block` rows a workgroup.
    pub fn block_kernel(&self, program: Program, block: usize, with: &Block, capabilities: &Capabilities) -> Kernel {
        let width = capabilities.subgroup.unwrap_or(1);
        let (lanes, pairs, length) = self.values(capabilities);
        let access = if pairs { PAIRS } else { VALUES };
        let each = |form: &dyn Fn(&str) -> String| with.kept.iter().map(|name| form(name)).collect::<Vec<_>>();
        let source = format!(
            "{}const LANES: u32 = {lanes}u;\nconst CONTIGUOUS: bool = true;\nconst BLOCKS: u32 = {}u;\n{}{access}\
             struct Kept {{\n{}}}\n\
             fn choose(a: Kept, b: Kept, second: bool) -> Kept {{\n    return Kept({});\n}}\n\
             fn kept_of(own: Kept, lane: u32) -> Kept {{\n    return Kept({});\n}}\n{}{}{}{}",
            team_of(width),
            with.most,
            lane_functions(lanes, lanes == 4),
            each(&|name| format!("    {name}: f32,\n")).concat(),
            each(&|name| format!("select(a.{name}, b.{name}, second)")).join(", "),
            each(&|name| format!("subgroupShuffle(own.{name}, lane)")).join(", "),
            program.text,
            include_str!("../../shaders/rows/loop.wgsl"),
            join_lanes(width, true, program.state),
            include_str!("../../shaders/rows/block.wgsl"),
        );
        let mut kernel = Kernel::own(format!("{}.block", program.name), source);
        // A result of pairs is f32; else the planner says what is stored.
        let results = kernel.shader.storage.iter_mut().filter(|storage| pairs && storage.element == "$OUT$");
        results.for_each(|storage| storage.element = "$V$".into());
        kernel.bindings = program.bindings;
        let number = (program.number as f32).to_bits();
        kernel.params = vec![self.rows as u32, length as u32, 1, 0, self.length as u32, number, block as u32];
        kernel.workgroups = self.rows.div_ceil(block) as u64;
        kernel.iterations = (block * (2 * length.div_ceil(width as usize) + 4)) as u64 + 64;
        kernel.prologue = true;
        kernel.epilogue = true;
        (kernel.lanes, kernel.pairs) = (lanes, pairs);
        kernel
    }

    /// The kernel of `program` over these rows.
    pub fn kernel(&self, program: Program, capabilities: &Capabilities) -> Kernel {
        // Four elements a value: along the row, or of four rows side by side. Neither depends on the number of rows.
        let along = self.stride == 1 && self.length.is_multiple_of(4);
        let across = self.stride.is_multiple_of(4) && program.results == 0;
        let lanes = if along || across { 4 } else { 1 };
        let in_values = |n: usize, divided: bool| if divided { n / 4 } else { n };
        let rows = in_values(self.rows, across && !along);
        let stride = in_values(self.stride, across && !along);
        let length = in_values(self.length, along);
        let costs = capabilities.costs();
        let team = self.team(length, stride, capabilities);
        // Items that a lane keeps in registers.
        let keep = match team {
            Team::Subgroup(width) | Team::Workgroup(width) if program.results == 0 => {
                Some(length.div_ceil(width as usize).next_power_of_two()).filter(|&keep| keep <= costs.kept_items)
            }
            _ => None,
        };
        let finish = match program.results {
            0 => include_str!("../../shaders/rows/elements.wgsl"),
            _ => include_str!("../../shaders/rows/results.wgsl"),
        };
        let first = match (program.first_of_row, lanes) {
            (false, _) => "",
            (true, 1) => "fn first_of(row: u32) -> f32 {\n    return prologue(row);\n}\n",
            (true, _) => {
                "@group(0) @binding(0) var<storage, read> first_data: array<f32>;\n\
                 fn first_of(row: u32) -> f32 {\n    return first_data[row];\n}\n"
            }
        };
        let head = format!(
            "const LANES: u32 = {lanes}u;\nconst CONTIGUOUS: bool = {};\n{}{first}",
            self.stride == 1,
            lane_functions(lanes, along)
        );
        let shared = include_str!("../../shaders/rows/loop.wgsl");
        let grouped = || match keep {
            Some(keep) => (format!("const KEEP: u32 = {keep}u;\n"), include_str!("../../shaders/rows/registers.wgsl")),
            None => (String::new(), include_str!("../../shaders/rows/group.wgsl")),
        };
        let tail = match team {
            Team::Invocation => EACH.to_string() + include_str!("../../shaders/rows/single.wgsl"),
            Team::Subgroup(width) | Team::Workgroup(width) => {
                let (constants, text) = grouped();
                let subgroup = matches!(team, Team::Subgroup(_));
                format!("{constants}{}{}{text}", team_of(width), join_lanes(width, subgroup, program.state))
            }
        };
        let name = match team {
            Team::Invocation => program.name.to_string(),
            Team::Subgroup(_) => format!("{}.subgroup", program.name),
            Team::Workgroup(_) => format!("{}.workgroup", program.name),
        };
        let mut kernel = Kernel::own(name, format!("{head}{}{shared}{finish}{tail}", program.text));
        kernel.bindings = program.bindings;
        let number = (program.number as f32).to_bits();
        kernel.params = vec![rows as u32, length as u32, stride as u32, 0, self.length as u32, number, 1];
        kernel.workgroups = if team == Team::Invocation { (rows as u64).div_ceil(64) } else { rows as u64 };
        let written = if program.results == 0 { length } else { program.results };
        kernel.iterations = match team {
            Team::Invocation => length / 4 + 4 + written,
            Team::Subgroup(width) | Team::Workgroup(width) => 2 * (length / width as usize + 1) + 12,
        } as u64;
        kernel.prologue = !(program.first_of_row && lanes > 1);
        kernel.epilogue = program.results == 0;
        kernel.lanes = lanes;
        kernel
    }

    /// Where barriers are dear there are few lanes to fill; a GPU prefers one invocation for short rows, and where neighbouring rows lie side by side and there are many.
    fn team(&self, length: usize, stride: usize, capabilities: &Capabilities) -> Team {
        let subgroup = capabilities.subgroup.filter(|width| width.is_power_of_two());
        let wide = if length > 64 { 256 } else { 64 };
        match (capabilities.costs().dear_barriers, subgroup) {
            (true, Some(width)) if length > 8 * width as usize && length <= MAX_PASS * width as usize => {
                Team::Subgroup(width)
            }
            (true, _) if length > MAX_SINGLE || self.rows < 64 && length > 1024 => Team::Workgroup(64),
            (true, _) => Team::Invocation,
            (false, _) if length <= 8 => Team::Invocation,
            (false, _) if stride >= 32 && self.rows >= 2048 && length <= MAX_SINGLE => Team::Invocation,
            (false, Some(width)) if length <= 8 * width as usize => Team::Subgroup(width),
            (false, _) => Team::Workgroup(wide),
        }
    }
}

/// Functions over the lanes of a value; `along`: the lanes are parts of one row.
pub(crate) fn lane_functions(lanes: usize, along: bool) -> String {
    let (sum, max, first, parts) = match along && lanes == 4 {
        true => ("F((x.x + x.y) + (x.z + x.w))", "F(max(max(x.x, x.y), max(x.z, x.w)))", "F(x.x)", "4.0"),
        false => ("x", "x", "x", "1.0"),
    };
    let (pick, numbers) = match lanes {
        4 => ("x[lane]", "U(first) + U(0u, 1u, 2u, 3u)"),
        _ => ("x", "first"),
    };
    format!(
        "const PARTS: f32 = {parts};\nfn lanes_sum(x: F) -> F {{\n    return {sum};\n}}\nfn lanes_max(x: F) -> F {{\n    return {max};\n}}\n\
         fn lanes_first(x: F) -> F {{\n    return {first};\n}}\n\
         fn lane_of(x: F, lane: u32) -> f32 {{\n    return {pick};\n}}\n\
         fn lane_numbers(first: u32) -> U {{\n    return {numbers};\n}}\n"
    )
}

/// `join_lanes(state, lane)` for a workgroup of `width`, which is a subgroup or not, and a state of these members.
pub(crate) fn join_lanes(width: u32, subgroup: bool, members: &[&str]) -> String {
    let text = match subgroup {
        true => exchange(members) + include_str!("../../shaders/rows/subgroup.wgsl"),
        false => include_str!("../../shaders/rows/tree.wgsl").into(),
    };
    format!("const WIDTH: u32 = {width}u;\n{text}")
}

/// `exchange(state, mask)` for a state of these members.
fn exchange(members: &[&str]) -> String {
    let value = match members {
        [] => "subgroupShuffleXor(state, mask)".to_string(),
        members => {
            let each: Vec<String> =
                members.iter().map(|name| format!("subgroupShuffleXor(state.{name}, mask)")).collect();
            format!("State({})", each.join(", "))
        }
    };
    format!("fn exchange(state: State, mask: u32) -> State {{\n    return {value};\n}}\n")
}
