//! From a snapshot of recorded nodes to a list of dispatches, stage by stage: [`build`] is the table of them.
//!
//! Everything here is plain data and pure functions; the `gpu` module turns a [`Plan`] into driver objects.

mod bind;
mod choose;
mod contract;
mod emit;
mod fuse;
mod graph;
mod merge;
mod number;
mod order;
mod place;
mod prelude;
mod report;
mod simplify;
mod units;

pub use graph::{Destination, Request};
pub(crate) use prelude::complete;

pub use crate::dispatch::{ArenaRef, Dispatch, Name, Numbers, OPERAND_WORDS, Open, Plan, Rival, Slot, SlotKind};
pub use crate::layout::Strided;
pub use crate::shader::Program;
pub use crate::target::{Choice, Choices, Target};

use crate::error::{Error, Result};
use graph::{Alone, Graph, OpenClass};
use units::State;

/// Plans a request. A stage is a function from data to data in the file of its name.
///
/// # Errors
/// [`Error::Limit`] where a tensor or grid passes the adapter's limits, [`Error::Internal`] for a broken rule.
pub fn build(request: &Request<'_>) -> Result<Plan> {
    // Each op by the variant that `choose` takes.
    let mut graph = simplify::simplify(request)?;
    let open = std::mem::take(&mut graph.open);
    let mut plan = stages(graph, request.fusion, request.scalars)?;
    for OpenClass { class, rivals } in open {
        let planned = |Alone { choice, graph, inputs, results }| {
            Ok(Rival { choice, plan: stages(graph, true, 0)?, inputs, results })
        };
        plan.open.push(Open { class, rivals: rivals.into_iter().map(planned).collect::<Result<_>>()? });
    }
    check_bindings(&plan, request.target.capabilities.binding_bytes)?;
    Ok(plan)
}

/// The stages behind the first.
fn stages(graph: Graph, fusion: bool, scalars: usize) -> Result<Plan> {
    let units = fuse::fuse(&graph, fusion, graph.capabilities.storage_buffers);
    let live = graph.live();
    let state = State { unit_of: &units.unit_of, inlined: &units.inlined, live: &live };
    let order = order::order(&graph, &units, &state)?;
    // With what `emit` writes around each kernel.
    let bind::Bound { mut plan, waits } = bind::bind(&graph, &units, &state, &order)?;
    if fusion {
        merge::merge(&mut plan, &waits, &graph.capabilities);
    }
    number::number(&mut plan, scalars)?;
    place::place(&mut plan);
    (plan.variants, plan.choices) = (graph.variants, graph.choices);
    Ok(plan)
}

/// `Err` if a buffer that is not an arena's, whose store saw to that, is longer than an adapter binds.
fn check_bindings(plan: &Plan, limit: u64) -> Result<()> {
    let arena = |slot: &Slot| matches!(slot.kind, SlotKind::Arena(..));
    let Some(slot) = plan.slots.iter().find(|slot| !arena(slot) && slot.bytes > limit) else { return Ok(()) };
    Err(Error::Limit {
        what: match slot.shape {
            Some(shape) => format!("a tensor of shape {shape} ({})", slot.name),
            None => format!("scratch memory of {}", slot.name),
        },
        bytes: slot.bytes,
        limit,
        device: "this device".into(),
        next: "use a smaller batch, or split the tensor",
    })
}
