//! What happens around files: several writers, links, dead writers, host memory, many tensors.

#[path = "common/alone.rs"]
mod alone;
mod common;

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kiln::prelude::*;
use kiln::train::checkpoint::Checkpoint;

use alone::{Folder, child, inside, pass_alone};

/// A store with one parameter of `elements` elements, all `value`.
fn constant(elements: usize, value: f64) -> (ParamStore, Param) {
    let store = ParamStore::new(&Device::cpu(), 1);
    let weight = store.root().param("weight", &[elements], Init::Constant(value));
    (store, weight)
}

#[test]
fn readers_of_a_path_with_two_writers_see_whole_files() {
    let folder = Folder::new("writers");
    let path = folder.join("run.safetensors");
    constant(40_000, 1.0).0.save(&path).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for value in [1.0, 2.0] {
            let (path, done) = (&path, &done);
            scope.spawn(move || {
                let (store, _) = constant(40_000, value);
                while !done.load(Ordering::Relaxed) {
                    store.save(path).unwrap();
                }
            });
        }
        let (store, weight) = constant(40_000, 0.0);
        let begun = Instant::now();
        let mut reads = 0;
        // The writers must end before a failure is reported.
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            while begun.elapsed() < Duration::from_millis(1500) || reads < 20 {
                store.load(&path).unwrap();
                let values = weight.values().unwrap();
                assert!(values[0] == 1.0 || values[0] == 2.0);
                assert!(values.iter().all(|value| *value == values[0]), "a torn file was read");
                reads += 1;
            }
        }));
        done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    assert_eq!(folder.others(&["run.safetensors"]), [""; 0]);
}

#[cfg(unix)]
mod links {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_beside_the_target_overwrites_no_other_file() {
        let folder = Folder::new("link");
        let victim = folder.join("victim");
        fs::write(&victim, b"precious").unwrap();
        for name in ["run.safetensors.tmp", "run.tmp", ".run.safetensors.tmp"] {
            symlink(&victim, folder.join(name)).unwrap();
        }
        let (store, _) = constant(100, 1.0);
        store.save(folder.join("run.safetensors")).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"precious");
        store.load(folder.join("run.safetensors")).unwrap();
    }

    #[test]
    fn a_target_that_is_a_link_is_followed() {
        let folder = Folder::new("followed");
        let real = folder.join("real");
        fs::create_dir(&real).unwrap();
        symlink("real/run.safetensors", folder.join("hop")).unwrap();
        symlink(folder.join("hop"), folder.join("latest.safetensors")).unwrap();
        // The file need not be there yet.
        for value in [1.0, 2.0] {
            constant(100, value).0.save(folder.join("latest.safetensors")).unwrap();
            for link in ["latest.safetensors", "hop"] {
                assert!(fs::symlink_metadata(folder.join(link)).unwrap().is_symlink());
            }
            let (store, weight) = constant(100, 0.0);
            store.load(real.join("run.safetensors")).unwrap();
            assert_eq!(weight.values().unwrap(), [value; 100]);
        }
        assert_eq!(folder.others(&["real", "hop", "latest.safetensors"]), [""; 0]);
        assert_eq!(fs::read_dir(&real).unwrap().count(), 1);
    }

    #[test]
    fn links_in_a_circle_and_targets_that_are_no_files_are_errors() {
        let folder = Folder::new("circle");
        symlink(folder.join("b"), folder.join("a")).unwrap();
        symlink(folder.join("a"), folder.join("b")).unwrap();
        let (store, _) = constant(100, 1.0);
        assert!(matches!(store.save(folder.join("a")), Err(Error::Io { .. })));
        let socket = folder.join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(store.save(&socket), Err(Error::Io { .. })));
        use std::os::unix::fs::FileTypeExt;
        assert!(fs::symlink_metadata(&socket).unwrap().file_type().is_socket());
        fs::create_dir(folder.join("folder")).unwrap();
        assert!(matches!(store.save(folder.join("folder")), Err(Error::Io { .. })));
        assert_eq!(folder.others(&["a", "b", "socket", "folder"]), [""; 0]);
    }

    #[test]
    fn a_file_keeps_the_permissions_of_the_one_it_replaces() {
        use std::os::unix::fs::PermissionsExt;
        let folder = Folder::new("mode");
        let path = folder.join("run.safetensors");
        let (store, _) = constant(100, 1.0);
        store.save(&path).unwrap();
        for mode in [0o600, 0o664] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            store.save(&path).unwrap();
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
        }
    }
}

