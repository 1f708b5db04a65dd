//! Every case of every op, forward and gradient, on a GPU against the f64 reference.
//!
//! `KILN_CASE=softmax cargo test --release --test parity` runs the cases whose name contains a word.

mod common;

use kiln::kernel::Capabilities;
use kiln::prelude::*;

#[test]
fn every_case_on_vulkan_agrees_with_the_reference() {
    let device = common::backend("vulkan");
    common::every_case(|case| common::parity(&device, case));
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

/// Kernel variants that a table's default may not pick on the driver at hand; true for those of software drivers.
const VARIANTS: &[(&str, bool)] = &[("matmul.registers", true), ("matmul.registers", false), ("matmul.tiled", false)];

#[test]
fn every_variant_agrees_with_the_reference_wherever_it_is_listed() {
    let cpu = Device::cpu();
    for &(name, software) in VARIANTS {
        let change = |capabilities: &mut Capabilities| {
            capabilities.software = software;
            capabilities.preferred = vec![name];
        };
        let device = Device::named_as_if("vulkan", change).expect("a Vulkan driver");
        let mut as_if = Capabilities::default();
        change(&mut as_if);
        let mut used = 0;
        common::every_case(|case| {
            let kernels = common::kernels(&cpu, case, &as_if)?;
            if !kernels.iter().any(|kernel| kernel.name.split(' ').next() == Some(name)) {
                return Ok(());
            }
            used += 1;
            common::parity(&device, case).map_err(|error| format!("{name}: {error}"))?;
            common::repeats(&device, case).map_err(|error| format!("{name}: {error}"))
        });
        assert!(used > 0 || std::env::var_os("KILN_CASE").is_some(), "no case uses {name}");
    }
}
