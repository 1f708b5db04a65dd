//! Kernels that fold each row of a tensor and then write results of it: what softmax, cross-entropy, layer normalisation
//! and their gradients have in common. Not an op; ops bring their own functions (see `shaders/rows/loop.wgsl`).

use crate::kernel::{Binding, Capabilities, Kernel, Operand, Shader};
use crate::ops::shared::{self, each};
use crate::shader::{Facts, File, Item, params};
use crate::shaders;
use crate::shape::Shape;

/// Values that a lane of a workgroup may pass over twice within the loop bound.
const MAX_PASS: usize = 29_000;
/// Longest row that a kernel folds: the widest workgroup of software drivers has 64 lanes.
pub(crate) const MAX_LENGTH: usize = 64 * MAX_PASS;
/// Longest row, in values, for one invocation: a quarter of it in iterations to fold, and all of it to write.
const MAX_SINGLE: usize = 45_000;

/// Iterations of a workgroup that takes several rows, at most.
const MAX_BLOCK: usize = 50_000;

/// Functions that form a row's maximum and its sum of exponentials; they call [`EXP_DOWN`].
pub(crate) const LOG_SUM_EXP: &File = &shaders::rows::LOG_SUM_EXP;
/// The exponential of what is not above 0.
pub(crate) const EXP_DOWN: &File = &shaders::rows::EXP_DOWN;
/// Functions that form a mean and a sum of squared differences from it.
pub(crate) const MOMENTS: &File = &shaders::rows::MOMENTS;
/// States that lanes exchange as they are.
pub(crate) const WHOLE: &File = &shaders::rows::WHOLE;

params! {
    /// Rows, lengths and strides are in values.
    struct Sizes {
        rows,
        length,
        stride,
        /// Zero: keeps compilers from folding a NaN into the text, which WGSL forbids.
        zero,
        /// Elements of a row.
        count,
        /// A number of the op.
        number: f32,
        /// Rows that a workgroup takes, for `rows/block.wgsl`.
        block,
    }
}

/// A data binding, its name in the shader and the type of its elements.
pub(crate) type Bound = (Binding, &'static str, &'static str);

