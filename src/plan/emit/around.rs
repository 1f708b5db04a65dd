//! What is emitted around a hand-written kernel: the functions that its text calls for an element that it reads or hands over.

use std::fmt::Write;

use super::{Emitted, Emitter, Index, Name, Refused, value_type};
use crate::dtype::DType;
use crate::kernel::Kernel;
use crate::plan::graph::{Graph, Work};
use crate::plan::units::{State, Unit};
use crate::shader::{Item, Text};

/// Emits what `unit` puts around `kernel`, one of the kernels of its node: the functions that its text calls.
pub fn around(graph: &Graph, state: &State, unit_id: usize, unit: &Unit, kernel: &Kernel) -> Result<Emitted, Refused> {
    Ok(functions_around(graph, state, unit_id, unit, kernel)?.finish())
}

/// [`around`] without the text: what it takes.
pub fn measure_around(
    graph: &Graph,
    state: &State,
    unit_id: usize,
    unit: &Unit,
    kernel: &Kernel,
) -> Result<Emitted, Refused> {
    Ok(functions_around(graph, state, unit_id, unit, kernel)?.out)
}

fn functions_around<'a>(
    graph: &'a Graph,
    state: &'a State<'a>,
    unit_id: usize,
    unit: &Unit,
    kernel: &Kernel,
) -> Result<Emitter<'a>, Refused> {
    let node = unit.kernel.ok_or(Refused)?;
    let mut members: Vec<usize> = unit.members.to_vec();
    members.sort_unstable();
    let mut emitter = Emitter::new(graph, state, unit_id, kernel.lanes);
    emitter.pairs = kernel.pairs;
    if kernel.prologue {
        emitter.lanes = kernel.lanes.max(kernel.prologue_lanes);
        emitter.prologue(node)?;
        if emitter.lanes != kernel.lanes {
            if !emitter.out.shader.helpers.is_empty() {
                return Err(Refused);
            }
            emitter.is_wider = true;
        }
        emitter.lanes = kernel.lanes;
    }
    let behind = |number: usize, result: usize| -> Vec<usize> {
        let tail = members.iter().filter(|node| !unit.prologue.contains(node));
        let own = tail.filter(|node| unit.behind.get(node).copied().unwrap_or(0) == number);
        own.chain([&result]).copied().filter(|&node| state.is_stored(graph, node)).collect()
    };
    if kernel.epilogue {
        emitter.epilogue(node, &behind(0, node))?;
    }
    for &number in &kernel.results {
        let results = std::iter::once(&node).chain(&unit.further);
        let result = *results.clone().nth(number).ok_or(Refused)?;
        emitter.result(number, result, &behind(number, result))?;
    }
    Ok(emitter)
}

impl Emitter<'_> {
    fn epilogue(&mut self, kernel: usize, stored: &[usize]) -> Result<(), Refused> {
        let meta = self.graph.nodes[kernel].meta;
        // A text that stores `OUT` stores a float of any width.
        let any_float = meta.dtype.is_float()
            && matches!(&self.graph.nodes[kernel].work, Work::Kernels { kernels, .. }
                if kernels.iter().all(|kernel| !kernel.epilogue || kernel.shader.stores_any_float()));
        let fits = |dtype: DType| dtype == meta.dtype || (any_float && dtype.is_float());
        let primary = if stored.contains(&kernel) || stored.is_empty() {
            kernel
        } else {
            *stored.iter().find(|&&node| fits(self.graph.nodes[node].meta.dtype)).ok_or(Refused)?
        };
        let wide = value_type(meta.dtype);
        let mut out = wide;
        if any_float {
            let kind = self.wide(self.float_type(self.graph.nodes[primary].meta.dtype));
            self.out.shader.items.push(Item::alias("OUT", kind));
            out = "$OUT$";
        }
        let (index, parameters) = self.parameters();
        let _ = writeln!(self.body, "fn $epilogue$(value: {wide}, {parameters}) -> {out} {{");
        let is_bool = meta.dtype == DType::Bool;
        let at = self.place();
        let mut result = self.own(kernel, &index);
        for &node in stored {
            if self.graph.nodes[node].meta.elements() != meta.elements() {
                return Err(Refused);
            }
            let value = self.value(node, &index)?;
            if node == primary {
                result = value;
            } else {
                self.store(node, &value, at);
            }
        }
        let _ = match (is_bool, any_float) {
            (true, _) => writeln!(self.body, "    return select($U$(0u), $U$(1u), {result});\n}}"),
            (_, true) => writeln!(self.body, "    return $OUT$({result});\n}}"),
            _ => writeln!(self.body, "    return {result};\n}}"),
        };
        self.function("epilogue");
        self.out.primary = Some(primary);
        Ok(())
    }

    /// The function that result `number` of a kernel, which is `node`, is handed to.
    fn result(&mut self, number: usize, node: usize, stored: &[usize]) -> Result<(), Refused> {
        let meta = self.graph.nodes[node].meta;
        let (index, parameters) = self.parameters();
        let _ = writeln!(self.body, "fn $result_{number}$(value: {}, {parameters}) {{", value_type(meta.dtype));
        if !stored.is_empty() {
            self.own(node, &index);
        }
        for &member in stored {
            if self.graph.nodes[member].meta.elements() != meta.elements() {
                return Err(Refused);
            }
            let value = self.value(member, &index)?;
            self.store(member, &value, self.place());
        }
        self.body.push_str("}\n");
        self.function(format!("result_{number}"));
        Ok(())
    }

    /// `value`, which a kernel hands over for `node`, as expressions take it: truth values instead of words, and rounded to
    /// half precision.
    fn own(&mut self, node: usize, index: &Index) -> Name {
        let own: Name = match self.graph.nodes[node].meta.dtype {
            DType::Bool => "(value != $U$(0u))".into(),
            DType::F16 => {
                let rounded = self.rounded("value");
                let _ = writeln!(self.body, "    let own = {rounded};");
                "own".into()
            }
            _ => "value".into(),
        };
        self.values.insert((node, index.clone()), own.clone());
        own
    }

    /// Where the elements that a function was handed are stored.
    fn place(&self) -> &'static str {
        match (self.pairs, self.lanes) {
            (true, _) => "((pair >> 2u) + half)",
            (_, 1) => "index",
            _ => "(index >> 2u)",
        }
    }

    fn prologue(&mut self, kernel: usize) -> Result<(), Refused> {
        let dtype = self.graph.nodes[self.graph.nodes[kernel].inputs[0]].meta.dtype;
        let (index, parameters) = self.parameters();
        let _ = writeln!(self.body, "fn $prologue$({parameters}) -> {} {{", value_type(dtype));
        let value = self.input(kernel, 0, &index)?;
        let _ = match dtype {
            DType::Bool => writeln!(self.body, "    return select($U$(0u), $U$(1u), {value});\n}}"),
            _ => writeln!(self.body, "    return {value};\n}}"),
        };
        self.function("prologue");
        Ok(())
    }

    /// Ends a function of this name.
    fn function(&mut self, name: impl Into<Text>) {
        let function = Item::new(name, self.finish_function());
        self.out.shader.items.push(function);
    }
}
