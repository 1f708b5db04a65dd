//! Whole training runs of the example's network on the embedded digits: it learns, it follows the reference, it repeats,
//! and it goes on where it stopped.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use kiln::data::{Images, Loader, digits};
use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

const EPOCHS: u64 = 8;
const BATCH: usize = 64;
/// Of the comparison of mixed precision with f32: one test image is 0.3 points.
const SEEDS: [u64; 4] = [1, 2, 3, 4];

/// Two convolutions and two linear layers, as in `examples/train_cnn`.
struct Cnn {
    device: Device,
    params: ParamStore,
    layers: Sequential,
    adamw: AdamW,
    epochs: u64,
}

impl Cnn {
    fn new(device: &Device, seed: u64) -> Cnn {
        let params = ParamStore::new(device, seed);
        let root = params.root();
        let layers = Sequential::new()
            .add(Conv2d::new(&root.child("conv1"), 1, 16, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Conv2d::new(&root.child("conv2"), 16, 32, 3).padding(1))
            .add(Tensor::relu)
            .add(MaxPool2d::new(2))
            .add(Flatten)
            .add(Linear::new(&root.child("fc1"), 128, 64))
            .add(Tensor::relu)
            .add(Dropout::new(&root.child("dropout"), 0.2))
            .add(Linear::new(&root.child("fc2"), 64, 10));
        let adamw = AdamW::new(&params, AdamWConfig { lr: 3e-3, ..Default::default() });
        Cnn { device: device.clone(), params, layers, adamw, epochs: EPOCHS }
    }

    /// Trains on what `loader` gives next, at most `steps` batches and at most to the end of the epoch; the losses.
    fn train(&mut self, loader: &mut Loader<'_>, steps: usize) -> Vec<f64> {
        let all = (self.epochs * loader.batches_per_epoch()) as f64;
        let mut losses = vec![];
        for batch in loader.take(steps) {
            let x = self.device.tensor(&batch.images, &batch.shape);
            let loss = self.layers.forward(&x, Mode::Train).cross_entropy(&self.device.labels(&batch.labels));
            let progress = self.adamw.steps() as f64 / all;
            self.adamw.set_lr(3e-3 * (0.1 + 0.45 * (1.0 + (std::f64::consts::PI * progress).cos()))).unwrap();
            self.adamw.step(&loss).unwrap();
            losses.push(loss);
        }
        losses.iter().map(|loss| loss.item().unwrap()).collect()
    }

    fn accuracy(&self, data: &Images) -> f64 {
        let right = |batch: kiln::data::Batch| {
            let x = self.device.tensor(&batch.images, &batch.shape);
            let guesses = no_grad(|| self.layers.forward(&x, Mode::Eval).argmax(1)).to_vec::<u32>().unwrap();
            guesses.iter().zip(&batch.labels).filter(|(guess, label)| guess == label).count()
        };
        data.batches(256).map(right).sum::<usize>() as f64 / data.len() as f64
    }

    /// Every bit of every parameter.
    fn bits(&self) -> Vec<(String, Vec<u64>)> {
        let named = self.params.parameters();
        named.iter().map(|p| (p.name(), p.values().unwrap().into_iter().map(f64::to_bits).collect())).collect()
    }
}

#[test]
fn the_network_learns_the_digits() {
    let splits = digits();
    let mut net = Cnn::new(&common::gpu(), 42);
    assert!(net.accuracy(&splits.test) < 0.5);
    let mut loader = splits.train.batches(BATCH).shuffle(42);
    let losses: Vec<f64> = (0..EPOCHS).flat_map(|_| net.train(&mut loader, usize::MAX)).collect();
    assert_eq!(losses.len() as u64, EPOCHS * loader.batches_per_epoch());
    let accuracy = net.accuracy(&splits.test);
    assert!(accuracy >= 0.95, "{accuracy}: {losses:?}");
}

#[test]
fn mixed_precision_learns_the_digits_as_well_as_f32() {
    let splits = digits();
    let device = common::gpu();
    let run = |precision: Precision, seed: u64| {
        let mut net = Cnn::new(&device, seed);
        net.params.set_precision(precision);
        net.epochs = 2 * EPOCHS;
        let mut loader = splits.train.batches(BATCH).shuffle(seed);
        (0..net.epochs).for_each(|_| drop(net.train(&mut loader, usize::MAX)));
        assert_eq!(net.adamw.loss_scale().unwrap().is_some(), precision == Precision::Mixed);
        net.accuracy(&splits.test)
    };
    let mean = |precision: Precision| SEEDS.iter().map(|&seed| run(precision, seed)).sum::<f64>() / SEEDS.len() as f64;
    let (mixed, full) = (mean(Precision::Mixed), mean(Precision::Full));
    assert!(mixed >= full - 0.003 && mixed >= 0.95, "{mixed} in mixed precision, {full} in f32");
}

#[test]
fn a_gpu_follows_the_reference() {
    let splits = digits();
    let run = |device: &Device| {
        let mut loader = splits.train.batches(32).shuffle(3);
        Cnn::new(device, 3).train(&mut loader, 20)
    };
    let (gpu, cpu) = (run(&common::gpu()), run(&Device::cpu()));
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&cpu[15..]) < mean(&cpu[..5]), "it does not learn: {cpu:?}");
    for (step, (got, want)) in gpu.iter().zip(&cpu).enumerate() {
        assert!((got - want).abs() < 1e-4, "step {step}: {got} {want}");
    }
}

