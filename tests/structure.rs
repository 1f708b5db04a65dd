//! The rules of the source tree: who may import whom, how long a file may be, which shader belongs to which op.

use std::collections::{BTreeMap, BTreeSet};
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

/// A module of the crate: its path, without `crate`.
type Module = Vec<String>;

/// The module that a file under `src/` holds.
fn module_of(file: &str) -> Module {
    let path = file.trim_start_matches("src/").trim_end_matches(".rs");
    let path = path.strip_suffix("/mod").unwrap_or(path);
    if path == "lib" { vec![] } else { path.split('/').map(String::from).collect() }
}

/// The paths of a `use`: `a::{b, c::d as e}` is `a::b` and `a::c::d`.
fn paths_of(tree: &str, before: &[String], found: &mut Vec<Module>) {
    let (head, group) = match tree.split_once('{') {
        Some((head, rest)) => (head, rest.rfind('}').map(|end| &rest[..end])),
        None => (tree.split(" as ").next().unwrap_or(tree), None),
    };
    let mut path = before.to_vec();
    path.extend(head.split("::").map(str::trim).filter(|name| !name.is_empty()).map(String::from));
    let Some(group) = group else { return found.push(path) };
    let (mut depth, mut start) = (0, 0);
    for (at, c) in group.char_indices().chain([(group.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !group[start..at].trim().is_empty() {
                    paths_of(group[start..at].trim(), &path, found);
                }
                start = at + 1;
            }
            _ => {}
        }
    }
}

/// What a file names of the crate: the paths of `use`, those that are passed on (`pub use`), and those that stand in the code.
fn named(text: &str) -> Vec<(bool, Module)> {
    let joined: String = code(text).map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join(" ");
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let (mut found, mut rest) = (vec![], String::new());
    for statement in joined.split_inclusive(';') {
        let uses = statement.match_indices("use ").map(|(at, _)| at).find(|&at| !statement[..at].ends_with(is_part));
        let Some(at) = uses.filter(|_| statement.ends_with(';')) else {
            rest.push_str(statement);
            continue;
        };
        let passed_on = statement[..at].trim_end().ends_with([')', 'b']) && statement[..at].contains("pub");
        rest.push_str(&statement[..at]);
        let mut paths = vec![];
        paths_of(statement[at + 4..].trim_end_matches(';').trim(), &[], &mut paths);
        found.extend(paths.into_iter().map(|path| (passed_on, path)));
    }
    for root in ["crate::", "super::", "self::"] {
        for (at, _) in rest.match_indices(root).filter(|(at, _)| !rest[..*at].ends_with(is_part)) {
            let path: String = rest[at..].chars().take_while(|&c| is_part(c)).collect();
            found.push((false, path.split("::").filter(|name| !name.is_empty()).map(String::from).collect()));
        }
    }
    found
}

/// Files under `src/` with those that each imports, through what modules pass on. That a module declares another is no import.
fn imports() -> BTreeMap<String, BTreeSet<String>> {
    let files = files("src", "rs");
    let modules: BTreeMap<Module, &str> = files.iter().map(|(file, _)| (module_of(file), file.as_str())).collect();
    // From the crate's root on; `None` for what is not of this crate.
    let absolute = |own: &Module, path: &Module| -> Option<Module> {
        let ups = path.iter().take_while(|name| *name == "super").count();
        let beneath =
            |length: usize, skip: usize| own[..length].iter().chain(&path[skip..]).cloned().collect::<Module>();
        match path.first()?.as_str() {
            "crate" => Some(path[1..].to_vec()),
            "super" => Some(beneath(own.len().saturating_sub(ups), ups)),
            "self" => Some(beneath(own.len(), 1)),
            child => modules.contains_key(&beneath(own.len(), 0)[..=own.len()]).then(|| {
                assert!(!child.is_empty());
                beneath(own.len(), 0)
            }),
        }
    };
    let mut passed_on: BTreeMap<(Module, String), Module> = BTreeMap::new();
    for (file, text) in &files {
        let own = module_of(file);
        for (_, path) in named(text).into_iter().filter(|(passed_on, _)| *passed_on) {
            if let (Some(path), Some(name)) = (absolute(&own, &path), path.last()) {
                passed_on.insert((own.clone(), name.clone()), path);
            }
        }
    }
    let home = |mut path: Module| -> Option<&str> {
        for _ in 0..8 {
            let length = (0..=path.len()).rev().find(|&length| modules.contains_key(&path[..length]))?;
            let further = path.get(length).and_then(|name| passed_on.get(&(path[..length].to_vec(), name.clone())));
            match further.filter(|further| **further != path) {
                Some(further) => path = further.iter().chain(&path[length + 1..]).cloned().collect(),
                None => return modules.get(&path[..length]).copied(),
            }
        }
        None
    };
    let of = |(file, text): &(String, String)| {
        let own = module_of(file);
        let paths = named(text).into_iter().filter_map(|(_, path)| absolute(&own, &path));
        (file.clone(), paths.filter_map(home).filter(|other| other != file).map(String::from).collect())
    };
    files.iter().map(of).collect()
}

