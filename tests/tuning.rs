//! Tuning: what is measured is kept, read by the next program and part of the plan; a file that cannot be used is passed
//! over with one warning; results stay within rounding. Each case is a program of its own (this test's binary, run again),
//! for the environment is the program's.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::net::{Net, adamw, train};
use kiln::Device;
use kiln::kernel::Capabilities;
use kiln::plan::{Choice, Choices, Target};
use kiln::train::checkpoint::Checkpoint;

/// Runs this binary's `a_program` and returns what it printed.
fn program(settings: &[(&str, &str)]) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "a_program", "--ignored", "--nocapture"]);
    for name in ["KILN_TUNE", "KILN_TUNE_SECONDS", "KILN_CACHE", "CHECKPOINT"] {
        command.env_remove(name);
    }
    let output = command.envs(settings.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}");
    text
}

/// Trains a little, from a checkpoint if there is one and else into one; prints the plan, the losses and the warnings.
#[test]
#[ignore = "run by the other tests, as a program of its own"]
fn a_program() {
    let device = common::backend("vulkan");
    device.set_profiling(true).unwrap();
    let net = Net::new(&device);
    let mut optimizer = adamw(&net);
    let checkpoint = std::env::var_os("CHECKPOINT").map(PathBuf::from);
    let resumes = checkpoint.as_ref().is_some_and(|path| path.exists());
    if let Some(path) = checkpoint.as_ref().filter(|_| resumes) {
        Checkpoint::load(path, &net.params, Some(&mut optimizer)).unwrap();
    }
    let first = if resumes { 3 } else { 0 };
    let losses = (first..first + 3).map(|step| train(&device, &net, &mut optimizer, 37, step).item().unwrap());
    println!("losses {:?}", losses.collect::<Vec<_>>());
    if let Some(path) = checkpoint.filter(|_| !resumes) {
        Checkpoint::save(path, &net.params, Some(&optimizer), None).unwrap();
    }
    println!("{}", device.statistics().last_plan);
    println!("profiled {}", device.profile().unwrap().runs);
    println!("warnings {:?}", device.warnings());
}

fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kiln-tuning-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn file(folder: &Path) -> Option<PathBuf> {
    let mut all = std::fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path());
    all.find(|path| path.file_name().unwrap().to_string_lossy().starts_with("tuning-"))
}

/// Lines of the plan that say what was chosen.
fn choices(text: &str) -> Vec<&str> {
    text.lines().filter(|line| line.starts_with("tuned ")).collect()
}

fn measured(text: &str) -> usize {
    text.lines().filter(|line| line.starts_with("kiln: tuned ")).count()
}

fn losses(text: &str) -> Vec<f64> {
    let line =
        text.lines().find_map(|line| line.split_once("losses [")).unwrap_or_else(|| panic!("no losses in\n{text}"));
    line.1.trim_end_matches(']').split(", ").map(|x| x.parse().unwrap()).collect()
}

fn warnings(text: &str) -> &str {
    text.lines().find(|line| line.contains("warnings [")).unwrap()
}