#[test]
fn one_seed_gives_one_run_and_a_stopped_one_goes_on_to_the_same_bits() {
    let splits = digits();
    let loader = || splits.train.batches(BATCH).shuffle(9);
    let whole = |device: &Device| {
        let mut net = Cnn::new(device, 9);
        let mut loader = loader();
        // Into the second epoch, past the partial last batch of the first.
        let losses = [net.train(&mut loader, usize::MAX), net.train(&mut loader, 3)].concat();
        (losses, net.bits())
    };
    let device = common::gpu();
    let uninterrupted = whole(&device);
    assert_eq!(whole(&device), uninterrupted, "on one device");
    // Nothing cached: plans are made anew.
    let fresh = Device::best().unwrap();
    assert_eq!(whole(&fresh), uninterrupted, "on a device made later");

    let folder = std::env::temp_dir().join(format!("kiln-whole-runs-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join("run.safetensors");
    let mut losses = {
        let mut net = Cnn::new(&device, 9);
        let mut loader = loader();
        let losses = net.train(&mut loader, 7);
        Checkpoint::save(&path, &net.params, Some(&net.adamw), Some(loader.position())).unwrap();
        // What happens after the save is not in the file.
        net.train(&mut loader, 2);
        losses
    };
    // Another seed: everything must come from the file.
    let mut net = Cnn::new(&fresh, 10);
    let position = Checkpoint::load(&path, &net.params, Some(&mut net.adamw)).unwrap().position.unwrap();
    assert_eq!((position.epoch, position.batch, net.adamw.steps()), (0, 7, 7));
    let mut rest = loader();
    rest.seek(position).unwrap();
    losses.extend(net.train(&mut rest, usize::MAX));
    losses.extend(net.train(&mut rest, 3));
    assert_eq!((losses, net.bits()), uninterrupted, "resumed");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_step_of_the_digits_cnn_is_at_most_thirty_dispatches() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let splits = digits();
    let mut net = Cnn::new(&device, 1);
    net.train(&mut splits.train.batches(BATCH), 1);
    let statistics = device.statistics();
    assert!(statistics.dispatches <= 30, "{}", statistics.last_plan);
}

#[test]
fn a_partial_last_batch_of_the_digits_cnn_compiles_no_pipeline() {
    let device = Device::named("vulkan").expect("a Vulkan driver: `make test` installs one");
    let splits = digits();
    let mut net = Cnn::new(&device, 1);
    net.train(&mut splits.train.batches(BATCH), 1);
    let [_, _, pipelines] = device.objects_made();
    for size in [29, 37, 61] {
        net.train(&mut splits.train.batches(size), 1);
        assert_eq!(device.objects_made()[2], pipelines, "at {size} images: {}", device.statistics().last_plan);
    }
}

/// The example, built if need be, with these options beside or in place of those that keep a run short. On the reference: what
/// is tested here is the program around the steps.
fn train_cnn(changes: &[(&str, &str)]) -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let program = PROGRAM.get_or_init(|| {
        let test = std::env::current_exe().unwrap();
        let profile = test.ancestors().nth(2).unwrap();
        // The folder of a profile has its name, but for one.
        let name = match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let mut cargo = Command::new(std::env::var("CARGO").unwrap_or("cargo".into()));
        cargo.args(["build", "--quiet", "--example", "train_cnn", "--profile", name]);
        cargo.arg("--target-dir").arg(profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        // Other features than the tests' would be another library to build.
        if cfg!(all(feature = "csv", feature = "images", feature = "progress", feature = "signals")) {
            cargo.args(["--features", "full"]);
        }
        assert!(cargo.status().unwrap().success());
        profile.join("examples").join("train_cnn")
    });
    let mut options = vec![("--device", "cpu"), ("--limit", "120"), ("--batch-size", "12"), ("--epochs", "4")];
    options.retain(|(name, _)| changes.iter().all(|(other, _)| name != other));
    options.extend(changes);
    let mut command = Command::new(program);
    command.args(options.iter().flat_map(|&(name, value)| [name, value])).env("RUST_BACKTRACE", "0");
    command
}

/// A fresh folder.
fn folder(test: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("kiln-{test}-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts a run that saves every other step and sends it a signal once it has saved.
#[cfg(unix)]
fn disturbed(mut command: Command, checkpoint: &Path, signal: nix::sys::signal::Signal) -> Output {
    use nix::unistd::Pid;
    let before = std::fs::read(checkpoint).ok();
    command.arg("--checkpoint").arg(checkpoint).args(["--checkpoint-every", "2"]);
    if before.is_some() {
        command.arg("--resume").arg(checkpoint);
    }
    let mut child: Child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while std::fs::read(checkpoint).ok() == before && child.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    nix::sys::signal::kill(Pid::from_raw(child.id() as i32), signal).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
#[cfg(unix)]
fn a_run_that_signals_stop_goes_on_to_the_same_bits() {
    use nix::sys::signal::Signal;
    // Whoever started the tests may have it ignored, as nohup does.
    // SAFETY: what it was by default; this program handles no signal.
    unsafe { nix::sys::signal::signal(Signal::SIGHUP, nix::sys::signal::SigHandler::SigDfl) }.unwrap();
    let folder = folder("signals");
    let [whole, out, checkpoint] = ["whole", "out", "run"].map(|name| folder.join(name));
    let done = run(train_cnn(&[]).arg("--out").arg(&whole));
    assert!(done.status.success(), "{}", text(&done.stderr));
    for signal in [Signal::SIGTERM, Signal::SIGKILL, Signal::SIGHUP, Signal::SIGINT] {
        let mut command = train_cnn(&[]);
        command.arg("--out").arg(&out);
        let ended = disturbed(command, &checkpoint, signal);
        let said = text(&ended.stdout);
        match signal {
            Signal::SIGKILL => assert!(!ended.status.success() && !said.contains("stopped"), "{said}"),
            _ => assert!(
                ended.status.success() && said.contains("stopped after"),
                "{signal}: {said}{}",
                text(&ended.stderr)
            ),
        }
        assert!(!out.exists(), "it ended before the signal came");
    }
    // Under nohup a hangup is nothing to stop for.
    let mut patient = Command::new("sh");
    patient.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]);
    let inner = train_cnn(&[]);
    patient.arg(inner.get_program()).args(inner.get_args()).arg("--out").arg(&out);
    let ended = disturbed(patient, &checkpoint, Signal::SIGHUP);
    assert!(ended.status.success() && !text(&ended.stdout).contains("stopped"), "{}", text(&ended.stderr));
    assert!(std::fs::read(&out).unwrap() == std::fs::read(&whole).unwrap(), "the weights differ");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn outputs_are_tried_before_the_first_step_and_left_as_they_were() {
    let folder = folder("outputs");
    let file = |name: &str| folder.join(name);
    std::fs::write(file("old"), "old").unwrap();
    for option in ["--out", "--json", "--logits", "--checkpoint", "--trace"] {
        for (bad, why) in [(file("old").join("x"), "has that name"), (folder.clone(), "it is a folder")] {
            let mut command = train_cnn(&[]);
            if option != "--out" {
                command.arg("--out").arg(file("old"));
            }
            let ended = run(command.arg(option).arg(&bad));
            let (said, error) = (text(&ended.stdout), text(&ended.stderr));
            assert!(!ended.status.success() && !said.contains("epoch"), "{option} {said}{error}");
            assert!(error.contains(why) && error.contains(bad.to_str().unwrap()), "{option}: {error}");
        }
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["old"]);
    assert_eq!(std::fs::read(file("old")).unwrap(), b"old");
    // A folder that is not there is made.
    let ended = run(train_cnn(&[]).args(["--max-steps", "1", "--out"]).arg(file("new/folder/w")));
    assert!(ended.status.success() && file("new/folder/w").is_file(), "{}", text(&ended.stderr));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[cfg(unix)]
fn a_reader_that_leaves_ends_the_run_without_a_word() {
    let folder = folder("reader");
    let mut command = train_cnn(&[]);
    command.arg("--out").arg(folder.join("out")).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    drop(child.stdout.take());
    let ended = child.wait_with_output().unwrap();
    assert!(!ended.status.success() && ended.stderr.is_empty(), "{}", text(&ended.stderr));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn the_shaders_of_a_step_are_written_to_a_folder() {
    let folder = folder("plan");
    let plan = folder.join("new/plan");
    let mut command = train_cnn(&[("--device", "vulkan")]);
    let ended = run(command.args(["--max-steps", "1", "--out"]).arg(folder.join("out")).arg("--plan").arg(&plan));
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let names = std::fs::read_dir(&plan).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (shaders, others): (Vec<String>, Vec<String>) = names.partition(|name| name.ends_with(".wgsl"));
    assert_eq!(others, ["plan.txt"]);
    let listed = std::fs::read_to_string(plan.join("plan.txt")).unwrap();
    assert!(shaders.iter().any(|name| name.contains("conv2d")) && listed.contains("conv2d"), "{shaders:?}");
    for name in shaders {
        let source = std::fs::read_to_string(plan.join(&name)).unwrap();
        naga::front::wgsl::parse_str(&source).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn a_checkpoint_of_another_run_is_refused_with_both_values() {
    let folder = folder("other-run");
    let [checkpoint, out] = ["run", "out"].map(|name| folder.join(name));
    let ended = run(train_cnn(&[]).args(["--max-steps", "3", "--out"]).arg(&out).arg("--checkpoint").arg(&checkpoint));
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    let before = std::fs::read(&out).unwrap();
    for (options, told) in [
        ("--batch-size 13", "batch size 12 there, 13 here"),
        ("--seed 7", "seed 42 there, 7 here"),
        ("--optimizer sgd", "optimizer adamw there, sgd here"),
        ("--precision mixed", "precision full there, mixed here"),
        ("--limit 130", "training images 120 there, 130 here"),
    ] {
        let change = options.split_once(' ').unwrap();
        let ended = run(train_cnn(&[change]).arg("--out").arg(&out).arg("--resume").arg(&checkpoint));
        let error = text(&ended.stderr);
        assert!(!ended.status.success() && error.contains(told), "{options}: {error}");
    }
    assert!(std::fs::read(&out).unwrap() == before);
    // What may be changed is told.
    let ended = run(train_cnn(&[])
        .args(["--max-steps", "4", "--lr", "0.001"])
        .arg("--resume")
        .arg(&checkpoint)
        .arg("--out")
        .arg(&out));
    assert!(text(&ended.stdout).contains("changed  learning rate from 0.003 to 0.001"), "{}", text(&ended.stdout));
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
#[cfg(feature = "images")]
fn a_folder_of_images_is_data_too() {
    let folder = folder("own-images");
    for (class, light) in [("dark", 20), ("light", 220)] {
        std::fs::create_dir_all(folder.join("data").join(class)).unwrap();
        for number in 0..8u8 {
            let image = image::GrayImage::from_pixel(9, 7 + u32::from(number), image::Luma([light + number]));
            image.save(folder.join(format!("data/{class}/{number}.png"))).unwrap();
        }
    }
    let mut command = train_cnn(&[("--data", "folder"), ("--epochs", "2"), ("--batch-size", "4")]);
    let ended = run(command.arg("--data-dir").arg(folder.join("data")).arg("--out").arg(folder.join("out")));
    let said = text(&ended.stdout);
    assert!(ended.status.success(), "{}", text(&ended.stderr));
    assert!(said.contains("folder: ") && said.contains("to test, 3x28x28, 2 classes"), "{said}");
    std::fs::remove_dir_all(folder).unwrap();
}

#[test]
fn how_often_to_save_is_steps_or_time() {
    let told = |value: &str| {
        let option = format!("--checkpoint-every={value}");
        let ended = run(train_cnn(&[]).args(["--list-devices", "--checkpoint", "run", &option]));
        (ended.status.success(), text(&ended.stderr))
    };
    for good in ["1", "100", "30s", "5m", "2h", "0.5s"] {
        assert!(told(good).0, "{good}");
    }
    for bad in ["0", "0s", "-1", "1.5", "5x", "s", "", "NaNs", "infs", "1e400s"] {
        let (taken, error) = told(bad);
        assert!(!taken && error.contains("a number of steps (100) nor a time (30s, 5m, 2h)"), "{bad}: {error}");
    }
}
