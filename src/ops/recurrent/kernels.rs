//! The kernels of a recurrence: what is there at the start, then one a step, all of one text.

use super::{Cell, Recurrence};
use crate::kernel::{Binding, Capabilities, Kernel, Shader};
use crate::op::Lowering;
use crate::ops::shared::{EACH_FILE, TEAM_FILE, each, with_functions};
use crate::ops::variants::{Rank, Variant};
use crate::shader::{File, Item, params};
use crate::shaders::recurrent::{
    ALONE, BACKWARD, BACKWARD_WIDE, CLEAR, FORWARD, FORWARD_WIDE, GRU, GRU_BACKWARD, LSTM, LSTM_BACKWARD, RNN,
    RNN_BACKWARD, START, WIDE,
};

/// Most lines of a weight: an invocation's loop goes over them.
pub(super) const MOST_LINES: usize = 50_000;

/// A recurrence, or with `cells`, where they have a gradient, the way back through it.
pub(super) struct Site {
    pub op: Recurrence,
    pub cells: bool,
    pub steps: usize,
    pub rows: usize,
    pub hidden: usize,
}

params! {
    struct Sizes {
        rows,
        hidden,
        /// Of the weight.
        lines,
        /// Terms of a product.
        depth,
        /// The step.
        time,
        /// The slot of the state before it.
        before,
        /// And of that behind it.
        here,
    }
}

params! {
    struct Start {
        /// Where it begins.
        first,
        elements,
    }
}

params! {
    struct Clear {
        first,
        elements,
        /// Of what is carried.
        carried,
    }
}

/// How a step forms its product.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Four elements a load, shared among the 8 lanes of a subgroup.
    Wide,
    /// An invocation alone.
    Alone,
}

/// Four elements a load where lanes had better load once and pass on. A tile has 32 rows: a few are not worth it.
fn wide(site: &Site, capabilities: &Capabilities) -> Option<Rank> {
    let broadcasts = capabilities.costs().dear_loads && capabilities.subgroup == Some(8);
    let fits = broadcasts && site.hidden.is_multiple_of(4);
    fits.then_some(if site.rows > 4 { Rank::Good } else { Rank::Last })
}

pub(super) static THERE: &[Variant<Site>] = &[
    Variant { name: "recurrence.wide", needs: wide, make: |site, name, c| forward(site, name, Form::Wide, c) },
    Variant {
        name: "recurrence.alone",
        needs: |_, _| Some(Rank::Usual),
        make: |site, name, c| forward(site, name, Form::Alone, c),
    },
];

pub(super) static BACK: &[Variant<Site>] = &[
    Variant {
        name: "recurrence_backward.wide",
        needs: wide,
        make: |site, name, c| backward(site, name, Form::Wide, c),
    },
    Variant {
        name: "recurrence_backward.alone",
        needs: |_, _| Some(Rank::Usual),
        make: |site, name, c| backward(site, name, Form::Alone, c),
    },
];

/// The functions of a cell over values of type F, which is `float`.
fn functions(shader: Shader, float: &'static str) -> Shader {
    let [integer, whole, truth] = match float {
        "f32" => ["i32", "u32", "bool"],
        _ => ["vec4<i32>", "vec4<u32>", "vec4<bool>"],
    };
    let shader = shader.alias("F", float).alias("I", integer).alias("U", whole).alias("B", truth);
    with_functions(shader, &["rectified", "tanh_full", "sigmoid"])
}

impl Form {
    /// The loop, with its entry.
    fn shader(self, capabilities: &Capabilities) -> Shader {
        match self {
            Form::Wide => Shader::of(&[TEAM_FILE, &WIDE]),
            Form::Alone => Shader::of(&[EACH_FILE, &ALONE]).constant("GROUP", capabilities.costs().group),
        }
    }

    fn vector(self) -> &'static str {
        if self == Form::Wide { "vec4<f32>" } else { "f32" }
    }

    /// Workgroups of a step whose invocations have `units` units each.
    fn workgroups(self, site: &Site, units: usize, capabilities: &Capabilities) -> u64 {
        let lanes = site.hidden.div_ceil(units);
        match self {
            Form::Wide => (site.rows.div_ceil(32) * lanes.div_ceil(8)) as u64,
            Form::Alone => (site.rows.div_ceil(4) * lanes).div_ceil(capabilities.costs().group) as u64,
        }
    }
}

