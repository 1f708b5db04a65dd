//! Where the host numbers of a run are. A kernel binds a window of them, as large as every adapter binds as a uniform; a
//! run that carries more has several, and each dispatch finds those that it reads in one.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::dispatch::{Dispatch, OPERAND_WORDS, Plan};
use crate::error::{Error, Result};

/// Words that a window's start is a multiple of: 256 bytes, the coarsest binding offset of any adapter.
const ALIGNMENT: usize = 64;

/// True if the host numbers of these dispatches fit one window.
pub fn fit<'a>(dispatches: impl Iterator<Item = &'a Dispatch> + Clone) -> bool {
    let most = OPERAND_WORDS / 4;
    let words = |dispatch: &'a Dispatch| dispatch.numbers.places.iter().map(|&place| dispatch.fusion[place] / 4);
    dispatches.clone().map(|dispatch| dispatch.numbers.places.len()).sum::<usize>() <= most
        || dispatches.flat_map(words).collect::<FxHashSet<_>>().len() <= most
}

/// Counts the host numbers of `plan` and, behind them, the `scalars` of its update, and divides them into windows if one does
/// not hold them.
///
/// # Errors
/// [`Error::Limit`] if one window does not hold those of the update.
pub fn number(plan: &mut Plan, scalars: usize) -> Result<()> {
    plan.operand_words = plan.scalars + scalars;
    if scalars > OPERAND_WORDS {
        return Err(Error::Limit {
            what: "factors of all groups of parameters".into(),
            bytes: scalars as u64 * 4,
            limit: OPERAND_WORDS as u64 * 4,
            device: "this device".into(),
            next: "use fewer groups, or several optimizers",
        });
    }
    if plan.operand_words > OPERAND_WORDS {
        divide(plan, scalars);
    }
    Ok(())
}

fn divide(plan: &mut Plan, scalars: usize) {
    let leaves: Vec<usize> = plan.operands.iter().map(|&(leaf, _)| leaf).collect();
    let (mut start, mut used) = (0, 0);
    // Word in the window of each number, by its place in the list.
    let mut known: FxHashMap<usize, usize> = FxHashMap::default();
    plan.operands.clear();
    for dispatch in plan.dispatches.iter_mut().filter(|dispatch| dispatch.operands) {
        let words = if dispatch.fusion.is_empty() { &mut dispatch.params } else { &mut dispatch.fusion };
        let wanted: Vec<usize> = dispatch.numbers.places.iter().map(|&place| words[place] as usize).collect();
        let new: FxHashSet<usize> =
            wanted.iter().map(|word| word / 4).filter(|number| !known.contains_key(number)).collect();
        if used + 4 * new.len() > OPERAND_WORDS {
            start = (start + used).next_multiple_of(ALIGNMENT);
            used = 0;
            known.clear();
        }
        for (&place, word) in dispatch.numbers.places.iter().zip(wanted) {
            let first = *known.entry(word / 4).or_insert_with(|| {
                plan.operands.push((leaves[word / 4], start + used));
                used += 4;
                used - 4
            });
            words[place] = (first + word % 4) as u32;
        }
        dispatch.numbers.window = start;
    }
    plan.scalars = (start + used).next_multiple_of(ALIGNMENT);
    plan.scalar_window = plan.scalars;
    plan.operand_words = plan.scalars + scalars;
}
