//! Random programs through the emitter: shapes, strides and dtypes that no op's cases think of.
//!
//! `KILN_PROGRAMS=20000 cargo test --profile checks --test emitter` tries more of them.

mod common;

use std::collections::HashSet;

use common::programs::{Options, Program, program};
use kiln::Array;
use kiln::kernel::Capabilities;
use kiln::prelude::*;
use kiln::rng::Philox;

/// `usual`, or as many as `KILN_PROGRAMS` says.
fn programs(usual: u64) -> std::ops::Range<u64> {
    let wanted = std::env::var("KILN_PROGRAMS").ok().map(|number| number.parse().expect("a number of programs"));
    0..wanted.unwrap_or(usual)
}

/// `Err` unless `source` is valid WGSL.
fn valid(source: &str) -> Result<(), String> {
    let module = naga::front::wgsl::parse_str(source).map_err(|error| error.emit_to_string(source))?;
    let capabilities = naga::valid::Capabilities::SHADER_FLOAT16
        | naga::valid::Capabilities::SUBGROUP
        | naga::valid::Capabilities::SHADER_INT64
        | naga::valid::Capabilities::SHADER_FLOAT16_IN_FLOAT32
        | naga::valid::Capabilities::COOPERATIVE_MATRIX;
    let mut validator = naga::valid::Validator::new(naga::valid::ValidationFlags::all(), capabilities);
    validator.validate(&module).map(drop).map_err(|error| format!("{error:?}"))
}

/// Kinds of device that differ in how texts are emitted.
fn kinds() -> Vec<Capabilities> {
    let common = Capabilities::default();
    let half = Capabilities { f16: true, ..common.clone() };
    let discrete = Capabilities { subgroup: Some(32), storage_buffers: 16, ..half.clone() };
    let software = Capabilities { software: true, ..common.clone() };
    let lanes = Capabilities { software: true, subgroup: Some(8), ..half.clone() };
    let pairs = Capabilities { pairs: true, ..lanes.clone() };
    let pairs_full = Capabilities { f16: false, ..pairs.clone() };
    vec![common, half, discrete, software, lanes, pairs, pairs_full]
}

/// Holds every text of these results' plans to the validator.
fn plans_are_valid(device: &Device, results: &[Tensor], seen: &mut HashSet<std::sync::Arc<str>>) -> Result<(), String> {
    let roots: Vec<&Tensor> = results.iter().collect();
    for capabilities in kinds() {
        for fusion in [true, false] {
            let plan = device.plan_for(&roots, &capabilities, fusion).map_err(|error| error.to_string())?;
            for dispatch in plan.dispatches {
                if !seen.contains(dispatch.source()) {
                    valid(dispatch.source()).map_err(|error| {
                        format!(
                            "{} with fusion {fusion}, {capabilities:?}: {error}\n{}",
                            dispatch.name(),
                            dispatch.source()
                        )
                    })?;
                    seen.insert(dispatch.source().clone());
                }
            }
        }
    }
    Ok(())
}

/// The name of the 32nd value of a kernel, an index, was `i32`, which hid the type from all behind it.
#[test]
fn the_place_of_an_element_has_no_name_of_a_type() {
    let (cpu, mut seen) = (Device::cpu(), HashSet::new());
    for before in 0..70 {
        let x = cpu.tensor(&[1i32, 2, 3, 4, 5, 6, 7, 8, 9], &[3, 3]);
        let sum = (0..before).fold(x.clone(), |sum, _| sum + 1) + x.transpose(0, 1);
        plans_are_valid(&cpu, &[sum.gt(12)], &mut seen).unwrap_or_else(|what| panic!("{before} ops before: {what}"));
    }
}

