//! Targets that make a program of their bytes: it is planned and its kernels are valid; it runs to the reference's values.

mod grow;
mod kernels;
mod moves;
mod pointwise;

use std::cell::RefCell;
use std::collections::hash_map::DefaultHasher;
use std::collections::{HashMap, HashSet};
use std::hash::{Hash, Hasher};

use kiln::kernel::{Capabilities, MAX_ITERATIONS, MAX_WORKGROUPS};
use kiln::plan::{Plan, SlotKind};
use kiln::{Array, DType, Device, Error, Shape};

use grow::{Program, Recipe, grow};

/// Kinds of device that programs are planned for.
fn kinds() -> [Capabilities; 8] {
    let common = Capabilities::default();
    let half = Capabilities { f16: true, ..common.clone() };
    let discrete = Capabilities { subgroup: Some(32), storage_buffers: 16, ..half.clone() };
    let matrices = Capabilities { cooperative: Some(16), ..discrete.clone() };
    let software = Capabilities { software: true, ..common.clone() };
    let lanes = Capabilities { software: true, subgroup: Some(8), ..half.clone() };
    let pairs = Capabilities { pairs: true, ..lanes.clone() };
    let full = Capabilities { f16: false, ..pairs.clone() };
    [common, half, discrete, matrices, software, lanes, pairs, full]
}

/// Plans the program that the bytes make, for the kind of device that the first of them names, and has naga judge its
/// kernels. Returns how many values, refused ops and kernels it has.
///
/// # Panics
/// If it is not planned, or if a plan or a kernel breaks a rule.
pub fn planned(bytes: &[u8]) -> [u64; 3] {
    thread_local! {
        static KINDS: [Capabilities; 8] = kinds();
    }
    let (first, rest) = bytes.split_first().unwrap_or((&0, &[]));
    KINDS.with(|kinds| {
        let capabilities = &kinds[usize::from(first & 7)];
        let fusion = first & 8 == 0;
        let device = Device::cpu();
        let elements = if first >> 4 == 15 { 1 << 20 } else { 1 << 12 };
        let halves = capabilities.f16;
        let program = grow(&device, Recipe { bytes: rest, data: 1, noise: None, halves, wild: true, elements });
        let roots: Vec<_> = program.roots.iter().collect();
        let plan = device.plan_for(&roots, capabilities, fusion);
        let plan = plan.unwrap_or_else(|error| panic!("not planned, fusion {fusion}: {error}\n{}", listing(&program)));
        check(&plan, capabilities)
            .unwrap_or_else(|what| panic!("{what}, fusion {fusion}\n{}\n{plan}", listing(&program)));
        for dispatch in &plan.dispatches {
            validate(dispatch.source()).unwrap_or_else(|what| {
                panic!("{}: {what}\n{}\n{}", dispatch.name(), dispatch.source(), listing(&program))
            });
        }
        [program.text.len(), program.refused, plan.dispatches.len()].map(|count| count as u64)
    })
}

fn listing(program: &Program) -> String {
    program.text.join("\n")
}

/// The rules that drivers hold dispatches to.
fn check(plan: &Plan, capabilities: &Capabilities) -> Result<(), String> {
    /// What wgpu binds: a slot, or the shared buffer that it lies in.
    #[derive(PartialEq, Eq, Hash)]
    enum Buffer {
        Shared(usize),
        Own(usize),
    }
    for dispatch in &plan.dispatches {
        let wrong = |what: &str| Err(format!("{}: {what}", dispatch.name()));
        let [x, y] = dispatch.grid;
        if x == 0 || y == 0 || x > MAX_WORKGROUPS || y > MAX_WORKGROUPS || dispatch.iterations > MAX_ITERATIONS {
            return wrong("its grid or its loops are out of bounds");
        }
        if dispatch.bindings.len() > capabilities.storage_buffers {
            return wrong("it binds too many buffers");
        }
        let mut bound = HashMap::new();
        for &(binding, slot, writes) in &dispatch.bindings {
            let buffer = match plan.slots[slot].kind {
                SlotKind::Scratch(scratch) | SlotKind::Upload { scratch, .. } => Buffer::Shared(scratch),
                _ => Buffer::Own(slot),
            };
            if bound.insert(buffer, writes).is_some_and(|before| before || writes) {
                return wrong(&format!("binding {binding} is written, and bound twice"));
            }
        }
    }
    Ok(())
}

/// `Err` with naga's words unless a text is valid; a text that was valid is not looked at again.
fn validate(source: &str) -> Result<(), String> {
    thread_local! {
        static SEEN: RefCell<HashSet<u64>> = RefCell::default();
    }
    let mut hasher = DefaultHasher::new();
    source.hash(&mut hasher);
    let hash = hasher.finish();
    if SEEN.with_borrow(|seen| seen.contains(&hash)) {
        return Ok(());
    }
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let capabilities = naga::valid::Capabilities::SHADER_FLOAT16
        | naga::valid::Capabilities::SUBGROUP
        | naga::valid::Capabilities::SHADER_INT64
        | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | naga::valid::Capabilities::COOPERATIVE_MATRIX;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator.validate(&module).map_err(|error| format!("{error:?}"))?;
    SEEN.with_borrow_mut(|seen| seen.insert(hash));
    Ok(())
}

/// A driver, once with fused kernels and once without.
pub struct Drivers {
    fused: Device,
    unfused: Device,
    /// Elements compared; those of them that only disturbed references explain; those that nothing can be said about.
    pub counts: [u64; 3],
}

impl Drivers {
    /// The driver that `name` names.
    ///
    /// # Errors
    /// As [`Device::named`].
    pub fn new(name: &str) -> kiln::Result<Drivers> {
        let (fused, unfused) = (Device::named(name)?, Device::named(name)?);
        unfused.set_fusion(false);
        Ok(Drivers { fused, unfused, counts: [0; 3] })
    }

