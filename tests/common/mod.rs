//! What several test files share: devices that must be there, and the comparison of a GPU with the f64 reference.
#![allow(dead_code)]

pub mod choose;
pub mod net;
#[path = "../../examples/common/parity.rs"]
pub mod parity;
pub mod programs;
pub mod rules;

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};

use kiln::kernel::Capabilities;
use kiln::ops::Case;
use kiln::plan::{Choices, Dispatch, Plan, Target};
use kiln::{DType, Device, Tensor};

#[allow(unused_imports)]
pub use parity::{Expected, absolute, compare, cotangents, draw, floats, inputs, normals, parity, run};

/// The device that `KILN_DEVICE` names, or the best GPU; one for all tests of a process.
///
/// # Panics
/// As [`own_gpu`].
pub fn gpu() -> Device {
    static GPU: OnceLock<Device> = OnceLock::new();
    GPU.get_or_init(own_gpu).clone()
}

/// That of [`gpu`], opened once more.
///
/// # Panics
/// If there is no GPU driver: a test of kernels that runs without one proves nothing.
pub fn own_gpu() -> Device {
    let device = Device::best().expect("a device");
    assert!(!device.is_cpu(), "this test needs a GPU driver; `make test` installs a software one");
    device
}

/// A device of back end `name` (`vulkan` or `gl`).
///
/// # Panics
/// If there is none.
pub fn backend(name: &str) -> Device {
    Device::named(name).unwrap_or_else(|error| panic!("this test needs a {name} driver: {error}"))
}

/// A target of plans that takes these variants where ops list them.
pub fn forcing(capabilities: &Capabilities, variants: &[&'static str]) -> Target {
    let choices = Choices { forced: variants.to_vec(), ..Choices::default() };
    Target { capabilities: capabilities.clone(), choices }
}

/// The variants that ops may take in what `plan` plans for a device with `capabilities`, by the ops' own lists: what is taken, and
/// what would be measured beside it.
pub fn variants(
    capabilities: &Capabilities,
    plan: impl FnOnce(&Target) -> Result<Plan, kiln::Error>,
) -> Result<BTreeSet<&'static str>, String> {
    let choices = Choices { measure: true, ..Choices::default() };
    let target = Target { capabilities: capabilities.clone(), choices };
    let plan = plan(&target).map_err(|error| error.to_string())?;
    let taken = plan.dispatches.iter().flat_map(kernel_names);
    let rivals = plan.open.iter().flat_map(|open| open.rivals.iter().map(|rival| rival.choice.variant.as_str()));
    let named: BTreeSet<&str> = taken.chain(rivals).collect();
    Ok(kiln::ops::all_variants().into_iter().filter(|name| named.contains(name)).collect())
}

/// Names of the kernels that became a dispatch, without the number of ops fused into them.
pub fn kernel_names(dispatch: &Dispatch) -> impl Iterator<Item = &str> {
    dispatch.names.iter().map(|name| name.kernel.as_ref())
}

/// A case and its gradients, recorded on the reference: drawn once, planned for as many targets as one likes. Nothing is run.
pub struct Recorded(Vec<Tensor>, Device);

impl Recorded {
    pub fn new(cpu: &Device, case: &Case) -> Result<Recorded, String> {
        let tensors: Vec<Tensor> = inputs(case)
            .iter()
            .map(|array| match array.dtype {
                DType::F32 if case.differentiable => cpu.array(array).variable(),
                _ => cpu.array(array),
            })
            .collect();
        let mut roots = (case.build)(&tensors).results();
        if case.differentiable {
            let wrt: Vec<&Tensor> = tensors.iter().filter(|tensor| tensor.requires_grad()).collect();
            let squares = floats(&roots).map(|result| result.square().sum_all());
            let loss = squares.reduce(|sum, square| sum + square).expect("a float result");
            roots.extend(loss.gradients(&wrt).map_err(|error| error.to_string())?);
        }
        Ok(Recorded(roots, cpu.clone()))
    }

    /// Its plan for `target`, with fusion or without.
    pub fn plan(&self, target: &Target, fusion: bool) -> Result<Plan, kiln::Error> {
        self.1.plan_with(&self.0.iter().collect::<Vec<_>>(), target, fusion)
    }

    /// The kernels that it takes, fused and not.
    pub fn kernels(&self, target: &Target) -> Result<Vec<Dispatch>, String> {
        let plans = [true, false].map(|fusion| self.plan(target, fusion));
        let mut all = vec![];
        for plan in plans {
            all.extend(plan.map_err(|error| error.to_string())?.dispatches);
        }
        Ok(all)
    }
}

/// `Err` unless a case on `device` agrees with the reference, and gives the same bits twice, with every buffer filled with NaN in
/// between.
pub fn agrees(device: &Device, case: &Case, expected: &Expected) -> Result<(), String> {
    if expected.compare(device, case)? { Ok(()) } else { Err("two runs differ".into()) }
}

/// What the reference makes of a case: computed once, whatever devices are held to it.
pub fn expected(case: &Case) -> Result<Expected, String> {
    Expected::of(case).map_err(|error| error.to_string())
}

/// Runs `check` on every case that `KILN_CASE` chooses (all if unset) and panics with all failures.
pub fn every_case(mut check: impl FnMut(&Case) -> Result<(), String>) {
    let cases = choose::chosen(kiln::ops::all_cases(), |case| &case.name);
    let failures = cases.iter().filter_map(|case| failure(case, check(case))).collect();
    none(failures, cases.len());
}

/// [`every_case`] on a thread for each core: `start` makes what a thread works with, `check` is told a case's number, too.
pub fn every_case_shared<S>(
    start: impl Fn() -> S + Sync,
    check: impl Fn(&S, usize, &Case) -> Result<(), String> + Sync,
) {
    let cases = choose::chosen(kiln::ops::all_cases(), |case| &case.name);
    let failures = shared(&cases, start, |own, number, case| failure(case, check(own, number, case)));
    none(failures, cases.len());
}

/// What `check` finds in cases, on a thread for each core. Most of the time of a case is that of the driver's compiler, which takes one
/// thread for a device: `start` makes a device for each.
pub fn shared<C: Sync, S>(
    cases: &[C],
    start: impl Fn() -> S + Sync,
    check: impl Fn(&S, usize, &C) -> Option<String> + Sync,
) -> Vec<String> {
    let (next, failures) = (AtomicUsize::new(0), Mutex::new(vec![]));
    let threads = std::thread::available_parallelism().map_or(1, |count| count.get().min(4));
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let own = start();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(case) = cases.get(number) else { break };
                    failures.lock().unwrap().extend(check(&own, number, case));
                }
            });
        }
    });
    failures.into_inner().unwrap()
}

fn failure(case: &Case, result: Result<(), String>) -> Option<String> {
    result.err().map(|error| format!("{}: {error}", case.name))
}

/// Panics with the failures, if there are any.
fn none(failures: Vec<String>, cases: usize) {
    assert!(failures.is_empty(), "{} of {cases} cases failed:\n{}", failures.len(), failures.join("\n"));
}