/// All that a file reaches.
fn reach<'a>(imports: &'a BTreeMap<String, BTreeSet<String>>, from: &'a str) -> BTreeSet<&'a str> {
    let (mut reached, mut stack) = (BTreeSet::new(), vec![from]);
    while let Some(file) = stack.pop() {
        stack.extend(imports[file].iter().map(String::as_str).filter(|other| reached.insert(*other)));
    }
    reached
}

/// The circles of a graph: sets of nodes that reach each other.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<&str>> {
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        imports.keys().map(|file| (file.as_str(), reach(imports, file))).collect();
    let circle = |file: &&str| {
        let others = reached[file].iter().copied();
        others.filter(|other| reached[other].contains(file)).collect::<Vec<&str>>()
    };
    let mut circles: Vec<Vec<&str>> = reached.keys().map(circle).filter(|circle| !circle.is_empty()).collect();
    circles.sort_by_key(|circle| (std::cmp::Reverse(circle.len()), circle[0]));
    circles.dedup();
    circles
}

/// Most files of a circle. The largest is that of a tensor, its node and what a node does: a gradient rule is written in tensors,
/// a tensor is a handle to a node, and a node has an op.
const MOST: usize = 8;

#[test]
fn no_circle_of_files_is_larger_than_that_of_tensor_node_and_op() {
    let imports = imports();
    let circles = circles(&imports);
    let tied = |circle: &Vec<&str>| {
        let own = |file: &str| imports[file].iter().filter(|other| circle.contains(&other.as_str())).cloned();
        circle.iter().map(|file| format!("  {file} -> {}", own(file).collect::<Vec<_>>().join(", "))).collect()
    };
    if let Some(largest) = circles.first() {
        let lines: Vec<String> = tied(largest);
        assert!(largest.len() <= MOST, "a circle of {} files:\n{}", largest.len(), lines.join("\n"));
        assert!(largest.contains(&"src/tensor.rs"), "the largest circle is another:\n{}", lines.join("\n"));
    }
    assert!(!circles.iter().flatten().any(|file| file.starts_with("src/gpu/")), "{circles:?}");
}

/// Who imports whom, from the ground up, as ARCHITECTURE.md shows it.
const FLOORS: &str = "\
| floor | modules | what they are |
| --- | --- | --- |
| 1 | `dtype` `shape` `capabilities` `bindings` `clock` `device_info` `recompute` | facts that know of nothing else |
| 2 | `error` `array` `rng` `layout` `host` `shader` `costs` `target` | numbers, how they lie, shaders, what they cost |
| 3 | `shaders` `dispatch` `profile` `packed` `init` `wait` | texts of shaders, plans as data, spans of time, waiting |
| 4 | `kernel` `settings` `device` | kernels; the environment; a device as nodes hold it, with one seam to what runs |
| 5 | `arena` `file` `data` `plot` | memory that outlives plans; files; data sets; charts |
| 6 | `cache` `search` `distributed` | what is kept between programs; search over settings; ranks of a run |
| 7 | `gpu` | the driver's side: it runs plans and sees neither graph nor device |
| 8 | `graph` `history` `results` `version` `op` `tensor` | the knot: they import each other |
| 9 | `ops` `autograd` `state` `cpu` | what nodes do, and what is made of them |
| 10 | `plan` `create` | from a graph to a plan; tensors from host data |
| 11 | `engine` | running what is recorded |
| 12 | `open` `transfer` | devices, and the way of numbers between them and files |
| 13 | `params` `schedule` | parameters; learning rates as functions of the step |
| 14 | `nn` `optim` | layers and optimizers |
| 15 | `train` `onnx` | the training loop, checkpoints, metrics; models from and to ONNX files |
| 16 | `lib` | the public names |
";