    /// Runs the program that the bytes make: fused, unfused, from the cached plan with other data, and from it again over
    /// poisoned buffers.
    ///
    /// # Panics
    /// If it does not run, or gives other values than the reference.
    pub fn ran(&mut self, bytes: &[u8]) {
        let bit = |bit: u8| bytes.first().is_some_and(|first| first >> bit & 1 == 1);
        let (halves, wild) = (bit(0), bit(1));
        let recipe =
            Recipe { bytes: bytes.get(1..).unwrap_or_default(), data: 1, noise: None, halves, wild, elements: 1 << 12 };
        let other = Recipe { data: 2, ..recipe };
        let first = self.judge("fused", &self.fused.clone(), recipe);
        self.judge("unfused", &self.unfused.clone(), recipe);
        let plans = self.fused.statistics().plans_made;
        self.judge("cached", &self.fused.clone(), other);
        if self.fused.statistics().plans_made != plans {
            let program = grow(&self.fused, other);
            panic!("planned again for other data\n{}", listing(&program));
        }
        self.fused.poison_buffers().expect("poisoned");
        let (program, again) = run(&self.fused, recipe);
        let bits =
            |arrays: &[Array]| -> Vec<u64> { arrays.iter().flat_map(|a| &a.data).map(|x| x.to_bits()).collect() };
        assert!(bits(&first) == bits(&again), "a second run gives other bits\n{}", listing(&program));
        // What nobody needs any more does not have to stay.
        self.fused.forget_plans();
        self.unfused.forget_plans();
    }

    /// Runs a program and holds it to the reference.
    fn judge(&mut self, how: &str, device: &Device, recipe: Recipe<'_>) -> Vec<Array> {
        let (program, got) = run(device, recipe);
        let (same, want) = run(&Device::cpu(), recipe);
        assert_eq!(got.len(), want.len(), "{}\n\n{}", listing(&program), listing(&same));
        let wanted: Vec<Shape> = want.iter().map(|array| array.shape).collect();
        let mut noisy = vec![];
        for (number, (got, want)) in got.iter().zip(&want).enumerate() {
            assert_eq!((&got.shape, got.dtype), (&want.shape, want.dtype), "root {number}\n{}", listing(&program));
            self.counts[0] += got.data.len() as u64;
            if near(got, want, None).is_none() {
                continue;
            }
            for seed in noisy.len() as u64..NOISY {
                let (disturbed, arrays) = run(&Device::cpu(), Recipe { noise: Some(seed), ..recipe });
                let is_same =
                    arrays.len() == wanted.len() && arrays.iter().zip(&wanted).all(|(a, shape)| a.shape == *shape);
                assert!(is_same, "noise makes another program of\n{}\n\n{}", listing(&program), listing(&disturbed));
                noisy.push(arrays);
            }
            let (explained, lost) = explain(got, want, number, &noisy).unwrap_or_else(|what| {
                panic!("{how}, root {number}: {what}\n{}", listing(&program));
            });
            self.counts[1] += explained;
            self.counts[2] += lost;
        }
        got
    }
}

/// Disturbed references.
const NOISY: u64 = 12;

fn run(device: &Device, recipe: Recipe<'_>) -> (Program, Vec<Array>) {
    let program = grow(device, recipe);
    let roots: Vec<_> = program.roots.iter().collect();
    let read = || -> Result<Vec<Array>, Error> {
        if let Some(early) = &program.early {
            early.to_array()?;
        }
        device.eval(&roots)?;
        roots.iter().map(|root| root.to_array()).collect()
    };
    let arrays = read().unwrap_or_else(|error| panic!("not run on {}: {error}\n{}", device.name(), listing(&program)));
    (program, arrays)
}

/// The first element that differs by more than rounding, given by how much the disturbed references move each.
fn near(got: &Array, want: &Array, spread: Option<&[f64]>) -> Option<usize> {
    let largest = want.data.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    let (relative, absolute) = match want.dtype {
        DType::F32 => (4e-6, 1e-6 * largest),
        DType::F16 => (2f64.powi(-10), 2f64.powi(-12) * largest + 2f64.powi(-24)),
        _ => (0.0, 0.0),
    };
    (0..want.data.len()).find(|&i| {
        let (g, w) = (got.data[i], want.data[i]);
        let same = g == w || g == f64::from(w as f32) || (g.is_nan() && w.is_nan());
        let bound = relative * w.abs() + absolute + spread.map_or(0.0, |spread| 6.0 * spread[i]);
        !same && ((g - w).abs() > bound || (g - w).is_nan())
    })
}

/// Elements that the disturbed references explain, and those for which they allow anything.
fn explain(got: &Array, want: &Array, number: usize, noisy: &[Vec<Array>]) -> Result<(u64, u64), String> {
    let spread: Vec<f64> = (0..want.data.len())
        .map(|i| {
            let away = |run: &Vec<Array>| {
                let away = (run[number].data[i] - want.data[i]).abs();
                if away.is_nan() { f64::INFINITY } else { away }
            };
            noisy.iter().map(away).fold(0.0, f64::max)
        })
        .collect();
    if let Some(i) = near(got, want, Some(&spread)) {
        let (g, w, s) = (got.data[i], want.data[i], spread[i]);
        return Err(format!("element {i} of {} {}: {g:e} instead of {w:e}, spread {s:e}", want.shape, want.dtype));
    }
    let largest = want.data.iter().filter(|x| x.is_finite()).fold(0.0f64, |most, x| most.max(x.abs()));
    let lost = spread.iter().filter(|&&spread| spread > 0.01 * largest).count() as u64;
    Ok((want.data.len() as u64, lost))
}
