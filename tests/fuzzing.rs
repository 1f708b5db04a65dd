//! The targets of `fuzz/` on seeded inputs: a bounded number in every test run, any number by hand.
//!
//! `FUZZ_INPUTS=1000000 cargo test --profile checks --test fuzzing` tries so many for each target, `FUZZ_SECONDS=3600` for so long
//! at most, `FUZZ_SEED=2` others, and `FUZZ_ONE=weights:17` a single one, which is how a failure is tried again and made
//! smaller.

#[path = "../fuzz/src/lib.rs"]
mod targets;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kiln::rng::Philox;
use targets::programs::{self, Drivers};
use targets::{files, memory, mutate, parts};

#[global_allocator]
static COUNTING: memory::Counting = memory::Counting;

/// An input that takes longer hangs, however busy the machine is.
const HANGS: Duration = Duration::from_secs(120);
/// Kinds of failure after which a run stops.
const ENOUGH: usize = 20;

fn number(variable: &str, default: u64) -> u64 {
    let value = std::env::var(variable).ok();
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{variable}={value} is no number")))
}

/// The text of a panic of `check`.
fn failure(check: &impl Fn(&[u8]), bytes: &[u8]) -> Option<String> {
    let panic = catch_unwind(AssertUnwindSafe(|| check(bytes))).err()?;
    let text = panic.downcast_ref::<String>().cloned();
    Some(text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string())).unwrap_or_default())
}

/// The text of a failure that begins with `kind` for an input from which nothing more can be left out or be made zero.
fn smaller(check: &impl Fn(&[u8]), mut bytes: Vec<u8>, kind: &String) -> String {
    let mut text = String::new();
    let mut length = bytes.len();
    while length > 0 {
        let mut at = 0;
        while at < bytes.len() {
            let end = (at + length).min(bytes.len());
            let without = [&bytes[..at], &bytes[end..]].concat();
            let mut zeroed = bytes.clone();
            zeroed[at..end].fill(0);
            let found = [without, zeroed].into_iter().filter(|tried| *tried != bytes).find_map(|tried| {
                let found = failure(check, &tried).filter(|found| found.starts_with(kind))?;
                Some((tried, found))
            });
            match found {
                Some((tried, found)) => {
                    at = if tried.len() < bytes.len() { at } else { end };
                    (bytes, text) = (tried, found);
                }
                None => at = end,
            }
        }
        length /= 2;
    }
    format!("{bytes:?}\n{text}")
}