/// The floor whose modules import each other.
const KNOT: usize = 8;

#[test]
fn a_module_imports_from_the_floors_below_it() {
    let architecture = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("ARCHITECTURE.md")).unwrap();
    assert!(architecture.contains(FLOORS), "ARCHITECTURE.md shows another table of floors than this test has");
    let mut floors = BTreeMap::new();
    for row in FLOORS.lines().skip(2) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let floor: usize = cells[1].parse().unwrap();
        floors.extend(cells[2].split(' ').map(|module| (module.trim_matches('`').to_string(), floor)));
    }
    let module = |file: &str| module_of(file).first().cloned().unwrap_or_else(|| "lib".into());
    let mut broken = vec![];
    for (file, imports) in imports() {
        let own = module(&file);
        let Some(&floor) = floors.get(&own) else {
            broken.push(format!("{file} is of no floor"));
            continue;
        };
        for other in imports {
            let name = module(&other);
            let below = floors.get(&name).is_some_and(|&of| of < floor || of == floor && floor == KNOT);
            if name != own && !below {
                broken.push(format!("{file} takes from {other}"));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn the_walk_through_the_code_names_functions_where_they_are() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let walk = fs::read_to_string(root.join("docs/walkthrough.md")).unwrap();
    assert!(walk.lines().count() <= 60, "a walk of {} lines", walk.lines().count());
    let (mut file, mut text, mut named) = ("", String::new(), 0);
    // Between backticks: a file, then functions of it, `name()` or `Type::name()`.
    for word in walk.split('`').skip(1).step_by(2) {
        if word.ends_with(".rs") {
            text = fs::read_to_string(root.join(word)).unwrap_or_else(|error| panic!("{word}: {error}"));
            file = word;
        } else if let Some(path) = word.strip_suffix("()") {
            let name = path.rsplit("::").next().unwrap_or(path);
            let defined = [format!("fn {name}("), format!("fn {name}<")];
            assert!(defined.iter().any(|start| text.contains(start)), "{file} has no function {name}");
            named += 1;
        }
    }
    assert!(named > 20, "a walk past {named} functions");
}

/// Module names that a file takes from the crate, those of ops as `ops::name`.
fn modules_taken(file: &str, text: &str) -> Vec<String> {
    let own = module_of(file);
    let name = |path: Module| match path.first()?.as_str() {
        "crate" => match path.get(1)?.as_str() {
            "ops" => Some(format!("ops::{}", path.get(2).map_or("", String::as_str))),
            name => Some(name.into()),
        },
        // Within the ops `super` is one of them, or the list.
        "super" if own.len() == 2 && own[0] == "ops" => {
            Some(format!("ops::{}", path.get(1).map_or("", String::as_str)))
        }
        _ => None,
    };
    named(text).into_iter().filter_map(|(_, path)| name(path)).collect()
}

fn forbid(prefix: &str, is_forbidden: impl Fn(&str, &str) -> bool) {
    let mut broken = vec![];
    for (file, text) in files("src", "rs") {
        if file.starts_with(prefix) {
            for import in modules_taken(&file, &text) {
                if is_forbidden(&file, &import) {
                    broken.push(format!("{file} takes {import}"));
                }
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn an_op_file_imports_no_other_op() {
    // These are no ops but what several share. A convolution with a single tap is a product, one by Winograd's transforms sixteen,
    // and so are attention's blocks.
    let shared = ["shared", "rows", "pool", "product", "radix", "reduction", "scan", "tiles", "variants"];
    let products = ["src/ops/conv2d/one_by_one.rs", "src/ops/conv2d/winograd.rs", "src/ops/attention/blocks.rs"];
    forbid("src/ops/", |file, import| {
        let own = file.trim_start_matches("src/ops/").split(['/', '.']).next().unwrap_or("");
        let other_op = import
            .strip_prefix("ops::")
            .is_some_and(|op| op.starts_with(char::is_lowercase) && op != own && !shared.contains(&op));
        other_op && !(products.contains(&file) && import == "ops::matmul")
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

/// Who else names the shaders of a room: others than the module of its name.
const GUESTS: &[(&str, &[&str])] = &[
    ("shared", &["src/kernel.rs"]),
    ("pointwise", &["src/plan/prelude.rs", "src/optim/noise.rs", "src/ops/shared.rs", "src/ops/attention/form.rs"]),
];

/// The shaders that a file names, as `room/name`: by the module that the build makes of them, or by their path.
fn shaders_named(text: &str) -> Vec<String> {
    let joined = code(text).collect::<Vec<_>>().join(" ");
    let until = |rest: &str, end: fn(char) -> bool| rest[..rest.find(end).unwrap_or(rest.len())].to_string();
    let mut found = vec![];
    for (at, _) in joined.match_indices("shaders::") {
        let path = until(&joined[at + 9..], |c| !c.is_alphanumeric() && c != '_' && c != ':');
        let group = joined[at + 9 + path.len()..].strip_prefix('{').map(|group| until(group, |c| c == '}'));
        let path = path.replace("::", "/").to_lowercase();
        match group {
            Some(names) => found.extend(names.split(',').map(|name| path.clone() + &name.trim().to_lowercase())),
            None => found.push(path),
        }
    }
    for (at, _) in joined.match_indices("/shaders/") {
        let path = until(&joined[at + 9..], |c| c == '"');
        found.extend(path.strip_suffix(".wgsl").map(String::from));
    }
    found
}

#[test]
fn a_shader_is_named_only_by_the_module_whose_room_it_is_in() {
    let modules = ["src/ops/", "src/"];
    for (file, text) in files("src", "rs") {
        for shader in shaders_named(&text) {
            let room = shader.split('/').next().unwrap_or(&shader);
            let own = modules
                .iter()
                .any(|module| file == format!("{module}{room}.rs") || file.starts_with(&format!("{module}{room}/")));
            let guest = GUESTS.iter().any(|(name, guests)| *name == room && guests.contains(&file.as_str()));
            assert!(own || guest, "{file} names {shader}");
        }
    }
}

#[test]
fn every_shader_is_used() {
    let used: BTreeSet<String> = files("src", "rs").iter().flat_map(|(_, text)| shaders_named(text)).collect();
    for (file, _) in files("shaders", "wgsl") {
        let name = file.trim_start_matches("shaders/").trim_end_matches(".wgsl");
        assert!(used.contains(name), "{file} is named nowhere");
    }
}

/// The one file that reads a shader's text, a user's; and the one that takes apart what is not made of parts yet.
const READERS: &[&str] = &["src/shader/foreign.rs"];

#[test]
fn no_text_of_a_shader_is_searched() {
    let asks = [".contains(", ".find(", ".rfind(", ".match_indices(", ".split_once(", ".replace(", ".strip_prefix("];
    let wgsl =
        ["@", "fn ", "var<", "array<", "vec4<", "coop", "subgroup", "enable", "epilogue", "main", "const ", "random"];
    for (file, text) in files("src", "rs").into_iter().filter(|(file, _)| !READERS.contains(&file.as_str())) {
        for line in code(&text) {
            let searched = asks.iter().find_map(|ask| {
                let (_, argument) = line.split_once(ask)?;
                argument.trim_start_matches(['&', '(']).trim_start_matches("format!(").strip_prefix('"')
            });
            let found = searched.is_some_and(|word| wgsl.iter().any(|start| word.starts_with(start)));
            assert!(!found, "{file} searches a shader's text: {line}");
        }
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
