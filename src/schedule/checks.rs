//! Settings that cannot be used: what is wrong with them, where they were given, and what to give instead.

use std::panic::Location;

use crate::error::Problem;

fn wrong(holds: bool, what: impl FnOnce() -> String, next: &'static str) -> Option<Problem> {
    (!holds).then(|| Problem::Value(what(), next))
}

/// Unless `value` is finite and not negative.
pub(super) fn not_negative(name: &str, value: f64) -> Option<Problem> {
    let holds = value.is_finite() && value >= 0.0;
    wrong(holds, || format!("{name} is {value}"), "pass a finite number that is not negative")
}

/// Unless `value` is finite and above 0.
pub(super) fn positive(name: &str, value: f64) -> Option<Problem> {
    wrong(value.is_finite() && value > 0.0, || format!("{name} is {value}"), "pass a finite number above 0")
}

/// Unless `value` is in [0, 1).
pub(super) fn share(name: &str, value: f64) -> Option<Problem> {
    wrong((0.0..1.0).contains(&value), || format!("{name} is {value}"), "pass a number from 0 to below 1")
}

/// Unless `value` is from `low` to `high`.
pub(super) fn within(name: &str, value: f64, low: f64, high: f64, next: &'static str) -> Option<Problem> {
    wrong((low..=high).contains(&value), || format!("{name} is {value}"), next)
}

/// Unless there are any.
pub(super) fn some(name: &str, count: u64) -> Option<Problem> {
    wrong(count > 0, || format!("{name} is 0"), "pass 1 or more")
}

/// Unless there are at most `most`.
pub(super) fn at_most(name: &str, count: u64, most: u64, next: &'static str) -> Option<Problem> {
    wrong(count <= most, || format!("{name} is {count}, where at most {most} are possible"), next)
}

/// Unless `steps` rise, or stay, from each to the next.
pub(super) fn sorted(name: &str, steps: &[u64]) -> Option<Problem> {
    let pair = steps.windows(2).find(|pair| pair[0] > pair[1]);
    let what = |pair: &[u64]| Problem::Value(format!("{name} go from {} back to {}", pair[0], pair[1]), "sort them");
    pair.map(what)
}

/// Unless there is one rate more than there are boundaries.
pub(super) fn one_more(boundaries: usize, rates: usize) -> Option<Problem> {
    let what = || format!("{rates} rates for {boundaries} boundaries");
    wrong(rates == boundaries + 1, what, "pass one rate more than boundaries")
}

/// The first problem, with the function that was called and the source line of the call.
pub(super) fn first(
    checks: impl IntoIterator<Item = Option<Problem>>,
    function: &str,
    at: &Location<'_>,
) -> Option<Problem> {
    match checks.into_iter().flatten().next()? {
        Problem::Value(what, next) => Some(Problem::Value(format!("{what} in {function} at {at}"), next)),
        other => Some(other),
    }
}
