//! The rules of the source tree: who may import whom, how long a file may be, which shader belongs to which op.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that may pass the cap, with the reason.
const LONG: &[(&str, &str)] = &[];
const CAP: usize = 500;

fn files(folder: &str, extension: &str) -> Vec<(String, String)> {
    fn walk(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).expect("a source folder").flatten() {
            let path = entry.path();
            if path.is_dir() {
                walk(&path, extension, found);
            } else if path.extension().is_some_and(|e| e == extension) {
                found.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = vec![];
    walk(&root.join(folder), extension, &mut found);
    found.sort();
    let name = |path: &PathBuf| path.strip_prefix(root).unwrap().to_string_lossy().replace('\\', "/");
    found.iter().map(|path| (name(path), fs::read_to_string(path).expect("a source file"))).collect()
}

/// Lines of code, without tests at the end of the file and comments.
fn code(text: &str) -> impl Iterator<Item = &str> {
    let end = text.find("#[cfg(test)]").unwrap_or(text.len());
    text[..end].lines().map(str::trim).filter(|line| !line.starts_with("//"))
}

/// Module names that a file takes from the crate: `crate::a`, `crate::{a, b::c}`, `super::super::a` aside.
fn imports(text: &str) -> Vec<String> {
    let mut found = vec![];
    let joined: String = code(text).collect::<Vec<_>>().join(" ");
    for (at, _) in joined.match_indices("crate::") {
        let rest = &joined[at + 7..];
        let list = match rest.strip_prefix('{') {
            Some(group) => group[..group.find('}').unwrap_or(group.len())].split(',').map(str::trim).collect(),
            None => vec![rest],
        };
        for item in list {
            let module: String = item.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            let second: String = item[module.len()..]
                .trim_start_matches("::")
                .chars()
                .take_while(|c| c.is_alphanumeric() || *c == '_')
                .collect();
            found.push(if module == "ops" { format!("ops::{second}") } else { module });
        }
    }
    found
}

fn forbid(prefix: &str, is_forbidden: impl Fn(&str, &str) -> bool) {
    let mut broken = vec![];
    for (file, text) in files("src", "rs") {
        if file.starts_with(prefix) {
            for import in imports(&text) {
                if is_forbidden(&file, &import) {
                    broken.push(format!("{file} takes {import}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

const TOP: &[&str] = &["params", "nn", "optim", "data", "train", "init", "prelude"];

#[test]
fn the_base_modules_import_only_each_other() {
    let base = [
        "error",
        "shape",
        "dtype",
        "array",
        "kernel",
        "rng",
        "host",
        "layout",
        "device_info",
        "capabilities",
        "costs",
        "target",
    ];
    for module in base {
        forbid(&format!("src/{module}.rs"), |_, import| {
            // Names at the crate's root (Tensor in a link, Result) are not modules.
            import.starts_with(char::is_lowercase) && !base.contains(&import)
        });
    }
}

#[test]
fn an_op_file_imports_neither_another_op_nor_what_lies_above() {
    // These are no ops but what several share. A convolution with a single tap is a product.
    let shared = ["shared", "rows", "pool", "product", "tiles", "variants"];
    let product = ("src/ops/conv2d/one_by_one.rs", "ops::matmul");
    forbid("src/ops/", |file, import| {
        let own = file.trim_start_matches("src/ops/").split(['/', '.']).next().unwrap_or("");
        let other_op = import
            .strip_prefix("ops::")
            .is_some_and(|op| op.starts_with(char::is_lowercase) && op != own && !shared.contains(&op));
        other_op && (file, import) != product || ["gpu", "engine"].contains(&import) || TOP.contains(&import)
    });
}

#[test]
fn autograd_the_planner_and_the_interpreter_know_ops_only_through_the_trait() {
    for module in ["src/autograd.rs", "src/cpu.rs", "src/plan/", "src/engine/"] {
        forbid(module, |_, import| {
            // Whose an op is decides whether its kernels are guarded.
            import.strip_prefix("ops::").is_some_and(|op| op.starts_with(char::is_lowercase) && op != "is_own")
        });
    }
}

#[test]
fn the_kind_of_device_is_asked_for_only_where_its_costs_are_listed_and_where_adapters_are_opened() {
    for (file, text) in files("src", "rs") {
        let asks = |line: &str| [".software", ".integrated"].iter().any(|kind| line.contains(kind));
        let may = ["src/costs.rs", "src/gpu/adapter.rs"].contains(&file.as_str());
        assert!(may || !code(&text).any(asks), "{file} asks for the kind of device: let it ask for a cost");
    }
}

#[test]
fn variants_are_named_only_where_they_are_listed() {
    let names: Vec<String> = kiln::ops::all_variants().iter().map(|name| format!("\"{name}\"")).collect();
    assert!(names.len() > 20, "{names:?}");
    for (file, text) in files("src", "rs") {
        for line in code(&text).filter(|line| names.iter().any(|name| line.contains(name))) {
            // The plainest variant of a convolution has the name of its op.
            let listed = line.contains("name: \"") || line.starts_with('"');
            assert!(listed && !line.contains("=="), "{file} names a variant outside its list: {line}");
        }
    }
}

#[test]
fn the_driver_is_named_only_under_gpu() {
    for (file, text) in files("src", "rs") {
        let named = code(&text).any(|line| line.contains("wgpu::") || line.contains("use wgpu"));
        assert!(!named || file.starts_with("src/gpu/"), "{file} names wgpu");
    }
}

#[test]
fn the_driver_s_side_sees_plans_but_not_ops() {
    forbid("src/gpu/", |_, import| import.starts_with("ops::") || import == "tensor" || TOP.contains(&import));
}

#[test]
fn nothing_below_imports_models_and_training() {
    forbid("src/", |file, import| {
        let above = TOP.iter().any(|top| file.starts_with(&format!("src/{top}"))) || file == "src/lib.rs";
        !above && TOP.contains(&import)
    });
}

/// Who else includes the shaders of a room: others than the module of its name.
const GUESTS: &[(&str, &[&str])] = &[("shared", &["src/kernel.rs"]), ("pointwise", &["src/plan/text.rs"])];

#[test]
fn a_shader_is_included_only_by_the_module_whose_room_it_is_in() {
    let modules = ["src/ops/", "src/"];
    for (file, text) in files("src", "rs") {
        for (at, _) in text.match_indices("/shaders/") {
            let path = &text[at + 9..at + 9 + text[at + 9..].find('"').unwrap_or(0)];
            let Some(path) = path.strip_suffix(".wgsl") else { continue };
            let room = path.split('/').next().unwrap_or(path);
            let own = modules
                .iter()
                .any(|module| file == format!("{module}{room}.rs") || file.starts_with(&format!("{module}{room}/")));
            let guest = GUESTS.iter().any(|(name, guests)| *name == room && guests.contains(&file.as_str()));
            assert!(own || guest, "{file} includes {path}.wgsl");
        }
    }
}

#[test]
fn every_shader_is_used() {
    let all: String = files("src", "rs").into_iter().map(|(_, text)| text).collect();
    for (file, _) in files("shaders", "wgsl") {
        assert!(all.contains(&format!("/{file}\"")), "{file} is included nowhere");
    }
}

#[test]
fn no_file_is_longer_than_one_reading_holds() {
    let folders = [("src", "rs"), ("shaders", "wgsl"), ("tests", "rs"), ("benches", "rs"), ("examples", "rs")];
    for (file, text) in folders.into_iter().flat_map(|(folder, extension)| files(folder, extension)) {
        let allowed = LONG.iter().any(|(name, _)| *name == file);
        assert!(allowed || text.lines().count() <= CAP, "{file} has {} lines", text.lines().count());
    }
}
