//! The pages for readers: short enough to be read, and true where they name a file.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use kiln::optim::*;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All pages but the change log, which speaks of what was.
fn pages() -> Vec<PathBuf> {
    let in_docs = fs::read_dir(root().join("docs")).expect("docs/").map(|entry| entry.expect("a page").path());
    let top = ["README.md", "ARCHITECTURE.md", "benches/RESULTS.md"].map(|name| root().join(name));
    in_docs.filter(|path| path.extension().is_some_and(|e| e == "md")).chain(top).collect()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What follows `start` up to `end`, each time.
fn between<'a>(text: &'a str, start: &'a str, end: &'a str) -> impl Iterator<Item = &'a str> {
    text.split(start).skip(1).filter_map(move |rest| rest.split_once(end).map(|(inner, _)| inner))
}

/// The name by which a link reaches a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c)).map(|c| if c == ' ' { '-' } else { c }).collect()
}

#[test]
fn the_architecture_is_read_in_one_sitting() {
    let text = read(&root().join("ARCHITECTURE.md"));
    assert!(text.lines().count() < 200, "{} lines", text.lines().count());
    for (number, line) in text.lines().enumerate() {
        assert!(line.chars().count() <= 120, "line {} has {} characters", number + 1, line.chars().count());
    }
}

#[test]
fn links_lead_somewhere() {
    let mut broken = vec![];
    for page in pages() {
        let text = read(&page);
        for link in between(&text, "](", ")").filter(|link| !link.contains("://")) {
            let (file, place) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { page.clone() } else { page.parent().unwrap().join(file) };
            let is_there = target.exists()
                && (place.is_empty()
                    || read(&target)
                        .lines()
                        .any(|line| line.starts_with('#') && anchor(line.trim_start_matches('#')) == place));
            if !is_there {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{}", broken.join("\n"));
}

#[test]
fn files_that_are_named_are_there() {
    let folders = ["src/", "shaders/", "tests/", "benches/", "examples/", "fuzz/", "scripts/", "docs/"];
    let mut missing = vec![];
    for page in pages() {
        // Odd parts lie between two marks.
        for name in read(&page).split('`').skip(1).step_by(2) {
            let is_path = folders.iter().any(|folder| name.starts_with(folder)) && !name.contains([' ', '*', '<']);
            if is_path && !root().join(name).exists() {
                missing.push(format!("{}: {name}", page.display()));
            }
        }
    }
    assert!(missing.is_empty(), "{}", missing.join("\n"));
}

/// Cells of the rows of a page's tables, each with the heading above it.
fn rows(text: &str) -> Vec<(&str, Vec<&str>)> {
    let (mut heading, mut rows) = ("", vec![]);
    for line in text.lines() {
        if line.starts_with('#') {
            heading = line.trim_start_matches('#').trim();
        } else if let Some(cells) = line.strip_prefix('|').and_then(|line| line.strip_suffix('|')) {
            rows.push((heading, cells.split('|').map(str::trim).collect()));
        }
    }
    rows
}

/// What stands between backticks.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// `scripts/pytorch_names.py` makes the list of names; rustdoc holds the links.
#[test]
fn every_public_name_of_pytorch_has_a_row() {
    let (list, page) = (read(&root().join("tests/data/pytorch_names.txt")), read(&root().join("docs/from-pytorch.md")));
    let mut wanted: BTreeSet<&str> = list.lines().filter(|line| !line.starts_with('#')).collect();
    assert!(wanted.len() > 100, "{} names", wanted.len());
    for (heading, cells) in rows(&page) {
        let Some(module) = code(heading).next() else { continue };
        let [names, kiln, ..] = cells[..] else { panic!("a row of one cell: {cells:?}") };
        for name in code(names) {
            let full = format!("{module}.{name}");
            assert!(wanted.remove(&*full), "{full} is no public name of PyTorch, or has two rows");
            assert!(kiln.contains("[`") || kiln.starts_with("not, because "), "{full}: `{kiln}` is no answer");
        }
    }
    assert!(wanted.is_empty(), "without a row in docs/from-pytorch.md: {wanted:?}");
}

/// The page that helps to choose has all rules, with the memory that they take; the example tries all of them.
#[test]
fn every_optimizer_is_in_the_page_and_in_the_example() {
    let moments = [
        ("Sgd", SgdConfig::default().moments().len()),
        ("Asgd", AsgdConfig::default().moments().len()),
        ("Adam", AdamConfig::default().moments().len()),
        ("AdamW", AdamWConfig::default().moments().len()),
        ("Adamax", AdamaxConfig::default().moments().len()),
        ("NAdam", NAdamConfig::default().moments().len()),
        ("RAdam", RAdamConfig::default().moments().len()),
        ("Adan", AdanConfig::default().moments().len()),
        ("Adagrad", AdagradConfig::default().moments().len()),
        ("Adadelta", AdadeltaConfig::default().moments().len()),
        ("RmsProp", RmsPropConfig::default().moments().len()),
        ("Rprop", RpropConfig::default().moments().len()),
        ("Lion", LionConfig::default().moments().len()),
        ("Lamb", LambConfig::default().moments().len()),
        ("Lars", LarsConfig::default().moments().len()),
        ("Muon", MuonConfig::default().moments().len()),
        ("Ftrl", FtrlConfig::default().moments().len()),
        ("ScheduleFreeSgd", ScheduleFreeSgdConfig::default().moments().len()),
        ("ScheduleFreeAdamW", ScheduleFreeAdamWConfig::default().moments().len()),
    ];
    let page = read(&root().join("docs/optimizers.md"));
    let example = read(&root().join("examples/common/rules.rs"));
    let library = read(&root().join("src/optim/mod.rs"));
    let rows = rows(&page);
    let rows_of = |name: &str| {
        let named = |cells: &&Vec<&str>| code(cells[0]).next() == Some(name);
        rows.iter().map(|(_, cells)| cells).filter(named).collect::<Vec<_>>()
    };
    let mut count = 0;
    for name in between(&library, "pub type ", " = Stepper<").filter(|name| *name != "Optimizers") {
        let [memory, usual] = rows_of(name)[..] else { panic!("{name} is not in both tables of docs/optimizers.md") };
        match moments.iter().find(|(own, _)| *own == name) {
            Some((_, count)) => assert!(memory[1].starts_with(&count.to_string()), "{name} keeps {count}: {memory:?}"),
            None => assert_eq!((name, memory[1]), ("Adafactor", "rows + columns, 1 for vectors")),
        }
        assert!(usual[1].contains("lr "), "{name} without a usual rate: {usual:?}");
        assert!(example.contains(&format!("{name}Config")), "{name} is not in the example");
        count += 1;
    }
    assert!(count > moments.len(), "{count} optimizers");
}