#[test]
fn what_was_measured_is_kept_and_measured_once() {
    let folder = folder("kept");
    let cache = folder.to_str().unwrap();
    let first = program(&[("KILN_TUNE", "on"), ("KILN_CACHE", cache)]);
    assert!(measured(&first) > 0 && !choices(&first).is_empty(), "{first}");
    assert!(warnings(&first).ends_with("[]"), "{first}");
    assert!(first.contains("profiled 3\n"), "what tuning runs is not in the profile:\n{first}");
    let again = program(&[("KILN_TUNE", "on"), ("KILN_CACHE", cache)]);
    assert_eq!(measured(&again), 0, "{again}");
    let cached = program(&[("KILN_CACHE", cache)]);
    assert_eq!(measured(&cached), 0, "{cached}");
    // The same kernels, so the same bits.
    assert_eq!(choices(&first), choices(&again));
    assert_eq!(choices(&first), choices(&cached));
    assert_eq!(losses(&first), losses(&cached));
    let off = program(&[("KILN_TUNE", "off"), ("KILN_CACHE", cache)]);
    assert!(choices(&off).is_empty(), "{off}");
    for (tuned, plain) in losses(&first).iter().zip(losses(&off)) {
        assert!((tuned - plain).abs() <= 1e-5 * plain.abs(), "{tuned} and {plain}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_truncated_or_damaged_or_foreign_file_is_ignored_with_one_warning() {
    let folder = folder("broken");
    let cache = folder.to_str().unwrap();
    program(&[("KILN_TUNE", "on"), ("KILN_CACHE", cache)]);
    let file = file(&folder).expect("a tuning file");
    let whole = std::fs::read(&file).unwrap();
    let mut damaged = whole.clone();
    *damaged.last_mut().unwrap() ^= 1;
    let mut foreign = whole.clone();
    foreign[40] ^= 1;
    let sum =
        foreign[16..].iter().fold(0xcbf2_9ce4_8422_2325u64, |h, &b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3));
    foreign[8..16].copy_from_slice(&sum.to_le_bytes());
    for (bytes, why) in
        [(&whole[..20], "truncated"), (&damaged[..], "damaged"), (&foreign[..], "another adapter or driver")]
    {
        std::fs::write(&file, bytes).unwrap();
        let text = program(&[("KILN_CACHE", cache)]);
        assert!(choices(&text).is_empty(), "{text}");
        assert!(warnings(&text).contains(why), "{why}: {text}");
        assert_eq!(text.lines().filter(|line| line.starts_with("kiln: ")).count(), 1, "{text}");
    }
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn measuring_stops_at_its_bound_and_where_nothing_can_be_written() {
    let folder = folder("bound");
    let cache = folder.to_str().unwrap();
    let text = program(&[("KILN_TUNE", "on"), ("KILN_TUNE_SECONDS", "0"), ("KILN_CACHE", cache)]);
    assert_eq!(measured(&text), 0, "{text}");
    assert!(warnings(&text).contains("KILN_TUNE_SECONDS"), "{text}");
    let _ = std::fs::remove_dir_all(&folder);
    // A file where the folder should be.
    std::fs::write(&folder, "a file").unwrap();
    let text = program(&[("KILN_TUNE", "on"), ("KILN_CACHE", cache)]);
    assert!(measured(&text) > 0 && warnings(&text).contains("cannot be written"), "{text}");
    std::fs::remove_file(&folder).unwrap();
}

#[test]
fn a_resumed_run_keeps_the_kernels_of_the_one_that_was_stopped() {
    let folder = folder("resumed");
    let other = folder.join("other");
    std::fs::create_dir_all(&other).unwrap();
    let checkpoint = folder.join("run.safetensors");
    let path = checkpoint.to_str().unwrap();
    let tuned = [("KILN_TUNE", "on"), ("KILN_CACHE", folder.to_str().unwrap()), ("CHECKPOINT", path)];
    let first = program(&tuned);
    assert!(!choices(&first).is_empty());
    // Without the cache of the first: what it chose comes from the checkpoint.
    let resumed = program(&[("KILN_CACHE", other.to_str().unwrap()), ("CHECKPOINT", path)]);
    assert_eq!(choices(&resumed), choices(&first));
    // And the other way round: a run without choices goes on without, whatever was measured meanwhile.
    std::fs::remove_file(&checkpoint).unwrap();
    program(&[("KILN_TUNE", "off"), ("CHECKPOINT", path), ("KILN_CACHE", "off")]);
    let resumed = program(&tuned);
    assert!(choices(&resumed).is_empty() && measured(&resumed) == 0, "{resumed}");
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn a_choice_is_taken_for_its_class_and_its_shader_only() {
    let cpu = Device::cpu();
    let product = |rows: usize| {
        let x = cpu.tensor(&vec![1.0f32; rows * 64], &[rows, 64]);
        x.matmul(&cpu.tensor(&vec![1.0f32; 64 * 128], &[64, 128]))
    };
    let mut target = Target {
        capabilities: Capabilities { software: true, subgroup: Some(8), ..Default::default() },
        choices: Choices { measure: true, ..Default::default() },
    };
    let plan = |rows: usize, target: &Target| cpu.plan_with(&[&product(rows)], target, true).unwrap();
    let open = plan(61, &target).open;
    assert_eq!(open.len(), 1);
    assert!(open[0].rivals.len() >= 2, "{open:?}");
    let [first, second] = [0, 1].map(|i| open[0].rivals[i].choice.clone());
    assert!(plan(61, &target).dispatches[0].name().starts_with(&first.variant), "the default comes first");

    target.choices.measured.insert(open[0].class.clone(), second.clone());
    // 61 and 64 rows are of one class, 65 are not.
    for rows in [61, 64] {
        let plan = plan(rows, &target);
        assert!(plan.dispatches[0].name().starts_with(&second.variant) && plan.open.is_empty(), "{plan}");
        assert!(plan.to_string().contains(&format!("tuned {}: {}", open[0].class, second.variant)), "{plan}");
    }
    let other = plan(65, &target);
    assert!(other.dispatches[0].name().starts_with(&first.variant) && other.open.len() == 1, "{other}");

    // Measured with another text of the shader, it says nothing.
    let stale = Choice { shader: second.shader ^ 1, ..second };
    target.choices.measured.insert(open[0].class.clone(), stale);
    assert!(plan(61, &target).dispatches[0].name().starts_with(&first.variant));
    // What a class was decided to be, it stays.
    target.choices.settled.insert(open[0].class.clone());
    assert!(plan(61, &target).open.is_empty());
}
