//! ONNX's tests of its nodes. Some 60 small ones are stored; `KILN_ONNX_TESTS` names a folder with all of them, which
//! `scripts/onnx_node_tests.py` writes, and then `docs/onnx.md` is compared with what they show.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use kiln::prelude::*;

/// What became of a test.
enum Outcome {
    Passed,
    /// Kiln said that it has not what the test asks for.
    Refused(String),
    Failed(String),
}

/// Tests whose results are drawn: the numbers are Kiln's own.
fn is_drawn(name: &str) -> bool {
    name.starts_with("test_bernoulli") || name.starts_with("test_training_dropout")
}

fn tensors(folder: &Path, side: &str, device: &Device) -> Result<Vec<Tensor>> {
    let file = |number: usize| folder.join(format!("{side}_{number}.pb"));
    (0..)
        .map(file)
        .take_while(|path| path.exists())
        .map(|path| kiln::onnx::tensor(&fs::read(path).expect("a file that is there"), device))
        .collect()
}

fn of_error(error: Error) -> Outcome {
    match error {
        Error::Unsupported { what } => Outcome::Refused(what),
        error => Outcome::Failed(error.to_string()),
    }
}

/// The tolerances of ONNX's own runner, with room for sums in another order; bfloat16 has 8 bits of a fraction.
fn differs(name: &str, elem: Option<kiln::onnx::Elem>, wanted: &[f64], got: &[f64]) -> Option<String> {
    let (relative, absolute) = match elem {
        Some(kiln::onnx::Elem::BF16) => (1e-2, 1e-3),
        Some(kiln::onnx::Elem::F16) => (2e-3, 1e-3),
        _ => (1e-3, 1e-6),
    };
    let _ = name;
    let far = |(&wanted, &got): (&f64, &f64)| {
        !(wanted == got
            || wanted.is_nan() && got.is_nan()
            || (wanted - got).abs() <= absolute + relative * wanted.abs())
    };
    let place = wanted.iter().zip(got).position(far)?;
    Some(format!("element {place} is {}, not {}", got[place], wanted[place]))
}

fn run(folder: &Path, name: &str, device: &Device) -> Outcome {
    if is_drawn(name) {
        return Outcome::Refused("its result is drawn at random, and Kiln draws its own numbers".into());
    }
    let (inputs, wanted) = match (tensors(folder, "input", device), tensors(folder, "output", device)) {
        (Ok(inputs), Ok(wanted)) => (inputs, wanted),
        (Err(error), _) | (_, Err(error)) => return of_error(error),
    };
    let model = match kiln::onnx::load(folder.join("model.onnx"), device) {
        Ok(model) => model,
        Err(error) => return of_error(error),
    };
    let outputs = model.forward(&inputs, Mode::Eval);
    if outputs.len() != wanted.len() {
        return Outcome::Failed(format!("{} outputs, not {}", outputs.len(), wanted.len()));
    }
    for ((output, wanted), port) in outputs.iter().zip(&wanted).zip(model.outputs()) {
        let got = match output.to_array() {
            Ok(got) => got,
            Err(error) => return of_error(error),
        };
        let wanted = wanted.to_array().expect("what the test wants");
        if got.shape != wanted.shape || got.dtype != wanted.dtype {
            let what = format!("`{}` is {} {}, not {} {}", port.name, got.dtype, got.shape, wanted.dtype, wanted.shape);
            return Outcome::Failed(what);
        }
        if let Some(what) = differs(name, port.elem, &wanted.data, &got.data) {
            return Outcome::Failed(format!("`{}`: {what}", port.name));
        }
    }
    Outcome::Passed
}

fn folders(root: &Path) -> Vec<(String, PathBuf)> {
    let entries = fs::read_dir(root).unwrap_or_else(|error| panic!("{}: {error}", root.display())).flatten();
    let mut found: Vec<(String, PathBuf)> = entries
        .filter(|entry| entry.path().join("model.onnx").exists())
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect();
    found.sort();
    found
}

/// All tests of a folder: those that passed, those that were refused with the reasons, those that failed.
fn all(root: &Path, device: &Device) -> (Vec<String>, BTreeMap<String, String>, BTreeMap<String, String>) {
    let (mut passed, mut refused, mut failed) = (vec![], BTreeMap::new(), BTreeMap::new());
    for (name, folder) in folders(root) {
        match run(&folder, &name, device) {
            Outcome::Passed => passed.push(name),
            Outcome::Refused(why) => {
                refused.insert(name, why);
            }
            Outcome::Failed(why) => {
                failed.insert(name, why);
            }
        }
    }
    (passed, refused, failed)
}

#[test]
fn every_test_of_a_given_folder_passes_or_is_refused_with_a_reason() {
    let Some(root) = std::env::var_os("KILN_ONNX_TESTS").filter(|root| !root.is_empty()) else { return };
    let (passed, refused, failed) = all(Path::new(&root), &Device::cpu());
    println!("{} passed, {} refused, {} failed", passed.len(), refused.len(), failed.len());
    if std::env::var_os("KILN_ONNX_SHOW").is_some() {
        for (name, why) in &refused {
            println!("refused {name}: {}", why.trim().replace('\n', "; "));
        }
    }
    let mut shown = String::new();
    for (name, why) in &failed {
        let _ = writeln!(shown, "{name}: {why}");
    }
    assert!(failed.is_empty(), "{shown}");
}