#[test]
fn leftovers_go_once_their_writer_is_dead_and_not_before() {
    let test = "leftovers_go_once_their_writer_is_dead_and_not_before";
    if let Some(folder) = inside() {
        let (store, _) = constant(2_000_000, 1.0);
        loop {
            store.save(folder.join("run.safetensors")).unwrap();
        }
    }
    let folder = Folder::new("leftovers");
    let known = ["run.safetensors"];
    let mut left = vec![];
    for _ in 0..100 {
        let mut writer = child(test, &folder.0).stdout(std::process::Stdio::null()).spawn().unwrap();
        let begun = Instant::now();
        while folder.others(&known).is_empty() && begun.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        writer.kill().unwrap();
        writer.wait().unwrap();
        left = folder.others(&known);
        if !left.is_empty() {
            break;
        }
    }
    assert_eq!(left.len(), 1, "no writer was killed while it wrote");
    let (store, _) = constant(100, 1.0);
    // Somebody else's file in the same folder is no reason to remove it.
    store.save(folder.join("other.safetensors")).unwrap();
    assert_eq!(folder.others(&["run.safetensors", "other.safetensors"]), left);
    // As a living writer holds it.
    let held = File::options().write(true).open(folder.join(&left[0])).unwrap();
    held.lock().unwrap();
    store.save(folder.join("run.safetensors")).unwrap();
    assert_eq!(folder.others(&["run.safetensors", "other.safetensors"]), left);
    drop(held);
    store.save(folder.join("run.safetensors")).unwrap();
    assert_eq!(folder.others(&["run.safetensors", "other.safetensors"]), [""; 0]);
}

/// Bytes that this process takes and has taken at most, where the system tells.
fn resident(key: &str) -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kib| kib * 1024)
}

/// Most bytes that `body` took beyond what the process had before.
fn growth(body: impl FnOnce()) -> Option<u64> {
    // Where the mark cannot be put back the figure is one of a longer time: an upper bound.
    let _ = fs::write("/proc/self/clear_refs", "5");
    let before = resident("VmRSS:")?;
    body();
    Some(resident("VmHWM:")?.saturating_sub(before))
}

/// Bytes that are no more than a part of the file: pieces, allocators, the driver's own.
const FIXED: u64 = 20 << 20;