impl Site {
    fn lines(&self) -> usize {
        self.op.cell.lines() * self.hidden
    }

    /// Elements of a slot of states.
    fn slot(&self) -> usize {
        self.rows * self.hidden
    }

    /// A kernel like `step` for each step.
    fn all(&self, step: &Kernel, depth: usize, back: bool) -> Vec<Kernel> {
        let at = |[time, before, here]: [usize; 3]| {
            let mut kernel = step.clone();
            kernel.uniform(Sizes {
                rows: self.rows,
                hidden: self.hidden,
                lines: self.lines(),
                depth,
                time,
                before,
                here,
            });
            kernel
        };
        let steps = self.op.steps(self.steps);
        if back { steps.rev().map(at).collect() } else { steps.map(at).collect() }
    }

    /// True for a row whose sequence has this step, and what that is read from.
    fn bind_lengths(&self, kernel: &mut Kernel, input: usize) {
        let value = match self.op.lengths {
            true => "$p$.time < $lengths$[row]",
            false => "true",
        };
        let text = format!("fn $is_within$(row: u32) -> bool {{\n    return {value};\n}}\n");
        kernel.shader.items.push(Item::new("is_within", text));
        if self.op.lengths {
            kernel.bind(Binding::input(input), "lengths", "u32");
        }
    }
}

/// The sums of a lane, and how it reads what they multiply: an element, or four of them, of each of `count` lines.
fn columns(form: Form, count: usize) -> Vec<Item> {
    let sides = ["x", "y", "z", "w"];
    let text = |along: &str| {
        let each: Vec<String> = sides[..count].iter().map(|side| format!("$weight$[at.{side} + {along}]")).collect();
        each.join(", ")
    };
    let sums = Item::alias("V", format!("vec{count}<f32>"));
    let read = match form {
        Form::Alone => {
            let text = format!("fn $columns$(at: vec4<u32>, k: u32) -> $V$ {{\n    return $V$({});\n}}\n", text("k"));
            Item::new("columns", text)
        }
        Form::Wide => {
            let values = text("k");
            let text = format!(
                "fn $across$(at: vec4<u32>, k: u32) -> $Across$ {{\n    return transpose(mat{count}x4<f32>({values}));\n}}\n"
            );
            Item::new("across", text)
        }
    };
    let mut items = vec![sums, read];
    if form == Form::Wide {
        items.push(Item::alias("Across", format!("mat4x{count}<f32>")));
    }
    items
}

/// The activation of a plain network, and its slope by its value.
fn activation(cell: Cell) -> [Item; 2] {
    let [value, slope] = match cell {
        Cell::Relu => ["$rectified$(x)", "select($F$(0.0), $F$(1.0), h > $F$(0.0))"],
        _ => ["$tanh_full$(x)", "$F$(1.0) - h * h"],
    };
    let function = |name: &'static str, of: &str, value: &str| {
        Item::new(name, format!("fn ${name}$({of}: $F$) -> $F$ {{\n    return {value};\n}}\n"))
    };
    [function("activation", "x", value), function("slope", "h", slope)]
}