/// Calls `check` on the inputs of `target` that `make` draws: `usual` of them, or as many as `FUZZ_INPUTS` says.
fn every_input(target: &str, usual: u64, make: impl Fn(&mut Philox) -> Vec<u8>, check: impl Fn(&[u8])) {
    let seed = number("FUZZ_SEED", 1);
    let one = std::env::var("FUZZ_ONE").ok();
    let numbers = match one.as_deref().map(|one| one.split_once(':').expect("FUZZ_ONE=target:number")) {
        Some((wanted, number)) if wanted == target => {
            let number: u64 = number.parse().expect("FUZZ_ONE=target:number");
            number..number + 1
        }
        Some(_) => 0..0,
        None => 0..number("FUZZ_INPUTS", usual),
    };
    let running = Arc::new(Mutex::new((0, Instant::now())));
    let (done, ended) = channel::<()>();
    let (name, watched) = (target.to_string(), running.clone());
    std::thread::spawn(move || {
        while ended.recv_timeout(Duration::from_secs(1)) == Err(RecvTimeoutError::Timeout) {
            let (number, since) = *watched.lock().expect("nobody panics with it");
            if since.elapsed() > HANGS {
                eprintln!("{name}:{number} of seed {seed} hangs");
                std::process::abort();
            }
        }
    });
    let (start, limit, mut tried) = (Instant::now(), number("FUZZ_SECONDS", u64::MAX), 0);
    // By the beginning of its text: the first failure of each kind, and how many there are.
    let mut failures = BTreeMap::<String, (String, u64)>::new();
    for number in numbers {
        if start.elapsed().as_secs() >= limit {
            break;
        }
        tried += 1;
        *running.lock().expect("nobody panics with it") = (number, Instant::now());
        let bytes = make(&mut Philox::new(seed, number));
        if let Some(text) = failure(&check, &bytes) {
            let kind = text.chars().take(24).collect();
            let text = if one.is_some() { smaller(&check, bytes, &kind) } else { text };
            let first = format!("FUZZ_SEED={seed} FUZZ_ONE={target}:{number}: {text}");
            failures.entry(kind).or_insert((first, 0)).1 += 1;
        }
        if failures.len() == ENOUGH {
            break;
        }
    }
    drop(done);
    println!("{target}: {tried} inputs in {:.1} s", start.elapsed().as_secs_f64());
    let failures: Vec<String> = failures.values().map(|(first, count)| format!("{count} times: {first}")).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Inputs that libFuzzer starts from, and that older versions of the library wrote.
fn kept(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds").join(target)
}

fn every_file(target: &str, check: impl Fn(&[u8]) -> bool) {
    let seeds = files::seeds(target);
    for file in std::fs::read_dir(kept(target)).expect("seeds") {
        check(&std::fs::read(file.expect("a seed").path()).expect("a seed"));
    }
    seeds.iter().for_each(|seed| assert!(check(seed), "{target}: a good file is refused"));
    let (all, taken) = (Cell::new(0), Cell::new(0));
    every_input(
        target,
        5000,
        |rng| mutate::file(target, &seeds, rng),
        |bytes| {
            all.set(all.get() + 1);
            taken.set(taken.get() + u64::from(check(bytes)));
        },
    );
    let (all, taken) = (all.get(), taken.get());
    println!("{target}: {taken} of {all} taken");
    assert!(all < 1000 || (all / 50..all).contains(&taken), "{target}: damage is all too coarse or does none");
}

#[test]
#[ignore = "writes fuzz/seeds anew, for formats that have changed"]
fn seeds_are_written() {
    let programs = (0..16).map(|number| any_bytes(&mut Philox::new(7, number))).collect();
    let all = ["weights", "checkpoint", "parts", "idx", "cache"].map(|target| (target, files::seeds(target)));
    for (target, seeds) in all.into_iter().chain([("program", programs)]) {
        std::fs::create_dir_all(kept(target)).expect("a folder");
        for (number, seed) in seeds.iter().enumerate() {
            std::fs::write(kept(target).join(format!("{number}.bin")), seed).expect("a seed");
        }
    }
}

#[test]
fn damaged_weights_are_refused_whole_or_taken() {
    every_file("weights", files::weights);
}

#[test]
fn damaged_checkpoints_are_refused_whole_or_taken() {
    every_file("checkpoint", files::checkpoint);
}

#[test]
fn damaged_checkpoints_of_several_parts_are_refused_whole_or_taken() {
    every_file("parts", parts::parts);
}

#[test]
fn damaged_idx_files_are_refused_or_taken() {
    every_file("idx", files::idx);
}

#[test]
fn damaged_cache_files_are_passed_over() {
    every_file("cache", files::cache);
}

#[cfg(feature = "onnx")]
#[test]
fn damaged_models_are_refused_or_taken() {
    let files = std::fs::read_dir(kept("onnx")).expect("seeds");
    let mut paths: Vec<PathBuf> = files.map(|file| file.expect("a seed").path()).collect();
    paths.sort();
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).expect("a seed")).collect();
    seeds
        .iter()
        .zip(&paths)
        .for_each(|(seed, path)| assert!(targets::onnx::onnx(seed), "{} is refused", path.display()));
    let taken = Cell::new(0u64);
    every_input(
        "onnx",
        3000,
        |rng| mutate::file("onnx", &seeds, rng),
        |bytes| taken.set(taken.get() + u64::from(targets::onnx::onnx(bytes))),
    );
    println!("onnx: {} taken", taken.get());
}

fn any_bytes(rng: &mut Philox) -> Vec<u8> {
    (0..256).map(|_| rng.next_u32() as u8).collect()
}

#[test]
fn random_programs_are_planned_and_their_kernels_are_valid() {
    let totals = Cell::new([0; 3]);
    every_input("planned", 300, any_bytes, |bytes| {
        let (sum, more) = (totals.get(), programs::planned(bytes));
        totals.set([0, 1, 2].map(|i| sum[i] + more[i]));
    });
    let [values, refused, kernels] = totals.get();
    println!("{values} values, {refused} ops refused, {kernels} kernels");
    assert!(
        refused * 20 <= values,
        "{refused} ops are refused beside {values} values: programs are not as they should be"
    );
}

#[test]
fn random_programs_run_to_the_values_of_the_reference() {
    let drivers = RefCell::new(Drivers::new("vulkan").expect("a Vulkan driver; `make test` installs a software one"));
    every_input("ran", 6, any_bytes, |bytes| drivers.borrow_mut().ran(bytes));
    let Drivers { counts: [all, explained, lost], .. } = *drivers.borrow();
    println!("{all} elements compared, {explained} by disturbed references, of which {lost} could be anything");
}

/// x c / x has a gradient of 0, of which rounding leaves something that no disturbed value explains: gradients must be
/// disturbed too.
#[test]
fn a_random_program_whose_gradients_cancel_out_is_judged_by_their_rounding() {
    let mut drivers = Drivers::new("vulkan").expect("a Vulkan driver; `make test` installs a software one");
    drivers.ran(&any_bytes(&mut Philox::new(3_400_002, 119)));
    // So are those of attention's scores, where a weight has nearly all of its row.
    drivers.ran(&any_bytes(&mut Philox::new(100_005, 3)));
    // So are those of hypot(a, |a| + n), and sums of many terms that have few values among them.
    drivers.ran(&any_bytes(&mut Philox::new(201_025, 169)));
    drivers.ran(&any_bytes(&mut Philox::new(201_030, 62)));
    // So are attention's in mixed precision and what its rows have in common, and what is 0 by rounding where it is asked for that.
    // Long sums are rounded to the same side, too, where few values are among their terms.
    for (seed, number) in [(300_014, 50), (300_016, 129), (400_009, 88), (500_032, 75), (600_029, 122)] {
        drivers.ran(&any_bytes(&mut Philox::new(seed, number)));
    }
}
