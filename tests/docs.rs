//! The pages for readers: short enough to be read, and true where they name a file.

use std::fs;
use std::path::{Path, PathBuf};

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
