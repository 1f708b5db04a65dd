//! Every case of every op, forward and gradient, on a GPU against the f64 reference.
//!
//! `KILN_CASE=softmax cargo test --profile checks --test parity` runs the cases with the word in their name, whatever its case.

mod common;

use std::collections::BTreeSet;
use std::sync::Mutex;

use kiln::kernel::Capabilities;
use kiln::prelude::*;

#[test]
fn a_case_is_found_by_any_part_of_its_name_and_an_unknown_one_lists_the_names() {
    let found = |word: &str| common::choose::choose(word, vec!["Softmax/5x7", "BatchNorm/3", "MatMul/64"], |name| name);
    assert_eq!(found("softmax").unwrap(), ["Softmax/5x7"]);
    assert_eq!(found("batch_norm").unwrap(), ["BatchNorm/3"]);
    assert_eq!(found("matmul/6").unwrap(), ["MatMul/64"]);
    assert_eq!(found("").unwrap().len(), 3);
    let error = found("softmin").unwrap_err();
    assert_eq!(error, "KILN_CASE=softmin is in no case's name; they begin with BatchNorm, MatMul, Softmax");
}

#[test]
fn every_case_on_vulkan_agrees_with_the_reference() {
    let device = common::backend("vulkan");
    common::every_case(|case| common::parity(&device, case));
    // A kernel that the driver refuses is replaced, and what takes its place was compared. On Mesa's driver none is.
    let warnings = device.warnings();
    assert!(warnings.is_empty() || !device.name().contains("llvmpipe"), "the device found a way around: {warnings:?}");
}

#[test]
fn every_case_on_gl_agrees_with_the_reference() {
    let device = common::backend("gl");
    common::every_case(|case| common::parity(&device, case));
}

#[test]
fn every_case_without_fusion_agrees_with_the_reference() {
    let device = common::backend("vulkan");
    device.set_fusion(false);
    common::every_case(|case| common::parity(&device, case));
}

#[test]
fn every_variant_agrees_with_the_reference_wherever_it_may_run() {
    let used = [true, false].map(every_variant).concat();
    let unused: Vec<&str> = kiln::ops::all_variants().into_iter().filter(|name| !used.contains(name)).collect();
    // Matrix units have a test of their own.
    assert!(unused == ["matmul.cooperative"] || std::env::var_os("KILN_CASE").is_some(), "no case uses {unused:?}");
}

/// Every variant that a software driver, or a GPU, may be given, in every case; returns the names of those that some case uses.
fn every_variant(software: bool) -> Vec<&'static str> {
    // Software kernels are those of a driver with subgroups of 8 and 64-bit integers, which lavapipe has.
    let subgroup = software.then_some(8);
    let as_if = Capabilities { software, subgroup, pairs: software, ..Capabilities::default() };
    let used = Mutex::new(BTreeSet::new());
    // Most of the time is that of the driver's compiler, which takes one thread for a device.
    let device = || {
        let device = Device::named_as_if("vulkan", |capabilities| capabilities.software = software);
        (device.expect("a Vulkan driver"), Device::cpu())
    };
    common::every_case_shared(device, |(device, cpu), number, case| {
        for name in common::variants(&as_if, |target| common::plan_case(cpu, case, target, true))? {
            // Blocks of different sides differ in constants only: each case takes one of the three.
            let side = ["128", "64", "32"].iter().position(|side| name.ends_with(side));
            if side.is_some_and(|side| (number + side + 1) % 3 != 0) {
                continue;
            }
            device.force_variants(&[name]);
            common::parity(device, case).map_err(|error| format!("{name}: {error}"))?;
            common::repeats(device, case).map_err(|error| format!("{name}: {error}"))?;
            used.lock().unwrap().insert(name);
        }
        Ok(())
    });
    used.into_inner().unwrap().into_iter().collect()
}

#[test]
fn products_on_matrix_units_agree_with_the_reference() {
    let mut side = None;
    let device = Device::named_as_if("vulkan", |capabilities| {
        side = capabilities.cooperative.filter(|_| capabilities.subgroup == Some(32));
    });
    let device = device.expect("a Vulkan driver");
    device.force_variants(&["matmul.cooperative"]);
    if side.is_none() {
        eprintln!("skipped: {} lists no square f16 matrices with f32 sums for subgroups of 32", device.name());
        return;
    }
    let cpu = Device::cpu();
    let as_if = Capabilities { f16: true, subgroup: Some(32), cooperative: side, ..Capabilities::default() };
    let as_if = common::forcing(&as_if, &["matmul.cooperative"]);
    let mut used = 0;
    common::every_case(|case| {
        let kernels = common::kernels(&cpu, case, &as_if)?;
        if kernels.iter().any(|kernel| kernel.names[0].kernel.starts_with("matmul.cooperative")) {
            used += 1;
            common::parity(&device, case)?;
            common::repeats(&device, case)?;
        }
        Ok(())
    });
    assert!(used > 0 || std::env::var_os("KILN_CASE").is_some(), "no case uses matrix units");
}
