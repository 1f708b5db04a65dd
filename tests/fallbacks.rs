//! A driver that lists something and fails at it: the run goes on another way, and the user is told once.

mod common;

use common::net::{Net, adamw, train};
use kiln::kernel::Capabilities;
use kiln::prelude::*;

/// Warnings that a fault causes: one where the Vulkan driver lists what fails, none where it has nothing to fail at.
fn warnings_if(listed: impl Fn(&Capabilities) -> bool) -> usize {
    let mut lists = false;
    Device::named_as_if("vulkan", |capabilities| lists = listed(capabilities)).expect("a Vulkan driver");
    let name = common::backend("vulkan").info().name.clone();
    // The driver that the tests are written for has all of it.
    assert!(lists || !(name.contains("llvmpipe") && name.contains("256 bits")), "{name} does not list it");
    if !lists {
        println!("{name} does not list it, so nothing can fail at it");
    }
    usize::from(lists)
}

/// Holds the cases whose name begins so to the reference.
fn holds(device: &Device, prefix: &str) {
    let cases = kiln::ops::all_cases();
    let cases: Vec<_> = cases.iter().filter(|case| case.name.starts_with(prefix)).collect();
    assert!(!cases.is_empty(), "no case {prefix}");
    for case in cases {
        common::parity(device, case).unwrap_or_else(|error| panic!("{}: {error}", case.name));
    }
}

#[test]
fn an_adapter_that_fails_at_subgroups_does_without() {
    let device = Device::named_with_faults("vulkan", &["subgroup"]).expect("a Vulkan driver");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let losses: Vec<f64> = (0..3).map(|step| train(&device, &net, &mut optimizer, 37, step).item().unwrap()).collect();
    assert!(losses.iter().all(|loss| loss.is_finite()));
    assert!(!device.statistics().last_plan.contains("subgroup"), "{}", device.statistics().last_plan);
    holds(&device, "Matmul/37x131x75");
    holds(&device, "Conv2d/3x3_same");
    // Kernels with such operations are written for eight lanes.
    let warnings = device.warnings();
    assert_eq!(warnings.len(), warnings_if(|capabilities| capabilities.subgroup == Some(8)), "{warnings:?}");
    assert!(warnings.iter().all(|text| text.contains("subgroup operations will not be used")), "{warnings:?}");
}

#[test]
fn a_driver_that_chooses_among_sizes_of_subgroups_is_tried_and_then_has_them() {
    let device = Device::named_with_faults("vulkan", &["sizes"]).expect("a Vulkan driver");
    holds(&device, "Softmax");
    assert!(device.warnings().is_empty(), "{:?}", device.warnings());
    device.ones(&[8, 1024]).softmax(1).to_vec::<f32>().expect("a run");
    let lists = warnings_if(|capabilities| capabilities.subgroup.is_some()) > 0;
    assert_eq!(device.statistics().last_plan.contains("subgroup"), lists, "{}", device.statistics().last_plan);
}

#[test]
fn a_driver_that_numbers_lanes_otherwise_than_counted_on_does_without_subgroups() {
    let device = Device::named_with_faults("vulkan", &["sizes", "lanes"]).expect("a Vulkan driver");
    holds(&device, "Softmax");
    device.ones(&[8, 1024]).softmax(1).to_vec::<f32>().expect("a run");
    let warnings = device.warnings();
    assert_eq!(warnings.len(), warnings_if(|capabilities| capabilities.subgroup.is_some()), "{warnings:?}");
    assert!(warnings.iter().all(|text| text.contains("subgroups of several sizes will not be used")), "{warnings:?}");
    assert!(!device.statistics().last_plan.contains("subgroup"), "{}", device.statistics().last_plan);
}

#[test]
fn a_driver_that_fails_at_integers_of_64_bits_moves_values_one_at_a_time() {
    let device = Device::named_with_faults("vulkan", &["pairs"]).expect("a Vulkan driver");
    holds(&device, "LayerNorm/pairs");
    let warnings = device.warnings();
    assert_eq!(warnings.len(), warnings_if(|capabilities| capabilities.pairs), "{warnings:?}");
    assert!(warnings.iter().all(|text| text.contains("pairs operations will not be used")), "{warnings:?}");
}

#[test]
fn a_driver_that_fails_at_the_queue_of_work_shares_it_out_itself() {
    let device = Device::named_with_faults("vulkan", &["balance"]).expect("a Vulkan driver");
    holds(&device, "Softmax");
    holds(&device, "Matmul/37x131x75");
    let warnings = device.warnings();
    assert_eq!(warnings.len(), warnings_if(|capabilities| capabilities.workers.is_some()), "{warnings:?}");
    assert!(warnings.iter().all(|text| text.contains("work will not be shared out")), "{warnings:?}");
}

#[test]
fn a_variant_that_does_not_compile_gives_way_to_the_next() {
    let as_if = |capabilities: &mut Capabilities| {
        capabilities.software = false;
        capabilities.subgroup = None;
    };
    let device = Device::named_as_if("vulkan", as_if).expect("a Vulkan driver");
    device.force_variants(&["matmul.tiled.64"]);
    device.inject_fault("matmul.tiled.64");
    holds(&device, "Matmul/37x131x75");
    holds(&device, "Matmul/batched");
    let warnings = device.warnings();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains("kernel matmul.tiled.64 will not be used"), "{warnings:?}");
}

#[test]
fn an_adapter_that_fails_at_half_precision_stores_it_as_f32() {
    let device = Device::named_with_faults("vulkan", &["f16"]).expect("a Vulkan driver");
    let expected = warnings_if(|capabilities| capabilities.f16);
    // Where half precision is not listed both take as much.
    let smaller = half_bytes(&common::backend("vulkan")) < half_bytes(&device);
    assert_eq!(usize::from(smaller), expected, "a tensor in half precision");
    holds(&device, "Matmul/f16");
    holds(&device, "Cast/");
    assert_eq!(device.warnings().len(), expected, "{:?}", device.warnings());
}

/// Bytes that a fresh device takes for a large tensor in half precision.
fn half_bytes(device: &Device) -> u64 {
    let x = device.tensor(&vec![1.0f32; 1 << 20], &[1 << 20]).cast(DType::F16);
    device.eval(&[&x]).unwrap();
    device.synchronize().unwrap();
    device.memory().0
}

#[test]
fn a_kernel_without_another_form_is_an_error_that_names_it() {
    let device = common::backend("vulkan");
    device.inject_fault("sum");
    let error = device.tensor(&[1.0f32, 2.0], &[2]).sum_all().item().unwrap_err();
    assert!(matches!(&error, Error::Driver { what, .. } if what.contains("kernel `sum")), "{error}");
    assert!(device.warnings().is_empty());
    // What does not need it runs.
    assert_eq!((device.tensor(&[1.0f32, 2.0], &[2]) * 2.0).to_vec::<f32>().unwrap(), [2.0, 4.0]);
}
