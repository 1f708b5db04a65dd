//! Every case of every op, forward and gradient, on a GPU against the f64 reference.
//!
//! `KILN_CASE=softmax cargo test --release --test parity` runs the cases whose name contains a word.

mod common;

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