/// Where the one result of an op goes.
pub(crate) const RESULT: Bound = (Binding { operand: Operand::Output(0), write: true }, "result", "$OUT$");

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
    /// Functions.
    pub shader: Shader,
    /// Members of its `State`, for the exchange between lanes; empty if it is a single `F`.
    pub state: &'static [&'static str],
    /// What is bound behind input 0, which is read through the prologue.
    pub bound: Vec<Bound>,
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
        let access = if pairs { &shaders::rows::BLOCK_PAIRS } else { &shaders::rows::BLOCK_VALUES };
        let of_kept = |form: &dyn Fn(&str) -> String| with.kept.iter().map(|name| form(name)).collect::<Vec<_>>();
        let members = of_kept(&|name| format!("    {name}: f32,\n")).concat();
        let chosen = of_kept(&|name| format!("select(a.{name}, b.{name}, second)")).join(", ");
        let shuffled = of_kept(&|name| format!("subgroupShuffle(own.{name}, lane)")).join(", ");
        let choose =
            format!("fn $choose$(a: $Kept$, b: $Kept$, second: bool) -> $Kept$ {{\n    return $Kept$({chosen});\n}}\n");
        let kept_of =
            format!("fn $kept_of$(own: $Kept$, lane: u32) -> $Kept$ {{\n    return $Kept$({shuffled});\n}}\n");
        let shader = lane_functions(lanes, lanes == 4)
            .constant("CONTIGUOUS", true)
            .constant("BLOCKS", with.most)
            .file(access)
            .item(Item::new("Kept", format!("struct $Kept$ {{\n{members}}}\n")))
            .item(Item::new("choose", choose))
            .item(Item::new("kept_of", kept_of).with(Facts::SUBGROUP))
            .join(program.shader)
            .file(&shaders::rows::LOOP)
            .file(WHOLE)
            .join(join_lanes(width, true, program.state))
            .file(&shaders::rows::BLOCK);
        let mut kernel = Kernel::own(format!("{}.block", program.name), shared::team(shader, width));
        kernel.bindings.push(Binding::input(0));
        for (binding, name, element) in program.bound {
            // A result of pairs is f32; else the planner says what is stored.
            kernel.bind(binding, name, if pairs && element == "$OUT$" { "$V$" } else { element });
        }
        kernel.uniform(Sizes {
            rows: self.rows,
            length,
            stride: 1,
            zero: 0,
            count: self.length,
            number: program.number as f32,
            block,
        });
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
            0 => &shaders::rows::ELEMENTS,
            _ => &shaders::rows::RESULTS,
        };
        let shader = lane_functions(lanes, along)
            .constant("CONTIGUOUS", self.stride == 1)
            .join(narrowed(program.shader))
            .file(&shaders::rows::LOOP)
            .file(finish);
        let shader = match team {
            Team::Invocation => each(shader.file(&shaders::rows::SINGLE)),
            Team::Subgroup(width) | Team::Workgroup(width) => {
                let joined = join_lanes(width, matches!(team, Team::Subgroup(_)), program.state);
                let shader = shared::team(shader.join(joined), width);
                match keep {
                    Some(keep) => shader.constant("KEEP", keep).file(&shaders::rows::REGISTERS),
                    None => shader.file(&shaders::rows::GROUP),
                }
            }
        };
        let name = match team {
            Team::Invocation => program.name.to_string(),
            Team::Subgroup(_) => format!("{}.subgroup", program.name),
            Team::Workgroup(_) => format!("{}.workgroup", program.name),
        };
        let mut kernel = Kernel::own(name, shader);
        kernel.prologue = !(program.first_of_row && lanes > 1);
        match kernel.prologue {
            true => kernel.bindings.push(Binding::input(0)),
            false => kernel.bind(Binding::input(0), "first_data", "f32"),
        }
        if program.first_of_row {
            let read = if kernel.prologue { "$prologue$(row)" } else { "$first_data$[row]" };
            let text = format!("fn $first_of$(row: u32) -> f32 {{\n    return {read};\n}}\n");
            kernel.shader.items.push(Item::new("first_of", text));
        }
        for (binding, name, element) in program.bound {
            kernel.bind(binding, name, element);
        }
        let (count, number) = (self.length, program.number as f32);
        kernel.uniform(Sizes { rows, length, stride, zero: 0, count, number, block: 1 });
        kernel.workgroups = if team == Team::Invocation { (rows as u64).div_ceil(64) } else { rows as u64 };
        let written = if program.results == 0 { length } else { program.results };
        kernel.iterations = match team {
            Team::Invocation => length / 4 + 4 + written,
            Team::Subgroup(width) | Team::Workgroup(width) => 2 * (length / width as usize + 1) + 12,
        } as u64;
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

/// How a value of so many lanes is taken apart, and functions over its lanes; `along`: these are parts of one row.
pub(crate) fn lane_functions(lanes: usize, along: bool) -> Shader {
    let joined = along && lanes == 4;
    Shader::of(&[
        if lanes == 4 { &shaders::rows::FOUR } else { &shaders::rows::ONE },
        if joined { &shaders::rows::LANES_JOINED } else { &shaders::rows::LANES_APART },
    ])
}

/// With states that lanes exchange as they are, unless the program has smaller ones.
fn narrowed(program: Shader) -> Shader {
    let has = program.items.iter().any(|item| item.name == "Joined");
    if has { program } else { program.file(WHOLE) }
}

/// `join_lanes(state, lane)` for a workgroup of `width`, which is a subgroup or not, and a state of these members.
pub(crate) fn join_lanes(width: u32, subgroup: bool, members: &[&str]) -> Shader {
    let shader = match subgroup {
        true => Shader::of(&[&shaders::rows::SUBGROUP]).item(exchange(members)),
        false => Shader::of(&[&shaders::rows::TREE]),
    };
    shader.constant("WIDTH", width)
}

/// `exchange(state, mask)` for a state of these members.
fn exchange(members: &[&str]) -> Item {
    let value = match members {
        [] => "subgroupShuffleXor(state, mask)".to_string(),
        members => {
            let each: Vec<String> =
                members.iter().map(|name| format!("subgroupShuffleXor(state.{name}, mask)")).collect();
            format!("$Joined$({})", each.join(", "))
        }
    };
    let text = format!("fn $exchange$(state: $Joined$, mask: u32) -> $Joined$ {{\n    return {value};\n}}\n");
    Item::new("exchange", text).with(Facts::SUBGROUP)
}
