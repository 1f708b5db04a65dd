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
fn every_case_on_gl_agrees_with_the_reference() {
    let device = common::backend("gl");
    common::every_case(|case| common::agrees(&device, case, &common::expected(case)?));
}

/// On Vulkan: as the driver is, fused and not, and by every variant that a software driver, or a GPU, may be given. In one pass, for
/// most of the time is that of the driver's compiler, and a device compiles a text once.
#[test]
fn every_case_on_vulkan_agrees_with_the_reference_fused_and_not_and_by_every_variant() {
    let used = Mutex::new(BTreeSet::new());
    common::every_case_shared(
        || (Device::cpu(), [true, false].map(Kind::open)),
        |(cpu, kinds), number, case| {
            let (recorded, expected) = (common::Recorded::new(cpu, case)?, common::expected(case)?);
            for kind in kinds {
                let agrees = |device: &Device| common::agrees(device, case, &expected);
                if kind.is_real {
                    kind.plain(agrees)?;
                }
                used.lock().unwrap().extend(kind.every_variant(number, &recorded, agrees)?);
            }
            Ok(())
        },
    );
    let used = used.into_inner().unwrap();
    let unused: Vec<&str> = kiln::ops::all_variants().into_iter().filter(|name| !used.contains(name)).collect();
    // Matrix units have a test of their own.
    assert!(unused == ["matmul.cooperative"] || std::env::var_os("KILN_CASE").is_some(), "no case uses {unused:?}");
}

/// A Vulkan device that takes itself for a software driver, or for a GPU.
struct Kind {
    device: Device,
    software: bool,
    /// Whether that is what it is.
    is_real: bool,
}

impl Kind {
    fn open(software: bool) -> Kind {
        let mut is_real = false;
        let device = Device::named_as_if("vulkan", |capabilities| {
            is_real = capabilities.software == software;
            capabilities.software = software;
        });
        let device = device.unwrap_or_else(|error| panic!("this test needs a Vulkan driver: {error}"));
        Kind { device, software, is_real }
    }

    /// By the variants that it takes by itself, fused and not.
    fn plain(&self, agrees: impl Fn(&Device) -> Result<(), String>) -> Result<(), String> {
        let device = &self.device;
        device.force_variants(&[]);
        agrees(device)?;
        // A kernel that the driver refuses is replaced, and what takes its place was compared. On Mesa's driver none is.
        let warnings = device.warnings();
        if !warnings.is_empty() && device.name().contains("llvmpipe") {
            return Err(format!("the device found a way around: {warnings:?}"));
        }
        device.set_fusion(false);
        let unfused = agrees(device).map_err(|error| format!("unfused: {error}"));
        device.set_fusion(true);
        unfused
    }

    /// By every variant that it may be given; returns their names.
    fn every_variant(
        &self,
        number: usize,
        recorded: &common::Recorded,
        agrees: impl Fn(&Device) -> Result<(), String>,
    ) -> Result<Vec<&'static str>, String> {
        // Software kernels are those of a driver with subgroups of 8 and 64-bit integers, which lavapipe has.
        let (software, subgroup) = (self.software, self.software.then_some(8));
        let as_if = Capabilities { software, subgroup, pairs: software, ..Capabilities::default() };
        let mut used = vec![];
        for name in common::variants(&as_if, |target| recorded.plan(target, true))? {
            // Blocks of different sides differ in constants only: each case takes one of the three.
            let side = ["128", "64", "32"].iter().position(|side| name.ends_with(side));
            if side.is_some_and(|side| !(number + side + 1).is_multiple_of(3)) {
                continue;
            }
            self.device.force_variants(&[name]);
            agrees(&self.device).map_err(|error| format!("{name}: {error}"))?;
            used.push(name);
        }
        Ok(used)
    }
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
        let kernels = common::Recorded::new(&cpu, case)?.kernels(&as_if)?;
        if kernels.iter().any(|kernel| kernel.names[0].kernel.starts_with("matmul.cooperative")) {
            used += 1;
            common::agrees(&device, case, &common::expected(case)?)?;
        }
        Ok(())
    });
    assert!(used > 0 || std::env::var_os("KILN_CASE").is_some(), "no case uses matrix units");
}