fn forward(site: &Site, name: &'static str, form: Form, capabilities: &Capabilities) -> Lowering {
    let cell = site.op.cell;
    let (file, count, units): (&File, usize, usize) = match cell {
        Cell::Tanh | Cell::Relu => (&RNN, 4, 4),
        Cell::Gru => (&GRU, 3, 1),
        Cell::Lstm => (&LSTM, 4, 1),
    };
    let state = if form == Form::Wide { &FORWARD_WIDE } else { &FORWARD };
    let mut shader = functions(form.shader(capabilities).file(state).file(file), "f32");
    shader.items.extend(columns(form, count));
    if !cell.has_gates() {
        shader.items.extend(activation(cell));
    }
    let mut step = Kernel::own(name, shader);
    step.bind(Binding::input(0), "x", "f32");
    step.bind(Binding::input(1), "weight", form.vector());
    step.bind(Binding::input(2), "bias", "f32");
    step.bind(Binding::result(0), "states", form.vector());
    if cell.has_gates() {
        step.bind(Binding::result(1), "gates", "f32");
    }
    if cell == Cell::Lstm {
        step.bind(Binding::result(2), "cells", "f32");
    }
    site.bind_lengths(&mut step, 3 + cell.states());
    step.workgroups = form.workgroups(site, units, capabilities);
    step.iterations = site.hidden as u64 + 128;
    step.flops = 2 * (site.rows * site.lines() * site.hidden) as u64;
    // What a step reads and writes; the arrays that it binds hold all steps.
    let touched = site.lines() * site.hidden + site.rows * (site.lines() + 8 * site.hidden);
    step.bytes = Some(4 * touched as u64);
    let (slot, first) = (site.slot(), site.op.first(site.steps));
    // One kernel for both: the planner drops those of whose results it needs none.
    let (mut start, mut cells) = (Kernel::own("recurrence.start", each(Shader::of(&[&START]))), "");
    start.bind(Binding::input(3), "start", "f32");
    start.bind(Binding::result(0), "states", "f32");
    if cell == Cell::Lstm {
        start.bind(Binding::input(4), "started", "f32");
        start.bind(Binding::result(2), "cells", "f32");
        cells = "    $cells$[$p$.first + i] = $started$[i];\n";
    }
    start.shader.items.push(Item::new("start_cell", format!("fn $start_cell$(i: u32) {{\n{cells}}}\n")));
    start.uniform(Start { first: first * slot, elements: slot });
    start.workgroups = (slot as u64).div_ceil(64);
    start.bytes = Some(8 * (slot * cell.states()) as u64);
    let mut kernels = vec![start];
    kernels.extend(site.all(&step, site.hidden, false));
    Lowering::Kernels { kernels, temporaries: vec![] }
}

fn backward(site: &Site, name: &'static str, form: Form, capabilities: &Capabilities) -> Lowering {
    let cell = site.op.cell;
    let (file, kept): (&File, &'static str) = match cell {
        Cell::Tanh | Cell::Relu => (&RNN_BACKWARD, "states"),
        Cell::Gru => (&GRU_BACKWARD, "states"),
        Cell::Lstm => (&LSTM_BACKWARD, "cells"),
    };
    let state = if form == Form::Wide { &BACKWARD_WIDE } else { &BACKWARD };
    let vector = form.vector();
    let mut shader = functions(form.shader(capabilities).file(state).file(file), vector);
    if !cell.has_gates() {
        shader.items.extend(activation(cell));
    }
    if cell == Cell::Lstm {
        let value = if site.cells { "$dcells$[at]" } else { "$F$(0.0)" };
        shader.items.push(Item::new("dcell", format!("fn $dcell$(at: u32) -> $F$ {{\n    return {value};\n}}\n")));
    }
    let mut step = Kernel::own(name, shader);
    step.bind(Binding::input(0), "weight", vector);
    let gates = usize::from(cell.has_gates());
    if cell.has_gates() {
        step.bind(Binding::input(1), "gates", vector);
    }
    step.bind(Binding::input(1 + gates), kept, vector);
    step.bind(Binding::input(2 + gates), "dstates", vector);
    if site.cells {
        step.bind(Binding::input(3 + gates), "dcells", vector);
    }
    step.bind(Binding::result(0), "d", vector);
    step.bind(Binding::result(1), "carry", vector);
    if cell == Cell::Gru {
        step.bind(Binding::result(2), "dx", vector);
    }
    site.bind_lengths(&mut step, 3 + gates + usize::from(site.cells));
    step.workgroups = form.workgroups(site, 4, capabilities);
    step.iterations = site.lines() as u64 + 128;
    step.flops = 2 * (site.rows * site.lines() * site.hidden) as u64;
    let touched = site.lines() * site.hidden + site.rows * (2 * site.lines() + 9 * site.hidden);
    step.bytes = Some(4 * touched as u64);
    // The slot behind the last step.
    let end = site.steps - site.op.first(site.steps);
    let [elements, carried] = [site.rows * site.lines(), cell.states() * site.slot()];
    let mut clear = Kernel::own("recurrence.clear", each(Shader::of(&[&CLEAR])));
    clear.bind(Binding::result(0), "d", "f32");
    clear.bind(Binding::result(1), "carry", "f32");
    clear.uniform(Clear { first: end * elements, elements, carried });
    clear.workgroups = (elements.max(carried) as u64).div_ceil(64);
    clear.bytes = Some(4 * (elements + carried) as u64);
    let mut kernels = vec![clear];
    kernels.extend(site.all(&step, site.lines(), true));
    Lowering::Kernels { kernels, temporaries: vec![] }
}
