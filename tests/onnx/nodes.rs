//! ONNX's tests of its nodes. Some small ones are stored; `KILN_ONNX_TESTS` names a folder with all of them, which
//! `scripts/onnx_node_tests.py` writes: then `docs/onnx.md` is compared with what they show, and written anew with
//! `KILN_ONNX_WRITE=1`.

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
        // The reference computes in f64 what the test has in f32: a quotient that lies between two whole numbers falls on either side.
        Some(kiln::onnx::Elem::U8 | kiln::onnx::Elem::I8) if name.contains("quantize") => (0.0, 1.0),
        _ => (1e-3, 1e-6),
    };
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
    let model = match kiln::onnx::load(folder.join("model.onnx"), device) {
        Ok(model) => model,
        Err(error) => return of_error(error),
    };
    let (inputs, wanted) = match (tensors(folder, "input", device), tensors(folder, "output", device)) {
        (Ok(inputs), Ok(wanted)) => (inputs, wanted),
        (Err(error), _) | (_, Err(error)) => return of_error(error),
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

/// A reason without the name of its node, so that tests with one reason stand together.
fn bare(why: &str) -> String {
    let line = why.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    let behind = |line: &str| match line.split_once(": ") {
        Some((label, rest)) if label.contains('`') => rest.to_string(),
        _ => line.to_string(),
    };
    let mut parts: Vec<String> = line.split("; ").map(behind).map(|part| without_name(&part)).collect();
    parts.sort();
    parts.dedup();
    parts.join("; ")
}

/// `x` is of string: without the `x`.
fn without_name(part: &str) -> String {
    match part.split_once("` is ") {
        Some((_, what)) if what.starts_with("of ") => format!("tensors {what}"),
        Some((_, what)) => what.to_string(),
        None => part.to_string(),
    }
}

fn page(passed: usize, refused: &BTreeMap<String, String>) -> String {
    let mut page = String::from(INTRODUCTION);
    let all = passed + refused.len();
    let _ = write!(page, "\n## ONNX's tests of its nodes\n\n| tests | |\n| --- | --- |\n");
    let _ = write!(page, "| all, without the forms that are expanded to other ops | {all} |\n| passed | {passed} |\n");
    let _ = write!(page, "| refused with a reason | {} |\n| failed | 0 |\n", refused.len());
    page.push_str(COMPARED);
    let _ = write!(page, "\n## Ops\n\n{}.\n", kiln::onnx::ops().join(", "));
    let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (name, why) in refused {
        reasons.entry(bare(why)).or_default().push(name.trim_start_matches("test_"));
    }
    let _ = write!(page, "\n## What is not passed, and why\n\n| reason | tests |\n| --- | --- |\n");
    for (why, names) in reasons {
        let _ = writeln!(page, "| {} | {} |", why.replace('|', "\\|"), names.join(", "));
    }
    page
}

const COMPARED: &str = "
Results are compared as ONNX's own runner does, within 1e-3 of their size (float16 2e-3, bfloat16 1e-2); those of
quantising ops within one step, because the reference device divides in f64.
";

const INTRODUCTION: &str = "\
# ONNX

`kiln::onnx::load` reads a model with the feature `onnx`; `Model::forward` records it, and its parameters are in a store
like those of any other network. A test makes this page of ONNX's own tests of its nodes:

```text
python scripts/onnx_node_tests.py FOLDER
KILN_ONNX_TESTS=FOLDER KILN_ONNX_WRITE=1 cargo test --profile checks --features full --test onnx
```

| what | how it is held |
| --- | --- |
| float32, float16 | as they are |
| float64, bfloat16 | as f32 |
| int8, int16, int32, int64 | as i32; those of 8 and 16 bits wrap as they would; a stored number beyond 32 bits is refused |
| uint8, uint16, uint32, uint64 | as u32, in the same way |
| stored tensors of floats | as parameters, but for single numbers and for what an op must know while it is recorded |
| running statistics of `BatchNormalization` | as states: in training they follow the batch |
| what depends on constants alone | folded when the model is read |
| what depends on shapes alone | computed on the host while the model is recorded |
| results whose shape depends on values (`NonZero`, `Unique`) | computed on the host, which waits for the device |
| `Dropout` | drops in training, with Kiln's own random numbers |
| `If` | one of its graphs, where the condition is known while recording |
| `Loop`, `Scan` | a turn after the other, at most 1,024, as often as is known while recording; none within another graph |

Large tensors go from the file to their parameters in pieces: a model needs memory once, and for its largest tensor.

What Kiln has not, it names all at once when the model is read: ops, attributes and element types, with the names of the
nodes. Cases of an op that it has not are named when the model is recorded.

`kiln::onnx::export` writes what a closure records to a file: in version 21 of ONNX's ops, or another from 13 to 23
(`ExportOptions::opset`). It records several times, for several lengths, and reads off what each length of the graph is:
axis 0 of the inputs is free, and so is what `ExportOptions::free` names (`FreeAxis::new(0, 1, \"length\")`). What fixes such a
length is named in the error. The longest recording has free axes of more than twice the example's length, so that a length that
is cut off or rounded down is told apart: pass an example that is less than half as long as the longest input.

| what | how it leaves |
| --- | --- |
| parameters | under their names in the store, in their layouts; those of recurrences with their lines in ONNX's order |
| `Rnn`, `Gru`, `Lstm`, all directions, with initial states and a length for each row | `RNN`, `GRU`, `LSTM`, one for each layer and direction |
| batch, layer, group and instance normalisation | `BatchNormalization`; `LayerNormalization` from version 17, `GroupNormalization` from 21; `InstanceNormalization` |
| RMS normalisation | `RMSNormalization` from version 23, else composed |
| GELU, Mish, HardSwish | as such from versions 20, 18, 14, else composed |
| attention | `Attention` from version 23 where it has no window, cap, lengths or mask of truth values; else composed |
| convolutions, poolings, interpolations | `Conv`, `ConvTranspose`, `MaxPool`, `AveragePool`, `Resize` |
| pointwise ops, views, reductions, products, softmax, picking by an index, running sums | as such |
| numbers of u32 | as int64: sums, differences and products that wrap in 32 bits do not there |
| two parameters of one name, of two stores, or one that is called as an input or output | refused by name |
| an op of your own | as a node of the domain that `ExportOptions::domains` names for it, else refused by name |
| numbers beyond 2 GB in all, or from `ExportOptions::beside` bytes on | in a file beside the model |

Sorts, draws and what else ONNX has otherwise are refused by name, all at once. The example programs write their networks with
`--onnx FILE`; `scripts/check_onnx.py` holds those of thirteen of them to `onnx.checker` and onnxruntime, within 1e-5, at
batches of 1, 3 and 64 and two lengths.
";

#[test]
fn every_stored_test_passes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/onnx/nodes");
    let (passed, refused, failed) = all(&root, &Device::cpu());
    assert!(passed.len() >= 90, "{} are stored", passed.len());
    assert!(refused.is_empty() && failed.is_empty(), "{refused:#?} {failed:#?}");
}

#[test]
fn every_test_of_a_given_folder_passes_or_is_refused_with_a_reason() {
    let Some(root) = std::env::var_os("KILN_ONNX_TESTS").filter(|root| !root.is_empty()) else { return };
    let (passed, refused, failed) = all(Path::new(&root), &Device::cpu());
    println!("{} passed, {} refused, {} failed", passed.len(), refused.len(), failed.len());
    let mut shown = String::new();
    for (name, why) in &failed {
        let _ = writeln!(shown, "{name}: {why}");
    }
    assert!(failed.is_empty(), "{shown}");
    assert!(passed.len() >= 1100, "{} of {} pass", passed.len(), passed.len() + refused.len());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/onnx.md");
    let now = page(passed.len(), &refused);
    if std::env::var_os("KILN_ONNX_WRITE").is_some() {
        fs::write(&path, &now).expect("a page");
    }
    assert_eq!(fs::read_to_string(&path).expect("the page"), now, "write it anew with KILN_ONNX_WRITE=1");
}