#[test]
fn every_text_of_random_programs_is_valid() {
    let (cpu, mut seen) = (Device::cpu(), HashSet::new());
    for seed in programs(600) {
        // Rows of pairs are long.
        let elements = if seed % 16 == 0 { 1 << 20 } else { 1 << 12 };
        let options = Options { steps: 12, elements, exact: false, full: false };
        let options =
            Options { exact: seed % 2 == 1, elements: if seed % 2 == 1 { 1 << 10 } else { elements }, ..options };
        let program = program(&mut Philox::new(seed, 1), &options);
        let (inputs, mut results) = program.record(&cpu, &program.arrays());
        let gradients = program.gradients(&inputs, &results);
        results.extend(gradients.unwrap_or_else(|error| panic!("program {seed}: {error}\n{program:?}")));
        plans_are_valid(&cpu, &results, &mut seen)
            .unwrap_or_else(|error| panic!("program {seed}: {error}\n{program:?}"));
    }
    assert!(seen.len() > 1000, "only {} texts", seen.len());
}

/// `Err` unless `device` gives what the reference does, at first and from a cached plan in poisoned buffers.
fn agrees(device: &Device, program: &Program) -> Result<(), String> {
    let text = |error: kiln::Error| error.to_string();
    let arrays = program.arrays();
    let run = |device: &Device| -> Result<Vec<Array>, String> {
        let (_, results) = program.record(device, &arrays);
        device.eval(&results.iter().collect::<Vec<_>>()).map_err(text)?;
        results.iter().map(|result| result.to_array().map_err(text)).collect()
    };
    let want = run(&Device::cpu())?;
    for turn in ["at first", "from the cached plan"] {
        for (k, (got, want)) in run(device)?.iter().zip(&want).enumerate() {
            let close = |(got, want): (&f64, &f64)| match program.exact {
                true => got == want,
                // A chain of twelve steps whose slopes are small.
                false => (got - want).abs() <= 1e-4 * want.abs().max(1.0),
            };
            if let Some(i) = got.data.iter().zip(&want.data).position(|pair| !close(pair)) {
                let (got, want) = (got.data[i], want.data[i]);
                return Err(format!("{turn}, result {k}, element {i}: {got:e} instead of {want:e}"));
            }
        }
        device.poison_buffers().map_err(text)?;
    }
    Ok(())
}

fn programs_agree(device: &Device, seeds: std::ops::Range<u64>) {
    for seed in seeds {
        let exact = seed % 3 > 0;
        let options = Options { steps: 10, elements: 1 << 10, exact, full: !exact };
        let program = program(&mut Philox::new(seed, 2), &options);
        agrees(device, &program).unwrap_or_else(|error| panic!("program {seed}: {error}\n{program:?}"));
    }
}

#[test]
fn random_programs_on_vulkan_agree_with_the_reference() {
    programs_agree(&common::backend("vulkan"), programs(60));
}

#[test]
fn random_programs_without_fusion_agree_with_the_reference() {
    let device = common::backend("vulkan");
    device.set_fusion(false);
    programs_agree(&device, programs(20));
}

/// What was WGSL that no driver takes: f16 stretched along a last axis that divides by four.
#[test]
fn half_precision_is_stretched_along_an_axis_of_fours() {
    for device in [Device::cpu(), common::backend("vulkan")] {
        let rows = device.arange(12, DType::F32).reshape(&[3, 4]).cast(DType::F16);
        let column = device.tensor(&[100.0f32, 200.0, 300.0], &[3, 1]).cast(DType::F16);
        let want: Vec<f64> = (0..12).map(|i| f64::from(i) + 100.0 * f64::from(i / 4 + 1)).collect();
        assert_eq!((&rows + &column).to_array().unwrap().data, want);
        let gated = kiln::with_precision(Precision::Mixed, || &rows * rows.slice(1, 0, 1).sigmoid());
        let gate = |x: f64| DType::F16.round(1.0 / (1.0 + (-x).exp()));
        for (i, got) in gated.to_array().unwrap().data.into_iter().enumerate() {
            let want = DType::F16.round(i as f64 * gate((i / 4 * 4) as f64));
            // A rounding to 11 bits that falls the other way.
            assert!((got - want).abs() <= want / 1024.0, "{i}: {got} {want}");
        }
    }
}
