//! The ways to compute an op. An op lists its variants once, as data; its lowering hands those that may run to the planner,
//! which takes one (`plan/choose.rs`): the default, what a test forces, what was measured to be the fastest, or, where a
//! driver fails at one, the next.

use std::sync::Arc;

use crate::kernel::Capabilities;
use crate::op::{Candidate, Lowering};

/// How early a variant is taken among those that may run. The first of all is the default; those of one rank come in
/// the order of their list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Made for this class of shapes.
    First,
    /// Before the usual.
    Good,
    /// Where nothing speaks for or against it.
    Usual,
    /// After the usual.
    Late,
    /// What others are expected to beat.
    Last,
}

/// One way to compute an op whose sizes and operands are an `S`.
pub struct Variant<S, T = Lowering> {
    /// Name, which its kernels bear: `op.variant`.
    pub name: &'static str,
    /// Where it may run, and how early it is taken there; `None` elsewhere. It should not look at the batch: another batch
    /// size had better find its kernels made.
    pub needs: fn(&S, &Capabilities) -> Option<Rank>,
    /// What it makes, kernels of the name it is given.
    pub make: fn(&S, &'static str, &Capabilities) -> T,
}

/// The variants of a list that may run at `site`, the default first; of a list of which none says so, the last.
fn ranked<S, T>(list: &'static [Variant<S, T>], site: &S, capabilities: &Capabilities) -> Vec<&'static Variant<S, T>> {
    let rank = |variant: &'static Variant<S, T>| Some(((variant.needs)(site, capabilities)?, variant));
    let mut ranked: Vec<_> = list.iter().filter_map(rank).collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    match ranked.is_empty() {
        true => list.last().into_iter().collect(),
        false => ranked.into_iter().map(|(_, variant)| variant).collect(),
    }
}

/// The lowering of an op by one of the variants that may run at `site`; `finish` says what becomes of what they make.
pub(crate) fn one_of<S: Send + Sync + 'static, T: 'static>(
    list: &'static [Variant<S, T>],
    site: S,
    capabilities: &Capabilities,
    finish: fn(&S, T) -> Lowering,
) -> Lowering {
    let common = Arc::new((site, capabilities.clone()));
    let candidate = |variant: &'static Variant<S, T>| {
        let common = common.clone();
        Candidate::new(variant.name, move || {
            let (site, capabilities) = &*common;
            finish(site, (variant.make)(site, variant.name, capabilities))
        })
    };
    Lowering::Variants(ranked(list, &common.0, capabilities).into_iter().map(candidate).collect())
}

/// What the default of a list, which is not empty, makes of `site`, for an op that uses another one's kernels under a `name` of
/// its own.
pub(crate) fn default_of<S, T>(
    list: &'static [Variant<S, T>],
    site: &S,
    name: &'static str,
    capabilities: &Capabilities,
) -> T {
    (ranked(list, site, capabilities)[0].make)(site, name, capabilities)
}

/// The names of a list.
pub(crate) fn names<S, T>(list: &[Variant<S, T>]) -> Vec<&'static str> {
    list.iter().map(|variant| variant.name).collect()
}
