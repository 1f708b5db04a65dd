//! Memory over a long run. Alone in its process, so that nothing else allocates beside it.

mod common;

use common::net::{Net, adamw, train};
use kiln::prelude::*;

/// Resident size, where the system tells.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

#[test]
fn memory_is_the_same_after_five_thousand_steps() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let mut run = |from: u64, to: u64| {
        for step in from..to {
            // Batches of two sizes in turn.
            let loss = train(&device, &net, &mut optimizer, if step % 2 == 1 { 11 } else { 37 }, step);
            if step % 10 == 0 {
                loss.item().unwrap();
            }
        }
    };
    run(0, 50);
    let (device_bytes, resident) = (device.memory().0, resident_bytes());
    run(50, 5000);
    assert_eq!(device.memory().0, device_bytes);
    if let (Some(before), Some(after)) = (resident, resident_bytes()) {
        assert!(after <= before + (4 << 20), "{before} bytes grew to {after}");
    }
}
