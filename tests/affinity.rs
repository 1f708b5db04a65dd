//! Where the threads of a software driver run. Alone in its process: it looks at all threads of it.

#![cfg(target_os = "linux")]

mod common;

use std::collections::BTreeSet;

#[test]
fn each_worker_of_llvmpipe_has_a_core_of_its_own() {
    let device = common::gpu();
    if !device.info().name.contains("llvmpipe") {
        println!("skipped each_worker_of_llvmpipe_has_a_core_of_its_own: {} is another driver", device.info().name);
        return;
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let mut own = BTreeSet::new();
    for thread in std::fs::read_dir("/proc/self/task").unwrap() {
        let status = std::fs::read_to_string(thread.unwrap().path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        if let Ok(core) = line.trim().parse::<usize>() {
            assert!(own.insert(core), "two threads on core {core}");
        }
    }
    assert!(cores == 1 || own.len() == cores, "{cores} cores, threads bound to {own:?}");
}
