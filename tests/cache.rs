//! Files kept between programs: what is truncated, damaged, of another driver or not writable is passed over with one
//! warning, and the run goes on. Each case is a program of its own (this test's binary, run again), for the environment
//! is the program's.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::net::{Net, adamw, train};

/// Runs this binary's `a_program` with `KILN_CACHE` set, and returns what it printed.
fn program(cache: &Path) -> String {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_program", "--ignored", "--nocapture"])
        .env("KILN_CACHE", cache)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

#[test]
#[ignore = "run by the other tests, as a program of its own"]
fn a_program() {
    let device = common::backend("vulkan");
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let loss = train(&device, &net, &mut optimizer, 37, 0).item().unwrap();
    assert!(loss.is_finite());
    println!("warnings {:?}", device.warnings());
}

/// An empty folder of this test.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kiln-cache-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn only_file(folder: &Path) -> PathBuf {
    let files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    files[0].clone()
}

fn warned(text: &str, of: &str) {
    let line = text.lines().find(|line| line.contains("warnings [")).unwrap_or_default();
    assert!(line.contains(of), "no warning of {of} in\n{text}");
    assert_eq!(text.matches("was ignored").count().max(text.matches("cannot be written").count()), 2, "{text}");
}

#[test]
fn pipelines_are_kept_from_one_program_to_the_next() {
    let folder = folder("kept");
    let first = program(&folder);
    assert!(first.contains("warnings []"), "{first}");
    let file = only_file(&folder);
    let written = std::fs::metadata(&file).unwrap().modified().unwrap();
    let second = program(&folder);
    assert!(second.contains("warnings []"), "{second}");
    // The driver of the test has nothing new to keep, so the file stays.
    assert_eq!(std::fs::metadata(only_file(&folder)).unwrap().modified().unwrap(), written);
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_truncated_or_foreign_or_damaged_file_is_ignored_with_one_warning() {
    let folder = folder("broken");
    program(&folder);
    let file = only_file(&folder);
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    warned(&program(&folder), "truncated");
    assert_eq!(std::fs::read(&file).unwrap(), whole, "it is written anew");

    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    std::fs::write(&file, damaged).unwrap();
    warned(&program(&folder), "damaged");

    // A file of the same name whose header names another driver, as a hash collision or a copied folder would give.
    std::fs::write(&file, foreign(&whole)).unwrap();
    warned(&program(&folder), "another adapter or driver");
    std::fs::remove_dir_all(&folder).unwrap();
}

/// The same with another owner's name, and the checksum that fits.
fn foreign(whole: &[u8]) -> Vec<u8> {
    let mut body = whole[16..].to_vec();
    body[20] ^= 1;
    let sum = body.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    [&whole[..8], &sum.to_le_bytes(), &body].concat()
}

#[test]
fn a_folder_that_cannot_be_written_is_no_failure() {
    let folder = folder("closed");
    // A file in its place: not even an administrator can make a folder there.
    std::fs::write(&folder, "a file").unwrap();
    let text = program(&folder);
    assert!(text.contains("cannot be"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("kiln: ")).count(), 1, "{text}");
    std::fs::remove_file(&folder).unwrap();
}

#[test]
fn the_cache_can_be_switched_off() {
    let text = program(Path::new("off"));
    assert!(text.contains("warnings []"), "{text}");
    assert!(!Path::new("off").exists());
}