/// Saving and loading a checkpoint of AdamW with 64 MB of tensors (KILN_TEST_MEGABYTES for others) on `device`, of one model
/// or of several.
fn takes_little_memory(device: &Device, models: usize, folder: &Path) {
    let megabytes = std::env::var("KILN_TEST_MEGABYTES").map_or(64, |text| text.parse().unwrap());
    // Weights and two moments, in F32 or F64.
    let elements = megabytes * 1_000_000 / 3 / models / if device.is_cpu() { 8 } else { 4 };
    let each = 37_111;
    let model = |name: usize| {
        let store = ParamStore::new(device, 1);
        for number in 0..elements / each {
            store.root().child(number).param("weight", &[each], Init::Constant(0.5));
        }
        let optimizer = AdamW::new(&store, AdamWConfig::default());
        (name.to_string(), store, optimizer)
    };
    let mut all: Vec<(String, ParamStore, AdamW)> = (0..models).map(model).collect();
    let step = |all: &mut Vec<(String, ParamStore, AdamW)>| {
        for (_, store, optimizer) in all {
            let gradient = || device.full(&[each], 0.1, DType::F32);
            optimizer.step_with(store.parameters().into_iter().map(|weight| (weight, gradient())).collect()).unwrap();
        }
        device.synchronize().unwrap();
    };
    step(&mut all);
    let path = folder.join("run.safetensors");
    let save = growth(|| match &all[..] {
        [(_, store, optimizer)] => Checkpoint::save(&path, store, Some(optimizer), None).unwrap(),
        all => {
            let parts = all.iter().fold(Checkpoint::parts(), |parts, (name, store, optimizer)| {
                parts.store(name, store).optimizer(name, optimizer)
            });
            parts.save(&path).unwrap();
        }
    });
    let some = |all: &[(String, ParamStore, AdamW)]| {
        all.iter().map(|(_, store, _)| store.parameters()[3].values().unwrap()).collect::<Vec<_>>()
    };
    let before = some(&all);
    step(&mut all);
    assert_ne!(some(&all), before);
    let load = growth(|| match &mut all[..] {
        [(_, store, optimizer)] => drop(Checkpoint::load(&path, store, Some(optimizer)).unwrap()),
        all => {
            let file = Checkpoint::open(&path).unwrap();
            let parts = all.iter_mut().fold(file.load(), |parts, (name, store, optimizer)| {
                parts.store(name, store).optimizer(name, optimizer)
            });
            parts.finish().unwrap();
        }
    });
    assert_eq!(some(&all), before);
    let size = fs::metadata(&path).unwrap().len();
    let (Some(save), Some(load)) = (save, load) else { return };
    println!("measured {}: {models} models, file {size}, saving {save}, loading {load} bytes", device.name());
    assert!(size > megabytes as u64 * 900_000);
    assert!(save <= size / 2 + FIXED, "saving {size} bytes took {save}");
    assert!(load <= size * 3 / 2 + FIXED, "loading {size} bytes took {load}");
}

#[test]
fn a_checkpoint_takes_little_more_than_itself_on_the_reference() {
    match inside() {
        Some(folder) => takes_little_memory(&Device::cpu(), 1, &folder),
        None => {
            pass_alone("a_checkpoint_takes_little_more_than_itself_on_the_reference", &Folder::new("memory-cpu").0);
        }
    }
}

#[test]
fn a_checkpoint_takes_little_more_than_itself_on_a_gpu() {
    match inside() {
        Some(folder) => takes_little_memory(&common::gpu(), 1, &folder),
        None => pass_alone("a_checkpoint_takes_little_more_than_itself_on_a_gpu", &Folder::new("memory-gpu").0),
    }
}

#[test]
fn a_checkpoint_of_two_models_takes_little_more_than_itself_on_the_reference() {
    let test = "a_checkpoint_of_two_models_takes_little_more_than_itself_on_the_reference";
    match inside() {
        Some(folder) => takes_little_memory(&Device::cpu(), 2, &folder),
        None => pass_alone(test, &Folder::new("memory-two-cpu").0),
    }
}

#[test]
fn a_checkpoint_of_two_models_takes_little_more_than_itself_on_a_gpu() {
    let test = "a_checkpoint_of_two_models_takes_little_more_than_itself_on_a_gpu";
    match inside() {
        Some(folder) => takes_little_memory(&common::gpu(), 2, &folder),
        None => pass_alone(test, &Folder::new("memory-two-gpu").0),
    }
}

#[test]
fn sixteen_thousand_parameters_are_saved_and_loaded_in_linear_time() {
    let folder = Folder::new("many");
    let path = folder.join("run.safetensors");
    for device in [Device::cpu(), common::gpu()] {
        let build = || {
            let store = ParamStore::new(&device, 1);
            let all: Vec<Param> = (0..16_000)
                .map(|number| store.root().child(number).param("weight", &[3], Init::Constant(0.5)))
                .collect();
            let optimizer = Sgd::new(&store, SgdConfig { momentum: 0.9, lr: 0.5, ..Default::default() });
            (store, all, optimizer)
        };
        let (store, all, mut optimizer) = build();
        // The moments of all of them, without a step's plan over 16,000 gradients.
        let mut state = optimizer.state().unwrap();
        for param in &all {
            state.updates.push((param.name(), 1));
            let shape = param.shape().unwrap();
            state.tensors.push((format!("momentum.{}", param.name()), shape, vec![0.25; 3]));
        }
        let begun = Instant::now();
        optimizer.set_state(&state).unwrap();
        all[15_999].set(&[7.0; 3]).unwrap();
        Checkpoint::save(&path, &store, Some(&optimizer), None).unwrap();
        let (store, all, mut optimizer) = build();
        Checkpoint::load(&path, &store, Some(&mut optimizer)).unwrap();
        let took = begun.elapsed();
        assert_eq!(all[15_999].values().unwrap(), [7.0; 3]);
        assert_eq!(optimizer.state().unwrap().tensors.len(), 16_000);
        // The quadratic way took 7 s of an idle machine for the load alone.
        assert!(took < Duration::from_secs(4), "{took:?} on {}", device.name());
    }
}

fn idx(sizes: &[u32], values: &[u8]) -> Vec<u8> {
    let mut bytes = (0x0800 + sizes.len() as u32).to_be_bytes().to_vec();
    sizes.iter().for_each(|size| bytes.extend(size.to_be_bytes()));
    bytes.extend(values);
    bytes
}

/// A gzip file of an IDX header and zeros, as many as `count`.
fn zeros(path: &Path, sizes: &[u32], count: usize) {
    let mut encoder = flate2::write::GzEncoder::new(File::create(path).unwrap(), flate2::Compression::best());
    encoder.write_all(&idx(sizes, &[])).unwrap();
    let block = vec![0; 1 << 20];
    for first in (0..count).step_by(block.len()) {
        encoder.write_all(&block[..block.len().min(count - first)]).unwrap();
    }
    encoder.finish().unwrap();
}

#[test]
fn a_small_gzip_file_cannot_make_the_loader_take_gigabytes() {
    let Some(folder) = inside() else {
        let folder = Folder::new("idx");
        return pass_alone("a_small_gzip_file_cannot_make_the_loader_take_gigabytes", &folder.0);
    };
    // 0.1 MB of gzip that hold 100 MB of zeros, as their header says (0.5 GB as f32), and the labels to them.
    let count = 1_600;
    zeros(&folder.join("train-images-idx3-ubyte.gz"), &[count, 256, 256 - 12], count as usize * 256 * 244);
    zeros(&folder.join("train-labels-idx1-ubyte.gz"), &[count], count as usize);
    zeros(&folder.join("t10k-images-idx3-ubyte.gz"), &[1, 256, 256 - 12], 256 * 244);
    zeros(&folder.join("t10k-labels-idx1-ubyte.gz"), &[1], 1);
    assert!(fs::metadata(folder.join("train-images-idx3-ubyte.gz")).unwrap().len() < 120_000);
    let taken = growth(|| {
        let error = kiln::data::mnist(&folder).unwrap_err();
        assert!(matches!(error, Error::File { offset: 4, .. }), "{error}");
    });
    println!("measured {taken:?} bytes");
    assert!(taken.is_none_or(|taken| taken < 16 << 20), "{taken:?} bytes");
}

#[test]
fn a_data_set_takes_its_own_size_while_it_is_read() {
    let Some(folder) = inside() else {
        let folder = Folder::new("idx");
        return pass_alone("a_data_set_takes_its_own_size_while_it_is_read", &folder.0);
    };
    // As many pixels as MNIST has, all 0: 188 MB as f32.
    zeros(&folder.join("train-images-idx3-ubyte.gz"), &[60_000, 28, 28], 60_000 * 28 * 28);
    zeros(&folder.join("train-labels-idx1-ubyte.gz"), &[60_000], 60_000);
    zeros(&folder.join("t10k-images-idx3-ubyte.gz"), &[1, 28, 28], 28 * 28);
    zeros(&folder.join("t10k-labels-idx1-ubyte.gz"), &[1], 1);
    let mut set = None;
    let taken = growth(|| set = Some(kiln::data::mnist(&folder).unwrap()));
    let set = set.unwrap().train;
    assert!(set.len() == 60_000 && set.images().iter().all(|&pixel| pixel == 0.0));
    let size = set.images().len() as u64 * 4;
    println!("measured {taken:?} bytes for {size}");
    assert!(taken.is_none_or(|taken| taken < size + size / 10 + FIXED), "{taken:?} bytes for {size}");
}
